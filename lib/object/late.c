/* SPDX-License-Identifier: MIT */
/* Counts that do not free: option "rc:off", GYRE_RC=off.
 *
 * A program must not depend on when garbage is freed, if it is to run with a collector that only traces
 * (PyPy's, say): a file that is closed by a destroy hook stays open until the next collection, finalizers
 * run late, weak references linger. This mode finds out who does depend on it.
 *
 * A release that would take an object's last count keeps it instead, in a list of its thread's. So the
 * object lives, by all rules: a weak reference yields it, and may bring it back to use; then it is no
 * different from any other object, except that the list has a count of it. A collection, of whatever
 * generation and in whatever mode, begins by giving up what the lists hold: what nobody else refers to then
 * dies as it would have by its count, in the same order, with all it alone referred to; in the collecting
 * thread. Then cycles are looked for as ever. Inside a collection, and so in these deaths, counts do free:
 * "everything that was unreachable at the call has been found", and nothing else.
 *
 *     release: last count?  -->  late list  -->  collection: stop, merge; resume; release  -->  death
 *
 * The collecting thread is not the owner of most of these objects, and a release by a stranger would come
 * back to the owner by way of a merge request, who would keep the count again. So each object is merged
 * for its owner, while the world is stopped.
 *
 * Owners keep a count whenever their local one is the last, whether others have some or not; that only
 * puts off the merge. An entry is 8 bytes of the thread's memory. If there is none, the object dies at
 * once, for once: a release cannot fail. A slot that is lost in the child of a fork keeps its entries for
 * ever.
 *
 * Cost when it is off: a test of the thread's own flag in the slow paths of the last release. When it is on,
 * no count is made inline (as with "slow_paths").
 */
#include "lib/object/object.h"

/* Ask for a look whether a collection is due, each time so many are kept. */
#define LOOK_EVERY 1024u

/* Counts that are kept in all lists: a figure. */
static gyre__atomic_u64 kept;

uint64_t gyre__late_count(void) {
  /* relaxed: a figure. */
  return gyre__load_relaxed(&kept);
}

static bool list_grow(struct gyre__late *late) {
  if (late->count < late->room) return true;
  gyre__header **grown = gyre__memory_table_grow(late->items, &late->room, sizeof *grown);
  if (grown != NULL) late->items = grown;
  return grown != NULL;
}

bool gyre__late_keep(struct gyre__objects *self, gyre__header *h) {
  struct gyre__late *late = &self->late;
  if (self->heap.thread.is_collecting || !list_grow(late)) return false;
  late->items[late->count++] = h;
  /* relaxed: a figure. */
  gyre__fetch_add_relaxed(&kept, 1);
  if (late->count % LOOK_EVERY == 0) gyre__thread_request(&self->heap.thread, GYRE__REQ_COLLECT);
  return true;
}

/* ---- giving up ---- */

static void list_release(struct gyre__objects *self, struct gyre__late *late) {
  for (size_t i = 0; i < late->count; i++)
    gyre__release_shared(self, late->items[i]);
  /* relaxed: a figure. */
  gyre__fetch_sub_relaxed(&kept, late->count);
  if (late->items != NULL) gyre__memory_table_drop(late->items, late->room, sizeof *late->items);
}

/* World stopped: takes the slot's list and merges its objects, so that anybody can release them. */
static struct gyre__late list_take(struct gyre__objects *slot) {
  struct gyre__late taken = slot->late;
  slot->late = (struct gyre__late){0};
  for (size_t i = 0; i < taken.count; i++)
    /* relaxed: the world is stopped. An immortal one keeps its owner, and is not counted. */
    if (gyre__load_relaxed(&taken.items[i]->owner) != 0) (void)gyre__merge(taken.items[i], false);
  return taken;
}

static bool is_lost(struct gyre__thread *slot) {
  /* relaxed: a slot is lost from the beginning of a process, or not at all. */
  uint32_t state = gyre__load_relaxed(&slot->state) & GYRE__SLOT_STATE;
  return state == GYRE__SLOT_LOST || state == GYRE__SLOT_TAKEN_LOST;
}

/* One slot at a time, so that no list of lists is needed. What a thread keeps after its turn was not
 * unreachable when all were stopped for the first: somebody has used it since. */
void gyre__late_drop(struct gyre__objects *self) {
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= count; id++) {
    struct gyre__objects *slot = (struct gyre__objects *)gyre__thread_slot(id);
    if (is_lost(&slot->heap.thread)) continue;
    gyre__world_stop(&self->heap.thread);
    struct gyre__late taken = list_take(slot);
    gyre__world_resume(&self->heap.thread);
    GYRE_WINDOW("late/taken");
    list_release(self, &taken);
  }
  while ((self->dying.first != NULL || self->ripe.first != NULL) && !self->in_cascade)
    gyre__release_all(self);
}
