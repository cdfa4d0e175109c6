/* SPDX-License-Identifier: MIT */
/* Weak maps and sets.
 *
 *     map (an object) --> core --> table: a mask and so many pointers to entries, or none, or GONE
 *                          |
 *                          '--> control block of the map
 *     entry: hash, a slot for what it holds strongly, one or two watches on what it holds weakly
 *
 * The table is an array with linear probing. Readers take no lock: entries, tables and cores are freed
 * after a grace period, so whatever a reader has found stays until its next safepoint. Writers have the
 * core's lock; each change is one store of a pointer, and a table that has become too small is replaced
 * by a copy. (Not liburcu's table, as for control blocks: it calls what compares keys in the middle of
 * its walk, where program code may not run; takes 4 KiB for the smallest map; and beyond 8,192 buckets
 * starts threads to grow.)
 *
 * Program code, which may pass safepoints and come back to the same map, is never run inside. Hashes are
 * asked for first. To compare keys, a reader takes a strong reference to the key, and calls the
 * program's function; afterwards the table may be another, which `rehashes` tells, and the entry is
 * looked up again by the key's identity, which needs no program code. A writer that has found no equal
 * key looks, under the lock, whether any entry has been added since (`version`). Taking a strong
 * reference inside may leave a count that came too late (slot.c, weak.c): it is put aside and given back
 * outside ("late").
 *
 * Who takes an entry out of the table, under the lock, is the one to disarm its watches and to release
 * what it holds: "who unlinks, owns". An entry has a reference from the table and from each armed watch.
 *
 * Deaths. When a weak side dies, its watch is told (callback.c), after the weak references are dead and
 * with no lock held: it unlinks the entry and releases the other side. When the map dies, by its count
 * or condemned by the collector, its clear hook does so for all entries. What is to be seen to is the
 * collector, which must not find a count that it relies on changed under its hands.
 *
 *   A death tells an entry of a map that may be condemned. The entry's strong side may be condemned with
 *   the map, which refers to it. So the map is upgraded first, as from a weak reference: its control
 *   block is there for that. That succeeds, and then the collector sees a living map; or it fails and
 *   the map is condemned, and then the entry is left to the clear hook ("told and linked": the watch's
 *   control block goes, and nobody looks at it any more). If the map has died by its count, the
 *   strong side is not condemned on the map's account, and whoever unlinks first may have it.
 *
 *   A map of kind EPHEMERON dies, or is cleared, and a key of it may be condemned. The value may be
 *   condemned with the key (below). So the key is upgraded first: that succeeds, and the collector sees a
 *   living key; or it fails, and the key is dead. If it has been condemned, and the map has not, then the
 *   watch of the key finishes the entry: in the collecting thread, which holds the key's component with
 *   counts of its own (lib/collect/dead.c). Otherwise the value is condemned neither for the map nor for
 *   the key.
 *
 *
 * Ephemerons
 *
 * A value is alive if it is reachable otherwise, or if both the map and the key are alive. The count
 * that the entry holds on the value is one reference, with two ends from which it comes. For the
 * collector (lib/collect/set.c), with S the set that it looks at:
 *
 *   Counting. The reference is an edge from the map if the map is in S, and otherwise one from the key,
 *   if that is. If neither is, it comes from outside, as it should: both live.
 *   Marking. When a live map is looked at, its values whose keys are live (or not in S) are marked. When
 *   a live key is looked at, its values in maps that are live (or not in S) are marked. Whichever is
 *   looked at second finds the first. A key is found to be one by its control block's watches.
 *   Proving. The value joins the component of the end that the edge is counted for.
 *
 * Why what is condemned is dead (the argument is that of lib/collect/collect.c; v in a component C that
 * was kept). "Removing a reference touches": the slot of an entry is emptied by the slot operations, and
 * v is touched while its thread logs. So at t all counts of v are references from C, or from entries
 * one end of which is in C, the one that they were counted for. What may happen to such an entry after
 * t, when nobody logs any more?
 *
 *   Its key k is in C, its map m is not, and live. Whatever is done to the entry by way of m is done by who
 *   holds k: get, set and remove have found it equal, and therefore upgraded it, or were given it; so do
 *   loops and clearing (above). To hold k, a thread needs an upgrade: under k's control block's lock, and
 *   touching k, so that the collector drops C; or it fails. If m dies, see above.
 *   Its map m is in C, its key k is not. Nobody has m. If k dies, m is upgraded first, see above. If k is
 *   condemned with another component, its watch does nothing while m lives, and m is either condemned as
 *   well (then the same thread frees both, one after the other, with C held), or its component was
 *   dropped and it is found alive.
 *
 * An entry that somebody has unlinked and not emptied yet may still be counted for its key, whose watch is
 * armed; so who unlinks an ephemeron disarms and empties in the same operation, which touches v, or
 * was over before H1. (What finish_later() puts off has no watch any more, and is counted for nobody.)
 * And an entry that is added after it was counted needs a count on its value, which touches. So no count
 * of v changes and nobody gets hold of it. The rules are checked in tests/model (ephemeron.pml). Nothing is asked of the young collections (young.c): maps and keys have
 * weak references, which keeps both out of them, and an entry's count on a value keeps that alive there.
 *
 * What is set apart (lib/collect/apart.c: frozen, untracked) is in no set, and so such an end counts as alive: a
 * frozen map leaves its entries to their keys, and a frozen key to the maps. With both ends frozen the value's
 * count comes from outside. Stopped counts change nothing of this: an end whose last reference has gone is
 * alive until counting goes on, and dies then by its count, as any other.
 *
 * Who looks at the heap beside the collector sees one reference, from the map to the value, since there is one
 * count: an edge of a copy (lib/observe/copy.c), a referrer (lib/collect/walk.c). What is alive in a copy needs
 * both ends, as above (lib/observe/graph.c). They read tables as the collector does, between two safepoints.
 *
 * Values of an ephemeron map that was left while its key was condemned are freed in the same collection.
 * A chain in which each value is the next key is marked in one pass, in proportion to its length.
 */
#include <errno.h>
#include <string.h>

#include <gyre/weakmap.h>

#include "lib/weak/control.h"

/* A set is a map without values. */
#define SET ((enum gyre_weakmap_kind)4)

struct table {
  struct gyre__deferred deferred;
  size_t mask;
  gyre__atomic_ptr at[]; /* entries; written under the core's lock, with release */
};
#define TABLE_MIN 8
static char gone;
#define GONE ((void *)&gone)

struct core {
  /* -- never change -- */
  enum gyre_weakmap_kind kind;
  gyre_weakmap_hash *hash;
  gyre_weakmap_equal *equal; /* NULL: identity */
  struct gyre__weak_control *map;
  /* -- atomic -- */
  /* 0, or the slot id of the writer. What it protects is valid after each store, so that a lock whose
   * holder was lost in a fork is just taken. */
  gyre__atomic_u32 lock;
  /* The map's, and one from each entry. When it is 0 the core goes. */
  gyre__atomic_u32 refs;
  /* Counts insertions, and replacements of the table: written under the lock, read by anyone. */
  gyre__atomic_u32 version, rehashes;
  gyre__atomic_size live; /* entries in the table; likewise */
  gyre__atomic_ptr table; /* struct table; likewise */
  /* -- under the lock -- */
  size_t used; /* places that are not NULL */
};

struct gyre_weakmap {
  gyre__atomic_ptr core; /* NULL while the map is made */
};

struct entry {
  /* -- never change -- */
  struct core *core;
  uint64_t hash;
  /* -- who has unlinked it -- */
  struct entry *next; /* finish_later() */
  /* -- slot operations -- */
  gyre_slot strong; /* the value, of KEY and EPHEMERON; the key, of VALUE */
  /* -- under the core's lock -- */
  bool linked;
  /* -- atomic -- */
  gyre__atomic_u32 refs; /* of the table and of armed watches */
  /* A bit for each watch that has been told; its control block may be gone at the next safepoint. Written
   * under the core's lock. "Told and linked": the side died by its count, and the entry was left to the
   * map's clear hook. */
  gyre__atomic_u32 told;
  struct gyre__deferred deferred;
  /* On the key, or of VALUE on the value; of BOTH on the key and on the value. */
  struct gyre__weak_callback watch[];
};

/* ---- kinds ---- */

static bool key_is_weak(const struct core *core) { return core->kind != GYRE_WEAK_VALUE; }
static bool value_is_weak(const struct core *core) {
  return core->kind == GYRE_WEAK_VALUE || core->kind == GYRE_WEAK_BOTH;
}
static bool has_strong(const struct core *core) {
  return core->kind != GYRE_WEAK_BOTH && core->kind != SET;
}
static unsigned watch_count(const struct core *core) {
  return core->kind == GYRE_WEAK_BOTH ? 2 : 1;
}

static struct gyre__weak_control *key_control(struct entry *e) {
  return gyre__weak_control_of(&e->watch[0].weak);
}
static struct gyre__weak_control *value_control(struct entry *e) {
  return gyre__weak_control_of(&e->watch[watch_count(e->core) - 1].weak);
}

/* ---- strong references from inside ---- */

/* A count that came too late and is to be given back outside; then the operation begins anew. One at a
 * time. */
struct late {
  gyre__header *h;
};

static bool late_settle(struct gyre__objects *self, struct late *late) {
  if (GYRE_LIKELY(late->h == NULL)) return false;
  gyre__header *h = late->h;
  late->h = NULL;
  gyre__release_shared(self, h);
  return true;
}

/* What an entry's slot holds, counted. NULL: it has been emptied, or look into `late`. */
static void *strong_get(struct entry *e, struct late *late) {
  for (;;) {
    /* acquire: the header behind it; pairs with the slot operations. */
    void *object = gyre__load_acquire(&e->strong.gyre__ref);
    if (object == NULL) return NULL;
    gyre__header *h = gyre__header_of(object);
    if (!gyre__try_retain(h)) continue; /* dead, so the slot has changed */
    GYRE_WINDOW("map/counted");
    /* seq_cst: after the count, as in gyre__slot_load_slow(); pairs with slot_change() in slot.c. */
    if (GYRE_LIKELY(gyre__load_seq_cst(&e->strong.gyre__ref) == object)) return object;
    late->h = h;
    return NULL;
  }
}

/* Replaces what the slot of a linked entry holds, under the lock, by a counted reference, and returns it. As
 * gyre__slot_swap(), but that this gives back its spare count, which may serve another thread's queue and so
 * run program code; here that is left to be done outside. */
static void *strong_swap(struct gyre__objects *self, struct entry *e, void *object,
                         struct late *late) {
  for (;;) {
    /* acquire: the header behind it; pairs with the slot operations. */
    void *old = gyre__load_acquire(&e->strong.gyre__ref);
    gyre__header *h = gyre__header_of(old);
    /* relaxed: "mine" is never stale. */
    bool own = gyre__load_relaxed(&h->owner) == self->heap.thread.base.id;
    if (!own && !gyre__try_count(h)) continue;
    if (!own) late->h = h;
    GYRE_WINDOW("map/replacing");
    /* seq_cst: as slot_change() in lib/object/slot.c; pairs with the looks in strong_get(). Nobody else
     * changes the slot. */
    bool changed = gyre__cas_strong_seq_cst(&e->strong.gyre__ref, &old, object);
    GYRE_ASSERT(changed);
    (void)changed;
    if (gyre__is_logging()) gyre__touch(h);
    return old;
  }
}

static void *key_get(struct gyre__objects *self, struct entry *e, struct late *late) {
  if (key_is_weak(e->core)) return gyre__weak_upgrade_late(self, key_control(e), &late->h);
  return strong_get(e, late);
}

static void *value_get(struct gyre__objects *self, struct entry *e, struct late *late) {
  if (value_is_weak(e->core)) return gyre__weak_upgrade_late(self, value_control(e), &late->h);
  return strong_get(e, late);
}

/* Whose key is it? To be compared with an object that the caller holds, whose address is nobody else's. */
static const void *key_address(struct entry *e) {
  /* relaxed: if it is the caller's object, it stays; pairs with gyre__weak_control_kill() and the slot
   * operations. */
  return gyre__load_relaxed(key_is_weak(e->core) ? &key_control(e)->object : &e->strong.gyre__ref);
}

/* ---- the table ---- */

static struct table *table_of(struct core *core) {
  /* acquire: what is in it; pairs with table_replace(). */
  return (struct table *)gyre__load_acquire(&core->table);
}

static struct entry *entry_at(struct table *table, size_t i) {
  /* acquire: the entry behind it; pairs with place_set(). */
  return (struct entry *)gyre__load_acquire(&table->at[i & table->mask]);
}

static void place_set(struct table *table, size_t i, void *entry) {
  /* release: the entry behind it; pairs with entry_at(). */
  gyre__store_release(&table->at[i & table->mask], entry);
}

static size_t place_of(uint64_t hash) {
  hash *= UINT64_C(0x9E3779B97F4A7C15);
  return (size_t)(hash ^ hash >> 32);
}

static uint64_t hash_of(const struct core *core, const void *key) {
  return core->hash != NULL ? core->hash(key) : (uint64_t)(uintptr_t)key >> 4;
}

/* The entry whose key is just this object, which the caller holds; NULL if there is none. */
static struct entry *find_same(struct core *core, const void *key, uint64_t hash) {
  struct table *table = table_of(core);
  for (size_t i = place_of(hash);; i++) {
    struct entry *e = entry_at(table, i);
    if (e == NULL) return NULL;
    if ((void *)e != GONE && e->hash == hash && key_address(e) == key) return e;
  }
}

static uint32_t version_of(struct core *core) {
  /* acquire: before the look at the table; pairs with place_new(). */
  return gyre__load_acquire(&core->version);
}

static uint32_t rehashes_of(struct core *core) {
  /* acquire: before the look at the table; pairs with table_replace(). */
  return gyre__load_acquire(&core->rehashes);
}

/* A key of the map that is equal to this one, counted; NULL if there is none. Runs program code. */
static void *find_equal(struct gyre__objects *self, struct core *core, const void *key,
                        uint64_t hash) {
  struct late late = {NULL};
again:;
  uint32_t rehashes = rehashes_of(core);
  struct table *table = table_of(core);
  for (size_t i = place_of(hash);; i++) {
    struct entry *e = entry_at(table, i);
    if (e == NULL) return NULL;
    if ((void *)e == GONE || e->hash != hash) continue;
    void *other = key_get(self, e, &late);
    if (late_settle(self, &late)) goto again;
    if (other == NULL) continue;
    if (other == key) return other;
    GYRE_WINDOW("map/comparing");
    int equal = core->equal(other, key);
    if (equal) return other;
    gyre_release(other);
    /* If it is the same, the table is still there, until our next safepoint. */
    if (rehashes_of(core) != rehashes) goto again;
  }
}

/* ---- the lock ---- */

static void core_lock(struct gyre__objects *self, struct core *core) {
  uint32_t expected = 0;
  /* acquire: what the last writer did; pairs with core_unlock(). */
  if (GYRE_UNLIKELY(!gyre__cas_strong_acquire(&core->lock, &expected, self->heap.thread.base.id)))
    (void)gyre__weak_word_lock_slow(self, &core->lock);
}

static void core_unlock(struct core *core) {
  /* release: pairs with core_lock(). */
  gyre__store_release(&core->lock, 0);
}

/* ---- cores and entries: their life ---- */

static gyre__atomic_size ephemeron_maps;

bool gyre__weak_has_ephemerons(void) {
  /* relaxed: who makes a map before a collection begins has passed a safepoint since, or is stopped; for
   * a later one it does not matter. */
  return gyre__load_relaxed(&ephemeron_maps) != 0;
}

static struct table *table_new(struct gyre__objects *self, size_t size) {
  size_t bytes = sizeof(struct table) + size * sizeof(gyre__atomic_ptr);
  struct table *table = (struct table *)gyre_thread_malloc(&self->heap.thread.base, bytes);
  if (table == NULL) return NULL;
  memset(table, 0, bytes);
  table->mask = size - 1;
  return table;
}

static void table_free(struct gyre__thread *self, struct gyre__deferred *node) {
  gyre_thread_free(&self->base, node);
}
_Static_assert(offsetof(struct table, deferred) == 0, "table_free()");

static struct core *core_new(struct gyre__objects *self) {
  struct core *core =
      (struct core *)gyre_thread_malloc(&self->heap.thread.base, sizeof(struct core));
  if (core == NULL) return NULL;
  memset(core, 0, sizeof *core);
  struct table *table = table_new(self, TABLE_MIN);
  if (table == NULL) {
    gyre_thread_free(&self->heap.thread.base, core);
    return NULL;
  }
  /* relaxed: nobody else has seen it. */
  gyre__store_relaxed(&core->table, (void *)table);
  gyre__store_relaxed(&core->refs, 1);
  return core;
}

static void core_drop(struct gyre__objects *self, struct core *core) {
  /* acq_rel: releases what we did with it to who frees it, and acquires that; pairs with itself. */
  if (gyre__fetch_sub_acq_rel(&core->refs, 1) != 1) return;
  if (core->map != NULL) gyre__weak_control_drop(self, core->map);
  /* relaxed: a figure. */
  if (core->kind == GYRE_WEAK_EPHEMERON) gyre__fetch_sub_relaxed(&ephemeron_maps, 1);
  gyre_thread_free(&self->heap.thread.base, table_of(core));
  gyre_thread_free(&self->heap.thread.base, core);
}

static void entry_free(struct gyre__thread *self, struct gyre__deferred *node) {
  struct entry *e = (struct entry *)(void *)((char *)node - offsetof(struct entry, deferred));
  struct core *core = e->core;
  gyre_thread_free(&self->base, e);
  core_drop((struct gyre__objects *)self, core);
}

static void entry_drop(struct gyre__objects *self, struct entry *e) {
  /* acq_rel: as in core_drop(). */
  if (gyre__fetch_sub_acq_rel(&e->refs, 1) == 1)
    gyre__defer(&self->heap.thread, &e->deferred, entry_free);
}

static bool was_told(const struct entry *e, unsigned i) {
  /* relaxed: written by us, or under the core's lock, which we have had; else the control block stays
   * until our next safepoint. Pairs with side_died(). */
  return gyre__load_relaxed(&e->told) >> i & 1;
}

/* Disarms the watches and gives up the table's reference. What the entry held is the caller's. */
static void *entry_finish(struct gyre__objects *self, struct entry *e) {
  GYRE_WINDOW("map/unlinked");
  for (unsigned i = 0; i < watch_count(e->core); i++)
    if (!was_told(e, i) && gyre__weak_unwatch(self, &e->watch[i])) entry_drop(self, e);
  void *held = gyre__slot_swap(&e->strong, NULL);
  entry_drop(self, e);
  return held;
}

/* ---- writing, under the lock ---- */

/* The place of an entry that is linked. */
static size_t place_find(struct core *core, const struct entry *e) {
  struct table *table = table_of(core);
  size_t i = place_of(e->hash);
  while (entry_at(table, i) != e)
    i++;
  return i;
}

static void live_add(struct core *core, ptrdiff_t n) {
  /* relaxed: written under the lock; for others a figure. */
  gyre__store_relaxed(&core->live, gyre__load_relaxed(&core->live) + (size_t)n);
}

/* Takes an entry out: true for one caller, whose it then is. */
static bool entry_unlink(struct core *core, struct entry *e) {
  if (!e->linked) return false;
  struct table *table = table_of(core);
  size_t i = place_find(core, e);
  /* Where nothing follows, nothing is looked for. */
  bool last = entry_at(table, i + 1) == NULL;
  place_set(table, i, last ? NULL : GONE);
  core->used -= last;
  e->linked = false;
  live_add(core, -1);
  return true;
}

static bool is_full(struct core *core) {
  size_t size = table_of(core)->mask + 1;
  return core->used + 1 > size - size / 4;
}

static void place_new(struct core *core, struct entry *e) {
  struct table *table = table_of(core);
  size_t i = place_of(e->hash);
  struct entry *there;
  while ((there = entry_at(table, i)) != NULL && (void *)there != GONE)
    i++;
  core->used += there == NULL;
  e->linked = true;
  place_set(table, i, e);
  live_add(core, 1);
  /* release: after the entry is in; pairs with version_of(). relaxed: written under the lock. */
  gyre__store_release(&core->version, gyre__load_relaxed(&core->version) + 1);
}

/* Copies the table into a fresh one, which becomes the table; returns the old one. */
static struct table *table_replace(struct core *core, struct table *fresh) {
  struct table *old = table_of(core);
  core->used = 0;
  for (size_t i = 0; i <= old->mask; i++) {
    struct entry *e = entry_at(old, i);
    if (e == NULL || (void *)e == GONE) continue;
    size_t to = place_of(e->hash);
    while (entry_at(fresh, to) != NULL)
      to++;
    place_set(fresh, to, e);
    core->used++;
  }
  /* release: what is in it; pairs with table_of(). */
  gyre__store_release(&core->table, (void *)fresh);
  /* release: pairs with rehashes_of(). relaxed: written under the lock. */
  gyre__store_release(&core->rehashes, gyre__load_relaxed(&core->rehashes) + 1);
  return old;
}

/* Makes room for one entry more, without the lock. False if there is no memory. */
static bool grow(struct gyre__objects *self, struct core *core) {
  /* relaxed: a figure; looked at again under the lock. */
  size_t live = gyre__load_relaxed(&core->live), size = TABLE_MIN;
  while (size < 2 * (live + 1))
    size *= 2;
  struct table *fresh = table_new(self, size);
  if (fresh == NULL) return false;
  GYRE_WINDOW("map/growing");
  core_lock(self, core);
  /* relaxed: under the lock. */
  bool fits = gyre__load_relaxed(&core->live) + 1 < size - size / 4;
  struct table *old = is_full(core) && fits ? table_replace(core, fresh) : NULL;
  core_unlock(core);
  if (old != NULL)
    gyre__defer(&self->heap.thread, &old->deferred, table_free);
  else
    gyre_thread_free(&self->heap.thread.base, fresh);
  return true;
}

/* ---- deaths ---- */

/* Entries whose weak side has died, that wait for what they held to be released by the outermost
 * side_died() of this thread: a value may be the last to refer to a key, and so on. */
static __thread struct {
  bool busy;
  struct entry *first;
} finishing;

static void finish_later(struct gyre__objects *self, struct entry *e) {
  e->next = finishing.first;
  finishing.first = e;
  if (finishing.busy) return;
  finishing.busy = true;
  while ((e = finishing.first) != NULL) {
    finishing.first = e->next;
    gyre_release(entry_finish(self, e));
  }
  finishing.busy = false;
}

static void side_died(struct gyre__objects *self, struct entry *e, unsigned i) {
  struct core *core = e->core;
  GYRE_WINDOW("map/side_died");
  void *map = gyre__weak_upgrade(self, core->map);
  /* Otherwise the map is condemned and this side is not: its clear hook will have the entry. */
  bool take = map != NULL || !gyre__weak_is_condemned(self, core->map) ||
              gyre__weak_is_condemned(self, gyre__weak_control_of(&e->watch[i].weak));
  core_lock(self, core);
  bool mine = take && entry_unlink(core, e);
  /* relaxed: under the lock; see was_told(). */
  gyre__fetch_or_relaxed(&e->told, 1u << i);
  core_unlock(core);
  if (mine) finish_later(self, e);
  gyre_release(map);
  entry_drop(self, e);
}

static struct entry *entry_of(struct gyre__weak_callback *watch, unsigned i) {
  return (struct entry *)(void *)((char *)(watch - i) - offsetof(struct entry, watch));
}
static void first_died(struct gyre__objects *self, struct gyre__weak_callback *watch) {
  side_died(self, entry_of(watch, 0), 0);
}
static void second_died(struct gyre__objects *self, struct gyre__weak_callback *watch) {
  side_died(self, entry_of(watch, 1), 1);
}

/* Unlinks what is at a place of the table, under the lock, if that is ours to do. For an ephemeron this
 * takes a reference to the key, if it lives. */
static bool place_take(struct gyre__objects *self, struct core *core, struct entry *e, void **key,
                       struct late *late) {
  if (core->kind == GYRE_WEAK_EPHEMERON && !was_told(e, 0)) {
    *key = key_get(self, e, late);
    if (late->h != NULL) return false;
    if (*key == NULL && gyre__weak_is_condemned(self, key_control(e)) &&
        !gyre__weak_is_condemned(self, core->map))
      return false; /* its watch will finish it */
  }
  return entry_unlink(core, e);
}

/* Takes all entries out. */
static void entries_drop(struct gyre__objects *self, struct core *core) {
  struct late late = {NULL};
  uint32_t rehashes = rehashes_of(core);
  for (size_t i = 0;; i++) {
    core_lock(self, core);
    if (rehashes_of(core) != rehashes) {
      rehashes = rehashes_of(core);
      i = 0;
    }
    struct table *table = table_of(core);
    struct entry *e = NULL;
    for (; i <= table->mask; i++) {
      e = entry_at(table, i);
      if (e != NULL && (void *)e != GONE) break;
    }
    bool end = i > table->mask;
    void *key = NULL;
    bool mine = !end && place_take(self, core, e, &key, &late);
    core_unlock(core);
    if (mine) gyre_release(entry_finish(self, e));
    gyre_release(key);
    if (late_settle(self, &late)) i--; /* once more */
    if (end) return;
  }
}

/* ---- the map as an object ---- */

static struct core *core_of(const void *map) {
  /* acquire: what is behind it; pairs with map_new(). */
  return (struct core *)gyre__load_acquire(&((const struct gyre_weakmap *)map)->core);
}

/* Values of ephemerons are not the map's alone: the collector asks for them in other ways. */
static int map_visit(void *object, gyre_visitor *visitor, void *arg) {
  struct core *core = core_of(object);
  if (core == NULL || !has_strong(core) || core->kind == GYRE_WEAK_EPHEMERON) return 0;
  struct table *table = table_of(core);
  for (size_t i = 0; i <= table->mask; i++) {
    struct entry *e = entry_at(table, i);
    if (e == NULL || (void *)e == GONE) continue;
    /* acquire: the header of a large object behind it; pairs with the slot operations. */
    void *target = gyre__load_acquire(&e->strong.gyre__ref);
    if (target == NULL) continue;
    int result = visitor(target, arg);
    if (result != 0) return result;
  }
  return 0;
}

static void map_clear(void *object) {
  struct core *core = core_of(object);
  if (core == NULL) return;
  struct gyre__objects *self = gyre__objects_self();
  entries_drop(self, core);
  core_drop(self, core);
}

static gyre_type map_type = {
    .name = "gyre_weakmap",
    .size = sizeof(struct gyre_weakmap),
    .visit = map_visit,
    .clear = map_clear,
};

/* The same, of kind EPHEMERON. */
static gyre_type ephemeron_type = {
    .name = "gyre_weakmap of ephemerons",
    .size = sizeof(struct gyre_weakmap),
    .visit = map_visit,
    .clear = map_clear,
};

static gyre_weakmap *map_new(enum gyre_weakmap_kind kind, gyre_weakmap_hash *hash,
                             gyre_weakmap_equal *equal) {
  struct gyre__objects *self = (struct gyre__objects *)gyre__thread_self();
  struct core *core = self != NULL ? core_new(self) : NULL;
  if (core == NULL) {
    errno = ENOMEM;
    return NULL;
  }
  core->kind = kind;
  core->hash = hash;
  core->equal = equal;
  /* relaxed: a figure; see gyre__weak_has_ephemerons(). */
  if (kind == GYRE_WEAK_EPHEMERON) gyre__fetch_add_relaxed(&ephemeron_maps, 1);
  gyre_type *type = kind == GYRE_WEAK_EPHEMERON ? &ephemeron_type : &map_type;
  struct gyre_weakmap *map = (struct gyre_weakmap *)gyre_new(type);
  core->map = map != NULL ? gyre__weak_control_hold(self, map) : NULL;
  if (core->map == NULL) {
    gyre_release(map);
    core_drop(self, core);
    errno = ENOMEM;
    return NULL;
  }
  /* release: pairs with core_of(). */
  gyre__store_release(&map->core, (void *)core);
  return map;
}

gyre_weakmap *gyre_weakmap_new(enum gyre_weakmap_kind kind, gyre_weakmap_hash *hash,
                               gyre_weakmap_equal *equal) {
  if ((unsigned)kind > GYRE_WEAK_EPHEMERON || (hash == NULL) != (equal == NULL)) {
    errno = EINVAL;
    return NULL;
  }
  return map_new(kind, hash, equal);
}

/* The end of an arena: maps that were still alive are gone with it. */
static void forget(void) {
  gyre__store_relaxed(&ephemeron_maps, 0); /* relaxed: no thread is attached. */
}
static void __attribute__((constructor)) map_init(void) { gyre__forget_add(forget); }

/* ---- for the collector ---- */

bool gyre__weak_is_ephemeron_map(const gyre_type *type) { return type == &ephemeron_type; }

void gyre__ephemerons_of_map(const void *map, gyre__ephemeron_fn *fn, void *arg) {
  struct core *core = core_of(map);
  if (core == NULL) return;
  struct table *table = table_of(core);
  for (size_t i = 0; i <= table->mask; i++) {
    struct entry *e = entry_at(table, i);
    if (e == NULL || (void *)e == GONE) continue;
    /* relaxed: only its address is used, or NULL. */
    void *key = gyre__load_relaxed(&key_control(e)->object);
    /* acquire: the header of a large object behind it; pairs with the slot operations. */
    void *value = gyre__load_acquire(&e->strong.gyre__ref);
    if (value != NULL) fn(key, value, arg);
  }
}

static struct entry *next_ephemeron(struct gyre__weak_callback *watch) {
  for (; watch != NULL; watch = watch->next) {
    if (watch->function != NULL || watch->died != first_died) continue;
    struct entry *e = entry_of(watch, 0);
    if (e->core->kind == GYRE_WEAK_EPHEMERON) return e;
  }
  return NULL;
}

bool gyre__weak_has_entries(const struct gyre__weak_control *control) {
  return next_ephemeron(control->callbacks) != NULL;
}

static void ephemerons_of_control(struct gyre__weak_control *control, gyre__ephemeron_fn *fn,
                                  void *arg) {
  for (struct entry *e = next_ephemeron(control->callbacks); e != NULL;
       e = next_ephemeron(e->watch[0].next)) {
    /* relaxed: only its address is used; pairs with gyre__weak_control_kill(). */
    void *map = gyre__load_relaxed(&e->core->map->object);
    /* acquire: as above. */
    void *value = gyre__load_acquire(&e->strong.gyre__ref);
    if (map != NULL && value != NULL) fn(map, value, arg);
  }
}

void gyre__ephemerons_of_key(struct gyre__objects *self, void *key, gyre__ephemeron_fn *fn,
                             void *arg) {
  struct gyre__weak_control *control = gyre__weak_lock(self, key);
  if (control == NULL) return;
  ephemerons_of_control(control, fn, arg);
  gyre__weak_unlock(self, control);
}

void gyre__ephemerons_of_locked_key(const void *key, gyre__ephemeron_fn *fn, void *arg) {
  struct gyre__weak_control *control = gyre__weak_table_find((void *)(uintptr_t)key);
  if (control != NULL) ephemerons_of_control(control, fn, arg);
}

/* ---- making entries ---- */

static bool entry_watch(struct gyre__objects *self, struct entry *e, unsigned i, void *object) {
  if (gyre__weak_watch(self, object, &e->watch[i], i == 0 ? first_died : second_died) != 0)
    return false;
  /* relaxed: others see the entry later. */
  gyre__fetch_add_relaxed(&e->refs, 1);
  return true;
}

/* An entry with its watches armed and its count taken, in no table; NULL if there is no memory. */
static struct entry *entry_new(struct gyre__objects *self, struct core *core, void *key,
                               void *value, uint64_t hash) {
  size_t bytes = sizeof(struct entry) + watch_count(core) * sizeof(struct gyre__weak_callback);
  struct entry *e = (struct entry *)gyre_thread_malloc(&self->heap.thread.base, bytes);
  if (e == NULL) return NULL;
  memset(e, 0, bytes);
  e->core = core;
  e->hash = hash;
  /* relaxed: nobody else has seen it; the watches' locks and the table publish it. */
  gyre__store_relaxed(&e->refs, 1);
  if (has_strong(core)) gyre__slot_init(&e->strong, gyre__retain(key_is_weak(core) ? value : key));
  bool done = entry_watch(self, e, 0, key_is_weak(core) ? key : value);
  bool both = done && (core->kind != GYRE_WEAK_BOTH || entry_watch(self, e, 1, value));
  if (both) {
    /* relaxed: the caller holds the map. */
    gyre__fetch_add_relaxed(&core->refs, 1);
    return e;
  }
  /* Both sides live, so nobody has been told. */
  if (done) (void)gyre__weak_unwatch(self, &e->watch[0]);
  gyre_release(gyre__slot_swap(&e->strong, NULL));
  gyre_thread_free(&self->heap.thread.base, e);
  return NULL;
}

/* ---- operations ---- */

/* The key to go on with: of the map's own keys, the one that is equal. `*held`: a reference to it, to be
 * released; NULL if the caller's key is all there is. */
static const void *key_resolve(struct gyre__objects *self, struct core *core, const void *key,
                               uint64_t hash, void **held) {
  *held = core->equal != NULL ? find_equal(self, core, key, hash) : NULL;
  return *held != NULL ? *held : key;
}

void *gyre_weakmap_get(gyre_weakmap *map, const void *key) {
  if (key == NULL) return NULL;
  struct gyre__objects *self = gyre__objects_self();
  struct core *core = core_of(map);
  uint64_t hash = hash_of(core, key);
  void *held, *value = NULL;
  struct late late = {NULL};
  const void *own = key_resolve(self, core, key, hash, &held);
  do {
    struct entry *e = find_same(core, own, hash);
    GYRE_WINDOW("map/found");
    value = e != NULL ? value_get(self, e, &late) : NULL;
  } while (late_settle(self, &late));
  gyre_release(held);
  return value;
}

/* Does a linked entry's value live? */
static bool has_value(struct entry *e) {
  /* relaxed: may be out of date at once. */
  return !value_is_weak(e->core) || gyre__load_relaxed(&value_control(e)->object) != NULL;
}

static bool contains(gyre_weakmap *map, const void *key) {
  if (key == NULL) return false;
  struct gyre__objects *self = gyre__objects_self();
  struct core *core = core_of(map);
  uint64_t hash = hash_of(core, key);
  void *held;
  const void *own = key_resolve(self, core, key, hash, &held);
  struct entry *e = find_same(core, own, hash);
  bool found = e != NULL && has_value(e);
  gyre_release(held);
  return found;
}

int gyre_weakmap_contains(gyre_weakmap *map, const void *key) { return contains(map, key); }

/* What put() is to do and what has come of it. */
struct put {
  struct gyre__objects *self;
  struct core *core;
  void *key, *value; /* the caller's */
  uint64_t hash;
  bool replace;
  void *held;          /* the map's own key that is equal, counted; NULL if there is none */
  uint32_t version;    /* since before the keys were compared */
  struct entry *fresh; /* an entry for the equal key, or else the caller's; not used yet */
  struct late late;
  void *found;       /* a value that was there, counted; of a set, the member, not counted */
  void *released;    /* to be released */
  struct entry *out; /* an entry that has been replaced */
};

enum put_step { PUT_COMPARE, PUT_MAKE, PUT_GROW, PUT_DONE, PUT_NO_MEMORY };

/* There is an entry for the key. Under the lock. */
static enum put_step put_there(struct put *p, struct entry *e) {
  if (p->core->kind == SET) {
    p->found = p->key;
    return PUT_DONE;
  }
  if (!p->replace) {
    p->found = value_get(p->self, e, &p->late);
    if (p->late.h != NULL) return PUT_COMPARE;
    if (p->found != NULL) return PUT_DONE;
  }
  if (!value_is_weak(p->core)) {
    /* Nobody else empties the slot of an entry that is linked. */
    p->released = strong_swap(p->self, e, gyre__retain(p->value), &p->late);
    return PUT_DONE;
  }
  if (p->fresh == NULL) return PUT_MAKE;
  place_set(table_of(p->core), place_find(p->core, e), p->fresh);
  e->linked = false;
  p->fresh->linked = true;
  p->fresh = NULL;
  p->out = e;
  return PUT_DONE;
}

/* Under the lock. */
static enum put_step put_locked(struct put *p) {
  struct entry *e = find_same(p->core, p->held != NULL ? p->held : p->key, p->hash);
  if (e != NULL) return put_there(p, e);
  /* The equal key has gone, or another may have come. */
  if (p->held != NULL || (p->core->equal != NULL && version_of(p->core) != p->version))
    return PUT_COMPARE;
  if (p->fresh == NULL) return PUT_MAKE;
  if (is_full(p->core)) return PUT_GROW;
  place_new(p->core, p->fresh);
  p->fresh = NULL;
  return PUT_DONE;
}

static void put_discard(struct put *p) {
  if (p->fresh != NULL) gyre_release(entry_finish(p->self, p->fresh));
  p->fresh = NULL;
}

static void put_compare(struct put *p) {
  put_discard(p);
  gyre_release(p->held);
  p->held = NULL;
  p->version = version_of(p->core);
  if (p->core->equal != NULL) p->held = find_equal(p->self, p->core, p->key, p->hash);
}

/* 0 or -ENOMEM. */
static int put(struct put *p) {
  p->hash = hash_of(p->core, p->key);
  enum put_step step = PUT_COMPARE;
  while (step < PUT_DONE) {
    if (step == PUT_COMPARE) put_compare(p);
    if (step == PUT_MAKE)
      p->fresh = entry_new(p->self, p->core, p->held != NULL ? p->held : p->key, p->value, p->hash);
    if ((step == PUT_MAKE && p->fresh == NULL) || (step == PUT_GROW && !grow(p->self, p->core))) {
      step = PUT_NO_MEMORY;
      break;
    }
    GYRE_WINDOW("map/putting");
    core_lock(p->self, p->core);
    step = put_locked(p);
    core_unlock(p->core);
    (void)late_settle(p->self, &p->late);
  }
  put_discard(p);
  if (p->out != NULL) gyre_release(entry_finish(p->self, p->out));
  gyre_release(p->released);
  gyre_release(p->held);
  return step == PUT_DONE ? 0 : -ENOMEM;
}

int gyre_weakmap_set(gyre_weakmap *map, void *key, void *value) {
  if (key == NULL || value == NULL) return -EINVAL;
  struct put p = {.self = gyre__objects_self(), .core = core_of(map), .key = key, .value = value};
  p.replace = true;
  return put(&p);
}

void *gyre_weakmap_get_or_set(gyre_weakmap *map, void *key, void *value) {
  if (key == NULL || value == NULL) {
    errno = EINVAL;
    return NULL;
  }
  void *there = gyre_weakmap_get(map, key);
  if (there != NULL) return there;
  struct put p = {.self = gyre__objects_self(), .core = core_of(map), .key = key, .value = value};
  if (put(&p) != 0) {
    errno = ENOMEM;
    return NULL;
  }
  return p.found != NULL ? p.found : gyre_retain(value);
}

/* Takes the key's entry out. With `value`, also a reference to the value, which must live then. */
static bool take(gyre_weakmap *map, const void *key, void **value) {
  if (key == NULL) return false;
  struct gyre__objects *self = gyre__objects_self();
  struct core *core = core_of(map);
  uint64_t hash = hash_of(core, key);
  struct late late = {NULL};
  struct entry *e;
  void *held, *weak_value = NULL;
  const void *own = key_resolve(self, core, key, hash, &held);
  do {
    core_lock(self, core);
    e = find_same(core, own, hash);
    if (e != NULL && value_is_weak(core)) {
      weak_value = value_get(self, e, &late);
      if (weak_value == NULL) e = NULL; /* dead: its watch will have it */
    }
    if (e != NULL) (void)entry_unlink(core, e);
    core_unlock(core);
  } while (late_settle(self, &late));
  if (e != NULL) {
    void *strong = entry_finish(self, e);
    bool give = value != NULL;
    if (give) *value = value_is_weak(core) ? weak_value : strong;
    gyre_release(give && !value_is_weak(core) ? NULL : strong);
    gyre_release(give ? NULL : weak_value);
  }
  gyre_release(held);
  return e != NULL;
}

void *gyre_weakmap_pop(gyre_weakmap *map, const void *key) {
  void *value = NULL;
  return take(map, key, &value) ? value : NULL;
}

int gyre_weakmap_remove(gyre_weakmap *map, const void *key) { return take(map, key, NULL); }

static size_t live_count(const void *map) {
  /* relaxed: a figure. */
  return gyre__load_relaxed(&core_of(map)->live);
}

size_t gyre_weakmap_len(const gyre_weakmap *map) { return live_count(map); }

void gyre_weakmap_clear(gyre_weakmap *map) { entries_drop(gyre__objects_self(), core_of(map)); }

/* ---- all entries ---- */

struct pair {
  void *key, *value; /* counted; both NULL, or a value that has died */
};

struct snapshot {
  struct pair *pairs;
  size_t count, room;
};

static void snapshot_drop(struct snapshot *s, size_t from) {
  for (size_t i = from; i < s->count; i++) {
    gyre_release(s->pairs[i].key);
    gyre_release(s->pairs[i].value);
  }
  gyre_free(s->pairs);
}

/* False if there is no room for all; a late count ends it too. */
static bool snapshot_fill(struct gyre__objects *self, struct core *core, struct snapshot *s,
                          struct late *late) {
  struct table *table = table_of(core);
  for (size_t i = 0; i <= table->mask; i++) {
    struct entry *e = entry_at(table, i);
    if (e == NULL || (void *)e == GONE) continue;
    if (s->count == s->room) return false;
    struct pair *pair = &s->pairs[s->count];
    *pair = (struct pair){key_get(self, e, late), NULL};
    if (late->h != NULL) return false;
    if (pair->key == NULL) continue;
    s->count++;
    if (core->kind == SET) continue;
    pair->value = value_get(self, e, late);
    if (late->h != NULL) return false;
  }
  return true;
}

/* -ENOMEM, or 0. */
static int snapshot_take(struct gyre__objects *self, struct core *core, struct snapshot *s) {
  for (size_t more = 8;; more *= 2) {
    /* relaxed: a figure. */
    *s = (struct snapshot){.room = gyre__load_relaxed(&core->live) + more};
    s->pairs = gyre_malloc(s->room * sizeof *s->pairs);
    if (s->pairs == NULL) return -ENOMEM;
    struct late late = {NULL};
    bool whole = snapshot_fill(self, core, s, &late);
    GYRE_WINDOW("map/listed");
    (void)late_settle(self, &late);
    if (whole) return 0;
    snapshot_drop(s, 0);
  }
}

/* Calls fn for each entry, or for each key if there are no values. */
static int foreach (const void *map, gyre_weakmap_visitor * fn, gyre_weakset_visitor * fn_set,
                    void *arg) {
  struct core *core = core_of(map);
  struct snapshot s;
  int result = snapshot_take(gyre__objects_self(), core, &s);
  if (result != 0) return result;
  size_t i = 0;
  while (i < s.count && result == 0) {
    struct pair pair = s.pairs[i++];
    if (core->kind == SET)
      result = fn_set(pair.key, arg);
    else if (pair.value != NULL)
      result = fn(pair.key, pair.value, arg);
    gyre_release(pair.key);
    gyre_release(pair.value);
  }
  snapshot_drop(&s, i);
  return result;
}

int gyre_weakmap_foreach(gyre_weakmap *map, gyre_weakmap_visitor *fn, void *arg) {
  return fn != NULL ? foreach (map, fn, NULL, arg) : -EINVAL;
}

bool gyre__weak_is_map(const gyre_type *type) {
  return type == &map_type || type == &ephemeron_type;
}

ptrdiff_t gyre__weakmap_strong(void *map, void ***out) {
  struct core *core = core_of(map);
  struct snapshot s = {0};
  *out = NULL;
  if (!has_strong(core)) return 0;
  if (snapshot_take(gyre__objects_self(), core, &s) != 0) return -ENOMEM;
  /* In place: a pair is two of them. */
  void **list = (void **)(void *)s.pairs;
  ptrdiff_t n = 0;
  for (size_t i = 0; i < s.count; i++) {
    struct pair pair = s.pairs[i];
    void *strong = key_is_weak(core) ? pair.value : pair.key;
    gyre_release(key_is_weak(core) ? pair.key : pair.value);
    if (strong != NULL) list[n++] = strong;
  }
  *out = list;
  return n;
}

static ptrdiff_t refs(gyre_weakmap *map, bool values, gyre_weak ***out) {
  struct snapshot s;
  if (snapshot_take(gyre__objects_self(), core_of(map), &s) != 0) return -ENOMEM;
  gyre_weak **list = gyre_malloc((s.count + 1) * sizeof *list);
  ptrdiff_t n = 0;
  bool failed = list == NULL;
  for (size_t i = 0; i < s.count && !failed; i++) {
    if (s.pairs[i].value == NULL) continue;
    list[n] = gyre_weak_new(values ? s.pairs[i].value : s.pairs[i].key, NULL, NULL);
    failed = list[n] == NULL;
    n += !failed;
  }
  snapshot_drop(&s, 0);
  if (!failed) {
    *out = list;
    return n;
  }
  while (n > 0)
    gyre_weak_free(list[--n]);
  gyre_free(list);
  return -ENOMEM;
}

ptrdiff_t gyre_weakmap_keyrefs(gyre_weakmap *map, gyre_weak ***out) {
  return out != NULL ? refs(map, false, out) : -EINVAL;
}

ptrdiff_t gyre_weakmap_valuerefs(gyre_weakmap *map, gyre_weak ***out) {
  return out != NULL ? refs(map, true, out) : -EINVAL;
}

/* ---- sets ---- */

static gyre_weakmap *map_of(const gyre_weakset *set) { return (gyre_weakmap *)(uintptr_t)set; }

gyre_weakset *gyre_weakset_new(gyre_weakmap_hash *hash, gyre_weakmap_equal *equal) {
  if ((hash == NULL) != (equal == NULL)) {
    errno = EINVAL;
    return NULL;
  }
  return (gyre_weakset *)map_new(SET, hash, equal);
}

int gyre_weakset_add(gyre_weakset *set, void *member) {
  if (member == NULL) return -EINVAL;
  if (contains(map_of(set), member)) return 0;
  struct put p = {.self = gyre__objects_self(), .core = core_of(set), .key = member};
  int result = put(&p);
  return result != 0 ? result : p.found == NULL;
}

int gyre_weakset_remove(gyre_weakset *set, const void *member) {
  return take(map_of(set), member, NULL);
}

int gyre_weakset_contains(gyre_weakset *set, const void *member) {
  return contains(map_of(set), member);
}

void *gyre_weakset_pop(gyre_weakset *set) {
  struct gyre__objects *self = gyre__objects_self();
  struct core *core = core_of(set);
  struct late late = {NULL};
  for (;;) {
    void *member = NULL;
    struct entry *e = NULL;
    core_lock(self, core);
    struct table *table = table_of(core);
    for (size_t i = 0; i <= table->mask && member == NULL && late.h == NULL; i++) {
      e = entry_at(table, i);
      if (e != NULL && (void *)e != GONE) member = key_get(self, e, &late);
    }
    if (member != NULL) (void)entry_unlink(core, e);
    core_unlock(core);
    if (late_settle(self, &late)) continue;
    if (member != NULL) gyre_release(entry_finish(self, e));
    return member;
  }
}

size_t gyre_weakset_len(const gyre_weakset *set) { return live_count(set); }

void gyre_weakset_clear(gyre_weakset *set) { gyre_weakmap_clear(map_of(set)); }

int gyre_weakset_foreach(gyre_weakset *set, gyre_weakset_visitor *fn, void *arg) {
  return fn != NULL ? foreach (set, NULL, fn, arg) : -EINVAL;
}
