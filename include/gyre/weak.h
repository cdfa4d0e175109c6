/* SPDX-License-Identifier: MIT */
/* gyre/weak.h: references that do not keep their object alive.
 *
 *     gyre_weak *w = gyre_weak_new(cache_entry, NULL, NULL);
 *     ...
 *     entry *e = gyre_weak_get(w);          // a strong reference, or NULL: never "test, then use"
 *     if (e != NULL) { use(e); gyre_release(e); }
 *     gyre_weak_free(w);
 *
 * An object dies in one order, whether its last count was dropped or the collector found it in a
 * dead cycle: its finalizer runs; if it is still unreferred to, its weak references go dead, all at
 * once; their callbacks run, the most recent first; then it is taken apart and freed. A weak
 * reference taken while the finalizer runs still yields the object and thereby rescues it.
 */
#ifndef GYRE_WEAK_H
#define GYRE_WEAK_H

#include <gyre/object.h>

GYRE_BEGIN_DECLS

/* A weak reference. */
typedef struct gyre_weak gyre_weak;

/* Called once when the object of `weak` has died, with the reference already dead. In the thread that
 * dropped the last count, inside that release; for objects found by the collector, in the collecting
 * thread while the others run. May call anything, gyre_weak_free(weak) included, but must not end or
 * detach the thread. Not called if the weak reference was freed first. It runs before the object's
 * destroy hook, so a reference that the object itself keeps and frees there is told of. */
typedef void gyre_weak_callback(gyre_weak *weak, void *arg);

/* A weak reference to `object`, of which the caller holds a counted one. Without a callback, all
 * share one per object (each call still needs its own gyre_weak_free). NULL with errno ENOMEM, or
 * EINVAL if object is NULL. Any thread; attaches it if need be; not a safepoint. */
GYRE_API gyre_weak *gyre_weak_new(void *object, gyre_weak_callback *callback, void *arg);

/* A counted reference to the object, the caller's now, or NULL if it is dead. Any thread, at any
 * time. Never a false NULL. */
GYRE_API void *gyre_weak_get(gyre_weak *weak);

/* 1 if the object is dead (it then stays so), else 0, which may be out of date at once. Changes
 * nothing. NULL counts as dead. */
GYRE_API int gyre_weak_is_dead(const gyre_weak *weak);

/* Gives up the weak reference; NULL is allowed. When it returns, its callback will not be called
 * any more; if it is being called by another thread right now, waits until it has returned
 * (parked), unless called from the callback itself. Any thread. */
GYRE_API void gyre_weak_free(gyre_weak *weak);

/* How many weak references `object` has (shared ones count once). Any thread holding a counted
 * reference. */
GYRE_API size_t gyre_weak_count(const void *object);

/* GYRE_WITH(person, p, weak) { ... }: runs the block with p a counted reference if the object
 * lives, and releases it at the end, however the block is left; skips it otherwise. */
#define GYRE_WITH(T, v, weak)                                                                      \
  for (GYRE_AUTO(T) v = (T *)gyre_weak_get(weak); v != NULL; gyre_release(v), v = NULL)

GYRE_END_DECLS

#endif
