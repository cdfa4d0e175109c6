/* SPDX-License-Identifier: MIT */
/* Young collections: a thread collects its own young objects, alone, at its own safepoint.
 *
 * Most cyclic garbage is made and dropped by one thread. Every tracked object that a thread
 * allocates goes into the thread's log. When that has reached a certain length, the thread looks
 * through it at its next safepoint: cycles among those objects that nobody else can reach are freed,
 * everything else is *promoted* and belongs to the collector from then on. No other thread is asked,
 * waited for or stopped, and no atomic read-modify-write is made except where an object dies that
 * others have counted.
 *
 * The step. Y is the set of the logged objects that this thread owns, that are not published (see
 * lib/object/refcount.h), and that have no weak reference, no finalizer to run, no `visit` function,
 * and no flag that lets gyre_try_retain() at them.
 *
 *   1. For each v in Y: keep its local count in a table, beside refs(v) = 0. The object's local word
 *      holds the number of its entry, marked (GYRE__LOCAL_MARK), so that a reference leads to it.
 *   2. Read each slot of each member once. For a reference to a member add one to its refs, and
 *      remember the edge.
 *   3. Mark every member whose refs are not its local count or that is published by now, and all that
 *      is reachable from there along the remembered edges.
 *   4. What is not marked is garbage. Its references to objects outside are collected; then each of
 *      its objects dies as any object does, by a look at its shared word after its local count is 0;
 *      then the references to outside are released, which may run program code. All others are
 *      promoted.
 *
 * Why it is right. Other threads run meanwhile. Let U be one, and say "at t(v)" for the look at v's
 * flag in 3. Rules (lib/object): a thread that is not v's owner sets the flag in the step that counts
 * v, and before it takes a reference to v out of a slot, having counted it (slot.c); and before it
 * gives it a weak reference or makes it immortal. Suppose v is not marked.
 *
 *   "References stay": the flag was clear at t(v), so nobody but us had removed a reference to v from
 *   any slot: each edge that was counted in 2 was still there. (Slots are read with acquire: a
 *   thread that removed one before, and put it elsewhere where we have seen it, has published v
 *   before that, and we see the flag.)
 *   "Counts are exact": only we change local counts, and the shared word is 0 as long as the flag is
 *   clear. So refs(v) = its local count means that at t(v) all references to v were in slots of
 *   members that 2 saw. None of these members is marked, since marking follows just the edges counted.
 *
 * So unmarked objects are referred to by unmarked ones only, and no thread holds a count of one. To
 * get one, U would need a slot of an object that it reaches without it, and there is none; a weak
 * reference would have been made with a count, and published. A thread that read a pointer to v from
 * a slot long ago and counts only now finds that the slot has changed and takes its count back; that
 * is why v dies like any object, with a look at the shared word. A reference that U put into two
 * slots one after the other may be seen twice; then it was published in between, and refs may be
 * more than the local count: such a member is marked. What a thread hands over by a variable or a queue stays counted
 * in our local count, and keeps the object alive whatever U does with it.
 *
 * One rule is the program's (gyre/object.h): who gives its last counted reference away does not use
 * the object any more. A borrowed pointer is good only while the program reaches the object by
 * counted references.
 *
 * Beside a collection. A young object is no candidate of the collector (set.c); promotion is its
 * owner's last store to the collector's byte, a release, and from then on the byte is the
 * collector's. The step runs whole in one mode, at a safepoint after a handshake was answered. When a
 * collection wants young objects too, each thread promotes its own, unlooked at, when it adopts the
 * mode; for a parked thread the collector does it with the slot taken.
 *
 * Entrances. Cycles of old objects that only one thread has ever used end the same way: the thread
 * gives up the last count from outside, and the object, the entrance, is left with the counts from
 * its cycle. So a promoted object that its owner has to itself is *armed* (GYRE__GC_ARMED), and a
 * release that leaves a count calls dropped(), once; the thread notes it and looks, at a safepoint, at
 * what is behind some dozens of such entrances: Y is then what can be reached from them, as far as it
 * fulfils the conditions above, old or young. All that was said of Y holds for any set of objects
 * that fulfil them. (Bacon and Rajan 2001 call these "possible roots"; PHP and Nim collect from them
 * too, for all objects of a thread.) What a look does not take in, it takes for outside, so it may stop
 * anywhere: what is too large, shared with other threads, or dropped too fast for the notes is left
 * to the collector.
 *
 * A walk of the heap (walk.c) counts objects without having found a reference to them, which breaks the
 * rules above. It holds the owner's look_lock meanwhile, which a thread has during a step or a look, so to
 * our sight it has counted before (then the object is published, and outside) or comes after (then what
 * was garbage says that it is dead).
 *
 * Old objects may be candidates of a collection under way. It reads their counts, which a look replaces
 * by numbers for a moment; therefore in LOGGING mode each member is touched before. A note does not
 * count its object, which may die: by its count, and then the block is ours, to free or to use again,
 * and a look finds that; or because the collector condemned it. So nobody looks from the end of the
 * logging until the condemned have been freed (GYRE__MODE_CLOSED): before that the thread's touch keeps
 * an object from being condemned, after that the block is free. What dies in a look while a collection
 * is under way waits in limbo, like everything else.
 *
 * Cost: the table, the edges, the notes and the stack are the thread's own memory, reserved once and
 * touched as far as they are needed. The length of a step adapts: it shrinks when a step took longer
 * than "young_us", and when almost everything dies, since then nothing is lost by looking soon; it
 * grows when much survives, because objects need time to die. If next to nothing dies, looking is not
 * worth it, and most logs are promoted unlooked at; in such times objects are armed from birth, so that
 * garbage that is promoted with them has been noted. Looks that find next to nothing may take a
 * thirty-second of the thread's time.
 *
 * What it saves: as long as a thread has counted no object of others, others none of its own, and no look
 * or note was given up, it would notice garbage among its promoted objects by itself. Then it keeps
 * their number to itself, and they do not make a collection due (promotion_report()).
 *
 * The published flag, this form of trial deletion, and the looks beside a collection are checked in
 * tests/model (young.pml, entrance.pml).
 */
#include <string.h>

#include "lib/base/probe.h"
#include "lib/collect/collect.h"

#define LOG_MAX 8192u
#define EDGE_MAX (4 * LOG_MAX)
/* A step is never planned to be shorter than this. */
#define STEP_MIN 128u
/* After this many steps in a row have been passed over, one is made to see whether it pays now. */
#define SKIP_MAX 63u

/* Entrances that are noted, after how many of them they are looked at, how many objects a look takes
 * in at most. */
#define DROPPED_MAX 65536u
#define DROPPED_LOOK 64u
#define DROPPED_REACH_MAX 2048u
/* While looks free next to nothing, they may take this fraction of the thread's time. */
#define DROPPED_SHARE 32u

struct member {
  gyre__header *h;
  uint32_t local;      /* its local count */
  uint16_t refs;       /* references to it from members */
  uint16_t first_edge; /* of its edges, which end where the next member's begin */
};
_Static_assert(EDGE_MAX <= UINT16_MAX && LOG_MAX <= UINT16_MAX, "struct member");

/* What is asked of types all the time, of the one that was asked about last: neighbours are often of
 * one type. */
struct layout {
  uint32_t id;
  bool has_visit, has_elements, has_destroy;
  const gyre_type *type;
  size_t count;
  const gyre_slot_info *at;
};

struct gyre__young {
  /* -- statistics: written by the thread, read by anyone -- */
  struct gyre__young_stats stats;
  /* -- the thread, or who has its slot taken -- */
  uint32_t step;     /* length of the log at which to look through it */
  uint32_t skip;     /* how many logs to pass over between two steps, while they do not pay */
  uint32_t skipped;  /* how many have been */
  uint32_t examined; /* members whose local words may hold their numbers */
  gyre__header *dropped[DROPPED_MAX];
  uint32_t dropped_count;
  uint32_t look;             /* entrances that a look takes */
  uint64_t dropped_after_ns; /* when it is time for another look */
  /* Promoted since the last full collection and not reported: see promotion_report(). */
  uint64_t kept_objects, kept_bytes, kept_since;
  uint64_t born_promoted;
  uint64_t born_promoted_bytes;
  struct member members[LOG_MAX + 1];
  struct layout layout;
  uint16_t edges[EDGE_MAX];
  uint32_t stack[LOG_MAX];
  bool marked[LOG_MAX];
  void *outside[EDGE_MAX];
  gyre__header *log[1 + LOG_MAX];
};

static struct gyre__young *young_of(struct gyre__objects *slot) {
  /* acquire: what is behind it; pairs with log_make(). */
  return (struct gyre__young *)gyre__load_acquire(&slot->young);
}

/* ---- the log ---- */

static size_t log_length(struct gyre__objects *self) {
  /* relaxed: this thread's own. */
  return (size_t)((gyre__header **)gyre__load_relaxed(&self->heap.thread.base.gyre__young_end) -
                  self->young_base);
}

static void log_set_length(struct gyre__objects *self, size_t length) {
  /* relaxed: as above. */
  gyre__store_relaxed(&self->heap.thread.base.gyre__young_end, (void *)(self->young_base + length));
}

size_t gyre__young_count(struct gyre__objects *slot) {
  if (young_of(slot) == NULL) return 0;
  /* relaxed: a figure that may be out of date. */
  gyre__header **end = (gyre__header **)gyre__load_relaxed(&slot->heap.thread.base.gyre__young_end);
  return end >= young_of(slot)->log + 1 ? (size_t)(end - (young_of(slot)->log + 1)) : 0;
}

static size_t step_max(void) {
  uint64_t threshold = gyre__option(gc_threshold[0]);
  return threshold == 0 || threshold > LOG_MAX / 2 ? LOG_MAX / 2 : (size_t)threshold;
}

static void limit_set(struct gyre__objects *self) {
  size_t limit = young_of(self)->step, most = step_max(), length = log_length(self);
  if (limit > most) limit = most;
  /* The end meets the limit, it never passes it. */
  if (limit <= length) limit = length + limit;
  self->heap.thread.base.gyre__young_limit = self->young_base + (limit < LOG_MAX ? limit : LOG_MAX);
}

/* Where memory is bounded, what a thread keeps may be this part of it. */
#define BOUNDED_PART 32u

static bool log_make(struct gyre__objects *self) {
  if (gyre__source_bound() != 0 && sizeof(struct gyre__young) > gyre__source_bound() / BOUNDED_PART)
    return false;
  struct gyre__young *young = gyre__os_reserve(sizeof *young);
  if (young == NULL) return false;
  young->step = STEP_MIN;
  young->look = DROPPED_LOOK;
  /* release: pairs with young_of(). */
  gyre__store_release(&self->young, young);
  self->young_base = young->log + 1;
  log_set_length(self, 0);
  limit_set(self);
  return true;
}

static bool is_young_byte(uint32_t gc) {
  return (gc & ~(uint32_t)(GYRE__GC_ARMED | GYRE__GC_BESIDE)) == GYRE__GC_YOUNG;
}

static bool is_young(gyre__header *h) {
  /* relaxed: a young object's byte is its owner's, who is the caller; one that was merged while young
   * may just be destroyed by another thread, and then promote() finds out. */
  return is_young_byte(gyre__load_relaxed(&h->gc));
}

/* Forgets what is not young any more. */
static void log_compact(struct gyre__objects *self) {
  gyre__header **to = self->young_base;
  size_t length = log_length(self);
  for (size_t i = 0; i < length; i++)
    if (is_young(self->young_base[i])) *to++ = self->young_base[i];
  log_set_length(self, (size_t)(to - self->young_base));
}

/* ---- births ---- */

#define BIRTH_ARMED ((uint64_t)GYRE__GC_ARMED << 48)
#define BIRTH_BESIDE ((uint64_t)GYRE__GC_BESIDE << 48)

static bool births_are_armed(const struct gyre__objects *slot) {
  return slot->heap.thread.base.gyre__birth_bits & BIRTH_ARMED;
}

/* A walk that reads references has begun, or is over. What is born beside it is marked, so that it may die
 * and its block be used again; the next walk is to see it as any other. */
static void young_still(struct gyre__objects *slot, bool leaves, bool enters) {
  uint64_t *bits = &slot->heap.thread.base.gyre__birth_bits;
  *bits = (*bits & ~BIRTH_BESIDE) | (enters ? BIRTH_BESIDE : 0);
  size_t length = leaves && young_of(slot) != NULL ? log_length(slot) : 0;
  for (size_t i = 0; i < length; i++) {
    gyre__header *h = slot->young_base[i];
    /* relaxed: ours; or merged, and then the compare-exchange decides. */
    uint8_t gc = gyre__load_relaxed(&h->gc);
    if (!(gc & GYRE__GC_BESIDE) || !is_young_byte(gc)) continue;
    /* relaxed: as above: fails if another thread is destroying it. */
    (void)gyre__cas_strong_relaxed(&h->gc, &gc, (uint8_t)(gc & ~(uint32_t)GYRE__GC_BESIDE));
  }
}

/* ---- promotion ---- */

struct promotion {
  uint64_t objects, bytes;
  uint8_t gc;
  /* The object promoted last, and its page. */
  uintptr_t last;
  struct gyre__page *page;
  bool blind; /* some of them may be garbage already, or become it unnoticed by this thread */
};

/* From now on the collector has to reckon with this thread's garbage. */
static void is_blind(struct gyre__objects *self) {
  /* relaxed: a figure for when to collect. */
  gyre__store_relaxed(&self->is_sharing, 1);
}

static void promote(struct gyre__objects *self, gyre__header *h, struct promotion *p) {
  /* relaxed: "mine" is never stale. */
  if (gyre__load_relaxed(&h->owner) == self->heap.thread.base.id) {
    /* release: the object as it is, for a collector that sees it promoted; pairs with is_candidate()
     * in set.c. */
    gyre__store_release(&h->gc, (uint8_t)(p->gc | GYRE__GC_ARMED));
  } else {
    /* relaxed: the compare-exchange decides. */
    uint8_t gc = gyre__load_relaxed(&h->gc);
    /* acq_rel: as above; fails if another thread, which counts it too, is destroying it. */
    if (!is_young_byte(gc) || !gyre__cas_strong_acq_rel(&h->gc, &gc, p->gc)) return;
  }
  /* Neighbours share a page. */
  if (((uintptr_t)h ^ p->last) >> GYRE__SMALL_PAGE_SHIFT != 0) {
    p->last = (uintptr_t)h;
    p->page = gyre__page_of(h);
    gyre__page_has_promoted(p->page);
  }
  p->objects++;
  p->bytes += p->page->block_size;
}

static void promote_log(struct gyre__objects *self, struct promotion *p) {
  size_t length = log_length(self);
  for (size_t i = 0; i < length; i++)
    if (is_young(self->young_base[i])) promote(self, self->young_base[i], p);
  log_set_length(self, 0);
}

/* Reports what has been promoted to the collector, less what is gone; or keeps it to itself while this
 * thread would notice if it became garbage. A full collection looks at everything: the sum starts
 * anew. */
static void promotion_report(struct gyre__objects *self, struct promotion *p, bool looked) {
  struct gyre__young *young = young_of(self);
  uint64_t full = gyre__full_collections();
  if (young->kept_since != full) {
    young->kept_since = full;
    young->kept_objects = young->kept_bytes = 0;
    /* relaxed: a figure; what is shared meanwhile sets it again. */
    gyre__store_relaxed(&self->is_sharing, 0);
  }
  if (p->blind || young->born_promoted != 0) is_blind(self);
  young->kept_objects += p->objects + young->born_promoted;
  young->kept_bytes += p->bytes + young->born_promoted_bytes;
  young->born_promoted = young->born_promoted_bytes = 0;
  uint64_t gone =
      self->gone_objects < young->kept_objects ? self->gone_objects : young->kept_objects;
  uint64_t gone_bytes = self->gone_bytes < young->kept_bytes ? self->gone_bytes : young->kept_bytes;
  young->kept_objects -= gone;
  young->kept_bytes -= gone_bytes;
  if (self->gone_objects > gone)
    gyre__promoted_gone(self->gone_objects - gone, self->gone_bytes - gone_bytes);
  self->gone_objects = self->gone_bytes = 0;
  /* relaxed: as above. */
  bool report = gyre__load_relaxed(&self->is_sharing) != 0;
  gyre__promoted(report ? young->kept_objects : 0, report ? young->kept_bytes : 0, looked);
  if (report) young->kept_objects = young->kept_bytes = 0;
}

static void promote_all(struct gyre__objects *slot, bool fresh) {
  if (young_of(slot) == NULL) return;
  struct promotion p = {.gc = fresh ? GYRE__GC_PROMOTED | GYRE__GC_FRESH : GYRE__GC_PROMOTED};
  p.blind = !births_are_armed(slot);
  promote_log(slot, &p);
  promotion_report(slot, &p, false);
}

static void born_promoted(struct gyre__objects *self, gyre__header *h, struct gyre__page *page) {
  (void)h;
  if (young_of(self) == NULL && !log_make(self)) {
    gyre__promoted(1, page->large_usable, false);
    return;
  }
  young_of(self)->born_promoted++;
  young_of(self)->born_promoted_bytes += page->large_usable;
  if (young_of(self)->born_promoted_bytes >= GYRE__REPORT_BYTES)
    gyre__thread_request(&self->heap.thread, GYRE__REQ_COLLECT);
}

/* The log has reached its limit: the thread is to look through it at its next safepoint. Until then
 * it may grow to its full size; beyond that, objects are promoted. */
static void young_full(struct gyre__objects *self, gyre__header *h) {
  struct promotion p = {.gc = GYRE__GC_PROMOTED};
  if (young_of(self) == NULL && !log_make(self)) {
    promote(self, h, &p);
    gyre__promoted(p.objects, p.bytes, false);
    /* Nobody is asked to look through a log, so the thread is asked to look whether a collection is due. */
    if (++self->unlogged % STEP_MIN == 0)
      gyre__thread_request(&self->heap.thread, GYRE__REQ_COLLECT);
    return;
  }
  if (log_length(self) >= LOG_MAX) {
    log_compact(self);
    if (log_length(self) > LOG_MAX / 2) {
      p.blind = !births_are_armed(self);
      promote_log(self, &p);
      promotion_report(self, &p, false);
    }
  }
  self->heap.thread.base.gyre__young_limit = young_of(self)->log + 1 + LOG_MAX;
  (void)gyre__young_log(self, h);
  gyre__thread_request(&self->heap.thread, GYRE__REQ_COLLECT);
}

/* ---- entrances ---- */

static void dropped(struct gyre__objects *self, gyre__header *h) {
  struct gyre__young *young = young_of(self);
  /* relaxed: ours; see GYRE__GC_ARMED. */
  gyre__store_relaxed(&h->gc, (uint8_t)(gyre__load_relaxed(&h->gc) & ~GYRE__GC_ARMED));
  /* When there is no room, it is left to the collector. */
  if (young == NULL || young->dropped_count == DROPPED_MAX) {
    is_blind(self);
    return;
  }
  young->dropped[young->dropped_count++] = h;
  if (young->dropped_count % DROPPED_LOOK == 0)
    gyre__thread_request(&self->heap.thread, GYRE__REQ_COLLECT);
}

/* Forgets entrances to blocks that are free. */
static void dropped_compact(struct gyre__young *young) {
  uint32_t to = 0;
  for (uint32_t i = 0; i < young->dropped_count; i++)
    /* relaxed: the block is ours. */
    if (gyre__load_relaxed(&young->dropped[i]->gc) != 0) young->dropped[to++] = young->dropped[i];
  young->dropped_count = to;
}

static void before_reap(struct gyre__heap *heap) {
  struct gyre__objects *slot = (struct gyre__objects *)heap;
  if (young_of(slot) == NULL) return;
  log_compact(slot);
  dropped_compact(young_of(slot));
}

/* ---- the step ---- */

static GYRE_NOINLINE void layout_load(struct layout *layout, uint32_t id) {
  const gyre_type *type = gyre__type(id);
  *layout = (struct layout){
      .id = id,
      .has_visit = type->visit != NULL,
      .has_elements = type->element_slots.count != 0,
      .has_destroy = type->destroy != NULL,
      .type = type,
      .count = type->slots.count,
      .at = type->slots.at,
  };
}

static inline const struct layout *layout_of(struct gyre__young *young, const gyre__header *h) {
  uint32_t id = gyre__header_type_id(h);
  if (GYRE_UNLIKELY(id != young->layout.id)) layout_load(&young->layout, id);
  return &young->layout;
}

/* FOR_EACH_SLOT(layout, h, slot, { ... }): the body for every slot of the object. */
#define FOR_EACH_SLOT(layout, h, slot, body)                                                       \
  do {                                                                                             \
    for (size_t gyre__i = 0; gyre__i < (layout)->count; gyre__i++) {                               \
      gyre_slot *slot = gyre__slot_at(gyre__object_of(h), (layout)->at[gyre__i].offset);           \
      body                                                                                         \
    }                                                                                              \
    if (GYRE_UNLIKELY((layout)->has_elements))                                                     \
      GYRE__FOR_EACH_ELEMENT_SLOT((layout)->type, h, gyre__page_of(h), slot, body);                \
  } while (0)

static size_t slot_count(const struct layout *layout, gyre__header *h) {
  if (GYRE_LIKELY(!layout->has_elements)) return layout->count;
  return layout->count +
         layout->type->element_slots.count * gyre__array_length(layout->type, h, gyre__page_of(h));
}

/* 1: takes the object into Y if it may be. */
static inline bool member_add(struct gyre__objects *self, struct gyre__young *young,
                              gyre__header *h, uint32_t n, size_t *slots) {
  /* relaxed: "mine" is never stale. */
  if (gyre__load_relaxed(&h->owner) != self->heap.thread.base.id) return false;
  /* relaxed: ours. */
  if (gyre__load_relaxed(&h->gc) & (GYRE__GC_DEAD | GYRE__GC_APART)) return false;
  /* relaxed: a flag that is set later is seen in 3. Not published, so nobody else has counted. */
  if (gyre__load_relaxed(&h->shared) != gyre__shared_of(0, GYRE__DEFAULT)) return false;
  /* relaxed: set by us, or by a thread that published the object before. */
  if (gyre__load_relaxed(&h->bits) & GYRE__BITS_SPECIAL) return false;
  const struct layout *layout = layout_of(young, h);
  if (layout->has_visit) return false;
  size_t more = slot_count(layout, h);
  if (more > EDGE_MAX - *slots) return false;
  *slots += more;
  /* A collection may be counting it, if it is promoted, and must not trust what it reads. */
  if (gyre__is_logging()) gyre__touch(h);
  /* relaxed: ours alone. */
  young->members[n] = (struct member){.h = h, .local = gyre__load_relaxed(&h->local)};
  young->examined = n + 1;
  gyre__store_relaxed(&h->local, GYRE__LOCAL_MARK | n);
  return true;
}

static uint32_t members_find(struct gyre__objects *self, struct promotion *p, size_t *slots) {
  struct gyre__young *young = young_of(self);
  uint32_t n = 0;
  size_t length = log_length(self);
  for (size_t i = 0; i < length; i++) {
    gyre__header *h = self->young_base[i];
    if (i + 8 < length) __builtin_prefetch(self->young_base[i + 8]);
    if (!is_young(h)) continue;
    /* relaxed: ours alone. It may be in the log twice. */
    if (gyre__load_relaxed(&h->owner) == self->heap.thread.base.id &&
        gyre__load_relaxed(&h->local) & GYRE__LOCAL_MARK)
      continue;
    if (member_add(self, young, h, n, slots)) {
      n++;
    } else {
      promote(self, h, p);
      p->blind = true;
    }
  }
  return n;
}

/* The member that a slot's reference leads to, or NO_MEMBER. */
#define NO_MEMBER UINT32_MAX
static inline uint32_t member_of(uint32_t id, gyre__header *h) {
  /* relaxed: what the slot holds may be anybody's, and just die; "mine" is never stale, and then the
   * local word is ours too. */
  if (gyre__load_relaxed(&h->owner) != id) return NO_MEMBER;
  uint32_t local = gyre__load_relaxed(&h->local);
  return local & GYRE__LOCAL_MARK ? local & ~GYRE__LOCAL_MARK : NO_MEMBER;
}

/* 2: the edges between members. Returns how many references lead elsewhere. */
static uint32_t edges_find(struct gyre__objects *self, uint32_t n) {
  struct gyre__young *young = young_of(self);
  uint32_t id = self->heap.thread.base.id, edge = 0, others = 0;
  for (uint32_t i = 0; i < n; i++) {
    gyre__header *h = young->members[i].h;
    const struct layout *layout = layout_of(young, h);
    young->members[i].first_edge = (uint16_t)edge;
    FOR_EACH_SLOT(layout, h, slot, {
      /* acquire: the header behind it, and the flags that whoever put it there has set; pairs with
       * slot_change() in lib/object/slot.c. */
      void *target = gyre__load_acquire(&slot->gyre__ref);
      if (target == NULL) continue;
      uint32_t number = member_of(id, gyre__header_of(target));
      if (number == NO_MEMBER) {
        others++;
        continue;
      }
      young->members[number].refs++;
      young->edges[edge++] = (uint16_t)number;
    });
  }
  young->members[n].first_edge = (uint16_t)edge;
  GYRE_WINDOW("young/edges");
  return others;
}

/* 3. Returns how many are marked. */
static uint32_t mark(struct gyre__young *young, uint32_t n) {
  uint32_t depth = 0, live = 0;
  for (uint32_t i = 0; i < n; i++) {
    /* relaxed: each look follows the reads of all slots; see "References stay". */
    const struct member *m = &young->members[i];
    bool root = m->refs != m->local || gyre__load_relaxed(&m->h->shared) != 0;
    young->marked[i] = root;
    if (root) young->stack[depth++] = i;
  }
  GYRE_WINDOW("young/flags");
  while (depth > 0) {
    uint32_t i = young->stack[--depth];
    live++;
    for (uint32_t e = young->members[i].first_edge; e < young->members[i + 1].first_edge; e++) {
      uint32_t to = young->edges[e];
      if (young->marked[to]) continue;
      young->marked[to] = true;
      young->stack[depth++] = to;
    }
  }
  return live;
}

/* The local counts as they were, of what lives. */
static void counts_restore(struct gyre__young *young, uint32_t n) {
  for (uint32_t i = 0; i < n; i++)
    /* relaxed: ours alone. */
    if (young->marked[i]) gyre__store_relaxed(&young->members[i].h->local, young->members[i].local);
}

/* 4: what the garbage refers to outside; these slots are emptied. */
static uint32_t outside_take(struct gyre__objects *self, uint32_t n) {
  struct gyre__young *young = young_of(self);
  uint32_t id = self->heap.thread.base.id, count = 0;
  for (uint32_t i = 0; i < n; i++) {
    if (young->marked[i]) continue;
    gyre__header *h = young->members[i].h;
    const struct layout *layout = layout_of(young, h);
    FOR_EACH_SLOT(layout, h, slot, {
      /* relaxed: nobody else reaches the object. */
      void *target = gyre__load_relaxed(&slot->gyre__ref);
      /* The marked have their counts back by now: only garbage still has its number. */
      if (target == NULL || member_of(id, gyre__header_of(target)) != NO_MEMBER) continue;
      /* relaxed: as above. */
      gyre__store_relaxed(&slot->gyre__ref, NULL);
      young->outside[count++] = target;
    });
  }
  return count;
}

/* Its references are to other garbage, or dealt with. */
static void slots_empty(struct gyre__young *young, gyre__header *h) {
  const struct layout *layout = layout_of(young, h);
  /* relaxed: nobody else reaches the object. */
  FOR_EACH_SLOT(layout, h, slot, { gyre__store_relaxed(&slot->gyre__ref, NULL); });
}

/* May the block of a dead object of ours be used again at once? `still`: in that mode. */
static inline bool may_free_at_once(gyre__header *h, bool still) {
  /* relaxed: ours. */
  return is_young(h) && (!still || gyre__load_relaxed(&h->gc) & GYRE__GC_BESIDE);
}

/* Frees the garbage. What cannot be freed at once is left, at the front of the stack, with a count
 * of 1: it has a hook, or a thread that is late has counted it. */
static uint32_t garbage_free(struct gyre__objects *self, uint32_t n, uint64_t *bytes) {
  struct gyre__young *young = young_of(self);
  uint32_t left = 0;
  bool still = gyre__mode_of(self->heap.thread.mode) == GYRE__MODE_STILL;
  bool kept = self->heap.thread.mode & GYRE__MODE_KEPT;
  for (uint32_t i = 0; i < n; i++) {
    if (young->marked[i]) continue;
    gyre__header *h = young->members[i].h;
    struct gyre__page *page = gyre__page_of(h);
    *bytes += page->block_size;
    /* relaxed: ours alone. */
    gyre__store_relaxed(&h->local, 0);
    GYRE_WINDOW("young/local_zero");
    /* seq_cst: as in release_owned() in lib/object/refcount.c: a thread that counts late is seen, or
     * sees that its slot has changed. */
    if (GYRE_UNLIKELY(gyre__load_seq_cst(&h->shared) != gyre__shared_of(0, GYRE__DEFAULT) ||
                      layout_of(young, h)->has_destroy)) {
      slots_empty(young, h);
      /* relaxed: ours alone. It is dead, whoever comes by (walk.c). */
      gyre__store_relaxed(&h->gc, (uint8_t)(gyre__load_relaxed(&h->gc) | GYRE__GC_DEAD));
      gyre__store_relaxed(&h->local, 1);
      young->stack[left++] = i;
    } else if (GYRE_LIKELY(!kept && page->kind == GYRE__TRACKED && may_free_at_once(h, still))) {
      /* Not a leaf that a look has come upon: those are in pages of their own.
       * relaxed: the block is nobody's but ours. It is not in the log any more, or twice in it, and
       * was never a candidate of a collection. */
      gyre__store_relaxed(&h->gc, 0);
      gyre__heap_free(&self->heap, page, h, GYRE__TRACKED);
    } else {
      slots_empty(young, h); /* for a collector that comes by */
      gyre__object_free(self, h, page);
    }
  }
  return left;
}

/* What a step leaves: objects that live; garbage that could not be freed at once, and what garbage
 * referred to, both still to be released; bytes freed. */
struct remains {
  uint32_t live, left, outside;
  uint64_t bytes;
};

/* Releases what is left of the garbage, and what it held. Runs program code. */
static void aftermath(struct gyre__young *young, const struct remains *r) {
  for (uint32_t i = 0; i < r->left; i++)
    gyre_release(gyre__object_of(young->members[young->stack[i]].h));
  for (uint32_t i = 0; i < r->outside; i++)
    gyre_release(young->outside[i]);
}

static void survivors_promote(struct gyre__objects *self, uint32_t n, struct promotion *p) {
  for (uint32_t i = 0; i < n; i++)
    if (young_of(self)->marked[i]) promote(self, young_of(self)->members[i].h, p);
}

/* ---- how long, how often ---- */

static void adapt(struct gyre__young *young, uint32_t looked, uint32_t died, uint64_t ns) {
  uint64_t most_ns = gyre__option(young_us) * 1000;
  if (ns > most_ns && young->step > STEP_MIN)
    young->step /= 2;
  else if (died < looked / 2 && ns < most_ns / 2 && young->step < LOG_MAX / 2)
    young->step *= 2;
  else if (died > looked - looked / 8 && young->step > STEP_MIN)
    young->step /= 2;
  if (died > looked / 32)
    young->skip = 0;
  else
    young->skip = young->skip < SKIP_MAX ? 2 * young->skip + 1 : SKIP_MAX;
}

/* While logs are passed over, objects are armed from birth: so that what is promoted unlooked at has an
 * entrance that was noted, if it is garbage. */
static void arm_births(struct gyre__objects *self, bool on) {
  uint64_t *bits = &self->heap.thread.base.gyre__birth_bits;
  *bits = (*bits & ~BIRTH_ARMED) | (on ? BIRTH_ARMED : 0);
}

static void figure_add(gyre__atomic_u64 *figure, uint64_t n) {
  /* relaxed: this thread's own figure; others look. */
  gyre__store_relaxed(figure, gyre__load_relaxed(figure) + n);
}

/* 3 and 4, but for the promotion of what lives. */
static struct remains separate(struct gyre__objects *self, uint32_t n, uint32_t others) {
  struct gyre__young *young = young_of(self);
  struct remains r = {.live = mark(young, n)};
  counts_restore(young, n);
  if (r.live < n) {
    /* To others, or to members that live. */
    if (others > 0 || r.live > 0) r.outside = outside_take(self, n);
    r.left = garbage_free(self, n, &r.bytes);
  }
  young->examined = 0;
  return r;
}

static void account(struct gyre__young *young, uint32_t n, const struct remains *r, uint64_t ns) {
  GYRE_PROBE3(young, n, n - r->live, ns);
  figure_add(&young->stats.collections, 1);
  figure_add(&young->stats.candidates, n);
  figure_add(&young->stats.collected, n - r->live);
  figure_add(&young->stats.freed_bytes, r->bytes);
  figure_add(&young->stats.duration_ns, ns);
  /* relaxed: as in figure_add(). */
  if (ns > gyre__load_relaxed(&young->stats.longest_ns))
    gyre__store_relaxed(&young->stats.longest_ns, ns);
}

/* Nobody else counts our objects from outside while we look. If somebody does so now, we look later. */
static bool look_lock(struct gyre__objects *self) {
  if (gyre__lock_try(&self->look_lock)) return true;
  gyre__thread_request(&self->heap.thread, GYRE__REQ_COLLECT);
  return false;
}

static void step(struct gyre__objects *self) {
  struct gyre__young *young = young_of(self);
  struct promotion p = {.gc = GYRE__GC_PROMOTED};
  uint64_t start = gyre__clock_ns();
  size_t slots = 0;
  self->young_busy = true;
  uint32_t n = members_find(self, &p, &slots);
  GYRE_WINDOW("young/members");
  log_set_length(self, 0);
  uint32_t others = edges_find(self, n);
  struct remains r = separate(self, n, others);
  gyre__lock_give(&self->look_lock);
  survivors_promote(self, n, &p);
  uint64_t ns = gyre__clock_ns() - start;
  adapt(young, n > 0 ? n : 1, n - r.live, ns);
  arm_births(self, young->skip > 0);
  limit_set(self);
  promotion_report(self, &p, true);
  account(young, n, &r, ns);
  aftermath(young, &r);
  self->young_busy = false;
}

/* ---- a look behind the entrances ---- */

/* What is behind an entrance is old, and mostly not in the cache: a reference is followed some steps
 * after it was found. References are taken up in the order they were found, so the edges of a member
 * lie together all the same. */
#define REACH_QUEUE 16u

struct reach {
  struct gyre__objects *self;
  size_t slots;
  uint32_t n;      /* members */
  uint32_t others; /* references that lead elsewhere */
  bool stopped;    /* one of them to something that may be in a cycle */
  uint32_t edge;   /* edges */
  uint32_t placed; /* members whose first edge is known */
  uint32_t first, count;
  struct {
    uint32_t from;
    gyre__header *to;
  } queue[REACH_QUEUE];
};

static void reach_take_up(struct reach *r) {
  struct gyre__young *young = young_of(r->self);
  uint32_t from = r->queue[r->first].from;
  gyre__header *to = r->queue[r->first].to;
  r->first = (r->first + 1) % REACH_QUEUE;
  r->count--;
  while (r->placed <= from)
    young->members[r->placed++].first_edge = (uint16_t)r->edge;
  uint32_t number = member_of(r->self->heap.thread.base.id, to);
  if (number == NO_MEMBER) {
    r->others++;
    if (r->n == DROPPED_REACH_MAX || !member_add(r->self, young, to, r->n, &r->slots)) {
      /* relaxed: constant. A leaf is in no cycle. */
      r->stopped |= (gyre__load_relaxed(&to->bits) & GYRE__BIT_COMPLEX) != 0;
      return;
    }
    r->others--;
    number = r->n++;
  }
  young->members[number].refs++;
  young->edges[r->edge++] = (uint16_t)number;
}

static void reach_see(struct reach *r, uint32_t from, gyre__header *to) {
  __builtin_prefetch(to, 1);
  if (r->count == REACH_QUEUE) reach_take_up(r);
  uint32_t at = (r->first + r->count++) % REACH_QUEUE;
  r->queue[at].from = from;
  r->queue[at].to = to;
}

/* 2, for what is behind the first members: all that they reach, nearest first, as far as it may be a
 * member and there is room. */
static void reach_find(struct reach *r) {
  struct gyre__young *young = young_of(r->self);
  for (uint32_t i = 0;; i++) {
    while (i == r->n && r->count > 0)
      reach_take_up(r);
    if (i == r->n) break;
    gyre__header *h = young->members[i].h;
    struct layout layout = *layout_of(young, h); /* others are asked about meanwhile */
    FOR_EACH_SLOT(&layout, h, slot, {
      /* acquire: as in edges_find(). */
      void *target = gyre__load_acquire(&slot->gyre__ref);
      if (target != NULL) reach_see(r, i, gyre__header_of(target));
    });
  }
  while (r->placed <= r->n)
    young->members[r->placed++].first_edge = (uint16_t)r->edge;
  GYRE_WINDOW("young/edges");
}

/* The entrances are the first members. Young ones are armed only in times when all are. */
static void arm_again(struct gyre__objects *self, uint32_t entrances) {
  struct gyre__young *young = young_of(self);
  for (uint32_t i = 0; i < entrances; i++) {
    if (!young->marked[i]) continue;
    gyre__header *h = young->members[i].h;
    /* relaxed: ours; see GYRE__GC_ARMED. */
    uint8_t gc = gyre__load_relaxed(&h->gc);
    if ((gc & GYRE__GC_AGE) != GYRE__GC_YOUNG || births_are_armed(self))
      gyre__store_relaxed(&h->gc, (uint8_t)(gc | GYRE__GC_ARMED));
  }
}

/* The entrances that were dropped last, as many as the look may take. */
static uint32_t entrances_find(struct reach *r) {
  struct gyre__young *young = young_of(r->self);
  uint32_t at = young->dropped_count, count = 0;
  for (; at > 0 && count < young->look; at--) {
    gyre__header *h = young->dropped[at - 1];
    /* relaxed: ours, or not; the block may be free, or another object's by now, which does not matter
     * to the look at it. */
    if (gyre__load_relaxed(&h->gc) == 0 ||
        member_of(r->self->heap.thread.base.id, h) != NO_MEMBER ||
        !member_add(r->self, young, h, r->n, &r->slots))
      continue;
    r->n++;
    count++;
  }
  young->dropped_count = at;
  return count;
}

static void look(struct gyre__objects *self) {
  struct gyre__young *young = young_of(self);
  uint64_t start = gyre__clock_ns();
  struct reach reach = {.self = self};
  self->young_busy = true;
  uint32_t entrances = entrances_find(&reach);
  reach_find(&reach);
  uint32_t n = reach.n;
  struct remains r = separate(self, n, reach.others);
  gyre__lock_give(&self->look_lock);
  arm_again(self, entrances);
  uint64_t now = gyre__clock_ns(), ns = now - start;
  bool pays = n - r.live >= n / 8;
  young->dropped_after_ns = pays ? 0 : now + DROPPED_SHARE * ns;
  if (n == DROPPED_REACH_MAX && young->look > 1)
    young->look /= 2;
  else if (n < DROPPED_REACH_MAX / 4 && young->look < DROPPED_LOOK)
    young->look *= 2;
  if (young->dropped_count >= young->look)
    gyre__thread_request(&self->heap.thread, GYRE__REQ_COLLECT);
  /* What is behind may be garbage all the same, that other threads have a part in. */
  struct promotion p = {.blind = reach.stopped && r.live > 0};
  promotion_report(self, &p, false);
  account(young, n, &r, ns);
  aftermath(young, &r);
  self->young_busy = false;
}

/* Is it time for a look, with so many entrances noted? */
static bool may_look(struct gyre__objects *self, uint32_t least) {
  struct gyre__young *young = young_of(self);
  if (young == NULL || self->young_busy || young->dropped_count < least) return false;
  if (gyre_gc_get_debug() & GYRE_GC_DEBUG_LEAK) return false;
  return !(self->heap.thread.mode & GYRE__MODE_CLOSED);
}

static bool is_affordable(const struct gyre__young *young) {
  return young->dropped_after_ns == 0 || gyre__clock_ns() >= young->dropped_after_ns;
}

/* What a thread has noted does not wait until it comes back, if it does. */
static void leaving(struct gyre__objects *self, bool detach) {
  if (!may_look(self, 1) || self->heap.thread.is_collecting || self->in_cascade ||
      !gyre__option(gc))
    return;
  if ((detach || is_affordable(young_of(self))) && look_lock(self)) look(self);
}

void gyre__young_look(struct gyre__objects *self, bool always) {
  if (!may_look(self, always ? 1 : DROPPED_LOOK)) return;
  if ((always || is_affordable(young_of(self))) && look_lock(self)) look(self);
}

void gyre__young_collect(struct gyre__objects *self, bool always) {
  struct gyre__young *young = young_of(self);
  if (young == NULL || self->young_busy) return;
  if (!always && log_length(self) < young->step && log_length(self) < step_max()) {
    /* Shorter than when it was asked for: the rest has died by itself. */
    limit_set(self);
    return;
  }
  bool leave = (gyre_gc_get_debug() & GYRE_GC_DEBUG_LEAK) != 0;
  if (leave || (!always && young->skipped < young->skip)) {
    young->skipped++;
    struct promotion p = {.gc = GYRE__GC_PROMOTED, .blind = !births_are_armed(self)};
    promote_log(self, &p);
    promotion_report(self, &p, false);
    limit_set(self);
    return;
  }
  if (!look_lock(self)) return;
  young->skipped = 0;
  step(self);
}

void gyre__young_report(struct gyre__objects *self) {
  struct promotion p = {0};
  if (young_of(self) != NULL && young_of(self)->born_promoted != 0)
    promotion_report(self, &p, false);
}

void gyre__young_plan(struct gyre__objects *self) {
  if (young_of(self) != NULL) limit_set(self);
}

void gyre__young_stats(struct gyre__objects *slot, struct gyre_gc_stats *sum) {
  if (young_of(slot) == NULL) return;
  struct gyre__young_stats *s = &young_of(slot)->stats;
  /* relaxed: figures. */
  sum->collections += gyre__load_relaxed(&s->collections);
  sum->candidates += gyre__load_relaxed(&s->candidates);
  sum->collected += gyre__load_relaxed(&s->collected);
  sum->freed_bytes += gyre__load_relaxed(&s->freed_bytes);
  sum->duration_ns += gyre__load_relaxed(&s->duration_ns);
  uint64_t longest = gyre__load_relaxed(&s->longest_ns);
  if (longest > sum->young_max_ns) sum->young_max_ns = longest;
}

/* In the child of a fork: a thread that was lost may have been in the middle of a step. The counts of
 * what it was looking at are not there; it stays for ever. */
static void lost_forget(struct gyre__objects *slot) {
  struct gyre__young *young = young_of(slot);
  for (uint32_t i = 0; i < young->examined; i++) {
    gyre__header *h = young->members[i].h;
    /* relaxed: no other thread exists. */
    uint8_t gc = gyre__load_relaxed(&h->gc);
    if (gc == 0 || gc & GYRE__GC_DEAD || !(gyre__load_relaxed(&h->local) & GYRE__LOCAL_MARK))
      continue;
    gyre__store_relaxed(&h->local, 1);
    (void)gyre_immortalize(gyre__object_of(h));
  }
  young->examined = 0;
}

void gyre__young_fork_child(void) {
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= count; id++) {
    struct gyre__objects *slot = (struct gyre__objects *)gyre__thread_slot(id);
    gyre__lock_reset(&slot->look_lock);
    if (&slot->heap.thread == gyre__thread_current() || young_of(slot) == NULL) continue;
    lost_forget(slot);
    slot->young_busy = false;
  }
}

static void __attribute__((constructor)) young_init(void) {
  gyre__object_hooks.young_full = young_full;
  gyre__object_hooks.young_promote = promote_all;
  gyre__object_hooks.young_still = young_still;
  gyre__object_hooks.born_promoted = born_promoted;
  gyre__object_hooks.dropped = dropped;
  gyre__object_hooks.leaving = leaving;
  gyre__heap_before_reap = before_reap;
}
