/* SPDX-License-Identifier: MIT */
/* Objects that the collector leaves alone: untracked ones, one by one, and frozen ones, all at once.
 *
 * Either is a bit in the collector's byte (GYRE__GC_APART): such an object is no candidate (set.c) and no
 * member of a look (young.c), so it counts as outside, and what it refers to as referred to from outside.
 * It dies by its count as ever. The byte has one writer at a time (lib/object/refcount.h): the owner, by
 * plain stores, or the collector, by compare-exchanges. So a single object is set apart by its owner, or by
 * anybody if it has none; and all of them in a stopped world.
 *
 * Freezing. What is tracked becomes old and apart; the figures of what may have become garbage start at 0,
 * since nothing is left that a collection would look at. Unfreezing puts it all into the oldest generation,
 * and into the figures: there may be garbage in it.
 *
 * Stopped counts (GYRE_FREEZE_STOP_COUNTING). After a fork, parent and child share the memory until one of
 * them writes. Collections do not write to what is frozen, but counts lie in the headers, and who only
 * looks at an object writes there. So the objects are made immortal for a time: the state of the shared word
 * says so, and there is no owner, which leads every count into a slow path; and that counts not in the
 * header but in a table of four bytes a block beside the page (page->frozen_counts):
 *
 *     header:  owner 0 | local L | shared: count C, IMMORTAL        table: STOPPED + what has come since
 *
 * The number of references is L + C + that; when counting goes on, the header gets it: an object that had
 * an owner, as a flag in the shared word says, has it again. One that had none has no L: the word may be a
 * link in the queue of finalizers (lib/object/pending.c). Nothing dies meanwhile; what nobody refers to any more when counting goes on is
 * released then. A touch (collect.c) would write, too: the mark is set beforehand. What is still written
 * into headers are locks, and a first weak reference. Objects whose counts are just being merged, and those
 * that are immortal anyway, stay as they are.
 *
 * Pages with stopped objects do not change, since none of these dies; so a table is good until it is
 * dropped. Tables come from the system, all of a freeze in one piece, and are touched only where there is
 * something to count.
 */
#include <errno.h>

#include "lib/collect/walk.h"

/* The table's memory, in pieces. Under the collector's lock. */
struct tables {
  struct tables *next;
  size_t bytes;
  gyre__atomic_u32 words[];
};
static struct tables *all_tables;

static gyre__atomic_u64 frozen_count;

static void frozen_add(uint64_t n) {
  /* relaxed: a figure. */
  gyre__fetch_add_relaxed(&frozen_count, n);
}

static void frozen_gone(void) { frozen_add(UINT64_MAX); }

ptrdiff_t gyre_gc_get_freeze_count(void) {
  /* relaxed: a figure. */
  return (ptrdiff_t)gyre__load_relaxed(&frozen_count);
}

/* ---- single objects ---- */

/* 0 if the calling thread may write the object's collector's byte. */
static int may_set_apart(const gyre__header *h) {
  /* relaxed: constant for a living object; 0 in static ones, which no collection looks at. */
  if (gyre__header_type(h)->gyre__kind != GYRE__TRACKED || gyre__load_relaxed(&h->gc) == 0)
    return -EINVAL;
  gyre__attach_self();
  /* relaxed: "mine" and "nobody's" are never stale. */
  uint32_t owner = gyre__load_relaxed(&h->owner);
  return owner == 0 || owner == gyre__self->id ? 0 : -EPERM;
}

/* Changes the collector's byte; returns what it was. */
static uint8_t gc_change(gyre__header *h, uint32_t clear, uint32_t set) {
  /* relaxed: the compare-exchange decides. */
  uint8_t old = gyre__load_relaxed(&h->gc);
  /* acq_rel: the object as it is, for a collector that takes it as a candidate from now on; pairs with
   * is_candidate() in set.c. */
  while (!gyre__cas_weak_acq_rel(&h->gc, &old, (uint8_t)((old & ~clear) | set))) {
  }
  return old;
}

int gyre_gc_untrack(void *object) {
  gyre__header *h = gyre__header_of(object);
  int result = may_set_apart(h);
  if (result != 0) return result;
  /* acq_rel: nothing hangs on it; pairs with itself in gyre_gc_track(). */
  if (gyre__fetch_or_acq_rel(&h->bits, GYRE__BIT_UNTRACKED) & GYRE__BIT_UNTRACKED) return 0;
  if (gc_change(h, GYRE__GC_ARMED, GYRE__GC_APART) & GYRE__GC_APART) frozen_gone();
  return 0;
}

int gyre_gc_track(void *object) {
  gyre__header *h = gyre__header_of(object);
  int result = may_set_apart(h);
  if (result != 0) return result;
  /* acq_rel: as above. */
  bool untracked =
      gyre__fetch_and_acq_rel(&h->bits, (uint8_t)~GYRE__BIT_UNTRACKED) & GYRE__BIT_UNTRACKED;
  /* relaxed: the caller's alone, or only the collector's, who leaves these bits alone. */
  uint32_t gc = gyre__load_relaxed(&h->gc);
  if (gc & GYRE__GC_APART && (!untracked || gyre__counts_are_stopped(h))) {
    if (untracked) frozen_add(1);
    return 0;
  }
  if (!untracked && (gc & GYRE__GC_AGE) != GYRE__GC_YOUNG) return 0;
  struct gyre__page *page = gyre__page_of(h);
  gc_change(h, GYRE__GC_AGE | GYRE__GC_APART, GYRE__GC_PROMOTED);
  gyre__page_has_promoted(page);
  gyre__promoted(1, gyre__page_usable(page), false);
  return 0;
}

/* ---- stopping counts ---- */

static bool can_stop(const gyre__header *h) {
  /* relaxed: the world is stopped. */
  uint32_t state = gyre__state_of(gyre__load_relaxed(&h->shared));
  return state == GYRE__DEFAULT || state == GYRE__MERGED;
}

static void stop_counting(gyre__header *h, gyre__atomic_u32 *word) {
  /* relaxed: the world is stopped, here and below. */
  gyre__store_relaxed(word, GYRE__COUNT_STOPPED);
  uint32_t shared = gyre__load_relaxed(&h->shared);
  uint32_t owned = gyre__state_of(shared) == GYRE__DEFAULT ? GYRE__STOPPED_OWNED : 0;
  gyre__store_relaxed(&h->shared, (shared & ~GYRE__STOPPED_OWNED) | owned | GYRE__IMMORTAL_STATE);
  gyre__store_relaxed(&h->owner, 0);
  gyre__store_relaxed(&h->bits, (uint8_t)(gyre__load_relaxed(&h->bits) | GYRE__BIT_TOUCHED));
}

/* The count goes into the header again. False if it is 0: then it is 1, the caller's. */
static bool go_on_counting(gyre__header *h, const struct gyre__page *page, uint32_t stopped) {
  /* relaxed: the world is stopped, here and below. */
  uint32_t shared = gyre__load_relaxed(&h->shared);
  /* One that waits for its finalizer is linked by its local word (lib/object/pending.c). */
  bool owned = shared & GYRE__STOPPED_OWNED;
  uint32_t local = owned ? gyre__load_relaxed(&h->local) : 0;
  int64_t count =
      (int64_t)local + gyre__count_of(shared) + ((int64_t)stopped - (int64_t)GYRE__COUNT_STOPPED);
  GYRE_REQUIRE(count >= 0, "more releases than references of the frozen object at %p",
               gyre__object_of(h));
  if (owned && count != 0) {
    /* relaxed: as above. */
    gyre__store_relaxed(&h->owner, (uint16_t)gyre__page_heap(page)->thread.base.id);
    gyre__store_relaxed(&h->local, (uint32_t)count);
    gyre__store_relaxed(&h->shared, gyre__shared_of(0, GYRE__DEFAULT) | GYRE__PUBLISHED);
  } else {
    /* relaxed: as above. */
    if (owned) gyre__store_relaxed(&h->local, 0);
    gyre__store_relaxed(&h->shared, gyre__shared_of(count != 0 ? (int32_t)count : 1, GYRE__MERGED));
  }
  return count != 0;
}

/* Memory for the tables of all pages that have none. */
static struct tables *tables_new(const struct gyre__set *set) {
  size_t words = 0;
  for (size_t p = 0; p < set->page_count; p++)
    if (set->pages[p]->frozen_counts == NULL) words += set->pages[p]->reserved;
  size_t bytes = sizeof(struct tables) + words * sizeof(gyre__atomic_u32);
  struct tables *tables = gyre__os_map(bytes, gyre__os_page_size());
  if (tables != NULL) tables->bytes = bytes;
  return tables;
}

static void tables_drop(void) {
  while (all_tables != NULL) {
    struct tables *next = all_tables->next;
    gyre__os_unmap(all_tables, all_tables->bytes);
    all_tables = next;
  }
}

/* ---- freezing ---- */

/* Of an object of the oldest generation. */
static uint32_t old_byte(const struct gyre__page *page) {
  return GYRE_GC_NGEN | (page->is_large ? (uint32_t)GYRE__GC_LARGE : 0u);
}

struct freezing {
  gyre__atomic_u32 *words; /* the rest of the tables; NULL: counts are not stopped */
  uint64_t objects;
};

static int freeze_one(struct gyre__walk *w, gyre__header *h, struct gyre__page *page,
                      uint32_t index, void *arg) {
  (void)w;
  struct freezing *f = arg;
  /* relaxed: the world is stopped. */
  uint32_t gc = gyre__load_relaxed(&h->gc);
  if (page->kind == GYRE__TRACKED && !(gc & GYRE__GC_APART)) {
    gc = old_byte(page);
    f->objects++;
  }
  bool stop = f->words != NULL && can_stop(h);
  if (stop || page->kind == GYRE__TRACKED) /* relaxed: as above. */
    gyre__store_relaxed(&h->gc, (uint8_t)(gc | GYRE__GC_APART));
  if (!stop) return 0;
  if (page->frozen_counts == NULL) {
    page->frozen_counts = f->words;
    f->words += page->reserved;
  }
  stop_counting(h, &page->frozen_counts[index]);
  return 0;
}

static void promote_all(void) {
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= count; id++)
    gyre__object_hooks.young_promote((struct gyre__objects *)gyre__thread_slot(id), false);
}

static ptrdiff_t freeze(struct gyre__walk *w, bool stop) {
  struct freezing f = {0};
  if (stop) {
    struct tables *tables = tables_new(&w->c.set);
    if (tables == NULL) return -ENOMEM;
    tables->next = all_tables;
    all_tables = tables;
    f.words = tables->words;
  }
  promote_all();
  (void)gyre__walk_objects(w, freeze_one, &f);
  frozen_add(f.objects);
  gyre__generation_frozen();
  return (ptrdiff_t)f.objects;
}

ptrdiff_t gyre_gc_freeze_ex(unsigned flags) {
  const unsigned known = GYRE_FREEZE_COLLECT_FIRST | GYRE_FREEZE_STOP_COUNTING;
  if (flags & ~known) return -EINVAL;
  struct gyre__objects *self = (struct gyre__objects *)gyre__thread_self();
  if (self == NULL) return -EAGAIN;
  if (gyre__is_collecting(self)) return -EBUSY;
  if (flags & GYRE_FREEZE_COLLECT_FIRST) {
    ptrdiff_t result = gyre_gc_collect(GYRE_GC_NGEN - 1);
    if (result < 0) return result;
  }
  bool stop = flags & GYRE_FREEZE_STOP_COUNTING;
  struct gyre__walk w;
  int result = gyre__walk_begin(&w, self, GYRE__WALK_STOP | (stop ? GYRE__WALK_LEAVES : 0));
  if (result != 0) return result;
  ptrdiff_t objects = freeze(&w, stop);
  gyre__walk_end(&w);
  return objects;
}

ptrdiff_t gyre_gc_freeze(void) { return gyre_gc_freeze_ex(0); }

/* ---- unfreezing ---- */

struct thawing {
  uint64_t objects, bytes;
  uint64_t dead;
};

/* Side words: the object has no reference left but ours. */
#define DEAD GYRE__SIDE_LIVE

static int thaw_one(struct gyre__walk *w, gyre__header *h, struct gyre__page *page, uint32_t index,
                    void *arg) {
  (void)w;
  struct thawing *t = arg;
  /* relaxed: the world is stopped, here and below. */
  uint32_t gc = gyre__load_relaxed(&h->gc);
  if (!(gc & GYRE__GC_APART)) return 0;
  bool tracked = page->kind == GYRE__TRACKED;
  if (!(gyre__load_relaxed(&h->bits) & GYRE__BIT_UNTRACKED)) {
    gyre__store_relaxed(&h->gc,
                        (uint8_t)(tracked ? old_byte(page) : gc & ~(uint32_t)GYRE__GC_APART));
    t->objects += tracked;
    t->bytes += tracked ? gyre__page_usable(page) : 0;
  }
  if (page->frozen_counts == NULL) return 0;
  /* relaxed: as above. */
  uint32_t word = gyre__load_relaxed(&page->frozen_counts[index]);
  if (gyre__count_word_is_stopped(word) && !go_on_counting(h, page, word)) {
    page->side[index] |= DEAD;
    t->dead++;
  }
  return 0;
}

static int release_dead(struct gyre__walk *w, gyre__header *h, struct gyre__page *page,
                        uint32_t index, void *arg) {
  (void)w, (void)arg;
  if (!(page->side[index] & DEAD)) return 0;
  page->side[index] = 0;
  gyre_release(gyre__object_of(h));
  return 0;
}

ptrdiff_t gyre_gc_unfreeze(void) {
  struct gyre__objects *self = (struct gyre__objects *)gyre__thread_self();
  if (self == NULL) return -EAGAIN;
  struct gyre__walk w;
  int result = gyre__walk_begin(&w, self, GYRE__WALK_STOP | GYRE__WALK_LEAVES);
  if (result != 0) return result;
  struct thawing t = {0};
  (void)gyre__walk_objects(&w, thaw_one, &t);
  for (size_t p = 0; p < w.c.set.page_count; p++)
    w.c.set.pages[p]->frozen_counts = NULL;
  tables_drop();
  frozen_add(-t.objects);
  gyre__promoted(t.objects, t.bytes, false);
  gyre__walk_resume(&w);
  /* Program code runs here, as at the end of a collection. */
  if (t.dead > 0) (void)gyre__walk_objects(&w, release_dead, NULL);
  gyre__walk_end(&w);
  return (ptrdiff_t)t.objects;
}

void gyre__unfreeze_all(void) {
  /* relaxed: a figure. */
  if (gyre__load_relaxed(&frozen_count) != 0 || all_tables != NULL) (void)gyre_gc_unfreeze();
}

/* The end of an arena. gyre_fini() has unfrozen what was, if there was memory for that. */
static void forget(void) {
  gyre__store_relaxed(&frozen_count, 0); /* relaxed: no thread is attached. */
  all_tables = NULL;
}

static void __attribute__((constructor)) apart_init(void) {
  gyre__object_hooks.frozen_gone = frozen_gone;
  gyre__forget_add(forget);
}
