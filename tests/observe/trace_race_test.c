/* SPDX-License-Identifier: MIT */
/* Races of tracing, played step by step: what a thread was about to do when a session ended, and sessions that
 * change inside one allocation. */
#include "tests/support/puppet.h"
#include "tests/support/window.h"
#include "trace_test.h"

static struct puppet puppet;

static void begin(void) {
  test_option_set("quarantine", "0");
  puppet_start(&puppet);
}

static void end(void) {
  gyre_trace_stop();
  puppet_stop(&puppet);
}

/* ---- figures ---- */

static void alloc_large_subject(void *arg) {
  test_window_subject();
  *(void **)arg = gyre_malloc(100000);
}

/* The bytes of a session that is over must not take the place of the next one's. */
static void late_bytes_leave_the_next_sessions_alone(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  begin();
  trace_on(1, 0, 0);
  void *theirs;
  test_window_hold("trace/figure", 1);
  puppet_begin(&puppet, alloc_large_subject, &theirs);
  test_window_await();
  gyre_trace_clear();
  void *ours = gyre_malloc(200000);
  test_window_release();
  puppet_await(&puppet);
  assert_int_equal(traced_now(), 200000);
  assert_int_equal(traced_peak(), 200000);
  gyre_free(theirs);
  assert_int_equal(traced_now(), 200000);
  gyre_free(ours);
  assert_int_equal(traced_now(), 0);
  end();
}

/* ---- sessions that change inside an allocation ---- */

static int handler_calls;

static int stops(size_t size, void *arg) {
  (void)size, (void)arg;
  handler_calls++;
  gyre_trace_stop();
  gyre_heap_set_limit(0);
  return 1;
}

static int begins_another(size_t size, void *arg) {
  (void)size;
  handler_calls++;
  gyre_trace_stop();
  trace_on(1, *(size_t *)arg, 0);
  gyre_heap_set_limit(0);
  return 1;
}

/* Allocates until the handler has been asked, and gives everything back. */
static void alloc_to_the_limit(size_t size) {
  enum { MOST = 20000 };
  static void *blocks[MOST];
  size_t count = 0;
  gyre_heap_set_limit(test_heap_stats().committed_bytes + ((size_t)1 << 20));
  handler_calls = 0;
  while (handler_calls == 0 && count < MOST) {
    blocks[count] = gyre_malloc(size);
    TEST_REQUIRE(blocks[count] != NULL);
    count++;
  }
  assert_int_equal(handler_calls, 1);
  for (int i = 0; i < 100; i++)
    blocks[count++] = gyre_malloc(size);
  while (count > 0)
    gyre_free(blocks[--count]);
}

static void a_session_ends_inside_an_allocation(void **state) {
  (void)state;
  static const size_t sizes[] = {100, 3000, 9000, 100000};
  static const size_t samples[] = {0, 300, 100000};
  for (unsigned i = 0; i < 4; i++)
    for (unsigned k = 0; k < 3; k++) {
      gyre_set_oom_handler(stops, NULL);
      trace_on(1, samples[k], 0);
      alloc_to_the_limit(sizes[i]);
      assert_int_equal(traced_now(), 0);
      (void)gyre_purge();
      assert_int_equal(test_heap_stats().live_blocks, 0);
      gyre__heap_check();
      for (unsigned n = 0; n < 3; n++) {
        static size_t next;
        next = samples[n];
        gyre_set_oom_handler(begins_another, &next);
        trace_on(2, samples[k], 0);
        alloc_to_the_limit(sizes[i]);
        assert_int_equal(traced_now(), 0);
        gyre_trace_stop();
        (void)gyre_purge();
        assert_int_equal(test_heap_stats().live_blocks, 0);
        gyre__heap_check();
      }
    }
  gyre_set_oom_handler(NULL, NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(late_bytes_leave_the_next_sessions_alone),
      TEST(a_session_ends_inside_an_allocation),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
