/* SPDX-License-Identifier: MIT */
/* mimalloc, by its own names. (Its library replaces the C library's malloc as well.) */
#ifndef BENCH_ALLOC_SYSTEMS_MIMALLOC_H
#define BENCH_ALLOC_SYSTEMS_MIMALLOC_H

#include <mimalloc.h>

#define SYSTEM_NAME "mimalloc"
#define SYSTEM_INLINE 0

static inline void system_begin(void) {}

static inline void *system_malloc(size_t size) { return mi_malloc(size); }
static inline void *system_calloc(size_t size) { return mi_calloc(1, size); }
static inline void *system_realloc(void *block, size_t size) { return mi_realloc(block, size); }
static inline void system_free(void *block) { mi_free(block); }

static inline void system_safepoint(void) {}
static inline void system_wait_begin(void) {}
static inline void system_wait_end(void) {}

#endif
