/* SPDX-License-Identifier: MIT */
/* What a run cost, phase by phase. */
#ifndef GYRE_BENCH_APPS_PKGGRAPH_REPORT_H
#define GYRE_BENCH_APPS_PKGGRAPH_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum phase {
  PHASE_LOAD,  /* parse the index and add everything to the store */
  PHASE_SEAL,  /* number the packages, make the edge lists, let go of the table of texts */
  PHASE_QUERY, /* counts, components, the edges asked for */
  PHASE_CUT,   /* give up all edge lists */
  PHASE_DROP,  /* drop a share of the roots; reclaim what only they reached */
  PHASE_END,   /* reclaim the rest */
  PHASES
};

/* "load" ... */
extern const char *const phase_names[PHASES];

struct phase_cost {
  double wall_ms;
  double user_ms; /* of all threads */
  double system_ms;
  double resident_mib; /* at the end of the phase */
  double peak_mib;     /* the most that was resident in the phase */
};

struct report {
  struct phase_cost phases[PHASES];
};

/* Around each phase, in one thread. Between phases nothing is measured, the peak included. */
void phase_begin(struct phase_cost *cost);
void phase_end(struct phase_cost *cost);

/* What is reported for the whole of a run: each phase's wall time, and some figures of all. */
enum report_figure {
  REPORT_LOAD,
  REPORT_SEAL,
  REPORT_QUERY,
  REPORT_CUT,
  REPORT_DROP,
  REPORT_END,
  REPORT_TOTAL, /* the phases together */
  REPORT_CPU,   /* user and system time of all threads */
  REPORT_PEAK,  /* the most that was resident in a phase */
  REPORT_GRAPH, /* what is resident when the store is sealed: the index is not mapped any more */
  REPORT_FIGURES
};
struct figure {
  char name[16];
  const char *unit;
  double value;
};
void report_figures(const struct report *report, struct figure figures[REPORT_FIGURES]);

/* The phases of one run as a table. */
void report_print(const struct report *report, FILE *out);

/* JSON: a list of {"name": "apps/pkggraph/<figure>/<system>", "value": ..., "unit": ...}. begin,
 * any number of adds, end. */
struct json_list {
  FILE *out;
  bool started;
};
void json_begin(struct json_list *list);
void json_add(struct json_list *list, const char *figure, const char *system, double value,
              const char *unit);
void json_end(struct json_list *list);

#endif
