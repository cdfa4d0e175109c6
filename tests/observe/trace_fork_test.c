/* SPDX-License-Identifier: MIT */
/* Tracing and fork: a child has its parent's traces, also of a parent whose threads allocate meanwhile. */
#include "trace_test.h"

static void in_the_child(void *arg) {
  void **blocks = arg;
  TEST_REQUIRE(gyre_trace_is_on());
  TEST_REQUIRE(traced_now() == 100100);
  TEST_REQUIRE(is_traced(blocks[0]) && is_traced(blocks[1]));
  void *own = gyre_malloc(50);
  TEST_REQUIRE(is_traced(own));
  gyre_snapshot *s = snapshot_now();
  TEST_REQUIRE(gyre_snapshot_count(s) == 3);
  gyre_snapshot_free(s);
  gyre_free(own);
  gyre_free(blocks[0]);
  gyre_free(blocks[1]);
  TEST_REQUIRE(traced_now() == 0);
  gyre_trace_stop();
}

static void a_child_has_its_parents_traces(void **state) {
  (void)state;
  trace_on(3, 0, 0);
  void *blocks[] = {gyre_malloc(100), gyre_malloc(100000)};
  assert_true(is_traced(blocks[0])); /* names have been looked up before */
  test_in_child(in_the_child, blocks);
  assert_int_equal(traced_now(), 100100);
  gyre_free(blocks[0]);
  gyre_free(blocks[1]);
  gyre_trace_stop();
}

/* ---- among threads ---- */

static test_flag stop_all;

static void *churns(void *arg) {
  struct test_random random = test_random_new((uint64_t)(uintptr_t)arg);
  void *blocks[32] = {NULL};
  while (!test_flag_get(&stop_all)) {
    for (int i = 0; i < 200; i++) {
      void **block = &blocks[test_random_below(&random, 32)];
      gyre_free(*block);
      *block = gyre_malloc(test_random_below(&random, 50) == 0 ? 80000 : (size_t)i);
      TEST_REQUIRE(*block != NULL);
    }
    gyre_safepoint();
  }
  for (int i = 0; i < 32; i++)
    gyre_free(blocks[i]);
  return NULL;
}

static void only_stop(void *arg) {
  (void)arg;
  TEST_REQUIRE(gyre_trace_is_on());
  gyre_trace_stop();
}

static void a_fork_among_threads(void **state) {
  (void)state;
  if (TEST_THREAD_SANITIZER) skip(); /* other threads' locks of the sanitizer's own */
  trace_on(2, 0, 0);
  test_flag_set(&stop_all, 0);
  pthread_t threads[2];
  for (uintptr_t i = 0; i < 2; i++)
    threads[i] = test_thread_start(churns, (void *)i);
  for (int i = 0; i < 5; i++)
    test_in_child(only_stop, NULL);
  test_flag_set(&stop_all, 1);
  for (int i = 0; i < 2; i++)
    test_thread_join(threads[i]);
  assert_int_equal(traced_now(), 0);
  gyre_trace_stop();
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_child_has_its_parents_traces),
      TEST(a_fork_among_threads),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
