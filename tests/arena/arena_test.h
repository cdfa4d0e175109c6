/* SPDX-License-Identifier: MIT */
/* What the arena's tests share: a buffer, and a test that begins and ends with the library in it. */
#ifndef GYRE_TESTS_ARENA_ARENA_TEST_H
#define GYRE_TESTS_ARENA_ARENA_TEST_H

#include <errno.h>
#include <string.h>

#include "tests/support/node.h"

#define MIB ((size_t)1 << 20)

/* As large as the largest test wants; tests begin wherever in it they like. */
extern char arena_memory[68 << 20];

/* The library in the first `size` bytes from `offset` on, which are dirty before. Automatic collection is
 * off. */
void arena_begin(size_t offset, size_t size);
/* Checks the heap and ends the use of the arena: nothing is alive any more, and nothing outside was
 * written to. */
void arena_end(void);
/* What arena_has() is to ask about, in a child that begins by itself. */
void arena_place(size_t offset, size_t size);
/* Is it in the present arena? */
bool arena_has(const void *address, size_t size);
/* A bit of everything, so many times; all of it must succeed, and lie in the arena, of which a thread needs
 * some 4 MiB. */
void arena_work(unsigned rounds);

#endif
