/* SPDX-License-Identifier: MIT */
/* bench/support/gaps.h: how long units of work take, as a distribution.
 *
 * A *gap* is the time from the end of one unit of a program's work to the end of the next: what a
 * request waits while memory is managed shows up as a long one. */
#ifndef BENCH_SUPPORT_GAPS_H
#define BENCH_SUPPORT_GAPS_H

#include <stdint.h>

#include "bench/support/bench.h"
#include "bench/support/clock.h"

/* A histogram: values below 64 each for itself, above that 64 steps to every power of two, so that
 * a quantile is at most 1.6 % too low. Its size does not depend on the number of values. */
#define GAPS_STEPS 64
#define GAPS_BUCKETS (GAPS_STEPS * 59)

struct gaps {
  uint64_t last_ns; /* when the last unit ended */
  uint64_t max_ns;
  uint64_t count;
  uint32_t buckets[GAPS_BUCKETS];
};

static inline unsigned gaps_bucket(uint64_t ns) {
  if (ns < GAPS_STEPS) return (unsigned)ns;
  unsigned shift = 57u - (unsigned)__builtin_clzll(ns);
  return (shift + 1) * GAPS_STEPS + (unsigned)(ns >> shift) - GAPS_STEPS;
}

/* Counts one gap of `ns`. */
static inline void gaps_add(struct gaps *gaps, uint64_t ns) {
  gaps->buckets[gaps_bucket(ns)]++;
  gaps->count++;
  if (ns > gaps->max_ns) gaps->max_ns = ns;
}

/* The work starts now. */
static inline void gaps_begin(struct gaps *gaps) { gaps->last_ns = clock_ns(); }

/* A unit of work ends now. */
static inline void gaps_unit(struct gaps *gaps) {
  uint64_t now = clock_ns();
  gaps_add(gaps, now - gaps->last_ns);
  gaps->last_ns = now;
}

/* Adds the gaps of another thread. */
void gaps_merge(struct gaps *into, const struct gaps *from);

/* The smallest gap that at least `fraction` of all gaps do not exceed (within the histogram's
 * step); 0 if there are none. */
uint64_t gaps_quantile(const struct gaps *gaps, double fraction);

/* Reports gap_p50_ns, gap_p999_ns, gap_p9999_ns, gap_max_ns and gap_units. */
void gaps_report(const struct gaps *gaps, bench_state *state);

#endif
