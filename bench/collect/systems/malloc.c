/* SPDX-License-Identifier: MIT */
#include "bench/collect/systems/malloc.h"

void system_tree_drop(tree_node *node) {
  if (node == NULL) return;
  system_tree_drop(node->left);
  system_tree_drop(node->right);
  free(node);
}
