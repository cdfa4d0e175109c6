/* SPDX-License-Identifier: MIT */
/* What a release sets off: cascades and their budget, finalizers, hooks. */
#include <limits.h>

#include "tests/support/node.h"
#include "tests/support/puppet.h"

/* ---- long lists ---- */

typedef struct cell {
  GYRE_SLOT(struct cell) next;
} cell;
static GYRE_TYPE_DEFINE(cell_type, cell, .slots = GYRE_SLOTS(cell, next));

static void *on_a_small_stack(void *(*body)(void *), void *arg) {
  pthread_attr_t attributes;
  pthread_t thread;
  assert_int_equal(pthread_attr_init(&attributes), 0);
  assert_int_equal(pthread_attr_setstacksize(&attributes, 65536), 0);
  assert_int_equal(pthread_create(&thread, &attributes, body, arg), 0);
  pthread_attr_destroy(&attributes);
  return test_thread_join(thread);
}

static void *make_and_drop_a_list(void *arg) {
  (void)arg;
  cell *first = NULL;
  for (uint64_t i = test_size("GYRE_TEST_CELLS", 10000000, 1000000, 300000); i > 0; i--) {
    cell *c = gyre_new(&cell_type);
    TEST_REQUIRE(c != NULL);
    gyre_slot_init(&c->next, first);
    first = c;
  }
  gyre_release(first);
  return NULL;
}

static void a_long_list_may_be_dropped_on_a_stack_of_64_kib(void **state) {
  (void)state;
  on_a_small_stack(make_and_drop_a_list, NULL);
  assert_int_equal(test_heap_stats().live_blocks, 0);
}

static void *drop_it(void *object) {
  gyre_release(object);
  return NULL;
}

/* By its count, with an owner that has exited: each node is merged by the thread that drops. */
static void *make_a_list(void *arg) {
  (void)arg;
  return chain_new(&finalized_type, 100000);
}

static void a_long_list_with_finalizers_of_another_thread_too(void **state) {
  (void)state;
  node *first = test_thread_run(make_a_list, NULL);
  on_a_small_stack(drop_it, first);
  assert_int_equal(nodes_finalized(), 100000);
  assert_int_equal(nodes_destroyed(), 100000);
}

/* ---- the budget ---- */

static void a_release_destroys_no_more_than_its_budget(void **state) {
  (void)state;
  gyre_release(chain_new(&node_type, 1050));
  for (uint64_t done = 100; done < 1050; done += 100) {
    assert_int_equal(nodes_destroyed(), done);
    gyre_safepoint();
  }
  assert_int_equal(nodes_destroyed(), 1050);
}

static void each_release_has_a_budget_of_its_own(void **state) {
  (void)state;
  gyre_release(chain_new(&node_type, 1000));
  assert_int_equal(nodes_destroyed(), 100);
  gyre_release(chain_new(&node_type, 1));
  /* Its own object, and whatever of the rest fits. */
  assert_true(nodes_destroyed() > 100 && nodes_destroyed() <= 200);
  while (nodes_destroyed() < 1001)
    gyre_safepoint();
}

typedef struct tuple {
  size_t unused;
  GYRE_SLOT(node) items[];
} tuple;
static GYRE_TYPE_DEFINE(tuple_type, tuple, .element_size = sizeof(gyre_slot),
                        .element_slots = GYRE_SLOT_ARRAY);

static void the_death_of_a_long_array_is_bounded_too(void **state) {
  (void)state;
  enum { LENGTH = 20000 };
  tuple *t = gyre_new_array(&tuple_type, LENGTH);
  node *probe = node_new(&node_type, 0);
  for (int i = 0; i < LENGTH; i++) {
    node *n = node_new(&node_type, 0);
    gyre_store(&n->other, probe);
    gyre_slot_init(&t->items[i], n);
  }
  gyre_release(t);
  assert_true(nodes_destroyed() <= 100);
  uint64_t safepoints = 0;
  while (nodes_destroyed() < LENGTH) {
    uint64_t before = nodes_destroyed();
    gyre_safepoint();
    assert_true(nodes_destroyed() - before <= 100);
    safepoints++;
  }
  /* Each element and each node costs one. */
  assert_true(safepoints >= 2 * LENGTH / 100 - 2 && safepoints <= 2 * LENGTH / 100 + 2);
  assert_int_equal(gyre_refcount(probe), 1);
  gyre_release(probe);
}

static void a_collection_sees_what_a_cascade_has_not_reached(void **state) {
  (void)state;
  node *kept = node_new(&node_type, 0);
  node *first = chain_new(&node_type, 1000);
  node *last = gyre_retain(first);
  for (node *next; (next = gyre_load(&last->next)) != NULL; last = next)
    gyre_release(last);
  gyre_store(&last->other, kept);
  gyre_release(last);
  gyre_release(first);
  assert_int_equal(nodes_destroyed(), 100);
  gyre__heap_check();
  gyre_store(&kept->next, kept);
  gyre_release(kept);
  gyre_gc_collect(2);
  gyre_gc_collect(2);
  assert_int_equal(nodes_destroyed(), 1001);
}

static void an_idle_thread_leaves_nothing_to_be_destroyed(void **state) {
  (void)state;
  gyre_release(chain_new(&node_type, 1000));
  gyre_park();
  assert_int_equal(nodes_destroyed(), 1000);
  gyre_unpark();
  gyre_release(chain_new(&node_type, 1000));
  assert_int_equal(nodes_destroyed(), 1100);
  gyre_thread_detach();
  assert_int_equal(nodes_destroyed(), 2000);
}

/* ---- allocation goes on with cascades, but runs no program code ---- */

static bool allocating;
static uint64_t hooks_in_allocation;

static int finalizer_notices(node *n) {
  (void)n;
  hooks_in_allocation += allocating;
  return 0;
}

static void destroy_notices(node *n) {
  (void)n;
  hooks_in_allocation += allocating;
}

/* Enough to go through some pages. What it made hangs on the given list. */
static void allocate(node *list) {
  allocating = true;
  for (int i = 0; i < 20000; i++) {
    node *n = node_new(&plain_type, 0);
    gyre_slot_init(&n->next, gyre_take(&list->next));
    gyre_slot_init(&list->next, n);
  }
  allocating = false;
}

static void allocation_goes_on_with_a_cascade(void **state) {
  (void)state;
  node *list = node_new(&plain_type, 0), *probe = node_new(&plain_type, 0);
  node *dead = NULL;
  for (int i = 0; i < 10000; i++) {
    node *n = node_new(&plain_type, 0);
    gyre_slot_init(&n->next, dead);
    gyre_store(&n->other, probe);
    dead = n;
  }
  gyre_release(dead);
  assert_int_equal(gyre_refcount(probe), 1 + 9900);
  allocate(list);
  assert_true(gyre_refcount(probe) < 1 + 9900);
  while (gyre_refcount(probe) > 1)
    gyre_safepoint();
  gyre_release(probe);
  gyre_release(list);
}

static void no_destroy_hook_runs_inside_an_unrelated_allocation(void **state) {
  (void)state;
  node *list = node_new(&plain_type, 0);
  hooks_in_allocation = 0;
  node_on_destroy = destroy_notices;
  gyre_release(chain_new(&node_type, 1000));
  assert_int_equal(nodes_destroyed(), 100);
  allocate(list);
  assert_int_equal(hooks_in_allocation, 0);
  assert_int_equal(nodes_destroyed(), 100);
  while (nodes_destroyed() < 1000)
    gyre_safepoint();
  gyre_release(list);
}

static void no_finalizer_runs_inside_an_unrelated_allocation(void **state) {
  (void)state;
  node *list = node_new(&plain_type, 0);
  hooks_in_allocation = 0;
  node_on_finalize = finalizer_notices;
  node_on_destroy = destroy_notices;
  /* Plain ones first: the cascade in the allocation comes as far as the first finalizer. */
  node *dead = chain_new(&finalized_type, 1000);
  for (int i = 0; i < 1000; i++) {
    node *n = node_new(&plain_type, 0);
    gyre_slot_init(&n->next, dead);
    dead = n;
  }
  gyre_release(dead);
  allocate(list);
  assert_int_equal(hooks_in_allocation, 0);
  assert_int_equal(nodes_finalized(), 0);
  while (nodes_destroyed() < 1000)
    gyre_safepoint();
  assert_int_equal(nodes_finalized(), 1000);
  gyre_release(list);
}

/* ---- finalizers ---- */

static pthread_t finalizing_thread;
static node *rescued;

static int finalizer_looks(node *n) {
  TEST_REQUIRE(n->tag == 7);
  TEST_REQUIRE(gyre_is_unique(n) || gyre_refcount(n) == 1);
  GYRE_AUTO(node) next = gyre_load(&n->next);
  TEST_REQUIRE(next != NULL && next->tag == 8);
  finalizing_thread = pthread_self();
  return 0;
}

static void a_finalizer_sees_the_whole_object_in_the_releasing_thread(void **state) {
  (void)state;
  node_on_finalize = finalizer_looks;
  node *n = node_new(&finalized_type, 7);
  gyre_slot_init(&n->next, node_new(&node_type, 8));
  assert_false(gyre_gc_is_finalized(n));
  gyre_release(n);
  assert_int_equal(nodes_finalized(), 1);
  assert_int_equal(nodes_destroyed(), 2);
  assert_true(pthread_equal(finalizing_thread, pthread_self()));
}

static void release_it(void *object) { gyre_release(object); }

static void a_finalizer_runs_in_the_thread_that_drops_a_parked_owners_object(void **state) {
  (void)state;
  struct puppet other;
  puppet_start(&other);
  node_on_finalize = finalizer_looks;
  node *n = node_new(&finalized_type, 7);
  gyre_slot_init(&n->next, node_new(&node_type, 8));
  puppet_run_parked(&other, release_it, n);
  assert_int_equal(nodes_destroyed(), 2);
  assert_true(pthread_equal(finalizing_thread, other.thread));
  puppet_stop(&other);
}

static int rescue(node *n) {
  rescued = gyre_retain(n);
  return 0;
}

static void a_finalizer_may_bring_its_object_back_and_is_not_run_again(void **state) {
  (void)state;
  node_on_finalize = rescue;
  node *n = node_new(&finalized_type, 7);
  gyre_slot_init(&n->next, node_new(&node_type, 8));
  gyre_release(n);
  assert_ptr_equal(rescued, n);
  assert_int_equal(nodes_destroyed(), 0);
  assert_int_equal(gyre_refcount(n), 1);
  assert_true(gyre_gc_is_finalized(n));
  gyre_release(n);
  assert_int_equal(nodes_finalized(), 1);
  assert_int_equal(nodes_destroyed(), 2);
}

static void an_object_of_a_type_without_finalizer_is_never_finalized(void **state) {
  (void)state;
  node *n = node_new(&node_type, 0);
  assert_false(gyre_gc_is_finalized(n));
  gyre_release(n);
}

static node *registry;

static int register_self(node *n) {
  gyre_store(&registry->next, n);
  return 0;
}

static void a_finalizer_may_bring_its_object_back_into_a_slot(void **state) {
  (void)state;
  registry = node_new(&node_type, 0);
  node_on_finalize = register_self;
  gyre_release(node_new(&finalized_type, 7));
  assert_int_equal(nodes_destroyed(), 0);
  gyre_release(registry);
  assert_int_equal(nodes_finalized(), 1);
  assert_int_equal(nodes_destroyed(), 2);
}

static int return_an_error(node *n) {
  (void)n;
  return -5;
}

static void a_failing_finalizer_is_reported_and_the_object_dies(void **state) {
  (void)state;
  node_on_finalize = return_an_error;
  test_log_capture();
  gyre_release(node_new(&finalized_type, 7));
  assert_int_equal(test_log_count("finalizer of node"), 1);
  assert_int_equal(test_log_count("returned -5"), 1);
  assert_int_equal(nodes_destroyed(), 1);
}

static int make_and_drop(node *n) {
  ring_drop(&plain_type, 3);
  gyre_release(chain_new(&plain_type, 300));
  gyre_clear(&n->next);
  gyre_safepoint();
  return 0;
}

static void a_finalizer_may_allocate_and_drop_other_objects(void **state) {
  (void)state;
  node_on_finalize = make_and_drop;
  gyre_release(chain_new(&finalized_type, 100));
  while (nodes_destroyed() < 100)
    gyre_safepoint();
  assert_int_equal(nodes_finalized(), 100);
}

static void drop_another(node *n) {
  (void)n;
  gyre_clear(&registry->next);
  gyre_safepoint();
}

static void a_destroy_hook_may_drop_other_objects(void **state) {
  (void)state;
  registry = node_new(&plain_type, 0);
  gyre_slot_init(&registry->next, chain_new(&node_type, 500));
  node_on_destroy = drop_another;
  gyre_release(node_new(&node_type, 0));
  while (nodes_destroyed() < 501)
    gyre_safepoint();
  gyre_release(registry);
}

/* ---- threads that are not attached ---- */

static void *move_a_reference(void *object) {
  node *n = object;
  TEST_REQUIRE(gyre_thread_current() == NULL);
  node *next = gyre_take(&n->next);
  /* Who moves references must stand still when the world does. */
  TEST_REQUIRE(gyre_thread_current() != NULL);
  gyre_thread_detach();
  TEST_REQUIRE(gyre_swap(&n->other, next) == NULL);
  TEST_REQUIRE(gyre_thread_current() != NULL);
  gyre_thread_detach();
  next = gyre_load(&n->other);
  TEST_REQUIRE(gyre_thread_current() != NULL);
  gyre_thread_detach();
  gyre_release(next);
  TEST_REQUIRE(gyre_thread_current() != NULL);
  gyre_thread_detach();
  (void)gyre_retain(n);
  TEST_REQUIRE(gyre_thread_current() != NULL);
  gyre_thread_detach();
  gyre_lock(n);
  TEST_REQUIRE(gyre_thread_current() != NULL);
  gyre_unlock(n);
  gyre_release(n);
  return NULL;
}

static void a_thread_attaches_when_it_first_counts_moves_or_locks(void **state) {
  (void)state;
  node *n = node_new(&node_type, 0);
  gyre_slot_init(&n->next, node_new(&node_type, 1));
  test_thread_join(test_thread_start(move_a_reference, n));
  gyre_safepoint();
  assert_int_equal(gyre_refcount(n), 1);
  gyre_release(n);
  assert_int_equal(nodes_destroyed(), 2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(a_long_list_may_be_dropped_on_a_stack_of_64_kib),
      NODE_TEST(a_long_list_with_finalizers_of_another_thread_too),
      NODE_TEST_WITH(a_release_destroys_no_more_than_its_budget, "gc:0,release_budget:100"),
      NODE_TEST_WITH(each_release_has_a_budget_of_its_own, "gc:0,release_budget:100"),
      NODE_TEST_WITH(the_death_of_a_long_array_is_bounded_too, "gc:0,release_budget:100"),
      NODE_TEST_WITH(a_collection_sees_what_a_cascade_has_not_reached, "gc:0,release_budget:100"),
      NODE_TEST_WITH(an_idle_thread_leaves_nothing_to_be_destroyed, "gc:0,release_budget:100"),
      NODE_TEST_WITH(allocation_goes_on_with_a_cascade, "gc:0,release_budget:100"),
      NODE_TEST_WITH(no_destroy_hook_runs_inside_an_unrelated_allocation,
                     "gc:0,release_budget:100"),
      NODE_TEST_WITH(no_finalizer_runs_inside_an_unrelated_allocation, "gc:0,release_budget:100"),
      NODE_TEST(a_finalizer_sees_the_whole_object_in_the_releasing_thread),
      NODE_TEST(a_finalizer_runs_in_the_thread_that_drops_a_parked_owners_object),
      NODE_TEST(a_finalizer_may_bring_its_object_back_and_is_not_run_again),
      NODE_TEST(an_object_of_a_type_without_finalizer_is_never_finalized),
      NODE_TEST(a_finalizer_may_bring_its_object_back_into_a_slot),
      NODE_TEST(a_failing_finalizer_is_reported_and_the_object_dies),
      NODE_TEST_WITH(a_finalizer_may_allocate_and_drop_other_objects, "gc_threshold:10"),
      NODE_TEST_WITH(a_destroy_hook_may_drop_other_objects, "gc:0,release_budget:100"),
      NODE_TEST(a_thread_attaches_when_it_first_counts_moves_or_locks),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
