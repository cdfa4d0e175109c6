/* SPDX-License-Identifier: MIT */
/* The notes of annotate.h, in the words of AddressSanitizer and of memcheck.
 *
 * memcheck also looks for leaks: it takes every word of the process's mappings for a pointer, pages'
 * metadata included, but not the memory of the system's malloc, which under Valgrind is its own. So watch.c
 * does not hand out a page's first block, whose address the metadata holds, and large blocks come from
 * malloc there (option "large"): memcheck leaves out the blocks that we have from malloc once it has been
 * told of one inside. What it cannot tell: whether a block that only other blocks refer to is reachable,
 * because those lie in a mapping too. A list that is lost shows as its first block.
 */
#include "lib/heap/annotate.h"

#if GYRE__ANNOTATED

#include "lib/base/check.h"

/* The last word of a raw block: what was asked for. */
static gyre__link_word *size_word(const void *block, size_t room) {
  return (gyre__link_word *)(void *)((uintptr_t)block + room - sizeof(gyre__link_word));
}

/* In free blocks: no size, and the pattern that quarantine.c looks for. */
#define NOT_OUT UINT64_C(0xDDDDDDDDDDDDDDDD)

size_t gyre__note_size(const void *block, size_t room) {
  uint64_t size = gyre__word_get(size_word(block, room));
  GYRE_REQUIRE(size <= room - GYRE__REDZONE,
               "double free: block %p, which can hold %zu bytes (or its end was overwritten)",
               block, room - GYRE__REDZONE);
  return (size_t)size;
}

#if defined(GYRE_VALGRIND)

#include <valgrind/memcheck.h>

uint64_t gyre__word_get(const gyre__link_word *word) {
  VALGRIND_MAKE_MEM_DEFINED(word, sizeof *word);
  uint64_t value = *word;
  VALGRIND_MAKE_MEM_NOACCESS(word, sizeof *word);
  return value;
}

void gyre__word_set(gyre__link_word *word, uint64_t value) {
  VALGRIND_MAKE_MEM_DEFINED(word, sizeof *word);
  *word = value;
  VALGRIND_MAKE_MEM_NOACCESS(word, sizeof *word);
}

void gyre__note_nobody(void *start, size_t size) { VALGRIND_MAKE_MEM_NOACCESS(start, size); }

/* Mapping and unmapping say the rest. */
void gyre__note_given_back(void *start, size_t size) { VALGRIND_MAKE_MEM_DEFINED(start, size); }

void gyre__note_open(void *start, size_t size) { VALGRIND_MAKE_MEM_DEFINED(start, size); }

void gyre__note_out(void *block, size_t room, size_t size, bool zeroed) {
  gyre__note_nobody(block, room);
  gyre__word_set(size_word(block, room), size);
  VALGRIND_MALLOCLIKE_BLOCK(block, size, GYRE__REDZONE, zeroed);
}

void gyre__note_close(void *block, size_t room, size_t size) {
  gyre__word_set(size_word(block, room), size);
  gyre__note_nobody((char *)block + size, room - size);
}

void gyre__note_resized(void *block, size_t size, void *moved, size_t room, size_t new_size) {
  if (moved == block && new_size != 0) { /* memcheck does not resize to nothing */
    VALGRIND_RESIZEINPLACE_BLOCK(block, size, new_size, GYRE__REDZONE);
    gyre__note_close(block, room, new_size);
  } else {
    VALGRIND_FREELIKE_BLOCK(block, GYRE__REDZONE);
    gyre__note_out(moved, room, new_size, true);
  }
}

void gyre__note_in(void *block, size_t room) {
  gyre__word_set(size_word(block, room), NOT_OUT);
  VALGRIND_FREELIKE_BLOCK(block, GYRE__REDZONE);
  gyre__note_nobody(block, room);
}

void gyre__note_object_out(void *block, size_t room) {
  VALGRIND_MAKE_MEM_UNDEFINED((char *)block + GYRE_HEADER_SIZE, room - GYRE_HEADER_SIZE);
}

#else

#include <sanitizer/asan_interface.h>

/* What one call poisons at most: a huge block may be of any size, and most of it never touched. */
#define POISONED_MOST ((size_t)64 << 20)

__attribute__((no_sanitize_address)) uint64_t gyre__word_get(const gyre__link_word *word) {
  return *word;
}

__attribute__((no_sanitize_address)) void gyre__word_set(gyre__link_word *word, uint64_t value) {
  *word = value;
}

void gyre__note_nobody(void *start, size_t size) {
  __asan_poison_memory_region(start, size < POISONED_MOST ? size : POISONED_MOST);
}

void gyre__note_given_back(void *start, size_t size) { __asan_unpoison_memory_region(start, size); }

void gyre__note_open(void *start, size_t size) { __asan_unpoison_memory_region(start, size); }

void gyre__note_out(void *block, size_t room, size_t size, bool zeroed) {
  (void)zeroed;
  gyre__note_open(block, size);
  gyre__note_close(block, room, size);
}

void gyre__note_close(void *block, size_t room, size_t size) {
  gyre__word_set(size_word(block, room), size);
  gyre__note_nobody((char *)block + size, room - size);
}

void gyre__note_resized(void *block, size_t size, void *moved, size_t room, size_t new_size) {
  (void)block, (void)size;
  gyre__note_out(moved, room, new_size, true);
}

void gyre__note_in(void *block, size_t room) {
  gyre__word_set(size_word(block, room), NOT_OUT);
  gyre__note_nobody(block, room);
}

void gyre__note_object_out(void *block, size_t room) {
  gyre__note_open((char *)block + GYRE_HEADER_SIZE, room - GYRE_HEADER_SIZE);
}

#endif

void gyre__note_object_in(void *block, size_t room) {
  gyre__note_nobody((char *)block + GYRE_HEADER_SIZE, room - GYRE_HEADER_SIZE);
}

#else

typedef int gyre__annotate_is_off; /* a translation unit may not be empty */

#endif
