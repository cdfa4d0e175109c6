/* SPDX-License-Identifier: MIT */
/* gyre/weakmap.h: maps and sets that do not keep their keys, their values, or both.
 *
 *     gyre_weakmap *titles = gyre_weakmap_new(GYRE_WEAK_KEY, NULL, NULL);
 *     gyre_weakmap_set(titles, window, title);        // title lives as long as window does
 *     string *t = gyre_weakmap_get(titles, window);   // a reference of the caller's, or NULL
 *     gyre_release(t);
 *     gyre_release(titles);                           // a map is an object
 *
 * When the weak side of an entry dies, the entry vanishes: before the object's weak callbacks that are
 * older than the entry, after those that are younger, in the same thread. Then what the entry holds is
 * released. (Python's WeakKeyDictionary, WeakValueDictionary, WeakSet.)
 *
 *   GYRE_WEAK_KEY        holds its values. A value from which the key can be reached keeps the key, and
 *                        itself, as long as the map lives.
 *   GYRE_WEAK_VALUE      holds its keys.
 *   GYRE_WEAK_BOTH       holds neither; an entry goes with the side that dies first.
 *   GYRE_WEAK_EPHEMERON  holds a value as long as the key can be reached without it: a value may refer
 *                        to its key, and to the map. (Hayes, "Ephemerons", OOPSLA 1997.) What such
 *                        values keep alive only the collector can tell; so the map's type reports no
 *                        references to them. Of keys it looks only at those whose type has slots or a
 *                        visit function: others, leaves, count as reachable until nobody refers to them.
 *
 * Keys are compared by identity, or by functions of the program's. These are called with no lock held
 * and may call anything; they must agree, and go on giving the same answers for an object.
 *
 * Any thread may do anything here at any time, with a map that it holds. Each operation takes effect at
 * once, between its call and its return; if two compete, one comes first. Readers take no lock. Writers
 * take the map's own lock for some instructions, and for as long as it takes to copy the table when it
 * has to grow. None is a safepoint by itself; whatever releases objects may run program code. Keys and
 * values are borrowed from the caller, who holds them counted; none may be NULL (-EINVAL).
 *
 * An entry costs a little more than 100 bytes beside 64 for an object's first entry or weak reference.
 */
#ifndef GYRE_WEAKMAP_H
#define GYRE_WEAKMAP_H

#include <gyre/weak.h>

GYRE_BEGIN_DECLS

typedef struct gyre_weakmap gyre_weakmap;

enum gyre_weakmap_kind {
  GYRE_WEAK_KEY,
  GYRE_WEAK_VALUE,
  GYRE_WEAK_BOTH,
  GYRE_WEAK_EPHEMERON,
};

/* Equal keys have equal hashes. All bits count, none need be random. */
typedef uint64_t gyre_weakmap_hash(const void *key);
typedef int gyre_weakmap_equal(const void *a, const void *b);

/* A new, empty map, with a count of 1 that is the caller's; an object like any other, which may be put
 * into slots. Both functions NULL: identity. NULL with errno ENOMEM, or EINVAL for another kind or one
 * function without the other. */
GYRE_API gyre_weakmap *gyre_weakmap_new(enum gyre_weakmap_kind kind, gyre_weakmap_hash *hash,
                                        gyre_weakmap_equal *equal);

/* The key's value, with a reference that is the caller's; NULL if there is none. */
GYRE_API void *gyre_weakmap_get(gyre_weakmap *map, const void *key);

/* 1 if the key has a value, else 0. */
GYRE_API int gyre_weakmap_contains(gyre_weakmap *map, const void *key);

/* Gives the key this value, in place of the one it has; an equal key stays, as in Python. 0, -ENOMEM or
 * -EINVAL; then nothing has changed. */
GYRE_API int gyre_weakmap_set(gyre_weakmap *map, void *key, void *value);

/* The key's value if it has one; otherwise gives it this one. A reference to the value that it has then,
 * the caller's; NULL with errno ENOMEM or EINVAL. Of several threads all get the same. (setdefault) */
GYRE_API void *gyre_weakmap_get_or_set(gyre_weakmap *map, void *key, void *value);

/* Takes the key out. Its value, with a reference that is the caller's; NULL if it had none. */
GYRE_API void *gyre_weakmap_pop(gyre_weakmap *map, const void *key);

/* Takes the key out. 1 if it was in, else 0. */
GYRE_API int gyre_weakmap_remove(gyre_weakmap *map, const void *key);

/* How many entries there are, those that are just vanishing included. */
GYRE_API size_t gyre_weakmap_len(const gyre_weakmap *map);

/* Takes everything out that is in when it is called. */
GYRE_API void gyre_weakmap_clear(gyre_weakmap *map);

/* Calls fn(key, value, arg) for each entry, in no order, until one returns non-zero, which is returned;
 * else 0; -ENOMEM if there is no memory for the list of them, -EINVAL if fn is NULL. The entries are those at the time of the
 * call, both sides held until the function has been called for them: it may change the map, and nothing
 * that it is shown dies meanwhile. Does not pass a safepoint while it makes its list. */
typedef int gyre_weakmap_visitor(void *key, void *value, void *arg);
GYRE_API int gyre_weakmap_foreach(gyre_weakmap *map, gyre_weakmap_visitor *fn, void *arg);

/* Weak references to the keys, or to the values, for those who want to look without holding them. Returns
 * how many, with *out an array of so many, each to be given up with gyre_weak_free() and the array with
 * gyre_free(); -ENOMEM, or -EINVAL if out is NULL. */
GYRE_API ptrdiff_t gyre_weakmap_keyrefs(gyre_weakmap *map, gyre_weak ***out);
GYRE_API ptrdiff_t gyre_weakmap_valuerefs(gyre_weakmap *map, gyre_weak ***out);

/* ---- sets -------------------------------------------------------------------------------------
 *
 * A weak set holds none of its members. All that is said of maps and their keys applies. */

typedef struct gyre_weakset gyre_weakset;

/* A new, empty set, as gyre_weakmap_new(). */
GYRE_API gyre_weakset *gyre_weakset_new(gyre_weakmap_hash *hash, gyre_weakmap_equal *equal);

/* 1 if it is in by this call, 0 if it or an equal one was in already; -ENOMEM or -EINVAL. */
GYRE_API int gyre_weakset_add(gyre_weakset *set, void *member);
/* 1 if it was in, else 0. */
GYRE_API int gyre_weakset_remove(gyre_weakset *set, const void *member);
GYRE_API int gyre_weakset_contains(gyre_weakset *set, const void *member);
/* Takes any one out: a reference that is the caller's; NULL if there is none. */
GYRE_API void *gyre_weakset_pop(gyre_weakset *set);
GYRE_API size_t gyre_weakset_len(const gyre_weakset *set);
GYRE_API void gyre_weakset_clear(gyre_weakset *set);
typedef int gyre_weakset_visitor(void *member, void *arg);
GYRE_API int gyre_weakset_foreach(gyre_weakset *set, gyre_weakset_visitor *fn, void *arg);

GYRE_END_DECLS

#endif
