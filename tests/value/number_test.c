/* SPDX-License-Identifier: MIT */
/* Boxed numbers, and the value protocol. */
#include <float.h>
#include <math.h>

#include "value_test.h"

static void small_integers_are_there_already(void **state) {
  (void)state;
  for (int64_t n = GYRE_INT_CACHE_MIN; n <= GYRE_INT_CACHE_MAX; n++) {
    gyre_int *a = gyre_int_from(n), *b = gyre_int_from(n);
    assert_ptr_equal(a, b);
    assert_int_equal(gyre_int_value(a), n);
    assert_true(gyre_is_immortal(a));
    assert_ptr_equal(gyre_type_of(a), &gyre_int_type);
    gyre_release(a); /* and the other count is forgotten, which is no leak */
  }
}

static void other_integers_are_objects_of_their_own(void **state) {
  (void)state;
  static const int64_t values[] = {GYRE_INT_CACHE_MIN - 1, GYRE_INT_CACHE_MAX + 1, INT64_MIN,
                                   INT64_MAX};
  for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
    gyre_int *n = gyre_int_from(values[i]);
    assert_int_equal(gyre_int_value(n), values[i]);
    assert_false(gyre_is_immortal(n));
    assert_int_equal(gyre_refcount(n), 1);
    gyre_release(n);
  }
}

static void doubles_keep_their_value(void **state) {
  (void)state;
  static const double values[] = {0.0, -0.0, 1.5, DBL_MAX, -DBL_MIN, INFINITY};
  for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
    gyre_double *d = gyre_double_from(values[i]);
    double value = gyre_double_value(d);
    assert_memory_equal(&value, &values[i], sizeof value);
    gyre_release(d);
  }
}

static bool are_equal(void *a, void *b) {
  int equal = gyre_equal(a, b), reversed = gyre_equal(b, a);
  TEST_REQUIRE(equal == reversed && (equal == 0 || equal == 1));
  uint64_t ha, hb;
  TEST_REQUIRE(gyre_hash(a, &ha) == 0 && gyre_hash(b, &hb) == 0);
  TEST_REQUIRE(!equal || ha == hb);
  gyre_release(a);
  gyre_release(b);
  return equal == 1;
}

static void numbers_are_equal_by_value_across_types(void **state) {
  (void)state;
  assert_true(are_equal(number(1), gyre_double_from(1.0)));
  assert_true(are_equal(number(5000), number(5000)));
  assert_false(are_equal(number(5000), number(5001)));
  assert_true(are_equal(gyre_double_from(0.0), gyre_double_from(-0.0)));
  assert_true(are_equal(number(0), gyre_double_from(-0.0)));
  assert_true(are_equal(number(INT64_MIN), gyre_double_from(-9223372036854775808.0)));
  assert_false(are_equal(number(INT64_MAX), gyre_double_from(9223372036854775808.0)));
  /* 2^53 + 1 is no double: the nearest is not equal to it. */
  assert_false(are_equal(number((INT64_C(1) << 53) + 1), gyre_double_from(9007199254740992.0)));
  assert_false(are_equal(gyre_double_from(1.5), number(1)));
  assert_true(are_equal(gyre_double_from(INFINITY), gyre_double_from(INFINITY)));
  assert_false(are_equal(gyre_double_from(NAN), gyre_double_from(NAN)));
  gyre_double *nan = gyre_double_from(NAN);
  assert_true(are_equal(nan, gyre_retain(nan)));
  assert_false(are_equal(number(97), str("a")));
}

/* ---- the protocol ---- */

static void objects_without_the_protocol_are_equal_to_themselves(void **state) {
  (void)state;
  node *a = node_new(&plain_type, 1), *b = node_new(&plain_type, 1);
  assert_int_equal(gyre_equal(a, a), 1);
  assert_int_equal(gyre_equal(a, b), 0);
  assert_int_equal(gyre_equal(a, NULL), 0);
  assert_int_equal(gyre_equal(NULL, NULL), 1);
  uint64_t once, twice, other;
  assert_int_equal(gyre_hash(a, &once), 0);
  assert_int_equal(gyre_hash(a, &twice), 0);
  assert_int_equal(gyre_hash(b, &other), 0);
  assert_true(once == twice && once != other);
  gyre_release(a);
  gyre_release(b);
}

static void a_type_says_what_is_equal(void **state) {
  (void)state;
  assert_true(are_equal(point_new(1), point_new(1)));
  assert_false(are_equal(point_new(1), point_new(2)));
  assert_false(are_equal(point_new(1), number(1)));
  /* The other side is asked if this one says nothing. */
  assert_false(are_equal(node_new(&plain_type, 1), point_new(1)));
}

static void errors_of_a_types_functions_are_passed_on(void **state) {
  (void)state;
  point *a = point_new(1), *b = point_new(1);
  point_error = -EIO;
  uint64_t hash = 77;
  assert_int_equal(gyre_hash(a, &hash), -EIO);
  assert_int_equal(hash, 77);
  assert_int_equal(gyre_equal(a, b), -EIO);
  point_error = 0;
  gyre_release(a);
  gyre_release(b);
}

static void dictionaries_have_no_hash(void **state) {
  (void)state;
  gyre_dict *d = gyre_dict_new();
  uint64_t hash;
  assert_int_equal(gyre_hash(d, &hash), -EINVAL);
  assert_int_equal(gyre_hash_refuse(d, &hash), -EINVAL);
  assert_int_equal(gyre_hash(NULL, &hash), -EINVAL);
  gyre_release(d);
}

static void hashes_of_bytes_differ_by_every_bit(void **state) {
  (void)state;
  char bytes[300];
  memset(bytes, 7, sizeof bytes);
  for (size_t length = 1; length < sizeof bytes; length += 13) {
    uint64_t hash = gyre_hash_bytes(bytes, length);
    assert_true(gyre_hash_bytes(bytes, length) == hash);
    assert_true(gyre_hash_bytes(bytes, length - 1) != hash);
    for (size_t bit = 0; bit < 8 * length; bit += 5) {
      bytes[bit / 8] = (char)(bytes[bit / 8] ^ (1 << bit % 8));
      assert_true(gyre_hash_bytes(bytes, length) != hash);
      bytes[bit / 8] = (char)(bytes[bit / 8] ^ (1 << bit % 8));
    }
  }
}

static void hash_in_child(void *arg) {
  const uint64_t *hash = arg;
  TEST_REQUIRE(gyre_hash_bytes("fork", 4) == *hash);
}

static void hashes_are_the_same_after_a_fork(void **state) {
  (void)state;
  uint64_t hash = gyre_hash_bytes("fork", 4);
  test_in_child(hash_in_child, &hash);
}

static void *uses_numbers(void *arg) {
  (void)arg;
  for (int64_t n = -10; n < 2000; n++)
    TEST_REQUIRE(number_of(number(n)) == n);
  return NULL;
}

static void threads_share_the_small_integers(void **state) {
  (void)state;
  pthread_t threads[8];
  for (int i = 0; i < 8; i++)
    threads[i] = test_thread_start(uses_numbers, NULL);
  for (int i = 0; i < 8; i++)
    test_thread_join(threads[i]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(threads_share_the_small_integers),
      TEST(small_integers_are_there_already),
      TEST(other_integers_are_objects_of_their_own),
      TEST(doubles_keep_their_value),
      TEST(numbers_are_equal_by_value_across_types),
      NODE_TEST(objects_without_the_protocol_are_equal_to_themselves),
      TEST(a_type_says_what_is_equal),
      TEST(errors_of_a_types_functions_are_passed_on),
      TEST(dictionaries_have_no_hash),
      TEST(hashes_of_bytes_differ_by_every_bit),
      TEST(hashes_are_the_same_after_a_fork),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
