/* SPDX-License-Identifier: MIT */
/* Slot operations: one atomic step each on the slot, counts before and after. refcount.c says why a
 * slot is only ever emptied by an exchange, and why a load counts first and looks again.
 *
 * "Published before it is removed": a thread that takes out a reference to another's object must
 * have published that object before (lib/collect/young.c). Publishing what the slot was seen to
 * hold is not enough: the object may die, its block may become a new object, unpublished, and that
 * one may be put into the same slot, where the compare-exchange would find it. So the object is
 * counted first, which publishes it and keeps it from dying, and the spare count is given back
 * afterwards. A thread's own objects it may just take.
 */
#include "lib/object/object.h"

static bool is_own(const gyre__header *h) {
  /* relaxed: "mine" is never stale; pairs with the store in gyre__merge(). */
  return gyre__load_relaxed(&h->owner) == gyre__self->id;
}

static bool slot_change(gyre_slot *slot, void *old, void *object) {
  /* seq_cst: release: who loads the new pointer sees the object behind it (gyre__slot_load());
   * acquire: we see the one behind the old; and before the look at the shared word when a count
   * falls to 0 (release_owned()). */
  return gyre__cas_strong_seq_cst(&slot->gyre__ref, &old, object);
}

/* Of a reference that was taken out of a slot and is not given up. */
static void taken(gyre__header *h) {
  if (gyre__is_logging()) gyre__touch(h);
}

void *gyre__slot_swap(gyre_slot *slot, void *object) {
  gyre__attach_self();
  GYRE_WINDOW("slot/swap");
  for (;;) {
    /* acquire: the header behind the pointer; pairs with slot_change(). */
    void *old = gyre__load_acquire(&slot->gyre__ref);
    if (old == NULL) {
      if (slot_change(slot, NULL, object)) return NULL;
      continue;
    }
    gyre__header *h = gyre__header_of(old);
    if (is_own(h)) {
      /* Ours, and it was counted: only we can free it. */
      if (!slot_change(slot, old, object)) continue;
      taken(h);
      return old;
    }
    if (!gyre__try_count(h)) continue; /* dead, so the slot has changed */
    GYRE_WINDOW("slot/published");
    bool changed = slot_change(slot, old, object);
    gyre__release_shared(gyre__objects_self(), h);
    if (changed) return old;
  }
}

void gyre__slot_store(gyre_slot *slot, void *object) {
  gyre__retain(object);
  gyre_release(gyre__slot_swap(slot, object));
}

void *gyre__slot_take(gyre_slot *slot) {
  /* relaxed: saves the exchange of a slot that is empty already; nothing is read through it. */
  if (gyre__load_relaxed(&slot->gyre__ref) == NULL) return NULL;
  return gyre__slot_swap(slot, NULL);
}

int gyre__slot_compare_exchange(gyre_slot *slot, void *expected, void *desired) {
  gyre__attach_self();
  gyre__retain(desired);
  /* The caller has it counted, so it is the same object throughout. */
  if (expected != NULL && !is_own(gyre__header_of(expected)))
    gyre__publish(gyre__header_of(expected));
  if (slot_change(slot, expected, desired)) {
    gyre_release(expected);
    return 1;
  }
  gyre_release(desired);
  return 0;
}

void *gyre__slot_load_once_slow(gyre_slot *slot) {
  gyre__attach_self();
  /* acquire: the header behind the pointer; pairs with slot_change(). */
  void *object = gyre__load_acquire(&slot->gyre__ref);
  if (object == NULL) return NULL;
  gyre__header *h = gyre__header_of(object);
  if (is_own(h)) return gyre__retain(object);
  GYRE_WINDOW("slot/load_once");
  if (!gyre__try_count(h)) return NULL;
  GYRE_WINDOW("slot/counted_once");
  /* seq_cst: after the count; pairs with slot_change() and the owner's look at the shared word. */
  if (GYRE_LIKELY(gyre__load_seq_cst(&slot->gyre__ref) == object)) {
    taken(h);
    return object;
  }
  gyre__release_shared(gyre__objects_self(), h);
  return NULL;
}

void *gyre__slot_load_slow(gyre_slot *slot) {
  gyre__attach_self();
  for (;;) {
    /* acquire: the header behind the pointer; pairs with slot_change(). */
    void *object = gyre__load_acquire(&slot->gyre__ref);
    if (object == NULL) return NULL;
    gyre__header *h = gyre__header_of(object);
    if (is_own(h)) return gyre__retain(object);
    GYRE_WINDOW("slot/load");
    if (!gyre__try_count(h)) continue; /* dead, so the slot has changed */
    GYRE_WINDOW("slot/counted");
    /* seq_cst: after the count; pairs with slot_change() and the owner's look at the shared
     * word. */
    if (gyre__load_seq_cst(&slot->gyre__ref) == object) {
      taken(h);
      return object;
    }
    gyre__release_shared(gyre__objects_self(), h);
  }
}

/* As a load from a slot: count, then look again. But here the reference does not keep the object alive,
 * so one that cannot be counted may still be in it: until its destroy hook has run. And whoever walks through
 * a table must not run program code before the end; so what was counted in vain is the caller's. */
void *gyre_uncounted_look(gyre_uncounted *u, void **late) {
  gyre__attach_self();
  *late = NULL;
  for (;;) {
    /* acquire: the header behind the pointer; pairs with gyre_uncounted_set(). */
    void *object = gyre__load_acquire(&u->gyre__ref);
    if (object == NULL) return NULL;
    gyre__header *h = gyre__header_of(object);
    /* One of our own is alive: its last release would have merged it. */
    if (is_own(h)) return gyre__retain(object);
    GYRE_WINDOW("slot/uncounted");
    bool counted = gyre__try_count(h);
    GYRE_WINDOW("slot/uncounted_counted");
    /* seq_cst: after the count; pairs with gyre_uncounted_set(). */
    bool same = gyre__load_seq_cst(&u->gyre__ref) == object;
    if (counted && same) {
      taken(h);
      return object;
    }
    if (counted) {
      *late = object;
      return NULL;
    }
    if (same) return NULL;
  }
}

void *gyre_uncounted_get(gyre_uncounted *u) {
  void *late;
  void *object = gyre_uncounted_look(u, &late);
  if (GYRE_LIKELY(late == NULL)) return object;
  /* All looks come before the first release, which may end what the caller has borrowed. One level each
   * time that the reference is changed meanwhile. */
  object = gyre_uncounted_get(u);
  gyre_release(late);
  return object;
}
