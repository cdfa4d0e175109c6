/* SPDX-License-Identifier: MIT */
/* Giving memory back.
 *
 * A page that empties is kept for a while ("purge_delay_ms"), because most programs want it again
 * soon. Nobody watches the clock: a heap looks at its old pages now and then in its slow paths
 * (gyre__purge_tick()), at a safepoint when it is asked to (GYRE__REQ_HEAP), and when its thread
 * parks or detaches; giving everything back at once then would cost short-lived threads a fault a
 * page and ten times their own time. Idle slots are looked after by whatever thread comes to a
 * safepoint with that request, at most one in a while (purge_idle()).
 *
 * Object pages wait for a grace period besides. Where one is missing, the heap's grace_node is
 * deferred: it purges when it runs, in a thread that has the heap or has taken it.
 *
 * gyre_purge() reaches every heap three times, with a grace period between: in the first round threads
 * send each other the blocks that they hold back (heap.c), also those that have no pages of their own;
 * so a page that is empty is found to be so in the second at the latest, and an object page can go in
 * the third. Each round has a number: it is written into the heap's purge_asked, and the heap takes
 * part, and copies it to purge_seen, at its thread's next safepoint or when it goes idle; or it is idle
 * already and is taken. A thread that went idle having missed the number is found idle after the grace
 * period.
 *
 * In libgyre_malloc there are no safepoints: a heap's own slow paths do what is done there otherwise,
 * and gyre_purge() leaves running threads to theirs, without waiting. There are no objects either that
 * would want a grace period.
 */
#include <errno.h>

#include "lib/heap/hook.h"
#include "lib/heap/page.h"
#include "lib/heap/traced.h"

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)

/* Numbers the rounds. */
static gyre__atomic_u32 rounds;
/* When idle slots were looked at last. */
static gyre__atomic_u64 idle_looked_ns;

static uint64_t delay_ns(void) { return gyre__option(purge_delay_ms) * NS_PER_MS; }

static uint64_t cutoff_at(uint64_t now) {
  uint64_t delay = delay_ns();
  return now > delay ? now - delay : 0;
}

/* ---- one heap ---- */

static void grace_over(struct gyre__thread *runner, struct gyre__deferred *node);

static void purge_older(struct gyre__heap *heap, uint64_t cutoff_ns) {
  gyre__span_purge(heap, cutoff_ns);
  gyre__reserve_purge(cutoff_ns);
  uint64_t waits = gyre__page_reap(heap, cutoff_ns);
  gyre__segment_purge(heap, cutoff_ns);
  if (waits == 0) return;
  if (cutoff_ns > heap->grace_cutoff_ns) heap->grace_cutoff_ns = cutoff_ns;
  if (heap->grace_armed) return;
  heap->grace_armed = true;
  gyre__defer(&heap->thread, &heap->grace_node, grace_over);
}

/* The heap is the runner's, or the runner has it taken. */
static void grace_over(struct gyre__thread *runner, struct gyre__deferred *node) {
  (void)runner;
  struct gyre__heap *heap =
      (struct gyre__heap *)(void *)((char *)node - offsetof(struct gyre__heap, grace_node));
  heap->grace_armed = false;
  uint64_t cutoff = cutoff_at(gyre__clock_ns());
  purge_older(heap, cutoff > heap->grace_cutoff_ns ? cutoff : heap->grace_cutoff_ns);
}

void gyre__purge_heap(struct gyre__heap *heap) {
  gyre__quarantine_empty(heap);
  gyre__heap_send(heap);
  gyre__page_collect_all(heap);
  purge_older(heap, gyre__clock_ns());
  gyre__span_purge(heap, UINT64_MAX);
  gyre__reserve_purge(UINT64_MAX);
}

/* Is there memory that nothing is in? Hints, but for the slot's thread. */
static bool keeps_spans(struct gyre__heap *heap) {
  /* relaxed: a figure; what is there is looked at by who may. */
  return gyre__load_relaxed(&heap->span_dirty_bytes) != 0;
}

static bool heap_keeps(struct gyre__heap *heap) {
  /* relaxed: as above. */
  return gyre__load_relaxed(&heap->cached_bytes) != 0 || keeps_spans(heap);
}

static bool reserve_keeps(void) {
  /* relaxed: as above. */
  return gyre__load_relaxed(&gyre__memory.reserve_bytes) != 0;
}

static uint32_t round_new(void) {
  /* relaxed: a number of one's own; partner: itself in other threads. */
  return gyre__fetch_add_relaxed(&rounds, 1) + 1;
}

/* Takes part in a purge of all if this heap was asked to and has not yet. */
static bool join_round(struct gyre__heap *heap) {
  /* relaxed: the request bit or the taking of the slot brings the number along; pairs with
   * spread_round(). */
  uint32_t asked = gyre__load_relaxed(&heap->purge_asked);
  /* relaxed: our own. */
  if (GYRE_LIKELY(asked == gyre__load_relaxed(&heap->purge_seen))) return false;
  gyre__purge_heap(heap);
  /* relaxed: a hint for others; pairs with spread_round(). */
  gyre__store_relaxed(&heap->purge_seen, asked);
  return true;
}

static void purge_idle(struct gyre__heap *self, uint64_t now);

void gyre__purge_tick(struct gyre__heap *heap) {
  uint64_t now = gyre__clock_ns();
  uint64_t delay = delay_ns();
  if (now - heap->tick_ns < delay / 4) return;
  heap->tick_ns = now;
  gyre__heap_send(heap);
  if (heap_keeps(heap) || reserve_keeps()) purge_older(heap, cutoff_at(now));
  if (GYRE__IS_MALLOC) { /* no safepoint will follow */
    (void)join_round(heap);
    purge_idle(heap, now);
    return;
  }
  /* relaxed: a hint; pairs with purge_idle(). */
  if (now - gyre__load_relaxed(&idle_looked_ns) >= delay / 2)
    gyre__thread_request(&heap->thread, GYRE__REQ_HEAP);
}

/* ---- other heaps ---- */

/* Does for idle slots what their threads cannot do now, and for all what anybody can: spans and the
 * reserve. True if some is still kept that we could purge later. */
static bool purge_all_idle(struct gyre__heap *self, uint64_t now) {
  uint64_t cutoff = cutoff_at(now);
  gyre__reserve_purge(cutoff);
  bool more = reserve_keeps();
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= count; id++) {
    struct gyre__heap *heap = (struct gyre__heap *)gyre__thread_slot(id);
    if (heap == self || !heap_keeps(heap)) continue;
    gyre__span_purge(heap, cutoff);
    more |= keeps_spans(heap);
    if (!gyre__thread_try_take(&heap->thread)) continue;
    purge_older(heap, cutoff);
    more |= heap_keeps(heap);
    gyre__thread_give_back(&heap->thread);
  }
  return more;
}

static void purge_idle(struct gyre__heap *self, uint64_t now) {
  /* relaxed: decides only who does it this time; partners: itself in other threads. */
  uint64_t looked = gyre__load_relaxed(&idle_looked_ns);
  if (now - looked < delay_ns() / 2) return;
  /* relaxed: as above. */
  if (!gyre__cas_weak_relaxed(&idle_looked_ns, &looked, now)) return;
  (void)purge_all_idle(self, now);
}

uint64_t gyre__purge_idle(struct gyre__heap *self) {
  /* A grace period that completes with no thread running leaves its work to whoever comes. */
  uint64_t delay = delay_ns();
  return purge_all_idle(self, gyre__clock_ns()) ? (delay > NS_PER_MS ? delay : NS_PER_MS)
                                                : UINT64_MAX;
}

/* Has every heap but `self` take part in the round, now if it is idle, else at its next safepoint.
 */
static void spread_round(struct gyre__heap *self, uint32_t round,
                         bool (*take)(struct gyre__thread *slot)) {
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= count; id++) {
    struct gyre__heap *heap = (struct gyre__heap *)gyre__thread_slot(id);
    if (heap != self) gyre__span_purge(heap, UINT64_MAX);
    /* relaxed: a hint that saves asking twice; pairs with join_round(). */
    if (heap == self || gyre__load_relaxed(&heap->purge_seen) == round) continue;
    /* relaxed: pairs with join_round(). */
    gyre__store_relaxed(&heap->purge_asked, round);
    GYRE_WINDOW("heap/purge_asked");
    if (take(&heap->thread)) {
      join_round(heap);
      gyre__thread_give_back(&heap->thread);
    } else {
      gyre__thread_request(&heap->thread, GYRE__REQ_HEAP);
    }
  }
}

void gyre__purge_others(struct gyre__heap *self) {
  spread_round(self, round_new(), gyre__thread_try_take);
}

int gyre_purge(void) {
  struct gyre__heap *self = gyre__heap_self();
  if (self == NULL) return -EAGAIN;
  gyre__fence_flush();
  if (GYRE__IS_MALLOC) {
    gyre__purge_heap(self);
    gyre__purge_others(self);
    return 0;
  }
  uint64_t deadline = gyre__clock_ns() + NS_PER_S;
  for (int i = 0; i < 3; i++) {
    uint32_t round = round_new();
    gyre__purge_heap(self);
    spread_round(self, round, gyre__thread_take);
    uint64_t now = gyre__clock_ns();
    if (!gyre__grace_wait(gyre__grace_ticket(), now < deadline ? deadline - now : 0))
      return -EAGAIN;
    /* Those who went idle before they saw the number. */
    spread_round(self, round, gyre__thread_take);
  }
  return 0;
}

/* ---- lib/thread's hooks ---- */

void gyre__purge_at_safepoint(struct gyre__thread *self) {
  struct gyre__heap *heap = (struct gyre__heap *)self;
  if (gyre__trace_is_wanted(heap)) (void)gyre__traced_adopt(heap);
  uint64_t now = gyre__clock_ns();
  gyre__heap_send(heap);
  if (!join_round(heap)) purge_older(heap, cutoff_at(now));
  purge_idle(heap, now);
}

void gyre__purge_leaving(struct gyre__thread *self, bool detach) {
  struct gyre__heap *heap = (struct gyre__heap *)self;
  if (join_round(heap)) return;
  if (detach) {
    gyre__quarantine_empty(heap);
    gyre__heap_send(heap);
  }
  if (heap_keeps(heap) || reserve_keeps()) gyre__purge_tick(heap);
}
