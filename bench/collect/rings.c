/* SPDX-License-Identifier: MIT */
/* collect/rings/K/LIVE: rings of K nodes are made and dropped at once, beside LIVE objects in
 * cycles that stay. Collection is automatic. The time is that of allocation, linking, dropping and
 * collection, for each object; cpu is that of all threads.
 *
 * The rings are made twice: once for the time, without a look at the clock, and once for the gaps,
 * with one look after each ring and GAPS_TIMES as many rings, because the longest gap of a short
 * while says little. */
#include <stdio.h>

#include "bench/collect/collect.h"
#include "bench/support/cpu.h"
#include "bench/support/gaps.h"
#include "bench/support/memory.h"

#define OBJECTS 4000000
#define GAPS_TIMES 2

static inline void one_ring(unsigned k) {
  ring_node *ring = ring_new(k);
  BENCH_KEEP(ring);
  system_ring_drop(ring);
  system_safepoint();
}

static void run_rings(bench_state *state, const struct bench_case *self) {
  static struct gaps gaps;
  unsigned k = (unsigned)self->arg[0];
  struct live_heap live = live_heap_new((size_t)self->arg[1]);
  system_collect();
  struct cpu_span cpu = {.service = SYSTEM_SERVICE};
  cpu_begin(&cpu);
  uint64_t n = bench_start(state);
  for (uint64_t i = 0; i < n / k; i++)
    one_ring(k);
  bench_stop(state);
  cpu_end(&cpu);
  gaps_begin(&gaps);
  for (uint64_t i = 0; i < n / k * GAPS_TIMES; i++) {
    one_ring(k);
    gaps_unit(&gaps);
  }
  cpu_report(&cpu, state, n);
  gaps_report(&gaps, state);
  memory_report_peak(state);
  live_heap_drop(&live);
}

void collect_register_rings(void) {
  static const int64_t sizes[] = {1, 4, 100}, lives[] = {0, 1000000};
  for (unsigned s = 0; s < 3; s++)
    for (unsigned l = 0; l < 2; l++) {
      char name[64];
      snprintf(name, sizeof name, "collect/rings/%lld/%lld/" SYSTEM_NAME, (long long)sizes[s],
               (long long)lives[l]);
      bench_register(&(struct bench_case){.name = name,
                                          .run = run_rings,
                                          .arg = {sizes[s], lives[l]},
                                          .iterations = OBJECTS,
                                          .level = sizes[s] == 4 ? BENCH_QUICK : BENCH_DEFAULT,
                                          .unit = "object"});
    }
}
