/* SPDX-License-Identifier: MIT */
/* gyre/root.h: objects that live for the length of the program, by name.
 *
 * What a global variable of the program holds is a count that nothing explains: inspection shows an object
 * that is held "from outside". A *named root* says who holds it:
 *
 *     gyre_root_add("session cache", cache);        // counts it
 *     ...
 *     gyre_root_remove("session cache");            // releases it
 *
 * Graphs and chains of references begin at the roots and show their names; gyre_fini() reports those that
 * were forgotten (option "leaks").
 *
 * *Constants* are immortal instances that a type makes once for the values that are asked for all the
 * time, as the library has them for small integers and the empty tuple. Which object a function returns
 * for a value is not specified then: programs compare by gyre_equal(), not by address.
 *
 *     gyre_const_add(&colour_type, RED, red);       // at the start; red is immortal from now on
 *
 *     colour *colour_from(int64_t code) {
 *       colour *c = gyre_const_get(&colour_type, code);
 *       return c != NULL ? c : colour_new(code);
 *     }
 *
 * All functions: any thread; attach it if need be.
 */
#ifndef GYRE_ROOT_H
#define GYRE_ROOT_H

#include <gyre/object.h>

GYRE_BEGIN_DECLS

/* ---- named roots ---- */

/* Counts `object` and holds it under `name`, which is copied. 0, -EEXIST if the name is taken, -EINVAL if
 * either is NULL, -ENOMEM. Not a safepoint. Costs a search in a balanced tree under a lock. */
GYRE_API int gyre_root_add(const char *name, void *object);

/* Releases the object held under `name`, with all that gyre_release() may do. 0, -ENOENT, or -EINVAL if it is
 * NULL. */
GYRE_API int gyre_root_remove(const char *name);

/* The object held under `name`, counted for the caller; NULL with errno ENOENT, or EINVAL if that is NULL. */
GYRE_API void *gyre_root_get(const char *name);

/* A named root of a list. */
typedef struct gyre_root {
  const char *name; /* in the list's memory */
  void *object;     /* counted by the list */
} gyre_root;

/* The roots of this moment, by name, as an array at *out of which the result says the length; for
 * gyre_roots_free(). -ENOMEM; -EINVAL if out is NULL. */
GYRE_API ptrdiff_t gyre_roots_list(gyre_root **out);

/* Frees such a list and releases its objects. NULL is allowed. */
GYRE_API void gyre_roots_free(gyre_root *roots, size_t n);

/* ---- constants ---- */

/* Makes `object` immortal and registers it as the instance of `type` for `key`. 0; -EEXIST if there is one
 * (the object is then left alone); -EINVAL if it is not of that type; -ENOMEM. For ever. */
GYRE_API int gyre_const_add(gyre_type *type, int64_t key, void *object);

/* The instance registered, or NULL. It needs no count, and none is ever written. Takes no lock: a look
 * into a hash table, without an atomic step. */
GYRE_API void *gyre_const_get(const gyre_type *type, int64_t key);

GYRE_END_DECLS

#endif
