/* SPDX-License-Identifier: MIT */
/* Lists of objects: all of a generation, who refers to some, what some refer to; and single objects that
 * are untracked. */
#include <errno.h>
#include <string.h>

#include "tests/support/node.h"
#include "tests/support/puppet.h"
#include "tests/support/window.h"

static bool has(const gyre_objlist *list, const void *object) {
  for (size_t i = 0; i < list->count; i++)
    if (list->items[i] == object) return true;
  return false;
}

static size_t objects(int generation, gyre_objlist **list) {
  ptrdiff_t count = gyre_gc_get_objects(generation, list);
  TEST_REQUIRE(count >= 0 && (size_t)count == (*list)->count);
  return (size_t)count;
}

static size_t object_count(int generation) {
  gyre_objlist *list;
  size_t count = objects(generation, &list);
  gyre_objlist_free(list);
  return count;
}

static node *linked_new(void) {
  node *n = node_new(&node_type, 1);
  gyre_release(gyre_retain(n));
  node *m = node_new(&node_type, 2);
  gyre_slot_init(&n->next, m);
  return n;
}

/* ---- all objects ---- */

static void get_objects_lists_by_generation(void **state) {
  (void)state;
  node *n = linked_new();
  assert_int_equal(object_count(-1), 2);
  assert_int_equal(object_count(0), 2);
  assert_int_equal(object_count(1), 0);
  gyre_gc_collect(0);
  assert_int_equal(object_count(0), 0);
  assert_int_equal(object_count(1), 2);
  gyre_gc_collect(1);
  assert_int_equal(object_count(2), 2);
  gyre_objlist *list;
  assert_int_equal(objects(2, &list), 2);
  assert_true(has(list, n));
  assert_int_equal(gyre_refcount(n), 2);
  gyre_release(n);
  assert_int_equal(nodes_destroyed(), 0);
  gyre_objlist_free(list);
  assert_int_equal(nodes_destroyed(), 2);
}

static void wrong_arguments_change_nothing(void **state) {
  (void)state;
  gyre_objlist *list = (gyre_objlist *)&list, *before = list;
  assert_int_equal(gyre_gc_get_objects(3, &list), -EINVAL);
  assert_int_equal(gyre_gc_get_objects(-2, &list), -EINVAL);
  assert_int_equal(gyre_gc_get_objects(0, NULL), -EINVAL);
  assert_int_equal(gyre_gc_get_referrers(NULL, 1, &list), -EINVAL);
  assert_int_equal(gyre_gc_get_referents(NULL, 1, &list), -EINVAL);
  assert_int_equal(gyre_gc_visit_objects(NULL, NULL), -EINVAL);
  assert_ptr_equal(list, before);
  assert_int_equal(gyre_gc_get_referrers(NULL, 0, &list), 0);
  gyre_objlist_free(list);
  assert_int_equal(gyre_gc_get_referents(NULL, 0, &list), 0);
  gyre_objlist_free(list);
  gyre_objlist_free(NULL);
}

static GYRE_STATIC_OBJECT(node) fixture = GYRE_STATIC_INIT(.tag = 1);

static void leaves_and_static_objects_are_not_tracked(void **state) {
  (void)state;
  void *leaf = gyre_new(&leaf_type);
  assert_int_equal(GYRE_STATIC_REGISTER(&fixture, &node_type), 0);
  GYRE_AUTO(gyre_tuple) empty = gyre_tuple_of(0);
  assert_int_equal(gyre_gc_is_tracked(leaf), 0);
  assert_int_equal(gyre_gc_is_tracked(&fixture.object), 0);
  assert_int_equal(gyre_gc_is_tracked(empty), 0);
  assert_int_equal(object_count(-1), 0);
  GYRE_AUTO(gyre_tuple) one = gyre_tuple_of(1, leaf);
  assert_int_equal(gyre_gc_is_tracked(one), 1);
  gyre_release(leaf);
}

static void an_object_in_the_making_is_not_shown(void **state) {
  (void)state;
  node *n = node_new(&node_type, 1);
  assert_int_equal(object_count(-1), 0);
  /* Stored to. */
  gyre_store(&n->next, n);
  assert_int_equal(object_count(-1), 1);
  gyre_clear(&n->next);
  assert_int_equal(object_count(-1), 0);
  /* Retained. */
  node *more = gyre_retain(n);
  assert_int_equal(object_count(-1), 1);
  gyre_release(more);
  /* Stored. */
  node *parent = node_new(&node_type, 2);
  gyre_slot_init(&parent->other, n);
  assert_int_equal(object_count(-1), 2);
  gyre_release(parent);
  /* On request. */
  n = node_new(&node_type, 3);
  assert_int_equal(object_count(-1), 0);
  assert_int_equal(gyre_gc_track(n), 0);
  assert_int_equal(object_count(-1), 1);
  gyre_release(n);
}

static test_flag done;
static void *constructs(void *arg) {
  node *n = node_new(&node_type, 7);
  test_flag_set(arg, 1);
  /* Between two of its stores, it passes safepoints. */
  TEST_AWAIT_SAFELY(test_flag_get(arg) == 2);
  node *m = node_new(&node_type, 8);
  gyre_slot_init(&n->next, m);
  test_flag_set(arg, 3);
  TEST_AWAIT_SAFELY(test_flag_get(arg) == 4);
  gyre_release(n);
  return NULL;
}

static void nor_is_another_threads(void **state) {
  (void)state;
  test_flag_set(&done, 0);
  pthread_t thread = test_thread_start(constructs, &done);
  TEST_AWAIT_SAFELY(test_flag_get(&done) == 1);
  assert_int_equal(object_count(-1), 0);
  test_flag_set(&done, 2);
  TEST_AWAIT_SAFELY(test_flag_get(&done) == 3);
  gyre_objlist *list;
  assert_int_equal(objects(-1, &list), 2);
  for (size_t i = 0; i < list->count; i++)
    assert_true(((node *)list->items[i])->tag >= 7);
  gyre_objlist_free(list);
  test_flag_set(&done, 4);
  test_thread_join(thread);
}

static size_t in_finalizer;
static ptrdiff_t result_there;
static int asks(node *n) {
  gyre_objlist *list = NULL;
  result_there = gyre_gc_get_objects(-1, &list);
  TEST_REQUIRE(list == NULL);
  void *object = n;
  in_finalizer = (size_t)gyre_gc_get_referents(&object, 1, &list);
  gyre_objlist_free(list);
  return 0;
}

static void inside_a_collection_the_heap_is_busy(void **state) {
  (void)state;
  node_on_finalize = asks;
  ring_drop(&finalized_type, 2);
  assert_int_equal(gyre_gc_collect(2), 2);
  assert_int_equal(result_there, -EBUSY);
  assert_int_equal(in_finalizer, 1);
}

static int sees(void *object, void *arg) {
  (void)object, (void)arg;
  return 0;
}

static void without_memory_nothing_happens(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  node *n = linked_new();
  for (int what = 0; what < 5; what++) {
    ptrdiff_t result = -ENOMEM;
    bool failed = false;
    for (uint64_t nth = 1; result == -ENOMEM; nth++) {
      gyre_objlist *list = NULL;
      void *object = n;
      gyre__fault_arm(nth, 0);
      if (what == 0) result = gyre_gc_get_objects(-1, &list);
      if (what == 1) result = gyre_gc_get_referrers(&object, 1, &list);
      if (what == 2) result = gyre_gc_get_referents(&object, 1, &list);
      if (what == 3) result = gyre_gc_visit_objects(sees, NULL);
      if (what == 4) result = gyre_gc_freeze_ex(GYRE_FREEZE_STOP_COUNTING);
      gyre__fault_arm(0, 0);
      failed |= result == -ENOMEM;
      assert_true((result >= 0 && what < 3) == (list != NULL));
      gyre_objlist_free(list);
      if (result == -ENOMEM) {
        assert_int_equal(gyre_refcount(n), 1);
        assert_int_equal(gyre_gc_get_freeze_count(), 0);
        test_check();
      }
    }
    assert_true(result >= 0);
    assert_true(failed);
  }
  ptrdiff_t thawed = -ENOMEM;
  for (uint64_t nth = 1; thawed == -ENOMEM; nth++) {
    gyre__fault_arm(nth, 0);
    thawed = gyre_gc_unfreeze();
    gyre__fault_arm(0, 0);
    assert_int_equal(gyre_gc_get_freeze_count(), thawed < 0 ? 2 : 0);
  }
  assert_int_equal(thawed, 2);
  assert_int_equal(gyre_refcount(n), 1);
  gyre_release(n);
}

/* ---- referrers, referents ---- */

static void referrers_are_who_refers_directly(void **state) {
  (void)state;
  node *a = node_new(&node_type, 1), *b = node_new(&node_type, 2), *c = node_new(&node_type, 3);
  gyre_store(&a->next, b);
  gyre_store(&a->other, b);
  gyre_store(&b->next, c);
  void *of[2] = {b, c};
  gyre_objlist *list;
  assert_int_equal(gyre_gc_get_referrers(of, 1, &list), 1);
  assert_ptr_equal(list->items[0], a);
  gyre_objlist_free(list);
  assert_int_equal(gyre_gc_get_referrers(of, 2, &list), 2);
  assert_true(has(list, a) && has(list, b));
  gyre_objlist_free(list);
  of[0] = a;
  assert_int_equal(gyre_gc_get_referrers(of, 1, &list), 0);
  gyre_objlist_free(list);
  /* Frozen ones, and the dead that nobody has collected. */
  assert_int_equal(gyre_gc_freeze(), 3);
  assert_int_equal(gyre_gc_get_referrers(&of[1], 1, &list), 1);
  gyre_objlist_free(list);
  gyre_gc_unfreeze();
  gyre_store(&a->other, a);
  gyre_release(a);
  of[0] = b;
  assert_int_equal(gyre_gc_get_referrers(of, 1, &list), 1);
  assert_ptr_equal(list->items[0], a);
  gyre_objlist_free(list);
  gyre_release(b);
  gyre_release(c);
  assert_int_equal(gyre_gc_collect(2), 3);
}

static void an_untracked_holder_is_no_referrer(void **state) {
  (void)state;
  node *n = linked_new();
  GYRE_AUTO(node) next = gyre_load(&n->next);
  void *object = next;
  assert_int_equal(gyre_gc_untrack(n), 0);
  gyre_objlist *list;
  assert_int_equal(gyre_gc_get_referrers(&object, 1, &list), 0);
  gyre_objlist_free(list);
  assert_int_equal(gyre_gc_track(n), 0);
  assert_int_equal(gyre_gc_get_referrers(&object, 1, &list), 1);
  gyre_objlist_free(list);
  gyre_release(n);
}

static void referents_keep_their_duplicates(void **state) {
  (void)state;
  node *a = node_new(&node_type, 1), *b = node_new(&node_type, 2);
  void *leaf = gyre_new(&leaf_type);
  gyre_store(&a->next, b);
  gyre_store(&a->other, b);
  void *of[3] = {a, NULL, leaf};
  gyre_objlist *list;
  assert_int_equal(gyre_gc_get_referents(of, 3, &list), 2);
  assert_ptr_equal(list->items[0], b);
  assert_ptr_equal(list->items[1], b);
  assert_int_equal(gyre_refcount(b), 5);
  gyre_objlist_free(list);
  assert_int_equal(gyre_refcount(b), 3);
  gyre_release(leaf);
  gyre_release(a);
  gyre_release(b);
}

typedef struct bag {
  void *item[40];
} bag;
static int bag_visit(void *object, gyre_visitor *visitor, void *arg) {
  bag *b = object;
  for (int i = 0; i < 40; i++) {
    int result = b->item[i] != NULL ? visitor(b->item[i], arg) : 0;
    if (result != 0) return result;
  }
  return 0;
}
static void bag_clear(void *object) {
  bag *b = object;
  for (int i = 0; i < 40; i++)
    gyre_release(b->item[i]);
}
static gyre_type bag_type = {
    .name = "bag", .size = sizeof(bag), .visit = bag_visit, .clear = bag_clear};

static void types_with_visit_are_asked(void **state) {
  (void)state;
  bag *b = gyre_new(&bag_type);
  node *n = node_new(&node_type, 1);
  for (int i = 0; i < 40; i++)
    b->item[i] = gyre_retain(n);
  void *object = b;
  gyre_objlist *list;
  assert_int_equal(gyre_gc_get_referents(&object, 1, &list), 40);
  gyre_objlist_free(list);
  object = n;
  assert_int_equal(gyre_gc_get_referrers(&object, 1, &list), 1);
  assert_ptr_equal(list->items[0], b);
  gyre_objlist_free(list);
  gyre_release(n);
  gyre_release(b);
}

/* ---- visiting ---- */

static int visited, visits_until;
static int note_visit(void *object, void *arg) {
  TEST_REQUIRE(arg == &visited);
  TEST_REQUIRE(gyre_type_of(object) == &node_type);
  /* Anything goes. */
  gyre_release(node_new(&node_type, 9));
  TEST_REQUIRE(gyre_gc_collect(2) >= 0);
  return ++visited == visits_until ? 17 : 0;
}

static void visit_objects_includes_the_frozen(void **state) {
  (void)state;
  node *n = linked_new();
  assert_int_equal(gyre_gc_freeze(), 2);
  node *m = linked_new();
  visited = visits_until = 0;
  assert_int_equal(gyre_gc_visit_objects(note_visit, &visited), 0);
  assert_int_equal(visited, 4);
  visited = 0;
  visits_until = 3;
  assert_int_equal(gyre_gc_visit_objects(note_visit, &visited), 17);
  assert_int_equal(visited, 3);
  assert_int_equal(gyre_gc_unfreeze(), 2);
  gyre_release(n);
  gyre_release(m);
}

/* ---- untracked ---- */

static void an_untracked_object_is_left_alone(void **state) {
  (void)state;
  node *ring = ring_new(&node_type, 3);
  assert_int_equal(gyre_gc_is_tracked(ring), 1);
  assert_int_equal(gyre_gc_untrack(ring), 0);
  assert_int_equal(gyre_gc_is_tracked(ring), 0);
  assert_int_equal(gyre_gc_untrack(ring), 0);
  assert_int_equal(object_count(-1), 2);
  gyre_weak *weak = gyre_weak_new(ring, NULL, NULL);
  gyre_release(ring);
  assert_int_equal(gyre_gc_collect(2), 0);
  assert_int_equal(gyre_gc_get_freeze_count(), 0);
  /* An old one, too. */
  node *n = gyre_weak_get(weak);
  assert_int_equal(gyre_gc_track(n), 0);
  assert_int_equal(gyre_gc_is_tracked(n), 1);
  assert_int_equal(object_count(-1), 3);
  assert_int_equal(gyre_gc_collect(2), 0);
  assert_int_equal(gyre_gc_untrack(n), 0);
  gyre_release(n);
  assert_int_equal(gyre_gc_collect(2), 0);
  n = gyre_weak_get(weak);
  assert_int_equal(gyre_gc_track(n), 0);
  gyre_release(n);
  assert_int_equal(gyre_gc_collect(2), 3);
  gyre_weak_free(weak);
}

static void untracked_it_dies_by_its_count(void **state) {
  (void)state;
  node *n = linked_new();
  assert_int_equal(gyre_gc_untrack(n), 0);
  gyre__young_collect(gyre__objects_self(), true);
  gyre_release(n);
  assert_int_equal(nodes_destroyed(), 2);
}

static void makes(void *arg) { *(node **)arg = node_new(&node_type, 1); }
static void releases(void *arg) { gyre_release(arg); }

static void only_who_may_can_untrack(void **state) {
  (void)state;
  void *leaf = gyre_new(&leaf_type);
  assert_int_equal(gyre_gc_untrack(leaf), -EINVAL);
  assert_int_equal(gyre_gc_track(leaf), -EINVAL);
  gyre_release(leaf);
  struct puppet p;
  puppet_start(&p);
  node *n;
  puppet_run(&p, makes, &n);
  assert_int_equal(gyre_gc_untrack(n), -EPERM);
  assert_int_equal(gyre_gc_track(n), -EPERM);
  assert_int_equal(gyre_gc_is_tracked(n), 1);
  puppet_run(&p, releases, n);
  puppet_stop(&p);
}

/* ---- beside other threads ---- */

/* The churners keep pace with the questions: so many steps for each. */
#define STEPS 500
static test_flag stop, rounds_begun;
static void *churns(void *arg) {
  struct test_random random = test_random_new((uint64_t)(uintptr_t)arg);
  for (uint32_t step = 0; !test_flag_get(&stop); step++) {
    TEST_AWAIT_SAFELY(step < STEPS * test_flag_get(&rounds_begun) || test_flag_get(&stop));
    node *n = linked_new();
    if (test_random_below(&random, 2)) gyre_store(&n->other, n);
    if (test_random_below(&random, 4) == 0) TEST_REQUIRE(gyre_gc_untrack(n) == 0);
    if (gyre_gc_is_tracked(n) == 0) TEST_REQUIRE(gyre_gc_track(n) == 0);
    gyre_release(n);
    gyre_safepoint();
  }
  return NULL;
}

#define THREADS 7
static void questions_beside_eight_threads(void **state) {
  (void)state;
  test_flag_set(&stop, 0);
  test_flag_set(&rounds_begun, 0);
  pthread_t threads[THREADS];
  for (uintptr_t i = 0; i < THREADS; i++)
    threads[i] = test_thread_start(churns, (void *)(i + 1));
  node *mine = linked_new();
  uint64_t rounds = test_size("GYRE_QUESTIONS", 60, 30, 15);
  for (uint64_t i = 0; i < rounds; i++) {
    test_flag_add(&rounds_begun, 1);
    gyre_objlist *all, *referrers, *referents;
    TEST_REQUIRE(gyre_gc_get_objects((int)(i % 4) - 1, &all) >= 0);
    TEST_REQUIRE(gyre_gc_get_referrers(all->items, all->count, &referrers) >= 0);
    TEST_REQUIRE(gyre_gc_get_referents(all->items, all->count, &referents) >= 0);
    for (size_t k = 0; k < all->count; k++)
      TEST_REQUIRE(gyre_type_of(all->items[k]) == &node_type);
    gyre_objlist_free(all);
    gyre_objlist_free(referrers);
    gyre_objlist_free(referents);
    if (i % 5 == 0) TEST_REQUIRE(gyre_gc_collect(2) >= 0);
  }
  test_flag_set(&stop, 1);
  for (int i = 0; i < THREADS; i++)
    test_thread_join(threads[i]);
  gyre_release(mine);
  (void)gyre_gc_collect(2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(without_memory_nothing_happens), /* first: buffers are kept */
      NODE_TEST(get_objects_lists_by_generation),
      NODE_TEST(wrong_arguments_change_nothing),
      NODE_TEST(leaves_and_static_objects_are_not_tracked),
      NODE_TEST(an_object_in_the_making_is_not_shown),
      NODE_TEST(nor_is_another_threads),
      NODE_TEST(inside_a_collection_the_heap_is_busy),
      NODE_TEST(referrers_are_who_refers_directly),
      NODE_TEST(an_untracked_holder_is_no_referrer),
      NODE_TEST(referents_keep_their_duplicates),
      NODE_TEST(types_with_visit_are_asked),
      NODE_TEST(visit_objects_includes_the_frozen),
      NODE_TEST(an_untracked_object_is_left_alone),
      NODE_TEST(untracked_it_dies_by_its_count),
      NODE_TEST(only_who_may_can_untrack),
      NODE_TEST_WITH(questions_beside_eight_threads, "gc:1"),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
