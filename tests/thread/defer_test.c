/* SPDX-License-Identifier: MIT */
/* gyre_defer(): when deferred functions are called, and what they may do. */
#include <errno.h>

#include "tests/support/node.h"
#include "tests/support/puppet.h"

struct work {
  gyre_deferred deferred; /* first */
  test_flag done;
  void *object;
  unsigned again;
};

static void works(gyre_deferred *d) {
  struct work *work = (struct work *)(void *)d;
  gyre_release(work->object);
  work->object = NULL;
  if (work->again > 0) {
    work->again--;
    TEST_REQUIRE(gyre_defer(&work->deferred, works) == 0);
    return;
  }
  test_flag_set(&work->done, 1);
}

static void safepoints(struct work *work) { TEST_AWAIT_SAFELY(test_flag_get(&work->done)); }

static void a_function_waits_for_every_thread_that_runs(void **state) {
  (void)state;
  struct work work = {.done = {0}};
  gyre_thread_attach();
  struct puppet other;
  puppet_start(&other);
  assert_int_equal(gyre_defer(NULL, works), -EINVAL);
  assert_int_equal(gyre_defer(&work.deferred, NULL), -EINVAL);
  assert_int_equal(gyre_defer(&work.deferred, works), 0);
  assert_false(test_flag_get(&work.done));
  safepoints(&work);
  puppet_stop(&other);
}

static void *runs_until_told(void *arg) {
  test_flag *flags = arg;
  gyre_thread_attach();
  test_flag_set(&flags[0], 1);
  TEST_AWAIT(test_flag_get(&flags[1]));
  gyre_safepoint();
  return NULL;
}

static void nothing_is_called_while_a_thread_passes_no_safepoint(void **state) {
  (void)state;
  struct work work = {.done = {0}};
  test_flag flags[2] = {{0}, {0}};
  gyre_thread_attach();
  pthread_t thread = test_thread_start(runs_until_told, flags);
  TEST_AWAIT_SAFELY(test_flag_get(&flags[0]));
  assert_int_equal(gyre_defer(&work.deferred, works), 0);
  for (int i = 0; i < 1000; i++) {
    gyre_safepoint();
    assert_false(test_flag_get(&work.done));
  }
  test_flag_set(&flags[1], 1);
  safepoints(&work);
  test_thread_join(thread);
}

static void it_may_release_and_defer_again(void **state) {
  (void)state;
  struct work work = {.again = 3, .object = node_new(&finalized_type, 1)};
  assert_int_equal(gyre_defer(&work.deferred, works), 0);
  assert_int_equal(nodes_finalized(), 0);
  safepoints(&work);
  assert_int_equal(nodes_finalized(), 1);
  assert_int_equal(nodes_destroyed(), 1);
}

static void *defers_and_ends(void *arg) {
  TEST_REQUIRE(gyre_defer(&((struct work *)arg)->deferred, works) == 0);
  return NULL;
}

static void what_an_ended_thread_deferred_is_called_by_others(void **state) {
  (void)state;
  struct work work = {.object = node_new(&node_type, 1)};
  test_thread_run(defers_and_ends, &work);
  assert_int_equal(gyre_synchronize(), 0);
  safepoints(&work);
  assert_int_equal(nodes_destroyed(), 1);
}

static void the_end_of_the_library_leaves_nothing_deferred(void **state) {
  (void)state;
  static struct work work;
  work = (struct work){.again = 1, .object = node_new(&node_type, 1)};
  assert_int_equal(gyre_defer(&work.deferred, works), 0);
  assert_int_equal(gyre_fini(), 0);
  assert_int_equal(nodes_destroyed(), 1);
  gyre_thread_attach();
  safepoints(&work);
}

enum { THREADS = 8 };

static void frees(gyre_deferred *d) { gyre_free(d); }

/* A block is replaced and freed while others read it without a lock. */
static gyre__atomic_ptr shared;
struct block {
  gyre_deferred deferred;
  uint64_t value, same;
};
static struct block *block_new(uint64_t value) {
  struct block *block = gyre_malloc(sizeof *block);
  TEST_REQUIRE(block != NULL);
  block->value = block->same = value;
  return block;
}
static void *reads_and_replaces(void *arg) {
  uint64_t id = (uint64_t)(uintptr_t)arg;
  gyre_thread_attach();
  for (uint64_t i = 0; i < 3000; i++) {
    /* acquire: the block; pairs with the exchange. */
    const struct block *block = gyre__load_acquire(&shared);
    TEST_REQUIRE(block->value == block->same);
    if (i % 8 == id) {
      /* acq_rel: the new block and the old. */
      struct block *old = gyre__exchange_acq_rel(&shared, (void *)block_new(i));
      TEST_REQUIRE(gyre_defer(&old->deferred, frees) == 0);
    }
    TEST_REQUIRE(block->value == block->same);
    gyre_safepoint();
  }
  return NULL;
}

static void readers_without_a_lock_never_see_what_is_freed(void **state) {
  (void)state;
  /* relaxed: before there are threads. */
  gyre__store_relaxed(&shared, (void *)block_new(0));
  pthread_t threads[THREADS];
  for (uintptr_t i = 0; i < THREADS; i++)
    threads[i] = test_thread_start(reads_and_replaces, (void *)i);
  for (int i = 0; i < THREADS; i++)
    test_thread_join(threads[i]);
  /* relaxed: they have been joined. */
  gyre_free(gyre__load_relaxed(&shared));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_function_waits_for_every_thread_that_runs),
      TEST(nothing_is_called_while_a_thread_passes_no_safepoint),
      NODE_TEST(it_may_release_and_defer_again),
      NODE_TEST(what_an_ended_thread_deferred_is_called_by_others),
      NODE_TEST(the_end_of_the_library_leaves_nothing_deferred),
      TEST(readers_without_a_lock_never_see_what_is_freed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
