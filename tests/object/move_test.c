/* SPDX-License-Identifier: MIT */
/* References that are moved without counting, borrowed, and retired. */
#include <string.h>

#include "tests/support/node.h"
#include "tests/support/puppet.h"

typedef GYRE_SLOT(node) node_slot;
typedef struct row {
  gyre_retired retired;
  node_slot at[];
} row;
static GYRE_TYPE_DEFINE(row_type, row, .element_size = sizeof(node_slot),
                        .element_slots = GYRE_SLOT_ARRAY);

static row *row_new(size_t n, size_t filled) {
  row *r = gyre_new_array(&row_type, n);
  TEST_REQUIRE(r != NULL);
  for (size_t i = 0; i < filled; i++)
    gyre_slot_init(&r->at[i], node_new(&node_type, i));
  return r;
}

static uint64_t tag_at(row *r, size_t i) {
  node *n = gyre_borrow(&r->at[i]);
  return n != NULL ? n->tag : UINT64_MAX;
}

static void moved_references_keep_their_counts(void **state) {
  (void)state;
  row *a = row_new(4, 4), *b = row_new(8, 0);
  gyre_slots_move(a, b->at, a->at, 4);
  gyre_slots_forget(a->at, 4);
  gyre_release(a);
  assert_int_equal(nodes_destroyed(), 0);
  for (size_t i = 0; i < 4; i++) {
    assert_int_equal(tag_at(b, i), i);
    assert_int_equal(gyre_refcount(gyre_borrow(&b->at[i])), 1);
  }
  gyre_release(b);
  assert_int_equal(nodes_destroyed(), 4);
}

static void overlapping_moves_go_both_ways(void **state) {
  (void)state;
  row *r = row_new(6, 5);
  gyre_slots_move(r, &r->at[1], &r->at[0], 5);
  gyre_slots_forget(&r->at[0], 1);
  for (size_t i = 0; i < 5; i++)
    assert_int_equal(tag_at(r, i + 1), i);
  gyre_slots_move(r, &r->at[0], &r->at[1], 5);
  gyre_slots_forget(&r->at[5], 1);
  for (size_t i = 0; i < 5; i++)
    assert_int_equal(tag_at(r, i), i);
  gyre_release(r);
  assert_int_equal(nodes_destroyed(), 5);
}

/* ---- other threads ---- */

struct scene {
  row *row;
  node *node;
};

static void makes(void *arg) {
  struct scene *s = arg;
  s->row = row_new(2, 1);
  s->node = gyre_borrow(&s->row->at[0]);
}

static bool is_published(void *object) {
  /* relaxed: the puppet is parked. */
  return gyre__load_relaxed(&gyre__header_of(object)->shared) & GYRE__PUBLISHED;
}

static void what_is_moved_out_of_anothers_object_is_published(void **state) {
  (void)state;
  struct puppet p;
  struct scene s;
  puppet_start(&p);
  puppet_run(&p, makes, &s);
  assert_false(is_published(s.node));
  gyre_slots_move(s.row, &s.row->at[1], &s.row->at[0], 1);
  gyre_slots_forget(&s.row->at[0], 1);
  assert_true(is_published(s.node));
  /* Its own and nobody's need not be. */
  row *mine = row_new(2, 1);
  gyre_slots_move(mine, &mine->at[1], &mine->at[0], 1);
  gyre_slots_forget(&mine->at[0], 1);
  assert_false(is_published(gyre_borrow(&mine->at[1])));
  gyre_release(mine);
  gyre_release(s.row);
  puppet_stop(&p);
}

static void moves_untouched(void *arg) {
  bool *touched = arg;
  row *r = row_new(2, 1);
  gyre__header *h = gyre__header_of(gyre_borrow(&r->at[0]));
  /* acq_rel: no collection is under way; no partner. */
  gyre__fetch_and_acq_rel(&h->bits, (uint8_t)~GYRE__BIT_TOUCHED);
  gyre_slots_move(r, &r->at[1], &r->at[0], 1);
  gyre_slots_forget(&r->at[0], 1);
  /* relaxed: as above. */
  *touched = gyre__load_relaxed(&h->bits) & GYRE__BIT_TOUCHED;
  gyre_release(r);
}

/* A thread with slow paths counts as a thread does that logs. */
static void what_is_moved_while_a_collection_logs_is_touched(void **state) {
  (void)state;
  for (int slow = 0; slow < 2; slow++) {
    bool touched = false;
    struct puppet p;
    test_option_set("slow_paths", slow ? "1" : "0");
    puppet_start(&p);
    puppet_run(&p, moves_untouched, &touched);
    puppet_stop(&p);
    assert_int_equal(touched, slow);
  }
}

/* A collection beside the program: moves on the way do not lose anything, at whichever moment. */
static test_flag moving;
static void *collects(void *arg) {
  (void)arg;
  for (int i = 0; i < 30; i++)
    TEST_REQUIRE(gyre_gc_collect(2) >= 0);
  test_flag_set(&moving, 0);
  return NULL;
}

static void collections_find_what_is_being_moved(void **state) {
  (void)state;
  enum { ROWS = 64, WIDTH = 32 };
  typedef GYRE_SLOT(row) row_slot;
  row_slot rows[ROWS];
  memset(rows, 0, sizeof rows);
  for (size_t i = 0; i < ROWS; i++)
    gyre_slot_init(&rows[i], row_new(WIDTH, WIDTH / 2));
  gyre_gc_collect(2);
  test_flag_set(&moving, 1);
  pthread_t thread = test_thread_start(collects, NULL);
  while (test_flag_get(&moving)) {
    for (size_t i = 0; i < ROWS; i++) {
      row *old = gyre_borrow(&rows[i]), *fresh = row_new(WIDTH, 0);
      gyre_slots_move(old, fresh->at, old->at, WIDTH / 2);
      gyre_slots_forget(old->at, WIDTH / 2);
      gyre_slots_move(fresh, &fresh->at[1], fresh->at, WIDTH / 2);
      gyre_slots_move(fresh, fresh->at, &fresh->at[1], WIDTH / 2);
      gyre_slots_forget(&fresh->at[WIDTH / 2], 1);
      gyre_release(gyre_swap(&rows[i], fresh));
    }
    gyre_safepoint();
  }
  test_thread_join(thread);
  assert_int_equal(nodes_destroyed(), 0);
  for (size_t i = 0; i < ROWS; i++) {
    for (size_t j = 0; j < WIDTH / 2; j++)
      assert_int_equal(tag_at(gyre_borrow(&rows[i]), j), j);
    gyre_release(gyre_take(&rows[i]));
  }
  assert_int_equal(nodes_destroyed(), ROWS * WIDTH / 2);
}

/* ---- retired objects ---- */

static void attaches(void *arg) { (void)arg; }
static void passes(void *arg) {
  (void)arg;
  gyre_safepoint();
}

static void *runs_until_told(void *arg) {
  test_flag *go = arg;
  TEST_REQUIRE(gyre_thread_attach() != NULL);
  test_flag_set(go, 1);
  while (test_flag_get(go) != 2)
    sched_yield();
  gyre_safepoint();
  test_flag_set(go, 3);
  while (test_flag_get(go) != 4) {
    gyre_safepoint();
    sched_yield();
  }
  return NULL;
}

static void a_retired_object_lives_until_all_threads_have_passed_a_safepoint(void **state) {
  (void)state;
  test_flag go = {0};
  pthread_t thread = test_thread_start(runs_until_told, &go);
  TEST_AWAIT(test_flag_get(&go) == 1);
  row *r = row_new(1, 1);
  gyre_retire(r, &r->retired);
  for (int i = 0; i < 100; i++)
    gyre_safepoint();
  assert_int_equal(nodes_destroyed(), 0);
  test_flag_set(&go, 2);
  TEST_AWAIT_SAFELY(nodes_destroyed() == 1);
  test_flag_set(&go, 4);
  test_thread_join(thread);
}

static void what_a_thread_retired_is_released_when_it_is_gone(void **state) {
  (void)state;
  struct puppet p;
  puppet_start(&p);
  puppet_run(&p, attaches, NULL);
  row *r = row_new(1, 1);
  gyre_retire(r, &r->retired);
  puppet_run(&p, passes, NULL);
  gyre_thread_detach();
  TEST_AWAIT_SAFELY(nodes_destroyed() == 1);
  puppet_stop(&p);
}

static void a_retired_object_that_is_held_lives_on(void **state) {
  (void)state;
  row *r = row_new(1, 1);
  gyre_retain(r);
  gyre_retire(r, &r->retired);
  gyre_synchronize();
  gyre_safepoint();
  TEST_AWAIT_SAFELY(gyre_refcount(r) == 1);
  assert_int_equal(nodes_destroyed(), 0);
  gyre_release(r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(moved_references_keep_their_counts),
      NODE_TEST(overlapping_moves_go_both_ways),
      NODE_TEST(what_is_moved_out_of_anothers_object_is_published),
      NODE_TEST(what_is_moved_while_a_collection_logs_is_touched),
      NODE_TEST(collections_find_what_is_being_moved),
      NODE_TEST_WITH(collections_find_what_is_being_moved, "gc:0,gc_mode:stw"),
      NODE_TEST_WITH(collections_find_what_is_being_moved, "gc:0,collect_always:3"),
      NODE_TEST(a_retired_object_lives_until_all_threads_have_passed_a_safepoint),
      NODE_TEST(what_a_thread_retired_is_released_when_it_is_gone),
      NODE_TEST(a_retired_object_that_is_held_lives_on),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
