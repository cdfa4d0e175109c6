/* SPDX-License-Identifier: MIT */
/* Forks under load: while threads allocate, hand objects to each other and collect, one forks again
 * and again, and each child allocates, makes and collects cycles, starts threads, and leaves
 * cleanly. Provokes a child that finds a lock held, a slot or a page half changed, or waits for a
 * thread that it does not have. */
#include <stdio.h>

#include "tests/support/node.h"

enum { LOADERS = 4, SHARED = 16 };

static node *shared[SHARED]; /* holders: their `next` slots are what threads meet in */
static test_flag quit, ready;

static void step(struct test_random *random) {
  node *holder = shared[test_random_below(random, SHARED)];
  node *n;
  switch (test_random_below(random, 8)) {
  case 0:
    ring_drop(&plain_type, 1 + test_random_below(random, 5));
    break;
  case 1:
    gyre_release(chain_new(&plain_type, 1 + test_random_below(random, 50)));
    break;
  case 2:
    gyre_free(gyre_malloc(1 + test_random_below(random, 100000)));
    break;
  case 3:
    n = node_new(&plain_type, 1);
    gyre_store(&holder->next, n);
    gyre_release(n);
    break;
  case 4:
    gyre_release(gyre_load(&holder->next));
    break;
  case 5:
    gyre_release(gyre_take(&holder->next));
    break;
  case 6:
    GYRE_BLOCKING { (void)sched_yield(); }
    break;
  default:
    if (test_random_below(random, 20) == 0)
      TEST_REQUIRE(gyre_gc_collect((int)test_random_below(random, 3)) >= 0);
    break;
  }
}

static void *loads(void *arg) {
  struct test_random random = test_random_new((uintptr_t)arg);
  gyre_thread_attach();
  test_flag_add(&ready, 1);
  while (!test_flag_get(&quit)) {
    step(&random);
    gyre_safepoint();
  }
  return NULL;
}

static void *steps(void *arg) {
  struct test_random random = test_random_new((uintptr_t)arg);
  for (int i = 0; i < 50; i++) {
    step(&random);
    gyre_safepoint();
  }
  return NULL;
}

static void lives(void *arg) {
  uintptr_t i = (uintptr_t)arg;
  node *ring = ring_new(&plain_type, 10);
  gyre_weak *weak = gyre_weak_new(ring, NULL, NULL);
  TEST_REQUIRE(weak != NULL && gyre_gc_collect(2) >= 0 && !gyre_weak_is_dead(weak));
  gyre_release(ring);
  TEST_REQUIRE(gyre_gc_collect(2) >= 0 && gyre_weak_is_dead(weak));
  gyre_weak_free(weak);
  pthread_t threads[2];
  for (uintptr_t t = 0; t < 2; t++)
    threads[t] = test_thread_start(steps, (void *)(i * 2 + t));
  steps(arg);
  for (unsigned t = 0; t < 2; t++)
    test_thread_join(threads[t]);
  TEST_REQUIRE(gyre_synchronize() == 0);
}

static void children_live_however_busy_the_parent_is(void **state) {
  (void)state;
  uint64_t forks = test_size("GYRE_TEST_FORKS", 1000, 200, 60);
  (void)test_seed();
  test_flag_set(&quit, 0);
  test_flag_set(&ready, 0);
  for (unsigned i = 0; i < SHARED; i++)
    shared[i] = node_new(&plain_type, i);
  pthread_t threads[LOADERS];
  for (uintptr_t t = 0; t < LOADERS; t++)
    threads[t] = test_thread_start(loads, (void *)(t + 1));
  TEST_AWAIT_SAFELY(test_flag_get(&ready) == LOADERS);
  for (uintptr_t i = 0; i < forks; i++) {
    int status = test_child_wait(test_fork(lives, (void *)(i + 100)));
    if (status != 0) fprintf(stderr, "child %zu: status %#x\n", (size_t)i, (unsigned)status);
    TEST_REQUIRE(status == 0);
    if (i % 64 == 0) test_check();
  }
  test_flag_set(&quit, 1);
  for (unsigned t = 0; t < LOADERS; t++)
    test_thread_join(threads[t]);
  for (unsigned i = 0; i < SHARED; i++)
    gyre_release(shared[i]);
}

int main(void) {
  const struct CMUnitTest tests[] = {TEST(children_live_however_busy_the_parent_is)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
