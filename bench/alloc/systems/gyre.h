/* SPDX-License-Identifier: MIT */
/* gyre's raw interface, as a program calls it that keeps no thread handle. */
#ifndef BENCH_ALLOC_SYSTEMS_GYRE_H
#define BENCH_ALLOC_SYSTEMS_GYRE_H

#include <gyre/gyre.h>

#define SYSTEM_NAME "gyre"
/* Whether the paths below are inline code: then only they are measured, by one thread. */
#define SYSTEM_INLINE 0

/* The first thread's first call. */
static inline void system_begin(void) {}

static inline void *system_malloc(size_t size) { return gyre_malloc(size); }
static inline void *system_calloc(size_t size) { return gyre_calloc(1, size); }
static inline void *system_realloc(void *block, size_t size) { return gyre_realloc(block, size); }
static inline void system_free(void *block) { gyre_free(block); }

/* What a thread owes the system now and then; once a batch of work. */
static inline void system_safepoint(void) { gyre_safepoint(); }

/* Around whatever blocks. */
static inline void system_wait_begin(void) { gyre_park(); }
static inline void system_wait_end(void) { gyre_unpark(); }

#endif
