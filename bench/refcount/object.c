/* SPDX-License-Identifier: MIT */
/* refcount/new, refcount/handoff, object/resident: the lives of leaf objects of 48 bytes.
 *
 *   refcount/new/48      make one and release it; compare gyre's figure with its alloc/pair/64
 *   refcount/handoff/48  one thread makes them, another drops the last reference
 *   object/resident/48   bytes resident for each of a million objects: header, payload and what the
 *                        allocator adds
 */
#include <stddef.h>
#include <string.h>

#include BENCH_SYSTEM
#include "bench/refcount/refcount.h"
#include "bench/support/bench.h"
#include "bench/support/crew.h"
#include "bench/support/memory.h"
#include "bench/support/ring.h"

static void run_new(bench_state *state, const struct bench_case *self) {
  (void)self;
  uint64_t n = bench_start(state);
  for (uint64_t i = 0; i < n; i++) {
    system_leaf *leaf = system_new();
    BENCH_KEEP(leaf);
    system_release(leaf);
  }
  bench_stop(state);
}

static struct {
  uint64_t objects; /* a multiple of RING_BATCH */
  struct ring ring;
} handoff;

static void produce(void) {
  for (uint64_t position = 0; position < handoff.objects; position += RING_BATCH) {
    void **room;
    while ((room = ring_room(&handoff.ring, position)) == NULL) {
      ring_wait();
      system_safepoint();
    }
    for (unsigned i = 0; i < RING_BATCH; i++)
      room[i] = system_new();
    ring_put(&handoff.ring, position);
    system_safepoint();
  }
}

static void consume(void) {
  for (uint64_t position = 0; position < handoff.objects; position += RING_BATCH) {
    void **batch;
    while ((batch = ring_batch(&handoff.ring, position)) == NULL) {
      ring_wait();
      system_safepoint();
    }
    for (unsigned i = 0; i < RING_BATCH; i++)
      system_release(batch[i]);
    ring_taken(&handoff.ring, position);
    system_safepoint();
  }
}

static void work(void *arg, unsigned index) {
  (void)arg;
  if (index == 0)
    produce();
  else
    consume();
}

static void run_handoff(bench_state *state, const struct bench_case *self) {
  static const struct crew_job job = {.work = work};
  (void)self;
  memset(&handoff, 0, sizeof handoff);
  uint64_t n = bench_start(state);
  handoff.objects = (n + RING_BATCH - 1) / RING_BATCH * RING_BATCH;
  double seconds = crew_run(2, &job, NULL);
  bench_seconds(state, seconds * (double)n / (double)handoff.objects);
  bench_stop(state);
  memory_report_peak(state);
}

#define OBJECTS 1000000u

static void run_resident(bench_state *state, const struct bench_case *self) {
  (void)self;
  system_leaf **leaves = memory_table(OBJECTS * sizeof *leaves);
  /* What the first object of all sets up is not counted. */
  system_release(system_new());
  size_t before = memory_resident();
  uint64_t n = bench_start(state);
  for (uint64_t i = 0; i < n; i++)
    leaves[i] = system_new();
  bench_stop(state);
  size_t after = memory_resident();
  bench_counter(state, "resident_bytes", (double)(after - before));
  bench_counter(state, "resident_bytes_per_object", (double)(after - before) / (double)n);
  bench_counter(state, "header_bytes", SYSTEM_HEADER_BYTES);
  for (uint64_t i = 0; i < n; i++)
    system_release(leaves[i]);
  memory_table_free(leaves, OBJECTS * sizeof *leaves);
}

void refcount_register_object(void) {
  static const struct bench_case cases[] = {
      {.name = "refcount/new/48/" SYSTEM_NAME,
       .run = run_new,
       .level = BENCH_QUICK,
       .unit = "object"},
      {.name = "refcount/handoff/48/" SYSTEM_NAME,
       .run = run_handoff,
       .flags = BENCH_MANUAL_TIME,
       .level = BENCH_QUICK,
       .unit = "object"},
      {.name = "object/resident/48/" SYSTEM_NAME,
       .run = run_resident,
       .iterations = OBJECTS,
       .level = BENCH_QUICK,
       .metric = "resident_bytes_per_object",
       .unit = "bytes/object"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
    bench_register(&cases[i]);
}
