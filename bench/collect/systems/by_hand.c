/* SPDX-License-Identifier: MIT */
#include BENCH_SYSTEM

void system_tree_drop(tree_node *node) {
  if (node == NULL) return;
  system_tree_drop(node->left);
  system_tree_drop(node->right);
  system_free(node);
}
