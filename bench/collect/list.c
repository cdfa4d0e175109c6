/* SPDX-License-Identifier: MIT */
/* collect/list/N: a list of N nodes loses its only reference from outside. What is compared is the
 * longest single call that the program makes until the last node is destroyed: the release, and
 * then whatever the system asks of the program (safepoints, a full collection). The time is all of
 * these calls, for each node; a gap is one call. */
#include <stdio.h>

#include "bench/collect/collect.h"
#include "bench/support/cpu.h"
#include "bench/support/gaps.h"
#include "bench/support/memory.h"

/* After this time the list counts as leaked. */
#define PATIENCE_NS 10000000000u

/* Static, so that a conservative collector finds no forgotten copy on the stack. */
static ring_node *list;

static __attribute__((noinline)) void list_make(uint64_t nodes) {
  list = system_list_end();
  for (uint64_t i = 1; i < nodes; i++) {
    list = system_ring_node(list);
    if (i % 1024 == 0) system_safepoint();
  }
}

static void run_list(bench_state *state, const struct bench_case *self) {
  static struct gaps gaps;
  (void)self;
  uint64_t nodes = bench_iterations(state);
  list_make(nodes);
  struct cpu_span cpu = {.service = SYSTEM_SERVICE};
  cpu_begin(&cpu);
  bench_start(state);
  gaps_begin(&gaps);
  uint64_t deadline_ns = gaps.last_ns + PATIENCE_NS;
  system_list_drop(&list);
  gaps_unit(&gaps);
  while (!system_list_gone() && gaps.last_ns < deadline_ns) {
    system_list_step();
    gaps_unit(&gaps);
  }
  if (!system_list_gone()) bench_fail(state, "the list is still there");
  bench_stop(state);
  cpu_end(&cpu);
  cpu_report(&cpu, state, nodes);
  bench_counter(state, "longest_call_ns", (double)gaps.max_ns);
  gaps_report(&gaps, state);
  memory_report_peak(state);
}

void collect_register_list(void) {
  bench_register(&(struct bench_case){.name = "collect/list/5000000/" SYSTEM_NAME,
                                      .run = run_list,
                                      .iterations = 5000000,
                                      .level = BENCH_QUICK,
                                      .metric = "longest_call_ns",
                                      .unit = "longest call"});
}
