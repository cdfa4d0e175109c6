/* SPDX-License-Identifier: MIT */
/* Eight threads and the collector at the same maps: keys die, values refer to keys and to maps, maps are
 * replaced, entries are put in, looked up, taken out and listed, all at once. Provokes: deaths of an
 * entry's two ends at the same time, by counts and by collections; growth under readers; upgrades that
 * come too late. */
#include "tests/support/node.h"

#define THREADS 8
#define KEYS 48
#define MAPS 5 /* one of each kind, and one more of ephemerons that compares */

/* What the threads share: objects with slots to load from. */
static node *key_slots[KEYS];
static node *map_slots[MAPS];
static gyre__atomic_u64 made;

static uint64_t tag_hash(const void *key) { return ((const node *)key)->tag % 16; }
static int tag_equal(const void *a, const void *b) {
  return ((const node *)a)->tag == ((const node *)b)->tag;
}

static node *counted_node(gyre_type *type, uint64_t tag) {
  /* relaxed: a count. */
  gyre__fetch_add_relaxed(&made, 1);
  return node_new(type, tag);
}

static node *map_of_kind(int i) {
  gyre_weakmap *map = i < 4 ? gyre_weakmap_new((enum gyre_weakmap_kind)i, NULL, NULL)
                            : gyre_weakmap_new(GYRE_WEAK_EPHEMERON, tag_hash, tag_equal);
  TEST_REQUIRE(map != NULL);
  return (node *)(void *)map;
}

static int looks(void *key, void *value, void *arg) {
  struct test_random *random = arg;
  TEST_REQUIRE(((node *)key)->tag == ((node *)value)->tag);
  return test_random_below(random, 30) == 0;
}

/* A value for a key, that perhaps refers to it and to a map. */
static node *value_for(struct test_random *random, node *key, node *map) {
  node *value = counted_node(test_random_below(random, 8) ? &node_type : &finalized_type, key->tag);
  if (test_random_below(random, 2)) gyre_store(&value->next, key);
  if (test_random_below(random, 4) == 0) gyre_store(&value->other, map);
  return value;
}

static void use(struct test_random *random) {
  node *key_slot = key_slots[test_random_below(random, KEYS)];
  node *map_slot = map_slots[test_random_below(random, MAPS)];
  GYRE_AUTO(node) key = gyre_load(&key_slot->next);
  GYRE_AUTO(node) holder = gyre_load(&map_slot->next);
  gyre_weakmap *map = (gyre_weakmap *)(void *)holder;
  node *got = NULL;
  switch (test_random_below(random, 16)) {
  case 0:
  case 1:
  case 2: {
    GYRE_AUTO(node) value = value_for(random, key, holder);
    TEST_REQUIRE(gyre_weakmap_set(map, key, value) == 0);
    break;
  }
  case 3: {
    GYRE_AUTO(node) value = value_for(random, key, holder);
    got = gyre_weakmap_get_or_set(map, key, value);
    TEST_REQUIRE(got != NULL);
    break;
  }
  case 4:
    got = gyre_weakmap_pop(map, key);
    break;
  case 5:
    (void)gyre_weakmap_remove(map, key);
    break;
  case 6: {
    GYRE_AUTO(node) fresh = counted_node(&node_type, key->tag);
    if (test_random_below(random, 2)) gyre_store(&fresh->next, key_slot);
    gyre_store(&key_slot->next, fresh);
    break;
  }
  case 7:
    (void)gyre_weakmap_foreach(map, looks, random);
    break;
  case 8:
    if (test_random_below(random, 20) == 0) gyre_weakmap_clear(map);
    if (test_random_below(random, 20) == 0) {
      uint32_t i = test_random_below(random, MAPS);
      GYRE_AUTO(node) fresh = map_of_kind((int)i);
      gyre_store(&map_slots[i]->next, fresh);
    }
    break;
  default:
    got = gyre_weakmap_get(map, key);
    break;
  }
  TEST_REQUIRE(got == NULL || got->tag == key->tag);
  gyre_release(got);
}

static test_flag running;

static void *uses(void *number) {
  struct test_random random = test_random_new((uint64_t)(uintptr_t)number);
  uint64_t most = test_size("GYRE_TEST_OPS", 60000, 12000, 3000);
  for (uint64_t op = 0; op < most; op++) {
    use(&random);
    if (test_random_below(&random, 4) == 0) gyre_safepoint();
  }
  test_flag_add(&running, (uint32_t)-1);
  return NULL;
}

static void threads_may_do_anything_to_the_same_maps(void **state) {
  (void)state;
  /* relaxed: no other thread. */
  gyre__store_relaxed(&made, 0);
  for (uint64_t i = 0; i < KEYS; i++) {
    key_slots[i] = counted_node(&node_type, 0);
    GYRE_AUTO(node) key = counted_node(&node_type, i);
    gyre_store(&key_slots[i]->next, key);
  }
  for (int i = 0; i < MAPS; i++) {
    map_slots[i] = counted_node(&node_type, 0);
    GYRE_AUTO(node) map = map_of_kind(i);
    gyre_store(&map_slots[i]->next, map);
  }
  test_flag_set(&running, THREADS);
  pthread_t threads[THREADS];
  for (uintptr_t i = 0; i < THREADS; i++)
    threads[i] = test_thread_start(uses, (void *)(i + 1));
  for (int g = 0; test_flag_get(&running) > 0; g++)
    TEST_REQUIRE(gyre_gc_collect(g % 3) >= 0);
  for (int i = 0; i < THREADS; i++)
    test_thread_join(threads[i]);
  test_check();
  /* Without keys, and without the maps of kind KEY and VALUE, nothing is held. */
  for (int i = 0; i < KEYS; i++)
    gyre_clear(&key_slots[i]->next);
  for (int i = 0; i < 2; i++)
    gyre_clear(&map_slots[i]->next);
  while (gyre_gc_collect(2) > 0) {
  }
  for (int i = 2; i < MAPS; i++) {
    GYRE_AUTO(node) map = gyre_load(&map_slots[i]->next);
    assert_int_equal(gyre_weakmap_len((gyre_weakmap *)(void *)map), 0);
  }
  for (int i = 0; i < MAPS; i++)
    gyre_release(map_slots[i]);
  for (int i = 0; i < KEYS; i++)
    gyre_release(key_slots[i]);
  while (gyre_gc_collect(2) > 0) {
  }
  /* relaxed: as above. */
  TEST_AWAIT_SAFELY(nodes_destroyed() == gyre__load_relaxed(&made));
}

/* ---- one winner ---- */

static gyre_weakmap *arena;
static node *arena_keys[KEYS];
static node *winners[THREADS][KEYS];

static void *puts_own(void *number) {
  uintptr_t me = (uintptr_t)number;
  for (int i = 0; i < KEYS; i++) {
    GYRE_AUTO(node) mine = node_new(&node_type, me);
    winners[me][i] = gyre_weakmap_get_or_set(arena, arena_keys[i], mine);
    TEST_REQUIRE(winners[me][i] != NULL);
    gyre_safepoint();
  }
  return NULL;
}

static void all_threads_get_the_same_value(void **state) {
  (void)state;
  for (int round = 0; round < 8; round++) {
    bool equal = round % 2 == 1;
    enum gyre_weakmap_kind kind = (enum gyre_weakmap_kind)(round / 2);
    arena = gyre_weakmap_new(kind, equal ? tag_hash : NULL, equal ? tag_equal : NULL);
    for (uint64_t i = 0; i < KEYS; i++)
      arena_keys[i] = node_new(&node_type, i);
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
      threads[i] = test_thread_start(puts_own, (void *)i);
    for (int i = 0; i < THREADS; i++)
      test_thread_join(threads[i]);
    assert_int_equal(gyre_weakmap_len(arena), KEYS);
    for (int i = 0; i < KEYS; i++) {
      for (int t = 0; t < THREADS; t++) {
        assert_ptr_equal(winners[t][i], winners[0][i]);
        if (t > 0) gyre_release(winners[t][i]);
      }
      gyre_release(winners[0][i]);
      gyre_release(arena_keys[i]);
    }
    gyre_release(arena);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(threads_may_do_anything_to_the_same_maps),
      NODE_TEST_WITH(threads_may_do_anything_to_the_same_maps, "gc:1,gc_threshold:100/2/2"),
      NODE_TEST_WITH(threads_may_do_anything_to_the_same_maps, "gc:1,yield_seed:7"),
      NODE_TEST(all_threads_get_the_same_value),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
