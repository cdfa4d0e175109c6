/* SPDX-License-Identifier: MIT */
/* FNV-1a, 64 bits: names are short, and their low bits come out well mixed. */
#ifndef GYRE_BENCH_APPS_PKGGRAPH_HASH_H
#define GYRE_BENCH_APPS_PKGGRAPH_HASH_H

#include <stddef.h>
#include <stdint.h>

static inline uint64_t hash_bytes(const char *bytes, size_t length) {
  uint64_t hash = UINT64_C(0xcbf29ce484222325);
  for (size_t i = 0; i < length; i++) {
    hash ^= (unsigned char)bytes[i];
    hash *= UINT64_C(0x100000001b3);
  }
  return hash;
}

/* The smallest power of two that is at least `count`, for tables that are indexed by a mask. */
static inline size_t hash_table_size(size_t count) {
  size_t size = 16;
  while (size < count)
    size *= 2;
  return size;
}

#endif
