/* SPDX-License-Identifier: MIT */
/* Strings. */
#include "value_test.h"

static void a_string_is_its_bytes_with_a_length(void **state) {
  (void)state;
  gyre_str *s = gyre_str_new("a\0b\xff", 4);
  assert_int_equal(gyre_str_length(s), 4);
  assert_memory_equal(gyre_str_data(s), "a\0b\xff", 5);
  assert_true(gyre_is_str(s));
  assert_false(gyre_str_is_interned(s));
  assert_false(gyre_gc_is_tracked(s));
  gyre_release(s);
  assert_true(is_text(gyre_str_from("Grüße"), "Grüße"));
  gyre_int *i = number(7);
  assert_false(gyre_is_str(i));
}

static void strings_of_at_most_one_byte_are_there_already(void **state) {
  (void)state;
  gyre_str *empty = gyre_str_new(NULL, 0);
  assert_int_equal(gyre_str_length(empty), 0);
  assert_string_equal(gyre_str_data(empty), "");
  assert_ptr_equal(gyre_str_from(""), empty);
  assert_true(gyre_is_immortal(empty));
  assert_ptr_equal(gyre_intern("", 0), empty);
  for (int c = 0; c < 256; c++) {
    char byte = (char)c;
    gyre_str *s = gyre_str_new(&byte, 1);
    assert_int_equal(gyre_str_length(s), 1);
    assert_int_equal(gyre_str_data(s)[0], byte);
    assert_int_equal(gyre_str_data(s)[1], 0);
    assert_ptr_equal(gyre_str_new(&byte, 1), s);
    assert_ptr_equal(gyre_intern(&byte, 1), s);
    assert_true(gyre_str_is_interned(s));
    assert_true(gyre_is_immortal(s));
  }
  assert_int_equal(gyre_intern_count(), 0);
}

static void formats_as_printf_does(void **state) {
  (void)state;
  assert_true(is_text(gyre_str_format("%d %s", 36, "Ada"), "36 Ada"));
  assert_true(is_text(gyre_str_format("%s", ""), ""));
  char wide[5001];
  memset(wide, 'x', sizeof wide - 1);
  wide[5000] = '\0';
  assert_true(is_text(gyre_str_format("%s", wide), wide));
  for (size_t length = 250; length < 262; length++) /* about the size that is tried first */
    assert_true(is_text(gyre_str_format("%.*s", (int)length, wide), wide + 5000 - length));
}

static void concatenates(void **state) {
  (void)state;
  gyre_str *a = str("ab"), *b = str("cde"), *empty = str("");
  assert_true(is_text(gyre_str_concat(a, b), "abcde"));
  gyre_str *same = gyre_str_concat(a, empty);
  assert_ptr_equal(same, a);
  gyre_release(same);
  same = gyre_str_concat(empty, b);
  assert_ptr_equal(same, b);
  gyre_release(same);
  gyre_release(a);
  gyre_release(b);
}

static void slices_as_python_does(void **state) {
  (void)state;
  gyre_str *s = str("abcdef");
  static const struct {
    ptrdiff_t start, stop;
    const char *result;
  } cases[] = {{1, 3, "bc"},         {0, 6, "abcdef"}, {-2, 6, "ef"},
               {-2, -1, "e"},        {0, -4, "ab"},    {4, 2, ""},
               {6, 9, ""},           {-100, 2, "ab"},  {PTRDIFF_MIN, PTRDIFF_MAX, "abcdef"},
               {3, PTRDIFF_MIN, ""}, {2, 3, "c"}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
    assert_true(is_text(gyre_str_slice(s, cases[i].start, cases[i].stop), cases[i].result));
  gyre_str *whole = gyre_str_slice(s, 0, 6);
  assert_ptr_equal(whole, s);
  gyre_release(whole);
  gyre_release(s);
}

static int sign(int n) { return (n > 0) - (n < 0); }

static void compares_bytes_as_unsigned(void **state) {
  (void)state;
  static const char *ordered[] = {"", "a", "aa", "ab", "b", "z", "\xc3\xbc"};
  enum { COUNT = sizeof ordered / sizeof ordered[0] };
  for (int i = 0; i < COUNT; i++)
    for (int j = 0; j < COUNT; j++) {
      gyre_str *a = str(ordered[i]), *b = interned(ordered[j]);
      assert_int_equal(sign(gyre_str_compare(a, b)), sign(i - j));
      assert_int_equal(gyre_str_eq(a, b), i == j);
      assert_int_equal(gyre_equal(a, b), i == j);
      gyre_release(a);
      gyre_release(b);
    }
}

static void equality_of_interned_strings_is_identity(void **state) {
  (void)state;
  gyre_str *a = interned("key"), *b = interned("kez"), *c = str("key"), *d = str("key");
  assert_false(gyre_str_eq(a, b));
  assert_true(gyre_str_eq(a, c));
  assert_true(gyre_str_eq(c, d));
  assert_true(gyre_str_hash(a) == gyre_str_hash(c) && gyre_str_hash(c) != 0);
  assert_true(gyre_str_hash(a) != gyre_str_hash(b));
  assert_true(gyre_str_eq(c, d)); /* with both hashes known, and with one */
  (void)gyre_str_hash(d);
  assert_true(gyre_str_eq(c, d));
  gyre_release(a);
  gyre_release(b);
  gyre_release(c);
  gyre_release(d);
}

/* ---- changing what nobody else has ---- */

static void appending_to_the_only_reference_reuses_it(void **state) {
  (void)state;
  gyre_str *s = str("");
  char expected[2001] = "";
  unsigned moves = 0;
  for (int i = 0; i < 2000; i++) {
    expected[i] = (char)('a' + i % 26);
    uint64_t before = gyre_str_hash(s);
    gyre_str *longer = gyre_str_append(s, &expected[i], 1);
    assert_non_null(longer);
    moves += longer != s;
    s = longer;
    assert_int_equal(gyre_str_length(s), i + 1);
    assert_string_equal(gyre_str_data(s), expected);
    assert_true(gyre_str_hash(s) != before);
    assert_true(gyre_str_hash(s) == gyre_str_hash(s));
  }
  assert_true(moves < 30);
  gyre_str *same = str(expected);
  assert_true(gyre_str_hash(same) == gyre_str_hash(s));
  gyre_release(same);
  gyre_release(s);
}

static void appending_leaves_other_references_alone(void **state) {
  (void)state;
  gyre_str *s = str("abc"), *other = gyre_retain(s);
  s = gyre_str_append(s, "de", 2);
  s = gyre_str_append(s, "f", 1);
  assert_ptr_not_equal(s, other);
  assert_true(is_text(s, "abcdef"));
  assert_true(is_text(other, "abc"));
  gyre_str *key = interned("abc");
  gyre_str *longer = gyre_str_append(gyre_retain(key), "d", 1);
  assert_ptr_not_equal(longer, key);
  assert_true(is_text(longer, "abcd"));
  gyre_str *kept = gyre_str_append(key, "", 0);
  assert_ptr_equal(kept, key);
  assert_true(is_text(kept, "abc"));
}

static void appends_a_part_of_itself(void **state) {
  (void)state;
  gyre_str *s = str("ab");
  for (int i = 0; i < 10; i++)
    s = gyre_str_append(s, gyre_str_data(s), gyre_str_length(s));
  assert_int_equal(gyre_str_length(s), 2048);
  for (size_t i = 0; i < 2048; i++)
    assert_int_equal(gyre_str_data(s)[i], "ab"[i % 2]);
  gyre_release(s);
}

static void replaces_as_a_copy_would(void **state) {
  (void)state;
  struct test_random random = test_random_new(1);
  char model[4096] = "hello world";
  size_t length = strlen(model);
  gyre_str *s = str(model);
  for (int round = 0; round < 3000; round++) {
    size_t start = test_random_below(&random, (uint32_t)length + 3);
    size_t count = test_random_below(&random, 9);
    char with[8];
    size_t with_length = test_random_below(&random, length > 2000 ? 2 : 8);
    for (size_t i = 0; i < with_length; i++)
      with[i] = (char)('a' + test_random_below(&random, 26));
    gyre_str *other = test_random_below(&random, 4) == 0 ? gyre_retain(s) : NULL;
    bool inside = length > 20 && test_random_below(&random, 4) == 0;
    if (inside) memcpy(with, model + 5, with_length);
    s = gyre_str_replace(s, start, count, inside ? gyre_str_data(s) + 5 : with, with_length);
    if (other != NULL) assert_true(is_text(other, model));
    if (start > length) start = length;
    if (count > length - start) count = length - start;
    memmove(model + start + with_length, model + start + count, length - start - count + 1);
    memcpy(model + start, with, with_length);
    length = length - count + with_length;
    assert_int_equal(gyre_str_length(s), length);
    assert_string_equal(gyre_str_data(s), model);
  }
  gyre_release(s);
  assert_true(is_text(gyre_str_replace(str("abc"), 0, 3, NULL, 0), ""));
  assert_true(is_text(gyre_str_replace(str("abc"), 1, 2, NULL, 0), "a"));
  assert_true(is_text(gyre_str_replace(str("a"), 0, 1, "b", 1), "b"));
}

static void what_cannot_be_is_refused(void **state) {
  (void)state;
  errno = 0;
  assert_null(gyre_str_new("x", SIZE_MAX / 2));
  assert_int_equal(errno, ENOMEM);
  gyre_str *s = str("abc");
  errno = 0;
  assert_null(gyre_str_append(s, "x", SIZE_MAX / 2));
  assert_int_equal(errno, ENOMEM);
  assert_null(gyre_str_replace(s, 0, 0, "x", SIZE_MAX - 1));
  assert_true(is_text(s, "abc"));
  assert_null(gyre_intern_ex("abc", 3, 1u << 5));
  assert_int_equal(errno, EINVAL);
}

static void a_string_dies_with_its_last_reference(void **state) {
  (void)state;
  size_t before = test_heap_stats().live_blocks;
  gyre_str *s = str("a string that is long enough for a block");
  assert_int_equal(test_heap_stats().live_blocks, before + 1);
  gyre_release(s);
  assert_int_equal(test_heap_stats().live_blocks, before);
}

/* ---- threads ---- */

static void *reads(void *arg) {
  gyre_str *s = arg;
  for (int i = 0; i < 1000; i++) {
    gyre_str *mine = gyre_retain(s);
    TEST_REQUIRE(gyre_str_hash(mine) == gyre_str_hash(s));
    TEST_REQUIRE(gyre_str_length(mine) == 6);
    gyre_str *longer = gyre_str_append(mine, "!", 1);
    TEST_REQUIRE(longer != s);
    TEST_REQUIRE(is_text(longer, "shared!"));
    gyre_safepoint();
  }
  gyre_release(s);
  return NULL;
}

static void threads_share_a_string(void **state) {
  (void)state;
  gyre_str *s = str("shared");
  pthread_t threads[8];
  for (int i = 0; i < 8; i++)
    threads[i] = test_thread_start(reads, gyre_retain(s));
  for (int i = 0; i < 8; i++)
    test_thread_join(threads[i]);
  assert_true(is_text(s, "shared"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_string_is_its_bytes_with_a_length),
      TEST(strings_of_at_most_one_byte_are_there_already),
      TEST(formats_as_printf_does),
      TEST(concatenates),
      TEST(slices_as_python_does),
      TEST(compares_bytes_as_unsigned),
      TEST(equality_of_interned_strings_is_identity),
      TEST(appending_to_the_only_reference_reuses_it),
      TEST(appending_leaves_other_references_alone),
      TEST(appends_a_part_of_itself),
      TEST(replaces_as_a_copy_would),
      TEST(what_cannot_be_is_refused),
      TEST_WITH(a_string_dies_with_its_last_reference, "quarantine:0"),
      TEST(threads_share_a_string),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
