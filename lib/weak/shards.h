/* SPDX-License-Identifier: MIT */
/* liburcu's lock-free hash table, in shards, with gyre's grace periods: for tables that the whole process
 * shares (lib/weak/table.c, lib/value/intern.c). shards.c says how they grow and what memory they take. */
#ifndef GYRE_LIB_WEAK_SHARDS_H
#define GYRE_LIB_WEAK_SHARDS_H

#include <urcu/rculfhash.h>

#include "lib/base/base.h"

/* One of an array of tables that its user has, static: zero is an empty one. */
struct gyre__shard {
  /* struct cds_lfht, NULL until the first insertion; then it stays. */
  gyre__atomic_ptr table;
  /* Entries in it, which its user counts, and its buckets. Others may see either a little late. */
  gyre__atomic_u32 count;
  gyre__atomic_u32 buckets;
  /* 1 while somebody grows it. */
  gyre__atomic_u32 growing;
} __attribute__((aligned(64)));

/* Which of n (a power of two up to 2^24) is a hash's: by its upper end; the tables use the lower. */
GYRE_INLINE struct gyre__shard *gyre__shard_of(struct gyre__shard *shards, size_t n,
                                               uint64_t hash) {
  return &shards[hash >> 40 & (n - 1)];
}

/* The shard's table; NULL if there is none yet. */
GYRE_INLINE struct cds_lfht *gyre__shard_table(struct gyre__shard *shard) {
  /* acquire: the table behind the pointer; pairs with gyre__shard_open(). */
  return (struct cds_lfht *)gyre__load_acquire(&shard->table);
}

/* The same, made if there is none; NULL with errno ENOMEM. Lock-free. */
struct cds_lfht *gyre__shard_open(struct gyre__shard *shard);

/* After an insertion: doubles the buckets if they are too few for what is in it, and if there is memory. Not
 * a safepoint; not with a lock held. One thread at a time grows a shard, the others go on. */
void gyre__shard_grow(struct gyre__shard *shard);

/* How many entries n shards have: a figure. */
size_t gyre__shards_count(const struct gyre__shard *shards, size_t n);

#endif
