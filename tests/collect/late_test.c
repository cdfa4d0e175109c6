/* SPDX-License-Identifier: MIT */
/* Option rc:off: counts free nothing, the next collection frees what they would have; no more and no less. */
#include "tests/support/node.h"
#include "tests/support/window.h"

#define OFF "gc:0,rc:off"

static void a_release_frees_nothing(void **state) {
  (void)state;
  for (int generation = 0; generation < GYRE_GC_NGEN; generation++) {
    uint64_t before = nodes_destroyed();
    gyre_release(node_new(&leaf_type, 1));
    gyre_release(node_new(&node_type, 2));
    gyre_release(chain_new(&node_type, 5));
    gyre_release(node_new(&finalized_type, 3));
    for (int i = 0; i < 100; i++)
      gyre_safepoint();
    assert_int_equal(nodes_destroyed(), before);
    assert_true(gyre_gc_collect(generation) >= 0);
    assert_int_equal(nodes_destroyed(), before + 8);
  }
}

static void with_counts_on_it_frees_at_once(void **state) {
  (void)state;
  gyre_release(node_new(&leaf_type, 1));
  gyre_release(chain_new(&node_type, 5));
  assert_int_equal(nodes_destroyed(), 6);
}

static int weak_calls;
static void weak_call(gyre_weak *weak, void *arg) {
  (void)arg;
  TEST_REQUIRE(gyre_weak_is_dead(weak));
  weak_calls++;
}

static void weak_references_linger_and_bring_back(void **state) {
  (void)state;
  weak_calls = 0;
  node *n = node_new(&finalized_type, 7);
  gyre_weak *weak = gyre_weak_new(n, weak_call, NULL);
  gyre_release(n);
  assert_false(gyre_weak_is_dead(weak));
  assert_int_equal(nodes_finalized(), 0);
  /* In use again: a collection leaves it alone, and it is as it was. */
  n = gyre_weak_get(weak);
  assert_non_null(n);
  assert_int_equal(n->tag, 7);
  (void)gyre_gc_collect(2);
  assert_false(gyre_weak_is_dead(weak));
  assert_int_equal(nodes_finalized(), 0);
  assert_int_equal(gyre_refcount(n), 1);
  /* Given up for good. */
  gyre_release(n);
  assert_int_equal(nodes_destroyed(), 0);
  (void)gyre_gc_collect(2);
  assert_true(gyre_weak_is_dead(weak));
  assert_null(gyre_weak_get(weak));
  assert_int_equal(nodes_finalized(), 1);
  assert_int_equal(nodes_destroyed(), 1);
  assert_int_equal(weak_calls, 1);
  gyre_weak_free(weak);
}

static node *rescued;
static int rescue(node *n) {
  rescued = gyre_retain(n);
  return 0;
}

static void a_finalizer_may_rescue(void **state) {
  (void)state;
  node_on_finalize = rescue;
  node *n = node_new(&finalized_type, 1);
  node_link(n, node_new(&node_type, 2));
  gyre_release(n->next.gyre__type);
  gyre_release(n);
  (void)gyre_gc_collect(2);
  assert_ptr_equal(rescued, n);
  assert_int_equal(nodes_destroyed(), 0);
  gyre_release(rescued);
  assert_int_equal(nodes_destroyed(), 0);
  (void)gyre_gc_collect(2);
  assert_int_equal(nodes_destroyed(), 2);
  assert_int_equal(nodes_finalized(), 1);
}

static void cycles_behind_it_are_found_in_the_same_collection(void **state) {
  (void)state;
  node *head = node_new(&node_type, 0);
  node *ring = ring_new(&node_type, 10);
  node_link(head, ring);
  gyre_release(ring);
  gyre_release(head);
  assert_int_equal(gyre_gc_collect(2), 10);
  assert_int_equal(nodes_destroyed(), 11);
}

typedef struct tuple {
  size_t tag;
  GYRE_SLOT(node) items[];
} tuple;
static GYRE_TYPE_DEFINE(tuple_type, tuple, .element_size = sizeof(gyre_slot),
                        .element_slots = GYRE_SLOT_ARRAY);

static void large_objects_wait_too(void **state) {
  (void)state;
  for (size_t count = 3; count < 100000; count *= 30) {
    uint64_t before = nodes_destroyed();
    tuple *t = gyre_new_array(&tuple_type, count);
    assert_non_null(t);
    gyre_slot_init(&t->items[count - 1], node_new(&node_type, 1));
    gyre_release(t);
    assert_int_equal(nodes_destroyed(), before);
    (void)gyre_gc_collect(0);
    assert_int_equal(nodes_destroyed(), before + 1);
  }
}

/* ---- several threads ---- */

static void *makes_one(void *arg) { return node_new((gyre_type *)arg, 1); }

static void *drops_it(void *arg) {
  gyre_release(arg);
  return NULL;
}

static void objects_of_threads_that_are_gone_wait_too(void **state) {
  (void)state;
  node *n = test_thread_run(makes_one, &node_type);
  gyre_release(n);
  n = test_thread_run(makes_one, &finalized_type);
  gyre_release(n);
  gyre_safepoint();
  assert_int_equal(nodes_destroyed(), 0);
  /* And what others drop. */
  (void)test_thread_run(drops_it, node_new(&node_type, 2));
  gyre_safepoint();
  assert_int_equal(nodes_destroyed(), 0);
  (void)gyre_gc_collect(2);
  assert_int_equal(nodes_destroyed(), 3);
}

static test_event dropped = TEST_EVENT_INIT, done = TEST_EVENT_INIT;

static test_flag rounds;

static void *drops_and_runs(void *arg) {
  gyre_release(node_new(&node_type, 1));
  gyre_release(arg);
  test_event_set(&dropped);
  TEST_AWAIT_SAFELY(test_flag_add(&rounds, 1) != 0 && test_event_is_set(&done));
  return NULL;
}

/* The collector has what was kept, and lets the other thread run: it is to be none of its business. */
static void let_it_run(void *arg) {
  (void)arg;
  uint32_t seen = test_flag_get(&rounds);
  TEST_AWAIT(test_flag_get(&rounds) - seen > 2);
  test_window_call("late/taken", 1, let_it_run, NULL);
}

static void what_running_threads_keep_is_found(void **state) {
  (void)state;
  test_event_reset(&dropped);
  test_event_reset(&done);
  node *mine = node_new(&node_type, 5);
  pthread_t thread = test_thread_start(drops_and_runs, gyre_retain(mine));
  test_event_wait_parked(&dropped);
  gyre_release(mine);
  test_window_subject();
  test_window_call("late/taken", 1, let_it_run, NULL);
  (void)gyre_gc_collect(2);
  test_window_clear();
  assert_int_equal(nodes_destroyed(), 2);
  test_event_set(&done);
  (void)test_thread_join(thread);
}

/* ---- exactly what is unreachable ---- */

#define ROOTS 8
#define OBJECTS 4000
static struct {
  node *by_tag[OBJECTS]; /* borrowed: NULL once destroyed */
  bool reachable[OBJECTS];
} world;

static void world_forget(node *n) { world.by_tag[n->tag] = NULL; }

static void world_mark(node *n) {
  while (n != NULL && !world.reachable[n->tag]) {
    world.reachable[n->tag] = true;
    world_mark(n->other.gyre__type); /* nobody else changes it */
    n = n->next.gyre__type;
  }
}

static void root_set(node **root, node *n) {
  node *old = *root;
  *root = gyre_retain(n);
  gyre_release(old);
}

static void exactly_the_unreachable_go(void **state) {
  (void)state;
  node *roots[ROOTS] = {0};
  struct test_random random = test_random_new(1);
  node_on_destroy = world_forget;
  size_t made = 0;
  while (made < OBJECTS) {
    for (unsigned step = 0; step < 50 && made < OBJECTS; step++) {
      node *n = node_new(test_random_below(&random, 4) == 0 ? &finalized_type : &node_type, made);
      world.by_tag[made++] = n;
      node *from = roots[test_random_below(&random, ROOTS)];
      node *to = roots[test_random_below(&random, ROOTS)];
      if (to != NULL && test_random_below(&random, 3) == 0) gyre_store(&n->next, to);
      if (from != NULL && test_random_below(&random, 2) == 0)
        gyre_store(&from->next, n);
      else if (from != NULL)
        gyre_store(&from->other, n);
      if (test_random_below(&random, 2) == 0)
        root_set(&roots[test_random_below(&random, ROOTS)], n);
      if (test_random_below(&random, 8) == 0)
        root_set(&roots[test_random_below(&random, ROOTS)], NULL);
      gyre_release(n);
      gyre_safepoint();
    }
    for (size_t i = 0; i < made; i++)
      world.reachable[i] = false;
    for (unsigned i = 0; i < ROOTS; i++)
      world_mark(roots[i]);
    (void)gyre_gc_collect(2);
    for (size_t i = 0; i < made; i++)
      assert_int_equal(world.by_tag[i] != NULL, world.reachable[i]);
  }
  for (unsigned i = 0; i < ROOTS; i++)
    root_set(&roots[i], NULL);
  (void)gyre_gc_collect(2);
  assert_int_equal(nodes_destroyed(), OBJECTS);
}

/* ---- by itself ---- */

static void leaves_alone_make_a_collection_due(void **state) {
  (void)state;
  uint64_t made = 0;
  for (; nodes_destroyed() == 0; made++) {
    gyre_release(node_new(&leaf_type, made));
    gyre_safepoint();
    if (made % 1000 == 0) GYRE_BLOCKING {
        (void)sched_yield();
      }
  }
  assert_true(made > 1000);
}

/* Objects go from thread to thread, by slots and weak references, while collections run. */
#define SHARED 16
static struct holder { GYRE_SLOT(node) at[SHARED]; } * holder;
static GYRE_TYPE_DEFINE(holder_type, struct holder,
                        .slots = GYRE_SLOTS(struct holder, at[0], at[1], at[2], at[3], at[4], at[5],
                                            at[6], at[7], at[8], at[9], at[10], at[11], at[12],
                                            at[13], at[14], at[15]));
static test_flag made_count;

static void *trades(void *arg) {
  struct test_random random = test_random_new(10 + (uint64_t)(uintptr_t)arg);
  uint64_t steps = test_size("GYRE_TEST_STEPS", 30000, 10000, 3000);
  for (uint64_t step = 0; step < steps; step++) {
    unsigned i = test_random_below(&random, SHARED), k = test_random_below(&random, SHARED);
    node *n = node_new(test_random_below(&random, 2) ? &node_type : &finalized_type, step);
    (void)test_flag_add(&made_count, 1);
    node *other = gyre_load(&holder->at[i]);
    gyre_weak *weak = other != NULL ? gyre_weak_new(other, NULL, NULL) : NULL;
    if (other != NULL) gyre_store(&n->next, other);
    gyre_release(other);
    gyre_store(&holder->at[k], n);
    gyre_release(n);
    if (test_random_below(&random, 3) == 0) gyre_clear(&holder->at[i]);
    if (weak != NULL) gyre_release(gyre_weak_get(weak));
    gyre_weak_free(weak);
    gyre_safepoint();
    if (step % 2000 == 0) (void)gyre_gc_collect((int)(step / 2000 % 3));
  }
  return NULL;
}

static void threads_share_objects_meanwhile(void **state) {
  (void)state;
  test_flag_set(&made_count, 0);
  holder = gyre_new(&holder_type);
  pthread_t threads[4];
  for (uintptr_t i = 0; i < 4; i++)
    threads[i] = test_thread_start(trades, (void *)i);
  for (int i = 0; i < 4; i++)
    (void)test_thread_join(threads[i]);
  gyre_release(holder);
  (void)gyre_gc_collect(2);
  assert_int_equal(nodes_destroyed(), test_flag_get(&made_count));
}

/* ---- without memory ---- */

static void without_memory_for_the_list_it_frees_at_once(void **state) {
  (void)state;
#ifdef GYRE_WINDOWS
  node *n = node_new(&node_type, 1), *m = node_new(&node_type, 2);
  gyre__fault_arm(1, 1);
  gyre_release(n);
  gyre__fault_arm(0, 0);
  assert_int_equal(nodes_destroyed(), 1);
  gyre_release(m);
  assert_int_equal(nodes_destroyed(), 1);
  (void)gyre_gc_collect(0);
  assert_int_equal(nodes_destroyed(), 2);
#endif
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(with_counts_on_it_frees_at_once),
      NODE_TEST_WITH(a_release_frees_nothing, OFF),
      NODE_TEST_WITH(weak_references_linger_and_bring_back, OFF),
      NODE_TEST_WITH(a_finalizer_may_rescue, OFF),
      NODE_TEST_WITH(cycles_behind_it_are_found_in_the_same_collection, OFF),
      NODE_TEST_WITH(large_objects_wait_too, OFF),
      NODE_TEST_WITH(objects_of_threads_that_are_gone_wait_too, OFF),
      NODE_TEST_WITH(what_running_threads_keep_is_found, OFF),
      NODE_TEST_WITH(exactly_the_unreachable_go, OFF),
      NODE_TEST_WITH(leaves_alone_make_a_collection_due, "rc:off"),
      NODE_TEST_WITH(threads_share_objects_meanwhile, "rc:off"),
      NODE_TEST_WITH(without_memory_for_the_list_it_frees_at_once, OFF),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
