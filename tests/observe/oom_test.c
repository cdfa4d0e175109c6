/* SPDX-License-Identifier: MIT */
/* Each allocation of a look made to fail in turn: it says ENOMEM, leaves nothing, and can be tried again. */
#include <errno.h>

#include "lib/base/check.h"
#include "tests/observe/copy.h"

#ifdef GYRE_WINDOWS
#define NEEDS_FAULTS() ((void)0)
#else
#define NEEDS_FAULTS() skip()
#endif

static node *first;
static gyre_graph *graph;
static gyre_growth *growth;

typedef ptrdiff_t look_fn(void);

/* The function with its first allocation failing, its second, and so on, until none is asked for. */
static void fail_each(look_fn *look) {
  for (uint64_t nth = 1;; nth++) {
    gyre__fault_arm(nth, 0);
    ptrdiff_t result = look();
    bool failed = gyre__fault_count() >= nth;
    gyre__fault_arm(0, 0);
    if (!failed) {
      assert_true(result >= 0);
      assert_true(nth > 1);
      return;
    }
    /* An allocation that can be done without, or tried again in smaller steps, may fail unseen. */
    if (result < 0) assert_int_equal(result, -ENOMEM);
    assert_true(look() >= 0);
  }
}

static ptrdiff_t graph_make(unsigned flags) {
  errno = 0;
  gyre_graph *made = gyre_graph_new(flags);
  if (made == NULL) return -errno;
  TEST_REQUIRE(gyre_graph_nodes(made) == 300);
  gyre_graph_free(made);
  return 0;
}
static ptrdiff_t graph_beside(void) { return graph_make(0); }
static ptrdiff_t graph_exact(void) { return graph_make(GYRE_GRAPH_EXACT | GYRE_GRAPH_RETAIN); }
static ptrdiff_t graph_held(void) { return graph_make(GYRE_GRAPH_RETAIN); }

static ptrdiff_t typestats(void) { return gyre_heap_typestats(NULL, 0); }
static ptrdiff_t grows(void) { return gyre_heap_growth(growth, NULL, 0); }
static ptrdiff_t hottest(void) { return gyre_heap_hottest(2, NULL, 0); }
static ptrdiff_t visits(void) { return gyre_heap_check_visits(); }

static ptrdiff_t growth_make(void) {
  errno = 0;
  gyre_growth *made = gyre_growth_new();
  if (made == NULL) return -errno;
  gyre_growth_free(made);
  return 0;
}

/* Of a graph that has answered nothing yet. */
static ptrdiff_t ask(look_fn *question) {
  ptrdiff_t result = question();
  /* What it has made for its answers goes, so that the next attempt makes it anew. */
  if (result >= 0) {
    gyre_graph_free(graph);
    graph = graph_new(0);
  }
  return result;
}
static ptrdiff_t leaking(void) { return gyre_graph_leaking(graph, NULL, 0); }
static ptrdiff_t verdict(void) { return gyre_graph_verdict(graph, 0, NULL, NULL); }
static ptrdiff_t retains(void) { return gyre_graph_retained(graph, 0, NULL, NULL); }
static ptrdiff_t chain(void) {
  return gyre_graph_backref_chain(graph, 299, gyre_graph_is_root, NULL, 1000, NULL, 0);
}
static ptrdiff_t groups(void) {
  return gyre_graph_partition(graph, GYRE_BY_REFERRERS, NULL, NULL, 0);
}
static ptrdiff_t verdicts(void) {
  return gyre_graph_partition(graph, GYRE_BY_VERDICT, NULL, NULL, 0);
}
static struct gathered text;
static ptrdiff_t draws(void) {
  size_t seed = node_at(graph, first);
  struct gyre_picture picture = {.size = sizeof picture, .max_depth = 40};
  text.length = 0;
  return gyre_graph_write(graph, &seed, 1, &picture, GYRE_PICTURE_HTML, gather, &text);
}
static ptrdiff_t names(void) {
  int result = gyre_graph_name_root(graph, 0, "root");
  if (result == 0) (void)gyre_graph_name_root(graph, 0, NULL);
  return result;
}

/* The question with each allocation failing; making a new graph does not count. */
static void fail_each_of(look_fn *question) {
  for (uint64_t nth = 1;; nth++) {
    gyre__fault_arm(nth, 0);
    ptrdiff_t result = question();
    bool failed = gyre__fault_count() >= nth;
    gyre__fault_arm(0, 0);
    if (failed && result < 0) assert_int_equal(result, -ENOMEM);
    assert_true(ask(question) >= 0);
    if (failed) continue;
    assert_true(nth > 1);
    return;
  }
}

static void looks_fail_whole(void **state) {
  (void)state;
  NEEDS_FAULTS();
  first = chain_new(&plain_type, 300);
  growth = gyre_growth_new();
  fail_each(graph_beside);
  fail_each(graph_exact);
  fail_each(graph_held);
  fail_each(typestats);
  fail_each(grows);
  fail_each(hottest);
  fail_each(visits);
  fail_each(growth_make);
  assert_int_equal(gyre_refcount(first), 1);
  gyre_growth_free(growth);
  gyre_release(first);
}

static void questions_fail_whole(void **state) {
  (void)state;
  NEEDS_FAULTS();
  first = chain_new(&plain_type, 300);
  graph = graph_new(0);
  fail_each_of(leaking);
  fail_each_of(verdict);
  fail_each_of(retains);
  fail_each_of(chain);
  fail_each_of(groups);
  fail_each_of(verdicts);
  fail_each_of(draws);
  fail_each_of(names);
  gyre_graph_free(graph);
  gyre_release(first);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(looks_fail_whole),
      NODE_TEST(questions_fail_whole),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
