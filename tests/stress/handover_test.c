/* SPDX-License-Identifier: MIT */
/* Threads that come, hand objects to each other through slots, park, and go, at random. Provokes
 * counts that are lost between owners who run, park, exit and are inherited, stray counts on reused
 * blocks, and requests that nobody serves.
 *
 * Every node carries a pattern in its tag, so that a node that was freed too early is noticed; and
 * in the end every node must have been freed once. Seeded: GYRE_TEST_SEED. The library's modes that
 * hunt bugs take turns. */
#include <stdio.h>

#include "tests/support/node.h"

enum { THREADS = 4, THREADS_MAX = 64, MEETINGS = 8, HELD = 16 };
#define PATTERN UINT64_C(0x5AFE5AFE00000000)
#define GONE UINT64_C(0xDEADDEADDEADDEAD)

typedef struct meeting {
  GYRE_SLOT(struct node) at[MEETINGS];
} meeting;
GYRE_TYPE_DEFINE(meeting_type, meeting,
                 .slots = {(const gyre_slot_info[]){{offsetof(meeting, at[0]), "0"},
                                                    {offsetof(meeting, at[1]), "1"},
                                                    {offsetof(meeting, at[2]), "2"},
                                                    {offsetof(meeting, at[3]), "3"},
                                                    {offsetof(meeting, at[4]), "4"},
                                                    {offsetof(meeting, at[5]), "5"},
                                                    {offsetof(meeting, at[6]), "6"},
                                                    {offsetof(meeting, at[7]), "7"}},
                           MEETINGS});

static meeting *place;
static gyre__atomic_u64 made;
static uint64_t steps;

static void mark_gone(node *n) {
  TEST_REQUIRE((n->tag & ~UINT64_C(0xFFFFFFFF)) == PATTERN);
  n->tag = GONE;
}

static node *make(struct test_random *random) {
  /* relaxed: a count, read when the threads have ended. */
  gyre__fetch_add_relaxed(&made, 1);
  return node_new(&node_type, PATTERN | test_random_below(random, UINT32_MAX));
}

static void look_at(const node *n) {
  if (n != NULL) TEST_REQUIRE((n->tag & ~UINT64_C(0xFFFFFFFF)) == PATTERN);
}

/* One random step with one of the thread's own references and one of the meeting places. */
static void step(struct test_random *random, node *held[HELD]) {
  node **mine = &held[test_random_below(random, HELD)];
  node *other = held[test_random_below(random, HELD)];
  uint32_t at = test_random_below(random, MEETINGS);
  node *n;
  look_at(*mine);
  switch (test_random_below(random, 12)) {
  case 0:
    gyre_store(&place->at[at], *mine);
    break;
  case 1:
    gyre_release(*mine);
    *mine = gyre_load(&place->at[at]);
    break;
  case 2:
    gyre_release(*mine);
    *mine = gyre_take(&place->at[at]);
    break;
  case 3:
    *mine = gyre_swap(&place->at[at], *mine);
    break;
  case 4:
    n = gyre_load(&place->at[at]);
    (void)gyre_compare_exchange(&place->at[at], n, *mine);
    gyre_release(n);
    break;
  case 5:
    gyre_clear(&place->at[at]);
    break;
  case 6:
    if (other != NULL) gyre_store(&other->next, *mine); /* may make a cycle */
    break;
  case 7:
    if (other != NULL) {
      n = gyre_load(&other->next);
      gyre_release(*mine);
      *mine = n;
    }
    break;
  case 8:
    if (other != NULL && *mine != NULL) gyre_release(gyre_swap(&other->other, gyre_retain(*mine)));
    break;
  case 9:
    gyre_release(*mine);
    *mine = make(random);
    break;
  case 10:
    GYRE_BLOCKING {
      if (test_random_below(random, 4) == 0) (void)sched_yield();
    }
    break;
  default:
    gyre_safepoint();
    if (test_random_below(random, 200) == 0)
      TEST_REQUIRE(gyre_gc_collect((int)test_random_below(random, 3)) >= 0);
    break;
  }
}

static void *meets(void *arg) {
  struct test_random random = test_random_new((uintptr_t)arg);
  node *held[HELD] = {NULL};
  uint32_t mine = (uint32_t)steps / 2 + test_random_below(&random, (uint32_t)steps);
  for (uint32_t i = 0; i < mine; i++)
    step(&random, held);
  for (unsigned i = 0; i < HELD; i++) {
    look_at(held[i]);
    gyre_release(held[i]);
  }
  return NULL;
}

/* With so many threads at once, who make as many steps in all as others would. `part` of all that. */
static void hand_over(unsigned count, unsigned part) {
  uint64_t rounds = test_size("GYRE_TEST_ROUNDS", 200, 60, 40);
  steps = test_size("GYRE_TEST_STEPS", 30000, 10000, 5000) / part;
  if (count > THREADS) steps = steps * (THREADS + rounds) / (count + rounds);
  node_on_destroy = mark_gone;
  /* relaxed: no other thread is there yet; pairs with make(). */
  gyre__store_relaxed(&made, 0);
  place = gyre_new(&meeting_type);
  TEST_REQUIRE(place != NULL);
  pthread_t threads[THREADS_MAX];
  uint64_t stream = 1;
  for (uintptr_t t = 0; t < count; t++)
    threads[t] = test_thread_start(meets, (void *)stream++);
  for (uint64_t i = 0; i < rounds; i++) {
    /* One ends, and another comes: mostly its heir. */
    test_thread_join(threads[i % count]);
    if (i % 8 == 0) test_check();
    threads[i % count] = test_thread_start(meets, (void *)stream++);
  }
  for (unsigned t = 0; t < count; t++)
    test_thread_join(threads[t]);
  /* From here on nobody else collects. */
  test_option_set("collect_always", "0");
  test_option_set("gc", "0");
  gyre_service_stop();
  gyre_release(place);
  while (gyre_gc_collect(2) > 0) {
  }
  test_check();
  /* relaxed: the threads have been joined; pairs with make(). */
  assert_int_equal(nodes_destroyed(), gyre__load_relaxed(&made));
}

static void every_node_dies_once_whoever_had_it(void **state) {
  (void)state;
  hand_over(THREADS, 1);
}

static void with_2_threads(void **state) {
  (void)state;
  hand_over(2, 2);
}
static void with_8_threads(void **state) {
  (void)state;
  hand_over(8, 2);
}
static void with_64_threads(void **state) {
  (void)state;
  hand_over(64, 2);
}
static void with_8_threads_and_many_collections(void **state) {
  (void)state;
  hand_over(8, 8);
}
static void with_64_threads_and_many_collections(void **state) {
  (void)state;
  hand_over(64, 16);
}

static void with_seeded_yields(void **state) {
  char seed[24];
  snprintf(seed, sizeof seed, "%llu", (unsigned long long)(test_seed() | 1));
  test_option_set("yield_seed", seed);
  every_node_dies_once_whoever_had_it(state);
}

#define CONCURRENT "gc:1,gc_mode:concurrent,gc_threshold:200/3/3"
#define STW "gc:1,gc_mode:stw,gc_threshold:200/3/3"
#define CONTINUOUS "gc:1,gc_mode:concurrent,collect_always:3"

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST_WITH(every_node_dies_once_whoever_had_it, "gc:1"),
      NODE_TEST_WITH(with_seeded_yields, "gc:1,poison:1"),
      {"with_a_collection_at_every_safepoint", every_node_dies_once_whoever_had_it, nodes_begin,
       test_end, (void *)(uintptr_t) "gc:1,collect_always:1"},
      {"with_releases_cut_off_after_each_object", every_node_dies_once_whoever_had_it, nodes_begin,
       test_end, (void *)(uintptr_t) "gc:1,release_budget:1,gc_threshold:50/2/2"},
      NODE_TEST_WITH(with_2_threads, CONCURRENT),
      NODE_TEST_WITH(with_8_threads, CONCURRENT),
      NODE_TEST_WITH(with_64_threads, CONCURRENT),
      NODE_TEST_WITH(with_2_threads, STW),
      NODE_TEST_WITH(with_8_threads, STW),
      NODE_TEST_WITH(with_64_threads, STW),
      NODE_TEST_WITH(with_2_threads, CONTINUOUS),
      NODE_TEST_WITH(with_8_threads_and_many_collections, CONTINUOUS),
      NODE_TEST_WITH(with_64_threads_and_many_collections, CONTINUOUS),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
