/* SPDX-License-Identifier: MIT */
/* Are visit functions right?
 *
 * In a stopped world nobody but a visit function can change anything while it runs. So each is called
 * twice, and then
 *   - both calls have to report the same references in the same order;
 *   - what other objects' fields and all visit functions report of an object cannot be more than its
 *     counts;
 *   - the counts of the object and of what it reports, its lock, and this thread's pools and log of young
 *     objects have to be as they were: nothing was allocated, freed, counted or locked.
 * What a visit function does not report shows up elsewhere: as a count that no reference explains
 * (gyre_graph_verdict()). Faults are noted, and told to the log when the world runs again. With option
 * check_visits this is done before each full collection that is asked for.
 */
#include <errno.h>
#include <string.h>

#include "lib/observe/graph.h"

enum fault { FAULT_DIFFERS, FAULT_TOO_MANY, FAULT_LIBRARY, FAULT_COUNTED, FAULTS };

struct found {
  const void *object;
  uint32_t type;
  enum fault fault;
  size_t first, second; /* figures for the message */
};

/* The object's count, and how many references to it have been seen. */
struct seen {
  uintptr_t header; /* 0: unused */
  uint32_t references;
};

struct check {
  GYRE__ARRAY(struct found) found;
  GYRE__ARRAY(uintptr_t) reported[2];
  unsigned round;
  bool no_memory;
  /* Objects that visit functions report: a table of a power of two, at most half full. */
  GYRE__ARRAY(struct seen) seen;
  size_t seen_count;
};

static int report(void *object, void *arg) {
  struct check *c = arg;
  if (object == NULL) return 0;
  if (!GYRE__ARRAY_PUSH(&c->reported[c->round], (uintptr_t)object)) c->no_memory = true;
  return c->no_memory;
}

static void note(struct check *c, gyre__header *h, enum fault fault, size_t first, size_t second) {
  struct found one = {gyre__object_of(h), gyre__header_type_id(h), fault, first, second};
  if (!GYRE__ARRAY_PUSH(&c->found, one)) c->no_memory = true;
}

/* ---- a table of those that are reported ---- */

static struct seen *seen_of(struct check *c, uintptr_t header) {
  size_t size = c->seen.count;
  size_t at = (size_t)(((uint64_t)header * UINT64_C(0x9E3779B97F4A7C15)) >> 32) & (size - 1);
  while (c->seen.at[at].header != header && c->seen.at[at].header != 0)
    at = (at + 1) & (size - 1);
  return &c->seen.at[at];
}

static bool seen_grow(struct check *c) {
  __typeof__(c->seen) old = c->seen, fresh = {0};
  if (!GYRE__ARRAY_MAKE(&fresh, old.count == 0 ? 256 : 2 * old.count)) {
    c->no_memory = true;
    return false;
  }
  c->seen = fresh;
  for (size_t i = 0; i < old.count; i++)
    if (old.at[i].header != 0) *seen_of(c, old.at[i].header) = old.at[i];
  GYRE__ARRAY_DROP(&old);
  return true;
}

static void seen_add(struct check *c, uintptr_t object) {
  if (2 * (c->seen_count + 1) > c->seen.count && !seen_grow(c)) return;
  struct seen *one = seen_of(c, object - GYRE_HEADER_SIZE);
  if (one->header == 0) c->seen_count++;
  one->header = object - GYRE_HEADER_SIZE;
  one->references++;
}

/* A field refers to an object that a visit function reports too, perhaps. */
static void seen_more(struct check *c, uintptr_t object) {
  struct seen *one = seen_of(c, object - GYRE_HEADER_SIZE);
  if (one->header != 0) one->references++;
}

/* ---- one object ---- */

/* What of this thread a call of the library would change. */
struct before {
  gyre__pool pools[sizeof(((gyre_thread *)0)->gyre__pools) / sizeof(gyre__pool)];
  void *young_end;
};

static void before_take(const struct gyre__objects *self, struct before *b) {
  memcpy(b->pools, self->heap.thread.base.gyre__pools, sizeof b->pools);
  /* relaxed: this thread's own. */
  b->young_end = gyre__load_relaxed(&self->heap.thread.base.gyre__young_end);
}

static bool is_as_before(const struct gyre__objects *self, const struct before *b) {
  /* relaxed: this thread's own. */
  return gyre__load_relaxed(&self->heap.thread.base.gyre__young_end) == b->young_end &&
         memcmp(b->pools, self->heap.thread.base.gyre__pools, sizeof b->pools) == 0;
}

/* A sum over the counts of the object and of what it reported. */
static uint64_t counts_of(const struct check *c, const gyre__header *h) {
  /* relaxed: the world is stopped. */
  uint64_t sum = gyre__load_relaxed(&h->shared) + (uint64_t)gyre__load_relaxed(&h->local);
  for (size_t i = 0; i < c->reported[0].count; i++) {
    const gyre__header *to = gyre__header_of((void *)c->reported[0].at[i]);
    sum = sum * 31 + gyre__load_relaxed(&to->shared) + (uint64_t)gyre__load_relaxed(&to->local);
  }
  return sum;
}

static bool differs(const struct check *c) {
  size_t n = c->reported[0].count;
  return n != c->reported[1].count ||
         (n != 0 && memcmp(c->reported[0].at, c->reported[1].at, n * sizeof(uintptr_t)) != 0);
}

static void check_object(struct check *c, struct gyre__objects *self, gyre__header *h) {
  const gyre_type *type = gyre__header_type(h);
  if (type->visit == NULL || !gyre__lock_try_quietly(h)) return;
  struct before before;
  c->reported[0].count = c->reported[1].count = 0;
  before_take(self, &before);
  c->round = 0;
  (void)type->visit(gyre__object_of(h), report, c);
  bool same = is_as_before(self, &before);
  uint64_t counts = counts_of(c, h);
  c->round = 1;
  (void)type->visit(gyre__object_of(h), report, c);
  same = same && is_as_before(self, &before);
  if (counts != counts_of(c, h)) note(c, h, FAULT_COUNTED, 0, 0);
  /* relaxed: the world is stopped. */
  if (!(gyre__load_relaxed(&h->bits) & GYRE__BIT_LOCKED))
    same = false;
  else
    gyre__unlock_quietly(h);
  if (!same) note(c, h, FAULT_LIBRARY, 0, 0);
  if (differs(c)) note(c, h, FAULT_DIFFERS, c->reported[0].count, c->reported[1].count);
  for (size_t i = 0; i < c->reported[0].count; i++)
    seen_add(c, c->reported[0].at[i]);
}

/* ---- all objects ---- */

typedef void object_fn(struct check *c, struct gyre__objects *self, gyre__header *h,
                       struct gyre__page *page);

static void for_each_object(struct check *c, struct gyre__objects *self,
                            const struct gyre__object_pages *pages, object_fn *fn) {
  for (size_t i = 0; i < pages->pages.count; i++) {
    const struct gyre__object_page *p = &pages->pages.at[i];
    for (uint32_t k = 0; k < p->end && p->page->kind == GYRE__TRACKED && !c->no_memory; k++) {
      gyre__header *h = (gyre__header *)gyre__page_block(p->page, k);
      if (gyre__peeked_alive(gyre__header_peek(h))) fn(c, self, h, p->page);
    }
  }
}

static void check_one(struct check *c, struct gyre__objects *self, gyre__header *h,
                      struct gyre__page *page) {
  (void)page;
  check_object(c, self, h);
}

static void slots_see(struct check *c, struct gyre__objects *self, gyre__header *h,
                      struct gyre__page *page) {
  const gyre_type *type = gyre__header_type(h);
  (void)self;
  GYRE__FOR_EACH_SLOT(type, h, page, slot, {
    /* relaxed: the world is stopped. */
    void *target = gyre__load_relaxed(&slot->gyre__ref);
    if (target != NULL) seen_more(c, (uintptr_t)target);
  });
}

static void counts_compare(struct check *c) {
  for (size_t i = 0; i < c->seen.count && !c->no_memory; i++) {
    if (c->seen.at[i].header == 0) continue;
    gyre__header *h = (gyre__header *)c->seen.at[i].header;
    ptrdiff_t count = gyre_refcount(gyre__object_of(h));
    if (count < (ptrdiff_t)c->seen.at[i].references)
      note(c, h, FAULT_TOO_MANY, c->seen.at[i].references, (size_t)count);
  }
}

static void tell(const struct found *f) {
  const char *name = gyre__type(f->type)->name;
  switch (f->fault) {
  case FAULT_DIFFERS:
    gyre__log("visit of %s at %p: reports %zu references, then %zu, or others", name, f->object,
              f->first, f->second);
    break;
  case FAULT_TOO_MANY:
    gyre__log("visit: %zu references to %s at %p are reported, but it is counted %zu times",
              f->first, name, f->object, f->second);
    break;
  case FAULT_LIBRARY:
    gyre__log("visit of %s at %p: allocates, frees or unlocks", name, f->object);
    break;
  default:
    gyre__log("visit of %s at %p: counts", name, f->object);
  }
}

ptrdiff_t gyre_heap_check_visits(void) {
  struct gyre__objects *self;
  int cancel;
  ptrdiff_t result = gyre__look_begin(&self, &cancel);
  if (result != 0) return result;
  struct check c = {0};
  struct gyre__object_pages pages;
  gyre__world_stop(&self->heap.thread);
  if (gyre__object_pages_gather(&pages) && seen_grow(&c)) {
    for_each_object(&c, self, &pages, check_one);
    for_each_object(&c, self, &pages, slots_see);
    counts_compare(&c);
  } else {
    c.no_memory = true;
  }
  gyre__world_resume(&self->heap.thread);
  gyre__object_pages_drop(&pages);
  gyre__look_end(self, cancel);
  for (size_t i = 0; i < c.found.count && !c.no_memory; i++)
    tell(&c.found.at[i]);
  result = c.no_memory ? -ENOMEM : (ptrdiff_t)c.found.count;
  GYRE__ARRAY_DROP(&c.found);
  GYRE__ARRAY_DROP(&c.reported[0]);
  GYRE__ARRAY_DROP(&c.reported[1]);
  GYRE__ARRAY_DROP(&c.seen);
  return result;
}

static void __attribute__((constructor)) visits_init(void) {
  gyre__visits_check = gyre_heap_check_visits;
}
