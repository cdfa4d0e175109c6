/* SPDX-License-Identifier: MIT */
/* refcount/pair, pair2, safepoint: counting one reference up and down.
 *
 *   refcount/pair/owner      by the thread that made the object
 *   refcount/pair/foreign    by another thread, alone
 *   refcount/pair2/owner     by two threads at once, of which one made the object
 *   refcount/pair2/foreign   by two threads at once, neither of which made it
 *   refcount/pair/logging    as owner, but on the path that every count takes while a concurrent
 *                            collection logs (only systems that have one)
 *   refcount/safepoint/idle  a safepoint with nothing pending (only systems that have any)
 *
 * An iteration is a retain and a release, in pair2 one by each thread. */
#include <stdbool.h>
#include <stddef.h>

#include BENCH_SYSTEM
#include "bench/refcount/refcount.h"
#include "bench/support/bench.h"
#include "bench/support/crew.h"

/* The pointer is hidden and memory forgotten between the two, as if there were a program. */
static void count_pairs(system_leaf *leaf, uint64_t n) {
  for (uint64_t i = 0; i < n; i++) {
    system_retain(leaf);
    BENCH_KEEP(leaf);
    system_release(leaf);
    BENCH_KEEP(leaf);
  }
}

static void run_owner(bench_state *state, const struct bench_case *self) {
  (void)self;
  system_leaf *leaf = system_new();
  uint64_t n = bench_start(state);
  count_pairs(leaf, n);
  bench_stop(state);
  system_release(leaf);
}

struct shared {
  system_leaf *leaf;
  uint64_t pairs;
};

static void make(void *arg, unsigned index) {
  struct shared *shared = arg;
  if (index == 0) shared->leaf = system_new();
}

static void count(void *arg, unsigned index) {
  struct shared *shared = arg;
  (void)index;
  count_pairs(shared->leaf, shared->pairs);
}

static void drop(void *arg, unsigned index) {
  struct shared *shared = arg;
  if (index == 0) system_release(shared->leaf);
}

/* arg[0] threads; arg[1]: the first of them makes the object, or else this thread does. */
static void run_crew(bench_state *state, const struct bench_case *self) {
  static const struct crew_job owner_counts = {.prepare = make, .work = count, .finish = drop};
  static const struct crew_job strangers_count = {.work = count};
  struct shared shared = {.pairs = bench_iterations(state)};
  bool owned = self->arg[1] != 0;
  if (!owned) shared.leaf = system_new();
  bench_start(state);
  bench_seconds(
      state, crew_run((unsigned)self->arg[0], owned ? &owner_counts : &strangers_count, &shared));
  bench_stop(state);
  if (!owned) system_release(shared.leaf);
}

#ifdef SYSTEM_HAS_SLOW_PATHS
/* In a thread of its own, which attaches after the option was set. */
static void run_logging(bench_state *state, const struct bench_case *self) {
  static const struct crew_job job = {.prepare = make, .work = count, .finish = drop};
  (void)self;
  struct shared shared = {.pairs = bench_iterations(state)};
  if (!system_slow_paths(1)) bench_fail(state, "the option for slow paths is refused");
  bench_start(state);
  bench_seconds(state, crew_run(1, &job, &shared));
  bench_stop(state);
  (void)system_slow_paths(0);
}
#endif

#ifdef SYSTEM_HAS_SAFEPOINT
static void run_safepoint(bench_state *state, const struct bench_case *self) {
  (void)self;
  /* The thread is attached: otherwise its safepoints would be a stand-in's. */
  system_leaf *leaf = system_new();
  uint64_t n = bench_start(state);
  for (uint64_t i = 0; i < n; i++) {
    system_safepoint();
    BENCH_CLOBBER();
  }
  bench_stop(state);
  system_release(leaf);
}
#endif

void refcount_register_count(void) {
  static const struct bench_case cases[] = {
      {.name = "refcount/pair/owner/" SYSTEM_NAME, .run = run_owner, .level = BENCH_QUICK},
      {.name = "refcount/pair/foreign/" SYSTEM_NAME,
       .run = run_crew,
       .arg = {1, 0},
       .flags = BENCH_MANUAL_TIME,
       .level = BENCH_DEFAULT},
      {.name = "refcount/pair2/owner/" SYSTEM_NAME,
       .run = run_crew,
       .arg = {2, 1},
       .flags = BENCH_MANUAL_TIME,
       .level = BENCH_QUICK},
      {.name = "refcount/pair2/foreign/" SYSTEM_NAME,
       .run = run_crew,
       .arg = {2, 0},
       .flags = BENCH_MANUAL_TIME,
       .level = BENCH_DEFAULT},
#ifdef SYSTEM_HAS_SLOW_PATHS
      {.name = "refcount/pair/logging/" SYSTEM_NAME,
       .run = run_logging,
       .flags = BENCH_MANUAL_TIME,
       .level = BENCH_QUICK},
#endif
#ifdef SYSTEM_HAS_SAFEPOINT
      {.name = "refcount/safepoint/idle/" SYSTEM_NAME,
       .run = run_safepoint,
       .level = BENCH_QUICK,
       .unit = "safepoint"},
#endif
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct bench_case c = cases[i];
    if (c.unit == NULL) c.unit = "pair";
    bench_register(&c);
  }
}
