/* SPDX-License-Identifier: MIT */
/* The figures of all rooms in one struct, and what each of them is: one table, GYRE_STATS_FIGURES in
 * the public header, is the struct, the descriptions, and what the writers (print.c) go by. */
#include <gyre/stats.h>
#include <gyre/trace.h>

#include <errno.h>
#include <string.h>

#include "lib/collect/collect.h"

/* ---- what there is ---- */

static const struct {
  const char *name;
  const char *help;
  enum gyre_stats_kind kind;
  enum gyre_stats_unit unit;
  size_t count;
  size_t offset;
} figures[] = {
#define ROW(name_, kind_, unit_, help_, count_)                                                    \
  {#name_,                                                                                         \
   help_,                                                                                          \
   GYRE_STATS_##kind_,                                                                             \
   GYRE_STATS_##unit_,                                                                             \
   count_,                                                                                         \
   offsetof(struct gyre_stats, name_)},
#define ROW_ONE(name, kind, unit, help) ROW(name, kind, unit, help, 1)
#define ROW_GEN(name, kind, unit, help) ROW(name, kind, unit, help, GYRE_GC_NGEN)
    GYRE_STATS_FIGURES(ROW_ONE, ROW_GEN)};

int gyre_stats_list(const struct gyre_stats *stats, gyre_figure_visitor *visitor, void *arg) {
  if (stats == NULL || visitor == NULL) return -EINVAL;
  for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
    /* A struct that an older program has made ends before the newer figures. */
    if (figures[i].offset + figures[i].count * sizeof(uint64_t) > stats->size) break;
    struct gyre_figure figure = {
        .size = sizeof figure,
        .name = figures[i].name,
        .help = figures[i].help,
        .kind = figures[i].kind,
        .unit = figures[i].unit,
        .count = figures[i].count,
        .values = (const uint64_t *)(const void *)((const char *)stats + figures[i].offset),
    };
    int stop = visitor(&figure, arg);
    if (stop != 0) return stop;
  }
  return 0;
}

/* ---- gathering ---- */

static void thread_figures(struct gyre_stats *out) {
  struct gyre_thread_stats t = {.size = sizeof t};
  (void)gyre_thread_get_stats(&t);
  out->threads_attached = t.attached;
  out->threads_parked = t.parked;
  out->threads_orphans = t.orphans;
  out->threads_slots = t.slots_high_water;
  out->threads_grace_periods = t.grace_periods;
  out->threads_stops = t.stops;
  out->threads_stalls = t.stalls;
  out->threads_longest_stall_ns = t.longest_stall_ns;
}

static void heap_figures(struct gyre_stats *out) {
  struct gyre_heap_stats h = {.size = sizeof h};
  (void)gyre_heap_get_stats(&h);
  out->heap_mapped_bytes = h.mapped_bytes;
  out->heap_committed_bytes = h.committed_bytes;
  out->heap_active_bytes = h.active_bytes;
  out->heap_cached_bytes = h.cached_bytes;
  out->heap_large_bytes = h.large_bytes;
  out->heap_live_bytes = h.live_bytes;
  out->heap_live_blocks = h.live_blocks;
  out->heap_resident_bytes = h.resident_bytes;
  out->heap_retained_bytes = h.retained_bytes;
  out->heap_metadata_bytes = h.metadata_bytes;
  out->heap_purged_bytes = h.purged_bytes;
  out->heap_peak_bytes = h.peak_bytes;
  out->heap_limit_bytes = gyre_heap_get_limit();
}

static void generation_figures(struct gyre_stats *out, int g) {
  struct gyre_gc_stats s = {.size = sizeof s};
  (void)gyre_gc_get_stats(g, &s);
  out->gc_collections[g] = s.collections;
  out->gc_collected[g] = s.collected;
  out->gc_uncollectable[g] = s.uncollectable;
  out->gc_candidates[g] = s.candidates;
  out->gc_finalized[g] = s.finalized;
  out->gc_resurrected[g] = s.resurrected;
  out->gc_freed_bytes[g] = s.freed_bytes;
  out->gc_duration_ns[g] = s.duration_ns;
  out->gc_pauses[g] = s.pauses;
  out->gc_pause_ns[g] = s.pause_total_ns;
  out->gc_pause_min_ns[g] = s.pause_min_ns;
  out->gc_pause_max_ns[g] = s.pause_max_ns;
  out->gc_pause_p50_ns[g] = s.pause_p50_ns;
  out->gc_pause_p99_ns[g] = s.pause_p99_ns;
  if (g == 0) out->gc_young_max_ns = s.young_max_ns;
  if (g < GYRE_GC_NGEN - 1) return;
  out->gc_help_ns = s.help_total_ns;
  out->gc_wait_ns = s.wait_total_ns;
  out->gc_waits = s.waits;
  out->gc_waiting_bytes = s.waiting_bytes;
  out->gc_waiting_objects = s.waiting_objects;
}

static void gc_figures(struct gyre_stats *out) {
  int count[GYRE_GC_NGEN];
  (void)gyre_gc_get_count(count);
  out->gc_young_objects = (uint64_t)count[0];
  out->gc_enabled = (uint64_t)gyre_gc_is_enabled();
  out->gc_concurrent = gyre_gc_get_mode() == GYRE_GC_CONCURRENT;
  for (int g = 0; g < GYRE_GC_NGEN; g++)
    generation_figures(out, g);
}

static void trace_figures(struct gyre_stats *out) {
  size_t now, peak;
  (void)gyre_trace_memory(&now, &peak);
  out->traced_bytes = now;
  out->traced_peak_bytes = peak;
  out->tracer_bytes = gyre_trace_overhead();
}

int gyre_stats_get(struct gyre_stats *out) {
  if (out == NULL || out->size == 0) return -EINVAL;
  struct gyre_stats stats = {.size = out->size};
  thread_figures(&stats);
  heap_figures(&stats);
  gc_figures(&stats);
  stats.weak_referents = gyre__weak_object_count();
  trace_figures(&stats);
  memcpy(out, &stats, out->size < sizeof stats ? out->size : sizeof stats);
  return 0;
}

size_t gyre_live_blocks(void) {
  struct gyre_heap_stats h = {.size = sizeof h};
  (void)gyre_heap_get_stats(&h);
  return h.live_blocks;
}
