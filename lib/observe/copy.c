/* SPDX-License-Identifier: MIT */
/* Copying the heap's objects and references, beside the program or in a stopped world.
 *
 *   stopped                               beside
 *
 *   stop the world                        clear all touch marks; handshake: mode LOGGING, kept
 *     nodes: a walk over all headers        nodes
 *     edges: a walk over all nodes          edges
 *     [count each once more]                [count each once more that is not touched]
 *                                         a grace period
 *                                           read the touch marks: what has changed?
 *                                           [give back what was counted in vain]
 *   resume                                mode IDLE; nobody is waited for
 *
 * Beside the program, three things make the copy safe, and one makes it honest.
 *
 *   Addresses stay what they are. In the mode "kept" whatever dies waits in limbo for the end of the
 *   mode (lib/object/limbo.c), young objects and leaves included, which a collection would not need. So
 *   from the handshake on no block changes hands but from free to used, and an address found in a header
 *   or in a slot is one object for as long as the copy takes. Blocks of those that are waiting say that
 *   they are dead.
 *
 *   Slots are slots. What is read as a slot lies in an object that was seen with a header, and its block
 *   is not used for anything else; the body was zeroed before the header was written. Slots hold NULL or
 *   the address of an object that was counted when it was there, so its block is kept as well.
 *
 *   Every reference has a node at its end. One that leads to an object which the first walk has not seen,
 *   because it was made after the walk had passed its place, gets a node of its own, marked NEW and PARTIAL,
 *   and the references of that are not followed: a program that makes a list faster than we read it would
 *   keep us for ever.
 *
 *   Marks. In mode LOGGING every count and every removal of a reference marks the object as touched, as for
 *   the collector's proof (lib/collect/collect.c has the argument why that is enough; it holds here for any
 *   object that is not touched when the grace period is over). We clear the marks before the mode is
 *   published, and read them after a grace period that began when the last header and slot had been read:
 *   then every operation that any read could have run into is over, and its mark is there. What is not
 *   marked had a constant count, and lost no reference.
 *
 * A reference for the caller (GYRE_GRAPH_RETAIN), beside the program: our count may come too late, onto an
 * object whose owner has seen that nobody counts it and is destroying it, or onto one that a young collection
 * has found dead. In both cases the object was touched before, in the same operation, and that operation is
 * over when the grace period is. So we count, wait for the grace period, and believe only in those counts
 * whose object is not touched; the others are given back as every late count is (lib/object/refcount.c),
 * before the mode ends: later the block may be in a page that is used for something else.
 * In a stopped world no operation is under way, and all counts are good.
 *
 * The world is stopped, or the program runs: static objects are no pages', are found by references only, and
 * are followed like any other. A visit function is called under the object's lock; one that is locked leaves
 * a node that is PARTIAL.
 *
 * Order. The nodes of pages come in the order of their addresses; then come those that were found by
 * references. Each reference's target is looked up some steps after it was read, so that the table's cache
 * line is there by then.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/observe/graph.h"

/* ---- from an address to its node ---- */

/* The pages of a segment, by their number in it: the number of their first block, plus 1. */
struct place {
  uintptr_t segment; /* address >> GYRE__SEGMENT_SHIFT; 0: unused */
  uint32_t first[(size_t)1 << (GYRE__SEGMENT_SHIFT - GYRE__SMALL_PAGE_SHIFT)];
  uint32_t end[(size_t)1 << (GYRE__SEGMENT_SHIFT - GYRE__SMALL_PAGE_SHIFT)];
};

/* An object that is in no table: found by a reference. */
struct stray {
  uintptr_t address; /* 0: unused */
  uint32_t node;
};

/* A named root, as it was before. */
struct known_root {
  uintptr_t object;
  size_t name; /* where in the graph's names */
};

/* The key of an entry of a map of ephemerons. */
struct known_key {
  uint32_t edge;
  uintptr_t key; /* 0: none */
};

struct copy {
  struct gyre_graph *g;
  struct gyre__objects *self;
  bool beside;
  bool failed; /* no memory, or too many: */
  int error;   /* ENOMEM or EOVERFLOW; 0 */
  GYRE__ARRAY(struct known_root) known;
  GYRE__ARRAY(struct known_key) keys;
  struct gyre__object_pages pages;
  /* For each block of the pages, its node plus 1, or 0. */
  GYRE__ARRAY(uint32_t) number;
  GYRE__ARRAY(struct place) places; /* a table of a power of two, at most half full */
  GYRE__ARRAY(struct stray) strays; /* likewise */
  size_t stray_count;
  /* References that have been read and whose target is still to be found. */
  struct {
    uint32_t edge;
    gyre__header *to;
  } queue[16];
  unsigned queued;
};

static size_t hash(uintptr_t key, size_t size) {
  return (size_t)(((uint64_t)key * UINT64_C(0x9E3779B97F4A7C15)) >> 32) & (size - 1);
}

static struct place *place_of(struct copy *c, uintptr_t segment) {
  size_t size = c->places.count, at = hash(segment, size);
  while (c->places.at[at].segment != segment && c->places.at[at].segment != 0)
    at = (at + 1) & (size - 1);
  return &c->places.at[at];
}

static void fail(struct copy *c, int error) {
  if (!c->failed) c->error = error;
  c->failed = true;
}

/* Tables for the pages that were gathered. */
static bool places_make(struct copy *c) {
  size_t size = 16;
  while (size < 2 * c->pages.pages.count)
    size *= 2;
  if (!GYRE__ARRAY_MAKE(&c->places, size) || !GYRE__ARRAY_MAKE(&c->number, c->pages.blocks))
    return false;
  for (size_t i = 0; i < c->pages.pages.count; i++) {
    const struct gyre__object_page *p = &c->pages.pages.at[i];
    if (p->page->is_large) continue;
    uintptr_t key = (uintptr_t)p->page->start >> GYRE__SEGMENT_SHIFT;
    struct place *place = place_of(c, key);
    place->segment = key;
    size_t index = (size_t)(p->page - p->page->segment->pages);
    place->first[index] = p->first;
    place->end[index] = p->end;
  }
  return true;
}

/* Where the node's number of the block is kept, or NULL if it is in none of the pages. */
static inline uint32_t *number_of(struct copy *c, const gyre__header *h) {
  struct gyre__segment *segment = gyre__segment_of(h);
  if (GYRE_UNLIKELY(segment == NULL || segment->shape >= GYRE__SHAPE_SPANS)) return NULL;
  struct place *place = place_of(c, (uintptr_t)h >> GYRE__SEGMENT_SHIFT);
  struct gyre__page *page = gyre__segment_page(segment, h);
  size_t index = (size_t)(page - segment->pages);
  if (place->end[index] == 0) return NULL;
  uint32_t block = gyre__page_index(page, h);
  return block < place->end[index] ? &c->number.at[place->first[index] + block] : NULL;
}

static struct stray *stray_of(struct copy *c, uintptr_t address) {
  size_t size = c->strays.count, at = hash(address >> 4, size);
  while (c->strays.at[at].address != address && c->strays.at[at].address != 0)
    at = (at + 1) & (size - 1);
  return &c->strays.at[at];
}

static bool strays_grow(struct copy *c) {
  __typeof__(c->strays) old = c->strays, fresh = {0};
  if (!GYRE__ARRAY_MAKE(&fresh, old.count == 0 ? 256 : 2 * old.count)) return false;
  c->strays = fresh;
  for (size_t i = 0; i < old.count; i++)
    if (old.at[i].address != 0) *stray_of(c, old.at[i].address) = old.at[i];
  GYRE__ARRAY_DROP(&old);
  return true;
}

/* ---- nodes ---- */

static size_t body_bytes(const gyre_type *type, const gyre__header *h,
                         const struct gyre__page *page) {
  if (type->element_size == 0 || page == NULL) return type->size;
  return type->size + gyre__array_length(type, h, page) * type->element_size;
}

static uint32_t flags_of(const gyre_type *type, uint64_t word, uint32_t shared) {
  uint32_t bits = gyre__peeked_bits(word), gc = gyre__peeked_gc(word), flags = 0;
  if (gyre__state_of(shared) == GYRE__IMMORTAL_STATE) flags |= GYRE_NODE_IMMORTAL;
  if (bits & GYRE__BIT_FINALIZE)
    flags |= GYRE_NODE_FINALIZER;
  else if (type->finalize != NULL)
    flags |= GYRE_NODE_FINALIZED;
  if (bits & GYRE__BIT_WEAK) flags |= GYRE_NODE_WEAK;
  if (shared & gyre__published_in(shared) || gyre__peeked_owner(word) == 0)
    flags |= GYRE_NODE_PUBLISHED;
  if (type->gyre__kind == GYRE__LEAF) flags |= GYRE_NODE_LEAF;
  if (gc & GYRE__GC_APART) flags |= GYRE_NODE_APART;
  if (gc & GYRE__GC_DEAD) flags |= GYRE_NODE_DEAD | GYRE_NODE_CHANGED;
  uint32_t age = gc & GYRE__GC_AGE;
  return flags | (age == 0 ? 0 : age - 1) << GYRE__NODE_AGE_SHIFT;
}

/* Adds the object. Returns its node, or GYRE__NO_NODE. */
static uint32_t node_add(struct copy *c, const gyre__header *h, uint64_t word,
                         const struct gyre__page *page, uint32_t more_flags) {
  const gyre_type *type = gyre__type(gyre__peeked_type(word));
  /* relaxed: a count that is just being changed is touched, and then the node is CHANGED. */
  uint32_t shared = gyre__load_relaxed(&h->shared);
  uint32_t local = gyre__peeked_owner(word) != 0 ? gyre__load_relaxed(&h->local) : 0;
  /* Its owner is looking through its young objects, or what waits to be freed is linked here. */
  if (local & GYRE__LOCAL_MARK || gyre__peeked_gc(word) & GYRE__GC_DEAD) local = 1;
  if (gyre__state_of(shared) == GYRE__IMMORTAL_STATE) local = 0;
  struct gyre__node node = {
      .address = (uintptr_t)h + GYRE_HEADER_SIZE,
      .bytes = body_bytes(type, h, page),
      .type = gyre__peeked_type(word),
      .local = local,
      .shared = shared,
      .flags = flags_of(type, word, shared) | more_flags,
  };
  if (c->g->nodes.count >= GYRE__NO_NODE) {
    fail(c, EOVERFLOW);
    return GYRE__NO_NODE;
  }
  if (!GYRE__ARRAY_PUSH(&c->g->nodes, node)) {
    fail(c, ENOMEM);
    return GYRE__NO_NODE;
  }
  return (uint32_t)(c->g->nodes.count - 1);
}

/* Beside the program, somebody else may wait for us. */
static void breathe(struct copy *c) {
  if (!c->beside) return;
  GYRE_WINDOW("observe/step");
  gyre_safepoint();
}

static void page_nodes(struct copy *c, const struct gyre__object_page *p) {
  char *block = p->page->start;
  for (uint32_t i = 0; i < p->end && !c->failed; i++, block += p->page->block_size) {
    const gyre__header *h = (const gyre__header *)(void *)block;
    uint64_t word = gyre__header_peek(h);
    if (!gyre__peeked_alive(word)) continue;
    uint32_t node = node_add(c, h, word, p->page, 0);
    if (node == GYRE__NO_NODE) return;
    if (!p->page->is_large) {
      c->number.at[p->first + i] = node + 1;
      continue;
    }
    if (2 * (c->stray_count + 1) > c->strays.count && !strays_grow(c)) {
      fail(c, ENOMEM);
      return;
    }
    c->stray_count++;
    *stray_of(c, (uintptr_t)h) = (struct stray){(uintptr_t)h, node};
  }
}

static void nodes_find(struct copy *c) {
  for (size_t i = 0; i < c->pages.pages.count && !c->failed; i++) {
    breathe(c);
    page_nodes(c, &c->pages.pages.at[i]);
  }
  c->g->sorted = (uint32_t)c->g->nodes.count;
}

/* NULL if the object is static. In an arena, a static object may lie in a piece of address space that the buffer
 * touches too: then it is in a slice that was never a page. */
static struct gyre__page *page_of(const gyre__header *h, uint64_t word) {
  struct gyre__segment *segment = gyre__segment_of(h);
  if (segment == NULL) return gyre__peeked_gc(word) & GYRE__GC_LARGE ? gyre__page_of(h) : NULL;
  struct gyre__page *page = gyre__segment_page(segment, h);
  return page->reserved != 0 ? page : NULL;
}

/* The node of an object that a reference led to, and that has none yet. */
static uint32_t node_found(struct copy *c, gyre__header *h) {
  if (2 * (c->stray_count + 1) > c->strays.count && !strays_grow(c)) {
    fail(c, ENOMEM);
    return GYRE__NO_NODE;
  }
  struct stray *stray = stray_of(c, (uintptr_t)h);
  if (stray->address != 0) return stray->node;
  uint64_t word = gyre__header_peek(h);
  struct gyre__page *page = page_of(h, word);
  /* One that is dead was there before, and destroyed when the walk came by. */
  uint32_t flags = GYRE_NODE_STATIC;
  if (page != NULL) {
    flags = GYRE_NODE_CHANGED | GYRE_NODE_PARTIAL;
    if (gyre__peeked_alive(word)) flags |= GYRE_NODE_NEW;
  }
  uint32_t node = node_add(c, h, word, page, flags);
  if (node == GYRE__NO_NODE) return node;
  c->stray_count++;
  *stray = (struct stray){(uintptr_t)h, node};
  return node;
}

/* ---- edges ---- */

static void queue_take_up(struct copy *c, unsigned at) {
  gyre__header *h = c->queue[at].to;
  if (h == NULL) return;
  uint32_t *number = number_of(c, h);
  uint32_t node = number != NULL && *number != 0 ? *number - 1 : node_found(c, h);
  if (number != NULL && node != GYRE__NO_NODE) *number = node + 1;
  c->g->edges.at[c->queue[at].edge].to = node;
  c->queue[at].to = NULL;
}

static void queue_empty(struct copy *c) {
  for (unsigned i = 0; i < sizeof c->queue / sizeof c->queue[0]; i++)
    if (!c->failed) queue_take_up(c, i);
}

static void edge_add(struct copy *c, gyre__header *to, uint32_t label) {
  struct gyre__edge edge = {.to = GYRE__NO_NODE, .label = label};
  if (c->g->edges.count >= UINT32_MAX - 1) {
    fail(c, EOVERFLOW);
    return;
  }
  if (c->failed || !GYRE__ARRAY_PUSH(&c->g->edges, edge)) {
    fail(c, ENOMEM);
    return;
  }
  uint32_t *number = number_of(c, to);
  if (number != NULL) __builtin_prefetch(number);
  unsigned at = c->queued++ % (sizeof c->queue / sizeof c->queue[0]);
  queue_take_up(c, at);
  c->queue[at].edge = (uint32_t)(c->g->edges.count - 1);
  c->queue[at].to = to;
}

static int visit_edge(void *object, void *arg) {
  struct copy *c = arg;
  if (object != NULL) edge_add(c, gyre__header_of(object), GYRE__LABEL_VISIT);
  return c->failed;
}

/* An entry of a map of ephemerons has one count on its value, and so it is one reference, the map's. Its key
 * is noted by its address: it is alive, or dies meanwhile and then waits in limbo. */
static void ephemeron_edge(void *key, void *value, void *arg) {
  struct copy *c = arg;
  struct known_key known = {.edge = (uint32_t)c->g->edges.count, .key = (uintptr_t)key};
  if (!c->failed && !GYRE__ARRAY_PUSH(&c->keys, known)) fail(c, ENOMEM);
  edge_add(c, gyre__header_of(value), GYRE__LABEL_VISIT);
}

/* The references that no layout describes. False if somebody has the object locked. */
static bool visit_edges(struct copy *c, const gyre_type *type, gyre__header *h) {
  if (!gyre__lock_try_quietly(h)) return false;
  /* Who destroys it takes the lock once before it is taken apart. */
  if (!gyre__is_destroyed(h)) {
    (void)type->visit(gyre__object_of(h), visit_edge, c);
    if (gyre__weak_is_ephemeron_map(type))
      gyre__ephemerons_of_map(gyre__object_of(h), ephemeron_edge, c);
  }
  gyre__unlock_quietly(h);
  return true;
}

static void slot_edge(struct copy *c, gyre_slot *slot, uint32_t label) {
  /* acquire: the header behind it; pairs with the slot operations. */
  void *target = gyre__load_acquire(&slot->gyre__ref);
  if (target != NULL) edge_add(c, gyre__header_of(target), label);
}

static void node_edges(struct copy *c, uint32_t node) {
  struct gyre__node *n = &c->g->nodes.at[node];
  if (n->flags & (GYRE_NODE_LEAF | GYRE_NODE_PARTIAL)) return;
  const gyre_type *type = gyre__type(n->type);
  gyre__header *h = (gyre__header *)(n->address - GYRE_HEADER_SIZE);
  uint32_t label = 0;
  for (size_t i = 0; i < type->slots.count; i++)
    slot_edge(c, gyre__slot_at(gyre__object_of(h), type->slots.at[i].offset), label++);
  if (type->element_slots.count != 0 && !(n->flags & GYRE_NODE_STATIC))
    GYRE__FOR_EACH_ELEMENT_SLOT(type, h, gyre__page_of(h), slot, {
      slot_edge(c, slot, label < GYRE__LABEL_VISIT - 1 ? label++ : label);
    });
  /* `n` may have moved: adding edges adds nodes. */
  if (type->visit != NULL && !visit_edges(c, type, h))
    c->g->nodes.at[node].flags |= GYRE_NODE_PARTIAL | GYRE_NODE_CHANGED;
}

static void edges_find(struct copy *c) {
  for (uint32_t i = 0; i < c->g->nodes.count && !c->failed; i++) {
    if (i % 256 == 0) breathe(c);
    if (!GYRE__ARRAY_PUSH(&c->g->first_edge, (uint32_t)c->g->edges.count)) {
      fail(c, ENOMEM);
      return;
    }
    node_edges(c, i);
    /* What the last ones lead to may be nodes to go on with. */
    if (i + 1 == c->g->nodes.count) queue_empty(c);
  }
  if (!c->failed && !GYRE__ARRAY_PUSH(&c->g->first_edge, (uint32_t)c->g->edges.count))
    fail(c, ENOMEM);
}

/* ---- marks, beside the program ---- */

static void page_clear_marks(const struct gyre__object_page *p) {
  char *block = p->page->start;
  for (uint32_t i = 0; i < p->end; i++, block += p->page->block_size) {
    gyre__header *h = (gyre__header *)(void *)block;
    /* relaxed: a mark that is just being set, by the upgrade of a weak reference, may stay: then the object
     * counts as changed. In a free block, or one that is just being used again, it does no harm. */
    if (!(gyre__load_relaxed(&h->bits) & GYRE__BIT_TOUCHED)) continue;
    /* relaxed: the count of an immortal object says nothing, and a frozen one's page stays as it is. */
    if (gyre__state_of(gyre__load_relaxed(&h->shared)) == GYRE__IMMORTAL_STATE) continue;
    /* acq_rel: before the mode becomes LOGGING; pairs with gyre__touch(), by way of the mode. */
    gyre__fetch_and_acq_rel(&h->bits, (uint8_t)~GYRE__BIT_TOUCHED);
  }
}

static void marks_clear(struct copy *c) {
  for (size_t i = 0; i < c->pages.pages.count; i++) {
    breathe(c);
    page_clear_marks(&c->pages.pages.at[i]);
  }
}

static void marks_read(struct copy *c) {
  for (size_t i = 0; i < c->g->nodes.count; i++) {
    if (i % 4096 == 0) breathe(c);
    struct gyre__node *n = &c->g->nodes.at[i];
    if (n->flags & GYRE_NODE_STATIC) continue;
    uint64_t word = gyre__header_peek((gyre__header *)(n->address - GYRE_HEADER_SIZE));
    if (gyre__peeked_bits(word) & GYRE__BIT_TOUCHED && !(n->flags & GYRE_NODE_IMMORTAL))
      n->flags |= GYRE_NODE_CHANGED;
    if (gyre__peeked_gc(word) & GYRE__GC_DEAD) n->flags |= GYRE_NODE_CHANGED | GYRE_NODE_DEAD;
  }
}

/* ---- references of the graph's own ---- */

/* Counts each node's object once more, if it may be counted. */
static void retain_all(struct copy *c) {
  uint32_t no = GYRE_NODE_DEAD | GYRE_NODE_IMMORTAL | GYRE_NODE_STATIC;
  for (size_t i = 0; i < c->g->nodes.count; i++) {
    if (i % 4096 == 0) breathe(c);
    struct gyre__node *n = &c->g->nodes.at[i];
    if (n->flags & no) continue;
    if (gyre__try_count((gyre__header *)(n->address - GYRE_HEADER_SIZE)))
      n->flags |= GYRE_NODE_RETAINED;
  }
}

/* What was counted in vain: while their blocks are kept. Runs program code. */
static void release_changed(struct copy *c) {
  for (size_t i = 0; i < c->g->nodes.count; i++) {
    struct gyre__node *n = &c->g->nodes.at[i];
    if (!(n->flags & GYRE_NODE_RETAINED) || !(n->flags & GYRE_NODE_CHANGED)) continue;
    n->flags &= ~(uint32_t)GYRE_NODE_RETAINED;
    gyre__release_shared(c->self, (gyre__header *)(n->address - GYRE_HEADER_SIZE));
  }
}

/* ---- one copy ---- */

static bool heap_read(struct copy *c) {
  nodes_find(c);
  GYRE_WINDOW("observe/nodes");
  if (!c->failed) edges_find(c);
  GYRE_WINDOW("observe/edges");
  if (!c->failed && c->g->flags & GYRE_GRAPH_RETAIN) retain_all(c);
  GYRE_WINDOW("observe/retained");
  return !c->failed;
}

static bool copy_prepare(struct copy *c) {
  errno = 0;
  if (gyre__object_pages_gather(&c->pages) && places_make(c) && strays_grow(c)) return true;
  fail(c, errno == EOVERFLOW ? EOVERFLOW : ENOMEM);
  return false;
}

static void copy_stopped(struct copy *c) {
  gyre__world_stop(&c->self->heap.thread);
  if (copy_prepare(c)) (void)heap_read(c);
  gyre__world_resume(&c->self->heap.thread);
}

static void copy_beside(struct copy *c) {
  if (!copy_prepare(c)) return;
  marks_clear(c);
  struct gyre__collection asks = {.self = c->self, .beside = true};
  asks.epoch = gyre__mode_epoch(gyre__mode_published()) + 1;
  gyre__collection_handshake(&asks, GYRE__MODE_LOGGING | GYRE__MODE_KEPT);
  GYRE_WINDOW("observe/kept");
  if (heap_read(c)) {
    gyre__grace_wait(gyre__grace_ticket(), UINT64_MAX);
    marks_read(c);
    release_changed(c);
  }
  GYRE_WINDOW("observe/read");
  gyre__mode_publish(&c->self->heap.thread, asks.epoch << GYRE__MODE_EPOCH_SHIFT | GYRE__MODE_IDLE);
  gyre__grace_start(gyre__grace_ticket());
}

static void copy_drop(struct copy *c) {
  gyre__object_pages_drop(&c->pages);
  GYRE__ARRAY_DROP(&c->number);
  GYRE__ARRAY_DROP(&c->places);
  GYRE__ARRAY_DROP(&c->strays);
  GYRE__ARRAY_DROP(&c->known);
  GYRE__ARRAY_DROP(&c->keys);
}

/* ---- afterwards ---- */

static int by_address(const void *a, const void *b) {
  const struct gyre__other_node *x = a, *y = b;
  return (x->address > y->address) - (x->address < y->address);
}

/* Those that were found by references, so that addresses are found among them. */
static bool others_sort(struct gyre_graph *g) {
  size_t count = g->nodes.count - g->sorted;
  if (!GYRE__ARRAY_MAKE(&g->others, count)) return false;
  for (size_t i = 0; i < count; i++)
    g->others.at[i] = (struct gyre__other_node){.address = g->nodes.at[g->sorted + i].address,
                                                .node = (uint32_t)(g->sorted + i)};
  if (count > 1) qsort(g->others.at, count, sizeof *g->others.at, by_address);
  return true;
}

static bool keys_find(struct copy *c) {
  if (!GYRE__ARRAY_MAKE(&c->g->ephemerons, c->keys.count)) return false;
  for (size_t i = 0; i < c->keys.count; i++) {
    const struct known_key *known = &c->keys.at[i];
    ptrdiff_t key = known->key != 0 ? gyre_graph_at(c->g, (void *)known->key) : -1;
    c->g->ephemerons.at[i] = (struct gyre__ephemeron){
        .edge = known->edge, .key = key >= 0 ? (uint32_t)key : GYRE__NO_NODE};
  }
  return true;
}

/* ---- named roots ----
 *
 * The program changes them when it likes. What had a name before the copy was begun, and has it when it is
 * over, had it in between. */

static void root_note(void *object, const char *name, void *arg) {
  struct copy *c = arg;
  struct known_root known = {.object = (uintptr_t)object, .name = c->g->names.count};
  size_t length = strlen(name) + 1;
  if (!GYRE__ARRAY_RESERVE(&c->g->names, known.name + length) ||
      !GYRE__ARRAY_PUSH(&c->known, known)) {
    fail(c, ENOMEM);
    return;
  }
  memcpy(c->g->names.at + known.name, name, length);
  c->g->names.count += length;
}

static void root_name(void *object, const char *name, void *arg) {
  struct copy *c = arg;
  ptrdiff_t node = gyre_graph_at(c->g, object);
  if (node < 0 || c->g->nodes.at[node].address != (uintptr_t)object) return;
  for (size_t i = 0; i < c->known.count; i++) {
    const struct known_root *known = &c->known.at[i];
    if (known->object != (uintptr_t)object || strcmp(c->g->names.at + known->name, name) != 0)
      continue;
    if (gyre_graph_name_root(c->g, (size_t)node, name) != 0) fail(c, ENOMEM);
    return;
  }
}

/* ---- the public functions ---- */

/* 0 or a negative errno value. */
static int graph_fill(struct copy *c) {
  if (gyre__for_each_root != NULL) gyre__for_each_root(root_note, c);
  if (c->failed) return -ENOMEM;
  int cancel, result = gyre__look_begin(&c->self, &cancel);
  if (result != 0) return result;
  c->beside = !(c->g->flags & GYRE_GRAPH_EXACT) && gyre__option(gc_mode) == GYRE_GC_CONCURRENT;
  if (c->beside)
    copy_beside(c);
  else
    copy_stopped(c);
  gyre__look_end(c->self, cancel);
  if (c->error == 0 && (!others_sort(c->g) || !keys_find(c))) fail(c, ENOMEM);
  if (c->error == 0 && gyre__for_each_root != NULL) gyre__for_each_root(root_name, c);
  return -c->error;
}

gyre_graph *gyre_graph_new(unsigned flags) {
  if (flags & ~(unsigned)(GYRE_GRAPH_EXACT | GYRE_GRAPH_RETAIN)) {
    errno = EINVAL;
    return NULL;
  }
  struct gyre_graph *g = gyre__os_map(sizeof *g, gyre__os_page_size());
  if (g == NULL) return NULL;
  g->flags = flags;
  struct copy c = {.g = g};
  int result = graph_fill(&c);
  copy_drop(&c);
  if (result == 0) return g;
  gyre_graph_free(g);
  errno = -result;
  return NULL;
}

void gyre_graph_free(gyre_graph *g) {
  if (g == NULL) return;
  for (size_t i = 0; i < g->nodes.count; i++)
    if (g->nodes.at[i].flags & GYRE_NODE_RETAINED) gyre_release((void *)g->nodes.at[i].address);
  GYRE__ARRAY_DROP(&g->nodes);
  GYRE__ARRAY_DROP(&g->edges);
  GYRE__ARRAY_DROP(&g->first_edge);
  GYRE__ARRAY_DROP(&g->others);
  GYRE__ARRAY_DROP(&g->ephemerons);
  GYRE__ARRAY_DROP(&g->roots);
  GYRE__ARRAY_DROP(&g->names);
  GYRE__ARRAY_DROP(&g->back_edges);
  GYRE__ARRAY_DROP(&g->first_back_edge);
  GYRE__ARRAY_DROP(&g->alive);
  GYRE__ARRAY_DROP(&g->dominator);
  GYRE__ARRAY_DROP(&g->retained_bytes);
  GYRE__ARRAY_DROP(&g->retained_objects);
  gyre__os_unmap(g, sizeof *g);
}

void *gyre_graph_retain(gyre_graph *g, size_t node) {
  if (g == NULL || node >= g->nodes.count) {
    errno = ERANGE;
    return NULL;
  }
  const struct gyre__node *n = &g->nodes.at[node];
  if (n->flags & (GYRE_NODE_RETAINED | GYRE_NODE_STATIC | GYRE_NODE_IMMORTAL))
    return gyre_retain((void *)n->address);
  errno = g->flags & GYRE_GRAPH_RETAIN ? ESRCH : EPERM;
  return NULL;
}
