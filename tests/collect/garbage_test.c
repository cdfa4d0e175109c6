/* SPDX-License-Identifier: MIT */
/* Garbage that is kept, the debug flags and their texts, and collections with flags. */
#include <errno.h>
#include <string.h>

#include "tests/support/node.h"
#include "tests/support/puppet.h"
#include "tests/support/window.h"

static test_flag manual_count;
#define manual_finalized test_flag_get(&manual_count)
static int finalize_manual(void *object) {
  (void)object;
  test_flag_add(&manual_count, 1);
  return 0;
}
static void destroy_manual(void *object) {
  if (node_on_destroy != NULL) node_on_destroy(object);
}
static GYRE_TYPE_DEFINE(manual_type, node, .slots = GYRE_SLOTS(node, next, other),
                        .finalize = finalize_manual, .destroy = destroy_manual,
                        .flags = GYRE_TYPE_MANUAL_FINALIZE);

static int debug_begin(void **state) {
  test_flag_set(&manual_count, 0);
  return nodes_begin(state);
}
static int debug_end(void **state) {
  TEST_REQUIRE(gyre_gc_set_debug(0) == 0);
  return test_end(state);
}
#define DEBUG_TEST(name)                                                                           \
  { #name, name, debug_begin, debug_end, (void *)(uintptr_t) "gc:0" }

static bool has(const gyre_objlist *list, const void *object) {
  for (size_t i = 0; i < list->count; i++)
    if (list->items[i] == object) return true;
  return false;
}

/* ---- uncollectable ---- */

/* What the collector looks at while it has the locks of all weak references of a cycle. */
static void an_uncollectable_key_of_ephemerons_keeps_its_value(void **state) {
  (void)state;
  GYRE_AUTO(gyre_weakmap) map = gyre_weakmap_new(GYRE_WEAK_EPHEMERON, NULL, NULL);
  node *m = node_new(&manual_type, 1), *key = node_new(&node_type, 2),
       *value = node_new(&node_type, 3);
  gyre_store(&m->next, key);
  gyre_store(&key->next, m);
  gyre_store(&value->next, key);
  assert_int_equal(gyre_weakmap_set(map, key, value), 0);
  gyre_weak *weak = gyre_weak_new(m, NULL, NULL);
  gyre_release(m);
  gyre_release(key);
  gyre_release(value);
  assert_int_equal(gyre_gc_collect(2), 3);
  assert_int_equal(gyre_gc_garbage_count(), 3);
  GYRE_AUTO(node) got = gyre_weakmap_get(map, key);
  assert_ptr_equal(got, value);
  gyre_clear(&key->next);
  assert_int_equal(gyre_gc_clear_garbage(), 3);
  gyre_clear(&got->next);
  assert_true(gyre_weak_is_dead(weak));
  gyre_weak_free(weak);
}

static void a_cycle_with_a_manual_object_is_uncollectable(void **state) {
  (void)state;
  node *m = node_new(&manual_type, 1), *n = node_new(&node_type, 2),
       *tail = node_new(&node_type, 3);
  gyre_store(&m->next, n);
  gyre_store(&n->next, m);
  gyre_slot_init(&n->other, tail);
  gyre_weak *weak = gyre_weak_new(n, NULL, NULL);
  gyre_release(m);
  gyre_release(n);
  ring_drop(&node_type, 2);
  gyre__young_collect(gyre__objects_self(), true);
  assert_int_equal(nodes_destroyed(), 2);
  assert_int_equal(gyre_gc_collect(2), 3);
  assert_int_equal(nodes_destroyed(), 2);
  assert_int_equal(manual_finalized, 0);
  assert_int_equal(gyre_gc_garbage_count(), 3);
  struct gyre_gc_stats stats = {.size = sizeof stats};
  assert_int_equal(gyre_gc_get_stats(2, &stats), 0);
  assert_true(stats.uncollectable >= 3);
  assert_int_equal(gyre_gc_collect(2), 0);
  gyre_objlist *list;
  assert_int_equal(gyre_gc_take_garbage(&list), 3);
  assert_int_equal(gyre_gc_garbage_count(), 0);
  assert_true(has(list, m) && has(list, n) && has(list, tail));
  assert_false(gyre_weak_is_dead(weak));
  /* The program breaks the cycle. */
  gyre_clear(&n->next);
  gyre_objlist_free(list);
  assert_int_equal(manual_finalized, 1);
  assert_int_equal(nodes_destroyed(), 4);
  gyre_weak_free(weak);
}

static void what_leads_to_it_is_freed(void **state) {
  (void)state;
  node *ring = ring_new(&node_type, 3), *m = node_new(&manual_type, 1);
  gyre_slot_init(&ring->other, m);
  gyre_release(ring);
  assert_int_equal(gyre_gc_collect(2), 4);
  assert_int_equal(nodes_destroyed(), 3);
  assert_int_equal(gyre_gc_garbage_count(), 1);
  /* It is in no cycle: now it dies by its count. */
  assert_int_equal(gyre_gc_clear_garbage(), 1);
  assert_int_equal(manual_finalized, 1);
}

static void cleared_garbage_is_found_again(void **state) {
  (void)state;
  node *m = node_new(&manual_type, 1);
  gyre_store(&m->next, m);
  gyre_release(m);
  for (int i = 0; i < 3; i++) {
    assert_int_equal(gyre_gc_collect(2), 1);
    assert_int_equal(gyre_gc_clear_garbage(), 1);
  }
  assert_int_equal(gyre_gc_collect(2), 1);
  gyre_objlist *list;
  assert_int_equal(gyre_gc_take_garbage(&list), 1);
  gyre_clear(&m->next);
  gyre_objlist_free(list);
  assert_int_equal(manual_finalized, 1);
}

static void the_finalizers_of_the_rest_run(void **state) {
  (void)state;
  node *ring = ring_new(&finalized_type, 3), *m = node_new(&manual_type, 1);
  node *behind = node_new(&finalized_type, 9);
  gyre_slot_init(&ring->other, m);
  gyre_slot_init(&m->other, behind);
  gyre_release(ring);
  assert_int_equal(gyre_gc_collect(2), 5);
  assert_int_equal(nodes_finalized(), 3);
  assert_int_equal(gyre_gc_garbage_count(), 2);
  assert_int_equal(gyre_gc_clear_garbage(), 2);
  assert_int_equal(nodes_finalized(), 4);
}

static void by_its_count_it_dies(void **state) {
  (void)state;
  gyre_release(node_new(&manual_type, 1));
  assert_int_equal(manual_finalized, 1);
  assert_int_equal(gyre_gc_garbage_count(), 0);
}

/* ---- SAVEALL ---- */

static void save_all_keeps_everything(void **state) {
  (void)state;
  assert_int_equal(gyre_gc_set_debug(GYRE_GC_DEBUG_SAVEALL), 0);
  node *n = ring_new(&node_type, 3);
  gyre_weak *weak = gyre_weak_new(n, NULL, NULL);
  gyre_release(n);
  ring_drop(&finalized_type, 2);
  ring_drop(&plain_type, 2);
  gyre__young_collect(gyre__objects_self(), true);
  assert_int_equal(gyre_gc_collect(2), 7);
  assert_int_equal(nodes_destroyed(), 0);
  assert_int_equal(nodes_finalized(), 2);
  assert_int_equal(gyre_gc_garbage_count(), 7);
  assert_false(gyre_weak_is_dead(weak));
  test_check();
  assert_int_equal(gyre_gc_set_debug(0), 0);
  assert_int_equal(gyre_gc_clear_garbage(), 7);
  assert_int_equal(gyre_gc_collect(2), 7);
  assert_int_equal(nodes_destroyed(), 5);
  assert_int_equal(nodes_finalized(), 2);
  assert_true(gyre_weak_is_dead(weak));
  gyre_weak_free(weak);
}

static void without_room_on_the_list_garbage_waits(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  assert_int_equal(gyre_gc_set_debug(GYRE_GC_DEBUG_SAVEALL), 0);
  /* More than there was ever room for. */
  enum { N = 5000 };
  ring_drop(&node_type, N);
  ptrdiff_t result = -ENOMEM;
  for (uint64_t nth = 1; result == -ENOMEM; nth++) {
    gyre__fault_arm(nth, 0);
    result = gyre_gc_collect(2);
    gyre__fault_arm(0, 0);
    if (result == -ENOMEM) assert_int_equal(gyre_gc_garbage_count(), 0);
    test_check();
  }
  assert_int_equal(result, N);
  gyre__fault_arm(1, 0);
  gyre_objlist *list;
  assert_int_equal(gyre_gc_take_garbage(&list), -ENOMEM);
  gyre__fault_arm(0, 0);
  assert_int_equal(gyre_gc_set_debug(0), 0);
  assert_int_equal(gyre_gc_clear_garbage(), N);
  assert_int_equal(gyre_gc_collect(2), N);
}

static void the_last_collection_does_not_keep(void **state) {
  (void)state;
  test_log_capture();
  assert_int_equal(gyre_gc_set_debug(GYRE_GC_DEBUG_SAVEALL), 0);
  ring_drop(&node_type, 3);
  assert_int_equal(gyre_gc_collect(2), 3);
  assert_int_equal(gyre_fini(), 0);
  assert_int_equal(nodes_destroyed(), 3);
  assert_int_equal(test_log_count("gc: 3 uncollectable objects at shutdown"), 1);
  assert_int_equal(gyre_gc_garbage_count(), 0);
}

/* ---- texts ---- */

static void the_flags_have_pythons_values(void **state) {
  (void)state;
  assert_int_equal(gyre_gc_get_debug(), 0);
  assert_int_equal(GYRE_GC_DEBUG_LEAK,
                   GYRE_GC_DEBUG_COLLECTABLE | GYRE_GC_DEBUG_UNCOLLECTABLE | GYRE_GC_DEBUG_SAVEALL);
  assert_int_equal(gyre_gc_set_debug(64), -EINVAL);
  assert_int_equal(gyre_gc_set_debug(8), -EINVAL);
  assert_int_equal(gyre_gc_get_debug(), 0);
  assert_int_equal(gyre_gc_set_debug(38 + 1), 0);
  assert_int_equal(gyre_gc_get_debug(), 39);
}

static void stats_are_written(void **state) {
  (void)state;
  test_log_capture();
  node *frozen = node_new(&node_type, 1);
  assert_int_equal(gyre_gc_freeze(), 1);
  node *n = node_new(&node_type, 1);
  gyre_gc_collect(0);
  ring_drop(&node_type, 3);
  assert_int_equal(gyre_gc_set_debug(GYRE_GC_DEBUG_STATS), 0);
  assert_int_equal(gyre_gc_collect(1), 3);
  assert_int_equal(test_log_count("gc: collecting generation 1..."), 1);
  assert_int_equal(test_log_count("gc: objects in each generation: 3 1 0"), 1);
  assert_int_equal(test_log_count("gc: objects in permanent generation: 1"), 1);
  assert_int_equal(test_log_count("gc: done, 3 unreachable, 0 uncollectable, 0."), 1);
  assert_int_equal(test_log_count("s elapsed"), 1);
  gyre_release(n);
  gyre_release(frozen);
}

static void each_object_is_named(void **state) {
  (void)state;
  test_log_capture();
  assert_int_equal(gyre_gc_set_debug(GYRE_GC_DEBUG_COLLECTABLE | GYRE_GC_DEBUG_UNCOLLECTABLE), 0);
  ring_drop(&node_type, 3);
  node *m = node_new(&manual_type, 1);
  gyre_store(&m->next, m);
  gyre_release(m);
  assert_int_equal(gyre_gc_collect(2), 4);
  assert_int_equal(test_log_count("gc: collectable <node "), 3);
  assert_int_equal(test_log_count("gc: uncollectable <node "), 1);
  gyre_clear(&m->next);
  assert_int_equal(gyre_gc_clear_garbage(), 1);
}

/* ---- gyre_gc_collect_ex ---- */

static void a_result_says_what_was_done(void **state) {
  (void)state;
  ring_drop(&finalized_type, 3);
  struct gyre_gc_result r = {.size = sizeof r};
  assert_int_equal(gyre_gc_collect_ex(2, 0, &r), 0);
  assert_int_equal(r.collected, 3);
  assert_int_equal(r.uncollectable, 0);
  assert_int_equal(r.finalized, 3);
  assert_true(r.candidates >= 3 && r.freed_bytes >= 3 * sizeof(node));
  /* An older caller's struct. */
  ring_drop(&node_type, 2);
  struct gyre_gc_result old = {.size = offsetof(struct gyre_gc_result, uncollectable),
                               .uncollectable = 77};
  assert_int_equal(gyre_gc_collect_ex(2, GYRE_GC_PURGE, &old), 0);
  assert_int_equal(old.collected, 2);
  assert_int_equal(old.uncollectable, 77);
  assert_int_equal(gyre_gc_collect_ex(3, 0, &old), -EINVAL);
  assert_int_equal(gyre_gc_collect_ex(2, 8, &old), -EINVAL);
  assert_int_equal(gyre_gc_collect_ex(2, 0, NULL), 0);
}

static void a_purge_follows_if_asked_for(void **state) {
  (void)state;
  enum { N = 20000 };
  ring_drop(&node_type, N);
  size_t before = test_heap_stats().committed_bytes;
  struct gyre_gc_result r = {.size = sizeof r};
  assert_int_equal(gyre_gc_collect_ex(2, GYRE_GC_PURGE, &r), 0);
  assert_int_equal(r.collected, N);
  assert_true(test_heap_stats().committed_bytes + N * sizeof(node) <= before);
}

static void disabled_it_does_nothing_if_asked_so(void **state) {
  (void)state;
  ring_drop(&node_type, 3);
  struct gyre_gc_result r = {.size = sizeof r, .collected = 5};
  assert_int_equal(gyre_gc_collect_ex(2, GYRE_GC_IF_ENABLED, &r), 0);
  assert_int_equal(r.collected, 0);
  assert_int_equal(gyre_gc_enable(), 0);
  assert_int_equal(gyre_gc_collect_ex(2, GYRE_GC_IF_ENABLED, &r), 0);
  assert_int_equal(r.collected, 3);
  assert_int_equal(gyre_gc_disable(), 1);
}

static struct puppet other;
static int busy_result;
static void collects_now(void *arg) {
  (void)arg;
  busy_result = gyre_gc_collect_ex(2, GYRE_GC_NOWAIT, NULL);
}
static struct gyre_gc_result nested;
static int nested_result;
static int collects_inside(node *n) {
  (void)n;
  nested = (struct gyre_gc_result){.size = sizeof nested, .collected = 9};
  nested_result = gyre_gc_collect_ex(2, 0, &nested);
  puppet_run_parked(&other, collects_now, NULL);
  return 0;
}

static void nested_it_is_0_and_beside_another_it_is_busy(void **state) {
  (void)state;
  puppet_start(&other);
  node_on_finalize = collects_inside;
  ring_drop(&finalized_type, 1);
  assert_int_equal(gyre_gc_collect(2), 1);
  assert_int_equal(nested_result, 0);
  assert_int_equal(nested.collected, 0);
  assert_int_equal(busy_result, -EBUSY);
  puppet_run_parked(&other, collects_now, NULL);
  assert_int_equal(busy_result, 0);
  puppet_stop(&other);
}

/* ---- eight threads ---- */

/* They keep pace with the collections: so many steps for each. */
#define STEPS 300
static test_flag stop, rounds_begun;
static void *drops(void *arg) {
  struct test_random random = test_random_new((uint64_t)(uintptr_t)arg);
  for (uint32_t step = 0; !test_flag_get(&stop); step++) {
    TEST_AWAIT_SAFELY(step < STEPS * test_flag_get(&rounds_begun) || test_flag_get(&stop));
    node *ring = ring_new(&plain_type, 1 + test_random_below(&random, 4));
    if (test_random_below(&random, 8) == 0) {
      node *m = node_new(&manual_type, 1);
      gyre_slot_init(&ring->other, m);
    }
    gyre_release(ring);
    gyre_safepoint();
  }
  return NULL;
}

#define THREADS 7
static void threads_make_garbage_that_is_kept(void **state) {
  (void)state;
  test_flag_set(&stop, 0);
  test_flag_set(&rounds_begun, 0);
  pthread_t threads[THREADS];
  for (uintptr_t i = 0; i < THREADS; i++)
    threads[i] = test_thread_start(drops, (void *)(i + 1));
  uint64_t rounds = test_size("GYRE_GARBAGE", 40, 20, 10);
  for (uint64_t i = 0; i < rounds; i++) {
    test_flag_add(&rounds_begun, 1);
    TEST_REQUIRE(gyre_gc_set_debug(i % 2 ? GYRE_GC_DEBUG_SAVEALL : 0) == 0);
    TEST_REQUIRE(gyre_gc_collect((int)(i % 3)) >= 0);
    gyre_objlist *list;
    TEST_REQUIRE(gyre_gc_take_garbage(&list) >= 0);
    for (size_t k = 0; k < list->count; k++)
      gyre_clear(&((node *)list->items[k])->next);
    gyre_objlist_free(list);
  }
  test_flag_set(&stop, 1);
  for (int i = 0; i < THREADS; i++)
    test_thread_join(threads[i]);
  TEST_REQUIRE(gyre_gc_set_debug(0) == 0);
  TEST_REQUIRE(gyre_gc_collect(2) >= 0);
  TEST_REQUIRE(gyre_gc_clear_garbage() >= 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      DEBUG_TEST(without_room_on_the_list_garbage_waits),
      DEBUG_TEST(a_cycle_with_a_manual_object_is_uncollectable),
      DEBUG_TEST(an_uncollectable_key_of_ephemerons_keeps_its_value),
      DEBUG_TEST(what_leads_to_it_is_freed),
      DEBUG_TEST(cleared_garbage_is_found_again),
      DEBUG_TEST(the_finalizers_of_the_rest_run),
      DEBUG_TEST(by_its_count_it_dies),
      DEBUG_TEST(save_all_keeps_everything),
      DEBUG_TEST(the_last_collection_does_not_keep),
      DEBUG_TEST(the_flags_have_pythons_values),
      DEBUG_TEST(stats_are_written),
      DEBUG_TEST(each_object_is_named),
      DEBUG_TEST(a_result_says_what_was_done),
      DEBUG_TEST(a_purge_follows_if_asked_for),
      DEBUG_TEST(disabled_it_does_nothing_if_asked_so),
      DEBUG_TEST(nested_it_is_0_and_beside_another_it_is_busy),
      DEBUG_TEST(threads_make_garbage_that_is_kept),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
