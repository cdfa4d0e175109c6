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
 * The world is stopped, or runs; then what is read here is from different moments, and a member that
 * is not live is only a suspect (suspect.c goes on from there). All that has to hold is that nothing
 * is read that is not there: members keep their blocks until the collection is over (lib/object's
 * limbo), their types and layouts are constant, and of what their slots refer to only the address
 * is used. An object's `visit` is called under its lock; one whose lock is held may be half changed,
 * so it counts as live and its references as coming from outside.
 */
#include "lib/collect/collect.h"

#include <string.h>

/* ---- where a reference leads ---- */

/* The page in the set that a header is in, or NULL if it is in none. */
static inline struct gyre__page *page_of_member(gyre__header *h) {
  struct gyre__page *page;
  struct gyre__segment *segment = gyre__segment_of(h);
  if (GYRE_LIKELY(segment != NULL)) {
    page = gyre__segment_page(segment, h);
  } else {
    /* Large, or static and then without a page. relaxed: constant; ordered by the slot's acquire. */
    if (!(gyre__load_relaxed(&h->gc) & GYRE__GC_LARGE)) return NULL;
    page = gyre__page_of(h);
  }
  return page->side != NULL ? page : NULL;
}

/* The page in the set that a referred-to header is in, or NULL if it is in none. `from` is a member
 * that refers to it, in `page`: most references do not lead far, and no two pages of segments share 64
 * KiB of addresses. */
static inline struct gyre__page *page_in_set(gyre__header *h, const gyre__header *from,
                                             struct gyre__page *page) {
  if (((uintptr_t)h ^ (uintptr_t)from) >> GYRE__SMALL_PAGE_SHIFT == 0 && !page->is_large)
    return page;
  return page_of_member(h);
}

/* ---- candidates ---- */

/* Which collector's bytes are those of candidates: indexed by gc. */
static bool candidate_bytes[256];

static bool is_candidate_byte(const struct gyre__collection *c, uint32_t gc) {
  if (gc == 0 || gc & GYRE__GC_DEAD) return false;
  if (c->everything) return true;
  if (gc & GYRE__GC_APART) return false;
  if (c->generation == 0) return (gc & GYRE__GC_FRESH) != 0;
  uint32_t age = gc & GYRE__GC_AGE;
  return age != GYRE__GC_YOUNG && age <= (uint32_t)c->generation + 1;
}

static void candidates_define(const struct gyre__collection *c) {
  for (uint32_t gc = 0; gc < 256; gc++)
    candidate_bytes[gc] = is_candidate_byte(c, gc);
}

/* Does this block hold an object of the generations being collected? */
static inline bool is_candidate(gyre__header *h) {
  /* acquire: the object behind a header that was just published, or promoted; pairs with
   * header_publish() in lib/object/object.c, and with promote() in young.c. */
  return candidate_bytes[gyre__load_acquire(&h->gc)];
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

static void visit(struct gyre__collection *c, const gyre_type *type, gyre__header *h,
                  struct gyre__page *page, reference_fn *fn) {
  if (!gyre__lock_try_quietly(h)) return;
  struct visit_arg arg = {c, fn, h, page};
  /* Who destroys it takes the lock once before it is taken apart. */
  if (!gyre__is_destroyed(h)) type->visit(gyre__object_of(h), visit_reference, &arg);
  gyre__unlock_quietly(h);
}

/* ---- ephemerons: lib/weak/map.c says why so ---- */

struct ephemeron_arg {
  struct gyre__collection *c;
  reference_fn *fn;
  gyre__header *from;
  struct gyre__page *page;
};

/* Is this object, by its address, one of which nothing is known yet that keeps it alive? */
static bool is_in_doubt(const struct gyre__collection *c, const void *object) {
  gyre__header *h = gyre__header_of(object);
  struct gyre__page *page = page_of_member(h);
  if (page == NULL) return false;
  /* While they are being made members, it is not known yet who will be one. */
  if (c->set.step == GYRE__STEP_COUNT) return is_candidate(h);
  return gyre__side_is_suspect(page->side[gyre__page_index(page, h)]);
}

static void ephemeron_of_map(void *key, void *value, void *arg) {
  struct ephemeron_arg *e = (struct ephemeron_arg *)arg;
  /* A dead key's entry is about to be dropped by somebody, who holds the value until then. */
  if (e->c->set.step == GYRE__STEP_MARK && key != NULL && is_in_doubt(e->c, key)) return;
  e->fn(e->c, gyre__header_of(value), e->from, e->page);
}

static void ephemeron_of_key(void *map, void *value, void *arg) {
  struct ephemeron_arg *e = (struct ephemeron_arg *)arg;
  if (!is_in_doubt(e->c, map)) e->fn(e->c, gyre__header_of(value), e->from, e->page);
}

/* What the object refers to as the map of ephemerons, or as a key. */
static GYRE_NOINLINE void ephemerons(struct gyre__collection *c, const gyre_type *type,
                                     gyre__header *h, struct gyre__page *page, reference_fn *fn) {
  struct ephemeron_arg arg = {c, fn, h, page};
  void *object = gyre__object_of(h);
  if (gyre__weak_is_ephemeron_map(type) && gyre__lock_try_quietly(h)) {
    if (!gyre__is_destroyed(h)) gyre__ephemerons_of_map(object, ephemeron_of_map, &arg);
    gyre__unlock_quietly(h);
  }
  /* relaxed: who makes it a key later holds it counted. */
  if (gyre__load_relaxed(&h->bits) & GYRE__BIT_WEAK)
    gyre__ephemerons_of_key(c->self, object, c->weak_locked, ephemeron_of_key, &arg);
}

/* Is a suspect a key of ephemerons? */
static bool is_key(struct gyre__collection *c, gyre__header *h) {
  struct gyre__weak_control *control = gyre__weak_lock(c->self, gyre__object_of(h));
  if (control == NULL) return false;
  bool is = gyre__weak_has_entries(control);
  gyre__weak_unlock(c->self, control);
  return is;
}

static inline __attribute__((always_inline)) void references(struct gyre__collection *c,
                                                             struct layout *layout, gyre__header *h,
                                                             struct gyre__page *page,
                                                             reference_fn *fn) {
  uint32_t id = gyre__header_type_id(h);
  if (GYRE_UNLIKELY(id != layout->id)) layout_load(layout, id);
  for (size_t i = 0; i < layout->slots.count; i++) {
    gyre_slot *slot = gyre__slot_at(gyre__object_of(h), layout->slots.at[i].offset);
    /* acquire: the header of a large object behind it; pairs with the slot operations. */
    void *target = gyre__load_acquire(&slot->gyre__ref);
    if (target != NULL) fn(c, gyre__header_of(target), h, page);
  }
  if (GYRE_UNLIKELY(layout->has_more)) {
    GYRE__FOR_EACH_ELEMENT_SLOT(layout->type, h, page, slot, {
      /* acquire: as above. */
      void *target = gyre__load_acquire(&slot->gyre__ref);
      if (target != NULL) fn(c, gyre__header_of(target), h, page);
    });
    if (layout->type->visit != NULL) visit(c, layout->type, h, page, fn);
  }
  if (GYRE_UNLIKELY(c->ephemerons)) ephemerons(c, layout->type, h, page, fn);
}

/* ---- gathering ---- */

/* The pages of a set, before there are side words for them. */
struct gathering {
  struct gyre__collection *c;
  struct gyre__page **pages;
  size_t count, room;
  size_t blocks;
};

static void gather_page(struct gathering *g, struct gyre__page *page) {
  /* acquire: the page's constants and its blocks' headers; pairs with page_extend() in
   * lib/heap/page.c. */
  uint32_t end = gyre__load_acquire(&page->objects_end);
  if (end == 0 || (page->kind != GYRE__TRACKED && !g->c->leaves) || g->count == g->room) return;
  page->scan = end;
  g->pages[g->count++] = page;
  g->blocks += page->reserved;
}

static void gather_segment(struct gathering *g, struct gyre__segment *segment) {
  /* A collection of the youngest leaves its survivors where the bits are for. */
  bool keep = g->c->generation == 0 || g->c->everything;
  /* acquire: the ages of objects that were promoted before; pairs with gyre__page_has_promoted().
   * acq_rel: likewise. */
  uint64_t pages = keep ? gyre__load_acquire(&segment->promoted_pages)
                        : gyre__exchange_acq_rel(&segment->promoted_pages, 0);
  if (g->c->generation == GYRE_GC_NGEN - 1)
    pages = segment->page_count == 64 ? UINT64_MAX : (UINT64_C(1) << segment->page_count) - 1;
  for (; pages != 0; pages &= pages - 1) {
    struct gyre__page *page = &segment->pages[__builtin_ctzll(pages)];
    /* acquire: what kind of page it is; pairs with the stores in lib/heap/page.c and large.c. Large blocks
     * in an arena's segments are gathered from the slots' lists, like all others. */
    if (gyre__load_acquire(&page->objects_end) != 0 && !page->is_large) gather_page(g, page);
  }
}

static void gather_large(struct gathering *g) {
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= count; id++) {
    struct gyre__heap *heap = (struct gyre__heap *)gyre__thread_slot(id);
    gyre__lock_take(&heap->large_lock);
    for (struct gyre__page *page = heap->large; page != NULL; page = page->large_next)
      if (is_candidate((gyre__header *)gyre__page_block(page, 0))) gather_page(g, page);
    gyre__lock_give(&heap->large_lock);
  }
}

static size_t large_count(void) {
  size_t blocks = 0;
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= count; id++) {
    struct gyre__heap *heap = (struct gyre__heap *)gyre__thread_slot(id);
    gyre__lock_take(&heap->large_lock);
    for (struct gyre__page *page = heap->large; page != NULL; page = page->large_next)
      blocks++;
    gyre__lock_give(&heap->large_lock);
  }
  return blocks;
}

/* The pages whose bits were taken keep their objects for another collection. */
static void gather_undo(struct gathering *g) {
  for (size_t i = 0; i < g->count; i++)
    gyre__page_has_promoted(g->pages[i]);
}

/* A buffer that only grows, under the collector's lock: what a collection of a few pages needs is
 * not asked for anew each time. */
struct buffer {
  void *memory;
  size_t bytes;
};

#define KEPT_BYTES ((size_t)1 << 18)
static struct buffer segment_buffer, page_buffer, side_buffer, component_buffer;
static struct gyre__marked *mark_stack_memory;

/* At least so many bytes, not zeroed; false if there is no memory. */
static bool buffer_reserve(struct buffer *buffer, size_t bytes) {
  if (bytes <= buffer->bytes) return true;
  if (buffer->memory != NULL) gyre__os_unmap(buffer->memory, buffer->bytes);
  size_t rounded = bytes < KEPT_BYTES && gyre__source_bound() == 0 ? KEPT_BYTES : bytes;
  buffer->memory = gyre__os_map(rounded, gyre__os_page_size());
  buffer->bytes = buffer->memory != NULL ? rounded : 0;
  return buffer->memory != NULL;
}

static bool buffer_zero(struct buffer *buffer, size_t bytes) {
  bool fresh = bytes > buffer->bytes;
  if (!buffer_reserve(buffer, bytes)) return false;
  if (fresh)
    gyre__os_populate(buffer->memory, bytes);
  else
    memset(buffer->memory, 0, bytes);
  return true;
}

/* Large ones are given back. */
static void buffer_trim(struct buffer *buffer) {
  /* In an arena, what a collection in a stopped world needs is kept (gyre__set_reserve()). */
  bool kept = gyre__source_bound() != 0 ? buffer != &component_buffer : buffer->bytes <= KEPT_BYTES;
  if (kept || buffer->memory == NULL) return;
  gyre__os_unmap(buffer->memory, buffer->bytes);
  *buffer = (struct buffer){0};
}

static bool gather_pages(struct gathering *g) {
  size_t segments = gyre__segment_list(NULL, 0);
  if (!buffer_reserve(&segment_buffer, segments * sizeof(struct gyre__segment *))) return false;
  struct gyre__segment **list = segment_buffer.memory;
  size_t now = gyre__segment_list(list, segments);
  if (now < segments) segments = now;
  g->room = large_count();
  for (size_t i = 0; i < segments; i++)
    g->room += list[i]->page_count;
  if (!buffer_reserve(&page_buffer, (g->room + 1) * sizeof(struct gyre__page *))) return false;
  g->pages = page_buffer.memory;
  for (size_t i = 0; i < segments; i++)
    gather_segment(g, list[i]);
  gather_large(g);
  return true;
}

/* Where memory is bounded: a part of it, and at least so many entries. */
#define BOUNDED_PART 128u
#define BOUNDED_LEAST 256u

static size_t mark_stack_room(void) {
  return gyre__source_share(GYRE__MARK_STACK, BOUNDED_LEAST, BOUNDED_PART,
                            sizeof *mark_stack_memory);
}

static bool mark_stack_reserve(void) {
  if (mark_stack_memory == NULL)
    mark_stack_memory =
        gyre__os_map(mark_stack_room() * sizeof *mark_stack_memory, gyre__os_page_size());
  return mark_stack_memory != NULL;
}

bool gyre__set_reserve(size_t arena_bytes) {
  /* A tracked block is of 32 bytes at least, and its side word of 4: a ninth of what the two have
   * together. Each slice may be a page, and each piece is asked for all of its pages; a large block is one
   * page more at most for a slice. */
  size_t pieces = (arena_bytes >> GYRE__SEGMENT_SHIFT) + 2;
  size_t slices = arena_bytes >> GYRE__SMALL_PAGE_SHIFT;
  size_t side = (arena_bytes / 9 & ~(sizeof(uint32_t) - 1)) + sizeof(uint32_t);
  return mark_stack_reserve() && buffer_reserve(&segment_buffer, pieces * sizeof(void *)) &&
         buffer_reserve(&page_buffer, (slices + pieces * 64 + 1) * sizeof(void *)) &&
         buffer_reserve(&side_buffer, side);
}

/* The end of an arena. */
static void forget(void) {
  segment_buffer = page_buffer = side_buffer = component_buffer = (struct buffer){0};
  mark_stack_memory = NULL;
}

static void __attribute__((constructor)) set_init(void) { gyre__forget_add(forget); }

bool gyre__set_gather(struct gyre__collection *c) {
  struct gyre__set *set = &c->set;
  memset(set, 0, sizeof *set);
  c->ephemerons = gyre__weak_has_ephemerons();
  struct gathering g = {.c = c};
  candidates_define(c);
  if (!mark_stack_reserve() || !gather_pages(&g)) return false;
  size_t bytes = (g.blocks + 1) * sizeof(uint32_t);
  bool join = c->beside && !c->everything;
  bool too_many = join && g.blocks >= GYRE__COMPONENT_ROOT - 1;
  if (too_many || !buffer_zero(&side_buffer, bytes) ||
      (join && !buffer_reserve(&component_buffer, bytes))) {
    gather_undo(&g);
    return false;
  }
  set->component = join ? component_buffer.memory : NULL;
  set->stack = mark_stack_memory;
  set->stack_room = mark_stack_room();
  set->pages = g.pages;
  set->page_count = g.count;
  set->blocks = g.blocks;
  set->side = side_buffer.memory;
  uint32_t *side = set->side;
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
  buffer_trim(&segment_buffer);
  buffer_trim(&page_buffer);
  buffer_trim(&side_buffer);
  buffer_trim(&component_buffer);
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

/* The edges of one page's candidates, which become members; returns how many. */
static uint64_t page_count_edges(struct gyre__collection *c, struct layout *layout,
                                 struct gyre__page *page) {
  uint32_t *side = page->side;
  char *block = page->start;
  uint32_t block_size = page->block_size, end = page->scan;
  uint64_t members = 0;
  for (uint32_t i = 0; i < end; i++, block += block_size) {
    gyre__header *h = (gyre__header *)(void *)block;
    if (!is_candidate(h)) continue;
    side[i] |= GYRE__SIDE_MEMBER;
    members++;
    references(c, layout, h, page, edge_see);
  }
  return members;
}

static void edge_queue_start(void) {
  edge_nowhere = 0;
  for (unsigned i = 0; i < EDGE_QUEUE; i++)
    edge_queue.word[i] = &edge_nowhere;
}

void gyre__set_count_edges(struct gyre__collection *c) {
  c->members = c->member_bytes = 0;
  c->set.step = GYRE__STEP_COUNT;
  edge_queue_start();
  struct layout layout = {0};
  for (size_t p = 0; p < c->set.page_count; p++) {
    gyre__breathe(c);
    uint64_t members = page_count_edges(c, &layout, c->set.pages[p]);
    c->members += members;
    c->member_bytes += members * gyre__page_usable(c->set.pages[p]);
  }
  edge_queue_empty();
}

/* ---- joining: the edges among suspects, and their components ---- */

static uint32_t component_find(uint32_t *component, uint32_t at) {
  while (component[at] != 0 && !(component[at] & GYRE__COMPONENT_ROOT)) {
    uint32_t parent = component[at] - 1;
    uint32_t above = component[parent];
    if (above != 0 && !(above & GYRE__COMPONENT_ROOT)) component[at] = above; /* path halving */
    at = parent;
  }
  return at;
}

/* The root of the two components, given theirs. */
static inline uint32_t component_join(uint32_t *component, uint32_t a, uint32_t b) {
  uint32_t root = a < b ? a : b, other = a < b ? b : a;
  component[root] |= component[other];
  component[other] = root + 1;
  return root;
}

uint32_t *gyre__component_of(struct gyre__collection *c, const struct gyre__page *page,
                             uint32_t index) {
  uint32_t at = (uint32_t)(page->side - c->set.side) + index;
  return &c->set.component[component_find(c->set.component, at)];
}

/* The root of the component of the suspect that is being looked at. */
static uint32_t join_root;

static inline void join_see(struct gyre__collection *c, gyre__header *h, const gyre__header *from,
                            struct gyre__page *from_page) {
  struct gyre__page *page = page_in_set(h, from, from_page);
  if (page == NULL) return;
  uint32_t *word = &page->side[gyre__page_index(page, h)];
  if (!gyre__side_is_suspect(*word)) return;
  edge_count(word);
  if (c->set.component == NULL) return;
  uint32_t root = component_find(c->set.component, (uint32_t)(word - c->set.side));
  if (root != join_root) join_root = component_join(c->set.component, root, join_root);
}

void gyre__set_join_suspects(struct gyre__collection *c) {
  struct layout layout = {0};
  c->set.step = GYRE__STEP_JOIN;
  GYRE__FOR_EACH_MEMBER(c, gyre__side_is_suspect, {
    if (GYRE_UNLIKELY(gyre__is_destroyed(h))) {
      page->side[i] |= GYRE__SIDE_LIVE;
      continue;
    }
    if (c->set.component != NULL)
      join_root = component_find(c->set.component, (uint32_t)(page->side - c->set.side) + i);
    references(c, &layout, h, page, join_see);
  })
}

/* ---- marking ---- */

static inline void stack_push(struct gyre__collection *c, struct gyre__marked m) {
  if (GYRE_UNLIKELY(c->set.stack_count == c->set.stack_room)) {
    m.page->side[gyre__page_index(m.page, m.h)] |= GYRE__SIDE_PENDING;
    c->set.overflow = true;
    return;
  }
  c->set.stack[c->set.stack_count++] = m;
}

#define MARK_QUEUE 32

/* Live objects whose headers' cache lines are on their way: first in, first out. Marking goes on from
 * several at a time, so that it waits for none. What does not fit is on the stack. */
static struct {
  struct gyre__marked marked[MARK_QUEUE];
  unsigned first, count;
} mark_queue;

static inline void queue_put(struct gyre__collection *c, struct gyre__marked m) {
  if (mark_queue.count == MARK_QUEUE) {
    stack_push(c, m);
    return;
  }
  __builtin_prefetch(m.h);
  mark_queue.marked[(mark_queue.first + mark_queue.count++) % MARK_QUEUE] = m;
}

static inline struct gyre__marked queue_take(void) {
  mark_queue.count--;
  return mark_queue.marked[mark_queue.first++ % MARK_QUEUE];
}

static inline __attribute__((always_inline)) void mark_see(struct gyre__collection *c,
                                                           gyre__header *h,
                                                           const gyre__header *from,
                                                           struct gyre__page *from_page) {
  struct gyre__page *page = page_in_set(h, from, from_page);
  if (page == NULL) return;
  uint32_t *side = &page->side[gyre__page_index(page, h)];
  if (!gyre__side_is_suspect(*side)) return;
  *side |= GYRE__SIDE_LIVE;
  queue_put(c, (struct gyre__marked){h, page});
}

/* What survives a collection moves on. */
static inline void grow_older(const struct gyre__collection *c, gyre__header *h) {
  /* relaxed: a figure; the compare-exchange decides. */
  uint8_t gc = gyre__load_relaxed(&h->gc);
  uint32_t age = c->age_after;
  if (GYRE_LIKELY((gc & (GYRE__GC_AGE | GYRE__GC_FRESH)) == age) || gc & GYRE__GC_DEAD) return;
  if ((gc & GYRE__GC_AGE) > age) age = gc & GYRE__GC_AGE;
  uint8_t older = (uint8_t)((gc & ~(uint32_t)(GYRE__GC_AGE | GYRE__GC_FRESH)) | age);
  /* relaxed: fails if the object is just being destroyed, or armed. */
  if (older != gc) (void)gyre__cas_strong_relaxed(&h->gc, &gc, older);
}

/* Follows the references of what has been found live, until no more than `rest` wait in the queue. */
static void mark_all(struct gyre__collection *c, struct layout *layout, unsigned rest) {
  bool aging = c->aging;
  for (;;) {
    while (mark_queue.count <= MARK_QUEUE / 2 && c->set.stack_count > 0)
      queue_put(c, c->set.stack[--c->set.stack_count]);
    if (mark_queue.count <= rest) break;
    struct gyre__marked m = queue_take();
    if (aging) grow_older(c, m.h);
    if (GYRE_UNLIKELY(++c->survivors % 1024 == 0)) gyre__breathe(c);
    references(c, layout, m.h, m.page, mark_see);
  }
}

static void page_mark_roots(struct gyre__collection *c, struct layout *layout,
                            struct gyre__page *page) {
  uint32_t *side = page->side;
  char *block = page->start;
  uint32_t block_size = page->block_size, end = page->scan;
  for (uint32_t i = 0; i < end; i++, block += block_size) {
    if (!gyre__side_is_suspect(side[i])) continue;
    gyre__header *h = (gyre__header *)(void *)block;
    if (!gyre__has_outside_counts(c, h, side[i])) continue;
    side[i] |= GYRE__SIDE_LIVE;
    queue_put(c, (struct gyre__marked){h, page});
    mark_all(c, layout, MARK_QUEUE / 2);
  }
}

/* What did not fit on the stack, until everything does. */
static void mark_pending(struct gyre__collection *c, struct layout *layout) {
  while (c->set.overflow) {
    c->set.overflow = false;
    for (size_t p = 0; p < c->set.page_count; p++) {
      struct gyre__page *page = c->set.pages[p];
      for (uint32_t i = 0; i < page->scan; i++) {
        if (!(page->side[i] & GYRE__SIDE_PENDING)) continue;
        page->side[i] &= ~GYRE__SIDE_PENDING;
        queue_put(c, (struct gyre__marked){(gyre__header *)gyre__page_block(page, i), page});
        mark_all(c, layout, 0);
      }
    }
  }
}

void gyre__set_mark_live(struct gyre__collection *c) {
  c->survivors = 0;
  c->set.step = GYRE__STEP_MARK;
  c->age_after = c->generation + 2 < GYRE_GC_NGEN ? (uint32_t)c->generation + 2 : GYRE_GC_NGEN;
  struct layout layout = {0};
  for (size_t p = 0; p < c->set.page_count; p++)
    page_mark_roots(c, &layout, c->set.pages[p]);
  mark_all(c, &layout, 0);
  mark_pending(c, &layout);
}

/* ---- marking what is uncollectable ---- */

#define UNCOLLECTABLE (GYRE__SIDE_LIVE | GYRE__SIDE_MANUAL)

static inline void manual_see(struct gyre__collection *c, gyre__header *h, const gyre__header *from,
                              struct gyre__page *from_page) {
  struct gyre__page *page = page_in_set(h, from, from_page);
  if (page == NULL) return;
  uint32_t *side = &page->side[gyre__page_index(page, h)];
  if (!gyre__side_is_suspect(*side)) return;
  *side |= UNCOLLECTABLE;
  stack_push(c, (struct gyre__marked){h, page});
}

void gyre__set_mark_manual_one(struct gyre__collection *c, gyre__header *h, uint32_t *side) {
  *side |= UNCOLLECTABLE;
  stack_push(c, (struct gyre__marked){h, gyre__page_of(h)});
}

static void manual_stack_follow(struct gyre__collection *c, struct layout *layout) {
  while (c->set.stack_count > 0) {
    struct gyre__marked m = c->set.stack[--c->set.stack_count];
    references(c, layout, m.h, m.page, manual_see);
  }
}

void gyre__set_mark_manual_rest(struct gyre__collection *c) {
  struct layout layout = {0};
  manual_stack_follow(c, &layout);
  while (c->set.overflow) {
    c->set.overflow = false;
    for (size_t p = 0; p < c->set.page_count; p++) {
      struct gyre__page *page = c->set.pages[p];
      for (uint32_t i = 0; page != NULL && i < page->scan; i++) {
        if (!(page->side[i] & GYRE__SIDE_PENDING)) continue;
        page->side[i] &= ~GYRE__SIDE_PENDING;
        references(c, &layout, (gyre__header *)gyre__page_block(page, i), page, manual_see);
        manual_stack_follow(c, &layout);
      }
    }
  }
}

/* ---- what is left ---- */

/* What is known of those that have left the set. */
#define FOUND (GYRE__SIDE_CONDEMNED | GYRE__SIDE_KEPT | GYRE__SIDE_MANUAL)

void gyre__set_keep_suspects(struct gyre__collection *c) {
  for (size_t p = 0; p < c->set.page_count; p++) {
    struct gyre__page *page = c->set.pages[p];
    if (page == NULL) continue;
    for (uint32_t i = 0; i < page->scan; i++)
      page->side[i] =
          gyre__side_is_suspect(page->side[i]) ? GYRE__SIDE_MEMBER : page->side[i] & FOUND;
  }
}

void gyre__set_survey(struct gyre__collection *c) {
  c->suspects = c->finalizable = 0;
  c->has_clear = c->has_manual = false;
  uint32_t last = 0; /* the type looked at last */
  if (c->survivors == c->members) return;
  if (c->beside && c->members - c->survivors > c->set.blocks / 2)
    gyre__os_populate(c->set.component, c->set.blocks * sizeof(uint32_t));
  GYRE__FOR_EACH_MEMBER(c, gyre__side_is_suspect, {
    c->suspects++;
    if (c->beside) gyre__suspect_clear(c, page, i, h);
    /* relaxed: in a stopped world nobody changes it, in a running one it is a hint. */
    uint32_t bits = gyre__load_relaxed(&h->bits);
    c->finalizable += (bits & GYRE__BIT_FINALIZE) != 0;
    /* The entries of a key are dropped while its component is held, like what a clear hook drops. */
    if (GYRE_UNLIKELY(c->ephemerons) && bits & GYRE__BIT_WEAK) c->has_clear |= is_key(c, h);
    if (gyre__header_type_id(h) == last) continue;
    last = gyre__header_type_id(h);
    c->has_clear |= gyre__header_type(h)->clear != NULL;
    c->has_manual |= gyre__is_manual(h);
  })
}
