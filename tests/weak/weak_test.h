/* SPDX-License-Identifier: MIT */
/* What the tests of weak references share: a log of what happens, objects that write into it,
 * threads, and race windows held open. */
#ifndef GYRE_TESTS_WEAK_WEAK_TEST_H
#define GYRE_TESTS_WEAK_WEAK_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gyre/weak.h>

#include "lib/weak/weak.h"

/* For threads and children, where cmocka's assertions may not be used. */
#define MUST(cond)                                                                                 \
  do {                                                                                             \
    if (!(cond)) {                                                                                 \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                                   \
      abort();                                                                                     \
    }                                                                                              \
  } while (0)

/* ---- what happened, in order: one letter an event ---- */

static char happened[256];

static inline void happens(char what) {
  size_t length = strlen(happened);
  MUST(length + 1 < sizeof happened);
  happened[length] = what;
  happened[length + 1] = '\0';
}

static inline void assert_happened(const char *what) {
  assert_string_equal(happened, what);
  happened[0] = '\0';
}

/* ---- objects ---- */

/* Writes 'F' when it is finalized and 'D' when it is destroyed, and calls hooks. */
typedef struct thing {
  GYRE_SLOT(struct thing) next;
  int (*on_finalize)(struct thing *self);
  void (*on_destroy)(struct thing *self);
  void *arg;
} thing;

static int thing_finalize(void *object) {
  thing *self = object;
  happens('F');
  return self->on_finalize != NULL ? self->on_finalize(self) : 0;
}
static void thing_destroy(void *object) {
  thing *self = object;
  happens('D');
  if (self->on_destroy != NULL) self->on_destroy(self);
}

__attribute__((unused)) static GYRE_TYPE_DEFINE(thing_type, thing, .slots = GYRE_SLOTS(thing, next),
                                                .finalize = thing_finalize,
                                                .destroy = thing_destroy);

/* Nothing but a number. */
typedef struct item {
  uint64_t value;
} item;

__attribute__((unused)) static GYRE_TYPE_DEFINE(item_type, item, .flags = 0);

/* The same, without an owner: whoever drops the last reference has the death. */
__attribute__((unused)) static GYRE_TYPE_DEFINE(shared_type, item, .flags = GYRE_TYPE_SHARED);

static inline item *shared_new(uint64_t value) {
  item *i = gyre_new(&shared_type);
  MUST(i != NULL);
  i->value = value;
  return i;
}

static inline item *item_new(uint64_t value) {
  item *i = gyre_new(&item_type);
  MUST(i != NULL);
  i->value = value;
  return i;
}

/* A callback that writes the letter that its argument points to. */
static inline void writes(gyre_weak *weak, void *arg) {
  MUST(gyre_weak_is_dead(weak));
  MUST(gyre_weak_get(weak) == NULL);
  happens(*(const char *)arg);
}

static inline gyre_weak *weak_new(void *object, gyre_weak_callback *callback, void *arg) {
  gyre_weak *weak = gyre_weak_new(object, callback, arg);
  MUST(weak != NULL);
  return weak;
}
static inline gyre_weak *weak_writes(void *object, const char *letter) {
  return weak_new(object, writes, (void *)(uintptr_t)letter);
}

/* ---- every test ---- */

static inline size_t live_blocks(void) {
  struct gyre_heap_stats stats = {.size = sizeof stats};
  MUST(gyre_heap_get_stats(&stats) == 0);
  return stats.live_blocks;
}

static inline int weak_setup(void **state) {
  (void)state;
  assert_non_null(gyre_thread_attach());
  happened[0] = '\0';
  return 0;
}

/* Deferred work is done and nothing is left: no object, no handle, no control block. */
static inline int weak_teardown(void **state) {
  (void)state;
  gyre__fault_arm(0, 0);
  gyre__window_set_hook(NULL);
  for (int i = 0; i < 1000; i++) {
    assert_int_equal(gyre_synchronize(), 0);
    assert_int_equal(gyre_purge(), 0);
    if (live_blocks() == 0) break;
    sched_yield();
  }
  assert_int_equal(live_blocks(), 0);
  assert_int_equal(gyre__weak_object_count(), 0);
  for (uint32_t id = 1; id <= gyre__thread_slot_count(); id++)
    gyre__heap_check_slot((struct gyre__heap *)gyre__thread_slot(id));
  return 0;
}

#define WEAK_TEST(f) cmocka_unit_test_setup_teardown(f, weak_setup, weak_teardown)

/* Smaller numbers where everything is slow. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__) || defined(GYRE_DEBUG)
#define SCALED(full, slow) (slow)
#else
#define SCALED(full, slow) (full)
#endif

/* ---- threads ---- */

static inline pthread_t thread_start(void *(*body)(void *), void *arg) {
  pthread_t thread;
  MUST(pthread_create(&thread, NULL, body, arg) == 0);
  return thread;
}
/* Parked. */
static inline void thread_join(pthread_t thread) {
  gyre_park();
  MUST(pthread_join(thread, NULL) == 0);
  gyre_unpark();
}
static inline void in_thread(void *(*body)(void *), void *arg) {
  thread_join(thread_start(body, arg));
}

typedef struct event {
  sem_t sem;
} event;
static inline void event_init(event *e) { MUST(sem_init(&e->sem, 0, 0) == 0); }
static inline void event_set(event *e) { MUST(sem_post(&e->sem) == 0); }
/* Not parked: the thread stays where it is. */
static inline void event_wait(event *e) {
  while (sem_wait(&e->sem) != 0)
    MUST(errno == EINTR);
}
static inline void event_wait_parked(event *e) {
  gyre_park();
  event_wait(e);
  gyre_unpark();
}

/* Pretends that a collection is about to condemn, or has ended: upgrades take locks meanwhile. For threads
 * that attach or unpark from now on, and the caller. */
static inline void mode_close(int closed) {
  uint32_t word = gyre__mode_published() & ~(uint32_t)GYRE__MODE_CLOSED;
  gyre__mode_publish(gyre__thread_self(), closed ? word | GYRE__MODE_CLOSED : word);
}

/* ---- race windows ----
 *
 * A thread that has called stop_me(&stop, "window") stops there when it next comes to it, once,
 * until another, which knows from stop_await() that it is there, calls stop_end(). */

#ifdef GYRE_WINDOWS
#define NEEDS_WINDOWS() ((void)0)
#else
#define NEEDS_WINDOWS() skip()
#endif

struct stop {
  const char *window;
  event reached, left;
};

static __thread struct stop *stop_here;

static inline void stop_hook(const char *window) {
  struct stop *stop = stop_here;
  if (stop == NULL || strcmp(stop->window, window) != 0) return;
  stop_here = NULL;
  event_set(&stop->reached);
  event_wait(&stop->left);
}

/* Before the thread is started. */
static inline void stop_init(struct stop *stop, const char *window) {
  stop->window = window;
  event_init(&stop->reached);
  event_init(&stop->left);
  gyre__window_set_hook(stop_hook);
}
/* In the thread that is to stop; not if it has no window. */
static inline void stop_me(struct stop *stop) { stop_here = stop->window != NULL ? stop : NULL; }
/* In another. */
static inline void stop_await(struct stop *stop) { event_wait(&stop->reached); }
static inline void stop_end(struct stop *stop) { event_set(&stop->left); }

#endif
