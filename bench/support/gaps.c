/* SPDX-License-Identifier: MIT */
#include "bench/support/gaps.h"

void gaps_merge(struct gaps *into, const struct gaps *from) {
  for (unsigned i = 0; i < GAPS_BUCKETS; i++)
    into->buckets[i] += from->buckets[i];
  into->count += from->count;
  if (from->max_ns > into->max_ns) into->max_ns = from->max_ns;
}

/* The least value that falls into the bucket. */
static uint64_t bucket_floor(unsigned bucket) {
  if (bucket < 2 * GAPS_STEPS) return bucket;
  unsigned shift = bucket / GAPS_STEPS - 1;
  return (uint64_t)(bucket % GAPS_STEPS + GAPS_STEPS) << shift;
}

uint64_t gaps_quantile(const struct gaps *gaps, double fraction) {
  if (gaps->count == 0) return 0;
  double exact_rank = fraction * (double)gaps->count;
  uint64_t rank = (uint64_t)exact_rank, seen = 0;
  if ((double)rank < exact_rank) rank++;
  /* The last gap of all is known exactly. */
  if (rank >= gaps->count) return gaps->max_ns;
  for (unsigned i = 0; i < GAPS_BUCKETS; i++) {
    seen += gaps->buckets[i];
    if (seen >= rank) return bucket_floor(i);
  }
  return gaps->max_ns;
}

void gaps_report(const struct gaps *gaps, bench_state *state) {
  bench_counter(state, "gap_p50_ns", (double)gaps_quantile(gaps, 0.5));
  bench_counter(state, "gap_p999_ns", (double)gaps_quantile(gaps, 0.999));
  bench_counter(state, "gap_p9999_ns", (double)gaps_quantile(gaps, 0.9999));
  bench_counter(state, "gap_max_ns", (double)gaps->max_ns);
  bench_counter(state, "gap_units", (double)gaps->count);
}
