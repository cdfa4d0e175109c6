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

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(late_bytes_leave_the_next_sessions_alone),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
