/* SPDX-License-Identifier: MIT */
/* refcount/slot_load, slot_store: references in an object that any thread may use.
 *
 *   refcount/slot_load/owner     load a counted reference and release it, all by one thread
 *   refcount/slot_load2/foreign  the same by two threads at once, on a slot and a leaf that a third
 *                                made
 *   refcount/slot_store/owner    store one of two leaves in turn
 *
 * An iteration is one load (and release) by each thread, or one store. */
#include <stddef.h>

#include BENCH_SYSTEM
#include "bench/refcount/refcount.h"
#include "bench/support/bench.h"
#include "bench/support/crew.h"

static void load_and_release(system_holder *holder, uint64_t n) {
  for (uint64_t i = 0; i < n; i++) {
    system_leaf *leaf = system_load(holder);
    BENCH_KEEP(leaf);
    system_release(leaf);
    BENCH_KEEP(holder);
  }
}

/* A holder with a leaf that nobody else refers to. */
static system_holder *make_holder(void) {
  system_holder *holder = system_holder_new();
  system_leaf *leaf = system_new();
  system_store(holder, leaf);
  system_release(leaf);
  return holder;
}

static void run_load(bench_state *state, const struct bench_case *self) {
  (void)self;
  system_holder *holder = make_holder();
  uint64_t n = bench_start(state);
  load_and_release(holder, n);
  bench_stop(state);
  system_holder_free(holder);
}

struct shared {
  system_holder *holder;
  uint64_t loads;
};

static void load(void *arg, unsigned index) {
  struct shared *shared = arg;
  (void)index;
  load_and_release(shared->holder, shared->loads);
}

static void run_load2(bench_state *state, const struct bench_case *self) {
  static const struct crew_job job = {.work = load};
  (void)self;
  struct shared shared = {make_holder(), bench_iterations(state)};
  bench_start(state);
  bench_seconds(state, crew_run(2, &job, &shared));
  bench_stop(state);
  system_holder_free(shared.holder);
}

static void run_store(bench_state *state, const struct bench_case *self) {
  (void)self;
  system_holder *holder = system_holder_new();
  system_leaf *leaves[2] = {system_new(), system_new()};
  uint64_t n = bench_start(state);
  for (uint64_t i = 0; i < n; i++) {
    system_store(holder, leaves[i % 2]);
    BENCH_KEEP(holder);
  }
  bench_stop(state);
  system_holder_free(holder);
  system_release(leaves[0]);
  system_release(leaves[1]);
}

void refcount_register_slot(void) {
  static const struct bench_case cases[] = {
      {.name = "refcount/slot_load/owner/" SYSTEM_NAME,
       .run = run_load,
       .level = BENCH_QUICK,
       .unit = "load"},
      {.name = "refcount/slot_load2/foreign/" SYSTEM_NAME,
       .run = run_load2,
       .flags = BENCH_MANUAL_TIME,
       .level = BENCH_DEFAULT,
       .unit = "load"},
      {.name = "refcount/slot_store/owner/" SYSTEM_NAME,
       .run = run_store,
       .level = BENCH_QUICK,
       .unit = "store"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
    bench_register(&cases[i]);
}
