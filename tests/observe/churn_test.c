/* SPDX-License-Identifier: MIT */
/* Threads make, link, move and drop objects of all kinds, and pass safepoints, while others take the census and
 * copy the heap. Whatever a copy says of objects that it does not call changed has to hold. To be provoked: blocks
 * that are used again in the middle of a copy, references that move from what has been read to what will be, counts
 * that come too late, young collections at every point. */
#include <errno.h>

#include "tests/observe/copy.h"

enum { THREADS = 3, PLACES = 500 };

static tuple *table; /* of PLACES nodes */
static test_flag stop;
/* The threads do so much for each look, so that the heap does not outgrow the looks. */
#define ACTS 2000u
static test_flag round_begun;
/* Objects that nobody touches, held by main. */
enum { STILL = 3000 };
static node *still[STILL];

static void act(struct test_random *random, node **own) {
  uint32_t at = test_random_below(random, PLACES);
  uint32_t i = test_random_below(random, 8);
  switch (test_random_below(random, 6)) {
  case 0: { /* another object of my own */
    gyre_type *types[] = {&plain_type, &node_type, &finalized_type};
    node *n = node_new(types[test_random_below(random, 3)], at);
    gyre_slot_init(&n->next, own[i]);
    /* No chain grows for ever. */
    if (own[i] != NULL && test_random_below(random, 4) == 0) gyre_clear(&own[i]->next);
    own[i] = n;
    break;
  }
  case 1:
    gyre_store(&table->items[at], own[i]);
    break;
  case 2: {
    node *n = gyre_load(&table->items[at]);
    gyre_release(own[i]);
    own[i] = n;
    break;
  }
  case 3: { /* moved from place to place */
    node *n = gyre_take(&table->items[at]);
    n = gyre_swap(&table->items[(at + 7) % PLACES], n);
    gyre_release(n);
    break;
  }
  case 4: /* a cycle */
    if (own[i] != NULL) gyre_store(&own[i]->other, own[i]);
    gyre_release(own[i]);
    own[i] = NULL;
    break;
  default: {
    void *leaf = gyre_new(&leaf_type);
    gyre_release(gyre_retain(leaf));
    gyre_release(leaf);
  }
  }
}

static void *churns(void *arg) {
  struct test_random random = test_random_new(10 + (uint64_t)(uintptr_t)arg);
  node *own[8] = {0};
  gyre_thread_attach();
  for (uint32_t acts = 0; !test_flag_get(&stop);) {
    for (int i = 0; i < 20 && acts < ACTS * test_flag_get(&round_begun); i++, acts++)
      act(&random, own);
    if (test_random_below(&random, 8) == 0)
      gyre__young_collect((struct gyre__objects *)gyre__thread_self(), true);
    gyre_safepoint();
    if (acts >= ACTS * test_flag_get(&round_begun)) (void)sched_yield();
  }
  for (int i = 0; i < 8; i++)
    gyre_release(own[i]);
  return NULL;
}

static void check_node(gyre_graph *graph, size_t at) {
  struct gyre_node info = {.size = sizeof info};
  TEST_REQUIRE(gyre_graph_node(graph, at, &info) == 0);
  TEST_REQUIRE(info.type == &plain_type || info.type == &node_type ||
               info.type == &finalized_type || info.type == &leaf_type || info.type == &tuple_type);
  TEST_REQUIRE(gyre_graph_at(graph, info.address) == (ptrdiff_t)at);
  if (info.flags & (GYRE_NODE_CHANGED | GYRE_NODE_DEAD)) return;
  TEST_REQUIRE(info.count >= (ptrdiff_t)info.referrers);
  TEST_REQUIRE(!(info.flags & (GYRE_NODE_NEW | GYRE_NODE_PARTIAL)));
}

static void check_graph(gyre_graph *graph) {
  size_t nodes = gyre_graph_nodes(graph);
  for (size_t i = 0; i < nodes; i++) {
    check_node(graph, i);
    gyre_safepoint();
  }
  /* What stands still is as it is. */
  for (size_t i = 0; i < STILL; i++) {
    struct gyre_node info = node_info(graph, still[i]);
    TEST_REQUIRE(info.count == 1 + (i > 0));
    TEST_REQUIRE(!(info.flags & GYRE_NODE_DEAD));
    if (info.flags & GYRE_NODE_CHANGED) continue; /* a look of its owner's */
    TEST_REQUIRE(info.referrers == (i > 0));
  }
}

/* What the copy holds is alive, and what it says. */
static void check_retained(gyre_graph *graph) {
  size_t nodes = gyre_graph_nodes(graph);
  for (size_t i = 0; i < nodes; i++) {
    void *object = gyre_graph_retain(graph, i);
    if (object == NULL) {
      TEST_REQUIRE(errno == ESRCH);
      continue;
    }
    struct gyre_node info = {.size = sizeof info};
    TEST_REQUIRE(gyre_graph_node(graph, i, &info) == 0);
    TEST_REQUIRE(gyre_type_of(object) == info.type);
    /* Its owner may just be joining its count with ours, and then there seem to be fewer. */
    TEST_AWAIT_SAFELY(gyre_refcount(object) >= 2);
    gyre_release(object);
  }
}

static void threads_begin(pthread_t threads[THREADS]) {
  test_flag_set(&stop, 0);
  test_flag_set(&round_begun, 0);
  table = gyre_new_array(&tuple_type, PLACES);
  for (size_t i = 0; i < STILL; i++) {
    still[i] = node_new(&plain_type, i);
    if (i > 0) gyre_store(&still[i - 1]->next, still[i]);
  }
  for (uintptr_t i = 0; i < THREADS; i++)
    threads[i] = test_thread_start(churns, (void *)i);
}

static void threads_end(pthread_t threads[THREADS]) {
  test_flag_set(&stop, 1);
  for (size_t i = 0; i < THREADS; i++)
    test_thread_join(threads[i]);
  for (size_t i = STILL; i > 0; i--)
    gyre_release(still[i - 1]);
  gyre_release(table);
  (void)gyre_gc_collect(2);
}

static void copies_are_true_while_threads_run(void **state) {
  (void)state;
  pthread_t threads[THREADS];
  threads_begin(threads);
  uint64_t rounds = test_size("GYRE_TEST_ROUNDS", 200, 80, 25);
  for (uint64_t i = 0; i < rounds; i++) {
    test_flag_add(&round_begun, 1);
    gyre_graph *graph = graph_new(i % 8 == 0 ? (unsigned)GYRE_GRAPH_EXACT : 0);
    check_graph(graph);
    gyre_graph_free(graph);
    if (i % 16 == 0) (void)gyre_gc_collect(2);
    gyre_safepoint();
  }
  threads_end(threads);
}

static void what_copies_retain_is_alive(void **state) {
  (void)state;
  pthread_t threads[THREADS];
  threads_begin(threads);
  uint64_t rounds = test_size("GYRE_TEST_ROUNDS", 200, 80, 25);
  for (uint64_t i = 0; i < rounds; i++) {
    test_flag_add(&round_begun, 1);
    gyre_graph *graph =
        graph_new(GYRE_GRAPH_RETAIN | (i % 4 == 0 ? (unsigned)GYRE_GRAPH_EXACT : 0));
    check_retained(graph);
    gyre_graph_free(graph);
    if (i % 16 == 0) (void)gyre_gc_collect(2);
    gyre_safepoint();
  }
  threads_end(threads);
}

static void *looks_too(void *arg) {
  gyre_thread_attach();
  while (!test_flag_get(&stop)) {
    struct gyre_type_count counts[8];
    ptrdiff_t n = gyre_heap_typestats(counts, 8);
    TEST_REQUIRE(n >= 2 && n <= 8);
    for (ptrdiff_t i = 0; i < n; i++)
      if (counts[i].type == &tuple_type) TEST_REQUIRE(counts[i].count == 1);
    TEST_REQUIRE(gyre_heap_count(&plain_type) >= STILL);
    TEST_REQUIRE(gyre_heap_hottest(3, NULL, 0) >= 0);
    TEST_REQUIRE(gyre_heap_check_visits() == 0);
    gyre_safepoint();
  }
  return arg;
}

static void looks_at_once(void **state) {
  (void)state;
  pthread_t threads[THREADS];
  threads_begin(threads);
  pthread_t looker = test_thread_start(looks_too, NULL);
  uint64_t rounds = test_size("GYRE_TEST_ROUNDS", 100, 40, 15);
  for (uint64_t i = 0; i < rounds; i++) {
    test_flag_add(&round_begun, 1);
    gyre_graph *graph = graph_new(0);
    check_graph(graph);
    gyre_graph_free(graph);
    (void)gyre_gc_collect((int)(i % 3));
  }
  test_flag_set(&stop, 1);
  test_thread_join(looker);
  threads_end(threads);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST_WITH(copies_are_true_while_threads_run, "gc:0,yield_seed:7"),
      NODE_TEST_WITH(what_copies_retain_is_alive, "gc:0,yield_seed:7"),
      NODE_TEST_WITH(looks_at_once, "gc:0,yield_seed:7"),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
