/* SPDX-License-Identifier: MIT */
/* collect/sessions/THREADS: a server. Each thread keeps SESSIONS sessions, each a cycle of
 * SESSION_NODES objects, and replaces random ones, so that most of the heap lives and the garbage
 * is as old as anything. Collection is automatic. An iteration is one object of a replaced session,
 * by whichever thread; the time is the crew's, and includes a look at the clock for each session. A
 * gap is one replacement. */
#include <stdio.h>
#include <string.h>

#include "bench/collect/collect.h"
#include "bench/support/crew.h"
#include "bench/support/gaps.h"
#include "bench/support/memory.h"
#include "bench/support/random.h"

#define SESSIONS 100000u
#define SESSION_NODES 8u
#define REPLACEMENTS 100000u
#define THREADS_MOST 2u

static struct worker {
  live_node **sessions;
  struct random random;
  struct gaps gaps;
} workers[THREADS_MOST];

static void fill(void *arg, unsigned index) {
  (void)arg;
  struct worker *w = &workers[index];
  system_thread_begin();
  w->random.state = index;
  w->sessions = system_table(SESSIONS);
  for (unsigned i = 0; i < SESSIONS; i++) {
    w->sessions[i] = live_new(SESSION_NODES);
    system_safepoint();
  }
}

static void serve(void *arg, unsigned index) {
  (void)arg;
  struct worker *w = &workers[index];
  gaps_begin(&w->gaps);
  for (unsigned i = 0; i < REPLACEMENTS; i++) {
    live_node **place = &w->sessions[random_below(&w->random, SESSIONS)];
    live_node *old = *place;
    *place = live_new(SESSION_NODES);
    system_live_drop(old);
    system_safepoint();
    gaps_unit(&w->gaps);
  }
}

static void empty(void *arg, unsigned index) {
  (void)arg;
  struct worker *w = &workers[index];
  for (unsigned i = 0; i < SESSIONS; i++)
    system_live_drop(w->sessions[i]);
  system_table_free(w->sessions, SESSIONS);
  system_thread_end();
}

static void run_sessions(bench_state *state, const struct bench_case *self) {
  static const struct crew_job job = {.prepare = fill, .work = serve, .finish = empty};
  static struct gaps gaps;
  unsigned threads = (unsigned)self->arg[0];
  bench_start(state);
  bench_seconds(state, crew_run(threads, &job, NULL));
  bench_stop(state);
  for (unsigned i = 0; i < threads; i++)
    gaps_merge(&gaps, &workers[i].gaps);
  gaps_report(&gaps, state);
  memory_report_peak(state);
}

void collect_register_sessions(void) {
  for (unsigned threads = 1; threads <= THREADS_MOST; threads++) {
    char name[64];
    snprintf(name, sizeof name, "collect/sessions/%u/" SYSTEM_NAME, threads);
    bench_register(
        &(struct bench_case){.name = name,
                             .run = run_sessions,
                             .arg = {threads},
                             .iterations = (uint64_t)REPLACEMENTS * SESSION_NODES * threads,
                             .flags = BENCH_MANUAL_TIME,
                             .level = threads == 2 ? BENCH_QUICK : BENCH_FULL,
                             .unit = "object"});
  }
}
