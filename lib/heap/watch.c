/* SPDX-License-Identifier: MIT */
/* Builds that look at every block: debug builds, and those for AddressSanitizer and Valgrind. The fast
 * paths of raw.h and of the public headers are off there, and all raw blocks come and go through here:
 *
 *     gyre_malloc   guarded?  guard.c                     gyre_free    guarded: guard_close
 *                   else a block of a pool or a large one              checks  (debug.c)
 *                   note_out (annotate.h)                              note_in (annotate.h)
 *                                                                      quarantine.c, or free at once
 *
 * Blocks of object kinds do not come here, but through gyre__watch_block_out() and _in(), as all blocks
 * of pools do.
 */
#include "lib/heap/annotate.h"

#if GYRE__WATCHED

#include <errno.h>
#include <string.h>

#include "lib/heap/page.h"
#include "lib/heap/raw.h"
#include "lib/heap/traced.h"

/* ---- blocks of all kinds ---- */

void gyre__watch_block_out(void *block) {
  const struct gyre__page *page = gyre__page_of(block);
  if (page->kind == GYRE__RAW)
    gyre__note_open(block, gyre__page_usable(page));
  else
    gyre__note_object_out(block, gyre__page_usable(page));
  gyre__debug_block_out(page, block);
}

void gyre__watch_block_in(const struct gyre__page *page, void *block, enum gyre__kind kind) {
  if (page->is_large) return; /* gyre__large_free() looks */
  gyre__debug_block_check(page, block, kind);
  if (kind == GYRE__RAW) gyre__note_open(block, page->block_size);
  gyre__debug_block_in(page, block, kind);
  if (kind == GYRE__RAW)
    gyre__note_nobody(block, page->block_size);
  else
    gyre__note_object_in(block, page->block_size);
}

/* ---- raw blocks ---- */

size_t gyre__watched_usable(const void *block) {
  const struct gyre__page *page = gyre__page_of(block);
  if (gyre__page_is_guarded(page)) return page->large_usable;
  return gyre__note_size(block, gyre__page_usable(page));
}

/* What to ask the heap for. The redzone's last word does not lie where a free block has link and mark. */
static size_t with_redzone(size_t size) { return size + (size == 0) + GYRE__REDZONE; }

static void *block_new(struct gyre__heap *heap, size_t size, size_t alignment, bool zero) {
  if (size > GYRE__CLASS_MAX || alignment > GYRE__CLASS_MAX)
    return gyre__large_alloc(heap, GYRE__RAW, size, alignment, zero);
  void *block = gyre__heap_alloc(heap, GYRE__RAW, gyre__aligned_class(size, alignment));
#ifdef GYRE_VALGRIND
  /* Not a page's first one: see annotate.c. */
  if (block != NULL && gyre__page_of(block)->start == block) {
    void *first = block;
    block = gyre__heap_alloc(heap, GYRE__RAW, gyre__aligned_class(size, alignment));
    struct gyre__page *page = gyre__page_of(first);
    gyre__watch_block_in(page, first, GYRE__RAW);
    gyre__heap_free_local(heap, page, first, GYRE__RAW);
  }
#endif
  if (block != NULL && zero) memset(block, 0, size);
  return block;
}

static void *raw_new(struct gyre__heap *heap, size_t size, size_t alignment, bool zero,
                     const void *pc) {
  GYRE__KEEP_FRAME();
  heap = gyre__heap_attached(heap);
  if (heap == NULL) return NULL;
  if (gyre__guard_wants(heap, size, alignment)) {
    void *guarded = gyre__large_alloc_guarded(heap, size, alignment);
    if (guarded != NULL && zero) memset(guarded, 0, size);
    if (guarded != NULL) {
      if (gyre__trace_is_wanted(heap)) gyre__traced_note(heap, guarded, size, pc);
      return guarded;
    }
  }
  if (size > PTRDIFF_MAX - with_redzone(0)) return gyre__heap_alloc_fault();
  void *block =
      gyre__trace_is_wanted(heap)
          ? gyre__traced_alloc(heap, GYRE__RAW, with_redzone(size), alignment, zero, size, 0, pc)
          : block_new(heap, with_redzone(size), alignment, zero);
  if (block != NULL) gyre__note_out(block, gyre__page_usable(gyre__page_of(block)), size, zero);
  return block;
}

void *gyre__watched_malloc(size_t size, struct gyre__heap *heap, const void *pc) {
  GYRE__KEEP_FRAME();
  bool is_first = heap->thread.base.id == 0;
  void *block = raw_new(heap, size, 16, false, pc);
  /* As in malloc.c: nobody else would detach the thread. */
  if (GYRE__IS_MALLOC && is_first && gyre__thread_has_ended()) gyre_thread_detach();
  return block;
}

void *gyre__watched_calloc(struct gyre__heap *heap, size_t size, const void *pc) {
  GYRE__KEEP_FRAME();
  return raw_new(heap, size, 16, true, pc);
}

void *gyre__watched_aligned_alloc(struct gyre__heap *heap, size_t alignment, size_t size,
                                  const void *pc) {
  GYRE__KEEP_FRAME();
  return raw_new(heap, size, alignment, false, pc);
}

static void raw_give(void *block, struct gyre__heap *heap) {
  if (block == NULL) return;
  struct gyre__segment *segment = gyre__segment_of(block);
  if (segment == NULL || segment->shape >= GYRE__SHAPE_SPANS) {
    gyre__raw_free_found(block, segment, heap);
    return;
  }
  struct gyre__page *page = gyre__segment_page(segment, block);
  if (page->is_large) {
    gyre__raw_free_found(block, segment, heap);
    return;
  }
  gyre__debug_block_check(page, block, GYRE__RAW);
  (void)gyre__note_size(block, page->block_size);
  gyre__trace_forget(heap, page, block);
  gyre__note_open(block, page->block_size);
  gyre__debug_block_in(page, block, GYRE__RAW);
  if (gyre__quarantine_wants(heap, page->block_size)) {
    gyre__quarantine_fill(block, page->block_size);
    gyre__note_in(block, page->block_size);
    gyre__quarantine_put(heap, block);
    return;
  }
  gyre__note_in(block, page->block_size);
  if (segment->owner == heap)
    gyre__heap_free_local(heap, page, block, GYRE__RAW);
  else
    gyre__heap_free_slow(heap, page, block);
}

void gyre__watched_free(void *block, struct gyre__heap *heap) {
  int before = errno;
  /* As in malloc.c: who frees now will most likely go on. */
  if (GYRE__IS_MALLOC && heap->thread.base.id == 0 && block != NULL && !gyre__thread_has_ended()) {
    (void)gyre_thread_attach();
    heap = gyre__raw_heap(gyre__self);
  }
  raw_give(block, heap);
  errno = before;
}

/* In place, or at least without a copy; NULL if that cannot be. `size` is what the block has now. */
static void *resize(struct gyre__heap *heap, void *block, size_t size, size_t new_size,
                    const void *pc) {
  GYRE__KEEP_FRAME();
  size_t room = gyre__page_usable(gyre__page_of(block));
  gyre__note_open((char *)block + size, room - size);
  struct gyre__traced_large before;
  bool is_known = gyre__traced_resize_begin(heap, block, &before);
  void *resized = gyre__raw_resize(heap, block, with_redzone(new_size));
  gyre__traced_resize_end(heap, block, resized, new_size, is_known ? &before : NULL, pc);
  if (resized == NULL)
    gyre__note_close(block, room, size);
  else
    gyre__note_resized(block, size, resized, gyre__page_usable(gyre__page_of(resized)), new_size);
  return resized;
}

/* Where to move a block. If some are guarded, this may be one, and it is not to have room behind it. */
static void *new_place(struct gyre__heap *heap, size_t size, size_t new_size, const void *pc) {
  GYRE__KEEP_FRAME();
  void *place = NULL;
  if (gyre__option(guard) == 0)
    place = gyre__raw_malloc_growing(heap, with_redzone(size), with_redzone(new_size));
  if (place == NULL) return raw_new(heap, new_size, 16, false, pc);
  if (gyre__trace_is_wanted(heap)) gyre__traced_note(heap, place, new_size, pc);
  gyre__note_out(place, gyre__page_usable(gyre__page_of(place)), new_size, false);
  return place;
}

void *gyre__watched_realloc(struct gyre__heap *heap, void *block, size_t new_size, const void *pc) {
  GYRE__KEEP_FRAME();
  const struct gyre__page *page = gyre__page_of(block);
  size_t size = gyre__watched_usable(block);
  if (new_size > PTRDIFF_MAX - with_redzone(0)) return gyre__heap_alloc_fault();
  if (!gyre__page_is_guarded(page)) {
    void *resized = resize(heap, block, size, new_size, pc);
    if (resized != NULL) return resized;
  } else if (new_size == size) {
    return block;
  }
  void *moved = new_place(heap, size, new_size, pc);
  /* Shrinking cannot fail: the block as it is will do. */
  if (moved == NULL) return new_size <= size ? block : NULL;
  memcpy(moved, block, size < new_size ? size : new_size);
  gyre__watched_free(block, gyre__raw_heap(gyre__self));
  return moved;
}

#else

typedef int gyre__watch_is_off; /* a translation unit may not be empty */

#endif
