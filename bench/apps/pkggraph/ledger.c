/* SPDX-License-Identifier: MIT */
#include "bench/apps/pkggraph/ledger.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

const char *const object_kind_names[OBJECT_KINDS] = {
    [OBJECT_TEXT] = "texts",   [OBJECT_PACKAGE] = "packages",     [OBJECT_VERSION] = "versions",
    [OBJECT_EDGE] = "edges",   [OBJECT_EDGE_LIST] = "edge lists", [OBJECT_ENTRY] = "table entries",
    [OBJECT_TABLE] = "tables", [OBJECT_REGISTRY] = "registries",
};

/* A thread adds to a stripe of its own, so that counting does not become the contention that the
 * program is there to measure. More threads than stripes share them, which is still exact. A
 * thread may free what others made: only the sums mean something. */
enum { STRIPES = 64, CACHE_LINE = 64 };

/* Written by any thread, with relaxed additions: they order nothing, and the sums are read after
 * the adding threads were joined (or where a report that comes late is a mismatch worth seeing). */
static struct stripe {
  _Alignas(CACHE_LINE) atomic_size_t made[OBJECT_KINDS];
  atomic_size_t freed[OBJECT_KINDS];
} stripes[STRIPES];

static struct stripe *my_stripe(void) {
  static atomic_uint next;
  static _Thread_local unsigned mine; /* its number plus one */
  /* relaxed: only distinct numbers matter. */
  if (mine == 0) mine = atomic_fetch_add_explicit(&next, 1, memory_order_relaxed) % STRIPES + 1;
  return &stripes[mine - 1];
}

void ledger_made(enum object_kind kind) {
  /* relaxed: a sum (see stripes). */
  atomic_fetch_add_explicit(&my_stripe()->made[kind], 1, memory_order_relaxed);
}

void ledger_freed(enum object_kind kind) {
  /* relaxed: a sum (see stripes). */
  atomic_fetch_add_explicit(&my_stripe()->freed[kind], 1, memory_order_relaxed);
}

size_t ledger_live(enum object_kind kind) {
  size_t live = 0;
  for (size_t i = 0; i < STRIPES; i++) {
    /* relaxed: see stripes. Sums of one stripe may be "negative"; unsigned numbers wrap back. */
    live += atomic_load_explicit(&stripes[i].made[kind], memory_order_relaxed);
    live -= atomic_load_explicit(&stripes[i].freed[kind], memory_order_relaxed);
  }
  return live;
}

/* ---- the packages' deaths ---- */

/* The pointer and the count change only while no other thread reports; the numbers are relaxed
 * sums. */
static atomic_uchar *deaths;
static uint32_t death_count;

void ledger_package_freed(uint32_t package) {
  ledger_freed(OBJECT_PACKAGE);
  /* relaxed: a sum, read after the adding threads were joined. */
  if (package < death_count) {
    atomic_fetch_add_explicit(&deaths[package], 1, memory_order_relaxed);
  }
}

int ledger_watch_packages(uint32_t count) {
  deaths = calloc((size_t)count + 1, sizeof *deaths);
  if (deaths == NULL) return -ENOMEM;
  death_count = count;
  return 0;
}

unsigned ledger_package_deaths(uint32_t package) {
  /* relaxed: as above. */
  return package < death_count ? atomic_load_explicit(&deaths[package], memory_order_relaxed) : 0;
}

void ledger_unwatch_packages(void) {
  free(deaths);
  deaths = NULL;
  death_count = 0;
}
