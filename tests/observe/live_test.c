/* SPDX-License-Identifier: MIT */
/* Counting what is alive: objects and their counts, whoever owns them. */
#include <errno.h>

#include <gyre/stats.h>

#include "tests/support/node.h"
#include "tests/support/puppet.h"

typedef struct row {
  size_t tag;
  GYRE_SLOT(node) items[];
} row;
static GYRE_TYPE_DEFINE(row_type, row, .element_size = sizeof(gyre_slot),
                        .element_slots = GYRE_SLOT_ARRAY);
static gyre_type bytes_type = {.name = "bytes", .size = 8, .element_size = 1};

static void objects_of_all_kinds_and_sizes_are_counted(void **state) {
  (void)state;
  ptrdiff_t before = gyre_live_objects();
  assert_int_equal(before, 0);
  node *leaf = node_new(&leaf_type, 1), *tracked = node_new(&plain_type, 2);
  assert_int_equal(gyre_live_objects(), 2);
  row *large = gyre_new_array(&row_type, 30000), *huge = gyre_new_array(&row_type, 500000);
  void *bytes = gyre_new_array(&bytes_type, 100000), *more = gyre_new_array(&bytes_type, 5000000);
  assert_non_null(large);
  assert_non_null(huge);
  assert_non_null(bytes);
  assert_non_null(more);
  assert_int_equal(gyre_live_objects(), 6);
  void *block = gyre_malloc(100);
  assert_int_equal(gyre_live_objects(), 6);
  gyre_free(block);
  gyre_release(leaf);
  gyre_release(tracked);
  gyre_release(bytes);
  gyre_release(large);
  assert_int_equal(gyre_live_objects(), 2);
  gyre_release(more);
  gyre_release(huge);
  assert_int_equal(gyre_live_objects(), 0);
}

static void garbage_is_counted_until_it_is_collected(void **state) {
  (void)state;
  ring_drop(&plain_type, 1000);
  node *kept = ring_new(&plain_type, 10);
  assert_int_equal(gyre_live_objects(), 1010);
  assert_int_equal(gyre_gc_collect(2), 1000);
  assert_int_equal(gyre_live_objects(), 10);
  gyre_release(kept);
  assert_int_equal(gyre_gc_collect(2), 10);
  assert_int_equal(gyre_live_objects(), 0);
}

static GYRE_STATIC_OBJECT(node) nobody = GYRE_STATIC_INIT(.tag = 7);

static void immortal_objects_count_and_their_references_do_not(void **state) {
  (void)state;
  assert_int_equal(GYRE_STATIC_REGISTER(&nobody, &plain_type), 0);
  node *a = node_new(&plain_type, 1), *b = node_new(&plain_type, 2);
  node_link(a, b);
  gyre_store(&a->other, &nobody.object);
  assert_int_equal(gyre_live_objects(), 2);
  assert_int_equal(gyre_total_refs(), 3);
  assert_int_equal(gyre_immortalize(b), 1);
  assert_int_equal(gyre_refcount(b), GYRE_IMMORTAL);
  assert_int_equal(gyre_live_objects(), 2);
  assert_int_equal(gyre_total_refs(), 1);
  node *again = gyre_retain(a);
  assert_int_equal(gyre_total_refs(), 2);
  gyre_release(again);
  gyre_clear(&a->next);
  make_mortal(b);
  gyre_release(a);
  gyre_release(b);
  assert_int_equal(gyre_total_refs(), 0);
}

static void make_some(void *arg) {
  node **out = arg;
  for (int i = 0; i < 100; i++) {
    node *n = node_new(&plain_type, (uint64_t)i);
    gyre_slot_init(&n->next, *out);
    *out = n;
  }
}

static void objects_of_other_threads_are_counted(void **state) {
  (void)state;
  struct puppet p;
  puppet_start(&p);
  node *list = NULL;
  puppet_run_parked(&p, make_some, &list);
  assert_int_equal(gyre_live_objects(), 100);
  assert_int_equal(gyre_total_refs(), 100);
  node *mine = gyre_retain(list);
  assert_int_equal(gyre_total_refs(), 101);
  gyre_release(mine);
  puppet_stop(&p);
  assert_int_equal(gyre_live_objects(), 100);
  gyre_release(list);
  assert_int_equal(gyre_live_objects(), 0);
}

static ptrdiff_t seen;
static int count_in_finalizer(node *n) {
  (void)n;
  seen = gyre_live_objects();
  return 0;
}

static void a_finalizer_may_count(void **state) {
  (void)state;
  node_on_finalize = count_in_finalizer;
  ring_drop(&finalized_type, 3);
  assert_int_equal(gyre_gc_collect(2), 3);
  assert_true(seen >= 1 && seen <= 3);
  node *n = node_new(&finalized_type, 1);
  gyre_release(n);
  assert_int_equal(seen, 1);
}

static void count_in_destroy(node *n) {
  (void)n;
  seen = gyre_live_objects();
}

static void what_is_being_destroyed_is_not_alive(void **state) {
  (void)state;
  node_on_destroy = count_in_destroy;
  gyre_release(node_new(&node_type, 1));
  assert_int_equal(seen, 0);
  node *chain = chain_new(&node_type, 5);
  node *last_but_one = gyre_retain(chain);
  for (int i = 0; i < 3; i++) {
    node *next = gyre_load(&last_but_one->next);
    gyre_release(last_but_one);
    last_but_one = next;
  }
  gyre_release(chain); /* three die */
  assert_int_equal(seen, 2);
  gyre_release(last_but_one);
  assert_int_equal(seen, 0);
}

/* ---- beside threads that are at it ---- */

#define KEPT 5000
#define CHURN_MOST 200

static test_flag done;

static void *churn(void *arg) {
  (void)arg;
  while (!test_flag_get(&done)) {
    node *n = chain_new(&plain_type, 20);
    gyre_release(n);
    gyre_release(gyre_new_array(&bytes_type, 70000));
    ring_drop(&plain_type, 4);
    (void)gyre_gc_collect(0);
    gyre_safepoint();
  }
  return NULL;
}

static void what_lives_throughout_is_counted_once_while_others_run(void **state) {
  (void)state;
  enum { THREADS = 4 };
  pthread_t threads[THREADS];
  test_flag_set(&done, 0);
  node *kept = chain_new(&plain_type, KEPT);
  for (int i = 0; i < THREADS; i++)
    threads[i] = test_thread_start(churn, NULL);
  for (uint64_t i = test_size("GYRE_TEST_COUNTS", 300, 50, 20); i > 0; i--) {
    ptrdiff_t objects = gyre_live_objects();
    assert_in_range(objects, KEPT, KEPT + THREADS * CHURN_MOST);
    ptrdiff_t refs = gyre_total_refs();
    assert_in_range(refs, KEPT, KEPT + 4 * THREADS * CHURN_MOST);
    gyre_safepoint();
  }
  test_flag_set(&done, 1);
  for (int i = 0; i < THREADS; i++)
    (void)test_thread_join(threads[i]);
  gyre_release(kept);
}

/* Acceptance: a question never changes when collections happen. */
static void questions_start_no_collection(void **state) {
  (void)state;
  assert_int_equal(gyre_option_set("gc", "1"), 0);
  node *kept = chain_new(&plain_type, 300);
  assert_int_equal(gyre_gc_collect(2), 0); /* what is due is done */
  struct gyre_stats before = {.size = sizeof before}, after = {.size = sizeof after};
  int count_before[GYRE_GC_NGEN], count_after[GYRE_GC_NGEN];
  assert_int_equal(gyre_stats_get(&before), 0);
  assert_int_equal(gyre_gc_get_count(count_before), 0);
  for (int i = 0; i < 3000; i++) {
    assert_int_equal(gyre_stats_get(&after), 0);
    if (i % 100 == 0) {
      assert_int_equal(gyre_live_objects(), 300);
      assert_true(gyre_total_refs() >= 300);
      assert_true(gyre_sizeof_deep(kept, NULL, NULL) > 0);
    }
  }
  assert_int_equal(gyre_stats_get(&after), 0);
  assert_int_equal(gyre_gc_get_count(count_after), 0);
  for (int g = 0; g < GYRE_GC_NGEN; g++) {
    assert_int_equal(after.gc_collections[g], before.gc_collections[g]);
    assert_int_equal(count_after[g], count_before[g]);
  }
  gyre_release(kept);
}

/* Nor do questions keep one from happening (python/cpython#157377). */
static void questions_do_not_put_off_collections(void **state) {
  (void)state;
  assert_int_equal(gyre_option_set("gc", "1"), 0);
  struct gyre_stats s = {.size = sizeof s};
  int count[GYRE_GC_NGEN];
  assert_int_equal(gyre_stats_get(&s), 0);
  uint64_t before = s.gc_collected[0] + s.gc_collected[1] + s.gc_collected[2];
  for (int i = 0; i < 20000; i++) {
    ring_drop(&plain_type, 3);
    assert_int_equal(gyre_gc_get_count(count), 0);
    if (i % 16 == 0) assert_int_equal(gyre_stats_get(&s), 0);
    gyre_safepoint();
  }
  assert_int_equal(gyre_stats_get(&s), 0);
  assert_true(s.gc_collected[0] + s.gc_collected[1] + s.gc_collected[2] > before);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(objects_of_all_kinds_and_sizes_are_counted),
      NODE_TEST(garbage_is_counted_until_it_is_collected),
      NODE_TEST(immortal_objects_count_and_their_references_do_not),
      NODE_TEST(objects_of_other_threads_are_counted),
      NODE_TEST(a_finalizer_may_count),
      NODE_TEST(what_is_being_destroyed_is_not_alive),
      NODE_TEST(what_lives_throughout_is_counted_once_while_others_run),
      NODE_TEST(questions_start_no_collection),
      NODE_TEST(questions_do_not_put_off_collections),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
