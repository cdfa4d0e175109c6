/* SPDX-License-Identifier: MIT */
/* Misuse ends the process with a message that names it. Each case runs in a child. */
#include "child.h"

/* Debug builds name a double free at once, release builds when the block comes up again or when its page
 * seems to be empty. */
static void allocate_some(void) {
  for (int i = 0; i < 2000; i++)
    memset(gyre_malloc(100), 1, 100);
}

static void free_twice(void) {
  void *block = gyre_malloc(100);
  (void)gyre_malloc(100);
  gyre_free(block);
  gyre_free(hidden(block));
  allocate_some();
}

static void free_twice_with_others_between(void) {
  void *block = gyre_malloc(100), *other = gyre_malloc(100);
  gyre_free(block);
  gyre_free(other);
  gyre_free(hidden(block));
  allocate_some();
}

static void *free_elsewhere(void *block) {
  gyre_free(block);
  return NULL;
}

static void free_twice_in_two_threads(void) {
  void *block = gyre_malloc(100);
  (void)gyre_malloc(100);
  in_thread(free_elsewhere, block);
  gyre_free(hidden(block));
  allocate_some();
}

/* Each a free of its own, so that the block is the list before it; the page has other free blocks. */
static void free_twice_elsewhere(void) {
  void *block = gyre_malloc(100), *other = gyre_malloc(100);
  (void)gyre_malloc(100);
  gyre_free(other);
  in_thread(free_elsewhere, block);
  in_thread(free_elsewhere, hidden(block));
  (void)gyre_purge();
}

/* All pages of a class are full; one of them gets as many frees as it has blocks, but one twice. */
static void free_twice_instead_of_another(void) {
  enum { COUNT = 100000 };
  static void *blocks[COUNT];
  for (int i = 0; i < COUNT; i++)
    blocks[i] = gyre_malloc(100);
  void *kept = blocks[COUNT / 2];
  blocks[COUNT / 2] = blocks[COUNT / 2 + 1];
  for (int i = 0; i < COUNT; i++)
    gyre_free(hidden(blocks[i]));
  memset(kept, 1, 100);
  allocate_some();
}

static void a_double_free_is_named(void **state) {
  (void)state;
  const char *words = DEBUG_BUILD ? "double free" : "freed twice";
  expect_abort(free_twice, words);
  expect_abort(free_twice_with_others_between, words);
  expect_abort(free_twice_in_two_threads, words);
  expect_abort(free_twice_elsewhere, words);
  expect_abort(free_twice_instead_of_another, "double free");
}

/* ---- large blocks ---- */

static size_t large_size;
static void *large_now(void) {
  char *block = gyre_malloc(large_size);
  memset(block, 1, large_size);
  return block;
}

static void free_large_twice(void) {
  void *block = large_now();
  (void)large_now();
  gyre_free(block);
  gyre_free(hidden(block));
}

static void free_large_twice_in_two_threads(void) {
  void *block = large_now();
  in_thread(free_elsewhere, block);
  in_thread(free_elsewhere, hidden(block));
}

static void realloc_freed_large(void) {
  char *block = large_now();
  gyre_free(block);
  block = hidden(block);
  (void)gyre_realloc(block, large_size + 1000);
}

static void realloc_inside_large(void) {
  char *block = large_now();
  (void)gyre_realloc(hidden(block + 16), large_size);
}

static void realloc_far_inside_large(void) {
  (void)gyre_realloc(hidden((char *)large_now() + 65536), large_size);
}

static void free_inside_large(void) { gyre_free(hidden((char *)large_now() + 65536)); }

static void large_blocks_that_are_not_there_are_named(void **state) {
  (void)state;
  static const size_t sizes[] = {70000, 200000, 2 << 20, 3 << 20, 64 << 20};
  for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    large_size = sizes[i];
    bool is_huge = large_size + GYRE__REDZONE > (2 << 20);
    /* A huge block's place is nobody's when it has been freed. */
    const char *twice = is_huge ? "or was freed" : "double free";
    expect_abort(free_large_twice, twice);
    expect_abort(free_large_twice_in_two_threads, twice);
    expect_abort(realloc_freed_large, twice);
    expect_abort(realloc_inside_large, "invalid pointer");
    expect_abort(realloc_far_inside_large, "invalid pointer");
    expect_abort(free_inside_large, "invalid pointer");
  }
}

static void free_inside(void) {
  char *block = gyre_malloc(100);
  gyre_free(hidden(block + 16));
}

static void free_object(void) {
  gyre_free(gyre__heap_alloc(gyre__heap_self(), GYRE__LEAF, gyre__size_class(100)));
}

static void a_pointer_into_a_block_is_invalid(void **state) {
  (void)state;
  if (!DEBUG_BUILD) skip();
  expect_abort(free_inside, "invalid pointer");
  expect_abort(free_object, "invalid pointer");
}

static void free_static(void) {
  static char memory[4096];
  gyre_free(hidden(memory + 1024));
}

static void free_misaligned(void) { gyre_free(hidden((char *)gyre_malloc(100000) + 1)); }

static void a_pointer_from_elsewhere_is_invalid(void **state) {
  (void)state;
  expect_abort(free_static, "invalid pointer");
  expect_abort(free_misaligned, "invalid pointer");
}

static void write_after_free(void) {
  char *block = gyre_malloc(64);
  (void)gyre_malloc(64);
  (void)gyre_option_set("quarantine", "0");
  gyre_free(block);
  block = hidden(block);
  memset(block + 8, 1, 8);
  for (int i = 0; i < 2000; i++)
    (void)gyre_malloc(64);
}

static void a_write_after_free_is_corruption(void **state) {
  (void)state;
  if (!DEBUG_BUILD || GYRE__ANNOTATED) skip(); /* others see it first */
  expect_abort(write_after_free, "corrupted");
}

static void *allocates_with(void *handle) {
  gyre_thread_attach();
  (void)gyre_thread_calloc(handle, 1, 100);
  return NULL;
}
static void use_anothers_handle(void) { in_thread(allocates_with, gyre_thread_attach()); }

static void another_threads_handle_is_refused(void **state) {
  (void)state;
  if (!DEBUG_BUILD) skip();
  expect_abort(use_anothers_handle, "is not the caller's own");
}

static void poison_fills_fresh_and_freed_blocks(void **state) {
  (void)state;
  if (!DEBUG_BUILD) skip();
  assert_int_equal(gyre_option_set("poison", "1"), 0);
  unsigned char *block = gyre_malloc(200);
  for (int i = 0; i < 200; i++)
    assert_int_equal(block[i], 0xCD);
  void *other = gyre_malloc(200);
  gyre_free(block);
  block = hidden(block);
  if (!GYRE__ANNOTATED)
    for (int i = 16; i < 200; i++)
      assert_int_equal(block[i], 0xDD);
  gyre_free(other);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      HEAP_TEST(a_double_free_is_named),
      HEAP_TEST(large_blocks_that_are_not_there_are_named),
      HEAP_TEST(a_pointer_into_a_block_is_invalid),
      HEAP_TEST(a_pointer_from_elsewhere_is_invalid),
      HEAP_TEST(a_write_after_free_is_corruption),
      HEAP_TEST(another_threads_handle_is_refused),
      HEAP_TEST(poison_fills_fresh_and_freed_blocks),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
