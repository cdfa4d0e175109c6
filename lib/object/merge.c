/* SPDX-License-Identifier: MIT */
/* The merge queue: how an object reaches the owner who has to merge its counts.
 *
 * A release must never need memory, and an object in use has no room for a link. But every object
 * that has an owner lies in a page of that owner, and pages have room: a mask of 64 bits, each for
 * a 64th of the page, and a link. To queue an object that has been made QUEUED, set its bit; who
 * changed the mask from 0 pushes the page onto the owner's stack. To serve, pop a page, exchange
 * its mask for 0, and look through the blocks of each bit for QUEUED ones. A page is on the stack
 * from the change from 0 to the exchange, so it is there once. A bit whose object was merged
 * meanwhile by other means finds nothing; that costs a look.
 *
 * Who serves: the owner at its safepoints. If the owner is parked or its slot is an orphan, the
 * thread that queues takes the slot and serves itself, so that a blocked owner never holds memory
 * back (thread.c, "No request is lost", says why none falls between the two). Serving only merges;
 * what that leaves to be released is released after the slot was given back, in batches, because
 * releases run program code.
 */
#include "lib/object/object.h"

#define BATCH 64

static uint64_t mask_bit(const struct gyre__page *page, const gyre__header *h) {
  return (uint64_t)1 << ((uint64_t)gyre__page_index(page, h) * 64 / page->reserved);
}

static void stack_push(struct gyre__heap *owner, struct gyre__page *page) {
  /* relaxed: the compare-exchange decides. */
  void *head = gyre__load_relaxed(&owner->merges);
  do {
    page->merge_next = (struct gyre__page *)head;
    /* seq_cst: releases the link; before the look at the owner's state (gyre__merge_request()),
     * pairs with has_unsettled(). */
  } while (!gyre__cas_weak_seq_cst(&owner->merges, &head, (void *)page));
}

/* Only the slot's thread, or who has it taken, pops: so a page that is seen on top stays below what
 * is pushed. */
static struct gyre__page *stack_pop(struct gyre__heap *owner) {
  /* acquire: the page's link; pairs with stack_push(). */
  void *head = gyre__load_acquire(&owner->merges);
  while (head != NULL) {
    struct gyre__page *page = (struct gyre__page *)head;
    /* acq_rel: what was pushed below stays visible through the new top; pairs with stack_push(). */
    if (gyre__cas_weak_acq_rel(&owner->merges, &head, (void *)page->merge_next)) return page;
    /* acquire: the new top's link; pairs with stack_push(). */
    head = gyre__load_acquire(&owner->merges);
  }
  return NULL;
}

static void mask_set(struct gyre__heap *owner, struct gyre__page *page, uint64_t bits) {
  /* acq_rel: releases the object's QUEUED state to who exchanges the mask; and a later pusher's
   * push of the page comes after the exchange that cleared it. Pairs with queue_take(). */
  if (gyre__fetch_or_acq_rel(&page->merge_mask, bits) == 0) stack_push(owner, page);
}

static bool is_queued(gyre__header *h) {
  /* acquire: the object behind a live header. Pairs with header_publish(). relaxed: the merge
   * decides. */
  return gyre__load_acquire(&h->gc) != 0 &&
         gyre__state_of(gyre__load_relaxed(&h->shared)) == GYRE__QUEUED;
}

/* Merges up to BATCH queued objects of a slot that is ours or taken; each leaves us the reference
 * of its request. */
static unsigned queue_take(struct gyre__heap *owner, gyre__header *out[BATCH]) {
  unsigned n = 0;
  struct gyre__page *page;
  while (n < BATCH && (page = stack_pop(owner)) != NULL) {
    /* acq_rel: pairs with mask_set(). */
    uint64_t mask = gyre__exchange_acq_rel(&page->merge_mask, 0);
    for (; mask != 0; mask &= mask - 1) {
      uint64_t bit = (uint64_t)__builtin_ctzll(mask);
      uint32_t first = (uint32_t)((bit * page->reserved + 63) / 64);
      uint32_t end = (uint32_t)(((bit + 1) * page->reserved + 63) / 64);
      if (end > page->capacity) end = page->capacity;
      for (uint32_t i = first; i < end; i++) {
        gyre__header *h = (gyre__header *)gyre__page_block(page, i);
        if (!is_queued(h)) continue;
        if (n == BATCH) {
          mask_set(owner, page, mask);
          return n;
        }
        gyre__merge(h, true);
        out[n++] = h;
      }
    }
  }
  return n;
}

static bool has_unsettled(struct gyre__thread *slot) {
  /* seq_cst: after the slot's state was written; pairs with stack_push() and the look at the state
   * in gyre__merge_request(). */
  return gyre__load_seq_cst(&((struct gyre__heap *)slot)->merges) != NULL;
}

static void release_batch(struct gyre__objects *self, gyre__header *const *batch, unsigned n) {
  for (unsigned i = 0; i < n; i++)
    gyre__release_shared(self, batch[i]);
}

/* The owner's own, at a safepoint or on its way out. */
static void settle(struct gyre__thread *thread) {
  struct gyre__objects *self = (struct gyre__objects *)thread;
  gyre__header *batch[BATCH];
  unsigned n;
  while ((n = queue_take(&self->heap, batch)) > 0)
    release_batch(self, batch, n);
}

/* Somebody else's, if its thread is not running. */
static void settle_idle(struct gyre__objects *self, struct gyre__thread *slot) {
  gyre__header *batch[BATCH];
  while (has_unsettled(slot) && gyre__thread_take_counts(slot)) {
    unsigned n = queue_take((struct gyre__heap *)slot, batch);
    gyre__thread_give_back(slot);
    release_batch(self, batch, n);
  }
}

void gyre__merge_request(struct gyre__objects *self, struct gyre__page *page, gyre__header *h) {
  /* An object with an owner lies in that owner's page, which is no large one, and a page in use does not
   * change hands. */
  struct gyre__thread *slot = &gyre__page_heap(page)->thread;
  mask_set((struct gyre__heap *)slot, page, mask_bit(page, h));
  GYRE_WINDOW("merge/pushed");
  gyre__thread_request(slot, GYRE__REQ_SETTLE);
  /* seq_cst: after the push; pairs with state_set() in lib/thread/thread.c. */
  if ((gyre__load_seq_cst(&slot->state) & GYRE__SLOT_STATE) != GYRE__SLOT_RUNNING)
    settle_idle(self, slot);
}

static void leaving(struct gyre__thread *thread, bool detach) {
  struct gyre__objects *self = (struct gyre__objects *)thread;
  /* A thread that ends inside a hook of its own cascade: the loop is not coming back. */
  if (detach) self->in_cascade = self->young_busy = false;
  if (gyre__object_hooks.leaving) gyre__object_hooks.leaving(self, detach);
  do {
    settle(thread);
    gyre__release_all(self);
  } while (has_unsettled(thread));
}

static void __attribute__((constructor)) merge_init(void) {
  gyre__thread_hooks.settle = settle;
  gyre__thread_hooks.has_unsettled = has_unsettled;
  gyre__thread_hooks.leaving = leaving;
}
