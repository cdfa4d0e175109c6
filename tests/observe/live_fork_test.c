/* SPDX-License-Identifier: MIT */
/* fork() while another thread counts what is alive: the child's heap is whole and can be counted. */
#include <gyre/stats.h>

#include "tests/support/node.h"

#define KEPT 2000

static test_flag done;

static void *count(void *arg) {
  (void)arg;
  while (!test_flag_get(&done)) {
    TEST_REQUIRE(gyre_live_objects() >= KEPT);
    gyre_safepoint();
  }
  return NULL;
}

static void use_everything(void *arg) {
  node *kept = arg;
  ptrdiff_t before = gyre_live_objects();
  TEST_REQUIRE(before >= KEPT);
  ring_drop(&plain_type, 100);
  TEST_REQUIRE(gyre_live_objects() >= before);
  TEST_REQUIRE(gyre_gc_collect(2) >= 100);
  TEST_REQUIRE(gyre_live_objects() <= before);
  TEST_REQUIRE(gyre_total_refs() >= KEPT);
  TEST_REQUIRE(gyre_sizeof_deep(kept, NULL, NULL) == KEPT * (ptrdiff_t)sizeof(node));
  struct gyre_stats s = {.size = sizeof s};
  TEST_REQUIRE(gyre_stats_get(&s) == 0 && s.heap_live_blocks >= KEPT);
}

static void a_child_counts_while_its_parent_did(void **state) {
  (void)state;
  node *kept = chain_new(&plain_type, KEPT);
  test_flag_set(&done, 0);
  pthread_t threads[2] = {test_thread_start(count, NULL), test_thread_start(count, NULL)};
  for (uint64_t i = test_size("GYRE_TEST_FORKS", 60, 20, 10); i > 0; i--)
    test_in_child(use_everything, kept);
  test_flag_set(&done, 1);
  for (int i = 0; i < 2; i++)
    (void)test_thread_join(threads[i]);
  gyre_release(kept);
}

int main(void) {
  const struct CMUnitTest tests[] = {NODE_TEST(a_child_counts_while_its_parent_did)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
