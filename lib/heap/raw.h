/* SPDX-License-Identifier: MIT */
/* The fast paths of the raw functions: the thread's own heap, a block, and to free one, its page. */
#ifndef GYRE_LIB_HEAP_RAW_H
#define GYRE_LIB_HEAP_RAW_H

#include "lib/heap/heap.h"
#include "lib/heap/hook.h"

/* The heap of a thread's handle; that of the stand-in with id 0 is empty and owns nothing. */
GYRE_INLINE struct gyre__heap *gyre__raw_heap(gyre_thread *self) {
  return (struct gyre__heap *)(void *)self;
}

/* The slow halves, with arguments where a caller has them already. They ask the program's allocator, if it has
 * set one. */

/* Attaches the thread if need be. `pc`: where the program called us. */
void *gyre__raw_malloc_slow(size_t size, struct gyre__heap *heap, const void *pc);
/* What is not the thread's own, or not in a small page; NULL. */
void gyre__raw_free_slow(void *block, struct gyre__segment *segment, struct gyre__heap *heap);

/* The same without a look at the program's allocator. */
void gyre__raw_free_found(void *block, struct gyre__segment *segment, struct gyre__heap *heap);

/* The functions of gyre/heap.h without a look at the program's allocator; NULL with errno ENOMEM or EINVAL.
 * Alignments are powers of two. */
void *gyre__raw_malloc_base(size_t size, struct gyre__heap *heap, const void *pc);
void *gyre__raw_calloc_base(struct gyre__heap *heap, size_t count, size_t size, const void *pc);
void *gyre__raw_realloc_base(struct gyre__heap *heap, void *block, size_t size, const void *pc);
void *gyre__raw_aligned_base(struct gyre__heap *heap, size_t alignment, size_t size,
                             const void *pc);
void gyre__raw_free_base(void *block, struct gyre__heap *heap);
size_t gyre__raw_usable_base(const void *block);

/* What stands for all of this in builds that look at every block (watch.c). */
void *gyre__watched_malloc(size_t size, struct gyre__heap *heap, const void *pc);
void gyre__watched_free(void *block, struct gyre__heap *heap);

/* In functions that jump to the next one where that is optimized. */
#define GYRE__KEEP_WATCHED_FRAME()                                                                 \
  do {                                                                                             \
    if (GYRE__WATCHED) GYRE__KEEP_FRAME();                                                         \
  } while (0)

/* Where the program called the public function that this is, or is inlined into. */
#if GYRE__WATCHED
/* Not optimized: the public function does not jump to its slow half, but calls it. */
#define GYRE__CALLER                                                                               \
  __extension__({                                                                                  \
    GYRE__KEEP_FRAME();                                                                            \
    __builtin_return_address(0);                                                                   \
  })
#else
#define GYRE__CALLER __builtin_return_address(0)
#endif

/* A block of a size up to GYRE__CLASS_TABLE_MAX if the pool has one ready; NULL otherwise. */
GYRE_INLINE void *gyre__raw_malloc_ready(struct gyre__heap *heap, size_t size) {
  size_t at = heap->thread.base.gyre__pool_at[(size + 15) >> 4];
  void **ready = &((gyre__pool *)(void *)((char *)heap + at))->gyre__ready;
  return GYRE_LIKELY(*ready != NULL) ? gyre__heap_take(ready, GYRE__RAW) : NULL;
}

/* The same as gyre__raw_malloc_slow() for who jumps to it: the caller's address is where it finds its own, so
 * that the short way need not know it, which would cost it a stack frame. */
void *gyre__raw_malloc_jump(size_t size, struct gyre__heap *heap);

/* A block of at least `size` bytes; NULL with errno ENOMEM. For the last step of public functions. */
GYRE_INLINE void *gyre__raw_malloc(struct gyre__heap *heap, size_t size) {
  if (GYRE__WATCHED) return gyre__raw_malloc_slow(size, heap, GYRE__CALLER);
  if (GYRE_UNLIKELY(size > GYRE__CLASS_TABLE_MAX) || GYRE_FAULT_IS_ARMED())
    return gyre__raw_malloc_jump(size, heap);
  void *block = gyre__raw_malloc_ready(heap, size);
  return GYRE_LIKELY(block != NULL) ? block : gyre__raw_malloc_jump(size, heap);
}

/* Gives back a block of one of the heap's own small pages that nobody else is to hear of; false if it is none. */
GYRE_INLINE bool gyre__raw_free_own(struct gyre__heap *heap, struct gyre__segment *segment,
                                    void *block) {
  if (GYRE_UNLIKELY(segment == NULL) || GYRE_UNLIKELY(segment->small_owner != heap)) return false;
  size_t offset = (uintptr_t)block & (GYRE__SEGMENT_SIZE - 1);
  struct gyre__page *page = &segment->pages[offset >> GYRE__SMALL_PAGE_SHIFT];
  gyre__heap_free_local(heap, page, block, GYRE__RAW);
  return true;
}

/* A thread that is not attached frees like a stranger: its heap owns no segment. */
GYRE_INLINE void gyre__raw_free(struct gyre__heap *heap, void *block) {
  if (GYRE__WATCHED) {
    gyre__raw_free_slow(block, NULL, heap);
    return;
  }
  struct gyre__segment *segment = gyre__segment_of(block);
  if (!gyre__raw_free_own(heap, segment, block)) gyre__raw_free_slow(block, segment, heap);
}

#endif
