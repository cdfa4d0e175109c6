/* SPDX-License-Identifier: MIT */
/* Another thread at work in the middle of a young collection. */
#include "lib/collect/collect.h"
#include "tests/support/node.h"
#include "tests/support/puppet.h"
#include "tests/support/window.h"

static node *first, *second, *held;

static void *looks(void *arg) {
  (void)arg;
  node *ring = ring_new(&node_type, 2);
  second = gyre_load(&ring->next);
  first = ring; /* handed over: two counts of ours that are the other thread's now */
  test_window_subject();
  gyre__young_collect(gyre__objects_self(), true);
  gyre_gc_collect(1);
  return NULL;
}

/* Puts `first` into a slot of what `first` refers to, by way of a count that we were handed, and keeps
 * what was there. Each count of the two nodes is now that of a slot, or ours. */
static void moves(void *arg) {
  (void)arg;
  node *old = gyre_swap(&second->next, first); /* the ring's reference to `first` is ours now */
  assert_ptr_equal(old, first);
  held = old;
}

/* Between the owner's reading of the counts and its reading of the slots a reference is exchanged: the
 * slots then explain what the counts say. Only the flag tells that somebody holds one. */
static void a_reference_that_is_moved_between_counts_and_slots_is_seen(const char *window) {
  TEST_NEEDS_WINDOWS();
  struct puppet other;
  puppet_start(&other);
  test_window_hold(window, 1);
  pthread_t owner = test_thread_start(looks, NULL);
  GYRE_BLOCKING { test_window_await(); }
  puppet_run(&other, moves, NULL);
  test_window_release();
  GYRE_BLOCKING { (void)pthread_join(owner, NULL); }
  assert_int_equal(nodes_destroyed(), 0);
  node *n = gyre_load(&held->next);
  assert_ptr_equal(n, second);
  gyre_release(n);
  gyre_release(held);
  gyre_release(second);
  puppet_stop(&other);
  assert_int_equal(gyre_gc_collect(2), 2);
}

static void before_the_slots_are_read(void **state) {
  (void)state;
  a_reference_that_is_moved_between_counts_and_slots_is_seen("young/members");
}

static void before_the_flags_are_looked_at(void **state) {
  (void)state;
  a_reference_that_is_moved_between_counts_and_slots_is_seen("young/edges");
}

static void moves_back(void *arg) {
  (void)arg;
  /* Two slots of the ring hold `first` one after the other: its owner counts it twice or once. */
  gyre_store(&first->other, first);
  gyre_clear(&first->other);
  held = first;
}

static void what_is_only_looked_at_by_others_lives(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  static const char *const windows[] = {"young/members", "young/edges", "young/flags"};
  for (size_t i = 0; i < sizeof windows / sizeof windows[0]; i++) {
    struct puppet other;
    puppet_start(&other);
    test_window_hold(windows[i], 1);
    pthread_t owner = test_thread_start(looks, NULL);
    GYRE_BLOCKING { test_window_await(); }
    puppet_run(&other, moves_back, NULL);
    test_window_release();
    GYRE_BLOCKING { (void)pthread_join(owner, NULL); }
    assert_int_equal(nodes_destroyed(), 2 * i);
    gyre_release(held);
    gyre_release(second);
    puppet_stop(&other);
    assert_int_equal(gyre_gc_collect(2), 2);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(before_the_slots_are_read),
      NODE_TEST(before_the_flags_are_looked_at),
      NODE_TEST(what_is_only_looked_at_by_others_lives),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
