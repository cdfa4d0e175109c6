/* SPDX-License-Identifier: MIT */
#include "bench/apps/pkggraph/report.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>

const char *const phase_names[PHASES] = {
    [PHASE_LOAD] = "load", [PHASE_SEAL] = "seal", [PHASE_QUERY] = "query",
    [PHASE_CUT] = "cut",   [PHASE_DROP] = "drop", [PHASE_END] = "end",
};

/* ---- measuring ---- */

_Static_assert(REPORT_TOTAL == (int)PHASES, "the phases' figures come first, in the same order");

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static double timeval_ms(struct timeval t) {
  return (double)t.tv_sec * 1e3 + (double)t.tv_usec / 1e3;
}

/* A line such as "VmHWM:   123 kB" of the process's status, in MiB; 0 where there is none. */
static double status_mib(const char *name) {
  FILE *status = fopen("/proc/self/status", "re");
  if (status == NULL) return 0;
  double kib = 0;
  char line[128];
  size_t length = strlen(name);
  while (fgets(line, sizeof line, status) != NULL) {
    if (strncmp(line, name, length) == 0 && line[length] == ':') {
      kib = strtod(line + length + 1, NULL);
      break;
    }
  }
  fclose(status);
  return kib / 1024;
}

/* Has the system forget the peak so far. Where it does not let us, peaks are those since the
 * start. */
static void reset_peak(void) {
  FILE *refs = fopen("/proc/self/clear_refs", "we");
  if (refs == NULL) return;
  fputs("5", refs);
  fclose(refs);
}

void phase_begin(struct phase_cost *cost) {
  struct rusage usage;
  reset_peak();
  getrusage(RUSAGE_SELF, &usage);
  /* The negated beginning, to which phase_end() adds the end. */
  *cost = (struct phase_cost){
      .wall_ms = -now_ms(),
      .user_ms = -timeval_ms(usage.ru_utime),
      .system_ms = -timeval_ms(usage.ru_stime),
  };
}

void phase_end(struct phase_cost *cost) {
  struct rusage usage;
  cost->wall_ms += now_ms();
  getrusage(RUSAGE_SELF, &usage);
  cost->user_ms += timeval_ms(usage.ru_utime);
  cost->system_ms += timeval_ms(usage.ru_stime);
  cost->resident_mib = status_mib("VmRSS");
  cost->peak_mib = status_mib("VmHWM");
}

/* ---- showing ---- */

static void figure_set(struct figure *figure, const char *name, const char *unit, double value) {
  snprintf(figure->name, sizeof figure->name, "%s", name);
  figure->unit = unit;
  figure->value = value;
}

void report_figures(const struct report *report, struct figure figures[REPORT_FIGURES]) {
  double wall_ms = 0;
  double cpu_ms = 0;
  double peak_mib = 0;
  for (size_t i = 0; i < PHASES; i++) {
    const struct phase_cost *cost = &report->phases[i];
    figure_set(&figures[i], phase_names[i], "ms", cost->wall_ms);
    wall_ms += cost->wall_ms;
    cpu_ms += cost->user_ms + cost->system_ms;
    if (cost->peak_mib > peak_mib) peak_mib = cost->peak_mib;
  }
  figure_set(&figures[REPORT_TOTAL], "total", "ms", wall_ms);
  figure_set(&figures[REPORT_CPU], "cpu", "ms", cpu_ms);
  figure_set(&figures[REPORT_PEAK], "peak", "MiB", peak_mib);
  figure_set(&figures[REPORT_GRAPH], "graph", "MiB", report->phases[PHASE_SEAL].resident_mib);
}

void report_print(const struct report *report, FILE *out) {
  fprintf(out, "%-8s %10s %10s %10s %13s %10s\n", "phase", "wall ms", "user ms", "system ms",
          "resident MiB", "peak MiB");
  for (size_t i = 0; i < PHASES; i++) {
    const struct phase_cost *cost = &report->phases[i];
    fprintf(out, "%-8s %10.1f %10.1f %10.1f %13.1f %10.1f\n", phase_names[i], cost->wall_ms,
            cost->user_ms, cost->system_ms, cost->resident_mib, cost->peak_mib);
  }
}

void json_begin(struct json_list *list) {
  list->started = false;
  fputs("[", list->out);
}

void json_add(struct json_list *list, const char *figure, const char *system, double value,
              const char *unit) {
  fprintf(list->out, "%s\n  {\"name\": \"apps/pkggraph/%s/%s\", \"value\": %.6g, \"unit\": \"%s\"}",
          list->started ? "," : "", figure, system, value, unit);
  list->started = true;
}

void json_end(struct json_list *list) { fputs("\n]\n", list->out); }
