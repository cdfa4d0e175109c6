/* SPDX-License-Identifier: MIT */
/* What the tests of all rooms share: cmocka with its includes, requirements that work in any
 * thread, random numbers with a printed seed, sizes by build, threads, events, children, captured
 * logs, and a wrapper that ends every test with a look at the whole heap. Race windows are in
 * window.h, objects in node.h.
 *
 * A test never sleeps to wait for something: it waits for an event, for the end of a thread, or
 * with TEST_AWAIT for a condition that is bound to come true. What must *not* happen is shown by
 * order: the other side looks whether the step it has to wait for had been taken.
 *
 * cmocka's assertions leave the test with longjmp, so they belong in the thread that runs the test.
 * Other threads and the children of a fork use TEST_REQUIRE.
 */
#ifndef GYRE_TESTS_SUPPORT_SUPPORT_H
#define GYRE_TESTS_SUPPORT_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <pthread.h>
#include <sched.h>
#include <sys/types.h>

#include <gyre/gyre.h>

#include "lib/collect/collect.h"
#include "tests/support/sanitizer.h"

/* ---- the build ---- */

/* Optimized, without assertions: the configuration in which large numbers are affordable. */
#ifdef GYRE_DEBUG
#define TEST_OPTIMIZED 0
#else
#define TEST_OPTIMIZED 1
#endif

/* A number that depends on the build, or on the environment variable `name` if that is set and a
 * number above 0. */
uint64_t test_size(const char *name, uint64_t optimized, uint64_t debug, uint64_t thread_sanitizer);

/* ---- requirements and waiting ---- */

_Noreturn void test_fail(const char *file, int line, const char *what);

/* As assert_true(), in any thread and in children: prints and aborts. */
#define TEST_REQUIRE(cond)                                                                         \
  do {                                                                                             \
    if (!(cond)) test_fail(__FILE__, __LINE__, #cond);                                             \
  } while (0)

/* Waits, running, until `cond` holds, giving up the processor. */
#define TEST_AWAIT(cond)                                                                           \
  do {                                                                                             \
    while (!(cond))                                                                                \
      (void)sched_yield();                                                                         \
  } while (0)

/* The same, passing safepoints. */
#define TEST_AWAIT_SAFELY(cond)                                                                    \
  do {                                                                                             \
    while (!(cond)) {                                                                              \
      gyre_safepoint();                                                                            \
      (void)sched_yield();                                                                         \
    }                                                                                              \
  } while (0)

/* ---- random numbers ---- */

struct test_random {
  uint64_t state;
};

/* The seed of this run: GYRE_TEST_SEED, or another one each time. Printed at its first use. */
uint64_t test_seed(void);
/* A sequence of its own for each `stream`. */
struct test_random test_random_new(uint64_t stream);
uint64_t test_random_next(struct test_random *random);
/* 0 to below - 1. */
static inline uint32_t test_random_below(struct test_random *random, uint32_t below) {
  return (uint32_t)((test_random_next(random) >> 32) * below >> 32);
}

/* ---- flags that threads show each other ---- */

typedef gyre__atomic_u32 test_flag;

static inline void test_flag_set(test_flag *flag, uint32_t value) {
  /* seq_cst: tests reason about the order of such steps; pairs with test_flag_get(). */
  gyre__store_seq_cst(flag, value);
}
static inline uint32_t test_flag_get(test_flag *flag) {
  /* seq_cst: as above. */
  return gyre__load_seq_cst(flag);
}
static inline uint32_t test_flag_add(test_flag *flag, uint32_t value) {
  /* seq_cst: as above. */
  return gyre__fetch_add_seq_cst(flag, value) + value;
}

/* ---- events: set once, until reset ---- */

typedef struct test_event {
  pthread_mutex_t mutex;
  pthread_cond_t cond;
  bool set;
} test_event;
#define TEST_EVENT_INIT                                                                            \
  { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false }

void test_event_set(test_event *event);
bool test_event_is_set(test_event *event);
/* Waits as the thread is: running, if it is attached and not parked. */
void test_event_wait(test_event *event);
/* Waits parked. */
void test_event_wait_parked(test_event *event);
void test_event_reset(test_event *event);

/* ---- threads ---- */

/* With a small stack. Fails the test if there is no thread to be had. */
pthread_t test_thread_start(void *(*body)(void *), void *arg);
/* Waits, parked, and returns what the thread returned. */
void *test_thread_join(pthread_t thread);
/* Start and join. */
void *test_thread_run(void *(*body)(void *), void *arg);

struct gyre_thread_stats test_thread_stats(void);
struct gyre_heap_stats test_heap_stats(void);

/* From now on until it allocates, the calling thread's next block of a size is the one of that size that
 * it frees last; raw blocks: with option "quarantine" off. */
void test_reuse_last(void);

/* ---- children ---- */

/* Forks; the child calls body(arg), checks the heap and leaves with _exit(0). `body` uses
 * TEST_REQUIRE. Under ThreadSanitizer, which does not take it that the library starts threads in a
 * child, the child collects in mode stw. */
pid_t test_fork(void (*body)(void *), void *arg);
/* Waits, parked, for a child and returns its wait status: 0 if all went well. */
int test_child_wait(pid_t child);
/* Both; requires that the child left with 0. */
void test_in_child(void (*body)(void *), void *arg);

/* ---- the log ---- */

/* From now on lines are kept instead of printed, until the test's end. */
void test_log_capture(void);
/* Lines so far that contain the text. */
unsigned test_log_count(const char *text);
/* Waits, as the thread is, until there is one, and copies it. */
void test_log_await(const char *text, char *out, size_t size);

/* ---- every test ---- */

/* A test: begins with an empty library, ends with checks. `name` is a function void name(void
 * **state). */
#define TEST(name) cmocka_unit_test_setup_teardown(name, test_begin, test_end)
/* The same with options, "name:value,name:value", that are put back at its end. */
#define TEST_WITH(name, options)                                                                   \
  { #name, name, test_begin_with, test_end, (void *)(uintptr_t)(options) }

int test_begin(void **state);
int test_begin_with(void **state);
/* Closes windows and captured logs, puts options back, checks the heap (gyre__heap_check()), ends
 * the use of the library, and fails the test if an object, a raw block or an attached thread is
 * left. */
int test_end(void **state);

/* Sets an option until the test's end; one that this build cannot do is left alone. */
void test_option_set(const char *name, const char *value);

/* What the end of a test does about options; for tests without the wrappers. */
void test_options_put_back(void);

/* gyre__heap_check(), and no more: for places in the middle of a test. */
void test_check(void);

#endif
