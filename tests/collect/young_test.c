/* SPDX-License-Identifier: MIT */
/* Young objects: each thread looks through its own, alone, and everything that it cannot be sure of
 * goes to the collector. Most tests say themselves when the thread looks. */
#include "lib/thread/thread.h"
#include "tests/support/node.h"
#include "tests/support/puppet.h"

static struct gyre_gc_stats stats_of(int generation) {
  struct gyre_gc_stats stats = {.size = sizeof stats};
  TEST_REQUIRE(gyre_gc_get_stats(generation, &stats) == 0);
  return stats;
}

/* The calling thread looks through its young objects, as it does at a safepoint. */
static void look(void) { gyre__young_collect(gyre__objects_self(), true); }

static int young_objects(void) {
  int count[GYRE_GC_NGEN];
  TEST_REQUIRE(gyre_gc_get_count(count) == 0);
  return count[0];
}

/* Finds what is left of the young generation and the middle one. */
static ptrdiff_t collect_promoted(void) { return gyre_gc_collect(1); }

/* ---- alone ---- */

static test_flag stop, runs;

/* Runs, and answers nobody, until it is told to stop. */
static void turns_deaf(void *arg) {
  (void)arg;
  test_flag_set(&runs, 1);
  TEST_AWAIT(test_flag_get(&stop));
}

static struct puppet deaf;

static void deaf_start(void) {
  gyre_thread_attach();
  test_flag_set(&stop, 0);
  test_flag_set(&runs, 0);
  puppet_start(&deaf);
  puppet_begin(&deaf, turns_deaf, NULL);
  TEST_AWAIT_SAFELY(test_flag_get(&runs));
}

static void deaf_stop(void) {
  test_flag_set(&stop, 1);
  puppet_await(&deaf);
  puppet_stop(&deaf);
}

static void rings_die_at_their_threads_safepoint_and_nobody_is_asked(void **state) {
  (void)state;
  ring_drop(&plain_type, 300);
  look(); /* it pays */
  deaf_start();
  uint64_t graces = gyre__grace_completed(), stops = gyre__world_stops();
  uint64_t middle = stats_of(1).collections, full = stats_of(2).collections;
  for (uint64_t i = 1; i <= 1000; i++) {
    ring_drop(&node_type, 3);
    gyre_safepoint();
    assert_true(3 * i - nodes_destroyed() < 110);
  }
  look();
  assert_int_equal(nodes_destroyed(), 3000);
  assert_int_equal(gyre__grace_completed(), graces);
  assert_int_equal(gyre__world_stops(), stops);
  assert_int_equal(stats_of(1).collections, middle);
  assert_int_equal(stats_of(2).collections, full);
  deaf_stop();
}

static void what_lives_stays_and_is_looked_at_once(void **state) {
  (void)state;
  node *kept = ring_new(&node_type, 5);
  ring_drop(&node_type, 7);
  uint64_t candidates = stats_of(0).candidates;
  look();
  assert_int_equal(nodes_destroyed(), 7);
  assert_int_equal(stats_of(0).candidates - candidates, 12);
  assert_int_equal(gyre_refcount(kept), 2);
  gyre_release(kept);
  look(); /* promoted: not the thread's business any more */
  assert_int_equal(nodes_destroyed(), 7);
  assert_int_equal(stats_of(0).candidates - candidates, 12);
  assert_int_equal(collect_promoted(), 5);
}

static void counts_are_as_before_when_a_look_is_over(void **state) {
  (void)state;
  node *a = ring_new(&node_type, 3), *b = gyre_load(&a->next);
  gyre_store(&a->other, b);
  gyre_store(&b->other, b);
  gyre_retain(a);
  look();
  assert_int_equal(gyre_refcount(a), 3);
  assert_int_equal(gyre_refcount(b), 4);
  gyre_release(a);
  gyre_release(b);
  assert_int_equal(gyre_refcount(a), 2);
  assert_int_equal(gyre_refcount(b), 3);
  assert_int_equal(collect_promoted(), 0);
  gyre_release(a);
  assert_int_equal(gyre_gc_collect(2), 3);
}

static void what_garbage_holds_is_released(void **state) {
  (void)state;
  node *ring = ring_new(&node_type, 3), *kept = node_new(&node_type, 9);
  look();
  gyre_release(ring); /* promoted garbage */
  ring = ring_new(&plain_type, 2);
  node *chain = chain_new(&node_type, 5);
  gyre_store(&ring->other, chain);
  gyre_store(&chain->other, kept);
  node *old = node_new(&node_type, 0);
  gyre_gc_collect(0); /* everything gets older */
  gyre_release(chain);
  node *holder = ring_new(&node_type, 2);
  gyre_store(&holder->other, old);
  node *next = gyre_load(&holder->next);
  gyre_store(&next->other, kept);
  gyre_release(next);
  gyre_release(old);
  uint64_t before = nodes_destroyed();
  assert_int_equal(gyre_refcount(kept), 3);
  gyre_release(holder);
  look();
  assert_int_equal(nodes_destroyed() - before, 3);
  assert_int_equal(gyre_refcount(kept), 2);
  gyre_release(ring);
  gyre_gc_collect(2);
  assert_int_equal(gyre_refcount(kept), 1);
  gyre_release(kept);
}

/* ---- handed over ---- */

static node *cell;    /* the giver's; the reference in `next` is what is handed over */
static node *promise; /* a pointer that the giver holds for the receiver meanwhile */

static struct receiver {
  node *n; /* counted */
  node *holder;
  gyre_weak *weak;
} receiver;

static void receives_by_load(void *arg) {
  (void)arg;
  receiver.n = gyre_load(&cell->next);
}
static void receives_by_take(void *arg) {
  (void)arg;
  receiver.n = gyre_take(&cell->next);
}
static void receives_by_swap(void *arg) {
  (void)arg;
  receiver.holder = node_new(&plain_type, 0);
  receiver.n = gyre_swap(&cell->next, NULL);
  receiver.n = gyre_swap(&receiver.holder->next, receiver.n);
  TEST_REQUIRE(receiver.n == NULL);
}
static void receives_by_store(void *arg) {
  (void)arg;
  receiver.holder = node_new(&plain_type, 0);
  gyre_store(&receiver.holder->next, promise);
}
static void receives_by_retain(void *arg) {
  (void)arg;
  receiver.n = gyre_retain(promise);
}
static void receives_by_exchange(void *arg) {
  (void)arg;
  receiver.holder = node_new(&plain_type, 0);
  TEST_REQUIRE(gyre_compare_exchange(&receiver.holder->next, NULL, promise));
}
static void receives_by_weak(void *arg) {
  (void)arg;
  receiver.weak = gyre_weak_new(promise, NULL, NULL);
  TEST_REQUIRE(receiver.weak != NULL);
  receiver.n = gyre_weak_get(receiver.weak);
}

static void ring_is_whole(node *first, size_t n) {
  node *at = gyre_retain(first);
  for (size_t i = 0; i < n; i++) {
    TEST_REQUIRE(at->tag == (first->tag + i) % n);
    node *next = gyre_load(&at->next);
    gyre_release(at);
    at = next;
  }
  TEST_REQUIRE(at == first);
  gyre_release(at);
}

static void looks_at_what_it_has(void *arg) {
  (void)arg;
  node *n = receiver.n != NULL ? gyre_retain(receiver.n) : gyre_load(&receiver.holder->next);
  ring_is_whole(n, 3);
  gyre_release(n);
}

static void drops_all(void *arg) {
  (void)arg;
  gyre_weak_free(receiver.weak);
  gyre_release(receiver.n);
  gyre_release(receiver.holder);
  receiver = (struct receiver){0};
}

/* The giver keeps nothing; the receiver has one reference, however it got it. */
static void what_is_handed_over_lives_whatever_the_receiver_does(void **state) {
  (void)state;
  static puppet_fn *const ways[] = {receives_by_load,  receives_by_take,     receives_by_swap,
                                    receives_by_store, receives_by_exchange, receives_by_retain,
                                    receives_by_weak};
  gyre_thread_attach();
  struct puppet other;
  puppet_start(&other);
  cell = node_new(&plain_type, 0);
  for (int old_cell = 0; old_cell < 2; old_cell++) {
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
      uint64_t before = nodes_destroyed();
      promise = ring_new(&node_type, 3);
      gyre_store(&cell->next, promise);
      puppet_run(&other, ways[i], NULL);
      gyre_release(promise);
      gyre_clear(&cell->next);
      assert_int_equal(gyre_refcount(promise), 2);
      look();
      assert_int_equal(nodes_destroyed(), before);
      puppet_run(&other, looks_at_what_it_has, NULL);
      assert_int_equal(gyre_gc_collect(2), 0);
      puppet_run(&other, looks_at_what_it_has, NULL);
      puppet_run_parked(&other, drops_all, NULL);
      gyre_safepoint();
      assert_int_equal(nodes_destroyed(), before);
      assert_int_equal(gyre_gc_collect(2), 3);
    }
    /* The cell is old by now. */
  }
  gyre_release(cell);
  puppet_stop(&other);
}

static void moves_to_holder(void *arg) {
  (void)arg;
  receiver.holder = node_new(&plain_type, 0);
  receiver.n = gyre_take(&cell->next);
  gyre_release(gyre_swap(&receiver.holder->other, receiver.n));
  receiver.n = NULL;
}

static void gives_back(void *arg) {
  (void)arg;
  gyre_release(gyre_swap(&cell->next, gyre_take(&receiver.holder->other)));
}

/* There and back again: its count in the shared word is 0 both times that its owner looks. */
static void what_others_had_in_their_hands_is_the_collectors(void **state) {
  (void)state;
  gyre_thread_attach();
  struct puppet other;
  puppet_start(&other);
  cell = node_new(&plain_type, 0);
  node *ring = ring_new(&node_type, 3);
  gyre_release(gyre_swap(&cell->next, ring));
  puppet_run(&other, moves_to_holder, NULL);
  look();
  assert_int_equal(nodes_destroyed(), 0);
  puppet_run(&other, gives_back, NULL);
  ring_is_whole(ring, 3);
  gyre_clear(&cell->next);
  assert_int_equal(collect_promoted(), 3);
  /* The same without a look in between. */
  ring = ring_new(&node_type, 3);
  gyre_release(gyre_swap(&cell->next, ring));
  puppet_run(&other, drops_all, NULL);
  puppet_run(&other, moves_to_holder, NULL);
  puppet_run(&other, gives_back, NULL);
  gyre_clear(&cell->next);
  look();
  assert_int_equal(nodes_destroyed(), 3);
  assert_int_equal(collect_promoted(), 3);
  puppet_run(&other, drops_all, NULL);
  gyre_release(cell);
  puppet_stop(&other);
}

static void keeps_a_borrowed_pointer(void *arg) {
  (void)arg;
  receiver.n = promise;
}

static void what_is_handed_over_without_a_count_stays_counted_by_its_owner(void **state) {
  (void)state;
  gyre_thread_attach();
  struct puppet other;
  puppet_start(&other);
  promise = ring_new(&node_type, 3);
  puppet_run(&other, keeps_a_borrowed_pointer, NULL);
  look(); /* the count that the giver does not drop is the receiver's */
  assert_int_equal(nodes_destroyed(), 0);
  puppet_run(&other, looks_at_what_it_has, NULL);
  puppet_run_parked(&other, drops_all, NULL);
  gyre_safepoint(); /* merges it */
  assert_int_equal(nodes_destroyed(), 0);
  assert_int_equal(collect_promoted(), 3);
  puppet_stop(&other);
}

/* ---- what is not the owner's business ---- */

static gyre_type retainable_type = {.name = "retainable",
                                    .size = sizeof(node),
                                    .slots = GYRE_SLOTS(node, next, other),
                                    .flags = GYRE_TYPE_TRY_RETAIN};
static gyre_type shared_type = {.name = "shared",
                                .size = sizeof(node),
                                .slots = GYRE_SLOTS(node, next, other),
                                .flags = GYRE_TYPE_SHARED};

typedef struct box {
  node *content; /* under the object's lock */
} box;
static int box_visit(void *object, gyre_visitor *visitor, void *arg) {
  node *content = ((box *)object)->content;
  return content != NULL ? visitor(content, arg) : 0;
}
static void box_clear(void *object) {
  node *content = ((box *)object)->content;
  ((box *)object)->content = NULL;
  gyre_release(content);
}
static GYRE_TYPE_DEFINE(box_type, box, .visit = box_visit, .clear = box_clear);

/* A ring of two that count their deaths and one of another type between them. Not dropped yet. */
static node *ring_with(gyre_type *type) {
  node *a = node_new(&node_type, 0), *b = node_new(&node_type, 1), *special = node_new(type, 2);
  gyre_store(&a->next, special);
  gyre_store(&special->next, b);
  gyre_store(&b->next, a);
  gyre_release(b);
  gyre_release(special);
  return a;
}

static void dies_by_the_collector_only(uint64_t deaths, ptrdiff_t objects) {
  uint64_t before = nodes_destroyed();
  look();
  assert_int_equal(nodes_destroyed(), before);
  assert_int_equal(young_objects(), 0);
  look();
  assert_int_equal(nodes_destroyed(), before);
  assert_int_equal(collect_promoted(), objects);
  assert_int_equal(nodes_destroyed(), before + deaths);
}

static void finalizers_are_run_by_the_collector(void **state) {
  (void)state;
  gyre_release(ring_with(&finalized_type));
  look();
  assert_int_equal(nodes_finalized(), 0);
  dies_by_the_collector_only(3, 3);
  assert_int_equal(nodes_finalized(), 1);
}

static void what_others_may_try_to_retain_is_the_collectors(void **state) {
  (void)state;
  gyre_release(ring_with(&retainable_type));
  dies_by_the_collector_only(2, 3);
  gyre_release(ring_with(&shared_type));
  dies_by_the_collector_only(2, 3);
}

static void what_has_a_weak_reference_is_the_collectors(void **state) {
  (void)state;
  node *ring = ring_new(&node_type, 3);
  gyre_weak *weak = gyre_weak_new(ring, NULL, NULL);
  gyre_release(ring);
  look();
  assert_false(gyre_weak_is_dead(weak));
  dies_by_the_collector_only(3, 3);
  assert_true(gyre_weak_is_dead(weak));
  gyre_weak_free(weak);
  /* One that it has had. */
  ring = ring_new(&node_type, 3);
  gyre_weak_free(gyre_weak_new(ring, NULL, NULL));
  gyre_release(ring);
  dies_by_the_collector_only(3, 3);
}

static void what_a_visit_function_shows_is_the_collectors(void **state) {
  (void)state;
  node *ring = ring_new(&node_type, 3);
  box *b = gyre_new(&box_type);
  b->content = ring;
  gyre_slot_store(&ring->other.gyre__slot, b);
  gyre_release(b);
  dies_by_the_collector_only(3, 4);
  /* One that young garbage holds is cleared like any other. */
  node *kept = node_new(&node_type, 0);
  b = gyre_new(&box_type);
  b->content = gyre_retain(kept);
  ring = ring_new(&node_type, 3);
  gyre_slot_store(&ring->other.gyre__slot, b);
  gyre_release(b);
  gyre_release(ring);
  look();
  assert_int_equal(nodes_destroyed(), 6);
  assert_int_equal(gyre_refcount(kept), 1);
  gyre_release(kept);
}

static void what_an_immortal_object_refers_to_lives(void **state) {
  (void)state;
  node *eternal = ring_with(&plain_type);
  gyre_immortalize(eternal);
  gyre_release(eternal);
  look();
  look();
  assert_int_equal(gyre_gc_collect(2), 0);
  assert_int_equal(nodes_destroyed(), 0);
  node *next = gyre_load(&eternal->next);
  assert_int_equal(next->tag, 2);
  gyre_release(next);
  make_mortal(eternal); /* with the ring's reference */
  gyre_release(gyre_take(&eternal->next));
  assert_int_equal(nodes_destroyed(), 2);
}

/* A garbage ring that a live special object refers to, and one that refers to a special one. */
static void what_special_objects_refer_to_lives_as_long_as_they_do(void **state) {
  (void)state;
  node *special = node_new(&finalized_type, 0), *ring = ring_new(&node_type, 4);
  gyre_store(&special->next, ring);
  gyre_release(ring);
  look();
  assert_int_equal(nodes_destroyed(), 0);
  ring_is_whole(ring, 4);
  gyre_release(special);
  assert_int_equal(nodes_destroyed(), 1);
  assert_int_equal(collect_promoted(), 4);
  special = node_new(&finalized_type, 0);
  ring = ring_new(&node_type, 4);
  gyre_store(&ring->other, special);
  gyre_release(ring);
  look();
  assert_int_equal(nodes_destroyed(), 9);
  assert_int_equal(gyre_refcount(special), 1);
  gyre_release(special);
}

/* ---- hooks ---- */

static uint64_t hooks_run;

static void does_everything(node *n) {
  if (n->tag >= 100) return;
  hooks_run++;
  TEST_REQUIRE(n->next.gyre__slot.gyre__ref.gyre__value == NULL);
  ring_drop(&plain_type, 3);
  gyre_release(node_new(&node_type, 100));
  void *block = gyre_malloc(5000);
  gyre_safepoint();
  look(); /* inside one: nothing */
  GYRE_BLOCKING { sched_yield(); }
  if (n->tag % 4 == 0) TEST_REQUIRE(gyre_gc_collect((int)(n->tag / 4 % 3)) >= 0);
  if (n->tag % 4 == 1) gyre__heap_check();
  gyre_free(block);
}

static void destroy_hooks_of_young_garbage_may_use_the_library(void **state) {
  (void)state;
  hooks_run = 0;
  node_on_destroy = does_everything;
  ring_drop(&node_type, 60);
  node *kept = ring_new(&node_type, 3), *hung = chain_new(&node_type, 20);
  node *ring = ring_new(&plain_type, 2);
  gyre_store(&ring->other, hung);
  gyre_store(&ring->next, ring);
  gyre_release(hung);
  gyre_release(ring);
  look();
  assert_int_equal(hooks_run, 80);
  node_on_destroy = NULL;
  ring_is_whole(kept, 3);
  gyre_release(kept);
  gyre_gc_collect(2);
  assert_int_equal(nodes_destroyed(), 60 + 20 + 80 + 3);
}

static node *rescued;

static void takes_from_others(node *n) {
  /* What the garbage held outside is still there; it is released after the hooks. */
  if (n->tag == 1) rescued = gyre_retain(promise);
}

static void hooks_may_use_what_lives_outside(void **state) {
  (void)state;
  promise = node_new(&node_type, 50);
  node *ring = ring_new(&node_type, 3);
  gyre_store(&ring->other, promise);
  gyre_release(ring);
  node_on_destroy = takes_from_others;
  look();
  node_on_destroy = NULL;
  assert_int_equal(nodes_destroyed(), 3);
  assert_ptr_equal(rescued, promise);
  assert_int_equal(gyre_refcount(promise), 2);
  gyre_release(promise);
  gyre_release(rescued);
}

/* ---- sizes ---- */

typedef struct tuple {
  uint64_t tag;
  GYRE_SLOT(void) items[];
} tuple;
static GYRE_TYPE_DEFINE(tuple_type, tuple, .element_size = sizeof(gyre_slot),
                        .element_slots = GYRE_SLOT_ARRAY);

/* A tuple of n nodes that all refer to it. */
static tuple *tuple_new(size_t n) {
  tuple *t = gyre_new_array(&tuple_type, n);
  TEST_REQUIRE(t != NULL);
  for (size_t i = 0; i < n; i++) {
    node *member = node_new(&node_type, i);
    gyre_slot_store(&member->next.gyre__slot, t);
    gyre_slot_store(&t->items[i].gyre__slot, member);
    gyre_release(member);
  }
  return t;
}

static void arrays_are_looked_through(void **state) {
  (void)state;
  uint64_t sum = 0;
  for (size_t n = 1; n <= 3000; n = 3 * n + 1) {
    tuple *kept = tuple_new(n);
    gyre_release(tuple_new(n));
    look();
    assert_int_equal(nodes_destroyed(), sum += n);
    assert_int_equal(gyre_refcount(kept), n + 1);
    for (size_t i = 0; i < n; i++)
      assert_int_equal(((node *)kept->items[i].gyre__slot.gyre__ref.gyre__value)->tag, i);
    gyre_release(kept);
    assert_int_equal(collect_promoted(), n + 1);
    sum += n;
  }
}

/* Tuples of n references to the first of them each. Returns that; the first has one to each of the
 * others, too. */
static tuple *tuples_new(size_t tuples, size_t n) {
  tuple *first = gyre_new_array(&tuple_type, n + tuples);
  TEST_REQUIRE(first != NULL);
  for (size_t i = 0; i < tuples; i++) {
    tuple *t = i == 0 ? gyre_retain(first) : gyre_new_array(&tuple_type, n);
    TEST_REQUIRE(t != NULL);
    for (size_t at = 0; at < n; at++)
      gyre_slot_store(&t->items[at].gyre__slot, first);
    gyre_slot_store(&first->items[n + i].gyre__slot, t);
    gyre_release(t);
  }
  return first;
}

/* More references than a look is prepared for, and blocks that are large: the collector's. */
static void what_is_too_large_for_a_look_is_promoted(void **state) {
  (void)state;
  static const struct { size_t tuples, slots; } sizes[] = {{9, 5000}, {2, 20000}, {40, 900}};
  for (int i = 0; i < 3; i++) {
    size_t tuples = sizes[i].tuples, slots = sizes[i].slots;
    tuple *first = tuples_new(tuples, slots);
    node *n = node_new(&node_type, 0);
    gyre_slot_store(&n->next.gyre__slot, first);
    gyre_slot_store(&first->items[0].gyre__slot, n);
    gyre_release(n);
    assert_int_equal(gyre_refcount(first), tuples * slots + 2);
    look();
    assert_int_equal(gyre_refcount(first), tuples * slots + 2);
    gyre__heap_check();
    gyre_release(first);
    look();
    assert_int_equal(nodes_destroyed(), i);
    assert_int_equal(young_objects(), 0);
    assert_int_equal(collect_promoted(), tuples + 1);
    assert_int_equal(nodes_destroyed(), i + 1);
  }
}

static void *drops_a_long_ring(void *length) {
  node *ring = ring_new(&node_type, *(size_t *)length / 2);
  node *chain = chain_new(&node_type, *(size_t *)length / 2);
  gyre_store(&ring->other, chain);
  gyre_release(chain);
  gyre_release(ring);
  look();
  return NULL;
}

/* On a small stack. */
static void long_chains_die_without_recursion(void **state) {
  (void)state;
  size_t length = 8000;
  test_thread_run(drops_a_long_ring, &length);
  assert_int_equal(nodes_destroyed(), length);
  length = 200000; /* most is promoted before it is dropped */
  test_thread_run(drops_a_long_ring, &length);
  gyre_gc_collect(2);
  assert_int_equal(nodes_destroyed(), 8000 + length);
}

static void a_log_that_is_full_is_promoted_and_nothing_is_lost(void **state) {
  (void)state;
  node *kept = chain_new(&node_type, 20000);
  for (int i = 0; i < 5000; i++)
    ring_drop(&node_type, 4);
  assert_true(young_objects() <= 8192);
  look();
  uint64_t found = nodes_destroyed();
  assert_true(found > 0 && found < 20000);
  assert_int_equal(collect_promoted(), 20000 - found);
  assert_int_equal(nodes_destroyed(), 20000);
  size_t n = 0;
  for (node *at = kept; at != NULL; at = at->next.gyre__slot.gyre__ref.gyre__value)
    assert_int_equal(at->tag, n++);
  assert_int_equal(n, 20000);
  gyre_release(kept);
  while (nodes_destroyed() < 40000)
    gyre_safepoint();
}

static void dead_objects_in_the_log_do_not_push_others_out(void **state) {
  (void)state;
  enum { MANY = 1000 };
  static node *many[MANY];
  ring_drop(&node_type, 3);
  for (int round = 0; round < 10; round++) {
    for (int i = 0; i < MANY; i++)
      many[i] = node_new(&plain_type, 0);
    for (int i = 0; i < MANY; i++)
      gyre_release(many[i]);
  }
  look();
  assert_int_equal(nodes_destroyed(), 3);
}

/* One that dies before the one after it stays in the log, and so does what is born in its block. */
static void an_object_that_is_in_the_log_many_times_dies_once(void **state) {
  (void)state;
  node *before = node_new(&node_type, 0);
  for (uint64_t i = 1; i <= 30000; i++) {
    node *n = node_new(&node_type, i);
    gyre_release(before);
    before = n;
  }
  assert_int_equal(nodes_destroyed(), 30000);
  assert_true(young_objects() <= 8192);
  look();
  assert_int_equal(nodes_destroyed(), 30000);
  assert_int_equal(before->tag, 30000);
  gyre_release(before);
  uint64_t rings = 300;
  for (uint64_t i = 0; i < rings; i++) {
    node *a = node_new(&plain_type, 0), *top = node_new(&plain_type, 0);
    gyre_release(a);
    ring_drop(&node_type, 1); /* in a's block, most likely: twice in the log */
    gyre_release(top);
  }
  look();
  assert_int_equal(nodes_destroyed(), 30001 + rings);
  gyre_gc_collect(2);
  assert_int_equal(nodes_destroyed(), 30001 + rings);
}

/* ---- threads that are not there ---- */

static uint32_t last_id;

static void *leaves_young_objects(void *arg) {
  (void)arg;
  promise = ring_new(&node_type, 3);
  ring_drop(&node_type, 4);
  last_id = gyre_thread_current()->id;
  return NULL;
}

static void *inherits(void *arg) {
  (void)arg;
  gyre_thread_attach();
  TEST_REQUIRE(gyre_thread_current()->id == last_id);
  TEST_REQUIRE(young_objects() >= 7);
  uint64_t before = nodes_destroyed();
  look();
  TEST_REQUIRE(nodes_destroyed() == before + 4);
  ring_is_whole(promise, 3);
  gyre_release(promise);
  return NULL;
}

static void the_heir_looks_through_what_the_dead_left(void **state) {
  (void)state;
  test_thread_run(leaves_young_objects, NULL);
  assert_int_equal(nodes_destroyed(), 0);
  test_thread_run(inherits, NULL);
  assert_int_equal(nodes_destroyed(), 4);
  assert_int_equal(gyre_gc_collect(1), 3);
}

static void an_explicit_collection_finds_the_young_garbage_of_threads_that_are_gone(void **state) {
  (void)state;
  for (int g = 0; g < GYRE_GC_NGEN; g++) {
    uint64_t before = nodes_destroyed();
    test_thread_run(leaves_young_objects, NULL);
    assert_int_equal(gyre_gc_collect(g), 4);
    ring_is_whole(promise, 3);
    gyre_release(promise);
    assert_int_equal(gyre_gc_collect(2), 3);
    assert_int_equal(nodes_destroyed(), before + 7);
  }
}

static void drops_rings(void *arg) {
  (void)arg;
  promise = ring_new(&node_type, 3);
  ring_drop(&node_type, 4);
}

static void an_explicit_collection_finds_the_young_garbage_of_parked_threads(void **state) {
  (void)state;
  gyre_thread_attach();
  struct puppet other;
  puppet_start(&other);
  for (int g = 0; g < GYRE_GC_NGEN; g++) {
    puppet_run(&other, drops_rings, NULL);
    assert_int_equal(gyre_gc_collect(g), 4);
    assert_int_equal(young_objects(), 0);
    receiver.n = promise;
    puppet_run(&other, looks_at_what_it_has, NULL);
    puppet_run_parked(&other, drops_all, NULL);
    assert_int_equal(gyre_gc_collect(2), 3);
  }
  puppet_stop(&other);
}

static void drops_and_runs(void *arg) {
  drops_rings(arg);
  test_flag_set(&runs, 1);
  TEST_AWAIT_SAFELY(test_flag_get(&stop));
  ring_is_whole(promise, 3);
}

static void an_explicit_collection_finds_the_young_garbage_of_running_threads(void **state) {
  (void)state;
  gyre_thread_attach();
  struct puppet other;
  puppet_start(&other);
  for (int g = 0; g < GYRE_GC_NGEN; g++) {
    test_flag_set(&stop, 0);
    test_flag_set(&runs, 0);
    puppet_begin(&other, drops_and_runs, NULL);
    TEST_AWAIT_SAFELY(test_flag_get(&runs));
    assert_int_equal(gyre_gc_collect(g), 4);
    test_flag_set(&stop, 1);
    puppet_await(&other);
    receiver.n = promise;
    puppet_run_parked(&other, drops_all, NULL);
    assert_int_equal(gyre_gc_collect(2), 3);
  }
  puppet_stop(&other);
}

/* A cycle of objects of two threads, of which each thinks that the other one holds it. */
static void adds_half(void *arg) {
  (void)arg;
  node *half = node_new(&node_type, 1);
  gyre_store(&half->next, promise);
  gyre_store(&promise->next, half);
  gyre_release(half);
  look();
}

static void looks(void *arg) {
  (void)arg;
  look();
}

static void cycles_of_several_threads_are_the_collectors(void **state) {
  (void)state;
  gyre_thread_attach();
  struct puppet other;
  puppet_start(&other);
  for (int g = 0; g < GYRE_GC_NGEN; g++) {
    uint64_t before = nodes_destroyed();
    promise = node_new(&node_type, 0);
    puppet_run(&other, adds_half, NULL);
    look();
    gyre_release(promise);
    look();
    puppet_run(&other, looks, NULL);
    assert_int_equal(nodes_destroyed(), before);
    assert_int_equal(gyre_gc_collect(g > 0 ? g : 1), 2);
  }
  puppet_stop(&other);
}

/* ---- how often ---- */

static void a_thread_looks_seldom_where_nothing_dies_and_often_again_when_it_pays(void **state) {
  (void)state;
  ring_drop(&plain_type, 300);
  look(); /* it pays */
  uint64_t before = stats_of(0).collections;
  for (int i = 0; i < 1000; i++) {
    ring_drop(&plain_type, 1);
    gyre_safepoint();
  }
  uint64_t paid = stats_of(0).collections - before;
  assert_in_range(paid, 9, 11);
  before = stats_of(0).collections;
  node *list = NULL;
  for (uint64_t i = 0; i < 40000; i++) {
    node *next = node_new(&plain_type, i);
    gyre_slot_init(&next->next, list);
    list = next;
    gyre_safepoint();
  }
  uint64_t idle = stats_of(0).collections - before;
  assert_in_range(idle, 3, 20);
  /* 64 logs later at the latest it looks, and finds that it pays. */
  before = stats_of(0).collections;
  for (int i = 0; i < 6500; i++) {
    ring_drop(&node_type, 1);
    gyre_safepoint();
  }
  assert_true(nodes_destroyed() > 0);
  assert_true(stats_of(0).collections > before);
  before = stats_of(0).collections;
  for (int i = 0; i < 1000; i++) {
    ring_drop(&node_type, 1);
    gyre_safepoint();
  }
  /* Through its log, or, 64 at a time, behind the entrances it has noted. */
  assert_in_range(stats_of(0).collections - before, 9, 17);
  gyre_release(list);
  gyre_gc_collect(2);
  assert_int_equal(nodes_destroyed(), 7500);
}

static void a_thread_does_not_look_while_it_is_told_not_to(void **state) {
  (void)state;
  gyre_gc_disable();
  uint64_t before = stats_of(0).collections;
  for (int i = 0; i < 5000; i++) {
    ring_drop(&node_type, 1);
    gyre_safepoint();
  }
  assert_int_equal(stats_of(0).collections, before);
  assert_int_equal(nodes_destroyed(), 0);
  gyre_gc_enable();
  gyre_gc_collect(0);
  assert_int_equal(nodes_destroyed(), 5000);
}

static void statistics_of_looks_add_up(void **state) {
  (void)state;
  struct gyre_gc_stats before = stats_of(0);
  ring_drop(&node_type, 300);
  node *kept = ring_new(&node_type, 100);
  look();
  struct gyre_gc_stats after = stats_of(0);
  assert_int_equal(after.collections - before.collections, 1);
  assert_int_equal(after.candidates - before.candidates, 400);
  assert_int_equal(after.collected - before.collected, 300);
  assert_true(after.freed_bytes - before.freed_bytes >= 300 * (sizeof(node) + GYRE_HEADER_SIZE));
  assert_true(after.young_max_ns >= (after.duration_ns - before.duration_ns));
  assert_int_equal(after.pauses, before.pauses);
  gyre_release(kept);
  gyre_gc_collect(2);
}

/* Many collections of generation 1 do not come in between. */
#define AUTOMATIC(name) NODE_TEST_WITH(name, "gc:1,gc_threshold:100/1000000/10")

int main(void) {
  const struct CMUnitTest tests[] = {
      AUTOMATIC(rings_die_at_their_threads_safepoint_and_nobody_is_asked),
      NODE_TEST(what_lives_stays_and_is_looked_at_once),
      NODE_TEST(counts_are_as_before_when_a_look_is_over),
      NODE_TEST(what_garbage_holds_is_released),
      NODE_TEST(what_is_handed_over_lives_whatever_the_receiver_does),
      NODE_TEST_WITH(what_is_handed_over_lives_whatever_the_receiver_does, "gc:0,slow_paths:1"),
      NODE_TEST(what_others_had_in_their_hands_is_the_collectors),
      NODE_TEST(what_is_handed_over_without_a_count_stays_counted_by_its_owner),
      NODE_TEST(finalizers_are_run_by_the_collector),
      NODE_TEST(what_others_may_try_to_retain_is_the_collectors),
      NODE_TEST(what_has_a_weak_reference_is_the_collectors),
      NODE_TEST(what_a_visit_function_shows_is_the_collectors),
      NODE_TEST(what_an_immortal_object_refers_to_lives),
      NODE_TEST(what_special_objects_refer_to_lives_as_long_as_they_do),
      NODE_TEST(destroy_hooks_of_young_garbage_may_use_the_library),
      NODE_TEST(hooks_may_use_what_lives_outside),
      NODE_TEST(arrays_are_looked_through),
      NODE_TEST(what_is_too_large_for_a_look_is_promoted),
      NODE_TEST(long_chains_die_without_recursion),
      NODE_TEST(a_log_that_is_full_is_promoted_and_nothing_is_lost),
      NODE_TEST(dead_objects_in_the_log_do_not_push_others_out),
      NODE_TEST(an_object_that_is_in_the_log_many_times_dies_once),
      NODE_TEST(the_heir_looks_through_what_the_dead_left),
      NODE_TEST(an_explicit_collection_finds_the_young_garbage_of_threads_that_are_gone),
      NODE_TEST(an_explicit_collection_finds_the_young_garbage_of_parked_threads),
      NODE_TEST(an_explicit_collection_finds_the_young_garbage_of_running_threads),
      NODE_TEST(cycles_of_several_threads_are_the_collectors),
      AUTOMATIC(a_thread_looks_seldom_where_nothing_dies_and_often_again_when_it_pays),
      AUTOMATIC(a_thread_does_not_look_while_it_is_told_not_to),
      NODE_TEST(statistics_of_looks_add_up),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
