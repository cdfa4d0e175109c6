/* SPDX-License-Identifier: MIT */
/* A collection beside the program, held at one place after the other while a thread does what is
 * dangerous there.
 *
 * The stage: `collector` is a thread that collects and that windows hold. `actor` runs all the time and
 * passes safepoints, so that it has each mode as soon as it is asked, and does what the test tells it
 * in between, with the mode it has. Main plays the program's other threads: parked or running. */
#include "lib/thread/thread.h"
#include "tests/support/node.h"
#include "tests/support/puppet.h"
#include "tests/support/window.h"

static uint32_t state_of(struct gyre__thread *slot) {
  /* seq_cst: pairs with state_set() in lib/thread. */
  return gyre__load_seq_cst(&slot->state) & GYRE__SLOT_STATE;
}

/* ---- the actor ---- */

static struct {
  struct puppet puppet;
  puppet_fn *fn;
  void *arg;
  test_flag told, done;
} actor;

static void acts(void *arg) {
  (void)arg;
  for (uint32_t done = 0;;) {
    uint32_t told = test_flag_get(&actor.told);
    if (told != done) {
      if (actor.fn == NULL) return;
      actor.fn(actor.arg);
      test_flag_set(&actor.done, done = told);
    }
    gyre_safepoint();
    (void)sched_yield();
  }
}

static void actor_start(void) {
  gyre_thread_attach();
  test_flag_set(&actor.told, 0);
  test_flag_set(&actor.done, 0);
  puppet_start(&actor.puppet);
  puppet_begin(&actor.puppet, acts, NULL);
}

static void actor_tell(puppet_fn *fn, void *arg) {
  actor.fn = fn;
  actor.arg = arg;
  test_flag_add(&actor.told, 1);
}

static bool actor_has_done(void) {
  return test_flag_get(&actor.done) == test_flag_get(&actor.told);
}

/* Has it run the function. Passes no safepoint, so the actor passes none but its own. */
static void actor_do(puppet_fn *fn, void *arg) {
  actor_tell(fn, arg);
  TEST_AWAIT(actor_has_done());
}

static void actor_stop(void) {
  actor_tell(NULL, NULL);
  puppet_await(&actor.puppet);
  puppet_stop(&actor.puppet);
}

/* ---- the collector ---- */

static struct puppet collector;
static ptrdiff_t found;

static void becomes_subject(void *arg) {
  (void)arg;
  test_window_subject();
}

static void collects(void *arg) { found = gyre_gc_collect(*(int *)arg); }

static int full = 2;

static void stage_begin(void) {
  gyre_thread_attach();
  puppet_start(&collector);
  puppet_run_parked(&collector, becomes_subject, NULL);
  actor_start();
}

static void stage_end(void) {
  actor_stop();
  puppet_stop(&collector);
}

/* Main waits for the window so. */
enum presence { PARKED, RUNNING, PRESENCES };

static void await_window(enum presence presence) {
  if (presence == PARKED) GYRE_BLOCKING {
      test_window_await();
    }
  else
    TEST_AWAIT_SAFELY(test_window_is_held());
}

static void collection_begin(const char *window, unsigned nth) {
  test_window_hold(window, nth);
  puppet_begin(&collector, collects, &full);
}

/* What the collection has found. */
static ptrdiff_t collection_end(void) {
  test_window_release();
  puppet_await(&collector);
  return found;
}

/* From beginning to end without a stop. */
static ptrdiff_t collection(void) {
  puppet_begin(&collector, collects, &full);
  puppet_await(&collector);
  return found;
}

/* ---- windows ---- */

struct place {
  const char *window;
  unsigned nth;
};

/* The first proof: the second handshake is its beginning, the third its end. */
static const struct place places[] = {
    {"prove/cleared", 1}, {"mode/published", 2}, {"prove/counted", 1},
    {"prove/logged", 1},  {"mode/published", 3}, {"prove/condemning", 1},
};
#define PLACES (sizeof places / sizeof places[0])
/* The same after the finalizers. */
static const struct place second_places[] = {
    {"prove/cleared", 2}, {"mode/published", 4}, {"prove/counted", 2},
    {"prove/logged", 2},  {"mode/published", 5}, {"prove/condemning", 2},
};

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

/* ---- live objects that are taken for garbage at first ----
 *
 *     gate (visit) --> cell --> suspect --> ring of 3
 *                                  ^----------|
 *
 * The collector has counted all these edges, and is just about to follow them, when the actor takes
 * the suspect out of the cell and keeps it in its hand: nothing but the hand keeps it and the ring
 * alive, and the collector has found neither. Then, at one of the windows, the actor takes the ring
 * out of the suspect and drops the suspect. Before the look at the counts all of them agree. */

typedef struct gate {
  node *cell;
} gate;

static gate *entrance;
static unsigned gate_visits;
static node *hand; /* the actor's */
static node *suspect;
static node *holder;

static void takes_suspect(void *arg) {
  (void)arg;
  hand = gyre_take(&entrance->cell->next);
  TEST_REQUIRE(hand == suspect);
}

static int gate_visit(void *object, gyre_visitor *visitor, void *arg) {
  /* The second time: the edges have been counted, and the gate is found alive. */
  if (++gate_visits == 2) actor_do(takes_suspect, NULL);
  return visitor(((gate *)object)->cell, arg);
}
static void gate_clear(void *object) { gyre_release(((gate *)object)->cell); }
static GYRE_TYPE_DEFINE(gate_type, gate, .visit = gate_visit, .clear = gate_clear);

/* A suspect whose reference is under its lock. */
typedef struct box {
  node *content;
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

/* What the actor does with the suspect in its hand; afterwards it holds the ring there, or `holder`
 * does. */
static void drops_suspect(void) { gyre_release(hand); }

static void by_take(void *arg) {
  (void)arg;
  node *ring = gyre_take(&hand->next);
  drops_suspect();
  hand = ring;
}
static void by_load(void *arg) {
  (void)arg;
  node *ring = gyre_load(&hand->next);
  gyre_clear(&hand->next);
  drops_suspect();
  hand = ring;
}
static void by_swap(void *arg) {
  (void)arg;
  node *ring = gyre_swap(&hand->next, node_new(&node_type, 77));
  drops_suspect();
  hand = ring;
}
static void by_exchange(void *arg) {
  (void)arg;
  node *ring = gyre_load(&hand->next);
  TEST_REQUIRE(gyre_compare_exchange(&hand->next, ring, NULL));
  drops_suspect();
  hand = ring;
}
static void by_store(void *arg) {
  (void)arg;
  holder = node_new(&plain_type, 0);
  node *ring = gyre_load(&hand->next);
  gyre_store(&holder->next, ring);
  gyre_release(ring);
  gyre_clear(&hand->next);
  drops_suspect();
  hand = NULL;
}
static void by_move(void *arg) {
  (void)arg;
  holder = node_new(&plain_type, 0);
  gyre_release(gyre_swap(&holder->next, gyre_take(&hand->next)));
  drops_suspect();
  hand = NULL;
}
static void by_weak(void *arg) {
  (void)arg;
  node *ring = gyre_load(&hand->next);
  gyre_weak *weak = gyre_weak_new(ring, NULL, NULL);
  gyre_release(ring);
  gyre_clear(&hand->next);
  drops_suspect();
  hand = gyre_weak_get(weak);
  TEST_REQUIRE(hand == ring);
  gyre_weak_free(weak);
}
static void after_park(void *arg) {
  GYRE_BLOCKING { (void)sched_yield(); }
  by_take(arg);
}
static void before_park(void *arg) {
  by_take(arg);
  GYRE_BLOCKING { (void)sched_yield(); }
}

static void *moves_to_holder(void *arg) {
  (void)arg;
  node *ring = gyre_take(&hand->next);
  drops_suspect();
  hand = NULL;
  node *mine = node_new(&plain_type, 0);
  gyre_release(gyre_swap(&mine->next, ring));
  holder = mine;
  return NULL;
}
/* By a thread that attaches and exits. */
static void by_another_thread(void *arg) {
  (void)arg;
  pthread_t thread = test_thread_start(moves_to_holder, NULL);
  TEST_REQUIRE(pthread_join(thread, NULL) == 0);
}
/* Plain code moves the reference, under the lock. */
static void by_lock(void *arg) {
  (void)arg;
  box *b = (box *)(void *)hand;
  gyre_lock(b);
  node *ring = b->content;
  b->content = NULL;
  gyre_unlock(b);
  drops_suspect();
  hand = ring;
}
static void keeps_it(void *arg) { (void)arg; }

static void is_alive_in_hand(void *arg) {
  (void)arg;
  node *ring = hand != NULL ? gyre_retain(hand) : gyre_load(&holder->next);
  if (ring == suspect) {
    node *at = gyre_load(&ring->next);
    gyre_release(ring);
    ring = at;
  }
  ring_is_whole(ring, 3);
  gyre_release(ring);
}

static void drops_hand(void *arg) {
  (void)arg;
  gyre_release(hand);
  gyre_release(holder);
  hand = holder = NULL;
}

static const struct way {
  puppet_fn *fn;
  gyre_type *type; /* the suspect's */
} ways[] = {
    {by_take, &node_type},     {by_load, &node_type},     {by_swap, &node_type},
    {by_exchange, &node_type}, {by_store, &node_type},    {by_move, &node_type},
    {by_weak, &node_type},     {by_lock, &box_type},      {keeps_it, &node_type},
    {after_park, &node_type},  {before_park, &node_type}, {by_another_thread, &node_type},
};
#define WAYS (sizeof ways / sizeof ways[0])

static void set_up_suspect(void *type) {
  node *ring = ring_new(&node_type, 3);
  suspect = node_new(type, 0);
  node *last = gyre_load(&ring->next);
  gyre_store(&last->other, suspect); /* the suspect is in a cycle, too */
  gyre_release(last);
  if (type == &box_type)
    ((box *)(void *)suspect)->content = ring;
  else
    gyre_release(gyre_swap(&suspect->next, ring));
  node *cell = node_new(&plain_type, 0);
  gyre_release(gyre_swap(&cell->next, suspect));
  entrance = gyre_new(&gate_type);
  TEST_REQUIRE(entrance != NULL);
  entrance->cell = cell;
  hand = holder = NULL;
}

/* Who makes the objects: a thread that is gone leaves them to who attaches next. */
enum owner { MAIN, ACTOR, NOBODY, OWNERS };

static void *sets_up_suspect(void *type) {
  set_up_suspect(type);
  return NULL;
}

static void owner_sets_up(enum owner who, gyre_type *type) {
  gate_visits = 1000; /* not now */
  if (who == ACTOR)
    actor_do(set_up_suspect, type);
  else if (who == NOBODY)
    test_thread_run(sets_up_suspect, type);
  else
    set_up_suspect(type);
  /* They are old, and in no page that was looked at. */
  assert_int_equal(gyre_gc_collect(2), 0);
  gate_visits = 0;
}

static void releases(void *object) { gyre_release(object); }

/* One scene. */
static void play(const struct place *place, const struct way *way, enum owner who,
                 enum presence presence) {
  uint64_t before = nodes_destroyed();
  owner_sets_up(who, way->type);
  collection_begin(place->window, place->nth);
  await_window(presence);
  assert_ptr_equal(hand, suspect);
  actor_do(way->fn, NULL);
  if (presence == RUNNING) gyre_safepoint(); /* merges what is queued */
  assert_int_equal(collection_end(), 0);
  actor_do(is_alive_in_hand, NULL);
  assert_int_equal(collection(), 0);
  actor_do(is_alive_in_hand, NULL);
  actor_do(drops_hand, NULL);
  gyre_safepoint();
  /* What had been taken for garbage and was not is found when it is. */
  gyre_gc_collect(2);
  uint64_t expected = (way->type == &node_type ? 4u : 3u) + (way->fn == by_swap);
  assert_int_equal(nodes_destroyed() - before, expected);
  if (who == ACTOR)
    actor_do(releases, entrance);
  else
    gyre_release(entrance);
  gyre_gc_collect(2);
}

static void play_everything(enum presence presence) {
  stage_begin();
  for (size_t p = 0; p < PLACES; p++)
    for (size_t w = 0; w < WAYS; w++)
      for (enum owner who = MAIN; who < OWNERS; who++)
        play(&places[p], &ways[w], who, presence);
  stage_end();
}

static void what_is_taken_out_of_a_suspect_lives_wherever_the_collector_is(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  play_everything(PARKED);
}

/* If it is the owner who runs, dropping its objects asks it to merge. */
static void what_is_taken_out_lives_while_its_owner_is_asked_to_merge(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  play_everything(RUNNING);
}

/* ---- the last count ---- */

static uintptr_t gone[4];
static node *fresh[500];

static void drops_suspect_and_allocates(void *arg) {
  (void)arg;
  node *ring = gyre_load(&hand->next), *at = ring;
  gone[3] = (uintptr_t)hand;
  for (int i = 0; i < 3; i++) {
    gone[i] = (uintptr_t)at;
    at = at->next.gyre__slot.gyre__ref.gyre__value;
  }
  gyre_clear(&ring->next); /* no cycle any more: all of it dies by its counts */
  gyre_release(ring);
  gyre_release(hand);
  hand = NULL;
  for (size_t i = 0; i < sizeof fresh / sizeof fresh[0]; i++) {
    fresh[i] = node_new(&plain_type, i);
    for (int g = 0; g < 4; g++)
      TEST_REQUIRE((uintptr_t)fresh[i] != gone[g]);
  }
}

static void drops_fresh(void *arg) {
  (void)arg;
  for (size_t i = 0; i < sizeof fresh / sizeof fresh[0]; i++) {
    TEST_REQUIRE(fresh[i]->tag == i);
    gyre_release(fresh[i]);
  }
}

static void the_blocks_of_suspects_that_die_are_not_used_before_the_end(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  stage_begin();
  for (size_t p = 0; p < PLACES; p++) {
    for (enum owner who = MAIN; who < OWNERS; who++) {
      uint64_t before = nodes_destroyed();
      owner_sets_up(who, &node_type);
      collection_begin(places[p].window, places[p].nth);
      await_window(PARKED);
      actor_do(drops_suspect_and_allocates, NULL);
      gyre_safepoint();
      assert_int_equal(nodes_destroyed() - before, 4);
      assert_int_equal(collection_end(), 0);
      actor_do(drops_fresh, NULL);
      gyre__heap_check();
      gyre_release(entrance);
      gyre_gc_collect(2);
      assert_int_equal(nodes_destroyed() - before, 4);
    }
  }
  stage_end();
}

/* ---- weak references ---- */

static gyre_weak *weak[2];

/* A ring of two, with weak references to both. Garbage. */
static void set_up_weak(void *type) {
  node *ring = ring_new(type, 2), *second = gyre_load(&ring->next);
  weak[0] = gyre_weak_new(ring, NULL, NULL);
  weak[1] = gyre_weak_new(second, NULL, NULL);
  TEST_REQUIRE(weak[0] != NULL && weak[1] != NULL);
  gyre_release(second);
  gyre_release(ring);
}

static void upgrades(void *number) {
  hand = gyre_weak_get(weak[(uintptr_t)number]);
  if (hand != NULL) ring_is_whole(hand, 2);
}
/* Nothing is held any more when the collector looks. */
static void upgrades_and_drops(void *number) {
  upgrades(number);
  drops_hand(NULL);
}
static void upgrades_and_goes_on(void *number) {
  upgrades(number);
  node *next = gyre_load(&hand->next);
  gyre_release(hand);
  hand = next;
}

static void ring_in_hand_is_whole(void *arg) {
  (void)arg;
  ring_is_whole(hand, 2);
}

static void weak_free_all(void) {
  assert_true(gyre_weak_is_dead(weak[0]));
  assert_true(gyre_weak_is_dead(weak[1]));
  gyre_weak_free(weak[0]);
  gyre_weak_free(weak[1]);
}

static void who_is_upgraded_lives_wherever_the_collector_is(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  stage_begin();
  static puppet_fn *const upgrade[] = {upgrades, upgrades_and_goes_on, upgrades_and_drops};
  for (size_t p = 0; p < PLACES; p++)
    for (int u = 0; u < 3; u++)
      for (uintptr_t number = 0; number < 2; number++) {
        uint64_t before = nodes_destroyed();
        if (number == 0)
          actor_do(set_up_weak, &node_type);
        else
          set_up_weak(&node_type);
        collection_begin(places[p].window, places[p].nth);
        await_window(PARKED);
        actor_do(upgrade[u], (void *)number);
        if (hand == NULL) {
          /* Whether this collection takes it for garbage is its business. */
          (void)collection_end();
        } else {
          assert_int_equal(collection_end(), 0);
          assert_int_equal(nodes_destroyed(), before);
          assert_false(gyre_weak_is_dead(weak[0]));
          assert_false(gyre_weak_is_dead(weak[1]));
          actor_do(ring_in_hand_is_whole, NULL);
          assert_int_equal(collection(), 0);
          actor_do(ring_in_hand_is_whole, NULL);
          actor_do(drops_hand, NULL);
        }
        gyre_gc_collect(2);
        assert_int_equal(nodes_destroyed() - before, 2);
        weak_free_all();
      }
  stage_end();
}

/* The collector has locked one of the two; the other one can still be upgraded, and then both live. */
static node *upgraded[2];
static test_flag upgrades_done;

static void *upgrades_one(void *number) {
  upgraded[(uintptr_t)number] = gyre_weak_get(weak[(uintptr_t)number]);
  test_flag_add(&upgrades_done, 1);
  return NULL;
}

static void an_upgrade_of_one_member_saves_those_that_are_locked(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  stage_begin();
  set_up_weak(&node_type);
  test_flag_set(&upgrades_done, 0);
  collection_begin("prove/weak_locked", 1);
  await_window(PARKED);
  pthread_t threads[2];
  for (uintptr_t i = 0; i < 2; i++)
    threads[i] = test_thread_start(upgrades_one, (void *)i);
  TEST_AWAIT(test_flag_get(&upgrades_done) == 1);
  assert_int_equal(collection_end(), 0);
  for (int i = 0; i < 2; i++) {
    test_thread_join(threads[i]);
    assert_non_null(upgraded[i]);
    ring_is_whole(upgraded[i], 2);
  }
  assert_int_equal(nodes_destroyed(), 0);
  for (int i = 0; i < 2; i++)
    gyre_release(upgraded[i]);
  gyre_gc_collect(2);
  assert_int_equal(nodes_destroyed(), 2);
  weak_free_all();
  stage_end();
}

static void upgrades_that_come_when_all_are_locked_get_nothing(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  stage_begin();
  set_up_weak(&node_type);
  test_flag_set(&upgrades_done, 0);
  collection_begin("prove/weak_locked", 2);
  await_window(PARKED);
  pthread_t threads[2];
  for (uintptr_t i = 0; i < 2; i++)
    threads[i] = test_thread_start(upgrades_one, (void *)i);
  for (int i = 0; i < 1000; i++)
    (void)sched_yield();
  assert_int_equal(test_flag_get(&upgrades_done), 0);
  assert_int_equal(collection_end(), 2);
  for (int i = 0; i < 2; i++) {
    test_thread_join(threads[i]);
    assert_null(upgraded[i]);
  }
  assert_int_equal(nodes_destroyed(), 2);
  weak_free_all();
  stage_end();
}

/* ---- after the finalizers ---- */

static int saves(node *n) {
  if (n->tag == 0) gyre_store(&holder->next, n);
  return 0;
}

static void takes_saved(void *arg) {
  (void)arg;
  hand = gyre_take(&holder->next);
  ring_is_whole(hand, 3);
}
static void loads_saved(void *arg) {
  (void)arg;
  hand = gyre_load(&holder->next);
  gyre_clear(&holder->next);
}
static void moves_saved(void *arg) {
  (void)arg;
  gyre_release(gyre_swap(&holder->other, gyre_take(&holder->next)));
}
static void drops_saved(void *arg) {
  (void)arg;
  gyre_clear(&holder->next);
}
static void takes_second(void *arg) {
  (void)arg;
  node *first = gyre_load(&holder->next);
  hand = gyre_take(&first->next);
  gyre_release(first);
  gyre_store(&hand->other, first);
}
static void opens_ring(void *arg) {
  (void)arg;
  node *first = gyre_take(&holder->next);
  gyre_clear(&first->next);
  gyre_release(first); /* the collector has it in its hands */
}

static void make_holder(void *arg) {
  (void)arg;
  holder = node_new(&plain_type, 0);
}

static void what_finalizers_save_lives_wherever_the_collector_is(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  static const struct {
    puppet_fn *fn;
    bool lives;
  } deeds[] = {{takes_saved, true},  {loads_saved, true},  {moves_saved, true},
               {drops_saved, false}, {takes_second, true}, {opens_ring, false}};
  stage_begin();
  for (size_t p = 0; p < PLACES; p++)
    for (size_t d = 0; d < sizeof deeds / sizeof deeds[0]; d++)
      for (int actors = 0; actors < 2; actors++) {
        uint64_t before = nodes_destroyed(), finalized = nodes_finalized();
        if (actors)
          actor_do(make_holder, NULL);
        else
          make_holder(NULL);
        hand = NULL;
        node_on_finalize = saves;
        ring_drop(&finalized_type, 3);
        collection_begin(second_places[p].window, second_places[p].nth);
        await_window(PARKED);
        assert_int_equal(nodes_finalized() - finalized, 3);
        assert_int_equal(nodes_destroyed(), before);
        actor_do(deeds[d].fn, NULL);
        gyre_safepoint();
        ptrdiff_t result = collection_end();
        if (deeds[d].lives) {
          assert_int_equal(result, 0);
          assert_int_equal(nodes_destroyed(), before);
          if (hand != NULL && deeds[d].fn != takes_second) ring_is_whole(hand, 3);
        }
        actor_do(drops_hand, NULL);
        gyre_safepoint();
        gyre_gc_collect(2);
        assert_int_equal(nodes_destroyed() - before, 3);
        assert_int_equal(nodes_finalized() - finalized, 3);
      }
  stage_end();
}

/* ---- threads that come and go ---- */

static void *lives_shortly(void *arg) {
  (void)arg;
  ring_drop(&node_type, 2);
  node *ring = ring_new(&node_type, 3);
  GYRE_BLOCKING { (void)sched_yield(); }
  ring_is_whole(ring, 3);
  gyre_release(gyre_swap(&holder->next, ring));
  return NULL;
}

static const struct place all_places[] = {
    {"mode/published", 1}, {"prove/cleared", 1},  {"mode/published", 2},  {"prove/counted", 1},
    {"prove/logged", 1},   {"mode/published", 3}, {"prove/condemning", 1}};
#define ALL_PLACES (sizeof all_places / sizeof all_places[0])

static void threads_may_attach_and_exit_wherever_the_collector_is(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  stage_begin();
  holder = node_new(&plain_type, 0);
  uint64_t garbage = 0;
  for (size_t p = 0; p < ALL_PLACES; p++) {
    ring_drop(&node_type, 4); /* so that there is something to prove */
    collection_begin(all_places[p].window, all_places[p].nth);
    await_window(PARKED);
    test_thread_run(lives_shortly, NULL);
    test_thread_run(lives_shortly, NULL);
    assert_true(collection_end() >= 4);
    garbage += 4 + 2 * 2 + 3;
    node *ring = gyre_load(&holder->next);
    ring_is_whole(ring, 3);
    gyre_release(ring);
    gyre_clear(&holder->next);
    gyre_gc_collect(2);
    garbage += 3;
    assert_int_equal(nodes_destroyed(), garbage);
  }
  gyre_release(holder);
  holder = NULL;
  stage_end();
}

/* ---- threads that wake up while the collector publishes a mode ---- */

static test_event asleep = TEST_EVENT_INIT, awake = TEST_EVENT_INIT;

static struct gyre__thread *sleeper_slot;

static void *sleeps_with_garbage(void *arg) {
  (void)arg;
  ring_drop(&node_type, 5);
  sleeper_slot = gyre__thread_current();
  GYRE_BLOCKING {
    test_event_set(&asleep);
    test_event_wait(&awake);
  }
  TEST_AWAIT_SAFELY(test_flag_get(&upgrades_done));
  return NULL;
}

static void who_wakes_up_while_a_mode_is_published_hands_its_young_objects_over(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  stage_begin();
  for (int i = 0; i < 2; i++) {
    uint64_t before = nodes_destroyed();
    test_flag_set(&upgrades_done, 0);
    test_event_reset(&asleep);
    test_event_reset(&awake);
    pthread_t sleeper = test_thread_start(sleeps_with_garbage, NULL);
    test_event_wait_parked(&asleep);
    collection_begin("mode/published", 1);
    await_window(PARKED);
    if (i == 0) {
      test_event_set(&awake);
      TEST_AWAIT(state_of(sleeper_slot) == GYRE__SLOT_RUNNING);
    }
    assert_int_equal(collection_end(), 5);
    assert_int_equal(nodes_destroyed() - before, 5);
    test_event_set(&awake);
    test_flag_set(&upgrades_done, 1);
    test_thread_join(sleeper);
  }
  stage_end();
}

/* ---- fork ---- */

static void in_the_child(void *arg) {
  (void)arg;
  uint64_t before = nodes_destroyed();
  ring_is_whole(holder->next.gyre__slot.gyre__ref.gyre__value, 3);
  ring_drop(&node_type, 3);
  TEST_REQUIRE(gyre_gc_collect(2) >= 3);
  TEST_REQUIRE(nodes_destroyed() >= before + 3);
  gyre_clear(&holder->next);
  TEST_REQUIRE(gyre_gc_collect(2) == 3);
}

static pid_t child;

static struct gyre__thread *forker_slot;
static test_flag forking;

static void forks(void *arg) {
  forker_slot = gyre__thread_current();
  test_flag_set(&forking, 1);
  child = test_fork(in_the_child, arg);
}

/* It is on its way, and has to wait for the collector's lock. */
static bool forker_waits(void) {
  return test_flag_get(&forking) && state_of(forker_slot) == GYRE__SLOT_PARKED;
}

static void a_fork_waits_for_the_collection(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  stage_begin();
  struct puppet forker;
  puppet_start(&forker);
  holder = node_new(&plain_type, 0);
  gyre_release(gyre_swap(&holder->next, ring_new(&node_type, 3)));
  for (size_t p = 0; p < ALL_PLACES; p++) {
    ring_drop(&node_type, 4);
    collection_begin(all_places[p].window, all_places[p].nth);
    await_window(PARKED);
    test_flag_set(&forking, 0);
    puppet_begin(&forker, forks, NULL);
    TEST_AWAIT_SAFELY(forker_waits());
    assert_int_equal(collection_end(), 4);
    puppet_await(&forker);
    assert_int_equal(test_child_wait(child), 0);
  }
  gyre_release(holder);
  holder = NULL;
  gyre_gc_collect(2);
  puppet_stop(&forker);
  stage_end();
}

/* One that does not end is not waited for for ever: the child gives it up. */
static void a_fork_in_the_middle_of_a_collection_leaves_a_child_that_collects(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  stage_begin();
  struct puppet forker;
  puppet_start(&forker);
  holder = node_new(&plain_type, 0);
  gyre_release(gyre_swap(&holder->next, ring_new(&node_type, 3)));
  static const struct place held[] = {
      {"prove/cleared", 1}, {"prove/counted", 1}, {"prove/condemning", 1}};
  for (size_t p = 0; p < 3; p++) {
    ring_drop(&node_type, 4);
    collection_begin(held[p].window, held[p].nth);
    await_window(PARKED);
    puppet_begin(&forker, forks, NULL);
    puppet_await(&forker);
    assert_int_equal(test_child_wait(child), 0);
    assert_int_equal(collection_end(), 4);
  }
  gyre_release(holder);
  holder = NULL;
  gyre_gc_collect(2);
  puppet_stop(&forker);
  stage_end();
}

/* ---- helpers ---- */

static struct puppet helper;
static test_flag held_up, go_on;
static bool helped;
static gyre__atomic_u32 holdups;

/* Some deaths take long: the first of the collector's, and perhaps one of the helper's. */
static void takes_long(node *n) {
  (void)n;
  /* relaxed: a number of one's own. */
  uint32_t mine = gyre__fetch_add_relaxed(&holdups, 1) + 1;
  if (mine != 1) return;
  test_flag_set(&held_up, 1);
  TEST_AWAIT(test_flag_get(&go_on));
}

static void helps(void *arg) {
  (void)arg;
  helped = gyre__dead_help(gyre__objects_self());
}

static void make_many_rings(void) {
  for (int i = 0; i < 2000; i++) {
    ring_drop(&node_type, 10);
    gyre_safepoint();
  }
}

static void stage_with_helper(void) {
  stage_begin();
  puppet_start(&helper);
  puppet_run_parked(&helper, becomes_subject, NULL);
  /* relaxed: nobody else counts yet. */
  gyre__store_relaxed(&holdups, 0);
  test_flag_set(&held_up, 0);
  test_flag_set(&go_on, 0);
  make_many_rings();
  node_on_destroy = takes_long;
  puppet_begin(&collector, collects, &full);
  TEST_AWAIT_SAFELY(test_flag_get(&held_up));
}

static void helpers_free_what_the_collector_has_condemned(void **state) {
  (void)state;
  stage_with_helper();
  /* The collector is in the middle of its first page; all others are the helper's. */
  uint64_t before = nodes_destroyed();
  unsigned pages = 0;
  do {
    puppet_run(&helper, helps, NULL);
    pages += helped;
  } while (helped);
  assert_true(pages > 1);
  assert_true(nodes_destroyed() - before > 10000);
  test_flag_set(&go_on, 1);
  puppet_await(&collector);
  assert_int_equal(found, 20000);
  assert_int_equal(nodes_destroyed(), 20000);
  puppet_run(&helper, helps, NULL);
  assert_false(helped);
  puppet_stop(&helper);
  stage_end();
}

static void the_collector_waits_for_its_helpers(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  stage_with_helper();
  test_window_hold("dead/helping", 1);
  puppet_begin(&helper, helps, NULL);
  await_window(PARKED);
  test_flag_set(&go_on, 1);
  /* The rest is freed without the helper, who has still its finger on the list. */
  TEST_AWAIT_SAFELY(nodes_destroyed() == 20000);
  await_parked(1);
  for (int i = 0; i < 1000; i++)
    (void)sched_yield();
  assert_int_equal(sem_trywait(&collector.done), -1);
  test_window_release();
  puppet_await(&helper);
  assert_false(helped);
  puppet_await(&collector);
  assert_int_equal(found, 20000);
  assert_int_equal(nodes_destroyed(), 20000);
  puppet_stop(&helper);
  stage_end();
}

static void a_page_in_a_helpers_hands_is_waited_for(void **state) {
  (void)state;
  stage_begin();
  puppet_start(&helper);
  make_many_rings();
  /* relaxed: nobody else counts yet. */
  gyre__store_relaxed(&holdups, 0);
  test_flag_set(&held_up, 0);
  test_flag_set(&go_on, 0);
  node_on_destroy = takes_long;
  puppet_begin(&collector, collects, &full);
  TEST_AWAIT_SAFELY(test_flag_get(&held_up));
  /* relaxed: the helper counts from the start, and is held up itself. */
  gyre__store_relaxed(&holdups, 0);
  test_flag_set(&held_up, 0);
  puppet_begin(&helper, helps, NULL);
  TEST_AWAIT_SAFELY(test_flag_get(&held_up));
  test_flag_set(&go_on, 1);
  puppet_await(&helper);
  assert_true(helped);
  puppet_await(&collector);
  assert_int_equal(found, 20000);
  assert_int_equal(nodes_destroyed(), 20000);
  puppet_stop(&helper);
  stage_end();
}

/* ---- a thread among its young objects, and another one with its hand in a slot ----
 *
 * `owner` has a ring, and `place`, which is everybody's, refers to it. */

static struct puppet owner;
static node *place, *first;

static void owner_makes(void *type) {
  first = ring_new(type, 3);
  gyre_release(gyre_swap(&place->next, first));
}
static void owner_clears_and_looks(void *arg) {
  (void)arg;
  gyre_clear(&place->next);
  gyre__young_collect(gyre__objects_self(), true);
}
static void owner_looks(void *arg) {
  (void)arg;
  gyre__young_collect(gyre__objects_self(), true);
}
static void owner_idles(void *arg) {
  (void)arg;
  gyre_safepoint();
}

static void young_stage_begin(void) {
  gyre_thread_attach();
  test_window_subject();
  puppet_start(&owner);
  puppet_run_parked(&owner, becomes_subject, NULL);
  place = node_new(&plain_type, 0);
}
static void young_stage_end(void) {
  gyre_release(place);
  puppet_stop(&owner);
}

static void runs_owner(void *fn) { puppet_run(&owner, (puppet_fn *)(uintptr_t)fn, NULL); }
#define FN(f) ((void *)(uintptr_t)(f))

static gyre_type *const young_types[] = {&plain_type, &node_type};

/* It has seen the reference, and counts it when the object is dead: finds that the slot has changed. */
static void who_counts_too_late_gets_nothing(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  young_stage_begin();
  for (int t = 0; t < 2; t++)
    for (int swap = 0; swap < 2; swap++) {
      uint64_t before = nodes_destroyed();
      puppet_run(&owner, owner_makes, young_types[t]);
      test_window_call(swap ? "slot/swap" : "slot/load", 1, runs_owner, FN(owner_clears_and_looks));
      node *n = swap ? gyre_take(&place->next) : gyre_load(&place->next);
      assert_null(n);
      puppet_run(&owner, owner_idles, NULL);
      /* The next ring may be born in a block that the late count has left a trace on, and then it is the
       * collector's. */
      gyre__heap_check();
      gyre_gc_collect(2);
      assert_int_equal(nodes_destroyed() - before, t == 0 ? 0 : 3);
    }
  young_stage_end();
}

/* It has counted, and not looked again yet, when the owner drops the ring and looks: this time the ring
 * is not the owner's business, whatever the other one finds. */
static void what_is_counted_in_time_is_left_to_the_collector(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  young_stage_begin();
  for (int swap = 0; swap < 2; swap++) {
    uint64_t before = nodes_destroyed();
    puppet_run(&owner, owner_makes, &node_type);
    test_window_call(swap ? "slot/published" : "slot/counted", 1, runs_owner,
                     FN(owner_clears_and_looks));
    node *n = swap ? gyre_swap(&place->next, NULL) : gyre_load(&place->next);
    assert_null(n);
    assert_int_equal(nodes_destroyed(), before);
    puppet_run_parked(&owner, owner_idles, NULL);
    assert_int_equal(gyre_gc_collect(2), 3);
    assert_int_equal(nodes_destroyed() - before, 3);
  }
  young_stage_end();
}

/* The owner is held between two of its steps, in the middle of the ring's death; the late counter counts
 * there, and takes it off when the owner is through. */
static const char *owner_window;

static void owner_is_held(void *arg) {
  (void)arg;
  test_window_hold(owner_window, 1);
  puppet_begin(&owner, owner_clears_and_looks, NULL);
  test_window_await();
}

static void owner_goes_on(void *arg) {
  (void)arg;
  test_window_release();
  while (sem_wait(&owner.done) != 0) {
  }
}

static void counts_then_owner_goes_on(void *arg) {
  owner_is_held(arg);
  test_window_call("slot/counted", 1, owner_goes_on, NULL);
}

static void who_counts_while_the_owner_looks_does_no_harm(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  static const char *const windows[] = {"young/edges", "young/flags", "young/local_zero"};
  young_stage_begin();
  for (int w = 0; w < 3; w++)
    for (int t = 0; t < 2; t++) {
      uint64_t before = nodes_destroyed();
      puppet_run(&owner, owner_makes, young_types[t]);
      owner_window = windows[w];
      test_window_call("slot/load", 1, counts_then_owner_goes_on, NULL);
      assert_null(gyre_load(&place->next));
      puppet_run_parked(&owner, owner_idles, NULL);
      gyre__heap_check();
      gyre_gc_collect(2);
      assert_int_equal(nodes_destroyed() - before, t == 0 ? 0 : 3);
    }
  young_stage_end();
}

/* `tower` is the owner's, young, unknown to anybody but main, to whom the owner lends it; the ring hangs
 * on it. Main takes the ring out while the owner is in the middle of its look. */
static node *tower;

static void owner_builds_tower(void *arg) {
  (void)arg;
  tower = node_new(&plain_type, 0);
  gyre_release(gyre_swap(&tower->next, ring_new(&node_type, 3)));
}
static void owner_drops_tower(void *arg) {
  (void)arg;
  gyre_release(tower);
}

static void main_takes(node **out) { *out = gyre_take(&tower->next); }
static void main_loads(node **out) { *out = gyre_load(&tower->next); }
static void main_moves(node **out) {
  *out = NULL;
  gyre_release(gyre_swap(&place->next, gyre_take(&tower->next)));
}
static void main_turns(node **out) {
  /* The ring is taken out, and comes back at the next of its nodes. */
  node *ring = gyre_take(&tower->next);
  gyre_store(&tower->next, (node *)ring->next.gyre__slot.gyre__ref.gyre__value);
  gyre_release(ring);
  *out = NULL;
}
static void main_upgrades(node **out) {
  node *ring = gyre_load(&tower->next);
  gyre_weak *w = gyre_weak_new(ring, NULL, NULL);
  gyre_release(ring);
  gyre_clear(&tower->next);
  *out = gyre_weak_get(w);
  gyre_weak_free(w);
}

static void what_is_taken_out_while_its_owner_looks_lives(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  static void (*const deeds[])(node **) = {main_takes, main_loads, main_moves, main_turns,
                                           main_upgrades};
  static const char *const windows[] = {"young/edges", "young/flags"};
  young_stage_begin();
  for (int w = 0; w < 2; w++)
    for (int d = 0; d < 5; d++) {
      uint64_t before = nodes_destroyed();
      puppet_run(&owner, owner_builds_tower, NULL);
      test_window_hold(windows[w], 1);
      puppet_begin(&owner, owner_looks, NULL);
      test_window_await();
      node *n;
      deeds[d](&n);
      test_window_release();
      while (sem_wait(&owner.done) != 0) {
      }
      node *ring = n != NULL                ? gyre_retain(n)
                   : deeds[d] == main_moves ? gyre_load(&place->next)
                                            : gyre_load(&tower->next);
      assert_int_equal(nodes_destroyed(), before);
      ring_is_whole(ring, 3);
      assert_int_equal(gyre_gc_collect(2), 0);
      ring_is_whole(ring, 3);
      gyre_clear(&place->next);
      gyre_release(n);
      puppet_run_parked(&owner, owner_drops_tower, NULL);
      gyre_safepoint();
      assert_int_equal(gyre_refcount(ring), 2);
      gyre_release(ring);
      puppet_run_parked(&owner, owner_idles, NULL);
      assert_int_equal(gyre_gc_collect(2), 3);
      assert_int_equal(nodes_destroyed() - before, 3);
    }
  young_stage_end();
}

/* ---- everything at random ---- */

static void *collects_forever(void *arg) {
  (void)arg;
  for (int i = 0; !test_flag_get(&go_on); i++)
    TEST_REQUIRE(gyre_gc_collect(i % 3) >= 0);
  return NULL;
}

/* The only reference from outside is in a slot, in main's hand, in another slot. */
static void a_ring_that_moves_all_the_time_lives(void **state) {
  (void)state;
  actor_start();
  test_flag_set(&go_on, 0);
  pthread_t thread = test_thread_start(collects_forever, NULL);
  place = node_new(&plain_type, 0);
  gyre_release(gyre_swap(&place->next, ring_new(&node_type, 3)));
  uint64_t rounds = test_size("GYRE_TEST_ROUNDS", 3000, 1000, 500);
  for (uint64_t i = 0; i < rounds; i++) {
    node *ring = gyre_take(&place->next);
    node *next = gyre_take(&ring->next); /* the chain next -> last -> ring */
    gyre_store(&ring->other, next);
    gyre_release(gyre_swap(&ring->next, next));
    gyre_clear(&ring->other);
    node *second = gyre_load(&ring->next);
    gyre_release(gyre_swap(&place->other, second));
    gyre_release(ring);
    gyre_safepoint();
    ring = gyre_take(&place->other);
    ring_is_whole(ring, 3);
    gyre_release(gyre_swap(&place->next, ring));
    if (i % 16 == 0) GYRE_BLOCKING {
        (void)sched_yield();
      }
  }
  test_flag_set(&go_on, 1);
  test_thread_join(thread);
  assert_int_equal(nodes_destroyed(), 0);
  gyre_release(place);
  gyre_gc_collect(2);
  assert_int_equal(nodes_destroyed(), 3);
  actor_stop();
}

#define BESIDE(name) NODE_TEST_WITH(name, "gc:0,gc_mode:concurrent")
#define BESIDE_SLOW(name) NODE_TEST_WITH(name, "gc:0,gc_mode:concurrent,slow_paths:1")

int main(void) {
  const struct CMUnitTest tests[] = {
      BESIDE(what_is_taken_out_of_a_suspect_lives_wherever_the_collector_is),
      BESIDE_SLOW(what_is_taken_out_of_a_suspect_lives_wherever_the_collector_is),
      BESIDE(what_is_taken_out_lives_while_its_owner_is_asked_to_merge),
      BESIDE(the_blocks_of_suspects_that_die_are_not_used_before_the_end),
      BESIDE(who_is_upgraded_lives_wherever_the_collector_is),
      BESIDE(an_upgrade_of_one_member_saves_those_that_are_locked),
      BESIDE(upgrades_that_come_when_all_are_locked_get_nothing),
      BESIDE(what_finalizers_save_lives_wherever_the_collector_is),
      BESIDE(threads_may_attach_and_exit_wherever_the_collector_is),
      BESIDE(who_wakes_up_while_a_mode_is_published_hands_its_young_objects_over),
      BESIDE(a_fork_waits_for_the_collection),
      BESIDE(a_fork_in_the_middle_of_a_collection_leaves_a_child_that_collects),
      BESIDE(helpers_free_what_the_collector_has_condemned),
      BESIDE(the_collector_waits_for_its_helpers),
      BESIDE(a_page_in_a_helpers_hands_is_waited_for),
      BESIDE(who_counts_too_late_gets_nothing),
      BESIDE(what_is_counted_in_time_is_left_to_the_collector),
      BESIDE(who_counts_while_the_owner_looks_does_no_harm),
      BESIDE(what_is_taken_out_while_its_owner_looks_lives),
      BESIDE(a_ring_that_moves_all_the_time_lives),
      NODE_TEST_WITH(a_ring_that_moves_all_the_time_lives, "gc:0,gc_mode:concurrent,yield_seed:5"),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
