/* SPDX-License-Identifier: MIT */
#include "bench/apps/pkggraph/query.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/apps/pkggraph/say.h"

static int out_of_memory(void) {
  say_error("a query", -ENOMEM);
  return -ENOMEM;
}

/* ---- counts ---- */

struct counts {
  size_t versions;
  size_t edges[EDGE_KINDS];
};

static int count_version(const struct version_view *version, void *arg) {
  (void)version;
  ((struct counts *)arg)->versions++;
  return 0;
}

static int count_edge(const struct edge_view *edge, void *arg) {
  ((struct counts *)arg)->edges[edge->kind]++;
  return 0;
}

int query_counts(const struct store_ops *ops, struct store *store, FILE *out) {
  struct counts counts = {0};
  uint32_t packages = ops->package_count(store);
  size_t without = 0;
  for (uint32_t i = 0; i < packages; i++) {
    size_t before = counts.versions;
    ops->visit_versions(store, i, count_version, &counts);
    ops->visit_edges_out(store, i, count_edge, &counts);
    if (counts.versions == before) without++;
    ops->pause();
  }
  size_t edges = 0;
  for (size_t i = 0; i < EDGE_KINDS; i++)
    edges += counts.edges[i];
  fprintf(out, "packages %u, of which virtual or missing %zu\n", packages, without);
  fprintf(out, "versions %zu\nedges %zu\n", counts.versions, edges);
  for (size_t i = 0; i < EDGE_KINDS; i++) {
    fprintf(out, "  %s %zu\n", edge_kind_names[i], counts.edges[i]);
  }
  return 0;
}

/* ---- edges of one package ---- */

struct lines {
  const struct store_ops *ops;
  struct store *store;
  char **text;
  size_t count;
  size_t capacity;
};

static void lines_free(struct lines *lines) {
  for (size_t i = 0; i < lines->count; i++)
    free(lines->text[i]);
  free(lines->text);
}

/* "Depends libc6 (>= 2.34)": an edge as its owner's field has it, in front of it the other end. */
static char *edge_line(const struct lines *lines, const struct edge_view *edge) {
  const char *from = lines->ops->package_name(lines->store, edge->from);
  const char *to = lines->ops->package_name(lines->store, edge->to);
  struct edge_texts texts = lines->ops->edge_texts(edge);
  bool any = edge->relation == RELATION_ANY;
  char *line;
  int length =
      asprintf(&line, "%s %s %s %s%s%s%s%s%s", from, texts.from, edge_kind_names[edge->kind], to,
               any ? "" : " (", edge_relation_signs[edge->relation], any ? "" : " ", texts.asked,
               any ? "" : ")");
  return length < 0 ? NULL : line;
}

static int add_line(const struct edge_view *edge, void *arg) {
  struct lines *lines = arg;
  if (lines->count == lines->capacity) {
    size_t capacity = lines->capacity == 0 ? 64 : 2 * lines->capacity;
    void *grown = realloc(lines->text, capacity * sizeof *lines->text);
    if (grown == NULL) return -ENOMEM;
    lines->text = grown;
    lines->capacity = capacity;
  }
  char *line = edge_line(lines, edge);
  if (line == NULL) return -ENOMEM;
  lines->text[lines->count++] = line;
  return 0;
}

static int compare_lines(const void *left, const void *right) {
  return strcmp(*(char *const *)left, *(char *const *)right);
}

/* The number of the package of this name, or -1: packages are numbered in the order of their
 * names. */
static int64_t find_package(const struct store_ops *ops, struct store *store, const char *name) {
  uint32_t low = 0;
  uint32_t high = ops->package_count(store);
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    int order = strcmp(ops->package_name(store, middle), name);
    if (order == 0) return middle;
    if (order < 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return -1;
}

int query_edges(const struct store_ops *ops, struct store *store, const char *name, bool reverse,
                FILE *out) {
  int64_t package = find_package(ops, store, name);
  if (package < 0) {
    say("no package is called %s", name);
    return -ENOENT;
  }
  struct lines lines = {.ops = ops, .store = store};
  int error = reverse ? ops->visit_edges_in(store, (uint32_t)package, add_line, &lines)
                      : ops->visit_edges_out(store, (uint32_t)package, add_line, &lines);
  if (error != 0) {
    lines_free(&lines);
    return out_of_memory();
  }
  if (lines.count > 0) qsort(lines.text, lines.count, sizeof *lines.text, compare_lines);
  fprintf(out, "%s %s: %zu\n", reverse ? "rdepends" : "depends", name, lines.count);
  for (size_t i = 0; i < lines.count; i++)
    fprintf(out, "  %s\n", lines.text[i]);
  lines_free(&lines);
  ops->pause();
  return 0;
}

/* ---- strongly connected components ----
 *
 * Tarjan's algorithm (1972): a depth-first walk numbers the packages in the order in which it
 * meets them, keeps those whose component is not complete on a stack, and notes for each the lowest
 * number on the stack that it reaches. Who reaches no lower number than its own closes a component,
 * which is what lies on the stack from there on.
 *
 * The walk is not recursive, as chains of dependencies are long. A frame's successors are read from
 * the store in one visit when it begins and lie on a stack of their own; the frame is finished when
 * that is down to where it was.
 */

struct frame {
  uint32_t package;
  size_t successors; /* how many successors there were below this frame's */
};

struct tarjan {
  const struct store_ops *ops;
  struct store *store;
  uint32_t count;
  uint32_t met;        /* packages numbered so far; their numbers begin at 1, 0 is "not met" */
  uint32_t *order;     /* by package: its number */
  uint32_t *low;       /* by package: the lowest number on the stack it is known to reach */
  uint32_t *component; /* by package: its component's number, from 1; 0 while it is on the stack */
  uint32_t components;
  uint32_t *stack;
  size_t stack_count;
  struct frame *frames;
  size_t frame_count;
  uint32_t *successors;
  size_t successor_count;
  size_t successor_capacity;
};

static int push_successor(const struct edge_view *edge, void *arg) {
  struct tarjan *t = arg;
  if (edge->kind != EDGE_DEPENDS && edge->kind != EDGE_PRE_DEPENDS) return 0;
  if (t->successor_count == t->successor_capacity) {
    size_t capacity = t->successor_capacity == 0 ? 256 : 2 * t->successor_capacity;
    void *grown = realloc(t->successors, capacity * sizeof *t->successors);
    if (grown == NULL) return -ENOMEM;
    t->successors = grown;
    t->successor_capacity = capacity;
  }
  t->successors[t->successor_count++] = edge->to;
  return 0;
}

static int enter(struct tarjan *t, uint32_t package) {
  t->order[package] = t->low[package] = ++t->met;
  t->stack[t->stack_count++] = package;
  t->frames[t->frame_count++] = (struct frame){package, t->successor_count};
  t->ops->pause();
  return t->ops->visit_edges_out(t->store, package, push_successor, t);
}

static void close_component(struct tarjan *t, uint32_t package) {
  t->components++;
  uint32_t member;
  do {
    member = t->stack[--t->stack_count];
    t->component[member] = t->components;
  } while (member != package);
}

static void lower(struct tarjan *t, uint32_t package, uint32_t to) {
  if (to < t->low[package]) t->low[package] = to;
}

/* Takes one step with the topmost frame: looks at a successor, or ends it. */
static int step(struct tarjan *t) {
  struct frame frame = t->frames[t->frame_count - 1];
  if (t->successor_count > frame.successors) {
    uint32_t successor = t->successors[--t->successor_count];
    if (t->order[successor] == 0) return enter(t, successor);
    if (t->component[successor] == 0) lower(t, frame.package, t->order[successor]);
    return 0;
  }
  t->frame_count--;
  if (t->low[frame.package] == t->order[frame.package]) close_component(t, frame.package);
  if (t->frame_count > 0) {
    lower(t, t->frames[t->frame_count - 1].package, t->low[frame.package]);
  }
  return 0;
}

static int find_components(struct tarjan *t) {
  for (uint32_t i = 0; i < t->count; i++) {
    if (t->order[i] != 0) continue;
    int error = enter(t, i);
    while (error == 0 && t->frame_count > 0)
      error = step(t);
    if (error != 0) return error;
  }
  return 0;
}

/* A component with its packages, which lie one after the other in the order of their names. */
struct component {
  uint32_t size;
  const uint32_t *packages;
};

/* Larger ones first; of the same size, by the first name. */
static int compare_components(const void *left, const void *right) {
  const struct component *l = left;
  const struct component *r = right;
  if (l->size != r->size) return l->size > r->size ? -1 : 1;
  if (l->size == 0) return 0;
  return l->packages[0] < r->packages[0] ? -1 : 1;
}

/* Sorts the packages by component: counts each one's, then deals them out. `packages` has room
 * for all, components[] for each component, with its size 0. */
static void gather_components(const struct tarjan *t, struct component *components,
                              uint32_t *packages) {
  for (uint32_t i = 0; i < t->count; i++)
    components[t->component[i] - 1].size++;
  uint32_t *next = packages;
  for (uint32_t i = 0; i < t->components; i++) {
    components[i].packages = next;
    next += components[i].size;
    components[i].size = 0;
  }
  for (uint32_t i = 0; i < t->count; i++) {
    struct component *c = &components[t->component[i] - 1];
    packages[c->packages - packages + c->size++] = i;
  }
  qsort(components, t->components, sizeof *components, compare_components);
}

static void print_component(const struct tarjan *t, const struct component *component, FILE *out) {
  fprintf(out, "  %u:", component->size);
  for (uint32_t i = 0; i < component->size; i++) {
    fprintf(out, " %s", t->ops->package_name(t->store, component->packages[i]));
  }
  fputc('\n', out);
}

static int print_components(const struct tarjan *t, bool list, FILE *out) {
  struct component *components = calloc((size_t)t->components + 1, sizeof *components);
  uint32_t *packages = calloc((size_t)t->count + 1, sizeof *packages);
  if (components == NULL || packages == NULL) {
    free(components);
    free(packages);
    return -ENOMEM;
  }
  gather_components(t, components, packages);
  uint32_t cyclic = 0;
  while (cyclic < t->components && components[cyclic].size > 1)
    cyclic++;
  fprintf(out, "components %u, largest %u\n", cyclic, cyclic > 0 ? components[0].size : 0);
  for (uint32_t i = 0; list && i < cyclic; i++)
    print_component(t, &components[i], out);
  free(components);
  free(packages);
  return 0;
}

int query_components(const struct store_ops *ops, struct store *store, bool list, FILE *out) {
  uint32_t count = ops->package_count(store);
  struct tarjan t = {.ops = ops, .store = store, .count = count};
  size_t room = (size_t)count + 1;
  t.order = calloc(room, sizeof *t.order);
  t.low = calloc(room, sizeof *t.low);
  t.component = calloc(room, sizeof *t.component);
  t.stack = calloc(room, sizeof *t.stack);
  t.frames = calloc(room, sizeof *t.frames);
  int error = -ENOMEM;
  if (t.order != NULL && t.low != NULL && t.component != NULL && t.stack != NULL &&
      t.frames != NULL) {
    error = find_components(&t);
  }
  if (error == 0) error = print_components(&t, list, out);
  free(t.order);
  free(t.low);
  free(t.component);
  free(t.stack);
  free(t.frames);
  free(t.successors);
  return error != 0 ? out_of_memory() : 0;
}
