/* SPDX-License-Identifier: MIT */
/* What the tests of values share. */
#ifndef GYRE_TESTS_VALUE_VALUE_TEST_H
#define GYRE_TESTS_VALUE_VALUE_TEST_H

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/node.h"
#include "tests/support/puppet.h"
#include "tests/support/window.h"

/* A string that is not interned; must succeed. */
static inline gyre_str *str(const char *text) {
  gyre_str *s = gyre_str_from(text);
  TEST_REQUIRE(s != NULL);
  return s;
}

/* An interned one. */
static inline gyre_str *interned(const char *text) {
  gyre_str *s = gyre_intern(text, strlen(text));
  TEST_REQUIRE(s != NULL);
  return s;
}

/* Has the string these bytes? Releases it. */
static inline bool is_text(gyre_str *s, const char *text) {
  TEST_REQUIRE(s != NULL);
  bool same = gyre_str_length(s) == strlen(text) && strcmp(gyre_str_data(s), text) == 0;
  gyre_release(s);
  return same;
}

static inline void *number(int64_t value) {
  gyre_int *i = gyre_int_from(value);
  TEST_REQUIRE(i != NULL);
  return i;
}

/* The integer that an object is; releases it. -1 for NULL. */
static inline int64_t number_of(void *object) {
  if (object == NULL) return -1;
  TEST_REQUIRE(gyre_type_of(object) == &gyre_int_type);
  int64_t value = gyre_int_value(object);
  gyre_release(object);
  return value;
}

/* A type whose objects are keys by their number, compared by functions of the program's. */
typedef struct point {
  int64_t number;
} point;
extern gyre_type point_type;
/* Called by point_equal, if set. */
extern void (*point_on_equal)(void);
/* What their hash functions return if it is not 0, as an error; and all hashes the same. */
extern int point_error;
extern bool point_same_hash;

static inline point *point_new(int64_t n) {
  point *p = gyre_new(&point_type);
  TEST_REQUIRE(p != NULL);
  p->number = n;
  return p;
}

/* Puts, takes and gets by text; the values are numbers. */
static inline void dict_put(gyre_dict *dict, const char *key, int64_t value) {
  GYRE_AUTO(gyre_str) k = str(key);
  GYRE_AUTO(void) v = number(value);
  TEST_REQUIRE(gyre_dict_set(dict, k, v) == 0);
}
static inline int64_t dict_at(gyre_dict *dict, const char *key) {
  GYRE_AUTO(gyre_str) k = str(key);
  return number_of(gyre_dict_get(dict, k));
}
static inline int dict_remove(gyre_dict *dict, const char *key) {
  GYRE_AUTO(gyre_str) k = str(key);
  return gyre_dict_del(dict, k);
}

#endif
