/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "lib/heap/page.h"

/* No ready list is longer: the blocks of one page, and some strays. */
#define READY_MOST 8192u

/* Blocks by kind and class, for gyre_heap_list_classes(). */
struct classes {
  struct {
    uint64_t pages, used;
  } of[GYRE__KINDS][GYRE__SIZE_CLASSES];
};

/* Takes off what the pools have ready: those blocks are counted as used. `classes` may be NULL. */
static void ready_figures(struct gyre__heap *heap, struct gyre_heap_stats *sum,
                          struct classes *classes) {
  for (unsigned kind = 0; kind < GYRE__KINDS; kind++)
    for (unsigned size_class = 0; size_class < GYRE__SIZE_CLASSES; size_class++) {
      unsigned count = 0;
      for (void *block =
               *gyre__pool_next(heap, gyre__heap_pool(heap, (enum gyre__kind)kind, size_class));
           block != NULL; block = gyre__link_get(block, (enum gyre__kind)kind)) {
        if (++count > READY_MOST) gyre__heap_corrupted(block);
        const struct gyre__page *page = gyre__page_of(block);
        sum->live_blocks--;
        sum->live_bytes -= page->block_size;
        if (classes != NULL) classes->of[page->kind][page->size_class].used--;
      }
    }
}

/* Takes off what is in quarantine: those blocks are counted as used. */
static void quarantine_figures(const struct gyre__heap *heap, struct gyre_heap_stats *sum) {
#ifdef GYRE_DEBUG
  /* relaxed: statistics. */
  sum->live_blocks -= gyre__load_relaxed(&heap->quarantine.blocks);
  sum->live_bytes -= gyre__load_relaxed(&heap->quarantine.bytes);
#else
  (void)heap, (void)sum;
#endif
}

/* What a heap knows of itself; exact if it is ours or can be taken for a moment. `self` is NULL without memory to
 * attach: then none is. */
static void heap_figures(struct gyre__heap *heap, struct gyre__heap *self,
                         struct gyre_heap_stats *sum, struct classes *classes) {
  /* relaxed: statistics, all of them. */
  size_t span_bytes = gyre__load_relaxed(&heap->span_bytes);
  sum->large_bytes += span_bytes;
  sum->live_bytes += span_bytes;
  sum->live_blocks += gyre__load_relaxed(&heap->span_blocks);
  sum->cached_bytes += gyre__load_relaxed(&heap->span_dirty_bytes);
  quarantine_figures(heap, sum);
  if (gyre__load_relaxed(&heap->mapped_bytes) == 0) return;
  bool taken = self != NULL && heap != self && gyre__thread_try_take(&heap->thread);
  if (taken || heap == self) {
    ready_figures(heap, sum, classes);
    struct gyre__page *page = NULL;
    while (gyre__arena_on && (page = gyre__arena_next_page(heap, page)) != NULL)
      gyre__page_account(heap, page);
    for (struct gyre__segment *segment = heap->segments; segment != NULL; segment = segment->next)
      for (uint32_t i = 0; i < segment->page_count; i++)
        gyre__page_account(heap, &segment->pages[i]);
  }
  /* relaxed: as above. */
  sum->cached_bytes += gyre__load_relaxed(&heap->cached_bytes);
  sum->live_blocks += gyre__load_relaxed(&heap->live_blocks);
  sum->live_bytes += gyre__load_relaxed(&heap->live_bytes);
  if (taken) gyre__thread_give_back(&heap->thread);
}

/* Of figures that are not from one moment the part may seem larger than the whole. */
static size_t without(size_t whole, size_t part) { return whole > part ? whole - part : 0; }

/* Sums over all slots, and says how many there are. */
static uint32_t all_figures(struct gyre_heap_stats *sum, struct classes *classes) {
  struct gyre__caller caller = gyre__thread_run_as_guest();
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= count; id++)
    heap_figures((struct gyre__heap *)gyre__thread_slot(id), (struct gyre__heap *)caller.self, sum,
                 classes);
  gyre__thread_rest(&caller);
  return count;
}

int gyre_heap_get_stats(struct gyre_heap_stats *out) {
  if (out == NULL || out->size == 0) return -EINVAL;
  struct gyre_heap_stats sum = {.size = out->size};
  /* relaxed: statistics. */
  sum.large_bytes = gyre__load_relaxed(&gyre__memory.large_bytes);
  sum.live_blocks = gyre__load_relaxed(&gyre__memory.large_blocks);
  sum.live_bytes = sum.large_bytes;
  uint32_t count = all_figures(&sum, NULL);
  /* relaxed: statistics. */
  sum.cached_bytes += gyre__load_relaxed(&gyre__memory.reserve_bytes);
  sum.mapped_bytes = gyre__load_relaxed(&gyre__memory.mapped_bytes);
  sum.committed_bytes = gyre__load_relaxed(&gyre__memory.committed_bytes);
  sum.purged_bytes = gyre__load_relaxed(&gyre__memory.purged_bytes);
  sum.peak_bytes = gyre__load_relaxed(&gyre__memory.peak_bytes);
  sum.active_bytes = without(sum.committed_bytes, sum.cached_bytes);
  sum.retained_bytes = without(sum.mapped_bytes, sum.committed_bytes);
  /* relaxed: statistics. */
  sum.metadata_bytes =
      gyre__load_relaxed(&gyre__memory.metadata_bytes) + (size_t)count * GYRE__SLOT_BYTES;
  sum.resident_bytes = sum.committed_bytes + sum.metadata_bytes;
  /* A running thread's blocks may have been taken off without having been counted. */
  if ((ptrdiff_t)sum.live_blocks < 0) sum.live_blocks = 0;
  if ((ptrdiff_t)sum.live_bytes < 0) sum.live_bytes = 0;
  memcpy(out, &sum, out->size < sizeof sum ? out->size : sizeof sum);
  return 0;
}

/* ---- by class ---- */

static void page_figures(struct gyre__page *page, void *arg) {
  struct classes *classes = (struct classes *)arg;
  /* relaxed: a figure; pairs with page_show() in page.c. */
  uint64_t known = gyre__load_relaxed(&page->known);
  if (known == 0) return;
  unsigned kind = (unsigned)(known >> GYRE__KNOWN_KIND) - 1;
  unsigned size_class = (uint8_t)(known >> GYRE__KNOWN_CLASS);
  classes->of[kind][size_class].pages++;
  classes->of[kind][size_class].used += (uint32_t)known;
}

int gyre_heap_list_classes(gyre_heap_class_visitor *visitor, void *arg) {
  if (visitor == NULL) return -EINVAL;
  struct classes classes = {0};
  struct gyre_heap_stats sum = {0};
  /* Brings what can be brought up to date first; what is ready is taken off what the pages say then. */
  (void)all_figures(&sum, &classes);
  gyre__segment_visit_pages(page_figures, &classes);
  for (unsigned kind = 0; kind < GYRE__KINDS; kind++)
    for (unsigned c = 0; c < GYRE__SIZE_CLASSES; c++) {
      uint64_t pages = classes.of[kind][c].pages, used = classes.of[kind][c].used;
      if (pages == 0) continue;
      size_t block = gyre__class_size(c);
      size_t page_bytes = (size_t)1 << (block <= GYRE__SMALL_MAX ? GYRE__SMALL_PAGE_SHIFT
                                                                 : GYRE__MEDIUM_PAGE_SHIFT);
      struct gyre_heap_class figures = {
          .size = sizeof figures,
          .kind = (enum gyre_heap_kind)kind,
          .block_bytes = block,
          .pages = pages,
          .page_bytes = page_bytes,
          .blocks = pages * (page_bytes / block),
      };
      /* A running thread's blocks may have been taken off without having been counted. */
      figures.used_blocks = used > figures.blocks ? 0 : used;
      int stop = visitor(&figures, arg);
      if (stop != 0) return stop;
    }
  return 0;
}
