/* SPDX-License-Identifier: MIT */
/* Locks, memory, faults, windows, the log's cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "lib/base/base.h"

/* ---- lock ---- */

static gyre__lock lock;
static unsigned counter; /* under the lock */

static void *count_up(void *arg) {
  for (int i = 0; i < 20000; i++) {
    gyre__lock_take(&lock);
    counter++;
    gyre__lock_give(&lock);
  }
  return arg;
}

static void a_lock_admits_one_thread_at_a_time(void **state) {
  (void)state;
  pthread_t threads[4];
  for (int i = 0; i < 4; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, count_up, NULL), 0);
  for (int i = 0; i < 4; i++)
    assert_int_equal(pthread_join(threads[i], NULL), 0);
  assert_int_equal(counter, 80000);
}

static void a_held_lock_is_not_taken_by_try(void **state) {
  (void)state;
  assert_true(gyre__lock_try(&lock));
  assert_false(gyre__lock_try(&lock));
  gyre__lock_give(&lock);
  gyre__lock_take(&lock);
  assert_false(gyre__lock_try(&lock));
  gyre__lock_reset(&lock);
  assert_true(gyre__lock_try(&lock));
  gyre__lock_give(&lock);
}

static void a_futex_wait_ends_when_the_word_differs_or_time_is_up(void **state) {
  (void)state;
  gyre__atomic_u32 word = {5};
  assert_true(gyre__futex_wait(&word, 4, UINT64_MAX));
  assert_false(gyre__futex_wait(&word, 5, 1000));
}

/* ---- memory ---- */

static void mapped_memory_is_aligned_zeroed_and_ours(void **state) {
  (void)state;
  size_t page = gyre__os_page_size();
  for (size_t alignment = page; alignment <= (size_t)64 << 20; alignment *= 4) {
    unsigned char *memory = gyre__os_map(3 * page, alignment);
    assert_non_null(memory);
    assert_int_equal((uintptr_t)memory % alignment, 0);
    assert_int_equal(memory[0] | memory[3 * page - 1], 0);
    memset(memory, 0xFF, 3 * page);
    gyre__os_purge(memory + page, page);
    assert_int_equal(memory[page - 1], 0xFF);
    assert_int_equal(memory[page], 0);
    assert_int_equal(memory[2 * page - 1], 0);
    assert_int_equal(memory[2 * page], 0xFF);
    gyre__os_unmap(memory, 3 * page);
  }
}

static void a_remapped_range_keeps_its_contents(void **state) {
  (void)state;
  size_t page = gyre__os_page_size();
  char *memory = gyre__os_map(page, page);
  memset(memory, 7, page);
  memory = gyre__os_remap(memory, page, 1000 * page);
  assert_non_null(memory);
  assert_int_equal(memory[page - 1], 7);
  assert_int_equal(memory[999 * page], 0);
  memory = gyre__os_remap(memory, 1000 * page, page);
  assert_int_equal(memory[0], 7);
  gyre__os_unmap(memory, page);
}

static void an_impossible_mapping_fails(void **state) {
  (void)state;
  assert_null(gyre__os_map((size_t)1 << 60, (size_t)1 << 22));
}

/* ---- faults ---- */

static void the_nth_allocation_fails_once(void **state) {
  (void)state;
  gyre__fault_arm(3, 0);
  int seen[6];
  for (int i = 0; i < 6; i++)
    seen[i] = gyre__fault();
  const int expected[6] = {0, 0, 1, 0, 0, 0};
  assert_memory_equal(seen, expected, sizeof seen);
  assert_int_equal(gyre__fault_count(), 6);
  gyre__fault_arm(0, 0);
  assert_int_equal(gyre__fault(), 0);
  assert_int_equal(gyre__fault_count(), 0);
}

static void every_nth_allocation_fails(void **state) {
  (void)state;
  gyre__fault_arm(2, 1); /* what option "fail_nth" does where it is known */
  int seen[6];
  for (int i = 0; i < 6; i++)
    seen[i] = gyre__fault();
  const int expected[6] = {0, 1, 0, 1, 0, 1};
  assert_memory_equal(seen, expected, sizeof seen);
  gyre__fault_arm(0, 0);
  assert_int_equal(gyre__fault(), 0);
}

/* ---- windows ---- */

static const char *window_seen;
static void window_hook(const char *window) { window_seen = window; }

static void a_window_calls_its_hook(void **state) {
  (void)state;
  gyre__window_set_hook(window_hook);
  gyre__window("here");
  assert_string_equal(window_seen, "here");
  gyre__window_set_hook(NULL);
  window_seen = NULL;
#ifdef GYRE_WINDOWS
  assert_int_equal(gyre_option_set("yield_seed", "42"), 0);
#else
  assert_int_equal(gyre_option_set("yield_seed", "42"), -EINVAL);
#endif
  for (int i = 0; i < 100; i++)
    gyre__window("there");
  assert_null(window_seen);
  assert_int_equal(gyre_option_set("yield_seed", "0"), 0);
}

/* ---- log ---- */

static size_t line_length;
static void log_measure(const char *line, void *arg) {
  (void)arg;
  line_length = strlen(line);
}

static void a_long_line_is_cut(void **state) {
  (void)state;
  char text[3000];
  memset(text, 'x', sizeof text - 1);
  text[sizeof text - 1] = '\0';
  gyre_set_log(log_measure, NULL);
  gyre__log("%s", text);
  gyre_set_log(NULL, NULL);
  assert_int_equal(line_length, 1000);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_lock_admits_one_thread_at_a_time),
      cmocka_unit_test(a_held_lock_is_not_taken_by_try),
      cmocka_unit_test(a_futex_wait_ends_when_the_word_differs_or_time_is_up),
      cmocka_unit_test(mapped_memory_is_aligned_zeroed_and_ours),
      cmocka_unit_test(a_remapped_range_keeps_its_contents),
      cmocka_unit_test(an_impossible_mapping_fails),
      cmocka_unit_test(the_nth_allocation_fails_once),
      cmocka_unit_test(every_nth_allocation_fails),
      cmocka_unit_test(a_window_calls_its_hook),
      cmocka_unit_test(a_long_line_is_cut),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
