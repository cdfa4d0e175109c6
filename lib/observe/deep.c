/* SPDX-License-Identifier: MIT */
/* gyre_sizeof_deep(): a breadth-first walk along counted references.
 *
 * Every object that is found is retained and noted once: in a list, in the order in which they are
 * found, of which the front part has been looked at; and in a set, open addressing with linear probing
 * (Knuth, volume 3, 6.4, algorithm L), at most half full. Nothing recurses, and since no reference is
 * given back before the end, no address is another object's later.
 *
 * A slot is read by an ordinary load. A visit function runs under its object's lock and may not be
 * interrupted by an allocation, so room for all that it reports is made before: it is run once to count.
 */
#include <gyre/stats.h>

#include <errno.h>
#include <string.h>

#include "lib/object/object.h"
#include "lib/weak/weak.h"

#define FIRST_ROOM 256u /* a power of two */

/* "Quiet": nothing but this thread's own objects, no program code and no safepoint since the walk began. */
struct walk {
  bool quiet;
  void **found; /* in order; `room` of them */
  void **set;   /* 2 * room places, NULL where there is none */
  size_t count, room;
};

/* Both tables are one mapping. */
static size_t walk_bytes(size_t room) { return 3 * room * sizeof(void *); }

static void **place_of(const struct walk *w, const void *object) {
  size_t mask = 2 * w->room - 1;
  /* Fibonacci hashing (Knuth, ibid.): the high bits of the product. */
  size_t at = (size_t)(((uint64_t)(uintptr_t)object >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 32);
  while (w->set[at & mask] != NULL && w->set[at & mask] != object)
    at++;
  return &w->set[at & mask];
}

/* Has it room for so many more? False if there is no memory; it is as it was then. */
static bool walk_reserve(struct walk *w, size_t more) {
  if (w->count + more <= w->room) return true;
  struct walk grown = {
      .quiet = w->quiet, .count = w->count, .room = w->room != 0 ? w->room : FIRST_ROOM};
  while (w->count + more > grown.room)
    grown.room *= 2;
  grown.found = gyre__os_map(walk_bytes(grown.room), gyre__os_page_size());
  if (grown.found == NULL) return false;
  grown.set = grown.found + grown.room;
  for (size_t i = 0; i < w->count; i++) {
    grown.found[i] = w->found[i];
    *place_of(&grown, w->found[i]) = w->found[i];
  }
  if (w->found != NULL) gyre__os_unmap(w->found, walk_bytes(w->room));
  *w = grown;
  return true;
}

/* By the thread's own id, not its bias id: also while its counts take slow paths. */
static bool is_own(const void *object) {
  /* relaxed: "mine" is never stale; the thread is attached. */
  return gyre__load_relaxed(&gyre__header_of(object)->owner) == gyre__self->id;
}

/* An ordinary release tells the collector of own young objects that one of them may have become garbage
 * (lib/collect/young.c), and a question is not to bring on collections. In a quiet walk nobody can have
 * dropped anything while we held it, so there is nothing to tell. */
static void give_back(const struct walk *w, void *object) {
  gyre__header *h = gyre__header_of(object);
  if (w->quiet && is_own(object)) {
    if (gyre__is_logging()) gyre__touch(h);
    /* relaxed: ours alone. */
    uint32_t local = gyre__load_relaxed(&h->local);
    if (local > 1) {
      /* relaxed: as above. */
      gyre__store_relaxed(&h->local, local - 1);
      return;
    }
  }
  gyre_release(object);
}

/* There is room. Takes the caller's reference. */
static void walk_add(struct walk *w, void *object) {
  /* Counting somebody else's may have run program code. */
  if (!is_own(object)) w->quiet = false;
  void **place = place_of(w, object);
  if (*place != NULL) {
    give_back(w, object);
    return;
  }
  *place = object;
  w->found[w->count++] = object;
}

/* ---- references of one object ---- */

static bool slot_follow(struct walk *w, gyre_slot *slot) {
  if (!walk_reserve(w, 1)) return false;
  void *target = gyre_slot_load(slot);
  if (target != NULL) walk_add(w, target);
  return true;
}

static bool slots_follow(struct walk *w, void *base, const gyre_slots *slots) {
  for (size_t i = 0; i < slots->count; i++)
    if (!slot_follow(w, gyre__slot_at(base, slots->at[i].offset))) return false;
  return true;
}

static int visit_count(void *object, void *arg) {
  *(size_t *)arg += object != NULL;
  return 0;
}

/* The object is locked, so what it refers to is alive. */
static int visit_add(void *object, void *arg) {
  struct walk *w = (struct walk *)arg;
  /* Not walk_add(), whose release could run program code: what is known already is not counted. */
  if (object == NULL || *place_of(w, object) != NULL) return 0;
  walk_add(w, gyre_retain(object));
  return 0;
}

static bool map_follow(struct walk *w, void *map) {
  void **strong;
  w->quiet = false; /* taking them may run program code */
  ptrdiff_t n = gyre__weakmap_strong(map, &strong);
  bool has_room = n >= 0 && walk_reserve(w, (size_t)n);
  for (ptrdiff_t i = 0; i < n; i++) {
    if (has_room)
      walk_add(w, strong[i]);
    else
      gyre_release(strong[i]);
  }
  if (n >= 0) gyre_free(strong);
  return has_room;
}

static bool visit_follow(struct walk *w, const gyre_type *type, void *object) {
  if (gyre__weak_is_map(type)) return map_follow(w, object);
  for (;;) {
    size_t references = 0;
    w->quiet = false; /* it may park */
    gyre_lock(object);
    type->visit(object, visit_count, &references);
    bool has_room = w->count + references <= w->room;
    if (has_room) type->visit(object, visit_add, w);
    gyre_unlock(object);
    if (has_room) return true;
    if (!walk_reserve(w, references)) return false;
  }
}

/* False if there is no memory. */
static bool references_follow(struct walk *w, void *object) {
  const gyre_type *type = gyre_type_of(object);
  if (!slots_follow(w, object, &type->slots)) return false;
  if (type->element_slots.count != 0) {
    char *element = (char *)object + type->size;
    for (size_t n = gyre_array_length(object); n > 0; n--, element += type->element_size)
      if (!slots_follow(w, element, &type->element_slots)) return false;
  }
  return type->visit == NULL || visit_follow(w, type, object);
}

/* ---- the walk ---- */

static ptrdiff_t walk(struct walk *w, gyre_stop_predicate *stop, void *arg) {
  size_t bytes = 0;
  for (size_t i = 0; i < w->count; i++) {
    void *object = w->found[i];
    if (i > 0 && stop != NULL && stop(object, arg) != 0) continue;
    bytes += gyre_sizeof(object);
    if (!references_follow(w, object)) return -ENOMEM;
  }
  return (ptrdiff_t)bytes;
}

ptrdiff_t gyre_sizeof_deep(const void *object, gyre_stop_predicate *stop, void *arg) {
  if (object == NULL) return -EINVAL;
  if (gyre__thread_self() == NULL) return -EAGAIN;
  struct walk w = {.quiet = stop == NULL};
  if (!walk_reserve(&w, 1)) return -ENOMEM;
  /* Only its count is changed. */
  walk_add(&w, gyre_retain((void *)(uintptr_t)object));
  ptrdiff_t bytes = walk(&w, stop, arg);
  for (size_t i = 0; i < w.count; i++)
    give_back(&w, w.found[i]);
  gyre__os_unmap(w.found, walk_bytes(w.room));
  return bytes;
}
