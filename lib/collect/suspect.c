/* SPDX-License-Identifier: MIT */
/* From suspects to garbage, while the program runs: steps B0 to B3 of the essay in collect.c. */
#include <stdlib.h>

#include "lib/collect/collect.h"

/* ---- B1, B2 ---- */

static void edges_forget(struct gyre__collection *c) {
  GYRE__FOR_EACH_MEMBER(c, gyre__side_is_suspect, {
    (void)h;
    page->side[i] = GYRE__SIDE_MEMBER;
    c->set.component[(page->side - c->set.side) + i] = 0;
  })
}

static bool all_counts_agree(struct gyre__collection *c) {
  GYRE__FOR_EACH_MEMBER(c, gyre__side_is_suspect, {
    if (gyre__has_outside_counts(c, h, page->side[i])) return false;
  })
  return true;
}

static void drop_components_with_outside_counts(struct gyre__collection *c) {
  GYRE__FOR_EACH_MEMBER(c, gyre__side_is_suspect, {
    if (gyre__has_outside_counts(c, h, page->side[i]))
      *gyre__component_of(c, page, i) |= GYRE__COMPONENT_LIVE;
  })
}

/* ---- B3 ---- */

/* Is there more to be done for the object's component than to free it? */
static bool is_special(const struct gyre__collection *c, gyre__header *h) {
  /* relaxed: set by whoever held a count, before the last handshake, or the object is touched. */
  return gyre__load_relaxed(&h->bits) & (GYRE__BIT_WEAK | GYRE__BIT_FINALIZE) ||
         (c->has_clear && gyre__header_type(h)->clear != NULL) ||
         (c->has_manual && gyre__is_manual(h)) || c->debug & GYRE_GC_DEBUG_SAVEALL;
}

static bool is_touched(gyre__header *h) {
  /* relaxed: ordered by the handshake, or by the control block's lock; pairs with gyre__touch() and
   * gyre_weak_get(). */
  return gyre__load_relaxed(&h->bits) & GYRE__BIT_TOUCHED;
}

/* Marks the components with a touched member, and those that are special. True if there are any. */
static bool components_mark(struct gyre__collection *c) {
  bool any = false;
  GYRE__FOR_EACH_MEMBER(c, gyre__side_is_suspect, {
    uint32_t flags = (is_touched(h) ? GYRE__COMPONENT_LIVE : 0) |
                     (is_special(c, h) ? GYRE__COMPONENT_SPECIAL : 0);
    if (GYRE_LIKELY(flags == 0)) continue;
    *gyre__component_of(c, page, i) |= flags;
    any = true;
  })
  return any;
}

/* Drops the components with a touched member, condemns those that are not special, and returns how
 * many members the others have. */
static size_t condemn_plain(struct gyre__collection *c, bool some_are_live) {
  bool all = !components_mark(c) && !some_are_live;
  size_t special = 0;
  GYRE__FOR_EACH_MEMBER(c, gyre__side_is_suspect, {
    (void)h;
    uint32_t component = all ? 0 : *gyre__component_of(c, page, i);
    if (component & GYRE__COMPONENT_LIVE & ~GYRE__COMPONENT_ROOT) {
      page->side[i] |= GYRE__SIDE_LIVE;
      gyre__page_has_promoted(page); /* it is to be looked at again */
    } else if (component & GYRE__COMPONENT_SPECIAL & ~GYRE__COMPONENT_ROOT) {
      special++;
    } else {
      page->side[i] |= GYRE__SIDE_CONDEMNED;
      c->dead++;
    }
  })
  return special;
}

/* A member of a special component. */
struct special {
  const uint32_t *component;
  gyre__header *h;
  uint32_t *side;
  struct gyre__weak_control *control; /* locked, or NULL */
};

static int compare(const void *a, const void *b) {
  const uint32_t *x = ((const struct special *)a)->component;
  const uint32_t *y = ((const struct special *)b)->component;
  return (x > y) - (x < y);
}

static size_t specials_list(struct gyre__collection *c, struct special *out) {
  size_t n = 0;
  GYRE__FOR_EACH_MEMBER(c, gyre__side_is_suspect, {
    struct special *member = &out[n++];
    member->component = gyre__component_of(c, page, i);
    member->h = h;
    member->side = &page->side[i];
  })
  return n;
}

static void weak_unlock(struct gyre__collection *c, struct special *member) {
  if (member->control != NULL) gyre__weak_unlock(c->self, member->control);
}

/* Of a component that is garbage, and locked: keeps what is uncollectable. True if any of the rest has a
 * finalizer to run. */
static bool keep_manual(struct gyre__collection *c, struct special *first, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (gyre__side_is_suspect(*first[i].side) && gyre__is_manual(first[i].h))
      gyre__set_mark_manual_one(c, first[i].h, first[i].side);
  c->weak_locked = true;
  gyre__set_mark_manual_rest(c);
  c->weak_locked = false;
  bool finalizable = false;
  for (size_t i = 0; i < n; i++) {
    if (*first[i].side & GYRE__SIDE_MANUAL)
      gyre__garbage_keep(c, first[i].h, first[i].side);
    else /* relaxed: as in condemn_special(). */
      finalizable |= (gyre__load_relaxed(&first[i].h->bits) & GYRE__BIT_FINALIZE) != 0;
  }
  return finalizable;
}

/* One component, with its weak references locked: is it still garbage? */
static void condemn_special(struct gyre__collection *c, struct special *first, size_t n) {
  bool touched = false, finalizable = false, clear = false, too_many = false;
  for (size_t i = 0; i < n; i++) {
    gyre__header *h = first[i].h;
    first[i].control = gyre__weak_lock(c->self, gyre__object_of(h));
    GYRE_WINDOW("prove/weak_locked");
    /* relaxed: nobody reaches the object; if somebody does, it is touched. */
    finalizable |= (gyre__load_relaxed(&h->bits) & GYRE__BIT_FINALIZE) != 0;
    clear |= gyre__header_type(h)->clear != NULL ||
             (first[i].control != NULL && gyre__weak_has_entries(first[i].control));
    too_many |= (*first[i].side & GYRE__SIDE_EDGES) == GYRE__SIDE_EDGES;
  }
  for (size_t i = 0; i < n; i++)
    touched |= is_touched(first[i].h);
  bool save_all = c->debug & GYRE_GC_DEBUG_SAVEALL;
  if ((c->has_manual || save_all) && !touched) {
    /* Without room on the list, it all has to wait. */
    touched = !gyre__garbage_reserve(c, n);
    if (!touched && c->has_manual) finalizable = keep_manual(c, first, n);
  }
  /* Who makes another finalizer in a finalizer has to wait for another collection. */
  bool live = touched || (finalizable && c->held) || (too_many && (finalizable || clear));
  for (size_t i = 0; i < n; i++) {
    gyre__header *h = first[i].h;
    if (*first[i].side & GYRE__SIDE_KEPT) {
    } else if (live) {
      *first[i].side |= GYRE__SIDE_LIVE;
      gyre__page_has_promoted(gyre__page_of(h));
    } else if (finalizable) {
      gyre__hold(h);
      c->suspects++;
    } else if (save_all) {
      gyre__garbage_keep(c, h, first[i].side);
    } else {
      *first[i].side |= GYRE__SIDE_CONDEMNED;
      c->dead++;
      if (clear && !c->held) gyre__hold(h);
      if (first[i].control != NULL)
        gyre__weak_clear_locked(c->self, first[i].control, gyre__object_of(h), &c->weak);
    }
    weak_unlock(c, &first[i]);
  }
}

static void keep_all_suspects(struct gyre__collection *c) {
  GYRE__FOR_EACH_MEMBER(c, gyre__side_is_suspect, {
    (void)h;
    page->side[i] |= GYRE__SIDE_LIVE;
  })
}

static void condemn_specials(struct gyre__collection *c, size_t n) {
  size_t bytes = n * sizeof(struct special);
  struct special *members = gyre__os_map(bytes, gyre__os_page_size());
  if (members == NULL) {
    keep_all_suspects(c);
    c->out_of_memory = true;
    return;
  }
  specials_list(c, members);
  qsort(members, n, sizeof *members, compare);
  for (size_t first = 0, end; first < n; first = end) {
    end = first + 1;
    while (end < n && members[end].component == members[first].component)
      end++;
    condemn_special(c, &members[first], end - first);
  }
  gyre__os_unmap(members, bytes);
}

/* ---- all of it ---- */

static uint64_t lap(uint64_t *since_ns) {
  uint64_t now = gyre__clock_ns(), ns = now - *since_ns;
  *since_ns = now;
  return ns;
}

static void phase_over(struct gyre__collection *c, unsigned phase, uint64_t ns) {
  c->phase_ns[phase] += ns;
  gyre__collection_phase(c, phase, ns);
}

void gyre__suspects_prove(struct gyre__collection *c) {
  uint64_t since_ns = gyre__clock_ns();
  /* B0. The first time, the survey has done it. */
  if (c->held) {
    GYRE__FOR_EACH_MEMBER(c, gyre__side_is_suspect, { gyre__suspect_clear(c, page, i, h); })
  }
  GYRE_WINDOW("prove/cleared");
  uint32_t closed = c->held ? GYRE__MODE_CLOSED : 0;
  gyre__collection_handshake(c, GYRE__MODE_LOGGING | closed);
  gyre__set_join_suspects(c);
  GYRE_WINDOW("prove/counted");
  bool agree = all_counts_agree(c);
  if (!agree) {
    c->aging = true;
    gyre__set_mark_live(c);
    c->aging = false;
    edges_forget(c);
    gyre__set_join_suspects(c);
    GYRE_WINDOW("prove/recounted");
    drop_components_with_outside_counts(c);
  }
  GYRE_WINDOW("prove/logged");
  gyre__collection_handshake(c, GYRE__MODE_PINNED | GYRE__MODE_CLOSED);
  phase_over(c, GYRE__PHASE_PROVE, lap(&since_ns));
  GYRE_WINDOW("prove/condemning");
  c->suspects = 0;
  size_t special = condemn_plain(c, !agree);
  if (special > 0) condemn_specials(c, special);
  phase_over(c, GYRE__PHASE_CONDEMN, lap(&since_ns));
}
