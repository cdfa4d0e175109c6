/* SPDX-License-Identifier: MIT */
/* Counting what is alive: a look at the header of every block of the object pages, while the program
 * runs.
 *
 * A page keeps its kind and its place while the heap is pinned (lib/heap/heap.h) and everybody knows it,
 * so after a grace period every block in it either has an object or says that it has none, in the header's
 * gc byte. Nothing else of an object is touched but its header, which stays readable when it dies. Inside
 * a collection, in program code that it runs, the heap is pinned already.
 */
#include <gyre/stats.h>

#include <errno.h>

#include "lib/collect/collect.h"

struct count {
  ptrdiff_t objects;
  ptrdiff_t refs;
};

static void header_count(struct count *count, const gyre__header *h) {
  /* acquire: the counts of an object that was just made; pairs with header_publish() in
   * lib/object/object.c. */
  uint32_t gc = gyre__load_acquire(&h->gc);
  if (gc == 0 || gc & GYRE__GC_DEAD) return;
  count->objects++;
  ptrdiff_t refs = gyre_refcount(h + 1);
  if (refs != GYRE_IMMORTAL) count->refs += refs;
}

static void page_count(struct count *count, struct gyre__page *page) {
  /* acquire: the page's constants and its blocks' headers; pairs with page_extend() in
   * lib/heap/page.c. */
  uint32_t end = gyre__load_acquire(&page->objects_end);
  for (uint32_t i = 0; i < end; i++)
    header_count(count, (gyre__header *)gyre__page_block(page, i));
}

static void large_count(struct count *count, struct gyre__heap *heap) {
  gyre__lock_take(&heap->large_lock);
  for (struct gyre__page *page = heap->large; page != NULL; page = page->large_next)
    page_count(count, page);
  gyre__lock_give(&heap->large_lock);
}

/* Pinned, and everybody knows. -ENOMEM, or 0. */
static int heap_count(struct count *count, bool breathe) {
  size_t room = gyre__segment_list(NULL, 0);
  size_t bytes = (room + 1) * sizeof(struct gyre__segment *);
  struct gyre__segment **list = gyre__os_map(bytes, gyre__os_page_size());
  if (list == NULL) return -ENOMEM;
  size_t segments = gyre__segment_list(list, room);
  if (segments > room) segments = room; /* what is newer than the question */
  for (size_t i = 0; i < segments; i++)
    for (uint32_t p = 0; p < list[i]->page_count; p++) {
      page_count(count, &list[i]->pages[p]);
      if (breathe) gyre_safepoint();
    }
  gyre__os_unmap(list, bytes);
  uint32_t slots = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= slots; id++)
    large_count(count, (struct gyre__heap *)gyre__thread_slot(id));
  return 0;
}

static int count_alive(struct count *count) {
  struct gyre__objects *self = (struct gyre__objects *)gyre__thread_self();
  if (self == NULL) return -EAGAIN;
  if (gyre__is_collecting(self)) return heap_count(count, false);
  GYRE_REQUIRE(self->heap.thread.park_depth == 0, "a count of objects in a parked thread");
  gyre_safepoint();
  gyre__collector_lock(self);
  gyre__heap_pin();
  gyre__grace_wait(gyre__grace_ticket(), UINT64_MAX);
  int result = heap_count(count, true);
  gyre__heap_unpin();
  gyre__collector_unlock(self);
  return result;
}

ptrdiff_t gyre_live_objects(void) {
  struct count count = {0};
  int result = count_alive(&count);
  return result != 0 ? result : count.objects;
}

ptrdiff_t gyre_total_refs(void) {
  struct count count = {0};
  int result = count_alive(&count);
  return result != 0 ? result : count.refs;
}
