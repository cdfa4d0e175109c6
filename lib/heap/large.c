/* SPDX-License-Identifier: MIT */
/* Large blocks: what is beyond the largest class comes from a backend, one by one.
 *
 *     large_base            start (what the program holds)
 *     |  (padding)  | page | block ...                |
 *     |<--------------- large_bytes ----------------->|
 *
 * Right before the block lies a page of its own, so that gyre__page_of() finds it without a table.
 * Which backend a block came from is written there: the option may change while blocks live.
 * Padding is there only for alignments beyond 16.
 *
 * Raw blocks go back at once. Object blocks wait for a grace period, because a late reader may
 * still look at the header. Tracked ones are on their owner's list, for the collector.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/heap/page.h"

/* jemalloc's non-standard interface, if the program is linked with it. */
extern void *mallocx(size_t size, int flags) __attribute__((weak));
extern void *rallocx(void *block, size_t size, int flags) __attribute__((weak));
extern void sdallocx(void *block, size_t size, int flags) __attribute__((weak));
#define JEMALLOC_ZERO 0x40

/* page->is_large; LARGE_FREED is what a second free most likely finds. */
enum { LARGE_LIVE = 1, LARGE_FREED = 2 };

/* No sum of a size, a page and an alignment overflows below this. */
#define LARGE_MAX ((size_t)PTRDIFF_MAX - ((size_t)2 << 30))

/* ---- backends ---- */

bool gyre__large_backend_is_available(uint64_t backend) {
  return backend != GYRE__LARGE_JEMALLOC ||
         (mallocx != NULL && rallocx != NULL && sdallocx != NULL);
}

static enum gyre__large_backend backend_now(void) {
  uint64_t backend = gyre__option(large);
  return gyre__large_backend_is_available(backend) ? (enum gyre__large_backend)backend
                                                   : GYRE__LARGE_SYSTEM;
}

static size_t backend_bytes(enum gyre__large_backend backend, size_t bytes) {
  if (backend != GYRE__LARGE_MMAP) return bytes;
  size_t mask = gyre__os_page_size() - 1;
  return (bytes + mask) & ~mask;
}

static void *backend_alloc(enum gyre__large_backend backend, size_t bytes, bool zero) {
  switch (backend) {
  case GYRE__LARGE_JEMALLOC:
    return mallocx(bytes, zero ? JEMALLOC_ZERO : 0);
  case GYRE__LARGE_MMAP:
    return gyre__os_map(bytes, gyre__os_page_size());
  case GYRE__LARGE_SYSTEM:
    break;
  }
  return zero ? calloc(1, bytes) : malloc(bytes);
}

static void backend_free(enum gyre__large_backend backend, void *base, size_t bytes) {
  switch (backend) {
  case GYRE__LARGE_JEMALLOC:
    sdallocx(base, bytes, 0);
    return;
  case GYRE__LARGE_MMAP:
    gyre__os_unmap(base, bytes);
    return;
  case GYRE__LARGE_SYSTEM:
    free(base);
  }
}

static void *backend_resize(enum gyre__large_backend backend, void *base, size_t old_bytes,
                            size_t bytes) {
  switch (backend) {
  case GYRE__LARGE_JEMALLOC:
    return rallocx(base, bytes, 0);
  case GYRE__LARGE_MMAP:
    return gyre__os_remap(base, old_bytes, bytes);
  case GYRE__LARGE_SYSTEM:
    break;
  }
  return realloc(base, bytes);
}

/* ---- figures ---- */

static void count_in(size_t bytes) {
  /* relaxed: statistics. */
  gyre__fetch_add_relaxed(&gyre__memory.large_bytes, bytes);
  gyre__fetch_add_relaxed(&gyre__memory.large_blocks, 1);
}

static void count_out(size_t bytes) {
  /* relaxed: statistics. */
  gyre__fetch_sub_relaxed(&gyre__memory.large_bytes, bytes);
  gyre__fetch_sub_relaxed(&gyre__memory.large_blocks, 1);
  gyre__memory_uncharge(bytes);
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

/* ---- making, resizing, freeing ---- */

/* Where the block lies, and how large it is. */
static void page_place(struct gyre__page *page, void *base, size_t bytes, size_t usable) {
  page->start = (char *)(page + 1);
  page->large_base = base;
  page->large_bytes = bytes;
  page->large_usable = usable;
  page->block_size = usable < UINT32_MAX ? (uint32_t)usable : UINT32_MAX;
}

static struct gyre__page *page_make(struct gyre__heap *self, enum gyre__kind kind,
                                    enum gyre__large_backend backend, char *base, size_t bytes,
                                    size_t size, size_t alignment) {
  uintptr_t block =
      ((uintptr_t)base + sizeof(struct gyre__page) + alignment - 1) & ~(uintptr_t)(alignment - 1);
  struct gyre__page *page = (struct gyre__page *)block - 1;
  memset(page, 0, sizeof *page);
  page->is_large = LARGE_LIVE;
  page->large_backend = (uint8_t)backend;
  page->kind = (uint8_t)kind;
  page->state = GYRE__PAGE_USED;
  page->used = page->capacity = page->reserved = 1;
  page->large_owner = self->thread.base.id;
  /* relaxed: before the page is on the list, whose lock orders it. */
  if (kind != GYRE__RAW) gyre__store_relaxed(&page->objects_end, 1);
  page_place(page, base, bytes, size);
  return page;
}

void *gyre__large_alloc(struct gyre__heap *self, enum gyre__kind kind, size_t size,
                        size_t alignment, bool zero) {
  if (GYRE_FAULT() || size > LARGE_MAX) return gyre__heap_alloc_fault();
  size = (size + 15) & ~(size_t)15;
  enum gyre__large_backend backend = backend_now();
  size_t padding = alignment > 16 ? alignment : 0;
  size_t bytes = backend_bytes(backend, sizeof(struct gyre__page) + padding + size);
  char *base = NULL;
  unsigned step = 0;
  for (;;) {
    if (gyre__memory_charge(bytes)) {
      base = backend_alloc(backend, bytes, zero);
      if (base != NULL) break;
      gyre__memory_uncharge(bytes);
    }
    if (!gyre__memory_make_room(self, size, &step)) return gyre__heap_alloc_fault();
  }
  count_in(bytes);
  struct gyre__page *page = page_make(self, kind, backend, base, bytes, size, alignment);
  if (kind == GYRE__TRACKED) list_add(self, page);
  if (!zero) gyre__debug_block_out(page->start);
  return page->start;
}

void *gyre__large_resize(struct gyre__page *page, size_t size) {
  char *base = page->large_base;
  if (size > LARGE_MAX || base != (char *)page) return NULL;
  enum gyre__large_backend backend = (enum gyre__large_backend)page->large_backend;
  size = (size + 15) & ~(size_t)15;
  size_t old_bytes = page->large_bytes;
  size_t bytes = backend_bytes(backend, sizeof(struct gyre__page) + size);
  if (bytes == old_bytes) {
    page_place(page, base, bytes, size);
    return page->start;
  }
  size_t growth = bytes > old_bytes ? bytes - old_bytes : 0;
  if (GYRE_FAULT() || (growth != 0 && !gyre__memory_charge(growth))) return NULL;
  void *moved = backend_resize(backend, base, old_bytes, bytes);
  if (moved == NULL) {
    gyre__memory_uncharge(growth);
    return NULL;
  }
  if (growth == 0) gyre__memory_uncharge(old_bytes - bytes);
  /* relaxed: statistics; the change may be negative. */
  gyre__fetch_add_relaxed(&gyre__memory.large_bytes, bytes - old_bytes);
  page = moved;
  page_place(page, moved, bytes, size);
  return page->start;
}

static void page_give(struct gyre__page *page) {
  enum gyre__large_backend backend = (enum gyre__large_backend)page->large_backend;
  size_t bytes = page->large_bytes;
  page->is_large = LARGE_FREED;
  backend_free(backend, page->large_base, bytes);
  count_out(bytes);
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

void gyre__large_fork_prepare(void) { gyre__lock_take(&waiting_lock); }
void gyre__large_fork_parent(void) { gyre__lock_give(&waiting_lock); }
void gyre__large_fork_child(void) { gyre__lock_reset(&waiting_lock); }

void gyre__large_free(struct gyre__heap *self, struct gyre__page *page) {
  GYRE_REQUIRE(page->is_large != LARGE_FREED, "double free: %p", (void *)(page + 1));
  GYRE_REQUIRE(page->is_large == LARGE_LIVE && page->start == (char *)(page + 1),
               "invalid pointer: %p is not a block of this library", (void *)(page + 1));
  if (page->kind == GYRE__RAW) {
    page_give(page);
    return;
  }
  GYRE_ASSERT(self->thread.base.id != 0);
  if (page->kind == GYRE__TRACKED) list_remove(page);
  page->empty_ticket = gyre__heap_pin_number();
  gyre__defer(&self->thread, &page->deferred, page_give_deferred);
}
