/* SPDX-License-Identifier: MIT */
/* Named roots and constants. */
#include "tests/value/value_test.h"

static void a_root_holds_its_object(void **state) {
  (void)state;
  node *x = node_new(&node_type, 1);
  assert_int_equal(gyre_root_add("x", x), 0);
  gyre_release(x);
  assert_int_equal(gyre_gc_collect(2), 0);
  assert_int_equal(nodes_destroyed(), 0);
  node *got = gyre_root_get("x");
  assert_ptr_equal(got, x);
  assert_int_equal(gyre_root_add("x", got), -EEXIST);
  assert_int_equal(gyre_refcount(x), 2);
  gyre_release(got);
  assert_int_equal(gyre_root_remove("x"), 0);
  assert_int_equal(nodes_destroyed(), 1);
  assert_int_equal(gyre_root_remove("x"), -ENOENT);
  errno = 0;
  assert_null(gyre_root_get("x"));
  assert_int_equal(errno, ENOENT);
  assert_int_equal(gyre_root_add(NULL, x), -EINVAL);
  assert_int_equal(gyre_root_add("x", NULL), -EINVAL);
  assert_int_equal(gyre_root_remove(NULL), -EINVAL);
  assert_null(gyre_root_get(NULL));
  assert_int_equal(errno, EINVAL);
  assert_int_equal(gyre_roots_list(NULL), -EINVAL);
}

static void a_rooted_cycle_lives_until_it_is_removed(void **state) {
  (void)state;
  node *ring = ring_new(&node_type, 10);
  assert_int_equal(gyre_root_add("ring", ring), 0);
  gyre_release(ring);
  assert_int_equal(gyre_gc_collect(2), 0);
  assert_int_equal(gyre_root_remove("ring"), 0);
  assert_int_equal(gyre_gc_collect(2), 10);
}

/* The name that a copy of the heap has for the object; NULL if it is no root. */
static const char *name_in(gyre_graph *graph, const void *object) {
  struct gyre_node n = {.size = sizeof n};
  ptrdiff_t at = gyre_graph_at(graph, object);
  TEST_REQUIRE(at >= 0 && gyre_graph_node(graph, (size_t)at, &n) == 0);
  TEST_REQUIRE(!gyre_graph_is_root(graph, (size_t)at, NULL) == (n.root == NULL));
  return n.root;
}

static void inspection_knows_the_names(void **state) {
  (void)state;
  node *x = node_new(&node_type, 1), *y = node_new(&node_type, 2);
  assert_int_equal(gyre_root_add("x", x), 0);
  assert_int_equal(gyre_root_add("y", y), 0);
  node_link(x, y);
  node *held = node_new(&node_type, 3);
  gyre_graph *graph = gyre_graph_new(0);
  assert_non_null(graph);
  assert_string_equal(name_in(graph, x), "x");
  assert_string_equal(name_in(graph, y), "y");
  assert_null(name_in(graph, held));
  assert_int_equal(gyre_graph_verdict(graph, (size_t)gyre_graph_at(graph, x), NULL, NULL),
                   GYRE_VERDICT_ROOT);
  assert_int_equal(gyre_graph_leaking(graph, NULL, 0), 1); /* `held` */
  gyre_graph_free(graph);
  assert_int_equal(gyre_root_remove("x"), 0);
  graph = gyre_graph_new(GYRE_GRAPH_EXACT);
  assert_null(name_in(graph, x));
  assert_string_equal(name_in(graph, y), "y");
  gyre_graph_free(graph);
  assert_int_equal(gyre_root_remove("y"), 0);
  gyre_release(x);
  gyre_release(y);
  gyre_release(held);
}

static void a_list_of_roots_is_of_one_moment(void **state) {
  (void)state;
  gyre_root *list = NULL;
  assert_int_equal(gyre_roots_list(&list), 0);
  gyre_roots_free(list, 0);
  node *x = node_new(&node_type, 1);
  static const char *const names[] = {"b", "a", "c"};
  for (int i = 0; i < 3; i++)
    assert_int_equal(gyre_root_add(names[i], x), 0);
  assert_int_equal(gyre_roots_list(&list), 3);
  for (int i = 0; i < 3; i++)
    assert_int_equal(gyre_root_remove(names[i]), 0);
  assert_string_equal(list[0].name, "a");
  assert_string_equal(list[1].name, "b");
  assert_string_equal(list[2].name, "c");
  gyre_release(x);
  assert_ptr_equal(list[2].object, x);
  assert_int_equal(nodes_destroyed(), 0);
  gyre_roots_free(list, 3);
  assert_int_equal(nodes_destroyed(), 1);
}

static void roots_that_are_left_are_reported(void **state) {
  (void)state;
  test_log_capture();
  test_option_set("leaks", "1");
  node *x = node_new(&node_type, 1);
  assert_int_equal(gyre_root_add("forgotten", x), 0);
  gyre_release(x);
  assert_int_equal(gyre_fini(), 1);
  assert_int_equal(test_log_count("root \"forgotten\" still holds an object of type node"), 1);
  assert_int_equal(gyre_root_remove("forgotten"), 0);
}

static void *adds_and_removes(void *arg) {
  unsigned number = (unsigned)(uintptr_t)arg;
  for (int i = 0; i < 300; i++) {
    char name[32];
    snprintf(name, sizeof name, "root %u %d", number, i % 7);
    node *x = node_new(&node_type, number);
    TEST_REQUIRE(gyre_root_add(name, x) == 0);
    GYRE_AUTO(node) got = gyre_root_get(name);
    TEST_REQUIRE(got == x);
    gyre_release(x);
    if (i % 10 == 0) {
      gyre_root *list = NULL;
      ptrdiff_t n = gyre_roots_list(&list);
      TEST_REQUIRE(n >= 1);
      gyre_roots_free(list, (size_t)n);
    }
    TEST_REQUIRE(gyre_root_remove(name) == 0);
    gyre_safepoint();
  }
  return NULL;
}

static void eight_threads_name_roots(void **state) {
  (void)state;
  pthread_t threads[8];
  for (uintptr_t i = 0; i < 8; i++)
    threads[i] = test_thread_start(adds_and_removes, (void *)i);
  for (int i = 0; i < 8; i++)
    test_thread_join(threads[i]);
  TEST_AWAIT_SAFELY(nodes_destroyed() == 8 * 300);
}

static void in_child(void *arg) {
  GYRE_AUTO(node) got = gyre_root_get("parent's");
  TEST_REQUIRE(got == arg);
  TEST_REQUIRE(gyre_root_add("child's", got) == 0);
  TEST_REQUIRE(gyre_root_remove("child's") == 0);
}

static void roots_are_there_in_the_child_of_a_fork(void **state) {
  (void)state;
  node *x = node_new(&node_type, 1);
  assert_int_equal(gyre_root_add("parent's", x), 0);
  test_in_child(in_child, x);
  assert_int_equal(gyre_root_remove("parent's"), 0);
  gyre_release(x);
}

static void failed_allocations_name_nothing(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  node *x = node_new(&node_type, 1);
  gyre_root *list = NULL;
  gyre__fault_arm(1, 1);
  assert_int_equal(gyre_root_add("x", x), -ENOMEM);
  gyre__fault_arm(0, 0);
  assert_int_equal(gyre_root_add("x", x), 0);
  gyre__fault_arm(1, 1);
  assert_int_equal(gyre_roots_list(&list), -ENOMEM);
  gyre__fault_arm(0, 0);
  assert_null(list);
  assert_int_equal(gyre_root_remove("x"), 0);
  assert_int_equal(gyre_refcount(x), 1);
  gyre_release(x);
}

/* ---- constants ---- */

typedef struct colour {
  int64_t code;
} colour;
static gyre_type colour_type = {.name = "colour", .size = sizeof(colour)};
static gyre_type other_type = {.name = "other", .size = sizeof(colour)};
#define COLOURS 300
static GYRE_STATIC_OBJECT(colour) colours[COLOURS];

static void *looks(void *arg) {
  test_flag *stop = arg;
  while (!test_flag_get(stop))
    for (int64_t i = 0; i < COLOURS; i++) {
      colour *c = gyre_const_get(&colour_type, i);
      TEST_REQUIRE(c == NULL || c->code == i);
    }
  return NULL;
}

static void a_type_may_have_constants(void **state) {
  (void)state;
  test_flag stop = {0};
  assert_null(gyre_const_get(&colour_type, 0));
  pthread_t thread = test_thread_start(looks, &stop);
  for (int64_t i = 0; i < COLOURS; i++) {
    /* relaxed: nobody else has seen it. */
    gyre__store_relaxed(&colours[i].gyre__head.shared, GYRE__SHARED_IMMORTAL);
    colours[i].object.code = i;
    assert_int_equal(GYRE_STATIC_REGISTER(&colours[i], &colour_type), 0);
    assert_int_equal(gyre_const_add(&colour_type, i, &colours[i].object), 0);
    assert_ptr_equal(gyre_const_get(&colour_type, i), &colours[i].object);
    assert_null(gyre_const_get(&colour_type, i + 1));
  }
  test_flag_set(&stop, 1);
  test_thread_join(thread);
  assert_null(gyre_const_get(&other_type, 5));
  assert_null(gyre_const_get(&colour_type, -1));
  assert_int_equal(gyre_const_add(&colour_type, 5, &colours[6].object), -EEXIST);
  assert_int_equal(gyre_const_add(&other_type, 5, &colours[6].object), -EINVAL);
  assert_int_equal(gyre_const_add(&colour_type, 5, NULL), -EINVAL);
}

/* Another key whose search begins at the same entry, in any table. */
static int64_t neighbour_of(int64_t key) {
  uint64_t words[2] = {(uintptr_t)&colour_type, (uint64_t)key};
  uint64_t hash = gyre_hash_bytes(words, sizeof words);
  for (int64_t other = key + 1;; other++) {
    words[1] = (uint64_t)other;
    if (((gyre_hash_bytes(words, sizeof words) ^ hash) & 0xFFFF) == 0) return other;
  }
}

struct newcomer {
  int64_t key;
  colour *object;
};

static void adds(void *arg) {
  struct newcomer *newcomer = arg;
  TEST_REQUIRE(gyre_const_add(&colour_type, newcomer->key, newcomer->object) == 0);
}

static void an_entry_that_is_just_filled_is_not_anothers(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  static GYRE_STATIC_OBJECT(colour) more[10];
  /* Most of these keys find their first entry empty; it is filled at that moment. */
  for (int i = 0; i < 10; i++) {
    int64_t absent = 1000000 + i;
    struct newcomer newcomer = {neighbour_of(absent), &more[i].object};
    assert_int_equal(GYRE_STATIC_REGISTER(&more[i], &colour_type), 0);
    test_window_subject();
    test_window_call("const/looked", 1, adds, &newcomer);
    assert_null(gyre_const_get(&colour_type, absent));
    test_window_clear();
    assert_ptr_equal(gyre_const_get(&colour_type, newcomer.key), newcomer.object);
  }
}

static void a_constant_is_immortal(void **state) {
  (void)state;
  colour *c = gyre_new(&colour_type);
  assert_int_equal(gyre_const_add(&colour_type, -7, c), 0);
  gyre_release(c);
  assert_int_equal(gyre_is_immortal(c), 1);
  assert_ptr_equal(gyre_const_get(&colour_type, -7), c);
  make_mortal(c);
  gyre_release(c);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(a_root_holds_its_object),
      NODE_TEST(a_rooted_cycle_lives_until_it_is_removed),
      NODE_TEST(inspection_knows_the_names),
      NODE_TEST(a_list_of_roots_is_of_one_moment),
      NODE_TEST(roots_that_are_left_are_reported),
      NODE_TEST(eight_threads_name_roots),
      NODE_TEST(roots_are_there_in_the_child_of_a_fork),
      NODE_TEST(failed_allocations_name_nothing),
      NODE_TEST(a_type_may_have_constants),
      NODE_TEST(a_constant_is_immortal),
      NODE_TEST(an_entry_that_is_just_filled_is_not_anothers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
