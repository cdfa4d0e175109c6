/* SPDX-License-Identifier: MIT */
/* Counts: by the owner, by others, merged, immortal. */
#include "tests/support/die.h"
#include "tests/support/node.h"
#include "tests/support/puppet.h"

static GYRE_TYPE_DEFINE(shared_type, node, .slots = GYRE_SLOTS(node, next, other),
                        .flags = GYRE_TYPE_SHARED);
static GYRE_TYPE_DEFINE(try_type, node, .slots = GYRE_SLOTS(node, next, other),
                        .flags = GYRE_TYPE_TRY_RETAIN);

static uint32_t owner_of(const void *object) {
  /* relaxed: the test knows who writes it when. */
  return gyre__load_relaxed(&gyre__header_of(object)->owner);
}

/* ---- the owner ---- */

static void retain_and_release_count(void **state) {
  (void)state;
  node *n = node_new(&node_type, 0);
  assert_int_equal(gyre_refcount(n), 1);
  assert_ptr_equal(gyre_retain(n), n);
  assert_ptr_equal(gyre_retain(n), n);
  assert_int_equal(gyre_refcount(n), 3);
  gyre_release(n);
  gyre_release(n);
  assert_int_equal(gyre_refcount(n), 1);
  assert_int_equal(nodes_destroyed(), 0);
  gyre_release(n);
  assert_int_equal(nodes_destroyed(), 1);
}

static void null_may_be_retained_and_released(void **state) {
  (void)state;
  node *none = NULL;
  assert_null(gyre_retain(none));
  gyre_release(none);
}

static void only_a_sole_reference_is_unique(void **state) {
  (void)state;
  node *n = node_new(&node_type, 0);
  assert_true(gyre_is_unique(n));
  (void)gyre_retain(n);
  assert_false(gyre_is_unique(n));
  gyre_release(n);
  assert_true(gyre_is_unique(n));
  node *holder = node_new(&node_type, 1);
  gyre_store(&holder->next, n);
  assert_false(gyre_is_unique(n));
  gyre_release(holder);
  assert_true(gyre_is_unique(n));
  gyre_release(n);
}

static void try_retain_of_a_dead_object_fails(void **state) {
  (void)state;
  gyre_type *types[] = {&shared_type, &try_type};
  for (int i = 0; i < 2; i++) {
    node *n = node_new(types[i], 0);
    assert_int_equal(gyre_try_retain(n), 1);
    assert_int_equal(gyre_refcount(n), 2);
    gyre_release(n);
    gyre_release(n);
    /* No safepoint since: the pointer may still be asked about. */
    assert_int_equal(gyre_try_retain(n), 0);
    assert_int_equal(gyre_try_retain(n), 0);
  }
}

/* ---- others ---- */

static void retain_it(void *object) { (void)gyre_retain(object); }
static void release_it(void *object) { gyre_release(object); }
static void make_one(void *variable) { *(node **)variable = node_new(&node_type, 0); }

static void counts_of_other_threads_add_to_the_owners(void **state) {
  (void)state;
  struct puppet other;
  puppet_start(&other);
  node *n = node_new(&node_type, 0);
  puppet_run(&other, retain_it, n);
  puppet_run(&other, retain_it, n);
  assert_int_equal(gyre_refcount(n), 3);
  assert_false(gyre_is_unique(n));
  puppet_run(&other, release_it, n);
  puppet_run(&other, release_it, n);
  assert_int_equal(gyre_refcount(n), 1);
  assert_true(gyre_is_unique(n));
  assert_int_equal(owner_of(n), gyre_thread_current()->id);
  gyre_release(n);
  assert_int_equal(nodes_destroyed(), 1);
  puppet_stop(&other);
}

static void an_object_whose_owner_leaves_first_dies_with_the_others_reference(void **state) {
  (void)state;
  struct puppet other;
  puppet_start(&other);
  node *n = node_new(&node_type, 0);
  puppet_run(&other, retain_it, n);
  gyre_release(n);
  assert_int_equal(nodes_destroyed(), 0);
  assert_int_equal(owner_of(n), 0);
  assert_int_equal(gyre_refcount(n), 1);
  puppet_run(&other, release_it, n);
  assert_int_equal(nodes_destroyed(), 1);
  puppet_stop(&other);
}

static void what_another_thread_drops_is_merged_at_the_owners_next_safepoint(void **state) {
  (void)state;
  struct puppet other;
  puppet_start(&other);
  node *n = node_new(&node_type, 0), *kept = node_new(&node_type, 1);
  (void)gyre_retain(kept);
  puppet_run(&other, release_it, n);
  puppet_run(&other, release_it, kept);
  assert_int_equal(gyre_refcount(kept), 1);
  assert_int_equal(nodes_destroyed(), 0);
  gyre_safepoint();
  assert_int_equal(nodes_destroyed(), 1);
  assert_int_equal(owner_of(kept), 0);
  assert_int_equal(gyre_refcount(kept), 1);
  assert_true(gyre_is_unique(kept));
  gyre_release(kept);
  assert_int_equal(nodes_destroyed(), 2);
  puppet_stop(&other);
}

static void release_and_count(void *object) {
  uint64_t before = nodes_destroyed();
  gyre_release(object);
  TEST_REQUIRE(nodes_destroyed() == before + 1);
}

static void a_parked_owner_does_not_hold_memory_back(void **state) {
  (void)state;
  struct puppet other;
  puppet_start(&other);
  for (uint64_t i = 1; i <= 200; i++) {
    node *n = node_new(&node_type, 0);
    puppet_run_parked(&other, release_and_count, n);
    assert_int_equal(nodes_destroyed(), i);
  }
  puppet_stop(&other);
}

static void an_owner_that_has_exited_does_not_hold_memory_back(void **state) {
  (void)state;
  struct puppet owner;
  puppet_start(&owner);
  node *n;
  puppet_run(&owner, make_one, &n);
  puppet_stop(&owner);
  (void)gyre_retain(n);
  gyre_release(n);
  assert_int_equal(nodes_destroyed(), 0);
  gyre_release(n);
  assert_int_equal(nodes_destroyed(), 1);
}

static void the_heir_of_a_slot_owns_its_objects(void **state) {
  (void)state;
  struct puppet owner, heir;
  puppet_start(&owner);
  node *n;
  puppet_run(&owner, make_one, &n);
  uint32_t id = owner_of(n);
  puppet_stop(&owner);
  puppet_start(&heir);
  puppet_run(&heir, retain_it, n);
  assert_int_equal(owner_of(n), id);
  /* relaxed: the heir waits. */
  assert_int_equal(gyre__load_relaxed(&gyre__header_of(n)->local), 2);
  puppet_run(&heir, release_it, n);
  puppet_run(&heir, release_and_count, n);
  puppet_stop(&heir);
}

/* More than fits in one batch of merges, and more than one page. */
static void ten_thousand_dropped_objects_are_merged_at_one_safepoint(void **state) {
  (void)state;
  enum { COUNT = 10000 };
  static node *nodes[COUNT];
  struct puppet other;
  puppet_start(&other);
  for (int i = 0; i < COUNT; i++)
    nodes[i] = node_new(&node_type, 0);
  for (int i = 0; i < COUNT; i++)
    puppet_run(&other, release_it, nodes[i]);
  assert_int_equal(nodes_destroyed(), 0);
  gyre_safepoint();
  assert_int_equal(nodes_destroyed(), COUNT);
  puppet_stop(&other);
}

/* ---- many threads ---- */

#define THREADS 4
#define NODES 64
static node *common[THREADS][NODES];
static pthread_barrier_t made;

/* Each makes nodes, then all count on everybody's, and in the end each drops a reference to each
 * node. */
static void *count_at_random(void *arg) {
  uintptr_t me = (uintptr_t)arg;
  struct test_random random = test_random_new(me);
  for (int i = 0; i < NODES; i++) {
    common[me][i] = node_new(&node_type, 0);
    for (int t = 1; t < THREADS; t++)
      (void)gyre_retain(common[me][i]);
  }
  GYRE_BLOCKING { pthread_barrier_wait(&made); }
  for (uint64_t i = test_size("GYRE_TEST_OPS", 100000, 20000, 10000); i > 0; i--) {
    node *n = common[test_random_below(&random, THREADS)][test_random_below(&random, NODES)];
    (void)gyre_retain(n);
    if (test_random_below(&random, 16) == 0) gyre_safepoint();
    if (test_random_below(&random, 256) == 0) GYRE_BLOCKING {
        sched_yield();
      }
    gyre_release(n);
  }
  for (int t = 0; t < THREADS; t++)
    for (int i = 0; i < NODES; i++)
      gyre_release(common[t][i]);
  return NULL;
}

static void objects_counted_by_many_threads_die_once(void **state) {
  (void)state;
  pthread_barrier_init(&made, NULL, THREADS);
  pthread_t threads[THREADS];
  for (uintptr_t i = 0; i < THREADS; i++)
    threads[i] = test_thread_start(count_at_random, (void *)i);
  for (int i = 0; i < THREADS; i++)
    test_thread_join(threads[i]);
  pthread_barrier_destroy(&made);
  assert_int_equal(nodes_destroyed(), THREADS * NODES);
}

/* ---- counts that overflow ---- */

static void a_local_count_that_overflows_makes_the_object_immortal(void **state) {
  (void)state;
  node *n = node_new(&node_type, 0);
  /* relaxed: ours. */
  gyre__store_relaxed(&gyre__header_of(n)->local, INT32_MAX - 1);
  (void)gyre_retain(n);
  assert_false(gyre_is_immortal(n));
  (void)gyre_retain(n);
  assert_true(gyre_is_immortal(n));
  (void)gyre_retain(n);
  for (int i = 0; i < 10; i++)
    gyre_release(n);
  assert_int_equal(nodes_destroyed(), 0);
  make_mortal(n);
  gyre_release(n);
}

static void a_slot_load_that_overflows_the_local_count_makes_the_object_immortal(void **state) {
  (void)state;
  node *n = node_new(&node_type, 0), *holder = node_new(&node_type, 1);
  gyre_store(&holder->next, n);
  /* relaxed: ours. */
  gyre__store_relaxed(&gyre__header_of(n)->local, INT32_MAX);
  assert_ptr_equal(gyre_load(&holder->next), n);
  assert_true(gyre_is_immortal(n));
  make_mortal(n);
  (void)gyre_retain(n);
  gyre_release(holder);
  gyre_release(n);
  assert_int_equal(nodes_destroyed(), 2);
}

static void a_shared_count_that_overflows_makes_the_object_immortal(void **state) {
  (void)state;
  node *n = node_new(&shared_type, 0);
  gyre__atomic_u32 *shared = &gyre__header_of(n)->shared;
  /* relaxed: ours alone in this test. */
  gyre__store_relaxed(shared, gyre__shared_of(GYRE__COUNT_LIMIT - 1, GYRE__MERGED));
  (void)gyre_retain(n);
  assert_false(gyre_is_immortal(n));
  (void)gyre_retain(n);
  assert_true(gyre_is_immortal(n));
  for (int i = 0; i < 10; i++)
    gyre_release(n);
  make_mortal(n);
  /* relaxed: as above. */
  gyre__store_relaxed(shared, gyre__shared_of(GYRE__COUNT_LIMIT, GYRE__MERGED));
  assert_int_equal(gyre_try_retain(n), 1);
  assert_true(gyre_is_immortal(n));
  make_mortal(n);
  gyre_release(n);
}

static void a_merge_that_overflows_makes_the_object_immortal(void **state) {
  (void)state;
  struct puppet other;
  puppet_start(&other);
  node *n = node_new(&node_type, 0);
  /* relaxed: ours. */
  gyre__store_relaxed(&gyre__header_of(n)->local, INT32_MAX - 5);
  puppet_run(&other, release_it, n);
  gyre_safepoint();
  assert_true(gyre_is_immortal(n));
  puppet_run(&other, release_it, n);
  gyre_release(n);
  assert_int_equal(nodes_destroyed(), 0);
  make_mortal(n);
  gyre_release(n);
  puppet_stop(&other);
}

static void a_shared_count_that_falls_too_far_makes_the_object_immortal(void **state) {
  (void)state;
  struct puppet other;
  puppet_start(&other);
  node *n = node_new(&node_type, 0);
  /* relaxed: the other thread waits. */
  gyre__store_relaxed(&gyre__header_of(n)->shared,
                      gyre__shared_of(-GYRE__COUNT_LIMIT, GYRE__QUEUED));
  puppet_run(&other, release_it, n);
  assert_true(gyre_is_immortal(n));
  make_mortal(n);
  gyre_release(n);
  puppet_stop(&other);
}

static void an_object_may_be_immortalized_by_another_thread_than_its_owner(void **state) {
  (void)state;
  struct puppet owner;
  puppet_start(&owner);
  node *n;
  puppet_run(&owner, make_one, &n);
  assert_int_equal(gyre_immortalize(n), 1);
  puppet_run(&owner, retain_it, n);
  for (int i = 0; i < 5; i++)
    puppet_run(&owner, release_it, n);
  for (int i = 0; i < 5; i++)
    gyre_release(n);
  assert_int_equal(nodes_destroyed(), 0);
  assert_true(gyre_is_immortal(n));
  puppet_stop(&owner);
  make_mortal(n);
  gyre_release(n);
}

/* ---- errors ---- */

static void release_twice(void) {
  node *n = node_new(&plain_type, 0);
  gyre_release(n);
  gyre_release(n);
}

static void release_a_shared_one_twice(void) {
  node *n = node_new(&shared_type, 0);
  gyre_release(n);
  gyre_release(n);
}

static void release_a_leaf_twice(void) {
  static gyre_type type = {.name = "number", .size = 8};
  void *n = gyre_new(&type);
  gyre_release(n);
  gyre_release(n);
}

static void retain_a_dead_one(void) {
  node *n = node_new(&plain_type, 0);
  gyre_release(n);
  /* As threads do whose bias matches nothing; the path in line does not look. */
  gyre__retain_slow(n);
}

static void a_double_release_dies_with_a_message(void **state) {
  (void)state;
  assert_dies(release_twice, "double release");
  assert_dies(release_a_shared_one_twice, "double release");
  assert_dies(release_a_leaf_twice, "double release");
  assert_dies(retain_a_dead_one, "retain of a dead object");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(retain_and_release_count),
      NODE_TEST(null_may_be_retained_and_released),
      NODE_TEST(only_a_sole_reference_is_unique),
      NODE_TEST(try_retain_of_a_dead_object_fails),
      NODE_TEST(counts_of_other_threads_add_to_the_owners),
      NODE_TEST(an_object_whose_owner_leaves_first_dies_with_the_others_reference),
      NODE_TEST(what_another_thread_drops_is_merged_at_the_owners_next_safepoint),
      NODE_TEST(a_parked_owner_does_not_hold_memory_back),
      NODE_TEST(an_owner_that_has_exited_does_not_hold_memory_back),
      NODE_TEST(the_heir_of_a_slot_owns_its_objects),
      NODE_TEST(ten_thousand_dropped_objects_are_merged_at_one_safepoint),
      NODE_TEST(objects_counted_by_many_threads_die_once),
      NODE_TEST_WITH(objects_counted_by_many_threads_die_once, "gc:0,yield_seed:3"),
      NODE_TEST(a_local_count_that_overflows_makes_the_object_immortal),
      NODE_TEST(a_slot_load_that_overflows_the_local_count_makes_the_object_immortal),
      NODE_TEST(a_shared_count_that_overflows_makes_the_object_immortal),
      NODE_TEST(a_merge_that_overflows_makes_the_object_immortal),
      NODE_TEST(a_shared_count_that_falls_too_far_makes_the_object_immortal),
      NODE_TEST(an_object_may_be_immortalized_by_another_thread_than_its_owner),
      NODE_TEST(a_double_release_dies_with_a_message),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
