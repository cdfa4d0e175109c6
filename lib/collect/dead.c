/* SPDX-License-Identifier: MIT */
/* What becomes of garbage: finalizers, weak references, memory.
 *
 * The condemned refer to each other and nobody else refers to them, so they are freed without
 * counting: references among them are skipped (the side words, which stay until the end, tell by
 * address who was condemned, whatever has been made of a block since), and references that lead out
 * are released as ever, which may run program code.
 *
 * Two things let program code at garbage: finalizers, and the clear hooks of visit types, which
 * release references to other objects of the garbage. So that no count falls to 0 meanwhile, and no
 * owner is asked to merge, the collector then *holds* each of them by more counts than anybody can
 * drop (GYRE__HOLD).
 */
#include "lib/collect/collect.h"

void gyre__dead_hold(struct gyre__collection *c) {
  GYRE__FOR_EACH_MEMBER(c, gyre__side_is_suspect, { gyre__hold(h); })
  c->held = true;
}

static bool is_live(uint32_t side) {
  return (side & (GYRE__SIDE_MEMBER | GYRE__SIDE_LIVE)) == (GYRE__SIDE_MEMBER | GYRE__SIDE_LIVE);
}

void gyre__dead_unhold_live(struct gyre__collection *c) {
  GYRE__FOR_EACH_MEMBER(c, is_live, {
    if (!(page->side[i] & GYRE__SIDE_KEPT)) c->resurrected++;
    gyre__unhold(c->self, h);
  })
}

void gyre__dead_finalize(struct gyre__collection *c) {
  GYRE__FOR_EACH_MEMBER(c, gyre__side_is_suspect, {
    /* relaxed: only a hint; gyre__object_finalize() decides who runs it. */
    if (gyre__load_relaxed(&h->bits) & GYRE__BIT_FINALIZE) {
      /* With a count of the queue's it is alive until its finalizer has run, and is found again. */
      if (gyre__finalizer_is_queued(c->self, h) && gyre__pending_add(h)) continue;
      gyre__object_finalize(h);
      c->finalized++;
    }
  })
}

static bool is_manual_side(uint32_t side) { return side & GYRE__SIDE_MANUAL; }

/* Is what is found dead to be kept? Then there is room for it. */
static bool is_to_be_kept(struct gyre__collection *c) {
  return c->debug & GYRE_GC_DEBUG_SAVEALL && c->suspects > 0;
}

static void suspects_keep_alive(struct gyre__collection *c) {
  GYRE__FOR_EACH_MEMBER(c, gyre__side_is_suspect, {
    (void)h;
    page->side[i] |= GYRE__SIDE_LIVE;
  })
  c->suspects = 0;
}

void gyre__dead_keep_manual(struct gyre__collection *c) {
  if (!gyre__garbage_reserve(c, c->suspects)) {
    suspects_keep_alive(c);
    return;
  }
  GYRE__FOR_EACH_MEMBER(c, gyre__side_is_suspect, {
    if (gyre__is_manual(h)) gyre__set_mark_manual_one(c, h, &page->side[i]);
  })
  gyre__set_mark_manual_rest(c);
  GYRE__FOR_EACH_MEMBER(c, is_manual_side, { gyre__garbage_keep(c, h, &page->side[i]); })
  gyre__set_survey(c);
}

void gyre__dead_condemn(struct gyre__collection *c) {
  if (is_to_be_kept(c)) {
    if (!gyre__garbage_reserve(c, c->suspects)) suspects_keep_alive(c);
    GYRE__FOR_EACH_MEMBER(c, gyre__side_is_suspect, { gyre__garbage_keep(c, h, &page->side[i]); })
    return;
  }
  if (c->has_clear && !c->held) gyre__dead_hold(c);
  GYRE__FOR_EACH_MEMBER(c, gyre__side_is_suspect, {
    page->side[i] |= GYRE__SIDE_CONDEMNED;
    c->dead++;
    /* relaxed: the world is stopped. */
    if (gyre__load_relaxed(&h->bits) & GYRE__BIT_WEAK)
      gyre__weak_clear(c->self, gyre__object_of(h), &c->weak);
  })
}

/* ---- freeing ---- */

/* Was this object condemned by this collection? `from`: a condemned one that refers to it, in
 * `from_page`. */
static inline bool is_condemned(const void *object, const gyre__header *from,
                                const struct gyre__page *from_page) {
  gyre__header *h = gyre__header_of(object);
  if (GYRE_LIKELY(((uintptr_t)h ^ (uintptr_t)from) >> GYRE__SMALL_PAGE_SHIFT == 0) &&
      !from_page->is_large)
    return gyre__side_is_condemned(from_page->side[gyre__page_index(from_page, h)]);
  struct gyre__segment *segment = gyre__segment_of(h);
  const struct gyre__page *page;
  if (GYRE_LIKELY(segment != NULL)) {
    page = gyre__segment_page(segment, h);
  } else {
    /* relaxed: the flag is constant while the object lives, and the dead hold their references. */
    if (!(gyre__load_relaxed(&h->gc) & GYRE__GC_LARGE)) return false;
    page = gyre__page_of(h);
  }
  return page->side != NULL && gyre__side_is_condemned(page->side[gyre__page_index(page, h)]);
}

static inline void slot_clear(gyre_slot *slot, const gyre__header *h,
                              const struct gyre__page *page) {
  /* relaxed: nobody else can reach the object. */
  void *target = gyre__load_relaxed(&slot->gyre__ref);
  if (target != NULL && !is_condemned(target, h, page)) gyre_release(target);
}

/* `type`: the type of the object before, and then this one's; neighbours are often of one. */
static inline void dead_clear(gyre__header *h, struct gyre__page *page, const gyre_type **type,
                              uint32_t *id) {
  if (gyre__header_type_id(h) != *id) {
    *id = gyre__header_type_id(h);
    *type = gyre__type(*id);
  }
  void *object = gyre__object_of(h);
  if (GYRE_UNLIKELY((*type)->destroy != NULL)) (*type)->destroy(object);
  if (GYRE_UNLIKELY((*type)->clear != NULL)) (*type)->clear(object);
  GYRE__FOR_EACH_SLOT(*type, h, page, slot, { slot_clear(slot, h, page); });
}

/* Leaves the header of a freed object as birth wants to find it. */
static void dead_bury(gyre__header *h) {
  /* relaxed: nobody else can reach the object, and no thread still looks at it from before: none
   * was in the middle of an operation when the world stood still, or since the last handshake, when
   * it could not be reached any more. */
  gyre__store_relaxed(&h->shared, gyre__shared_of(0, GYRE__DEFAULT));
  gyre__store_relaxed(&h->local, 0);
  gyre__store_relaxed(&h->gc, 0);
}

/* The condemned of one page, linked, given back at once. Returns how many bytes. */
static uint64_t page_free_dead(struct gyre__objects *self, struct gyre__page *page, bool clear) {
  gyre__header *first = NULL, *last = NULL;
  const gyre_type *type = NULL;
  uint32_t id = 0, count = 0;
  char *block = page->start;
  for (uint32_t i = 0; i < page->scan; i++, block += page->block_size) {
    if (!gyre__side_is_condemned(page->side[i])) continue;
    gyre__header *h = (gyre__header *)(void *)block;
    if (clear) dead_clear(h, page, &type, &id);
    dead_bury(h);
    if (first == NULL)
      first = h;
    else
      gyre__link_set(last, GYRE__TRACKED, h);
    last = h;
    count++;
  }
  if (count == 0) return 0;
  uint64_t bytes = (uint64_t)count * page->block_size;
  gyre__heap_free_chain(&self->heap, page, first, last, count);
  return bytes;
}

static void page_clear_dead(struct gyre__page *page) {
  const gyre_type *type = NULL;
  uint32_t id = 0;
  for (uint32_t i = 0; i < page->scan; i++)
    if (gyre__side_is_condemned(page->side[i]))
      dead_clear((gyre__header *)gyre__page_block(page, i), page, &type, &id);
}

/* What there is to share: pages whose condemned can be freed by anybody, one by one. */
static struct {
  /* Written by the collector while nobody helps. */
  struct gyre__page **pages;
  /* The next page, and how many there are: 0 when there is nothing to share. */
  gyre__atomic_size next, end;
  /* Threads that help. Futex word of the collector. */
  gyre__atomic_u32 helpers;
  gyre__atomic_u64 freed_bytes;
} shared_work;

static bool page_is_shared(const struct gyre__page *page) {
  return page != NULL && !page->is_large;
}

/* Frees one page's condemned; false if there is no page left. */
static bool share_take(struct gyre__objects *self) {
  /* relaxed: a number of one's own; the pages were published with `end`. */
  size_t at = gyre__fetch_add_relaxed(&shared_work.next, 1);
  /* acquire: the pages and their side words; pairs with the store in free_pages(). */
  if (at >= gyre__load_acquire(&shared_work.end)) return false;
  struct gyre__page *page = shared_work.pages[at];
  if (page_is_shared(page)) {
    uint64_t bytes = page_free_dead(self, page, true);
    /* relaxed: a figure, complete when the helpers are gone. */
    gyre__fetch_add_relaxed(&shared_work.freed_bytes, bytes);
  }
  return true;
}

/* Set while this thread helps, and, in the child of a fork that it made meanwhile, until it has done
 * so: the collector is not there. */
static __thread bool is_helping, is_abandoned;

bool gyre__dead_is_helping(void) { return is_helping; }

void gyre__dead_abandon(void) { is_abandoned = true; }

void gyre__dead_fork_child(bool is_collector) {
  /* relaxed: no other thread exists. */
  gyre__store_relaxed(&shared_work.helpers, 0);
  if (!is_collector) gyre__store_relaxed(&shared_work.end, 0);
}

bool gyre__dead_help(struct gyre__objects *self) {
  /* seq_cst: counted before the look whether there is work; pairs with free_pages(). */
  gyre__fetch_add_seq_cst(&shared_work.helpers, 1);
  bool some = false;
  /* seq_cst: see above. */
  if (gyre__load_seq_cst(&shared_work.end) != 0) {
    /* Program code that runs here is inside a collection, as in the collector. */
    self->heap.thread.is_collecting = true;
    is_helping = true;
    int cancel = gyre__cancel_put_off();
    GYRE_WINDOW("dead/helping");
    some = share_take(self);
    gyre__cancel_restore(cancel);
    is_helping = false;
    self->heap.thread.is_collecting = false;
    if (is_abandoned) {
      is_abandoned = false;
      gyre__dead_fork_child(false);
      gyre__collection_abandon();
      return false;
    }
  }
  /* acq_rel: what was freed, to the collector; pairs with free_pages(). */
  if (gyre__fetch_sub_acq_rel(&shared_work.helpers, 1) == 1)
    gyre__futex_wake(&shared_work.helpers, 1);
  return some;
}

/* The condemned in pages of segments, page by page, with whoever helps. */
static void free_pages(struct gyre__collection *c) {
  shared_work.pages = c->set.pages;
  /* relaxed: published with the end. */
  gyre__store_relaxed(&shared_work.next, 0);
  gyre__store_relaxed(&shared_work.freed_bytes, 0);
  /* release: pairs with share_take(). */
  gyre__store_release(&shared_work.end, c->set.page_count);
  while (share_take(c->self))
    gyre__breathe(c);
  /* seq_cst: before the look at the helpers; pairs with gyre__dead_help(). */
  gyre__store_seq_cst(&shared_work.end, 0);
  GYRE_WINDOW("dead/shared");
  gyre_park();
  uint32_t helpers;
  /* seq_cst: after `end` was closed; acquires what they freed. Pairs with gyre__dead_help(). */
  while ((helpers = gyre__load_seq_cst(&shared_work.helpers)) != 0)
    gyre__futex_wait(&shared_work.helpers, helpers, UINT64_MAX);
  gyre_unpark();
  /* relaxed: nobody helps any more. */
  c->freed_bytes += gyre__load_relaxed(&shared_work.freed_bytes);
}

void gyre__dead_free(struct gyre__collection *c) {
  gyre__weak_run(c->self, &c->weak);
  if (!c->has_clear) free_pages(c);
  /* Clear hooks reach other condemned objects, so all of them run first. A large object takes its
   * page with it, and others of the condemned may still refer to it, so it is freed last. */
  bool again = false;
  for (size_t p = 0; p < c->set.page_count; p++) {
    struct gyre__page *page = c->set.pages[p];
    if (page == NULL || (!c->has_clear && !page->is_large)) continue;
    page_clear_dead(page);
    again = true;
  }
  for (size_t p = 0; again && p < c->set.page_count; p++) {
    struct gyre__page *page = c->set.pages[p];
    if (page == NULL || (!c->has_clear && !page->is_large)) continue;
    if (page->is_large && gyre__side_is_condemned(page->side[0])) c->set.pages[p] = NULL;
    c->freed_bytes += page_free_dead(c->self, page, false);
  }
}
