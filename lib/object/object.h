/* SPDX-License-Identifier: MIT */
/* What lib/object offers the rooms above: types by id, counting, deaths, walking an object's
 * references. */
#ifndef GYRE_LIB_OBJECT_OBJECT_H
#define GYRE_LIB_OBJECT_OBJECT_H

#include "lib/heap/heap.h"
#include "lib/object/refcount.h"

/* A slot's part of this room, behind its heap. Owner-only. */
struct gyre__objects {
  struct gyre__heap heap;
  /* Objects whose count is 0 and whose references are still to be dropped, last one first
   * (release.c). */
  gyre__header *dying;
  /* We are inside release.c's loop: deaths are left to it. */
  bool in_cascade;
  /* Tracked objects allocated less those freed since this was last reported to the collector, and
   * where to report: at either limit. Atomic because gyre_gc_get_count() may read it. */
  gyre__atomic_u32 gc_limit;
  gyre__atomic_u32 gc_net;
};
_Static_assert(sizeof(struct gyre__objects) <= GYRE__SLOT_BYTES, "GYRE__SLOT_BYTES");

/* What the rooms above want to be told; NULL entries are skipped. */
struct gyre__object_hooks {
  /* lib/weak: the object, whose count is 0 for good, has weak references: clear them and call their
   * callbacks. */
  void (*weak_died)(struct gyre__objects *self, void *object);
  /* lib/collect: gc_net of this thread has reached its limit: take it over and set it to 0. */
  void (*gc_count)(struct gyre__objects *self);
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
GYRE_INLINE gyre_type *gyre__header_type(const gyre__header *h) {
  return gyre__type(h->type & GYRE__TYPE_ID_MASK);
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
GYRE_INLINE size_t *gyre__array_length_word(const gyre__header *h, const struct gyre__page *page) {
  return (size_t *)(void *)((uintptr_t)h + gyre__page_usable(page) - sizeof(size_t));
}

/* Elements of an object of a type with element_size; 0 otherwise. */
GYRE_INLINE size_t gyre__array_length(const gyre_type *type, const gyre__header *h,
                                      const struct gyre__page *page) {
  if (type->element_size == 0) return 0;
  return *gyre__array_length_word(h, page);
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
/* Takes a dead object apart: its hooks, then its references, up to *budget of them, which is
 * counted down. True when all is done; otherwise it is to be called again. With `quietly`, also
 * stops before it would run program code. */
bool gyre__object_clear(gyre__header *h, struct gyre__page *page, uint64_t *budget, bool quietly);
/* Gives the block back; the header's shared word is at rest or as late readers leave it. */
void gyre__object_free(struct gyre__objects *self, gyre__header *h, struct gyre__page *page);
/* Destroys waiting objects until none is left. */
void gyre__release_all(struct gyre__objects *self);
/* Counts tracked objects that this thread allocated, or freed, for the collector. True if it is
 * time to report: the caller calls gyre__object_hooks.gc_count(). */
GYRE_INLINE bool gyre__gc_allocated(struct gyre__objects *self) {
  /* relaxed: this thread's own figures; others only look, or set the limit. */
  int32_t net = (int32_t)gyre__load_relaxed(&self->gc_net) + 1;
  gyre__store_relaxed(&self->gc_net, (uint32_t)net);
  return GYRE_UNLIKELY(net >= (int32_t)gyre__load_relaxed(&self->gc_limit));
}
GYRE_INLINE bool gyre__gc_freed(struct gyre__objects *self) {
  /* relaxed: as above. */
  int32_t net = (int32_t)gyre__load_relaxed(&self->gc_net) - 1;
  gyre__store_relaxed(&self->gc_net, (uint32_t)net);
  return GYRE_UNLIKELY(-net >= (int32_t)gyre__load_relaxed(&self->gc_limit));
}

#endif
