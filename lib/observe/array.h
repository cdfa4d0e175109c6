/* SPDX-License-Identifier: MIT */
/* Arrays in mappings of their own: what looks at the heap takes nothing from it. */
#ifndef GYRE_LIB_OBSERVE_ARRAY_H
#define GYRE_LIB_OBSERVE_ARRAY_H

#include "lib/base/base.h"

/* GYRE__ARRAY(T): the first `count` elements are used; all zero is an empty one. */
#define GYRE__ARRAY(T)                                                                             \
  struct {                                                                                         \
    T *at;                                                                                         \
    size_t count, room;                                                                            \
  }

/* Makes room for `want` elements of that size; returns the memory, moved perhaps, or NULL: then it is as it
 * was. The new part is zeroed. */
void *gyre__array_grow(void *at, size_t *room, size_t element, size_t want);
void gyre__array_drop(void *at, size_t room, size_t element);

/* Room for `want` elements in all. False if there is no memory. */
#define GYRE__ARRAY_RESERVE(a, want) ((want) <= (a)->room || GYRE__ARRAY_GROW(a, want))
#define GYRE__ARRAY_GROW(a, want)                                                                  \
  __extension__({                                                                                  \
    void *gyre__at = gyre__array_grow((a)->at, &(a)->room, sizeof *(a)->at, (want));               \
    if (gyre__at != NULL) (a)->at = (__typeof__((a)->at))gyre__at;                                 \
    gyre__at != NULL;                                                                              \
  })
/* Adds an element. False if there is no memory. */
#define GYRE__ARRAY_PUSH(a, ...)                                                                   \
  (GYRE__ARRAY_RESERVE(a, (a)->count + 1) && ((a)->at[(a)->count++] = __VA_ARGS__, true))
/* Makes it of `n` zeroed elements; it was empty. False if there is no memory. */
#define GYRE__ARRAY_MAKE(a, n) (GYRE__ARRAY_RESERVE(a, (n) + 1) && ((a)->count = (n), true))
#define GYRE__ARRAY_DROP(a)                                                                        \
  do {                                                                                             \
    gyre__array_drop((a)->at, (a)->room, sizeof *(a)->at);                                         \
    (a)->at = NULL;                                                                                \
    (a)->count = (a)->room = 0;                                                                    \
  } while (0)

#endif
