/* SPDX-License-Identifier: MIT */
/* gyre/stats.h: figures: of the whole library in one struct, as text, JSON or OpenMetrics; and of what
 * an object holds.
 *
 *     struct gyre_stats s = {.size = sizeof s};
 *     gyre_stats_get(&s);
 *     if (s.heap_live_bytes > most) ...
 *
 *     gyre_stats_print(to_socket, connection, GYRE_STATS_OPENMETRICS);    // for Prometheus
 *
 * With GYRE_STATS=1 in the environment (option "stats") a process prints them on stderr as it ends.
 * lib/docs/statistics.md lists every figure. Each room's header has the same figures in a struct of its
 * own (gyre_thread_get_stats(), gyre_heap_get_stats(), gyre_gc_get_stats()), with more about what they
 * mean.
 *
 * Nothing here changes when collections happen.
 */
#ifndef GYRE_STATS_H
#define GYRE_STATS_H

#include <gyre/gc.h>

GYRE_BEGIN_DECLS

/* ---- all figures ------------------------------------------------------------------------------
 */

/* ONE(name, kind, unit, help) for each figure of the process, GEN(name, kind, unit, help) for each
 * that there is one of a generation. Kinds: a GAUGE goes up and down, a COUNTER only up. New ones
 * come at the end. */
#define GYRE_STATS_FIGURES(ONE, GEN)                                                               \
  ONE(threads_attached, GAUGE, THREADS, "Threads attached now, parked ones included")              \
  ONE(threads_parked, GAUGE, THREADS, "Threads attached and parked")                               \
  ONE(threads_orphans, GAUGE, SLOTS, "Slots of ended threads that wait for an heir")               \
  ONE(threads_slots, GAUGE, SLOTS, "Thread slots ever made")                                       \
  ONE(threads_grace_periods, COUNTER, NONE, "Grace periods completed")                             \
  ONE(threads_stops, COUNTER, NONE, "Times the world was stopped")                                 \
  ONE(threads_stalls, COUNTER, NONE, "Reports of a thread that passed no safepoint")               \
  ONE(threads_longest_stall_ns, GAUGE, NANOSECONDS, "Longest wait that was reported")              \
  ONE(heap_mapped_bytes, GAUGE, BYTES, "Address space of segments and large blocks")               \
  ONE(heap_committed_bytes, GAUGE, BYTES, "Memory in pages in use or kept, and large blocks")      \
  ONE(heap_active_bytes, GAUGE, BYTES, "Memory in pages and large blocks in use")                  \
  ONE(heap_cached_bytes, GAUGE, BYTES, "Memory kept for reuse")                                    \
  ONE(heap_large_bytes, GAUGE, BYTES, "Memory in large blocks")                                    \
  ONE(heap_live_bytes, GAUGE, BYTES, "Memory in blocks handed out, rounded up to their sizes")     \
  ONE(heap_live_blocks, GAUGE, BLOCKS, "Blocks handed out, objects included")                      \
  ONE(heap_resident_bytes, GAUGE, BYTES, "Most that may be in memory, metadata included")          \
  ONE(heap_retained_bytes, GAUGE, BYTES, "Address space without memory")                           \
  ONE(heap_metadata_bytes, GAUGE, BYTES, "Memory of the heap and its threads for themselves")      \
  ONE(heap_limit_bytes, GAUGE, BYTES, "Most that the heap may take, 0 for no limit")               \
  ONE(heap_purged_bytes, COUNTER, BYTES, "Memory given back to the system")                        \
  ONE(weak_referents, GAUGE, OBJECTS, "Objects that have weak references")                         \
  ONE(gc_enabled, GAUGE, NONE, "1 if collections are automatic")                                   \
  ONE(gc_concurrent, GAUGE, NONE, "1 if the collector works beside the program")                   \
  ONE(gc_young_objects, GAUGE, OBJECTS, "Objects in the logs of the young")                        \
  ONE(gc_waiting_objects, GAUGE, OBJECTS,                                                          \
      "Most objects that may be garbage since the last full collection")                           \
  ONE(gc_waiting_bytes, GAUGE, BYTES,                                                              \
      "Most bytes that may be garbage since the last full collection")                             \
  ONE(gc_young_max_ns, GAUGE, NANOSECONDS, "Longest collection of a thread's own young objects")   \
  ONE(gc_help_ns, COUNTER, NANOSECONDS, "Time that safepoints spent helping the collector")        \
  ONE(gc_wait_ns, COUNTER, NANOSECONDS, "Time that safepoints spent waiting for the collector")    \
  ONE(gc_waits, COUNTER, NONE, "Waits of safepoints for the collector")                            \
  GEN(gc_collections, COUNTER, NONE, "Collections")                                                \
  GEN(gc_collected, COUNTER, OBJECTS, "Unreachable objects reclaimed by the collector")            \
  GEN(gc_uncollectable, COUNTER, OBJECTS, "Unreachable objects that could not be reclaimed")       \
  GEN(gc_candidates, COUNTER, OBJECTS, "Objects considered by collections")                        \
  GEN(gc_finalized, COUNTER, OBJECTS, "Finalizers run by collections")                             \
  GEN(gc_resurrected, COUNTER, OBJECTS, "Unreachable objects that finalizers brought back")        \
  GEN(gc_freed_bytes, COUNTER, BYTES, "Memory freed by collections")                               \
  GEN(gc_duration_ns, COUNTER, NANOSECONDS, "Time in collections, pauses included")                \
  GEN(gc_pauses, COUNTER, NONE, "Times that other threads were stopped or held up")                \
  GEN(gc_pause_ns, COUNTER, NANOSECONDS, "Time that other threads were stopped or held up")        \
  GEN(gc_pause_min_ns, GAUGE, NANOSECONDS, "Shortest pause")                                       \
  GEN(gc_pause_max_ns, GAUGE, NANOSECONDS, "Longest pause")                                        \
  GEN(gc_pause_p50_ns, GAUGE, NANOSECONDS, "Median of the pauses")                                 \
  GEN(gc_pause_p99_ns, GAUGE, NANOSECONDS, "99th percentile of the pauses")                        \
  ONE(heap_peak_bytes, GAUGE, BYTES, "Most that heap_committed_bytes ever was")                    \
  ONE(traced_bytes, GAUGE, BYTES, "Bytes in living traced blocks")                                 \
  ONE(traced_peak_bytes, GAUGE, BYTES, "The most of these that there were")                        \
  ONE(tracer_bytes, GAUGE, BYTES, "Bytes that the tracer itself has from the system")

#define GYRE__STATS_ONE(name, kind, unit, help) uint64_t name;
#define GYRE__STATS_GEN(name, kind, unit, help) uint64_t name[GYRE_GC_NGEN];

/* The figures above, in that order: a uint64_t for each, or one for each generation. The caller sets
 * size = sizeof(struct gyre_stats). */
struct gyre_stats {
  size_t size;
  GYRE_STATS_FIGURES(GYRE__STATS_ONE, GYRE__STATS_GEN)
};

/* Fills *out, at most out->size bytes of it. Any thread; stops nobody, is no safepoint and allocates
 * nothing, so figures of running threads are approximate, and figures need not be of one moment. Looks at
 * every page of the calling thread and of parked ones, and at each slot. 0, or -EINVAL if out is NULL or
 * its size is 0. */
GYRE_API int gyre_stats_get(struct gyre_stats *out);

enum gyre_stats_kind { GYRE_STATS_GAUGE, GYRE_STATS_COUNTER };
enum gyre_stats_unit {
  GYRE_STATS_NONE,
  GYRE_STATS_BYTES,
  GYRE_STATS_NANOSECONDS,
  GYRE_STATS_BLOCKS,
  GYRE_STATS_OBJECTS,
  GYRE_STATS_THREADS,
  GYRE_STATS_SLOTS,
};

/* One of them. */
struct gyre_figure {
  size_t size;
  const char *name; /* of its field */
  const char *help;
  enum gyre_stats_kind kind;
  enum gyre_stats_unit unit;
  size_t count;           /* 1, or GYRE_GC_NGEN: one for each generation */
  const uint64_t *values; /* `count` of them, in the struct */
};

/* Calls visitor(figure, arg) for each figure in *stats, as gyre_stats_get() has filled it; a figure is
 * valid during the call. Stops when visitor returns other than 0. Any thread. 0, what visitor returned, or
 * -EINVAL if either is NULL. */
typedef int gyre_figure_visitor(const struct gyre_figure *figure, void *arg);
GYRE_API int gyre_stats_list(const struct gyre_stats *stats, gyre_figure_visitor *visitor,
                             void *arg);

/* ---- writing them ----------------------------------------------------------------------------- */

enum gyre_stats_format {
  GYRE_STATS_TEXT,       /* for people */
  GYRE_STATS_JSON,       /* one object; nanoseconds and bytes are whole numbers */
  GYRE_STATS_OPENMETRICS /* version 1.0: "# EOF" at the end, times in seconds */
};

/* Writes all figures, and those of each class of blocks (gyre_heap_list_classes()). As gyre_stats_get();
 * 6 KiB of stack and no memory. 0, -EINVAL for another format or a sink that is NULL, or see
 * gyre_text_sink. */
GYRE_API int gyre_stats_print(gyre_text_sink *sink, void *arg, enum gyre_stats_format format);

/* The same of the heap alone (Python's sys._debugmallocstats()). */
GYRE_API int gyre_malloc_stats_print(gyre_text_sink *sink, void *arg,
                                     enum gyre_stats_format format);

/* ---- what is alive ----------------------------------------------------------------------------
 */

/* Blocks that are handed out, objects included (sys.getallocatedblocks()): heap_live_blocks. As
 * gyre_stats_get(). */
GYRE_API size_t gyre_live_blocks(void);

/* Objects that are alive, whoever owns them, immortal ones included, static ones not. Exact for those that
 * nobody makes or destroys meanwhile. Looks at the header of every block of objects (some nanoseconds
 * each) while the program runs. A safepoint; waits, parked, for a collection that is under way, and for
 * each thread to pass a safepoint. -EAGAIN if the thread cannot attach, -ENOMEM. */
GYRE_API ptrdiff_t gyre_live_objects(void);

/* The sum of their counts (sys.gettotalrefcount(), here in every build), immortal ones left out. As
 * above. */
GYRE_API ptrdiff_t gyre_total_refs(void);

/* Decides for gyre_sizeof_deep() whether an object is to be left out, with all that is reached through
 * it alone: non-zero if so. Called with no lock held; may call anything but must not end or detach the
 * thread. */
typedef int gyre_stop_predicate(const void *object, void *arg);

/* gyre_sizeof() of the object and of all that is reached from it, each once. `stop` may be NULL; it is
 * not asked about `object`. Does not recurse. Takes a counted reference to each object it reaches until
 * the end: others' objects count as shared by threads from then on, and giving the references back may
 * run finalizers, if the program has dropped its own meanwhile. What is changed meanwhile by others is
 * counted as it is found. Objects with a visit function are locked one at a time: the caller must have
 * none of them locked; may park. Up to 48 bytes of memory an object, and half as much again while it grows. -ENOMEM, -EINVAL if object is NULL,
 * -EAGAIN if the thread cannot attach. */
GYRE_API ptrdiff_t gyre_sizeof_deep(const void *object, gyre_stop_predicate *stop, void *arg);

GYRE_END_DECLS

#endif
