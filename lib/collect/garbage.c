/* SPDX-License-Identifier: MIT */
/* Garbage that is kept: objects that a collection found dead and did not free, on request.
 *
 * Two reasons. Objects of a type with GYRE_TYPE_MANUAL_FINALIZE, and what can be reached from these, are
 * uncollectable: the program wants to take such cycles apart itself. And with GYRE_GC_DEBUG_SAVEALL
 * everything that would be freed is kept. To keep an object is to count it once more and to put it on
 * this list: from then on something outside refers to it, and it lives as any object does, its weak
 * references with it. So it is found again after the list was emptied, if nobody has broken the cycle.
 *
 * It is decided where otherwise an object is condemned (dead.c, suspect.c): the world is stopped, or no
 * thread can reach the objects, and their weak references are locked; so counting them and following
 * their references is safe. Room on the list is made before anything is counted; if there is none,
 * everything stays as it is for another collection.
 */
#include <errno.h>
#include <string.h>

#include "lib/collect/collect.h"

static struct {
  gyre__lock lock;
  void **items;
  size_t count, room;
} garbage;

/* ---- the list ---- */

/* Room for so many more than there are; false if there is no memory. */
static bool reserve(size_t more) {
  gyre__lock_take(&garbage.lock);
  size_t wanted = garbage.count + more;
  bool enough = wanted <= garbage.room;
  if (!enough) {
    size_t room = 2 * wanted < 1024 ? 1024 : 2 * wanted;
    void **grown = gyre__os_map(room * sizeof *grown, gyre__os_page_size());
    if (grown != NULL) {
      if (garbage.count > 0) memcpy(grown, garbage.items, garbage.count * sizeof *grown);
      if (garbage.items != NULL)
        gyre__os_unmap(garbage.items, garbage.room * sizeof *garbage.items);
      garbage.items = grown;
      garbage.room = room;
    }
    enough = grown != NULL;
  }
  gyre__lock_give(&garbage.lock);
  return enough;
}

static void keep(struct gyre__header *h) {
  void *object = gyre__retain(gyre__object_of(h));
  gyre__lock_take(&garbage.lock);
  garbage.items[garbage.count++] = object;
  gyre__lock_give(&garbage.lock);
}

ptrdiff_t gyre_gc_garbage_count(void) {
  gyre__lock_take(&garbage.lock);
  size_t count = garbage.count;
  gyre__lock_give(&garbage.lock);
  return (ptrdiff_t)count;
}

ptrdiff_t gyre_gc_take_garbage(gyre_objlist **out) {
  if (out == NULL) return -EINVAL;
  /* Only this function makes it shorter; whoever makes it longer meanwhile has it asked for again. */
  for (;;) {
    size_t count = (size_t)gyre_gc_garbage_count();
    gyre_objlist *list = gyre__objlist_new(count);
    if (list == NULL) return -ENOMEM;
    gyre__lock_take(&garbage.lock);
    bool fits = garbage.count <= count;
    if (fits) {
      list->count = garbage.count;
      if (list->count > 0) memcpy(list->items, garbage.items, list->count * sizeof *list->items);
      garbage.count = 0;
    }
    gyre__lock_give(&garbage.lock);
    if (!fits) {
      gyre_free(list);
      continue;
    }
    *out = list;
    return (ptrdiff_t)list->count;
  }
}

ptrdiff_t gyre_gc_clear_garbage(void) {
  gyre_objlist *list;
  ptrdiff_t count = gyre_gc_take_garbage(&list);
  if (count >= 0) gyre_objlist_free(list);
  return count;
}

/* ---- keeping ---- */

bool gyre__garbage_reserve(struct gyre__collection *c, size_t objects) {
  if (reserve(objects)) return true;
  c->out_of_memory = true;
  return false;
}

void gyre__garbage_keep(struct gyre__collection *c, gyre__header *h, uint32_t *side) {
  *side |= GYRE__SIDE_LIVE | GYRE__SIDE_KEPT;
  keep(h);
  gyre__page_has_promoted(gyre__page_of(h));
  if (*side & GYRE__SIDE_MANUAL)
    c->uncollectable++;
  else
    c->dead++;
}

/* ---- debug output, while the program runs ---- */

static void log_one(const char *what, gyre__header *h) {
  gyre__log("gc: %s <%s %p>", what, gyre__header_type(h)->name, gyre__object_of(h));
}

static bool is_found(uint32_t side) { return side & (GYRE__SIDE_CONDEMNED | GYRE__SIDE_KEPT); }

void gyre__garbage_log(struct gyre__collection *c) {
  if (!(c->debug & (GYRE_GC_DEBUG_COLLECTABLE | GYRE_GC_DEBUG_UNCOLLECTABLE))) return;
  GYRE__FOR_EACH_MEMBER(c, is_found, {
    bool manual = page->side[i] & GYRE__SIDE_MANUAL;
    if (c->debug & (manual ? GYRE_GC_DEBUG_UNCOLLECTABLE : GYRE_GC_DEBUG_COLLECTABLE))
      log_one(manual ? "uncollectable" : "collectable", h);
  })
}

/* The end of an arena: it was the list's memory. */
static void forget(void) {
  garbage.items = NULL;
  garbage.count = garbage.room = 0;
}

static void __attribute__((constructor)) garbage_init(void) { gyre__forget_add(forget); }

/* ---- fork ---- */

void gyre__garbage_fork_prepare(void) { gyre__lock_take(&garbage.lock); }
void gyre__garbage_fork_parent(void) { gyre__lock_give(&garbage.lock); }
void gyre__garbage_fork_child(void) { gyre__lock_reset(&garbage.lock); }
