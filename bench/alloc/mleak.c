/* SPDX-License-Identifier: MIT */
/* alloc/mleak: 5,000 threads, ten at a time, each of which allocates a single zeroed block, leaves it
 * at a random place of a table, frees what was there, and ends. Whether the memory of threads that
 * have ended serves those that come: at most 1,000 blocks of 128 bytes live. An iteration is one
 * thread; what is resident at the end, more than at the start, is reported beside it. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "bench/alloc/alloc.h"
#include "bench/support/memory.h"
#include "bench/support/random.h"

#define THREADS 5000
#define TOGETHER 10
#define TABLE 1000
#define SIZE 128

/* Every thread exchanges. Who takes a block out may free it. */
static _Atomic(void *) table[TABLE];

static void *live(void *arg) {
  _Atomic(void *) *place = arg;
  char *block = system_calloc(SIZE);
  alloc_touch(block);
  /* acq_rel: our writes to the block we leave; those to the one we free. Each exchange of this place
   * pairs with the one before it. */
  system_free(atomic_exchange_explicit(place, block, memory_order_acq_rel));
  return NULL;
}

static void run_together(struct random *r) {
  pthread_t threads[TOGETHER];
  for (unsigned i = 0; i < TOGETHER; i++)
    if (pthread_create(&threads[i], NULL, live, &table[random_below(r, TABLE)]) != 0) abort();
  system_wait_begin();
  for (unsigned i = 0; i < TOGETHER; i++)
    pthread_join(threads[i], NULL);
  system_wait_end();
  system_safepoint();
}

static void run_mleak(bench_state *state, const struct bench_case *self) {
  (void)self;
  struct random r = {7};
  size_t before = memory_resident();
  bench_start(state);
  for (unsigned i = 0; i < THREADS; i += TOGETHER)
    run_together(&r);
  bench_stop(state);
  size_t after = memory_resident();
  bench_counter(state, "resident_bytes", after > before ? (double)(after - before) : 0);
  for (unsigned i = 0; i < TABLE; i++)
    /* relaxed: the threads have been joined. */
    system_free(atomic_load_explicit(&table[i], memory_order_relaxed));
}

void alloc_register_mleak(void) {
  bench_register(&(struct bench_case){.name = "alloc/mleak/" SYSTEM_NAME,
                                      .run = run_mleak,
                                      .iterations = THREADS,
                                      .level = BENCH_DEFAULT,
                                      .unit = "thread"});
}
