/* SPDX-License-Identifier: MIT */
/* alloc/xmalloc-test: some threads only allocate, as many others only free. Blocks travel 4,096 at a
 * time, in batches that are blocks themselves; the batches wait on a shelf that all threads share,
 * the newest on top. Unlike in alloc/xmalloc, nothing ties a thread that frees to one that
 * allocates, and there may be more threads than cores. An iteration is one block; the time is the
 * crew's. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "bench/alloc/alloc.h"
#include "bench/support/crew.h"
#include "bench/support/random.h"

#define BATCH 4096
#define BATCHES 1024
#define SHELF_MOST 100
/* How much of a block is written. */
#define WRITTEN_MOST 128

struct batch {
  struct batch *below;
  void *blocks[BATCH];
};

static struct {
  /* -- constant while the threads run -- */
  uint64_t batches_each; /* that a thread fills or empties */
  /* -- synchronize by themselves -- */
  pthread_mutex_t lock;
  pthread_cond_t filled, emptied;
  /* -- under lock -- */
  struct batch *top;
  unsigned count;
} shelf = {.lock = PTHREAD_MUTEX_INITIALIZER,
           .filled = PTHREAD_COND_INITIALIZER,
           .emptied = PTHREAD_COND_INITIALIZER};

/* Both wait for the lock as well as for room or a batch, and say so to the system for as long. */
static void shelf_put(struct batch *batch) {
  system_wait_begin();
  pthread_mutex_lock(&shelf.lock);
  while (shelf.count == SHELF_MOST)
    pthread_cond_wait(&shelf.emptied, &shelf.lock);
  batch->below = shelf.top;
  shelf.top = batch;
  shelf.count++;
  pthread_cond_signal(&shelf.filled);
  pthread_mutex_unlock(&shelf.lock);
  system_wait_end();
}

static struct batch *shelf_take(void) {
  system_wait_begin();
  pthread_mutex_lock(&shelf.lock);
  while (shelf.top == NULL)
    pthread_cond_wait(&shelf.filled, &shelf.lock);
  struct batch *batch = shelf.top;
  shelf.top = batch->below;
  shelf.count--;
  pthread_cond_signal(&shelf.emptied);
  pthread_mutex_unlock(&shelf.lock);
  system_wait_end();
  return batch;
}

static void allocate_batches(unsigned index) {
  static const size_t sizes[] = {8,   12,  16,  24,  32,  48,   64,   96,  128,
                                 192, 256, 384, 512, 768, 1024, 1536, 2048};
  struct random r = {index};
  for (uint64_t n = 0; n < shelf.batches_each; n++) {
    struct batch *batch = system_malloc(sizeof *batch);
    for (unsigned i = 0; i < BATCH; i++) {
      size_t size = sizes[random_below(&r, sizeof sizes / sizeof sizes[0])];
      batch->blocks[i] = system_malloc(size);
      memset(batch->blocks[i], (int)(i % 256), size < WRITTEN_MOST ? size : WRITTEN_MOST);
    }
    shelf_put(batch);
    system_safepoint();
  }
}

static void free_batches(void) {
  for (uint64_t n = 0; n < shelf.batches_each; n++) {
    struct batch *batch = shelf_take();
    for (unsigned i = 0; i < BATCH; i++)
      system_free(batch->blocks[i]);
    system_free(batch);
    system_safepoint();
  }
}

static void work(void *arg, unsigned index) {
  (void)arg;
  if (index % 2 == 0)
    allocate_batches(index);
  else
    free_batches();
}

static void run_xmalloc_test(bench_state *state, const struct bench_case *self) {
  static const struct crew_job job = {.work = work};
  unsigned pairs = (unsigned)self->arg[0];
  shelf.batches_each = bench_start(state) / BATCH / pairs;
  bench_seconds(state, crew_run(2 * pairs, &job, NULL));
  bench_stop(state);
}

void alloc_register_xmalloc_test(void) {
  for (unsigned pairs = 1; pairs <= 2; pairs++) {
    char name[64];
    snprintf(name, sizeof name, "alloc/xmalloc-test/%u/" SYSTEM_NAME, pairs);
    bench_register(&(struct bench_case){.name = name,
                                        .run = run_xmalloc_test,
                                        .arg = {pairs},
                                        .iterations = (uint64_t)BATCHES * BATCH,
                                        .flags = BENCH_MANUAL_TIME,
                                        .level = BENCH_DEFAULT,
                                        .unit = "block"});
  }
}
