/* SPDX-License-Identifier: MIT */
/* When to collect what.
 *
 * Threads count the tracked objects they allocate less those they free, and report every few
 * hundred to one counter. When that exceeds the first threshold, the reporting thread asks itself
 * to collect at its next safepoint. Which generation: the oldest whose counter exceeds its
 * threshold, as in CPython, except that a full collection has to be worth it: the objects that
 * reached the oldest generation since the last one must exceed a quarter of those that survived it.
 * So the total work while a large structure is built is linear in its size, not quadratic.
 *
 * The counter may fall below 0 when older objects are freed; it is held at 0, because otherwise the
 * garbage that comes next would have to make up for it first (python/cpython#142048).
 */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "lib/collect/collect.h"

#define REPORT_MAX 256

static struct {
  /* Net tracked objects allocated since the last collection, as reported. */
  gyre__atomic_u64 young;
  /* [1], [2]: collections of the next younger generation since the last of this one. [0] is unused.
   */
  gyre__atomic_u32 runs[GYRE_GC_NGEN];
  /* Objects that survived the last full collection, and that reached the oldest generation since.
   * Collector's lock. */
  uint64_t long_lived_total;
  uint64_t long_lived_pending;
} counts;

static int threshold(int generation) { return (int)gyre__option(gc_threshold[generation]); }

/* How many a thread may keep to itself: a fraction of the threshold, so that it is kept to with
 * several threads. */
static int32_t report_limit(void) {
  int32_t limit = threshold(0) / 8;
  return limit < 1 ? 1 : limit > REPORT_MAX ? REPORT_MAX : limit;
}

static bool is_due(void) {
  int first = threshold(0);
  /* relaxed: a trigger, not a decision about memory. */
  return first > 0 && gyre__option(gc) && gyre__load_relaxed(&counts.young) > (uint64_t)first;
}

/* A thread's own count has reached its limit. */
static void report(struct gyre__objects *self) {
  /* relaxed: this thread's own figure. */
  int64_t net = (int32_t)gyre__load_relaxed(&self->gc_net);
  gyre__store_relaxed(&self->gc_net, 0);
  gyre__store_relaxed(&self->gc_limit, (uint32_t)report_limit());
  /* relaxed: a statistic that triggers; nothing is published with it. */
  uint64_t young = gyre__load_relaxed(&counts.young);
  uint64_t next;
  do {
    next = net < 0 && (uint64_t)-net > young ? 0 : young + (uint64_t)net;
    /* relaxed: as above. */
  } while (!gyre__cas_weak_relaxed(&counts.young, &young, next));
  if (is_due() || gyre__option(collect_always))
    gyre__thread_request(&self->heap.thread, GYRE__REQ_COLLECT);
}

int gyre__generation_due(void) {
  if (!is_due()) return -1;
  for (int generation = GYRE_GC_NGEN - 1; generation > 0; generation--) {
    /* relaxed: written under the collector's lock, by whoever collects. */
    if (gyre__load_relaxed(&counts.runs[generation]) <= (uint32_t)threshold(generation)) continue;
    if (generation == GYRE_GC_NGEN - 1 && counts.long_lived_pending <= counts.long_lived_total / 4)
      continue;
    return generation;
  }
  return 0;
}

/* What threads have kept to themselves is from before the collection too. */
static void forget_unreported(void) {
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= count; id++)
    /* relaxed: the world is stopped. */
    gyre__store_relaxed(&((struct gyre__objects *)gyre__thread_slot(id))->gc_net, 0);
}

void gyre__generation_collected(int generation, uint64_t survivors) {
  forget_unreported();
  /* relaxed: the world is stopped, and these are under the collector's lock. */
  gyre__store_relaxed(&counts.young, 0);
  for (int g = 1; g <= generation; g++)
    gyre__store_relaxed(&counts.runs[g], 0);
  /* relaxed: under the collector's lock. */
  if (generation + 1 < GYRE_GC_NGEN) gyre__fetch_add_relaxed(&counts.runs[generation + 1], 1);
  if (generation == GYRE_GC_NGEN - 1) {
    counts.long_lived_total = survivors;
    counts.long_lived_pending = 0;
  } else if (generation == GYRE_GC_NGEN - 2) {
    counts.long_lived_pending += survivors;
  }
}

/* At a safepoint, after the thread asked itself to collect. */
static void collect_due(struct gyre__thread *thread) {
  struct gyre__objects *self = (struct gyre__objects *)thread;
  uint64_t always = gyre__option(collect_always);
  int generation = always > 0 ? (int)(always - 1) : gyre__generation_due();
  if (generation >= 0) gyre__collect(self, generation, false, false);
  if (always > 0) gyre__thread_request(thread, GYRE__REQ_COLLECT);
}

/* ---- the controls ---- */

static int set_enabled(uint64_t on) {
  gyre__options_init();
  /* acq_rel: of two calls at once, one sees the other's state; pairs with itself. */
  return (int)gyre__exchange_acq_rel(&gyre__options.gc, on);
}

int gyre_gc_enable(void) { return set_enabled(1); }
int gyre_gc_disable(void) { return set_enabled(0); }
int gyre_gc_is_enabled(void) { return (int)gyre__option(gc); }

int gyre_gc_set_threshold(const int *values, size_t n) {
  if (values == NULL || n < 1 || n > GYRE_GC_NGEN) return -EINVAL;
  for (size_t i = 0; i < n; i++)
    if (values[i] < 0) return -EINVAL;
  gyre__options_init();
  /* relaxed: settings. */
  for (size_t i = 0; i < n; i++)
    gyre__store_relaxed(&gyre__options.gc_threshold[i], (uint64_t)values[i]);
  int32_t limit = report_limit();
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= count; id++)
    /* relaxed: a setting. */
    gyre__store_relaxed(&((struct gyre__objects *)gyre__thread_slot(id))->gc_limit,
                        (uint32_t)limit);
  return 0;
}

int gyre_gc_get_threshold(int out[GYRE_GC_NGEN]) {
  if (out == NULL) return -EINVAL;
  for (int g = 0; g < GYRE_GC_NGEN; g++)
    out[g] = threshold(g);
  return 0;
}

int gyre_gc_get_count(int out[GYRE_GC_NGEN]) {
  if (out == NULL) return -EINVAL;
  /* relaxed: a pure look. */
  int64_t young = (int64_t)gyre__load_relaxed(&counts.young);
  struct gyre__objects *self = (struct gyre__objects *)gyre__thread_current();
  /* relaxed: our own. */
  if (self != NULL) young += (int32_t)gyre__load_relaxed(&self->gc_net);
  out[0] = young < 0 ? 0 : young > INT_MAX ? INT_MAX : (int)young;
  /* relaxed: a pure look. */
  for (int g = 1; g < GYRE_GC_NGEN; g++)
    out[g] = (int)gyre__load_relaxed(&counts.runs[g]);
  return 0;
}

int gyre_gc_is_tracked(const void *object) {
  return gyre_type_of(object)->gyre__kind == GYRE__TRACKED;
}

int gyre_gc_is_finalized(const void *object) {
  /* relaxed: once started, always started. */
  return gyre_type_of(object)->finalize != NULL &&
         !(gyre__load_relaxed(&gyre__header_of(object)->bits) & GYRE__BIT_FINALIZE);
}

static void __attribute__((constructor)) generation_init(void) {
  gyre__object_hooks.gc_count = report;
  gyre__thread_hooks.collect = collect_due;
}
