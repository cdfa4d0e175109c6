/* SPDX-License-Identifier: MIT */
/* Biased reference counts (Choi, Shull, Torrellas, "Biased reference counting", PACT 2018), with a
 * queue that holds a reference, and with loads from slots that count first and look again.
 *
 * The owner counts in `local` with plain steps; everybody else counts in `shared` (refcount.h). The
 * object lives while the two together are above 0, and only these can find that they are not:
 *
 *   the owner, when local falls to 0:
 *       shared (DEFAULT, 0)     nobody else has a reference: the object is dead, without any atomic
 *                               step.
 *       otherwise               the owner gives up: owner := 0, state := MERGED. If that leaves 0,
 *                               it is dead.
 *   a thread that takes the count of a MERGED object to 0: dead.
 *   a thread that would take the count of a DEFAULT object below 0: cannot know what is left in
 *       local. It leaves its reference to a merge request instead: state := QUEUED (merge.c).
 *       Whoever serves the request adds local to the count, makes the state MERGED, and drops the
 *       request's reference.
 *
 * A load from a slot finds a pointer whose object may die before it is counted. So:
 *
 *       loader:  p = slot; shared += 1; if slot == p: counted.
 *                Otherwise shared -= 1, and again from the start.
 *       owner:   slot := something else (an exchange); local -= 1; at 0: look at shared.
 *
 * Both write first and look afterwards, sequentially consistently, so either the owner sees the
 * loader's count or the loader sees that the slot has changed. A count that comes too late lands on
 * a dead block, perhaps on a new object in it; that is harmless, since it is taken off again, and
 * since memory is type-stable (lib/heap) and birth leaves a word that is not at rest as it is
 * (object.c).
 *
 * An object with a finalizer, with weak references, or one that gyre_try_retain() may be used on,
 * is *special*: there is no slot to look at again. Its owner merges before it drops the last
 * reference, so that it dies by one atomic step, (MERGED, 1) -> (MERGED, 0), after which nobody can
 * count on it. Its finalizer runs just before that step, in the thread that holds the last counted
 * reference, so that a weak reference taken meanwhile finds an object that lives.
 *
 * The protocol is model-checked, with reuse of blocks, parking and thread exit
 * (tests/model/README.md).
 */
#include "lib/object/object.h"

/* ---- steps on the shared word ---- */

/* Makes an object immortal whose count has become too large: it can no longer be told. */
static void immortalize_overflow(gyre__header *h, uint32_t shared) {
  /* relaxed: from now on nobody looks at the count. */
  while (gyre__state_of(shared) != GYRE__IMMORTAL_STATE &&
         !gyre__cas_weak_relaxed(&h->shared, &shared, shared | GYRE__IMMORTAL_STATE)) {
  }
}

static bool count_is_stuck(int32_t count) {
  return count >= GYRE__COUNT_LIMIT || count <= -GYRE__COUNT_LIMIT;
}

gyre__atomic_u32 *gyre__stopped_count(const gyre__header *h) {
  /* relaxed: this and what follows changes in a stopped world only. */
  if (!(gyre__load_relaxed(&h->gc) & GYRE__GC_APART)) return NULL;
  struct gyre__page *page = gyre__page_of(h);
  if (page->frozen_counts == NULL) return NULL;
  gyre__atomic_u32 *word = &page->frozen_counts[gyre__page_index(page, h)];
  /* relaxed: as above. */
  return gyre__count_word_is_stopped(gyre__load_relaxed(word)) ? word : NULL;
}

/* An immortal object is counted, by 1 or -1: nobody wants to know, but for those that are immortal for a
 * time. */
static void immortal_count(const gyre__header *h, uint32_t by) {
  gyre__atomic_u32 *word = gyre__stopped_count(h);
  GYRE_WINDOW("refcount/stopped");
  /* relaxed: read in a stopped world; nothing hangs on it before. */
  if (GYRE_UNLIKELY(word != NULL)) gyre__fetch_add_relaxed(word, by);
}

bool gyre__try_count(gyre__header *h) {
  /* relaxed: the compare-exchange decides. */
  uint32_t shared = gyre__load_relaxed(&h->shared);
  for (;;) {
    if (gyre__state_of(shared) == GYRE__IMMORTAL_STATE) {
      immortal_count(h, 1);
      return true;
    }
    if (shared == gyre__shared_of(0, GYRE__MERGED)) return false;
    if (GYRE_UNLIKELY(count_is_stuck(gyre__count_of(shared)))) {
      immortalize_overflow(h, shared);
      return true;
    }
    /* seq_cst: before the second look at the slot; pairs with the owner's look at the shared word
     * after the slot was emptied (release_owned()). */
    if (gyre__cas_weak_seq_cst(&h->shared, &shared,
                               (shared + GYRE__ONE) | gyre__published_in(shared))) {
      gyre__note_shared(h, shared);
      return true;
    }
  }
}

/* Retains an object that the caller has a reference to, so that it cannot be dead. */
static void retain_shared(gyre__header *h) {
  /* relaxed: the caller's reference keeps the object alive; nothing is read on the strength of this
   * count. */
  uint32_t shared = gyre__load_relaxed(&h->shared);
  for (;;) {
    if (gyre__state_of(shared) == GYRE__IMMORTAL_STATE) {
      immortal_count(h, 1);
      return;
    }
    GYRE_ASSERT(shared != gyre__shared_of(0, GYRE__MERGED));
    if (GYRE_UNLIKELY(count_is_stuck(gyre__count_of(shared)))) {
      immortalize_overflow(h, shared);
      return;
    }
    /* relaxed: as above. */
    if (gyre__cas_weak_relaxed(&h->shared, &shared,
                               (shared + GYRE__ONE) | gyre__published_in(shared))) {
      gyre__note_shared(h, shared);
      return;
    }
  }
}

void gyre__share(gyre__header *h) {
  /* relaxed: constant for a leaf, which is in no cycle. */
  if (!(gyre__load_relaxed(&h->bits) & GYRE__BIT_COMPLEX)) return;
  /* relaxed: figures for when to collect. */
  if (gyre__self->id != 0)
    gyre__store_relaxed(&((struct gyre__objects *)gyre__self)->is_sharing, 1);
  uint32_t owner = gyre__load_relaxed(&h->owner);
  if (owner == 0) return;
  struct gyre__objects *slot = (struct gyre__objects *)gyre__thread_slot(owner);
  /* relaxed: as above. */
  if (slot != NULL && !gyre__load_relaxed(&slot->is_sharing))
    gyre__store_relaxed(&slot->is_sharing, 1);
}

void gyre__publish(gyre__header *h) {
  /* relaxed: the compare-exchange decides. */
  uint32_t shared = gyre__load_relaxed(&h->shared);
  for (;;) {
    uint32_t with = shared | gyre__published_in(shared);
    /* relaxed: comes before the slot's compare-exchange, which releases it to the owner, who reads
     * the slot (acquire) before the flag; pairs with lib/collect/young.c. */
    if (with == shared) return;
    /* relaxed: as above. */
    if (gyre__cas_weak_relaxed(&h->shared, &shared, with)) {
      gyre__note_shared(h, shared);
      return;
    }
  }
}

/* Does the object belong to this thread's slot? Also right in a thread that is not attached, whose
 * id no object has, and while the thread's bias id is set to force slow paths. */
static bool is_own(const gyre__header *h) {
  uint32_t id = gyre__self->id;
  /* relaxed: "mine" is never stale (object.h). */
  return id != 0 && gyre__load_relaxed(&h->owner) == id;
}

/* Keeps static objects from having their thread attached. */
static bool is_immortal_for_ever(const gyre__header *h) {
  /* relaxed: once immortal, always, but for what is frozen. */
  return gyre__state_of(gyre__load_relaxed(&h->shared)) == GYRE__IMMORTAL_STATE &&
         !(gyre__load_relaxed(&h->gc) & GYRE__GC_APART);
}

/* Everything but an own object whose count is far from its limit. */
static GYRE_NOINLINE void retain_any(void *object) {
  gyre__header *h = gyre__header_of(object);
  if (is_immortal_for_ever(h) && !is_own(h)) return;
  gyre__attach_self();
  if (gyre__is_logging()) gyre__touch(h);
  if (!is_own(h)) {
    retain_shared(h);
    return;
  }
  /* relaxed: ours alone. */
  uint32_t local = gyre__load_relaxed(&h->local);
  GYRE_REQUIRE(local != 0, "retain of a dead object at %p", object);
  if (local == GYRE__LOCAL_MARK - 1) /* relaxed: the compare-exchange in there decides. */
    immortalize_overflow(h, gyre__load_relaxed(&h->shared));
  else
    /* relaxed: ours alone. */
    gyre__store_relaxed(&h->local, local + 1);
}

/* Owner and bits of an object at once. For the paths that a thread takes all the time while it logs. */
static inline uint32_t header_word_of(const gyre__header *h) {
  /* relaxed: "mine" is never stale; a bit that is not seen yet is set again. */
  return gyre__load_relaxed((const gyre__header_word_t *)(const void *)&h->owner);
}

/* As is_own(). Without an owner, local may be a link, or what a stopped count has kept; and 0 is the id of all
 * threads that are not attached. */
static inline bool is_owner(uint32_t word) {
  uint32_t owner = word & GYRE__OWNER_MASK;
  return owner != 0 && owner == gyre__self->id;
}

/* gyre__touch() if this thread logs, with the bits at hand: leaves only while the heap is copied. */
static inline void touch_if_logging(gyre__header *h, uint32_t word) {
  uint32_t mask = (uint32_t)(GYRE__BIT_COMPLEX | GYRE__BIT_TOUCHED) << 24;
  bool is_due = (word & mask) == (uint32_t)GYRE__BIT_COMPLEX << 24;
  if (GYRE_UNLIKELY(is_due || gyre__is_copied()) && gyre__is_logging()) gyre__touch(h);
}

void gyre__retain_slow(void *object) {
  gyre__header *h = gyre__header_of(object);
  uint32_t word = header_word_of(h);
  /* relaxed: ours alone, if it is ours. */
  uint32_t local = gyre__load_relaxed(&h->local);
  if (GYRE_UNLIKELY(!is_owner(word) || local - 1 >= GYRE__LOCAL_MARK - 2)) {
    retain_any(object);
    return;
  }
  touch_if_logging(h, word);
  /* relaxed: ours alone. */
  gyre__store_relaxed(&h->local, local + 1);
}

/* ---- release by the owner ---- */

/* The owner gives up one of several counts: while it logs, or of an armed object. */
static inline bool release_own_count(gyre__header *h) {
  uint32_t word = header_word_of(h);
  /* relaxed: ours alone, if it is ours. */
  uint32_t local = gyre__load_relaxed(&h->local);
  if (!is_owner(word) || local < 2) return false;
  touch_if_logging(h, word);
  /* relaxed: ours alone. */
  gyre__store_relaxed(&h->local, local - 1);
  if (GYRE_UNLIKELY(word & GYRE__ARMED_MASK))
    gyre__object_hooks.dropped((struct gyre__objects *)gyre__self, h);
  return true;
}

static void release_owned(struct gyre__objects *self, gyre__header *h) {
  if (release_own_count(h)) return;
  if (gyre__is_logging()) gyre__touch(h);
  /* relaxed: ours alone. */
  GYRE_REQUIRE(gyre__load_relaxed(&h->local) != 0, "double release of the object at %p",
               gyre__object_of(h));
  if (gyre__keeps_late(self, h)) return;
  /* relaxed: ours alone; a loader looks at the shared word only. */
  gyre__store_relaxed(&h->local, 0);
  GYRE_WINDOW("refcount/local_zero");
  /* seq_cst: after the exchange that emptied the last slot, whoever did it; pairs with
   * gyre__try_count(). It also acquires what others did with the object before their releases. */
  uint32_t shared = gyre__load_seq_cst(&h->shared);
  /* acquire: after the look at the shared word: a flag set by a thread whose count has come back is
   * seen with that; pairs with the fetch_or in lib/weak. */
  if (gyre__load_acquire(&h->bits) & GYRE__BITS_SPECIAL) {
    /* relaxed: ours alone. */
    gyre__store_relaxed(&h->local, 1);
    gyre__merge(h, false);
    gyre__release_shared(self, h);
    return;
  }
  if (shared != gyre__shared_of(0, GYRE__DEFAULT) && gyre__merge(h, false) != 0) return;
  GYRE_WINDOW("refcount/nobody");
  gyre__object_die(self, h);
}

/* ---- release by the others ---- */

void gyre__release_shared(struct gyre__objects *self, gyre__header *h) {
  /* The page is looked up before the reference is given up, since after that the object may be
   * gone. */
  struct gyre__page *page = NULL;
  if (gyre__is_logging()) gyre__touch(h);
  /* relaxed: the compare-exchange decides. */
  uint32_t shared = gyre__load_relaxed(&h->shared);
  for (;;) {
    int32_t count = gyre__count_of(shared);
    switch (gyre__state_of(shared)) {
    case GYRE__IMMORTAL_STATE:
      immortal_count(h, UINT32_MAX);
      return;
    case GYRE__MERGED:
      GYRE_REQUIRE(count > 0, "double release of the object at %p", gyre__object_of(h));
      if (count == 1 && gyre__keeps_late(self, h)) return;
      /* acquire: as in release_owned(). */
      if (count == 1 && gyre__load_acquire(&h->bits) & GYRE__BIT_FINALIZE) {
        if (gyre__pending_take(h)) return;
        gyre__object_finalize(h);
        /* relaxed: the compare-exchange decides. */
        shared = gyre__load_relaxed(&h->shared);
        continue;
      }
      /* acq_rel: releases what we did with the object to whoever frees it, and acquires that from
       * all others if it is us. Pairs with itself. */
      if (!gyre__cas_weak_acq_rel(&h->shared, &shared, shared - GYRE__ONE)) continue;
      if (count == 1) gyre__object_die(self, h);
      return;
    case GYRE__DEFAULT:
      if (count == 0) {
        page = gyre__page_of(h);
        /* acq_rel: our reference passes to the request; releases as above. Pairs with the acq_rel
         * compare-exchange of gyre__merge(). */
        if (!gyre__cas_weak_acq_rel(&h->shared, &shared,
                                    gyre__shared_of(0, GYRE__QUEUED) | GYRE__PUBLISHED))
          continue;
        GYRE_WINDOW("refcount/queued");
        gyre__note_shared(h, shared);
        gyre__merge_request(self, page, h);
        return;
      }
      break;
    default:
      break;
    }
    if (GYRE_UNLIKELY(count_is_stuck(count))) {
      immortalize_overflow(h, shared);
      return;
    }
    /* acq_rel: releases as above; to the owner's seq_cst look in release_owned() too. */
    if (gyre__cas_weak_acq_rel(&h->shared, &shared,
                               (shared - GYRE__ONE) | gyre__published_in(shared)))
      return;
  }
}

/* Everything but the last release of a plain leaf by its owner. */
static GYRE_NOINLINE void release_any(gyre__header *h) {
  if (is_immortal_for_ever(h) && !is_own(h)) return;
  struct gyre__objects *self = gyre__objects_self();
  if (is_own(h))
    release_owned(self, h);
  else
    gyre__release_shared(self, h);
}

/* The most common death, in one go: release_owned(), gyre__object_die() and gyre__object_free() for
 * an object of which there is nothing to take apart. */
void gyre__release_slow(void *object) {
  gyre__header *h = gyre__header_of(object);
  /* relaxed: "mine" is never stale, and the count is ours alone. */
  uint32_t local = gyre__load_relaxed(&h->local);
  if (GYRE_UNLIKELY(local != 1 || gyre__load_relaxed(&h->owner) != gyre__bias)) {
    if (local == 1 || !release_own_count(h)) release_any(h);
    return;
  }
  /* relaxed: as in release_owned(). */
  gyre__store_relaxed(&h->local, 0);
  GYRE_WINDOW("refcount/leaf_zero");
  /* seq_cst: as in release_owned(); pairs with gyre__try_count(). acquire: likewise. */
  if (GYRE_UNLIKELY(gyre__load_seq_cst(&h->shared) != gyre__shared_of(0, GYRE__DEFAULT) ||
                    (gyre__load_acquire(&h->bits) & ~GYRE__BIT_TOUCHED) != 0)) {
    /* relaxed: ours alone; the general case begins from the start. */
    gyre__store_relaxed(&h->local, 1);
    release_any(h);
    return;
  }
  /* relaxed: the block is nobody's but ours. */
  gyre__store_relaxed(&h->gc, 0);
  gyre__heap_free((struct gyre__heap *)gyre__self, gyre__page_of(h), h, GYRE__LEAF);
}

/* ---- many counts at once ---- */

_Static_assert(2 * (int64_t)GYRE__HOLD <= GYRE__COUNT_LIMIT, "a held count does not stick");

void gyre__hold(gyre__header *h) {
  /* relaxed: the compare-exchange decides. */
  uint32_t shared = gyre__load_relaxed(&h->shared);
  for (;;) {
    if (gyre__state_of(shared) == GYRE__IMMORTAL_STATE) return;
    uint32_t held = (shared + (uint32_t)GYRE__HOLD * GYRE__ONE) | gyre__published_in(shared);
    /* relaxed: as in retain_shared(). */
    if (gyre__cas_weak_relaxed(&h->shared, &shared, held)) return;
  }
}

void gyre__unhold(struct gyre__objects *self, gyre__header *h) {
  struct gyre__page *page = gyre__page_of(h);
  if (gyre__is_logging()) gyre__touch(h);
  /* relaxed: the compare-exchange decides. */
  uint32_t shared = gyre__load_relaxed(&h->shared);
  for (;;) {
    uint32_t state = gyre__state_of(shared);
    if (state == GYRE__IMMORTAL_STATE) return;
    /* All but one, which is then released; or queued, if the owner's local count is needed to make up
     * for the rest; or not needed. */
    int32_t rest = gyre__count_of(shared) - (GYRE__HOLD - 1);
    bool queue = state == GYRE__DEFAULT && rest <= 0;
    uint32_t next = gyre__shared_of(rest, queue ? GYRE__QUEUED : state) |
                    (state == GYRE__MERGED ? 0 : GYRE__PUBLISHED);
    /* acq_rel: as in gyre__release_shared(). */
    if (!gyre__cas_weak_acq_rel(&h->shared, &shared, next)) continue;
    if (queue)
      gyre__merge_request(self, page, h);
    else
      gyre__release_shared(self, h);
    return;
  }
}

/* ---- merging one object ---- */

int32_t gyre__merge(gyre__header *h, bool keep_request) {
  if (gyre__is_logging()) gyre__touch(h);
  /* relaxed: the owner's, or its stand-in's, alone. */
  uint32_t local = gyre__load_relaxed(&h->local);
  /* relaxed: from here on everybody counts in the shared word; others do so anyway, and we know.
   * Pairs with the looks of the inline paths, for which any value but the reader's own id is the
   * same. */
  gyre__store_relaxed(&h->owner, 0);
  gyre__store_relaxed(&h->local, 0);
  GYRE_WINDOW("refcount/merging");
  /* relaxed: the compare-exchange decides. */
  uint32_t shared = gyre__load_relaxed(&h->shared);
  for (;;) {
    uint32_t state = gyre__state_of(shared);
    if (state == GYRE__IMMORTAL_STATE) return INT32_MAX;
    GYRE_ASSERT(state != GYRE__MERGED);
    int64_t count =
        (int64_t)gyre__count_of(shared) + local - (state == GYRE__QUEUED && !keep_request);
    GYRE_ASSERT(count >= 0);
    bool stuck = count >= GYRE__COUNT_LIMIT;
    uint32_t merged = stuck ? GYRE__IMMORTAL_STATE : gyre__shared_of((int32_t)count, GYRE__MERGED);
    /* acq_rel: releases what the owner did with the object to whoever drops the last reference, and
     * acquires what the others did. Pairs with the compare-exchanges in gyre__release_shared(). */
    if (gyre__cas_weak_acq_rel(&h->shared, &shared, merged))
      return stuck ? INT32_MAX : (int32_t)count;
  }
}

/* ---- the public questions and the rest ---- */

bool gyre__try_retain(gyre__header *h) {
  if (!is_own(h)) {
    if (!gyre__try_count(h)) return false;
    if (gyre__is_logging()) gyre__touch(h);
    return true;
  }
  /* relaxed: ours alone. */
  uint32_t local = gyre__load_relaxed(&h->local);
  if (local == 0) return false;
  gyre__retain_slow(gyre__object_of(h));
  return true;
}

int gyre_try_retain(void *object) {
  gyre__header *h = gyre__header_of(object);
  /* relaxed: set long before, or the caller errs. */
  GYRE_ASSERT(gyre__load_relaxed(&h->bits) & (GYRE__BIT_ATOMIC | GYRE__BIT_WEAK));
  gyre__attach_self();
  return gyre__try_retain(h);
}

ptrdiff_t gyre_refcount(const void *object) {
  const gyre__header *h = gyre__header_of(object);
  /* relaxed: a figure that may be out of date when it is read, as documented. */
  uint32_t shared = gyre__load_relaxed(&h->shared);
  if (gyre__state_of(shared) == GYRE__IMMORTAL_STATE) {
    gyre__atomic_u32 *word = gyre__stopped_count(h);
    /* relaxed: as above. */
    return word == NULL
               ? GYRE_IMMORTAL
               : (shared & GYRE__STOPPED_OWNED ? (ptrdiff_t)gyre__load_relaxed(&h->local) : 0) +
                     gyre__count_of(shared) +
                     (int32_t)(gyre__load_relaxed(word) - GYRE__COUNT_STOPPED);
  }
  /* relaxed: as above. */
  ptrdiff_t local =
      gyre__load_relaxed(&h->owner) != 0 ? (ptrdiff_t)gyre__load_relaxed(&h->local) : 0;
  /* Its owner is just looking through its young objects, and keeps the count elsewhere. */
  if (local >= (ptrdiff_t)GYRE__LOCAL_MARK) local = 1;
  ptrdiff_t count = local + gyre__count_of(shared) - (gyre__state_of(shared) == GYRE__QUEUED);
  /* The collector's own do not show. */
  return count >= GYRE__HOLD ? count - GYRE__HOLD : count;
}

int gyre_is_unique(const void *object) {
  const gyre__header *h = gyre__header_of(object);
  bool alone;
  if (is_own(h))
    /* seq_cst: as in release_owned(): a loader that counted is seen, or sees that the slot is
     * empty. relaxed: local is ours alone. */
    alone =
        gyre__load_relaxed(&h->local) == 1 &&
        (gyre__load_seq_cst(&h->shared) & ~GYRE__PUBLISHED) == gyre__shared_of(0, GYRE__DEFAULT);
  else
    /* seq_cst: likewise, and acquires what former holders did. */
    alone = gyre__load_seq_cst(&h->shared) == gyre__shared_of(1, GYRE__MERGED);
  /* acquire: after the look at the shared word, as in release_owned(): a weak reference made by
   * another holder is seen once its count is gone; pairs with the fetch_or in lib/weak. */
  return alone && !(gyre__load_acquire(&h->bits) & (GYRE__BIT_WEAK | GYRE__BIT_ATOMIC));
}

int gyre_immortalize(void *object) {
  gyre__header *h = gyre__header_of(object);
  if (gyre__is_logging()) gyre__touch(h);
  /* relaxed: the caller holds a reference; nobody looks at the count any more, and an owner that
   * still counts in local finds the state when that falls to 0. */
  uint32_t shared = gyre__load_relaxed(&h->shared);
  do {
    if (gyre__state_of(shared) == GYRE__IMMORTAL_STATE) {
      gyre__atomic_u32 *word = gyre__stopped_count(h);
      /* acq_rel: of two calls at once, one is the first; pairs with itself. What is counted at the same
       * moment does not make it a stopped count again. */
      return word != NULL && gyre__count_word_is_stopped(gyre__exchange_acq_rel(word, 0));
    }
    /* relaxed: as above. */
  } while (!gyre__cas_weak_relaxed(&h->shared, &shared,
                                   shared | GYRE__IMMORTAL_STATE | GYRE__PUBLISHED));
  /* relaxed: ours alone to give up. */
  if (is_own(h)) gyre__store_relaxed(&h->owner, 0);
  return 1;
}

int gyre_is_immortal(const void *object) {
  const gyre__header *h = gyre__header_of(object);
  /* relaxed: once true, always true, but for what is frozen. */
  return gyre__state_of(gyre__load_relaxed(&h->shared)) == GYRE__IMMORTAL_STATE &&
         gyre__stopped_count(h) == NULL;
}
