/* SPDX-License-Identifier: MIT */
/* Debug builds, option "guard": raw blocks that end at a page that nobody may touch, so that the
 * instruction that runs over the end faults.
 *
 *     base                      start                    guard page, and the rest of the segment
 *     |  OS pages, at most 2 MiB  | block        |slack|  no access ...                       |
 *
 * Each has a segment of its own, whose metadata lies elsewhere: so it is found like every other block, also
 * when its memory may not be touched any more. That is so after it was freed, for as long as it stays in
 * quarantine. The slack, up to 15 bytes because blocks are aligned to 16, is filled with a pattern and
 * looked at when the block is freed.
 *
 * It costs two calls to the system more than a page fault, two mappings of the 65,530 that a process may
 * have by default, and 4 MiB of address space. A block that cannot be had this way is an ordinary one; so
 * are those of more than 2 MiB, and those aligned to more than an OS page.
 */
#ifdef GYRE_DEBUG

#include <string.h>

#include "lib/heap/page.h"
#include "lib/heap/traced.h"

#define SLACK 0xBD

bool gyre__guard_wants(struct gyre__heap *heap, size_t size, size_t alignment) {
  uint64_t every = gyre__option(guard);
  if (every == 0 || gyre__source_is_set() || size > GYRE__SPAN_MAX ||
      alignment > gyre__os_page_size())
    return false;
  return ++heap->quarantine.guard_count % every == 0;
}

/* What the block is given, from its start to the guard page. */
static size_t bytes_to_guard(const struct gyre__page *page) {
  return (size_t)((char *)page->large_base + page->large_bytes - page->start);
}

/* A segment's worth of address space of which the first bytes may be touched; NULL if there is none. */
static char *space_map(size_t bytes) {
  char *base = gyre__os_map(GYRE__SEGMENT_SIZE, GYRE__SEGMENT_SIZE);
  if (base == NULL) return NULL;
  if (gyre__os_forbid(base + bytes, GYRE__SEGMENT_SIZE - bytes)) return base;
  gyre__os_unmap(base, GYRE__SEGMENT_SIZE);
  return NULL;
}

struct gyre__page *gyre__guard_take(struct gyre__heap *heap, size_t size, size_t alignment) {
  size_t bytes = gyre__os_whole_pages(size == 0 ? 1 : size);
  if (!gyre__memory_charge(bytes)) return NULL;
  char *base = space_map(bytes);
  struct gyre__segment *segment =
      base != NULL ? gyre__segment_make(heap, GYRE__SHAPE_HUGE, base) : NULL;
  if (segment == NULL) {
    if (base != NULL) gyre__os_unmap(base, GYRE__SEGMENT_SIZE);
    gyre__memory_uncharge(bytes);
    return NULL;
  }
  gyre__memory_mapped(GYRE__SEGMENT_SIZE);
  if (alignment < 16) alignment = 16;
  size_t room = (size + alignment - 1) & ~(alignment - 1);
  struct gyre__page *page = &segment->pages[0];
  page->segment = segment;
  page->large_base = base;
  page->large_bytes = bytes;
  page->start = base + bytes - room;
  memset(page->start + size, SLACK, room - size);
  return page;
}

void gyre__guard_close(struct gyre__page *page) {
  size_t size = page->large_usable, room = bytes_to_guard(page);
  const unsigned char *bytes = (const unsigned char *)page->start;
  for (size_t i = size; i < room; i++) {
    if (GYRE_UNLIKELY(bytes[i] != SLACK)) gyre__traced_report(page->start);
    GYRE_REQUIRE(bytes[i] == SLACK, "overrun: block %p of %zu bytes was written to at byte %zu",
                 (void *)page->start, size, i);
  }
  gyre__memory_uncharge(page->large_bytes);
  (void)gyre__os_forbid(page->large_base, page->large_bytes);
}

void gyre__guard_drop(struct gyre__page *page) {
  void *base = page->large_base;
  gyre__segment_unmake(page->segment);
  gyre__os_unmap(base, GYRE__SEGMENT_SIZE);
  gyre__memory_mapped(-GYRE__SEGMENT_SIZE);
}

#else

typedef int gyre__guard_is_off; /* a translation unit may not be empty */

#endif
