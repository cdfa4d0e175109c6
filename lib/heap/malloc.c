/* SPDX-License-Identifier: MIT */
/* The raw functions of gyre/heap.h. The fast paths are in raw.h; everything else is a call. */
#include <errno.h>
#include <string.h>

#include "lib/heap/hook.h"
#include "lib/heap/page.h"
#include "lib/heap/raw.h"
#include "lib/heap/traced.h"

static struct gyre__heap *heap_given(gyre_thread *self) {
#ifdef GYRE_DEBUG
  GYRE_REQUIRE(self == gyre__self && self->id != 0,
               "the handle of thread %u is not the caller's own", self->id);
#endif
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
static GYRE_NOINLINE void *malloc_first(size_t size, const void *pc) {
  GYRE__KEEP_FRAME();
  struct gyre__heap *heap = gyre__heap_attached(gyre__raw_heap(gyre__self));
  void *block = heap != NULL ? gyre__raw_malloc_base(size, heap, pc) : NULL;
  if (GYRE__IS_MALLOC && gyre__thread_has_ended()) gyre_thread_detach();
  return block;
}

/* The program's allocator, or NULL; also at the process's first call, when nobody has read the options yet. */
GYRE_INLINE const struct gyre_allocator *hook_of(const struct gyre__heap *heap) {
  if (GYRE_UNLIKELY(heap->thread.base.id == 0)) gyre__hook_start();
  return gyre__hook_now();
}

/* The program's allocator is called: what it has from ours is the program's, as far as tracing goes. */
static GYRE_NOINLINE void *hooked_malloc(const struct gyre_allocator *hook, size_t size,
                                         const void *pc) {
  GYRE__KEEP_FRAME();
  const void *before = gyre__hook_enter(pc);
  void *block = hook->malloc(hook->ctx, size);
  gyre__hook_leave(before);
  return block;
}

void *gyre__raw_malloc_slow(size_t size, struct gyre__heap *heap, const void *pc) {
  GYRE__KEEP_WATCHED_FRAME();
  const struct gyre_allocator *hook = hook_of(heap);
  if (GYRE_UNLIKELY(hook != NULL)) return hooked_malloc(hook, size, pc);
  return gyre__raw_malloc_base(size, heap, pc);
}

void *gyre__raw_malloc_base(size_t size, struct gyre__heap *heap, const void *pc) {
  GYRE__KEEP_WATCHED_FRAME();
  if (GYRE__WATCHED) return gyre__watched_malloc(size, heap, pc);
  if (GYRE_UNLIKELY(heap->thread.base.id == 0)) return malloc_first(size, pc);
  if (gyre__trace_is_wanted(heap)) return gyre__traced_malloc(heap, size, pc);
  if (size > GYRE__CLASS_MAX) return gyre__large_alloc(heap, GYRE__RAW, size, 16, false);
  return gyre__heap_alloc(heap, GYRE__RAW, gyre__size_class(size));
}

#if GYRE__IS_MALLOC
void *gyre__raw_malloc_jump(size_t size, struct gyre__heap *heap) {
  return gyre__raw_malloc_slow(size, heap, NULL);
}
#endif

/* The functions below come in two: with a look at the program's allocator, and without (`base`), for that
 * allocator itself to call. What the two share has a short way too: while an allocator is set, it leads
 * nowhere. */
GYRE_INLINE void *plain_malloc(struct gyre__heap *heap, size_t size, const void *pc) {
  void *block = NULL;
  if (!GYRE__WATCHED && size <= GYRE__CLASS_TABLE_MAX && !GYRE_FAULT_IS_ARMED())
    block = gyre__raw_malloc_ready(heap, size);
  return GYRE_LIKELY(block != NULL) ? block : gyre__raw_malloc_base(size, heap, pc);
}

GYRE_INLINE void plain_free(struct gyre__heap *heap, void *block) {
  if (GYRE__WATCHED || !gyre__raw_free_own(heap, gyre__segment_of(block), block))
    gyre__raw_free_base(block, heap);
}

static GYRE_NOINLINE void *calloc_slow(struct gyre__heap *heap, size_t bytes, const void *pc) {
  GYRE__KEEP_FRAME();
  void *block = gyre__raw_malloc_base(bytes, heap, pc);
  if (block != NULL) memset(block, 0, bytes);
  return block;
}

GYRE_INLINE void *plain_calloc(struct gyre__heap *heap, size_t count, size_t size, const void *pc) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) return gyre__heap_alloc_fault();
  if (GYRE__WATCHED) return gyre__watched_calloc(heap, bytes, pc);
  if (bytes > GYRE__CLASS_MAX) {
    heap = gyre__heap_attached(heap);
    if (heap == NULL) return NULL;
    if (gyre__trace_is_wanted(heap))
      return gyre__traced_alloc(heap, GYRE__RAW, bytes, 16, true, bytes, 0, pc);
    return gyre__large_alloc(heap, GYRE__RAW, bytes, 16, true);
  }
  void *block = bytes <= GYRE__CLASS_TABLE_MAX && !GYRE_FAULT_IS_ARMED()
                    ? gyre__raw_malloc_ready(heap, bytes)
                    : NULL;
  if (GYRE_UNLIKELY(block == NULL)) return calloc_slow(heap, bytes, pc);
  return memset(block, 0, bytes);
}

static GYRE_NOINLINE void *hooked_calloc(const struct gyre_allocator *hook, size_t count,
                                         size_t size, const void *pc) {
  GYRE__KEEP_FRAME();
  const void *before = gyre__hook_enter(pc);
  void *block = hook->calloc(hook->ctx, count, size);
  gyre__hook_leave(before);
  return block;
}

static void *heap_calloc(struct gyre__heap *heap, size_t count, size_t size, const void *pc) {
  GYRE__KEEP_WATCHED_FRAME();
  const struct gyre_allocator *hook = hook_of(heap);
  if (GYRE_UNLIKELY(hook != NULL)) return hooked_calloc(hook, count, size, pc);
  return plain_calloc(heap, count, size, pc);
}

void *gyre__raw_calloc_base(struct gyre__heap *heap, size_t count, size_t size, const void *pc) {
  GYRE__KEEP_WATCHED_FRAME();
  return plain_calloc(heap, count, size, pc);
}

/* Pages lie on multiples of the alignment, so the block size must be one. Ends at a power of two at the
 * latest. */
unsigned gyre__aligned_class(size_t size, size_t alignment) {
  unsigned size_class = gyre__size_class(size > alignment ? size : alignment);
  while (gyre__class_size(size_class) % alignment != 0)
    size_class++;
  return size_class;
}

GYRE_INLINE void *plain_aligned(struct gyre__heap *heap, size_t alignment, size_t size,
                                const void *pc) {
  if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > GYRE__ALIGNMENT_MAX) {
    errno = EINVAL;
    return NULL;
  }
  if (alignment <= 16) return plain_malloc(heap, size, pc);
  if (GYRE__WATCHED) return gyre__watched_aligned_alloc(heap, alignment, size, pc);
  heap = gyre__heap_attached(heap);
  if (heap == NULL) return NULL;
  if (gyre__trace_is_wanted(heap))
    return gyre__traced_alloc(heap, GYRE__RAW, size, alignment, false, size, 0, pc);
  if (size > GYRE__CLASS_MAX || alignment > GYRE__CLASS_MAX)
    return gyre__large_alloc(heap, GYRE__RAW, size, alignment, false);
  return gyre__heap_alloc(heap, GYRE__RAW, gyre__aligned_class(size, alignment));
}

static GYRE_NOINLINE void *hooked_aligned(const struct gyre_allocator *hook, size_t alignment,
                                          size_t size, const void *pc) {
  GYRE__KEEP_FRAME();
  const void *before = gyre__hook_enter(pc);
  void *block = gyre__hook_aligned(hook, alignment, size);
  gyre__hook_leave(before);
  return block;
}

static void *heap_aligned_alloc(struct gyre__heap *heap, size_t alignment, size_t size,
                                const void *pc) {
  GYRE__KEEP_WATCHED_FRAME();
  const struct gyre_allocator *hook = hook_of(heap);
  if (GYRE_UNLIKELY(hook != NULL)) return hooked_aligned(hook, alignment, size, pc);
  return plain_aligned(heap, alignment, size, pc);
}

void *gyre__raw_aligned_base(struct gyre__heap *heap, size_t alignment, size_t size,
                             const void *pc) {
  GYRE__KEEP_WATCHED_FRAME();
  return plain_aligned(heap, alignment, size, pc);
}

/* ---- freeing ---- */

/* A block that is in no segment; a huge one that was freed is in none either. */
static void require_foreign(const void *block) {
  GYRE_REQUIRE(gyre__large_may_be_foreign(block),
               "invalid pointer: %p is not a block of this library, or was freed", block);
}

void gyre__raw_free_found(void *block, struct gyre__segment *segment, struct gyre__heap *heap) {
  /* Not only where it is in no segment: an arena may lie in the first piece of address space. */
  if (GYRE_UNLIKELY(block == NULL)) return;
  if (segment == NULL) {
    require_foreign(block);
    gyre__large_free(heap, (struct gyre__page *)block - 1, block);
    return;
  }
  if (segment->shape >= GYRE__SHAPE_SPANS) {
    gyre__large_free(heap, gyre__segment_page(segment, block), block);
    return;
  }
  struct gyre__page *page = gyre__segment_page(segment, block);
  /* relaxed: as in gyre__heap_free(). In an arena, whose segments are nobody's, the page alone knows. */
  bool ours = segment->owner == heap || (gyre__load_relaxed(&page->owner) == heap->thread.base.id &&
                                         heap->thread.base.id != 0);
  if (GYRE_LIKELY(ours)) {
    gyre__trace_forget(heap, page, block);
    gyre__heap_free_local(heap, page, block, GYRE__RAW);
  } else {
    gyre__heap_free_slow(heap, page, block);
  }
}

/* libgyre_malloc: a thread that frees now will most likely go on, so it attaches. If it cannot, or has
 * ended, it frees all the same. */
static GYRE_NOINLINE void free_first(void *block, struct gyre__segment *segment) {
  int before = errno;
  if (block != NULL && !gyre__thread_has_ended()) (void)gyre_thread_attach();
  gyre__raw_free_found(block, segment, gyre__raw_heap(gyre__self));
  errno = before;
}

GYRE_NOINLINE void gyre__raw_free_slow(void *block, struct gyre__segment *segment,
                                       struct gyre__heap *heap) {
  const struct gyre_allocator *hook = gyre__hook_now();
  if (GYRE_UNLIKELY(hook != NULL)) {
    if (block != NULL) hook->free(hook->ctx, block);
  } else if (GYRE__WATCHED) {
    gyre__watched_free(block, heap);
  } else if (!GYRE__IS_MALLOC && GYRE_LIKELY(segment != NULL) && segment->owner == heap &&
             segment->shape == GYRE__SHAPE_SMALL) {
    gyre__traced_free_small(heap, segment, block);
  } else if (GYRE__IS_MALLOC && GYRE_UNLIKELY(heap->thread.base.id == 0)) {
    free_first(block, segment);
  } else {
    gyre__raw_free_found(block, segment, heap);
  }
}

void gyre__raw_free_base(void *block, struct gyre__heap *heap) {
  if (GYRE__WATCHED)
    gyre__watched_free(block, heap);
  else if (block != NULL)
    gyre__raw_free_found(block, gyre__segment_of(block), heap);
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

GYRE_INLINE void *block_move(struct gyre__heap *heap, void *block, size_t usable, size_t size,
                             const void *pc) {
  void *moved = gyre__raw_malloc_growing(heap, usable, size);
  if (moved != NULL && gyre__trace_is_wanted(heap)) gyre__traced_note(heap, moved, size, pc);
  if (moved == NULL) moved = plain_malloc(heap, size, pc);
  /* Shrinking cannot fail: the block as it is will do. */
  if (moved == NULL) return size <= usable ? block : NULL;
  memcpy(moved, block, usable < size ? usable : size);
  plain_free(gyre__raw_heap(gyre__self), block);
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

/* The most frequent case of a buffer that grows: it lies in a span whose slices suffice, and nobody wants to
 * be told. */
GYRE_INLINE bool grow_in_span(const struct gyre__heap *heap, void *block, size_t size) {
  struct gyre__segment *segment = gyre__segment_of(block);
  if (GYRE__WATCHED || segment == NULL || segment->shape != GYRE__SHAPE_SPANS ||
      gyre__trace_is_wanted(heap))
    return false;
  struct gyre__page *page = gyre__segment_page(segment, block);
  if (page->traced || page->is_large != GYRE__LARGE_LIVE || page->start != (char *)block ||
      page->kind != GYRE__RAW || size <= page->large_usable ||
      size > (size_t)page->span << GYRE__SLICE_SHIFT)
    return false;
  gyre__large_set_size(page, gyre__large_size(size));
  return true;
}

/* The block is or may be traced. */
static GYRE_NOINLINE void *realloc_traced(struct gyre__heap *heap, void *block, size_t size,
                                          const void *pc) {
  GYRE__KEEP_FRAME();
  struct gyre__traced_large before;
  size_t usable = gyre__page_usable(gyre__page_of(block));
  bool is_known = gyre__traced_resize_begin(heap, block, &before);
  void *resized = gyre__raw_resize(heap, block, size);
  gyre__traced_resize_end(heap, block, resized, size, is_known ? &before : NULL, pc);
  return resized != NULL ? resized : block_move(heap, block, usable, size, pc);
}

GYRE_INLINE void *plain_realloc(struct gyre__heap *heap, void *block, size_t size, const void *pc) {
  if (block == NULL) return plain_malloc(heap, size, pc);
  struct gyre__segment *segment = gyre__segment_of(block);
  if (GYRE_UNLIKELY(segment == NULL)) require_foreign(block);
  const struct gyre__page *page = gyre__page_of(block);
  GYRE_REQUIRE(page->kind == GYRE__RAW, "invalid pointer: %p is an object", block);
  if (segment == NULL || segment->shape >= GYRE__SHAPE_SPANS || page->is_large)
    gyre__large_require(page, block);
  if (GYRE__WATCHED) return gyre__watched_realloc(heap, block, size, pc);
  if (!GYRE__IS_MALLOC && (gyre__trace_is_wanted(heap) || page->traced))
    return realloc_traced(heap, block, size, pc);
  void *resized = gyre__raw_resize(heap, block, size);
  if (resized != NULL) return resized;
  return block_move(heap, block, gyre__page_usable(page), size, pc);
}

static GYRE_NOINLINE void *hooked_realloc(const struct gyre_allocator *hook, void *block,
                                          size_t size, const void *pc) {
  GYRE__KEEP_FRAME();
  const void *before = gyre__hook_enter(pc);
  void *resized = hook->realloc(hook->ctx, block, size);
  gyre__hook_leave(before);
  return resized;
}

/* What grow_in_span() does not do. */
static GYRE_NOINLINE void *realloc_slow(struct gyre__heap *heap, void *block, size_t size,
                                        const void *pc) {
  GYRE__KEEP_WATCHED_FRAME();
  const struct gyre_allocator *hook = gyre__hook_now();
  if (GYRE_UNLIKELY(hook != NULL)) return hooked_realloc(hook, block, size, pc);
  return plain_realloc(heap, block, size, pc);
}

GYRE_INLINE void *heap_realloc(struct gyre__heap *heap, void *block, size_t size, const void *pc) {
  if (gyre__hook_now() == NULL && grow_in_span(heap, block, size)) return block;
  return realloc_slow(heap, block, size, pc);
}

void *gyre__raw_realloc_base(struct gyre__heap *heap, void *block, size_t size, const void *pc) {
  GYRE__KEEP_WATCHED_FRAME();
  return grow_in_span(heap, block, size) ? block : plain_realloc(heap, block, size, pc);
}

/* ---- the public functions ---- */

void *gyre_malloc(size_t size) { return gyre__raw_malloc(gyre__raw_heap(gyre__self), size); }

void gyre_free(void *block) { gyre__raw_free(gyre__raw_heap(gyre__self), block); }

void *gyre_calloc(size_t count, size_t size) {
  return heap_calloc(gyre__raw_heap(gyre__self), count, size, GYRE__CALLER);
}

void *gyre_realloc(void *block, size_t size) {
  return heap_realloc(gyre__raw_heap(gyre__self), block, size, GYRE__CALLER);
}

void *gyre_aligned_alloc(size_t alignment, size_t size) {
  return heap_aligned_alloc(gyre__raw_heap(gyre__self), alignment, size, GYRE__CALLER);
}

void gyre_free_sized(void *block, size_t size) {
  GYRE_ASSERT(block == NULL || gyre__hook_is_on() || size <= gyre_usable_size(block));
  (void)size;
  gyre__raw_free(gyre__raw_heap(gyre__self), block);
}

size_t gyre__raw_usable_base(const void *block) {
  if (GYRE__WATCHED && block != NULL) return gyre__watched_usable(block);
  return block != NULL ? gyre__page_usable(gyre__page_of(block)) : 0;
}

size_t gyre_usable_size(const void *block) {
  const struct gyre_allocator *hook = gyre__hook_now();
  if (GYRE_LIKELY(hook == NULL)) return gyre__raw_usable_base(block);
  return block != NULL && hook->usable_size != NULL ? hook->usable_size(hook->ctx, block) : 0;
}

void *gyre__thread_malloc(gyre_thread *self, size_t size) {
  return gyre__raw_malloc(heap_given(self), size);
}

void *gyre_thread_calloc(gyre_thread *self, size_t count, size_t size) {
  return heap_calloc(heap_given(self), count, size, GYRE__CALLER);
}

void *gyre_thread_realloc(gyre_thread *self, void *block, size_t size) {
  return heap_realloc(heap_given(self), block, size, GYRE__CALLER);
}

void *gyre_thread_aligned_alloc(gyre_thread *self, size_t alignment, size_t size) {
  return heap_aligned_alloc(heap_given(self), alignment, size, GYRE__CALLER);
}

void gyre__thread_free(gyre_thread *self, void *block) { gyre__raw_free(heap_given(self), block); }

void gyre_thread_free_sized(gyre_thread *self, void *block, size_t size) {
  GYRE_ASSERT(block == NULL || gyre__hook_is_on() || size <= gyre_usable_size(block));
  (void)size;
  gyre__raw_free(heap_given(self), block);
}
