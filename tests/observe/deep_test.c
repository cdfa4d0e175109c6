/* SPDX-License-Identifier: MIT */
/* gyre_sizeof_deep(): each object once, whatever refers to it. */
#include <errno.h>
#include <string.h>

#include <gyre/stats.h>

#include "tests/support/node.h"

typedef struct row {
  size_t tag;
  GYRE_SLOT(node) items[];
} row;
static GYRE_TYPE_DEFINE(row_type, row, .element_size = sizeof(gyre_slot),
                        .element_slots = GYRE_SLOT_ARRAY);
static gyre_type bytes_type = {.name = "bytes", .size = 8, .element_size = 1};

static ptrdiff_t deep(const void *object) { return gyre_sizeof_deep(object, NULL, NULL); }

static void an_object_alone_has_the_size_asked_for(void **state) {
  (void)state;
  void *bytes = gyre_new_array(&bytes_type, 13);
  assert_int_equal(gyre_sizeof(bytes), 21);
  assert_int_equal(deep(bytes), 21);
  assert_int_equal(gyre_refcount(bytes), 1);
  gyre_release(bytes);
  assert_int_equal(gyre_sizeof_deep(NULL, NULL, NULL), -EINVAL);
}

static void shared_parts_count_once(void **state) {
  (void)state;
  node *a = node_new(&plain_type, 0), *b = node_new(&plain_type, 1);
  void *leaf = gyre_new(&leaf_type);
  gyre_store(&a->next, b);
  gyre_store(&a->other, b);
  gyre__slot_store((gyre_slot *)(void *)&b->next, leaf);
  gyre__slot_store((gyre_slot *)(void *)&b->other, leaf);
  assert_int_equal(deep(a), 2 * sizeof(node) + 24);
  assert_int_equal(deep(b), sizeof(node) + 24);
  row *r = gyre_new_array(&row_type, 100);
  for (int i = 0; i < 100; i += 2)
    gyre_store(&r->items[i], i % 4 ? a : b);
  assert_int_equal(deep(r), sizeof(row) + 100 * sizeof(gyre_slot) + 2 * sizeof(node) + 24);
  gyre_release(r);
  gyre_release(leaf);
  gyre_release(b);
  assert_int_equal(gyre_refcount(a), 1);
  gyre_release(a);
}

static void cycles_end(void **state) {
  (void)state;
  node *ring = ring_new(&node_type, 1000);
  assert_int_equal(deep(ring), 1000 * sizeof(node));
  assert_int_equal(gyre_refcount(ring), 2);
  gyre_release(ring);
  assert_int_equal(gyre_gc_collect(2), 1000);
}

/* ---- stopping ---- */

static int stop_at(const void *object, void *arg) {
  const node *n = object;
  /* No lock is held. */
  gyre_safepoint();
  return n->tag == *(const uint64_t *)arg;
}

static void what_only_a_stopped_object_leads_to_is_left_out(void **state) {
  (void)state;
  node *chain = chain_new(&plain_type, 10);
  uint64_t at = 4;
  assert_int_equal(gyre_sizeof_deep(chain, stop_at, &at), 4 * sizeof(node));
  /* The object itself is not asked about. */
  at = 0;
  assert_int_equal(gyre_sizeof_deep(chain, stop_at, &at), 10 * sizeof(node));
  /* Another way round it. */
  node *second = gyre_load(&chain->next), *last = second;
  (void)gyre_retain(last);
  for (node *next; (next = gyre_load(&last->next)) != NULL; last = next)
    gyre_release(last);
  gyre_store(&second->other, last);
  at = 4;
  assert_int_equal(gyre_sizeof_deep(chain, stop_at, &at), 5 * sizeof(node));
  gyre_release(last);
  gyre_release(second);
  gyre_release(chain);
}

/* ---- types with a visit function ---- */

typedef struct bag {
  size_t count;
  void **items; /* a raw block of counted references */
} bag;

static int bag_visit(void *object, gyre_visitor *visitor, void *arg) {
  bag *b = object;
  for (size_t i = 0; i < b->count; i++) {
    int stop = visitor(b->items[i], arg);
    if (stop != 0) return stop;
  }
  return 0;
}
static void bag_clear(void *object) {
  bag *b = object;
  while (b->count > 0)
    gyre_release(b->items[--b->count]);
  gyre_free(b->items);
}
static gyre_type bag_type = {
    .name = "bag", .size = sizeof(bag), .visit = bag_visit, .clear = bag_clear};

static void what_visit_reports_is_followed(void **state) {
  (void)state;
  bag *b = gyre_new(&bag_type);
  enum { ITEMS = 3000 }; /* more than the walk has room for at first */
  gyre_lock(b);
  b->items = gyre_calloc(ITEMS, sizeof(void *));
  for (size_t i = 0; i < ITEMS; i++)
    b->items[b->count++] = i % 3 == 2 ? NULL : node_new(&plain_type, i);
  gyre_store(&((node *)b->items[0])->next, (node *)b->items[1]);
  gyre_unlock(b);
  assert_int_equal(deep(b), sizeof(bag) + ITEMS / 3 * 2 * sizeof(node));
  node *outside = node_new(&plain_type, 1);
  gyre__slot_store((gyre_slot *)(void *)&outside->next, b);
  assert_int_equal(deep(outside), sizeof(bag) + (ITEMS / 3 * 2 + 1) * sizeof(node));
  for (size_t i = 0; i < ITEMS; i++)
    if (b->items[i] != NULL) assert_int_equal(gyre_refcount(b->items[i]), i == 1 ? 2 : 1);
  gyre_release(outside);
  gyre_release(b);
}

/* ---- size and threads ---- */

static void *measure(void *chain) { return (void *)(uintptr_t)deep(chain); }

/* test_thread_run() has a small stack. */
static void a_chain_of_a_million_needs_no_stack(void **state) {
  (void)state;
  size_t n = test_size("GYRE_TEST_CHAIN", 1000000, 100000, 50000);
  node *chain = chain_new(&plain_type, n);
  assert_int_equal((uintptr_t)test_thread_run(measure, chain), n * sizeof(node));
  gyre_release(chain);
  while (gyre_gc_collect(2) > 0)
    gyre_safepoint();
}

static test_flag done;

static void *rewire(void *arg) {
  node *root = arg;
  while (!test_flag_get(&done)) {
    node *n = chain_new(&finalized_type, 3);
    gyre_store(&root->next, n);
    gyre_release(n);
    gyre_clear(&root->other);
    gyre_store(&root->other, root);
    gyre_safepoint();
  }
  gyre_clear(&root->next);
  gyre_clear(&root->other);
  return NULL;
}

static void others_may_change_it_meanwhile(void **state) {
  (void)state;
  enum { THREADS = 4 };
  test_flag_set(&done, 0);
  pthread_t threads[THREADS];
  node *root = node_new(&plain_type, 0);
  for (int i = 0; i < THREADS; i++)
    threads[i] = test_thread_start(rewire, root);
  for (uint64_t i = test_size("GYRE_TEST_DEEP", 5000, 500, 200); i > 0; i--) {
    assert_in_range(deep(root), sizeof(node), 4 * sizeof(node));
    gyre_safepoint();
  }
  test_flag_set(&done, 1);
  for (int i = 0; i < THREADS; i++)
    (void)test_thread_join(threads[i]);
  gyre_release(root);
  gyre_safepoint();
  while (gyre_gc_collect(2) > 0) {
  }
  assert_int_equal(nodes_finalized(), nodes_destroyed());
}

static void without_memory_nothing_is_changed(void **state) {
  (void)state;
#ifndef GYRE_WINDOWS
  skip();
#endif
  node *chain = chain_new(&plain_type, 2000);
  ptrdiff_t result = 0;
  unsigned failures = 0;
  for (uint64_t nth = 1; result != 2000 * (ptrdiff_t)sizeof(node); nth++) {
    gyre__fault_arm(nth, 0);
    result = deep(chain);
    gyre__fault_arm(0, 0);
    if (result < 0) assert_int_equal(result, -ENOMEM);
    failures += result < 0;
    assert_int_equal(gyre_refcount(chain), 1);
    assert_int_equal(gyre_total_refs(), 2000);
  }
  assert_true(failures >= 3); /* the table grows */
  gyre_release(chain);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(an_object_alone_has_the_size_asked_for),
      NODE_TEST(shared_parts_count_once),
      NODE_TEST(cycles_end),
      NODE_TEST(what_only_a_stopped_object_leads_to_is_left_out),
      NODE_TEST(what_visit_reports_is_followed),
      NODE_TEST(a_chain_of_a_million_needs_no_stack),
      NODE_TEST(others_may_change_it_meanwhile),
      NODE_TEST(without_memory_nothing_is_changed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
