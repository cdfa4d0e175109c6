/* SPDX-License-Identifier: MIT */
/* Many threads on the same weak references.
 *
 * What the rounds try to provoke: an upgrade that yields a dead object (its value is poisoned when
 * it dies), a false NULL (while a thread that holds the object looks), a callback that is lost or
 * called twice, an object that dies twice or never, two control blocks for one object. */
#include "weak_test.h"

enum { THREADS = 8 };

#define VALUE UINT64_C(0x1234567812345678)

/* Poisons itself; counts its deaths. */
static gyre__atomic_u32 deaths;
static void mortal_destroy(void *object) {
  item *i = object;
  MUST(i->value == VALUE);
  i->value = ~VALUE;
  /* relaxed: a count. */
  gyre__fetch_add_relaxed(&deaths, 1);
}
static GYRE_TYPE_DEFINE(mortal_type, item, .destroy = mortal_destroy);
static GYRE_TYPE_DEFINE(mortal_shared_type, item, .destroy = mortal_destroy,
                        .flags = GYRE_TYPE_SHARED);

static item *mortal_new(gyre_type *type) {
  item *i = gyre_new(type);
  MUST(i != NULL);
  i->value = VALUE;
  return i;
}
static uint32_t deaths_now(void) {
  /* relaxed: read when the threads have been joined. */
  return gyre__load_relaxed(&deaths);
}
static void deaths_reset(void) {
  /* relaxed: as above. */
  gyre__store_relaxed(&deaths, 0);
}

static gyre__atomic_u32 calls;
static void counts_call(gyre_weak *weak, void *arg) {
  (void)arg;
  MUST(gyre_weak_is_dead(weak));
  MUST(gyre_weak_get(weak) == NULL);
  /* relaxed: a count. */
  gyre__fetch_add_relaxed(&calls, 1);
}

/* ---- eight threads upgrade while the owner drops the object ---- */

enum owner { STAYS, PARKS, EXITS, NOBODY };

struct scene {
  enum owner owner;
  gyre_weak *shared, *called;
  pthread_barrier_t start;
  /* The owner's reference is gone. */
  gyre__atomic_u32 dropped;
  gyre__atomic_u32 upgrades;
};

static void *upgrades_until_dead(void *arg) {
  struct scene *scene = arg;
  MUST(gyre_thread_attach() != NULL);
  gyre_park();
  pthread_barrier_wait(&scene->start);
  gyre_unpark();
  uint32_t upgrades = 0;
  for (;;) {
    /* acquire: pairs with the release in owner_drops(). */
    uint32_t dropped = gyre__load_acquire(&scene->dropped);
    item *got = gyre_weak_get(upgrades % 2 ? scene->shared : scene->called);
    if (got == NULL) {
      /* Dead for good, and only after the owner had let go. */
      MUST(gyre_weak_get(scene->shared) == NULL);
      break;
    }
    MUST(got->value == VALUE);
    upgrades++;
    if (upgrades % 4 == 0) sched_yield();
    MUST(got->value == VALUE);
    gyre_release(got);
    gyre_safepoint();
    /* With all others doing the same it may live on for long. */
    if (dropped && upgrades % 3 == 0) sched_yield();
  }
  /* relaxed: a count. */
  gyre__fetch_add_relaxed(&scene->upgrades, upgrades);
  return NULL;
}

static void *owner_drops(void *arg) {
  struct scene *scene = arg;
  MUST(gyre_thread_attach() != NULL);
  item *object = mortal_new(scene->owner == NOBODY ? &mortal_shared_type : &mortal_type);
  scene->shared = weak_new(object, NULL, NULL);
  scene->called = weak_new(object, counts_call, NULL);
  gyre_park();
  pthread_barrier_wait(&scene->start);
  gyre_unpark();
  /* While we hold it, nobody gets a NULL. */
  for (int n = 0; n < 20; n++) {
    item *got = gyre_weak_get(scene->shared);
    MUST(got == object);
    gyre_release(got);
    gyre_safepoint();
  }
  gyre_release(object);
  /* release: pairs with the acquire in upgrades_until_dead(). */
  gyre__store_release(&scene->dropped, 1);
  if (scene->owner == EXITS) return NULL;
  if (scene->owner == PARKS) gyre_park();
  while (!gyre_weak_is_dead(scene->shared)) {
    if (scene->owner != PARKS) gyre_safepoint();
    sched_yield();
  }
  if (scene->owner == PARKS) gyre_unpark();
  return NULL;
}

static void eight_threads_upgrade_while_the_owner_drops(enum owner owner) {
  enum { ROUNDS = SCALED(300, 60) };
  for (uint32_t round = 0; round < ROUNDS; round++) {
    struct scene scene = {.owner = owner};
    deaths_reset();
    gyre__store_relaxed(&calls, 0); /* relaxed: no other thread */
    assert_int_equal(pthread_barrier_init(&scene.start, NULL, THREADS + 1), 0);
    pthread_t threads[THREADS + 1];
    threads[0] = thread_start(owner_drops, &scene);
    for (int n = 1; n <= THREADS; n++)
      threads[n] = thread_start(upgrades_until_dead, &scene);
    for (int n = 0; n <= THREADS; n++)
      thread_join(threads[n]);
    pthread_barrier_destroy(&scene.start);
    assert_int_equal(deaths_now(), 1);
    /* relaxed: joined. */
    assert_int_equal(gyre__load_relaxed(&calls), 1);
    assert_int_equal(gyre_weak_is_dead(scene.called), 1);
    gyre_weak_free(scene.shared);
    gyre_weak_free(scene.called);
  }
}

static void eight_threads_upgrade_while_an_owner_that_stays_drops(void **state) {
  (void)state;
  eight_threads_upgrade_while_the_owner_drops(STAYS);
}
static void eight_threads_upgrade_while_an_owner_drops_and_parks(void **state) {
  (void)state;
  eight_threads_upgrade_while_the_owner_drops(PARKS);
}
static void eight_threads_upgrade_while_an_owner_drops_and_exits(void **state) {
  (void)state;
  eight_threads_upgrade_while_the_owner_drops(EXITS);
}
static void eight_threads_upgrade_an_object_without_an_owner(void **state) {
  (void)state;
  eight_threads_upgrade_while_the_owner_drops(NOBODY);
}

/* ---- eight threads make and free references to the same object ---- */

struct makers {
  item *object;
  pthread_barrier_t start;
  gyre__atomic_u32 held;
};

static void *makes_and_frees(void *arg) {
  struct makers *makers = arg;
  MUST(gyre_thread_attach() != NULL);
  gyre_park();
  pthread_barrier_wait(&makers->start);
  gyre_unpark();
  gyre_weak *weak[16] = {NULL};
  for (unsigned n = 0; n < SCALED(20000, 3000); n++) {
    gyre_weak **at = &weak[n * 7 % 16];
    if (*at != NULL) {
      item *got = gyre_weak_get(*at);
      MUST(got == makers->object);
      gyre_release(got);
      gyre_weak_free(*at);
    }
    *at = weak_new(makers->object, n % 3 ? counts_call : NULL, NULL);
    gyre_safepoint();
  }
  uint32_t held = 0;
  for (int n = 0; n < 16; n++)
    held += weak[n] != NULL;
  /* relaxed: a count. */
  gyre__fetch_add_relaxed(&makers->held, held);
  gyre_release(makers->object);
  gyre_park();
  pthread_barrier_wait(&makers->start);
  gyre_unpark();
  for (int n = 0; n < 16; n++) {
    MUST(gyre_weak_get(weak[n]) == NULL);
    gyre_weak_free(weak[n]);
  }
  return NULL;
}

static void eight_threads_make_and_free_references_to_one_object(void **state) {
  (void)state;
  for (int round = 0; round < 3; round++) {
    static struct makers makers;
    makers.object = mortal_new(&mortal_type);
    gyre__store_relaxed(&makers.held, 0); /* relaxed: no other thread */
    gyre__store_relaxed(&calls, 0);       /* relaxed: likewise */
    deaths_reset();
    for (int n = 0; n < THREADS; n++)
      gyre_retain(makers.object);
    assert_int_equal(pthread_barrier_init(&makers.start, NULL, THREADS), 0);
    pthread_t threads[THREADS];
    for (int n = 0; n < THREADS; n++)
      threads[n] = thread_start(makes_and_frees, &makers);
    gyre_release(makers.object);
    for (int n = 0; n < THREADS; n++)
      thread_join(threads[n]);
    pthread_barrier_destroy(&makers.start);
    assert_int_equal(deaths_now(), 1);
    /* 5 in 16 have no callback, at most; the others were all called. relaxed: joined. */
    assert_true(gyre__load_relaxed(&calls) <= gyre__load_relaxed(&makers.held));
    assert_true(gyre__load_relaxed(&calls) >= gyre__load_relaxed(&makers.held) / 2);
  }
}

/* ---- objects come and go, references to them are passed around ---- */

enum { PLACES = 64 };

/* A reference that is taken out to be used, so that nobody frees it meanwhile. */
static gyre__atomic_ptr places[PLACES];

static uint64_t random_next(uint64_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

static void *churns(void *arg) {
  uint64_t random = (uint64_t)(uintptr_t)arg * UINT64_C(0x9E3779B97F4A7C15) | 1;
  MUST(gyre_thread_attach() != NULL);
  item *mine[16] = {NULL};
  for (unsigned n = 0; n < SCALED(200000, 20000); n++) {
    uint64_t r = random_next(&random);
    item **hand = &mine[r % 16];
    gyre__atomic_ptr *place = &places[(r >> 8) % PLACES];
    switch ((r >> 20) % 4) {
    case 0: /* a new object, and a reference to it in a place */
      gyre_release(*hand);
      *hand = mortal_new(r & (1u << 30) ? &mortal_type : &mortal_shared_type);
      /* acq_rel: what is behind the references; pairs with itself. */
      gyre_weak_free(gyre__exchange_acq_rel(
          place, weak_new(*hand, r & (1u << 31) ? counts_call : NULL, NULL)));
      break;
    case 1: { /* what the place refers to */
      /* acq_rel: as above. */
      gyre_weak *weak = gyre__exchange_acq_rel(place, NULL);
      item *got = gyre_weak_get(weak);
      MUST(got == NULL || got->value == VALUE);
      gyre_release(*hand);
      *hand = got;
      /* acq_rel: as above. */
      gyre_weak_free(gyre__exchange_acq_rel(place, weak));
      break;
    }
    case 2:
      gyre_release(*hand);
      *hand = NULL;
      break;
    default: /* another reference to an object that has one */
      if (*hand != NULL) {
        MUST((*hand)->value == VALUE);
        gyre_weak *weak = weak_new(*hand, NULL, NULL);
        MUST(gyre_weak_count(*hand) >= 1);
        /* acq_rel: as above. */
        gyre_weak_free(gyre__exchange_acq_rel(place, weak));
      }
      break;
    }
    if (n % 64 == 0) gyre_safepoint();
    if (n % 5000 == 0) GYRE_BLOCKING {
        sched_yield();
      }
  }
  for (int n = 0; n < 16; n++)
    gyre_release(mine[n]);
  return NULL;
}

static void objects_and_references_come_and_go_in_eight_threads(void **state) {
  (void)state;
  pthread_t threads[THREADS];
  for (uintptr_t n = 0; n < THREADS; n++)
    threads[n] = thread_start(churns, (void *)(n + 1));
  for (int n = 0; n < THREADS; n++)
    thread_join(threads[n]);
  for (int n = 0; n < PLACES; n++) {
    /* acq_rel: as above. */
    gyre_weak *weak = gyre__exchange_acq_rel(&places[n], NULL);
    assert_null(gyre_weak_get(weak));
    gyre_weak_free(weak);
  }
}

/* ---- one frees what another's death calls ---- */

struct pairs {
  item *objects[1000];
  gyre_weak *weak[1000];
  pthread_barrier_t start;
};
static void *frees_all(void *arg) {
  struct pairs *pairs = arg;
  MUST(gyre_thread_attach() != NULL);
  gyre_park();
  pthread_barrier_wait(&pairs->start);
  gyre_unpark();
  for (int n = 0; n < 1000; n++)
    gyre_weak_free(pairs->weak[n]);
  return NULL;
}
static void *releases_all(void *arg) {
  struct pairs *pairs = arg;
  MUST(gyre_thread_attach() != NULL);
  gyre_park();
  pthread_barrier_wait(&pairs->start);
  gyre_unpark();
  for (int n = 0; n < 1000; n++)
    gyre_release(pairs->objects[n]);
  return NULL;
}

static void references_are_freed_while_their_objects_die(void **state) {
  (void)state;
  for (int round = 0; round < SCALED(100, 20); round++) {
    static struct pairs pairs;
    assert_int_equal(pthread_barrier_init(&pairs.start, NULL, 2), 0);
    for (int n = 0; n < 1000; n++) {
      pairs.objects[n] = mortal_new(n % 2 ? &mortal_type : &mortal_shared_type);
      pairs.weak[n] = weak_new(pairs.objects[n], n % 4 < 2 ? counts_call : NULL, NULL);
    }
    pthread_t first = thread_start(frees_all, &pairs);
    pthread_t second = thread_start(releases_all, &pairs);
    thread_join(first);
    thread_join(second);
    pthread_barrier_destroy(&pairs.start);
  }
}

/* ---- a thread that does nothing else ---- */

static void *upgrades_unattached(void *arg) {
  gyre_weak **weak = arg;
  MUST(gyre_thread_current() == NULL);
  item *got = gyre_weak_get(weak[0]);
  MUST(got->value == VALUE);
  MUST(gyre_thread_current() != NULL);
  gyre_release(got);
  return NULL;
}
static void *frees_unattached(void *arg) {
  gyre_weak **weak = arg;
  gyre_weak_free(weak[0]);
  gyre_weak_free(weak[1]);
  return NULL;
}

static void a_thread_need_not_attach_to_use_or_free_a_reference(void **state) {
  (void)state;
  item *i = mortal_new(&mortal_type);
  gyre_weak *weak[] = {weak_new(i, NULL, NULL), weak_new(i, counts_call, NULL)};
  in_thread(upgrades_unattached, weak);
  in_thread(frees_unattached, weak);
  assert_int_equal(gyre_weak_count(i), 0);
  gyre_release(i);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      WEAK_TEST(a_thread_need_not_attach_to_use_or_free_a_reference),
      WEAK_TEST(eight_threads_upgrade_while_an_owner_that_stays_drops),
      WEAK_TEST(eight_threads_upgrade_while_an_owner_drops_and_parks),
      WEAK_TEST(eight_threads_upgrade_while_an_owner_drops_and_exits),
      WEAK_TEST(eight_threads_upgrade_an_object_without_an_owner),
      WEAK_TEST(eight_threads_make_and_free_references_to_one_object),
      WEAK_TEST(objects_and_references_come_and_go_in_eight_threads),
      WEAK_TEST(references_are_freed_while_their_objects_die),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
