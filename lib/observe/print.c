/* SPDX-License-Identifier: MIT */
/* The figures as text, JSON and OpenMetrics, and at the end of the process (option "stats").
 *
 * OpenMetrics 1.0 (https://prometheus.io/docs/specs/om/open_metrics_spec): a family of metrics is its
 * TYPE, UNIT and HELP lines and then its samples; a name ends in its unit, those of counters' samples in
 * _total after that; units are the base ones, so nanoseconds become seconds with nine digits; the text
 * ends with "# EOF". Names begin with gyre_, generations and classes are labels.
 */
#include <gyre/stats.h>

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/collect/collect.h"

/* ---- a text on its way ---- */

struct writer {
  gyre_text_sink *sink;
  void *arg;
  bool heap_only;
  bool separate; /* JSON: something stands before the next item */
  int result;    /* other than 0: nothing more is written */
};

static void put(struct writer *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(struct writer *w, const char *format, ...) {
  if (w->result != 0) return;
  char line[400];
  va_list args;
  va_start(args, format);
  int length = vsnprintf(line, sizeof line, format, args);
  va_end(args);
  if (length <= 0) return;
  size_t size = (size_t)length < sizeof line ? (size_t)length : sizeof line - 1;
  int stop = w->sink(line, size, w->arg);
  if (stop != 0) w->result = stop < 0 ? stop : -ECANCELED;
}

/* Figures of the heap begin like this. */
static bool is_wanted(const struct writer *w, const char *name) {
  return !w->heap_only || strncmp(name, "heap_", 5) == 0;
}

static const char *const kind_names[] = {"raw", "leaf", "tracked"};

/* ---- text ---- */

static const char *const unit_names[] = {"",        "bytes",   "ns",   "blocks",
                                         "objects", "threads", "slots"};

static int text_figure(const struct gyre_figure *figure, void *arg) {
  struct writer *w = (struct writer *)arg;
  if (!is_wanted(w, figure->name)) return 0;
  char values[80];
  size_t at = 0;
  for (size_t i = 0; i < figure->count; i++)
    at += (size_t)snprintf(values + at, sizeof values - at, i == 0 ? "%" PRIu64 : "/%" PRIu64,
                           figure->values[i]);
  put(w, "%-26s %20s %-8s %s%s\n", figure->name, values, unit_names[figure->unit], figure->help,
      figure->count > 1 ? ", of generations 0/1/2" : "");
  return w->result;
}

static int text_class(const struct gyre_heap_class *c, void *arg) {
  struct writer *w = (struct writer *)arg;
  put(w, "%-8s %8zu %8" PRIu64 " %12" PRIu64 " %12" PRIu64 " %14" PRIu64 "\n", kind_names[c->kind],
      c->block_bytes, c->pages, c->used_blocks, c->blocks - c->used_blocks,
      c->pages * c->page_bytes);
  return w->result;
}

static void text_print(struct writer *w, const struct gyre_stats *stats) {
  put(w, "gyre %s\n\n", gyre_version());
  (void)gyre_stats_list(stats, text_figure, w);
  put(w, "\n%-8s %8s %8s %12s %12s %14s\n", "kind", "size", "pages", "blocks used", "blocks free",
      "bytes of pages");
  if (w->result == 0) (void)gyre_heap_list_classes(text_class, w);
}

/* ---- JSON ---- */

static void json_separate(struct writer *w) {
  put(w, "%s\n    ", w->separate ? "," : "");
  w->separate = true;
}

static int json_figure(const struct gyre_figure *figure, void *arg) {
  struct writer *w = (struct writer *)arg;
  if (!is_wanted(w, figure->name)) return 0;
  json_separate(w);
  const uint64_t *v = figure->values;
  if (figure->count == 1)
    put(w, "\"%s\": %" PRIu64, figure->name, v[0]);
  else
    put(w, "\"%s\": [%" PRIu64 ", %" PRIu64 ", %" PRIu64 "]", figure->name, v[0], v[1], v[2]);
  return w->result;
}

static int json_class(const struct gyre_heap_class *c, void *arg) {
  struct writer *w = (struct writer *)arg;
  json_separate(w);
  put(w,
      "{\"kind\": \"%s\", \"block_bytes\": %zu, \"pages\": %" PRIu64
      ", \"page_bytes\": %zu, \"blocks\": %" PRIu64 ", \"used_blocks\": %" PRIu64 "}",
      kind_names[c->kind], c->block_bytes, c->pages, c->page_bytes, c->blocks, c->used_blocks);
  return w->result;
}

static void json_print(struct writer *w, const struct gyre_stats *stats) {
  put(w, "{\n  \"version\": \"%s\",\n  \"figures\": {", gyre_version());
  (void)gyre_stats_list(stats, json_figure, w);
  put(w, "\n  },\n  \"classes\": [");
  w->separate = false;
  if (w->result == 0) (void)gyre_heap_list_classes(json_class, w);
  put(w, "\n  ]\n}\n");
}

/* ---- OpenMetrics ---- */

/* What the names of a unit's families end in. Plain counts have no unit: the name says what they are of. */
static const char *metrics_unit(enum gyre_stats_unit unit) {
  if (unit == GYRE_STATS_BYTES) return "bytes";
  return unit == GYRE_STATS_NANOSECONDS ? "seconds" : NULL;
}

static void metrics_family(struct writer *w, const char *family, enum gyre_stats_kind kind,
                           const char *unit, const char *help) {
  put(w, "# TYPE %s %s\n", family, kind == GYRE_STATS_COUNTER ? "counter" : "gauge");
  if (unit != NULL) put(w, "# UNIT %s %s\n", family, unit);
  put(w, "# HELP %s %s.\n", family, help);
}

static void metrics_value(struct writer *w, enum gyre_stats_unit unit, uint64_t value) {
  if (unit == GYRE_STATS_NANOSECONDS)
    put(w, "%" PRIu64 ".%09" PRIu64 "\n", value / 1000000000u, value % 1000000000u);
  else
    put(w, "%" PRIu64 "\n", value);
}

static int metrics_figure(const struct gyre_figure *figure, void *arg) {
  struct writer *w = (struct writer *)arg;
  if (!is_wanted(w, figure->name)) return 0;
  const char *unit = metrics_unit(figure->unit);
  char family[80];
  size_t length = strlen(figure->name);
  bool ns = figure->unit == GYRE_STATS_NANOSECONDS; /* "_ns" becomes "_seconds" */
  (void)snprintf(family, sizeof family, "gyre_%.*s%s", (int)(ns ? length - 3 : length),
                 figure->name, ns ? "_seconds" : "");
  metrics_family(w, family, figure->kind, unit, figure->help);
  const char *suffix = figure->kind == GYRE_STATS_COUNTER ? "_total" : "";
  for (size_t i = 0; i < figure->count; i++) {
    if (figure->count == 1)
      put(w, "%s%s ", family, suffix);
    else
      put(w, "%s%s{generation=\"%zu\"} ", family, suffix, i);
    metrics_value(w, figure->unit, figure->values[i]);
  }
  return w->result;
}

/* A family has to be in one piece, so the classes are gone through for each. */
struct class_family {
  struct writer *w;
  const char *name;
  uint64_t (*value)(const struct gyre_heap_class *c);
};

static int metrics_class(const struct gyre_heap_class *c, void *arg) {
  const struct class_family *family = (const struct class_family *)arg;
  put(family->w, "%s{kind=\"%s\",size=\"%zu\"} %" PRIu64 "\n", family->name, kind_names[c->kind],
      c->block_bytes, family->value(c));
  return family->w->result;
}

static uint64_t class_pages_bytes(const struct gyre_heap_class *c) {
  return c->pages * c->page_bytes;
}
static uint64_t class_used(const struct gyre_heap_class *c) { return c->used_blocks; }
static uint64_t class_free(const struct gyre_heap_class *c) { return c->blocks - c->used_blocks; }

static void metrics_classes(struct writer *w, const char *name, const char *unit, const char *help,
                            uint64_t (*value)(const struct gyre_heap_class *c)) {
  struct class_family family = {w, name, value};
  metrics_family(w, name, GYRE_STATS_GAUGE, unit, help);
  if (w->result == 0) (void)gyre_heap_list_classes(metrics_class, &family);
}

static void metrics_print(struct writer *w, const struct gyre_stats *stats) {
  put(w,
      "# TYPE gyre_build info\n# HELP gyre_build The library.\ngyre_build_info{version=\"%s\"} 1\n",
      gyre_version());
  (void)gyre_stats_list(stats, metrics_figure, w);
  metrics_classes(w, "gyre_heap_class_bytes", "bytes",
                  "Memory of the pages of a kind and size of blocks", class_pages_bytes);
  metrics_classes(w, "gyre_heap_class_used_blocks", NULL, "Blocks of these pages handed out",
                  class_used);
  metrics_classes(w, "gyre_heap_class_free_blocks", NULL, "Blocks of these pages that are free",
                  class_free);
  put(w, "# EOF\n");
}

/* ---- the functions ---- */

static int print(gyre_text_sink *sink, void *arg, enum gyre_stats_format format, bool heap_only) {
  if (sink == NULL) return -EINVAL;
  struct writer w = {.sink = sink, .arg = arg, .heap_only = heap_only};
  struct gyre_stats stats = {.size = sizeof stats};
  switch (format) {
  case GYRE_STATS_TEXT:
  case GYRE_STATS_JSON:
  case GYRE_STATS_OPENMETRICS:
    break;
  default:
    return -EINVAL;
  }
  (void)gyre_stats_get(&stats);
  if (format == GYRE_STATS_TEXT)
    text_print(&w, &stats);
  else if (format == GYRE_STATS_JSON)
    json_print(&w, &stats);
  else
    metrics_print(&w, &stats);
  return w.result;
}

int gyre_stats_print(gyre_text_sink *sink, void *arg, enum gyre_stats_format format) {
  return print(sink, arg, format, false);
}

int gyre_malloc_stats_print(gyre_text_sink *sink, void *arg, enum gyre_stats_format format) {
  return print(sink, arg, format, true);
}

/* ---- at the end ---- */

static int to_stderr(const char *text, size_t length, void *arg) {
  (void)arg;
  while (length > 0) {
    ssize_t n = write(STDERR_FILENO, text, length);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return -EIO;
    text += n;
    length -= (size_t)n;
  }
  return 0;
}

/* After the program's own atexit() functions. Other threads may still run. */
static void __attribute__((destructor)) print_at_exit(void) {
  uint64_t stats = gyre__option(stats);
  if (stats != 0) (void)gyre_stats_print(to_stderr, NULL, (enum gyre_stats_format)(stats - 1));
}
