/* SPDX-License-Identifier: MIT */
/* bench/support/clock.h: the clock of all measurements that a case makes itself. */
#ifndef BENCH_SUPPORT_CLOCK_H
#define BENCH_SUPPORT_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Nanoseconds since some moment in the past. About 20 ns a call, without a system call. */
static inline uint64_t clock_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#endif
