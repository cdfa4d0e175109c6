/* SPDX-License-Identifier: MIT */
/* Weak references in the child of a fork: of the forking thread, of threads that are gone, and in
 * the middle of things. */
#include "weak_test.h"

/* Runs `body` in a child, which must end normally. */
static void in_child(void (*body)(void *), void *arg) {
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    /* The child must end; a wait for a thread that is gone would not. */
    alarm(60);
    body(arg);
    _exit(0);
  }
  int status = -1;
  gyre_park();
  while (waitpid(child, &status, 0) < 0)
    MUST(errno == EINTR);
  gyre_unpark();
  assert_int_equal(status, 0);
}

struct family {
  item *object;
  gyre_weak *shared, *called;
};

static void uses_and_ends(void *arg) {
  struct family *f = arg;
  item *got = gyre_weak_get(f->shared);
  MUST(got == f->object);
  MUST(gyre_weak_count(got) == 2);
  gyre_weak *more = weak_writes(got, "m");
  item *own = item_new(2);
  gyre_weak *own_weak = weak_new(own, NULL, NULL);
  gyre_release(got);
  gyre_release(f->object);
  MUST(strcmp(happened, "mw") == 0);
  MUST(gyre_weak_get(f->shared) == NULL);
  gyre_weak_free(f->shared);
  gyre_weak_free(f->called);
  gyre_weak_free(more);
  gyre_release(own);
  MUST(gyre_weak_is_dead(own_weak));
  gyre_weak_free(own_weak);
}

static void weak_references_go_on_in_the_child_and_in_the_parent(void **state) {
  (void)state;
  struct family f = {.object = item_new(1)};
  f.shared = weak_new(f.object, NULL, NULL);
  f.called = weak_writes(f.object, "w");
  in_child(uses_and_ends, &f);
  assert_happened("");
  assert_ptr_equal(gyre_weak_get(f.shared), f.object);
  gyre_release(f.object);
  gyre_release(f.object);
  assert_happened("w");
  gyre_weak_free(f.shared);
  gyre_weak_free(f.called);
}

/* ---- fork in a callback ---- */

static void does_nothing(void *arg) { (void)arg; }
static int forks_status;
static void forks(gyre_weak *weak, void *arg) {
  happens('f');
  pid_t child = fork();
  MUST(child >= 0);
  if (child == 0) {
    happens('c');
    gyre_weak_free(weak);
    *(pid_t *)arg = 0;
    return;
  }
  *(pid_t *)arg = child;
  while (waitpid(child, &forks_status, 0) < 0)
    MUST(errno == EINTR);
}

static void a_callback_that_forks_returns_in_both_processes(void **state) {
  (void)state;
  item *i = item_new(1);
  pid_t child = -1;
  gyre_weak *behind = weak_writes(i, "b");
  gyre_weak *weak = weak_new(i, forks, &child);
  gyre_release(i);
  if (child == 0) {
    gyre_weak_free(behind);
    _exit(strcmp(happened, "fcb") == 0 ? 0 : 1);
  }
  assert_int_equal(forks_status, 0);
  assert_happened("fb");
  gyre_weak_free(behind);
  gyre_weak_free(weak);
}

/* ---- fork while another thread is in a callback ---- */

static event entered, leave;
static void blocks(gyre_weak *weak, void *arg) {
  (void)weak, (void)arg;
  happens('(');
  event_set(&entered);
  event_wait_parked(&leave);
  happens(')');
}
static void *releases(void *arg) {
  gyre_release(arg);
  return NULL;
}

static void frees_both(void *arg) {
  gyre_weak **weak = arg;
  gyre_weak_free(weak[0]);
  gyre_weak_free(weak[1]);
  MUST(strcmp(happened, "(") == 0);
}

static void the_child_does_not_wait_for_a_callback_of_a_thread_that_is_gone(void **state) {
  (void)state;
  event_init(&entered);
  event_init(&leave);
  item *i = shared_new(1);
  gyre_weak *weak[2];
  weak[0] = weak_writes(i, "b");
  weak[1] = weak_new(i, blocks, NULL);
  pthread_t thread = thread_start(releases, i);
  event_wait_parked(&entered);
  in_child(frees_both, weak);
  event_set(&leave);
  thread_join(thread);
  assert_happened("()b");
  gyre_weak_free(weak[0]);
  gyre_weak_free(weak[1]);
}

/* ---- fork while a stalled thread is inside ---- */

struct stalled {
  struct stop stop;
  item *object;
  gyre_weak *weak, *called;
};

static void *stalls_in_upgrade(void *arg) {
  struct stalled *stalled = arg;
  MUST(gyre_thread_attach() != NULL);
  stop_me(&stalled->stop);
  gyre_release(gyre_weak_get(stalled->weak));
  return NULL;
}

static void uses_what_a_lost_thread_has_locked(void *arg) {
  struct stalled *stalled = arg;
  item *got = gyre_weak_get(stalled->weak);
  MUST(got == stalled->object);
  gyre_weak *again = weak_new(got, NULL, NULL);
  MUST(again == stalled->weak);
  gyre_weak *more = weak_writes(got, "m"), *freed = weak_writes(got, "x");
  gyre_weak_free(freed);
  gyre_release(got);
  gyre_release(stalled->object);
  MUST(gyre_weak_is_dead(stalled->weak));
  /* What was armed before the fork is lost with the thread that held the lock. */
  MUST(strcmp(happened, "m") == 0);
  gyre_weak_free(again);
  gyre_weak_free(stalled->weak);
  gyre_weak_free(stalled->called);
  gyre_weak_free(more);
  MUST(gyre__weak_object_count() == 0);
}

static void the_child_breaks_the_lock_of_a_thread_that_stalled_in_an_upgrade(void **state) {
  (void)state;
  NEEDS_WINDOWS();
  struct stalled stalled = {.object = shared_new(1)};
  stalled.weak = weak_new(stalled.object, NULL, NULL);
  stalled.called = weak_writes(stalled.object, "w");
  mode_close(1);
  stop_init(&stalled.stop, "weak/got_locked");
  pthread_t thread = thread_start(stalls_in_upgrade, &stalled);
  stop_await(&stalled.stop);
  in_child(uses_what_a_lost_thread_has_locked, &stalled);
  mode_close(0);
  stop_end(&stalled.stop);
  thread_join(thread);
  gyre_release(stalled.object);
  assert_happened("w");
  gyre_weak_free(stalled.weak);
  gyre_weak_free(stalled.called);
}

static void *stalls_in_death(void *arg) {
  struct stalled *stalled = arg;
  MUST(gyre_thread_attach() != NULL);
  stop_me(&stalled->stop);
  gyre_release(stalled->object);
  return NULL;
}

static void frees_what_a_lost_thread_has_killed(void *arg) {
  struct stalled *stalled = arg;
  MUST(gyre_weak_is_dead(stalled->weak));
  MUST(gyre_weak_get(stalled->weak) == NULL);
  MUST(gyre_synchronize() == 0); /* for what was put off before */
  MUST(gyre_synchronize() == 0);
  size_t blocks = live_blocks();
  gyre_weak_free(stalled->weak);
  gyre_weak_free(stalled->called);
  MUST(strcmp(happened, "") == 0);
  MUST(gyre_synchronize() == 0);
  MUST(gyre_synchronize() == 0);
  /* The reference went; the control block may still be in the table, and stays. */
  MUST(live_blocks() == blocks - 1);
  /* The table can be used all over. */
  enum { OBJECTS = 20000 };
  static gyre_weak *weak[OBJECTS];
  static item *items[OBJECTS];
  for (uint64_t n = 0; n < OBJECTS; n++) {
    items[n] = item_new(n);
    weak[n] = weak_new(items[n], NULL, NULL);
  }
  for (int n = 0; n < OBJECTS; n++) {
    MUST(gyre_weak_new(items[n], NULL, NULL) == weak[n]);
    gyre_weak_free(weak[n]);
    gyre_release(items[n]);
    MUST(gyre_weak_is_dead(weak[n]));
    gyre_weak_free(weak[n]);
    gyre_safepoint();
  }
}

static void the_child_frees_references_to_an_object_whose_death_stalled(void **state) {
  (void)state;
  NEEDS_WINDOWS();
  static const char *const windows[] = {"weak/killing", "weak/killed"};
  for (int at = 0; at < 2; at++) {
    struct stalled stalled = {.object = shared_new(1)};
    stalled.weak = weak_new(stalled.object, NULL, NULL);
    stalled.called = weak_writes(stalled.object, "w");
    stop_init(&stalled.stop, windows[at]);
    pthread_t thread = thread_start(stalls_in_death, &stalled);
    stop_await(&stalled.stop);
    in_child(frees_what_a_lost_thread_has_killed, &stalled);
    stop_end(&stalled.stop);
    thread_join(thread);
    assert_happened("w");
    gyre_weak_free(stalled.weak);
    gyre_weak_free(stalled.called);
  }
}

static void *stalls_in_growth(void *arg) {
  struct stalled *stalled = arg;
  MUST(gyre_thread_attach() != NULL);
  stop_me(&stalled->stop);
  enum { OBJECTS = 20000 };
  static item *items[OBJECTS];
  for (uint64_t n = 0; n < OBJECTS; n++) {
    items[n] = item_new(n);
    gyre_weak_free(weak_new(items[n], NULL, NULL));
  }
  for (int n = 0; n < OBJECTS; n++)
    gyre_release(items[n]);
  return NULL;
}

static void makes_many(void *arg) {
  (void)arg;
  enum { OBJECTS = 20000 };
  static item *items[OBJECTS];
  for (uint64_t n = 0; n < OBJECTS; n++) {
    items[n] = item_new(n);
    gyre_weak_free(weak_new(items[n], NULL, NULL));
  }
  for (int n = 0; n < OBJECTS; n++) {
    MUST(gyre_weak_count(items[n]) == 0);
    gyre_release(items[n]);
  }
}

static void the_child_goes_on_with_a_table_whose_growth_stalled(void **state) {
  (void)state;
  NEEDS_WINDOWS();
  struct stalled stalled = {.object = NULL};
  stop_init(&stalled.stop, "weak/grown");
  pthread_t thread = thread_start(stalls_in_growth, &stalled);
  stop_await(&stalled.stop);
  in_child(makes_many, NULL);
  stop_end(&stalled.stop);
  thread_join(thread);
}

static void a_child_forks_again(void **state) {
  (void)state;
  struct family f = {.object = item_new(1)};
  f.shared = weak_new(f.object, NULL, NULL);
  f.called = weak_writes(f.object, "w");
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    pid_t grandchild = fork();
    MUST(grandchild >= 0);
    int status = 0;
    if (grandchild > 0) MUST(waitpid(grandchild, &status, 0) == grandchild && status == 0);
    uses_and_ends(&f);
    _exit(0);
  }
  int status = -1;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
  in_child(does_nothing, NULL);
  gyre_release(f.object);
  assert_happened("w");
  gyre_weak_free(f.shared);
  gyre_weak_free(f.called);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      WEAK_TEST(the_child_goes_on_with_a_table_whose_growth_stalled),
      WEAK_TEST(weak_references_go_on_in_the_child_and_in_the_parent),
      WEAK_TEST(a_callback_that_forks_returns_in_both_processes),
      WEAK_TEST(the_child_does_not_wait_for_a_callback_of_a_thread_that_is_gone),
      WEAK_TEST(the_child_breaks_the_lock_of_a_thread_that_stalled_in_an_upgrade),
      WEAK_TEST(the_child_frees_references_to_an_object_whose_death_stalled),
      WEAK_TEST(a_child_forks_again),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
