/* SPDX-License-Identifier: MIT */
/* alloc/xmalloc: one thread allocates, another frees. Every block has to find its way back to the
 * allocating thread's pool, or memory grows. An iteration is one block; the time is the crew's. */
#include <stdio.h>
#include <string.h>

#include "bench/alloc/alloc.h"
#include "bench/support/crew.h"
#include "bench/support/random.h"
#include "bench/support/ring.h"

#define MIX_LEAST 16
#define MIX_MOST 512

static struct {
  uint32_t
      sizes[RING_SIZE]; /* by position in the ring: a table in every case, so that cases differ in
                                nothing else */
  uint64_t blocks;      /* a multiple of RING_BATCH */
  struct ring ring;
} handoff;

/* All sizes the same, or from MIX_LEAST to MIX_MOST for size 0. */
static void make_sizes(int64_t size) {
  struct random r = {9};
  for (unsigned i = 0; i < RING_SIZE; i++)
    handoff.sizes[i] =
        size != 0 ? (uint32_t)size : MIX_LEAST + random_below(&r, MIX_MOST - MIX_LEAST + 1);
}

static void produce(void) {
  for (uint64_t position = 0; position < handoff.blocks; position += RING_BATCH) {
    void **room;
    while ((room = ring_room(&handoff.ring, position)) == NULL)
      ring_wait();
    const uint32_t *sizes = &handoff.sizes[position % RING_SIZE];
    for (unsigned i = 0; i < RING_BATCH; i++) {
      room[i] = system_malloc(sizes[i]);
      alloc_touch(room[i]);
    }
    ring_put(&handoff.ring, position);
    system_safepoint();
  }
}

static void consume(void) {
  for (uint64_t position = 0; position < handoff.blocks; position += RING_BATCH) {
    void **batch;
    while ((batch = ring_batch(&handoff.ring, position)) == NULL)
      ring_wait();
    for (unsigned i = 0; i < RING_BATCH; i++)
      system_free(batch[i]);
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

static void run_xmalloc(bench_state *state, const struct bench_case *self) {
  static const struct crew_job job = {.work = work};
  memset(&handoff, 0, sizeof handoff);
  make_sizes(self->arg[0]);
  uint64_t n = bench_start(state);
  handoff.blocks = (n + RING_BATCH - 1) / RING_BATCH * RING_BATCH;
  double seconds = crew_run(2, &job, NULL);
  bench_seconds(state, seconds * (double)n / (double)handoff.blocks);
  bench_stop(state);
}

void alloc_register_xmalloc(void) {
  static const struct {
    int64_t size;
    enum bench_level level;
  } sizes[] = {{64, BENCH_QUICK}, {1024, BENCH_DEFAULT}, {0, BENCH_QUICK}};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    char name[64], size[24] = "mix";
    if (sizes[i].size != 0) snprintf(size, sizeof size, "%lld", (long long)sizes[i].size);
    snprintf(name, sizeof name, "alloc/xmalloc/%s/" SYSTEM_NAME, size);
    bench_register(&(struct bench_case){.name = name,
                                        .run = run_xmalloc,
                                        .arg = {sizes[i].size},
                                        .flags = BENCH_MANUAL_TIME,
                                        .level = sizes[i].level,
                                        .unit = "block"});
  }
}
