/* SPDX-License-Identifier: MIT */
/* The arena: all of the heap, and everything that the library keeps about it, in one buffer of the
 * program's (gyre_init_in()).
 *
 *     buffer    |map| page | page |  large  | page | ... free ...      |slot|segment|tables|
 *                    ^ from below, in slices of 64 KiB       ^ from above, in units of 4 KiB
 *
 * One bitmap, of units, under one lock. Where the other heap has segments of 4 MiB that belong to one slot
 * and are all of one shape, an arena may be smaller than that: here the segments are shared. Each 4-MiB
 * piece of address space that the buffer touches has one, of shape ARENA, without an owner; its page
 * structs say slice by slice whose it is (page->owner). What lies outside the buffer is never handed out. So
 * everything that finds a page by an address works as ever, and frees take the path that looks at the page's
 * owner instead of the segment's.
 *
 * All pages are of 64 KiB: a class of large blocks has few in one, but a page of 512 KiB would be half of
 * a small arena. What is beyond the classes is a run of slices, which may cross from one piece to the
 * next: a large block is found by its start.
 *
 * A page that empties goes back to the bitmap at once, for whichever slot and size comes next. "No news of
 * the unmapped" (segment.c) holds for each page: one of which news is under way stays with its heap,
 * in heap->held, until they have been heard.
 *
 * Neither lock nor bitmap is on a fast path: they are asked for a page or a large block at a time.
 *
 * What is not in the buffer: the static data of the library. Two of its arrays are large, but only address
 * space where nothing is written: of the table of segments one entry for each piece is, of the table of
 * slots one for each thread.
 */
#include <errno.h>
#include <string.h>

#include "lib/heap/page.h"

#define UNIT_SHIFT 12
#define UNIT ((size_t)1 << UNIT_SHIFT)
#define SLICE ((size_t)1 << GYRE__SMALL_PAGE_SHIFT)
#define WORD_BITS 64u

bool gyre__arena_on;

static struct {
  gyre__lock lock;
  /* -- constant while the arena is on -- */
  char *base; /* the first unit */
  size_t units;
  uintptr_t first_piece; /* the address of base, in segments */
  size_t pieces;
  struct gyre__segment *segments[GYRE__ARENA_PIECES_MAX];
  /* -- under the lock -- */
  uint64_t *used; /* a bit a unit; in the first units */
  size_t free_units;
} arena;

/* ---- units; with the lock held ---- */

static bool unit_is_used(size_t unit) {
  return arena.used[unit / WORD_BITS] >> unit % WORD_BITS & 1;
}

/* The bits from `first` on in its word that belong to the run; *count is how many. */
static uint64_t run_bits(size_t first, size_t end, size_t *count) {
  size_t at = first % WORD_BITS, rest = end - first;
  *count = rest < WORD_BITS - at ? rest : WORD_BITS - at;
  return (*count == WORD_BITS ? UINT64_MAX : (UINT64_C(1) << *count) - 1) << at;
}

static void units_mark(size_t first, size_t count, bool used) {
  size_t step;
  for (size_t i = first; i < first + count; i += step) {
    uint64_t bits = run_bits(i, first + count, &step), *word = &arena.used[i / WORD_BITS];
    GYRE_REQUIRE((*word & bits) == (used ? 0 : bits), "corrupted: the arena's map, at %p",
                 (void *)(arena.base + (i << UNIT_SHIFT)));
    *word ^= bits;
  }
  arena.free_units += used ? -count : count;
}

/* The last used unit of a run, or SIZE_MAX. */
static size_t last_used(size_t first, size_t count) {
  size_t step, last = SIZE_MAX;
  for (size_t i = first; i < first + count; i += step) {
    uint64_t used = run_bits(i, first + count, &step) & arena.used[i / WORD_BITS];
    if (used != 0)
      last = i / WORD_BITS * WORD_BITS + (WORD_BITS - 1) - (size_t)__builtin_clzll(used);
  }
  return last;
}

static char *unit_address(size_t unit) { return arena.base + (unit << UNIT_SHIFT); }

/* The first unit at or behind this one whose address is a multiple of the alignment. */
static size_t unit_aligned(size_t unit, size_t alignment) {
  uintptr_t address = (uintptr_t)unit_address(unit);
  return unit +
         ((((address + alignment - 1) & ~(uintptr_t)(alignment - 1)) - address) >> UNIT_SHIFT);
}

/* The lowest run of free units; SIZE_MAX if there is none. */
static size_t find_low(size_t count, size_t alignment) {
  for (size_t at = unit_aligned(0, alignment); at < arena.units && count <= arena.units - at;) {
    size_t used = last_used(at, count);
    if (used == SIZE_MAX) return at;
    at = unit_aligned(used + 1, alignment);
  }
  return SIZE_MAX;
}

/* The highest. */
static size_t find_high(size_t count, size_t alignment) {
  if (count > arena.units) return SIZE_MAX;
  for (size_t at = arena.units - count + 1; at-- > 0;) {
    if (unit_aligned(at, alignment) != at) continue;
    size_t used = last_used(at, count);
    if (used == SIZE_MAX) return at;
    if (used < count) break;
    at = used - count + 1;
  }
  return SIZE_MAX;
}

static size_t units_for(size_t size) { return (size + UNIT - 1) >> UNIT_SHIFT; }

/* NULL if there is no such run. */
static char *take(size_t size, size_t alignment, size_t (*find)(size_t, size_t)) {
  size_t count = units_for(size);
  gyre__lock_take(&arena.lock);
  size_t at = count <= arena.free_units ? find(count, alignment) : SIZE_MAX;
  if (at != SIZE_MAX) units_mark(at, count, true);
  gyre__lock_give(&arena.lock);
  return at != SIZE_MAX ? unit_address(at) : NULL;
}

static void give(void *address, size_t size) {
  gyre__lock_take(&arena.lock);
  units_mark((size_t)((char *)address - arena.base) >> UNIT_SHIFT, units_for(size), false);
  gyre__lock_give(&arena.lock);
}

/* ---- the source of metadata ---- */

static void *source_map(void *ctx, size_t size, size_t alignment) {
  (void)ctx;
  char *address = take(size, alignment < UNIT ? UNIT : alignment, find_high);
  if (address != NULL) memset(address, 0, size);
  return address;
}

static void source_unmap(void *ctx, void *address, size_t size) {
  (void)ctx;
  give(address, size);
}

/* ---- slices ---- */

static struct gyre__segment *segment_at(const void *address) {
  return arena.segments[((uintptr_t)address >> GYRE__SEGMENT_SHIFT) - arena.first_piece];
}

/* Slices for `size` bytes, counted as committed: their page, of which nothing is set but where it is. NULL
 * if there are none, or with *over_limit. */
static struct gyre__page *slices_take(size_t size, size_t alignment, bool *over_limit) {
  if (!gyre__memory_charge(size)) {
    *over_limit = true;
    return NULL;
  }
  char *start = take(size, alignment < SLICE ? SLICE : alignment, find_low);
  if (start == NULL) {
    gyre__memory_uncharge(size);
    return NULL;
  }
  gyre__memory_mapped(size);
  gyre__note_nobody(start, size);
  struct gyre__page *page = gyre__segment_page(segment_at(start), start);
  GYRE_ASSERT(page->state == GYRE__PAGE_FREE && !page->awaits_news);
  page->segment = segment_at(start);
  page->start = start;
  page->dirty = 1;
  page->is_large = page->span = page->grows = 0;
  page->large_backend = GYRE__LARGE_SPANS;
  return page;
}

static void slices_give(struct gyre__page *page, size_t size) {
  /* release: nobody's any more; whoever takes it next took the lock after us. Pairs with the load in
   * gyre__page_heap(), which finds out misuse. */
  gyre__store_release(&page->owner, 0);
  page->state = GYRE__PAGE_FREE;
  gyre__note_given_back(page->start, size);
  gyre__memory_mapped(-size);
  gyre__memory_purged(size);
  give(page->start, size);
}

/* ---- pages ---- */

static void figures_add(struct gyre__heap *heap, size_t bytes) {
  gyre__figure_add(&heap->mapped_bytes, bytes);
  gyre__figure_add(&heap->committed_bytes, bytes);
}

struct gyre__page *gyre__arena_take_page(struct gyre__heap *heap, bool *over_limit) {
  struct gyre__page *page = heap->held;
  if (page != NULL) {
    heap->held = page->next;
    page->next = NULL;
    gyre__figure_add(&heap->cached_bytes, -SLICE);
    return page;
  }
  page = slices_take(SLICE, SLICE, over_limit);
  if (page == NULL) return NULL;
  figures_add(heap, SLICE);
  /* relaxed: before the page's first block is handed out; pairs with the load in gyre__heap_free(). */
  gyre__store_relaxed(&page->owner, heap->thread.base.id);
  return page;
}

static void page_let_go(struct gyre__heap *heap, struct gyre__page *page) {
  figures_add(heap, -SLICE);
  slices_give(page, SLICE);
}

void gyre__arena_give_page(struct gyre__heap *heap, struct gyre__page *page) {
  if (gyre__page_call_off_news(page)) {
    page_let_go(heap, page);
    return;
  }
  page->next = heap->held;
  heap->held = page;
  gyre__figure_add(&heap->cached_bytes, SLICE);
}

void gyre__arena_purge(struct gyre__heap *heap) {
  for (struct gyre__page **at = &heap->held; *at != NULL;) {
    struct gyre__page *page = *at;
    if (!gyre__page_call_off_news(page)) {
      at = &page->next;
      continue;
    }
    *at = page->next;
    page->next = NULL;
    gyre__figure_add(&heap->cached_bytes, -SLICE);
    page_let_go(heap, page);
  }
}

struct gyre__page *gyre__arena_next_page(const struct gyre__heap *heap, struct gyre__page *page) {
  size_t piece = 0;
  uint32_t index = 0;
  if (page != NULL) {
    piece = ((uintptr_t)page->start >> GYRE__SEGMENT_SHIFT) - arena.first_piece;
    index = (uint32_t)(page - page->segment->pages) + 1;
  }
  for (; piece < arena.pieces; piece++, index = 0)
    for (; index < arena.segments[piece]->page_count; index++) {
      page = &arena.segments[piece]->pages[index];
      /* relaxed: our own id is there only if the page is ours; pairs with gyre__arena_take_page(). */
      if (gyre__load_relaxed(&page->owner) == heap->thread.base.id) return page;
    }
  return NULL;
}

/* ---- large blocks ---- */

struct gyre__page *gyre__arena_take_large(size_t size, size_t alignment) {
  bool over_limit = false;
  size_t bytes = (size + SLICE - 1) & ~(SLICE - 1);
  struct gyre__page *page = slices_take(bytes, alignment, &over_limit);
  if (page == NULL) return NULL;
  page->size_class = page->sum_is_off = page->full = page->in_pool = page->scarce = 0;
  page->free = NULL;
  page->sum = 0;
  page->counted = 0;
  page->next = page->prev = NULL;
  page->reciprocal = 0;
  page->large_base = page->start;
  page->large_bytes = bytes;
  return page;
}

void gyre__arena_give_large(struct gyre__page *page) {
  /* relaxed: the block's grace period is over, or it is raw and this is 0. */
  gyre__store_relaxed(&page->objects_end, 0);
  slices_give(page, page->large_bytes);
}

bool gyre__arena_resize(struct gyre__page *page, size_t size) {
  size_t bytes = (size + SLICE - 1) & ~(SLICE - 1), old = page->large_bytes;
  if (bytes > old) {
    size_t more = bytes - old, at = (size_t)(page->start + old - arena.base) >> UNIT_SHIFT;
    if (!gyre__memory_charge(more)) return false;
    gyre__lock_take(&arena.lock);
    bool fits = at <= arena.units && units_for(more) <= arena.units - at &&
                last_used(at, units_for(more)) == SIZE_MAX;
    if (fits) units_mark(at, units_for(more), true);
    gyre__lock_give(&arena.lock);
    if (!fits) {
      gyre__memory_uncharge(more);
      return false;
    }
    gyre__memory_mapped(more);
  } else if (bytes < old) {
    gyre__memory_mapped(bytes - old);
    gyre__memory_purged(old - bytes);
    gyre__note_given_back(page->start + bytes, old - bytes);
    give(page->start + bytes, old - bytes);
  }
  page->large_bytes = bytes;
  return true;
}

/* ---- beginning and end ---- */

size_t gyre__arena_free_bytes(void) {
  gyre__lock_take(&arena.lock);
  size_t bytes = arena.free_units << UNIT_SHIFT;
  gyre__lock_give(&arena.lock);
  return bytes;
}

/* How many slices of a piece, from its start on, are of interest: up to the end of the buffer. */
static uint32_t piece_pages(size_t piece) {
  uintptr_t start = (arena.first_piece + piece) << GYRE__SEGMENT_SHIFT;
  uintptr_t end = (uintptr_t)unit_address(arena.units);
  size_t inside = end - start < GYRE__SEGMENT_SIZE ? end - start : GYRE__SEGMENT_SIZE;
  return (uint32_t)((inside + SLICE - 1) >> GYRE__SMALL_PAGE_SHIFT);
}

bool gyre__arena_begin(void *buffer, size_t size) {
  uintptr_t start = ((uintptr_t)buffer + UNIT - 1) & ~(uintptr_t)(UNIT - 1);
  uintptr_t end = ((uintptr_t)buffer + size) & ~(uintptr_t)(UNIT - 1);
  arena.base = (char *)buffer + (start - (uintptr_t)buffer);
  arena.units = (end - start) >> UNIT_SHIFT;
  arena.free_units = arena.units;
  arena.first_piece = start >> GYRE__SEGMENT_SHIFT;
  arena.pieces = ((end - 1) >> GYRE__SEGMENT_SHIFT) - arena.first_piece + 1;
  arena.used = (uint64_t *)(void *)arena.base;
  size_t map_bytes = (arena.units / WORD_BITS + 1) * sizeof *arena.used;
  memset(arena.used, 0, map_bytes);
  units_mark(0, units_for(map_bytes), true);
  gyre__memory_metadata(units_for(map_bytes) << UNIT_SHIFT);
  gyre__source = (struct gyre__source){
      .map = source_map, .unmap = source_unmap, .bound = arena.units << UNIT_SHIFT};
  gyre__arena_on = true;
  for (size_t piece = 0; piece < arena.pieces; piece++) {
    uintptr_t address = (arena.first_piece + piece) << GYRE__SEGMENT_SHIFT;
    arena.segments[piece] =
        gyre__segment_make_arena((char *)address, piece_pages(piece)); /* NOLINT */
    if (arena.segments[piece] == NULL) return false;
  }
  return true;
}

void gyre__arena_end(void) {
  for (size_t piece = 0; piece < arena.pieces; piece++)
    if (arena.segments[piece] != NULL) gyre__segment_unpublish(arena.segments[piece]);
  gyre__note_given_back(arena.base, arena.units << UNIT_SHIFT);
  memset(arena.segments, 0, sizeof arena.segments);
  arena.base = NULL;
  arena.used = NULL;
  arena.units = arena.pieces = arena.free_units = 0;
  gyre__arena_on = false;
  gyre__source = (struct gyre__source){0};
}

void gyre__arena_check(void) {
  if (!gyre__arena_on) return;
  gyre__lock_take(&arena.lock);
  size_t free_units = 0;
  for (size_t i = 0; i < arena.units; i++)
    free_units += !unit_is_used(i);
  GYRE_REQUIRE(free_units == arena.free_units,
               "corrupted: %zu units of the arena are free, not %zu", free_units, arena.free_units);
  gyre__lock_give(&arena.lock);
}

/* ---- fork ---- */

void gyre__arena_fork_prepare(void) { gyre__lock_take(&arena.lock); }
void gyre__arena_fork_parent(void) { gyre__lock_give(&arena.lock); }
void gyre__arena_fork_child(void) { gyre__lock_reset(&arena.lock); }
