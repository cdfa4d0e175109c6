/* SPDX-License-Identifier: MIT */
/* Another thread at work in the middle of a young collection. */
#include "lib/collect/collect.h"
#include "tests/support/node.h"
#include "tests/support/puppet.h"
#include "tests/support/window.h"

/* tower -> first -> second; the tower was handed to another thread, the other two have no counts but
 * those of the slots. */
static node *tower, *held;

static void *looks(void *arg) {
  (void)arg;
  tower = node_new(&node_type, 0);
  node *first = node_new(&node_type, 1);
  gyre_slot_init(&first->next, node_new(&node_type, 2));
  gyre_slot_init(&tower->next, first);
  test_window_subject();
  gyre__young_collect(gyre__objects_self(), true);
  return NULL;
}

/* Takes the first node out of the tower and puts it into the second, which it keeps: now each of the
 * two counts that the owner has read is explained by a slot. */
static void turns_round(void *arg) {
  (void)arg;
  node *first = gyre_take(&tower->next);
  held = gyre_load(&first->next);
  assert_null(gyre_swap(&held->next, first));
}

/* Only keeps the second node. */
static void keeps(void *arg) {
  (void)arg;
  node *first = gyre_load(&tower->next);
  held = gyre_load(&first->next);
  gyre_release(first);
}

static void what_the_other_keeps_lives(puppet_fn *fn, uint64_t alive) {
  TEST_NEEDS_WINDOWS();
  static const char *const windows[] = {"young/members", "young/edges", "young/flags"};
  for (size_t i = 0; i < sizeof windows / sizeof windows[0]; i++) {
    uint64_t before = nodes_destroyed();
    struct puppet other;
    puppet_start(&other);
    test_window_hold(windows[i], 1);
    pthread_t owner = test_thread_start(looks, NULL);
    GYRE_BLOCKING { test_window_await(); }
    puppet_run(&other, fn, NULL);
    test_window_release();
    GYRE_BLOCKING { (void)pthread_join(owner, NULL); }
    assert_int_equal(nodes_destroyed(), before);
    assert_int_equal(held->tag, 2);
    gyre_release(tower);
    assert_int_equal(nodes_destroyed(), before + 3 - alive);
    gyre_gc_collect(2);
    assert_int_equal(nodes_destroyed(), before + 3 - alive);
    gyre_release(held);
    puppet_stop(&other);
    gyre_gc_collect(2);
    assert_int_equal(nodes_destroyed(), before + 3);
  }
}

/* The counts say that the two are garbage. Only the flags tell that somebody has been there. */
static void a_reference_that_is_moved_during_a_step_is_seen(void **state) {
  (void)state;
  what_the_other_keeps_lives(turns_round, 2);
}

static void a_count_that_is_taken_during_a_step_is_seen(void **state) {
  (void)state;
  what_the_other_keeps_lives(keeps, 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(a_reference_that_is_moved_during_a_step_is_seen),
      NODE_TEST(a_count_that_is_taken_during_a_step_is_seen),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
