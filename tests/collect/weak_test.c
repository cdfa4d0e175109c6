/* SPDX-License-Identifier: MIT */
/* Weak references to garbage: the order in which it dies (gyre/weak.h). */
#include "tests/support/node.h"
#include "tests/support/puppet.h"

static gyre_weak *weak;
static node *seen;
static int calls;

static int look_through_weak(node *n) {
  /* Still alive in its finalizer; taken and given back, so not saved. */
  GYRE_AUTO(node) taken = gyre_weak_get(weak);
  TEST_REQUIRE(taken != NULL);
  TEST_REQUIRE(!gyre_weak_is_dead(weak));
  (void)n;
  return 0;
}

static void note_call(gyre_weak *w, void *arg) {
  TEST_REQUIRE(w == weak && arg == &calls);
  TEST_REQUIRE(gyre_weak_is_dead(w));
  TEST_REQUIRE(gyre_weak_get(w) == NULL);
  /* After the finalizers, before anything is freed. */
  TEST_REQUIRE(nodes_destroyed() == 0);
  calls++;
}

static void garbage_dies_in_order(void **state) {
  (void)state;
  calls = 0;
  node_on_finalize = look_through_weak;
  node *n = ring_new(&finalized_type, 3);
  weak = gyre_weak_new(n, note_call, &calls);
  assert_int_equal(gyre_gc_collect(2), 0);
  gyre_release(n);
  assert_int_equal(gyre_gc_collect(2), 3);
  assert_int_equal(nodes_finalized(), 3);
  assert_int_equal(calls, 1);
  assert_true(gyre_weak_is_dead(weak));
  gyre_weak_free(weak);
}

static void an_object_dies_in_the_same_order_by_its_count(void **state) {
  (void)state;
  calls = 0;
  node_on_finalize = look_through_weak;
  node *n = node_new(&finalized_type, 0);
  weak = gyre_weak_new(n, note_call, &calls);
  gyre_release(n);
  assert_int_equal(nodes_finalized(), 1);
  assert_int_equal(calls, 1);
  assert_int_equal(nodes_destroyed(), 1);
  gyre_weak_free(weak);
}

static int save_through_weak(node *n) {
  (void)n;
  if (seen == NULL) seen = gyre_weak_get(weak);
  return 0;
}

static void garbage_taken_through_a_weak_reference_in_a_finalizer_lives(void **state) {
  (void)state;
  calls = 0;
  seen = NULL;
  node_on_finalize = save_through_weak;
  node *n = ring_new(&finalized_type, 3);
  weak = gyre_weak_new(n, note_call, &calls);
  gyre_release(n);
  assert_int_equal(gyre_gc_collect(2), 0);
  assert_ptr_equal(seen, n);
  assert_int_equal(calls, 0);
  assert_false(gyre_weak_is_dead(weak));
  gyre_release(seen);
  assert_int_equal(gyre_gc_collect(2), 3);
  assert_int_equal(calls, 1);
  assert_int_equal(nodes_finalized(), 3);
  gyre_weak_free(weak);
}

static void weak_references_to_live_objects_stay(void **state) {
  (void)state;
  node *n = ring_new(&node_type, 3);
  gyre_weak *w = gyre_weak_new(n, NULL, NULL);
  for (int g = 0; g < 3; g++)
    gyre_gc_collect(g);
  node *taken = gyre_weak_get(w);
  assert_ptr_equal(taken, n);
  gyre_release(taken);
  gyre_release(n);
  /* Garbage, but not found yet: a weak reference still yields it. */
  taken = gyre_weak_get(w);
  assert_ptr_equal(taken, n);
  assert_int_equal(gyre_gc_collect(2), 0);
  gyre_release(taken);
  assert_int_equal(gyre_gc_collect(2), 3);
  assert_null(gyre_weak_get(w));
  gyre_weak_free(w);
}

/* A node that owns a weak reference, as gyre_weak.h has it: freed in its destruction. */
typedef struct owner {
  GYRE_SLOT(struct owner) next;
  gyre_weak *weak;
} owner;
static void owner_destroy(void *object) { gyre_weak_free(((owner *)object)->weak); }
static GYRE_TYPE_DEFINE(owner_type, owner, .slots = GYRE_SLOTS(owner, next),
                        .destroy = owner_destroy);

static void garbage_may_own_weak_references_to_itself(void **state) {
  (void)state;
  for (int i = 0; i < 10; i++) {
    owner *a = gyre_new(&owner_type), *b = gyre_new(&owner_type);
    gyre_store(&a->next, b);
    gyre_store(&b->next, a);
    a->weak = gyre_weak_new(b, NULL, NULL);
    b->weak = gyre_weak_new(a, NULL, NULL);
    gyre_release(a);
    gyre_release(b);
  }
  assert_int_equal(gyre_gc_collect(2), 20);
}

static void counts_calls(gyre_weak *w, void *arg) {
  TEST_REQUIRE(gyre_weak_is_dead(w));
  ++*(int *)arg;
}

/* Nothing says whose a reference is, so it is told of before its holder gives it up. */
static void references_that_garbage_holds_are_told_of(void **state) {
  (void)state;
  int told = 0;
  owner *a = gyre_new(&owner_type), *b = gyre_new(&owner_type);
  gyre_store(&a->next, b);
  gyre_store(&b->next, a);
  a->weak = gyre_weak_new(b, counts_calls, &told);
  b->weak = gyre_weak_new(a, counts_calls, &told);
  gyre_release(a);
  gyre_release(b);
  assert_int_equal(gyre_gc_collect(2), 2);
  assert_int_equal(told, 2);
}

static void collect_in_callback(gyre_weak *w, void *arg) {
  (void)w;
  *(ptrdiff_t *)arg += gyre_gc_collect(2);
  ring_drop(&plain_type, 2);
  gyre_weak_free(w);
}

static void a_collection_from_a_weak_callback_returns_0(void **state) {
  (void)state;
  ptrdiff_t nested = 0;
  node *n = ring_new(&node_type, 3);
  assert_non_null(gyre_weak_new(n, collect_in_callback, &nested));
  gyre_release(n);
  assert_int_equal(gyre_gc_collect(2), 3);
  assert_int_equal(nested, 0);
  assert_int_equal(gyre_gc_collect(2), 2);
}

/* ---- who calls ---- */

static pthread_t called_in;
static void notes_thread(gyre_weak *w, void *arg) {
  (void)arg;
  called_in = pthread_self();
  gyre_weak_free(w);
}

static node *with_callback(node *n) {
  assert_non_null(gyre_weak_new(n, notes_thread, NULL));
  return n;
}

static void drops(void *n) { gyre_release(n); }
static void collects(void *result) { *(ptrdiff_t *)result = gyre_gc_collect(2); }

static void callbacks_run_where_the_object_is_dropped_or_collected(void **state) {
  (void)state;
  struct puppet other;
  puppet_start(&other);
  gyre_release(with_callback(node_new(&node_type, 0)));
  assert_true(pthread_equal(called_in, pthread_self()));
  puppet_run_parked(&other, drops, with_callback(node_new(&node_type, 0)));
  assert_true(pthread_equal(called_in, other.thread));
  gyre_release(with_callback(ring_new(&node_type, 2)));
  assert_int_equal(gyre_gc_collect(2), 2);
  assert_true(pthread_equal(called_in, pthread_self()));
  gyre_release(with_callback(ring_new(&node_type, 2)));
  ptrdiff_t found = 0;
  puppet_run_parked(&other, collects, &found);
  assert_int_equal(found, 2);
  assert_true(pthread_equal(called_in, other.thread));
  puppet_stop(&other);
}

/* ---- upgrades while the collector kills ---- */

#define RINGS 64
static gyre_weak *weaks[RINGS];
static test_flag stop;

/* Whatever an upgrade yields is whole. */
static void *upgrade(void *arg) {
  struct test_random random = test_random_new((uint64_t)(uintptr_t)arg);
  while (!test_flag_get(&stop)) {
    GYRE_AUTO(node) n = gyre_weak_get(weaks[test_random_below(&random, RINGS)]);
    if (n != NULL) {
      GYRE_AUTO(node) next = gyre_load(&n->next);
      TEST_REQUIRE(n->tag == 0 && next != NULL && next->tag == 1);
    }
    gyre_safepoint();
  }
  return NULL;
}

static void weak_references_may_be_taken_while_garbage_dies(void **state) {
  (void)state;
  uint64_t made = 0;
  for (uint64_t round = test_size("GYRE_TEST_OPS", 20, 8, 4); round > 0; round--) {
    test_flag_set(&stop, 0);
    node *held[RINGS];
    for (int i = 0; i < RINGS; i++) {
      held[i] = ring_new(i % 2 ? &node_type : &finalized_type, 4);
      weaks[i] = gyre_weak_new(held[i], NULL, NULL);
      made += 4;
    }
    pthread_t threads[2];
    for (uintptr_t i = 0; i < 2; i++)
      threads[i] = test_thread_start(upgrade, (void *)(i + 1));
    for (int i = 0; i < RINGS; i++) {
      gyre_release(held[i]);
      if (i % 8 == 0) gyre_gc_collect(i / 8 % 3);
    }
    gyre_gc_collect(2);
    test_flag_set(&stop, 1);
    for (int i = 0; i < 2; i++)
      test_thread_join(threads[i]);
    gyre_gc_collect(2);
    assert_int_equal(nodes_destroyed(), made);
    for (int i = 0; i < RINGS; i++) {
      assert_true(gyre_weak_is_dead(weaks[i]));
      gyre_weak_free(weaks[i]);
    }
  }
  assert_int_equal(nodes_finalized(), made / 2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(garbage_dies_in_order),
      NODE_TEST(an_object_dies_in_the_same_order_by_its_count),
      NODE_TEST(garbage_taken_through_a_weak_reference_in_a_finalizer_lives),
      NODE_TEST(weak_references_to_live_objects_stay),
      NODE_TEST(garbage_may_own_weak_references_to_itself),
      NODE_TEST(references_that_garbage_holds_are_told_of),
      NODE_TEST(a_collection_from_a_weak_callback_returns_0),
      NODE_TEST(callbacks_run_where_the_object_is_dropped_or_collected),
      NODE_TEST(weak_references_may_be_taken_while_garbage_dies),
      NODE_TEST_WITH(weak_references_may_be_taken_while_garbage_dies, "gc:0,yield_seed:5"),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
