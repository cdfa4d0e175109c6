/* SPDX-License-Identifier: MIT */
/* Weak references when each allocation in turn fails. */
#include "weak_test.h"

/* Tries with the first allocation failing, then the second, and so on until it works. Returns how
 * many failed. */
static int fails_cleanly(item *i, gyre_weak_callback *callback, gyre_weak **out) {
  size_t count = gyre_weak_count(i), blocks = live_blocks(), objects = gyre__weak_object_count();
  for (uint64_t nth = 1;; nth++) {
    gyre__fault_arm(nth, 0);
    errno = 0;
    *out = gyre_weak_new(i, callback, (void *)(uintptr_t) "w");
    uint64_t seen = gyre__fault_count();
    gyre__fault_arm(0, 0);
    if (*out != NULL) return (int)nth - 1;
    assert_int_equal(errno, ENOMEM);
    assert_true(seen >= nth);
    assert_int_equal(gyre_weak_count(i), count);
    assert_int_equal(gyre__weak_object_count(), objects);
    /* Room that a pool has made for itself meanwhile does not count. */
    assert_int_equal(live_blocks(), blocks);
  }
}

static void a_reference_that_cannot_be_made_leaves_nothing_behind(void **state) {
  (void)state;
  NEEDS_WINDOWS();
  enum { OBJECTS = 1000 };
  static item *items[OBJECTS];
  static gyre_weak *weak[OBJECTS];
  int most = 0, least = 1000;
  for (uint64_t n = 0; n < OBJECTS; n++) {
    items[n] = item_new(n);
    int failures = fails_cleanly(items[n], n % 2 ? writes : NULL, &weak[n]);
    if (failures > most) most = failures;
    if (failures < least) least = failures;
    assert_int_equal(gyre_weak_count(items[n]), 1);
  }
  /* A handle, a control block, a shard of the table, and perhaps pages; with all there, one. */
  assert_true(most >= 3);
  assert_int_equal(least, 1);
  for (int n = 0; n < OBJECTS; n++) {
    item *got = gyre_weak_get(weak[n]);
    assert_ptr_equal(got, items[n]);
    gyre_release(got);
    gyre_release(items[n]);
    gyre_weak_free(weak[n]);
    assert_happened(n % 2 ? "w" : "");
  }
}

static void a_second_reference_that_cannot_be_made_leaves_the_first_alone(void **state) {
  (void)state;
  NEEDS_WINDOWS();
  item *i = item_new(1);
  gyre_weak *first = weak_writes(i, "1"), *second, *shared;
  assert_int_equal(fails_cleanly(i, writes, &second), 1);
  assert_int_equal(fails_cleanly(i, NULL, &shared), 0);
  gyre_release(i);
  assert_happened("w1");
  gyre_weak_free(first);
  gyre_weak_free(second);
  gyre_weak_free(shared);
}

static void a_table_that_cannot_grow_goes_on_with_longer_chains(void **state) {
  (void)state;
  NEEDS_WINDOWS();
  enum { OBJECTS = 40000 };
  static item *items[OBJECTS];
  static gyre_weak *weak[OBJECTS];
  for (uint64_t n = 0; n < OBJECTS; n++) {
    items[n] = item_new(n);
    weak[n] = gyre_weak_new(items[n], NULL, NULL);
    if (weak[n] == NULL) weak[n] = weak_new(items[n], NULL, NULL);
    /* From here on every second allocation fails: the first is the control block, the second what
     * the table wants to grow. */
    gyre__fault_arm(2, 1);
  }
  gyre__fault_arm(0, 0);
  for (int n = 0; n < OBJECTS; n++) {
    assert_ptr_equal(weak_new(items[n], NULL, NULL), weak[n]);
    gyre_weak_free(weak[n]);
    gyre_release(items[n]);
    gyre_weak_free(weak[n]);
  }
}

static void using_and_freeing_references_needs_no_memory(void **state) {
  (void)state;
  NEEDS_WINDOWS();
  item *i = item_new(1);
  gyre_weak *shared = weak_new(i, NULL, NULL), *a = weak_writes(i, "a"), *b = weak_writes(i, "b");
  gyre__fault_arm(1, 1);
  assert_ptr_equal(gyre_weak_get(a), i);
  gyre_release(i);
  gyre_weak_free(b);
  gyre_release(i);
  gyre_weak_free(shared);
  gyre_weak_free(a);
  assert_int_equal(gyre__fault_count(), 0);
  gyre__fault_arm(0, 0);
  assert_happened("a");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      WEAK_TEST(a_reference_that_cannot_be_made_leaves_nothing_behind),
      WEAK_TEST(a_second_reference_that_cannot_be_made_leaves_the_first_alone),
      WEAK_TEST(a_table_that_cannot_grow_goes_on_with_longer_chains),
      WEAK_TEST(using_and_freeing_references_needs_no_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
