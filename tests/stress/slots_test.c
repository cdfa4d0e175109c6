/* SPDX-License-Identifier: MIT */
/* Slots in large numbers: many threads one after the other, and as many at once as there may be.
 * Provokes slots that are lost or doubled on their way from one thread to the next, and growth with
 * the number of threads that ever were. */
#include <errno.h>

#include "lib/thread/thread.h"
#include "tests/support/node.h"

/* ---- one after the other ---- */

/* Each leaves a node to its successor, and a dead ring to the collector now and then. */
static gyre__atomic_ptr left;

static void *lives_shortly(void *arg) {
  uintptr_t i = (uintptr_t)arg;
  node *n = node_new(&plain_type, i);
  /* acq_rel: the node changes hands; pairs with itself. */
  gyre_release(gyre__exchange_acq_rel(&left, n));
  if (i % 100 == 0) ring_drop(&plain_type, 3);
  return NULL;
}

static void many_short_lived_threads_leave_no_growth_of_slots_or_memory(void **state) {
  (void)state;
  uint64_t threads = test_size("GYRE_TEST_THREADS", 200000, 20000, 10000);
  gyre_thread_attach();
  for (uintptr_t i = 0; i < 1000; i++)
    test_thread_run(lives_shortly, (void *)i);
  gyre_purge();
  struct gyre_thread_stats slots = test_thread_stats();
  struct gyre_heap_stats heap = test_heap_stats();
  for (uintptr_t i = 0; i < threads; i++)
    test_thread_run(lives_shortly, (void *)i);
  gyre_purge();
  assert_int_equal(test_thread_stats().slots_high_water, slots.slots_high_water);
  assert_int_equal(test_thread_stats().attached, 1);
  /* Rings may wait for a collection, a threshold's worth of objects at most. */
  assert_true(test_heap_stats().live_blocks <= heap.live_blocks + 10000);
  assert_true(test_heap_stats().committed_bytes <= heap.committed_bytes + (4u << 20));
  assert_true(test_heap_stats().mapped_bytes <= heap.mapped_bytes + (16u << 20));
  /* acq_rel: pairs with lives_shortly(). */
  gyre_release(gyre__exchange_acq_rel(&left, NULL));
}

/* ---- several at a time ---- */

enum { AT_ONCE = 8 };

static void threads_that_overlap_use_as_many_slots_as_lived_at_once(void **state) {
  (void)state;
  uint64_t rounds = test_size("GYRE_TEST_ROUNDS", 5000, 1000, 500);
  gyre_thread_attach();
  for (uint64_t i = 0; i < rounds; i++) {
    pthread_t threads[AT_ONCE];
    for (uintptr_t t = 0; t < AT_ONCE; t++)
      threads[t] = test_thread_start(lives_shortly, (void *)(i * AT_ONCE + t));
    for (unsigned t = 0; t < AT_ONCE; t++)
      test_thread_join(threads[t]);
  }
  /* Detaching is not over when the slot can be seen as an orphan, so one more may come and go
   * meanwhile. */
  assert_true(test_thread_stats().slots_high_water <= 2 * AT_ONCE + 2);
  /* acq_rel: pairs with lives_shortly(). */
  gyre_release(gyre__exchange_acq_rel(&left, NULL));
}

/* ---- all at once ---- */

/* The calling thread goes on as if it were the one with this handle; NULL: as if it were not
 * attached. */
static void become(gyre_thread *thread) {
  gyre__self = thread != NULL ? thread : &gyre__thread_unattached.thread.base;
  gyre__bias = thread != NULL ? thread->id : GYRE__BIAS_NONE;
}

static gyre_thread *attach_another(void) {
  become(NULL);
  return gyre_thread_attach();
}

static void there_may_be_65535_threads_and_no_more(void **state) {
  (void)state;
  /* Each slot is a few KiB of memory that is never given back, several times that under sanitizers,
   * which moreover have nothing more to find in the last ones. */
  uint32_t slots = (uint32_t)test_size("GYRE_TEST_SLOTS", GYRE__SLOT_MAX, 4000, 2000);
  gyre_thread **threads = calloc(slots, sizeof *threads);
  TEST_REQUIRE(threads != NULL);
  for (uint32_t i = 0; i < slots; i++) {
    threads[i] = attach_another();
    assert_non_null(threads[i]);
    assert_true(threads[i]->id >= 1 && threads[i]->id <= GYRE__SLOT_MAX);
  }
  assert_int_equal(test_thread_stats().attached, slots);
  if (slots == GYRE__SLOT_MAX) {
    errno = 0;
    assert_null(attach_another());
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(gyre_thread_set_name("one too many"), -EAGAIN);
    assert_null(gyre_malloc(1));
    assert_null(gyre_new(&plain_type));
    assert_int_equal(gyre_synchronize(), -EAGAIN);
  }
  /* The last of them makes an object, another is its owner's heir. */
  become(threads[slots - 1]);
  node *n = node_new(&plain_type, 1);
  for (uint32_t i = 0; i < slots; i++) {
    become(threads[i]);
    gyre_thread_detach();
  }
  assert_int_equal(test_thread_stats().attached, 0);
  assert_int_equal(test_thread_stats().orphans, test_thread_stats().slots_high_water);
  /* A place is free again. */
  assert_non_null(gyre_thread_attach());
  assert_int_equal(gyre_thread_current()->id, threads[slots - 1]->id);
  gyre_release(n);
  free(threads);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(many_short_lived_threads_leave_no_growth_of_slots_or_memory),
      TEST(threads_that_overlap_use_as_many_slots_as_lived_at_once),
      TEST(there_may_be_65535_threads_and_no_more),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
