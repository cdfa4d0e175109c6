/* SPDX-License-Identifier: MIT */
/* Limbo: blocks of destroyed objects that a collection may still look at.
 *
 * While a thread's mode is not IDLE, a collection is reading the heap, and what dies may be one of
 * its candidates. Such an object is destroyed as usual, but its block waits: in the thread's limbo
 * until the thread learns that the collection is over, either because it reads IDLE or because it
 * reads the number of a later collection (it may have been parked in between). Then the blocks are
 * *ripe*, and are freed at leisure: what was dead before a collection began is none of its
 * candidates, so they need not be gone before the next. A young object that its owner frees was
 * never a candidate and does not wait; but in mode STILL, in which somebody walks through all objects
 * and reads their slots, it does, unless it was born in that mode: those the walk leaves out.
 *
 * The header of an object in limbo says that it is dead, and holds the chain's link, so that a
 * collector that comes by finds nothing to follow.
 *
 * While the heap is being copied (GYRE__MODE_KEPT, lib/observe/copy.c), everything that dies waits:
 * whoever copies has found young objects and leaves as well.
 */
#include "lib/object/object.h"

static bool must_wait(struct gyre__objects *self, const gyre__header *h) {
  uint32_t mode = gyre__mode_of(self->heap.thread.mode);
  if (mode == GYRE__MODE_IDLE) return false;
  if (self->heap.thread.mode & GYRE__MODE_KEPT) return true;
  /* relaxed: a dead object is nobody's but ours; but one that was merged while young may be promoted
   * by its former owner at this moment, so that its age is not to be trusted. */
  uint32_t gc = gyre__load_relaxed(&h->gc);
  return gyre__load_relaxed(&h->owner) == 0 || (gc & GYRE__GC_AGE) != GYRE__GC_YOUNG ||
         (mode == GYRE__MODE_STILL && !(gc & GYRE__GC_BESIDE));
}

static void block_free(struct gyre__objects *self, gyre__header *h, struct gyre__page *page) {
  /* relaxed: the block is nobody's but ours. */
  gyre__store_relaxed(&h->gc, 0);
  gyre__heap_free(&self->heap, page, h, (enum gyre__kind)page->kind);
}

static void limbo_put(struct gyre__objects *self, gyre__header *h) {
  /* relaxed: ours. An object without references has not been marked dead yet. */
  gyre__store_relaxed(&h->gc, (uint8_t)(gyre__load_relaxed(&h->gc) | GYRE__GC_DEAD));
  gyre__chain_push(&self->limbo, h);
}

/* Gives the block back, or has it wait. */
static inline void block_part_with(struct gyre__objects *self, gyre__header *h,
                                   struct gyre__page *page) {
  if (GYRE_UNLIKELY(must_wait(self, h))) {
    limbo_put(self, h);
    return;
  }
  block_free(self, h, page);
}

/* Of an object that no figure of the collector's counts. */
static GYRE_NOINLINE void apart_free(struct gyre__objects *self, gyre__header *h,
                                     struct gyre__page *page) {
  /* relaxed: a dead object is nobody's but ours. */
  if (!(gyre__load_relaxed(&h->bits) & GYRE__BIT_UNTRACKED)) gyre__object_hooks.frozen_gone();
  block_part_with(self, h, page);
}

void gyre__object_free(struct gyre__objects *self, gyre__header *h, struct gyre__page *page) {
  if (page->kind != GYRE__TRACKED) {
    if (GYRE_UNLIKELY(self->heap.thread.mode & GYRE__MODE_KEPT))
      limbo_put(self, h);
    else
      block_free(self, h, page);
    return;
  }
  gyre__young_unlog(self, h);
  /* relaxed: a dead object is nobody's but ours. */
  uint32_t gc = gyre__load_relaxed(&h->gc);
  if (GYRE_UNLIKELY(gc & GYRE__GC_APART)) {
    apart_free(self, h, page);
    return;
  }
  if ((gc & GYRE__GC_AGE) > GYRE__GC_YOUNG) {
    self->gone_objects++;
    self->gone_bytes += gyre__page_usable(page);
  }
  block_part_with(self, h, page);
}

void gyre__ripe_free(struct gyre__objects *slot, uint64_t *budget) {
  for (; slot->ripe.first != NULL && *budget > 0; --*budget) {
    gyre__header *h = gyre__chain_pop(&slot->ripe);
    block_free(slot, h, gyre__page_of(h));
  }
}

/* The thread has adopted another mode word. */
static void mode_changed(struct gyre__thread *thread, uint32_t old_word) {
  struct gyre__objects *self = (struct gyre__objects *)thread;
  bool over = gyre__mode_of(thread->mode) == GYRE__MODE_IDLE ||
              gyre__mode_epoch(thread->mode) != gyre__mode_epoch(old_word);
  if (over && self->limbo.first != NULL) {
    GYRE_WINDOW("limbo/ripe");
    gyre__chain_move(&self->ripe, &self->limbo);
    gyre__thread_request(thread, GYRE__REQ_RELEASE);
  }
  bool was_still = gyre__mode_of(old_word) == GYRE__MODE_STILL;
  bool is_still = gyre__mode_of(thread->mode) == GYRE__MODE_STILL;
  if (was_still || is_still) gyre__object_hooks.young_still(self, was_still, is_still);
  uint32_t how = thread->mode & GYRE__MODE_PROMOTES;
  if (how != 0 && gyre__mode_epoch(thread->mode) != gyre__mode_epoch(old_word) &&
      gyre__object_hooks.young_promote)
    gyre__object_hooks.young_promote(self, how == GYRE__MODE_PROMOTE_FRESH);
}

static gyre__header *no_log[1];

static void slot_init(struct gyre__thread *thread) {
  struct gyre__objects *slot = (struct gyre__objects *)thread;
  slot->young_base = slot->heap.thread.base.gyre__young_limit = no_log + 1;
  /* relaxed: nobody sees the slot yet. */
  gyre__store_relaxed(&slot->heap.thread.base.gyre__young_end, (void *)slot->young_base);
}

static void __attribute__((constructor)) limbo_init(void) {
  gyre__thread_hooks.slot_init[1] = slot_init;
  gyre__thread_hooks.mode_changed = mode_changed;
}
