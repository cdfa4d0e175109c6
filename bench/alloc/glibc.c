/* SPDX-License-Identifier: MIT */
/* alloc/glibc-simple: 25, 100, 400 and 1,600 blocks of one size are allocated, half of them freed in
 * the same order, the other half in reverse. An iteration is one block.
 *
 * alloc/glibc-thread: each thread replaces random ones of its 1,024 blocks, of 4 bytes to 32 KiB; a
 * size is the rarer the larger, by its square, so that the mean is about 36 bytes. An iteration is
 * one replacement by each thread.
 *
 * Every byte of a block is written. */
#include <stdio.h>
#include <string.h>

#include "bench/alloc/alloc.h"
#include "bench/support/crew.h"
#include "bench/support/memory.h"
#include "bench/support/random.h"

static void *allocate(size_t size) {
  void *block = system_malloc(size);
  memset(block, 1, size);
  BENCH_KEEP(block);
  return block;
}

/* ---- glibc-simple ---- */

#define COUNT_MOST 1600
/* Of each count; a multiple of all counts. */
#define SIMPLE_BLOCKS 4800000

static void allocate_and_free(size_t size, unsigned count) {
  static void *blocks[COUNT_MOST];
  for (unsigned i = 0; i < count; i++)
    blocks[i] = allocate(size);
  for (unsigned i = 0; i < count / 2; i++)
    system_free(blocks[i]);
  for (unsigned i = count; i > count / 2; i--)
    system_free(blocks[i - 1]);
  system_safepoint();
}

static const unsigned counts[] = {25, 100, 400, COUNT_MOST};
#define COUNTS (sizeof counts / sizeof counts[0])

static void run_simple(bench_state *state, const struct bench_case *self) {
  bench_start(state);
  for (unsigned i = 0; i < COUNTS; i++)
    for (unsigned done = 0; done < SIMPLE_BLOCKS; done += counts[i])
      allocate_and_free((size_t)self->arg[0], counts[i]);
  bench_stop(state);
}

/* ---- glibc-thread ---- */

#define THREADS_MOST 2
#define WORKING_SET 1024
#define SIZE_LEAST 4
#define SIZE_MOST 32768
#define SIZES 8000
#define CHOICES (4 * WORKING_SET)
#define REPLACEMENTS 20000000

struct share {
  void *blocks[WORKING_SET];
};

static struct {
  uint32_t sizes[SIZES];
  uint32_t choices[CHOICES];
  struct share *shares;
} plan;

/* The share of sizes above s is in proportion to 1/s - 1/SIZE_MOST. */
static void make_plan(void) {
  struct random r = {5};
  double most = 1.0 / SIZE_LEAST, least = 1.0 / SIZE_MOST;
  for (unsigned i = 0; i < SIZES; i++) {
    double part = (double)random_below(&r, 1u << 31) / (double)(1u << 31);
    plan.sizes[i] = (uint32_t)(1.0 / (least + (most - least) * part));
  }
  for (unsigned i = 0; i < CHOICES; i++)
    plan.choices[i] = random_below(&r, WORKING_SET);
}

static void work(void *arg, unsigned index) {
  (void)arg;
  void **blocks = plan.shares[index].blocks;
  unsigned choice = 0, size = 0;
  for (unsigned i = 0; i < REPLACEMENTS; i++) {
    void **at = &blocks[plan.choices[choice]];
    system_free(*at);
    *at = allocate(plan.sizes[size]);
    if (++choice == CHOICES) choice = 0;
    if (++size == SIZES) size = 0;
    if (i % 64 == 0) system_safepoint();
  }
}

static void clear(void *arg, unsigned index) {
  (void)arg;
  for (unsigned i = 0; i < WORKING_SET; i++)
    system_free(plan.shares[index].blocks[i]);
}

static void run_thread(bench_state *state, const struct bench_case *self) {
  static const struct crew_job job = {.work = work, .finish = clear};
  make_plan();
  plan.shares = memory_table(THREADS_MOST * sizeof *plan.shares);
  bench_start(state);
  bench_seconds(state, crew_run((unsigned)self->arg[0], &job, NULL));
  bench_stop(state);
  memory_table_free(plan.shares, THREADS_MOST * sizeof *plan.shares);
}

void alloc_register_glibc(void) {
  static const struct {
    int64_t size;
    enum bench_level level;
  } simple[] = {{16, BENCH_DEFAULT}, {32, BENCH_FULL}, {64, BENCH_DEFAULT}};
  char name[64];
  for (size_t i = 0; i < sizeof simple / sizeof simple[0]; i++) {
    snprintf(name, sizeof name, "alloc/glibc-simple/%lld/" SYSTEM_NAME, (long long)simple[i].size);
    bench_register(&(struct bench_case){.name = name,
                                        .run = run_simple,
                                        .arg = {simple[i].size},
                                        .iterations = COUNTS * SIMPLE_BLOCKS,
                                        .level = simple[i].level,
                                        .unit = "block"});
  }
  for (unsigned threads = 1; threads <= THREADS_MOST; threads++) {
    snprintf(name, sizeof name, "alloc/glibc-thread/%u/" SYSTEM_NAME, threads);
    bench_register(&(struct bench_case){.name = name,
                                        .run = run_thread,
                                        .arg = {threads},
                                        .iterations = REPLACEMENTS,
                                        .flags = BENCH_MANUAL_TIME,
                                        .level = threads == 2 ? BENCH_DEFAULT : BENCH_FULL,
                                        .unit = "replacement"});
  }
}
