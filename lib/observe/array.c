/* SPDX-License-Identifier: MIT */
#include "lib/observe/array.h"

/* The least that is mapped. */
#define LEAST_BYTES ((size_t)1 << 12)

void *gyre__array_grow(void *at, size_t *room, size_t element, size_t want) {
  size_t bytes;
  if (__builtin_mul_overflow(want, element, &bytes) || bytes > SIZE_MAX / 4) return NULL;
  size_t old_bytes = gyre__os_whole_pages(*room * element);
  /* One that grows for the first time may be as large as it gets; after that, by half each time. */
  if (at != NULL && bytes < old_bytes + old_bytes / 2) bytes = old_bytes + old_bytes / 2;
  if (bytes < LEAST_BYTES) bytes = LEAST_BYTES;
  bytes = gyre__os_whole_pages(bytes);
  void *memory =
      at == NULL ? gyre__os_map(bytes, gyre__os_page_size()) : gyre__os_remap(at, old_bytes, bytes);
  if (memory != NULL) *room = bytes / element;
  return memory;
}

void gyre__array_drop(void *at, size_t room, size_t element) {
  if (at != NULL) gyre__os_unmap(at, gyre__os_whole_pages(room * element));
}
