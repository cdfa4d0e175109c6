/* SPDX-License-Identifier: MIT */
/* The census: how many objects of each type there are, without a copy of them.
 *
 * All pages are walked in the order of their addresses, and each block's header is read once: eight bytes
 * that are written at once. Nobody is stopped and no handshake is made, since nothing but headers and the
 * lengths of arrays is read, and these are readable whatever happens. An array may die, and its block be used
 * for another object, before its length is read: then that is any number, and no more is believed than the block
 * has room for. Neighbours are often of one type, so figures are added a run of them at a time.
 *
 * The tables by type have room for the types there are when the census begins; objects of newer ones were
 * made meanwhile.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/observe/graph.h"
#include "lib/object/type.h"

struct figures {
  uint64_t count, bytes, block_bytes;
};

struct census {
  GYRE__ARRAY(struct figures) of; /* by type id */
  uint32_t types;                 /* ids run from 1 to this */
};

static int census_make(struct census *c) {
  *c = (struct census){.types = gyre__type_count()};
  return GYRE__ARRAY_MAKE(&c->of, (size_t)c->types + 1) ? 0 : -ENOMEM;
}

static void census_drop(struct census *c) { GYRE__ARRAY_DROP(&c->of); }

static void run_add(struct census *c, const struct gyre__page *page, uint32_t id, uint64_t count,
                    uint64_t elements) {
  if (count == 0 || id > c->types) return;
  const gyre_type *type = gyre__type(id);
  struct figures *f = &c->of.at[id];
  f->count += count;
  f->bytes += count * type->size + elements * type->element_size;
  f->block_bytes += count * gyre__page_usable(page);
}

/* Not looked at by sanitizers: the word may be in a block that was freed just now, or another object's. */
__attribute__((no_sanitize("address", "thread"))) static size_t
length_at(const gyre__atomic_size *word) {
  /* relaxed: see above; pairs with nothing. */
  return gyre__load_relaxed(word);
}

static uint64_t elements_of(const gyre_type *type, const gyre__header *h,
                            const struct gyre__page *page) {
  GYRE_WINDOW("census/length");
  size_t length = length_at(gyre__array_length_word(h, page));
  size_t room = gyre__page_usable(page) - GYRE_HEADER_SIZE - type->size - sizeof length;
  return length <= room / type->element_size ? length : 0;
}

static void page_count(struct census *c, const struct gyre__object_page *p) {
  const struct gyre__page *page = p->page;
  const char *block = page->start;
  size_t step = page->block_size;
  uint32_t run_id = 0;
  bool has_elements = false;
  uint64_t run = 0, elements = 0;
  for (uint32_t i = 0; i < p->end; i++, block += step) {
    const gyre__header *h = (const gyre__header *)(const void *)block;
    uint64_t word = gyre__header_peek(h);
    if (!gyre__peeked_alive(word)) continue;
    uint32_t id = gyre__peeked_type(word);
    if (GYRE_UNLIKELY(id != run_id)) {
      run_add(c, page, run_id, run, elements);
      run_id = id;
      run = elements = 0;
      has_elements = gyre__type(id)->element_size != 0;
    }
    run++;
    if (GYRE_UNLIKELY(has_elements)) elements += elements_of(gyre__type(id), h, page);
  }
  run_add(c, page, run_id, run, elements);
}

/* Counts all objects. 0 or a negative errno value. */
static int census_take(struct census *c) {
  int result = census_make(c);
  if (result != 0) return result;
  struct gyre__objects *self;
  int cancel;
  result = gyre__look_begin(&self, &cancel);
  if (result == 0) {
    struct gyre__object_pages pages;
    if (!gyre__object_pages_gather(&pages)) result = -ENOMEM;
    for (size_t i = 0; result == 0 && i < pages.pages.count; i++) {
      gyre_safepoint();
      page_count(c, &pages.pages.at[i]);
    }
    gyre__object_pages_drop(&pages);
    gyre__look_end(self, cancel);
  }
  if (result != 0) census_drop(c);
  return result;
}

/* ---- lists ---- */

static int by_name(const void *a, const void *b) {
  const struct gyre_type_count *x = a, *y = b;
  int order = strcmp(x->type->name, y->type->name);
  return order != 0 ? order : (x->type > y->type) - (x->type < y->type);
}

static int by_count(const void *a, const void *b) {
  const struct gyre_type_count *x = a, *y = b;
  return x->count != y->count ? (x->count < y->count) - (x->count > y->count) : by_name(a, b);
}

typedef int compare_fn(const void *, const void *);

/* All types with objects, sorted; their number, or a negative errno value. The caller drops the list. */
typedef GYRE__ARRAY(struct gyre_type_count) count_list;

static ptrdiff_t counts_list(count_list *list, compare_fn *order) {
  struct census c;
  int result = census_take(&c);
  if (result != 0) return result;
  for (uint32_t id = 1; id <= c.types && result == 0; id++) {
    const struct figures *f = &c.of.at[id];
    if (f->count == 0) continue;
    struct gyre_type_count one = {gyre__type(id), f->count, f->bytes, f->block_bytes};
    if (!GYRE__ARRAY_PUSH(list, one)) result = -ENOMEM;
  }
  census_drop(&c);
  if (result == 0 && list->count > 1) qsort(list->at, list->count, sizeof *list->at, order);
  return result == 0 ? (ptrdiff_t)list->count : result;
}

static ptrdiff_t counts_give(struct gyre_type_count *out, size_t room, compare_fn *order) {
  if (out == NULL && room != 0) return -EINVAL;
  count_list list = {0};
  ptrdiff_t result = counts_list(&list, order);
  if (result > 0 && room != 0)
    memcpy(out, list.at, (list.count < room ? list.count : room) * sizeof *out);
  GYRE__ARRAY_DROP(&list);
  return result;
}

ptrdiff_t gyre_heap_typestats(struct gyre_type_count *out, size_t room) {
  return counts_give(out, room, by_name);
}

ptrdiff_t gyre_heap_most_common(struct gyre_type_count *out, size_t room) {
  return counts_give(out, room, by_count);
}

/* The width of a column of names, with this one in it. */
static int name_width(const gyre_type *type, int width) {
  size_t length = strlen(type->name);
  if (length > 60) length = 60;
  return (int)length > width ? (int)length : width;
}

int gyre_heap_show_most_common(size_t limit, gyre_text_sink *sink, void *arg) {
  if (sink == NULL) return -EINVAL;
  count_list list = {0};
  ptrdiff_t result = counts_list(&list, by_count);
  if (result >= 0) {
    if (limit == 0 || limit > list.count) limit = list.count;
    int width = 0;
    for (size_t i = 0; i < limit; i++)
      width = name_width(list.at[i].type, width);
    struct gyre__text t;
    gyre__text_begin(&t, sink, arg);
    for (size_t i = 0; i < limit; i++)
      gyre__text_format(&t, "%-*.200s %10llu %14llu bytes\n", width, list.at[i].type->name,
                        (unsigned long long)list.at[i].count, (unsigned long long)list.at[i].bytes);
    result = gyre__text_end(&t);
  }
  GYRE__ARRAY_DROP(&list);
  return (int)result;
}

ptrdiff_t gyre_heap_count(const gyre_type *type) {
  if (type == NULL) return -EINVAL;
  struct census c;
  int result = census_take(&c);
  if (result != 0) return result;
  uint32_t id = gyre__type_id(type);
  ptrdiff_t count = id <= c.types ? (ptrdiff_t)c.of.at[id].count : 0;
  census_drop(&c);
  return count;
}

/* ---- growth ---- */

struct peak {
  uint64_t most;
  uint64_t grown; /* the last look at which it grew */
};

struct gyre_growth {
  uint64_t looks;
  GYRE__ARRAY(struct peak) of; /* by type id; newer types: none yet */
};

gyre_growth *gyre_growth_new(void) {
  return gyre__os_map(sizeof(gyre_growth), gyre__os_page_size());
}

void gyre_growth_free(gyre_growth *growth) {
  if (growth == NULL) return;
  GYRE__ARRAY_DROP(&growth->of);
  gyre__os_unmap(growth, sizeof *growth);
}

static int by_increase(const void *a, const void *b) {
  const struct gyre_type_growth *x = a, *y = b;
  if (x->increase != y->increase) return (x->increase < y->increase) - (x->increase > y->increase);
  return strcmp(x->type->name, y->type->name);
}

typedef GYRE__ARRAY(struct gyre_type_growth) growth_list;

/* The types that have grown, sorted, noted in `growth`. The caller drops the list. */
static ptrdiff_t growth_look(gyre_growth *growth, growth_list *list) {
  ptrdiff_t result = gyre_gc_collect(GYRE_GC_NGEN - 1);
  if (result < 0) return result;
  struct census c;
  result = census_take(&c);
  if (result != 0) return result;
  if (!GYRE__ARRAY_RESERVE(&growth->of, (size_t)c.types + 1) ||
      !GYRE__ARRAY_RESERVE(list, (size_t)c.types + 1)) {
    census_drop(&c);
    return -ENOMEM;
  }
  growth->of.count = (size_t)c.types + 1;
  growth->looks++;
  for (uint32_t id = 1; id <= c.types; id++) {
    struct peak *peak = &growth->of.at[id];
    uint64_t count = c.of.at[id].count;
    if (count <= peak->most) continue;
    list->at[list->count++] = (struct gyre_type_growth){gyre__type(id), count, count - peak->most};
    *peak = (struct peak){.most = count, .grown = growth->looks};
  }
  census_drop(&c);
  if (list->count > 1) qsort(list->at, list->count, sizeof *list->at, by_increase);
  return (ptrdiff_t)list->count;
}

ptrdiff_t gyre_heap_growth(gyre_growth *growth, struct gyre_type_growth *out, size_t room) {
  if (growth == NULL || (out == NULL && room != 0)) return -EINVAL;
  growth_list list = {0};
  ptrdiff_t result = growth_look(growth, &list);
  if (room > 0 && result > 0)
    memcpy(out, list.at, (list.count < room ? list.count : room) * sizeof *out);
  GYRE__ARRAY_DROP(&list);
  return result;
}

int gyre_heap_show_growth(gyre_growth *growth, size_t limit, gyre_text_sink *sink, void *arg) {
  if (growth == NULL || sink == NULL) return -EINVAL;
  growth_list list = {0};
  ptrdiff_t result = growth_look(growth, &list);
  if (result >= 0) {
    if (limit == 0 || limit > list.count) limit = list.count;
    int width = 0;
    for (size_t i = 0; i < limit; i++)
      width = name_width(list.at[i].type, width);
    struct gyre__text t;
    gyre__text_begin(&t, sink, arg);
    for (size_t i = 0; i < limit; i++)
      gyre__text_format(&t, "%-*.200s %10llu %+10lld\n", width, list.at[i].type->name,
                        (unsigned long long)list.at[i].count, (long long)list.at[i].increase);
    result = gyre__text_end(&t);
  }
  GYRE__ARRAY_DROP(&list);
  return (int)result;
}

int gyre_growth_has_grown(const gyre_growth *growth, const gyre_type *type) {
  if (growth == NULL || type == NULL || growth->looks == 0) return 0;
  uint32_t id = gyre__type_id(type);
  return id != 0 && id < growth->of.count && growth->of.at[id].grown == growth->looks;
}
