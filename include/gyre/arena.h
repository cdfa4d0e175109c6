/* SPDX-License-Identifier: MIT */
/* gyre/arena.h: the library in a buffer, and figures and a threshold in bytes, as small systems want them.
 *
 *     static _Alignas(4096) char memory[4 << 20];
 *     int main(void) {
 *       if (gyre_init_in(memory, sizeof memory) != 0) return 1;
 *       ...
 *       gyre_fini();                           // memory is the program's again
 *     }
 *
 * In an arena everything that the library allocates lies in the buffer: blocks and objects, their pages'
 * metadata, what it keeps of threads, what a collection needs. After gyre_init_in() it asks the system for no
 * memory, by whatever call, as long as the program's own settings do not make it: a service thread (mode
 * concurrent) has its stack from the system. The table of interned strings (liburcu's) and the tree of named
 * roots (the C library's) have their nodes from malloc(); weak references have a table of their own here. What the library has besides
 * is its static data, of which some kilobytes are ever written.
 *
 * What an arena is like:
 *   - The collector is in mode stw, unless the program sets another, and what it needs for a collection of
 *     the whole arena is set aside: about a ninth.
 *   - A full collection is due when a quarter of the arena has come into use since the last
 *     (gyre_mem_threshold()). It is made at a safepoint, like every other.
 *   - When the arena is full, an allocation looks for what is kept empty, then, with option
 *     "alloc_is_safepoint", collects, then asks the program's handler (gyre_set_oom_handler()), and then
 *     fails with ENOMEM.
 *   - Memory is handed out in pieces of 64 KiB, one for each kind (raw blocks, objects with references,
 *     objects without) and class of sizes of each thread, or a whole number of them for a block beyond 64
 *     KiB. So an arena of a megabyte is for programs with few sizes and threads.
 *   - Frees take a longer path than elsewhere: some thirty instructions more.
 *   - Allocations cannot be traced (gyre/trace.h); tracing that is on, by GYRE_TRACE say, ends as it begins.
 *   - In arenas below 36 MiB threads do not look through their young objects: each is the collector's from
 *     birth.
 */
#ifndef GYRE_ARENA_H
#define GYRE_ARENA_H

#include <gyre/gc.h>

GYRE_BEGIN_DECLS

/* The smallest buffer. The largest is of 4 GiB. */
#define GYRE_ARENA_MIN ((size_t)1 << 20)

/* Has the library use the buffer, and no other memory, until gyre_fini(); attaches the calling thread. The
 * buffer is of any alignment and contents. The first use of the library in this process, or after gyre_fini()
 * has ended that of another arena; and no other thread uses it meanwhile. Returns 0, or -EINVAL if the
 * buffer is NULL, smaller than GYRE_ARENA_MIN or larger than 4 GiB, -EBUSY if the library has been used
 * already or has a page source (gyre/alloc.h), -EAGAIN if the thread cannot attach. Nothing has changed then.
 *
 * gyre_fini() then needs all other threads to be detached: it returns -EBUSY, and the arena stays, if one is
 * only parked. Afterwards nothing in the library refers to the buffer. What was still alive is gone, and what
 * the library remembered of it: named roots, constants, interned strings, functions of gyre_finalize_new()
 * that were not due. So is whatever handle the program still has: a weak reference, a gyre_finalize, a graph, a
 * list is not to be freed any more. The library may be used anew, in a buffer or without. The program's
 * static objects are to be registered again then (GYRE_STATIC_REGISTER), since types have other numbers;
 * gyre_type_of() one that is not is undefined. */
GYRE_API int gyre_init_in(void *buffer, size_t size);

/* Bytes in blocks and objects, rounded up to what a block of their size takes. Any thread. With an
 * arena or without. */
GYRE_API size_t gyre_mem_alloc(void);

/* Bytes that blocks and objects could still be made of: those of the arena that nothing is in, and free
 * blocks of pages (of which each is good for one size only). In an arena gyre_mem_alloc() + gyre_mem_free()
 * is what the buffer holds less what the library keeps about it. Without an arena, what is left of option
 * "limit"; -ENOTSUP if there is no limit either. Any thread; exact when no other runs. */
GYRE_API ptrdiff_t gyre_mem_free(void);

/* A full collection is due, at the next safepoint, when `bytes` more are in use than after the last; 0 for
 * never, which is the default without an arena. Counted are pages of 64 KiB and large blocks, as they come
 * into use and empty; what counts free at once does not make a collection due. Negative: only asks. Returns
 * the threshold before. Any thread. (MicroPython's gc.threshold(); option "mem_threshold".) */
GYRE_API ptrdiff_t gyre_mem_threshold(ptrdiff_t bytes);

GYRE_END_DECLS

#endif
