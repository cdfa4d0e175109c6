/* SPDX-License-Identifier: MIT */
/* The contract of each function of the family. */
#include <errno.h>

#include "tests/malloc/family.h"
#include "tests/support/bytes.h"

/* Not constants to the compiler, which would complain of them or know the answer. */
static volatile size_t huge = SIZE_MAX;
static volatile size_t half = SIZE_MAX / 2 + 1;
static volatile size_t zero = 0;

static const size_t sizes[] = {0,    1,    15,    16,    17,    100,    128,    129,    1000,
                               8192, 8193, 65535, 65536, 65537, 100000, 999999, 5 << 20};
#define SIZES (sizeof sizes / sizeof sizes[0])

static size_t os_page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

/* A block that must lie on a multiple of `alignment` and have room for `size`. */
static void check_and_free(void *block, size_t alignment, size_t size) {
  assert_non_null(block);
  assert_int_equal((uintptr_t)block % alignment, 0);
  assert_true(malloc_usable_size(block) >= size);
  memset(block, 3, malloc_usable_size(block));
  free(block);
}

/* ---- malloc, calloc, free ---- */

static void blocks_are_aligned_distinct_and_writable(void **state) {
  (void)state;
  char *blocks[SIZES];
  for (size_t i = 0; i < SIZES; i++) {
    blocks[i] = malloc(sizes[i]);
    assert_non_null(blocks[i]);
    assert_int_equal((uintptr_t)blocks[i] % 16, 0);
    fill(blocks[i], malloc_usable_size(blocks[i]), (unsigned)i);
  }
  for (size_t i = 0; i < SIZES; i++) {
    assert_true(holds(blocks[i], malloc_usable_size(blocks[i]), (unsigned)i));
    free(blocks[i]);
  }
}

static void zero_bytes_give_distinct_blocks(void **state) {
  (void)state;
  void *a = malloc(zero), *b = calloc(zero, 8), *c = aligned_alloc(64, zero);
  assert_non_null(a);
  assert_non_null(b);
  assert_non_null(c);
  assert_ptr_not_equal(a, b);
  free(a);
  free(b);
  free(c);
}

static void calloc_zeroes_memory_that_was_used_before(void **state) {
  (void)state;
  for (size_t i = 0; i < SIZES; i++) {
    void *dirty = malloc(sizes[i]);
    fill(dirty, sizes[i], 0xA5);
    free(dirty);
    char *block = calloc(1, sizes[i]);
    assert_non_null(block);
    assert_true(test_is_filled(block, 0, sizes[i]));
    free(block);
  }
}

static void too_much_fails_with_enomem(void **state) {
  (void)state;
  void *(*one_size[])(size_t) = {malloc, valloc, pvalloc};
  for (size_t i = 0; i < 3; i++) {
    errno = 0;
    assert_null(one_size[i](huge));
    assert_int_equal(errno, ENOMEM);
    errno = 0;
    assert_null(one_size[i]((size_t)PTRDIFF_MAX + 1 + zero));
    assert_int_equal(errno, ENOMEM);
  }
  void *(*two_sizes[])(size_t, size_t) = {calloc, aligned_alloc, memalign};
  for (size_t i = 0; i < 3; i++) {
    errno = 0;
    assert_null(two_sizes[i](64, huge - 100));
    assert_int_equal(errno, ENOMEM);
  }
}

static void calloc_refuses_a_product_that_overflows(void **state) {
  (void)state;
  const size_t products[][2] = {{half, 2}, {2, half}, {half / 4, 16}, {huge, huge}};
  for (size_t i = 0; i < 4; i++) {
    errno = 0;
    assert_null(calloc(products[i][0], products[i][1]));
    assert_int_equal(errno, ENOMEM);
  }
}

static void free_leaves_errno_alone(void **state) {
  (void)state;
  for (size_t i = 0; i < SIZES; i++) {
    void *block = malloc(sizes[i]);
    errno = 4711;
    free(block);
    assert_int_equal(errno, 4711);
  }
  errno = 4711;
  free(NULL);
  assert_int_equal(errno, 4711);
}

static void sized_frees_and_cfree_take_any_block(void **state) {
  (void)state;
  for (size_t i = 0; i < SIZES; i++) {
    free_sized(malloc(sizes[i]), sizes[i]);
    free_sized(calloc(1, sizes[i]), sizes[i]);
    free_aligned_sized(aligned_alloc(256, sizes[i]), 256, sizes[i]);
    cfree(malloc(sizes[i]));
  }
  free_sized(NULL, 0);
  free_aligned_sized(NULL, 64, 0);
  cfree(NULL);
}

/* ---- realloc ---- */

static void realloc_keeps_contents_between_all_sizes(void **state) {
  (void)state;
  for (size_t from = 0; from < SIZES; from++)
    for (size_t to = 1; to < SIZES; to++) {
      char *block = malloc(sizes[from]);
      fill(block, sizes[from], (unsigned)from);
      block = realloc(block, sizes[to]);
      assert_non_null(block);
      assert_true(malloc_usable_size(block) >= sizes[to]);
      assert_true(holds(block, sizes[from] < sizes[to] ? sizes[from] : sizes[to], (unsigned)from));
      block = reallocarray(block, 3, sizes[to]);
      assert_non_null(block);
      assert_true(malloc_usable_size(block) >= 3 * sizes[to]);
      free(block);
    }
}

static void realloc_of_null_allocates(void **state) {
  (void)state;
  check_and_free(realloc(NULL, 40), 16, 40);
  check_and_free(realloc(NULL, zero), 16, 0);
  check_and_free(reallocarray(NULL, 10, 40), 16, 400);
}

static void realloc_to_zero_frees(void **state) {
  (void)state;
  /* Many, so that it shows if they are not. */
  for (int i = 0; i < 1000; i++) {
    void *small = malloc(5000), *large = malloc(1 << 20);
    errno = 4711;
    assert_null(realloc(small, zero));
    assert_null(reallocarray(large, 4, zero));
    assert_int_equal(errno, 4711);
  }
}

static void realloc_that_fails_leaves_the_block(void **state) {
  (void)state;
  for (size_t i = 1; i < SIZES; i++) {
    /* The compiler takes it that the block is gone. */
    char *volatile block = malloc(sizes[i]);
    fill(block, sizes[i], 5);
    errno = 0;
    assert_null(realloc(block, huge));
    assert_int_equal(errno, ENOMEM);
    errno = 0;
    assert_null(reallocarray(block, half, 4));
    assert_int_equal(errno, ENOMEM);
    assert_true(holds(block, sizes[i], 5));
    free(block);
  }
}

/* ---- alignment ---- */

static void aligned_blocks_are_aligned(void **state) {
  (void)state;
  for (size_t alignment = 1; alignment <= 1 << 24; alignment *= 8)
    for (size_t i = 0; i < SIZES; i++) {
      check_and_free(aligned_alloc(alignment, sizes[i]), alignment, sizes[i]);
      check_and_free(memalign(alignment, sizes[i]), alignment, sizes[i]);
      if (alignment < sizeof(void *)) continue;
      void *block = NULL;
      assert_int_equal(posix_memalign(&block, alignment, sizes[i]), 0);
      check_and_free(block, alignment, sizes[i]);
    }
  for (size_t i = 0; i < SIZES; i++) {
    size_t page = os_page_size(), whole = (sizes[i] + page - 1) / page * page;
    check_and_free(valloc(sizes[i]), page, sizes[i]);
    check_and_free(pvalloc(sizes[i]), page, whole);
  }
}

static void posix_memalign_says_what_is_wrong_and_touches_nothing(void **state) {
  (void)state;
  const size_t wrong[] = {zero, 1, 2, 4, 12, 24, 100, huge};
  char mark;
  void *out = &mark;
  errno = 4711;
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
    assert_int_equal(posix_memalign(&out, wrong[i], 64), EINVAL);
  assert_int_equal(posix_memalign(&out, 64, huge), ENOMEM);
  assert_int_equal(posix_memalign(&out, half, 64), ENOMEM);
  assert_ptr_equal(out, &mark);
  assert_int_equal(errno, 4711);
}

static void aligned_alloc_refuses_what_is_no_power_of_two(void **state) {
  (void)state;
  const size_t wrong[] = {zero, 3, 24, 100, huge};
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    errno = 0;
    assert_null(aligned_alloc(wrong[i], 64));
    assert_int_equal(errno, EINVAL);
  }
  errno = 0;
  assert_null(aligned_alloc(half, 64));
  assert_int_equal(errno, ENOMEM);
}

static void memalign_rounds_up_to_a_power_of_two(void **state) {
  (void)state;
  /* Through a pointer: by the name, UndefinedBehaviorSanitizer minds alignments that are none. */
  void *(*volatile by_pointer)(size_t, size_t) = memalign;
  check_and_free(by_pointer(zero, 100), 16, 100);
  check_and_free(by_pointer(zero + 3, 100), 4, 100);
  check_and_free(by_pointer(zero + 100, 100), 128, 100);
  errno = 0;
  assert_null(by_pointer(huge, 100));
  assert_int_equal(errno, EINVAL);
}

static void aligned_blocks_keep_their_contents_through_realloc(void **state) {
  (void)state;
  for (size_t alignment = 32; alignment <= 1 << 20; alignment *= 8)
    for (size_t i = 1; i + 1 < SIZES; i++) {
      char *block = aligned_alloc(alignment, sizes[i]);
      fill(block, sizes[i], 9);
      block = realloc(block, sizes[i + 1]);
      assert_true(holds(block, sizes[i], 9));
      free(block);
    }
}

/* ---- figures ---- */

static void the_usable_size_of_nothing_is_0(void **state) {
  (void)state;
  assert_int_equal(malloc_usable_size(NULL), 0);
}

static void malloc_trim_gives_back_what_is_empty(void **state) {
  (void)state;
  enum { COUNT = 10000 };
  static void *blocks[COUNT];
  for (size_t i = 0; i < COUNT; i++) {
    blocks[i] = malloc(1000);
    fill(blocks[i], 1000, 1);
  }
  for (size_t i = 0; i < COUNT; i++)
    free(blocks[i]);
  assert_int_equal(malloc_trim(0), 1);
  assert_int_equal(malloc_trim(0), 0);
}

/* ---- the C library's own use ---- */

#ifndef TEST_PREFIXED

static void what_the_c_library_allocates_is_freed(void **state) {
  (void)state;
  char *text = NULL;
  size_t size = 0;
  FILE *memory = open_memstream(&text, &size);
  assert_non_null(memory);
  for (int i = 0; i < 10000; i++)
    assert_true(fprintf(memory, "%d %s\n", i, "text") > 0);
  assert_int_equal(fclose(memory), 0);
  char *copy = strdup(text);
  assert_string_equal(copy, text);
  free(text);
  free(copy);
}
#endif

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(blocks_are_aligned_distinct_and_writable),
      cmocka_unit_test(zero_bytes_give_distinct_blocks),
      cmocka_unit_test(calloc_zeroes_memory_that_was_used_before),
      cmocka_unit_test(too_much_fails_with_enomem),
      cmocka_unit_test(calloc_refuses_a_product_that_overflows),
      cmocka_unit_test(free_leaves_errno_alone),
      cmocka_unit_test(sized_frees_and_cfree_take_any_block),
      cmocka_unit_test(realloc_keeps_contents_between_all_sizes),
      cmocka_unit_test(realloc_of_null_allocates),
      cmocka_unit_test(realloc_to_zero_frees),
      cmocka_unit_test(realloc_that_fails_leaves_the_block),
      cmocka_unit_test(aligned_blocks_are_aligned),
      cmocka_unit_test(posix_memalign_says_what_is_wrong_and_touches_nothing),
      cmocka_unit_test(aligned_alloc_refuses_what_is_no_power_of_two),
      cmocka_unit_test(memalign_rounds_up_to_a_power_of_two),
      cmocka_unit_test(aligned_blocks_keep_their_contents_through_realloc),
      cmocka_unit_test(the_usable_size_of_nothing_is_0),
      cmocka_unit_test(malloc_trim_gives_back_what_is_empty),
#ifndef TEST_PREFIXED
      cmocka_unit_test(what_the_c_library_allocates_is_freed),
#endif
  };
  return preloaded_as_told() + cmocka_run_group_tests_name("malloc", tests, NULL, NULL);
}
