/* SPDX-License-Identifier: MIT */
/* The heap's half of allocation tracing: see the essay in lib/observe/trace.c.
 *
 * Marks are in arrays, one for each page that has a traced block, carved from chunks that stay mapped for
 * ever: so a snapshot may read them, and a late free by another thread write to one, whatever has become of
 * the page. A page with marks has no short way for frees: its owner field is 0, which sends objects to
 * gyre__heap_free_slow(), and its segment's small_owner NULL, which does the same for raw blocks.
 *
 * The bytes traced are counted in each heap and go to the process's figure when they have changed by
 * FLOW_BYTES, so that no line is shared on the way. The peak is exact for one thread, and for several
 * within that much for each. Figures carry the number of their session; what belongs to another is not
 * counted.
 */
#include "lib/heap/traced.h"

#if !GYRE__IS_MALLOC

#include <errno.h>
#include <string.h>

#include "lib/heap/raw.h"

struct gyre__trace_word gyre__trace_word;
struct gyre__trace_settings gyre__trace_settings;
struct gyre__tracer_hooks gyre__tracer_hooks;
gyre__atomic_size gyre__traced_bytes __attribute__((aligned(64)));

static void bytes_add(size_t bytes) {
  /* relaxed: a figure; partners: itself in other threads. */
  gyre__fetch_add_relaxed(&gyre__traced_bytes, bytes);
}

/* ---- figures ---- */

#define FLOW_BYTES 65536

/* [ bytes : 52 | session : 12 ]: begun with the session, then changed by whoever has some to add. Who comes
 * late, with another session's bytes, finds another number and leaves them alone. */
static struct { gyre__atomic_u64 now, peak; } __attribute__((aligned(64))) figures;

static uint64_t figure_make(int64_t bytes, uint32_t session) {
  return (uint64_t)bytes << 12 | session;
}
static int64_t figure_bytes(uint64_t figure) { return (int64_t)figure >> 12; }
static uint32_t figure_session(uint64_t figure) {
  return (uint32_t)figure & (GYRE__TRACE_SESSIONS - 1);
}

void gyre__traced_figures_begin(uint32_t session) {
  /* relaxed: published with the session's number; pairs with figure_add(). */
  gyre__store_relaxed(&figures.now, figure_make(0, session));
  gyre__store_relaxed(&figures.peak, figure_make(0, session));
}

static void peak_raise(int64_t bytes, uint32_t session) {
  /* relaxed: a figure; pairs with itself in other threads. */
  uint64_t old = gyre__load_relaxed(&figures.peak);
  while (figure_session(old) == session && figure_bytes(old) < bytes)
    /* relaxed: as above. */
    if (gyre__cas_weak_relaxed(&figures.peak, &old, figure_make(bytes, session))) return;
}

static void figure_add(uint32_t session, int64_t change, int64_t most) {
  /* relaxed: figures, without regard to order; pairs with itself in other threads. */
  uint64_t old = gyre__load_relaxed(&figures.now);
  int64_t before;
  GYRE_WINDOW("trace/figure");
  do {
    if (figure_session(old) != session) return;
    before = figure_bytes(old);
    /* relaxed: as above. */
  } while (!gyre__cas_weak_relaxed(&figures.now, &old, figure_make(before + change, session)));
  if (most > 0) peak_raise(before + most, session);
}

static GYRE_NOINLINE void flow_on(struct gyre__tracer *t, int64_t sum) {
  /* relaxed: as in flow(). */
  figure_add(t->session, sum, (int64_t)gyre__load_relaxed(&t->change_max));
  gyre__store_relaxed(&t->change_max, 0);
  gyre__store_relaxed(&t->change, 0);
}

/* The most there was since the figures last went out. */
static GYRE_NOINLINE void flow_up(struct gyre__tracer *t, int64_t sum) {
  /* relaxed: as in flow(). */
  gyre__store_relaxed(&t->change_max, (size_t)sum);
  if (sum > FLOW_BYTES) flow_on(t, sum);
}

static inline void flow(struct gyre__tracer *t, int64_t change) {
  /* relaxed: written by this thread alone; read for figures. */
  int64_t sum = (int64_t)gyre__load_relaxed(&t->change) + change;
  if (change > 0 && sum > (int64_t)gyre__load_relaxed(&t->change_max))
    gyre__store_relaxed(&t->change_max, (size_t)sum);
  /* relaxed: as above. */
  gyre__store_relaxed(&t->change, (size_t)sum);
  if (GYRE_UNLIKELY((uint64_t)(sum + FLOW_BYTES) > 2 * FLOW_BYTES)) flow_on(t, sum);
}

void gyre__traced_account(struct gyre__heap *self, uint32_t session, int64_t bytes) {
  /* relaxed: our own. */
  struct gyre__tracer *t = (struct gyre__tracer *)gyre__load_relaxed(&self->tracer);
  if (GYRE_LIKELY(t != NULL && t->session == session))
    flow(t, bytes);
  else
    figure_add(session, bytes, bytes);
}

static struct gyre__tracer *tracer_at(uint32_t slot) {
  return gyre__tracer_of((struct gyre__heap *)gyre__thread_slot(slot));
}

void gyre__traced_figures(size_t *now, size_t *peak) {
  /* relaxed: figures; pairs with flow() and figure_add(). */
  uint32_t session = gyre__load_relaxed(&gyre__trace_now);
  uint64_t figure = gyre__load_relaxed(&figures.now), top = gyre__load_relaxed(&figures.peak);
  int64_t bytes = figure_session(figure) == session ? figure_bytes(figure) : 0;
  int64_t most = figure_session(top) == session ? figure_bytes(top) : 0;
  int64_t sum = bytes;
  for (uint32_t id = 1; id <= gyre__thread_slot_count(); id++) {
    struct gyre__tracer *t = tracer_at(id);
    /* acquire: the two are of that session; pairs with settings_read(). */
    if (t == NULL || gyre__load_acquire(&t->flow) != session) continue;
    /* relaxed: as above. */
    sum += (int64_t)gyre__load_relaxed(&t->change);
    int64_t high = bytes + (int64_t)gyre__load_relaxed(&t->change_max);
    if (high > most) most = high;
  }
  if (session == 0) sum = most = 0;
  if (sum < 0) sum = 0;
  *now = (size_t)sum;
  *peak = (size_t)(most > sum ? most : sum);
}

void gyre__traced_reset_peak(void) {
  /* relaxed: as in gyre__traced_figures(). */
  uint32_t session = gyre__load_relaxed(&gyre__trace_now);
  uint64_t figure = gyre__load_relaxed(&figures.now), top = gyre__load_relaxed(&figures.peak);
  int64_t sum = figure_bytes(figure);
  for (uint32_t id = 1; id <= gyre__thread_slot_count(); id++) {
    struct gyre__tracer *t = tracer_at(id);
    /* acquire: as in gyre__traced_figures(). */
    if (t == NULL || gyre__load_acquire(&t->flow) != session) continue;
    /* relaxed: if its thread is just raising it, the peak is that of a moment ago. */
    size_t change = gyre__load_relaxed(&t->change);
    gyre__store_relaxed(&t->change_max, change);
    sum += (int64_t)change;
  }
  /* What the heaps are about to take off counts too. relaxed: as above; a session that has begun meanwhile keeps
   * its peak. */
  while (figure_session(figure) == session && figure_session(top) == session)
    if (gyre__cas_weak_relaxed(&figures.peak, &top, figure_make(sum, session))) return;
}

/* ---- sampling ---- */

/* xorshift64* (Vigna 2016); the upper bits. */
static uint32_t random_next(struct gyre__tracer *t) {
  t->random ^= t->random >> 12;
  t->random ^= t->random << 25;
  t->random ^= t->random >> 27;
  return (uint32_t)((t->random * UINT64_C(0x2545F4914F6CDD1D)) >> 32);
}

/* Bytes until the next sample: an exponential variate with that mean. Von Neumann's way to one, by
 * comparisons alone ("Various techniques used in connection with random digits", 1951). */
static int64_t draw(struct gyre__tracer *t) {
  for (uint64_t whole = 0;; whole++) {
    uint32_t first = random_next(t), last = first;
    bool odd = true;
    for (uint32_t next; (next = random_next(t)) < last; last = next)
      odd = !odd;
    if (!odd) continue;
    gyre__wide bytes = (gyre__wide)t->sample * ((uint64_t)whole << 32 | first) >> 32;
    return bytes < INT64_MAX ? (int64_t)bytes + 1 : INT64_MAX;
  }
}

uint64_t gyre__traced_weight_of(size_t size, uint64_t mean) {
  if (mean == 0) return GYRE__WEIGHT_ONE;
  double x = (double)size / (double)mean;
  if (x > 40) return GYRE__WEIGHT_ONE;
  /* 1 - exp(-t) for a small t by its series, then 1 - exp(-2t) from that. */
  unsigned halvings = 0;
  for (; x > 0.125; x /= 2)
    halvings++;
  double term = x, likely = 0;
  for (int i = 2; i < 12; i++) {
    likely += term;
    term *= -x / i;
  }
  for (; halvings > 0; halvings--)
    likely *= 2 - likely;
  if (likely <= 0) likely = 1e-12; /* of a block of no bytes */
  double weight = (double)GYRE__WEIGHT_ONE / likely;
  return weight < 0x1p62 ? (uint64_t)(weight + 0.5) : UINT64_C(1) << 62;
}

/* ---- arrays of marks ---- */

#define CHUNK_BYTES ((size_t)256 << 10)
#define ORDER_MIN 3u

struct gyre__marks_array {
  struct gyre__marks_array *next; /* spare ones */
  uint64_t order;
  gyre__atomic_u64 marks[];
};

struct gyre__marks_chunk {
  struct gyre__marks_chunk *next; /* constant */
  uint32_t order;                 /* of all its arrays; constant */
  gyre__atomic_u32 count;         /* arrays made: written by the slot's thread or taker */
};

/* The header has an OS page to itself, so that the rest can be given back. */
static size_t chunk_start(void) { return gyre__os_page_size(); }

static size_t array_bytes(uint32_t order) {
  return sizeof(struct gyre__marks_array) + (sizeof(uint64_t) << order);
}

static uint32_t chunk_room(uint32_t order) {
  return (uint32_t)((CHUNK_BYTES - chunk_start()) / array_bytes(order));
}

static struct gyre__marks_array *chunk_array(struct gyre__marks_chunk *chunk, uint32_t index) {
  return (struct gyre__marks_array *)(void *)((char *)chunk + chunk_start() +
                                              index * array_bytes(chunk->order));
}

static struct gyre__marks_chunk *chunk_with_room(struct gyre__tracer *t, uint32_t order) {
  /* relaxed: our own. */
  struct gyre__marks_chunk *chunk = gyre__load_relaxed(&t->chunks);
  for (; chunk != NULL; chunk = chunk->next)
    /* relaxed: as above. */
    if (chunk->order == order && gyre__load_relaxed(&chunk->count) < chunk_room(order))
      return chunk;
  chunk = gyre__os_map(CHUNK_BYTES, gyre__os_page_size());
  if (chunk == NULL) return NULL;
  bytes_add(chunk_start());
  chunk->order = order;
  /* relaxed: our own. */
  chunk->next = gyre__load_relaxed(&t->chunks);
  /* release: the chunk's header; pairs with gyre__traced_visit(). */
  gyre__store_release(&t->chunks, (void *)chunk);
  return chunk;
}

/* All marks 0. */
static struct gyre__marks_array *array_take(struct gyre__tracer *t, uint32_t count) {
  uint32_t order = ORDER_MIN;
  while (UINT32_C(1) << order < count)
    order++;
  struct gyre__marks_array *array = t->spare[order];
  if (array != NULL) {
    t->spare[order] = array->next;
    return array;
  }
  struct gyre__marks_chunk *chunk = chunk_with_room(t, order);
  if (chunk == NULL) return NULL;
  /* relaxed: our own. */
  uint32_t index = gyre__load_relaxed(&chunk->count);
  array = chunk_array(chunk, index);
  array->order = order;
  /* release: nothing but zeroes, which a late mark of another session may replace; pairs with
   * gyre__traced_visit(). */
  gyre__store_release(&chunk->count, index + 1);
  bytes_add(array_bytes(order));
  return array;
}

static struct gyre__marks_array *array_of(void *marks) {
  return (struct gyre__marks_array *)(void *)((char *)marks -
                                              offsetof(struct gyre__marks_array, marks));
}

/* A snapshot or a late free may be looking at them. */
static void marks_clear(struct gyre__marks_array *array, uint64_t order) {
  for (uint32_t i = 0; i < UINT32_C(1) << order; i++)
    /* relaxed: nobody needs them any more; pairs with visit_marks() in lib/observe/snapshot.c. */
    gyre__store_relaxed(&array->marks[i], 0);
}

/* A new session: nothing is left of the last. */
static void arrays_reset(struct gyre__tracer *t) {
  /* relaxed: our own. */
  struct gyre__marks_chunk *chunk = gyre__load_relaxed(&t->chunks);
  for (; chunk != NULL; chunk = chunk->next) {
    /* relaxed: as above. */
    uint32_t count = gyre__load_relaxed(&chunk->count);
    if (count == 0) continue;
    gyre__store_relaxed(&chunk->count, 0);
    size_t bytes = count * array_bytes(chunk->order);
    if (!gyre__os_purge((char *)chunk + chunk_start(), gyre__os_whole_pages(bytes)))
      for (uint32_t i = 0; i < count; i++)
        marks_clear(chunk_array(chunk, i), chunk->order);
    bytes_add(-bytes);
  }
  memset(t->spare, 0, sizeof t->spare);
}

void gyre__traced_visit(struct gyre__tracer *t,
                        void (*visit)(const gyre__atomic_u64 *marks, uint32_t count, uint32_t slot,
                                      void *arg),
                        void *arg) {
  /* acquire: the chunk's header; pairs with chunk_with_room(). */
  struct gyre__marks_chunk *chunk = gyre__load_acquire(&t->chunks);
  for (; chunk != NULL; chunk = chunk->next) {
    /* acquire: pairs with array_take(). */
    uint32_t count = gyre__load_acquire(&chunk->count);
    for (uint32_t i = 0; i < count; i++)
      visit(chunk_array(chunk, i)->marks, UINT32_C(1) << chunk->order, t->slot, arg);
  }
}

/* ---- pages with marks ---- */

static void owner_set(struct gyre__page *page, uint32_t owner) {
  /* relaxed: only the slot's own thread, or its taker, compares it with that id; pairs with
   * gyre__heap_free(). */
  gyre__store_relaxed(&page->owner, owner);
}

static void small_owner_clear(struct gyre__segment *segment) {
  if (GYRE__INLINE_OFF || segment->shape != GYRE__SHAPE_SMALL) return;
  /* relaxed: for others, neither value is their own; pairs with gyre__raw_free() and
   * gyre_thread_free(). */
  __atomic_store_n(&segment->small_owner, NULL, __ATOMIC_RELAXED);
}

/* The page's marks, NULL if there is no memory. */
static gyre__atomic_u64 *marks_attached(struct gyre__tracer *t, struct gyre__page *page) {
  /* relaxed: our own. */
  gyre__atomic_u64 *marks = gyre__load_relaxed(&page->marks);
  if (GYRE_LIKELY(marks != NULL)) return marks;
  struct gyre__marks_array *array = array_take(t, page->reserved);
  if (array == NULL) return NULL;
  /* release: zeroes, for a free that sees the marks; pairs with gyre__traced_free(). */
  gyre__store_release(&page->marks, (void *)array->marks);
  owner_set(page, 0);
  small_owner_clear(page->segment);
  return array->marks;
}

static void marks_detach(struct gyre__page *page, uint32_t owner) {
  /* relaxed: no free of a traced block of this page is under way, or it finds a mark of another session. */
  gyre__store_relaxed(&page->marks, NULL);
  owner_set(page, owner);
}

void gyre__traced_detach(struct gyre__heap *heap, struct gyre__page *page) {
  /* relaxed: our own, all of them. */
  struct gyre__marks_array *array = array_of(gyre__load_relaxed(&page->marks));
  struct gyre__tracer *t = gyre__load_relaxed(&heap->tracer);
  marks_detach(page, heap->thread.base.id);
  marks_clear(array, array->order); /* blocks that are free have none; this makes sure */
  array->next = t->spare[array->order];
  t->spare[array->order] = array;
}

/* ---- taking part ---- */

static struct gyre__tracer *tracer_make(struct gyre__heap *heap) {
  struct gyre__tracer *t = gyre__os_map(sizeof *t, gyre__os_page_size());
  if (t == NULL) return NULL;
  bytes_add(sizeof *t);
  t->slot = heap->thread.base.id;
  t->random = gyre__os_random() | 1;
  t->random += (uint64_t)t->slot << 32;
  /* release: its contents; pairs with gyre__tracer_of(). */
  gyre__store_release(&heap->tracer, (void *)t);
  return t;
}

/* From this mean on, samples lie in pages of their own: a block of 8 KiB and more for each costs little
 * then, and all other blocks keep the short ways. */
#define APART_FROM 65536

static void settings_read(struct gyre__tracer *t, uint32_t session) {
  /* relaxed: constant while the session lasts, and published with its number, all of them; pairs with
   * settings_store() in lib/observe/trace.c. */
  t->sample = gyre__load_relaxed(&gyre__trace_settings.sample);
  t->domains = gyre__load_relaxed(&gyre__trace_settings.domains);
  t->nframe = gyre__load_relaxed(&gyre__trace_settings.nframe);
  t->unwind = gyre__load_relaxed(&gyre__trace_settings.unwind);
  t->session = session;
  t->in_place = t->sample < APART_FROM;
  t->is_plain = t->sample == 0 && t->nframe == 1 && (t->domains & GYRE__TRACE_RAW) != 0;
  t->plain_mark = gyre__mark_make(session, 0, false, 0, 0);
  t->now = false;
  memset(t->cache, 0, sizeof t->cache);
  /* relaxed: of no session that anybody asks for, until: */
  gyre__store_relaxed(&t->change, 0);
  gyre__store_relaxed(&t->change_max, 0);
  /* release: the two; pairs with gyre__traced_figures(). */
  gyre__store_release(&t->flow, session);
  t->left = t->sample != 0 ? draw(t) : 0;
}

static GYRE_NOINLINE struct gyre__tracer *adopt(struct gyre__heap *heap, uint32_t session) {
  /* relaxed: our own. */
  struct gyre__tracer *t = gyre__load_relaxed(&heap->tracer);
  if (t == NULL && session != 0) t = tracer_make(heap);
  if (t == NULL) return NULL;
  GYRE_WINDOW("trace/adopt");
  /* No block is handed out without being asked for. */
  gyre__page_put_back(heap);
  for (struct gyre__segment *segment = heap->segments; segment != NULL; segment = segment->next) {
    for (uint32_t i = 0; i < segment->page_count; i++)
      /* relaxed: our own. */
      if (gyre__load_relaxed(&segment->pages[i].marks) != NULL)
        marks_detach(&segment->pages[i], heap->thread.base.id);
    gyre__segment_owner_set(segment);
  }
  arrays_reset(t);
  settings_read(t, session);
  heap->trace_seen = session;
  heap->rest_is_hidden = session != 0 && t->in_place;
  gyre__pool *pools = &heap->thread.base.gyre__pools[0][0];
  for (unsigned i = 0; i < GYRE__KINDS * GYRE__SIZE_CLASSES; i++) {
    pools[i].gyre__rest = NULL;
    pools[i].gyre__strays = 0;
  }
  return session != 0 ? t : NULL;
}

void gyre__traced_lose(struct gyre__heap *heap) {
  struct gyre__tracer *t = gyre__tracer_of(heap);
  if (t == NULL || t->session == 0) return;
  t->session = 0;
  /* relaxed: in no session's figures any more; pairs with gyre__traced_figures(). */
  gyre__store_relaxed(&t->flow, 0);
  /* acquire: as in gyre__traced_visit(), both. */
  struct gyre__marks_chunk *chunk = gyre__load_acquire(&t->chunks);
  for (; chunk != NULL; chunk = chunk->next)
    for (uint32_t i = 0, count = gyre__load_acquire(&chunk->count); i < count; i++)
      marks_clear(chunk_array(chunk, i), chunk->order);
}

struct gyre__tracer *gyre__traced_adopt(struct gyre__heap *heap) {
  /* acquire: the session's settings; pairs with session_publish() in lib/observe/trace.c. */
  uint32_t session = gyre__load_acquire(&gyre__trace_now);
  if (GYRE_LIKELY(session == heap->trace_seen)) /* relaxed: our own. */
    return session != 0 ? gyre__load_relaxed(&heap->tracer) : NULL;
  return adopt(heap, session);
}

/* ---- marking ---- */

uint32_t gyre__traced_site(struct gyre__tracer *t, const void *pc, void *frame, uint32_t type) {
  if (t->busy) return 0;
  uint32_t session = t->session;
  t->busy = true;
  uint32_t site = gyre__tracer_hooks.site(t, pc, frame, type);
  t->busy = false;
  /* The unwinder may have allocated, and the heap have gone on to another session then. */
  return t->session == session ? site : 0;
}

/* Raw blocks have one half of the cache, so that there the address alone tells. */
static inline struct gyre__cached_site *cached_at(struct gyre__tracer *t, const void *pc,
                                                  uint32_t type) {
  size_t hash = (uintptr_t)pc ^ type;
  return &t->cache[hash % (GYRE__SITE_CACHE / 2) + (type != 0 ? GYRE__SITE_CACHE / 2 : 0)];
}

/* The walk begins in the frame of this function. */
static GYRE_NOINLINE uint32_t site_of(struct gyre__tracer *t, const void *pc, uint32_t type) {
  struct gyre__cached_site *cached = cached_at(t, pc, type);
  bool one = t->nframe == 1;
  if (GYRE_LIKELY(one && cached->pc == pc && cached->type == type)) return cached->site;
  uint32_t site = gyre__traced_site(t, pc, __builtin_frame_address(0), type);
  if (one && site != 0) *cached = (struct gyre__cached_site){pc, type, site};
  return site;
}

static uint64_t settings_sample(void) {
  /* relaxed: constant while the session lasts; pairs with settings_store() in lib/observe/trace.c. */
  return gyre__load_relaxed(&gyre__trace_settings.sample);
}

static int64_t mark_bytes(uint64_t mark, uint64_t sample) {
  size_t size = gyre__mark_size(mark);
  if (GYRE_LIKELY(sample == 0)) return (int64_t)size;
  return (int64_t)gyre__traced_weigh(size, gyre__traced_class_weight(gyre__mark_class(mark)));
}

static void mark_small(struct gyre__heap *self, struct gyre__tracer *t, struct gyre__page *page,
                       void *block, unsigned size_class, size_t size, uint32_t type,
                       const void *pc) {
  GYRE__KEEP_FRAME();
  bool object = page->kind != GYRE__RAW;
  if (!(t->domains & (object ? GYRE__TRACE_OBJECT : GYRE__TRACE_RAW))) return;
  uint32_t site = site_of(t, pc, type);
  if (site == 0) return;
  gyre__atomic_u64 *marks = marks_attached(t, page);
  if (marks == NULL) return;
  if (t->sample == 0) size_class = 0;
  uint64_t mark = gyre__mark_make(t->session, size_class, object, size, site);
  /* release: the site, for a snapshot; pairs with its load in lib/observe/snapshot.c. */
  gyre__store_release(&marks[gyre__page_index(page, block)], mark);
  flow(t, mark_bytes(mark, t->sample));
  (void)self;
}

bool gyre__traced_is_sampled(struct gyre__tracer *t, size_t bytes) {
  if (t->sample == 0) return true;
  t->left -= bytes < INT64_MAX ? (int64_t)bytes : INT64_MAX;
  if (t->left >= 0) return false;
  t->left = draw(t);
  return true;
}

static void mark_large(struct gyre__heap *self, struct gyre__tracer *t, void *block, size_t size,
                       uint32_t type, const void *pc) {
  GYRE__KEEP_FRAME();
  if (!(t->domains & GYRE__TRACE_LARGE) || !gyre__traced_is_sampled(t, size)) return;
  struct gyre__traced_large record = {
      .size = size, .slot = t->slot, .session = t->session, .domain = 2};
  record.site = site_of(t, pc, type);
  if (record.site == 0) return;
  gyre__page_of(block)->traced = 1;
  gyre__tracer_hooks.large_born(self, block, &record);
}

/* ---- taking blocks ---- */

static uint32_t page_free_count(const struct gyre__page *page) {
  return page->capacity - page->used;
}

/* The first `count` blocks of the page's free list, which has more. */
static void make_some_ready(gyre__pool *pool, struct gyre__page *page, uint32_t count) {
  enum gyre__kind kind = (enum gyre__kind)page->kind;
  void *first = page->free, *last = first;
  page->sum -= (uintptr_t)first;
  for (uint32_t i = 1; i < count; i++) {
    last = gyre__link_get(last, kind);
    if (GYRE_UNLIKELY((intptr_t)last <= 0)) gyre__heap_corrupted(first);
    page->sum -= (uintptr_t)last;
  }
  page->free = gyre__link_get(last, kind);
  if (GYRE_UNLIKELY((intptr_t)page->free <= 0)) gyre__heap_corrupted(last);
  gyre__link_set(last, kind, NULL);
  page->used += count;
  page->scarce = page_free_count(page) < GYRE__SCARCE;
  pool->gyre__strays = 0;
  pool->gyre__ready = first;
}

static size_t pool_block_size(const struct gyre__heap *self, const gyre__pool *pool) {
  return gyre__class_size(
      (unsigned)((pool - &self->thread.base.gyre__pools[0][0]) % GYRE__SIZE_CLASSES));
}

void gyre__traced_make_ready(struct gyre__heap *self, gyre__pool *pool, struct gyre__page *page) {
  /* relaxed: our own. */
  struct gyre__tracer *t = gyre__load_relaxed(&self->tracer);
  uint32_t count = page_free_count(page);
  if (t->in_place) {
    gyre__page_make_ready(pool, page); /* for take_hidden() */
    return;
  }
  int64_t size = (int64_t)pool_block_size(self, pool);
  int64_t bytes = size * count;
  if (t->left >= bytes) {
    t->left -= bytes;
    gyre__page_make_ready(pool, page);
    return;
  }
  uint32_t before = (uint32_t)(t->left / size); /* less than count */
  if (before == 0)
    t->now = true;
  else
    pool->gyre__sample = 1;
  t->left = draw(t);
  uint32_t ready = before == 0 ? 1 : before;
  if (ready < count)
    make_some_ready(pool, page, ready);
  else
    gyre__page_make_ready(pool, page);
}

bool gyre__traced_may_keep(struct gyre__heap *self, const struct gyre__page *page) {
  /* relaxed: our own. */
  struct gyre__tracer *t = gyre__load_relaxed(&self->tracer);
  if (t->in_place || t->left < (int64_t)page->block_size) return false;
  t->left -= page->block_size;
  return true;
}

/* A block that nobody samples. */
static void *take_plain(struct gyre__heap *self, struct gyre__tracer *t, enum gyre__kind kind,
                        unsigned size_class) {
  gyre__pool *pool = gyre__heap_pool(self, kind, size_class);
  if (pool->gyre__ready != NULL) return gyre__heap_take(&pool->gyre__ready, kind);
  void *block = gyre__heap_alloc_slow(self, kind, size_class);
  if (t->now) {
    t->now = false;
    pool->gyre__sample = 1; /* the next instead */
  }
  return block;
}

/* A block of a class apart. NULL if there is no memory without asking the collector or the program for it: a
 * sample is not worth that. */
static void *take_apart(struct gyre__heap *self, struct gyre__tracer *t, enum gyre__kind kind,
                        size_t alignment) {
  bool before = self->in_oom_handler;
  self->in_oom_handler = true;
  void *block = take_plain(self, t, kind, gyre__aligned_class(GYRE__SMALL_MAX + 1, alignment));
  self->in_oom_handler = before;
  return block;
}

/* The next block of a pool; *sampled if it is to be marked. */
static void *take_sampling(struct gyre__heap *self, struct gyre__tracer *t, enum gyre__kind kind,
                           unsigned size_class, size_t alignment, bool *sampled) {
  gyre__pool *pool = gyre__heap_pool(self, kind, size_class);
  if (pool->gyre__ready != NULL) return gyre__heap_take(&pool->gyre__ready, kind);
  bool is_medium = gyre__class_size(size_class) > GYRE__SMALL_MAX;
  void *block = NULL;
  if (pool->gyre__sample) {
    pool->gyre__sample = 0;
    *sampled = true;
    if (is_medium) return take_plain(self, t, kind, size_class);
  } else {
    t->now = false;
    block = gyre__heap_alloc_slow(self, kind, size_class);
    *sampled = t->now;
    t->now = false;
    if (block == NULL || !*sampled || is_medium) return block;
  }
  void *apart = take_apart(self, t, kind, alignment);
  /* It is marked where it is, if need be. */
  if (apart == NULL) return block != NULL ? block : take_plain(self, t, kind, size_class);
  if (block != NULL) {
    struct gyre__page *page = gyre__page_of(block);
    gyre__watch_block_in(page, block, kind);
    gyre__heap_free_local(self, page, block, kind);
  }
  return apart;
}

/* The next block of a pool whose ready list is kept empty. */
static void *take_hidden(struct gyre__heap *self, enum gyre__kind kind, unsigned size_class) {
  gyre__pool *pool = gyre__heap_pool(self, kind, size_class);
  if (pool->gyre__rest != NULL) return gyre__heap_take(&pool->gyre__rest, kind);
  void *block = gyre__heap_alloc_slow(self, kind, size_class);
  if (GYRE_UNLIKELY(!self->rest_is_hidden)) return block; /* another session, or none, has begun */
  pool->gyre__rest = pool->gyre__ready;
  pool->gyre__ready = NULL;
  return block;
}

/* Is the heap still in that session? Making room for a block may have run the program's handler and collected,
 * and others may have had the heap meanwhile; then what belongs to the block belongs to no session. */
static bool session_stays(struct gyre__heap *self, const struct gyre__tracer *t, uint32_t session) {
  return gyre__traced_adopt(self) == t && t->session == session;
}

static void *small_alloc(struct gyre__heap *self, struct gyre__tracer *t, enum gyre__kind kind,
                         unsigned size_class, size_t alignment, size_t size, uint32_t type,
                         const void *pc) {
  GYRE__KEEP_FRAME();
  if (GYRE_FAULT()) return gyre__heap_alloc_fault();
  uint32_t session = t->session;
  bool sampled = t->in_place;
  void *block;
  if (t->in_place) {
    block = take_hidden(self, kind, size_class);
    if (t->sample != 0) sampled = gyre__traced_is_sampled(t, gyre__class_size(size_class));
  } else {
    block = take_sampling(self, t, kind, size_class, alignment, &sampled);
  }
  if (block != NULL && sampled && session_stays(self, t, session))
    mark_small(self, t, gyre__page_of(block), block, size_class, size, type, pc);
  return block;
}

void *gyre__traced_alloc(struct gyre__heap *self, enum gyre__kind kind, size_t block_size,
                         size_t alignment, bool zero, size_t size, uint32_t type, const void *pc) {
  GYRE__KEEP_FRAME();
  struct gyre__tracer *t = gyre__traced_adopt(self);
  if (block_size > GYRE__CLASS_MAX || alignment > GYRE__CLASS_MAX) {
    uint32_t session = t != NULL ? t->session : 0;
    void *block = gyre__large_alloc(self, kind, block_size, alignment, zero || kind != GYRE__RAW);
    if (block != NULL && t != NULL && session_stays(self, t, session))
      mark_large(self, t, block, size, type, pc);
    return block;
  }
  unsigned size_class =
      alignment <= 16 ? gyre__size_class(block_size) : gyre__aligned_class(block_size, alignment);
  void *block = t == NULL ? gyre__heap_alloc(self, kind, size_class)
                          : small_alloc(self, t, kind, size_class, alignment, size, type, pc);
  if (block != NULL && zero) memset(block, 0, block_size);
  return block;
}

static GYRE_NOINLINE void *malloc_slower(size_t size, struct gyre__heap *self, const void *pc) {
  GYRE__KEEP_FRAME();
  if (self->thread.base.id == 0) return gyre__raw_malloc_base(size, self, pc);
  return gyre__traced_alloc(self, GYRE__RAW, size, 16, false, size, 0, pc);
}

/* The pool's first page gives it blocks if there is no sample among them. */
static GYRE_NOINLINE void *malloc_sampling(size_t size, struct gyre__heap *self, const void *pc,
                                           struct gyre__tracer *t, gyre__pool *pool) {
  struct gyre__page *page = pool->gyre__first;
  if (t->in_place || page == NULL || page->free == NULL) return malloc_slower(size, self, pc);
  int64_t bytes = (int64_t)page->block_size * page_free_count(page);
  if (bytes > t->left || pool->gyre__sample != 0 || pool->gyre__ready != NULL)
    return malloc_slower(size, self, pc);
  t->left -= bytes;
  gyre__page_make_ready(pool, page);
  return gyre__heap_take(&pool->gyre__ready, GYRE__RAW);
}

static GYRE_NOINLINE void *malloc_flowed_up(struct gyre__tracer *t, int64_t sum, void *block) {
  flow_up(t, sum);
  return block;
}

void *gyre__traced_malloc(struct gyre__heap *self, size_t size, const void *pc) {
  return malloc_slower(size, self, pc);
}

/* Quick in the most frequent case of tracing: everything is traced, by one frame, which is known; and the pool's
 * first page has given it blocks and has marks. The heap takes part in the session under way. */
static GYRE_NOINLINE void *malloc_quick(size_t size, struct gyre__heap *self, const void *pc) {
  /* relaxed: our own. */
  struct gyre__tracer *t = gyre__load_relaxed(&self->tracer);
  size_t at = self->thread.base.gyre__pool_at[(size + 15) >> 4];
  gyre__pool *pool = (gyre__pool *)(void *)((char *)self + at);
  if (GYRE_UNLIKELY(!t->is_plain)) return malloc_sampling(size, self, pc, t, pool);
  struct gyre__page *page = pool->gyre__first;
  void *block = pool->gyre__rest;
  const struct gyre__cached_site *cached = cached_at(t, pc, 0);
  if (GYRE_UNLIKELY(block == NULL || page == NULL || cached->pc != pc))
    return malloc_slower(size, self, pc);
  size_t offset = (size_t)((char *)block - page->start);
  void *next = gyre__link_get(block, GYRE__RAW);
  /* relaxed: our own. */
  gyre__atomic_u64 *marks = gyre__load_relaxed(&page->marks);
  if (GYRE_UNLIKELY(offset >= (size_t)1 << GYRE__SMALL_PAGE_SHIFT || marks == NULL ||
                    (intptr_t)next < 0))
    return malloc_slower(size, self, pc);
  pool->gyre__rest = next;
  gyre__word_set(gyre__link_at(block, GYRE__RAW), 0);
  uint64_t mark = t->plain_mark | (uint64_t)size << GYRE__MARK_SITE_BITS | cached->site;
  /* release: as in mark_small(). */
  gyre__store_release(&marks[offset * page->reciprocal >> 32], mark);
  /* relaxed: as in flow(). */
  int64_t sum = (int64_t)gyre__load_relaxed(&t->change) + (int64_t)size;
  gyre__store_relaxed(&t->change, (size_t)sum);
  if (GYRE_UNLIKELY(sum > (int64_t)gyre__load_relaxed(&t->change_max)))
    return malloc_flowed_up(t, sum, block);
  return block;
}

/* As declared in raw.h. */
void *gyre__raw_malloc_jump(size_t size, struct gyre__heap *self) {
  const void *pc = __builtin_return_address(0);
  /* relaxed: a session that begins at this moment is seen by the next allocation. */
  uint32_t now = gyre__load_relaxed(&gyre__trace_now);
  if (GYRE__WATCHED || now == 0 || GYRE_UNLIKELY(now != self->trace_seen) ||
      GYRE_UNLIKELY(gyre__hook_is_on()) || GYRE_FAULT_IS_ARMED() ||
      GYRE_UNLIKELY(size > GYRE__CLASS_TABLE_MAX))
    return gyre__raw_malloc_slow(size, self, pc);
  return malloc_quick(size, self, pc);
}

void gyre__traced_note(struct gyre__heap *self, void *block, size_t size, const void *pc) {
  GYRE__KEEP_FRAME();
  struct gyre__tracer *t = gyre__traced_adopt(self);
  if (t == NULL) return;
  struct gyre__page *page = gyre__page_of(block);
  if (page->is_large)
    mark_large(self, t, block, size, 0, pc);
  else if (gyre__traced_is_sampled(t, page->block_size))
    mark_small(self, t, page, block, page->size_class, size, 0, pc);
}

/* ---- other sizes ---- */

bool gyre__traced_resize_begin(struct gyre__heap *self, void *block,
                               struct gyre__traced_large *out) {
  struct gyre__page *page = gyre__page_of(block);
  if (!page->is_large || !page->traced) return false;
  (void)self;
  /* Before its address may be another's. */
  return gyre__tracer_hooks.large_take(block, out);
}

/* A block of another heap's page: in one step, since that heap may go on to another session at any moment, and
 * the array be another page's. */
static void mark_change(struct gyre__heap *self, struct gyre__page *page, const void *block,
                        uint64_t mark, uint64_t changed) {
  /* acquire: as in gyre__traced_free(). */
  gyre__atomic_u64 *marks = gyre__load_acquire(&page->marks);
  if (marks == NULL) return;
  GYRE_WINDOW("trace/again");
  int64_t before = mark_bytes(mark, settings_sample());
  /* acq_rel: releases the site, for a snapshot; pairs with its load in lib/observe/snapshot.c. */
  if (!gyre__cas_strong_acq_rel(&marks[gyre__page_index(page, block)], &mark, changed)) return;
  gyre__traced_account(self, gyre__mark_session(changed),
                       mark_bytes(changed, settings_sample()) - before);
}

/* A small block keeps its place: with a new size and a new stack if it is traced, or all are. `t` is NULL if the
 * thread is not attached: then the stack stays as it is. */
static void mark_again(struct gyre__heap *self, struct gyre__tracer *t, struct gyre__page *page,
                       void *block, size_t size, const void *pc) {
  GYRE__KEEP_FRAME();
  uint64_t mark = gyre__traced_mark(block);
  if (page->segment->owner == self) {
    if (mark == 0 && t->sample != 0) return;
    unsigned size_class = mark != 0 ? gyre__mark_class(mark) : page->size_class;
    gyre__traced_free(self, page, block);
    mark_small(self, t, page, block, size_class, size, 0, pc);
    return;
  }
  if (mark == 0) return;
  uint32_t site = t != NULL ? site_of(t, pc, 0) : gyre__mark_site(mark);
  if (site == 0)
    gyre__traced_free(self, page, block);
  else
    mark_change(
        self, page, block, mark,
        gyre__mark_make(gyre__mark_session(mark), gyre__mark_class(mark), false, size, site));
}

/* The thread is not attached: as above. */
static void large_again(struct gyre__heap *self, struct gyre__page *page,
                        const struct gyre__traced_large *before, size_t size) {
  struct gyre__traced_large record = *before;
  record.size = size;
  page->traced = 1;
  gyre__tracer_hooks.large_born(self, page->start, &record);
}

void gyre__traced_resize_end(struct gyre__heap *self, void *block, void *resized, size_t size,
                             const struct gyre__traced_large *before, const void *pc) {
  GYRE__KEEP_FRAME();
  if (resized == NULL) {
    if (before != NULL) gyre__tracer_hooks.large_born(self, block, before);
    return;
  }
  if (!gyre__trace_is_wanted(self)) return;
  bool attached = self->thread.base.id != 0;
  struct gyre__tracer *t = attached ? gyre__traced_adopt(self) : NULL;
  if (t == NULL && attached) return;
  struct gyre__page *page = gyre__page_of(resized);
  if (!page->is_large)
    mark_again(self, t, page, resized, size, pc);
  else if (attached)
    mark_large(self, t, resized, size, 0, pc);
  else if (before != NULL)
    large_again(self, page, before, size);
}

/* ---- freeing and looking ---- */

/* What a mark becomes when its block is freed. Debug builds remember the site, in a mark of no session that
 * has the session where others have the size. */
static uint64_t mark_freed(uint64_t mark) {
#ifdef GYRE_DEBUG
  if (gyre__mark_session(mark) == 0) return mark;
  return gyre__mark_make(0, 0, false, gyre__mark_session(mark), gyre__mark_site(mark));
#else
  (void)mark;
  return 0;
#endif
}

void gyre__traced_free(struct gyre__heap *self, struct gyre__page *page, const void *block) {
  /* acquire: the zeroes in a new array; pairs with marks_attached(). */
  gyre__atomic_u64 *marks = gyre__load_acquire(&page->marks);
  if (marks == NULL) return;
  gyre__atomic_u64 *at = &marks[gyre__page_index(page, block)];
  /* relaxed: who frees the block has it to himself. */
  uint64_t mark = gyre__load_relaxed(at), freed = mark_freed(mark);
  if (mark == freed) return;
  GYRE_WINDOW("trace/free");
  bool is_ours = page->segment->owner == self;
  if (GYRE_LIKELY(is_ours)) {
    /* relaxed: ours. */
    gyre__store_relaxed(at, freed);
    /* relaxed: ours; it has one, since there are marks. */
    struct gyre__tracer *t = gyre__load_relaxed(&self->tracer);
    if (GYRE_LIKELY(t->is_plain && t->session == gyre__mark_session(mark))) {
      flow(t, -(int64_t)gyre__mark_size(mark));
      return;
    }
  } else {
    /* relaxed: nobody else has the block, but the array may have become another page's, in another
     * session; pairs with mark_small(). */
    if (!gyre__cas_strong_relaxed(at, &mark, freed)) return;
  }
  uint32_t session = gyre__mark_session(mark);
  /* relaxed: another session's bytes are not counted any more; pairs with session_publish(). */
  if (gyre__load_relaxed(&gyre__trace_now) != session) return;
  gyre__traced_account(self, session, -mark_bytes(mark, settings_sample()));
}

/* Whoever does not hold the block may find its page in the middle of a change, and gets any mark, or none: the
 * memory of segments, pages and arrays stays what it is, and numbers are looked at before they are used. */
uint64_t gyre__traced_mark(const void *block) {
  /* relaxed: a mark of another session is none, and while there is none there are no marks. */
  uint32_t now = gyre__load_relaxed(&gyre__trace_now);
  const struct gyre__segment *segment = gyre__segment_of(block);
  if (now == 0 || segment == NULL || segment->shape >= GYRE__SHAPE_SPANS) return 0;
  uint32_t shift = segment->page_shift;
  if (shift != GYRE__SMALL_PAGE_SHIFT && shift != GYRE__MEDIUM_PAGE_SHIFT) return 0;
  size_t index = ((uintptr_t)block & (GYRE__SEGMENT_SIZE - 1)) >> shift;
  const struct gyre__page *page = &segment->pages[index];
  /* acquire: as in gyre__traced_free(). */
  gyre__atomic_u64 *marks = gyre__load_acquire(&page->marks);
  if (marks == NULL) return 0;
  uint32_t at = gyre__page_index(page, block);
  if (at >= page->reserved || at >> array_of(marks)->order != 0) return 0;
  /* acquire: the site; pairs with mark_small(). */
  uint64_t mark = gyre__load_acquire(&marks[at]);
  return gyre__mark_session(mark) == now ? mark : 0;
}

static GYRE_NOINLINE void free_small_slower(struct gyre__heap *self, struct gyre__page *page,
                                            void *block) {
  gyre__trace_forget(self, page, block);
  gyre__heap_free_local(self, page, block, GYRE__RAW);
}

/* Quick if everything is traced, by one frame. */
void gyre__traced_free_small(struct gyre__heap *self, struct gyre__segment *segment, void *block) {
  size_t offset = (uintptr_t)block & (GYRE__SEGMENT_SIZE - 1);
  struct gyre__page *page = &segment->pages[offset >> GYRE__SMALL_PAGE_SHIFT];
  /* relaxed: our own, all of them. */
  gyre__atomic_u64 *marks = gyre__load_relaxed(&page->marks);
  struct gyre__tracer *t = gyre__load_relaxed(&self->tracer);
  if (GYRE_UNLIKELY(marks == NULL || !t->is_plain)) {
    free_small_slower(self, page, block);
    return;
  }
  gyre__atomic_u64 *at = &marks[gyre__page_index(page, block)];
  /* relaxed: as above. */
  uint64_t mark = gyre__load_relaxed(at);
  int64_t sum = (int64_t)gyre__load_relaxed(&t->change) - (int64_t)gyre__mark_size(mark);
  if (GYRE_UNLIKELY(gyre__mark_session(mark) != t->session || sum < -FLOW_BYTES)) {
    free_small_slower(self, page, block);
    return;
  }
  /* relaxed: as above. */
  gyre__store_relaxed(at, 0);
  gyre__store_relaxed(&t->change, (size_t)sum);
  gyre__heap_free_local(self, page, block, GYRE__RAW);
}

#ifdef GYRE_DEBUG
void gyre__traced_report(const void *block) {
  const struct gyre__segment *segment = gyre__segment_of(block);
  if (gyre__tracer_hooks.report == NULL || segment == NULL) return;
  uint32_t site = 0;
  if (segment->shape < GYRE__SHAPE_SPANS) {
    const struct gyre__page *page = gyre__page_of(block);
    /* relaxed: something is wrong with the block anyway. */
    const gyre__atomic_u64 *marks = gyre__load_relaxed(&page->marks);
    uint32_t at = gyre__page_index(page, block);
    /* relaxed: as above. */
    uint64_t mark = marks != NULL && at < page->reserved ? gyre__load_relaxed(&marks[at]) : 0;
    uint64_t session =
        gyre__mark_session(mark) != 0 ? gyre__mark_session(mark) : gyre__mark_size(mark);
    /* relaxed: as above. Others' sites may be gone. */
    if (session == gyre__load_relaxed(&gyre__trace_now)) site = gyre__mark_site(mark);
  }
  gyre__tracer_hooks.report(block, site);
}
#endif

#else

typedef int gyre__traced_is_off; /* a translation unit may not be empty */

#endif
