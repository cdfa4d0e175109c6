/* SPDX-License-Identifier: MIT */
#include "tests/observe/copy.h"

GYRE_TYPE_DEFINE(tuple_type, tuple, .slots = GYRE_SLOTS(tuple, head),
                 .element_size = sizeof(gyre_slot), .element_slots = GYRE_SLOT_ARRAY);

int gather(const char *text, size_t length, void *arg) {
  struct gathered *g = arg;
  TEST_REQUIRE(g->length + length < sizeof g->text);
  memcpy(g->text + g->length, text, length);
  g->length += length;
  g->text[g->length] = 0;
  return 0;
}

gyre_graph *graph_new(unsigned flags) {
  gyre_graph *graph = gyre_graph_new(flags);
  TEST_REQUIRE(graph != NULL);
  return graph;
}

size_t node_at(gyre_graph *graph, const void *object) {
  ptrdiff_t at = gyre_graph_at(graph, object);
  TEST_REQUIRE(at >= 0);
  return (size_t)at;
}

struct gyre_node node_info(gyre_graph *graph, const void *object) {
  struct gyre_node info = {.size = sizeof info};
  TEST_REQUIRE(gyre_graph_node(graph, node_at(graph, object), &info) == 0);
  return info;
}

enum gyre_verdict verdict_of(gyre_graph *graph, const void *object) {
  int verdict = gyre_graph_verdict(graph, node_at(graph, object), NULL, NULL);
  TEST_REQUIRE(verdict >= 0);
  return (enum gyre_verdict)verdict;
}
