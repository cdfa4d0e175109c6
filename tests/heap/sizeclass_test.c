/* SPDX-License-Identifier: MIT */
#include "heap_test.h"

static void every_size_fits_its_class_and_not_the_one_below(void **state) {
  (void)state;
  for (size_t size = 0; size <= GYRE__CLASS_MAX; size++) {
    unsigned size_class = gyre__size_class(size);
    assert_true(size_class < GYRE__SIZE_CLASSES);
    assert_true(gyre__class_size(size_class) >= size);
    assert_true(size_class == 0 || gyre__class_size(size_class - 1) < size);
  }
}

static void classes_are_multiples_of_16_and_waste_at_most_a_quarter(void **state) {
  (void)state;
  for (unsigned size_class = 1; size_class < GYRE__SIZE_CLASSES; size_class++) {
    size_t size = gyre__class_size(size_class);
    size_t below = gyre__class_size(size_class - 1);
    assert_int_equal(size % 16, 0);
    assert_true(size > below);
    assert_true(size <= 128 || (size - below) * 4 <= below);
  }
  assert_int_equal(gyre__class_size(GYRE__SIZE_CLASSES - 1), GYRE__CLASS_MAX);
}

/* As its contract says: up to 16 bytes before the block's end. */
static void index_finds_the_block_of_any_address_in_it(void **state) {
  (void)state;
  for (unsigned size_class = 0; size_class < GYRE__SIZE_CLASSES; size_class++) {
    void *block = gyre_malloc(gyre__class_size(size_class));
    struct gyre__page *page = gyre__page_of(block);
    for (uint32_t i = 0; i < page->reserved; i++) {
      char *start = gyre__page_block(page, i);
      assert_int_equal(gyre__page_index(page, start), i);
      assert_int_equal(gyre__page_index(page, start + page->block_size - 16), i);
    }
    gyre_free(block);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_size_fits_its_class_and_not_the_one_below),
      cmocka_unit_test(classes_are_multiples_of_16_and_waste_at_most_a_quarter),
      HEAP_TEST(index_finds_the_block_of_any_address_in_it),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
