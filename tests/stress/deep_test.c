/* SPDX-License-Identifier: MIT */
/* Long chains on the smallest stack that a thread may have: dropped by their counts, and found dead by the
 * collector; by one thread, by eight, and by a thread with which the library begins. Provokes: recursion, and
 * large frames anywhere on these ways. */
#include <limits.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/node.h"

/* Sanitizers' frames are larger. */
static size_t smallest_stack(void) {
  bool sanitized = TEST_THREAD_SANITIZER || TEST_ADDRESS_SANITIZER;
  return sanitized || PTHREAD_STACK_MIN > 65536 ? 65536 : (size_t)PTHREAD_STACK_MIN;
}

static pthread_t small_start(void *(*body)(void *), void *arg) {
  pthread_attr_t attributes;
  pthread_t thread;
  TEST_REQUIRE(pthread_attr_init(&attributes) == 0);
  TEST_REQUIRE(pthread_attr_setstacksize(&attributes, smallest_stack()) == 0);
  TEST_REQUIRE(pthread_create(&thread, &attributes, body, arg) == 0);
  pthread_attr_destroy(&attributes);
  return thread;
}

static size_t length(size_t parts) {
  return (size_t)test_size("GYRE_TEST_CELLS", 2000000, 400000, 100000) / parts;
}

static void *drops_a_chain(void *parts) {
  gyre_release(chain_new(&node_type, length((uintptr_t)parts)));
  return NULL;
}

static void *leaves_a_dead_chain(void *parts) {
  node *ring = ring_new(&node_type, 2);
  gyre_slot_init(&ring->other, chain_new(&node_type, length((uintptr_t)parts)));
  gyre_release(ring);
  TEST_REQUIRE(gyre_gc_collect(2) >= 0);
  return NULL;
}

static void a_chain_is_dropped_on_the_smallest_stack(void **state) {
  (void)state;
  test_thread_join(small_start(drops_a_chain, (void *)1));
  assert_int_equal(nodes_destroyed(), length(1));
}

static void a_dead_chain_is_collected_on_the_smallest_stack(void **state) {
  (void)state;
  test_thread_join(small_start(leaves_a_dead_chain, (void *)1));
  assert_int_equal(nodes_destroyed(), length(1) + 2);
}

#define THREADS 8
static void eight_threads_do_so_at_once(void **state) {
  (void)state;
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++)
    threads[i] = small_start(i % 2 ? drops_a_chain : leaves_a_dead_chain, (void *)THREADS);
  for (int i = 0; i < THREADS; i++)
    test_thread_join(threads[i]);
  /* One may have found the other's ring before its chain was there. */
  TEST_REQUIRE(gyre_gc_collect(2) >= 0);
  assert_int_equal(nodes_destroyed(), THREADS * length(THREADS) + THREADS / 2 * 2);
}

/* ---- the library's first use ---- */

static int first_use(void) {
  (void)pthread_join(small_start(drops_a_chain, (void *)100), NULL);
  return 0;
}

static void the_library_may_begin_on_it(void **state) {
  (void)state;
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    (void)execl("/proc/self/exe", "deep_test", "first use", (char *)NULL);
    _exit(9);
  }
  int status = -1;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
}

int main(int argc, char **argv) {
  (void)argv;
  if (argc > 1) return first_use();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_library_may_begin_on_it),
      NODE_TEST(a_chain_is_dropped_on_the_smallest_stack),
      NODE_TEST(a_dead_chain_is_collected_on_the_smallest_stack),
      NODE_TEST_WITH(a_chain_is_dropped_on_the_smallest_stack, "gc:1,gc_threshold:100/2/2"),
      NODE_TEST_WITH(a_dead_chain_is_collected_on_the_smallest_stack, "gc:0,gc_mode:stw"),
      NODE_TEST(eight_threads_do_so_at_once),
      NODE_TEST_WITH(eight_threads_do_so_at_once, "gc:1,gc_mode:stw"),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
