/* SPDX-License-Identifier: MIT */
/* Questions never change when collections happen: a program that asks all of them all the time collects
 * as one that does not. (On a free-threaded CPython, polling gc.get_count() drained a counter, and no
 * collection ever ran: python/cpython#157377.) */
#include <string.h>

#include "tests/support/node.h"

static void ask_everything(node *keeper) {
  int numbers[GYRE_GC_NGEN];
  TEST_REQUIRE(gyre_gc_get_count(numbers) == 0);
  TEST_REQUIRE(gyre_gc_get_threshold(numbers) == 0);
  for (int g = 0; g < GYRE_GC_NGEN; g++) {
    struct gyre_gc_stats stats = {.size = sizeof stats};
    TEST_REQUIRE(gyre_gc_get_stats(g, &stats) == 0);
  }
  (void)gyre_gc_is_enabled();
  (void)gyre_gc_get_mode();
  (void)gyre_gc_get_debug();
  (void)gyre_gc_get_freeze_count();
  (void)gyre_gc_garbage_count();
  (void)gyre_pending_count();
  (void)gyre_gc_is_tracked(keeper);
  (void)gyre_gc_is_finalized(keeper);
  (void)gyre_refcount(keeper);
  (void)gyre_is_unique(keeper);
  (void)gyre_is_immortal(keeper);
  (void)gyre_sizeof(keeper);
  (void)gyre_weak_count(keeper);
  struct gyre_heap_stats heap = {.size = sizeof heap};
  TEST_REQUIRE(gyre_heap_get_stats(&heap) == 0);
  struct gyre_thread_stats threads = {.size = sizeof threads};
  TEST_REQUIRE(gyre_thread_get_stats(&threads) == 0);
  struct gyre_stats all = {.size = sizeof all};
  TEST_REQUIRE(gyre_stats_get(&all) == 0);
  (void)gyre_live_blocks();
  (void)gyre_mem_alloc();
  (void)gyre_mem_free();
  (void)gyre_mem_threshold(-1);
  (void)gyre_trace_is_on();
  (void)gyre_trace_limit();
  (void)gyre_trace_overhead();
  size_t bytes, peak;
  TEST_REQUIRE(gyre_trace_memory(&bytes, &peak) == 0);
  (void)gyre_weak_list(keeper, NULL, 0);
  (void)gyre_intern_count();
  (void)gyre_sizeof_block(keeper);
}

/* A thread's life of allocations: what collections it has seen. Time is left out of it: a step may take as
 * long as it wants, looks come at once. */
struct seen {
  uint64_t collections[GYRE_GC_NGEN], collected, candidates;
};

static struct seen figures(void) {
  struct seen s = {0};
  for (int g = 0; g < GYRE_GC_NGEN; g++) {
    struct gyre_gc_stats stats = {.size = sizeof stats};
    TEST_REQUIRE(gyre_gc_get_stats(g, &stats) == 0);
    s.collections[g] = stats.collections;
    s.collected += stats.collected;
    s.candidates += stats.candidates;
  }
  return s;
}

static struct seen live(bool asking) {
  TEST_REQUIRE(gyre_gc_collect(2) >= 0);
  struct seen before = figures();
  node *keeper = node_new(&plain_type, 0);
  node *list = NULL;
  uint64_t steps = test_size("GYRE_PURITY", 200000, 100000, 100000);
  for (uint64_t i = 0; i < steps; i++) {
    /* One with a finalizer is left to the collector. */
    node *n = node_new(i % 16 ? &plain_type : &finalized_type, i);
    if (i % 3 == 0) gyre_store(&n->next, n); /* garbage */
    if (i % 4 == 0) {
      if (list != NULL) gyre_slot_init(&n->other, list);
      list = gyre_retain(n);
    }
    gyre_release(n);
    if (asking && i % 8 == 0) ask_everything(keeper);
    gyre_safepoint();
  }
  struct seen after = figures();
  gyre_release(list);
  gyre_release(keeper);
  TEST_REQUIRE(gyre_gc_collect(2) >= 0);
  for (int g = 0; g < GYRE_GC_NGEN; g++)
    after.collections[g] -= before.collections[g];
  after.collected -= before.collected;
  after.candidates -= before.candidates;
  return after;
}

static void *lives_quietly(void *arg) {
  *(struct seen *)arg = live(false);
  return NULL;
}
static void *lives_asking(void *arg) {
  *(struct seen *)arg = live(true);
  return NULL;
}

/* In a thread of its own each, so that what a thread has learnt about its objects is the same. */
static void asking_changes_nothing(void **state) {
  (void)state;
  struct seen quiet, asked;
  (void)test_thread_run(lives_quietly, &quiet);
  (void)test_thread_run(lives_quietly, &quiet);
  (void)test_thread_run(lives_asking, &asked);
  assert_true(quiet.collections[0] > 0 && quiet.collections[1] > 0);
  assert_memory_equal(&quiet, &asked, sizeof quiet);
}

/* Seven threads that do nothing but ask, when they are told to, beside one that lives. */
enum { ASKERS = 7 };
static test_flag ready, may_ask, asked_enough;
static void *only_asks(void *about) {
  gyre_thread_attach();
  test_flag_add(&ready, 1);
  while (!test_flag_get(&asked_enough)) {
    if (test_flag_get(&may_ask)) ask_everything(about);
    gyre_safepoint();
    (void)sched_yield();
  }
  return NULL;
}

static void nor_does_asking_in_seven_other_threads(void **state) {
  (void)state;
  struct seen quiet, asked;
  test_flag_set(&ready, 0);
  test_flag_set(&may_ask, 0);
  test_flag_set(&asked_enough, 0);
  GYRE_AUTO(node) about = node_new(&plain_type, 0);
  pthread_t askers[ASKERS];
  for (int i = 0; i < ASKERS; i++)
    askers[i] = test_thread_start(only_asks, about);
  TEST_AWAIT_SAFELY(test_flag_get(&ready) == ASKERS);
  (void)test_thread_run(lives_quietly, &quiet);
  (void)test_thread_run(lives_quietly, &quiet);
  test_flag_set(&may_ask, 1);
  (void)test_thread_run(lives_quietly, &asked);
  test_flag_set(&asked_enough, 1);
  for (int i = 0; i < ASKERS; i++)
    test_thread_join(askers[i]);
  assert_true(quiet.collections[0] > 0 && quiet.collections[1] > 0);
  assert_memory_equal(&quiet, &asked, sizeof quiet);
}

/* Those that hand out references make their objects the collector's business; collections must go on. */
static test_flag stop;
static void *asks(void *about) {
  while (!test_flag_get(&stop)) {
    gyre_objlist *list;
    TEST_REQUIRE(gyre_gc_get_objects(-1, &list) >= 0);
    gyre_objlist_free(list);
    ask_everything(about);
    gyre_safepoint();
  }
  return NULL;
}

static uint64_t all_collections(void) {
  struct seen s = figures();
  return s.collections[0] + s.collections[1] + s.collections[2];
}

static void beside_a_thread_that_lists_all_objects_garbage_is_collected(void **state) {
  (void)state;
  test_flag_set(&stop, 0);
  GYRE_AUTO(node) about = node_new(&plain_type, 0);
  uint64_t before = all_collections();
  pthread_t thread = test_thread_start(asks, about);
  for (uint64_t made = 0; all_collections() < before + 100; made++) {
    ring_drop(&plain_type, 2);
    gyre_safepoint();
  }
  test_flag_set(&stop, 1);
  test_thread_join(thread);
  assert_true(gyre_gc_collect(2) >= 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      /* Steps of a fixed length: none is long enough to be made shorter. */
      NODE_TEST_WITH(asking_changes_nothing,
                     "gc:1,gc_mode:stw,gc_threshold:100/2/2,young_us:4294967295"),
      NODE_TEST_WITH(nor_does_asking_in_seven_other_threads,
                     "gc:1,gc_mode:stw,gc_threshold:100/2/2,young_us:4294967295"),
      NODE_TEST_WITH(beside_a_thread_that_lists_all_objects_garbage_is_collected, "gc:1"),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
