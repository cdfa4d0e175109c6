/* SPDX-License-Identifier: MIT */
/* Tracing on and off, what is traced, and the figures. */
#include "trace_test.h"

/* Each in a line of its own, which the compiler does not share. */
GYRE_NOINLINE static void *make_here(size_t size, unsigned *line) {
  *line = __LINE__ + 1;
  void *block = gyre_malloc(size);
  __asm__ volatile("" ::"r"(block) : "memory");
  return block;
}

static void it_is_off_at_first_and_says_so(void **state) {
  (void)state;
  assert_int_equal(gyre_trace_is_on(), 0);
  errno = 0;
  assert_null(gyre_trace_snapshot());
  assert_int_equal(errno, ENODATA);
  int dummy;
  assert_int_equal(gyre_trace_track(GYRE_TRACED_FOREIGN, &dummy, 1), -ENODATA);
  assert_int_equal(gyre_trace_untrack(GYRE_TRACED_FOREIGN, &dummy), -ENODATA);
  void *block = gyre_malloc(100);
  assert_false(is_traced(block));
  assert_false(is_traced(&dummy));
  assert_false(is_traced(NULL));
  assert_int_equal(traced_now(), 0);
  gyre_free(block);
}

static void options_that_make_no_sense_are_refused(void **state) {
  (void)state;
  struct gyre_trace_opts opts = {.size = sizeof opts, .nframe = 65536};
  assert_int_equal(gyre_trace_start(&opts), -EINVAL);
  opts = (struct gyre_trace_opts){.size = 0};
  assert_int_equal(gyre_trace_start(&opts), -EINVAL);
  opts = (struct gyre_trace_opts){.size = sizeof opts, .domains = 16};
  assert_int_equal(gyre_trace_start(&opts), -EINVAL);
  opts = (struct gyre_trace_opts){.size = sizeof opts, .flags = 2};
  assert_int_equal(gyre_trace_start(&opts), -EINVAL);
  assert_int_equal(gyre_trace_is_on(), 0);
}

static void a_second_start_keeps_the_first_limit(void **state) {
  (void)state;
  trace_on(7, 0, 0);
  assert_int_equal(gyre_trace_limit(), 7);
  struct gyre_trace_opts opts = {.size = sizeof opts, .nframe = 9};
  assert_int_equal(gyre_trace_start(&opts), -EALREADY);
  assert_int_equal(gyre_trace_limit(), 7);
  opts.nframe = 7;
  assert_int_equal(gyre_trace_start(&opts), 0);
  gyre_trace_stop();
  assert_int_equal(gyre_trace_limit(), 7); /* readable when it is off */
  assert_int_equal(gyre_trace_start(NULL), 0);
  assert_int_equal(gyre_trace_limit(), 1);
  gyre_trace_stop();
  gyre_trace_stop();
}

static void limits_of_1_and_65535_work(void **state) {
  (void)state;
  static const unsigned limits[] = {1, 65535};
  for (unsigned i = 0; i < 2; i++) {
    trace_on(limits[i], 0, 0);
    unsigned line;
    void *block = make_here(100, &line);
    struct gyre_traceback t;
    assert_int_equal(gyre_trace_get(block, &t), 1);
    assert_true(t.count >= 1 && t.count <= limits[i]);
    assert_true(t.total >= t.count);
    assert_int_equal(t.frames[t.count - 1].line,
                     TEST_OPTIMIZED ? t.frames[t.count - 1].line : line);
    gyre_traceback_free(&t);
    gyre_free(block);
    gyre_trace_stop();
  }
}

static void blocks_older_than_the_start_are_unknown(void **state) {
  (void)state;
  void *old = gyre_malloc(100), *freed = gyre_malloc(100);
  trace_on(1, 0, 0);
  assert_false(is_traced(old));
  gyre_free(freed);
  assert_int_equal(traced_now(), 0);
  void *young = gyre_malloc(100);
  assert_true(is_traced(young));
  assert_int_equal(traced_now(), 100);
  gyre_trace_stop();
  assert_false(is_traced(young));
  assert_int_equal(traced_now(), 0);
  gyre_free(old);
  gyre_free(young);
}

static void sizes_are_those_asked_for(void **state) {
  (void)state;
  static const size_t sizes[] = {0,    1,    17,    100,   1000,   1025,    5000,
                                 8193, 9000, 65536, 65537, 100000, 3000000, 5000000};
  enum { COUNT = sizeof sizes / sizeof sizes[0] };
  void *blocks[COUNT];
  trace_on(1, 0, 0);
  size_t sum = 0;
  for (unsigned i = 0; i < COUNT; i++) {
    blocks[i] = gyre_malloc(sizes[i]);
    sum += sizes[i];
    assert_int_equal(traced_now(), sum);
    assert_true(is_traced(blocks[i]));
  }
  gyre_snapshot *s = snapshot_now();
  size_t count, size;
  snapshot_sum(s, &count, &size);
  assert_int_equal(count, COUNT);
  assert_int_equal(size, sum);
  gyre_snapshot_free(s);
  for (unsigned i = 0; i < COUNT; i++) {
    gyre_free(blocks[i]);
    sum -= sizes[i];
    assert_int_equal(traced_now(), sum);
  }
  gyre_trace_stop();
}

static void every_way_to_allocate_is_traced(void **state) {
  (void)state;
  trace_on(1, 0, 0);
  gyre_thread *self = gyre_thread_attach();
  void *blocks[] = {gyre_malloc(64),
                    gyre_calloc(4, 16),
                    gyre_calloc(1, 100000),
                    gyre_realloc(NULL, 64),
                    gyre_aligned_alloc(64, 100),
                    gyre_aligned_alloc(4096, 100),
                    gyre_aligned_alloc(1 << 20, 100),
                    gyre_thread_malloc(self, 64),
                    gyre_thread_calloc(self, 4, 16),
                    gyre_thread_realloc(self, NULL, 64),
                    gyre_thread_aligned_alloc(self, 256, 64)};
  enum { COUNT = sizeof blocks / sizeof blocks[0] };
  for (unsigned i = 0; i < COUNT; i++)
    assert_true(is_traced(blocks[i]));
  assert_int_equal(traced_now(), 64 * 7 + 100000 + 300);
  for (unsigned i = 0; i < COUNT; i++)
    if (i % 2)
      gyre_free(blocks[i]);
    else
      gyre_thread_free(self, blocks[i]);
  assert_int_equal(traced_now(), 0);
  gyre_trace_stop();
}

static void realloc_gives_a_block_a_new_trace(void **state) {
  (void)state;
  void *old = gyre_malloc(100);
  trace_on(1, 0, 0);
  /* In place or not, also of one that was not traced. */
  static const size_t sizes[] = {101, 110, 4000, 3900, 100000, 110000, 5000000, 6000000, 50, 10};
  for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    old = gyre_realloc(old, sizes[i]);
    assert_non_null(old);
    assert_true(is_traced(old));
    assert_int_equal(traced_now(), sizes[i]);
  }
  assert_null(gyre_realloc(old, SIZE_MAX / 2));
  assert_true(is_traced(old));
  gyre_free(old);
  assert_int_equal(traced_now(), 0);
  gyre_trace_stop();
}

static gyre_type array_type = {.name = "array", .size = 16, .element_size = 8};

static void objects_are_traced_with_their_type(void **state) {
  (void)state;
  trace_on(1, 0, 0);
  node *n = gyre_new(&node_type);
  void *array = gyre_new_array(&array_type, 10), *large = gyre_new_array(&array_type, 100000);
  assert_true(is_traced(n) && is_traced(array) && is_traced(large));
  size_t sum = node_type.size + 16 + 80 + 16 + 800000;
  assert_int_equal(traced_now(), sum);
  gyre_snapshot *s = snapshot_now();
  struct gyre_statlist *list;
  assert_int_equal(gyre_snapshot_stats(s, GYRE_TRACE_BY_TYPE, 0, &list), 0);
  assert_int_equal(list->count, 2);
  assert_string_equal(list->at[0].name, "array");
  assert_int_equal(list->at[0].count, 2);
  assert_int_equal(list->at[0].size, 16 + 80 + 16 + 800000);
  assert_string_equal(list->at[1].name, node_type.name);
  gyre_statlist_free(list);
  unsigned domains = 0;
  for (size_t i = 0; i < gyre_snapshot_count(s); i++) {
    struct gyre_trace t;
    assert_int_equal(gyre_snapshot_trace(s, i, &t), 0);
    domains |= 1u << t.domain;
    assert_true(t.weight == 1);
    assert_int_equal(t.thread, gyre_thread_attach()->id);
    gyre_traceback_free(&t.traceback);
  }
  assert_int_equal(domains, 1 << GYRE_TRACED_OBJECT | 1 << GYRE_TRACED_LARGE);
  gyre_snapshot_free(s);
  gyre_release(n);
  gyre_release(array);
  gyre_release(large);
  assert_int_equal(traced_now(), 0);
  gyre_trace_stop();
}

static void garbage_of_the_collector_loses_its_traces(void **state) {
  (void)state;
  trace_on(1, 0, 0);
  for (int i = 0; i < 1000; i++) {
    node *a = gyre_new(&node_type), *b = gyre_new(&node_type);
    gyre_store(&a->next, b);
    gyre_store(&b->next, a);
    gyre_release(a);
    gyre_release(b);
  }
  (void)gyre_gc_collect(2);
  (void)gyre_gc_collect(2);
  gyre_safepoint();
  (void)gyre_purge();
  assert_int_equal(traced_now(), 0);
  gyre_trace_stop();
}

static void only_the_domains_asked_for_are_traced(void **state) {
  (void)state;
  for (unsigned domain = 0; domain <= GYRE_TRACED_FOREIGN; domain++) {
    struct gyre_trace_opts opts = {.size = sizeof opts, .domains = 1u << domain};
    assert_int_equal(gyre_trace_start(&opts), 0);
    void *raw = gyre_malloc(100), *large = gyre_malloc(100000);
    node *n = gyre_new(&node_type);
    int foreign;
    assert_int_equal(gyre_trace_track(GYRE_TRACED_FOREIGN, &foreign, 4), 0);
    assert_int_equal(is_traced(raw), domain == GYRE_TRACED_MEM);
    assert_int_equal(is_traced(n), domain == GYRE_TRACED_OBJECT);
    assert_int_equal(is_traced(large), domain == GYRE_TRACED_LARGE);
    assert_int_equal(is_traced(&foreign), domain == GYRE_TRACED_FOREIGN);
    gyre_free(raw);
    gyre_free(large);
    gyre_release(n);
    gyre_trace_stop();
  }
}

static void foreign_memory_can_be_tracked(void **state) {
  (void)state;
  trace_on(1, 0, 0);
  char a, b;
  assert_int_equal(gyre_trace_track(GYRE_TRACED_LARGE, &a, 10), -EINVAL);
  assert_int_equal(gyre_trace_untrack(GYRE_TRACED_LARGE, &a), -EINVAL);
  assert_int_equal(gyre_trace_track(GYRE_TRACED_FOREIGN, &a, 10), 0);
  assert_int_equal(gyre_trace_track(GYRE_TRACED_FOREIGN + 5, &a, 30), 0);
  assert_int_equal(gyre_trace_track(GYRE_TRACED_FOREIGN, &b, 5), 0);
  assert_int_equal(traced_now(), 45);
  assert_int_equal(gyre_trace_track(GYRE_TRACED_FOREIGN, &a, 20), 0); /* replaces */
  assert_int_equal(traced_now(), 55);
  assert_true(is_traced(&a));
  assert_int_equal(gyre_trace_untrack(GYRE_TRACED_FOREIGN, &a), 0);
  assert_int_equal(traced_now(), 35);
  assert_true(is_traced(&a)); /* in the other domain */
  assert_int_equal(gyre_trace_untrack(GYRE_TRACED_FOREIGN, &a), 0);
  assert_int_equal(gyre_trace_untrack(GYRE_TRACED_FOREIGN + 5, &a), 0);
  assert_false(is_traced(&a));
  assert_int_equal(traced_now(), 5);
  /* Many, so that the table grows and closes gaps. */
  for (uintptr_t i = 1; i <= 20000; i++)
    assert_int_equal(gyre_trace_track(GYRE_TRACED_FOREIGN, (void *)(i << 12), 1), 0);
  assert_int_equal(traced_now(), 20005);
  for (uintptr_t i = 1; i <= 20000; i += 2)
    assert_int_equal(gyre_trace_untrack(GYRE_TRACED_FOREIGN, (void *)(i << 12)), 0);
  for (uintptr_t i = 2; i <= 20000; i += 2)
    assert_int_equal(gyre_trace_untrack(GYRE_TRACED_FOREIGN, (void *)(i << 12)), 0);
  assert_int_equal(traced_now(), 5);
  gyre_trace_stop();
}

static void the_peak_is_the_most_there_was(void **state) {
  (void)state;
  trace_on(1, 0, 0);
  void *a = gyre_malloc(1000), *b = gyre_malloc(200000), *c = gyre_malloc(10);
  assert_int_equal(traced_peak(), 201010);
  gyre_free(b);
  assert_int_equal(traced_peak(), 201010);
  assert_int_equal(traced_now(), 1010);
  gyre_trace_reset_peak();
  assert_int_equal(traced_peak(), 1010);
  b = gyre_malloc(90);
  gyre_free(b);
  assert_int_equal(traced_peak(), 1100);
  /* What has been freed since, but is not in the process's figure yet, counts. */
  void *many[60];
  for (int i = 0; i < 60; i++)
    many[i] = gyre_malloc(2000);
  for (int i = 0; i < 30; i++)
    gyre_free(many[i]);
  assert_int_equal(traced_peak(), 121010);
  gyre_trace_reset_peak();
  assert_int_equal(traced_peak(), 61010);
  for (int i = 30; i < 60; i++)
    gyre_free(many[i]);
  gyre_trace_clear();
  assert_int_equal(traced_now(), 0);
  assert_int_equal(traced_peak(), 0);
  gyre_free(a);
  gyre_free(c);
  assert_int_equal(traced_now(), 0);
  gyre_trace_stop();
}

static void clearing_drops_all_and_goes_on(void **state) {
  (void)state;
  trace_on(1, 0, 0);
  void *a = gyre_malloc(100), *large = gyre_malloc(100000);
  for (int i = 0; i < 5000; i++) /* more than there are numbers of sessions */
    gyre_trace_clear();
  assert_int_equal(gyre_trace_is_on(), 1);
  assert_false(is_traced(a) || is_traced(large));
  void *b = gyre_malloc(50);
  assert_true(is_traced(b));
  assert_int_equal(traced_now(), 50);
  gyre_snapshot *s = snapshot_now();
  assert_int_equal(gyre_snapshot_count(s), 1);
  gyre_snapshot_free(s);
  gyre_free(a);
  gyre_free(large);
  gyre_free(b);
  gyre_trace_stop();
}

static void the_tracer_says_what_it_has(void **state) {
  (void)state;
  trace_on(1, 0, 0);
  size_t before = gyre_trace_overhead();
  enum { COUNT = 20000 };
  static void *blocks[COUNT];
  for (int i = 0; i < COUNT; i++)
    blocks[i] = gyre_malloc(64);
  size_t each = (gyre_trace_overhead() - before) / COUNT;
  assert_true(each >= 4 && each <= 40);
  for (int i = 0; i < COUNT; i++)
    gyre_free(blocks[i]);
  gyre_trace_stop();
  /* The stacks go after a grace period. */
  assert_int_equal(gyre_synchronize(), 0);
  gyre_safepoint();
  assert_true(gyre_trace_overhead() <= before + 65536);
}

static void a_page_takes_other_blocks_later(void **state) {
  (void)state;
  trace_on(1, 0, 0);
  test_option_set("quarantine", "0");
  enum { COUNT = 3000 };
  static void *blocks[COUNT];
  for (size_t size = 16; size <= 16384; size *= 2) {
    for (int i = 0; i < COUNT; i++)
      blocks[i] = gyre_malloc(size);
    assert_int_equal(traced_now(), COUNT * size);
    for (int i = 0; i < COUNT; i++)
      gyre_free(blocks[i]);
    assert_int_equal(traced_now(), 0);
    (void)gyre_purge();
  }
  gyre_trace_stop();
}

/* A heap at rest in size: nearly all pages are full, and blocks come back to them one by one. */
static void blocks_of_full_pages_are_traced_when_they_come_back(void **state) {
  (void)state;
  test_option_set("quarantine", "0");
  struct test_random random = test_random_new(1);
  enum { COUNT = 5000 };
  static void *blocks[COUNT];
  trace_on(1, 0, 0);
  for (int i = 0; i < COUNT; i++)
    blocks[i] = gyre_malloc(64);
  for (int i = 0; i < 20000; i++) {
    void **block = &blocks[test_random_below(&random, COUNT)];
    gyre_free(*block);
    *block = gyre_malloc(64);
  }
  assert_int_equal(traced_now(), COUNT * 64);
  for (int i = 0; i < COUNT; i++)
    gyre_free(blocks[i]);
  assert_int_equal(traced_now(), 0);
  gyre_trace_stop();
}

static void blocks_are_whole_again_when_it_is_off(void **state) {
  (void)state;
  enum { COUNT = 3000 };
  static void *blocks[COUNT];
  for (int round = 0; round < 5; round++) {
    if (round % 2) trace_on(1, 0, 0);
    for (int i = 0; i < COUNT; i++)
      blocks[i] = gyre_malloc(48);
    if (round % 2) gyre_trace_stop();
    test_check();
    for (int i = 0; i < COUNT; i++)
      gyre_free(blocks[i]);
    test_check();
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(it_is_off_at_first_and_says_so),
      TEST(options_that_make_no_sense_are_refused),
      TEST(a_second_start_keeps_the_first_limit),
      TEST(limits_of_1_and_65535_work),
      TEST(blocks_older_than_the_start_are_unknown),
      TEST(sizes_are_those_asked_for),
      TEST(every_way_to_allocate_is_traced),
      TEST(realloc_gives_a_block_a_new_trace),
      TEST(objects_are_traced_with_their_type),
      TEST(garbage_of_the_collector_loses_its_traces),
      TEST(only_the_domains_asked_for_are_traced),
      TEST(foreign_memory_can_be_tracked),
      TEST(the_peak_is_the_most_there_was),
      TEST(clearing_drops_all_and_goes_on),
      TEST(the_tracer_says_what_it_has),
      TEST(a_page_takes_other_blocks_later),
      TEST(blocks_of_full_pages_are_traced_when_they_come_back),
      TEST(blocks_are_whole_again_when_it_is_off),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
