/* SPDX-License-Identifier: MIT */
/* The object lock. */
#include "tests/support/die.h"
#include "tests/support/node.h"

static void a_lock_is_had_by_one(void **state) {
  (void)state;
  node *n = node_new(&node_type, 0);
  gyre_lock(n);
  assert_int_equal(gyre_try_lock(n), 0);
  gyre_unlock(n);
  assert_int_equal(gyre_try_lock(n), 1);
  assert_int_equal(gyre_try_lock(n), 0);
  gyre_unlock(n);
  assert_int_equal(gyre_refcount(n), 1);
  gyre_release(n);
}

static void two_locks_are_taken_at_once_even_if_they_are_one(void **state) {
  (void)state;
  node *a = node_new(&node_type, 0), *b = node_new(&node_type, 1);
  gyre_lock2(a, b);
  assert_int_equal(gyre_try_lock(a), 0);
  assert_int_equal(gyre_try_lock(b), 0);
  gyre_unlock2(b, a);
  gyre_lock2(a, a);
  assert_int_equal(gyre_try_lock(a), 0);
  gyre_unlock2(a, a);
  assert_int_equal(gyre_try_lock(a), 1);
  gyre_unlock(a);
  gyre_release(a);
  gyre_release(b);
}

static bool is_locked(node *n) {
  if (!gyre_try_lock(n)) return true;
  gyre_unlock(n);
  return false;
}

static int leave_by_return(node *a, node *b) {
  GYRE_LOCKED2(a, b) {
    assert_true(is_locked(a) && is_locked(b));
    return 5;
  }
  return 0;
}

static void a_block_is_locked_however_it_is_left(void **state) {
  (void)state;
  node *a = node_new(&node_type, 0), *b = node_new(&node_type, 1);
  int runs = 0, asked = 0;
  node *both[] = {a, b};
  GYRE_LOCKED(both[asked++]) {
    assert_true(is_locked(a));
    GYRE_LOCKED(b) { assert_true(is_locked(b)); }
    assert_false(is_locked(b));
    runs++;
  }
  assert_int_equal(asked, 1);
  assert_int_equal(runs, 1);
  assert_false(is_locked(a));
  GYRE_LOCKED(a) break;
  assert_false(is_locked(a));
  for (int i = 0; i < 2; i++)
    GYRE_LOCKED(a) {
      if (i == 0) continue;
      goto out;
    }
out:
  assert_false(is_locked(a));
  assert_int_equal(leave_by_return(b, a), 5);
  assert_int_equal(leave_by_return(a, a), 5);
  assert_false(is_locked(a) || is_locked(b));
  gyre_release(a);
  gyre_release(b);
}

/* ---- pairs in either order ---- */

static struct {
  node *a, *b;
  uint64_t sum;
} pair;

static void *add_from_a(void *arg) {
  for (uint64_t i = *(uint64_t *)arg; i > 0; i--)
    GYRE_LOCKED2(pair.a, pair.b) pair.sum++;
  return NULL;
}
static void *add_from_b(void *arg) {
  for (uint64_t i = *(uint64_t *)arg; i > 0; i--)
    GYRE_LOCKED2(pair.b, pair.a) pair.sum++;
  return NULL;
}

static void threads_that_lock_two_in_either_order_all_come_through(void **state) {
  (void)state;
  pair.a = node_new(&node_type, 0);
  pair.b = node_new(&node_type, 1);
  pair.sum = 0;
  uint64_t times = test_size("GYRE_TEST_LOCKS", 20000, 2000, 1000);
  pthread_t threads[8];
  for (int i = 0; i < 8; i++)
    threads[i] = test_thread_start(i % 2 ? add_from_a : add_from_b, &times);
  for (int i = 0; i < 8; i++)
    (void)test_thread_join(threads[i]);
  assert_int_equal(pair.sum, 8 * times);
  gyre_release(pair.a);
  gyre_release(pair.b);
}

static void unlock_unlocked(void) { gyre_unlock(node_new(&plain_type, 0)); }

static void unlocking_what_is_not_locked_dies_with_a_message(void **state) {
  (void)state;
  assert_dies(unlock_unlocked, "not locked");
}

/* ---- contention ---- */

static void *lock_and_unlock(void *object) {
  gyre_lock(object);
  gyre_unlock(object);
  gyre_release(object);
  return NULL;
}

static void who_waits_for_a_lock_is_parked(void **state) {
  (void)state;
  node *n = node_new(&node_type, 0);
  gyre_lock(n);
  pthread_t threads[3];
  for (int i = 0; i < 3; i++)
    threads[i] = test_thread_start(lock_and_unlock, gyre_retain(n));
  TEST_AWAIT_SAFELY(test_thread_stats().parked == 3);
  /* Nobody has to wait for them. */
  assert_int_equal(gyre_gc_collect(2), 0);
  assert_int_equal(gyre_synchronize(), 0);
  gyre_unlock(n);
  for (int i = 0; i < 3; i++)
    test_thread_join(threads[i]);
  gyre_safepoint();
  assert_int_equal(gyre_refcount(n), 1);
  gyre_release(n);
}

static node *x, *y;
static unsigned long counter;
#define THREADS 4

static void *count_locked(void *arg) {
  (void)arg;
  for (uint64_t i = test_size("GYRE_TEST_OPS", 20000, 5000, 2000); i > 0; i--) {
    gyre_lock(x);
    counter++;
    gyre_unlock(x);
    gyre_safepoint();
  }
  return NULL;
}

static void a_lock_keeps_others_out(void **state) {
  (void)state;
  x = node_new(&node_type, 0);
  counter = 0;
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++)
    threads[i] = test_thread_start(count_locked, NULL);
  for (int i = 0; i < THREADS; i++)
    test_thread_join(threads[i]);
  assert_int_equal(counter, THREADS * test_size("GYRE_TEST_OPS", 20000, 5000, 2000));
  gyre_release(x);
}

static void *count_under_both(void *crossed) {
  for (uint64_t i = test_size("GYRE_TEST_OPS", 20000, 5000, 2000); i > 0; i--) {
    if (crossed)
      gyre_lock2(y, x);
    else
      gyre_lock2(x, y);
    counter++;
    gyre_unlock2(x, y);
    gyre_safepoint();
  }
  return NULL;
}

static void threads_that_name_two_locks_in_different_orders_do_not_block_each_other(void **state) {
  (void)state;
  x = node_new(&node_type, 0);
  y = node_new(&node_type, 1);
  counter = 0;
  pthread_t threads[THREADS];
  for (uintptr_t i = 0; i < THREADS; i++)
    threads[i] = test_thread_start(count_under_both, (void *)(i % 2));
  for (int i = 0; i < THREADS; i++)
    test_thread_join(threads[i]);
  assert_int_equal(counter, THREADS * test_size("GYRE_TEST_OPS", 20000, 5000, 2000));
  gyre_release(x);
  gyre_release(y);
}

/* ---- program code ---- */

static test_flag wants_lock, found_locked;

static int wants_the_lock(node *n) {
  (void)n;
  if (gyre_try_lock(x))
    gyre_unlock(x);
  else if (test_flag_get(&wants_lock))
    test_flag_set(&found_locked, 1);
  return 0;
}

/* Asks itself to collect garbage with finalizers, and then waits for a lock. */
static void *wait_with_a_collection_due(void *arg) {
  (void)arg;
  for (int i = 0; i < 1000; i++)
    ring_drop(&finalized_type, 2);
  gyre_lock(x);
  test_flag_set(&wants_lock, 0);
  gyre_unlock(x);
  return NULL;
}

static void no_finalizer_runs_between_getting_a_lock_and_the_return(void **state) {
  (void)state;
  x = node_new(&node_type, 0);
  node_on_finalize = wants_the_lock;
  test_flag_set(&found_locked, 0);
  test_flag_set(&wants_lock, 0);
  gyre_lock(x);
  pthread_t thread = test_thread_start(wait_with_a_collection_due, NULL);
  TEST_AWAIT(test_thread_stats().parked == 1);
  test_flag_set(&wants_lock, 1);
  gyre_unlock(x);
  test_thread_join(thread);
  /* A finalizer that locked x would have waited for its own thread. */
  assert_int_equal(test_flag_get(&found_locked), 0);
  gyre_gc_collect(2);
  assert_int_equal(nodes_finalized(), 2000);
  gyre_release(x);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(a_lock_is_had_by_one),
      NODE_TEST(two_locks_are_taken_at_once_even_if_they_are_one),
      NODE_TEST(a_block_is_locked_however_it_is_left),
      NODE_TEST(threads_that_lock_two_in_either_order_all_come_through),
      NODE_TEST(unlocking_what_is_not_locked_dies_with_a_message),
      NODE_TEST(who_waits_for_a_lock_is_parked),
      NODE_TEST(a_lock_keeps_others_out),
      NODE_TEST(threads_that_name_two_locks_in_different_orders_do_not_block_each_other),
      NODE_TEST_WITH(no_finalizer_runs_between_getting_a_lock_and_the_return, "gc_threshold:10"),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
