/* SPDX-License-Identifier: MIT */
/* The registry of functions that are called when an object dies, by hand or at the program's end,
 * whichever comes first, and once.
 *
 *     ALIVE --- died, gyre_finalize_call, gyre_finalize_detach, gyre_fini ---> DONE
 *
 * Who takes it from ALIVE to DONE, under the registry's lock, calls the function; so it is called once.
 * An entry is freed when nobody has it any more: the program by its handle, the registry while it is
 * alive, the watch on its object until that has been told or disarmed.
 */
#include <errno.h>

#include "lib/weak/control.h"

struct gyre_finalize {
  struct gyre__weak_callback watch;
  /* -- never change -- */
  gyre_finalize_function *fn;
  void *arg;
  void (*arg_free)(void *arg);
  uint32_t epoch; /* the process that made it: gyre__weak_epoch() */
  /* -- under the registry's lock -- */
  unsigned flags;
  struct gyre_finalize *newer, *older;
  /* -- atomic -- */
  /* 1 while in the registry. Written under the lock. */
  gyre__atomic_u32 alive;
  gyre__atomic_u32 refs;
};

static struct {
  gyre__lock lock;
  struct gyre_finalize *newest; /* under the lock */
} registry;

static void entry_drop(struct gyre_finalize *f) {
  /* acq_rel: releases what we did with it to who frees it, and acquires what the others did; pairs with
   * itself. */
  if (gyre__fetch_sub_acq_rel(&f->refs, 1) == 1) gyre_free(f);
}

static bool is_alive(const struct gyre_finalize *f) {
  /* relaxed: may be out of date at once, unless the caller has the lock. */
  return gyre__load_relaxed(&f->alive) != 0;
}

/* Takes it out of the registry, under the lock; the registry's reference is the caller's then. */
static void unlink_entry(struct gyre_finalize *f) {
  if (f->newer != NULL)
    f->newer->older = f->older;
  else
    registry.newest = f->older;
  if (f->older != NULL) f->older->newer = f->newer;
  /* relaxed: under the lock. */
  gyre__store_relaxed(&f->alive, 0);
}

/* True for one caller: the function is his to call. */
static bool claim(struct gyre_finalize *f) {
  gyre__lock_take(&registry.lock);
  bool mine = is_alive(f);
  if (mine) unlink_entry(f);
  gyre__lock_give(&registry.lock);
  return mine;
}

/* What this thread has claimed: the object need not be watched any more. If it has died since, its control
 * block may have been given up, after the claim; so who claims is attached before, and passes no safepoint
 * until then. */
static void disarm(struct gyre__objects *self, struct gyre_finalize *f) {
  if (gyre__weak_unwatch(self, &f->watch)) entry_drop(f);
}

static int run(struct gyre_finalize *f) {
  int cancel = gyre__cancel_put_off();
  int result = f->fn(f->arg);
  if (f->arg_free != NULL) f->arg_free(f->arg);
  gyre__cancel_restore(cancel);
  entry_drop(f);
  return result;
}

static void run_and_log(struct gyre_finalize *f, const char *when) {
  int result = run(f);
  if (result != 0) gyre__log("a gyre_finalize function called %s returned %d", when, result);
}

static void died(struct gyre__objects *self, struct gyre__weak_callback *watch) {
  (void)self;
  struct gyre_finalize *f = (struct gyre_finalize *)(void *)watch;
  GYRE_WINDOW("finalize/died");
  if (claim(f)) run_and_log(f, "by a death");
  entry_drop(f);
}
_Static_assert(offsetof(struct gyre_finalize, watch) == 0, "died()");

gyre_finalize *gyre_finalize_new(void *object, gyre_finalize_function *fn, void *arg,
                                 void (*arg_free)(void *arg)) {
  if (object == NULL || fn == NULL) {
    errno = EINVAL;
    return NULL;
  }
  struct gyre__objects *self = (struct gyre__objects *)gyre__thread_self();
  struct gyre_finalize *f = self != NULL ? gyre_malloc(sizeof *f) : NULL;
  if (f == NULL) {
    errno = ENOMEM;
    return NULL;
  }
  *f = (struct gyre_finalize){.fn = fn, .arg = arg, .arg_free = arg_free};
  f->epoch = gyre__weak_epoch();
  f->flags = GYRE_FINALIZE_AT_EXIT;
  /* relaxed: nobody else has seen it; the locks that follow publish it. The handle, the registry, the
   * watch. */
  gyre__store_relaxed(&f->refs, 3);
  gyre__store_relaxed(&f->alive, 1);
  if (gyre__weak_watch(self, object, &f->watch, died) != 0) {
    gyre_free(f);
    errno = ENOMEM;
    return NULL;
  }
  /* The caller holds the object: it has not died yet. */
  gyre__lock_take(&registry.lock);
  f->older = registry.newest;
  if (f->older != NULL) f->older->newer = f;
  registry.newest = f;
  gyre__lock_give(&registry.lock);
  return f;
}

void gyre_finalize_free(gyre_finalize *f) {
  if (f != NULL) entry_drop(f);
}

int gyre_finalize_alive(const gyre_finalize *f) { return f != NULL && is_alive(f); }

int gyre_finalize_call(gyre_finalize *f, int *result) {
  if (f == NULL || !is_alive(f)) return 0;
  struct gyre__objects *self = gyre__objects_self();
  if (!claim(f)) return 0;
  GYRE_WINDOW("finalize/claimed");
  disarm(self, f);
  int value = run(f);
  if (result != NULL) *result = value;
  return 1;
}

/* A counted reference to the object of a living entry; NULL if the object is dead or the entry done. */
static void *object_of(struct gyre_finalize *f) {
  struct gyre__objects *self = gyre__objects_self();
  gyre__lock_take(&registry.lock);
  bool alive = is_alive(f);
  gyre__lock_give(&registry.lock);
  /* The watch has the control block until the entry is done, and then it stays for a grace period. */
  return alive ? gyre__weak_upgrade(self, gyre__weak_control_of(&f->watch.weak)) : NULL;
}

static void tell(const struct gyre_finalize *f, void *object, struct gyre_finalize_info *out) {
  if (out != NULL)
    *out = (struct gyre_finalize_info){object, f->fn, f->arg, f->arg_free};
  else
    gyre_release(object);
}

int gyre_finalize_peek(gyre_finalize *f, struct gyre_finalize_info *out) {
  void *object = f != NULL ? object_of(f) : NULL;
  if (object == NULL) return 0;
  tell(f, object, out);
  return 1;
}

int gyre_finalize_detach(gyre_finalize *f, struct gyre_finalize_info *out) {
  void *object = f != NULL ? object_of(f) : NULL;
  if (object == NULL) return 0;
  bool mine = claim(f);
  if (mine) {
    disarm(gyre__objects_self(), f);
    tell(f, object, out);
    entry_drop(f);
  } else {
    gyre_release(object);
  }
  return mine;
}

int gyre_finalize_set_atexit(gyre_finalize *f, unsigned flags) {
  if (f == NULL || flags & ~(unsigned)(GYRE_FINALIZE_AT_EXIT | GYRE_FINALIZE_IN_CHILD))
    return -EINVAL;
  gyre__lock_take(&registry.lock);
  unsigned before = f->flags;
  f->flags = flags;
  gyre__lock_give(&registry.lock);
  return (int)before;
}

/* ---- the end ---- */

static bool is_due(const struct gyre_finalize *f) {
  return f->flags & GYRE_FINALIZE_AT_EXIT &&
         (f->epoch == gyre__weak_epoch() || f->flags & GYRE_FINALIZE_IN_CHILD);
}

void gyre__finalize_all(void) {
  for (;;) {
    gyre__lock_take(&registry.lock);
    struct gyre_finalize *f = registry.newest;
    while (f != NULL && !is_due(f))
      f = f->older;
    if (f != NULL) unlink_entry(f);
    gyre__lock_give(&registry.lock);
    if (f == NULL) return;
    disarm(gyre__objects_self(), f);
    run_and_log(f, "at exit");
  }
}

/* The end of an arena: what was not due is gone with it. */
static void forget(void) { registry.newest = NULL; }
static void __attribute__((constructor)) finalize_init(void) { gyre__forget_add(forget); }

/* ---- fork ---- */

void gyre__finalize_fork_prepare(void) { gyre__lock_take(&registry.lock); }
void gyre__finalize_fork_parent(void) { gyre__lock_give(&registry.lock); }
void gyre__finalize_fork_child(void) { gyre__lock_reset(&registry.lock); }
