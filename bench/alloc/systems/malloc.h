/* SPDX-License-Identifier: MIT */
/* The systems that a program calls by the C library's names: SYSTEM_NAME says which is linked. */
#ifndef BENCH_ALLOC_SYSTEMS_MALLOC_H
#define BENCH_ALLOC_SYSTEMS_MALLOC_H

#include <stdlib.h>

#define SYSTEM_INLINE 0

static inline void system_begin(void) {}

static inline void *system_malloc(size_t size) { return malloc(size); }
static inline void *system_calloc(size_t size) { return calloc(1, size); }
static inline void *system_realloc(void *block, size_t size) { return realloc(block, size); }
static inline void system_free(void *block) { free(block); }

static inline void system_safepoint(void) {}
static inline void system_wait_begin(void) {}
static inline void system_wait_end(void) {}

#endif
