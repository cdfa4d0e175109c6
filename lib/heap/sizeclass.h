/* SPDX-License-Identifier: MIT */
/* Size classes: 16-byte steps up to 128 bytes, then four to each doubling up to 64 KiB, so that
 * rounding up wastes at most a quarter of a block's own size beyond 128 bytes, an eighth on
 * average. All are multiples of 16. */
#ifndef GYRE_LIB_HEAP_SIZECLASS_H
#define GYRE_LIB_HEAP_SIZECLASS_H

#include <stddef.h>
#include <stdint.h>

#include <gyre/thread.h>

#define GYRE__CLASS_MAX ((size_t)65536)
#define GYRE__SMALL_MAX ((size_t)8192) /* larger classes use medium pages */

/* The class of a size from 0 to GYRE__CLASS_MAX. */
GYRE_INLINE unsigned gyre__size_class(size_t size) {
  if (GYRE_LIKELY(size <= 128)) return (unsigned)((size - (size != 0)) >> 4);
  size_t s = size - 1;
  unsigned high = 63u - (unsigned)__builtin_clzll((unsigned long long)s); /* 7 for 129..256 */
  return 8u + (high - 7u) * 4u + (unsigned)((s >> (high - 2u)) & 3u);
}

/* The block size of a class. */
GYRE_INLINE size_t gyre__class_size(unsigned size_class) {
  if (size_class < 8) return ((size_t)size_class + 1) << 4;
  unsigned step = size_class - 8;
  unsigned high = 7u + step / 4u;
  return ((size_t)1 << high) + ((size_t)(step % 4u + 1) << (high - 2u));
}

#endif
