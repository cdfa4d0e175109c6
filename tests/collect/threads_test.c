/* SPDX-License-Identifier: MIT */
/* Collections beside other threads: that collect too, allocate, attach, detach, park, exit. */
#include "tests/support/node.h"
#include "tests/support/puppet.h"

static uint64_t rounds(void) { return test_size("GYRE_TEST_OPS", 300, 100, 60); }

static void *collect_often(void *found) {
  for (uint64_t i = rounds(); i > 0; i--) {
    ring_drop(i % 2 ? &node_type : &finalized_type, 5);
    ptrdiff_t n = gyre_gc_collect((int)(i % 3));
    TEST_REQUIRE(n >= 0);
    /* relaxed: a sum. */
    gyre__fetch_add_relaxed((gyre__atomic_u64 *)found, (uint64_t)n);
  }
  return NULL;
}

static void threads_that_collect_at_once_find_everything_once(void **state) {
  (void)state;
  gyre__atomic_u64 found = {0};
  pthread_t threads[4];
  for (int i = 0; i < 4; i++)
    threads[i] = test_thread_start(collect_often, &found);
  for (int i = 0; i < 4; i++)
    test_thread_join(threads[i]);
  ptrdiff_t last = gyre_gc_collect(2);
  /* relaxed: the threads are gone. */
  assert_int_equal(gyre__load_relaxed(&found) + (uint64_t)last, 4 * 5 * rounds());
  assert_int_equal(nodes_destroyed(), 4 * 5 * rounds());
}

/* What was unreachable at the call has been found when it returns, whoever else collects. */
static void *collect_own(void *arg) {
  (void)arg;
  for (uint64_t i = rounds(); i > 0; i--) {
    node *n = ring_new(&node_type, 3);
    gyre_weak *weak = gyre_weak_new(n, NULL, NULL);
    TEST_REQUIRE(weak != NULL);
    gyre_release(n);
    gyre_gc_collect((int)(i % 3));
    TEST_REQUIRE(gyre_weak_is_dead(weak));
    gyre_weak_free(weak);
  }
  return NULL;
}

static void a_collection_finds_what_was_garbage_at_the_call_whoever_else_collects(void **state) {
  (void)state;
  pthread_t threads[3];
  for (int i = 0; i < 3; i++)
    threads[i] = test_thread_start(collect_own, NULL);
  for (int i = 0; i < 3; i++)
    test_thread_join(threads[i]);
}

static test_flag stop;

static void *short_life(void *arg) {
  node *keep = ring_new(&node_type, 3);
  ring_drop(&node_type, 4);
  void *block = gyre_malloc(1000);
  if (arg != NULL) gyre_thread_detach();
  gyre_release(keep);
  gyre_free(block);
  return NULL;
}

static void *start_threads(void *made) {
  while (!test_flag_get(&stop)) {
    test_thread_run(short_life, NULL);
    test_thread_run(short_life, made);
    /* relaxed: a sum. */
    gyre__fetch_add_relaxed((gyre__atomic_u64 *)made, 14);
    gyre_safepoint();
  }
  return NULL;
}

static void *allocate_and_park(void *made) {
  while (!test_flag_get(&stop)) {
    node *n = ring_new(&node_type, 10);
    gyre_release(chain_new(&node_type, 10));
    GYRE_BLOCKING { sched_yield(); }
    gyre_release(n);
    gyre_thread_detach();
    /* relaxed: a sum. */
    gyre__fetch_add_relaxed((gyre__atomic_u64 *)made, 20);
  }
  return NULL;
}

static void collections_go_on_while_threads_come_and_go(void **state) {
  (void)state;
  gyre__atomic_u64 made = {0};
  test_flag_set(&stop, 0);
  pthread_t threads[4];
  for (int i = 0; i < 4; i++)
    threads[i] = test_thread_start(i % 2 ? start_threads : allocate_and_park, &made);
  for (uint64_t i = rounds(); i > 0; i--) {
    gyre_gc_collect((int)(i % 3));
    if (i % 16 == 0) gyre__heap_check();
  }
  test_flag_set(&stop, 1);
  for (int i = 0; i < 4; i++)
    test_thread_join(threads[i]);
  gyre_gc_collect(2);
  /* relaxed: the threads are gone. */
  assert_int_equal(nodes_destroyed(), gyre__load_relaxed(&made));
}

/* A live structure that another thread changes all the time: nothing of it may be taken for
 * garbage. */
static node *anchor;

static void *rotate(void *arg) {
  (void)arg;
  while (!test_flag_get(&stop)) {
    /* Moves the only reference to a ring from one slot to another, through this thread's hands. */
    node *ring = gyre_take(&anchor->next);
    if (ring != NULL) {
      TEST_REQUIRE(ring->tag < 8);
      gyre_release(gyre_swap(&anchor->other, ring));
    }
    ring = gyre_take(&anchor->other);
    if (ring != NULL) {
      node *next = gyre_load(&ring->next);
      TEST_REQUIRE(next != NULL && next->tag < 8);
      gyre_release(ring);
      gyre_release(gyre_swap(&anchor->next, next));
    }
    gyre_safepoint();
  }
  return NULL;
}

static void what_moves_from_slot_to_slot_lives(void **state) {
  (void)state;
  anchor = node_new(&plain_type, 0);
  gyre_slot_init(&anchor->next, ring_new(&node_type, 8));
  test_flag_set(&stop, 0);
  pthread_t thread = test_thread_start(rotate, NULL);
  for (uint64_t i = 3 * rounds(); i > 0; i--)
    assert_int_equal(gyre_gc_collect((int)(i % 3)), 0);
  test_flag_set(&stop, 1);
  test_thread_join(thread);
  assert_int_equal(nodes_destroyed(), 0);
  gyre_release(anchor);
  assert_int_equal(gyre_gc_collect(2), 8);
}

/* Locks of visit objects change hands while the collector looks at them. */
typedef struct box {
  node *content;
} box;
static int box_visit(void *object, gyre_visitor *visitor, void *arg) {
  node *content = ((box *)object)->content;
  return content != NULL ? visitor(content, arg) : 0;
}
static void box_clear(void *object) { gyre_release(((box *)object)->content); }
static GYRE_TYPE_DEFINE(box_type, box, .visit = box_visit, .clear = box_clear);
static box *common;

static void *replace_content(void *finished) {
  for (uint64_t i = 20 * rounds(); i > 0; i--) {
    node *fresh = ring_new(&node_type, 2);
    gyre_lock(common);
    node *old = common->content;
    common->content = fresh;
    gyre_unlock(common);
    gyre_release(old);
    gyre_lock(common);
    TEST_REQUIRE(common->content->tag < 2);
    gyre_unlock(common);
    gyre_safepoint();
  }
  test_flag_add(finished, 1);
  return NULL;
}

static void a_visit_object_may_be_fought_over_while_collections_go_on(void **state) {
  (void)state;
  test_flag finished = {0};
  common = gyre_new(&box_type);
  pthread_t threads[3];
  for (int i = 0; i < 3; i++)
    threads[i] = test_thread_start(replace_content, &finished);
  for (int i = 0; test_flag_get(&finished) < 3; i++)
    gyre_gc_collect(i % 3);
  for (int i = 0; i < 3; i++)
    test_thread_join(threads[i]);
  gyre_release(common);
  gyre_gc_collect(2);
  assert_int_equal(nodes_destroyed(), 3 * 2 * 20 * rounds());
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(threads_that_collect_at_once_find_everything_once),
      NODE_TEST_WITH(threads_that_collect_at_once_find_everything_once, "gc:0,yield_seed:9"),
      NODE_TEST(a_collection_finds_what_was_garbage_at_the_call_whoever_else_collects),
      NODE_TEST(collections_go_on_while_threads_come_and_go),
      NODE_TEST_WITH(collections_go_on_while_threads_come_and_go, "gc_threshold:50,yield_seed:2"),
      NODE_TEST(what_moves_from_slot_to_slot_lives),
      NODE_TEST_WITH(what_moves_from_slot_to_slot_lives, "gc_threshold:10,yield_seed:4"),
      NODE_TEST(a_visit_object_may_be_fought_over_while_collections_go_on),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
