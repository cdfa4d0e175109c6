/* SPDX-License-Identifier: MIT */
/* What other tests show with one thread, by eight at once: cycles of every shape, finalizers that bring back,
 * nested collections and those of several threads, locks that finalizers want, a large structure that is built.
 * Provokes: counts, finalizers and callbacks that are lost or come twice when threads do the same at the same
 * time; threads that wait for each other for ever. */
#include "tests/support/node.h"

#define THREADS 8

static void by_eight(void *(*body)(void *)) {
  pthread_t threads[THREADS];
  for (uintptr_t i = 0; i < THREADS; i++)
    threads[i] = test_thread_start(body, (void *)i);
  for (int i = 0; i < THREADS; i++)
    test_thread_join(threads[i]);
}

static uint64_t rounds(void) { return test_size("GYRE_TEST_OPS", 400, 150, 50); }

static gyre__atomic_u64 sum;

static void add(ptrdiff_t n) {
  TEST_REQUIRE(n >= 0);
  /* relaxed: a sum. */
  gyre__fetch_add_relaxed(&sum, (uint64_t)n);
}

static int eight_begin(void **state) {
  /* relaxed: no other thread. */
  gyre__store_relaxed(&sum, 0);
  return nodes_begin(state);
}
#define EIGHT_TEST(name, options)                                                                  \
  { #name, name, eight_begin, test_end, (void *)(uintptr_t)(options) }

/* relaxed: the threads are gone. */
#define SUM gyre__load_relaxed(&sum)

/* ---- shapes ---- */

static node *held[THREADS];

/* To itself, two, a ring with a tail, a ring that the thread's root holds. */
static void *makes_shapes(void *number) {
  uintptr_t me = (uintptr_t)number;
  for (uint64_t i = rounds(); i > 0; i--) {
    ring_drop(&node_type, 1);
    ring_drop(&node_type, 2);
    node *ring = ring_new(&node_type, 3);
    gyre_slot_init(&ring->other, chain_new(&node_type, 2));
    gyre_release(ring);
    ring = ring_new(&node_type, 4);
    if (held[me] != NULL) gyre_slot_init(&ring->other, held[me]);
    held[me] = ring;
    if (i % 16 == 0) gyre_safepoint();
  }
  return NULL;
}

static void cycles_of_every_shape_are_found(void **state) {
  (void)state;
  by_eight(makes_shapes);
  uint64_t dead = THREADS * rounds() * (1 + 2 + 3 + 2), live = THREADS * rounds() * 4;
  assert_int_equal(gyre_gc_collect(2), dead);
  assert_int_equal(nodes_destroyed(), dead);
  assert_int_equal(gyre_gc_collect(2), 0);
  for (int i = 0; i < THREADS; i++) {
    gyre_release(held[i]);
    held[i] = NULL;
  }
  assert_int_equal(gyre_gc_collect(2), live);
  assert_int_equal(nodes_destroyed(), dead + live);
}

/* ---- resurrection ---- */

/* Of each thread: pairs that refer to each other, and single nodes; of each kind, those with an even number
 * are brought back by the finalizer of their first node. */
enum { PAIRS = 40, SINGLES = 40, MINE = PAIRS + SINGLES };
#define FIRST ((uint64_t)1 << 32)
static node *saved[THREADS * MINE];
static gyre_weak *weaks[THREADS * MINE];
static gyre__atomic_u32 called[THREADS * MINE];

static int saves(node *n) {
  if (!(n->tag & FIRST)) return 0;
  uint64_t at = n->tag & ~FIRST;
  TEST_REQUIRE(saved[at] == NULL && !gyre_weak_is_dead(weaks[at]));
  if (at % 2 == 0) saved[at] = gyre_retain(n);
  return 0;
}

static void notes_call(gyre_weak *weak, void *arg) {
  TEST_REQUIRE(gyre_weak_is_dead(weak) && gyre_weak_get(weak) == NULL);
  /* relaxed: a count. */
  gyre__fetch_add_relaxed((gyre__atomic_u32 *)arg, 1);
}

static uint32_t calls_of(uint64_t at) {
  /* relaxed: read when the threads are gone. */
  return gyre__load_relaxed(&called[at]);
}

static void *makes_what_is_saved(void *number) {
  uint64_t from = (uint64_t)(uintptr_t)number * MINE;
  for (uint64_t at = from; at < from + MINE; at++) {
    bool pair = at < from + PAIRS;
    node *n = pair ? ring_new(&finalized_type, 2) : node_new(&finalized_type, 0);
    n->tag = FIRST | at;
    weaks[at] = gyre_weak_new(n, notes_call, &called[at]);
    TEST_REQUIRE(weaks[at] != NULL);
    gyre_release(n);
    if (at % 8 == 0) add(gyre_gc_collect((int)(at % 3)));
  }
  add(gyre_gc_collect(2));
  return NULL;
}

static void *drops_what_was_saved(void *number) {
  uint64_t from = (uint64_t)(uintptr_t)number * MINE;
  for (uint64_t at = from; at < from + MINE; at++) {
    gyre_release(saved[at]);
    saved[at] = NULL;
    if (at % 8 == 0) add(gyre_gc_collect((int)(at % 3)));
  }
  add(gyre_gc_collect(2));
  return NULL;
}

static void what_finalizers_save_is_finalized_once(void **state) {
  (void)state;
  node_on_finalize = saves;
  by_eight(makes_what_is_saved);
  add(gyre_gc_collect(2));
  /* Only what really went is counted: the pairs with odd numbers. */
  assert_int_equal(SUM, THREADS * PAIRS / 2 * 2);
  assert_int_equal(nodes_destroyed(), THREADS * (PAIRS + SINGLES / 2));
  assert_int_equal(nodes_finalized(), THREADS * (2 * PAIRS + SINGLES));
  for (uint64_t at = 0; at < THREADS * MINE; at++) {
    assert_int_equal(gyre_weak_is_dead(weaks[at]), at % 2);
    assert_int_equal(calls_of(at), at % 2);
    if (at % 2) continue;
    assert_int_equal(gyre_gc_is_finalized(saved[at]), 1);
    GYRE_AUTO(node) taken = gyre_weak_get(weaks[at]);
    assert_ptr_equal(taken, saved[at]);
  }
  by_eight(drops_what_was_saved);
  add(gyre_gc_collect(2));
  assert_int_equal(SUM, THREADS * PAIRS * 2);
  assert_int_equal(nodes_destroyed(), THREADS * (2 * PAIRS + SINGLES));
  assert_int_equal(nodes_finalized(), THREADS * (2 * PAIRS + SINGLES));
  for (uint64_t at = 0; at < THREADS * MINE; at++) {
    assert_int_equal(gyre_weak_is_dead(weaks[at]), 1);
    assert_int_equal(calls_of(at), 1);
    gyre_weak_free(weaks[at]);
    /* relaxed: no other thread. */
    gyre__store_relaxed(&called[at], 0);
  }
}

/* ---- collections in and beside each other ---- */

static int collects_nested(node *n) {
  (void)n;
  for (int g = 0; g < 3; g++)
    TEST_REQUIRE(gyre_gc_collect(g) == 0);
  return 0;
}

static void *short_life(void *arg) {
  ring_drop(&node_type, 3);
  return arg;
}

static void *collects_attaches_and_ends(void *number) {
  uintptr_t me = (uintptr_t)number;
  for (uint64_t i = rounds() / 4; i > 0; i--) {
    ring_drop(&finalized_type, 2);
    add(gyre_gc_collect((int)((i + me) % 3)));
    if (me % 4 == 0) gyre_thread_detach();
    if (me % 4 == 1) test_thread_run(short_life, NULL);
    if (me % 4 == 2) GYRE_BLOCKING {
        (void)sched_yield();
      }
    gyre_safepoint();
  }
  return NULL;
}

static void collections_go_on_in_and_beside_each_other(void **state) {
  (void)state;
  node_on_finalize = collects_nested;
  by_eight(collects_attaches_and_ends);
  add(gyre_gc_collect(2));
  uint64_t made = rounds() / 4 * (THREADS * 2 + THREADS / 4 * 3);
  assert_int_equal(SUM, made);
  assert_int_equal(nodes_destroyed(), made);
  assert_int_equal(nodes_finalized(), rounds() / 4 * THREADS * 2);
}

/* ---- finalizers that want the lock of who drops ---- */

static pthread_mutex_t mutexes[THREADS];

static void ignores(gyre_weak *weak, void *arg) {
  (void)arg;
  gyre_weak_free(weak);
}

/* Takes the lock, allocates, drops others, makes a weak reference. */
static int locks_and_works(void *object) {
  node *n = object;
  GYRE_BLOCKING { TEST_REQUIRE(pthread_mutex_lock(&mutexes[n->tag]) == 0); }
  node *m = node_new(&node_type, 0);
  TEST_REQUIRE(gyre_weak_new(m, ignores, NULL) != NULL);
  gyre_store(&m->next, n);
  gyre_clear(&n->other);
  gyre_release(m);
  TEST_REQUIRE(pthread_mutex_unlock(&mutexes[n->tag]) == 0);
  add(1);
  return 0;
}
static GYRE_TYPE_DEFINE(locking_type, node, .slots = GYRE_SLOTS(node, next, other),
                        .finalize = locks_and_works, .flags = GYRE_TYPE_FINALIZE_QUEUED);

static void *drops_under_a_lock(void *number) {
  uintptr_t me = (uintptr_t)number;
  for (uint64_t i = rounds(); i > 0; i--) {
    TEST_REQUIRE(pthread_mutex_lock(&mutexes[me]) == 0);
    node *n = node_new(&locking_type, me), *other = node_new(&node_type, 0);
    gyre_slot_init(&n->other, other);
    gyre_release(n);
    n = node_new(&locking_type, me);
    gyre_store(&n->next, n);
    gyre_release(n);
    if (i % 16 == 0) TEST_REQUIRE(gyre_gc_collect(2) >= 0);
    gyre_safepoint();
    TEST_REQUIRE(pthread_mutex_unlock(&mutexes[me]) == 0);
  }
  return NULL;
}

static void a_lock_that_finalizers_want_may_be_held(void **state) {
  (void)state;
  for (int i = 0; i < THREADS; i++)
    TEST_REQUIRE(pthread_mutex_init(&mutexes[i], NULL) == 0);
  by_eight(drops_under_a_lock);
  uint64_t finalizers = THREADS * rounds() * 2;
  do {
    add(0);
    gyre_safepoint();
    TEST_REQUIRE(gyre_gc_collect(2) >= 0);
  } while (SUM < finalizers || gyre_pending_count() > 0);
  gyre_service_stop();
  TEST_REQUIRE(gyre_gc_collect(2) >= 0);
  assert_int_equal(SUM, finalizers);
  for (int i = 0; i < THREADS; i++)
    TEST_REQUIRE(pthread_mutex_destroy(&mutexes[i]) == 0);
}

/* ---- a large structure ---- */

static uint64_t cells(void) { return test_size("GYRE_TEST_CELLS", 250000, 40000, 12000); }

static void *builds(void *number) {
  uintptr_t me = (uintptr_t)number;
  for (uint64_t i = cells(); i > 0; i--) {
    node *n = node_new(&finalized_type, i);
    if (held[me] != NULL) gyre_slot_init(&n->next, held[me]);
    held[me] = n;
    gyre_safepoint();
  }
  return NULL;
}

static uint64_t all_candidates(void) {
  uint64_t candidates = 0;
  for (int g = 0; g < GYRE_GC_NGEN; g++) {
    struct gyre_gc_stats stats = {.size = sizeof stats};
    TEST_REQUIRE(gyre_gc_get_stats(g, &stats) == 0);
    candidates += stats.candidates;
  }
  return candidates;
}

static void building_costs_a_linear_number_of_candidates(void **state) {
  (void)state;
  uint64_t before = all_candidates();
  by_eight(builds);
  /* Without the quarter rule: a full collection for each thousand or two. */
  assert_true(all_candidates() - before < 10 * THREADS * cells());
  /* One that is asked for does not ask. */
  struct gyre_gc_result result = {.size = sizeof result};
  for (int i = 0; i < 2; i++) {
    assert_int_equal(gyre_gc_collect_ex(2, 0, &result), 0);
    assert_true(result.candidates >= THREADS * cells());
  }
  for (int i = 0; i < THREADS; i++) {
    gyre_release(held[i]);
    held[i] = NULL;
  }
  while (nodes_destroyed() < THREADS * cells())
    gyre_safepoint();
}

int main(void) {
  const struct CMUnitTest tests[] = {
      EIGHT_TEST(cycles_of_every_shape_are_found, "gc:0"),
      EIGHT_TEST(what_finalizers_save_is_finalized_once, "gc:0"),
      EIGHT_TEST(what_finalizers_save_is_finalized_once, "gc:0,yield_seed:3"),
      EIGHT_TEST(collections_go_on_in_and_beside_each_other, "gc:0"),
      EIGHT_TEST(a_lock_that_finalizers_want_may_be_held, "gc:1,gc_threshold:100/2/2"),
      EIGHT_TEST(building_costs_a_linear_number_of_candidates, "gc:1,gc_threshold:20/1/0"),
      EIGHT_TEST(building_costs_a_linear_number_of_candidates,
                 "gc:1,gc_mode:stw,gc_threshold:20/1/0"),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
