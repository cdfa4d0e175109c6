/* SPDX-License-Identifier: MIT */
/* bench/alloc/alloc.h: what the allocator benchmarks share.
 *
 * Each benchmark is written once, over the inline functions system_malloc(), system_free() ... of
 * the header that BENCH_SYSTEM names; each system's program is compiled from the same sources, so
 * that all systems are called directly. */
#ifndef BENCH_ALLOC_ALLOC_H
#define BENCH_ALLOC_ALLOC_H

#include <stddef.h>
#include <stdint.h>

#include BENCH_SYSTEM
#include "bench/support/bench.h"

/* Uses a new block as a program would: the pointer escapes and its first byte is written. */
static inline void alloc_touch(void *block) {
  BENCH_KEEP(block);
  *(volatile char *)block = 1;
}

/* Each registers the cases of its file. */
void alloc_register_pair(void);
void alloc_register_batch(void);
void alloc_register_grow(void);
void alloc_register_xmalloc(void);
void alloc_register_larson(void);
void alloc_register_resident(void);

#endif
