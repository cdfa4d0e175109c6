/* SPDX-License-Identifier: MIT */
/* From an object's address to its control block: liburcu's lock-free hash table, in shards.
 *
 * cds_lfht asks for grace periods from the threads that use it. It gets gyre's: an operation of
 * this library passes no safepoint, so each look-up, insertion and removal is a read-side critical
 * section as it stands, and what was taken out is freed by gyre__defer().
 *
 * How it grows. With CDS_LFHT_AUTO_RESIZE it would start a worker thread of its own, with fork
 * handlers and a call_rcu of its own; we do without and call cds_lfht_resize() ourselves, in the
 * thread whose insertion makes it necessary. Growing never waits for a grace period (shrinking
 * does: we never shrink), and others insert, find and remove meanwhile. But a step that adds 8,192
 * buckets or more is spread over new threads, one a processor. So there are SHARDS tables of at
 * most BUCKETS_MAX buckets, whose last step adds half of that. (Measured with three million
 * objects: the last step took 1.6 ms of processor time at worst.)
 * Beyond SHARDS * BUCKETS_MAX * CHAIN objects (two million) the chains become
 * longer, which only making a weak reference and dying notice; an upgrade does not look anything
 * up.
 *
 * Memory. Buckets come from malloc(). liburcu aborts when that fails, so we ask malloc() for as
 * much beforehand, and report ENOMEM or do not grow if it has none. What is left is a race: another
 * thread may take the last memory in between. The first table that liburcu ever makes sets up
 * variables of its own that are not atomic, so one is made under pthread_once(), and the shards are
 * made as they are needed, without a lock.
 *
 * In an arena there is no malloc(), and the 0.13 of liburcu takes its memory from nowhere else: there
 * bounded.c stands for all of this.
 *
 * fork(). Nothing here holds a lock, but for the shard's `growing` and liburcu's mutex inside it.
 * In the child a thread that is lost (lib/thread/fork.c) may have been inside any of these
 * operations. Insertion and removal are lock-free, so they are then either done or not, and others
 * go on; growing stays claimed, so this shard keeps its size.
 *
 * ThreadSanitizer sees no access that liburcu makes, since that is not instrumented, and none of
 * its fences. It is told of the one order that we rely on: what was written into a block before it
 * was added comes before what a look-up does with it. After that, everything in a block but the
 * address it is compared by is used under its lock, and blocks are reused after a grace period;
 * that much it sees by itself.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include <urcu/flavor.h>

#include "lib/weak/control.h"

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
#define BUCKETS_MIN 32
/* 8192 / 2 is the largest step, just below what liburcu would give to threads. */
#define BUCKETS_MAX 8192
/* Objects a bucket before the shard grows. */
#define CHAIN 2
/* More than sizeof(struct cds_lfht), which liburcu does not tell. */
#define HEAD_BYTES 4096

static struct shard {
  /* struct cds_lfht, NULL until the first insertion; then it stays. */
  gyre__atomic_ptr table;
  /* Control blocks in it, and its buckets. Others may see either a little late. */
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

/* Different for different addresses: both steps can be undone. */
static unsigned long hash_of(const void *object) {
  uint64_t hash = (uint64_t)(uintptr_t)object * UINT64_C(0x9E3779B97F4A7C15);
  return (unsigned long)(hash ^ hash >> 32);
}

/* From the hash's upper end; the tables use the lower. */
static struct shard *shard_of(unsigned long hash) { return &shards[hash >> 40 & (SHARDS - 1)]; }

static struct cds_lfht *shard_table(struct shard *shard) {
  /* acquire: the table behind the pointer; pairs with shard_open(). */
  return (struct cds_lfht *)gyre__load_acquire(&shard->table);
}

/* Will the next malloc() of so much succeed? */
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
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  (void)pthread_once(&once, liburcu_setup);
  table = table_new();
  void *expected = NULL;
  GYRE_WINDOW("weak/shard_made");
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
  struct cds_lfht *table = shard_table(shard_of(hash));
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
  struct shard *shard = shard_of(hash);
  struct cds_lfht *table = shard_open(shard);
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
  struct shard *shard = shard_of(hash_of(object));
  int result = cds_lfht_del(shard_table(shard), &control->node);
  GYRE_REQUIRE(result == 0, "the control block of %p was not in the table of weak references",
               object);
  /* relaxed: a figure. */
  gyre__fetch_sub_relaxed(&shard->count, 1);
}

void gyre__weak_table_grow(void *object) {
  if (gyre__arena_on) return;
  struct shard *shard = shard_of(hash_of(object));
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
  GYRE_WINDOW("weak/grown");
  /* release: pairs with the acquire above. */
  gyre__store_release(&shard->growing, 0);
}

void gyre__weak_table_fork_child(void) { gyre__weak_bounded_fork_child(); }

size_t gyre__weak_object_count(void) {
  size_t count = gyre__weak_bounded_count();
  /* relaxed: a figure. */
  for (int i = 0; i < SHARDS; i++)
    count += gyre__load_relaxed(&shards[i].count);
  return count;
}
