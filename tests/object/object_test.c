/* SPDX-License-Identifier: MIT */
/* Making objects, and what can be asked about them. */
#include <errno.h>
#include <string.h>

#include "tests/support/bytes.h"
#include "tests/support/node.h"

struct bytes {
  unsigned char at[1];
};

static void the_header_is_16_bytes(void **state) {
  (void)state;
  assert_int_equal(sizeof(gyre__header), 16);
  assert_int_equal(GYRE_HEADER_SIZE, 16);
  node *n = node_new(&plain_type, 0);
  assert_ptr_equal((char *)gyre__header_of(n) + 16, n);
  gyre_release(n);
}

static void a_million_objects_of_48_bytes_take_at_most_1_05_times_64_bytes_each(void **state) {
  (void)state;
  const size_t count = TEST_OPTIMIZED ? 1000000 : 100000;
  static gyre_type type = {.name = "48 bytes", .size = 48};
  void **objects = malloc(count * sizeof *objects);
  struct gyre_heap_stats before = {.size = sizeof before}, after = {.size = sizeof after};
  gyre_heap_get_stats(&before);
  for (size_t i = 0; i < count; i++)
    assert_non_null(objects[i] = gyre_new(&type));
  gyre_heap_get_stats(&after);
  size_t bytes = after.committed_bytes - before.committed_bytes;
  assert_true(bytes <= count * 64 / 100 * 105 + GYRE__SEGMENT_SIZE);
  for (size_t i = 0; i < count; i++)
    gyre_release(objects[i]);
  free(objects);
}

/* Sizes around every step: of 16, of the inline clearing, of size classes, of the largest class. */
static const size_t sizes[] = {0,     1,     8,     15,    16,    17,    24,     47,   48,
                               127,   128,   129,   500,   1000,  4096,  8176,   8192, 8193,
                               32768, 65519, 65520, 65521, 65536, 70000, 1000000};
#define SIZES (sizeof sizes / sizeof sizes[0])

static void an_object_of_any_size_is_zeroed_also_when_its_block_was_used_before(void **state) {
  (void)state;
  /* Types must last for ever. */
  static gyre_type types[SIZES];
  for (size_t i = 0; i < SIZES; i++) {
    types[i] = (gyre_type){.name = "bytes", .size = sizes[i]};
    for (int round = 0; round < 3; round++) {
      struct bytes *b = gyre_new(&types[i]);
      assert_non_null(b);
      assert_int_equal((uintptr_t)b % 16, 0);
      assert_true(test_is_filled(b, 0, sizes[i]));
      assert_int_equal(gyre_sizeof(b), sizes[i]);
      assert_int_equal(gyre_refcount(b), 1);
      assert_ptr_equal(gyre_type_of(b), &types[i]);
      memset(b, 0xff, sizes[i]);
      gyre_release(b);
    }
  }
}

static void an_array_of_any_length_is_zeroed_and_keeps_its_length(void **state) {
  (void)state;
  static gyre_type type = {.name = "shorts", .size = 6, .element_size = 2};
  static const size_t lengths[] = {0, 1, 2, 3, 5, 8, 9, 100, 4000, 32700, 32750, 32768, 200000};
  for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
    for (int round = 0; round < 3; round++) {
      struct bytes *b = gyre_new_array(&type, lengths[i]);
      assert_non_null(b);
      assert_int_equal(gyre_array_length(b), lengths[i]);
      assert_int_equal(gyre_sizeof(b), 6 + 2 * lengths[i]);
      assert_true(test_is_filled(b, 0, 6 + 2 * lengths[i]));
      memset(b, 0xff, 6 + 2 * lengths[i]);
      assert_int_equal(gyre_array_length(b), lengths[i]);
      gyre_release(b);
    }
  }
}

static void an_array_type_made_with_gyre_new_has_no_elements(void **state) {
  (void)state;
  static gyre_type type = {.name = "shorts", .size = 6, .element_size = 2};
  void *b = gyre_new(&type);
  assert_int_equal(gyre_array_length(b), 0);
  assert_int_equal(gyre_sizeof(b), 6);
  gyre_release(b);
}

static void an_array_of_a_type_without_elements_is_refused(void **state) {
  (void)state;
  errno = 0;
  assert_null(gyre_new_array(&plain_type, 3));
  assert_int_equal(errno, EINVAL);
}

static void an_array_that_cannot_exist_is_refused(void **state) {
  (void)state;
  static gyre_type type = {.name = "wide", .size = 8, .element_size = 1 << 20};
  static const size_t lengths[] = {SIZE_MAX, SIZE_MAX >> 20, (SIZE_MAX >> 20) + 1,
                                   PTRDIFF_MAX >> 20, SIZE_MAX / 2};
  for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
    errno = 0;
    assert_null(gyre_new_array(&type, lengths[i]));
    assert_int_equal(errno, ENOMEM);
  }
}

static void sizes_are_those_asked_for_and_those_taken(void **state) {
  (void)state;
  static gyre_type bytes_type = {.name = "bytes", .size = 8, .element_size = 1};
  static const size_t counts[] = {0, 1, 7, 8, 100, 5000, 100000};
  for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
    void *object = gyre_new_array(&bytes_type, counts[i]);
    assert_int_equal(gyre_sizeof(object), 8 + counts[i]);
    assert_true(gyre_sizeof_block(object) >= GYRE_HEADER_SIZE + 8 + counts[i]);
    assert_true(gyre_sizeof_block(object) <= 80 + (8 + counts[i]) * 5 / 4);
    gyre_release(object);
  }
}

static void objects_without_elements_have_length_0(void **state) {
  (void)state;
  node *n = node_new(&plain_type, 0);
  assert_int_equal(gyre_array_length(n), 0);
  gyre_release(n);
}

typedef struct wide {
  int first;
  GYRE_SLOT(node) a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p;
} wide;
static GYRE_TYPE_DEFINE(wide_type, wide,
                        .slots = GYRE_SLOTS(wide, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p));

static void sixteen_slots_can_be_listed_by_name(void **state) {
  (void)state;
  assert_int_equal(wide_type.slots.count, 16);
  assert_int_equal(wide_type.slots.at[0].offset, offsetof(wide, a));
  assert_string_equal(wide_type.slots.at[15].name, "p");
  wide *w = gyre_new(&wide_type);
  node *n = node_new(&node_type, 1);
  gyre_store(&w->a, n);
  gyre_store(&w->p, n);
  assert_int_equal(gyre_refcount(n), 3);
  gyre_release(w);
  assert_int_equal(gyre_refcount(n), 1);
  gyre_release(n);
}

/* ---- static and immortal ---- */

static GYRE_STATIC_OBJECT(node) nobody = GYRE_STATIC_INIT(.tag = 7);

static void a_static_object_is_immortal_and_knows_its_type(void **state) {
  (void)state;
  assert_int_equal(GYRE_STATIC_REGISTER(&nobody, &node_type), 0);
  node *n = &nobody.object;
  assert_int_equal(gyre_sizeof_block(n), GYRE_HEADER_SIZE + sizeof(node));
  assert_int_equal(n->tag, 7);
  assert_true(gyre_is_immortal(n));
  assert_int_equal(gyre_refcount(n), GYRE_IMMORTAL);
  assert_ptr_equal(gyre_type_of(n), &node_type);
  assert_int_equal(gyre_array_length(n), 0);
  assert_int_equal(gyre_sizeof(n), sizeof(node));
  for (int i = 0; i < 10; i++)
    gyre_release(n);
  node *holder = node_new(&node_type, 0);
  gyre_store(&holder->next, gyre_retain(n));
  assert_ptr_equal(gyre_load(&holder->next), n);
  gyre_release(holder);
  assert_int_equal(nodes_destroyed(), 1);
  assert_int_equal(gyre_immortalize(n), 0);
}

static void what_a_static_object_holds_lives(void **state) {
  (void)state;
  assert_int_equal(GYRE_STATIC_REGISTER(&nobody, &node_type), 0);
  node *held = node_new(&node_type, 1);
  gyre_store(&nobody.object.next, held);
  gyre_store(&held->next, held);
  gyre_release(held);
  assert_int_equal(gyre_gc_collect(2), 0);
  assert_int_equal(nodes_destroyed(), 0);
  gyre_clear(&held->next);
  gyre_clear(&nobody.object.next);
  assert_int_equal(nodes_destroyed(), 1);
}

static void an_immortal_object_is_never_freed_and_keeps_what_it_holds(void **state) {
  (void)state;
  node *n = node_new(&node_type, 0);
  node *held = node_new(&node_type, 1);
  gyre_store(&n->next, held);
  gyre_store(&held->next, held);
  gyre_release(held);
  assert_false(gyre_is_immortal(n));
  assert_int_equal(gyre_immortalize(n), 1);
  assert_int_equal(gyre_immortalize(n), 0);
  assert_true(gyre_is_immortal(n));
  assert_int_equal(gyre_refcount(n), GYRE_IMMORTAL);
  for (int i = 0; i < 10; i++)
    gyre_release(n);
  assert_int_equal(gyre_gc_collect(2), 0);
  assert_int_equal(nodes_destroyed(), 0);
  assert_false(gyre_is_unique(n));
  gyre_clear(&held->next);
  gyre_clear(&n->next);
  assert_int_equal(nodes_destroyed(), 1);
  make_mortal(n);
  gyre_release(n);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(the_header_is_16_bytes),
      NODE_TEST(a_million_objects_of_48_bytes_take_at_most_1_05_times_64_bytes_each),
      NODE_TEST(an_object_of_any_size_is_zeroed_also_when_its_block_was_used_before),
      NODE_TEST(an_array_of_any_length_is_zeroed_and_keeps_its_length),
      NODE_TEST(an_array_type_made_with_gyre_new_has_no_elements),
      NODE_TEST(an_array_of_a_type_without_elements_is_refused),
      NODE_TEST(an_array_that_cannot_exist_is_refused),
      NODE_TEST(sizes_are_those_asked_for_and_those_taken),
      NODE_TEST(objects_without_elements_have_length_0),
      NODE_TEST(sixteen_slots_can_be_listed_by_name),
      NODE_TEST(a_static_object_is_immortal_and_knows_its_type),
      NODE_TEST(what_a_static_object_holds_lives),
      NODE_TEST(an_immortal_object_is_never_freed_and_keeps_what_it_holds),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
