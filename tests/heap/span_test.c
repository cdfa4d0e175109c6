/* SPDX-License-Identifier: MIT */
/* Our own large blocks: spans of slices and huge blocks. Where they lie, how they grow, what is kept of
 * them, and what other threads do with them. */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "heap_test.h"
#include "lib/heap/page.h"

#define SLICE ((size_t)1 << GYRE__SLICE_SHIFT)
#define MIB ((size_t)1 << 20)

static int span_setup(void **state) {
  assert_int_equal(gyre_option_set("purge_delay_ms", "4294967295"), 0);
  return heap_setup(state);
}

static int span_teardown(void **state) {
  assert_int_equal(gyre_option_set("purge_delay_ms", "1000"), 0);
  assert_int_equal(gyre_option_set("purge", "dontneed"), 0);
  assert_int_equal(gyre_option_set("thp", "default"), 0);
  return heap_teardown(state);
}

static char *block_new(size_t size, unsigned tag) {
  char *block = gyre_malloc(size);
  assert_non_null(block);
  fill(block, size, tag);
  return block;
}

static struct gyre__page *span_of(const void *block) {
  struct gyre__page *page = gyre__page_of(block);
  assert_int_equal(page->is_large, GYRE__LARGE_LIVE);
  assert_int_equal(page->segment->shape, GYRE__SHAPE_SPANS);
  return page;
}

static bool is_huge(const void *block) {
  const struct gyre__segment *segment = gyre__segment_of(block);
  return segment != NULL && segment->shape == GYRE__SHAPE_HUGE;
}

/* Only the first and last bytes of each OS page, and of the block: for sizes of many MiB. */
static void mark(char *block, size_t size, unsigned tag) {
  for (size_t i = 0; i < size; i += 4096)
    block[i] = (char)(tag + i / 4096);
  block[size - 1] = (char)~tag;
}

static bool is_marked(const char *block, size_t size, size_t part, unsigned tag) {
  for (size_t i = 0; i < part; i += 4096)
    if (block[i] != (char)(tag + i / 4096) && i != size - 1) return false;
  return part < size || block[size - 1] == (char)~tag;
}

/* ---- where they lie ---- */

static void spans_take_the_slices_they_need(void **state) {
  (void)state;
  for (size_t size = 65537; size <= GYRE__SPAN_MAX; size += 65521) {
    char *block = block_new(size, 1);
    assert_int_equal(span_of(block)->span, (size + SLICE - 1) / SLICE);
    assert_int_equal(gyre_usable_size(block), (size + 15) / 16 * 16);
    check_all_heaps();
    gyre_free(block);
  }
  char *most = block_new(GYRE__SPAN_MAX, 1), *more = gyre_malloc(GYRE__SPAN_MAX + 1);
  assert_int_equal(span_of(most)->span, 32);
  assert_true(is_huge(more));
  gyre_free(most);
  gyre_free(more);
}

static void every_size_is_aligned_to_every_alignment(void **state) {
  (void)state;
  static const size_t sizes[] = {0, 1, 100, 5000, 65536, 65537, 131072, 1000000, 2097152, 2097153};
  for (size_t alignment = 16; alignment <= 64 * MIB; alignment *= 2)
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
      /* Twice: as it comes, and with something in the way. */
      char *block = gyre_aligned_alloc(alignment, sizes[i]);
      char *second = gyre_aligned_alloc(alignment, sizes[i]);
      assert_non_null(block);
      assert_non_null(second);
      assert_int_equal((uintptr_t)block % alignment, 0);
      assert_int_equal((uintptr_t)second % alignment, 0);
      assert_true(gyre_usable_size(block) >= sizes[i]);
      if (sizes[i] != 0) mark(block, sizes[i], i);
      block = gyre_realloc(block, sizes[i] + 70000);
      assert_true(sizes[i] == 0 || is_marked(block, sizes[i], sizes[i] - 1, i));
      gyre_free(block);
      gyre_free(second);
    }
  check_all_heaps();
}

/* Whatever is left over at the end of each segment. */
static void holes_are_found_behind_any_number_of_segments(void **state) {
  (void)state;
  enum { COUNT = 600, SIZE = 300000 }; /* 12 to a segment, and 4 slices to spare */
  static void *blocks[COUNT];
  uint64_t random = test_seed();
  struct gyre__heap *heap = gyre__heap_self();
  for (unsigned i = 0; i < COUNT; i++)
    blocks[i] = gyre_malloc(SIZE);
  size_t segments = gyre__load_relaxed(&heap->span_segments);
  for (unsigned i = 0; i < 10 * COUNT; i++) {
    unsigned at = (unsigned)(test_random(&random) % COUNT);
    gyre_free(blocks[at]);
    blocks[at] = gyre_malloc(SIZE);
  }
  assert_int_equal(gyre__load_relaxed(&heap->span_segments), segments);
  for (unsigned i = 0; i < COUNT; i += 2)
    gyre_free(blocks[i]);
  for (unsigned i = 0; i < COUNT; i += 2)
    blocks[i] = gyre_malloc(SIZE);
  assert_int_equal(gyre__load_relaxed(&heap->span_segments), segments);
  check_all_heaps();
  for (unsigned i = 0; i < COUNT; i++)
    gyre_free(blocks[i]);
}

static void one_empty_segment_stays(void **state) {
  (void)state;
  enum { COUNT = 12 };
  void *blocks[COUNT];
  struct gyre__heap *heap = gyre__heap_self();
  for (unsigned i = 0; i < COUNT; i++)
    blocks[i] = gyre_malloc(GYRE__SPAN_MAX);
  assert_int_equal(gyre__load_relaxed(&heap->span_segments), COUNT / 2);
  for (unsigned i = 0; i < COUNT; i++)
    gyre_free(blocks[i]);
  assert_int_equal(gyre__load_relaxed(&heap->span_segments), 1);
  assert_int_equal(heap_stats().cached_bytes, COUNT * GYRE__SPAN_MAX);
  check_all_heaps();
}

/* ---- growing and shrinking ---- */

static void a_span_grows_in_place_if_what_follows_is_free(void **state) {
  (void)state;
  char *block = block_new(100000, 3);
  char *neighbour = block_new(100000, 4);
  char *at = block;
  assert_ptr_equal(neighbour, block + 2 * SLICE);
  gyre_free(neighbour);
  for (size_t size = 100000; size <= GYRE__SPAN_MAX; size += 90000) {
    block = gyre_realloc(block, size);
    assert_ptr_equal(block, at);
    assert_true(holds(block, 100000, 3));
    assert_int_equal(gyre_usable_size(block), size);
    check_all_heaps();
  }
  for (size_t size = GYRE__SPAN_MAX; size > 70000; size -= 90000) {
    block = gyre_realloc(block, size);
    assert_ptr_equal(block, at);
    check_all_heaps();
  }
  assert_true(holds(block, 70000, 3));
  gyre_free(block);
}

static void a_span_moves_if_a_neighbour_is_in_its_way(void **state) {
  (void)state;
  char *block = block_new(100000, 3);
  char *neighbour = block_new(100000, 4);
  char *moved = gyre_realloc(block, 400000);
  assert_ptr_not_equal(moved, block);
  assert_true(holds(moved, 100000, 3));
  assert_true(holds(neighbour, 100000, 4));
  gyre_free(moved);
  gyre_free(neighbour);
}

static void only_some_small_blocks_lie_where_they_can_grow(void **state) {
  (void)state;
  enum { COUNT = 20 };
  char *blocks[COUNT];
  struct gyre__heap *heap = gyre__heap_self();
  for (unsigned i = 0; i < COUNT; i++) {
    blocks[i] = block_new(400, i);
    blocks[i] = gyre_realloc(blocks[i], 3000);
    assert_true(holds(blocks[i], 400, i));
    check_all_heaps();
  }
  assert_in_range(heap->growing, 1, 8);
  uint32_t most = heap->growing;
  assert_int_equal(gyre__load_relaxed(&heap->span_blocks), most);
  /* Beyond a slice they make room for others. */
  char *at = blocks[0];
  blocks[0] = gyre_realloc(blocks[0], 100000);
  assert_ptr_equal(blocks[0], at);
  assert_int_equal(heap->growing, most - 1);
  blocks[1] = gyre_realloc(blocks[1], 1); /* stays: it may grow again */
  assert_int_equal(heap->growing, most - 1);
  blocks[most] = gyre_realloc(blocks[most], 30000);
  assert_int_equal(heap->growing, most);
  for (unsigned i = 0; i < COUNT; i++)
    gyre_free(blocks[i]);
  assert_int_equal(heap->growing, 0);
}

static void blocks_grow_from_a_byte_to_64_mib_side_by_side(void **state) {
  (void)state;
  enum { COUNT = 6 };
  char *blocks[COUNT], *between[64] = {NULL};
  size_t sizes[COUNT];
  uint64_t random = test_seed();
  for (unsigned i = 0; i < COUNT; i++) {
    blocks[i] = gyre_malloc(1);
    sizes[i] = 1;
    mark(blocks[i], 1, i);
  }
  for (unsigned done = 0, step = 0; done < COUNT; step++) {
    unsigned i = (unsigned)(test_random(&random) % COUNT);
    if (sizes[i] == 64 * MIB) continue;
    size_t old = sizes[i], size = old + old * (1 + (size_t)(test_random(&random) % 100)) / 60 + 1;
    if (size >= 64 * MIB) {
      size = 64 * MIB;
      done++;
    }
    blocks[i] = gyre_realloc(blocks[i], size);
    assert_non_null(blocks[i]);
    assert_true(is_marked(blocks[i], old, old, i));
    mark(blocks[i], size, i);
    sizes[i] = size;
    char **other = &between[step % 64];
    gyre_free(*other);
    *other = gyre_malloc((size_t)1 << test_random(&random) % 23);
    assert_non_null(*other);
    if (step % 16 == 0) check_all_heaps();
  }
  check_all_heaps();
  for (unsigned i = 0; i < COUNT; i++)
    gyre_free(blocks[i]);
  for (unsigned i = 0; i < 64; i++)
    gyre_free(between[i]);
}

/* ---- huge blocks ---- */

static void a_huge_block_grows_into_what_is_free_behind_it(void **state) {
  (void)state;
  char *block = gyre_malloc(40 * MIB), *at = block;
  mark(block, 40 * MIB, 5);
  for (size_t size = 40 * MIB; size >= 3 * MIB; size -= 3 * MIB + 12345) {
    block = gyre_realloc(block, size);
    assert_ptr_equal(block, at);
    assert_true(heap_stats().large_bytes >= size);
    assert_int_equal(heap_stats().large_bytes + heap_stats().cached_bytes, 40 * MIB);
    check_all_heaps();
  }
  for (size_t size = 5 * MIB; size <= 40 * MIB; size += 3 * MIB + 12345) {
    block = gyre_realloc(block, size);
    assert_ptr_equal(block, at);
    assert_int_equal(heap_stats().large_bytes + heap_stats().cached_bytes, 40 * MIB);
    check_all_heaps();
  }
  assert_true(is_marked(block, 40 * MIB, 3 * MIB, 5));
  gyre_free(block);
}

/* Granules so given that a block of the first two has something behind it. */
static char *huge_in_the_way(char **neighbour) {
  char *block = gyre_malloc(16 * MIB);
  gyre_free(block);
  block = gyre_malloc(8 * MIB);
  *neighbour = gyre_malloc(8 * MIB);
  assert_ptr_equal(*neighbour, block + 8 * MIB);
  return block;
}

static void a_huge_block_is_moved_with_its_contents(void **state) {
  (void)state;
  char *neighbour, *block = huge_in_the_way(&neighbour);
  mark(block, 8 * MIB, 6);
  mark(neighbour, 8 * MIB, 7);
  /* Again and again: what was moved is of several mappings. */
  for (size_t size = 9 * MIB + 5000; size < 60 * MIB; size = size * 4 / 3) {
    block = gyre_realloc(block, size);
    assert_true(is_marked(block, 8 * MIB, 8 * MIB, 6));
    check_all_heaps();
    /* In the way of the next. */
    void *next = gyre_malloc(3 * MIB);
    gyre_free(next);
  }
  assert_true(is_marked(neighbour, 8 * MIB, 8 * MIB, 7));
  gyre_free(block);
  gyre_free(neighbour);
}

static void a_huge_block_of_several_mappings_is_moved(void **state) {
  (void)state;
  for (int i = 0; i < 2; i++) {
    char *neighbour, *block = huge_in_the_way(&neighbour);
    mark(block, 8 * MIB, 6);
    /* The kernel splits mappings where their protection or advice differs. */
    assert_int_equal(madvise(block + 4 * MIB, 4 * MIB, MADV_DONTFORK), 0);
    if (i == 1) assert_int_equal(madvise(block, 4 * MIB, MADV_SEQUENTIAL), 0);
    block = gyre_realloc(block, 20 * MIB);
    assert_non_null(block);
    assert_true(is_marked(block, 8 * MIB, 8 * MIB, 6));
    mark(block, 20 * MIB, 8);
    gyre_free(block);
    gyre_free(neighbour);
    assert_int_equal(gyre_purge(), 0);
  }
}

static void a_move_that_fails_half_way_is_a_copy(void **state) {
  (void)state;
#ifndef GYRE_WINDOWS
  skip();
#endif
  /* 1: the realloc itself, 2: the new run; then granule by granule. */
  for (unsigned nth = 1; nth <= 8; nth++) {
    char *neighbour, *block = huge_in_the_way(&neighbour);
    mark(block, 8 * MIB, nth);
    gyre__fault_arm(nth, 0);
    char *moved = gyre_realloc(block, 20 * MIB);
    gyre__fault_arm(0, 0);
    if (moved == NULL) moved = gyre_realloc(block, 20 * MIB);
    assert_non_null(moved);
    assert_true(is_marked(moved, 8 * MIB, 8 * MIB, nth));
    check_all_heaps();
    gyre_free(moved);
    gyre_free(neighbour);
    check_all_heaps();
    assert_int_equal(gyre_purge(), 0);
  }
}

static void blocks_shrink_from_huge_to_small_and_back(void **state) {
  (void)state;
  static const size_t sizes[] = {9 * MIB, 3 * MIB, 2 * MIB,        70000,   1000, 16,      0,
                                 600,     65536,   GYRE__SPAN_MAX, 5 * MIB, 17,   20 * MIB};
  char *block = block_new(12 * MIB, 2);
  size_t kept = 12 * MIB;
  for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    block = gyre_realloc(block, sizes[i]);
    assert_non_null(block);
    if (sizes[i] < kept) kept = sizes[i];
    assert_true(holds(block, kept, 2));
    assert_true(gyre_usable_size(block) >= sizes[i]);
    check_all_heaps();
  }
  gyre_free(block);
}

/* ---- contents ---- */

static void calloc_zeroes_what_was_used_before(void **state) {
  (void)state;
  static const size_t sizes[] = {70000, 300000, MIB, 2 * MIB, 3 * MIB, 9 * MIB + 1};
  for (int mode = 0; mode < 2; mode++) {
    assert_int_equal(gyre_option_set("purge", mode == 0 ? "dontneed" : "free"), 0);
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
      for (int purged = 0; purged < 2; purged++) {
        char *kept = gyre_malloc(70000); /* so that the segment stays */
        char *block = gyre_malloc(sizes[i]);
        memset(block, 0xEE, sizes[i]);
        gyre_free(block);
        if (purged) assert_int_equal(gyre_purge(), 0);
        block = gyre_calloc(1, sizes[i]);
        assert_true(test_is_filled(block, 0, sizes[i]));
        gyre_free(block);
        gyre_free(kept);
      }
  }
}

static void objects_are_zeroed_in_memory_that_was_used_before(void **state) {
  (void)state;
  enum { SMALL = 3000 };
  static gyre__header *small[SMALL];
  struct gyre__heap *heap = gyre__heap_self();
  assert_int_equal(gyre_option_set("purge", "free"), 0);
  for (int round = 0; round < 3; round++) {
    char *used = gyre_malloc(500000), *kept = gyre_malloc(70000);
    static char *blocks[SMALL];
    memset(used, 0xEE, 500000);
    gyre_free(used);
    for (unsigned i = 0; i < SMALL; i++)
      memset(blocks[i] = gyre_malloc(300), 0xEE, 300);
    for (unsigned i = 0; i < SMALL; i++)
      gyre_free(blocks[i]);
    if (round != 0) assert_int_equal(gyre_purge(), 0);
    gyre__header *large = gyre__heap_alloc_large(heap, GYRE__LEAF, 500000, 16);
    assert_true(test_is_filled(large, 0, 500000));
    for (unsigned i = 0; i < SMALL; i++) {
      small[i] = gyre__heap_alloc(heap, GYRE__LEAF, gyre__size_class(400));
      assert_int_equal(gyre__load_relaxed(&small[i]->shared), 0);
    }
    for (unsigned i = 0; i < SMALL; i++)
      gyre__heap_free(heap, gyre__page_of(small[i]), small[i], GYRE__LEAF);
    gyre__heap_free(heap, gyre__page_of(large), large, GYRE__LEAF);
    gyre_free(kept);
    /* The object's memory waits for a grace period, and then for whoever passes a safepoint. */
    for (int i = 0; i < 100 && gyre__load_relaxed(&heap->span_blocks) != 0; i++) {
      assert_int_equal(gyre_synchronize(), 0);
      gyre_safepoint();
    }
    assert_int_equal(gyre_purge(), 0);
  }
}

/* ---- limits and failures ---- */

/* Everything that large blocks do, as far as there is memory; contents are kept. */
static void do_everything(uint64_t *random, unsigned steps) {
  enum { COUNT = 24 };
  char *blocks[COUNT] = {NULL};
  size_t sizes[COUNT] = {0};
  for (unsigned i = 0; i < steps; i++) {
    unsigned at = (unsigned)(test_random(random) % COUNT);
    size_t size =
        1 + (size_t)(test_random(random) >> 20) % ((size_t)1 << (10 + test_random(random) % 15));
    unsigned what = (unsigned)(test_random(random) % 8);
    char *block = blocks[at];
    if (block == NULL) {
      size_t alignment = (size_t)16 << test_random(random) % 18;
      block = what == 0   ? gyre_calloc(1, size)
              : what == 1 ? gyre_aligned_alloc(alignment, size)
                          : gyre_malloc(size);
      if (block != NULL && what == 0) assert_true(test_is_filled(block, 0, size));
      if (block != NULL && what == 1) assert_int_equal((uintptr_t)block % alignment, 0);
    } else if (what < 5) {
      block = gyre_realloc(block, size);
      size_t kept = size < sizes[at] ? size : sizes[at];
      if (block != NULL) assert_true(is_marked(block, sizes[at], kept, at));
      if (block == NULL) assert_true(is_marked(blocks[at], sizes[at], sizes[at], at));
      if (block == NULL) continue;
    } else {
      assert_true(is_marked(block, sizes[at], sizes[at], at));
      gyre_free(block);
      block = NULL;
    }
    blocks[at] = block;
    sizes[at] = size;
    if (block != NULL) mark(block, size, at);
    if (i % 64 == 0) check_all_heaps();
    if (test_random(random) % 500 == 0) (void)gyre_purge();
  }
  for (unsigned i = 0; i < COUNT; i++) {
    if (blocks[i] != NULL) assert_true(is_marked(blocks[i], sizes[i], sizes[i], i));
    gyre_free(blocks[i]);
  }
  check_all_heaps();
}

static void large_blocks_are_as_they_were_left(void **state) {
  (void)state;
  uint64_t random = test_seed();
  do_everything(&random, 6000);
  assert_int_equal(gyre_option_set("purge_delay_ms", "0"), 0);
  do_everything(&random, 2000);
  assert_int_equal(gyre_option_set("purge", "free"), 0);
  do_everything(&random, 2000);
}

static void a_limit_is_kept_in_the_middle_of_everything(void **state) {
  (void)state;
  uint64_t random = test_seed();
  for (size_t limit = MIB; limit <= 64 * MIB; limit *= 4) {
    gyre_heap_set_limit(limit);
    do_everything(&random, 1500);
    assert_true(heap_stats().committed_bytes <= limit);
  }
}

static void any_allocation_may_fail(void **state) {
  (void)state;
  uint64_t random = test_seed();
  for (unsigned nth = 1; nth <= 8; nth++) {
    gyre__fault_arm(nth, 1);
    do_everything(&random, 500);
    gyre__fault_arm(0, 0);
  }
}

/* The limit is reached by a span, a huge block, and each way to grow them; what failed costs nothing. */
static void what_fails_at_the_limit_is_not_counted(void **state) {
  (void)state;
  char *span = block_new(MIB, 1), *huge = block_new(5 * MIB, 2), *small = block_new(600, 3);
  assert_int_equal(gyre_purge(), 0); /* nothing is cached */
  size_t committed = heap_stats().committed_bytes;
  gyre_heap_set_limit(committed);
  for (size_t size = 70000; size <= 100 * MIB; size = size * 3 / 2) {
    assert_null(gyre_malloc(size));
    assert_null(gyre_calloc(1, size));
    assert_null(gyre_aligned_alloc(MIB, size));
    if (size > gyre_usable_size(span) + SLICE) assert_null(gyre_realloc(span, size));
    if (size > gyre_usable_size(huge) + 4096) assert_null(gyre_realloc(huge, size));
    assert_null(gyre_realloc(small, size));
    assert_int_equal(heap_stats().committed_bytes, committed);
    check_all_heaps();
  }
  gyre_heap_set_limit(0);
  assert_true(holds(span, MIB, 1) && holds(huge, 5 * MIB, 2) && holds(small, 600, 3));
  gyre_free(span);
  gyre_free(huge);
  gyre_free(small);
}

/* ---- purging ---- */

static size_t span_dirty_bytes(void) {
  return gyre__load_relaxed(&gyre__heap_self()->span_dirty_bytes);
}

static void free_slices_go_when_they_were_free_at_the_look_before(void **state) {
  (void)state;
  struct gyre__heap *heap = gyre__heap_self();
  char *kept = block_new(100000, 1), *first = block_new(200000, 2), *second = block_new(300000, 3);
  size_t purged = heap_stats().purged_bytes;
  gyre_free(first);
  gyre__span_purge(heap, gyre__clock_ns());
  assert_int_equal(span_dirty_bytes(), 4 * SLICE);
  gyre_free(second);
  gyre__span_purge(heap, 0); /* not so soon */
  assert_int_equal(span_dirty_bytes(), 9 * SLICE);
  gyre__span_purge(heap, gyre__clock_ns());
  assert_int_equal(span_dirty_bytes(), 5 * SLICE);
  /* What was used in between is not old any more. */
  second = block_new(200000, 3);
  gyre_free(second);
  gyre__span_purge(heap, gyre__clock_ns());
  gyre__span_purge(heap, gyre__clock_ns());
  assert_int_equal(span_dirty_bytes(), 0);
  assert_int_equal(heap_stats().purged_bytes, purged + 9 * SLICE);
  check_all_heaps();
  gyre_free(kept);
}

static void without_a_delay_slices_go_at_once(void **state) {
  (void)state;
  char *kept = block_new(100000, 1), *block = block_new(MIB, 2), *huge = block_new(5 * MIB, 3);
  assert_int_equal(gyre_option_set("purge_delay_ms", "0"), 0);
  size_t committed = heap_stats().committed_bytes;
  gyre_free(huge);
  assert_int_equal(heap_stats().committed_bytes, committed - 5 * MIB);
  block = gyre_realloc(block, 500000);
  assert_int_equal(heap_stats().committed_bytes, 10 * SLICE);
  gyre_free(block);
  assert_int_equal(heap_stats().committed_bytes, 2 * SLICE);
  gyre_free(kept);
  assert_int_equal(heap_stats().committed_bytes, 0);
  assert_int_equal(heap_stats().mapped_bytes, 0);
}

static void gyre_purge_leaves_what_is_in_use(void **state) {
  (void)state;
  char *span = block_new(100000, 1), *freed = block_new(MIB, 2), *huge = block_new(5 * MIB, 3);
  gyre_free(freed);
  gyre_free(block_new(9 * MIB, 4));
  assert_int_equal(heap_stats().cached_bytes, 10 * MIB);
  assert_int_equal(gyre_purge(), 0);
  assert_int_equal(heap_stats().cached_bytes, 0);
  assert_int_equal(heap_stats().committed_bytes, 2 * SLICE + 5 * MIB);
  assert_int_equal(heap_stats().mapped_bytes, 4 * MIB + 8 * MIB);
  assert_true(holds(span, 100000, 1) && holds(huge, 5 * MIB, 3));
  gyre_free(span);
  gyre_free(huge);
}

/* ---- options ---- */

/* The line of /proc/self/smaps that begins with `name`, of the mapping that the address is in; false if
 * there is none. */
static bool smaps_line(const char *address, const char *name, char *out, int size) {
  FILE *file = fopen("/proc/self/smaps", "r");
  bool inside = false, found = false;
  while (file != NULL && !found && fgets(out, size, file) != NULL) {
    unsigned long from, to;
    if (sscanf(out, "%lx-%lx ", &from, &to) == 2)
      inside = from <= (uintptr_t)address && (uintptr_t)address < to;
    else
      found = inside && strncmp(out, name, strlen(name)) == 0;
  }
  if (file != NULL) (void)fclose(file);
  return found;
}

static bool has_flag(const char *block, const char *flag) {
  char line[256];
  return smaps_line(block, "VmFlags:", line, sizeof line) && strstr(line, flag) != NULL;
}

static void check_thp(const char *flag, const char *other) {
  char *blocks[] = {gyre_malloc(100), gyre_malloc(MIB), gyre_malloc(5 * MIB)};
  for (unsigned i = 0; i < 3; i++) {
    assert_true(flag == NULL || has_flag(blocks[i], flag));
    assert_false(has_flag(blocks[i], other));
    gyre_free(blocks[i]);
  }
  assert_int_equal(gyre_purge(), 0);
}

static void thp_says_what_kind_of_pages_memory_is_in(void **state) {
  (void)state;
  char line[256];
  if (access("/sys/kernel/mm/transparent_hugepage", F_OK) != 0 ||
      !smaps_line(line, "VmFlags:", line, sizeof line))
    skip();
  assert_int_equal(gyre_option_set("thp", "always"), 0);
  check_thp(" hg", " nh");
  assert_int_equal(gyre_option_set("thp", "never"), 0);
  check_thp(" nh", " hg");
  assert_int_equal(gyre_option_set("thp", "default"), 0);
  check_thp(NULL, " hg");
  check_thp(NULL, " nh");
}

/* With MADV_FREE the memory is the system's to take; the figures say that it is gone. */
static void purge_says_whether_memory_goes_at_once(void **state) {
  (void)state;
  char line[256];
  for (int mode = 0; mode < 2; mode++) {
    assert_int_equal(gyre_option_set("purge", mode == 0 ? "dontneed" : "free"), 0);
    char *kept = block_new(70000, 1), *span = block_new(MIB, 2);
    gyre_free(span);
    assert_int_equal(gyre_purge(), 0);
    assert_int_equal(heap_stats().committed_bytes, 2 * SLICE);
    unsigned long kib = 0;
    if (smaps_line(span, "LazyFree:", line, sizeof line)) {
      assert_int_equal(sscanf(line, "LazyFree: %lu", &kib), 1);
      assert_int_equal(kib != 0, mode);
    }
    assert_true(holds(kept, 70000, 1));
    gyre_free(kept);
    assert_int_equal(gyre_purge(), 0);
  }
}

/* ---- other threads ---- */

struct scene {
  char *span, *huge, *kept;
  meeting ready, done;
};

static void scene_init(struct scene *scene) {
  meeting_init(&scene->ready, 2);
  meeting_init(&scene->done, 2);
}

static void *make_and_block(void *arg) {
  struct scene *scene = arg;
  scene->kept = block_new(100000, 3);
  scene->span = block_new(MIB, 1);
  scene->huge = block_new(5 * MIB, 2);
  gyre_free(block_new(2 * MIB - 100, 4));
  meet_running(&scene->ready);
  meet_running(&scene->done); /* neither parked nor at a safepoint */
  gyre_free(scene->kept);
  return NULL;
}

/* The thread stays where it is, as one that waits in a system call. */
static void others_purge_the_spans_of_a_blocked_thread(void **state) {
  (void)state;
  static struct scene scene;
  scene_init(&scene);
  pthread_t thread = thread_start(make_and_block, &scene);
  meet_running(&scene.ready);
  struct gyre__heap *owner = span_of(scene.span)->segment->owner;
  assert_ptr_not_equal(owner, gyre__heap_self());
  gyre_free(scene.span);
  gyre_free(scene.huge);
  size_t committed = heap_stats().committed_bytes;
  assert_int_equal(gyre__load_relaxed(&owner->span_dirty_bytes), 3 * MIB);
  /* As the service thread does: until it says that there is nothing more to do. */
  assert_int_equal(gyre_option_set("purge_delay_ms", "1"), 0);
  uint64_t before = gyre__clock_ns();
  while (gyre__purge_idle(gyre__heap_self()) != UINT64_MAX)
    assert_true(gyre__clock_ns() - before < UINT64_C(60000000000));
  assert_int_equal(gyre__load_relaxed(&owner->span_dirty_bytes), 0);
  assert_int_equal(heap_stats().committed_bytes, committed - 3 * MIB - 5 * MIB);
  assert_true(holds(scene.kept, 100000, 3));
  assert_int_equal(gyre_option_set("purge_delay_ms", "4294967295"), 0);
  meet_running(&scene.done);
  thread_join(thread);
}

static void *make_and_exit(void *arg) {
  struct scene *scene = arg;
  scene->span = block_new(MIB, 1);
  scene->huge = block_new(5 * MIB, 2);
  scene->kept = block_new(800, 3);
  scene->kept = gyre_realloc(scene->kept, 20000);
  return NULL;
}

static void large_blocks_of_a_thread_that_is_gone_live_on(void **state) {
  (void)state;
  struct scene scene;
  in_thread(make_and_exit, &scene);
  struct gyre__heap *owner = span_of(scene.span)->segment->owner;
  assert_int_equal(owner->growing, 1);
  check_all_heaps();
  scene.span = gyre_realloc(scene.span, MIB + 300000);
  scene.huge = gyre_realloc(scene.huge, 30 * MIB);
  assert_true(holds(scene.span, MIB, 1) && holds(scene.huge, 5 * MIB, 2) &&
              holds(scene.kept, 800, 3));
  gyre_free(scene.span);
  gyre_free(scene.huge);
  gyre_free(scene.kept);
  assert_int_equal(owner->growing, 0);
  check_all_heaps();
}

static void *free_it_unattached(void *arg) {
  struct scene *scene = arg;
  gyre_free(scene->span);
  gyre_free(scene->huge);
  assert_ptr_equal(gyre__self->id, 0);
  return NULL;
}

static void a_thread_that_is_not_attached_frees_large_blocks(void **state) {
  (void)state;
  struct scene scene = {.span = block_new(MIB, 1), .huge = block_new(5 * MIB, 2)};
  in_thread(free_it_unattached, &scene);
  check_all_heaps();
  assert_int_equal(heap_stats().live_blocks, 0);
}

#define SHARED 32
/* Blocks on their way; their first word is their size. */
static GYRE_ATOMIC(size_t *) shared[SHARED];
static gyre__atomic_u32 workers;

static void *pass_large_blocks(void *arg) {
  uint64_t random = *(uint64_t *)arg;
  for (int i = 0; i < 1500; i++) {
    size_t size =
        16 + (size_t)(test_random(&random) >> 20) % ((size_t)1 << (10 + test_random(&random) % 13));
    size_t *block = test_random(&random) % 4 != 0 ? gyre_malloc(size) : gyre_calloc(1, size);
    assert_non_null(block);
    block[0] = size;
    ((char *)block)[size - 1] = 0x5A;
    /* acq_rel: gives a block and takes one; partner: itself. */
    block = gyre__exchange_acq_rel(&shared[test_random(&random) % SHARED], block);
    if (block == NULL) continue;
    assert_true(block[0] <= 8 || ((char *)block)[block[0] - 1] == 0x5A);
    if (test_random(&random) % 3 == 0) {
      size_t old = block[0];
      block = gyre_realloc(block, 2 * old + 70000);
      assert_true(block[0] == old && (old <= 8 || ((char *)block)[old - 1] == 0x5A));
    }
    gyre_free(block);
    gyre_safepoint();
  }
  /* relaxed: a hint for who purges. */
  gyre__fetch_sub_relaxed(&workers, 1);
  return NULL;
}

static void threads_free_each_others_large_blocks_while_others_purge(void **state) {
  (void)state;
  enum { THREADS = 3 };
  uint64_t seeds[THREADS] = {test_seed()};
  pthread_t threads[THREADS];
  assert_int_equal(gyre_option_set("purge_delay_ms", seeds[0] % 2 ? "0" : "1"), 0);
  gyre__store_relaxed(&workers, THREADS);
  for (unsigned i = 0; i < THREADS; i++) {
    seeds[i] = seeds[0] + i;
    threads[i] = thread_start(pass_large_blocks, &seeds[i]);
  }
  /* relaxed: see above. */
  while (gyre__load_relaxed(&workers) != 0) {
    (void)gyre__purge_idle(gyre__heap_self());
    gyre__purge_others(gyre__heap_self());
    gyre_safepoint();
  }
  for (unsigned i = 0; i < THREADS; i++)
    thread_join(threads[i]);
  check_all_heaps();
  for (unsigned i = 0; i < SHARED; i++)
    /* acq_rel: as above. */
    gyre_free(gyre__exchange_acq_rel(&shared[i], NULL));
}

#define SPAN_TEST(f) cmocka_unit_test_setup_teardown(f, span_setup, span_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      SPAN_TEST(spans_take_the_slices_they_need),
      SPAN_TEST(every_size_is_aligned_to_every_alignment),
      SPAN_TEST(holes_are_found_behind_any_number_of_segments),
      SPAN_TEST(one_empty_segment_stays),
      SPAN_TEST(a_span_grows_in_place_if_what_follows_is_free),
      SPAN_TEST(a_span_moves_if_a_neighbour_is_in_its_way),
      SPAN_TEST(only_some_small_blocks_lie_where_they_can_grow),
      SPAN_TEST(blocks_grow_from_a_byte_to_64_mib_side_by_side),
      SPAN_TEST(a_huge_block_grows_into_what_is_free_behind_it),
      SPAN_TEST(a_huge_block_is_moved_with_its_contents),
      SPAN_TEST(a_huge_block_of_several_mappings_is_moved),
      SPAN_TEST(a_move_that_fails_half_way_is_a_copy),
      SPAN_TEST(blocks_shrink_from_huge_to_small_and_back),
      SPAN_TEST(calloc_zeroes_what_was_used_before),
      SPAN_TEST(objects_are_zeroed_in_memory_that_was_used_before),
      SPAN_TEST(large_blocks_are_as_they_were_left),
      SPAN_TEST(a_limit_is_kept_in_the_middle_of_everything),
      SPAN_TEST(any_allocation_may_fail),
      SPAN_TEST(what_fails_at_the_limit_is_not_counted),
      SPAN_TEST(free_slices_go_when_they_were_free_at_the_look_before),
      SPAN_TEST(without_a_delay_slices_go_at_once),
      SPAN_TEST(gyre_purge_leaves_what_is_in_use),
      SPAN_TEST(thp_says_what_kind_of_pages_memory_is_in),
      SPAN_TEST(purge_says_whether_memory_goes_at_once),
      SPAN_TEST(others_purge_the_spans_of_a_blocked_thread),
      SPAN_TEST(large_blocks_of_a_thread_that_is_gone_live_on),
      SPAN_TEST(a_thread_that_is_not_attached_frees_large_blocks),
      SPAN_TEST(threads_free_each_others_large_blocks_while_others_purge),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
