/* SPDX-License-Identifier: MIT */
/* gyre/number.h: numbers as objects, for containers that hold objects.
 *
 * Immutable leaf objects of 16 bytes and their header. The small integers exist already and are
 * immortal; which object a function returns for a value is not specified. Where many numbers are kept,
 * gyre_array holds them without a box each.
 *
 * Equality is by value across both types, as in Python: the integer 1 equals the double 1.0 and has the
 * same hash. A NaN equals itself as an object only.
 */
#ifndef GYRE_NUMBER_H
#define GYRE_NUMBER_H

#include <gyre/hash.h>

GYRE_BEGIN_DECLS

/* The fields are private; they are shown for the inline functions below. */
typedef struct gyre_int {
  int64_t gyre__value;
} gyre_int;

typedef struct gyre_double {
  double gyre__value;
} gyre_double;

extern GYRE_API gyre_type gyre_int_type;
extern GYRE_API gyre_type gyre_double_type;

/* Integers from here to there are preallocated. */
#define GYRE_INT_CACHE_MIN (-5)
#define GYRE_INT_CACHE_MAX 1023

/* An integer: a *new* reference, the caller's; NULL with errno ENOMEM. Any thread; attaches it if need
 * be; no safepoint. Costs an allocation, but for the small ones, whose counts cost nothing either. */
GYRE_API gyre_int *gyre_int_from(int64_t value);

/* The same for a double, which is always a new object. */
GYRE_API gyre_double *gyre_double_from(double value);

/* The value. Any thread that holds the object. */
GYRE_INLINE int64_t gyre_int_value(const gyre_int *i) { return i->gyre__value; }
GYRE_INLINE double gyre_double_value(const gyre_double *d) { return d->gyre__value; }

GYRE_END_DECLS

#endif
