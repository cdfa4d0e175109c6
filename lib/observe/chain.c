/* SPDX-License-Identifier: MIT */
/* Shortest chains of references: a search by breadth, forth or back. */
#include <errno.h>

#include "lib/observe/graph.h"

/* How a node was reached: by which reference, plus 1; 0: not yet. The start by none. */
struct reached {
  uint32_t edge;
  uint32_t parent;
};

struct search {
  gyre_graph *g;
  bool back;
  uint32_t start;
  GYRE__ARRAY(struct reached) reached;
  GYRE__ARRAY(uint32_t) queue;
};

#define BY_NONE UINT32_MAX

/* Looks at what is next to a node. False if there is no memory. */
static bool spread(struct search *s, uint32_t node) {
  gyre_graph *g = s->g;
  const uint32_t *first = s->back ? g->first_back_edge.at : g->first_edge.at;
  for (uint32_t i = first[node]; i < first[node + 1]; i++) {
    uint32_t edge = s->back ? g->back_edges.at[i].edge : i;
    uint32_t other = s->back ? g->back_edges.at[i].from : g->edges.at[i].to;
    if (s->reached.at[other].edge != 0) continue;
    s->reached.at[other] = (struct reached){.edge = edge + 1, .parent = node};
    if (!GYRE__ARRAY_PUSH(&s->queue, other)) return false;
  }
  return true;
}

/* The nearest node that passes the test; GYRE__NO_NODE. False if there is no memory. */
static bool search_run(struct search *s, gyre_node_test *test, void *arg, size_t max_depth,
                       uint32_t *found) {
  *found = GYRE__NO_NODE;
  if (!GYRE__ARRAY_MAKE(&s->reached, s->g->nodes.count)) return false;
  s->reached.at[s->start].edge = BY_NONE;
  if (!GYRE__ARRAY_PUSH(&s->queue, s->start)) return false;
  size_t depth = 0, end_of_depth = 1;
  for (size_t at = 0; at < s->queue.count; at++) {
    if (at == end_of_depth) {
      depth++;
      end_of_depth = s->queue.count;
    }
    uint32_t node = s->queue.at[at];
    if (test(s->g, node, arg)) {
      *found = node;
      return true;
    }
    if (depth < max_depth && !spread(s, node)) return false;
  }
  return true;
}

static size_t length_of(const struct search *s, uint32_t end) {
  size_t length = 1;
  for (; end != s->start; end = s->reached.at[end].parent)
    length++;
  return length;
}

/* Writes the chain from the start to `end`, in the direction of the references. */
static size_t chain_write(const struct search *s, uint32_t end, struct gyre_link *out,
                          size_t room) {
  size_t length = length_of(s, end), at = s->back ? 0 : length - 1;
  struct gyre_link last = {.node = s->back ? s->start : end, .element = SIZE_MAX};
  if (length - 1 < room) out[length - 1] = last;
  for (uint32_t node = end; node != s->start; node = s->reached.at[node].parent) {
    uint32_t edge = s->reached.at[node].edge - 1;
    uint32_t from = s->back ? node : s->reached.at[node].parent;
    if (!s->back) at--;
    if (at < room) out[at] = gyre__link_of(s->g, from, edge, from);
    if (s->back) at++;
  }
  return length;
}

static ptrdiff_t chain(gyre_graph *g, bool back, size_t node, gyre_node_test *test, void *arg,
                       size_t max_depth, struct gyre_link *out, size_t room) {
  if (test == NULL || (out == NULL && room != 0)) return -EINVAL;
  if (node >= g->nodes.count) return -ERANGE;
  if (back && !gyre__graph_back_edges(g)) return -ENOMEM;
  struct search s = {.g = g, .back = back, .start = (uint32_t)node};
  uint32_t found;
  ptrdiff_t length = -ENOMEM;
  if (search_run(&s, test, arg, max_depth, &found))
    length = (ptrdiff_t)chain_write(&s, found == GYRE__NO_NODE ? s.start : found, out, room);
  GYRE__ARRAY_DROP(&s.reached);
  GYRE__ARRAY_DROP(&s.queue);
  return length;
}

ptrdiff_t gyre_graph_ref_chain(gyre_graph *g, size_t node, gyre_node_test *test, void *arg,
                               size_t max_depth, struct gyre_link *out, size_t room) {
  return chain(g, false, node, test, arg, max_depth, out, room);
}

ptrdiff_t gyre_graph_backref_chain(gyre_graph *g, size_t node, gyre_node_test *test, void *arg,
                                   size_t max_depth, struct gyre_link *out, size_t room) {
  return chain(g, true, node, test, arg, max_depth, out, room);
}
