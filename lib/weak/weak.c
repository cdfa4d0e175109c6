/* SPDX-License-Identifier: MIT */
/* Weak references.
 *
 * All weak references to an object share one control block, which knows the object as long as it
 * lives. The object does not know its control block; a bit in its header says that there is one,
 * and a hash table finds it (table.c) when another weak reference is made and when the object dies.
 * An upgrade goes from the reference to the control block and looks nothing up.
 *
 *     gyre_weak --\                                    table: address -> control block
 *     gyre_weak ----> control block --- object ---> header [ ... BIT_WEAK ... ]
 *     gyre_weak --/    lock, callbacks
 *
 * Why an upgrade never sees freed memory. control->object is read as gyre_load() reads a slot
 * (refcount.c, slot.c): count first, then look again.
 *
 *     upgrade:  object = control->object; count it unless its count is 0 for good;
 *               if control->object is still the same: counted. Otherwise give the count back.
 *     death:    count 0 for good; control->object = NULL; take apart, free
 *
 * "0 for good" is one atomic step, (MERGED, 1) to (MERGED, 0), because the bit makes its owner give up
 * its local count first (refcount.c). An upgrade that counts before that step has a reference that
 * keeps the object from it, and one that comes after it fails: never a false NULL. One that is so late
 * that the block is another object's by then counts on that one; it finds control->object NULL, which
 * came before the block was freed, and takes the count back, as a late load from a slot does. It writes
 * to the object's header only, so that threads that upgrade at once share no other line that changes.
 *
 * The collector kills living objects' references, whose counts are not 0. So once there may be such
 * objects, from the end of the first logging to the end of the collection (GYRE__MODE_CLOSED), upgrades
 * take the control block's lock, which the collector holds while it makes up its mind:
 *
 *     upgrade:    lock; object = control->object; if not NULL, count and touch it; unlock
 *     collector:  lock all of a component; touched? if not, control->object = NULL in each; unlock
 *
 * An operation does not span a safepoint, so an upgrade without the lock was over before its thread
 * answered the handshake that closed the mode; until then the thread was logging, and its count
 * touched the object as every count does (lib/collect/collect.c). In a stopped world no upgrade is
 * under way.
 *
 * The bit is set while its maker holds a counted reference. The owner, about to drop its last one,
 * looks at the shared word first and at the bit after that: whoever set it and has given up a count
 * since, did so before what the owner saw in the shared word.
 *
 * One order of death, on both paths. The finalizer runs while the last reference still counts, so
 * weak references yield the object, and a reference taken from one rescues it: the count is then
 * not 0 and nothing further happens. Only when it is 0 for good, all weak references die in one
 * step; then their callbacks run, the most recent first; then the object is taken apart. The
 * collector does the same for a whole set of condemned objects: gyre__weak_clear() for each while
 * none can be upgraded, gyre__weak_run() when the program runs again, and only then takes them
 * apart.
 *
 * In the table an address belongs to one living object at most. A block's memory may be used for
 * another object as soon as its weak references are dead, and its old control block, though it may
 * be around for long, has NULL in place of the address by then.
 *
 * Progress: an upgrade is lock-free; in closed mode it waits for the lock, which is held for a few
 * instructions, or while the collector judges a component. table.c's operations are lock-free; gyre_weak_free() of a reference whose callback is running waits for
 * that. Two callbacks that free each other's references from two threads wait for ever.
 *
 * Within the room: weak.c is what others call, control.c the block and its lock, table.c finds it,
 * callback.c calls.
 */
#include <errno.h>

#include "lib/weak/control.h"

static bool has_bit(const void *object) {
  /* relaxed: seen by whoever holds a reference that was counted after it was set; a bit that is not
   * seen, because another thread is just setting it, is found out by the table. Pairs with the
   * fetch_or in control_of(). */
  return gyre__load_relaxed(&gyre__header_of(object)->bits) & GYRE__BIT_WEAK;
}

/* ---- making one ---- */

/* The object's control block, locked, made if it has none; NULL with errno ENOMEM. */
static struct gyre__weak_control *control_of(struct gyre__objects *self, void *object) {
  struct gyre__weak_control *control = gyre__weak_lock(self, object);
  if (control != NULL) return control;
  struct gyre__weak_control *made = gyre__weak_control_new(self, object);
  if (made == NULL) return NULL;
  GYRE_WINDOW("weak/adding");
  control = gyre__weak_table_add(made);
  if (control != made) {
    gyre_thread_free(&self->heap.thread.base, made);
    if (control == NULL) return NULL;
    gyre__weak_control_lock(self, control);
  }
  /* Keeps it out of its owner's own collections: the caller holds it counted. */
  gyre__header *h = gyre__header_of(object);
  /* relaxed: "mine" is never stale. */
  if (gyre__load_relaxed(&h->owner) != self->heap.thread.base.id) gyre__publish(h);
  /* acq_rel: releases the table's entry to whoever sees the bit; comes before our reference is
   * given up, so that who finds the count 0 sees it. Pairs with the acquire loads in
   * release_owned() and gyre__object_die(). */
  gyre__fetch_or_acq_rel(&h->bits, GYRE__BIT_WEAK);
  return control;
}

/* Room for one more reference, besides the one that the death needs; errno ENOMEM if there is none. */
static bool may_add(const struct gyre__weak_control *control) {
  if (control->refs < UINT32_MAX - 1) return true;
  errno = ENOMEM;
  return false;
}

static gyre_weak *weak_add(struct gyre__objects *self, void *object,
                           struct gyre__weak_callback *callback) {
  struct gyre__weak_control *control = control_of(self, object);
  if (control == NULL) return NULL;
  gyre_weak *weak = NULL;
  if (may_add(control)) {
    control->refs++;
    if (callback != NULL) {
      gyre__weak_callback_arm(control, callback);
      weak = &callback->weak;
    } else {
      control->shared_refs++;
      weak = &control->shared;
    }
  }
  gyre__weak_control_unlock(self, control);
  gyre__weak_table_grow(object);
  return weak;
}

int gyre__weak_watch(struct gyre__objects *self, void *object, struct gyre__weak_callback *watch,
                     gyre__weak_died *died) {
  watch->function = NULL;
  watch->died = died;
  struct gyre__weak_control *control = control_of(self, object);
  if (control == NULL) return -ENOMEM;
  bool added = may_add(control);
  if (added) {
    control->refs++;
    control->watches++;
    gyre__weak_callback_arm(control, watch);
  }
  gyre__weak_control_unlock(self, control);
  gyre__weak_table_grow(object);
  return added ? 0 : -ENOMEM;
}

struct gyre__weak_control *gyre__weak_control_hold(struct gyre__objects *self, void *object) {
  struct gyre__weak_control *control = control_of(self, object);
  if (control == NULL) return NULL;
  bool added = may_add(control);
  if (added) {
    control->refs++;
    control->watches++;
  }
  gyre__weak_control_unlock(self, control);
  gyre__weak_table_grow(object);
  return added ? control : NULL;
}

void gyre__weak_control_drop(struct gyre__objects *self, struct gyre__weak_control *control) {
  gyre__weak_control_lock(self, control);
  /* relaxed: under the lock. */
  if (gyre__load_relaxed(&control->object) != NULL) control->watches--;
  gyre__weak_control_unref(self, control);
  gyre__weak_control_unlock(self, control);
}

gyre_weak *gyre_weak_new(void *object, gyre_weak_callback *function, void *arg) {
  if (object == NULL) {
    errno = EINVAL;
    return NULL;
  }
  struct gyre__objects *self = (struct gyre__objects *)gyre__thread_self();
  if (self == NULL) {
    errno = ENOMEM;
    return NULL;
  }
  if (function == NULL) return weak_add(self, object, NULL);
  struct gyre__weak_callback *callback =
      (struct gyre__weak_callback *)gyre_thread_malloc(&self->heap.thread.base, sizeof *callback);
  if (callback == NULL) return NULL;
  callback->function = function;
  callback->arg = arg;
  gyre_weak *weak = weak_add(self, object, callback);
  if (weak == NULL) gyre_thread_free(&self->heap.thread.base, callback);
  return weak;
}

/* ---- using it ---- */

/* While the collector may be about to kill the object. */
static GYRE_NOINLINE void *upgrade_locked(struct gyre__objects *self,
                                          struct gyre__weak_control *control) {
  gyre__weak_control_lock(self, control);
  /* relaxed: under the lock. */
  void *object = gyre__load_relaxed(&control->object);
  GYRE_WINDOW("weak/got_locked");
  if (object != NULL) {
    gyre__header *h = gyre__header_of(object);
    /* relaxed: the mark is seen by the collector under this lock. In every mode: between the end of
     * the logging and the collector's look there are threads that do not log any more. */
    if (gyre__try_retain(h)) {
      /* relaxed: as above; a mark that is there is as good as a new one, as in gyre__touch(). */
      if (!(gyre__load_relaxed(&h->bits) & GYRE__BIT_TOUCHED))
        gyre__fetch_or_relaxed(&h->bits, (uint8_t)GYRE__BIT_TOUCHED);
    } else
      object = NULL;
  }
  gyre__weak_control_unlock(self, control);
  return object;
}

void *gyre__weak_upgrade_late(struct gyre__objects *self, struct gyre__weak_control *control,
                              gyre__header **late) {
  *late = NULL;
  if (GYRE_UNLIKELY(self->heap.thread.mode & GYRE__MODE_CLOSED))
    return upgrade_locked(self, control);
  /* acquire: the header behind the pointer; pairs with the maker's unlock and the table. */
  void *object = gyre__load_acquire(&control->object);
  if (object == NULL) return NULL;
  GYRE_WINDOW("weak/got");
  gyre__header *h = gyre__header_of(object);
  if (!gyre__try_retain(h)) return NULL; /* 0 for good */
  GYRE_WINDOW("weak/counted");
  /* seq_cst: after the count; pairs with gyre__weak_control_kill(), which comes before the block is
   * freed. */
  if (GYRE_LIKELY(gyre__load_seq_cst(&control->object) == object)) return object;
  *late = h;
  return NULL;
}

void *gyre__weak_upgrade(struct gyre__objects *self, struct gyre__weak_control *control) {
  gyre__header *late;
  void *object = gyre__weak_upgrade_late(self, control, &late);
  /* On what is in the object's place by now; not ours, or only we could have freed the object. */
  if (GYRE_UNLIKELY(late != NULL)) gyre__release_shared(self, late);
  return object;
}

void *gyre_weak_get(gyre_weak *weak) {
  if (weak == NULL) return NULL;
  struct gyre__objects *self = (struct gyre__objects *)gyre__self;
  if (GYRE_UNLIKELY(self->heap.thread.base.id == 0)) {
    if (gyre_weak_is_dead(weak)) return NULL;
    self = gyre__objects_self();
  }
  GYRE_WINDOW("weak/get");
  return gyre__weak_upgrade(self, gyre__weak_control_of(weak));
}

int gyre_weak_is_dead(const gyre_weak *weak) {
  /* relaxed: dead is dead for ever; otherwise the answer may be out of date. Pairs with
   * gyre__weak_control_kill(). */
  return weak == NULL || gyre__load_relaxed(&gyre__weak_control_of(weak)->object) == NULL;
}

uint64_t gyre_weak_id(const gyre_weak *weak) {
  return gyre__weak_control_of(weak)->shared.word >> 1;
}

/* The program's references; shared ones count once. Under the lock, of a living object. */
static size_t count_of(const struct gyre__weak_control *control) {
  return control->refs - control->watches - control->shared_refs + (control->shared_refs != 0);
}

size_t gyre_weak_count(const void *object) {
  if (object == NULL || !has_bit(object)) return 0;
  struct gyre__objects *self = gyre__objects_self();
  struct gyre__weak_control *control = gyre__weak_lock(self, (void *)(uintptr_t)object);
  if (control == NULL) return 0;
  size_t count = count_of(control);
  gyre__weak_control_unlock(self, control);
  return count;
}

size_t gyre_weak_list(const void *object, struct gyre_weak_info *out, size_t room) {
  if (object == NULL || !has_bit(object)) return 0;
  struct gyre__objects *self = gyre__objects_self();
  struct gyre__weak_control *control = gyre__weak_lock(self, (void *)(uintptr_t)object);
  if (control == NULL) return 0;
  size_t n = 0;
  if (control->shared_refs != 0) {
    if (n < room) out[n] = (struct gyre_weak_info){.weak = &control->shared};
    n++;
  }
  for (struct gyre__weak_callback *c = control->callbacks; c != NULL; c = c->next) {
    if (c->function == NULL) continue; /* the library's own */
    if (n < room) out[n] = (struct gyre_weak_info){&c->weak, c->function, c->arg};
    n++;
  }
  gyre__weak_control_unlock(self, control);
  return n;
}

void gyre_weak_free(gyre_weak *weak) {
  if (weak == NULL) return;
  struct gyre__weak_control *control = gyre__weak_control_of(weak);
  struct gyre__objects *self = gyre__objects_self();
  if (weak != &control->shared) {
    gyre__weak_callback_free(self, (struct gyre__weak_callback *)weak);
    return;
  }
  gyre__weak_control_lock(self, control);
  GYRE_REQUIRE(control->shared_refs > 0, "double gyre_weak_free of %p", (void *)weak);
  control->shared_refs--;
  gyre__weak_control_unref(self, control);
  gyre__weak_control_unlock(self, control);
}

/* ---- closures ---- */

int gyre_weak_closure_init(gyre_weak_closure *closure, gyre_weak_function *fn, void *self) {
  if (closure == NULL || fn == NULL || self == NULL) return -EINVAL;
  gyre_weak *weak = gyre_weak_new(self, NULL, NULL);
  if (weak == NULL) return -ENOMEM;
  *closure = (gyre_weak_closure){fn, weak};
  return 0;
}

int gyre_weak_call(const gyre_weak_closure *closure, void *arg) {
  void *self = gyre_weak_get(closure->self);
  if (self == NULL) return 0;
  closure->fn(self, arg);
  gyre_release(self);
  return 1;
}

void gyre_weak_closure_clear(gyre_weak_closure *closure) {
  gyre_weak_free(closure->self);
  *closure = (gyre_weak_closure){0};
}

/* ---- death ---- */

struct gyre__weak_control *gyre__weak_lock(struct gyre__objects *self, void *object) {
  if (!has_bit(object)) return NULL;
  struct gyre__weak_control *control = gyre__weak_table_find(object);
  GYRE_WINDOW("weak/found");
  if (control == NULL) return NULL;
  gyre__weak_control_lock(self, control);
  /* The collector asks for objects that it does not hold. One that has died since leaves a block whose list
   * is something else by now. relaxed: under the lock. */
  if (GYRE_LIKELY(gyre__load_relaxed(&control->object) == object)) return control;
  gyre__weak_control_unlock(self, control);
  return NULL;
}

void gyre__weak_unlock(struct gyre__objects *self, struct gyre__weak_control *control) {
  gyre__weak_control_unlock(self, control);
}

/* On the count path: the object's count is 0 for good. */
static void weak_died(struct gyre__objects *self, void *object) {
  GYRE_WINDOW("weak/died");
  struct gyre__weak_control *control = gyre__weak_lock(self, object);
  if (control == NULL) return;
  gyre__weak_control_kill(control);
  gyre__weak_control_unlock(self, control);
  GYRE_WINDOW("weak/killed");
  gyre__weak_callbacks_run(self, control);
}

void gyre__weak_clear_locked(struct gyre__objects *self, struct gyre__weak_control *control,
                             void *object, struct gyre__weak_pending *pending) {
  gyre__weak_control_kill(control);
  /* acq_rel: nothing is ordered by it: the object is the caller's alone. Its death finds the bit
   * clear in gyre__object_die(), in this thread or one that is told of it. */
  gyre__fetch_and_acq_rel(&gyre__header_of(object)->bits, (uint8_t)~GYRE__BIT_WEAK);
  control->condemned = 1;
  if (control->callbacks == NULL) {
    gyre__weak_control_unref(self, control);
    return;
  }
  control->pending_next = NULL;
  if (pending->last != NULL)
    pending->last->pending_next = control;
  else
    pending->first = control;
  pending->last = control;
}

void gyre__weak_clear(struct gyre__objects *self, void *object,
                      struct gyre__weak_pending *pending) {
  struct gyre__weak_control *control = gyre__weak_lock(self, object);
  if (control == NULL) return;
  gyre__weak_clear_locked(self, control, object, pending);
  gyre__weak_control_unlock(self, control);
}

void gyre__weak_run(struct gyre__objects *self, struct gyre__weak_pending *pending) {
  struct gyre__weak_control *control;
  while ((control = pending->first) != NULL) {
    pending->first = control->pending_next;
    if (pending->first == NULL) pending->last = NULL;
    gyre__weak_callbacks_run(self, control);
  }
}

static void __attribute__((constructor)) weak_init(void) {
  gyre__object_hooks.weak_died = weak_died;
}
