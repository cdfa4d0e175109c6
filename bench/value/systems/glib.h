/* SPDX-License-Identifier: MIT */
/* GLib's GHashTable, with strings as keys: hashed and compared by their bytes, as its users do. Interned
 * strings are GLib's own (g_intern_string), which stay for good. */
#ifndef BENCH_VALUE_SYSTEMS_GLIB_H
#define BENCH_VALUE_SYSTEMS_GLIB_H

#include <glib.h>
#include <stdint.h>

#ifndef SYSTEM_NAME
#define SYSTEM_NAME "glib"
#define SYSTEM_HASH g_str_hash
#define SYSTEM_EQUAL g_str_equal
#endif

typedef const char system_key;
typedef GHashTable system_dict;

static inline system_key *system_intern(const char *text, gsize length) {
  (void)length; /* always followed by a 0 */
  return g_intern_string(text);
}
static inline void system_key_release(system_key *key) { (void)key; }

static inline system_dict *system_dict_new(void) {
  return g_hash_table_new_full(SYSTEM_HASH, SYSTEM_EQUAL, NULL, g_free);
}
static inline void system_dict_free(system_dict *dict) { g_hash_table_destroy(dict); }
static inline void system_dict_set(system_dict *dict, system_key *key, int64_t value) {
  int64_t *number = g_malloc(sizeof *number);
  *number = value;
  (void)g_hash_table_insert(dict, (gpointer)(uintptr_t)key, number);
}
static inline int64_t system_dict_get(system_dict *dict, system_key *key) {
  return *(const int64_t *)g_hash_table_lookup(dict, key);
}

/* GPtrArray, of numbers that it frees unless another has a use for them; nobody counts. */
#ifndef SYSTEM_NO_LIST
#define SYSTEM_HAS_LIST 1
typedef GPtrArray system_list;
typedef int64_t system_item;
static inline system_item *system_item_new(int64_t value) {
  int64_t *number = g_malloc(sizeof *number);
  *number = value;
  return number;
}
static inline int64_t system_item_value(const system_item *item) { return *item; }
static inline void system_item_release(system_item *item) { (void)item; }
static inline system_list *system_list_new(void) { return g_ptr_array_new(); }
static inline void system_list_free(system_list *list) { (void)g_ptr_array_free(list, TRUE); }
static inline void system_list_append(system_list *list, system_item *item) {
  g_ptr_array_add(list, item);
}
static inline system_item *system_list_get(system_list *list, uint32_t i) {
  return g_ptr_array_index(list, i);
}
#endif

static inline void system_safepoint(void) {}
static inline void system_wait_begin(void) {}
static inline void system_wait_end(void) {}

#endif
