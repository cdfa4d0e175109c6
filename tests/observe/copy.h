/* SPDX-License-Identifier: MIT */
/* What the tests of lib/observe share. */
#ifndef GYRE_TESTS_OBSERVE_COPY_H
#define GYRE_TESTS_OBSERVE_COPY_H

#include <string.h>

#include "tests/support/node.h"

/* A struct of two slots and elements. */
typedef struct tuple {
  GYRE_SLOT(node) head;
  size_t tag;
  GYRE_SLOT(node) items[];
} tuple;
extern gyre_type tuple_type;

/* Text that a sink has gathered. */
struct gathered {
  char text[1 << 16];
  size_t length;
};
int gather(const char *text, size_t length, void *arg);

/* A copy; must succeed. */
gyre_graph *graph_new(unsigned flags);
/* The object's node; must have one. */
size_t node_at(gyre_graph *graph, const void *object);
struct gyre_node node_info(gyre_graph *graph, const void *object);
enum gyre_verdict verdict_of(gyre_graph *graph, const void *object);

#endif
