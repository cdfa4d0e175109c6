/* SPDX-License-Identifier: MIT */
/* Each allocation of a program fails in turn: it says so, and nothing is lost or half done. */
#include "heap_test.h"

#ifdef GYRE_WINDOWS
#define FAULTS_WORK 1
#else
#define FAULTS_WORK 0
#endif

#define NEED_FAULTS()                                                                              \
  do {                                                                                             \
    if (!FAULTS_WORK) skip();                                                                      \
  } while (0)

/* NULL must come with ENOMEM. */
static void *checked(void *block) {
  if (block == NULL) assert_int_equal(errno, ENOMEM);
  errno = 0;
  return block;
}

/* A bit of everything. Returns how many allocations failed. */
static unsigned program(void) {
  unsigned failed = 0;
  errno = 0;
  void *small = checked(gyre_malloc(100));
  void *medium = checked(gyre_malloc(20000));
  void *large = checked(gyre_malloc(200000));
  void *zeroed = checked(gyre_calloc(30, 3000));
  void *aligned = checked(gyre_aligned_alloc(4096, 5000));
  void *aligned_large = checked(gyre_aligned_alloc(1 << 20, 5000));
  void **all[] = {&small, &medium, &large, &zeroed, &aligned, &aligned_large};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
    if (*all[i] == NULL) {
      failed++;
      continue;
    }
    size_t known = gyre_usable_size(*all[i]) < 5000 ? 100 : 5000;
    fill(*all[i], known, 7);
    void *grown = checked(gyre_realloc(*all[i], 150000));
    failed += grown == NULL;
    if (grown != NULL) *all[i] = grown;
    assert_true(holds(*all[i], known, 7));
    void *shrunk = checked(gyre_realloc(*all[i], 50));
    assert_non_null(shrunk); /* shrinking cannot fail */
    assert_true(holds(shrunk, 50, 7));
    *all[i] = shrunk;
  }
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
    gyre_free(*all[i]);
  return failed;
}

static void every_allocation_can_fail_and_nothing_is_lost(void **state) {
  (void)state;
  NEED_FAULTS();
  uint64_t nth = 0, count;
  unsigned failures = 0;
  do {
    assert_int_equal(gyre_purge(), 0); /* so that segments must be mapped anew */
    gyre__fault_arm(++nth, 0);
    failures += program();
    count = gyre__fault_count();
    gyre__fault_arm(0, 0);
    check_all_heaps();
    assert_int_equal(heap_stats().live_blocks, 0);
  } while (count >= nth);
  /* The six allocations; what fails once below them, or because a block cannot be moved to where it
   * would have room to grow, is tried again. */
  assert_true(failures >= 6);
}

static void every_third_allocation_fails_for_ever(void **state) {
  (void)state;
  NEED_FAULTS();
  gyre__fault_arm(3, 1);
  for (int i = 0; i < 50; i++)
    program();
  assert_true(gyre__fault_count() > 150);
  gyre__fault_arm(0, 0);
}

static void *attach_with_faults(void *arg) {
  (void)arg;
  void *block = NULL;
  for (int i = 0; i < 100 && block == NULL; i++)
    block = gyre_malloc(10);
  assert_non_null(block);
  gyre_free(block);
  return NULL;
}

static void a_thread_that_cannot_attach_fails_with_enomem(void **state) {
  (void)state;
  NEED_FAULTS();
  pthread_t threads[12];
  gyre__fault_arm(2, 1);
  for (int i = 0; i < 12; i++)
    threads[i] = thread_start(attach_with_faults, NULL);
  for (int i = 0; i < 12; i++)
    thread_join(threads[i]);
  gyre__fault_arm(0, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      HEAP_TEST(every_allocation_can_fail_and_nothing_is_lost),
      HEAP_TEST(every_third_allocation_fails_for_ever),
      HEAP_TEST(a_thread_that_cannot_attach_fails_with_enomem),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
