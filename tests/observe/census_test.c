/* SPDX-License-Identifier: MIT */
/* The census: objects by type, and which types grow. */
#include <errno.h>

#include "tests/observe/copy.h"
#include "tests/support/puppet.h"
#include "tests/support/window.h"

static void types_are_counted_with_their_bytes(void **state) {
  (void)state;
  node *chain = chain_new(&plain_type, 1000);
  tuple *t = gyre_new_array(&tuple_type, 10), *wide = gyre_new_array(&tuple_type, 50000);
  void *leaf = gyre_new(&leaf_type);
  struct gyre_type_count counts[8];
  assert_int_equal(gyre_heap_typestats(counts, 8), 3);
  /* Types "leaf", "node", "tuple". */
  assert_ptr_equal(counts[0].type, &leaf_type);
  assert_ptr_equal(counts[1].type, &plain_type);
  assert_ptr_equal(counts[2].type, &tuple_type);
  assert_int_equal(counts[0].count, 1);
  assert_int_equal(counts[0].bytes, 24);
  assert_int_equal(counts[1].count, 1000);
  assert_int_equal(counts[1].bytes, 1000 * sizeof(node));
  assert_true(counts[1].block_bytes >= 1000 * (sizeof(node) + GYRE_HEADER_SIZE));
  assert_int_equal(counts[2].count, 2);
  assert_int_equal(counts[2].bytes, 2 * sizeof(tuple) + 50010 * sizeof(gyre_slot));
  assert_int_equal(gyre_heap_typestats(NULL, 0), 3);
  assert_int_equal(gyre_heap_count(&plain_type), 1000);
  assert_int_equal(gyre_heap_count(&node_type), 0);
  gyre_release(chain);
  gyre_release(t);
  gyre_release(wide);
  gyre_release(leaf);
  assert_int_equal(gyre_heap_typestats(NULL, 0), 0);
}

static void the_most_common_come_first(void **state) {
  (void)state;
  node *a = chain_new(&plain_type, 3), *b = chain_new(&node_type, 5);
  void *leaf = gyre_new(&leaf_type);
  struct gyre_type_count counts[2];
  assert_int_equal(gyre_heap_most_common(counts, 2), 3);
  assert_ptr_equal(counts[0].type, &node_type);
  assert_ptr_equal(counts[1].type, &plain_type);
  static struct gathered text;
  text.length = 0;
  assert_int_equal(gyre_heap_show_most_common(2, gather, &text), 0);
  assert_string_equal(text.text, "node          5            120 bytes\n"
                                 "node          3             72 bytes\n");
  gyre_release(a);
  gyre_release(b);
  gyre_release(leaf);
}

static int refuse(const char *text, size_t length, void *arg) {
  (void)text, (void)length;
  return *(int *)arg;
}

static void a_sink_may_end_the_writing(void **state) {
  (void)state;
  node *a = node_new(&plain_type, 1);
  int answer = -EPIPE;
  assert_int_equal(gyre_heap_show_most_common(0, refuse, &answer), -EPIPE);
  answer = 1;
  assert_int_equal(gyre_heap_show_most_common(0, refuse, &answer), -ECANCELED);
  assert_int_equal(gyre_heap_show_most_common(0, NULL, NULL), -EINVAL);
  gyre_release(a);
}

static void growth_is_over_the_most_there_ever_was(void **state) {
  (void)state;
  gyre_growth *growth = gyre_growth_new();
  struct gyre_type_growth grown[4];
  node *a = chain_new(&plain_type, 10), *b = chain_new(&node_type, 5);
  assert_int_equal(gyre_growth_has_grown(growth, &plain_type), 0);
  assert_int_equal(gyre_heap_growth(growth, grown, 4), 2);
  assert_ptr_equal(grown[0].type, &plain_type);
  assert_int_equal(grown[0].increase, 10);
  assert_int_equal(grown[1].increase, 5);
  assert_int_equal(gyre_heap_growth(growth, grown, 4), 0);
  assert_int_equal(gyre_growth_has_grown(growth, &plain_type), 0);
  gyre_release(a);
  a = chain_new(&plain_type, 8);
  assert_int_equal(gyre_heap_growth(growth, grown, 4), 0);
  gyre_release(a);
  a = chain_new(&plain_type, 12);
  assert_int_equal(gyre_heap_growth(growth, grown, 4), 1);
  assert_int_equal(grown[0].count, 12);
  assert_int_equal(grown[0].increase, 2);
  assert_int_equal(gyre_growth_has_grown(growth, &plain_type), 1);
  assert_int_equal(gyre_growth_has_grown(growth, &node_type), 0);
  gyre_release(a);
  a = chain_new(&plain_type, 13);
  static struct gathered text;
  text.length = 0;
  assert_int_equal(gyre_heap_show_growth(growth, 0, gather, &text), 0);
  assert_string_equal(text.text, "node         13         +1\n");
  gyre_release(a);
  gyre_release(b);
  gyre_growth_free(growth);
  gyre_growth_free(NULL);
}

static void what_was_dropped_is_gone(void **state) {
  (void)state;
  gyre_release(chain_new(&plain_type, 100000)); /* more than a release's budget */
  assert_int_equal(gyre_heap_count(&plain_type), 0);
}

static void growth_collects_first(void **state) {
  (void)state;
  gyre_growth *growth = gyre_growth_new();
  struct gyre_type_growth grown[4];
  ring_drop(&node_type, 10);
  assert_int_equal(gyre_heap_growth(growth, grown, 4), 0);
  assert_int_equal(nodes_destroyed(), 10);
  gyre_growth_free(growth);
}

static void looking_changes_no_schedule(void **state) {
  (void)state;
  node *a = chain_new(&plain_type, 3000);
  int before[GYRE_GC_NGEN], after[GYRE_GC_NGEN];
  struct gyre_gc_stats one = {.size = sizeof one}, two = {.size = sizeof two};
  gyre_safepoint();
  assert_int_equal(gyre_gc_get_count(before), 0);
  assert_int_equal(gyre_gc_get_stats(2, &one), 0);
  for (int i = 0; i < 20; i++) {
    assert_int_equal(gyre_heap_typestats(NULL, 0), 1);
    gyre_graph_free(graph_new(0));
  }
  assert_int_equal(gyre_gc_get_count(after), 0);
  assert_int_equal(gyre_gc_get_stats(2, &two), 0);
  assert_memory_equal(before, after, sizeof before);
  assert_int_equal(one.collections, two.collections);
  assert_int_equal(one.waiting_objects, two.waiting_objects);
  gyre_release(a);
}

static int looks(node *n) {
  (void)n;
  TEST_REQUIRE(gyre_heap_typestats(NULL, 0) == -EBUSY);
  TEST_REQUIRE(gyre_heap_hottest(1, NULL, 0) == -EBUSY);
  TEST_REQUIRE(gyre_heap_check_visits() == -EBUSY);
  errno = 0;
  TEST_REQUIRE(gyre_graph_new(0) == NULL && errno == EBUSY);
  return 0;
}

static void inside_a_collection_there_is_nothing_to_see(void **state) {
  (void)state;
  ring_drop(&finalized_type, 2);
  node_on_finalize = looks;
  assert_int_equal(gyre_gc_collect(2), 2);
  assert_int_equal(nodes_finalized(), 2);
}

/* ---- several threads ---- */

static void makes(void *arg) { *(node **)arg = chain_new(&plain_type, 500); }
static void drops(void *arg) { gyre_release(*(node **)arg); }

static void objects_of_all_threads_are_counted(void **state) {
  (void)state;
  enum { N = 3 };
  struct puppet puppets[N];
  node *chains[N];
  gyre_thread_attach();
  for (size_t i = 0; i < N; i++) {
    puppet_start(&puppets[i]);
    puppet_run_parked(&puppets[i], makes, &chains[i]);
  }
  assert_int_equal(gyre_heap_count(&plain_type), N * 500);
  gyre_graph *graph = graph_new(0);
  assert_int_equal(gyre_graph_nodes(graph), N * 500);
  assert_int_equal(gyre_graph_edges(graph), N * 499);
  gyre_graph_free(graph);
  puppet_run_parked(&puppets[0], drops, &chains[0]);
  puppet_stop(&puppets[1]); /* its objects stay */
  assert_int_equal(gyre_heap_count(&plain_type), (N - 1) * 500);
  gyre_release(chains[1]);
  puppet_run_parked(&puppets[2], drops, &chains[2]);
  puppet_stop(&puppets[0]);
  puppet_stop(&puppets[2]);
}

/* An array of bytes and a leaf whose blocks are of one size, 64 bytes. */
typedef struct bytes {
  uint64_t first[2];
} bytes;
static gyre_type bytes_type = {.name = "bytes", .size = sizeof(bytes), .element_size = 1};
typedef struct filled {
  unsigned char at[48];
} filled;
static gyre_type filled_type = {.name = "filled", .size = sizeof(filled)};

struct looked {
  ptrdiff_t n;
  struct gyre_type_count types[4];
};
static void *census_alone(void *arg) {
  struct looked *looked = arg;
  test_window_subject();
  looked->n = gyre_heap_typestats(looked->types, 4);
  return NULL;
}

static void an_array_that_becomes_something_else_has_no_absurd_length(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  /* Known to the library before. */
  gyre_release(gyre_new(&filled_type));
  bytes *array = gyre_new_array(&bytes_type, 20);
  struct looked census = {0};
  test_window_hold("census/length", 1);
  pthread_t thread = test_thread_start(census_alone, &census);
  test_window_await();
  test_reuse_last();
  gyre_release(array);
  filled *other = gyre_new(&filled_type);
  assert_ptr_equal(other, array);
  memset(other, 0xff, sizeof *other);
  test_window_release();
  (void)test_thread_join(thread);
  assert_int_equal(census.n, 1);
  assert_int_equal(census.types[0].count, 1);
  assert_in_range(census.types[0].bytes, 16, 64);
  gyre_release(other);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(types_are_counted_with_their_bytes),
      NODE_TEST(the_most_common_come_first),
      NODE_TEST(a_sink_may_end_the_writing),
      NODE_TEST(growth_is_over_the_most_there_ever_was),
      NODE_TEST(what_was_dropped_is_gone),
      NODE_TEST(growth_collects_first),
      NODE_TEST(looking_changes_no_schedule),
      NODE_TEST(inside_a_collection_there_is_nothing_to_see),
      NODE_TEST(objects_of_all_threads_are_counted),
      NODE_TEST(an_array_that_becomes_something_else_has_no_absurd_length),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
