/* SPDX-License-Identifier: MIT */
/* gyre's objects: biased counts, slots. */
#ifndef BENCH_REFCOUNT_SYSTEMS_GYRE_H
#define BENCH_REFCOUNT_SYSTEMS_GYRE_H

#include <gyre/gyre.h>

#define SYSTEM_NAME "gyre"
#define SYSTEM_HEADER_BYTES GYRE_HEADER_SIZE

typedef struct system_leaf {
  char payload[48];
} system_leaf;

/* An object with a slot for a leaf. */
typedef struct system_holder {
  GYRE_SLOT(system_leaf) leaf;
} system_holder;

static gyre_type system_leaf_type = {.name = "leaf", .size = sizeof(system_leaf)};
static GYRE_TYPE_DEFINE(system_holder_type, system_holder,
                        .slots = GYRE_SLOTS(system_holder, leaf));

static inline system_leaf *system_new(void) { return gyre_new(&system_leaf_type); }
static inline void system_retain(system_leaf *leaf) { (void)gyre_retain(leaf); }
static inline void system_release(system_leaf *leaf) { gyre_release(leaf); }

static inline system_holder *system_holder_new(void) { return gyre_new(&system_holder_type); }
static inline void system_holder_free(system_holder *holder) { gyre_release(holder); }
static inline void system_store(system_holder *holder, system_leaf *leaf) {
  gyre_store(&holder->leaf, leaf);
}
static inline system_leaf *system_load(system_holder *holder) { return gyre_load(&holder->leaf); }

#define SYSTEM_HAS_WEAK 1
typedef gyre_weak system_weak;
static inline system_weak *system_weak_new(system_leaf *leaf) {
  return gyre_weak_new(leaf, NULL, NULL);
}
static inline system_leaf *system_weak_get(system_weak *weak) { return gyre_weak_get(weak); }
static inline void system_weak_free(system_weak *weak) { gyre_weak_free(weak); }

/* A map with weak keys in which the leaf is its own value. */
typedef gyre_weakmap system_map;
static inline system_map *system_map_new(system_leaf *leaf) {
  system_map *map = gyre_weakmap_new(GYRE_WEAK_KEY, NULL, NULL);
  (void)gyre_weakmap_set(map, leaf, leaf);
  return map;
}
static inline system_leaf *system_map_get(system_map *map, system_leaf *leaf) {
  return gyre_weakmap_get(map, leaf);
}
static inline void system_map_free(system_map *map) { gyre_release(map); }

#define SYSTEM_HAS_SAFEPOINT 1
static inline void system_safepoint(void) { gyre_safepoint(); }

#define SYSTEM_HAS_SLOW_PATHS 1
/* Whether threads that attach from now on count as all do while a concurrent collection keeps a log
 * of the changes. Returns whether the system has done it. */
static inline int system_slow_paths(int on) {
  return gyre_option_set("slow_paths", on ? "1" : "0") == 0;
}

static inline void system_wait_begin(void) { gyre_park(); }
static inline void system_wait_end(void) { gyre_unpark(); }

#endif
