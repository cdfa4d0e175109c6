/* SPDX-License-Identifier: MIT */
/* Figures of snapshots: groups, comparisons, filters.
 *
 * Traces are many, stacks are few, and all that a group is made by belongs to the stack, or to the slot. So
 * one pass sums up the traces of each stack, and everything else is done by stacks. A group's key is a
 * 64-bit hash (XXH3) of the texts that make it, so that snapshots of different processes can be compared;
 * that two of some million groups have the same is less likely than a fault of the memory.
 */
#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "lib/observe/snapshot.h"

#define NONE UINT32_MAX

static const struct gyre__stack_item *stack_at(const struct gyre_snapshot *s, size_t index) {
  return GYRE__SNAPSHOT_AT(s, GYRE__PART_STACKS, struct gyre__stack_item, index);
}
static size_t stack_count(const struct gyre_snapshot *s) {
  return GYRE__SNAPSHOT_COUNT(s, GYRE__PART_STACKS, struct gyre__stack_item);
}
static const struct gyre__trace_item *trace_at(const struct gyre_snapshot *s, size_t index) {
  return GYRE__SNAPSHOT_AT(s, GYRE__PART_TRACES, struct gyre__trace_item, index);
}
/* The frame with a number in a stack: 0 is the most recent. */
static uint32_t frame_number(const struct gyre_snapshot *s, const struct gyre__stack_item *stack,
                             uint32_t index) {
  return *GYRE__SNAPSHOT_AT(s, GYRE__PART_FRAME_LIST, uint32_t, stack->first + index);
}
static const struct gyre__frame_item *frame_at(const struct gyre_snapshot *s, uint32_t number) {
  return GYRE__SNAPSHOT_AT(s, GYRE__PART_FRAMES, struct gyre__frame_item, number);
}

/* ---- sums by stack ---- */

/* Estimates are rounded when all is summed up; exact figures stay exact up to 2^53. */
struct sum {
  double size, count;
};

static void sum_add(struct sum *to, const struct sum *from) {
  to->size += from->size;
  to->count += from->count;
}

static struct sum sum_of(const struct gyre__trace_item *item) {
  return (struct sum){(double)item->size * (double)item->weight, (double)item->weight};
}

/* ---- groups ---- */

struct group {
  uint64_t key;
  struct sum sum;
  uint32_t stack, frame; /* one of its stacks, and the frame that it is about */
  uint32_t name;         /* string, or NONE */
};

struct grouping {
  struct gyre_snapshot *s;
  enum gyre_trace_by by;
  struct gyre__map map;
  struct gyre__vec groups;
  struct gyre__vec hashes; /* of strings, by frame: file, func */
  bool failed;
};

struct frame_hash {
  uint64_t file, func;
};

static uint64_t text_hash(const char *text) { return XXH3_64bits(text, strlen(text)); }

static bool hashes_make(struct grouping *g) {
  size_t count = GYRE__SNAPSHOT_COUNT(g->s, GYRE__PART_FRAMES, struct gyre__frame_item);
  if (count != 0 && gyre__vec_add(&g->hashes, count * sizeof(struct frame_hash)) == NULL)
    return false;
  for (size_t i = 0; i < count; i++) {
    const struct gyre__frame_item *f = frame_at(g->s, (uint32_t)i);
    *GYRE__VEC_AT(&g->hashes, struct frame_hash, i) =
        (struct frame_hash){text_hash(gyre__snapshot_string(g->s, f->file)),
                            text_hash(gyre__snapshot_string(g->s, f->func))};
  }
  return true;
}

static uint64_t frame_key(const struct grouping *g, uint32_t number) {
  const struct frame_hash *h = GYRE__VEC_AT(&g->hashes, struct frame_hash, number);
  uint64_t key[2] = {h->file, 0};
  if (g->by == GYRE_TRACE_BY_LINE || g->by == GYRE_TRACE_BY_STACK)
    key[1] = frame_at(g->s, number)->line;
  if (g->by == GYRE_TRACE_BY_FUNCTION) key[1] = h->func;
  return XXH3_64bits(key, sizeof key);
}

static void group_add(struct grouping *g, uint64_t key, const struct sum *sum, uint32_t stack,
                      uint32_t frame, uint32_t name) {
  bool is_new;
  uint32_t *at = gyre__map_at(&g->map, key, &is_new);
  if (at != NULL && is_new) {
    *at = (uint32_t)GYRE__VEC_COUNT(&g->groups, struct group);
    struct group *made = gyre__vec_add(&g->groups, sizeof *made);
    if (made == NULL)
      at = NULL;
    else
      *made = (struct group){.key = key, .stack = stack, .frame = frame, .name = name};
  }
  if (at == NULL)
    g->failed = true;
  else
    sum_add(&GYRE__VEC_AT(&g->groups, struct group, *at)->sum, sum);
}

static uint64_t stack_key(const struct grouping *g, const struct gyre__stack_item *stack) {
  uint64_t key = 0;
  for (uint32_t i = 0; i < stack->count; i++) {
    uint64_t pair[2] = {key, frame_key(g, frame_number(g->s, stack, i))};
    key = XXH3_64bits(pair, sizeof pair);
  }
  return key;
}

/* Adds a stack to the group of each of its frames, once for each group: a frame counts where it is first
 * met. `seen`: for each group so far, the stack that was added last, plus 1. */
static void group_frames(struct grouping *g, uint32_t index, const struct sum *sum,
                         struct gyre__vec *seen) {
  const struct gyre__stack_item *stack = stack_at(g->s, index);
  static const struct sum nothing;
  for (uint32_t i = 0; i < stack->count && !g->failed; i++) {
    uint32_t number = frame_number(g->s, stack, i);
    uint64_t key = frame_key(g, number);
    group_add(g, key, &nothing, index, number, NONE);
    if (g->failed) return;
    uint32_t at = *gyre__map_find(&g->map, key);
    while (GYRE__VEC_COUNT(seen, uint32_t) <= at)
      if (gyre__vec_add(seen, sizeof(uint32_t)) == NULL) {
        g->failed = true;
        return;
      }
    uint32_t *last = GYRE__VEC_AT(seen, uint32_t, at);
    if (*last == index + 1) continue;
    *last = index + 1;
    sum_add(&GYRE__VEC_AT(&g->groups, struct group, at)->sum, sum);
  }
}

static void group_stacks(struct grouping *g, const struct sum *sums, bool cumulative) {
  struct gyre__vec seen = {0};
  for (uint32_t i = 0; i < stack_count(g->s) && !g->failed; i++) {
    const struct gyre__stack_item *stack = stack_at(g->s, i);
    if (sums[i].count == 0) continue; /* filtered */
    if (cumulative) {
      group_frames(g, i, &sums[i], &seen);
    } else if (g->by == GYRE_TRACE_BY_STACK) {
      group_add(g, stack_key(g, stack), &sums[i], i, NONE, NONE);
    } else if (g->by == GYRE_TRACE_BY_TYPE) {
      group_add(g, text_hash(gyre__snapshot_string(g->s, stack->type)), &sums[i], i, NONE,
                stack->type);
    } else {
      uint32_t number = frame_number(g->s, stack, 0);
      group_add(g, frame_key(g, number), &sums[i], i, number, NONE);
    }
  }
  gyre__vec_free(&seen);
}

static void group_threads(struct grouping *g) {
  size_t traces = gyre_snapshot_count(g->s);
  for (size_t i = 0; i < traces && !g->failed; i++) {
    const struct gyre__trace_item *item = trace_at(g->s, i);
    struct sum sum = sum_of(item);
    uint32_t name = *GYRE__SNAPSHOT_AT(g->s, GYRE__PART_THREADS, uint32_t, item->thread);
    uint64_t key[2] = {text_hash(gyre__snapshot_string(g->s, name)), item->thread};
    group_add(g, XXH3_64bits(key, sizeof key), &sum, item->stack, NONE, name);
  }
}

static void grouping_free(struct grouping *g) {
  gyre__map_free(&g->map);
  gyre__vec_free(&g->groups);
  gyre__vec_free(&g->hashes);
}

/* 0 or a negative errno value; *g is to be freed in either case. */
static int grouping_make(struct grouping *g, struct gyre_snapshot *s, enum gyre_trace_by by,
                         bool cumulative) {
  *g = (struct grouping){.s = s, .by = by};
  if (s == NULL || (unsigned)by > GYRE_TRACE_BY_THREAD) return -EINVAL;
  if (cumulative && (by > GYRE_TRACE_BY_FUNCTION || s->nframe < 2)) return -EINVAL;
  int result = gyre__snapshot_name(s);
  if (result != 0) return result;
  if (!hashes_make(g)) return -ENOMEM;
  if (by == GYRE_TRACE_BY_THREAD) {
    group_threads(g);
    return g->failed ? -ENOMEM : 0;
  }
  struct gyre__vec sums = {0};
  size_t stacks = stack_count(s), traces = gyre_snapshot_count(s);
  if (stacks != 0 && gyre__vec_add(&sums, stacks * sizeof(struct sum)) == NULL) return -ENOMEM;
  for (size_t i = 0; i < traces; i++) {
    const struct gyre__trace_item *item = trace_at(s, i);
    struct sum sum = sum_of(item);
    sum_add(GYRE__VEC_AT(&sums, struct sum, item->stack), &sum);
  }
  group_stacks(g, (const struct sum *)(const void *)sums.data, cumulative);
  gyre__vec_free(&sums);
  return g->failed ? -ENOMEM : 0;
}

/* ---- lists ----
 *
 * One mapping: head, stats, frames, and a copy of each snapshot's strings. */

struct list {
  struct gyre_statlist list;
  size_t bytes;
  struct gyre_stat stats[];
};

static int order_of_tracebacks(const struct gyre_traceback *a, const struct gyre_traceback *b) {
  for (size_t i = 0; i < a->count && i < b->count; i++) {
    int order = strcmp(a->frames[i].file, b->frames[i].file);
    if (order == 0)
      order = (a->frames[i].line > b->frames[i].line) - (a->frames[i].line < b->frames[i].line);
    if (order == 0) order = strcmp(a->frames[i].func, b->frames[i].func);
    if (order != 0) return order;
  }
  return (a->count > b->count) - (a->count < b->count);
}

static size_t magnitude(ptrdiff_t value) {
  return value < 0 ? (size_t)0 - (size_t)value : (size_t)value;
}

static int order_of_sizes(size_t a, size_t b) { return (a < b) - (a > b); }

/* The largest first. */
static int order_of_stats(const void *left, const void *right) {
  const struct gyre_stat *a = left, *b = right;
  int order = 0;
  if (a->is_diff) order = order_of_sizes(magnitude(a->size_diff), magnitude(b->size_diff));
  if (order == 0) order = order_of_sizes(a->size, b->size);
  if (order == 0 && a->is_diff)
    order = order_of_sizes(magnitude(a->count_diff), magnitude(b->count_diff));
  if (order == 0) order = order_of_sizes(a->count, b->count);
  if (order == 0) order = order_of_tracebacks(&b->traceback, &a->traceback);
  if (order == 0 && a->name != NULL && b->name != NULL) order = strcmp(b->name, a->name);
  return order;
}

static size_t frames_of(const struct grouping *g, const struct group *group) {
  return g->by == GYRE_TRACE_BY_STACK ? stack_at(g->s, group->stack)->count : 1;
}

struct filling {
  struct gyre_frame *next_frame;
  struct gyre_stat *next_stat;
};

/* What the group is about. */
static void stat_begin(struct filling *f, const struct grouping *g, const struct group *group,
                       const char *strings) {
  struct gyre_frame *frames = f->next_frame;
  size_t count = frames_of(g, group), total = 1;
  f->next_frame += count;
  if (g->by == GYRE_TRACE_BY_STACK) {
    gyre__frames_fill(g->s, group->stack, strings, frames);
    total = stack_at(g->s, group->stack)->total;
  } else if (group->frame != NONE) {
    gyre__frame_fill(frame_at(g->s, group->frame), strings, frames);
    frames->pc = 0;
    if (g->by != GYRE_TRACE_BY_LINE) frames->line = 0;
    if (g->by != GYRE_TRACE_BY_FUNCTION) frames->func = "";
  } else {
    *frames = (struct gyre_frame){.file = "", .func = ""};
  }
  *f->next_stat =
      (struct gyre_stat){.name = group->name != NONE ? strings + group->name : NULL,
                         .traceback = {.count = count, .total = total, .frames = frames}};
}

/* A file may say of its blocks that they are larger than anything. */
static size_t rounded(double value) {
  if (value >= 0x1p64) return SIZE_MAX;
  return value > 0 ? (size_t)(value + 0.5) : 0;
}

/* `old` is NULL unless it is a comparison; its groups that `now` does not have follow. */
static struct list *list_make(struct grouping *now, struct grouping *old) {
  size_t count = GYRE__VEC_COUNT(&now->groups, struct group), frames = 0;
  const struct group *groups = (const struct group *)(const void *)now->groups.data;
  for (size_t i = 0; i < count; i++)
    frames += frames_of(now, &groups[i]);
  size_t gone = 0;
  size_t old_count = old != NULL ? GYRE__VEC_COUNT(&old->groups, struct group) : 0;
  for (size_t i = 0; i < old_count; i++) {
    const struct group *group = GYRE__VEC_AT(&old->groups, struct group, i);
    if (gyre__map_find(&now->map, group->key) != NULL) continue;
    gone++;
    frames += frames_of(old, group);
  }
  size_t strings = now->s->parts[GYRE__PART_STRINGS].used;
  size_t old_strings = old != NULL ? old->s->parts[GYRE__PART_STRINGS].used : 0;
  size_t frames_at = sizeof(struct list) + (count + gone) * sizeof(struct gyre_stat);
  size_t strings_at = frames_at + frames * sizeof(struct gyre_frame);
  size_t bytes = strings_at + strings + old_strings;
  struct list *list = gyre__os_map(bytes, gyre__os_page_size());
  if (list == NULL) return NULL;
  list->bytes = bytes;
  list->list.count = count + gone;
  list->list.at = list->stats;
  char *texts = (char *)list + strings_at, *old_texts = texts + strings;
  memcpy(texts, now->s->parts[GYRE__PART_STRINGS].data, strings);
  if (old_strings != 0) memcpy(old_texts, old->s->parts[GYRE__PART_STRINGS].data, old_strings);
  struct filling f = {(struct gyre_frame *)(void *)((char *)list + frames_at), list->stats};
  for (size_t i = 0; i < count; i++, f.next_stat++) {
    stat_begin(&f, now, &groups[i], texts);
    struct gyre_stat *stat = f.next_stat;
    stat->size = rounded(groups[i].sum.size);
    stat->count = rounded(groups[i].sum.count);
    if (old == NULL) continue;
    const uint32_t *at = gyre__map_find(&old->map, groups[i].key);
    const struct sum *was =
        at != NULL ? &GYRE__VEC_AT(&old->groups, struct group, *at)->sum : &(struct sum){0, 0};
    stat->is_diff = 1;
    stat->size_diff = (ptrdiff_t)(stat->size - rounded(was->size));
    stat->count_diff = (ptrdiff_t)(stat->count - rounded(was->count));
  }
  for (size_t i = 0; i < old_count; i++) {
    const struct group *group = GYRE__VEC_AT(&old->groups, struct group, i);
    if (gyre__map_find(&now->map, group->key) != NULL) continue;
    stat_begin(&f, old, group, old_texts);
    f.next_stat->is_diff = 1;
    f.next_stat->size_diff = (ptrdiff_t)(0 - rounded(group->sum.size));
    f.next_stat->count_diff = (ptrdiff_t)(0 - rounded(group->sum.count));
    f.next_stat++;
  }
  qsort(list->stats, list->list.count, sizeof list->stats[0], order_of_stats);
  return list;
}

int gyre_snapshot_stats(gyre_snapshot *s, enum gyre_trace_by by, int cumulative,
                        struct gyre_statlist **out) {
  struct grouping g;
  int result = out != NULL ? grouping_make(&g, s, by, cumulative != 0) : -EINVAL;
  if (out == NULL) return result;
  struct list *list = result == 0 ? list_make(&g, NULL) : NULL;
  grouping_free(&g);
  if (result == 0 && list == NULL) result = -ENOMEM;
  if (result == 0) *out = &list->list;
  return result;
}

int gyre_snapshot_diff(gyre_snapshot *s, gyre_snapshot *old, enum gyre_trace_by by, int cumulative,
                       struct gyre_statlist **out) {
  if (out == NULL) return -EINVAL;
  struct grouping now, before = {0};
  int result = grouping_make(&now, s, by, cumulative != 0);
  if (result == 0) result = grouping_make(&before, old, by, cumulative != 0);
  struct list *list = result == 0 ? list_make(&now, &before) : NULL;
  grouping_free(&now);
  grouping_free(&before);
  if (result == 0 && list == NULL) result = -ENOMEM;
  if (result == 0) *out = &list->list;
  return result;
}

void gyre_statlist_free(struct gyre_statlist *list) {
  if (list == NULL) return;
  struct list *whole = (struct list *)(void *)list;
  gyre__os_unmap(whole, whole->bytes);
}

/* ---- filters ---- */

static bool frame_fits(const struct gyre_snapshot *s, const struct gyre_filter *filter,
                       uint32_t number) {
  const struct gyre__frame_item *f = frame_at(s, number);
  if (fnmatch(filter->pattern, gyre__snapshot_string(s, f->file), FNM_NOESCAPE) != 0) return false;
  return filter->line == 0 || filter->line == f->line;
}

/* What a filter says of a stack, as Filter._match_traceback(). */
static bool stack_passes(const struct gyre_snapshot *s, const struct gyre_filter *filter,
                         const struct gyre__stack_item *stack) {
  bool fits = false;
  uint32_t looks = filter->all_frames ? stack->count : 1;
  for (uint32_t i = 0; i < looks && !fits; i++)
    fits = frame_fits(s, filter, frame_number(s, stack, i));
  return fits == (filter->inclusive != 0);
}

/* Filter._match() and DomainFilter._match(). */
static bool trace_passes(const struct gyre_filter *filter, bool stack_passes_it, uint32_t domain) {
  if (filter->domain < 0 && filter->pattern != NULL) return stack_passes_it;
  bool same = filter->domain < 0 || domain == (uint32_t)filter->domain;
  if (filter->pattern == NULL) return same == (filter->inclusive != 0);
  return filter->inclusive ? stack_passes_it && same : stack_passes_it || !same;
}

/* For each filter and stack, whether it passes: a byte a stack each. */
static bool verdicts_make(const struct gyre_snapshot *s, const struct gyre_filter *filters,
                          size_t count, struct gyre__vec *out) {
  size_t stacks = stack_count(s);
  if (stacks == 0 || count == 0) return true;
  if (gyre__vec_add(out, stacks * count) == NULL) return false;
  for (size_t f = 0; f < count; f++)
    for (size_t i = 0; i < stacks; i++)
      out->data[f * stacks + i] =
          filters[f].pattern != NULL && stack_passes(s, &filters[f], stack_at(s, i));
  return true;
}

static bool trace_stays(const struct gyre_snapshot *s, const struct gyre_filter *filters,
                        size_t count, const char *verdicts, const struct gyre__trace_item *item) {
  size_t stacks = stack_count(s);
  bool wanted = false, has_inclusive = false;
  for (size_t f = 0; f < count; f++) {
    bool passes = trace_passes(&filters[f], verdicts[f * stacks + item->stack] != 0, item->domain);
    if (filters[f].inclusive) {
      has_inclusive = true;
      wanted |= passes;
    } else if (!passes) {
      return false;
    }
  }
  return wanted || !has_inclusive;
}

static bool part_copy(struct gyre_snapshot *to, const struct gyre_snapshot *from, unsigned part) {
  const struct gyre__vec *v = &from->parts[part];
  to->parts[part].used = 0;
  if (v->used == 0) return true;
  void *copy = gyre__vec_add(&to->parts[part], v->used);
  if (copy != NULL) memcpy(copy, v->data, v->used);
  return copy != NULL;
}

static bool filter_into(struct gyre_snapshot *to, const struct gyre_snapshot *s,
                        const struct gyre_filter *filters, size_t count) {
  for (unsigned part = GYRE__PART_STACKS; part < GYRE__PARTS; part++)
    if (!part_copy(to, s, part)) return false;
  gyre__map_free(&to->string_map);
  to->nframe = s->nframe;
  to->sample = s->sample;
  /* relaxed: nobody else has it. */
  gyre__store_relaxed(&to->is_named, 1);
  struct gyre__vec verdicts = {0};
  bool done = verdicts_make(s, filters, count, &verdicts);
  size_t traces = gyre_snapshot_count(s);
  for (size_t i = 0; i < traces && done; i++) {
    const struct gyre__trace_item *item = trace_at(s, i);
    if (!trace_stays(s, filters, count, verdicts.data, item)) continue;
    struct gyre__trace_item *kept = gyre__vec_add(&to->parts[GYRE__PART_TRACES], sizeof *kept);
    done = kept != NULL;
    if (done) *kept = *item;
  }
  gyre__vec_free(&verdicts);
  return done;
}

gyre_snapshot *gyre_snapshot_filter(gyre_snapshot *s, const struct gyre_filter *filters,
                                    size_t count) {
  if (s == NULL || (filters == NULL && count != 0)) {
    errno = EINVAL;
    return NULL;
  }
  int result = gyre__snapshot_name(s);
  struct gyre_snapshot *to = result == 0 ? gyre__snapshot_new() : NULL;
  if (to != NULL && filter_into(to, s, filters, count)) return to;
  gyre_snapshot_free(to);
  errno = ENOMEM;
  return NULL;
}
