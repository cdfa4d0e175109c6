/* SPDX-License-Identifier: MIT */
/* bench/support/steps.h: how many instructions a piece of work takes.
 *
 * A child process does it under the eyes of its parent, which lets it go one instruction at a time.
 * That takes microseconds an instruction, but needs no special hardware and no simulator, and counts
 * the code as it is, whichever way the system got into the process. */
#ifndef BENCH_SUPPORT_STEPS_H
#define BENCH_SUPPORT_STEPS_H

#include <stdint.h>

/* The instructions of work(times) in user space and those, a few dozen, between the child's two stops
 * besides. The child has done work(times) once before, so that it finds everything set up. 0 if the
 * kernel does not let a process be traced. */
uint64_t steps_count(void (*work)(uint64_t times), uint64_t times);

#endif
