/* SPDX-License-Identifier: MIT */
/* A walk through all objects, beside the program or in a stopped world.
 *
 * It is a collection's first half: the collector's lock, pinned pages, a handshake, the list of
 * segments, and for each block a side word. What differs is that all objects are of interest, also the
 * young ones and the leaves, and these are not the collector's: their owner may free one and make another
 * in the same block while we look.
 *
 * Headers. A block in an object page always has a header that can be read ("type stability",
 * lib/heap/heap.h). Its first eight bytes are written at once and last when an object is born
 * (lib/object/object.c), and we read them at once: so type, age and owner belong together. The byte gc is
 * 0 in a free block and says so in a dead one. That is all a census reads, besides counts, which are
 * figures. The size of an object is that of its block: an array's length lies where another object
 * may by now have something else.
 *
 * References. To read slots, the object must not become another one meanwhile. In mode STILL every
 * tracked object that dies waits in limbo (lib/object/limbo.c), young or not, unless it was born in that
 * mode: these carry a mark (GYRE__GC_BESIDE), come into blocks that were free, and are left out. So a program
 * that makes and drops objects quickly holds back no more than what was there when the walk began. We read
 * after the handshake, so whatever is alive when we see its header keeps its layout until the walk ends.
 * What its slots hold was alive when it was read, its page is pinned, and only its address is used.
 * A thread takes the marks off when it leaves the mode; for one that is idle the next walk does so.
 *
 * Counting. To hand out references, an object must be counted that we have found by its address, with no
 * slot to look at again. Objects of our own we just count: they are dead or we know better. An object
 * without an owner dies by one atomic step, (MERGED, 1) to (MERGED, 0), and gyre__try_count() fails
 * after that. An object that another thread owns may die without any atomic step: its owner finds local
 * and shared count 0 and takes it apart, while our count is on its way. So we count first, and look again
 * when every thread has passed a safepoint:
 *
 *     walk:   shared += 1;  grace period;  header says alive? keep : shared -= 1
 *     owner:  local -= 1; at 0: shared == 0? header := dead : merge, and it lives
 *
 * No operation spans a safepoint, so by then an owner that did not see our count has said in the header
 * that the object is dead (or free), and one that says nothing has seen it, or will. This is the rule for
 * "a count that comes too late" of lib/object/refcount.c, with the grace period in place of the second
 * look at the slot. And as there, the block may have become another object in between, which then has our
 * count; that one is as good, if its header is there.
 *
 * The owner's own collection (young.c) decides by flags and counts that it reads once that nobody has a set
 * of objects, and then empties them. A walk's count comes out of nowhere, by none of the ways that
 * young.c knows. Therefore what a look has found dead and cannot free at once is marked dead before its slots
 * are anybody's to see, like everything else that dies. And we hold the owner's look_lock while we count in a
 * page of its (a thread that finds it taken looks at a later safepoint), so that our count is never among
 * those that keep such an object from being freed: we would have its last count, and run its hook. Our
 * count publishes, so a look that comes later leaves the object to the collector. (tests/model/walk.pml)
 *
 * Half-built objects. An object is born zeroed, with one count, which is its maker's, and is of no use to
 * anybody until it is filled. We cannot know when that is, but as long as nothing refers to it and it
 * refers to nothing, nobody can miss it. gyre__walk_is_fresh() is the cheap half of the question
 * (query.c asks the other).
 *
 * In a stopped world all of this is simpler: no thread is in the middle of an operation, so what is not
 * said to be dead is alive, and a count is a count.
 *
 * Memory: 4 bytes a block for side words, 8 a page, asked for at the beginning.
 */
#include "lib/collect/walk.h"

#include <errno.h>
#include <stdio.h>

/* Side words: a block's object has been taken. (The other bits are the passes'.) */
#define TAKEN GYRE__SIDE_CONDEMNED

/* ---- beginning and end ---- */

/* An idle thread that was still when it went idle has not been told that it is not any more. False if it
 * runs. */
static bool still_idle(struct gyre__thread *slot) {
  if (!gyre__thread_take_counts(slot)) return false;
  if (gyre__mode_of(slot->mode) == GYRE__MODE_STILL)
    gyre__object_hooks.young_still((struct gyre__objects *)slot, true, true);
  gyre__thread_give_back(slot);
  return true;
}

/* As in begin() of collect.c: one that came back in between has adopted the mode, perhaps after our look
 * at it; the second grace period waits for that. */
static void still_all_idle(struct gyre__objects *self) {
  uint32_t count = gyre__thread_slot_count();
  bool all = true;
  for (uint32_t id = 1; id <= count; id++) {
    struct gyre__thread *slot = gyre__thread_slot(id);
    if (slot != &self->heap.thread) all &= still_idle(slot);
  }
  if (!all) gyre__grace_wait(gyre__grace_ticket(), UINT64_MAX);
}

static void pin(struct gyre__walk *w) {
  struct gyre__collection *c = &w->c;
  if (c->beside) {
    c->epoch = gyre__mode_epoch(gyre__mode_published()) + 1;
    gyre__collection_handshake(c,
                               w->flags & GYRE__WALK_STILL ? GYRE__MODE_STILL : GYRE__MODE_PINNED);
    if (w->flags & GYRE__WALK_STILL) still_all_idle(c->self);
    GYRE_WINDOW("walk/pinned");
  } else {
    w->stopped_ns = gyre__clock_ns();
    gyre__world_stop(&c->self->heap.thread);
  }
}

/* Nobody is waited for, as at the end of a collection. */
static void unpin(struct gyre__walk *w) {
  struct gyre__collection *c = &w->c;
  if (c->beside) {
    gyre__mode_publish(&c->self->heap.thread, c->epoch << GYRE__MODE_EPOCH_SHIFT | GYRE__MODE_IDLE);
    gyre__grace_start(gyre__grace_ticket());
  } else {
    gyre__walk_resume(w);
  }
}

void gyre__walk_resume(struct gyre__walk *w) {
  if (w->c.beside || w->resumed) return;
  w->resumed = true;
  gyre__world_resume(&w->c.self->heap.thread);
  gyre__stats_pause(GYRE_GC_NGEN - 1, gyre__clock_ns() - w->stopped_ns);
}

void gyre__walk_end(struct gyre__walk *w) {
  struct gyre__objects *self = w->c.self;
  GYRE_ASSERT(w->held == NULL && !w->taking);
  unpin(w);
  gyre__set_drop(&w->c);
  gyre__heap_unpin();
  gyre__collection_set(NULL);
  if (!(w->flags & GYRE__WALK_LOCKED)) gyre__collector_unlock(self);
}

int gyre__walk_begin(struct gyre__walk *w, struct gyre__objects *self, unsigned flags) {
  bool locked = flags & GYRE__WALK_LOCKED;
  if (!locked && gyre__is_collecting(self)) return -EBUSY;
  GYRE_REQUIRE(self->heap.thread.park_depth == 0, "a look at the heap by a parked thread");
  gyre_safepoint();
  if (!locked) gyre__collector_lock(self);
  *w = (struct gyre__walk){.flags = flags};
  w->c = (struct gyre__collection){.self = self,
                                   .generation = GYRE_GC_NGEN - 1,
                                   .everything = true,
                                   .leaves = flags & GYRE__WALK_LEAVES,
                                   .beside = !(flags & GYRE__WALK_STOP) &&
                                             gyre__option(gc_mode) == GYRE_GC_CONCURRENT};
  gyre__collection_set(&w->c);
  gyre__heap_pin();
  pin(w);
  if (gyre__set_gather(&w->c)) return 0;
  gyre__walk_end(w);
  return -ENOMEM;
}

/* ---- headers ---- */

/* Type, owner, gc byte and bits as they were at one moment. */
static uint64_t header_read(gyre__header *h) {
  /* acquire: the object behind a header that was just published; pairs with header_publish() in
   * lib/object/object.c. */
  return __atomic_load_n((gyre__header_start *)(void *)h, __ATOMIC_ACQUIRE);
}

static uint32_t gc_of(uint64_t word) { return (uint32_t)(word >> 48) & 0xff; }

/* Is it one that a walk that reads references leaves out? */
static bool is_beside(uint64_t word) {
  uint32_t mask = GYRE__GC_AGE | GYRE__GC_BESIDE;
  return (gc_of(word) & mask) == (GYRE__GC_YOUNG | GYRE__GC_BESIDE);
}

static bool is_alive(uint64_t word) { return gc_of(word) != 0 && !(gc_of(word) & GYRE__GC_DEAD); }

static void held_give(struct gyre__walk *w) {
  if (w->held != NULL) gyre__lock_give(&w->held->look_lock);
  w->held = NULL;
}

int gyre__walk_objects(struct gyre__walk *w, gyre__walk_fn *fn, void *arg) {
  const struct gyre__set *set = &w->c.set;
  bool still = w->c.beside && w->flags & GYRE__WALK_STILL;
  for (size_t p = 0; p < set->page_count; p++) {
    gyre__breathe(&w->c);
    struct gyre__page *page = set->pages[p];
    int result = 0;
    for (uint32_t i = 0; i < page->scan && result == 0; i++) {
      gyre__header *h = (gyre__header *)gyre__page_block(page, i);
      uint64_t word = header_read(h);
      if (is_alive(word) && !(still && is_beside(word))) result = fn(w, h, page, i, arg);
    }
    held_give(w);
    if (result != 0) return result;
  }
  return 0;
}

bool gyre__walk_census(gyre__header *h, const struct gyre__page *page, struct gyre__census *out) {
  uint64_t word = header_read(h);
  if (!is_alive(word)) return false;
  uint32_t id = (uint32_t)word & GYRE__TYPE_ID_MASK, age = gc_of(word) & GYRE__GC_AGE;
  *out = (struct gyre__census){
      .type = gyre__type(id),
      .type_id = id,
      .bytes = gyre__page_usable(page),
      .generation = age > 0 ? (int)age - 1 : 0,
      .frozen = gc_of(word) & GYRE__GC_APART && !(word >> 56 & GYRE__BIT_UNTRACKED),
      .tracked = page->kind == GYRE__TRACKED && !(word >> 56 & GYRE__BIT_UNTRACKED),
      .count = gyre_refcount(gyre__object_of(h)),
  };
  return true;
}

/* ---- references ---- */

struct visited {
  struct gyre__walk *w;
  gyre__walk_reference_fn *fn;
  void *arg;
  size_t field;
  int result;
};

static int reference_see(struct visited *v, void *target) {
  size_t field = v->field++;
  return target != NULL ? v->fn(v->w, target, field, v->arg) : 0;
}

static int visit_see(void *object, void *arg) {
  struct visited *v = (struct visited *)arg;
  v->result = reference_see(v, object);
  return v->result;
}

static void ephemeron_see(void *key, void *value, void *arg) {
  (void)key;
  struct visited *v = (struct visited *)arg;
  if (v->result == 0) v->result = reference_see(v, value);
}

static int visit(struct visited *v, const gyre_type *type, gyre__header *h) {
  if (!gyre__lock_try_quietly(h)) return -EAGAIN;
  /* Who destroys it takes the lock once before it is taken apart. */
  if (!gyre__is_destroyed(h)) {
    (void)type->visit(gyre__object_of(h), visit_see, v);
    /* One reference, and the map has it: the key does not refer to the value, it only keeps it. */
    if (gyre__weak_is_ephemeron_map(type))
      gyre__ephemerons_of_map(gyre__object_of(h), ephemeron_see, v);
  }
  gyre__unlock_quietly(h);
  return v->result;
}

int gyre__walk_references(struct gyre__walk *w, gyre__header *h, struct gyre__page *page,
                          gyre__walk_reference_fn *fn, void *arg) {
  GYRE_ASSERT(w->flags & GYRE__WALK_STILL);
  if (page->kind != GYRE__TRACKED) return 0;
  const gyre_type *type = gyre__header_type(h);
  struct visited v = {.w = w, .fn = fn, .arg = arg};
  GYRE__FOR_EACH_SLOT(type, h, page, slot, {
    /* acquire: the header behind it; pairs with the slot operations. */
    v.result = reference_see(&v, gyre__load_acquire(&slot->gyre__ref));
    if (v.result != 0) return v.result;
  });
  return type->visit != NULL ? visit(&v, type, h) : 0;
}

bool gyre__walk_find(const struct gyre__walk *w, void *object, struct gyre__page **page,
                     uint32_t *index) {
  (void)w;
  gyre__header *h = gyre__header_of(object);
  struct gyre__segment *segment = gyre__segment_of(h);
  if (segment != NULL)
    *page = gyre__segment_page(segment, h);
  else if (gyre__load_relaxed(&h->gc) & GYRE__GC_LARGE) /* relaxed: as page_in_set() in set.c. */
    *page = gyre__page_of(h);
  else
    return false;
  if ((*page)->side == NULL) return false;
  *index = gyre__page_index(*page, h);
  return *index < (*page)->scan;
}

void gyre__walk_field_name(const gyre_type *type, size_t length, size_t field, char *out,
                           size_t size) {
  if (field < type->slots.count) {
    (void)snprintf(out, size, "%s", type->slots.at[field].name);
    return;
  }
  field -= type->slots.count;
  size_t each = type->element_slots.count;
  if (each != 0 && field < each * length) {
    const char *name = type->element_slots.at[field % each].name;
    /* A bare slot has no name. */
    bool bare = name == NULL || name[0] == '[';
    (void)snprintf(out, size, "[%zu]%s%s", field / each, bare ? "" : ".", bare ? "" : name);
    return;
  }
  (void)snprintf(out, size, "visit[%zu]", field - each * length);
}

/* ---- taking ---- */

bool gyre__walk_is_fresh(gyre__header *h) {
  uint64_t word = header_read(h);
  /* relaxed: figures. A number in place of the count: its owner is looking at it. */
  uint32_t local = gyre__load_relaxed(&h->local);
  return (gc_of(word) & GYRE__GC_AGE) == GYRE__GC_YOUNG &&
         (local == 1 || local & GYRE__LOCAL_MARK) &&
         gyre__load_relaxed(&h->shared) == gyre__shared_of(0, GYRE__DEFAULT);
}

/* The owner of the page, if there may be young objects in it, looks at nothing meanwhile. */
static void held_take(struct gyre__walk *w, const struct gyre__page *page) {
  if (w->held != NULL || page->is_large) return;
  /* A page in use does not change hands. */
  w->held = (struct gyre__objects *)gyre__page_heap(page);
  GYRE_WINDOW("walk/locking");
  gyre__lock_take(&w->held->look_lock);
}

bool gyre__walk_take(struct gyre__walk *w, gyre__header *h, struct gyre__page *page,
                     uint32_t index) {
  if (page->side[index] & TAKEN) return true;
  held_take(w, page);
  /* A look may have found it dead before we had the lock. */
  if (!is_alive(header_read(h)) || !gyre__try_retain(h)) return false;
  page->side[index] |= TAKEN;
  w->taking = true;
  GYRE_WINDOW("walk/taken");
  return true;
}

static void settle_one(struct gyre__walk *w, struct gyre__page *page, uint32_t i, gyre__walk_fn *fn,
                       void *arg) {
  page->side[i] &= ~TAKEN;
  gyre__header *h = (gyre__header *)gyre__page_block(page, i);
  if (is_alive(header_read(h)))
    (void)fn(w, h, page, i, arg);
  else
    gyre__release_shared(w->c.self,
                         h); /* the count came too late: it was another thread's object */
}

void gyre__walk_settle(struct gyre__walk *w, gyre__walk_fn *fn, void *arg) {
  if (!w->taking) return;
  w->taking = false;
  if (w->c.beside) gyre__grace_wait(gyre__grace_ticket(), UINT64_MAX);
  for (size_t p = 0; p < w->c.set.page_count; p++) {
    gyre__breathe(&w->c);
    struct gyre__page *page = w->c.set.pages[p];
    for (uint32_t i = 0; i < page->scan; i++)
      if (page->side[i] & TAKEN) settle_one(w, page, i, fn, arg);
  }
}
