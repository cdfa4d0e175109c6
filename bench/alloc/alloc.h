/* SPDX-License-Identifier: MIT */
/* bench/alloc/alloc.h: what the allocator benchmarks share.
 *
 * Each benchmark is written once, over the inline functions system_malloc(), system_free() ... of
 * the header that BENCH_SYSTEM names; each system's program is compiled from the same sources, so
 * that all systems are called directly. */
#ifndef BENCH_ALLOC_ALLOC_H
#define BENCH_ALLOC_ALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include BENCH_SYSTEM
#include "bench/support/bench.h"

/* Uses a new block as a program would: the pointer escapes and its first byte is written. */
static inline void alloc_touch(void *block) {
  BENCH_KEEP(block);
  *(volatile char *)block = 1;
}

/* Uses a large one: a byte of each OS page is written, and the last one. */
static inline void alloc_touch_pages(void *block, size_t size) {
  volatile char *bytes = block;
  for (size_t at = 0; at < size; at += 4096)
    bytes[at] = 1;
  bytes[size - 1] = 1;
  BENCH_KEEP(block);
}

/* Each registers the cases of its file. */
void alloc_register_pair(void);
void alloc_register_instructions(void);
void alloc_register_batch(void);
void alloc_register_grow(void);
void alloc_register_scatter(void);
void alloc_register_glibc(void);
void alloc_register_xmalloc(void);
void alloc_register_xmalloc_test(void);
void alloc_register_larson(void);
void alloc_register_mstress(void);
void alloc_register_rptest(void);
void alloc_register_cache(void);
void alloc_register_large(void);
void alloc_register_mleak(void);
void alloc_register_resident(void);

#endif
