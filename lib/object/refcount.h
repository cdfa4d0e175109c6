/* SPDX-License-Identifier: MIT */
/* The shared word of an object's header, and what the bits of the other bytes mean.
 *
 *     31                              3 2 1 0
 *     [ signed count                  | P | state ]
 *
 * The number of references is local + count while the object has an owner, and count afterwards.
 *
 * P, *published*: a thread that is not the owner has counted the object, or is about to take a
 * reference to it out of a slot. Set in the same step that counts, or before; never cleared while
 * the object has its owner. Objects without it are the owner's own business: it may collect them by
 * itself (lib/collect/young.c). A merged object has no owner and no flag.
 *
 *     DEFAULT   has an owner, or is dead and never was merged. The count is never negative: the
 *               reference that would make it so is not taken off but left with the owner, and the
 *               state becomes
 *     QUEUED    has an owner, who has been asked to merge; one reference belongs to that request.
 *               The count may be negative from here on, local makes up for it.
 *     MERGED    has no owner. A count of 0 is death; (MERGED, 0) is "at rest": nobody writes to the
 *               word any more until the block is allocated again.
 *     IMMORTAL  nobody counts.
 */
#ifndef GYRE_LIB_OBJECT_REFCOUNT_H
#define GYRE_LIB_OBJECT_REFCOUNT_H

#include <stdbool.h>
#include <stdint.h>

#include <gyre/object.h>

enum {
  GYRE__DEFAULT = 0,
  GYRE__QUEUED = 1,
  GYRE__MERGED = 2,
  GYRE__IMMORTAL_STATE = 3,
  GYRE__STATE = 3,
};
_Static_assert(GYRE__SHARED_IMMORTAL == GYRE__IMMORTAL_STATE, "object.h's initializer");
_Static_assert(GYRE__SHARED_AT_REST == GYRE__MERGED, "gyre_thread_new()");

#define GYRE__PUBLISHED (1u << 2)
#define GYRE__COUNT_SHIFT 3
#define GYRE__ONE ((uint32_t)1 << GYRE__COUNT_SHIFT)
/* A count that reaches this, or its negative, sticks: far enough from the end of the word that no
 * number of threads can get past it between its look and its step. */
#define GYRE__COUNT_LIMIT ((int32_t)(1 << 27))

GYRE_INLINE int32_t gyre__count_of(uint32_t shared) { return (int32_t)shared >> GYRE__COUNT_SHIFT; }
GYRE_INLINE uint32_t gyre__state_of(uint32_t shared) { return shared & GYRE__STATE; }
GYRE_INLINE uint32_t gyre__shared_of(int32_t count, uint32_t state) {
  return (uint32_t)count << GYRE__COUNT_SHIFT | state;
}

/* The flag, if an object in this state can have it: one with an owner. */
GYRE_INLINE uint32_t gyre__published_in(uint32_t shared) {
  _Static_assert((GYRE__MERGED & 2) != 0 && (GYRE__IMMORTAL_STATE & 2) != 0 &&
                     (GYRE__QUEUED & 2) == 0,
                 "states");
  return (~shared & 2) << 1;
}

/* The owner keeps a number of its own in `local` while it looks through its young objects; no count
 * gets as far. */
#define GYRE__LOCAL_MARK ((uint32_t)1 << 31)

/* header.bits */
enum {
  GYRE__BIT_LOCKED = 1u << 0,
  GYRE__BIT_WAITERS = 1u << 1,  /* somebody may sleep for the lock */
  GYRE__BIT_WEAK = 1u << 2,     /* has, or had, a weak reference */
  GYRE__BIT_FINALIZE = 1u << 3, /* has a finalizer that has not been started */
  GYRE__BIT_COMPLEX =
      1u << 4, /* its type has slots, visit or destroy: there is more to do than to free it */
  GYRE__BIT_ATOMIC = 1u << 5, /* must die by an atomic step, for gyre_try_retain() */
  /* Touched since the collector last cleared it: counted, moved or locked by a thread in LOGGING
   * mode, or upgraded from a weak reference. */
  GYRE__BIT_TOUCHED = 1u << 6,
  GYRE__BIT_UNTRACKED = 1u << 7, /* the program wants the collector to leave it alone */
  /* What keeps the owner from freeing it with plain reads. */
  GYRE__BITS_SPECIAL = GYRE__BIT_WEAK | GYRE__BIT_FINALIZE | GYRE__BIT_ATOMIC,
};

/* header.gc: one writer at a time: the owner while the object is young, the collector once it is
 * promoted, whoever destroys it when it is dead. 0: no object in this block. Who makes it older uses
 * a compare-exchange where another thread may destroy it at the same moment. */
enum {
  GYRE__GC_AGE = 3,          /* generation + 1 */
  GYRE__GC_YOUNG = 1,        /* generation 0: in its owner's log */
  GYRE__GC_PROMOTED = 2,     /* generation 1 */
  GYRE__GC_DEAD = 1u << 2,   /* its count fell to 0, its references are being dropped */
  GYRE__GC_FRESH = 1u << 3,  /* promoted for the sake of a collection of generation 0 */
  GYRE__GC_HOOKED = 1u << 4, /* dead, and its destroy and clear hooks have run */
  GYRE__GC_LARGE = 1u << 5,  /* in a large block */
  GYRE__GC_BESIDE =
      1u << 5, /* of a young object, which is not large: born beside a walk of the heap */
  /* Promoted, and its owner wants to know when a count of it is given up: it may be the entrance to a
   * cycle that nobody refers to any more (lib/collect/young.c). Written by the owner only; a
   * promotion that the collector makes at the same moment may be lost, which costs it a look. */
  GYRE__GC_ARMED = 1u << 6,
  /* Untracked or frozen: never a candidate, whatever its age. */
  GYRE__GC_APART = 1u << 7,
};

_Static_assert(GYRE__ARMED_MASK == (uint32_t)GYRE__GC_ARMED << 16, "the byte after the owner");

#endif
