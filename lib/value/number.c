/* SPDX-License-Identifier: MIT */
/* Integers and doubles in boxes, the small integers preallocated.
 *
 * The preallocated ones are static objects: no allocation, no count, no page that a purge would have to
 * leave alone. They are filled in when the first is asked for.
 */
#include <math.h>
#include <pthread.h>

#include "lib/value/value.h"

#define CACHED (GYRE_INT_CACHE_MAX - GYRE_INT_CACHE_MIN + 1)

static GYRE_STATIC_OBJECT(gyre_int) cache[CACHED];
/* 1 once the cache is filled in. Who sees that sees the objects. */
static gyre__atomic_u32 cache_is_filled;
static pthread_once_t cache_once = PTHREAD_ONCE_INIT;

static void cache_fill(void) {
  for (int i = 0; i < CACHED; i++) {
    /* relaxed: nobody sees it before the release below. */
    gyre__store_relaxed(&cache[i].gyre__head.shared, GYRE__SHARED_IMMORTAL);
    cache[i].object.gyre__value = i + GYRE_INT_CACHE_MIN;
    if (GYRE_STATIC_REGISTER(&cache[i], &gyre_int_type) != 0) return;
  }
  /* release: the objects; pairs with the acquire in int_cached(). */
  gyre__store_release(&cache_is_filled, 1);
}

/* The end of an arena: types have other numbers from now on, so the objects are registered again when the
 * first is asked for. */
static void forget(void) {
  gyre__store_relaxed(&cache_is_filled, 0); /* relaxed: no thread is attached. */
  cache_once = (pthread_once_t)PTHREAD_ONCE_INIT;
}

static void __attribute__((constructor)) number_init(void) { gyre__forget_add(forget); }

/* A preallocated integer, or NULL if there was no memory to register their type. */
static gyre_int *int_cached(int64_t value) {
  /* acquire: pairs with cache_fill(). */
  if (GYRE_UNLIKELY(gyre__load_acquire(&cache_is_filled) == 0)) {
    (void)pthread_once(&cache_once, cache_fill);
    /* acquire: as above. */
    if (gyre__load_acquire(&cache_is_filled) == 0) return NULL;
  }
  return &cache[value - GYRE_INT_CACHE_MIN].object;
}

gyre_int *gyre_int_from(int64_t value) {
  if (value >= GYRE_INT_CACHE_MIN && value <= GYRE_INT_CACHE_MAX) {
    gyre_int *cached = int_cached(value);
    if (GYRE_LIKELY(cached != NULL)) return cached;
  }
  gyre_int *i = (gyre_int *)gyre_new(&gyre_int_type);
  if (i != NULL) i->gyre__value = value;
  return i;
}

gyre_double *gyre_double_from(double value) {
  gyre_double *d = (gyre_double *)gyre_new(&gyre_double_type);
  if (d != NULL) d->gyre__value = value;
  return d;
}

/* ---- the value protocol ---- */

static int int_hash(const void *object, uint64_t *hash) {
  const gyre_int *i = object;
  *hash = gyre_hash_bytes(&i->gyre__value, sizeof i->gyre__value);
  return 0;
}

/* The integer that a double equals, if there is one. */
static bool double_is_int(double value, int64_t *i) {
  /* -2^63 is a double, 2^63 - 1 is not; NaN fails both. */
  if (!(value >= -9223372036854775808.0 && value < 9223372036854775808.0)) return false;
  *i = (int64_t)value;
  double back = (double)*i;
  return !(back < value || back > value);
}

static int double_hash(const void *object, uint64_t *hash) {
  double value = ((const gyre_double *)object)->gyre__value;
  int64_t i;
  if (double_is_int(value, &i))
    *hash = gyre_hash_bytes(&i, sizeof i);
  else if (isnan(value)) /* equal to itself only: by identity, or all of them would collide */
    *hash = gyre_hash_bytes(&object, sizeof object);
  else
    *hash = gyre_hash_bytes(&value, sizeof value);
  return 0;
}

int gyre__number_equal(const void *object, const void *other) {
  const gyre_type *a = gyre_type_of(object), *b = gyre_type_of(other);
  if (b != &gyre_int_type && b != &gyre_double_type) return 0;
  if (a == b && a == &gyre_int_type)
    return ((const gyre_int *)object)->gyre__value == ((const gyre_int *)other)->gyre__value;
  if (a == b) {
    double x = ((const gyre_double *)object)->gyre__value;
    double y = ((const gyre_double *)other)->gyre__value;
    return x <= y && x >= y;
  }
  const gyre_int *i = a == &gyre_int_type ? object : other;
  const gyre_double *d = a == &gyre_int_type ? other : object;
  int64_t whole;
  return double_is_int(d->gyre__value, &whole) && whole == i->gyre__value;
}

GYRE_TYPE_DEFINE(gyre_int_type, gyre_int, .hash = int_hash, .equal = gyre__number_equal);
GYRE_TYPE_DEFINE(gyre_double_type, gyre_double, .hash = double_hash, .equal = gyre__number_equal);
