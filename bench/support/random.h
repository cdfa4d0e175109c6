/* SPDX-License-Identifier: MIT */
/* bench/support/random.h: random numbers that every system sees in the same order.
 *
 * SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): a counter and a mixing function, a nanosecond a
 * number. The seeds are constants: a benchmark is the same each time. */
#ifndef BENCH_SUPPORT_RANDOM_H
#define BENCH_SUPPORT_RANDOM_H

#include <stddef.h>
#include <stdint.h>

struct random {
  uint64_t state;
};

static inline uint64_t random_next(struct random *r) {
  uint64_t z = r->state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/* A number from 0 to bound-1, for bounds far below 2^32: the bias is beyond notice. */
static inline uint32_t random_below(struct random *r, uint32_t bound) {
  return (uint32_t)(((random_next(r) >> 32) * bound) >> 32);
}

/* A random order of 0 to count-1. */
static inline void random_order(struct random *r, uint32_t *order, size_t count) {
  for (uint32_t i = 0; i < count; i++) {
    uint32_t j = random_below(r, i + 1);
    order[i] = order[j];
    order[j] = i;
  }
}

#endif
