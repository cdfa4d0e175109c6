/* SPDX-License-Identifier: MIT */
/* What lib/object offers the rooms above: types by id, counting, deaths, walking an object's
 * references. */
#ifndef GYRE_LIB_OBJECT_OBJECT_H
#define GYRE_LIB_OBJECT_OBJECT_H

#include "lib/heap/heap.h"
#include "lib/object/refcount.h"

/* A slot's part of this room, behind its heap. Owner-only. */
struct gyre__young;

/* Dead objects, linked through their headers (release.c). */
struct gyre__chain {
  gyre__header *first, *last;
};

/* Objects whose last count this thread has kept (late.c). */
struct gyre__late {
  gyre__header **items; /* NULL until there is one */
  size_t count, room;
};

struct gyre__objects {
  struct gyre__heap heap;
  /* Objects whose count is 0 and whose references are still to be dropped, last one first
   * (release.c). */
  struct gyre__chain dying;
  /* Destroyed objects whose blocks must wait for the end of a collection, and those whose wait is
   * over (limbo.c). */
  struct gyre__chain limbo, ripe;
  /* We are inside release.c's loop: deaths are left to it. */
  bool in_cascade;
  /* The log of young objects begins here, behind an entry of NULL; its end is in the handle. Each object
   * that is alive is in it at least once. When the end reaches the limit, lib/collect is asked
   * (young_full). */
  gyre__header **young_base;
  /* 1: objects of this thread may become garbage that it cannot find by itself: it has counted
   * others' objects, or others have counted its own, or it has looked in vain. Others only set it. */
  gyre__atomic_u32 is_sharing;
  struct gyre__late late;
  /* Without memory for a log: objects that were promoted at birth, modulo 2^32. */
  uint32_t unlogged;
  /* Promoted objects that this thread has destroyed, since it last told lib/collect. */
  uint64_t gone_objects, gone_bytes;
  /* -- lib/collect/young.c -- */
  /* Held by the thread while it looks through its own objects, and by a walk while it counts some of
   * them (lib/collect/walk.c): the thread never waits for it. */
  gyre__lock look_lock;
  /* struct gyre__young, NULL until the first object is logged. Written by the thread, read by
   * anyone. */
  gyre__atomic_ptr young;
  /* A step or a look is under way: program code that it runs may not begin another. */
  bool young_busy;
};
_Static_assert(sizeof(struct gyre__objects) <= GYRE__SLOT_BYTES, "GYRE__SLOT_BYTES");
_Static_assert(GYRE__KIND_TRACKED == GYRE__TRACKED, "gyre_thread_new()");

/* What the rooms above want to be told; NULL entries are skipped. */
struct gyre__object_hooks {
  /* lib/weak: the object, whose count is 0 for good, has weak references: clear them and call their
   * callbacks. */
  void (*weak_died)(struct gyre__objects *self, void *object);
  /* lib/collect: the log of young objects has reached its limit: log the object or promote it. */
  void (*young_full)(struct gyre__objects *self, gyre__header *h);
  /* lib/collect: promotes all young objects of the slot, which is ours or taken. */
  void (*young_promote)(struct gyre__objects *slot, bool fresh);
  /* lib/collect: the slot, which is ours or taken, leaves mode STILL, enters it, or both. */
  void (*young_still)(struct gyre__objects *slot, bool leaves, bool enters);
  /* lib/collect: the owner has given up a count of an armed object, which lives. */
  void (*dropped)(struct gyre__objects *self, gyre__header *h);
  /* lib/collect: the thread is about to detach or park: looks at what it has noted. May run program
   * code. */
  void (*leaving)(struct gyre__objects *self, bool detach);
  /* lib/collect: an object that nobody but the collector looks after was born: a large one. */
  void (*born_promoted)(struct gyre__objects *self, gyre__header *h, struct gyre__page *page);
  /* lib/collect: will somebody run queued finalizers? And: there is another. */
  bool (*pending_is_served)(void);
  void (*pending_added)(void);
  /* lib/collect: a frozen object's block is about to be freed. */
  void (*frozen_gone)(void);
  /* lib/collect: a release cascade was cut off: true if somebody else goes on with it, who has taken
   * the chain. */
  bool (*cascade_cut)(struct gyre__objects *self, struct gyre__chain *chain);
};
extern struct gyre__object_hooks gyre__object_hooks;

GYRE_INLINE void *gyre__object_of(gyre__header *h) { return (char *)h + GYRE_HEADER_SIZE; }

/* The calling thread's part; attaches it, and dies if that is impossible: for paths that cannot
 * fail. */
struct gyre__objects *gyre__objects_self(void);
/* Attaches the calling thread if it is not: before it counts, moves a reference or locks an object.
 * A thread that did so unattached would do it in a stopped world too, and hold up no grace period.
 */
GYRE_INLINE void gyre__attach_self(void) {
  if (GYRE_UNLIKELY(gyre__self->id == 0)) (void)gyre__objects_self();
}

/* ---- types (type.c) ---- */

#define GYRE__TYPE_ID_BITS 20
#define GYRE__TYPE_ID_MASK (((uint32_t)1 << GYRE__TYPE_ID_BITS) - 1)

extern gyre__atomic_ptr *gyre__type_table;

/* The type with this id. */
GYRE_INLINE gyre_type *gyre__type(uint32_t id) {
  /* relaxed: an object's header carries an id only after the entry was stored, and whoever sees the
   * object sees that. Pairs with the release of gyre__id in type.c. */
  return (gyre_type *)gyre__load_relaxed(&gyre__type_table[id]);
}
GYRE_INLINE uint32_t gyre__header_type_id(const gyre__header *h) {
  /* relaxed: the id is constant; the bits above it are the business of who destroys the object. */
  return gyre__load_relaxed(&h->type) & GYRE__TYPE_ID_MASK;
}
GYRE_INLINE gyre_type *gyre__header_type(const gyre__header *h) {
  return gyre__type(gyre__header_type_id(h));
}

/* Bytes to ask the heap for: header and body, rounded up, and room for a free block's link behind
 * the header. */
GYRE_INLINE size_t gyre__object_block_size(size_t body) {
  size_t size = (GYRE_HEADER_SIZE + body + 15) & ~(size_t)15;
  return size < 2 * GYRE_HEADER_SIZE ? 2 * GYRE_HEADER_SIZE : size;
}

/* The first eight bytes of a header as one value. */
GYRE_INLINE uint64_t gyre__header_word(uint32_t type, uint32_t owner, uint32_t gc, uint32_t bits) {
  return (uint64_t)type | (uint64_t)owner << 32 | (uint64_t)gc << 48 | (uint64_t)bits << 56;
}
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "gyre__header_word");

/* ---- references of an object ---- */

/* Where the length of an array object is kept: the last word of its block. `page` is the object's.
 */
GYRE_INLINE gyre__atomic_size *gyre__array_length_word(const gyre__header *h,
                                                       const struct gyre__page *page) {
  return (gyre__atomic_size *)((uintptr_t)h + gyre__page_usable(page) - sizeof(size_t));
}

/* Elements of an object of a type with element_size; 0 otherwise. */
GYRE_INLINE size_t gyre__array_length(const gyre_type *type, const gyre__header *h,
                                      const struct gyre__page *page) {
  if (type->element_size == 0) return 0;
  /* relaxed: constant until the object is taken apart, and then it only falls. */
  return gyre__load_relaxed(gyre__array_length_word(h, page));
}

GYRE_INLINE gyre_slot *gyre__slot_at(void *base, size_t offset) {
  return (gyre_slot *)(void *)((char *)base + offset);
}

/* GYRE__FOR_EACH_ELEMENT_SLOT(type, h, page, slot, { ... }): the body for every slot in the
 * object's elements, `slot` a gyre_slot *. */
#define GYRE__FOR_EACH_ELEMENT_SLOT(type, h, page, slot, body)                                     \
  do {                                                                                             \
    if ((type)->element_slots.count == 0) break;                                                   \
    size_t gyre__n = gyre__array_length((type), (h), (page));                                      \
    char *gyre__e = (char *)(h) + GYRE_HEADER_SIZE + (type)->size;                                 \
    for (; gyre__n > 0; gyre__n--, gyre__e += (type)->element_size)                                \
      for (size_t gyre__i = 0; gyre__i < (type)->element_slots.count; gyre__i++) {                 \
        gyre_slot *slot = gyre__slot_at(gyre__e, (type)->element_slots.at[gyre__i].offset);        \
        body                                                                                       \
      }                                                                                            \
  } while (0)

/* The same for every slot of the object. */
#define GYRE__FOR_EACH_SLOT(type, h, page, slot, body)                                             \
  do {                                                                                             \
    for (size_t gyre__i = 0; gyre__i < (type)->slots.count; gyre__i++) {                           \
      gyre_slot *slot =                                                                            \
          gyre__slot_at((char *)(h) + GYRE_HEADER_SIZE, (type)->slots.at[gyre__i].offset);         \
      body                                                                                         \
    }                                                                                              \
    GYRE__FOR_EACH_ELEMENT_SLOT(type, h, page, slot, body);                                        \
  } while (0)

/* ---- counting (refcount.c, merge.c, release.c) ---- */

/* Counts one more in the shared word, unless the object is (MERGED, 0). For objects of other
 * owners. seq_cst. */
bool gyre__try_count(gyre__header *h);
/* gyre_try_retain() without the check of its precondition. */
bool gyre__try_retain(gyre__header *h);
/* Takes one off in the shared word; merges, queues or kills as need be. For objects of other owners
 * or of none. */
void gyre__release_shared(struct gyre__objects *self, gyre__header *h);
/* Frozen objects' counts may be stopped (lib/collect/apart.c): their state is immortal, and a word beside
 * the page has this and what has been counted since. */
#define GYRE__COUNT_STOPPED ((uint32_t)1 << 30)
/* In the shared word of such an object, in place of GYRE__PUBLISHED: it had an owner, and counts in local. */
#define GYRE__STOPPED_OWNED GYRE__PUBLISHED
/* Not so a word that counts from 0, a little up or down: of an object that has become immortal for good. */
GYRE_INLINE bool gyre__count_word_is_stopped(uint32_t word) {
  return word - GYRE__COUNT_STOPPED / 2 < GYRE__COUNT_STOPPED;
}
/* The word, if the object, which is immortal, is one of these; NULL otherwise. In an attached thread. */
gyre__atomic_u32 *gyre__stopped_count(const gyre__header *h);
GYRE_INLINE bool gyre__counts_are_stopped(const gyre__header *h) {
  /* relaxed: changes in a stopped world only. */
  return gyre__state_of(gyre__load_relaxed(&h->shared)) == GYRE__IMMORTAL_STATE &&
         gyre__stopped_count(h) != NULL;
}
/* Gives the object's local count to its shared word and ends its ownership. By the owner, or who
 * has its slot taken. A merge request that is open stays open if keep_request (its reference is
 * then the caller's), and is closed otherwise. Returns the count after. */
int32_t gyre__merge(gyre__header *h, bool keep_request);
/* Asks the owner to merge; the caller has made the object QUEUED. */
void gyre__merge_request(struct gyre__objects *self, struct gyre__page *page, gyre__header *h);
/* The count is 0 and nobody can raise it: weak references, then what the object holds, then its
 * block. */
void gyre__object_die(struct gyre__objects *self, gyre__header *h);
/* Runs the object's finalizer if it has one that has not been started; the caller holds a count. */
void gyre__object_finalize(gyre__header *h);
/* pending.c: queues the object, of which the caller drops the last reference, if its type wants that; the
 * reference is the queue's then. */
bool gyre__pending_take(gyre__header *h);
/* Queues an object whose finalizer is to be run, with a reference of the queue's own. False if there is no
 * memory for that. */
bool gyre__pending_add(gyre__header *h);
/* Reports a finalizer that has returned an error. Runs program code. */
void gyre__finalizer_failed(void *object, int error);
void gyre__pending_fork_prepare(void);
void gyre__pending_fork_parent(void);
void gyre__pending_fork_child(void);
/* Takes a dead object apart: its hooks, then its references, up to *budget of them, which is
 * counted down. True when all is done; otherwise it is to be called again. With `quietly`, also
 * stops before it would run program code. */
bool gyre__object_clear(gyre__header *h, struct gyre__page *page, uint64_t *budget, bool quietly);
/* Gives the block back; the header's shared word is at rest or as late readers leave it. */
void gyre__object_free(struct gyre__objects *self, gyre__header *h, struct gyre__page *page);
/* Destroys waiting objects until none is left. */
void gyre__release_all(struct gyre__objects *self);
/* A new tracked object goes into the log of the young. */
GYRE_INLINE bool gyre__young_log(struct gyre__objects *self, gyre__header *h) {
  /* relaxed: this thread's own; others only look how long the log is. */
  gyre__header **end = (gyre__header **)gyre__load_relaxed(&self->heap.thread.base.gyre__young_end);
  if (GYRE_UNLIKELY(end == self->heap.thread.base.gyre__young_limit)) return false;
  *end = h;
  /* relaxed: as above. */
  gyre__store_relaxed(&self->heap.thread.base.gyre__young_end, (void *)(end + 1));
  return true;
}
/* A tracked object's block is about to be freed: takes it out of the log if it is the last in it, so
 * that a program that makes and drops objects in turn does not fill the log. */
GYRE_INLINE void gyre__young_unlog(struct gyre__objects *self, const gyre__header *h) {
  /* relaxed: as above. */
  gyre__header **end = (gyre__header **)gyre__load_relaxed(&self->heap.thread.base.gyre__young_end);
  /* relaxed: as above. */
  if (end[-1] == h) gyre__store_relaxed(&self->heap.thread.base.gyre__young_end, (void *)(end - 1));
}

/* ---- without counts (late.c): option "rc" ---- */

/* The caller gives up what may be the last count of an object: true if the thread keeps it for the next
 * collection. */
bool gyre__late_keep(struct gyre__objects *self, gyre__header *h);
GYRE_INLINE bool gyre__keeps_late(struct gyre__objects *self, gyre__header *h) {
  return GYRE_UNLIKELY(self->heap.thread.counts_are_off) && gyre__late_keep(self, h);
}
/* How many counts are kept. Any thread. */
uint64_t gyre__late_count(void);
/* By the collecting thread, before it collects: gives up all that threads keep. Stops the world for a
 * moment, and runs program code. */
void gyre__late_drop(struct gyre__objects *self);

/* ---- what threads share ---- */

/* This thread counts an object that is not its own; `first`: nobody has before. From then on, garbage of
 * the two threads may be such that neither finds it. */
void gyre__share(gyre__header *h);
GYRE_INLINE void gyre__note_shared(gyre__header *h, uint32_t old_shared) {
  if (GYRE_UNLIKELY(!(old_shared & GYRE__PUBLISHED) && gyre__published_in(old_shared)))
    gyre__share(h);
}

/* ---- what a collection beside the program asks for ---- */

/* Is the heap being copied, so that leaves are kept and touched as well? */
GYRE_INLINE bool gyre__is_copied(void) {
  return (((struct gyre__thread *)(void *)gyre__self)->mode & GYRE__MODE_KEPT) != 0;
}
/* Marks the object as touched, unless nobody could ask: a leaf, while a collection runs. For threads in
 * LOGGING mode. */
GYRE_INLINE void gyre__touch(gyre__header *h) {
  /* relaxed: a mark that is there already is as good as a new one: the collector cleared it before
   * this thread's mode became LOGGING, which orders the two; pairs with gyre__suspect_clear() and with
   * marks_clear() in lib/observe/copy.c. */
  uint32_t bits = gyre__load_relaxed(&h->bits);
  if (bits & GYRE__BIT_TOUCHED) return;
  if (!(bits & GYRE__BIT_COMPLEX) && !gyre__is_copied()) return;
  /* relaxed: the collector looks after this thread's next handshake, which orders it. */
  gyre__fetch_or_relaxed(&h->bits, (uint8_t)GYRE__BIT_TOUCHED);
}
/* Does this thread have to touch what it counts or moves? */
GYRE_INLINE bool gyre__is_logging(void) { return GYRE_UNLIKELY(gyre__bias == GYRE__BIAS_NONE); }
/* A counted object that is not the caller's is about to be removed from a slot, or to get what keeps
 * it from its owner's own collections. */
void gyre__publish(gyre__header *h);

/* Adds so many counts to an object's shared word that whatever program code drops while the collector
 * takes it apart, or runs its finalizer, it neither dies nor is queued for a merge. The object has
 * fewer than GYRE__HOLD counts. Any thread. */
#define GYRE__HOLD ((int32_t)1 << 26)
void gyre__hold(gyre__header *h);
/* Takes them off again; may kill the object or queue it, as a release does. */
void gyre__unhold(struct gyre__objects *self, gyre__header *h);

/* lock.c: the object lock without a touch, for the collector, which moves nothing under it; and for a
 * dead object, whose lock only the collector may have, for a moment: does not park. */
bool gyre__lock_try_quietly(gyre__header *h);
void gyre__unlock_quietly(gyre__header *h);
void gyre__lock_unparked(gyre__header *h);

/* Puts a dead object in front of a chain, takes the first off, and puts all of `from` in front of
 * `to`. */
void gyre__chain_push(struct gyre__chain *chain, gyre__header *h);
gyre__header *gyre__chain_pop(struct gyre__chain *chain);
void gyre__chain_move(struct gyre__chain *to, struct gyre__chain *from);
/* limbo.c: frees up to *budget ripe blocks of a slot that is ours or taken. */
void gyre__ripe_free(struct gyre__objects *slot, uint64_t *budget);

#endif
