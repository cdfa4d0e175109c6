/* SPDX-License-Identifier: MIT */
/* Strings: the bytes lie in the object, behind its struct, with a 0 after them.
 *
 *     | header 16 | size and flag 8 | hash 8 | bytes ... 0 | room | elements 8 |
 *
 * A string never changes once a second reference may exist. gyre_str_append() and gyre_str_replace()
 * change the object in place while the caller's reference is the only one, and leave room for the next
 * time when they have to copy.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#include "lib/value/value.h"

/* ---- the empty string and those of one byte ---- */

struct single {
  gyre_str string;
  char bytes[8];
};

#define SINGLES 257

/* By byte; the last one is the empty string. */
static GYRE_STATIC_OBJECT(struct single) singles[SINGLES];
/* 1 once they are filled in. Who sees that sees the objects. */
static gyre__atomic_u32 singles_are_filled;
static pthread_once_t singles_once = PTHREAD_ONCE_INIT;

static void singles_fill(void) {
  for (unsigned i = 0; i < SINGLES; i++) {
    gyre_str *s = &singles[i].object.string;
    /* relaxed: nobody sees it before the release below. */
    gyre__store_relaxed(&singles[i].gyre__head.shared, GYRE__SHARED_IMMORTAL);
    s->gyre__size = (i < SINGLES - 1 ? 1u << 1 : 0) | 1u;
    if (i < SINGLES - 1) singles[i].object.bytes[0] = (char)(unsigned char)i;
    if (GYRE_STATIC_REGISTER(&singles[i], &gyre_interned_type) != 0) return;
  }
  /* release: the objects; pairs with gyre__str_single(). */
  gyre__store_release(&singles_are_filled, 1);
}

/* The end of an arena: types have other numbers from now on. */
static void forget(void) {
  gyre__store_relaxed(&singles_are_filled, 0); /* relaxed: no thread is attached. */
  singles_once = (pthread_once_t)PTHREAD_ONCE_INIT;
}

static void __attribute__((constructor)) str_init(void) { gyre__forget_add(forget); }

gyre_str *gyre__str_single(const char *data, size_t length) {
  /* acquire: pairs with singles_fill(). */
  if (GYRE_UNLIKELY(gyre__load_acquire(&singles_are_filled) == 0)) {
    (void)pthread_once(&singles_once, singles_fill);
    /* acquire: as above. */
    if (gyre__load_acquire(&singles_are_filled) == 0) {
      errno = ENOMEM;
      return NULL;
    }
  }
  return &singles[length == 0 ? SINGLES - 1 : (unsigned char)data[0]].object.string;
}

/* ---- making one ---- */

static char *bytes_of(gyre_str *s) { return (char *)(s + 1); }

gyre_str *gyre__str_make(gyre_type *type, size_t length, size_t room) {
  size_t elements;
  if (length > SIZE_MAX / 4 || __builtin_add_overflow(length + 1, room, &elements)) {
    errno = ENOMEM;
    return NULL;
  }
  gyre_str *s = (gyre_str *)gyre_new_array(type, elements);
  if (s != NULL) s->gyre__size = length << 1 | (type == &gyre_interned_type);
  return s;
}

gyre_str *gyre_str_new(const char *data, size_t length) {
  if (length <= 1) return gyre__str_single(data, length);
  gyre_str *s = gyre__str_make(&gyre_str_type, length, 0);
  if (s != NULL) memcpy(bytes_of(s), data, length);
  return s;
}

gyre_str *gyre_str_from(const char *text) { return gyre_str_new(text, strlen(text)); }

gyre_str *gyre_str_vformat(const char *format, va_list arguments) {
  char small[256];
  va_list again;
  va_copy(again, arguments);
  int length = vsnprintf(small, sizeof small, format, arguments);
  gyre_str *s = NULL;
  if (length < 0)
    errno = EINVAL;
  else if ((size_t)length < sizeof small)
    s = gyre_str_new(small, (size_t)length);
  else if ((s = gyre__str_make(&gyre_str_type, (size_t)length, 0)) != NULL)
    (void)vsnprintf(bytes_of(s), (size_t)length + 1, format, again);
  va_end(again);
  return s;
}

gyre_str *gyre_str_format(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  gyre_str *s = gyre_str_vformat(format, arguments);
  va_end(arguments);
  return s;
}

gyre_str *gyre_str_concat(gyre_str *a, gyre_str *b) {
  size_t la = gyre_str_length(a), lb = gyre_str_length(b);
  if (lb == 0) return gyre_retain(a);
  if (la == 0) return gyre_retain(b);
  gyre_str *s = gyre__str_make(&gyre_str_type, la + lb, 0);
  if (s == NULL) return NULL;
  memcpy(bytes_of(s), gyre_str_data(a), la);
  memcpy(bytes_of(s) + la, gyre_str_data(b), lb);
  return s;
}

/* ---- changing one that nobody else has ---- */

/* May s be changed in place, and hold so many bytes? */
static bool has_room(const gyre_str *s, size_t length) {
  return !gyre_str_is_interned(s) && gyre_is_unique(s) && length < gyre_array_length(s);
}

static void length_set(gyre_str *s, size_t length) {
  s->gyre__size = length << 1;
  bytes_of(s)[length] = '\0';
  /* relaxed: nobody else has the string. */
  gyre__store_relaxed(&s->gyre__hash, 0);
}

gyre_str *gyre_str_replace(gyre_str *s, size_t start, size_t length, const char *with,
                           size_t with_length) {
  size_t old = gyre_str_length(s);
  if (start > old) start = old;
  if (length > old - start) length = old - start;
  if (length == 0 && with_length == 0) return s;
  size_t tail = old - start - length, result;
  if (__builtin_add_overflow(old - length, with_length, &result)) {
    errno = ENOMEM;
    return NULL;
  }
  char *bytes = bytes_of(s);
  /* What is put in may be part of the string itself: then moving the tail must not come first. */
  bool inside = (uintptr_t)with - (uintptr_t)bytes <= old;
  if (result > 1 && (!inside || tail == 0) && has_room(s, result)) {
    if (tail != 0) memmove(bytes + start + with_length, bytes + start + length, tail);
    if (with_length != 0) memmove(bytes + start, with, with_length);
    length_set(s, result);
    return s;
  }
  /* Half as much again for the next time, if it grows at all. */
  gyre_str *made = result <= 1 ? NULL
                               : gyre__str_make(&gyre_str_type, result,
                                                result > old && old > 1 ? result / 2 : 0);
  char single = 0;
  if (result > 1 && made == NULL) return NULL;
  char *to = made != NULL ? bytes_of(made) : &single;
  memcpy(to, bytes, start);
  if (with_length != 0) memcpy(to + start, with, with_length);
  memcpy(to + start + with_length, bytes + start + length, tail);
  if (made == NULL) made = gyre_str_new(&single, result);
  if (made != NULL) gyre_release(s);
  return made;
}

gyre_str *gyre_str_append(gyre_str *s, const char *data, size_t length) {
  return gyre_str_replace(s, gyre_str_length(s), 0, data, length);
}

/* ---- parts and comparisons ---- */

/* Where a position that may count from the end lies in [0, length]. */
static size_t position(ptrdiff_t at, size_t length) {
  if (at < 0) return (size_t) - (at + 1) < length ? length - (size_t) - (at + 1) - 1 : 0;
  return (size_t)at < length ? (size_t)at : length;
}

gyre_str *gyre_str_slice(gyre_str *s, ptrdiff_t start, ptrdiff_t stop) {
  size_t length = gyre_str_length(s);
  size_t from = position(start, length), to = position(stop, length);
  if (to <= from) return gyre_str_new(NULL, 0);
  if (to - from == length) return gyre_retain(s);
  return gyre_str_new(gyre_str_data(s) + from, to - from);
}

int gyre_str_compare(const gyre_str *a, const gyre_str *b) {
  size_t la = gyre_str_length(a), lb = gyre_str_length(b);
  int order = memcmp(gyre_str_data(a), gyre_str_data(b), la < lb ? la : lb);
  return order != 0 ? order : (la > lb) - (la < lb);
}

int gyre__str_eq_slow(const gyre_str *a, const gyre_str *b) {
  /* relaxed: the same value whenever it is there. */
  uint64_t ha = gyre__load_relaxed(&a->gyre__hash), hb = gyre__load_relaxed(&b->gyre__hash);
  if (ha != hb && ha != 0 && hb != 0) return 0;
  return memcmp(gyre_str_data(a), gyre_str_data(b), gyre_str_length(a)) == 0;
}

uint64_t gyre__str_hash_bytes(const char *data, size_t length) {
  uint64_t hash = gyre_hash_bytes(data, length);
  return hash + (hash == 0);
}

uint64_t gyre_str_hash(const gyre_str *s) {
  /* relaxed: threads that come here at once write the same. */
  uint64_t hash = gyre__load_relaxed(&s->gyre__hash);
  if (GYRE_LIKELY(hash != 0)) return hash;
  hash = gyre__str_hash_bytes(gyre_str_data(s), gyre_str_length(s));
  /* relaxed: as above. The field is a cache: a string that is const to the caller keeps its value. */
  gyre__store_relaxed(&((gyre_str *)(uintptr_t)s)->gyre__hash, hash);
  return hash;
}

/* ---- the value protocol ---- */

int gyre_is_str(const void *object) {
  const gyre_type *type = gyre_type_of(object);
  return type == &gyre_str_type || type == &gyre_interned_type;
}

int gyre__str_type_hash(const void *object, uint64_t *hash) {
  *hash = gyre_str_hash(object);
  return 0;
}

int gyre__str_type_equal(const void *object, const void *other) {
  return gyre_is_str(other) && gyre_str_eq(object, other);
}

gyre_type gyre_str_type = {.name = "gyre_str",
                           .size = sizeof(gyre_str),
                           .element_size = 1,
                           .hash = gyre__str_type_hash,
                           .equal = gyre__str_type_equal};
