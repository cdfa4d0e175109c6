/* SPDX-License-Identifier: MIT */
/* The reserve: address space for huge blocks and for segments of large ones, in granules of a segment's
 * size, and what of it is free at the moment.
 *
 *     runs, by address:   [base, granules, charged, since]   [base, granules, ...]   ...
 *
 * A run that is given back keeps its memory for the purge delay, so that a program that replaces
 * buffers of some MiB does not pay for a page fault every 4 KiB again and again. Then it is unmapped.
 * Neighbours are joined, and have been there since the older of them: so what nobody wants does not stay
 * because something beside it comes and goes. The smallest run that suffices is taken, the lowest of
 * several; what is left of it stays.
 *
 * How much of a run is still there nobody knows: its pages were touched or not. `charged` is what its
 * users had counted as committed, and goes along with it, so that the limit holds for memory that is
 * kept, too. "Charged at the start": who takes a run finds memory in its first `charged` bytes at most. A
 * run of which that cannot be said is `scattered`, and what lies beyond is given back when it is taken.
 *
 * One lock for all: who comes here maps or faults in megabytes next. The list is short (runs that lie
 * apart and were freed within the purge delay), so it is an array that is searched from end to end.
 */
#include <string.h>

#include "lib/heap/page.h"

struct run {
  char *base;
  size_t granules;
  size_t charged;
  uint64_t since_ns;
  bool scattered;
};

static gyre__lock reserve_lock;
static struct run *runs;
static size_t run_count, run_room;

static char *run_end(const struct run *run) {
  return run->base + run->granules * GYRE__SEGMENT_SIZE;
}

static size_t run_bytes(size_t granules) { return granules * GYRE__SEGMENT_SIZE; }

/* ---- the array; with the lock held ---- */

/* Room for one more run, or false. */
static bool runs_grow(void) {
  if (run_count < run_room) return true;
  struct run *grown = gyre__memory_table_grow(runs, &run_room, sizeof *runs);
  if (grown != NULL) runs = grown;
  return grown != NULL;
}

static void run_remove(size_t i) {
  memmove(&runs[i], &runs[i + 1], (run_count - i - 1) * sizeof *runs);
  run_count--;
}

static void run_insert(size_t i, struct run run) {
  memmove(&runs[i + 1], &runs[i], (run_count - i) * sizeof *runs);
  runs[i] = run;
  run_count++;
}

/* Joins run i with the one after it, if they touch. */
static void run_join(size_t i) {
  struct run *run = &runs[i], *next = &runs[i + 1];
  if (i + 1 >= run_count || run_end(run) != next->base) return;
  run->scattered |=
      next->scattered || (next->charged != 0 && run->charged != run_bytes(run->granules));
  run->granules += next->granules;
  run->charged += next->charged;
  if (next->since_ns < run->since_ns) run->since_ns = next->since_ns;
  run_remove(i + 1);
}

/* Cuts `granules` off the start of run i. */
static struct run run_cut(size_t i, size_t granules) {
  struct run cut = runs[i];
  if (granules == cut.granules) {
    run_remove(i);
    return cut;
  }
  cut.granules = granules;
  if (cut.charged > run_bytes(granules)) cut.charged = run_bytes(granules);
  runs[i].base += run_bytes(granules);
  runs[i].granules -= granules;
  runs[i].charged -= cut.charged;
  return cut;
}

/* The smallest run that holds so many, starting at a multiple of the alignment; run_count if there is
 * none. */
static size_t runs_best(size_t granules, size_t alignment) {
  size_t best = run_count;
  for (size_t i = 0; i < run_count; i++)
    if (runs[i].granules >= granules && ((uintptr_t)runs[i].base & (alignment - 1)) == 0 &&
        (best == run_count || runs[i].granules < runs[best].granules))
      best = i;
  return best;
}

static size_t runs_after(const char *address) {
  size_t i = 0;
  while (i < run_count && runs[i].base < address)
    i++;
  return i;
}

/* ---- taking and giving ---- */

/* Bytes may be negative. With the lock held. */
static void cached_add(size_t bytes) {
  /* relaxed: statistics. */
  gyre__fetch_add_relaxed(&gyre__memory.reserve_bytes, bytes);
}

/* "Charged at the start". */
static void run_tidy(const struct run *run) {
  size_t bytes = run_bytes(run->granules);
  if (run->scattered && run->charged != bytes)
    (void)gyre__os_purge(run->base + run->charged, bytes - run->charged);
}

bool gyre__reserve_take(size_t granules, size_t alignment, struct gyre__run *out) {
  if (alignment < GYRE__SEGMENT_SIZE) alignment = GYRE__SEGMENT_SIZE;
  gyre__lock_take(&reserve_lock);
  size_t best = runs_best(granules, alignment);
  if (best != run_count) {
    struct run run = run_cut(best, granules);
    cached_add(-run.charged);
    gyre__lock_give(&reserve_lock);
    run_tidy(&run);
    *out = (struct gyre__run){run.base, granules, run.charged, true, false};
    return true;
  }
  gyre__lock_give(&reserve_lock);
  char *base = gyre__os_map(run_bytes(granules), alignment);
  if (base == NULL) return false;
  gyre__os_huge_pages(base, run_bytes(granules));
  gyre__memory_mapped(run_bytes(granules));
  *out = (struct gyre__run){base, granules, 0, false, false};
  return true;
}

static void run_unmap(char *base, size_t granules, size_t charged) {
  gyre__note_given_back(base, run_bytes(granules));
  gyre__os_unmap(base, run_bytes(granules));
  gyre__memory_mapped(-run_bytes(granules));
  gyre__memory_purged(charged);
}

void gyre__reserve_give(const struct gyre__run *run) {
  struct run given = {run->base, run->granules, run->charged, gyre__clock_ns(), run->scattered};
  gyre__lock_take(&reserve_lock);
  /* Without memory, address space is had anew. */
  bool kept = run->charged != 0 && gyre__option(purge_delay_ms) != 0 && runs_grow();
  if (kept) {
    size_t i = runs_after(given.base);
    run_insert(i, given);
    run_join(i);
    if (i != 0) run_join(i - 1);
    cached_add(run->charged);
  }
  gyre__lock_give(&reserve_lock);
  if (!kept) run_unmap(run->base, run->granules, run->charged);
}

bool gyre__reserve_take_at(char *base, size_t granules, size_t *charged) {
  gyre__lock_take(&reserve_lock);
  size_t i = runs_after(base);
  bool found = i < run_count && runs[i].base == base && runs[i].granules >= granules;
  struct run run = {0};
  if (found) run = run_cut(i, granules);
  cached_add(-run.charged);
  gyre__lock_give(&reserve_lock);
  if (!found) return false;
  run_tidy(&run);
  *charged = run.charged;
  return true;
}

/* ---- purging ---- */

void gyre__reserve_purge(uint64_t cutoff_ns) {
  for (;;) {
    struct run old = {0};
    gyre__lock_take(&reserve_lock);
    for (size_t i = 0; i < run_count && old.base == NULL; i++)
      if (runs[i].since_ns <= cutoff_ns) old = run_cut(i, runs[i].granules);
    cached_add(-old.charged);
    gyre__lock_give(&reserve_lock);
    if (old.base == NULL) return;
    run_unmap(old.base, old.granules, old.charged);
  }
}

/* ---- checking ---- */

#define HELD(cond, i)                                                                              \
  GYRE_REQUIRE(cond, "corrupted: run %zu of the reserve, at %p: %s", i, (void *)runs[i].base, #cond)

size_t gyre__reserve_check(void) {
  size_t bytes = 0, charged = 0;
  gyre__lock_take(&reserve_lock);
  for (size_t i = 0; i < run_count; i++) {
    HELD(runs[i].granules != 0 && (uintptr_t)runs[i].base % GYRE__SEGMENT_SIZE == 0, i);
    HELD(runs[i].charged <= run_bytes(runs[i].granules), i);
    /* Neighbours are joined. */
    HELD(i == 0 || run_end(&runs[i - 1]) < runs[i].base, i);
    HELD(gyre__segment_of(runs[i].base) == NULL, i);
    bytes += run_bytes(runs[i].granules);
    charged += runs[i].charged;
  }
  /* relaxed: nobody else changes it now. */
  GYRE_REQUIRE(charged == gyre__load_relaxed(&gyre__memory.reserve_bytes),
               "corrupted: %zu bytes in the reserve, not %zu", charged,
               gyre__load_relaxed(&gyre__memory.reserve_bytes));
  gyre__lock_give(&reserve_lock);
  return bytes;
}

/* ---- the end of an arena ---- */

static void forget(void) {
  runs = NULL;
  run_count = run_room = 0;
}

static void __attribute__((constructor)) reserve_init(void) { gyre__forget_add(forget); }

/* ---- fork ---- */

void gyre__reserve_fork_prepare(void) { gyre__lock_take(&reserve_lock); }
void gyre__reserve_fork_parent(void) { gyre__lock_give(&reserve_lock); }
void gyre__reserve_fork_child(void) { gyre__lock_reset(&reserve_lock); }
