/* SPDX-License-Identifier: MIT */
/* Tracing with several threads: who is traced when, frees by others, sessions that change under them,
 * snapshots while they run. */
#include "tests/support/puppet.h"
#include "tests/support/window.h"
#include "trace_test.h"

/* ---- two threads, step by step ---- */

static void alloc_one(void *arg) { *(void **)arg = gyre_malloc(100); }
static void free_one(void *arg) { gyre_free(*(void **)arg); }
static test_flag is_running, may_go;

static void flags_reset(void) {
  test_flag_set(&is_running, 0);
  test_flag_set(&may_go, 0);
}

/* Allocates, and runs until it may go; then passes a safepoint, and allocates. */
static void alloc_run_alloc(void *arg) {
  void **blocks = arg;
  test_window_subject();
  blocks[0] = gyre_malloc(100);
  test_flag_set(&is_running, 1);
  TEST_AWAIT(test_flag_get(&may_go));
  gyre_safepoint();
  blocks[1] = gyre_malloc(100);
}

static void a_running_thread_takes_part_at_its_next_safepoint(void **state) {
  (void)state;
  struct puppet p;
  puppet_start(&p);
  void *blocks[2];
  flags_reset();
  puppet_begin(&p, alloc_run_alloc, blocks); /* its pool has blocks ready */
  TEST_AWAIT(test_flag_get(&is_running));
  trace_on(1, 0, 0);
  test_flag_set(&may_go, 1);
  puppet_await(&p);
  void *before = blocks[0], *after = blocks[1];
  assert_false(is_traced(before));
  assert_true(is_traced(after));
  assert_int_equal(traced_now(), 100);
  gyre_free(before);
  gyre_free(after); /* another thread's: gone at once, though the block is not home yet */
  assert_int_equal(traced_now(), 0);
  gyre_trace_stop();
  puppet_stop(&p);
}

static void parked_and_orphaned_heaps_take_part_at_once(void **state) {
  (void)state;
  struct puppet p;
  puppet_start(&p);
  void *block;
  puppet_run(&p, alloc_one, &block);
  puppet_run(&p, free_one, &block);
  puppet_stop(&p); /* leaves an orphan with blocks ready */
  trace_on(1, 0, 0);
  puppet_start(&p);
  puppet_run(&p, alloc_one, &block);
  assert_true(is_traced(block));
  puppet_stop(&p);
  assert_true(is_traced(block));
  gyre_trace_stop();
  assert_false(is_traced(block));
  test_check();
  gyre_free(block);
}

static void *free_unattached(void *arg) {
  gyre_free(arg);
  TEST_REQUIRE(gyre_thread_current() == NULL);
  return NULL;
}

static void who_is_not_attached_frees_traced_blocks(void **state) {
  (void)state;
  trace_on(1, 0, 0);
  void *small = gyre_malloc(100), *large = gyre_malloc(100000);
  test_thread_run(free_unattached, small);
  assert_int_equal(traced_now(), 100000);
  test_thread_run(free_unattached, large);
  assert_int_equal(traced_now(), 0);
  gyre_trace_stop();
}

static void by_thread(void **state) {
  (void)state;
  trace_on(1, 0, 0);
  struct puppet p;
  puppet_start(&p);
  void *theirs, *ours = gyre_malloc(1000);
  puppet_run(&p, alloc_one, &theirs);
  gyre_thread_set_name("tester");
  gyre_snapshot *s = snapshot_now();
  struct gyre_statlist *list;
  assert_int_equal(gyre_snapshot_stats(s, GYRE_TRACE_BY_THREAD, 0, &list), 0);
  assert_int_equal(list->count, 2);
  assert_string_equal(list->at[0].name, "tester");
  assert_int_equal(list->at[0].size, 1000);
  assert_int_equal(list->at[1].size, 100);
  gyre_statlist_free(list);
  gyre_snapshot_free(s);
  gyre_free(ours);
  gyre_free(theirs);
  gyre_trace_stop();
  puppet_stop(&p);
}

/* A session begins while a thread is taking part in the one before. */
static void a_session_changes_while_a_heap_takes_part(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  struct puppet p;
  puppet_start(&p);
  void *blocks[2];
  flags_reset();
  puppet_begin(&p, alloc_run_alloc, blocks);
  TEST_AWAIT(test_flag_get(&is_running));
  trace_on(1, 0, 0);
  test_window_hold("trace/adopt", 1);
  test_flag_set(&may_go, 1);
  test_window_await();
  gyre_trace_stop();
  trace_on(2, 0, 0);
  test_window_release();
  puppet_await(&p);
  gyre_free(blocks[0]);
  gyre_free(blocks[1]); /* whichever session it is of, the figure stays right */
  assert_int_equal(traced_now(), 0);
  void *next;
  puppet_run(&p, alloc_one, &next);
  assert_true(is_traced(next));
  gyre_free(next);
  gyre_trace_stop();
  puppet_stop(&p);
}

static void free_subject(void *arg) {
  test_window_subject();
  gyre_free(arg);
}

/* A free by another thread stops before it takes the mark away; meanwhile the session ends, and the array
 * becomes another page's. */
static void a_free_is_late_for_its_session(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  test_option_set("quarantine", "0");
  struct puppet p;
  puppet_start(&p);
  trace_on(1, 0, 0);
  void *block = gyre_malloc(100);
  test_window_hold("trace/free", 1);
  puppet_begin(&p, free_subject, block);
  test_window_await();
  gyre_trace_clear();
  enum { COUNT = 2000 };
  static void *blocks[COUNT];
  /* Of another size, whose pages have arrays as large. */
  for (int i = 0; i < COUNT; i++)
    blocks[i] = gyre_malloc(90);
  test_window_release();
  puppet_await(&p);
  assert_int_equal(traced_now(), COUNT * 90);
  for (int i = 0; i < COUNT; i++) {
    assert_true(is_traced(blocks[i]));
    gyre_free(blocks[i]);
  }
  assert_int_equal(traced_now(), 0);
  gyre_trace_stop();
  puppet_stop(&p);
}

/* ---- all at once ---- */

enum { THREADS = 8, SHARED = 64 };

static test_flag stop_all;
static gyre__atomic_ptr shared[SHARED];

static void *churn(void *arg) {
  struct test_random random = test_random_new((uint64_t)(uintptr_t)arg);
  node *n = NULL;
  while (!test_flag_get(&stop_all)) {
    for (int i = 0; i < 200; i++) {
      uint32_t kind = test_random_below(&random, 100);
      size_t size = kind < 90 ? test_random_below(&random, 600) : kind < 98 ? 9000 : 80000;
      void *block = kind % 7 == 0 ? gyre_calloc(1, size) : gyre_malloc(size);
      TEST_REQUIRE(block != NULL);
      if (kind % 5 == 0) block = gyre_realloc(block, size + test_random_below(&random, 300));
      memset(block, 1, size);
      /* acq_rel: the block, from and to the thread that puts another here; pairs with itself. */
      block = gyre__exchange_acq_rel(&shared[test_random_below(&random, SHARED)], block);
      gyre_free(block);
      gyre_release(n);
      n = gyre_new(&node_type);
      TEST_REQUIRE(n != NULL);
    }
    gyre_safepoint();
  }
  gyre_release(n);
  return NULL;
}

static void shared_free(void) {
  for (unsigned i = 0; i < SHARED; i++)
    /* acquire: as in churn(). */
    gyre_free(gyre__exchange_acquire(&shared[i], NULL));
}

static void sessions_come_and_go_under_eight_threads(void **state) {
  (void)state;
  test_flag_set(&stop_all, 0);
  pthread_t threads[THREADS];
  for (uintptr_t i = 0; i < THREADS; i++)
    threads[i] = test_thread_start(churn, (void *)i);
  struct test_random random = test_random_new(99);
  uint64_t rounds = test_size("GYRE_TEST_ROUNDS", 300, 60, 30);
  for (uint64_t r = 0; r < rounds; r++) {
    static const size_t means[] = {0, 0, 2000, 100000};
    struct gyre_trace_opts opts = {.size = sizeof opts,
                                   .nframe = 1 + test_random_below(&random, 8),
                                   .sample_bytes = means[test_random_below(&random, 4)],
                                   .flags = test_random_below(&random, 20) == 0};
    assert_int_equal(gyre_trace_start(&opts), 0);
    for (uint32_t k = test_random_below(&random, 4); k > 0; k--) {
      gyre_snapshot *s = snapshot_now();
      size_t count, size;
      if (k == 1 && r % 16 == 0) snapshot_sum(s, &count, &size);
      gyre_snapshot_free(s);
      if (k == 2) gyre_trace_clear();
      if (k == 3) gyre_trace_reset_peak();
      (void)traced_peak();
      gyre_safepoint();
    }
    gyre_trace_stop();
    assert_int_equal(traced_now(), 0);
    gyre_safepoint();
  }
  test_flag_set(&stop_all, 1);
  for (unsigned i = 0; i < THREADS; i++)
    test_thread_join(threads[i]);
  shared_free();
}

/* What is traced is what there is, once they have stopped. */
static void after_the_storm_the_figures_are_right(void **state) {
  (void)state;
  for (int round = 0; round < 3; round++) {
    trace_on(1 + (unsigned)round, 0, 0);
    test_flag_set(&stop_all, 0);
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
      threads[i] = test_thread_start(churn, (void *)i);
    for (int i = 0; i < 3; i++) {
      gyre_snapshot *s = snapshot_now();
      gyre_snapshot_free(s);
    }
    test_flag_set(&stop_all, 1);
    for (unsigned i = 0; i < THREADS; i++)
      test_thread_join(threads[i]);
    gyre_snapshot *s = snapshot_now();
    size_t count, size;
    snapshot_sum(s, &count, &size);
    gyre_snapshot_free(s);
    assert_true(count <= SHARED);
    assert_int_equal(size, traced_now());
    for (unsigned i = 0; i < SHARED; i++) {
      /* relaxed: the threads are gone. */
      void *block = gyre__load_relaxed(&shared[i]);
      assert_true(block == NULL || is_traced(block));
    }
    shared_free();
    assert_int_equal(traced_now(), 0);
    gyre_trace_stop();
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_running_thread_takes_part_at_its_next_safepoint),
      TEST(parked_and_orphaned_heaps_take_part_at_once),
      TEST(who_is_not_attached_frees_traced_blocks),
      TEST(by_thread),
      TEST(a_session_changes_while_a_heap_takes_part),
      TEST(a_free_is_late_for_its_session),
      TEST(sessions_come_and_go_under_eight_threads),
      TEST(after_the_storm_the_figures_are_right),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
