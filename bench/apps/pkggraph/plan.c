/* SPDX-License-Identifier: MIT */
#include "bench/apps/pkggraph/plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/apps/pkggraph/hash.h"

struct numbers {
  uint32_t *at;
  size_t count;
  size_t capacity;
};

/* Rows of numbers, one a package, one behind the other: row i ends before values[ends[i]]. */
struct rows {
  struct numbers values;
  size_t *ends;
};

/* Distinct contents of texts, numbered as they come; an open table of these numbers plus one. The
 * bytes belong to the store, so the table is only good while the graph is copied. */
struct contents {
  const char **bytes;
  size_t count;
  size_t capacity;
  uint32_t *table;
  size_t table_size; /* a power of two */
};

struct plan {
  uint32_t packages;
  struct rows out;    /* the packages that edges lead to, each as often as there are edges */
  struct rows in;     /* the packages that edges come from */
  struct rows texts;  /* the texts of a package, its versions and their edges; may repeat */
  uint32_t *versions; /* how many versions a package has */
  size_t text_count;
};

static int numbers_add(struct numbers *numbers, uint32_t value) {
  if (numbers->count == numbers->capacity) {
    size_t capacity = numbers->capacity == 0 ? 1024 : 2 * numbers->capacity;
    void *grown = realloc(numbers->at, capacity * sizeof *numbers->at);
    if (grown == NULL) return -ENOMEM;
    numbers->at = grown;
    numbers->capacity = capacity;
  }
  numbers->at[numbers->count++] = value;
  return 0;
}

static size_t row_begin(const struct rows *rows, uint32_t i) {
  return i == 0 ? 0 : rows->ends[i - 1];
}
static size_t row_length(const struct rows *rows, uint32_t i) {
  return rows->ends[i] - row_begin(rows, i);
}

/* ---- the contents of texts ---- */

/* The place of these bytes in the table: theirs, or the free one where they belong. */
static uint32_t *contents_place(const struct contents *contents, const char *bytes) {
  size_t mask = contents->table_size - 1;
  for (size_t i = hash_bytes(bytes, strlen(bytes)) & mask;; i = (i + 1) & mask) {
    uint32_t *place = &contents->table[i];
    if (*place == 0 || strcmp(contents->bytes[*place - 1], bytes) == 0) return place;
  }
}

/* At most half of the table is filled. */
static int contents_reserve(struct contents *contents) {
  if (contents->count < contents->capacity) return 0;
  size_t capacity = contents->capacity == 0 ? 1024 : 2 * contents->capacity;
  void *bytes = realloc(contents->bytes, capacity * sizeof *contents->bytes);
  if (bytes == NULL) return -ENOMEM;
  contents->bytes = bytes;
  uint32_t *table = calloc(2 * capacity, sizeof *table);
  if (table == NULL) return -ENOMEM;
  free(contents->table);
  contents->table = table;
  contents->table_size = 2 * capacity;
  contents->capacity = capacity;
  for (size_t i = 0; i < contents->count; i++) {
    *contents_place(contents, contents->bytes[i]) = (uint32_t)i + 1;
  }
  return 0;
}

static int contents_number(struct contents *contents, const char *bytes, uint32_t *number) {
  int error = contents_reserve(contents);
  if (error != 0) return error;
  uint32_t *place = contents_place(contents, bytes);
  if (*place == 0) {
    contents->bytes[contents->count++] = bytes;
    *place = (uint32_t)contents->count;
  }
  *number = *place - 1;
  return 0;
}

/* ---- copying the graph ---- */

struct copying {
  const struct store_ops *ops;
  struct store *store;
  struct plan *plan;
  struct contents contents;
  uint32_t package;
};

/* Notes that the present package has a text of this content. No text is empty: the parser sees to
 * it. */
static int copy_text(struct copying *copying, const char *bytes) {
  if (bytes[0] == 0) return 0;
  uint32_t number;
  int error = contents_number(&copying->contents, bytes, &number);
  return error != 0 ? error : numbers_add(&copying->plan->texts.values, number);
}

static int copy_version(const struct version_view *version, void *arg) {
  struct copying *copying = arg;
  copying->plan->versions[copying->package]++;
  int error = copy_text(copying, version->version);
  return error != 0 ? error : copy_text(copying, version->architecture);
}

static int copy_edge_out(const struct edge_view *edge, void *arg) {
  struct copying *copying = arg;
  int error = numbers_add(&copying->plan->out.values, edge->to);
  return error != 0 ? error : copy_text(copying, copying->ops->edge_texts(edge).asked);
}

static int copy_edge_in(const struct edge_view *edge, void *arg) {
  return numbers_add(&((struct copying *)arg)->plan->in.values, edge->from);
}

static int copy_package(struct copying *copying) {
  const struct store_ops *ops = copying->ops;
  struct store *store = copying->store;
  struct plan *plan = copying->plan;
  uint32_t i = copying->package;
  int error = copy_text(copying, ops->package_name(store, i));
  if (error == 0) error = ops->visit_versions(store, i, copy_version, copying);
  if (error == 0) error = ops->visit_edges_out(store, i, copy_edge_out, copying);
  if (error == 0) error = ops->visit_edges_in(store, i, copy_edge_in, copying);
  plan->out.ends[i] = plan->out.values.count;
  plan->in.ends[i] = plan->in.values.count;
  plan->texts.ends[i] = plan->texts.values.count;
  ops->pause();
  return error;
}

static int plan_copy(struct plan *plan, const struct store_ops *ops, struct store *store) {
  size_t count = (size_t)plan->packages + 1;
  plan->out.ends = calloc(count, sizeof *plan->out.ends);
  plan->in.ends = calloc(count, sizeof *plan->in.ends);
  plan->texts.ends = calloc(count, sizeof *plan->texts.ends);
  plan->versions = calloc(count, sizeof *plan->versions);
  if (plan->out.ends == NULL || plan->in.ends == NULL || plan->texts.ends == NULL ||
      plan->versions == NULL) {
    return -ENOMEM;
  }
  struct copying copying = {.ops = ops, .store = store, .plan = plan};
  int error = 0;
  while (error == 0 && copying.package < plan->packages) {
    error = copy_package(&copying);
    copying.package++;
  }
  plan->text_count = copying.contents.count;
  free(copying.contents.bytes);
  free(copying.contents.table);
  return error;
}

struct plan *plan_new(const struct store_ops *ops, struct store *store) {
  struct plan *plan = calloc(1, sizeof *plan);
  if (plan == NULL) return NULL;
  plan->packages = ops->package_count(store);
  if (plan_copy(plan, ops, store) != 0) {
    plan_free(plan);
    return NULL;
  }
  return plan;
}

void plan_free(struct plan *plan) {
  if (plan == NULL) return;
  free(plan->out.values.at);
  free(plan->out.ends);
  free(plan->in.values.at);
  free(plan->in.ends);
  free(plan->texts.values.at);
  free(plan->texts.ends);
  free(plan->versions);
  free(plan);
}

/* ---- the walk ---- */

struct walk {
  uint8_t *lives;
  uint32_t *open; /* packages that live and were not looked at yet */
  size_t open_count;
};

static void walk_to(struct walk *walk, uint32_t package) {
  if (walk->lives[package]) return;
  walk->lives[package] = 1;
  walk->open[walk->open_count++] = package;
}

static void walk_row(struct walk *walk, const struct rows *rows, uint32_t package) {
  for (size_t i = row_begin(rows, package); i < rows->ends[package]; i++) {
    walk_to(walk, rows->values.at[i]);
  }
}

static void walk_all(const struct plan *plan, const uint8_t *keep, bool with_edge_lists,
                     struct walk *walk) {
  for (uint32_t i = 0; i < plan->packages; i++) {
    if (keep[i]) walk_to(walk, i);
  }
  while (walk->open_count > 0) {
    uint32_t package = walk->open[--walk->open_count];
    walk_row(walk, &plan->out, package);
    if (with_edge_lists) walk_row(walk, &plan->in, package);
  }
}

static void count_live(const struct plan *plan, const uint8_t *lives, bool with_edge_lists,
                       uint8_t *text_lives, size_t live[GRAPH_KINDS]) {
  for (uint32_t i = 0; i < plan->packages; i++) {
    if (!lives[i]) continue;
    live[OBJECT_PACKAGE]++;
    live[OBJECT_VERSION] += plan->versions[i];
    live[OBJECT_EDGE] += row_length(&plan->out, i);
    if (with_edge_lists && row_length(&plan->in, i) > 0) live[OBJECT_EDGE_LIST]++;
    for (size_t k = row_begin(&plan->texts, i); k < plan->texts.ends[i]; k++) {
      uint32_t text = plan->texts.values.at[k];
      live[OBJECT_TEXT] += !text_lives[text];
      text_lives[text] = 1;
    }
  }
}

int plan_expect(const struct plan *plan, const uint8_t *keep, bool with_edge_lists,
                struct expectation *out) {
  size_t count = (size_t)plan->packages + 1;
  struct walk walk = {calloc(count, sizeof *walk.lives), calloc(count, sizeof *walk.open), 0};
  uint8_t *text_lives = calloc(plan->text_count + 1, sizeof *text_lives);
  int error = -ENOMEM;
  if (walk.lives != NULL && walk.open != NULL && text_lives != NULL) {
    walk_all(plan, keep, with_edge_lists, &walk);
    *out = (struct expectation){.package_lives = walk.lives};
    count_live(plan, walk.lives, with_edge_lists, text_lives, out->live);
    error = 0;
  }
  free(text_lives);
  free(walk.open);
  if (error != 0) free(walk.lives);
  return error;
}
