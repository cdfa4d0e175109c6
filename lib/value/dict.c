/* SPDX-License-Identifier: MIT */
/* Dictionaries: an index into entries that lie in the order in which they came (Raymond Hettinger's
 * compact dictionary, as in CPython since 3.6), read without a lock.
 *
 *     gyre_dict --- newest ---> chunk --- older ---> chunk ... --- older ---> chunk
 *         |                       ^ 32 entries         ^ 16                     ^ 8
 *        view ----> [ base of each chunk | index: positions by hash ]
 *
 * Chunks are objects: what they refer to is counted, and the collectors look through them. Chunk n has room
 * for 8 << n entries, so a position says in which chunk it lies, and a dictionary grows by one more chunk,
 * which doubles it, without moving an entry or touching a count. The *view* is what readers go by: a raw
 * block with pointers into all chunks and the index, a table of 32-bit words, open addressing, linear
 * probing, at most half full:
 *
 *     [ hash bits 32.. | position + 2 ]      0: empty, 1 in the position: an entry that is gone
 *
 * The position takes as many bits as the index's size has; the rest of the word, hash bits, spares a look
 * at nearly every entry that is not the one.
 *
 * "A position is used once." An entry is filled, then its index word is written (release), which publishes
 * it. Deleting marks the index word, then empties the value, then the key. Neither the word nor the
 * position is used again in this view. When all positions are used and many entries are gone, the rest is
 * copied into new chunks with a new view ("compacting"); then the old chunks are emptied.
 *
 * Why a reader needs no lock and no version to compare. It takes the view (acquire) and goes along the
 * words of its hash.
 *
 *     It finds its key at a position and counts the value: the value was the key's at that moment, since no
 *     other key is ever at that position.
 *     It finds no key up to an empty word, and the view is still the dictionary's: the key was absent at some
 *     moment since the reader began. A word that was empty when it was looked at had no word of this key
 *     behind it, and what was passed before never becomes this key's.
 *     The same, and the view is not the dictionary's any more: the entries may have been emptied because
 *     they were copied. It begins again. Likewise if it finds the value empty.
 *     A view that was replaced because of growing or compacting is as it was at that moment, which lies
 *     within the reader's time.
 *
 * A borrowed pointer ends at the thread's next safepoint; a reader passes none. So views and emptied chunks
 * are given up by gyre_defer(), after every reader that may have seen them has passed one. A reader counts
 * nothing but the value, and a key only to compare it with another object of the same hash. What it has
 * counted in vain it gives back, which may run program code and so end what it has borrowed: it looks once
 * (gyre_load_once), and begins again if there is nothing. Then it finds the word marked, or another view,
 * both of which come before a slot is emptied; or the value that has come into the place of the other.
 *
 * Writers hold the object's lock. Under it nothing of the program's is called, unless the program has it over
 * several calls (gyre_dict_lock()): a comparison that needs a
 * type's own function is made without the lock, on counted objects, by a walk that begins again when
 * `serial` says that something was inserted meanwhile. Memory is allocated without it, too.
 */
#include <errno.h>

#include "lib/value/sequence.h"
#include "lib/value/value.h"

struct entry {
  GYRE_SLOT(void) key;
  GYRE_SLOT(void) value;
  uint64_t hash; /* never changes once the entry is published */
};

struct chunk {
  GYRE_SLOT(struct chunk) older;
  struct entry entries[];
};

static gyre_type chunk_type = {.name = "gyre_dict entries",
                               .size = sizeof(struct chunk),
                               .slots = GYRE_SLOTS(struct chunk, older),
                               .element_size = sizeof(struct entry),
                               .element_slots = GYRE_SLOTS(struct entry, key, value)};

#define CHUNK_SHIFT 3 /* 8 entries in the first */
/* A chunk more would need positions beyond what an index word can hold beside its own bits. */
#define CHUNKS_MAX 27

struct view {
  gyre_deferred deferred;
  /* Chunks that go with the view, emptied; counted. */
  struct chunk *retired;
  uint32_t mask; /* of the index */
  uint32_t chunks;
  gyre__atomic_u32 *index;
  /* Where entry -(8 << n) of chunk n would be, so that position + 8 counts from there. */
  uintptr_t base[];
};

struct gyre_dict {
  /* -- under the lock -- */
  GYRE_SLOT(struct chunk) newest;
  uint32_t used; /* positions, entries that are gone included */
  /* -- written under the lock, read by anyone -- */
  gyre__atomic_u32 count;
  /* The id of the thread that has called gyre_dict_lock(), or 0. Only that thread ever finds its own
   * there. */
  gyre__atomic_u32 locker;
  /* struct view; NULL: empty. */
  gyre__atomic_ptr view;
  /* Counts insertions and new views, after they can be seen. */
  gyre__atomic_u64 serial;
};

enum { EMPTY, GONE, POSITIONS }; /* in an index word */

static uint32_t capacity_of(uint32_t chunks) { return (8u << chunks) - 8; }

static struct entry *entry_at(const struct view *view, uint32_t position) {
  uint32_t from_base = position + (1u << CHUNK_SHIFT);
  uint32_t chunk = (31 ^ (uint32_t)__builtin_clz(from_base)) - CHUNK_SHIFT;
  return (struct entry *)(view->base[chunk] + (size_t)from_base * sizeof(struct entry));
}

static struct view *view_of(gyre_dict *dict) {
  /* acquire: the view, and the entries that its index has; pairs with view_publish(). */
  return (struct view *)gyre__load_acquire(&dict->view);
}

static uint64_t serial_of(gyre_dict *dict) {
  /* acquire: the view and the entry that came before; pairs with serial_next(). */
  return gyre__load_acquire(&dict->serial);
}

static void serial_next(gyre_dict *dict) {
  /* relaxed: changes under the lock only. release: after the view or the entry; pairs with
   * serial_of(). */
  gyre__store_release(&dict->serial, gyre__load_relaxed(&dict->serial) + 1);
}

static uint32_t count_of(const gyre_dict *dict) {
  /* relaxed: a figure; exact under the lock. */
  return gyre__load_relaxed(&dict->count);
}

static void count_set(gyre_dict *dict, uint32_t count) {
  /* relaxed: as above. */
  gyre__store_relaxed(&dict->count, count);
}

/* ---- the lock ---- */

/* Does this thread have the lock over several calls? */
static bool is_locker(const gyre_dict *dict) {
  const gyre_thread *self = gyre_thread_current();
  /* relaxed: "mine" is never stale. */
  return self != NULL && gyre__load_relaxed(&dict->locker) == self->id;
}

static void lock(gyre_dict *dict) {
  GYRE__EXPECT_TYPE(dict, &gyre_dict_type);
  if (!is_locker(dict)) gyre_lock(dict);
}

static void unlock(gyre_dict *dict) {
  if (!is_locker(dict)) gyre_unlock(dict);
}

void gyre_dict_lock(gyre_dict *dict) {
  GYRE__EXPECT_TYPE(dict, &gyre_dict_type);
  gyre_lock(dict); /* which attaches the thread */
  /* relaxed: for this thread's own looks. */
  gyre__store_relaxed(&dict->locker, gyre_thread_current()->id);
}

void gyre_dict_unlock(gyre_dict *dict) {
  /* relaxed: as above. */
  gyre__store_relaxed(&dict->locker, 0);
  gyre_unlock(dict);
}

/* ---- hash and equality ---- */

/* Types whose comparison runs no program code. */
static bool is_simple(const gyre_type *type) {
  return type->equal == gyre__str_type_equal || type->equal == gyre__number_equal;
}

static int hash_of(const void *key, uint64_t *hash) {
  if (GYRE_UNLIKELY(key == NULL)) return -EINVAL;
  const gyre_type *type = gyre_type_of(key);
  if (GYRE_LIKELY(type->hash == gyre__str_type_hash)) {
    *hash = gyre_str_hash(key);
    return 0;
  }
  return gyre_hash(key, hash);
}

/* An attached thread, for who reads without a lock. */
static bool is_attached(void) {
  return GYRE_LIKELY(gyre_thread_current() != NULL) || gyre_thread_attach() != NULL;
}

/* ---- finding ---- */

enum result { ABSENT, FOUND, UNSURE };

struct found {
  struct entry *entry;
  /* The entry's word, or the empty one where the key's would go. */
  gyre__atomic_u32 *word;
  /* The entry's key, counted, if it is another object than the one looked for. */
  void *held;
};

static uint32_t tag_of(uint64_t hash) { return (uint32_t)(hash >> 32); }

/* A key of the same hash that is not the same object: FOUND if equal; UNSURE if that is for program code
 * to say, if the hashes are the same by chance, or, but under the lock, if the entry is just going: then what
 * was borrowed may be gone, too. */
static GYRE_NOINLINE enum result key_compare(struct entry *entry, const void *key,
                                             struct found *found) {
  void *other = gyre_load_once(&entry->key);
  if (other == NULL) return UNSURE;
  found->held = other;
  if (is_simple(gyre_type_of(key)) && is_simple(gyre_type_of(other)) && gyre_equal(other, key) == 1)
    return FOUND;
  return UNSURE;
}

/* Looks for the key along the words of its hash, from *at on (the next one afterwards). FOUND stands for
 * the same object, or, unless `identity`, an equal one. */
static inline enum result probe(const struct view *view, const void *key, uint64_t hash,
                                bool identity, struct found *found) {
  uint32_t mask = view->mask, tag = tag_of(hash) & ~mask;
  for (uint32_t i = (uint32_t)hash & mask;; i = (i + 1) & mask) {
    /* acquire: the entry behind the word; pairs with entry_insert() and view_index(). */
    uint32_t word = gyre__load_acquire(&view->index[i]);
    if (word == EMPTY) {
      found->word = &view->index[i];
      return ABSENT;
    }
    word ^= tag; /* leaves the position if the hash bits are the same */
    if (word > mask || word < POSITIONS) continue;
    struct entry *entry = entry_at(view, word - POSITIONS);
    found->entry = entry;
    found->word = &view->index[i];
    if (GYRE_LIKELY(gyre_slot_is(&entry->key, key))) return FOUND;
    if (identity || entry->hash != hash) continue;
    return key_compare(entry, key, found);
  }
}

/* A counted reference to the key in the dictionary that equals this one, asking the types' own functions.
 * 1, 0 if there is none, or a type's error. Without the lock. */
static int match_find(gyre_dict *dict, const void *key, uint64_t hash, void **match) {
again:;
  uint64_t serial = serial_of(dict);
  struct view *view = view_of(dict);
  if (view == NULL) return 0;
  uint32_t mask = view->mask, tag = tag_of(hash) & ~mask;
  for (uint32_t i = (uint32_t)hash & mask;; i = (i + 1) & mask) {
    /* acquire: as in probe(). */
    uint32_t word = gyre__load_acquire(&view->index[i]);
    if (word == EMPTY) break;
    word ^= tag;
    if (word > mask || word < POSITIONS) continue;
    struct entry *entry = entry_at(view, word - POSITIONS);
    if (entry->hash != hash) continue;
    void *other = gyre_load_once(&entry->key);
    if (other == NULL) goto again;
    int equal = gyre_equal(other, key);
    if (equal > 0) {
      *match = other;
      return 1;
    }
    gyre_release(other);
    if (equal < 0) return equal;
    /* What ran may have passed a safepoint, after which the view may be gone; an unchanged serial says
     * that it is still the dictionary's, and has no more than it had. */
    if (serial_of(dict) != serial) goto again;
  }
  /* A view that was replaced may have been emptied. */
  if (serial_of(dict) != serial) goto again;
  return 0;
}

/* Takes the lock and finds the key. FOUND or ABSENT (with no entry and no word if there is no view), or a
 * negative errno value, then without the lock. */
static int lock_and_find(gyre_dict *dict, const void *key, uint64_t hash, struct found *found) {
  *found = (struct found){NULL, NULL, NULL};
  lock(dict);
  struct view *view = view_of(dict);
  enum result result = view == NULL ? ABSENT : probe(view, key, hash, false, found);
  while (result == UNSURE) {
    unlock(dict);
    gyre_release(found->held);
    found->held = NULL;
    uint64_t serial = serial_of(dict);
    void *match = NULL;
    int matched = match_find(dict, key, hash, &match);
    if (matched < 0) return matched;
    GYRE_WINDOW("dict/matched");
    lock(dict);
    view = view_of(dict);
    *found = (struct found){NULL, NULL, match};
    if (matched) /* the entry may be gone, and the key be there again */
      result = view != NULL && probe(view, match, hash, true, found) == FOUND ? FOUND : UNSURE;
    else if (serial_of(dict) != serial)
      result = UNSURE;
    else
      result = view == NULL ? ABSENT : probe(view, key, hash, true, found);
  }
  return (int)result;
}

/* ---- views and chunks ---- */

/* What growing or compacting needs, allocated without the lock. */
struct growth {
  struct view *view;
  struct chunk *chunks; /* one for growing, a chain for compacting; counted */
  uint32_t chunk_count; /* of the view to be */
  bool compact;
};

static void growth_free(struct growth *growth) {
  gyre_free(growth->view);
  gyre_release(growth->chunks);
  *growth = (struct growth){NULL, NULL, 0, false};
}

/* The fewest chunks for so many entries and half as many more. */
static uint32_t chunks_for(uint32_t count) {
  uint32_t chunks = 1;
  while (capacity_of(chunks) < count + count / 2 + 1)
    chunks++;
  return chunks;
}

static struct chunk *chunk_new(uint32_t number) {
  return (struct chunk *)gyre_new_array(&chunk_type, (size_t)1 << (CHUNK_SHIFT + number));
}

/* An empty view; its bases are still to be filled in. */
static struct view *view_new(uint32_t chunks) {
  size_t index = (size_t)2 << (CHUNK_SHIFT + chunks); /* more than twice the capacity */
  size_t head = sizeof(struct view) + chunks * sizeof(uintptr_t);
  struct view *view = gyre_calloc(1, head + index * sizeof(gyre__atomic_u32));
  if (view == NULL) return NULL;
  view->mask = (uint32_t)(index - 1);
  view->chunks = chunks;
  view->index = (gyre__atomic_u32 *)(void *)((char *)view + head);
  return view;
}

static void view_base(struct view *view, uint32_t number, struct chunk *chunk) {
  view->base[number] =
      (uintptr_t)chunk->entries - ((size_t)sizeof(struct entry) << (CHUNK_SHIFT + number));
}

/* Chunks 0 to count - 1 in a chain, entered into the view. */
static struct chunk *chain_new(struct view *view, uint32_t count) {
  struct chunk *newest = NULL;
  for (uint32_t n = 0; n < count; n++) {
    struct chunk *chunk = chunk_new(n);
    if (chunk == NULL) {
      gyre_release(newest);
      return NULL;
    }
    gyre_slot_init(&chunk->older, newest);
    view_base(view, n, chunk);
    newest = chunk;
  }
  return newest;
}

/* Allocates what the plan in `growth` says. 0 or -ENOMEM. */
static int growth_allocate(struct growth *growth) {
  if (growth->chunk_count > CHUNKS_MAX) return -ENOMEM;
  growth->view = view_new(growth->chunk_count);
  if (growth->view != NULL)
    growth->chunks = growth->compact ? chain_new(growth->view, growth->chunk_count)
                                     : chunk_new(growth->chunk_count - 1);
  if (growth->chunks != NULL) return 0;
  gyre_free(growth->view);
  growth->view = NULL;
  return -ENOMEM;
}

/* How the dictionary, all of whose positions are used, has to grow. Under the lock. */
static struct growth growth_plan(const gyre_dict *dict, const struct view *view) {
  struct growth plan = {NULL, NULL, 1, false};
  if (view == NULL) return plan;
  uint32_t wanted = chunks_for(count_of(dict));
  plan.compact = wanted <= view->chunks;
  plan.chunk_count = plan.compact ? wanted : view->chunks + 1;
  return plan;
}

/* Enters a position into an index that readers do not see, or not yet. */
static void view_index(struct view *view, uint64_t hash, uint32_t position) {
  uint32_t mask = view->mask, i = (uint32_t)hash & mask;
  /* relaxed: nobody else writes, and readers come after view_publish(). */
  while (gyre__load_relaxed(&view->index[i]) != EMPTY)
    i = (i + 1) & mask;
  gyre__store_relaxed(&view->index[i], (tag_of(hash) & ~mask) | (position + POSITIONS));
}

static void view_publish(gyre_dict *dict, struct view *view) {
  /* release: the view and its entries; pairs with view_of(). */
  gyre__store_release(&dict->view, (void *)view);
  serial_next(dict);
}

static void view_free(gyre_deferred *node) {
  struct view *view = (struct view *)(void *)node;
  gyre_release(view->retired);
  gyre_free(view);
}
_Static_assert(offsetof(struct view, deferred) == 0, "view_free()");

/* Empties the chunks of a view that has been replaced, which may run program code, and gives both up once
 * no reader sees them. Steals the reference to the chain. Not under the lock. */
static void view_retire(struct view *view, struct chunk *chain) {
  if (view == NULL) return;
  for (struct chunk *chunk = gyre_retain(chain); chunk != NULL;) {
    size_t length = gyre_array_length(chunk);
    for (size_t i = 0; i < length; i++) {
      /* The value first, so that who finds it has found the key before. */
      if (!gyre_slot_is(&chunk->entries[i].value, NULL)) gyre_clear(&chunk->entries[i].value);
      if (!gyre_slot_is(&chunk->entries[i].key, NULL)) gyre_clear(&chunk->entries[i].key);
    }
    struct chunk *older = gyre_load(&chunk->older);
    gyre_release(chunk);
    chunk = older;
  }
  view->retired = chain;
  (void)gyre_defer(&view->deferred, view_free); /* the thread is attached: it had the lock */
}

/* One more chunk. The old view, to be retired, or NULL. */
static struct view *grow(gyre_dict *dict, struct view *old, struct growth *growth) {
  struct view *view = growth->view;
  for (uint32_t n = 0; old != NULL && n < old->chunks; n++)
    view->base[n] = old->base[n];
  view_base(view, growth->chunk_count - 1, growth->chunks);
  for (uint32_t position = 0; position < dict->used; position++) {
    struct entry *entry = entry_at(view, position);
    if (!gyre_slot_is(&entry->value, NULL)) view_index(view, entry->hash, position);
  }
  gyre_slot_init(&growth->chunks->older, gyre_take(&dict->newest));
  (void)gyre_swap(&dict->newest, growth->chunks);
  view_publish(dict, view);
  return old;
}

/* Copies the entries that are not gone from positions below `used` to the beginning of a view that nobody
 * reads yet, each counted. Returns how many. Under the lock of the dictionary that has the old view. */
static uint32_t entries_copy(const struct view *from, uint32_t used, struct view *to) {
  uint32_t count = 0;
  for (uint32_t position = 0; position < used; position++) {
    struct entry *old = entry_at(from, position);
    void *value = gyre_load(&old->value);
    if (value == NULL) continue;
    struct entry *entry = entry_at(to, count);
    entry->hash = old->hash;
    gyre_slot_init(&entry->key, gyre_load(&old->key));
    gyre_slot_init(&entry->value, value);
    view_index(to, entry->hash, count++);
  }
  return count;
}

/* Installs what was allocated, if it is what is needed now, and makes room for one more entry. Under the
 * lock. What is left in *growth is to be retired (`chunks` counted). False if it does not fit. */
static bool growth_install(gyre_dict *dict, struct growth *growth) {
  struct view *old = view_of(dict);
  struct growth plan = growth_plan(dict, old);
  if (growth->view == NULL || plan.compact != growth->compact ||
      plan.chunk_count != growth->chunk_count)
    return false;
  if (plan.compact) {
    dict->used = entries_copy(old, dict->used, growth->view);
    growth->chunks = gyre_swap(&dict->newest, growth->chunks);
    view_publish(dict, growth->view);
    growth->view = old;
  } else {
    growth->view = grow(dict, old, growth);
    growth->chunks = NULL;
  }
  return true;
}

/* ---- writing ---- */

static bool has_room(const gyre_dict *dict, const struct view *view) {
  return view != NULL && dict->used < capacity_of(view->chunks);
}

/* Fills the next position. Under the lock; the key is absent, there is room, `word` is where it goes. */
static void entry_insert(gyre_dict *dict, struct view *view, gyre__atomic_u32 *word, void *key,
                         uint64_t hash, void *value) {
  struct entry *entry = entry_at(view, dict->used);
  entry->hash = hash;
  gyre_store(&entry->key, key);
  gyre_store(&entry->value, value);
  /* release: the entry; pairs with probe(). */
  gyre__store_release(word, (tag_of(hash) & ~view->mask) | (dict->used + POSITIONS));
  dict->used++;
  count_set(dict, count_of(dict) + 1);
  serial_next(dict);
}

/* Puts the value under the key: if it is there already, in its place, or with `keep` not at all. Returns a
 * reference to the value that was there, NULL if none was, or NULL and *error. */
static void *put(gyre_dict *dict, void *key, void *value, bool keep, int *error) {
  uint64_t hash;
  struct found found;
  struct growth growth = {NULL, NULL, 0, false};
  *error = value == NULL ? -EINVAL : hash_of(key, &hash);
  if (*error != 0) return NULL;
  void *old = NULL;
  for (;;) {
    int result = lock_and_find(dict, key, hash, &found);
    if (result < 0) {
      *error = result;
      break;
    }
    if (result == FOUND) {
      if (keep)
        old = gyre_load(&found.entry->value);
      else
        old = gyre_swap(&found.entry->value, gyre_retain(value));
      unlock(dict);
      break;
    }
    struct view *view = view_of(dict);
    if (has_room(dict, view)) {
      entry_insert(dict, view, found.word, key, hash, value);
      unlock(dict);
      break;
    }
    if (growth_install(dict, &growth)) {
      view = view_of(dict);
      (void)probe(view, key, hash, true, &found);
      entry_insert(dict, view, found.word, key, hash, value);
      unlock(dict);
      view_retire(growth.view, growth.chunks);
      return NULL;
    }
    struct growth plan = growth_plan(dict, view);
    unlock(dict);
    growth_free(&growth);
    growth = plan;
    *error = growth_allocate(&growth);
    GYRE_WINDOW("dict/allocated");
    if (*error != 0) break;
  }
  growth_free(&growth);
  gyre_release(found.held);
  return old;
}

int gyre_dict_set(gyre_dict *dict, void *key, void *value) {
  int error;
  gyre_release(put(dict, key, value, false, &error));
  return error;
}

void *gyre_dict_setdefault(gyre_dict *dict, void *key, void *value) {
  int error;
  void *there = put(dict, key, value, true, &error);
  if (there != NULL) return there;
  if (error == 0) return gyre_retain(value);
  errno = -error;
  return NULL;
}

/* Takes the key's entry out. 0 and the value, counted, or an error. */
static int take(gyre_dict *dict, const void *key, void **value) {
  uint64_t hash;
  struct found found;
  int result = hash_of(key, &hash);
  if (result != 0) return result;
  result = lock_and_find(dict, key, hash, &found);
  if (result < 0) return result;
  void *stored = NULL;
  if (result == FOUND) {
    /* relaxed: words change under the lock only. A reader that still sees the old one finds the value
     * gone; pairs with probe(). */
    uint32_t word = gyre__load_relaxed(found.word);
    gyre__store_relaxed(found.word, (word & ~view_of(dict)->mask) | GONE);
    GYRE_WINDOW("dict/gone");
    *value = gyre_take(&found.entry->value);
    stored = gyre_take(&found.entry->key);
    count_set(dict, count_of(dict) - 1);
  }
  unlock(dict);
  gyre_release(stored);
  gyre_release(found.held);
  return result == FOUND ? 0 : -ENOENT;
}

void *gyre_dict_pop(gyre_dict *dict, const void *key) {
  void *value = NULL;
  int error = take(dict, key, &value);
  if (error != 0) errno = -error;
  return value;
}

int gyre_dict_del(gyre_dict *dict, const void *key) {
  void *value = NULL;
  int error = take(dict, key, &value);
  gyre_release(value);
  return error;
}

void gyre_dict_clear(gyre_dict *dict) {
  lock(dict);
  struct view *view = view_of(dict);
  struct chunk *chunks = gyre_take(&dict->newest);
  dict->used = 0;
  count_set(dict, 0);
  view_publish(dict, NULL);
  unlock(dict);
  view_retire(view, chunks);
}

/* ---- reading ---- */

/* What the entry's value is at the moment: counted into *value, unless `value` is NULL. False if it is
 * gone or has just changed; what was borrowed may be gone then. */
static inline bool value_of(struct entry *entry, void **value) {
  if (value == NULL) return !gyre_slot_is(&entry->value, NULL);
  *value = gyre_load_once(&entry->value);
  return *value != NULL;
}

/* get(), asking the types' own functions. */
static GYRE_NOINLINE int get_slow(gyre_dict *dict, const void *key, uint64_t hash, void **value) {
  for (;;) {
    void *match = NULL;
    int matched = match_find(dict, key, hash, &match);
    if (matched <= 0) return matched;
    GYRE_WINDOW("dict/match");
    struct view *view = view_of(dict);
    struct found found = {NULL, NULL, NULL};
    bool there = view != NULL && probe(view, match, hash, true, &found) == FOUND &&
                 value_of(found.entry, value);
    gyre_release(match);
    if (there) return 1;
  }
}

/* 1 and the value under the key, counted, if `value` is not NULL; 0 if it is absent; or an error. */
static inline int get(gyre_dict *dict, const void *key, void **value) {
  GYRE__EXPECT_TYPE(dict, &gyre_dict_type);
  uint64_t hash;
  int error = hash_of(key, &hash);
  if (GYRE_UNLIKELY(error != 0)) return error;
  if (!is_attached()) return -ENOMEM;
  for (;;) {
    struct view *view = view_of(dict);
    if (view == NULL) return 0;
    struct found found = {NULL, NULL, NULL};
    enum result result = probe(view, key, hash, false, &found);
    if (GYRE_UNLIKELY(result == UNSURE)) {
      gyre_release(found.held);
      return get_slow(dict, key, hash, value);
    }
    GYRE_WINDOW("dict/probed");
    bool there = result == FOUND && value_of(found.entry, value);
    bool absent = result == ABSENT && view_of(dict) == view;
    /* Last: it may run program code if the entry has just gone. */
    if (GYRE_UNLIKELY(found.held != NULL)) gyre_release(found.held);
    if (GYRE_LIKELY(there || absent)) return there;
  }
}

/* get() for the most common case: an interned key that is the very object in the dictionary or not there at
 * all, and a thread that counts fast. UNSURE if it is anything else. */
static inline enum result get_interned(gyre_dict *dict, const void *key, void **value) {
  /* relaxed: constant while the object lives, and the type's since it was made. */
  if (GYRE_UNLIKELY(gyre__load_relaxed(&gyre__header_of(key)->type) !=
                    gyre__load_relaxed(&gyre_interned_type.gyre__id)))
    return UNSURE;
  if (GYRE_UNLIKELY(gyre__bias == GYRE__BIAS_NONE)) return UNSURE; /* perhaps not attached */
  const struct view *view = view_of(dict);
  if (view == NULL) return ABSENT;
  /* relaxed: constant once it is there; 0 finds nothing here. */
  uint64_t hash = gyre__load_relaxed(&((const gyre_str *)key)->gyre__hash);
  uint32_t mask = view->mask, tag = tag_of(hash) & ~mask;
  for (uint32_t i = (uint32_t)hash & mask;; i = (i + 1) & mask) {
    /* acquire: as in probe(). */
    uint32_t word = gyre__load_acquire(&view->index[i]);
    if (word == EMPTY) return view_of(dict) == view ? ABSENT : UNSURE;
    word ^= tag;
    if (word > mask || word < POSITIONS) continue;
    struct entry *entry = entry_at(view, word - POSITIONS);
    if (GYRE_LIKELY(gyre_slot_is(&entry->key, key))) {
      *value = gyre_load_once(&entry->value);
      return *value != NULL ? FOUND : UNSURE;
    }
    if (entry->hash == hash) return UNSURE;
  }
}

/* gyre_dict_get() of what get_interned() has not found. */
static GYRE_NOINLINE void *get_rest(gyre_dict *dict, const void *key, enum result result) {
  void *value = NULL;
  int there = result == UNSURE ? get(dict, key, &value) : 0;
  if (there <= 0) errno = there != 0 ? -there : ENOENT;
  return there > 0 ? value : NULL;
}

void *gyre_dict_get(gyre_dict *dict, const void *key) {
  GYRE__EXPECT_TYPE(dict, &gyre_dict_type);
  void *value;
  enum result result = GYRE_LIKELY(key != NULL) ? get_interned(dict, key, &value) : UNSURE;
  if (GYRE_LIKELY(result == FOUND)) return value;
  return get_rest(dict, key, result);
}

int gyre_dict_contains(gyre_dict *dict, const void *key) { return get(dict, key, NULL); }

size_t gyre_dict_length(const gyre_dict *dict) {
  GYRE__EXPECT_TYPE(dict, &gyre_dict_type);
  return count_of(dict);
}

/* ---- the whole ---- */

gyre_dict *gyre_dict_copy(gyre_dict *dict) {
  gyre_dict *copy = gyre_dict_new();
  if (copy == NULL) return NULL;
  struct growth growth = {NULL, NULL, 0, true};
  for (;;) {
    lock(dict);
    uint32_t count = count_of(dict), chunks = chunks_for(count);
    if (count == 0 || growth.chunk_count == chunks) break;
    unlock(dict);
    growth_free(&growth);
    growth.compact = true;
    growth.chunk_count = chunks;
    if (growth_allocate(&growth) != 0) {
      gyre_release(copy);
      errno = ENOMEM;
      return NULL;
    }
    GYRE_WINDOW("dict/copying");
  }
  if (count_of(dict) == 0) {
    unlock(dict);
    growth_free(&growth);
    return copy;
  }
  copy->used = entries_copy(view_of(dict), dict->used, growth.view);
  unlock(dict);
  count_set(copy, copy->used);
  (void)gyre_swap(&copy->newest, growth.chunks);
  view_publish(copy, growth.view);
  return copy;
}

int gyre_dict_update(gyre_dict *dict, gyre_dict *other) {
  gyre_dict_items *items = gyre_dict_snapshot(other);
  if (items == NULL) return -errno;
  int error = 0;
  for (size_t i = 0; error == 0 && i < gyre_dict_items_length(items); i++)
    error = gyre_dict_set(dict, gyre_dict_items_key(items, i), gyre_dict_items_value(items, i));
  gyre_release(items);
  return error;
}

struct item {
  GYRE_SLOT(void) key;
  GYRE_SLOT(void) value;
};

struct gyre_dict_items {
  size_t length; /* never changes; the array may be longer */
  struct item at[];
};

gyre_type gyre_dict_items_type = {.name = "gyre_dict_items",
                                  .size = sizeof(struct gyre_dict_items),
                                  .element_size = sizeof(struct item),
                                  .element_slots = GYRE_SLOTS(struct item, key, value)};

gyre_dict_items *gyre_dict_snapshot(gyre_dict *dict) {
  gyre_dict_items *items = NULL;
  for (size_t room = 0;;) {
    lock(dict);
    size_t count = count_of(dict);
    if (items != NULL && count <= room) break;
    unlock(dict);
    gyre_release(items);
    room = count;
    items = (gyre_dict_items *)gyre_new_array(&gyre_dict_items_type, room);
    if (items == NULL) return NULL;
    GYRE_WINDOW("dict/snapshot");
  }
  struct view *view = view_of(dict);
  for (uint32_t position = 0; position < dict->used; position++) {
    struct entry *entry = entry_at(view, position);
    void *value = gyre_load(&entry->value);
    if (value == NULL) continue;
    struct item *item = &items->at[items->length++];
    gyre_slot_init(&item->key, gyre_load(&entry->key));
    gyre_slot_init(&item->value, value);
  }
  unlock(dict);
  return items;
}

size_t gyre_dict_items_length(const gyre_dict_items *items) { return items->length; }

void *gyre_dict_items_key(gyre_dict_items *items, size_t i) {
  return i < items->length ? gyre_slot_peek(&items->at[i].key) : NULL;
}

void *gyre_dict_items_value(gyre_dict_items *items, size_t i) {
  return i < items->length ? gyre_slot_peek(&items->at[i].value) : NULL;
}

/* Equal if both have the same keys with equal values, each as it was at one moment. */
static int dict_equal(const void *object, const void *other) {
  if (gyre_type_of(other) != &gyre_dict_type) return 0;
  gyre_dict *a = (gyre_dict *)(uintptr_t)object, *b = (gyre_dict *)(uintptr_t)other;
  if (count_of(a) != count_of(b)) return 0;
  gyre_dict_items *items = gyre_dict_snapshot(a);
  if (items == NULL) return -errno;
  int result = items->length == count_of(b);
  for (size_t i = 0; result == 1 && i < items->length; i++) {
    void *value;
    result = get(b, gyre_dict_items_key(items, i), &value);
    if (result <= 0) break;
    result = gyre_equal(gyre_dict_items_value(items, i), value);
    gyre_release(value);
  }
  gyre_release(items);
  return result;
}

/* Nobody reads any more: readers hold the dictionary. */
static void dict_destroy(void *object) {
  gyre_dict *dict = object;
  gyre_free(view_of(dict));
}

gyre_type gyre_dict_type = {.name = "gyre_dict",
                            .size = sizeof(struct gyre_dict),
                            .slots = GYRE_SLOTS(struct gyre_dict, newest),
                            .destroy = dict_destroy,
                            .hash = gyre_hash_refuse,
                            .equal = dict_equal};

gyre_dict *gyre_dict_new(void) { return (gyre_dict *)gyre_new(&gyre_dict_type); }
