/* SPDX-License-Identifier: MIT */
/* gyre's raw interface, as a runtime calls it that attaches its threads itself and keeps their
 * handles: here that of the only one. */
#ifndef BENCH_ALLOC_SYSTEMS_GYRE_INLINE_H
#define BENCH_ALLOC_SYSTEMS_GYRE_INLINE_H

#include <gyre/gyre.h>

#define SYSTEM_NAME "gyre-inline"
#define SYSTEM_INLINE 1

extern gyre_thread *system_self; /* constant after system_begin() */

static inline void system_begin(void) { system_self = gyre_thread_attach(); }

static inline void *system_malloc(size_t size) { return gyre_thread_malloc(system_self, size); }
static inline void *system_calloc(size_t size) { return gyre_thread_calloc(system_self, 1, size); }
static inline void *system_realloc(void *block, size_t size) {
  return gyre_thread_realloc(system_self, block, size);
}
static inline void system_free(void *block) { gyre_thread_free(system_self, block); }

static inline void system_safepoint(void) { gyre_safepoint(); }
static inline void system_wait_begin(void) { gyre_park(); }
static inline void system_wait_end(void) { gyre_unpark(); }

#endif
