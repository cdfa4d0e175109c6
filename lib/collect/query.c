/* SPDX-License-Identifier: MIT */
/* Questions about the heap that are answered with objects: lists of all of them, of those that refer to
 * some, of what some refer to.
 *
 * Each is a walk (walk.c) in several passes: mark what is wanted in the side words, make room for it, take
 * a counted reference to each, find out which of them are alive. So the room is there before anything is
 * counted, and a question that fails has changed nothing. Program code sees the list only when the walk
 * is over.
 *
 * Objects in the making are not shown. What its maker alone has counted, once, and no collection of his
 * has looked at, may be half-built; it is shown if an object refers to it, or if it refers to one: then it
 * has been stored, or stored to. gyre_gc_track() shows it on request. To find that out, a list of all
 * objects reads all references; the others do so anyway.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/collect/walk.h"

/* Side words of a walk's blocks, beside those of walk.c. */
#define WANTED GYRE__SIDE_LIVE
#define DOUBTFUL GYRE__SIDE_PENDING

/* Long loops pass a safepoint after so many objects. */
#define BREATH 1024

/* ---- lists ---- */

struct list {
  gyre_objlist public;
  size_t room;
  void *items[];
};

static struct list *list_new(size_t room) {
  if (room > (PTRDIFF_MAX - sizeof(struct list)) / sizeof(void *)) return NULL;
  struct list *list = gyre_malloc(sizeof *list + room * sizeof(void *));
  if (list == NULL) return NULL;
  list->public.count = 0;
  list->public.items = list->items;
  list->room = room;
  return list;
}

static bool list_has_room(const struct list *list, size_t more) {
  return more <= list->room - list->public.count;
}

/* Room for so many more; false if there is no memory. */
static bool list_grow(struct list **list, size_t more) {
  size_t count = (*list)->public.count;
  if (list_has_room(*list, more)) return true;
  struct list *grown = list_new(2 * (count + more));
  if (grown == NULL) return false;
  memcpy(grown->items, (*list)->items, count * sizeof(void *));
  grown->public.count = count;
  gyre_free(*list);
  *list = grown;
  return true;
}

/* The list has room; the reference becomes its own. */
static void list_add(struct list *list, void *object) {
  GYRE_ASSERT(list->public.count < list->room);
  list->items[list->public.count++] = object;
}

gyre_objlist *gyre__objlist_new(size_t room) {
  struct list *list = list_new(room);
  return list != NULL ? &list->public : NULL;
}

void gyre_objlist_free(gyre_objlist *list) {
  if (list == NULL) return;
  for (size_t i = 0; i < list->count; i++) {
    gyre_release(list->items[i]);
    if (i % BREATH == BREATH - 1) gyre_safepoint();
  }
  gyre_free(list);
}

/* ---- a question: a walk that takes what is wanted ---- */

struct question {
  /* Which objects. */
  int generation; /* -1: all */
  bool frozen;
  void *const *targets; /* sorted; NULL: not asked for what they refer to */
  size_t target_count;
  /* While it is answered. */
  size_t wanted, doubtful;
  gyre__header *from;
  struct gyre__page *from_page;
  uint32_t from_index;
  struct list *list;
};

static void want(struct question *q, struct gyre__page *page, uint32_t index) {
  if (page->side[index] & WANTED) return;
  page->side[index] |= WANTED;
  q->wanted++;
}

/* Are objects like this one in the list? */
static bool is_asked_for(const struct question *q, gyre__header *h, const struct gyre__page *page) {
  struct gyre__census census;
  if (!gyre__walk_census(h, page, &census) || !census.tracked) return false;
  if (census.frozen) return q->frozen;
  return q->generation < 0 || census.generation == q->generation;
}

/* ---- all objects ---- */

static int pass_all(struct gyre__walk *w, gyre__header *h, struct gyre__page *page, uint32_t index,
                    void *arg) {
  (void)w;
  struct question *q = arg;
  if (!is_asked_for(q, h, page)) return 0;
  if (!gyre__walk_is_fresh(h)) {
    want(q, page, index);
    return 0;
  }
  page->side[index] |= DOUBTFUL;
  q->doubtful++;
  return 0;
}

static int see_doubtful(struct gyre__walk *w, void *target, size_t field, void *arg) {
  (void)field;
  struct question *q = arg;
  if (q->from_page->side[q->from_index] & DOUBTFUL) want(q, q->from_page, q->from_index);
  struct gyre__page *page;
  uint32_t index;
  if (gyre__walk_find(w, target, &page, &index) && page->side[index] & DOUBTFUL)
    want(q, page, index);
  return 0;
}

static int pass_doubtful(struct gyre__walk *w, gyre__header *h, struct gyre__page *page,
                         uint32_t index, void *arg) {
  struct question *q = arg;
  q->from_page = page;
  q->from_index = index;
  (void)gyre__walk_references(w, h, page, see_doubtful, q);
  return 0;
}

/* ---- those that refer to some ---- */

static int pointer_compare(const void *a, const void *b) {
  uintptr_t x = (uintptr_t) * (void *const *)a, y = (uintptr_t) * (void *const *)b;
  return (x > y) - (x < y);
}

static int see_target(struct gyre__walk *w, void *target, size_t field, void *arg) {
  (void)w, (void)field;
  const struct question *q = arg;
  return bsearch(&target, q->targets, q->target_count, sizeof target, pointer_compare) != NULL;
}

static int pass_referrers(struct gyre__walk *w, gyre__header *h, struct gyre__page *page,
                          uint32_t index, void *arg) {
  struct question *q = arg;
  if (is_asked_for(q, h, page) && gyre__walk_references(w, h, page, see_target, q) == 1)
    want(q, page, index);
  return 0;
}

/* ---- the answer ---- */

static int pass_take(struct gyre__walk *w, gyre__header *h, struct gyre__page *page, uint32_t index,
                     void *arg) {
  (void)arg;
  if (page->side[index] & WANTED) (void)gyre__walk_take(w, h, page, index);
  return 0;
}

static int answer_one(struct gyre__walk *w, gyre__header *h, struct gyre__page *page,
                      uint32_t index, void *arg) {
  (void)w, (void)page, (void)index;
  list_add(((struct question *)arg)->list, gyre__object_of(h));
  return 0;
}

/* -ENOMEM, or the question's list is there. */
static int answer(struct gyre__walk *w, struct question *q) {
  if (q->targets != NULL) {
    (void)gyre__walk_objects(w, pass_referrers, q);
  } else {
    (void)gyre__walk_objects(w, pass_all, q);
    if (q->doubtful > 0) (void)gyre__walk_objects(w, pass_doubtful, q);
  }
  q->list = list_new(q->wanted);
  if (q->list == NULL) return -ENOMEM;
  (void)gyre__walk_objects(w, pass_take, q);
  gyre__walk_settle(w, answer_one, q);
  return 0;
}

static ptrdiff_t ask(struct question *q, gyre_objlist **out) {
  struct gyre__objects *self = (struct gyre__objects *)gyre__thread_self();
  if (self == NULL) return -EAGAIN;
  struct gyre__walk w;
  int result = gyre__walk_begin(&w, self, GYRE__WALK_STILL);
  if (result != 0) return result;
  result = answer(&w, q);
  gyre__walk_end(&w);
  if (result != 0) return result;
  *out = &q->list->public;
  return (ptrdiff_t)q->list->public.count;
}

ptrdiff_t gyre_gc_get_objects(int generation, gyre_objlist **out) {
  if (out == NULL || generation < -1 || generation >= GYRE_GC_NGEN) return -EINVAL;
  struct question q = {.generation = generation};
  return ask(&q, out);
}

ptrdiff_t gyre_gc_get_referrers(void *const *objects, size_t n, gyre_objlist **out) {
  if (out == NULL || (objects == NULL && n > 0) || n > PTRDIFF_MAX / sizeof *objects)
    return -EINVAL;
  void **targets = gyre_malloc(n * sizeof *targets);
  if (targets == NULL) return -ENOMEM;
  if (n > 0) memcpy(targets, objects, n * sizeof *targets);
  qsort(targets, n, sizeof *targets, pointer_compare);
  struct question q = {.generation = -1, .frozen = true, .targets = targets, .target_count = n};
  ptrdiff_t count = ask(&q, out);
  gyre_free(targets);
  return count;
}

int gyre_gc_visit_objects(gyre_gc_visit_callback *callback, void *arg) {
  if (callback == NULL) return -EINVAL;
  struct question q = {.generation = -1, .frozen = true};
  gyre_objlist *list;
  ptrdiff_t count = ask(&q, &list);
  if (count < 0) return (int)count;
  int result = 0;
  for (ptrdiff_t i = 0; i < count && result == 0; i++)
    result = callback(list->items[i], arg);
  gyre_objlist_free(list);
  return result;
}

/* ---- what some refer to ---- */

static int count_visited(void *object, void *arg) {
  *(size_t *)arg += object != NULL;
  return 0;
}

static int add_visited(void *object, void *arg) {
  struct list *list = arg;
  /* More than before: its visit does not keep its promise, or its lock was not held. */
  if (object == NULL || list->public.count == list->room) return 0;
  list_add(list, gyre__retain(object));
  return 0;
}

static bool add_by_map(struct list **list, void *map) {
  void **strong;
  ptrdiff_t n = gyre__weakmap_strong(map, &strong);
  bool enough_memory = n >= 0 && list_grow(list, (size_t)n);
  for (ptrdiff_t i = 0; i < n; i++) {
    if (enough_memory)
      list_add(*list, strong[i]);
    else
      gyre_release(strong[i]);
  }
  if (n >= 0) gyre_free(strong);
  return enough_memory;
}

static bool add_by_visit(struct list **list, const gyre_type *type, void *object) {
  if (gyre__weak_is_map(type)) return add_by_map(list, object);
  for (;;) {
    size_t n = 0;
    gyre_lock(object);
    (void)type->visit(object, count_visited, &n);
    bool has_room = list_has_room(*list, n);
    if (has_room) (void)type->visit(object, add_visited, *list);
    gyre_unlock(object);
    if (has_room) return true;
    /* Not under the lock: it may call the program's handler. */
    if (!list_grow(list, n)) return false;
  }
}

static bool add_referents(struct list **list, void *object) {
  gyre__header *h = gyre__header_of(object);
  const gyre_type *type = gyre__header_type(h);
  size_t slots = type->slots.count + gyre_array_length(object) * type->element_slots.count;
  if (!list_grow(list, slots)) return false;
  /* Static objects have no page, and no elements. */
  struct gyre__page *page = gyre_array_length(object) > 0 ? gyre__page_of(h) : NULL;
  for (size_t i = 0; i < type->slots.count; i++) {
    void *target = gyre_slot_load(gyre__slot_at(object, type->slots.at[i].offset));
    if (target != NULL) list_add(*list, target);
  }
  if (page != NULL) {
    GYRE__FOR_EACH_ELEMENT_SLOT(type, h, page, slot, {
      void *target = gyre_slot_load(slot);
      if (target != NULL) list_add(*list, target);
    });
  }
  return type->visit == NULL || add_by_visit(list, type, object);
}

ptrdiff_t gyre_gc_get_referents(void *const *objects, size_t n, gyre_objlist **out) {
  if (out == NULL || (objects == NULL && n > 0)) return -EINVAL;
  if (gyre__thread_self() == NULL) return -EAGAIN;
  struct list *list = list_new(16);
  bool enough_memory = list != NULL;
  for (size_t i = 0; i < n && enough_memory; i++) {
    if (objects[i] != NULL) enough_memory = add_referents(&list, objects[i]);
    if (i % BREATH == BREATH - 1) gyre_safepoint();
  }
  if (!enough_memory) {
    if (list != NULL) gyre_objlist_free(&list->public);
    return -ENOMEM;
  }
  *out = &list->public;
  return (ptrdiff_t)list->public.count;
}
