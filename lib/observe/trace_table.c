/* SPDX-License-Identifier: MIT */
/* Traces by address: of large blocks and foreign memory, which have no page with marks.
 *
 * Open addressing with linear probing in SHARDS tables, each with a lock of its own; taking one out moves
 * those behind it forward (Knuth, 6.4, algorithm R). A large block costs a hundred nanoseconds and more
 * anyway, and two of them are of one shard once in SHARDS times.
 */
#include <string.h>

#include "lib/observe/trace.h"

#define SHARDS 64u

struct entry {
  uintptr_t address; /* 0: free, unless used */
  bool used;
  struct gyre__traced_large record;
};

static struct shard {
  gyre__lock lock;
  struct entry *entries;
  size_t room, count; /* room is a power of two, or 0 */
} __attribute__((aligned(64))) shards[SHARDS];

static size_t hash_of(uint32_t domain, uintptr_t address) {
  uint64_t h = ((uint64_t)address >> 4 ^ (uint64_t)domain << 48) * UINT64_C(0x9E3779B97F4A7C15);
  return (size_t)(h ^ h >> 29);
}

static struct shard *shard_of(size_t hash) { return &shards[hash >> 8 & (SHARDS - 1)]; }
static size_t home_of(const struct shard *s, size_t hash) { return hash >> 16 & (s->room - 1); }

/* The entry, or the free one where it belongs. The shard has room. */
static struct entry *entry_find(struct shard *s, size_t hash, uint32_t domain, uintptr_t address) {
  size_t at = home_of(s, hash);
  while (s->entries[at].used &&
         (s->entries[at].address != address || s->entries[at].record.domain != domain))
    at = (at + 1) & (s->room - 1);
  return &s->entries[at];
}

static bool shard_grow(struct shard *s) {
  size_t old_room = s->room;
  struct entry *old = s->entries;
  size_t room = old_room == 0 ? gyre__os_page_size() / 64 : old_room * 2;
  struct entry *entries = gyre__os_map(room * sizeof *entries, gyre__os_page_size());
  if (entries == NULL) return false;
  s->entries = entries;
  s->room = room;
  for (size_t i = 0; i < old_room; i++) {
    if (!old[i].used) continue;
    uint32_t domain = old[i].record.domain;
    *entry_find(s, hash_of(domain, old[i].address), domain, old[i].address) = old[i];
  }
  if (old != NULL) gyre__os_unmap(old, old_room * sizeof *old);
  return true;
}

bool gyre__table_put(uint32_t domain, uintptr_t address, const struct gyre__traced_large *record,
                     struct gyre__traced_large *old) {
  size_t hash = hash_of(domain, address);
  struct shard *s = shard_of(hash);
  gyre__lock_take(&s->lock);
  bool done = s->count + 1 <= s->room / 4 * 3 || shard_grow(s);
  if (done) {
    struct entry *e = entry_find(s, hash, domain, address);
    memset(old, 0, sizeof *old);
    if (e->used)
      *old = e->record;
    else
      s->count++;
    *e = (struct entry){.address = address, .used = true, .record = *record};
    e->record.domain = domain;
  }
  gyre__lock_give(&s->lock);
  return done;
}

/* Closes the gap: an entry behind it moves into it unless that is before the entry's own place. */
static void entry_remove(struct shard *s, struct entry *e) {
  size_t mask = s->room - 1, gap = (size_t)(e - s->entries);
  for (size_t at = (gap + 1) & mask; s->entries[at].used; at = (at + 1) & mask) {
    struct entry *next = &s->entries[at];
    size_t home = home_of(s, hash_of(next->record.domain, next->address));
    if (((at - home) & mask) < ((at - gap) & mask)) continue;
    s->entries[gap] = *next;
    gap = at;
  }
  s->entries[gap].used = false;
  s->count--;
}

static bool look(uint32_t domain, uintptr_t address, bool take, struct gyre__traced_large *out) {
  size_t hash = hash_of(domain, address);
  struct shard *s = shard_of(hash);
  gyre__lock_take(&s->lock);
  struct entry *e = s->count != 0 ? entry_find(s, hash, domain, address) : NULL;
  bool found = e != NULL && e->used;
  if (found) {
    *out = e->record;
    if (take) entry_remove(s, e);
  }
  gyre__lock_give(&s->lock);
  return found;
}

bool gyre__table_take(uint32_t domain, uintptr_t address, struct gyre__traced_large *out) {
  return look(domain, address, true, out);
}

bool gyre__table_get(uint32_t domain, uintptr_t address, struct gyre__traced_large *out) {
  return look(domain, address, false, out);
}

bool gyre__table_get_foreign(uintptr_t address, struct gyre__traced_large *out) {
  if (gyre__table_get(GYRE_TRACED_FOREIGN, address, out)) return true;
  bool found = false;
  for (struct shard *s = shards; s < shards + SHARDS; s++) {
    gyre__lock_take(&s->lock);
    for (size_t i = 0; s->count != 0 && i < s->room; i++) {
      const struct entry *e = &s->entries[i];
      if (!e->used || e->address != address || e->record.domain < GYRE_TRACED_FOREIGN ||
          (found && e->record.domain > out->domain))
        continue;
      *out = e->record;
      found = true;
    }
    gyre__lock_give(&s->lock);
  }
  return found;
}

void gyre__table_visit(void (*visit)(const struct gyre__traced_large *record, void *arg),
                       void *arg) {
  for (struct shard *s = shards; s < shards + SHARDS; s++) {
    gyre__lock_take(&s->lock);
    for (size_t i = 0; s->count != 0 && i < s->room; i++)
      if (s->entries[i].used) visit(&s->entries[i].record, arg);
    gyre__lock_give(&s->lock);
  }
}

void gyre__table_clear(void) {
  for (struct shard *s = shards; s < shards + SHARDS; s++) {
    gyre__lock_take(&s->lock);
    if (s->entries != NULL) gyre__os_unmap(s->entries, s->room * sizeof *s->entries);
    s->entries = NULL;
    s->room = s->count = 0;
    gyre__lock_give(&s->lock);
  }
}

size_t gyre__table_bytes(void) {
  size_t bytes = 0;
  for (struct shard *s = shards; s < shards + SHARDS; s++) {
    gyre__lock_take(&s->lock);
    bytes += s->room * sizeof *s->entries;
    gyre__lock_give(&s->lock);
  }
  return bytes;
}

void gyre__table_fork_prepare(void) {
  for (struct shard *s = shards; s < shards + SHARDS; s++)
    gyre__lock_take(&s->lock);
}
void gyre__table_fork_parent(void) {
  for (struct shard *s = shards; s < shards + SHARDS; s++)
    gyre__lock_give(&s->lock);
}
void gyre__table_fork_child(void) {
  for (struct shard *s = shards; s < shards + SHARDS; s++)
    gyre__lock_reset(&s->lock);
}
