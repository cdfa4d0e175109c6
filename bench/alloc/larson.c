/* SPDX-License-Identifier: MIT */
/* alloc/larson: a server whose threads come and go. Each has a table of blocks and replaces random
 * ones by blocks of random size; after a while it hands the table to a new thread and ends, so that
 * most blocks are freed by another thread than the one that allocated them, and often by one that
 * outlives it. An iteration is one replacement by each thread. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/alloc/alloc.h"
#include "bench/support/crew.h"
#include "bench/support/memory.h"
#include "bench/support/random.h"

#define BLOCKS 5000
#define SIZE_LEAST 8
#define SIZE_MOST 1000
#define THREADS_MOST 2
/* Replacements until a thread hands over, and how many shifts follow one another. */
#define SHIFT 500000
#define SHIFTS 16

struct station {
  void *blocks[BLOCKS];
  struct random random;
  uint64_t left; /* replacements */
};

static struct station *stations;

static void *allocate(struct random *r) {
  uint32_t size = SIZE_LEAST + random_below(r, SIZE_MOST - SIZE_LEAST + 1);
  char *block = system_malloc(size);
  alloc_touch(block);
  block[size - 1] = 1;
  return block;
}

/* One thread's life. */
static void *shift(void *arg) {
  struct station *station = arg;
  uint64_t n = station->left < SHIFT ? station->left : SHIFT;
  for (uint64_t i = 0; i < n; i++) {
    uint32_t victim = random_below(&station->random, BLOCKS);
    system_free(station->blocks[victim]);
    station->blocks[victim] = allocate(&station->random);
    if (i % 64 == 0) system_safepoint();
  }
  station->left -= n;
  return NULL;
}

static void fill(void *arg, unsigned index) {
  (void)arg;
  for (unsigned i = 0; i < BLOCKS; i++)
    stations[index].blocks[i] = allocate(&stations[index].random);
}

/* The crew's threads wait for the threads of their station, one after another. */
static void work(void *arg, unsigned index) {
  (void)arg;
  while (stations[index].left != 0) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, shift, &stations[index]) != 0) abort();
    system_wait_begin();
    pthread_join(thread, NULL);
    system_wait_end();
  }
}

static void empty(void *arg, unsigned index) {
  (void)arg;
  for (unsigned i = 0; i < BLOCKS; i++)
    system_free(stations[index].blocks[i]);
}

static void run_larson(bench_state *state, const struct bench_case *self) {
  static const struct crew_job job = {.prepare = fill, .work = work, .finish = empty};
  unsigned threads = (unsigned)self->arg[0];
  stations = memory_table(THREADS_MOST * sizeof *stations);
  uint64_t n = bench_start(state);
  for (unsigned i = 0; i < threads; i++) {
    stations[i].random.state = i;
    stations[i].left = n;
  }
  bench_seconds(state, crew_run(threads, &job, NULL));
  bench_stop(state);
  memory_table_free(stations, THREADS_MOST * sizeof *stations);
}

void alloc_register_larson(void) {
  for (unsigned threads = 1; threads <= THREADS_MOST; threads++) {
    char name[64];
    snprintf(name, sizeof name, "alloc/larson/%u/" SYSTEM_NAME, threads);
    bench_register(&(struct bench_case){.name = name,
                                        .run = run_larson,
                                        .arg = {threads},
                                        .iterations = SHIFTS * SHIFT,
                                        .flags = BENCH_MANUAL_TIME,
                                        .level = threads == 2 ? BENCH_QUICK : BENCH_DEFAULT,
                                        .unit = "replacement"});
  }
}
