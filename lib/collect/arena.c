/* SPDX-License-Identifier: MIT */
/* gyre_init_in(), its end, and figures in bytes. What an arena is: lib/heap/arena.c. */
#include <gyre/arena.h>

#include <errno.h>

#include "lib/collect/collect.h"
#include "lib/heap/traced.h"
#include "lib/object/type.h"

#define ARENA_MAX ((size_t)1 << 32)
/* A full collection is due when this part of the arena has come into use since the last. */
#define THRESHOLD_PART 4u

/* What the options were before. */
static struct { uint64_t gc_mode, mem_threshold, soft_limit; } before;

static void options_set(size_t bytes) {
  before.gc_mode = gyre__option(gc_mode);
  before.mem_threshold = gyre__option(mem_threshold);
  before.soft_limit = gyre__option(soft_limit);
  /* relaxed: settings. The container's memory is not what is scarce. */
  gyre__store_relaxed(&gyre__options.gc_mode, GYRE_GC_STW);
  gyre__store_relaxed(&gyre__options.soft_limit, 0);
  if (before.mem_threshold == 0) /* relaxed: as above. */
    gyre__store_relaxed(&gyre__options.mem_threshold, bytes / THRESHOLD_PART);
}

static void options_restore(void) {
  /* relaxed: settings. */
  gyre__store_relaxed(&gyre__options.gc_mode, before.gc_mode);
  gyre__store_relaxed(&gyre__options.mem_threshold, before.mem_threshold);
  gyre__store_relaxed(&gyre__options.soft_limit, before.soft_limit);
}

int gyre_init_in(void *buffer, size_t size) {
  if (buffer == NULL || size < GYRE_ARENA_MIN || size > ARENA_MAX) return -EINVAL;
  if (gyre__source_is_set() || gyre__thread_slot_count() != 0 || gyre__type_count() != 0)
    return -EBUSY;
  gyre__options_init();
  if (gyre__tracer_hooks.arena_begins != NULL) gyre__tracer_hooks.arena_begins();
  bool made = gyre__arena_begin(buffer, size) && gyre__set_reserve(size);
  options_set(size);
  int result = !made ? -EINVAL : gyre__thread_self() == NULL ? -EAGAIN : 0;
  if (result != 0) gyre__arena_leave();
  return result;
}

bool gyre__arena_is_in_use(struct gyre__objects *self) {
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= count; id++) {
    struct gyre__thread *slot = gyre__thread_slot(id);
    /* relaxed: the program promises that nobody comes or goes. */
    uint32_t state = gyre__load_relaxed(&slot->state) & GYRE__SLOT_STATE;
    if (slot != &self->heap.thread && state == GYRE__SLOT_PARKED) return true;
  }
  return false;
}

void gyre__arena_leave(void) {
  options_restore();
  gyre__arena_end();
  gyre__forget_all();
}

/* ---- figures ---- */

static struct gyre_heap_stats heap_stats(void) {
  struct gyre_heap_stats stats = {.size = sizeof stats};
  (void)gyre_heap_get_stats(&stats);
  return stats;
}

size_t gyre_mem_alloc(void) { return heap_stats().live_bytes; }

ptrdiff_t gyre_mem_free(void) {
  struct gyre_heap_stats stats = heap_stats();
  size_t in_pages =
      stats.committed_bytes > stats.live_bytes ? stats.committed_bytes - stats.live_bytes : 0;
  if (gyre__arena_on) return (ptrdiff_t)(gyre__arena_free_bytes() + in_pages);
  uint64_t limit = gyre__option(limit);
  if (limit == 0) return -ENOTSUP;
  return stats.live_bytes < limit ? (ptrdiff_t)(limit - stats.live_bytes) : 0;
}

ptrdiff_t gyre_mem_threshold(ptrdiff_t bytes) {
  gyre__options_init();
  if (bytes < 0) return (ptrdiff_t)gyre__option(mem_threshold);
  /* acq_rel: of two calls at once, one sees the other's; pairs with itself. */
  ptrdiff_t old = (ptrdiff_t)gyre__exchange_acq_rel(&gyre__options.mem_threshold, (uint64_t)bytes);
  gyre__memory_threshold_from_here();
  return old;
}
