/* SPDX-License-Identifier: MIT */
/* Debug builds: freed raw blocks wait, in the heap of the thread that freed them, until others have come
 * that take as many bytes as option "quarantine" allows. Then the oldest is looked at and goes home, to
 * its page or to that of another thread's heap.
 *
 * A block that waits is filled with 0xDD, but for the mark of a free block (debug.c), so that a second
 * free is seen at once; whoever writes to it is found out when it leaves: the message names the block, its
 * size, and where the first changed byte is. A guarded block (guard.c) has no memory meanwhile, and a
 * touch is a fault. Other large blocks do not wait, nor do blocks that are freed by a thread that is not
 * attached.
 *
 * Blocks that wait are in use for their pages, but not in the figures of gyre_heap_get_stats(). A heap's
 * quarantine is emptied when it is purged, which gyre_purge() and running out of memory do, and when its
 * thread detaches.
 */
#ifdef GYRE_DEBUG

#include <string.h>

#include "lib/heap/page.h"
#include "lib/heap/traced.h"

/* Blocks that wait in one heap at most. */
#define RING 4096u

bool gyre__quarantine_wants(struct gyre__heap *heap, size_t size) {
  struct gyre__quarantine *q = &heap->quarantine;
  if (heap->thread.base.id == 0 || size > gyre__option(quarantine)) return false;
  if (q->ring == NULL) q->ring = gyre__os_map_aside(RING * sizeof *q->ring);
  return q->ring != NULL;
}

void gyre__quarantine_fill(void *block, size_t size) {
  gyre__link_word *words = block;
  uint64_t mark = words[1];
  memset(block, GYRE__FREED, size);
  words[1] = mark;
}

/* ---- leaving ---- */

static void changed(const void *block, size_t size, size_t offset) {
  gyre__traced_report(block);
  gyre__die(__FILE__, __LINE__,
            "corrupted: block %p of %zu bytes was written to after it was freed, at byte %zu",
            block, size, offset);
}

static void block_check(const void *block, size_t size) {
  const char *bytes = block;
  uint64_t mark = gyre__debug_mark(block); /* in the second word */
  size_t at = gyre__first_other(bytes, GYRE__FREED, sizeof mark);
  if (at != sizeof mark) changed(block, size, at);
  while (at < 2 * sizeof mark && bytes[at] == ((const char *)&mark)[at - sizeof mark])
    at++;
  if (at != 2 * sizeof mark) changed(block, size, at);
  at += gyre__first_other(bytes + at, GYRE__FREED, size - at);
  if (at != size) changed(block, size, at);
}

static void block_leave(struct gyre__heap *heap, struct gyre__page *page, void *block) {
  struct gyre__quarantine *q = &heap->quarantine;
  q->size -= page->block_size;
  gyre__figure_add(&q->blocks, (size_t)-1);
  gyre__figure_add(&q->bytes, -(size_t)page->block_size);
  gyre__note_open(block, page->block_size);
  block_check(block, page->block_size);
  gyre__note_nobody(block, page->block_size);
  if (page->segment->owner == heap)
    gyre__heap_free_local(heap, page, block, GYRE__RAW);
  else
    gyre__heap_free_slow(heap, page, block);
}

static void oldest_leave(struct gyre__heap *heap) {
  struct gyre__quarantine *q = &heap->quarantine;
  void *block = q->ring[q->first];
  q->first = (q->first + 1) % RING;
  q->count--;
  struct gyre__page *page = gyre__page_of(block);
  if (gyre__page_is_guarded(page)) {
    q->size -= page->large_usable;
    gyre__guard_drop(page);
  } else {
    block_leave(heap, page, block);
  }
}

/* ---- coming ---- */

void gyre__quarantine_put(struct gyre__heap *heap, void *block) {
  struct gyre__quarantine *q = &heap->quarantine;
  struct gyre__page *page = gyre__page_of(block);
  bool is_guarded = gyre__page_is_guarded(page);
  if (q->count == RING) oldest_leave(heap);
  q->ring[(q->first + q->count++) % RING] = block;
  q->size += is_guarded ? page->large_usable : page->block_size;
  if (!is_guarded) {
    gyre__figure_add(&q->blocks, 1);
    gyre__figure_add(&q->bytes, page->block_size);
  }
  while (q->size > gyre__option(quarantine))
    oldest_leave(heap);
}

void gyre__quarantine_empty(struct gyre__heap *heap) {
  while (heap->quarantine.count != 0)
    oldest_leave(heap);
}

#else

typedef int gyre__quarantine_is_off; /* a translation unit may not be empty */

#endif
