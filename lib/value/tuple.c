/* SPDX-License-Identifier: MIT */
/* Tuples: an array object whose slots are filled once, before anybody else can see it. So nothing here
 * is atomic but the hash, which every thread may compute, to the same result.
 *
 * The empty tuple is static. What a type with a hash of its own looks like: tuple_hash(), tuple_equal().
 */
#include <gyre/tuple.h>

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>

#include "lib/value/sequence.h"

typedef GYRE_SLOT(void) item_slot;

struct gyre_tuple {
  /* -- constant -- */
  size_t length;
  /* -- any thread, the same value -- */
  gyre__atomic_u64 hash;
  /* 1: the hash is there. */
  gyre__atomic_u32 has_hash;
  /* The items follow. */
};

static int tuple_hash(const void *object, uint64_t *hash);
static int tuple_equal(const void *object, const void *other);

gyre_type gyre_tuple_type = {.name = "gyre_tuple",
                             .size = sizeof(struct gyre_tuple),
                             .element_size = sizeof(item_slot),
                             .element_slots = GYRE_SLOT_ARRAY,
                             .hash = tuple_hash,
                             .equal = tuple_equal,
                             .flags = GYRE_TYPE_IMMUTABLE};

static item_slot *items_of(const gyre_tuple *tuple) {
  return (item_slot *)((uintptr_t)tuple + sizeof *tuple);
}

/* ---- making ---- */

static GYRE_STATIC_OBJECT(struct gyre_tuple) empty = GYRE_STATIC_INIT(0);
static int empty_result;
static pthread_once_t empty_once = PTHREAD_ONCE_INIT;
static void empty_register(void) { empty_result = GYRE_STATIC_REGISTER(&empty, &gyre_tuple_type); }

/* The end of an arena: types have other numbers from now on. */
static void forget(void) { empty_once = (pthread_once_t)PTHREAD_ONCE_INIT; }
static void __attribute__((constructor)) tuple_init(void) { gyre__forget_add(forget); }

static gyre_tuple *tuple_empty(void) {
  (void)pthread_once(&empty_once, empty_register);
  if (empty_result == 0) return &empty.object;
  errno = -empty_result;
  return NULL;
}

/* A tuple whose items are still to be filled in. */
static gyre_tuple *tuple_new(size_t n) {
  if (n == 0) return tuple_empty();
  gyre_tuple *tuple = gyre_new_array(&gyre_tuple_type, n);
  if (tuple != NULL) tuple->length = n;
  return tuple;
}

static bool has_null(void *const *items, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (items[i] == NULL) return true;
  return false;
}

gyre_tuple *gyre_tuple_steal(void *const *items, size_t n) {
  bool null = has_null(items, n);
  gyre_tuple *tuple = null ? NULL : tuple_new(n);
  for (size_t i = 0; i < n; i++) {
    if (tuple != NULL)
      gyre_slot_init(&items_of(tuple)[i], items[i]);
    else
      gyre_release(items[i]);
  }
  if (tuple == NULL) errno = null ? EINVAL : ENOMEM;
  return tuple;
}

gyre_tuple *gyre_tuple_from(void *const *items, size_t n) {
  if (has_null(items, n)) {
    errno = EINVAL;
    return NULL;
  }
  gyre_tuple *tuple = tuple_new(n);
  for (size_t i = 0; tuple != NULL && i < n; i++)
    gyre_slot_init(&items_of(tuple)[i], gyre_retain(items[i]));
  return tuple;
}

gyre_tuple *gyre_tuple_of(size_t n, ...) {
  gyre_tuple *tuple = tuple_new(n);
  if (tuple == NULL) return NULL;
  bool null = false;
  va_list arguments;
  va_start(arguments, n);
  for (size_t i = 0; i < n; i++) {
    void *item = va_arg(arguments, void *);
    null |= item == NULL;
    gyre_slot_init(&items_of(tuple)[i], gyre_retain(item));
  }
  va_end(arguments);
  if (!null) return tuple;
  gyre_release(tuple);
  errno = EINVAL;
  return NULL;
}

gyre_tuple *gyre_tuple_from_list(gyre_list *list) {
  size_t n = 0;
  void **items = gyre__list_snapshot(list, 0, PTRDIFF_MAX, &n);
  if (items == NULL) return NULL;
  gyre_tuple *tuple = gyre_tuple_steal(items, n);
  gyre_free(items);
  return tuple;
}

/* ---- reading ---- */

size_t gyre_tuple_length(const gyre_tuple *tuple) {
  GYRE__EXPECT_TYPE(tuple, &gyre_tuple_type);
  return tuple->length;
}

/* Held by the tuple's slot, which nobody empties. */
static void *item_at(const gyre_tuple *tuple, size_t i) {
  return gyre_slot_peek(&items_of(tuple)[i]);
}

void *gyre_tuple_at(const gyre_tuple *tuple, ptrdiff_t index) {
  GYRE__EXPECT_TYPE(tuple, &gyre_tuple_type);
  size_t at = (size_t)(index < 0 ? index + (ptrdiff_t)tuple->length : index);
  if (at < tuple->length) return item_at(tuple, at);
  errno = ERANGE;
  return NULL;
}

void *gyre_tuple_get(const gyre_tuple *tuple, ptrdiff_t index) {
  return gyre_retain(gyre_tuple_at(tuple, index));
}

gyre_tuple *gyre_tuple_slice(const gyre_tuple *tuple, ptrdiff_t start, ptrdiff_t stop) {
  size_t from = gyre__bound(start, tuple->length), to = gyre__bound(stop, tuple->length);
  size_t n = to > from ? to - from : 0;
  if (n == tuple->length) return gyre_retain((gyre_tuple *)(uintptr_t)tuple);
  gyre_tuple *slice = tuple_new(n);
  for (size_t i = 0; slice != NULL && i < n; i++)
    gyre_slot_init(&items_of(slice)[i], gyre_retain(item_at(tuple, from + i)));
  return slice;
}

gyre_tuple *gyre_tuple_concat(const gyre_tuple *a, const gyre_tuple *b) {
  if (b->length == 0) return gyre_retain((gyre_tuple *)(uintptr_t)a);
  if (a->length == 0) return gyre_retain((gyre_tuple *)(uintptr_t)b);
  gyre_tuple *both = tuple_new(a->length + b->length);
  if (both == NULL) return NULL;
  for (size_t i = 0; i < both->length; i++) {
    void *item = i < a->length ? item_at(a, i) : item_at(b, i - a->length);
    gyre_slot_init(&items_of(both)[i], gyre_retain(item));
  }
  return both;
}

ptrdiff_t gyre_tuple_index(const gyre_tuple *tuple, const void *value) {
  for (size_t i = 0; i < tuple->length; i++) {
    int equal = gyre_equal(item_at(tuple, i), value);
    if (equal != 0) return equal < 0 ? equal : (ptrdiff_t)i;
  }
  return -ENOENT;
}

ptrdiff_t gyre_tuple_count(const gyre_tuple *tuple, const void *value) {
  ptrdiff_t count = 0;
  for (size_t i = 0; i < tuple->length; i++) {
    int equal = gyre_equal(item_at(tuple, i), value);
    if (equal < 0) return equal;
    count += equal;
  }
  return count;
}

/* ---- the value protocol ---- */

/* Items are hashed in pieces of this many, each with the hash of those before it. */
#define PIECE 15

static int tuple_hash(const void *object, uint64_t *hash) {
  gyre_tuple *tuple = (gyre_tuple *)(uintptr_t)object;
  /* acquire: the hash; pairs with the release below. */
  if (gyre__load_acquire(&tuple->has_hash)) {
    /* relaxed: as above. */
    *hash = gyre__load_relaxed(&tuple->hash);
    return 0;
  }
  uint64_t words[PIECE + 1] = {tuple->length};
  size_t used = 1;
  for (size_t i = 0; i < tuple->length; i++) {
    if (used == PIECE + 1) {
      words[0] = gyre_hash_bytes(words, sizeof words);
      used = 1;
    }
    int result = gyre_hash(item_at(tuple, i), &words[used++]);
    if (result != 0) return result;
  }
  uint64_t result = gyre_hash_bytes(words, used * sizeof *words);
  /* relaxed: published by the flag. */
  gyre__store_relaxed(&tuple->hash, result);
  /* release: pairs with the acquire above. */
  gyre__store_release(&tuple->has_hash, 1);
  *hash = result;
  return 0;
}

static int tuple_equal(const void *object, const void *other) {
  if (gyre_type_of(other) != &gyre_tuple_type) return 0;
  const gyre_tuple *a = object, *b = other;
  if (a->length != b->length) return 0;
  int equal = 1;
  for (size_t i = 0; equal == 1 && i < a->length; i++)
    equal = gyre_equal(item_at(a, i), item_at(b, i));
  return equal;
}
