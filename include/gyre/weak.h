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
 * time. Never a false NULL. Lock-free, except from the end of a collection's logging to its own end. If
 * the object dies at the same moment, giving back what was counted in vain may drop the last reference
 * of another one, with all that gyre_release() may do. */
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

/* One of an object's weak references, for looking at: whose it is, the program knows. */
struct gyre_weak_info {
  gyre_weak *weak;
  gyre_weak_callback *callback; /* NULL: the shared one */
  void *arg;
};

/* Writes at most `room` of the object's weak references to `out`, the shared one first, then those with
 * callbacks, the most recent first, and returns how many there are. They stay those of who made them, who
 * may free them at any time. Those that maps, sets and gyre_finalize_new() keep are not among them.
 * Any thread holding a counted reference. */
GYRE_API size_t gyre_weak_list(const void *object, struct gyre_weak_info *out, size_t room);

/* A number for the object that `weak` is about: the same for all its weak references, also when it is
 * dead, and never given to another object of this process. To hash and compare weak references by. */
GYRE_API uint64_t gyre_weak_id(const gyre_weak *weak);

/* GYRE_WITH(person, p, weak) { ... }: runs the block with p a counted reference if the object
 * lives, and releases it at the end, however the block is left; skips it otherwise. */
#define GYRE_WITH(T, v, weak)                                                                      \
  for (GYRE_AUTO(T) v = (T *)gyre_weak_get(weak); v != NULL; gyre_release(v), v = NULL)

/* ---- closures ---------------------------------------------------------------------------------
 *
 * A function and an object that it does not keep alive: for listeners and timers, which are forgotten
 * when the object is gone. (Python's WeakMethod.) */

typedef void gyre_weak_function(void *self, void *arg);

typedef struct gyre_weak_closure {
  gyre_weak_function *fn;
  gyre_weak *self;
} gyre_weak_closure;

/* Fills a closure; the caller holds `self` counted. 0, -EINVAL if something is NULL, or -ENOMEM. */
GYRE_API int gyre_weak_closure_init(gyre_weak_closure *closure, gyre_weak_function *fn, void *self);

/* If the object lives, calls fn(self, arg), with a counted reference held meanwhile, and returns 1;
 * otherwise 0. Any thread; several at once too. */
GYRE_API int gyre_weak_call(const gyre_weak_closure *closure, void *arg);

/* Gives up what the closure holds. Nobody calls it at the same time. A zeroed one is allowed. */
GYRE_API void gyre_weak_closure_clear(gyre_weak_closure *closure);

/* ---- finalize ---------------------------------------------------------------------------------
 *
 * A function that is called once: when an object has died, or by hand, or by gyre_fini(), whichever
 * comes first. The library keeps the registration, so there is nothing to hold on to. (Python's
 * weakref.finalize.)
 *
 *     gyre_finalize_free(gyre_finalize_new(session, remove_directory, strdup(path), free));
 *
 * `arg` must not hold the object, or it never dies. Any thread may call all of these. */

typedef struct gyre_finalize gyre_finalize;

/* When called by a death or at exit, a result that is not 0 is reported to the log. */
typedef int gyre_finalize_function(void *arg);

enum {
  /* gyre_fini() calls it, if nothing else has. The default. */
  GYRE_FINALIZE_AT_EXIT = 1,
  /* Beside that: also gyre_fini() in a child that was forked since. Without it, the child leaves to its
   * parent what its parent has registered. */
  GYRE_FINALIZE_IN_CHILD = 2,
};

/* Registers fn(arg) for `object`, of which the caller holds a counted reference. After the call, or when
 * it was called, arg_free(arg) follows, unless it is NULL. A death calls it where weak callbacks are
 * called: in the releasing or collecting thread. Returns a handle, to be given up with
 * gyre_finalize_free(), at once if need be; NULL with errno ENOMEM, or EINVAL if object or fn is NULL. */
GYRE_API gyre_finalize *gyre_finalize_new(void *object, gyre_finalize_function *fn, void *arg,
                                          void (*arg_free)(void *arg));

/* Gives up the handle, not the registration. NULL is allowed. */
GYRE_API void gyre_finalize_free(gyre_finalize *f);

/* 1 while nobody has called or detached it, else 0; may be out of date at once. */
GYRE_API int gyre_finalize_alive(const gyre_finalize *f);

/* Calls the function now, if it is alive: 1, with its result in *result (which may be NULL). 0 if it has
 * been called, is being called, or was detached. */
GYRE_API int gyre_finalize_call(gyre_finalize *f, int *result);

/* What is registered. */
struct gyre_finalize_info {
  void *object; /* counted: the caller's */
  gyre_finalize_function *fn;
  void *arg;
  void (*arg_free)(void *arg);
};

/* If it is alive and so is the object: 1, and what is registered in *out. The argument stays the
 * registration's. 0 otherwise. `out` may be NULL. */
GYRE_API int gyre_finalize_peek(gyre_finalize *f, struct gyre_finalize_info *out);

/* The same, and ends the registration: it will not be called, and arg is the caller's. */
GYRE_API int gyre_finalize_detach(gyre_finalize *f, struct gyre_finalize_info *out);

/* Sets what gyre_fini() does with it: 0 for nothing, or GYRE_FINALIZE_AT_EXIT with or without
 * GYRE_FINALIZE_IN_CHILD. Returns the flags before; -EINVAL for others. */
GYRE_API int gyre_finalize_set_atexit(gyre_finalize *f, unsigned flags);

GYRE_END_DECLS

#endif
