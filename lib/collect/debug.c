/* SPDX-License-Identifier: MIT */
/* Debug flags, with the values and the texts of Python's gc module, written to the log:
 *
 *     gc: collecting generation 2...
 *     gc: objects in each generation: 120 0 5403
 *     gc: objects in permanent generation: 0
 *     gc: collectable <person 0x7f0a31c05040>
 *     gc: uncollectable <socket 0x7f0a31c07190>
 *     gc: done, 4 unreachable, 1 uncollectable, 0.0012s elapsed
 *
 * While a flag other than STATS is set, threads leave their young objects to the collector, so that all
 * garbage is seen by it.
 */
#include <errno.h>

#include "lib/collect/walk.h"

static gyre__atomic_u32 flags;

unsigned gyre_gc_get_debug(void) {
  /* relaxed: a setting. */
  return gyre__load_relaxed(&flags);
}

int gyre_gc_set_debug(unsigned set) {
  const unsigned known = GYRE_GC_DEBUG_STATS | GYRE_GC_DEBUG_LEAK;
  if (set & ~known) return -EINVAL;
  /* relaxed: a setting, for collections that begin from now on. */
  gyre__store_relaxed(&flags, set);
  return 0;
}

struct sizes {
  uint64_t generation[GYRE_GC_NGEN];
};

static int size_one(struct gyre__walk *w, gyre__header *h, struct gyre__page *page, uint32_t index,
                    void *arg) {
  (void)w, (void)index;
  struct gyre__census census;
  if (gyre__walk_census(h, page, &census) && census.tracked && !census.frozen)
    ((struct sizes *)arg)->generation[census.generation]++;
  return 0;
}

void gyre__debug_start(struct gyre__objects *self, int generation) {
  if (!(gyre_gc_get_debug() & GYRE_GC_DEBUG_STATS)) return;
  struct sizes s = {{0}};
  struct gyre__walk w;
  if (gyre__walk_begin(&w, self, GYRE__WALK_LOCKED) != 0) return;
  (void)gyre__walk_objects(&w, size_one, &s);
  gyre__walk_end(&w);
  gyre__log("gc: collecting generation %d...", generation);
  gyre__log("gc: objects in each generation: %llu %llu %llu", (unsigned long long)s.generation[0],
            (unsigned long long)s.generation[1], (unsigned long long)s.generation[2]);
  gyre__log("gc: objects in permanent generation: %td", gyre_gc_get_freeze_count());
}

void gyre__debug_stop(const struct gyre__collection *c, uint64_t duration_ns) {
  if (!(c->debug & GYRE_GC_DEBUG_STATS)) return;
  gyre__log("gc: done, %llu unreachable, %llu uncollectable, %.4fs elapsed",
            (unsigned long long)(c->dead + c->uncollectable), (unsigned long long)c->uncollectable,
            (double)duration_ns * 1e-9);
}
