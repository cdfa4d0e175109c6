/* SPDX-License-Identifier: MIT */
/* gyre__heap_check_slot(): verifies the invariants of one heap, by the names that page.c, segment.c and
 * span.c give them. gyre__heap_check_totals(): the figures of all heaps together. */
#include "lib/heap/page.h"

#define HELD(cond, page)                                                                           \
  GYRE_REQUIRE(cond, "corrupted: heap %u, page %p: %s", heap->thread.base.id, (void *)(page), #cond)

/* ---- blocks ---- */

/* Counts a list of free blocks, each of which must be a block of the page; a list that bites its
 * tail or holds a block twice is longer than the page has blocks. */
static uint32_t check_list(struct gyre__heap *heap, struct gyre__page *page, void *block) {
  uint32_t count = 0;
  for (; block != NULL; block = gyre__link_get(block, (enum gyre__kind)page->kind)) {
    HELD((char *)block >= page->start, page);
    uint32_t index = gyre__page_index(page, block);
    HELD(index < page->capacity && gyre__page_block(page, index) == block, page);
    HELD(count < page->capacity, page);
    count++;
  }
  return count;
}

static void check_blocks(struct gyre__heap *heap, struct gyre__page *page) {
  uint32_t given_back = check_list(heap, page, gyre__page_remote(page));
  HELD(page->capacity <= page->reserved, page);
  /* relaxed: nobody else changes it now. */
  HELD(gyre__load_relaxed(&page->objects_end) == (page->kind != GYRE__RAW ? page->capacity : 0),
       page);
  HELD(given_back <= gyre__page_used(page), page);
  HELD(check_list(heap, page, page->free) + gyre__page_used(page) == page->capacity, page);
  HELD(!page->full || page->used == 1, page);
  uint64_t sum = 0;
  for (void *block = page->free; block != NULL;
       block = gyre__link_get(block, (enum gyre__kind)page->kind))
    sum += (uintptr_t)block;
  HELD(page->sum_is_off || page->sum == sum, page);
}

/* ---- pages ---- */

static bool pool_has(struct gyre__heap *heap, struct gyre__page *page) {
  for (struct gyre__page *p =
           gyre__heap_pool(heap, (enum gyre__kind)page->kind, page->size_class)->gyre__first;
       p != NULL; p = p->next)
    if (p == page) return true;
  return false;
}

static bool empty_has(struct gyre__heap *heap, struct gyre__page *page) {
  for (struct gyre__page *p = heap->empty[page->kind - 1][page->size_class]; p != NULL; p = p->next)
    if (p == page) return true;
  return false;
}

static void check_page_in_use(struct gyre__heap *heap, struct gyre__page *page) {
  HELD(page->kind < GYRE__KINDS && page->size_class < GYRE__SIZE_CLASSES, page);
  HELD(page->block_size == gyre__class_size(page->size_class), page);
  HELD(page->side == NULL || gyre__heap_is_pinned(), page);
  check_blocks(heap, page);
  if (page->state == GYRE__PAGE_EMPTY) {
    HELD(page->kind != GYRE__RAW && page->used == 0 && !page->full && !page->in_pool, page);
    HELD(empty_has(heap, page), page);
    return;
  }
  HELD(page->in_pool == !page->full, page);
  HELD(page->in_pool == pool_has(heap, page), page);
  HELD(page->in_pool || (page->free == NULL && page->capacity == page->reserved), page);
  /* "One push": a full page hears of the next block that others free. */
  HELD(page->in_pool || page->awaits_news, page);
}

static size_t check_page(struct gyre__heap *heap, struct gyre__segment *segment,
                         struct gyre__page *page) {
  uint64_t bit = UINT64_C(1) << (page - segment->pages);
  bool dirty = (segment->dirty_pages & bit) != 0;
  HELD((page->state == GYRE__PAGE_FREE) == ((segment->free_pages & bit) != 0), page);
  HELD(page->state == GYRE__PAGE_FREE || !dirty, page);
  if (page->state == GYRE__PAGE_FREE) {
    HELD(page->used == 0 && !page->in_pool, page);
  } else {
    HELD(page->segment == segment, page);
    /* relaxed: nobody else changes it now. */
    uint32_t owner = gyre__load_relaxed(&page->marks) == NULL ? heap->thread.base.id : 0;
    /* relaxed: as above. */
    HELD(gyre__load_relaxed(&page->owner) == owner, page);
    check_page_in_use(heap, page);
  }
  return page->state != GYRE__PAGE_FREE || dirty ? (size_t)1 << segment->page_shift : 0;
}

/* What is ready counts as used. */
static void check_ready(struct gyre__heap *heap) {
  for (unsigned kind = 0; kind < GYRE__KINDS; kind++)
    for (unsigned size_class = 0; size_class < GYRE__SIZE_CLASSES; size_class++)
      for (void *block =
               *gyre__pool_next(heap, gyre__heap_pool(heap, (enum gyre__kind)kind, size_class));
           block != NULL; block = gyre__link_get(block, (enum gyre__kind)kind)) {
        struct gyre__page *page = gyre__page_of(block);
        HELD(gyre__page_heap(page) == heap && page->state == GYRE__PAGE_USED, page);
        HELD(page->kind == kind && page->size_class >= size_class, page);
      }
}

/* ---- the heap ---- */

/* "Free first", the table, and the list's links. Returns the bytes in pages. */
static size_t check_segments(struct gyre__heap *heap) {
  size_t committed = 0;
  struct gyre__segment *prev = NULL;
  for (struct gyre__segment *segment = heap->segments; segment != NULL; segment = segment->next) {
    HELD(segment->owner == heap, segment);
    HELD(segment->prev == prev, segment);
    HELD(gyre__segment_of(segment->base) == segment, segment);
    HELD(prev == NULL || prev->free_pages != 0 || segment->free_pages == 0, segment);
    HELD((segment->dirty_pages & ~segment->free_pages) == 0, segment);
    for (uint32_t i = 0; i < segment->page_count; i++)
      committed += check_page(heap, segment, &segment->pages[i]);
    prev = segment;
  }
  HELD(heap->segments_last == prev, prev);
  return committed;
}

/* Pages of an arena, whose segments are nobody's. */
static size_t check_arena(struct gyre__heap *heap) {
  size_t committed = 0;
  struct gyre__page *page = NULL;
  while (gyre__arena_on && (page = gyre__arena_next_page(heap, page)) != NULL) {
    HELD(!page->is_large && gyre__page_of(page->start) == page, page);
    if (page->state == GYRE__PAGE_FREE)
      HELD(page->used == 0 && !page->in_pool && page->awaits_news, page);
    else
      check_page_in_use(heap, page);
    committed += gyre__page_bytes(page);
  }
  return committed;
}

static void check_large(struct gyre__heap *heap) {
  struct gyre__page *prev = NULL;
  for (struct gyre__page *page = heap->large; page != NULL; page = page->large_next) {
    HELD(page->is_large && page->kind != GYRE__RAW && page->large_prev == prev, page);
    HELD(gyre__page_of(page->start) == page, page);
    prev = page;
  }
}

/* ---- spans ---- */

struct spans {
  size_t segments, blocks, bytes, dirty_bytes;
  uint32_t growing, empty;
};

/* A span's page says how long it is, and that is what its block needs. */
static uint32_t check_span(struct gyre__heap *heap, struct gyre__segment *segment, uint32_t index) {
  struct gyre__page *page = &segment->pages[index];
  size_t bytes = (size_t)page->span << GYRE__SLICE_SHIFT;
  HELD(page->is_large == GYRE__LARGE_LIVE && page->segment == segment, page);
  HELD(page->start == segment->base + ((size_t)index << GYRE__SLICE_SHIFT), page);
  HELD(page->span != 0 && page->span <= segment->page_count - index, page);
  HELD(page->large_usable <= bytes && page->large_usable + (1u << GYRE__SLICE_SHIFT) > bytes, page);
  HELD(!page->grows || page->span == 1, page);
  return page->span;
}

/* Every slice is free, or of one span. */
static void check_slices(struct gyre__heap *heap, struct gyre__segment *segment,
                         struct spans *sum) {
  for (uint32_t i = 0; i < segment->page_count;) {
    if (segment->free_pages >> i & 1) {
      i++;
      continue;
    }
    uint32_t end = i + check_span(heap, segment, i);
    sum->blocks++;
    sum->growing += segment->pages[i].grows;
    for (; i < end; i++) {
      HELD(!(segment->free_pages >> i & 1), segment);
      sum->bytes += (size_t)1 << GYRE__SLICE_SHIFT;
    }
  }
}

/* "No run is overlooked". Counts bit by bit, so as not to ask span.c. */
static bool bin_is_right(const struct gyre__segment *segment, uint32_t bin) {
  uint32_t longest = 0;
  for (uint32_t i = 0, length = 0; i < segment->page_count; i++) {
    length = segment->free_pages >> i & 1 ? length + 1 : 0;
    if (length > longest) longest = length;
  }
  if (longest == 0 || bin == 0) return longest == bin;
  return bin == GYRE__SPAN_BIN_LONG || bin >= longest;
}

static void check_bin(struct gyre__heap *heap, uint32_t bin, struct spans *sum) {
  struct gyre__segment *prev = NULL;
  for (struct gyre__segment *segment = heap->spans[bin]; segment != NULL; segment = segment->next) {
    HELD(segment->owner == heap && segment->shape == GYRE__SHAPE_SPANS, segment);
    HELD(segment->prev == prev, segment);
    HELD(gyre__segment_of(segment->base) == segment, segment);
    HELD(segment->bin == bin && bin_is_right(segment, bin), segment);
    HELD((segment->dirty_pages & ~segment->free_pages) == 0, segment);
    HELD((segment->dirty_pages & ~segment->junk_pages) == 0, segment);
    HELD((segment->old_pages & ~segment->dirty_pages) == 0, segment);
    check_slices(heap, segment, sum);
    sum->segments++;
    sum->empty += segment->free_pages == UINT64_MAX;
    sum->dirty_bytes += (size_t)__builtin_popcountll(segment->dirty_pages) << GYRE__SLICE_SHIFT;
    prev = segment;
  }
  bool is_known = (heap->span_bins >> bin & 1) != 0;
  HELD(is_known == (bin != 0 && prev != NULL), prev);
}

/* Under the lock: a thread that is not attached may be freeing a large block. */
static void check_spans(struct gyre__heap *heap) {
  struct spans sum = {0};
  gyre__lock_take(&heap->large_lock);
  for (uint32_t bin = 0; bin < GYRE__SPAN_BINS; bin++)
    check_bin(heap, bin, &sum);
  /* relaxed: written under the lock, all of them. */
  HELD(sum.segments == gyre__load_relaxed(&heap->span_segments), NULL);
  HELD(sum.blocks == gyre__load_relaxed(&heap->span_blocks), NULL);
  HELD(sum.bytes == gyre__load_relaxed(&heap->span_bytes), NULL);
  HELD(sum.dirty_bytes == gyre__load_relaxed(&heap->span_dirty_bytes), NULL);
  HELD(sum.growing == heap->growing && sum.empty == heap->spans_empty, NULL);
  gyre__lock_give(&heap->large_lock);
}

/* ---- one slot ---- */

void gyre__heap_check_slot(struct gyre__heap *heap) {
  size_t committed = check_segments(heap) + check_arena(heap);
  /* relaxed: nobody else changes it now. */
  HELD(committed == gyre__load_relaxed(&heap->committed_bytes), NULL);
  HELD(gyre__load_relaxed(&heap->cached_bytes) <= committed, NULL);
  check_ready(heap);
  check_large(heap);
  check_spans(heap);
}

/* ---- all slots ---- */

void gyre__heap_check_totals(void) {
  /* relaxed: nobody else changes them now, all of them. */
  size_t mapped = gyre__reserve_check(), committed = gyre__load_relaxed(&gyre__memory.large_bytes);
  mapped += committed;
  committed += gyre__load_relaxed(&gyre__memory.reserve_bytes);
  for (uint32_t id = 1; id <= gyre__thread_slot_count(); id++) {
    struct gyre__heap *heap = (struct gyre__heap *)gyre__thread_slot(id);
    /* relaxed: as above. */
    committed += gyre__load_relaxed(&heap->committed_bytes);
    committed += gyre__load_relaxed(&heap->span_bytes);
    committed += gyre__load_relaxed(&heap->span_dirty_bytes);
    /* relaxed: as above. */
    mapped += gyre__load_relaxed(&heap->mapped_bytes);
    mapped += gyre__load_relaxed(&heap->span_segments) * GYRE__SEGMENT_SIZE;
  }
  /* relaxed: as above. */
  size_t has_committed = gyre__load_relaxed(&gyre__memory.committed_bytes);
  size_t has_mapped = gyre__load_relaxed(&gyre__memory.mapped_bytes);
  GYRE_REQUIRE(committed == has_committed, "corrupted: %zu bytes committed, %zu in heaps",
               has_committed, committed);
  gyre__arena_check();
  /* Huge blocks have more address space than memory. */
  GYRE_REQUIRE(mapped <= has_mapped, "corrupted: %zu bytes mapped, %zu in heaps", has_mapped,
               mapped);
}
