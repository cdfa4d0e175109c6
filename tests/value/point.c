/* SPDX-License-Identifier: MIT */
#include "value_test.h"

void (*point_on_equal)(void);
int point_error;
bool point_same_hash;

static int point_hash(const void *object, uint64_t *hash) {
  if (point_error != 0) return point_error;
  int64_t n = point_same_hash ? 0 : ((const point *)object)->number;
  *hash = gyre_hash_bytes(&n, sizeof n);
  return 0;
}

static int point_equal(const void *object, const void *other) {
  if (point_error != 0) return point_error;
  if (gyre_type_of(other) != &point_type) return 0;
  if (point_on_equal != NULL) point_on_equal();
  return ((const point *)object)->number == ((const point *)other)->number;
}

GYRE_TYPE_DEFINE(point_type, point, .hash = point_hash, .equal = point_equal);
