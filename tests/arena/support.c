/* SPDX-License-Identifier: MIT */
#include "arena_test.h"

char arena_memory[68 << 20];

static size_t arena_offset, arena_size;
#define MARGIN 64u

/* The bytes right before and behind. */
static void margins_set(void) {
  if (arena_offset >= MARGIN) memset(arena_memory + arena_offset - MARGIN, 0x3c, MARGIN);
  if (arena_offset + arena_size + MARGIN <= sizeof arena_memory)
    memset(arena_memory + arena_offset + arena_size, 0x3c, MARGIN);
}

static bool margin_is_whole(const char *at) {
  for (unsigned i = 0; i < MARGIN; i++)
    if (at[i] != 0x3c) return false;
  return true;
}

void arena_place(size_t offset, size_t size) {
  arena_offset = offset;
  arena_size = size;
}

void arena_begin(size_t offset, size_t size) {
  arena_place(offset, size);
  memset(arena_memory + offset, 0xa5, size);
  margins_set();
  assert_int_equal(gyre_init_in(arena_memory + offset, size), 0);
  assert_non_null(gyre_thread_current());
  assert_int_equal(gyre_gc_get_mode(), GYRE_GC_STW);
  (void)gyre_gc_disable();
}

void arena_end(void) {
  test_check();
  assert_int_equal(gyre_fini(), 0);
  (void)gyre_gc_enable();
  assert_null(gyre_thread_current());
  assert_int_equal(test_thread_stats().slots_high_water, 0);
  assert_int_equal(test_heap_stats().resident_bytes, 0);
  if (arena_offset >= MARGIN) assert_true(margin_is_whole(arena_memory + arena_offset - MARGIN));
  if (arena_offset + arena_size + MARGIN <= sizeof arena_memory)
    assert_true(margin_is_whole(arena_memory + arena_offset + arena_size));
  /* It is the program's again: whoever still looks there finds this. */
  memset(arena_memory + arena_offset, 0xee, arena_size);
}

bool arena_has(const void *address, size_t size) {
  uintptr_t start = (uintptr_t)arena_memory + arena_offset, at = (uintptr_t)address;
  return at >= start && size <= arena_size && at - start <= arena_size - size;
}

static void weak_died(gyre_weak *weak, void *arg) {
  (void)weak;
  ++*(int *)arg;
}

void arena_work(unsigned rounds) {
  for (unsigned r = 0; r < rounds; r++) {
    void *blocks[40];
    for (size_t i = 0; i < 40; i++) {
      size_t size = i * 97 + (i % 13 == 12 ? 70000 : 0);
      blocks[i] = gyre_malloc(size);
      TEST_REQUIRE(blocks[i] != NULL && arena_has(blocks[i], size));
      memset(blocks[i], (int)i, size);
    }
    void *grown = gyre_realloc(gyre_malloc(300), 150000);
    TEST_REQUIRE(grown != NULL && arena_has(grown, 150000));
    void *aligned = gyre_aligned_alloc(131072, 10);
    TEST_REQUIRE(arena_has(aligned, 10) && (uintptr_t)aligned % 131072 == 0);
    int calls = 0;
    node *ring = ring_new(&node_type, 50);
    TEST_REQUIRE(arena_has(ring, sizeof *ring));
    gyre_weak *weak = gyre_weak_new(ring, weak_died, &calls),
              *plain = gyre_weak_new(ring, NULL, NULL);
    TEST_REQUIRE(weak != NULL && plain != NULL);
    gyre_release(ring);
    gyre_release(chain_new(&finalized_type, 30));
    /* Other threads may collect it before us. */
    TEST_REQUIRE(gyre_gc_collect(2) >= 0 && calls == 1 && gyre_weak_is_dead(plain));
    gyre_weak_free(weak);
    gyre_weak_free(plain);
    gyre_free(grown);
    gyre_free(aligned);
    for (size_t i = 0; i < 40; i++)
      gyre_free(blocks[i]);
    gyre_safepoint();
    TEST_REQUIRE(gyre_purge() == 0);
  }
}
