/* SPDX-License-Identifier: MIT */
/* Blocks that end at a guard page (debug builds, option "guard"). */
#include <unistd.h>

#include "child.h"
#include "lib/heap/page.h"

static int guard_setup(void **state) {
  if (!DEBUG_BUILD) return 0;
  assert_int_equal(gyre_option_set("quarantine", "64k"), 0);
  assert_int_equal(heap_setup(state), 0);
  return gyre_option_set("guard", "1");
}

static int guard_teardown(void **state) {
  if (!DEBUG_BUILD) return 0;
  assert_int_equal(gyre_option_set("guard", "0"), 0);
  assert_int_equal(gyre_option_set("large", "spans"), 0);
  return heap_teardown(state);
}

#define NEEDS_GUARDS()                                                                             \
  do {                                                                                             \
    if (!DEBUG_BUILD) skip();                                                                      \
  } while (0)

static bool is_guarded(const void *block) { return gyre__page_is_guarded(gyre__page_of(block)); }

/* ---- blocks ---- */

static void blocks_are_as_large_as_asked_for(void **state) {
  (void)state;
  NEEDS_GUARDS();
  const size_t sizes[] = {0, 1, 15, 16, 17, 100, 4095, 4096, 4097, 65536, 100000, GYRE__SPAN_MAX};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    void *block = gyre_malloc(sizes[i]);
    assert_true(is_guarded(block));
    assert_int_equal((uintptr_t)block % 16, 0);
    assert_int_equal(gyre_usable_size(block), sizes[i]);
    fill(block, sizes[i], 3);
    assert_true(holds(block, sizes[i], 3));
    gyre_free_sized(block, sizes[i]);
  }
  check_all_heaps();
}

static void every_nth_is_guarded(void **state) {
  (void)state;
  NEEDS_GUARDS();
  assert_int_equal(gyre_option_set("guard", "3"), 0);
  void *blocks[30];
  int guarded = 0;
  for (int i = 0; i < 30; i++)
    guarded += is_guarded(blocks[i] = gyre_malloc((size_t)i * 100));
  assert_int_equal(guarded, 10);
  assert_int_equal(heap_stats().live_blocks, 30);
  for (int i = 0; i < 30; i++)
    gyre_free(blocks[i]);
  assert_int_equal(heap_stats().live_blocks, 0);
}

static void huge_blocks_are_not(void **state) {
  (void)state;
  NEEDS_GUARDS();
  void *block = gyre_malloc(GYRE__SPAN_MAX + 1);
  assert_false(is_guarded(block));
  gyre_free(block);
}

static void calloc_zeroes_and_alignment_is_kept(void **state) {
  (void)state;
  NEEDS_GUARDS();
  void *block = gyre_calloc(3, 1001);
  assert_true(is_guarded(block));
  assert_true(test_is_filled(block, 0, 3003));
  gyre_free(block);
  size_t page_size = gyre__os_page_size();
  for (size_t alignment = 1; alignment <= 4 * page_size; alignment *= 2) {
    block = gyre_aligned_alloc(alignment, 100);
    assert_int_equal((uintptr_t)block % alignment, 0);
    assert_int_equal(is_guarded(block), alignment <= page_size);
    fill(block, 100, 1);
    gyre_free(block);
  }
}

static void realloc_keeps_contents_between_blocks_of_all_kinds(void **state) {
  (void)state;
  NEEDS_GUARDS();
  assert_int_equal(gyre_option_set("guard", "2"), 0);
  const size_t sizes[] = {10, 10, 11, 9, 5000, 4000, 100000, 90000, 3000000, 50, 0, 20};
  char *block = gyre_malloc(10);
  size_t size = 10;
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    fill(block, size, (unsigned)i);
    block = gyre_realloc(block, sizes[i]);
    assert_true(gyre_usable_size(block) >= sizes[i]);
    assert_true(holds(block, size < sizes[i] ? size : sizes[i], (unsigned)i));
    size = sizes[i];
  }
  gyre_free(block);
}

static void without_address_space_a_block_is_an_ordinary_one(void **state) {
  (void)state;
  NEEDS_GUARDS();
  void *first = gyre_malloc(100);
  gyre_heap_set_limit(heap_stats().committed_bytes + 65536);
  void *block = gyre_malloc(100000); /* fits neither way */
  assert_null(block);
  gyre_heap_set_limit(0);
  gyre_free(first);
}

/* ---- threads and children ---- */

static void *free_it(void *block) {
  (void)gyre_thread_attach();
  gyre_free(block);
  return NULL;
}

static void *free_it_unattached(void *block) {
  gyre_free(block);
  return NULL;
}

static void other_threads_may_free_them(void **state) {
  (void)state;
  NEEDS_GUARDS();
  in_thread(free_it, gyre_malloc(100));
  in_thread(free_it_unattached, gyre_malloc(100));
}

static char *shared;

static void use_in_a_fork(void) {
  if (!holds(shared, 1000, 5)) _exit(1);
  fill(shared, 1000, 6);
  gyre_free(shared);
  void *block = gyre_malloc(10);
  if (!is_guarded(block)) _exit(2);
  gyre_free(block);
  (void)gyre_purge();
  _exit(heap_stats().live_blocks == 0 ? 0 : 3);
}

static void children_have_their_own(void **state) {
  (void)state;
  NEEDS_GUARDS();
  char text[1000];
  shared = gyre_malloc(1000);
  fill(shared, 1000, 5);
  int status = run_in_child(use_in_a_fork, text, sizeof text);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
  assert_true(holds(shared, 1000, 5));
  gyre_free(shared);
}

/* ---- mistakes ---- */

static void write_past_the_end(void) {
  volatile char *block = hidden(gyre_malloc(64));
  block[63] = 1;
  block[64] = 1;
}

static void read_past_the_end_of_an_aligned_block(void) {
  volatile char *block = hidden(gyre_aligned_alloc(256, 512));
  (void)block[512];
}

static void write_past_the_slack(void) {
  volatile char *block = hidden(gyre_realloc(gyre_malloc(100000), 100001));
  block[100015] = 1;
  block[100016] = 1;
}

static void an_overrun_faults(void **state) {
  (void)state;
  NEEDS_GUARDS();
  expect_death(write_past_the_end, SIGSEGV, "");
  expect_death(read_past_the_end_of_an_aligned_block, SIGSEGV, "");
  expect_death(write_past_the_slack, SIGSEGV, "");
}

static void write_into_the_slack(void) {
  volatile char *block = hidden(gyre_malloc(50));
  block[52] = 1;
  gyre_free(hidden((char *)(uintptr_t)block));
}

static void an_overrun_into_the_slack_is_found_by_free(void **state) {
  (void)state;
  NEEDS_GUARDS();
  expect_abort(write_into_the_slack, "of 50 bytes was written to at byte 52");
}

static void read_after_free(void) {
  volatile char *block = gyre_malloc(50);
  gyre_free(hidden((char *)(uintptr_t)block));
  (void)*(volatile char *)hidden((char *)(uintptr_t)block);
}

static void read_after_free_elsewhere(void) {
  volatile char *block = gyre_malloc(50);
  in_thread(free_it_unattached, hidden((char *)(uintptr_t)block));
  (void)*(volatile char *)hidden((char *)(uintptr_t)block);
}

static void a_touch_after_free_faults(void **state) {
  (void)state;
  NEEDS_GUARDS();
  expect_death(read_after_free, SIGSEGV, "");
  expect_death(read_after_free_elsewhere, SIGSEGV, "");
}

static void free_twice(void) {
  void *block = gyre_malloc(50);
  gyre_free(block);
  gyre_free(hidden(block));
}

static void free_inside(void) { gyre_free(hidden((char *)gyre_malloc(50) + 16)); }

static void double_frees_and_wrong_pointers_are_named(void **state) {
  (void)state;
  NEEDS_GUARDS();
  expect_abort(free_twice, "double free");
  expect_abort(free_inside, "invalid pointer");
}

#define GUARD_TEST(f) cmocka_unit_test_setup_teardown(f, guard_setup, guard_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      GUARD_TEST(blocks_are_as_large_as_asked_for),
      GUARD_TEST(every_nth_is_guarded),
      GUARD_TEST(huge_blocks_are_not),
      GUARD_TEST(calloc_zeroes_and_alignment_is_kept),
      GUARD_TEST(realloc_keeps_contents_between_blocks_of_all_kinds),
      GUARD_TEST(without_address_space_a_block_is_an_ordinary_one),
      GUARD_TEST(other_threads_may_free_them),
      GUARD_TEST(children_have_their_own),
      GUARD_TEST(an_overrun_faults),
      GUARD_TEST(an_overrun_into_the_slack_is_found_by_free),
      GUARD_TEST(a_touch_after_free_faults),
      GUARD_TEST(double_frees_and_wrong_pointers_are_named),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
