/* SPDX-License-Identifier: MIT */
/* Every allocation of the tracer made to fail in turn: the program's own succeed all the same, untraced; calls
 * that make something say so and leave nothing. */
#include "trace_test.h"

static unsigned failures;

static void use_snapshots(const char *path) {
  gyre_snapshot *s = gyre_trace_snapshot();
  if (s == NULL) {
    TEST_REQUIRE(errno == ENOMEM);
    failures++;
    return;
  }
  struct gyre_statlist *list;
  for (int by = GYRE_TRACE_BY_FILE; by <= GYRE_TRACE_BY_THREAD; by++) {
    int result =
        gyre_snapshot_stats(s, (enum gyre_trace_by)by, by <= GYRE_TRACE_BY_FUNCTION, &list);
    TEST_REQUIRE(result == 0 || result == -ENOMEM);
    failures += result != 0;
    if (result == 0) gyre_statlist_free(list);
  }
  int result = gyre_snapshot_diff(s, s, GYRE_TRACE_BY_LINE, 0, &list);
  TEST_REQUIRE(result == 0 || result == -ENOMEM);
  failures += result != 0;
  if (result == 0) gyre_statlist_free(list);
  struct gyre_trace trace;
  if (gyre_snapshot_count(s) > 0) {
    result = gyre_snapshot_trace(s, 0, &trace);
    TEST_REQUIRE(result == 0 || result == -ENOMEM);
    failures += result != 0;
    if (result == 0) gyre_traceback_free(&trace.traceback);
  }
  struct gyre_filter filter = {.inclusive = 1, .pattern = "*", .domain = -1};
  gyre_snapshot *filtered = gyre_snapshot_filter(s, &filter, 1);
  if (filtered == NULL) TEST_REQUIRE(errno == ENOMEM);
  failures += filtered == NULL;
  gyre_snapshot_free(filtered);
  result = gyre_snapshot_save(s, path);
  TEST_REQUIRE(result == 0 || result == -ENOMEM);
  failures += result != 0;
  gyre_snapshot_free(s);
  if (result != 0) return;
  s = gyre_snapshot_load(path, NULL);
  if (s == NULL) TEST_REQUIRE(errno == ENOMEM);
  failures += s == NULL;
  gyre_snapshot_free(s);
}

static void *scenario(void *arg) {
  void *blocks[8] = {0};
  static const size_t sizes[] = {1, 100, 1000, 9000, 100000, 50, 60, 70};
  if (gyre_thread_attach() == NULL) {
    failures++;
    return NULL;
  }
  trace_on(100, 0, 0);
  for (unsigned i = 0; i < 8; i++) {
    blocks[i] = gyre_malloc(sizes[i]);
    if (blocks[i] == NULL) {
      TEST_REQUIRE(errno == ENOMEM);
      failures++;
      continue;
    }
    struct gyre_traceback t;
    int result = gyre_trace_get(blocks[i], &t);
    TEST_REQUIRE(result == 1 || result == 0 || result == -ENOMEM);
    if (result == 1) gyre_traceback_free(&t);
    failures += result != 1;
  }
  void *larger = gyre_realloc(blocks[4], 300000);
  if (larger != NULL) blocks[4] = larger;
  failures += larger == NULL;
  int tracked = gyre_trace_track(GYRE_TRACED_FOREIGN, &failures, 4);
  TEST_REQUIRE(tracked == 0 || tracked == -ENOMEM);
  failures += tracked != 0;
  use_snapshots(arg);
  for (unsigned i = 0; i < 8; i++)
    gyre_free(blocks[i]);
  (void)gyre_trace_untrack(GYRE_TRACED_FOREIGN, &failures);
  TEST_REQUIRE(traced_now() == 0);
  gyre_trace_stop();
  return NULL;
}

static void every_allocation_may_fail(void **state) {
  (void)state;
#ifndef GYRE_WINDOWS
  skip();
#endif
  char path[] = "/tmp/gyre_oom_XXXXXX";
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  close(fd);
  uint64_t nth = 0, hits;
  unsigned seen = 0;
  do {
    nth++;
    failures = 0;
    (void)gyre_purge();
    (void)gyre_synchronize();
    gyre_safepoint();
    gyre__fault_arm(nth, 0);
    test_thread_run(scenario, path);
    hits = gyre__fault_count();
    gyre__fault_arm(0, 0);
    gyre__heap_check();
    assert_int_equal(gyre_trace_is_on(), 0);
    seen += failures != 0;
  } while (hits >= nth);
  assert_true(nth > 30 && seen > 15);
  for (uint64_t every = 1; every <= 7; every++) {
    gyre__fault_arm(every, 1);
    test_thread_run(scenario, path);
    gyre__fault_arm(0, 0);
    gyre__heap_check();
  }
  (void)unlink(path);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(every_allocation_may_fail),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
