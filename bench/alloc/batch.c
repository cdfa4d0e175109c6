/* SPDX-License-Identifier: MIT */
/* alloc/batch: 1,000 blocks are allocated, then freed in the same order, in reverse, or in a random
 * one. A stack of free blocks is at its best in reverse; order and random shuffle its lists. */
#include <stdio.h>

#include "bench/alloc/alloc.h"
#include "bench/support/random.h"

#define BATCH 1000
#define MIX_LEAST 16
#define MIX_MOST 512

enum order { IN_ORDER, IN_REVERSE, AT_RANDOM };

static void make_order(uint32_t order[BATCH], enum order which) {
  struct random r = {1};
  if (which == AT_RANDOM) {
    random_order(&r, order, BATCH);
    return;
  }
  for (uint32_t i = 0; i < BATCH; i++)
    order[i] = which == IN_ORDER ? i : BATCH - 1 - i;
}

/* All sizes the same, or from MIX_LEAST to MIX_MOST for size 0. */
static void make_sizes(uint32_t sizes[BATCH], int64_t size) {
  struct random r = {2};
  for (uint32_t i = 0; i < BATCH; i++)
    sizes[i] = size != 0 ? (uint32_t)size : MIX_LEAST + random_below(&r, MIX_MOST - MIX_LEAST + 1);
}

/* The loops read order and size from tables in every case, so that cases differ in nothing else. An
 * iteration is one block. */
static void run_batch(bench_state *state, const struct bench_case *self) {
  static uint32_t order[BATCH], sizes[BATCH];
  static void *blocks[BATCH];
  make_order(order, (enum order)self->arg[0]);
  make_sizes(sizes, self->arg[1]);
  uint64_t n = bench_start(state);
  for (uint64_t left = n; left != 0;) {
    uint64_t batch = left < BATCH ? left : BATCH;
    for (uint64_t i = 0; i < batch; i++) {
      blocks[i] = system_malloc(sizes[i]);
      alloc_touch(blocks[i]);
    }
    for (uint64_t i = 0; i < BATCH; i++)
      if (order[i] < batch) system_free(blocks[order[i]]);
    left -= batch;
    system_safepoint();
  }
  bench_stop(state);
}

void alloc_register_batch(void) {
  static const char *const orders[] = {"order", "reverse", "random"};
  static const struct {
    int64_t size;
    enum bench_level level[3];
  } sizes[] = {{16, {BENCH_FULL, BENCH_FULL, BENCH_FULL}},
               {64, {BENCH_DEFAULT, BENCH_DEFAULT, BENCH_QUICK}},
               {512, {BENCH_FULL, BENCH_FULL, BENCH_FULL}},
               {0, {BENCH_DEFAULT, BENCH_DEFAULT, BENCH_QUICK}}};
  for (unsigned o = 0; o < 3; o++)
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
      char name[64], size[24] = "mix";
      if (sizes[i].size != 0) snprintf(size, sizeof size, "%lld", (long long)sizes[i].size);
      snprintf(name, sizeof name, "alloc/batch/%s/%s/" SYSTEM_NAME, orders[o], size);
      bench_register(&(struct bench_case){.name = name,
                                          .run = run_batch,
                                          .arg = {o, sizes[i].size},
                                          .level = sizes[i].level[o],
                                          .unit = "block"});
    }
}
