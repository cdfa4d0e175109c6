/* SPDX-License-Identifier: MIT */
/* gyre/str.h: immutable strings.
 *
 *     GYRE_AUTO(gyre_str) name = gyre_str_new("Ada", 3);
 *     GYRE_AUTO(gyre_str) line = gyre_str_format("%s, %d", gyre_str_data(name), 36);
 *     GYRE_AUTO(gyre_str) key = gyre_intern("name", 4);
 *
 * A string is any bytes with a length: UTF-8, as a rule, but nothing looks at that. One 0 more follows
 * them. It is a leaf object: the collector never looks at it. Its hash is worked out once. The empty
 * string and those of one byte exist already and are immortal; which object a function returns for equal
 * strings is not specified, but for interned ones.
 *
 * *Interned* strings: of each value there is one at a time, so that two of them are equal if they are
 * the same object. Dictionaries find an interned key without looking at its bytes. The table that finds
 * them does not keep them alive: one that nobody refers to is gone.
 */
#ifndef GYRE_STR_H
#define GYRE_STR_H

#include <stdarg.h>

#include <gyre/hash.h>

GYRE_BEGIN_DECLS

/* The fields are private; they are shown for the inline functions below. Objects are made by the
 * functions below only. */
typedef struct gyre_str {
  /* -- never change -- */
  size_t gyre__size; /* length << 1 | interned */
  /* -- atomic -- */
  gyre__atomic_u64 gyre__hash; /* 0: not worked out yet */
} gyre_str;

/* The types of strings: those that are not interned, and those that are. */
extern GYRE_API gyre_type gyre_str_type;
extern GYRE_API gyre_type gyre_interned_type;

/* 1 if the object is a string of either type, else 0. Any thread that holds it. */
GYRE_API int gyre_is_str(const void *object);

/* The bytes, followed by a 0; they live as long as the string. */
GYRE_INLINE const char *gyre_str_data(const gyre_str *s) { return (const char *)(s + 1); }

/* How many there are, without that 0. */
GYRE_INLINE size_t gyre_str_length(const gyre_str *s) { return s->gyre__size >> 1; }

/* 1 if the string is interned, else 0. */
GYRE_INLINE int gyre_str_is_interned(const gyre_str *s) { return (int)(s->gyre__size & 1); }

/* The functions that return a string return a *new* reference, which is the caller's, or NULL with errno
 * ENOMEM. They may be called by any thread, attach it if need be, and are no safepoints. */

/* A string of `length` bytes at `data`, which are copied; NULL data is allowed if length is 0. */
GYRE_API gyre_str *gyre_str_new(const char *data, size_t length);

/* The same of a text that ends with 0. */
GYRE_API gyre_str *gyre_str_from(const char *text);

/* As snprintf() would write it. NULL with errno EINVAL for a format that it refuses. */
GYRE_API gyre_str *gyre_str_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
GYRE_API gyre_str *gyre_str_vformat(const char *format, va_list arguments)
    __attribute__((format(printf, 1, 0)));

/* The bytes of a, then those of b. Costs a copy of both, but for an empty one. */
GYRE_API gyre_str *gyre_str_concat(gyre_str *a, gyre_str *b);

/* Appends `length` bytes to a string and returns the result, stealing the reference `s`. If that is the
 * only reference to it (gyre_is_unique) and there is room behind it, no byte of it is copied; room is
 * made with each copy, so that building a string step by step costs time in proportion to its length.
 * On failure `s` is still the caller's. */
GYRE_API gyre_str *gyre_str_append(gyre_str *s, const char *data, size_t length);

/* The string with `with` (with_length bytes) in place of the bytes [start, start + length) of it,
 * stealing the reference `s`: in the same storage if that is the only reference to it and there is room.
 * What lies beyond the end is cut off as in gyre_str_slice(). On failure `s` is still the caller's. */
GYRE_API gyre_str *gyre_str_replace(gyre_str *s, size_t start, size_t length, const char *with,
                                    size_t with_length);

/* The bytes [start, stop) of s as Python's s[start:stop]: negative positions count from the end, and
 * what lies beyond either end is cut off. */
GYRE_API gyre_str *gyre_str_slice(gyre_str *s, ptrdiff_t start, ptrdiff_t stop);

/* Less than, equal to or greater than 0 as a's bytes come before, equal or come after b's, compared as
 * unsigned; a prefix comes first. Any thread that holds both. */
GYRE_API int gyre_str_compare(const gyre_str *a, const gyre_str *b);

GYRE_API int gyre__str_eq_slow(const gyre_str *a, const gyre_str *b);

/* 1 if both have the same bytes, else 0: a look at the pointers if both are interned. */
GYRE_INLINE int gyre_str_eq(const gyre_str *a, const gyre_str *b) {
  if (a == b) return 1;
  if (a->gyre__size != b->gyre__size && (a->gyre__size ^ b->gyre__size) != 1) return 0;
  if (a->gyre__size & b->gyre__size & 1) return 0;
  return gyre__str_eq_slow(a, b);
}

/* The string's hash, never 0: equal for equal strings. Any thread that holds it. */
GYRE_API uint64_t gyre_str_hash(const gyre_str *s);

/* ---- interning --------------------------------------------------------------------------------
 */

/* The interned string of these bytes, made if there is none. Lock-free, but for the making of memory;
 * a hit costs one count on the string, so threads that all ask for one and the same contend for its
 * count unless it is immortal. */
GYRE_API gyre_str *gyre_intern(const char *data, size_t length);

/* Flags of gyre_intern_ex(). */
enum {
  /* Makes the string immortal: it stays for good, and counts of it write nothing. For names that a
   * program always needs. */
  GYRE_INTERN_IMMORTAL = 1u << 0,
};

/* The same with flags. NULL with errno EINVAL for unknown ones. */
GYRE_API gyre_str *gyre_intern_ex(const char *data, size_t length, unsigned flags);

/* The interned string that equals s: s itself if it is interned, otherwise another object. */
GYRE_API gyre_str *gyre_intern_str(gyre_str *s);

/* How many interned strings there are, without the preallocated ones: a figure. Any thread. */
GYRE_API size_t gyre_intern_count(void);

GYRE_END_DECLS

#endif
