/* SPDX-License-Identifier: MIT */
/* The program's allocators, as the slow paths see them: hook.c, fence.c. There are none in libgyre_malloc. */
#ifndef GYRE_LIB_HEAP_HOOK_H
#define GYRE_LIB_HEAP_HOOK_H

#include <gyre/alloc.h>

#include "lib/thread/thread.h"

#define GYRE__ALIGNMENT_MAX ((size_t)1 << 30)

#if GYRE__IS_MALLOC

GYRE_INLINE const struct gyre_allocator *gyre__hook_now(void) { return NULL; }
GYRE_INLINE bool gyre__hook_is_on(void) { return false; }
GYRE_INLINE void *gyre__hook_aligned(const struct gyre_allocator *a, size_t alignment,
                                     size_t size) {
  (void)a, (void)alignment, (void)size;
  return NULL;
}
GYRE_INLINE void gyre__hook_start(void) {}
GYRE_INLINE const void *gyre__hook_enter(const void *pc) {
  (void)pc;
  return NULL;
}
GYRE_INLINE void gyre__hook_leave(const void *before) { (void)before; }
GYRE_INLINE void gyre__fence_flush(void) {}
GYRE_INLINE void gyre__hook_fork_prepare(void) {}
GYRE_INLINE void gyre__hook_fork_parent(void) {}
GYRE_INLINE void gyre__hook_fork_child(void) {}
GYRE_INLINE void gyre__fence_fork_prepare(void) {}
GYRE_INLINE void gyre__fence_fork_parent(void) {}
GYRE_INLINE void gyre__fence_fork_child(void) {}

#else

/* A pointer to the allocator that serves each of the first two domains; mem: NULL while that is the heap itself,
 * raw: NULL while it is the C library. Written by hook.c, before there is a slot or with the world stopped. */
extern gyre__atomic_ptr gyre__hook_serving[2] GYRE__HIDDEN;
/* The allocator that serves mem, NULL if it is the heap itself. Any thread. */
GYRE_INLINE const struct gyre_allocator *gyre__hook_now(void) {
  /* acquire: what it points to; pairs with serve() in hook.c. */
  return (const struct gyre_allocator *)gyre__load_acquire(&gyre__hook_serving[GYRE_DOMAIN_MEM]);
}
/* Is there one? A slot or a segment that is being made asks this, and is then published, so that it begins as
 * it should, or is among those that gyre_set_allocator() goes through. */
GYRE_INLINE bool gyre__hook_is_on(void) { return gyre__hook_now() != NULL; }
/* With the alignment looked at; NULL with errno. */
void *gyre__hook_aligned(const struct gyre_allocator *a, size_t alignment, size_t size);
/* Around a call of a function of the program's that serves mem: what it has from ours was asked for at `pc`, or
 * where the outermost such call was. Returns what gyre__hook_leave() is to be given. The thread itself. */
const void *gyre__hook_enter(const void *pc);
void gyre__hook_leave(const void *before);
/* Reads the options; before the first slot. Any thread. */
void gyre__hook_start(void);
void gyre__hook_fork_prepare(void);
void gyre__hook_fork_parent(void);
void gyre__hook_fork_child(void);

/* ---- fence.c ---- */

/* *outer: guard bytes around the blocks of *inner, for that domain. */
void gyre__fence_wrap(enum gyre_domain domain, const struct gyre_allocator *inner,
                      struct gyre_allocator *outer);
bool gyre__fence_is(const struct gyre_allocator *a);
/* Lets freed blocks go that wait. Any thread, holding nothing: calls the program's allocators. */
void gyre__fence_flush(void);
void gyre__fence_fork_prepare(void);
void gyre__fence_fork_parent(void);
void gyre__fence_fork_child(void);

#endif

/* Sets the way that the thread's fast paths take for raw blocks. The slot's maker, or in a stopped world. */
void gyre__hook_slot(struct gyre__thread *slot);

#endif
