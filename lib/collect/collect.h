/* SPDX-License-Identifier: MIT */
/* Inside lib/collect: a collection, its set of objects, and the phases over it. */
#ifndef GYRE_LIB_COLLECT_COLLECT_H
#define GYRE_LIB_COLLECT_COLLECT_H

#include <gyre/gc.h>

#include "lib/object/object.h"
#include "lib/weak/weak.h"

/* The set of a collection: at first the candidates, then the suspects among them, then what of
 * those is dead. A word for each block of the pages that hold candidates (page->side) says what is
 * known of the object in it. */
#define GYRE__SIDE_LIVE (1u << 31)        /* reachable from outside the set */
#define GYRE__SIDE_PENDING (1u << 30)     /* live, and its references are still to be followed */
#define GYRE__SIDE_MEMBER (1u << 29)      /* in the set */
#define GYRE__SIDE_EDGES ((1u << 29) - 1) /* references to it from members; sticks at the maximum */

/* A member is dead when it is not live. */
GYRE_INLINE bool gyre__side_is_dead(uint32_t side) {
  return (side & (GYRE__SIDE_MEMBER | GYRE__SIDE_LIVE)) == GYRE__SIDE_MEMBER;
}

#define GYRE__MARK_STACK 65536

/* A live object whose references are still to be followed, and its page. */
struct gyre__marked {
  gyre__header *h;
  struct gyre__page *page;
};

struct gyre__set {
  struct gyre__page **pages;
  size_t page_count;
  /* Memory for pages and side words, one mapping. */
  void *memory;
  size_t memory_bytes;
  /* Objects to be marked from. When it is full, PENDING in the side words stands for what does not
   * fit. */
  struct gyre__marked *stack;
  size_t stack_count;
  bool overflow;
};

struct gyre__collection {
  struct gyre__objects *self;
  int generation;
  bool quiet;  /* no gc callbacks: gyre_fini() */
  bool leaves; /* leaf objects too: reports and checks only */
  struct gyre__set set;
  struct gyre__weak_pending weak;
  /* What was found. */
  uint64_t candidates; /* members at first */
  uint64_t members;
  uint64_t survivors; /* of those, live */
  uint64_t dead;
  uint64_t finalizable;
  bool has_weak;  /* a dead object has weak references */
  bool has_clear; /* a dead object's type has a clear hook */
  bool held;      /* dead objects carry one more count: the collection's own */
  /* What was done. */
  uint64_t finalized;
  uint64_t resurrected;
  uint64_t freed_bytes;
  uint64_t started_ns;
};

/* ---- set.c: world stopped ---- */

/* Fills the set with the candidates of the collection's generation: pages and zeroed side words.
 * False if there is no memory; nothing has changed then. */
bool gyre__set_gather(struct gyre__collection *c);
/* Counts, for every member, the references to it that members hold. With `discover`, first makes
 * members of all candidates in the set's pages. */
void gyre__set_count_edges(struct gyre__collection *c, bool discover);
/* Marks what is referred to from outside the set, and all that is reachable from there inside it.
 * Survivors of the first marking are a generation older afterwards. */
void gyre__set_mark_live(struct gyre__collection *c);
/* Takes the live members out of the set and forgets the counted edges: what remains are suspects to
 * be looked at again. */
void gyre__set_keep_dead(struct gyre__collection *c);
/* Counts the dead, and finds out whether any has a finalizer to run, weak references or a clear
 * hook. */
void gyre__set_survey(struct gyre__collection *c);
/* Takes the pages out of the set. World stopped or running. */
void gyre__set_drop(struct gyre__collection *c);
/* Puts each slot's list of recent pages right after the objects in them have aged. */
void gyre__set_age_pages(struct gyre__collection *c);

/* ---- dead.c ---- */

/* Gives every member a count of the collection's own, and takes it off again. World stopped. */
void gyre__dead_hold(struct gyre__collection *c);
void gyre__dead_unhold(struct gyre__collection *c);
/* Runs the finalizers of the members. World running. */
void gyre__dead_finalize(struct gyre__collection *c);
/* Makes the weak references of the dead dead. World stopped. */
void gyre__dead_clear_weak(struct gyre__collection *c);
/* Drops what leads out of the set, and frees. World running. */
void gyre__dead_free(struct gyre__collection *c);

/* ---- generation.c ---- */

/* The generation that an automatic collection should collect now, or -1. */
int gyre__generation_due(void);
/* Called in the stopped world: the counts start anew. `survivors`: of this collection. */
void gyre__generation_collected(int generation, uint64_t survivors);

/* ---- stats.c, callback.c ---- */

void gyre__stats_pause(int generation, uint64_t ns);
void gyre__stats_collected(const struct gyre__collection *c, uint64_t duration_ns);
void gyre__callbacks_run(const struct gyre__collection *c, enum gyre_gc_phase phase,
                         uint64_t duration_ns);

/* ---- collect.c ---- */

/* Collects; what gyre_gc_collect() returns. `wait`: for a collection that is under way in another
 * thread, else -EBUSY. */
ptrdiff_t gyre__collect(struct gyre__objects *self, int generation, bool wait, bool quiet);

void gyre__callbacks_fork_prepare(void);
void gyre__callbacks_fork_parent(void);
void gyre__callbacks_fork_child(void);
void gyre__stats_fork_prepare(void);
void gyre__stats_fork_parent(void);
void gyre__stats_fork_child(void);

/* Does this thread collect, or check the heap, further up its stack? */
bool gyre__is_collecting(const struct gyre__objects *self);
/* Keeps collections away; waits, parked, for one that is under way in another thread. */
void gyre__collector_lock(struct gyre__objects *self);
void gyre__collector_unlock(struct gyre__objects *self);

/* ---- check.c ---- */

/* Stops the world and verifies the whole heap: every slot's pages, every object's header, and that
 * no object has fewer counts than references from other objects. Aborts with a message otherwise.
 * Cannot check: whether counts beyond the references from objects belong to anybody. Any attached
 * thread; a safepoint. Does nothing inside a collection. */
void gyre__heap_check(void);

#endif
