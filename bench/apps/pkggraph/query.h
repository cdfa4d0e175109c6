/* SPDX-License-Identifier: MIT */
/* Questions to a sealed store whose roots are all there. They see it through its visits only and
 * print the same for each kind of store: what comes in no particular order is sorted first.
 *
 * All return 0 or a negative errno value, after saying on stderr what is wrong.
 */
#ifndef GYRE_BENCH_APPS_PKGGRAPH_QUERY_H
#define GYRE_BENCH_APPS_PKGGRAPH_QUERY_H

#include <stdbool.h>
#include <stdio.h>

#include "bench/apps/pkggraph/store.h"

/* How many packages, versions and edges of each kind there are. */
int query_counts(const struct store_ops *ops, struct store *store, FILE *out);

/* The edges that leave the package of this name, or (reverse) lead to it, a line each. -ENOENT if
 * there is no such package. */
int query_edges(const struct store_ops *ops, struct store *store, const char *name, bool reverse,
                FILE *out);

/* The strongly connected components of more than one package under Depends and Pre-Depends: how
 * many there are, and, if asked to list them, the packages of each, largest component first. */
int query_components(const struct store_ops *ops, struct store *store, bool list, FILE *out);

#endif
