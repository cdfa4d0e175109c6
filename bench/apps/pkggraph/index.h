/* SPDX-License-Identifier: MIT */
/* Where the bytes come from: a file, or what `apt-cache dumpavail` prints. */
#ifndef GYRE_BENCH_APPS_PKGGRAPH_INDEX_H
#define GYRE_BENCH_APPS_PKGGRAPH_INDEX_H

#include <stddef.h>

/* A package index as one read-only stretch of memory. */
struct index {
  const char *name; /* what error messages call it: the file, or the command that printed it */
  int file;
  size_t size;
  const char *bytes; /* NULL while it is not mapped */
};

/* Opens the index at `path`; with NULL, takes what `apt-cache dumpavail` prints, or the dpkg
 * status file where apt has nothing to say. Says on stderr what is wrong and returns a negative
 * errno value if there is none. index_close() undoes it. */
int index_open(struct index *index, const char *path);
void index_close(struct index *index);

/* Brings the bytes into memory, and lets them go again. The mapping is shared with other
 * processes that inherited the file, so that several runs read the very same index. 0 or a
 * negative errno value. */
int index_map(struct index *index);
void index_unmap(struct index *index);

/* The number of the line that `at`, a place in the bytes or just behind them, lies in. */
size_t index_line(const struct index *index, const char *at);

#endif
