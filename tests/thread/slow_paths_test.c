/* SPDX-License-Identifier: MIT */
/* Option slow_paths: threads that attach from now on count out of line. The inline paths compare
 * an object's owner with the thread's bias, so a bias that is nobody's id sends all of them there. */
#include "lib/object/object.h"
#include "tests/support/node.h"
#include "tests/support/puppet.h"

static void *bias_is_none(void *result) {
  gyre_thread_attach();
  *(bool *)result = gyre__bias == GYRE__BIAS_NONE;
  GYRE_BLOCKING { (void)sched_yield(); }
  TEST_REQUIRE((gyre__bias == GYRE__BIAS_NONE) == *(bool *)result);
  gyre_safepoint();
  gyre_gc_collect(2); /* which changes the mode, some times */
  TEST_REQUIRE((gyre__bias == GYRE__BIAS_NONE) == *(bool *)result);
  return NULL;
}

static bool a_new_thread_is_slow(void) {
  bool result = false;
  test_thread_run(bias_is_none, &result);
  return result;
}

static void the_option_is_for_threads_that_attach_from_now_on(void **state) {
  (void)state;
  gyre_thread_attach();
  assert_true(gyre__bias == gyre_thread_current()->id);
  assert_false(a_new_thread_is_slow());
  test_option_set("slow_paths", "1");
  assert_true(a_new_thread_is_slow());
  gyre_gc_collect(2);
  assert_true(gyre__bias == gyre_thread_current()->id); /* main attached before */
  gyre_thread_detach();
  gyre_thread_attach();
  assert_true(gyre__bias == GYRE__BIAS_NONE);
  test_option_set("slow_paths", "0");
  assert_false(a_new_thread_is_slow());
  assert_true(gyre__bias == GYRE__BIAS_NONE);
  gyre_thread_detach();
  gyre_thread_attach();
  assert_true(gyre__bias == gyre_thread_current()->id);
}

/* What a thread does is the same, only slower. */
static void *works(void *arg) {
  (void)arg;
  gyre_thread_attach();
  node *n = node_new(&node_type, 1);
  TEST_REQUIRE(gyre_refcount(n) == 1 && gyre_is_unique(n));
  for (int i = 0; i < 100; i++)
    (void)gyre_retain(n);
  /* Its own object: still counted in the local word. */
  /* relaxed: nobody else uses it. */
  TEST_REQUIRE(gyre__load_relaxed(&gyre__header_of(n)->local) == 101);
  TEST_REQUIRE(gyre__count_of(gyre__load_relaxed(&gyre__header_of(n)->shared)) == 0);
  for (int i = 0; i < 100; i++)
    gyre_release(n);
  node *holder = node_new(&node_type, 2);
  gyre_store(&holder->next, n);
  node *again = gyre_load(&holder->next);
  TEST_REQUIRE(again == n && gyre_refcount(n) == 3);
  gyre_release(again);
  gyre_release(n);
  gyre_release(holder);
  TEST_REQUIRE(nodes_destroyed() == 2);
  void *leaf = gyre_new(&leaf_type);
  gyre_release(leaf);
  TEST_REQUIRE(nodes_destroyed() == 3);
  ring_drop(&node_type, 4);
  gyre__young_collect(gyre__objects_self(), true);
  TEST_REQUIRE(nodes_destroyed() == 7);
  return NULL;
}

static void counts_are_the_same(void **state) {
  (void)state;
  test_thread_run(works, NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(the_option_is_for_threads_that_attach_from_now_on),
      NODE_TEST(counts_are_the_same),
      NODE_TEST_WITH(counts_are_the_same, "gc:0,slow_paths:1"),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
