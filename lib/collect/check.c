/* SPDX-License-Identifier: MIT */
/* Checks of the whole heap, and the end of it: gyre_fini(). */
#include <errno.h>

#include "lib/collect/collect.h"
#include "lib/object/type.h"

/* ---- gyre__heap_check ---- */

static void check_header(gyre__header *h) {
  uint32_t id = gyre__header_type_id(h);
  GYRE_REQUIRE(id != 0 && id <= gyre__type_count(), "corrupted header at %p: type id %u", (void *)h,
               id);
  /* relaxed: the world is stopped. */
  uint32_t state = gyre__state_of(gyre__load_relaxed(&h->shared));
  uint32_t owner = gyre__load_relaxed(&h->owner);
  uint32_t local = gyre__load_relaxed(&h->local);
  if (owner == 0 || state == GYRE__IMMORTAL_STATE) return;
  const struct gyre__page *page = gyre__page_of(h);
  uint32_t page_owner = page->is_large ? 0 : gyre__page_heap(page)->thread.base.id;
  GYRE_REQUIRE(state != GYRE__MERGED, "corrupted header at %p: merged, but owned by %u", (void *)h,
               owner);
  GYRE_REQUIRE(owner == page_owner, "corrupted header at %p: owned by %u, in a page of %u",
               (void *)h, owner, page_owner);
  GYRE_REQUIRE(local > 0, "corrupted header at %p: owned by %u, which has no count", (void *)h,
               owner);
}

/* An object has at least as many counts as there are references to it from objects. */
static void check_count(gyre__header *h, uint32_t side) {
  ptrdiff_t count = gyre_refcount(gyre__object_of(h));
  ptrdiff_t edges = (ptrdiff_t)(side & GYRE__SIDE_EDGES);
  GYRE_REQUIRE(count >= edges, "corrupted count of %s at %p: %td, but %td objects refer to it",
               gyre__header_type(h)->name, gyre__object_of(h), count, edges);
}

static void check_objects(struct gyre__collection *c) {
  for (size_t p = 0; p < c->set.page_count; p++) {
    struct gyre__page *page = c->set.pages[p];
    for (uint32_t i = 0; i < page->scan; i++) {
      if (!(page->side[i] & GYRE__SIDE_MEMBER)) continue;
      gyre__header *h = (gyre__header *)gyre__page_block(page, i);
      check_header(h);
      check_count(h, page->side[i]);
    }
  }
}

/* Runs `body` over all objects, in a stopped world. -ENOMEM if there is no memory for that. */
static int with_all_objects(struct gyre__objects *self, void (*body)(struct gyre__collection *c)) {
  struct gyre__collection c = {
      .self = self, .generation = GYRE_GC_NGEN - 1, .everything = true, .leaves = true};
  gyre__collector_lock(self);
  gyre__heap_pin();
  gyre__world_stop(&self->heap.thread);
  bool gathered = gyre__set_gather(&c);
  if (gathered) {
    gyre__set_count_edges(&c);
    body(&c);
  }
  gyre__set_drop(&c);
  gyre__world_resume(&self->heap.thread);
  gyre__heap_unpin();
  gyre__collector_unlock(self);
  return gathered ? 0 : -ENOMEM;
}

static void check_all(struct gyre__collection *c) {
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= count; id++)
    gyre__heap_check_slot((struct gyre__heap *)gyre__thread_slot(id));
  check_objects(c);
}

void gyre__heap_check(void) {
  struct gyre__objects *self = gyre__objects_self();
  if (gyre__is_collecting(self)) return;
  gyre_safepoint();
  GYRE_REQUIRE(with_all_objects(self, check_all) == 0, "no memory for a heap check");
}

/* ---- gyre_fini ---- */

/* Live objects by type id, while leaks are counted; [0] is their sum. */
static uint64_t *leaks;

static void count_leaks(struct gyre__collection *c) {
  for (size_t p = 0; p < c->set.page_count; p++) {
    struct gyre__page *page = c->set.pages[p];
    for (uint32_t i = 0; i < page->scan; i++) {
      if (!(page->side[i] & GYRE__SIDE_MEMBER)) continue;
      gyre__header *h = (gyre__header *)gyre__page_block(page, i);
      if (gyre_is_immortal(gyre__object_of(h))) continue;
      leaks[gyre__header_type_id(h)]++;
      leaks[0]++;
    }
  }
}

void (*gyre__fini_report)(void);

static ptrdiff_t report_leaks(struct gyre__objects *self) {
  size_t bytes = (gyre__type_count() + 1) * sizeof *leaks;
  leaks = gyre__os_map(bytes, gyre__os_page_size());
  if (leaks == NULL) return -ENOMEM;
  ptrdiff_t alive = with_all_objects(self, count_leaks);
  if (alive == 0) alive = (ptrdiff_t)leaks[0];
  if (gyre__option(leaks))
    for (uint32_t id = 1; id <= gyre__type_count(); id++)
      if (leaks[id] > 0)
        gyre__log("leak: %llu of type %s still alive", (unsigned long long)leaks[id],
                  gyre__type(id)->name);
  if (gyre__option(leaks) && gyre__fini_report != NULL) gyre__fini_report();
  gyre__os_unmap(leaks, bytes);
  return alive;
}

static bool another_runs(struct gyre__thread *self) {
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= count; id++) {
    struct gyre__thread *slot = gyre__thread_slot(id);
    /* relaxed: the program promises that nobody starts. */
    if (slot != self && (gyre__load_relaxed(&slot->state) & GYRE__SLOT_STATE) == GYRE__SLOT_RUNNING)
      return true;
  }
  return false;
}

/* Finalizers of one collection may leave garbage to the next; a finalizer that always makes more is
 * not waited for. */
#define LAST_COLLECTIONS 10

/* What is on the list of garbage, or comes onto it now, is nobody's. Its cycles are leaks. */
static void garbage_drop(void) {
  ptrdiff_t count = gyre_gc_garbage_count();
  if (count == 0) return;
  gyre__log("gc: %td uncollectable objects at shutdown", count);
  (void)gyre_gc_clear_garbage();
}

/* What was given to gyre_defer(): no other thread runs, so the grace period is over at once. */
static void deferred_finish(struct gyre__objects *self) {
  (void)gyre_synchronize();
  gyre_safepoint();
  gyre__release_all(self);
}

ptrdiff_t gyre_fini(void) {
  struct gyre__objects *self = (struct gyre__objects *)gyre__thread_self();
  if (self == NULL) return -errno;
  gyre__service_close(true);
  gyre_service_stop();
  if (another_runs(&self->heap.thread) || (gyre__arena_on && gyre__arena_is_in_use(self))) {
    gyre__service_close(false);
    return -EBUSY;
  }
  gyre__finalize_all();
  gyre__unfreeze_all();
  garbage_drop();
  (void)gyre_run_pending(SIZE_MAX);
  gyre_safepoint();
  gyre__release_all(self);
  deferred_finish(self);
  for (int i = 0; i < LAST_COLLECTIONS; i++)
    if (gyre__collect(self, GYRE_GC_NGEN - 1, GYRE__REASON_SHUTDOWN, true) <= 0) break;
  gyre__release_all(self);
  garbage_drop();
  deferred_finish(self);
  gyre__limbo_free_idle(self);
  ptrdiff_t alive = report_leaks(self);
  gyre_purge();
  gyre_thread_detach();
  if (gyre__arena_on) gyre__arena_leave();
  gyre__service_close(false);
  return alive;
}
