/* SPDX-License-Identifier: MIT */
/* Inside lib/observe: the copy of the heap that gyre/inspect.h asks. */
#ifndef GYRE_LIB_OBSERVE_GRAPH_H
#define GYRE_LIB_OBSERVE_GRAPH_H

#include <gyre/inspect.h>

#include "lib/collect/collect.h"
#include "lib/observe/array.h"

/* ---- pages (pages.c) ----
 *
 * The pages that hold objects, in the order of their addresses. The heap is pinned, so they stay what
 * they are. */
struct gyre__object_page {
  struct gyre__page *page;
  uint32_t end;   /* the blocks to look at: from the first on */
  uint32_t first; /* the number of the first of them, over all pages */
};

struct gyre__object_pages {
  GYRE__ARRAY(struct gyre__object_page) pages;
  size_t blocks;
};

/* False if there is no memory, or if there are 2^32 - 1 blocks (errno EOVERFLOW). */
bool gyre__object_pages_gather(struct gyre__object_pages *p);
void gyre__object_pages_drop(struct gyre__object_pages *p);

/* A header's first eight bytes at once: type, owner, collector's byte, bits. */
GYRE_INLINE uint64_t gyre__header_peek(const gyre__header *h) {
  /* acquire: the object behind a header that was just published; pairs with header_publish() in
   * lib/object/object.c. */
  return __atomic_load_n((const gyre__header_start *)(const void *)h, __ATOMIC_ACQUIRE);
}
GYRE_INLINE uint32_t gyre__peeked_type(uint64_t word) {
  return (uint32_t)word & GYRE__TYPE_ID_MASK;
}
GYRE_INLINE uint32_t gyre__peeked_gc(uint64_t word) { return (uint32_t)(word >> 48) & 0xff; }
GYRE_INLINE uint32_t gyre__peeked_bits(uint64_t word) { return (uint32_t)(word >> 56); }
GYRE_INLINE uint32_t gyre__peeked_owner(uint64_t word) { return (uint32_t)(word >> 32) & 0xffff; }
/* Is there an object in the block that nobody has begun to destroy? */
GYRE_INLINE bool gyre__peeked_alive(uint64_t word) {
  uint32_t gc = gyre__peeked_gc(word);
  return gc != 0 && !(gc & GYRE__GC_DEAD);
}

/* Begins and ends a look at the heap: the collector's lock and the pin. 0, -EBUSY or -EAGAIN. */
int gyre__look_begin(struct gyre__objects **self, int *cancel);
void gyre__look_end(struct gyre__objects *self, int cancel);

/* ---- the graph ---- */

#define GYRE__NO_NODE UINT32_MAX

struct gyre__node {
  uintptr_t address; /* of the object */
  uint64_t bytes;
  uint32_t type;
  uint32_t local;
  uint32_t shared; /* the word */
  uint32_t flags;  /* GYRE_NODE_..., and its age above GYRE__NODE_AGE_SHIFT */
};
#define GYRE__NODE_AGE_SHIFT 28

/* A reference: which field of the layout, over all elements; or one that a visit function reported. */
#define GYRE__LABEL_VISIT UINT32_MAX
struct gyre__edge {
  uint32_t to;
  uint32_t label;
};

/* The other way round. */
struct gyre__back_edge {
  uint32_t from;
  uint32_t edge;
};

/* A node that was found by a reference. */
struct gyre__other_node {
  uintptr_t address;
  uint32_t node;
};

/* The reference of a map of ephemerons to a value, which lasts as long as the key does. */
struct gyre__ephemeron {
  uint32_t edge; /* of the map */
  uint32_t key;  /* node, or GYRE__NO_NODE: none that the copy knows */
};

struct gyre__root_name {
  uint32_t node;
  size_t name; /* where in the graph's names */
};

struct gyre_graph {
  unsigned flags; /* of gyre_graph_new() */
  GYRE__ARRAY(struct gyre__node) nodes;
  GYRE__ARRAY(struct gyre__edge) edges;
  GYRE__ARRAY(uint32_t) first_edge; /* of each node; one more for the end */
  /* The nodes from here on are not in the order of their addresses: `others` has them in it. */
  uint32_t sorted;
  GYRE__ARRAY(struct gyre__other_node) others;
  GYRE__ARRAY(struct gyre__ephemeron) ephemerons; /* in the order of their edges */
  GYRE__ARRAY(struct gyre__root_name) roots;
  GYRE__ARRAY(char) names; /* each ended with 0; those that were changed stay */
  /* -- made when they are first needed -- */
  GYRE__ARRAY(struct gyre__back_edge) back_edges;
  GYRE__ARRAY(uint32_t) first_back_edge;
  bool has_back_edges;
  GYRE__ARRAY(uint8_t) alive; /* reachable from what is held */
  bool has_alive;
  /* dominators.c */
  GYRE__ARRAY(uint32_t) dominator; /* GYRE__NO_NODE: none */
  GYRE__ARRAY(uint64_t) retained_bytes;
  GYRE__ARRAY(uint32_t) retained_objects;
  bool has_dominators;
};

GYRE_INLINE const gyre_type *gyre__node_type(const gyre_graph *g, size_t node) {
  return gyre__type(g->nodes.at[node].type);
}
GYRE_INLINE uint32_t gyre__node_referents(const gyre_graph *g, size_t node) {
  return g->first_edge.at[node + 1] - g->first_edge.at[node];
}
/* These three want the back edges. */
GYRE_INLINE uint32_t gyre__node_referrers(const gyre_graph *g, size_t node) {
  return g->first_back_edge.at[node + 1] - g->first_back_edge.at[node];
}
/* gyre_graph_is_root() and gyre_graph_is_held(). */
bool gyre__node_is_root(const gyre_graph *g, size_t node);
bool gyre__node_is_held(const gyre_graph *g, size_t node);

/* As gyre_refcount(). */
ptrdiff_t gyre__node_count(const struct gyre__node *n);
const char *gyre__node_root_name(const gyre_graph *g, size_t node);
/* Edge number `edge`, one of `from`'s, as a link to `other`, which is one of its ends. */
struct gyre_link gyre__link_of(const gyre_graph *g, uint32_t from, uint32_t edge, size_t other);
/* False if there is no memory. */
bool gyre__graph_back_edges(gyre_graph *g);
bool gyre__graph_alive(gyre_graph *g);

/* ---- text (text.c) ---- */

/* Text on its way to a sink, in a buffer. What was answered first stays. */
struct gyre__text {
  gyre_text_sink *sink;
  void *arg;
  int result;
  size_t used;
  char buffer[2048];
};
void gyre__text_begin(struct gyre__text *t, gyre_text_sink *sink, void *arg);
void gyre__text_say(struct gyre__text *t, const char *text);
void gyre__text_format(struct gyre__text *t, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
int gyre__text_end(struct gyre__text *t);

/* Foreign text, which may hold anything, as part of a quoted string or of character data. What is no UTF-8,
 * or cannot be in such a document, becomes U+FFFD. */
void gyre__text_dot(struct gyre__text *t, const char *text);
void gyre__text_xml(struct gyre__text *t, const char *text);
void gyre__text_json(struct gyre__text *t, const char *text);

#endif
