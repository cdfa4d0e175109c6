/* SPDX-License-Identifier: MIT */
/* fork() from hooks while the freeing of garbage is shared: the child has the collector or a helper, and
 * not the other. */
#include <sys/wait.h>
#include <unistd.h>

#include "lib/collect/collect.h"
#include "tests/support/node.h"
#include "tests/support/puppet.h"

#define RINGS 3000

static struct puppet helper;
static test_event collector_is_in, helper_is_in, done;
static pthread_t main_thread;
static bool main_was_in, helper_was_in, in_child;
static void (*in_main)(void), (*in_helper)(void);

/* The first death in each of the two threads. */
static void hook(node *n) {
  (void)n;
  bool *was_in = pthread_equal(pthread_self(), main_thread) ? &main_was_in : &helper_was_in;
  if (*was_in) return;
  *was_in = true;
  (was_in == &main_was_in ? in_main : in_helper)();
}

static void let_the_helper_in(void) {
  test_event_set(&collector_is_in);
  test_event_wait_parked(&helper_is_in);
}

static void say_that_the_helper_is_in(void) { test_event_set(&helper_is_in); }

static void stay_in(void) {
  test_event_set(&helper_is_in);
  test_event_wait_parked(&done);
}

static void fork_here(void) {
  pid_t child = fork();
  if (child == 0) {
    in_child = true;
    alarm(60);
    return;
  }
  assert_int_equal(test_child_wait(child), 0);
}

static void fork_in_helper(void) {
  fork_here();
  if (!in_child) say_that_the_helper_is_in();
}

static void fork_beside_the_helper(void) {
  let_the_helper_in();
  fork_here();
  if (!in_child) test_event_set(&done);
}

/* A child whose collector, or helper, is here: the library works, with what garbage is left. */
static void child_ends(void) {
  node_on_destroy = NULL;
  ring_drop(&node_type, 7);
  _exit(gyre_gc_collect(2) >= 7 ? 0 : 1);
}

static void help(void *arg) {
  (void)arg;
  test_event_wait_parked(&collector_is_in);
  while (gyre__dead_help(gyre__objects_self())) {
  }
  if (in_child) child_ends();
}

static void play(void (*main_hook)(void), void (*helper_hook)(void)) {
  main_thread = pthread_self();
  main_was_in = helper_was_in = in_child = false;
  in_main = main_hook;
  in_helper = helper_hook;
  test_event_reset(&collector_is_in);
  test_event_reset(&helper_is_in);
  test_event_reset(&done);
  for (int i = 0; i < RINGS; i++)
    ring_drop(&node_type, 2);
  puppet_start(&helper);
  puppet_begin(&helper, help, NULL);
  node_on_destroy = hook;
  ptrdiff_t found = gyre_gc_collect(2);
  if (in_child) child_ends();
  assert_int_equal(found, 2 * RINGS);
  puppet_await(&helper);
  puppet_stop(&helper);
  node_on_destroy = NULL;
  assert_int_equal(nodes_destroyed(), 2 * RINGS);
}

static void a_helper_may_fork(void **state) {
  (void)state;
  play(let_the_helper_in, fork_in_helper);
}

static void the_collector_may_fork_beside_a_helper(void **state) {
  (void)state;
  play(fork_beside_the_helper, stay_in);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(a_helper_may_fork),
      NODE_TEST(the_collector_may_fork_beside_a_helper),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
