/* SPDX-License-Identifier: MIT */
/* alloc/mstress: threads with lives of their own that swap blocks. In a round each thread allocates
 * blocks, keeps a third of them to its end, frees others at random and trades some for whatever lies
 * in a random place of a table that all threads share. The threads of a round end; half of what is
 * in the table lives on into the next round. Most blocks are small; a hundredth, a thousandth and a
 * ten-thousandth of them are a hundred, a thousand and ten thousand times as large. Every word of a
 * block is written, and checked before the block is freed. An iteration is one block; the time is
 * that of all rounds, with the start and end of their threads. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/alloc/alloc.h"
#include "bench/support/crew.h"
#include "bench/support/random.h"

#define THREADS 2
#define ROUNDS 100
/* The blocks that thread 0 frees sooner or later, and those that it keeps; the next has twice. */
#define FREED 5000
#define KEPT (FREED / 2)
#define TABLE 1000
/* How much more room for pointers a thread gets when it has none left. */
#define GROWTH 100000
#define STAMP ((uintptr_t)0x9d39247e33776d41u)

/* Every thread exchanges. Who takes a block out sees all that is written in it, and so may check and
 * free it. */
static _Atomic(uintptr_t *) table[TABLE];

static uintptr_t *table_swap(uint32_t place, uintptr_t *block) {
  /* acq_rel: our writes to the block we leave; those of the block's last holder. Each exchange of
   * this place pairs with the one before it. */
  return atomic_exchange_explicit(&table[place], block, memory_order_acq_rel);
}

/* A block of `words`, or now and then of many times as many, that says in each word how many follow. */
static uintptr_t *allocate(struct random *r, size_t words) {
  uint32_t rare = random_below(r, 10000);
  if (rare == 0)
    words *= 10000;
  else if (rare <= 10)
    words *= 1000;
  else if (rare <= 110)
    words *= 100;
  uintptr_t *block = system_malloc(words * sizeof *block);
  for (size_t i = 0; i < words; i++)
    block[i] = STAMP ^ (words - i);
  BENCH_KEEP(block);
  return block;
}

static void check_and_free(uintptr_t *block) {
  if (block == NULL) return;
  size_t words = block[0] ^ STAMP;
  for (size_t i = 0; i < words; i++)
    if (block[i] != (STAMP ^ (words - i))) {
      fprintf(stderr, "benchmark: the block at %p has changed at word %zu\n", (void *)block, i);
      abort();
    }
  system_free(block);
}

struct holdings {
  uintptr_t **freed, **kept;
  size_t freed_count, freed_room, kept_count;
};

static void hold(struct holdings *h, uintptr_t *block) {
  if (h->freed_count == h->freed_room) {
    h->freed_room += GROWTH;
    h->freed = system_realloc(h->freed, h->freed_room * sizeof *h->freed);
  }
  h->freed[h->freed_count++] = block;
}

static void drop_all(struct holdings *h) {
  for (size_t i = 0; i < h->kept_count; i++)
    check_and_free(h->kept[i]);
  for (size_t i = 0; i < h->freed_count; i++)
    check_and_free(h->freed[i]);
  system_free(h->kept);
  system_free(h->freed);
}

static bool chance(struct random *r, uint32_t percent) { return random_below(r, 100) < percent; }

/* One thread's life. */
static void work(void *arg, unsigned index) {
  (void)arg;
  struct random r = {index};
  size_t to_free = FREED * (index + 1), to_keep = KEPT * (index + 1);
  struct holdings h = {.kept = system_malloc(to_keep * sizeof *h.kept)};
  while (to_free + to_keep > 0) {
    if (to_keep == 0 || (to_free > 0 && chance(&r, 50))) {
      hold(&h, allocate(&r, (size_t)1 << random_below(&r, 5)));
      to_free--;
    } else {
      h.kept[h.kept_count++] = allocate(&r, (size_t)1 << random_below(&r, 7));
      to_keep--;
    }
    if (h.freed_count > 0 && chance(&r, 66)) {
      uintptr_t **at = &h.freed[random_below(&r, (uint32_t)h.freed_count)];
      check_and_free(*at);
      *at = NULL;
    }
    if (h.freed_count > 0 && chance(&r, 25)) {
      uintptr_t **at = &h.freed[random_below(&r, (uint32_t)h.freed_count)];
      *at = table_swap(random_below(&r, TABLE), *at);
    }
    if (to_free % 64 == 0) system_safepoint();
  }
  drop_all(&h);
}

static void thin_table(struct random *r, uint32_t percent) {
  for (uint32_t i = 0; i < TABLE; i++)
    if (chance(r, percent)) check_and_free(table_swap(i, NULL));
}

static void run_mstress(bench_state *state, const struct bench_case *self) {
  (void)self;
  static const struct crew_job job = {.work = work};
  struct random r = {THREADS};
  bench_start(state);
  for (unsigned round = 0; round < ROUNDS; round++) {
    crew_run(THREADS, &job, NULL);
    thin_table(&r, 50);
  }
  thin_table(&r, 100);
  bench_stop(state);
}

void alloc_register_mstress(void) {
  /* The sum over the threads: 1 + 2 + ... */
  uint64_t shares = THREADS * (THREADS + 1) / 2;
  char name[64];
  snprintf(name, sizeof name, "alloc/mstress/%u/" SYSTEM_NAME, THREADS);
  bench_register(&(struct bench_case){.name = name,
                                      .run = run_mstress,
                                      .iterations = ROUNDS * (FREED + KEPT) * shares,
                                      .level = BENCH_QUICK,
                                      .unit = "block"});
}
