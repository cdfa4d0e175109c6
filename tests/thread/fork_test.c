/* SPDX-License-Identifier: MIT */
/* fork() with other threads in every state they can be in. The child lives a full life: it
 * allocates, makes and collects cycles, waits for grace periods, starts threads, forks again, has
 * its heap checked, and leaves with 0. */
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/object/object.h"
#include "tests/support/node.h"
#include "tests/support/puppet.h"
#include "tests/support/window.h"

/* AddressSanitizer's allocator is not prepared for a fork: the child finds its locks as they were. It takes them when a
 * thread begins or ends, so nothing forks at such a moment: threads that fork, or run beside one that does, wait for
 * may_begin first and for may_end last. */
static test_event may_begin = TEST_EVENT_INIT, may_end = TEST_EVENT_INIT;

static void beginnings_and_ends_wait(void) {
  test_event_reset(&may_begin);
  test_event_reset(&may_end);
}

/* ---- a child's life ---- */

static void *works(void *without_collections) {
  for (unsigned i = 0; i < 5; i++) {
    ring_drop(&plain_type, 4);
    gyre_release(chain_new(&plain_type, 100));
    gyre_free(gyre_malloc(100 + i));
    if (without_collections == NULL) TEST_REQUIRE(gyre_gc_collect(2) >= 0);
  }
  return NULL;
}

static void lives(void *again) {
  uint64_t before = nodes_destroyed();
  ring_drop(&node_type, 7);
  TEST_REQUIRE(gyre_gc_collect(2) >= 7);
  TEST_REQUIRE(nodes_destroyed() >= before + 7);
  works(NULL);
  TEST_REQUIRE(gyre_synchronize() == 0);
  pthread_t threads[2];
  for (unsigned i = 0; i < 2; i++)
    threads[i] = test_thread_start(works, NULL);
  for (unsigned i = 0; i < 2; i++)
    test_thread_join(threads[i]);
  TEST_REQUIRE(gyre_purge() == 0);
  if (again != NULL) test_in_child(lives, NULL);
}

static void *const AGAIN = (void *)1;

/* ---- with no other thread ---- */

static void a_child_lives_and_has_the_objects_of_its_parent(void **state) {
  (void)state;
  node *n = ring_new(&node_type, 3);
  test_in_child(lives, AGAIN);
  pid_t child = fork();
  if (child == 0) {
    gyre_release(n);
    if (gyre_gc_collect(2) != 3 || nodes_destroyed() != 3) _exit(1);
    test_check();
    _exit(0);
  }
  assert_int_equal(test_child_wait(child), 0);
  assert_int_equal(nodes_destroyed(), 0);
  gyre_release(n);
}

static void an_unattached_thread_may_fork(void **state) {
  (void)state;
  gyre_thread_detach();
  test_in_child(lives, AGAIN);
  assert_null(gyre_thread_current());
}

/* ---- with a thread that runs ---- */

static struct {
  test_flag ready;
  test_flag quit;
  struct gyre__thread *slot;
} running;

static void *runs(void *without_collections) {
  gyre_thread_attach();
  test_flag_add(&running.ready, 1);
  while (!test_flag_get(&running.quit)) {
    works(without_collections);
    gyre_safepoint();
  }
  return NULL;
}

enum { RUNNERS = 2 };

static void runners_start(pthread_t threads[RUNNERS], void *without_collections) {
  memset(&running, 0, sizeof running);
  for (unsigned i = 0; i < RUNNERS; i++)
    threads[i] = test_thread_start(runs, without_collections);
  TEST_AWAIT_SAFELY(test_flag_get(&running.ready) == RUNNERS);
}

static void runners_stop(pthread_t threads[RUNNERS]) {
  test_flag_set(&running.quit, 1);
  for (unsigned i = 0; i < RUNNERS; i++)
    test_thread_join(threads[i]);
}

static void a_thread_may_fork_while_others_run(void **state) {
  (void)state;
  pthread_t threads[RUNNERS];
  gyre_thread_attach();
  runners_start(threads, NULL);
  for (unsigned i = 0; i < 5; i++)
    test_in_child(lives, AGAIN);
  runners_stop(threads);
}

static void an_unattached_thread_may_fork_while_others_run(void **state) {
  (void)state;
  pthread_t threads[RUNNERS];
  runners_start(threads, NULL);
  gyre_thread_detach();
  for (unsigned i = 0; i < 5; i++)
    test_in_child(lives, NULL);
  runners_stop(threads);
}

static void a_thread_may_fork_in_a_blocking_region(void **state) {
  (void)state;
  pthread_t threads[RUNNERS];
  gyre_thread_attach();
  runners_start(threads, NULL);
  for (unsigned i = 0; i < 5; i++) {
    pid_t child;
    GYRE_BLOCKING {
      GYRE_BLOCKING { child = fork(); }
    }
    if (child == 0) {
      lives(NULL);
      test_check();
      _exit(0);
    }
    assert_int_equal(test_child_wait(child), 0);
  }
  runners_stop(threads);
}

static test_flag forkers;

static void *forks(void *arg) {
  test_event_wait_parked(&may_begin);
  for (unsigned i = 0; i < 5; i++)
    test_in_child(lives, arg);
  if (test_flag_add(&forkers, UINT32_MAX) == 0) test_event_set(&may_end);
  test_event_wait_parked(&may_end);
  return NULL;
}

static void several_threads_may_fork_at_once(void **state) {
  (void)state;
  pthread_t threads[3];
  beginnings_and_ends_wait();
  test_flag_set(&forkers, 3);
  for (unsigned i = 0; i < 3; i++)
    threads[i] = test_thread_start(forks, NULL);
  test_event_set(&may_begin);
  for (unsigned i = 0; i < 3; i++)
    test_thread_join(threads[i]);
}

/* ---- with a thread that is parked ---- */

static node *theirs;

static void makes_theirs(void *arg) {
  (void)arg;
  theirs = chain_new(&node_type, 10);
}

static void drops_theirs(void *arg) {
  gyre_release(theirs);
  TEST_REQUIRE(nodes_destroyed() == 10);
  lives(arg);
}

static void a_child_inherits_the_slot_of_a_parked_thread(void **state) {
  (void)state;
  struct puppet parked;
  gyre_thread_attach();
  puppet_start(&parked);
  puppet_run_parked(&parked, makes_theirs, NULL);
  pid_t child = fork();
  if (child == 0) {
    struct gyre_thread_stats s = test_thread_stats();
    TEST_REQUIRE(s.attached == 1);
    TEST_REQUIRE(s.orphans == s.slots_high_water - 1);
    drops_theirs(AGAIN);
    test_check();
    _exit(0);
  }
  assert_int_equal(test_child_wait(child), 0);
  gyre_release(theirs);
  assert_int_equal(nodes_destroyed(), 10);
  puppet_stop(&parked);
}

enum { PARKED = 7 };
static node *of_parked[PARKED];

static void makes_a_ring(void *ring) { *(node **)ring = ring_new(&node_type, 10); }

static void parked_rings_die(void *arg) {
  struct gyre_thread_stats s = test_thread_stats();
  TEST_REQUIRE(s.attached == 1 && s.orphans == s.slots_high_water - 1);
  for (int i = 0; i < PARKED; i++)
    gyre_release(of_parked[i]);
  TEST_REQUIRE(gyre_gc_collect(2) == PARKED * 10);
  lives(arg);
}

static void a_child_of_a_parent_with_several_parked_threads_lives(void **state) {
  (void)state;
  struct puppet parked[PARKED];
  gyre_thread_attach();
  for (int i = 0; i < PARKED; i++) {
    puppet_start(&parked[i]);
    puppet_run_parked(&parked[i], makes_a_ring, &of_parked[i]);
  }
  test_in_child(parked_rings_die, AGAIN);
  for (int i = 0; i < PARKED; i++) {
    gyre_release(of_parked[i]);
    puppet_stop(&parked[i]);
  }
  assert_int_equal(gyre_gc_collect(2), PARKED * 10);
}

static bool is_asked(struct gyre__thread *slot, uint32_t request) {
  /* seq_cst: another thread sets the bit; pairs with gyre__thread_request(). */
  return gyre__load_seq_cst(&slot->base.request) & request;
}

/* A budget of 1 leaves a cascade cut off in the parked thread's slot when it waits at a safepoint
 * for the fork. */
static void *drops_a_chain_and_waits(void *arg) {
  gyre_release(chain_new(&node_type, 1000));
  running.slot = gyre__thread_current();
  test_flag_set(arg, 1);
  while (!test_flag_get(&running.quit)) {
    /* No safepoint but when the world is to be stopped: one budget each time. */
    if (is_asked(gyre__thread_current(), GYRE__REQ_STOP)) {
      for (int i = 0; i < 100; i++)
        (void)sched_yield(); /* a fork that does not wait gets ahead */
      gyre_safepoint();
    }
    (void)sched_yield();
  }
  return NULL;
}

static void *inherits(void *all) {
  gyre_thread_attach();
  test_flag_add(&running.ready, 1);
  TEST_AWAIT_SAFELY(test_flag_get(&running.ready) >= (uintptr_t)all);
  for (unsigned i = 0; i < 2000; i++)
    gyre_safepoint();
  test_flag_add(&running.ready, 1);
  TEST_AWAIT_SAFELY(test_flag_get(&running.quit));
  return NULL;
}

/* Every orphan gets an heir, who only passes safepoints; then the chain must be gone. */
static void heirs_finish_the_chain(void) {
  pthread_t threads[64];
  size_t orphans = test_thread_stats().orphans;
  TEST_REQUIRE(orphans <= 64);
  for (size_t i = 0; i < orphans; i++)
    threads[i] = test_thread_start(inherits, (void *)orphans);
  TEST_AWAIT_SAFELY(test_flag_get(&running.ready) == 2 * orphans);
  TEST_REQUIRE(nodes_destroyed() == 1000);
  test_flag_set(&running.quit, 1);
  for (size_t i = 0; i < orphans; i++)
    test_thread_join(threads[i]);
}

/* On a machine that is very busy a thread may come too late to its safepoint, and its slot is lost.
 */
static bool a_slot_is_lost(void) {
  struct gyre_thread_stats s = test_thread_stats();
  return s.attached + s.orphans < s.slots_high_water;
}

enum { LOST = 77, ATTEMPTS = 20 };

static void an_heir_in_the_child_goes_on_with_a_release_that_was_cut_off(void **state) {
  (void)state;
  test_flag ready = {0};
  memset(&running, 0, sizeof running);
  test_option_set("release_budget", "1");
  gyre_thread_attach();
  pthread_t thread = test_thread_start(drops_a_chain_and_waits, &ready);
  TEST_AWAIT_SAFELY(test_flag_get(&ready));
  int status = -1;
  for (unsigned i = 0; i < ATTEMPTS; i++) {
    TEST_AWAIT_SAFELY(!is_asked(running.slot, GYRE__REQ_STOP)); /* it has answered the last */
    pid_t child = fork();
    if (child == 0) {
      if (a_slot_is_lost()) _exit(LOST);
      TEST_REQUIRE(nodes_destroyed() < 1000);
      heirs_finish_the_chain();
      lives(NULL);
      test_check();
      _exit(0);
    }
    status = test_child_wait(child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != LOST) break;
  }
  assert_int_equal(status, 0);
  test_flag_set(&running.quit, 1);
  test_thread_join(thread);
}

/* ---- with a thread that passes no safepoint ---- */

static struct {
  test_event ready;
  test_event go;
  uint32_t id;
} stalled = {.ready = TEST_EVENT_INIT, .go = TEST_EVENT_INIT};

static void *stalls(void *arg) {
  makes_theirs(arg);
  stalled.id = gyre_thread_current()->id;
  test_event_set(&stalled.ready);
  test_event_wait(&stalled.go);
  gyre_safepoint();
  return NULL;
}

static void *is_not_heir_of_the_lost(void *arg) {
  (void)arg;
  TEST_REQUIRE(gyre_thread_attach()->id != stalled.id);
  return NULL;
}

static void nobody_inherits_the_slot_of_a_thread_that_was_not_stopped(void **state) {
  (void)state;
  test_event_reset(&stalled.ready);
  test_event_reset(&stalled.go);
  gyre_thread_attach();
  pthread_t thread = test_thread_start(stalls, NULL);
  test_event_wait_parked(&stalled.ready);
  pid_t child = fork();
  if (child == 0) {
    /* seq_cst: no other thread is there; pairs with the store in gyre__thread_fork_child(). */
    TEST_REQUIRE(gyre__load_seq_cst(&gyre__thread_slot(stalled.id)->state) == GYRE__SLOT_LOST);
    for (unsigned i = 0; i < 3; i++)
      test_thread_run(is_not_heir_of_the_lost, NULL);
    drops_theirs(AGAIN);
    test_check();
    _exit(0);
  }
  assert_int_equal(test_child_wait(child), 0);
  test_event_set(&stalled.go);
  test_thread_join(thread);
  gyre_release(theirs);
  gyre_safepoint();
  assert_int_equal(nodes_destroyed(), 10);
}

static void *synchronizes(void *arg) {
  (void)arg;
  TEST_REQUIRE(gyre_synchronize() == 0);
  return NULL;
}

static void a_grace_period_that_was_under_way_does_not_hold_up_the_child(void **state) {
  (void)state;
  test_event_reset(&stalled.ready);
  test_event_reset(&stalled.go);
  gyre_thread_attach();
  pthread_t thread = test_thread_start(stalls, NULL);
  test_event_wait_parked(&stalled.ready);
  pthread_t waiter = test_thread_start(synchronizes, NULL);
  TEST_AWAIT_SAFELY(is_asked(gyre__thread_slot(stalled.id), GYRE__REQ_HANDSHAKE));
  test_in_child(lives, AGAIN);
  test_event_set(&stalled.go);
  test_thread_join(thread);
  test_thread_join(waiter);
  gyre_release(theirs);
}

/* ---- with a thread inside the library ---- */

static node *common;

static void *releases_common(void *arg) {
  (void)arg;
  test_window_subject();
  gyre_thread_attach();
  gyre_release(common);
  return NULL;
}

static void *parks(void *arg) {
  (void)arg;
  gyre_thread_attach();
  test_window_subject();
  gyre_park();
  gyre_unpark();
  return NULL;
}

static void *releases_its_own(void *arg) {
  (void)arg;
  node *n = node_new(&plain_type, 1);
  test_window_subject();
  gyre_release(n);
  return NULL;
}

static void *loads_common(void *arg) {
  (void)arg;
  gyre_thread_attach();
  test_window_subject();
  gyre_release(gyre_load(&common->next));
  return NULL;
}

static void *begins_grace(void *arg) {
  (void)arg;
  gyre_thread_attach();
  test_window_subject();
  TEST_REQUIRE(gyre_synchronize() == 0);
  test_event_wait_parked(&may_end);
  return NULL;
}

static void *collects(void *arg) {
  (void)arg;
  gyre_thread_attach();
  test_window_subject();
  TEST_REQUIRE(gyre_gc_collect(2) >= 0);
  test_event_wait_parked(&may_end);
  return NULL;
}

/* Forks while another thread is held in the window. */
static void fork_at(const char *window, void *(*body)(void *)) {
  test_window_hold(window, 1);
  pthread_t thread = test_thread_start(body, NULL);
  GYRE_BLOCKING { test_window_await(); }
  test_in_child(lives, NULL);
  test_window_release();
  test_thread_join(thread);
}

static void a_thread_may_fork_while_another_is_anywhere_in_the_library(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  gyre_thread_attach();
  common = node_new(&plain_type, 1);
  for (int i = 0; i < 3; i++)
    gyre_retain(common);
  fork_at("refcount/queued", releases_common);
  gyre_safepoint();
  gyre_release(common);
  gyre_release(common);
  gyre_release(common);

  common = node_new(&plain_type, 1);
  fork_at("merge/pushed", releases_common);
  gyre_safepoint();

  common = node_new(&plain_type, 1);
  gyre_slot_init(&common->next, node_new(&plain_type, 2));
  fork_at("slot/load", loads_common);
  fork_at("slot/counted", loads_common);
  gyre_release(common);

  fork_at("refcount/local_zero", releases_its_own);
  fork_at("thread/idle", parks);
  fork_at("thread/idled", parks);
  fork_at("thread/enter", parks);
}

static void *forks_once(void *arg) {
  test_event_wait(&may_begin);
  test_flag_set(arg, 1);
  gyre_thread_attach();
  test_in_child(lives, NULL);
  return NULL;
}

/* There the other thread has a lock that the fork needs. */
static void fork_waits_at(const char *window, void *(*body)(void *)) {
  test_flag ready = {0};
  beginnings_and_ends_wait();
  gyre_park(); /* before: it may want that lock too */
  test_window_hold(window, 1);
  pthread_t thread = test_thread_start(body, NULL);
  test_window_await();
  pthread_t forker = test_thread_start(forks_once, &ready);
  test_event_set(&may_begin);
  TEST_AWAIT(test_flag_get(&ready));
  test_window_release();
  gyre_unpark();
  test_thread_join(forker);
  test_event_set(&may_end);
  test_thread_join(thread);
}

static void a_fork_waits_for_a_thread_that_begins_a_grace_period_or_stops_the_world(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  gyre_thread_attach();
  fork_waits_at("grace/begun", begins_grace);
  fork_waits_at("grace/asked", begins_grace);
  fork_waits_at("world/stopping", collects);
}

/* ---- from inside the library's calls to the program ---- */

static pid_t forked;

static int finalizer_forks(node *n) {
  (void)n;
  if (forked < 0) forked = fork();
  return 0;
}

static void destroy_forks(node *n) {
  if (forked < 0) (void)finalizer_forks(n);
}

static void finish_fork(void) {
  assert_true(forked >= 0);
  if (forked == 0) {
    lives(AGAIN);
    test_check();
    _exit(0);
  }
  assert_int_equal(test_child_wait(forked), 0);
}

static void a_finalizer_in_a_collection_may_fork(void **state) {
  (void)state;
  pthread_t threads[RUNNERS];
  gyre_thread_attach();
  runners_start(threads, (void *)1); /* finalizers are to run here */
  node_on_finalize = finalizer_forks;
  forked = -1;
  ring_drop(&finalized_type, 5);
  while (nodes_destroyed() < 5)
    assert_true(gyre_gc_collect(2) >= 0);
  assert_int_equal(nodes_finalized(), 5);
  finish_fork();
  runners_stop(threads);
}

static void a_finalizer_in_a_release_may_fork(void **state) {
  (void)state;
  pthread_t threads[RUNNERS];
  gyre_thread_attach();
  runners_start(threads, (void *)1); /* finalizers are to run here */
  node_on_finalize = finalizer_forks;
  forked = -1;
  gyre_release(chain_new(&finalized_type, 5));
  assert_int_equal(nodes_destroyed(), 5);
  finish_fork();
  runners_stop(threads);
}

static void a_destroy_hook_in_a_cascade_may_fork(void **state) {
  (void)state;
  pthread_t threads[RUNNERS];
  gyre_thread_attach();
  runners_start(threads, (void *)1); /* finalizers are to run here */
  node_on_destroy = destroy_forks;
  forked = -1;
  gyre_release(chain_new(&node_type, 50));
  assert_int_equal(nodes_destroyed(), 50);
  finish_fork();
  runners_stop(threads);
}

/* ---- while another thread is inside its program code ---- */

static test_event in_hook = TEST_EVENT_INIT, leave_hook = TEST_EVENT_INIT;

static void hook_waits(node *n) {
  if (n->tag != 3) return;
  test_event_set(&in_hook);
  test_event_wait_parked(&leave_hook);
}

static void *drops_a_chain(void *arg) {
  (void)arg;
  gyre_release(chain_new(&node_type, 10));
  return NULL;
}

static void a_thread_may_fork_while_another_blocks_in_a_destroy_hook(void **state) {
  (void)state;
  test_event_reset(&in_hook);
  test_event_reset(&leave_hook);
  gyre_thread_attach();
  node_on_destroy = hook_waits;
  pthread_t thread = test_thread_start(drops_a_chain, NULL);
  test_event_wait_parked(&in_hook);
  pid_t child = fork();
  if (child == 0) {
    node_on_destroy = NULL;
    lives(NULL);
    test_check();
    _exit(0);
  }
  assert_int_equal(test_child_wait(child), 0);
  test_event_set(&leave_hook);
  test_thread_join(thread);
  assert_int_equal(nodes_destroyed(), 10);
}

static void gc_callback_waits(enum gyre_gc_phase phase, const struct gyre_gc_info *info,
                              void *arg) {
  (void)info;
  (void)arg;
  if (phase != GYRE_GC_START || test_event_is_set(&in_hook)) return;
  test_event_set(&in_hook);
  test_event_wait_parked(&leave_hook);
}

static void a_fork_waits_for_a_collection_in_another_thread(void **state) {
  (void)state;
  uint64_t id;
  test_flag ready = {0};
  test_event_reset(&in_hook);
  test_event_reset(&leave_hook);
  beginnings_and_ends_wait();
  gyre_thread_attach();
  assert_int_equal(gyre_gc_add_callback(gc_callback_waits, NULL, &id), 0);
  pthread_t thread = test_thread_start(collects, NULL);
  test_event_wait_parked(&in_hook);
  pthread_t forker = test_thread_start(forks_once, &ready);
  test_event_set(&may_begin);
  TEST_AWAIT_SAFELY(test_flag_get(&ready));
  test_event_set(&leave_hook);
  test_thread_join(forker);
  test_event_set(&may_end);
  test_thread_join(thread);
  assert_int_equal(gyre_gc_remove_callback(id), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(a_child_lives_and_has_the_objects_of_its_parent),
      NODE_TEST(an_unattached_thread_may_fork),
      NODE_TEST(a_thread_may_fork_while_others_run),
      NODE_TEST(an_unattached_thread_may_fork_while_others_run),
      NODE_TEST(a_thread_may_fork_in_a_blocking_region),
      NODE_TEST(several_threads_may_fork_at_once),
      NODE_TEST(a_child_inherits_the_slot_of_a_parked_thread),
      NODE_TEST(a_child_of_a_parent_with_several_parked_threads_lives),
      NODE_TEST(an_heir_in_the_child_goes_on_with_a_release_that_was_cut_off),
      NODE_TEST(nobody_inherits_the_slot_of_a_thread_that_was_not_stopped),
      NODE_TEST(a_grace_period_that_was_under_way_does_not_hold_up_the_child),
      NODE_TEST(a_thread_may_fork_while_another_is_anywhere_in_the_library),
      NODE_TEST_WITH(a_fork_waits_for_a_thread_that_begins_a_grace_period_or_stops_the_world,
                     "gc:0,gc_mode:stw"),
      NODE_TEST(a_finalizer_in_a_collection_may_fork),
      NODE_TEST(a_finalizer_in_a_release_may_fork),
      NODE_TEST(a_destroy_hook_in_a_cascade_may_fork),
      NODE_TEST(a_thread_may_fork_while_another_blocks_in_a_destroy_hook),
      NODE_TEST(a_fork_waits_for_a_collection_in_another_thread),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
