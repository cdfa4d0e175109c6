/* SPDX-License-Identifier: MIT */
/* refcount/weak_get, weak_get2, weakmap_get: taking a counted reference from a weak one and releasing it.
 *
 *   refcount/weak_get/owner      by the thread that made the object
 *   refcount/weak_get/foreign    by another, alone; to be compared with pair/foreign
 *   refcount/weak_get2/foreign   by two at once, neither of which made it; with pair2/foreign
 *   refcount/weakmap_get/foreign looking the same object up in a map of one entry, and releasing it
 *
 * Only systems that have weak references. An iteration is one take and release by each thread. */
#include <stddef.h>

#include BENCH_SYSTEM
#include "bench/refcount/refcount.h"
#include "bench/support/bench.h"
#include "bench/support/crew.h"

#ifdef SYSTEM_HAS_WEAK

struct shared {
  system_weak *weak;
  system_map *map;
  system_leaf *leaf;
  uint64_t takes;
};

static void take_all(system_weak *weak, uint64_t n) {
  for (uint64_t i = 0; i < n; i++) {
    system_leaf *leaf = system_weak_get(weak);
    BENCH_KEEP(leaf);
    system_release(leaf);
    BENCH_KEEP(weak);
  }
}

static void take(void *arg, unsigned index) {
  struct shared *shared = arg;
  (void)index;
  take_all(shared->weak, shared->takes);
}

static void look_up(void *arg, unsigned index) {
  struct shared *shared = arg;
  (void)index;
  for (uint64_t i = 0; i < shared->takes; i++) {
    system_leaf *leaf = system_map_get(shared->map, shared->leaf);
    BENCH_KEEP(leaf);
    system_release(leaf);
  }
}

static struct shared shared_new(bench_state *state) {
  struct shared shared = {.leaf = system_new(), .takes = bench_iterations(state)};
  shared.weak = system_weak_new(shared.leaf);
  shared.map = system_map_new(shared.leaf);
  return shared;
}

static void shared_free(struct shared *shared) {
  system_map_free(shared->map);
  system_release(shared->leaf);
  system_weak_free(shared->weak);
}

static void run_owner(bench_state *state, const struct bench_case *self) {
  (void)self;
  struct shared shared = shared_new(state);
  bench_start(state);
  take_all(shared.weak, shared.takes);
  bench_stop(state);
  shared_free(&shared);
}

/* arg[0] threads; arg[1]: look it up in the map. */
static void run_crew(bench_state *state, const struct bench_case *self) {
  static const struct crew_job takes = {.work = take}, looks = {.work = look_up};
  struct shared shared = shared_new(state);
  bench_start(state);
  bench_seconds(state, crew_run((unsigned)self->arg[0], self->arg[1] ? &looks : &takes, &shared));
  bench_stop(state);
  shared_free(&shared);
}

void refcount_register_weak(void) {
  static const struct bench_case cases[] = {
      {.name = "refcount/weak_get/owner/" SYSTEM_NAME, .run = run_owner, .level = BENCH_QUICK},
      {.name = "refcount/weak_get/foreign/" SYSTEM_NAME,
       .run = run_crew,
       .arg = {1, 0},
       .flags = BENCH_MANUAL_TIME,
       .level = BENCH_DEFAULT},
      {.name = "refcount/weak_get2/foreign/" SYSTEM_NAME,
       .run = run_crew,
       .arg = {2, 0},
       .flags = BENCH_MANUAL_TIME,
       .level = BENCH_QUICK},
      {.name = "refcount/weakmap_get/foreign/" SYSTEM_NAME,
       .run = run_crew,
       .arg = {1, 1},
       .flags = BENCH_MANUAL_TIME,
       .level = BENCH_DEFAULT},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct bench_case c = cases[i];
    c.unit = "take";
    bench_register(&c);
  }
}

#else

void refcount_register_weak(void) {}

#endif
