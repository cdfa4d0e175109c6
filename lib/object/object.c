/* SPDX-License-Identifier: MIT */
/* Making objects, and questions about them.
 *
 * An object is born zeroed, with every slot empty, so it can be looked at from the moment its
 * header is written; the header's first eight bytes (type, owner, collector's byte, bits) are
 * written last and at once.
 *
 * The shared word of a block outlives the objects in it. A thread that read a pointer from a slot
 * just before the object died may still count on it, look at the slot again, and take its count
 * back (refcount.c). So birth overwrites the word only if it is at rest, (MERGED, 0), where such a
 * thread gives up without writing; a word that still is DEFAULT is taken over as it is, a late
 * count included, which its maker will take off again.
 *
 *     0        4       6    7      8       12       16
 *     | type   | owner | gc | bits | local | shared | the program's struct ...        | length |
 *
 * The length is there in arrays only: it is the last word of the block.
 */
#include <errno.h>
#include <string.h>

#include "lib/heap/raw.h"
#include "lib/heap/traced.h"
#include "lib/object/type.h"

struct gyre__object_hooks gyre__object_hooks;

struct gyre__objects *gyre__objects_self(void) {
  struct gyre__thread *self = gyre__thread_self();
  GYRE_REQUIRE(
      self != NULL,
      "a release has to attach its thread and cannot: 65,535 threads are attached, or no memory");
  return (struct gyre__objects *)self;
}

/* ---- birth ---- */

static inline void header_publish(gyre__header *h, uint64_t word) {
  /* release: the zeroed body and the counts come first, for a collector that sees the gc byte;
   * pairs with its acquire load of that byte (lib/collect). One store, so that nobody sees half a
   * header. */
  __atomic_store_n((gyre__header_start *)(void *)h, word, __ATOMIC_RELEASE);
}

static inline void count_init_owned(gyre__header *h) {
  /* relaxed: nobody writes to a word at rest, and another value is left alone. release: as in
   * gyre_thread_new(), for gyre__try_count(). */
  if (gyre__load_relaxed(&h->shared) == gyre__shared_of(0, GYRE__MERGED))
    gyre__store_release(&h->shared, gyre__shared_of(0, GYRE__DEFAULT));
  /* relaxed: published with the header. */
  gyre__store_relaxed(&h->local, 1);
}

static void count_init_shared(gyre__header *h) {
  /* relaxed: late counts of other threads are kept by the compare-exchange. */
  uint32_t shared = gyre__load_relaxed(&h->shared);
  /* release: as in gyre_thread_new(), for gyre__try_count(). */
  while (!gyre__cas_weak_release(&h->shared, &shared,
                                 gyre__shared_of(gyre__count_of(shared) + 1, GYRE__MERGED))) {
  }
  /* relaxed: as above. */
  gyre__store_relaxed(&h->local, 0);
}

/* The general case: any type, any size, a thread that is not attached yet. */
static GYRE_NOINLINE void *object_new_slow(gyre_type *type, size_t count, const void *pc) {
  GYRE__KEEP_FRAME();
  struct gyre__objects *self = (struct gyre__objects *)gyre__thread_self();
  if (self == NULL) {
    errno = ENOMEM;
    return NULL;
  }
  int result = gyre__type_register(type);
  if (result != 0 || type == NULL) {
    errno = -result;
    return NULL;
  }
  size_t body, size;
  if (__builtin_mul_overflow(count, type->element_size, &body) ||
      __builtin_add_overflow(body, type->size, &body) ||
      __builtin_add_overflow(body, GYRE_HEADER_SIZE + sizeof(size_t) + 15, &size) ||
      size > PTRDIFF_MAX) {
    errno = ENOMEM;
    return NULL;
  }
  size = gyre__object_block_size(body + (type->element_size != 0 ? sizeof(size_t) : 0));
  enum gyre__kind kind = type->gyre__kind;
  bool large = size > GYRE__CLASS_MAX;
  gyre__header *h =
      gyre__trace_is_wanted(&self->heap)
          ? gyre__traced_alloc(&self->heap, kind, size, 16, false, body, gyre__type_id(type), pc)
      : large ? gyre__heap_alloc_large(&self->heap, kind, size, 16)
              : gyre__heap_alloc(&self->heap, kind, gyre__size_class(size));
  if (h == NULL) return NULL;
  /* A large block of an object kind is zero already. */
  if (!large) memset((char *)h + GYRE_HEADER_SIZE, 0, size - GYRE_HEADER_SIZE);
  struct gyre__page *page = gyre__page_of(h);
  /* relaxed: published with the header. */
  if (type->element_size != 0) gyre__store_relaxed(gyre__array_length_word(h, page), count);
  uint32_t owner = self->heap.thread.base.id;
  /* A large object is never queued for a merge: its page may go before its owner gets to it. */
  if (large || type->flags & GYRE_TYPE_SHARED) {
    owner = 0;
    count_init_shared(h);
  } else {
    count_init_owned(h);
  }
  uint64_t armed =
      owner != 0 && kind == GYRE__TRACKED ? self->heap.thread.base.gyre__birth_bits : 0;
  header_publish(
      h, armed | gyre__header_word(gyre__type_id(type), owner,
                                   large ? GYRE__GC_PROMOTED | GYRE__GC_FRESH | GYRE__GC_LARGE
                                         : GYRE__GC_YOUNG,
                                   type->gyre__bits));
  if (kind == GYRE__TRACKED) {
    if (large)
      gyre__object_hooks.born_promoted(self, h, page);
    else if (!gyre__young_log(self, h))
      gyre__object_hooks.young_full(self, h);
  }
  return gyre__object_of(h);
}

void *gyre__new_slow(gyre_type *type) { return object_new_slow(type, 0, GYRE__CALLER); }

void *gyre__young_log_full(gyre_thread *self, gyre__header *h) {
  gyre__object_hooks.young_full((struct gyre__objects *)(void *)self, h);
  return gyre__object_of(h);
}

void *gyre_new(gyre_type *type) {
  if (GYRE_UNLIKELY(type == NULL)) return object_new_slow(type, 0, GYRE__CALLER);
  void *object = gyre__new_inline(gyre__self, type, type->size);
  return GYRE_LIKELY(object != NULL) ? object : object_new_slow(type, 0, GYRE__CALLER);
}

void *gyre_new_array(gyre_type *type, size_t count) {
  if (type != NULL && type->element_size == 0) {
    errno = EINVAL;
    return NULL;
  }
  return object_new_slow(type, count, GYRE__CALLER);
}

int gyre__static_register(gyre__header *h, gyre_type *type) {
  int result = gyre__type_register(type);
  /* relaxed: just registered. */
  if (result == 0) gyre__store_relaxed(&h->type, gyre__load_relaxed(&type->gyre__id));
  return result;
}

/* ---- questions ---- */

gyre_type *gyre_type_of(const void *object) { return gyre__header_type(gyre__header_of(object)); }

size_t gyre_array_length(const void *object) {
  const gyre__header *h = gyre__header_of(object);
  const gyre_type *type = gyre__header_type(h);
  /* relaxed: 0 only in static objects, which have no page and no elements. */
  if (type->element_size == 0 || gyre__load_relaxed(&h->gc) == 0) return 0;
  return gyre__array_length(type, h, gyre__page_of(h));
}

size_t gyre_sizeof(const void *object) {
  const gyre_type *type = gyre_type_of(object);
  return type->size + gyre_array_length(object) * type->element_size;
}

size_t gyre_sizeof_block(const void *object) {
  const gyre__header *h = gyre__header_of(object);
  /* relaxed: as in gyre_array_length(). */
  if (gyre__load_relaxed(&h->gc) == 0) return GYRE_HEADER_SIZE + gyre_sizeof(object);
  return gyre__page_usable(gyre__page_of(h));
}
