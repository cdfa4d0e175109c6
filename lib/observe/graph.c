/* SPDX-License-Identifier: MIT */
/* Questions to a copy of the heap: nodes, references forth and back, roots, groups.
 *
 * References lie in one array, those of a node next to each other (compressed rows). The same the other way
 * round is made when it is first asked for, by counting sort. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/observe/graph.h"

/* ---- nodes ---- */

size_t gyre_graph_nodes(const gyre_graph *g) { return g->nodes.count; }

size_t gyre_graph_edges(const gyre_graph *g) { return g->edges.count; }

ptrdiff_t gyre__node_count(const struct gyre__node *n) {
  if (n->flags & GYRE_NODE_IMMORTAL) return GYRE_IMMORTAL;
  /* Of a queued object, one count is the request's. */
  return (ptrdiff_t)n->local + gyre__count_of(n->shared) -
         (gyre__state_of(n->shared) == GYRE__QUEUED);
}

const char *gyre__node_root_name(const gyre_graph *g, size_t node) {
  if (!(g->nodes.at[node].flags & GYRE_NODE_NAMED)) return NULL;
  for (size_t i = 0; i < g->roots.count; i++)
    if (g->roots.at[i].node == node) return g->names.at + g->roots.at[i].name;
  return NULL;
}

int gyre_graph_node(gyre_graph *g, size_t node, struct gyre_node *out) {
  if (g == NULL || out == NULL || out->size < sizeof out->size) return -EINVAL;
  if (node >= g->nodes.count) return -ERANGE;
  if (!gyre__graph_back_edges(g)) return -ENOMEM;
  const struct gyre__node *n = &g->nodes.at[node];
  struct gyre_node all = {
      .size = out->size,
      .address = (const void *)n->address,
      .type = gyre__type(n->type),
      .bytes = n->bytes,
      .count = gyre__node_count(n),
      .local = n->local,
      .shared = gyre__count_of(n->shared),
      .generation = (int)(n->flags >> GYRE__NODE_AGE_SHIFT),
      .flags = n->flags & ((1u << GYRE__NODE_AGE_SHIFT) - 1),
      .referents = gyre__node_referents(g, node),
      .referrers = gyre__node_referrers(g, node),
      .root = gyre__node_root_name(g, node),
  };
  memcpy(out, &all, all.size < sizeof all ? all.size : sizeof all);
  return 0;
}

static bool holds_address(const struct gyre__node *n, uintptr_t address) {
  return address == n->address || (address > n->address && address - n->address < n->bytes);
}

/* The address of the i-th in the order of addresses, of those of pages or of the others. */
static uintptr_t address_at(const gyre_graph *g, bool others, size_t i) {
  return others ? g->others.at[i].address : g->nodes.at[i].address;
}

static ptrdiff_t find(const gyre_graph *g, bool others, uintptr_t address) {
  /* The last that does not begin behind it. */
  size_t low = 0, high = others ? g->others.count : g->sorted;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (address_at(g, others, middle) <= address)
      low = middle + 1;
    else
      high = middle;
  }
  if (low == 0) return -ENOENT;
  size_t at = others ? g->others.at[low - 1].node : low - 1;
  return holds_address(&g->nodes.at[at], address) ? (ptrdiff_t)at : -ENOENT;
}

ptrdiff_t gyre_graph_at(const gyre_graph *g, const void *object) {
  ptrdiff_t at = find(g, false, (uintptr_t)object);
  return at >= 0 ? at : find(g, true, (uintptr_t)object);
}

ptrdiff_t gyre_graph_by_type(const gyre_graph *g, const gyre_type *type, size_t *out, size_t room) {
  ptrdiff_t count = 0;
  for (size_t i = 0; i < g->nodes.count; i++) {
    if (gyre__node_type(g, i) != type) continue;
    if ((size_t)count < room) out[count] = i;
    count++;
  }
  return count;
}

/* Where the copy of the name is, in *at. False if there is no memory. */
static bool name_copy(gyre_graph *g, const char *name, size_t *at) {
  size_t length = strlen(name) + 1;
  if (!GYRE__ARRAY_RESERVE(&g->names, g->names.count + length)) return false;
  memcpy(g->names.at + g->names.count, name, length);
  *at = g->names.count;
  g->names.count += length;
  return true;
}

static int root_name(gyre_graph *g, size_t at, size_t node, const char *name) {
  struct gyre__root_name root = {.node = (uint32_t)node};
  if (!GYRE__ARRAY_RESERVE(&g->roots, g->roots.count + 1) || !name_copy(g, name, &root.name))
    return -ENOMEM;
  g->roots.at[at] = root;
  if (at == g->roots.count) g->roots.count++;
  g->nodes.at[node].flags |= GYRE_NODE_NAMED;
  return 0;
}

int gyre_graph_name_root(gyre_graph *g, size_t node, const char *name) {
  if (node >= g->nodes.count) return -ERANGE;
  size_t at = 0;
  while (at < g->roots.count && g->roots.at[at].node != node)
    at++;
  if (name == NULL) {
    g->nodes.at[node].flags &= ~(uint32_t)GYRE_NODE_NAMED;
    if (at < g->roots.count) g->roots.at[at] = g->roots.at[--g->roots.count];
  } else {
    int result = root_name(g, at, node, name);
    if (result != 0) return result;
  }
  /* What is alive, and who dominates whom, may be another now. */
  g->has_alive = g->has_dominators = false;
  return 0;
}

/* ---- references ---- */

struct gyre_link gyre__link_of(const gyre_graph *g, uint32_t from, uint32_t edge, size_t other) {
  struct gyre_link link = {.node = other, .element = SIZE_MAX};
  uint32_t label = g->edges.at[edge].label;
  const gyre_type *type = gyre__node_type(g, from);
  if (label == GYRE__LABEL_VISIT) return link;
  if (label < type->slots.count) {
    link.field = type->slots.at[label].name;
  } else {
    label -= (uint32_t)type->slots.count;
    link.element = label / type->element_slots.count;
    link.field = type->element_slots.at[label % type->element_slots.count].name;
  }
  /* A layout by hand may leave names out. */
  if (link.field == NULL) link.field = "?";
  return link;
}

size_t gyre_link_name(const struct gyre_link *link, char *buffer, size_t size) {
  int length;
  if (link->field == NULL)
    length = snprintf(buffer, size, "%s", "");
  else if (link->element == SIZE_MAX)
    length = snprintf(buffer, size, "%s", link->field);
  else if (strcmp(link->field, "[]") == 0)
    length = snprintf(buffer, size, "[%zu]", link->element);
  else
    length = snprintf(buffer, size, "[%zu].%s", link->element, link->field);
  return length < 0 ? 0 : (size_t)length;
}

ptrdiff_t gyre_graph_referents(gyre_graph *g, size_t node, struct gyre_link *out, size_t room) {
  if (node >= g->nodes.count) return -ERANGE;
  uint32_t first = g->first_edge.at[node], count = gyre__node_referents(g, node);
  for (uint32_t i = 0; i < count && i < room; i++)
    out[i] = gyre__link_of(g, (uint32_t)node, first + i, g->edges.at[first + i].to);
  return (ptrdiff_t)count;
}

bool gyre__graph_back_edges(gyre_graph *g) {
  if (g->has_back_edges) return true;
  size_t nodes = g->nodes.count, edges = g->edges.count;
  if (!GYRE__ARRAY_RESERVE(&g->first_back_edge, nodes + 2) ||
      !GYRE__ARRAY_RESERVE(&g->back_edges, edges + 1))
    return false;
  uint32_t *first = g->first_back_edge.at;
  memset(first, 0, (nodes + 2) * sizeof *first);
  /* Counted one place further on, so that filling moves each to where the node's own begin. */
  for (size_t i = 0; i < edges; i++)
    first[g->edges.at[i].to + 2]++;
  for (size_t i = 2; i < nodes + 2; i++)
    first[i] += first[i - 1];
  for (uint32_t from = 0; from < nodes; from++)
    for (uint32_t i = g->first_edge.at[from]; i < g->first_edge.at[from + 1]; i++)
      g->back_edges.at[first[g->edges.at[i].to + 1]++] =
          (struct gyre__back_edge){.from = from, .edge = i};
  g->first_back_edge.count = nodes + 1;
  g->back_edges.count = edges;
  g->has_back_edges = true;
  return true;
}

ptrdiff_t gyre_graph_referrers(gyre_graph *g, size_t node, struct gyre_link *out, size_t room) {
  if (node >= g->nodes.count) return -ERANGE;
  if (!gyre__graph_back_edges(g)) return -ENOMEM;
  uint32_t first = g->first_back_edge.at[node], count = gyre__node_referrers(g, node);
  for (uint32_t i = 0; i < count && i < room; i++) {
    struct gyre__back_edge back = g->back_edges.at[first + i];
    out[i] = gyre__link_of(g, back.from, back.edge, back.from);
  }
  return (ptrdiff_t)count;
}

/* ---- who is held ---- */

bool gyre__node_is_root(const gyre_graph *g, size_t node) {
  return (g->nodes.at[node].flags & (GYRE_NODE_NAMED | GYRE_NODE_IMMORTAL)) != 0;
}

bool gyre__node_is_held(const gyre_graph *g, size_t node) {
  const struct gyre__node *n = &g->nodes.at[node];
  if (n->flags & (GYRE_NODE_NAMED | GYRE_NODE_IMMORTAL | GYRE_NODE_CHANGED | GYRE_NODE_PARTIAL))
    return true;
  return gyre__node_count(n) != (ptrdiff_t)gyre__node_referrers(g, node);
}

int gyre_graph_is_root(gyre_graph *g, size_t node, void *arg) {
  (void)arg;
  return node < g->nodes.count && gyre__node_is_root(g, node);
}

int gyre_graph_is_held(gyre_graph *g, size_t node, void *arg) {
  (void)arg;
  if (node >= g->nodes.count || !gyre__graph_back_edges(g)) return 0;
  return gyre__node_is_held(g, node);
}

/* ---- who is alive ----
 *
 * What can be reached from the held. The value of an ephemeron is reached by the second of its two ends, map
 * and key: the map's reference waits, in a list of the key's, until the key is found alive. */

struct marking {
  gyre_graph *g;
  GYRE__ARRAY(uint32_t) stack;
  /* Of each node, and of each ephemeron: the next of the key's list, plus 1. None if there are none. */
  GYRE__ARRAY(uint32_t) waiting;
  GYRE__ARRAY(uint32_t) next;
};

/* False if there is no memory. */
static bool mark(struct marking *m, uint32_t node) {
  if (m->g->alive.at[node]) return true;
  m->g->alive.at[node] = 1;
  return GYRE__ARRAY_PUSH(&m->stack, node);
}

/* The first ephemeron whose edge is not before this one. */
static size_t ephemeron_from(const gyre_graph *g, uint32_t edge) {
  size_t low = 0, high = g->ephemerons.count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (g->ephemerons.at[middle].edge < edge)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

/* Is this edge, the ephemeron number `at` if it is one at all, to wait for its key? */
static bool is_to_wait(struct marking *m, size_t at, uint32_t edge) {
  const gyre_graph *g = m->g;
  if (at >= g->ephemerons.count || g->ephemerons.at[at].edge != edge) return false;
  uint32_t key = g->ephemerons.at[at].key;
  if (key == GYRE__NO_NODE || g->alive.at[key]) return false;
  m->next.at[at] = m->waiting.at[key];
  m->waiting.at[key] = (uint32_t)at + 1;
  return true;
}

static bool node_follow(struct marking *m, uint32_t node) {
  const gyre_graph *g = m->g;
  uint32_t first = g->first_edge.at[node], end = g->first_edge.at[node + 1];
  size_t at = g->ephemerons.count > 0 ? ephemeron_from(g, first) : 0;
  for (uint32_t i = first; i < end; i++) {
    bool wait = is_to_wait(m, at, i);
    at += at < g->ephemerons.count && g->ephemerons.at[at].edge == i;
    if (!wait && !mark(m, g->edges.at[i].to)) return false;
  }
  if (g->ephemerons.count == 0) return true;
  for (uint32_t e = m->waiting.at[node]; e != 0; e = m->next.at[e - 1])
    if (!mark(m, g->edges.at[g->ephemerons.at[e - 1].edge].to)) return false;
  return true;
}

static bool mark_all(struct marking *m) {
  gyre_graph *g = m->g;
  size_t nodes = g->nodes.count, ephemerons = g->ephemerons.count;
  if (!GYRE__ARRAY_RESERVE(&g->alive, nodes + 1)) return false;
  if (ephemerons > 0 &&
      (!GYRE__ARRAY_MAKE(&m->waiting, nodes) || !GYRE__ARRAY_MAKE(&m->next, ephemerons)))
    return false;
  memset(g->alive.at, 0, nodes);
  g->alive.count = nodes;
  for (uint32_t root = 0; root < nodes; root++) {
    if (gyre__node_is_held(g, root) && !mark(m, root)) return false;
    while (m->stack.count > 0)
      if (!node_follow(m, m->stack.at[--m->stack.count])) return false;
  }
  return true;
}

bool gyre__graph_alive(gyre_graph *g) {
  if (g->has_alive) return true;
  if (!gyre__graph_back_edges(g)) return false;
  struct marking m = {.g = g};
  g->has_alive = mark_all(&m);
  GYRE__ARRAY_DROP(&m.stack);
  GYRE__ARRAY_DROP(&m.waiting);
  GYRE__ARRAY_DROP(&m.next);
  return g->has_alive;
}
