/* SPDX-License-Identifier: MIT */
/* Debug builds: every block that is free carries a mark of its own in the word behind its link. A
 * mark that is there when a block comes back means that it is free already; a mark that is not
 * there when a block goes out means that somebody wrote to it after freeing it. A program that
 * happens to write just that word into a block is not foreseen. With option "poison", fresh raw
 * blocks are filled with 0xCD and freed ones with 0xDD.
 */
#ifdef GYRE_DEBUG

#include <string.h>

#include "lib/heap/page.h"
#include "lib/heap/traced.h"

static gyre__link_word *mark_of(const void *block, enum gyre__kind kind) {
  return gyre__link_at(block, kind) + 1;
}

uint64_t gyre__debug_mark(const void *block) {
  return (uint64_t)(uintptr_t)block * UINT64_C(0x9E3779B97F4A7C15) ^ UINT64_C(0x67797265F7EEB10C);
}

void gyre__debug_block_made(void *block, enum gyre__kind kind) {
  gyre__word_set(mark_of(block, kind), gyre__debug_mark(block));
}

void gyre__debug_block_out(const struct gyre__page *page, void *block) {
  enum gyre__kind kind = (enum gyre__kind)page->kind;
  if (!page->is_large) {
    gyre__link_word *mark = mark_of(block, kind);
    if (GYRE_UNLIKELY(*mark != gyre__debug_mark(block))) gyre__traced_report(block);
    GYRE_REQUIRE(*mark == gyre__debug_mark(block),
                 "corrupted: block %p of %u bytes was written to after it was freed", block,
                 page->block_size);
    *mark = 0;
  }
  if (kind == GYRE__RAW && gyre__option(poison) != 0)
    memset(block, GYRE__FRESH, gyre__page_usable(page));
}

void gyre__debug_block_check(const struct gyre__page *page, void *block, enum gyre__kind kind) {
  GYRE_REQUIRE(page->state == GYRE__PAGE_USED && page->kind == kind,
               "invalid pointer: %p is in a page of another kind or of none", block);
  uint32_t index = gyre__page_index(page, block);
  GYRE_REQUIRE(index < page->reserved && gyre__page_block(page, index) == block,
               "invalid pointer: %p is not the start of a block", block);
  bool is_free = gyre__word_get(mark_of(block, kind)) == gyre__debug_mark(block);
  if (GYRE_UNLIKELY(is_free)) gyre__traced_report(block);
  GYRE_REQUIRE(!is_free, "double free: block %p of %u bytes", block, page->block_size);
}

void gyre__debug_block_in(const struct gyre__page *page, void *block, enum gyre__kind kind) {
  if (gyre__option(poison) != 0) {
    /* Past link and mark: the link may be in use already (gyre__heap_free_chain()). */
    size_t keep = GYRE__LINK_OFFSET(kind) + sizeof(void *) + sizeof(uint64_t);
    memset((char *)block + keep, GYRE__FREED, page->block_size - keep);
  }
  gyre__word_set(mark_of(block, kind), gyre__debug_mark(block));
}

#else

typedef int gyre__debug_is_off; /* a translation unit may not be empty */

#endif
