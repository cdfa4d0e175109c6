/* SPDX-License-Identifier: MIT */
/* Finalizers that wait for somebody to run them, and what becomes of those that fail.
 *
 * A release that drops the last reference to an object runs its finalizer, in whatever thread and with
 * whatever locks it was made. A type may ask for a queue instead (GYRE_TYPE_FINALIZE_QUEUED): then the last
 * reference is not dropped but given to the queue, and whoever serves that runs the finalizer and drops
 * it. The object is alive meanwhile, and can be brought back by a weak reference.
 *
 * A release cannot need memory. But an object whose last reference is dropped and that has a finalizer is
 * merged (refcount.c), so its local word is free, and it can be linked as the dead are (release.c). What a
 * collection found dead need not be merged; it is put into an array, for which there may be no memory, and
 * then the collector runs the finalizer itself.
 */
#include "lib/object/object.h"

#include <string.h>

/* Who runs many passes a safepoint after so many. */
#define BREATH 64

static struct {
  gyre__lock lock; /* protects all of it */
  struct gyre__chain chain;
  void **items;
  size_t count, room;
  /* Both together; read without the lock. */
  gyre__atomic_size waiting;
} pending;

static void waiting_add(size_t n) {
  /* relaxed: a figure; the lock orders the rest. */
  gyre__fetch_add_relaxed(&pending.waiting, n);
}

size_t gyre_pending_count(void) {
  /* relaxed: a figure. */
  return gyre__load_relaxed(&pending.waiting);
}

bool gyre__pending_take(gyre__header *h) {
  if (!(gyre__header_type(h)->flags & GYRE_TYPE_FINALIZE_QUEUED)) return false;
  if (!gyre__object_hooks.pending_is_served || !gyre__object_hooks.pending_is_served())
    return false;
  struct gyre__chain one = {NULL, NULL};
  gyre__lock_take(&pending.lock);
  gyre__chain_push(&one, h);
  gyre__chain_move(&one, &pending.chain); /* all others come first */
  pending.chain = one;
  waiting_add(1);
  gyre__lock_give(&pending.lock);
  gyre__object_hooks.pending_added();
  return true;
}

static bool items_grow(void) {
  if (pending.count < pending.room) return true;
  size_t room = pending.room == 0 ? 512 : 2 * pending.room;
  void **grown = gyre__os_map(room * sizeof *grown, gyre__os_page_size());
  if (grown == NULL) return false;
  if (pending.items != NULL) {
    memcpy(grown, pending.items, pending.count * sizeof *grown);
    gyre__os_unmap(pending.items, pending.room * sizeof *pending.items);
  }
  pending.items = grown;
  pending.room = room;
  return true;
}

bool gyre__pending_add(gyre__header *h) {
  gyre__lock_take(&pending.lock);
  bool added = items_grow();
  if (added) {
    pending.items[pending.count++] = gyre__retain(gyre__object_of(h));
    waiting_add(1);
  }
  gyre__lock_give(&pending.lock);
  if (added) gyre__object_hooks.pending_added();
  return added;
}

/* The next object, with the queue's reference, or NULL. */
static gyre__header *next(void) {
  gyre__header *h = NULL;
  gyre__lock_take(&pending.lock);
  if (pending.chain.first != NULL) {
    gyre__header *last = pending.chain.last;
    h = gyre__chain_pop(&pending.chain);
    if (h == last) pending.chain = (struct gyre__chain){NULL, NULL};
  } else if (pending.count > 0) {
    h = gyre__header_of(pending.items[--pending.count]);
  }
  if (h != NULL) waiting_add(SIZE_MAX);
  gyre__lock_give(&pending.lock);
  return h;
}

size_t gyre_run_pending(size_t max) {
  if (gyre_pending_count() == 0) return 0;
  gyre__attach_self();
  /* What comes meanwhile is left for the next time. */
  size_t n = 0, waiting = gyre_pending_count();
  if (max > waiting) max = waiting;
  for (gyre__header *h; n < max && (h = next()) != NULL; n++) {
    gyre__object_finalize(h);
    gyre_release(gyre__object_of(h));
    if (n % BREATH == BREATH - 1) gyre_safepoint();
  }
  return n;
}

/* ---- failures ---- */

static struct {
  gyre__lock lock; /* protects both; not held while the hook runs */
  gyre_error_hook *hook;
  void *arg;
} errors;

void gyre_set_error_hook(gyre_error_hook *hook, void *arg) {
  gyre__lock_take(&errors.lock);
  errors.hook = hook;
  errors.arg = arg;
  gyre__lock_give(&errors.lock);
}

void gyre__finalizer_failed(void *object, int error) {
  gyre__lock_take(&errors.lock);
  gyre_error_hook *hook = errors.hook;
  void *arg = errors.arg;
  gyre__lock_give(&errors.lock);
  if (hook != NULL)
    hook(object, error, arg);
  else
    gyre__log("finalizer of %s at %p returned %d", gyre_type_of(object)->name, object, error);
}

/* ---- the end of an arena ---- */

static void forget(void) {
  pending.chain = (struct gyre__chain){NULL, NULL};
  pending.items = NULL;
  pending.count = pending.room = 0;
  gyre__store_relaxed(&pending.waiting, 0); /* relaxed: no thread is attached. */
}

static void __attribute__((constructor)) pending_init(void) { gyre__forget_add(forget); }

/* ---- fork ---- */

void gyre__pending_fork_prepare(void) {
  gyre__lock_take(&errors.lock);
  gyre__lock_take(&pending.lock);
}
void gyre__pending_fork_parent(void) {
  gyre__lock_give(&pending.lock);
  gyre__lock_give(&errors.lock);
}
void gyre__pending_fork_child(void) {
  gyre__lock_reset(&pending.lock);
  gyre__lock_reset(&errors.lock);
}
