/* SPDX-License-Identifier: MIT */
/* alloc/pair, alloc/calloc: allocate one block and free it, over and over: the shortest path
 * through an allocator. */
#include <stdio.h>

#include "bench/alloc/alloc.h"

static void run_pair(bench_state *state, const struct bench_case *self) {
  size_t size = (size_t)self->arg[0];
  uint64_t n = bench_start(state);
  for (uint64_t i = 0; i < n; i++) {
    void *block = system_malloc(size);
    alloc_touch(block);
    system_free(block);
  }
  bench_stop(state);
}

/* A byte of each OS page is dirtied before the block goes back, so that the allocator has to clear
 * what it gives out again, and cannot pass it off as fresh from the system. */
static void run_calloc(bench_state *state, const struct bench_case *self) {
  size_t size = (size_t)self->arg[0];
  uint64_t n = bench_start(state);
  for (uint64_t i = 0; i < n; i++) {
    char *block = system_calloc(size);
    alloc_touch(block);
    for (size_t at = 32; at < size; at += 4096)
      block[at] = 1;
    system_free(block);
  }
  bench_stop(state);
}

void alloc_register_pair(void) {
  static const struct {
    int64_t size;
    enum bench_level level;
  } pairs[] = {{16, BENCH_QUICK},      {64, BENCH_QUICK},       {256, BENCH_DEFAULT},
               {1024, BENCH_QUICK},    {4096, BENCH_DEFAULT},   {16384, BENCH_QUICK},
               {65536, BENCH_DEFAULT}, {262144, BENCH_DEFAULT}, {1048576, BENCH_QUICK}},
    callocs[] = {
        {64, BENCH_QUICK}, {1024, BENCH_DEFAULT}, {65536, BENCH_DEFAULT}, {1048576, BENCH_FULL}};
  char name[64];
  for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
    snprintf(name, sizeof name, "alloc/pair/%lld/" SYSTEM_NAME, (long long)pairs[i].size);
    bench_register(&(struct bench_case){.name = name,
                                        .run = run_pair,
                                        .arg = {pairs[i].size},
                                        .level = pairs[i].level,
                                        .unit = "pair"});
  }
  for (size_t i = 0; i < sizeof callocs / sizeof callocs[0]; i++) {
    snprintf(name, sizeof name, "alloc/calloc/%lld/" SYSTEM_NAME, (long long)callocs[i].size);
    bench_register(&(struct bench_case){.name = name,
                                        .run = run_calloc,
                                        .arg = {callocs[i].size},
                                        .level = callocs[i].level,
                                        .unit = "pair"});
  }
}
