/* SPDX-License-Identifier: MIT */
/* From an index into a store, with several threads. */
#ifndef GYRE_BENCH_APPS_PKGGRAPH_LOAD_H
#define GYRE_BENCH_APPS_PKGGRAPH_LOAD_H

#include "bench/apps/pkggraph/index.h"
#include "bench/apps/pkggraph/store.h"

/* Parses the mapped index and adds all of it to the store, on the threads of the team. 0, or a
 * negative errno value (-EBADMSG: a broken index), after saying on stderr what is wrong, and in
 * which line if it is the index: the first line that is wrong, whatever the number of threads.
 * The store may then hold a part. */
int load(const struct index *index, const struct store_ops *ops, struct store *store,
         const struct team *team);

#endif
