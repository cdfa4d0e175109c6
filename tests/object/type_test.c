/* SPDX-License-Identifier: MIT */
/* Types: what their layouts mean for the references in objects, and descriptions that are refused.
 */
#include <errno.h>
#include <stdio.h>

#include "tests/support/node.h"

/* ---- layouts ---- */

/* Four nodes, each held by the caller too. */
struct four {
  node *at[4];
};

static struct four four_new(void) {
  struct four f;
  for (unsigned i = 0; i < 4; i++)
    f.at[i] = node_new(&node_type, i);
  return f;
}

static void assert_counts(const struct four *f, ptrdiff_t count) {
  for (int i = 0; i < 4; i++)
    assert_int_equal(gyre_refcount(f->at[i]), count);
}

static void four_drop(struct four *f) {
  assert_counts(f, 1);
  for (int i = 0; i < 4; i++)
    gyre_release(f->at[i]);
  assert_int_equal(nodes_destroyed(), 4);
}

typedef struct slotted {
  int before;
  GYRE_SLOT(node) a;
  char between;
  GYRE_SLOT(node) b[2];
  GYRE_SLOT(node) c;
} slotted;
static GYRE_TYPE_DEFINE(slotted_type, slotted, .slots = GYRE_SLOTS(slotted, a, b[0], b[1], c));

static void the_slots_of_a_struct_are_released_with_it(void **state) {
  (void)state;
  struct four f = four_new();
  slotted *s = gyre_new(&slotted_type);
  gyre_store(&s->a, f.at[0]);
  gyre_store(&s->b[0], f.at[1]);
  gyre_store(&s->b[1], f.at[2]);
  gyre_store(&s->c, f.at[3]);
  assert_counts(&f, 2);
  gyre_release(s);
  four_drop(&f);
}

typedef struct tuple {
  size_t hash;
  GYRE_SLOT(node) items[];
} tuple;
static GYRE_TYPE_DEFINE(tuple_type, tuple, .element_size = sizeof(gyre_slot),
                        .element_slots = GYRE_SLOT_ARRAY);

static void the_slots_of_a_trailing_array_are_released_with_it(void **state) {
  (void)state;
  struct four f = four_new();
  tuple *t = gyre_new_array(&tuple_type, 5);
  for (int i = 0; i < 4; i++)
    gyre_store(&t->items[i], f.at[i]);
  assert_counts(&f, 2);
  assert_null(gyre_load(&t->items[4]));
  gyre_release(t);
  four_drop(&f);
}

static void an_array_of_no_slots_is_released(void **state) {
  (void)state;
  tuple *t = gyre_new_array(&tuple_type, 0);
  assert_true(gyre_gc_is_tracked(t));
  gyre_release(t);
}

typedef struct entry {
  uint64_t hash;
  GYRE_SLOT(node) key;
  GYRE_SLOT(node) value;
} entry;
typedef struct table {
  GYRE_SLOT(struct table) older;
  entry entries[];
} table;
static GYRE_TYPE_DEFINE(table_type, table, .slots = GYRE_SLOTS(table, older),
                        .element_size = sizeof(entry),
                        .element_slots = GYRE_SLOTS(entry, key, value));

static void the_slots_of_an_array_of_structs_are_released_with_it(void **state) {
  (void)state;
  struct four f = four_new();
  table *old = gyre_new_array(&table_type, 1);
  table *t = gyre_new_array(&table_type, 3);
  gyre_store(&t->older, old);
  gyre_release(old);
  gyre_store(&old->entries[0].key, f.at[0]);
  gyre_store(&t->entries[0].value, f.at[1]);
  gyre_store(&t->entries[2].key, f.at[2]);
  gyre_store(&t->entries[2].value, f.at[3]);
  t->entries[1].hash = UINT64_MAX;
  assert_counts(&f, 2);
  gyre_release(t);
  four_drop(&f);
}

static void a_type_without_references_is_a_leaf(void **state) {
  (void)state;
  void *leaf = gyre_new(&leaf_type);
  node *n = node_new(&node_type, 0);
  assert_false(gyre_gc_is_tracked(leaf));
  assert_true(gyre_gc_is_tracked(n));
  gyre_release(leaf);
  assert_int_equal(nodes_destroyed(), 1);
  gyre_release(n);
}

/* ---- visit and clear ---- */

/* References in an array of the program's own, so that no layout describes them. */
typedef struct bag {
  size_t count;
  node **at;
} bag;

static int visits_unlocked, clears;

static int bag_visit(void *object, gyre_visitor *visitor, void *arg) {
  bag *b = object;
  /* It is called with the lock held. */
  if (gyre_try_lock(b)) visits_unlocked++;
  for (size_t i = 0; i < b->count; i++) {
    int stop = visitor(b->at[i], arg);
    if (stop != 0) return stop;
  }
  return 0;
}

static void bag_clear(void *object) {
  bag *b = object;
  clears++;
  for (size_t i = 0; i < b->count; i++)
    gyre_release(b->at[i]);
  b->count = 0;
}

static void bag_destroy(void *object) {
  bag *b = object;
  /* Before clear: the references are still there. */
  TEST_REQUIRE(b->count == 4);
}

static GYRE_TYPE_DEFINE(bag_type, bag, .visit = bag_visit, .clear = bag_clear,
                        .destroy = bag_destroy);

static void a_visit_type_is_visited_under_its_lock_and_cleared_after_destroy(void **state) {
  (void)state;
  visits_unlocked = clears = 0;
  struct four f = four_new();
  bag *b = gyre_new(&bag_type);
  assert_true(gyre_gc_is_tracked(b));
  gyre_lock(b);
  b->at = f.at;
  b->count = 4;
  for (int i = 0; i < 4; i++)
    (void)gyre_retain(f.at[i]);
  gyre_unlock(b);
  gyre__heap_check();
  assert_int_equal(gyre_gc_collect(2), 0);
  gyre_release(b);
  assert_int_equal(clears, 1);
  assert_int_equal(visits_unlocked, 0);
  four_drop(&f);
}

/* ---- shared types ---- */

static GYRE_TYPE_DEFINE(shared_type, node, .slots = GYRE_SLOTS(node, next, other),
                        .flags = GYRE_TYPE_SHARED);

static void objects_of_shared_types_are_born_without_an_owner(void **state) {
  (void)state;
  for (int round = 0; round < 2; round++) {
    node *n = gyre_new(&shared_type);
    /* relaxed: nobody else has it. */
    assert_int_equal(gyre__load_relaxed(&gyre__header_of(n)->owner), 0);
    assert_int_equal(gyre_refcount(n), 1);
    assert_int_equal(gyre_try_retain(n), 1);
    assert_int_equal(gyre_refcount(n), 2);
    gyre_release(n);
    node *held = node_new(&node_type, 0);
    gyre_slot_init(&n->next, held);
    gyre_release(n);
    assert_int_equal(nodes_destroyed(), (uint64_t)round + 1);
  }
}

/* ---- bad descriptions ---- */

static void assert_refused(gyre_type *type, const char *fault) {
  test_log_capture();
  unsigned before = test_log_count(fault);
  errno = 0;
  assert_null(gyre_new(type));
  assert_int_equal(errno, EINVAL);
  assert_int_equal(test_log_count(fault), before + 1);
  if (type != NULL && type->element_size != 0) {
    errno = 0;
    assert_null(gyre_new_array(type, 1));
    assert_int_equal(errno, EINVAL);
  }
}

static const gyre_slot_info odd_slot[] = {{4, "odd"}}, outside_slot[] = {{16, "outside"}},
                            far_slot[] = {{SIZE_MAX - 7, "far"}}, good_slot[] = {{8, "good"}};

static int visit_nothing(void *object, gyre_visitor *visitor, void *arg) {
  (void)object, (void)visitor, (void)arg;
  return 0;
}
static void clear_nothing(void *object) { (void)object; }

static void a_bad_type_is_refused_with_a_line_that_names_the_fault(void **state) {
  (void)state;
  assert_refused(NULL, "NULL");
  assert_refused(&(gyre_type){.size = 16}, "name");
  assert_refused(&(gyre_type){.name = "enormous", .size = SIZE_MAX}, "\"enormous\"");
  assert_refused(&(gyre_type){.name = "odd", .size = 16, .slots = {odd_slot, 1}}, "\"odd\"");
  assert_refused(&(gyre_type){.name = "out", .size = 16, .slots = {outside_slot, 1}}, "\"out\"");
  assert_refused(&(gyre_type){.name = "far", .size = 16, .slots = {far_slot, 1}}, "\"far\"");
  assert_refused(&(gyre_type){.name = "half", .size = 15, .slots = {good_slot, 1}}, "\"half\"");
  assert_refused(&(gyre_type){.name = "none", .size = 16, .slots = {NULL, 1}}, "\"none\"");
  assert_refused(&(gyre_type){.name = "flags", .size = 16, .flags = 1u << 30}, "\"flags\"");
  assert_refused(&(gyre_type){.name = "lone", .size = 16, .element_slots = {good_slot, 1}},
                 "\"lone\"");
  assert_refused(
      &(gyre_type){
          .name = "shifted", .size = 12, .element_size = 16, .element_slots = {good_slot, 1}},
      "\"shifted\"");
  assert_refused(
      &(gyre_type){
          .name = "narrow", .size = 16, .element_size = 12, .element_slots = {good_slot, 1}},
      "\"narrow\"");
  assert_refused(&(gyre_type){.name = "clearing", .size = 16, .clear = clear_nothing},
                 "\"clearing\"");
}

static void a_refused_type_may_be_put_right_and_used(void **state) {
  (void)state;
  static gyre_type type = {.size = 16, .visit = visit_nothing, .clear = clear_nothing};
  assert_refused(&type, "name");
  type.name = "named";
  void *object = gyre_new(&type);
  assert_non_null(object);
  gyre_release(object);
}

/* ---- from several threads ---- */

#define USERS 4
static gyre_type fresh_types[64];
static pthread_barrier_t users_ready;

static void *use_types(void *arg) {
  (void)arg;
  for (int i = 0; i < 64; i++) {
    GYRE_BLOCKING { pthread_barrier_wait(&users_ready); }
    void *object = gyre_new(&fresh_types[i]);
    TEST_REQUIRE(object != NULL && gyre_type_of(object) == &fresh_types[i]);
    gyre_release(object);
  }
  return NULL;
}

static void a_type_used_first_by_several_threads_at_once_gets_one_id(void **state) {
  (void)state;
  for (int i = 0; i < 64; i++)
    fresh_types[i] = (gyre_type){.name = "fresh", .size = 8};
  pthread_barrier_init(&users_ready, NULL, USERS);
  pthread_t users[USERS];
  for (int i = 0; i < USERS; i++)
    users[i] = test_thread_start(use_types, NULL);
  for (int i = 0; i < USERS; i++)
    test_thread_join(users[i]);
  pthread_barrier_destroy(&users_ready);
  for (int i = 0; i < 64; i++)
    for (int j = 0; j < i; j++)
      /* relaxed: the threads are gone. */
      assert_int_not_equal(gyre__load_relaxed(&fresh_types[i].gyre__id),
                           gyre__load_relaxed(&fresh_types[j].gyre__id));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(the_slots_of_a_struct_are_released_with_it),
      NODE_TEST(the_slots_of_a_trailing_array_are_released_with_it),
      NODE_TEST(an_array_of_no_slots_is_released),
      NODE_TEST(the_slots_of_an_array_of_structs_are_released_with_it),
      NODE_TEST(a_type_without_references_is_a_leaf),
      NODE_TEST(a_visit_type_is_visited_under_its_lock_and_cleared_after_destroy),
      NODE_TEST(objects_of_shared_types_are_born_without_an_owner),
      NODE_TEST(a_bad_type_is_refused_with_a_line_that_names_the_fault),
      NODE_TEST(a_refused_type_may_be_put_right_and_used),
      NODE_TEST(a_type_used_first_by_several_threads_at_once_gets_one_id),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
