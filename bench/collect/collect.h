/* SPDX-License-Identifier: MIT */
/* bench/collect/collect.h: what the collector benchmarks share.
 *
 * Each is written once, over the inline functions of the header that BENCH_SYSTEM names
 * (systems/gyre.h explains them); each system's program is compiled from the same sources.
 * collect/cpython.py does the same work in Python: change both together.
 *
 * Nodes: a ring or list node has one reference and 16 bytes, a live node two references and 32
 * bytes, a tree node two references and 16 bytes, without what the system adds. */
#ifndef BENCH_COLLECT_COLLECT_H
#define BENCH_COLLECT_COLLECT_H

#include <stddef.h>

#include BENCH_SYSTEM
#include "bench/support/bench.h"

/* A closed ring of `k` nodes. */
static inline ring_node *ring_new(unsigned k) {
  ring_node *tail = system_ring_node(NULL), *head = tail;
  for (unsigned i = 1; i < k; i++)
    head = system_ring_node(head);
  system_ring_close(tail, head);
  return head;
}

/* The same, but the program refers to the node that was made first, as to a session that its parts
 * are then hung on. */
static inline ring_node *session_new(unsigned k) {
  ring_node *tail = system_ring_node(NULL), *head = tail;
  for (unsigned i = 1; i < k; i++)
    head = system_ring_node(head);
  system_ring_close_at_tail(tail, head);
  return tail;
}

/* A closed ring of `k` nodes that are linked in both directions. The program refers to the one that
 * was made first. */
static inline live_node *live_new(unsigned k) {
  live_node *root = system_live_root(), *last = root;
  for (unsigned i = 1; i < k; i++)
    last = system_live_append(last);
  system_live_close(last, root);
  return root;
}

/* The live heap: objects in cycles of LIVE_RING. */
#define LIVE_RING 100

struct live_heap {
  live_node **rings;
  size_t count;
};

/* Makes a live heap of that many objects, a multiple of LIVE_RING. */
struct live_heap live_heap_new(size_t objects);
/* The same, but the nodes of a ring lie anywhere in the heap. */
struct live_heap live_heap_scattered(size_t objects);
/* The same, but all objects are one ring. */
struct live_heap live_heap_one(size_t objects);
void live_heap_drop(struct live_heap *heap);

/* Each registers the cases of its file. */
void collect_register_rings(void);
void collect_register_full(void);
void collect_register_beside(void);
void collect_register_trees(void);
void collect_register_list(void);
void collect_register_sessions(void);
void collect_register_census(void);

#endif
