/* SPDX-License-Identifier: MIT */
/* Random programs against what they should observe: every block holds what was last written to it,
 * through all of malloc, calloc, realloc, aligned_alloc and free, in one thread and in several that
 * pass blocks to each other, come and go, park and purge. Provokes: pages that become full, empty
 * and another kind; frees by others at each of these moments; heaps without a thread; reuse of
 * everything.
 */
#include "heap_test.h"

#define CELLS 512

struct block {
  char *data;
  size_t size;
  unsigned tag;
};

static size_t random_size(uint64_t *random) {
  uint64_t r = test_random(random);
  switch (r % 16) {
  case 0:
    return (size_t)(r >> 8) % 300000;
  case 1:
  case 2:
    return (size_t)(r >> 8) % 70000;
  case 3:
  case 4:
  case 5:
    return (size_t)(r >> 8) % 9000;
  default:
    return (size_t)(r >> 8) % 400;
  }
}

/* Contents of large blocks are looked at in part only. */
static size_t looked_at(size_t size) { return size < 2000 ? size : 2000; }

static void block_write(struct block *block, uint64_t *random) {
  block->tag = (unsigned)test_random(random);
  fill(block->data, looked_at(block->size), block->tag);
  if (block->size > 0)
    block->data[block->size - 1] = block->size > 2000 ? 0x5A : block->data[block->size - 1];
}

static void block_check(const struct block *block) {
  if (block->data == NULL) return;
  assert_true(holds(block->data, looked_at(block->size), block->tag));
  assert_true(block->size <= 2000 || block->data[block->size - 1] == 0x5A);
}

static void block_new(struct block *block, uint64_t *random) {
  block->size = random_size(random);
  switch (test_random(random) % 4) {
  case 0:
    block->data = gyre_calloc(1, block->size);
    assert_true(test_is_filled(block->data, 0, block->size));
    break;
  case 1: {
    size_t alignment = (size_t)1 << test_random(random) % 15;
    block->data = gyre_aligned_alloc(alignment, block->size);
    assert_int_equal((uintptr_t)block->data % alignment, 0);
    break;
  }
  default:
    block->data = gyre_malloc(block->size);
  }
  assert_non_null(block->data);
  block_write(block, random);
}

static void block_resize(struct block *block, uint64_t *random) {
  size_t size = random_size(random);
  char *moved = gyre_realloc(block->data, size);
  assert_non_null(moved);
  size_t kept = looked_at(size < block->size ? size : block->size);
  assert_true(holds(moved, kept, block->tag));
  block->data = moved;
  block->size = size;
  block_write(block, random);
}

static void block_free(struct block *block) {
  block_check(block);
  gyre_free(block->data);
  block->data = NULL;
}

static void step(struct block *cells, uint64_t *random) {
  struct block *block = &cells[test_random(random) % CELLS];
  if (block->data == NULL)
    block_new(block, random);
  else if (test_random(random) % 3 == 0)
    block_resize(block, random);
  else
    block_free(block);
}

static void one_thread_finds_its_blocks_as_it_left_them(void **state) {
  (void)state;
  static struct block cells[CELLS];
  uint64_t random = test_seed();
  for (int i = 0; i < 60000 / HEAP_TEST_PART; i++) {
    step(cells, &random);
    if (i % 5000 == 0) check_all_heaps();
    if (i % 7001 == 0) assert_int_equal(gyre_purge(), 0);
  }
  for (int i = 0; i < CELLS; i++)
    block_free(&cells[i]);
}

/* ---- several threads ---- */

#define SHARED 64
/* Blocks on their way from a thread to any other; each has its struct block in front. */
static GYRE_ATOMIC(struct block *) shared[SHARED];

static struct block *shared_exchange(uint64_t *random, struct block *block) {
  unsigned at = (unsigned)(test_random(random) % SHARED);
  /* acq_rel: hands one block over and takes another; partner: itself. */
  return gyre__exchange_acq_rel(&shared[at], block);
}

static void pass_on(uint64_t *random) {
  struct block *block = gyre_malloc(sizeof *block);
  assert_non_null(block);
  block_new(block, random);
  block = shared_exchange(random, block);
  if (block == NULL) return;
  if (test_random(random) % 2) block_resize(block, random);
  block_free(block);
  gyre_free(block);
}

static void *run_thread(void *arg) {
  struct block *cells = gyre_calloc(CELLS, sizeof *cells);
  uint64_t random = *(uint64_t *)arg;
  unsigned steps = 3000 + (unsigned)(test_random(&random) % 3000);
  for (unsigned i = 0; i < steps; i++) {
    step(cells, &random);
    pass_on(&random);
    gyre_safepoint();
    if (test_random(&random) % 200 == 0) {
      gyre_park();
      gyre_unpark();
    }
    if (test_random(&random) % 1500 == 0) (void)gyre_purge();
  }
  for (int i = 0; i < CELLS; i++)
    block_free(&cells[i]);
  gyre_free(cells);
  return NULL;
}

static void several_threads_find_each_others_blocks_as_they_were_left(void **state) {
  (void)state;
  enum { THREADS = 4, GENERATIONS = HEAP_TEST_PART > 1 ? 1 : 4 };
  uint64_t seeds[THREADS], random = test_seed();
  (void)gyre_option_set("purge_delay_ms", test_random(&random) % 2 ? "0" : "1");
  for (int generation = 0; generation < GENERATIONS; generation++) {
    pthread_t threads[THREADS];
    for (int t = 0; t < THREADS; t++) {
      seeds[t] = test_random(&random);
      threads[t] = thread_start(run_thread, &seeds[t]);
    }
    for (int t = 0; t < THREADS; t++)
      thread_join(threads[t]);
    check_all_heaps();
  }
  for (int i = 0; i < SHARED; i++) {
    /* acq_rel: as in shared_exchange(). */
    struct block *block = gyre__exchange_acq_rel(&shared[i], NULL);
    if (block == NULL) continue;
    block_free(block);
    gyre_free(block);
  }
  (void)gyre_option_set("purge_delay_ms", "1000");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      HEAP_TEST(one_thread_finds_its_blocks_as_it_left_them),
      HEAP_TEST(several_threads_find_each_others_blocks_as_they_were_left),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
