/* SPDX-License-Identifier: MIT */
/* What allocation tracing costs: the same loops with it off, with everything traced, and with samples. The
 * figure of interest is the ratio of a system's time to gyre's, and of cpython-traced's to cpython's
 * (cpython.py does the same work in Python). */
#include <stdio.h>

#include <gyre/gyre.h>

#include BENCH_SYSTEM
#include "bench/support/bench.h"

static void trace_begin(void) {
  struct gyre_trace_opts opts = {
      .size = sizeof opts, .nframe = SYSTEM_FRAMES, .sample_bytes = SYSTEM_SAMPLE};
  if (SYSTEM_FRAMES != 0) (void)gyre_trace_start(&opts);
}

/* trace/pair: allocate one block and free it. */
static void run_pair(bench_state *state, const struct bench_case *self) {
  size_t size = (size_t)self->arg[0];
  trace_begin();
  uint64_t n = bench_start(state);
  for (uint64_t i = 0; i < n; i++) {
    void *block = gyre_malloc(size);
    BENCH_KEEP(block);
    gyre_free(block);
  }
  bench_stop(state);
  gyre_trace_stop();
}

/* trace/batch: a thousand blocks, then free them. */
#define BATCH 1000
static void run_batch(bench_state *state, const struct bench_case *self) {
  static void *blocks[BATCH];
  size_t size = (size_t)self->arg[0];
  trace_begin();
  uint64_t n = bench_start(state);
  for (uint64_t i = 0; i < n; i++) {
    for (int k = 0; k < BATCH; k++) {
      blocks[k] = gyre_malloc(size);
      BENCH_KEEP(blocks[k]);
    }
    for (int k = 0; k < BATCH; k++)
      gyre_free(blocks[k]);
  }
  bench_stop(state);
  gyre_trace_stop();
}

/* trace/snapshot: a snapshot of so many traces and its figures by line; and what the tracer has for them. */
#define TRACES_MAX 600000
static void run_snapshot(bench_state *state, const struct bench_case *self) {
  static void *blocks[TRACES_MAX];
  int64_t traces = self->arg[0];
  trace_begin();
  for (int64_t i = 0; i < traces; i++) {
    blocks[i] = gyre_malloc(64);
    BENCH_KEEP(blocks[i]);
  }
  double overhead = (double)gyre_trace_overhead() / (double)traces;
  uint64_t n = bench_start(state);
  for (uint64_t i = 0; i < n; i++) {
    gyre_snapshot *snapshot = gyre_trace_snapshot();
    struct gyre_statlist *list = NULL;
    if (snapshot != NULL) (void)gyre_snapshot_stats(snapshot, GYRE_TRACE_BY_LINE, 0, &list);
    BENCH_KEEP(list);
    gyre_statlist_free(list);
    gyre_snapshot_free(snapshot);
  }
  bench_stop(state);
  bench_counter(state, "bytes_a_trace", overhead);
  for (int64_t i = 0; i < traces; i++)
    gyre_free(blocks[i]);
  gyre_trace_stop();
}

int main(int argc, char **argv) {
  static const int64_t sizes[] = {64, 200};
  char name[64];
  for (int i = 0; i < 2; i++) {
    enum bench_level level = i == 0 ? BENCH_QUICK : BENCH_DEFAULT;
    (void)snprintf(name, sizeof name, "trace/pair/%d/" SYSTEM_NAME, (int)sizes[i]);
    bench_register(&(struct bench_case){
        .name = name, .run = run_pair, .arg = {sizes[i]}, .level = level, .unit = "pair"});
    (void)snprintf(name, sizeof name, "trace/batch/%d/" SYSTEM_NAME, (int)sizes[i]);
    bench_register(&(struct bench_case){
        .name = name, .run = run_batch, .arg = {sizes[i]}, .level = level, .unit = "1000 pairs"});
  }
  if (SYSTEM_FRAMES != 0 && SYSTEM_SAMPLE == 0)
    bench_register(&(struct bench_case){.name = "trace/snapshot/600000/" SYSTEM_NAME,
                                        .run = run_snapshot,
                                        .arg = {TRACES_MAX},
                                        .iterations = 1,
                                        .level = BENCH_DEFAULT,
                                        .unit = "snapshot"});
  return bench_main(argc, argv);
}
