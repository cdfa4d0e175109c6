/* SPDX-License-Identifier: MIT */
/* Containers that are handed over as others: debug builds say what they are. */
#include "tests/support/die.h"
#include "tests/value/value_test.h"

static void *dict_for_another(void) { return gyre_dict_new(); }

static void appended_to(void) { (void)gyre_list_append(dict_for_another(), dict_for_another()); }
static void length_of_list(void) { (void)gyre_list_length(dict_for_another()); }
static void item_of_tuple(void) { (void)gyre_tuple_at(dict_for_another(), 0); }
static void size_of_array(void) { (void)gyre_array_size(dict_for_another()); }
static void next_of(void) { (void)gyre_iter_next(dict_for_another()); }
static void value_in_list(void) { (void)gyre_dict_get((void *)gyre_list_new(), gyre_int_from(1)); }
static void set_in_list(void) {
  gyre_int *one = gyre_int_from(1);
  (void)gyre_dict_set((void *)gyre_list_new(), one, one);
}

static void debug_builds_find_objects_of_another_type(void **state) {
  (void)state;
#ifndef GYRE_DEBUG
  skip();
#endif
  assert_dies(appended_to, "is a gyre_dict, not a gyre_list");
  assert_dies(length_of_list, "is a gyre_dict, not a gyre_list");
  assert_dies(item_of_tuple, "is a gyre_dict, not a gyre_tuple");
  assert_dies(size_of_array, "is a gyre_dict, not a gyre_array");
  assert_dies(next_of, "is a gyre_dict, not a gyre_iter");
  assert_dies(value_in_list, "is a gyre_list, not a gyre_dict");
  assert_dies(set_in_list, "is a gyre_list, not a gyre_dict");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(debug_builds_find_objects_of_another_type),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
