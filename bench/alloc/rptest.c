/* SPDX-License-Identifier: MIT */
/* alloc/rptest: threads that free and allocate in bursts. Each has a table of 1,000 blocks. In a
 * round it frees up to 80 of them, then what other threads have sent it, and puts up to 100 new
 * blocks into the table in the place of old ones. In every second round it allocates as many again
 * and sends them to the next thread in a parcel, which is blocks too, unless the last one still lies
 * there. Blocks have 8 to 16,000 bytes, all equally likely (even), or the fewer the larger they are
 * (linear, exp). One byte of each OS page is written. An iteration is one block allocated or freed by
 * each thread. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/alloc/alloc.h"
#include "bench/support/crew.h"
#include "bench/support/random.h"

#define THREADS_MOST 2
#define BLOCKS 1000
#define BURST 100
#define SIZE_LEAST 8
#define SIZE_MOST 16000
#define SIZES 2000
#define OPERATIONS 4000000
/* Steps through the table for allocating and for freeing, both prime to its size: neighbours in
 * time are none in the table, and the two do not follow each other. */
#define ALLOCATE_STEP 7
#define FREE_STEP 11

enum drop_off { EVEN, LINEAR, EXPONENTIAL };

struct parcel {
  struct parcel *next;
  void **blocks;
  uint32_t count;
};

struct place {
  /* Any thread pushes, its own thread takes all. Who takes a parcel sees what it holds. */
  _Alignas(128) _Atomic(struct parcel *) arrived;
  /* -- its thread only -- */
  _Alignas(128) void *blocks[BLOCKS];
  struct random random;
  uint32_t next_size, allocate_at, free_at;
  uint64_t done; /* operations */
};

static struct {
  /* -- constant while the threads run -- */
  unsigned threads;
  uint64_t operations;
  uint32_t sizes[SIZES];
} plan;

static struct place places[THREADS_MOST];

static void make_sizes(enum drop_off drop_off) {
  struct random r = {4};
  for (unsigned i = 0; i < SIZES; i++) {
    uint64_t range = SIZE_MOST - SIZE_LEAST, size = random_below(&r, SIZE_MOST - SIZE_LEAST + 1);
    uint64_t left = range - random_below(&r, SIZE_MOST - SIZE_LEAST + 1);
    uint64_t left2 = range - random_below(&r, SIZE_MOST - SIZE_LEAST + 1);
    if (drop_off == LINEAR) size = size * (uint64_t)llabs((int64_t)(left + left2 - range)) / range;
    if (drop_off == EXPONENTIAL) size = size * left / range * left2 / range;
    plan.sizes[i] = (uint32_t)(SIZE_LEAST + size);
  }
}

static void *allocate(struct place *place) {
  size_t size = plan.sizes[place->next_size];
  place->next_size = (place->next_size + 1) % SIZES;
  place->done++;
  void *block = system_malloc(size);
  alloc_touch_pages(block, size);
  return block;
}

static void release(struct place *place, void *block) {
  place->done++;
  system_free(block);
}

static void send(struct place *place, struct place *to, uint32_t count) {
  struct parcel *parcel = system_malloc(sizeof *parcel);
  parcel->blocks = system_malloc(count * sizeof *parcel->blocks);
  parcel->count = count;
  place->done += 2;
  for (uint32_t i = 0; i < count; i++)
    parcel->blocks[i] = allocate(place);
  /* relaxed: only compared; the release below is what publishes. */
  parcel->next = atomic_load_explicit(&to->arrived, memory_order_relaxed);
  /* release: the parcel and its blocks; pairs with the acquire in unpack(). relaxed on failure: as
   * above. */
  while (!atomic_compare_exchange_weak_explicit(&to->arrived, &parcel->next, parcel,
                                                memory_order_release, memory_order_relaxed)) {
  }
}

/* Without a bound, a thread that is kept from its core for a moment would find its heap multiplied. */
static bool has_unpacked(struct place *place) {
  /* relaxed: a parcel more or less is no matter. */
  return atomic_load_explicit(&place->arrived, memory_order_relaxed) == NULL;
}

static void unpack(struct place *place) {
  /* acquire: the parcels; pairs with the release in send(). */
  struct parcel *parcel = atomic_exchange_explicit(&place->arrived, NULL, memory_order_acquire);
  while (parcel != NULL) {
    struct parcel *next = parcel->next;
    for (uint32_t i = 0; i < parcel->count; i++)
      release(place, parcel->blocks[i]);
    release(place, parcel->blocks);
    release(place, parcel);
    parcel = next;
  }
}

static void vacate(struct place *place, uint32_t at) {
  if (place->blocks[at] == NULL) return;
  release(place, place->blocks[at]);
  place->blocks[at] = NULL;
}

static void thin_table(struct place *place, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    vacate(place, place->free_at);
    place->free_at = (place->free_at + FREE_STEP) % BLOCKS;
  }
}

static void fill_table(struct place *place, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    vacate(place, place->allocate_at);
    place->blocks[place->allocate_at] = allocate(place);
    place->allocate_at = (place->allocate_at + ALLOCATE_STEP) % BLOCKS;
  }
}

static void work(void *arg, unsigned index) {
  (void)arg;
  struct place *place = &places[index], *to = &places[(index + 1) % plan.threads];
  for (unsigned round = 0; place->done < plan.operations; round++) {
    thin_table(place, random_below(&place->random, BURST * 4 / 5 + 1));
    unpack(place);
    uint32_t burst = random_below(&place->random, BURST + 1);
    fill_table(place, burst);
    if (to != place && round % 2 == 0 && has_unpacked(to)) send(place, to, burst);
    system_safepoint();
  }
}

static void clear(void *arg, unsigned index) {
  (void)arg;
  unpack(&places[index]);
  for (uint32_t i = 0; i < BLOCKS; i++)
    vacate(&places[index], i);
}

static void run_rptest(bench_state *state, const struct bench_case *self) {
  static const struct crew_job job = {.work = work, .finish = clear};
  make_sizes((enum drop_off)self->arg[0]);
  plan.threads = (unsigned)self->arg[1];
  for (unsigned i = 0; i < plan.threads; i++) {
    memset(&places[i], 0, sizeof places[i]);
    places[i].random.state = i;
    places[i].next_size = i * 37;
  }
  plan.operations = bench_start(state);
  bench_seconds(state, crew_run(plan.threads, &job, NULL));
  bench_stop(state);
}

void alloc_register_rptest(void) {
  static const struct {
    const char *name;
    enum drop_off drop_off;
    unsigned threads;
    enum bench_level level;
  } cases[] = {{"linear/1", LINEAR, 1, BENCH_FULL},
               {"linear/2", LINEAR, 2, BENCH_DEFAULT},
               {"even/2", EVEN, 2, BENCH_FULL},
               {"exp/2", EXPONENTIAL, 2, BENCH_FULL}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char name[64];
    snprintf(name, sizeof name, "alloc/rptest/%s/" SYSTEM_NAME, cases[i].name);
    bench_register(&(struct bench_case){.name = name,
                                        .run = run_rptest,
                                        .arg = {(int64_t)cases[i].drop_off, cases[i].threads},
                                        .iterations = OPERATIONS,
                                        .flags = BENCH_MANUAL_TIME,
                                        .level = cases[i].level,
                                        .unit = "operation"});
  }
}
