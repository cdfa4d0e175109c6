/* SPDX-License-Identifier: MIT */
/* gyre/iter.h: lazy sequences: Python's iterators, map, filter, chain and range.
 *
 *     gyre_iter *squares = gyre_iter_map(gyre_iter_range(0, 1000000, 1), square, NULL);
 *     for (void *item; (item = gyre_iter_next(squares)) != NULL; gyre_release(item))
 *       use(item);
 *     gyre_release(squares);                  // at any time; frees all of the pipeline at once
 *
 * A pipeline has one item alive at a time, however many it yields. An iterator is an object that owns what
 * it takes items from, in slots that the collectors see. It is done for good when it has said so once.
 *
 * Functions that make an iterator of other iterators take over the caller's references to these
 * ("steal"), also if they fail; a NULL among them is taken for an earlier failure, and the result is NULL
 * with errno as it is. So calls can be nested, and one look at the end is enough. Every one gives NULL with
 * errno ENOMEM if there is no memory, and EINVAL for a sequence or a function that is NULL.
 *
 * Threads: any thread that holds an iterator may use it, one at a time: a call that finds another one
 * under way on the same iterator, in another thread or in a function that it calls, gives NULL with errno
 * EBUSY (Python's "generator already executing"). Program code (map's and filter's functions, callbacks) is
 * called with no lock held. None is a safepoint but for what that code does.
 */
#ifndef GYRE_ITER_H
#define GYRE_ITER_H

#include <gyre/array.h>
#include <gyre/tuple.h>

GYRE_BEGIN_DECLS

/* An iterator; an object: gyre_retain() and gyre_release() apply. */
typedef struct gyre_iter gyre_iter;

/* The next item: a *new* reference. NULL with errno 0 at the end (and from then on), or with the number of
 * an error; after an error it may go on. Any thread. */
GYRE_API void *gyre_iter_next(gyre_iter *iter);

/* Ends it before its end: drops what it holds, and calls its close function, if it has one; the next item
 * is the end. What the last gyre_release() does by itself. 0, or -EBUSY. Harmless to repeat. */
GYRE_API int gyre_iter_close(gyre_iter *iter);

/* ---- where items come from ---- */

/* The items of a list (those at index 0, 1, ... at the moment when each is asked for, so it sees changes, as
 * in Python), of a tuple; the numbers of an array as gyre_int or gyre_double. Hold it counted. A *new*
 * reference. */
GYRE_API gyre_iter *gyre_iter_from_list(gyre_list *list);
GYRE_API gyre_iter *gyre_iter_from_tuple(gyre_tuple *tuple);
GYRE_API gyre_iter *gyre_iter_from_array(gyre_array *array);

/* The integers start, start + step, ... before `stop`, as gyre_int. EINVAL if step is 0, too. */
GYRE_API gyre_iter *gyre_iter_range(int64_t start, int64_t stop, int64_t step);

/* A generator: next(state, held) returns a new reference, or NULL with errno 0 at the end, or NULL with an
 * error. close(state), if it is not NULL, is called once, when the iterator has ended, is closed or dies;
 * it must be as quiet as a type's destroy hook. `held` (counted, NULL is allowed) is an object that the
 * generator works on: kept in a slot, so that a cycle through it is found. If it fails, `close` has been
 * called. */
typedef void *gyre_iter_next_fn(void *state, void *held);
GYRE_API gyre_iter *gyre_iter_from_callback(gyre_iter_next_fn *next, void (*close)(void *state),
                                            void *state, void *held);

/* ---- what becomes of them: each steals its sources ---- */

/* fn(item, arg) of each item: a new reference, or NULL with errno set. The item is borrowed. */
GYRE_API gyre_iter *gyre_iter_map(gyre_iter *source, void *(*fn)(void *item, void *arg), void *arg);

/* The items for which keep(item, arg) is above 0; below 0 it is an error, negative. */
GYRE_API gyre_iter *gyre_iter_filter(gyre_iter *source, int (*keep)(void *item, void *arg),
                                     void *arg);

/* All items of the first source, then all of the next, and so on. */
GYRE_API gyre_iter *gyre_iter_chain(gyre_iter *const *sources, size_t n);

/* At most the first n items. The source is closed with the last of them. */
GYRE_API gyre_iter *gyre_iter_take(gyre_iter *source, size_t n);

/* Tuples of an item from each source, until the first of them ends. */
GYRE_API gyre_iter *gyre_iter_zip(gyre_iter *const *sources, size_t n);

/* Tuples (number, item), the number a gyre_int from `start` on. */
GYRE_API gyre_iter *gyre_iter_enumerate(gyre_iter *source, int64_t start);

/* ---- where they go ---- */

/* A list of all items that are left; steals the iterator. NULL also with the error of an item. */
GYRE_API gyre_list *gyre_list_from_iter(gyre_iter *iter);

GYRE_END_DECLS

#endif
