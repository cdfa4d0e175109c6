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
  assert_true(s.committed_bytes <= s.peak_bytes);
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

/* ---- by class ---- */

struct wanted {
  enum gyre_heap_kind kind;
  size_t block_bytes;
  struct gyre_heap_class found; /* size 0: no such class */
  uint64_t used_bytes;          /* of all classes */
  size_t classes;
  int last_kind;
  size_t last_bytes;
};

static int look_at_class(const struct gyre_heap_class *c, void *arg) {
  struct wanted *w = arg;
  assert_int_equal(c->size, sizeof *c);
  assert_true(c->pages > 0 && c->used_blocks <= c->blocks);
  assert_int_equal(c->blocks, c->pages * (c->page_bytes / c->block_bytes));
  /* In order, each once. */
  assert_true((int)c->kind > w->last_kind ||
              ((int)c->kind == w->last_kind && c->block_bytes > w->last_bytes));
  w->last_kind = (int)c->kind;
  w->last_bytes = c->block_bytes;
  w->classes++;
  w->used_bytes += c->used_blocks * c->block_bytes;
  if (c->kind == w->kind && c->block_bytes == w->block_bytes) w->found = *c;
  return 0;
}

static struct wanted class_of(enum gyre_heap_kind kind, size_t block_bytes) {
  struct wanted w = {.kind = kind, .block_bytes = block_bytes, .last_kind = -1};
  assert_int_equal(gyre_heap_list_classes(look_at_class, &w), 0);
  return w;
}

static void the_peak_stays(void **state) {
  (void)state;
  size_t before = sound_stats().peak_bytes;
  size_t more = before + 8 * MIB;
  void *block = gyre_malloc(more);
  size_t peak = sound_stats().peak_bytes;
  assert_true(peak >= more && peak <= more + before + MIB);
  gyre_free(block);
  assert_int_equal(gyre_purge(), 0);
  assert_true(sound_stats().committed_bytes < more);
  assert_int_equal(sound_stats().peak_bytes, peak);
  /* What does not come about is none. */
  gyre_heap_set_limit(sound_stats().committed_bytes + MIB);
  assert_null(gyre_malloc(2 * more));
  gyre_heap_set_limit(0);
  assert_int_equal(sound_stats().peak_bytes, peak);
}

static void classes_are_told_by_kind_and_size(void **state) {
  (void)state;
  assert_int_equal(class_of(GYRE_HEAP_RAW, 112).classes, 0);
  enum { COUNT = 1500 };
  static void *blocks[COUNT];
  for (unsigned i = 0; i < COUNT; i++)
    blocks[i] = gyre_malloc(100);
  void *medium = gyre_malloc(20000), *large = gyre_malloc(100000);
  static gyre_type leaf_type = {.name = "leaf", .size = 24};
  void *object = gyre_new(&leaf_type);
  struct wanted w = class_of(GYRE_HEAP_RAW, 112);
  assert_int_equal(w.classes, 3); /* the large block is in none */
  assert_int_equal(w.found.used_blocks, COUNT);
  assert_int_equal(w.found.page_bytes, SMALL_PAGE);
  assert_int_equal(w.found.pages, (COUNT + SMALL_PAGE / 112 - 1) / (SMALL_PAGE / 112));
  assert_int_equal(w.used_bytes, sound_stats().live_bytes - 2 * 65536);
  w = class_of(GYRE_HEAP_RAW, 20480);
  assert_int_equal(w.found.used_blocks, 1);
  assert_int_equal(w.found.page_bytes, 8 * SMALL_PAGE);
  w = class_of(GYRE_HEAP_LEAF, 48);
  assert_int_equal(w.found.used_blocks, 1);
  assert_int_equal(class_of(GYRE_HEAP_TRACKED, 48).found.size, 0);
  for (unsigned i = 0; i < COUNT; i++)
    gyre_free(blocks[i]);
  gyre_free(medium);
  gyre_free(large);
  w = class_of(GYRE_HEAP_RAW, 112);
  assert_int_equal(w.found.used_blocks, 0);
  assert_int_equal(w.found.pages, 1); /* the pool's last page stays */
  gyre_release(object);
}

static int stop_at_first(const struct gyre_heap_class *c, void *arg) {
  (void)c;
  return ++*(int *)arg == 1 ? -7 : 0;
}

static void a_visitor_of_classes_may_stop(void **state) {
  (void)state;
  void *a = gyre_malloc(10), *b = gyre_malloc(1000);
  int count = 0;
  assert_int_equal(gyre_heap_list_classes(stop_at_first, &count), -7);
  assert_int_equal(count, 1);
  assert_int_equal(gyre_heap_list_classes(NULL, NULL), -EINVAL);
  gyre_free(a);
  gyre_free(b);
}

static gyre__atomic_u32 stop_flag;

static void *allocate_all_the_time(void *arg) {
  (void)arg;
  void *blocks[64] = {NULL};
  uint64_t random = test_seed();
  /* relaxed: a flag, and the end of the thread is waited for. */
  while (gyre__load_relaxed(&stop_flag) == 0) {
    void **block = &blocks[test_random(&random) % 64];
    gyre_free(*block);
    *block = gyre_malloc((size_t)(test_random(&random) % 40000));
    gyre_safepoint();
  }
  for (unsigned i = 0; i < 64; i++)
    gyre_free(blocks[i]);
  return NULL;
}

static void classes_may_be_asked_for_while_threads_run(void **state) {
  (void)state;
  pthread_t threads[4];
  /* relaxed: before they start. */
  gyre__store_relaxed(&stop_flag, 0);
  for (int i = 0; i < 4; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, allocate_all_the_time, NULL), 0);
  for (int i = 0; i < 2000 / HEAP_TEST_PART; i++) {
    struct wanted w = class_of(GYRE_HEAP_RAW, 16);
    assert_true(w.used_bytes < ((size_t)256 << 20));
    gyre_safepoint();
  }
  /* relaxed: as above. */
  gyre__store_relaxed(&stop_flag, 1);
  gyre_park();
  for (int i = 0; i < 4; i++)
    assert_int_equal(pthread_join(threads[i], NULL), 0);
  gyre_unpark();
}

#define STATS_TEST(f) cmocka_unit_test_setup_teardown(f, stats_setup, stats_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      STATS_TEST(a_small_block_makes_a_page_active_and_retains_the_segment),
      STATS_TEST(what_pages_and_large_blocks_leave_is_cached_and_then_retained),
      STATS_TEST(resident_bytes_are_no_less_than_what_is_in_memory),
      STATS_TEST(figures_add_up_whatever_is_done),
      STATS_TEST(a_shorter_struct_gets_what_it_has_room_for),
      STATS_TEST(the_peak_stays),
      STATS_TEST(classes_are_told_by_kind_and_size),
      STATS_TEST(a_visitor_of_classes_may_stop),
      STATS_TEST(classes_may_be_asked_for_while_threads_run),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
