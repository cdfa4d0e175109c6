/* SPDX-License-Identifier: MIT */
/* One run of the program: load, seal, query, then take the graph apart and check each time that
 * exactly what should be left is left. */
#ifndef GYRE_BENCH_APPS_PKGGRAPH_RUN_H
#define GYRE_BENCH_APPS_PKGGRAPH_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "bench/apps/pkggraph/index.h"
#include "bench/apps/pkggraph/report.h"
#include "bench/apps/pkggraph/store.h"

/* --depends NAME or --rdepends NAME. */
struct question {
  const char *package;
  bool reverse;
};

struct run_options {
  const struct store_ops *ops;
  unsigned threads;
  const struct question *questions;
  size_t question_count;
  bool list_components;
  unsigned drop_percent; /* the share of roots that is dropped */
  FILE *out;             /* for what the run finds out; the same for each kind of store */
};

/* Fills *report as far as the run came. 0, or a negative errno value after saying on stderr what
 * is wrong; that something was left or reclaimed wrongly is -EUCLEAN. Frees everything either
 * way. */
int run(const struct run_options *options, struct index *index, struct report *report);

#endif
