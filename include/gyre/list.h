/* SPDX-License-Identifier: MIT */
/* gyre/list.h: a growable sequence of references, for any number of threads.
 *
 *     gyre_list *list = gyre_list_new();
 *     gyre_list_append(list, thing);               // counts it
 *     void *first = gyre_list_get(list, 0);        // a reference of the caller's
 *     gyre_release(first);
 *
 * It behaves as the list of Python without a global lock. Calls that change the list, and those that copy
 * it, take its object lock: for each other they are atomic. gyre_list_get and gyre_list_length take no lock,
 * and never wait. While items are being moved (insert and pop before the end, delete, reverse) they
 * find at each index the item that was there or the one that will be, and may find the length changed
 * before or after the items. For several calls that must be one step, take the lock for all of them:
 *
 *     gyre_list_lock(list);
 *     if (gyre_list_length(list) < limit) gyre_list_append(list, thing);
 *     gyre_list_unlock(list);
 *
 * Indices count from 0; negative ones from the end: -1 is the last item. Items are never NULL.
 *
 * A list is an object like those of programs, built on the public slot operations only: its items lie
 * in an array object of slots that is replaced when it is too small, by steps of an eighth (CPython's), or
 * of a quarter beyond 64 KiB; see "structures that are read without counting" in object.h. A list that only
 * one thread has used gives a small array back at once; otherwise, and beyond 64 KiB, that happens when
 * every thread has passed a safepoint: a loop that appends millions should pass some.
 *
 * All functions: any thread that holds the list counted; they attach it if it is not attached. Those that
 * take the lock may wait for another thread's call, and are then safepoints (gyre_lock). None calls
 * program code under its own lock; comparisons, and finalizers of what is dropped, run after it was let
 * go, but inside gyre_list_lock() if the caller has that. Where a result is an error number it is
 * -ENOMEM, or -ERANGE for an index outside the list, or -EINVAL for a NULL item, and nothing has changed.
 */
#ifndef GYRE_LIST_H
#define GYRE_LIST_H

#include <gyre/hash.h>

GYRE_BEGIN_DECLS

/* A list; an object: gyre_retain() and gyre_release() apply. Two lists are equal (gyre_equal) if they have
 * equal items in the same order. A list has no hash. */
typedef struct gyre_list gyre_list;

extern GYRE_API gyre_type gyre_list_type;

/* A new empty list, or one of n items, which are counted. NULL with errno ENOMEM, or EINVAL if an item is
 * NULL. */
GYRE_API gyre_list *gyre_list_new(void);
GYRE_API gyre_list *gyre_list_from(void *const *items, size_t n);

/* How many items the list has. Takes no lock. */
GYRE_API size_t gyre_list_length(const gyre_list *list);

/* The item at `index`, counted for the caller; NULL with errno ERANGE. A negative index is reckoned from the
 * length at the beginning: if others insert or remove meanwhile, it is that place of the list as it is by
 * then. Takes no lock; lock-free: begins again only if a writer got something done meanwhile. */
GYRE_API void *gyre_list_get(gyre_list *list, ptrdiff_t index);

/* Puts `item` (counted) at `index` and drops what was there. 0 or an error. */
GYRE_API int gyre_list_set(gyre_list *list, ptrdiff_t index, void *item);

/* Adds `item` (counted) at the end, or before the item at `index` (an index beyond an end means that
 * end, as in Python). 0 or an error. */
GYRE_API int gyre_list_append(gyre_list *list, void *item);
GYRE_API int gyre_list_insert(gyre_list *list, ptrdiff_t index, void *item);

/* Adds n items (each counted), or those that `other` has at the moment (`list` itself is allowed), at the
 * end, all at once. 0 or an error. */
GYRE_API int gyre_list_extend(gyre_list *list, void *const *items, size_t n);
GYRE_API int gyre_list_extend_list(gyre_list *list, gyre_list *other);

/* Removes the item at `index` and returns it; the list's reference is the caller's now. NULL with errno
 * ERANGE. */
GYRE_API void *gyre_list_pop(gyre_list *list, ptrdiff_t index);

/* Removes the items from `start` up to, not including, `stop`; bounds beyond an end mean that end. 0 or
 * -ENOMEM. */
GYRE_API int gyre_list_delete(gyre_list *list, ptrdiff_t start, ptrdiff_t stop);

/* Removes all items. Cannot fail. */
GYRE_API void gyre_list_clear(gyre_list *list);

/* A new list of the items from `start` up to, not including, `stop` (bounds as above), or of all. NULL
 * with errno ENOMEM. */
GYRE_API gyre_list *gyre_list_slice(gyre_list *list, ptrdiff_t start, ptrdiff_t stop);
GYRE_API gyre_list *gyre_list_copy(gyre_list *list);

/* Where the first item equal to `value` is, from `start` up to `stop`; -ENOENT if nowhere. How many are
 * equal. Equality is gyre_equal()'s; it is asked about one item at a time, without a lock, so others may
 * change the list meanwhile. An error of the comparison is passed on. */
GYRE_API ptrdiff_t gyre_list_index(gyre_list *list, void *value, ptrdiff_t start, ptrdiff_t stop);
GYRE_API ptrdiff_t gyre_list_count(gyre_list *list, void *value);

/* Removes the first item equal to `value`, as found by gyre_list_index(). 0, -ENOENT, or an error of the
 * comparison. */
GYRE_API int gyre_list_remove(gyre_list *list, void *value);

/* Reverses the order of the items, in place. 0 or -ENOMEM. */
GYRE_API int gyre_list_reverse(gyre_list *list);

/* Less than 0, 0, or more: a comes before b, is as good as b, comes after b. Borrows both. */
typedef int gyre_list_compare(void *a, void *b, void *arg);

/* Sorts; items that compare as 0 keep their order. `compare` is called without a lock; meanwhile the list
 * is empty for everybody, and if somebody changes it nevertheless, the change is lost and the result is
 * -EBUSY (Python's "list modified during sort"); the list is sorted then, too. 0, -EBUSY or -ENOMEM. At
 * most n log2 n comparisons; n - 1 if the list is sorted already. */
GYRE_API int gyre_list_sort(gyre_list *list, gyre_list_compare *compare, void *arg);

/* Takes the list's lock for several calls of this thread, which then do not take it themselves. Reading
 * by others goes on. Not recursive. A safepoint if another thread has it. */
GYRE_API void gyre_list_lock(gyre_list *list);
GYRE_API void gyre_list_unlock(gyre_list *list);

GYRE_END_DECLS

#endif
