/* SPDX-License-Identifier: MIT */
/* All figures in one struct: that they are those of the rooms, that all are described, and what the
 * writers make of them. `--print FORMAT` prints them, for stats_formats_test. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <gyre/stats.h>

#include "tests/support/node.h"
#include "tests/support/puppet.h"

static struct gyre_stats stats_now(void) {
  struct gyre_stats s = {.size = sizeof s};
  assert_int_equal(gyre_stats_get(&s), 0);
  return s;
}

/* ---- what they are ---- */

static void figures_are_those_of_the_rooms(void **state) {
  (void)state;
  struct puppet p;
  puppet_start(&p);
  await_parked(1);
  ring_drop(&finalized_type, 10);
  assert_int_equal(gyre_gc_collect(2), 10);
  node *n = node_new(&plain_type, 1);
  gyre_weak *weak = gyre_weak_new(n, NULL, NULL);
  gyre_heap_set_limit((size_t)1 << 40);
  void *large = gyre_malloc(1000000);
  struct gyre_stats s = stats_now();
  struct gyre_heap_stats heap = {.size = sizeof heap};
  struct gyre_thread_stats threads = {.size = sizeof threads};
  struct gyre_gc_stats gc = {.size = sizeof gc};
  assert_int_equal(gyre_heap_get_stats(&heap), 0);
  assert_int_equal(gyre_thread_get_stats(&threads), 0);
  assert_int_equal(gyre_gc_get_stats(2, &gc), 0);
  assert_int_equal(s.threads_attached, threads.attached);
  assert_int_equal(s.threads_parked, threads.parked);
  assert_true(s.threads_parked >= 1);
  assert_int_equal(s.threads_slots, threads.slots_high_water);
  assert_int_equal(s.heap_mapped_bytes, heap.mapped_bytes);
  assert_int_equal(s.heap_live_blocks, heap.live_blocks);
  assert_int_equal(s.heap_live_bytes, heap.live_bytes);
  assert_int_equal(s.heap_large_bytes, heap.large_bytes);
  assert_int_equal(s.heap_limit_bytes, (uint64_t)1 << 40);
  assert_int_equal(s.gc_collections[2], gc.collections);
  assert_int_equal(s.gc_collected[2], gc.collected);
  assert_int_equal(s.gc_finalized[2], gc.finalized);
  assert_int_equal(s.gc_duration_ns[2], gc.duration_ns);
  assert_int_equal(s.gc_pause_ns[2], gc.pause_total_ns);
  assert_int_equal(s.gc_enabled, 0);
  assert_int_equal(s.gc_concurrent, gyre_gc_get_mode() == GYRE_GC_CONCURRENT);
  assert_int_equal(s.weak_referents, 1);
  assert_int_equal(gyre_live_blocks(), s.heap_live_blocks);
  gyre_heap_set_limit(0);
  gyre_free(large);
  gyre_weak_free(weak);
  gyre_release(n);
  puppet_stop(&p);
}

/* ---- that all are described ---- */

struct described {
  size_t figures;
  const uint64_t *next;
  const char *names[200];
};

static int look_at(const struct gyre_figure *figure, void *arg) {
  struct described *d = (struct described *)arg;
  size_t length = strlen(figure->name);
  assert_true(length > 3 && strlen(figure->help) > 3);
  for (const char *c = figure->name; *c != 0; c++)
    assert_true((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') || *c == '_');
  /* Nothing that a writer would have to escape, nor an end that it adds itself. */
  assert_null(strpbrk(figure->help, "\"\\\n"));
  assert_int_not_equal(figure->help[strlen(figure->help) - 1], '.');
  bool is_ns = strcmp(figure->name + length - 3, "_ns") == 0;
  bool is_bytes = length > 6 && strcmp(figure->name + length - 6, "_bytes") == 0;
  assert_int_equal(is_ns, figure->unit == GYRE_STATS_NANOSECONDS);
  assert_int_equal(is_bytes, figure->unit == GYRE_STATS_BYTES);
  assert_null(strstr(figure->name, "total"));
  assert_true(figure->count == 1 || figure->count == GYRE_GC_NGEN);
  /* One after the other, without a gap. */
  assert_ptr_equal(figure->values, d->next);
  d->next = figure->values + figure->count;
  for (size_t i = 0; i < d->figures; i++)
    assert_string_not_equal(d->names[i], figure->name);
  d->names[d->figures++] = figure->name;
  return 0;
}

/* The struct of a caller that knows some of them. */
static void an_older_caller_gets_what_it_knows(void **state) {
  (void)state;
  struct {
    size_t size;
    uint64_t attached, unknown;
  } old = {.size = 2 * sizeof(uint64_t), .unknown = 77};
  assert_non_null(gyre_thread_attach());
  assert_int_equal(gyre_stats_get((struct gyre_stats *)(void *)&old), 0);
  assert_true(old.attached >= 1);
  assert_int_equal(old.unknown, 77);
  assert_int_equal(old.size, 2 * sizeof(uint64_t));
  /* And it is not asked about more. */
  struct described d = {.next = &old.attached};
  assert_int_equal(gyre_stats_list((struct gyre_stats *)(void *)&old, look_at, &d), 0);
  assert_int_equal(d.figures, 1);
  assert_string_equal(d.names[0], "threads_attached");
  assert_int_equal(gyre_stats_get(NULL), -EINVAL);
  old.size = 0;
  assert_int_equal(gyre_stats_get((struct gyre_stats *)(void *)&old), -EINVAL);
}

static void every_figure_is_described(void **state) {
  (void)state;
  struct gyre_stats s = stats_now();
  struct described d = {.next = (const uint64_t *)(const void *)(&s.size + 1)};
  assert_int_equal(gyre_stats_list(&s, look_at, &d), 0);
  assert_ptr_equal(d.next, &s + 1);
  assert_true(d.figures >= 44);
  assert_int_equal(gyre_stats_list(NULL, look_at, &d), -EINVAL);
  assert_int_equal(gyre_stats_list(&s, NULL, &d), -EINVAL);
}

static void asking_attaches_nobody(void **state) {
  (void)state;
  gyre_thread_detach();
  size_t attached = test_thread_stats().attached;
  struct gyre_stats s = stats_now();
  assert_int_equal(s.threads_attached, attached);
  (void)gyre_live_blocks();
  assert_null(gyre_thread_current());
}

/* ---- the document ---- */

static char rows[20000];

static int row(const struct gyre_figure *figure, void *arg) {
  static const char *const units[] = {"", "bytes", "ns", "blocks", "objects", "threads", "slots"};
  (void)arg;
  size_t at = strlen(rows);
  int n = snprintf(rows + at, sizeof rows - at, "| `%s` | %s | %s | %s |\n", figure->name,
                   figure->kind == GYRE_STATS_COUNTER ? "counter" : "gauge", units[figure->unit],
                   figure->help);
  return n < 0 || (size_t)n >= sizeof rows - at;
}

static void the_document_has_all_figures_as_they_are(void **state) {
  (void)state;
  static char text[40000];
  FILE *file = fopen("lib/docs/statistics.md", "r");
  assert_non_null(file);
  text[fread(text, 1, sizeof text - 1, file)] = 0;
  (void)fclose(file);
  struct gyre_stats s = stats_now();
  rows[0] = 0;
  assert_int_equal(gyre_stats_list(&s, row, NULL), 0);
  if (strstr(text, rows) == NULL) print_error("lib/docs/statistics.md should have:\n%s", rows);
  assert_non_null(strstr(text, rows));
}

/* ---- sinks ---- */

struct text {
  char text[40000];
  size_t length;
  int pieces, stop_after, answer;
};

static int keep(const char *piece, size_t length, void *arg) {
  struct text *t = (struct text *)arg;
  /* No lock is held: this may ask anything. */
  TEST_REQUIRE(gyre_live_blocks() != SIZE_MAX);
  TEST_REQUIRE(t->length + length < sizeof t->text);
  TEST_REQUIRE(memchr(piece, 0, length) == NULL);
  memcpy(t->text + t->length, piece, length);
  t->length += length;
  t->text[t->length] = 0;
  return ++t->pieces == t->stop_after ? t->answer : 0;
}

static void a_sink_may_stop_the_writing(void **state) {
  (void)state;
  static struct text t;
  for (int format = GYRE_STATS_TEXT; format <= GYRE_STATS_OPENMETRICS; format++) {
    t = (struct text){.stop_after = -1};
    assert_int_equal(gyre_stats_print(keep, &t, (enum gyre_stats_format)format), 0);
    int all = t.pieces;
    assert_true(all > 40);
    for (int n = 1; n <= all; n += all / 7) {
      t = (struct text){.stop_after = n, .answer = -EPIPE};
      assert_int_equal(gyre_stats_print(keep, &t, (enum gyre_stats_format)format), -EPIPE);
      assert_int_equal(t.pieces, n);
    }
    t = (struct text){.stop_after = 3, .answer = 1};
    assert_int_equal(gyre_stats_print(keep, &t, (enum gyre_stats_format)format), -ECANCELED);
    assert_int_equal(t.pieces, 3);
  }
  assert_int_equal(gyre_stats_print(NULL, NULL, GYRE_STATS_TEXT), -EINVAL);
  assert_int_equal(gyre_stats_print(keep, &t, (enum gyre_stats_format)3), -EINVAL);
  assert_int_equal(gyre_malloc_stats_print(NULL, NULL, GYRE_STATS_TEXT), -EINVAL);
}

static void the_heaps_own_text_has_the_heap_and_its_classes(void **state) {
  (void)state;
  void *blocks[100];
  for (int i = 0; i < 100; i++)
    blocks[i] = gyre_malloc(3000);
  static struct text t;
  t = (struct text){.stop_after = -1};
  assert_int_equal(gyre_malloc_stats_print(keep, &t, GYRE_STATS_TEXT), 0);
  assert_non_null(strstr(t.text, "heap_live_blocks"));
  assert_null(strstr(t.text, "gc_"));
  assert_null(strstr(t.text, "threads_"));
  assert_non_null(strstr(t.text, "\nraw          3072 "));
  for (int i = 0; i < 100; i++)
    gyre_free(blocks[i]);
}

/* ---- beside threads that are at it ---- */

static test_flag done;

static void *churn(void *arg) {
  (void)arg;
  while (!test_flag_get(&done)) {
    ring_drop(&plain_type, 5);
    void *block = gyre_malloc(500);
    gyre_free(block);
    gyre_safepoint();
  }
  return NULL;
}

static void figures_may_be_had_while_threads_run(void **state) {
  (void)state;
  enum { THREADS = 8 };
  pthread_t threads[THREADS];
  test_flag_set(&done, 0);
  assert_int_equal(gyre_option_set("gc", "1"), 0);
  for (int i = 0; i < THREADS; i++)
    threads[i] = test_thread_start(churn, NULL);
  static struct text t;
  struct gyre_stats last = stats_now();
  for (uint64_t i = test_size("GYRE_TEST_STATS", 300, 30, 20); i > 0; i--) {
    struct gyre_stats s = stats_now();
    for (int g = 0; g < GYRE_GC_NGEN; g++)
      assert_true(s.gc_collected[g] >= last.gc_collected[g]);
    assert_true(s.heap_live_blocks < 1000000);
    last = s;
    t = (struct text){.stop_after = -1};
    assert_int_equal(gyre_stats_print(keep, &t, (enum gyre_stats_format)(i % 3)), 0);
    gyre_safepoint();
  }
  test_flag_set(&done, 1);
  for (int i = 0; i < THREADS; i++)
    (void)test_thread_join(threads[i]);
}

/* ---- printing ---- */

static int to_stdout(const char *piece, size_t length, void *arg) {
  (void)arg;
  return fwrite(piece, 1, length, stdout) == length ? 0 : -EIO;
}

static int print(const char *format) {
  ring_drop(&plain_type, 1000);
  (void)gyre_gc_collect(2);
  (void)gyre_gc_collect(0);
  node *n = node_new(&leaf_type, 3);
  void *block = gyre_malloc(40);
  bool heap_only = strncmp(format, "heap-", 5) == 0;
  if (heap_only) format += 5;
  enum gyre_stats_format f = strcmp(format, "text") == 0   ? GYRE_STATS_TEXT
                             : strcmp(format, "json") == 0 ? GYRE_STATS_JSON
                                                           : GYRE_STATS_OPENMETRICS;
  int result = 0;
  if (strcmp(format, "table") == 0) {
    struct gyre_stats s = {.size = sizeof s};
    result = gyre_stats_get(&s) != 0 || gyre_stats_list(&s, row, NULL) != 0;
    fputs(rows, stdout);
  } else if (strcmp(format, "nothing") != 0)
    result = heap_only ? gyre_malloc_stats_print(to_stdout, NULL, f)
                       : gyre_stats_print(to_stdout, NULL, f);
  gyre_free(block);
  gyre_release(n);
  return result != 0;
}

int main(int argc, char **argv) {
  if (argc > 2 && strcmp(argv[1], "--print") == 0) return print(argv[2]);
  const struct CMUnitTest tests[] = {
      NODE_TEST(figures_are_those_of_the_rooms),
      TEST(an_older_caller_gets_what_it_knows),
      TEST(every_figure_is_described),
      TEST(asking_attaches_nobody),
      TEST(the_document_has_all_figures_as_they_are),
      TEST(a_sink_may_stop_the_writing),
      TEST(the_heaps_own_text_has_the_heap_and_its_classes),
      NODE_TEST(figures_may_be_had_while_threads_run),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
