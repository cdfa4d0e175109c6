/* SPDX-License-Identifier: MIT */
/* What the sequences of this room ask of each other. */
#ifndef GYRE_LIB_VALUE_SEQUENCE_H
#define GYRE_LIB_VALUE_SEQUENCE_H

#include <stdbool.h>

#include <gyre/hash.h>
#include <gyre/list.h>

#include "lib/base/check.h"

/* The items of a slice at one moment, each counted, in a block for gyre_free(); NULL with errno. */
void **gyre__list_snapshot(gyre_list *list, ptrdiff_t start, ptrdiff_t stop, size_t *n);

#endif
