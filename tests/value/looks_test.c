/* SPDX-License-Identifier: MIT */
/* Containers that move references without counting them, and the intern table, which refers without counting:
 * beside those who look at the heap, and with counts that are stopped. */
#include "tests/value/value_test.h"

/* ---- lists that grow and shrink while somebody looks ---- */

enum { KEPT = 40 };

struct moving {
  gyre_list *list; /* its first KEPT items stay in it, each somewhere */
  test_flag stop;
};

/* Grows the list and shrinks it, and moves the items to and fro: by another thread's objects, too. */
static void *moves(void *arg) {
  struct moving *m = arg;
  while (!test_flag_get(&m->stop)) {
    GYRE_AUTO(node) first = node_new(&node_type, 1000);
    TEST_REQUIRE(gyre_list_insert(m->list, 0, first) == 0);
    for (uint64_t i = 0; i < 100; i++) {
      GYRE_AUTO(node) n = node_new(&node_type, 1000 + i);
      TEST_REQUIRE(gyre_list_append(m->list, n) == 0);
      if (i % 10 == 0) gyre_safepoint();
    }
    TEST_REQUIRE(gyre_list_delete(m->list, KEPT + 1, PTRDIFF_MAX) == 0);
    TEST_REQUIRE(gyre_list_delete(m->list, 0, 1) == 0);
    gyre_safepoint();
  }
  return NULL;
}

static void moving_begin(struct moving *m, node **items) {
  m->list = gyre_list_new();
  test_flag_set(&m->stop, 0);
  for (uint64_t i = 0; i < KEPT; i++) {
    items[i] = node_new(&node_type, i);
    TEST_REQUIRE(gyre_list_append(m->list, items[i]) == 0);
  }
}

static void moving_end(struct moving *m, node **items) {
  TEST_REQUIRE(gyre_list_length(m->list) == KEPT);
  for (int i = 0; i < KEPT; i++) {
    GYRE_AUTO(node) n = gyre_list_get(m->list, i);
    TEST_REQUIRE(n == items[i] && gyre_refcount(n) == 3);
    gyre_release(items[i]);
  }
  gyre_release(m->list);
}

/* What moved while the copy was made is "changed": no count is lower than the references to it, and nothing
 * that is in the list is garbage. */
static void copies_of_lists_that_move(void **state) {
  (void)state;
  struct moving m;
  node *items[KEPT];
  moving_begin(&m, items);
  pthread_t thread = test_thread_start(moves, &m);
  uint64_t rounds = test_size("GYRE_TEST_ROUNDS", 400, 100, 30);
  for (uint64_t round = 0; round < rounds; round++) {
    gyre_graph *graph = gyre_graph_new(round % 3 == 0 ? GYRE_GRAPH_RETAIN : 0);
    TEST_REQUIRE(graph != NULL);
    for (size_t i = 0; i < gyre_graph_nodes(graph); i++) {
      struct gyre_node n = {.size = sizeof n};
      TEST_REQUIRE(gyre_graph_node(graph, i, &n) == 0);
      TEST_REQUIRE(gyre_graph_verdict(graph, i, NULL, NULL) != GYRE_VERDICT_UNDERCOUNT);
    }
    for (int i = 0; i < KEPT; i++) {
      ptrdiff_t at = gyre_graph_at(graph, items[i]);
      TEST_REQUIRE(at >= 0);
      TEST_REQUIRE(gyre_graph_verdict(graph, (size_t)at, NULL, NULL) != GYRE_VERDICT_GARBAGE);
    }
    gyre_graph_free(graph);
    gyre_safepoint();
  }
  test_flag_set(&m.stop, 1);
  (void)test_thread_join(thread);
  moving_end(&m, items);
}

static void walks_and_collections_beside_lists_that_move(void **state) {
  (void)state;
  struct moving m;
  node *items[KEPT];
  moving_begin(&m, items);
  pthread_t thread = test_thread_start(moves, &m);
  uint64_t rounds = test_size("GYRE_TEST_ROUNDS", 400, 100, 30);
  for (uint64_t round = 0; round < rounds; round++) {
    void *objects[] = {items[round % KEPT], m.list};
    gyre_objlist *list;
    TEST_REQUIRE(gyre_gc_get_referrers(objects, 2, &list) >= 0);
    gyre_objlist_free(list);
    TEST_REQUIRE(gyre_gc_get_objects(-1, &list) >= KEPT + 1);
    gyre_objlist_free(list);
    if (round % 2 == 0) {
      ring_drop(&plain_type, 3);
      TEST_REQUIRE(gyre_gc_collect((int)(round / 2 % 3)) >= 0);
    }
    gyre_safepoint();
  }
  test_flag_set(&m.stop, 1);
  (void)test_thread_join(thread);
  moving_end(&m, items);
}

/* ---- moves with counts that are stopped ---- */

static void frozen_items_may_be_moved(void **state) {
  (void)state;
  gyre_list *list = gyre_list_new();
  node *items[KEPT];
  for (uint64_t i = 0; i < KEPT; i++) {
    items[i] = node_new(&node_type, i);
    assert_int_equal(gyre_list_append(list, items[i]), 0);
  }
  assert_true(gyre_gc_freeze_ex(GYRE_FREEZE_STOP_COUNTING) >= KEPT + 1);
  /* To arrays that are not frozen, and back; some leave, some come twice. */
  for (uint64_t i = 0; i < 200; i++) {
    GYRE_AUTO(node) n = node_new(&node_type, 100 + i);
    assert_int_equal(gyre_list_append(list, n), 0);
  }
  assert_int_equal(gyre_list_delete(list, 5, 10), 0);
  assert_int_equal(gyre_list_insert(list, 0, items[20]), 0);
  assert_int_equal(gyre_list_reverse(list), 0);
  assert_int_equal(gyre_list_reverse(list), 0);
  gyre_list *copy = gyre_list_copy(list);
  assert_int_equal(gyre_gc_collect(2), 0);
  assert_true(gyre_gc_unfreeze() >= KEPT);
  for (int i = 0; i < KEPT; i++)
    assert_int_equal(gyre_refcount(items[i]), i == 20 ? 5 : i >= 5 && i < 10 ? 1 : 3);
  gyre_release(list);
  gyre_release(copy);
  (void)gyre_synchronize();
  gyre_safepoint();
  for (int i = 0; i < KEPT; i++) {
    assert_int_equal(gyre_refcount(items[i]), 1);
    gyre_release(items[i]);
  }
  assert_int_equal(nodes_destroyed(), KEPT + 200);
}

static void *moves_others(void *arg) {
  gyre_list *list = arg;
  for (int i = 0; i < 100; i++) {
    GYRE_AUTO(gyre_str) s = str("an item of the second thread's");
    TEST_REQUIRE(gyre_list_append(list, s) == 0);
  }
  TEST_REQUIRE(gyre_list_delete(list, KEPT, PTRDIFF_MAX) == 0);
  return NULL;
}

static void another_thread_may_move_frozen_items(void **state) {
  (void)state;
  gyre_list *list = gyre_list_new();
  node *items[KEPT];
  for (uint64_t i = 0; i < KEPT; i++) {
    items[i] = node_new(&node_type, i);
    assert_int_equal(gyre_list_append(list, items[i]), 0);
    gyre_release(items[i]);
  }
  assert_true(gyre_gc_freeze_ex(GYRE_FREEZE_STOP_COUNTING) >= KEPT + 1);
  (void)test_thread_run(moves_others, list);
  assert_true(gyre_gc_unfreeze() >= KEPT);
  for (int i = 0; i < KEPT; i++)
    assert_int_equal(gyre_refcount(items[i]), 1);
  gyre_release(list);
  (void)gyre_synchronize();
  gyre_safepoint();
  assert_int_equal(nodes_destroyed(), KEPT);
}

/* ---- interned strings ---- */

static void a_frozen_interned_string_is_found_and_dies_afterwards(void **state) {
  (void)state;
  size_t before = gyre_intern_count();
  gyre_str *a = interned("frozen and found"), *b = interned("frozen and dropped");
  assert_true(gyre_gc_freeze_ex(GYRE_FREEZE_STOP_COUNTING) >= 0);
  gyre_str *again = interned("frozen and found");
  assert_ptr_equal(again, a);
  gyre_release(a);
  gyre_release(again);
  gyre_release(b);
  assert_int_equal(gyre_intern_count(), before + 2);
  again = interned("frozen and found");
  assert_ptr_equal(again, a);
  assert_int_equal(gyre_refcount(a), 1);
  assert_true(gyre_gc_unfreeze() >= 0);
  assert_int_equal(gyre_intern_count(), before + 1);
  assert_int_equal(gyre_refcount(a), 1);
  gyre_release(again);
  assert_int_equal(gyre_intern_count(), before);
}

static void *interns(void *arg) {
  test_flag *stop = arg;
  struct test_random random = test_random_new((uint64_t)(uintptr_t)&random);
  while (!test_flag_get(stop)) {
    char text[32];
    snprintf(text, sizeof text, "some string %u", test_random_below(&random, 30));
    GYRE_AUTO(gyre_str) s = interned(text);
    TEST_REQUIRE(strcmp(gyre_str_data(s), text) == 0 && gyre_str_is_interned(s));
    gyre_safepoint();
  }
  return NULL;
}

/* Looks that count what they find, by its address, and the table that finds what it does not count. */
static void interned_strings_come_and_go_while_somebody_looks(void **state) {
  (void)state;
  size_t before = gyre_intern_count();
  test_flag stop = {0};
  pthread_t threads[2];
  for (int i = 0; i < 2; i++)
    threads[i] = test_thread_start(interns, &stop);
  uint64_t rounds = test_size("GYRE_TEST_ROUNDS", 300, 100, 30);
  for (uint64_t round = 0; round < rounds; round++) {
    gyre_graph *graph = gyre_graph_new(GYRE_GRAPH_RETAIN);
    TEST_REQUIRE(graph != NULL);
    for (size_t i = 0; i < gyre_graph_nodes(graph); i++) {
      gyre_str *s = gyre_graph_retain(graph, i);
      if (s == NULL) continue;
      if (gyre_type_of(s) == &gyre_interned_type)
        TEST_REQUIRE(gyre_str_length(s) < 2 || strncmp(gyre_str_data(s), "some ", 5) == 0);
      gyre_release(s);
    }
    gyre_graph_free(graph);
    unsigned flags = round % 2 == 0 ? GYRE_FREEZE_STOP_COUNTING : 0;
    TEST_REQUIRE(gyre_gc_freeze_ex(flags) >= 0);
    gyre_release(interned("some string 7"));
    TEST_REQUIRE(gyre_gc_unfreeze() >= 0);
    gyre_safepoint();
  }
  test_flag_set(&stop, 1);
  for (int i = 0; i < 2; i++)
    (void)test_thread_join(threads[i]);
  TEST_AWAIT_SAFELY(gyre_intern_count() == before);
}

static int looks_end(void **state) {
  (void)gyre_gc_unfreeze();
  return test_end(state);
}
#define LOOKS_TEST(name)                                                                           \
  { #name, name, nodes_begin, looks_end, (void *)(uintptr_t) "gc:0" }

int main(void) {
  const struct CMUnitTest tests[] = {
      LOOKS_TEST(copies_of_lists_that_move),
      LOOKS_TEST(walks_and_collections_beside_lists_that_move),
      LOOKS_TEST(frozen_items_may_be_moved),
      LOOKS_TEST(another_thread_may_move_frozen_items),
      LOOKS_TEST(a_frozen_interned_string_is_found_and_dies_afterwards),
      LOOKS_TEST(interned_strings_come_and_go_while_somebody_looks),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
