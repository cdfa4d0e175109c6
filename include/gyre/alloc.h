/* SPDX-License-Identifier: MIT */
/* gyre/alloc.h: the program's own allocators and memory in place of the library's, and allocators that look
 * for mistakes.
 *
 * Memory is asked for in three domains, as CPython's is:
 *
 *   raw   gyre_raw_malloc() and its like below: the C library's malloc, unless replaced. No thread is
 *         attached for it, so it serves threads and times that the library is none of the business of.
 *   mem   gyre_malloc() and all of gyre/heap.h, with the blocks that the library has for itself.
 *   obj   objects. Their allocator cannot be replaced: a header stays readable after its object is freed,
 *         for threads that found it a moment ago, and the collector finds objects by the pages they lie
 *         in. What can be replaced is where the pages come from: gyre_set_page_source().
 *
 * A wrapper looks at what passes and hands it on:
 *
 *     static struct gyre_allocator inner;
 *     static void *count_malloc(void *ctx, size_t size) {
 *       ++*(size_t *)ctx;
 *       return inner.malloc(inner.ctx, size);
 *     }
 *     ...
 *     inner.size = sizeof inner;
 *     gyre_get_allocator(GYRE_DOMAIN_MEM, &inner);
 *     struct gyre_allocator outer = inner;
 *     outer.ctx = &calls;
 *     outer.malloc = count_malloc;
 *     gyre_set_allocator(GYRE_DOMAIN_MEM, &outer);
 *
 * Nothing of this costs anything where it is not used; with an allocator set, no block of mem is allocated or
 * freed inline.
 */
#ifndef GYRE_ALLOC_H
#define GYRE_ALLOC_H

#include <gyre/heap.h>

GYRE_BEGIN_DECLS

/* ---- allocators ---- */

enum gyre_domain { GYRE_DOMAIN_RAW, GYRE_DOMAIN_MEM, GYRE_DOMAIN_OBJ };

/* What serves a domain. All functions: from any thread, several at a time; attached or not, so the
 * inner functions have to be called for what needs a thread to be attached. Never with a lock of the library
 * held or with threads stopped. They must not set allocators, nor pass a safepoint. Contracts as in
 * gyre/heap.h: 0 bytes give a distinct block, NULL comes with errno ENOMEM, and realloc of NULL allocates;
 * free is not called for NULL. */
struct gyre_allocator {
  size_t size; /* sizeof(struct gyre_allocator), set by the caller */
  void *ctx;   /* handed to each function */
  void *(*malloc)(void *ctx, size_t size);
  void *(*calloc)(void *ctx, size_t count, size_t size);
  void *(*realloc)(void *ctx, void *block, size_t size);
  void (*free)(void *ctx, void *block);
  /* NULL: alignments beyond 16 fail with ENOMEM. The alignment is a power of two. */
  void *(*aligned_alloc)(void *ctx, size_t alignment, size_t size);
  /* NULL: gyre_usable_size() is 0. */
  size_t (*usable_size)(void *ctx, const void *block);
};

/* Copies the domain's allocator to *out, at most out->size bytes of it. 0; -EINVAL for another domain, or if
 * out is NULL or its size 0; -ENOTSUP for GYRE_DOMAIN_OBJ. Any thread. */
GYRE_API int gyre_get_allocator(enum gyre_domain domain, struct gyre_allocator *out);

/* Has the domain served by a copy of *allocator from now on. One that hands all on to the one before, blocks
 * that it has not allocated among them, may be set, and taken off, at any time; another only while the domain
 * has no block. Setting what gyre_get_allocator() gave restores it. For mem: a safepoint, stops the world for
 * a moment; no thread that is not attached may be in a function of the domain. 0; -EINVAL if a function
 * before aligned_alloc is missing, or for another domain; -ENOTSUP for GYRE_DOMAIN_OBJ; -EAGAIN if the
 * thread cannot attach; -ENOSPC after more than a thousand calls that set something new. */
GYRE_API int gyre_set_allocator(enum gyre_domain domain, const struct gyre_allocator *allocator);

/* The raw domain. Any thread; none is attached. As the functions of gyre/heap.h otherwise; blocks are freed
 * by gyre_raw_free(). In an arena (gyre/arena.h), which has nothing from the system, they are the same as
 * gyre_malloc() and its like. */
GYRE_API void *gyre_raw_malloc(size_t size) __attribute__((__malloc__, __alloc_size__(1)));
GYRE_API void *gyre_raw_calloc(size_t count, size_t size)
    __attribute__((__malloc__, __alloc_size__(1, 2)));
GYRE_API void *gyre_raw_realloc(void *block, size_t size) __attribute__((__alloc_size__(2)));
GYRE_API void *gyre_raw_aligned_alloc(size_t alignment, size_t size)
    __attribute__((__malloc__, __alloc_size__(2)));
GYRE_API void gyre_raw_free(void *block);

/* ---- allocators that look for mistakes ---- */

/* Wraps the allocators of raw and mem, as they are now, in ones that put guard bytes around each block
 * (CPython's PyMem_SetupDebugHooks, with its bytes):
 *
 *     | size, 8 bytes | family 'r' or 'm' | room | 6 x 0xFD | block: 0xCD ... | 8 x 0xFD | serial, 8 bytes |
 *
 * Freed blocks are filled with 0xDD and wait, some thousand of them, before they may be used again. What is
 * found ends the process with a message that names the block, its size, family and serial number (the how
 * manyeth allocation it was), and where it was allocated if allocations are traced:
 *   - bytes written before and behind a block, from the first on, when it is freed or resized;
 *   - a block freed or resized by another family's function, an object among them;
 *   - a block freed twice, and bytes written to a freed one, as long as it waits.
 * In every build. Same as GYRE_DEBUG=guard in the environment, which does it before the first block. Later
 * it is possible only while neither domain has blocks: 0, or -EBUSY if the heap has some (those of raw it
 * cannot know of), or what gyre_set_allocator() returns. Domains that are wrapped already stay as they are. */
GYRE_API int gyre_setup_debug_hooks(void);

/* The environment variable GYRE_MALLOC (option "malloc", before the first use of the library) chooses: pool,
 * the library's own; system, the C library's malloc for mem as well; pool_debug and system_debug, the same
 * with debug hooks. */

/* ---- pages ---- */

/* Where pages come from, in place of the system. The functions stand for system calls: they are called with
 * locks of the library held, from any thread, and must not call the library. */
struct gyre_page_source {
  size_t size; /* sizeof(struct gyre_page_source), set by the caller */
  void *ctx;
  /* `size` bytes of zeroed memory, whole OS pages, aligned to `alignment`, a power of two (mostly 4 MiB);
   * NULL if there is none. */
  void *(*map)(void *ctx, size_t size, size_t alignment);
  /* Takes a range back that was mapped, or, of a mapping whose size and alignment are multiples of 4 MiB,
   * some of these; neighbours that were mapped apart may come back together. */
  void (*unmap)(void *ctx, void *address, size_t size);
  /* The contents of this part of a mapping are not needed any more. Returns non-zero if it reads as zeroes
   * from now on. NULL: memory is kept. */
  int (*purge)(void *ctx, void *address, size_t size);
};

/* Sets the page source: before the first use of the library. Guard pages (option "guard"), huge pages, and
 * backends of large blocks that are not the library's own are off then. 0; -EINVAL if map or unmap is
 * missing; -EBUSY if the library has memory already. */
GYRE_API int gyre_set_page_source(const struct gyre_page_source *source);

GYRE_END_DECLS

#endif
