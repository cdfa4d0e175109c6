/* SPDX-License-Identifier: MIT */
/* Chains, dominators, verdicts and groups: against answers known beforehand, and against slow and simple
 * answers for random graphs. */
#include <errno.h>

#include "tests/observe/copy.h"

/* ---- chains ---- */

static int has_tag(gyre_graph *graph, size_t at, void *arg) {
  struct gyre_node info = {.size = sizeof info};
  TEST_REQUIRE(gyre_graph_node(graph, at, &info) == 0);
  return ((const node *)info.address)->tag == *(uint64_t *)arg;
}

static void the_shortest_chain_names_its_fields(void **state) {
  (void)state;
  /* 0 -> 1 -> 2 -> 3, and 1 -> 3 by `other`. */
  node *first = chain_new(&plain_type, 4), *one = gyre_load(&first->next);
  node *two = gyre_load(&one->next), *three = gyre_load(&two->next);
  gyre_store(&one->other, three);
  gyre_graph *graph = graph_new(0);
  struct gyre_link links[4];
  uint64_t tag = 3;
  assert_int_equal(gyre_graph_ref_chain(graph, node_at(graph, first), has_tag, &tag, 20, links, 4),
                   3);
  assert_int_equal(links[0].node, node_at(graph, first));
  assert_string_equal(links[0].field, "next");
  assert_int_equal(links[1].node, node_at(graph, one));
  assert_string_equal(links[1].field, "other");
  assert_int_equal(links[2].node, node_at(graph, three));
  assert_null(links[2].field);
  tag = 0;
  assert_int_equal(
      gyre_graph_backref_chain(graph, node_at(graph, three), has_tag, &tag, 20, links, 4), 3);
  assert_int_equal(links[0].node, node_at(graph, first));
  assert_string_equal(links[0].field, "next");
  assert_string_equal(links[1].field, "other");
  assert_int_equal(links[2].node, node_at(graph, three));
  assert_null(links[2].field);
  /* Too far, nowhere, itself. */
  assert_int_equal(
      gyre_graph_backref_chain(graph, node_at(graph, three), has_tag, &tag, 1, links, 4), 1);
  assert_int_equal(links[0].node, node_at(graph, three));
  tag = 77;
  assert_int_equal(gyre_graph_ref_chain(graph, node_at(graph, first), has_tag, &tag, 20, links, 4),
                   1);
  tag = 0;
  assert_int_equal(gyre_graph_ref_chain(graph, node_at(graph, first), has_tag, &tag, 0, links, 4),
                   1);
  /* Room for less: the first links. */
  tag = 3;
  memset(links, 0, sizeof links);
  assert_int_equal(gyre_graph_ref_chain(graph, node_at(graph, first), has_tag, &tag, 20, links, 2),
                   3);
  assert_string_equal(links[1].field, "other");
  assert_int_equal(links[2].node, 0);
  assert_int_equal(gyre_graph_ref_chain(graph, SIZE_MAX, has_tag, &tag, 20, NULL, 0), -ERANGE);
  assert_int_equal(gyre_graph_ref_chain(graph, 0, NULL, NULL, 20, NULL, 0), -EINVAL);
  gyre_graph_free(graph);
  gyre_release(one);
  gyre_release(two);
  gyre_release(three);
  gyre_release(first);
}

static void the_way_from_a_holder(void **state) {
  (void)state;
  node *first = chain_new(&plain_type, 5), *at = first;
  while (at->tag < 4) {
    node *next = gyre_load(&at->next);
    gyre_release(next);
    at = next;
  }
  gyre_graph *graph = graph_new(0);
  struct gyre_link links[5];
  assert_int_equal(
      gyre_graph_backref_chain(graph, node_at(graph, at), gyre_graph_is_held, NULL, 20, links, 5),
      5);
  assert_int_equal(links[0].node, node_at(graph, first));
  gyre_graph_free(graph);
  gyre_release(first);
}

/* ---- dominators: an example ---- */

/*     a -> b -> d -> e      a, held; e's ways join at a
 *     a -> c ------> e      f: only through d */
static void dominators_of_a_diamond(void **state) {
  (void)state;
  node *a = node_new(&plain_type, 0), *b = node_new(&plain_type, 1), *c = node_new(&plain_type, 2);
  node *d = node_new(&plain_type, 3), *e = node_new(&plain_type, 4), *f = node_new(&plain_type, 5);
  gyre_slot_init(&a->next, b);
  gyre_slot_init(&a->other, c);
  gyre_slot_init(&b->next, d);
  gyre_slot_init(&d->next, e);
  gyre_slot_init(&d->other, f);
  gyre_store(&c->next, e);
  gyre_graph *graph = graph_new(0);
  uint64_t bytes, objects;
  assert_int_equal(gyre_graph_dominator(graph, node_at(graph, e)), node_at(graph, a));
  assert_int_equal(gyre_graph_dominator(graph, node_at(graph, f)), node_at(graph, d));
  assert_int_equal(gyre_graph_dominator(graph, node_at(graph, d)), node_at(graph, b));
  assert_int_equal(gyre_graph_dominator(graph, node_at(graph, a)), -ENOENT);
  assert_int_equal(gyre_graph_retained(graph, node_at(graph, a), &bytes, &objects), 0);
  assert_int_equal(objects, 6);
  assert_int_equal(bytes, 6 * sizeof(node));
  assert_int_equal(gyre_graph_retained(graph, node_at(graph, b), &bytes, &objects), 0);
  assert_int_equal(objects, 3);
  assert_int_equal(gyre_graph_retained(graph, node_at(graph, c), NULL, &objects), 0);
  assert_int_equal(objects, 1);
  gyre_graph_free(graph);
  gyre_release(a);
}

static void a_long_list_is_no_trouble(void **state) {
  (void)state;
  size_t n = (size_t)test_size("GYRE_TEST_LIST", 1000000, 100000, 50000);
  node *first = chain_new(&plain_type, n);
  gyre_graph *graph = graph_new(0);
  uint64_t objects;
  assert_int_equal(gyre_graph_retained(graph, node_at(graph, first), NULL, &objects), 0);
  assert_int_equal(objects, n);
  uint64_t last = n - 1;
  assert_int_equal(
      gyre_graph_ref_chain(graph, node_at(graph, first), has_tag, &last, SIZE_MAX, NULL, 0), n);
  gyre_graph_free(graph);
  gyre_release(first);
}

/* ---- random graphs ---- */

enum { MOST = 60 };

struct random_heap {
  size_t count;
  node *at[MOST];
  bool held[MOST];
  size_t to[MOST][2]; /* by slot; MOST: none */
};

static void heap_make(struct random_heap *h, struct test_random *random) {
  h->count = 2 + test_random_below(random, MOST - 2);
  for (size_t i = 0; i < h->count; i++)
    h->at[i] = node_new(&plain_type, i);
  uint32_t holders = 1 + test_random_below(random, 10);
  for (size_t i = 0; i < h->count; i++) {
    h->held[i] = test_random_below(random, 30) < holders;
    for (size_t k = 0; k < 2; k++) {
      h->to[i][k] =
          test_random_below(random, 4) == 0 ? MOST : test_random_below(random, (uint32_t)h->count);
      node *target = h->to[i][k] == MOST ? NULL : h->at[h->to[i][k]];
      if (k == 0)
        gyre_store(&h->at[i]->next, target);
      else
        gyre_store(&h->at[i]->other, target);
    }
  }
}

/* What can be reached without one node, by closure. */
static void reach(const struct random_heap *h, size_t without, bool reached[MOST]) {
  for (size_t i = 0; i < h->count; i++)
    reached[i] = h->held[i] && i != without;
  for (bool more = true; more;) {
    more = false;
    for (size_t i = 0; i < h->count; i++)
      for (size_t k = 0; k < 2; k++) {
        size_t to = h->to[i][k];
        if (!reached[i] || to == MOST || to == without || reached[to]) continue;
        reached[to] = more = true;
      }
  }
}

/* dominates[d][n]: n is lost without d. */
static void dominance(const struct random_heap *h, bool dominates[MOST][MOST], bool alive[MOST]) {
  reach(h, MOST, alive);
  for (size_t d = 0; d < h->count; d++) {
    bool rest[MOST];
    reach(h, d, rest);
    for (size_t n = 0; n < h->count; n++)
      dominates[d][n] = alive[n] && !rest[n];
  }
}

static void compare(const struct random_heap *h, gyre_graph *graph) {
  static bool dominates[MOST][MOST];
  bool alive[MOST];
  dominance(h, dominates, alive);
  for (size_t n = 0; n < h->count; n++) {
    size_t at = node_at(graph, h->at[n]);
    uint64_t objects, lost = 0;
    for (size_t i = 0; i < h->count; i++)
      lost += dominates[n][i];
    TEST_REQUIRE(gyre_graph_retained(graph, at, NULL, &objects) == 0);
    if (alive[n]) TEST_REQUIRE(objects == lost);
    ptrdiff_t above = gyre_graph_dominator(graph, at);
    if (above >= 0) {
      /* Nearest: all other strict dominators dominate it, too. */
      struct gyre_node info = {.size = sizeof info};
      TEST_REQUIRE(gyre_graph_node(graph, (size_t)above, &info) == 0);
      size_t d = ((const node *)info.address)->tag;
      TEST_REQUIRE(d != n && dominates[d][n]);
      for (size_t i = 0; i < h->count; i++)
        if (i != n && dominates[i][n]) TEST_REQUIRE(dominates[i][d]);
    } else {
      TEST_REQUIRE(above == -ENOENT);
      for (size_t i = 0; i < h->count; i++)
        TEST_REQUIRE(i == n || !dominates[i][n]);
    }
    enum gyre_verdict verdict = verdict_of(graph, h->at[n]);
    TEST_REQUIRE(verdict == (h->held[n] ? GYRE_VERDICT_OVERCOUNT
                             : alive[n] ? GYRE_VERDICT_REACHABLE
                                        : GYRE_VERDICT_GARBAGE));
  }
}

static void random_graphs_agree_with_the_definition(void **state) {
  (void)state;
  struct test_random random = test_random_new(1);
  uint64_t rounds = test_size("GYRE_TEST_ROUNDS", 300, 100, 50);
  static struct random_heap h;
  for (uint64_t i = 0; i < rounds; i++) {
    heap_make(&h, &random);
    /* Objects that nothing refers to die; they are held, then. */
    for (bool more = true; more;) {
      more = false;
      for (size_t n = 0; n < h.count; n++) {
        bool referred = false;
        for (size_t k = 0; k < h.count; k++)
          referred |= h.to[k][0] == n || h.to[k][1] == n;
        if (!referred && !h.held[n]) h.held[n] = more = true;
      }
    }
    for (size_t n = 0; n < h.count; n++)
      if (!h.held[n]) gyre_release(h.at[n]);
    gyre_graph *graph = graph_new(i % 2 == 0 ? 0u : (unsigned)GYRE_GRAPH_EXACT);
    TEST_REQUIRE(gyre_graph_nodes(graph) == h.count);
    compare(&h, graph);
    gyre_graph_free(graph);
    for (size_t n = 0; n < h.count; n++)
      if (h.held[n]) gyre_release(h.at[n]);
    (void)gyre_gc_collect(2);
  }
}

/* ---- verdicts ---- */

static void leaking_objects_are_those_nobody_refers_to(void **state) {
  (void)state;
  node *a = node_new(&plain_type, 1), *b = node_new(&plain_type, 2), *c = node_new(&plain_type, 3);
  node_link(a, b);
  gyre_graph *graph = graph_new(0);
  size_t out[3];
  assert_int_equal(gyre_graph_leaking(graph, out, 3), 2);
  assert_true((out[0] == node_at(graph, a)) != (out[1] == node_at(graph, a)));
  assert_true((out[0] == node_at(graph, c)) != (out[1] == node_at(graph, c)));
  assert_int_equal(gyre_graph_name_root(graph, node_at(graph, a), "known"), 0);
  assert_int_equal(gyre_graph_leaking(graph, out, 3), 1);
  assert_int_equal(out[0], node_at(graph, c));
  ptrdiff_t excess;
  assert_int_equal(gyre_graph_verdict(graph, node_at(graph, b), NULL, &excess),
                   GYRE_VERDICT_OVERCOUNT);
  assert_int_equal(excess, 1);
  gyre_graph_free(graph);
  gyre_release(a);
  gyre_release(b);
  gyre_release(c);
}

static void what_grows_is_named(void **state) {
  (void)state;
  gyre_growth *growth = gyre_growth_new();
  node *a = chain_new(&plain_type, 3);
  assert_int_equal(gyre_heap_growth(growth, NULL, 0), 1);
  gyre_graph *graph = graph_new(0);
  node *next = gyre_load(&a->next);
  gyre_release(next);
  assert_int_equal(gyre_graph_verdict(graph, node_at(graph, next), growth, NULL),
                   GYRE_VERDICT_GROWING);
  assert_int_equal(gyre_heap_growth(growth, NULL, 0), 0);
  assert_int_equal(gyre_graph_verdict(graph, node_at(graph, next), growth, NULL),
                   GYRE_VERDICT_REACHABLE);
  gyre_graph_free(graph);
  gyre_release(a);
  gyre_growth_free(growth);
  for (int v = GYRE_VERDICT_UNKNOWN; v <= GYRE_VERDICT_UNDERCOUNT; v++)
    assert_string_not_equal(gyre_verdict_text((enum gyre_verdict)v), "?");
}

/* ---- groups ---- */

static void groups_have_counts_sizes_and_shares(void **state) {
  (void)state;
  node *chain = chain_new(&plain_type, 6);
  tuple *t = gyre_new_array(&tuple_type, 4);
  gyre_store(&t->items[0], chain);
  gyre_graph *graph = graph_new(0);
  struct gyre_partition_row rows[4];
  uint64_t whole = 6 * sizeof(node) + sizeof(tuple) + 4 * sizeof(gyre_slot);
  assert_int_equal(gyre_graph_partition(graph, GYRE_BY_TYPE, NULL, rows, 4), 2);
  assert_string_equal(rows[0].label, "node");
  assert_int_equal(rows[0].count, 6);
  assert_int_equal(rows[0].bytes, 6 * sizeof(node));
  assert_true(rows[0].count_percent > 85.7 && rows[0].count_percent < 85.8);
  assert_int_equal(rows[1].cumulative_bytes, whole);
  assert_true(rows[1].cumulative_percent > 99.9);
  assert_int_equal(gyre_graph_partition(graph, GYRE_BY_SIZE, NULL, rows, 4), 2);
  assert_string_equal(rows[0].label, "24");
  assert_int_equal(gyre_graph_partition(graph, GYRE_BY_REFERRERS, NULL, rows, 4), 3);
  assert_string_equal(rows[0].label, "node");
  assert_int_equal(rows[0].count, 5);
  assert_string_equal(rows[1].label, "held");
  assert_string_equal(rows[2].label, "held, tuple");
  assert_int_equal(gyre_graph_partition(graph, GYRE_BY_GENERATION, NULL, rows, 4), 1);
  assert_string_equal(rows[0].label, "generation 0");
  assert_int_equal(gyre_graph_partition(graph, GYRE_BY_VERDICT, NULL, rows, 4), 2);
  assert_string_equal(rows[0].label, "reachable");
  assert_int_equal(gyre_graph_partition(graph, (enum gyre_grouping)99, NULL, rows, 4), -EINVAL);
  static struct gathered text;
  text.length = 0;
  assert_int_equal(gyre_graph_show_partition(graph, GYRE_BY_TYPE, NULL, 1, gather, &text), 0);
  assert_string_equal(text.text, "Partition of a set of 7 objects. Total size = 192 bytes.\n"
                                 " Index      Count   %        Size   %  Cumulative   %  Kind\n"
                                 "     0          6  86         144  75         144  75  node\n"
                                 "<1 more rows>\n");
  gyre_graph_free(graph);
  gyre_release(chain);
  gyre_release(t);
}

static void groups_over_a_base(void **state) {
  (void)state;
  node *a = chain_new(&plain_type, 6);
  gyre_graph *base = graph_new(0);
  node *b = chain_new(&plain_type, 2);
  void *leaf = gyre_new(&leaf_type);
  gyre_graph *graph = graph_new(0);
  struct gyre_partition_row rows[4];
  assert_int_equal(gyre_graph_partition(graph, GYRE_BY_TYPE, base, rows, 4), 2);
  assert_string_equal(rows[0].label, "node");
  assert_int_equal(rows[0].count, 2);
  assert_string_equal(rows[1].label, "leaf");
  assert_int_equal(gyre_graph_partition(base, GYRE_BY_TYPE, graph, rows, 4), 0);
  gyre_graph_free(base);
  gyre_graph_free(graph);
  gyre_release(a);
  gyre_release(b);
  gyre_release(leaf);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(the_shortest_chain_names_its_fields),
      NODE_TEST(the_way_from_a_holder),
      NODE_TEST(dominators_of_a_diamond),
      NODE_TEST(a_long_list_is_no_trouble),
      NODE_TEST(random_graphs_agree_with_the_definition),
      NODE_TEST(leaking_objects_are_those_nobody_refers_to),
      NODE_TEST(what_grows_is_named),
      NODE_TEST(groups_have_counts_sizes_and_shares),
      NODE_TEST(groups_over_a_base),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
