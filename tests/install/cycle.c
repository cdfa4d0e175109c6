/* SPDX-License-Identifier: MIT */
/* What a C program does with an installed gyre: options of its own, an object without references, two that
 * hold each other, and a collection. */
#include <gyre/gyre.h>

typedef struct node {
  GYRE_SLOT(struct node) next;
} node;

GYRE_TYPE_DEFINE(node_type, node, .slots = GYRE_SLOTS(node, next));

typedef struct point {
  int x, y;
} point;

static GYRE_TYPE_DEFINE(point_type, point);

const char *gyre_conf = "stall_ms:1234";

int main(void) {
  uint64_t stall_ms;
  if (gyre_option_get_number("stall_ms", &stall_ms) != 0 || stall_ms != 1234) return 2;
  point *p = gyre_new(&point_type);
  if (p == NULL || gyre_gc_is_tracked(p)) return 3;
  gyre_release(p);
  node *a = gyre_new(&node_type);
  node *b = gyre_new(&node_type);
  gyre_store(&a->next, b);
  gyre_store(&b->next, a);
  gyre_release(a);
  gyre_release(b);
  return gyre_gc_collect(2) == 2 ? 0 : 1;
}
