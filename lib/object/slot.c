/* SPDX-License-Identifier: MIT */
/* Slot operations: one atomic step each on the slot, counts before and after. refcount.c says why a
 * slot is only ever emptied by an exchange, and why a load counts first and looks again. */
#include "lib/object/object.h"

void *gyre__slot_swap(gyre_slot *slot, void *object) {
  gyre__attach_self();
  GYRE_WINDOW("slot/swap");
  /* seq_cst: release: who loads the new pointer sees the object behind it (gyre__slot_load());
   * acquire: we see the one behind the old; and before the look at the shared word when a count
   * falls to 0 (release_owned()). */
  return gyre__exchange_seq_cst(&slot->gyre__ref, object);
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
  void *seen = expected;
  /* seq_cst: as in gyre__slot_swap(). */
  if (gyre__cas_strong_seq_cst(&slot->gyre__ref, &seen, desired)) {
    gyre_release(expected);
    return 1;
  }
  gyre_release(desired);
  return 0;
}

void *gyre__slot_load_slow(gyre_slot *slot) {
  gyre__attach_self();
  for (;;) {
    /* acquire: the header behind the pointer; pairs with gyre__slot_swap(). */
    void *object = gyre__load_acquire(&slot->gyre__ref);
    if (object == NULL) return NULL;
    gyre__header *h = gyre__header_of(object);
    /* relaxed: as in gyre__slot_load(). */
    if (gyre__load_relaxed(&h->owner) == gyre__self->id) return gyre__retain(object);
    GYRE_WINDOW("slot/load");
    if (!gyre__try_count(h)) continue; /* dead, so the slot has changed */
    GYRE_WINDOW("slot/counted");
    /* seq_cst: after the count; pairs with gyre__slot_swap() and the owner's look at the shared
     * word. */
    if (gyre__load_seq_cst(&slot->gyre__ref) == object) return object;
    gyre__release_shared(gyre__objects_self(), h);
  }
}
