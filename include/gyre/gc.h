/* SPDX-License-Identifier: MIT */
/* gyre/gc.h: the cycle collector and its controls.
 *
 * Counts free everything that is not in a cycle. The collector finds the rest: it copies the counts
 * of its candidates, subtracts the references they have among themselves, and what then has a count
 * left is referred to from outside and lives, with all that is reachable from it; the remainder is
 * garbage. (Trial deletion as in CPython's gc; Lins 1992, Bacon and Rajan 2001.)
 *
 * Objects have three generations. Generation 0, the young, is each thread's own: a thread looks
 * through what it has allocated at its own safepoints, in steps of some microseconds, and frees the
 * cycles that no other thread has ever got hold of. Everything else moves on to generation 1, and
 * belongs to the collector. What survives a collection of generation 1 is in generation 2.
 *
 * The collector works in one of two modes (gyre_gc_set_mode):
 *
 *   concurrent  the default: a service thread looks at the heap while the program runs, and nobody
 *               ever waits for it. It asks each thread three times a collection to pass a safepoint
 *               ("handshake"); in between two of these, counts take a slow path. Finalizers and
 *               callbacks run on the service thread.
 *   stw         the thread that notices that a collection is due makes it at its safepoint, while all
 *               others wait at theirs; finalizers and callbacks run after they were let go.
 *
 * A collection of generation 1 is due when more than threshold 0 times threshold 1 objects have
 * reached it; one of generation 2 after more than threshold 2 of those, if the newcomers exceed a
 * quarter of the objects that survived the last, or when more new memory than a bound has come
 * (options gc_wait_bytes, gc_wait_objects, soft_limit). If a program runs so far ahead of the collector
 * that twice as much is waiting, its safepoints help with the collector's work and then wait for a
 * while (option pace_ms); after that the heap grows.
 *
 * Option "rc:off" (GYRE_RC=off) has counts free nothing: what they would free waits for the next collection, of
 * whatever generation. Finalizers run late then, and weak references linger, as in an implementation that only
 * traces: for finding out whether a program depends on prompt freeing.
 *
 * The names follow Python's gc module.
 */
#ifndef GYRE_GC_H
#define GYRE_GC_H

#include <gyre/weak.h>

GYRE_BEGIN_DECLS

#define GYRE_GC_NGEN 3

/* Turns automatic collection on or off for the process; explicit ones still work. Returns the state
 * before, 0 or 1. Any thread. */
GYRE_API int gyre_gc_enable(void);
GYRE_API int gyre_gc_disable(void);
GYRE_API int gyre_gc_is_enabled(void);

/* How the collector works: see above. */
enum gyre_gc_mode { GYRE_GC_CONCURRENT, GYRE_GC_STW };

/* Sets the mode, for collections that begin from now on. Any thread. 0, or -EINVAL. */
GYRE_API int gyre_gc_set_mode(enum gyre_gc_mode mode);
GYRE_API enum gyre_gc_mode gyre_gc_get_mode(void);

/* Collects `generation` (0 to 2) and all younger ones, now, in the calling thread: a safepoint.
 * In mode stw, stops the other threads for a while; in mode concurrent, waits for each to pass a
 * safepoint, some times, while they run. Then runs finalizers, weak callbacks and destroy hooks here.
 * If another thread is collecting, waits for it first. When it returns, everything in those
 * generations that was unreachable at the call has been found. Returns the number of unreachable
 * objects that were reclaimed, or found uncollectable, without those that other threads' collections
 * found first; 0 at once if called from inside a collection (a
 * finalizer or callback that it runs); objects that only option "rc:off" kept are found, too, but not in
 * the number; -EINVAL for another generation; -ENOMEM if there was no memory to work
 * with: nothing has changed then, or some garbage has been reclaimed and some been left; -EAGAIN if the thread cannot attach. */
GYRE_API ptrdiff_t gyre_gc_collect(int generation);

enum {
  GYRE_GC_NOWAIT =
      1u << 0, /* -EBUSY at once if another thread is collecting or looks at the heap */
  GYRE_GC_IF_ENABLED = 1u << 1, /* do nothing if automatic collection is off */
  GYRE_GC_PURGE = 1u << 2,      /* give empty pages back to the system afterwards */
};

/* What a collection has done. The caller sets size = sizeof(struct gyre_gc_result). */
struct gyre_gc_result {
  size_t size;
  uint64_t collected;
  uint64_t uncollectable;
  uint64_t candidates; /* objects considered */
  uint64_t finalized;
  uint64_t resurrected;
  uint64_t freed_bytes;
  uint64_t duration_ns;
};

/* gyre_gc_collect() with flags; fills *out, at most out->size bytes of it, unless out is NULL. 0, also if
 * there was nothing to do; -EBUSY only with GYRE_GC_NOWAIT; -EINVAL for unknown flags or a size of 0;
 * errors as above, and *out is untouched then. */
GYRE_API int gyre_gc_collect_ex(int generation, unsigned flags, struct gyre_gc_result *out);

/* Sets the first n (1 to 3) thresholds; see above for what they do. The first is also the most young
 * objects that a thread gathers before it looks through them; 0 turns automatic collection off. 0, or
 * -EINVAL for negative values, another n or NULL. Defaults: 2000, 10, 10. Any thread. */
GYRE_API int gyre_gc_set_threshold(const int *threshold, size_t n);
GYRE_API int gyre_gc_get_threshold(int out[GYRE_GC_NGEN]);

/* out[0]: young objects, as far as the threads' logs tell (which may hold some that have died);
 * out[1], out[2]: collections of the next younger generation since the last of this one, by whichever
 * thread. Any thread; a pure read. 0, or -EINVAL. */
GYRE_API int gyre_gc_get_count(int out[GYRE_GC_NGEN]);

/* Figures of one generation. The caller sets size = sizeof(struct gyre_gc_stats). */
struct gyre_gc_stats {
  size_t size;
  uint64_t collections;
  uint64_t collected;     /* objects reclaimed */
  uint64_t uncollectable; /* see GYRE_TYPE_MANUAL_FINALIZE */
  uint64_t candidates;    /* objects considered */
  uint64_t finalized;     /* finalizers run */
  /* Unreachable objects that finalizers brought back, or that wait for one that is queued; with all they
   * reach. */
  uint64_t resurrected;
  uint64_t freed_bytes;
  uint64_t duration_ns; /* in collections, pauses included */
  /* How long the other threads were stopped, one figure a stop. Generation 2 has the times, too, that
   * safepoints spent helping a collector that was behind, or waiting for it. */
  uint64_t pauses;
  uint64_t pause_total_ns;
  uint64_t pause_min_ns;
  uint64_t pause_max_ns;
  uint64_t pause_p50_ns; /* quantiles within 1/8 of the value */
  uint64_t pause_p99_ns;
  /* Generation 0: the longest that a thread spent in a collection of its own young objects. */
  uint64_t young_max_ns;
  /* Generation 2: of the pauses, those spent helping and those spent waiting for the collector. */
  uint64_t help_total_ns;
  uint64_t wait_total_ns;
  uint64_t waits;
  /* Generation 2: bytes and objects that may have become garbage since the last full collection, at
   * most. */
  uint64_t waiting_bytes;
  uint64_t waiting_objects;
};

/* Fills *out, at most out->size bytes of it. Any thread. 0, or -EINVAL. */
GYRE_API int gyre_gc_get_stats(int generation, struct gyre_gc_stats *out);

/* What a gc callback is told. */
enum gyre_gc_phase { GYRE_GC_START, GYRE_GC_STOP };
struct gyre_gc_info {
  size_t size;
  int generation;
  /* All 0 at GYRE_GC_START. */
  uint64_t collected;
  uint64_t uncollectable;
  uint64_t candidates;
  uint64_t duration_ns;
};
typedef void gyre_gc_callback(enum gyre_gc_phase phase, const struct gyre_gc_info *info, void *arg);

/* Has `callback` called at the start and the end of each collection (not of those in gyre_fini()),
 * in the collecting thread, while the others run and no lock is held. *id, if id is not NULL, names
 * it for removal. May be called from a callback; a callback added during a collection is first told
 * of the next. 0, -EINVAL or -ENOMEM. Any thread. */
GYRE_API int gyre_gc_add_callback(gyre_gc_callback *callback, void *arg, uint64_t *id);

/* Removes a callback; when it returns, the callback is not running in another thread and will not
 * run again (the wait is parked). 0, or -ENOENT. Any thread. */
GYRE_API int gyre_gc_remove_callback(uint64_t id);

/* Says that `object` has come to hold `delta` bytes of memory, or of something else as dear, that this
 * library does not see; negative when it gives them up. They count as bytes that wait for the
 * collector. Any thread; attaches it if need be; not a safepoint. */
GYRE_API void gyre_external_bytes(const void *object, ptrdiff_t delta);

/* Makes the calling thread the service thread: returns 0 after gyre_service_stop() or gyre_fini() was
 * called in another thread, -EBUSY if there is a service thread already, or -EAGAIN if the thread
 * cannot attach. Finalizers and callbacks run in here. Otherwise the library starts a thread of its
 * own, named "gyre-service", when it first needs it. */
GYRE_API int gyre_service_run(void);

/* Ends the service thread, of whichever kind, and waits (parked) until it has ended; a collection that
 * is under way is finished first. The library starts another when it needs one. Any thread but the
 * service thread itself, where it does nothing. */
GYRE_API void gyre_service_stop(void);

/* ---- questions with objects for answers ----
 *
 * These look at the whole heap: in mode concurrent while the program runs, so that what changes meanwhile
 * may be seen as it was or as it is; in mode stw while it is stopped. They take memory in proportion to the
 * heap (four bytes an object) while they are at it, wait (parked) for a collection that is under way, are
 * safepoints, and return -EBUSY inside a collection (in a finalizer or callback that it runs), -ENOMEM, or
 * -EAGAIN if the thread cannot attach; *out is untouched then, and nothing has changed. Any thread.
 *
 * An object that its thread has only just made is not shown as long as it may be half-built: until
 * something refers to it, or it refers to something, or it was retained, or a collection of its thread's
 * young objects has come by, or gyre_gc_track() shows it. */

/* A list of counted references, the receiver's. */
typedef struct gyre_objlist {
  size_t count;
  void **items;
} gyre_objlist;

/* Releases the references and frees the list; NULL is allowed. May do all that gyre_release() may, and
 * passes safepoints if the list is long. To keep a reference, take it out and leave NULL. */
GYRE_API void gyre_objlist_free(gyre_objlist *list);

/* *out: a new list of the tracked objects of a generation (-1: of all), without the frozen ones. Returns
 * how many; -EINVAL for another generation. */
GYRE_API ptrdiff_t gyre_gc_get_objects(int generation, gyre_objlist **out);

/* *out: a new list of the tracked objects that refer directly to any of the n objects, frozen and dead
 * but uncollected ones included; each once. The caller holds the objects counted. An object of a type
 * with `visit` that is locked at the moment is left out. Returns how many. */
GYRE_API ptrdiff_t gyre_gc_get_referrers(void *const *objects, size_t n, gyre_objlist **out);

/* *out: a new list of what the n objects refer to directly, as often as they do. The caller holds the
 * objects counted; NULL among them is passed over. Takes the locks of objects with `visit`, but looks at
 * nothing else of the heap: works in a collection too. Passes safepoints. Returns how many. */
GYRE_API ptrdiff_t gyre_gc_get_referents(void *const *objects, size_t n, gyre_objlist **out);

/* Called with a borrowed reference. Non-zero ends the visit; positive, to be told from errors. */
typedef int gyre_gc_visit_callback(void *object, void *arg);

/* Calls callback(object, arg) for each tracked object there was at some time in the call, frozen ones
 * included. It may do anything: it gets them from a list. 0, what the callback returned if that was not 0,
 * or an error as above; -EINVAL if the callback is NULL. */
GYRE_API int gyre_gc_visit_objects(gyre_gc_visit_callback *callback, void *arg);

/* ---- garbage on request ---- */

/* Debug flags, with Python's values. The texts go to the log (gyre_set_log). */
enum {
  GYRE_GC_DEBUG_STATS = 1,         /* sizes before a collection, what was found after it */
  GYRE_GC_DEBUG_COLLECTABLE = 2,   /* a line for each object that is collected */
  GYRE_GC_DEBUG_UNCOLLECTABLE = 4, /* and for each that is uncollectable */
  GYRE_GC_DEBUG_SAVEALL = 32,      /* keep what would be freed on the list below */
  GYRE_GC_DEBUG_LEAK = 38          /* the last three */
};

/* Sets the flags, for collections that begin from now on. While others than STATS are set, threads do not
 * collect their own objects: all garbage is left to the collector. 0, or -EINVAL for unknown bits. Any
 * thread. */
GYRE_API int gyre_gc_set_debug(unsigned flags);
GYRE_API unsigned gyre_gc_get_debug(void);

/* Uncollectable objects (GYRE_TYPE_MANUAL_FINALIZE), and with SAVEALL all that was found dead, are put onto
 * a list with a reference; their weak references stay. A program that takes them breaks their cycles, or
 * they are found again. */

/* How many are on the list. Any thread; a pure read. */
GYRE_API ptrdiff_t gyre_gc_garbage_count(void);
/* Moves them to a new list, *out. Returns how many; -ENOMEM or -EINVAL. Any thread. */
GYRE_API ptrdiff_t gyre_gc_take_garbage(gyre_objlist **out);
/* Releases them; may do all that gyre_release() may. Returns how many there were, or -ENOMEM. */
GYRE_API ptrdiff_t gyre_gc_clear_garbage(void);

/* ---- freezing ----
 *
 * For programs that make a large heap once and then fork: disable early, freeze just before the fork, and
 * enable in the child. No collection looks at frozen objects, so none writes to their memory. */

/* Moves all that is tracked, garbage included, to a permanent set that no collection looks at and
 * gyre_gc_get_objects() does not show; they still die by their counts. Stops the other threads for as long
 * as that takes. Returns how many were frozen by this call; -EBUSY inside a collection, -ENOMEM and then
 * nothing has changed, -EAGAIN if the thread cannot attach. Any thread; a safepoint. */
GYRE_API ptrdiff_t gyre_gc_freeze(void);

enum {
  /* A full collection first; garbage would stay until unfrozen. */
  GYRE_FREEZE_COLLECT_FIRST = 1u << 0,
  /* The counts of all objects there are, of leaves too, are kept outside of them from now on (4 bytes
   * each, touched when an object is first counted), so that memory that is only read stays shared with a
   * forked process. Counting is slower by a look-up, and none of the objects dies, until unfrozen. */
  GYRE_FREEZE_STOP_COUNTING = 1u << 1,
};
/* The same with flags; -EINVAL for unknown ones. May run finalizers with the first. */
GYRE_API ptrdiff_t gyre_gc_freeze_ex(unsigned flags);

/* Puts all frozen objects into the oldest generation. Counts that were stopped are as if they had not been;
 * objects without references die here. Stops the other threads meanwhile. Returns how many were frozen;
 * errors as above. May run finalizers and callbacks, if counts were stopped. */
GYRE_API ptrdiff_t gyre_gc_unfreeze(void);

/* How many frozen objects there are. Any thread; a pure read. */
GYRE_API ptrdiff_t gyre_gc_get_freeze_count(void);

/* ---- single objects ---- */

/* 1 if the collector looks at the object: its type has slots or a visit function, and it is neither
 * untracked nor static (as the empty tuple is); else 0. */
GYRE_API int gyre_gc_is_tracked(const void *object);

/* Has the collector leave the object alone, or look at it again. What an untracked object refers to counts
 * as referred to from outside, and it is not found dead in a cycle; it dies by its count as ever. Tracking
 * a new object also shows it to the questions above. 0; -EINVAL if the type has nothing to look at; -EPERM
 * if the object is another thread's (its maker's, who has not shared it and still counts for it alone). No
 * safepoint, no memory. */
GYRE_API int gyre_gc_untrack(void *object);
GYRE_API int gyre_gc_track(void *object);

/* 1 if the object's finalizer has been started, else 0. */
GYRE_API int gyre_gc_is_finalized(const void *object);

/* Ends the use of the library for now: calls what is registered with gyre_finalize_new(), the newest
 * first, finishes pending releases, runs a last full collection without gc callbacks, and gives empty pages back. With option "leaks:1" (the default in debug
 * builds) it reports objects that are still alive, by type, to the log. The other threads must have
 * detached or be parked; the caller detaches. The library may be used again afterwards. Returns the
 * number of objects still alive, immortal ones not counted, or -EBUSY if another thread is running.
 */
GYRE_API ptrdiff_t gyre_fini(void);

GYRE_END_DECLS

#endif
