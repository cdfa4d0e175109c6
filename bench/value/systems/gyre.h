/* SPDX-License-Identifier: MIT */
/* gyre's dictionaries and interned strings. */
#ifndef BENCH_VALUE_SYSTEMS_GYRE_H
#define BENCH_VALUE_SYSTEMS_GYRE_H

#include <stdlib.h>

#include <gyre/gyre.h>

#define SYSTEM_NAME "gyre"

typedef gyre_str system_key;
typedef gyre_dict system_dict;

static inline system_key *system_intern(const char *text, size_t length) {
  return gyre_intern(text, length);
}
static inline void system_key_release(system_key *key) { gyre_release(key); }
/* The same for a key that stays for good. */
#define SYSTEM_HAS_IMMORTAL 1
static inline void system_key_keep(system_key *key) { (void)gyre_immortalize(key); }

static inline system_dict *system_dict_new(void) { return gyre_dict_new(); }
static inline void system_dict_free(system_dict *dict) { gyre_release(dict); }
static inline void system_dict_set(system_dict *dict, system_key *key, int64_t value) {
  gyre_int *number = gyre_int_from(value);
  if (gyre_dict_set(dict, key, number) != 0) abort();
  gyre_release(number);
}
static inline int64_t system_dict_get(system_dict *dict, system_key *key) {
  gyre_int *number = gyre_dict_get(dict, key);
  int64_t value = gyre_int_value(number);
  gyre_release(number);
  return value;
}

#define SYSTEM_HAS_LIST 1
typedef gyre_list system_list;
typedef gyre_int system_item;
static inline system_item *system_item_new(int64_t value) { return gyre_int_from(value); }
static inline int64_t system_item_value(const system_item *item) { return gyre_int_value(item); }
static inline void system_item_release(system_item *item) { gyre_release(item); }
static inline system_list *system_list_new(void) { return gyre_list_new(); }
static inline void system_list_free(system_list *list) { gyre_release(list); }
static inline void system_list_append(system_list *list, system_item *item) {
  if (gyre_list_append(list, item) != 0) abort();
}
static inline system_item *system_list_get(system_list *list, uint32_t i) {
  return gyre_list_get(list, (ptrdiff_t)i);
}

static inline void system_safepoint(void) { gyre_safepoint(); }
static inline void system_wait_begin(void) { gyre_park(); }
static inline void system_wait_end(void) { gyre_unpark(); }

#endif
