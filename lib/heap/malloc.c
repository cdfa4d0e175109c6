/* SPDX-License-Identifier: MIT */
/* The raw functions of gyre/heap.h. The fast paths are in raw.h; everything else is a call. */
#include <errno.h>
#include <string.h>

#include "lib/heap/page.h"
#include "lib/heap/raw.h"

#define ALIGNMENT_MAX ((size_t)1 << 30)

static struct gyre__heap *heap_given(gyre_thread *self) {
  GYRE_ASSERT(self == gyre__self && self->id != 0);
  return gyre__raw_heap(self);
}

/* ---- allocating ---- */

struct gyre__heap *gyre__heap_attached(struct gyre__heap *heap) {
  if (GYRE_LIKELY(heap->thread.base.id != 0)) return heap;
  heap = gyre__heap_self();
  if (heap == NULL) errno = ENOMEM;
  return heap;
}

/* The thread's first call. In libgyre_malloc it may also be one of its last, when it has ended as far as
 * this library knows; then it is detached again, because nobody else would do it. */
static GYRE_NOINLINE void *malloc_first(size_t size) {
  struct gyre__heap *heap = gyre__heap_attached(gyre__raw_heap(gyre__self));
  void *block = heap != NULL ? gyre__raw_malloc_slow(size, heap) : NULL;
  if (GYRE__IS_MALLOC && gyre__thread_has_ended()) gyre_thread_detach();
  return block;
}

void *gyre__raw_malloc_slow(size_t size, struct gyre__heap *heap) {
  if (GYRE_UNLIKELY(heap->thread.base.id == 0)) return malloc_first(size);
  if (size > GYRE__CLASS_MAX) return gyre__large_alloc(heap, GYRE__RAW, size, 16, false);
  return gyre__heap_alloc(heap, GYRE__RAW, gyre__size_class(size));
}

static void *heap_calloc(struct gyre__heap *heap, size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) return gyre__heap_alloc_fault();
  if (GYRE__WATCHED) return gyre__watched_calloc(heap, bytes);
  if (bytes > GYRE__CLASS_MAX) {
    heap = gyre__heap_attached(heap);
    if (heap == NULL) return NULL;
    return gyre__large_alloc(heap, GYRE__RAW, bytes, 16, true);
  }
  void *block = gyre__raw_malloc(heap, bytes);
  if (block != NULL) memset(block, 0, bytes);
  return block;
}

/* Pages lie on multiples of the alignment, so the block size must be one. Ends at a power of two at the
 * latest. */
unsigned gyre__aligned_class(size_t size, size_t alignment) {
  unsigned size_class = gyre__size_class(size > alignment ? size : alignment);
  while (gyre__class_size(size_class) % alignment != 0)
    size_class++;
  return size_class;
}

static void *heap_aligned_alloc(struct gyre__heap *heap, size_t alignment, size_t size) {
  if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > ALIGNMENT_MAX) {
    errno = EINVAL;
    return NULL;
  }
  if (alignment <= 16) return gyre__raw_malloc(heap, size);
  if (GYRE__WATCHED) return gyre__watched_aligned_alloc(heap, alignment, size);
  heap = gyre__heap_attached(heap);
  if (heap == NULL) return NULL;
  if (size > GYRE__CLASS_MAX || alignment > GYRE__CLASS_MAX)
    return gyre__large_alloc(heap, GYRE__RAW, size, alignment, false);
  return gyre__heap_alloc(heap, GYRE__RAW, gyre__aligned_class(size, alignment));
}

/* ---- freeing ---- */

/* A block that is in no segment; a huge one that was freed is in none either. */
static void require_foreign(const void *block) {
  GYRE_REQUIRE(gyre__large_may_be_foreign(block),
               "invalid pointer: %p is not a block of this library, or was freed", block);
}

static void free_slow(void *block, struct gyre__segment *segment, struct gyre__heap *heap) {
  if (segment == NULL) {
    if (block == NULL) return;
    require_foreign(block);
    gyre__large_free(heap, (struct gyre__page *)block - 1, block);
    return;
  }
  if (segment->shape >= GYRE__SHAPE_SPANS) {
    gyre__large_free(heap, gyre__segment_page(segment, block), block);
    return;
  }
  struct gyre__page *page = gyre__segment_page(segment, block);
  if (GYRE_LIKELY(segment->owner == heap))
    gyre__heap_free_local(heap, page, block, GYRE__RAW);
  else
    gyre__heap_free_slow(heap, page, block);
}

/* libgyre_malloc: a thread that frees now will most likely go on, so it attaches. If it cannot, or has
 * ended, it frees all the same. */
static GYRE_NOINLINE void free_first(void *block, struct gyre__segment *segment) {
  int before = errno;
  if (block != NULL && !gyre__thread_has_ended()) (void)gyre_thread_attach();
  free_slow(block, segment, gyre__raw_heap(gyre__self));
  errno = before;
}

void gyre__raw_free_slow(void *block, struct gyre__segment *segment, struct gyre__heap *heap) {
  if (GYRE__IS_MALLOC && GYRE_UNLIKELY(heap->thread.base.id == 0))
    free_first(block, segment);
  else
    free_slow(block, segment, heap);
}

/* ---- changing sizes ---- */

/* Is a block of `usable` bytes good enough for `size`? It may waste up to half. */
static bool size_fits(size_t size, size_t usable) {
  return size <= usable && (size >= usable / 2 || usable == gyre__class_size(0));
}

/* From this size on, a block that realloc() enlarges is given room to grow, if there is some to spare. */
#define GROWS_FROM 512

void *gyre__raw_malloc_growing(struct gyre__heap *heap, size_t usable, size_t size) {
  if (size <= usable || size < GROWS_FROM || size > GYRE__SPAN_MAX || heap->thread.base.id == 0)
    return NULL;
  return gyre__large_alloc_growing(heap, size);
}

static void *block_move(struct gyre__heap *heap, void *block, size_t usable, size_t size) {
  void *moved = gyre__raw_malloc_growing(heap, usable, size);
  if (moved == NULL) moved = gyre__raw_malloc(heap, size);
  /* Shrinking cannot fail: the block as it is will do. */
  if (moved == NULL) return size <= usable ? block : NULL;
  memcpy(moved, block, usable < size ? usable : size);
  gyre__raw_free(gyre__raw_heap(gyre__self), block);
  return moved;
}

void *gyre__raw_resize(struct gyre__heap *heap, void *block, size_t size) {
  struct gyre__page *page = gyre__page_of(block);
  size_t usable = gyre__page_usable(page);
  if (page->is_large) {
    void *resized = gyre__large_resize(heap, page, size);
    if (resized != NULL) return resized;
  }
  return size_fits(size, usable) ? block : NULL;
}

/* The most frequent case of a buffer that grows: it lies in a span whose slices suffice. */
GYRE_INLINE bool grow_in_span(void *block, size_t size) {
  struct gyre__segment *segment = gyre__segment_of(block);
  if (GYRE__WATCHED || segment == NULL || segment->shape != GYRE__SHAPE_SPANS) return false;
  struct gyre__page *page = gyre__segment_page(segment, block);
  if (page->is_large != GYRE__LARGE_LIVE || page->start != (char *)block ||
      page->kind != GYRE__RAW || size <= page->large_usable ||
      size > (size_t)page->span << GYRE__SLICE_SHIFT)
    return false;
  gyre__large_set_size(page, gyre__large_size(size));
  return true;
}

static GYRE_NOINLINE void *realloc_slow(struct gyre__heap *heap, void *block, size_t size) {
  if (block == NULL) return gyre__raw_malloc(heap, size);
  struct gyre__segment *segment = gyre__segment_of(block);
  if (GYRE_UNLIKELY(segment == NULL)) require_foreign(block);
  const struct gyre__page *page = gyre__page_of(block);
  GYRE_REQUIRE(page->kind == GYRE__RAW, "invalid pointer: %p is an object", block);
  if (segment == NULL || segment->shape >= GYRE__SHAPE_SPANS) gyre__large_require(page, block);
  if (GYRE__WATCHED) return gyre__watched_realloc(heap, block, size);
  void *resized = gyre__raw_resize(heap, block, size);
  if (resized != NULL) return resized;
  return block_move(heap, block, gyre__page_usable(page), size);
}

GYRE_INLINE void *heap_realloc(struct gyre__heap *heap, void *block, size_t size) {
  return grow_in_span(block, size) ? block : realloc_slow(heap, block, size);
}

/* ---- the public functions ---- */

void *gyre_malloc(size_t size) { return gyre__raw_malloc(gyre__raw_heap(gyre__self), size); }

void gyre_free(void *block) { gyre__raw_free(gyre__raw_heap(gyre__self), block); }

void *gyre_calloc(size_t count, size_t size) {
  return heap_calloc(gyre__raw_heap(gyre__self), count, size);
}

void *gyre_realloc(void *block, size_t size) {
  return heap_realloc(gyre__raw_heap(gyre__self), block, size);
}

void *gyre_aligned_alloc(size_t alignment, size_t size) {
  return heap_aligned_alloc(gyre__raw_heap(gyre__self), alignment, size);
}

void gyre_free_sized(void *block, size_t size) {
  GYRE_ASSERT(block == NULL || size <= gyre_usable_size(block));
  (void)size;
  gyre__raw_free(gyre__raw_heap(gyre__self), block);
}

size_t gyre_usable_size(const void *block) {
  if (GYRE__WATCHED && block != NULL) return gyre__watched_usable(block);
  return block != NULL ? gyre__page_usable(gyre__page_of(block)) : 0;
}

void *gyre__thread_malloc(gyre_thread *self, size_t size) {
  return gyre__raw_malloc(heap_given(self), size);
}

void *gyre_thread_calloc(gyre_thread *self, size_t count, size_t size) {
  return heap_calloc(heap_given(self), count, size);
}

void *gyre_thread_realloc(gyre_thread *self, void *block, size_t size) {
  return heap_realloc(heap_given(self), block, size);
}

void *gyre_thread_aligned_alloc(gyre_thread *self, size_t alignment, size_t size) {
  return heap_aligned_alloc(heap_given(self), alignment, size);
}

void gyre__thread_free(gyre_thread *self, void *block) { gyre__raw_free(heap_given(self), block); }

void gyre_thread_free_sized(gyre_thread *self, void *block, size_t size) {
  GYRE_ASSERT(block == NULL || size <= gyre_usable_size(block));
  (void)size;
  gyre__raw_free(heap_given(self), block);
}
