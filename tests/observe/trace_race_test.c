/* SPDX-License-Identifier: MIT */
/* Races of tracing, played step by step: what a thread was about to do when a session ended, and sessions that
 * change inside one allocation. */
#include <dlfcn.h>
#include <time.h>

#include "lib/heap/traced.h"
#include "tests/support/puppet.h"
#include "tests/support/window.h"
#include "trace_test.h"

static struct puppet puppet;

static void begin(void) {
  test_option_set("quarantine", "0");
  puppet_start(&puppet);
}

static void end(void) {
  gyre_trace_stop();
  puppet_stop(&puppet);
}

/* ---- the dynamic linker ---- */

/* Stands before the C library's: what another thread does while a library is being loaded, as its constructor
 * would. */
static void *(*loads)(void *);
static unsigned load_count;

void *dlopen(const char *file, int mode) {
  void *(*body)(void *) = loads;
  loads = NULL;
  if (body != NULL) {
    load_count++;
    pthread_t thread = test_thread_start(body, NULL);
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 60; /* for ever, if it waits for a lock that we hold */
    TEST_REQUIRE(pthread_timedjoin_np(thread, NULL, &limit) == 0);
  }
  void *(*next)(const char *, int);
  void *symbol = dlsym(RTLD_NEXT, "dlopen");
  memcpy(&next, &symbol, sizeof next);
  return next(file, mode);
}

static void *clears(void *arg) {
  gyre_trace_clear();
  return arg;
}

static void *names;
static void *asks(void *arg) {
  TEST_REQUIRE(is_traced(names));
  return arg;
}

/* Libraries are loaded without a lock of ours: the constructor of one that is being loaded may wait for it. */
static void libraries_are_loaded_without_locks(void **state) {
  (void)state;
  loads = clears;
  trace_on(3, 0, GYRE_TRACE_UNWIND);
  names = gyre_malloc(100);
  loads = asks;
  assert_true(is_traced(names));
  loads = NULL;
  assert_int_equal(load_count, 2);
  gyre_free(names);
  gyre_trace_stop();
}

/* ---- figures ---- */

static void alloc_large_subject(void *arg) {
  test_window_subject();
  *(void **)arg = gyre_malloc(100000);
}

/* The bytes of a session that is over must not take the place of the next one's. */
static void late_bytes_leave_the_next_sessions_alone(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  begin();
  trace_on(1, 0, 0);
  void *theirs;
  test_window_hold("trace/figure", 1);
  puppet_begin(&puppet, alloc_large_subject, &theirs);
  test_window_await();
  gyre_trace_clear();
  void *ours = gyre_malloc(200000);
  test_window_release();
  puppet_await(&puppet);
  assert_int_equal(traced_now(), 200000);
  assert_int_equal(traced_peak(), 200000);
  gyre_free(theirs);
  assert_int_equal(traced_now(), 200000);
  gyre_free(ours);
  assert_int_equal(traced_now(), 0);
  end();
}

/* ---- sessions that change inside an allocation ---- */

static int handler_calls;

static int stops(size_t size, void *arg) {
  (void)size, (void)arg;
  handler_calls++;
  gyre_trace_stop();
  gyre_heap_set_limit(0);
  return 1;
}

static int begins_another(size_t size, void *arg) {
  (void)size;
  handler_calls++;
  gyre_trace_stop();
  trace_on(1, *(size_t *)arg, 0);
  gyre_heap_set_limit(0);
  return 1;
}

/* Allocates until the handler has been asked, and gives everything back. */
static void alloc_to_the_limit(size_t size) {
  enum { MOST = 20000 };
  static void *blocks[MOST];
  size_t count = 0;
  gyre_heap_set_limit(test_heap_stats().committed_bytes + ((size_t)1 << 20));
  handler_calls = 0;
  while (handler_calls == 0 && count < MOST) {
    blocks[count] = gyre_malloc(size);
    TEST_REQUIRE(blocks[count] != NULL);
    count++;
  }
  assert_int_equal(handler_calls, 1);
  for (int i = 0; i < 100; i++)
    blocks[count++] = gyre_malloc(size);
  while (count > 0)
    gyre_free(blocks[--count]);
}

static void a_session_ends_inside_an_allocation(void **state) {
  (void)state;
  static const size_t sizes[] = {100, 3000, 9000, 100000};
  static const size_t samples[] = {0, 300, 100000};
  for (unsigned i = 0; i < 4; i++)
    for (unsigned k = 0; k < 3; k++) {
      gyre_set_oom_handler(stops, NULL);
      trace_on(1, samples[k], 0);
      alloc_to_the_limit(sizes[i]);
      assert_int_equal(traced_now(), 0);
      (void)gyre_purge();
      assert_int_equal(test_heap_stats().live_blocks, 0);
      gyre__heap_check();
      for (unsigned n = 0; n < 3; n++) {
        static size_t next;
        next = samples[n];
        gyre_set_oom_handler(begins_another, &next);
        trace_on(2, samples[k], 0);
        alloc_to_the_limit(sizes[i]);
        assert_int_equal(traced_now(), 0);
        gyre_trace_stop();
        (void)gyre_purge();
        assert_int_equal(test_heap_stats().live_blocks, 0);
        gyre__heap_check();
      }
    }
  gyre_set_oom_handler(NULL, NULL);
}

/* ---- sizes that change ---- */

static void shrink_subject(void *arg) {
  test_window_subject();
  TEST_REQUIRE(gyre_realloc(arg, 90) == arg);
}

/* Another thread's realloc() of a small block is late for its session, and the array of marks is another page's. */
static void a_new_size_is_late_for_its_session(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  begin();
  trace_on(1, 0, 0);
  void *block = gyre_malloc(100);
  test_window_hold("trace/again", 1);
  puppet_begin(&puppet, shrink_subject, block);
  test_window_await();
  gyre_trace_clear();
  enum { COUNT = 2000 };
  static void *blocks[COUNT];
  for (int i = 0; i < COUNT; i++)
    blocks[i] = gyre_malloc(85);
  test_window_release();
  puppet_await(&puppet);
  assert_int_equal(traced_now(), COUNT * 85);
  for (int i = 0; i < COUNT; i++) {
    assert_true(is_traced(blocks[i]));
    gyre_free(blocks[i]);
  }
  assert_int_equal(traced_now(), 0);
  gyre_free(block);
  end();
}

struct resize {
  void *block;
  size_t size;
};

static void *resize_unattached(void *arg) {
  const struct resize *r = arg;
  TEST_REQUIRE(gyre_realloc(r->block, r->size) == r->block);
  TEST_REQUIRE(gyre_thread_current() == NULL);
  return NULL;
}

/* Who is not attached has no tracer: the block keeps the stack that it has. */
static void who_is_not_attached_changes_sizes(void **state) {
  (void)state;
  static const size_t samples[] = {0, 1};
  for (unsigned k = 0; k < 2; k++) {
    trace_on(1, samples[k], 0);
    struct resize small = {gyre_malloc(100), 90}, large = {gyre_malloc(200000), 150000};
    test_thread_run(resize_unattached, &small);
    test_thread_run(resize_unattached, &large);
    assert_true(is_traced(small.block) && is_traced(large.block));
    assert_int_equal(traced_now(), 150090);
    gyre_free(small.block);
    assert_int_equal(traced_now(), 150000);
    gyre_free(large.block);
    assert_int_equal(traced_now(), 0);
    gyre_trace_stop();
  }
}

/* ---- when it is off ---- */

static test_flag is_there, may_go;

static void free_and_wait(void *arg) {
  void *block = gyre_malloc(100);
  gyre_free(block);
  /* release: the address; pairs with the test's load. */
  gyre__store_release((gyre__atomic_ptr *)arg, block);
  test_flag_set(&is_there, 1);
  TEST_AWAIT(test_flag_get(&may_go));
}

/* What debug builds remember of a freed block is of no use any more, though its heap has not heard of the end. */
static void nothing_is_traced_when_it_is_off(void **state) {
  (void)state;
  begin();
  trace_on(1, 0, 0);
  gyre__atomic_ptr block;
  gyre__store_relaxed(&block, NULL); /* relaxed: nobody else has it. */
  test_flag_set(&is_there, 0);
  test_flag_set(&may_go, 0);
  puppet_begin(&puppet, free_and_wait, &block);
  TEST_AWAIT(test_flag_get(&is_there));
  gyre_trace_stop();
  bool traced = is_traced(gyre__load_acquire(&block)); /* acquire: see free_and_wait(). */
  test_flag_set(&may_go, 1);
  puppet_await(&puppet);
  assert_false(traced);
  end();
}

/* ---- samples when memory is short ---- */

/* A sampled block that has no place of its own is one like any other. */
static void samples_do_not_need_more_memory(void **state) {
  (void)state;
  enum { COUNT = 4000, SIZE = 1000 };
  static void *blocks[COUNT];
  for (int i = 0; i < COUNT; i++)
    blocks[i] = gyre_malloc(SIZE);
  for (int i = 0; i < COUNT; i += 2) /* no page is empty */
    gyre_free(blocks[i]);
  (void)gyre_purge();
  gyre_heap_set_limit(1);
  trace_on(1, 100000, 0);
  size_t traced = 0;
  for (int i = 0; i < COUNT; i += 2) {
    blocks[i] = gyre_malloc(SIZE);
    assert_non_null(blocks[i]);
    traced += is_traced(blocks[i]);
  }
  assert_true(traced > 0);
  assert_true(traced_now() > 0);
  gyre_heap_set_limit(0);
  for (int i = 0; i < COUNT; i++)
    gyre_free(blocks[i]);
  assert_int_equal(traced_now(), 0);
  gyre_trace_stop();
}

/* ---- a stopped world ---- */

static test_flag is_done;

static void *clear_unattached(void *arg) {
  gyre_trace_clear();
  TEST_REQUIRE(gyre_thread_current() == NULL);
  test_flag_set(&is_done, 1);
  return arg;
}

static void clear_parked(void *arg) {
  gyre_park();
  gyre_park();
  test_flag_set(&is_there, 1);
  TEST_AWAIT(gyre__world_is_stopped());
  if (arg != NULL)
    TEST_REQUIRE(gyre_trace_track(GYRE_TRACED_FOREIGN, arg, 10) == 0);
  else
    gyre_trace_clear();
  gyre_unpark();
  test_flag_set(&is_done, 1);
  gyre_unpark();
}

/* Who stops the world has the heaps to himself: a session that begins meanwhile waits, whoever begins it. */
static void sessions_do_not_begin_in_a_stopped_world(void **state) {
  (void)state;
  begin();
  struct gyre__thread *self = gyre__thread_self();
  trace_on(1, 0, 0);
  for (int parked = 0; parked <= 2; parked++) {
    test_flag_set(&is_done, 0);
    test_flag_set(&is_there, 0);
    pthread_t thread = 0;
    if (parked) {
      puppet_begin(&puppet, clear_parked, parked == 1 ? NULL : &puppet);
      TEST_AWAIT(test_flag_get(&is_there));
    }
    gyre__world_stop(self);
    if (!parked) thread = test_thread_start(clear_unattached, NULL);
    TEST_AWAIT(test_flag_get(&is_done) || gyre__world_waiters() > 0);
    bool done = test_flag_get(&is_done);
    gyre__world_resume(self);
    if (parked)
      puppet_await(&puppet);
    else
      test_thread_join(thread);
    assert_false(done);
  }
  assert_int_equal(traced_now(), 10);
  assert_int_equal(gyre_trace_untrack(GYRE_TRACED_FOREIGN, &puppet), 0);
  end();
}

/* ---- fork ---- */

static void name_subject(void *snapshot) {
  test_window_subject();
  struct gyre_trace trace;
  TEST_REQUIRE(gyre_snapshot_trace(snapshot, 0, &trace) == 0);
  gyre_traceback_free(&trace.traceback);
}

static void name_in_child(void *snapshot) {
  struct gyre_trace trace;
  TEST_REQUIRE(gyre_snapshot_trace(snapshot, 0, &trace) == -ENOMEM);
  gyre_snapshot_free(snapshot);
  gyre_snapshot *own = snapshot_now();
  TEST_REQUIRE(gyre_snapshot_trace(own, 0, &trace) == 0);
  gyre_traceback_free(&trace.traceback);
  gyre_snapshot_free(own);
}

/* A child cannot have the names that a thread it does not have was looking up; but does not wait for it. */
static void a_child_does_not_wait_for_names(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  if (TEST_THREAD_SANITIZER || TEST_ADDRESS_SANITIZER)
    skip(); /* other threads' locks of the sanitizers' own */
  begin();
  trace_on(1, 0, 0);
  void *block = gyre_malloc(100);
  gyre_snapshot *s = snapshot_now();
  test_window_hold("trace/name", 1);
  puppet_begin(&puppet, name_subject, s);
  test_window_await();
  test_in_child(name_in_child, s);
  test_window_release();
  puppet_await(&puppet);
  struct gyre_trace trace;
  assert_int_equal(gyre_snapshot_trace(s, 0, &trace), 0);
  gyre_traceback_free(&trace.traceback);
  gyre_snapshot_free(s);
  gyre_free(block);
  end();
}

static void alloc_and_wait(void *arg) {
  *(void **)arg = gyre_malloc(100);
  test_flag_set(&is_there, 1);
  TEST_AWAIT(test_flag_get(&may_go));
}

static void begin_all_sessions(void *block) {
  TEST_REQUIRE(is_traced(block));
  for (unsigned i = 1; i < GYRE__TRACE_SESSIONS; i++)
    gyre_trace_clear();
  TEST_REQUIRE(!is_traced(block));
  gyre_snapshot *s = snapshot_now();
  TEST_REQUIRE(gyre_snapshot_count(s) == 0);
  gyre_snapshot_free(s);
  TEST_REQUIRE(traced_now() == 0);
  gyre_free(block);
}

/* The heap of a thread that a child does not have, and that was running, forgets its traces too: numbers of
 * sessions come again. */
static void lost_heaps_forget_their_traces(void **state) {
  (void)state;
  if (TEST_THREAD_SANITIZER || TEST_ADDRESS_SANITIZER) skip(); /* as above */
  begin();
  trace_on(1, 0, 0);
  void *block;
  test_flag_set(&is_there, 0);
  test_flag_set(&may_go, 0);
  puppet_begin(&puppet, alloc_and_wait, &block);
  TEST_AWAIT(test_flag_get(&is_there));
  test_in_child(begin_all_sessions, block);
  test_flag_set(&may_go, 1);
  puppet_await(&puppet);
  gyre_free(block);
  end();
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(libraries_are_loaded_without_locks), /* before anything has loaded them */
      TEST(late_bytes_leave_the_next_sessions_alone),
      TEST(a_session_ends_inside_an_allocation),
      TEST(a_new_size_is_late_for_its_session),
      TEST(who_is_not_attached_changes_sizes),
      TEST(nothing_is_traced_when_it_is_off),
      TEST_WITH(samples_do_not_need_more_memory, "quarantine:0"),
      TEST(sessions_do_not_begin_in_a_stopped_world),
      TEST(a_child_does_not_wait_for_names),
      TEST(lost_heaps_forget_their_traces),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
