/* SPDX-License-Identifier: MIT */
/* Spans: large blocks of up to 2 MiB, each a run of 64-KiB slices.
 *
 *     segment   |  a  |  a  |  b  |  .  |  .  |grow |  .  |  .  |  .  |  .  |
 *     pages[]      ^           ^                 ^
 *
 * A slot has segments of its own for them, in bins by their longest run of free slices: the shortest that
 * suffices is found at once, however many there are. The page of a span is that of its first slice;
 * nobody looks at those of the others. A span is put at the start of a run, so that the block that came
 * last can grow; one that is expected to grow is put into the middle of a longest run, so that the next
 * ones do not get in its way.
 *
 * All of it is under the slot's large_lock: any thread may free a large block, and may look after the
 * memory of a slot whose thread has long been waiting for something. The lock costs its own thread
 * two atomic operations, little beside a block of 64 KiB.
 *
 * Dirty slices age: a look at most every purge delay takes away what was dirty at the look before and has
 * not been used since. So memory goes after one to two delays, without a time for each slice. If there is
 * no delay, slices go when they are given back.
 */
#include <string.h>

#include "lib/heap/page.h"

#define SLICES 64u
#define SLICE_BYTES ((size_t)1 << GYRE__SLICE_SHIFT)
/* Blocks smaller than a slice that may lie in one and grow, in one slot. Each wastes less than a slice,
 * mostly untouched. */
#define GROWING_MOST 4u
/* Segments with room that are looked at for memory that is there already. */
#define LOOKS 8u
/* A block that grows wants room for this many slices. */
#define GROWING_ROOM 16u

static uint64_t bits(uint32_t first, uint32_t count) {
  return (count == 64 ? UINT64_MAX : (UINT64_C(1) << count) - 1) << first;
}

static uint32_t slices_for(size_t size) {
  return (uint32_t)((size + SLICE_BYTES - 1) >> GYRE__SLICE_SHIFT);
}

static uint32_t index_of(const struct gyre__page *page) {
  return (uint32_t)(page - page->segment->pages);
}

/* ---- runs of slices ---- */

/* Bit i: `count` free slices begin at slice i. */
static uint64_t run_starts(uint64_t free, uint32_t count) {
  for (uint32_t have = 1; have < count;) {
    uint32_t step = have < count - have ? have : count - have;
    free &= free >> step;
    have += step;
  }
  return free;
}

/* How many free slices lie together at most. */
static uint32_t longest_run(uint64_t free) {
  if (free == 0 || free == UINT64_MAX) return free == 0 ? 0 : SLICES;
  /* powers[k]: where runs of 1 << k begin. */
  uint64_t powers[6] = {free};
  unsigned k = 0;
  while (k < 5 && (powers[k + 1] = powers[k] & powers[k] >> (1u << k)) != 0)
    k++;
  uint64_t starts = powers[k];
  uint32_t length = 1u << k;
  while (k-- > 0) {
    uint64_t longer = starts & powers[k] >> length;
    if (longer == 0) continue;
    starts = longer;
    length += 1u << k;
  }
  return length;
}

/* The slices whose addresses are multiples of the alignment. */
static uint64_t aligned_slices(size_t alignment) {
  if (alignment <= SLICE_BYTES) return UINT64_MAX;
  uint64_t result = 0;
  for (size_t at = 0; at < GYRE__SEGMENT_SIZE; at += alignment)
    result |= UINT64_C(1) << (at >> GYRE__SLICE_SHIFT);
  return result;
}

/* ---- bins ----
 *
 * A segment's bin is its longest run of free slices, or longer: who takes slices leaves it where it is, who
 * gives some back looks at the run that they are now in, and who finds a run missing puts the segment
 * where it belongs ("no run is overlooked"). Full segments are always in theirs, where nobody looks. */

static uint32_t bin_of(uint32_t length) {
  return length < GYRE__SPAN_BIN_LONG ? length : GYRE__SPAN_BIN_LONG;
}

static void bin_add(struct gyre__heap *heap, struct gyre__segment *segment, uint32_t bin) {
  segment->bin = bin;
  segment->prev = NULL;
  segment->next = heap->spans[bin];
  if (segment->next != NULL) segment->next->prev = segment;
  heap->spans[bin] = segment;
  /* Full ones are not looked for. */
  if (bin != 0) heap->span_bins |= UINT64_C(1) << bin;
}

static void bin_remove(struct gyre__heap *heap, struct gyre__segment *segment) {
  if (segment->next != NULL) segment->next->prev = segment->prev;
  if (segment->prev != NULL)
    segment->prev->next = segment->next;
  else
    heap->spans[segment->bin] = segment->next;
  if (heap->spans[segment->bin] == NULL) heap->span_bins &= ~(UINT64_C(1) << segment->bin);
}

static void bin_change(struct gyre__heap *heap, struct gyre__segment *segment, uint32_t bin) {
  if (bin == segment->bin) return;
  bin_remove(heap, segment);
  bin_add(heap, segment, bin);
}

/* Slices of it were given back, `first` is one of them. */
static void bin_given(struct gyre__heap *heap, struct gyre__segment *segment, uint32_t first) {
  if (segment->bin == GYRE__SPAN_BIN_LONG) return;
  uint64_t above = ~(segment->free_pages >> first);
  uint32_t length = above == 0 ? SLICES : (uint32_t)__builtin_ctzll(above);
  uint64_t below = first == 0 ? 0 : segment->free_pages << (SLICES - first);
  /* Not all of them are ones: zeroes are shifted in. */
  length += (uint32_t)__builtin_clzll(~below);
  uint32_t bin = bin_of(length);
  if (bin > segment->bin) bin_change(heap, segment, bin);
}

/* ---- finding room ---- */

/* Where to put a span of so many slices, or NULL; *index is its first slice. Memory that is there
 * already is taken before memory that is not, and a short run before a long one. */
static struct gyre__segment *find(struct gyre__heap *heap, uint32_t count, uint64_t aligned,
                                  uint32_t *index) {
  struct gyre__segment *clean = NULL;
  unsigned looked = 0;
  for (uint64_t rest = heap->span_bins >> count << count; rest != 0; rest &= rest - 1)
    for (struct gyre__segment *s = heap->spans[__builtin_ctzll(rest)], *next; s != NULL; s = next) {
      next = s->next;
      uint64_t starts = run_starts(s->free_pages & s->dirty_pages, count) & aligned;
      if (starts != 0) {
        *index = (uint32_t)__builtin_ctzll(starts);
        return s;
      }
      starts = run_starts(s->free_pages, count);
      if (starts == 0) {
        bin_change(heap, s, bin_of(longest_run(s->free_pages)));
        continue;
      }
      starts &= aligned;
      if (starts != 0 && clean == NULL) {
        clean = s;
        *index = (uint32_t)__builtin_ctzll(starts);
      }
      if (++looked >= LOOKS && clean != NULL) return clean;
    }
  return clean;
}

/* In the middle of the run, if it is long enough. */
static uint32_t place_to_grow(uint32_t first, uint32_t length, uint32_t count) {
  return length - length / 2 >= count + GROWING_ROOM / 2 ? first + length / 2 : first;
}

/* A segment with one of the longest runs; NULL if all are full. */
static struct gyre__segment *find_longest(struct gyre__heap *heap, uint32_t *length) {
  while (heap->span_bins != 0) {
    struct gyre__segment *segment = heap->spans[63 - __builtin_clzll(heap->span_bins)];
    *length = longest_run(segment->free_pages);
    if (bin_of(*length) == segment->bin) return segment;
    bin_change(heap, segment, bin_of(*length));
  }
  return NULL;
}

/* The same for a block that will grow: one of the longest runs, if it is long enough. */
static struct gyre__segment *find_room(struct gyre__heap *heap, uint32_t count, uint32_t *index) {
  uint32_t length = 0;
  struct gyre__segment *segment = find_longest(heap, &length);
  if (segment == NULL || length < GROWING_ROOM || length < count) return NULL;
  uint32_t first = (uint32_t)__builtin_ctzll(run_starts(segment->free_pages, length));
  *index = place_to_grow(first, length, count);
  return segment;
}

/* ---- segments ---- */

static void dirty_add(struct gyre__heap *heap, size_t bytes) {
  gyre__figure_add(&heap->span_dirty_bytes, bytes);
}

static struct gyre__segment *segment_add(struct gyre__heap *heap) {
  struct gyre__run run;
  if (!gyre__reserve_take(1, GYRE__SEGMENT_SIZE, &run)) return NULL;
  struct gyre__segment *segment = gyre__segment_make(heap, GYRE__SHAPE_SPANS, run.base);
  if (segment == NULL) {
    gyre__reserve_give(&run);
    return NULL;
  }
  /* The slices at its start are what was charged. */
  uint32_t charged = (uint32_t)(run.charged >> GYRE__SLICE_SHIFT);
  size_t part = run.charged - charged * SLICE_BYTES;
  if (part != 0) {
    (void)gyre__os_purge(run.base + charged * SLICE_BYTES, part);
    gyre__memory_uncharge(part);
  }
  segment->dirty_pages = charged == 0 ? 0 : bits(0, charged);
  segment->junk_pages = run.dirty ? UINT64_MAX : 0;
  dirty_add(heap, charged * SLICE_BYTES);
  gyre__figure_add(&heap->span_segments, 1);
  heap->spans_empty++;
  bin_add(heap, segment, GYRE__SPAN_BIN_LONG);
  return segment;
}

static size_t dirty_bytes(uint64_t pages) {
  return (size_t)__builtin_popcountll(pages) << GYRE__SLICE_SHIFT;
}

static bool is_empty(const struct gyre__segment *segment) {
  return segment->free_pages == UINT64_MAX;
}

/* Nothing is left in the segment. */
static void segment_drop(struct gyre__heap *heap, struct gyre__segment *segment) {
  uint64_t dirty = segment->dirty_pages;
  struct gyre__run run = {.base = segment->base,
                          .granules = 1,
                          .charged = dirty_bytes(dirty),
                          .dirty = true,
                          .scattered = (dirty & (dirty + 1)) != 0};
  bin_remove(heap, segment);
  heap->spans_empty--;
  gyre__figure_add(&heap->span_segments, (size_t)-1);
  dirty_add(heap, -run.charged);
  gyre__segment_unmake(segment);
  gyre__reserve_give(&run);
}

/* ---- giving memory back ---- */

/* Free and dirty slices. */
static void slices_purge(struct gyre__heap *heap, struct gyre__segment *segment, uint64_t slices) {
  size_t bytes = dirty_bytes(slices);
  gyre__segment_purge_pages(segment, slices);
  segment->old_pages &= ~slices;
  dirty_add(heap, -bytes);
  gyre__memory_purged(bytes);
}

static void segment_purge(struct gyre__heap *heap, struct gyre__segment *segment,
                          uint64_t cutoff_ns, uint64_t now) {
  if (segment->aged_ns > cutoff_ns) return;
  slices_purge(heap, segment, cutoff_ns == UINT64_MAX ? segment->dirty_pages : segment->old_pages);
  segment->old_pages = segment->dirty_pages;
  segment->aged_ns = now;
}

/* Slices of it were given back. */
static void segment_given(struct gyre__heap *heap, struct gyre__segment *segment) {
  bool at_once = gyre__option(purge_delay_ms) == 0;
  if (at_once) slices_purge(heap, segment, segment->dirty_pages);
  /* One empty segment stays. */
  if (is_empty(segment) && (at_once || heap->spans_empty > 1)) segment_drop(heap, segment);
}

/* ---- taking slices ---- */

/* Takes free slices. False if they would be over the limit. */
static bool slices_take(struct gyre__heap *heap, struct gyre__segment *segment, uint64_t slices) {
  uint64_t dirty = slices & segment->dirty_pages;
  size_t clean = dirty_bytes(slices & ~dirty);
  if (clean != 0 && !gyre__memory_charge(clean)) return false;
  heap->spans_empty -= is_empty(segment);
  segment->free_pages &= ~slices;
  segment->dirty_pages &= ~slices;
  segment->old_pages &= ~slices;
  dirty_add(heap, -dirty_bytes(dirty));
  gyre__figure_add(&heap->span_bytes, dirty_bytes(slices));
  if (segment->free_pages == 0) bin_change(heap, segment, 0);
  return true;
}

static void slices_give(struct gyre__heap *heap, struct gyre__segment *segment, uint64_t slices) {
  segment->free_pages |= slices;
  heap->spans_empty += is_empty(segment);
  segment->dirty_pages |= slices;
  segment->junk_pages |= slices;
  dirty_add(heap, dirty_bytes(slices));
  gyre__figure_add(&heap->span_bytes, -dirty_bytes(slices));
  bin_given(heap, segment, (uint32_t)__builtin_ctzll(slices));
}

struct gyre__page *gyre__span_take(struct gyre__heap *heap, size_t size, size_t alignment,
                                   bool grows) {
  uint32_t count = slices_for(size), index = 0;
  struct gyre__page *page = NULL;
  gyre__lock_take(&heap->large_lock);
  bool is_small = grows && size <= SLICE_BYTES;
  if (is_small && heap->growing >= GROWING_MOST) goto out;
  struct gyre__segment *segment =
      grows ? find_room(heap, count, &index) : find(heap, count, aligned_slices(alignment), &index);
  if (segment == NULL) {
    segment = segment_add(heap);
    if (segment == NULL) goto out;
    index = grows ? place_to_grow(0, SLICES, count) : 0;
  }
  if (!slices_take(heap, segment, bits(index, count))) goto out;
  page = &segment->pages[index];
  memset(page, 0, sizeof *page);
  page->segment = segment;
  page->start = segment->base + ((size_t)index << GYRE__SLICE_SHIFT);
  page->span = (uint8_t)count;
  page->grows = is_small;
  page->dirty = (segment->junk_pages & bits(index, count)) != 0;
  heap->growing += is_small;
  gyre__figure_add(&heap->span_blocks, 1);
out:
  gyre__lock_give(&heap->large_lock);
  return page;
}

void gyre__span_give(struct gyre__page *page) {
  struct gyre__segment *segment = page->segment;
  struct gyre__heap *heap = segment->owner;
  gyre__lock_take(&heap->large_lock);
  slices_give(heap, segment, bits(index_of(page), page->span));
  heap->growing -= page->grows;
  gyre__figure_add(&heap->span_blocks, (size_t)-1);
  segment_given(heap, segment);
  gyre__lock_give(&heap->large_lock);
}

bool gyre__span_resize(struct gyre__page *page, size_t size) {
  struct gyre__segment *segment = page->segment;
  struct gyre__heap *heap = segment->owner;
  uint32_t index = index_of(page), old = page->span, count = slices_for(size);
  if (count == old) return true;
  if (index + count > SLICES) return false;
  gyre__lock_take(&heap->large_lock);
  bool fits = true;
  if (count < old) {
    slices_give(heap, segment, bits(index + count, old - count));
    segment_given(heap, segment);
  } else {
    uint64_t more = bits(index + old, count - old);
    fits = (segment->free_pages & more) == more && slices_take(heap, segment, more);
  }
  if (fits) {
    page->span = (uint8_t)count;
    /* It is no small block any more that lies in a slice of its own. */
    heap->growing -= page->grows;
    page->grows = 0;
  }
  gyre__lock_give(&heap->large_lock);
  return fits;
}

/* ---- purging ---- */

void gyre__span_purge(struct gyre__heap *heap, uint64_t cutoff_ns) {
  /* relaxed: a look that saves the lock; a slot that makes its first segment just now has nothing to
   * purge. */
  if (gyre__load_relaxed(&heap->span_segments) == 0) return;
  uint64_t now = gyre__clock_ns();
  gyre__lock_take(&heap->large_lock);
  for (uint32_t bin = 1; bin < GYRE__SPAN_BINS; bin++)
    for (struct gyre__segment *s = heap->spans[bin], *next; s != NULL; s = next) {
      next = s->next;
      segment_purge(heap, s, cutoff_ns, now);
      if (is_empty(s) && s->dirty_pages == 0) segment_drop(heap, s);
    }
  gyre__lock_give(&heap->large_lock);
}
