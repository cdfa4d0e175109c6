/* SPDX-License-Identifier: MIT */
/* Lists: Python's semantics, and what many threads see. */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "tests/support/node.h"
#include "tests/support/puppet.h"
#include "tests/support/window.h"

static node *item(uint64_t tag) { return node_new(&node_type, tag); }

/* Appends n new nodes with the tags from `first` on. */
static void fill(gyre_list *list, uint64_t first, size_t n) {
  for (size_t i = 0; i < n; i++) {
    node *x = item(first + i);
    TEST_REQUIRE(gyre_list_append(list, x) == 0);
    gyre_release(x);
  }
}

static uint64_t tag_at(gyre_list *list, ptrdiff_t index) {
  node *x = gyre_list_get(list, index);
  if (x == NULL) return UINT64_MAX;
  uint64_t tag = x->tag;
  gyre_release(x);
  return tag;
}

static void assert_tags(gyre_list *list, size_t n, const uint64_t *tags) {
  assert_int_equal(gyre_list_length(list), n);
  for (size_t i = 0; i < n; i++)
    assert_int_equal(tag_at(list, (ptrdiff_t)i), tags[i]);
}
#define ASSERT_TAGS(list, ...)                                                                     \
  do {                                                                                             \
    const uint64_t tags_[] = {__VA_ARGS__};                                                        \
    assert_tags(list, sizeof tags_ / sizeof *tags_, tags_);                                        \
  } while (0)

static uint64_t pop_tag(gyre_list *list, ptrdiff_t index) {
  node *x = gyre_list_pop(list, index);
  TEST_REQUIRE(x != NULL);
  uint64_t tag = x->tag;
  gyre_release(x);
  return tag;
}

/* Every item is referred to by the list alone. */
static void assert_counts_are_one(gyre_list *list) {
  for (size_t i = 0; i < gyre_list_length(list); i++) {
    node *x = gyre_list_get(list, (ptrdiff_t)i);
    assert_int_equal(gyre_refcount(x), 2);
    gyre_release(x);
  }
}

/* ---- what each call does ---- */

static void an_empty_list_has_nothing(void **state) {
  (void)state;
  gyre_list *list = gyre_list_new();
  assert_int_equal(gyre_list_length(list), 0);
  errno = 0;
  assert_null(gyre_list_get(list, 0));
  assert_int_equal(errno, ERANGE);
  assert_null(gyre_list_get(list, -1));
  assert_null(gyre_list_pop(list, -1));
  assert_int_equal(gyre_list_set(list, 0, list), -ERANGE);
  assert_int_equal(gyre_list_append(list, NULL), -EINVAL);
  assert_int_equal(gyre_list_reverse(list), 0);
  assert_int_equal(gyre_list_delete(list, 0, 10), 0);
  gyre_list_clear(list);
  assert_int_equal(gyre_gc_is_tracked(list), 1);
  gyre_release(list);
}

static void indices_count_from_both_ends(void **state) {
  (void)state;
  gyre_list *list = gyre_list_new();
  fill(list, 0, 100);
  for (ptrdiff_t i = 0; i < 100; i++) {
    assert_int_equal(tag_at(list, i), i);
    assert_int_equal(tag_at(list, i - 100), i);
  }
  assert_int_equal(tag_at(list, 100), UINT64_MAX);
  assert_int_equal(tag_at(list, -101), UINT64_MAX);
  assert_int_equal(tag_at(list, PTRDIFF_MIN), UINT64_MAX);
  assert_counts_are_one(list);
  gyre_release(list);
  assert_int_equal(nodes_destroyed(), 100);
}

static void insert_pop_and_delete_move_the_rest(void **state) {
  (void)state;
  gyre_list *list = gyre_list_new();
  fill(list, 0, 4);
  node *x = item(9);
  assert_int_equal(gyre_list_insert(list, 1, x), 0);
  ASSERT_TAGS(list, 0, 9, 1, 2, 3);
  assert_int_equal(gyre_list_insert(list, -1, x), 0);
  ASSERT_TAGS(list, 0, 9, 1, 2, 9, 3);
  assert_int_equal(gyre_list_insert(list, -100, x), 0);
  assert_int_equal(gyre_list_insert(list, 100, x), 0);
  ASSERT_TAGS(list, 9, 0, 9, 1, 2, 9, 3, 9);
  assert_int_equal(gyre_refcount(x), 5);
  assert_int_equal(pop_tag(list, 0), 9);
  assert_int_equal(pop_tag(list, -1), 9);
  assert_int_equal(pop_tag(list, 4), 9);
  assert_int_equal(pop_tag(list, -4), 9);
  ASSERT_TAGS(list, 0, 1, 2, 3);
  assert_int_equal(gyre_refcount(x), 1);
  assert_int_equal(gyre_list_delete(list, 1, -1), 0);
  ASSERT_TAGS(list, 0, 3);
  assert_int_equal(nodes_destroyed(), 2);
  assert_int_equal(gyre_list_delete(list, 1, 0), 0);
  assert_int_equal(gyre_list_delete(list, PTRDIFF_MIN, PTRDIFF_MAX), 0);
  assert_int_equal(gyre_list_length(list), 0);
  gyre_release(x);
  gyre_release(list);
  assert_int_equal(nodes_destroyed(), 5);
}

static void set_drops_what_was_there(void **state) {
  (void)state;
  gyre_list *list = gyre_list_new();
  fill(list, 0, 3);
  node *x = item(7);
  assert_int_equal(gyre_list_set(list, -1, x), 0);
  assert_int_equal(nodes_destroyed(), 1);
  assert_int_equal(gyre_list_set(list, 3, x), -ERANGE);
  assert_int_equal(gyre_list_set(list, 0, NULL), -EINVAL);
  ASSERT_TAGS(list, 0, 1, 7);
  assert_int_equal(gyre_refcount(x), 2);
  gyre_release(x);
  gyre_release(list);
}

static void extend_slice_copy_and_reverse(void **state) {
  (void)state;
  gyre_list *list = gyre_list_new();
  fill(list, 0, 3);
  assert_int_equal(gyre_list_extend_list(list, list), 0);
  ASSERT_TAGS(list, 0, 1, 2, 0, 1, 2);
  gyre_list *slice = gyre_list_slice(list, -4, 5), *copy = gyre_list_copy(list);
  ASSERT_TAGS(slice, 2, 0, 1);
  assert_int_equal(gyre_list_reverse(slice), 0);
  ASSERT_TAGS(slice, 1, 0, 2);
  gyre_list *none = gyre_list_slice(list, 4, 2);
  assert_int_equal(gyre_list_length(none), 0);
  assert_int_equal(gyre_equal(list, copy), 1);
  assert_int_equal(gyre_equal(list, slice), 0);
  assert_int_equal(gyre_list_reverse(copy), 0);
  assert_int_equal(gyre_equal(list, copy), 0);
  void *things[] = {list, NULL};
  assert_int_equal(gyre_list_extend(none, things, 2), -EINVAL);
  assert_int_equal(gyre_list_length(none), 0);
  gyre_list *from = gyre_list_from(things, 1);
  assert_ptr_equal(gyre_list_from(things, 2), NULL);
  gyre_release(from);
  uint64_t hash = 5;
  assert_int_equal(gyre_hash(list, &hash), -EINVAL);
  gyre_release(none);
  gyre_release(slice);
  gyre_release(copy);
  gyre_release(list);
  assert_int_equal(nodes_destroyed(), 3);
}

static void searching_asks_the_value_protocol(void **state) {
  (void)state;
  gyre_list *list = gyre_list_new();
  for (int i = 0; i < 6; i++) {
    gyre_int *x = gyre_int_from(1000000 + i % 3);
    assert_int_equal(gyre_list_append(list, x), 0);
    gyre_release(x);
  }
  gyre_int *one = gyre_int_from(1000001), *no = gyre_int_from(1000007);
  assert_int_equal(gyre_list_index(list, one, 0, PTRDIFF_MAX), 1);
  assert_int_equal(gyre_list_index(list, one, 2, PTRDIFF_MAX), 4);
  assert_int_equal(gyre_list_index(list, one, 2, -2), -ENOENT);
  assert_int_equal(gyre_list_count(list, one), 2);
  assert_int_equal(gyre_list_count(list, no), 0);
  assert_int_equal(gyre_list_remove(list, no), -ENOENT);
  assert_int_equal(gyre_list_remove(list, one), 0);
  assert_int_equal(gyre_list_index(list, one, 0, PTRDIFF_MAX), 3);
  assert_int_equal(gyre_list_length(list), 5);
  gyre_release(one);
  gyre_release(no);
  gyre_release(list);
}

static void it_shrinks_and_grows_with_its_items(void **state) {
  (void)state;
  gyre_list *list = gyre_list_new();
  /* What the thread needs for so many objects. */
  fill(list, 0, 10000);
  gyre_list_clear(list);
  size_t before = test_heap_stats().live_bytes;
  fill(list, 0, 10000);
  size_t full = test_heap_stats().live_bytes;
  for (uint64_t i = 10000; i-- > 10;)
    assert_int_equal(pop_tag(list, -1), i);
  assert_true(test_heap_stats().live_bytes < before + (full - before) / 8);
  for (uint64_t i = 0; i < 9; i++)
    assert_int_equal(pop_tag(list, 0), i);
  assert_int_equal(tag_at(list, 0), 9);
  gyre_release(list);
}

/* ---- sorting ---- */

static __thread size_t comparisons;
static int by_tag(void *a, void *b, void *arg) {
  (void)arg;
  comparisons++;
  uint64_t x = ((node *)a)->tag >> 32, y = ((node *)b)->tag >> 32;
  return (x > y) - (x < y);
}

static void sorting_is_stable(void **state) {
  (void)state;
  struct test_random random = test_random_new(1);
  for (size_t n = 0; n < 300; n += 1 + n / 7) {
    gyre_list *list = gyre_list_new();
    for (size_t i = 0; i < n; i++)
      fill(list, (uint64_t)test_random_below(&random, 20) << 32 | i, 1);
    assert_int_equal(gyre_list_sort(list, by_tag, NULL), 0);
    assert_int_equal(gyre_list_length(list), n);
    for (size_t i = 1; i < n; i++)
      assert_true(tag_at(list, (ptrdiff_t)i - 1) < tag_at(list, (ptrdiff_t)i));
    comparisons = 0;
    assert_int_equal(gyre_list_sort(list, by_tag, NULL), 0);
    assert_int_equal(comparisons, n > 1 ? n - 1 : 0);
    assert_counts_are_one(list);
    gyre_release(list);
  }
}

static int meddles(void *a, void *b, void *arg) {
  gyre_list *list = arg;
  TEST_REQUIRE(gyre_list_length(list) <= 1);
  if (gyre_list_length(list) == 0) fill(list, 77, 1);
  return by_tag(a, b, NULL);
}
static int looks(void *a, void *b, void *arg) {
  TEST_REQUIRE(gyre_list_get(arg, 0) == NULL);
  gyre_gc_collect(2);
  return by_tag(a, b, NULL);
}

static void changing_it_under_its_sorting_is_told_and_lost(void **state) {
  (void)state;
  gyre_list *list = gyre_list_new();
  fill(list, 3ull << 32, 1);
  fill(list, 2ull << 32, 1);
  fill(list, 1ull << 32, 1);
  assert_int_equal(gyre_list_sort(list, meddles, list), -EBUSY);
  ASSERT_TAGS(list, 1ull << 32, 2ull << 32, 3ull << 32);
  assert_int_equal(nodes_destroyed(), 1);
  assert_int_equal(gyre_list_reverse(list), 0);
  assert_int_equal(gyre_list_sort(list, looks, list), 0);
  ASSERT_TAGS(list, 1ull << 32, 2ull << 32, 3ull << 32);
  assert_int_equal(gyre_list_sort(list, NULL, NULL), -EINVAL);
  gyre_release(list);
}

/* ---- against a model, at random ---- */

#define MODEL_MAX 200
static void it_does_what_an_array_does(void **state) {
  (void)state;
  struct test_random random = test_random_new(2);
  uint64_t model[MODEL_MAX], next = 0;
  size_t n = 0;
  gyre_list *list = gyre_list_new();
  for (int step = 0; step < 20000; step++) {
    size_t at = n > 0 ? test_random_below(&random, (uint32_t)n) : 0;
    switch (test_random_below(&random, step / 1000 % 2 ? 5 : 9)) {
    default:
      if (n == MODEL_MAX) break;
      node *x = item(next);
      assert_int_equal(gyre_list_insert(list, (ptrdiff_t)at, x), 0);
      gyre_release(x);
      memmove(&model[at + 1], &model[at], (n - at) * sizeof *model);
      model[at] = next++;
      n++;
      break;
    case 0:
    case 1:
      if (n == 0) break;
      assert_int_equal(pop_tag(list, (ptrdiff_t)at), model[at]);
      memmove(&model[at], &model[at + 1], (--n - at) * sizeof *model);
      break;
    case 2:
      assert_int_equal(gyre_list_reverse(list), 0);
      for (size_t i = 0; i < n / 2; i++) {
        uint64_t tag = model[i];
        model[i] = model[n - 1 - i];
        model[n - 1 - i] = tag;
      }
      break;
    case 3:
      if (n == 0) break;
      size_t to = at + test_random_below(&random, 1 + (uint32_t)(n - at) / 4);
      assert_int_equal(gyre_list_delete(list, (ptrdiff_t)at, (ptrdiff_t)to), 0);
      memmove(&model[at], &model[to], (n - to) * sizeof *model);
      n -= to - at;
      break;
    case 4:
      assert_int_equal(tag_at(list, (ptrdiff_t)at), n > 0 ? model[at] : UINT64_MAX);
      break;
    }
    if (step % 100 == 0) assert_tags(list, n, model);
    if (step % 64 == 0) gyre_safepoint();
  }
  assert_int_equal(nodes_destroyed() + n, next);
  gyre_release(list);
}

/* ---- cycles ---- */

static void lists_that_hold_each_other_are_collected(void **state) {
  (void)state;
  for (int promoted = 0; promoted < 2; promoted++) {
    gyre_list *a = gyre_list_new(), *b = gyre_list_new();
    fill(a, 0, 10);
    gyre_list_append(a, b);
    gyre_list_append(b, a);
    gyre_list_append(b, b);
    if (promoted) gyre_gc_collect(2);
    gyre_release(a);
    assert_int_equal(gyre_gc_collect(2), 0);
    gyre_release(b);
    assert_true(gyre_gc_collect(2) > 0);
  }
  assert_int_equal(nodes_destroyed(), 20);
}

/* ---- other threads ---- */

struct shared {
  gyre_list *list;
  test_flag stop;
  unsigned number;
  uint64_t gets;
  uint64_t steps;
};

static void *reads(void *arg) {
  struct shared *s = arg;
  struct test_random random = test_random_new(10);
  while (!test_flag_get(&s->stop)) {
    size_t length = gyre_list_length(s->list);
    ptrdiff_t at = length > 0 ? (ptrdiff_t)test_random_below(&random, (uint32_t)length) : -1;
    node *x = gyre_list_get(s->list, at);
    if (x != NULL) {
      TEST_REQUIRE(gyre_type_of(x) == &node_type && x->tag < 1000000);
      gyre_release(x);
    }
    gyre_safepoint();
  }
  return NULL;
}

/* Every call, from as many threads as there are. */
static void *hammers(void *arg) {
  struct shared *s = arg;
  struct test_random random = test_random_new(100 + s->number);
  gyre_list *list = s->list;
  for (uint64_t i = 0; i < s->steps; i++) {
    ptrdiff_t at = (ptrdiff_t)test_random_below(&random, 60) - 20;
    node *x = NULL;
    switch (test_random_below(&random, 16)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
      fill(list, i, 1);
      break;
    case 5:
      x = item(i);
      TEST_REQUIRE(gyre_list_insert(list, at, x) == 0);
      break;
    case 6:
      x = item(i);
      (void)gyre_list_set(list, at, x);
      break;
    case 7:
    case 8:
      x = gyre_list_pop(list, at);
      break;
    case 9:
      x = gyre_list_pop(list, -1);
      break;
    case 10:
      if (gyre_list_length(list) > 100) TEST_REQUIRE(gyre_list_delete(list, 20, -20) == 0);
      break;
    case 11:
      TEST_REQUIRE(gyre_list_reverse(list) == 0);
      break;
    case 12:
      if (i % 16 == 0) gyre_list_clear(list);
      break;
    case 13: {
      gyre_list *copy = gyre_list_copy(list);
      TEST_REQUIRE(copy != NULL);
      if (gyre_list_length(copy) > 0) x = gyre_list_get(copy, -1);
      gyre_release(copy);
      break;
    }
    case 14: {
      int result = gyre_list_sort(list, by_tag, NULL);
      TEST_REQUIRE(result == 0 || result == -EBUSY);
      break;
    }
    default:
      x = gyre_list_get(list, at);
      if (x != NULL) (void)gyre_list_remove(list, x);
      break;
    }
    if (x != NULL) TEST_REQUIRE(gyre_type_of(x) == &node_type && x->tag < 1000000);
    gyre_release(x);
    if (i % 8 == 0) gyre_safepoint();
  }
  return NULL;
}

#define THREADS 8
static void hammer(uint64_t steps) {
  struct shared s[THREADS];
  gyre_list *list = gyre_list_new();
  pthread_t threads[THREADS];
  for (unsigned i = 0; i < THREADS; i++) {
    s[i] = (struct shared){.list = list, .number = i, .steps = steps};
    threads[i] = test_thread_start(i < 2 ? reads : hammers, &s[i]);
  }
  for (unsigned i = THREADS; i-- > 0;) {
    test_flag_set(&s[i].stop, 1);
    test_thread_join(threads[i]);
  }
  gyre_release(list);
}

static void eight_threads_may_do_everything_at_once(void **state) {
  (void)state;
  hammer(test_size("GYRE_TEST_STEPS", 20000, 4000, 1500));
}

/* With a collection at every safepoint. */
static void eight_threads_and_collections_all_the_time(void **state) {
  (void)state;
  hammer(test_size("GYRE_TEST_STEPS", 1000, 300, 200));
}

static void *appends(void *arg) {
  struct shared *s = arg;
  for (uint64_t i = 0; i < 2000; i++) {
    fill(s->list, s->number * 100000u + i, 1);
    gyre_safepoint();
  }
  return NULL;
}

static void no_append_is_lost(void **state) {
  (void)state;
  struct shared s[4];
  gyre_list *list = gyre_list_new();
  pthread_t threads[4];
  for (unsigned i = 0; i < 4; i++) {
    s[i] = (struct shared){.list = list, .number = i};
    threads[i] = test_thread_start(appends, &s[i]);
  }
  for (unsigned i = 0; i < 4; i++)
    test_thread_join(threads[i]);
  assert_int_equal(gyre_list_length(list), 8000);
  uint64_t next[4] = {0};
  for (ptrdiff_t i = 0; i < 8000; i++) {
    uint64_t tag = tag_at(list, i), who = tag / 100000;
    assert_int_equal(tag % 100000, next[who]++);
  }
  gyre_release(list);
}

static void *locks_and_adds_two(void *arg) {
  struct shared *s = arg;
  for (int i = 0; i < 500; i++) {
    gyre_list_lock(s->list);
    size_t length = gyre_list_length(s->list);
    fill(s->list, length, 2);
    TEST_REQUIRE(gyre_list_length(s->list) == length + 2);
    TEST_REQUIRE(tag_at(s->list, -2) == length);
    if (i % 2) gyre_release(gyre_list_pop(s->list, 0));
    if (i % 2) gyre_release(gyre_list_pop(s->list, 0));
    gyre_list_unlock(s->list);
    gyre_safepoint();
  }
  return NULL;
}

static void under_the_lock_several_calls_are_one_step(void **state) {
  (void)state;
  struct shared s = {.list = gyre_list_new()};
  pthread_t threads[4];
  for (unsigned i = 0; i < 4; i++)
    threads[i] = test_thread_start(locks_and_adds_two, &s);
  for (unsigned i = 0; i < 4; i++)
    test_thread_join(threads[i]);
  assert_int_equal(gyre_list_length(s.list), 2000);
  gyre_release(s.list);
}

/* ---- races, held open ---- */

static void gets_first(void *arg) {
  struct shared *s = arg;
  test_window_subject();
  s->gets = tag_at(s->list, 0);
}
static void uses(void *arg) { (void)tag_at(((struct shared *)arg)->list, 0); }

/* A reader stands at the window while the list is changed under it. */
static uint64_t read_across(const char *window, void (*change)(gyre_list *)) {
  struct puppet reader;
  struct shared s = {.list = gyre_list_new()};
  fill(s.list, 1, 4);
  puppet_start(&reader);
  puppet_run(&reader, uses, &s);
  test_window_hold(window, 1);
  puppet_begin(&reader, gets_first, &s);
  test_window_await();
  change(s.list);
  for (int i = 0; i < 20; i++)
    gyre_safepoint();
  test_window_release();
  puppet_await(&reader);
  puppet_stop(&reader);
  gyre_release(s.list);
  return s.gets;
}

static void grows(gyre_list *list) { fill(list, 5, 40); }
static void grows_and_drops_the_first(gyre_list *list) {
  fill(list, 5, 40);
  gyre_release(gyre_list_pop(list, 0));
}
static void drops_all(gyre_list *list) {
  gyre_list_clear(list);
  fill(list, 50, 100);
}
static void drops_the_first(gyre_list *list) { gyre_release(gyre_list_pop(list, 0)); }

static void a_reader_finds_what_is_in_the_list_whatever_happens(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  static const char *const windows[] = {"list/borrowed", "list/loaded"};
  for (size_t w = 0; w < 2; w++) {
    assert_int_equal(read_across(windows[w], grows), 1);
    assert_int_equal(read_across(windows[w], grows_and_drops_the_first), 2);
    assert_int_equal(read_across(windows[w], drops_all), 50);
  }
  /* In the same array: the item before or the item after. */
  assert_int_equal(read_across("list/borrowed", drops_the_first), 2);
  assert_int_equal(read_across("list/loaded", drops_the_first), 1);
}

static void grows_held(void *arg) {
  test_window_subject();
  fill(((struct shared *)arg)->list, 5, 1);
}
static void pops_held(void *arg) {
  test_window_subject();
  gyre_release(gyre_list_pop(((struct shared *)arg)->list, 0));
}

/* A reader counts an item that was the list's no more. Giving it back kills it, and its finalizer changes the
 * list and passes safepoints. */
static gyre_list *finalizers_list;
static int changes_the_list(node *n) {
  (void)n;
  fill(finalizers_list, 70, 100);
  gyre_list_clear(finalizers_list);
  fill(finalizers_list, 80, 1);
  for (int i = 0; i < 20; i++) {
    gyre_safepoint();
    sched_yield();
  }
  return 0;
}
static void a_finalizer_in_a_read_may_change_the_list(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  struct puppet reader;
  struct shared s = {.list = gyre_list_new()};
  finalizers_list = s.list;
  node *x = node_new(&finalized_type, 1);
  gyre_list_append(s.list, x);
  puppet_start(&reader);
  puppet_run(&reader, uses, &s);
  node_on_finalize = changes_the_list;
  test_window_hold("list/loaded", 1);
  puppet_begin(&reader, gets_first, &s);
  test_window_await();
  gyre_list_clear(s.list);
  gyre_release(x);
  assert_int_equal(nodes_destroyed(), 0);
  fill(s.list, 60, 1);
  test_window_release();
  puppet_await(&reader);
  assert_int_equal(s.gets, 80);
  node_on_finalize = NULL;
  puppet_stop(&reader);
  gyre_release(s.list);
}

/* The other way round: reads while a writer stands in the middle. */
static void a_reader_does_not_wait_for_a_writer(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  static const char *const windows[] = {"list/moved", "list/replaced", "list/shorter"};
  for (size_t w = 0; w < 3; w++) {
    struct puppet writer;
    struct shared s = {.list = gyre_list_new()};
    fill(s.list, 1, 4);
    puppet_start(&writer);
    puppet_run(&writer, uses, &s);
    test_window_hold(windows[w], 1);
    puppet_begin(&writer, w < 2 ? grows_held : pops_held, &s);
    test_window_await();
    assert_int_equal(tag_at(s.list, 0), w < 2 ? 1 : 2);
    assert_int_equal(tag_at(s.list, 2), w < 2 ? 3 : 4);
    assert_int_equal(tag_at(s.list, 3), w < 2 ? 4 : UINT64_MAX);
    test_window_release();
    puppet_await(&writer);
    puppet_stop(&writer);
    gyre_release(s.list);
  }
}

static void deletes_held(void *arg) {
  test_window_subject();
  assert_int_equal(gyre_list_delete(((struct shared *)arg)->list, 0, 30), 0);
}

static void a_reader_does_not_wait_for_a_deletion(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  struct puppet writer;
  struct shared s = {.list = gyre_list_new()};
  fill(s.list, 0, 40);
  puppet_start(&writer);
  puppet_run(&writer, uses, &s);
  test_window_hold("list/deleting", 1);
  puppet_begin(&writer, deletes_held, &s);
  test_window_await();
  for (uint64_t i = 0; i < 40; i++) {
    uint64_t tag = tag_at(s.list, (ptrdiff_t)i);
    assert_true(tag == i || tag == (i < 10 ? 30 + i : UINT64_MAX));
  }
  test_window_release();
  puppet_await(&writer);
  assert_int_equal(gyre_list_length(s.list), 10);
  assert_int_equal(tag_at(s.list, -1), 39);
  puppet_stop(&writer);
  gyre_release(s.list);
}

/* ---- no memory ---- */

static void scenario(void) {
  gyre_list *list = gyre_list_new(), *copy = NULL;
  if (list == NULL) {
    assert_int_equal(errno, ENOMEM);
    return;
  }
  node *x = gyre_new(&node_type);
  for (size_t i = 0; x != NULL && i < 100; i++) {
    size_t length = gyre_list_length(list);
    int result = gyre_list_append(list, x);
    assert_true(result == 0 || result == -ENOMEM);
    assert_int_equal(gyre_list_length(list), length + (result == 0));
  }
  size_t length = gyre_list_length(list);
  assert_true(x == NULL || gyre_refcount(x) == (ptrdiff_t)length + 1);
  int result = gyre_list_reverse(list);
  assert_true(result == 0 || result == -ENOMEM);
  result = gyre_list_sort(list, by_tag, NULL);
  assert_true(result == 0 || result == -ENOMEM);
  assert_int_equal(gyre_list_length(list), length);
  copy = gyre_list_copy(list);
  if (copy == NULL) assert_int_equal(errno, ENOMEM);
  result = gyre_list_extend_list(list, list);
  assert_true(result == 0 || result == -ENOMEM);
  length = gyre_list_length(list);
  result = gyre_list_delete(list, 1, 3);
  assert_true(result == 0 || result == -ENOMEM);
  assert_int_equal(gyre_list_length(list), length - (result == 0 && length > 2 ? 2 : 0));
  while (gyre_list_length(list) > 3)
    gyre_release(gyre_list_pop(list, -1));
  gyre_list_clear(list);
  gyre_release(copy);
  gyre_release(list);
  if (x != NULL) assert_int_equal(gyre_refcount(x), 1);
  gyre_release(x);
}

static void failed_allocations_change_nothing(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  struct puppet other;
  puppet_start(&other);
  for (uint64_t nth = 1;; nth++) {
    gyre__fault_arm(nth, 0);
    scenario();
    bool failed = gyre__fault_count() >= nth;
    gyre__fault_arm(0, 0);
    gyre_safepoint();
    if (!failed) break;
  }
  puppet_stop(&other);
}

static void without_memory_to_retire_an_array_it_is_kept(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  struct puppet other;
  struct shared s = {.list = gyre_list_new()};
  fill(s.list, 1, 4);
  puppet_start(&other);
  puppet_run(&other, uses, &s);
  for (int i = 0; i < 3; i++) {
    size_t length = gyre_list_length(s.list);
    while (gyre_list_length(s.list) == length) {
      /* The second allocation of an append that grows. */
      node *x = item(9);
      gyre__fault_arm(2, 0);
      assert_int_equal(gyre_list_append(s.list, x), 0);
      gyre__fault_arm(0, 0);
      gyre_release(x);
    }
  }
  gyre__fault_arm(1, 0);
  gyre_list_clear(s.list);
  gyre__fault_arm(0, 0);
  fill(s.list, 1, 10);
  puppet_stop(&other);
  gyre_release(s.list);
}

/* The array of a cleared list is kept, but not used again: its slots are no references any more. */
static void a_list_cleared_without_memory_holds_what_comes_later(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  struct puppet other;
  struct shared s = {.list = gyre_list_new()};
  puppet_start(&other);
  puppet_run(&other, uses, &s);
  for (int round = 0; round < 3; round++) {
    fill(s.list, 1, 4);
    gyre__fault_arm(1, 0);
    gyre_list_clear(s.list);
    gyre__fault_arm(0, 0);
    node *x = item(9);
    assert_int_equal(gyre_list_append(s.list, x), 0);
    gyre_release(x);
    uint64_t destroyed = nodes_destroyed();
    gyre_list_clear(s.list);
    assert_int_equal(nodes_destroyed(), destroyed + 1);
  }
  fill(s.list, 1, 3);
  gyre__fault_arm(1, 0);
  gyre_list_clear(s.list);
  gyre__fault_arm(0, 0);
  uint64_t destroyed = nodes_destroyed();
  fill(s.list, 1, 1);
  puppet_stop(&other);
  gyre_release(s.list);
  assert_int_equal(nodes_destroyed(), destroyed + 1);
}

/* A census is read by people who do not know how a list is made. */
static void its_parts_are_called_after_it(void **state) {
  (void)state;
  gyre_list *list = gyre_list_new();
  for (int i = 0; i < 100; i++)
    assert_int_equal(gyre_list_append(list, list), 0);
  struct gyre_type_count types[8];
  ptrdiff_t n = gyre_heap_typestats(types, 8);
  assert_in_range(n, 2, 3);
  for (ptrdiff_t i = 0; i < n; i++)
    assert_int_equal(strncmp(types[i].type->name, "gyre_list", 9), 0);
  gyre_list_clear(list);
  gyre_release(list);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(an_empty_list_has_nothing),
      NODE_TEST(indices_count_from_both_ends),
      NODE_TEST(insert_pop_and_delete_move_the_rest),
      NODE_TEST(set_drops_what_was_there),
      NODE_TEST(extend_slice_copy_and_reverse),
      NODE_TEST(searching_asks_the_value_protocol),
      NODE_TEST_WITH(it_shrinks_and_grows_with_its_items, "gc:0,quarantine:0"),
      NODE_TEST(sorting_is_stable),
      NODE_TEST(changing_it_under_its_sorting_is_told_and_lost),
      NODE_TEST(it_does_what_an_array_does),
      NODE_TEST(lists_that_hold_each_other_are_collected),
      NODE_TEST_WITH(lists_that_hold_each_other_are_collected, "gc:0,gc_mode:stw"),
      NODE_TEST(eight_threads_may_do_everything_at_once),
      NODE_TEST_WITH(eight_threads_and_collections_all_the_time, "collect_always:3"),
      NODE_TEST(no_append_is_lost),
      NODE_TEST(under_the_lock_several_calls_are_one_step),
      NODE_TEST(a_reader_finds_what_is_in_the_list_whatever_happens),
      NODE_TEST(a_finalizer_in_a_read_may_change_the_list),
      NODE_TEST(a_reader_does_not_wait_for_a_writer),
      NODE_TEST(a_reader_does_not_wait_for_a_deletion),
      NODE_TEST(failed_allocations_change_nothing),
      NODE_TEST(without_memory_to_retire_an_array_it_is_kept),
      NODE_TEST(a_list_cleared_without_memory_holds_what_comes_later),
      NODE_TEST(its_parts_are_called_after_it),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
