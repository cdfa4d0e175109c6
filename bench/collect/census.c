/* SPDX-License-Identifier: MIT */
/* collect/census, copy, watched: looking at a heap of live objects.
 *
 *   collect/census/N        counting N live objects by type, ROUNDS times; the time is that of an object
 *   collect/copy/N          copying them with their references
 *   collect/watched/WHAT/N  what a thread that makes and drops rings of RING nodes notices of another that
 *                           does nothing (nobody), counts (census), or copies (copy), one right after the
 *                           other, for LEAST_NS and until LOOKS of them are over; what is compared is the
 *                           longest gap, from the end of one ring to the end of the next
 *
 * gyre has both; CPython counts what gc.get_objects() returns. The others cannot tell what is in their heaps. */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "bench/collect/collect.h"
#include "bench/support/crew.h"
#include "bench/support/gaps.h"
#include "bench/support/memory.h"

#ifdef SYSTEM_HAS_CENSUS

#define ROUNDS 5
#define RING 4
#define LOOKS 3u
#define LEAST_NS 1000000000u
#define CREW 2

enum { MUTATOR, WATCHER };
enum { NOBODY, CENSUS, COPY };

static long look(int64_t what) { return what == COPY ? system_copy() : system_census(); }

static void run_look(bench_state *state, const struct bench_case *self) {
  size_t objects = (size_t)self->arg[0];
  system_automatic(false);
  struct live_heap live = live_heap_new(objects);
  system_collect();
  bool right = true;
  uint64_t longest_ns = 0, took_ns = 0;
  bench_start(state);
  for (unsigned i = 0; i < ROUNDS; i++) {
    uint64_t start_ns = clock_ns();
    if (look(self->arg[1]) != (long)objects) right = false;
    uint64_t ns = clock_ns() - start_ns;
    took_ns += ns;
    if (ns > longest_ns) longest_ns = ns;
  }
  bench_seconds(state, (double)took_ns * 1e-9);
  if (!right) bench_fail(state, "not all objects were found");
  bench_stop(state);
  bench_counter(state, "longest_look_ns", (double)longest_ns);
  memory_report_peak(state);
  system_automatic(true);
  live_heap_drop(&live);
}

/* ---- watched ---- */

static struct {
  int64_t what; /* constant while the crew works */
  struct gaps gaps;
  uint64_t took_ns;
  _Atomic unsigned looks; /* that are over; written by the watcher */
  _Atomic bool done;      /* written by the mutator */
} watched;

static void begin(void *arg, unsigned index) {
  (void)arg, (void)index;
  system_thread_begin();
}
static void end(void *arg, unsigned index) {
  (void)arg, (void)index;
  system_thread_end();
}

static bool goes_on(uint64_t start_ns) {
  if (watched.gaps.last_ns - start_ns < LEAST_NS) return true;
  /* relaxed: only a number; pairs with the store in watch(). */
  unsigned looks = atomic_load_explicit(&watched.looks, memory_order_relaxed);
  return watched.what != NOBODY && looks < LOOKS;
}

static void make_rings(void) {
  gaps_begin(&watched.gaps);
  uint64_t start_ns = watched.gaps.last_ns;
  while (goes_on(start_ns)) {
    ring_node *ring = ring_new(RING);
    BENCH_KEEP(ring);
    system_ring_drop(ring);
    system_safepoint();
    gaps_unit(&watched.gaps);
  }
  watched.took_ns = watched.gaps.last_ns - start_ns;
  /* relaxed: the watcher only has to see it some time; pairs with the load in watch(). */
  atomic_store_explicit(&watched.done, true, memory_order_relaxed);
}

static void watch(void) {
  unsigned looks = 0;
  /* relaxed: as in make_rings(). */
  while (watched.what != NOBODY && !atomic_load_explicit(&watched.done, memory_order_relaxed)) {
    (void)look(watched.what);
    /* relaxed: as in goes_on(). */
    atomic_store_explicit(&watched.looks, ++looks, memory_order_relaxed);
  }
}

static void work(void *arg, unsigned index) {
  (void)arg;
  if (index == MUTATOR)
    make_rings();
  else
    watch();
}

static void run_watched(bench_state *state, const struct bench_case *self) {
  static const struct crew_job job = {.prepare = begin, .work = work, .finish = end};
  watched.what = self->arg[1];
  memset(&watched.gaps, 0, sizeof watched.gaps);
  /* relaxed: the crew has not started. */
  atomic_store_explicit(&watched.looks, 0, memory_order_relaxed);
  atomic_store_explicit(&watched.done, false, memory_order_relaxed);
  system_automatic(false);
  struct live_heap live = live_heap_new((size_t)self->arg[0]);
  system_automatic(true);
  system_collect();
  bench_start(state);
  crew_run(CREW, &job, NULL);
  bench_seconds(state, (double)watched.took_ns * 1e-9 / (double)(watched.gaps.count * RING));
  bench_stop(state);
  /* relaxed: the watcher has been joined. */
  unsigned looks = atomic_load_explicit(&watched.looks, memory_order_relaxed);
  bench_counter(state, "longest_gap_ns", (double)watched.gaps.max_ns);
  bench_counter(state, "looks", (double)looks);
  gaps_report(&watched.gaps, state);
  memory_report_peak(state);
  live_heap_drop(&live);
}

static void add_look(const char *name, int64_t objects, int64_t what, enum bench_level level) {
  char text[64];
  snprintf(text, sizeof text, "collect/%s/%lld/" SYSTEM_NAME, name, (long long)objects);
  bench_register(&(struct bench_case){.name = text,
                                      .run = run_look,
                                      .arg = {objects, what},
                                      .iterations = (uint64_t)objects * ROUNDS,
                                      .flags = BENCH_MANUAL_TIME,
                                      .level = level,
                                      .unit = "object"});
}

static void add_watched(const char *name, int64_t objects, int64_t what) {
  char text[64];
  snprintf(text, sizeof text, "collect/watched/%s/%lld/" SYSTEM_NAME, name, (long long)objects);
  bench_register(&(struct bench_case){.name = text,
                                      .run = run_watched,
                                      .arg = {objects, what},
                                      .iterations = 1,
                                      .flags = BENCH_MANUAL_TIME,
                                      .level = BENCH_DEFAULT,
                                      .metric = "longest_gap_ns",
                                      .unit = "longest gap"});
}

void collect_register_census(void) {
  add_look("census", 1000000, CENSUS, BENCH_QUICK);
  add_look("census", 5000000, CENSUS, BENCH_DEFAULT);
  add_look("copy", 1000000, COPY, BENCH_QUICK);
  add_look("copy", 5000000, COPY, BENCH_DEFAULT);
  add_watched("nobody", 5000000, NOBODY);
  add_watched("census", 5000000, CENSUS);
  add_watched("copy", 5000000, COPY);
}

#else

void collect_register_census(void) {}

#endif
