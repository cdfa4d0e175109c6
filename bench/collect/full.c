/* SPDX-License-Identifier: MIT */
/* collect/full, full_scattered, dead: one full collection, asked for, automatic collection
 * being off.
 *
 *   collect/full/N            of N live objects in rings, in the order they were made; the ROUNDS
 *                             collections after a first one that is not counted
 *   collect/full_scattered/N  the same, but each ring's nodes lie all over the heap
 *   collect/dead/N            of N objects in rings that have just become garbage
 *   collect/dead_one/N        of N objects in a single ring, garbage too
 *
 * The time is that of a collection for each object, and cpu what all threads have spent on it: the
 * one that asks, and whichever does the work. A gap is a collection. bdwgc only marks here,
 * and sweeps when memory is allocated next; collect/rings has its whole cost. malloc frees dead
 * objects by hand and has nothing to do for live ones. */
#include <stdbool.h>
#include <stdio.h>

#include "bench/collect/collect.h"
#include "bench/support/cpu.h"
#include "bench/support/gaps.h"
#include "bench/support/memory.h"

#if SYSTEM_FINDS_CYCLES

#define ROUNDS 3

static void run_full(bench_state *state, const struct bench_case *self) {
  static struct gaps gaps;
  size_t objects = (size_t)self->arg[0];
  system_automatic(false);
  struct live_heap live = self->arg[1] != 0 ? live_heap_scattered(objects) : live_heap_new(objects);
  system_collect();
  struct cpu_span cpu = {.service = SYSTEM_SERVICE};
  cpu_begin(&cpu);
  bench_start(state);
  uint64_t start_ns = clock_ns();
  gaps_begin(&gaps);
  bool right = true;
  for (unsigned i = 0; i < ROUNDS; i++) {
    long found = system_collect();
    gaps_unit(&gaps);
    if (found > 0) right = false;
  }
  bench_seconds(state, (double)(clock_ns() - start_ns) * 1e-9);
  if (!right) bench_fail(state, "live objects were reclaimed");
  bench_stop(state);
  cpu_end(&cpu);
  cpu_report(&cpu, state, objects * ROUNDS);
  gaps_report(&gaps, state);
  memory_report_peak(state);
  system_automatic(true);
  live_heap_drop(&live);
}

static void reclaim(bench_state *state, struct live_heap *heap, size_t objects) {
  live_heap_drop(heap);
  uint64_t start_ns = clock_ns();
  long found = system_collect();
  bench_seconds(state, (double)(clock_ns() - start_ns) * 1e-9);
  if (found >= 0 && (size_t)found != objects) bench_fail(state, "not all garbage was reclaimed");
}

#else

static void reclaim(bench_state *state, struct live_heap *heap, size_t objects) {
  (void)objects;
  uint64_t start_ns = clock_ns();
  live_heap_drop(heap);
  bench_seconds(state, (double)(clock_ns() - start_ns) * 1e-9);
}

#endif

static void run_dead(bench_state *state, const struct bench_case *self) {
  static struct gaps gaps;
  size_t objects = (size_t)self->arg[0];
  system_collect();
  system_automatic(false);
  struct live_heap heap = self->arg[1] != 0 ? live_heap_one(objects) : live_heap_new(objects);
  struct cpu_span cpu = {.service = SYSTEM_SERVICE};
  cpu_begin(&cpu);
  bench_start(state);
  gaps_begin(&gaps);
  reclaim(state, &heap, objects);
  gaps_unit(&gaps);
  bench_stop(state);
  cpu_end(&cpu);
  cpu_report(&cpu, state, objects);
  gaps_report(&gaps, state);
  memory_report_peak(state);
  system_automatic(true);
}

/* `shape`: 0 for rings of LIVE_RING in order, 1 for the other one that the case knows. */
static void add(const char *format, bench_function *run, int64_t objects, int64_t shape,
                unsigned rounds, enum bench_level level) {
  char name[64];
  snprintf(name, sizeof name, "collect/%s/%lld/" SYSTEM_NAME, format, (long long)objects);
  bench_register(&(struct bench_case){.name = name,
                                      .run = run,
                                      .arg = {objects, shape},
                                      .iterations = (uint64_t)objects * rounds,
                                      .flags = BENCH_MANUAL_TIME,
                                      .level = level,
                                      .unit = "object"});
}

void collect_register_full(void) {
#if SYSTEM_FINDS_CYCLES
  add("full", run_full, 1000000, 0, ROUNDS, BENCH_QUICK);
  add("full", run_full, 5000000, 0, ROUNDS, BENCH_DEFAULT);
  add("full_scattered", run_full, 1000000, 1, ROUNDS, BENCH_DEFAULT);
#endif
  add("dead", run_dead, 1000000, 0, 1, BENCH_QUICK);
  add("dead", run_dead, 5000000, 0, 1, BENCH_DEFAULT);
  add("dead_one", run_dead, 1000000, 1, 1, BENCH_DEFAULT);
}
