/* SPDX-License-Identifier: MIT */
/* The plain thread-safe count: one atomic word, relaxed up, acquire-release down, on the C
 * library's malloc.
 *
 * A slot that any thread may load from needs more than an atomic pointer: between reading the
 * pointer and counting, the object may die. Here a bit of the pointer is a spin lock, which is how
 * libstdc++ makes its std::atomic<std::shared_ptr>. */
#ifndef BENCH_REFCOUNT_SYSTEMS_ATOMIC_H
#define BENCH_REFCOUNT_SYSTEMS_ATOMIC_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SYSTEM_NAME "atomic"
#define SYSTEM_HEADER_BYTES 8

typedef struct system_leaf {
  /* How many references there are; who takes it to 0 frees the leaf. */
  _Atomic size_t count;
  char payload[48];
} system_leaf;

typedef struct system_holder {
  /* A leaf's address; its lowest bit is set while a thread works on the slot. */
  _Atomic uintptr_t leaf;
} system_holder;

static inline system_leaf *system_new(void) {
  system_leaf *leaf = malloc(sizeof *leaf);
  if (leaf == NULL) abort();
  memset(leaf->payload, 0, sizeof leaf->payload);
  /* relaxed: nobody else has the leaf yet. */
  atomic_store_explicit(&leaf->count, 1, memory_order_relaxed);
  return leaf;
}

static inline void system_retain(system_leaf *leaf) {
  /* relaxed: who has a reference can hand on another; nothing is read that hangs on it. */
  atomic_fetch_add_explicit(&leaf->count, 1, memory_order_relaxed);
}

static inline void system_release(system_leaf *leaf) {
  /* acq_rel: the last release sees all that the earlier ones did; they pair with each other. */
  if (atomic_fetch_sub_explicit(&leaf->count, 1, memory_order_acq_rel) == 1) free(leaf);
}

static inline system_holder *system_holder_new(void) {
  system_holder *holder = malloc(sizeof *holder);
  if (holder == NULL) abort();
  /* relaxed: nobody else has the holder yet. */
  atomic_store_explicit(&holder->leaf, 0, memory_order_relaxed);
  return holder;
}

/* Returns the leaf's address with the slot locked. */
static inline uintptr_t system_slot_lock(system_holder *holder) {
  /* relaxed: a guess, checked by the exchange. */
  uintptr_t seen = atomic_load_explicit(&holder->leaf, memory_order_relaxed) & ~(uintptr_t)1;
  /* acquire: what the thread before us did under the lock; pairs with the release in
   * system_slot_unlock(). */
  while (!atomic_compare_exchange_weak_explicit(&holder->leaf, &seen, seen | 1,
                                                memory_order_acquire, memory_order_relaxed)) {
    seen &= ~(uintptr_t)1;
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
  return seen;
}

static inline void system_slot_unlock(system_holder *holder, uintptr_t leaf) {
  /* release: pairs with the acquire in system_slot_lock(). */
  atomic_store_explicit(&holder->leaf, leaf, memory_order_release);
}

static inline void system_store(system_holder *holder, system_leaf *leaf) {
  if (leaf != NULL) system_retain(leaf);
  system_leaf *old = (system_leaf *)system_slot_lock(holder);
  system_slot_unlock(holder, (uintptr_t)leaf);
  if (old != NULL) system_release(old);
}

static inline system_leaf *system_load(system_holder *holder) {
  system_leaf *leaf = (system_leaf *)system_slot_lock(holder);
  if (leaf != NULL) system_retain(leaf);
  system_slot_unlock(holder, (uintptr_t)leaf);
  return leaf;
}

static inline void system_holder_free(system_holder *holder) {
  system_store(holder, NULL);
  free(holder);
}

static inline void system_safepoint(void) {}
static inline void system_wait_begin(void) {}
static inline void system_wait_end(void) {}

#endif
