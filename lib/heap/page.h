/* SPDX-License-Identifier: MIT */
/* What the files of lib/heap offer each other. Everything here is for the slot's thread, or whoever
 * has the slot taken, unless it says otherwise. */
#ifndef GYRE_LIB_HEAP_PAGE_H
#define GYRE_LIB_HEAP_PAGE_H

#include <string.h>

#include "lib/heap/heap.h"

GYRE_INLINE size_t gyre__page_bytes(const struct gyre__page *page) {
  return (size_t)1 << page->segment->page_shift;
}

/* Changes a figure that only the slot's thread writes. */
GYRE_INLINE void gyre__figure_add(gyre__atomic_size *figure, size_t change) {
  /* relaxed: written by one thread at a time, read by statistics, which may be out of date. */
  gyre__store_relaxed(figure, gyre__load_relaxed(figure) + change);
}

/* ---- memory.c: what all heaps together have from the system; any thread ---- */

extern struct gyre__memory {
  gyre__atomic_size mapped_bytes;
  gyre__atomic_size committed_bytes; /* compared with the limit */
  gyre__atomic_size peak_bytes;      /* the most that committed_bytes ever was */
  gyre__atomic_size purged_bytes;    /* since the start */
  gyre__atomic_size large_bytes;     /* huge blocks, and those from other backends */
  gyre__atomic_size large_blocks;
  gyre__atomic_size reserve_bytes;  /* committed, but in the reserve */
  gyre__atomic_size metadata_bytes; /* in none of the others, and without the slots */
} gyre__memory;

/* Counts memory that is about to be used; false, and nothing is counted, if it would be over the
 * limit. */
bool gyre__memory_charge(size_t bytes);
void gyre__memory_uncharge(size_t bytes);
/* The same for memory that was kept and has been given back to the system. */
void gyre__memory_purged(size_t bytes);
/* Address space, or metadata, has grown, or shrunk by a negative number. */
void gyre__memory_mapped(size_t bytes);
void gyre__memory_metadata(size_t bytes);

/* Does the next thing that may make room for an allocation that failed. `step` is 0 at first; call
 * again after every failure as long as it returns true. May run the program's handler: hold
 * nothing. */
bool gyre__memory_make_room(struct gyre__heap *self, size_t size, unsigned *step);
/* More memory is about to come into use: asks for a collection if option "mem_threshold" says so. */
void gyre__memory_threshold_look(struct gyre__heap *self);
void gyre__memory_fork_prepare(void);
void gyre__memory_fork_parent(void);
void gyre__memory_fork_child(void);

/* ---- segment.c ---- */

/* A free page of that size in one of the heap's segments, counted as committed; NULL if there is
 * none, or with *over_limit true. Its memory is zero unless page->dirty. */
struct gyre__page *gyre__segment_take_page(struct gyre__heap *heap, uint32_t page_shift,
                                           bool *over_limit);
/* A run of address space in granules of GYRE__SEGMENT_SIZE. */
struct gyre__run {
  char *base;
  size_t granules;
  size_t charged; /* bytes of it that count as committed: those at its start */
  bool dirty;     /* its memory may not be zero */
  bool scattered; /* given: so many bytes, but they may be elsewhere */
};
/* Zeroed metadata for memory of that shape, in gyre__segment_table; NULL if there is no memory. Any
 * thread, and so are all functions on it for the shapes other than small and medium. */
struct gyre__segment *gyre__segment_make(struct gyre__heap *heap, enum gyre__shape shape,
                                         char *base);
void gyre__segment_unmake(struct gyre__segment *segment);
/* Maps another segment. False if the system has no memory. */
bool gyre__segment_new(struct gyre__heap *heap, uint32_t page_shift);
/* Gives a page back to its segment, as it is; page->empty_since_ns says since when it has been
 * empty. */
void gyre__segment_give_page(struct gyre__heap *heap, struct gyre__page *page);
/* Gives the memory of these free pages back to the system. */
void gyre__segment_purge_pages(struct gyre__segment *segment, uint64_t pages);
/* Gives the memory of free pages that have been so since `cutoff_ns` or longer back to the system,
 * and unmaps segments of which nothing is left. */
void gyre__segment_purge(struct gyre__heap *heap, uint64_t cutoff_ns);
/* Any thread: the pages of all pools and those that are none, under a lock that keeps them there: visit
 * takes no lock and touches only what anyone may read. */
void gyre__segment_visit_pages(void (*visit)(struct gyre__page *page, void *arg), void *arg);

void gyre__segment_fork_prepare(void);
void gyre__segment_fork_parent(void);
void gyre__segment_fork_child(void);

/* The arena's segment of a 4-MiB piece, with metadata for its first pages; NULL if there is no memory. */
struct gyre__segment *gyre__segment_make_arena(char *base, uint32_t page_count);
/* World stopped: sets the way of frees in all segments by whether the program has an allocator of its own. */
void gyre__segment_owners_set(void);
/* The same in one segment, whose slot's thread, or its taker, changes none of its pages meanwhile; asks for traces
 * too. */
void gyre__segment_owner_set(struct gyre__segment *segment);
void gyre__segment_unpublish(const struct gyre__segment *segment);
/* "No news of the unmapped": calls off the news that the page waits for. False if some are under way. */
bool gyre__page_call_off_news(struct gyre__page *page);

/* ---- arena.c: all of it only if there is one ---- */

/* As the functions of segment.c, for the slot's thread: a page, its return, and pages that had to wait. */
struct gyre__page *gyre__arena_take_page(struct gyre__heap *heap, bool *over_limit);
void gyre__arena_give_page(struct gyre__heap *heap, struct gyre__page *page);
void gyre__arena_purge(struct gyre__heap *heap);
/* The heap's pages, one after the other: NULL for the first; NULL after the last. */
struct gyre__page *gyre__arena_next_page(const struct gyre__heap *heap, struct gyre__page *page);
/* Any thread: the page of a large block, counted as committed, its memory dirty; NULL if there is no
 * memory. */
struct gyre__page *gyre__arena_take_large(size_t size, size_t alignment);
void gyre__arena_give_large(struct gyre__page *page);
/* In place; false if the neighbours are in the way. */
bool gyre__arena_resize(struct gyre__page *page, size_t size);
/* Verifies the map of what is in use. */
void gyre__arena_check(void);
void gyre__arena_fork_prepare(void);
void gyre__arena_fork_parent(void);
void gyre__arena_fork_child(void);
GYRE_INLINE bool gyre__page_is_in_arena(const struct gyre__page *page) {
  return page->segment != NULL && page->segment->shape == GYRE__SHAPE_ARENA;
}

/* ---- page.c ---- */

/* A page of the pool with a free block, now at the head of its list; NULL if all its pages are
 * full. The pool's ready list is empty. */
struct gyre__page *gyre__page_find(struct gyre__heap *heap, enum gyre__kind kind,
                                   unsigned size_class);
/* A page of raw blocks of a larger class that has many to spare; NULL if there is none. */
struct gyre__page *gyre__page_find_sparse(struct gyre__heap *heap, unsigned size_class);
/* As above with another page for the pool; NULL if there is no memory for one. */
struct gyre__page *gyre__page_add(struct gyre__heap *heap, enum gyre__kind kind,
                                  unsigned size_class);
/* A block of this slot came back, or is about to, to a full page. */
void gyre__page_unfull(struct gyre__heap *heap, struct gyre__page *page);
/* Fewer blocks than this are not worth putting the page where they are found. */
#define GYRE__SCARCE 4u

/* The free list of the page is empty now. */
GYRE_INLINE void gyre__page_forget_free(struct gyre__page *page) {
  page->free = NULL;
  page->sum = 0;
  page->sum_is_off = 0;
}

/* Makes the page's free blocks the ready list of the pool, which is empty. The page is the pool's first, or
 * lends its blocks. */
GYRE_INLINE void gyre__page_make_ready(gyre__pool *pool, struct gyre__page *page) {
  GYRE_ASSERT(pool->gyre__ready == NULL);
  pool->gyre__strays = 0;
  pool->gyre__ready = page->free;
  page->scarce = page->capacity - page->used < GYRE__SCARCE;
  page->used = page->capacity;
  gyre__page_forget_free(page);
}
/* Puts what the pools have ready back onto the free lists. */
void gyre__page_put_back(struct gyre__heap *heap);
/* The page has no block out any more: puts it away, unless it is the last of its pool. */
void gyre__page_retire(struct gyre__heap *heap, struct gyre__page *page);
/* The first of the blocks that others freed, NULL if there is none. Nobody frees meanwhile. */
void *gyre__page_remote(struct gyre__page *page);
/* `count` blocks of another slot, linked from first to last. Any thread, attached or not. Lock-free.
 */
void gyre__page_free_remote(struct gyre__page *page, void *first, void *last, uint32_t count);
/* Looks for blocks that others freed in all pages, and puts away every page that is empty. */
void gyre__page_collect_all(struct gyre__heap *heap);
/* Looks through the pages that others have pushed onto heap->news. */
void gyre__page_hear_news(struct gyre__heap *heap);
/* Takes the kind from empty object pages that have been empty since cutoff_ns or longer, if their
 * grace period is over. Returns the highest ticket of those that still wait for it, 0 if none does.
 */
uint64_t gyre__page_reap(struct gyre__heap *heap, uint64_t cutoff_ns);
/* Brings the heap's figures up to date with the page. */
void gyre__page_account(struct gyre__heap *heap, struct gyre__page *page);

/* ---- heap.c ---- */

/* Sends the blocks that this thread has gathered to the heaps that own them. */
void gyre__heap_send(struct gyre__heap *self);
/* Any thread: */
/* The number of the collection begun last, and whether that, and all before, are over. */
uint64_t gyre__heap_pin_number(void);
bool gyre__heap_pin_is_over(uint64_t number);

/* ---- patterns ---- */

/* The first byte that is not `value`; `count` if there is none. The usual answer comes from memcmp(), which is
 * fast, and which sanitizers look at as a whole. */
GYRE_INLINE size_t gyre__first_other(const void *bytes, uint8_t value, size_t count) {
  const uint8_t *b = bytes;
  if (count == 0 || (b[0] == value && memcmp(b, b + 1, count - 1) == 0)) return count;
  size_t i = 0;
  while (b[i] == value)
    i++;
  return i;
}

/* ---- debug.c: marks and patterns; nothing in other builds ---- */

#ifdef GYRE_DEBUG
/* Marks a new block as free. */
void gyre__debug_block_made(void *block, enum gyre__kind kind);
/* The block is handed out. */
void gyre__debug_block_out(const struct gyre__page *page, void *block);
/* The block is about to come back: aborts if that cannot be. */
void gyre__debug_block_check(const struct gyre__page *page, void *block, enum gyre__kind kind);
/* It has come back. */
void gyre__debug_block_in(const struct gyre__page *page, void *block, enum gyre__kind kind);
/* What a word has that stands behind the link of a free block. */
uint64_t gyre__debug_mark(const void *block);
#define GYRE__FRESH 0xCD
#define GYRE__FREED 0xDD
#else
GYRE_INLINE void gyre__debug_block_made(void *block, enum gyre__kind kind) {
  (void)block, (void)kind;
}
GYRE_INLINE void gyre__debug_block_out(const struct gyre__page *page, void *block) {
  (void)page, (void)block;
}
GYRE_INLINE void gyre__debug_block_check(const struct gyre__page *page, void *block,
                                         enum gyre__kind kind) {
  (void)page, (void)block, (void)kind;
}
GYRE_INLINE void gyre__debug_block_in(const struct gyre__page *page, void *block,
                                      enum gyre__kind kind) {
  (void)page, (void)block, (void)kind;
}
#endif

/* ---- quarantine.c; nothing in other builds ---- */

#ifdef GYRE_DEBUG
/* May a raw block of that size wait? */
bool gyre__quarantine_wants(struct gyre__heap *heap, size_t size);
/* Overwrites a block of a pool, except for its mark. */
void gyre__quarantine_fill(void *block, size_t size);
/* Has the block wait: one of a pool, noted as free, or a guarded one. Lets others go. */
void gyre__quarantine_put(struct gyre__heap *heap, void *block);
/* Lets all go. */
void gyre__quarantine_empty(struct gyre__heap *heap);
#else
GYRE_INLINE bool gyre__quarantine_wants(struct gyre__heap *heap, size_t size) {
  (void)heap, (void)size;
  return false;
}
GYRE_INLINE void gyre__quarantine_fill(void *block, size_t size) { (void)block, (void)size; }
GYRE_INLINE void gyre__quarantine_put(struct gyre__heap *heap, void *block) {
  (void)heap, (void)block;
}
GYRE_INLINE void gyre__quarantine_empty(struct gyre__heap *heap) { (void)heap; }
#endif

/* ---- guard.c; any thread; nothing in other builds ---- */

/* Does a block have a guard page behind it? */
GYRE_INLINE bool gyre__page_is_guarded(const struct gyre__page *page) {
  return page->is_large && page->large_backend == GYRE__LARGE_GUARD;
}
#ifdef GYRE_DEBUG
/* Is the next raw block to be guarded? Counts it. */
bool gyre__guard_wants(struct gyre__heap *heap, size_t size, size_t alignment);
/* The page of a new one, charged; NULL if that cannot be. */
struct gyre__page *gyre__guard_take(struct gyre__heap *heap, size_t size, size_t alignment);
/* It is free: looks at the bytes between its end and the guard page, and has nobody see its memory any
 * more, which is uncharged. */
void gyre__guard_close(struct gyre__page *page);
/* Unmaps it. */
void gyre__guard_drop(struct gyre__page *page);
#else
GYRE_INLINE bool gyre__guard_wants(struct gyre__heap *heap, size_t size, size_t alignment) {
  (void)heap, (void)size, (void)alignment;
  return false;
}
GYRE_INLINE struct gyre__page *gyre__guard_take(struct gyre__heap *heap, size_t size,
                                                size_t alignment) {
  (void)heap, (void)size, (void)alignment;
  return NULL;
}
GYRE_INLINE void gyre__guard_close(struct gyre__page *page) { (void)page; }
GYRE_INLINE void gyre__guard_drop(struct gyre__page *page) { (void)page; }
#endif

/* ---- malloc.c ---- */

/* The smallest class whose blocks are of that size and all lie on multiples of the alignment. */
unsigned gyre__aligned_class(size_t size, size_t alignment);
/* The heap of the calling thread, which is attached if need be; NULL with errno ENOMEM. */
struct gyre__heap *gyre__heap_attached(struct gyre__heap *heap);
/* Changes a raw block's size where it is, or by moving its memory; NULL if its contents must be copied. */
void *gyre__raw_resize(struct gyre__heap *heap, void *block, size_t size);
/* A block for the contents of one of `usable` bytes that has become too small; NULL if it is to be one
 * like any other. */
void *gyre__raw_malloc_growing(struct gyre__heap *heap, size_t usable, size_t size);

/* ---- watch.c: what stands for malloc.c's functions in builds that look at every block ---- */

void *gyre__watched_calloc(struct gyre__heap *heap, size_t size, const void *pc);
void *gyre__watched_aligned_alloc(struct gyre__heap *heap, size_t alignment, size_t size,
                                  const void *pc);
void *gyre__watched_realloc(struct gyre__heap *heap, void *block, size_t size, const void *pc);
size_t gyre__watched_usable(const void *block);

/* ---- purge.c ---- */

/* Purges what has been empty for the purge delay, if it is time to look again. */
void gyre__purge_tick(struct gyre__heap *heap);
/* Purges all that is empty. */
void gyre__purge_heap(struct gyre__heap *heap);
/* Purges idle slots' heaps, and asks running threads to purge theirs. Takes slots: the caller has
 * none taken. */
void gyre__purge_others(struct gyre__heap *self);
/* lib/thread's hooks. */
void gyre__purge_at_safepoint(struct gyre__thread *self);
void gyre__purge_leaving(struct gyre__thread *self, bool detach);

/* ---- reserve.c; any thread ---- */

/* A run of that many granules, from the reserve or the system. False if there is no memory. */
bool gyre__reserve_take(size_t granules, size_t alignment, struct gyre__run *out);
/* The granules right at `base`, if the reserve has them; *charged as in struct gyre__run. */
bool gyre__reserve_take_at(char *base, size_t granules, size_t *charged);
/* Keeps the run until it is purged. */
void gyre__reserve_give(const struct gyre__run *run);
/* Unmaps what has been here since the cutoff or longer (UINT64_MAX: all). */
void gyre__reserve_purge(uint64_t cutoff_ns);
/* Verifies the runs; returns their address space in bytes. */
size_t gyre__reserve_check(void);
void gyre__reserve_fork_prepare(void);
void gyre__reserve_fork_parent(void);
void gyre__reserve_fork_child(void);

/* ---- span.c; any thread ---- */

#define GYRE__SLICE_SHIFT 16
#define GYRE__SPAN_MAX ((size_t)2 << 20)

/* The page of a span of the heap's that holds `size` bytes, counted as committed, its memory dirty or
 * not. NULL if there is no memory, or it would be over the limit. `grows`: the block is expected to grow;
 * NULL also if too many are already. */
struct gyre__page *gyre__span_take(struct gyre__heap *heap, size_t size, size_t alignment,
                                   bool grows);
void gyre__span_give(struct gyre__page *page);
/* Changes the span's slices to what `size` bytes need; false if the neighbours are in the way. */
bool gyre__span_resize(struct gyre__page *page, size_t size);
/* Gives the memory of slices that have been free since the cutoff or longer (UINT64_MAX: of all) back
 * to the system, and segments of which nothing is left to the reserve. */
void gyre__span_purge(struct gyre__heap *heap, uint64_t cutoff_ns);

/* ---- large.c; any thread ---- */

/* page->is_large; the second is what a second free most likely finds. */
enum { GYRE__LARGE_LIVE = 1, GYRE__LARGE_FREED = 2 };

/* What a large block of that size may use. */
GYRE_INLINE size_t gyre__large_size(size_t size) {
  return size == 0 ? 16 : (size + 15) & ~(size_t)15;
}
GYRE_INLINE void gyre__large_set_size(struct gyre__page *page, size_t usable) {
  page->large_usable = usable;
  page->block_size = usable < UINT32_MAX ? (uint32_t)usable : UINT32_MAX;
}

/* As gyre__heap_alloc_large(); `zero`: raw blocks are zeroed too. */
void *gyre__large_alloc(struct gyre__heap *self, enum gyre__kind kind, size_t size,
                        size_t alignment, bool zero);
/* `self` may be the stand-in for raw blocks. */
void gyre__large_free(struct gyre__heap *self, struct gyre__page *page, void *block);
/* A raw block before a guard page; NULL if that cannot be. Debug builds. */
void *gyre__large_alloc_guarded(struct gyre__heap *self, size_t size, size_t alignment);
/* A raw block that will grow: NULL if this is not the time. */
void *gyre__large_alloc_growing(struct gyre__heap *self, size_t size);
/* Changes a raw large block's size, keeping its contents; NULL if that cannot be done without allocating
 * anew. */
void *gyre__large_resize(struct gyre__heap *self, struct gyre__page *page, size_t size);
/* Could the block, which is in no segment, be from another backend? If not, nothing lies before it. */
bool gyre__large_may_be_foreign(const void *block);
/* Requires that the block is a large one, and was not freed. */
void gyre__large_require(const struct gyre__page *page, const void *block);
bool gyre__large_backend_is_available(uint64_t backend);
/* A collection has ended. */
void gyre__large_pin_is_over(void);
void gyre__large_fork_prepare(void);
void gyre__large_fork_parent(void);
void gyre__large_fork_child(void);

#endif
