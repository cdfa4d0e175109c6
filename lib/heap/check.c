/* SPDX-License-Identifier: MIT */
/* gyre__heap_check_slot(): verifies the invariants of one heap, by the names that page.c and
 * segment.c give them. */
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
    /* relaxed: constant. */
    HELD(gyre__load_relaxed(&page->owner) == heap->thread.base.id, page);
    check_page_in_use(heap, page);
  }
  return page->state != GYRE__PAGE_FREE || dirty ? (size_t)1 << segment->page_shift : 0;
}

/* What is ready counts as used. */
static void check_ready(struct gyre__heap *heap) {
  for (unsigned kind = 0; kind < GYRE__KINDS; kind++)
    for (unsigned size_class = 0; size_class < GYRE__SIZE_CLASSES; size_class++)
      for (void *block = heap->thread.base.gyre__pools[kind][size_class].gyre__ready; block != NULL;
           block = gyre__link_get(block, (enum gyre__kind)kind)) {
        struct gyre__page *page = gyre__page_of(block);
        HELD(page->segment->owner == heap && page->state == GYRE__PAGE_USED, page);
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

static void check_large(struct gyre__heap *heap) {
  struct gyre__page *prev = NULL;
  for (struct gyre__page *page = heap->large; page != NULL; page = page->large_next) {
    HELD(page->is_large && page->kind == GYRE__TRACKED && page->large_prev == prev, page);
    HELD(gyre__page_of(page->start) == page, page);
    prev = page;
  }
}

void gyre__heap_check_slot(struct gyre__heap *heap) {
  size_t committed = check_segments(heap);
  /* relaxed: nobody else changes it now. */
  HELD(committed == gyre__load_relaxed(&heap->committed_bytes), NULL);
  HELD(gyre__load_relaxed(&heap->cached_bytes) <= committed, NULL);
  check_ready(heap);
  check_large(heap);
}
