/* SPDX-License-Identifier: MIT */
/* Scopes and regions: what ends with a block, in which order, however the block is left. */
#include "tests/support/die.h"
#include "tests/value/value_test.h"

#if TEST_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#endif

static char log_text[256];
static void note_destroyed(node *n) {
  size_t at = strlen(log_text);
  snprintf(log_text + at, sizeof log_text - at, "%c", (char)n->tag);
}
static int begin(void **state) {
  int result = nodes_begin(state);
  log_text[0] = '\0';
  node_on_destroy = note_destroyed;
  return result;
}
#define SCOPE_TEST(name)                                                                           \
  { #name, name, begin, test_end, (void *)(uintptr_t) "gc:0" }

static node *thing(char letter) { return node_new(&node_type, (unsigned char)letter); }

/* ---- variables ---- */

static node *variable;
static int looks_at_the_variable(node *n) {
  (void)n;
  assert_null(variable);
  return 0;
}

static void a_dropped_variable_is_empty_before_its_object_dies(void **state) {
  (void)state;
  node_on_finalize = looks_at_the_variable;
  variable = node_new(&finalized_type, 'a');
  gyre_drop(&variable);
  assert_string_equal(log_text, "a");
  assert_null(variable);
  gyre_drop(&variable);
}

/* ---- scopes ---- */

static void a_scope_releases_the_last_first(void **state) {
  (void)state;
  GYRE_SCOPE {
    node *a = gyre_keep(thing('a'));
    assert_int_equal(a->tag, 'a');
    assert_null(gyre_keep((node *)NULL));
    (void)gyre_keep(thing('b'));
    GYRE_SCOPE {
      (void)gyre_keep(thing('c'));
      assert_string_equal(log_text, "");
    }
    assert_string_equal(log_text, "c");
    (void)gyre_keep(thing('d'));
  }
  assert_string_equal(log_text, "cdba");
}

static int leaves_by_return(void) {
  GYRE_SCOPE {
    (void)gyre_keep(thing('r'));
    GYRE_SCOPE {
      (void)gyre_keep(thing('s'));
      return 1;
    }
  }
  return 0;
}

static void a_scope_may_be_left_in_any_way(void **state) {
  (void)state;
  assert_int_equal(leaves_by_return(), 1);
  assert_string_equal(log_text, "sr");
  for (int i = 0; i < 2; i++) {
    GYRE_SCOPE {
      (void)gyre_keep(thing('x'));
      if (i == 0) goto on;
      break;
    }
  on:
    (void)gyre_keep((node *)NULL);
  }
  assert_string_equal(log_text, "srxx");
}

static void a_scope_keeps_any_number(void **state) {
  (void)state;
  for (uint64_t n = 0; n < 300; n += 1 + n / 3) {
    uint64_t before = nodes_destroyed();
    GYRE_SCOPE {
      for (uint64_t i = 0; i < n; i++)
        (void)gyre_keep(node_new(&node_type, 'x'));
      assert_int_equal(nodes_destroyed(), before);
    }
    assert_int_equal(nodes_destroyed(), before + n);
  }
}

static void what_cannot_be_kept_is_released(void **state) {
  (void)state;
  errno = 0;
  assert_null(gyre_keep(thing('a')));
  assert_int_equal(errno, EINVAL);
  TEST_NEEDS_WINDOWS();
  GYRE_SCOPE {
    for (int i = 0; i < GYRE__SCOPE_FIRST; i++)
      assert_non_null(gyre_keep(thing('.')));
    node *x = thing('b');
    gyre__fault_arm(1, 1);
    assert_null(gyre_keep(x));
    assert_int_equal(errno, ENOMEM);
    gyre__fault_arm(0, 0);
    assert_string_equal(log_text, "ab");
    assert_non_null(gyre_keep(thing('c')));
  }
  assert_string_equal(log_text, "abc..............");
}

static int keeps_another(node *n) {
  if (n->tag == 'a') (void)gyre_keep(thing('z'));
  return 0;
}
static void what_a_finalizer_keeps_goes_to_the_scope_outside(void **state) {
  (void)state;
  node_on_finalize = keeps_another;
  GYRE_SCOPE {
    GYRE_SCOPE { (void)gyre_keep(node_new(&finalized_type, 'a')); }
    assert_string_equal(log_text, "a");
  }
  assert_string_equal(log_text, "az");
}

static void ends_the_outer_scope(void) {
  gyre_scope outer, inner;
  gyre_scope_begin(&outer);
  gyre_scope_begin(&inner);
  gyre_scope_end(&outer);
}
static void ends_a_region_twice(void) {
  gyre_region *outer = gyre_region_begin(), *region = gyre_region_begin();
  gyre_region_end(outer);
  gyre_region_end(region);
}
static void ending_what_is_not_begun_is_told(void **state) {
  (void)state;
  assert_dies(ends_the_outer_scope, "not the innermost");
  assert_dies(ends_a_region_twice, "has not begun");
}

/* ---- regions ---- */

static void a_region_gives_memory_of_any_size(void **state) {
  (void)state;
  size_t blocks = test_heap_stats().live_blocks;
  struct test_random random = test_random_new(1);
  gyre_region *region = gyre_region_begin();
  unsigned char *pieces[500];
  size_t sizes[500];
  for (size_t i = 0; i < 500; i++) {
    sizes[i] = test_random_below(&random, i % 50 ? 300 : 200000);
    pieces[i] = gyre_region_alloc(region, sizes[i]);
    assert_non_null(pieces[i]);
    assert_int_equal((uintptr_t)pieces[i] % 16, 0);
    memset(pieces[i], (int)i, sizes[i]);
  }
  for (size_t i = 0; i < 500; i++)
    for (size_t at = 0; at < sizes[i]; at += 1 + at / 16)
      assert_int_equal(pieces[i][at], (unsigned char)i);
  assert_ptr_not_equal(gyre_region_alloc(region, 0), gyre_region_alloc(region, 0));
  assert_true(gyre_region_size(region) > 500000);
  /* volatile: or the compiler knows, too. */
  volatile size_t too_much[] = {SIZE_MAX, SIZE_MAX / 2 - 8192};
  assert_null(gyre_region_alloc(region, too_much[0]));
  assert_null(gyre_region_alloc(region, too_much[1]));
  assert_int_equal(errno, ENOMEM);
  gyre_region_end(region);
  gyre_region_end(NULL);
  assert_int_equal(test_heap_stats().live_blocks, blocks);
}

static gyre_region *current;
static void notes(void *letter) {
  size_t at = strlen(log_text);
  snprintf(log_text + at, sizeof log_text - at, "%s", (const char *)letter);
}
static void defers_more(void *letter) {
  notes(letter);
  char *copy = gyre_region_alloc(current, 2);
  memcpy(copy, "y", 2);
  assert_int_equal(gyre_region_defer(current, notes, copy), 0);
}

static void cleanups_are_called_the_last_one_first(void **state) {
  (void)state;
  GYRE_IN_REGION(region) {
    current = region;
    char *own = gyre_region_alloc(region, 2);
    memcpy(own, "1", 2);
    assert_int_equal(gyre_region_defer(region, notes, own), 0);
    assert_int_equal(gyre_region_defer(region, defers_more, "2"), 0);
    assert_int_equal(gyre_region_keep(region, thing('3')), 0);
    assert_int_equal(gyre_region_defer(region, NULL, NULL), -EINVAL);
  }
  assert_string_equal(log_text, "32y1");
}

static int leaves_regions(void) {
  GYRE_IN_REGION(a) {
    gyre_region_defer(a, notes, "a");
    GYRE_IN_REGION(b) {
      gyre_region_defer(b, notes, "b");
      return 1;
    }
  }
  return 0;
}

static void regions_nest_and_end_from_the_inside(void **state) {
  (void)state;
  assert_int_equal(leaves_regions(), 1);
  assert_string_equal(log_text, "ba");
  gyre_region *outer = gyre_region_begin(), *inner = gyre_region_begin();
  gyre_region_defer(outer, notes, "o");
  gyre_region_defer(inner, notes, "i");
  gyre_region_end(outer);
  assert_string_equal(log_text, "baio");
}

static void *uses_regions(void *arg) {
  for (int i = 0; i < 200; i++)
    GYRE_IN_REGION(r) {
      char *piece = gyre_region_alloc(r, 1000 + (size_t)i);
      memset(piece, i, 1000);
      GYRE_SCOPE {
        TEST_REQUIRE(gyre_keep(gyre_retain(arg)) == arg);
        TEST_REQUIRE(gyre_region_keep(r, gyre_retain(arg)) == 0);
      }
      gyre_safepoint();
    }
  return NULL;
}

static void each_thread_has_its_own(void **state) {
  (void)state;
  node *shared = thing('s');
  pthread_t threads[8];
  for (int i = 0; i < 8; i++)
    threads[i] = test_thread_start(uses_regions, shared);
  for (int i = 0; i < 8; i++)
    test_thread_join(threads[i]);
  gyre_safepoint();
  assert_int_equal(gyre_refcount(shared), 1);
  gyre_release(shared);
}

static void without_memory_nothing_is_begun_or_noted(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  (void)gyre_thread_attach();
  gyre__fault_arm(1, 1);
  bool ran = false;
  errno = 0;
  GYRE_IN_REGION(r) { ran = true; }
  assert_false(ran);
  assert_int_equal(errno, ENOMEM);
  gyre__fault_arm(0, 0);
  GYRE_IN_REGION(r) {
    node *x = thing('a');
    gyre__fault_arm(1, 1);
    assert_null(gyre_region_alloc(r, 5000));
    while (gyre_region_defer(r, notes, ".") == 0) {
      if (strlen(log_text) > 200) break;
    }
    assert_int_equal(gyre_region_keep(r, x), -ENOMEM);
    gyre__fault_arm(0, 0);
    assert_string_equal(log_text, "");
    gyre_release(x);
    log_text[0] = '\0';
  }
}

#if TEST_ADDRESS_SANITIZER
static void address_sanitizer_knows_the_pieces(void **state) {
  (void)state;
  gyre_region *r = gyre_region_begin();
  for (size_t size = 1; size < 100000; size *= 3) {
    char *piece = gyre_region_alloc(r, size);
    assert_false(__asan_address_is_poisoned(piece + size - 1));
    assert_true(__asan_address_is_poisoned(piece + size));
  }
  char *last = gyre_region_alloc(r, 24);
  gyre_region_end(r);
  assert_true(__asan_address_is_poisoned(last));
}
#endif

int main(void) {
  const struct CMUnitTest tests[] = {
    SCOPE_TEST(a_dropped_variable_is_empty_before_its_object_dies),
    SCOPE_TEST(a_scope_releases_the_last_first),
    SCOPE_TEST(a_scope_may_be_left_in_any_way),
    SCOPE_TEST(a_scope_keeps_any_number),
    SCOPE_TEST(what_cannot_be_kept_is_released),
    SCOPE_TEST(what_a_finalizer_keeps_goes_to_the_scope_outside),
    SCOPE_TEST(ending_what_is_not_begun_is_told),
    SCOPE_TEST(a_region_gives_memory_of_any_size),
    SCOPE_TEST(cleanups_are_called_the_last_one_first),
    SCOPE_TEST(regions_nest_and_end_from_the_inside),
    NODE_TEST(each_thread_has_its_own),
    SCOPE_TEST(without_memory_nothing_is_begun_or_noted),
#if TEST_ADDRESS_SANITIZER
    SCOPE_TEST(address_sanitizer_knows_the_pieces),
#endif
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
