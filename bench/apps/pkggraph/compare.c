/* SPDX-License-Identifier: MIT */
#include "bench/apps/pkggraph/compare.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/apps/pkggraph/say.h"

enum { SYSTEMS = 2 };
static const struct store_ops *const systems[SYSTEMS] = {&gyre_store_ops, &malloc_store_ops};

/* ---- a run in a process of its own ---- */

static _Noreturn void be_child(struct run_options options, struct index *index, int pipe_end) {
  struct report report = {0};
  /* What the run finds out was asked for by nobody; it is written nevertheless, as that is a part
   * of the work. */
  options.out = fopen("/dev/null", "we");
  int error = options.out != NULL ? run(&options, index, &report) : -errno;
  if (error == 0 && write(pipe_end, &report, sizeof report) != (ssize_t)sizeof report) error = -EIO;
  _exit(error == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}

static int read_report(int pipe_end, struct report *report) {
  size_t got = 0;
  while (got < sizeof *report) {
    ssize_t n = read(pipe_end, (char *)report + got, sizeof *report - got);
    if (n == 0) return -EIO;
    if (n > 0) got += (size_t)n;
    if (n < 0 && errno != EINTR) return -errno;
  }
  return 0;
}

static int wait_for(pid_t child) {
  int status;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return -errno;
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS ? 0 : -EIO;
}

static int run_in_child(const struct run_options *options, const struct store_ops *ops,
                        struct index *index, struct report *report) {
  int ends[2];
  if (pipe(ends) != 0) return -errno;
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    struct run_options own = *options;
    own.ops = ops;
    close(ends[0]);
    be_child(own, index, ends[1]);
  }
  int error = child < 0 ? -errno : 0;
  close(ends[1]);
  if (child > 0) {
    error = read_report(ends[0], report);
    int status = wait_for(child);
    if (error == 0) error = status;
  }
  close(ends[0]);
  return error;
}

/* ---- many runs ---- */

/* The value of one figure in each run of one system. */
struct series {
  double *values;
  unsigned count;
};

static int compare_doubles(const void *left, const void *right) {
  double l = *(const double *)left;
  double r = *(const double *)right;
  return (l > r) - (l < r);
}

static double median(const struct series *series) {
  unsigned middle = series->count / 2;
  if (series->count % 2 == 1) return series->values[middle];
  return (series->values[middle - 1] + series->values[middle]) / 2;
}

/* The distance between the least and the greatest, in percent of the median. */
static double spread_percent(const struct series *series) {
  double m = median(series);
  return m > 0 ? 100 * (series->values[series->count - 1] - series->values[0]) / m : 0;
}

struct comparison {
  const struct run_options *options;
  struct index *index;
  unsigned repetitions;
  struct figure figures[REPORT_FIGURES]; /* names and units */
  struct series series[SYSTEMS][REPORT_FIGURES];
};

static int run_all(struct comparison *c) {
  for (unsigned repetition = 0; repetition < c->repetitions; repetition++) {
    for (size_t s = 0; s < SYSTEMS; s++) {
      struct report report;
      int error = run_in_child(c->options, systems[s], c->index, &report);
      if (error != 0) {
        say("the run on %s failed", systems[s]->name);
        return error;
      }
      report_figures(&report, c->figures);
      for (size_t f = 0; f < REPORT_FIGURES; f++) {
        c->series[s][f].values[c->series[s][f].count++] = c->figures[f].value;
      }
    }
  }
  for (size_t s = 0; s < SYSTEMS; s++) {
    for (size_t f = 0; f < REPORT_FIGURES; f++) {
      qsort(c->series[s][f].values, c->series[s][f].count, sizeof(double), compare_doubles);
    }
  }
  return 0;
}

/* ---- showing ---- */

/* Less is better in every row; where the peer has less, the row is marked. */
static void print_table(const struct comparison *c, FILE *out) {
  fprintf(out, "%-6s %4s %18s %18s %12s\n", "", "", systems[0]->name, systems[1]->name,
          "malloc/gyre");
  for (size_t f = 0; f < REPORT_FIGURES; f++) {
    double ours = median(&c->series[0][f]);
    double peers = median(&c->series[1][f]);
    fprintf(out, "%-6s %4s %10.1f (%3.0f %%) %10.1f (%3.0f %%) %12.2f%s\n", c->figures[f].name,
            c->figures[f].unit, ours, spread_percent(&c->series[0][f]), peers,
            spread_percent(&c->series[1][f]), ours > 0 ? peers / ours : 0,
            peers < ours ? "  <" : "");
  }
}

static void print_json(const struct comparison *c, FILE *out) {
  struct json_list list = {.out = out};
  json_begin(&list);
  for (size_t f = 0; f < REPORT_FIGURES; f++) {
    for (size_t s = 0; s < SYSTEMS; s++) {
      json_add(&list, c->figures[f].name, systems[s]->name, median(&c->series[s][f]),
               c->figures[f].unit);
    }
  }
  json_end(&list);
}

int compare(const struct run_options *options, struct index *index, unsigned repetitions,
            FILE *table, FILE *json) {
  struct comparison c = {.options = options, .index = index, .repetitions = repetitions};
  double *values = calloc((size_t)SYSTEMS * REPORT_FIGURES * repetitions, sizeof *values);
  if (values == NULL) {
    say_error("comparing", -ENOMEM);
    return -ENOMEM;
  }
  for (size_t s = 0; s < SYSTEMS; s++) {
    for (size_t f = 0; f < REPORT_FIGURES; f++) {
      c.series[s][f].values = values + (s * REPORT_FIGURES + f) * repetitions;
    }
  }
  int error = run_all(&c);
  if (error == 0) print_table(&c, table);
  if (error == 0 && json != NULL) print_json(&c, json);
  free(values);
  return error;
}
