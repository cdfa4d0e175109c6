/* SPDX-License-Identifier: MIT */
/* Where memory comes from, if not from the system: one struct of functions that os_linux.c asks. */
#include <errno.h>
#include <string.h>

#include "lib/base/base.h"

struct gyre__source gyre__source;

void *gyre__source_map(size_t size, size_t alignment) {
  void *address = gyre__source.map(gyre__source.ctx, size, alignment);
  if (address == NULL) errno = ENOMEM;
  GYRE_REQUIRE((uintptr_t)address % alignment == 0,
               "the page source gave %p, which is not aligned to %zu", address, alignment);
  return address;
}

void gyre__source_unmap(void *address, size_t size) {
  int before = errno;
  gyre__source.unmap(gyre__source.ctx, address, size);
  errno = before;
}

bool gyre__source_purge(void *address, size_t size) {
  if (gyre__source.purge == NULL) return false;
  int before = errno;
  bool zero = gyre__source.purge(gyre__source.ctx, address, size) != 0;
  errno = before;
  return zero;
}

void *gyre__source_remap(void *address, size_t old_size, size_t new_size) {
  void *moved = gyre__source_map(new_size, gyre__os_page_size());
  if (moved == NULL) return NULL;
  memcpy(moved, address, old_size < new_size ? old_size : new_size);
  gyre__source_unmap(address, old_size);
  return moved;
}

size_t gyre__source_share(size_t whole, size_t least, size_t part, size_t item) {
  if (gyre__source.bound == 0) return whole;
  size_t count = gyre__source.bound / part / item;
  if (count < least) count = least;
  return count < whole ? count : whole;
}

/* ---- forgetting ---- */

/* Filled by constructors. */
static void (*forgetters[GYRE__FORGETTERS])(void);
static unsigned forgetter_count;

void gyre__forget_add(void (*forget)(void)) {
  GYRE_REQUIRE(forgetter_count < GYRE__FORGETTERS, "more than %d rooms forget", GYRE__FORGETTERS);
  forgetters[forgetter_count++] = forget;
}

void gyre__forget_all(void) {
  for (unsigned i = 0; i < forgetter_count; i++)
    forgetters[i]();
}
