/* SPDX-License-Identifier: MIT */
/* alloc/realloc: a buffer grows from 16 bytes by half of its size at a time, as a string builder's
 * does, until it has the given size; then it is freed and the next one starts. An iteration is one
 * realloc(). */
#include <stdio.h>

#include "bench/alloc/alloc.h"

static void run_grow(bench_state *state, const struct bench_case *self) {
  size_t limit = (size_t)self->arg[0];
  size_t size = 16;
  char *buffer = NULL;
  uint64_t n = bench_start(state);
  for (uint64_t i = 0; i < n; i++) {
    buffer = system_realloc(buffer, size);
    BENCH_KEEP(buffer);
    buffer[size - 1] = 1;
    size += size / 2;
    if (size > limit) {
      system_free(buffer);
      buffer = NULL;
      size = 16;
    }
  }
  bench_stop(state);
  system_free(buffer);
}

void alloc_register_grow(void) {
  static const struct {
    int64_t limit;
    enum bench_level level;
  } limits[] = {{4096, BENCH_DEFAULT}, {1048576, BENCH_QUICK}};
  for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
    char name[64];
    snprintf(name, sizeof name, "alloc/realloc/%lld/" SYSTEM_NAME, (long long)limits[i].limit);
    bench_register(&(struct bench_case){.name = name,
                                        .run = run_grow,
                                        .arg = {limits[i].limit},
                                        .level = limits[i].level,
                                        .unit = "realloc"});
  }
}
