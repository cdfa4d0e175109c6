/* SPDX-License-Identifier: MIT */
/* What lib/weak offers the room above, the collector: killing the weak references of condemned
 * objects, and calling their callbacks later.
 *
 * In a stopped world, for each condemned object:
 *
 *     gyre__weak_clear(self, object, &pending);
 *
 * Beside a running program, for each component: lock the control blocks of all its members that
 * have one, look whether any weak reference was upgraded meanwhile, and only then clear:
 *
 *     control = gyre__weak_lock(self, object);    // for each member; NULL: it has none
 *     gyre__weak_clear_locked(self, control, object, &pending);    // if the component is garbage
 *     gyre__weak_unlock(self, control);           // in any case
 *
 * Upgrades honour these locks in threads whose mode is closed (GYRE__MODE_CLOSED): so the mode is closed,
 * and a handshake has seen to it that no upgrade from before is under way.
 *
 * Only one thread at a time may hold more than one of these locks. Who holds any passes no
 * safepoint, does not block and runs no program code; others wait for it without being parked.
 */
#ifndef GYRE_LIB_WEAK_WEAK_H
#define GYRE_LIB_WEAK_WEAK_H

#include <gyre/weak.h>

#include "lib/object/object.h"

/* What all weak references to one object share (lib/weak/control.h). */
struct gyre__weak_control;

/* Dead objects whose weak callbacks have still to be called. All zero: none. */
struct gyre__weak_pending {
  struct gyre__weak_control *first, *last;
};

/* The object's control block, locked, or NULL if it has none, or if the object has died meanwhile. The
 * caller holds a counted reference, or knows otherwise that the object stays in its place. An attached
 * thread. */
struct gyre__weak_control *gyre__weak_lock(struct gyre__objects *self, void *object);
void gyre__weak_unlock(struct gyre__objects *self, struct gyre__weak_control *control);

/* Makes all weak references to the object dead, for good, and puts it onto the pending list if any
 * of them has a callback. Afterwards nothing is left of them for the object's death to do. Never
 * fails and needs no memory. The control block is the object's and locked. */
void gyre__weak_clear_locked(struct gyre__objects *self, struct gyre__weak_control *control,
                             void *object, struct gyre__weak_pending *pending);

/* The same for an object that may have no weak references at all, with the locking. Any attached
 * thread, also while it has stopped the world. */
void gyre__weak_clear(struct gyre__objects *self, void *object, struct gyre__weak_pending *pending);

/* Calls the callbacks of what is on the list, and empties it. The world runs and no lock is held:
 * this runs program code and may pass safepoints. */
void gyre__weak_run(struct gyre__objects *self, struct gyre__weak_pending *pending);

/* How many objects that have, or had, a weak reference are alive. Approximate while other threads
 * run. */
size_t gyre__weak_object_count(void);

/* Calls what is registered with gyre_finalize_new() for the program's end, the newest first, until
 * nothing is left. Runs program code. */
void gyre__finalize_all(void);

/* ---- ephemeron maps (map.c has the essay) ----
 *
 * An entry of such a map holds a count on its value that stands for a reference from both its ends, the
 * map and the key. */

/* Is there any such map? Stays as it is for a collection's candidates. */
bool gyre__weak_has_ephemerons(void);
/* Are objects of this type such maps? */
bool gyre__weak_is_ephemeron_map(const gyre_type *type);

/* Told of a value, and of the entry's other end: an address, perhaps NULL for a key that is dead. */
typedef void gyre__ephemeron_fn(void *other, void *value, void *arg);
/* Calls fn for the entries of such a map, with their keys. The map is
 * locked and not dead. The function passes no safepoint. */
void gyre__ephemerons_of_map(const void *map, gyre__ephemeron_fn *fn, void *arg);
/* The same for the entries of which an object is the key, with their maps, with the lock of the object's
 * control block held; which the caller may have already. */
void gyre__ephemerons_of_key(struct gyre__objects *self, void *key, gyre__ephemeron_fn *fn,
                             void *arg);
void gyre__ephemerons_of_locked_key(const void *key, gyre__ephemeron_fn *fn, void *arg);
/* Are there any such entries? The lock of the control block is held. */
bool gyre__weak_has_entries(const struct gyre__weak_control *control);

/* ---- what weak maps hold ----
 *
 * Their visit functions are for the collector and for those who look at the heap as it does: a map changes
 * under a lock of its own, and not its object's, so what a visit reports may be gone at once. */

/* Are objects of this type weak maps or sets, of any kind? */
bool gyre__weak_is_map(const gyre_type *type);
/* The objects that a map holds strongly: how many, and *out: an array for gyre_free() with a reference of
 * the caller's to each. -ENOMEM. May run program code, and pass safepoints. */
ptrdiff_t gyre__weakmap_strong(void *map, void ***out);

#endif
