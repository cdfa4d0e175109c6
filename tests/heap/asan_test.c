/* SPDX-License-Identifier: MIT */
/* AddressSanitizer knows our blocks, where the library is compiled for it; in other builds there is nothing
 * to test. */
#include "child.h"

#if GYRE__ANNOTATED && !defined(GYRE_VALGRIND)
#include <sanitizer/asan_interface.h>
#define NEEDS_ASAN() ((void)0)
#else
#define NEEDS_ASAN() skip()
#endif

#define LARGE 200000

/* The child must end with a report on the function that makes the mistake. */
static void expect_report(void (*mistake)(void), const char *kind, const char *function) {
  static char text[65536];
  int status = run_in_child(mistake, text, sizeof text);
  bool reported = strstr(text, "use-after-poison") != NULL && strstr(text, kind) != NULL &&
                  strstr(text, function) != NULL;
  if (status == 0 || !reported) print_message("child said: %s\n", text);
  assert_int_not_equal(status, 0);
  assert_true(reported);
}

#define EXPECT_READ(function) expect_report(function, "READ of size 1 ", #function)
#define EXPECT_WRITE(function) expect_report(function, "WRITE of size 1 ", #function)

static volatile unsigned char sink;

GYRE_NOINLINE static void read_byte(void *block, size_t at) {
  sink = ((volatile unsigned char *)hidden(block))[at];
}
GYRE_NOINLINE static void write_byte(void *block, size_t at) {
  ((volatile unsigned char *)hidden(block))[at] = 1;
}

/* ---- after the free ---- */

static void read_the_first_byte_after_free(void) {
  void *block = gyre_malloc(100);
  gyre_free(block);
  read_byte(block, 0);
}

static void read_after_free_without_quarantine(void) {
  (void)gyre_option_set("quarantine", "0");
  void *block = gyre_malloc(100);
  gyre_free(block);
  read_byte(block, 8);
}

static void *free_it(void *block) {
  gyre_free(block);
  return NULL;
}

static void write_after_free_elsewhere(void) {
  void *block = gyre_malloc(1000);
  in_thread(free_it, block);
  write_byte(block, 999);
}

static void read_after_free_of_a_large_block(void) {
  (void)gyre_malloc(LARGE);
  void *block = gyre_malloc(LARGE);
  gyre_free(block);
  read_byte(block, LARGE / 2);
}

static void read_after_free_of_a_huge_block(void) {
  void *block = gyre_malloc(5 << 20);
  gyre_free(block);
  read_byte(block, 1 << 20);
}

static void read_after_realloc_moved(void) {
  void *block = gyre_malloc(100);
  if (gyre_realloc(block, 10000) == block) return;
  read_byte(block, 50);
}

static void a_freed_block_is_poisoned(void **state) {
  (void)state;
  NEEDS_ASAN();
  EXPECT_READ(read_the_first_byte_after_free);
  EXPECT_READ(read_after_free_without_quarantine);
  EXPECT_WRITE(write_after_free_elsewhere);
  EXPECT_READ(read_after_free_of_a_large_block);
  EXPECT_READ(read_after_free_of_a_huge_block);
  EXPECT_READ(read_after_realloc_moved);
}

/* ---- past the end ---- */

static void read_past_the_end(void) { read_byte(gyre_malloc(64), 64); }
static void write_past_an_odd_end(void) { write_byte(gyre_malloc(33), 33); }
static void read_past_an_empty_block(void) { read_byte(gyre_malloc(0), 0); }
static void write_past_calloc(void) { write_byte(gyre_calloc(5, 5), 25); }
static void write_past_an_aligned_block(void) { write_byte(gyre_aligned_alloc(64, 128), 128); }
static void read_past_a_large_block(void) { read_byte(gyre_malloc(LARGE), LARGE); }
static void read_what_a_shrunk_block_had(void) {
  read_byte(gyre_realloc(gyre_malloc(100), 90), 95);
}
static void read_what_a_shrunk_large_block_had(void) {
  read_byte(gyre_realloc(gyre_malloc(LARGE), LARGE - 1000), LARGE - 1000);
}

static void an_overrun_is_reported(void **state) {
  (void)state;
  NEEDS_ASAN();
  EXPECT_READ(read_past_the_end);
  EXPECT_WRITE(write_past_an_odd_end);
  EXPECT_READ(read_past_an_empty_block);
  EXPECT_WRITE(write_past_calloc);
  EXPECT_WRITE(write_past_an_aligned_block);
  EXPECT_READ(read_past_a_large_block);
  EXPECT_READ(read_what_a_shrunk_block_had);
  EXPECT_READ(read_what_a_shrunk_large_block_had);
}

/* ---- memory that nobody has ---- */

static void read_what_was_never_handed_out(void) {
  void *block = gyre_malloc(1000);
  read_byte(block, 60000);
}

static void fresh_memory_is_poisoned(void **state) {
  (void)state;
  NEEDS_ASAN();
  EXPECT_READ(read_what_was_never_handed_out);
}

/* What goes back to the system may be anybody's next. */
static void memory_that_has_gone_is_not(void **state) {
  (void)state;
  NEEDS_ASAN();
  static char *blocks[3000];
  for (size_t i = 0; i < 3000; i++)
    blocks[i] = gyre_malloc(i % 7 == 0 ? 100 * i : i);
  const char *lowest = blocks[0], *highest = blocks[0];
  for (size_t i = 0; i < 3000; i++) {
    if (blocks[i] < lowest) lowest = blocks[i];
    if (blocks[i] > highest) highest = blocks[i];
    gyre_free(blocks[i]);
  }
  assert_int_equal(gyre_purge(), 0);
  assert_int_equal(heap_stats().mapped_bytes, 0);
#if GYRE__ANNOTATED && !defined(GYRE_VALGRIND)
  assert_null(__asan_region_is_poisoned((void *)(uintptr_t)lowest, (size_t)(highest - lowest)));
#endif
}

/* ---- objects ---- */

static unsigned char *object_new(void) {
  return gyre__heap_alloc(gyre__heap_self(), GYRE__LEAF, gyre__size_class(100));
}

static void object_free(void *block) {
  gyre__heap_free(gyre__heap_self(), gyre__page_of(block), block, GYRE__LEAF);
}

static void read_the_body_of_a_freed_object(void) {
  void *block = object_new();
  object_free(block);
  read_byte(block, GYRE_HEADER_SIZE);
}

static void a_freed_objects_body_is_poisoned_but_not_its_header(void **state) {
  (void)state;
  NEEDS_ASAN();
  EXPECT_READ(read_the_body_of_a_freed_object);
  void *block = object_new();
  memset(block, 0, 100);
  object_free(block);
  read_byte(block, 0);
  read_byte(block, GYRE_HEADER_SIZE - 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      HEAP_TEST(a_freed_block_is_poisoned),
      HEAP_TEST(an_overrun_is_reported),
      HEAP_TEST(fresh_memory_is_poisoned),
      HEAP_TEST(memory_that_has_gone_is_not),
      HEAP_TEST(a_freed_objects_body_is_poisoned_but_not_its_header),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
