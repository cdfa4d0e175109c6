/* SPDX-License-Identifier: MIT */
/* Freezing: what collections leave alone, and counts that are not written. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/support/node.h"
#include "tests/support/puppet.h"
#include "tests/support/window.h"

static void frozen_garbage_stays_until_unfrozen(void **state) {
  (void)state;
  node *n = node_new(&node_type, 1);
  ring_drop(&node_type, 3);
  assert_int_equal(gyre_gc_get_freeze_count(), 0);
  assert_int_equal(gyre_gc_freeze(), 4);
  assert_int_equal(gyre_gc_get_freeze_count(), 4);
  assert_int_equal(gyre_gc_freeze(), 0);
  assert_int_equal(gyre_gc_collect(2), 0);
  gyre_objlist *list;
  assert_int_equal(gyre_gc_get_objects(-1, &list), 0);
  gyre_objlist_free(list);
  assert_int_equal(gyre_gc_is_tracked(n), 1);
  ring_drop(&node_type, 2);
  assert_int_equal(gyre_gc_freeze(), 2);
  assert_int_equal(gyre_gc_unfreeze(), 6);
  assert_int_equal(gyre_gc_get_freeze_count(), 0);
  assert_int_equal(gyre_gc_get_objects(2, &list), 6);
  gyre_objlist_free(list);
  assert_int_equal(gyre_gc_collect(1), 0);
  assert_int_equal(gyre_gc_collect(2), 5);
  assert_int_equal(gyre_gc_unfreeze(), 0);
  gyre_release(n);
}

static void frozen_objects_die_by_their_counts(void **state) {
  (void)state;
  node *n = chain_new(&node_type, 10);
  assert_int_equal(gyre_gc_freeze(), 10);
  gyre_release(n);
  assert_int_equal(nodes_destroyed(), 10);
  assert_int_equal(gyre_gc_get_freeze_count(), 0);
  assert_int_equal(gyre_gc_unfreeze(), 0);
}

static void a_garbage_cycle_can_be_collected_first(void **state) {
  (void)state;
  ring_drop(&node_type, 3);
  node *n = node_new(&node_type, 1);
  assert_int_equal(gyre_gc_freeze_ex(GYRE_FREEZE_COLLECT_FIRST), 1);
  assert_int_equal(nodes_destroyed(), 3);
  assert_int_equal(gyre_gc_freeze_ex(64), -EINVAL);
  assert_int_equal(gyre_gc_unfreeze(), 1);
  gyre_release(n);
}

static void what_is_frozen_keeps_others_alive(void **state) {
  (void)state;
  node *old = node_new(&node_type, 1);
  assert_int_equal(gyre_gc_freeze(), 1);
  /* A cycle through a frozen object is none. */
  node *new = node_new(&node_type, 2);
  gyre_store(&old->next, new);
  gyre_store(&new->next, old);
  gyre_release(new);
  gyre_weak *weak = gyre_weak_new(old, NULL, NULL);
  gyre_release(old);
  gyre__young_collect(gyre__objects_self(), true);
  gyre__young_look(gyre__objects_self(), true);
  assert_int_equal(gyre_gc_collect(2), 0);
  assert_false(gyre_weak_is_dead(weak));
  assert_int_equal(gyre_gc_unfreeze(), 1);
  assert_int_equal(gyre_gc_collect(2), 2);
  gyre_weak_free(weak);
}

static int finalize_nothing(void *object) {
  (void)object;
  return 0;
}
static GYRE_TYPE_DEFINE(queued_type, node, .slots = GYRE_SLOTS(node, next, other),
                        .finalize = finalize_nothing, .flags = GYRE_TYPE_FINALIZE_QUEUED);

/* They are linked through their headers. */
static void what_waits_for_its_finalizer_may_be_frozen(void **state) {
  (void)state;
  for (int served = 0; served < 2; served++) {
    gyre_weak *weak[4];
    for (uint64_t i = 0; i < 4; i++) {
      node *n = node_new(&queued_type, i);
      weak[i] = gyre_weak_new(n, NULL, NULL);
      gyre_release(n);
      /* The last one before the freeze is at the end of the queue, until another comes. */
      if (i == 2) assert_int_equal(gyre_gc_freeze_ex(GYRE_FREEZE_STOP_COUNTING), 3);
    }
    GYRE_AUTO(node) first = gyre_weak_get(weak[0]);
    assert_int_equal(gyre_refcount(first), 2);
    assert_int_equal(gyre_pending_count(), 4);
    if (served) assert_int_equal(gyre_run_pending(SIZE_MAX), 4);
    assert_int_equal(gyre_gc_unfreeze(), 3);
    assert_int_equal(gyre_refcount(first), 2 - served);
    assert_int_equal(gyre_run_pending(SIZE_MAX), served ? 0 : 4);
    assert_int_equal(gyre_pending_count(), 0);
    assert_int_equal(gyre_refcount(first), 1);
    for (int i = 0; i < 4; i++) {
      assert_int_equal(gyre_weak_is_dead(weak[i]), i != 0);
      gyre_weak_free(weak[i]);
    }
  }
}

static void *releases_stopped(void *n) {
  test_window_subject();
  gyre_release(n);
  return NULL;
}

static void what_becomes_immortal_while_it_is_counted_stays_so(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  node *n = node_new(&node_type, 1);
  gyre_retain(n);
  assert_int_equal(gyre_gc_freeze_ex(GYRE_FREEZE_STOP_COUNTING), 1);
  test_window_hold("refcount/stopped", 1);
  pthread_t thread = test_thread_start(releases_stopped, n);
  GYRE_BLOCKING { test_window_await(); }
  assert_int_equal(gyre_immortalize(n), 1);
  test_window_release();
  GYRE_BLOCKING { test_thread_join(thread); }
  assert_int_equal(gyre_is_immortal(n), 1);
  assert_int_equal(gyre_immortalize(n), 0);
  assert_int_equal(gyre_gc_unfreeze(), 1);
  assert_int_equal(gyre_is_immortal(n), 1);
  make_mortal(n);
  gyre_release(n);
}

static int freezes(node *n) {
  (void)n;
  TEST_REQUIRE(gyre_gc_freeze() == -EBUSY);
  TEST_REQUIRE(gyre_gc_unfreeze() == -EBUSY);
  return 0;
}

static void not_inside_a_collection(void **state) {
  (void)state;
  node_on_finalize = freezes;
  ring_drop(&finalized_type, 2);
  assert_int_equal(gyre_gc_collect(2), 2);
}

/* ---- counts that are stopped ---- */

static void makes(void *arg) { *(node **)arg = node_new(&node_type, 1); }
static void releases(void *arg) { gyre_release(arg); }
static void retains(void *arg) { gyre_retain(arg); }
static void passes(void *arg) {
  (void)arg;
  gyre_safepoint();
}

static void stopped_counts_are_exact_again(void **state) {
  (void)state;
  struct puppet p;
  puppet_start(&p);
  node *mine = node_new(&node_type, 1), *theirs;
  void *leaf = gyre_new(&leaf_type);
  puppet_run(&p, makes, &theirs);
  puppet_run(&p, retains, mine);
  assert_int_equal(gyre_gc_freeze_ex(GYRE_FREEZE_STOP_COUNTING), 2);
  uint64_t word[2];
  memcpy(word, gyre__header_of(mine), sizeof word);
  /* The same, by its owner, by another, through slots and weak references. */
  gyre_retain(mine);
  puppet_run(&p, retains, mine);
  puppet_run(&p, releases, mine);
  gyre_retain(theirs);
  puppet_run(&p, retains, theirs);
  gyre_retain(leaf);
  node *holder = node_new(&plain_type, 2);
  gyre_store(&holder->next, mine);
  gyre_release(gyre_load(&holder->next));
  assert_int_equal(gyre_refcount(mine), 4);
  assert_int_equal(gyre_refcount(theirs), 3);
  assert_int_equal(gyre_refcount(leaf), 2);
  assert_int_equal(gyre_is_immortal(mine), 0);
  assert_int_equal(gyre_is_unique(mine), 0);
  assert_int_equal(gyre_gc_collect(2), 0);
  assert_memory_equal(word, gyre__header_of(mine), sizeof word);
  assert_int_equal(gyre_gc_unfreeze(), 2);
  assert_int_equal(gyre_refcount(mine), 4);
  assert_int_equal(gyre_refcount(theirs), 3);
  assert_int_equal(gyre_refcount(leaf), 2);
  test_check();
  gyre_release(holder);
  gyre_release(mine);
  gyre_release(mine);
  gyre_release(mine);
  puppet_run(&p, releases, theirs);
  puppet_run(&p, releases, theirs);
  gyre_release(theirs);
  gyre_release(leaf);
  gyre_release(leaf);
  puppet_run(&p, passes, NULL);
  puppet_stop(&p);
  assert_int_equal(nodes_destroyed(), 3);
}

static void nothing_dies_until_then(void **state) {
  (void)state;
  node *n = node_new(&finalized_type, 1);
  void *leaf = gyre_new(&leaf_type);
  node *tail = node_new(&node_type, 2);
  gyre_slot_init(&n->next, tail);
  gyre_weak *weak = gyre_weak_new(n, NULL, NULL);
  assert_int_equal(gyre_gc_freeze_ex(GYRE_FREEZE_STOP_COUNTING), 2);
  assert_int_equal(gyre_gc_freeze_ex(GYRE_FREEZE_STOP_COUNTING), 0);
  gyre_release(n);
  gyre_release(leaf);
  assert_int_equal(nodes_destroyed(), 0);
  /* Nobody refers to it, and it may come back. */
  node *again = gyre_weak_get(weak);
  assert_ptr_equal(again, n);
  gyre_release(again);
  assert_int_equal(gyre_gc_unfreeze(), 2);
  assert_int_equal(nodes_finalized(), 1);
  assert_int_equal(nodes_destroyed(), 3);
  assert_true(gyre_weak_is_dead(weak));
  gyre_weak_free(weak);
}

static void those_that_never_die_stay_so(void **state) {
  (void)state;
  node *n = node_new(&node_type, 1), *m = node_new(&node_type, 2);
  assert_int_equal(gyre_immortalize(n), 1);
  assert_int_equal(gyre_gc_freeze_ex(GYRE_FREEZE_STOP_COUNTING), 2);
  assert_int_equal(gyre_is_immortal(n), 1);
  assert_int_equal(gyre_refcount(n), GYRE_IMMORTAL);
  assert_int_equal(gyre_immortalize(m), 1);
  assert_int_equal(gyre_immortalize(m), 0);
  assert_int_equal(gyre_is_immortal(m), 1);
  gyre_release(m);
  assert_int_equal(gyre_gc_unfreeze(), 2);
  assert_int_equal(gyre_is_immortal(n), 1);
  assert_int_equal(gyre_is_immortal(m), 1);
  make_mortal(n);
  make_mortal(m);
  gyre_release(n);
  gyre_release(m);
}

static void untracked_ones_keep_their_place(void **state) {
  (void)state;
  node *n = ring_new(&node_type, 2);
  assert_int_equal(gyre_gc_untrack(n), 0);
  assert_int_equal(gyre_gc_freeze_ex(GYRE_FREEZE_STOP_COUNTING), 1);
  assert_int_equal(gyre_gc_track(n), 0);
  assert_int_equal(gyre_gc_get_freeze_count(), 2);
  gyre_release(n);
  assert_int_equal(gyre_gc_unfreeze(), 2);
  assert_int_equal(gyre_gc_collect(2), 2);
}

static void gyre_fini_unfreezes(void **state) {
  (void)state;
  ring_drop(&node_type, 2);
  void *leaf = gyre_new(&leaf_type);
  assert_int_equal(gyre_gc_freeze_ex(GYRE_FREEZE_STOP_COUNTING), 2);
  gyre_release(leaf);
  assert_int_equal(gyre_fini(), 0);
  assert_int_equal(nodes_destroyed(), 3);
  assert_int_equal(gyre_gc_get_freeze_count(), 0);
}

/* ---- fork ---- */

#define MANY 20000
static node *many[MANY];

static void forbid(bool forbidden) {
  struct gyre__page *last = NULL;
  size_t unit = gyre__os_page_size();
  for (size_t i = 0; i < MANY; i++) {
    struct gyre__page *page = gyre__page_of(gyre__header_of(many[i]));
    /* Pages that hold nothing else. */
    if (page == last || i < MANY / 4 || i > MANY - MANY / 4) continue;
    last = page;
    uintptr_t begin = ((uintptr_t)page->start + unit - 1) & ~(unit - 1);
    uintptr_t end =
        ((uintptr_t)page->start + page->block_size * (size_t)page->capacity) & ~(unit - 1);
    TEST_REQUIRE(
        mprotect((void *)begin, end - begin, forbidden ? PROT_READ : PROT_READ | PROT_WRITE) == 0);
  }
}

static void *child_counts(void *arg) {
  for (size_t i = 0; i < MANY; i++) {
    gyre_retain(many[i]);
    if (arg == NULL) gyre_release(many[i]);
    node *next = gyre_load(&many[i]->next);
    gyre_release(next);
  }
  return NULL;
}

/* The child may read, count and collect, and writes to no page of what is frozen. */
static void child_works(void *arg) {
  (void)arg;
  forbid(true);
  ring_drop(&node_type, 5);
  TEST_REQUIRE(gyre_gc_collect(2) == 5);
  (void)child_counts(NULL);
  (void)test_thread_run(child_counts, NULL);
  for (int i = 0; i < 1000; i++)
    ring_drop(&node_type, 3);
  TEST_REQUIRE(gyre_gc_collect(0) >= 0);
  TEST_REQUIRE(gyre_gc_collect(2) >= 0);
  TEST_REQUIRE(gyre_gc_get_freeze_count() == MANY);
  forbid(false);
  (void)test_thread_run(child_counts, &many);
  TEST_REQUIRE(gyre_gc_unfreeze() == MANY);
  for (size_t i = 0; i < MANY; i++)
    TEST_REQUIRE(gyre_refcount(many[i]) == 3);
}

/* Without stopped counts: the child collects, in every generation, and does not count what is frozen. */
static void child_only_collects(void *arg) {
  (void)arg;
  forbid(true);
  ring_drop(&node_type, 5);
  TEST_REQUIRE(gyre_gc_collect(2) == 5);
  for (int g = 0; g < GYRE_GC_NGEN; g++) {
    for (int i = 0; i < 1000; i++)
      ring_drop(&node_type, 3);
    TEST_REQUIRE(gyre_gc_collect(g) >= 0);
  }
  /* As it is meant: enabled again in the child. */
  TEST_REQUIRE(gyre_gc_enable() == 0);
  struct gyre_gc_stats before = {.size = sizeof before}, now = {.size = sizeof now};
  TEST_REQUIRE(gyre_gc_get_stats(2, &before) == 0);
  int thresholds[] = {100, 2, 0};
  TEST_REQUIRE(gyre_gc_set_threshold(thresholds, 3) == 0);
  do {
    gyre_release(ring_new(&finalized_type, 3));
    gyre_safepoint();
    TEST_REQUIRE(gyre_gc_get_stats(2, &now) == 0);
  } while (now.collections == before.collections);
  TEST_REQUIRE(gyre_gc_disable() == 1);
  gyre_service_stop();
  TEST_REQUIRE(gyre_gc_collect(2) >= 0);
  TEST_REQUIRE(gyre_gc_get_freeze_count() == MANY);
  gyre_objlist *list;
  TEST_REQUIRE(gyre_gc_get_objects(-1, &list) == 0);
  gyre_objlist_free(list);
  forbid(false);
}

static void nor_does_it_where_counts_go_on(void **state) {
  (void)state;
  if (TEST_ADDRESS_SANITIZER) skip();
  for (size_t i = 0; i < MANY; i++)
    many[i] = node_new(&node_type, i);
  /* Rings of ten, garbage in the end. */
  for (size_t i = 0; i < MANY; i++)
    gyre_store(&many[i]->next, many[i % 10 == 9 ? i - 9 : i + 1]);
  for (size_t i = 0; i < MANY; i++)
    gyre_release(many[i]);
  assert_int_equal(gyre_gc_freeze(), MANY);
  test_in_child(child_only_collects, NULL);
  assert_int_equal(gyre_gc_unfreeze(), MANY);
  assert_int_equal(gyre_gc_collect(2), MANY);
}

static void a_childs_collection_writes_to_no_frozen_page(void **state) {
  (void)state;
  if (TEST_ADDRESS_SANITIZER) skip();
  for (size_t i = 0; i < MANY; i++)
    many[i] = node_new(&node_type, i);
  for (size_t i = 0; i < MANY; i++)
    gyre_store(&many[i]->next, many[(i + 1) % MANY]);
  assert_int_equal(gyre_gc_freeze_ex(GYRE_FREEZE_COLLECT_FIRST | GYRE_FREEZE_STOP_COUNTING), MANY);
  test_in_child(child_works, NULL);
  assert_int_equal(gyre_gc_unfreeze(), MANY);
  for (size_t i = 0; i < MANY; i++)
    gyre_release(many[i]);
  assert_int_equal(gyre_gc_collect(2), MANY);
}

/* ---- eight threads ---- */

/* They keep pace with the freezes: so many steps for each. */
#define STEPS 500
static test_flag stop, rounds_begun;
static GYRE_STATIC_OBJECT(node) root = GYRE_STATIC_INIT(.tag = 0);

static void *works(void *arg) {
  struct test_random random = test_random_new((uint64_t)(uintptr_t)arg);
  for (uint32_t step = 0; !test_flag_get(&stop); step++) {
    TEST_AWAIT_SAFELY(step < STEPS * test_flag_get(&rounds_begun) || test_flag_get(&stop));
    node *n = node_new(&node_type, 1);
    gyre_store(&root.object.next, n);
    gyre_release(n);
    n = gyre_load(&root.object.next);
    if (n != NULL && test_random_below(&random, 2)) gyre_store(&n->other, n);
    gyre_safepoint();
    gyre_release(n);
    gyre_clear(&root.object.other);
  }
  return NULL;
}

#define THREADS 7
static void threads_count_while_it_is_frozen(void **state) {
  (void)state;
  assert_int_equal(GYRE_STATIC_REGISTER(&root, &node_type), 0);
  test_flag_set(&stop, 0);
  test_flag_set(&rounds_begun, 0);
  pthread_t threads[THREADS];
  for (uintptr_t i = 0; i < THREADS; i++)
    threads[i] = test_thread_start(works, (void *)(i + 1));
  uint64_t rounds = test_size("GYRE_FREEZES", 30, 30, 15);
  for (uint64_t i = 0; i < rounds; i++) {
    test_flag_add(&rounds_begun, 1);
    TEST_REQUIRE(gyre_gc_freeze_ex(i % 3 ? GYRE_FREEZE_STOP_COUNTING : 0) >= 0);
    if (i % 2) TEST_REQUIRE(gyre_gc_collect(2) >= 0);
    gyre_safepoint();
    if (i % 4) TEST_REQUIRE(gyre_gc_unfreeze() >= 0);
  }
  test_flag_set(&stop, 1);
  for (int i = 0; i < THREADS; i++)
    test_thread_join(threads[i]);
  TEST_REQUIRE(gyre_gc_unfreeze() >= 0);
  gyre_clear(&root.object.next);
  TEST_REQUIRE(gyre_gc_collect(2) >= 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(frozen_garbage_stays_until_unfrozen),
      NODE_TEST(frozen_objects_die_by_their_counts),
      NODE_TEST(a_garbage_cycle_can_be_collected_first),
      NODE_TEST(what_is_frozen_keeps_others_alive),
      NODE_TEST(not_inside_a_collection),
      NODE_TEST(stopped_counts_are_exact_again),
      NODE_TEST_WITH(what_waits_for_its_finalizer_may_be_frozen, "gc:0,finalizers:program"),
      NODE_TEST(what_becomes_immortal_while_it_is_counted_stays_so),
      NODE_TEST(nothing_dies_until_then),
      NODE_TEST(those_that_never_die_stay_so),
      NODE_TEST(untracked_ones_keep_their_place),
      NODE_TEST(gyre_fini_unfreezes),
      NODE_TEST(a_childs_collection_writes_to_no_frozen_page),
      NODE_TEST(nor_does_it_where_counts_go_on),
      NODE_TEST_WITH(threads_count_while_it_is_frozen, "gc:1"),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
