/* SPDX-License-Identifier: MIT */
/* What lib/heap offers the rooms above: blocks, pages, and the way from an address to its page.
 *
 * Glossary: heap (a thread slot's) > pool (one kind, one size class) > page (a run of blocks of one
 * size) > block > object (a block with a header). "OS page" is the system's. A *segment* is an
 * aligned piece of address space that holds pages of one slot; its metadata lies apart from it.
 *
 *     address >> 22 --> gyre__segment_table --> segment metadata --> pages[(address % 4 MiB) >>
 *     page_shift]
 *
 * Three kinds of page: raw (no headers), leaf (objects without references), tracked (objects that
 * the collector looks at). Type stability: the header of a block in an object page stays readable
 * and keeps its shared word while anybody may hold an old pointer to it; so a page of an object
 * kind is used for another kind or size, or given back to the system, only after a grace period in
 * which it was empty.
 *
 * A block beyond the largest class is *large*, a page with one block. It is a span of 64-KiB slices in
 * a segment of a slot's own for such blocks, or, if it is *huge*, a segment of its own that may be of
 * many times the usual size (span.c, large.c). From the other backends it comes with a struct gyre__page
 * right before it, and its address is in no segment.
 */
#ifndef GYRE_LIB_HEAP_HEAP_H
#define GYRE_LIB_HEAP_HEAP_H

#include <gyre/heap.h>

#include "lib/heap/annotate.h"
#include "lib/heap/sizeclass.h"
#include "lib/thread/thread.h"

enum gyre__kind { GYRE__RAW, GYRE__LEAF, GYRE__TRACKED };

#define GYRE__SEGMENT_SIZE ((size_t)1 << GYRE__SEGMENT_SHIFT)
/* Small pages are of 1 << GYRE__SMALL_PAGE_SHIFT bytes: classes up to 8 KiB. */
#define GYRE__MEDIUM_PAGE_SHIFT 19 /* classes up to 64 KiB */

/* Where the link of a free block lies: past the header in object pages, so that the header's shared
 * word stays as the last object left it.
 *
 * A link is the next block's address, exclusive-or gyre__link_key: a program that writes to a block it
 * has freed, or beyond the end of its neighbour, does not choose where the next block comes from (the
 * idea is glibc's "safe linking"). The key's highest bit is set, and no address's is, so every link has
 * it. Whoever takes a block off a list clears its link; so a block that was freed twice comes up a
 * second time without one. That is found when it does, not when it is freed: a free that looked at the
 * block would have to wait for its cache line, which costs a fifth when blocks are freed at random in
 * a large heap. A page that seems empty because of such a free is found out by page->sum, unless other
 * threads have freed into it meanwhile. */
#define GYRE__LINK_OFFSET(kind) ((kind) == GYRE__RAW ? 0u : (unsigned)GYRE_HEADER_SIZE)
#define GYRE__LINK_BIT (UINT64_C(1) << 63)
/* Made when the first slot is; constant from then on. */
extern uint64_t gyre__link_key GYRE__HIDDEN;

GYRE_INLINE gyre__link_word *gyre__link_at(const void *block, enum gyre__kind kind) {
  return (gyre__link_word *)(void *)((uintptr_t)block + GYRE__LINK_OFFSET(kind));
}
GYRE_INLINE void *gyre__link_get(const void *block, enum gyre__kind kind) {
  return (void *)(uintptr_t)(gyre__word_get(gyre__link_at(block, kind)) ^ gyre__link_key);
}
GYRE_INLINE void gyre__link_set(void *block, enum gyre__kind kind, const void *next) {
  gyre__word_set(gyre__link_at(block, kind), (uintptr_t)next ^ gyre__link_key);
}

struct gyre__segment;

/* Four cache lines: what the owner writes all the time, what never changes while the page is in
 * use, what other threads write, and the rest. (Pages of segments begin at a line; the page before
 * a large block need not.) */
struct __attribute__((aligned(16))) gyre__page {
  /* -- the slot's thread, or whoever has the slot taken, or the collector in a stopped world -- */
  void *free; /* blocks that came back, linked at GYRE__LINK_OFFSET */
  /* Blocks handed out, on the pool's ready list, or freed by others and not found yet. In a full page
   * 1 instead: it counts the frees until something has to be done. gyre__page_used(). */
  uint32_t used;
  uint32_t capacity;   /* blocks that were ever linked; the rest of the page is untouched */
  uint32_t counted;    /* of the blocks used, what the heap's statistics know of */
  uint8_t full;        /* all blocks are used, and the pool does not know the page */
  uint8_t in_pool;     /* linked into its pool's list; full pages are not */
  uint8_t state;       /* enum gyre__page_state */
  uint8_t dirty;       /* the memory beyond `capacity` may not be zero */
  uint8_t scarce;      /* it had few blocks to hand out last time */
  uint8_t sum_is_off;  /* the sum below is not known */
  uint8_t awaits_news; /* its next remote free, or one under way, pushes it onto the heap's news */
  uint8_t span;        /* large, in a span: its slices */
  uint8_t grows;       /* large, in a span: one of heap->growing */
  uint8_t traced;      /* large: lib/observe is to be told when it is freed */
  struct gyre__page *next, *prev; /* the pool's list; empty pages: the heap's empty list, by next */
  /* Grace period after which it may change its kind. Large: the pin that must be over before its
   * memory may go. */
  uint64_t empty_ticket;
  uint64_t sum; /* of the addresses of the blocks on the free list */
  /* -- constant while the page is in use -- */
  /* Slot id: who frees objects here by the short way. 0 where nobody does: in large pages and in those
   * with traces. */
  gyre__atomic_u32 owner;
  uint32_t block_size; /* large: at most UINT32_MAX */
  uint32_t reserved;   /* blocks that fit */
  uint8_t kind;
  uint8_t size_class;
  uint8_t is_large;
  uint8_t large_backend;         /* enum gyre__large_backend: of this block */
  uint64_t reciprocal;           /* ceil(2^32 / block_size): gyre__page_index(); large: 0 */
  char *start;                   /* first block */
  struct gyre__segment *segment; /* NULL for large blocks of other backends */
  /* -- collector, while a collection is under way (lib/collect) -- */
  uint32_t *side; /* a word for each block, or NULL: not being collected */
  uint32_t scan;  /* the blocks that the collection looks at: from the first on */
  /* -- written by the slot's thread, as above; read by a collector beside it -- */
  /* Object pages: blocks that may hold objects, which is `capacity`; 0 when the page is not in use
   * or raw. While it is not 0, the constants above are. */
  gyre__atomic_u32 objects_end;
  /* -- atomic -- */
  /* Blocks freed by other threads, linked as above: how many they are, and the first one's number; or,
   * when there are none, GYRE__REMOTE_TELL if the owner wants to be told of the next. lib/heap/page.c. */
  gyre__atomic_u64 remote;
  /* Merge queue (lib/object): bit i: a block in the i-th 64th of the page is queued for a merge.
   * Who changes it from 0 pushes the page onto the owner's stack. */
  gyre__atomic_u64 merge_mask;
  struct gyre__page *merge_next; /* on that stack: written by the pusher, read by the popper */
  struct gyre__page *news_next;  /* on the owner's stack of pages with news: likewise */
  /* A word for each block, 0 or what is known of its allocation (traced.h); NULL: none is traced. Set and
   * cleared by the slot's thread, or its taker; read by who frees a block. */
  gyre__atomic_ptr marks;
  /* -- the slot's thread, as above -- */
  /* Object pages: for each block, what has been counted of a frozen object whose count is stopped; NULL if
   * there is none (lib/collect/apart.c). Changed in a stopped world. */
  gyre__atomic_u32 *frozen_counts;
  /* For gyre_heap_list_classes(): `counted`, with the class at GYRE__KNOWN_CLASS and kind + 1 at
   * GYRE__KNOWN_KIND; 0 if it is no page of a pool. Written by the slot's thread, read by anyone. */
  gyre__atomic_u64 known;
  uint32_t large_owner; /* large object blocks: the slot that has it on its list; constant */
  uint64_t empty_since_ns;
  /* Large blocks only: the backend's pointer and size, and the slot's list of large object blocks.
   */
  void *large_base;
  size_t large_bytes;
  size_t large_usable;                        /* of those, what the block's user may use */
  struct gyre__page *large_next, *large_prev; /* under the slot's large_lock */
  struct gyre__deferred deferred;             /* large object blocks wait for a grace period */
};

enum gyre__page_state {
  GYRE__PAGE_FREE,  /* in segment->free_pages, of no kind */
  GYRE__PAGE_USED,  /* handing out blocks: in its pool's list, or full */
  GYRE__PAGE_EMPTY, /* no blocks out, keeps kind and class: in heap->empty */
};
#define GYRE__REMOTE_TELL UINT64_C(1)
#define GYRE__KNOWN_CLASS 32
#define GYRE__KNOWN_KIND 40

/* Blocks of one page of another slot, gathered to be sent in one go: heap.c. */
struct gyre__batch {
  struct gyre__page *page; /* NULL: empty */
  void *first, *last;
  uint32_t count, room; /* how many more fit */
};
#define GYRE__BATCHES 32

enum gyre__shape {
  GYRE__SHAPE_SMALL,  /* pages of 64 KiB */
  GYRE__SHAPE_MEDIUM, /* pages of 512 KiB */
  GYRE__SHAPE_ARENA, /* slices of 64 KiB, each a page of some slot's or part of a large block: arena.c */
  GYRE__SHAPE_SPANS, /* slices of 64 KiB */
  GYRE__SHAPE_HUGE,  /* one block */
  GYRE__SHAPES
};

/* Bins of segments of spans, by their longest run of free slices: the last has those that suffice for any
 * span. */
enum { GYRE__SPAN_BIN_LONG = 32, GYRE__SPAN_BINS };

struct gyre__segment {
  /* -- constant while the segment is mapped; the owner NULL in an arena's -- */
  char *base;
  uint32_t shape; /* enum gyre__shape */
  uint32_t page_shift;
  uint32_t page_count;
  struct gyre__heap *owner;
  /* The same if its pages are small ones and none of them has traces, else NULL: a free compares it with
   * the thread's own heap, and learns all of that at once. */
  struct gyre__heap *small_owner;
  /* -- the slot's thread, or whoever has the slot taken; spans: under its large_lock -- */
  uint64_t free_pages;               /* bit i: pages[i] is free */
  uint64_t dirty_pages;              /* bit i: it is free, and its memory has not been given back */
  uint64_t junk_pages;               /* bit i: its memory may not be zero */
  struct gyre__segment *next, *prev; /* heap->segments, heap->spans[] */
  /* -- atomic -- */
  /* Bit i: pages[i] may hold objects of generation 1. Set by whoever promotes one, cleared by the
   * collector when it takes the page for a collection. */
  gyre__atomic_u64 promoted_pages;
  /* -- under metadata_lock -- */
  size_t list_index; /* where gyre__segment_list() has it */
  /* -- spans: under the slot's large_lock -- */
  uint64_t old_pages; /* of the dirty pages, those that were so at aged_ns */
  uint64_t aged_ns;
  uint32_t bin; /* which of heap->spans it is in */
  uint32_t unused_[1];
  struct gyre__page pages[];
};

/* Debug builds: freed raw blocks that wait, the oldest first (quarantine.c). */
struct gyre__quarantine {
  void **ring; /* NULL until it is needed */
  uint32_t first, count;
  uint32_t guard_count; /* raw blocks asked for, modulo 2^32: every nth is guarded (guard.c) */
  size_t size;          /* bytes of all of them */
  /* Those of pools, which count as used there. Written by the slot's thread, read by statistics. */
  gyre__atomic_size blocks, bytes;
};

/* A slot's heap. Owner-only unless it says otherwise.
 *
 * Its pools are in the public handle. A pool's *ready* list is what it hands out next: blocks of the page
 * at the head of its list of pages and, before them, *strays*, blocks of full pages. `first` is that
 * page, NULL if there is none, and `last` the end of the list; `strays` says how many such blocks there are at most, and `rest` what
 * comes after them. The ready list is NULL when it has run dry. (mimalloc and snmalloc keep such lists
 * too.) While all blocks are traced (`rest_is_hidden`), it is NULL all the time, so that each allocation asks
 * lib/heap/traced.c, and what would be on it is in `rest`. */
struct gyre__heap {
  struct gyre__thread thread;
  /* Object pages that are empty and keep kind and class for now, newest first, by kind - 1 and
   * class. */
  struct gyre__page *empty[GYRE__KINDS - 1][GYRE__SIZE_CLASSES];
  /* Those with free pages come first. */
  struct gyre__segment *segments, *segments_last;
  size_t empty_count;       /* pages in `empty` */
  uint64_t empty_oldest_ns; /* none of them has been empty for longer than since then */
  uint64_t tick_ns;         /* when we last looked for pages to purge */
  uint32_t slow_count;      /* slow allocations, modulo 2^32 */
  uint32_t batched;         /* batches below that are not empty */
  bool in_oom_handler;
  bool rest_is_hidden;              /* see above */
  uint32_t trace_seen;              /* the value of gyre__trace_now that the heap goes by */
  struct gyre__deferred grace_node; /* purges when empty pages may go */
  uint64_t grace_cutoff_ns;         /* which: those that were empty at that time */
  /* Blocks of others, by a hash of their page. Empty while the thread is parked or gone. */
  struct gyre__batch batches[GYRE__BATCHES];
  /* Large objects of this slot, and what span.c keeps. Any thread, under the lock. */
  gyre__lock large_lock;
  uint32_t growing; /* blocks that realloc() has moved where they can grow */
  struct gyre__page *large;
  /* Segments of spans by bin, and the bins that have some, but for the full ones. */
  struct gyre__segment *spans[GYRE__SPAN_BINS];
  uint64_t span_bins;
  uint32_t spans_empty; /* segments without any */
  /* Written under the lock, read without it by statistics and those who look for memory. */
  gyre__atomic_size span_segments, span_blocks, span_bytes;
  gyre__atomic_size span_dirty_bytes; /* in free slices */
  /* -- atomic -- */
  /* Written by the slot's thread, read by statistics and those who look for memory. */
  gyre__atomic_size mapped_bytes;    /* of this slot's segments */
  gyre__atomic_size committed_bytes; /* of this slot's pages, in use or kept */
  gyre__atomic_size cached_bytes;    /* of those, in empty and dirty free pages */
  gyre__atomic_size live_blocks;     /* sum of the pages' `counted` */
  gyre__atomic_size live_bytes;
  gyre__atomic_u32
      purge_asked; /* the last purge of all that wants this heap: written by any thread */
  gyre__atomic_u32 purge_seen; /* the last that it took part in */
  bool grace_armed;            /* grace_node is under way; slot's thread */
  struct gyre__page *held;     /* arena: free pages of which news is under way; slot's thread */
  /* -- atomic, written by other threads: on a line of their own -- */
  char unused_[64];
  gyre__atomic_ptr news;   /* stack of pages: see gyre__page.remote */
  gyre__atomic_ptr merges; /* stack of pages: see gyre__page.merge_mask */
  /* -- written once, by the slot's thread or its taker; read by anyone -- */
  gyre__atomic_ptr
      tracer; /* struct gyre__tracer: NULL until the heap is traced for the first time */
#ifdef GYRE_DEBUG
  struct gyre__quarantine quarantine; /* the slot's thread; figures: read by statistics */
#endif
};
_Static_assert(sizeof(struct gyre__segment) == 128, "pages begin at a cache line");
_Static_assert(sizeof(struct gyre__page) == 256, "a shift finds a page, and its lines are whole");
_Static_assert(offsetof(struct gyre__segment, small_owner) == GYRE__SEGMENT_OWNER_AT &&
                   offsetof(struct gyre__segment, pages) == GYRE__SEGMENT_PAGES_AT &&
                   sizeof(struct gyre__page) == 1 << GYRE__PAGE_SHIFT,
               "gyre/heap.h");
_Static_assert(offsetof(struct gyre__page, free) == offsetof(gyre__page_front, gyre__free) &&
                   offsetof(struct gyre__page, used) == offsetof(gyre__page_front, gyre__used) &&
                   offsetof(struct gyre__page, sum) == offsetof(gyre__page_front, gyre__sum),
               "gyre/heap.h");
_Static_assert(sizeof(struct gyre__heap) <= GYRE__SLOT_BYTES, "a slot has room for its heap");

/* Bits of an address that a program may get from the system. */
#if defined(__x86_64__)
#define GYRE__ADDRESS_BITS 47
#else
#define GYRE__ADDRESS_BITS 48
#endif

/* address >> GYRE__SEGMENT_SHIFT to segment, NULL for addresses that are no segment's. Zeroed
 * memory that is touched only where there are segments: address space, not memory. Written once a
 * segment, before its first block is handed out; cleared when no page of it has been in use for a
 * grace period. */
extern gyre__atomic_ptr
    gyre__segment_table[(size_t)1 << (GYRE__ADDRESS_BITS - GYRE__SEGMENT_SHIFT)] GYRE__HIDDEN;

/* The segment an address is in, or NULL. The address is one that a program may have. */
GYRE_INLINE struct gyre__segment *gyre__segment_of(const void *address) {
  /* relaxed: whoever has a pointer into a segment got it through an operation that orders it after
   * the entry's store; pairs with the store in segment_publish(). */
  return (struct gyre__segment *)gyre__load_relaxed(
      &gyre__segment_table[(uintptr_t)address >> GYRE__SEGMENT_SHIFT]);
}

/* A free waits for the page before the next allocation can have the block, so the way there is kept
 * short: for small pages, it does not wait for the segment's line. */
GYRE_INLINE struct gyre__page *gyre__segment_page(struct gyre__segment *segment,
                                                  const void *address) {
  size_t offset = (uintptr_t)address & (GYRE__SEGMENT_SIZE - 1);
  if (GYRE_LIKELY(segment->page_shift == GYRE__SMALL_PAGE_SHIFT))
    return &segment->pages[offset >> GYRE__SMALL_PAGE_SHIFT];
  return &segment->pages[offset >> segment->page_shift];
}

/* The page of a block (of its start, if it may be large). */
GYRE_INLINE struct gyre__page *gyre__page_of(const void *block) {
  struct gyre__segment *segment = gyre__segment_of(block);
  if (GYRE_LIKELY(segment != NULL)) return gyre__segment_page(segment, block);
  return (struct gyre__page *)((uintptr_t)block - sizeof(struct gyre__page));
}

/* The block's number in its page. Exact for any address in the block up to 16 bytes before its end.
 */
GYRE_INLINE uint32_t gyre__page_index(const struct gyre__page *page, const void *address) {
  return (uint32_t)(((uint64_t)((const char *)address - page->start) * page->reciprocal) >> 32);
}
/* Bytes of a block of the page. */
GYRE_INLINE size_t gyre__page_usable(const struct gyre__page *page) {
  return GYRE_LIKELY(!page->is_large) ? page->block_size : page->large_usable;
}
GYRE_INLINE void *gyre__page_block(const struct gyre__page *page, uint32_t index) {
  return page->start + (size_t)index * page->block_size;
}

GYRE_INLINE gyre__pool *gyre__heap_pool(struct gyre__heap *heap, enum gyre__kind kind,
                                        unsigned size_class) {
  return &heap->thread.base.gyre__pools[kind][size_class];
}

/* What the pool hands out next. */
GYRE_INLINE void **gyre__pool_next(struct gyre__heap *heap, gyre__pool *pool) {
  return GYRE_UNLIKELY(heap->rest_is_hidden) ? &pool->gyre__rest : &pool->gyre__ready;
}

GYRE_INLINE struct gyre__heap *gyre__heap_self(void) {
  return (struct gyre__heap *)gyre__thread_self();
}

/* ---- allocation ---- */

/* Some builds look at every block that comes and goes: lib/heap/watch.c. */
#if GYRE__WATCHED
void gyre__watch_block_out(void *block);
void gyre__watch_block_in(const struct gyre__page *page, void *block, enum gyre__kind kind);
#else
GYRE_INLINE void gyre__watch_block_out(void *block) { (void)block; }
GYRE_INLINE void gyre__watch_block_in(const struct gyre__page *page, void *block,
                                      enum gyre__kind kind) {
  (void)page, (void)block, (void)kind;
}
#endif

/* A block for a pool that has none ready. NULL with errno ENOMEM. `self` is attached. */
void *gyre__heap_alloc_slow(struct gyre__heap *self, enum gyre__kind kind, unsigned size_class);

/* A block beyond the classes, aligned to `alignment` (a power of two, at least 16). Object kinds:
 * zeroed, header included. NULL with errno ENOMEM. Never a safepoint. */
void *gyre__heap_alloc_large(struct gyre__heap *self, enum gyre__kind kind, size_t size,
                             size_t alignment);

/* NULL with errno ENOMEM, for fault injection. */
void *gyre__heap_alloc_fault(void);

/* The block has no link, though it is on a free list. */
_Noreturn void gyre__heap_corrupted(const void *block);

/* Takes the first block of a list that has one. Objects are cleared by their makers. */
GYRE_INLINE void *gyre__heap_take(void **list, enum gyre__kind kind) {
  void *block = *list;
  void *next = gyre__link_get(block, kind);
  if (GYRE_UNLIKELY((intptr_t)next < 0)) gyre__heap_corrupted(block);
  *list = next;
  if (kind == GYRE__RAW) gyre__word_set(gyre__link_at(block, kind), 0);
  gyre__watch_block_out(block);
  return block;
}

/* A block of a size class; NULL with errno ENOMEM. Object kinds: of at least 32 bytes (the link
 * lies past the header); the header's shared word is as the last object left it (0 in fresh
 * memory), everything else is undefined. `self` is attached. Never a safepoint. */
GYRE_INLINE void *gyre__heap_alloc(struct gyre__heap *self, enum gyre__kind kind,
                                   unsigned size_class) {
  if (GYRE_FAULT()) return gyre__heap_alloc_fault();
  void **ready = &gyre__heap_pool(self, kind, size_class)->gyre__ready;
  if (GYRE_UNLIKELY(*ready == NULL)) return gyre__heap_alloc_slow(self, kind, size_class);
  return gyre__heap_take(ready, kind);
}

/* ---- tracing, as far as every slow path asks for it; the rest is in traced.h ---- */

/* Keeps a frame pointer in this function, so that a walk along them (lib/observe/stack.c) gets past it. */
#define GYRE__KEEP_FRAME() __asm__ volatile("" ::"r"(__builtin_frame_address(0)))

/* 0, or the number of the session of tracing that is under way. On a line of its own: all slow paths read it. */
struct gyre__trace_word {
  gyre__atomic_u32 now;
} __attribute__((aligned(64)));
extern struct gyre__trace_word gyre__trace_word GYRE__HIDDEN;
#define gyre__trace_now gyre__trace_word.now

/* Is this heap traced, or to be from now on, or not any more? */
GYRE_INLINE bool gyre__trace_is_wanted(const struct gyre__heap *heap) {
  /* relaxed: a hint; gyre__traced_adopt() looks again. Pairs with the store in session_publish(). */
  return !GYRE__IS_MALLOC &&
         GYRE_UNLIKELY((gyre__load_relaxed(&gyre__trace_now) | heap->trace_seen) != 0);
}

/* A block with marks may be free from now on: forgets what is known of it. Any thread. */
void gyre__traced_free(struct gyre__heap *self, struct gyre__page *page, const void *block);
GYRE_INLINE void gyre__trace_forget(struct gyre__heap *self, struct gyre__page *page,
                                    const void *block) {
  /* relaxed: whoever has a traced block got it through what orders it after the store; pairs with
   * marks_attached() in traced.c. */
  if (!GYRE__IS_MALLOC && GYRE_UNLIKELY(gyre__load_relaxed(&page->marks) != NULL))
    gyre__traced_free(self, page, block);
}

/* The heap that a page with blocks in use belongs to; not for large ones. Any thread that has one of the blocks, or
 * knows otherwise that they stay. (page->owner does not tell of pages with traces, segment->owner not of an
 * arena's.) */
struct gyre__heap *gyre__page_heap(const struct gyre__page *page);

/* Gives back a block that the fast path cannot: another slot's, or a large one. */
void gyre__heap_free_slow(struct gyre__heap *self, struct gyre__page *page, void *block);

/* How many of the page's blocks are not on its free list. */
GYRE_INLINE uint32_t gyre__page_used(const struct gyre__page *page) {
  return page->full ? page->reserved : page->used;
}

/* Puts a block onto its page's free list: the owner's path. */
GYRE_INLINE void gyre__heap_free_local(struct gyre__heap *self, struct gyre__page *page,
                                       void *block, enum gyre__kind kind) {
  gyre__link_set(block, kind, page->free);
  page->free = block;
  page->sum += (uintptr_t)block;
  if (GYRE_UNLIKELY(--page->used == 0)) gyre__heap_page_idle(&self->thread.base, page);
}

/* Gives a block back, from any thread. For object kinds the caller has left the header's gc byte 0
 * and the shared word at rest or as late readers will leave it, and `self` is attached; the memory
 * is reused at once for objects of its kind and class, and for nothing else before a grace period
 * has passed. */
GYRE_INLINE void gyre__heap_free(struct gyre__heap *self, struct gyre__page *page, void *block,
                                 enum gyre__kind kind) {
  gyre__watch_block_in(page, block, kind);
  /* relaxed: our own id is never stale: a page changes hands only with its segment, when no block
   * of it is left, and only we take the id out of our pages; pairs with the stores in
   * page_init_in_segment() and lib/heap/traced.c. */
  if (GYRE_LIKELY(gyre__load_relaxed(&page->owner) == self->thread.base.id))
    gyre__heap_free_local(self, page, block, kind);
  else
    gyre__heap_free_slow(self, page, block);
}

/* Between the two, empty object pages keep their kind and their place, large objects that die keep
 * their memory, and no segment goes: a collection is under way that walks pages. One at a time. */
void gyre__heap_pin(void);
void gyre__heap_unpin(void);
/* Is one under way? */
bool gyre__heap_is_pinned(void);

/* Frees the garbage of a page in one go: `count` blocks linked from first to last by gyre__link_set(),
 * all of this page. Any thread. One atomic operation if the page is another slot's. */
void gyre__heap_free_chain(struct gyre__heap *self, struct gyre__page *page, void *first,
                           void *last, uint32_t count);

/* Copies the addresses of all segments there are to `out`, at most `max`, and returns how many there
 * are. Any thread; pinned: none of them goes before the pin is over. */
size_t gyre__segment_list(struct gyre__segment **out, size_t max);
/* An object in the page was promoted to generation 1. Any thread. */
GYRE_INLINE void gyre__page_has_promoted(struct gyre__page *page) {
  if (page->is_large) return; /* the slot's list has them all */
  struct gyre__segment *segment = page->segment;
  uint64_t bit = UINT64_C(1) << (page - segment->pages);
  /* relaxed: a set bit that the collector is just clearing may be taken for one that stays; the
   * object is then found by the next full collection. Pairs with gather_segment() in lib/collect/set.c. */
  if (!(gyre__load_relaxed(&segment->promoted_pages) & bit))
    /* acq_rel: releases the object's age; pairs as above. */
    gyre__fetch_or_acq_rel(&segment->promoted_pages, bit);
}

/* Writes where a block was allocated into text and returns true, or false if it does not know: set once by a
 * tracer, for messages about broken blocks. Called by any thread; must not allocate. NULL if not set. */
extern bool (*gyre__heap_describe)(const void *block, char *text, size_t size);

/* ---- the arena (arena.c): the heap in one buffer; lib/collect's gyre_init_in() ---- */

/* Pieces of 4 MiB that a buffer may touch: for 4 GiB that begin anywhere. */
#define GYRE__ARENA_PIECES_MAX 1025
/* Is there one? Changes only while no thread is attached. */
extern bool gyre__arena_on GYRE__HIDDEN;
/* Has all memory come from the buffer from now on. False if it is too small; gyre__arena_end() is to be
 * called then, too. Nothing has been allocated before, and one thread uses the library. */
bool gyre__arena_begin(void *buffer, size_t size);
/* Nothing refers to the buffer any more, once all rooms have forgotten what is in it. */
void gyre__arena_end(void);
/* Bytes of the buffer in none of its pages, large blocks and tables. Any thread. */
size_t gyre__arena_free_bytes(void);

/* Bytes that all heaps together have from the system and use or keep. Any thread. */
size_t gyre__heap_used_bytes(void);

/* Purges what idle slots have kept empty for the purge delay. Returns after how many nanoseconds there
 * may be more to do, UINT64_MAX if there is nothing. For lib/collect's service thread. */
uint64_t gyre__purge_idle(struct gyre__heap *self);

/* Verifies all it can about the heap of one slot, or of all slots; aborts with a message otherwise.
 * The world is stopped, or no other thread uses the library. Cannot check: the contents of raw
 * blocks, whether a block that was handed out is still in use. lib/collect's gyre__heap_check()
 * calls it for every slot. */
void gyre__heap_check_slot(struct gyre__heap *heap);
/* The same for what all heaps have together: their figures and the reserve. No other thread, attached or
 * not, uses the library. */
void gyre__heap_check_totals(void);

/* A table of metadata with twice the room (in items), and what was in it; NULL if there is no memory, and
 * the old one stays. Under the lock of whoever reads it. And its end. */
void *gyre__memory_table_grow(void *table, size_t *room, size_t item_size);
void gyre__memory_table_drop(void *table, size_t room, size_t item_size);

/* Has more than option "mem_threshold" come into use since the first was called last? Any thread. */
void gyre__memory_threshold_from_here(void);
bool gyre__memory_threshold_is_reached(void);

/* Lets the rooms above free memory when the system has none: lib/collect's forced collection.
 * Returns true if it is worth trying again. NULL if not set. */
extern bool (*gyre__heap_reclaim)(struct gyre__heap *self);

/* Called before a pool that has run dry takes another page, so that the rooms above can free blocks
 * that wait for it: lib/object's put-off releases. Runs no program code. NULL if not set. */
extern void (*gyre__heap_before_refill)(struct gyre__heap *self);

/* Called before empty object pages of a heap, which is ours or taken, go out of use: lib/collect
 * forgets the addresses in them. Runs no program code. NULL if not set. */
extern void (*gyre__heap_before_reap)(struct gyre__heap *heap);

#endif
