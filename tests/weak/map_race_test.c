/* SPDX-License-Identifier: MIT */
/* Races of weak maps with deaths, with each other and with the collector, each held open at its window. */
#include <string.h>

#include "tests/support/node.h"
#include "tests/support/puppet.h"
#include "tests/support/window.h"

static gyre_weakmap *map_new(enum gyre_weakmap_kind kind) {
  gyre_weakmap *map = gyre_weakmap_new(kind, NULL, NULL);
  TEST_REQUIRE(map != NULL);
  return map;
}

static node *new_node(void) { return node_new(&node_type, 0); }
static node *as_node(gyre_weakmap *map) { return (node *)(void *)map; }

/* ---- a thread that does one thing, and perhaps stops on the way ---- */

struct role {
  pthread_t thread;
  void (*body)(struct role *role);
  gyre_weakmap *map;
  void *key, *value;
  void *got;
  ptrdiff_t result;
};

static void *play(void *arg) {
  struct role *role = arg;
  test_window_subject();
  TEST_REQUIRE(gyre_thread_attach() != NULL);
  role->body(role);
  return NULL;
}

/* Starts the thread, which stops at the window. */
static void stage(struct role *role, void (*body)(struct role *role), const char *window) {
  role->body = body;
  test_window_hold(window, 1);
  role->thread = test_thread_start(play, role);
  gyre_park();
  test_window_await();
  gyre_unpark();
}

static void finish(struct role *role) {
  test_window_release();
  test_thread_join(role->thread);
}

static void *retains(void *object) {
  gyre_retain(object);
  return NULL;
}

/* From now on the caller's reference is nobody's in particular: whoever releases it has the death. */
static void *hand_over(void *object) {
  test_thread_run(retains, object);
  gyre_release(object);
  return object;
}

static void releases_key(struct role *role) { gyre_release(role->key); }
static void releases_map(struct role *role) { gyre_release(role->map); }
static void gets(struct role *role) { role->got = gyre_weakmap_get(role->map, role->key); }
static void sets(struct role *role) {
  role->result = gyre_weakmap_set(role->map, role->key, role->value);
}
static void sets_default(struct role *role) {
  role->got = gyre_weakmap_get_or_set(role->map, role->key, role->value);
}
static void pops(struct role *role) { role->got = gyre_weakmap_pop(role->map, role->key); }
static void clears(struct role *role) { gyre_weakmap_clear(role->map); }
static void collects(struct role *role) { role->result = gyre_gc_collect(2); }

/* ---- deaths by the count ---- */

static const enum gyre_weakmap_kind kinds[] = {GYRE_WEAK_KEY, GYRE_WEAK_EPHEMERON};

static void a_map_may_die_while_a_key_of_it_is_dying(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  static const char *const windows[] = {"map/side_died", "map/unlinked", "weak/telling",
                                        "weak/killed"};
  for (int k = 0; k < 2; k++)
    for (int w = 0; w < 4; w++) {
      uint64_t before = nodes_destroyed();
      gyre_weakmap *map = map_new(kinds[k]);
      node *key = new_node(), *value = new_node();
      assert_int_equal(gyre_weakmap_set(map, key, value), 0);
      gyre_release(value);
      /* So that the other thread's release is the last. */
      struct role death = {.key = hand_over(key)};
      stage(&death, releases_key, windows[w]);
      gyre_release(map);
      finish(&death);
      TEST_AWAIT_SAFELY(nodes_destroyed() == before + 2);
    }
}

static void a_key_may_die_while_its_map_is_dying(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  for (int k = 0; k < 2; k++) {
    uint64_t before = nodes_destroyed();
    gyre_weakmap *map = map_new(kinds[k]);
    node *keys[2] = {new_node(), new_node()};
    for (int i = 0; i < 2; i++) {
      GYRE_AUTO(node) value = new_node();
      assert_int_equal(gyre_weakmap_set(map, keys[i], value), 0);
    }
    struct role death = {.map = hand_over(map)};
    stage(&death, releases_map, "map/unlinked"); /* one of the entries */
    gyre_release(keys[0]);
    gyre_release(keys[1]);
    finish(&death);
    TEST_AWAIT_SAFELY(nodes_destroyed() == before + 4);
  }
}

static void an_entry_may_be_taken_out_while_its_key_is_dying(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  static const char *const windows[] = {"map/side_died", "map/unlinked"};
  for (int k = 0; k < 2; k++)
    for (int w = 0; w < 2; w++) {
      uint64_t before = nodes_destroyed();
      GYRE_AUTO(gyre_weakmap) map = map_new(kinds[k]);
      node *key = new_node(), *value = new_node();
      assert_int_equal(gyre_weakmap_set(map, key, value), 0);
      gyre_release(value);
      struct role death = {.key = hand_over(key)};
      stage(&death, releases_key, windows[w]);
      gyre_weakmap_clear(map);
      assert_int_equal(gyre_weakmap_len(map), 0);
      finish(&death);
      TEST_AWAIT_SAFELY(nodes_destroyed() == before + 2);
    }
}

static void both_sides_may_die_at_once(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  GYRE_AUTO(gyre_weakmap) map = map_new(GYRE_WEAK_BOTH);
  node *key = new_node(), *value = new_node();
  assert_int_equal(gyre_weakmap_set(map, key, value), 0);
  struct role death = {.key = hand_over(key)};
  stage(&death, releases_key, "map/unlinked");
  gyre_release(value);
  assert_int_equal(nodes_destroyed(), 1);
  finish(&death);
  assert_int_equal(nodes_destroyed(), 2);
  assert_int_equal(gyre_weakmap_len(map), 0);
}

/* ---- readers and writers ---- */

static void a_value_that_is_taken_out_before_it_is_counted_is_not_given(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  static const char *const windows[] = {"map/found", "map/counted"};
  for (int w = 0; w < 2; w++) {
    GYRE_AUTO(gyre_weakmap) map = map_new(GYRE_WEAK_KEY);
    node *key = new_node(), *value = new_node();
    assert_int_equal(gyre_weakmap_set(map, key, value), 0);
    struct role get = {.map = map, .key = key};
    stage(&get, gets, windows[w]);
    /* The last reference but what the reader may have counted. */
    gyre_release(value);
    gyre_release(gyre_weakmap_pop(map, key));
    finish(&get);
    assert_null(get.got);
    assert_int_equal(nodes_destroyed(), 1 + 2 * (uint64_t)w);
    gyre_release(key);
  }
}

static void a_value_that_is_replaced_while_it_is_counted_is_not_given(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  GYRE_AUTO(gyre_weakmap) map = map_new(GYRE_WEAK_EPHEMERON);
  node *key = new_node(), *value = new_node(), *other = new_node();
  assert_int_equal(gyre_weakmap_set(map, key, value), 0);
  gyre_release(value);
  struct role get = {.map = map, .key = key};
  stage(&get, gets, "map/counted");
  assert_int_equal(gyre_weakmap_set(map, key, other), 0);
  finish(&get);
  assert_ptr_equal(get.got, other);
  assert_int_equal(nodes_destroyed(), 1);
  gyre_release(other);
  gyre_release(other);
  gyre_release(key);
}

static uint64_t tag_hash(const void *key) { return ((const node *)key)->tag; }
static int tag_equal(const void *a, const void *b) {
  return ((const node *)a)->tag == ((const node *)b)->tag;
}

static void equal_keys_put_in_at_once_are_one_entry(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  for (unsigned kind = 0; kind < 4; kind++)
    for (int get = 0; get < 2; get++) {
      GYRE_AUTO(gyre_weakmap)
      map = gyre_weakmap_new((enum gyre_weakmap_kind)kind, tag_hash, tag_equal);
      node *a = new_node(), *b = new_node(), *one = new_node(), *two = new_node();
      /* It has found no equal key. */
      struct role second = {.map = map, .key = b, .value = two};
      stage(&second, get ? sets_default : sets, "map/putting");
      assert_int_equal(gyre_weakmap_set(map, a, one), 0);
      finish(&second);
      assert_int_equal(gyre_weakmap_len(map), 1);
      if (get) assert_ptr_equal(second.got, one);
      gyre_release(second.got);
      node *got = gyre_weakmap_get(map, b);
      assert_ptr_equal(got, get ? one : two);
      gyre_release(got);
      gyre_release(a);
      gyre_release(b);
      gyre_release(one);
      gyre_release(two);
    }
}

static void a_map_may_grow_under_readers_and_writers(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  GYRE_AUTO(gyre_weakmap) map = gyre_weakmap_new(GYRE_WEAK_KEY, tag_hash, tag_equal);
  node *keys[200];
  for (int i = 0; i < 200; i++)
    keys[i] = node_new(&node_type, (uint64_t)i);
  for (int i = 0; i < 5; i++)
    assert_int_equal(gyre_weakmap_set(map, keys[i], keys[100 + i]), 0);
  GYRE_AUTO(node) like = node_new(&node_type, 3);
  struct role get = {.map = map, .key = like};
  stage(&get, gets, "map/comparing");
  for (int i = 5; i < 50; i++)
    assert_int_equal(gyre_weakmap_set(map, keys[i], keys[100 + i]), 0);
  finish(&get);
  assert_ptr_equal(get.got, keys[103]);
  gyre_release(get.got);
  struct role put = {.map = map, .key = keys[99], .value = keys[199]};
  stage(&put, sets, "map/putting");
  for (int i = 50; i < 99; i++)
    assert_int_equal(gyre_weakmap_set(map, keys[i], keys[100 + i]), 0);
  finish(&put);
  assert_int_equal(gyre_weakmap_len(map), 100);
  for (int i = 0; i < 200; i++)
    gyre_release(keys[i]);
}

static int counts(void *key, void *value, void *arg) {
  (void)key, (void)value;
  ++*(int *)arg;
  return 0;
}

static void an_entry_taken_out_twice_at_once_goes_to_one(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  GYRE_AUTO(gyre_weakmap) map = map_new(GYRE_WEAK_KEY);
  node *key = new_node(), *value = new_node();
  assert_int_equal(gyre_weakmap_set(map, key, value), 0);
  struct role pop = {.map = map, .key = key};
  stage(&pop, pops, "map/unlinked");
  assert_null(gyre_weakmap_pop(map, key));
  assert_int_equal(gyre_weakmap_remove(map, key), 0);
  int seen = 0;
  assert_int_equal(gyre_weakmap_foreach(map, counts, &seen), 0);
  assert_int_equal(seen, 0);
  assert_int_equal(gyre_weakmap_set(map, key, key), 0);
  finish(&pop);
  assert_ptr_equal(pop.got, value);
  assert_int_equal(gyre_weakmap_len(map), 1);
  struct role clear = {.map = map};
  stage(&clear, clears, "map/unlinked");
  assert_int_equal(gyre_weakmap_remove(map, key), 0);
  finish(&clear);
  gyre_release(value);
  gyre_release(value);
  gyre_release(key);
  assert_int_equal(nodes_destroyed(), 2);
}

/* ---- program code ---- */

static gyre_weakmap *used_map;
static node *used_key;
static void uses_the_map(node *n) {
  if (n->tag != 7) return;
  TEST_REQUIRE(gyre_weakmap_set(used_map, used_key, used_key) == 0);
}
static void makes(void *arg) {
  *(node **)arg = node_new(&node_type, *(node **)arg == NULL ? 7 : 0);
}
static void sets_value(void *arg) {
  struct role *role = arg;
  TEST_REQUIRE(gyre_weakmap_set(role->map, role->key, role->value) == 0);
}
static void drops(void *object) { gyre_release(object); }
static void releases_value(struct role *role) { gyre_release(role->value); }

struct dropping {
  struct puppet puppet;
  node *value;
};
static void has_it_dropped(void *arg) {
  struct dropping *d = arg;
  puppet_run(&d->puppet, drops, d->value);
}

/* A release by a writer may serve the queue of a thread that is parked, and what dies there may use the map:
 * so none is made under the map's lock. */
static void what_dies_while_a_value_is_replaced_may_use_the_map(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  GYRE_AUTO(gyre_weakmap) map = map_new(GYRE_WEAK_KEY);
  node *key = new_node(), *other = new_node();
  used_map = map;
  used_key = key;
  node_on_destroy = uses_the_map;
  struct puppet owner;
  struct dropping dropping = {.value = key};
  puppet_start(&owner);
  puppet_start(&dropping.puppet);
  node *user = NULL;
  puppet_run(&owner, makes, &user);
  puppet_run(&owner, makes, &dropping.value);
  struct role first = {.map = map, .key = key, .value = dropping.value};
  puppet_run(&owner, sets_value, &first);
  await_parked(2);
  /* One request is in the parked owner's queue, and not served yet. */
  struct role queues = {.value = user};
  stage(&queues, releases_value, "merge/pushed");
  /* The writer's spare count has become the last that the owner does not have. */
  test_window_call("map/replacing", 1, has_it_dropped, &dropping);
  struct role set = {.map = map, .key = key, .value = other, .body = sets};
  pthread_t writer = test_thread_start(play, &set);
  GYRE_BLOCKING { test_thread_join(writer); }
  assert_int_equal(set.result, 0);
  finish(&queues);
  assert_int_equal(nodes_destroyed(), 2);
  node_on_destroy = NULL;
  puppet_stop(&dropping.puppet);
  puppet_stop(&owner);
  test_window_clear();
  assert_int_equal(gyre_weakmap_remove(map, key), 1);
  gyre_release(key);
  gyre_release(other);
}

/* ---- beside the collector ---- */

#define NEEDS_CONCURRENT()                                                                         \
  do {                                                                                             \
    TEST_NEEDS_WINDOWS();                                                                          \
    if (gyre_gc_get_mode() != GYRE_GC_CONCURRENT) skip();                                          \
  } while (0)

/* A key that only its value refers to. `map` is the test's. */
static void ephemeron_make(gyre_weakmap *map, gyre_weak **key_weak) {
  node *key = new_node(), *value = new_node();
  gyre_store(&value->next, key);
  assert_int_equal(gyre_weakmap_set(map, key, value), 0);
  gyre_release(value);
  if (key_weak != NULL) *key_weak = gyre_weak_new(key, NULL, NULL);
  gyre_release(key);
}

static void collects_and_finds(struct role *role) { role->result = gyre_gc_collect(2); }

/* It looks at a block whose object has died since it was found. */
static void a_collector_that_looks_for_keys_may_find_them_dying(void **state) {
  (void)state;
  NEEDS_CONCURRENT();
  GYRE_AUTO(gyre_weakmap) map = map_new(GYRE_WEAK_EPHEMERON);
  assert_int_equal(gyre_gc_untrack(map), 0); /* or the collector would come to it first */
  node *n[4];
  for (int i = 0; i < 4; i++) {
    n[i] = new_node();
    gyre_weak_free(gyre_weak_new(n[i], NULL, NULL));
  }
  struct role collection = {.map = NULL};
  stage(&collection, collects_and_finds, "weak/found");
  for (int i = 0; i < 4; i++)
    gyre_release(n[i]);
  node *last = new_node();
  gyre_weak_free(gyre_weak_new(last, NULL, NULL));
  gyre_release(last);
  finish(&collection);
  assert_int_equal(collection.result, 0);
  assert_int_equal(nodes_destroyed(), 5);
}

/* Proving, when nothing has been condemned yet: in logging, and after it. */
static const char *const proving[] = {"prove/cleared", "prove/counted", "prove/logged",
                                      "prove/condemning"};

static void a_key_that_is_upgraded_saves_its_value(void **state) {
  (void)state;
  NEEDS_CONCURRENT();
  for (int w = 0; w < 4; w++) {
    GYRE_AUTO(gyre_weakmap) map = map_new(GYRE_WEAK_EPHEMERON);
    gyre_weak *weak;
    ephemeron_make(map, &weak);
    uint64_t before = nodes_destroyed();
    struct role collection = {.map = NULL};
    stage(&collection, collects, proving[w]);
    GYRE_AUTO(node) key = gyre_weak_get(weak);
    assert_non_null(key);
    GYRE_AUTO(node) value = gyre_weakmap_get(map, key);
    assert_non_null(value);
    gyre_clear(&value->next);
    finish(&collection);
    assert_int_equal(collection.result, 0);
    assert_int_equal(nodes_destroyed(), before);
    assert_int_equal(gyre_weakmap_len(map), 1);
    gyre_weak_free(weak);
    test_window_clear();
  }
}

static int takes_pair(void *key, void *value, void *arg) {
  (void)key;
  *(node **)arg = gyre_retain(value);
  return 1;
}

static void a_value_that_a_loop_has_found_lives(void **state) {
  (void)state;
  NEEDS_CONCURRENT();
  for (int w = 0; w < 4; w++) {
    GYRE_AUTO(gyre_weakmap) map = map_new(GYRE_WEAK_EPHEMERON);
    ephemeron_make(map, NULL);
    struct role collection = {.map = NULL};
    stage(&collection, collects, proving[w]);
    node *value = NULL;
    assert_int_equal(gyre_weakmap_foreach(map, takes_pair, &value), 1);
    finish(&collection);
    assert_int_equal(collection.result, 0);
    assert_int_equal(value->tag, 0);
    GYRE_AUTO(node) key = gyre_load(&value->next);
    assert_non_null(key);
    gyre_release(value);
    test_window_clear();
  }
}

static void a_map_that_dies_or_is_cleared_takes_the_value_of_a_suspect_key(void **state) {
  (void)state;
  NEEDS_CONCURRENT();
  for (int die = 0; die < 2; die++)
    for (int w = 0; w < 4; w++) {
      uint64_t before = nodes_destroyed();
      gyre_weakmap *map = map_new(GYRE_WEAK_EPHEMERON);
      ephemeron_make(map, NULL);
      struct role collection = {.map = NULL};
      stage(&collection, collects, proving[w]);
      if (die)
        gyre_release(map);
      else
        gyre_weakmap_clear(map);
      assert_int_equal(nodes_destroyed(), before + 2);
      finish(&collection);
      assert_int_equal(collection.result, 0);
      if (!die) gyre_release(map);
      test_window_clear();
    }
}

static void a_map_that_dies_after_its_key_was_condemned_leaves_the_value(void **state) {
  (void)state;
  NEEDS_CONCURRENT();
  for (int die = 0; die < 2; die++) {
    uint64_t before = nodes_destroyed();
    gyre_weakmap *map = map_new(GYRE_WEAK_EPHEMERON);
    ephemeron_make(map, NULL);
    struct role collection = {.map = NULL};
    stage(&collection, collects, "collect/condemned");
    if (die)
      gyre_release(map);
    else
      gyre_weakmap_clear(map);
    int seen = 0;
    if (!die) assert_int_equal(gyre_weakmap_foreach(map, counts, &seen), 0);
    assert_int_equal(seen, 0);
    assert_int_equal(nodes_destroyed(), before);
    finish(&collection);
    assert_int_equal(collection.result, 2);
    assert_int_equal(nodes_destroyed(), before + 2);
    if (!die) assert_int_equal(gyre_weakmap_len(map), 0);
    if (!die) gyre_release(map);
    test_window_clear();
  }
}

static void a_key_may_die_after_its_map_was_condemned(void **state) {
  (void)state;
  NEEDS_CONCURRENT();
  for (int k = 0; k < 2; k++)
    for (int w = 0; w < 5; w++) {
      uint64_t before = nodes_destroyed();
      gyre_weakmap *map = map_new(kinds[k]);
      node *key = new_node(), *value = new_node();
      gyre_store(&value->next, as_node(map));
      assert_int_equal(gyre_weakmap_set(map, key, value), 0);
      gyre_release(value);
      gyre_release(map);
      struct role collection = {.map = NULL};
      stage(&collection, collects, w < 4 ? proving[w] : "collect/condemned");
      gyre_release(key);
      assert_int_equal(nodes_destroyed() - before, w < 4 ? 2 : 1);
      /* Condemned, and not taken apart yet: the entry is left to it. */
      if (w == 4) assert_int_equal(gyre_weakmap_len(map), 1);
      finish(&collection);
      assert_int_equal(collection.result, w < 4 ? 0 : 2);
      assert_int_equal(nodes_destroyed() - before, 2);
      test_window_clear();
    }
}

static test_event entered = TEST_EVENT_INIT, leave = TEST_EVENT_INIT;
static void blocks(gyre_weak *weak, void *arg) {
  (void)arg;
  test_event_set(&entered);
  test_event_wait_parked(&leave);
  gyre_weak_free(weak);
}

/* The key is dead, and its watch will be told when an earlier callback has returned. In both modes. */
static void a_collection_leaves_the_value_of_a_dying_key_alone(void **state) {
  (void)state;
  for (int k = 0; k < 2; k++)
    for (int cyclic_map = 0; cyclic_map < 2; cyclic_map++) {
      uint64_t before = nodes_destroyed();
      gyre_weakmap *map = map_new(kinds[k]);
      node *key = new_node(), *value = new_node();
      gyre_store(&value->next, value);
      if (cyclic_map) gyre_store(&value->other, as_node(map));
      assert_int_equal(gyre_weakmap_set(map, key, value), 0);
      gyre_release(value);
      test_event_reset(&entered);
      test_event_reset(&leave);
      assert_non_null(gyre_weak_new(key, blocks, NULL));
      struct role death = {.key = hand_over(key), .body = releases_key};
      death.thread = test_thread_start(play, &death);
      test_event_wait_parked(&entered);
      if (cyclic_map) gyre_release(map);
      assert_int_equal(gyre_gc_collect(2), cyclic_map ? 2 : 0);
      assert_int_equal(nodes_destroyed(), before + (uint64_t)cyclic_map);
      test_event_set(&leave);
      test_thread_join(death.thread);
      if (!cyclic_map) {
        assert_int_equal(gyre_weakmap_len(map), 0);
        assert_int_equal(gyre_gc_collect(2), 1);
        gyre_release(map);
      }
      assert_int_equal(nodes_destroyed(), before + 2);
    }
}

static void a_value_that_is_exchanged_while_it_is_proved_lives_or_dies_as_it_should(void **state) {
  (void)state;
  NEEDS_CONCURRENT();
  for (int w = 0; w < 4; w++) {
    uint64_t before = nodes_destroyed();
    GYRE_AUTO(gyre_weakmap) map = map_new(GYRE_WEAK_EPHEMERON);
    gyre_weak *weak;
    ephemeron_make(map, &weak);
    struct role collection = {.map = NULL};
    stage(&collection, collects, proving[w]);
    node *key = gyre_weak_get(weak);
    GYRE_AUTO(node) other = new_node();
    assert_int_equal(gyre_weakmap_set(map, key, other), 0);
    assert_int_equal(nodes_destroyed(), before + 1);
    gyre_release(key); /* its last reference */
    assert_int_equal(nodes_destroyed(), before + 2);
    finish(&collection);
    assert_int_equal(collection.result, 0);
    assert_int_equal(gyre_refcount(other), 1);
    gyre_weak_free(weak);
    test_window_clear();
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(a_map_may_die_while_a_key_of_it_is_dying),
      NODE_TEST(a_key_may_die_while_its_map_is_dying),
      NODE_TEST(an_entry_may_be_taken_out_while_its_key_is_dying),
      NODE_TEST(both_sides_may_die_at_once),
      NODE_TEST(a_value_that_is_taken_out_before_it_is_counted_is_not_given),
      NODE_TEST(a_value_that_is_replaced_while_it_is_counted_is_not_given),
      NODE_TEST(equal_keys_put_in_at_once_are_one_entry),
      NODE_TEST(a_map_may_grow_under_readers_and_writers),
      NODE_TEST(an_entry_taken_out_twice_at_once_goes_to_one),
      NODE_TEST(what_dies_while_a_value_is_replaced_may_use_the_map),
      NODE_TEST(a_collector_that_looks_for_keys_may_find_them_dying),
      NODE_TEST(a_key_that_is_upgraded_saves_its_value),
      NODE_TEST(a_value_that_a_loop_has_found_lives),
      NODE_TEST(a_map_that_dies_or_is_cleared_takes_the_value_of_a_suspect_key),
      NODE_TEST(a_map_that_dies_after_its_key_was_condemned_leaves_the_value),
      NODE_TEST(a_key_may_die_after_its_map_was_condemned),
      NODE_TEST(a_collection_leaves_the_value_of_a_dying_key_alone),
      NODE_TEST(a_value_that_is_exchanged_while_it_is_proved_lives_or_dies_as_it_should),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
