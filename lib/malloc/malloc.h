/* SPDX-License-Identifier: MIT */
/* What the C family (malloc.c) and the operators of C++ (new.c) share: the heap's functions for a thread
 * that may not be attached, and may be about to end.
 *
 * A thread attaches in its first call, whichever that is. As it ends it detaches; what it does after that
 * (the C library gives back a thread's own things very late) must not attach it once more, because nobody
 * would detach it. Then a free goes the way of a stranger's, and a call that allocates detaches the
 * thread again before it returns.
 *
 * free() keeps errno: the heap calls only those functions of the system layer that do, and attaching,
 * which does not, is wrapped (lib/heap/malloc.c).
 */
#ifndef GYRE_LIB_MALLOC_MALLOC_H
#define GYRE_LIB_MALLOC_MALLOC_H

#include <gyre/heap.h>

#include "lib/heap/raw.h"

GYRE_INLINE bool gyre__family_is_attached(void) { return GYRE_LIKELY(gyre__self->id != 0); }

/* The slow halves: the calling thread is not attached. */
void *gyre__family_calloc_first(size_t count, size_t size);
void *gyre__family_realloc_first(void *block, size_t size);
void *gyre__family_aligned_first(size_t alignment, size_t size);

/* As gyre_malloc() and so on. */
GYRE_INLINE void *gyre__family_malloc_block(size_t size) {
  return gyre__raw_malloc(gyre__raw_heap(gyre__self), size);
}
GYRE_INLINE void *gyre__family_calloc_block(size_t count, size_t size) {
  if (!gyre__family_is_attached()) return gyre__family_calloc_first(count, size);
  return gyre_calloc(count, size);
}
GYRE_INLINE void *gyre__family_realloc_block(void *block, size_t size) {
  if (!gyre__family_is_attached()) return gyre__family_realloc_first(block, size);
  return gyre_realloc(block, size);
}
/* The alignment is a power of two. NULL with errno ENOMEM. */
void *gyre__family_aligned_block(size_t alignment, size_t size);
/* errno stays. */
GYRE_INLINE void gyre__family_free_block(void *block) {
  gyre__raw_free(gyre__raw_heap(gyre__self), block);
}

#endif
