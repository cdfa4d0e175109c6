/* SPDX-License-Identifier: MIT */
/* GC callbacks, and the figures of collections. */
#include <errno.h>

#include "tests/support/node.h"
#include "tests/support/puppet.h"

/* What a callback was told. */
struct told {
  int starts, stops;
  struct gyre_gc_info start, stop;
  pthread_t thread;
};

static void listen(enum gyre_gc_phase phase, const struct gyre_gc_info *info, void *arg) {
  struct told *t = arg;
  t->thread = pthread_self();
  if (phase == GYRE_GC_START) {
    t->starts++;
    t->start = *info;
  } else {
    t->stops++;
    t->stop = *info;
  }
}

static void callbacks_are_told_of_start_and_stop(void **state) {
  (void)state;
  struct told t = {0};
  uint64_t id = 0;
  assert_int_equal(gyre_gc_add_callback(NULL, NULL, &id), -EINVAL);
  assert_int_equal(gyre_gc_add_callback(listen, &t, &id), 0);
  node *live = ring_new(&node_type, 5);
  ring_drop(&node_type, 3);
  gyre_gc_collect(1);
  assert_int_equal(t.starts, 1);
  assert_int_equal(t.stops, 1);
  assert_int_equal(t.start.generation, 1);
  assert_int_equal(t.start.collected, 0);
  assert_int_equal(t.start.candidates, 0);
  assert_int_equal(t.start.duration_ns, 0);
  assert_int_equal(t.stop.generation, 1);
  assert_int_equal(t.stop.collected, 3);
  assert_int_equal(t.stop.uncollectable, 0);
  assert_int_equal(t.stop.candidates, 8);
  assert_true(t.stop.duration_ns > 0);
  assert_true(pthread_equal(t.thread, pthread_self()));
  assert_int_equal(gyre_gc_remove_callback(id), 0);
  assert_int_equal(gyre_gc_remove_callback(id), -ENOENT);
  gyre_gc_collect(0);
  assert_int_equal(t.starts, 1);
  gyre_release(live);
  assert_int_equal(gyre_gc_collect(2), 5);
}

static void the_last_collections_of_the_library_call_nobody(void **state) {
  (void)state;
  struct told t = {0};
  uint64_t id;
  assert_int_equal(gyre_gc_add_callback(listen, &t, &id), 0);
  ring_drop(&node_type, 3);
  assert_int_equal(gyre_fini(), 0);
  assert_int_equal(nodes_destroyed(), 3);
  assert_int_equal(t.starts, 0);
  assert_int_equal(gyre_gc_remove_callback(id), 0);
}

static struct told late;
static uint64_t late_id;
static void add_one(enum gyre_gc_phase phase, const struct gyre_gc_info *info, void *arg) {
  (void)info, (void)arg;
  if (phase == GYRE_GC_START && late_id == 0)
    TEST_REQUIRE(gyre_gc_add_callback(listen, &late, &late_id) == 0);
}

static void a_callback_added_by_a_callback_is_told_of_the_next_collection(void **state) {
  (void)state;
  late = (struct told){0};
  late_id = 0;
  uint64_t id;
  assert_int_equal(gyre_gc_add_callback(add_one, NULL, &id), 0);
  gyre_gc_collect(0);
  assert_int_equal(late.starts + late.stops, 0);
  gyre_gc_collect(0);
  assert_int_equal(late.starts, 1);
  assert_int_equal(late.stops, 1);
  assert_int_equal(gyre_gc_remove_callback(id), 0);
  assert_int_equal(gyre_gc_remove_callback(late_id), 0);
}

static uint64_t own_id, victim_id;
static int removals;
static void remove_self_and_another(enum gyre_gc_phase phase, const struct gyre_gc_info *info,
                                    void *arg) {
  (void)phase, (void)info, (void)arg;
  removals++;
  TEST_REQUIRE(gyre_gc_remove_callback(own_id) == 0);
  TEST_REQUIRE(gyre_gc_remove_callback(victim_id) == 0);
}

static void a_callback_may_remove_itself_and_others(void **state) {
  (void)state;
  struct told before = {0}, victim = {0}, after = {0};
  uint64_t first, last;
  removals = 0;
  assert_int_equal(gyre_gc_add_callback(listen, &before, &first), 0);
  assert_int_equal(gyre_gc_add_callback(remove_self_and_another, NULL, &own_id), 0);
  assert_int_equal(gyre_gc_add_callback(listen, &victim, &victim_id), 0);
  assert_int_equal(gyre_gc_add_callback(listen, &after, &last), 0);
  gyre_gc_collect(0);
  gyre_gc_collect(0);
  assert_int_equal(removals, 1);
  assert_int_equal(victim.starts + victim.stops, 0);
  assert_int_equal(before.stops, 2);
  assert_int_equal(after.stops, 2);
  assert_int_equal(gyre_gc_remove_callback(first), 0);
  assert_int_equal(gyre_gc_remove_callback(last), 0);
}

static ptrdiff_t nested;
static void collect_nested(enum gyre_gc_phase phase, const struct gyre_gc_info *info, void *arg) {
  (void)phase, (void)info, (void)arg;
  nested += gyre_gc_collect(2);
  ring_drop(&plain_type, 2);
}

static void a_collection_from_a_callback_returns_0(void **state) {
  (void)state;
  nested = 0;
  uint64_t id;
  assert_int_equal(gyre_gc_add_callback(collect_nested, NULL, &id), 0);
  ring_drop(&node_type, 3);
  /* With the ring that the callback made at the start. */
  assert_int_equal(gyre_gc_collect(2), 5);
  assert_int_equal(nested, 0);
  assert_int_equal(gyre_gc_remove_callback(id), 0);
}

/* A callback that is held up in another thread, while this one removes it. */
static test_flag in_callback, let_go;
static void hold_up(enum gyre_gc_phase phase, const struct gyre_gc_info *info, void *arg) {
  (void)info, (void)arg;
  if (phase == GYRE_GC_STOP) return;
  test_flag_set(&in_callback, 1);
  TEST_AWAIT_SAFELY(test_flag_get(&let_go));
  test_flag_set(&in_callback, 0);
}

static void collect(void *arg) {
  (void)arg;
  gyre_gc_collect(0);
}

static void await_removal_and_let_go(void *arg) {
  (void)arg;
  /* The remover is parked, and so are the collector's puppet strings: this one runs. */
  TEST_AWAIT_SAFELY(test_thread_stats().parked >= 1);
  test_flag_set(&let_go, 1);
}

static void removal_waits_for_a_call_in_another_thread(void **state) {
  (void)state;
  test_flag_set(&in_callback, 0);
  test_flag_set(&let_go, 0);
  uint64_t id;
  assert_int_equal(gyre_gc_add_callback(hold_up, NULL, &id), 0);
  struct puppet collector, helper;
  puppet_start(&collector);
  puppet_start(&helper);
  puppet_begin(&collector, collect, NULL);
  TEST_AWAIT_SAFELY(test_flag_get(&in_callback));
  puppet_begin(&helper, await_removal_and_let_go, NULL);
  assert_int_equal(gyre_gc_remove_callback(id), 0);
  assert_int_equal(test_flag_get(&in_callback), 0);
  assert_int_equal(test_flag_get(&let_go), 1);
  puppet_await(&collector);
  puppet_await(&helper);
  puppet_stop(&collector);
  puppet_stop(&helper);
}

static void a_callback_that_no_memory_is_there_for_is_refused(void **state) {
  (void)state;
#ifndef GYRE_WINDOWS
  skip();
#endif
  struct told t = {0};
  uint64_t id = 77;
  gyre__fault_arm(1, 1);
  assert_int_equal(gyre_gc_add_callback(listen, &t, &id), -ENOMEM);
  gyre__fault_arm(0, 0);
  assert_int_equal(id, 77);
}

/* ---- figures ---- */

static void statistics_add_up(void **state) {
  (void)state;
  for (int g = 0; g < 3; g++) {
    struct gyre_gc_stats before = {.size = sizeof before}, s = {.size = sizeof s};
    gyre_gc_get_stats(g, &before);
    node *live = ring_new(&node_type, 100);
    ring_drop(&finalized_type, 10);
    ring_drop(&node_type, 7);
    assert_int_equal(gyre_gc_collect(g), 17);
    assert_int_equal(gyre_gc_get_stats(g, &s), 0);
    assert_int_equal(s.size, sizeof s);
    assert_int_equal(s.collections, before.collections + 1);
    assert_int_equal(s.collected, before.collected + 17);
    assert_int_equal(s.uncollectable, 0);
    assert_int_equal(s.candidates, before.candidates + 117);
    assert_int_equal(s.finalized, before.finalized + 10);
    assert_int_equal(s.resurrected, before.resurrected);
    assert_true(s.freed_bytes - before.freed_bytes >= 17 * (sizeof(node) + GYRE_HEADER_SIZE));
    /* One stop to look, and one because finalizers ran. */
    assert_int_equal(s.pauses, before.pauses + 2);
    assert_true(s.duration_ns - before.duration_ns >= s.pause_total_ns - before.pause_total_ns);
    assert_true(s.pause_min_ns > 0);
    assert_true(s.pause_min_ns <= s.pause_p50_ns && s.pause_p50_ns <= s.pause_p99_ns);
    assert_true(s.pause_p99_ns <= s.pause_max_ns);
    assert_true(s.pause_max_ns <= s.pause_total_ns);
    gyre_release(live);
    assert_int_equal(gyre_gc_collect(2), 100);
  }
}

static void quantiles_of_pauses_are_within_an_eighth(void **state) {
  (void)state;
  /* As collections would report them: 98 pauses of 1 ms, 2 of 1 s. Generation 0 has others too, but
   * few. */
  struct gyre_gc_stats s = {.size = sizeof s};
  gyre_gc_get_stats(0, &s);
  uint64_t times = 100 * (s.pauses + 1);
  for (uint64_t i = 0; i < times; i++)
    gyre__stats_pause(0, i % 50 == 0 ? 1000000000u : 1000000u);
  gyre_gc_get_stats(0, &s);
  assert_in_range(s.pause_p50_ns, 1000000, 1125000);
  assert_in_range(s.pause_p99_ns, 875000000, 1000000000);
  assert_in_range(s.pause_max_ns, 1000000000, UINT64_MAX);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(callbacks_are_told_of_start_and_stop),
      NODE_TEST(the_last_collections_of_the_library_call_nobody),
      NODE_TEST(a_callback_added_by_a_callback_is_told_of_the_next_collection),
      NODE_TEST(a_callback_may_remove_itself_and_others),
      NODE_TEST(a_collection_from_a_callback_returns_0),
      NODE_TEST(removal_waits_for_a_call_in_another_thread),
      NODE_TEST(a_callback_that_no_memory_is_there_for_is_refused),
      NODE_TEST_WITH(statistics_add_up, "gc:0,gc_mode:stw"),
      NODE_TEST(quantiles_of_pauses_are_within_an_eighth),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
