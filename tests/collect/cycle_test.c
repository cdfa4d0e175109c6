/* SPDX-License-Identifier: MIT */
/* What a collection finds: garbage of every shape, and nothing else. */
#include <errno.h>

#include "tests/support/node.h"
#include "tests/support/puppet.h"

/* ---- shapes ---- */

static void a_live_heap_has_no_garbage(void **state) {
  (void)state;
  assert_int_equal(gyre_gc_collect(2), 0);
  node *n = ring_new(&node_type, 10);
  assert_int_equal(gyre_gc_collect(2), 0);
  assert_int_equal(nodes_destroyed(), 0);
  node *second = gyre_load(&n->next);
  gyre_release(n);
  assert_int_equal(gyre_gc_collect(2), 0);
  gyre_release(second);
  assert_int_equal(gyre_gc_collect(2), 10);
  assert_int_equal(nodes_destroyed(), 10);
}

static void rings_of_any_length_are_found(void **state) {
  (void)state;
  uint64_t sum = 0;
  for (size_t n = 1; n < 2000; n = n * 3 / 2 + 1) {
    ring_drop(&node_type, n);
    assert_int_equal(gyre_gc_collect(2), n);
    assert_int_equal(nodes_destroyed(), sum += n);
  }
}

static void a_ring_of_a_million_nodes_is_found(void **state) {
  (void)state;
  size_t n = test_size("GYRE_TEST_CELLS", 1000000, 200000, 100000);
  ring_drop(&node_type, n);
  assert_int_equal(gyre_gc_collect(2), n);
  assert_int_equal(nodes_destroyed(), n);
}

static void what_hangs_on_a_dead_ring_goes_with_it(void **state) {
  (void)state;
  node *n = ring_new(&node_type, 3);
  node *chain = chain_new(&node_type, 5), *kept = node_new(&node_type, 0);
  gyre_store(&n->other, chain);
  gyre_store(&chain->other, kept);
  gyre_release(chain);
  gyre_release(n);
  /* The chain is reachable from garbage only. */
  assert_int_equal(gyre_gc_collect(2), 8);
  assert_int_equal(nodes_destroyed(), 8);
  assert_int_equal(gyre_refcount(kept), 1);
  gyre_release(kept);
}

static void a_ring_that_a_live_object_refers_to_lives(void **state) {
  (void)state;
  node *holder = node_new(&node_type, 0);
  gyre_slot_init(&holder->other, ring_new(&node_type, 100));
  for (int g = 0; g < 3; g++)
    assert_int_equal(gyre_gc_collect(g), 0);
  gyre_release(holder);
  assert_int_equal(nodes_destroyed(), 1);
  assert_int_equal(gyre_gc_collect(2), 100);
}

static void a_node_that_refers_to_itself_twice_is_found(void **state) {
  (void)state;
  node *n = node_new(&node_type, 0);
  gyre_store(&n->next, n);
  gyre_store(&n->other, n);
  assert_int_equal(gyre_gc_collect(2), 0);
  gyre_release(n);
  assert_int_equal(gyre_gc_collect(2), 1);
}

static void rings_that_share_a_node_are_found_together(void **state) {
  (void)state;
  node *a = ring_new(&node_type, 4), *b = ring_new(&node_type, 6);
  gyre_store(&a->other, b);
  gyre_release(b);
  GYRE_AUTO(node) inside = gyre_load(&b->next);
  gyre_store(&inside->other, a);
  gyre_release(a);
  /* `inside` is held: all of it lives. */
  assert_int_equal(gyre_gc_collect(2), 0);
  gyre_release(gyre_retain(inside));
  node *last = inside;
  inside = NULL;
  gyre_release(last);
  assert_int_equal(gyre_gc_collect(2), 10);
}

/* Found dead by the collector: no recursion, however deep. */
static void *collect_a_chain(void *arg) {
  (void)arg;
  size_t n = test_size("GYRE_TEST_CELLS", 2000000, 400000, 100000);
  node *ring = ring_new(&plain_type, 2);
  gyre_slot_init(&ring->other, chain_new(&plain_type, n));
  gyre_release(ring);
  TEST_REQUIRE(gyre_gc_collect(2) == (ptrdiff_t)n + 2);
  /* And found alive. */
  node *chain = chain_new(&plain_type, n);
  TEST_REQUIRE(gyre_gc_collect(2) == 0);
  gyre_release(chain);
  return NULL;
}

static void a_chain_of_two_million_nodes_is_collected_on_a_stack_of_64_kib(void **state) {
  (void)state;
  pthread_attr_t attributes;
  pthread_t thread;
  assert_int_equal(pthread_attr_init(&attributes), 0);
  assert_int_equal(pthread_attr_setstacksize(&attributes, 65536), 0);
  assert_int_equal(pthread_create(&thread, &attributes, collect_a_chain, NULL), 0);
  pthread_attr_destroy(&attributes);
  test_thread_join(thread);
}

typedef struct tuple {
  size_t tag;
  GYRE_SLOT(void) items[];
} tuple;
static GYRE_TYPE_DEFINE(tuple_type, tuple, .element_size = sizeof(gyre_slot),
                        .element_slots = GYRE_SLOT_ARRAY);

/* Wider than the mark stack, so that marking has to look through the pages again. */
static void a_live_graph_wider_than_the_mark_stack_stays_whole(void **state) {
  (void)state;
  size_t width = GYRE__MARK_STACK + 5000;
  tuple *t = gyre_new_array(&tuple_type, width);
  node *shared_end = node_new(&node_type, 0);
  for (size_t i = 0; i < width; i++) {
    node *n = chain_new(&node_type, 2);
    GYRE_AUTO(node) next = gyre_load(&n->next);
    gyre_store(&next->other, shared_end);
    gyre_store(&n->other, n);
    gyre_slot_init(&t->items[i], n);
  }
  assert_int_equal(gyre_gc_collect(2), 0);
  assert_int_equal(nodes_destroyed(), 0);
  assert_int_equal(gyre_refcount(shared_end), width + 1);
  gyre__heap_check();
  gyre_store(&shared_end->next, shared_end);
  gyre_release(shared_end);
  gyre_release(t);
  ptrdiff_t found = gyre_gc_collect(2);
  assert_int_equal(found, 2 * width + 1);
  assert_int_equal(nodes_destroyed(), 2 * width + 1);
}

/* ---- layouts ---- */

static void cycles_through_arrays_of_slots_are_found_whatever_their_size(void **state) {
  (void)state;
  static const size_t lengths[] = {1, 2, 100, 8000, 8200, 100000};
  for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
    tuple *t = gyre_new_array(&tuple_type, lengths[i]);
    node *n = node_new(&node_type, 0);
    gyre_store(&t->items[lengths[i] - 1], (void *)n);
    gyre__slot_store(&n->next.gyre__slot, t);
    for (int g = 0; g < 3; g++)
      assert_int_equal(gyre_gc_collect(g), 0);
    gyre_release(n);
    gyre_release(t);
    assert_int_equal(gyre_gc_collect(2), 2);
    assert_int_equal(nodes_destroyed(), i + 1);
  }
}

static void large_garbage_is_found_in_the_generation_it_is_in(void **state) {
  (void)state;
  tuple *t = gyre_new_array(&tuple_type, 50000);
  gyre_store(&t->items[7], (void *)t);
  gyre_release(t);
  assert_int_equal(gyre_gc_collect(0), 1);
  t = gyre_new_array(&tuple_type, 50000);
  gyre_store(&t->items[7], (void *)t);
  assert_int_equal(gyre_gc_collect(0), 0);
  gyre_release(t);
  assert_int_equal(gyre_gc_collect(0), 0);
  assert_int_equal(gyre_gc_collect(1), 1);
}

static void many_large_objects_in_one_ring_are_found(void **state) {
  (void)state;
  tuple *first = gyre_new_array(&tuple_type, 9000), *last = gyre_retain(first);
  for (int i = 1; i < 50; i++) {
    tuple *t = gyre_new_array(&tuple_type, 9000);
    gyre_slot_init(&last->items[8999], (void *)t);
    gyre_release(last);
    last = gyre_retain(t);
  }
  gyre_store(&last->items[0], (void *)first);
  gyre_release(last);
  assert_int_equal(gyre_gc_collect(2), 0);
  gyre_release(first);
  assert_int_equal(gyre_gc_collect(2), 50);
}

typedef struct entry {
  uint64_t hash;
  GYRE_SLOT(struct table) value;
} entry;
typedef struct table {
  size_t used;
  entry entries[];
} table;
static GYRE_TYPE_DEFINE(table_type, table, .element_size = sizeof(entry),
                        .element_slots = GYRE_SLOTS(entry, value));

static void cycles_through_arrays_of_structs_are_found(void **state) {
  (void)state;
  table *t = gyre_new_array(&table_type, 10), *u = gyre_new_array(&table_type, 7);
  for (int i = 0; i < 10; i++) {
    t->entries[i].hash = UINT64_MAX;
    gyre_store(&t->entries[i].value, i % 2 ? t : u);
  }
  gyre_store(&u->entries[6].value, t);
  gyre_release(u);
  assert_int_equal(gyre_gc_collect(2), 0);
  gyre_release(t);
  assert_int_equal(gyre_gc_collect(2), 2);
}

static void leaves_that_garbage_refers_to_are_released(void **state) {
  (void)state;
  node *n = ring_new(&plain_type, 2);
  void *leaf = gyre_new(&leaf_type), *kept = gyre_new(&leaf_type);
  gyre__slot_store(&n->other.gyre__slot, leaf);
  node *next = gyre_load(&n->next);
  gyre__slot_store(&next->other.gyre__slot, kept);
  gyre_release(next);
  gyre_release(leaf);
  gyre_release(n);
  assert_int_equal(gyre_gc_collect(2), 2);
  assert_int_equal(nodes_destroyed(), 1);
  assert_int_equal(gyre_refcount(kept), 1);
  gyre_release(kept);
}

static GYRE_TYPE_DEFINE(shared_type, node, .slots = GYRE_SLOTS(node, next, other),
                        .flags = GYRE_TYPE_SHARED);

static void cycles_of_shared_types_are_found(void **state) {
  (void)state;
  node *n = ring_new(&shared_type, 5);
  assert_int_equal(gyre_gc_collect(2), 0);
  gyre_release(n);
  assert_int_equal(gyre_gc_collect(2), 5);
}

static void what_an_immortal_object_refers_to_lives(void **state) {
  (void)state;
  node *n = ring_new(&node_type, 3);
  gyre_immortalize(n);
  gyre_release(n);
  assert_int_equal(gyre_gc_collect(2), 0);
  make_mortal(n);
  (void)gyre_retain(n); /* the ring's */
  gyre_release(n);
  assert_int_equal(gyre_gc_collect(2), 3);
}

/* ---- visit types ---- */

typedef struct bag {
  size_t count;
  void *at[4];
} bag;

static int bag_visit(void *object, gyre_visitor *visitor, void *arg) {
  bag *b = object;
  for (size_t i = 0; i < b->count; i++) {
    int stop = visitor(b->at[i], arg);
    if (stop != 0) return stop;
  }
  return 0;
}

static void bag_clear(void *object) {
  bag *b = object;
  while (b->count > 0)
    gyre_release(b->at[--b->count]);
}

static GYRE_TYPE_DEFINE(bag_type, bag, .visit = bag_visit, .clear = bag_clear);

/* Steals the reference. */
static void bag_put(bag *b, void *object) {
  gyre_lock(b);
  b->at[b->count++] = object;
  gyre_unlock(b);
}

static void cycles_through_visit_types_are_found(void **state) {
  (void)state;
  bag *b = gyre_new(&bag_type);
  node *n = node_new(&node_type, 0), *kept = node_new(&node_type, 1);
  gyre__slot_store(&n->next.gyre__slot, b);
  bag_put(b, gyre_retain(b));
  bag_put(b, gyre_retain(kept));
  bag_put(b, gyre_new(&leaf_type));
  bag_put(b, n);
  gyre__heap_check();
  assert_int_equal(gyre_gc_collect(2), 0);
  gyre_release(b);
  assert_int_equal(gyre_gc_collect(2), 2);
  assert_int_equal(nodes_destroyed(), 2);
  assert_int_equal(gyre_refcount(kept), 1);
  gyre_release(kept);
}

/* Two bags that hold each other: a clear hook drops a reference to one that is cleared later, or
 * was before. */
static void clear_hooks_may_drop_each_other(void **state) {
  (void)state;
  for (int round = 0; round < 3; round++) {
    bag *a = gyre_new(&bag_type), *b = gyre_new(&bag_type);
    bag_put(a, gyre_retain(b));
    bag_put(a, gyre_retain(b));
    bag_put(b, gyre_retain(a));
    bag_put(b, ring_new(&node_type, 2));
    gyre_release(a);
    gyre_release(b);
    assert_int_equal(gyre_gc_collect(round), 4);
  }
}

static void a_locked_visit_object_lives_and_keeps_what_it_holds(void **state) {
  (void)state;
  bag *b = gyre_new(&bag_type);
  node *ring = ring_new(&node_type, 2);
  bag_put(b, gyre_retain(b));
  bag_put(b, ring);
  gyre_lock(b);
  /* What it holds cannot be looked at, so it counts as held from outside. */
  assert_int_equal(gyre_gc_collect(2), 0);
  assert_int_equal(nodes_destroyed(), 0);
  gyre_unlock(b);
  gyre_release(b);
  assert_int_equal(gyre_gc_collect(2), 3);
}

/* ---- threads ---- */

struct part {
  gyre_type *type;
  node *to; /* steals it */
  node *made;
};

static void make_part(void *arg) {
  struct part *p = arg;
  p->made = node_new(p->type, 0);
  gyre_slot_init(&p->made->next, p->to);
}

#define OWNERS 4

/* A ring with a node of every thread, with one owner that exits, one that is parked, one that runs.
 */
static void a_ring_of_nodes_of_many_threads(gyre_type *type) {
  struct puppet owners[OWNERS];
  for (int i = 0; i < OWNERS; i++)
    puppet_start(&owners[i]);
  node *first = node_new(type, 0);
  node *to = gyre_retain(first);
  for (int i = 0; i < 40; i++) {
    struct part p = {type, to, NULL};
    puppet_run_parked(&owners[i % OWNERS], make_part, &p);
    to = p.made;
  }
  gyre_slot_init(&first->next, to);
  puppet_stop(&owners[0]);
  assert_int_equal(gyre_gc_collect(2), 0);
  gyre__heap_check();
  gyre_release(first);
  assert_int_equal(gyre_gc_collect(2), 41);
  assert_int_equal(nodes_destroyed(), 41);
  for (int i = 1; i < OWNERS; i++)
    puppet_stop(&owners[i]);
}

static void a_ring_across_running_parked_and_exited_owners_is_found(void **state) {
  (void)state;
  a_ring_of_nodes_of_many_threads(&node_type);
}

static void a_ring_with_finalizers_across_owners_is_found(void **state) {
  (void)state;
  a_ring_of_nodes_of_many_threads(&finalized_type);
  assert_int_equal(nodes_finalized(), 41);
}

static void drop_it(void *object) { gyre_release(object); }

static void garbage_queued_for_a_merge_is_found_after_the_merge(void **state) {
  (void)state;
  struct puppet other;
  puppet_start(&other);
  node *n = ring_new(&node_type, 2);
  puppet_run(&other, drop_it, n);
  /* The reference is with the merge request; a collection passes a safepoint first, which serves
   * it. */
  assert_int_equal(gyre_gc_collect(2), 2);
  puppet_stop(&other);
}

/* ---- no memory ---- */

static void a_collection_without_memory_changes_nothing(void **state) {
  (void)state;
#ifndef GYRE_WINDOWS
  skip();
#endif
  /* More than the memory that is kept from one collection to the next is enough for. */
  node *live = ring_new(&plain_type, 300000);
  ring_drop(&finalized_type, 1000);
  int failures = 0;
  for (uint64_t nth = 1;; nth++) {
    struct gyre_gc_stats before = {.size = sizeof before}, after = {.size = sizeof after};
    gyre_gc_get_stats(2, &before);
    gyre__fault_arm(nth, 0);
    ptrdiff_t found = gyre_gc_collect(2);
    bool hit = gyre__fault_count() >= nth;
    gyre__fault_arm(0, 0);
    gyre_gc_get_stats(2, &after);
    if (!hit) {
      assert_int_equal(found, 1000);
      break;
    }
    assert_int_equal(found, -ENOMEM);
    assert_int_equal(nodes_finalized(), 0);
    assert_int_equal(nodes_destroyed(), 0);
    assert_int_equal(after.collections, before.collections);
    gyre__heap_check();
    failures++;
  }
  assert_true(failures >= 1);
  assert_int_equal(nodes_destroyed(), 1000);
  gyre_release(live);
  assert_int_equal(gyre_gc_collect(2), 300000);
}

static void another_generation_is_refused(void **state) {
  (void)state;
  assert_int_equal(gyre_gc_collect(-1), -EINVAL);
  assert_int_equal(gyre_gc_collect(3), -EINVAL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(a_live_heap_has_no_garbage),
      NODE_TEST(rings_of_any_length_are_found),
      NODE_TEST(a_ring_of_a_million_nodes_is_found),
      NODE_TEST(what_hangs_on_a_dead_ring_goes_with_it),
      NODE_TEST(a_ring_that_a_live_object_refers_to_lives),
      NODE_TEST(a_node_that_refers_to_itself_twice_is_found),
      NODE_TEST(rings_that_share_a_node_are_found_together),
      NODE_TEST(a_chain_of_two_million_nodes_is_collected_on_a_stack_of_64_kib),
      NODE_TEST(a_live_graph_wider_than_the_mark_stack_stays_whole),
      NODE_TEST(cycles_through_arrays_of_slots_are_found_whatever_their_size),
      NODE_TEST(large_garbage_is_found_in_the_generation_it_is_in),
      NODE_TEST(many_large_objects_in_one_ring_are_found),
      NODE_TEST(cycles_through_arrays_of_structs_are_found),
      NODE_TEST(leaves_that_garbage_refers_to_are_released),
      NODE_TEST(cycles_of_shared_types_are_found),
      NODE_TEST(what_an_immortal_object_refers_to_lives),
      NODE_TEST(cycles_through_visit_types_are_found),
      NODE_TEST(clear_hooks_may_drop_each_other),
      NODE_TEST(a_locked_visit_object_lives_and_keeps_what_it_holds),
      NODE_TEST(a_ring_across_running_parked_and_exited_owners_is_found),
      NODE_TEST(a_ring_with_finalizers_across_owners_is_found),
      NODE_TEST(garbage_queued_for_a_merge_is_found_after_the_merge),
      NODE_TEST(a_collection_without_memory_changes_nothing),
      NODE_TEST(another_generation_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
