/* SPDX-License-Identifier: MIT */
/* The end of the use of the library. */
#include <errno.h>

#include "tests/support/node.h"
#include "tests/support/puppet.h"

static void the_end_collects_what_is_garbage(void **state) {
  (void)state;
  ring_drop(&finalized_type, 100);
  assert_int_equal(gyre_fini(), 0);
  assert_int_equal(nodes_finalized(), 100);
  assert_int_equal(nodes_destroyed(), 100);
  assert_null(gyre_thread_current());
}

static void the_end_finishes_pending_releases(void **state) {
  (void)state;
  gyre_release(chain_new(&node_type, 1000));
  assert_int_equal(nodes_destroyed(), 100);
  assert_int_equal(gyre_fini(), 0);
  assert_int_equal(nodes_destroyed(), 1000);
}

static void the_end_returns_how_many_objects_live_and_names_their_types(void **state) {
  (void)state;
  static gyre_type named = {.name = "forgotten_leaf", .size = 8};
  test_option_set("leaks", "1");
  test_log_capture();
  node *ring = ring_new(&node_type, 7);
  void *leaf = gyre_new(&named), *eternal = gyre_new(&named);
  gyre_immortalize(eternal);
  assert_int_equal(gyre_fini(), 8);
  assert_int_equal(test_log_count("7 of type node"), 1);
  assert_int_equal(test_log_count("1 of type forgotten_leaf"), 1);
  assert_int_equal(test_log_count("leak"), 2);
  test_option_set("leaks", "0");
  assert_int_equal(gyre_fini(), 8);
  assert_int_equal(test_log_count("leak"), 2);
  gyre_release(ring);
  gyre_release(leaf);
  make_mortal(eternal);
  gyre_release(eternal);
  assert_int_equal(gyre_fini(), 0);
}

static void the_library_may_be_used_again_after_the_end(void **state) {
  (void)state;
  for (int round = 0; round < 20; round++) {
    node *n = ring_new(&node_type, 50);
    void *block = gyre_malloc(100);
    assert_non_null(block);
    assert_int_equal(gyre_gc_collect(2), 0);
    gyre_release(n);
    gyre_free(block);
    if (round % 2) assert_int_equal(gyre_gc_collect(2), 50);
    assert_int_equal(gyre_fini(), 0);
    assert_int_equal(nodes_destroyed(), 50 * ((uint64_t)round + 1));
  }
}

static void objects_survive_the_end(void **state) {
  (void)state;
  node *n = ring_new(&node_type, 3);
  assert_int_equal(gyre_fini(), 3);
  assert_int_equal(gyre_refcount(n), 2);
  GYRE_AUTO(node) next = gyre_load(&n->next);
  assert_int_equal(next->tag, 1);
  gyre_release(n);
}

static test_flag go_on;
static void run_until_told(void *arg) {
  (void)arg;
  TEST_AWAIT_SAFELY(test_flag_get(&go_on));
}

static void the_end_is_refused_while_another_thread_runs(void **state) {
  (void)state;
  struct puppet other;
  test_flag_set(&go_on, 0);
  puppet_start(&other);
  puppet_begin(&other, run_until_told, NULL);
  TEST_AWAIT(test_thread_stats().parked == 0);
  node *n = node_new(&node_type, 0);
  assert_int_equal(gyre_fini(), -EBUSY);
  /* Nothing has changed. */
  assert_non_null(gyre_thread_current());
  assert_int_equal(gyre_refcount(n), 1);
  test_flag_set(&go_on, 1);
  puppet_await(&other);
  /* Parked is fine. */
  assert_int_equal(gyre_fini(), 1);
  gyre_release(n);
  puppet_stop(&other);
}

static int leave_more(node *n) {
  if (n->tag > 0) ring_drop(&finalized_type, n->tag);
  return 0;
}

static void the_end_collects_what_finalizers_leave(void **state) {
  (void)state;
  node_on_finalize = leave_more;
  /* The finalizer of 2 makes a ring of 0 and 1, that of 1 one of 0. */
  node *n = node_new(&finalized_type, 2);
  gyre_store(&n->next, n);
  gyre_release(n);
  assert_int_equal(gyre_fini(), 0);
  assert_int_equal(nodes_destroyed(), 4);
}

static void end_elsewhere(void *result) { *(ptrdiff_t *)result = gyre_fini(); }

static void objects_of_parked_and_exited_threads_count(void **state) {
  (void)state;
  struct puppet other;
  puppet_start(&other);
  node *n = ring_new(&node_type, 4);
  ptrdiff_t alive = 0;
  puppet_run_parked(&other, end_elsewhere, &alive);
  assert_int_equal(alive, 4);
  puppet_stop(&other);
  gyre_release(n);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(the_end_collects_what_is_garbage),
      NODE_TEST_WITH(the_end_finishes_pending_releases, "gc:0,release_budget:100"),
      NODE_TEST(the_end_returns_how_many_objects_live_and_names_their_types),
      NODE_TEST(the_library_may_be_used_again_after_the_end),
      NODE_TEST(objects_survive_the_end),
      NODE_TEST(the_end_is_refused_while_another_thread_runs),
      NODE_TEST(the_end_collects_what_finalizers_leave),
      NODE_TEST(objects_of_parked_and_exited_threads_count),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
