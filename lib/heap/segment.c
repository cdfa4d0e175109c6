/* SPDX-License-Identifier: MIT */
/* Segments: aligned pieces of address space, cut into pages of one size.
 *
 *     segment (address space)        |page 0|page 1|page 2| ...                  |
 *                                       ^
 *     metadata (elsewhere)   [segment][page 0][page 1] ...   <- gyre__segment_table[address >> 22]
 *
 * A segment belongs to one slot from the day it is mapped until it is unmapped. Its metadata lies
 * apart, so that blocks of a power of two fall on multiples of it, and so that a page that was
 * purged costs nothing; pieces of metadata are carved from chunks and used again, never given back.
 *
 * Segments of spans and of huge blocks have the same metadata and their place in the table; what is in
 * them is told by span.c and large.c. The rest is about segments of pages.
 *
 * A page of a segment is in use (page.c says how), or it is free: then it is in `free_pages`, and
 * in `dirty_pages` too if its memory is still there. Only a page that is in use or dirty counts as
 * committed:
 *
 *              take                        give
 *     clean ---------> in use (committed) -------> dirty (committed, cached)
 *       ^                    ^------- take ---------/ |
 *       \_____________________ purge ________________/
 *
 * Invariants:
 *   "free first": segments with free pages come before those without in heap->segments, so that
 *       finding one looks at few.
 *   "no news of the unmapped": a segment is unmapped only when no page of it awaits news. Then no
 *       thread that freed a block in it is still about to push its page (page.c), and nobody else
 *       has a pointer to its metadata: pages of object kinds become free only after a grace period,
 *       and a raw block that was freed has no readers.
 *
 * metadata_lock protects the chunk and the lists of used pieces. It is innermost; a chunk is mapped
 * under it.
 */
#include "lib/heap/hook.h"
#include "lib/heap/page.h"

#include <errno.h>
#include <string.h>

gyre__atomic_ptr gyre__segment_table[(size_t)1 << (GYRE__ADDRESS_BITS - GYRE__SEGMENT_SHIFT)];

/* ---- metadata ---- */

#define CHUNK_BYTES ((size_t)1 << 20)

static gyre__lock metadata_lock;
/* Under the lock: the rest of the present chunk, and pieces to use again, linked by next. */
static char *chunk;
static size_t chunk_left;
static struct gyre__segment *pieces[GYRE__SHAPES];

/* All segments, in no order. Under the lock. */
static struct gyre__segment **list;
static size_t list_count, list_size;

/* Room for one more, or false. With the lock held. */
static bool list_grow(void) {
  if (list_count < list_size) return true;
  struct gyre__segment **grown = gyre__memory_table_grow(list, &list_size, sizeof *list);
  if (grown != NULL) list = grown;
  return grown != NULL;
}

static bool list_add(struct gyre__segment *segment) {
  gyre__lock_take(&metadata_lock);
  bool there_is_room = list_grow();
  if (there_is_room) {
    segment->list_index = list_count;
    list[list_count++] = segment;
  }
  gyre__lock_give(&metadata_lock);
  return there_is_room;
}

static void list_drop(struct gyre__segment *segment) {
  gyre__lock_take(&metadata_lock);
  struct gyre__segment *last = list[--list_count];
  list[segment->list_index] = last;
  last->list_index = segment->list_index;
  gyre__lock_give(&metadata_lock);
}

size_t gyre__segment_list(struct gyre__segment **out, size_t max) {
  gyre__lock_take(&metadata_lock);
  size_t count = list_count;
  if (count != 0 && max != 0) memcpy(out, list, (count < max ? count : max) * sizeof *out);
  gyre__lock_give(&metadata_lock);
  return count;
}

void gyre__segment_visit_pages(void (*visit)(struct gyre__page *page, void *arg), void *arg) {
  gyre__lock_take(&metadata_lock);
  for (size_t i = 0; i < list_count; i++)
    for (uint32_t p = 0; p < list[i]->page_count; p++)
      visit(&list[i]->pages[p], arg);
  gyre__lock_give(&metadata_lock);
}

static uint32_t page_shift_of(enum gyre__shape shape) {
  switch (shape) {
  case GYRE__SHAPE_MEDIUM:
    return GYRE__MEDIUM_PAGE_SHIFT;
  case GYRE__SHAPE_HUGE:
    return GYRE__SEGMENT_SHIFT; /* one page, wherever in the first granule one looks */
  default:
    return GYRE__SMALL_PAGE_SHIFT;
  }
}

static uint32_t page_count_of(enum gyre__shape shape) {
  return (uint32_t)(GYRE__SEGMENT_SIZE >> page_shift_of(shape));
}

static size_t metadata_bytes(enum gyre__shape shape) {
  return sizeof(struct gyre__segment) + page_count_of(shape) * sizeof(struct gyre__page);
}

/* Zeroed metadata, or NULL. */
static struct gyre__segment *metadata_take(enum gyre__shape shape) {
  size_t size = metadata_bytes(shape);
  gyre__lock_take(&metadata_lock);
  struct gyre__segment *segment = pieces[shape];
  if (segment != NULL) {
    pieces[shape] = segment->next;
    gyre__lock_give(&metadata_lock);
    memset(segment, 0, size);
    return segment;
  }
  if (chunk_left < size) {
    char *fresh = gyre__os_map(CHUNK_BYTES, gyre__os_page_size());
    if (fresh == NULL) {
      gyre__lock_give(&metadata_lock);
      return NULL;
    }
    chunk = fresh;
    chunk_left = CHUNK_BYTES;
  }
  segment = (struct gyre__segment *)(void *)chunk;
  chunk += size;
  chunk_left -= size;
  gyre__memory_metadata(size);
  gyre__lock_give(&metadata_lock);
  return segment;
}

static void metadata_give(struct gyre__segment *segment) {
  gyre__lock_take(&metadata_lock);
  segment->next = pieces[segment->shape];
  pieces[segment->shape] = segment;
  gyre__lock_give(&metadata_lock);
}

/* ---- the heap's list ---- */

static void list_remove(struct gyre__heap *heap, struct gyre__segment *segment) {
  if (segment->prev != NULL)
    segment->prev->next = segment->next;
  else
    heap->segments = segment->next;
  if (segment->next != NULL)
    segment->next->prev = segment->prev;
  else
    heap->segments_last = segment->prev;
}

static void list_put_first(struct gyre__heap *heap, struct gyre__segment *segment) {
  segment->prev = NULL;
  segment->next = heap->segments;
  if (segment->next != NULL)
    segment->next->prev = segment;
  else
    heap->segments_last = segment;
  heap->segments = segment;
}

static void list_put_last(struct gyre__heap *heap, struct gyre__segment *segment) {
  segment->next = NULL;
  segment->prev = heap->segments_last;
  if (segment->prev != NULL)
    segment->prev->next = segment;
  else
    heap->segments = segment;
  heap->segments_last = segment;
}

/* ---- mapping and unmapping ---- */

static uint64_t all_pages(const struct gyre__segment *segment) {
  return segment->page_count == 64 ? UINT64_MAX : (UINT64_C(1) << segment->page_count) - 1;
}

/* `entry` is the segment or NULL. */
static void segment_publish(const struct gyre__segment *segment, void *entry) {
  size_t index = (uintptr_t)segment->base >> GYRE__SEGMENT_SHIFT;
  /* release: the metadata; but readers come by way of a block that was handed to them, which orders
   * more. Pairs with the load in gyre__segment_of(). */
  gyre__store_release(&gyre__segment_table[index], entry);
}

static bool has_traces(const struct gyre__segment *segment) {
  for (uint32_t i = 0; i < segment->page_count; i++)
    /* relaxed: nobody sets it now. */
    if (gyre__load_relaxed(&segment->pages[i].marks) != NULL) return true;
  return false;
}

static struct gyre__heap *small_owner_of(const struct gyre__segment *segment) {
  bool direct = !GYRE__INLINE_OFF && segment->shape == GYRE__SHAPE_SMALL && !gyre__hook_is_on();
  return direct && !has_traces(segment) ? segment->owner : NULL;
}

/* With the lock, so that of two who do it the last knows what there is. */
static void small_owner_set(struct gyre__segment *segment) {
  /* relaxed: for others than the owner, neither value is their own; pairs with gyre__raw_free() and
   * gyre_thread_free(). */
  __atomic_store_n(&segment->small_owner, small_owner_of(segment), __ATOMIC_RELAXED);
}

void gyre__segment_owners_set(void) {
  gyre__lock_take(&metadata_lock);
  for (size_t i = 0; i < list_count; i++)
    small_owner_set(list[i]);
  gyre__lock_give(&metadata_lock);
}

void gyre__segment_owner_set(struct gyre__segment *segment) {
  gyre__lock_take(&metadata_lock);
  small_owner_set(segment);
  gyre__lock_give(&metadata_lock);
}

struct gyre__segment *gyre__segment_make(struct gyre__heap *heap, enum gyre__shape shape,
                                         char *base) {
  struct gyre__segment *segment = metadata_take(shape);
  if (segment == NULL) return NULL;
  segment->base = base;
  segment->shape = shape;
  segment->page_shift = page_shift_of(shape);
  segment->page_count = page_count_of(shape);
  segment->owner = heap;
  segment->small_owner = small_owner_of(segment);
  segment->free_pages = all_pages(segment);
  segment_publish(segment, segment);
  return segment;
}

void gyre__segment_unmake(struct gyre__segment *segment) {
  segment_publish(segment, NULL);
  metadata_give(segment);
}

struct gyre__segment *gyre__segment_make_arena(char *base, uint32_t page_count) {
  size_t bytes = sizeof(struct gyre__segment) + page_count * sizeof(struct gyre__page);
  struct gyre__segment *segment = gyre__os_map(bytes, gyre__os_page_size());
  if (segment == NULL) return NULL;
  gyre__memory_metadata(bytes);
  segment->base = base;
  segment->shape = GYRE__SHAPE_ARENA;
  segment->page_shift = GYRE__SMALL_PAGE_SHIFT;
  segment->page_count = page_count;
  if (!list_add(segment)) return NULL;
  segment_publish(segment, segment);
  return segment;
}

void gyre__segment_unpublish(const struct gyre__segment *segment) {
  segment_publish(segment, NULL);
}

bool gyre__segment_new(struct gyre__heap *heap, uint32_t page_shift) {
  if (gyre__arena_on) return false;
  char *base = gyre__os_map(GYRE__SEGMENT_SIZE, GYRE__SEGMENT_SIZE);
  if (base == NULL) return false;
  gyre__os_huge_pages(base, GYRE__SEGMENT_SIZE);
  struct gyre__segment *segment = gyre__segment_make(
      heap, page_shift == GYRE__SMALL_PAGE_SHIFT ? GYRE__SHAPE_SMALL : GYRE__SHAPE_MEDIUM, base);
  if (segment != NULL && !list_add(segment)) {
    gyre__segment_unmake(segment);
    segment = NULL;
  }
  if (segment == NULL) {
    gyre__os_unmap(base, GYRE__SEGMENT_SIZE);
    return false;
  }
  gyre__note_nobody(base, GYRE__SEGMENT_SIZE);
  list_put_first(heap, segment);
  gyre__figure_add(&heap->mapped_bytes, GYRE__SEGMENT_SIZE);
  gyre__memory_mapped(GYRE__SEGMENT_SIZE);
  return true;
}

bool gyre__page_call_off_news(struct gyre__page *page) {
  if (!page->awaits_news) return true;
  uint64_t expected = GYRE__REMOTE_TELL;
  /* acquire: of nothing in particular; whoever frees a block here now would be misusing it. Pairs
   * with the compare-exchange in gyre__page_free_remote(). */
  if (!gyre__cas_strong_acquire(&page->remote, &expected, 0)) return false;
  page->awaits_news = 0;
  return true;
}

/* The same for all pages. */
static bool segment_call_off_news(struct gyre__segment *segment) {
  for (uint32_t i = 0; i < segment->page_count; i++)
    if (!gyre__page_call_off_news(&segment->pages[i])) return false;
  return true;
}

static void segment_unmap(struct gyre__heap *heap, struct gyre__segment *segment) {
  list_remove(heap, segment);
  list_drop(segment);
  char *base = segment->base;
  gyre__segment_unmake(segment);
  gyre__note_given_back(base, GYRE__SEGMENT_SIZE);
  gyre__os_unmap(base, GYRE__SEGMENT_SIZE);
  gyre__figure_add(&heap->mapped_bytes, -GYRE__SEGMENT_SIZE);
  gyre__memory_mapped(-GYRE__SEGMENT_SIZE);
}

/* ---- pages ---- */

static struct gyre__page *page_init_in_segment(struct gyre__heap *heap,
                                               struct gyre__segment *segment, uint32_t index) {
  struct gyre__page *page = &segment->pages[index];
  if (page->segment == NULL) {
    page->segment = segment;
    page->start = segment->base + ((size_t)index << segment->page_shift);
    /* relaxed: before the page's first block is handed out; pairs with the load in
     * gyre__heap_free(). */
    gyre__store_relaxed(&page->owner, heap->thread.base.id);
  }
  return page;
}

struct gyre__page *gyre__segment_take_page(struct gyre__heap *heap, uint32_t page_shift,
                                           bool *over_limit) {
  if (gyre__arena_on) return gyre__arena_take_page(heap, over_limit);
  size_t bytes = (size_t)1 << page_shift;
  for (struct gyre__segment *segment = heap->segments; segment != NULL && segment->free_pages != 0;
       segment = segment->next) {
    if (segment->page_shift != page_shift) continue;
    uint64_t dirty = segment->free_pages & segment->dirty_pages;
    uint32_t index = (uint32_t)__builtin_ctzll(dirty != 0 ? dirty : segment->free_pages);
    if (dirty == 0) {
      if (!gyre__memory_charge(bytes)) {
        *over_limit = true;
        return NULL;
      }
      gyre__figure_add(&heap->committed_bytes, bytes);
    } else {
      gyre__figure_add(&heap->cached_bytes, -bytes);
    }
    struct gyre__page *page = page_init_in_segment(heap, segment, index);
    page->dirty = (segment->junk_pages >> index & 1) != 0;
    segment->free_pages &= ~(UINT64_C(1) << index);
    segment->dirty_pages &= ~(UINT64_C(1) << index);
    if (segment->free_pages == 0) {
      list_remove(heap, segment);
      list_put_last(heap, segment);
    }
    return page;
  }
  return NULL;
}

void gyre__segment_give_page(struct gyre__heap *heap, struct gyre__page *page) {
  struct gyre__segment *segment = page->segment;
  if (segment->shape == GYRE__SHAPE_ARENA) {
    gyre__arena_give_page(heap, page);
    return;
  }
  uint64_t bit = UINT64_C(1) << (page - segment->pages);
  GYRE_ASSERT(!(segment->free_pages & bit));
  if (segment->free_pages == 0) {
    list_remove(heap, segment);
    list_put_first(heap, segment);
  }
  segment->free_pages |= bit;
  segment->dirty_pages |= bit;
  segment->junk_pages |= bit;
  gyre__figure_add(&heap->cached_bytes, gyre__page_bytes(page));
}

/* ---- purging ---- */

/* The dirty pages that have been free since the cutoff or longer. */
static uint64_t pages_to_purge(const struct gyre__segment *segment, uint64_t cutoff_ns) {
  uint64_t result = 0;
  for (uint64_t rest = segment->dirty_pages; rest != 0; rest &= rest - 1) {
    uint32_t index = (uint32_t)__builtin_ctzll(rest);
    if (segment->pages[index].empty_since_ns <= cutoff_ns) result |= UINT64_C(1) << index;
  }
  return result;
}

void gyre__segment_purge_pages(struct gyre__segment *segment, uint64_t pages) {
  /* One call to the system for each run of neighbours. */
  for (uint64_t rest = pages; rest != 0;) {
    uint32_t first = (uint32_t)__builtin_ctzll(rest);
    uint64_t others = ~(rest >> first);
    uint32_t length = others == 0 ? 64 : (uint32_t)__builtin_ctzll(others);
    uint64_t run = (length == 64 ? UINT64_MAX : (UINT64_C(1) << length) - 1) << first;
    if (gyre__os_purge(segment->base + ((size_t)first << segment->page_shift),
                       (size_t)length << segment->page_shift))
      segment->junk_pages &= ~run;
    rest &= ~run;
  }
  segment->dirty_pages &= ~pages;
}

void gyre__segment_purge(struct gyre__heap *heap, uint64_t cutoff_ns) {
  if (GYRE_UNLIKELY(heap->held != NULL)) gyre__arena_purge(heap);
  struct gyre__segment *next;
  for (struct gyre__segment *segment = heap->segments; segment != NULL && segment->free_pages != 0;
       segment = next) {
    next = segment->next;
    uint64_t pages = pages_to_purge(segment, cutoff_ns);
    size_t bytes = (size_t)__builtin_popcountll(pages) << segment->page_shift;
    bool unmap = segment->free_pages == all_pages(segment) && pages == segment->dirty_pages &&
                 !gyre__heap_is_pinned() && segment_call_off_news(segment);
    if (!unmap) gyre__segment_purge_pages(segment, pages);
    gyre__figure_add(&heap->cached_bytes, -bytes);
    gyre__figure_add(&heap->committed_bytes, -bytes);
    if (unmap) segment_unmap(heap, segment);
    gyre__memory_purged(bytes);
  }
}

/* ---- the end of an arena ---- */

/* Segments' entries in the table are cleared with the arena. */
static void forget(void) {
  chunk = NULL;
  chunk_left = 0;
  memset(pieces, 0, sizeof pieces);
  list = NULL;
  list_count = list_size = 0;
}

static void __attribute__((constructor)) segment_init(void) { gyre__forget_add(forget); }

/* ---- fork ---- */

void gyre__segment_fork_prepare(void) { gyre__lock_take(&metadata_lock); }
void gyre__segment_fork_parent(void) { gyre__lock_give(&metadata_lock); }
void gyre__segment_fork_child(void) { gyre__lock_reset(&metadata_lock); }
