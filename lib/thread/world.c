/* SPDX-License-Identifier: MIT */
/* Stopping the world: every attached thread waits at a safepoint, or is parked.
 *
 * The stopper publishes `stopped`, then asks every running thread and waits for it to become idle;
 * a thread that enters first becomes running, then looks at `stopped`, and goes back if it is set.
 * Both sides write before they look, sequentially consistently, so a thread is either seen running
 * and waited for, or sees the stop and does not run.
 *
 * "Fair": a thread that had to wait counts itself in `waiters` until it runs again, and no stop
 * begins before the count is 0. So between two stops everyone who waited for the first has come out
 * of it, however soon the second follows. No thread counts itself in between, since it counts only
 * when it sees a stop.
 */
#include "lib/thread/thread.h"

#include <limits.h>

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

bool gyre__world_wait(bool counted) {
  if (!gyre__world_is_stopped()) return counted;
  /* seq_cst: counted before the stop's end is waited for; pairs with the load in stop_begin(). */
  if (!counted) gyre__fetch_add_seq_cst(&world.waiters, 1);
  while (gyre__world_is_stopped())
    gyre__futex_wait(&world.stopped, 1, UINT64_MAX);
  return true;
}

void gyre__world_waited(void) {
  /* acq_rel: pairs with the load in stop_begin(): this thread runs. */
  if (gyre__fetch_sub_acq_rel(&world.waiters, 1) == 1) gyre__futex_wake(&world.waiters, INT_MAX);
}

/* Waits until `slot` runs no more. False when deadline_ns has passed. */
static bool await_idle(struct gyre__thread *slot, uint64_t since_ns, uint64_t deadline_ns) {
  uint64_t patience = gyre__option(stall_ms) * 1000000u;
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
    uint64_t wait = deadline_ns - now < patience ? deadline_ns - now : patience;
    if (!gyre__futex_wait(&slot->state, waited, wait) && gyre__clock_ns() - since_ns >= patience) {
      gyre__stall_report("stopping the world", GYRE__REQ_STOP, since_ns);
      patience *= 2;
    }
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

void gyre__world_stop_for(struct gyre__thread *self, uint64_t timeout_ns) {
  gyre__lock_parked(self, &world.lock);
  stop_begin();
  uint64_t now = gyre__clock_ns();
  uint64_t deadline = timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + timeout_ns;
  /* seq_cst: before the looks at the slots' states; pairs with gyre__world_is_stopped(). */
  gyre__store_seq_cst(&world.stopped, 1);
  GYRE_WINDOW("world/stopping");
  uint32_t count = gyre__thread_slot_count();
  /* Ask all first, so that they come to rest at the same time; then wait for each. */
  for (uint32_t id = 1; id <= count; id++) {
    struct gyre__thread *slot = gyre__thread_slot(id);
    /* relaxed: await_idle() looks properly. */
    if (slot == self || (gyre__load_relaxed(&slot->state) & GYRE__SLOT_STATE) != GYRE__SLOT_RUNNING)
      continue;
    /* relaxed: a time stamp for stall reports. */
    gyre__store_relaxed(&slot->asked_ns, now);
    gyre__thread_request(slot, GYRE__REQ_STOP);
  }
  for (uint32_t id = 1; id <= count; id++) {
    struct gyre__thread *slot = gyre__thread_slot(id);
    if (slot != self) await_idle(slot, now, deadline);
  }
  /* relaxed: statistics. */
  gyre__fetch_add_relaxed(&world.stops, 1);
}

void gyre__world_stop(struct gyre__thread *self) { gyre__world_stop_for(self, UINT64_MAX); }

void gyre__world_resume(struct gyre__thread *self) {
  (void)self;
  /* seq_cst: releases what was done in the stopped world to those who enter; pairs with
   * gyre__world_is_stopped(). */
  gyre__store_seq_cst(&world.stopped, 0);
  gyre__futex_wake(&world.stopped, INT_MAX);
  gyre__lock_give(&world.lock);
}

void gyre__world_after_fork(void) {
  /* relaxed: no other thread exists in the child. */
  gyre__store_relaxed(&world.waiters, 0);
  gyre__store_relaxed(&world.stopped, 0);
  gyre__lock_reset(&world.lock);
}
