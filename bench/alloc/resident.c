/* SPDX-License-Identifier: MIT */
/* alloc/resident: how much of the machine's memory a program's bytes take.
 *
 * The heap is filled to LIVE bytes; then in several rounds a random half of the blocks goes and
 * blocks of another range of sizes come, back to LIVE bytes, so that the holes do not fit; at last
 * only every fourth block stays. Blocks are written over their whole length. What was resident
 * before the first allocation is the program itself and does not count.
 *
 *   alloc/resident/churned    resident bytes over live bytes after the rounds, with LIVE bytes
 *   alloc/resident/sparse     the same after three in four blocks went
 *   alloc/resident/idle       bytes still resident when everything was freed and the program then
 *                             idles for arg seconds, waking up every 100 ms for a little work
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "bench/alloc/alloc.h"
#include "bench/support/memory.h"
#include "bench/support/random.h"

#define LIVE (32u << 20)
#define ROUNDS 6
#define BLOCKS_MOST (LIVE / 16)

struct block {
  char *at;
  size_t size;
};

static struct {
  struct block *blocks;
  size_t count;
  size_t live_bytes;
  struct random random;
} heap;

static void heap_fill(uint32_t least, uint32_t most) {
  while (heap.live_bytes < LIVE && heap.count < BLOCKS_MOST) {
    struct block b = {.size = least + random_below(&heap.random, most - least + 1)};
    b.at = system_malloc(b.size);
    alloc_touch(b.at);
    memset(b.at, 1, b.size);
    heap.blocks[heap.count++] = b;
    heap.live_bytes += b.size;
  }
}

/* Frees random blocks; each stays with a chance of keep in 4. */
static void heap_thin(unsigned keep) {
  size_t kept = 0;
  for (size_t i = 0; i < heap.count; i++) {
    if (random_below(&heap.random, 4) < keep) {
      heap.blocks[kept++] = heap.blocks[i];
    } else {
      heap.live_bytes -= heap.blocks[i].size;
      system_free(heap.blocks[i].at);
    }
  }
  heap.count = kept;
  system_safepoint();
}

static void heap_churn(void) {
  static const uint32_t ranges[][2] = {{16, 128},   {100, 512}, {16, 64},
                                       {400, 2000}, {16, 512},  {30, 300}};
  heap_fill(16, 512);
  for (unsigned round = 0; round < ROUNDS; round++) {
    heap_thin(2);
    heap_fill(ranges[round][0], ranges[round][1]);
  }
}

static void idle(unsigned seconds) {
  for (unsigned tick = 0; tick < seconds * 10; tick++) {
    struct timespec pause = {.tv_nsec = 100000000};
    system_wait_begin();
    nanosleep(&pause, NULL);
    system_wait_end();
    for (unsigned i = 0; i < 100; i++) {
      void *block = system_malloc(16 + random_below(&heap.random, 497));
      alloc_touch(block);
      system_free(block);
    }
    system_safepoint();
  }
}

enum phase { CHURNED, SPARSE, IDLE };

static void run_resident(bench_state *state, const struct bench_case *self) {
  enum phase phase = (enum phase)self->arg[0];
  heap.blocks = memory_table(BLOCKS_MOST * sizeof *heap.blocks);
  heap.random.state = 3;
  size_t before = memory_resident();
  bench_start(state);
  heap_churn();
  size_t most = memory_resident() - before;
  if (phase == SPARSE) heap_thin(1);
  if (phase == IDLE) {
    heap_thin(0);
    idle((unsigned)self->arg[1]);
  }
  bench_stop(state);
  size_t after = memory_resident();
  after = after > before ? after - before : 0;
  bench_counter(state, "resident_bytes", (double)after);
  bench_counter(state, "resident_before_free_bytes", (double)most);
  bench_counter(state, "live_bytes", (double)heap.live_bytes);
  if (phase != IDLE)
    bench_counter(state, "resident_over_live", (double)after / (double)heap.live_bytes);
  heap_thin(0);
  memory_table_free(heap.blocks, BLOCKS_MOST * sizeof *heap.blocks);
}

void alloc_register_resident(void) {
  static const struct bench_case cases[] = {
      {.name = "alloc/resident/churned/" SYSTEM_NAME,
       .arg = {CHURNED},
       .level = BENCH_QUICK,
       .metric = "resident_over_live",
       .unit = "resident/live"},
      {.name = "alloc/resident/sparse/" SYSTEM_NAME,
       .arg = {SPARSE},
       .level = BENCH_DEFAULT,
       .metric = "resident_over_live",
       .unit = "resident/live"},
      {.name = "alloc/resident/idle2s/" SYSTEM_NAME,
       .arg = {IDLE, 2},
       .flags = BENCH_SLEEPS,
       .level = BENCH_DEFAULT,
       .metric = "resident_bytes",
       .unit = "resident"},
      {.name = "alloc/resident/idle12s/" SYSTEM_NAME,
       .arg = {IDLE, 12},
       .flags = BENCH_SLEEPS,
       .level = BENCH_FULL,
       .metric = "resident_bytes",
       .unit = "resident"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct bench_case c = cases[i];
    c.run = run_resident;
    c.iterations = 1;
    bench_register(&c);
  }
}
