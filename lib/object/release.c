/* SPDX-License-Identifier: MIT */
/* What happens when a count has fallen to 0: release cascades.
 *
 * A dead object's references are dropped in turn, which may kill more objects, and so on: a list of
 * ten million nodes must neither recurse nor hold up the thread that dropped its head. So a dead
 * object goes onto the thread's list of dying ones, and a loop takes them off. The loop that a
 * release starts ends after a budget of objects; what is left goes on at the thread's later
 * safepoints, when it allocates a page, and when it parks or detaches. A release made inside the
 * loop, by a hook or by dropping a reference, only adds to the list.
 *
 * The list needs no memory: a dead object's type and local words hold the link, next to the type's
 * id:
 *
 *     type:   [ link bits 36..47 : 12 | type id : 20 ]      local:  [ link bits 4..35 : 32 ]
 *
 * (Addresses are multiples of 16 and below 2^48.) The owner field and the shared word stay as they
 * are for threads that look at the object too late.
 *
 * The loop in an allocation runs no program code ("never inside an unrelated allocation"): it stops
 * before a step that could call a hook, a finalizer or a weak callback. That waits for the next
 * safepoint.
 */
#include "lib/object/type.h"

static void dying_push(struct gyre__objects *self, gyre__header *h) {
  /* relaxed: the object is nobody's but ours; tells the collector to leave it alone. */
  gyre__store_relaxed(&h->gc, (uint8_t)(gyre__load_relaxed(&h->gc) | GYRE__GC_DEAD));
  uint64_t link = (uint64_t)(uintptr_t)self->dying >> 4;
  GYRE_ASSERT(link >> 44 == 0);
  h->type = (h->type & GYRE__TYPE_ID_MASK) | (uint32_t)(link >> 32) << GYRE__TYPE_ID_BITS;
  /* relaxed: as above. */
  gyre__store_relaxed(&h->local, (uint32_t)link);
  self->dying = h;
}

static gyre__header *dying_pop(struct gyre__objects *self) {
  gyre__header *h = self->dying;
  /* relaxed: ours. */
  uint64_t link = (uint64_t)(h->type >> GYRE__TYPE_ID_BITS) << 32 | gyre__load_relaxed(&h->local);
  self->dying = (gyre__header *)(uintptr_t)(link << 4);
  h->type &= GYRE__TYPE_ID_MASK;
  /* relaxed: ours. */
  gyre__store_relaxed(&h->local, 0);
  return h;
}

/* Might dropping a reference to this object run program code? Only if it dies with some, or if it
 * has to be queued: a queue that nobody serves is served at once, with what else is in it. */
static bool is_quiet(const gyre__header *h, uint32_t id) {
  /* relaxed: if a flag is set later, the object has a holder who did so, and does not die here. */
  if (gyre__load_relaxed(&h->bits) & GYRE__BITS_SPECIAL) return false;
  /* relaxed: "mine" and "nobody's" do not change behind our back. */
  uint32_t owner = gyre__load_relaxed(&h->owner);
  return owner == 0 || owner == id;
}

/* Drops the reference in a slot of a dead object. False if that might run program code and must
 * not. */
static bool slot_drop(gyre_slot *slot, bool quietly) {
  /* relaxed: the object is dead: no other thread may look at its slots any more. */
  void *child = gyre__load_relaxed(&slot->gyre__ref);
  if (child == NULL) return true;
  if (quietly && !is_quiet(gyre__header_of(child), gyre__self->id)) return false;
  /* relaxed: as above; remembers what is done. */
  gyre__store_relaxed(&slot->gyre__ref, NULL);
  gyre_release(child);
  return true;
}

static bool slots_drop(void *base, const gyre_slots *slots, bool quietly) {
  for (size_t i = 0; i < slots->count; i++)
    if (!slot_drop(gyre__slot_at(base, slots->at[i].offset), quietly)) return false;
  return true;
}

/* From the last element to the first; the length remembers how far that got. */
static bool elements_drop(gyre_type *type, gyre__header *h, struct gyre__page *page,
                          uint64_t *budget, bool quietly) {
  size_t *length = gyre__array_length_word(h, page);
  char *elements = (char *)gyre__object_of(h) + type->size;
  while (*length > 0) {
    if (*budget == 0) return false;
    if (!slots_drop(elements + (*length - 1) * type->element_size, &type->element_slots, quietly))
      return false;
    --*length;
    --*budget;
  }
  return true;
}

bool gyre__object_clear(gyre__header *h, struct gyre__page *page, uint64_t *budget, bool quietly) {
  gyre_type *type = gyre__header_type(h);
  void *object = gyre__object_of(h);
  if (type->destroy != NULL || type->clear != NULL) {
    /* relaxed: a dead object is nobody's but ours. */
    uint8_t gc = gyre__load_relaxed(&h->gc);
    if (!(gc & GYRE__GC_HOOKED)) {
      if (quietly) return false;
      /* relaxed: as above. */
      gyre__store_relaxed(&h->gc, (uint8_t)(gc | GYRE__GC_HOOKED));
      int cancel = gyre__cancel_put_off();
      if (type->destroy != NULL) type->destroy(object);
      if (type->clear != NULL) type->clear(object);
      gyre__cancel_restore(cancel);
    }
  }
  if (!slots_drop(object, &type->slots, quietly)) return false;
  return type->element_slots.count == 0 || elements_drop(type, h, page, budget, quietly);
}

/* Destroys dying objects until `budget` objects and array elements have been dealt with. */
static void cascade(struct gyre__objects *self, uint64_t budget, bool quietly) {
  self->in_cascade = true;
  while (self->dying != NULL && budget > 0) {
    gyre__header *h = dying_pop(self);
    struct gyre__page *page = gyre__page_of(h);
    if (!gyre__object_clear(h, page, &budget, quietly)) {
      dying_push(self, h);
      break;
    }
    gyre__object_free(self, h, page);
    if (budget > 0) budget--;
  }
  self->in_cascade = false;
  if (self->dying != NULL) gyre__thread_request(&self->heap.thread, GYRE__REQ_RELEASE);
}

void gyre__object_finalize(gyre__header *h) {
  /* acq_rel: whoever clears the bit runs the finalizer, and sees all that former holders did. Pairs
   * with the other holders' releases (gyre__release_shared()). */
  if (!(gyre__fetch_and_acq_rel(&h->bits, (uint8_t)~GYRE__BIT_FINALIZE) & GYRE__BIT_FINALIZE))
    return;
  gyre_type *type = gyre__header_type(h);
  int cancel = gyre__cancel_put_off();
  int result = type->finalize(gyre__object_of(h));
  gyre__cancel_restore(cancel);
  if (result != 0)
    gyre__log("finalizer of %s at %p returned %d", type->name, gyre__object_of(h), result);
}

void gyre__object_die(struct gyre__objects *self, gyre__header *h) {
  /* acquire: as in release_owned(). */
  uint32_t bits = gyre__load_acquire(&h->bits);
  GYRE_ASSERT(!(bits & GYRE__BIT_FINALIZE));
  if (bits & GYRE__BIT_WEAK && gyre__object_hooks.weak_died) {
    /* relaxed: the object is nobody's but ours; a collection during a callback leaves it alone. */
    gyre__store_relaxed(&h->gc, (uint8_t)(gyre__load_relaxed(&h->gc) | GYRE__GC_DEAD));
    int cancel = gyre__cancel_put_off();
    gyre__object_hooks.weak_died(self, gyre__object_of(h));
    gyre__cancel_restore(cancel);
  }
  if (!(bits & GYRE__BIT_COMPLEX)) {
    gyre__object_free(self, h, gyre__page_of(h));
    return;
  }
  dying_push(self, h);
  if (!self->in_cascade) cascade(self, gyre__option(release_budget), false);
}

/* ---- later ---- */

static void release_more(struct gyre__thread *thread) {
  struct gyre__objects *self = (struct gyre__objects *)thread;
  if (!self->in_cascade) cascade(self, gyre__option(release_budget), false);
}

static void release_quietly(struct gyre__heap *heap) {
  struct gyre__objects *self = (struct gyre__objects *)heap;
  if (self->dying != NULL && !self->in_cascade) cascade(self, gyre__option(release_budget), true);
}

void gyre__release_all(struct gyre__objects *self) {
  while (self->dying != NULL && !self->in_cascade)
    cascade(self, UINT64_MAX, false);
}

static void slot_init(struct gyre__thread *slot) {
  /* relaxed: nobody sees the slot yet. 1: the first report sets what the collector wants. */
  gyre__store_relaxed(&((struct gyre__objects *)slot)->gc_limit, 1);
}

/* In the child of a fork: a thread that is gone may have been at a safepoint in a hook that its
 * cascade called. The object it was taking apart is lost; its heir goes on with the rest. */
static void fork_child(void) {
  gyre__type_fork_child();
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= count; id++) {
    struct gyre__objects *slot = (struct gyre__objects *)gyre__thread_slot(id);
    if (&slot->heap.thread == gyre__thread_current() || !slot->in_cascade) continue;
    slot->in_cascade = false;
    gyre__thread_request(&slot->heap.thread, GYRE__REQ_RELEASE);
  }
}

static void __attribute__((constructor)) release_init(void) {
  gyre__thread_hooks.fork_prepare[1] = gyre__type_fork_prepare;
  gyre__thread_hooks.fork_parent[1] = gyre__type_fork_parent;
  gyre__thread_hooks.fork_child[1] = fork_child;
  gyre__thread_hooks.slot_init[1] = slot_init;
  gyre__thread_hooks.release = release_more;
  gyre__heap_before_refill = release_quietly;
}
