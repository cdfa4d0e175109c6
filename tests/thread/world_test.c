/* SPDX-License-Identifier: MIT */
/* Stopping the world: who is stopped, who may not come back, and that everybody gets on between two
 * stops. */
#include "lib/thread/thread.h"
#include "tests/support/node.h"
#include "tests/support/puppet.h"

static bool is_asked(struct gyre__thread *slot, uint32_t request) {
  /* seq_cst: another thread sets the bit; pairs with gyre__thread_request(). */
  return gyre__load_seq_cst(&slot->base.request) & request;
}

static uint32_t state_of(struct gyre__thread *slot) {
  /* seq_cst: pairs with state_set() in lib/thread. */
  return gyre__load_seq_cst(&slot->state) & GYRE__SLOT_STATE;
}

/* The thread ran on a processor while it was told not to. */
static struct {
  test_flag stopped; /* the world is stopped */
  test_flag seen_running;
  test_flag ready;
  test_flag quit;
  test_event go;
} world = {.go = TEST_EVENT_INIT};

static void world_reset(void) {
  test_flag_set(&world.stopped, 0);
  test_flag_set(&world.seen_running, 0);
  test_flag_set(&world.ready, 0);
  test_flag_set(&world.quit, 0);
  test_event_reset(&world.go);
}

/* Whenever this is called the world must be running: nobody may have stopped it and not resumed it.
 */
static void i_am_running(void) {
  if (test_flag_get(&world.stopped)) test_flag_set(&world.seen_running, 1);
}

static void stop(void) {
  gyre__world_stop(gyre__thread_current());
  test_flag_set(&world.stopped, 1);
}

static void resume(void) {
  test_flag_set(&world.stopped, 0);
  gyre__world_resume(gyre__thread_current());
}

/* ---- who stops ---- */

static void *runs_with_safepoints(void *arg) {
  (void)arg;
  gyre_thread_attach();
  test_flag_add(&world.ready, 1);
  while (!test_flag_get(&world.quit)) {
    gyre_safepoint();
    i_am_running();
    gyre_release(node_new(&plain_type, 1));
    i_am_running();
    (void)sched_yield();
  }
  return NULL;
}

static void running_threads_stop_at_their_safepoints(void **state) {
  (void)state;
  enum { THREADS = 3, STOPS = 100 };
  world_reset();
  gyre_thread_attach();
  pthread_t threads[THREADS];
  for (unsigned i = 0; i < THREADS; i++)
    threads[i] = test_thread_start(runs_with_safepoints, NULL);
  TEST_AWAIT_SAFELY(test_flag_get(&world.ready) == THREADS);
  uint64_t before = test_thread_stats().stops;
  for (unsigned i = 0; i < STOPS; i++) {
    stop();
    assert_true(gyre__world_is_stopped());
    for (uint32_t id = 1; id <= gyre__thread_slot_count(); id++)
      if (gyre__thread_slot(id) != gyre__thread_current())
        assert_int_not_equal(state_of(gyre__thread_slot(id)), GYRE__SLOT_RUNNING);
    (void)sched_yield();
    resume();
  }
  test_flag_set(&world.quit, 1);
  for (unsigned i = 0; i < THREADS; i++)
    test_thread_join(threads[i]);
  assert_false(test_flag_get(&world.seen_running));
  assert_int_equal(test_thread_stats().stops, before + STOPS);
}

static void *stops_once(void *arg) {
  test_flag *passed = arg;
  gyre_thread_attach();
  stop();
  uint32_t seen = test_flag_get(passed);
  resume();
  return (void *)(uintptr_t)seen;
}

static void a_stop_waits_for_a_thread_that_runs(void **state) {
  (void)state;
  test_flag passed = {0};
  world_reset();
  gyre_thread_attach();
  pthread_t thread = test_thread_start(stops_once, &passed);
  TEST_AWAIT(is_asked(gyre__thread_current(), GYRE__REQ_STOP) || test_flag_get(&world.stopped));
  test_flag_set(&passed, 1);
  gyre_safepoint();
  assert_int_equal((uintptr_t)test_thread_join(thread), 1);
}

static void a_stop_does_not_wait_for_a_thread_that_is_parked(void **state) {
  (void)state;
  gyre_thread_attach();
  struct puppet parked;
  puppet_start(&parked);
  stop(); /* would never return */
  resume();
  puppet_stop(&parked);
}

/* ---- who may not come back ---- */

static void *unparks_when_told(void *arg) {
  (void)arg;
  gyre_thread_attach();
  gyre_park();
  test_flag_set(&world.ready, 1);
  test_event_wait(&world.go);
  gyre_unpark();
  i_am_running();
  test_flag_set(&world.ready, 2);
  return NULL;
}

static void *attaches_when_told(void *arg) {
  (void)arg;
  test_flag_set(&world.ready, 1);
  test_event_wait(&world.go);
  gyre_thread_attach();
  i_am_running();
  test_flag_set(&world.ready, 2);
  return NULL;
}

static void nobody_comes_back_into_a_stopped_world(void *(*body)(void *)) {
  world_reset();
  gyre_thread_attach();
  pthread_t thread = test_thread_start(body, NULL);
  TEST_AWAIT(test_flag_get(&world.ready) == 1);
  stop();
  test_event_set(&world.go);
  /* It waits, or it has come through. */
  TEST_AWAIT(gyre__world_waiters() == 1 || test_flag_get(&world.ready) == 2);
  assert_int_equal(test_flag_get(&world.ready), 1);
  resume();
  test_thread_join(thread);
  assert_false(test_flag_get(&world.seen_running));
}

static void a_parked_thread_does_not_come_back_into_a_stopped_world(void **state) {
  (void)state;
  nobody_comes_back_into_a_stopped_world(unparks_when_told);
}

static void a_new_thread_does_not_attach_in_a_stopped_world(void **state) {
  (void)state;
  nobody_comes_back_into_a_stopped_world(attaches_when_told);
}

static void asks_for_figures(void) {
  struct gyre_heap_stats stats = {.size = sizeof stats};
  test_flag_set(&world.ready, 1);
  test_event_wait(&world.go);
  TEST_REQUIRE(gyre_heap_get_stats(&stats) == 0);
  i_am_running();
  test_flag_set(&world.ready, 2);
}

static void *asks_parked(void *arg) {
  (void)arg;
  gyre_thread_attach();
  GYRE_PARKED {
    asks_for_figures();
    TEST_REQUIRE(state_of(gyre__thread_current()) == GYRE__SLOT_PARKED);
  }
  return NULL;
}

static void *asks_unattached(void *arg) {
  (void)arg;
  asks_for_figures();
  TEST_REQUIRE(gyre_thread_current() == NULL);
  return NULL;
}

static void nobody_looks_at_the_heaps_of_a_stopped_world(void **state) {
  (void)state;
  nobody_comes_back_into_a_stopped_world(asks_parked);
  nobody_comes_back_into_a_stopped_world(asks_unattached);
}

/* ---- one at a time, and fair ---- */

enum { STOPPERS = 4, STOPS_EACH = 100 };
static test_flag inside;

static void *stops_often(void *arg) {
  (void)arg;
  gyre_thread_attach();
  for (unsigned i = 0; i < STOPS_EACH; i++) {
    gyre__world_stop(gyre__thread_current());
    TEST_REQUIRE(test_flag_add(&inside, 1) == 1);
    (void)sched_yield();
    test_flag_add(&inside, UINT32_MAX);
    gyre__world_resume(gyre__thread_current());
  }
  return NULL;
}

static void one_thread_stops_the_world_at_a_time(void **state) {
  (void)state;
  pthread_t threads[STOPPERS];
  for (unsigned i = 0; i < STOPPERS; i++)
    threads[i] = test_thread_start(stops_often, NULL);
  for (unsigned i = 0; i < STOPPERS; i++)
    test_thread_join(threads[i]);
}

static void *counts_stops_until_it_runs(void *arg) {
  (void)arg;
  gyre_thread_attach();
  gyre_park();
  test_flag_set(&world.ready, 1);
  test_event_wait(&world.go);
  gyre_unpark();
  return (void *)(uintptr_t)gyre__world_stops();
}

/* Many stops without a pause between them. The thread waits for the end of the first. The second
 * may find it before it has left gyre_unpark(), which is a safepoint; the third waits until it has.
 * Without the count of waiters dozens of stops begin and end before a thread that has just been
 * woken gets a processor. */
static void no_second_stop_begins_before_everyone_who_waited_for_the_first_has_run(void **state) {
  (void)state;
  enum { TIMES = 20, STOPS = 100 };
  gyre_thread_attach();
  for (unsigned i = 0; i < TIMES; i++) {
    world_reset();
    pthread_t thread = test_thread_start(counts_stops_until_it_runs, NULL);
    TEST_AWAIT(test_flag_get(&world.ready) == 1);
    stop();
    test_event_set(&world.go);
    TEST_AWAIT(gyre__world_waiters() == 1);
    uint64_t first = gyre__world_stops();
    resume();
    for (unsigned s = 0; s < STOPS; s++) {
      stop();
      resume();
    }
    uint64_t seen = (uintptr_t)test_thread_join(thread);
    assert_in_range(seen, first, first + 1);
  }
}

enum { PARKS = 200 };

static void *parks_often(void *arg) {
  (void)arg;
  gyre_thread_attach();
  for (unsigned i = 0; i < PARKS; i++) {
    GYRE_BLOCKING { (void)sched_yield(); }
    gyre_release(node_new(&plain_type, i));
  }
  test_flag_set(&world.quit, 1);
  return NULL;
}

static void *collects_without_pause(void *arg) {
  (void)arg;
  uint64_t collections = 0;
  while (!test_flag_get(&world.quit)) {
    TEST_REQUIRE(gyre_gc_collect(0) >= 0);
    collections++;
  }
  return (void *)(uintptr_t)collections;
}

/* Two collectors, so that there is a stop nearly all the time. */
static void collections_without_a_pause_let_a_thread_unpark_each_time(void **state) {
  (void)state;
  world_reset();
  pthread_t collectors[2];
  for (unsigned i = 0; i < 2; i++)
    collectors[i] = test_thread_start(collects_without_pause, NULL);
  test_thread_run(parks_often, NULL);
  for (unsigned i = 0; i < 2; i++)
    test_thread_join(collectors[i]);
}

static struct {
  test_event ready, go;
  struct gyre__thread *slot;
} stalled = {TEST_EVENT_INIT, TEST_EVENT_INIT, NULL};

static void *stalls(void *arg) {
  (void)arg;
  stalled.slot = (struct gyre__thread *)gyre_thread_attach();
  test_event_set(&stalled.ready);
  test_event_wait(&stalled.go);
  gyre_safepoint();
  return NULL;
}

static void a_thread_that_passes_no_safepoint_holds_up_the_stop_but_not_the_others(void **state) {
  (void)state;
  world_reset();
  test_event_reset(&stalled.ready);
  test_event_reset(&stalled.go);
  gyre_thread_attach();
  pthread_t thread = test_thread_start(stalls, NULL);
  test_event_wait_parked(&stalled.ready);
  pthread_t collector = test_thread_start(collects_without_pause, NULL);
  TEST_AWAIT_SAFELY(is_asked(stalled.slot, GYRE__REQ_STOP));
  test_thread_run(parks_often,
                  NULL); /* would never end; has the collector end after this collection */
  test_event_set(&stalled.go);
  test_thread_join(thread);
  assert_int_equal((uintptr_t)test_thread_join(collector), 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(running_threads_stop_at_their_safepoints),
      TEST(a_stop_waits_for_a_thread_that_runs),
      TEST(a_stop_does_not_wait_for_a_thread_that_is_parked),
      TEST(a_parked_thread_does_not_come_back_into_a_stopped_world),
      TEST(a_new_thread_does_not_attach_in_a_stopped_world),
      TEST(nobody_looks_at_the_heaps_of_a_stopped_world),
      TEST(one_thread_stops_the_world_at_a_time),
      TEST(no_second_stop_begins_before_everyone_who_waited_for_the_first_has_run),
      TEST_WITH(collections_without_a_pause_let_a_thread_unpark_each_time, "gc_mode:stw"),
      TEST_WITH(a_thread_that_passes_no_safepoint_holds_up_the_stop_but_not_the_others,
                "gc_mode:stw"),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
