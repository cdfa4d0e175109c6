/* SPDX-License-Identifier: MIT */
/* gyre/dict.h: dictionaries: objects found by the value of other objects, in the order in which they
 * came.
 *
 *     GYRE_AUTO(gyre_dict) d = gyre_dict_new();
 *     gyre_dict_set(d, key, value);              // retains both
 *     GYRE_AUTO(void) v = gyre_dict_get(d, key); // a reference of my own, or NULL
 *
 * Any object may be a key whose type has a hash (hash.h): by value for strings, numbers and tuples, by
 * identity for types that say nothing. A key's value must not change while it is in a dictionary.
 *
 * Threads. Each function but gyre_dict_update() is one atomic step, seen by other threads whole or not
 * at all. Those that only read take no lock and write nothing that threads share, but for the count of
 * what they return. Those that write take the object's lock. For several calls that must be one step for
 * others that write, take it for all of them:
 *
 *     gyre_dict_lock(d);
 *     gyre_int *n = gyre_dict_get(d, key);
 *     ...
 *     gyre_dict_set(d, key, more);
 *     gyre_dict_unlock(d);
 *
 * Program code. Hash and equality functions of the keys' types, and whatever a release may run, are
 * called with no lock held, but inside gyre_dict_lock() if the caller has that; they may use the
 * dictionary. Functions that write may wait for the lock (parked), which ends borrowed pointers; those
 * that only read do not, but what they call may. What a write replaces is given back after a grace
 * period: a thread that passes no safepoint holds it up.
 *
 * A dictionary is looked through by both collectors. It costs 64 bytes, and from the first entry on 416 more
 * for up to 8; large ones 24 to 48 bytes an entry and 8 to 16 for the index.
 */
#ifndef GYRE_DICT_H
#define GYRE_DICT_H

#include <gyre/hash.h>

GYRE_BEGIN_DECLS

typedef struct gyre_dict gyre_dict;
extern GYRE_API gyre_type gyre_dict_type;

/* An empty dictionary: a *new* reference; NULL with errno ENOMEM. Any thread; attaches it if need be; not
 * a safepoint. */
GYRE_API gyre_dict *gyre_dict_new(void);

/* All that follow: any thread that holds the dictionary; attaches it if need be. Keys are borrowed. A
 * key whose type refuses a hash gives EINVAL, and what the types' functions return as errors is passed
 * on. Nothing has changed when a function fails. */

/* A *new* reference to the value, or NULL with errno ENOENT if there is no such key, or what went
 * wrong. Lock-free. */
GYRE_API void *gyre_dict_get(gyre_dict *dict, const void *key);

/* 1 if the key is there, 0 if not, or a negative errno value. Lock-free. */
GYRE_API int gyre_dict_contains(gyre_dict *dict, const void *key);

/* How many entries there are. Reads one word. */
GYRE_API size_t gyre_dict_length(const gyre_dict *dict);

/* Puts the value under the key, in place of the old one, if there is one (the key and its place in the
 * order then stay). Retains both. `value` may not be NULL. 0, -EINVAL, -ENOMEM, or a type's error. */
GYRE_API int gyre_dict_set(gyre_dict *dict, void *key, void *value);

/* The value under the key if there is one, otherwise puts `value` there: a *new* reference to what is
 * there now. NULL with errno as gyre_dict_set(). */
GYRE_API void *gyre_dict_setdefault(gyre_dict *dict, void *key, void *value);

/* Takes the entry out and returns its value: the dictionary's reference, now the caller's. NULL with
 * errno ENOENT, or a type's error. */
GYRE_API void *gyre_dict_pop(gyre_dict *dict, const void *key);

/* Takes the entry out. 0, -ENOENT, or a type's error. */
GYRE_API int gyre_dict_del(gyre_dict *dict, const void *key);

/* Takes all entries out, at once for other threads, and then releases them. */
GYRE_API void gyre_dict_clear(gyre_dict *dict);

/* A dictionary with the same entries: a *new* reference; NULL with errno ENOMEM. */
GYRE_API gyre_dict *gyre_dict_copy(gyre_dict *dict);

/* Sets each entry that `other` has at the moment, in their order: one by one, other threads see some
 * before others. 0, or the first error; what was set so far stays. */
GYRE_API int gyre_dict_update(gyre_dict *dict, gyre_dict *other);

/* Takes the dictionary's lock for several calls of this thread, which then do not take it themselves.
 * Reading by others goes on. Not recursive. Waits parked if another thread has it. */
GYRE_API void gyre_dict_lock(gyre_dict *dict);
GYRE_API void gyre_dict_unlock(gyre_dict *dict);

/* ---- iteration: a snapshot --------------------------------------------------------------------
 *
 *     GYRE_AUTO(gyre_dict_items) items = gyre_dict_snapshot(d);
 *     for (size_t i = 0; i < gyre_dict_items_length(items); i++)
 *       use(gyre_dict_items_key(items, i), gyre_dict_items_value(items, i));
 *
 * The entries as they were at one moment, in order, each counted; the dictionary may change meanwhile.
 */
typedef struct gyre_dict_items gyre_dict_items;
extern GYRE_API gyre_type gyre_dict_items_type;

/* A *new* reference, to be given up with gyre_release(); NULL with errno ENOMEM. Takes the lock for the
 * time of two counts an entry. */
GYRE_API gyre_dict_items *gyre_dict_snapshot(gyre_dict *dict);

/* How many entries it has. */
GYRE_API size_t gyre_dict_items_length(const gyre_dict_items *items);

/* Key and value of entry i, *borrowed*: the snapshot keeps them. NULL beyond the end. */
GYRE_API void *gyre_dict_items_key(gyre_dict_items *items, size_t i);
GYRE_API void *gyre_dict_items_value(gyre_dict_items *items, size_t i);

GYRE_END_DECLS

#endif
