/* SPDX-License-Identifier: MIT */
/* pkggraph's phases as benchmark cases: apps/pkggraph/<phase>/<system>.
 *
 * Each case is a whole run of the program, of which it reports one phase, because a phase needs what
 * those before it have built and found in memory. The input is this machine's package index.
 */
#include <stdio.h>
#include <unistd.h>

#include "bench/apps/pkggraph/run.h"
#include "bench/support/bench.h"

enum { MIB = 1 << 20 };
enum { ARG_SYSTEM, ARG_FIGURE };

static const struct store_ops *const systems[] = {&gyre_store_ops, &malloc_store_ops};

static int run_program(const struct store_ops *ops, struct report *report) {
  struct index index;
  int error = index_open(&index, NULL);
  if (error != 0) return error;
  long processors = sysconf(_SC_NPROCESSORS_ONLN);
  struct run_options options = {
      .ops = ops,
      .threads = processors > 0 ? (unsigned)processors : 1,
      .drop_percent = 50,
      .out = fopen("/dev/null", "we"),
  };
  error = options.out != NULL ? run(&options, &index, report) : -1;
  if (options.out != NULL) fclose(options.out);
  index_close(&index);
  return error;
}

static void run_case(bench_state *state, const struct bench_case *self) {
  struct report report = {0};
  uint64_t n = bench_start(state);
  int error = 0;
  for (uint64_t i = 0; i < n && error == 0; i++) {
    error = run_program(systems[self->arg[ARG_SYSTEM]], &report);
  }
  struct figure figures[REPORT_FIGURES];
  report_figures(&report, figures);
  bench_seconds(state, figures[self->arg[ARG_FIGURE]].value / 1e3);
  bench_counter(state, "peak_resident_bytes", figures[REPORT_PEAK].value * MIB);
  bench_counter(state, "graph_resident_bytes", figures[REPORT_GRAPH].value * MIB);
  if (error != 0) bench_fail(state, "the run failed; pkggraph says why");
  bench_stop(state);
}

/* A figure that is a time, or (with a metric) the counter of that name. */
static void add_case(const char *name, enum report_figure figure, enum bench_level level,
                     const char *metric) {
  for (int64_t s = 0; s < (int64_t)(sizeof systems / sizeof systems[0]); s++) {
    char full[64];
    snprintf(full, sizeof full, "apps/pkggraph/%s/%s", name, systems[s]->name);
    bench_register(&(struct bench_case){
        .name = full,
        .run = run_case,
        .arg = {[ARG_SYSTEM] = s, [ARG_FIGURE] = (int64_t)figure},
        .iterations = 1,
        .flags = BENCH_MANUAL_TIME,
        .level = level,
        .metric = metric,
        .unit = metric != NULL ? "byte" : "run",
    });
  }
}

int main(int argc, char **argv) {
  add_case("total", REPORT_TOTAL, BENCH_QUICK, NULL);
  add_case("graph", REPORT_TOTAL, BENCH_QUICK, "graph_resident_bytes");
  add_case("load", REPORT_LOAD, BENCH_FULL, NULL);
  add_case("query", REPORT_QUERY, BENCH_FULL, NULL);
  add_case("drop", REPORT_DROP, BENCH_FULL, NULL);
  add_case("seal", REPORT_SEAL, BENCH_FULL, NULL);
  add_case("cut", REPORT_CUT, BENCH_FULL, NULL);
  add_case("end", REPORT_END, BENCH_FULL, NULL);
  return bench_main(argc, argv);
}
