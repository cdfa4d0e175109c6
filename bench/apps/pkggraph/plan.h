/* SPDX-License-Identifier: MIT */
/* What must be alive, computed without the store: a copy of the graph in plain integers, and a
 * walk over it. It shares no code with the stores' own ways to decide, so that it can contradict
 * them.
 */
#ifndef GYRE_BENCH_APPS_PKGGRAPH_PLAN_H
#define GYRE_BENCH_APPS_PKGGRAPH_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/apps/pkggraph/ledger.h"
#include "bench/apps/pkggraph/store.h"

struct plan;

/* What is alive: how many of each kind, and which packages. */
struct expectation {
  size_t live[GRAPH_KINDS];
  uint8_t *package_lives; /* by package, 0 or 1 */
};

/* Copies the graph of a sealed store with all its roots. NULL if there is no memory. */
struct plan *plan_new(const struct store_ops *ops, struct store *store);
void plan_free(struct plan *plan);

/* What the packages with keep[i] != 0 reach, with edge lists or after they were cut. The caller
 * frees package_lives. 0 or -ENOMEM. */
int plan_expect(const struct plan *plan, const uint8_t *keep, bool with_edge_lists,
                struct expectation *out);

#endif
