/* SPDX-License-Identifier: MIT */
/* What a copy of the heap has: objects, references, fields; in a program that stands still. */
#include <errno.h>

#include "tests/observe/copy.h"

static void a_node_for_each_object_and_an_edge_for_each_reference(void **state) {
  (void)state;
  node *a = node_new(&plain_type, 1), *b = node_new(&plain_type, 2);
  node_link(a, b);
  gyre_store(&a->other, b);
  gyre_store(&b->other, a);
  gyre_graph *graph = graph_new(0);
  assert_int_equal(gyre_graph_nodes(graph), 2);
  assert_int_equal(gyre_graph_edges(graph), 3);
  struct gyre_node info = node_info(graph, a);
  assert_ptr_equal(info.address, a);
  assert_ptr_equal(info.type, &plain_type);
  assert_int_equal(info.bytes, sizeof(node));
  assert_int_equal(info.count, 2);
  assert_int_equal(info.local + (uint32_t)info.shared, 2);
  assert_int_equal(info.referents, 2);
  assert_int_equal(info.referrers, 1);
  assert_int_equal(info.generation, 0);
  assert_null(info.root);
  assert_int_equal(info.flags & (GYRE_NODE_LEAF | GYRE_NODE_IMMORTAL | GYRE_NODE_FINALIZER), 0);
  struct gyre_link links[3];
  assert_int_equal(gyre_graph_referents(graph, node_at(graph, a), links, 3), 2);
  assert_int_equal(links[0].node, node_at(graph, b));
  assert_string_equal(links[0].field, "next");
  assert_int_equal(links[0].element, SIZE_MAX);
  assert_string_equal(links[1].field, "other");
  assert_int_equal(gyre_graph_referrers(graph, node_at(graph, b), links, 1), 2);
  assert_int_equal(links[0].node, node_at(graph, a));
  assert_int_equal(gyre_graph_referrers(graph, node_at(graph, a), links, 3), 1);
  assert_int_equal(links[0].node, node_at(graph, b));
  assert_string_equal(links[0].field, "other");
  gyre_graph_free(graph);
  gyre_clear(&b->other);
  gyre_release(b);
  gyre_release(a);
}

static void elements_have_numbers(void **state) {
  (void)state;
  tuple *t = gyre_new_array(&tuple_type, 3);
  node *a = node_new(&plain_type, 1);
  gyre_store(&t->head, a);
  gyre_store(&t->items[2], a);
  gyre_graph *graph = graph_new(0);
  struct gyre_link links[4];
  char name[16];
  assert_int_equal(gyre_graph_referents(graph, node_at(graph, t), links, 4), 2);
  assert_int_equal(gyre_link_name(&links[0], name, sizeof name), 4);
  assert_string_equal(name, "head");
  assert_int_equal(gyre_link_name(&links[1], name, sizeof name), 3);
  assert_string_equal(name, "[2]");
  assert_int_equal(gyre_link_name(&links[0], name, 3), 4);
  assert_string_equal(name, "he");
  assert_int_equal(node_info(graph, t).bytes, sizeof(tuple) + 3 * sizeof(gyre_slot));
  gyre_graph_free(graph);
  gyre_release(a);
  gyre_release(t);
}

typedef struct pair {
  GYRE_SLOT(node) key;
  GYRE_SLOT(node) value;
} pair;
typedef struct map {
  size_t used;
  pair pairs[];
} map;
static GYRE_TYPE_DEFINE(map_type, map, .element_size = sizeof(pair),
                        .element_slots = GYRE_SLOTS(pair, key, value));

static void fields_of_elements_have_both(void **state) {
  (void)state;
  map *m = gyre_new_array(&map_type, 2);
  node *a = node_new(&plain_type, 1);
  gyre_store(&m->pairs[1].value, a);
  gyre_release(a);
  gyre_graph *graph = graph_new(0);
  struct gyre_link link;
  char name[32];
  assert_int_equal(gyre_graph_referents(graph, node_at(graph, m), &link, 1), 1);
  (void)gyre_link_name(&link, name, sizeof name);
  assert_string_equal(name, "[1].value");
  gyre_graph_free(graph);
  gyre_release(m);
}

/* ---- kinds of objects ---- */

typedef struct holder {
  node *held;
} holder;
static int holder_visit(void *object, gyre_visitor *visitor, void *arg) {
  holder *h = object;
  return h->held != NULL ? visitor(h->held, arg) : 0;
}
static void holder_clear(void *object) {
  gyre_release(((holder *)object)->held);
  ((holder *)object)->held = NULL;
}
static GYRE_TYPE_DEFINE(holder_type, holder, .visit = holder_visit, .clear = holder_clear);

static void visit_functions_are_asked(void **state) {
  (void)state;
  holder *h = gyre_new(&holder_type);
  h->held = node_new(&plain_type, 1);
  gyre_graph *graph = graph_new(0);
  struct gyre_link link;
  char name[8];
  assert_int_equal(gyre_graph_referents(graph, node_at(graph, h), &link, 1), 1);
  assert_int_equal(link.node, node_at(graph, h->held));
  assert_null(link.field);
  assert_int_equal(gyre_link_name(&link, name, sizeof name), 0);
  assert_string_equal(name, "");
  assert_int_equal(verdict_of(graph, h->held), GYRE_VERDICT_REACHABLE);
  gyre_graph_free(graph);
  gyre_release(h);
}

static void a_locked_visit_object_is_partial_and_so_nobody_is_accused(void **state) {
  (void)state;
  holder *h = gyre_new(&holder_type);
  h->held = node_new(&plain_type, 1);
  gyre_lock(h);
  gyre_graph *graph = graph_new(0);
  assert_true(node_info(graph, h).flags & GYRE_NODE_PARTIAL);
  assert_int_equal(node_info(graph, h).referents, 0);
  assert_int_equal(verdict_of(graph, h), GYRE_VERDICT_UNKNOWN);
  assert_int_equal(verdict_of(graph, h->held), GYRE_VERDICT_OVERCOUNT);
  gyre_graph_free(graph);
  gyre_unlock(h);
  gyre_release(h);
}

static GYRE_STATIC_OBJECT(node) nobody = GYRE_STATIC_INIT(.tag = 7);

static void leaves_statics_and_large_objects_are_nodes(void **state) {
  (void)state;
  assert_int_equal(GYRE_STATIC_REGISTER(&nobody, &plain_type), 0);
  static gyre_type large_type = {.name = "large leaf", .size = 300000};
  void *leaf = gyre_new(&leaf_type), *large = gyre_new(&large_type);
  tuple *wide = gyre_new_array(&tuple_type, 100000);
  node *a = node_new(&finalized_type, 1);
  gyre_store(&a->next, &nobody.object);
  gyre_store(&nobody.object.next, a);
  gyre_store(&wide->items[99999], a);
  gyre_immortalize(leaf);
  gyre_graph *graph = graph_new(0);
  assert_true(node_info(graph, leaf).flags & GYRE_NODE_LEAF);
  assert_true(node_info(graph, leaf).flags & GYRE_NODE_IMMORTAL);
  assert_int_equal(node_info(graph, leaf).count, GYRE_IMMORTAL);
  assert_int_equal(node_info(graph, large).bytes, 300000);
  assert_true(node_info(graph, &nobody.object).flags & GYRE_NODE_STATIC);
  assert_int_equal(node_info(graph, &nobody.object).referents, 1);
  assert_true(node_info(graph, a).flags & GYRE_NODE_FINALIZER);
  assert_int_equal(node_info(graph, a).referrers, 2);
  struct gyre_link link;
  assert_int_equal(gyre_graph_referents(graph, node_at(graph, wide), &link, 1), 1);
  assert_int_equal(link.element, 99999);
  assert_int_equal(verdict_of(graph, leaf), GYRE_VERDICT_ROOT);
  gyre_graph_free(graph);
  gyre_clear(&nobody.object.next);
  make_mortal(leaf);
  gyre_release(leaf);
  gyre_release(large);
  gyre_release(wide);
  gyre_release(a);
}

static void frozen_and_untracked_objects_are_nodes_all_the_same(void **state) {
  (void)state;
  node *a = chain_new(&plain_type, 2), *b = gyre_load(&a->next);
  gyre_release(b);
  for (unsigned how = 0; how < 2; how++) {
    assert_int_equal(gyre_gc_freeze_ex(how == 0 ? 0 : GYRE_FREEZE_STOP_COUNTING), 2);
    gyre_graph *graph = graph_new(0);
    assert_true(node_info(graph, a).flags & GYRE_NODE_APART);
    assert_false(node_info(graph, a).flags & GYRE_NODE_CHANGED);
    assert_int_equal(node_info(graph, b).referrers, 1);
    assert_int_equal(verdict_of(graph, b), how == 0 ? GYRE_VERDICT_REACHABLE : GYRE_VERDICT_ROOT);
    gyre_graph_free(graph);
    assert_int_equal(gyre_heap_count(&plain_type), 2);
    assert_int_equal(gyre_gc_unfreeze(), 2);
  }
  assert_int_equal(gyre_gc_untrack(a), 0);
  gyre_graph *graph = graph_new(GYRE_GRAPH_EXACT);
  assert_true(node_info(graph, a).flags & GYRE_NODE_APART);
  assert_false(node_info(graph, b).flags & GYRE_NODE_APART);
  gyre_graph_free(graph);
  gyre_release(a);
}

/* ---- looking up ---- */

static void nodes_are_found_by_address_and_by_type(void **state) {
  (void)state;
  enum { N = 1000 };
  static node *all[N];
  for (size_t i = 0; i < N; i++)
    all[i] = node_new(i % 4 == 0 ? &node_type : &plain_type, i);
  gyre_graph *graph = graph_new(0);
  for (size_t i = 0; i < N; i++) {
    size_t at = node_at(graph, all[i]);
    assert_int_equal(node_at(graph, (char *)all[i] + sizeof(node) - 1), at);
    assert_ptr_equal(node_info(graph, all[i]).address, all[i]);
  }
  assert_int_equal(gyre_graph_at(graph, (char *)all[0] - GYRE_HEADER_SIZE), -ENOENT);
  assert_int_equal(gyre_graph_at(graph, NULL), -ENOENT);
  assert_int_equal(gyre_graph_at(graph, graph), -ENOENT);
  size_t found[3];
  assert_int_equal(gyre_graph_by_type(graph, &node_type, found, 3), N / 4);
  for (size_t i = 0; i < 3; i++) {
    struct gyre_node info = {.size = sizeof info};
    assert_int_equal(gyre_graph_node(graph, found[i], &info), 0);
    assert_ptr_equal(info.type, &node_type);
  }
  assert_int_equal(gyre_graph_by_type(graph, &tuple_type, NULL, 0), 0);
  gyre_graph_free(graph);
  for (size_t i = 0; i < N; i++)
    gyre_release(all[i]);
}

static void what_is_wrong_is_refused(void **state) {
  (void)state;
  errno = 0;
  assert_null(gyre_graph_new(1u << 7));
  assert_int_equal(errno, EINVAL);
  gyre_graph *graph = graph_new(0);
  struct gyre_node info = {.size = 0};
  assert_int_equal(gyre_graph_node(graph, 0, &info), -EINVAL);
  info.size = sizeof info;
  assert_int_equal(gyre_graph_node(graph, gyre_graph_nodes(graph), &info), -ERANGE);
  assert_int_equal(gyre_graph_referents(graph, SIZE_MAX, NULL, 0), -ERANGE);
  assert_int_equal(gyre_graph_referrers(graph, SIZE_MAX, NULL, 0), -ERANGE);
  assert_int_equal(gyre_graph_verdict(graph, SIZE_MAX, NULL, NULL), -ERANGE);
  assert_int_equal(gyre_graph_dominator(graph, SIZE_MAX), -ERANGE);
  assert_int_equal(gyre_graph_retained(graph, SIZE_MAX, NULL, NULL), -ERANGE);
  assert_int_equal(gyre_graph_name_root(graph, SIZE_MAX, "x"), -ERANGE);
  errno = 0;
  assert_null(gyre_graph_retain(graph, SIZE_MAX));
  assert_int_equal(errno, ERANGE);
  gyre_graph_free(graph);
  gyre_graph_free(NULL);
}

static void an_older_program_gets_the_fields_that_it_knows(void **state) {
  (void)state;
  node *a = node_new(&plain_type, 1);
  gyre_graph *graph = graph_new(0);
  struct gyre_node info;
  memset(&info, 0x5a, sizeof info);
  info.size = offsetof(struct gyre_node, bytes);
  assert_int_equal(gyre_graph_node(graph, node_at(graph, a), &info), 0);
  assert_ptr_equal(info.address, a);
  assert_int_equal(info.bytes, (size_t)0x5a5a5a5a5a5a5a5a);
  gyre_graph_free(graph);
  gyre_release(a);
}

/* ---- references of the graph's own ---- */

static void a_graph_holds_nothing_unless_it_is_told_to(void **state) {
  (void)state;
  node *a = node_new(&node_type, 1);
  gyre_graph *graph = graph_new(0);
  size_t at = node_at(graph, a);
  gyre_release(a);
  assert_int_equal(nodes_destroyed(), 1);
  errno = 0;
  assert_null(gyre_graph_retain(graph, at));
  assert_int_equal(errno, EPERM);
  gyre_graph_free(graph);
}

static void retained(unsigned flags) {
  node *a = node_new(&node_type, 1);
  node_link(a, node_new(&node_type, 2));
  node *b = gyre_load(&a->next);
  gyre_release(b);
  gyre_release(b);
  gyre_graph *graph = graph_new(GYRE_GRAPH_RETAIN | flags);
  size_t at = node_at(graph, a), next = node_at(graph, b);
  assert_int_equal(node_info(graph, a).count, 1);
  assert_true(node_info(graph, a).flags & GYRE_NODE_RETAINED);
  gyre_release(a);
  assert_int_equal(nodes_destroyed(), 0);
  a = gyre_graph_retain(graph, at);
  assert_int_equal(a->tag, 1);
  gyre_graph_free(graph);
  assert_int_equal(nodes_destroyed(), 0);
  assert_int_equal(gyre_refcount(a), 1);
  assert_int_equal(gyre_refcount(b), 1);
  (void)next;
  gyre_release(a);
  assert_int_equal(nodes_destroyed(), 2);
}

static void a_graph_that_retains_keeps_objects_alive(void **state) {
  (void)state;
  retained(0);
}

static void so_does_one_made_in_a_stopped_world(void **state) {
  (void)state;
  retained(GYRE_GRAPH_EXACT);
}

/* ---- roots ---- */

static void roots_have_names(void **state) {
  (void)state;
  node *a = node_new(&plain_type, 1);
  gyre_graph *graph = graph_new(0);
  size_t at = node_at(graph, a);
  assert_int_equal(gyre_graph_is_root(graph, at, NULL), 0);
  assert_int_equal(gyre_graph_is_held(graph, at, NULL), 1);
  assert_int_equal(gyre_graph_name_root(graph, at, "config"), 0);
  assert_int_equal(gyre_graph_name_root(graph, at, "settings"), 0);
  assert_int_equal(gyre_graph_is_root(graph, at, NULL), 1);
  assert_string_equal(node_info(graph, a).root, "settings");
  assert_int_equal(verdict_of(graph, a), GYRE_VERDICT_ROOT);
  assert_int_equal(gyre_graph_name_root(graph, at, NULL), 0);
  assert_int_equal(gyre_graph_is_root(graph, at, NULL), 0);
  assert_null(node_info(graph, a).root);
  gyre_graph_free(graph);
  gyre_release(a);
}

static node *rooted, *rooted_later;
static void each_root(gyre__root_seen_fn *each, void *arg) {
  char name[] = "session cache"; /* gone afterwards */
  static unsigned calls;
  each(rooted, name, arg);
  if (calls++ % 2 == 1) each(rooted_later, name, arg);
}

static void named_roots_of_the_program_are_known(void **state) {
  (void)state;
  rooted = chain_new(&plain_type, 2);
  rooted_later = node_new(&plain_type, 9);
  void (*before)(gyre__root_seen_fn *, void *) = gyre__for_each_root;
  gyre__for_each_root = each_root;
  gyre_graph *graph = graph_new(0);
  gyre__for_each_root = before;
  assert_string_equal(node_info(graph, rooted).root, "session cache");
  assert_int_equal(verdict_of(graph, rooted), GYRE_VERDICT_ROOT);
  assert_null(node_info(graph, rooted_later).root);
  gyre_graph_free(graph);
  gyre_release(rooted);
  gyre_release(rooted_later);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(a_node_for_each_object_and_an_edge_for_each_reference),
      NODE_TEST(elements_have_numbers),
      NODE_TEST(fields_of_elements_have_both),
      NODE_TEST(visit_functions_are_asked),
      NODE_TEST(a_locked_visit_object_is_partial_and_so_nobody_is_accused),
      NODE_TEST(leaves_statics_and_large_objects_are_nodes),
      NODE_TEST(frozen_and_untracked_objects_are_nodes_all_the_same),
      NODE_TEST(nodes_are_found_by_address_and_by_type),
      NODE_TEST(what_is_wrong_is_refused),
      NODE_TEST(an_older_program_gets_the_fields_that_it_knows),
      NODE_TEST(a_graph_holds_nothing_unless_it_is_told_to),
      NODE_TEST(a_graph_that_retains_keeps_objects_alive),
      NODE_TEST(so_does_one_made_in_a_stopped_world),
      NODE_TEST(roots_have_names),
      NODE_TEST(named_roots_of_the_program_are_known),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
