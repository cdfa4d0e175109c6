/* SPDX-License-Identifier: MIT */
/* Calling the callbacks of a dead object, while others free them.
 *
 *              popped from the list                 it has returned
 *     ARMED ------------------------> RUNNING -------------------------> CALLED
 *       |                                |  freed by the callback itself    |
 *       | gyre_weak_free                 '--------> freed on return         | gyre_weak_free
 *       v                                                                   v
 *     freed, never called                                                 freed
 *
 * All moves are made under the control block's lock, each callback is called without it. The list
 * stays the control block's, and callbacks are popped one at a time, so that one that is freed
 * while others run is not called: by an earlier callback, or by another thread. A gyre_weak_free()
 * that finds it RUNNING in another thread waits, parked, until it is CALLED, and has the last look
 * at it; if it is RUNNING in this thread, so that we are in the callback, it leaves the freeing to
 * the loop below.
 *
 * "In this thread" is known from a chain of frames, because callbacks nest: one may drop the last
 * reference to another object with weak references.
 *
 * A callback that forks returns in both processes. One that another thread was calling never
 * returns in the child: gyre_weak_free() there sees it by its epoch and does not wait. The
 * callbacks behind it are not called in the child.
 */
#include <limits.h>

#include "lib/weak/control.h"

/* The callbacks that this thread is in, the innermost first. */
struct frame {
  struct frame *outer;
  struct gyre__weak_callback *callback;
};
static __thread struct frame *frames;

/* Times this process or its parents forked, on the way to here. */
static gyre__atomic_u32 forks;

uint32_t gyre__weak_epoch(void) {
  /* relaxed: changes only where there is one thread; fork_child() is its partner. */
  return gyre__load_relaxed(&forks) + 1;
}

static bool is_called_here(const struct gyre__weak_callback *callback) {
  for (const struct frame *frame = frames; frame != NULL; frame = frame->outer)
    if (frame->callback == callback) return true;
  return false;
}

static uint32_t state_of(struct gyre__weak_callback *callback) {
  /* relaxed: under the lock. */
  return gyre__load_relaxed(&callback->state);
}

static void state_set(struct gyre__weak_callback *callback, uint32_t state) {
  /* relaxed: under the lock; the futex in free_wait() compares it again. */
  gyre__store_relaxed(&callback->state, state);
}

/* ---- the list ---- */

void gyre__weak_callback_arm(struct gyre__weak_control *control,
                             struct gyre__weak_callback *callback) {
  struct gyre__weak_callback *first = control->callbacks;
  callback->next = first;
  callback->prev = NULL;
  if (first != NULL) first->prev = callback;
  control->callbacks = callback;
  callback->weak.word = (uintptr_t)control;
  callback->epoch = gyre__weak_epoch();
  state_set(callback, GYRE__WEAK_ARMED);
}

/* From the list of the block that it is in. */
static void list_remove(struct gyre__weak_control *control, struct gyre__weak_callback *callback) {
  /* The list it was in has been dropped. */
  if (callback->epoch < control->broken) return;
  if (callback->next != NULL) callback->next->prev = callback->prev;
  if (callback->prev != NULL)
    callback->prev->next = callback->next;
  else
    control->callbacks = callback->next;
}

/* ---- calling ---- */

static void call(struct gyre__weak_callback *callback) {
  struct frame frame = {.outer = frames, .callback = callback};
  frames = &frame;
  GYRE_WINDOW("weak/calling");
  callback->function(&callback->weak, callback->arg);
  GYRE_WINDOW("weak/called");
  frames = frame.outer;
}

void gyre__weak_callbacks_run(struct gyre__objects *self, struct gyre__weak_control *control) {
  gyre__weak_control_lock(self, control);
  struct gyre__weak_callback *callback;
  while ((callback = control->callbacks) != NULL) {
    list_remove(control, callback);
    if (callback->function == NULL) {
      state_set(callback, GYRE__WEAK_CALLED);
      gyre__weak_control_unlock(self, control);
      GYRE_WINDOW("weak/telling");
      callback->died(self, callback);
      gyre__weak_control_lock(self, control);
      gyre__weak_control_unref(self, control);
      continue;
    }
    callback->epoch = gyre__weak_epoch();
    state_set(callback, GYRE__WEAK_RUNNING);
    gyre__weak_control_unlock(self, control);
    call(callback);
    GYRE_REQUIRE(gyre__self == &self->heap.thread.base, "a weak callback detached its thread");
    gyre__weak_control_lock(self, control);
    uint32_t state = state_of(callback);
    if (state & GYRE__WEAK_FREED) {
      gyre__weak_control_unref(self, control);
      gyre__weak_control_unlock(self, control);
      gyre_free(callback);
    } else {
      state_set(callback, GYRE__WEAK_CALLED);
      gyre__weak_control_unlock(self, control);
      /* From here on another thread may free it: only its address is used, and whoever sleeps for
       * something else that is there by now looks again. */
      if (state & GYRE__WEAK_WAITED) gyre__futex_wake(&callback->state, INT_MAX);
    }
    gyre__weak_control_lock(self, control);
  }
  gyre__weak_control_unref(self, control);
  gyre__weak_control_unlock(self, control);
}

/* ---- freeing ---- */

bool gyre__weak_unwatch(struct gyre__objects *self, struct gyre__weak_callback *watch) {
  struct gyre__weak_control *control = gyre__weak_control_of(&watch->weak);
  gyre__weak_control_lock(self, control);
  bool armed = state_of(watch) == GYRE__WEAK_ARMED;
  if (armed) {
    list_remove(control, watch);
    state_set(watch, GYRE__WEAK_CALLED);
    /* relaxed: under the lock. */
    if (gyre__load_relaxed(&control->object) != NULL) control->watches--;
    gyre__weak_control_unref(self, control);
  }
  gyre__weak_control_unlock(self, control);
  return armed;
}

/* Is it running, in a thread that will come back to it? */
static bool must_wait(struct gyre__weak_callback *callback) {
  return (state_of(callback) & GYRE__WEAK_STATE) == GYRE__WEAK_RUNNING &&
         callback->epoch == gyre__weak_epoch();
}

/* Waits until the callback has returned. Begins and ends with the lock held. */
static void free_wait(struct gyre__objects *self, struct gyre__weak_callback *callback) {
  struct gyre__weak_control *control = gyre__weak_control_of(&callback->weak);
  while (must_wait(callback)) {
    uint32_t state = state_of(callback) | GYRE__WEAK_WAITED;
    state_set(callback, state);
    gyre__weak_control_unlock(self, control);
    gyre_park();
    GYRE_WINDOW("weak/free_waits");
    gyre__futex_wait(&callback->state, state, UINT64_MAX);
    gyre_unpark();
    gyre__weak_control_lock(self, control);
  }
}

void gyre__weak_callback_free(struct gyre__objects *self, struct gyre__weak_callback *callback) {
  struct gyre__weak_control *control = gyre__weak_control_of(&callback->weak);
  gyre__weak_control_lock(self, control);
  uint32_t state = state_of(callback);
  if (state == GYRE__WEAK_ARMED) {
    list_remove(control, callback);
  } else if (is_called_here(callback)) {
    GYRE_REQUIRE(!(state & GYRE__WEAK_FREED), "double gyre_weak_free of %p", (void *)callback);
    state_set(callback, state | GYRE__WEAK_FREED);
    gyre__weak_control_unlock(self, control);
    return;
  } else {
    free_wait(self, callback);
  }
  gyre__weak_control_unref(self, control);
  gyre__weak_control_unlock(self, control);
  gyre_free(callback);
}

/* ---- fork ---- */

/* The callbacks that the forking thread is in go on in the child; those of others do not. */
static void fork_child(void) {
  gyre__weak_table_fork_child();
  /* relaxed: no other thread exists. */
  gyre__fetch_add_relaxed(&forks, 1);
  for (struct frame *frame = frames; frame != NULL; frame = frame->outer)
    frame->callback->epoch = gyre__weak_epoch();
  gyre__finalize_fork_child();
}

static void __attribute__((constructor)) callback_init(void) {
  gyre__thread_hooks.fork_prepare[2] = gyre__finalize_fork_prepare;
  gyre__thread_hooks.fork_parent[2] = gyre__finalize_fork_parent;
  gyre__thread_hooks.fork_child[2] = fork_child;
}
