/* SPDX-License-Identifier: MIT */
/* Within lib/weak: the control block, its lock, and the table that finds it. weak.c has the essay.
 */
#ifndef GYRE_LIB_WEAK_CONTROL_H
#define GYRE_LIB_WEAK_CONTROL_H

#include <urcu/rculfhash.h>

#include "lib/weak/weak.h"

/* A weak reference, as the program holds it. Without a callback it is the one in the control block, and
 * odd: the serial of the control block, twice, plus one. Otherwise the control block's address. Never
 * changes. */
struct gyre_weak {
  uintptr_t word;
};

struct gyre__weak_callback;

/* What a watch is told: the object is dead, and so are its weak references. No lock is held; may run
 * program code. The watch belongs to the function, which may free it. */
typedef void gyre__weak_died(struct gyre__objects *self, struct gyre__weak_callback *watch);

/* A weak reference with a callback; or a *watch*, the library's own, which the program does not see:
 * it has no function, and lies in what it is about (map.c, finalize.c). */
struct gyre__weak_callback {
  struct gyre_weak weak;
  /* -- never change -- */
  gyre_weak_callback *function; /* NULL: a watch */
  union {
    void *arg;
    gyre__weak_died *died;
  };
  /* -- under the control block's lock -- */
  struct gyre__weak_callback *next, *prev; /* in control->callbacks while armed */
  /* gyre__weak_epoch() when it was armed, and then when its callback was begun. */
  uint32_t epoch;
  /* One of the states and the flags below. Atomic only because gyre_weak_free() sleeps on it. */
  gyre__atomic_u32 state;
};

enum {
  GYRE__WEAK_ARMED,   /* in the list of its control block */
  GYRE__WEAK_RUNNING, /* its callback is being called */
  GYRE__WEAK_CALLED,  /* its callback has returned */
  GYRE__WEAK_STATE = 3,
  GYRE__WEAK_WAITED = 4, /* flag of RUNNING: a gyre_weak_free() sleeps until it has returned */
  GYRE__WEAK_FREED = 8,  /* flag of RUNNING: it was freed by its own callback */
};

struct gyre__weak_control {
  struct cds_lfht_node node; /* liburcu's */
  /* The object; NULL once it is dead. Written under the lock. Read without it by those for whom a
   * late answer will do: a look-up that compares, and questions whether it is dead. */
  gyre__atomic_ptr object;
  /* 0, or the slot id of the thread that has the lock. */
  gyre__atomic_u32 lock;
  /* -- under the lock -- */
  /* References that gyre_weak_new() gave out and gyre_weak_free() did not take back, plus one while
   * callbacks are to be called. When it is 0 and the object is dead, the block goes. */
  uint32_t refs;
  union {
    struct {
      struct gyre__weak_callback *callbacks; /* armed, the most recent first */
      union {
        size_t watches; /* while the object lives: of refs, those that the library has itself */
        struct gyre__weak_control *pending_next; /* then: struct gyre__weak_pending */
      };
      uint32_t shared_refs;   /* of refs, those to `shared` */
      uint32_t broken : 31;   /* gyre__weak_epoch() when the lock was broken, 0 never */
      uint32_t condemned : 1; /* the object did not die by its count: the collector has it */
    };
    struct gyre__deferred deferred; /* once nobody has a reference any more */
  };
  /* -- never changes -- */
  struct gyre_weak shared; /* the reference without a callback */
};
_Static_assert(sizeof(struct gyre__weak_control) == 64, "a cache line");

GYRE_INLINE struct gyre__weak_control *gyre__weak_control_of(const struct gyre_weak *weak) {
  if (weak->word & 1)
    return (struct gyre__weak_control *)((uintptr_t)weak -
                                         offsetof(struct gyre__weak_control, shared));
  return (struct gyre__weak_control *)weak->word;
}

/* ---- the lock (control.c) ---- */

void gyre__weak_lock_slow(struct gyre__objects *self, struct gyre__weak_control *control);
/* The same for any word: 0, or the slot id of who has the lock. True if it had to be broken, because its
 * holder is lost: what it protects may be in any state. */
bool gyre__weak_word_lock_slow(struct gyre__objects *self, gyre__atomic_u32 *word);

GYRE_INLINE void gyre__weak_control_lock(struct gyre__objects *self,
                                         struct gyre__weak_control *control) {
  uint32_t expected = 0;
  /* acquire: what the last holder wrote, or the maker of the block; pairs with the release in
   * gyre__weak_control_unlock(). */
  if (GYRE_UNLIKELY(
          !gyre__cas_strong_acquire(&control->lock, &expected, self->heap.thread.base.id)))
    gyre__weak_lock_slow(self, control);
}

GYRE_INLINE void gyre__weak_control_unlock(struct gyre__objects *self,
                                           struct gyre__weak_control *control) {
  (void)self;
  /* relaxed: our own mark. */
  GYRE_ASSERT(gyre__load_relaxed(&control->lock) == self->heap.thread.base.id);
  /* release: what was done under the lock; pairs with gyre__weak_control_lock(). */
  gyre__store_release(&control->lock, 0);
}

/* A block for the object, locked, with no references, not in the table. NULL with errno ENOMEM. */
struct gyre__weak_control *gyre__weak_control_new(struct gyre__objects *self, void *object);

/* Gives up one of the block's references, under its lock. The block stays readable, and can be
 * unlocked, until the caller's next safepoint. */
void gyre__weak_control_unref(struct gyre__objects *self, struct gyre__weak_control *control);

/* Makes the references dead and takes the block out of the table, under its lock; leaves one
 * reference to the caller. */
void gyre__weak_control_kill(struct gyre__weak_control *control);

/* A counted reference to the object, or NULL if it is dead (weak.c). The caller is attached and has a
 * reference to the block, or has found it since its last safepoint. Giving back a count that came too
 * late may drop another object's last reference, with all that gyre_release() may do. */
void *gyre__weak_upgrade(struct gyre__objects *self, struct gyre__weak_control *control);

/* The same, with the count that came too late left to the caller, in *late, to be given back with
 * gyre__release_shared() when program code may run; otherwise NULL. Runs none itself. */
void *gyre__weak_upgrade_late(struct gyre__objects *self, struct gyre__weak_control *control,
                              gyre__header **late);

/* Arms a watch on an object that the caller holds counted. 0 or -ENOMEM (weak.c). */
int gyre__weak_watch(struct gyre__objects *self, void *object, struct gyre__weak_callback *watch,
                     gyre__weak_died *died);
/* Disarms it: true if it will not be told any more; false if it has been, or is being told (callback.c). */
bool gyre__weak_unwatch(struct gyre__objects *self, struct gyre__weak_callback *watch);

/* A reference to the control block of an object that the caller holds counted; NULL with errno ENOMEM.
 * And the end of it (weak.c). */
struct gyre__weak_control *gyre__weak_control_hold(struct gyre__objects *self, void *object);
void gyre__weak_control_drop(struct gyre__objects *self, struct gyre__weak_control *control);

/* Is the object dead because the collector has condemned it? */
GYRE_INLINE bool gyre__weak_is_condemned(struct gyre__objects *self,
                                         struct gyre__weak_control *control) {
  gyre__weak_control_lock(self, control);
  bool condemned = control->condemned;
  gyre__weak_control_unlock(self, control);
  return condemned;
}

/* ---- the table (table.c) ----
 *
 * Not across a safepoint: what is found stays readable until the caller's next one. */

struct gyre__weak_control *gyre__weak_table_find(void *object);
/* Adds the block and returns it, or returns the one that the object has already, or NULL with errno
 * ENOMEM. */
struct gyre__weak_control *gyre__weak_table_add(struct gyre__weak_control *control);
/* Takes the block out. Its object field is NULL already, so that it matches no object any more. */
void gyre__weak_table_remove(struct gyre__weak_control *control, void *object);
/* Makes the table larger if it has become too small near this object. Not with a lock held. */
void gyre__weak_table_grow(void *object);
void gyre__weak_table_fork_child(void);

/* ---- the table of an arena (bounded.c): the same without liburcu's ---- */

struct gyre__weak_control *gyre__weak_bounded_find(const void *object);
struct gyre__weak_control *gyre__weak_bounded_add(struct gyre__weak_control *control);
void gyre__weak_bounded_remove(struct gyre__weak_control *control, const void *object);
size_t gyre__weak_bounded_count(void);
void gyre__weak_bounded_fork_child(void);

/* ---- callbacks (callback.c) ---- */

/* 1, and one more in each generation of forked children. */
uint32_t gyre__weak_epoch(void);

/* Arms a reference with a callback, under the lock; the block's count includes it. */
void gyre__weak_callback_arm(struct gyre__weak_control *control,
                             struct gyre__weak_callback *callback);
/* Calls what is armed, the most recent first, and gives up one reference to the block. No lock is
 * held. */
void gyre__weak_callbacks_run(struct gyre__objects *self, struct gyre__weak_control *control);
/* gyre_weak_free() for a reference with a callback. */
void gyre__weak_callback_free(struct gyre__objects *self, struct gyre__weak_callback *callback);

/* ---- finalize.c ---- */

void gyre__finalize_fork_prepare(void);
void gyre__finalize_fork_parent(void);
void gyre__finalize_fork_child(void);

#endif
