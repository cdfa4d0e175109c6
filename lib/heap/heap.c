/* SPDX-License-Identifier: MIT */
/* A slot's heap: the slow halves of allocating and freeing, and the hooks that tie heaps to
 * threads. */
#include "lib/heap/heap.h"

#include <errno.h>

#include "lib/heap/page.h"

/* ---- allocating ---- */

void (*gyre__heap_before_refill)(struct gyre__heap *self);
void (*gyre__heap_before_reap)(struct gyre__heap *heap);

static void *page_take_block(struct gyre__page *page, enum gyre__kind kind) {
  void *block = page->free;
  page->free = *gyre__link(block, kind);
  page->used++;
  gyre__debug_block_out(page, block);
  return block;
}

void *gyre__heap_alloc_slow(struct gyre__heap *self, enum gyre__kind kind, unsigned size_class) {
  if (++self->slow_count % 64 == 0) gyre__purge_tick(self);
  struct gyre__page *page = gyre__page_find(self, kind, size_class);
  if (page == NULL && gyre__heap_before_refill != NULL) {
    gyre__heap_before_refill(self);
    page = gyre__page_find(self, kind, size_class);
  }
  unsigned step = 0;
  while (page == NULL) {
    page = gyre__page_add(self, kind, size_class);
    if (page != NULL) break;
    if (!gyre__memory_make_room(self, gyre__class_size(size_class), &step)) {
      errno = ENOMEM;
      return NULL;
    }
    page = gyre__page_find(self, kind, size_class);
  }
  return page_take_block(page, kind);
}

void *gyre__heap_alloc_fault(void) {
  errno = ENOMEM;
  return NULL;
}

void *gyre__heap_alloc_large(struct gyre__heap *self, enum gyre__kind kind, size_t size,
                             size_t alignment) {
  return gyre__large_alloc(self, kind, size, alignment, kind != GYRE__RAW);
}

/* ---- freeing ---- */

void gyre__heap_page_emptied(struct gyre__heap *self, struct gyre__page *page) {
  /* The last page of its pool stays, whatever it was the last of. */
  if (GYRE_LIKELY(page->in_pool && page->prev == NULL && page->next == NULL)) return;
  gyre__page_retire(self, page);
  gyre__purge_tick(self);
}

static bool page_is_ours(const struct gyre__heap *self, const struct gyre__page *page) {
  /* relaxed: see gyre__heap_free(). */
  return gyre__load_relaxed(&page->owner) == self->thread.base.id;
}

void gyre__heap_free_slow(struct gyre__heap *self, struct gyre__page *page, void *block) {
  if (page->is_large) {
    gyre__large_free(self, page);
  } else if (page_is_ours(self, page)) {
    if (page->slow_free) gyre__page_unfull(self, page);
    gyre__heap_free_local(self, page, block, (enum gyre__kind)page->kind);
  } else {
    gyre__page_free_remote(page, block, block);
  }
}

void gyre__heap_free_chain(struct gyre__heap *self, struct gyre__page *page, void *first,
                           void *last, uint32_t count) {
  enum gyre__kind kind = (enum gyre__kind)page->kind;
#ifdef GYRE_DEBUG
  for (void *block = first, *next; block != NULL; block = next) {
    next = block != last ? *gyre__link(block, kind) : NULL;
    gyre__debug_block_in(page, block, kind);
  }
#endif
  if (page->is_large) {
    gyre__large_free(self, page);
  } else if (page_is_ours(self, page)) {
    if (page->slow_free) gyre__page_unfull(self, page);
    *gyre__link(last, kind) = page->free;
    page->free = first;
    page->used -= count;
    if (page->used == 0) gyre__heap_page_emptied(self, page);
  } else {
    gyre__page_free_remote(page, first, last);
  }
}

/* ---- pins ---- */

/* Collections begun and finished: one at a time, under the collector's lock. */
static gyre__atomic_u64 pins_begun, pins_over;

void gyre__heap_pin(void) {
  /* seq_cst: before the collector's next step, which stops the world or passes a handshake; who
   * looks after that sees it. Pairs with gyre__heap_is_pinned(). */
  gyre__fetch_add_seq_cst(&pins_begun, 1);
}

void gyre__heap_unpin(void) {
  /* acq_rel: the collector's last look at a page; pairs with gyre__heap_pin_is_over(). */
  gyre__fetch_add_acq_rel(&pins_over, 1);
  gyre__large_pin_is_over();
}

uint64_t gyre__heap_pin_number(void) {
  /* acquire: a collection that begins later finds what the caller does next; pairs with
   * gyre__heap_pin(). */
  return gyre__load_acquire(&pins_begun);
}

bool gyre__heap_pin_is_over(uint64_t number) {
  /* acquire: the collector is done with our pages; pairs with gyre__heap_unpin(). */
  return gyre__load_acquire(&pins_over) >= number;
}

bool gyre__heap_is_pinned(void) { return !gyre__heap_pin_is_over(gyre__heap_pin_number()); }

/* ---- hooks ---- */

static void heap_init(struct gyre__thread *slot) {
  struct gyre__heap *heap = (struct gyre__heap *)slot;
  for (unsigned kind = 0; kind < GYRE__KINDS; kind++)
    for (unsigned size_class = 0; size_class < GYRE__SIZE_CLASSES; size_class++)
      heap->pool[kind][size_class] = &gyre__page_none;
}

/* Slots whose large_lock is held for the fork. */
static uint32_t fork_slots;

static struct gyre__heap *heap_of(uint32_t id) {
  return (struct gyre__heap *)gyre__thread_slot(id);
}

static void fork_prepare(void) {
  fork_slots = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= fork_slots; id++)
    gyre__lock_take(&heap_of(id)->large_lock);
  gyre__large_fork_prepare();
  gyre__memory_fork_prepare();
  gyre__segment_fork_prepare();
}

static void fork_parent(void) {
  gyre__segment_fork_parent();
  gyre__memory_fork_parent();
  gyre__large_fork_parent();
  for (uint32_t id = 1; id <= fork_slots; id++)
    gyre__lock_give(&heap_of(id)->large_lock);
}

static void fork_child(void) {
  gyre__segment_fork_child();
  gyre__memory_fork_child();
  gyre__large_fork_child();
  for (uint32_t id = 1; id <= gyre__thread_slot_count(); id++)
    gyre__lock_reset(&heap_of(id)->large_lock);
}

/* Early: constructors of the program may allocate. */
static void __attribute__((constructor(101))) heap_setup(void) {
  gyre__thread_hooks.slot_init[0] = heap_init;
  gyre__thread_hooks.heap_leaving = gyre__purge_leaving;
  gyre__thread_hooks.heap = gyre__purge_at_safepoint;
  gyre__thread_hooks.fork_prepare[0] = fork_prepare;
  gyre__thread_hooks.fork_parent[0] = fork_parent;
  gyre__thread_hooks.fork_child[0] = fork_child;
  gyre__option_hooks.large_is_available = gyre__large_backend_is_available;
}
