/* SPDX-License-Identifier: MIT */
/* Pages: runs of blocks of one size, and how they move between pool, full, empty and free.
 *
 *                find                     no free block left
 *     FREE ------------> USED, in pool ----------------------> USED, full
 *      ^                  |   ^   ^ \______ a block came back ____/
 *      |     last block   |   |   |
 *      |<--- raw ---------+   |   |
 *      |                  |   |   find: same kind and class
 *      |                  v   |   |
 *      +---- grace --- EMPTY -+---+        (object pages only)
 *
 * A pool is a list of pages that have a free block, or may have: some were freed by other threads,
 * or some have never been linked. Full pages are on no list; a free in one links it again, or is handed
 * out next (keep_full() in heap.c). The last page of a pool stays in it when it empties, so that a
 * program that allocates and frees one block in turn does not take a page and give it back each time.
 *
 * Two lists. A block that comes back goes to its page's free list. Blocks are handed out from the pool's
 * ready list; when that has run dry, the free list of the first page becomes the ready list, whole. So
 * an allocation touches the heap and the block, a free the block and its page; neither counts what
 * the other does, and a page is empty when all its blocks are on its own list. (The two lists are
 * mimalloc's and snmalloc's.)
 *
 * Blocks are linked into a free list some 4 KiB at a time, so that memory nobody asked for stays
 * untouched.
 *
 * Type stability. A thread that has just read a pointer from a slot may read the header of the
 * object behind it, and add to its shared word and take that back, even if the object was freed
 * meanwhile; it does so between two of its safepoints. So an object page that is empty may go on
 * with the same kind and class at once (the shared words are left as they are), but it may change,
 * or lose its memory, only after a grace period. When a page changes, its memory is dirty: then
 * linking a block of an object page zeroes its header.
 *
 * Frees by other threads come in batches (heap.c). page->remote is 0, or GYRE__REMOTE_TELL, or a list of
 * blocks, of which it says the first and how many they are, so that the owner takes the list without
 * looking at a block:
 *
 *          owner: page is full                other: free (must push the page onto heap->news)
 *     0 -------------------------> TELL ---------------------------------------------------> list
 *     0 ----------- other: free ---------------> list
 *     list -------- other: free ---------------> longer list
 *     list -------- owner: collect ------------> 0
 *
 * The owner finds the list when its pool runs dry, or when the page comes up as news. "One push":
 * between two times that the owner sets TELL one thread takes it away, and it pushes the page once;
 * the owner sets it again only when it has heard of that push (awaits_news), so a page is never on
 * the stack twice. Afterwards the pusher does not touch the page any more. Progress: freeing is
 * lock-free, collecting wait-free.
 */
#include "lib/heap/page.h"
#include "lib/heap/traced.h"

#include <string.h>

#define EXTEND_BYTES 4096u

/* ---- figures ---- */

/* What statistics of other threads see of the page. */
static void page_show(struct gyre__page *page) {
  /* relaxed: a figure; whoever reads it holds the lock of the list of segments, so that the page is
   * there. Pairs with the load in lib/heap/stats.c. */
  gyre__store_relaxed(&page->known, (uint64_t)page->counted |
                                        (uint64_t)page->size_class << GYRE__KNOWN_CLASS |
                                        (uint64_t)(page->kind + 1) << GYRE__KNOWN_KIND);
}

void gyre__page_account(struct gyre__heap *heap, struct gyre__page *page) {
  uint32_t used = gyre__page_used(page);
  size_t change = (size_t)used - page->counted;
  if (change == 0) return;
  page->counted = used;
  page_show(page);
  gyre__figure_add(&heap->live_blocks, change);
  gyre__figure_add(&heap->live_bytes, change * page->block_size);
}

/* ---- the pool's list ---- */

static gyre__pool *pool_of(struct gyre__heap *heap, const struct gyre__page *page) {
  return gyre__heap_pool(heap, (enum gyre__kind)page->kind, page->size_class);
}

static void pool_put_first(struct gyre__heap *heap, struct gyre__page *page) {
  gyre__pool *pool = pool_of(heap, page);
  page->prev = NULL;
  page->next = pool->gyre__first;
  if (page->next != NULL)
    page->next->prev = page;
  else
    pool->gyre__last = page;
  page->in_pool = 1;
  pool->gyre__first = page;
}

/* At the end: by the time it is its turn, it may have got more blocks back. */
static void pool_put_last(struct gyre__heap *heap, struct gyre__page *page) {
  struct gyre__page *last = pool_of(heap, page)->gyre__last;
  if (last == NULL) {
    pool_put_first(heap, page);
    return;
  }
  page->prev = last;
  page->next = NULL;
  last->next = page;
  pool_of(heap, page)->gyre__last = page;
  page->in_pool = 1;
}

static void pool_remove(struct gyre__heap *heap, struct gyre__page *page) {
  gyre__pool *pool = pool_of(heap, page);
  if (page->next != NULL)
    page->next->prev = page->prev;
  else
    pool->gyre__last = page->prev;
  if (page->prev != NULL)
    page->prev->next = page->next;
  else
    pool->gyre__first = page->next;
  page->next = page->prev = NULL;
  page->in_pool = 0;
}

static void pool_bring_first(struct gyre__heap *heap, struct gyre__page *page) {
  if (page->prev == NULL) return;
  pool_remove(heap, page);
  pool_put_first(heap, page);
}

/* ---- frees by others ---- */

static void news_push(struct gyre__heap *owner, struct gyre__page *page) {
  /* relaxed: the compare-exchange decides. */
  void *head = gyre__load_relaxed(&owner->news);
  do {
    page->news_next = head;
    /* release: news_next; pairs with the exchange in gyre__page_hear_news(). */
  } while (!gyre__cas_weak_release(&owner->news, &head, (void *)page));
}

/* The states of page->remote, above. Blocks have numbers up to 4,096. */
#define REMOTE_FIRST_SHIFT 1
#define REMOTE_COUNT_SHIFT 32

static uint64_t remote_list(uint32_t first, uint64_t count) {
  return count << REMOTE_COUNT_SHIFT | (uint64_t)first << REMOTE_FIRST_SHIFT;
}

static uint32_t remote_count(uint64_t remote) { return (uint32_t)(remote >> REMOTE_COUNT_SHIFT); }

/* The first block of a list; NULL if there is none. */
static void *remote_first(const struct gyre__page *page, uint64_t remote) {
  if (remote_count(remote) == 0) return NULL;
  return gyre__page_block(page, (uint32_t)remote >> REMOTE_FIRST_SHIFT);
}

struct gyre__heap *gyre__page_heap(const struct gyre__page *page) {
  if (GYRE_LIKELY(page->segment->owner != NULL)) return page->segment->owner;
  /* acquire: the page has an owner as long as it has a block; pairs with slices_give() in arena.c, of
   * which nobody sees anything who has a block. */
  uint32_t id = gyre__load_acquire(&page->owner);
  GYRE_REQUIRE(id != 0, "invalid pointer: a block of the page at %p, which is free",
               (void *)page->start);
  return (struct gyre__heap *)gyre__thread_slot(id);
}

void gyre__page_free_remote(struct gyre__page *page, void *first, void *last, uint32_t count) {
  struct gyre__heap *owner = gyre__page_heap(page);
  enum gyre__kind kind = (enum gyre__kind)page->kind;
  uint32_t index = gyre__page_index(page, first);
  /* relaxed: the compare-exchange decides. */
  uint64_t old = gyre__load_relaxed(&page->remote);
  do {
    gyre__link_set(last, kind, remote_first(page, old));
    GYRE_WINDOW("heap/free_remote");
    /* acq_rel: releases the blocks to the owner, whose exchange in page_collect() acquires them;
     * acquires, if TELL was set, that the owner has heard the last news of this page
     * (page_mark_full()), so that news_next is ours to write. */
  } while (!gyre__cas_weak_acq_rel(&page->remote, &old,
                                   remote_list(index, (uint64_t)remote_count(old) + count)));
  /* Without TELL the page may be gone by now: its owner may have found the block. With it, the page
   * stays until the owner has heard. */
  if (old == GYRE__REMOTE_TELL) {
    GYRE_WINDOW("heap/before_news");
    news_push(owner, page);
  }
}

void *gyre__page_remote(struct gyre__page *page) {
  /* acquire: the blocks' links; pairs with the compare-exchange in gyre__page_free_remote(). */
  return remote_first(page, gyre__load_acquire(&page->remote));
}

static bool page_has_remote(struct gyre__page *page) {
  /* relaxed: a look whether an exchange is worth it; if a block arrives after it and the page is full,
   * its freer or one before it has yet to push the page. Pairs with gyre__page_free_remote(). */
  return remote_count(gyre__load_relaxed(&page->remote)) != 0;
}

/* The last block of a list. One that was freed twice makes the list a ring, or leaves others out. */
static void *list_last(void *block, uint32_t count, enum gyre__kind kind) {
  for (void *next; --count != 0; block = next) {
    next = gyre__link_get(block, kind);
    if ((intptr_t)next <= 0) gyre__heap_corrupted(block);
  }
  if (gyre__link_get(block, kind) != NULL) gyre__heap_corrupted(block);
  return block;
}

/* Moves what others have freed to the free list of a page that is not marked full. True if there was
 * any. The blocks are not touched, as a rule: they may be in another processor's cache. */
static bool page_collect(struct gyre__page *page) {
  if (!page_has_remote(page)) return false;
  /* acquire: the blocks, their links and all their last users did with them; pairs with the
   * compare-exchange in gyre__page_free_remote(). Only the owner takes the list away, so it is not
   * empty now. */
  uint64_t remote = gyre__exchange_acquire(&page->remote, 0);
  uint32_t count = remote_count(remote);
  GYRE_REQUIRE(count <= page->used, "double free: %u blocks came back to a page with %u in use",
               count, page->used);
  void *first = remote_first(page, remote);
  if (page->free != NULL) {
    enum gyre__kind kind = (enum gyre__kind)page->kind;
    gyre__link_set(list_last(first, count, kind), kind, page->free);
  }
  page->free = first;
  page->sum_is_off = 1;
  page->used -= count;
  return true;
}

/* ---- full ---- */

/* Takes a page without free blocks off its pool's list. False if others have freed some meanwhile.
 */
static bool page_mark_full(struct gyre__heap *heap, struct gyre__page *page) {
  GYRE_ASSERT(page->used == page->reserved);
  if (!page->awaits_news) {
    uint64_t expected = 0;
    /* acq_rel: releases that news_next has been read; pairs with gyre__page_free_remote(). */
    if (!gyre__cas_strong_acq_rel(&page->remote, &expected, GYRE__REMOTE_TELL)) return false;
    page->awaits_news = 1;
  } else if (page_has_remote(page)) {
    return false;
  }
  if (page->in_pool) pool_remove(heap, page);
  gyre__page_account(heap, page);
  page->full = 1;
  page->used = 1;
  return true;
}

/* A page marked full is an ordinary one again, on no list. */
static void page_unmark_full(struct gyre__page *page) {
  GYRE_ASSERT(page->full && !page->in_pool && page->state == GYRE__PAGE_USED);
  page->full = 0;
  page->used = page->reserved;
}

void gyre__page_unfull(struct gyre__heap *heap, struct gyre__page *page) {
  page_unmark_full(page);
  pool_put_last(heap, page);
}

/* Looks for blocks that others freed in a page in use and moves it to where it belongs then. */
static void page_look(struct gyre__heap *heap, struct gyre__page *page) {
  if (page->full) {
    /* What it waits for may have been heard of; then it must wait anew. */
    page_unmark_full(page);
    while (!page_collect(page))
      if (page_mark_full(heap, page)) return;
    pool_put_last(heap, page);
  } else {
    (void)page_collect(page);
  }
  gyre__page_account(heap, page);
}

/* ---- ready ---- */

/* Puts what one pool has ready back onto the free lists of its pages. */
static void ready_put_back(struct gyre__heap *heap, void **ready, enum gyre__kind kind) {
  for (void *block = *ready, *next; block != NULL; block = next) {
    next = gyre__link_get(block, kind);
    struct gyre__page *page = gyre__page_of(block);
    if (page->full) gyre__page_unfull(heap, page);
    gyre__link_set(block, kind, page->free);
    page->free = block;
    page->sum += (uintptr_t)block;
    page->used--;
  }
  *ready = NULL;
}

void gyre__page_put_back(struct gyre__heap *heap) {
  for (unsigned kind = 0; kind < GYRE__KINDS; kind++)
    for (unsigned size_class = 0; size_class < GYRE__SIZE_CLASSES; size_class++) {
      gyre__pool *pool = gyre__heap_pool(heap, (enum gyre__kind)kind, size_class);
      ready_put_back(heap, &pool->gyre__ready, (enum gyre__kind)kind);
      if (heap->rest_is_hidden) ready_put_back(heap, &pool->gyre__rest, (enum gyre__kind)kind);
      /* The blocks will be asked for anew. */
      pool->gyre__sample = 0;
    }
}

/* ---- news ---- */

void gyre__page_hear_news(struct gyre__heap *heap) {
  /* relaxed: a look whether the exchange is worth it; pairs with news_push(). */
  if (gyre__load_relaxed(&heap->news) == NULL) return;
  /* acquire: the pages' news_next; pairs with news_push(). */
  struct gyre__page *page = gyre__exchange_acquire(&heap->news, NULL);
  while (page != NULL) {
    struct gyre__page *next = page->news_next;
    page->awaits_news = 0;
    if (page->state == GYRE__PAGE_USED) {
      page_look(heap, page);
      if (page->used == 0) gyre__page_retire(heap, page);
    }
    page = next;
  }
}

/* ---- making blocks ---- */

/* The sum of the addresses of `count` blocks from a number on. */
static uint64_t sum_of_blocks(const struct gyre__page *page, uint32_t from, uint64_t count) {
  return count * (uintptr_t)gyre__page_block(page, from) +
         count * (count - 1) / 2 * page->block_size;
}

/* Links some more of the page's memory. False if all of it is linked. */
static bool page_extend(struct gyre__page *page) {
  uint32_t rest = page->reserved - page->capacity;
  if (rest == 0) return false;
  uint32_t count = EXTEND_BYTES / page->block_size;
  if (count == 0) count = 1;
  if (count > rest) count = rest;
  enum gyre__kind kind = (enum gyre__kind)page->kind;
  bool zero_headers = kind != GYRE__RAW && page->dirty;
  void *next = page->free;
  for (uint32_t i = page->capacity + count; i-- > page->capacity;) {
    void *block = gyre__page_block(page, i);
    if (kind != GYRE__RAW) gyre__note_open(block, GYRE_HEADER_SIZE);
    if (zero_headers) memset(block, 0, GYRE_HEADER_SIZE);
    gyre__debug_block_made(block, kind);
    gyre__link_set(block, kind, next);
    next = block;
  }
  page->free = next;
  page->sum += sum_of_blocks(page, page->capacity, count);
  page->capacity += count;
  /* release: the blocks' headers and the page's constants; pairs with gather_page() in
   * lib/collect/set.c. */
  if (kind != GYRE__RAW) gyre__store_release(&page->objects_end, page->capacity);
  return true;
}

static uint32_t page_shift_of(size_t block_size) {
  return block_size <= GYRE__SMALL_MAX || gyre__arena_on ? GYRE__SMALL_PAGE_SHIFT
                                                         : GYRE__MEDIUM_PAGE_SHIFT;
}

static void page_init(struct gyre__page *page, enum gyre__kind kind, unsigned size_class) {
  size_t block_size = gyre__class_size(size_class);
  GYRE_REQUIRE(kind == GYRE__RAW || block_size >= 2 * GYRE_HEADER_SIZE,
               "objects of %zu bytes have no room for a link", block_size);
  page->kind = (uint8_t)kind;
  page->size_class = (uint8_t)size_class;
  page->block_size = (uint32_t)block_size;
  page->reserved = (uint32_t)(gyre__page_bytes(page) / block_size);
  page->reciprocal = ((UINT64_C(1) << 32) + block_size - 1) / block_size;
  gyre__page_forget_free(page);
  page->capacity = page->used = page->counted = 0;
  page->full = 0;
  page->state = GYRE__PAGE_USED;
  page_show(page);
}

/* ---- empty ---- */

static struct gyre__page **empty_list(struct gyre__heap *heap, enum gyre__kind kind,
                                      unsigned size_class) {
  return &heap->empty[(unsigned)kind - 1][size_class];
}

static void page_free_whole(struct gyre__heap *heap, struct gyre__page *page) {
  GYRE_ASSERT(page->used == 0 && !page->in_pool);
  page->state = GYRE__PAGE_FREE;
  gyre__page_forget_free(page);
  page->capacity = 0;
  /* relaxed: the slot's own. */
  if (!GYRE__IS_MALLOC && GYRE_UNLIKELY(gyre__load_relaxed(&page->marks) != NULL))
    gyre__traced_detach(heap, page);
  /* relaxed: nobody looks: no collection is under way, or the page is raw and it is 0. */
  gyre__store_relaxed(&page->objects_end, 0);
  /* relaxed: as in page_show(). */
  gyre__store_relaxed(&page->known, 0);
  gyre__note_nobody(page->start, gyre__page_bytes(page));
  gyre__segment_give_page(heap, page);
}

/* Puts an empty page away even if it is the last of its pool. */
static void page_put_away(struct gyre__heap *heap, struct gyre__page *page) {
  GYRE_REQUIRE(page->sum_is_off || page->sum == sum_of_blocks(page, 0, page->capacity),
               "double free: a page of blocks of %u bytes at %p is empty without all of them",
               page->block_size, (void *)page->start);
  if (page->in_pool) pool_remove(heap, page);
  gyre__page_account(heap, page);
  page->empty_since_ns = gyre__clock_ns();
  if (page->kind == GYRE__RAW) {
    page_free_whole(heap, page);
    return;
  }
  page->state = GYRE__PAGE_EMPTY;
  page->empty_ticket = gyre__grace_ticket();
  struct gyre__page **list = empty_list(heap, (enum gyre__kind)page->kind, page->size_class);
  page->next = *list;
  *list = page;
  if (heap->empty_count++ == 0) heap->empty_oldest_ns = page->empty_since_ns;
  gyre__figure_add(&heap->cached_bytes, gyre__page_bytes(page));
}

void gyre__page_retire(struct gyre__heap *heap, struct gyre__page *page) {
  bool last = page->in_pool ? page->prev == NULL && page->next == NULL
                            : pool_of(heap, page)->gyre__first == NULL;
  if (!last)
    page_put_away(heap, page);
  else if (!page->in_pool)
    pool_put_first(heap, page);
}

static void empty_removed(struct gyre__heap *heap, struct gyre__page *page) {
  page->next = NULL;
  heap->empty_count--;
  gyre__figure_add(&heap->cached_bytes, -gyre__page_bytes(page));
}

static struct gyre__page *empty_reuse(struct gyre__heap *heap, enum gyre__kind kind,
                                      unsigned size_class) {
  if (kind == GYRE__RAW || heap->empty_count == 0) return NULL;
  struct gyre__page **list = empty_list(heap, kind, size_class);
  struct gyre__page *page = *list;
  if (page == NULL) return NULL;
  *list = page->next;
  empty_removed(heap, page);
  page->state = GYRE__PAGE_USED;
  return page;
}

/* Is the page on the slot's stack of pages with merges? A late one, whose object was merged by
 * other means and is gone. After a grace period no more can come. */
static bool page_is_queued(struct gyre__page *page) {
  /* acquire: who cleared the mask, this slot's thread or taker, has read the stack's link; pairs
   * with queue_take() in lib/object/merge.c. */
  return gyre__load_acquire(&page->merge_mask) != 0;
}

/* As gyre__page_reap() for one list; lowers *oldest_ns to the oldest that stays. */
static uint64_t reap_list(struct gyre__heap *heap, struct gyre__page **at, uint64_t cutoff_ns,
                          uint64_t *oldest_ns) {
  uint64_t waits = 0;
  while (*at != NULL) {
    struct gyre__page *page = *at;
    bool old = page->empty_since_ns <= cutoff_ns;
    if (old && gyre__grace_done(page->empty_ticket) && !page_is_queued(page)) {
      *at = page->next;
      empty_removed(heap, page);
      page_free_whole(heap, page);
    } else {
      if (old && page->empty_ticket > waits) waits = page->empty_ticket;
      if (page->empty_since_ns < *oldest_ns) *oldest_ns = page->empty_since_ns;
      at = &page->next;
    }
  }
  return waits;
}

uint64_t gyre__page_reap(struct gyre__heap *heap, uint64_t cutoff_ns) {
  uint64_t waits = 0, oldest_ns = UINT64_MAX;
  /* Thousands of pages may have become empty a moment ago: they are not looked through. */
  if (heap->empty_count == 0 || heap->empty_oldest_ns > cutoff_ns || gyre__heap_is_pinned())
    return 0;
  if (gyre__heap_before_reap) gyre__heap_before_reap(heap);
  for (unsigned kind = 0; kind < GYRE__KINDS - 1; kind++)
    for (unsigned size_class = 0; size_class < GYRE__SIZE_CLASSES; size_class++) {
      uint64_t ticket = reap_list(heap, &heap->empty[kind][size_class], cutoff_ns, &oldest_ns);
      if (ticket > waits) waits = ticket;
    }
  heap->empty_oldest_ns = oldest_ns;
  return waits;
}

static void collect_page(struct gyre__heap *heap, struct gyre__page *page) {
  if (page->state != GYRE__PAGE_USED) return;
  page_look(heap, page);
  if (page->used == 0) page_put_away(heap, page);
}

static void collect_arena(struct gyre__heap *heap) {
  struct gyre__page *next = gyre__arena_next_page(heap, NULL);
  for (struct gyre__page *page; (page = next) != NULL;) {
    next = gyre__arena_next_page(heap, page); /* the page may be another heap's afterwards */
    collect_page(heap, page);
  }
}

void gyre__page_collect_all(struct gyre__heap *heap) {
  gyre__page_put_back(heap);
  gyre__page_hear_news(heap);
  if (gyre__arena_on) collect_arena(heap);
  for (struct gyre__segment *segment = heap->segments, *next; segment != NULL; segment = next) {
    next = segment->next; /* giving a page back moves its segment to the front */
    for (uint32_t i = 0; i < segment->page_count; i++)
      collect_page(heap, &segment->pages[i]);
  }
}

/* ---- finding a page to allocate from ---- */

/* A page on the pool's list with a free block; takes full ones off the list. *more: one that can be
 * extended. */
static struct gyre__page *pool_search(struct gyre__heap *heap, const gyre__pool *pool,
                                      struct gyre__page **more) {
  struct gyre__page *next;
  for (struct gyre__page *page = pool->gyre__first; page != NULL; page = next) {
    next = page->next;
    if (page->free == NULL && !page_collect(page)) {
      if (page->capacity < page->reserved) {
        *more = page;
        continue;
      }
      if (page_mark_full(heap, page)) continue;
      (void)page_collect(page);
    }
    return page;
  }
  return NULL;
}

/* A page that nothing is in. */
static struct gyre__page *page_new(struct gyre__heap *heap, enum gyre__kind kind,
                                   unsigned size_class) {
  uint32_t shift = page_shift_of(gyre__class_size(size_class));
  bool over_limit = false;
  struct gyre__page *page = gyre__segment_take_page(heap, shift, &over_limit);
  if (page == NULL && heap->empty_count != 0) {
    (void)gyre__page_reap(heap, UINT64_MAX);
    page = gyre__segment_take_page(heap, shift, &over_limit);
  }
  if (page == NULL && !over_limit && gyre__segment_new(heap, shift))
    page = gyre__segment_take_page(heap, shift, &over_limit);
  if (page != NULL) page_init(page, kind, size_class);
  return page;
}

struct gyre__page *gyre__page_find(struct gyre__heap *heap, enum gyre__kind kind,
                                   unsigned size_class) {
  const gyre__pool *pool = gyre__heap_pool(heap, kind, size_class);
  struct gyre__page *more = NULL;
  struct gyre__page *page = pool_search(heap, pool, &more);
  if (page == NULL) {
    gyre__page_hear_news(heap);
    more = NULL;
    page = pool_search(heap, pool, &more);
  }
  if (page == NULL) {
    if (more == NULL) return NULL;
    page = more;
    (void)page_extend(page);
  }
  pool_bring_first(heap, page);
  gyre__page_account(heap, page);
  return page;
}

/* What a program freed of one size does not help it with another: the pages of each class are as many as
 * the class ever needed at once. So before a class takes another page, it looks whether a class of up to
 * twice its size has one with a quarter of its blocks free. (Pages that have never been full do not
 * count: their blocks are wanted.) */
#define SPARSE_RATIO 2u
#define SPARSE_LOOKS 8u

static bool page_is_sparse(const struct gyre__page *page) {
  return page->free != NULL && page->capacity == page->reserved &&
         page->used <= page->reserved / 4 * 3;
}

struct gyre__page *gyre__page_find_sparse(struct gyre__heap *heap, unsigned size_class) {
  size_t size = gyre__class_size(size_class), most = SPARSE_RATIO * size;
  for (unsigned c = size_class + 1; c < GYRE__SIZE_CLASSES && gyre__class_size(c) <= most; c++) {
    /* gyre_aligned_alloc() counts on the class's blocks being as aligned as their size is. */
    if (gyre__class_size(c) % (size & -size) != 0) continue;
    struct gyre__page *page = gyre__heap_pool(heap, GYRE__RAW, c)->gyre__first;
    for (unsigned looks = 0; page != NULL && looks < SPARSE_LOOKS; page = page->next, looks++) {
      if (!page_is_sparse(page)) continue;
      pool_remove(heap, page);
      pool_put_last(heap, page);
      return page;
    }
  }
  return NULL;
}

struct gyre__page *gyre__page_add(struct gyre__heap *heap, enum gyre__kind kind,
                                  unsigned size_class) {
  struct gyre__page *page = empty_reuse(heap, kind, size_class);
  if (page == NULL) page = page_new(heap, kind, size_class);
  if (page == NULL) return NULL;
  if (page->free == NULL) (void)page_extend(page);
  pool_put_first(heap, page);
  return page;
}
