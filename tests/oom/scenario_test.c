/* SPDX-License-Identifier: MIT */
/* Every allocation made to fail in turn.
 *
 * A scenario touches every public call that allocates. It is run with the first allocation failing,
 * then with the second, and so on until a run meets no failure any more. Whatever failed has said
 * so with the right error, has changed nothing that was there before, and has left nothing
 * half-built: each run ends with a check of the heap and no object left. The rest of the scenario
 * goes on without what it could not get.
 */
#include <errno.h>
#include <string.h>

#include "tests/support/bytes.h"
#include "tests/support/node.h"

/* Of the scenario's calls: how many failed. */
static gyre__atomic_u32 failures;

static void failed(void) {
  /* relaxed: a count. */
  gyre__fetch_add_relaxed(&failures, 1);
}

/* Notes a failure, which must be for want of memory. */
static void *checked(void *result) {
  if (result == NULL) {
    TEST_REQUIRE(errno == ENOMEM);
    failed();
  }
  return result;
}

static ptrdiff_t checked_call(ptrdiff_t result) {
  if (result < 0) {
    TEST_REQUIRE(result == -ENOMEM);
    failed();
  }
  return result;
}

/* ---- the scenario ---- */

static void use_blocks(void) {
  static const size_t sizes[] = {1, 100, 5000, 70000, 1000000};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    size_t size = sizes[i];
    char *block = checked(gyre_malloc(size));
    if (block != NULL) {
      memset(block, 0x5a, size);
      char *larger = checked(gyre_realloc(block, size * 3));
      if (larger != NULL) block = larger;
      /* Kept, wherever it is. */
      TEST_REQUIRE(test_is_filled(block, 0x5a, size));
      char *smaller = checked(gyre_realloc(block, 1));
      if (smaller != NULL) block = smaller;
      TEST_REQUIRE(block[0] == 0x5a);
    }
    char *zeroed = checked(gyre_calloc(size, 2));
    TEST_REQUIRE(zeroed == NULL || test_is_filled(zeroed, 0, 2 * size));
    char *aligned = checked(gyre_aligned_alloc(4096, size));
    TEST_REQUIRE((uintptr_t)aligned % 4096 == 0);
    gyre_free(block);
    gyre_free(zeroed);
    gyre_free_sized(aligned, size);
  }
}

typedef struct tuple {
  size_t tag;
  GYRE_SLOT(node) items[];
} tuple;
static GYRE_TYPE_DEFINE(tuple_type, tuple, .element_size = sizeof(gyre_slot),
                        .element_slots = GYRE_SLOT_ARRAY);

static int weak_calls;
static void weak_call(gyre_weak *weak, void *arg) {
  (void)weak, (void)arg;
  weak_calls++;
}

static void use_objects(void) {
  tuple *small = checked(gyre_new_array(&tuple_type, 10));
  tuple *large = checked(gyre_new_array(&tuple_type, 20000));
  node *previous = NULL;
  for (size_t i = 0; i < 10; i++) {
    node *n = checked(gyre_new(i % 2 ? &node_type : &finalized_type));
    if (n == NULL) continue;
    TEST_REQUIRE(n->tag == 0 && gyre_load(&n->next) == NULL);
    n->tag = i;
    gyre_store(&n->next, n);
    gyre_store(&n->other, previous);
    if (small != NULL) gyre_store(&small->items[i], n);
    if (large != NULL) gyre_store(&large->items[1999 * i], n);
    gyre_release(previous);
    previous = n;
  }
  gyre_weak *plain = NULL, *calling = NULL;
  weak_calls = 0;
  if (previous != NULL) {
    plain = checked(gyre_weak_new(previous, NULL, NULL));
    calling = checked(gyre_weak_new(previous, weak_call, NULL));
    if (plain != NULL) {
      node *taken = gyre_weak_get(plain);
      TEST_REQUIRE(taken == previous);
      gyre_release(taken);
    }
  }
  gyre_release(previous);
  gyre_release(small);
  gyre_release(large);
  ptrdiff_t found = checked_call(gyre_gc_collect(2));
  if (found >= 0 && plain != NULL) TEST_REQUIRE(gyre_weak_is_dead(plain));
  if (found >= 0 && calling != NULL) TEST_REQUIRE(weak_calls == 1);
  gyre_weak_free(plain);
  gyre_weak_free(calling);
}

static int tag_is(void *key, void *value, void *arg) {
  (void)key;
  TEST_REQUIRE(((node *)value)->tag == *(const uint64_t *)arg);
  return 0;
}

static void no_function(void *self, void *arg) { (void)self, (void)arg; }

static int finalize_calls;
static int finalize_call(void *arg) {
  (void)arg;
  finalize_calls++;
  return 0;
}

/* Maps of every kind, with entries enough to grow; what a failure leaves out is not there, and what was
 * there stays. */
static void use_weak_maps(void) {
  node *nodes[24] = {NULL};
  uint64_t tag = 5;
  for (size_t i = 0; i < 24; i++) {
    nodes[i] = checked(gyre_new(&node_type));
    if (nodes[i] != NULL) nodes[i]->tag = tag;
  }
  for (unsigned kind = 0; kind < 4; kind++) {
    gyre_weakmap *map = checked(gyre_weakmap_new((enum gyre_weakmap_kind)kind, NULL, NULL));
    size_t there = 0;
    for (size_t i = 0; i < 12 && map != NULL; i++) {
      node *key = nodes[i], *value = nodes[12 + i];
      if (key == NULL || value == NULL) continue;
      if (i % 2)
        there += checked_call(gyre_weakmap_set(map, key, value)) == 0;
      else {
        node *got = checked(gyre_weakmap_get_or_set(map, key, value));
        there += got != NULL;
        TEST_REQUIRE(got == NULL || got == value);
        gyre_release(got);
      }
      TEST_REQUIRE(gyre_weakmap_len(map) == there);
    }
    if (map != NULL) {
      checked_call(gyre_weakmap_foreach(map, tag_is, &tag));
      gyre_weak **refs;
      ptrdiff_t n = checked_call(gyre_weakmap_keyrefs(map, &refs));
      TEST_REQUIRE(n < 0 || (size_t)n == there);
      for (ptrdiff_t i = 0; i < n; i++)
        gyre_weak_free(refs[i]);
      if (n >= 0) gyre_free(refs);
    }
    gyre_release(map);
  }
  gyre_weakset *set = checked(gyre_weakset_new(NULL, NULL));
  if (set != NULL && nodes[0] != NULL) {
    ptrdiff_t added = checked_call(gyre_weakset_add(set, nodes[0]));
    TEST_REQUIRE(gyre_weakset_contains(set, nodes[0]) == (added == 1));
  }
  gyre_release(set);
  finalize_calls = 0;
  gyre_finalize *f = NULL;
  gyre_weak_closure closure = {NULL, NULL};
  if (nodes[1] != NULL) {
    f = checked(gyre_finalize_new(nodes[1], finalize_call, NULL, NULL));
    checked_call(gyre_weak_closure_init(&closure, no_function, nodes[1]));
  }
  for (size_t i = 0; i < 24; i++)
    gyre_release(nodes[i]);
  /* Without counts that free, the object lives until the next collection. */
  TEST_REQUIRE(gyre__option(rc) == GYRE__RC_OFF || finalize_calls == (f != NULL));
  gyre_finalize_free(f);
  gyre_weak_closure_clear(&closure);
}

static void use_values(void) {
  gyre_dict *dict = checked(gyre_dict_new());
  size_t set = 0;
  for (int i = 0; i < 40; i++) {
    gyre_str *key = checked(i % 2 ? gyre_str_format("key %d", i) : gyre_intern("key 20", 6));
    gyre_int *value = checked(gyre_int_from(5000 + i));
    if (dict != NULL && key != NULL && value != NULL) {
      bool is_new = !gyre_dict_contains(dict, key);
      int result = (int)checked_call(gyre_dict_set(dict, key, value));
      set += result == 0 && is_new;
      void *found = gyre_dict_get(dict, key);
      TEST_REQUIRE(result != 0 || found == value);
      gyre_release(found);
      gyre_str *longer = checked(gyre_str_append(gyre_retain(key), "and more than that", 18));
      if (longer == NULL) gyre_release(key);
      gyre_release(longer);
    }
    gyre_release(key);
    gyre_release(value);
  }
  if (dict != NULL) {
    TEST_REQUIRE(gyre_dict_length(dict) == set);
    gyre_dict *copy = checked(gyre_dict_copy(dict));
    if (copy != NULL) {
      TEST_REQUIRE(gyre_dict_length(copy) == set);
      checked_call(gyre_dict_update(copy, dict));
    }
    gyre_release(copy);
  }
  gyre_release(dict);
}

static void no_callback(enum gyre_gc_phase phase, const struct gyre_gc_info *info, void *arg) {
  (void)phase, (void)info, (void)arg;
}

/* So many nodes in a chain, or as many as there is memory for. */
static node *chain_new_or_less(size_t n) {
  node *first = NULL;
  while (n-- > 0) {
    node *before = checked(gyre_new(&plain_type));
    if (before == NULL) continue;
    gyre_slot_init(&before->next, first);
    first = before;
  }
  return first;
}

static void use_the_rest(void) {
  uint64_t id = 0;
  if (checked_call(gyre_gc_add_callback(no_callback, NULL, &id)) == 0)
    TEST_REQUIRE(gyre_gc_remove_callback(id) == 0);
  else
    TEST_REQUIRE(id == 0);
  TEST_REQUIRE(gyre_purge() == 0);
  TEST_REQUIRE(gyre_synchronize() == 0);
  node *chain = chain_new_or_less(300);
  ptrdiff_t bytes = chain != NULL ? checked_call(gyre_sizeof_deep(chain, NULL, NULL)) : -ENOMEM;
  if (bytes >= 0) TEST_REQUIRE(bytes % (ptrdiff_t)sizeof(node) == 0 && bytes > 0);
  ptrdiff_t objects = checked_call(gyre_live_objects());
  ptrdiff_t refs = checked_call(gyre_total_refs());
  if (objects >= 0 && refs >= 0) TEST_REQUIRE(refs >= objects);
  gyre_release(chain);
  struct gyre_stats stats = {.size = sizeof stats};
  TEST_REQUIRE(gyre_stats_get(&stats) == 0);
  for (int g = 0; g < 3; g++)
    checked_call(gyre_gc_collect(g));
}

static void *scenario(void *arg) {
  (void)arg;
  /* Not attached yet: a new slot, or that of a thread that is gone. */
  if (gyre_thread_attach() == NULL) {
    TEST_REQUIRE(errno == ENOMEM);
    failed();
    return NULL;
  }
  TEST_REQUIRE(checked_call(gyre_thread_set_name("scenario")) == 0);
  use_blocks();
  use_objects();
  use_weak_maps();
  use_values();
  use_the_rest();
  return NULL;
}

/* ---- the runs ---- */

/* A first use of a type, in a thread that has never been: the parts of the scenario that only
 * happen once. */
static void *first_uses(void *arg) {
  gyre_type *type = arg;
  void *object = gyre_new(type);
  if (object == NULL) {
    TEST_REQUIRE(errno == ENOMEM);
    failed();
  }
  gyre_release(object);
  return NULL;
}

static void every_allocation_may_fail_once(void **state) {
  (void)state;
#ifndef GYRE_WINDOWS
  skip();
#endif
  uint64_t nth = 0, hits;
  do {
    nth++;
    /* relaxed: the threads are gone. */
    gyre__store_relaxed(&failures, 0);
    gyre_purge();
    gyre__fault_arm(nth, 0);
    test_thread_run(scenario, NULL);
    hits = gyre__fault_count();
    gyre__fault_arm(0, 0);
    gyre__heap_check();
    while (gyre_gc_collect(2) > 0) {
    }
    assert_int_equal(test_heap_stats().large_bytes, 0);
    /* relaxed: as above. A failure that the library got over by itself need not have been seen. */
    assert_true(gyre__load_relaxed(&failures) <= 2);
  } while (hits >= nth);
  assert_true(nth > 30);
}

static void every_second_and_every_fifth_allocation_may_fail(void **state) {
  (void)state;
#ifndef GYRE_WINDOWS
  skip();
#endif
  for (uint64_t nth = 1; nth <= 7; nth++) {
    gyre__fault_arm(nth, 1);
    test_thread_run(scenario, NULL);
    gyre__fault_arm(0, 0);
    gyre__heap_check();
    while (gyre_gc_collect(2) > 0) {
    }
  }
}

/* Eight threads meet the failures in turn. */
static void *part_of_a_scenario(void *arg) {
  (void)arg;
  if (gyre_thread_attach() == NULL) {
    TEST_REQUIRE(errno == ENOMEM);
    failed();
    return NULL;
  }
  use_blocks();
  use_values();
  node *chain = chain_new_or_less(100);
  gyre_weak *weak = chain != NULL ? checked(gyre_weak_new(chain, NULL, NULL)) : NULL;
  if (chain != NULL) gyre_store(&chain->other, chain);
  gyre_release(chain);
  /* Of all: another thread's, which fails, may have promoted the chain. */
  ptrdiff_t found = checked_call(gyre_gc_collect(2));
  if (found >= 0 && weak != NULL) TEST_REQUIRE(gyre_weak_is_dead(weak));
  gyre_weak_free(weak);
  return NULL;
}

static void allocations_of_eight_threads_may_fail(void **state) {
  (void)state;
#ifndef GYRE_WINDOWS
  skip();
#endif
  for (uint64_t nth = 2; nth <= 50; nth += 6) {
    pthread_t threads[8];
    gyre__fault_arm(nth, 1);
    for (int i = 0; i < 8; i++)
      threads[i] = test_thread_start(part_of_a_scenario, NULL);
    for (int i = 0; i < 8; i++)
      test_thread_join(threads[i]);
    gyre__fault_arm(0, 0);
    gyre__heap_check();
    while (gyre_gc_collect(2) > 0) {
    }
  }
  /* relaxed: the threads are gone. */
  assert_true(gyre__load_relaxed(&failures) > 0);
}

static void the_option_fail_nth_fails_every_nth_allocation(void **state) {
  (void)state;
#ifndef GYRE_WINDOWS
  skip();
#endif
  test_option_set("fail_nth", "3");
  int made = 0, refused = 0;
  for (int i = 0; i < 300; i++) {
    void *block = gyre_malloc(16);
    if (block == NULL) assert_int_equal(errno, ENOMEM);
    made += block != NULL;
    refused += block == NULL;
    gyre_free(block);
  }
  test_option_set("fail_nth", "0");
  assert_in_range(refused, 99, 101);
  assert_int_equal(made + refused, 300);
}

static void a_first_use_may_fail_and_be_repeated(void **state) {
  (void)state;
#ifndef GYRE_WINDOWS
  skip();
#endif
  static gyre_type fresh[8];
  for (unsigned i = 0; i < 8; i++) {
    fresh[i] = (gyre_type){.name = "fresh", .size = 24 + 16 * i};
    gyre__fault_arm(i + 1, 0);
    test_thread_run(first_uses, &fresh[i]);
    gyre__fault_arm(0, 0);
    test_thread_run(first_uses, &fresh[i]);
    gyre__heap_check();
  }
}

/* ---- a limit instead of faults ---- */

static void over_the_limit_allocation_fails_and_goes_on_after_memory_was_freed(void **state) {
  (void)state;
  gyre_purge();
  gyre_heap_set_limit(test_heap_stats().committed_bytes + (8 << 20));
  node *list = NULL;
  size_t made = 0;
  for (node *n; (n = gyre_new(&plain_type)) != NULL; made++) {
    gyre_slot_init(&n->next, list);
    list = n;
  }
  assert_int_equal(errno, ENOMEM);
  assert_true(made > 100000);
  gyre__heap_check();
  assert_null(gyre_malloc(1 << 20));
  gyre_release(list);
  while (gyre_gc_collect(2) > 0) {
  }
  gyre_safepoint();
  gyre_thread_detach();
  gyre_purge();
  void *block = gyre_malloc(1 << 20);
  assert_non_null(block);
  gyre_free(block);
}

static void with_alloc_is_safepoint_an_allocation_collects_what_it_needs(void **state) {
  (void)state;
  gyre_purge();
  gyre_heap_set_limit(test_heap_stats().committed_bytes + (8 << 20));
  for (int i = 0; i < 200000; i++) {
    node *n = gyre_new(&plain_type);
    assert_non_null(n);
    gyre_store(&n->next, n);
    gyre_release(n);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(a_first_use_may_fail_and_be_repeated),
      NODE_TEST(every_allocation_may_fail_once),
      NODE_TEST(every_second_and_every_fifth_allocation_may_fail),
      NODE_TEST(allocations_of_eight_threads_may_fail),
      NODE_TEST(the_option_fail_nth_fails_every_nth_allocation),
      NODE_TEST(over_the_limit_allocation_fails_and_goes_on_after_memory_was_freed),
      NODE_TEST_WITH(with_alloc_is_safepoint_an_allocation_collects_what_it_needs,
                     "gc:0,alloc_is_safepoint:1"),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
