/* SPDX-License-Identifier: MIT */
/* Counts what was made and what was destroyed, by kind, so that "everything was reclaimed" is a
 * number and not a belief. The gyre store reports deaths from its types' destroy hooks, the
 * malloc store where it calls free(). Any thread may report at any time; nobody waits for
 * anybody. Reading is exact when no other thread reports.
 */
#ifndef GYRE_BENCH_APPS_PKGGRAPH_LEDGER_H
#define GYRE_BENCH_APPS_PKGGRAPH_LEDGER_H

#include <stddef.h>
#include <stdint.h>

enum object_kind {
  /* The graph. */
  OBJECT_TEXT,
  OBJECT_PACKAGE,
  OBJECT_VERSION,
  OBJECT_EDGE,
  OBJECT_EDGE_LIST,
  GRAPH_KINDS,
  /* What a store needs to build and to hold it. */
  OBJECT_ENTRY = GRAPH_KINDS,
  OBJECT_TABLE,
  OBJECT_REGISTRY,
  OBJECT_KINDS
};

/* "texts" ... */
extern const char *const object_kind_names[OBJECT_KINDS];

/* A package's number before it has one. */
#define PACKAGE_UNNUMBERED UINT32_MAX

void ledger_made(enum object_kind kind);
void ledger_freed(enum object_kind kind);
/* For packages, instead of ledger_freed(): which one it was. */
void ledger_package_freed(uint32_t package);

size_t ledger_live(enum object_kind kind);

/* From now on remembers which of the packages 0 .. count-1 died. 0 or -ENOMEM. Both calls: while
 * no other thread reports. */
int ledger_watch_packages(uint32_t count);
/* How often a package died; 0 or 1 unless something is badly wrong. */
unsigned ledger_package_deaths(uint32_t package);
void ledger_unwatch_packages(void);

#endif
