/* SPDX-License-Identifier: MIT */
/* The pages that objects are in, and the beginning and the end of a look at them.
 *
 * A look takes the collector's lock, so that no collection is under way, and pins the heap, so that pages
 * keep their kind and their place. Then each block's header can be read, at any time, by anybody; what is
 * in it may change from one moment to the next. */
#include <errno.h>
#include <stdlib.h>

#include "lib/observe/graph.h"

int gyre__look_begin(struct gyre__objects **self, int *cancel) {
  *self = (struct gyre__objects *)gyre__thread_self();
  if (*self == NULL) return -EAGAIN;
  if (gyre__is_collecting(*self)) return -EBUSY;
  GYRE_REQUIRE((*self)->heap.thread.park_depth == 0, "a look at the heap in a parked thread");
  *cancel = gyre__cancel_put_off();
  gyre_safepoint();
  /* What this thread has dropped is gone. */
  gyre__release_all(*self);
  gyre__collector_lock(*self);
  gyre__heap_pin();
  return 0;
}

void gyre__look_end(struct gyre__objects *self, int cancel) {
  gyre__heap_unpin();
  gyre__collector_unlock(self);
  gyre__cancel_restore(cancel);
}

static bool page_add(struct gyre__object_pages *p, struct gyre__page *page) {
  /* acquire: the page's constants and its blocks' headers; pairs with page_extend() in
   * lib/heap/page.c. */
  uint32_t end = gyre__load_acquire(&page->objects_end);
  if (end == 0) return true;
  struct gyre__object_page one = {.page = page, .end = end};
  if (!GYRE__ARRAY_PUSH(&p->pages, one)) return false;
  p->blocks += end;
  return true;
}

static bool add_segments(struct gyre__object_pages *p) {
  GYRE__ARRAY(struct gyre__segment *) list = {0};
  bool done = false;
  size_t count = gyre__segment_list(NULL, 0);
  if (!GYRE__ARRAY_MAKE(&list, count)) goto out;
  size_t now = gyre__segment_list(list.at, count);
  if (now < count) count = now;
  for (size_t i = 0; i < count; i++)
    for (uint32_t k = 0; k < list.at[i]->page_count; k++)
      if (!page_add(p, &list.at[i]->pages[k])) goto out;
  done = true;
out:
  GYRE__ARRAY_DROP(&list);
  return done;
}

/* A slot's large objects; those that come meanwhile are not asked for. */
static bool add_large(struct gyre__object_pages *p, struct gyre__heap *heap) {
  for (;;) {
    size_t count = 0, room = p->pages.room - p->pages.count;
    gyre__lock_take(&heap->large_lock);
    for (struct gyre__page *page = heap->large; page != NULL; page = page->large_next)
      count++;
    bool fits = count <= room;
    if (fits)
      for (struct gyre__page *page = heap->large; page != NULL; page = page->large_next)
        (void)page_add(p, page); /* there is room */
    gyre__lock_give(&heap->large_lock);
    if (fits) return true;
    if (!GYRE__ARRAY_RESERVE(&p->pages, p->pages.count + count)) return false;
  }
}

static int by_address(const void *a, const void *b) {
  const struct gyre__object_page *x = a, *y = b;
  return (x->page->start > y->page->start) - (x->page->start < y->page->start);
}

bool gyre__object_pages_gather(struct gyre__object_pages *p) {
  *p = (struct gyre__object_pages){0};
  if (!add_segments(p)) return false;
  uint32_t slots = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= slots; id++)
    if (!add_large(p, (struct gyre__heap *)gyre__thread_slot(id))) return false;
  if (p->blocks >= GYRE__NO_NODE) {
    errno = EOVERFLOW;
    return false;
  }
  if (p->pages.count > 1) qsort(p->pages.at, p->pages.count, sizeof *p->pages.at, by_address);
  uint32_t first = 0;
  for (size_t i = 0; i < p->pages.count; i++) {
    p->pages.at[i].first = first;
    first += p->pages.at[i].end;
  }
  return true;
}

void gyre__object_pages_drop(struct gyre__object_pages *p) { GYRE__ARRAY_DROP(&p->pages); }
