/* SPDX-License-Identifier: MIT */
/* Dictionaries in one thread: what each function does, and what becomes of the entries. */
#include "value_test.h"

static void an_empty_dictionary_has_nothing(void **state) {
  (void)state;
  gyre_dict *d = gyre_dict_new();
  gyre_str *k = str("key");
  assert_int_equal(gyre_dict_length(d), 0);
  errno = 0;
  assert_null(gyre_dict_get(d, k));
  assert_int_equal(errno, ENOENT);
  assert_int_equal(gyre_dict_contains(d, k), 0);
  assert_int_equal(gyre_dict_del(d, k), -ENOENT);
  errno = 0;
  assert_null(gyre_dict_pop(d, k));
  assert_int_equal(errno, ENOENT);
  gyre_dict_clear(d);
  gyre_dict *copy = gyre_dict_copy(d);
  assert_int_equal(gyre_dict_length(copy), 0);
  gyre_dict_items *items = gyre_dict_snapshot(d);
  assert_int_equal(gyre_dict_items_length(items), 0);
  assert_null(gyre_dict_items_key(items, 0));
  assert_null(gyre_dict_items_value(items, 0));
  gyre_release(items);
  gyre_release(copy);
  gyre_release(k);
  gyre_release(d);
}

static void a_key_finds_the_value_it_was_set_to(void **state) {
  (void)state;
  gyre_dict *d = gyre_dict_new();
  dict_put(d, "one", 1);
  dict_put(d, "two", 2);
  assert_int_equal(gyre_dict_length(d), 2);
  assert_int_equal(dict_at(d, "one"), 1);
  assert_int_equal(dict_at(d, "two"), 2);
  assert_int_equal(dict_at(d, "three"), -1);
  dict_put(d, "one", 5000);
  assert_int_equal(gyre_dict_length(d), 2);
  assert_int_equal(dict_at(d, "one"), 5000);
  gyre_str *k = interned("one");
  assert_int_equal(number_of(gyre_dict_get(d, k)), 5000);
  assert_int_equal(gyre_dict_contains(d, k), 1);
  gyre_release(k);
  gyre_release(d);
}

static void setting_again_keeps_the_first_key(void **state) {
  (void)state;
  gyre_dict *d = gyre_dict_new();
  gyre_str *first = str("key"), *second = str("key");
  void *one = number(1), *two = number(2);
  assert_int_equal(gyre_dict_set(d, first, one), 0);
  assert_int_equal(gyre_dict_set(d, second, two), 0);
  gyre_dict_items *items = gyre_dict_snapshot(d);
  assert_int_equal(gyre_dict_items_length(items), 1);
  assert_ptr_equal(gyre_dict_items_key(items, 0), first);
  assert_ptr_equal(gyre_dict_items_value(items, 0), two);
  gyre_release(items);
  gyre_release(first);
  gyre_release(second);
  gyre_release(d);
}

static void bad_arguments_change_nothing(void **state) {
  (void)state;
  gyre_dict *d = gyre_dict_new(), *other = gyre_dict_new();
  gyre_str *k = str("key");
  assert_int_equal(gyre_dict_set(d, NULL, k), -EINVAL);
  assert_int_equal(gyre_dict_set(d, k, NULL), -EINVAL);
  assert_int_equal(gyre_dict_set(d, other, k), -EINVAL); /* no hash */
  assert_int_equal(gyre_dict_del(d, other), -EINVAL);
  assert_int_equal(gyre_dict_contains(d, other), -EINVAL);
  errno = 0;
  assert_null(gyre_dict_get(d, other));
  assert_int_equal(errno, EINVAL);
  errno = 0;
  assert_null(gyre_dict_setdefault(d, other, k));
  assert_int_equal(errno, EINVAL);
  errno = 0;
  assert_null(gyre_dict_pop(d, other));
  assert_int_equal(errno, EINVAL);
  point *p = point_new(1);
  point_error = -EIO;
  assert_int_equal(gyre_dict_set(d, p, k), -EIO);
  point_error = 0;
  assert_int_equal(gyre_dict_length(d), 0);
  gyre_release(p);
  gyre_release(k);
  gyre_release(d);
  gyre_release(other);
}

static void an_error_of_a_comparison_is_passed_on(void **state) {
  (void)state;
  gyre_dict *d = gyre_dict_new();
  point *a = point_new(1);
  void *v = number(1), *w = number(2);
  assert_int_equal(gyre_dict_set(d, a, v), 0);
  gyre_str *odd = str("x1"); /* looked for with the point's hash, so that it is compared */
  point *b = point_new(1);
  uint64_t hash;
  assert_int_equal(gyre_hash(b, &hash), 0);
  gyre__store_relaxed(&odd->gyre__hash, hash); /* relaxed: one thread */
  point_error = -EIO;
  errno = 0;
  assert_null(gyre_dict_get(d, odd));
  assert_int_equal(errno, EIO);
  assert_int_equal(gyre_dict_contains(d, odd), -EIO);
  assert_int_equal(gyre_dict_set(d, odd, w), -EIO);
  assert_int_equal(gyre_dict_del(d, odd), -EIO);
  point_error = 0;
  assert_int_equal(gyre_dict_length(d), 1);
  assert_int_equal(number_of(gyre_dict_get(d, b)), 1);
  gyre_release(odd);
  gyre_release(a);
  gyre_release(b);
  gyre_release(d);
}

static void setdefault_keeps_what_is_there(void **state) {
  (void)state;
  gyre_dict *d = gyre_dict_new();
  gyre_str *k = str("key");
  void *a = number(7000), *b = number(8000);
  void *there = gyre_dict_setdefault(d, k, a);
  assert_ptr_equal(there, a);
  gyre_release(there);
  there = gyre_dict_setdefault(d, k, b);
  assert_ptr_equal(there, a);
  gyre_release(there);
  gyre_release(a);
  gyre_release(b);
  gyre_release(k);
  assert_int_equal(dict_at(d, "key"), 7000);
  gyre_release(d);
}

static void pop_hands_over_the_dictionarys_reference(void **state) {
  (void)state;
  gyre_dict *d = gyre_dict_new();
  node *n = node_new(&node_type, 3);
  gyre_str *k = str("key");
  assert_int_equal(gyre_dict_set(d, k, n), 0);
  gyre_release(n);
  assert_int_equal(gyre_refcount(k), 2);
  assert_ptr_equal(gyre_dict_pop(d, k), n);
  assert_int_equal(gyre_refcount(n), 1);
  assert_int_equal(gyre_refcount(k), 1);
  assert_null(gyre_dict_pop(d, k));
  assert_int_equal(gyre_dict_length(d), 0);
  gyre_release(n);
  assert_int_equal(nodes_destroyed(), 1);
  gyre_release(k);
  gyre_release(d);
}

static void values_die_at_once(void **state) {
  (void)state;
  gyre_dict *d = gyre_dict_new();
  gyre_str *k = str("key");
  for (uint64_t i = 0; i < 4; i++) {
    node *n = node_new(&node_type, i);
    assert_int_equal(gyre_dict_set(d, k, n), 0);
    gyre_release(n);
    assert_int_equal(nodes_destroyed(), i);
  }
  assert_int_equal(gyre_dict_del(d, k), 0);
  assert_int_equal(nodes_destroyed(), 4);
  for (int64_t i = 0; i < 100; i++) {
    node *n = node_new(&node_type, 0);
    void *key = number(i);
    assert_int_equal(gyre_dict_set(d, key, n), 0);
    gyre_release(n);
  }
  gyre_dict_clear(d);
  assert_int_equal(nodes_destroyed(), 104);
  assert_int_equal(gyre_dict_length(d), 0);
  node *n = node_new(&node_type, 0);
  assert_int_equal(gyre_dict_set(d, k, n), 0);
  gyre_release(n);
  gyre_release(d);
  assert_int_equal(nodes_destroyed(), 105);
  gyre_release(k);
}

/* ---- kinds of keys ---- */

static void keys_are_found_by_value(void **state) {
  (void)state;
  gyre_dict *d = gyre_dict_new();
  node *identity = node_new(&plain_type, 0), *twin = node_new(&plain_type, 0);
  void *keys[] = {str("text"), number(100000), gyre_double_from(2.5), point_new(5), identity};
  void *equals[] = {interned("text"), gyre_double_from(100000.0), gyre_double_from(2.5),
                    point_new(5), gyre_retain(identity)};
  void *others[] = {str("texu"), number(100001), gyre_double_from(2.25), point_new(6), twin};
  for (int64_t i = 0; i < 5; i++) {
    void *v = number(i);
    assert_int_equal(gyre_dict_set(d, keys[i], v), 0);
  }
  for (int64_t i = 0; i < 5; i++) {
    assert_int_equal(number_of(gyre_dict_get(d, keys[i])), i);
    assert_int_equal(number_of(gyre_dict_get(d, equals[i])), i);
    assert_null(gyre_dict_get(d, others[i]));
    void *v = number(i + 10);
    assert_int_equal(gyre_dict_set(d, equals[i], v), 0);
  }
  assert_int_equal(gyre_dict_length(d), 5);
  for (int64_t i = 0; i < 5; i++) {
    assert_int_equal(number_of(gyre_dict_pop(d, equals[i])), i + 10);
    gyre_release(keys[i]);
    gyre_release(equals[i]);
    gyre_release(others[i]);
  }
  assert_int_equal(gyre_dict_length(d), 0);
  gyre_release(d);
}

static void keys_with_the_same_hash_are_told_apart(void **state) {
  (void)state;
  point_same_hash = true;
  gyre_dict *d = gyre_dict_new();
  enum { KEYS = 60 };
  point *keys[KEYS];
  for (int64_t i = 0; i < KEYS; i++) {
    keys[i] = point_new(i);
    void *v = number(i);
    assert_int_equal(gyre_dict_set(d, keys[i], v), 0);
  }
  assert_int_equal(gyre_dict_length(d), KEYS);
  for (int64_t i = 0; i < KEYS; i += 2)
    assert_int_equal(gyre_dict_del(d, keys[i]), 0);
  for (int64_t i = 0; i < KEYS; i++) {
    point *equal = point_new(i);
    assert_int_equal(number_of(gyre_dict_get(d, equal)), i % 2 ? i : -1);
    gyre_release(equal);
    gyre_release(keys[i]);
  }
  gyre_release(d);
  point_same_hash = false;
}

/* ---- order, and many entries ---- */

static void assert_order(gyre_dict *d, const char *expected) {
  gyre_dict_items *items = gyre_dict_snapshot(d);
  assert_int_equal(gyre_dict_items_length(items), strlen(expected));
  assert_int_equal(gyre_dict_length(d), strlen(expected));
  for (size_t i = 0; expected[i] != '\0'; i++)
    assert_int_equal(gyre_str_data(gyre_dict_items_key(items, i))[0], expected[i]);
  gyre_release(items);
}

static void entries_keep_the_order_in_which_they_came(void **state) {
  (void)state;
  gyre_dict *d = gyre_dict_new();
  dict_put(d, "c", 1);
  dict_put(d, "a", 2);
  dict_put(d, "b", 3);
  assert_order(d, "cab");
  dict_put(d, "c", 4); /* keeps its place */
  assert_order(d, "cab");
  assert_int_equal(dict_remove(d, "a"), 0);
  assert_order(d, "cb");
  dict_put(d, "a", 5); /* comes last now */
  assert_order(d, "cba");
  for (int i = 0; i < 100; i++) { /* compacts again and again */
    assert_int_equal(dict_remove(d, "b"), 0);
    dict_put(d, "b", i);
    assert_order(d, "cab");
    assert_int_equal(dict_remove(d, "a"), 0);
    dict_put(d, "a", i);
    assert_order(d, "cba");
  }
  gyre_dict *copy = gyre_dict_copy(d);
  gyre_dict_clear(d);
  assert_order(d, "");
  assert_order(copy, "cba");
  assert_int_equal(dict_at(copy, "a"), 99);
  gyre_release(copy);
  gyre_release(d);
}

static void update_sets_each_entry(void **state) {
  (void)state;
  gyre_dict *a = gyre_dict_new(), *b = gyre_dict_new();
  dict_put(a, "x", 1);
  dict_put(a, "y", 2);
  dict_put(b, "z", 30);
  dict_put(b, "x", 10);
  assert_int_equal(gyre_dict_update(a, b), 0);
  assert_order(a, "xyz");
  assert_int_equal(dict_at(a, "x"), 10);
  assert_int_equal(dict_at(a, "y"), 2);
  assert_int_equal(dict_at(a, "z"), 30);
  assert_int_equal(gyre_dict_update(a, a), 0);
  assert_order(a, "xyz");
  gyre_release(a);
  gyre_release(b);
}

static void dictionaries_are_equal_by_content(void **state) {
  (void)state;
  gyre_dict *a = gyre_dict_new(), *b = gyre_dict_new();
  assert_int_equal(gyre_equal(a, b), 1);
  dict_put(a, "x", 1);
  assert_int_equal(gyre_equal(a, b), 0);
  dict_put(a, "y", 2);
  dict_put(b, "y", 2);
  dict_put(b, "x", 1);
  assert_int_equal(gyre_equal(a, b), 1); /* the order does not matter */
  dict_put(b, "x", 3);
  assert_int_equal(gyre_equal(a, b), 0);
  /* Nested in themselves: an error, no end of the stack. */
  gyre_str *k = str("x");
  assert_int_equal(gyre_dict_set(a, k, a), 0);
  assert_int_equal(gyre_dict_set(b, k, b), 0);
  assert_int_equal(gyre_equal(a, b), -ELOOP);
  gyre_dict_clear(a);
  gyre_dict_clear(b);
  gyre_release(k);
  gyre_release(a);
  gyre_release(b);
}

static void what_random_steps_leave_is_what_a_model_says(void **state) {
  (void)state;
  enum { KEYS = 700 };
  static int64_t model[KEYS];
  static uint64_t came[KEYS]; /* when the key came */
  static void *keys[KEYS], *twins[KEYS];
  for (int i = 0; i < KEYS; i++) {
    model[i] = -1;
    keys[i] = i % 3 == 0   ? (void *)gyre_str_format("key %d", i)
              : i % 3 == 1 ? number(i * 1000)
                           : (void *)point_new(i);
    twins[i] = i % 3 == 0   ? (void *)gyre_str_format("key %d", i)
               : i % 3 == 1 ? number(i * 1000)
                            : (void *)point_new(i);
  }
  struct test_random random = test_random_new(2);
  gyre_dict *d = gyre_dict_new();
  size_t length = 0;
  uint64_t rounds = test_size("GYRE_TEST_ROUNDS", 300000, 60000, 20000), clock = 0;
  uint32_t range = 8;
  for (uint64_t round = 0; round < rounds; round++) {
    if (round % 1000 == 0) range = 1 + test_random_below(&random, KEYS);
    uint32_t i = test_random_below(&random, range);
    void *key = test_random_below(&random, 2) ? keys[i] : twins[i];
    int64_t n = test_random_below(&random, 3000);
    void *value = number(n);
    switch (test_random_below(&random, 8)) {
    case 0:
    case 1:
    case 2:
      assert_int_equal(gyre_dict_set(d, key, value), 0);
      if (model[i] < 0) {
        length++;
        came[i] = ++clock;
      }
      model[i] = n;
      break;
    case 3:
      assert_int_equal(gyre_dict_del(d, key), model[i] < 0 ? -ENOENT : 0);
      if (model[i] >= 0) length--;
      model[i] = -1;
      break;
    case 4:
      assert_int_equal(number_of(gyre_dict_pop(d, key)), model[i]);
      if (model[i] >= 0) length--;
      model[i] = -1;
      break;
    case 5:
      if (model[i] < 0) {
        length++;
        model[i] = n;
        came[i] = ++clock;
      }
      assert_int_equal(number_of(gyre_dict_setdefault(d, key, value)), model[i]);
      break;
    default:
      assert_int_equal(number_of(gyre_dict_get(d, key)), model[i]);
      assert_int_equal(gyre_dict_contains(d, key), model[i] >= 0);
    }
    gyre_release(value);
    assert_int_equal(gyre_dict_length(d), length);
    if (round % 5000 == 0) {
      gyre_safepoint();
      gyre_dict *copy = gyre_dict_copy(d);
      assert_int_equal(gyre_equal(copy, d), 1);
      gyre_dict_items *items = gyre_dict_snapshot(copy);
      uint64_t last = 0;
      for (size_t at = 0; at < length; at++) {
        int k = 0;
        while (gyre_equal(keys[k], gyre_dict_items_key(items, at)) != 1)
          k++;
        assert_true(came[k] > last);
        last = came[k];
        assert_int_equal(gyre_int_value(gyre_dict_items_value(items, at)), model[k]);
      }
      gyre_release(items);
      if (test_random_below(&random, 4) == 0) {
        gyre_dict_clear(d);
        length = 0;
        for (int k = 0; k < KEYS; k++)
          model[k] = -1;
      }
      gyre_release(copy);
    }
  }
  for (int i = 0; i < KEYS; i++) {
    gyre_release(keys[i]);
    gyre_release(twins[i]);
  }
  gyre_release(d);
}

static void a_million_entries_are_found(void **state) {
  (void)state;
  int64_t count = (int64_t)test_size("GYRE_TEST_ENTRIES", 1000000, 100000, 30000);
  gyre_dict *d = gyre_dict_new();
  for (int64_t i = 0; i < count; i++) {
    void *n = number(i);
    assert_int_equal(gyre_dict_set(d, n, n), 0);
    gyre_release(n);
  }
  assert_int_equal(gyre_dict_length(d), count);
  for (int64_t i = 0; i < count; i++) {
    void *n = number(i);
    assert_int_equal(number_of(gyre_dict_get(d, n)), i);
    gyre_release(n);
  }
  for (int64_t i = 0; i < count; i++) {
    if (i % 10 == 0) continue;
    void *n = number(i);
    assert_int_equal(gyre_dict_del(d, n), 0);
    gyre_release(n);
  }
  for (int64_t i = count; gyre_dict_length(d) < (size_t)count / 5; i++) { /* compacts on the way */
    void *n = number(i);
    assert_int_equal(gyre_dict_set(d, n, n), 0);
    gyre_release(n);
    gyre_safepoint();
  }
  gyre_release(d);
}

/* ---- what the collectors see ---- */

static void cycles_through_dictionaries_are_collected(void **state) {
  (void)state;
  gyre_dict *d = gyre_dict_new();
  gyre_str *k = str("me");
  node *n = node_new(&node_type, 1);
  gyre_str *kn = str("node");
  assert_int_equal(gyre_dict_set(d, k, d), 0);
  assert_int_equal(gyre_dict_set(d, kn, n), 0);
  gyre_release(n);
  gyre_release(k);
  gyre_release(kn);
  assert_true(gyre_gc_is_tracked(d));
  gyre_release(d);
  assert_int_equal(nodes_destroyed(), 0);
  assert_true(gyre_gc_collect(2) >= 3); /* dictionary, entries, node */
  assert_int_equal(nodes_destroyed(), 1);
}

static void large_cycles_are_collected(void **state) {
  (void)state;
  /* Several dictionaries that know each other, with more entries than fit below 64 KiB. */
  enum { DICTS = 4, ENTRIES = 5000 };
  gyre_dict *dicts[DICTS];
  for (int i = 0; i < DICTS; i++)
    dicts[i] = gyre_dict_new();
  for (int i = 0; i < DICTS; i++)
    for (int64_t j = 0; j < ENTRIES; j++) {
      void *k = number(j);
      assert_int_equal(gyre_dict_set(dicts[i], k, dicts[(i + 1) % DICTS]), 0);
      gyre_release(k);
    }
  node *n = node_new(&node_type, 1);
  gyre_str *kn = str("node");
  assert_int_equal(gyre_dict_set(dicts[2], kn, n), 0);
  gyre_release(n);
  gyre_release(kn);
  for (int i = 1; i < DICTS; i++)
    gyre_release(dicts[i]);
  gyre_gc_collect(2);
  assert_int_equal(nodes_destroyed(), 0);
  gyre_release(dicts[0]);
  assert_true(gyre_gc_collect(2) >= DICTS);
  assert_int_equal(nodes_destroyed(), 1);
}

static void a_cycle_of_keys_is_collected(void **state) {
  (void)state;
  gyre_dict *d = gyre_dict_new();
  node *key = node_new(&node_type, 1);
  void *v = number(1);
  assert_int_equal(gyre_dict_set(d, key, v), 0);
  gyre_store(&key->other, (node *)(void *)d);
  gyre_release(key);
  gyre_release(d);
  assert_true(gyre_gc_collect(2) >= 2);
  assert_int_equal(nodes_destroyed(), 1);
}

static void what_a_young_collection_finds_includes_dictionaries(void **state) {
  (void)state;
  for (int i = 0; i < 3000; i++) {
    gyre_dict *d = gyre_dict_new();
    dict_put(d, "number", i);
    gyre_str *k = interned("self");
    node *n = node_new(&node_type, 0);
    assert_int_equal(gyre_dict_set(d, k, d), 0);
    gyre_release(k);
    k = interned("node");
    assert_int_equal(gyre_dict_set(d, k, n), 0);
    gyre_release(k);
    gyre_release(n);
    gyre_release(d);
    gyre_safepoint();
  }
  assert_true(nodes_destroyed() > 1000);
}

/* ---- program code inside ---- */

static gyre_dict *used_inside;
static int uses_the_dictionary(node *n) {
  (void)n;
  dict_put(used_inside, "finalized", 1);
  TEST_REQUIRE(dict_at(used_inside, "finalized") == 1);
  return 0;
}

static void finalizers_may_use_the_dictionary_they_leave(void **state) {
  (void)state;
  node_on_finalize = uses_the_dictionary;
  gyre_dict *d = used_inside = gyre_dict_new();
  gyre_str *k = str("key");
  for (int way = 0; way < 4; way++) {
    node *n = node_new(&finalized_type, 1);
    assert_int_equal(gyre_dict_set(d, k, n), 0);
    gyre_release(n);
    if (way == 0) dict_put(d, "key", 5);
    if (way == 1) assert_int_equal(gyre_dict_del(d, k), 0);
    if (way == 2) gyre_release(gyre_dict_pop(d, k));
    if (way == 3) gyre_dict_clear(d);
    assert_int_equal(nodes_finalized(), way + 1);
    assert_int_equal(dict_at(d, "finalized"), 1);
    gyre_dict_clear(d);
  }
  node_on_finalize = NULL;
  gyre_release(k);
  gyre_release(d);
}

static int changes;
static void changes_the_dictionary(void) {
  if (changes == 0) return;
  changes--;
  point_on_equal = NULL;
  GYRE_AUTO(point) other = point_new(1000 + changes);
  GYRE_AUTO(void) v = number(0);
  TEST_REQUIRE(gyre_dict_set(used_inside, other, v) == 0);
  if (changes % 3 == 0) gyre_dict_clear(used_inside);
  gyre_safepoint();
  TEST_REQUIRE(gyre_synchronize() == 0);
  gyre_safepoint();
  point_on_equal = changes_the_dictionary;
}

static void comparisons_may_change_the_dictionary(void **state) {
  (void)state;
  gyre_dict *d = used_inside = gyre_dict_new();
  point_on_equal = changes_the_dictionary;
  for (int64_t i = 0; i < 400; i++) {
    point_same_hash = i >= 200; /* then it meets keys that are not equal, too */
    if (i == 200) gyre_dict_clear(d);
    changes = (int)(i % 4) * 7;
    point *key = point_new(i % 5), *twin = point_new(i % 5);
    void *v = number(i);
    assert_int_equal(gyre_dict_set(d, key, v), 0);
    changes = (int)(i % 4);
    int64_t got = number_of(gyre_dict_get(d, twin));
    assert_true(got == i || got == -1); /* cleared */
    changes = (int)(i % 4);
    if (i % 3 == 0) {
      int result = gyre_dict_del(d, twin);
      assert_true(result == 0 || result == -ENOENT);
    }
    gyre_release(key);
    gyre_release(twin);
    gyre_release(v);
  }
  point_on_equal = NULL;
  point_same_hash = false;
  gyre_release(d);
}

/* ---- out of memory ---- */

static void a_step_that_finds_no_memory_changes_nothing(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  gyre_dict *d = gyre_dict_new();
  unsigned failures = 0;
  for (int64_t i = 0; i < 300; i++) {
    void *key = number(i + 5000), *value = number(i);
    for (uint64_t nth = 1;; nth++) {
      gyre__fault_arm(nth, 1);
      int result = gyre_dict_set(d, key, value);
      gyre__fault_arm(0, 0);
      if (result == 0) break;
      failures++;
      assert_int_equal(result, -ENOMEM);
      assert_int_equal(gyre_dict_length(d), i);
      assert_null(gyre_dict_get(d, key));
    }
    if (i % 50 == 49) {
      for (uint64_t nth = 1;; nth++) {
        gyre__fault_arm(nth, 1);
        errno = 0;
        gyre_dict *copy = gyre_dict_copy(d);
        gyre_dict_items *items = copy != NULL ? gyre_dict_snapshot(copy) : NULL;
        int err = errno;
        gyre__fault_arm(0, 0);
        bool done = items != NULL;
        if (done) assert_int_equal(gyre_equal(copy, d), 1);
        gyre_release(copy);
        gyre_release(items);
        if (done) break;
        failures++;
        assert_int_equal(err, ENOMEM);
      }
    }
    gyre_release(key);
    gyre_release(value);
  }
  assert_true(failures > 10);
  gyre_release(d);
}

static void taking_out_and_reading_need_no_memory(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  gyre_dict *d = gyre_dict_new();
  enum { KEYS = 100 };
  void *keys[KEYS];
  for (int64_t i = 0; i < KEYS; i++) {
    keys[i] = gyre_str_format("key %d", (int)i);
    assert_int_equal(gyre_dict_set(d, keys[i], keys[i]), 0);
  }
  gyre__fault_arm(1, 1);
  for (int64_t i = 0; i < KEYS; i++) {
    void *got = gyre_dict_get(d, keys[i]);
    assert_ptr_equal(got, keys[i]);
    gyre_release(got);
    assert_int_equal(gyre_dict_set(d, keys[i], keys[0]), 0);
    if (i % 2) assert_int_equal(gyre_dict_del(d, keys[i]), 0);
  }
  gyre_dict_clear(d);
  gyre_safepoint();
  assert_int_equal(gyre__fault_count(), 0);
  gyre__fault_arm(0, 0);
  for (int64_t i = 0; i < KEYS; i++)
    gyre_release(keys[i]);
  gyre_release(d);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(an_empty_dictionary_has_nothing),
      TEST(a_key_finds_the_value_it_was_set_to),
      TEST(setting_again_keeps_the_first_key),
      TEST(bad_arguments_change_nothing),
      TEST(an_error_of_a_comparison_is_passed_on),
      TEST(setdefault_keeps_what_is_there),
      NODE_TEST(pop_hands_over_the_dictionarys_reference),
      NODE_TEST(values_die_at_once),
      NODE_TEST(keys_are_found_by_value),
      TEST(keys_with_the_same_hash_are_told_apart),
      TEST(entries_keep_the_order_in_which_they_came),
      TEST(update_sets_each_entry),
      TEST(dictionaries_are_equal_by_content),
      TEST(what_random_steps_leave_is_what_a_model_says),
      TEST(a_million_entries_are_found),
      NODE_TEST(cycles_through_dictionaries_are_collected),
      NODE_TEST(large_cycles_are_collected),
      NODE_TEST(a_cycle_of_keys_is_collected),
      NODE_TEST_WITH(what_a_young_collection_finds_includes_dictionaries, "gc:1"),
      NODE_TEST(finalizers_may_use_the_dictionary_they_leave),
      TEST(comparisons_may_change_the_dictionary),
      TEST(a_step_that_finds_no_memory_changes_nothing),
      TEST(taking_out_and_reading_need_no_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
