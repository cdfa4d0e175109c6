/* SPDX-License-Identifier: MIT */
/* Values, weak maps, roots, constants and all that keeps a table of its own: none of them remembers anything
 * of an arena that has ended. */
#include <stdio.h>

#include "arena_test.h"

typedef struct colour {
  int64_t code;
} colour;
static gyre_type colour_type = {.name = "colour", .size = sizeof(colour)};
static gyre_type manual_type = {.name = "manual",
                                .size = sizeof(node),
                                .slots = GYRE_SLOTS(node, next, other),
                                .flags = GYRE_TYPE_MANUAL_FINALIZE};
static gyre_type queued_type = {.name = "queued",
                                .size = sizeof(node),
                                .slots = GYRE_SLOTS(node, next, other),
                                .flags = GYRE_TYPE_FINALIZE_QUEUED};
static GYRE_STATIC_OBJECT(colour) still = GYRE_STATIC_INIT(7);

/* So that types do not get the same numbers each time. */
static gyre_type others[16];

static void types_use(unsigned round) {
  static const char *const names[] = {"other 0", "other 1", "other 2", "other 3"};
  for (unsigned i = 0; i < 5 * (round + 1) % 16; i++) {
    others[i].name = names[i % 4];
    others[i].size = 8;
    gyre_release(gyre_new(&others[i]));
  }
}

static int died;
static int notes(void *arg) {
  (void)arg;
  died++;
  return 0;
}

static gyre_str *interned(const char *text) {
  gyre_str *s = gyre_intern(text, strlen(text));
  TEST_REQUIRE(s != NULL);
  return s;
}

/* Where is an object to be, of those that are not static? */
static bool in_arena;
static void *new_here(void *object) {
  TEST_REQUIRE(object != NULL);
  TEST_REQUIRE(arena_has(object, 1) == in_arena);
  return object;
}

/* ---- a little of each; `dirty`: and it is left as it is ---- */

static void use_numbers(void) {
  for (int64_t i = GYRE_INT_CACHE_MIN - 1; i <= GYRE_INT_CACHE_MAX + 1; i++) {
    GYRE_AUTO(gyre_int) n = gyre_int_from(i);
    TEST_REQUIRE(gyre_type_of(n) == &gyre_int_type && gyre_int_value(n) == i);
  }
  GYRE_AUTO(gyre_double) d = new_here(gyre_double_from(2.5));
  TEST_REQUIRE(gyre_type_of(d) == &gyre_double_type);
}

static void use_strings(bool dirty) {
  GYRE_AUTO(gyre_str) none = gyre_str_from("");
  GYRE_AUTO(gyre_str) one = gyre_str_from("x");
  TEST_REQUIRE(gyre_type_of(none) == &gyre_interned_type &&
               gyre_type_of(one) == &gyre_interned_type);
  TEST_REQUIRE(strcmp(gyre_str_data(one), "x") == 0);
  TEST_REQUIRE(gyre_intern_count() == 0);
  for (int i = 0; i < 300; i++) {
    char text[32];
    snprintf(text, sizeof text, "interned %d", i);
    gyre_str *a = new_here(interned(text)), *b = interned(text);
    TEST_REQUIRE(a == b && gyre_type_of(a) == &gyre_interned_type);
    gyre_release(b);
    if (!dirty) gyre_release(a);
  }
  TEST_REQUIRE(gyre_intern_count() == (dirty ? 300 : 0));
  if (dirty) TEST_REQUIRE(gyre_intern_ex("for ever", 8, GYRE_INTERN_IMMORTAL) != NULL);
}

static void use_containers(bool dirty) {
  gyre_tuple *empty = gyre_tuple_of(0);
  TEST_REQUIRE(gyre_type_of(empty) == &gyre_tuple_type && gyre_tuple_length(empty) == 0);
  gyre_list *list = new_here(gyre_list_new());
  gyre_dict *dict = new_here(gyre_dict_new());
  gyre_array *array = new_here(gyre_array_new(GYRE_I64));
  for (int64_t i = 0; i < 500; i++) {
    GYRE_AUTO(gyre_int) n = gyre_int_from(1000 + i);
    GYRE_AUTO(gyre_str) key = gyre_str_format("key %d", (int)i);
    TEST_REQUIRE(gyre_list_append(list, n) == 0 && gyre_dict_set(dict, key, n) == 0);
    TEST_REQUIRE(gyre_array_append_int(array, i) == 0);
  }
  TEST_REQUIRE(gyre_list_append(list, dict) == 0 && gyre_list_append(list, empty) == 0);
  GYRE_AUTO(gyre_tuple) tuple = new_here(gyre_tuple_of(3, list, dict, array));
  /* A cycle through three kinds of them. */
  GYRE_AUTO(gyre_str) self = gyre_str_from("self");
  TEST_REQUIRE(gyre_dict_set(dict, self, tuple) == 0);
  GYRE_AUTO(gyre_iter) iter = gyre_iter_from_list(list);
  void *first = gyre_iter_next(iter);
  TEST_REQUIRE(first != NULL);
  gyre_release(first);
  gyre_release(list);
  gyre_release(dict);
  gyre_release(array);
  if (dirty) (void)gyre_retain(tuple);
}

static void use_weak(bool dirty) {
  gyre_weakmap *maps[4];
  for (int kind = 0; kind < 4; kind++)
    maps[kind] = new_here(gyre_weakmap_new((enum gyre_weakmap_kind)kind, NULL, NULL));
  gyre_weakset *set = gyre_weakset_new(NULL, NULL);
  for (uint64_t i = 0; i < 50; i++) {
    node *key = new_here(node_new(&node_type, i)), *value = node_new(&plain_type, i);
    for (int kind = 0; kind < 4; kind++)
      TEST_REQUIRE(gyre_weakmap_set(maps[kind], key, value) == 0);
    TEST_REQUIRE(gyre_weakset_add(set, key) == 1);
    gyre_release(value);
    if (!dirty || i % 2 == 0) gyre_release(key);
  }
  node *n = node_new(&node_type, 1);
  gyre_finalize *f = new_here(gyre_finalize_new(n, notes, NULL, NULL));
  TEST_REQUIRE(gyre_finalize_set_atexit(f, 0) == GYRE_FINALIZE_AT_EXIT);
  if (dirty) return;
  died = 0;
  gyre_release(n);
  TEST_REQUIRE(died == 1 && !gyre_finalize_alive(f));
  gyre_finalize_free(f);
  for (int kind = 0; kind < 4; kind++)
    gyre_release(maps[kind]);
  gyre_release(set);
}

static void use_roots(bool dirty) {
  gyre_root *list = NULL;
  TEST_REQUIRE(gyre_roots_list(&list) == 0);
  gyre_roots_free(list, 0);
  for (int i = 0; i < 20; i++) {
    char name[32];
    snprintf(name, sizeof name, "root %d", i);
    GYRE_AUTO(node) n = node_new(&node_type, 1);
    TEST_REQUIRE(gyre_root_add(name, n) == 0);
    if (!dirty) TEST_REQUIRE(gyre_root_remove(name) == 0);
  }
  TEST_REQUIRE(gyre_const_get(&colour_type, 3) == NULL);
  /* For ever, so only where for ever ends. */
  for (int64_t i = 0; dirty && i < 200; i++) {
    colour *c = new_here(gyre_new(&colour_type));
    c->code = i;
    TEST_REQUIRE(gyre_const_add(&colour_type, i, c) == 0);
    TEST_REQUIRE(gyre_const_get(&colour_type, i) == c);
  }
}

static void use_static(void) {
  TEST_REQUIRE(GYRE_STATIC_REGISTER(&still, &colour_type) == 0);
  TEST_REQUIRE(gyre_type_of(&still.object) == &colour_type && still.object.code == 7);
}

static void use_collector(bool dirty) {
  /* What is on the list of garbage at the end is a leak. */
  TEST_REQUIRE(gyre_gc_garbage_count() == 0 && gyre_gc_get_freeze_count() == 0);
  TEST_REQUIRE(gyre_pending_count() == 0);
  ring_drop(&manual_type, 5);
  TEST_REQUIRE(gyre_gc_collect(2) >= 0);
  TEST_REQUIRE(gyre_gc_garbage_count() == 5);
  gyre_objlist *garbage;
  TEST_REQUIRE(gyre_gc_take_garbage(&garbage) == 5);
  for (size_t i = 0; i < garbage->count && !dirty; i++)
    gyre_clear(&((node *)garbage->items[i])->next);
  gyre_objlist_free(garbage);
  queued_type.finalize = finalized_type.finalize;
  test_option_set("finalizers", "program");
  gyre_release(node_new(&queued_type, 1));
  ring_drop(&queued_type, 3);
  TEST_REQUIRE(gyre_gc_collect(2) >= 0);
  TEST_REQUIRE(gyre_pending_count() == 4);
  if (!dirty) TEST_REQUIRE(gyre_run_pending(SIZE_MAX) == 4);
  TEST_REQUIRE(gyre_gc_freeze_ex(dirty ? GYRE_FREEZE_STOP_COUNTING : 0) >= 0);
  if (!dirty) TEST_REQUIRE(gyre_gc_unfreeze() >= 0);
}

static void use_inspection(bool dirty) {
  node *n = node_new(&node_type, 1);
  gyre_growth *growth = gyre_growth_new();
  TEST_REQUIRE(growth != NULL);
  TEST_REQUIRE(gyre_heap_growth(growth, NULL, 0) > 0);
  TEST_REQUIRE(gyre_heap_count(&node_type) > 0);
  gyre_graph *graph = gyre_graph_new(GYRE_GRAPH_RETAIN);
  TEST_REQUIRE(graph != NULL && gyre_graph_at(graph, n) >= 0);
  gyre_objlist *list;
  TEST_REQUIRE(gyre_gc_get_objects(-1, &list) >= 0);
  gyre_objlist_free(list);
  if (dirty) return;
  gyre_graph_free(graph);
  gyre_growth_free(growth);
  gyre_release(n);
}

static void use_all(unsigned round, bool dirty) {
  types_use(round);
  use_numbers();
  use_strings(dirty);
  use_containers(dirty);
  use_weak(dirty);
  use_roots(dirty);
  use_static();
  use_inspection(dirty);
  use_collector(dirty);
}

/* ---- tests ---- */

static void *works(void *arg) {
  use_numbers();
  use_containers(false);
  return arg;
}

static void what_is_cleaned_up_is_gone_with_the_arena(void **state) {
  (void)state;
  in_arena = true;
  for (unsigned i = 0; i < 4; i++) {
    arena_begin(i * (16 * MIB + 4099), 16 * MIB);
    use_all(i, false);
    (void)test_thread_run(works, NULL);
    (void)gyre_gc_collect(2);
    test_options_put_back();
    arena_end();
  }
}

static void what_is_left_is_gone_with_the_arena(void **state) {
  (void)state;
  test_log_capture();
  in_arena = true;
  for (unsigned i = 0; i < 4; i++) {
    arena_begin(i * (16 * MIB + 4099), 16 * MIB);
    use_all(i, true);
    (void)test_thread_run(works, NULL);
    assert_true(gyre_fini() > 0);
    (void)gyre_gc_enable();
    test_options_put_back();
    /* Who still looks there finds nothing of use. */
    memset(arena_memory + i * (16 * MIB + 4099), 0xee, 16 * MIB);
    assert_int_equal(gyre_intern_count(), 0);
    assert_int_equal(gyre_gc_garbage_count(), 0);
    assert_int_equal(gyre_gc_get_freeze_count(), 0);
    assert_int_equal(gyre_pending_count(), 0);
  }
}

static void without_an_arena_all_of_it_works_afterwards(void **state) {
  (void)state;
  test_log_capture();
  arena_begin(0, 16 * MIB);
  in_arena = true;
  use_all(1, true);
  assert_true(gyre_fini() > 0);
  test_options_put_back();
  memset(arena_memory, 0xee, 16 * MIB);
  in_arena = false;
  (void)gyre_gc_disable();
  for (unsigned i = 0; i < 3; i++)
    use_all(i, false);
  (void)gyre_gc_collect(2);
  (void)gyre_gc_enable();
  test_check();
  assert_int_equal(gyre_fini(), 0);
}

/* A buffer, and a static object in what is left of the 4 MiB of addresses where it ends. */
static struct {
  _Alignas(4 * MIB) char buffer[9 * MIB];
  GYRE_STATIC_OBJECT(colour) beside;
} shared_piece = {.beside = GYRE_STATIC_INIT(3)};
static gyre_type colours_type = {.name = "colours", .size = sizeof(colour), .element_size = 8};

static void a_static_object_beside_the_buffer_is_none_of_the_arenas(void **state) {
  (void)state;
  assert_int_equal(gyre_init_in(shared_piece.buffer, sizeof shared_piece.buffer), 0);
  colour *beside = &shared_piece.beside.object;
  assert_int_equal(GYRE_STATIC_REGISTER(&shared_piece.beside, &colours_type), 0);
  node *n = node_new(&node_type, 1);
  gyre_store(&n->next, (node *)(void *)beside);
  gyre_graph *graph = gyre_graph_new(0);
  assert_non_null(graph);
  ptrdiff_t at = gyre_graph_at(graph, beside);
  assert_true(at >= 0);
  struct gyre_node found = {.size = sizeof found};
  assert_int_equal(gyre_graph_node(graph, (size_t)at, &found), 0);
  assert_true(found.flags & GYRE_NODE_STATIC);
  assert_int_equal(found.bytes, sizeof(colour));
  gyre_graph_free(graph);
  assert_int_equal(gyre_array_length(beside), 0);
  assert_int_equal(gyre_sizeof(beside), sizeof(colour));
  gyre_gc_collect(2);
  gyre_release(n);
  assert_int_equal(gyre_fini(), 0);
}

#define PLAIN(name) cmocka_unit_test_teardown(name, options_back)
static int options_back(void **state) {
  (void)state;
  gyre_set_log(NULL, NULL);
  test_options_put_back();
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      PLAIN(what_is_cleaned_up_is_gone_with_the_arena),
      PLAIN(what_is_left_is_gone_with_the_arena),
      PLAIN(a_static_object_beside_the_buffer_is_none_of_the_arenas),
      PLAIN(without_an_arena_all_of_it_works_afterwards),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
