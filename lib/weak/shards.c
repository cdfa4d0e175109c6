/* SPDX-License-Identifier: MIT */
/* liburcu's hash table in shards.
 *
 * cds_lfht asks for grace periods from the threads that use it. It gets gyre's: an operation of
 * this library passes no safepoint, so each look-up, insertion and removal is a read-side critical
 * section as it stands, and what was taken out is freed by gyre__defer() or gyre_defer().
 *
 * How it grows. With CDS_LFHT_AUTO_RESIZE it would start a worker thread of its own, with fork
 * handlers and a call_rcu of its own; we do without and call cds_lfht_resize() ourselves, in the
 * thread whose insertion makes it necessary. Growing never waits for a grace period (shrinking
 * does: we never shrink), and others insert, find and remove meanwhile. But a step that adds 8,192
 * buckets or more is spread over new threads, one a processor. So there are some dozens of tables of at
 * most BUCKETS_MAX buckets, whose last step adds half of that. (Measured with three million
 * weak references in 128: the last step took 1.6 ms of processor time at worst.)
 * Beyond BUCKETS_MAX * CHAIN entries a shard the chains become longer.
 *
 * Memory. Buckets come from malloc(). liburcu aborts when that fails, so we ask malloc() for as
 * much beforehand, and report ENOMEM or do not grow if it has none. What is left is a race: another
 * thread may take the last memory in between. The first table that liburcu ever makes sets up
 * variables of its own that are not atomic, so one is made under pthread_once(), and the shards are
 * made as they are needed, without a lock.
 *
 * fork(). Nothing here holds a lock, but for the shard's `growing` and liburcu's mutex inside it.
 * In the child a thread that is lost (lib/thread/fork.c) may have been inside any of these
 * operations. Insertion and removal are lock-free, so they are then either done or not, and others
 * go on; growing stays claimed, so this shard keeps its size.
 */
#include "lib/weak/shards.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include <urcu/flavor.h>

#include <gyre/thread.h>

#define BUCKETS_MIN 32
/* 8192 / 2 is the largest step, just below what liburcu would give to threads. */
#define BUCKETS_MAX 8192
/* Entries a bucket before the shard grows. */
#define CHAIN 2
/* More than sizeof(struct cds_lfht), which liburcu does not tell. */
#define HEAD_BYTES 4096

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

struct cds_lfht *gyre__shard_open(struct gyre__shard *shard) {
  struct cds_lfht *table = gyre__shard_table(shard);
  if (GYRE_LIKELY(table != NULL)) return table;
  if (!memory_is_there(HEAD_BYTES + BUCKETS_MIN * sizeof(struct cds_lfht_node))) {
    errno = ENOMEM;
    return NULL;
  }
  /* The first table that liburcu ever makes: see above. */
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  (void)pthread_once(&once, liburcu_setup);
  table = table_new();
  void *expected = NULL;
  GYRE_WINDOW("weak/shard_made");
  /* acq_rel: releases the table, or acquires that of the thread that was first. Pairs with
   * gyre__shard_table(). */
  if (!gyre__cas_strong_acq_rel(&shard->table, &expected, (void *)table)) {
    (void)cds_lfht_destroy(table, NULL);
    return gyre__shard_table(shard);
  }
  /* relaxed: a figure; 0 only keeps others from growing it for a moment. */
  gyre__store_relaxed(&shard->buckets, BUCKETS_MIN);
  return table;
}

void gyre__shard_grow(struct gyre__shard *shard) {
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
    cds_lfht_resize(gyre__shard_table(shard), buckets * 2ul);
    /* relaxed: a figure. */
    gyre__store_relaxed(&shard->buckets, buckets * 2);
  }
  GYRE_WINDOW("weak/grown");
  /* release: pairs with the acquire above. */
  gyre__store_release(&shard->growing, 0);
}

size_t gyre__shards_count(const struct gyre__shard *shards, size_t n) {
  size_t count = 0;
  /* relaxed: a figure. */
  for (size_t i = 0; i < n; i++)
    count += gyre__load_relaxed(&shards[i].count);
  return count;
}
