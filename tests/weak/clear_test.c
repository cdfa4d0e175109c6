/* SPDX-License-Identifier: MIT */
/* What the collector does with weak references: clear them for a set of condemned objects while
 * none can be upgraded, call the callbacks later, take the objects apart. */
#include "weak_test.h"

static struct gyre__objects *self_objects(void) {
  return (struct gyre__objects *)gyre__thread_self();
}

static void clearing_kills_at_once_and_calls_later(void **state) {
  (void)state;
  struct gyre__weak_pending pending = {NULL, NULL};
  thing *t = gyre_new(&thing_type);
  gyre_weak *shared = weak_new(t, NULL, NULL);
  gyre_weak *a = weak_writes(t, "a"), *b = weak_writes(t, "b");
  gyre__world_stop(&self_objects()->heap.thread);
  gyre__weak_clear(self_objects(), t, &pending);
  gyre__world_resume(&self_objects()->heap.thread);
  assert_int_equal(gyre_weak_is_dead(shared), 1);
  assert_null(gyre_weak_get(a));
  assert_int_equal(gyre_weak_count(t), 0);
  assert_happened("");
  gyre__weak_run(self_objects(), &pending);
  assert_happened("ba");
  assert_null(pending.first);
  assert_null(pending.last);
  /* Its death finds nothing more to do, and does not even look. relaxed: no other thread. */
  assert_int_equal(gyre__load_relaxed(&gyre__header_of(t)->bits) & GYRE__BIT_WEAK, 0);
  gyre_release(t);
  assert_happened("FD");
  gyre_weak_free(shared);
  gyre_weak_free(a);
  gyre_weak_free(b);
}

static void callbacks_of_several_objects_are_called_object_by_object(void **state) {
  (void)state;
  struct gyre__weak_pending pending = {NULL, NULL};
  item *one = item_new(1), *none = item_new(0), *quiet = item_new(0), *two = item_new(2);
  gyre_weak *weak[] = {weak_writes(one, "1"), weak_new(quiet, NULL, NULL), weak_writes(two, "2"),
                       weak_writes(one, "!")};
  gyre__weak_clear(self_objects(), one, &pending);
  gyre__weak_clear(self_objects(), none, &pending);
  gyre__weak_clear(self_objects(), quiet, &pending);
  gyre__weak_clear(self_objects(), two, &pending);
  for (int i = 0; i < 4; i++)
    assert_int_equal(gyre_weak_is_dead(weak[i]), 1);
  gyre__weak_run(self_objects(), &pending);
  assert_happened("!12");
  gyre_release(one);
  gyre_release(none);
  gyre_release(quiet);
  gyre_release(two);
  for (int i = 0; i < 4; i++)
    gyre_weak_free(weak[i]);
}

static void what_is_freed_between_clearing_and_calling_is_not_called(void **state) {
  (void)state;
  struct gyre__weak_pending pending = {NULL, NULL};
  item *one = item_new(1), *two = item_new(2);
  gyre_weak *a = weak_writes(one, "a"), *b = weak_writes(one, "b"), *c = weak_writes(two, "c");
  gyre__weak_clear(self_objects(), one, &pending);
  gyre__weak_clear(self_objects(), two, &pending);
  gyre_weak_free(b);
  gyre_weak_free(c);
  gyre__weak_run(self_objects(), &pending);
  assert_happened("a");
  gyre_weak_free(a);
  gyre_release(one);
  gyre_release(two);
}

static void an_object_whose_references_were_freed_is_cleared_too(void **state) {
  (void)state;
  struct gyre__weak_pending pending = {NULL, NULL};
  item *i = item_new(1);
  gyre_weak_free(weak_new(i, NULL, NULL));
  gyre__weak_clear(self_objects(), i, &pending);
  assert_null(pending.first);
  assert_int_equal(gyre__weak_object_count(), 0);
  gyre__weak_clear(self_objects(), i, &pending);
  gyre_release(i);
}

static void clearing_needs_no_memory(void **state) {
  (void)state;
  struct gyre__weak_pending pending = {NULL, NULL};
  item *i = item_new(1);
  gyre_weak *a = weak_writes(i, "a"), *b = weak_new(i, NULL, NULL);
  gyre__fault_arm(1, 1);
  gyre__weak_clear(self_objects(), i, &pending);
  gyre__weak_run(self_objects(), &pending);
  gyre_weak_free(a);
  gyre_weak_free(b);
  gyre_release(i);
  gyre__fault_arm(0, 0);
  assert_happened("a");
}

/* ---- beside a running program ---- */

struct upgrade {
  gyre_weak *weak;
  void *got;
  event started;
};
static void *upgrades(void *arg) {
  struct upgrade *upgrade = arg;
  MUST(gyre_thread_attach() != NULL);
  event_set(&upgrade->started);
  upgrade->got = gyre_weak_get(upgrade->weak);
  gyre_release(upgrade->got);
  return NULL;
}

static void an_upgrade_waits_for_the_lock_and_fails_if_it_was_cleared_under_it(void **state) {
  (void)state;
  struct gyre__weak_pending pending = {NULL, NULL};
  for (int clear = 0; clear < 2; clear++) {
    item *i = item_new(1);
    struct upgrade upgrade = {.weak = weak_writes(i, "a")};
    event_init(&upgrade.started);
    mode_close(1);
    struct gyre__weak_control *control = gyre__weak_lock(self_objects(), i);
    assert_non_null(control);
    pthread_t thread = thread_start(upgrades, &upgrade);
    event_wait(&upgrade.started);
    for (int n = 0; n < 1000; n++)
      sched_yield();
    if (clear) gyre__weak_clear_locked(self_objects(), control, i, &pending);
    gyre__weak_unlock(self_objects(), control);
    thread_join(thread);
    mode_close(0);
    gyre__weak_run(self_objects(), &pending);
    assert_ptr_equal(upgrade.got, clear ? NULL : i);
    assert_happened(clear ? "a" : "");
    gyre_release(i);
    if (!clear) assert_happened("a");
    gyre_weak_free(upgrade.weak);
  }
}

static void an_object_without_weak_references_has_no_lock(void **state) {
  (void)state;
  item *i = item_new(1);
  assert_null(gyre__weak_lock(self_objects(), i));
  gyre_release(i);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      WEAK_TEST(clearing_kills_at_once_and_calls_later),
      WEAK_TEST(callbacks_of_several_objects_are_called_object_by_object),
      WEAK_TEST(what_is_freed_between_clearing_and_calling_is_not_called),
      WEAK_TEST(an_object_whose_references_were_freed_is_cleared_too),
      WEAK_TEST(clearing_needs_no_memory),
      WEAK_TEST(an_upgrade_waits_for_the_lock_and_fails_if_it_was_cleared_under_it),
      WEAK_TEST(an_object_without_weak_references_has_no_lock),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
