/* SPDX-License-Identifier: MIT */
/* The intern table: of each value one string, found by its bytes, and not kept alive.
 *
 *     table: hash -> entry --- string (uncounted) ---> gyre_str
 *
 * liburcu's lock-free hash table, in shards: lib/weak/shards.c says how it gets our grace periods, why there
 * are shards, and how they grow. A look-up passes no safepoint, so what it finds stays
 * readable until it returns. For that it runs no program code: it may count an object in vain that has come
 * into the place of a dying string, and giving that back may kill it. So a look-up ends where that happens,
 * and begins again when the object was given back.
 *
 * An entry refers to its string without a count. The string dies by one atomic step (its type has
 * GYRE_TYPE_TRY_RETAIN). Until then it can be counted and is found; from then on it cannot, and its entry
 * does not match any more, whatever its bytes. Its destroy hook then takes the entry out, perhaps much
 * later; meanwhile there may be a second entry with the same value, for a new string. So:
 *
 *     a dying string is never handed out: what is returned was counted;
 *     no two living strings are equal: cds_lfht_add_unique() adds only if no entry matches, in one
 *     step, and an entry whose string lives matches.
 *
 * Those who look at the heap count strings by their address, too (lib/collect/walk.c, lib/observe/copy.c); such
 * a count fails or succeeds by the same step as a look-up's, so the rules hold. Frozen with stopped counts, a
 * string is found and cannot die; its entry goes when counting goes on and finds no reference.
 *
 * Progress: look-ups, insertions and removals are lock-free. A hit writes the count of its string and
 * nothing else: two threads that look for different strings share no line that is written, and two that
 * look for the same one share its count, unless it is immortal.
 */
#include <errno.h>

#include "lib/value/value.h"
#include "lib/weak/shards.h"

#define SHARDS 64

struct entry {
  struct cds_lfht_node node; /* liburcu's */
  gyre_uncounted string;
  gyre_deferred deferred; /* once it is out of the table */
};

static struct gyre__shard shards[SHARDS];

static struct gyre__shard *shard_of(uint64_t hash) { return gyre__shard_of(shards, SHARDS, hash); }

/* ---- finding, adding, removing ---- */

struct wanted {
  const char *data;
  size_t length;
  gyre_str *found; /* counted, if an entry matched */
  void *late;      /* counted in vain; `found` is NULL then */
};

static struct entry *entry_of(struct cds_lfht_node *node) {
  return (struct entry *)(void *)((char *)node - offsetof(struct entry, node));
}

/* liburcu asks this of entries with the same hash, and returns the first that matches: or where it has to
 * end, with nothing found. */
static int matches(struct cds_lfht_node *node, const void *key) {
  struct wanted *wanted = (struct wanted *)(uintptr_t)key;
  gyre_str *s = gyre_uncounted_look(&entry_of(node)->string, &wanted->late);
  if (GYRE_UNLIKELY(wanted->late != NULL)) return 1;
  if (s == NULL) return 0; /* dying */
  if (GYRE_LIKELY(gyre_str_length(s) == wanted->length &&
                  memcmp(gyre_str_data(s), wanted->data, wanted->length) == 0)) {
    wanted->found = s;
    return 1;
  }
  gyre_release(s);
  return 0;
}

static int matches_object(struct cds_lfht_node *node, const void *key) {
  return gyre_uncounted_is(&entry_of(node)->string, key);
}

static void entry_free(gyre_deferred *node) {
  gyre_free((char *)node - offsetof(struct entry, deferred));
}

static void late_release(struct wanted *wanted) {
  gyre_release(wanted->late);
  wanted->late = NULL;
}

/* Adds a string for what was not found; or another thread was faster. */
static gyre_str *add(struct wanted *wanted, uint64_t hash) {
  struct gyre__shard *shard = shard_of(hash);
  struct cds_lfht *table = gyre__shard_open(shard);
  if (table == NULL) return NULL;
  struct entry *entry = gyre_malloc(sizeof *entry);
  gyre_str *s = entry != NULL ? gyre__str_make(&gyre_interned_type, wanted->length, 0) : NULL;
  if (s == NULL) {
    gyre_free(entry);
    errno = ENOMEM;
    return NULL;
  }
  memcpy((char *)(s + 1), wanted->data, wanted->length);
  /* relaxed: nobody else has the string. */
  gyre__store_relaxed(&s->gyre__hash, hash);
  gyre_uncounted_set(&entry->string, s);
  GYRE_WINDOW("intern/adding");
  struct cds_lfht_node *there;
  while ((there = cds_lfht_add_unique(table, hash, matches, wanted, &entry->node)) !=
             &entry->node &&
         wanted->found == NULL)
    late_release(wanted);
  if (there != &entry->node) {
    gyre_free(entry);
    gyre_release(s);
    return wanted->found;
  }
  /* relaxed: a figure. */
  gyre__fetch_add_relaxed(&shard->count, 1);
  gyre__shard_grow(shard);
  return s;
}

/* The string is dead: takes its entry out, unless it never came into the table. */
static void string_destroy(void *object) {
  gyre_str *s = object;
  uint64_t hash = gyre_str_hash(s);
  struct gyre__shard *shard = shard_of(hash);
  struct cds_lfht *table = gyre__shard_table(shard);
  struct cds_lfht_iter at;
  GYRE_WINDOW("intern/dying");
  cds_lfht_lookup(table, hash, matches_object, s, &at);
  if (at.node == NULL) return;
  struct entry *entry = entry_of(at.node);
  gyre_uncounted_set(&entry->string, NULL);
  (void)cds_lfht_del(table, &entry->node);
  /* relaxed: a figure. */
  gyre__fetch_sub_relaxed(&shard->count, 1);
  (void)gyre_defer(&entry->deferred, entry_free); /* a thread that releases is attached */
}

gyre_type gyre_interned_type = {.name = "gyre_str interned",
                                .size = sizeof(gyre_str),
                                .element_size = 1,
                                .destroy = string_destroy,
                                .hash = gyre__str_type_hash,
                                .equal = gyre__str_type_equal,
                                .flags = GYRE_TYPE_TRY_RETAIN};

/* ---- the end of an arena ---- */

/* Takes the entries, which lie in the arena, out of a table and gives its buckets back. */
static void shard_forget(struct gyre__shard *shard) {
  struct cds_lfht *table = gyre__shard_table(shard);
  if (table == NULL) return;
  struct cds_lfht_iter at;
  for (cds_lfht_first(table, &at); at.node != NULL; cds_lfht_next(table, &at))
    (void)cds_lfht_del(table, at.node);
  int result = cds_lfht_destroy(table, NULL);
  GYRE_REQUIRE(result == 0, "a table of interned strings cannot be freed: %d", result);
  /* relaxed: no thread is attached. */
  gyre__store_relaxed(&shard->table, NULL);
  gyre__store_relaxed(&shard->count, 0);
  gyre__store_relaxed(&shard->buckets, 0);
}

static void forget(void) {
  for (int i = 0; i < SHARDS; i++)
    shard_forget(&shards[i]);
}

static void __attribute__((constructor)) intern_init(void) { gyre__forget_add(forget); }

/* ---- what others call ---- */

gyre_str *gyre_intern(const char *data, size_t length) {
  if (length <= 1) return gyre__str_single(data, length);
  /* Its look-ups are safe from the memory of what they find only in an attached thread. */
  if (GYRE_UNLIKELY(gyre_thread_current() == NULL) && gyre_thread_attach() == NULL) {
    errno = ENOMEM;
    return NULL;
  }
  struct wanted wanted = {data, length, NULL, NULL};
  uint64_t hash = gyre__str_hash_bytes(data, length);
  struct cds_lfht *table = gyre__shard_table(shard_of(hash));
  if (GYRE_LIKELY(table != NULL)) {
    struct cds_lfht_iter at;
    for (;; late_release(&wanted)) {
      cds_lfht_lookup(table, hash, matches, &wanted, &at);
      if (at.node == NULL) break;
      if (GYRE_LIKELY(wanted.found != NULL)) return wanted.found;
    }
  }
  return add(&wanted, hash);
}

gyre_str *gyre_intern_ex(const char *data, size_t length, unsigned flags) {
  if (flags & ~(unsigned)GYRE_INTERN_IMMORTAL) {
    errno = EINVAL;
    return NULL;
  }
  gyre_str *s = gyre_intern(data, length);
  if (s != NULL && flags & GYRE_INTERN_IMMORTAL) (void)gyre_immortalize(s);
  return s;
}

gyre_str *gyre_intern_str(gyre_str *s) {
  if (gyre_str_is_interned(s)) return gyre_retain(s);
  return gyre_intern(gyre_str_data(s), gyre_str_length(s));
}

size_t gyre_intern_count(void) { return gyre__shards_count(shards, SHARDS); }
