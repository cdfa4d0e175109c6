/* SPDX-License-Identifier: MIT */
/* The race windows of threads and counts, held open one by one while the other side does its step.
 */
#include "lib/object/object.h"
#include "tests/support/node.h"
#include "tests/support/puppet.h"
#include "tests/support/window.h"

static bool is_asked(struct gyre__thread *slot, uint32_t request) {
  /* seq_cst: another thread sets the bit; pairs with gyre__thread_request(). */
  return gyre__load_seq_cst(&slot->base.request) & request;
}

static uint32_t state_of(struct gyre__thread *slot) {
  /* seq_cst: pairs with state_set() in lib/thread. */
  return gyre__load_seq_cst(&slot->state);
}

static void becomes_subject(void *arg) {
  (void)arg;
  test_window_subject();
}

/* A puppet that windows may hold. */
static void subject_start(struct puppet *p) {
  gyre_thread_attach();
  puppet_start(p);
  puppet_run_parked(p, becomes_subject, NULL);
}

/* ---- thread/idle and thread/idled: going idle ---- */

/* A thread with a node, who goes idle when told. */
static struct {
  node *n;
  struct gyre__thread *slot;
  test_event ready, go, idle, end;
  uint32_t idle_state;
} leaver = {NULL,
            NULL,
            TEST_EVENT_INIT,
            TEST_EVENT_INIT,
            TEST_EVENT_INIT,
            TEST_EVENT_INIT,
            GYRE__SLOT_PARKED};

static void *leaves(void *detach) {
  leaver.n = node_new(&node_type, 1);
  leaver.slot = gyre__thread_current();
  test_event_set(&leaver.ready);
  test_event_wait(&leaver.go);
  test_window_subject();
  if (detach != NULL)
    gyre_thread_detach();
  else
    gyre_park();
  test_event_set(&leaver.idle);
  test_event_wait(&leaver.end);
  if (detach == NULL) gyre_unpark();
  return NULL;
}

static pthread_t leaver_start(void *detach) {
  test_event_reset(&leaver.ready);
  test_event_reset(&leaver.go);
  test_event_reset(&leaver.idle);
  test_event_reset(&leaver.end);
  gyre_thread_attach();
  pthread_t thread = test_thread_start(leaves, detach);
  test_event_wait_parked(&leaver.ready);
  return thread;
}

static void *const DETACH = (void *)1;

static void what_is_left_before_a_thread_is_idle_is_done_by_that_thread(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  for (int detach = 0; detach < 2; detach++) {
    uint64_t before = nodes_destroyed();
    pthread_t thread = leaver_start(detach ? DETACH : NULL);
    test_window_hold("thread/idle", 1);
    test_event_set(&leaver.go);
    test_window_await();
    gyre_release(leaver.n); /* its owner seems to run */
    assert_int_equal(nodes_destroyed(), before);
    test_window_release();
    test_event_wait(&leaver.idle);
    assert_int_equal(nodes_destroyed(), before + 1);
    test_event_set(&leaver.end);
    test_thread_join(thread);
  }
}

static void what_is_left_once_a_thread_is_idle_is_done_by_who_leaves_it(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  for (int detach = 0; detach < 2; detach++) {
    uint64_t before = nodes_destroyed();
    pthread_t thread = leaver_start(detach ? DETACH : NULL);
    test_window_hold("thread/idled", 1);
    test_event_set(&leaver.go);
    test_window_await();
    gyre_release(leaver.n);
    assert_int_equal(nodes_destroyed(), before + 1);
    test_window_release();
    test_event_set(&leaver.end);
    test_thread_join(thread);
  }
}

static void *synchronizes(void *arg) {
  (void)arg;
  TEST_REQUIRE(gyre_synchronize() == 0);
  return NULL;
}

static void a_thread_that_is_asked_before_it_is_idle_answers(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  for (int detach = 0; detach < 2; detach++) {
    pthread_t thread = leaver_start(detach ? DETACH : NULL);
    test_window_hold("thread/idle", 1);
    test_event_set(&leaver.go);
    test_window_await();
    pthread_t waiter = test_thread_start(synchronizes, NULL);
    TEST_AWAIT_SAFELY(is_asked(leaver.slot, GYRE__REQ_HANDSHAKE));
    test_window_release();
    test_thread_join(waiter);
    test_event_set(&leaver.end);
    test_thread_join(thread);
    gyre_release(leaver.n);
  }
}

static void a_thread_that_is_idle_need_not_be_asked(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  for (int detach = 0; detach < 2; detach++) {
    pthread_t thread = leaver_start(detach ? DETACH : NULL);
    test_window_hold("thread/idled", 1);
    test_event_set(&leaver.go);
    test_window_await();
    assert_int_equal(gyre_synchronize(), 0);
    gyre__world_stop(gyre__thread_current());
    gyre__world_resume(gyre__thread_current());
    test_window_release();
    test_event_set(&leaver.end);
    test_thread_join(thread);
    gyre_release(leaver.n);
  }
}

static test_flag passed;

static void stops(void *seen) {
  gyre__world_stop(gyre__thread_current());
  *(uint32_t *)seen = test_flag_get(&passed);
  gyre__world_resume(gyre__thread_current());
}

static void a_stop_waits_for_a_thread_that_is_about_to_be_idle(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  uint32_t seen = 0;
  test_flag_set(&passed, 0);
  pthread_t thread = leaver_start(NULL);
  struct puppet stopper;
  puppet_start(&stopper);
  test_window_hold("thread/idle", 1);
  test_event_set(&leaver.go);
  test_window_await();
  gyre_park();
  puppet_begin(&stopper, stops, &seen);
  TEST_AWAIT(is_asked(leaver.slot, GYRE__REQ_STOP));
  test_flag_set(&passed, 1);
  test_window_release();
  gyre_unpark();
  puppet_await(&stopper);
  assert_int_equal(seen, 1);
  test_event_set(&leaver.end);
  test_thread_join(thread);
  puppet_stop(&stopper);
  gyre_release(leaver.n);
}

/* ---- thread/enter: coming back ---- */

static test_flag is_back, given_back;

static void *unparks(void *arg) {
  gyre_thread_attach();
  leaver.slot = gyre__thread_current();
  gyre_park();
  test_window_subject();
  test_event_set(arg);
  gyre_unpark();
  uint32_t seen = test_flag_get(&given_back);
  test_flag_set(&is_back, 1);
  return (void *)(uintptr_t)seen;
}

static pthread_t unparker_start(void) {
  test_event ready = TEST_EVENT_INIT;
  test_flag_set(&is_back, 0);
  test_flag_set(&given_back, 0);
  gyre_thread_attach();
  test_window_hold("thread/enter", 1);
  pthread_t thread = test_thread_start(unparks, &ready);
  test_event_wait_parked(&ready);
  test_window_await();
  return thread;
}

static void a_thread_that_comes_back_while_the_world_is_stopped_goes_away_again(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  pthread_t thread = unparker_start();
  gyre__world_stop(gyre__thread_current()); /* does not wait for it: it is still parked */
  test_window_release();
  TEST_AWAIT(gyre__world_waiters() == 1 || test_flag_get(&is_back));
  assert_false(test_flag_get(&is_back));
  TEST_AWAIT((state_of(leaver.slot) & GYRE__SLOT_STATE) == GYRE__SLOT_PARKED);
  test_flag_set(&given_back, 1);
  gyre__world_resume(gyre__thread_current());
  assert_int_equal((uintptr_t)test_thread_join(thread), 1);
}

static void a_thread_that_comes_back_waits_until_its_slot_is_given_back(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  pthread_t thread = unparker_start();
  assert_true(gyre__thread_try_take(leaver.slot));
  test_window_release();
  TEST_AWAIT(state_of(leaver.slot) & GYRE__SLOT_WAITED || test_flag_get(&is_back));
  test_flag_set(&given_back, 1);
  gyre__thread_give_back(leaver.slot);
  assert_int_equal((uintptr_t)test_thread_join(thread), 1);
}

static void a_slot_cannot_be_taken_twice_nor_from_a_thread_that_runs(void **state) {
  (void)state;
  gyre_thread_attach();
  struct puppet parked;
  puppet_start(&parked);
  assert_false(gyre__thread_try_take(gyre__thread_current()));
  assert_false(gyre__thread_take(gyre__thread_current()));
  unsigned taken = 0;
  for (uint32_t id = 1; id <= gyre__thread_slot_count(); id++) {
    struct gyre__thread *slot = gyre__thread_slot(id);
    if (!gyre__thread_try_take(slot)) continue;
    assert_false(gyre__thread_try_take(slot));
    gyre__thread_give_back(slot);
    assert_true(gyre__thread_take_counts(slot));
    gyre__thread_give_back(slot);
    taken++;
  }
  assert_int_equal(taken, gyre__thread_slot_count() - 1);
  puppet_stop(&parked);
}

/* ---- grace/begun and grace/asked ---- */

static void *synchronizes_as_subject(void *arg) {
  (void)arg;
  gyre_thread_attach();
  test_window_subject();
  TEST_REQUIRE(gyre_synchronize() == 0);
  return NULL;
}

/* How the thread that is asked answers, while the asker has not yet looked at it again. */
static void answers_by_safepoint(void) { gyre_safepoint(); }
static void answers_by_parking(void) {
  gyre_park();
  gyre_unpark();
}
static void answers_by_detaching(void) {
  gyre_thread_detach();
  gyre_thread_attach();
}

static void an_answer_counts_once_however_soon_it_comes(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  static void (*const answers[])(void) = {answers_by_safepoint, answers_by_parking,
                                          answers_by_detaching};
  gyre_thread_attach();
  for (unsigned i = 0; i < 3; i++) {
    uint64_t before = test_thread_stats().grace_periods;
    /* The asker goes through the slots in their order, and ours is the first. */
    assert_int_equal(gyre_thread_current()->id, 1);
    test_window_hold("grace/asked", 1);
    pthread_t thread = test_thread_start(synchronizes_as_subject, NULL);
    test_window_await();
    assert_true(is_asked(gyre__thread_current(), GYRE__REQ_HANDSHAKE));
    answers[i]();
    assert_false(is_asked(gyre__thread_current(), GYRE__REQ_HANDSHAKE));
    assert_int_equal(test_thread_stats().grace_periods, before);
    test_window_release();
    test_thread_join(thread);
    assert_int_equal(test_thread_stats().grace_periods, before + 1);
    assert_int_equal(gyre_synchronize(), 0);
  }
}

static struct { test_event ready, go; } bystander = {TEST_EVENT_INIT, TEST_EVENT_INIT};

static void *runs_without_safepoint(void *arg) {
  (void)arg;
  gyre_thread_attach();
  test_event_set(&bystander.ready);
  test_event_wait(&bystander.go);
  return NULL;
}

static void *waits_a_little_as_subject(void *arg) {
  (void)arg;
  gyre_thread_attach();
  test_window_subject();
  return (void *)(uintptr_t)gyre__grace_wait(gyre__grace_ticket(), 20000000);
}

/* We answer by parking, and then the asker finds us idle: that must not count for the third
 * thread's answer. */
static void an_answer_by_parking_is_not_counted_again_by_the_asker(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  test_event_reset(&bystander.ready);
  test_event_reset(&bystander.go);
  gyre_thread_attach();
  assert_int_equal(gyre_thread_current()->id, 1);
  pthread_t running = test_thread_start(runs_without_safepoint, NULL);
  test_event_wait_parked(&bystander.ready);
  test_window_hold("grace/asked", 1);
  pthread_t thread = test_thread_start(waits_a_little_as_subject, NULL);
  test_window_await();
  gyre_park();
  test_window_release();
  void *done;
  assert_int_equal(pthread_join(thread, &done), 0);
  assert_int_equal((uintptr_t)done, 0);
  gyre_unpark();
  test_event_set(&bystander.go);
  test_thread_join(running);
  assert_int_equal(gyre_synchronize(), 0);
}

static void a_ticket_taken_after_a_grace_period_has_begun_is_not_covered_by_it(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  gyre_thread_attach();
  test_window_hold("grace/begun", 1);
  uint64_t before = gyre__grace_ticket();
  pthread_t thread = test_thread_start(synchronizes_as_subject, NULL);
  test_window_await();
  uint64_t during = gyre__grace_ticket();
  test_window_release();
  test_thread_join(thread);
  assert_true(gyre__grace_done(before));
  assert_false(gyre__grace_done(during));
}

/* ---- world/stopping ---- */

static void *stops_as_subject(void *arg) {
  (void)arg;
  gyre_thread_attach();
  test_window_subject();
  gyre__world_stop(gyre__thread_current());
  uint32_t seen = test_flag_get(&is_back);
  test_flag_set(&given_back, 1);
  gyre__world_resume(gyre__thread_current());
  return (void *)(uintptr_t)seen;
}

static void *attaches(void *arg) {
  (void)arg;
  gyre_thread_attach();
  uint32_t seen = test_flag_get(&given_back);
  test_flag_set(&is_back, 1);
  return (void *)(uintptr_t)seen;
}

static void a_thread_that_comes_before_it_can_be_asked_waits_for_the_stop_to_end(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  gyre_thread_detach();
  test_flag_set(&is_back, 0);
  test_flag_set(&given_back, 0);
  test_window_hold("world/stopping", 1);
  pthread_t stopper = test_thread_start(stops_as_subject, NULL);
  test_window_await();
  pthread_t thread = test_thread_start(attaches, NULL);
  TEST_AWAIT(gyre__world_waiters() == 1 || test_flag_get(&is_back));
  test_window_release();
  assert_int_equal((uintptr_t)test_thread_join(stopper), 0);
  assert_int_equal((uintptr_t)test_thread_join(thread), 1);
}

/* ---- refcount/queued and merge/pushed: leaving a count to the owner ---- */

static void releases(void *n) { gyre_release(n); }
static void retains(void *n) { (void)gyre_retain((node *)n); }

static void an_object_may_die_before_its_merge_request_is_sent(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  struct puppet other, third;
  subject_start(&other);
  puppet_start(&third);
  node *n = node_new(&node_type, 1);
  gyre_retain(n); /* the other's */
  test_window_hold("refcount/queued", 1);
  puppet_begin(&other, releases, n);
  test_window_await();
  puppet_run(&third, retains, n); /* ours, but counted in the shared word */
  gyre_release(n);
  assert_int_equal(nodes_destroyed(), 0);
  gyre_release(n); /* the request's reference is closed by our merge */
  assert_int_equal(nodes_destroyed(), 1);
  node *reused = node_new(&node_type, 2);
  test_window_release();
  puppet_await(&other);
  gyre_safepoint(); /* finds nothing to merge, in particular not the new object */
  assert_int_equal(nodes_destroyed(), 1);
  assert_int_equal(gyre_refcount(reused), 1);
  gyre_release(reused);
  puppet_stop(&third);
  puppet_stop(&other);
}

static void a_request_that_is_sent_late_is_served_late(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  struct puppet other;
  subject_start(&other);
  node *n = node_new(&node_type, 1);
  test_window_hold("refcount/queued", 1);
  puppet_begin(&other, releases, n);
  test_window_await();
  gyre_safepoint();
  gyre_park();
  gyre_unpark();
  assert_int_equal(nodes_destroyed(), 0);
  test_window_release();
  puppet_await(&other);
  gyre_safepoint();
  assert_int_equal(nodes_destroyed(), 1);
  puppet_stop(&other);
}

static void an_owner_who_parks_before_it_is_told_of_a_request_serves_it(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  struct puppet other;
  subject_start(&other);
  node *n = node_new(&node_type, 1);
  test_window_hold("merge/pushed", 1);
  puppet_begin(&other, releases, n);
  test_window_await();
  gyre_park();
  assert_int_equal(nodes_destroyed(), 1);
  test_window_release();
  puppet_await(&other);
  gyre_unpark();
  assert_int_equal(nodes_destroyed(), 1);
  puppet_stop(&other);
}

static void two_requests_for_one_page_are_both_served(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  struct puppet other, third;
  subject_start(&other);
  puppet_start(&third);
  node *a = node_new(&node_type, 1), *b = node_new(&node_type, 2);
  test_window_hold("merge/pushed", 1);
  puppet_begin(&other, releases, a);
  test_window_await();
  puppet_run(&third, releases, b); /* the page is on the stack already */
  test_window_release();
  puppet_await(&other);
  gyre_safepoint();
  assert_int_equal(nodes_destroyed(), 2);
  puppet_stop(&third);
  puppet_stop(&other);
}

/* ---- refcount/local_zero, slot/load, slot/counted: loads against the last release ---- */

/* We load from holder->next while its node's owner, a puppet, takes it out and drops it. */
static struct {
  node *holder;
  struct puppet owner;
  node *loaded_from; /* the node that was in the slot */
  node *reused;
} scene;

static void puts_a_node(void *arg) {
  (void)arg;
  node *n = node_new(&node_type, 1);
  scene.loaded_from = n;
  gyre_store(&scene.holder->next, n);
  gyre_release(n);
}

static void takes_and_drops(void *arg) {
  (void)arg;
  gyre_release(gyre_take(&scene.holder->next));
}

static void takes_drops_and_reuses(void *arg) {
  test_reuse_last();
  takes_and_drops(arg);
  TEST_REQUIRE(nodes_destroyed() == 1);
  scene.reused = node_new(&node_type, 2);
}

static void scene_begin(void) {
  gyre_thread_attach();
  scene.holder = node_new(&plain_type, 0);
  puppet_start(&scene.owner);
  puppet_run_parked(&scene.owner, puts_a_node, NULL);
  test_window_subject();
}

static void scene_end(void) {
  puppet_stop(&scene.owner);
  gyre_release(scene.holder);
}

static void owner_drops(void *arg) {
  (void)arg;
  puppet_run(&scene.owner, takes_and_drops, NULL);
}

static void owner_drops_and_reuses(void *arg) {
  (void)arg;
  puppet_run(&scene.owner, takes_drops_and_reuses, NULL);
}

static void a_load_that_finds_a_dead_object_finds_the_slot_empty(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  scene_begin();
  test_window_call("slot/load", 1, owner_drops, NULL);
  assert_null(gyre_load(&scene.holder->next));
  assert_int_equal(nodes_destroyed(), 1);
  scene_end();
}

static void sees_a_stray_count(void *arg) {
  (void)arg;
  TEST_REQUIRE(scene.reused == scene.loaded_from);
  TEST_REQUIRE(gyre_refcount(scene.reused) == 2);
}

static void then_counted(void *arg) {
  owner_drops_and_reuses(arg);
  test_window_call("slot/counted", 1, sees_a_stray_count, NULL);
}

static void drops_reused(void *arg) {
  (void)arg;
  gyre_release(scene.reused);
}

static void a_count_that_lands_on_the_next_object_in_the_block_is_taken_back(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  scene_begin();
  test_window_call("slot/load", 1, then_counted, NULL);
  assert_null(gyre_load(&scene.holder->next));
  assert_int_equal(gyre_refcount(scene.reused), 1);
  assert_int_equal(nodes_destroyed(), 1);
  puppet_run_parked(&scene.owner, drops_reused, NULL);
  assert_int_equal(nodes_destroyed(), 2);
  scene_end();
}

static void an_object_that_was_counted_in_time_outlives_its_owners_release(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  scene_begin();
  test_window_call("slot/counted", 1, owner_drops, NULL);
  /* The slot has changed: the count is taken back, and it is the last. */
  assert_null(gyre_load(&scene.holder->next));
  assert_int_equal(nodes_destroyed(), 1);
  scene_end();
}

static void owner_comes_to_zero(void *arg) {
  (void)arg;
  puppet_begin(&scene.owner, takes_and_drops, NULL);
  test_window_await();
}

static void owner_goes_on(void *arg) {
  (void)arg;
  test_window_release();
  puppet_await(&scene.owner);
  TEST_REQUIRE(nodes_destroyed() == 0);
}

static void owner_comes_to_zero_then_counted(void *arg) {
  owner_comes_to_zero(arg);
  test_window_call("slot/counted", 1, owner_goes_on, NULL);
}

static void an_owner_at_zero_sees_a_count_that_comes_before_its_look(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  scene_begin();
  puppet_run_parked(&scene.owner, becomes_subject, NULL);
  test_window_hold("refcount/local_zero", 1);
  test_window_call("slot/load", 1, owner_comes_to_zero_then_counted, NULL);
  assert_null(gyre_load(&scene.holder->next));
  assert_int_equal(nodes_destroyed(), 1);
  scene_end();
}

static void an_owner_at_zero_does_not_mind_a_count_that_came_and_went(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  scene_begin();
  puppet_run_parked(&scene.owner, becomes_subject, NULL);
  test_window_hold("refcount/local_zero", 1);
  test_window_call("slot/load", 1, owner_comes_to_zero, NULL);
  assert_null(gyre_load(&scene.holder->next));
  assert_int_equal(nodes_destroyed(), 0);
  test_window_release();
  puppet_await(&scene.owner);
  assert_int_equal(nodes_destroyed(), 1);
  scene_end();
}

static void owner_swaps(void *arg) {
  (void)arg;
  puppet_run(&scene.owner, puts_a_node, NULL);
}

static void a_load_that_finds_another_object_starts_over(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  for (int i = 0; i < 2; i++) {
    scene_begin();
    test_window_call(i == 0 ? "slot/load" : "slot/counted", 1, owner_swaps, NULL);
    node *n = gyre_load(&scene.holder->next);
    assert_ptr_equal(n, scene.loaded_from);
    assert_int_equal(gyre_refcount(n), 2);
    gyre_release(n);
    assert_int_equal(nodes_destroyed(), (uint64_t)i * 2 + 1);
    scene_end();
  }
}

/* ---- refcount/merging ---- */

static void a_count_that_is_dropped_while_the_owner_merges_is_the_owners_to_find(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  struct puppet other;
  subject_start(&other);
  puppet_run_parked(&other, puts_a_node, (scene.holder = node_new(&plain_type, 0)));
  node *n = gyre_load(&scene.holder->next); /* ours, in the shared word */
  test_window_hold("refcount/merging", 1);
  puppet_begin(&other, takes_and_drops, NULL);
  test_window_await();
  gyre_retain(n);
  gyre_release(n);
  assert_int_equal(gyre_refcount(n), 1);
  gyre_release(n);
  assert_int_equal(nodes_destroyed(), 0); /* not merged yet: nobody can tell */
  test_window_release();
  puppet_await(&other);
  assert_int_equal(nodes_destroyed(), 1);
  puppet_stop(&other);
  gyre_release(scene.holder);
}

static void a_count_that_outlasts_the_merge_keeps_the_object(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  struct puppet other;
  subject_start(&other);
  puppet_run_parked(&other, puts_a_node, (scene.holder = node_new(&plain_type, 0)));
  node *n = gyre_load(&scene.holder->next);
  test_window_hold("refcount/merging", 1);
  puppet_begin(&other, takes_and_drops, NULL);
  test_window_await();
  gyre_retain(n);
  test_window_release();
  puppet_await(&other);
  assert_int_equal(gyre_refcount(n), 2);
  gyre_release(n);
  assert_int_equal(nodes_destroyed(), 0);
  gyre_release(n);
  assert_int_equal(nodes_destroyed(), 1);
  puppet_stop(&other);
  gyre_release(scene.holder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(what_is_left_before_a_thread_is_idle_is_done_by_that_thread),
      NODE_TEST(what_is_left_once_a_thread_is_idle_is_done_by_who_leaves_it),
      NODE_TEST(a_thread_that_is_asked_before_it_is_idle_answers),
      NODE_TEST(a_thread_that_is_idle_need_not_be_asked),
      NODE_TEST(a_stop_waits_for_a_thread_that_is_about_to_be_idle),
      NODE_TEST(a_thread_that_comes_back_while_the_world_is_stopped_goes_away_again),
      NODE_TEST(a_thread_that_comes_back_waits_until_its_slot_is_given_back),
      NODE_TEST(a_slot_cannot_be_taken_twice_nor_from_a_thread_that_runs),
      NODE_TEST(an_answer_counts_once_however_soon_it_comes),
      NODE_TEST(an_answer_by_parking_is_not_counted_again_by_the_asker),
      NODE_TEST(a_ticket_taken_after_a_grace_period_has_begun_is_not_covered_by_it),
      NODE_TEST(a_thread_that_comes_before_it_can_be_asked_waits_for_the_stop_to_end),
      NODE_TEST(an_object_may_die_before_its_merge_request_is_sent),
      NODE_TEST(a_request_that_is_sent_late_is_served_late),
      NODE_TEST(an_owner_who_parks_before_it_is_told_of_a_request_serves_it),
      NODE_TEST(two_requests_for_one_page_are_both_served),
      NODE_TEST(a_load_that_finds_a_dead_object_finds_the_slot_empty),
      NODE_TEST(a_count_that_lands_on_the_next_object_in_the_block_is_taken_back),
      NODE_TEST(an_object_that_was_counted_in_time_outlives_its_owners_release),
      NODE_TEST(an_owner_at_zero_sees_a_count_that_comes_before_its_look),
      NODE_TEST(an_owner_at_zero_does_not_mind_a_count_that_came_and_went),
      NODE_TEST(a_load_that_finds_another_object_starts_over),
      NODE_TEST(a_count_that_is_dropped_while_the_owner_merges_is_the_owners_to_find),
      NODE_TEST(a_count_that_outlasts_the_merge_keeps_the_object),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
