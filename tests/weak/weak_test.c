/* SPDX-License-Identifier: MIT */
/* Weak references in one thread: what they yield, who shares what, callbacks, the order of death.
 */
#include "weak_test.h"

#include "lib/heap/page.h"

/* ---- yielding ---- */

static void a_weak_reference_yields_the_object_while_it_lives(void **state) {
  (void)state;
  item *i = item_new(7);
  gyre_weak *weak = weak_new(i, NULL, NULL);
  assert_int_equal(gyre_weak_is_dead(weak), 0);
  item *got = gyre_weak_get(weak);
  assert_ptr_equal(got, i);
  assert_int_equal(gyre_refcount(i), 2);
  gyre_release(i);
  assert_int_equal(gyre_weak_is_dead(weak), 0);
  assert_int_equal(got->value, 7);
  gyre_release(got);
  assert_int_equal(gyre_weak_is_dead(weak), 1);
  assert_null(gyre_weak_get(weak));
  gyre_weak_free(weak);
}

static void no_object_and_no_reference_are_answered_politely(void **state) {
  (void)state;
  errno = 0;
  assert_null(gyre_weak_new(NULL, NULL, NULL));
  assert_int_equal(errno, EINVAL);
  assert_int_equal(gyre_weak_is_dead(NULL), 1);
  assert_null(gyre_weak_get(NULL));
  assert_int_equal(gyre_weak_count(NULL), 0);
  gyre_weak_free(NULL);
}

static void references_without_a_callback_are_one(void **state) {
  (void)state;
  item *i = item_new(0);
  assert_int_equal(gyre_weak_count(i), 0);
  gyre_weak *first = weak_new(i, NULL, NULL), *second = weak_new(i, NULL, NULL);
  assert_ptr_equal(first, second);
  assert_int_equal(gyre_weak_count(i), 1);
  gyre_weak_free(first);
  assert_int_equal(gyre_weak_count(i), 1);
  assert_ptr_equal(gyre_weak_get(second), i);
  gyre_release(i);
  gyre_weak_free(second);
  assert_int_equal(gyre_weak_count(i), 0);
  gyre_release(i);
}

static void each_reference_with_a_callback_counts(void **state) {
  (void)state;
  item *i = item_new(0);
  gyre_weak *shared = weak_new(i, NULL, NULL);
  gyre_weak *a = weak_writes(i, "a"), *b = weak_writes(i, "a");
  assert_ptr_not_equal(a, b);
  assert_ptr_not_equal(a, shared);
  assert_int_equal(gyre_weak_count(i), 3);
  gyre_weak_free(a);
  assert_int_equal(gyre_weak_count(i), 2);
  gyre_weak_free(shared);
  assert_int_equal(gyre_weak_count(i), 1);
  gyre_weak_free(b);
  assert_int_equal(gyre_weak_count(i), 0);
  gyre_release(i);
  assert_happened("");
}

static void an_object_whose_references_were_all_freed_can_get_new_ones(void **state) {
  (void)state;
  item *i = item_new(0);
  for (int round = 0; round < 3; round++) {
    gyre_weak *weak = weak_new(i, NULL, NULL);
    assert_ptr_equal(gyre_weak_get(weak), i);
    gyre_release(i);
    gyre_weak_free(weak);
  }
  assert_int_equal(gyre__weak_object_count(), 1);
  gyre_release(i);
  assert_int_equal(gyre__weak_object_count(), 0);
}

static void a_new_object_in_the_same_block_has_nothing_to_do_with_the_old_references(void **state) {
  (void)state;
  item *old = item_new(1);
  gyre_weak *weak = weak_writes(old, "w");
  gyre__page_put_back(gyre__heap_self()); /* the next block is the one freed last */
  gyre_release(old);
  assert_happened("w");
  item *new = item_new(2);
  assert_ptr_equal(new, old);
  assert_int_equal(gyre_weak_count(new), 0);
  assert_null(gyre_weak_get(weak));
  gyre_weak *second = weak_new(new, NULL, NULL);
  assert_ptr_equal(gyre_weak_get(second), new);
  assert_null(gyre_weak_get(weak));
  gyre_release(new);
  gyre_release(new);
  gyre_weak_free(weak);
  gyre_weak_free(second);
}

static void an_object_with_a_weak_reference_is_not_unique(void **state) {
  (void)state;
  item *i = item_new(0);
  assert_int_equal(gyre_is_unique(i), 1);
  gyre_weak *weak = weak_new(i, NULL, NULL);
  assert_int_equal(gyre_is_unique(i), 0);
  gyre_weak_free(weak);
  gyre_release(i);
}

static void objects_born_shared_have_weak_references_too(void **state) {
  (void)state;
  item *object = shared_new(1);
  gyre_weak *weak = weak_writes(object, "s");
  assert_ptr_equal(gyre_weak_get(weak), object);
  gyre_release(object);
  gyre_release(object);
  assert_happened("s");
  gyre_weak_free(weak);
}

static void a_large_object_has_weak_references_too(void **state) {
  (void)state;
  static gyre_type large_type = {.name = "large", .size = 1 << 20};
  void *object = gyre_new(&large_type);
  gyre_weak *weak = weak_writes(object, "l");
  assert_ptr_equal(gyre_weak_get(weak), object);
  gyre_release(object);
  gyre_release(object);
  assert_null(gyre_weak_get(weak));
  assert_happened("l");
  gyre_weak_free(weak);
}

static void a_million_calls_for_one_object_take_no_memory(void **state) {
  (void)state;
  enum { CALLS = SCALED(1000000, 100000) };
  item *i = item_new(0);
  gyre_weak *weak = weak_new(i, NULL, NULL);
  size_t blocks = live_blocks();
  for (int n = 0; n < CALLS; n++)
    assert_ptr_equal(gyre_weak_new(i, NULL, NULL), weak);
  assert_int_equal(live_blocks(), blocks);
  for (int n = 0; n <= CALLS; n++)
    gyre_weak_free(weak);
  gyre_release(i);
}

/* ---- GYRE_WITH ---- */

static int with_returns(gyre_weak *weak) {
  GYRE_WITH(item, i, weak) { return (int)i->value; }
  return -1;
}

static void gyre_with_releases_however_its_block_is_left(void **state) {
  (void)state;
  item *i = item_new(5);
  gyre_weak *weak = weak_new(i, NULL, NULL);
  int entered = 0;
  GYRE_WITH(item, p, weak) {
    assert_ptr_equal(p, i);
    assert_int_equal(gyre_refcount(i), 2);
    entered++;
  }
  assert_int_equal(gyre_refcount(i), 1);
  GYRE_WITH(item, p, weak) {
    entered++;
    if (p->value == 5) break;
    entered += 100;
  }
  assert_int_equal(gyre_refcount(i), 1);
  GYRE_WITH(item, p, weak) {
    entered++;
    if (p->value == 5) continue;
    entered += 100;
  }
  assert_int_equal(gyre_refcount(i), 1);
  assert_int_equal(with_returns(weak), 5);
  assert_int_equal(gyre_refcount(i), 1);
  assert_int_equal(entered, 3);
  gyre_release(i);
  assert_int_equal(with_returns(weak), -1);
  GYRE_WITH(item, p, weak) { entered += (int)p->value; }
  assert_int_equal(entered, 3);
  gyre_weak_free(weak);
}

/* ---- callbacks ---- */

static void callbacks_run_once_the_most_recent_first(void **state) {
  (void)state;
  item *i = item_new(0);
  gyre_weak *a = weak_writes(i, "a"), *b = weak_writes(i, "b"), *c = weak_writes(i, "c");
  assert_happened("");
  gyre_release(i);
  assert_happened("cba");
  gyre_weak_free(a);
  gyre_weak_free(b);
  gyre_weak_free(c);
  assert_happened("");
}

static void a_freed_reference_is_never_called(void **state) {
  (void)state;
  for (int freed = 0; freed < 3; freed++) {
    item *i = item_new(0);
    gyre_weak *weak[] = {weak_writes(i, "0"), weak_writes(i, "1"), weak_writes(i, "2")};
    gyre_weak_free(weak[freed]);
    gyre_release(i);
    assert_happened(freed == 0 ? "21" : freed == 1 ? "20" : "10");
    for (int n = 0; n < 3; n++)
      if (n != freed) gyre_weak_free(weak[n]);
  }
}

static void frees_itself(gyre_weak *weak, void *arg) {
  happens(*(const char *)arg);
  gyre_weak_free(weak);
}

static void a_callback_may_free_its_own_reference(void **state) {
  (void)state;
  item *i = item_new(0);
  gyre_weak *a = weak_writes(i, "a");
  weak_new(i, frees_itself, (void *)(uintptr_t) "b");
  weak_new(i, frees_itself, (void *)(uintptr_t) "c");
  gyre_release(i);
  assert_happened("cba");
  gyre_weak_free(a);
}

static void frees_another(gyre_weak *weak, void *arg) {
  (void)weak;
  happens('x');
  gyre_weak_free(*(gyre_weak **)arg);
}

static void a_callback_may_free_references_that_were_or_will_be_called(void **state) {
  (void)state;
  item *i = item_new(0);
  gyre_weak *before, *after;
  gyre_weak *a = weak_writes(i, "a");
  after = weak_writes(i, "b");
  gyre_weak *x = weak_new(i, frees_another, &after);
  gyre_weak *y = weak_new(i, frees_another, &before);
  before = weak_writes(i, "c");
  gyre_release(i);
  assert_happened("cxxa");
  gyre_weak_free(a);
  gyre_weak_free(x);
  gyre_weak_free(y);
}

static void drops(gyre_weak *weak, void *arg) {
  (void)weak;
  happens('(');
  gyre_release(arg);
  happens(')');
}

static void a_callback_may_drop_another_object_with_callbacks(void **state) {
  (void)state;
  item *outer = item_new(0), *inner = item_new(0);
  gyre_weak *weak[] = {weak_writes(inner, "i"), weak_writes(outer, "a"),
                       weak_new(outer, drops, inner), weak_writes(outer, "b")};
  gyre_release(outer);
  assert_happened("b(i)a");
  for (int n = 0; n < 4; n++)
    gyre_weak_free(weak[n]);
}

static void makes_more(gyre_weak *weak, void *arg) {
  (void)weak;
  item *i = item_new(1);
  gyre_weak **out = arg;
  *out = weak_writes(i, "n");
  gyre_safepoint();
  gyre_release(i);
}

static void a_callback_may_make_objects_and_references_and_pass_safepoints(void **state) {
  (void)state;
  item *i = item_new(0);
  gyre_weak *made = NULL;
  gyre_weak *weak = weak_new(i, makes_more, &made);
  gyre_release(i);
  assert_happened("n");
  gyre_weak_free(weak);
  gyre_weak_free(made);
}

/* ---- the order of death ---- */

static void an_object_is_finalized_then_its_callbacks_run_then_it_is_destroyed(void **state) {
  (void)state;
  thing *t = gyre_new(&thing_type);
  gyre_weak *weak = weak_writes(t, "w");
  gyre_release(t);
  assert_happened("FwD");
  gyre_weak_free(weak);
}

static thing *rescued;
static int rescues(thing *self) {
  rescued = gyre_retain(self);
  return 0;
}

static void
an_object_rescued_by_its_finalizer_keeps_its_references_and_no_callback_runs(void **state) {
  (void)state;
  thing *t = gyre_new(&thing_type);
  t->on_finalize = rescues;
  gyre_weak *weak = weak_writes(t, "w"), *shared = weak_new(t, NULL, NULL);
  gyre_release(t);
  assert_happened("F");
  assert_ptr_equal(rescued, t);
  assert_ptr_equal(gyre_weak_get(weak), t);
  assert_ptr_equal(gyre_weak_get(shared), t);
  assert_int_equal(gyre_refcount(t), 3);
  gyre_release(t);
  gyre_release(t);
  gyre_release(t);
  assert_happened("wD");
  assert_null(gyre_weak_get(shared));
  gyre_weak_free(weak);
  gyre_weak_free(shared);
}

static int rescues_weakly(thing *self) {
  rescued = gyre_weak_get(self->arg);
  MUST(rescued == self);
  return 0;
}

static void a_weak_reference_taken_in_the_finalizer_rescues_the_object(void **state) {
  (void)state;
  thing *t = gyre_new(&thing_type);
  gyre_weak *weak = weak_writes(t, "w");
  t->on_finalize = rescues_weakly;
  t->arg = weak;
  gyre_release(t);
  assert_happened("F");
  assert_int_equal(gyre_weak_is_dead(weak), 0);
  assert_int_equal(gyre_refcount(rescued), 1);
  gyre_release(rescued);
  assert_happened("wD");
  gyre_weak_free(weak);
}

static int makes_weak(thing *self) {
  self->arg = weak_writes(self, "n");
  return 0;
}
static gyre_weak *kept;
static void keeps_weak(thing *self) { kept = self->arg; }

static void a_weak_reference_made_in_the_finalizer_dies_with_the_object(void **state) {
  (void)state;
  thing *t = gyre_new(&thing_type);
  t->on_finalize = makes_weak;
  t->on_destroy = keeps_weak;
  gyre_release(t);
  assert_happened("FnD");
  assert_int_equal(gyre_weak_is_dead(kept), 1);
  gyre_weak_free(kept);
}

static void frees_weak(thing *self) { gyre_weak_free(self->arg); }

static void a_reference_freed_by_the_destruction_of_its_holder_is_not_called(void **state) {
  (void)state;
  thing *holder = gyre_new(&thing_type), *held = gyre_new(&thing_type);
  holder->on_destroy = frees_weak;
  holder->arg = weak_writes(held, "w");
  gyre_store(&holder->next, held);
  gyre_release(held);
  gyre_release(holder);
  assert_happened("FDFD");
}

static void a_long_list_of_weakly_referred_objects_dies_with_all_its_references(void **state) {
  (void)state;
  enum { LENGTH = SCALED(100000, 10000) };
  static gyre_weak *weak[LENGTH];
  static gyre_type link_type = {.name = "link", .size = sizeof(gyre_slot)};
  static const gyre_slot_info slots[] = {{0, "next"}};
  link_type.slots.at = slots;
  link_type.slots.count = 1;
  gyre_slot *list = NULL;
  for (int i = 0; i < LENGTH; i++) {
    gyre_slot *link = gyre_new(&link_type);
    weak[i] = weak_new(link, NULL, NULL);
    gyre__slot_init(link, list);
    list = link;
  }
  gyre_release(list);
  while (gyre__weak_object_count() > 0)
    gyre_safepoint();
  for (int i = 0; i < LENGTH; i++) {
    assert_int_equal(gyre_weak_is_dead(weak[i]), 1);
    gyre_weak_free(weak[i]);
  }
}

/* ---- what does not die ---- */

static GYRE_STATIC_OBJECT(item) fixture = GYRE_STATIC_INIT(.value = 9);

static void a_static_object_keeps_its_weak_references_for_ever(void **state) {
  (void)state;
  assert_int_equal(GYRE_STATIC_REGISTER(&fixture, &item_type), 0);
  item *i = &fixture.object;
  gyre_weak *weak = weak_writes(i, "w");
  assert_ptr_equal(gyre_weak_get(weak), i);
  gyre_release(i);
  gyre_release(i);
  assert_ptr_equal(gyre_weak_get(weak), i);
  assert_int_equal(gyre_weak_count(i), 1);
  gyre_weak_free(weak);
  assert_int_equal(gyre_weak_count(i), 0);
  assert_happened("");
  /* Its control block stays, so take it away by hand for the count at the end. */
  struct gyre__weak_pending pending = {NULL, NULL};
  gyre__weak_clear((struct gyre__objects *)gyre__thread_self(), i, &pending);
  assert_null(pending.first);
}

/* ---- many ---- */

static void a_hundred_thousand_objects_have_a_weak_reference_each(void **state) {
  (void)state;
  enum { OBJECTS = 100000 };
  static item *items[OBJECTS];
  static gyre_weak *weak[OBJECTS];
  for (uint64_t i = 0; i < OBJECTS; i++) {
    items[i] = item_new(i);
    weak[i] = weak_new(items[i], NULL, NULL);
  }
  assert_int_equal(gyre__weak_object_count(), OBJECTS);
  for (uint64_t i = 0; i < OBJECTS; i++) {
    item *got = gyre_weak_get(weak[i]);
    assert_ptr_equal(got, items[i]);
    assert_ptr_equal(weak_new(got, NULL, NULL), weak[i]);
    gyre_weak_free(weak[i]);
    gyre_release(got);
  }
  for (uint64_t i = 0; i < OBJECTS; i += 2)
    gyre_release(items[i]);
  for (uint64_t i = 0; i < OBJECTS; i++)
    assert_int_equal(gyre_weak_is_dead(weak[i]), i % 2 == 0);
  assert_int_equal(gyre__weak_object_count(), OBJECTS / 2);
  for (uint64_t i = 1; i < OBJECTS; i += 2)
    gyre_release(items[i]);
  for (uint64_t i = 0; i < OBJECTS; i++) {
    assert_null(gyre_weak_get(weak[i]));
    gyre_weak_free(weak[i]);
  }
}

static int called;
static void counts(gyre_weak *weak, void *arg) {
  (void)weak;
  MUST((intptr_t)arg > called || called == 0); /* from the last to the first, some left out */
  called++;
}

static void an_object_has_a_hundred_thousand_callbacks(void **state) {
  (void)state;
  enum { CALLBACKS = 100000 };
  static gyre_weak *weak[CALLBACKS];
  item *i = item_new(0);
  for (intptr_t n = 0; n < CALLBACKS; n++)
    weak[n] = weak_new(i, counts, (void *)(CALLBACKS + n));
  assert_int_equal(gyre_weak_count(i), CALLBACKS);
  /* The oldest first, and every second of the rest: from anywhere in the list. */
  for (int n = 0; n < CALLBACKS; n += 2)
    gyre_weak_free(weak[n]);
  assert_int_equal(gyre_weak_count(i), CALLBACKS / 2);
  called = 0;
  gyre_release(i);
  assert_int_equal(called, CALLBACKS / 2);
  for (int n = 1; n < CALLBACKS; n += 2)
    gyre_weak_free(weak[n]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      WEAK_TEST(a_weak_reference_yields_the_object_while_it_lives),
      WEAK_TEST(no_object_and_no_reference_are_answered_politely),
      WEAK_TEST(references_without_a_callback_are_one),
      WEAK_TEST(each_reference_with_a_callback_counts),
      WEAK_TEST(an_object_whose_references_were_all_freed_can_get_new_ones),
      WEAK_TEST(a_new_object_in_the_same_block_has_nothing_to_do_with_the_old_references),
      WEAK_TEST(an_object_with_a_weak_reference_is_not_unique),
      WEAK_TEST(objects_born_shared_have_weak_references_too),
      WEAK_TEST(a_large_object_has_weak_references_too),
      WEAK_TEST(a_million_calls_for_one_object_take_no_memory),
      WEAK_TEST(gyre_with_releases_however_its_block_is_left),
      WEAK_TEST(callbacks_run_once_the_most_recent_first),
      WEAK_TEST(a_freed_reference_is_never_called),
      WEAK_TEST(a_callback_may_free_its_own_reference),
      WEAK_TEST(a_callback_may_free_references_that_were_or_will_be_called),
      WEAK_TEST(a_callback_may_drop_another_object_with_callbacks),
      WEAK_TEST(a_callback_may_make_objects_and_references_and_pass_safepoints),
      WEAK_TEST(an_object_is_finalized_then_its_callbacks_run_then_it_is_destroyed),
      WEAK_TEST(an_object_rescued_by_its_finalizer_keeps_its_references_and_no_callback_runs),
      WEAK_TEST(a_weak_reference_taken_in_the_finalizer_rescues_the_object),
      WEAK_TEST(a_weak_reference_made_in_the_finalizer_dies_with_the_object),
      WEAK_TEST(a_reference_freed_by_the_destruction_of_its_holder_is_not_called),
      WEAK_TEST(a_long_list_of_weakly_referred_objects_dies_with_all_its_references),
      WEAK_TEST(a_static_object_keeps_its_weak_references_for_ever),
      WEAK_TEST(a_hundred_thousand_objects_have_a_weak_reference_each),
      WEAK_TEST(an_object_has_a_hundred_thousand_callbacks),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
