/* SPDX-License-Identifier: MIT */
/* Short threads without end, whose blocks others free, and threads that only free: neither the heaps nor the
 * slots grow. Provokes memory that stays with a slot nobody has, blocks that wait in a batch of a
 * thread that is gone, remote frees that an heir does not find, and slots that are made where one was free. */
#include <stdio.h>
#include <string.h>

#include "tests/support/support.h"

enum { AT_ONCE = 8, BOXES = 256, BLOCKS = 40 };
#define MIB ((size_t)1 << 20)

/* Blocks on their way; their first word is their size. */
static GYRE_ATOMIC(size_t *) boxes[BOXES];

static size_t *block_new(struct test_random *random) {
  uint32_t kind = test_random_below(random, 100);
  size_t size = 16 + (kind < 90   ? test_random_below(random, 500)
                      : kind < 99 ? test_random_below(random, 20000)
                                  : test_random_below(random, 300000));
  size_t *block = gyre_malloc(size);
  TEST_REQUIRE(block != NULL);
  block[0] = size;
  ((unsigned char *)block)[size - 1] = (unsigned char)size;
  return block;
}

static void block_free(size_t *block) {
  if (block == NULL) return;
  size_t size = block[0];
  TEST_REQUIRE(size < 16 || ((unsigned char *)block)[size - 1] == (unsigned char)size);
  gyre_free(block);
}

static size_t *box_exchange(size_t at, size_t *block) {
  /* acq_rel: gives a block and takes one; partner: itself. */
  return gyre__exchange_acq_rel(&boxes[at], block);
}

static void boxes_empty(void) {
  for (size_t i = 0; i < BOXES; i++)
    block_free(box_exchange(i, NULL));
}

/* ---- what may not grow ---- */

struct sizes {
  size_t committed, mapped, slots;
};

static struct sizes sizes_now(void) {
  struct gyre_heap_stats stats = test_heap_stats();
  return (struct sizes){stats.committed_bytes, stats.mapped_bytes,
                        test_thread_stats().slots_high_water};
}

static struct sizes larger(struct sizes a, struct sizes b) {
  return (struct sizes){a.committed > b.committed ? a.committed : b.committed,
                        a.mapped > b.mapped ? a.mapped : b.mapped,
                        a.slots > b.slots ? a.slots : b.slots};
}

/* `early`: the most in the first quarter, `late` afterwards. How many slots are in use at once, and so
 * what pages they keep, differs from run to run; a block or a page a thread would be far beyond that. */
static void has_not_grown(struct sizes early, struct sizes late) {
  printf("committed %zu then %zu KiB, mapped %zu then %zu MiB, slots %zu then %zu\n",
         early.committed >> 10, late.committed >> 10, early.mapped >> 20, late.mapped >> 20,
         early.slots, late.slots);
  assert_true(late.committed <= 2 * early.committed + 16 * MIB);
  assert_true(late.committed <= 128 * MIB);
  assert_true(late.mapped <= 256 * MIB);
  assert_in_range(late.slots, 1, AT_ONCE + 4);
}

/* `body` in so many threads, some at a time. */
static void churn(uint64_t count, void *(*body)(void *)) {
  struct sizes early = {0}, late = {0};
  for (uint64_t done = 0; done < count; done += AT_ONCE) {
    pthread_t threads[AT_ONCE];
    for (unsigned i = 0; i < AT_ONCE; i++)
      threads[i] = test_thread_start(body, (void *)(uintptr_t)(done + i + 1));
    for (unsigned i = 0; i < AT_ONCE; i++)
      test_thread_join(threads[i]);
    struct sizes *sizes = done < count / 4 ? &early : &late;
    *sizes = larger(*sizes, sizes_now());
  }
  test_check();
  has_not_grown(early, late);
  boxes_empty();
}

/* ---- short threads ---- */

static uint64_t threads_to_start(void) {
  return test_size("GYRE_TEST_THREADS", 100000, 8000, 2400);
}

static void *hands_over(void *arg) {
  struct test_random random = test_random_new((uintptr_t)arg);
  for (unsigned i = 0; i < BLOCKS; i++)
    block_free(box_exchange(test_random_below(&random, BOXES), block_new(&random)));
  return NULL;
}

static void short_threads_hand_their_blocks_to_others(void **state) {
  (void)state;
  churn(threads_to_start(), hands_over);
}

/* Attaches for a block of its own, and leaves its frees of others' to the end. */
static void *detaches_in_between(void *arg) {
  struct test_random random = test_random_new((uintptr_t)arg);
  for (unsigned i = 0; i < 4; i++) {
    block_free(box_exchange(test_random_below(&random, BOXES), block_new(&random)));
    gyre_thread_detach();
    block_free(box_exchange(test_random_below(&random, BOXES), NULL));
  }
  return NULL;
}

static void threads_attach_and_detach_again_and_again(void **state) {
  (void)state;
  churn(threads_to_start() / 4, detaches_in_between);
}

/* ---- threads that only free ---- */

static test_flag done_making;

static void *only_frees(void *arg) {
  bool attach = arg != NULL;
  if (attach) TEST_REQUIRE(gyre_thread_attach() != NULL);
  /* With the last look the boxes are empty. */
  for (bool last = false;; last = test_flag_get(&done_making) != 0) {
    for (size_t i = 0; i < BOXES; i++)
      block_free(box_exchange(i, NULL));
    if (last) return NULL;
    if (attach) gyre_safepoint();
    (void)sched_yield();
  }
}

/* Puts a block into a box that is empty; the one that was there, if it was not. */
static void make_blocks(struct test_random *random, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) {
    size_t *left = box_exchange(i % BOXES, block_new(random));
    while (left != NULL) {
      gyre_safepoint();
      (void)sched_yield();
      left = box_exchange(i % BOXES, left);
    }
  }
}

static void feed(bool attach) {
  struct test_random random = test_random_new(1);
  uint64_t rounds = 40, count = test_size("GYRE_TEST_BLOCKS", 1000000, 100000, 20000) / rounds;
  struct sizes early = {0}, late = {0};
  test_flag_set(&done_making, 0);
  pthread_t thread = test_thread_start(only_frees, attach ? &done_making : NULL);
  for (uint64_t round = 0; round < rounds; round++) {
    make_blocks(&random, count);
    struct sizes *sizes = round < rounds / 4 ? &early : &late;
    *sizes = larger(*sizes, sizes_now());
  }
  test_flag_set(&done_making, 1);
  test_thread_join(thread);
  has_not_grown(early, late);
  boxes_empty();
}

static void a_thread_may_only_free(void **state) {
  (void)state;
  feed(true);
}

static void a_thread_that_is_not_attached_may_only_free(void **state) {
  (void)state;
  feed(false);
}

static void *makes_some(void *arg) {
  struct test_random random = test_random_new((uintptr_t)arg);
  make_blocks(&random, BLOCKS);
  return NULL;
}

/* Everything that is freed has an owner who is gone. */
static void a_thread_frees_what_short_ones_have_left(void **state) {
  (void)state;
  test_flag_set(&done_making, 0);
  pthread_t thread = test_thread_start(only_frees, &done_making);
  churn(threads_to_start() / 4, makes_some);
  test_flag_set(&done_making, 1);
  test_thread_join(thread);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(short_threads_hand_their_blocks_to_others),
      TEST(threads_attach_and_detach_again_and_again),
      TEST(a_thread_may_only_free),
      TEST(a_thread_that_is_not_attached_may_only_free),
      TEST(a_thread_frees_what_short_ones_have_left),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
