/* SPDX-License-Identifier: MIT */
/* Registration of types: within lib/object, and for reports by type. */
#ifndef GYRE_LIB_OBJECT_TYPE_H
#define GYRE_LIB_OBJECT_TYPE_H

#include "lib/object/object.h"

/* Checks the type and gives it an id. 0 (also if it has one), -EINVAL with a log line that names
 * the fault, or -ENOMEM. */
int gyre__type_register(gyre_type *type);

/* Objects of up to this many bytes, of types without elements and not shared, take gyre_new()'s
 * fast path. */
#define GYRE__SIMPLE_MAX 256

/* Ids run from 1 to this. */
uint32_t gyre__type_count(void);

/* 0 if the type has none yet. */
GYRE_INLINE uint32_t gyre__type_id(const gyre_type *type) {
  /* acquire: the private fields and the table entry; pairs with the release in type_add(). */
  return gyre__load_acquire(&type->gyre__id);
}

void gyre__type_fork_prepare(void);
void gyre__type_fork_parent(void);
void gyre__type_fork_child(void);

#endif
