/* SPDX-License-Identifier: MIT */
/* gyre/hash.h: the value protocol: when are two objects equal, and where does a dictionary look for one?
 *
 * A type says so with its fields `hash` and `equal`. Without them objects are equal to themselves
 * only. Strings, numbers and tuples compare by content; lists and dictionaries compare by content but
 * have no hash (`.hash = gyre_hash_refuse`), because it would change with them.
 *
 *     static int point_hash(const void *object, uint64_t *hash) {
 *       const point *p = object;
 *       *hash = gyre_hash_bytes(&p->x, sizeof p->x + sizeof p->y);
 *       return 0;
 *     }
 *     static int point_equal(const void *object, const void *other) {
 *       if (gyre_type_of(other) != &point_type) return 0;
 *       ...
 *     }
 *     GYRE_TYPE_DEFINE(point_type, point, .hash = point_hash, .equal = point_equal);
 *
 * Hashes are XXH3's (xxhash, Yann Collet), with a secret that each process draws anew, so that nobody
 * can prepare keys that collide. They are the same after fork(), and not from run to run.
 */
#ifndef GYRE_HASH_H
#define GYRE_HASH_H

#include <gyre/object.h>

GYRE_BEGIN_DECLS

/* The hash of an object's value. 0, -EINVAL if it has none (a list, NULL), -ELOOP if objects are nested in each
 * other too deeply (64 levels), or in themselves, or what the type's function
 * returns; *hash is then untouched. The caller holds the object; calls its type's function, which may be
 * the program's. Any thread. */
GYRE_API int gyre_hash(const void *object, uint64_t *hash);

/* 1 if both are the same object or have the same value, 0 if not, or what a type's function returns as
 * error. Asks the type of `a`, and that of `b` if `a` has no `equal`. Both may be NULL. As gyre_hash(). */
GYRE_API int gyre_equal(const void *a, const void *b);

/* The hash of `length` bytes, for hash functions of one's own: also of an array of hashes. Any thread;
 * calls nothing, allocates nothing. */
GYRE_API uint64_t gyre_hash_bytes(const void *data, size_t length);

/* A `hash` for types whose objects have none: -EINVAL. */
GYRE_API int gyre_hash_refuse(const void *object, uint64_t *hash);

GYRE_END_DECLS

#endif
