/* SPDX-License-Identifier: MIT */
/* The memory that all heaps together have from the system, the limit on it, and what is tried when
 * there is no more: first what this thread keeps for itself, then what others keep, then the
 * collector, then the program.
 */
#include <string.h>

#include "lib/base/probe.h"
#include "lib/heap/hook.h"
#include "lib/heap/page.h"

struct gyre__memory gyre__memory;

static void peak_raise(size_t now) {
  /* relaxed: a maximum for statistics; partner: itself in other threads. */
  size_t peak = gyre__load_relaxed(&gyre__memory.peak_bytes);
  /* relaxed: as above. */
  while (now > peak && !gyre__cas_weak_relaxed(&gyre__memory.peak_bytes, &peak, now)) {
  }
}

bool gyre__memory_charge(size_t bytes) {
  uint64_t limit = gyre__option(limit);
  /* relaxed: a figure; a read-modify-write loses nothing, and the limit is kept without regard to
   * order. Partners: itself in other threads, gyre__memory_uncharge(). */
  size_t before = gyre__fetch_add_relaxed(&gyre__memory.committed_bytes, bytes);
  if (GYRE_LIKELY(limit == 0 || (before <= limit && bytes <= limit - before))) {
    peak_raise(before + bytes);
    return true;
  }
  gyre__memory_uncharge(bytes);
  return false;
}

void gyre__memory_uncharge(size_t bytes) {
  /* relaxed: as in gyre__memory_charge(). */
  gyre__fetch_sub_relaxed(&gyre__memory.committed_bytes, bytes);
}

void gyre__memory_purged(size_t bytes) {
  GYRE_PROBE1(purge, bytes);
  /* relaxed: statistics. */
  gyre__fetch_add_relaxed(&gyre__memory.purged_bytes, bytes);
  gyre__memory_uncharge(bytes);
}

void gyre__memory_mapped(size_t bytes) {
  /* relaxed: statistics; the change may be negative. */
  gyre__fetch_add_relaxed(&gyre__memory.mapped_bytes, bytes);
}

void gyre__memory_metadata(size_t bytes) {
  /* relaxed: statistics; the change may be negative. */
  gyre__fetch_add_relaxed(&gyre__memory.metadata_bytes, bytes);
}

void *gyre__memory_table_grow(void *table, size_t *room, size_t item_size) {
  size_t old = *room * item_size, bytes = *room == 0 ? 512 * item_size : 2 * old;
  void *grown = gyre__os_map(bytes, gyre__os_page_size());
  if (grown == NULL) return NULL;
  if (table != NULL) {
    memcpy(grown, table, old);
    gyre__os_unmap(table, old);
  }
  gyre__memory_metadata(bytes - old);
  *room = bytes / item_size;
  return grown;
}

void gyre__memory_table_drop(void *table, size_t room, size_t item_size) {
  gyre__os_unmap(table, room * item_size);
  gyre__memory_metadata(-(room * item_size));
}

size_t gyre__heap_used_bytes(void) {
  /* relaxed: a figure. */
  return gyre__load_relaxed(&gyre__memory.committed_bytes);
}

/* ---- the byte threshold ---- */

/* What was in use when the last full collection was over, or the threshold was set. Written by the
 * collector, read by anyone: a figure. */
static gyre__atomic_size threshold_mark;

/* Bytes in pages and large blocks that are in use, of all heaps together. Sums over the slots. */
static size_t active_bytes(void) {
  /* relaxed: figures, all of them. */
  size_t kept = gyre__load_relaxed(&gyre__memory.reserve_bytes);
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= count; id++) {
    struct gyre__heap *heap = (struct gyre__heap *)gyre__thread_slot(id);
    /* relaxed: as above. */
    kept += gyre__load_relaxed(&heap->cached_bytes);
    kept += gyre__load_relaxed(&heap->span_dirty_bytes);
  }
  size_t used = gyre__heap_used_bytes();
  return used > kept ? used - kept : 0;
}

void gyre__memory_threshold_from_here(void) {
  if (gyre__option(mem_threshold) == 0) return;
  /* relaxed: a figure. */
  gyre__store_relaxed(&threshold_mark, active_bytes());
}

bool gyre__memory_threshold_is_reached(void) {
  uint64_t threshold = gyre__option(mem_threshold);
  if (GYRE_LIKELY(threshold == 0)) return false;
  /* relaxed: a figure. */
  size_t mark = gyre__load_relaxed(&threshold_mark), active = active_bytes();
  if (active < mark) { /* what was freed since then is not new when it comes back */
    gyre__store_relaxed(&threshold_mark, active); /* relaxed: as above. */
    return false;
  }
  return active - mark >= threshold;
}

void gyre__memory_threshold_look(struct gyre__heap *self) {
  if (gyre__memory_threshold_is_reached()) gyre__thread_request(&self->thread, GYRE__REQ_COLLECT);
}

/* ---- the limit ---- */

void gyre_heap_set_limit(size_t bytes) {
  uint64_t limit = bytes;
  (void)gyre__option_store(&gyre__options.limit, &limit, 1);
}

size_t gyre_heap_get_limit(void) {
  gyre__options_init();
  return (size_t)gyre__option(limit);
}

/* ---- out of memory ---- */

bool (*gyre__heap_reclaim)(struct gyre__heap *self);

/* The program's handler. The lock is innermost and not held while the handler runs. */
static gyre__lock handler_lock;
static gyre_oom_handler *handler_function;
static void *handler_arg;

void gyre_set_oom_handler(gyre_oom_handler *handler, void *arg) {
  gyre__lock_take(&handler_lock);
  handler_function = handler;
  handler_arg = arg;
  gyre__lock_give(&handler_lock);
}

static bool ask_program(size_t size) {
  gyre__lock_take(&handler_lock);
  gyre_oom_handler *handler = handler_function;
  void *arg = handler_arg;
  gyre__lock_give(&handler_lock);
  return handler != NULL && handler(size, arg) != 0;
}

/* Program code and the collector may allocate in turn: that must not lead here again. */
static bool ask_rooms_above(struct gyre__heap *self) {
  return gyre__heap_reclaim != NULL && gyre__heap_reclaim(self);
}

bool gyre__memory_make_room(struct gyre__heap *self, size_t size, unsigned *step) {
  enum { OWN, OTHERS, COLLECT, PROGRAM };
  bool again = false;
  if (*step == OWN) {
    ++*step;
    gyre__fence_flush();
    gyre__purge_heap(self);
    return true;
  }
  if (*step == OTHERS) {
    ++*step;
    gyre__purge_others(self);
    return true;
  }
  if (self->in_oom_handler) return false;
  self->in_oom_handler = true;
  if (*step == COLLECT) {
    ++*step;
    again = ask_rooms_above(self);
  }
  if (!again) again = ask_program(size);
  self->in_oom_handler = false;
  /* What was freed may have left its memory with a heap. */
  if (again) gyre__purge_heap(self);
  return again;
}

/* ---- the end of an arena ---- */

static void forget(void) {
  memset(&gyre__memory, 0, sizeof gyre__memory);
  /* relaxed: a figure. */
  gyre__store_relaxed(&threshold_mark, 0);
}

static void __attribute__((constructor)) memory_init(void) { gyre__forget_add(forget); }

/* ---- fork ---- */

void gyre__memory_fork_prepare(void) { gyre__lock_take(&handler_lock); }
void gyre__memory_fork_parent(void) { gyre__lock_give(&handler_lock); }
void gyre__memory_fork_child(void) { gyre__lock_reset(&handler_lock); }
