/* SPDX-License-Identifier: MIT */
/* What becomes of the dead: finalizers, weak references, memory.
 *
 * The dead refer to each other and nobody else refers to them, so they are freed without counting:
 * references among them are skipped (the side words, which stay until the end, tell by address who
 * was dead, whatever has been made of a block since), and references that lead out are released as
 * ever, which may run program code.
 *
 * Two things let program code at dead objects: finalizers, and the clear hooks of visit types,
 * which release references to other dead objects. So that no count falls to 0 meanwhile, the
 * collection then *holds* each of them: it merges its counts, so that nobody is asked to merge
 * later, and adds one.
 */
#include "lib/collect/collect.h"

/* Calls body for every dead member: `page`, `i` and `h` are set. Not up to the page's capacity,
 * which its owner may raise while the world runs; the side words beyond it are 0. */
#define FOR_EACH_DEAD(c, body)                                                                     \
  for (size_t gyre__p = 0; gyre__p < (c)->set.page_count; gyre__p++) {                             \
    struct gyre__page *page = (c)->set.pages[gyre__p];                                             \
    for (uint32_t i = 0; i < page->reserved; i++) {                                                \
      if (!gyre__side_is_dead(page->side[i])) continue;                                            \
      gyre__header *h = (gyre__header *)gyre__page_block(page, i);                                 \
      body                                                                                         \
    }                                                                                              \
  }

void gyre__dead_hold(struct gyre__collection *c) {
  FOR_EACH_DEAD(c, {
    /* relaxed: the world is stopped. */
    if (gyre__load_relaxed(&h->owner) != 0) gyre__merge(h, false);
    gyre__fetch_add_relaxed(&h->shared, GYRE__ONE);
  })
  c->held = true;
}

void gyre__dead_unhold(struct gyre__collection *c) {
  for (size_t p = 0; p < c->set.page_count; p++) {
    struct gyre__page *page = c->set.pages[p];
    for (uint32_t i = 0; i < page->capacity; i++) {
      if (!(page->side[i] & GYRE__SIDE_MEMBER)) continue;
      gyre__header *h = (gyre__header *)gyre__page_block(page, i);
      /* relaxed: the world is stopped. */
      if (gyre__state_of(gyre__load_relaxed(&h->shared)) != GYRE__IMMORTAL_STATE)
        gyre__fetch_sub_relaxed(&h->shared, GYRE__ONE);
    }
  }
  c->held = false;
}

void gyre__dead_finalize(struct gyre__collection *c) {
  FOR_EACH_DEAD(c, {
    /* relaxed: only a hint; gyre__object_finalize() decides who runs it. */
    if (gyre__load_relaxed(&h->bits) & GYRE__BIT_FINALIZE) {
      gyre__object_finalize(h);
      c->finalized++;
    }
  })
}

void gyre__dead_clear_weak(struct gyre__collection *c) {
  FOR_EACH_DEAD(c, {
    /* relaxed: the world is stopped. */
    if (gyre__load_relaxed(&h->bits) & GYRE__BIT_WEAK)
      gyre__weak_clear(c->self, gyre__object_of(h), &c->weak);
  })
}

/* ---- freeing ---- */

/* Was this object found dead by this collection? */
static bool is_dead(const void *object) {
  gyre__header *h = gyre__header_of(object);
  struct gyre__segment *segment = gyre__segment_of(h);
  const struct gyre__page *page;
  if (GYRE_LIKELY(segment != NULL)) {
    page = gyre__segment_page(segment, h);
  } else {
    /* relaxed: the flag is constant while the object lives, and the dead hold their references. */
    if (!(gyre__load_relaxed(&h->gc) & GYRE__GC_LARGE)) return false;
    page = gyre__page_of(h);
  }
  return page->side != NULL && gyre__side_is_dead(page->side[gyre__page_index(page, h)]);
}

static void dead_clear(gyre__header *h, struct gyre__page *page) {
  gyre_type *type = gyre__header_type(h);
  void *object = gyre__object_of(h);
  if (type->destroy != NULL) type->destroy(object);
  if (type->clear != NULL) type->clear(object);
  GYRE__FOR_EACH_SLOT(type, h, page, slot, {
    /* relaxed: nobody else can reach the object. */
    void *target = gyre__load_relaxed(&slot->gyre__ref);
    if (target != NULL && !is_dead(target)) gyre_release(target);
  });
}

/* Leaves the header of a freed object as birth wants to find it. */
static void dead_bury(gyre__header *h) {
  /* relaxed: nobody else can reach the object, and no thread still looks at it from before: none
   * was in the middle of an operation when the world stood still. */
  gyre__store_relaxed(&h->shared, gyre__shared_of(0, GYRE__DEFAULT));
  gyre__store_relaxed(&h->local, 0);
  gyre__store_relaxed(&h->gc, 0);
}

static void **link_of(gyre__header *h) {
  return (void **)(void *)((char *)h + GYRE__LINK_OFFSET(GYRE__TRACKED));
}

/* The dead of one page, linked, given back at once. */
static void page_free_dead(struct gyre__collection *c, struct gyre__page *page, bool clear) {
  gyre__header *first = NULL, *last = NULL;
  uint32_t count = 0;
  for (uint32_t i = 0; i < page->reserved; i++) {
    if (!gyre__side_is_dead(page->side[i])) continue;
    gyre__header *h = (gyre__header *)gyre__page_block(page, i);
    if (clear) dead_clear(h, page);
    dead_bury(h);
    if (first == NULL)
      first = h;
    else
      *link_of(last) = h;
    last = h;
    count++;
  }
  if (count == 0) return;
  c->freed_bytes += (uint64_t)count * page->block_size;
  *link_of(last) = NULL;
  gyre__heap_free_chain(&c->self->heap, page, first, last, count);
}

static void page_clear_dead(struct gyre__page *page) {
  for (uint32_t i = 0; i < page->reserved; i++)
    if (gyre__side_is_dead(page->side[i]))
      dead_clear((gyre__header *)gyre__page_block(page, i), page);
}

void gyre__dead_free(struct gyre__collection *c) {
  /* Clear hooks reach other dead objects, so all of them run first. A large object takes its page
   * with it, and others of the dead may still refer to it, so it is freed last. */
  bool again = c->has_clear;
  for (size_t p = 0; p < c->set.page_count; p++) {
    struct gyre__page *page = c->set.pages[p];
    if (c->has_clear || page->is_large) {
      page_clear_dead(page);
      again = true;
    } else {
      page_free_dead(c, page, true);
    }
  }
  for (size_t p = 0; again && p < c->set.page_count; p++) {
    struct gyre__page *page = c->set.pages[p];
    if (!c->has_clear && !page->is_large) continue;
    if (page->is_large && gyre__side_is_dead(page->side[0])) c->set.pages[p] = NULL;
    page_free_dead(c, page, false);
  }
}
