// SPDX-License-Identifier: MIT
// The same as cycle.c in C++17, which has no designated initializers.
#include <gyre/gyre.h>

struct node {
  GYRE_SLOT(node) next;
};

int main() {
  gyre_type node_type = {};
  node_type.name = "node";
  node_type.size = sizeof(node);
  node_type.slots = GYRE_SLOTS(node, next);

  node *a = static_cast<node *>(gyre_new(&node_type));
  node *b = static_cast<node *>(gyre_new(&node_type));
  gyre_store(&a->next, b);
  gyre_store(&b->next, a);
  gyre_release(a);
  gyre_release(b);
  return gyre_gc_collect(2) == 2 ? 0 : 1;
}
