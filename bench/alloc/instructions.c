/* SPDX-License-Identifier: MIT */
/* alloc/instructions: how many instructions it takes to allocate a block of a size that the compiler
 * knows and to free it. Unlike a time, this does not depend on the machine or what else it does. The
 * loop and its two calls do not count: what counts is all that runs from the calls to the returns. */
#include "bench/alloc/alloc.h"
#include "bench/support/steps.h"

#define PAIRS 256

static void pairs(uint64_t times) {
  for (uint64_t i = 0; i < times; i++) {
    void *block = system_malloc(64);
    BENCH_KEEP(block);
    system_free(block);
  }
}

/* The same loop around nothing, */
static void loop(uint64_t times) {
  for (uint64_t i = 0; i < times; i++)
    BENCH_CLOBBER();
}

/* and around two functions that do nothing but return. */
static __attribute__((noinline)) void return_at_once(void *block) { BENCH_KEEP(block); }

#define RETURNS 2 /* instructions of theirs */

static void calls(uint64_t times) {
  for (uint64_t i = 0; i < times; i++) {
    void *block = NULL;
    return_at_once(block);
    BENCH_KEEP(block);
    return_at_once(block);
  }
}

static void run_instructions(bench_state *state, const struct bench_case *self) {
  (void)self;
  uint64_t n = bench_start(state);
  uint64_t with = steps_count(pairs, n);
  uint64_t without = steps_count(SYSTEM_INLINE ? loop : calls, n);
  if (with == 0 || without == 0) bench_fail(state, "the kernel does not let a process be traced");
  double instructions = (double)(with - without) / (double)n;
  if (!SYSTEM_INLINE) instructions += RETURNS;
  bench_counter(state, "instructions", instructions);
  bench_stop(state);
}

void alloc_register_instructions(void) {
  bench_register(&(struct bench_case){.name = "alloc/instructions/64/" SYSTEM_NAME,
                                      .run = run_instructions,
                                      .iterations = PAIRS,
                                      .level = BENCH_QUICK,
                                      .metric = "instructions",
                                      .unit = "instructions"});
}
