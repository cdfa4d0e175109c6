/* SPDX-License-Identifier: MIT */
/* Weak maps and sets, by one thread: what they hold, what vanishes when, what program code may do. */
#include <errno.h>
#include <string.h>

#include "tests/support/node.h"
#include "tests/support/window.h"

static gyre_weakmap *map_new(enum gyre_weakmap_kind kind) {
  gyre_weakmap *map = gyre_weakmap_new(kind, NULL, NULL);
  TEST_REQUIRE(map != NULL);
  return map;
}

static node *new_node(void) { return node_new(&node_type, 0); }

/* The value's tag, or -1. */
static int64_t tag_of(gyre_weakmap *map, void *key) {
  GYRE_AUTO(node) value = gyre_weakmap_get(map, key);
  TEST_REQUIRE((value != NULL) == (gyre_weakmap_contains(map, key) == 1));
  return value != NULL ? (int64_t)value->tag : -1;
}

/* ---- all kinds ---- */

static const enum gyre_weakmap_kind kinds[] = {GYRE_WEAK_KEY, GYRE_WEAK_VALUE, GYRE_WEAK_BOTH,
                                               GYRE_WEAK_EPHEMERON};
#define FOR_EACH_KIND(kind)                                                                        \
  for (unsigned kind##_i = 0; kind##_i < 4; kind##_i++)                                            \
    for (enum gyre_weakmap_kind kind = kinds[kind##_i], *once = &kind; once != NULL; once = NULL)

static void a_map_gives_what_was_put_in(void **state) {
  (void)state;
  FOR_EACH_KIND(kind) {
    GYRE_AUTO(gyre_weakmap) map = map_new(kind);
    node *a = node_new(&node_type, 1), *b = node_new(&node_type, 2), *c = node_new(&node_type, 3);
    assert_int_equal(gyre_weakmap_len(map), 0);
    assert_int_equal(tag_of(map, a), -1);
    assert_int_equal(gyre_weakmap_set(map, a, b), 0);
    assert_int_equal(gyre_weakmap_set(map, b, c), 0);
    assert_int_equal(gyre_weakmap_len(map), 2);
    assert_int_equal(tag_of(map, a), 2);
    assert_int_equal(tag_of(map, b), 3);
    assert_int_equal(tag_of(map, c), -1);
    assert_int_equal(gyre_weakmap_set(map, a, c), 0);
    assert_int_equal(gyre_weakmap_len(map), 2);
    assert_int_equal(tag_of(map, a), 3);
    node *popped = gyre_weakmap_pop(map, a);
    assert_ptr_equal(popped, c);
    gyre_release(popped);
    assert_null(gyre_weakmap_pop(map, a));
    assert_int_equal(gyre_weakmap_remove(map, a), 0);
    assert_int_equal(gyre_weakmap_remove(map, b), 1);
    assert_int_equal(gyre_weakmap_len(map), 0);
    assert_int_equal(gyre_refcount(a), 1);
    assert_int_equal(gyre_refcount(b), 1);
    assert_int_equal(gyre_refcount(c), 1);
    /* Nothing that the library keeps for itself counts as a weak reference. */
    assert_int_equal(gyre_weakmap_set(map, a, b), 0);
    assert_int_equal(gyre_weak_count(a), 0);
    assert_int_equal(gyre_weak_count(b), 0);
    gyre_release(a);
    gyre_release(b);
    gyre_release(c);
  }
}

static void a_map_holds_only_its_strong_side(void **state) {
  (void)state;
  FOR_EACH_KIND(kind) {
    GYRE_AUTO(gyre_weakmap) map = map_new(kind);
    node *key = new_node(), *value = new_node();
    assert_int_equal(gyre_weakmap_set(map, key, value), 0);
    bool holds_value = kind == GYRE_WEAK_KEY || kind == GYRE_WEAK_EPHEMERON;
    assert_int_equal(gyre_refcount(key), kind == GYRE_WEAK_VALUE ? 2 : 1);
    assert_int_equal(gyre_refcount(value), holds_value ? 2 : 1);
    gyre_release(key);
    gyre_release(value);
  }
}

static void an_entry_goes_with_its_weak_side_at_once(void **state) {
  (void)state;
  uint64_t deaths = 0;
  FOR_EACH_KIND(kind) {
    GYRE_AUTO(gyre_weakmap) map = map_new(kind);
    for (int key_first = 0; key_first < 2; key_first++) {
      node *key = new_node(), *value = new_node();
      assert_int_equal(gyre_weakmap_set(map, key, value), 0);
      if (key_first) {
        gyre_release(key);
        assert_int_equal(gyre_weakmap_len(map), kind == GYRE_WEAK_VALUE ? 1 : 0);
        gyre_release(value);
      } else {
        gyre_release(value);
        bool stays = kind == GYRE_WEAK_KEY || kind == GYRE_WEAK_EPHEMERON;
        assert_int_equal(gyre_weakmap_len(map), stays ? 1 : 0);
        assert_int_equal(gyre_weakmap_contains(map, key), stays);
        gyre_release(key);
      }
      deaths += 2;
      assert_int_equal(gyre_weakmap_len(map), 0);
      assert_int_equal(nodes_destroyed(), deaths);
    }
  }
}

static void a_map_that_dies_gives_up_what_it_holds(void **state) {
  (void)state;
  FOR_EACH_KIND(kind) {
    gyre_weakmap *map = map_new(kind);
    node *key = new_node(), *value = new_node();
    assert_int_equal(gyre_weakmap_set(map, key, value), 0);
    gyre_release(map);
    assert_int_equal(gyre_refcount(key), 1);
    assert_int_equal(gyre_refcount(value), 1);
    gyre_release(key);
    gyre_release(value);
  }
  assert_int_equal(nodes_destroyed(), 8);
}

static void clearing_takes_everything_out(void **state) {
  (void)state;
  FOR_EACH_KIND(kind) {
    GYRE_AUTO(gyre_weakmap) map = map_new(kind);
    node *nodes[100];
    for (int i = 0; i < 100; i++)
      nodes[i] = new_node();
    for (int i = 0; i < 100; i++)
      assert_int_equal(gyre_weakmap_set(map, nodes[i], nodes[(i + 1) % 100]), 0);
    assert_int_equal(gyre_weakmap_len(map), 100);
    gyre_weakmap_clear(map);
    assert_int_equal(gyre_weakmap_len(map), 0);
    for (int i = 0; i < 100; i++) {
      assert_int_equal(gyre_refcount(nodes[i]), 1);
      gyre_release(nodes[i]);
    }
  }
}

static void get_or_set_gives_the_first_value(void **state) {
  (void)state;
  FOR_EACH_KIND(kind) {
    GYRE_AUTO(gyre_weakmap) map = map_new(kind);
    node *key = new_node(), *one = new_node(), *two = new_node();
    node *got = gyre_weakmap_get_or_set(map, key, one);
    assert_ptr_equal(got, one);
    gyre_release(got);
    got = gyre_weakmap_get_or_set(map, key, two);
    assert_ptr_equal(got, one);
    gyre_release(got);
    assert_int_equal(gyre_weakmap_len(map), 1);
    gyre_release(one);
    /* What is not held otherwise may be replaced. */
    got = gyre_weakmap_get_or_set(map, key, two);
    bool held = kind == GYRE_WEAK_KEY || kind == GYRE_WEAK_EPHEMERON;
    assert_ptr_equal(got, held ? one : two);
    gyre_release(got);
    gyre_release(key);
    gyre_release(two);
  }
}

static void bad_arguments_are_refused(void **state) {
  (void)state;
  errno = 0;
  assert_null(gyre_weakmap_new((enum gyre_weakmap_kind)4, NULL, NULL));
  assert_int_equal(errno, EINVAL);
  GYRE_AUTO(gyre_weakmap) map = map_new(GYRE_WEAK_KEY);
  GYRE_AUTO(node) n = new_node();
  assert_int_equal(gyre_weakmap_set(map, NULL, n), -EINVAL);
  assert_int_equal(gyre_weakmap_set(map, n, NULL), -EINVAL);
  errno = 0;
  assert_null(gyre_weakmap_get_or_set(map, NULL, n));
  assert_int_equal(errno, EINVAL);
  assert_null(gyre_weakmap_get(map, NULL));
  assert_int_equal(gyre_weakmap_contains(map, NULL), 0);
  assert_null(gyre_weakmap_pop(map, NULL));
  assert_int_equal(gyre_weakmap_len(map), 0);
  assert_int_equal(gyre_weakmap_set(map, n, n), 0);
  assert_int_equal(gyre_weakmap_foreach(map, NULL, NULL), -EINVAL);
  assert_int_equal(gyre_weakmap_keyrefs(map, NULL), -EINVAL);
  assert_int_equal(gyre_weakmap_valuerefs(map, NULL), -EINVAL);
  assert_int_equal(gyre_weakmap_remove(map, n), 1);
}

/* ---- equality of the program's ---- */

static uint64_t tag_hash(const void *key) { return ((const node *)key)->tag % 4; }
static int tag_equal(const void *a, const void *b) {
  return ((const node *)a)->tag == ((const node *)b)->tag;
}

static uint64_t odd_hash(const void *key) { return ((const node *)key)->tag; }

static void one_function_without_the_other_is_refused(void **state) {
  (void)state;
  errno = 0;
  assert_null(gyre_weakmap_new(GYRE_WEAK_KEY, odd_hash, NULL));
  assert_int_equal(errno, EINVAL);
  errno = 0;
  assert_null(gyre_weakmap_new(GYRE_WEAK_KEY, NULL, tag_equal));
  assert_int_equal(errno, EINVAL);
}

static void keys_are_compared_as_the_program_says_and_the_first_stays(void **state) {
  (void)state;
  FOR_EACH_KIND(kind) {
    GYRE_AUTO(gyre_weakmap) map = gyre_weakmap_new(kind, tag_hash, tag_equal);
    node *keys[40], *values[40];
    for (uint64_t i = 0; i < 40; i++) {
      keys[i] = node_new(&node_type, i);
      values[i] = node_new(&node_type, 1000 + i);
      assert_int_equal(gyre_weakmap_set(map, keys[i], values[i]), 0);
    }
    GYRE_AUTO(node) like = node_new(&node_type, 7);
    assert_int_equal(tag_of(map, like), 1007);
    assert_int_equal(gyre_weakmap_set(map, like, values[8]), 0);
    assert_int_equal(gyre_weakmap_len(map), 40);
    assert_int_equal(tag_of(map, keys[7]), 1008);
    gyre_weak **refs;
    ptrdiff_t n = gyre_weakmap_keyrefs(map, &refs);
    assert_int_equal(n, 40);
    int firsts = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
      GYRE_WITH(node, key, refs[i]) firsts += key == keys[7] ? 1 : key == like ? 100 : 0;
      gyre_weak_free(refs[i]);
    }
    gyre_free(refs);
    assert_int_equal(firsts, 1);
    node *popped = gyre_weakmap_pop(map, like);
    assert_ptr_equal(popped, values[8]);
    gyre_release(popped);
    assert_int_equal(gyre_weakmap_len(map), 39);
    for (int i = 0; i < 40; i++) {
      gyre_release(keys[i]);
      gyre_release(values[i]);
    }
    gyre_weakmap_clear(map);
  }
}

static gyre_weakmap *reentered;
static node *reentrant_key;
static int reentries;

/* Does to the map whatever program code might, and passes safepoints. */
static int reentrant_equal(const void *a, const void *b) {
  if (reentries > 0) {
    reentries--;
    node *fresh = node_new(&node_type, 5000 + (uint64_t)reentries);
    TEST_REQUIRE(gyre_weakmap_set(reentered, fresh, fresh) == 0);
    for (uint64_t i = 0; i < 20; i++) {
      GYRE_AUTO(node) more = node_new(&node_type, 6000 + 4 * i);
      TEST_REQUIRE(gyre_weakmap_set(reentered, more, reentrant_key) == 0);
    }
    gyre_gc_collect(2);
    gyre_synchronize();
    TEST_REQUIRE(gyre_weakmap_remove(reentered, fresh) == 1);
    gyre_release(fresh);
  }
  return tag_equal(a, b);
}

static void comparing_may_change_the_map(void **state) {
  (void)state;
  FOR_EACH_KIND(kind) {
    GYRE_AUTO(gyre_weakmap) map = gyre_weakmap_new(kind, tag_hash, reentrant_equal);
    reentered = map;
    reentries = 0;
    node *keys[8];
    reentrant_key = node_new(&node_type, 77);
    for (uint64_t i = 0; i < 8; i++) {
      keys[i] = node_new(&node_type, 4 * i);
      assert_int_equal(gyre_weakmap_set(map, keys[i], reentrant_key), 0);
    }
    GYRE_AUTO(node) like = node_new(&node_type, 28);
    GYRE_AUTO(node) unlike = node_new(&node_type, 32);
    reentries = 3;
    assert_int_equal(tag_of(map, like), 77);
    reentries = 3;
    assert_int_equal(tag_of(map, unlike), -1);
    reentries = 3;
    assert_int_equal(gyre_weakmap_set(map, unlike, like), 0);
    assert_int_equal(tag_of(map, unlike), 28);
    reentries = 3;
    node *got = gyre_weakmap_get_or_set(map, like, unlike);
    assert_ptr_equal(got, reentrant_key);
    gyre_release(got);
    reentries = 3;
    assert_int_equal(gyre_weakmap_remove(map, like), 1);
    reentries = 0;
    for (int i = 0; i < 8; i++)
      gyre_release(keys[i]);
    gyre_weakmap_clear(map);
    gyre_release(reentrant_key);
  }
}

/* ---- loops ---- */

struct loop {
  gyre_weakmap *map;
  node **nodes;
  int seen;
  int stop_after;
};

static int releases_all(void *key, void *value, void *arg) {
  struct loop *loop = arg;
  TEST_REQUIRE(((node *)value)->tag == ((node *)key)->tag + 1000);
  loop->seen++;
  for (int i = 0; loop->nodes != NULL && i < 40; i++)
    gyre_release(loop->nodes[i]);
  loop->nodes = NULL;
  GYRE_AUTO(node) more = node_new(&node_type, 9999);
  TEST_REQUIRE(gyre_weakmap_set(loop->map, more, more) == 0);
  if (loop->seen % 5 == 0) gyre_gc_collect(2);
  return loop->stop_after == loop->seen ? 42 : 0;
}

static void a_loop_sees_what_was_there_whatever_dies_meanwhile(void **state) {
  (void)state;
  FOR_EACH_KIND(kind) {
    for (int stop = 0; stop < 2; stop++) {
      GYRE_AUTO(gyre_weakmap) map = map_new(kind);
      node *nodes[40];
      for (uint64_t i = 0; i < 20; i++) {
        nodes[i] = node_new(&node_type, i);
        nodes[20 + i] = node_new(&node_type, 1000 + i);
        assert_int_equal(gyre_weakmap_set(map, nodes[i], nodes[20 + i]), 0);
      }
      struct loop loop = {.map = map, .nodes = nodes, .stop_after = stop ? 7 : -1};
      assert_int_equal(gyre_weakmap_foreach(map, releases_all, &loop), stop ? 42 : 0);
      assert_int_equal(loop.seen, stop ? 7 : 20);
      gyre_gc_collect(2);
      /* Those that a map of kind KEY or VALUE keeps for itself refer to themselves. */
      int kept = kind == GYRE_WEAK_KEY || kind == GYRE_WEAK_VALUE ? loop.seen : 0;
      assert_int_equal(gyre_weakmap_len(map), kept);
    }
  }
}

/* ---- deaths that put something in ---- */

enum { LATECOMERS = 20 };
static struct {
  gyre_weakmap *map;
  node *nodes[LATECOMERS];
  int calls;
} late;

/* Enough for the table to grow under the death that is under way. */
static void puts_all_in(gyre_weak *weak, void *arg) {
  (void)arg;
  late.calls++;
  for (int i = 0; i < LATECOMERS; i++)
    TEST_REQUIRE(gyre_weakmap_set(late.map, late.nodes[i], late.nodes[LATECOMERS - 1 - i]) == 0);
  gyre_weak_free(weak);
}

static void callbacks_of_a_death_may_put_entries_in(void **state) {
  (void)state;
  FOR_EACH_KIND(kind) {
    for (int collect = 0; collect < 2; collect++) {
      late.map = map_new(kind);
      late.calls = 0;
      for (uint64_t i = 0; i < LATECOMERS; i++)
        late.nodes[i] = node_new(&node_type, i);
      /* One callback older than the entry and one younger, of both sides. */
      node *sides[2] = {new_node(), new_node()};
      for (int i = 0; i < 2; i++)
        TEST_REQUIRE(gyre_weak_new(sides[i], puts_all_in, NULL) != NULL);
      assert_int_equal(gyre_weakmap_set(late.map, sides[0], sides[1]), 0);
      for (int i = 0; i < 2; i++) {
        TEST_REQUIRE(gyre_weak_new(sides[i], puts_all_in, NULL) != NULL);
        if (collect) gyre_store(&sides[i]->next, sides[i]);
      }
      gyre_release(sides[0]);
      gyre_release(sides[1]);
      for (int i = 0; i < 3; i++)
        gyre_gc_collect(2);
      /* Of an entry with a strong side, the weak side dies first, and the other afterwards. */
      assert_int_equal(late.calls, 4);
      assert_int_equal(gyre_weakmap_len(late.map), LATECOMERS);
      for (int i = 0; i < LATECOMERS; i++)
        assert_int_equal(tag_of(late.map, late.nodes[i]), LATECOMERS - 1 - i);
      gyre_weakmap_clear(late.map);
      for (int i = 0; i < LATECOMERS; i++)
        gyre_release(late.nodes[i]);
      gyre_release(late.map);
    }
  }
}

static void references_to_both_sides_are_weak(void **state) {
  (void)state;
  FOR_EACH_KIND(kind) {
    GYRE_AUTO(gyre_weakmap) map = map_new(kind);
    node *key = new_node(), *value = new_node();
    assert_int_equal(gyre_weakmap_set(map, key, value), 0);
    gyre_weak **keys = NULL, **values = NULL;
    assert_int_equal(gyre_weakmap_keyrefs(map, &keys), 1);
    assert_int_equal(gyre_weakmap_valuerefs(map, &values), 1);
    gyre_release(gyre_weak_get(keys[0]));
    assert_int_equal(gyre_refcount(key), kind == GYRE_WEAK_VALUE ? 2 : 1);
    gyre_release(key);
    gyre_release(value);
    assert_int_equal(gyre_weak_is_dead(keys[0]), 1);
    assert_int_equal(gyre_weak_is_dead(values[0]), 1);
    gyre_weak_free(keys[0]);
    gyre_weak_free(values[0]);
    gyre_free(keys);
    gyre_free(values);
    assert_int_equal(gyre_weakmap_keyrefs(map, &keys), 0);
    gyre_free(keys);
  }
}

/* ---- many entries, against a list ---- */

#define KEYS 600

static void a_map_of_many_entries_agrees_with_a_list(void **state) {
  (void)state;
  FOR_EACH_KIND(kind) {
    for (int equal = 0; equal < 2; equal++) {
      struct test_random random = test_random_new(kind + 10u * (unsigned)equal);
      GYRE_AUTO(gyre_weakmap)
      map = gyre_weakmap_new(kind, equal ? odd_hash : NULL, equal ? tag_equal : NULL);
      static node *keys[KEYS], *values[KEYS];
      static int has[KEYS]; /* its value's number, + 1 */
      uint64_t tag = 0;
      for (int i = 0; i < KEYS; i++) {
        keys[i] = node_new(&node_type, tag++);
        values[i] = node_new(&node_type, tag++);
        has[i] = 0;
      }
      uint64_t most = test_size("GYRE_TEST_OPS", 60000, 8000, 4000);
      for (uint64_t op = 0; op < most; op++) {
        uint32_t k = test_random_below(&random, KEYS), v = test_random_below(&random, KEYS);
        switch (test_random_below(&random, op < most / 2 ? 8 : 10)) {
        case 0: /* a key dies */
          gyre_release(keys[k]);
          keys[k] = node_new(&node_type, tag++);
          /* An entry that holds its key goes on, with a key that the test has not any more. */
          if (kind == GYRE_WEAK_VALUE && has[k]) {
            gyre_release(values[has[k] - 1]);
            for (int i = 0, old = has[k]; i < KEYS; i++)
              if (has[i] == old) has[i] = 0, values[old - 1] = NULL;
            for (int i = 0; i < KEYS; i++)
              if (values[i] == NULL) values[i] = node_new(&node_type, tag++);
          }
          has[k] = 0;
          break;
        case 1:
        case 2:
        case 3:
        case 4:
          assert_int_equal(gyre_weakmap_set(map, keys[k], values[v]), 0);
          has[k] = (int)v + 1;
          break;
        case 5: {
          node *got = gyre_weakmap_get_or_set(map, keys[k], values[v]);
          if (!has[k]) has[k] = (int)v + 1;
          assert_ptr_equal(got, values[has[k] - 1]);
          gyre_release(got);
          break;
        }
        case 6: {
          node *got = gyre_weakmap_get(map, keys[k]);
          assert_ptr_equal(got, has[k] ? values[has[k] - 1] : NULL);
          gyre_release(got);
          break;
        }
        case 7:
          if (op % 64 == 0) gyre_gc_collect((int)(op / 64 % 3));
          break;
        default:
          assert_int_equal(gyre_weakmap_remove(map, keys[k]), has[k] != 0);
          has[k] = 0;
          break;
        }
      }
      size_t live = 0;
      for (int i = 0; i < KEYS; i++)
        live += has[i] != 0;
      assert_int_equal(gyre_weakmap_len(map), live);
      for (int i = 0; i < KEYS; i++) {
        assert_int_equal(gyre_weakmap_contains(map, keys[i]), has[i] != 0);
        gyre_release(keys[i]);
      }
      for (int i = 0; i < KEYS; i++)
        gyre_release(values[i]);
      assert_int_equal(gyre_weakmap_len(map), 0);
    }
  }
}

/* ---- garbage ---- */

static void a_value_that_refers_to_its_key_keeps_both_in_a_map_of_kind_key(void **state) {
  (void)state;
  gyre_weakmap *map = map_new(GYRE_WEAK_KEY);
  node *key = new_node(), *value = new_node();
  gyre_store(&value->next, key);
  assert_int_equal(gyre_weakmap_set(map, key, value), 0);
  gyre_release(key);
  gyre_release(value);
  for (int i = 0; i < 3; i++)
    assert_int_equal(gyre_gc_collect(2), 0);
  assert_int_equal(gyre_weakmap_len(map), 1);
  gyre_release(map);
  assert_int_equal(nodes_destroyed(), 2);
}

/* A slot that can hold a map. */
static node *as_node(gyre_weakmap *map) { return (node *)(void *)map; }

static void a_map_in_a_cycle_is_garbage(void **state) {
  (void)state;
  FOR_EACH_KIND(kind) {
    uint64_t before = nodes_destroyed();
    gyre_weakmap *map = map_new(kind);
    node *key = new_node(), *value = new_node();
    node *strong = kind == GYRE_WEAK_VALUE ? key : value;
    gyre_store(&strong->next, as_node(map));
    assert_int_equal(gyre_weakmap_set(map, key, value), 0);
    gyre_release(strong);
    assert_int_equal(gyre_gc_collect(2), 0);
    gyre_release(map);
    /* The map and what it holds; the weak side lives. */
    assert_int_equal(gyre_gc_collect(2), kind == GYRE_WEAK_BOTH ? 0 : 2);
    assert_int_equal(nodes_destroyed() - before, kind == GYRE_WEAK_BOTH ? 1 : 1);
    gyre_release(strong == key ? value : key);
    assert_int_equal(nodes_destroyed() - before, 2);
  }
}

/* ---- ephemerons ---- */

static void a_value_that_refers_to_its_key_is_freed_in_an_ephemeron_map(void **state) {
  (void)state;
  GYRE_AUTO(gyre_weakmap) map = map_new(GYRE_WEAK_EPHEMERON);
  node *key = new_node(), *value = new_node();
  gyre_store(&value->next, key);
  assert_int_equal(gyre_weakmap_set(map, key, value), 0);
  gyre_release(value);
  for (int g = 0; g < 3; g++)
    assert_int_equal(gyre_gc_collect(g), 0);
  assert_int_equal(gyre_gc_collect(2), 0);
  gyre_release(key);
  assert_int_equal(gyre_weakmap_len(map), 1);
  assert_int_equal(gyre_gc_collect(2), 2);
  assert_int_equal(nodes_destroyed(), 2);
  assert_int_equal(gyre_weakmap_len(map), 0);
}

static void an_old_ephemeron_map_gives_up_younger_entries(void **state) {
  (void)state;
  GYRE_AUTO(gyre_weakmap) map = map_new(GYRE_WEAK_EPHEMERON);
  gyre_gc_collect(2);
  gyre_gc_collect(2);
  for (int g = 0; g < 3; g++) {
    node *key = new_node(), *value = new_node();
    gyre_store(&value->next, key);
    assert_int_equal(gyre_weakmap_set(map, key, value), 0);
    gyre_release(value);
    /* The map is none of the objects that are looked at. */
    assert_int_equal(gyre_gc_collect(g), 0);
    gyre_release(key);
    assert_int_equal(gyre_gc_collect(g < 2 ? g + 1 : 2), 2);
    assert_int_equal(gyre_weakmap_len(map), 0);
  }
}

static void a_younger_ephemeron_map_gives_up_entries_of_old_keys(void **state) {
  (void)state;
  node *key = new_node();
  gyre_gc_collect(2);
  gyre_gc_collect(2);
  gyre_weakmap *map = map_new(GYRE_WEAK_EPHEMERON);
  node *value = new_node();
  gyre_store(&value->next, key);
  gyre_store(&value->other, as_node(map));
  assert_int_equal(gyre_weakmap_set(map, key, value), 0);
  gyre_release(value);
  assert_int_equal(gyre_gc_collect(0), 0);
  assert_int_equal(tag_of(map, key), 0);
  gyre_release(map);
  assert_int_equal(gyre_gc_collect(1), 2);
  assert_int_equal(nodes_destroyed(), 1);
  assert_int_equal(gyre_refcount(key), 1);
  gyre_release(key);
}

static void a_value_that_refers_to_the_map_does_not_keep_it(void **state) {
  (void)state;
  gyre_weakmap *map = map_new(GYRE_WEAK_EPHEMERON);
  node *key = new_node(), *value = new_node();
  gyre_store(&value->next, as_node(map));
  gyre_store(&value->other, key);
  assert_int_equal(gyre_weakmap_set(map, key, value), 0);
  gyre_release(value);
  assert_int_equal(gyre_gc_collect(2), 0);
  gyre_release(map);
  assert_int_equal(gyre_gc_collect(2), 2);
  assert_int_equal(nodes_destroyed(), 1);
  gyre_release(key);
  assert_int_equal(nodes_destroyed(), 2);
}

static void map_key_and_value_may_be_one_cycle(void **state) {
  (void)state;
  gyre_weakmap *map = map_new(GYRE_WEAK_EPHEMERON);
  node *key = new_node(), *value = new_node();
  gyre_store(&value->next, as_node(map));
  gyre_store(&value->other, key);
  gyre_store(&key->next, as_node(map));
  assert_int_equal(gyre_weakmap_set(map, key, value), 0);
  gyre_release(value);
  gyre_release(key);
  assert_int_equal(gyre_gc_collect(2), 2); /* the key, and its value */
  assert_int_equal(nodes_destroyed(), 2);
  gyre_release(map);
}

/* As said in gyre/weakmap.h. */
static void a_leaf_as_key_counts_as_reachable_while_its_value_refers_to_it(void **state) {
  (void)state;
  gyre_weakmap *map = map_new(GYRE_WEAK_EPHEMERON);
  node *leaf = gyre_new(&leaf_type), *value = new_node();
  gyre_store(&value->next, leaf);
  assert_int_equal(gyre_weakmap_set(map, leaf, value), 0);
  gyre_release(leaf);
  gyre_release(value);
  for (int i = 0; i < 3; i++)
    assert_int_equal(gyre_gc_collect(2), 0);
  assert_int_equal(gyre_weakmap_len(map), 1);
  gyre_weakmap_clear(map);
  assert_int_equal(nodes_destroyed(), 2);
  gyre_release(map);
}

static void a_value_lives_while_another_map_and_key_hold_it(void **state) {
  (void)state;
  GYRE_AUTO(gyre_weakmap) one = map_new(GYRE_WEAK_EPHEMERON);
  GYRE_AUTO(gyre_weakmap) two = map_new(GYRE_WEAK_EPHEMERON);
  node *a = new_node(), *b = new_node(), *value = node_new(&node_type, 5);
  gyre_store(&value->next, a);
  gyre_store(&value->other, b);
  assert_int_equal(gyre_weakmap_set(one, a, value), 0);
  assert_int_equal(gyre_weakmap_set(two, b, value), 0);
  gyre_release(value);
  gyre_release(a);
  assert_int_equal(gyre_gc_collect(2), 0);
  assert_int_equal(tag_of(two, b), 5);
  assert_int_equal(gyre_weakmap_len(one), 1);
  gyre_release(b);
  assert_int_equal(gyre_gc_collect(2), 3);
  assert_int_equal(gyre_weakmap_len(one), 0);
  assert_int_equal(gyre_weakmap_len(two), 0);
}

/* n entries: each value is the key of the next, in two maps by turns. Returns the first key. */
static node *chain(gyre_weakmap *maps[2], node **last, int n) {
  node *first = new_node(), *key = first;
  for (int i = 0; i < n; i++) {
    node *value = new_node();
    gyre_store(&value->next, first);
    TEST_REQUIRE(gyre_weakmap_set(maps[i % 2], key, value) == 0);
    if (key != first) gyre_release(key);
    key = value;
  }
  *last = key;
  return first;
}

static void a_chain_of_ephemerons_lives_and_dies_as_one(void **state) {
  (void)state;
  enum { LENGTH = 3000 };
  gyre_weakmap *maps[2] = {map_new(GYRE_WEAK_EPHEMERON), map_new(GYRE_WEAK_EPHEMERON)};
  node *last, *first = chain(maps, &last, LENGTH);
  gyre_release(last);
  for (int i = 0; i < 3; i++)
    assert_int_equal(gyre_gc_collect(2), 0);
  assert_int_equal(gyre_weakmap_len(maps[0]) + gyre_weakmap_len(maps[1]), LENGTH);
  gyre_release(first);
  assert_int_equal(gyre_gc_collect(2), LENGTH + 1);
  assert_int_equal(gyre_weakmap_len(maps[0]) + gyre_weakmap_len(maps[1]), 0);
  /* Without one of the maps every second link is missing. */
  first = chain(maps, &last, LENGTH);
  gyre_release(last);
  gyre_release(maps[1]);
  TEST_AWAIT_SAFELY(nodes_destroyed() == LENGTH + 1 + LENGTH - 1);
  assert_int_equal(gyre_weakmap_len(maps[0]), 1);
  gyre_release(first);
  assert_int_equal(gyre_gc_collect(2), 2);
  gyre_release(maps[0]);
}

static void *drops_first(void *chain_first) {
  gyre_release(chain_first);
  return NULL;
}

/* By the count alone: each value dies with its key. */
static void a_long_chain_of_entries_needs_no_stack(void **state) {
  (void)state;
  uint64_t length = test_size("GYRE_TEST_LENGTH", 300000, 30000, 10000);
  for (int strong = 0; strong < 2; strong++) {
    uint64_t before = nodes_destroyed();
    GYRE_AUTO(gyre_weakmap) map = map_new(strong ? GYRE_WEAK_KEY : GYRE_WEAK_EPHEMERON);
    node *first = new_node(), *key = gyre_retain(first);
    for (uint64_t i = 0; i < length; i++) {
      node *value = new_node();
      assert_int_equal(gyre_weakmap_set(map, key, value), 0);
      gyre_release(key);
      key = value;
      gyre_safepoint();
    }
    gyre_release(key);
    test_thread_run(drops_first, first); /* with a small stack */
    TEST_AWAIT_SAFELY(nodes_destroyed() == before + length + 1);
    assert_int_equal(gyre_weakmap_len(map), 0);
  }
}

static node *saved;
static int saves(node *n) {
  if (saved == NULL && n->tag == 1) saved = gyre_retain(n);
  return 0;
}

static void a_finalizer_may_bring_an_ephemeron_back(void **state) {
  (void)state;
  GYRE_AUTO(gyre_weakmap) map = map_new(GYRE_WEAK_EPHEMERON);
  for (uint64_t save_key = 0; save_key < 2; save_key++) {
    saved = NULL;
    node_on_finalize = saves;
    node *key = node_new(&finalized_type, save_key), *value = node_new(&finalized_type, !save_key);
    gyre_store(&value->next, key);
    assert_int_equal(gyre_weakmap_set(map, key, value), 0);
    gyre_release(value);
    gyre_release(key);
    /* With the value lives the key, which it refers to; and with the key the value. */
    assert_int_equal(gyre_gc_collect(2), 0);
    assert_ptr_equal(saved, save_key ? key : value);
    assert_int_equal(gyre_weakmap_len(map), 1);
    assert_int_equal(tag_of(map, key), (int64_t)!save_key);
    gyre_release(saved);
    assert_int_equal(gyre_gc_collect(2), 2);
    assert_int_equal(gyre_weakmap_len(map), 0);
  }
  assert_int_equal(nodes_finalized(), 4);
}

static void dead_keys_of_garbage_are_told_before_anything_is_freed(void **state) {
  (void)state;
  /* Rings of key and value, in maps of which some are garbage as well. */
  for (int round = 0; round < 8; round++) {
    gyre_weakmap *map = map_new(GYRE_WEAK_EPHEMERON);
    node *keys[10];
    for (int i = 0; i < 10; i++) {
      keys[i] = node_new(i % 2 ? &finalized_type : &node_type, 0);
      node *value = new_node();
      gyre_store(&value->next, keys[i]);
      if (round & 1) gyre_store(&value->other, as_node(map));
      if (round & 2 && i > 0) gyre_store(&keys[i]->next, keys[i - 1]);
      assert_int_equal(gyre_weakmap_set(map, keys[i], value), 0);
      gyre_release(value);
    }
    if (round & 4) gyre_gc_collect(2);
    for (int i = 0; i < 10; i++)
      gyre_release(keys[i]);
    gyre_release(map);
    gyre_gc_collect(2);
    gyre_gc_collect(2);
    assert_int_equal(nodes_destroyed(), 20 * (round + 1));
  }
}

/* ---- sets ---- */

static int sums(void *member, void *arg) {
  *(uint64_t *)arg += ((node *)member)->tag;
  return 0;
}

static void a_set_has_its_members_while_they_live(void **state) {
  (void)state;
  for (int equal = 0; equal < 2; equal++) {
    GYRE_AUTO(gyre_weakset)
    set = gyre_weakset_new(equal ? tag_hash : NULL, equal ? tag_equal : NULL);
    node *a = node_new(&node_type, 1), *b = node_new(&node_type, 2), *c = node_new(&node_type, 4);
    GYRE_AUTO(node) like_a = node_new(&node_type, 1);
    assert_int_equal(gyre_weakset_add(set, NULL), -EINVAL);
    assert_int_equal(gyre_weakset_add(set, a), 1);
    assert_int_equal(gyre_weakset_add(set, a), 0);
    assert_int_equal(gyre_weakset_contains(set, like_a), equal);
    assert_int_equal(gyre_weakset_add(set, b), 1);
    assert_int_equal(gyre_weakset_add(set, c), 1);
    assert_int_equal(gyre_weakset_len(set), 3);
    uint64_t sum = 0;
    assert_int_equal(gyre_weakset_foreach(set, sums, &sum), 0);
    assert_int_equal(sum, 7);
    assert_int_equal(gyre_weakset_foreach(set, NULL, NULL), -EINVAL);
    gyre_release(b);
    assert_int_equal(gyre_weakset_len(set), 2);
    assert_int_equal(gyre_weakset_remove(set, like_a), equal);
    assert_int_equal(gyre_weakset_remove(set, a), !equal);
    node *popped = gyre_weakset_pop(set);
    assert_ptr_equal(popped, c);
    gyre_release(popped);
    assert_null(gyre_weakset_pop(set));
    assert_int_equal(gyre_weakset_add(set, c), 1);
    gyre_weakset_clear(set);
    assert_int_equal(gyre_weakset_len(set), 0);
    gyre_release(a);
    gyre_release(c);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(a_map_gives_what_was_put_in),
      NODE_TEST(a_map_holds_only_its_strong_side),
      NODE_TEST(an_entry_goes_with_its_weak_side_at_once),
      NODE_TEST(a_map_that_dies_gives_up_what_it_holds),
      NODE_TEST(clearing_takes_everything_out),
      NODE_TEST(get_or_set_gives_the_first_value),
      NODE_TEST(bad_arguments_are_refused),
      NODE_TEST(one_function_without_the_other_is_refused),
      NODE_TEST(keys_are_compared_as_the_program_says_and_the_first_stays),
      NODE_TEST(comparing_may_change_the_map),
      NODE_TEST(a_loop_sees_what_was_there_whatever_dies_meanwhile),
      NODE_TEST(callbacks_of_a_death_may_put_entries_in),
      NODE_TEST(references_to_both_sides_are_weak),
      NODE_TEST(a_map_of_many_entries_agrees_with_a_list),
      NODE_TEST(a_value_that_refers_to_its_key_keeps_both_in_a_map_of_kind_key),
      NODE_TEST(a_map_in_a_cycle_is_garbage),
      NODE_TEST(a_value_that_refers_to_its_key_is_freed_in_an_ephemeron_map),
      NODE_TEST(an_old_ephemeron_map_gives_up_younger_entries),
      NODE_TEST(a_younger_ephemeron_map_gives_up_entries_of_old_keys),
      NODE_TEST(a_value_that_refers_to_the_map_does_not_keep_it),
      NODE_TEST(map_key_and_value_may_be_one_cycle),
      NODE_TEST(a_leaf_as_key_counts_as_reachable_while_its_value_refers_to_it),
      NODE_TEST(a_value_lives_while_another_map_and_key_hold_it),
      NODE_TEST(a_chain_of_ephemerons_lives_and_dies_as_one),
      NODE_TEST(a_long_chain_of_entries_needs_no_stack),
      NODE_TEST(a_finalizer_may_bring_an_ephemeron_back),
      NODE_TEST(dead_keys_of_garbage_are_told_before_anything_is_freed),
      NODE_TEST(a_set_has_its_members_while_they_live),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
