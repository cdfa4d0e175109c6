/* SPDX-License-Identifier: MIT */
#ifndef GYRE_TESTS_SUPPORT_BYTES_H
#define GYRE_TESTS_SUPPORT_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Is all of it that byte? By memcmp(), which sanitizers look at as a whole: byte by byte, tests of large blocks
 * would take minutes under them. */
static inline bool test_is_filled(const void *block, char byte, size_t size) {
  const char *bytes = (const char *)block;
  return size == 0 || (bytes[0] == byte && memcmp(bytes, bytes + 1, size - 1) == 0);
}

#endif
