/* SPDX-License-Identifier: MIT */
/* Queued finalizers, and failing ones. */
#include <errno.h>
#include <string.h>

#include "tests/support/node.h"
#include "tests/support/puppet.h"
#include "tests/support/window.h"

static test_flag finalized, destroyed;
static test_flag finalized_by; /* a thread's id */
static uint64_t order[8];
static node *saved;
static bool save;
static int result;

static int finalize(void *object) {
  test_flag_set(&finalized_by, gyre_thread_current()->id);
  uint32_t at = test_flag_add(&finalized, 1) - 1;
  if (at < 8) order[at] = ((node *)object)->tag;
  if (save) saved = gyre_retain((node *)object);
  return result;
}
static void destroy(void *object) {
  (void)object;
  test_flag_add(&destroyed, 1);
}
static GYRE_TYPE_DEFINE(queued_type, node, .slots = GYRE_SLOTS(node, next, other),
                        .finalize = finalize, .destroy = destroy,
                        .flags = GYRE_TYPE_FINALIZE_QUEUED);
/* The same without the wish. */
static GYRE_TYPE_DEFINE(usual_type, node, .slots = GYRE_SLOTS(node, next, other),
                        .finalize = finalize, .destroy = destroy);

static bool finalized_here(void) {
  return test_flag_get(&finalized_by) == gyre_thread_current()->id;
}

static int pending_begin(void **state) {
  test_flag_set(&finalized, 0);
  test_flag_set(&destroyed, 0);
  save = false;
  saved = NULL;
  result = 0;
  return nodes_begin(state);
}
#define PENDING_TEST(name, options)                                                                \
  { #name, name, pending_begin, test_end, (void *)(uintptr_t)(options) }
#define BY_PROGRAM "gc:0,finalizers:program"

static void the_program_runs_them_in_order(void **state) {
  (void)state;
  for (uint64_t i = 0; i < 5; i++)
    gyre_release(node_new(&queued_type, i));
  assert_int_equal(gyre_pending_count(), 5);
  assert_int_equal(test_flag_get(&finalized), 0);
  test_check();
  assert_int_equal(gyre_gc_collect(2), 0);
  assert_int_equal(gyre_run_pending(2), 2);
  assert_int_equal(test_flag_get(&finalized), 2);
  assert_int_equal(test_flag_get(&destroyed), 2);
  assert_int_equal(gyre_run_pending(SIZE_MAX), 3);
  assert_int_equal(gyre_pending_count(), 0);
  assert_int_equal(gyre_run_pending(SIZE_MAX), 0);
  for (uint64_t i = 0; i < 5; i++)
    assert_int_equal(order[i], i);
  assert_int_equal(test_flag_get(&destroyed), 5);
}

static void the_service_thread_runs_them(void **state) {
  (void)state;
  gyre_release(node_new(&queued_type, 1));
  TEST_AWAIT_SAFELY(test_flag_get(&destroyed) == 1);
  assert_false(finalized_here());
  gyre_service_stop();
}

static void others_run_where_they_are(void **state) {
  (void)state;
  gyre_release(node_new(&usual_type, 1));
  assert_int_equal(test_flag_get(&destroyed), 1);
  assert_true(finalized_here());
}

static void waiting_it_can_be_brought_back(void **state) {
  (void)state;
  node *n = node_new(&queued_type, 1);
  gyre_weak *weak = gyre_weak_new(n, NULL, NULL);
  gyre_release(n);
  node *again = gyre_weak_get(weak);
  assert_ptr_equal(again, n);
  gyre_release(again);
  assert_int_equal(gyre_pending_count(), 1);
  again = gyre_weak_get(weak);
  assert_int_equal(gyre_run_pending(9), 1);
  assert_int_equal(test_flag_get(&finalized), 1);
  assert_int_equal(test_flag_get(&destroyed), 0);
  gyre_release(again);
  /* Once. */
  assert_int_equal(gyre_pending_count(), 0);
  assert_int_equal(test_flag_get(&destroyed), 1);
  assert_int_equal(test_flag_get(&finalized), 1);
  gyre_weak_free(weak);
}

static void a_finalizer_brings_it_back(void **state) {
  (void)state;
  save = true;
  gyre_release(node_new(&queued_type, 1));
  assert_int_equal(gyre_run_pending(9), 1);
  assert_int_equal(test_flag_get(&destroyed), 0);
  assert_int_equal(gyre_gc_is_finalized(saved), 1);
  gyre_release(saved);
  assert_int_equal(test_flag_get(&destroyed), 1);
  assert_int_equal(gyre_pending_count(), 0);
}

static void garbage_waits_for_the_program(void **state) {
  (void)state;
  ring_drop(&usual_type, 3);
  assert_int_equal(gyre_gc_collect(2), 0);
  assert_int_equal(test_flag_get(&finalized), 0);
  assert_int_equal(gyre_pending_count(), 3);
  assert_int_equal(gyre_gc_collect(2), 0);
  assert_int_equal(gyre_pending_count(), 3);
  assert_int_equal(gyre_run_pending(SIZE_MAX), 3);
  assert_int_equal(test_flag_get(&destroyed), 0);
  assert_int_equal(gyre_gc_collect(2), 3);
  assert_int_equal(test_flag_get(&destroyed), 3);
}

static void garbage_of_such_a_type_waits_for_the_service_thread(void **state) {
  (void)state;
  ring_drop(&queued_type, 3);
  /* If it is quick, they are found dead in the same collection. */
  ptrdiff_t collected = gyre_gc_collect(2);
  TEST_AWAIT_SAFELY(test_flag_get(&finalized) == 3);
  assert_false(finalized_here());
  TEST_AWAIT_SAFELY(collected + gyre_gc_collect(2) == 3);
  assert_int_equal(test_flag_get(&destroyed), 3);
  gyre_service_stop();
}

/* A finalizer that wants a lock which the thread that drops the last reference holds. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int locks(void *object) {
  (void)object;
  GYRE_BLOCKING { pthread_mutex_lock(&mutex); }
  pthread_mutex_unlock(&mutex);
  test_flag_add(&finalized, 1);
  return 0;
}
static GYRE_TYPE_DEFINE(locking_type, node, .slots = GYRE_SLOTS(node, next), .finalize = locks,
                        .flags = GYRE_TYPE_FINALIZE_QUEUED);

static void a_lock_that_is_held_does_no_harm(void **state) {
  (void)state;
  pthread_mutex_lock(&mutex);
  gyre_release(node_new(&locking_type, 1));
  ring_drop(&locking_type, 2);
  assert_int_equal(gyre_gc_collect(2), 0);
  pthread_mutex_unlock(&mutex);
  TEST_AWAIT_SAFELY(test_flag_get(&finalized) == 3);
  TEST_AWAIT_SAFELY(gyre_gc_collect(2) == 2);
  gyre_service_stop();
}

static void without_memory_garbage_is_finalized_at_once(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  /* More than the queue ever had room for. */
  enum { N = 3000 };
  ring_drop(&usual_type, N);
  ptrdiff_t collected = -ENOMEM;
  for (uint64_t nth = 1; collected <= 0; nth++) {
    gyre__fault_arm(nth, 0);
    collected = gyre_gc_collect(2);
    gyre__fault_arm(0, 0);
    (void)gyre_run_pending(SIZE_MAX);
  }
  assert_int_equal(collected, N);
  assert_int_equal(test_flag_get(&finalized), N);
}

static void gyre_fini_runs_them(void **state) {
  (void)state;
  gyre_release(node_new(&queued_type, 1));
  ring_drop(&queued_type, 2);
  assert_int_equal(gyre_pending_count(), 1);
  assert_int_equal(gyre_fini(), 0);
  assert_int_equal(test_flag_get(&destroyed), 3);
}

static void child_runs(void *arg) {
  (void)arg;
  TEST_REQUIRE(gyre_run_pending(SIZE_MAX) == 3);
  TEST_REQUIRE(test_flag_get(&destroyed) == 3);
}

static void a_child_has_the_queue_too(void **state) {
  (void)state;
  for (uint64_t i = 0; i < 3; i++)
    gyre_release(node_new(&queued_type, i));
  test_in_child(child_runs, NULL);
  assert_int_equal(gyre_run_pending(SIZE_MAX), 3);
}

/* ---- failures ---- */

static void *failed;
static int failed_with;
static void note_failure(void *object, int error, void *arg) {
  TEST_REQUIRE(arg == &failed);
  failed = object;
  failed_with = error;
  /* Anything goes. */
  gyre_release(node_new(&node_type, 1));
}

static void a_failing_finalizer_is_reported_and_it_goes_on(void **state) {
  (void)state;
  result = -EIO;
  gyre_set_error_hook(note_failure, &failed);
  node *n = node_new(&usual_type, 1);
  gyre_release(n);
  assert_ptr_equal(failed, n);
  assert_int_equal(failed_with, -EIO);
  assert_int_equal(test_flag_get(&destroyed), 1);
  failed = NULL;
  ring_drop(&usual_type, 3);
  assert_int_equal(gyre_gc_collect(2), 3);
  assert_non_null(failed);
  failed = NULL;
  gyre_set_error_hook(NULL, NULL);
  test_log_capture();
  gyre_release(node_new(&usual_type, 1));
  assert_null(failed);
  assert_int_equal(test_log_count("finalizer of node at "), 1);
}

/* ---- eight threads ---- */

static void *drops(void *arg) {
  struct test_random random = test_random_new((uint64_t)(uintptr_t)arg);
  uint64_t steps = test_size("GYRE_PENDING", 5000, 2000, 500);
  for (uint64_t i = 0; i < steps; i++) {
    if (test_random_below(&random, 4) == 0)
      ring_drop(&queued_type, 2);
    else
      gyre_release(node_new(&queued_type, i));
    if (test_random_below(&random, 8) == 0) (void)gyre_run_pending(3);
    gyre_safepoint();
  }
  return NULL;
}

#define THREADS 7
static void threads_queue_and_run(void **state) {
  (void)state;
  pthread_t threads[THREADS];
  for (uintptr_t i = 0; i < THREADS; i++)
    threads[i] = test_thread_start(drops, (void *)(i + 1));
  for (int i = 0; i < 20; i++) {
    TEST_REQUIRE(gyre_gc_collect(i % 3) >= 0);
    (void)gyre_run_pending(100);
  }
  for (int i = 0; i < THREADS; i++)
    test_thread_join(threads[i]);
  /* A collection that leaves its garbage to the queue has freed nothing, and the queue may be empty again when
   * it returns: so until nothing happens any more. */
  uint32_t before;
  do {
    before = test_flag_get(&finalized) + test_flag_get(&destroyed);
    TEST_REQUIRE(gyre_gc_collect(2) >= 0);
    (void)gyre_run_pending(SIZE_MAX);
    gyre_service_stop();
    gyre_safepoint();
  } while (gyre_pending_count() > 0 ||
           test_flag_get(&finalized) + test_flag_get(&destroyed) != before);
  assert_int_equal(test_flag_get(&finalized), test_flag_get(&destroyed));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      PENDING_TEST(without_memory_garbage_is_finalized_at_once, BY_PROGRAM),
      PENDING_TEST(the_program_runs_them_in_order, BY_PROGRAM),
      PENDING_TEST(the_service_thread_runs_them, "gc:0"),
      PENDING_TEST(others_run_where_they_are, BY_PROGRAM),
      PENDING_TEST(waiting_it_can_be_brought_back, BY_PROGRAM),
      PENDING_TEST(a_finalizer_brings_it_back, BY_PROGRAM),
      PENDING_TEST(garbage_waits_for_the_program, BY_PROGRAM),
      PENDING_TEST(garbage_of_such_a_type_waits_for_the_service_thread, "gc:0"),
      PENDING_TEST(a_lock_that_is_held_does_no_harm, "gc:0"),
      PENDING_TEST(gyre_fini_runs_them, BY_PROGRAM),
      PENDING_TEST(a_child_has_the_queue_too, BY_PROGRAM),
      PENDING_TEST(a_failing_finalizer_is_reported_and_it_goes_on, "gc:0"),
      PENDING_TEST(threads_queue_and_run, "gc:1"),
      PENDING_TEST(threads_queue_and_run, "gc:1,finalizers:program"),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
