/* SPDX-License-Identifier: MIT */
/* What the containers of this room share. */
#ifndef GYRE_LIB_VALUE_SEQUENCE_H
#define GYRE_LIB_VALUE_SEQUENCE_H

#include <stdbool.h>

#include <gyre/hash.h>
#include <gyre/list.h>

#include "lib/base/base.h"
#include "lib/base/check.h"

/* Debug builds end the process where a program hands over an object of another type. */
#ifdef GYRE_DEBUG
#define GYRE__EXPECT_TYPE(object, expected)                                                        \
  GYRE_REQUIRE(gyre_type_of(object) == (expected), "the object at %p is a %s, not a %s",           \
               (const void *)(object), gyre_type_of(object)->name, (expected)->name)
#else
#define GYRE__EXPECT_TYPE(object, expected) ((void)0)
#endif

/* A bound of a slice as Python takes it: from the end if it is negative, and not beyond either end. */
static inline size_t gyre__bound(ptrdiff_t index, size_t length) {
  if (index < 0) index += (ptrdiff_t)length;
  if (index < 0) return 0;
  return (size_t)index < length ? (size_t)index : length;
}

/* The items of a slice at one moment, each counted, in a block for gyre_free(); NULL with errno. */
void **gyre__list_snapshot(gyre_list *list, ptrdiff_t start, ptrdiff_t stop, size_t *n);

#endif
