/* SPDX-License-Identifier: MIT */
/* A collection, from beginning to end: in a stopped world, or beside the running program.
 *
 *   stw                                          concurrent
 *
 *   start callbacks                              start callbacks
 *     stop the world                               H0: handshake, mode PINNED
 *       A: gather, count edges, mark the live        A: the same, with racy reads
 *       [finalizers to run: hold the dead]           B0: clear the suspects' touch marks
 *       [none: condemn]                            H1: handshake, mode LOGGING
 *     resume                                         B1, B2: count again, join components
 *     [run finalizers; stop;                       H2: handshake, mode PINNED, closed
 *       count and mark again among the dead;         B3: drop the touched components, condemn
 *       condemn the rest; resume]                    [finalizers to run: hold, run, B0 to B3 again]
 *     weak callbacks, free                           weak callbacks, free
 *   stop callbacks                                 H3: mode IDLE; nobody is waited for
 *                                                stop callbacks
 *
 * Phase A is trial deletion over the candidates (set.c), B0 to B3 are suspect.c, freeing is dead.c.
 * Every object dies in the same order as by its count (gyre/weak.h): its finalizer first, then the
 * question whether it is still dead, then its weak references all at once, their callbacks, its
 * references, its memory. Finalizers run over all that has any before anything is taken apart (PEP
 * 442), and each once: the object's bit says whether.
 *
 * In the stopped world the counts are exact and every operation is complete, so what A does not mark
 * is dead, and once its weak references are cleared nobody can reach it. The rest of this essay is
 * about the other mode.
 *
 *
 * What mutators promise
 *
 *   M1 Every strong reference is counted.
 *   M2 A borrowed (uncounted) pointer does not survive a safepoint.
 *   M3 Slots are changed through the slot operations only.
 *   M4 No operation of this library spans a safepoint: each runs whole in one mode.
 *   M5 An attached thread passes safepoints, or is parked and touches no object; who comes back first
 *      becomes visible as running, and then reads the mode (lib/thread/mode.c).
 *
 * In mode LOGGING a thread *touches* an object, by a mark in its header (gyre__touch()), in the same
 * operation in which it
 *   - retains or releases it, or loads it from a slot;
 *   - merges its counts;
 *   - takes a reference to it out of a slot without giving it up, or moves one out of an object that
 *     is being destroyed;
 *   - locks or unlocks it, if its type has a visit function: plain code under the lock may move
 *     references;
 *   - replaces its local count for a moment by something else (a look of young.c's).
 * Putting a reference into a slot touches nothing. The upgrade of a weak reference is like a load from
 * a slot, until the mode is closed; then it touches in every mode, under the lock of the control block. An
 * entry of an ephemeron map is a slot, and a reference from both its ends (lib/weak/map.c, which has the
 * argument for it). None of this is a branch in the inline paths: a thread in
 * LOGGING mode has a bias id that no object has, so that every count takes the slow path.
 *
 *
 * The steps
 *
 *   H0 From here on, what dies keeps its block until H3 (limbo.c), and pages stay what they are
 *      (gyre__heap_pin()). Only now are the candidates read: before, a thread could free one. A
 *      collection that was asked for has each thread promote its young objects as it adopts the mode.
 *   A  Suspects: what trial deletion over racy reads does not find live. Destroyed objects (their
 *      header says so) are no members, and their references no edges.
 *   B0 The suspects' marks are cleared, before LOGGING is published.
 *   H1
 *   B1 Among the suspects alone: edges e(v), and then counts rc(v). If they differ for any v (or v is
 *      immortal or queued for a merge), all such v and what they reach leave, and
 *   B2 the rest is counted again. While counting, the two ends of each edge are joined into one
 *      component. A component in which e(v) and rc(v) differ for any v is dropped whole. If B1 found no
 *      difference, B1 was B2.
 *   H2 Logging ends. From here to H3 the mode is "closed": see young.c, "Entrances". In closed mode weak
 *      references are upgraded under locks; an upgrade without was over before its thread answered.
 *   B3 Components with a touched member are dropped. Those with members that have weak references:
 *      the locks of all their control blocks are taken first, then the marks are read, then the weak
 *      references are cleared, or the component dropped, and then the locks are given back. What
 *      remains is garbage: condemned.
 *   F  Components with finalizers to run are not condemned but *held*: each object gets more counts
 *      than anybody can drop, under the same locks. The finalizers run; then these suspects go through
 *      B0 to B3 once more, since they may have been brought back.
 *   H3 Threads empty their limbo once they know.
 *
 *
 * Why no live object is condemned
 *
 * Let t be the instant just before H2 begins, and v in a component that B3 kept. Whatever a thread did
 * with v between H1 and t came before that thread's safepoint of H2, so its touch is seen by B3. There
 * is none. So between B2's reading and t
 *   (1) rc(v) was constant: each step on a count of v touches it; and a look by its owner, which hides
 *       the local count for a moment, touches it before;
 *   (2) every reference to v that B2 saw was there at t: removing it would have touched v.
 * With e(v) as B2 counted it,
 *       e(v)  <=  references to v from its component at t  <=  rc(v)  =  e(v),
 * so at t all counted references to the component came from the component itself.
 *
 * Uncounted ones: by M2 none is older than H1. A thread that borrowed between H1 and t, and moved its
 * counted reference into the component (putting does not touch), may still have the pointer at t. But
 * it logs until its safepoint of H2: what it makes of the pointer by then touches, and at the
 * safepoint the pointer is gone. That is why B3 waits for H2 to end. A thread's notes of entrances
 * (young.c) are no references: they are not followed while the mode is closed, and what is followed
 * before that is touched. Then only weak references are left. Upgrades of threads that logged have touched
 * as every count does. Since H2 an upgrade touches inside the control block's lock, whatever the mode; B3 reads the marks under the same locks, and clears before it
 * unlocks. A weak reference made later needs a counted reference, so somebody would have touched v. So
 * no thread can reach the component, now or ever.
 *
 * Why components, and not objects: after H2 nobody logs, so the references of a live object may change
 * unseen, and what it pointed to in B2 cannot be found any more. A component has no reference to or
 * from the other suspects, so it can be dropped whole.
 *
 * Why a destroyed object must leave before its edges are counted: its slots are emptied by whoever
 * takes it apart, and a reference that is about to be dropped would explain a count that somebody else
 * has. One that dies while B2 counts is touched by the release that kills it.
 *
 * Why a wrong answer of A does no harm: the argument starts from any set of suspects. All that A must
 * not do is to read what is not there, and what H0 did sees to that.
 *
 *
 * Memory order
 *
 * Touches, counts and the collector's reads are relaxed. A thread's announcement in a handshake is a
 * read-modify-write that the collector acquires, so what the thread did before H1 comes before B1, and
 * its touches before H2 come before B3; an object with no operation in between cannot be misread. B0's
 * clearing comes before the store that publishes LOGGING, which each thread reads after its
 * announcement; so a thread that finds a mark set already (gyre__touch() looks first) has not seen one
 * from before. The control blocks' locks order the rest. The rules, the order of announcement and
 * mode, limbo, and the removal of each rule are checked in tests/model (collect.pml, limbo.pml,
 * order.pml, young.pml; the README there says how far).
 *
 *
 * Bounds. The memory a collection needs is asked for at its beginning, but for the list of objects with
 * weak references or finalizers in B3: 4 bytes for each block of the candidates' pages, and another 4
 * for those that come under suspicion, given back at the end. No thread waits for another, except: a
 * handshake waits for the slowest thread's next safepoint, with everybody else running; an upgrade may
 * wait for B3's locks of its own component; fork() waits for the collection.
 *
 * One collection at a time: `collector_lock` is held from the first callback to the last. Program
 * code that it runs may call anything; gyre_gc_collect() from there returns 0 at once. It must not
 * wait for another thread that collects.
 */
#include "lib/collect/collect.h"

#include <errno.h>
#include <string.h>

#include "lib/base/probe.h"

/* Held for as long as a collection takes; the holder's is_collecting is set. */
static gyre__lock collector_lock;

/* The collection that is under way, for the child of a fork. Under the lock. */
static struct gyre__collection *under_way;

void gyre__collection_set(struct gyre__collection *c) { under_way = c; }

bool gyre__is_collecting(const struct gyre__objects *self) {
  return self->heap.thread.is_collecting;
}

/* ---- steps that both modes share ---- */

void gyre__collection_phase(const struct gyre__collection *c, unsigned phase, uint64_t ns) {
  static const char *const names[GYRE__PHASES] = {"find", "prove", "condemn", "free"};
  GYRE_PROBE3(collection_phase, c->generation, names[phase], ns);
  (void)names, (void)c, (void)phase, (void)ns;
}

static uint64_t lap(struct gyre__collection *c, unsigned phase, uint64_t since_ns) {
  uint64_t now = gyre__clock_ns();
  c->phase_ns[phase] += now - since_ns;
  gyre__collection_phase(c, phase, now - since_ns);
  return now;
}

/* Phase A: the candidates, and who of them is not live. False if there is no memory; nothing has
 * changed then. */
static bool find_suspects(struct gyre__collection *c) {
  uint64_t since_ns = gyre__clock_ns();
  if (!gyre__set_gather(c)) return false;
  gyre__set_count_edges(c);
  c->candidates = c->members;
  c->aging = true;
  gyre__set_mark_live(c);
  c->aging = false;
  gyre__set_survey(c);
  c->first_suspects = c->suspects;
  gyre__generation_collected(c);
  lap(c, GYRE__PHASE_FIND, since_ns);
  return true;
}

static void free_condemned(struct gyre__collection *c) {
  uint64_t since_ns = gyre__clock_ns();
  gyre__garbage_log(c);
  if (c->dead > 0) gyre__dead_free(c);
  /* What the dead alone referred to is gone, too, when a collection is over. */
  while (c->self->dying.first != NULL && !c->self->in_cascade)
    gyre_safepoint();
  lap(c, GYRE__PHASE_FREE, since_ns);
}

/* ---- stop the world ---- */

static void stop(struct gyre__collection *c, uint64_t *began_ns) {
  *began_ns = gyre__clock_ns();
  gyre__world_stop(&c->self->heap.thread);
}

static void resume(struct gyre__collection *c, uint64_t began_ns) {
  gyre__world_resume(&c->self->heap.thread);
  gyre__stats_pause(c->generation, gyre__clock_ns() - began_ns);
}

/* Young objects of all threads become candidates. */
static void promote_all(struct gyre__collection *c) {
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= count; id++)
    gyre__object_hooks.young_promote((struct gyre__objects *)gyre__thread_slot(id),
                                     c->generation == 0);
}

/* The second look: finalizers may have brought some back. */
static void look_again(struct gyre__collection *c) {
  gyre__set_keep_suspects(c);
  gyre__set_join_suspects(c);
  gyre__set_mark_live(c);
  gyre__set_survey(c);
  gyre__dead_condemn(c);
}

/* What is condemned is freed while the program runs again, and nobody may look at it. The others are
 * stopped, or idle: they adopt the word before they run. */
static void close_condemned(struct gyre__collection *c, bool closed) {
  uint32_t word = gyre__mode_published() & ~(uint32_t)(GYRE__MODE_CLOSED | GYRE__MODE_PROMOTES);
  gyre__mode_publish(&c->self->heap.thread, closed ? word | GYRE__MODE_CLOSED : word);
}

static bool collect_stopped(struct gyre__collection *c) {
  uint64_t began;
  stop(c, &began);
  close_condemned(c, true);
  promote_all(c);
  bool enough_memory = find_suspects(c);
  if (enough_memory && c->has_manual) gyre__dead_keep_manual(c);
  bool finalize = enough_memory && c->finalizable > 0;
  if (finalize)
    gyre__dead_hold(c);
  else if (enough_memory && c->suspects > 0)
    gyre__dead_condemn(c);
  resume(c, began);
  if (finalize) {
    gyre__dead_finalize(c);
    stop(c, &began);
    look_again(c);
    resume(c, began);
    gyre__dead_unhold_live(c);
  }
  if (enough_memory) free_condemned(c);
  close_condemned(c, false);
  gyre__grace_start(gyre__grace_ticket());
  return enough_memory && !c->out_of_memory;
}

/* ---- beside the program ---- */

void gyre__collection_handshake(struct gyre__collection *c, uint32_t mode) {
  uint64_t start = gyre__clock_ns();
  GYRE_PROBE1(handshake_begin, mode);
  gyre__service_in_handshake(true);
  gyre__handshake(&c->self->heap.thread, c->epoch << GYRE__MODE_EPOCH_SHIFT | mode);
  gyre__service_in_handshake(false);
  uint64_t took = gyre__clock_ns() - start;
  GYRE_PROBE2(handshake_end, mode, took);
  if (c->handshakes < GYRE__HANDSHAKES) c->handshake_ns[c->handshakes] = took;
  c->handshakes++;
  uint64_t slowest;
  char name[32];
  gyre__grace_slowest(&slowest, name);
  if (slowest <= c->slowest_ns) return;
  c->slowest_ns = slowest;
  memcpy(c->slowest, name, sizeof name);
}

/* Promotes the young objects of a slot for its thread, which is idle, or lost. False if it runs. */
static bool promote_idle(struct gyre__collection *c, struct gyre__thread *slot, uint32_t word) {
  if (!gyre__thread_take_counts(slot)) return false;
  bool missing = slot->mode != word;
  if (missing) gyre__object_hooks.young_promote((struct gyre__objects *)slot, c->generation == 0);
  gyre__thread_give_back(slot);
  return true;
}

/* H0, with the young objects of all threads promoted when it is over: a running thread has done so
 * as it adopted the mode, for an idle one we do it. One that came back in between has adopted the
 * mode too, but perhaps after our look at it; the second grace period waits for that. */
static void begin(struct gyre__collection *c, bool with_young) {
  uint32_t how = !with_young          ? 0u
                 : c->generation == 0 ? (uint32_t)GYRE__MODE_PROMOTE_FRESH
                                      : (uint32_t)GYRE__MODE_PROMOTE;
  c->epoch = gyre__mode_epoch(gyre__mode_published()) + 1;
  uint32_t mode = GYRE__MODE_PINNED | how;
  gyre__collection_handshake(c, mode);
  if (how == 0) return;
  uint32_t word = c->epoch << GYRE__MODE_EPOCH_SHIFT | mode;
  uint32_t count = gyre__thread_slot_count();
  bool all = true;
  for (uint32_t id = 1; id <= count; id++) {
    struct gyre__thread *slot = gyre__thread_slot(id);
    if (slot != &c->self->heap.thread) all &= promote_idle(c, slot, word);
  }
  if (!all) gyre__grace_wait(gyre__grace_ticket(), UINT64_MAX);
}

/* H3. Nobody is waited for: a thread that learns of it late keeps its limbo for so long. */
static void end(struct gyre__collection *c) {
  gyre__mode_publish(&c->self->heap.thread, c->epoch << GYRE__MODE_EPOCH_SHIFT | GYRE__MODE_IDLE);
  gyre__grace_start(gyre__grace_ticket());
}

static bool collect_beside(struct gyre__collection *c, bool with_young) {
  begin(c, with_young);
  GYRE_WINDOW("collect/pinned");
  bool enough_memory = find_suspects(c);
  GYRE_WINDOW("collect/found");
  if (enough_memory && c->suspects > 0) {
    gyre__suspects_prove(c);
    if (c->suspects > 0) {
      gyre__set_keep_suspects(c);
      c->held = true;
      gyre__dead_finalize(c);
      gyre__suspects_prove(c);
      gyre__dead_unhold_live(c);
    }
    GYRE_WINDOW("collect/condemned");
    free_condemned(c);
  }
  GYRE_WINDOW("collect/freed");
  end(c);
  GYRE_WINDOW("collect/idle");
  return enough_memory && !c->out_of_memory;
}

/* ---- one collection ---- */

/* Threads that wait for the lock; futex word of the service thread, which lets them go first. */
static gyre__atomic_u32 lock_waiters;

void gyre__collector_lock(struct gyre__objects *self) {
  /* relaxed: a hint for gyre__collector_let_in(). */
  gyre__fetch_add_relaxed(&lock_waiters, 1);
  gyre__lock_parked(&self->heap.thread, &collector_lock);
  gyre__fetch_sub_relaxed(&lock_waiters, 1);
  self->heap.thread.is_collecting = true;
}

/* The lock is not fair: who gives it and takes it again at once gets it before a thread that has to wake up
 * first. */
#define LET_IN_NS 1000000u
#define LET_IN_MOST 20

void gyre__collector_let_in(void) {
  /* relaxed: a hint. */
  uint32_t first = gyre__load_relaxed(&lock_waiters), now = first;
  if (first == 0) return;
  gyre_park();
  for (int i = 0; i < LET_IN_MOST && now != 0 && now >= first; i++) {
    (void)gyre__futex_wait(&lock_waiters, now, LET_IN_NS);
    /* relaxed: as above. */
    now = gyre__load_relaxed(&lock_waiters);
  }
  gyre_unpark();
}

void gyre__collector_unlock(struct gyre__objects *self) {
  self->heap.thread.is_collecting = false;
  gyre__lock_give(&collector_lock);
}

static void result_fill(const struct gyre__collection *c, uint64_t duration_ns,
                        struct gyre_gc_result *out) {
  struct gyre_gc_result r = {
      .size = out->size,
      .collected = c->dead,
      .uncollectable = c->uncollectable,
      .candidates = c->candidates,
      .finalized = c->finalized,
      .resurrected = c->resurrected,
      .freed_bytes = c->freed_bytes,
      .duration_ns = duration_ns,
  };
  memcpy(out, &r, out->size < sizeof r ? out->size : sizeof r);
}

/* `out`: what has been done, if it is not NULL. */
static ptrdiff_t collect(struct gyre__objects *self, int generation, enum gyre__reason reason,
                         bool wait, struct gyre_gc_result *out) {
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
  gyre__debug_start(self, generation);
  struct gyre__collection c = {.self = self, .generation = generation, .reason = reason};
  c.beside = gyre__option(gc_mode) == GYRE_GC_CONCURRENT;
  c.debug = gyre_gc_get_debug();
  if (reason == GYRE__REASON_SHUTDOWN) c.debug &= ~(unsigned)GYRE_GC_DEBUG_SAVEALL;
  c.started_ns = gyre__clock_ns();
  under_way = &c;
  GYRE_PROBE3(collection_begin, generation, c.beside, reason);
  gyre__callbacks_run(&c, GYRE_GC_START, 0);
  if (GYRE_UNLIKELY(gyre__late_count() != 0)) gyre__late_drop(self);
  gyre__heap_pin();
  bool asked = reason != GYRE__REASON_OBJECTS && reason != GYRE__REASON_BYTES;
  bool done = c.beside ? collect_beside(&c, asked) : collect_stopped(&c);
  gyre__set_drop(&c);
  gyre__heap_unpin();
  uint64_t duration = gyre__clock_ns() - c.started_ns;
  GYRE_PROBE5(collection_end, generation, c.dead, c.candidates, c.freed_bytes, duration);
  if (done) {
    gyre__generation_finished(&c);
    gyre__stats_collected(&c, duration);
    gyre__trace(&c, duration);
  }
  gyre__callbacks_run(&c, GYRE_GC_STOP, duration);
  gyre__debug_stop(&c, duration);
  under_way = NULL;
  gyre__collector_unlock(self);
  gyre__service_collected();
  gyre__cancel_restore(cancel);
  if (out != NULL) result_fill(&c, duration, out);
  return done ? (ptrdiff_t)(c.dead + c.uncollectable) : -ENOMEM;
}

ptrdiff_t gyre__collect(struct gyre__objects *self, int generation, enum gyre__reason reason,
                        bool wait) {
  return collect(self, generation, reason, wait, NULL);
}

int gyre_gc_set_mode(enum gyre_gc_mode mode) {
  if (mode != GYRE_GC_CONCURRENT && mode != GYRE_GC_STW) return -EINVAL;
  return gyre_option_set("gc_mode", mode == GYRE_GC_STW ? "stw" : "concurrent");
}

enum gyre_gc_mode gyre_gc_get_mode(void) {
  gyre__options_init(); /* it may be the first that is asked */
  return (enum gyre_gc_mode)gyre__option(gc_mode);
}

ptrdiff_t (*gyre__visits_check)(void);
void (*gyre__for_each_root)(gyre__root_seen_fn *each, void *arg);

/* Before a collection that the program asks for: passes a safepoint and finishes what has been released. A
 * collection of this thread's that is due by itself waits, or it would take what this one is to count. */
static bool asked_begin(struct gyre__objects *self) {
  GYRE_REQUIRE(self->heap.thread.park_depth == 0, "gyre_gc_collect in a parked thread");
  const uint32_t due = GYRE__REQ_COLLECT;
  /* acq_rel: this thread's own request, which publishes nothing; pairs with gyre__thread_request(). */
  bool put_off = gyre__fetch_and_acq_rel(&self->heap.thread.base.request, ~due) & due;
  gyre_safepoint();
  gyre__release_all(self);
  return put_off;
}

static void asked_end(struct gyre__objects *self, bool put_off) {
  if (put_off) gyre__thread_request(&self->heap.thread, GYRE__REQ_COLLECT);
}

ptrdiff_t gyre_gc_collect(int generation) {
  if (generation < 0 || generation >= GYRE_GC_NGEN) return -EINVAL;
  struct gyre__objects *self = (struct gyre__objects *)gyre__thread_self();
  if (self == NULL) return -EAGAIN;
  if (gyre__is_collecting(self)) return 0;
  bool put_off = asked_begin(self);
  if (generation == GYRE_GC_NGEN - 1 && gyre__option(check_visits) && gyre__visits_check != NULL)
    (void)gyre__visits_check();
  ptrdiff_t result = gyre__collect(self, generation, GYRE__REASON_CALL, true);
  asked_end(self, put_off);
  return result;
}

int gyre_gc_collect_ex(int generation, unsigned flags, struct gyre_gc_result *out) {
  const unsigned known = GYRE_GC_NOWAIT | GYRE_GC_IF_ENABLED | GYRE_GC_PURGE;
  if (generation < 0 || generation >= GYRE_GC_NGEN || flags & ~known ||
      (out != NULL && out->size == 0))
    return -EINVAL;
  struct gyre__objects *self = (struct gyre__objects *)gyre__thread_self();
  if (self == NULL) return -EAGAIN;
  struct gyre_gc_result nothing = {.size = sizeof nothing};
  if (out != NULL) nothing.size = out->size;
  ptrdiff_t result = 0;
  if (!gyre__is_collecting(self) && (!(flags & GYRE_GC_IF_ENABLED) || gyre_gc_is_enabled())) {
    bool put_off = asked_begin(self);
    result = collect(self, generation, GYRE__REASON_CALL, !(flags & GYRE_GC_NOWAIT), &nothing);
    asked_end(self, put_off);
    if (result >= 0 && flags & GYRE_GC_PURGE) gyre_purge();
  }
  if (result < 0) return (int)result;
  if (out != NULL) memcpy(out, &nothing, out->size < sizeof nothing ? out->size : sizeof nothing);
  return 0;
}

/* ---- out of memory, fork ---- */

#define RECLAIM_PATIENCE_NS UINT64_C(100000000)

/* The heap has no memory, and the program allows a collection inside an allocation. */
static bool reclaim(struct gyre__heap *heap) {
  struct gyre__objects *self = (struct gyre__objects *)heap;
  if (!gyre__option(alloc_is_safepoint) || gyre__is_collecting(self) || self->in_cascade)
    return false;
  if (gyre__collect(self, GYRE_GC_NGEN - 1, GYRE__REASON_MEMORY, true) <= 0) return false;
  /* In an arena what was freed may be wanted for something else, which needs a grace period. */
  if (gyre__arena_on) (void)gyre__grace_wait(gyre__grace_ticket(), RECLAIM_PATIENCE_NS);
  return true;
}

/* fork() waits a moment for a collection that is under way in another thread. A collection may wait for
 * a thread that passes no safepoint, and must not hold up fork() for as long; then the collector is not
 * there in the child, and its collection is given up: its objects go back to what they were, and what it
 * had condemned and not freed is lost to the child. */
#define FORK_PATIENCE_NS 200000000u

static __thread bool fork_has_lock;

static bool collecting_here(void) {
  struct gyre__objects *self = (struct gyre__objects *)gyre__thread_current();
  return self != NULL && gyre__is_collecting(self);
}

/* Is this thread the collector, and not one that helps it? */
static bool is_collector(void) { return collecting_here() && !gyre__dead_is_helping(); }

void gyre__collection_abandon(void) {
  if (under_way != NULL)
    for (size_t i = 0; i < under_way->set.page_count; i++)
      if (under_way->set.pages[i] != NULL) under_way->set.pages[i]->side = NULL;
  under_way = NULL;
  uint32_t epoch = gyre__mode_epoch(gyre__mode_published());
  struct gyre__thread *self = gyre__thread_current();
  if (self != NULL)
    gyre__mode_publish(self, epoch << GYRE__MODE_EPOCH_SHIFT | GYRE__MODE_IDLE);
  else
    gyre__mode_fork_child(epoch << GYRE__MODE_EPOCH_SHIFT | GYRE__MODE_IDLE);
  if (gyre__heap_is_pinned()) gyre__heap_unpin();
  gyre__lock_reset(&collector_lock);
}

static void fork_before_stop(void) {
  fork_has_lock = !collecting_here() &&
                  gyre__lock_parked_for(gyre__thread_current(), &collector_lock, FORK_PATIENCE_NS);
}

static void fork_prepare(void) {
  gyre__callbacks_fork_prepare();
  gyre__stats_fork_prepare();
  gyre__garbage_fork_prepare();
}

static void fork_parent(void) {
  gyre__garbage_fork_parent();
  gyre__stats_fork_parent();
  gyre__callbacks_fork_parent();
}

static void fork_parent_resumed(void) {
  if (fork_has_lock) gyre__lock_give(&collector_lock);
}

static void fork_child(void) {
  /* relaxed: no other thread exists. */
  gyre__store_relaxed(&lock_waiters, 0);
  gyre__service_fork_child();
  gyre__young_fork_child();
  gyre__stats_fork_child();
  gyre__garbage_fork_child();
  gyre__callbacks_fork_child(is_collector());
  struct gyre__thread *self = gyre__thread_current();
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= count; id++)
    if (gyre__thread_slot(id) != self) gyre__thread_slot(id)->is_collecting = false;
  if (fork_has_lock)
    gyre__lock_reset(&collector_lock);
  else if (is_collector())
    gyre__dead_fork_child(true);
  else if (gyre__dead_is_helping())
    gyre__dead_abandon(); /* when it has done helping: it still needs the set */
  else {
    gyre__dead_fork_child(false);
    gyre__collection_abandon();
  }
}

static void __attribute__((constructor)) collect_init(void) {
  gyre__heap_reclaim = reclaim;
  gyre__thread_hooks.fork_before_stop = fork_before_stop;
  gyre__thread_hooks.fork_prepare[3] = fork_prepare;
  gyre__thread_hooks.fork_parent[3] = fork_parent;
  gyre__thread_hooks.fork_parent_resumed = fork_parent_resumed;
  gyre__thread_hooks.fork_child[3] = fork_child;
}
