/* SPDX-License-Identifier: MIT */
/* Generations, thresholds, and when collections happen by themselves. */
#include <errno.h>
#include <limits.h>

#include "tests/support/node.h"
#include "tests/support/puppet.h"

static struct gyre_gc_stats stats_of(int generation) {
  struct gyre_gc_stats stats = {.size = sizeof stats};
  assert_int_equal(gyre_gc_get_stats(generation, &stats), 0);
  return stats;
}

static uint64_t collections(void) {
  return stats_of(0).collections + stats_of(1).collections + stats_of(2).collections;
}

static void thresholds(int t0, int t1, int t2) {
  int t[] = {t0, t1, t2};
  assert_int_equal(gyre_gc_set_threshold(t, 3), 0);
}

/* ---- generations ---- */

static void survivors_move_to_the_next_generation(void **state) {
  (void)state;
  for (int age = 0; age < 3; age++) {
    node *n = ring_new(&node_type, 2);
    for (int g = 0; g < age; g++)
      assert_int_equal(gyre_gc_collect(g), 0);
    gyre_release(n);
    for (int g = 0; g < age; g++)
      assert_int_equal(gyre_gc_collect(g), 0);
    assert_int_equal(gyre_gc_collect(age), 2);
  }
}

static void a_collection_takes_all_younger_generations_with_it(void **state) {
  (void)state;
  node *old = ring_new(&node_type, 2);
  gyre_gc_collect(0);
  gyre_gc_collect(1);
  node *middle = ring_new(&node_type, 3);
  gyre_gc_collect(0);
  ring_drop(&node_type, 5);
  gyre_release(old);
  gyre_release(middle);
  assert_int_equal(gyre_gc_collect(2), 10);
}

static void an_old_object_keeps_young_ones_alive(void **state) {
  (void)state;
  node *old = node_new(&node_type, 0);
  gyre_gc_collect(0);
  gyre_gc_collect(1);
  gyre_slot_init(&old->next, ring_new(&node_type, 4));
  assert_int_equal(gyre_gc_collect(0), 0);
  assert_int_equal(gyre_gc_collect(1), 0);
  gyre_release(old);
  assert_int_equal(gyre_gc_collect(2), 4);
}

static void a_young_collection_looks_at_young_objects_only(void **state) {
  (void)state;
  node *old = ring_new(&node_type, 50000);
  gyre_gc_collect(2);
  uint64_t before = stats_of(0).candidates;
  ring_drop(&node_type, 10);
  assert_int_equal(gyre_gc_collect(0), 10);
  assert_true(stats_of(0).candidates - before < 5000);
  gyre_release(old);
  gyre_gc_collect(2);
}

/* ---- the controls ---- */

static void thresholds_are_kept_and_bad_ones_refused(void **state) {
  (void)state;
  int t[3], same[3];
  assert_int_equal(gyre_gc_get_threshold(t), 0);
  assert_int_equal(t[0], 2000);
  assert_int_equal(t[1], 10);
  assert_int_equal(t[2], 10);
  assert_int_equal(gyre_gc_set_threshold((int[]){-1}, 1), -EINVAL);
  assert_int_equal(gyre_gc_set_threshold((int[]){5, 5, -5}, 3), -EINVAL);
  assert_int_equal(gyre_gc_set_threshold((int[]){5, INT_MIN}, 2), -EINVAL);
  assert_int_equal(gyre_gc_set_threshold(t, 0), -EINVAL);
  assert_int_equal(gyre_gc_set_threshold(t, 4), -EINVAL);
  assert_int_equal(gyre_gc_set_threshold(NULL, 1), -EINVAL);
  assert_int_equal(gyre_gc_get_threshold(NULL), -EINVAL);
  assert_int_equal(gyre_gc_get_threshold(same), 0);
  assert_memory_equal(t, same, sizeof t);
  assert_int_equal(gyre_gc_set_threshold((int[]){INT_MAX}, 1), 0);
  assert_int_equal(gyre_gc_set_threshold((int[]){7, 0}, 2), 0);
  assert_int_equal(gyre_gc_get_threshold(t), 0);
  assert_int_equal(t[0], 7);
  assert_int_equal(t[1], 0);
  assert_int_equal(t[2], 10);
}

static void enable_and_disable_return_the_state_before(void **state) {
  (void)state;
  gyre_gc_enable();
  assert_int_equal(gyre_gc_disable(), 1);
  assert_int_equal(gyre_gc_is_enabled(), 0);
  assert_int_equal(gyre_gc_disable(), 0);
  assert_int_equal(gyre_gc_enable(), 0);
  assert_int_equal(gyre_gc_is_enabled(), 1);
  assert_int_equal(gyre_gc_enable(), 1);
}

static void bad_statistics_calls_are_refused(void **state) {
  (void)state;
  struct gyre_gc_stats stats = {.size = sizeof stats};
  assert_int_equal(gyre_gc_get_stats(3, &stats), -EINVAL);
  assert_int_equal(gyre_gc_get_stats(-1, &stats), -EINVAL);
  assert_int_equal(gyre_gc_get_stats(0, NULL), -EINVAL);
  stats.size = 0;
  assert_int_equal(gyre_gc_get_stats(0, &stats), -EINVAL);
  assert_int_equal(gyre_gc_get_count(NULL), -EINVAL);
  /* An old program's shorter struct. */
  struct gyre_gc_stats part = {.size = offsetof(struct gyre_gc_stats, candidates),
                               .candidates = 77};
  gyre_gc_collect(0);
  assert_int_equal(gyre_gc_get_stats(0, &part), 0);
  assert_true(part.collections > 0);
  assert_int_equal(part.candidates, 77);
}

/* ---- automatic collection ---- */

static void allocation_only_asks_and_the_next_safepoint_collects(void **state) {
  (void)state;
  thresholds(100, 10, 10);
  uint64_t before = collections();
  for (int i = 0; i < 2000; i++)
    ring_drop(&node_type, 2);
  assert_int_equal(collections(), before);
  assert_int_equal(nodes_destroyed(), 0);
  gyre_safepoint();
  assert_int_equal(collections(), before + 1);
  assert_int_equal(nodes_destroyed(), 4000);
}

/* Threads look less often at their young objects while nothing dies young, as in tests before. */
static void let_it_pay_to_look(void) {
  uint64_t before = stats_of(0).collected;
  while (stats_of(0).collected == before) {
    ring_drop(&plain_type, 1);
    gyre_safepoint();
  }
}

/* It is asked for when the thread's own look at its young objects is due, and one of all generations. */
static void an_explicit_collection_counts_what_is_due_by_itself(void **state) {
  (void)state;
  for (int g = 0; g < 3; g++) {
    thresholds(100, 1, 1);
    let_it_pay_to_look();
    uint64_t looks = stats_of(0).collections, destroyed = nodes_destroyed();
    for (int i = 0; i < 1500; i++) /* a log's full, not more */
      ring_drop(&node_type, 2);
    assert_int_equal(gyre_gc_collect(g), 3000);
    assert_int_equal(nodes_destroyed() - destroyed, 3000);
    assert_int_equal(stats_of(0).collections - looks, g == 0);
  }
  /* What was due comes afterwards. */
  test_option_set("collect_always", "1");
  for (int i = 0; i < 1000; i++)
    ring_drop(&node_type, 1);
  gyre_safepoint();
  assert_int_equal(gyre_gc_collect(2), 0);
  uint64_t before = collections();
  gyre_safepoint();
  assert_true(collections() > before);
}

static void nothing_is_collected_while_disabled_except_on_demand(void **state) {
  (void)state;
  thresholds(10, 1, 1);
  gyre_gc_disable();
  uint64_t before = collections();
  for (int i = 0; i < 1000; i++) {
    ring_drop(&node_type, 2);
    gyre_safepoint();
  }
  assert_int_equal(collections(), before);
  assert_int_equal(gyre_gc_collect(0), 2000);
}

static void a_first_threshold_of_0_turns_automatic_collection_off(void **state) {
  (void)state;
  thresholds(0, 10, 10);
  uint64_t before = collections();
  for (int i = 0; i < 10000; i++) {
    ring_drop(&node_type, 2);
    gyre_safepoint();
  }
  assert_int_equal(collections(), before);
  assert_int_equal(gyre_gc_collect(2), 20000);
}

static void what_dies_young_brings_about_no_collection_of_older_generations(void **state) {
  (void)state;
  thresholds(100, 3, 2);
  let_it_pay_to_look();
  gyre_gc_collect(2);
  uint64_t before[3];
  for (int g = 0; g < 3; g++)
    before[g] = stats_of(g).collections;
  for (int i = 0; i < 20000; i++) {
    ring_drop(&node_type, 1);
    gyre_safepoint();
  }
  uint64_t young = stats_of(0).collections - before[0];
  assert_true(young > 100 && young <= 200);
  assert_int_equal(stats_of(1).collections, before[1]);
  assert_int_equal(stats_of(2).collections, before[2]);
  gyre_gc_collect(0);
  assert_int_equal(nodes_destroyed(), 20000);
}

/* Garbage that is promoted before it dies, and that its thread does not find by itself, since it has
 * finalizers. */
static void older_generations_are_collected_when_enough_has_reached_them(void **state) {
  (void)state;
  enum { KEPT = 500 };
  static node *kept[KEPT];
  thresholds(100, 3, 2);
  gyre_gc_collect(2);
  uint64_t middle = stats_of(1).collections;
  for (int i = 0; i < 20000; i++) {
    gyre_release(kept[i % KEPT]);
    kept[i % KEPT] = ring_new(&finalized_type, 1);
    gyre_safepoint();
  }
  for (int i = 0; i < KEPT; i++) {
    gyre_release(kept[i]);
    kept[i] = NULL;
  }
  assert_true(stats_of(1).collections > middle);
  assert_true(nodes_destroyed() > 10000);
  gyre_gc_collect(2);
  assert_int_equal(nodes_destroyed(), 20000);
}

static void building_a_large_live_structure_looks_at_a_linear_number_of_candidates(void **state) {
  (void)state;
  /* A middle one as often as may be, and a full one after each, but for the quarter rule. */
  thresholds(20, 1, 0);
  size_t n = test_size("GYRE_TEST_CELLS", 1000000, 200000, 100000);
  uint64_t candidates = 0, full = stats_of(2).collections;
  for (int g = 0; g < 3; g++)
    candidates += stats_of(g).candidates;
  node *list = NULL;
  for (size_t i = 0; i < n; i++) {
    node *next = node_new(&finalized_type, i);
    gyre_slot_init(&next->next, list);
    list = next;
    gyre_safepoint();
  }
  uint64_t after = 0;
  for (int g = 0; g < 3; g++)
    after += stats_of(g).candidates;
  /* Without the rule there would be a full one each 1,280 objects, however patient the middle one is. */
  assert_true(after - candidates < 10 * (uint64_t)n);
  uint64_t runs = stats_of(2).collections - full;
  assert_true(runs >= 1 && runs < 100);
  /* An explicit one does not ask. */
  full = stats_of(2).collections;
  uint64_t before = stats_of(2).candidates;
  for (int i = 0; i < 3; i++)
    assert_int_equal(gyre_gc_collect(2), 0);
  assert_int_equal(stats_of(2).collections, full + 3);
  assert_int_equal(stats_of(2).candidates - before, 3 * n);
  gyre_release(list);
}

static uint64_t older_collections(void) {
  return stats_of(1).collections + stats_of(2).collections;
}

static void frees_of_old_objects_do_not_put_collections_off(void **state) {
  (void)state;
  thresholds(100, 1, 10);
  let_it_pay_to_look();
  node *old = chain_new(&plain_type, 50000), *more = NULL;
  gyre_gc_collect(2);
  uint64_t before = collections(), older = older_collections();
  gyre_release(old);
  for (int i = 0; i < 100; i++)
    gyre_safepoint();
  assert_int_equal(collections(), before);
  int count[3];
  assert_int_equal(gyre_gc_get_count(count), 0);
  assert_int_equal(count[0], 0);
  for (int i = 0; i < 1500; i++) {
    ring_drop(&node_type, 1);
    gyre_safepoint();
  }
  assert_true(collections() > before);
  /* Nothing has reached the older generations, and what went was counted long ago. */
  assert_int_equal(older_collections(), older);
  /* What reaches them now has not to make up for it. */
  for (int i = 0; i < 12000; i++) {
    node *n = node_new(&finalized_type, 0);
    if (more != NULL) gyre_slot_init(&n->next, more);
    more = n;
    gyre_safepoint();
  }
  assert_true(older_collections() > older);
  gyre_release(more);
}

static void get_count_tells_allocations_and_runs(void **state) {
  (void)state;
  int count[3];
  gyre_gc_collect(2);
  assert_int_equal(gyre_gc_get_count(count), 0);
  assert_int_equal(count[0], 0);
  assert_int_equal(count[1], 0);
  assert_int_equal(count[2], 0);
  node *list = chain_new(&plain_type, 1000);
  assert_int_equal(gyre_gc_get_count(count), 0);
  assert_int_equal(count[0], 1000);
  void *leaf = gyre_new(&leaf_type);
  gyre_gc_get_count(count);
  assert_int_equal(count[0], 1000);
  gyre_release(leaf);
  gyre_gc_collect(0);
  gyre_gc_collect(0);
  gyre_gc_get_count(count);
  assert_int_equal(count[1], 2);
  gyre_gc_collect(1);
  gyre_gc_get_count(count);
  assert_int_equal(count[0], 0);
  assert_int_equal(count[1], 0);
  assert_int_equal(count[2], 1);
  gyre_release(list);
}

/* Returns in how many steps the fifth collection came. */
static unsigned steps_to_five_collections(bool poll) {
  gyre_gc_collect(2);
  unsigned steps = 0;
  for (uint64_t before = collections(); collections() < before + 5; steps++) {
    ring_drop(&plain_type, 1);
    gyre_safepoint();
    if (!poll) continue;
    for (int i = 0; i < 3; i++) {
      int count[3];
      gyre_gc_get_count(count);
      gyre_gc_get_threshold(count);
      (void)gyre_gc_is_enabled();
      (void)test_thread_stats();
      (void)test_heap_stats();
    }
  }
  gyre_gc_collect(2);
  return steps;
}

static void polling_never_changes_when_collections_happen(void **state) {
  (void)state;
  thresholds(500, 10, 10);
  let_it_pay_to_look();
  (void)steps_to_five_collections(false); /* until the length of a step has settled */
  unsigned quiet = steps_to_five_collections(false);
  assert_int_equal(steps_to_five_collections(true), quiet);
  assert_int_equal(steps_to_five_collections(false), quiet);
}

static void collect_always_collects_at_every_safepoint(void **state) {
  (void)state;
  test_option_set("collect_always", "1");
  uint64_t before = collections();
  /* The mode begins with a thread's first report. */
  for (int i = 0; i < 1000; i++)
    ring_drop(&plain_type, 1);
  gyre_safepoint();
  uint64_t begun = collections();
  assert_true(begun > before);
  for (int i = 0; i < 50; i++)
    gyre_safepoint();
  assert_true(collections() >= begun + 50);
}

static void *churn(void *arg) {
  (void)arg;
  for (int i = 0; i < 5000; i++) {
    ring_drop(&node_type, 3);
    gyre_safepoint();
  }
  return NULL;
}

static void the_garbage_of_all_threads_counts(void **state) {
  (void)state;
  thresholds(1000, 5, 5);
  pthread_t threads[4];
  uint64_t before = collections();
  for (int i = 0; i < 4; i++)
    threads[i] = test_thread_start(churn, NULL);
  for (int i = 0; i < 4; i++)
    test_thread_join(threads[i]);
  assert_true(collections() - before >= 10);
  gyre_gc_collect(2);
  assert_int_equal(nodes_destroyed(), 4 * 5000 * 3);
}

#define MANUAL(name) NODE_TEST_WITH(name, "gc:0,gc_threshold:2000/10/10")
/* In the mode where it is the program's own thread that collects. */
#define AUTOMATIC(name) NODE_TEST_WITH(name, "gc:1,gc_mode:stw,gc_threshold:2000/10/10")

int main(void) {
  const struct CMUnitTest tests[] = {
      MANUAL(survivors_move_to_the_next_generation),
      MANUAL(a_collection_takes_all_younger_generations_with_it),
      MANUAL(an_old_object_keeps_young_ones_alive),
      MANUAL(a_young_collection_looks_at_young_objects_only),
      MANUAL(thresholds_are_kept_and_bad_ones_refused),
      MANUAL(enable_and_disable_return_the_state_before),
      MANUAL(bad_statistics_calls_are_refused),
      AUTOMATIC(allocation_only_asks_and_the_next_safepoint_collects),
      AUTOMATIC(nothing_is_collected_while_disabled_except_on_demand),
      AUTOMATIC(a_first_threshold_of_0_turns_automatic_collection_off),
      AUTOMATIC(what_dies_young_brings_about_no_collection_of_older_generations),
      AUTOMATIC(older_generations_are_collected_when_enough_has_reached_them),
      AUTOMATIC(frees_of_old_objects_do_not_put_collections_off),
      MANUAL(get_count_tells_allocations_and_runs),
      AUTOMATIC(polling_never_changes_when_collections_happen),
      AUTOMATIC(collect_always_collects_at_every_safepoint),
      AUTOMATIC(the_garbage_of_all_threads_counts),
      AUTOMATIC(an_explicit_collection_counts_what_is_due_by_itself),
      AUTOMATIC(building_a_large_live_structure_looks_at_a_linear_number_of_candidates),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
