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
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
