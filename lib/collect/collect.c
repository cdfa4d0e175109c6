/* SPDX-License-Identifier: MIT */
/* A collection, from beginning to end, in a stopped world.
 *
 *     start callbacks
 *       stop the world
 *         gather the candidates                  set.c; the only step that needs memory
 *         count their edges, mark the live       set.c; what is left is dead
 *         age the survivors                      generations
 *         [finalizers to run: hold the dead]
 *         [none: clear weak references]
 *       resume the world
 *       [run the finalizers of all the dead, then
 *       stop the world
 *         count and mark again, among the dead   who was brought back, and what that reaches, lives
 *         clear the weak references of the rest
 *       resume the world]
 *       call weak callbacks
 *       free                                     dead.c
 *     stop callbacks
 *
 * So every object dies in the same order as by its count (gyre/weak.h): its finalizer first, then
 * the question whether it is still dead, then its weak references all at once, their callbacks, its
 * references, its memory. No program code but `visit` runs while the others wait. Finalizers run
 * over the whole set before anything in it is touched (PEP 442), and each once: the object's bit
 * says whether.
 *
 * "Dead stays dead": once the world runs again, no thread can reach a dead object. None holds a
 * count (its counts all come from the dead), none has a pointer read before the stop (every
 * operation was complete), and weak references were cleared before the resume. Finalizers are the
 * exception, and the reason for the second look.
 *
 * Objects whose count has fallen to 0 and that wait in some thread's cascade are no members, and
 * what they refer to counts as referred to from outside. Objects queued for a merge count as live.
 *
 * The phases are functions over a set of suspects, so that a collection beside the running program
 * is the same phases with handshakes between them.
 *
 * One collection at a time: `collector_lock` is held from the first callback to the last. Program
 * code that it runs may call anything; gyre_gc_collect() from there returns 0 at once. It must not
 * wait for another thread that collects.
 */
#include "lib/collect/collect.h"

#include <errno.h>
#include <string.h>

/* Held for as long as a collection takes; the holder's is_collecting is set. */
static gyre__lock collector_lock;

bool gyre__is_collecting(const struct gyre__objects *self) {
  return self->heap.thread.is_collecting;
}

/* ---- the phases ---- */

/* Among the candidates, or the suspects that are left: who is dead? */
static void find_dead(struct gyre__collection *c, bool discover) {
  gyre__set_count_edges(c, discover);
  gyre__set_mark_live(c);
  gyre__set_survey(c);
}

static void condemn(struct gyre__collection *c) {
  if (c->has_weak) gyre__dead_clear_weak(c);
  if (c->has_clear) gyre__dead_hold(c);
}

/* The first stop. False if there is no memory; nothing has changed then. */
static bool first_look(struct gyre__collection *c) {
  if (!gyre__set_gather(c)) return false;
  find_dead(c, true);
  c->candidates = c->members;
  gyre__set_age_pages(c);
  gyre__generation_collected(c->generation, c->survivors);
  if (c->finalizable > 0)
    gyre__dead_hold(c);
  else if (c->dead > 0)
    condemn(c);
  return true;
}

/* The second: some may have been brought back. */
static void second_look(struct gyre__collection *c) {
  gyre__set_keep_dead(c);
  find_dead(c, false);
  c->resurrected = c->survivors;
  gyre__dead_unhold(c);
  condemn(c);
}

static void stop(struct gyre__collection *c, uint64_t *began_ns) {
  *began_ns = gyre__clock_ns();
  gyre__world_stop(&c->self->heap.thread);
}

static void resume(struct gyre__collection *c, uint64_t began_ns) {
  gyre__world_resume(&c->self->heap.thread);
  gyre__stats_pause(c->generation, gyre__clock_ns() - began_ns);
}

static ptrdiff_t collect(struct gyre__collection *c) {
  uint64_t began;
  stop(c, &began);
  bool enough_memory = first_look(c);
  resume(c, began);
  if (!enough_memory) return -ENOMEM;
  if (c->finalizable > 0) {
    gyre__dead_finalize(c);
    stop(c, &began);
    second_look(c);
    resume(c, began);
  }
  if (c->dead > 0) {
    gyre__weak_run(c->self, &c->weak);
    gyre__dead_free(c);
  }
  return (ptrdiff_t)c->dead;
}

void gyre__collector_lock(struct gyre__objects *self) {
  gyre__lock_parked(&self->heap.thread, &collector_lock);
  self->heap.thread.is_collecting = true;
}

void gyre__collector_unlock(struct gyre__objects *self) {
  self->heap.thread.is_collecting = false;
  gyre__lock_give(&collector_lock);
}

ptrdiff_t gyre__collect(struct gyre__objects *self, int generation, bool wait, bool quiet) {
  if (gyre__is_collecting(self)) return 0;
  if (!wait) {
    if (!gyre__lock_try(&collector_lock)) return -EBUSY;
    self->heap.thread.is_collecting = true;
  } else {
    gyre__collector_lock(self);
  }
  /* Cancelled in a finalizer, a callback or a hook, we would leave the lock held and the dead half
   * dead. */
  int cancel = gyre__cancel_put_off();
  struct gyre__collection c = {.self = self, .generation = generation, .quiet = quiet};
  c.started_ns = gyre__clock_ns();
  gyre__callbacks_run(&c, GYRE_GC_START, 0);
  gyre__heap_pin();
  ptrdiff_t result = collect(&c);
  gyre__set_drop(&c);
  gyre__heap_unpin();
  uint64_t duration = gyre__clock_ns() - c.started_ns;
  if (result >= 0) gyre__stats_collected(&c, duration);
  gyre__callbacks_run(&c, GYRE_GC_STOP, duration);
  gyre__collector_unlock(self);
  gyre__cancel_restore(cancel);
  return result;
}

ptrdiff_t gyre_gc_collect(int generation) {
  if (generation < 0 || generation >= GYRE_GC_NGEN) return -EINVAL;
  struct gyre__objects *self = (struct gyre__objects *)gyre__thread_self();
  if (self == NULL) return -EAGAIN;
  GYRE_REQUIRE(self->heap.thread.park_depth == 0, "gyre_gc_collect in a parked thread");
  if (gyre__is_collecting(self)) return 0;
  gyre_safepoint();
  gyre__release_all(self);
  return gyre__collect(self, generation, true, false);
}

/* ---- out of memory, fork ---- */

/* The heap has no memory, and the program allows a collection inside an allocation. */
static bool reclaim(struct gyre__heap *heap) {
  struct gyre__objects *self = (struct gyre__objects *)heap;
  if (!gyre__option(alloc_is_safepoint) || gyre__is_collecting(self) || self->in_cascade)
    return false;
  return gyre__collect(self, GYRE_GC_NGEN - 1, true, false) > 0;
}

static bool collecting_here(void) {
  struct gyre__objects *self = (struct gyre__objects *)gyre__thread_current();
  return self != NULL && gyre__is_collecting(self);
}

static void fork_before_stop(void) {
  if (!collecting_here()) gyre__lock_parked(gyre__thread_current(), &collector_lock);
}

static void fork_prepare(void) {
  gyre__callbacks_fork_prepare();
  gyre__stats_fork_prepare();
}

static void fork_parent(void) {
  gyre__stats_fork_parent();
  gyre__callbacks_fork_parent();
}

static void fork_parent_resumed(void) {
  if (!collecting_here()) gyre__lock_give(&collector_lock);
}

static void fork_child(void) {
  gyre__stats_fork_child();
  gyre__callbacks_fork_child();
  if (!collecting_here()) gyre__lock_reset(&collector_lock);
}

static void __attribute__((constructor)) collect_init(void) {
  gyre__heap_reclaim = reclaim;
  gyre__thread_hooks.fork_before_stop = fork_before_stop;
  gyre__thread_hooks.fork_prepare[3] = fork_prepare;
  gyre__thread_hooks.fork_parent[3] = fork_parent;
  gyre__thread_hooks.fork_parent_resumed = fork_parent_resumed;
  gyre__thread_hooks.fork_child[3] = fork_child;
}
