/* SPDX-License-Identifier: MIT */
/* The C family over the heap, for a whole process: malloc and everything that frees or measures its blocks.
 *
 * All functions: any thread, attached or not, from before the first constructor to the last moment of a
 * thread; not in signal handlers. Blocks may go from any of them to any other, and to another thread.
 * Those that allocate return NULL with errno ENOMEM when there is no memory, the size is above PTRDIFF_MAX,
 * or 65,535 threads are attached; blocks of 0 bytes are distinct, and to be freed.
 *
 * Where C and POSIX leave a choice, glibc's is taken, because it is what the programs have been tested
 * with: realloc(block, 0) frees, and memalign() rounds an odd alignment up.
 */
#include "lib/malloc/malloc.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>

/* ---- threads that are not attached ---- */

/* After a call that has attached the thread. */
static void call_over(void) {
  if (gyre__thread_has_ended()) gyre_thread_detach();
}

void *gyre__family_calloc_first(size_t count, size_t size) {
  void *block = gyre_calloc(count, size);
  call_over();
  return block;
}

void *gyre__family_realloc_first(void *block, size_t size) {
  void *resized = NULL;
  if (gyre_thread_attach() != NULL)
    resized = gyre_realloc(block, size);
  else
    errno = ENOMEM;
  call_over();
  return resized;
}

void *gyre__family_aligned_first(size_t alignment, size_t size) {
  void *block = gyre_aligned_alloc(alignment, size);
  call_over();
  return block;
}

void *gyre__family_aligned_block(size_t alignment, size_t size) {
  if (alignment > (size_t)1 << 30) { /* nothing is wrong with it, but nobody has such blocks */
    errno = ENOMEM;
    return NULL;
  }
  if (!gyre__family_is_attached()) return gyre__family_aligned_first(alignment, size);
  return gyre_aligned_alloc(alignment, size);
}

/* ---- blocks ---- */

GYRE_API void *malloc(size_t size) { return gyre__family_malloc_block(size); }

/* A product that overflows: ENOMEM. */
GYRE_API void *calloc(size_t count, size_t size) { return gyre__family_calloc_block(count, size); }

static void *resize(void *block, size_t size) {
  if (GYRE_UNLIKELY(size == 0 && block != NULL)) {
    gyre__family_free_block(block);
    return NULL;
  }
  return gyre__family_realloc_block(block, size);
}

/* NULL allocates. Size 0 frees the block and returns NULL, with errno as it was. On failure the block is
 * unchanged and still the caller's. */
GYRE_API void *realloc(void *block, size_t size) { return resize(block, size); }

/* As realloc(block, count * size); a product that overflows: ENOMEM, and the block is unchanged. */
GYRE_API void *reallocarray(void *block, size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) {
    errno = ENOMEM;
    return NULL;
  }
  return resize(block, bytes);
}

/* ---- alignment ---- */

static bool is_power_of_two(size_t number) { return number != 0 && (number & (number - 1)) == 0; }

/* 0, or EINVAL if the alignment is not a power of two that is a multiple of a pointer's size, or ENOMEM:
 * then *out and errno are unchanged. */
GYRE_API int posix_memalign(void **out, size_t alignment, size_t size) {
  if (!is_power_of_two(alignment) || alignment % sizeof(void *) != 0) return EINVAL;
  int before = errno;
  void *block = gyre__family_aligned_block(alignment, size);
  errno = before;
  if (block == NULL) return ENOMEM;
  *out = block;
  return 0;
}

/* EINVAL if the alignment is not a power of two. The size need not be a multiple of it. */
GYRE_API void *aligned_alloc(size_t alignment, size_t size) {
  if (is_power_of_two(alignment)) return gyre__family_aligned_block(alignment, size);
  errno = EINVAL;
  return NULL;
}

/* The alignment is rounded up to a power of two; EINVAL if there is none. */
GYRE_API void *memalign(size_t alignment, size_t size) {
  if (alignment > SIZE_MAX / 2 + 1) {
    errno = EINVAL;
    return NULL;
  }
  size_t power = 16;
  while (power < alignment)
    power *= 2;
  return gyre__family_aligned_block(power, size);
}

/* Aligned to the system's pages. */
GYRE_API void *valloc(size_t size) {
  return gyre__family_aligned_block(gyre__os_page_size(), size);
}

/* The same, of whole pages. */
GYRE_API void *pvalloc(size_t size) {
  size_t page_size = gyre__os_page_size(), bytes;
  if (__builtin_add_overflow(size, page_size - 1, &bytes)) {
    errno = ENOMEM;
    return NULL;
  }
  return gyre__family_aligned_block(page_size, bytes & ~(page_size - 1));
}

/* ---- freeing ---- */

/* NULL is allowed. errno stays. */
GYRE_API void free(void *block) { gyre__family_free_block(block); }

/* C23's, for a caller who knows what it asked for; older headers do not declare them. */
GYRE_API void free_sized(void *block, size_t size);
GYRE_API void free_sized(void *block, size_t size) {
  GYRE_ASSERT(size <= gyre_usable_size(block));
  (void)size;
  gyre__family_free_block(block);
}

GYRE_API void free_aligned_sized(void *block, size_t alignment, size_t size);
GYRE_API void free_aligned_sized(void *block, size_t alignment, size_t size) {
  GYRE_ASSERT(block == NULL || (uintptr_t)block % alignment == 0);
  (void)alignment, (void)size;
  gyre__family_free_block(block);
}

/* The C library has taken it out of its headers, but old programs call it still. */
GYRE_API void cfree(void *block);
GYRE_API void cfree(void *block) { gyre__family_free_block(block); }

/* ---- figures ---- */

/* At least what was asked for, and all of it may be used. 0 for NULL. */
GYRE_API size_t malloc_usable_size(void *block) { return gyre_usable_size(block); }

static size_t purged_bytes(void) {
  struct gyre_heap_stats stats = {.size = sizeof stats};
  (void)gyre_heap_get_stats(&stats);
  return stats.purged_bytes;
}

/* Gives empty pages back to the system at once: the calling thread's and those of threads that are gone.
 * Others that run give theirs when they next take a slow path; nobody is waited for. Nothing is kept for
 * `pad`. 1 if there was something to give, else 0. */
GYRE_API int malloc_trim(size_t pad) {
  (void)pad;
  size_t before = purged_bytes();
  (void)gyre_purge();
  call_over();
  return purged_bytes() != before;
}
