/* SPDX-License-Identifier: MIT */
/* The table of weak references in an arena: chains from a fixed number of buckets, under one lock.
 *
 * liburcu's table has its memory from malloc(), which an arena does not have. This one has an eighth of
 * a bucket for each 64 bytes of the arena, made when the first weak reference is, and links control blocks
 * by a word of liburcu's node that is of no use otherwise. A step holds the lock for the length of a
 * chain.
 *
 * fork(): a thread that the child does not have may have been in here; a chain changes by one store, so
 * it is whole before and after, and the lock is made free. A block that was about to be linked, or that
 * was just unlinked, is lost with its thread.
 */
#include <errno.h>

#include "lib/weak/control.h"

#define BUCKETS_LEAST 64u
#define BUCKETS_MOST ((size_t)1 << 20)
#define TABLE_PART 512u

static struct {
  gyre__lock lock;
  /* -- under the lock -- */
  struct cds_lfht_node **buckets;
  size_t room; /* a power of two */
  size_t count;
} table;

static struct gyre__weak_control *control_of(struct cds_lfht_node *node) {
  return (struct gyre__weak_control *)(void *)((char *)node -
                                               offsetof(struct gyre__weak_control, node));
}

static struct cds_lfht_node **bucket_of(const void *object) {
  uint64_t hash = (uint64_t)(uintptr_t)object * UINT64_C(0x9E3779B97F4A7C15);
  return &table.buckets[(hash >> 32) & (table.room - 1)];
}

static bool table_open(void) {
  if (table.buckets != NULL) return true;
  size_t most = gyre__source_share(BUCKETS_MOST, BUCKETS_LEAST, TABLE_PART, sizeof *table.buckets);
  size_t room = BUCKETS_LEAST;
  while (room * 2 <= most)
    room *= 2;
  table.buckets = gyre__os_map(room * sizeof *table.buckets, gyre__os_page_size());
  table.room = room;
  return table.buckets != NULL;
}

/* With the lock held. */
static struct gyre__weak_control *find(const void *object) {
  if (table.buckets == NULL) return NULL;
  for (struct cds_lfht_node *node = *bucket_of(object); node != NULL; node = node->next)
    /* relaxed: as in table.c's matches(). */
    if (gyre__load_relaxed(&control_of(node)->object) == object) return control_of(node);
  return NULL;
}

struct gyre__weak_control *gyre__weak_bounded_find(const void *object) {
  gyre__lock_take(&table.lock);
  struct gyre__weak_control *control = find(object);
  gyre__lock_give(&table.lock);
  return control;
}

struct gyre__weak_control *gyre__weak_bounded_add(struct gyre__weak_control *control) {
  /* relaxed: our own block still. */
  void *object = gyre__load_relaxed(&control->object);
  gyre__lock_take(&table.lock);
  struct gyre__weak_control *there = NULL;
  if (!table_open()) {
    errno = ENOMEM;
  } else if ((there = find(object)) == NULL) {
    struct cds_lfht_node **bucket = bucket_of(object);
    control->node.next = *bucket;
    *bucket = &control->node;
    table.count++;
    there = control;
  }
  gyre__lock_give(&table.lock);
  return there;
}

void gyre__weak_bounded_remove(struct gyre__weak_control *control, const void *object) {
  gyre__lock_take(&table.lock);
  struct cds_lfht_node **link = bucket_of(object);
  while (*link != NULL && *link != &control->node)
    link = &(*link)->next;
  GYRE_REQUIRE(*link != NULL, "the control block of %p was not in the table of weak references",
               object);
  *link = control->node.next;
  table.count--;
  gyre__lock_give(&table.lock);
}

size_t gyre__weak_bounded_count(void) {
  gyre__lock_take(&table.lock);
  size_t count = table.count;
  gyre__lock_give(&table.lock);
  return count;
}

void gyre__weak_bounded_fork_child(void) { gyre__lock_reset(&table.lock); }

/* The end of the arena. */
static void forget(void) {
  table.buckets = NULL;
  table.room = table.count = 0;
}

static void __attribute__((constructor)) bounded_init(void) { gyre__forget_add(forget); }
