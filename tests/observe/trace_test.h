/* SPDX-License-Identifier: MIT */
/* What the tests of tracing share. */
#ifndef GYRE_TESTS_OBSERVE_TRACE_TEST_H
#define GYRE_TESTS_OBSERVE_TRACE_TEST_H

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/node.h"
#include "tests/support/sanitizer.h"
#include "tests/support/support.h"

#if TEST_ADDRESS_SANITIZER
/* LeakSanitizer's scan of what libraries keep for each thread dies of some of those that come with libdw. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void) { return 1; }
#endif

static inline void trace_on(unsigned nframe, size_t sample, unsigned flags) {
  struct gyre_trace_opts opts = {
      .size = sizeof opts, .nframe = nframe, .sample_bytes = sample, .flags = flags};
  TEST_REQUIRE(gyre_trace_start(&opts) == 0);
}

static inline size_t traced_now(void) {
  size_t now;
  TEST_REQUIRE(gyre_trace_memory(&now, NULL) == 0);
  return now;
}

static inline size_t traced_peak(void) {
  size_t peak;
  TEST_REQUIRE(gyre_trace_memory(NULL, &peak) == 0);
  return peak;
}

static inline bool is_traced(const void *p) {
  struct gyre_traceback t;
  int result = gyre_trace_get(p, &t);
  TEST_REQUIRE(result == 0 || result == 1);
  if (result == 1) gyre_traceback_free(&t);
  return result == 1;
}

static inline gyre_snapshot *snapshot_now(void) {
  gyre_snapshot *s = gyre_trace_snapshot();
  TEST_REQUIRE(s != NULL);
  return s;
}

/* How many blocks and bytes a snapshot has. */
static inline void snapshot_sum(gyre_snapshot *s, size_t *count, size_t *size) {
  struct gyre_statlist *list;
  TEST_REQUIRE(gyre_snapshot_stats(s, GYRE_TRACE_BY_STACK, 0, &list) == 0);
  *count = *size = 0;
  for (size_t i = 0; i < list->count; i++) {
    *count += list->at[i].count;
    *size += list->at[i].size;
  }
  gyre_statlist_free(list);
}

#endif
