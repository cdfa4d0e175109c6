/* SPDX-License-Identifier: MIT */
/* gyre: counted objects, and its cycle collector, by itself or on request. With the options' defaults,
 * unless a header that includes this one says which mode the collector works in. */
#ifndef BENCH_COLLECT_SYSTEMS_GYRE_H
#define BENCH_COLLECT_SYSTEMS_GYRE_H

#include <gyre/gyre.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/support/memory.h"

#ifndef SYSTEM_NAME
#define SYSTEM_NAME "gyre"
#endif
#define SYSTEM_FINDS_CYCLES 1
/* The collector's own thread. */
#define SYSTEM_SERVICE "gyre-service"

typedef struct ring_node {
  GYRE_SLOT(struct ring_node) next;
  uint64_t data;
} ring_node;

typedef struct live_node {
  GYRE_SLOT(struct live_node) next;
  GYRE_SLOT(struct live_node) previous;
  uint64_t data[2];
} live_node;

typedef struct tree_node {
  GYRE_SLOT(struct tree_node) left;
  GYRE_SLOT(struct tree_node) right;
} tree_node;

extern gyre_type system_ring_type, system_live_type, system_tree_type, system_list_end_type;
extern bool system_list_ended;

static inline void *system_checked(void *object) {
  if (object == NULL) abort();
  return object;
}

static inline void system_setup(void) {
#ifdef SYSTEM_GC_MODE
  if (gyre_option_set("gc_mode", SYSTEM_GC_MODE) == 0) return;
  fprintf(stderr, "benchmark: gyre has no mode " SYSTEM_GC_MODE "\n");
  exit(1);
#endif
}
static inline void system_thread_begin(void) {}
static inline void system_thread_end(void) {}
static inline void system_safepoint(void) { gyre_safepoint(); }
static inline void system_wait_begin(void) { gyre_park(); }
static inline void system_wait_end(void) { gyre_unpark(); }

/* ---- automatic and explicit collection ---- */

static inline void system_automatic(bool on) {
  if (on)
    (void)gyre_gc_enable();
  else
    (void)gyre_gc_disable();
}

/* A full collection, whether or not automatic ones are on. Returns how many objects it reclaimed, or -1 if the system does not tell. */
static inline long system_collect(void) { return (long)gyre_gc_collect(2); }

/* How many full collections there have been. */
static inline long system_collections(void) {
  struct gyre_gc_stats stats = {.size = sizeof stats};
  return gyre_gc_get_stats(GYRE_GC_NGEN - 1, &stats) == 0 ? (long)stats.collections : 0;
}

/* ---- looking at the heap ---- */

#define SYSTEM_HAS_CENSUS 1

/* Counts all objects by type; returns how many there are. */
static inline long system_census(void) {
  struct gyre_type_count counts[16];
  ptrdiff_t types = gyre_heap_most_common(counts, 16);
  long objects = 0;
  for (ptrdiff_t i = 0; i < types && i < 16; i++)
    objects += (long)counts[i].count;
  return objects;
}

/* Copies all objects and references; returns how many objects there are. */
static inline long system_copy(void) {
  gyre_graph *graph = gyre_graph_new(0);
  if (graph == NULL) return 0;
  long objects = (long)gyre_graph_nodes(graph);
  gyre_graph_free(graph);
  return objects;
}

/* ---- nodes; `next`, `left` and `right` hand the caller's reference over ---- */

static inline ring_node *system_ring_node(ring_node *next) {
  ring_node *node = system_checked(gyre_new(&system_ring_type));
  gyre_slot_init(&node->next, next);
  return node;
}

static inline void system_ring_close(ring_node *tail, ring_node *head) {
  gyre_store(&tail->next, head);
}

/* The same, but the caller's reference to the head becomes one to the tail. */
static inline void system_ring_close_at_tail(ring_node *tail, ring_node *head) {
  (void)gyre_retain(tail);
  (void)gyre_swap(&tail->next, head);
}

static inline void system_ring_drop(ring_node *head) { gyre_release(head); }

static inline live_node *system_live_root(void) {
  return system_checked(gyre_new(&system_live_type));
}

/* A new node after `last`, which keeps it. */
static inline live_node *system_live_append(live_node *last) {
  live_node *node = system_checked(gyre_new(&system_live_type));
  gyre_slot_init(&node->previous, gyre_retain(last));
  (void)gyre_swap(&last->next, node);
  return node;
}

static inline void system_live_close(live_node *last, live_node *root) {
  gyre_store(&last->next, root);
  gyre_store(&root->previous, last);
}

static inline void system_live_drop(live_node *root) { gyre_release(root); }

static inline tree_node *system_tree_node(tree_node *left, tree_node *right) {
  tree_node *node = system_checked(gyre_new(&system_tree_type));
  gyre_slot_init(&node->left, left);
  gyre_slot_init(&node->right, right);
  return node;
}

/* Borrowing from a slot needs a reference of one's own; system_tree_done() gives it back. */
static inline tree_node *system_tree_left(tree_node *node) { return gyre_load(&node->left); }
static inline tree_node *system_tree_right(tree_node *node) { return gyre_load(&node->right); }
static inline void system_tree_done(tree_node *node) { gyre_release(node); }
static inline void system_tree_drop(tree_node *node) { gyre_release(node); }

/* Finishes what dropping has left for later. */
static inline void system_settle(void) {
  gyre_park();
  gyre_unpark();
}

/* ---- a long list ---- */

/* The last node says when it is destroyed; it goes last. */
static inline ring_node *system_list_end(void) {
  system_list_ended = false;
  return system_checked(gyre_new(&system_list_end_type));
}
static inline void system_list_drop(ring_node **head) {
  ring_node *list = *head;
  *head = NULL;
  gyre_release(list);
}
static inline bool system_list_gone(void) { return system_list_ended; }
/* What the program calls until the list is gone. */
static inline void system_list_step(void) { gyre_safepoint(); }

/* ---- a table of references that belong to the program ---- */

static inline void *system_table(size_t count) { return memory_table(count * sizeof(void *)); }
static inline void system_table_free(void *table, size_t count) {
  memory_table_free(table, count * sizeof(void *));
}

#endif
