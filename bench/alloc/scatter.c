/* SPDX-License-Identifier: MIT */
/* alloc/scatter: 10^6 live blocks, far more than caches hold; random ones are freed and replaced. By
 * then neither the block nor what the allocator notes about it is in a cache, which the other cases'
 * small heaps never show. An iteration is one replacement. */
#include <stdio.h>

#include "bench/alloc/alloc.h"
#include "bench/support/memory.h"
#include "bench/support/random.h"

#define BLOCKS 1000000
#define REPLACEMENTS 2000000
#define MIX_LEAST 16
#define MIX_MOST 128

/* Of the given size, or from MIX_LEAST to MIX_MOST for size 0. */
static void *allocate(struct random *r, size_t size) {
  if (size == 0) size = MIX_LEAST + random_below(r, MIX_MOST - MIX_LEAST + 1);
  void *block = system_malloc(size);
  alloc_touch(block);
  return block;
}

static void run_scatter(bench_state *state, const struct bench_case *self) {
  size_t size = (size_t)self->arg[0];
  struct random r = {8};
  void **blocks = memory_table(BLOCKS * sizeof *blocks);
  for (unsigned i = 0; i < BLOCKS; i++)
    blocks[i] = allocate(&r, size);
  uint64_t n = bench_start(state);
  for (uint64_t i = 0; i < n; i++) {
    void **victim = &blocks[random_below(&r, BLOCKS)];
    system_free(*victim);
    *victim = allocate(&r, size);
    if (i % 64 == 0) system_safepoint();
  }
  bench_stop(state);
  for (unsigned i = 0; i < BLOCKS; i++)
    system_free(blocks[i]);
  memory_table_free(blocks, BLOCKS * sizeof *blocks);
}

void alloc_register_scatter(void) {
  static const struct {
    const char *name;
    int64_t size;
    enum bench_level level;
  } sizes[] = {{"64", 64, BENCH_QUICK}, {"mix", 0, BENCH_DEFAULT}};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    char name[64];
    snprintf(name, sizeof name, "alloc/scatter/%s/" SYSTEM_NAME, sizes[i].name);
    bench_register(&(struct bench_case){.name = name,
                                        .run = run_scatter,
                                        .arg = {sizes[i].size},
                                        .iterations = REPLACEMENTS,
                                        .level = sizes[i].level,
                                        .unit = "replacement"});
  }
}
