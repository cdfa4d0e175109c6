/* SPDX-License-Identifier: MIT */
/* bench/support/ring.h: pointers on their way from one thread to another.
 *
 * A bounded queue for one producer and one consumer. Both keep their position to themselves and
 * publish it once a batch, so that the queue costs little beside what is measured. Progress: both
 * sides are wait-free; when the queue is full or empty the callers decide how to wait. */
#ifndef BENCH_SUPPORT_RING_H
#define BENCH_SUPPORT_RING_H

#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

#define RING_SIZE 4096u /* pointers; a power of two */
#define RING_BATCH 64u  /* how many go at once; divides RING_SIZE */

struct ring {
  /* Written by the producer, read by the consumer: how many pointers have been put in. Who reads it
   * sees those pointers and what they point to. */
  _Alignas(128) _Atomic uint64_t filled;
  /* Written by the consumer, read by the producer: how many have been taken out. Who reads it may
   * overwrite those places. */
  _Alignas(128) _Atomic uint64_t emptied;
  _Alignas(128) void *at[RING_SIZE];
};

/* Producer only: the place for the batch that starts with pointer number `position`, or NULL while
 * there is no room. */
static inline void **ring_room(struct ring *ring, uint64_t position) {
  /* acquire: the consumer has read these places; pairs with the release in ring_taken(). */
  uint64_t emptied = atomic_load_explicit(&ring->emptied, memory_order_acquire);
  if (position + RING_BATCH - emptied > RING_SIZE) return NULL;
  return &ring->at[position % RING_SIZE];
}

/* Producer only: the batch at `position` is complete. */
static inline void ring_put(struct ring *ring, uint64_t position) {
  /* release: the batch, and what its pointers point to; pairs with the acquire in ring_batch(). */
  atomic_store_explicit(&ring->filled, position + RING_BATCH, memory_order_release);
}

/* Consumer only: the batch at `position`, or NULL while it is not there. */
static inline void **ring_batch(struct ring *ring, uint64_t position) {
  /* acquire: the batch; pairs with the release in ring_put(). */
  uint64_t filled = atomic_load_explicit(&ring->filled, memory_order_acquire);
  if (filled - position < RING_BATCH) return NULL;
  return &ring->at[position % RING_SIZE];
}

/* Consumer only: the batch at `position` has been read. */
static inline void ring_taken(struct ring *ring, uint64_t position) {
  /* release: our reads come first; pairs with the acquire in ring_room(). */
  atomic_store_explicit(&ring->emptied, position + RING_BATCH, memory_order_release);
}

/* Nothing to do: lets another thread have the core, in case there are fewer cores than threads. */
static inline void ring_wait(void) { sched_yield(); }

#endif
