/* SPDX-License-Identifier: MIT */
/* Dictionaries used by several threads: races held open at their windows, and eight threads at once.
 *
 * What the rounds try to provoke: a key that is there and is not found, while the dictionary grows, is
 * compacted or cleared; a value that belongs to another key; a value that is popped twice or lost; two
 * entries with equal keys; a snapshot of two moments; freed memory in a reader's hands. */
#include "value_test.h"

enum { THREADS = 8 };

/* ---- windows ---- */

static struct {
  gyre_dict *dict;
  void *key;
  void *value;
  void *result;
  int error;
} scene;

static void *gets(void *arg) {
  (void)arg;
  gyre_thread_attach();
  test_window_subject();
  errno = 0;
  scene.result = gyre_dict_get(scene.dict, scene.key);
  scene.error = errno;
  gyre_release(scene.result);
  return NULL;
}

static void *sets(void *arg) {
  (void)arg;
  gyre_thread_attach();
  test_window_subject();
  scene.error = gyre_dict_set(scene.dict, scene.key, scene.value);
  return NULL;
}

static void *snaps(void *arg) {
  (void)arg;
  gyre_thread_attach();
  test_window_subject();
  gyre_dict_items *items = gyre_dict_snapshot(scene.dict);
  scene.error = (int)gyre_dict_items_length(items);
  gyre_release(items);
  return NULL;
}

static void *copies(void *arg) {
  (void)arg;
  gyre_thread_attach();
  test_window_subject();
  gyre_dict *copy = gyre_dict_copy(scene.dict);
  scene.error = (int)gyre_dict_length(copy);
  TEST_REQUIRE(gyre_equal(copy, scene.dict) == 1);
  gyre_release(copy);
  return NULL;
}

static pthread_t scene_start(void *(*body)(void *), const char *window, void *key) {
  scene.dict = gyre_dict_new();
  scene.key = key;
  scene.value = number(42);
  scene.result = NULL;
  dict_put(scene.dict, "a", 1);
  dict_put(scene.dict, "b", 2);
  TEST_REQUIRE(gyre_dict_set(scene.dict, key, scene.value) == 0);
  test_window_hold(window, 1);
  pthread_t thread = test_thread_start(body, NULL);
  test_window_await();
  return thread;
}

static void scene_end(void) {
  gyre_release(scene.dict);
  gyre_release(scene.key);
}

/* More entries, so that the view is replaced; and again, by compacting. */
static void replace_view(gyre_dict *dict) {
  for (int64_t i = 0; i < 40; i++) {
    void *n = number(i);
    TEST_REQUIRE(gyre_dict_set(dict, n, n) == 0);
  }
}
static void compact(gyre_dict *dict) {
  for (int64_t i = 0; i < 200; i++) {
    void *n = number(i);
    TEST_REQUIRE(gyre_dict_set(dict, n, n) == 0);
    TEST_REQUIRE(gyre_dict_del(dict, n) == 0);
  }
}

static void a_reader_finds_its_key_though_the_dictionary_is_compacted(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  pthread_t thread = scene_start(gets, "dict/probed", str("key"));
  compact(scene.dict); /* empties the entry that the reader has found */
  test_window_release();
  test_thread_join(thread);
  assert_ptr_equal(scene.result, scene.value);
  scene_end();
}

static void a_reader_finds_its_key_though_the_dictionary_grows(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  pthread_t thread = scene_start(gets, "dict/probed", str("key"));
  replace_view(scene.dict);
  test_window_release();
  test_thread_join(thread);
  assert_ptr_equal(scene.result, scene.value);
  scene_end();
}

static void a_reader_whose_key_is_taken_out_finds_nothing(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  for (int way = 0; way < 2; way++) {
    pthread_t thread = scene_start(gets, "dict/probed", str("key"));
    if (way == 0)
      gyre_dict_clear(scene.dict);
    else
      assert_int_equal(dict_remove(scene.dict, "key"), 0);
    test_window_release();
    test_thread_join(thread);
    assert_null(scene.result);
    assert_int_equal(scene.error, ENOENT);
    scene_end();
  }
}

static void a_reader_may_find_the_value_that_was_set_meanwhile(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  pthread_t thread = scene_start(gets, "dict/probed", str("key"));
  dict_put(scene.dict, "key", 43);
  test_window_release();
  test_thread_join(thread);
  assert_ptr_equal(scene.result, gyre_int_from(43));
  scene_end();
}

/* What a reader has counted in vain dies as it is given back, and the finalizer lets a grace period pass, in
 * which all that the reader had borrowed is freed. */
static test_flag is_freed;
static int waits_until_all_is_freed(node *n) {
  (void)n;
  TEST_REQUIRE(gyre_synchronize() == 0);
  gyre_park();
  while (!test_flag_get(&is_freed))
    sched_yield();
  gyre_unpark();
  return 0;
}

static void a_finalizer_in_a_reader_may_end_what_it_has_borrowed(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  gyre_str *key = str("key");
  node *value = node_new(&finalized_type, 1), *later = node_new(&node_type, 2);
  scene.dict = gyre_dict_new();
  scene.key = key;
  TEST_REQUIRE(gyre_dict_set(scene.dict, key, value) == 0);
  gyre_release(value);
  node_on_finalize = waits_until_all_is_freed;
  test_flag_set(&is_freed, 0);
  test_window_hold("slot/counted_once", 1);
  pthread_t thread = test_thread_start(gets, NULL);
  test_window_await();
  gyre_dict_clear(scene.dict);
  assert_int_equal(nodes_finalized(), 0);
  TEST_REQUIRE(gyre_dict_set(scene.dict, key, later) == 0);
  test_window_release();
  while (nodes_finalized() == 0)
    gyre_safepoint();
  for (int i = 0; i < 3; i++)
    TEST_REQUIRE(gyre_synchronize() == 0);
  test_flag_set(&is_freed, 1);
  test_thread_join(thread);
  assert_ptr_equal(scene.result, later);
  node_on_finalize = NULL;
  gyre_release(later);
  scene_end();
}

static void a_reader_of_keys_with_functions_of_their_own_begins_again(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  for (int way = 0; way < 4; way++) {
    point *key = point_new(3);
    scene.dict = gyre_dict_new();
    scene.key = point_new(3);
    scene.value = number(42);
    TEST_REQUIRE(gyre_dict_set(scene.dict, key, scene.value) == 0);
    test_window_hold("dict/match", 1);
    pthread_t thread = test_thread_start(gets, NULL);
    test_window_await();
    if (way == 0) compact(scene.dict);
    if (way == 1) replace_view(scene.dict);
    if (way == 2) TEST_REQUIRE(gyre_dict_del(scene.dict, scene.key) == 0);
    if (way == 3) gyre_dict_clear(scene.dict);
    test_window_release();
    test_thread_join(thread);
    assert_ptr_equal(scene.result, way < 2 ? scene.value : NULL);
    gyre_release(key);
    scene_end();
  }
}

static void a_writer_of_such_keys_does_not_make_a_second_entry(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  for (int way = 0; way < 5; way++) {
    /* It finds an equal key, or another with the same hash, and then takes the lock. */
    point_same_hash = true;
    point *key = point_new(way < 2 || way == 4 ? 3 : 4), *third = point_new(3);
    scene.dict = gyre_dict_new();
    scene.key = point_new(3);
    scene.value = number(42);
    TEST_REQUIRE(gyre_dict_set(scene.dict, key, scene.value) == 0);
    test_window_hold("dict/matched", 1);
    pthread_t thread = test_thread_start(sets, NULL);
    test_window_await();
    if (way == 0 || way == 4) TEST_REQUIRE(gyre_dict_del(scene.dict, key) == 0);
    if (way == 1) compact(scene.dict);
    if (way == 2 || way == 4) TEST_REQUIRE(gyre_dict_set(scene.dict, third, scene.value) == 0);
    if (way == 3) gyre_dict_clear(scene.dict);
    test_window_release();
    test_thread_join(thread);
    assert_int_equal(scene.error, 0);
    assert_int_equal(gyre_dict_length(scene.dict), way == 2 ? 2 : 1);
    assert_int_equal(number_of(gyre_dict_get(scene.dict, third)), 42);
    point_same_hash = false;
    gyre_release(key);
    gyre_release(third);
    scene_end();
  }
}

static void what_a_writer_allocated_in_vain_is_given_back(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  for (int way = 0; way < 3; way++) {
    scene.dict = gyre_dict_new();
    scene.key = str("key");
    scene.value = number(42);
    for (int64_t i = 0; i < 8; i++) {
      void *n = number(i);
      TEST_REQUIRE(gyre_dict_set(scene.dict, n, n) == 0);
    }
    test_window_hold("dict/allocated", 1);
    pthread_t thread = test_thread_start(sets, NULL);
    test_window_await();
    if (way == 0) replace_view(scene.dict);
    if (way == 1) gyre_dict_clear(scene.dict);
    if (way == 2) dict_put(scene.dict, "key", 1);
    test_window_release();
    test_thread_join(thread);
    assert_int_equal(scene.error, 0);
    assert_int_equal(dict_at(scene.dict, "key"), 42);
    assert_int_equal(gyre_dict_length(scene.dict), way == 0 ? 41 : way == 1 ? 1 : 9);
    scene_end();
  }
}

static void a_dictionary_that_grows_under_a_snapshot_is_looked_at_again(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  pthread_t thread = scene_start(snaps, "dict/snapshot", str("key"));
  replace_view(scene.dict);
  test_window_release();
  test_thread_join(thread);
  assert_int_equal(scene.error, 43);
  scene_end();
  thread = scene_start(copies, "dict/copying", str("key"));
  replace_view(scene.dict);
  test_window_release();
  test_thread_join(thread);
  assert_int_equal(scene.error, 43);
  scene_end();
  thread = scene_start(copies, "dict/copying", str("key"));
  gyre_dict_clear(scene.dict);
  test_window_release();
  test_thread_join(thread);
  assert_int_equal(scene.error, 0);
  scene_end();
}

/* ---- eight threads ---- */

enum { KEYS = 64, LASTING = 32 };

/* A key's value is a number that says whose it is. */
static struct {
  gyre_dict *dict;
  bool points;
  test_flag stop;
  gyre__atomic_u32 put_in, taken_out;
} crowd;

static void *key_new(uint32_t i, uint32_t way) {
  if (crowd.points) return point_new(i);
  char text[32];
  snprintf(text, sizeof text, "key number %u", i);
  return way % 2 ? str(text) : interned(text);
}

static void value_check(void *value, uint32_t key) {
  TEST_REQUIRE(value != NULL);
  TEST_REQUIRE(gyre_int_value(value) % KEYS == key);
}

static void *finds_what_lasts(void *arg) {
  struct test_random random = test_random_new((uint64_t)(uintptr_t)arg);
  uint64_t rounds = 0;
  while (!test_flag_get(&crowd.stop) || rounds < 1000) {
    uint32_t i = test_random_below(&random, KEYS);
    void *key = key_new(i, test_random_below(&random, 2));
    void *value = gyre_dict_get(crowd.dict, key);
    if (i < LASTING || value != NULL) value_check(value, i);
    gyre_release(value);
    if (i < LASTING) TEST_REQUIRE(gyre_dict_contains(crowd.dict, key) == 1);
    gyre_release(key);
    if (rounds++ % 8 == 0) gyre_safepoint();
  }
  return NULL;
}

static void *changes_the_rest(void *arg) {
  struct test_random random = test_random_new((uint64_t)(uintptr_t)arg);
  uint64_t rounds = test_size("GYRE_TEST_ROUNDS", 60000, 20000, 4000);
  for (uint64_t round = 0; round < rounds; round++) {
    uint32_t i = test_random_below(&random, KEYS);
    void *key = key_new(i, test_random_below(&random, 2));
    void *value = number(i + KEYS * (int64_t)test_random_below(&random, 100));
    uint32_t step = test_random_below(&random, 4);
    if (i < LASTING || step == 0) {
      TEST_REQUIRE(gyre_dict_set(crowd.dict, key, value) == 0);
    } else if (step == 1) {
      void *there = gyre_dict_setdefault(crowd.dict, key, value);
      value_check(there, i);
      gyre_release(there);
    } else if (step == 2) {
      void *old = gyre_dict_pop(crowd.dict, key);
      if (old != NULL) value_check(old, i);
      gyre_release(old);
    } else {
      int result = gyre_dict_del(crowd.dict, key);
      TEST_REQUIRE(result == 0 || result == -ENOENT);
    }
    gyre_release(key);
    gyre_release(value);
    if (round % 200 == 0) {
      gyre_dict_items *items = gyre_dict_snapshot(crowd.dict);
      size_t length = gyre_dict_items_length(items);
      TEST_REQUIRE(length >= LASTING && length <= KEYS);
      for (size_t a = 0; a < length; a++) { /* no key twice */
        TEST_REQUIRE(gyre_dict_items_value(items, a) != NULL);
        for (size_t b = 0; b < a; b++)
          TEST_REQUIRE(gyre_equal(gyre_dict_items_key(items, a), gyre_dict_items_key(items, b)) ==
                       0);
      }
      gyre_release(items);
    }
    if (round % 16 == 0) gyre_safepoint();
  }
  return NULL;
}

static void crowd_runs(bool points) {
  memset(&crowd, 0, sizeof crowd);
  crowd.points = points;
  crowd.dict = gyre_dict_new();
  for (uint32_t i = 0; i < LASTING; i++) {
    void *key = key_new(i, 0), *value = number(i);
    TEST_REQUIRE(gyre_dict_set(crowd.dict, key, value) == 0);
    gyre_release(key);
  }
  pthread_t readers[THREADS / 2], writers[THREADS / 2];
  for (uintptr_t i = 0; i < THREADS / 2; i++) {
    readers[i] = test_thread_start(finds_what_lasts, (void *)(i + 100));
    writers[i] = test_thread_start(changes_the_rest, (void *)(i + 200));
  }
  for (int i = 0; i < THREADS / 2; i++)
    test_thread_join(writers[i]);
  test_flag_set(&crowd.stop, 1);
  for (int i = 0; i < THREADS / 2; i++)
    test_thread_join(readers[i]);
  gyre_release(crowd.dict);
}

static void what_is_there_is_found_while_others_change_the_rest(void **state) {
  (void)state;
  crowd_runs(false);
}

static void the_same_with_keys_that_program_code_compares(void **state) {
  (void)state;
  crowd_runs(true);
}

/* Puts in each number of its own, and takes out whatever it finds. */
enum { NUMBERS = 2000 };
static void *puts_and_pops(void *arg) {
  int64_t first = (int64_t)(uintptr_t)arg * NUMBERS + 5000;
  uint32_t out = 0;
  for (int64_t i = 0; i < NUMBERS; i++) {
    void *n = number(first + i);
    TEST_REQUIRE(gyre_dict_set(crowd.dict, n, n) == 0);
    gyre_release(n);
    if (i % 100 == 99) { /* everybody pops the same */
      gyre_dict_items *items = gyre_dict_snapshot(crowd.dict);
      for (size_t at = 0; at < gyre_dict_items_length(items); at++) {
        void *key = gyre_dict_items_key(items, at), *value = gyre_dict_pop(crowd.dict, key);
        TEST_REQUIRE(value == NULL || value == key);
        out += value != NULL;
        gyre_release(value);
      }
      gyre_release(items);
    }
    gyre_safepoint();
  }
  /* relaxed: read when the threads have been joined. */
  gyre__fetch_add_relaxed(&crowd.taken_out, out);
  return NULL;
}

static void each_entry_is_popped_once(void **state) {
  (void)state;
  memset(&crowd, 0, sizeof crowd);
  crowd.dict = gyre_dict_new();
  pthread_t threads[THREADS];
  for (uintptr_t i = 0; i < THREADS; i++)
    threads[i] = test_thread_start(puts_and_pops, (void *)i);
  for (int i = 0; i < THREADS; i++)
    test_thread_join(threads[i]);
  /* relaxed: they have been joined. */
  assert_int_equal(gyre__load_relaxed(&crowd.taken_out) + gyre_dict_length(crowd.dict),
                   THREADS * NUMBERS);
  gyre_release(crowd.dict);
}

static void *sets_defaults(void *arg) {
  void **results = arg;
  for (int64_t i = 0; i < NUMBERS; i++) {
    void *key = number(i + 5000), *value = number(7000);
    results[i] = gyre_dict_setdefault(crowd.dict, key, value);
    TEST_REQUIRE(results[i] != NULL);
    gyre_release(key);
    gyre_release(value);
    gyre_safepoint();
  }
  return NULL;
}

static void all_get_the_same_default(void **state) {
  (void)state;
  memset(&crowd, 0, sizeof crowd);
  crowd.dict = gyre_dict_new();
  static void *results[THREADS][NUMBERS];
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++)
    threads[i] = test_thread_start(sets_defaults, results[i]);
  for (int i = 0; i < THREADS; i++)
    test_thread_join(threads[i]);
  assert_int_equal(gyre_dict_length(crowd.dict), NUMBERS);
  for (int64_t k = 0; k < NUMBERS; k++)
    for (int i = 0; i < THREADS; i++) {
      assert_ptr_equal(results[i][k], results[0][k]);
      if (i > 0) gyre_release(results[i][k]);
    }
  for (int64_t k = 0; k < NUMBERS; k++)
    gyre_release(results[0][k]);
  gyre_release(crowd.dict);
}

/* "first" is set, then "second", to the same number. */
static void *sets_in_turn(void *arg) {
  (void)arg;
  for (int64_t n = 1; n <= 3000; n++) {
    dict_put(crowd.dict, "first", n);
    dict_put(crowd.dict, "second", n);
    if (n % 7 == 0) compact(crowd.dict);
    gyre_safepoint();
  }
  test_flag_set(&crowd.stop, 1);
  return NULL;
}

static void *looks_at_both(void *arg) {
  (void)arg;
  while (!test_flag_get(&crowd.stop)) {
    gyre_dict_items *items = gyre_dict_snapshot(crowd.dict);
    int64_t first = gyre_int_value(gyre_dict_items_value(items, 0));
    int64_t second = gyre_int_value(gyre_dict_items_value(items, 1));
    TEST_REQUIRE(first == second || first == second + 1);
    gyre_release(items);
    gyre_dict *copy = gyre_dict_copy(crowd.dict);
    first = dict_at(copy, "first");
    second = dict_at(copy, "second");
    TEST_REQUIRE(first == second || first == second + 1);
    gyre_release(copy);
    gyre_safepoint();
  }
  return NULL;
}

static void a_snapshot_is_of_one_moment(void **state) {
  (void)state;
  memset(&crowd, 0, sizeof crowd);
  crowd.dict = gyre_dict_new();
  dict_put(crowd.dict, "first", 0);
  dict_put(crowd.dict, "second", 0);
  pthread_t writer = test_thread_start(sets_in_turn, NULL), readers[3];
  for (int i = 0; i < 3; i++)
    readers[i] = test_thread_start(looks_at_both, NULL);
  test_thread_join(writer);
  for (int i = 0; i < 3; i++)
    test_thread_join(readers[i]);
  gyre_release(crowd.dict);
}

static void *counts_up(void *arg) {
  struct test_random random = test_random_new((uint64_t)(uintptr_t)arg);
  for (int i = 0; i < NUMBERS; i++) {
    void *key = key_new(test_random_below(&random, KEYS), 0);
    gyre_dict_lock(crowd.dict);
    int64_t n = number_of(gyre_dict_get(crowd.dict, key));
    GYRE_AUTO(void) more = number(n < 0 ? 1 : n + 1);
    TEST_REQUIRE(gyre_dict_set(crowd.dict, key, more) == 0);
    if (i % 50 == 0) { /* what writes and what reads the whole, too */
      void *value = gyre_dict_pop(crowd.dict, key);
      TEST_REQUIRE(value == more);
      gyre_dict *copy = gyre_dict_copy(crowd.dict);
      TEST_REQUIRE(gyre_dict_contains(copy, key) == 0);
      gyre_dict_clear(crowd.dict);
      TEST_REQUIRE(gyre_dict_update(crowd.dict, copy) == 0);
      TEST_REQUIRE(gyre_equal(crowd.dict, copy) == 1);
      gyre_release(copy);
      TEST_REQUIRE(gyre_dict_set(crowd.dict, key, value) == 0);
      gyre_release(value);
    }
    gyre_dict_unlock(crowd.dict);
    gyre_release(key);
    gyre_safepoint();
  }
  return NULL;
}

static void several_calls_under_the_lock_are_one_step(void **state) {
  (void)state;
  for (int points = 0; points < 2; points++) {
    memset(&crowd, 0, sizeof crowd);
    crowd.points = points == 1;
    crowd.dict = gyre_dict_new();
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
      threads[i] = test_thread_start(counts_up, (void *)(i + 300));
    for (int i = 0; i < THREADS; i++)
      test_thread_join(threads[i]);
    gyre_dict_items *items = gyre_dict_snapshot(crowd.dict);
    int64_t sum = 0;
    for (size_t i = 0; i < gyre_dict_items_length(items); i++)
      sum += gyre_int_value(gyre_dict_items_value(items, i));
    assert_int_equal(sum, THREADS * NUMBERS);
    gyre_release(items);
    gyre_release(crowd.dict);
  }
}

/* Dictionaries that refer to each other, built by one thread, dropped by another. */
static gyre__atomic_ptr handed;
static void *makes_and_drops_cycles(void *arg) {
  (void)arg;
  for (int i = 0; i < 1500; i++) {
    gyre_dict *d = gyre_dict_new();
    gyre_str *k = interned("other");
    /* acq_rel: the dictionary behind the pointer; pairs with itself. */
    gyre_dict *other = gyre__exchange_acq_rel(&handed, (void *)gyre_retain(d));
    TEST_REQUIRE(gyre_dict_set(d, k, d) == 0);
    if (other != NULL) {
      GYRE_AUTO(gyre_str) link = str("link");
      TEST_REQUIRE(gyre_dict_set(d, link, other) == 0);
      TEST_REQUIRE(gyre_dict_set(other, link, d) == 0);
      gyre_release(gyre_dict_get(other, k));
    }
    node *n = node_new(&node_type, 0);
    GYRE_AUTO(gyre_str) kn = str("node");
    TEST_REQUIRE(gyre_dict_set(d, kn, n) == 0);
    gyre_release(n);
    gyre_release(k);
    gyre_release(d);
    gyre_release(other);
    gyre_safepoint();
  }
  return NULL;
}

static void cycles_made_by_many_threads_are_collected(void **state) {
  (void)state;
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++)
    threads[i] = test_thread_start(makes_and_drops_cycles, NULL);
  for (int i = 0; i < THREADS; i++)
    test_thread_join(threads[i]);
  /* acq_rel: as above. */
  gyre_release(gyre__exchange_acq_rel(&handed, NULL));
  gyre_gc_collect(2);
  gyre_gc_collect(2);
  assert_int_equal(nodes_destroyed(), THREADS * 1500);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_reader_finds_its_key_though_the_dictionary_is_compacted),
      TEST(a_reader_finds_its_key_though_the_dictionary_grows),
      TEST(a_reader_whose_key_is_taken_out_finds_nothing),
      TEST(a_reader_may_find_the_value_that_was_set_meanwhile),
      NODE_TEST(a_finalizer_in_a_reader_may_end_what_it_has_borrowed),
      TEST(a_reader_of_keys_with_functions_of_their_own_begins_again),
      TEST(a_writer_of_such_keys_does_not_make_a_second_entry),
      TEST(what_a_writer_allocated_in_vain_is_given_back),
      TEST(a_dictionary_that_grows_under_a_snapshot_is_looked_at_again),
      TEST(what_is_there_is_found_while_others_change_the_rest),
      TEST(the_same_with_keys_that_program_code_compares),
      TEST(each_entry_is_popped_once),
      TEST(all_get_the_same_default),
      TEST(a_snapshot_is_of_one_moment),
      TEST(several_calls_under_the_lock_are_one_step),
      NODE_TEST_WITH(cycles_made_by_many_threads_are_collected, "gc:1"),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
