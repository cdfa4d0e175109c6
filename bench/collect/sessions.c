/* SPDX-License-Identifier: MIT */
/* collect/sessions/THREADS: a server. Each thread keeps SESSIONS sessions, each a cycle of
 * SESSION_NODES ring nodes, and replaces random ones, so that most of the heap lives and the garbage
 * is as old as anything. Collection is automatic. An iteration is one session replaced, by whichever
 * thread; the time is the crew's, cpu that of all threads.
 *
 * After the part that is timed, without a look at the clock, each thread replaces GAP_REPLACEMENTS
 * more for the gaps, with a look after each.
 *
 * collections counts the full ones in the timed part. live cpu is what the collector's own thread has
 * spent meanwhile, for each of them and each live object: with all else that it does, so that a full
 * collection takes no more. */
#include <stdio.h>

#include "bench/collect/collect.h"
#include "bench/support/cpu.h"
#include "bench/support/crew.h"
#include "bench/support/gaps.h"
#include "bench/support/memory.h"
#include "bench/support/random.h"

#define SESSIONS 100000u
#define SESSION_NODES 8u
#define REPLACEMENTS 400000u
#define GAP_REPLACEMENTS 200000u
#define THREADS_MOST 2u

static struct worker {
  ring_node **sessions;
  struct random random;
  struct gaps gaps;
} workers[THREADS_MOST];

/* Taken by the first thread: before any thread gives its sessions up. */
static struct cpu_span cpu;
static long collections;
static size_t peak;

static void fill(void *arg, unsigned index) {
  (void)arg;
  struct worker *w = &workers[index];
  system_thread_begin();
  w->random.state = index;
  w->sessions = system_table(SESSIONS);
  for (unsigned i = 0; i < SESSIONS; i++) {
    w->sessions[i] = session_new(SESSION_NODES);
    system_safepoint();
  }
}

static inline void replace_one(struct worker *w) {
  ring_node **place = &w->sessions[random_below(&w->random, SESSIONS)];
  ring_node *old = *place;
  *place = session_new(SESSION_NODES);
  system_ring_drop(old);
  system_safepoint();
}

static void serve(void *arg, unsigned index) {
  (void)arg;
  if (index == 0) {
    collections = -system_collections();
    cpu_begin(&cpu);
  }
  for (unsigned i = 0; i < REPLACEMENTS; i++)
    replace_one(&workers[index]);
}

static void serve_with_gaps(struct worker *w) {
  gaps_begin(&w->gaps);
  for (unsigned i = 0; i < GAP_REPLACEMENTS; i++) {
    replace_one(w);
    gaps_unit(&w->gaps);
  }
}

static void finish(void *arg, unsigned index) {
  (void)arg;
  struct worker *w = &workers[index];
  if (index == 0) {
    cpu_end(&cpu);
    collections += system_collections();
  }
  serve_with_gaps(w);
  if (index == 0) peak = memory_peak();
  for (unsigned i = 0; i < SESSIONS; i++)
    system_ring_drop(w->sessions[i]);
  system_table_free(w->sessions, SESSIONS);
  system_thread_end();
}

static void report_collections(bench_state *state, uint64_t live) {
  if (collections <= 0) return;
  bench_counter(state, "collections", (double)collections);
  if (cpu.service != NULL)
    bench_counter(state, "live_cpu_ns",
                  (double)cpu.service_ns / (double)collections / (double)live);
}

static void report(bench_state *state, unsigned threads, double seconds) {
  static struct gaps gaps;
  uint64_t replacements = (uint64_t)REPLACEMENTS * threads;
  for (unsigned i = 0; i < threads; i++)
    gaps_merge(&gaps, &workers[i].gaps);
  bench_counter(state, "million_per_s", (double)replacements * 1e-6 / seconds);
  gaps_report(&gaps, state);
  cpu_report(&cpu, state, replacements);
  report_collections(state, (uint64_t)SESSIONS * SESSION_NODES * threads);
  bench_counter(state, "peak_resident_bytes", (double)peak);
}

static void run_sessions(bench_state *state, const struct bench_case *self) {
  static const struct crew_job job = {.prepare = fill, .work = serve, .finish = finish};
  unsigned threads = (unsigned)self->arg[0];
  cpu.service = SYSTEM_SERVICE;
  bench_start(state);
  double seconds = crew_run(threads, &job, NULL);
  bench_seconds(state, seconds);
  bench_stop(state);
  report(state, threads, seconds);
}

void collect_register_sessions(void) {
  for (unsigned threads = 1; threads <= THREADS_MOST; threads++) {
    char name[64];
    snprintf(name, sizeof name, "collect/sessions/%u/" SYSTEM_NAME, threads);
    bench_register(&(struct bench_case){.name = name,
                                        .run = run_sessions,
                                        .arg = {threads},
                                        .iterations = (uint64_t)REPLACEMENTS * threads,
                                        .flags = BENCH_MANUAL_TIME,
                                        .level = threads == 2 ? BENCH_QUICK : BENCH_FULL,
                                        .unit = "session"});
  }
}
