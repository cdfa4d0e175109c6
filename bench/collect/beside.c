/* SPDX-License-Identifier: MIT */
/* collect/beside/N: what a thread notices of full collections that another asks for.
 *
 * One thread makes and drops rings of RING nodes, as in collect/rings. Meanwhile a second one calls
 * for full collections, one right after the other, of N live objects that a third has made. This
 * goes on for LEAST_NS, the same for all systems so that all are exposed to the same machine for as
 * long, and until COLLECTIONS of them are over. What is compared is the longest gap, from the end of
 * one ring to the end of the next; the time is that of a ring's object.
 *
 * By hand there is nothing to collect: there the second thread reads all live objects, again and
 * again, and so keeps the other core and the memory as busy as marking would. That is the floor. */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

#include "bench/collect/collect.h"
#include "bench/support/cpu.h"
#include "bench/support/crew.h"
#include "bench/support/gaps.h"
#include "bench/support/memory.h"

#define RING 4
#define COLLECTIONS 5u
#define LEAST_NS 1000000000u
/* After this time the collections count as stuck. */
#define PATIENCE_NS 60000000000u
#define CREW 2

enum { MUTATOR, COLLECTOR };

static struct {
  /* -- constant while the crew works -- */
  struct live_heap live;
  /* -- the mutator's -- */
  struct gaps gaps;
  struct cpu_span cpu;
  uint64_t took_ns;
  /* -- shared -- */
  _Atomic unsigned collections; /* that are over; written by the collector */
  _Atomic bool done;            /* written by the mutator */
} beside;

static void begin(void *arg, unsigned index) {
  (void)arg;
  (void)index;
  system_thread_begin();
}

static void end(void *arg, unsigned index) {
  (void)arg;
  (void)index;
  system_thread_end();
}

static bool goes_on(uint64_t start_ns) {
  uint64_t took_ns = beside.gaps.last_ns - start_ns;
  if (took_ns < LEAST_NS) return true;
  /* relaxed: only a number; pairs with the store in collect_on(). */
  unsigned collections = atomic_load_explicit(&beside.collections, memory_order_relaxed);
  return collections < COLLECTIONS && took_ns < PATIENCE_NS;
}

static void make_rings(void) {
  cpu_begin(&beside.cpu);
  gaps_begin(&beside.gaps);
  uint64_t start_ns = beside.gaps.last_ns;
  while (goes_on(start_ns)) {
    ring_node *ring = ring_new(RING);
    BENCH_KEEP(ring);
    system_ring_drop(ring);
    system_safepoint();
    gaps_unit(&beside.gaps);
  }
  beside.took_ns = beside.gaps.last_ns - start_ns;
  cpu_end(&beside.cpu);
  /* relaxed: the collector only has to see it some time; pairs with the load in collect_on(). */
  atomic_store_explicit(&beside.done, true, memory_order_relaxed);
}

#if SYSTEM_FINDS_CYCLES

static void collect_once(void) { (void)system_collect(); }

#else

static void collect_once(void) {
  for (size_t i = 0; i < beside.live.count; i++) {
    live_node *root = beside.live.rings[i], *node = root;
    do {
      node = node->next;
      BENCH_KEEP(node);
    } while (node != root);
  }
}

#endif

static void collect_on(void) {
  unsigned collections = 0;
  /* relaxed: as in make_rings(). */
  while (!atomic_load_explicit(&beside.done, memory_order_relaxed)) {
    collect_once();
    /* relaxed: as in goes_on(). */
    atomic_store_explicit(&beside.collections, ++collections, memory_order_relaxed);
  }
}

static void work(void *arg, unsigned index) {
  (void)arg;
  if (index == MUTATOR)
    make_rings();
  else
    collect_on();
}

static void report(bench_state *state) {
  uint64_t objects = beside.gaps.count * RING;
  /* relaxed: the collector has been joined. */
  unsigned collections = atomic_load_explicit(&beside.collections, memory_order_relaxed);
  bench_counter(state, "longest_gap_ns", (double)beside.gaps.max_ns);
  bench_counter(state, "collections", (double)collections);
  gaps_report(&beside.gaps, state);
  cpu_report(&beside.cpu, state, objects);
  memory_report_peak(state);
}

static void run_beside(bench_state *state, const struct bench_case *self) {
  static const struct crew_job job = {.prepare = begin, .work = work, .finish = end};
  beside.cpu.service = SYSTEM_SERVICE;
  system_automatic(false);
  beside.live = live_heap_new((size_t)self->arg[0]);
  system_automatic(true);
  /* What making the heap has left behind. */
  system_collect();
  bench_start(state);
  crew_run(CREW, &job, NULL);
  bench_seconds(state, (double)beside.took_ns * 1e-9 / (double)(beside.gaps.count * RING));
  if (beside.took_ns >= PATIENCE_NS) bench_fail(state, "the full collections do not end");
  bench_stop(state);
  report(state);
  live_heap_drop(&beside.live);
}

void collect_register_beside(void) {
  bench_register(&(struct bench_case){.name = "collect/beside/5000000/" SYSTEM_NAME,
                                      .run = run_beside,
                                      .arg = {5000000},
                                      .iterations = 1,
                                      .flags = BENCH_MANUAL_TIME,
                                      .level = BENCH_DEFAULT,
                                      .metric = "longest_gap_ns",
                                      .unit = "longest gap"});
}
