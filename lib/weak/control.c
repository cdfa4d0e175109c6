/* SPDX-License-Identifier: MIT */
/* The control block: its life and its lock.
 *
 *                               died                          refs fall to 0
 *     in the table, object set ---------> out of it, object NULL ----------------> deferred, freed
 *
 * A block is made with an object's first weak reference and stays until the object dies, also if
 * all references are freed before: 64 bytes, against making and removing it each time. While it is
 * in the table it needs no reference.
 *
 * The lock is one word: the slot id of its holder. An unlock is a plain store, so nobody is woken:
 * who finds the lock taken spins, and after a while sleeps for a moment at a time. That is right
 * for a lock that is held for a dozen instructions: to wait longer, the holder must have lost its
 * processor. The holder blocks on nothing, passes no safepoint and runs no program code; it needs
 * not be waited for parked, and the world can be stopped meanwhile.
 *
 * The id is there for fork(). A thread that passes no safepoint does not keep a process from
 * forking, and its slot is lost in the child (lib/thread/fork.c); if it was inside these dozen
 * instructions, its lock is never given back. Whoever finds such a lock breaks it. The object is
 * then as alive or dead as it was, and counting and upgrading go on. But the list of callbacks may
 * be in any state, so it is dropped: those that were armed will not be called in this process; and
 * the block, which may still be linked into the table, is never freed.
 */
#include "lib/weak/control.h"

#define SPINS 200
#define NAP_NS 50000u

/* ---- the lock ---- */

static bool holder_is_lost(uint32_t holder) {
  /* relaxed: a slot is lost from the beginning of a process, or not at all. */
  uint32_t state = gyre__load_relaxed(&gyre__thread_slot(holder)->state) & GYRE__SLOT_STATE;
  return state == GYRE__SLOT_LOST || state == GYRE__SLOT_TAKEN_LOST;
}

GYRE_NOINLINE bool gyre__weak_word_lock_slow(struct gyre__objects *self, gyre__atomic_u32 *word) {
  uint32_t id = self->heap.thread.base.id;
  for (unsigned turn = 0;; turn++) {
    /* relaxed: the compare-exchange decides. */
    uint32_t holder = gyre__load_relaxed(word);
    GYRE_ASSERT(holder != id);
    if (holder == 0) {
      /* acquire: as in gyre__weak_control_lock(). */
      if (gyre__cas_strong_acquire(word, &holder, id)) return false;
    } else if (turn < SPINS) {
      gyre__cpu_relax();
    } else {
      /* acquire: what another thread did that broke it before us; pairs with the unlocks. */
      if (holder_is_lost(holder) && gyre__cas_strong_acquire(word, &holder, id)) return true;
      (void)gyre__futex_wait(word, holder, NAP_NS);
    }
  }
}

GYRE_NOINLINE void gyre__weak_lock_slow(struct gyre__objects *self,
                                        struct gyre__weak_control *control) {
  if (!gyre__weak_word_lock_slow(self, &control->lock)) return;
  control->callbacks = NULL;
  control->broken = gyre__weak_epoch() & INT32_MAX;
}

/* ---- its life ---- */

/* Numbers that are never given twice, taken from all threads' sum a thousand at a time. */
#define SERIALS 1024u
static gyre__atomic_u64 serials;

static uint64_t serial_next(void) {
  static __thread uint64_t next;
  /* relaxed: each number is given out once; nothing hangs on it. */
  if (next % SERIALS == 0) next = gyre__fetch_add_relaxed(&serials, SERIALS);
  return ++next;
}

struct gyre__weak_control *gyre__weak_control_new(struct gyre__objects *self, void *object) {
  struct gyre__weak_control *control =
      (struct gyre__weak_control *)gyre_thread_malloc(&self->heap.thread.base, sizeof *control);
  if (control == NULL) return NULL;
  cds_lfht_node_init(&control->node);
  control->refs = 0;
  control->callbacks = NULL;
  control->watches = 0;
  control->shared_refs = 0;
  control->broken = 0;
  control->condemned = 0;
  control->shared.word = (uintptr_t)serial_next() << 1 | 1;
  /* relaxed: nobody else has seen it. The table publishes both, and who finds the block locks it
   * before it reads anything else. */
  gyre__store_relaxed(&control->object, object);
  gyre__store_relaxed(&control->lock, self->heap.thread.base.id);
  return control;
}

static void control_free(struct gyre__thread *self, struct gyre__deferred *node) {
  gyre_thread_free(&self->base, (char *)node - offsetof(struct gyre__weak_control, deferred));
}

void gyre__weak_control_unref(struct gyre__objects *self, struct gyre__weak_control *control) {
  GYRE_ASSERT(control->refs > 0);
  control->refs--;
  /* relaxed: written under the lock, which we hold. */
  if (control->refs > 0 || gyre__load_relaxed(&control->object) != NULL || control->broken != 0)
    return;
  GYRE_ASSERT(control->callbacks == NULL && control->shared_refs == 0);
  gyre__defer(&self->heap.thread, &control->deferred, control_free);
}

void gyre__weak_control_kill(struct gyre__weak_control *control) {
  /* relaxed: under the lock. */
  void *object = gyre__load_relaxed(&control->object);
  /* seq_cst: before the block is freed and used again; pairs with the second look in
   * gyre__weak_upgrade(). From here on it matches no address: matches() in table.c. */
  gyre__store_seq_cst(&control->object, NULL);
  GYRE_WINDOW("weak/killing");
  gyre__weak_table_remove(control, object);
  control->refs++;
}
