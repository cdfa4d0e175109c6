/* SPDX-License-Identifier: MIT */
/* Size classes: 16-byte steps up to 128 bytes, then four to each doubling up to 64 KiB, so that
 * rounding up wastes at most a quarter of a block's own size beyond 128 bytes, an eighth on
 * average. All are multiples of 16. */
#ifndef GYRE_LIB_HEAP_SIZECLASS_H
#define GYRE_LIB_HEAP_SIZECLASS_H

#include <stddef.h>
#include <stdint.h>

#include <gyre/heap.h>

#define GYRE__CLASS_MAX ((size_t)65536)
#define GYRE__SMALL_MAX ((size_t)8192) /* larger classes use medium pages */

/* gyre__size_class() is in gyre/heap.h, for the inline paths. */

/* The block size of a class. */
GYRE_INLINE size_t gyre__class_size(unsigned size_class) {
  if (size_class < 8) return ((size_t)size_class + 1) << 4;
  unsigned step = size_class - 8;
  unsigned high = 7u + step / 4u;
  return ((size_t)1 << high) + ((size_t)(step % 4u + 1) << (high - 2u));
}

#endif
