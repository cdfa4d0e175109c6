/* SPDX-License-Identifier: MIT */
/* gyre/tuple.h: immutable sequences of references.
 *
 *     gyre_tuple *pair = gyre_tuple_of(2, key, value);       // counts both
 *     void *first = gyre_tuple_at(pair, 0);                  // borrowed: the tuple holds it
 *
 * A tuple never changes, so threads share it without locks, and an item may be used without a count of its
 * own for as long as the tuple is held. Tuples compare by content (gyre_equal), and have a hash if all
 * their items have one; it is computed once. The empty tuple is one immortal object: which object a
 * function returns for a value is not specified, so tuples are to be compared by gyre_equal(), not by
 * address.
 *
 * Indices count from 0; negative ones from the end. Items are never NULL. All functions: any thread that
 * holds the tuple; they take no lock, are no safepoints, and attach the thread if they allocate.
 */
#ifndef GYRE_TUPLE_H
#define GYRE_TUPLE_H

#include <gyre/list.h>

GYRE_BEGIN_DECLS

/* A tuple; an object: gyre_retain() and gyre_release() apply. */
typedef struct gyre_tuple gyre_tuple;

extern GYRE_API gyre_type gyre_tuple_type;

/* A tuple of n items, which are counted: from an array, as arguments, or those that a list has at the
 * moment (that takes the list's lock). A *new* reference; NULL with errno ENOMEM, or EINVAL if an item is
 * NULL. */
GYRE_API gyre_tuple *gyre_tuple_from(void *const *items, size_t n);
GYRE_API gyre_tuple *gyre_tuple_of(size_t n, ...);
GYRE_API gyre_tuple *gyre_tuple_from_list(gyre_list *list);

/* As gyre_tuple_from(), but takes over the caller's references to the items; releases them if it
 * fails. */
GYRE_API gyre_tuple *gyre_tuple_steal(void *const *items, size_t n);

/* How many items there are. */
GYRE_API size_t gyre_tuple_length(const gyre_tuple *tuple);

/* The item at `index`: *borrowed*, good as long as the tuple is held; or counted for the caller. NULL with
 * errno ERANGE. */
GYRE_API void *gyre_tuple_at(const gyre_tuple *tuple, ptrdiff_t index);
GYRE_API void *gyre_tuple_get(const gyre_tuple *tuple, ptrdiff_t index);

/* The items from `start` up to, not including, `stop` (bounds beyond an end mean that end); all of one
 * tuple and then all of another. A *new* reference, perhaps to the same object; NULL with errno ENOMEM. */
GYRE_API gyre_tuple *gyre_tuple_slice(const gyre_tuple *tuple, ptrdiff_t start, ptrdiff_t stop);
GYRE_API gyre_tuple *gyre_tuple_concat(const gyre_tuple *a, const gyre_tuple *b);

/* Where the first item equal to `value` is, or -ENOENT; how many are equal. May call the items' `equal`
 * functions; their errors are passed on. */
GYRE_API ptrdiff_t gyre_tuple_index(const gyre_tuple *tuple, const void *value);
GYRE_API ptrdiff_t gyre_tuple_count(const gyre_tuple *tuple, const void *value);

GYRE_END_DECLS

#endif
