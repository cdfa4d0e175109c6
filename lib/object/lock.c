/* SPDX-License-Identifier: MIT */
/* The object lock: a bit in the header, and one that says that somebody may sleep for it.
 *
 * Sleeping needs a 32-bit futex word; the word that contains the bits byte serves (owner,
 * collector's byte, bits). The other bytes may change under a sleeper, who then just looks again. A
 * thread that has slept locks with the waiters bit set, because others may still sleep (Drepper,
 * "Futexes are tricky", mutex 2), and the unlocker wakes one.
 */
#include "lib/object/object.h"

#define SPINS 100
#define NAP_NS 50000u

typedef struct __attribute__((may_alias)) {
  uint32_t gyre__value;
} futex_word;

static futex_word *word_of(gyre__header *h) {
  _Static_assert(offsetof(gyre__header, owner) == 4 && offsetof(gyre__header, bits) == 7,
                 "futex word");
  return (futex_word *)(void *)&h->owner;
}

static bool try_lock(gyre__header *h, uint8_t with) {
  /* acquire: what the last holder wrote under the lock; pairs with the release in gyre_unlock(). */
  return !(gyre__fetch_or_acq_rel(&h->bits, (uint8_t)(GYRE__BIT_LOCKED | with)) & GYRE__BIT_LOCKED);
}

/* Under the lock of a visit object plain code may move references, which touches it. */
static void touch_locked(gyre__header *h) {
  if (gyre__is_logging() && gyre__header_type(h)->visit != NULL) gyre__touch(h);
}

bool gyre__lock_try_quietly(gyre__header *h) {
  /* relaxed: the fetch_or decides. */
  return !(gyre__load_relaxed(&h->bits) & GYRE__BIT_LOCKED) && try_lock(h, 0);
}

int gyre_try_lock(void *object) {
  gyre__attach_self();
  gyre__header *h = gyre__header_of(object);
  if (!gyre__lock_try_quietly(h)) return 0;
  touch_locked(h);
  return 1;
}

static GYRE_NOINLINE void lock_slow(gyre__header *h) {
  for (int i = 0; i < SPINS; i++) {
    gyre__cpu_relax();
    if (gyre_try_lock(gyre__object_of(h))) return;
  }
  /* Sleeps parked, but locks running: no lock changes hands in a stopped world, whose stopper looks
   * at locks; and no program code runs between the lock and our return. */
  while (!try_lock(h, GYRE__BIT_WAITERS)) {
    gyre_park();
    /* relaxed: the kernel compares the word again. */
    uint32_t word = gyre__load_relaxed(word_of(h));
    uint32_t both = (uint32_t)(GYRE__BIT_LOCKED | GYRE__BIT_WAITERS) << 24;
    if ((word & both) == both) gyre__futex_wait((gyre__atomic_u32 *)word_of(h), word, UINT64_MAX);
    gyre_unpark();
  }
  touch_locked(h);
}

void gyre_lock(void *object) {
  if (!gyre_try_lock(object)) lock_slow(gyre__header_of(object));
}

void gyre__unlock_quietly(gyre__header *h) {
  /* release: what was written under the lock; pairs with try_lock(). */
  uint8_t old =
      gyre__fetch_and_acq_rel(&h->bits, (uint8_t) ~(GYRE__BIT_LOCKED | GYRE__BIT_WAITERS));
  GYRE_REQUIRE(old & GYRE__BIT_LOCKED, "gyre_unlock of an object that is not locked, at %p",
               gyre__object_of(h));
  if (old & GYRE__BIT_WAITERS) gyre__futex_wake((gyre__atomic_u32 *)word_of(h), 1);
}

void gyre_unlock(void *object) {
  gyre__header *h = gyre__header_of(object);
  touch_locked(h);
  gyre__unlock_quietly(h);
}

void gyre__lock_unparked(gyre__header *h) {
  for (int i = 0; !try_lock(h, 0); i++) {
    if (i < SPINS)
      gyre__cpu_relax();
    else /* relaxed: the kernel compares the word again. */
      gyre__futex_wait((gyre__atomic_u32 *)word_of(h), gyre__load_relaxed(word_of(h)), NAP_NS);
  }
}

void gyre_lock2(void *a, void *b) {
  void *first = (uintptr_t)a < (uintptr_t)b ? a : b;
  void *second = first == a ? b : a;
  gyre_lock(first);
  if (first != second) gyre_lock(second);
}

void gyre_unlock2(void *a, void *b) {
  gyre_unlock(a);
  if (a != b) gyre_unlock(b);
}
