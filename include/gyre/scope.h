/* SPDX-License-Identifier: MIT */
/* gyre/scope.h: what ends with a block of code: references, memory, and what has to be cleaned up.
 *
 * A variable that owns its reference is GYRE_AUTO(T) (object.h). For references whose number is not known,
 * or that have no variable, there are scopes:
 *
 *     GYRE_SCOPE {
 *       for (...) use(gyre_keep(make_something()));     // released at the end of the block
 *     }
 *
 * For many small pieces of memory that go together there are regions, Python's context manager for
 * memory: an allocation is an addition, and all is freed at once.
 *
 *     GYRE_IN_REGION(region) {
 *       char *text = gyre_region_alloc(region, length);
 *       gyre_region_defer(region, close_it, file);      // called at the end, the last one first
 *     }
 *
 * Both belong to the thread that began them, and nest: what is begun later ends sooner. Blocks may be
 * left by their end, break, continue, return and goto, not by longjmp or the end of the thread.
 */
#ifndef GYRE_SCOPE_H
#define GYRE_SCOPE_H

#include <gyre/object.h>

GYRE_BEGIN_DECLS

/* Sets a variable that owns a reference to NULL, and then releases what it held, so that program code
 * which that runs does not find it any more (CPython's Py_CLEAR). gyre_clear() is the same for slots. */
#define gyre_drop(variable)                                                                        \
  do {                                                                                             \
    void *gyre__dropped = *(variable);                                                             \
    *(variable) = NULL;                                                                            \
    gyre_release(gyre__dropped);                                                                   \
  } while (0)

/* ---- scopes ---- */

/* References to be released. The fields are private. */
#define GYRE__SCOPE_FIRST 14
typedef struct gyre_scope {
  struct gyre_scope *gyre__outer;
  struct gyre__scope_more *gyre__more;
  uint32_t gyre__count; /* in the first or the last piece */
  uint32_t gyre__on;
  void *gyre__first[GYRE__SCOPE_FIRST];
} gyre_scope;

/* Begins and ends the calling thread's innermost scope. The struct is the caller's, mostly on its
 * stack. Ending releases what was kept, the last one first; that may run program code. Neither fails nor
 * allocates; any thread. */
GYRE_API void gyre_scope_begin(gyre_scope *scope);
GYRE_API void gyre_scope_end(gyre_scope *scope);

/* Gives the caller's reference to the innermost scope of this thread and returns the object, which is
 * good until that ends. NULL is allowed, and returned. If there is no memory to note it, the object is
 * released and the result NULL with errno ENOMEM (the first 14 of a scope need none); without a scope
 * likewise with EINVAL. The object is of any type. */
#define gyre_keep(object) GYRE__TYPED(__typeof__(object), gyre__keep(object))
GYRE_API void *gyre__keep(void *object);

GYRE_INLINE gyre_scope *gyre__scope_enter(gyre_scope *scope) {
  gyre_scope_begin(scope);
  return scope;
}

/* GYRE_SCOPE { ... }: the block is a scope. */
#define GYRE_SCOPE GYRE__SCOPE_ON(__LINE__)
#define GYRE__SCOPE_ON(line) GYRE__SCOPE_AS(line)
#define GYRE__SCOPE_AS(line) GYRE__SCOPE(gyre__scope_##line, gyre__scope_once_##line)
#define GYRE__SCOPE(s, once)                                                                       \
  for (gyre_scope s __attribute__((cleanup(gyre_scope_end))), *once = gyre__scope_enter(&s);       \
       once != NULL; once = NULL)

/* ---- regions ---- */

/* A region of raw memory. */
typedef struct gyre_region gyre_region;

/* Begins a region inside the calling thread's innermost one. NULL with errno ENOMEM. Attaches the
 * thread; not a safepoint. */
GYRE_API gyre_region *gyre_region_begin(void);

/* `size` bytes, aligned to 16, contents undefined; good until the region ends. 0 bytes give a distinct
 * address. NULL with errno ENOMEM. Only the thread that began the region. Mostly an addition; a piece that
 * does not fit into the present chunk gets a new one, of 4 KiB at first and up to 64, or of its own. */
GYRE_API void *gyre_region_alloc(gyre_region *region, size_t size)
    __attribute__((__malloc__, __alloc_size__(2)));

/* Has cleanup(arg) called when the region ends, before its memory goes. 0; -ENOMEM, or -EINVAL if it is
 * NULL: then nothing is noted, or called. */
GYRE_API int gyre_region_defer(gyre_region *region, void (*cleanup)(void *arg), void *arg);

/* Has the region release the caller's reference when it ends. 0, or -ENOMEM: the reference is still the
 * caller's. */
GYRE_API int gyre_region_keep(gyre_region *region, void *object);

/* Bytes that the region has taken from the heap. */
GYRE_API size_t gyre_region_size(const gyre_region *region);

/* Ends the region: calls the cleanups, the last one first, which may still use its memory and may defer
 * more, and frees all at once. Regions begun inside it that have not ended are ended first. NULL is
 * allowed. Only the thread that began it; may run program code. */
GYRE_API void gyre_region_end(gyre_region *region);

GYRE_INLINE void gyre__region_leave(gyre_region **region) { gyre_region_end(*region); }

/* GYRE_IN_REGION(r) { ... }: runs the block with a region r of its own; skips it if there is no memory for
 * one (errno ENOMEM). */
#define GYRE_IN_REGION(r)                                                                          \
  for (gyre_region * r __attribute__((cleanup(gyre__region_leave))) = gyre_region_begin();         \
       r != NULL; gyre_region_end(r), r = NULL)

GYRE_END_DECLS

#endif
