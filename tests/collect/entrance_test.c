/* SPDX-License-Identifier: MIT */
/* Looks behind entrances: a thread finds old cycles of its own when it gives up their last count. */
#include <string.h>

#include "lib/collect/collect.h"
#include "tests/support/node.h"
#include "tests/support/puppet.h"
#include "tests/support/window.h"

static void look_young(void) { gyre__young_collect(gyre__objects_self(), true); }

/* Behind everything that was noted. */
static void look_behind(void) {
  for (int i = 0; i < 2000; i++)
    gyre__young_look(gyre__objects_self(), true);
}

/* A ring that has been promoted. */
static node *old_ring(gyre_type *type, size_t n) {
  node *ring = ring_new(type, n);
  look_young();
  return ring;
}

static uint64_t traced(void) {
  struct gyre_gc_stats middle = {.size = sizeof middle}, full = {.size = sizeof full};
  gyre_gc_get_stats(1, &middle);
  gyre_gc_get_stats(2, &full);
  return middle.collections + full.collections;
}

/* ---- what is found ---- */

static void an_old_ring_dies_when_its_last_count_is_given_up(void **state) {
  (void)state;
  node *ring = old_ring(&node_type, 5);
  look_behind();
  assert_int_equal(nodes_destroyed(), 0);
  uint64_t before = traced();
  gyre_release(ring);
  look_behind();
  assert_int_equal(nodes_destroyed(), 5);
  assert_int_equal(traced(), before);
}

static void what_hangs_on_it_goes_with_it_and_what_lives_is_only_released(void **state) {
  (void)state;
  node *lives = node_new(&node_type, 7), *ring = ring_new(&node_type, 3);
  gyre_store(&ring->other, chain_new(&node_type, 4));
  gyre_release(gyre_load(&ring->other)); /* the ring has it alone now */
  node *last = gyre_load(&ring->next);
  gyre_store(&last->other, lives);
  gyre_release(last);
  look_young();
  node *chain = gyre_load(&ring->other);
  gyre_release(chain);
  gyre_release(chain); /* what chain_new() left to us */
  look_behind();
  assert_int_equal(nodes_destroyed(), 0);
  gyre_release(ring);
  look_behind();
  assert_int_equal(nodes_destroyed(), 3 + 4);
  assert_int_equal(gyre_refcount(lives), 1);
  gyre_release(lives);
}

/* Types with slots in different places, followed one after the other. */
typedef struct wide {
  uint64_t head[5];
  GYRE_SLOT(void) first;
  uint64_t middle[3];
  GYRE_SLOT(void) second;
} wide;
static GYRE_TYPE_DEFINE(wide_type, wide, .slots = GYRE_SLOTS(wide, first, second));

typedef struct tuple {
  uint64_t tag;
  GYRE_SLOT(void) items[];
} tuple;
static GYRE_TYPE_DEFINE(tuple_type, tuple, .element_size = sizeof(gyre_slot),
                        .element_slots = GYRE_SLOT_ARRAY);

static void cycles_of_objects_of_many_types_are_found(void **state) {
  (void)state;
  for (int round = 0; round < 3; round++) {
    wide *w = gyre_new(&wide_type);
    tuple *t = gyre_new_array(&tuple_type, 40);
    memset(w->head, 0xEE, sizeof w->head);
    memset(w->middle, 0xEE, sizeof w->middle);
    t->tag = UINT64_MAX;
    for (int i = 0; i < 40; i++) {
      node *n = node_new(&node_type, UINT64_MAX);
      gyre_slot_store(&t->items[i].gyre__slot, n);
      gyre_slot_store(&n->next.gyre__slot, w);
      gyre_slot_store(&n->other.gyre__slot, t);
      gyre_release(n);
    }
    gyre_store(&w->first, t);
    gyre_store(&w->second, w);
    gyre_release(t);
    look_young();
    uint64_t before = nodes_destroyed();
    look_behind();
    assert_int_equal(nodes_destroyed(), before);
    gyre_release(w);
    look_behind();
    assert_int_equal(nodes_destroyed(), before + 40);
  }
}

/* Leaves with and without a hook, which a look comes upon behind an old ring. */
typedef struct bare {
  uint64_t tag[4];
} bare;
static gyre_type bare_type = {.name = "bare", .size = sizeof(bare)};

static void leaves_behind_a_ring_are_freed_as_what_they_are(void **state) {
  (void)state;
  for (int round = 0; round < 100; round++) {
    node *ring = ring_new(&plain_type, 2);
    bare *leaf = gyre_new(&bare_type);
    gyre_store(&ring->other, (node *)(void *)leaf);
    gyre_release(leaf);
    node *second = gyre_load(&ring->next);
    void *hooked = gyre_new(&leaf_type);
    gyre_store(&second->other, (node *)hooked);
    gyre_release(hooked);
    gyre_release(second);
    look_young();
    gyre_release(ring);
    look_behind();
    assert_int_equal(nodes_destroyed(), round + 1);
    test_check();
  }
}

static void an_object_that_lives_is_looked_at_each_time_it_is_dropped(void **state) {
  (void)state;
  node *ring = old_ring(&node_type, 3), *holder = node_new(&plain_type, 0);
  gyre_store(&holder->next, ring);
  gyre_release(ring);
  for (int i = 0; i < 50; i++) {
    node *n = gyre_load(&holder->next);
    look_behind();
    gyre_release(n);
    look_behind();
    assert_int_equal(nodes_destroyed(), 0);
  }
  gyre_clear(&holder->next);
  look_behind();
  assert_int_equal(nodes_destroyed(), 3);
  gyre_release(holder);
}

static void many_are_found_at_once_at_safepoints(void **state) {
  (void)state;
  enum { RINGS = 5000 };
  static node *rings[RINGS];
  for (int i = 0; i < RINGS; i++)
    rings[i] = ring_new(&node_type, 4);
  look_young();
  gyre_gc_collect(2);
  uint64_t before = traced();
  for (int i = 0; i < RINGS; i++)
    gyre_release(rings[i]);
  for (int i = 0; i < 2 * RINGS / 64 && nodes_destroyed() < 4 * RINGS; i++)
    gyre_safepoint();
  look_behind();
  assert_int_equal(nodes_destroyed(), 4 * RINGS);
  assert_int_equal(traced(), before);
}

/* ---- what is not ---- */

static void finalizers_and_weak_references_are_the_collectors(void **state) {
  (void)state;
  node *ring = old_ring(&finalized_type, 3), *referred = old_ring(&node_type, 3);
  gyre_weak *weak = gyre_weak_new(referred, NULL, NULL);
  gyre_release(ring);
  gyre_release(referred);
  look_behind();
  assert_int_equal(nodes_finalized() + nodes_destroyed(), 0);
  assert_false(gyre_weak_is_dead(weak));
  assert_int_equal(gyre_gc_collect(2), 6);
  assert_true(gyre_weak_is_dead(weak));
  gyre_weak_free(weak);
}

static node *passed;

static void retain_and_release(void *arg) {
  (void)arg;
  gyre_retain(passed);
  gyre_release(passed);
}

static void what_others_have_counted_is_the_collectors(void **state) {
  (void)state;
  struct puppet other;
  puppet_start(&other);
  passed = old_ring(&node_type, 3);
  puppet_run(&other, retain_and_release, NULL);
  gyre_release(passed);
  look_behind();
  assert_int_equal(nodes_destroyed(), 0);
  puppet_stop(&other);
  assert_int_equal(gyre_gc_collect(2), 3);
}

static void what_is_too_large_for_a_look_is_the_collectors(void **state) {
  (void)state;
  node *ring = ring_new(&node_type, 100000);
  look_young();
  gyre_gc_collect(2);
  gyre_release(ring);
  look_behind();
  assert_int_equal(nodes_destroyed(), 0);
  assert_int_equal(gyre_gc_collect(2), 100000);
}

/* ---- notes that have come to nothing ---- */

static void an_entrance_may_be_gone_when_it_is_looked_at(void **state) {
  (void)state;
  enum { OBJECTS = 3000 };
  static node *objects[OBJECTS];
  for (int round = 0; round < 4; round++) {
    for (int i = 0; i < OBJECTS; i++)
      objects[i] = node_new(&node_type, 0);
    look_young();
    for (int i = 0; i < OBJECTS; i++) {
      gyre_release(gyre_retain(objects[i])); /* noted */
      gyre_release(objects[i]);              /* and dead */
    }
    /* In its place there may be anything now, or nothing. */
    if (round % 2 == 0) gyre_purge();
    for (int i = 0; i < OBJECTS; i++)
      objects[i] = round % 3 == 0 ? (node *)gyre_malloc(sizeof(node) + GYRE_HEADER_SIZE)
                                  : node_new(&node_type, 1);
    look_behind();
    for (int i = 0; i < OBJECTS; i++) {
      if (round % 3 == 0)
        gyre_free(objects[i]);
      else
        gyre_release(objects[i]);
    }
  }
  assert_int_equal(nodes_destroyed(), OBJECTS * 6);
}

static void a_collection_may_have_been_there_before(void **state) {
  (void)state;
  node *ring = old_ring(&node_type, 10);
  gyre_release(ring);
  assert_int_equal(gyre_gc_collect(2), 10);
  look_behind();
  node *more = ring_new(&node_type, 10); /* in the same blocks */
  look_behind();
  gyre_release(more);
  look_young();
  assert_int_equal(nodes_destroyed(), 20);
}

static void *leaves_notes(void *arg) {
  (void)arg;
  node *ring = old_ring(&node_type, 6);
  gyre_release(ring);
  return NULL;
}

static void *looks_as_heir(void *arg) {
  (void)arg;
  gyre_thread_attach();
  look_behind();
  return NULL;
}

static void an_heir_looks_behind_what_was_noted_before_it(void **state) {
  (void)state;
  test_thread_run(leaves_notes, NULL);
  uint64_t before = traced();
  test_thread_run(looks_as_heir, NULL);
  if (nodes_destroyed() == 0) gyre_gc_collect(2); /* another slot was inherited */
  assert_int_equal(nodes_destroyed(), 6);
  assert_true(traced() <= before + 1);
}

/* ---- beside a collection ---- */

static void *collects_as_subject(void *arg) {
  (void)arg;
  gyre_thread_attach();
  test_window_subject();
  return (void *)(uintptr_t)gyre_gc_collect(2);
}

/* The collector is held at the window, and answers nobody; we answer it before. */
static void drop_and_look_at(const char *window) {
  node *ring = old_ring(&node_type, 8), *kept = old_ring(&node_type, 3);
  uint64_t before = nodes_destroyed();
  test_window_hold(window, 1);
  pthread_t collector = test_thread_start(collects_as_subject, NULL);
  while (!test_window_is_held()) {
    gyre_safepoint();
    (void)sched_yield();
  }
  gyre_safepoint();
  gyre_release(ring);
  gyre_release(gyre_retain(kept));
  look_behind();
  test_window_release();
  GYRE_BLOCKING { (void)pthread_join(collector, NULL); }
  gyre_safepoint();
  look_behind();
  gyre_gc_collect(2);
  assert_int_equal(nodes_destroyed(), before + 8);
  for (int i = 0; i < 3; i++) {
    node *next = gyre_load(&kept->next);
    gyre_release(kept);
    kept = next;
  }
  gyre_release(kept);
  look_behind();
  assert_int_equal(nodes_destroyed(), before + 11);
}

static void looks_and_a_collection_do_not_harm_each_other(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  static const char *const windows[] = {"collect/pinned", "collect/found", "prove/counted",
                                        "prove/logged",   "collect/freed", "collect/idle"};
  for (size_t i = 0; i < sizeof windows / sizeof windows[0]; i++) {
    gyre_release(old_ring(&plain_type, 2)); /* so that there is something to prove */
    drop_and_look_at(windows[i]);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(an_old_ring_dies_when_its_last_count_is_given_up),
      NODE_TEST(what_hangs_on_it_goes_with_it_and_what_lives_is_only_released),
      NODE_TEST(cycles_of_objects_of_many_types_are_found),
      NODE_TEST(leaves_behind_a_ring_are_freed_as_what_they_are),
      NODE_TEST(an_object_that_lives_is_looked_at_each_time_it_is_dropped),
      NODE_TEST_WITH(many_are_found_at_once_at_safepoints, "gc:1,gc_threshold:2000/1000/1000"),
      NODE_TEST(finalizers_and_weak_references_are_the_collectors),
      NODE_TEST(what_others_have_counted_is_the_collectors),
      NODE_TEST(what_is_too_large_for_a_look_is_the_collectors),
      NODE_TEST(an_entrance_may_be_gone_when_it_is_looked_at),
      NODE_TEST_WITH(an_entrance_may_be_gone_when_it_is_looked_at, "gc:0,purge_delay_ms:0"),
      NODE_TEST(a_collection_may_have_been_there_before),
      NODE_TEST(an_heir_looks_behind_what_was_noted_before_it),
      NODE_TEST_WITH(looks_and_a_collection_do_not_harm_each_other, "gc:0,gc_mode:concurrent"),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
