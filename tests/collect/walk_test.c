/* SPDX-License-Identifier: MIT */
/* A walk through all objects: what it sees, what it may take, and what happens under its feet. */
#include "lib/collect/walk.h"

#include <errno.h>
#include <string.h>

#include "tests/support/node.h"
#include "tests/support/puppet.h"
#include "tests/support/window.h"

/* ---- types ---- */

typedef struct holder {
  GYRE_SLOT(node) first;
  gyre_slot items[];
} holder;
static gyre_type holder_type = {
    .name = "holder",
    .size = offsetof(holder, items),
    .slots = GYRE_SLOTS(holder, first),
    .element_size = sizeof(gyre_slot),
    .element_slots = GYRE_SLOT_ARRAY,
};

typedef struct entry {
  gyre_slot key, value;
} entry;
typedef struct table {
  int unused;
  entry entries[];
} table;
static const gyre_slot_info entry_slots[] = {{offsetof(entry, key), "key"},
                                             {offsetof(entry, value), "value"}};
static gyre_type table_type = {
    .name = "table",
    .size = offsetof(table, entries),
    .element_size = sizeof(entry),
    .element_slots = {entry_slots, 2},
};

typedef struct box {
  void *inside[2];
} box;
static int box_visit(void *object, gyre_visitor *visitor, void *arg) {
  box *b = object;
  for (int i = 0; i < 2; i++) {
    int result = visitor(b->inside[i], arg);
    if (result != 0) return result;
  }
  return 0;
}
static void box_clear(void *object) {
  box *b = object;
  for (int i = 0; i < 2; i++)
    gyre_release(b->inside[i]);
}
static gyre_type box_type = {
    .name = "box", .size = sizeof(box), .visit = box_visit, .clear = box_clear};

static gyre_type bytes_type = {.name = "bytes", .size = 8, .element_size = 1};
/* In blocks of the same size as nodes, with numbers where those have slots. */
typedef struct numbers {
  uint64_t a, b;
  GYRE_SLOT(node) slot;
} numbers;
static GYRE_TYPE_DEFINE(numbers_type, numbers, .slots = GYRE_SLOTS(numbers, slot));

/* ---- counting what is there ---- */

struct tally {
  const gyre_type *type;
  unsigned count;
  size_t bytes;
  int generation;
  ptrdiff_t refs;
};

static int tally_one(struct gyre__walk *w, gyre__header *h, struct gyre__page *page, uint32_t index,
                     void *arg) {
  (void)w;
  TEST_REQUIRE(page->side[index] == 0);
  struct tally *t = arg;
  struct gyre__census census;
  if (!gyre__walk_census(h, page, &census) || census.type != t->type) return 0;
  t->count++;
  t->bytes += census.bytes;
  t->generation = census.generation;
  t->refs = census.count;
  return 0;
}

static struct tally tally(const gyre_type *type, unsigned flags) {
  struct tally t = {.type = type};
  struct gyre__walk w;
  TEST_REQUIRE(gyre__walk_begin(&w, gyre__objects_self(), flags) == 0);
  TEST_REQUIRE(gyre__walk_objects(&w, tally_one, &t) == 0);
  gyre__walk_end(&w);
  return t;
}

static void a_walk_sees_every_kind_of_object(void **state) {
  (void)state;
  node *n = node_new(&node_type, 1);
  node *more = gyre_retain(n);
  void *leaf = gyre_new(&leaf_type);
  void *large = gyre_new_array(&bytes_type, 100000);
  holder *many = gyre_new_array(&holder_type, 20000);
  assert_int_equal(tally(&node_type, 0).count, 1);
  assert_int_equal(tally(&node_type, 0).generation, 0);
  assert_int_equal(tally(&node_type, 0).refs, 2);
  assert_true(tally(&node_type, 0).bytes >= sizeof(node) + GYRE_HEADER_SIZE);
  assert_int_equal(tally(&holder_type, 0).count, 1);
  assert_true(tally(&holder_type, 0).bytes >= 20000 * sizeof(gyre_slot));
  assert_int_equal(tally(&leaf_type, 0).count, 0);
  assert_int_equal(tally(&leaf_type, GYRE__WALK_LEAVES).count, 1);
  assert_int_equal(tally(&bytes_type, GYRE__WALK_LEAVES).count, 1);
  assert_true(tally(&bytes_type, GYRE__WALK_LEAVES).bytes >= 100000);
  gyre_gc_collect(2);
  assert_int_equal(tally(&node_type, 0).generation, 2);
  gyre_release(more);
  gyre_release(n);
  gyre_release(leaf);
  gyre_release(large);
  gyre_release(many);
  assert_int_equal(tally(&node_type, GYRE__WALK_LEAVES).count, 0);
  assert_int_equal(tally(&leaf_type, GYRE__WALK_LEAVES).count, 0);
  assert_int_equal(tally(&bytes_type, GYRE__WALK_LEAVES).count, 0);
  assert_int_equal(tally(&holder_type, GYRE__WALK_LEAVES).count, 0);
}

static void makes_one(void *arg) { *(node **)arg = node_new(&node_type, 7); }

static void it_sees_other_threads_parked_ones_and_the_dead_ones(void **state) {
  (void)state;
  struct puppet p, q;
  puppet_start(&p);
  puppet_start(&q);
  node *a, *b;
  puppet_run(&p, makes_one, &a);
  puppet_run(&q, makes_one, &b);
  puppet_stop(&q);
  assert_int_equal(tally(&node_type, 0).count, 2);
  gyre_release(a);
  gyre_release(b);
  puppet_stop(&p);
  assert_int_equal(tally(&node_type, 0).count, 0);
}

static int stop_at_once(struct gyre__walk *w, gyre__header *h, struct gyre__page *page,
                        uint32_t index, void *arg) {
  (void)w, (void)h, (void)page, (void)index;
  ++*(int *)arg;
  return 42;
}

static void a_pass_ends_when_it_is_told(void **state) {
  (void)state;
  node *a = node_new(&node_type, 1), *b = node_new(&node_type, 2);
  struct gyre__walk w;
  int calls = 0;
  assert_int_equal(gyre__walk_begin(&w, gyre__objects_self(), 0), 0);
  assert_int_equal(gyre__walk_objects(&w, stop_at_once, &calls), 42);
  gyre__walk_end(&w);
  assert_int_equal(calls, 1);
  gyre_release(a);
  gyre_release(b);
}

static int in_finalizer;
static int walk_in_finalizer(node *n) {
  (void)n;
  struct gyre__walk w;
  in_finalizer = gyre__walk_begin(&w, gyre__objects_self(), 0);
  return 0;
}

static void there_is_none_inside_a_collection(void **state) {
  (void)state;
  node_on_finalize = walk_in_finalizer;
  in_finalizer = 1;
  ring_drop(&finalized_type, 2);
  assert_int_equal(gyre_gc_collect(2), 2);
  assert_int_equal(in_finalizer, -EBUSY);
}

static void without_memory_there_is_none_and_nothing_has_changed(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  node *n = node_new(&node_type, 1);
  struct gyre__walk w;
  int result = -ENOMEM;
  for (uint64_t nth = 1; result == -ENOMEM; nth++) {
    gyre__fault_arm(nth, 0);
    result = gyre__walk_begin(&w, gyre__objects_self(), GYRE__WALK_LEAVES);
    gyre__fault_arm(0, 0);
    if (result != 0) test_check();
  }
  assert_int_equal(result, 0);
  gyre__walk_end(&w);
  gyre_release(n);
  assert_int_equal(gyre_gc_collect(2), 0);
}

/* ---- references ---- */

struct edges {
  const void *from;
  unsigned count;
  const void *target[8];
  char name[8][24];
  int result;
};

static int edge_note(struct gyre__walk *w, void *target, size_t field, void *arg) {
  struct edges *e = arg;
  TEST_REQUIRE(e->count < 8);
  e->target[e->count] = target;
  gyre__walk_field_name(gyre_type_of(e->from), gyre_array_length(e->from), field,
                        e->name[e->count++], sizeof e->name[0]);
  struct gyre__page *page;
  uint32_t index;
  TEST_REQUIRE(gyre__walk_find(w, target, &page, &index));
  TEST_REQUIRE(gyre__page_block(page, index) == (void *)gyre__header_of(target));
  return 0;
}

static int edges_of(struct gyre__walk *w, gyre__header *h, struct gyre__page *page, uint32_t index,
                    void *arg) {
  (void)index;
  struct edges *e = arg;
  if (gyre__object_of(h) == e->from) e->result = gyre__walk_references(w, h, page, edge_note, e);
  return 0;
}

static struct edges edges(const void *from) {
  struct edges e = {.from = from};
  struct gyre__walk w;
  TEST_REQUIRE(gyre__walk_begin(&w, gyre__objects_self(), GYRE__WALK_STILL) == 0);
  TEST_REQUIRE(gyre__walk_objects(&w, edges_of, &e) == 0);
  gyre__walk_end(&w);
  return e;
}

static void references_have_fields(void **state) {
  (void)state;
  node *a = node_new(&node_type, 1), *b = node_new(&node_type, 2);
  gyre_store(&a->other, b);
  struct edges e = edges(a);
  assert_int_equal(e.count, 1);
  assert_ptr_equal(e.target[0], b);
  assert_string_equal(e.name[0], "other");

  holder *h = gyre_new_array(&holder_type, 5);
  gyre_store(&h->first, a);
  gyre_slot_store(&h->items[3], b);
  e = edges(h);
  assert_int_equal(e.count, 2);
  assert_string_equal(e.name[0], "first");
  assert_ptr_equal(e.target[1], b);
  assert_string_equal(e.name[1], "[3]");

  table *t = gyre_new_array(&table_type, 2);
  gyre_slot_store(&t->entries[1].value, a);
  e = edges(t);
  assert_int_equal(e.count, 1);
  assert_string_equal(e.name[0], "[1].value");

  box *x = gyre_new(&box_type);
  x->inside[1] = gyre_retain(b);
  e = edges(x);
  assert_int_equal(e.count, 1);
  assert_ptr_equal(e.target[0], b);
  assert_string_equal(e.name[0], "visit[1]");
  gyre_lock(x);
  e = edges(x);
  assert_int_equal(e.result, -EAGAIN);
  assert_int_equal(e.count, 0);
  gyre_unlock(x);

  gyre_release(x);
  gyre_release(t);
  gyre_release(h);
  gyre_release(a);
  gyre_release(b);
}

/* ---- taking ---- */

struct taken {
  const gyre_type *type;
  unsigned asked, refused, count;
  void *object[64];
};

static int take_all(struct gyre__walk *w, gyre__header *h, struct gyre__page *page, uint32_t index,
                    void *arg) {
  struct taken *t = arg;
  struct gyre__census census;
  if (!gyre__walk_census(h, page, &census) || census.type != t->type) return 0;
  t->asked++;
  if (!gyre__walk_take(w, h, page, index)) t->refused++;
  return 0;
}

static int keep(struct gyre__walk *w, gyre__header *h, struct gyre__page *page, uint32_t index,
                void *arg) {
  (void)w, (void)page, (void)index;
  struct taken *t = arg;
  TEST_REQUIRE(t->count < 64);
  t->object[t->count++] = gyre__object_of(h);
  return 0;
}

static struct taken take(const gyre_type *type) {
  struct taken t = {.type = type};
  struct gyre__walk w;
  TEST_REQUIRE(gyre__walk_begin(&w, gyre__objects_self(), GYRE__WALK_LEAVES) == 0);
  TEST_REQUIRE(gyre__walk_objects(&w, take_all, &t) == 0);
  gyre__walk_settle(&w, keep, &t);
  gyre__walk_end(&w);
  return t;
}

static void releases(void *arg) { gyre_release(arg); }
static void passes(void *arg) {
  (void)arg;
  gyre_safepoint();
}

static void what_is_taken_is_counted(void **state) {
  (void)state;
  struct puppet p;
  puppet_start(&p);
  node *theirs, *mine = node_new(&node_type, 1);
  puppet_run(&p, makes_one, &theirs);
  struct taken t = take(&node_type);
  assert_int_equal(t.count, 2);
  assert_int_equal(gyre_refcount(mine), 2);
  assert_int_equal(gyre_refcount(theirs), 2);
  puppet_run(&p, releases, theirs);
  gyre_release(mine);
  assert_int_equal(nodes_destroyed(), 0);
  for (unsigned i = 0; i < t.count; i++)
    gyre_release(t.object[i]);
  puppet_run(&p, passes, NULL);
  assert_int_equal(nodes_destroyed(), 2);
  puppet_stop(&p);
}

static void a_leaf_is_taken_too(void **state) {
  (void)state;
  void *leaf = gyre_new(&leaf_type);
  struct taken t = take(&leaf_type);
  assert_int_equal(t.count, 1);
  assert_ptr_equal(t.object[0], leaf);
  gyre_release(leaf);
  assert_int_equal(nodes_destroyed(), 0);
  gyre_release(t.object[0]);
  assert_int_equal(nodes_destroyed(), 1);
}

/* ---- races, each held open ---- */

static void let_go(void *arg) {
  (void)arg;
  test_window_release();
}

static node *victim;
static void drops_victim(void *arg) {
  (void)arg;
  test_window_subject();
  gyre_release(victim);
}

static struct puppet owner;

/* Called by the walk when all threads are pinned. */
static void owner_begins(void *arg) {
  puppet_begin(&owner, drops_victim, NULL);
  test_window_await();
  test_window_call("walk/taken", 1, let_go, NULL);
  (void)arg;
}

static struct taken take_while_held(const char *window) {
  puppet_start(&owner);
  puppet_run(&owner, makes_one, &victim);
  test_window_subject();
  test_window_hold(window, 1);
  test_window_call("walk/pinned", 1, owner_begins, NULL);
  struct taken t = take(&node_type);
  puppet_await(&owner);
  return t;
}

static void an_owner_that_looks_after_our_count_sees_it(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  struct taken t = take_while_held("refcount/local_zero");
  assert_int_equal(t.asked, 1);
  assert_int_equal(t.count, 1);
  assert_int_equal(nodes_destroyed(), 0);
  assert_int_equal(gyre_refcount(victim), 1);
  gyre_release(victim);
  assert_int_equal(nodes_destroyed(), 1);
  puppet_stop(&owner);
}

static void an_object_that_is_dying_is_given_back(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  struct taken t = take_while_held("refcount/nobody");
  assert_int_equal(t.asked, 1);
  assert_int_equal(t.refused, 0);
  assert_int_equal(t.count, 0);
  assert_int_equal(nodes_destroyed(), 1);
  puppet_stop(&owner);
}

static struct gyre__objects *owner_slot;
static void makes_garbage(void *arg) {
  (void)arg;
  owner_slot = (struct gyre__objects *)gyre__self;
  test_window_subject();
  ring_drop(&node_type, 3);
  gyre__young_collect((struct gyre__objects *)gyre__self, true);
}

/* While it looks, it has the lock that the walk is about to take. */
static void let_the_look_go(void *arg) {
  TEST_REQUIRE(!gyre__lock_try(&owner_slot->look_lock));
  let_go(arg);
}

static void owner_looks(void *arg) {
  (void)arg;
  puppet_begin(&owner, makes_garbage, NULL);
  test_window_await();
  test_window_call("walk/locking", 1, let_the_look_go, NULL);
}

/* A thread has decided what of its young objects is garbage: we may not count any of it then. */
static void what_a_look_finds_dead_is_refused(const char *window) {
  puppet_start(&owner);
  test_window_subject();
  test_window_hold(window, 1);
  test_window_call("walk/pinned", 1, owner_looks, NULL);
  struct taken t = take(&node_type);
  puppet_await(&owner);
  assert_int_equal(t.count, 0);
  assert_int_equal(nodes_destroyed(), 3);
  puppet_stop(&owner);
}

static void what_a_step_finds_dead_is_refused(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  what_a_look_finds_dead_is_refused("young/flags");
}

static void what_a_step_takes_apart_is_refused(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  what_a_look_finds_dead_is_refused("young/local_zero");
}

static void looks(void *arg) {
  (void)arg;
  gyre__young_collect((struct gyre__objects *)gyre__self, true);
}
static void makes_ring(void *arg) { *(node **)arg = ring_new(&node_type, 3); }
static uint64_t young_collections(void) {
  struct gyre_gc_stats stats = {.size = sizeof stats};
  TEST_REQUIRE(gyre_gc_get_stats(0, &stats) == 0);
  return stats.collections;
}
static uint64_t looked;
static void owner_tries_to_look(void *arg) {
  (void)arg;
  uint64_t before = young_collections();
  puppet_run(&owner, releases, victim);
  puppet_run(&owner, looks, NULL);
  looked = young_collections() - before;
}

/* One of a ring has been counted, the others have not. */
static void nobody_looks_while_a_walk_counts(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  puppet_start(&owner);
  puppet_run(&owner, makes_ring, &victim);
  test_window_subject();
  test_window_call("walk/taken", 1, owner_tries_to_look, NULL);
  struct taken t = take(&node_type);
  assert_int_equal(looked, 0);
  assert_int_equal(t.count, 3);
  assert_int_equal(nodes_destroyed(), 0);
  for (unsigned i = 0; i < t.count; i++)
    gyre_release(t.object[i]);
  puppet_run(&owner, passes, NULL);
  assert_int_equal(gyre_gc_collect(2), 3);
  puppet_stop(&owner);
}

/* Garbage whose death runs program code is taken apart later than the rest. */
static struct taken taken_in_destroy;
static void take_in_destroy(void *arg) {
  (void)arg;
  taken_in_destroy = take(&node_type);
}
static struct puppet walker;
static test_flag walked;
static void walk_from_destroy(node *n) {
  (void)n;
  if (test_flag_add(&walked, 1) != 1) return;
  puppet_run_parked(&walker, take_in_destroy, NULL);
}

static void garbage_that_waits_for_its_hook_is_not_shown(void **state) {
  (void)state;
  test_flag_set(&walked, 0);
  puppet_start(&walker);
  node_on_destroy = walk_from_destroy;
  ring_drop(&node_type, 5);
  gyre__young_collect(gyre__objects_self(), true);
  assert_int_equal(taken_in_destroy.count, 0);
  assert_int_equal(nodes_destroyed(), 5);
  puppet_stop(&walker);
}

/* ---- blocks stay as they are ---- */

static void *first_block, *second_block;
static void makes_first(void *arg) {
  (void)arg;
  first_block = node_new(&plain_type, 1);
  test_reuse_last();
}
static void frees_and_makes(void *arg) {
  (void)arg;
  gyre_release(first_block);
  numbers *other = gyre_new(&numbers_type);
  second_block = other;
  gyre_release(other);
}

static void churn_when_pinned(void *arg) {
  puppet_run(&walker, frees_and_makes, NULL);
  (void)arg;
}

static void makes_and_frees_and_makes(void *arg) {
  makes_first(arg);
  frees_and_makes(arg);
}
static void bear_when_pinned(void *arg) {
  (void)arg;
  puppet_run(&walker, makes_and_frees_and_makes, NULL);
}
static void walk_nothing(unsigned flags) {
  struct gyre__walk w;
  assert_int_equal(gyre__walk_begin(&w, gyre__objects_self(), flags), 0);
  gyre__walk_end(&w);
}

static void a_still_walk_keeps_young_blocks(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  puppet_start(&walker);
  puppet_run(&walker, makes_and_frees_and_makes, NULL);
  assert_ptr_equal(first_block, second_block);
  test_window_subject();
  for (unsigned still = 0; still < 2; still++) {
    puppet_run(&walker, makes_first, NULL);
    test_window_call("walk/pinned", 1, churn_when_pinned, NULL);
    walk_nothing(still ? GYRE__WALK_STILL : 0);
    assert_int_equal(first_block == second_block, !still);
  }
  /* What is born beside it does not wait. */
  test_window_call("walk/pinned", 1, bear_when_pinned, NULL);
  walk_nothing(GYRE__WALK_STILL);
  assert_ptr_equal(first_block, second_block);
  puppet_stop(&walker);
}

static void makes_a_ring(void *arg) {
  (void)arg;
  first_block = ring_new(&plain_type, 3);
}
static void drops_it_and_looks(void *arg) {
  (void)arg;
  gyre_release(first_block);
  gyre__young_collect((struct gyre__objects *)gyre__self, true);
  second_block = NULL;
  node *new[64];
  for (int i = 0; i < 64; i++) {
    new[i] = node_new(&plain_type, 0);
    if (new[i] == first_block) second_block = new[i];
  }
  for (int i = 0; i < 64; i++)
    gyre_release(new[i]);
}
static void look_when_pinned(void *arg) {
  puppet_run(&walker, drops_it_and_looks, NULL);
  (void)arg;
}

static void so_do_blocks_that_a_step_frees(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  puppet_start(&walker);
  test_window_subject();
  puppet_run(&walker, makes_a_ring, NULL);
  test_window_call("walk/pinned", 1, look_when_pinned, NULL);
  walk_nothing(GYRE__WALK_STILL);
  assert_null(second_block);
  puppet_stop(&walker);
}

static node *born;
static void bears(void *arg) {
  (void)arg;
  puppet_run(&walker, makes_one, &born);
}

static void what_is_born_beside_it_is_seen_by_the_next(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  puppet_start(&walker);
  test_window_subject();
  test_window_call("walk/pinned", 1, bears, NULL);
  assert_int_equal(tally(&node_type, GYRE__WALK_STILL).count, 0);
  /* The other is parked, and has not heard that it is over. */
  assert_int_equal(tally(&node_type, GYRE__WALK_STILL).count, 1);
  puppet_run(&walker, releases, born);
  puppet_stop(&walker);
}

/* ---- fork ---- */

static void walks_held(void *arg) {
  (void)arg;
  test_window_subject();
  struct taken t = take(&node_type);
  for (unsigned i = 0; i < t.count; i++)
    gyre_release(t.object[i]);
}

static void child_walks(void *arg) {
  (void)arg;
  test_window_clear();
  TEST_REQUIRE(tally(&node_type, GYRE__WALK_STILL).count >= 1);
  ring_drop(&node_type, 3);
  TEST_REQUIRE(gyre_gc_collect(2) == 3);
}

/* The walker is not there, and had a look_lock; its count is lost to the child. */
static void a_child_gives_up_a_walk(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  puppet_start(&walker);
  node *n = node_new(&node_type, 1);
  test_window_hold("walk/taken", 1);
  puppet_begin(&walker, walks_held, NULL);
  /* Passing safepoints: it waits for us. */
  TEST_AWAIT_SAFELY(test_window_is_held());
  pid_t child = test_fork(child_walks, NULL);
  test_window_release();
  puppet_await(&walker);
  assert_int_equal(test_child_wait(child), 0);
  gyre_release(n);
  puppet_stop(&walker);
}

/* ---- everything at once ---- */

#define CHURNERS 7
static test_flag stop_churn;
static GYRE_STATIC_OBJECT(node) shared_root = GYRE_STATIC_INIT(.tag = 0);

static void *churn(void *arg) {
  struct test_random random = test_random_new((uint64_t)(uintptr_t)arg);
  while (!test_flag_get(&stop_churn)) {
    switch (test_random_below(&random, 6)) {
    case 0:
      ring_drop(&node_type, 1 + test_random_below(&random, 5));
      break;
    case 1:
      gyre_release(chain_new(&plain_type, 1 + test_random_below(&random, 9)));
      break;
    case 2: {
      node *n = node_new(&node_type, 3);
      gyre_store(&shared_root.object.next, n);
      gyre_release(n);
      break;
    }
    case 3: {
      node *n = gyre_load(&shared_root.object.next);
      if (n != NULL) {
        node *m = node_new(&plain_type, 4);
        gyre_store(&n->other, m);
        gyre_release(m);
      }
      gyre_release(n);
      break;
    }
    case 4:
      gyre_release(gyre_new(&leaf_type));
      break;
    default: {
      numbers *k = gyre_new(&numbers_type);
      k->a = k->b = 0x123456789abcdef1;
      node *n = gyre_load(&shared_root.object.next);
      gyre_store(&k->slot, n);
      gyre_release(n);
      gyre_release(k);
    }
    }
    gyre_safepoint();
  }
  return NULL;
}

struct harvest {
  size_t count, room;
  void **object;
};

static int see_target(struct gyre__walk *w, void *target, size_t field, void *arg) {
  (void)field;
  struct gyre__page *page;
  uint32_t index;
  if (gyre__walk_find(w, target, &page, &index))
    TEST_REQUIRE(gyre__page_block(page, index) == (void *)gyre__header_of(target));
  else
    TEST_REQUIRE((void *)target != arg);
  return 0;
}

static int see_and_take(struct gyre__walk *w, gyre__header *h, struct gyre__page *page,
                        uint32_t index, void *arg) {
  struct harvest *s = arg;
  if (w->flags & GYRE__WALK_STILL)
    TEST_REQUIRE(gyre__walk_references(w, h, page, see_target, NULL) == 0);
  if (s->count < s->room && gyre__walk_take(w, h, page, index)) s->count++;
  return 0;
}

static int gather(struct gyre__walk *w, gyre__header *h, struct gyre__page *page, uint32_t index,
                  void *arg) {
  (void)w, (void)page, (void)index;
  struct harvest *s = arg;
  s->object[s->count++] = gyre__object_of(h);
  return 0;
}

static void many_threads_beside_walks(void **state) {
  (void)state;
  assert_int_equal(GYRE_STATIC_REGISTER(&shared_root, &node_type), 0);
  test_flag_set(&stop_churn, 0);
  pthread_t threads[CHURNERS];
  for (uintptr_t i = 0; i < CHURNERS; i++)
    threads[i] = test_thread_start(churn, (void *)(i + 1));
  enum { ROOM = 100000 };
  void **objects = malloc(ROOM * sizeof *objects);
  uint64_t rounds = test_size("GYRE_WALKS", 100, 60, 30);
  for (uint64_t r = 0; r < rounds; r++) {
    struct harvest s = {.room = ROOM, .object = objects};
    struct gyre__walk w;
    unsigned flags = r % 2 ? GYRE__WALK_LEAVES : GYRE__WALK_STILL;
    TEST_REQUIRE(gyre__walk_begin(&w, gyre__objects_self(), flags) == 0);
    TEST_REQUIRE(gyre__walk_objects(&w, see_and_take, &s) == 0);
    size_t most = s.count;
    s.count = 0;
    gyre__walk_settle(&w, gather, &s);
    gyre__walk_end(&w);
    TEST_REQUIRE(s.count <= most);
    /* What was taken is whole: it can be used as any object. */
    for (size_t i = 0; i < s.count; i++) {
      const gyre_type *type = gyre_type_of(s.object[i]);
      if (type == &node_type || type == &plain_type) {
        node *next = gyre_load(&((node *)s.object[i])->next);
        gyre_release(next);
      }
      gyre_release(s.object[i]);
    }
    if (r % 8 == 0) gyre_gc_collect(1);
  }
  test_flag_set(&stop_churn, 1);
  for (int i = 0; i < CHURNERS; i++)
    test_thread_join(threads[i]);
  free(objects);
  gyre_clear(&shared_root.object.next);
  gyre_clear(&shared_root.object.other);
  (void)gyre_gc_collect(2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(a_walk_sees_every_kind_of_object),
      NODE_TEST(it_sees_other_threads_parked_ones_and_the_dead_ones),
      NODE_TEST(a_pass_ends_when_it_is_told),
      NODE_TEST(there_is_none_inside_a_collection),
      NODE_TEST(without_memory_there_is_none_and_nothing_has_changed),
      NODE_TEST(references_have_fields),
      NODE_TEST(what_is_taken_is_counted),
      NODE_TEST(a_leaf_is_taken_too),
      NODE_TEST_WITH(an_owner_that_looks_after_our_count_sees_it, "gc:0,gc_mode:concurrent"),
      NODE_TEST_WITH(an_object_that_is_dying_is_given_back, "gc:0,gc_mode:concurrent"),
      NODE_TEST_WITH(what_a_step_finds_dead_is_refused, "gc:0,gc_mode:concurrent"),
      NODE_TEST_WITH(what_a_step_takes_apart_is_refused, "gc:0,gc_mode:concurrent"),
      NODE_TEST_WITH(nobody_looks_while_a_walk_counts, "gc:0,gc_mode:concurrent"),
      NODE_TEST(garbage_that_waits_for_its_hook_is_not_shown),
      NODE_TEST_WITH(a_still_walk_keeps_young_blocks, "gc:0,gc_mode:concurrent"),
      NODE_TEST_WITH(so_do_blocks_that_a_step_frees, "gc:0,gc_mode:concurrent"),
      NODE_TEST_WITH(what_is_born_beside_it_is_seen_by_the_next, "gc:0,gc_mode:concurrent"),
      NODE_TEST_WITH(a_child_gives_up_a_walk, "gc:0,gc_mode:concurrent"),
      NODE_TEST_WITH(many_threads_beside_walks, "gc:1"),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
