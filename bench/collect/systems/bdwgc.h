/* SPDX-License-Identifier: MIT */
/* The Boehm-Demers-Weiser collector, as Debian builds it: conservative, stops the world, marks with
 * as many threads as there are cores, sweeps while it allocates. */
#ifndef BENCH_COLLECT_SYSTEMS_BDWGC_H
#define BENCH_COLLECT_SYSTEMS_BDWGC_H

#define GC_THREADS
#include <gc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#define SYSTEM_NAME "bdwgc"
#define SYSTEM_FINDS_CYCLES 1
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

extern bool system_list_collected;

static inline void *system_checked(void *object) {
  if (object == NULL) abort();
  return object;
}

static inline void system_setup(void) {
  GC_INIT();
  GC_allow_register_threads();
}

static inline void system_thread_begin(void) {
  struct GC_stack_base base;
  if (GC_get_stack_base(&base) != GC_SUCCESS) abort();
  if (GC_register_my_thread(&base) != GC_SUCCESS) abort();
}
static inline void system_thread_end(void) { (void)GC_unregister_my_thread(); }
static inline void system_safepoint(void) {}
static inline void system_wait_begin(void) {}
static inline void system_wait_end(void) {}

static inline void system_automatic(bool on) {
  if (on)
    GC_enable();
  else
    GC_disable();
}
/* Turned off, it does not even do what it is asked to. */
static inline long system_collect(void) {
  bool off = GC_is_disabled() != 0;
  if (off) GC_enable();
  GC_gcollect();
  if (off) GC_disable();
  return -1;
}

static inline long system_collections(void) { return (long)GC_get_gc_no(); }

static inline ring_node *system_ring_node(ring_node *next) {
  ring_node *node = system_checked(GC_MALLOC(sizeof *node));
  node->next = next;
  return node;
}
static inline void system_ring_close(ring_node *tail, ring_node *head) { tail->next = head; }
static inline void system_ring_close_at_tail(ring_node *tail, ring_node *head) {
  tail->next = head;
}
static inline void system_ring_drop(ring_node *head) { (void)head; }

static inline live_node *system_live_root(void) {
  return system_checked(GC_MALLOC(sizeof(live_node)));
}
static inline live_node *system_live_append(live_node *last) {
  live_node *node = system_checked(GC_MALLOC(sizeof *node));
  node->previous = last;
  last->next = node;
  return node;
}
static inline void system_live_close(live_node *last, live_node *root) {
  last->next = root;
  root->previous = last;
}
static inline void system_live_drop(live_node *root) { (void)root; }

static inline tree_node *system_tree_node(tree_node *left, tree_node *right) {
  tree_node *node = system_checked(GC_MALLOC(sizeof *node));
  node->left = left;
  node->right = right;
  return node;
}
static inline tree_node *system_tree_left(tree_node *node) { return node->left; }
static inline tree_node *system_tree_right(tree_node *node) { return node->right; }
static inline void system_tree_done(tree_node *node) { (void)node; }
static inline void system_tree_drop(tree_node *node) { (void)node; }
static inline void system_settle(void) {}

static inline ring_node *system_list_end(void) {
  system_list_collected = false;
  return system_ring_node(NULL);
}
/* Overwrites the stack below, where calls that have returned may have left copies of a reference. */
void system_stack_wipe(void);
static inline void system_list_drop(ring_node **head) {
  *head = NULL;
  system_stack_wipe();
}
/* After one full collection. Whether that found the whole list dead is another matter: one word
 * anywhere that looks like the address of a node keeps the rest of the list. */
static inline bool system_list_gone(void) { return system_list_collected; }
static inline void system_list_step(void) {
  GC_gcollect();
  system_list_collected = true;
}

static inline void *system_table(size_t count) {
  return system_checked(GC_MALLOC_UNCOLLECTABLE(count * sizeof(void *)));
}
static inline void system_table_free(void *table, size_t count) {
  (void)count;
  GC_FREE(table);
}

#endif
