/* SPDX-License-Identifier: MIT */
/* Maps of ephemerons, and all others that look at the heap: garbage that is kept, freezing, copies, walks.
 *
 * An entry's count on its value is a reference with two ends, the map and the key, so whoever counts
 * references, follows them or leaves objects out has to see it as the collector does. */
#include <errno.h>

#include "tests/support/node.h"
#include "tests/support/window.h"

static gyre_weakmap *map_new(void) {
  gyre_weakmap *map = gyre_weakmap_new(GYRE_WEAK_EPHEMERON, NULL, NULL);
  TEST_REQUIRE(map != NULL);
  return map;
}

/* A field may refer to any object. */
#define LINK(from, field, to) gyre_slot_store((gyre_slot *)(void *)&(from)->field, (to))

static void put(gyre_weakmap *map, node *key, node *value) {
  TEST_REQUIRE(gyre_weakmap_set(map, key, value) == 0);
}

/* Does the map have this value for the key? */
static bool has(gyre_weakmap *map, node *key, const node *value) {
  GYRE_AUTO(node) found = gyre_weakmap_get(map, key);
  return found == value;
}

static struct gyre_gc_result collect(void) {
  struct gyre_gc_result r = {.size = sizeof r};
  TEST_REQUIRE(gyre_gc_collect_ex(2, 0, &r) == 0);
  return r;
}

/* ---- garbage that is kept ---- */

static int finalize_manual(void *object) {
  (void)object;
  return 0;
}
static void destroy_manual(void *object) {
  if (node_on_destroy != NULL) node_on_destroy(object);
}
static GYRE_TYPE_DEFINE(manual_type, node, .slots = GYRE_SLOTS(node, next, other),
                        .finalize = finalize_manual, .destroy = destroy_manual,
                        .flags = GYRE_TYPE_MANUAL_FINALIZE);

static void what_a_manual_object_reaches_by_map_and_key_is_kept(void **state) {
  (void)state;
  node *m = node_new(&manual_type, 1), *k = node_new(&node_type, 2), *v = node_new(&node_type, 3);
  gyre_weakmap *map = map_new();
  LINK(m, next, map);
  LINK(m, other, k);
  put(map, k, v);
  LINK(v, next, m);
  gyre_release(k);
  gyre_release(v);
  gyre_release(map);
  gyre_release(m);
  struct gyre_gc_result r = collect();
  assert_int_equal(r.uncollectable, 4);
  assert_int_equal(r.collected, 0);
  assert_int_equal(nodes_destroyed(), 0);
  assert_true(has(map, k, v));
  assert_int_equal(gyre_refcount(v), 2); /* the entry's and the list's */
  gyre_clear(&v->next);
  assert_int_equal(gyre_gc_clear_garbage(), 4);
  assert_int_equal(nodes_destroyed(), 2);
}

static void a_key_alone_keeps_no_value(void **state) {
  (void)state;
  node *m = node_new(&manual_type, 1), *k = node_new(&node_type, 2), *v = node_new(&node_type, 3);
  gyre_weakmap *map = map_new();
  LINK(m, next, k);
  LINK(k, next, m);
  put(map, k, v);
  LINK(v, next, map);
  gyre_release(v);
  gyre_release(map);
  gyre_release(k);
  gyre_release(m);
  struct gyre_gc_result r = collect();
  assert_int_equal(r.uncollectable, 2);
  assert_int_equal(r.collected, 2);
  assert_int_equal(nodes_destroyed(), 1);
  assert_int_equal(gyre_refcount(k), 2);
  gyre_clear(&k->next);
  assert_int_equal(gyre_gc_clear_garbage(), 2);
  assert_int_equal(nodes_destroyed(), 2);
}

/* Whether the value is kept with it depends on the mode; that the key goes, and its entry, does not. */
static void a_map_alone_keeps_no_key(void **state) {
  (void)state;
  node *m = node_new(&manual_type, 1), *k = node_new(&node_type, 2), *v = node_new(&node_type, 3);
  gyre_weakmap *map = map_new();
  LINK(m, next, map);
  LINK(m, other, m);
  put(map, k, v);
  LINK(k, next, k);
  gyre_release(v);
  gyre_release(k);
  gyre_release(m);
  struct gyre_gc_result r = collect();
  gyre_weakmap *held = map; /* our reference; only the list refers to m */
  bool value_is_kept = r.uncollectable == 2;
  assert_int_equal(r.uncollectable + r.collected, 3);
  assert_int_equal(gyre_weakmap_len(held), 0);
  assert_int_equal(nodes_destroyed(), value_is_kept ? 1 : 2);
  gyre_clear(&m->other);
  assert_int_equal(gyre_gc_clear_garbage(), value_is_kept ? 2 : 1);
  assert_int_equal(nodes_destroyed(), 2);
  gyre_release(held);
}

/* The same, with the map as garbage, too. */
static void a_map_in_the_garbage_keeps_no_key(void **state) {
  (void)state;
  node *m = node_new(&manual_type, 1), *k = node_new(&node_type, 2), *v = node_new(&node_type, 3);
  gyre_weakmap *map = map_new();
  LINK(m, next, map);
  LINK(m, other, m);
  put(map, k, v);
  LINK(k, next, k);
  gyre_release(v);
  gyre_release(k);
  gyre_release(map);
  gyre_release(m);
  struct gyre_gc_result r = collect();
  assert_true(r.uncollectable == 2 || r.uncollectable == 3);
  assert_int_equal(r.uncollectable + r.collected, 4);
  assert_int_equal(gyre_weakmap_len(map), 0);
  gyre_clear(&m->other);
  assert_int_equal(gyre_gc_clear_garbage(), r.uncollectable);
  assert_int_equal(nodes_destroyed(), 2);
}

/* Map and key are each kept by a manual object of their own, one component after the other. */
static void a_value_is_kept_if_both_ends_are(void **state) {
  (void)state;
  for (int turn = 0; turn < 2; turn++) {
    node *m = node_new(&manual_type, 1), *n = node_new(&manual_type, 2);
    node *k = node_new(&node_type, 3), *v = node_new(&node_type, 4);
    gyre_weakmap *map = map_new();
    LINK(turn == 0 ? m : n, next, map);
    LINK(turn == 0 ? n : m, next, k);
    LINK(m, other, m);
    LINK(n, other, n);
    put(map, k, v);
    gyre_release(v);
    gyre_release(k);
    gyre_release(map);
    gyre_release(n);
    gyre_release(m);
    struct gyre_gc_result r = collect();
    assert_int_equal(r.uncollectable, 5);
    assert_true(has(map, k, v));
    assert_int_equal(v->tag, 4);
    gyre_clear(&m->other);
    gyre_clear(&n->other);
    assert_int_equal(gyre_gc_clear_garbage(), 5);
  }
  assert_int_equal(nodes_destroyed(), 4);
}

static void saveall_keeps_entries(void **state) {
  (void)state;
  assert_int_equal(gyre_gc_set_debug(GYRE_GC_DEBUG_SAVEALL), 0);
  node *k = node_new(&node_type, 2), *v = node_new(&node_type, 3);
  gyre_weakmap *map = map_new();
  put(map, k, v);
  LINK(v, next, k);
  LINK(v, other, map);
  LINK(k, next, k);
  gyre_release(v);
  gyre_release(k);
  gyre_release(map);
  assert_int_equal(collect().collected, 3);
  assert_int_equal(gyre_gc_garbage_count(), 3);
  assert_true(has(map, k, v));
  assert_int_equal(gyre_gc_set_debug(0), 0);
  assert_int_equal(gyre_gc_clear_garbage(), 3);
  assert_int_equal(collect().collected, 3);
  assert_int_equal(nodes_destroyed(), 2);
}

/* ---- freezing ---- */

#define FOR_EACH_FREEZE(flags)                                                                     \
  for (unsigned flags##_i = 0, flags = 0; flags##_i < 2;                                           \
       flags##_i++, flags = GYRE_FREEZE_STOP_COUNTING)

static void a_frozen_map_lets_keys_die(void **state) {
  (void)state;
  FOR_EACH_FREEZE(flags) {
    uint64_t before = nodes_destroyed();
    gyre_weakmap *map = map_new();
    node *old_value = node_new(&node_type, 9);
    assert_true(gyre_gc_freeze_ex(flags) >= 1);
    node *k = node_new(&node_type, 1), *v = node_new(&node_type, 2), *l = node_new(&node_type, 3);
    put(map, k, v);
    put(map, l, old_value);
    LINK(k, next, k);
    LINK(v, next, k); /* the value refers to its key */
    gyre_release(v);
    assert_int_equal(collect().collected, 0);
    assert_true(has(map, k, v));
    gyre_release(k);
    assert_int_equal(collect().collected, 2);
    assert_int_equal(nodes_destroyed(), before + 2);
    assert_int_equal(gyre_weakmap_len(map), 1);
    gyre_release(l); /* by its count */
    assert_int_equal(gyre_weakmap_len(map), 0);
    assert_int_equal(gyre_refcount(old_value), 1);
    assert_true(gyre_gc_unfreeze() >= 1);
    gyre_release(old_value);
    gyre_release(map);
    assert_int_equal(collect().collected, 0);
    assert_int_equal(nodes_destroyed(), before + 4);
  }
}

static void a_frozen_key_lets_maps_and_values_die(void **state) {
  (void)state;
  FOR_EACH_FREEZE(flags) {
    uint64_t before = nodes_destroyed();
    node *k = node_new(&node_type, 1);
    assert_true(gyre_gc_freeze_ex(flags) >= 1);
    gyre_weakmap *map = map_new();
    node *v = node_new(&node_type, 2);
    put(map, k, v);
    LINK(v, next, map);
    LINK(v, other, k);
    gyre_release(v);
    assert_int_equal(collect().collected, 0);
    assert_true(has(map, k, v));
    gyre_release(map);
    assert_int_equal(collect().collected, 2);
    assert_int_equal(nodes_destroyed(), before + 1);
    assert_int_equal(gyre_refcount(k), 1);
    assert_true(gyre_gc_unfreeze() >= 1);
    gyre_release(k);
    assert_int_equal(nodes_destroyed(), before + 2);
  }
}

static void an_entry_of_frozen_ends_keeps_a_young_value(void **state) {
  (void)state;
  FOR_EACH_FREEZE(flags) {
    uint64_t before = nodes_destroyed();
    node *k = node_new(&node_type, 1);
    gyre_weakmap *map = map_new();
    assert_true(gyre_gc_freeze_ex(flags) >= 2);
    node *v = node_new(&node_type, 2);
    put(map, k, v);
    LINK(v, next, map);
    LINK(v, other, k);
    gyre_release(v);
    /* Frozen: what refers to itself only is kept. */
    gyre_release(map);
    gyre_release(k);
    assert_int_equal(collect().collected, 0);
    assert_int_equal(nodes_destroyed(), before);
    assert_true(gyre_gc_unfreeze() >= 2);
    assert_int_equal(collect().collected, 3);
    assert_int_equal(nodes_destroyed(), before + 2);
  }
}

/* The last references to map and key are dropped while nothing is counted. */
static void frozen_ends_die_when_counting_goes_on(void **state) {
  (void)state;
  node *k = node_new(&node_type, 1), *v = node_new(&node_type, 2);
  gyre_weakmap *map = map_new(), *other = map_new();
  put(map, k, v);
  put(other, k, v);
  assert_true(gyre_gc_freeze_ex(GYRE_FREEZE_STOP_COUNTING) >= 4);
  gyre_release(v);
  gyre_release(k);
  gyre_release(map);
  assert_int_equal(nodes_destroyed(), 0);
  assert_int_equal(gyre_weakmap_len(other), 1);
  assert_true(gyre_gc_unfreeze() >= 4);
  assert_int_equal(nodes_destroyed(), 2);
  assert_int_equal(gyre_weakmap_len(other), 0);
  gyre_release(other);
}

/* ---- copies ---- */

static size_t node_at(gyre_graph *graph, const void *object) {
  ptrdiff_t at = gyre_graph_at(graph, object);
  TEST_REQUIRE(at >= 0);
  return (size_t)at;
}

static enum gyre_verdict verdict_of(gyre_graph *graph, const void *object) {
  ptrdiff_t excess = -99;
  int verdict = gyre_graph_verdict(graph, node_at(graph, object), NULL, &excess);
  TEST_REQUIRE(verdict >= 0);
  TEST_REQUIRE((excess == 0) ==
               (verdict == GYRE_VERDICT_REACHABLE || verdict == GYRE_VERDICT_GARBAGE));
  return (enum gyre_verdict)verdict;
}

static bool is_leaking(gyre_graph *graph, const void *object) {
  size_t leaking[64];
  ptrdiff_t n = gyre_graph_leaking(graph, leaking, 64);
  TEST_REQUIRE(n >= 0 && n <= 64);
  for (ptrdiff_t i = 0; i < n; i++)
    if (leaking[i] == node_at(graph, object)) return true;
  return false;
}

static const unsigned copy_flags[] = {0, GYRE_GRAPH_EXACT, GYRE_GRAPH_RETAIN};
#define FOR_EACH_COPY(graph)                                                                       \
  for (size_t graph##_i = 0; graph##_i < 3; graph##_i++)                                           \
    for (gyre_graph *graph = gyre_graph_new(copy_flags[graph##_i]); graph != NULL;                 \
         gyre_graph_free(graph), graph = NULL)

static void a_copy_has_the_maps_references(void **state) {
  (void)state;
  node *k = node_new(&node_type, 1), *v = node_new(&node_type, 2);
  gyre_weakmap *map = map_new();
  put(map, k, v);
  gyre_release(v);
  FOR_EACH_COPY(graph) {
    assert_false(is_leaking(graph, v));
    assert_int_equal(verdict_of(graph, v), GYRE_VERDICT_REACHABLE);
    struct gyre_link link;
    assert_int_equal(gyre_graph_referrers(graph, node_at(graph, v), &link, 1), 1);
    assert_int_equal(link.node, node_at(graph, map));
    assert_int_equal(verdict_of(graph, map), GYRE_VERDICT_OVERCOUNT);
    assert_int_equal(verdict_of(graph, k), GYRE_VERDICT_OVERCOUNT);
  }
  gyre_release(map);
  gyre_release(k);
}

static void a_copy_needs_both_ends_to_call_a_value_reachable(void **state) {
  (void)state;
  enum { CHAIN = 6 };
  /* Each value is the next key. The order of addresses is that of the chain, and the other way round. */
  for (int turn = 0; turn < 2; turn++) {
    gyre_weakmap *map = map_new();
    node *n[CHAIN];
    for (uint64_t i = 0; i < CHAIN; i++)
      n[turn == 0 ? i : CHAIN - 1 - i] = node_new(&node_type, i);
    for (int i = 0; i + 1 < CHAIN; i++)
      put(map, n[i], n[i + 1]);
    for (int i = 1; i < CHAIN; i++)
      gyre_release(n[i]);
    FOR_EACH_COPY(graph) {
      for (int i = 1; i < CHAIN; i++)
        assert_int_equal(verdict_of(graph, n[i]), GYRE_VERDICT_REACHABLE);
    }
    LINK(n[0], next, n[0]);
    gyre_release(n[0]);
    FOR_EACH_COPY(graph) {
      for (int i = 0; i < CHAIN; i++)
        assert_int_equal(verdict_of(graph, n[i]), GYRE_VERDICT_GARBAGE);
    }
    assert_int_equal(collect().collected, CHAIN);
    gyre_release(map);
  }
}

/* ---- questions ---- */

static bool lists(gyre_objlist *list, const void *object) {
  for (size_t i = 0; i < list->count; i++)
    if (list->items[i] == object) return true;
  return false;
}

static void a_map_refers_to_its_values(void **state) {
  (void)state;
  node *k = node_new(&node_type, 1), *v = node_new(&node_type, 2);
  gyre_weakmap *map = map_new();
  put(map, k, v);
  gyre_objlist *list;
  void *objects[] = {v};
  assert_int_equal(gyre_gc_get_referrers(objects, 1, &list), 1);
  assert_true(lists(list, map));
  gyre_objlist_free(list);
  objects[0] = map;
  assert_int_equal(gyre_gc_get_referents(objects, 1, &list), 1);
  assert_true(lists(list, v));
  gyre_objlist_free(list);
  assert_true(gyre_sizeof_deep(map, NULL, NULL) >= (ptrdiff_t)(gyre_sizeof(map) + gyre_sizeof(v)));
  assert_int_equal(gyre_refcount(v), 2);
  assert_int_equal(gyre_refcount(k), 1);
  gyre_release(v);
  gyre_release(k);
  gyre_release(map);
  assert_int_equal(nodes_destroyed(), 2);
}

struct churn {
  gyre_weakmap *map;
  test_flag stop;
};

static void *churns(void *arg) {
  struct churn *c = arg;
  node *keys[8];
  for (uint64_t i = 0; i < 8; i++)
    keys[i] = node_new(&node_type, i);
  while (!test_flag_get(&c->stop))
    for (int i = 0; i < 8; i++) {
      GYRE_AUTO(node) value = node_new(&node_type, 100);
      TEST_REQUIRE(gyre_weakmap_set(c->map, keys[i], value) == 0);
      if (i % 3 == 0) (void)gyre_weakmap_remove(c->map, keys[i]);
      if (i % 4 == 0) {
        gyre_release(keys[i]);
        keys[i] = node_new(&node_type, 7);
      }
      gyre_safepoint();
    }
  for (int i = 0; i < 8; i++)
    gyre_release(keys[i]);
  return NULL;
}

/* Maps have a lock of their own, so nobody else's keeps their values alive. */
static void questions_may_be_asked_while_a_map_changes(void **state) {
  (void)state;
  static const enum gyre_weakmap_kind kinds[] = {GYRE_WEAK_KEY, GYRE_WEAK_VALUE,
                                                 GYRE_WEAK_EPHEMERON};
  for (size_t kind = 0; kind < 3; kind++) {
    struct churn c = {.map = gyre_weakmap_new(kinds[kind], NULL, NULL)};
    pthread_t thread = test_thread_start(churns, &c);
    uint64_t rounds = test_size("GYRE_TEST_ROUNDS", 3000, 1000, 200);
    for (uint64_t i = 0; i < rounds; i++) {
      gyre_objlist *list;
      void *objects[] = {c.map};
      TEST_REQUIRE(gyre_gc_get_referents(objects, 1, &list) >= 0);
      for (size_t j = 0; j < list->count; j++)
        TEST_REQUIRE(gyre_type_of(list->items[j]) == &node_type);
      if (i % 50 == 0 && list->count > 0) {
        gyre_objlist *from;
        TEST_REQUIRE(gyre_gc_get_referrers(list->items, list->count, &from) >= 0);
        gyre_objlist_free(from);
      }
      gyre_objlist_free(list);
      TEST_REQUIRE(gyre_sizeof_deep(c.map, NULL, NULL) > 0);
      if (i % 50 == 25) {
        gyre_graph *graph = gyre_graph_new(i % 100 < 50 ? GYRE_GRAPH_RETAIN : 0);
        TEST_REQUIRE(graph != NULL);
        for (size_t n = 0; n < gyre_graph_nodes(graph); n++)
          TEST_REQUIRE(gyre_graph_verdict(graph, n, NULL, NULL) != GYRE_VERDICT_UNDERCOUNT);
        gyre_graph_free(graph);
      }
      gyre_safepoint();
    }
    test_flag_set(&c.stop, 1);
    (void)test_thread_join(thread);
    gyre_release(c.map);
  }
}

static void questions_without_memory_change_nothing(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  node *k = node_new(&node_type, 1), *v = node_new(&node_type, 2);
  gyre_weakmap *map = map_new();
  put(map, k, v);
  LINK(v, next, k);
  bool failed = true;
  for (uint64_t nth = 1; failed; nth++) {
    void *objects[] = {map};
    gyre_objlist *list = NULL;
    gyre__fault_arm(nth, 0);
    gyre_graph *graph = gyre_graph_new(0);
    int verdict = graph != NULL ? gyre_graph_verdict(graph, 0, NULL, NULL) : -ENOMEM;
    ptrdiff_t n = gyre_gc_get_referents(objects, 1, &list);
    ptrdiff_t bytes = gyre_sizeof_deep(map, NULL, NULL);
    failed = gyre__fault_count() >= nth;
    gyre__fault_arm(0, 0);
    assert_true(verdict == -ENOMEM || verdict > 0);
    assert_true(n == -ENOMEM || n == 1);
    assert_true(bytes == -ENOMEM || bytes > 0);
    if (n > 0) gyre_objlist_free(list);
    gyre_graph_free(graph);
    assert_int_equal(gyre_refcount(v), 2);
    assert_int_equal(gyre_refcount(k), 2);
    assert_int_equal(gyre_refcount(map), 1);
  }
  gyre_release(v);
  gyre_release(k);
  gyre_release(map);
}

static int debug_end(void **state) {
  (void)gyre_gc_set_debug(0);
  (void)gyre_gc_unfreeze();
  (void)gyre_gc_clear_garbage();
  return test_end(state);
}
#define DEBUG_TEST(name)                                                                           \
  { #name, name, nodes_begin, debug_end, (void *)(uintptr_t) "gc:0" }

int main(void) {
  const struct CMUnitTest tests[] = {
      DEBUG_TEST(what_a_manual_object_reaches_by_map_and_key_is_kept),
      DEBUG_TEST(a_key_alone_keeps_no_value),
      DEBUG_TEST(a_map_alone_keeps_no_key),
      DEBUG_TEST(a_map_in_the_garbage_keeps_no_key),
      DEBUG_TEST(a_value_is_kept_if_both_ends_are),
      DEBUG_TEST(saveall_keeps_entries),
      DEBUG_TEST(a_frozen_map_lets_keys_die),
      DEBUG_TEST(a_frozen_key_lets_maps_and_values_die),
      DEBUG_TEST(an_entry_of_frozen_ends_keeps_a_young_value),
      DEBUG_TEST(frozen_ends_die_when_counting_goes_on),
      DEBUG_TEST(a_copy_has_the_maps_references),
      DEBUG_TEST(a_copy_needs_both_ends_to_call_a_value_reachable),
      DEBUG_TEST(a_map_refers_to_its_values),
      DEBUG_TEST(questions_may_be_asked_while_a_map_changes),
      DEBUG_TEST(questions_without_memory_change_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
