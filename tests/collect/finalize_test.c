/* SPDX-License-Identifier: MIT */
/* Finalizers of garbage: first for the whole set, once, and what they may do. */
#include <errno.h>

#include "tests/support/node.h"
#include "tests/support/puppet.h"

static node *saved;
static uint64_t destroyed_when_finalized;
static ptrdiff_t nested;

static int finalizer_expects_all_whole(node *n) {
  (void)n;
  destroyed_when_finalized += nodes_destroyed();
  GYRE_AUTO(node) next = gyre_load(&n->next);
  TEST_REQUIRE(next != NULL);
  return 0;
}

static void all_finalizers_run_before_anything_is_taken_apart(void **state) {
  (void)state;
  destroyed_when_finalized = 0;
  node_on_finalize = finalizer_expects_all_whole;
  ring_drop(&finalized_type, 100);
  ring_drop(&node_type, 100);
  ring_drop(&finalized_type, 1);
  assert_int_equal(gyre_gc_collect(2), 201);
  assert_int_equal(nodes_finalized(), 101);
  assert_int_equal(destroyed_when_finalized, 0);
  assert_int_equal(nodes_destroyed(), 201);
}

static int save(node *n) {
  if (n->tag == 0) gyre_store(&saved->other, n);
  return 0;
}

static void garbage_that_its_finalizer_saves_lives_and_is_not_finalized_again(void **state) {
  (void)state;
  saved = node_new(&plain_type, 0);
  node_on_finalize = save;
  ring_drop(&finalized_type, 2);
  assert_int_equal(gyre_gc_collect(2), 0);
  assert_int_equal(nodes_finalized(), 2);
  assert_int_equal(nodes_destroyed(), 0);
  node *n = gyre_load(&saved->other);
  assert_int_equal(n->tag, 0);
  assert_true(gyre_gc_is_finalized(n));
  assert_int_equal(gyre_refcount(n), 3);
  gyre_release(n);
  gyre_clear(&saved->other);
  assert_int_equal(gyre_gc_collect(2), 2);
  assert_int_equal(nodes_finalized(), 2);
  assert_int_equal(nodes_destroyed(), 2);
  gyre_release(saved);
}

static void only_what_was_not_saved_is_counted(void **state) {
  (void)state;
  saved = node_new(&plain_type, 0);
  node_on_finalize = save;
  ring_drop(&finalized_type, 2);
  node *lone = node_new(&finalized_type, 1);
  gyre_store(&lone->next, lone);
  gyre_release(lone);
  assert_int_equal(gyre_gc_collect(2), 1);
  assert_int_equal(nodes_destroyed(), 1);
  gyre_release(saved);
  assert_int_equal(gyre_gc_collect(2), 2);
}

static void what_a_saved_object_reaches_lives_too(void **state) {
  (void)state;
  saved = node_new(&plain_type, 0);
  node_on_finalize = save;
  node *n = ring_new(&finalized_type, 3);
  n->tag = 0;
  gyre_slot_init(&n->other, ring_new(&node_type, 5));
  gyre_release(n);
  node *unrelated = ring_new(&finalized_type, 4);
  for (int i = 0; i < 4; i++) {
    node *next = gyre_load(&unrelated->next);
    unrelated->tag = 9;
    gyre_release(unrelated);
    unrelated = next;
  }
  gyre_release(unrelated);
  assert_int_equal(gyre_gc_collect(2), 4);
  struct gyre_gc_stats stats = {.size = sizeof stats};
  gyre_gc_get_stats(2, &stats);
  assert_true(stats.resurrected >= 8);
  gyre__heap_check();
  gyre_release(saved);
  assert_int_equal(gyre_gc_collect(2), 8);
}

static node *kept_by_thread;
static int save_in_thread(node *n) {
  if (n->tag == 0) kept_by_thread = gyre_retain(n);
  return 0;
}

static void a_saved_object_may_be_dropped_by_its_count_later(void **state) {
  (void)state;
  node_on_finalize = save_in_thread;
  node *n = ring_new(&finalized_type, 2);
  gyre_release(n);
  assert_int_equal(gyre_gc_collect(2), 0);
  gyre_clear(&kept_by_thread->next);
  gyre_release(kept_by_thread);
  while (nodes_destroyed() < 2)
    gyre_safepoint();
  assert_int_equal(nodes_finalized(), 2);
}

typedef struct tuple {
  size_t tag;
  GYRE_SLOT(void) items[];
} tuple;
static tuple *large_kept;
static int save_large(void *object) {
  tuple *t = object;
  if (t->tag == 1) large_kept = gyre_retain(t);
  return 0;
}
static GYRE_TYPE_DEFINE(tuple_type, tuple, .element_size = sizeof(gyre_slot),
                        .element_slots = GYRE_SLOT_ARRAY, .finalize = save_large);

static void a_large_object_may_be_saved(void **state) {
  (void)state;
  for (size_t tag = 0; tag < 2; tag++) {
    tuple *t = gyre_new_array(&tuple_type, 20000);
    t->tag = tag;
    gyre_store(&t->items[0], (void *)t);
    gyre_release(t);
  }
  assert_int_equal(gyre_gc_collect(2), 1);
  assert_int_equal(gyre_refcount(large_kept), 2);
  gyre_release(large_kept);
  assert_int_equal(gyre_gc_collect(2), 1);
}

/* ---- what a finalizer may do ---- */

static int collect_nested(node *n) {
  (void)n;
  for (int g = 0; g < 3; g++)
    nested += gyre_gc_collect(g);
  return 0;
}

static void a_nested_collection_returns_0(void **state) {
  (void)state;
  nested = 0;
  node_on_finalize = collect_nested;
  ring_drop(&finalized_type, 3);
  assert_int_equal(gyre_gc_collect(2), 3);
  assert_int_equal(nested, 0);
  assert_int_equal(nodes_finalized(), 3);
}

static void collect_in_destroy(node *n) {
  (void)n;
  nested += gyre_gc_collect(2);
}

static void a_collection_from_a_destroy_hook_of_garbage_returns_0(void **state) {
  (void)state;
  nested = 0;
  node_on_destroy = collect_in_destroy;
  ring_drop(&node_type, 3);
  assert_int_equal(gyre_gc_collect(2), 3);
  assert_int_equal(nested, 0);
}

static int collect_on_count_path(node *n) {
  (void)n;
  nested += gyre_gc_collect(2);
  return 0;
}

static void a_finalizer_on_the_count_path_may_collect(void **state) {
  (void)state;
  nested = 0;
  node_on_finalize = collect_on_count_path;
  ring_drop(&plain_type, 7);
  node *n = node_new(&finalized_type, 0);
  gyre_slot_init(&n->next, ring_new(&node_type, 2));
  gyre_release(n);
  assert_int_equal(nested, 7);
  assert_int_equal(nodes_destroyed(), 1);
  assert_int_equal(gyre_gc_collect(2), 2);
}

static int fail_always(node *n) { return n->tag == 0 ? 0 : -7; }

static void a_failing_finalizer_is_reported_and_the_collection_goes_on(void **state) {
  (void)state;
  node_on_finalize = fail_always;
  test_log_capture();
  ring_drop(&finalized_type, 3);
  assert_int_equal(gyre_gc_collect(2), 3);
  assert_int_equal(test_log_count("returned -7"), 2);
  assert_int_equal(nodes_destroyed(), 3);
}

static int drop_the_others(node *n) {
  gyre_clear(&n->next);
  gyre_clear(&n->other);
  return 0;
}

static void a_finalizer_may_take_its_ring_apart(void **state) {
  (void)state;
  node_on_finalize = drop_the_others;
  ring_drop(&finalized_type, 1000);
  /* All of it was unreachable and went. */
  assert_int_equal(gyre_gc_collect(2), 1000);
  assert_int_equal(nodes_finalized(), 1000);
  assert_int_equal(nodes_destroyed(), 1000);
}

static int replace_next(node *n) {
  node *fresh = node_new(&node_type, 99);
  gyre_store(&fresh->next, n);
  gyre_release(gyre_swap(&n->next, fresh));
  ring_drop(&plain_type, 3);
  return 0;
}

static void a_finalizer_may_hang_new_objects_on_garbage(void **state) {
  (void)state;
  node_on_finalize = replace_next;
  ring_drop(&finalized_type, 2);
  /* The new ones are no members of the set, so what they refer to counts as saved. */
  assert_int_equal(gyre_gc_collect(2), 0);
  assert_int_equal(gyre_gc_collect(2), 4 + 6);
  assert_int_equal(nodes_finalized(), 2);
  assert_int_equal(nodes_destroyed(), 4);
}

static void *make_garbage(void *arg) {
  (void)arg;
  for (int i = 0; i < 50; i++) {
    ring_drop(&node_type, 3);
    gyre_safepoint();
  }
  return NULL;
}

static int start_a_thread(node *n) {
  (void)n;
  test_thread_run(make_garbage, NULL);
  return 0;
}

static void a_finalizer_may_start_and_join_threads(void **state) {
  (void)state;
  node_on_finalize = start_a_thread;
  ring_drop(&finalized_type, 3);
  assert_int_equal(gyre_gc_collect(2), 3);
  gyre_gc_collect(2);
  assert_int_equal(nodes_destroyed(), 3 + 3 * 150);
}

static tuple *live_large;
static int drop_live_large(node *n) {
  (void)n;
  tuple *t = live_large;
  live_large = NULL;
  gyre_release(t);
  /* Its memory goes back after a grace period, in the middle of the collection. */
  for (int i = 0; i < 3; i++)
    gyre_synchronize();
  gyre_safepoint();
  gyre_purge();
  return 0;
}

static void a_finalizer_may_free_large_objects_that_the_collection_looked_at(void **state) {
  (void)state;
  live_large = gyre_new_array(&tuple_type, 200000);
  node_on_finalize = drop_live_large;
  ring_drop(&finalized_type, 2);
  assert_int_equal(gyre_gc_collect(2), 2);
}

static int release_and_purge(node *n) {
  (void)n;
  gyre_clear(&saved->next);
  gyre_synchronize();
  gyre_purge();
  return 0;
}

static void a_finalizer_may_free_live_pages_that_the_collection_looked_at(void **state) {
  (void)state;
  saved = node_new(&plain_type, 0);
  gyre_slot_init(&saved->next, chain_new(&plain_type, 20000));
  node_on_finalize = release_and_purge;
  ring_drop(&finalized_type, 2);
  assert_int_equal(gyre_gc_collect(2), 2);
  gyre_release(saved);
}

static int lock_a_mutex(node *n) {
  (void)n;
  gyre_lock(saved);
  saved->tag++;
  gyre_unlock(saved);
  return 0;
}

static void take_lock(void *arg) {
  (void)arg;
  gyre_lock(saved);
}
static void give_lock(void *arg) {
  (void)arg;
  gyre_unlock(saved);
}
static void collect(void *result) { *(ptrdiff_t *)result = gyre_gc_collect(2); }

/* The thread that triggers a collection holds the lock; it lets go while the finalizer, elsewhere,
 * waits. */
static void a_finalizer_may_wait_for_a_lock_of_another_thread(void **state) {
  (void)state;
  saved = node_new(&plain_type, 0);
  node_on_finalize = lock_a_mutex;
  ring_drop(&finalized_type, 2);
  struct puppet holder, collector;
  puppet_start(&holder);
  puppet_start(&collector);
  puppet_run(&holder, take_lock, NULL);
  ptrdiff_t found = -1;
  puppet_begin(&collector, collect, &found);
  TEST_AWAIT_SAFELY(nodes_finalized() == 1);
  puppet_run_parked(&holder, give_lock, NULL);
  puppet_await(&collector);
  assert_int_equal(found, 2);
  assert_int_equal(saved->tag, 2);
  puppet_stop(&holder);
  puppet_stop(&collector);
  gyre_release(saved);
}

static pthread_t finalizer_thread;
static int note_thread(node *n) {
  (void)n;
  finalizer_thread = pthread_self();
  return 0;
}
static void make_ring(void *arg) {
  (void)arg;
  ring_drop(&finalized_type, 2);
}

static void finalizers_of_garbage_run_in_the_collecting_thread(void **state) {
  (void)state;
  struct puppet other;
  puppet_start(&other);
  node_on_finalize = note_thread;
  puppet_run(&other, make_ring, NULL);
  assert_int_equal(gyre_gc_collect(2), 2);
  assert_true(pthread_equal(finalizer_thread, pthread_self()));
  ring_drop(&finalized_type, 2);
  ptrdiff_t found = 0;
  puppet_run_parked(&other, collect, &found);
  assert_int_equal(found, 2);
  assert_true(pthread_equal(finalizer_thread, other.thread));
  puppet_stop(&other);
}

/* The others run while finalizers do. */
static test_flag other_has_run;
static int wait_for_the_other(node *n) {
  (void)n;
  TEST_AWAIT_SAFELY(test_flag_get(&other_has_run));
  return 0;
}
static void run_along(void *arg) {
  (void)arg;
  /* Starts when the collection's first pause is over. */
  TEST_AWAIT_SAFELY(nodes_finalized() > 0);
  for (int i = 0; i < 1000; i++)
    gyre_release(node_new(&plain_type, 0));
  test_flag_set(&other_has_run, 1);
}

static void the_other_threads_run_while_finalizers_do(void **state) {
  (void)state;
  struct puppet other;
  puppet_start(&other);
  test_flag_set(&other_has_run, 0);
  node_on_finalize = wait_for_the_other;
  ring_drop(&finalized_type, 2);
  puppet_begin(&other, run_along, NULL);
  assert_int_equal(gyre_gc_collect(2), 2);
  puppet_await(&other);
  puppet_stop(&other);
}

static int save_every_time(node *n) {
  gyre_store(&saved->next, n);
  return 0;
}

static void finalized_garbage_can_be_saved_by_other_finalizers_again_and_again(void **state) {
  (void)state;
  saved = node_new(&plain_type, 0);
  node_on_finalize = save_every_time;
  for (int i = 0; i < 10; i++) {
    /* The ring of last time is in the hands of a new one's finalizer. */
    node *n = ring_new(&finalized_type, 1);
    gyre_store(&n->other, gyre_take(&saved->next));
    node *other = gyre_load(&n->other);
    gyre_release(other);
    gyre_release(other); /* the one taken */
    gyre_release(n);
    assert_int_equal(gyre_gc_collect(2), 0);
    assert_int_equal(nodes_finalized(), (uint64_t)i + 1);
  }
  gyre_release(saved);
  assert_int_equal(gyre_gc_collect(2), 10);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(all_finalizers_run_before_anything_is_taken_apart),
      NODE_TEST(garbage_that_its_finalizer_saves_lives_and_is_not_finalized_again),
      NODE_TEST(only_what_was_not_saved_is_counted),
      NODE_TEST(what_a_saved_object_reaches_lives_too),
      NODE_TEST(a_saved_object_may_be_dropped_by_its_count_later),
      NODE_TEST(a_large_object_may_be_saved),
      NODE_TEST(a_nested_collection_returns_0),
      NODE_TEST(a_collection_from_a_destroy_hook_of_garbage_returns_0),
      NODE_TEST(a_finalizer_on_the_count_path_may_collect),
      NODE_TEST(a_failing_finalizer_is_reported_and_the_collection_goes_on),
      NODE_TEST(a_finalizer_may_take_its_ring_apart),
      NODE_TEST(a_finalizer_may_hang_new_objects_on_garbage),
      NODE_TEST(a_finalizer_may_start_and_join_threads),
      NODE_TEST(a_finalizer_may_free_large_objects_that_the_collection_looked_at),
      NODE_TEST(a_finalizer_may_free_live_pages_that_the_collection_looked_at),
      NODE_TEST(a_finalizer_may_wait_for_a_lock_of_another_thread),
      NODE_TEST(finalizers_of_garbage_run_in_the_collecting_thread),
      NODE_TEST(the_other_threads_run_while_finalizers_do),
      NODE_TEST(finalized_garbage_can_be_saved_by_other_finalizers_again_and_again),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
