// SPDX-License-Identifier: MIT
// The C interface of bench.h over Google Benchmark: the one C++ file of the benchmarks.

#include "bench/support/bench.h"

#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstring>
#include <deque>
#include <iostream>
#include <string>
#include <vector>

// The C side sees a State only as an incomplete struct.
struct bench_state {
  benchmark::State *google;
};

namespace {

struct Case {
  std::string name;
  bench_case fields;
};

// A deque: registered functions hold pointers to its elements.
std::deque<Case> &cases() {
  static std::deque<Case> all;
  return all;
}

// Google Benchmark appends "/iterations:5", "/manual_time" and the like to a name. How a case is
// timed is the same for all systems and no part of its name.
void strip_suffixes(benchmark::BenchmarkReporter::Run &run) {
  std::string name = run.run_name.function_name;
  run.run_name = benchmark::BenchmarkName();
  run.run_name.function_name = name;
}

template <typename Reporter> class PlainNames : public Reporter {
public:
  void ReportRuns(const std::vector<benchmark::BenchmarkReporter::Run> &runs) override {
    std::vector<benchmark::BenchmarkReporter::Run> renamed = runs;
    for (auto &run : renamed)
      strip_suffixes(run);
    Reporter::ReportRuns(renamed);
  }
};

void list_cases() {
  static const char *const levels[] = {"quick", "default", "full"};
  for (const Case &c : cases())
    std::printf("%s\t%s\t%s\t%llu\t%s\t%s\n", c.name.c_str(), levels[c.fields.level],
                (c.fields.flags & BENCH_SLEEPS) != 0 ? "sleeps" : "busy",
                static_cast<unsigned long long>(c.fields.iterations),
                c.fields.metric != nullptr ? c.fields.metric : "time", c.fields.unit);
}

void run_case(benchmark::State &google, const bench_case *c) {
  bench_state state = {&google};
  c->run(&state, c);
}

void register_with_google(const Case &c) {
  const bench_case *fields = &c.fields;
  auto *b = benchmark::RegisterBenchmark(
      c.name.c_str(), [fields](benchmark::State &google) { run_case(google, fields); });
  b->Unit(benchmark::kNanosecond);
  if ((fields->flags & BENCH_MANUAL_TIME) != 0)
    b->UseManualTime();
  else
    b->UseRealTime();
  if (fields->iterations != 0) b->Iterations(static_cast<int64_t>(fields->iterations));
}

// Takes our own options out of argv.
bool take_options(int *argc, char **argv, std::string *only, bool *list) {
  int kept = 1;
  for (int i = 1; i < *argc; i++) {
    if (std::strncmp(argv[i], "--only=", 7) == 0)
      *only = argv[i] + 7;
    else if (std::strcmp(argv[i], "--list") == 0)
      *list = true;
    else
      argv[kept++] = argv[i];
  }
  *argc = kept;
  argv[kept] = nullptr;
  return only->empty() || !*list;
}

bool wants_json(int argc, char **argv) {
  for (int i = 1; i < argc; i++)
    if (std::strcmp(argv[i], "--benchmark_format=json") == 0) return true;
  return false;
}

} // namespace

extern "C" void bench_register(const struct bench_case *c) {
  cases().push_back(Case{c->name, *c});
  // The name was copied; nobody shall find the caller's.
  cases().back().fields.name = cases().back().name.c_str();
}

extern "C" int bench_main(int argc, char **argv) {
  std::string only;
  bool list = false;
  if (!take_options(&argc, argv, &only, &list)) {
    std::fprintf(stderr, "%s: --list and --only exclude each other\n", argv[0]);
    return 2;
  }
  if (list) {
    list_cases();
    return 0;
  }
  bool json = wants_json(argc, argv);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  bool found = false;
  for (const Case &c : cases())
    if (only.empty() || c.name == only) {
      register_with_google(c);
      found = true;
    }
  if (!found) {
    std::fprintf(stderr, "%s: there is no case %s; --list shows them\n", argv[0], only.c_str());
    return 2;
  }
  PlainNames<benchmark::JSONReporter> json_reporter;
  PlainNames<benchmark::ConsoleReporter> console_reporter;
  benchmark::BenchmarkReporter *reporter = &console_reporter;
  if (json) reporter = &json_reporter;
  benchmark::RunSpecifiedBenchmarks(reporter);
  benchmark::Shutdown();
  return 0;
}

extern "C" uint64_t bench_start(bench_state *state) {
  // The first call starts the clock and takes all iterations at once; the second, in bench_stop(),
  // finds none left and stops it. 0 iterations is what a failed run sees.
  bool running = state->google->KeepRunningBatch(state->google->max_iterations);
  return running ? static_cast<uint64_t>(state->google->max_iterations) : 1;
}

extern "C" void bench_stop(bench_state *state) {
  if (!state->google->error_occurred())
    state->google->KeepRunningBatch(state->google->max_iterations);
}

extern "C" uint64_t bench_iterations(const bench_state *state) {
  return static_cast<uint64_t>(state->google->max_iterations);
}

extern "C" void bench_seconds(bench_state *state, double seconds) {
  state->google->SetIterationTime(seconds);
}

extern "C" void bench_counter(bench_state *state, const char *name, double value) {
  state->google->counters[name] = value;
}

extern "C" void bench_fail(bench_state *state, const char *message) {
  state->google->SkipWithError(message);
}
