/* SPDX-License-Identifier: MIT */
/* Grace periods: who is waited for, deferred work, and stall reports. */
#include <stdio.h>
#include <string.h>

#include "lib/thread/thread.h"
#include "tests/support/node.h"
#include "tests/support/puppet.h"

static bool is_asked(struct gyre__thread *slot, uint32_t request) {
  /* seq_cst: another thread sets the bit; pairs with gyre__thread_request(). */
  return gyre__load_seq_cst(&slot->base.request) & request;
}

/* ---- who is waited for ---- */

static struct {
  test_flag passed; /* the running thread has come to its safepoint */
  test_flag done;
} order;

static void *synchronizes(void *arg) {
  (void)arg;
  TEST_REQUIRE(gyre_synchronize() == 0);
  uint32_t passed = test_flag_get(&order.passed);
  test_flag_set(&order.done, 1);
  return (void *)(uintptr_t)passed;
}

static void synchronize_waits_for_a_thread_that_runs(void **state) {
  (void)state;
  memset(&order, 0, sizeof order);
  gyre_thread_attach();
  pthread_t thread = test_thread_start(synchronizes, NULL);
  TEST_AWAIT(is_asked(gyre__thread_current(), GYRE__REQ_HANDSHAKE) || test_flag_get(&order.done));
  test_flag_set(&order.passed, 1);
  gyre_safepoint();
  assert_int_equal((uintptr_t)test_thread_join(thread), 1);
}

static void parking_answers_for_a_thread_that_is_waited_for(void **state) {
  (void)state;
  memset(&order, 0, sizeof order);
  gyre_thread_attach();
  pthread_t thread = test_thread_start(synchronizes, NULL);
  TEST_AWAIT(is_asked(gyre__thread_current(), GYRE__REQ_HANDSHAKE) || test_flag_get(&order.done));
  test_flag_set(&order.passed, 1);
  gyre_park();
  TEST_AWAIT(test_flag_get(&order.done));
  gyre_unpark();
  assert_int_equal((uintptr_t)test_thread_join(thread), 1);
}

static void detaching_answers_for_a_thread_that_is_waited_for(void **state) {
  (void)state;
  memset(&order, 0, sizeof order);
  gyre_thread_attach();
  pthread_t thread = test_thread_start(synchronizes, NULL);
  TEST_AWAIT(is_asked(gyre__thread_current(), GYRE__REQ_HANDSHAKE) || test_flag_get(&order.done));
  test_flag_set(&order.passed, 1);
  gyre_thread_detach();
  assert_int_equal((uintptr_t)test_thread_join(thread), 1);
}

static void synchronize_does_not_wait_for_parked_exited_and_unattached_threads(void **state) {
  (void)state;
  gyre_thread_attach();
  test_thread_run(synchronizes, NULL);
  struct puppet parked;
  puppet_start(&parked);
  uint64_t before = test_thread_stats().grace_periods;
  assert_int_equal(gyre_synchronize(), 0); /* would never return */
  assert_true(test_thread_stats().grace_periods > before);
  puppet_stop(&parked);
  gyre_thread_detach();
  test_thread_run(synchronizes, NULL);
}

static void what_was_taken_out_before_the_call_is_seen_by_nobody_after_it(void **state) {
  (void)state;
  gyre_thread_attach();
  uint64_t first = gyre__grace_ticket();
  assert_false(gyre__grace_done(first));
  assert_int_equal(gyre_synchronize(), 0);
  assert_true(gyre__grace_done(first));
  uint64_t second = gyre__grace_ticket();
  assert_true(second > first);
  assert_false(gyre__grace_done(second));
}

static void *waits_a_little(void *arg) {
  (void)arg;
  gyre_thread_attach();
  bool done = gyre__grace_wait(gyre__grace_ticket(), 1000000);
  test_flag_set(&order.done, 1);
  return (void *)(uintptr_t)done;
}

static void a_wait_with_a_time_limit_gives_up(void **state) {
  (void)state;
  memset(&order, 0, sizeof order);
  gyre_thread_attach();
  pthread_t thread = test_thread_start(waits_a_little, NULL);
  TEST_AWAIT(test_flag_get(&order.done)); /* without a safepoint */
  assert_int_equal((uintptr_t)test_thread_join(thread), 0);
  assert_int_equal(gyre_synchronize(), 0);
}

enum { SYNCHRONIZERS = 4, ROUNDS = 50 };

static void *synchronizes_often(void *arg) {
  (void)arg;
  for (unsigned i = 0; i < ROUNDS; i++) {
    uint64_t ticket = gyre__grace_ticket();
    TEST_REQUIRE(gyre_synchronize() == 0);
    TEST_REQUIRE(gyre__grace_done(ticket));
  }
  return NULL;
}

static void many_threads_may_synchronize_at_once(void **state) {
  (void)state;
  pthread_t threads[SYNCHRONIZERS];
  for (unsigned i = 0; i < SYNCHRONIZERS; i++)
    threads[i] = test_thread_start(synchronizes_often, NULL);
  synchronizes_often(NULL);
  for (unsigned i = 0; i < SYNCHRONIZERS; i++)
    test_thread_join(threads[i]);
}

/* ---- deferred work ---- */

struct work {
  struct gyre__deferred node;
  unsigned ran_as; /* 0: not yet */
  uint32_t ran_by, made_by;
};
static unsigned works_run;

static void work_run(struct gyre__thread *self, struct gyre__deferred *deferred) {
  struct work *work = (struct work *)deferred;
  work->ran_as = ++works_run;
  work->ran_by = self->base.id;
}

static void deferred_work_runs_at_a_safepoint_after_a_grace_period_in_order(void **state) {
  (void)state;
  struct work works[3] = {{.ran_as = 0}};
  works_run = 0;
  gyre_thread_attach();
  struct gyre__thread *self = gyre__thread_current();
  for (unsigned i = 0; i < 3; i++)
    gyre__defer(self, &works[i].node, work_run);
  assert_int_equal(works_run, 0);
  while (works_run < 3)
    gyre_safepoint();
  for (unsigned i = 0; i < 3; i++)
    assert_int_equal(works[i].ran_as, i + 1);
}

static struct { test_event running, go; } stalled = {TEST_EVENT_INIT, TEST_EVENT_INIT};

/* Runs without a safepoint from `running` to `go`. */
static void *stalls(void *arg) {
  TEST_REQUIRE(gyre_thread_set_name(arg) == 0);
  test_event_set(&stalled.running);
  test_event_wait(&stalled.go);
  gyre_safepoint();
  return NULL;
}

static pthread_t stalled_start(const char *name) {
  test_event_reset(&stalled.running);
  test_event_reset(&stalled.go);
  pthread_t thread = test_thread_start(stalls, (void *)(uintptr_t)name);
  test_event_wait_parked(&stalled.running);
  return thread;
}

static void deferred_work_does_not_run_before_a_running_thread_has_answered(void **state) {
  (void)state;
  struct work work = {.ran_as = 0};
  works_run = 0;
  gyre_thread_attach();
  pthread_t thread = stalled_start("stalled");
  gyre__defer(gyre__thread_current(), &work.node, work_run);
  for (unsigned i = 0; i < 1000; i++)
    gyre_safepoint();
  assert_int_equal(works_run, 0);
  test_event_set(&stalled.go);
  test_thread_join(thread);
  while (works_run < 1)
    gyre_safepoint();
}

static void defers(void *arg) {
  struct work *work = arg;
  work->made_by = gyre_thread_current()->id;
  gyre__defer(gyre__thread_current(), &work->node, work_run);
}

static void *defers_and_ends(void *arg) {
  gyre_thread_attach();
  defers(arg);
  return NULL;
}

static void deferred_work_of_idle_threads_is_done_by_others(void **state) {
  (void)state;
  struct work works[2] = {{.ran_as = 0}};
  works_run = 0;
  gyre_thread_attach();
  struct puppet parked;
  puppet_start(&parked);
  puppet_run_parked(&parked, defers, &works[0]);
  test_thread_run(defers_and_ends, &works[1]);
  while (works_run < 2) {
    gyre_synchronize();
    gyre_safepoint();
  }
  assert_int_not_equal(works[0].ran_by, works[0].made_by);
  puppet_stop(&parked);
}

/* ---- stall reports ---- */

/* "... thread "NAME" (ID) has passed no safepoint for S.MMM s; a grace period waits for it" */
static void assert_reports(const char *line, const char *name) {
  char expected[64];
  snprintf(expected, sizeof expected, "thread \"%s\" (", name);
  const char *at = strstr(line, expected);
  assert_non_null(at);
  unsigned id = 0, s = 0, ms = 0;
  assert_int_equal(
      sscanf(at + strlen(expected), "%u) has passed no safepoint for %u.%u s;", &id, &s, &ms), 3);
  assert_true(id != 0);
  assert_true(s * 1000 + ms >= 20);
  assert_non_null(strstr(at, "waits for it"));
}

static void assert_statistics_name(const char *name, uint64_t stalls_before) {
  struct gyre_thread_stats s = test_thread_stats();
  assert_true(s.stalls > stalls_before);
  assert_true(s.longest_stall_ns >= 20000000);
  assert_string_equal(s.stalled_thread, name);
}

static void *synchronizes_once(void *arg) {
  (void)arg;
  TEST_REQUIRE(gyre_synchronize() == 0);
  return NULL;
}

static void a_thread_that_holds_up_a_grace_period_is_named(void **state) {
  (void)state;
  char line[256];
  test_log_capture();
  uint64_t before = test_thread_stats().stalls;
  pthread_t thread = stalled_start("sleeper one");
  pthread_t waiter = test_thread_start(synchronizes_once, NULL);
  test_log_await("sleeper one", line, sizeof line);
  test_event_set(&stalled.go);
  test_thread_join(thread);
  test_thread_join(waiter);
  assert_reports(line, "sleeper one");
  assert_statistics_name("sleeper one", before);
}

static void *collects_once(void *arg) {
  (void)arg;
  TEST_REQUIRE(gyre_gc_collect(0) >= 0);
  return NULL;
}

static void a_thread_that_holds_up_a_stop_is_named(void **state) {
  (void)state;
  char line[256];
  test_log_capture();
  uint64_t before = test_thread_stats().stalls;
  pthread_t thread = stalled_start("sleeper two");
  pthread_t collector = test_thread_start(collects_once, NULL);
  test_log_await("sleeper two", line, sizeof line);
  test_event_set(&stalled.go);
  test_thread_join(thread);
  test_thread_join(collector);
  assert_reports(line, "sleeper two");
  assert_statistics_name("sleeper two", before);
}

static void parked_threads_are_not_reported(void **state) {
  (void)state;
  char line[256];
  test_log_capture();
  gyre_thread_attach();
  struct puppet parked;
  puppet_start(&parked);
  pthread_t thread = stalled_start("the only one");
  pthread_t waiter = test_thread_start(synchronizes_once, NULL);
  gyre_park();
  test_log_await("stall", line, sizeof line);
  gyre_unpark();
  test_event_set(&stalled.go);
  test_thread_join(thread);
  test_thread_join(waiter);
  assert_int_equal(test_log_count("stall"), test_log_count("the only one"));
  puppet_stop(&parked);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(synchronize_waits_for_a_thread_that_runs),
      TEST(parking_answers_for_a_thread_that_is_waited_for),
      TEST(detaching_answers_for_a_thread_that_is_waited_for),
      TEST(synchronize_does_not_wait_for_parked_exited_and_unattached_threads),
      TEST(what_was_taken_out_before_the_call_is_seen_by_nobody_after_it),
      TEST(a_wait_with_a_time_limit_gives_up),
      TEST(many_threads_may_synchronize_at_once),
      TEST(deferred_work_runs_at_a_safepoint_after_a_grace_period_in_order),
      TEST(deferred_work_does_not_run_before_a_running_thread_has_answered),
      TEST(deferred_work_of_idle_threads_is_done_by_others),
      TEST_WITH(a_thread_that_holds_up_a_grace_period_is_named, "stall_ms:20"),
      TEST_WITH(a_thread_that_holds_up_a_stop_is_named, "stall_ms:20"),
      TEST_WITH(parked_threads_are_not_reported, "stall_ms:20"),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
