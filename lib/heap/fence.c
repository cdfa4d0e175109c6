/* SPDX-License-Identifier: MIT */
/* Guard bytes around blocks, and freed blocks that wait: an allocator around another (gyre/alloc.h has the
 * picture). Works on any allocator and in any build, and costs what that implies; lib/heap/watch.c is what
 * debug builds do inside the heap.
 *
 * The word before a block's size is of its own family, so that the wrong function is told from the right
 * one. `room` is the base-two logarithm of the distance from what the inner allocator gave to the block: 16
 * bytes, or the alignment if that is more.
 *
 * States of the head, as the family byte tells them: a family's letter, in use; 0xDD, freed; anything else,
 * overwritten or never a block of ours.
 *
 * Freed blocks wait in rings, of which a thread uses one by its id: whoever fills a place gets the block that
 * was there, looks at all of its bytes and gives it to the inner allocator. The lock is held for the exchange
 * alone, never while the inner allocator is called. Blocks beyond WAIT_MOST do not wait.
 */
#include "lib/heap/hook.h"

#if !GYRE__IS_MALLOC

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/heap/page.h"

#define FRESH_BYTE 0xCD
#define FREED_BYTE 0xDD
#define GUARD_BYTE 0xFD
#define HEAD 16u
#define GUARDS_BEFORE 6u
#define GUARDS_BEHIND 8u
#define TAIL 16u
#define WAIT_MOST ((size_t)65536)
#define RINGS 16u
#define RING_PLACES 64u

struct head {
  uint64_t size;
  uint8_t family;
  uint8_t room; /* log2 of the distance to the inner block */
  uint8_t guards[GUARDS_BEFORE];
};
_Static_assert(sizeof(struct head) == HEAD, "a block is as aligned as the inner one");

/* What a domain's wrapper is called with. */
struct fence {
  uint8_t family;
  struct gyre_allocator inner;
};
/* One for each domain. Set before it is used. */
static struct fence fences[2];

/* Numbers allocations. */
static gyre__atomic_u64 serials;

/* Tells where a block was allocated, as text; returns false if it does not know. Set once by a tracer. */
bool (*gyre__heap_describe)(const void *block, char *text, size_t size);

/* ---- messages ---- */

static struct head *head_of(const void *block) { return (struct head *)((uintptr_t)block - HEAD); }

static uint64_t serial_of(const void *block, size_t size) {
  uint64_t serial;
  memcpy(&serial, (const char *)block + size + GUARDS_BEHIND, sizeof serial);
  return serial;
}

static const char *family_name(uint8_t family) {
  return family == 'r' ? "raw ('r')" : family == 'm' ? "mem ('m')" : "unknown";
}

_Noreturn static void found(const char *what, const void *block, const char *more) {
  char site[512] = "";
  bool traced = gyre__heap_describe != NULL && gyre__heap_describe(block, site, sizeof site);
  gyre__die(__FILE__, __LINE__, "%s: block %p%s%s%s", what, block, more,
            traced ? "; allocated at " : "", traced ? site : "");
}

/* The head is whole. */
_Noreturn static void found_in(const char *what, const void *block, const char *detail) {
  const struct head *head = head_of(block);
  char more[256];
  (void)snprintf(more, sizeof more, " of %zu bytes, family %s, serial %llu%s", (size_t)head->size,
                 family_name(head->family),
                 (unsigned long long)serial_of(block, (size_t)head->size), detail);
  found(what, block, more);
}

/* ---- looking ---- */

/* An object, or a block of the heap's own? Then its header does not look like one of ours. */
static bool is_object(const void *block) {
  const char *header = (const char *)head_of(block);
  struct gyre__segment *segment = gyre__segment_of(header);
  if (segment == NULL) return false;
  const struct gyre__page *page = gyre__segment_page(segment, header);
  if (page->state != GYRE__PAGE_USED || page->kind == GYRE__RAW) return false;
  return page->is_large ? page->start == header : segment->shape < GYRE__SHAPE_SPANS;
}

static bool is_family(uint8_t family) { return family == 'r' || family == 'm'; }

/* Requires that the block is in use, of the family, and that its guards are whole. */
static void block_check(const void *block, const struct fence *fence) {
  const struct head *head = head_of(block);
  char detail[128];
  if (is_object(block)) found("wrong family", block, ", an object: gyre_release() gives it up");
  if (head->family == FREED_BYTE &&
      gyre__first_other(head->guards, FREED_BYTE, GUARDS_BEFORE) == GUARDS_BEFORE)
    found("double free", block, ", which was freed before, or its use after that");
  size_t before = gyre__first_other(head->guards, GUARD_BYTE, GUARDS_BEFORE);
  if (before != GUARDS_BEFORE) {
    (void)snprintf(detail, sizeof detail, ": the byte %zu before its start is 0x%02x, not 0x%02x",
                   GUARDS_BEFORE - before, head->guards[before], GUARD_BYTE);
    found(is_family(head->family) ? "underrun" : "invalid pointer or underrun", block, detail);
  }
  if (!is_family(head->family))
    found("invalid pointer", block, ", which no function of the raw or mem family gave");
  if (head->family != fence->family) {
    (void)snprintf(detail, sizeof detail, ", given to a function of family %s",
                   family_name(fence->family));
    found_in("wrong family", block, detail);
  }
  const uint8_t *behind = (const uint8_t *)block + head->size;
  size_t at = gyre__first_other(behind, GUARD_BYTE, GUARDS_BEHIND);
  if (at == GUARDS_BEHIND) return;
  (void)snprintf(detail, sizeof detail, ": the byte %zu behind its end is 0x%02x, not 0x%02x",
                 at + 1, behind[at], GUARD_BYTE);
  found_in("overrun", block, detail);
}

/* ---- making ---- */

static void tail_write(void *block, size_t size) {
  memset((char *)block + size, GUARD_BYTE, GUARDS_BEHIND);
  /* relaxed: a number of its own. */
  uint64_t serial = gyre__fetch_add_relaxed(&serials, 1) + 1;
  memcpy((char *)block + size + GUARDS_BEHIND, &serial, sizeof serial);
}

static void *block_made(const struct fence *fence, void *base, size_t distance, size_t size) {
  if (base == NULL) return NULL;
  char *block = (char *)base + distance;
  struct head *head = head_of(block);
  memset(base, GUARD_BYTE, distance);
  head->size = size;
  head->family = fence->family;
  head->room = (uint8_t)__builtin_ctzll(distance);
  tail_write(block, size);
  return block;
}

static bool sum_of(size_t size, size_t distance, size_t *sum) {
  return !__builtin_add_overflow(size, distance + TAIL, sum) && *sum <= PTRDIFF_MAX;
}

static void *no_memory(void) {
  errno = ENOMEM;
  return NULL;
}

static void *fence_malloc(void *ctx, size_t size) {
  GYRE__KEEP_FRAME();
  const struct fence *fence = ctx;
  size_t sum;
  if (!sum_of(size, HEAD, &sum)) return no_memory();
  void *block = block_made(fence, fence->inner.malloc(fence->inner.ctx, sum), HEAD, size);
  if (block != NULL) memset(block, FRESH_BYTE, size);
  return block;
}

static void *fence_calloc(void *ctx, size_t count, size_t size) {
  GYRE__KEEP_FRAME();
  const struct fence *fence = ctx;
  size_t bytes, sum;
  if (__builtin_mul_overflow(count, size, &bytes) || !sum_of(bytes, HEAD, &sum)) return no_memory();
  return block_made(fence, fence->inner.calloc(fence->inner.ctx, 1, sum), HEAD, bytes);
}

static void *fence_aligned(void *ctx, size_t alignment, size_t size) {
  GYRE__KEEP_FRAME();
  const struct fence *fence = ctx;
  size_t distance = alignment > HEAD ? alignment : HEAD, sum;
  if (alignment <= HEAD) return fence_malloc(ctx, size);
  if (!sum_of(size, distance, &sum)) return no_memory();
  void *base = gyre__hook_aligned(&fence->inner, alignment, sum);
  void *block = block_made(fence, base, distance, size);
  if (block != NULL) memset(block, FRESH_BYTE, size);
  return block;
}

/* ---- waiting ---- */

struct waiting {
  const struct fence *fence; /* NULL: the place is empty */
  void *block;
  size_t size, distance;
};

static struct ring {
  gyre__lock lock;
  /* -- under the lock -- */
  uint32_t next;
  struct waiting places[RING_PLACES];
} rings[RINGS];

static void let_go(const struct waiting *w) {
  if (w->fence == NULL) return;
  size_t at = gyre__first_other(w->block, FREED_BYTE, w->size);
  if (at != w->size) {
    char more[128];
    (void)snprintf(more, sizeof more,
                   " of %zu bytes, family %s: byte %zu was written to after it was freed", w->size,
                   family_name(w->fence->family), at);
    found("use after free", w->block, more);
  }
  w->fence->inner.free(w->fence->inner.ctx, (char *)w->block - w->distance);
}

static void wait_instead(struct waiting *w) {
  struct ring *ring = &rings[gyre__self->id % RINGS];
  gyre__lock_take(&ring->lock);
  struct waiting *place = &ring->places[ring->next++ % RING_PLACES];
  struct waiting out = *place;
  *place = *w;
  gyre__lock_give(&ring->lock);
  *w = out;
}

void gyre__fence_flush(void) {
  for (unsigned r = 0; r < RINGS; r++)
    for (unsigned i = 0; i < RING_PLACES; i++) {
      gyre__lock_take(&rings[r].lock);
      struct waiting out = rings[r].places[i];
      rings[r].places[i] = (struct waiting){0};
      gyre__lock_give(&rings[r].lock);
      let_go(&out);
    }
}

static void fence_free(void *ctx, void *block) {
  const struct fence *fence = ctx;
  block_check(block, fence);
  struct head *head = head_of(block);
  struct waiting w = {.fence = fence,
                      .block = block,
                      .size = (size_t)head->size,
                      .distance = (size_t)1 << head->room};
  memset((char *)block - w.distance, FREED_BYTE, w.distance + w.size + TAIL);
  if (w.size <= WAIT_MOST) wait_instead(&w);
  let_go(&w);
}

/* ---- changing ---- */

/* Always moves to grow, so that who kept the old address is found out. Shrinking cannot fail. */
static void *fence_realloc(void *ctx, void *block, size_t size) {
  GYRE__KEEP_FRAME();
  const struct fence *fence = ctx;
  if (block == NULL) return fence_malloc(ctx, size);
  block_check(block, fence);
  struct head *head = head_of(block);
  size_t old = (size_t)head->size;
  void *moved = fence_malloc(ctx, size);
  if (moved != NULL) {
    memcpy(moved, block, old < size ? old : size);
    fence_free(ctx, block);
    return moved;
  }
  if (size > old) return NULL;
  memset((char *)block + size, FREED_BYTE, old - size);
  head->size = size;
  tail_write(block, size);
  return block;
}

static size_t fence_usable(void *ctx, const void *block) {
  block_check(block, ctx);
  return (size_t)head_of(block)->size;
}

/* ---- setting up ---- */

void gyre__fence_wrap(enum gyre_domain domain, const struct gyre_allocator *inner,
                      struct gyre_allocator *outer) {
  struct fence *fence = &fences[domain];
  fence->family = domain == GYRE_DOMAIN_RAW ? 'r' : 'm';
  fence->inner = *inner;
  *outer = (struct gyre_allocator){
      .size = sizeof *outer,
      .ctx = fence,
      .malloc = fence_malloc,
      .calloc = fence_calloc,
      .realloc = fence_realloc,
      .free = fence_free,
      .aligned_alloc = fence_aligned,
      .usable_size = fence_usable,
  };
}

bool gyre__fence_is(const struct gyre_allocator *a) { return a->free == fence_free; }

/* ---- the end of an arena, fork ---- */

/* What waits is gone with its memory; gyre_fini() has flushed it. */
static void forget(void) {
  for (unsigned r = 0; r < RINGS; r++)
    memset(rings[r].places, 0, sizeof rings[r].places);
}

static void __attribute__((constructor)) fence_init(void) { gyre__forget_add(forget); }

void gyre__fence_fork_prepare(void) {
  for (unsigned r = 0; r < RINGS; r++)
    gyre__lock_take(&rings[r].lock);
}

void gyre__fence_fork_parent(void) {
  for (unsigned r = 0; r < RINGS; r++)
    gyre__lock_give(&rings[r].lock);
}

void gyre__fence_fork_child(void) {
  for (unsigned r = 0; r < RINGS; r++)
    gyre__lock_reset(&rings[r].lock);
}

#endif
