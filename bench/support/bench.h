/* SPDX-License-Identifier: MIT */
/* bench/support/bench.h: benchmarks in C, run and reported by Google Benchmark.
 *
 *     static void run_pair(bench_state *state, const struct bench_case *self) {
 *       size_t size = (size_t)self->arg[0];
 *       uint64_t n = bench_start(state);
 *       for (uint64_t i = 0; i < n; i++) {
 *         void *block = malloc(size);
 *         BENCH_KEEP(block);
 *         free(block);
 *       }
 *       bench_stop(state);
 *     }
 *
 *     int main(int argc, char **argv) {
 *       bench_register(&(struct bench_case){.name = "alloc/pair/64/system", .run = run_pair,
 *                                           .arg = {64}, .unit = "pair"});
 *       return bench_main(argc, argv);
 *     }
 *
 * A case runs its own loop: it asks once how often, so that nothing of the harness is inside the
 * loop. Names are group/case/args/system, and the JSON that comes out has just these names.
 *
 * A program holds one system (an allocator, a way of counting, a collector), so that each is linked
 * and called as its users do, and so that a process's memory is the system's alone. tools/bench
 * puts the systems of one case side by side.
 */
#ifndef BENCH_SUPPORT_BENCH_H
#define BENCH_SUPPORT_BENCH_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What the compiler must believe is used, changed and stored elsewhere. The same as
 * benchmark::DoNotOptimize: the value is in a register, and memory is forgotten. */
#define BENCH_KEEP(pointer) __asm__ volatile("" : "+r"(pointer) : : "memory")
/* All of memory may have been read and changed. */
#define BENCH_CLOBBER() __asm__ volatile("" : : : "memory")

/* One run of one case, for as long as its function runs. Only that function's thread uses it. */
typedef struct bench_state bench_state;

struct bench_case;
typedef void bench_function(bench_state *state, const struct bench_case *self);

/* In which runs of tools/bench a case takes part. Each includes those before it. */
enum bench_level { BENCH_QUICK, BENCH_DEFAULT, BENCH_FULL };

enum {
  /* The case measures its time itself and tells it by bench_seconds(). */
  BENCH_MANUAL_TIME = 1u << 0,
  /* The case mostly sleeps: the systems may run it side by side. */
  BENCH_SLEEPS = 1u << 1,
};

struct bench_case {
  const char *name; /* copied */
  bench_function *run;
  int64_t arg[3];
  /* How many iterations; 0 leaves it to Google Benchmark, which tries until the time suffices. */
  uint64_t iterations;
  unsigned flags;
  enum bench_level level;
  /* The counter to compare the systems by, and what it counts in; NULL compares the time of an
   * iteration, and `unit` says what an iteration is ("pair", "object"). Less is better, always. */
  const char *metric;
  const char *unit;
};

/* Adds a case, copied. Before bench_main(). */
void bench_register(const struct bench_case *c);

/* Runs what the command line asks for and returns main()'s result. Its own options, besides
 * Google Benchmark's:
 *   --only=NAME    runs the case of exactly this name
 *   --list         prints the cases, one a line, fields separated by tabs, and runs nothing */
int bench_main(int argc, char **argv);

/* Starts the clock; returns how many iterations to run, at least 1. Once a run. */
uint64_t bench_start(bench_state *state);

/* Stops the clock. Once a run, after bench_start(). */
void bench_stop(bench_state *state);

/* How many iterations bench_start() will ask for: for preparations that depend on it. */
uint64_t bench_iterations(const bench_state *state);

/* The time that all iterations together took. BENCH_MANUAL_TIME only, before bench_stop(). */
void bench_seconds(bench_state *state, double seconds);

/* Reports a figure beside the time. */
void bench_counter(bench_state *state, const char *name, double value);

/* The run is void: `message` is reported instead of its figures. Before bench_start(), or else the
 * case goes on to bench_stop(). */
void bench_fail(bench_state *state, const char *message);

#ifdef __cplusplus
}
#endif

#endif
