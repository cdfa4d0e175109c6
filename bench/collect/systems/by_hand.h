/* SPDX-License-Identifier: MIT */
/* Memory managed by hand: the floor. The program knows without counting or tracing when a ring, a
 * tree or a list is dead, and frees it node by node. The header of an allocator includes this one
 * after it has defined SYSTEM_NAME, system_allocate() and system_free(). */
#ifndef BENCH_COLLECT_SYSTEMS_BY_HAND_H
#define BENCH_COLLECT_SYSTEMS_BY_HAND_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "bench/support/memory.h"

#define SYSTEM_FINDS_CYCLES 0
#define SYSTEM_SERVICE NULL

typedef struct ring_node {
  struct ring_node *next;
  uint64_t data;
} ring_node;

typedef struct live_node {
  struct live_node *next, *previous;
  uint64_t data[2];
} live_node;

typedef struct tree_node {
  struct tree_node *left, *right;
} tree_node;

static inline void *system_checked(void *object) {
  if (object == NULL) abort();
  return object;
}

static inline void system_setup(void) {}
static inline void system_thread_begin(void) {}
static inline void system_thread_end(void) {}
static inline void system_safepoint(void) {}
static inline void system_wait_begin(void) {}
static inline void system_wait_end(void) {}
static inline void system_automatic(bool on) { (void)on; }
static inline long system_collect(void) { return -1; }
static inline long system_collections(void) { return 0; }

static inline ring_node *system_ring_node(ring_node *next) {
  ring_node *node = system_checked(system_allocate(sizeof *node));
  node->next = next;
  node->data = 0;
  return node;
}
static inline void system_ring_close(ring_node *tail, ring_node *head) { tail->next = head; }
static inline void system_ring_close_at_tail(ring_node *tail, ring_node *head) {
  tail->next = head;
}
static inline void system_ring_drop(ring_node *head) {
  ring_node *node = head;
  do {
    ring_node *next = node->next;
    system_free(node);
    node = next;
  } while (node != head);
}

static inline live_node *system_live_root(void) {
  live_node *node = system_checked(system_allocate(sizeof *node));
  *node = (live_node){0};
  return node;
}
static inline live_node *system_live_append(live_node *last) {
  live_node *node = system_checked(system_allocate(sizeof *node));
  *node = (live_node){.previous = last};
  last->next = node;
  return node;
}
static inline void system_live_close(live_node *last, live_node *root) {
  last->next = root;
  root->previous = last;
}
static inline void system_live_drop(live_node *root) {
  live_node *node = root;
  do {
    live_node *next = node->next;
    system_free(node);
    node = next;
  } while (node != root);
}

static inline tree_node *system_tree_node(tree_node *left, tree_node *right) {
  tree_node *node = system_checked(system_allocate(sizeof *node));
  node->left = left;
  node->right = right;
  return node;
}
static inline tree_node *system_tree_left(tree_node *node) { return node->left; }
static inline tree_node *system_tree_right(tree_node *node) { return node->right; }
static inline void system_tree_done(tree_node *node) { (void)node; }
/* Not inline: it calls itself. */
void system_tree_drop(tree_node *node);
static inline void system_settle(void) {}

static inline ring_node *system_list_end(void) { return system_ring_node(NULL); }
static inline void system_list_drop(ring_node **head) {
  ring_node *node = *head;
  *head = NULL;
  while (node != NULL) {
    ring_node *next = node->next;
    system_free(node);
    node = next;
  }
}
static inline bool system_list_gone(void) { return true; }
static inline void system_list_step(void) {}

static inline void *system_table(size_t count) { return memory_table(count * sizeof(void *)); }
static inline void system_table_free(void *table, size_t count) {
  memory_table_free(table, count * sizeof(void *));
}

#endif
