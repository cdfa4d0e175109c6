/* SPDX-License-Identifier: MIT */
/* What a C program does with an installed gyre: options of its own, two objects that hold each other, and a
 * collection. */
#include <gyre/gyre.h>

typedef struct node {
  GYRE_SLOT(struct node) next;
} node;

GYRE_TYPE_DEFINE(node_type, node, .slots = GYRE_SLOTS(node, next));

const char *gyre_conf = "stall_ms:1234";

int main(void) {
  uint64_t stall_ms;
  if (gyre_option_get_number("stall_ms", &stall_ms) != 0 || stall_ms != 1234) return 2;
  node *a = gyre_new(&node_type);
  node *b = gyre_new(&node_type);
  gyre_store(&a->next, b);
  gyre_store(&b->next, a);
  gyre_release(a);
  gyre_release(b);
  return gyre_gc_collect(2) == 2 ? 0 : 1;
}
