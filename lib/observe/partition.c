/* SPDX-License-Identifier: MIT */
/* The heap divided into groups, as guppy's heapy shows it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/observe/graph.h"

/* A group while nodes are put into it. What it is called is found when all are in. */
struct group {
  uint64_t key;     /* 0: unused place in the table */
  uint32_t example; /* the first of its nodes */
  uint64_t count, bytes;
};

struct partition {
  gyre_graph *g;
  enum gyre_grouping grouping;
  GYRE__ARRAY(struct group) table; /* of a power of two, at most half full */
  size_t groups;
  GYRE__ARRAY(struct gyre_partition_row) rows;
};

/* ---- the types that refer to a node ---- */

/* At most so many are told apart; the others are "...". */
#define REFERRERS_MOST 8

struct referrers {
  uint32_t types[REFERRERS_MOST]; /* ascending */
  unsigned count;
  bool more, held;
};

static void referrer_add(struct referrers *r, uint32_t type) {
  unsigned at = 0;
  while (at < r->count && r->types[at] < type)
    at++;
  if (at < r->count && r->types[at] == type) return;
  if (r->count == REFERRERS_MOST) {
    r->more = true;
    if (at == REFERRERS_MOST) return;
    r->count--;
  }
  memmove(&r->types[at + 1], &r->types[at], (r->count - at) * sizeof r->types[0]);
  r->types[at] = type;
  r->count++;
}

static struct referrers referrers_of(const gyre_graph *g, size_t node) {
  struct referrers r = {.held = gyre__node_is_held(g, node)};
  for (uint32_t i = g->first_back_edge.at[node]; i < g->first_back_edge.at[node + 1]; i++)
    referrer_add(&r, g->nodes.at[g->back_edges.at[i].from].type);
  return r;
}

static void label_referrers(const gyre_graph *g, size_t node, char *out, size_t size) {
  struct referrers r = referrers_of(g, node);
  size_t used = 0;
  out[0] = 0;
  if (r.held) used += (size_t)snprintf(out, size, "held");
  for (unsigned i = 0; i < r.count && used < size; i++)
    used += (size_t)snprintf(out + used, size - used, used == 0 ? "%.80s" : ", %.80s",
                             gyre__type(r.types[i])->name);
  if (r.more && used < size) used += (size_t)snprintf(out + used, size - used, ", ...");
  if (used == 0) (void)snprintf(out, size, "nothing");
}

/* ---- keys and labels ---- */

static uint64_t mix(uint64_t sum, uint64_t value) {
  sum = (sum ^ value) * UINT64_C(0x9E3779B97F4A7C15);
  return sum ^ sum >> 29;
}

static uint64_t key_referrers(const gyre_graph *g, size_t node) {
  struct referrers r = referrers_of(g, node);
  uint64_t key = mix(1, (uint64_t)r.held | (uint64_t)r.more << 1);
  for (unsigned i = 0; i < r.count; i++)
    key = mix(key, r.types[i]);
  return key;
}

/* Never 0. */
static uint64_t key_of(struct partition *p, size_t node) {
  const struct gyre__node *n = &p->g->nodes.at[node];
  switch (p->grouping) {
  case GYRE_BY_TYPE:
    return n->type;
  case GYRE_BY_SIZE:
    return n->bytes + 1;
  case GYRE_BY_GENERATION:
    return (n->flags >> GYRE__NODE_AGE_SHIFT) + 1;
  case GYRE_BY_VERDICT:
    return (uint64_t)gyre_graph_verdict(p->g, node, NULL, NULL) + 1;
  default:
    return key_referrers(p->g, node) | 1;
  }
}

static void label_of(struct partition *p, const struct group *group, char *out, size_t size) {
  const struct gyre__node *n = &p->g->nodes.at[group->example];
  switch (p->grouping) {
  case GYRE_BY_TYPE:
    (void)snprintf(out, size, "%s", gyre__type(n->type)->name);
    break;
  case GYRE_BY_SIZE:
    (void)snprintf(out, size, "%llu", (unsigned long long)n->bytes);
    break;
  case GYRE_BY_GENERATION:
    (void)snprintf(out, size, "generation %u", (unsigned)(n->flags >> GYRE__NODE_AGE_SHIFT));
    break;
  case GYRE_BY_VERDICT:
    (void)snprintf(out, size, "%s", gyre_verdict_text((enum gyre_verdict)(group->key - 1)));
    break;
  default:
    label_referrers(p->g, group->example, out, size);
  }
}

/* ---- groups ---- */

static struct group *group_of(struct partition *p, uint64_t key) {
  size_t size = p->table.count, at = (size_t)(mix(0, key) >> 16) & (size - 1);
  while (p->table.at[at].key != key && p->table.at[at].key != 0)
    at = (at + 1) & (size - 1);
  return &p->table.at[at];
}

static bool table_grow(struct partition *p) {
  __typeof__(p->table) old = p->table, fresh = {0};
  if (!GYRE__ARRAY_MAKE(&fresh, old.count == 0 ? 64 : 2 * old.count)) return false;
  p->table = fresh;
  for (size_t i = 0; i < old.count; i++)
    if (old.at[i].key != 0) *group_of(p, old.at[i].key) = old.at[i];
  GYRE__ARRAY_DROP(&old);
  return true;
}

static bool divide(struct partition *p) {
  bool wants_referrers = p->grouping == GYRE_BY_REFERRERS;
  if (wants_referrers && !gyre__graph_back_edges(p->g)) return false;
  if (p->grouping == GYRE_BY_VERDICT && !gyre__graph_alive(p->g)) return false;
  for (size_t i = 0; i < p->g->nodes.count; i++) {
    if (2 * (p->groups + 1) > p->table.count && !table_grow(p)) return false;
    uint64_t key = key_of(p, i);
    struct group *group = group_of(p, key);
    if (group->key == 0) {
      *group = (struct group){.key = key, .example = (uint32_t)i};
      p->groups++;
    }
    group->count++;
    group->bytes += p->g->nodes.at[i].bytes;
  }
  for (size_t i = 0; i < p->table.count; i++) {
    if (p->table.at[i].key == 0) continue;
    struct gyre_partition_row row = {.count = p->table.at[i].count, .bytes = p->table.at[i].bytes};
    label_of(p, &p->table.at[i], row.label, sizeof row.label);
    if (!GYRE__ARRAY_PUSH(&p->rows, row)) return false;
  }
  return true;
}

static void partition_drop(struct partition *p) {
  GYRE__ARRAY_DROP(&p->table);
  GYRE__ARRAY_DROP(&p->rows);
}

/* ---- rows ---- */

static int by_label(const void *a, const void *b) {
  const struct gyre_partition_row *x = a, *y = b;
  return strcmp(x->label, y->label);
}

static int by_bytes(const void *a, const void *b) {
  const struct gyre_partition_row *x = a, *y = b;
  if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
  if (x->count != y->count) return x->count < y->count ? 1 : -1;
  return strcmp(x->label, y->label);
}

static void rows_sort(struct partition *p, int (*order)(const void *, const void *)) {
  if (p->rows.count > 1) qsort(p->rows.at, p->rows.count, sizeof *p->rows.at, order);
}

/* Types of one name are one row. */
static void rows_join(struct partition *p) {
  rows_sort(p, by_label);
  size_t to = 0;
  for (size_t i = 0; i < p->rows.count; i++) {
    if (to > 0 && by_label(&p->rows.at[to - 1], &p->rows.at[i]) == 0) {
      p->rows.at[to - 1].count += p->rows.at[i].count;
      p->rows.at[to - 1].bytes += p->rows.at[i].bytes;
    } else {
      p->rows.at[to++] = p->rows.at[i];
    }
  }
  p->rows.count = to;
}

/* Both are in the order of their labels. */
static void rows_subtract(struct partition *p, const struct partition *base) {
  size_t to = 0, b = 0;
  for (size_t i = 0; i < p->rows.count; i++) {
    struct gyre_partition_row row = p->rows.at[i];
    while (b < base->rows.count && by_label(&base->rows.at[b], &row) < 0)
      b++;
    if (b < base->rows.count && by_label(&base->rows.at[b], &row) == 0) {
      if (row.bytes < base->rows.at[b].bytes || row.count < base->rows.at[b].count) continue;
      row.bytes -= base->rows.at[b].bytes;
      row.count -= base->rows.at[b].count;
      if (row.bytes == 0 && row.count == 0) continue;
    }
    p->rows.at[to++] = row;
  }
  p->rows.count = to;
}

static double percent(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : 100.0 * (double)part / (double)whole;
}

static void rows_sum(struct partition *p) {
  uint64_t count = 0, bytes = 0, so_far = 0;
  for (size_t i = 0; i < p->rows.count; i++) {
    count += p->rows.at[i].count;
    bytes += p->rows.at[i].bytes;
  }
  for (size_t i = 0; i < p->rows.count; i++) {
    struct gyre_partition_row *row = &p->rows.at[i];
    so_far += row->bytes;
    row->count_percent = percent(row->count, count);
    row->bytes_percent = percent(row->bytes, bytes);
    row->cumulative_bytes = so_far;
    row->cumulative_percent = percent(so_far, bytes);
  }
}

/* The rows in their order. -EINVAL or -ENOMEM, and then there is nothing to drop. */
static int partition_make(struct partition *p, gyre_graph *g, enum gyre_grouping grouping,
                          gyre_graph *base) {
  *p = (struct partition){.g = g, .grouping = grouping};
  if ((unsigned)grouping > GYRE_BY_VERDICT) return -EINVAL;
  struct partition before = {.g = base, .grouping = grouping};
  bool done = divide(p) && (base == NULL || divide(&before));
  if (done) {
    rows_join(p);
    rows_join(&before);
    rows_subtract(p, &before);
    rows_sort(p, by_bytes);
    rows_sum(p);
  }
  partition_drop(&before);
  if (!done) partition_drop(p);
  return done ? 0 : -ENOMEM;
}

ptrdiff_t gyre_graph_partition(gyre_graph *g, enum gyre_grouping grouping, gyre_graph *base,
                               struct gyre_partition_row *out, size_t room) {
  if (g == NULL || (out == NULL && room != 0)) return -EINVAL;
  struct partition p;
  int result = partition_make(&p, g, grouping, base);
  if (result != 0) return result;
  size_t count = p.rows.count;
  if (room != 0 && count != 0) memcpy(out, p.rows.at, (count < room ? count : room) * sizeof *out);
  partition_drop(&p);
  return (ptrdiff_t)count;
}

int gyre_graph_show_partition(gyre_graph *g, enum gyre_grouping grouping, gyre_graph *base,
                              size_t limit, gyre_text_sink *sink, void *arg) {
  if (g == NULL || sink == NULL) return -EINVAL;
  struct partition p;
  int result = partition_make(&p, g, grouping, base);
  if (result != 0) return result;
  struct gyre__text t;
  gyre__text_begin(&t, sink, arg);
  uint64_t objects = 0, bytes = 0;
  for (size_t i = 0; i < p.rows.count; i++) {
    objects += p.rows.at[i].count;
    bytes += p.rows.at[i].bytes;
  }
  gyre__text_format(&t, "Partition of a set of %llu objects. Total size = %llu bytes.\n",
                    (unsigned long long)objects, (unsigned long long)bytes);
  gyre__text_say(&t, " Index      Count   %        Size   %  Cumulative   %  Kind\n");
  if (limit == 0 || limit > p.rows.count) limit = p.rows.count;
  for (size_t i = 0; i < limit; i++) {
    const struct gyre_partition_row *row = &p.rows.at[i];
    gyre__text_format(
        &t, "%6zu %10llu %3.0f %11llu %3.0f %11llu %3.0f  %s\n", i, (unsigned long long)row->count,
        row->count_percent, (unsigned long long)row->bytes, row->bytes_percent,
        (unsigned long long)row->cumulative_bytes, row->cumulative_percent, row->label);
  }
  if (limit < p.rows.count) gyre__text_format(&t, "<%zu more rows>\n", p.rows.count - limit);
  partition_drop(&p);
  return gyre__text_end(&t);
}
