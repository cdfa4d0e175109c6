/* SPDX-License-Identifier: MIT */
/* Tuples: immutable, equal by content, hashable if their items are. */
#include "tests/value/value_test.h"

static void the_empty_tuple_is_one_immortal_object(void **state) {
  (void)state;
  gyre_tuple *a = gyre_tuple_of(0), *b = gyre_tuple_from(NULL, 0);
  assert_ptr_equal(a, b);
  assert_true(gyre_is_immortal(a));
  assert_int_equal(gyre_tuple_length(a), 0);
  assert_null(gyre_tuple_at(a, 0));
  assert_null(gyre_tuple_at(a, -1));
  uint64_t hash;
  assert_int_equal(gyre_hash(a, &hash), 0);
  gyre_release(a);
  gyre_release(b);
}

static void items_are_found_from_both_ends(void **state) {
  (void)state;
  node *x = node_new(&node_type, 1), *y = node_new(&node_type, 2);
  gyre_tuple *t = gyre_tuple_of(3, x, y, x);
  assert_int_equal(gyre_refcount(x), 3);
  assert_ptr_equal(gyre_tuple_at(t, 1), y);
  assert_ptr_equal(gyre_tuple_at(t, -1), x);
  errno = 0;
  assert_null(gyre_tuple_get(t, 3));
  assert_int_equal(errno, ERANGE);
  assert_null(gyre_tuple_at(t, -4));
  void *got = gyre_tuple_get(t, -2);
  assert_ptr_equal(got, y);
  gyre_release(got);
  assert_int_equal(gyre_tuple_index(t, y), 1);
  assert_int_equal(gyre_tuple_index(t, t), -ENOENT);
  assert_int_equal(gyre_tuple_count(t, x), 2);
  gyre_release(x);
  gyre_release(y);
  assert_int_equal(nodes_destroyed(), 0);
  gyre_release(t);
  assert_int_equal(nodes_destroyed(), 2);
}

static void a_null_item_is_refused(void **state) {
  (void)state;
  node *x = node_new(&node_type, 1);
  void *items[] = {x, NULL};
  assert_null(gyre_tuple_from(items, 2));
  assert_int_equal(errno, EINVAL);
  assert_null(gyre_tuple_of(2, x, NULL));
  assert_int_equal(gyre_refcount(x), 1);
  assert_null(gyre_tuple_steal(items, 2));
  assert_int_equal(nodes_destroyed(), 1);
}

static void slices_and_sums(void **state) {
  (void)state;
  gyre_tuple *t;
  {
    GYRE_AUTO(void) a = number(100000);
    GYRE_AUTO(void) b = number(200000);
    GYRE_AUTO(void) c = number(300000);
    t = gyre_tuple_of(3, a, b, c);
  }
  gyre_tuple *head = gyre_tuple_slice(t, 0, -1), *tail = gyre_tuple_slice(t, 2, 100);
  gyre_tuple *all = gyre_tuple_slice(t, PTRDIFF_MIN, PTRDIFF_MAX),
             *none = gyre_tuple_slice(t, 2, 1);
  gyre_tuple *sum = gyre_tuple_concat(head, tail), *same = gyre_tuple_concat(none, t);
  assert_int_equal(gyre_tuple_length(head), 2);
  assert_ptr_equal(all, t);
  assert_ptr_equal(same, t);
  assert_ptr_not_equal(sum, t);
  assert_int_equal(gyre_equal(sum, t), 1);
  assert_int_equal(gyre_equal(head, t), 0);
  uint64_t h1 = 1, h2 = 2, h3 = 3;
  assert_int_equal(gyre_hash(sum, &h1), 0);
  assert_int_equal(gyre_hash(t, &h2), 0);
  assert_int_equal(gyre_hash(head, &h3), 0);
  assert_int_equal(h1, h2);
  assert_int_not_equal(h1, h3);
  gyre_tuple *turned = gyre_tuple_concat(tail, head);
  assert_int_equal(gyre_hash(turned, &h3), 0);
  assert_int_not_equal(h1, h3);
  gyre_tuple *all_of[] = {t, head, tail, all, none, sum, same, turned};
  for (size_t i = 0; i < sizeof all_of / sizeof *all_of; i++)
    gyre_release(all_of[i]);
}

static void hashes_cover_every_item_however_many(void **state) {
  (void)state;
  enum { N = 70 };
  void *items[N];
  for (int i = 0; i < N; i++)
    items[i] = number(100000 + i);
  gyre_tuple *t = gyre_tuple_from(items, N);
  uint64_t hash, other;
  assert_int_equal(gyre_hash(t, &hash), 0);
  for (int i = 0; i < N; i++) {
    void *keep = items[i];
    items[i] = number(-1 - i);
    gyre_tuple *u = gyre_tuple_from(items, N);
    assert_int_equal(gyre_hash(u, &other), 0);
    assert_int_not_equal(hash, other);
    assert_int_equal(gyre_equal(t, u), 0);
    gyre_release(u);
    gyre_release(items[i]);
    items[i] = keep;
  }
  gyre_release(t);
  for (int i = 0; i < N; i++)
    gyre_release(items[i]);
}

static void errors_of_the_items_are_passed_on(void **state) {
  (void)state;
  gyre_list *list = gyre_list_new();
  gyre_tuple *t = gyre_tuple_of(1, list);
  uint64_t hash = 77;
  assert_int_equal(gyre_hash(t, &hash), -EINVAL);
  assert_int_equal(hash, 77);
  /* A tuple in a list in the tuple: no end to it. */
  gyre_list_append(list, t);
  gyre_list *other = gyre_list_new();
  gyre_tuple *u = gyre_tuple_of(1, other);
  gyre_list_append(other, u);
  assert_int_equal(gyre_equal(t, u), -ELOOP);
  gyre_release(list);
  gyre_release(other);
  gyre_release(t);
  gyre_release(u);
  assert_true(gyre_gc_collect(2) > 0);
}

static void a_list_and_a_tuple_make_a_tuple(void **state) {
  (void)state;
  gyre_list *list = gyre_list_new();
  gyre_tuple *none = gyre_tuple_from_list(list);
  assert_int_equal(gyre_tuple_length(none), 0);
  node *x = node_new(&node_type, 1);
  gyre_list_append(list, x);
  gyre_list_append(list, x);
  gyre_tuple *t = gyre_tuple_from_list(list);
  assert_int_equal(gyre_refcount(x), 5);
  assert_int_equal(gyre_equal(t, list), 0);
  gyre_release(x);
  gyre_release(list);
  gyre_release(t);
}

static void tuples_in_cycles_are_collected(void **state) {
  (void)state;
  for (int promoted = 0; promoted < 2; promoted++) {
    node *n = node_new(&node_type, 1);
    gyre_tuple *t = gyre_tuple_of(1, n);
    gyre_store(&n->next, (void *)t);
    assert_int_equal(gyre_gc_is_tracked(t), 1);
    gyre_release(n);
    if (promoted) gyre_gc_collect(2);
    gyre_release(t);
    assert_int_equal(gyre_gc_collect(2), 2);
  }
  assert_int_equal(nodes_destroyed(), 2);
}

static void *hashes(void *arg) {
  uint64_t hash = 0;
  for (int i = 0; i < 1000; i++) {
    uint64_t again;
    TEST_REQUIRE(gyre_hash(arg, &again) == 0 && (i == 0 || again == hash));
    hash = again;
    GYRE_AUTO(void) item = gyre_tuple_get(arg, -1);
    TEST_REQUIRE(item != NULL);
    gyre_safepoint();
  }
  return NULL;
}

static void threads_share_a_tuple(void **state) {
  (void)state;
  GYRE_AUTO(void) a = number(1 << 20);
  GYRE_AUTO(gyre_str) b = str("a string that is not short");
  gyre_tuple *t = gyre_tuple_of(2, a, b);
  pthread_t threads[8];
  for (int i = 0; i < 8; i++)
    threads[i] = test_thread_start(hashes, t);
  for (int i = 0; i < 8; i++)
    test_thread_join(threads[i]);
  gyre_release(t);
}

static void failed_allocations_leave_nothing(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  gyre_release(gyre_tuple_of(0));
  node *x = node_new(&node_type, 1);
  gyre_list *list = gyre_list_new();
  assert_int_equal(gyre_list_append(list, x), 0);
  gyre_tuple *one = gyre_tuple_of(1, x);
  gyre__fault_arm(1, 1);
  assert_null(gyre_tuple_of(2, x, x));
  assert_int_equal(errno, ENOMEM);
  assert_null(gyre_tuple_from_list(list));
  assert_null(gyre_tuple_concat(one, one));
  void *stolen = gyre_retain(x);
  assert_null(gyre_tuple_steal(&stolen, 1));
  assert_int_equal(errno, ENOMEM);
  gyre__fault_arm(0, 0);
  assert_int_equal(gyre_refcount(x), 3);
  gyre_release(one);
  gyre_release(list);
  gyre_release(x);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(the_empty_tuple_is_one_immortal_object),
      NODE_TEST(items_are_found_from_both_ends),
      NODE_TEST(a_null_item_is_refused),
      NODE_TEST(slices_and_sums),
      NODE_TEST(hashes_cover_every_item_however_many),
      NODE_TEST(errors_of_the_items_are_passed_on),
      NODE_TEST(a_list_and_a_tuple_make_a_tuple),
      NODE_TEST(tuples_in_cycles_are_collected),
      NODE_TEST_WITH(tuples_in_cycles_are_collected, "gc:0,gc_mode:stw"),
      NODE_TEST(threads_share_a_tuple),
      NODE_TEST(failed_allocations_leave_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
