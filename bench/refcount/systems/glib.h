/* SPDX-License-Identifier: MIT */
/* GLib's atomically counted boxes. A slot is a pointer with one of GLib's bit locks, as in
 * atomic.h. */
#ifndef BENCH_REFCOUNT_SYSTEMS_GLIB_H
#define BENCH_REFCOUNT_SYSTEMS_GLIB_H

#include <glib.h>
#include <stddef.h>
#include <stdint.h>

#define SYSTEM_NAME "glib"
#define SYSTEM_HEADER_BYTES 16

typedef struct system_leaf {
  char payload[48];
} system_leaf;

typedef struct system_holder {
  gpointer leaf; /* bit 0 is the lock */
} system_holder;

static inline system_leaf *system_new(void) { return g_atomic_rc_box_alloc0(sizeof(system_leaf)); }
static inline void system_retain(system_leaf *leaf) { (void)(g_atomic_rc_box_acquire)(leaf); }
static inline void system_release(system_leaf *leaf) { g_atomic_rc_box_release(leaf); }

static inline system_holder *system_holder_new(void) { return g_malloc0(sizeof(system_holder)); }

/* Returns the leaf with the slot locked. */
static inline system_leaf *system_slot_lock(system_holder *holder) {
  (g_pointer_bit_lock)(&holder->leaf, 0);
  return (system_leaf *)((uintptr_t)holder->leaf & ~(uintptr_t)1);
}

static inline void system_slot_unlock(system_holder *holder) {
  (g_pointer_bit_unlock)(&holder->leaf, 0);
}

static inline void system_store(system_holder *holder, system_leaf *leaf) {
  if (leaf != NULL) system_retain(leaf);
  system_leaf *old = system_slot_lock(holder);
  (g_atomic_pointer_set)(&holder->leaf, (gpointer)((uintptr_t)leaf | 1));
  system_slot_unlock(holder);
  if (old != NULL) system_release(old);
}

static inline system_leaf *system_load(system_holder *holder) {
  system_leaf *leaf = system_slot_lock(holder);
  if (leaf != NULL) system_retain(leaf);
  system_slot_unlock(holder);
  return leaf;
}

static inline void system_holder_free(system_holder *holder) {
  system_store(holder, NULL);
  g_free(holder);
}

static inline void system_safepoint(void) {}
static inline void system_wait_begin(void) {}
static inline void system_wait_end(void) {}

#endif
