/* SPDX-License-Identifier: MIT */
/* Threads that come and go: hand blocks over, free and allocate in destructors of thread-specific data,
 * load libraries. Where gyre's figures can be asked for, they show that no thread leaves its slot behind. */
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "tests/malloc/family.h"

#ifdef TEST_PREFIXED
#include <gyre/heap.h>
static size_t slots_ever(void) {
  struct gyre_thread_stats stats = {.size = sizeof stats};
  assert_int_equal(gyre_thread_get_stats(&stats), 0);
  return stats.slots_high_water;
}

/* Memory that the library has. */
static size_t memory_now(void) {
  struct gyre_heap_stats stats = {.size = sizeof stats};
  assert_int_equal(gyre_heap_get_stats(&stats), 0);
  assert_true(stats.mapped_bytes <= (size_t)256 << 20);
  return stats.resident_bytes;
}
#else
static size_t slots_ever(void) { return 0; }

/* That the process has. */
static size_t memory_now(void) {
  unsigned long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  assert_non_null(file);
  assert_int_equal(fscanf(file, "%*u %lu", &pages), 1);
  assert_int_equal(fclose(file), 0);
  return pages * (size_t)sysconf(_SC_PAGESIZE);
}
#endif

/* ThreadSanitizer takes a hundred times as long. */
#define THREADS (TEST_THREAD_SANITIZER ? 80u : 800u)

static void run_threads(unsigned count, unsigned at_once, void *(*body)(void *), void *arg) {
  pthread_t threads[64];
  TEST_REQUIRE(at_once <= 64);
  for (unsigned done = 0; done < count; done += at_once) {
    for (unsigned i = 0; i < at_once; i++)
      TEST_REQUIRE(pthread_create(&threads[i], NULL, body, arg) == 0);
    for (unsigned i = 0; i < at_once; i++)
      TEST_REQUIRE(pthread_join(threads[i], NULL) == 0);
  }
}

/* ---- short threads ---- */

#define BOXES 64
/* Blocks on their way from one thread to another: their first word is their size. Atomic: each exchange
 * gives a block and takes one. */
static void *_Atomic boxes[BOXES];

static size_t *block_make(unsigned *random) {
  *random = *random * 1103515245u + 12345u;
  size_t size = 16 + (*random >> 8) % 3000;
  if ((*random >> 24) % 64 == 0) size += 70000;
  size_t *block = malloc(size);
  TEST_REQUIRE(block != NULL);
  fill(block + 1, size - sizeof *block, 1);
  *block = size;
  return block;
}

static void block_drop(size_t *block) {
  if (block == NULL) return;
  TEST_REQUIRE(holds(block + 1, *block - sizeof *block, 1));
  free(block);
}

static void *hand_over(void *arg) {
  unsigned random = (unsigned)(uintptr_t)pthread_self() ^ (unsigned)(uintptr_t)arg;
  for (unsigned i = 0; i < 200; i++)
    block_drop(atomic_exchange(&boxes[i % BOXES], block_make(&random)));
  return NULL;
}

static void boxes_empty(void) {
  for (unsigned i = 0; i < BOXES; i++)
    block_drop(atomic_exchange(&boxes[i], NULL));
}

static void short_threads_hand_blocks_over(void **state) {
  (void)state;
  run_threads(THREADS, 8, hand_over, NULL);
  boxes_empty();
  printf("%u threads, %zu slots\n", THREADS, slots_ever());
  assert_true(slots_ever() <= 16);
}

static void *only_free(void *block) {
  block_drop(block);
  free(NULL);
  return NULL;
}

static void a_thread_may_only_free(void **state) {
  (void)state;
  unsigned random = 1;
  for (unsigned i = 0; i < THREADS; i++)
    run_threads(1, 1, only_free, block_make(&random));
  assert_true(slots_ever() <= 16);
}

/* ---- without end ---- */

#define THREADS_WITHOUT_END (TEST_THREAD_SANITIZER ? 800u : 12000u)
/* A page a thread would be far beyond it, and all blocks of a thread in ten. */
#define MEMORY_MOST ((size_t)64 << 20)

static void *hand_some_over(void *arg) {
  unsigned random = (unsigned)(uintptr_t)pthread_self() ^ (unsigned)(uintptr_t)arg;
  for (unsigned i = 0; i < 20; i++)
    block_drop(atomic_exchange(&boxes[(random + i) % BOXES], block_make(&random)));
  return NULL;
}

static void threads_without_end_leave_no_memory(void **state) {
  (void)state;
  size_t most = 0;
  for (unsigned round = 0; round < 10; round++) {
    run_threads(THREADS_WITHOUT_END / 10, 8, hand_some_over, NULL);
    size_t now = memory_now();
    if (now > most) most = now;
  }
  boxes_empty();
  printf("%u threads, %zu slots, at most %zu KiB\n", THREADS_WITHOUT_END, slots_ever(), most >> 10);
  assert_true(most <= MEMORY_MOST);
  assert_true(slots_ever() <= 16);
}

static int _Atomic done_making;

static void *free_all_there_is(void *arg) {
  (void)arg;
  /* With the last look the boxes are empty. */
  for (bool last = false;; last = atomic_load(&done_making) != 0) {
    boxes_empty();
    if (last) return NULL;
    (void)sched_yield();
  }
}

static void a_thread_that_only_frees_keeps_nothing(void **state) {
  (void)state;
  pthread_t thread;
  unsigned random = 5, count = TEST_THREAD_SANITIZER ? 10000 : 300000;
  size_t most = 0;
  atomic_store(&done_making, 0);
  assert_int_equal(pthread_create(&thread, NULL, free_all_there_is, NULL), 0);
  for (unsigned i = 0; i < count; i++) {
    size_t *block = block_make(&random);
    while ((block = atomic_exchange(&boxes[i % BOXES], block)) != NULL)
      (void)sched_yield();
    if (i % 1000 != 0) continue;
    size_t now = memory_now();
    if (now > most) most = now;
  }
  atomic_store(&done_making, 1);
  assert_int_equal(pthread_join(thread, NULL), 0);
  printf("%u blocks, at most %zu KiB\n", count, most >> 10);
  assert_true(most <= MEMORY_MOST);
}

/* ---- thread-specific data ---- */

/* ThreadSanitizer's own destructor is done with the thread in the last round. */
#define ROUNDS                                                                                     \
  (TEST_THREAD_SANITIZER ? PTHREAD_DESTRUCTOR_ITERATIONS - 1 : PTHREAD_DESTRUCTOR_ITERATIONS)
#define KEYS 40 /* more than the C library has room for in a thread's own block */
static pthread_key_t keys[KEYS];
static unsigned _Atomic destroyed;

/* In every round: frees what it was given and leaves another block for the next round, as long as there
 * is one. */
static void destroy(void *data) {
  size_t *block = data;
  uintptr_t round = block[1];
  unsigned random = (unsigned)round;
  TEST_REQUIRE(round < ROUNDS);
  free(block);
  block_drop(block_make(&random));
  char *grown = realloc(calloc(10, 10), 5000);
  TEST_REQUIRE(grown != NULL && grown[99] == 0);
  free(grown);
  atomic_fetch_add(&destroyed, 1);
  if (round + 1 == ROUNDS) return;
  block = malloc(2 * sizeof *block);
  TEST_REQUIRE(block != NULL);
  block[1] = round + 1;
  for (unsigned i = 0; i < KEYS; i++)
    if (pthread_getspecific(keys[i]) == NULL) {
      TEST_REQUIRE(pthread_setspecific(keys[i], block) == 0);
      return;
    }
  free(block);
}

static void *with_data(void *arg) {
  (void)arg;
  for (unsigned i = 0; i < KEYS; i++) {
    size_t *block = malloc(2 * sizeof *block);
    TEST_REQUIRE(block != NULL);
    block[1] = 0;
    TEST_REQUIRE(pthread_setspecific(keys[i], block) == 0);
  }
  return NULL;
}

static void destructors_free_and_allocate_in_all_rounds(void **state) {
  (void)state;
  for (unsigned i = 0; i < KEYS; i++)
    assert_int_equal(pthread_key_create(&keys[i], destroy), 0);
  run_threads(THREADS, 4, with_data, NULL);
  for (unsigned i = 0; i < KEYS; i++)
    assert_int_equal(pthread_key_delete(keys[i]), 0);
  printf("%u calls of destructors, %zu slots\n", atomic_load(&destroyed), slots_ever());
  assert_true(atomic_load(&destroyed) > THREADS * KEYS);
  assert_true(slots_ever() <= 16);
}

static void *allocate_and_exit(void *arg) {
  unsigned random = 7;
  (void)arg;
  block_drop(block_make(&random));
  void *kept = block_make(&random);
  block_drop(atomic_exchange(&boxes[0], kept));
  pthread_exit(NULL);
}

static void threads_that_leave_by_pthread_exit_give_back_their_slot(void **state) {
  (void)state;
  run_threads(THREADS, 4, allocate_and_exit, NULL);
  boxes_empty();
  assert_true(slots_ever() <= 16);
}

/* ---- trimming ---- */

#ifdef TEST_PREFIXED
static pthread_barrier_t barrier;

static void *fill_and_empty(void *arg) {
  enum { COUNT = 2000 };
  void *blocks[COUNT];
  for (unsigned i = 0; i < COUNT; i++) {
    blocks[i] = malloc(1000);
    TEST_REQUIRE(blocks[i] != NULL);
    memset(blocks[i], 1, 1000);
  }
  for (unsigned i = 0; i < COUNT; i++)
    free(blocks[i]);
  if (arg == NULL) return NULL;
  (void)pthread_barrier_wait(&barrier); /* idle, and still there */
  (void)pthread_barrier_wait(&barrier);
  return NULL;
}

static size_t cached_bytes(void) {
  struct gyre_heap_stats stats = {.size = sizeof stats};
  assert_int_equal(gyre_heap_get_stats(&stats), 0);
  return stats.cached_bytes;
}

static uint64_t grace_periods(void) {
  struct gyre_thread_stats stats = {.size = sizeof stats};
  assert_int_equal(gyre_thread_get_stats(&stats), 0);
  return stats.grace_periods;
}

static void malloc_trim_empties_what_threads_have_left_and_waits_for_nobody(void **state) {
  (void)state;
  pthread_t idle;
  assert_int_equal(pthread_barrier_init(&barrier, NULL, 2), 0);
  (void)malloc_trim(0);
  assert_int_equal(cached_bytes(), 0);
  run_threads(4, 4, fill_and_empty, NULL);
  assert_true(cached_bytes() != 0);
  assert_int_equal(malloc_trim(0), 1);
  assert_int_equal(cached_bytes(), 0);

  assert_int_equal(pthread_create(&idle, NULL, fill_and_empty, &barrier), 0);
  (void)pthread_barrier_wait(&barrier);
  uint64_t waits = grace_periods();
  assert_int_equal(malloc_trim(0), 0);
  assert_int_equal(grace_periods(), waits);
  (void)pthread_barrier_wait(&barrier);
  assert_int_equal(pthread_join(idle, NULL), 0);
  /* It was asked, and did it as it left. */
  assert_int_equal(cached_bytes(), 0);
  assert_int_equal(pthread_barrier_destroy(&barrier), 0);
}
#endif

/* ---- libraries ---- */

#ifndef TEST_PREFIXED /* the dynamic linker's malloc is not ours then */
static void *load_and_unload(void *arg) {
  const char *const names[] = {"libm.so.6", "libresolv.so.2", "libgcc_s.so.1", "libdl.so.2"};
  (void)arg;
  unsigned random = 3;
  for (unsigned i = 0; i < 40; i++) {
    void *library = dlopen(names[i % 4], RTLD_NOW | RTLD_LOCAL);
    block_drop(block_make(&random));
    TEST_REQUIRE(dlopen("no-such-library.so", RTLD_NOW) == NULL && dlerror() != NULL);
    if (library != NULL) TEST_REQUIRE(dlclose(library) == 0);
  }
  return NULL;
}

static void libraries_are_loaded_by_threads(void **state) {
  (void)state;
  run_threads(40, 4, load_and_unload, NULL);
}
#endif

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(short_threads_hand_blocks_over),
      cmocka_unit_test(a_thread_may_only_free),
      cmocka_unit_test(threads_without_end_leave_no_memory),
      cmocka_unit_test(a_thread_that_only_frees_keeps_nothing),
      cmocka_unit_test(destructors_free_and_allocate_in_all_rounds),
      cmocka_unit_test(threads_that_leave_by_pthread_exit_give_back_their_slot),
#ifdef TEST_PREFIXED
      cmocka_unit_test(malloc_trim_empties_what_threads_have_left_and_waits_for_nobody),
#else
      cmocka_unit_test(libraries_are_loaded_by_threads),
#endif
  };
  return preloaded_as_told() + cmocka_run_group_tests_name("threads", tests, NULL, NULL);
}
