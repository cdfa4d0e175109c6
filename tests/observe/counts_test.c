/* SPDX-License-Identifier: MIT */
/* Counts that threads share, and visit functions that are wrong. */
#include <errno.h>

#include "tests/observe/copy.h"
#include "tests/support/puppet.h"

/* ---- the hottest counts ---- */

static node *hot;
static test_flag stop;

static void *counts_on(void *arg) {
  (void)arg;
  gyre_thread_attach();
  while (!test_flag_get(&stop)) {
    gyre_release(gyre_retain(hot));
    gyre_safepoint();
  }
  return NULL;
}

static void counts_once(void *arg) {
  gyre_retain(arg);
  gyre_retain(arg);
}

static void the_most_contended_count_comes_first(void **state) {
  (void)state;
  struct puppet puppet;
  node *cold = node_new(&plain_type, 1), *own = node_new(&plain_type, 2);
  hot = node_new(&plain_type, 3);
  puppet_start(&puppet);
  puppet_run_parked(&puppet, counts_once, cold);
  puppet_run_parked(&puppet, counts_once, hot);
  test_flag_set(&stop, 0);
  pthread_t thread = test_thread_start(counts_on, NULL);
  struct gyre_hot_count out[3];
  ptrdiff_t found;
  /* Until a change has been seen: threads may take turns on one processor. */
  do {
    memset(out, 0, sizeof out);
    found = gyre_heap_hottest(100, out, 3);
    TEST_REQUIRE(found == 2);
    gyre_safepoint();
    (void)sched_yield();
  } while (out[0].changes == 0);
  test_flag_set(&stop, 1);
  test_thread_join(thread);
  assert_ptr_equal(out[0].address, hot);
  assert_ptr_equal(out[0].type, &plain_type);
  assert_ptr_equal(out[1].address, cold);
  assert_int_equal(out[1].changes, 0);
  assert_int_equal(out[1].shared, 2);
  puppet_stop(&puppet);
  for (int i = 0; i < 3; i++) {
    gyre_release(hot);
    gyre_release(cold);
  }
  gyre_release(own);
}

static void so_many_looks(void **state) {
  (void)state;
  assert_int_equal(gyre_heap_hottest(0, NULL, 0), -EINVAL);
  assert_int_equal(gyre_heap_hottest(1001, NULL, 0), -EINVAL);
  assert_int_equal(gyre_heap_hottest(1, NULL, 1), -EINVAL);
  assert_int_equal(gyre_heap_hottest(1, NULL, 0), 0);
}

/* ---- visit functions ---- */

enum wrong { RIGHT, TWICE, EVERY_OTHER, COUNTS, ALLOCATES };

typedef struct bag {
  node *held[2];
  enum wrong wrong;
  int visits;
} bag;

static node *extra; /* what a visit function should not have made */

static int bag_visit(void *object, gyre_visitor *visitor, void *arg) {
  bag *b = object;
  b->visits++;
  if (b->wrong == EVERY_OTHER && b->visits % 2 == 0) return 0;
  if (b->wrong == COUNTS) gyre_retain(b->held[0]);
  if (b->wrong == ALLOCATES && extra == NULL) extra = gyre_new(&plain_type);
  for (int i = 0; i < 2; i++) {
    int result = b->held[i] != NULL ? visitor(b->held[i], arg) : 0;
    if (result != 0) return result;
  }
  return b->wrong == TWICE ? visitor(b->held[0], arg) : 0;
}
static void bag_clear(void *object) {
  bag *b = object;
  for (int i = 0; i < 2; i++)
    gyre_release(b->held[i]);
  b->held[0] = b->held[1] = NULL;
}
static GYRE_TYPE_DEFINE(bag_type, bag, .visit = bag_visit, .clear = bag_clear);

static bag *bag_new(enum wrong wrong) {
  bag *b = gyre_new(&bag_type);
  b->held[0] = node_new(&plain_type, 1);
  b->held[1] = node_new(&plain_type, 2);
  b->wrong = wrong;
  return b;
}

static void right_ones_are_not_accused(void **state) {
  (void)state;
  test_log_capture();
  bag *b = bag_new(RIGHT);
  gyre_store(&b->held[1]->next, b->held[0]);
  assert_int_equal(gyre_heap_check_visits(), 0);
  assert_int_equal(test_log_count("visit"), 0);
  assert_int_equal(b->visits, 2);
  gyre_release(b);
}

static void check(enum wrong wrong, const char *message) {
  test_log_capture();
  bag *b = bag_new(wrong);
  assert_int_equal(gyre_heap_check_visits(), 1);
  assert_int_equal(test_log_count(message), 1);
  assert_int_equal(test_log_count("bag"), wrong == TWICE ? 0 : 1);
  b->wrong = RIGHT;
  if (wrong == COUNTS) {
    gyre_release(b->held[0]);
    gyre_release(b->held[0]);
  }
  gyre_release(b);
  gyre_release(extra);
  extra = NULL;
}

static void one_that_reports_a_reference_twice(void **state) {
  (void)state;
  check(TWICE, "2 references to node");
}
static void one_that_reports_now_this_now_that(void **state) {
  (void)state;
  check(EVERY_OTHER, "reports 2 references, then 0");
}
static void one_that_counts(void **state) {
  (void)state;
  check(COUNTS, "counts");
}
static void one_that_allocates(void **state) {
  (void)state;
  check(ALLOCATES, "allocates");
}

/* A field's reference that is reported as well. */
typedef struct both {
  GYRE_SLOT(node) field;
} both;
static int both_visit(void *object, gyre_visitor *visitor, void *arg) {
  void *held = gyre__load_relaxed(&((both *)object)->field.gyre__slot.gyre__ref);
  return held != NULL ? visitor(held, arg) : 0;
}
static GYRE_TYPE_DEFINE(both_type, both, .slots = GYRE_SLOTS(both, field), .visit = both_visit);

static void one_that_reports_a_field(void **state) {
  (void)state;
  test_log_capture();
  both *b = gyre_new(&both_type);
  gyre_slot_init(&b->field, node_new(&plain_type, 1));
  assert_int_equal(gyre_heap_check_visits(), 1);
  assert_int_equal(test_log_count("2 references to node"), 1);
  gyre_clear(&b->field);
  gyre_release(b);
}

static void an_option_has_them_checked(void **state) {
  (void)state;
  test_log_capture();
  /* One that reports too much keeps objects alive; with one that reports too little they would be collected. */
  bag *b = bag_new(TWICE);
  assert_int_equal(gyre_gc_collect(2), 0);
  assert_int_equal(test_log_count("2 references to node"), 0);
  test_option_set("check_visits", "1");
  assert_int_equal(gyre_gc_collect(1), 0);
  assert_int_equal(test_log_count("2 references to node"), 0);
  assert_int_equal(gyre_gc_collect(2), 0);
  assert_int_equal(test_log_count("2 references to node"), 1);
  test_option_set("check_visits", "0");
  b->wrong = RIGHT;
  gyre_release(b);
}

static void a_locked_object_is_left_alone(void **state) {
  (void)state;
  bag *b = bag_new(RIGHT);
  gyre_lock(b);
  assert_int_equal(gyre_heap_check_visits(), 0);
  assert_int_equal(b->visits, 0);
  gyre_unlock(b);
  gyre_release(b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(the_most_contended_count_comes_first),
      NODE_TEST(so_many_looks),
      NODE_TEST(right_ones_are_not_accused),
      NODE_TEST(one_that_reports_a_reference_twice),
      NODE_TEST(one_that_reports_now_this_now_that),
      NODE_TEST(one_that_counts),
      NODE_TEST(one_that_allocates),
      NODE_TEST(one_that_reports_a_field),
      NODE_TEST(an_option_has_them_checked),
      NODE_TEST(a_locked_object_is_left_alone),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
