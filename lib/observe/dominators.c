/* SPDX-License-Identifier: MIT */
/* Dominators: what keeps what alive, and how much would go with an object.
 *
 * A node d dominates n if every way from outside the heap to n leads through d. The nearest such d is n's
 * immediate dominator; these make a tree, and what hangs below a node is what would be freed with it. The
 * algorithm is Lengauer and Tarjan's ("A fast algorithm for finding dominators in a flowgraph", 1979), the
 * simple version: O(m log n) for m references and n nodes, whatever the shape; the iterative algorithms
 * that are shorter (Cooper, Harvey and Kennedy 2001) walk up the tree for each reference, which takes
 * quadratic time for long lists. Nothing recurses: the search and the path compression keep stacks.
 *
 * "Outside" is a node of its own, number 1, with a reference to each node that is held
 * (gyre__node_is_held()). Nodes are numbered from 2 in the order in which a depth-first search finds them;
 * what it does not find is garbage, number 0, and has no dominator. All arrays but `number` go by these
 * numbers.
 */
#include <errno.h>
#include <string.h>

#include "lib/observe/graph.h"

#define OUTSIDE 1u

struct work {
  gyre_graph *g;
  uint32_t end;     /* the next number to be given */
  uint32_t *number; /* by node: its number, 0: none */
  uint32_t *node;   /* the node with a number */
  uint32_t *parent; /* in the tree of the search */
  uint32_t *semi;   /* the number of the semidominator */
  uint32_t *dominator;
  uint32_t *ancestor; /* in the forest of those that are done; 0: a root of it */
  uint32_t *label;    /* of those on the way up the forest, the one with the least semidominator */
  uint32_t *bucket;   /* whose semidominator this is: the first, */
  uint32_t *next;     /* and the next in the same bucket */
  uint32_t *stack;    /* for the search and for compression */
  uint32_t *place;    /* of the search: the reference of a node on the stack to look at next */
};
#define TABLES 12

/* ---- the search ---- */

static void found(struct work *w, uint32_t node, uint32_t parent) {
  uint32_t n = w->end++;
  w->number[node] = n;
  w->node[n] = node;
  w->parent[n] = parent;
  w->semi[n] = w->label[n] = n;
}

static void search_from(struct work *w, uint32_t root) {
  const gyre_graph *g = w->g;
  uint32_t depth = 0;
  found(w, root, OUTSIDE);
  w->stack[depth] = root;
  w->place[depth++] = g->first_edge.at[root];
  while (depth > 0) {
    uint32_t node = w->stack[depth - 1];
    if (w->place[depth - 1] == g->first_edge.at[node + 1]) {
      depth--;
      continue;
    }
    uint32_t to = g->edges.at[w->place[depth - 1]++].to;
    if (w->number[to] != 0) continue;
    found(w, to, w->number[node]);
    w->stack[depth] = to;
    w->place[depth++] = g->first_edge.at[to];
  }
}

static void search(struct work *w) {
  w->end = OUTSIDE + 1;
  w->semi[OUTSIDE] = w->label[OUTSIDE] = OUTSIDE;
  for (uint32_t node = 0; node < w->g->nodes.count; node++)
    if (w->number[node] == 0 && gyre__node_is_held(w->g, node)) search_from(w, node);
}

/* ---- the forest ---- */

/* Shortens the way from v to its root, so that the labels on it are right. */
static void compress(struct work *w, uint32_t v) {
  uint32_t depth = 0;
  while (w->ancestor[w->ancestor[v]] != 0) {
    w->stack[depth++] = v;
    v = w->ancestor[v];
  }
  while (depth > 0) {
    v = w->stack[--depth];
    uint32_t above = w->ancestor[v];
    if (w->semi[w->label[above]] < w->semi[w->label[v]]) w->label[v] = w->label[above];
    w->ancestor[v] = w->ancestor[above];
  }
}

static uint32_t eval(struct work *w, uint32_t v) {
  if (w->ancestor[v] == 0) return v;
  compress(w, v);
  return w->label[v];
}

/* ---- dominators ---- */

static uint32_t semidominator(struct work *w, uint32_t n) {
  const gyre_graph *g = w->g;
  uint32_t node = w->node[n];
  if (gyre__node_is_held(g, node)) return OUTSIDE;
  uint32_t best = w->parent[n];
  for (uint32_t i = g->first_back_edge.at[node]; i < g->first_back_edge.at[node + 1]; i++) {
    uint32_t from = w->number[g->back_edges.at[i].from];
    if (from == 0) continue; /* garbage */
    uint32_t semi = w->semi[eval(w, from)];
    if (semi < best) best = semi;
  }
  return best;
}

static void bucket_empty(struct work *w, uint32_t parent) {
  for (uint32_t v = w->bucket[parent]; v != 0; v = w->next[v]) {
    uint32_t u = eval(w, v);
    w->dominator[v] = w->semi[u] < w->semi[v] ? u : parent;
  }
  w->bucket[parent] = 0;
}

static void dominate(struct work *w) {
  for (uint32_t n = w->end - 1; n > OUTSIDE; n--) {
    uint32_t semi = w->semi[n] = semidominator(w, n);
    w->next[n] = w->bucket[semi];
    w->bucket[semi] = n;
    uint32_t parent = w->parent[n];
    w->ancestor[n] = parent;
    bucket_empty(w, parent);
  }
  for (uint32_t n = OUTSIDE + 1; n < w->end; n++)
    if (w->dominator[n] != w->semi[n]) w->dominator[n] = w->dominator[w->dominator[n]];
}

/* ---- results ---- */

static void results(struct work *w) {
  gyre_graph *g = w->g;
  for (uint32_t i = 0; i < g->nodes.count; i++) {
    g->dominator.at[i] = GYRE__NO_NODE;
    g->retained_bytes.at[i] = g->nodes.at[i].bytes;
    g->retained_objects.at[i] = 1;
  }
  /* Who is dominated has a larger number. */
  for (uint32_t n = w->end - 1; n > OUTSIDE; n--) {
    uint32_t above = w->dominator[n];
    if (above == OUTSIDE) continue;
    uint32_t node = w->node[n], to = w->node[above];
    g->dominator.at[node] = to;
    g->retained_bytes.at[to] += g->retained_bytes.at[node];
    g->retained_objects.at[to] += g->retained_objects.at[node];
  }
}

static bool results_make(gyre_graph *g) {
  size_t n = g->nodes.count + 1;
  return GYRE__ARRAY_RESERVE(&g->dominator, n) && GYRE__ARRAY_RESERVE(&g->retained_bytes, n) &&
         GYRE__ARRAY_RESERVE(&g->retained_objects, n);
}

static bool dominators(gyre_graph *g) {
  if (g->has_dominators) return true;
  if (!gyre__graph_back_edges(g) || !results_make(g)) return false;
  size_t n = g->nodes.count + 3, bytes = TABLES * n * sizeof(uint32_t);
  uint32_t *memory = gyre__os_map(bytes, gyre__os_page_size());
  if (memory == NULL) return false;
  struct work w = {.g = g};
  uint32_t **tables[TABLES] = {&w.number, &w.node,   &w.parent, &w.semi,  &w.dominator, &w.ancestor,
                               &w.label,  &w.bucket, &w.next,   &w.stack, &w.place};
  for (size_t i = 0; i < TABLES && tables[i] != NULL; i++)
    *tables[i] = memory + i * n;
  search(&w);
  dominate(&w);
  results(&w);
  gyre__os_unmap(memory, bytes);
  g->has_dominators = true;
  return true;
}

ptrdiff_t gyre_graph_dominator(gyre_graph *g, size_t node) {
  if (node >= g->nodes.count) return -ERANGE;
  if (!dominators(g)) return -ENOMEM;
  return g->dominator.at[node] == GYRE__NO_NODE ? -ENOENT : (ptrdiff_t)g->dominator.at[node];
}

int gyre_graph_retained(gyre_graph *g, size_t node, uint64_t *bytes, uint64_t *objects) {
  if (node >= g->nodes.count) return -ERANGE;
  if (!dominators(g)) return -ENOMEM;
  if (bytes != NULL) *bytes = g->retained_bytes.at[node];
  if (objects != NULL) *objects = g->retained_objects.at[node];
  return 0;
}
