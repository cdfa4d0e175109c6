/* SPDX-License-Identifier: MIT */
#include "bench/collect/collect.h"
#include "bench/support/memory.h"
#include "bench/support/random.h"

struct live_heap live_heap_new(size_t objects) {
  struct live_heap heap = {.count = objects / LIVE_RING};
  if (heap.count == 0) return heap;
  heap.rings = system_table(heap.count);
  for (size_t i = 0; i < heap.count; i++) {
    heap.rings[i] = live_new(LIVE_RING);
    system_safepoint();
  }
  return heap;
}

/* All rings grow together, a node each in every turn and in another order every turn. */
struct live_heap live_heap_scattered(size_t objects) {
  struct live_heap heap = {.count = objects / LIVE_RING};
  size_t order_bytes = heap.count * sizeof(uint32_t);
  uint32_t *order = memory_table(order_bytes);
  live_node **last = system_table(heap.count);
  struct random r = {4};
  heap.rings = system_table(heap.count);
  for (size_t i = 0; i < heap.count; i++)
    last[i] = heap.rings[i] = system_live_root();
  for (unsigned turn = 1; turn < LIVE_RING; turn++) {
    random_order(&r, order, heap.count);
    for (size_t i = 0; i < heap.count; i++)
      last[order[i]] = system_live_append(last[order[i]]);
    system_safepoint();
  }
  for (size_t i = 0; i < heap.count; i++)
    system_live_close(last[i], heap.rings[i]);
  system_table_free(last, heap.count);
  memory_table_free(order, order_bytes);
  return heap;
}

struct live_heap live_heap_one(size_t objects) {
  struct live_heap heap = {.rings = system_table(1), .count = 1};
  live_node *root = system_live_root(), *last = root;
  for (size_t i = 1; i < objects; i++) {
    last = system_live_append(last);
    if (i % LIVE_RING == 0) system_safepoint();
  }
  system_live_close(last, root);
  heap.rings[0] = root;
  return heap;
}

void live_heap_drop(struct live_heap *heap) {
  if (heap->count == 0) return;
  for (size_t i = 0; i < heap->count; i++) {
    live_node *ring = heap->rings[i];
    heap->rings[i] = NULL;
    system_live_drop(ring);
  }
  system_table_free(heap->rings, heap->count);
  heap->rings = NULL;
  heap->count = 0;
}
