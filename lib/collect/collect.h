/* SPDX-License-Identifier: MIT */
/* Inside lib/collect: a collection, its set of objects, and the phases over it. */
#ifndef GYRE_LIB_COLLECT_COLLECT_H
#define GYRE_LIB_COLLECT_COLLECT_H

#include <gyre/gc.h>

#include "lib/object/object.h"
#include "lib/weak/weak.h"

/* The set of a collection: at first the candidates, then the suspects among them, then what of those
 * is condemned. A word for each block of the pages that hold candidates (page->side) says what is
 * known of the object in it. Only the collector reads or writes it. */
#define GYRE__SIDE_LIVE (1u << 31)        /* reachable from outside the set */
#define GYRE__SIDE_PENDING (1u << 30)     /* live, and its references are still to be followed */
#define GYRE__SIDE_MEMBER (1u << 29)      /* in the set */
#define GYRE__SIDE_CONDEMNED (1u << 28)   /* proved to be garbage */
#define GYRE__SIDE_KEPT (1u << 27)        /* garbage that is kept on the list of garbage.c: live */
#define GYRE__SIDE_MANUAL (1u << 26)      /* because it is uncollectable */
#define GYRE__SIDE_EDGES ((1u << 26) - 1) /* references to it from members; sticks at the maximum */

/* A member that nothing is known to keep alive. */
GYRE_INLINE bool gyre__side_is_suspect(uint32_t side) {
  return (side & (GYRE__SIDE_MEMBER | GYRE__SIDE_LIVE | GYRE__SIDE_CONDEMNED)) == GYRE__SIDE_MEMBER;
}

/* Components of suspects that refer to each other: union-find over block numbers. A word is 0 (alone),
 * the parent's number + 1, or a root's flags. */
#define GYRE__COMPONENT_ROOT (1u << 31)
#define GYRE__COMPONENT_LIVE (GYRE__COMPONENT_ROOT | 1u)    /* not garbage, or not known to be */
#define GYRE__COMPONENT_SPECIAL (GYRE__COMPONENT_ROOT | 2u) /* finalizers, weak references, clear */

/* Entries of the stack to mark from. */
#define GYRE__MARK_STACK 65536

/* A live object whose references are still to be followed, and its page. */
struct gyre__marked {
  gyre__header *h;
  struct gyre__page *page;
};

/* What is being done with the references of members. */
enum gyre__step { GYRE__STEP_COUNT, GYRE__STEP_MARK, GYRE__STEP_JOIN };

struct gyre__set {
  enum gyre__step step;
  struct gyre__page **pages;
  size_t page_count;
  /* All pages' side words, one after the other, and how many: a block's number is its word's. */
  uint32_t *side;
  size_t blocks;
  uint32_t *component; /* as many words, of which those of suspects are set; NULL if not needed */
  /* Objects to be marked from. When it is full, PENDING in the side words stands for what does not
   * fit. */
  struct gyre__marked *stack;
  size_t stack_count, stack_room;
  bool overflow;
};

/* Why a collection runs, for traces. */
enum gyre__reason {
  GYRE__REASON_CALL,     /* gyre_gc_collect() */
  GYRE__REASON_OBJECTS,  /* objects were promoted */
  GYRE__REASON_BYTES,    /* bytes were, or were reported as external */
  GYRE__REASON_MEMORY,   /* an allocation found none */
  GYRE__REASON_ALWAYS,   /* option collect_always */
  GYRE__REASON_SHUTDOWN, /* gyre_fini() */
  GYRE__REASONS
};

/* Handshakes, and what lies between them: times for the trace. */
enum { GYRE__PHASE_FIND, GYRE__PHASE_PROVE, GYRE__PHASE_CONDEMN, GYRE__PHASE_FREE, GYRE__PHASES };
#define GYRE__HANDSHAKES 6

struct gyre__collection {
  struct gyre__objects *self;
  int generation;
  enum gyre__reason reason;
  bool beside;        /* the program runs meanwhile */
  bool everything;    /* young objects too: checks and walks */
  bool leaves;        /* and leaves */
  bool aging;         /* what is marked survives this collection and gets older */
  uint32_t age_after; /* to this */
  struct gyre__set set;
  struct gyre__weak_pending weak;
  /* What was found. */
  uint64_t candidates;
  uint64_t members, member_bytes; /* candidates at first */
  uint64_t survivors;             /* of those, live by the last marking */
  uint64_t suspects;              /* of those, not */
  uint64_t finalizable;
  bool ephemerons;    /* there are maps of these */
  bool has_clear;     /* a suspect's type has a clear hook, or it is a key of ephemerons */
  bool has_manual;    /* a suspect's type has GYRE_TYPE_MANUAL_FINALIZE */
  unsigned debug;     /* the debug flags when it began */
  bool out_of_memory; /* some suspects were kept, because there was no memory to prove them dead */
  bool held;          /* the suspects carry GYRE__HOLD counts of the collector's */
  bool weak_locked;   /* it has the control blocks' locks of what it looks at */
  /* What was done. */
  uint64_t dead; /* those included that were kept because of GYRE_GC_DEBUG_SAVEALL */
  uint64_t uncollectable;
  uint64_t finalized;
  uint64_t resurrected;
  uint64_t freed_bytes;
  uint64_t started_ns;
  /* For the trace. */
  uint32_t epoch; /* of its mode words */
  uint64_t first_suspects;
  uint64_t phase_ns[GYRE__PHASES];
  uint64_t handshake_ns[GYRE__HANDSHAKES];
  unsigned handshakes;
  uint64_t slowest_ns;
  char slowest[32];
};

/* Beside the program, the collector passes a safepoint with each page, so that nobody's grace period
 * waits for the end of a long phase. What it reads is pinned, not protected by grace periods. */
GYRE_INLINE void gyre__breathe(const struct gyre__collection *c) {
  if (c->beside) gyre_safepoint();
}

/* ---- set.c: in a stopped world, or beside the program, pinned ---- */

/* Fills the set with the pages that hold candidates of the collection's generation, and zeroed side
 * words. False if there is no memory; nothing has changed then. */
bool gyre__set_gather(struct gyre__collection *c);
/* Makes members of the candidates, and counts for each the references to it that members hold. */
void gyre__set_count_edges(struct gyre__collection *c);
/* Marks what is referred to from outside the set, and all that is reachable from there inside it. */
void gyre__set_mark_live(struct gyre__collection *c);
/* Takes all but the suspects out of the set, and forgets the suspects' edges; the condemned stay
 * condemned. */
void gyre__set_keep_suspects(struct gyre__collection *c);
/* B0 for one suspect: clears its touch mark, and forgets what is known of its edges. */
GYRE_INLINE void gyre__suspect_clear(struct gyre__collection *c, struct gyre__page *page,
                                     uint32_t i, gyre__header *h) {
  page->side[i] = GYRE__SIDE_MEMBER;
  c->set.component[(page->side - c->set.side) + i] = 0;
  /* relaxed: a mark that is just being set, by the upgrade of a weak reference, may stay: then we are
   * too careful. */
  if (gyre__load_relaxed(&h->bits) & GYRE__BIT_TOUCHED)
    /* acq_rel: before the mode becomes LOGGING; pairs with gyre__touch(), by way of the mode. */
    gyre__fetch_and_acq_rel(&h->bits, (uint8_t)~GYRE__BIT_TOUCHED);
}

/* Counts the suspects, and finds out whether any has a finalizer to run or a clear hook. Beside the
 * program, does B0 for each. */
void gyre__set_survey(struct gyre__collection *c);
/* Counts for each suspect the references to it that suspects hold, and joins the two. The words have
 * neither edges nor components before. Destroyed suspects leave the set: what they still refer to
 * counts as referred to from outside. */
void gyre__set_join_suspects(struct gyre__collection *c);
/* The word of the component that a block belongs to. */
uint32_t *gyre__component_of(struct gyre__collection *c, const struct gyre__page *page,
                             uint32_t index);
/* Has a member counts that do not come from edges? */
GYRE_INLINE bool gyre__has_outside_counts(const struct gyre__collection *c, gyre__header *h,
                                          uint32_t side) {
  /* relaxed: see the head of set.c; suspect.c says what makes the counts exact. */
  uint32_t shared = gyre__load_relaxed(&h->shared);
  uint32_t state = gyre__state_of(shared);
  if (state == GYRE__IMMORTAL_STATE || state == GYRE__QUEUED) return true;
  /* relaxed: as above. 0 where there is no owner. */
  int64_t count = gyre__count_of(shared) + (int64_t)gyre__load_relaxed(&h->local);
  if (c->held) count -= GYRE__HOLD;
  if (count != (int64_t)(side & GYRE__SIDE_EDGES)) return true;
  /* relaxed: who locked it holds a count. */
  bool locked = gyre__load_relaxed(&h->bits) & GYRE__BIT_LOCKED;
  return GYRE_UNLIKELY(locked) && gyre__header_type(h)->visit != NULL;
}
/* Has its count fallen to 0 before? */
GYRE_INLINE bool gyre__is_destroyed(gyre__header *h) {
  /* relaxed: set before the last handshake or stop, or by a thread that touches it. */
  return gyre__load_relaxed(&h->gc) & GYRE__GC_DEAD;
}
/* Is its type one that the program takes apart itself? */
GYRE_INLINE bool gyre__is_manual(const gyre__header *h) {
  return gyre__header_type(h)->flags & GYRE_TYPE_MANUAL_FINALIZE;
}
/* Marks a suspect uncollectable: live, and to be kept. */
void gyre__set_mark_manual_one(struct gyre__collection *c, gyre__header *h, uint32_t *side);
/* The same for all suspects that can be reached from those. */
void gyre__set_mark_manual_rest(struct gyre__collection *c);
/* For an arena: has the memory that a collection in a stopped world may need at most, and keeps it. False if
 * there is none. */
bool gyre__set_reserve(size_t arena_bytes);
/* Takes the pages out of the set and gives its memory back. */
void gyre__set_drop(struct gyre__collection *c);

/* ---- suspect.c: beside the program ---- */

/* Finds out which suspects are garbage, and condemns them: their weak references are dead then.
 * Garbage with finalizers to run is held instead and stays suspect. The others are live. Passes
 * handshakes. */
void gyre__suspects_prove(struct gyre__collection *c);

/* ---- dead.c ---- */

/* GYRE__FOR_EACH_MEMBER(c, test, { ... }): the body for each block whose side word passes the test, with
 * `page`, `i` and `h` set. */
#define GYRE__FOR_EACH_MEMBER(c, test, body)                                                       \
  for (size_t gyre__p = 0; gyre__p < (c)->set.page_count; gyre__p++) {                             \
    struct gyre__page *page = (c)->set.pages[gyre__p];                                             \
    if (page == NULL) continue; /* a large one, freed */                                           \
    gyre__breathe(c);                                                                              \
    for (uint32_t i = 0; i < page->scan; i++) {                                                    \
      if (!test(page->side[i])) continue;                                                          \
      gyre__header *h = (gyre__header *)gyre__page_block(page, i);                                 \
      body                                                                                         \
    }                                                                                              \
  }
GYRE_INLINE bool gyre__side_is_condemned(uint32_t side) { return side & GYRE__SIDE_CONDEMNED; }

/* World stopped: of the suspects, which are garbage, puts those that are uncollectable onto the list, and
 * surveys the rest. */
void gyre__dead_keep_manual(struct gyre__collection *c);
/* World stopped: all suspects are garbage. Clears their weak references. */
void gyre__dead_condemn(struct gyre__collection *c);
/* Gives every suspect the collector's own counts. World stopped. */
void gyre__dead_hold(struct gyre__collection *c);
/* All members were held; takes the counts off those that live, and counts them as resurrected. World
 * running. */
void gyre__dead_unhold_live(struct gyre__collection *c);
/* Runs the finalizers of the suspects. World running. */
void gyre__dead_finalize(struct gyre__collection *c);
/* Calls the weak callbacks of the condemned, drops what leads out of the set, and frees. World
 * running. */
void gyre__dead_free(struct gyre__collection *c);

/* Frees a page of the condemned of the collection that is under way in another thread. False if there
 * is none to be had. At a safepoint; runs program code. */
bool gyre__dead_help(struct gyre__objects *self);

/* Is this thread in gyre__dead_help(), and so not the one that holds the collector's lock? */
bool gyre__dead_is_helping(void);
/* In the child of a fork by a thread that helps: when it is done, the collection is given up. */
void gyre__dead_abandon(void);
/* In the child of a fork: nobody helps any more, and nothing is shared unless the collector is here. */
void gyre__dead_fork_child(bool is_collector);

/* ---- young.c ---- */

struct gyre__young_stats {
  gyre__atomic_u64 collections, candidates, collected, freed_bytes, duration_ns, longest_ns;
};

/* Looks through the calling thread's young objects if there are enough of them, or `always`. At a
 * safepoint. */
void gyre__young_collect(struct gyre__objects *self, bool always);
/* Looks behind the entrances to promoted objects that the thread has dropped, if there are enough, or
 * `always`. At a safepoint. */
void gyre__young_look(struct gyre__objects *self, bool always);
/* Reports what the thread has allocated that was never young. */
void gyre__young_report(struct gyre__objects *self);
/* Plans when the thread is to be asked next, if it does not look now. */
void gyre__young_plan(struct gyre__objects *self);
/* Objects in a slot's log, dead ones that are still in it included. Any thread. */
size_t gyre__young_count(struct gyre__objects *slot);
/* Adds the slot's figures. Any thread. */
void gyre__young_stats(struct gyre__objects *slot, struct gyre_gc_stats *sum);

/* ---- generation.c: when to collect what ---- */

/* How often a thread that allocates large objects tells. */
#define GYRE__REPORT_BYTES ((uint64_t)1 << 20)

/* Objects have reached generation 1; `looked`: by a young collection. Any thread. */
void gyre__promoted(uint64_t objects, uint64_t bytes, bool looked);
/* Everything has been frozen: nothing is left that could be garbage to a collection. World stopped. */
void gyre__generation_frozen(void);
/* How many full collections, or freezes, have looked at all objects. Any thread. */
uint64_t gyre__full_collections(void);
/* Promoted objects have been destroyed, or freed by their owner's own collection. Any thread. */
void gyre__promoted_gone(uint64_t objects, uint64_t bytes);
/* The generation that an automatic collection should collect now, or -1. */
int gyre__generation_due(enum gyre__reason *reason);
/* The counts start anew: the collection has its candidates. `mark_live` has been done. */
void gyre__generation_collected(struct gyre__collection *c);
/* The collection is over. */
void gyre__generation_finished(const struct gyre__collection *c);
/* Bytes and objects that may have become garbage since the last full collection, at most, and the
 * bounds on them. */
void gyre__generation_waiting(uint64_t *bytes, uint64_t *objects);
uint64_t gyre__waiting_bytes_bound(void);
uint64_t gyre__waiting_objects_bound(void);

/* ---- service.c: the service thread, and the program's wait for it ---- */

/* Frees what idle threads have in limbo, as far as it may go. */
void gyre__limbo_free_idle(struct gyre__objects *self);
/* Asks for an automatic collection. Any thread, running or parked. False if there is no service
 * thread and none can be made. */
bool gyre__service_ask(void);
/* At a safepoint: helps, and then waits, if the program is too far ahead of the collector. */
void gyre__service_pace(struct gyre__objects *self);
/* While closed, no service thread is started: whoever asks collects himself. */
void gyre__service_close(bool closed);
/* Is the finalizer of an object that is found dead left to the queue? `self` collects. */
bool gyre__finalizer_is_queued(const struct gyre__objects *self, const gyre__header *h);
/* The collector begins, or ends, to wait for the threads' answers. */
void gyre__service_in_handshake(bool on);
/* A collection has been finished by this thread. */
void gyre__service_collected(void);

/* ---- stats.c, callback.c, trace.c ---- */

void gyre__stats_pause(int generation, uint64_t ns);
void gyre__stats_collected(const struct gyre__collection *c, uint64_t duration_ns);
void gyre__stats_paced(uint64_t ns, bool waited);
void gyre__callbacks_run(const struct gyre__collection *c, enum gyre_gc_phase phase,
                         uint64_t duration_ns);
/* GYRE_GCTRACE=1: a line for the collection. */
void gyre__trace(const struct gyre__collection *c, uint64_t duration_ns);

/* ---- collect.c ---- */

/* Collects; what gyre_gc_collect() returns. `wait`: for a collection that is under way in another
 * thread, else -EBUSY. */
ptrdiff_t gyre__collect(struct gyre__objects *self, int generation, enum gyre__reason reason,
                        bool wait);
/* In the child of a fork: the collector is gone; ends its collection. */
void gyre__collection_abandon(void);
/* Who keeps named roots: calls each(object, name, arg) for every one, which it holds meanwhile, in an attached
 * thread, without a lock that counting or looking at the heap could want. NULL: there are none. For
 * lib/observe, which shows their names. */
typedef void gyre__root_seen_fn(void *object, const char *name, void *arg);
extern void (*gyre__for_each_root)(gyre__root_seen_fn *each, void *arg);
/* lib/observe: tries all visit functions (option check_visits). NULL: nobody does. */
extern ptrdiff_t (*gyre__visits_check)(void);
/* A phase has taken so long: a probe. */
void gyre__collection_phase(const struct gyre__collection *c, unsigned phase, uint64_t ns);
/* A handshake of the collection's, with its time taken. */
void gyre__collection_handshake(struct gyre__collection *c, uint32_t mode);

/* ---- arena.c ---- */

/* Is a thread parked whose slot is in the arena? */
bool gyre__arena_is_in_use(struct gyre__objects *self);
/* Gives the buffer back. No thread is attached. */
void gyre__arena_leave(void);

void gyre__callbacks_fork_prepare(void);
void gyre__callbacks_fork_parent(void);
void gyre__callbacks_fork_child(bool is_collector);
void gyre__stats_fork_prepare(void);
void gyre__stats_fork_parent(void);
void gyre__stats_fork_child(void);
void gyre__service_fork_child(void);
void gyre__young_fork_child(void);

/* Does this thread collect, or check the heap, further up its stack? */
bool gyre__is_collecting(const struct gyre__objects *self);
/* What the child of a fork has to give up, if anything. Under the collector's lock. */
void gyre__collection_set(struct gyre__collection *c);
/* Keeps collections away; waits, parked, for one that is under way in another thread. */
void gyre__collector_lock(struct gyre__objects *self);
void gyre__collector_unlock(struct gyre__objects *self);
/* The service thread, before it takes that lock again: lets a thread in that waits for it, if it comes soon.
 * Parks. */
void gyre__collector_let_in(void);

/* ---- garbage.c, debug.c ---- */

/* Room on the list for so many objects more; false if there is no memory, which c notes. */
bool gyre__garbage_reserve(struct gyre__collection *c, size_t objects);
/* Puts a suspect onto the list, with a reference: live from now on. There is room. */
void gyre__garbage_keep(struct gyre__collection *c, gyre__header *h, uint32_t *side);
/* Debug output about what has been found. World running. */
void gyre__garbage_log(struct gyre__collection *c);
void gyre__garbage_fork_prepare(void);
void gyre__garbage_fork_parent(void);
void gyre__garbage_fork_child(void);
/* Before and after a collection, with the collector's lock. */
void gyre__debug_start(struct gyre__objects *self, int generation);
void gyre__debug_stop(const struct gyre__collection *c, uint64_t duration_ns);
/* query.c: an empty list with room for so many, or NULL. */
gyre_objlist *gyre__objlist_new(size_t room);

/* ---- apart.c ---- */

/* Unfreezes what is frozen, if anything is. */
void gyre__unfreeze_all(void);

/* ---- check.c ---- */

/* Stops the world and verifies the whole heap: every slot's pages, every object's header, and that
 * no object has fewer counts than references from other objects. Aborts with a message otherwise.
 * Cannot check: whether counts beyond the references from objects belong to anybody. Any attached
 * thread; a safepoint. Does nothing inside a collection. */
void gyre__heap_check(void);

/* check.c: lib/value's part of the report of leaks in gyre_fini(): the roots that are left. NULL without
 * that room. Set by a constructor. */
extern void (*gyre__fini_report)(void);

#endif
