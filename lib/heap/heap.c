/* SPDX-License-Identifier: MIT */
/* A slot's heap: the slow halves of allocating and freeing, and the hooks that tie heaps to
 * threads. */
#include "lib/heap/heap.h"

#include <errno.h>

#include "lib/base/probe.h"
#include "lib/heap/hook.h"
#include "lib/heap/page.h"
#include "lib/heap/traced.h"

/* ---- allocating ---- */

void (*gyre__heap_before_refill)(struct gyre__heap *self);
void (*gyre__heap_before_reap)(struct gyre__heap *heap);

static inline void make_ready(struct gyre__heap *self, gyre__pool *pool, struct gyre__page *page) {
  if (!GYRE__IS_MALLOC && GYRE_UNLIKELY(self->trace_seen != 0))
    gyre__traced_make_ready(self, pool, page);
  else
    gyre__page_make_ready(pool, page);
}

/* True if there is a page, whose blocks are then ready. */
static bool pool_fill(struct gyre__heap *self, enum gyre__kind kind, unsigned size_class,
                      struct gyre__page *page) {
  if (page != NULL) make_ready(self, gyre__heap_pool(self, kind, size_class), page);
  return page != NULL;
}

/* Makes blocks of the pool ready without taking another page. False if it has none. */
static bool pool_refill(struct gyre__heap *self, enum gyre__kind kind, unsigned size_class) {
  /* Whatever was called before this may have freed a block of a full page. */
  return gyre__heap_pool(self, kind, size_class)->gyre__ready != NULL ||
         pool_fill(self, kind, size_class, gyre__page_find(self, kind, size_class));
}

/* The same with the free blocks of a larger class, if it has many. */
static bool pool_borrow(struct gyre__heap *self, enum gyre__kind kind, unsigned size_class) {
  return kind == GYRE__RAW &&
         pool_fill(self, kind, size_class, gyre__page_find_sparse(self, size_class));
}

/* The same with another page. */
static bool pool_grow(struct gyre__heap *self, enum gyre__kind kind, unsigned size_class) {
  GYRE_PROBE2(alloc_page, kind, gyre__class_size(size_class));
  if (GYRE_UNLIKELY(gyre__option(mem_threshold) != 0)) gyre__memory_threshold_look(self);
  return pool_fill(self, kind, size_class, gyre__page_add(self, kind, size_class));
}

static GYRE_NOINLINE void *alloc_slower(struct gyre__heap *self, enum gyre__kind kind,
                                        unsigned size_class) {
  if (++self->slow_count % 64 == 0) gyre__purge_tick(self);
  bool is_ready = pool_refill(self, kind, size_class);
  if (!is_ready && gyre__heap_before_refill != NULL) {
    gyre__heap_before_refill(self);
    is_ready = pool_refill(self, kind, size_class);
  }
  unsigned step = 0;
  while (!is_ready) {
    if (pool_borrow(self, kind, size_class) || pool_grow(self, kind, size_class)) break;
    if (!gyre__memory_make_room(self, gyre__class_size(size_class), &step)) {
      GYRE_PROBE2(alloc_failed, kind, gyre__class_size(size_class));
      errno = ENOMEM;
      return NULL;
    }
    is_ready = pool_refill(self, kind, size_class);
  }
  return gyre__heap_take(&gyre__heap_pool(self, kind, size_class)->gyre__ready, kind);
}

void *gyre__heap_alloc_slow(struct gyre__heap *self, enum gyre__kind kind, unsigned size_class) {
  gyre__pool *pool = gyre__heap_pool(self, kind, size_class);
  struct gyre__page *page = pool->gyre__first;
  if (page == NULL || page->free == NULL || self->trace_seen != 0)
    return alloc_slower(self, kind, size_class);
  /* What was freed into the first page since it was made ready last. */
  gyre__page_make_ready(pool, page);
  return gyre__heap_take(&pool->gyre__ready, kind);
}

void *gyre__heap_alloc_fault(void) {
  errno = ENOMEM;
  return NULL;
}

void *gyre__heap_alloc_large(struct gyre__heap *self, enum gyre__kind kind, size_t size,
                             size_t alignment) {
  return gyre__large_alloc(self, kind, size, alignment, kind != GYRE__RAW);
}

_Noreturn void gyre__heap_corrupted(const void *block) {
  gyre__die(__FILE__, __LINE__,
            "corrupted: block %p of %u bytes was freed twice, or written to after it was freed",
            block, gyre__page_of(block)->block_size);
}

/* ---- pages ---- */

/* In a large heap that stays as large as it is, most pages are full, and a page that gets a block back
 * loses it to one of the next allocations. It would leave the full ones and join them again each time;
 * and the block that came back, which is in the cache, would be the last to be handed out. So blocks of
 * pages that had few to hand out last time go straight to the ready list, and the page stays full. */
#define STRAY_BYTES 16384u
#define STRAYS_MOST 8u

static inline bool keep_full(struct gyre__heap *self, struct gyre__page *page) {
  if (!GYRE__IS_MALLOC && GYRE_UNLIKELY(self->trace_seen != 0) &&
      !gyre__traced_may_keep(self, page))
    return false;
  gyre__pool *pool = gyre__heap_pool(self, (enum gyre__kind)page->kind, page->size_class);
  void *ready = pool->gyre__ready;
  if (pool->gyre__rest == ready || pool->gyre__strays == 0) {
    /* Those before have been handed out. In the most frequent case, that there is one at a time, nothing
     * changes here. */
    if (pool->gyre__rest != ready) pool->gyre__rest = ready;
    if (pool->gyre__strays != 1) pool->gyre__strays = 1;
  } else {
    if (pool->gyre__strays >= STRAYS_MOST || pool->gyre__strays * page->block_size > STRAY_BYTES)
      return false;
    pool->gyre__strays++;
  }
  void *block = page->free;
  gyre__link_set(block, (enum gyre__kind)page->kind, ready);
  pool->gyre__ready = block;
  /* As it was before: without free blocks, which add up to nothing. */
  page->free = NULL;
  page->sum = 0;
  page->used = 1;
  return true;
}

void gyre__heap_page_idle(gyre_thread *handle, void *idle_page) {
  struct gyre__heap *self = (struct gyre__heap *)(void *)handle;
  struct gyre__page *page = idle_page;
  if (page->full) {
    if (page->scarce && keep_full(self, page)) return;
    gyre__page_unfull(self, page);
    if (--page->used != 0) return;
  }
  /* The last page of its pool stays. */
  if (GYRE_LIKELY(page->in_pool && page->prev == NULL && page->next == NULL)) return;
  gyre__page_retire(self, page);
  gyre__purge_tick(self);
}

static bool page_is_ours(const struct gyre__heap *self, const struct gyre__page *page) {
  if (page->segment->owner == self) return true;
  /* relaxed: see gyre__heap_free(). In an arena, whose segments are nobody's, the page alone knows. */
  return gyre__arena_on && gyre__load_relaxed(&page->owner) == self->thread.base.id &&
         self->thread.base.id != 0;
}

/* ---- batches ----
 *
 * A block of another slot's page is not sent home at once: the line that the owner looks at for such
 * blocks would go back and forth for each. It waits with its neighbours, in a table that has a place for
 * each page that was freed into lately (pages that hash to one place push each other out), until there
 * are some KiB of them, or the thread parks, ends, purges, or looks after its heap for another reason.
 * One atomic operation sends them all, and the owner need not look at any of them (page.c). (snmalloc
 * gathers by owner, and since version 0.7 by page too.) What a thread holds back is bounded by
 * GYRE__BATCHES times BATCH_BYTES, or one block each; though one block holds back a page, if the others
 * have come home.
 */
#define BATCH_BYTES 4096u

static struct gyre__batch *batch_of(struct gyre__heap *self, const struct gyre__page *page) {
  uint32_t hash = (uint32_t)((uintptr_t)page / sizeof *page) * UINT32_C(0x9E3779B1);
  return &self->batches[hash >> 27];
}
_Static_assert(GYRE__BATCHES == 1 << (32 - 27), "batch_of()");

static void batch_send(struct gyre__heap *self, struct gyre__batch *batch) {
  struct gyre__page *page = batch->page;
  batch->page = NULL;
  self->batched--;
  gyre__page_free_remote(page, batch->first, batch->last, batch->count);
}

static void batch_start(struct gyre__heap *self, struct gyre__batch *batch, struct gyre__page *page,
                        void *block) {
  uint32_t room = BATCH_BYTES / page->block_size;
  gyre__link_set(block, (enum gyre__kind)page->kind, NULL);
  *batch = (struct gyre__batch){page, block, block, 1, room};
  self->batched++;
  if (room <= 1) batch_send(self, batch);
}

static void batch_add(struct gyre__heap *self, struct gyre__page *page, void *block) {
  struct gyre__batch *batch = batch_of(self, page);
  if (GYRE_UNLIKELY(batch->page != page)) {
    if (batch->page != NULL) batch_send(self, batch);
    batch_start(self, batch, page, block);
    return;
  }
  gyre__link_set(block, (enum gyre__kind)page->kind, batch->first);
  batch->first = block;
  if (GYRE_UNLIKELY(++batch->count >= batch->room)) batch_send(self, batch);
}

void gyre__heap_send(struct gyre__heap *self) {
  if (GYRE_LIKELY(self->batched == 0)) return;
  for (unsigned i = 0; i < GYRE__BATCHES; i++)
    if (self->batches[i].page != NULL) batch_send(self, &self->batches[i]);
}

/* ---- freeing ---- */

void gyre__heap_free_slow(struct gyre__heap *self, struct gyre__page *page, void *block) {
  if (page->is_large) {
    gyre__large_free(self, page, block);
    return;
  }
  gyre__trace_forget(self, page, block);
  if (page_is_ours(self, page)) {
    gyre__heap_free_local(self, page, block, (enum gyre__kind)page->kind);
  } else if (self->thread.base.id != 0 && &self->thread.base == gyre__self) {
    batch_add(self, page, block);
  } else {
    /* A thread that is not attached, or one that stands in for another, which it leaves as it is. */
    gyre__link_set(block, (enum gyre__kind)page->kind, NULL);
    gyre__page_free_remote(page, block, block, 1);
  }
}

void gyre__heap_free_chain(struct gyre__heap *self, struct gyre__page *page, void *first,
                           void *last, uint32_t count) {
  enum gyre__kind kind = (enum gyre__kind)page->kind;
#if GYRE__WATCHED
  for (void *block = first, *next; block != NULL; block = next) {
    next = block != last ? gyre__link_get(block, kind) : NULL;
    gyre__watch_block_in(page, block, kind);
  }
#endif
  if (page->is_large) {
    gyre__large_free(self, page, first);
    return;
  }
  /* relaxed: as in gyre__trace_forget(). */
  if (!GYRE__IS_MALLOC && GYRE_UNLIKELY(gyre__load_relaxed(&page->marks) != NULL))
    for (void *block = first; block != NULL;
         block = block != last ? gyre__link_get(block, kind) : NULL)
      gyre__traced_free(self, page, block);
  if (page_is_ours(self, page)) {
    if (page->full) gyre__page_unfull(self, page);
    gyre__link_set(last, kind, page->free);
    page->free = first;
    page->sum_is_off = 1;
    page->used -= count;
    if (page->used == 0) gyre__heap_page_idle(&self->thread.base, page);
  } else {
    gyre__page_free_remote(page, first, last, count);
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

uint64_t gyre__link_key;

/* If the inline paths are off, no link looks right to those of the public headers: they call us for every
 * block. The pool that a hook leads to is a pointer that is always NULL. */
void gyre__hook_slot(struct gyre__thread *slot) {
  gyre_thread *self = &slot->base;
  bool off = gyre__hook_is_on();
  bool inline_off = GYRE__INLINE_OFF || off;
  self->gyre__link_key = inline_off ? gyre__link_key ^ GYRE__LINK_BIT : gyre__link_key;
  for (size_t i = 0; i <= GYRE__CLASS_TABLE_MAX / 16; i++) {
    gyre__pool *way = &self->gyre__pools[GYRE__RAW][gyre__size_class(16 * i)];
    self->gyre__pool_at[i] =
        (uint16_t)(off ? (char *)&self->gyre__nothing - (char *)self : (char *)way - (char *)self);
  }
}

/* A slot's memory is zero, which is how an empty heap begins. The first slot is made before there is any
 * block, under a lock that every later one takes. */
static void heap_init(struct gyre__thread *slot) {
  gyre_thread *self = &slot->base;
  if (gyre__link_key == 0) gyre__link_key = GYRE__LINK_BIT | gyre__os_random();
  gyre__hook_start();
  self->gyre__segments = gyre__segment_table;
  gyre__hook_slot(slot);
}

static void heap_idling(struct gyre__thread *self) { gyre__heap_send((struct gyre__heap *)self); }

/* Slots whose large_lock is held for the fork. */
static uint32_t fork_slots;

static struct gyre__heap *heap_of(uint32_t id) {
  return (struct gyre__heap *)gyre__thread_slot(id);
}

static void fork_prepare(void) {
  gyre__hook_fork_prepare();
  gyre__fence_fork_prepare();
  fork_slots = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= fork_slots; id++)
    gyre__lock_take(&heap_of(id)->large_lock);
  gyre__large_fork_prepare();
  gyre__reserve_fork_prepare();
  gyre__memory_fork_prepare();
  gyre__segment_fork_prepare();
  gyre__arena_fork_prepare();
}

static void fork_parent(void) {
  gyre__fence_fork_parent();
  gyre__hook_fork_parent();
  gyre__arena_fork_parent();
  gyre__segment_fork_parent();
  gyre__memory_fork_parent();
  gyre__reserve_fork_parent();
  gyre__large_fork_parent();
  for (uint32_t id = 1; id <= fork_slots; id++)
    gyre__lock_give(&heap_of(id)->large_lock);
}

static void fork_child(void) {
  gyre__fence_fork_child();
  gyre__hook_fork_child();
  gyre__arena_fork_child();
  gyre__segment_fork_child();
  gyre__memory_fork_child();
  gyre__reserve_fork_child();
  gyre__large_fork_child();
  for (uint32_t id = 1; id <= gyre__thread_slot_count(); id++)
    gyre__lock_reset(&heap_of(id)->large_lock);
}

/* Early: constructors of the program may allocate. Whoever does so earlier still, has it called by the
 * first attach. */
void __attribute__((constructor(101))) gyre__heap_setup(void) {
  gyre__thread_hooks.slot_init[0] = heap_init;
  gyre__thread_hooks.heap_leaving = gyre__purge_leaving;
  gyre__thread_hooks.heap_idling = heap_idling;
  gyre__thread_hooks.heap = gyre__purge_at_safepoint;
  gyre__thread_hooks.fork_prepare[0] = fork_prepare;
  gyre__thread_hooks.fork_parent[0] = fork_parent;
  gyre__thread_hooks.fork_child[0] = fork_child;
  gyre__option_hooks.large_is_available = gyre__large_backend_is_available;
}
