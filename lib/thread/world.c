/* SPDX-License-Identifier: MIT */
/* Stopping the world: every attached thread waits at a safepoint, or is parked.
 *
 * The stopper publishes `stopped`, then asks every running thread and waits for it to become idle;
 * a thread that enters first becomes running, then looks at `stopped`, and goes back if it is set.
 * Both sides write before they look, sequentially consistently, so a thread is either seen running
 * and waited for, or sees the stop and does not run.
 *
 * "Fair": a thread that has to wait counts itself in `waiters` until it runs again, and no stop
 * begins before the count is 0. So between two stops everyone who waited for the first has come out
 * of it, however soon the second follows. A thread that runs counts itself before it idles for a
 * stop: once it is idle, that stop may end and the next begin before it gets to its next
 * instruction. No thread counts itself in between, since it counts only when it sees a stop.
 *
 * "One does not hold up the others": a stop waits only a moment for a thread that passes no
 * safepoint. Then it lets the others go and waits, with them running, for a grace period, in which
 * that thread is named if it takes long (grace.c); after that it tries again and waits twice as
 * long, so that threads whose safepoints are far apart are stopped in the end.
 */
#include "lib/thread/thread.h"

#include <limits.h>

#include "lib/base/probe.h"

/* How long a first attempt keeps the others waiting. */
#define PATIENCE_NS 10000000u

static struct {
  /* Held from before a stop until it is resumed: one stop at a time. Taken parked. */
  gyre__lock lock;
  /* 1 while the world is stopped or being stopped; futex word of those who wait for its end. */
  gyre__atomic_u32 stopped;
  /* Threads that waited for the present or last stop and do not run yet; futex word of the next
   * stopper. */
  gyre__atomic_u32 waiters;
  gyre__atomic_u64 stops;
} world;

uint64_t gyre__world_stops(void) {
  /* relaxed: statistics. */
  return gyre__load_relaxed(&world.stops);
}

uint32_t gyre__world_waiters(void) {
  /* acquire: pairs with gyre__world_waited(). */
  return gyre__load_acquire(&world.waiters);
}

bool gyre__world_is_stopped(void) {
  /* seq_cst: after the entering thread's state; pairs with the store in gyre__world_stop_for(). */
  return gyre__load_seq_cst(&world.stopped) != 0;
}

bool gyre__world_count(bool counted) {
  /* seq_cst: counted before this thread is idle for the present stop, so before the next one
   * begins; pairs with the load in stop_begin(). */
  if (!counted) gyre__fetch_add_seq_cst(&world.waiters, 1);
  return true;
}

bool gyre__world_wait(bool counted) {
  if (!gyre__world_is_stopped()) return counted;
  (void)gyre__world_count(counted);
  while (gyre__world_is_stopped())
    gyre__futex_wait(&world.stopped, 1, UINT64_MAX);
  return true;
}

void gyre__world_waited(void) {
  /* acq_rel: pairs with the load in stop_begin(): this thread runs. */
  if (gyre__fetch_sub_acq_rel(&world.waiters, 1) == 1) gyre__futex_wake(&world.waiters, INT_MAX);
}

/* Waits until `slot` runs no more. False when deadline_ns has passed. */
static bool await_idle(struct gyre__thread *slot, uint64_t deadline_ns) {
  for (;;) {
    /* seq_cst: after the store of `stopped`; acquires what the thread did until it went idle. Pairs
     * with state_set() in thread.c. */
    uint32_t state = gyre__load_seq_cst(&slot->state);
    if ((state & GYRE__SLOT_STATE) != GYRE__SLOT_RUNNING) return true;
    gyre__thread_request(slot, GYRE__REQ_STOP);
    uint32_t waited = state | GYRE__SLOT_WAITED;
    /* relaxed: only asks for a wake-up. */
    if (state != waited && !gyre__cas_weak_relaxed(&slot->state, &state, waited)) continue;
    uint64_t now = gyre__clock_ns();
    if (now >= deadline_ns) return false;
    gyre__futex_wait(&slot->state, waited, deadline_ns - now);
  }
}

/* Waits until all who waited for the last stop run. With the lock held. */
static void stop_begin(void) {
  for (;;) {
    /* acquire: pairs with gyre__world_waited(). */
    uint32_t waiters = gyre__load_acquire(&world.waiters);
    if (waiters == 0) return;
    gyre__futex_wait(&world.waiters, waiters, UINT64_MAX);
  }
}

bool gyre__world_stop_for(struct gyre__thread *self, uint64_t timeout_ns) {
  gyre__lock_parked(self, &world.lock);
  stop_begin();
  uint64_t began_ns = gyre__clock_ns(), deadline = began_ns + timeout_ns;
  /* seq_cst: before the looks at the slots' states; pairs with gyre__world_is_stopped(). */
  gyre__store_seq_cst(&world.stopped, 1);
  GYRE_WINDOW("world/stopping");
  uint32_t count = gyre__thread_slot_count();
  /* Ask all first, so that they come to rest at the same time; then wait for each. */
  for (uint32_t id = 1; id <= count; id++) {
    struct gyre__thread *slot = gyre__thread_slot(id);
    /* relaxed: await_idle() looks properly. */
    uint32_t state = gyre__load_relaxed(&slot->state);
    if (slot != self && (state & GYRE__SLOT_STATE) == GYRE__SLOT_RUNNING)
      gyre__thread_request(slot, GYRE__REQ_STOP);
  }
  bool all = true;
  for (uint32_t id = 1; id <= count; id++) {
    struct gyre__thread *slot = gyre__thread_slot(id);
    if (slot != self) all &= await_idle(slot, deadline);
  }
  GYRE_PROBE2(world_stopped, all, gyre__clock_ns() - began_ns);
  /* relaxed: statistics. */
  if (all) gyre__fetch_add_relaxed(&world.stops, 1);
  return all;
}

void gyre__world_stop(struct gyre__thread *self) {
  for (uint64_t patience = PATIENCE_NS;; patience *= 2) {
    if (gyre__world_stop_for(self, patience)) return;
    gyre__world_resume(self);
    gyre__grace_wait(gyre__grace_ticket(), UINT64_MAX);
  }
}

void gyre__world_resume(struct gyre__thread *self) {
  (void)self;
  /* seq_cst: releases what was done in the stopped world to those who enter; pairs with
   * gyre__world_is_stopped(). */
  gyre__store_seq_cst(&world.stopped, 0);
  GYRE_PROBE0(world_resumed);
  gyre__futex_wake(&world.stopped, INT_MAX);
  gyre__lock_give(&world.lock);
}

void gyre__world_after_fork(void) {
  /* relaxed: no other thread exists in the child. */
  gyre__store_relaxed(&world.waiters, 0);
  gyre__store_relaxed(&world.stopped, 0);
  gyre__lock_reset(&world.lock);
}
