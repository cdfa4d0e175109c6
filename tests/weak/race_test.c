/* SPDX-License-Identifier: MIT */
/* Races between upgrades, deaths, new references and freeing, each held open at its window. */
#include "weak_test.h"

#include "lib/heap/page.h"

/* A thread that makes one step, and perhaps stops on the way. */
struct role {
  pthread_t thread;
  struct stop stop;
  event done;
  item *object;
  gyre_weak *weak;
  item *got;
  /* Threads that own the object: it is born, they may go on. */
  event born, begin;
};

static void role_start(struct role *role, void *(*body)(void *), const char *window) {
  stop_init(&role->stop, window);
  event_init(&role->done);
  event_init(&role->born);
  event_init(&role->begin);
  role->thread = thread_start(body, role);
}

static int is_done(struct role *role) {
  if (sem_trywait(&role->done.sem) != 0) return 0;
  event_set(&role->done);
  return 1;
}

/* Time enough for a thread that does not wait, and should. */
static void linger(void) {
  for (int n = 0; n < 1000; n++)
    sched_yield();
}

static void *upgrades(void *arg) {
  struct role *role = arg;
  MUST(gyre_thread_attach() != NULL);
  stop_me(&role->stop);
  role->got = gyre_weak_get(role->weak);
  event_set(&role->done);
  return NULL;
}

static void *releases(void *arg) {
  struct role *role = arg;
  MUST(gyre_thread_attach() != NULL);
  stop_me(&role->stop);
  gyre_release(role->object);
  event_set(&role->done);
  return NULL;
}

static void *makes_weak(void *arg) {
  struct role *role = arg;
  MUST(gyre_thread_attach() != NULL);
  stop_me(&role->stop);
  role->weak = weak_new(role->object, NULL, NULL);
  event_set(&role->done);
  return NULL;
}

static void *frees(void *arg) {
  struct role *role = arg;
  MUST(gyre_thread_attach() != NULL);
  stop_me(&role->stop);
  gyre_weak_free(role->weak);
  event_set(&role->done);
  return NULL;
}

/* Owns an object, and releases it when told. */
static void *owns(void *arg) {
  struct role *role = arg;
  MUST(gyre_thread_attach() != NULL);
  role->object = item_new(11);
  event_set(&role->born);
  event_wait(&role->begin);
  stop_me(&role->stop);
  gyre_release(role->object);
  event_set(&role->done);
  return NULL;
}

/* ---- upgrade and death ---- */

static void an_upgrade_that_comes_after_the_last_release_fails(void **state) {
  (void)state;
  NEEDS_WINDOWS();
  /* The object is dead for good, but its references do not know yet. */
  struct role death = {.object = shared_new(1)};
  gyre_weak *weak = weak_writes(death.object, "w");
  gyre_weak *shared = weak_new(death.object, NULL, NULL);
  role_start(&death, releases, "weak/died");
  stop_await(&death.stop);
  assert_int_equal(gyre_weak_is_dead(weak), 0);
  assert_null(gyre_weak_get(weak));
  assert_null(gyre_weak_get(shared));
  assert_happened("");
  stop_end(&death.stop);
  thread_join(death.thread);
  assert_happened("w");
  gyre_weak_free(weak);
  gyre_weak_free(shared);
}

static void a_death_waits_for_no_upgrade_that_looks_at_the_object(void **state) {
  (void)state;
  NEEDS_WINDOWS();
  /* The upgrade has the object's address, but has not counted yet. */
  struct role death = {.object = shared_new(1)};
  struct role upgrade = {.weak = weak_writes(death.object, "w")};
  role_start(&upgrade, upgrades, "weak/got");
  stop_await(&upgrade.stop);
  role_start(&death, releases, NULL);
  thread_join(death.thread);
  assert_happened("w");
  assert_int_equal(gyre_weak_is_dead(upgrade.weak), 1);
  stop_end(&upgrade.stop);
  thread_join(upgrade.thread);
  assert_null(upgrade.got);
  gyre_weak_free(upgrade.weak);
}

static void an_upgrade_that_counted_in_time_keeps_the_object(void **state) {
  (void)state;
  NEEDS_WINDOWS();
  struct role death = {.object = shared_new(4)};
  struct role upgrade = {.weak = weak_writes(death.object, "w")};
  role_start(&upgrade, upgrades, "weak/counted");
  stop_await(&upgrade.stop);
  role_start(&death, releases, NULL);
  thread_join(death.thread);
  assert_happened("");
  stop_end(&upgrade.stop);
  thread_join(upgrade.thread);
  assert_non_null(upgrade.got);
  assert_int_equal(upgrade.got->value, 4);
  gyre_release(upgrade.got);
  assert_happened("w");
  gyre_weak_free(upgrade.weak);
}

/* Releases its object and makes another in the same block. */
static void *replaces(void *arg) {
  struct role *role = arg;
  MUST(gyre_thread_attach() != NULL);
  item *first = item_new(1);
  role->weak = weak_new(first, NULL, NULL);
  event_set(&role->born);
  event_wait(&role->begin);
  gyre__page_put_back((struct gyre__heap *)gyre__thread_self());
  gyre_release(first);
  role->object = item_new(2);
  MUST(role->object == first);
  event_set(&role->done);
  event_wait(&role->begin);
  MUST(role->object->value == 2 && gyre_refcount(role->object) == 1);
  gyre_release(role->object);
  return NULL;
}

static void an_upgrade_that_comes_too_late_counts_in_vain(void **state) {
  (void)state;
  NEEDS_WINDOWS();
  struct role owner = {.object = NULL};
  role_start(&owner, replaces, NULL);
  event_wait(&owner.born);
  struct role upgrade = {.weak = owner.weak};
  role_start(&upgrade, upgrades, "weak/got");
  stop_await(&upgrade.stop);
  event_set(&owner.begin);
  event_wait(&owner.done); /* the block is another object's by now */
  stop_end(&upgrade.stop);
  event_wait(&upgrade.done);
  assert_null(upgrade.got);
  event_set(&owner.begin);
  thread_join(upgrade.thread);
  thread_join(owner.thread);
  gyre_weak_free(owner.weak);
}

static void an_upgrade_before_the_last_release_keeps_the_object(void **state) {
  (void)state;
  NEEDS_WINDOWS();
  item *object = shared_new(5);
  struct role upgrade = {.weak = weak_writes(object, "w")};
  role_start(&upgrade, upgrades, "weak/get");
  stop_await(&upgrade.stop);
  item *got = gyre_weak_get(upgrade.weak);
  gyre_release(object);
  stop_end(&upgrade.stop);
  thread_join(upgrade.thread);
  gyre_release(got);
  assert_ptr_equal(upgrade.got, object);
  assert_int_equal(upgrade.got->value, 5);
  assert_happened("");
  gyre_release(upgrade.got);
  assert_happened("w");
  gyre_weak_free(upgrade.weak);
}

static void an_upgrade_while_the_owner_gives_up_its_count_keeps_the_object(void **state) {
  (void)state;
  NEEDS_WINDOWS();
  struct role owner = {.object = NULL};
  role_start(&owner, owns, "refcount/merging");
  event_wait(&owner.born);
  gyre_weak *weak = weak_new(owner.object, NULL, NULL);
  event_set(&owner.begin);
  stop_await(&owner.stop);
  item *got = gyre_weak_get(weak);
  assert_ptr_equal(got, owner.object);
  stop_end(&owner.stop);
  thread_join(owner.thread);
  assert_int_equal(got->value, 11);
  assert_int_equal(gyre_refcount(got), 1);
  gyre_release(got);
  assert_null(gyre_weak_get(weak));
  gyre_weak_free(weak);
}

/* The owner has seen that its object has no weak reference, and now gives up the last local count.
 */
static gyre_weak *make_weak_meanwhile(struct role *owner) {
  event_wait(&owner->born);
  gyre_retain(owner->object); /* in the shared word */
  event_set(&owner->begin);
  stop_await(&owner->stop);
  gyre_weak *weak = weak_new(owner->object, NULL, NULL);
  gyre_release(owner->object);
  return weak;
}

static void a_first_reference_made_during_the_owners_last_release_can_be_upgraded(void **state) {
  (void)state;
  NEEDS_WINDOWS();
  struct role owner = {.object = NULL};
  role_start(&owner, owns, "refcount/local_zero");
  gyre_weak *weak = make_weak_meanwhile(&owner);
  item *got = gyre_weak_get(weak);
  assert_ptr_equal(got, owner.object);
  stop_end(&owner.stop);
  thread_join(owner.thread);
  assert_int_equal(gyre_weak_is_dead(weak), 0);
  assert_int_equal(got->value, 11);
  gyre_release(got);
  assert_null(gyre_weak_get(weak));
  gyre_weak_free(weak);
}

/* Stops a second time, when the object has died. */
static struct stop stop_again;
static void stop_twice_hook(const char *window) {
  struct stop *stop = stop_here;
  stop_hook(window);
  if (stop != NULL && stop_here == NULL && stop != &stop_again) stop_here = &stop_again;
}

static void a_first_reference_made_during_the_owners_last_release_dies_with_it(void **state) {
  (void)state;
  NEEDS_WINDOWS();
  struct role owner = {.object = NULL};
  stop_init(&stop_again, "weak/died");
  role_start(&owner, owns, "refcount/local_zero");
  gyre__window_set_hook(stop_twice_hook);
  gyre_weak *weak = make_weak_meanwhile(&owner);
  stop_end(&owner.stop);
  /* The owner has found the count 0 and has not told the weak reference. */
  stop_await(&stop_again);
  assert_null(gyre_weak_get(weak));
  stop_end(&stop_again);
  thread_join(owner.thread);
  assert_int_equal(gyre_weak_is_dead(weak), 1);
  gyre_weak_free(weak);
}

static void a_death_halfway_through_the_table_holds_up_no_other_object(void **state) {
  (void)state;
  NEEDS_WINDOWS();
  enum { OBJECTS = 2000 };
  static gyre_weak *weak[OBJECTS];
  static item *items[OBJECTS];
  struct role death = {.object = shared_new(1)};
  gyre_weak *dead = weak_new(death.object, NULL, NULL);
  role_start(&death, releases, "weak/killing");
  stop_await(&death.stop);
  for (uint64_t n = 0; n < OBJECTS; n++) {
    items[n] = item_new(n);
    weak[n] = weak_new(items[n], NULL, NULL);
  }
  for (int n = 0; n < OBJECTS; n++) {
    gyre_release(items[n]);
    assert_int_equal(gyre_weak_is_dead(weak[n]), 1);
    gyre_weak_free(weak[n]);
  }
  assert_null(gyre_weak_get(dead));
  stop_end(&death.stop);
  thread_join(death.thread);
  gyre_weak_free(dead);
}

/* ---- making ---- */

static void two_threads_make_the_first_reference(const char *window) {
  item *object = item_new(1);
  struct role maker = {.object = object};
  role_start(&maker, makes_weak, window);
  stop_await(&maker.stop);
  gyre_weak *mine = weak_new(object, NULL, NULL);
  stop_end(&maker.stop);
  thread_join(maker.thread);
  assert_ptr_equal(maker.weak, mine);
  assert_int_equal(gyre_weak_count(object), 1);
  assert_int_equal(gyre__weak_object_count(), 1);
  gyre_weak_free(mine);
  assert_ptr_equal(gyre_weak_get(maker.weak), object);
  gyre_release(object);
  gyre_release(object);
  assert_int_equal(gyre_weak_is_dead(maker.weak), 1);
  gyre_weak_free(maker.weak);
}

static void two_threads_that_make_the_first_reference_get_the_same(void **state) {
  (void)state;
  NEEDS_WINDOWS();
  two_threads_make_the_first_reference("weak/adding");
}

/* The first test of this program: there is no table yet. */
static void two_threads_that_make_the_table_share_it(void **state) {
  (void)state;
  NEEDS_WINDOWS();
  two_threads_make_the_first_reference("weak/shard_made");
}

enum { CROWD = 20000 };
struct crowd {
  struct role role;
  item *items[CROWD];
  gyre_weak *weak[CROWD];
};
static void *makes_many(void *arg) {
  struct crowd *crowd = arg;
  MUST(gyre_thread_attach() != NULL);
  stop_me(&crowd->role.stop);
  for (uint64_t n = 0; n < CROWD; n++) {
    crowd->items[n] = item_new(n);
    crowd->weak[n] = weak_new(crowd->items[n], NULL, NULL);
  }
  return NULL;
}

static void others_make_references_while_one_grows_the_table(void **state) {
  (void)state;
  NEEDS_WINDOWS();
  static struct crowd crowds[2];
  role_start(&crowds[0].role, makes_many, "weak/grown");
  stop_await(&crowds[0].role.stop);
  role_start(&crowds[1].role, makes_many, NULL);
  thread_join(crowds[1].role.thread);
  stop_end(&crowds[0].role.stop);
  thread_join(crowds[0].role.thread);
  for (int c = 0; c < 2; c++)
    for (int n = 0; n < CROWD; n++) {
      item *got = gyre_weak_get(crowds[c].weak[n]);
      assert_ptr_equal(got, crowds[c].items[n]);
      gyre_release(got);
      gyre_release(got);
      assert_int_equal(gyre_weak_is_dead(crowds[c].weak[n]), 1);
      gyre_weak_free(crowds[c].weak[n]);
    }
}

/* ---- freeing and callbacks ---- */

static event entered, leave;
static void blocks(gyre_weak *weak, void *arg) {
  (void)weak, (void)arg;
  happens('(');
  event_set(&entered);
  event_wait(&leave);
  happens(')');
}
static void blocks_init(void) {
  event_init(&entered);
  event_init(&leave);
}

static void freeing_a_reference_waits_parked_for_its_callback_in_another_thread(void **state) {
  (void)state;
  NEEDS_WINDOWS();
  blocks_init();
  struct role death = {.object = shared_new(1)};
  gyre_weak *behind = weak_writes(death.object, "b");
  struct role freeing = {.weak = weak_new(death.object, blocks, NULL)};
  role_start(&death, releases, NULL);
  event_wait(&entered);
  role_start(&freeing, frees, "weak/free_waits");
  stop_await(&freeing.stop);
  struct gyre_thread_stats stats = {.size = sizeof stats};
  assert_int_equal(gyre_thread_get_stats(&stats), 0);
  assert_int_equal(stats.parked, 1);
  stop_end(&freeing.stop);
  linger();
  assert_int_equal(is_done(&freeing), 0);
  event_set(&leave);
  thread_join(freeing.thread);
  thread_join(death.thread);
  assert_happened("()b");
  gyre_weak_free(behind);
}

static void a_callback_that_returns_before_the_freeing_thread_sleeps_wakes_it(void **state) {
  (void)state;
  NEEDS_WINDOWS();
  blocks_init();
  struct role death = {.object = shared_new(1)};
  struct role freeing = {.weak = weak_new(death.object, blocks, NULL)};
  role_start(&death, releases, NULL);
  event_wait(&entered);
  role_start(&freeing, frees, "weak/free_waits");
  stop_await(&freeing.stop);
  event_set(&leave);
  thread_join(death.thread);
  stop_end(&freeing.stop);
  thread_join(freeing.thread);
  assert_happened("()");
}

static void a_reference_freed_while_an_earlier_callback_runs_is_not_called(void **state) {
  (void)state;
  blocks_init();
  struct role death = {.object = shared_new(1)};
  gyre_weak *last = weak_writes(death.object, "l");
  gyre_weak *next = weak_writes(death.object, "n");
  gyre_weak *first = weak_new(death.object, blocks, NULL);
  role_start(&death, releases, NULL);
  event_wait(&entered);
  gyre_weak_free(next);
  assert_int_equal(is_done(&death), 0);
  event_set(&leave);
  thread_join(death.thread);
  assert_happened("()l");
  gyre_weak_free(first);
  gyre_weak_free(last);
}

static void a_reference_freed_when_its_callback_has_just_returned_is_freed_once(void **state) {
  (void)state;
  NEEDS_WINDOWS();
  struct role death = {.object = shared_new(1)};
  struct role freeing = {.weak = weak_writes(death.object, "w")};
  role_start(&death, releases, "weak/called");
  stop_await(&death.stop);
  role_start(&freeing, frees, NULL);
  linger();
  assert_int_equal(is_done(&freeing), 0);
  stop_end(&death.stop);
  thread_join(death.thread);
  thread_join(freeing.thread);
  assert_happened("w");
}

static void all_references_may_be_freed_between_death_and_callbacks(void **state) {
  (void)state;
  NEEDS_WINDOWS();
  struct role death = {.object = shared_new(1)};
  gyre_weak *callback = weak_writes(death.object, "w");
  gyre_weak *shared = weak_new(death.object, NULL, NULL);
  role_start(&death, releases, "weak/killed");
  stop_await(&death.stop);
  assert_int_equal(gyre_weak_is_dead(shared), 1);
  gyre_weak_free(callback);
  gyre_weak_free(shared);
  stop_end(&death.stop);
  thread_join(death.thread);
  assert_happened("");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      WEAK_TEST(two_threads_that_make_the_table_share_it),
      WEAK_TEST(an_upgrade_that_comes_after_the_last_release_fails),
      WEAK_TEST(a_death_waits_for_no_upgrade_that_looks_at_the_object),
      WEAK_TEST(an_upgrade_that_counted_in_time_keeps_the_object),
      WEAK_TEST(an_upgrade_that_comes_too_late_counts_in_vain),
      WEAK_TEST(an_upgrade_before_the_last_release_keeps_the_object),
      WEAK_TEST(an_upgrade_while_the_owner_gives_up_its_count_keeps_the_object),
      WEAK_TEST(a_first_reference_made_during_the_owners_last_release_can_be_upgraded),
      WEAK_TEST(a_first_reference_made_during_the_owners_last_release_dies_with_it),
      WEAK_TEST(a_death_halfway_through_the_table_holds_up_no_other_object),
      WEAK_TEST(two_threads_that_make_the_first_reference_get_the_same),
      WEAK_TEST(others_make_references_while_one_grows_the_table),
      WEAK_TEST(freeing_a_reference_waits_parked_for_its_callback_in_another_thread),
      WEAK_TEST(a_callback_that_returns_before_the_freeing_thread_sleeps_wakes_it),
      WEAK_TEST(a_reference_freed_while_an_earlier_callback_runs_is_not_called),
      WEAK_TEST(a_reference_freed_when_its_callback_has_just_returned_is_freed_once),
      WEAK_TEST(all_references_may_be_freed_between_death_and_callbacks),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
