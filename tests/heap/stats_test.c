/* SPDX-License-Identifier: MIT */
/* The figures: what each of them counts, and how they add up. */
#include <stdio.h>
#include <sys/mman.h>

#include "heap_test.h"
#include "lib/heap/page.h"

#define MIB ((size_t)1 << 20)
#define SMALL_PAGE ((size_t)1 << GYRE__SMALL_PAGE_SHIFT)

static int stats_setup(void **state) {
  assert_int_equal(gyre_option_set("purge_delay_ms", "4294967295"), 0);
  assert_int_equal(gyre_option_set("quarantine", "0"),
                   0); /* pages empty when the last block is freed */
  return heap_setup(state);
}

static int stats_teardown(void **state) {
  assert_int_equal(gyre_option_set("purge_delay_ms", "1000"), 0);
  return heap_teardown(state);
}

/* What always holds when nobody else runs. */
static struct gyre_heap_stats sound_stats(void) {
  struct gyre_heap_stats s = heap_stats();
  assert_int_equal(s.mapped_bytes, s.committed_bytes + s.retained_bytes);
  assert_int_equal(s.committed_bytes, s.active_bytes + s.cached_bytes);
  assert_int_equal(s.resident_bytes, s.committed_bytes + s.metadata_bytes);
  assert_true(s.live_bytes <= s.active_bytes);
  assert_true(s.large_bytes <= s.active_bytes);
  assert_true(s.active_bytes <= s.resident_bytes);
  assert_true(s.metadata_bytes >= gyre__thread_slot_count() * sizeof(struct gyre__heap));
  return s;
}

static void a_small_block_makes_a_page_active_and_retains_the_segment(void **state) {
  (void)state;
  struct gyre_heap_stats s = sound_stats();
  assert_int_equal(s.mapped_bytes, 0);
  void *block = gyre_malloc(100);
  s = sound_stats();
  assert_int_equal(s.live_blocks, 1);
  assert_int_equal(s.live_bytes, 112);
  assert_int_equal(s.active_bytes, SMALL_PAGE);
  assert_int_equal(s.cached_bytes, 0);
  assert_int_equal(s.retained_bytes, GYRE__SEGMENT_SIZE - SMALL_PAGE);
  gyre_free(block);
  s = sound_stats();
  assert_int_equal(s.live_bytes, 0);
  assert_int_equal(s.active_bytes, SMALL_PAGE); /* the pool's last page stays */
}

static void what_pages_and_large_blocks_leave_is_cached_and_then_retained(void **state) {
  (void)state;
  enum { COUNT = 2000 };
  static void *blocks[COUNT];
  for (unsigned i = 0; i < COUNT; i++)
    blocks[i] = gyre_malloc(1024);
  void *span = gyre_malloc(MIB), *huge = gyre_malloc(5 * MIB), *kept = gyre_malloc(70000);
  struct gyre_heap_stats s = sound_stats();
  assert_int_equal(s.live_blocks, COUNT + 3);
  assert_int_equal(s.live_bytes, COUNT * 1024 + MIB + 5 * MIB + 2 * 65536);
  assert_int_equal(s.active_bytes, (COUNT + 63) / 64 * SMALL_PAGE + 6 * MIB + 2 * 65536);
  size_t active = s.active_bytes, resident = s.resident_bytes - s.metadata_bytes;
  for (unsigned i = 0; i < COUNT; i++)
    gyre_free(blocks[i]);
  gyre_free(span);
  gyre_free(huge);
  s = sound_stats();
  assert_int_equal(s.live_bytes, 2 * 65536);
  assert_int_equal(s.active_bytes, SMALL_PAGE + 2 * 65536);
  assert_int_equal(s.cached_bytes, active - s.active_bytes);
  assert_int_equal(s.resident_bytes - s.metadata_bytes, resident);
  assert_int_equal(gyre_purge(), 0);
  s = sound_stats();
  assert_int_equal(s.cached_bytes, 0);
  assert_int_equal(s.active_bytes, 2 * 65536);
  assert_int_equal(s.retained_bytes, GYRE__SEGMENT_SIZE - 2 * 65536);
  gyre_free(kept);
}

static void resident_bytes_are_no_less_than_what_is_in_memory(void **state) {
  (void)state;
  unsigned char pages[1024];
  char *block = gyre_malloc(4 * MIB);
  memset(block, 1, 2 * MIB);
  gyre_free(gyre_malloc(300000));
  size_t page_size = gyre__os_page_size(), there = 0;
  assert_true(4 * MIB / page_size <= sizeof pages);
  assert_int_equal(mincore(block, 4 * MIB, pages), 0);
  for (size_t i = 0; i < 4 * MIB / page_size; i++)
    there += pages[i] & 1 ? page_size : 0;
  assert_in_range(there, 2 * MIB, 4 * MIB);
  assert_true(sound_stats().resident_bytes >= there);
  gyre_free(block);
}

static void figures_add_up_whatever_is_done(void **state) {
  (void)state;
  enum { COUNT = 300 };
  static void *blocks[COUNT];
  uint64_t random = test_seed();
  for (unsigned i = 0; i < 20000; i++) {
    void **block = &blocks[test_random(&random) % COUNT];
    size_t size =
        (size_t)(test_random(&random) >> 20) % ((size_t)1 << (4 + test_random(&random) % 20));
    *block = gyre_realloc(*block, size);
    assert_non_null(*block);
    if (test_random(&random) % 2 == 0) {
      gyre_free(*block);
      *block = NULL;
    }
    if (i % 50 == 0) (void)sound_stats();
    if (i % 3000 == 0) assert_int_equal(gyre_purge(), 0);
  }
  for (unsigned i = 0; i < COUNT; i++)
    gyre_free(blocks[i]);
  memset(blocks, 0, sizeof blocks);
}

/* A program that was compiled when there were fewer of them. */
static void a_shorter_struct_gets_what_it_has_room_for(void **state) {
  (void)state;
  struct gyre_heap_stats s;
  memset(&s, 0x5A, sizeof s);
  s.size = offsetof(struct gyre_heap_stats, active_bytes);
  void *block = gyre_malloc(100);
  assert_int_equal(gyre_heap_get_stats(&s), 0);
  assert_int_equal(s.live_blocks, 1);
  size_t untouched;
  memset(&untouched, 0x5A, sizeof untouched);
  assert_int_equal(s.active_bytes, untouched);
  assert_int_equal(s.metadata_bytes, untouched);
  gyre_free(block);
  s.size = 0;
  assert_int_equal(gyre_heap_get_stats(&s), -EINVAL);
}

#define STATS_TEST(f) cmocka_unit_test_setup_teardown(f, stats_setup, stats_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      STATS_TEST(a_small_block_makes_a_page_active_and_retains_the_segment),
      STATS_TEST(what_pages_and_large_blocks_leave_is_cached_and_then_retained),
      STATS_TEST(resident_bytes_are_no_less_than_what_is_in_memory),
      STATS_TEST(figures_add_up_whatever_is_done),
      STATS_TEST(a_shorter_struct_gets_what_it_has_room_for),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
