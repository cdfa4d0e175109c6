/* SPDX-License-Identifier: MIT */
/* The set of a collection: finding out what of it is dead.
 *
 * For a set of objects, a member is alive if it has more counts than references from members
 * (something outside refers to it), or if it is reachable from a member that is alive. The rest is
 * dead: all its counts come from the dead. This is trial deletion (Christopher 1984; Lins 1992;
 * CPython's gc works so), without touching the objects: references are counted in side words, four
 * bytes a block, that lie together by page, so that the random accesses go to a sixteenth of the
 * memory that headers of 64-byte objects would take.
 *
 *   1. count edges: walk the pages in order; for each reference of a member, count one at its
 *      target's side word.
 *   2. mark live: walk the pages again; a member with count != edges is live; follow its references
 *      inside the set.
 *
 * Marking never recurses: it keeps a stack of fixed size, made before anything is touched; when
 * that is full, objects are marked PENDING instead and found by walking the pages again. So the
 * only memory a collection needs it asks for first, and if there is none the heap is as it was.
 *
 * Both walks wait for memory: a side word or a header is asked for some steps before it is used
 * (prefetch queues).
 *
 * Everything here runs in a stopped world; the counts are exact and no slot changes. Looking at an
 * object's `visit` type takes its lock; a visit object whose lock is held (by a parked thread) may
 * be half changed, so it counts as live and its references as coming from outside.
 */
#include "lib/collect/collect.h"

#include <string.h>

/* ---- where a reference leads ---- */

/* The page in the set that a referred-to header is in, or NULL if it is in none. `from` is a member
 * that refers to it, in `page`: most references do not lead far, and no two pages share 64 KiB of
 * addresses. */
static inline struct gyre__page *page_in_set(gyre__header *h, const gyre__header *from,
                                             struct gyre__page *page) {
  if (((uintptr_t)h ^ (uintptr_t)from) >> GYRE__SMALL_PAGE_SHIFT == 0) return page;
  struct gyre__segment *segment = gyre__segment_of(h);
  if (GYRE_LIKELY(segment != NULL)) {
    page = gyre__segment_page(segment, h);
  } else {
    /* Large, or static and then without a page. relaxed: the world is stopped. */
    if (!(gyre__load_relaxed(&h->gc) & GYRE__GC_LARGE)) return NULL;
    page = gyre__page_of(h);
  }
  return page->side != NULL ? page : NULL;
}

/* ---- references of an object ---- */

/* What is done with a reference from a member in a page to the object with header h. */
typedef void reference_fn(struct gyre__collection *c, gyre__header *h, const gyre__header *from,
                          struct gyre__page *page);

/* The layout of the objects looked at last: neighbours are often of one type. */
struct layout {
  uint32_t id;
  bool has_more; /* elements or a visit function */
  const gyre_type *type;
  gyre_slots slots;
};

static void layout_load(struct layout *layout, uint32_t id) {
  const gyre_type *type = gyre__type(id);
  *layout = (struct layout){
      .id = id,
      .has_more = type->element_slots.count != 0 || type->visit != NULL,
      .type = type,
      .slots = type->slots,
  };
}

struct visit_arg {
  struct gyre__collection *c;
  reference_fn *fn;
  gyre__header *from;
  struct gyre__page *page;
};

static int visit_reference(void *object, void *arg) {
  struct visit_arg *v = (struct visit_arg *)arg;
  if (object != NULL) v->fn(v->c, gyre__header_of(object), v->from, v->page);
  return 0;
}

static bool is_locked(gyre__header *h) {
  /* relaxed: the world is stopped; who locked it is parked. */
  return gyre__load_relaxed(&h->bits) & GYRE__BIT_LOCKED;
}

static void visit(struct gyre__collection *c, const gyre_type *type, gyre__header *h,
                  struct gyre__page *page, reference_fn *fn) {
  struct visit_arg arg = {c, fn, h, page};
  void *object = gyre__object_of(h);
  gyre_lock(object);
  type->visit(object, visit_reference, &arg);
  gyre_unlock(object);
}

static inline __attribute__((always_inline)) void references(struct gyre__collection *c,
                                                             struct layout *layout, gyre__header *h,
                                                             struct gyre__page *page,
                                                             reference_fn *fn) {
  if (GYRE_UNLIKELY(h->type != layout->id)) layout_load(layout, h->type);
  for (size_t i = 0; i < layout->slots.count; i++) {
    gyre_slot *slot = gyre__slot_at(gyre__object_of(h), layout->slots.at[i].offset);
    /* relaxed: the world is stopped. */
    void *target = gyre__load_relaxed(&slot->gyre__ref);
    if (target != NULL) fn(c, gyre__header_of(target), h, page);
  }
  if (GYRE_LIKELY(!layout->has_more)) return;
  GYRE__FOR_EACH_ELEMENT_SLOT(layout->type, h, page, slot, {
    /* relaxed: as above. */
    void *target = gyre__load_relaxed(&slot->gyre__ref);
    if (target != NULL) fn(c, gyre__header_of(target), h, page);
  });
  if (layout->type->visit != NULL && !is_locked(h)) visit(c, layout->type, h, page, fn);
}

/* ---- gathering ---- */

/* Does this block hold an object of the generations being collected? */
static inline bool is_candidate(gyre__header *h, int generation) {
  /* relaxed: the world is stopped. */
  uint32_t gc = gyre__load_relaxed(&h->gc);
  return gc != 0 && !(gc & GYRE__GC_DEAD) && (gc & GYRE__GC_AGE) <= (uint32_t)generation + 1;
}

static void gather_page(struct gyre__set *set, struct gyre__page *page, size_t *words) {
  if (set->pages != NULL) set->pages[set->page_count] = page;
  set->page_count++;
  *words += page->reserved;
}

static bool wants_page(const struct gyre__page *page, bool leaves) {
  return (page->kind == GYRE__TRACKED || (leaves && page->kind == GYRE__LEAF)) &&
         page->capacity > 0;
}

/* All pages of a slot with objects that have references, or with any. */
static void gather_all(struct gyre__set *set, struct gyre__heap *heap, bool leaves, size_t *words) {
  for (struct gyre__segment *s = heap->segments; s != NULL; s = s->next)
    for (uint32_t i = 0; i < s->page_count; i++) {
      struct gyre__page *page = &s->pages[i];
      if (!(s->free_pages >> i & 1) && wants_page(page, leaves)) gather_page(set, page, words);
    }
  for (struct gyre__page *page = heap->large; page != NULL; page = page->large_next)
    if (wants_page(page, leaves)) gather_page(set, page, words);
}

/* Pages with objects that are young enough. */
static void gather_recent(struct gyre__set *set, struct gyre__heap *heap, int generation,
                          size_t *words) {
  for (struct gyre__page *page = heap->recent; page != NULL; page = page->recent_next)
    if (page->youngest <= generation) gather_page(set, page, words);
  for (struct gyre__page *page = heap->large; page != NULL; page = page->large_next)
    if (is_candidate((gyre__header *)gyre__page_block(page, 0), generation))
      gather_page(set, page, words);
}

static void gather(struct gyre__set *set, int generation, bool leaves, size_t *words) {
  set->page_count = 0;
  *words = 0;
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= count; id++) {
    struct gyre__heap *heap = (struct gyre__heap *)gyre__thread_slot(id);
    if (generation == GYRE_GC_NGEN - 1)
      gather_all(set, heap, leaves, words);
    else
      gather_recent(set, heap, generation, words);
  }
}

/* Memory for small sets is kept from one collection to the next; a collection holds the collector's
 * lock. */
#define KEPT_BYTES ((size_t)1 << 20)
static void *kept_memory;
static struct gyre__marked *kept_stack;

static bool set_allocate(struct gyre__set *set, size_t bytes) {
  if (kept_stack == NULL)
    kept_stack = gyre__os_map(GYRE__MARK_STACK * sizeof *kept_stack, gyre__os_page_size());
  if (kept_stack == NULL) return false;
  set->stack = kept_stack;
  if (bytes > KEPT_BYTES) {
    set->memory = gyre__os_map(bytes, gyre__os_page_size());
    set->memory_bytes = bytes;
    return set->memory != NULL;
  }
  if (kept_memory == NULL) {
    kept_memory = gyre__os_map(KEPT_BYTES, gyre__os_page_size());
    if (kept_memory == NULL) return false;
  } else {
    memset(kept_memory, 0, bytes);
  }
  set->memory = kept_memory;
  set->memory_bytes = KEPT_BYTES;
  return true;
}

bool gyre__set_gather(struct gyre__collection *c) {
  struct gyre__set *set = &c->set;
  memset(set, 0, sizeof *set);
  size_t words;
  gather(set, c->generation, c->leaves, &words);
  size_t bytes = set->page_count * sizeof(struct gyre__page *) + words * sizeof(uint32_t);
  if (!set_allocate(set, bytes)) {
    set->page_count = 0;
    return false;
  }
  set->pages = (struct gyre__page **)set->memory;
  uint32_t *side = (uint32_t *)(void *)(set->pages + set->page_count);
  gather(set, c->generation, c->leaves, &words);
  for (size_t i = 0; i < set->page_count; i++) {
    set->pages[i]->side = side;
    side += set->pages[i]->reserved;
  }
  return true;
}

void gyre__set_drop(struct gyre__collection *c) {
  struct gyre__set *set = &c->set;
  for (size_t i = 0; i < set->page_count; i++)
    if (set->pages[i] != NULL) set->pages[i]->side = NULL;
  if (set->memory != NULL && set->memory != kept_memory)
    gyre__os_unmap(set->memory, set->memory_bytes);
  memset(set, 0, sizeof *set);
}

/* ---- counting edges ---- */

#define EDGE_QUEUE 16

/* Side words whose cache lines are on their way. */
static struct {
  uint32_t *word[EDGE_QUEUE];
  unsigned at;
} edge_queue;
static uint32_t edge_nowhere;

static inline void edge_count(uint32_t *word) {
  if (GYRE_LIKELY((*word & GYRE__SIDE_EDGES) != GYRE__SIDE_EDGES)) ++*word;
}

static inline void edge_see(struct gyre__collection *c, gyre__header *h, const gyre__header *from,
                            struct gyre__page *from_page) {
  (void)c;
  struct gyre__page *page = page_in_set(h, from, from_page);
  if (page == NULL) return;
  uint32_t *word = &page->side[gyre__page_index(page, h)];
  if (page == from_page) {
    edge_count(word);
    return;
  }
  __builtin_prefetch(word, 1);
  unsigned at = edge_queue.at++ % EDGE_QUEUE;
  edge_count(edge_queue.word[at]);
  edge_queue.word[at] = word;
}

static void edge_queue_empty(void) {
  for (unsigned i = 0; i < EDGE_QUEUE; i++) {
    edge_count(edge_queue.word[i]);
    edge_queue.word[i] = &edge_nowhere;
  }
  edge_nowhere = 0;
}

/* The edges of one page's members; returns how many members it has. */
static uint64_t page_count_edges(struct gyre__collection *c, struct layout *layout,
                                 struct gyre__page *page, bool discover) {
  uint32_t *side = page->side;
  char *block = page->start;
  uint32_t block_size = page->block_size, capacity = page->capacity;
  uint64_t members = 0;
  for (uint32_t i = 0; i < capacity; i++, block += block_size) {
    gyre__header *h = (gyre__header *)(void *)block;
    if (discover) {
      if (!is_candidate(h, c->generation)) continue;
      side[i] |= GYRE__SIDE_MEMBER;
    } else if (!(side[i] & GYRE__SIDE_MEMBER)) {
      continue;
    }
    members++;
    references(c, layout, h, page, edge_see);
  }
  return members;
}

void gyre__set_count_edges(struct gyre__collection *c, bool discover) {
  c->members = 0;
  edge_nowhere = 0;
  for (unsigned i = 0; i < EDGE_QUEUE; i++)
    edge_queue.word[i] = &edge_nowhere;
  struct layout layout = {0};
  for (size_t p = 0; p < c->set.page_count; p++)
    c->members += page_count_edges(c, &layout, c->set.pages[p], discover);
  edge_queue_empty();
}

/* ---- marking ---- */

/* Are there counts that do not come from members? */
static bool is_root(const struct gyre__collection *c, gyre__header *h, uint32_t side) {
  /* relaxed: the world is stopped. */
  uint32_t shared = gyre__load_relaxed(&h->shared);
  uint32_t state = gyre__state_of(shared);
  if (state == GYRE__IMMORTAL_STATE || state == GYRE__QUEUED) return true;
  /* relaxed: as above. */
  int64_t count = gyre__count_of(shared) +
                  (gyre__load_relaxed(&h->owner) != 0 ? (int64_t)gyre__load_relaxed(&h->local) : 0);
  if (count - c->held != (int64_t)(side & GYRE__SIDE_EDGES)) return true;
  return is_locked(h) && gyre__header_type(h)->visit != NULL;
}

static inline void stack_push(struct gyre__collection *c, struct gyre__marked m) {
  if (GYRE_UNLIKELY(c->set.stack_count == GYRE__MARK_STACK)) {
    m.page->side[gyre__page_index(m.page, m.h)] |= GYRE__SIDE_PENDING;
    c->set.overflow = true;
    return;
  }
  c->set.stack[c->set.stack_count++] = m;
}

#define MARK_QUEUE 16

/* Live objects in other pages than who refers to them, whose headers' cache lines are on their way.
 */
static struct {
  struct gyre__marked marked[MARK_QUEUE];
  unsigned first, count;
} mark_queue;

static inline struct gyre__marked queue_take(void) {
  mark_queue.count--;
  return mark_queue.marked[mark_queue.first++ % MARK_QUEUE];
}

static inline void mark_see(struct gyre__collection *c, gyre__header *h, const gyre__header *from,
                            struct gyre__page *from_page) {
  struct gyre__page *page = page_in_set(h, from, from_page);
  if (page == NULL) return;
  uint32_t *side = &page->side[gyre__page_index(page, h)];
  if (!gyre__side_is_dead(*side)) return;
  *side |= GYRE__SIDE_LIVE;
  struct gyre__marked m = {h, page};
  if (page == from_page) {
    stack_push(c, m);
    return;
  }
  __builtin_prefetch(h);
  if (mark_queue.count == MARK_QUEUE) stack_push(c, queue_take());
  mark_queue.marked[(mark_queue.first + mark_queue.count++) % MARK_QUEUE] = m;
}

static inline void grow_older(gyre__header *h) {
  /* relaxed: the world is stopped. */
  uint32_t gc = gyre__load_relaxed(&h->gc);
  if ((gc & GYRE__GC_AGE) < GYRE_GC_NGEN) gyre__store_relaxed(&h->gc, (uint8_t)(gc + 1));
}

/* Follows the references of one live object. */
static inline void mark_from(struct gyre__collection *c, struct layout *layout, gyre__header *h,
                             struct gyre__page *page) {
  if (!c->held) grow_older(h);
  c->survivors++;
  references(c, layout, h, page, mark_see);
}

static void mark_stack(struct gyre__collection *c, struct layout *layout) {
  while (c->set.stack_count > 0) {
    struct gyre__marked m = c->set.stack[--c->set.stack_count];
    mark_from(c, layout, m.h, m.page);
  }
}

/* All that has been found live. */
static void mark_all(struct gyre__collection *c, struct layout *layout) {
  mark_stack(c, layout);
  while (mark_queue.count > 0) {
    struct gyre__marked m = queue_take();
    mark_from(c, layout, m.h, m.page);
    mark_stack(c, layout);
  }
}

static void page_mark_roots(struct gyre__collection *c, struct layout *layout,
                            struct gyre__page *page) {
  uint32_t *side = page->side;
  char *block = page->start;
  uint32_t block_size = page->block_size, capacity = page->capacity;
  for (uint32_t i = 0; i < capacity; i++, block += block_size) {
    if (!gyre__side_is_dead(side[i])) continue;
    gyre__header *h = (gyre__header *)(void *)block;
    if (!is_root(c, h, side[i])) continue;
    side[i] |= GYRE__SIDE_LIVE;
    mark_from(c, layout, h, page);
    mark_stack(c, layout);
  }
}

/* What did not fit on the stack, until everything does. */
static void mark_pending(struct gyre__collection *c, struct layout *layout) {
  while (c->set.overflow) {
    c->set.overflow = false;
    for (size_t p = 0; p < c->set.page_count; p++) {
      struct gyre__page *page = c->set.pages[p];
      for (uint32_t i = 0; i < page->capacity; i++) {
        if (!(page->side[i] & GYRE__SIDE_PENDING)) continue;
        page->side[i] &= ~GYRE__SIDE_PENDING;
        mark_from(c, layout, (gyre__header *)gyre__page_block(page, i), page);
        mark_all(c, layout);
      }
    }
  }
}

void gyre__set_mark_live(struct gyre__collection *c) {
  c->survivors = 0;
  struct layout layout = {0};
  for (size_t p = 0; p < c->set.page_count; p++)
    page_mark_roots(c, &layout, c->set.pages[p]);
  mark_all(c, &layout);
  mark_pending(c, &layout);
}

/* ---- what is left ---- */

void gyre__set_keep_dead(struct gyre__collection *c) {
  for (size_t p = 0; p < c->set.page_count; p++) {
    struct gyre__page *page = c->set.pages[p];
    for (uint32_t i = 0; i < page->capacity; i++)
      page->side[i] = gyre__side_is_dead(page->side[i]) ? GYRE__SIDE_MEMBER : 0;
  }
}

void gyre__set_survey(struct gyre__collection *c) {
  c->dead = c->finalizable = 0;
  c->has_clear = c->has_weak = false;
  if (c->survivors == c->members) return;
  for (size_t p = 0; p < c->set.page_count; p++) {
    struct gyre__page *page = c->set.pages[p];
    for (uint32_t i = 0; i < page->capacity; i++) {
      if (!gyre__side_is_dead(page->side[i])) continue;
      gyre__header *h = (gyre__header *)gyre__page_block(page, i);
      c->dead++;
      /* relaxed: the world is stopped. */
      uint32_t bits = gyre__load_relaxed(&h->bits);
      c->finalizable += (bits & GYRE__BIT_FINALIZE) != 0;
      c->has_weak |= (bits & GYRE__BIT_WEAK) != 0;
      c->has_clear |= gyre__header_type(h)->clear != NULL;
    }
  }
}

/* ---- pages by age ---- */

static bool page_is_current(const struct gyre__heap *heap, const struct gyre__page *page) {
  return !page->is_large && heap->pool[GYRE__TRACKED][page->size_class] == page;
}

void gyre__set_age_pages(struct gyre__collection *c) {
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= count; id++) {
    struct gyre__heap *heap = (struct gyre__heap *)gyre__thread_slot(id);
    struct gyre__page **link = &heap->recent;
    while (*link != NULL) {
      struct gyre__page *page = *link;
      if (page->youngest <= c->generation)
        page->youngest =
            (uint8_t)(c->generation == GYRE_GC_NGEN - 1 ? c->generation : c->generation + 1);
      /* A pool's current page goes on being allocated from, unnoticed. */
      if (page_is_current(heap, page)) page->youngest = 0;
      if (page->youngest < GYRE_GC_NGEN - 1) {
        link = &page->recent_next;
        continue;
      }
      *link = page->recent_next;
      page->recent_next = NULL;
      page->on_recent = 0;
    }
  }
}
