/* SPDX-License-Identifier: MIT */
/* Iterators: one object each, with its sources in slots, and a table of two functions for its kind.
 *
 * All kinds share one struct and one type: a trailing array of slots, numbers, and the program's function
 * with its argument. A call marks the iterator busy, by one exchange, and calls the kind's `next`; so the
 * kinds need no lock, and program code runs without one. What ends an iterator (its end, a call, its
 * death) empties its slots, so that the source is freed at once, not when the pipeline is.
 */
#include <gyre/iter.h>

#include <errno.h>

#include <gyre/number.h>

#include "lib/value/sequence.h"

typedef GYRE_SLOT(void) source_slot;

typedef void *next_fn(gyre_iter *iter);

struct gyre_iter {
  /* -- constant -- */
  next_fn *next;
  size_t sources;
  union {
    void *(*map)(void *, void *);
    int (*filter)(void *, void *);
    gyre_iter_next_fn *callback;
  } fn;
  void (*close)(void *);
  void *arg;
  /* -- who has it marked busy -- */
  int64_t at, stop, step;
  /* Anyone: who changes it from IDLE to BUSY may use the rest. */
  gyre__atomic_u32 state;
  /* The sources follow. */
};
enum { IDLE, BUSY, ENDED };

static void iter_destroy(void *object);
static gyre_type iter_type = {.name = "gyre_iter",
                              .size = sizeof(struct gyre_iter),
                              .element_size = sizeof(source_slot),
                              .element_slots = GYRE_SLOT_ARRAY,
                              .destroy = iter_destroy};

static source_slot *source(gyre_iter *iter, size_t i) {
  return (source_slot *)((uintptr_t)iter + sizeof *iter) + i;
}

/* The object that an iterator takes items from: its own until it ends, which only who has it busy does. */
static void *held(gyre_iter *iter, size_t i) { return gyre_slot_peek(source(iter, i)); }

/* ---- life ---- */

static gyre_iter *iter_new(next_fn *next, size_t sources) {
  gyre_iter *iter = gyre_new_array(&iter_type, sources);
  if (iter == NULL) return NULL;
  iter->next = next;
  iter->sources = sources;
  return iter;
}

/* Of sources that the iterator steals; NULL among them fails it. */
static gyre_iter *iter_of(next_fn *next, gyre_iter *const *sources, size_t n) {
  bool failed = false;
  for (size_t i = 0; i < n; i++)
    failed |= sources[i] == NULL;
  int error = errno;
  gyre_iter *iter = failed ? NULL : iter_new(next, n);
  if (!failed) error = errno;
  for (size_t i = 0; i < n; i++) {
    if (iter != NULL)
      gyre_slot_init(source(iter, i), sources[i]);
    else
      gyre_release(sources[i]);
  }
  if (iter == NULL) errno = error;
  return iter;
}

/* Of one source, and a function that must be there. */
static gyre_iter *iter_with(next_fn *next, gyre_iter *from, bool has_function) {
  if (has_function || from == NULL) return iter_of(next, &from, 1);
  gyre_release(from);
  errno = EINVAL;
  return NULL;
}

/* Of one object that the iterator counts. */
static gyre_iter *iter_on(next_fn *next, void *object) {
  gyre_iter *iter = iter_new(next, 1);
  if (iter != NULL && object != NULL) gyre_slot_init(source(iter, 0), gyre_retain(object));
  return iter;
}

static gyre_iter *iter_over(next_fn *next, void *sequence) {
  if (sequence != NULL) return iter_on(next, sequence);
  errno = EINVAL;
  return NULL;
}

static void end_called(gyre_iter *iter) {
  void (*close)(void *) = iter->close;
  iter->close = NULL;
  if (close != NULL) close(iter->arg);
}

/* Ends an iterator that this thread has busy. */
static void end(gyre_iter *iter) {
  for (size_t i = 0; i < iter->sources; i++)
    gyre_release(gyre_take(source(iter, i)));
  end_called(iter);
}

static void iter_destroy(void *object) { end_called(object); }

/* ---- the two calls ---- */

/* Marks it busy. 1, or 0 if it has ended, or -EBUSY. */
static int begin(gyre_iter *iter) {
  GYRE__EXPECT_TYPE(iter, &iter_type);
  uint32_t state = IDLE;
  /* acquire: what the last call left; pairs with the release in leave(). */
  if (gyre__cas_strong_acquire(&iter->state, &state, BUSY)) return 1;
  return state == ENDED ? 0 : -EBUSY;
}

static void leave(gyre_iter *iter, uint32_t state) {
  /* release: pairs with the acquire in begin(). */
  gyre__store_release(&iter->state, state);
}

void *gyre_iter_next(gyre_iter *iter) {
  int begun = begin(iter);
  if (GYRE_UNLIKELY(begun <= 0)) {
    errno = -begun;
    return NULL;
  }
  errno = 0;
  void *item = iter->next(iter);
  if (GYRE_LIKELY(item != NULL)) {
    leave(iter, IDLE);
    return item;
  }
  int error = errno;
  if (error == 0) end(iter);
  leave(iter, error == 0 ? ENDED : IDLE);
  errno = error;
  return NULL;
}

int gyre_iter_close(gyre_iter *iter) {
  int begun = begin(iter);
  if (begun <= 0) return begun;
  end(iter);
  leave(iter, ENDED);
  return 0;
}

/* ---- sources ---- */

/* NULL with errno ERANGE is the end of a sequence. */
static void *or_end(void *item) {
  if (item == NULL && errno == ERANGE) errno = 0;
  return item;
}

static void *list_next(gyre_iter *iter) { return or_end(gyre_list_get(held(iter, 0), iter->at++)); }
gyre_iter *gyre_iter_from_list(gyre_list *list) { return iter_over(list_next, list); }

static void *tuple_next(gyre_iter *iter) {
  return or_end(gyre_tuple_get(held(iter, 0), iter->at++));
}
gyre_iter *gyre_iter_from_tuple(gyre_tuple *tuple) { return iter_over(tuple_next, tuple); }

static void *array_next(gyre_iter *iter) {
  gyre_array *array = held(iter, 0);
  int64_t whole;
  double real;
  int result = gyre_array_get_int(array, iter->at, &whole);
  void *item = NULL;
  if (result == 0) {
    item = gyre_int_from(whole);
  } else if (result != -ERANGE) {
    /* Floating point, or more than gyre_int can hold. */
    result = gyre_array_get_double(array, iter->at, &real);
    if (result == 0) item = gyre_double_from(real);
  }
  if (item != NULL)
    iter->at++;
  else
    errno = result == -ERANGE ? 0 : result != 0 ? -result : ENOMEM;
  return item;
}
gyre_iter *gyre_iter_from_array(gyre_array *array) { return iter_over(array_next, array); }

static void *range_next(gyre_iter *iter) {
  bool over = iter->step > 0 ? iter->at >= iter->stop : iter->at <= iter->stop;
  if (over) return NULL;
  void *item = gyre_int_from(iter->at);
  /* Beyond the last integer there is none to yield. */
  if (item != NULL && __builtin_add_overflow(iter->at, iter->step, &iter->at))
    iter->at = iter->stop;
  return item;
}
gyre_iter *gyre_iter_range(int64_t start, int64_t stop, int64_t step) {
  if (step == 0) {
    errno = EINVAL;
    return NULL;
  }
  gyre_iter *iter = iter_new(range_next, 0);
  if (iter == NULL) return NULL;
  iter->at = start;
  iter->stop = stop;
  iter->step = step;
  return iter;
}

static void *callback_next(gyre_iter *iter) { return iter->fn.callback(iter->arg, held(iter, 0)); }
gyre_iter *gyre_iter_from_callback(gyre_iter_next_fn *next, void (*close)(void *), void *state,
                                   void *object) {
  gyre_iter *iter = next != NULL ? iter_on(callback_next, object) : NULL;
  if (iter == NULL) {
    if (close != NULL) close(state);
    errno = next != NULL ? ENOMEM : EINVAL;
    return NULL;
  }
  iter->fn.callback = next;
  iter->close = close;
  iter->arg = state;
  return iter;
}

/* ---- pipelines ---- */

static void *map_next(gyre_iter *iter) {
  void *item = gyre_iter_next(held(iter, 0));
  if (item == NULL) return NULL;
  errno = 0;
  void *result = iter->fn.map(item, iter->arg);
  int error = errno;
  gyre_release(item);
  /* A function that returns nothing has failed, whatever it says. */
  errno = result == NULL && error == 0 ? EINVAL : error;
  return result;
}
gyre_iter *gyre_iter_map(gyre_iter *from, void *(*fn)(void *, void *), void *arg) {
  gyre_iter *iter = iter_with(map_next, from, fn != NULL);
  if (iter == NULL) return NULL;
  iter->fn.map = fn;
  iter->arg = arg;
  return iter;
}

static void *filter_next(gyre_iter *iter) {
  for (;;) {
    void *item = gyre_iter_next(held(iter, 0));
    if (item == NULL) return NULL;
    int keep = iter->fn.filter(item, iter->arg);
    if (keep > 0) return item;
    gyre_release(item);
    errno = -keep;
    if (keep < 0) return NULL;
  }
}
gyre_iter *gyre_iter_filter(gyre_iter *from, int (*keep)(void *, void *), void *arg) {
  gyre_iter *iter = iter_with(filter_next, from, keep != NULL);
  if (iter == NULL) return NULL;
  iter->fn.filter = keep;
  iter->arg = arg;
  return iter;
}

static void *chain_next(gyre_iter *iter) {
  for (; (size_t)iter->at < iter->sources; iter->at++) {
    void *item = gyre_iter_next(held(iter, (size_t)iter->at));
    if (item != NULL || errno != 0) return item;
    gyre_release(gyre_take(source(iter, (size_t)iter->at)));
  }
  errno = 0;
  return NULL;
}
gyre_iter *gyre_iter_chain(gyre_iter *const *sources, size_t n) {
  return iter_of(chain_next, sources, n);
}

static void *take_next(gyre_iter *iter) {
  if (iter->at >= iter->stop) return NULL;
  void *item = gyre_iter_next(held(iter, 0));
  if (item != NULL && ++iter->at == iter->stop) gyre_release(gyre_take(source(iter, 0)));
  errno = item != NULL ? 0 : errno;
  return item;
}
gyre_iter *gyre_iter_take(gyre_iter *from, size_t n) {
  gyre_iter *iter = iter_of(take_next, &from, 1);
  if (iter != NULL) iter->stop = n < INT64_MAX ? (int64_t)n : INT64_MAX;
  if (iter != NULL && n == 0) (void)gyre_iter_close(iter);
  return iter;
}

static void *zip_next(gyre_iter *iter) {
  if (iter->sources == 0) return NULL;
  void **items = gyre_calloc(iter->sources, sizeof *items);
  if (items == NULL) return NULL;
  size_t n = 0;
  while (n < iter->sources && (items[n] = gyre_iter_next(held(iter, n))) != NULL)
    n++;
  int error = errno;
  gyre_tuple *row = NULL;
  if (n == iter->sources) {
    row = gyre_tuple_steal(items, n);
    error = row == NULL ? errno : 0;
  } else {
    while (n-- > 0)
      gyre_release(items[n]);
  }
  gyre_free(items);
  errno = error;
  return row;
}
gyre_iter *gyre_iter_zip(gyre_iter *const *sources, size_t n) {
  return iter_of(zip_next, sources, n);
}

static void *enumerate_next(gyre_iter *iter) {
  void *pair[2] = {NULL, gyre_iter_next(held(iter, 0))};
  if (pair[1] == NULL) return NULL;
  pair[0] = gyre_int_from(iter->at);
  if (pair[0] == NULL) {
    gyre_release(pair[1]);
    errno = ENOMEM;
    return NULL;
  }
  iter->at++;
  return gyre_tuple_steal(pair, 2);
}
gyre_iter *gyre_iter_enumerate(gyre_iter *from, int64_t start) {
  gyre_iter *iter = iter_of(enumerate_next, &from, 1);
  if (iter != NULL) iter->at = start;
  return iter;
}

/* ---- the end of a pipeline ---- */

gyre_list *gyre_list_from_iter(gyre_iter *iter) {
  if (iter == NULL) return NULL;
  gyre_list *list = gyre_list_new();
  int error = list == NULL ? ENOMEM : 0;
  for (void *item; error == 0; gyre_release(item)) {
    if ((item = gyre_iter_next(iter)) == NULL) {
      error = errno;
      break;
    }
    error = -gyre_list_append(list, item);
  }
  gyre_release(iter);
  if (error == 0) return list;
  gyre_release(list);
  errno = error;
  return NULL;
}
