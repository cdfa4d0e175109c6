/* SPDX-License-Identifier: MIT */
#include "heap_test.h"

static const size_t sizes[] = {0,    1,    15,    16,    17,    100,    128,    129,    1000,
                               8192, 8193, 65535, 65536, 65537, 100000, 999999, 5 << 20};
#define SIZES (sizeof sizes / sizeof sizes[0])

static void blocks_are_aligned_distinct_and_writable(void **state) {
  (void)state;
  void *blocks[SIZES];
  for (size_t i = 0; i < SIZES; i++) {
    blocks[i] = gyre_malloc(sizes[i]);
    assert_non_null(blocks[i]);
    assert_int_equal((uintptr_t)blocks[i] % 16, 0);
    assert_true(gyre_usable_size(blocks[i]) >= sizes[i]);
    fill(blocks[i], gyre_usable_size(blocks[i]), (unsigned)i);
  }
  for (size_t i = 0; i < SIZES; i++) {
    assert_true(holds(blocks[i], gyre_usable_size(blocks[i]), (unsigned)i));
    gyre_free(blocks[i]);
  }
}

static void nothing_happens_when_null_is_freed(void **state) {
  (void)state;
  gyre_free(NULL);
  gyre_free_sized(NULL, 0);
  assert_int_equal(gyre_usable_size(NULL), 0);
}

static void zero_bytes_give_distinct_blocks(void **state) {
  (void)state;
  void *a = gyre_malloc(0), *b = gyre_malloc(0);
  assert_non_null(a);
  assert_ptr_not_equal(a, b);
  gyre_free(a);
  gyre_free(b);
}

static void a_thread_handle_serves_as_well(void **state) {
  (void)state;
  gyre_thread *self = gyre_thread_current();
  char *a = gyre_thread_malloc(self, 100);
  char *b = gyre_thread_calloc(self, 10, 10);
  char *c = gyre_thread_aligned_alloc(self, 256, 100);
  assert_true(test_is_filled(b, 0, 100));
  assert_int_equal((uintptr_t)c % 256, 0);
  fill(a, 100, 1);
  a = gyre_thread_realloc(self, a, 1000);
  assert_true(holds(a, 100, 1));
  gyre_thread_free(self, a);
  gyre_thread_free_sized(self, b, 100);
  gyre_thread_free(self, c);
}

static void freed_memory_is_used_again(void **state) {
  (void)state;
  assert_int_equal(gyre_option_set("quarantine", "0"), 0);
  gyre_free(gyre_malloc(64));
  size_t committed = heap_stats().committed_bytes;
  for (int i = 0; i < 100000; i++)
    gyre_free_sized(gyre_malloc(64), 64);
  assert_int_equal(heap_stats().committed_bytes, committed);
}

static void an_impossible_size_fails_with_enomem(void **state) {
  (void)state;
  static volatile size_t huge = SIZE_MAX;
  errno = 0;
  assert_null(gyre_malloc(huge));
  assert_int_equal(errno, ENOMEM);
  errno = 0;
  assert_null(gyre_malloc(huge / 2 + 1));
  assert_int_equal(errno, ENOMEM);
  errno = 0;
  assert_null(gyre_aligned_alloc(64, huge - 100));
  assert_int_equal(errno, ENOMEM);
  void *block = gyre_malloc(10);
  errno = 0;
  assert_null(gyre_realloc(block, huge));
  assert_int_equal(errno, ENOMEM);
  gyre_free(block);
}

/* ---- calloc ---- */

static void calloc_zeroes_memory_that_was_used_before(void **state) {
  (void)state;
  for (size_t i = 0; i < SIZES; i++) {
    void *dirty = gyre_malloc(sizes[i]);
    fill(dirty, sizes[i], 0xA5);
    gyre_free(dirty);
    void *block = gyre_calloc(1, sizes[i]);
    assert_non_null(block);
    assert_true(test_is_filled(block, 0, sizes[i]));
    gyre_free(block);
  }
}

static void calloc_refuses_a_product_that_overflows(void **state) {
  (void)state;
  static volatile size_t half = SIZE_MAX / 2 + 1;
  errno = 0;
  assert_null(gyre_calloc(half, 2));
  assert_int_equal(errno, ENOMEM);
  errno = 0;
  assert_null(gyre_calloc(2, half));
  assert_int_equal(errno, ENOMEM);
  errno = 0;
  assert_null(gyre_calloc(half / 4, 16));
  assert_int_equal(errno, ENOMEM);
}

static void calloc_of_nothing_gives_a_block(void **state) {
  (void)state;
  void *block = gyre_calloc(0, 8);
  assert_non_null(block);
  gyre_free(block);
}

/* ---- alignment ---- */

static void aligned_blocks_are_aligned_for_every_power_of_two(void **state) {
  (void)state;
  for (size_t alignment = 1; alignment <= (size_t)1 << 30; alignment *= 2)
    for (size_t i = 0; i < SIZES; i++) {
      char *a = gyre_aligned_alloc(alignment, sizes[i]);
      char *b = gyre_aligned_alloc(alignment, sizes[i]);
      assert_non_null(a);
      assert_non_null(b);
      assert_int_equal((uintptr_t)a % alignment, 0);
      assert_int_equal((uintptr_t)b % alignment, 0);
      assert_true(gyre_usable_size(a) >= sizes[i]);
      fill(a, sizes[i], 1);
      fill(b, sizes[i], 2);
      assert_true(holds(a, sizes[i], 1));
      gyre_free(a);
      gyre_free(b);
    }
}

static void an_alignment_that_is_no_power_of_two_or_too_large_is_refused(void **state) {
  (void)state;
  static volatile size_t wrong[] = {0, 3, 24, 100, (size_t)1 << 31};
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    errno = 0;
    assert_null(gyre_aligned_alloc(wrong[i], 64));
    assert_int_equal(errno, EINVAL);
  }
}

static void aligned_blocks_keep_their_contents_through_realloc(void **state) {
  (void)state;
  for (size_t alignment = 32; alignment <= 1 << 20; alignment *= 8)
    for (size_t i = 0; i + 1 < SIZES; i++) {
      char *block = gyre_aligned_alloc(alignment, sizes[i]);
      fill(block, sizes[i], 9);
      block = gyre_realloc(block, sizes[i + 1]);
      assert_true(holds(block, sizes[i], 9));
      block = gyre_realloc(block, sizes[i] / 2);
      assert_true(holds(block, sizes[i] / 2, 9));
      gyre_free(block);
    }
}

/* ---- realloc ---- */

static void realloc_keeps_contents_between_all_sizes(void **state) {
  (void)state;
  for (size_t from = 0; from < SIZES; from++)
    for (size_t to = 0; to < SIZES; to++) {
      char *block = gyre_malloc(sizes[from]);
      fill(block, sizes[from], (unsigned)from);
      block = gyre_realloc(block, sizes[to]);
      assert_non_null(block);
      assert_true(gyre_usable_size(block) >= sizes[to]);
      size_t kept = sizes[from] < sizes[to] ? sizes[from] : sizes[to];
      assert_true(holds(block, kept, (unsigned)from));
      fill(block, sizes[to], 3);
      gyre_free(block);
    }
}

static void realloc_of_null_allocates(void **state) {
  (void)state;
  void *block = gyre_realloc(NULL, 40);
  assert_non_null(block);
  gyre_free(block);
}

static void realloc_to_zero_shrinks_and_does_not_free(void **state) {
  (void)state;
  void *block = gyre_malloc(5000);
  block = gyre_realloc(block, 0);
  assert_non_null(block);
  assert_true(gyre_usable_size(block) < 5000);
  gyre_free(block);
  block = gyre_realloc(gyre_malloc(1 << 20), 0);
  assert_non_null(block);
  gyre_free(block);
}

static void realloc_within_the_class_stays_in_place(void **state) {
  (void)state;
  char *block = gyre_malloc(1030);
  size_t room = gyre__page_usable(gyre__page_of(block));
  assert_ptr_equal(gyre_realloc(block, room - GYRE__REDZONE), block);
  assert_ptr_equal(gyre_realloc(block, room / 2 - GYRE__REDZONE), block);
  assert_ptr_equal(gyre_realloc(block, 1030), block);
  gyre_free(block);
}

static void a_block_that_grows_byte_by_byte_is_seldom_copied(void **state) {
  (void)state;
  char *block = gyre_malloc(1);
  unsigned moves = 0;
  for (size_t size = 1; size <= 60000; size++) {
    char *grown = gyre_realloc(block, size);
    moves += grown != block;
    block = grown;
    block[size - 1] = (char)size;
  }
  assert_true(moves < 60);
  for (size_t size = 1; size <= 60000; size++)
    assert_int_equal(block[size - 1], (char)size);
  gyre_free(block);
}

/* ---- attaching ---- */

static void *allocate_and_free(void *arg) {
  void **out = arg;
  assert_null(gyre_thread_current());
  void *block = gyre_malloc(48);
  assert_non_null(block);
  assert_non_null(gyre_thread_current());
  gyre_free(block);
  *out = gyre_calloc(1, 100000);
  return NULL;
}

static void a_thread_attaches_when_it_allocates(void **state) {
  (void)state;
  void *large = NULL;
  in_thread(allocate_and_free, &large);
  assert_non_null(large);
  gyre_free(large);
}

static void *only_free(void *arg) {
  gyre_free(((void **)arg)[0]);
  gyre_free(((void **)arg)[1]);
  assert_null(gyre_thread_current());
  return NULL;
}

static void a_thread_that_only_frees_need_not_attach(void **state) {
  (void)state;
  void *blocks[2] = {gyre_malloc(32), gyre_malloc(1 << 20)};
  in_thread(only_free, blocks);
  assert_int_equal(gyre_purge(), 0);
  assert_int_equal(heap_stats().live_blocks, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      HEAP_TEST(blocks_are_aligned_distinct_and_writable),
      HEAP_TEST(nothing_happens_when_null_is_freed),
      HEAP_TEST(zero_bytes_give_distinct_blocks),
      HEAP_TEST(a_thread_handle_serves_as_well),
      HEAP_TEST(freed_memory_is_used_again),
      HEAP_TEST(an_impossible_size_fails_with_enomem),
      HEAP_TEST(calloc_zeroes_memory_that_was_used_before),
      HEAP_TEST(calloc_refuses_a_product_that_overflows),
      HEAP_TEST(calloc_of_nothing_gives_a_block),
      HEAP_TEST(aligned_blocks_are_aligned_for_every_power_of_two),
      HEAP_TEST(an_alignment_that_is_no_power_of_two_or_too_large_is_refused),
      HEAP_TEST(aligned_blocks_keep_their_contents_through_realloc),
      HEAP_TEST(realloc_keeps_contents_between_all_sizes),
      HEAP_TEST(realloc_of_null_allocates),
      HEAP_TEST(realloc_to_zero_shrinks_and_does_not_free),
      HEAP_TEST(realloc_within_the_class_stays_in_place),
      HEAP_TEST(a_block_that_grows_byte_by_byte_is_seldom_copied),
      HEAP_TEST(a_thread_attaches_when_it_allocates),
      HEAP_TEST(a_thread_that_only_frees_need_not_attach),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
