/* SPDX-License-Identifier: MIT */
/* Random graphs against a model.
 *
 * Several players make objects of all kinds, link them, drop them, hand them to each other over a
 * board of slots that all may read, and collect, as a seed says. Each object has a number, and a
 * plain array says which number each of its slots holds. Only the player who made an object changes
 * its slots, and only a board cell's owner writes to it, so the array is exact although nothing
 * orders the players. Every round new threads take over the players, so that objects change owners
 * by inheritance, and the slots of threads that are gone hold live objects.
 *
 * After each round a full collection must have left exactly the objects that the model can reach;
 * each of the others must have been finalized and destroyed once. Some finalizers save their
 * object, which makes it a root of the model.
 *
 * It is meant to provoke: counts lost or doubled between owners, merges, loads and collections;
 * objects freed while somebody holds them; garbage that is never found; finalizers run twice or not
 * at all.
 *
 * GYRE_TEST_SEED chooses the sequence (with one player it is always the same), GYRE_TEST_OPS the
 * steps of four players in a round, by the player.
 *
 * GYRE_TEST_OPERATIONS, a number of steps in all, makes this a run of hours instead of a test:
 *
 *     bazel build --config=check //tests/stress:differential_test
 *     GYRE_TEST_OPERATIONS=100000000 bazel-bin/tests/stress/differential_test
 *
 * plays games in one mode after the other, with 2, 8 and 64 threads in turn, until as many steps have
 * been made in each as its part is, and prints seed, mode, threads, steps and seconds.
 */
#include <stdio.h>
#include <string.h>

#include "tests/support/support.h"

#define PLAYERS 4
#define PLAYERS_MAX 64
#define ROUNDS 3
#define ROOTS 32
#define CELLS 4
#define SLOTS 4
#define OBJECTS 262144 /* of all players */
#define NONE 0u

enum kind { PLAIN, FINALIZED, SHARED, ARRAY, LARGE, VISITED, KINDS };

/* How all of them begin. */
typedef struct thing {
  uint32_t number; /* 1 + player * objects_max + count */
  uint32_t kind;
} thing;

typedef struct fixed {
  thing head;
  GYRE_SLOT(thing) slots[SLOTS];
} fixed;

typedef struct tuple {
  thing head;
  GYRE_SLOT(thing) items[];
} tuple;

typedef struct bag {
  thing head;
  thing *refs[SLOTS]; /* under the object's lock */
} bag;

static struct {
  uint32_t edges[OBJECTS + 1][SLOTS];
  uint8_t kind[OBJECTS + 1];
  uint8_t reachable[OBJECTS + 1];
  gyre__atomic_u8 finalized[OBJECTS + 1];
  gyre__atomic_u8 destroyed[OBJECTS + 1];
  uint32_t board[PLAYERS_MAX * CELLS];
} model;

static struct player {
  uint32_t made;
  uint32_t steps;
  unsigned index;
  struct test_random random;
  thing *roots[ROOTS];
} players[PLAYERS_MAX];
/* Of these so many play, with so many objects each. */
static unsigned player_count;
static uint32_t objects_max;

static tuple *board;

/* Objects that their finalizers saved. */
static pthread_mutex_t saved_mutex = PTHREAD_MUTEX_INITIALIZER;
static thing *saved[OBJECTS];
static uint32_t saved_count;

/* ---- the kinds ---- */

static void thing_destroy(void *object) {
  uint32_t number = ((thing *)object)->number;
  TEST_REQUIRE(number >= 1 && number <= OBJECTS);
  /* relaxed: a count. */
  TEST_REQUIRE(gyre__fetch_add_relaxed(&model.destroyed[number], 1) == 0);
}

static int thing_finalize(void *object) {
  thing *t = object;
  /* relaxed: a count. */
  TEST_REQUIRE(gyre__fetch_add_relaxed(&model.finalized[t->number], 1) == 0);
  TEST_REQUIRE(gyre__load_relaxed(&model.destroyed[t->number]) == 0);
  if (t->number % 8 != 0) return 0;
  pthread_mutex_lock(&saved_mutex);
  saved[saved_count++] = gyre_retain(t);
  pthread_mutex_unlock(&saved_mutex);
  return 0;
}

static int bag_visit(void *object, gyre_visitor *visitor, void *arg) {
  bag *b = object;
  for (int i = 0; i < SLOTS; i++) {
    if (b->refs[i] == NULL) continue;
    int stop = visitor(b->refs[i], arg);
    if (stop != 0) return stop;
  }
  return 0;
}

static void bag_clear(void *object) {
  bag *b = object;
  for (int i = 0; i < SLOTS; i++) {
    thing *t = b->refs[i];
    b->refs[i] = NULL;
    gyre_release(t);
  }
}

#define FIXED_SLOTS GYRE_SLOTS(fixed, slots[0], slots[1], slots[2], slots[3])
#define SLOT_ARRAY .element_size = sizeof(gyre_slot), .element_slots = GYRE_SLOT_ARRAY
static gyre_type types[KINDS] = {
    [PLAIN] = {.name = "plain",
               .size = sizeof(fixed),
               .slots = FIXED_SLOTS,
               .destroy = thing_destroy},
    [FINALIZED] = {.name = "finalized",
                   .size = sizeof(fixed),
                   .slots = FIXED_SLOTS,
                   .destroy = thing_destroy,
                   .finalize = thing_finalize},
    [SHARED] = {.name = "shared",
                .size = sizeof(fixed),
                .slots = FIXED_SLOTS,
                .destroy = thing_destroy,
                .flags = GYRE_TYPE_SHARED},
    [ARRAY] = {.name = "array", .size = sizeof(tuple), SLOT_ARRAY, .destroy = thing_destroy},
    [LARGE] = {.name = "large", .size = sizeof(tuple), SLOT_ARRAY, .destroy = thing_destroy},
    [VISITED] = {.name = "visited",
                 .size = sizeof(bag),
                 .visit = bag_visit,
                 .clear = bag_clear,
                 .destroy = thing_destroy},
};
static GYRE_TYPE_DEFINE(board_type, tuple, SLOT_ARRAY);

static gyre_slot *slot_of(thing *t, uint32_t slot) {
  if (t->kind == ARRAY) return &((tuple *)t)->items[slot].gyre__slot;
  if (t->kind == LARGE) return &((tuple *)t)->items[slot * 3000].gyre__slot;
  return &((fixed *)t)->slots[slot].gyre__slot;
}

/* A reference of the caller's own, or NULL. */
static thing *edge_load(thing *t, uint32_t slot) {
  if (t->kind != VISITED) return gyre_slot_load(slot_of(t, slot));
  bag *b = (bag *)t;
  gyre_lock(b);
  thing *to = gyre_retain(b->refs[slot]);
  gyre_unlock(b);
  return to;
}

static void edge_store(thing *t, uint32_t slot, thing *to) {
  model.edges[t->number][slot] = to != NULL ? to->number : NONE;
  if (t->kind != VISITED) {
    gyre_slot_store(slot_of(t, slot), to);
    return;
  }
  bag *b = (bag *)t;
  (void)gyre_retain(to);
  gyre_lock(b);
  thing *old = b->refs[slot];
  b->refs[slot] = to;
  gyre_unlock(b);
  gyre_release(old);
}

/* ---- steps ---- */

static thing *make(struct player *p) {
  uint32_t dice = test_random_below(&p->random, 64);
  uint32_t kind = dice == 0 ? LARGE : dice < 8 ? VISITED : dice % (LARGE - PLAIN);
  thing *t = kind == ARRAY   ? gyre_new_array(&types[kind], SLOTS)
             : kind == LARGE ? gyre_new_array(&types[kind], 3 * 3000 + 1)
                             : gyre_new(&types[kind]);
  TEST_REQUIRE(t != NULL);
  t->number = 1 + p->index * objects_max + p->made++;
  t->kind = kind;
  model.kind[t->number] = (uint8_t)kind;
  return t;
}

/* Steals the reference. */
static void root_set(struct player *p, thing *t) {
  uint32_t at = test_random_below(&p->random, ROOTS);
  thing *old = p->roots[at];
  p->roots[at] = t;
  gyre_release(old);
}

static thing *root_any(struct player *p) { return p->roots[test_random_below(&p->random, ROOTS)]; }

static uint32_t cell_any(struct player *p) {
  return test_random_below(&p->random, player_count * CELLS);
}

static void link_something(struct player *p) {
  thing *from = root_any(p);
  if (from == NULL || (from->number - 1) / objects_max != p->index) return;
  uint32_t slot = test_random_below(&p->random, SLOTS);
  if (test_random_below(&p->random, 3) == 0) {
    thing *to = gyre_load(&board->items[cell_any(p)]);
    edge_store(from, slot, to);
    gyre_release(to);
  } else {
    edge_store(from, slot, root_any(p));
  }
}

/* From a root along some edges: what is held must be alive and whole. */
static void walk(struct player *p) {
  thing *at = gyre_retain(root_any(p));
  for (int i = 0; at != NULL && i < 6; i++) {
    /* relaxed: nobody destroys what we hold. */
    TEST_REQUIRE(gyre__load_relaxed(&model.destroyed[at->number]) == 0);
    TEST_REQUIRE(at->kind < KINDS && gyre_type_of(at) == &types[at->kind]);
    thing *next = edge_load(at, test_random_below(&p->random, SLOTS));
    if (next == NULL) break;
    gyre_release(at);
    at = next;
  }
  if (at != NULL) root_set(p, at);
}

static void publish(struct player *p) {
  uint32_t cell = p->index * CELLS + test_random_below(&p->random, CELLS);
  thing *t = test_random_below(&p->random, 4) == 0 ? NULL : root_any(p);
  model.board[cell] = t != NULL ? t->number : NONE;
  gyre_store(&board->items[cell], t);
}

static void step(struct player *p) {
  switch (test_random_below(&p->random, 16)) {
  case 0:
  case 1:
  case 2:
    if (p->made < objects_max) root_set(p, make(p));
    break;
  case 3:
  case 4:
  case 5:
  case 6:
  case 7:
    link_something(p);
    break;
  case 8:
  case 9:
    root_set(p, NULL);
    break;
  case 10:
  case 11:
    walk(p);
    break;
  case 12:
    publish(p);
    break;
  case 13: {
    thing *t = gyre_load(&board->items[cell_any(p)]);
    if (t != NULL) root_set(p, t);
    break;
  }
  case 14:
    gyre_safepoint();
    break;
  default:
    if (test_random_below(&p->random, 16) == 0) GYRE_BLOCKING {
        sched_yield();
      }
    if (test_random_below(&p->random, 128) == 0)
      gyre_gc_collect((int)test_random_below(&p->random, 3));
  }
}

static void *play(void *arg) {
  struct player *p = arg;
  for (uint32_t i = 0; i < p->steps; i++)
    step(p);
  return NULL;
}

/* ---- the model's opinion ---- */

static void reach(uint32_t number) {
  static uint32_t stack[OBJECTS + 1];
  uint32_t depth = 0;
  if (number == NONE || model.reachable[number]) return;
  model.reachable[number] = 1;
  stack[depth++] = number;
  while (depth > 0) {
    number = stack[--depth];
    for (int i = 0; i < SLOTS; i++) {
      uint32_t to = model.edges[number][i];
      if (to == NONE || model.reachable[to]) continue;
      model.reachable[to] = 1;
      stack[depth++] = to;
    }
  }
}

static void compare(void) {
  memset(model.reachable, 0, sizeof model.reachable);
  for (unsigned p = 0; p < player_count; p++)
    for (int i = 0; i < ROOTS; i++)
      if (players[p].roots[i] != NULL) reach(players[p].roots[i]->number);
  for (unsigned i = 0; i < player_count * CELLS; i++)
    reach(model.board[i]);
  for (uint32_t i = 0; i < saved_count; i++)
    reach(saved[i]->number);
  for (uint32_t p = 0; p < player_count; p++)
    for (uint32_t i = 0; i < players[p].made; i++) {
      uint32_t number = 1 + p * objects_max + i;
      /* relaxed: the players have been joined. */
      unsigned destroyed = gyre__load_relaxed(&model.destroyed[number]);
      unsigned finalized = gyre__load_relaxed(&model.finalized[number]);
      if (destroyed == (model.reachable[number] ? 0 : 1) &&
          finalized >= (model.kind[number] == FINALIZED && destroyed ? 1 : 0))
        continue;
      print_error("object %u of kind %u: %s, destroyed %u times, finalized %u times\n", number,
                  model.kind[number], model.reachable[number] ? "reachable" : "unreachable",
                  destroyed, finalized);
      fail();
    }
}

/* From here on nobody but us collects, and what the service thread had left to do is done. */
static struct {
  char always[8], cascade[16];
  int enabled;
} before_quiet;

static void quiet_begin(void) {
  TEST_REQUIRE(gyre_option_get("collect_always", before_quiet.always, sizeof before_quiet.always) >
               0);
  TEST_REQUIRE(gyre_option_get("cascade", before_quiet.cascade, sizeof before_quiet.cascade) > 0);
  TEST_REQUIRE(gyre_option_set("collect_always", "0") == 0);
  TEST_REQUIRE(gyre_option_set("cascade", "thread") == 0);
  before_quiet.enabled = gyre_gc_disable();
  gyre_service_stop();
}

static void quiet_end(void) {
  TEST_REQUIRE(gyre_option_set("collect_always", before_quiet.always) == 0);
  TEST_REQUIRE(gyre_option_set("cascade", before_quiet.cascade) == 0);
  if (before_quiet.enabled) gyre_gc_enable();
}

/* Finds all garbage; what one collection's finalizers leave, the next one finds. */
static void collect_all(void) {
  for (int i = 0; i < 3; i++)
    gyre_gc_collect(2);
  while (gyre_gc_collect(2) > 0) {
  }
  gyre_safepoint();
}

static void drop_saved(void) {
  while (saved_count > 0)
    gyre_release(saved[--saved_count]);
}

static uint64_t games; /* each has its own random numbers */

static void play_rounds(uint32_t steps, unsigned threads) {
  memset(&model, 0, sizeof model);
  memset(players, 0, sizeof players);
  player_count = threads;
  objects_max = OBJECTS / threads;
  board = gyre_new_array(&board_type, player_count * CELLS);
  for (unsigned p = 0; p < player_count; p++) {
    players[p].index = p;
    players[p].random = test_random_new(p + 1 + games * PLAYERS_MAX);
  }
  for (int round = 0; round < ROUNDS; round++) {
    pthread_t running[PLAYERS_MAX];
    for (unsigned p = 0; p < player_count; p++) {
      players[p].steps = steps;
      running[p] = test_thread_start(play, &players[p]);
    }
    for (unsigned p = 0; p < player_count; p++)
      test_thread_join(running[p]);
    quiet_begin();
    gyre__heap_check();
    collect_all();
    compare();
    drop_saved();
    collect_all();
    compare();
    quiet_end();
  }
  quiet_begin();
  for (unsigned p = 0; p < player_count; p++)
    for (int i = 0; i < ROOTS; i++) {
      gyre_release(players[p].roots[i]);
      players[p].roots[i] = NULL;
    }
  gyre_release(board);
  memset(model.board, 0, sizeof model.board);
  do {
    drop_saved();
    collect_all();
  } while (saved_count > 0);
  compare();
  quiet_end();
}

/* As many in all, however many they are. */
static uint32_t steps_of_a_round(unsigned threads) {
  uint64_t steps = test_size("GYRE_TEST_OPS", 30000, 6000, 4000);
  return (uint32_t)(threads > PLAYERS ? steps * PLAYERS / threads : steps) + 1;
}

static void exactly_what_the_model_reaches_lives(void **state) {
  (void)state;
  play_rounds(steps_of_a_round(PLAYERS), PLAYERS);
}

static void one_player_plays_the_same_game_each_time(void **state) {
  (void)state;
  play_rounds(steps_of_a_round(1), 1);
}

static void exactly_what_the_model_reaches_lives_with_many_collections(void **state) {
  (void)state;
  play_rounds(steps_of_a_round(PLAYERS) / 8 + 1, PLAYERS);
}

static void with_2_threads(void **state) {
  (void)state;
  play_rounds(steps_of_a_round(2), 2);
}
static void with_8_threads(void **state) {
  (void)state;
  play_rounds(steps_of_a_round(8), 8);
}
static void with_64_threads(void **state) {
  (void)state;
  play_rounds(steps_of_a_round(64), 64);
}
/* The same with a collection always under way. */
static void with_2_threads_and_many_collections(void **state) {
  (void)state;
  play_rounds(steps_of_a_round(2) / 8 + 1, 2);
}
static void with_8_threads_and_many_collections(void **state) {
  (void)state;
  play_rounds(steps_of_a_round(8) / 8 + 1, 8);
}
static void with_64_threads_and_many_collections(void **state) {
  (void)state;
  play_rounds(steps_of_a_round(64) / 8 + 1, 64);
}

/* ---- by hand ---- */

static const char *const long_modes[] = {
    "gc_mode:concurrent",
    "gc_mode:stw",
    "gc_mode:concurrent,collect_always:3",
    "gc_mode:concurrent,gc_threshold:50/2/1,release_budget:3,yield_seed:7",
    "gc_mode:concurrent,collect_always:2,slow_paths:1,cascade:service,release_budget:8",
    "gc_mode:stw,gc_threshold:20/2/1,yield_seed:5",
};
#define LONG_MODES (sizeof long_modes / sizeof long_modes[0])

static void long_run(void **state) {
  (void)state;
  static const unsigned counts[] = {2, 8, 64};
  uint64_t all = strtoull(getenv("GYRE_TEST_OPERATIONS"), NULL, 0);
  uint64_t start = gyre__clock_ns(), done = 0;
  for (size_t m = 0; m < LONG_MODES; m++)
    for (int c = 0; c < 3; c++) {
      uint64_t part = all / (LONG_MODES * 3) + 1, before = done, began = gyre__clock_ns();
      uint32_t steps = steps_of_a_round(counts[c]);
      while (done - before < part) {
        games++;
        void *options = (void *)(uintptr_t)long_modes[m];
        test_begin_with(&options);
        play_rounds(steps, counts[c]);
        test_end(&options);
        done += (uint64_t)steps * counts[c] * ROUNDS;
      }
      print_message(
          "seed %llu, %s, %u threads: %llu operations in %.1f s; %llu of %llu in %.1f s\n",
          (unsigned long long)test_seed(), long_modes[m], counts[c],
          (unsigned long long)(done - before), (double)(gyre__clock_ns() - began) * 1e-9,
          (unsigned long long)done, (unsigned long long)all,
          (double)(gyre__clock_ns() - start) * 1e-9);
    }
}

#define CONCURRENT "gc_mode:concurrent,gc_threshold:200"
#define STW "gc_mode:stw,gc_threshold:200"
#define CONTINUOUS "gc_mode:concurrent,collect_always:3"

int main(void) {
  const struct CMUnitTest by_hand[] = {cmocka_unit_test(long_run)};
  if (getenv("GYRE_TEST_OPERATIONS") != NULL) return cmocka_run_group_tests(by_hand, NULL, NULL);
  const struct CMUnitTest tests[] = {
      TEST(one_player_plays_the_same_game_each_time),
      TEST(exactly_what_the_model_reaches_lives),
      TEST_WITH(exactly_what_the_model_reaches_lives, "gc:0"),
      TEST_WITH(exactly_what_the_model_reaches_lives, "gc_threshold:20/2/1,release_budget:3"),
      TEST_WITH(exactly_what_the_model_reaches_lives, "yield_seed:7,gc_threshold:200,poison:1"),
      TEST_WITH(exactly_what_the_model_reaches_lives, "slow_paths:1,gc_threshold:200"),
      TEST_WITH(exactly_what_the_model_reaches_lives, "poison:1,purge_delay_ms:0,large:mmap"),
      TEST_WITH(exactly_what_the_model_reaches_lives_with_many_collections, "collect_always:1"),
      TEST_WITH(exactly_what_the_model_reaches_lives_with_many_collections,
                "collect_always:3,yield_seed:11,release_budget:1"),
      TEST_WITH(with_2_threads, CONCURRENT),
      TEST_WITH(with_8_threads, CONCURRENT),
      TEST_WITH(with_64_threads, CONCURRENT),
      TEST_WITH(with_2_threads, STW),
      TEST_WITH(with_8_threads, STW),
      TEST_WITH(with_64_threads, STW),
      TEST_WITH(with_2_threads_and_many_collections, CONTINUOUS),
      TEST_WITH(with_8_threads_and_many_collections, CONTINUOUS),
      TEST_WITH(with_64_threads_and_many_collections, CONTINUOUS),
      TEST_WITH(with_8_threads_and_many_collections, CONTINUOUS ",yield_seed:3,release_budget:3"),
      TEST_WITH(with_8_threads_and_many_collections,
                CONTINUOUS ",cascade:service,release_budget:5,slow_paths:1"),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
