/* SPDX-License-Identifier: MIT */
/* A copy beside the program, held at one place or another while a thread changes what is copied. `looker` makes
 * the copy; main is the program, runs, and has the mode of the copy when the looker is held. */
#include <errno.h>

#include "tests/observe/copy.h"
#include "tests/support/puppet.h"
#include "tests/support/window.h"

#define BESIDE(name) NODE_TEST_WITH(name, "gc:0,gc_mode:concurrent")

static struct puppet looker;
static gyre_graph *graph;
static unsigned how;

static void becomes_subject(void *arg) {
  (void)arg;
  test_window_subject();
}
static void looks(void *arg) {
  (void)arg;
  graph = gyre_graph_new(how);
}

/* The looker begins, and is held there. */
static void look_begin(unsigned flags, const char *window) {
  gyre_thread_attach();
  how = flags;
  puppet_start(&looker);
  puppet_run_parked(&looker, becomes_subject, NULL);
  test_window_hold(window, 1);
  puppet_begin(&looker, looks, NULL);
  TEST_AWAIT_SAFELY(test_window_is_held());
}

static void look_end(void) {
  test_window_release();
  puppet_await(&looker);
  TEST_REQUIRE(graph != NULL);
}

/* Frees the copy; then what waited for its end is free. */
static void look_over(void) {
  gyre_graph_free(graph);
  puppet_stop(&looker);
  gyre_safepoint();
}

static unsigned flags_of(const void *object) { return node_info(graph, object).flags; }

static void what_nobody_touches_gets_its_verdict(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  node *a = node_new(&plain_type, 1), *b = node_new(&plain_type, 2);
  gyre_slot_init(&a->next, b);
  node *ring = ring_new(&plain_type, 2);
  gyre_release(ring); /* nobody refers to it now */
  look_begin(0, "observe/nodes");
  gyre_release(node_new(&plain_type, 9));
  look_end();
  assert_false(flags_of(a) & GYRE_NODE_CHANGED);
  assert_false(flags_of(b) & GYRE_NODE_CHANGED);
  assert_int_equal(verdict_of(graph, a), GYRE_VERDICT_OVERCOUNT);
  assert_int_equal(verdict_of(graph, b), GYRE_VERDICT_REACHABLE);
  assert_int_equal(verdict_of(graph, ring), GYRE_VERDICT_GARBAGE);
  look_over();
  gyre_release(a);
  assert_int_equal(gyre_gc_collect(2), 2);
}

/* All references have been copied but those of a: the one to b is taken out. Without a mark, b's count would be
 * explained by nothing. */
static void what_is_moved_is_marked(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  node *a = node_new(&plain_type, 1), *b = node_new(&plain_type, 2);
  gyre_slot_init(&a->next, b);
  look_begin(0, "observe/nodes");
  b = gyre_take(&a->next);
  look_end();
  assert_true(flags_of(b) & GYRE_NODE_CHANGED);
  assert_int_equal(verdict_of(graph, b), GYRE_VERDICT_UNKNOWN);
  assert_int_equal(gyre_graph_edges(graph), 0);
  look_over();
  gyre_release(a);
  gyre_release(b);
}

static void what_is_counted_is_marked_leaves_too(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  node *a = node_new(&plain_type, 1), *b = node_new(&plain_type, 2);
  void *leaf = gyre_new(&leaf_type), *still = gyre_new(&leaf_type);
  look_begin(0, "observe/edges");
  gyre_retain(a);
  gyre_retain(leaf);
  look_end();
  assert_true(flags_of(a) & GYRE_NODE_CHANGED);
  assert_true(flags_of(leaf) & GYRE_NODE_CHANGED);
  assert_false(flags_of(b) & GYRE_NODE_CHANGED);
  assert_false(flags_of(still) & GYRE_NODE_CHANGED);
  look_over();
  gyre_release(a);
  gyre_release(a);
  gyre_release(b);
  gyre_release(leaf);
  gyre_release(leaf);
  gyre_release(still);
}

/* Marks of a copy before are no marks of this one. */
static void marks_are_forgotten(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  node *a = node_new(&plain_type, 1);
  void *leaf = gyre_new(&leaf_type);
  look_begin(0, "observe/edges");
  gyre_release(gyre_retain(a));
  gyre_release(gyre_retain(leaf));
  look_end();
  assert_true(flags_of(leaf) & GYRE_NODE_CHANGED);
  look_over();
  graph = graph_new(0);
  assert_false(flags_of(a) & GYRE_NODE_CHANGED);
  assert_false(flags_of(leaf) & GYRE_NODE_CHANGED);
  gyre_graph_free(graph);
  gyre_release(a);
  gyre_release(leaf);
}

static gyre_type bare_type = {.name = "bare leaf", .size = 24};

/* Of each kind one object dies, and another is made, which would have its block. */
static void no_block_is_used_twice(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  gyre_type *types[] = {&plain_type, &node_type, &finalized_type, &leaf_type, &bare_type};
  enum { N = sizeof types / sizeof types[0] };
  void *old[N], *new[N];
  for (size_t i = 0; i < N; i++)
    old[i] = gyre_new(types[i]);
  node *keeper = node_new(&plain_type, 1);
  look_begin(0, "observe/nodes");
  for (size_t i = 0; i < N; i++) {
    test_reuse_last();
    gyre_release(old[i]);
    new[i] = gyre_new(types[i]);
    for (size_t k = 0; k <= i; k++)
      assert_ptr_not_equal(new[i], old[k]);
  }
  gyre_store(&keeper->next, (node *)new[0]);
  look_end();
  for (size_t i = 0; i < N; i++)
    assert_true(flags_of(old[i]) & GYRE_NODE_DEAD);
  unsigned flags = flags_of(new[0]);
  assert_int_equal(flags & (GYRE_NODE_NEW | GYRE_NODE_PARTIAL | GYRE_NODE_CHANGED | GYRE_NODE_DEAD),
                   GYRE_NODE_NEW | GYRE_NODE_PARTIAL | GYRE_NODE_CHANGED);
  struct gyre_link link;
  assert_int_equal(gyre_graph_referents(graph, node_at(graph, keeper), &link, 1), 1);
  assert_int_equal(link.node, node_at(graph, new[0]));
  look_over();
  for (size_t i = 0; i < N; i++)
    gyre_release(new[i]);
  gyre_release(keeper);
}

/* Likewise for what a thread's own collection frees. */
static void nor_by_a_young_collection(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  node *ring = ring_new(&plain_type, 2), *other = gyre_load(&ring->next);
  gyre_release(other);
  look_begin(0, "observe/nodes");
  gyre_release(ring);
  gyre__young_collect((struct gyre__objects *)gyre__thread_self(), true);
  node *fresh[2] = {node_new(&plain_type, 1), node_new(&plain_type, 2)};
  for (size_t i = 0; i < 2; i++) {
    assert_ptr_not_equal(fresh[i], ring);
    assert_ptr_not_equal(fresh[i], other);
  }
  look_end();
  assert_true(flags_of(ring) & GYRE_NODE_DEAD);
  assert_true(flags_of(other) & GYRE_NODE_DEAD);
  look_over();
  gyre_release(fresh[0]);
  gyre_release(fresh[1]);
}

/* ---- references of the graph's own ---- */

/* The object dies before we count it, while we count others, or after; or its thread's collection finds it. */
static void dies_at(const char *window, bool by_collection) {
  node *a = node_new(&node_type, 1), *still = node_new(&node_type, 2);
  if (by_collection) gyre_slot_init(&a->next, gyre_retain(a));
  look_begin(GYRE_GRAPH_RETAIN, window);
  gyre_release(a);
  if (by_collection) gyre__young_collect((struct gyre__objects *)gyre__thread_self(), true);
  look_end();
  assert_true(flags_of(a) & GYRE_NODE_CHANGED);
  assert_false(flags_of(a) & GYRE_NODE_RETAINED);
  errno = 0;
  assert_null(gyre_graph_retain(graph, node_at(graph, a)));
  assert_int_equal(errno, ESRCH);
  gyre_release(still);
  node *again = gyre_graph_retain(graph, node_at(graph, still));
  if (by_collection && strcmp(window, "observe/edges") == 0) {
    assert_null(again); /* nobody had counted it, and so the collection has looked at it, too */
  } else {
    assert_ptr_equal(again, still);
    assert_int_equal(again->tag, 2);
    gyre_release(again);
  }
  look_over();
  (void)gyre_gc_collect(2);
  assert_int_equal(nodes_destroyed(), 2);
}

static void what_dies_is_not_retained(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  dies_at("observe/nodes", false);
}
static void nor_what_dies_before_it_is_counted(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  dies_at("observe/edges", false);
}
static void nor_what_dies_after_that(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  dies_at("observe/retained", false);
}
static void nor_garbage_that_its_owner_finds(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  dies_at("observe/edges", true);
}
static void nor_garbage_that_its_owner_finds_later(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  dies_at("observe/retained", true);
}

/* ---- the collector, fork ---- */

static ptrdiff_t found;
static void collects(void *arg) {
  (void)arg;
  found = gyre_gc_collect(2);
}

static void a_collection_waits_for_a_copy(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  struct puppet collector;
  gyre_thread_attach();
  ring_drop(&node_type, 3);
  puppet_start(&collector);
  look_begin(0, "observe/nodes");
  puppet_begin(&collector, collects, NULL);
  await_parked(1); /* it waits for the lock, parked */
  assert_int_equal(nodes_destroyed(), 0);
  look_end();
  puppet_await(&collector);
  assert_int_equal(found, 3);
  look_over();
  puppet_stop(&collector);
}

static void child_collects(void *arg) {
  node *a = arg;
  TEST_REQUIRE(a->tag == 7);
  ring_drop(&node_type, 3);
  TEST_REQUIRE(gyre_gc_collect(2) == 3);
  gyre_graph *mine = gyre_graph_new(0);
  TEST_REQUIRE(mine != NULL);
  TEST_REQUIRE(gyre_graph_at(mine, a) >= 0);
  gyre_graph_free(mine);
}

static void a_child_gives_a_copy_up(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  node *a = node_new(&plain_type, 7);
  look_begin(0, "observe/nodes");
  test_in_child(child_collects, a);
  look_end();
  look_over();
  gyre_release(a);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      BESIDE(what_nobody_touches_gets_its_verdict),
      BESIDE(what_is_moved_is_marked),
      BESIDE(what_is_counted_is_marked_leaves_too),
      BESIDE(marks_are_forgotten),
      BESIDE(no_block_is_used_twice),
      BESIDE(nor_by_a_young_collection),
      BESIDE(what_dies_is_not_retained),
      BESIDE(nor_what_dies_before_it_is_counted),
      BESIDE(nor_what_dies_after_that),
      BESIDE(nor_garbage_that_its_owner_finds),
      BESIDE(nor_garbage_that_its_owner_finds_later),
      BESIDE(a_collection_waits_for_a_copy),
      BESIDE(a_child_gives_a_copy_up),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
