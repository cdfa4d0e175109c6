/* SPDX-License-Identifier: MIT */
/* Moving references between slots without counting them, for containers that grow.
 *
 * A count touches the object's header, which for a large array is a cache line an element. A reference
 * that only changes its place needs none: at each moment one slot at least holds it, and the object has
 * the count that stands for it. What has to be seen to is who else looks at slots:
 *
 *   Readers (slot.c) count first and look at the slot again. They find a moved reference in the old
 *     slot for a while, which is harmless: it is counted. When it is removed later, from its new slot,
 *     the remover's look at the shared word comes after the stores here, by the last of them; so a
 *     reader that counted too late finds that its slot has changed. (The last store is seq_cst, the others
 *     are releases. By the letter of C11 only a fence would order those before the look; on x86-64 and
 *     AArch64 the last one does, and ThreadSanitizer knows no fences.)
 *   The owner's young collection (lib/collect/young.c) relies on "who is not the owner publishes an
 *     object before a reference to it is removed from a slot". It looks at slots of the owner's own
 *     objects only. So the rule concerns moves out of another thread's objects, and what is moved from
 *     there is published first; moves out of our own, or of objects without an owner, need nothing.
 *     (Both ends lie in the same object, or `to` in a new one of ours.)
 *   The collector beside the program may meet a reference twice, in its old and in its new place, or
 *     not at all. Before it logs, that makes suspects of living objects at worst; while it logs, every
 *     moved object is touched, like any that is counted (lib/collect/collect.c).
 *   A copy of the heap (lib/observe/copy.c) is made while threads log: what was moved is touched, and so has
 *     "changed", whatever the copy has seen of its references. A slot that was moved from holds its pointer
 *     until it is made to forget it, and whoever read the old length may come to it later still; the object
 *     may be dead by then, but all that dies meanwhile keeps its block.
 *   A walk (mode STILL, lib/collect/walk.c) may meet the reference nowhere: the old array has forgotten it, and
 *     the new one was born beside the walk, which leaves that out. So a list that grows during the walk may be
 *     missing among its items' referrers, as it would be if it had been made a moment later. Of what a stale slot
 *     holds only the address is used, and its page is pinned.
 *   Stopped counts (lib/collect/apart.c). A frozen holder has no owner, so nothing is published out of it. It
 *     is no member of anybody's look, so what it refers to has a reference from outside before the move and after
 *     it. A frozen object is immortal for as long: publishing and touching it write nothing, and a look does
 *     not take it in when counting goes on, since it is published from then on.
 */
#include "lib/object/object.h"

static bool is_anothers(const void *holder) {
  if (holder == NULL) return false;
  /* relaxed: "mine" and "nobody's" do not change behind our back. */
  uint32_t owner = gyre__load_relaxed(&gyre__header_of(holder)->owner);
  return owner != 0 && owner != gyre__self->id;
}

/* What the slot holds, made ready to be moved. */
static inline __attribute__((always_inline)) void *moved(gyre_slot *from, bool publish,
                                                         bool touch) {
  /* acquire: the header behind the pointer; pairs with gyre__slot_init() and slot_change(). */
  void *object = gyre__load_acquire(&from->gyre__ref);
  if (GYRE_UNLIKELY(publish || touch) && object != NULL) {
    gyre__header *h = gyre__header_of(object);
    /* relaxed: "mine" does not change behind our back. */
    if (publish && gyre__load_relaxed(&h->owner) != gyre__self->id) gyre__publish(h);
    if (touch) gyre__touch(h);
  }
  return object;
}

static inline __attribute__((always_inline)) void move(gyre_slot *to, gyre_slot *from, size_t n,
                                                       bool publish, bool touch) {
  if ((uintptr_t)to <= (uintptr_t)from) {
    for (size_t i = 0; i < n - 1; i++)
      /* release: the object, and that it is published, for who finds it here; pairs with the acquire in
       * gyre__slot_load(). */
      gyre__store_release(&to[i].gyre__ref, moved(&from[i], publish, touch));
    GYRE_WINDOW("move/moving");
    /* seq_cst: all these stores come before this thread's later looks at the shared words of what it
     * removes; pairs with the second look in gyre__slot_load_slow(). */
    gyre__store_seq_cst(&to[n - 1].gyre__ref, moved(&from[n - 1], publish, touch));
  } else {
    for (size_t i = n - 1; i > 0; i--)
      /* release: as above; pairs with the same. */
      gyre__store_release(&to[i].gyre__ref, moved(&from[i], publish, touch));
    GYRE_WINDOW("move/moving");
    /* seq_cst: as above; pairs with the same. */
    gyre__store_seq_cst(&to[0].gyre__ref, moved(&from[0], publish, touch));
  }
}

void gyre__slots_move(const void *holder, gyre_slot *to, gyre_slot *from, size_t n) {
  if (n == 0) return;
  gyre__attach_self();
  bool publish = is_anothers(holder), touch = gyre__is_logging();
  /* Compiled twice, once without any of that. */
  if (GYRE_LIKELY(!publish && !touch))
    move(to, from, n, false, false);
  else
    move(to, from, n, publish, touch);
}

void gyre__slots_forget(gyre_slot *slots, size_t n) {
  for (size_t i = 0; i < n; i++)
    /* release: after the stores to where the references are now; pairs with the acquire in
     * gyre__slot_load(). */
    gyre__store_release(&slots[i].gyre__ref, NULL);
}

void gyre_array_forget(void *object) {
  gyre__header *h = gyre__header_of(object);
  /* relaxed: a collector that still reads the old length finds references that have been moved: what it
   * looks at is at most one it counts twice, and see above. */
  if (gyre__header_type(h)->element_size != 0)
    gyre__store_relaxed(gyre__array_length_word(h, gyre__page_of(h)), 0);
}

/* ---- retiring ---- */

static void is_over(gyre_deferred *node) {
  gyre_release(((gyre_retired *)(void *)node)->gyre__object);
}

void gyre_retire(void *object, gyre_retired *link) {
  _Static_assert(offsetof(gyre_retired, gyre__node) == 0, "is_over()");
  link->gyre__object = object;
  GYRE_REQUIRE(gyre_defer(&link->gyre__node, is_over) == 0,
               "gyre_retire() in a thread that cannot attach");
}
