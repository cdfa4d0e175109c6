/* SPDX-License-Identifier: MIT */
/* Which block is handed out next: classes that borrow from sparse pages of larger ones, and strays, the
 * blocks of full pages that go straight to the ready list. */
#include "heap_test.h"
#include "lib/heap/page.h"

static int pool_setup(void **state) {
  assert_int_equal(gyre_option_set("purge_delay_ms", "4294967295"), 0);
  /* What is freed comes back at once. */
  assert_int_equal(gyre_option_set("quarantine", "0"), 0);
  return heap_setup(state);
}

static int pool_teardown(void **state) {
  assert_int_equal(gyre_option_set("purge_delay_ms", "1000"), 0);
  return heap_teardown(state);
}

static gyre__pool *pool_of(size_t size) {
  return gyre__heap_pool(gyre__heap_self(), GYRE__RAW, gyre__size_class(size));
}

static size_t class_of(const void *block) { return gyre__page_of(block)->block_size; }

/* ---- borrowing ---- */

#define MANY 2048

/* Pages of the class with `kept` of each 8 blocks in use. */
static void sparse_make(void **blocks, size_t size, unsigned kept) {
  for (unsigned i = 0; i < MANY; i++)
    fill(blocks[i] = gyre_malloc(size), size, i);
  for (unsigned i = 0; i < MANY; i++)
    if (i % 8 >= kept) {
      gyre_free(blocks[i]);
      blocks[i] = NULL;
    }
}

static void sparse_free(void **blocks, size_t size) {
  for (unsigned i = 0; i < MANY; i++) {
    if (blocks[i] != NULL) assert_true(holds(blocks[i], size, i));
    gyre_free(blocks[i]);
  }
}

static void a_class_borrows_from_a_sparse_page_of_a_larger_one(void **state) {
  (void)state;
  static void *blocks[MANY], *borrowed[200];
  sparse_make(blocks, 256, 4);
  size_t committed = heap_stats().committed_bytes;
  for (unsigned i = 0; i < 200; i++) {
    borrowed[i] = gyre_malloc(160);
    assert_int_equal(class_of(borrowed[i]), 256);
    assert_int_equal(gyre_usable_size(borrowed[i]), 256);
    fill(borrowed[i], 160, i);
    check_all_heaps();
  }
  assert_int_equal(heap_stats().committed_bytes, committed);
  assert_int_equal(heap_stats().live_blocks, MANY / 2 + 200);
  assert_int_equal(heap_stats().live_bytes, (MANY / 2 + 200) * 256);
  for (unsigned i = 0; i < 200; i++) {
    assert_true(holds(borrowed[i], 160, i));
    gyre_free(borrowed[i]);
  }
  check_all_heaps();
  sparse_free(blocks, 256);
}

static void nothing_is_borrowed_from_pages_that_are_wanted(void **state) {
  (void)state;
  static void *blocks[MANY];
  sparse_make(blocks, 256, 7); /* an eighth is free */
  void *block = gyre_malloc(160);
  assert_int_equal(class_of(block), 160);
  gyre_free(block);
  sparse_free(blocks, 256);
  assert_int_equal(gyre_purge(), 0);
  /* Never full: its blocks are still to come. */
  void *other = gyre_malloc(1024), *back = gyre_malloc(1024);
  gyre_free(back);
  block = gyre_malloc(640);
  assert_int_equal(class_of(block), 640);
  gyre_free(block);
  gyre_free(other);
  assert_int_equal(gyre_purge(), 0);
  /* More than twice as large. */
  sparse_make(blocks, 512, 2);
  block = gyre_malloc(160);
  assert_int_equal(class_of(block), 160);
  gyre_free(block);
  sparse_free(blocks, 512);
}

static void what_is_borrowed_is_as_aligned_as_the_class_is(void **state) {
  (void)state;
  static void *blocks[MANY];
  for (unsigned size_class = 8; size_class < GYRE__SIZE_CLASSES; size_class++) {
    size_t size = gyre__class_size(size_class), alignment = size & -size;
    for (unsigned c = size_class + 1; c < GYRE__SIZE_CLASSES && gyre__class_size(c) <= 2 * size;
         c++) {
      size_t larger = gyre__class_size(c), page = larger <= GYRE__SMALL_MAX ? 65536 : 524288;
      size_t count = 2 * (page / larger);
      if (count > MANY) continue;
      for (size_t i = 0; i < count; i++)
        blocks[i] = gyre_malloc(larger);
      for (size_t i = 0; i < count; i++)
        if (i % 2 == 0) gyre_free(blocks[i]);
      for (int i = 0; i < 3; i++) {
        void *block = gyre_aligned_alloc(alignment, size);
        assert_int_equal((uintptr_t)block % alignment, 0);
        assert_int_equal(class_of(block), larger % alignment == 0 ? larger : size);
        gyre_free(block);
      }
      for (size_t i = 1; i < count; i += 2)
        gyre_free(blocks[i]);
      assert_int_equal(gyre_purge(), 0);
    }
  }
}

static void objects_borrow_nothing(void **state) {
  (void)state;
  static void *blocks[MANY];
  struct gyre__heap *heap = gyre__heap_self();
  sparse_make(blocks, 256, 4);
  gyre__header *h = gyre__heap_alloc(heap, GYRE__LEAF, gyre__size_class(160));
  struct gyre__page *page = gyre__page_of(h);
  assert_int_equal(page->kind, GYRE__LEAF);
  assert_int_equal(page->block_size, 160);
  gyre__heap_free(heap, page, h, GYRE__LEAF);
  sparse_free(blocks, 256);
}

static void *free_them(void *arg) {
  void **borrowed = arg;
  for (unsigned i = 0; i < 200; i++)
    gyre_free(borrowed[i]);
  return NULL;
}

static void borrowed_blocks_come_home_from_other_threads(void **state) {
  (void)state;
  static void *blocks[MANY], *borrowed[200];
  sparse_make(blocks, 256, 4);
  for (unsigned i = 0; i < 200; i++)
    fill(borrowed[i] = gyre_malloc(160), 160, i);
  in_thread(free_them, borrowed);
  check_all_heaps();
  sparse_free(blocks, 256);
}

/* ---- strays ---- */

#define PAGES 24

/* So many pages of which every block is in use, and that had one block to hand out last time. Returns how
 * many blocks there are. */
static unsigned scarce_make(void **blocks, unsigned room, size_t size) {
  unsigned count = 0;
  unsigned a_page = (unsigned)(65536 / gyre__class_size(gyre__size_class(size)));
  assert_true(PAGES * a_page <= room);
  while (count < PAGES * a_page)
    blocks[count++] = gyre_malloc(size);
  for (unsigned round = 0; round < 2; round++) {
    for (unsigned p = 0; p < PAGES; p++)
      gyre_free(blocks[p * a_page + 5]);
    for (unsigned p = 0; p < PAGES; p++)
      blocks[p * a_page + 5] = gyre_malloc(size);
  }
  return count;
}

static void a_block_of_a_full_page_is_handed_out_next(void **state) {
  (void)state;
  static void *blocks[PAGES * 128];
  unsigned count = scarce_make(blocks, PAGES * 128, 512), full = 0;
  for (unsigned i = 0; i < count; i += 128) {
    struct gyre__page *page = gyre__page_of(blocks[i]);
    if (!page->full || !page->scarce) continue;
    full++;
    void *freed = blocks[i + 7];
    gyre_free(freed);
    assert_true(page->full);
    check_all_heaps();
    assert_ptr_equal(gyre_malloc(512), freed);
    assert_true(page->full);
  }
  assert_true(full > PAGES / 2);
  for (unsigned i = 0; i < count; i++)
    gyre_free(blocks[i]);
}

static void only_so_many_blocks_stray(void **state) {
  (void)state;
  static void *blocks[PAGES * 128];
  unsigned count = scarce_make(blocks, PAGES * 128, 512), strays = 0, others = 0;
  for (unsigned i = 0; i < count; i += 128) {
    struct gyre__page *page = gyre__page_of(blocks[i]);
    if (!page->full || !page->scarce) continue;
    gyre_free(blocks[i + 7]);
    blocks[i + 7] = NULL;
    strays += page->full;
    others += !page->full;
    check_all_heaps();
  }
  assert_in_range(strays, 1, 9);
  assert_true(others > 1);
  assert_true(pool_of(512)->gyre__strays <= 9);
  for (unsigned i = 0; i < count; i++)
    gyre_free(blocks[i]);
}

/* Pages between full and not, with strays of some classes borrowed by others. */
static void pools_are_sound_whatever_comes_back_when(void **state) {
  (void)state;
  enum { COUNT = 6000 };
  static const size_t sizes[] = {96, 112, 160, 192, 256, 320, 1000, 1500, 2000};
  static struct {
    char *data;
    size_t size;
  } blocks[COUNT];
  uint64_t random = test_seed();
  for (unsigned i = 0; i < 150000; i++) {
    unsigned at = (unsigned)(test_random(&random) % COUNT);
    if (blocks[at].data != NULL) {
      assert_true(holds(blocks[at].data, 32, at));
      gyre_free(blocks[at].data);
      blocks[at].data = NULL;
    }
    /* Each size has its time. */
    unsigned time = i / 15000 + (unsigned)(test_random(&random) % 3);
    if (test_random(&random) % 8 == 0) continue;
    blocks[at].size = sizes[time % (sizeof sizes / sizeof sizes[0])];
    blocks[at].data = gyre_malloc(blocks[at].size);
    assert_true(gyre_usable_size(blocks[at].data) >= blocks[at].size);
    fill(blocks[at].data, 32, at);
    if (i % 10000 == 0) check_all_heaps();
    if (test_random(&random) % 20000 == 0) assert_int_equal(gyre_purge(), 0);
  }
  check_all_heaps();
  for (unsigned i = 0; i < COUNT; i++)
    gyre_free(blocks[i].data);
}

#define POOL_TEST(f) cmocka_unit_test_setup_teardown(f, pool_setup, pool_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      POOL_TEST(a_class_borrows_from_a_sparse_page_of_a_larger_one),
      POOL_TEST(nothing_is_borrowed_from_pages_that_are_wanted),
      POOL_TEST(what_is_borrowed_is_as_aligned_as_the_class_is),
      POOL_TEST(objects_borrow_nothing),
      POOL_TEST(borrowed_blocks_come_home_from_other_threads),
      POOL_TEST(a_block_of_a_full_page_is_handed_out_next),
      POOL_TEST(only_so_many_blocks_stray),
      POOL_TEST(pools_are_sound_whatever_comes_back_when),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
