/* SPDX-License-Identifier: MIT */
/* alloc/cache-thrash, alloc/cache-scratch: does an allocator put the blocks of two threads into one
 * cache line? Each thread allocates a block of one byte, writes it many times, frees it and allocates
 * the next. In cache-thrash the allocator is free to choose (active false sharing). In cache-scratch
 * one thread has allocated a block for each and they begin by freeing it: an allocator that hands it
 * out again to who freed it has two threads write side by side, though they allocate for themselves
 * (passive false sharing). An iteration is one write by each thread. */
#include <stdio.h>

#include "bench/alloc/alloc.h"
#include "bench/support/crew.h"

#define THREADS_MOST 2
#define BLOCKS 1000
#define WRITES 50000

static void *gifts[THREADS_MOST]; /* NULL in cache-thrash */

static void write_often(volatile char *byte) {
  for (unsigned i = 0; i < WRITES; i++)
    *byte = (char)(*byte + 1);
}

static void work(void *arg, unsigned index) {
  (void)arg;
  system_free(gifts[index]);
  for (unsigned i = 0; i < BLOCKS; i++) {
    char *block = system_malloc(1);
    alloc_touch(block);
    write_often(block);
    system_free(block);
    system_safepoint();
  }
}

static void run_cache(bench_state *state, const struct bench_case *self) {
  static const struct crew_job job = {.work = work};
  unsigned threads = (unsigned)self->arg[0];
  bool gives = self->arg[1] != 0;
  for (unsigned i = 0; i < threads; i++)
    gifts[i] = gives ? system_malloc(1) : NULL;
  bench_start(state);
  bench_seconds(state, crew_run(threads, &job, NULL));
  bench_stop(state);
}

void alloc_register_cache(void) {
  static const char *const names[] = {"cache-thrash", "cache-scratch"};
  for (unsigned gives = 0; gives < 2; gives++)
    for (unsigned threads = 1; threads <= THREADS_MOST; threads++) {
      char name[64];
      snprintf(name, sizeof name, "alloc/%s/%u/" SYSTEM_NAME, names[gives], threads);
      bench_register(&(struct bench_case){.name = name,
                                          .run = run_cache,
                                          .arg = {threads, gives},
                                          .iterations = (uint64_t)BLOCKS * WRITES,
                                          .flags = BENCH_MANUAL_TIME,
                                          .level = threads == 1 ? BENCH_FULL : BENCH_DEFAULT,
                                          .unit = "write"});
    }
}
