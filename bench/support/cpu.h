/* SPDX-License-Identifier: MIT */
/* bench/support/cpu.h: what a piece of work costs the machine, whichever threads do it.
 *
 *     struct cpu_span cpu = {.service = "gyre-service"};
 *     cpu_begin(&cpu);
 *     ... the work ...
 *     cpu_end(&cpu);
 *     cpu_report(&cpu, state, objects);
 */
#ifndef BENCH_SUPPORT_CPU_H
#define BENCH_SUPPORT_CPU_H

#include <stdint.h>

#include "bench/support/bench.h"

struct cpu_span {
  /* The name of the system's own threads; NULL if it has none. Set by the caller. */
  const char *service;
  uint64_t process_ns; /* all threads' time on a processor, between begin and end */
  uint64_t service_ns; /* of that, the threads with that name */
};

/* Around the work, in any one thread. Both take some 10 us. A thread that ends in between is counted
 * for the process, but not for the service. */
void cpu_begin(struct cpu_span *cpu);
void cpu_end(struct cpu_span *cpu);

/* Reports, for each of `count`, cpu_ns and, if the system has threads of its own, service_cpu_ns. */
void cpu_report(const struct cpu_span *cpu, bench_state *state, uint64_t count);

#endif
