/* SPDX-License-Identifier: MIT */
/* Freed blocks wait before they are used again, and who writes to them meanwhile is found out (debug
 * builds). Under AddressSanitizer the write itself would end the process: asan_test.c. */
#include <stdio.h>

#include "child.h"

#define NEEDS_QUARANTINE()                                                                         \
  do {                                                                                             \
    if (!DEBUG_BUILD) skip();                                                                      \
  } while (0)
#define NEEDS_WRITES()                                                                             \
  do {                                                                                             \
    if (!DEBUG_BUILD || GYRE__ANNOTATED) skip();                                                   \
  } while (0)

static void quarantine_set(const char *bytes) {
  assert_int_equal(gyre_option_set("quarantine", bytes), DEBUG_BUILD ? 0 : -EINVAL);
}

static int quarantine_setup(void **state) {
  quarantine_set("64k");
  return heap_setup(state);
}

static int quarantine_teardown(void **state) {
  (void)gyre_option_set("guard", "0");
  quarantine_set("64k");
  return heap_teardown(state);
}

/* ---- waiting ---- */

static void other_builds_refuse_the_options(void **state) {
  (void)state;
  const char *names[] = {"quarantine", "guard"};
  for (int i = 0; i < 2; i++) {
    assert_int_equal(gyre_option_set(names[i], "1"), DEBUG_BUILD ? 0 : -EINVAL);
    assert_int_equal(gyre_option_set(names[i], "0"), 0);
    assert_non_null(strstr(gyre_option_describe(names[i]), "only in builds with GYRE_DEBUG"));
  }
}

static void a_freed_block_does_not_come_back_at_once(void **state) {
  (void)state;
  NEEDS_QUARANTINE();
  static void *blocks[500];
  void *freed = gyre_malloc(100);
  gyre_free(freed);
  for (int i = 0; i < 500; i++)
    assert_ptr_not_equal(blocks[i] = gyre_malloc(100), hidden(freed));
  for (int i = 0; i < 500; i++)
    gyre_free(blocks[i]);
}

static void it_comes_back_when_enough_others_have_been_freed(void **state) {
  (void)state;
  NEEDS_QUARANTINE();
  quarantine_set("4k");
  void *freed = gyre_malloc(100), *block = NULL;
  gyre_free(freed);
  for (int i = 0; i < 5000 && block != hidden(freed); i++)
    gyre_free(block = gyre_malloc(100));
  assert_ptr_equal(block, hidden(freed));
}

static void blocks_that_wait_are_not_alive(void **state) {
  (void)state;
  NEEDS_QUARANTINE();
  void *kept = gyre_malloc(1000);
  for (int i = 1; i < 10; i++)
    gyre_free(gyre_malloc((size_t)i * 100));
  assert_int_equal(heap_stats().live_blocks, 1);
  assert_int_equal(heap_stats().live_bytes, gyre__page_usable(gyre__page_of(kept)));
  gyre_free(kept);
  assert_int_equal(heap_stats().live_blocks, 0);
}

/* The pages of one class are all in quarantine; another class wants one. */
static void a_heap_without_memory_uses_what_waits(void **state) {
  (void)state;
  NEEDS_QUARANTINE();
  quarantine_set("1M");
  void *blocks[8];
  for (int i = 0; i < 8; i++)
    blocks[i] = gyre_malloc(60000);
  for (int i = 0; i < 8; i++)
    gyre_free(blocks[i]);
  gyre_heap_set_limit(heap_stats().committed_bytes);
  void *block = gyre_malloc(30000);
  assert_non_null(block);
  gyre_free(block);
}

/* ---- whose blocks ---- */

#define BLOCKS 300
struct parcel {
  void *blocks[BLOCKS];
};

static void *make_blocks(void *arg) {
  struct parcel *parcel = arg;
  for (size_t i = 0; i < BLOCKS; i++)
    parcel->blocks[i] = gyre_malloc(10 * i);
  return NULL;
}

static void *free_blocks(void *arg) {
  struct parcel *parcel = arg;
  (void)gyre_thread_attach();
  for (size_t i = 0; i < BLOCKS; i++)
    gyre_free(parcel->blocks[i]);
  return NULL;
}

static void *free_unattached(void *arg) {
  struct parcel *parcel = arg;
  for (size_t i = 0; i < BLOCKS; i++)
    gyre_free(parcel->blocks[i]);
  return NULL;
}

static void other_threads_blocks_wait_too_and_go_home(void **state) {
  (void)state;
  NEEDS_QUARANTINE();
  static struct parcel parcel;
  in_thread(make_blocks, &parcel);
  free_blocks(&parcel);
  check_all_heaps();
  assert_int_equal(gyre_purge(), 0);
  assert_int_equal(heap_stats().live_blocks, 0);
  make_blocks(&parcel);
  in_thread(free_blocks, &parcel);
  check_all_heaps();
  make_blocks(&parcel);
  in_thread(free_unattached, &parcel);
}

/* ---- writes to what waits ---- */

/* Where the child writes; the block is made by the parent, which knows its address. */
static unsigned char *victim;
static size_t place;

static void write_to_victim(void) {
  gyre_free(victim);
  ((unsigned char *)hidden(victim))[place] ^= 0xff; /* whatever was there: in the mark, anything */
  (void)gyre_purge();
}

static void victim_written(size_t size, size_t at) {
  char words[200];
  victim = gyre_malloc(size);
  place = at;
  int length = snprintf(words, sizeof words,
                        "block %p of %zu bytes was written to after it was freed, at byte %zu",
                        (void *)victim, gyre_usable_size(victim), at);
  assert_true(length > 0);
  expect_abort(write_to_victim, words);
  gyre_free(victim);
}

static void a_write_is_reported_with_its_place(void **state) {
  (void)state;
  NEEDS_WRITES();
  victim_written(100, 0);
  victim_written(100, 7);
  victim_written(100, 50);
  victim_written(100, 111);
  victim_written(16, 15);
  victim_written(60000, 59999);
}

static void write_and_free_others(void) {
  gyre_free(victim);
  *(unsigned char *)hidden(victim) = 1;
  for (int i = 0; i < 2000; i++)
    gyre_free(gyre_malloc(64));
}

static void a_write_is_found_when_the_block_leaves(void **state) {
  (void)state;
  NEEDS_WRITES();
  victim = gyre_malloc(64);
  expect_abort(write_and_free_others, "written to after it was freed, at byte 0");
  gyre_free(victim);
}

static void *free_and_write(void *arg) {
  (void)gyre_thread_attach();
  gyre_free(arg);
  *(unsigned char *)hidden(arg) = 1;
  return NULL;
}

static void write_in_a_thread_that_ends(void) { in_thread(free_and_write, victim); }

static void a_write_is_found_when_the_thread_ends(void **state) {
  (void)state;
  NEEDS_WRITES();
  victim = gyre_malloc(64);
  expect_abort(write_in_a_thread_that_ends, "written to after it was freed, at byte 0");
  gyre_free(victim);
}

static void write_in_a_fork(void) {
  *(unsigned char *)hidden(victim) = 1;
  (void)gyre_purge();
}

static void a_child_has_its_parents_quarantine(void **state) {
  (void)state;
  NEEDS_WRITES();
  victim = gyre_malloc(64);
  gyre_free(victim);
  expect_abort(write_in_a_fork, "written to after it was freed, at byte 0");
}

static void free_twice_with_a_pause(void) {
  gyre_free(victim);
  for (int i = 0; i < 20; i++)
    gyre_free(gyre_malloc(64));
  gyre_free(hidden(victim));
}

static void a_block_that_waits_is_not_freed_again(void **state) {
  (void)state;
  NEEDS_QUARANTINE();
  victim = gyre_malloc(64);
  expect_abort(free_twice_with_a_pause, "double free");
  gyre_free(victim);
}

#define QUARANTINE_TEST(f) cmocka_unit_test_setup_teardown(f, quarantine_setup, quarantine_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      QUARANTINE_TEST(other_builds_refuse_the_options),
      QUARANTINE_TEST(a_freed_block_does_not_come_back_at_once),
      QUARANTINE_TEST(it_comes_back_when_enough_others_have_been_freed),
      QUARANTINE_TEST(blocks_that_wait_are_not_alive),
      QUARANTINE_TEST(a_heap_without_memory_uses_what_waits),
      QUARANTINE_TEST(other_threads_blocks_wait_too_and_go_home),
      QUARANTINE_TEST(a_write_is_reported_with_its_place),
      QUARANTINE_TEST(a_write_is_found_when_the_block_leaves),
      QUARANTINE_TEST(a_write_is_found_when_the_thread_ends),
      QUARANTINE_TEST(a_child_has_its_parents_quarantine),
      QUARANTINE_TEST(a_block_that_waits_is_not_freed_again),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
