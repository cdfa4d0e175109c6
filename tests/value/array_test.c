/* SPDX-License-Identifier: MIT */
/* Typed arrays: what array.array does, and no more memory than that. */
#include <math.h>

#include "tests/value/value_test.h"

static int64_t int_at(gyre_array *a, ptrdiff_t index) {
  int64_t value = INT64_MIN;
  TEST_REQUIRE(gyre_array_get_int(a, index, &value) == 0);
  return value;
}

/* lowest and highest integer of a kind, as far as they are int64_t's */
static const struct {
  enum gyre_array_kind kind;
  char code;
  size_t size;
  int64_t min, max;
} integers[] = {
    {GYRE_I8, 'b', 1, INT8_MIN, INT8_MAX},    {GYRE_U8, 'B', 1, 0, UINT8_MAX},
    {GYRE_I16, 'h', 2, INT16_MIN, INT16_MAX}, {GYRE_U16, 'H', 2, 0, UINT16_MAX},
    {GYRE_I32, 'i', 4, INT32_MIN, INT32_MAX}, {GYRE_U32, 'I', 4, 0, UINT32_MAX},
    {GYRE_I64, 'q', 8, INT64_MIN, INT64_MAX}, {GYRE_U64, 'Q', 8, 0, INT64_MAX},
};

static void integers_keep_their_range(void **state) {
  (void)state;
  for (size_t k = 0; k < sizeof integers / sizeof *integers; k++) {
    gyre_array *a = gyre_array_new(integers[k].kind);
    int64_t min = integers[k].min, max = integers[k].max;
    assert_int_equal(gyre_array_typecode(a), integers[k].code);
    assert_int_equal(gyre_array_itemsize(a), integers[k].size);
    assert_int_equal(gyre_array_kind_of(a), integers[k].kind);
    assert_int_equal(gyre_array_append_int(a, min), 0);
    assert_int_equal(gyre_array_append_int(a, max), 0);
    if (min > INT64_MIN) assert_int_equal(gyre_array_append_int(a, min - 1), -EOVERFLOW);
    if (max < INT64_MAX) assert_int_equal(gyre_array_append_int(a, max + 1), -EOVERFLOW);
    assert_int_equal(gyre_array_append_double(a, 1), -EINVAL);
    assert_int_equal(gyre_array_set_int(a, -1, 7), 0);
    assert_int_equal(gyre_array_size(a), 2);
    assert_int_equal(int_at(a, 0), min);
    assert_int_equal(int_at(a, 1), 7);
    int64_t out = 5;
    assert_int_equal(gyre_array_get_int(a, 2, &out), -ERANGE);
    assert_int_equal(gyre_array_get_int(a, -3, &out), -ERANGE);
    assert_int_equal(out, 5);
    assert_int_equal(gyre_gc_is_tracked(a), 0);
    gyre_release(a);
  }
  gyre_array *u = gyre_array_from(GYRE_U64, &(uint64_t){UINT64_MAX}, 1);
  int64_t out;
  double real;
  assert_int_equal(gyre_array_get_int(u, 0, &out), -EOVERFLOW);
  assert_int_equal(gyre_array_get_double(u, 0, &real), 0);
  assert_true(real >= 0x1p64);
  gyre_release(u);
  assert_null(gyre_array_new((enum gyre_array_kind)99));
  assert_int_equal(errno, EINVAL);
}

static void floats_keep_their_range(void **state) {
  (void)state;
  gyre_array *f = gyre_array_new(GYRE_F32), *d = gyre_array_new(GYRE_F64);
  assert_int_equal(gyre_array_append_double(f, 1e300), -EOVERFLOW);
  assert_int_equal(gyre_array_append_double(f, INFINITY), 0);
  assert_int_equal(gyre_array_append_double(f, 0.5), 0);
  assert_int_equal(gyre_array_append_int(f, 3), 0);
  assert_int_equal(gyre_array_append_double(d, 1e300), 0);
  assert_int_equal(gyre_array_append_double(d, NAN), 0);
  assert_int_equal(gyre_array_set_double(d, 0, 0.5), 0);
  double value;
  int64_t whole;
  assert_int_equal(gyre_array_get_double(f, 1, &value), 0);
  assert_true(value >= 0.5 && value <= 0.5);
  assert_int_equal(gyre_array_get_int(f, 1, &whole), -EINVAL);
  assert_int_equal(gyre_array_index(d, &(double){NAN}), -ENOENT);
  assert_int_equal(gyre_array_index(d, &(double){0.5}), 0);
  assert_int_equal(gyre_array_count(f, &(float){3}), 1);
  gyre_release(f);
  gyre_release(d);
}

static void arrays_compare_by_their_numbers(void **state) {
  (void)state;
  const int8_t bytes[] = {-1, 0, 5};
  const double reals[] = {-1, 0, 5};
  gyre_array *a = gyre_array_from(GYRE_I8, bytes, 3), *b = gyre_array_from(GYRE_F64, reals, 3);
  gyre_array *u = gyre_array_from(GYRE_U8, bytes, 3);
  assert_int_equal(gyre_equal(a, b), 1);
  assert_int_equal(gyre_equal(b, a), 1);
  assert_int_equal(gyre_equal(a, u), 0);
  assert_int_equal(gyre_array_set_double(b, 2, 5.5), 0);
  assert_int_equal(gyre_equal(a, b), 0);
  /* 2^63 is no int64_t, and 2^53 + 1 no double. */
  gyre_array *large = gyre_array_from(GYRE_I64, &(int64_t){(1ll << 53) + 1}, 1);
  gyre_array *real = gyre_array_from(GYRE_F64, &(double){0x1p53}, 1);
  assert_int_equal(gyre_equal(large, real), 0);
  uint64_t hash;
  assert_int_equal(gyre_hash(a, &hash), -EINVAL);
  gyre_array *all[] = {a, b, u, large, real};
  for (size_t i = 0; i < 5; i++)
    gyre_release(all[i]);
}

static void insert_delete_and_the_rest(void **state) {
  (void)state;
  gyre_array *a = gyre_array_new(GYRE_I32);
  for (int i = 0; i < 10; i++)
    assert_int_equal(gyre_array_append_int(a, i), 0);
  const int32_t two[] = {100, 101};
  assert_int_equal(gyre_array_insert(a, 3, two, 2), 0);
  assert_int_equal(gyre_array_insert(a, -1000, two, 1), 0);
  assert_int_equal(gyre_array_size(a), 13);
  assert_int_equal(int_at(a, 0), 100);
  assert_int_equal(int_at(a, 4), 100);
  assert_int_equal(int_at(a, 5), 101);
  assert_int_equal(int_at(a, -1), 9);
  int32_t popped = 0;
  assert_int_equal(gyre_array_pop(a, 5, &popped), 0);
  assert_int_equal(popped, 101);
  assert_int_equal(gyre_array_remove(a, &two[0]), 0);
  assert_int_equal(gyre_array_remove(a, &two[1]), -ENOENT);
  assert_int_equal(gyre_array_index(a, &two[0]), 3);
  assert_int_equal(gyre_array_delete(a, 3, 4), 0);
  gyre_array *copy = gyre_array_copy(a), *slice = gyre_array_slice(a, -3, 100);
  assert_int_equal(gyre_equal(a, copy), 1);
  assert_int_equal(gyre_array_size(slice), 3);
  assert_int_equal(int_at(slice, 0), 7);
  gyre_array_reverse(slice);
  assert_int_equal(int_at(slice, 0), 9);
  assert_int_equal(gyre_array_extend(a, a), 0);
  assert_int_equal(gyre_array_size(a), 20);
  assert_int_equal(int_at(a, 10), 0);
  gyre_array_byteswap(slice);
  assert_int_equal(int_at(slice, 0), 9 << 24);
  gyre_array *other = gyre_array_new(GYRE_U32);
  assert_int_equal(gyre_array_extend(a, other), -EINVAL);
  int32_t out[20];
  assert_int_equal(gyre_array_get(a, 10, out, 11), -ERANGE);
  assert_int_equal(gyre_array_get(a, 10, out, 10), 0);
  assert_int_equal(out[9], 9);
  assert_int_equal(gyre_array_set(a, 0, out + 5, 2), 0);
  assert_int_equal(int_at(a, 1), 6);
  assert_int_equal(gyre_array_pop(other, -1, NULL), -ERANGE);
  assert_int_equal(gyre_array_clear(a), 0);
  assert_int_equal(gyre_array_size(a), 0);
  gyre_array *all[] = {a, copy, slice, other};
  for (size_t i = 0; i < 4; i++)
    gyre_release(all[i]);
}

static void bytes_and_files_go_both_ways(void **state) {
  (void)state;
  const uint16_t numbers[] = {1, 0x0203, 65535};
  gyre_array *a = gyre_array_from(GYRE_U16, numbers, 3), *b = gyre_array_new(GYRE_U16);
  unsigned char bytes[8] = {0};
  assert_int_equal(gyre_array_tobytes(a, bytes, 3), 6);
  assert_int_equal(bytes[2], 0x03);
  assert_int_equal(bytes[3], 0);
  assert_int_equal(gyre_array_tobytes(a, bytes, sizeof bytes), 6);
  assert_int_equal(gyre_array_frombytes(b, bytes, 5), -EINVAL);
  assert_int_equal(gyre_array_frombytes(b, bytes, 6), 0);
  assert_int_equal(gyre_equal(a, b), 1);
  FILE *file = tmpfile();
  assert_non_null(file);
  assert_int_equal(gyre_array_tofile(a, file), 0);
  rewind(file);
  assert_int_equal(gyre_array_fromfile(b, file, 2), 0);
  assert_int_equal(gyre_array_size(b), 5);
  assert_int_equal(gyre_array_fromfile(b, file, 2), -ENODATA);
  assert_int_equal(gyre_array_size(b), 6);
  assert_int_equal(int_at(b, 5), 65535);
  fclose(file);
  gyre_release(a);
  gyre_release(b);
}

static void a_viewed_array_keeps_its_size(void **state) {
  (void)state;
  gyre_array *a = gyre_array_new(GYRE_I64);
  for (int i = 0; i < 100; i++)
    assert_int_equal(gyre_array_append_int(a, i), 0);
  gyre_array_view one, two;
  assert_int_equal(gyre_array_view_begin(a, &one), 0);
  assert_int_equal(gyre_array_view_begin(a, &two), 0);
  assert_int_equal(one.length, 100);
  assert_int_equal(((int64_t *)one.data)[42], 42);
  assert_int_equal(gyre_array_append_int(a, 1), -EBUSY);
  assert_int_equal(gyre_array_pop(a, 0, NULL), -EBUSY);
  assert_int_equal(gyre_array_clear(a), -EBUSY);
  assert_int_equal(gyre_array_extend(a, a), -EBUSY);
  assert_int_equal(gyre_array_append(a, NULL, 0), 0);
  assert_int_equal(gyre_array_delete(a, 5, 5), 0);
  assert_int_equal(gyre_array_set_int(a, 42, 7), 0);
  assert_int_equal(((int64_t *)two.data)[42], 7);
  gyre_array_view_end(&one);
  gyre_array_view_end(&one);
  assert_int_equal(gyre_array_append_int(a, 1), -EBUSY);
  /* A view holds the array. */
  gyre_release(a);
  assert_int_equal(((int64_t *)two.data)[99], 99);
  a = gyre_retain(two.array);
  gyre_array_view_end(&two);
  assert_int_equal(gyre_array_append_int(a, 1), 0);
  gyre_release(a);
}

/* parity: 1 M ints 4.1 MB against 36 MB. */
static void a_million_integers_take_four_megabytes(void **state) {
  (void)state;
  size_t before = test_heap_stats().live_bytes;
  gyre_array *a = gyre_array_new(GYRE_I32);
  for (int i = 0; i < 1000000; i++)
    TEST_REQUIRE(gyre_array_append_int(a, i) == 0);
  size_t array_bytes = test_heap_stats().live_bytes - before;
  assert_in_range(array_bytes, 4000000, 4600000);
  gyre_list *list = gyre_list_new();
  before = test_heap_stats().live_bytes;
  for (int i = 0; i < 1000000; i++) {
    void *x = number(1000000 + i);
    TEST_REQUIRE(gyre_list_append(list, x) == 0);
    gyre_release(x);
    gyre_safepoint();
  }
  gyre_purge();
  size_t list_bytes = test_heap_stats().live_bytes - before;
  print_message("a million integers: %zu bytes in an array, %zu in a list\n", array_bytes,
                list_bytes);
  assert_in_range(list_bytes, 40000000, 44000000);
  for (int i = 1000000; i-- > 10;)
    TEST_REQUIRE(gyre_array_pop(a, -1, NULL) == 0);
  assert_int_equal(int_at(a, -1), 9);
  gyre_release(list);
  gyre_release(a);
}

/* ---- threads ---- */

static void *hammers(void *arg) {
  gyre_array *a = arg;
  struct test_random random = test_random_new((uintptr_t)&random);
  for (int i = 0; i < 2000; i++) {
    int64_t value = 0;
    gyre_array_view view;
    switch (test_random_below(&random, 8)) {
    case 0:
    case 1:
    case 2: {
      int result = gyre_array_append_int(a, i);
      TEST_REQUIRE(result == 0 || result == -EBUSY);
      break;
    }
    case 3:
      (void)gyre_array_pop(a, (ptrdiff_t)test_random_below(&random, 100), NULL);
      break;
    case 4:
      TEST_REQUIRE(gyre_array_view_begin(a, &view) == 0);
      if (view.length > 0) memcpy(&value, (int64_t *)view.data + view.length - 1, sizeof value);
      gyre_array_view_end(&view);
      break;
    case 5:
      (void)gyre_array_get_int(a, -1, &value);
      break;
    case 6: {
      gyre_array *copy = gyre_array_copy(a);
      TEST_REQUIRE(copy != NULL);
      gyre_release(copy);
      break;
    }
    default:
      if (gyre_array_size(a) > 500) (void)gyre_array_delete(a, 100, -100);
    }
    TEST_REQUIRE(value >= 0 && value < 2000);
    gyre_safepoint();
  }
  return NULL;
}

static void eight_threads_use_an_array(void **state) {
  (void)state;
  gyre_array *a = gyre_array_new(GYRE_I64);
  pthread_t threads[8];
  for (int i = 0; i < 8; i++)
    threads[i] = test_thread_start(hammers, a);
  for (int i = 0; i < 8; i++)
    test_thread_join(threads[i]);
  gyre_release(a);
}

static void *copies(void *arg) {
  test_window_subject();
  return gyre_array_copy(arg);
}

static void a_copy_lets_others_change_the_array(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  gyre_array *a = gyre_array_new(GYRE_I64);
  assert_int_equal(gyre_array_append_int(a, 1), 0);
  test_window_hold("array/slice_unlocked", 1);
  pthread_t thread = test_thread_start(copies, a);
  test_window_await();
  /* It has made no room for these yet. */
  for (int i = 2; i <= 100; i++)
    assert_int_equal(gyre_array_append_int(a, i), 0);
  test_window_release();
  gyre_array *copy = test_thread_join(thread);
  assert_non_null(copy);
  assert_int_equal(gyre_array_size(copy), 100);
  assert_int_equal(int_at(copy, -1), 100);
  gyre_release(copy);
  gyre_release(a);
}

static void failed_allocations_change_nothing(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  gyre_array *a = gyre_array_new(GYRE_I64);
  for (int i = 0; i < 5; i++)
    assert_int_equal(gyre_array_append_int(a, i), 0);
  int64_t many[100] = {0};
  gyre__fault_arm(1, 1);
  assert_null(gyre_array_new(GYRE_I8));
  assert_int_equal(gyre_array_append(a, many, 100), -ENOMEM);
  assert_int_equal(gyre_array_extend(a, a), -ENOMEM);
  assert_null(gyre_array_copy(a));
  assert_int_equal(errno, ENOMEM);
  gyre__fault_arm(0, 0);
  gyre__fault_arm(2, 0);
  assert_null(gyre_array_from(GYRE_I64, many, 100));
  gyre__fault_arm(0, 0);
  assert_int_equal(gyre_array_append(a, many, SIZE_MAX / 4), -ENOMEM);
  assert_int_equal(gyre_array_append(a, many, SIZE_MAX - 2), -ENOMEM);
  assert_int_equal(gyre_array_size(a), 5);
  assert_int_equal(gyre_array_pop(a, 0, NULL), 0);
  gyre_release(a);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(integers_keep_their_range),
      NODE_TEST(floats_keep_their_range),
      NODE_TEST(arrays_compare_by_their_numbers),
      NODE_TEST(insert_delete_and_the_rest),
      NODE_TEST(bytes_and_files_go_both_ways),
      NODE_TEST(a_viewed_array_keeps_its_size),
      NODE_TEST(a_million_integers_take_four_megabytes),
      NODE_TEST(eight_threads_use_an_array),
      NODE_TEST(a_copy_lets_others_change_the_array),
      NODE_TEST(failed_allocations_change_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
