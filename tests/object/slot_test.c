/* SPDX-License-Identifier: MIT */
/* Slots: what each operation does to the counts. */
#include "tests/support/node.h"

static void a_new_slot_is_empty(void **state) {
  (void)state;
  node *n = node_new(&node_type, 0);
  assert_null(gyre_load(&n->next));
  assert_null(gyre_take(&n->next));
  gyre_clear(&n->next);
  gyre_store(&n->next, NULL);
  gyre_release(n);
}

static void store_counts_the_new_and_drops_the_old(void **state) {
  (void)state;
  node *n = node_new(&node_type, 0), *a = node_new(&node_type, 1), *b = node_new(&node_type, 2);
  gyre_store(&n->next, a);
  assert_int_equal(gyre_refcount(a), 2);
  gyre_store(&n->next, b);
  assert_int_equal(gyre_refcount(a), 1);
  assert_int_equal(gyre_refcount(b), 2);
  gyre_store(&n->next, NULL);
  assert_int_equal(gyre_refcount(b), 1);
  gyre_release(a);
  gyre_release(b);
  gyre_release(n);
  assert_int_equal(nodes_destroyed(), 3);
}

static void storing_what_the_slot_holds_already_keeps_it_alive(void **state) {
  (void)state;
  node *n = node_new(&node_type, 0), *a = node_new(&node_type, 1);
  gyre_slot_init(&n->next, a);
  gyre_store(&n->next, a);
  assert_int_equal(nodes_destroyed(), 0);
  assert_int_equal(gyre_refcount(a), 1);
  gyre_release(n);
}

static void load_gives_a_reference_of_ones_own(void **state) {
  (void)state;
  node *n = node_new(&node_type, 0), *a = node_new(&node_type, 1);
  gyre_slot_init(&n->next, a);
  assert_int_equal(gyre_refcount(a), 1);
  node *loaded = gyre_load(&n->next);
  assert_ptr_equal(loaded, a);
  assert_int_equal(gyre_refcount(a), 2);
  gyre_release(n);
  assert_int_equal(gyre_refcount(a), 1);
  gyre_release(loaded);
  assert_int_equal(nodes_destroyed(), 2);
}

static void take_moves_the_reference_out(void **state) {
  (void)state;
  node *n = node_new(&node_type, 0), *a = node_new(&node_type, 1);
  gyre_slot_init(&n->next, a);
  node *taken = gyre_take(&n->next);
  assert_ptr_equal(taken, a);
  assert_int_equal(gyre_refcount(a), 1);
  assert_null(gyre_load(&n->next));
  gyre_release(taken);
  assert_int_equal(nodes_destroyed(), 1);
  gyre_release(n);
}

static void swap_moves_one_reference_in_and_another_out(void **state) {
  (void)state;
  node *n = node_new(&node_type, 0), *a = node_new(&node_type, 1), *b = node_new(&node_type, 2);
  assert_null(gyre_swap(&n->next, a));
  node *out = gyre_swap(&n->next, b);
  assert_ptr_equal(out, a);
  assert_int_equal(gyre_refcount(a), 1);
  assert_int_equal(gyre_refcount(b), 1);
  gyre_release(out);
  out = gyre_swap(&n->next, NULL);
  assert_ptr_equal(out, b);
  gyre_release(out);
  gyre_release(n);
}

static void compare_exchange_changes_the_slot_only_if_it_holds_what_is_expected(void **state) {
  (void)state;
  node *n = node_new(&node_type, 0), *a = node_new(&node_type, 1), *b = node_new(&node_type, 2);
  assert_int_equal(gyre_compare_exchange(&n->next, a, b), 0);
  assert_null(gyre_load(&n->next));
  assert_int_equal(gyre_refcount(b), 1);
  assert_int_equal(gyre_compare_exchange(&n->next, NULL, a), 1);
  assert_int_equal(gyre_refcount(a), 2);
  assert_int_equal(gyre_compare_exchange(&n->next, NULL, b), 0);
  assert_int_equal(gyre_compare_exchange(&n->next, a, b), 1);
  assert_int_equal(gyre_refcount(a), 1);
  assert_int_equal(gyre_refcount(b), 2);
  assert_int_equal(gyre_compare_exchange(&n->next, b, b), 1);
  assert_int_equal(gyre_refcount(b), 2);
  assert_int_equal(gyre_compare_exchange(&n->next, b, NULL), 1);
  assert_int_equal(gyre_refcount(b), 1);
  gyre_release(a);
  gyre_release(b);
  gyre_release(n);
}

static void clear_drops_what_the_slot_held(void **state) {
  (void)state;
  node *n = node_new(&node_type, 0);
  gyre_slot_init(&n->next, node_new(&node_type, 1));
  gyre_clear(&n->next);
  assert_int_equal(nodes_destroyed(), 1);
  assert_null(gyre_load(&n->next));
  gyre_release(n);
}

static node *holder;
static void look_at_holder(node *n) {
  (void)n;
  TEST_REQUIRE(gyre_load(&holder->next) == NULL);
}

static void a_slot_is_empty_before_what_it_held_is_destroyed(void **state) {
  (void)state;
  holder = node_new(&plain_type, 0);
  gyre_slot_init(&holder->next, node_new(&node_type, 1));
  node_on_destroy = look_at_holder;
  gyre_clear(&holder->next);
  gyre_slot_init(&holder->next, node_new(&node_type, 1));
  gyre_store(&holder->next, NULL);
  assert_int_equal(nodes_destroyed(), 2);
  gyre_release(holder);
}

static void an_auto_variable_releases_at_the_end_of_its_scope(void **state) {
  (void)state;
  node *n = node_new(&node_type, 0);
  {
    GYRE_AUTO(node) kept = gyre_retain(n);
    GYRE_AUTO(node) none = NULL;
    assert_int_equal(gyre_refcount(kept), 2);
    assert_null(none);
  }
  assert_int_equal(gyre_refcount(n), 1);
  for (int i = 0; i < 2; i++) {
    GYRE_AUTO(node) made = node_new(&node_type, 1);
    if (made != NULL) continue;
  }
  assert_int_equal(nodes_destroyed(), 2);
  gyre_release(n);
}

/* ---- several threads on one slot ---- */

#define THREADS 4
static node *board;

/* Everybody loads, stores, takes, swaps and compares; each node dies exactly once. */
static void *play(void *arg) {
  struct test_random random = test_random_new((uint64_t)(uintptr_t)arg);
  uint64_t made = 0;
  for (uint64_t i = test_size("GYRE_TEST_OPS", 100000, 20000, 10000); i > 0; i--) {
    node *n = NULL;
    switch (test_random_below(&random, 6)) {
    case 0:
      n = node_new(&node_type, ++made);
      gyre_store(&board->next, n);
      break;
    case 1:
      n = gyre_take(&board->next);
      break;
    case 2:
      made++;
      n = gyre_swap(&board->next, node_new(&node_type, made));
      break;
    case 3:
      n = gyre_load(&board->next);
      if (n != NULL) gyre_compare_exchange(&board->next, n, NULL);
      break;
    case 4:
      n = gyre_load(&board->next);
      if (n != NULL) gyre_store(&board->other, n);
      break;
    default:
      n = gyre_load(&board->other);
    }
    if (n != NULL) TEST_REQUIRE(n->tag > 0);
    gyre_release(n);
    if (i % 64 == 0) gyre_safepoint();
  }
  return (void *)(uintptr_t)made;
}

static void a_slot_may_be_used_by_several_threads_at_once(void **state) {
  (void)state;
  board = node_new(&plain_type, 0);
  pthread_t threads[THREADS];
  for (uintptr_t i = 0; i < THREADS; i++)
    threads[i] = test_thread_start(play, (void *)(i + 1));
  uint64_t made = 0;
  for (int i = 0; i < THREADS; i++)
    made += (uint64_t)(uintptr_t)test_thread_join(threads[i]);
  gyre__heap_check();
  gyre_release(board);
  gyre_safepoint();
  assert_int_equal(nodes_destroyed(), made);
}

/* ---- looking without counting, and references that do not count ---- */

static void a_slot_can_be_compared_and_peeked_at(void **state) {
  (void)state;
  node *from = node_new(&plain_type, 0), *n = node_new(&node_type, 1);
  assert_true(gyre_slot_is(&from->next, NULL));
  assert_null(gyre_slot_peek(&from->next));
  gyre_store(&from->next, n);
  assert_true(gyre_slot_is(&from->next, n));
  assert_false(gyre_slot_is(&from->next, NULL));
  assert_ptr_equal(gyre_slot_peek(&from->next), n);
  assert_int_equal(gyre_refcount(n), 2);
  gyre_release(n);
  gyre_release(from);
}

static gyre_uncounted found;
static void leaves_the_table(void *object) {
  TEST_REQUIRE(gyre_uncounted_is(&found, object));
  TEST_REQUIRE(gyre_uncounted_get(&found) == NULL); /* it is dying */
  gyre_uncounted_set(&found, NULL);
}
typedef struct entry {
  uint64_t value;
} entry;
static GYRE_TYPE_DEFINE(entry_type, entry, .flags = GYRE_TYPE_TRY_RETAIN,
                        .destroy = leaves_the_table);

static void *finds(void *arg) {
  entry *e = gyre_uncounted_get(&found);
  TEST_REQUIRE(e == arg);
  gyre_release(e);
  return NULL;
}

static void an_uncounted_reference_keeps_nothing_alive(void **state) {
  (void)state;
  assert_null(gyre_uncounted_get(&found));
  entry *e = gyre_new(&entry_type);
  gyre_uncounted_set(&found, e);
  assert_int_equal(gyre_refcount(e), 1);
  entry *got = gyre_uncounted_get(&found);
  assert_ptr_equal(got, e);
  assert_int_equal(gyre_refcount(e), 2);
  gyre_release(got);
  test_thread_run(finds, e);
  assert_false(gyre_uncounted_is(&found, NULL));
  gyre_release(e);
  assert_true(gyre_uncounted_is(&found, NULL));
  assert_null(gyre_uncounted_get(&found));
}

/* One thread makes objects and drops them; the others find them or do not. */
static test_flag made_all;
static void *makes(void *arg) {
  (void)arg;
  for (uint64_t i = 1; i <= 20000; i++) {
    entry *e = gyre_new(&entry_type);
    TEST_REQUIRE(e != NULL);
    e->value = ~i;
    gyre_uncounted_set(&found, e);
    gyre_release(e);
    /* Another thread may hold it yet. */
    TEST_AWAIT_SAFELY(gyre_uncounted_is(&found, NULL));
  }
  test_flag_set(&made_all, 1);
  return NULL;
}
static void *looks(void *arg) {
  (void)arg;
  while (!test_flag_get(&made_all)) {
    entry *e = gyre_uncounted_get(&found);
    if (e != NULL) {
      TEST_REQUIRE(gyre_type_of(e) == &entry_type && e->value > UINT64_MAX / 2);
      e->value--;
      gyre_release(e);
    }
    gyre_safepoint();
  }
  return NULL;
}

static void threads_find_what_lives(void **state) {
  (void)state;
  test_flag_set(&made_all, 0);
  pthread_t maker = test_thread_start(makes, NULL), finder = test_thread_start(looks, NULL);
  test_thread_join(maker);
  test_thread_join(finder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(a_new_slot_is_empty),
      NODE_TEST(store_counts_the_new_and_drops_the_old),
      NODE_TEST(storing_what_the_slot_holds_already_keeps_it_alive),
      NODE_TEST(load_gives_a_reference_of_ones_own),
      NODE_TEST(take_moves_the_reference_out),
      NODE_TEST(swap_moves_one_reference_in_and_another_out),
      NODE_TEST(compare_exchange_changes_the_slot_only_if_it_holds_what_is_expected),
      NODE_TEST(clear_drops_what_the_slot_held),
      NODE_TEST(a_slot_is_empty_before_what_it_held_is_destroyed),
      NODE_TEST(an_auto_variable_releases_at_the_end_of_its_scope),
      NODE_TEST(a_slot_may_be_used_by_several_threads_at_once),
      NODE_TEST_WITH(a_slot_may_be_used_by_several_threads_at_once,
                     "gc_threshold:100,yield_seed:1"),
      NODE_TEST(a_slot_can_be_compared_and_peeked_at),
      TEST(an_uncounted_reference_keeps_nothing_alive),
      TEST(threads_find_what_lives),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
