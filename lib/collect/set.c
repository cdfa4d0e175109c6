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

/* The side word of the block that an object pointer leads to, or NULL if that is in no page of the
 * set. */
static inline uint32_t *side_of(const void *object) {
  gyre__header *h = gyre__header_of(object);
  struct gyre__segment *segment = gyre__segment_of(h);
  struct gyre__page *page;
  if (GYRE_LIKELY(segment != NULL)) {
    page = gyre__segment_page(segment, h);
  } else {
    /* Large, or static and then without a page. relaxed: the world is stopped. */
    if (!(gyre__load_relaxed(&h->gc) & GYRE__GC_LARGE)) return NULL;
    page = gyre__page_of(h);
  }
  if (page->side == NULL) return NULL;
  return &page->side[gyre__page_index(page, h)];
}

/* ---- references of an object ---- */

typedef void reference_fn(struct gyre__collection *c, void *object);

struct visit_arg {
  struct gyre__collection *c;
  reference_fn *fn;
};

static int visit_reference(void *object, void *arg) {
  struct visit_arg *v = (struct visit_arg *)arg;
  if (object != NULL) v->fn(v->c, object);
  return 0;
}

static bool is_locked(gyre__header *h) {
  /* relaxed: the world is stopped; who locked it is parked. */
  return gyre__load_relaxed(&h->bits) & GYRE__BIT_LOCKED;
}

static inline __attribute__((always_inline)) void
references(struct gyre__collection *c, gyre__header *h, struct gyre__page *page, reference_fn *fn) {
  gyre_type *type = gyre__header_type(h);
  GYRE__FOR_EACH_SLOT(type, h, page, slot, {
    /* relaxed: the world is stopped. */
    void *target = gyre__load_relaxed(&slot->gyre__ref);
    if (target != NULL) fn(c, target);
  });
  if (GYRE_UNLIKELY(type->visit != NULL) && !is_locked(h)) {
    struct visit_arg arg = {c, fn};
    void *object = gyre__object_of(h);
    gyre_lock(object);
    type->visit(object, visit_reference, &arg);
    gyre_unlock(object);
  }
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
static gyre__header **kept_stack;

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

static void edge_see(struct gyre__collection *c, void *object) {
  (void)c;
  uint32_t *word = side_of(object);
  if (word == NULL) return;
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

void gyre__set_count_edges(struct gyre__collection *c, bool discover) {
  c->members = 0;
  edge_nowhere = 0;
  for (unsigned i = 0; i < EDGE_QUEUE; i++)
    edge_queue.word[i] = &edge_nowhere;
  for (size_t p = 0; p < c->set.page_count; p++) {
    struct gyre__page *page = c->set.pages[p];
    uint32_t *side = page->side;
    char *block = page->start;
    for (uint32_t i = 0; i < page->capacity; i++, block += page->block_size) {
      gyre__header *h = (gyre__header *)(void *)block;
      if (discover) {
        if (!is_candidate(h, c->generation)) continue;
        side[i] |= GYRE__SIDE_MEMBER;
      } else if (!(side[i] & GYRE__SIDE_MEMBER)) {
        continue;
      }
      c->members++;
      references(c, h, page, edge_see);
    }
  }
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

static void mark(struct gyre__collection *c, gyre__header *h, uint32_t *side) {
  *side |= GYRE__SIDE_LIVE;
  if (GYRE_UNLIKELY(c->set.stack_count == GYRE__MARK_STACK)) {
    *side |= GYRE__SIDE_PENDING;
    c->set.overflow = true;
    return;
  }
  __builtin_prefetch(h);
  c->set.stack[c->set.stack_count++] = h;
}

static void mark_see(struct gyre__collection *c, void *object) {
  uint32_t *side = side_of(object);
  if (side != NULL && gyre__side_is_dead(*side)) mark(c, gyre__header_of(object), side);
}

static inline void grow_older(gyre__header *h) {
  /* relaxed: the world is stopped. */
  uint32_t gc = gyre__load_relaxed(&h->gc);
  if ((gc & GYRE__GC_AGE) < GYRE_GC_NGEN) gyre__store_relaxed(&h->gc, (uint8_t)(gc + 1));
}

/* Follows the references of one live object. */
static inline void mark_from(struct gyre__collection *c, gyre__header *h) {
  if (!c->held) grow_older(h);
  c->survivors++;
  references(c, h, gyre__page_of(h), mark_see);
}

#define MARK_QUEUE 8

/* Empties the stack, through a short queue in which headers wait for their cache lines. */
static void mark_drain(struct gyre__collection *c) {
  gyre__header *queue[MARK_QUEUE];
  unsigned head = 0, count = 0;
  for (;;) {
    while (count < MARK_QUEUE && c->set.stack_count > 0) {
      gyre__header *h = c->set.stack[--c->set.stack_count];
      __builtin_prefetch(h);
      queue[(head + count++) % MARK_QUEUE] = h;
    }
    if (count == 0) return;
    gyre__header *h = queue[head];
    head = (head + 1) % MARK_QUEUE;
    count--;
    mark_from(c, h);
  }
}

static void mark_roots(struct gyre__collection *c) {
  for (size_t p = 0; p < c->set.page_count; p++) {
    struct gyre__page *page = c->set.pages[p];
    uint32_t *side = page->side;
    for (uint32_t i = 0; i < page->capacity; i++) {
      if (!gyre__side_is_dead(side[i])) continue;
      gyre__header *h = (gyre__header *)gyre__page_block(page, i);
      if (!is_root(c, h, side[i])) continue;
      mark(c, h, &side[i]);
      mark_drain(c);
    }
  }
}

/* What did not fit on the stack, until everything does. */
static void mark_pending(struct gyre__collection *c) {
  while (c->set.overflow) {
    c->set.overflow = false;
    for (size_t p = 0; p < c->set.page_count; p++) {
      struct gyre__page *page = c->set.pages[p];
      for (uint32_t i = 0; i < page->capacity; i++) {
        if (!(page->side[i] & GYRE__SIDE_PENDING)) continue;
        page->side[i] &= ~GYRE__SIDE_PENDING;
        mark_from(c, (gyre__header *)gyre__page_block(page, i));
        mark_drain(c);
      }
    }
  }
}

void gyre__set_mark_live(struct gyre__collection *c) {
  c->survivors = 0;
  mark_roots(c);
  mark_pending(c);
}

/* ---- what is left ---- */

void gyre__set_keep_dead(struct gyre__collection *c) {
  for (size_t p = 0; p < c->set.page_count; p++) {
    struct gyre__page *page = c->set.pages[p];
    for (uint32_t i = 0; i < page->capacity; i++)
      page->side[i] = gyre__side_is_dead(page->side[i]) ? GYRE__SIDE_MEMBER : 0;
  }
}

void gyre__set_forget_live_large(struct gyre__collection *c) {
  size_t kept = 0;
  for (size_t p = 0; p < c->set.page_count; p++) {
    struct gyre__page *page = c->set.pages[p];
    if (page->is_large && !gyre__side_is_dead(page->side[0]))
      page->side = NULL;
    else
      c->set.pages[kept++] = page;
  }
  c->set.page_count = kept;
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
