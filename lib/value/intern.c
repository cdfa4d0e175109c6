/* SPDX-License-Identifier: MIT */
/* The intern table: of each value one string, found by its bytes, and not kept alive.
 *
 *     table: hash -> entry --- string (uncounted) ---> gyre_str
 *
 * liburcu's lock-free hash table, in shards, as in lib/weak/table.c, which says how it gets our grace
 * periods, why there are shards, and how they grow. A look-up passes no safepoint, so what it finds stays
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
#include <pthread.h>
#include <stdlib.h>

#include <urcu/flavor.h>
#include <urcu/rculfhash.h>

#include "lib/value/value.h"

#define SHARDS 64
#define BUCKETS_MIN 32
/* 8192 / 2 is the largest step, just below what liburcu would give to threads of its own. */
#define BUCKETS_MAX 8192
/* Strings a bucket before the shard grows. */
#define CHAIN 2
/* More than sizeof(struct cds_lfht), which liburcu does not tell. */
#define HEAD_BYTES 4096

struct entry {
  struct cds_lfht_node node; /* liburcu's */
  gyre_uncounted string;
  gyre_deferred deferred; /* once it is out of the table */
};

static struct shard {
  /* struct cds_lfht, NULL until the first insertion; then it stays. */
  gyre__atomic_ptr table;
  /* Entries in it, and its buckets. Others may see either a little late. */
  gyre__atomic_u32 count;
  gyre__atomic_u32 buckets;
  /* 1 while somebody grows it. */
  gyre__atomic_u32 growing;
} __attribute__((aligned(64))) shards[SHARDS];

/* ---- liburcu's view of gyre ---- */

static void nothing(void) {}

static void synchronize(void) { (void)gyre_synchronize(); }

static void call_never(struct rcu_head *head, void (*function)(struct rcu_head *)) {
  (void)head, (void)function;
  gyre__die(__FILE__, __LINE__,
            "liburcu's table used call_rcu, which it does only with CDS_LFHT_AUTO_RESIZE");
}

static const struct rcu_flavor_struct flavor = {
    .read_lock = nothing,
    .read_unlock = nothing,
    .update_call_rcu = call_never,
    .update_synchronize_rcu = synchronize,
    .thread_offline = gyre_park,
    .thread_online = gyre_unpark,
    .register_thread = nothing,
    .unregister_thread = nothing,
};

/* ---- shards ---- */

/* From the hash's upper end; the tables use the lower. */
static struct shard *shard_of(uint64_t hash) { return &shards[hash >> 40 & (SHARDS - 1)]; }

static struct cds_lfht *shard_table(struct shard *shard) {
  /* acquire: the table behind the pointer; pairs with shard_open(). */
  return (struct cds_lfht *)gyre__load_acquire(&shard->table);
}

/* Will the next malloc() of so much succeed? liburcu aborts if it does not. */
static bool memory_is_there(size_t bytes) {
  if (GYRE_FAULT()) return false;
  /* volatile: or the compiler sees that the block is not used, and leaves both calls out. */
  void *volatile block = malloc(bytes);
  bool there = block != NULL;
  free(block);
  return there;
}

static struct cds_lfht *table_new(void) {
  /* 0: no limit, which makes liburcu take its buckets from calloc() step by step. */
  return cds_lfht_new_flavor(BUCKETS_MIN, BUCKETS_MIN, 0, 0, &flavor, NULL);
}

static void liburcu_setup(void) { (void)cds_lfht_destroy(table_new(), NULL); }

/* The shard's table, made if there is none; NULL with errno ENOMEM. */
static struct cds_lfht *shard_open(struct shard *shard) {
  struct cds_lfht *table = shard_table(shard);
  if (GYRE_LIKELY(table != NULL)) return table;
  if (!memory_is_there(HEAD_BYTES + BUCKETS_MIN * sizeof(struct cds_lfht_node))) {
    errno = ENOMEM;
    return NULL;
  }
  /* The first table that liburcu ever makes sets up variables of its own that are not atomic. */
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  (void)pthread_once(&once, liburcu_setup);
  table = table_new();
  void *expected = NULL;
  /* acq_rel: releases the table, or acquires that of the thread that was first. Pairs with
   * shard_table(). */
  if (!gyre__cas_strong_acq_rel(&shard->table, &expected, (void *)table)) {
    (void)cds_lfht_destroy(table, NULL);
    return shard_table(shard);
  }
  /* relaxed: a figure; 0 only keeps others from growing it for a moment. */
  gyre__store_relaxed(&shard->buckets, BUCKETS_MIN);
  return table;
}

static void shard_grow(struct shard *shard) {
  /* relaxed: figures; whoever inserts next looks again. */
  uint32_t buckets = gyre__load_relaxed(&shard->buckets);
  uint32_t count = gyre__load_relaxed(&shard->count);
  if (GYRE_LIKELY(count <= buckets * CHAIN || buckets == 0 || buckets >= BUCKETS_MAX)) return;
  /* acquire: what the last one to grow it did; pairs with the release below. */
  if (gyre__exchange_acquire(&shard->growing, 1) != 0) return;
  /* relaxed: changes only while we hold the claim. */
  buckets = gyre__load_relaxed(&shard->buckets);
  if (count > buckets * CHAIN && buckets < BUCKETS_MAX &&
      memory_is_there(buckets * sizeof(struct cds_lfht_node))) {
    cds_lfht_resize(shard_table(shard), buckets * 2ul);
    /* relaxed: a figure. */
    gyre__store_relaxed(&shard->buckets, buckets * 2);
  }
  /* release: pairs with the acquire above. */
  gyre__store_release(&shard->growing, 0);
}

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
  struct shard *shard = shard_of(hash);
  struct cds_lfht *table = shard_open(shard);
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
  shard_grow(shard);
  return s;
}

/* The string is dead: takes its entry out, unless it never came into the table. */
static void string_destroy(void *object) {
  gyre_str *s = object;
  uint64_t hash = gyre_str_hash(s);
  struct shard *shard = shard_of(hash);
  struct cds_lfht *table = shard_table(shard);
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
static void shard_forget(struct shard *shard) {
  struct cds_lfht *table = shard_table(shard);
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
  struct cds_lfht *table = shard_table(shard_of(hash));
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

size_t gyre_intern_count(void) {
  size_t count = 0;
  /* relaxed: a figure. */
  for (int i = 0; i < SHARDS; i++)
    count += gyre__load_relaxed(&shards[i].count);
  return count;
}
