/* SPDX-License-Identifier: MIT */
/* The same run on each kind of store, side by side. */
#ifndef GYRE_BENCH_APPS_PKGGRAPH_COMPARE_H
#define GYRE_BENCH_APPS_PKGGRAPH_COMPARE_H

#include <stdio.h>

#include "bench/apps/pkggraph/run.h"

/* Runs the program `repetitions` times on each kind of store, by turns, each time in a process of
 * its own so that no run finds another's memory. Prints the medians, how far the runs lay apart,
 * and how the stores compare to `table`, and the medians as JSON to `json`, which may be NULL.
 * options->ops and options->out are not looked at. 0, or a negative errno value after saying on
 * stderr what is wrong. */
int compare(const struct run_options *options, struct index *index, unsigned repetitions,
            FILE *table, FILE *json);

#endif
