/* SPDX-License-Identifier: MIT */
/* From an object's address to its control block: liburcu's lock-free hash table, in shards (shards.c). Only
 * making a weak reference and dying look anything up; an upgrade does not.
 *
 * In an arena there is no malloc(), and the 0.13 of liburcu takes its memory from nowhere else: there
 * bounded.c stands for all of this.
 *
 * ThreadSanitizer sees no access that liburcu makes, since that is not instrumented, and none of
 * its fences. It is told of the one order that we rely on: what was written into a block before it
 * was added comes before what a look-up does with it. After that, everything in a block but the
 * address it is compared by is used under its lock, and blocks are reused after a grace period;
 * that much it sees by itself.
 */
#include "lib/weak/control.h"
#include "lib/weak/shards.h"

#if defined(__SANITIZE_THREAD__)
#define WITH_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WITH_TSAN 1
#endif
#endif

#ifdef WITH_TSAN
#include <sanitizer/tsan_interface.h>
#define tsan_release(address) __tsan_release(address)
#define tsan_acquire(address) __tsan_acquire(address)
#else
#define tsan_release(address) ((void)0)
#define tsan_acquire(address) ((void)0)
#endif

#define SHARDS 128
static struct gyre__shard shards[SHARDS];

/* Different for different addresses: both steps can be undone. */
static unsigned long hash_of(const void *object) {
  uint64_t hash = (uint64_t)(uintptr_t)object * UINT64_C(0x9E3779B97F4A7C15);
  return (unsigned long)(hash ^ hash >> 32);
}

static struct gyre__shard *shard_of(unsigned long hash) {
  return gyre__shard_of(shards, SHARDS, hash);
}

/* ---- finding, adding, removing ---- */

static struct gyre__weak_control *control_of(struct cds_lfht_node *node) {
  return (struct gyre__weak_control *)(void *)((char *)node -
                                               offsetof(struct gyre__weak_control, node));
}

static int matches(struct cds_lfht_node *node, const void *object) {
  /* True: the exchange that linked the block is a full barrier, and liburcu has the block's address
   * from that link. Pairs with tsan_release() in gyre__weak_table_add(). */
  tsan_acquire(node);
  /* relaxed: the caller holds the object, so the block that has its address keeps it; one that is
   * dead has NULL, or had another object's. Pairs with gyre__weak_control_kill(). */
  return gyre__load_relaxed(&control_of(node)->object) == object;
}

struct gyre__weak_control *gyre__weak_table_find(void *object) {
  if (gyre__arena_on) return gyre__weak_bounded_find(object);
  unsigned long hash = hash_of(object);
  struct cds_lfht *table = gyre__shard_table(shard_of(hash));
  if (table == NULL) return NULL;
  struct cds_lfht_iter at;
  cds_lfht_lookup(table, hash, matches, object, &at);
  return at.node != NULL ? control_of(at.node) : NULL;
}

struct gyre__weak_control *gyre__weak_table_add(struct gyre__weak_control *control) {
  if (gyre__arena_on) return gyre__weak_bounded_add(control);
  /* relaxed: our own block still. */
  void *object = gyre__load_relaxed(&control->object);
  unsigned long hash = hash_of(object);
  struct gyre__shard *shard = shard_of(hash);
  struct cds_lfht *table = gyre__shard_open(shard);
  if (table == NULL) return NULL;
  /* True: what we have written comes before the exchange that links the block; see matches(). */
  tsan_release(&control->node);
  struct cds_lfht_node *there = cds_lfht_add_unique(table, hash, matches, object, &control->node);
  /* relaxed: a figure. */
  if (there == &control->node) gyre__fetch_add_relaxed(&shard->count, 1);
  return control_of(there);
}

void gyre__weak_table_remove(struct gyre__weak_control *control, void *object) {
  if (gyre__arena_on) {
    gyre__weak_bounded_remove(control, object);
    return;
  }
  struct gyre__shard *shard = shard_of(hash_of(object));
  int result = cds_lfht_del(gyre__shard_table(shard), &control->node);
  GYRE_REQUIRE(result == 0, "the control block of %p was not in the table of weak references",
               object);
  /* relaxed: a figure. */
  gyre__fetch_sub_relaxed(&shard->count, 1);
}

void gyre__weak_table_grow(void *object) {
  if (!gyre__arena_on) gyre__shard_grow(shard_of(hash_of(object)));
}

void gyre__weak_table_fork_child(void) { gyre__weak_bounded_fork_child(); }

size_t gyre__weak_object_count(void) {
  return gyre__weak_bounded_count() + gyre__shards_count(shards, SHARDS);
}
