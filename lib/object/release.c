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

#include "lib/base/probe.h"

void gyre__chain_push(struct gyre__chain *chain, gyre__header *h) {
  uint64_t link = (uint64_t)(uintptr_t)chain->first >> 4;
  GYRE_ASSERT(link >> 44 == 0);
  /* relaxed: a dead object is nobody's but ours; a collector that looks at it nevertheless takes the
   * id only. */
  gyre__store_relaxed(&h->type, gyre__header_type_id(h) | (uint32_t)(link >> 32)
                                                              << GYRE__TYPE_ID_BITS);
  gyre__store_relaxed(&h->local, (uint32_t)link);
  if (chain->first == NULL) chain->last = h;
  chain->first = h;
}

/* What follows in the chain. */
static gyre__header *chain_next(const gyre__header *h) {
  /* relaxed: as above. */
  uint64_t high = gyre__load_relaxed(&h->type) >> GYRE__TYPE_ID_BITS;
  return (gyre__header *)(uintptr_t)((high << 32 | gyre__load_relaxed(&h->local)) << 4);
}

gyre__header *gyre__chain_pop(struct gyre__chain *chain) {
  gyre__header *h = chain->first;
  chain->first = chain_next(h);
  /* relaxed: as in gyre__chain_push(). */
  gyre__store_relaxed(&h->type, gyre__header_type_id(h));
  gyre__store_relaxed(&h->local, 0);
  return h;
}

void gyre__chain_move(struct gyre__chain *to, struct gyre__chain *from) {
  if (from->first == NULL) return;
  gyre__header *last = from->last;
  uint64_t link = (uint64_t)(uintptr_t)to->first >> 4;
  /* relaxed: as in gyre__chain_push(). */
  gyre__store_relaxed(&last->type, gyre__header_type_id(last) | (uint32_t)(link >> 32)
                                                                    << GYRE__TYPE_ID_BITS);
  gyre__store_relaxed(&last->local, (uint32_t)link);
  if (to->first == NULL) to->last = last;
  to->first = from->first;
  from->first = NULL;
}

static void dying_push(struct gyre__objects *self, gyre__header *h) {
  /* relaxed: the object is nobody's but ours; tells the collector to leave it alone. */
  gyre__store_relaxed(&h->gc, (uint8_t)(gyre__load_relaxed(&h->gc) | GYRE__GC_DEAD));
  gyre__chain_push(&self->dying, h);
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
  gyre__atomic_size *word = gyre__array_length_word(h, page);
  char *elements = (char *)gyre__object_of(h) + type->size;
  /* An array of slots and nothing else. */
  bool is_bare = type->element_slots.count == 1 && type->element_size == sizeof(gyre_slot);
  /* relaxed: a dead object is nobody's but ours; a collector may look. */
  for (size_t length = gyre__load_relaxed(word); length > 0; --*budget) {
    if (*budget == 0) return false;
    length--;
    bool dropped =
        is_bare ? slot_drop((gyre_slot *)(void *)elements + length, quietly)
                : slots_drop(elements + length * type->element_size, &type->element_slots, quietly);
    if (!dropped) return false;
    /* relaxed: as above. */
    gyre__store_relaxed(word, length);
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
      /* The collector may be visiting it; from now on it sees that the object is dead. */
      if (type->visit != NULL) {
        gyre__lock_unparked(h);
        gyre__unlock_quietly(h);
      }
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
  while (self->dying.first != NULL && budget > 0) {
    gyre__header *h = gyre__chain_pop(&self->dying);
    struct gyre__page *page = gyre__page_of(h);
    if (!gyre__object_clear(h, page, &budget, quietly)) {
      dying_push(self, h);
      break;
    }
    gyre__object_free(self, h, page);
    if (budget > 0) budget--;
  }
  gyre__ripe_free(self, &budget);
  self->in_cascade = false;
  if (self->dying.first != NULL && !quietly && gyre__object_hooks.cascade_cut)
    (void)gyre__object_hooks.cascade_cut(self, &self->dying);
  if (self->dying.first != NULL || self->ripe.first != NULL)
    gyre__thread_request(&self->heap.thread, GYRE__REQ_RELEASE);
}

void gyre__object_finalize(gyre__header *h) {
  /* acq_rel: whoever clears the bit runs the finalizer, and sees all that former holders did. Pairs
   * with the other holders' releases (gyre__release_shared()). */
  if (!(gyre__fetch_and_acq_rel(&h->bits, (uint8_t)~GYRE__BIT_FINALIZE) & GYRE__BIT_FINALIZE))
    return;
  int cancel = gyre__cancel_put_off();
  GYRE_PROBE2(finalizer_begin, gyre__object_of(h), gyre__header_type(h)->name);
  int result = gyre__header_type(h)->finalize(gyre__object_of(h));
  GYRE_PROBE3(finalizer_end, gyre__object_of(h), gyre__header_type(h)->name, result);
  if (result != 0) gyre__finalizer_failed(gyre__object_of(h), result);
  gyre__cancel_restore(cancel);
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
  if ((self->dying.first != NULL || self->ripe.first != NULL) && !self->in_cascade)
    cascade(self, gyre__option(release_budget), true);
}

void gyre__release_all(struct gyre__objects *self) {
  while ((self->dying.first != NULL || self->ripe.first != NULL) && !self->in_cascade)
    cascade(self, UINT64_MAX, false);
}

/* In the child of a fork: a thread that is gone may have been at a safepoint in a hook that its
 * cascade called. The object it was taking apart is lost; its heir goes on with the rest. */
static void fork_prepare(void) {
  gyre__type_fork_prepare();
  gyre__pending_fork_prepare();
}

static void fork_parent(void) {
  gyre__pending_fork_parent();
  gyre__type_fork_parent();
}

static void fork_child(void) {
  gyre__pending_fork_child();
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
  gyre__thread_hooks.fork_prepare[1] = fork_prepare;
  gyre__thread_hooks.fork_parent[1] = fork_parent;
  gyre__thread_hooks.fork_child[1] = fork_child;
  gyre__thread_hooks.release = release_more;
  gyre__heap_before_refill = release_quietly;
}
