/* SPDX-License-Identifier: MIT */
#include "tests/support/window.h"

#include <string.h>

#include "lib/base/check.h"

static __thread bool is_subject;

struct window {
  const char *name; /* NULL: no window */
  unsigned nth;
  unsigned visits;
};

static struct {
  pthread_mutex_t mutex;
  pthread_cond_t cond;
  /* -- under the mutex -- */
  struct window hold, call;
  bool held;
  unsigned holds; /* counts who was let go; who is held waits for another number */
  void (*body)(void *);
  void *arg;
} windows = {.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

static bool is_time(struct window *window, const char *name) {
  return window->name != NULL && strcmp(window->name, name) == 0 && ++window->visits == window->nth;
}

/* Inside the library, in whatever state it is: touches nothing of it. */
static void come_to(const char *name) {
  if (!is_subject) return;
  void (*body)(void *) = NULL;
  void *arg = NULL;
  pthread_mutex_lock(&windows.mutex);
  if (is_time(&windows.call, name)) {
    body = windows.body;
    arg = windows.arg;
  }
  if (is_time(&windows.hold, name)) {
    unsigned mine = windows.holds;
    windows.held = true;
    pthread_cond_broadcast(&windows.cond);
    while (windows.holds == mine)
      pthread_cond_wait(&windows.cond, &windows.mutex);
  }
  pthread_mutex_unlock(&windows.mutex);
  if (body != NULL) body(arg);
}

void test_window_subject(void) { is_subject = true; }

void test_window_hold(const char *name, unsigned nth) {
  pthread_mutex_lock(&windows.mutex);
  TEST_REQUIRE(!windows.held);
  windows.hold = (struct window){.name = name, .nth = nth};
  pthread_mutex_unlock(&windows.mutex);
  gyre__window_set_hook(come_to);
}

/* Under the mutex. */
static void let_go(const char *name, unsigned nth) {
  windows.hold = (struct window){.name = name, .nth = nth};
  windows.held = false;
  windows.holds++;
  pthread_cond_broadcast(&windows.cond);
}

bool test_window_is_held(void) {
  pthread_mutex_lock(&windows.mutex);
  bool held = windows.held;
  pthread_mutex_unlock(&windows.mutex);
  return held;
}

void test_window_call(const char *name, unsigned nth, void (*body)(void *), void *arg) {
  pthread_mutex_lock(&windows.mutex);
  windows.call = (struct window){.name = name, .nth = nth};
  windows.body = body;
  windows.arg = arg;
  pthread_mutex_unlock(&windows.mutex);
  gyre__window_set_hook(come_to);
}

void test_window_await(void) {
  pthread_mutex_lock(&windows.mutex);
  while (!windows.held)
    pthread_cond_wait(&windows.cond, &windows.mutex);
  pthread_mutex_unlock(&windows.mutex);
}

void test_window_release(void) {
  pthread_mutex_lock(&windows.mutex);
  let_go(NULL, 0);
  pthread_mutex_unlock(&windows.mutex);
}

void test_window_clear(void) {
  gyre__window_set_hook(NULL);
  test_window_release();
  pthread_mutex_lock(&windows.mutex);
  windows.call.name = NULL;
  pthread_mutex_unlock(&windows.mutex);
  is_subject = false;
}
