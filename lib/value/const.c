/* SPDX-License-Identifier: MIT */
/* Constants: a hash table with open addressing that only grows.
 *
 * Entries are never removed, so a reader needs no lock: it borrows the table, walks from the hash's place to
 * an empty entry, and looks at entries whose object is there. A full table is replaced by one twice as
 * large; the old one stays, since somebody may be reading it, and all old ones together are smaller than
 * the present one. Tables are mappings of their own: they live as long as the process, or the arena.
 */
#include <gyre/root.h>

#include <errno.h>

#include <gyre/hash.h>

#include "lib/collect/collect.h"

struct entry {
  /* -- constant once the object is there -- */
  const gyre_type *type;
  int64_t key;
  /* NULL: empty. Written last, under the lock. */
  gyre__atomic_ptr object;
};

struct table {
  size_t mask; /* entries - 1 */
  struct entry at[];
};
#define ENTRIES_MIN 128

static struct {
  gyre__lock lock;
  /* struct table, NULL until the first constant. Written under the lock. */
  gyre__atomic_ptr table;
  size_t count; /* under the lock */
} consts;

/* The entry for a key in a table and its object, or the empty one where it would be and NULL. The object is
 * looked at once: an entry that was empty may be filled with another key's at any moment. */
static struct entry *find(struct table *table, const gyre_type *type, int64_t key, void **object) {
  uint64_t words[2] = {(uintptr_t)type, (uint64_t)key};
  for (size_t i = (size_t)gyre_hash_bytes(words, sizeof words);; i++) {
    struct entry *e = &table->at[i & table->mask];
    /* acquire: type and key, and the object itself; pairs with the release in entry_set(). */
    *object = gyre__load_acquire(&e->object);
    GYRE_WINDOW("const/looked");
    if (*object == NULL || (e->type == type && e->key == key)) return e;
  }
}

void *gyre_const_get(const gyre_type *type, int64_t key) {
  /* acquire: the table's contents; pairs with table_grow(). */
  struct table *table = (struct table *)gyre__load_acquire(&consts.table);
  if (table == NULL) return NULL;
  void *object;
  (void)find(table, type, key, &object);
  return object;
}

/* ---- under the lock ---- */

static void entry_set(struct entry *e, const gyre_type *type, int64_t key, void *object) {
  e->type = type;
  e->key = key;
  /* release: pairs with find(). */
  gyre__store_release(&e->object, object);
}

/* A table with room for one more, published; NULL if there is no memory. */
static struct table *table_grow(struct table *old) {
  if (old != NULL && consts.count < old->mask / 2) return old;
  size_t entries = old != NULL ? 2 * (old->mask + 1) : ENTRIES_MIN;
  struct table *table =
      gyre__os_map(sizeof *table + entries * sizeof *table->at, gyre__os_page_size());
  if (table == NULL) return NULL;
  table->mask = entries - 1;
  for (size_t i = 0; old != NULL && i <= old->mask; i++) {
    const struct entry *e = &old->at[i];
    /* relaxed: written under the lock. */
    void *object = gyre__load_relaxed(&e->object);
    void *none;
    if (object != NULL) entry_set(find(table, e->type, e->key, &none), e->type, e->key, object);
  }
  /* release: its contents; pairs with gyre_const_get(). */
  gyre__store_release(&consts.table, (void *)table);
  return table;
}

static int const_add(const gyre_type *type, int64_t key, void *object) {
  /* relaxed: written under the lock. */
  struct table *table = table_grow((struct table *)gyre__load_relaxed(&consts.table));
  if (table == NULL) return -ENOMEM;
  void *there;
  struct entry *e = find(table, type, key, &there);
  if (there != NULL) return -EEXIST;
  (void)gyre_immortalize(object);
  entry_set(e, type, key, object);
  consts.count++;
  return 0;
}

int gyre_const_add(gyre_type *type, int64_t key, void *object) {
  if (type == NULL || object == NULL || gyre_type_of(object) != type) return -EINVAL;
  struct gyre__thread *self = gyre__thread_self();
  if (self == NULL) return -errno;
  gyre__lock_parked(self, &consts.lock);
  int result = const_add(type, key, object);
  gyre__lock_give(&consts.lock);
  return result;
}

/* The end of an arena. */
static void forget(void) {
  gyre__store_relaxed(&consts.table, NULL); /* relaxed: no thread is attached. */
  consts.count = 0;
}

static void fork_prepare(void) { gyre__lock_take(&consts.lock); }
static void fork_parent(void) { gyre__lock_give(&consts.lock); }
static void fork_child(void) { gyre__lock_reset(&consts.lock); }

static void __attribute__((constructor)) const_init(void) {
  gyre__thread_hooks.fork_prepare[7] = fork_prepare;
  gyre__thread_hooks.fork_parent[7] = fork_parent;
  gyre__thread_hooks.fork_child[7] = fork_child;
  gyre__forget_add(forget);
}
