/* SPDX-License-Identifier: MIT */
/* What the sources of lib/value share. The room stands on the public headers alone, but for the race
 * windows that its tests hold open, what an arena's end has to be told of, and liburcu's table. */
#ifndef GYRE_LIB_VALUE_VALUE_H
#define GYRE_LIB_VALUE_VALUE_H

#include <stdbool.h>

#include <gyre/value.h>

#include "lib/base/base.h"
#include "lib/base/check.h"

/* ---- strings (str.c) ---- */

/* The preallocated string of at most one byte; NULL with errno ENOMEM. */
gyre_str *gyre__str_single(const char *data, size_t length);
/* A string of the type without its bytes, with room for so many more; NULL with errno ENOMEM. */
gyre_str *gyre__str_make(gyre_type *type, size_t length, size_t room);
/* What gyre_str_hash() gives for a string of these bytes. */
uint64_t gyre__str_hash_bytes(const char *data, size_t length);
/* The two types' part of the value protocol. */
int gyre__str_type_hash(const void *object, uint64_t *hash);
int gyre__str_type_equal(const void *object, const void *other);

/* ---- numbers (number.c) ---- */

int gyre__number_equal(const void *object, const void *other);

#endif
