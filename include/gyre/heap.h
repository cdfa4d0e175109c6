/* SPDX-License-Identifier: MIT */
/* gyre/heap.h: bytes. The raw interface to the allocator that also carries the objects.
 *
 * Each thread slot has pools: for every size class a list of pages, allocated from and freed to
 * without atomics by the thread that has the slot. Blocks freed by another thread are gathered there
 * and go home some KiB at a time, with one atomic operation for those of a page. Blocks beyond 64 KiB
 * are runs of 64-KiB slices, those beyond 2 MiB of 4-MiB pieces of address space (option "large" has other
 * backends). A block that realloc enlarges grows in place where it can. Empty pages go back to
 * the system after a delay (option "purge_delay_ms"), or at once by gyre_purge(); option "purge" says
 * how, and option "thp" whether the memory is to be in huge pages. Memory comes from the NUMA node of
 * the thread that touches it first: pages are touched by the slot's thread alone, and no sooner than
 * they are needed.
 *
 * Every build finds frees of pointers that are not blocks, and double frees: of small blocks when the
 * block would be handed out a second time or its page seems empty, of large ones at once. Links between
 * free blocks are encoded. Debug builds find writes after a free (option "quarantine"), and faults at the
 * instruction can be had for every nth block (option "guard"); in builds for AddressSanitizer or Valgrind's
 * memcheck, these know every block.
 *
 * In place of the system's memory there may be a buffer (gyre/arena.h) or pages of the program's, and in place
 * of these functions, or around them, others (gyre/alloc.h).
 *
 * All functions: any thread; attach it if it is not attached (malloc-like calls then may fail with
 * ENOMEM). None is a safepoint, none runs finalizers or other program code except the out-of-memory
 * handler below. A block may be freed by any thread.
 */
#ifndef GYRE_HEAP_H
#define GYRE_HEAP_H

#include <gyre/thread.h>

GYRE_BEGIN_DECLS

/* size bytes, aligned to 16, contents undefined. 0 bytes give a distinct block. NULL with errno
 * ENOMEM: out of memory, over the limit, or size above PTRDIFF_MAX. The caller frees it with
 * gyre_free(). */
GYRE_API void *gyre_malloc(size_t size) __attribute__((__malloc__, __alloc_size__(1)));

/* As gyre_malloc(count * size), zeroed; the product is checked for overflow (ENOMEM). */
GYRE_API void *gyre_calloc(size_t count, size_t size)
    __attribute__((__malloc__, __alloc_size__(1, 2)));

/* Changes the size of `block` and keeps its contents up to the smaller size; the block may move.
 * NULL allocates. Size 0 shrinks to a distinct minimal block, it does not free. On failure NULL
 * with errno ENOMEM, and `block` is unchanged and still the caller's. */
GYRE_API void *gyre_realloc(void *block, size_t size) __attribute__((__alloc_size__(2)));

/* As gyre_malloc(size), aligned to `alignment`, a power of two up to 1 GiB (else EINVAL). The size
 * need not be a multiple of it. */
GYRE_API void *gyre_aligned_alloc(size_t alignment, size_t size)
    __attribute__((__malloc__, __alloc_size__(2)));

/* Gives a block back. NULL is allowed. Never fails. */
GYRE_API void gyre_free(void *block);

/* As gyre_free, for a caller who knows the size it asked for (C23's free_sized). */
GYRE_API void gyre_free_sized(void *block, size_t size);

/* How many bytes of `block` may be used: at least what was asked for. 0 for NULL. */
GYRE_API size_t gyre_usable_size(const void *block);

/* The same with the calling thread's own handle (gyre_thread_attach()), which saves looking it up.
 * Undefined with another thread's handle; debug builds abort. gyre_thread_malloc() with a constant size
 * of at most 1,024 bytes and gyre_thread_free() are inline where the pools have what they want. */
GYRE_INLINE void *gyre_thread_malloc(gyre_thread *self, size_t size)
    __attribute__((__malloc__, __alloc_size__(2)));
GYRE_API void *gyre_thread_calloc(gyre_thread *self, size_t count, size_t size)
    __attribute__((__malloc__, __alloc_size__(2, 3)));
GYRE_API void *gyre_thread_realloc(gyre_thread *self, void *block, size_t size)
    __attribute__((__alloc_size__(3)));
GYRE_API void *gyre_thread_aligned_alloc(gyre_thread *self, size_t alignment, size_t size)
    __attribute__((__malloc__, __alloc_size__(3)));
GYRE_INLINE void gyre_thread_free(gyre_thread *self, void *block);
GYRE_API void gyre_thread_free_sized(gyre_thread *self, void *block, size_t size);

/* What the inline paths know of the heap's structs (lib/heap/heap.h): offsets, and how addresses lead to
 * segments and pages. */
#define GYRE__SEGMENT_SHIFT 22
#define GYRE__SMALL_PAGE_SHIFT 16
#define GYRE__SEGMENT_OWNER_AT 32
#define GYRE__SEGMENT_PAGES_AT 128
#define GYRE__PAGE_SHIFT 8
typedef struct __attribute__((may_alias)) gyre__page_front {
  void *gyre__free;
  uint32_t gyre__used;
  uint32_t gyre__other[11];
  uint64_t gyre__sum;
} gyre__page_front;
/* 1 where every block that comes or goes is noted for AddressSanitizer or, with -DGYRE_VALGRIND, for
 * memcheck: there nothing is inline, since the inline paths read what nobody else may. */
#if defined(GYRE_VALGRIND) || defined(__SANITIZE_ADDRESS__)
#define GYRE__ANNOTATED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GYRE__ANNOTATED 1
#endif
#endif
#ifndef GYRE__ANNOTATED
#define GYRE__ANNOTATED 0
#endif

typedef uint64_t __attribute__((may_alias)) gyre__link_word;
typedef gyre_thread *__attribute__((may_alias)) gyre__thread_pointer;

/* The class of a size of at most 64 KiB (lib/heap/sizeclass.h). */
GYRE_INLINE unsigned gyre__size_class(size_t size) {
  if (GYRE_LIKELY(size <= 128)) return (unsigned)((size - (size != 0)) >> 4);
  size_t last = size - 1;
  unsigned high = 63u - (unsigned)__builtin_clzll((unsigned long long)last); /* 7 for 129..256 */
  return 8u + (high - 7u) * 4u + (unsigned)((last >> (high - 2u)) & 3u);
}

/* The last of the page's blocks has come back, or one of a full page. `self` is a running thread's. */
GYRE_API void gyre__heap_page_idle(gyre_thread *self, void *page);

/* The next block of a pool; NULL if a call has to be made for it. Its first word, or for objects the one
 * behind the header (`offset` bytes in), held the link. */
GYRE_INLINE void *gyre__pool_pop(gyre_thread *self, gyre__pool *pool, size_t offset) {
  char *block = (char *)pool->gyre__ready;
  if (GYRE__ANNOTATED || GYRE_UNLIKELY(block == NULL)) return NULL;
  gyre__link_word *link = (gyre__link_word *)(void *)(block + offset);
  uint64_t next = *link ^ self->gyre__link_key;
  /* Not a link, or a library that wants to see every block. */
  if (GYRE_UNLIKELY((int64_t)next < 0)) return NULL;
  pool->gyre__ready = (void *)(uintptr_t)next;
  *link = 0;
  return block;
}

GYRE_API void *gyre__thread_malloc(gyre_thread *self, size_t size);
/* As declared above. */
GYRE_INLINE void *gyre_thread_malloc(gyre_thread *self, size_t size) {
  if (__builtin_constant_p(size) && size <= GYRE__CLASS_TABLE_MAX) {
    void *block = gyre__pool_pop(self, &self->gyre__pools[0][gyre__size_class(size)], 0);
    if (GYRE_LIKELY(block != NULL)) return block;
  }
  return gyre__thread_malloc(self, size);
}

GYRE_API void gyre__thread_free(gyre_thread *self, void *block);
/* As declared above. */
GYRE_INLINE void gyre_thread_free(gyre_thread *self, void *block) {
  uintptr_t address = (uintptr_t)block;
  /* relaxed: as in gyre__segment_of(). */
  char *segment = (char *)gyre__load_relaxed(&self->gyre__segments[address >> GYRE__SEGMENT_SHIFT]);
  if (GYRE__ANNOTATED || GYRE_UNLIKELY(segment == NULL) ||
      GYRE_UNLIKELY(*(gyre__thread_pointer *)(void *)(segment + GYRE__SEGMENT_OWNER_AT) != self)) {
    gyre__thread_free(self, block);
    return;
  }
  uintptr_t index = address >> GYRE__SMALL_PAGE_SHIFT &
                    ((1u << (GYRE__SEGMENT_SHIFT - GYRE__SMALL_PAGE_SHIFT)) - 1);
  gyre__page_front *page =
      (gyre__page_front *)(void *)(segment + GYRE__SEGMENT_PAGES_AT + (index << GYRE__PAGE_SHIFT));
  *(gyre__link_word *)block = (uintptr_t)page->gyre__free ^ self->gyre__link_key;
  page->gyre__free = block;
  page->gyre__sum += address;
  if (GYRE_UNLIKELY(--page->gyre__used == 0)) gyre__heap_page_idle(self, page);
}

/* Gives all memory that nothing is in back to the system, whoever has it: what large blocks have left
 * and the empty pages of the calling thread and of parked and exited ones at once, those of running
 * threads as they pass a safepoint, for which it waits; with what threads have freed of each other's
 * until then. A pool that is in use keeps a page that has a block. Any thread; a safepoint; blocks.
 * Returns 0, or -EAGAIN if a thread that passes no safepoint kept it waiting for a second: that thread's
 * empty pages follow at its next safepoint; or if the calling thread could not be attached. (The
 * malloc_trim() of libgyre_malloc waits for nobody: running threads follow when they allocate or end.) */
GYRE_API int gyre_purge(void);

/* The memory limit in bytes, for all that the heap takes from the system: pages and large blocks
 * (option "limit"). 0 means none, the default. Lowering it below what is in use fails later
 * allocations, nothing else. Any thread. */
GYRE_API void gyre_heap_set_limit(size_t bytes);
GYRE_API size_t gyre_heap_get_limit(void);

/* Called when an allocation of `size` bytes would fail after caches were flushed, and before NULL
 * is returned. May free memory and return 1 to have the allocation tried again, or 0 to let it
 * fail. Runs in the allocating thread, with no library lock held, and may allocate (a nested
 * failure does not call it again). NULL removes it. Any thread. */
typedef int gyre_oom_handler(size_t size, void *arg);
GYRE_API void gyre_set_oom_handler(gyre_oom_handler *handler, void *arg);

/* Figures about the heap. The caller sets size = sizeof(struct gyre_heap_stats).
 *
 *     mapped     |  committed                                     |  retained  |
 *                |  active                      |  cached         |
 *                |  live           |  (free in pages, roundings)
 *
 * and metadata beside it. jemalloc's names for them are mapped, active, dirty, allocated, retained and
 * metadata; its resident is ours. */
struct gyre_heap_stats {
  size_t size;
  size_t mapped_bytes;    /* address space of segments and large blocks */
  size_t committed_bytes; /* of that, in pages in use or kept for reuse, and large blocks: what the
                               limit is compared with */
  size_t
      cached_bytes;   /* of that, kept for reuse: in empty pages, and what large blocks have left */
  size_t large_bytes; /* of committed_bytes, in large blocks */
  size_t live_blocks; /* raw blocks and objects not freed; blocks that another thread freed and
                               the owner has not found yet count as live */
  size_t live_bytes;  /* allocated: their bytes, rounded up to what a block of their size takes */
  size_t purged_bytes; /* given back to the system since the start */
  size_t active_bytes; /* committed_bytes without cached_bytes: pages and large blocks in use */
  size_t
      resident_bytes; /* committed_bytes and metadata_bytes: the most that may be in memory; less is
                               where nothing was written yet */
  size_t
      retained_bytes; /* mapped_bytes without committed_bytes: address space without memory, kept for
                               what comes */
  size_t metadata_bytes; /* what the heap and its threads keep about all that */
  size_t peak_bytes;     /* the most that committed_bytes ever was */
};

/* Fills *out, at most out->size bytes of it. Any thread: one that is parked comes back meanwhile, one that is not
 * attached is. Sums over pages without stopping anybody, so figures of running threads are approximate; waits for who
 * has stopped the world. 0, or -EINVAL. */
GYRE_API int gyre_heap_get_stats(struct gyre_heap_stats *out);

/* What the blocks of a pool are. */
enum gyre_heap_kind {
  GYRE_HEAP_RAW,     /* of gyre_malloc() */
  GYRE_HEAP_LEAF,    /* objects without references */
  GYRE_HEAP_TRACKED, /* objects that the collector looks at */
};

/* The pages of one kind and one size of blocks, of all threads together. Blocks beyond 64 KiB are in none. */
struct gyre_heap_class {
  size_t size;
  enum gyre_heap_kind kind;
  size_t block_bytes;
  uint64_t pages; /* in use, and object pages that are empty and kept */
  size_t page_bytes;
  uint64_t blocks; /* that have room in the pages */
  uint64_t
      used_blocks; /* handed out; blocks that another thread freed and the owner has not found yet
                           count, those in quarantine too, and what a running thread has ready */
};

/* Calls visitor(figures, arg) for each class that has pages, by kind and then by size, with no lock held;
 * the figures are valid during the call. Stops when it returns other than 0. Any thread, as above; stops nobody,
 * so figures of running threads are approximate. Looks at every page once, with the lock held under which
 * threads get new segments (some ns a page). Returns 0, what visitor returned, or -EINVAL if that is NULL. */
typedef int gyre_heap_class_visitor(const struct gyre_heap_class *figures, void *arg);
GYRE_API int gyre_heap_list_classes(gyre_heap_class_visitor *visitor, void *arg);

/* ---- the header of objects --------------------------------------------------------------------
 */

#define GYRE_HEADER_SIZE 16

/* The 16 bytes before every object (object.h). Not part of the interface: shown because the
 * operations on counts are inline, and here because the heap keeps parts of it alive in free
 * blocks. */
typedef struct gyre__header {
  /* The type's id in the low bits, constant from before the object is published until its block is
   * freed; the rest is 0 until it is destroyed. */
  gyre__atomic_u32 type;
  /* The slot id of the thread the object is biased to, 0 when it has none. Written by the owner, or
   * by whoever holds the owner's slot taken; read by anyone, who then only learns "mine" or "not
   * mine". */
  gyre__atomic_u16 owner;
  /* The collector's byte: age, death (lib/object/object.h). */
  gyre__atomic_u8 gc;
  /* Lock, waiters, weakly referred to, finalizer pending: read-modify-writes by anyone. */
  gyre__atomic_u8 bits;
  /* The owner's count. Written by the owner (or who holds its slot taken); others only look. */
  gyre__atomic_u32 local;
  /* State in the low bits, signed count above them (lib/object/refcount.h). */
  gyre__atomic_u32 shared;
} gyre__header;

/* Owner, collector's byte and bits as one word, for the fast path of gyre_release(): the object is the
 * thread's own, and it does not want to be told of counts that are given up (GYRE__GC_ARMED). */
typedef struct __attribute__((may_alias)) gyre__header_word {
  uint32_t gyre__value;
} gyre__header_word_t;
#define GYRE__OWNER_MASK 0xffffu
#define GYRE__ARMED_MASK 0x400000u

GYRE_END_DECLS

#endif
