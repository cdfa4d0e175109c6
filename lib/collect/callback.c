/* SPDX-License-Identifier: MIT */
/* Callbacks at the start and the end of a collection.
 *
 * Only the collecting thread walks the list, under the lock but for the calls themselves. A
 * callback that is removed while it runs stays in the list, marked, until the walk has passed it;
 * who removed it from another thread waits, parked, until its call has returned.
 */
#include <errno.h>
#include <limits.h>

#include "lib/collect/collect.h"

struct callback {
  struct callback *next;
  gyre_gc_callback *fn;
  void *arg;
  uint64_t id;
  uint64_t since; /* the walk under way when it was added: not called by that */
  bool removed;
};

static struct {
  gyre__lock lock; /* protects all but `returned` */
  struct callback *first;
  uint64_t last_id;
  uint64_t walks;
  uint32_t walking; /* walks under way: 1, or 0 */
  struct callback *running;
  uint32_t running_thread;
  /* Counts calls that have returned: futex word of those who wait for one. */
  gyre__atomic_u32 returned;
} callbacks;

int gyre_gc_add_callback(gyre_gc_callback *fn, void *arg, uint64_t *id) {
  if (fn == NULL) return -EINVAL;
  struct callback *added = gyre_malloc(sizeof *added);
  if (added == NULL) return -ENOMEM;
  *added = (struct callback){.fn = fn, .arg = arg};
  gyre__lock_take(&callbacks.lock);
  added->id = ++callbacks.last_id;
  added->since = callbacks.walking ? callbacks.walks : 0;
  struct callback **link = &callbacks.first;
  while (*link != NULL)
    link = &(*link)->next;
  *link = added;
  if (id != NULL) *id = added->id;
  gyre__lock_give(&callbacks.lock);
  return 0;
}

/* Unlinks what is marked. Under the lock, and while no walk is under way. Returns what is to be
 * freed. */
static struct callback *sweep(void) {
  struct callback *gone = NULL;
  struct callback **link = &callbacks.first;
  while (*link != NULL) {
    struct callback *c = *link;
    if (!c->removed) {
      link = &c->next;
      continue;
    }
    *link = c->next;
    c->next = gone;
    gone = c;
  }
  return gone;
}

static void free_all(struct callback *gone) {
  while (gone != NULL) {
    struct callback *next = gone->next;
    gyre_free(gone);
    gone = next;
  }
}

static struct callback *find(uint64_t id) {
  struct callback *c = callbacks.first;
  while (c != NULL && (c->id != id || c->removed))
    c = c->next;
  return c;
}

/* Waits until the call of callback `id` that is under way in another thread has returned. Under the
 * lock, which it gives up meanwhile. */
static void await_return(uint64_t id) {
  gyre_thread *self = gyre_thread_current();
  if (self != NULL && callbacks.running_thread == self->id) return;
  while (callbacks.running != NULL && callbacks.running->id == id) {
    /* relaxed: changes after `running` is cleared, under the lock that we hold. */
    uint32_t returned = gyre__load_relaxed(&callbacks.returned);
    gyre__lock_give(&callbacks.lock);
    gyre_park();
    gyre__futex_wait(&callbacks.returned, returned, UINT64_MAX);
    gyre_unpark();
    gyre__lock_take(&callbacks.lock);
  }
}

int gyre_gc_remove_callback(uint64_t id) {
  gyre__lock_take(&callbacks.lock);
  struct callback *c = find(id);
  if (c == NULL) {
    gyre__lock_give(&callbacks.lock);
    return -ENOENT;
  }
  c->removed = true;
  await_return(id);
  struct callback *gone = callbacks.walking ? NULL : sweep();
  gyre__lock_give(&callbacks.lock);
  free_all(gone);
  return 0;
}

void gyre__callbacks_run(const struct gyre__collection *c, enum gyre_gc_phase phase,
                         uint64_t duration_ns) {
  if (c->reason == GYRE__REASON_SHUTDOWN) return;
  bool stop = phase == GYRE_GC_STOP;
  struct gyre_gc_info info = {
      .size = sizeof info,
      .generation = c->generation,
      .collected = stop ? c->dead : 0,
      .uncollectable = stop ? c->uncollectable : 0,
      .candidates = stop ? c->candidates : 0,
      .duration_ns = duration_ns,
  };
  gyre__lock_take(&callbacks.lock);
  /* A collection is one walk: who is added after its start is not told of its end. */
  if (!stop) {
    callbacks.walks++;
    callbacks.walking = 1;
  }
  for (struct callback *b = callbacks.first; b != NULL; b = b->next) {
    if (b->removed || b->since == callbacks.walks) continue;
    callbacks.running = b;
    callbacks.running_thread = c->self->heap.thread.base.id;
    gyre__lock_give(&callbacks.lock);
    b->fn(phase, &info, b->arg);
    gyre__lock_take(&callbacks.lock);
    callbacks.running = NULL;
    callbacks.running_thread = 0;
    /* relaxed: under the lock; see await_return(). */
    gyre__fetch_add_relaxed(&callbacks.returned, 1);
    gyre__futex_wake(&callbacks.returned, INT_MAX);
  }
  struct callback *gone = NULL;
  if (stop) {
    callbacks.walking = 0;
    gone = sweep();
  }
  gyre__lock_give(&callbacks.lock);
  free_all(gone);
}

/* ---- the end of an arena ---- */

static void forget(void) { callbacks.first = NULL; }

static void __attribute__((constructor)) callback_init(void) { gyre__forget_add(forget); }

/* ---- fork ---- */

void gyre__callbacks_fork_prepare(void) { gyre__lock_take(&callbacks.lock); }
void gyre__callbacks_fork_parent(void) { gyre__lock_give(&callbacks.lock); }
void gyre__callbacks_fork_child(bool is_collector) {
  gyre__lock_reset(&callbacks.lock);
  if (is_collector) return;
  callbacks.walking = 0;
  callbacks.running = NULL;
  callbacks.running_thread = 0;
}
