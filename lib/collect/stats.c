/* SPDX-License-Identifier: MIT */
/* Figures of collections. Pauses go into a histogram with eight buckets to each doubling, so that a
 * quantile read from it is within an eighth of the truth, whatever the range. */
#include <errno.h>
#include <string.h>

#include "lib/base/probe.h"
#include "lib/collect/collect.h"

#define OCTAVE 8
#define BUCKETS (62 * OCTAVE)

static struct {
  gyre__lock lock;
  struct figures {
    struct gyre_gc_stats stats;
    uint64_t pauses[BUCKETS];
  } generation[GYRE_GC_NGEN];
} figures;

static unsigned bucket_of(uint64_t ns) {
  if (ns < OCTAVE) return (unsigned)ns;
  unsigned high = 63u - (unsigned)__builtin_clzll((unsigned long long)ns);
  return (high - 2) * OCTAVE + (unsigned)(ns >> (high - 3) & (OCTAVE - 1));
}

/* The largest value that falls into a bucket. */
static uint64_t bucket_top(unsigned bucket) {
  if (bucket < OCTAVE) return bucket;
  unsigned high = bucket / OCTAVE + 2;
  uint64_t step = (uint64_t)1 << (high - 3);
  return ((uint64_t)1 << high) + (bucket % OCTAVE + 1) * step - 1;
}

static uint64_t quantile(const struct figures *f, uint64_t percent) {
  uint64_t rank = (f->stats.pauses * percent + 99) / 100;
  uint64_t seen = 0;
  for (unsigned b = 0; b < BUCKETS; b++) {
    seen += f->pauses[b];
    if (seen >= rank && seen > 0)
      return bucket_top(b) < f->stats.pause_max_ns ? bucket_top(b) : f->stats.pause_max_ns;
  }
  return 0;
}

void gyre__stats_pause(int generation, uint64_t ns) {
  GYRE_PROBE2(pause, generation, ns);
  gyre__lock_take(&figures.lock);
  struct figures *f = &figures.generation[generation];
  if (f->stats.pauses == 0 || ns < f->stats.pause_min_ns) f->stats.pause_min_ns = ns;
  if (ns > f->stats.pause_max_ns) f->stats.pause_max_ns = ns;
  f->stats.pauses++;
  f->stats.pause_total_ns += ns;
  f->pauses[bucket_of(ns)]++;
  gyre__lock_give(&figures.lock);
}

void gyre__stats_paced(uint64_t ns, bool waited) {
  gyre__stats_pause(GYRE_GC_NGEN - 1, ns);
  gyre__lock_take(&figures.lock);
  struct gyre_gc_stats *s = &figures.generation[GYRE_GC_NGEN - 1].stats;
  if (waited) {
    s->waits++;
    s->wait_total_ns += ns;
  } else {
    s->help_total_ns += ns;
  }
  gyre__lock_give(&figures.lock);
}

void gyre__stats_collected(const struct gyre__collection *c, uint64_t duration_ns) {
  gyre__lock_take(&figures.lock);
  struct gyre_gc_stats *s = &figures.generation[c->generation].stats;
  s->collections++;
  s->collected += c->dead;
  s->uncollectable += c->uncollectable;
  s->candidates += c->candidates;
  s->finalized += c->finalized;
  s->resurrected += c->resurrected;
  s->freed_bytes += c->freed_bytes;
  s->duration_ns += duration_ns;
  gyre__lock_give(&figures.lock);
}

int gyre_gc_get_stats(int generation, struct gyre_gc_stats *out) {
  if (generation < 0 || generation >= GYRE_GC_NGEN || out == NULL || out->size == 0) return -EINVAL;
  gyre__lock_take(&figures.lock);
  struct figures *f = &figures.generation[generation];
  struct gyre_gc_stats s = f->stats;
  s.pause_p50_ns = quantile(f, 50);
  s.pause_p99_ns = quantile(f, 99);
  gyre__lock_give(&figures.lock);
  if (generation == 0) {
    uint32_t count = gyre__thread_slot_count();
    for (uint32_t id = 1; id <= count; id++)
      gyre__young_stats((struct gyre__objects *)gyre__thread_slot(id), &s);
  }
  if (generation == GYRE_GC_NGEN - 1)
    gyre__generation_waiting(&s.waiting_bytes, &s.waiting_objects);
  s.size = out->size;
  memcpy(out, &s, out->size < sizeof s ? out->size : sizeof s);
  return 0;
}

/* ---- fork ---- */

void gyre__stats_fork_prepare(void) { gyre__lock_take(&figures.lock); }
void gyre__stats_fork_parent(void) { gyre__lock_give(&figures.lock); }
void gyre__stats_fork_child(void) { gyre__lock_reset(&figures.lock); }
