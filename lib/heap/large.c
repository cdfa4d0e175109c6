/* SPDX-License-Identifier: MIT */
/* Large blocks: what is beyond the largest class comes one by one from a backend (option "large").
 *
 * Our own: up to 2 MiB a span (span.c); beyond that the block is *huge* and has a segment of its own,
 * a run of the reserve (reserve.c). Their pages are found like all others.
 *
 * From the other backends:
 *
 *     large_base            start (what the program holds)
 *     |  (padding)  | page | block ...                |
 *     |<--------------- large_bytes ----------------->|
 *
 * Right before the block lies a page of its own, so that gyre__page_of() finds it without a table.
 * Padding is there only for alignments beyond 16. Which backend a block came from is written in its page:
 * the option may change while blocks live.
 *
 * Raw blocks go back at once. Object blocks wait for a grace period, because a late reader may
 * still look at the header. Tracked ones are on their owner's list, for the collector.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/probe.h"
#include "lib/heap/page.h"
#include "lib/heap/traced.h"

/* jemalloc's non-standard interface, if the program is linked with it. */
extern void *mallocx(size_t size, int flags) __attribute__((weak));
extern void *rallocx(void *block, size_t size, int flags) __attribute__((weak));
extern void sdallocx(void *block, size_t size, int flags) __attribute__((weak));
#define JEMALLOC_ZERO 0x40

/* No sum of a size, a page and an alignment overflows below this. */
#define LARGE_MAX ((size_t)PTRDIFF_MAX - ((size_t)2 << 30))

/* ---- backends ---- */

/* Set once another backend has given a block. */
static gyre__atomic_u32 foreign_is_used;

bool gyre__large_may_be_foreign(const void *block) {
  /* relaxed: who has such a block got it through what orders it after the store; pairs with
   * foreign_take(). */
  return gyre__load_relaxed(&foreign_is_used) != 0 && (uintptr_t)block % 16 == 0 &&
         (uintptr_t)block > sizeof(struct gyre__page);
}

bool gyre__large_backend_is_available(uint64_t backend) {
  if (GYRE__IS_MALLOC) return backend == GYRE__LARGE_SPANS || backend == GYRE__LARGE_MMAP;
  return backend != GYRE__LARGE_JEMALLOC ||
         (mallocx != NULL && rallocx != NULL && sdallocx != NULL);
}

static enum gyre__large_backend backend_now(void) {
  uint64_t backend = gyre__option(large);
  /* What the system's malloc has is not the program's page source's. */
  if (gyre__source_is_set()) return GYRE__LARGE_SPANS;
  return gyre__large_backend_is_available(backend) ? (enum gyre__large_backend)backend
                                                   : GYRE__LARGE_SPANS;
}

/* The backend is not our own: in libgyre_malloc, where the others would come back to us, it is this one. */
static enum gyre__large_backend foreign(enum gyre__large_backend backend) {
  return GYRE__IS_MALLOC ? GYRE__LARGE_MMAP : backend;
}

static size_t backend_bytes(enum gyre__large_backend backend, size_t bytes) {
  return backend == GYRE__LARGE_MMAP ? gyre__os_whole_pages(bytes) : bytes;
}

static void *backend_alloc(enum gyre__large_backend backend, size_t bytes, bool zero) {
  switch (foreign(backend)) {
  case GYRE__LARGE_JEMALLOC:
    return mallocx(bytes, zero ? JEMALLOC_ZERO : 0);
  case GYRE__LARGE_MMAP:
    return gyre__os_map(bytes, gyre__os_page_size());
  case GYRE__LARGE_SPANS:
  case GYRE__LARGE_SYSTEM:
  case GYRE__LARGE_GUARD:
    break;
  }
  return zero ? calloc(1, bytes) : malloc(bytes);
}

static void backend_free(enum gyre__large_backend backend, void *base, size_t bytes) {
  switch (foreign(backend)) {
  case GYRE__LARGE_JEMALLOC:
    sdallocx(base, bytes, 0);
    return;
  case GYRE__LARGE_MMAP:
    gyre__os_unmap(base, bytes);
    return;
  case GYRE__LARGE_SPANS:
  case GYRE__LARGE_SYSTEM:
  case GYRE__LARGE_GUARD:
    free(base);
  }
}

static void *backend_resize(enum gyre__large_backend backend, void *base, size_t old_bytes,
                            size_t bytes) {
  switch (foreign(backend)) {
  case GYRE__LARGE_JEMALLOC:
    return rallocx(base, bytes, 0);
  case GYRE__LARGE_MMAP:
    return gyre__os_remap(base, old_bytes, bytes);
  case GYRE__LARGE_SPANS:
  case GYRE__LARGE_SYSTEM:
  case GYRE__LARGE_GUARD:
    break;
  }
  return realloc(base, bytes);
}

/* ---- figures ---- */

/* Of huge blocks and those of other backends; span.c counts its own. */
static void count_in(size_t bytes) {
  /* relaxed: statistics. */
  gyre__fetch_add_relaxed(&gyre__memory.large_bytes, bytes);
  gyre__fetch_add_relaxed(&gyre__memory.large_blocks, 1);
}

static void count_out(size_t bytes) {
  /* relaxed: statistics. */
  gyre__fetch_sub_relaxed(&gyre__memory.large_bytes, bytes);
  gyre__fetch_sub_relaxed(&gyre__memory.large_blocks, 1);
}

/* bytes may be negative. */
static void count_change(size_t bytes) {
  /* relaxed: statistics. */
  gyre__fetch_add_relaxed(&gyre__memory.large_bytes, bytes);
}

/* ---- the owner's list ---- */

static void list_add(struct gyre__heap *owner, struct gyre__page *page) {
  gyre__lock_take(&owner->large_lock);
  page->large_prev = NULL;
  page->large_next = owner->large;
  if (page->large_next != NULL) page->large_next->large_prev = page;
  owner->large = page;
  gyre__lock_give(&owner->large_lock);
}

static void list_remove(struct gyre__page *page) {
  struct gyre__heap *owner = (struct gyre__heap *)gyre__thread_slot(page->large_owner);
  gyre__lock_take(&owner->large_lock);
  if (page->large_next != NULL) page->large_next->large_prev = page->large_prev;
  if (page->large_prev != NULL)
    page->large_prev->large_next = page->large_next;
  else
    owner->large = page->large_next;
  gyre__lock_give(&owner->large_lock);
}

/* ---- pages of large blocks ---- */

/* What all large pages have in common; page->start is set. */
static void page_init(struct gyre__page *page, struct gyre__heap *self, enum gyre__kind kind,
                      enum gyre__large_backend backend) {
  page->is_large = GYRE__LARGE_LIVE;
  page->large_backend = (uint8_t)backend;
  page->kind = (uint8_t)kind;
  page->state = GYRE__PAGE_USED;
  page->used = page->capacity = page->reserved = 1;
  page->traced = 0;
  page->large_owner = self->thread.base.id;
  /* release: what is above, for a collection that comes by in an arena; elsewhere the lock of the list
   * that the page is put on orders it. Pairs with gather_page() in lib/collect/set.c. */
  if (kind != GYRE__RAW) gyre__store_release(&page->objects_end, 1);
}

/* ---- huge blocks ---- */

static size_t granules_for(size_t size) {
  return (size + GYRE__SEGMENT_SIZE - 1) >> GYRE__SEGMENT_SHIFT;
}

/* Of the run, `bytes` are to be committed. False if that is over the limit. */
static bool run_charge(struct gyre__run *run, size_t bytes) {
  if (bytes <= run->charged) return true;
  if (!gyre__memory_charge(bytes - run->charged)) return false;
  run->charged = bytes;
  return true;
}

static struct gyre__page *huge_take(struct gyre__heap *self, size_t size, size_t alignment) {
  struct gyre__run run;
  if (!gyre__reserve_take(granules_for(size), alignment, &run)) return NULL;
  struct gyre__segment *segment = NULL;
  if (run_charge(&run, gyre__os_whole_pages(size)))
    segment = gyre__segment_make(self, GYRE__SHAPE_HUGE, run.base);
  if (segment == NULL) {
    gyre__reserve_give(&run);
    return NULL;
  }
  struct gyre__page *page = &segment->pages[0];
  page->segment = segment;
  page->start = run.base;
  page->large_base = run.base;
  page->large_bytes = run.charged;
  page->dirty = run.dirty;
  count_in(run.charged);
  return page;
}

/* The run behind a huge block of this size. */
static struct gyre__run huge_run(const struct gyre__page *page) {
  return (struct gyre__run){.base = page->large_base,
                            .granules = granules_for(page->large_usable),
                            .charged = page->large_bytes,
                            .dirty = true};
}

static void huge_give(struct gyre__page *page) {
  struct gyre__run run = huge_run(page);
  count_out(run.charged);
  gyre__segment_unmake(page->segment);
  gyre__reserve_give(&run);
}

static void huge_charged(struct gyre__page *page, size_t charged) {
  count_change(charged - page->large_bytes);
  page->large_bytes = charged;
}

/* Gives back the granules behind the size, or takes those that follow, if they are free. */
static bool huge_resize_in_place(struct gyre__page *page, size_t size) {
  struct gyre__run run = huge_run(page);
  size_t granules = granules_for(size);
  char *end = run.base + run.granules * GYRE__SEGMENT_SIZE;
  if (granules < run.granules) {
    size_t kept = granules * GYRE__SEGMENT_SIZE;
    struct gyre__run rest = {.base = run.base + kept,
                             .granules = run.granules - granules,
                             .charged = run.charged > kept ? run.charged - kept : 0,
                             .dirty = true};
    huge_charged(page, run.charged - rest.charged);
    gyre__reserve_give(&rest);
    return true;
  }
  size_t more = 0;
  if (granules > run.granules && !gyre__reserve_take_at(end, granules - run.granules, &more))
    return false;
  run.charged += more;
  if (!run_charge(&run, gyre__os_whole_pages(size))) {
    struct gyre__run rest = {
        .base = end, .granules = granules - run.granules, .charged = more, .dirty = true};
    if (rest.granules != 0) gyre__reserve_give(&rest);
    return false;
  }
  /* "Charged at the start": also if the memory that came along was not at its own. */
  if (more != 0 && run.base + run.charged < end + more)
    (void)gyre__os_purge(run.base + run.charged, (size_t)(end + more - run.base) - run.charged);
  huge_charged(page, run.charged);
  return true;
}

/* Moves a huge block's memory, not its contents, to a larger run: granule by granule, since a run may be
 * of several mappings, which begin and end with granules. */
static struct gyre__page *huge_move(struct gyre__heap *self, struct gyre__page *page, size_t size) {
  struct gyre__page *moved = huge_take(self, size, 16);
  if (moved == NULL) return NULL;
  gyre__note_open(moved->start, size);
  size_t bytes = granules_for(page->large_usable) * GYRE__SEGMENT_SIZE;
  size_t done = gyre__os_move(page->start, bytes, GYRE__SEGMENT_SIZE, moved->start);
  if (done == bytes) {
    gyre__memory_uncharge(page->large_bytes);
    huge_charged(page, 0);
  } else if (done < page->large_usable) {
    memcpy(moved->start + done, page->start + done, page->large_usable - done);
  }
  page_init(moved, self, GYRE__RAW, GYRE__LARGE_SPANS);
  gyre__note_nobody(page->start, page->large_usable);
  huge_give(page);
  return moved;
}

/* ---- making, resizing, freeing ---- */

static struct gyre__page *foreign_take(enum gyre__large_backend backend, size_t size,
                                       size_t alignment, bool zero) {
  size_t padding = alignment > 16 ? alignment : 0;
  size_t bytes = backend_bytes(backend, sizeof(struct gyre__page) + padding + size);
  if (!gyre__memory_charge(bytes)) return NULL;
  char *base = backend_alloc(backend, bytes, zero);
  if (base == NULL) {
    gyre__memory_uncharge(bytes);
    return NULL;
  }
  count_in(bytes);
  gyre__memory_mapped(bytes);
  /* relaxed: pairs with gyre__large_may_be_foreign(). */
  gyre__store_relaxed(&foreign_is_used, 1);
  uintptr_t block =
      ((uintptr_t)base + sizeof(struct gyre__page) + alignment - 1) & ~(uintptr_t)(alignment - 1);
  struct gyre__page *page = (struct gyre__page *)block - 1;
  memset(page, 0, sizeof *page);
  page->start = (char *)(page + 1);
  page->large_base = base;
  page->large_bytes = bytes;
  return page;
}

/* One attempt. */
static struct gyre__page *page_take(struct gyre__heap *self, enum gyre__large_backend backend,
                                    size_t size, size_t alignment, bool zero) {
  if (backend != GYRE__LARGE_SPANS) return foreign_take(backend, size, alignment, zero);
  struct gyre__page *page = gyre__arena_on ? gyre__arena_take_large(size, alignment)
                            : size <= GYRE__SPAN_MAX && alignment <= GYRE__SPAN_MAX
                                ? gyre__span_take(self, size, alignment, false)
                                : huge_take(self, size, alignment);
  if (page != NULL) gyre__note_open(page->start, size);
  if (page != NULL && zero && page->dirty) {
    /* A large piece is had anew for less than it is cleared for. */
    size_t bytes = gyre__os_whole_pages(size);
    if (size < ((size_t)1 << 20) || !gyre__os_purge(page->start, bytes))
      memset(page->start, 0, size);
  }
  return page;
}

void *gyre__large_alloc(struct gyre__heap *self, enum gyre__kind kind, size_t size,
                        size_t alignment, bool zero) {
  if (GYRE_FAULT() || size > LARGE_MAX) return gyre__heap_alloc_fault();
  if (++self->slow_count % 64 == 0) gyre__purge_tick(self);
  if (GYRE_UNLIKELY(gyre__option(mem_threshold) != 0)) gyre__memory_threshold_look(self);
  size = gyre__large_size(size);
  enum gyre__large_backend backend = backend_now();
  struct gyre__page *page;
  unsigned step = 0;
  while ((page = page_take(self, backend, size, alignment, zero)) == NULL)
    if (!gyre__memory_make_room(self, size, &step)) {
      GYRE_PROBE2(alloc_failed, kind, size);
      return gyre__heap_alloc_fault();
    }
  if (gyre__page_is_in_arena(page)) count_in(page->large_bytes);
  gyre__large_set_size(page, size);
  page_init(page, self, kind, backend);
  if (kind != GYRE__RAW) list_add(self, page);
  if (!zero) gyre__watch_block_out(page->start);
  GYRE_PROBE3(alloc_large, kind, size, page->start);
  return page->start;
}

void *gyre__large_alloc_growing(struct gyre__heap *self, size_t size) {
  if (gyre__arena_on || backend_now() != GYRE__LARGE_SPANS || GYRE_FAULT()) return NULL;
  size = gyre__large_size(size);
  struct gyre__page *page = gyre__span_take(self, size, 16, true);
  if (page == NULL) return NULL;
  page_init(page, self, GYRE__RAW, GYRE__LARGE_SPANS);
  gyre__large_set_size(page, size);
  gyre__watch_block_out(page->start);
  return page->start;
}

void *gyre__large_alloc_guarded(struct gyre__heap *self, size_t size, size_t alignment) {
  if (GYRE_FAULT()) return NULL;
  struct gyre__page *page = gyre__guard_take(self, size, alignment);
  if (page == NULL) return NULL;
  count_in(page->large_bytes);
  page_init(page, self, GYRE__RAW, GYRE__LARGE_GUARD);
  gyre__large_set_size(page, size);
  gyre__debug_block_out(page, page->start);
  return page->start;
}

static struct gyre__page *foreign_resize(struct gyre__page *page, size_t size) {
  char *base = page->large_base;
  if (base != (char *)page || size <= GYRE__CLASS_MAX) return NULL;
  enum gyre__large_backend backend = (enum gyre__large_backend)page->large_backend;
  size_t old_bytes = page->large_bytes;
  size_t bytes = backend_bytes(backend, sizeof(struct gyre__page) + size);
  if (bytes == old_bytes) return page;
  size_t growth = bytes > old_bytes ? bytes - old_bytes : 0;
  if (GYRE_FAULT() || (growth != 0 && !gyre__memory_charge(growth))) return NULL;
  page = backend_resize(backend, base, old_bytes, bytes);
  if (page == NULL) {
    gyre__memory_uncharge(growth);
    return NULL;
  }
  if (growth == 0) gyre__memory_uncharge(old_bytes - bytes);
  count_change(bytes - old_bytes);
  gyre__memory_mapped(bytes - old_bytes);
  page->start = (char *)(page + 1);
  page->large_base = page;
  page->large_bytes = bytes;
  return page;
}

void gyre__large_require(const struct gyre__page *page, const void *block) {
  GYRE_REQUIRE(page->is_large != GYRE__LARGE_FREED, "double free: %p", block);
  GYRE_REQUIRE(page->is_large == GYRE__LARGE_LIVE && page->start == (const char *)block,
               "invalid pointer: %p is not a block of this library", block);
}

static bool is_huge(const struct gyre__page *page) {
  return page->segment != NULL && page->segment->shape == GYRE__SHAPE_HUGE;
}

void *gyre__large_resize(struct gyre__heap *self, struct gyre__page *page, size_t size) {
  if (size > LARGE_MAX) return NULL;
  size = gyre__large_size(size);
  if (page->segment == NULL) {
    page = foreign_resize(page, size);
    if (page == NULL) return NULL;
  } else if (gyre__page_is_in_arena(page)) {
    size_t old = page->large_bytes;
    if (size <= GYRE__CLASS_MAX || GYRE_FAULT() || !gyre__arena_resize(page, size)) return NULL;
    count_change(page->large_bytes - old);
  } else if (is_huge(page)) {
    /* What is not huge any more has its place among the spans. */
    if (size <= GYRE__SPAN_MAX) return NULL;
    if (!huge_resize_in_place(page, size)) {
      if (GYRE_FAULT() || self->thread.base.id == 0 || (page = huge_move(self, page, size)) == NULL)
        return NULL;
    }
  } else {
    if (size > GYRE__SPAN_MAX || (size <= GYRE__CLASS_MAX && !page->grows) ||
        !gyre__span_resize(page, size))
      return NULL;
  }
  gyre__large_set_size(page, size);
  return page->start;
}

static void page_give(struct gyre__page *page) {
  page->is_large = GYRE__LARGE_FREED;
  if (gyre__page_is_in_arena(page)) {
    gyre__note_nobody(page->start, page->large_usable);
    count_out(page->large_bytes);
    gyre__arena_give_large(page);
  } else if (is_huge(page)) {
    gyre__note_nobody(page->start, page->large_usable);
    huge_give(page);
  } else if (page->segment != NULL) {
    gyre__note_nobody(page->start, page->large_usable);
    gyre__span_give(page);
  } else {
    gyre__note_given_back(page->start, page->large_usable);
    enum gyre__large_backend backend = (enum gyre__large_backend)page->large_backend;
    size_t bytes = page->large_bytes;
    backend_free(backend, page->large_base, bytes);
    count_out(bytes);
    gyre__memory_mapped(-bytes);
    gyre__memory_uncharge(bytes);
  }
}

static void guarded_give(struct gyre__heap *self, struct gyre__page *page) {
  page->is_large = GYRE__LARGE_FREED;
  count_out(page->large_bytes);
  gyre__guard_close(page);
  if (!GYRE__IS_MALLOC && GYRE_UNLIKELY(page->traced))
    gyre__tracer_hooks.large_died(self, page->start);
  if (gyre__quarantine_wants(self, page->large_usable))
    gyre__quarantine_put(self, page->start);
  else
    gyre__guard_drop(page);
}

/* Dead object blocks whose grace period is over, but not the collection in which they died. A page is
 * put here under the lock, if that collection is not over then; who ends it takes them afterwards. */
static gyre__lock waiting_lock;
static struct gyre__page *waiting;

static void page_give_deferred(struct gyre__thread *self, struct gyre__deferred *node) {
  struct gyre__page *page =
      (struct gyre__page *)(void *)((char *)node - offsetof(struct gyre__page, deferred));
  (void)self;
  /* A collection that began before it died may still look at it. */
  gyre__lock_take(&waiting_lock);
  bool wait = !gyre__heap_pin_is_over(page->empty_ticket);
  if (wait) {
    page->large_next = waiting;
    waiting = page;
  }
  gyre__lock_give(&waiting_lock);
  if (!wait) page_give(page);
}

void gyre__large_pin_is_over(void) {
  gyre__lock_take(&waiting_lock);
  struct gyre__page *page = waiting;
  waiting = NULL;
  gyre__lock_give(&waiting_lock);
  /* Collections come one at a time, so it was this that they waited for. */
  for (struct gyre__page *next; page != NULL; page = next) {
    next = page->large_next;
    page_give(page);
  }
}

static void forget(void) { waiting = NULL; }
static void __attribute__((constructor)) large_init(void) { gyre__forget_add(forget); }

void gyre__large_fork_prepare(void) { gyre__lock_take(&waiting_lock); }
void gyre__large_fork_parent(void) { gyre__lock_give(&waiting_lock); }
void gyre__large_fork_child(void) { gyre__lock_reset(&waiting_lock); }

void gyre__large_free(struct gyre__heap *self, struct gyre__page *page, void *block) {
  gyre__large_require(page, block);
  if (gyre__page_is_guarded(page)) {
    guarded_give(self, page);
    return;
  }
  if (!GYRE__IS_MALLOC && GYRE_UNLIKELY(page->traced)) gyre__tracer_hooks.large_died(self, block);
  if (page->kind == GYRE__RAW) {
    (void)gyre__note_size(block, page->large_usable);
    gyre__note_in(block, page->large_usable);
    page_give(page);
    return;
  }
  GYRE_ASSERT(self->thread.base.id != 0);
  list_remove(page);
  page->empty_ticket = gyre__heap_pin_number();
  gyre__defer(&self->thread, &page->deferred, page_give_deferred);
}
