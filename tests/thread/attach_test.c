/* SPDX-License-Identifier: MIT */
/* Attaching, detaching, and inheriting slots. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "lib/thread/thread.h"
#include "tests/support/node.h"
#include "tests/support/support.h"

/* ---- attaching ---- */

static void *attaches_by_allocating(void *arg) {
  (void)arg;
  TEST_REQUIRE(gyre_thread_current() == NULL);
  node *n = node_new(&plain_type, 1);
  TEST_REQUIRE(gyre_thread_current() != NULL);
  TEST_REQUIRE(gyre_thread_current()->id != 0);
  gyre_release(n);
  return NULL;
}

static void a_thread_attaches_at_its_first_allocation_and_detaches_at_its_end(void **state) {
  (void)state;
  test_thread_run(attaches_by_allocating, NULL);
  assert_int_equal(test_thread_stats().attached, 0);
}

static void *attaches_by_releasing(void *n) {
  TEST_REQUIRE(gyre_thread_current() == NULL);
  gyre_release(n);
  TEST_REQUIRE(gyre_thread_current() != NULL);
  return NULL;
}

static void a_thread_attaches_at_its_first_release(void **state) {
  (void)state;
  node *n = node_new(&plain_type, 1);
  test_thread_run(attaches_by_releasing, gyre_retain(n));
  assert_int_equal(gyre_refcount(n), 1);
  gyre_release(n);
  gyre_safepoint();
}

static void *attaches_by_retaining(void *n) {
  TEST_REQUIRE(gyre_thread_current() == NULL);
  void *mine = gyre_retain((node *)n);
  TEST_REQUIRE(mine == n && gyre_thread_current() != NULL);
  return mine;
}

static void a_thread_attaches_at_its_first_retain(void **state) {
  (void)state;
  node *n = node_new(&plain_type, 1);
  assert_ptr_equal(test_thread_run(attaches_by_retaining, n), n);
  assert_int_equal(gyre_refcount(n), 2);
  gyre_release(n);
  gyre_release(n);
}

static void *attaches_by_loading(void *n) {
  TEST_REQUIRE(gyre_thread_current() == NULL);
  void *mine = gyre_load(&((node *)n)->next);
  TEST_REQUIRE(mine != NULL && gyre_thread_current() != NULL);
  return mine;
}

static void a_thread_attaches_at_its_first_load(void **state) {
  (void)state;
  node *n = chain_new(&plain_type, 2);
  gyre_release(test_thread_run(attaches_by_loading, n));
  gyre_release(n);
}

static void attaching_twice_gives_the_same_handle(void **state) {
  (void)state;
  assert_null(gyre_thread_current());
  gyre_thread *self = gyre_thread_attach();
  assert_non_null(self);
  assert_ptr_equal(gyre_thread_attach(), self);
  assert_ptr_equal(gyre_thread_current(), self);
  assert_int_equal(test_thread_stats().attached, 1);
}

static void detaching_and_attaching_again_inherits_what_was_left(void **state) {
  (void)state;
  uint32_t id = gyre_thread_attach()->id;
  node *n = node_new(&plain_type, 7);
  gyre_thread_detach();
  assert_null(gyre_thread_current());
  assert_int_equal(test_thread_stats().attached, 0);
  gyre_thread_detach(); /* does nothing */
  assert_int_equal(gyre_thread_attach()->id, id);
  assert_int_equal(gyre_refcount(n), 1);
  assert_true(gyre_is_unique(n));
  gyre_release(n);
}

static void calls_of_an_unattached_thread_that_need_no_slot_do_not_attach_it(void **state) {
  (void)state;
  gyre_safepoint();
  gyre_park();
  gyre_unpark();
  gyre_release(NULL);
  GYRE_BLOCKING { (void)gyre_version(); }
  assert_null(gyre_retain((node *)NULL));
  assert_null(gyre_thread_current());
}

static void a_block_that_attaches_inside_its_park_ends_like_any_other(void **state) {
  (void)state;
  GYRE_BLOCKING { assert_non_null(gyre_thread_attach()); }
  assert_non_null(gyre_thread_current());
  assert_int_equal(test_thread_stats().parked, 0);
}

/* ---- the ways a thread ends ---- */

static void *exits_in_the_middle(void *arg) {
  (void)arg;
  gyre_release(node_new(&plain_type, 1));
  pthread_exit((void *)1);
}

static void a_thread_that_calls_pthread_exit_detaches(void **state) {
  (void)state;
  assert_ptr_equal(test_thread_run(exits_in_the_middle, NULL), (void *)1);
  assert_int_equal(test_thread_stats().attached, 0);
}

static void *exits_parked(void *arg) {
  (void)arg;
  gyre_release(node_new(&plain_type, 1));
  gyre_park();
  gyre_park();
  pthread_exit((void *)1);
}

static void a_thread_that_ends_while_parked_detaches(void **state) {
  (void)state;
  assert_ptr_equal(test_thread_run(exits_parked, NULL), (void *)1);
  assert_int_equal(test_thread_stats().attached, 0);
}

struct waiting {
  test_event ready;
  int pipe[2];
};

static void *reads_for_ever(void *arg) {
  struct waiting *w = arg;
  gyre_release(node_new(&plain_type, 1));
  test_event_set(&w->ready);
  char byte;
  for (;;)
    TEST_REQUIRE(read(w->pipe[0], &byte, 1) <= 0);
}

static void *reads_for_ever_parked(void *arg) {
  struct waiting *w = arg;
  gyre_release(node_new(&plain_type, 1));
  test_event_set(&w->ready);
  char byte;
  GYRE_BLOCKING {
    for (;;)
      TEST_REQUIRE(read(w->pipe[0], &byte, 1) <= 0);
  }
  return NULL;
}

static void cancel(void *(*body)(void *)) {
  struct waiting w = {.ready = TEST_EVENT_INIT};
  assert_int_equal(pipe(w.pipe), 0);
  pthread_t thread = test_thread_start(body, &w);
  test_event_wait(&w.ready);
  assert_int_equal(pthread_cancel(thread), 0);
  assert_ptr_equal(test_thread_join(thread), PTHREAD_CANCELED);
  close(w.pipe[0]);
  close(w.pipe[1]);
  assert_int_equal(test_thread_stats().attached, 0);
}

static void a_cancelled_thread_detaches(void **state) {
  (void)state;
  cancel(reads_for_ever);
}

static void a_thread_that_is_cancelled_in_a_blocking_region_detaches(void **state) {
  (void)state;
  cancel(reads_for_ever_parked);
}

/* ---- destructors of other thread-specific data ---- */

static pthread_key_t other_key;
static unsigned other_runs;

/* Runs after the library's own destructor in the same round, because its key was made later. */
static void other_destructor(void *n) {
  TEST_REQUIRE(gyre_thread_current() == NULL);
  TEST_REQUIRE(((node *)n)->tag == 42);
  gyre_release(node_new(&plain_type, 43));
  gyre_release(n);
  other_runs++;
}

static void *leaves_a_node_to_its_destructor(void *arg) {
  (void)arg;
  TEST_REQUIRE(pthread_setspecific(other_key, node_new(&plain_type, 42)) == 0);
  return NULL;
}

static void a_destructor_that_runs_after_ours_may_use_the_library(void **state) {
  (void)state;
  gyre_thread_attach();
  gyre_thread_detach();
  assert_int_equal(pthread_key_create(&other_key, other_destructor), 0);
  other_runs = 0;
  test_thread_run(leaves_a_node_to_its_destructor, NULL);
  assert_int_equal(other_runs, 1);
  assert_int_equal(pthread_key_delete(other_key), 0);
  assert_int_equal(test_thread_stats().attached, 0);
}

/* ---- cancellation in the library's calls to the program ---- */

static void cancellation_point(node *n) {
  (void)n;
  pthread_testcancel();
}

static int finalizer_with_cancellation_point(node *n) {
  cancellation_point(n);
  return 0;
}

static void *is_cancelled_in_hooks(void *collects) {
  gyre_thread_attach();
  TEST_REQUIRE(pthread_cancel(pthread_self()) == 0);
  if (collects == NULL) {
    gyre_release(chain_new(&finalized_type, 10));
  } else {
    ring_drop(&finalized_type, 10);
    TEST_REQUIRE(gyre_gc_collect(2) == 10);
  }
  TEST_REQUIRE(nodes_destroyed() == 10 && nodes_finalized() == 10);
  pthread_testcancel();
  return NULL;
}

static void a_cancellation_waits_until_the_library_has_done_its_work(void **state) {
  (void)state;
  node_on_destroy = cancellation_point;
  node_on_finalize = finalizer_with_cancellation_point;
  assert_ptr_equal(test_thread_run(is_cancelled_in_hooks, NULL), PTHREAD_CANCELED);
}

static void a_cancellation_waits_until_a_collection_is_over(void **state) {
  (void)state;
  node_on_destroy = cancellation_point;
  node_on_finalize = finalizer_with_cancellation_point;
  assert_ptr_equal(test_thread_run(is_cancelled_in_hooks, (void *)1), PTHREAD_CANCELED);
  assert_int_equal(gyre_gc_collect(2), 0); /* the collector is free */
}

/* ---- inheriting ---- */

enum { MANY = 300 };

static void *makes_many(void *arg) {
  node **nodes = arg;
  for (unsigned i = 0; i < MANY; i++)
    nodes[i] = node_new(&plain_type, i);
  return NULL;
}

static void objects_of_an_exited_thread_can_be_counted_and_freed(void **state) {
  (void)state;
  node *nodes[MANY];
  gyre_thread_attach();
  test_thread_run(makes_many, nodes);
  for (unsigned i = 0; i < MANY; i++) {
    assert_int_equal(nodes[i]->tag, i);
    assert_int_equal(gyre_refcount(gyre_retain(nodes[i])), 2);
  }
  test_check();
  for (unsigned i = 0; i < MANY; i++) {
    gyre_release(nodes[i]);
    gyre_release(nodes[i]);
  }
}

static void *drops_rings(void *arg) {
  (void)arg;
  for (unsigned i = 0; i < 10; i++)
    ring_drop(&plain_type, 5);
  return NULL;
}

static void cycles_of_an_exited_thread_are_collected(void **state) {
  (void)state;
  gyre_thread_attach();
  test_thread_run(drops_rings, NULL);
  assert_int_equal(gyre_gc_collect(2), 50);
}

static void *drops_a_ring(void *arg) {
  (void)arg;
  ring_drop(&plain_type, 50);
  return NULL;
}

static void threads_that_pass_no_safepoint_collect_when_they_end(void **state) {
  (void)state;
  gyre_thread_attach();
  for (unsigned i = 0; i < 200; i++)
    test_thread_run(drops_a_ring, NULL);
  assert_true(test_heap_stats().live_blocks < 1000); /* of 10,000 */
}

static void *frees_raw(void *arg) {
  void **blocks = arg;
  for (unsigned i = 0; i < MANY; i++)
    gyre_free(blocks[i]);
  return NULL;
}

static void *allocates_raw(void *arg) {
  void **blocks = arg;
  for (unsigned i = 0; i < MANY; i++)
    blocks[i] = gyre_malloc(1000);
  return NULL;
}

static void blocks_of_an_exited_thread_can_be_freed_by_another(void **state) {
  (void)state;
  void *blocks[MANY];
  test_thread_run(allocates_raw, blocks);
  gyre_thread_attach();
  test_thread_run(frees_raw, blocks);
}

struct heir {
  uint32_t id;
  node *n;
};

static void *leaves_a_node(void *arg) {
  struct heir *heir = arg;
  heir->n = node_new(&plain_type, 5);
  heir->id = gyre_thread_current()->id;
  return NULL;
}

static void *owns_the_node(void *arg) {
  struct heir *heir = arg;
  TEST_REQUIRE(gyre_thread_attach()->id == heir->id);
  /* Counts in the local word: the shared one stays as it is. */
  gyre__header *h = gyre__header_of(heir->n);
  /* relaxed: nobody else counts; pairs with nothing. */
  uint32_t shared = gyre__load_relaxed(&h->shared);
  gyre_retain(heir->n);
  TEST_REQUIRE(gyre__load_relaxed(&h->shared) == shared);
  TEST_REQUIRE(gyre_refcount(heir->n) == 2);
  gyre_release(heir->n);
  gyre_release(heir->n);
  return NULL;
}

static void the_next_thread_owns_the_objects_of_the_one_that_exited(void **state) {
  (void)state;
  struct heir heir;
  test_thread_run(leaves_a_node, &heir);
  test_thread_run(owns_the_node, &heir);
}

static void *uses_pages(void *arg) {
  node **nodes = arg;
  for (unsigned i = 0; i < MANY; i++)
    nodes[i] = node_new(&plain_type, i);
  for (unsigned i = 0; i < MANY; i++)
    gyre_release(nodes[i]);
  return NULL;
}

static void pages_of_exited_threads_are_used_again(void **state) {
  (void)state;
  node *nodes[MANY];
  gyre_thread_attach();
  test_thread_run(uses_pages, nodes);
  struct gyre_thread_stats threads = test_thread_stats();
  size_t mapped = test_heap_stats().mapped_bytes;
  for (unsigned i = 0; i < 100; i++)
    test_thread_run(uses_pages, nodes);
  assert_int_equal(test_thread_stats().slots_high_water, threads.slots_high_water);
  assert_true(test_heap_stats().mapped_bytes <= mapped + (8u << 20));
}

/* ---- names ---- */

static void a_name_that_is_too_long_is_cut_and_null_is_refused(void **state) {
  (void)state;
  assert_int_equal(gyre_thread_set_name(NULL), -EINVAL);
  assert_null(gyre_thread_current());
  assert_int_equal(gyre_thread_set_name("a name of far more than thirty-one bytes, which is cut"),
                   0);
  struct gyre__thread *self = gyre__thread_current();
  assert_non_null(self);
  assert_string_equal(self->name, "a name of far more than thirty-");
  assert_int_equal(gyre_thread_set_name("short"), 0);
  assert_string_equal(self->name, "short");
}

/* ---- figures ---- */

static void *parks_until(void *arg) {
  struct {
    test_event parked, go;
  } *e = arg;
  gyre_thread_attach();
  gyre_park();
  test_event_set(&e->parked);
  test_event_wait(&e->go);
  gyre_unpark();
  return NULL;
}

static void statistics_tell_attached_parked_and_orphaned_slots(void **state) {
  (void)state;
  struct {
    test_event parked, go;
  } e = {TEST_EVENT_INIT, TEST_EVENT_INIT};
  assert_int_equal(gyre_thread_get_stats(NULL), -EINVAL);
  struct gyre_thread_stats none = {.size = 0};
  assert_int_equal(gyre_thread_get_stats(&none), -EINVAL);

  gyre_thread_attach();
  pthread_t thread = test_thread_start(parks_until, &e);
  test_event_wait(&e.parked);
  struct gyre_thread_stats s = test_thread_stats();
  assert_int_equal(s.attached, 2);
  assert_int_equal(s.parked, 1);
  assert_int_equal(s.orphans, s.slots_high_water - 2);
  test_event_set(&e.go);
  test_thread_join(thread);
  s = test_thread_stats();
  assert_int_equal(s.attached, 1);
  assert_int_equal(s.parked, 0);
  assert_int_equal(s.orphans, s.slots_high_water - 1);

  /* No more is written than the caller has room for. */
  struct gyre_thread_stats part;
  memset(&part, 0xEE, sizeof part);
  part.size = offsetof(struct gyre_thread_stats, parked);
  assert_int_equal(gyre_thread_get_stats(&part), 0);
  assert_int_equal(part.attached, 1);
  assert_int_equal(part.parked, (size_t)UINT64_C(0xEEEEEEEEEEEEEEEE));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_thread_attaches_at_its_first_allocation_and_detaches_at_its_end),
      TEST(a_thread_attaches_at_its_first_release),
      TEST(a_thread_attaches_at_its_first_retain),
      TEST(a_thread_attaches_at_its_first_load),
      TEST(attaching_twice_gives_the_same_handle),
      TEST(detaching_and_attaching_again_inherits_what_was_left),
      TEST(calls_of_an_unattached_thread_that_need_no_slot_do_not_attach_it),
      TEST(a_block_that_attaches_inside_its_park_ends_like_any_other),
      TEST(a_thread_that_calls_pthread_exit_detaches),
      TEST(a_thread_that_ends_while_parked_detaches),
      TEST(a_cancelled_thread_detaches),
      TEST(a_thread_that_is_cancelled_in_a_blocking_region_detaches),
      TEST(a_destructor_that_runs_after_ours_may_use_the_library),
      NODE_TEST(a_cancellation_waits_until_the_library_has_done_its_work),
      NODE_TEST(a_cancellation_waits_until_a_collection_is_over),
      TEST_WITH(threads_that_pass_no_safepoint_collect_when_they_end, "gc_threshold:100/10/10"),
      TEST(objects_of_an_exited_thread_can_be_counted_and_freed),
      TEST_WITH(cycles_of_an_exited_thread_are_collected, "gc:0"),
      TEST(blocks_of_an_exited_thread_can_be_freed_by_another),
      TEST(the_next_thread_owns_the_objects_of_the_one_that_exited),
      TEST(pages_of_exited_threads_are_used_again),
      TEST(a_name_that_is_too_long_is_cut_and_null_is_refused),
      TEST(statistics_tell_attached_parked_and_orphaned_slots),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
