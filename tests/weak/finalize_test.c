/* SPDX-License-Identifier: MIT */
/* Functions registered with gyre_finalize_new(): called once, by a death, by hand or at the end. Closures,
 * and lists of weak references. */
#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/node.h"
#include "tests/support/window.h"

static char calls[64];
static gyre__atomic_u32 call_count, freed_count;

static int result_of_notes;
static int notes(void *arg) {
  size_t length = strlen(calls);
  TEST_REQUIRE(length + 1 < sizeof calls);
  calls[length] = *(const char *)arg;
  calls[length + 1] = '\0';
  return result_of_notes;
}

static int counts(void *arg) {
  (void)arg;
  /* relaxed: a count. */
  gyre__fetch_add_relaxed(&call_count, 1);
  return 0;
}

static void counts_freed(void *arg) {
  (void)arg;
  /* relaxed: a count. */
  gyre__fetch_add_relaxed(&freed_count, 1);
}

static int begin(void **state) {
  calls[0] = '\0';
  result_of_notes = 0;
  /* relaxed: no other thread. */
  gyre__store_relaxed(&call_count, 0);
  gyre__store_relaxed(&freed_count, 0);
  return nodes_begin(state);
}

#define FINALIZE_TEST(name)                                                                        \
  { #name, name, begin, test_end, (void *)(uintptr_t) "gc:0" }

static gyre_finalize *on_death(void *object, const char *letter) {
  gyre_finalize *f = gyre_finalize_new(object, notes, (void *)(uintptr_t)letter, counts_freed);
  TEST_REQUIRE(f != NULL);
  return f;
}

static node *new_node(void) { return node_new(&node_type, 0); }
static uint32_t freed(void) {
  /* relaxed: a count. */
  return gyre__load_relaxed(&freed_count);
}

/* ---- deaths, and by hand ---- */

static void a_death_calls_the_newest_first_and_once(void **state) {
  (void)state;
  test_log_capture();
  result_of_notes = 5;
  node *n = new_node();
  gyre_finalize *a = on_death(n, "a"), *b = on_death(n, "b");
  assert_int_equal(gyre_weak_count(n), 0);
  assert_true(gyre_finalize_alive(a) && gyre_finalize_alive(b));
  gyre_finalize_free(b);
  gyre_release(n);
  assert_string_equal(calls, "ba");
  assert_int_equal(freed(), 2);
  assert_int_equal(gyre_finalize_alive(a), 0);
  int result = 7;
  assert_int_equal(gyre_finalize_call(a, &result), 0);
  assert_int_equal(result, 7);
  assert_int_equal(gyre_finalize_detach(a, NULL), 0);
  assert_int_equal(gyre_finalize_peek(a, NULL), 0);
  gyre_finalize_free(a);
  assert_int_equal(test_log_count("returned"), 2);
}

static void a_call_by_hand_gives_the_result_and_is_the_only_one(void **state) {
  (void)state;
  result_of_notes = 'x';
  node *n = new_node();
  gyre_finalize *f = on_death(n, "x");
  int result = 0;
  assert_int_equal(gyre_finalize_call(f, &result), 1);
  assert_int_equal(result, 'x');
  assert_int_equal(gyre_finalize_call(f, &result), 0);
  assert_int_equal(freed(), 1);
  /* The object lives, but nothing is registered. */
  assert_int_equal(gyre_finalize_alive(f), 0);
  assert_int_equal(gyre_finalize_peek(f, NULL), 0);
  gyre_release(n);
  assert_string_equal(calls, "x");
  gyre_finalize_free(f);
}

static void detaching_gives_the_argument_back(void **state) {
  (void)state;
  node *n = new_node();
  gyre_finalize *f = on_death(n, "x");
  struct gyre_finalize_info info;
  assert_int_equal(gyre_finalize_peek(f, &info), 1);
  assert_ptr_equal(info.object, n);
  assert_ptr_equal(info.fn, notes);
  assert_true(gyre_finalize_alive(f));
  gyre_release(info.object);
  memset(&info, 0, sizeof info);
  assert_int_equal(gyre_finalize_detach(f, &info), 1);
  assert_ptr_equal(info.object, n);
  assert_string_equal(info.arg, "x");
  assert_ptr_equal(info.arg_free, counts_freed);
  assert_int_equal(gyre_finalize_alive(f), 0);
  assert_int_equal(gyre_finalize_detach(f, &info), 0);
  assert_int_equal(gyre_finalize_peek(f, &info), 0);
  gyre_release(info.object);
  gyre_release(n);
  assert_string_equal(calls, "");
  assert_int_equal(freed(), 0);
  gyre_finalize_free(f);
}

static void garbage_calls_too(void **state) {
  (void)state;
  node *n = ring_new(&finalized_type, 3);
  gyre_finalize_free(on_death(n, "r"));
  gyre_release(n);
  assert_string_equal(calls, "");
  assert_int_equal(gyre_gc_collect(2), 3);
  assert_string_equal(calls, "r");
}

static node *rescued;
static int rescues(node *n) {
  if (rescued == NULL) rescued = gyre_retain(n);
  return 0;
}

static void an_object_that_is_brought_back_has_not_died(void **state) {
  (void)state;
  for (int collect = 0; collect < 2; collect++) {
    rescued = NULL;
    node_on_finalize = rescues;
    node *n = collect ? ring_new(&finalized_type, 2) : node_new(&finalized_type, 0);
    gyre_finalize *f = on_death(n, "d");
    gyre_release(n);
    if (collect) assert_int_equal(gyre_gc_collect(2), 0);
    assert_true(gyre_finalize_alive(f));
    assert_string_equal(calls, "");
    gyre_release(rescued);
    if (collect) assert_int_equal(gyre_gc_collect(2), 2);
    assert_string_equal(calls, "d");
    calls[0] = '\0';
    gyre_finalize_free(f);
  }
}

static void bad_arguments_are_refused(void **state) {
  (void)state;
  errno = 0;
  assert_null(gyre_finalize_new(NULL, notes, NULL, NULL));
  assert_int_equal(errno, EINVAL);
  GYRE_AUTO(node) n = new_node();
  errno = 0;
  assert_null(gyre_finalize_new(n, NULL, NULL, NULL));
  assert_int_equal(errno, EINVAL);
  gyre_finalize *f = on_death(n, "x");
  assert_int_equal(gyre_finalize_set_atexit(f, 8), -EINVAL);
  assert_int_equal(gyre_finalize_set_atexit(f, 0), GYRE_FINALIZE_AT_EXIT);
  assert_int_equal(gyre_finalize_detach(f, NULL), 1);
  gyre_finalize_free(f);
  gyre_finalize_free(NULL);
}

/* ---- the end ---- */

static gyre_finalize *made_late;
static int makes_another(void *arg) {
  made_late = on_death(arg, "l");
  (void)notes((void *)(uintptr_t) "m");
  return 0;
}

static void the_end_calls_the_newest_first_without_those_that_do_not_want_it(void **state) {
  (void)state;
  node *a = new_node(), *b = new_node();
  gyre_finalize *f[5];
  f[0] = on_death(a, "0");
  f[1] = on_death(b, "1");
  f[2] = on_death(a, "2");
  f[3] = on_death(b, "3");
  f[4] = gyre_finalize_new(a, makes_another, b, NULL);
  assert_int_equal(gyre_finalize_set_atexit(f[2], 0), GYRE_FINALIZE_AT_EXIT);
  assert_int_equal(gyre_fini(), 2);
  /* One that is made meanwhile is the newest. */
  assert_string_equal(calls, "ml310");
  assert_true(gyre_finalize_alive(f[2]));
  gyre_release(a);
  assert_string_equal(calls, "ml3102");
  gyre_release(b);
  assert_string_equal(calls, "ml3102");
  for (int i = 0; i < 5; i++)
    gyre_finalize_free(f[i]);
  gyre_finalize_free(made_late);
}

static gyre_finalize *child_of_the_parent, *child_in_child;
static void ends(void *arg) {
  gyre_finalize_free(on_death(arg, "c"));
  TEST_REQUIRE(gyre_fini() >= 0);
  /* Newest first: the child's own, and that of the parent's that wants it. */
  TEST_REQUIRE(strcmp(calls, "cb") == 0);
  TEST_REQUIRE(gyre_finalize_alive(child_of_the_parent));
  TEST_REQUIRE(!gyre_finalize_alive(child_in_child));
  /* A death in the child is one. */
  gyre_release(arg);
  TEST_REQUIRE(strcmp(calls, "cba") == 0);
}

static void a_child_leaves_its_parents_to_the_parent(void **state) {
  (void)state;
  node *n = new_node();
  child_of_the_parent = on_death(n, "a");
  child_in_child = on_death(n, "b");
  (void)gyre_finalize_set_atexit(child_in_child, GYRE_FINALIZE_AT_EXIT | GYRE_FINALIZE_IN_CHILD);
  test_in_child(ends, n);
  assert_string_equal(calls, "");
  assert_int_equal(gyre_fini(), 1);
  assert_string_equal(calls, "ba");
  gyre_release(n);
  gyre_finalize_free(child_of_the_parent);
  gyre_finalize_free(child_in_child);
}

static void *registers(void *object) {
  gyre_finalize_free(on_death(object, "t"));
  return NULL;
}

static void what_a_thread_has_registered_stays_when_it_ends(void **state) {
  (void)state;
  node *n = new_node();
  test_thread_run(registers, n);
  assert_string_equal(calls, "");
  gyre_release(n);
  assert_string_equal(calls, "t");
}

/* ---- threads ---- */

struct rival {
  gyre_finalize *f;
  node *object;
  ptrdiff_t mine;
};

static void *calls_it(void *arg) {
  struct rival *rival = arg;
  test_window_subject();
  rival->mine = gyre_finalize_call(rival->f, NULL);
  return NULL;
}
static void *releases(void *arg) {
  struct rival *rival = arg;
  test_window_subject();
  gyre_release(rival->object);
  return NULL;
}
static void *retains(void *object) {
  gyre_retain(object);
  return NULL;
}

static bool grace_is_over;
static void sees_grace(gyre_deferred *deferred) {
  (void)deferred;
  grace_is_over = true;
}

static void a_death_and_a_call_at_once_are_one_call(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  for (int death_first = 0; death_first < 2; death_first++) {
    struct rival rival = {.object = new_node()};
    rival.f = on_death(rival.object, "x");
    test_thread_run(retains, rival.object);
    gyre_release(rival.object);
    test_window_hold(death_first ? "finalize/died" : "finalize/claimed", 1);
    pthread_t thread = test_thread_start(death_first ? releases : calls_it, &rival);
    test_window_await();
    if (death_first) {
      /* It has not been told yet. */
      assert_int_equal(gyre_finalize_peek(rival.f, NULL), 0);
      assert_int_equal(gyre_finalize_detach(rival.f, NULL), 0);
      assert_int_equal(gyre_finalize_call(rival.f, NULL), 1);
      gyre_finalize_free(rival.f);
    } else {
      gyre_release(rival.object);
      /* The caller is in the library, so what the death has left to be freed stays. */
      static gyre_deferred deferred;
      grace_is_over = false;
      assert_int_equal(gyre_defer(&deferred, sees_grace), 0);
      for (int i = 0; i < 10000; i++)
        gyre_safepoint();
      assert_false(grace_is_over);
    }
    test_window_release();
    test_thread_join(thread);
    if (!death_first) {
      assert_int_equal(rival.mine, 1);
      gyre_finalize_free(rival.f);
    }
    assert_string_equal(calls, "x");
    calls[0] = '\0';
  }
}

#define RIVALS 8
static struct {
  gyre_finalize *f[RIVALS];
  node *object;
} contest;
static test_flag ready;

static void *contends(void *number) {
  uintptr_t me = (uintptr_t)number;
  struct test_random random = test_random_new(me);
  test_flag_add(&ready, 1);
  TEST_AWAIT_SAFELY(test_flag_get(&ready) == RIVALS);
  for (uint32_t i = 0; i < RIVALS; i++) {
    gyre_finalize *f = contest.f[(i + me) % RIVALS];
    switch (test_random_below(&random, 4)) {
    case 0:
      (void)gyre_finalize_call(f, NULL);
      break;
    case 1: {
      struct gyre_finalize_info info;
      if (gyre_finalize_detach(f, &info)) {
        counts(NULL);
        counts_freed(NULL);
        gyre_release(info.object);
      }
      break;
    }
    case 2:
      (void)gyre_finalize_peek(f, NULL);
      break;
    default:
      (void)gyre_finalize_alive(f);
      break;
    }
    gyre_safepoint();
  }
  gyre_release(contest.object);
  return NULL;
}

static void each_is_called_or_detached_once_whoever_contends(void **state) {
  (void)state;
  uint64_t rounds = test_size("GYRE_TEST_OPS", 500, 100, 40);
  for (uint64_t round = 0; round < rounds; round++) {
    contest.object = new_node();
    for (int i = 0; i < RIVALS; i++) {
      contest.f[i] = gyre_finalize_new(contest.object, counts, NULL, counts_freed);
      gyre_retain(contest.object);
    }
    test_flag_set(&ready, 0);
    pthread_t threads[RIVALS];
    for (uintptr_t i = 0; i < RIVALS; i++)
      threads[i] = test_thread_start(contends, (void *)i);
    gyre_release(contest.object);
    for (int i = 0; i < RIVALS; i++)
      test_thread_join(threads[i]);
    gyre_safepoint();
    for (int i = 0; i < RIVALS; i++)
      gyre_finalize_free(contest.f[i]);
  }
  assert_int_equal(nodes_destroyed(), rounds);
  /* relaxed: a count. */
  assert_int_equal(gyre__load_relaxed(&call_count), rounds * RIVALS);
  assert_int_equal(freed(), rounds * RIVALS);
}

/* ---- closures and lists ---- */

static void adds(void *self, void *arg) { ((node *)self)->tag += *(const uint64_t *)arg; }

static void a_closure_is_called_while_its_object_lives(void **state) {
  (void)state;
  node *n = new_node();
  gyre_weak_closure closure;
  assert_int_equal(gyre_weak_closure_init(&closure, NULL, n), -EINVAL);
  assert_int_equal(gyre_weak_closure_init(&closure, adds, NULL), -EINVAL);
  assert_int_equal(gyre_weak_closure_init(&closure, adds, n), 0);
  uint64_t five = 5;
  assert_int_equal(gyre_weak_call(&closure, &five), 1);
  assert_int_equal(gyre_weak_call(&closure, &five), 1);
  assert_int_equal(n->tag, 10);
  assert_int_equal(gyre_refcount(n), 1);
  gyre_release(n);
  assert_int_equal(gyre_weak_call(&closure, &five), 0);
  gyre_weak_closure_clear(&closure);
  gyre_weak_closure_clear(&closure);
}

static void ignores(gyre_weak *weak, void *arg) { (void)weak, (void)arg; }

static void a_list_has_the_programs_references_and_no_others(void **state) {
  (void)state;
  node *n = new_node();
  struct gyre_weak_info info[4];
  assert_int_equal(gyre_weak_list(n, info, 4), 0);
  gyre_weak *first = gyre_weak_new(n, ignores, &info[0]);
  gyre_weak *shared = gyre_weak_new(n, NULL, NULL), *again = gyre_weak_new(n, NULL, NULL);
  gyre_weak *second = gyre_weak_new(n, ignores, &info[1]);
  gyre_weakmap *map = gyre_weakmap_new(GYRE_WEAK_KEY, NULL, NULL);
  assert_int_equal(gyre_weakmap_set(map, n, n), 0);
  gyre_finalize *f = on_death(n, "x");
  assert_int_equal(gyre_weak_list(n, info, 4), 3);
  assert_int_equal(gyre_weak_count(n), 3);
  assert_ptr_equal(info[0].weak, shared);
  assert_null(info[0].callback);
  assert_ptr_equal(info[1].weak, second);
  assert_ptr_equal(info[2].weak, first);
  assert_ptr_equal(info[2].callback, ignores);
  assert_ptr_equal(info[2].arg, &info[0]);
  info[1].weak = NULL;
  assert_int_equal(gyre_weak_list(n, info, 1), 3);
  assert_null(info[1].weak);
  assert_int_equal(gyre_weak_list(NULL, NULL, 0), 0);
  assert_int_equal(gyre_weakmap_remove(map, n), 1);
  assert_int_equal(gyre_finalize_detach(f, NULL), 1);
  assert_int_equal(gyre_weak_count(n), 3);
  gyre_weak_free(shared);
  gyre_weak_free(again);
  assert_int_equal(gyre_weak_list(n, NULL, 0), 2);
  gyre_weak_free(first);
  gyre_weak_free(second);
  assert_int_equal(gyre_weak_count(n), 0);
  gyre_release(n);
  gyre_release(map);
  gyre_finalize_free(f);
}

static void identities_outlive_objects_and_are_not_used_again(void **state) {
  (void)state;
  enum { OBJECTS = 3000 };
  static gyre_weak *weak[OBJECTS];
  for (int i = 0; i < OBJECTS; i++) {
    GYRE_AUTO(node) n = new_node();
    weak[i] = gyre_weak_new(n, i % 2 ? ignores : NULL, NULL);
    gyre_weak *other = gyre_weak_new(n, NULL, NULL);
    assert_int_equal(gyre_weak_id(other), gyre_weak_id(weak[i]));
    gyre_weak_free(other);
  }
  for (int i = 1; i < OBJECTS; i++)
    assert_true(gyre_weak_id(weak[i]) > gyre_weak_id(weak[i - 1]));
  /* Nor when everything of the one before is gone. */
  uint64_t last = gyre_weak_id(weak[OBJECTS - 1]);
  for (int i = 0; i < OBJECTS; i++) {
    gyre_weak_free(weak[i]);
    GYRE_AUTO(node) n = new_node();
    gyre_weak *next = gyre_weak_new(n, NULL, NULL);
    assert_true(gyre_weak_id(next) > last);
    last = gyre_weak_id(next);
    gyre_weak_free(next);
    if (i % 100 == 0) {
      assert_int_equal(gyre_synchronize(), 0);
      gyre_safepoint();
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      FINALIZE_TEST(a_death_calls_the_newest_first_and_once),
      FINALIZE_TEST(a_call_by_hand_gives_the_result_and_is_the_only_one),
      FINALIZE_TEST(detaching_gives_the_argument_back),
      FINALIZE_TEST(garbage_calls_too),
      FINALIZE_TEST(an_object_that_is_brought_back_has_not_died),
      FINALIZE_TEST(bad_arguments_are_refused),
      FINALIZE_TEST(the_end_calls_the_newest_first_without_those_that_do_not_want_it),
      FINALIZE_TEST(a_child_leaves_its_parents_to_the_parent),
      FINALIZE_TEST(what_a_thread_has_registered_stays_when_it_ends),
      FINALIZE_TEST(a_death_and_a_call_at_once_are_one_call),
      FINALIZE_TEST(each_is_called_or_detached_once_whoever_contends),
      FINALIZE_TEST(a_closure_is_called_while_its_object_lives),
      FINALIZE_TEST(a_list_has_the_programs_references_and_no_others),
      FINALIZE_TEST(identities_outlive_objects_and_are_not_used_again),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
