/* SPDX-License-Identifier: MIT */
/* Iterators: lazily, one item alive at a time, and gone at once when they are closed. */
#include "tests/value/value_test.h"

static void *squared(void *item, void *arg) {
  (void)arg;
  int64_t value = gyre_int_value(item);
  return gyre_int_from(value * value);
}
static int is_even(void *item, void *arg) {
  (void)arg;
  return gyre_int_value(item) % 2 == 0;
}

/* What an iterator of integers yields, as text; releases it. */
static const char *drained(gyre_iter *iter) {
  static char text[512];
  size_t at = 0;
  text[0] = '\0';
  TEST_REQUIRE(iter != NULL);
  for (void *item; (item = gyre_iter_next(iter)) != NULL;)
    at += (size_t)snprintf(text + at, sizeof text - at, "%lld ", (long long)number_of(item));
  snprintf(text + at, sizeof text - at, "%s", errno == 0 ? "." : strerror(errno));
  /* It stays at its end. */
  TEST_REQUIRE(errno != 0 || (gyre_iter_next(iter) == NULL && errno == 0));
  gyre_release(iter);
  return text;
}

static void ranges(void **state) {
  (void)state;
  assert_string_equal(drained(gyre_iter_range(0, 5, 1)), "0 1 2 3 4 .");
  assert_string_equal(drained(gyre_iter_range(5, 0, -2)), "5 3 1 .");
  assert_string_equal(drained(gyre_iter_range(0, 0, 1)), ".");
  assert_string_equal(drained(gyre_iter_range(0, 5, -1)), ".");
  assert_string_equal(drained(gyre_iter_range(INT64_MAX - 1, INT64_MAX, 5)),
                      "9223372036854775806 .");
  assert_null(gyre_iter_range(0, 5, 0));
  assert_int_equal(errno, EINVAL);
}

static void pipelines(void **state) {
  (void)state;
  assert_string_equal(drained(gyre_iter_map(gyre_iter_range(0, 5, 1), squared, NULL)),
                      "0 1 4 9 16 .");
  assert_string_equal(drained(gyre_iter_filter(gyre_iter_range(0, 7, 1), is_even, NULL)),
                      "0 2 4 6 .");
  gyre_iter *three[] = {gyre_iter_range(0, 2, 1), gyre_iter_range(0, 0, 1),
                        gyre_iter_range(7, 9, 1)};
  assert_string_equal(drained(gyre_iter_chain(three, 3)), "0 1 7 8 .");
  assert_string_equal(drained(gyre_iter_chain(NULL, 0)), ".");
  assert_string_equal(drained(gyre_iter_take(gyre_iter_range(0, 1000000000, 1), 3)), "0 1 2 .");
  assert_string_equal(drained(gyre_iter_take(gyre_iter_range(0, 2, 1), 3)), "0 1 .");
  assert_string_equal(drained(gyre_iter_take(gyre_iter_range(0, 2, 1), 0)), ".");
}

static void zip_and_enumerate_make_tuples(void **state) {
  (void)state;
  gyre_iter *two[] = {gyre_iter_range(0, 3, 1), gyre_iter_range(10, 100, 10)};
  gyre_iter *rows = gyre_iter_enumerate(gyre_iter_zip(two, 2), 5);
  for (int64_t i = 0; i < 3; i++) {
    GYRE_AUTO(gyre_tuple) row = gyre_iter_next(rows);
    assert_int_equal(gyre_int_value(gyre_tuple_at(row, 0)), 5 + i);
    gyre_tuple *pair = gyre_tuple_at(row, 1);
    assert_int_equal(gyre_int_value(gyre_tuple_at(pair, 0)), i);
    assert_int_equal(gyre_int_value(gyre_tuple_at(pair, 1)), 10 + 10 * i);
  }
  assert_null(gyre_iter_next(rows));
  assert_int_equal(errno, 0);
  gyre_release(rows);
  assert_string_equal(drained(gyre_iter_zip(NULL, 0)), ".");
}

static void sequences_are_sources(void **state) {
  (void)state;
  gyre_list *list = gyre_list_from_iter(gyre_iter_range(1000, 1004, 1));
  assert_int_equal(gyre_list_length(list), 4);
  gyre_tuple *tuple = gyre_tuple_from_list(list);
  assert_string_equal(drained(gyre_iter_from_tuple(tuple)), "1000 1001 1002 1003 .");
  gyre_iter *iter = gyre_iter_from_list(list);
  assert_int_equal(number_of(gyre_iter_next(iter)), 1000);
  /* It sees what becomes of the list. */
  gyre_list_clear(list);
  assert_string_equal(drained(iter), ".");
  gyre_array *array = gyre_array_from(GYRE_I16, (int16_t[]){-1, 7}, 2);
  assert_string_equal(drained(gyre_iter_from_array(array)), "-1 7 .");
  gyre_array *reals = gyre_array_from(GYRE_F64, (double[]){0.5}, 1);
  iter = gyre_iter_from_array(reals);
  gyre_double *half = gyre_iter_next(iter);
  assert_true(gyre_double_value(half) >= 0.5 && gyre_double_value(half) <= 0.5);
  assert_null(gyre_iter_next(iter));
  assert_int_equal(errno, 0);
  gyre_release(half);
  gyre_release(iter);
  gyre_release(reals);
  gyre_release(array);
  gyre_release(tuple);
  gyre_release(list);
}

/* ---- callbacks, errors, the end ---- */

static int closed;
static void closes(void *arg) {
  (void)arg;
  closed++;
}
static void *yields_nodes(void *arg, void *held) {
  uint64_t *left = arg;
  TEST_REQUIRE(held == NULL || gyre_refcount(held) > 0);
  if (*left == 0) {
    errno = 0;
    return NULL;
  }
  node *n = gyre_new(&node_type);
  if (n != NULL) --*left;
  return n;
}

static void one_item_is_alive_at_a_time(void **state) {
  (void)state;
  uint64_t left = 1000;
  closed = 0;
  gyre_iter *iter = gyre_iter_take(gyre_iter_from_callback(yields_nodes, closes, &left, NULL), 500);
  uint64_t n = 0;
  for (void *item; (item = gyre_iter_next(iter)) != NULL; gyre_release(item)) {
    assert_int_equal(nodes_destroyed(), n);
    n++;
  }
  assert_int_equal(n, 500);
  assert_int_equal(left, 500);
  assert_int_equal(closed, 1);
  gyre_release(iter);
  assert_int_equal(closed, 1);
}

static void closing_frees_the_pipeline_at_once(void **state) {
  (void)state;
  for (int by_release = 0; by_release < 2; by_release++) {
    uint64_t left = 10, before = nodes_destroyed();
    closed = 0;
    node *held = node_new(&node_type, 1);
    gyre_iter *two[] = {gyre_iter_from_callback(yields_nodes, closes, &left, held),
                        gyre_iter_range(0, 5, 1)};
    gyre_iter *iter = gyre_iter_enumerate(gyre_iter_chain(two, 2), 0);
    gyre_release(gyre_iter_next(iter));
    gyre_release(held);
    assert_int_equal(nodes_destroyed(), before + 1);
    if (!by_release) {
      assert_int_equal(gyre_iter_close(iter), 0);
      assert_int_equal(closed, 1);
      assert_int_equal(nodes_destroyed(), before + 2);
      assert_int_equal(gyre_iter_close(iter), 0);
      assert_null(gyre_iter_next(iter));
      assert_int_equal(errno, 0);
    }
    gyre_release(iter);
    assert_int_equal(closed, 1);
    assert_int_equal(nodes_destroyed(), before + 2);
  }
}

static void *fails_at_two(void *item, void *arg) {
  (void)arg;
  if (gyre_int_value(item) == 2) {
    errno = EPERM;
    return NULL;
  }
  return gyre_retain(item);
}
static void *forgets_errno(void *item, void *arg) {
  (void)item, (void)arg;
  return NULL;
}
static int refuses(void *item, void *arg) {
  (void)item, (void)arg;
  return -ENOTSUP;
}

static void errors_are_passed_on_and_are_not_the_end(void **state) {
  (void)state;
  gyre_iter *iter = gyre_iter_map(gyre_iter_range(1, 4, 1), fails_at_two, NULL);
  assert_int_equal(number_of(gyre_iter_next(iter)), 1);
  assert_null(gyre_iter_next(iter));
  assert_int_equal(errno, EPERM);
  assert_string_equal(drained(iter), "3 .");
  iter = gyre_iter_map(gyre_iter_range(1, 4, 1), forgets_errno, NULL);
  assert_null(gyre_iter_next(iter));
  assert_int_equal(errno, EINVAL);
  gyre_release(iter);
  assert_null(gyre_list_from_iter(gyre_iter_filter(gyre_iter_range(0, 9, 1), refuses, NULL)));
  assert_int_equal(errno, ENOTSUP);
  /* A failure inside makes one look at the end enough. */
  gyre_iter *two[] = {gyre_iter_range(0, 3, 1), gyre_iter_range(0, 3, 0)};
  assert_null(gyre_iter_take(gyre_iter_map(gyre_iter_chain(two, 2), squared, NULL), 5));
  assert_int_equal(errno, EINVAL);
}

static void note_close(void *state) { *(bool *)state = true; }

static void what_is_missing_is_refused_at_once(void **state) {
  (void)state;
  errno = 0;
  assert_null(gyre_iter_map(gyre_iter_range(0, 5, 1), NULL, NULL));
  assert_int_equal(errno, EINVAL);
  errno = 0;
  assert_null(gyre_iter_filter(gyre_iter_range(0, 5, 1), NULL, NULL));
  assert_int_equal(errno, EINVAL);
  bool is_closed = false;
  errno = 0;
  assert_null(gyre_iter_from_callback(NULL, note_close, &is_closed, NULL));
  assert_int_equal(errno, EINVAL);
  assert_true(is_closed);
  errno = 0;
  assert_null(gyre_iter_from_list(NULL));
  assert_int_equal(errno, EINVAL);
  errno = 0;
  assert_null(gyre_iter_from_tuple(NULL));
  assert_int_equal(errno, EINVAL);
  errno = 0;
  assert_null(gyre_iter_from_array(NULL));
  assert_int_equal(errno, EINVAL);
  /* An earlier failure is told first. */
  errno = ENOTSUP;
  assert_null(gyre_iter_map(NULL, NULL, NULL));
  assert_int_equal(errno, ENOTSUP);
}

static gyre_iter *self;
static void *asks_itself(void *state, void *held) {
  (void)state, (void)held;
  TEST_REQUIRE(gyre_iter_next(self) == NULL && errno == EBUSY);
  TEST_REQUIRE(gyre_iter_close(self) == -EBUSY);
  errno = 0;
  return NULL;
}

static void an_iterator_that_is_under_way_is_busy(void **state) {
  (void)state;
  self = gyre_iter_from_callback(asks_itself, NULL, NULL, NULL);
  assert_null(gyre_iter_next(self));
  assert_int_equal(errno, 0);
  gyre_release(self);
}

static void cycles_through_iterators_are_collected(void **state) {
  (void)state;
  for (int promoted = 0; promoted < 2; promoted++) {
    uint64_t left = 5;
    closed = 0;
    gyre_list *list = gyre_list_new();
    gyre_iter *iter = gyre_iter_take(gyre_iter_from_list(list), 10);
    gyre_list_append(list, iter);
    gyre_iter *callback = gyre_iter_from_callback(yields_nodes, closes, &left, NULL);
    gyre_list_append(list, callback);
    gyre_release(callback);
    gyre_release(iter);
    if (promoted) gyre_gc_collect(2);
    gyre_release(list);
    assert_true(gyre_gc_collect(2) >= 4);
    assert_int_equal(closed, 1);
  }
}

/* ---- threads ---- */

static gyre__atomic_u64 sum;
static void *takes_turns(void *arg) {
  for (;;) {
    void *item = gyre_iter_next(arg);
    if (item != NULL) {
      /* relaxed: read when the threads are gone. */
      gyre__fetch_add_relaxed(&sum, (uint64_t)number_of(item));
    } else if (errno == 0) {
      return NULL;
    } else {
      TEST_REQUIRE(errno == EBUSY);
      sched_yield();
    }
    gyre_safepoint();
  }
}

static void threads_share_an_iterator_item_by_item(void **state) {
  (void)state;
  /* relaxed: no other thread yet. */
  gyre__store_relaxed(&sum, 0);
  gyre_iter *iter = gyre_iter_map(gyre_iter_range(0, 5000, 1), squared, NULL);
  pthread_t threads[8];
  for (int i = 0; i < 8; i++)
    threads[i] = test_thread_start(takes_turns, iter);
  for (int i = 0; i < 8; i++)
    test_thread_join(threads[i]);
  /* relaxed: as above. */
  assert_int_equal(gyre__load_relaxed(&sum), 4999ull * 5000 * 9999 / 6);
  gyre_release(iter);
}

/* ---- memory ---- */

/* parity: a million squares in 192 bytes instead of 8.4 MB. */
static void a_million_squares_take_some_hundred_bytes(void **state) {
  (void)state;
  (void)gyre_thread_attach();
  size_t before = test_heap_stats().live_bytes, most = 0;
  gyre_iter *iter = gyre_iter_map(gyre_iter_range(0, 1000000, 1), squared, NULL);
  size_t n = 0;
  for (void *item; (item = gyre_iter_next(iter)) != NULL; gyre_release(item)) {
    if (n++ % 100000 != 0) continue;
    size_t now = test_heap_stats().live_bytes - before;
    if (now > most) most = now;
  }
  gyre_release(iter);
  assert_int_equal(n, 1000000);
  print_message("a million squares: %zu bytes\n", most);
  if (!TEST_ADDRESS_SANITIZER) assert_true(most <= 512);
}

static void scenario(gyre_list *list) {
  uint64_t left = 3;
  closed = 0;
  gyre_iter *two[] = {gyre_iter_range(1000000, 1000004, 1), gyre_iter_from_list(list)};
  gyre_iter *more[] = {gyre_iter_chain(two, 2),
                       gyre_iter_from_callback(yields_nodes, closes, &left, list)};
  gyre_list *out =
      gyre_list_from_iter(gyre_iter_take(gyre_iter_enumerate(gyre_iter_zip(more, 2), 1000000), 3));
  if (out == NULL) assert_int_equal(errno, ENOMEM);
  assert_int_equal(closed, 1);
  gyre_release(out);
}

static void failed_allocations_leave_nothing(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  GYRE_AUTO(gyre_list) list = gyre_list_new();
  bool failed = true;
  for (uint64_t nth = 1; failed; nth++) {
    gyre__fault_arm(nth, 0);
    scenario(list);
    failed = gyre__fault_count() >= nth;
    gyre__fault_arm(0, 0);
    assert_int_equal(gyre_refcount(list), 1);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(ranges),
      NODE_TEST(pipelines),
      NODE_TEST(zip_and_enumerate_make_tuples),
      NODE_TEST(sequences_are_sources),
      NODE_TEST(one_item_is_alive_at_a_time),
      NODE_TEST(closing_frees_the_pipeline_at_once),
      NODE_TEST(errors_are_passed_on_and_are_not_the_end),
      NODE_TEST(what_is_missing_is_refused_at_once),
      NODE_TEST(an_iterator_that_is_under_way_is_busy),
      NODE_TEST(cycles_through_iterators_are_collected),
      NODE_TEST_WITH(cycles_through_iterators_are_collected, "gc:0,gc_mode:stw"),
      NODE_TEST(threads_share_an_iterator_item_by_item),
      NODE_TEST_WITH(a_million_squares_take_some_hundred_bytes, "gc:0,quarantine:0"),
      NODE_TEST(failed_allocations_leave_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
