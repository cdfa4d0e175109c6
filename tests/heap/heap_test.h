/* SPDX-License-Identifier: MIT */
/* What the heap's tests share: includes, figures, random numbers, blocks that know their contents,
 * threads. */
#ifndef GYRE_TESTS_HEAP_HEAP_TEST_H
#define GYRE_TESTS_HEAP_HEAP_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include <gyre/gyre.h>

#include "lib/heap/heap.h"
#include "tests/support/bytes.h"
#include "tests/support/sanitizer.h"

/* ThreadSanitizer takes many times as long and wants no more than some of each. */
#define HEAP_TEST_PART (TEST_THREAD_SANITIZER ? 5 : 1)

/* ---- figures ---- */

static inline struct gyre_heap_stats heap_stats(void) {
  struct gyre_heap_stats stats = {.size = sizeof stats};
  assert_int_equal(gyre_heap_get_stats(&stats), 0);
  return stats;
}

/* Verifies every heap. No other thread uses the library. */
static inline void check_all_heaps(void) {
  for (uint32_t id = 1; id <= gyre__thread_slot_count(); id++)
    gyre__heap_check_slot((struct gyre__heap *)gyre__thread_slot(id));
  gyre__heap_check_totals();
}

/* A test's setup: nothing of an earlier one is left over. */
static inline int heap_setup(void **state) {
  (void)state;
  assert_non_null(gyre_thread_attach());
  assert_int_equal(gyre_purge(), 0);
  assert_int_equal(heap_stats().live_blocks, 0);
  return 0;
}

/* A test's teardown: every heap is sound, all blocks are free, and all memory goes back. */
static inline int heap_teardown(void **state) {
  (void)state;
  gyre__fault_arm(0, 0);
  gyre_heap_set_limit(0);
  gyre_set_oom_handler(NULL, NULL);
  check_all_heaps();
  assert_int_equal(gyre_purge(), 0);
  check_all_heaps();
  struct gyre_heap_stats stats = heap_stats();
  assert_int_equal(stats.live_blocks, 0);
  assert_int_equal(stats.live_bytes, 0);
  assert_int_equal(stats.cached_bytes, 0);
  assert_int_equal(stats.committed_bytes, 0);
  assert_int_equal(stats.mapped_bytes, 0);
  return 0;
}

#define HEAP_TEST(f) cmocka_unit_test_setup_teardown(f, heap_setup, heap_teardown)

/* ---- random numbers ---- */

static inline uint64_t test_seed(void) {
  const char *text = getenv("GYRE_TEST_SEED");
  uint64_t seed = text != NULL ? strtoull(text, NULL, 0) : gyre__clock_ns();
  print_message("GYRE_TEST_SEED=%llu\n", (unsigned long long)seed);
  return seed;
}

static inline uint64_t test_random(uint64_t *state) {
  uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));
  z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
  return z ^ z >> 31;
}

/* ---- contents ---- */

static inline void fill(void *block, size_t size, unsigned tag) {
  unsigned char *bytes = block;
  for (size_t i = 0; i < size; i++)
    bytes[i] = (unsigned char)(tag + i * 7);
}

static inline int holds(const void *block, size_t size, unsigned tag) {
  const unsigned char *bytes = block;
  for (size_t i = 0; i < size; i++)
    if (bytes[i] != (unsigned char)(tag + i * 7)) return 0;
  return 1;
}

/* ---- threads ---- */

static inline pthread_t thread_start(void *(*run)(void *), void *arg) {
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, run, arg), 0);
  return thread;
}

/* Waits for the thread's end without holding up grace periods. */
static inline void thread_join(pthread_t thread) {
  gyre_park();
  assert_int_equal(pthread_join(thread, NULL), 0);
  gyre_unpark();
}

/* Runs `run` in a thread of its own, to its end. */
static inline void in_thread(void *(*run)(void *), void *arg) {
  thread_join(thread_start(run, arg));
}

/* A point that two threads pass together; who waits is parked. */
typedef struct meeting {
  pthread_barrier_t barrier;
} meeting;
static inline void meeting_init(meeting *m, unsigned count) {
  assert_int_equal(pthread_barrier_init(&m->barrier, NULL, count), 0);
}
static inline void meet(meeting *m) {
  gyre_park();
  (void)pthread_barrier_wait(&m->barrier);
  gyre_unpark();
}
/* The same without parking: the thread stays a running one that passes no safepoint. */
static inline void meet_running(meeting *m) { (void)pthread_barrier_wait(&m->barrier); }

#endif
