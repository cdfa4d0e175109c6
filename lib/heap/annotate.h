/* SPDX-License-Identifier: MIT */
/* What AddressSanitizer and Valgrind's memcheck are told about blocks, in builds for them: with
 * -fsanitize=address, or with GYRE_VALGRIND (--config=valgrind). In all others nothing is left of it.
 *
 *                     note_nobody              raw: note_out        objects: note_object_out
 *     fresh memory ---------------> nobody's ------------------> handed out (the bytes asked for)
 *                                       ^------- note_in --------/   objects: note_object_in
 *
 * What is nobody's may not be touched by the program, nor by us: the link words of free blocks, and debug
 * builds' marks behind them, are read and written with gyre__word_get() and gyre__word_set(), which nobody
 * watches. Headers of blocks in object pages stay accessible once their page is linked, because late
 * readers look at them.
 *
 * A raw block is GYRE__REDZONE bytes larger than what was asked for, so that an overrun is seen whatever
 * the size is; the last word of them holds what was asked for. (gyre_usable_size() then is just that.)
 * Objects have no redzone: they end where their block ends.
 */
#ifndef GYRE_LIB_HEAP_ANNOTATE_H
#define GYRE_LIB_HEAP_ANNOTATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gyre/heap.h>

/* 1 in builds that look at every block: debug builds, too (watch.c). */
#if defined(GYRE_DEBUG) || GYRE__ANNOTATED
#define GYRE__WATCHED 1
#else
#define GYRE__WATCHED 0
#endif

/* 1 if the inline paths of the public headers are off: fault injection wants to see allocations, too. */
#if GYRE__WATCHED || defined(GYRE_WINDOWS)
#define GYRE__INLINE_OFF 1
#else
#define GYRE__INLINE_OFF 0
#endif

#if GYRE__ANNOTATED

#define GYRE__REDZONE 16u

/* A word of memory that is nobody's. */
uint64_t gyre__word_get(const gyre__link_word *word);
void gyre__word_set(gyre__link_word *word, uint64_t value);

/* Memory that we hold, or hold again. */
void gyre__note_nobody(void *start, size_t size);
/* It is about to leave us: nothing is known of it. */
void gyre__note_given_back(void *start, size_t size);
/* Memory that is nobody's and that we are going to fill or look at; or the end of a raw block. */
void gyre__note_open(void *start, size_t size);
/* A raw block of `room` bytes, redzone included, is handed out for `size`. `zeroed`: it holds what it is
 * to hold. */
void gyre__note_out(void *block, size_t room, size_t size, bool zeroed);
/* It keeps its size, after gyre__note_open() of its end. */
void gyre__note_close(void *block, size_t room, size_t size);
/* Its size has changed from `size` to `new_size`; it may have moved, with its contents. */
void gyre__note_resized(void *block, size_t size, void *moved, size_t room, size_t new_size);
/* It is free. */
void gyre__note_in(void *block, size_t room);
/* What the block was handed out for; aborts if it is free or overwritten. */
size_t gyre__note_size(const void *block, size_t room);
/* A block of an object kind; its header is left alone. */
void gyre__note_object_out(void *block, size_t room);
void gyre__note_object_in(void *block, size_t room);

#else

#define GYRE__REDZONE 0u

GYRE_INLINE uint64_t gyre__word_get(const gyre__link_word *word) { return *word; }
GYRE_INLINE void gyre__word_set(gyre__link_word *word, uint64_t value) { *word = value; }

GYRE_INLINE void gyre__note_nobody(void *start, size_t size) { (void)start, (void)size; }
GYRE_INLINE void gyre__note_given_back(void *start, size_t size) { (void)start, (void)size; }
GYRE_INLINE void gyre__note_open(void *start, size_t size) { (void)start, (void)size; }
GYRE_INLINE void gyre__note_out(void *block, size_t room, size_t size, bool zeroed) {
  (void)block, (void)room, (void)size, (void)zeroed;
}
GYRE_INLINE void gyre__note_close(void *block, size_t room, size_t size) {
  (void)block, (void)room, (void)size;
}
GYRE_INLINE void gyre__note_resized(void *block, size_t size, void *moved, size_t room,
                                    size_t new_size) {
  (void)block, (void)size, (void)moved, (void)room, (void)new_size;
}
GYRE_INLINE void gyre__note_in(void *block, size_t room) { (void)block, (void)room; }
GYRE_INLINE size_t gyre__note_size(const void *block, size_t room) {
  (void)block;
  return room;
}
GYRE_INLINE void gyre__note_object_out(void *block, size_t room) { (void)block, (void)room; }
GYRE_INLINE void gyre__note_object_in(void *block, size_t room) { (void)block, (void)room; }

#endif

#endif
