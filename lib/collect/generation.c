/* SPDX-License-Identifier: MIT */
/* When to collect what.
 *
 * Threads collect their young objects by themselves (young.c) and count here what they promote. The
 * older two generations are the collector's. The middle one is due when more than threshold 0 times
 * threshold 1 objects have been promoted: as many as can reach it, in CPython, in that number of
 * collections of the youngest. If a collection of the middle one finds next to nothing, which means
 * that objects die old in this program, twice as many have to come before the next.
 *
 * A full collection has to be worth it, and garbage must not wait too long. It is due when the middle
 * generation has been collected more than threshold 2 times and the objects promoted since the last
 * one exceed a quarter of those that survived that (CPython's rule: the total work while a large
 * structure is built is linear in its size); or at the latest when the bytes or objects promoted
 * since then, external bytes included, exceed a bound (options "gc_wait_bytes", "gc_wait_objects"). All
 * that can have become garbage since the last full collection was there then, or has been promoted
 * since; so the bound is one on the garbage that is made of new objects. Close to the soft limit the
 * bound shrinks.
 *
 * A thread that has shared nothing since then, whose objects nobody else has counted, and whose looks
 * (young.c) have all come to an end, would notice garbage among its promoted objects by itself. It keeps
 * their number to itself until that changes: a server whose threads each have their own heap in one
 * process is not traced at all.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "lib/collect/collect.h"

#define WAIT_BYTES_MIN ((uint64_t)16 << 20)
#define WAIT_OBJECTS_MIN ((uint64_t)500000)
#define SOFT_BYTES_MIN ((uint64_t)1 << 20)

static struct {
  /* Since the last collection of the middle generation or the full one. */
  gyre__atomic_u64 promoted;
  /* Since the last full one. */
  gyre__atomic_u64 newcomers;
  gyre__atomic_u64 newcomer_bytes;
  gyre__atomic_u64 external_bytes;
  /* [1], [2]: collections of the next younger generation since the last of this one. [0] is unused.
   */
  gyre__atomic_u32 runs[GYRE_GC_NGEN];
  /* -- written under the collector's lock -- */
  gyre__atomic_u64 full;
  /* What survived the last full collection. */
  gyre__atomic_u64 live;
  gyre__atomic_u64 live_bytes;
  /* By how much the middle generation's threshold is multiplied. */
  gyre__atomic_u64 patience;
} counts = {.patience = {1}};

/* relaxed: all of these are triggers, not decisions about memory; nothing is published with them. */
#define FIGURE(name) gyre__load_relaxed(&counts.name)

static uint64_t threshold(int generation) { return gyre__option(gc_threshold[generation]); }

void gyre__promoted(uint64_t objects, uint64_t bytes, bool looked) {
  /* relaxed: figures, as above. */
  if (looked) gyre__fetch_add_relaxed(&counts.runs[1], 1);
  if (objects == 0) return;
  /* relaxed: as above. */
  gyre__fetch_add_relaxed(&counts.promoted, objects);
  gyre__fetch_add_relaxed(&counts.newcomers, objects);
  gyre__fetch_add_relaxed(&counts.newcomer_bytes, bytes);
}

/* Held at 0: what goes may have been counted before the last collection, and what comes must not have
 * to make up for it (python/cpython#142048). */
static void figure_lower(gyre__atomic_u64 *figure, uint64_t by) {
  /* relaxed: a figure, as above. */
  uint64_t old = gyre__load_relaxed(figure);
  /* relaxed: as above. */
  while (!gyre__cas_weak_relaxed(figure, &old, old > by ? old - by : 0)) {
  }
}

void gyre__promoted_gone(uint64_t objects, uint64_t bytes) {
  figure_lower(&counts.promoted, objects);
  figure_lower(&counts.newcomers, objects);
  figure_lower(&counts.newcomer_bytes, bytes);
}

void gyre__generation_frozen(void) {
  /* relaxed: figures. */
  gyre__store_relaxed(&counts.promoted, 0);
  gyre__store_relaxed(&counts.newcomers, 0);
  gyre__store_relaxed(&counts.newcomer_bytes, 0);
  gyre__store_relaxed(&counts.live, 0);
  gyre__store_relaxed(&counts.live_bytes, 0);
  /* What threads have kept to themselves is frozen, too. */
  gyre__fetch_add_relaxed(&counts.full, 1);
}

uint64_t gyre__full_collections(void) { return FIGURE(full); }

/* ---- what may wait ---- */

void gyre__generation_waiting(uint64_t *bytes, uint64_t *objects) {
  *bytes = FIGURE(newcomer_bytes) + FIGURE(external_bytes);
  *objects = FIGURE(newcomers);
}

static uint64_t soft_room(void) {
  uint64_t limit = gyre__option(soft_limit);
  if (limit == 0) return UINT64_MAX;
  uint64_t used = gyre__heap_used_bytes();
  uint64_t room = used < limit ? (limit - used) / 2 : 0;
  return room > SOFT_BYTES_MIN ? room : SOFT_BYTES_MIN;
}

uint64_t gyre__waiting_bytes_bound(void) {
  uint64_t bound = gyre__option(gc_wait_bytes);
  if (bound == 0) {
    bound = FIGURE(live_bytes) / 4;
    if (bound < WAIT_BYTES_MIN) bound = WAIT_BYTES_MIN;
  }
  uint64_t room = soft_room();
  return bound < room ? bound : room;
}

uint64_t gyre__waiting_objects_bound(void) {
  uint64_t bound = gyre__option(gc_wait_objects);
  if (bound != 0) return bound;
  bound = FIGURE(live) / 4;
  return bound > WAIT_OBJECTS_MIN ? bound : WAIT_OBJECTS_MIN;
}

/* ---- what is due ---- */

static bool full_is_due(enum gyre__reason *reason) {
  uint64_t bytes, objects;
  gyre__generation_waiting(&bytes, &objects);
  *reason = GYRE__REASON_BYTES;
  if (gyre__memory_threshold_is_reached()) return true;
  if (objects == 0 && bytes == 0) return false;
  if (bytes > gyre__waiting_bytes_bound()) return true;
  *reason = GYRE__REASON_OBJECTS;
  if (objects > gyre__waiting_objects_bound()) return true;
  return FIGURE(runs[2]) > threshold(2) && objects > FIGURE(live) / 4;
}

static bool middle_is_due(void) {
  uint64_t base = threshold(0) * threshold(1);
  uint64_t promoted = FIGURE(promoted) + gyre__late_count();
  if (promoted <= base) return false;
  /* However patient: half of what may wait is worth a look. */
  return promoted > base * FIGURE(patience) || promoted > gyre__waiting_objects_bound() / 2;
}

int gyre__generation_due(enum gyre__reason *reason) {
  if (threshold(0) == 0 || !gyre__option(gc)) return -1;
  if (full_is_due(reason)) return GYRE_GC_NGEN - 1;
  *reason = GYRE__REASON_OBJECTS;
  return middle_is_due() ? GYRE_GC_NGEN - 2 : -1;
}

void gyre__generation_collected(struct gyre__collection *c) {
  int generation = c->generation;
  /* relaxed: figures; what is promoted meanwhile counts for the next collection. */
  for (int g = 1; g <= generation; g++)
    gyre__store_relaxed(&counts.runs[g], 0);
  if (generation + 1 < GYRE_GC_NGEN) gyre__fetch_add_relaxed(&counts.runs[generation + 1], 1);
  if (generation > 0) gyre__store_relaxed(&counts.promoted, 0);
  if (generation < GYRE_GC_NGEN - 1) return;
  /* relaxed: as above. */
  gyre__store_relaxed(&counts.newcomers, 0);
  gyre__store_relaxed(&counts.newcomer_bytes, 0);
  gyre__store_relaxed(&counts.external_bytes, 0);
  gyre__fetch_add_relaxed(&counts.full, 1);
  gyre__store_relaxed(&counts.live, c->survivors);
  gyre__store_relaxed(&counts.live_bytes,
                      c->members != 0 ? c->member_bytes / c->members * c->survivors : 0);
}

void gyre__generation_finished(const struct gyre__collection *c) {
  if (c->generation == GYRE_GC_NGEN - 1) gyre__memory_threshold_from_here();
  if (c->generation != GYRE_GC_NGEN - 2 || c->candidates == 0) return;
  uint64_t patience = FIGURE(patience);
  if (c->dead < c->candidates / 8)
    patience = patience < 64 ? 2 * patience : patience;
  else if (c->dead > c->candidates / 4)
    patience = patience > 1 ? patience / 2 : 1;
  /* relaxed: a setting of our own. */
  gyre__store_relaxed(&counts.patience, patience);
}

/* At a safepoint, after the thread asked itself to look. */
static void collect_due(struct gyre__thread *thread) {
  struct gyre__objects *self = (struct gyre__objects *)thread;
  uint64_t always = gyre__option(collect_always);
  bool automatic = gyre__option(gc) && threshold(0) != 0;
  if (automatic || always > 0) {
    gyre__young_collect(self, always > 0);
    gyre__young_look(self, always > 0);
  } else {
    gyre__young_plan(self);
  }
  gyre__young_report(self);
  enum gyre__reason reason = GYRE__REASON_ALWAYS;
  int generation = always > 0 ? (int)(always - 1) : gyre__generation_due(&reason);
  if (generation >= 0) {
    bool beside = gyre__option(gc_mode) == GYRE_GC_CONCURRENT && gyre__service_ask();
    if (!beside)
      (void)gyre__collect(self, generation, reason, false);
    else if (always == 0)
      gyre__service_pace(self);
  }
  if (always > 0) gyre__thread_request(thread, GYRE__REQ_COLLECT);
}

void gyre_external_bytes(const void *object, ptrdiff_t delta) {
  (void)object;
  struct gyre__objects *self = gyre__objects_self();
  uint64_t sum, old = FIGURE(external_bytes);
  do {
    /* Held at 0: what is given back now may be from before the last collection. */
    sum = delta < 0 && (uint64_t)-delta > old ? 0 : old + (uint64_t)delta;
    /* relaxed: a figure. */
  } while (!gyre__cas_weak_relaxed(&counts.external_bytes, &old, sum));
  if (sum > gyre__waiting_bytes_bound())
    gyre__thread_request(&self->heap.thread, GYRE__REQ_COLLECT);
}

/* ---- the controls ---- */

static int set_enabled(uint64_t on) { return (int)gyre__option_store(&gyre__options.gc, &on, 1); }

int gyre_gc_enable(void) { return set_enabled(1); }
int gyre_gc_disable(void) { return set_enabled(0); }
int gyre_gc_is_enabled(void) {
  gyre__options_init(); /* it may be the first that is asked */
  return (int)gyre__option(gc);
}

int gyre_gc_set_threshold(const int *values, size_t n) {
  if (values == NULL || n < 1 || n > GYRE_GC_NGEN) return -EINVAL;
  for (size_t i = 0; i < n; i++)
    if (values[i] < 0) return -EINVAL;
  uint64_t wanted[GYRE_GC_NGEN];
  for (size_t i = 0; i < n; i++)
    wanted[i] = (uint64_t)values[i];
  (void)gyre__option_store(gyre__options.gc_threshold, wanted, (unsigned)n);
  /* Other threads adapt when they have looked through their young objects next. */
  struct gyre__objects *self = (struct gyre__objects *)gyre__thread_self();
  if (self != NULL) gyre__young_plan(self);
  return 0;
}

int gyre_gc_get_threshold(int out[GYRE_GC_NGEN]) {
  if (out == NULL) return -EINVAL;
  gyre__options_init(); /* as above */
  for (int g = 0; g < GYRE_GC_NGEN; g++)
    out[g] = (int)threshold(g);
  return 0;
}

int gyre_gc_get_count(int out[GYRE_GC_NGEN]) {
  if (out == NULL) return -EINVAL;
  size_t young = 0;
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= count; id++)
    young += gyre__young_count((struct gyre__objects *)gyre__thread_slot(id));
  out[0] = young > INT_MAX ? INT_MAX : (int)young;
  /* relaxed: a pure look. */
  for (int g = 1; g < GYRE_GC_NGEN; g++)
    out[g] = (int)gyre__load_relaxed(&counts.runs[g]);
  return 0;
}

int gyre_gc_is_tracked(const void *object) {
  const gyre__header *h = gyre__header_of(object);
  /* relaxed: the answer is of some moment. 0 in static objects, which no collection looks at. */
  return gyre_type_of(object)->gyre__kind == GYRE__TRACKED && gyre__load_relaxed(&h->gc) != 0 &&
         !(gyre__load_relaxed(&h->bits) & GYRE__BIT_UNTRACKED);
}

int gyre_gc_is_finalized(const void *object) {
  /* relaxed: once started, always started. */
  return gyre_type_of(object)->finalize != NULL &&
         !(gyre__load_relaxed(&gyre__header_of(object)->bits) & GYRE__BIT_FINALIZE);
}

/* The end of an arena: nothing waits, nothing has survived. */
static void forget(void) {
  gyre__generation_frozen();
  /* relaxed: no thread is attached. */
  gyre__store_relaxed(&counts.external_bytes, 0);
  for (int g = 0; g < GYRE_GC_NGEN; g++)
    gyre__store_relaxed(&counts.runs[g], 0); /* relaxed: as above. */
}

static void __attribute__((constructor)) generation_init(void) {
  gyre__thread_hooks.collect = collect_due;
  gyre__forget_add(forget);
}
