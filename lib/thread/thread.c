/* SPDX-License-Identifier: MIT */
/* Thread slots: attaching, detaching, parking, and what a safepoint does.
 *
 * The state of a slot is one word (thread.h lists its values):
 *
 *              attach                    park
 *     ORPHAN ----------> RUNNING <---------------> PARKED
 *       ^  |  <----------                           |  ^
 *       |  |    detach                              |  |
 *       v  v                                        v  |
 *     TAKEN_ORPHAN                              TAKEN_PARKED
 *
 * RUNNING belongs to the slot's thread alone: only it leaves that state. In ORPHAN and PARKED
 * anybody may take the slot for a moment, with a compare-exchange, and then stands in for its
 * thread: this is how counts of a blocked owner are settled, and how its empty pages go back to the
 * system.
 *
 * "No request is lost": whoever leaves something for a slot (a merge, say) first publishes it, then
 * sets a request bit, then looks at the state; a thread that goes idle first writes the state, then
 * looks whether something was left. All four are sequentially consistent, so one of the two sees
 * the other: either the thread comes back for it, or the giver takes the slot and does it himself.
 * If the slot is taken by a third, the giver waits for that; a thread that unparks serves its
 * requests.
 *
 * "Idle threads hold nothing": a thread answers handshakes before or after it writes its idle
 * state, whoever clears the bit being the one who counts (grace.c).
 *
 * Slots are never unmade, so a slot id and the pointer behind it are valid for ever; their number
 * is the largest number of threads that were ever attached at once. The last orphan made is
 * inherited first: its pools are the warmest.
 */
#include "lib/thread/thread.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>

#include "lib/base/probe.h"

union gyre__thread_room gyre__thread_unattached;

__thread gyre_thread *gyre__self = &gyre__thread_unattached.thread.base;
__thread uint32_t gyre__bias = GYRE__BIAS_NONE;

struct gyre__thread_hooks gyre__thread_hooks;

/* Slots are carved from pieces of this many; where memory is bounded, they come one by one. */
#define SLOTS_A_PIECE 8

static struct {
  /* Protects the fields up to `table`, and slots' names. Held for a few instructions, and while a
   * piece of slots is mapped; innermost but for the log's. */
  gyre__lock lock;
  struct gyre__thread *orphans;
  char *piece;
  uint32_t piece_left;
  /* Written under the lock, read by anyone: entries 1..count are set, once. */
  gyre__atomic_u32 count;
  gyre__atomic_ptr table[GYRE__SLOT_MAX + 1];
} registry;

static pthread_once_t setup_once = PTHREAD_ONCE_INIT;
static pthread_key_t exit_key;

/* ---- looking up ---- */

struct gyre__thread *gyre__thread_slot(uint32_t id) {
  /* acquire: the slot's contents; pairs with the release in slot_make(). */
  return (struct gyre__thread *)gyre__load_acquire(&registry.table[id]);
}

uint32_t gyre__thread_slot_count(void) {
  /* seq_cst: who looks through all slots after a seq_cst write of his own (a stop, a grace period)
   * either sees a new slot or is seen by it when it enters; pairs with the store in slot_make(). */
  return gyre__load_seq_cst(&registry.count);
}

void gyre__thread_slots_hold(void) { gyre__lock_take(&registry.lock); }
void gyre__thread_slots_let_go(void) { gyre__lock_give(&registry.lock); }

void gyre__thread_request(struct gyre__thread *slot, uint32_t bits) {
  /* seq_cst: after publishing what the bit is about, before looking at the slot's state; see "No
   * request is lost". Pairs with the fetch_and in gyre__safepoint_slow() and gyre__thread_idle().
   */
  gyre__fetch_or_seq_cst(&slot->base.request, bits);
}

static uint32_t slot_state(struct gyre__thread *slot) {
  /* seq_cst: see "No request is lost"; pairs with the exchanges of gyre__thread_idle(). */
  return gyre__load_seq_cst(&slot->state) & GYRE__SLOT_STATE;
}

/* ---- the state machine ---- */

static void state_set(struct gyre__thread *slot, uint32_t state) {
  /* seq_cst: see "No request is lost"; also releases all this thread did with the slot to whoever
   * takes it or finds it stopped. Pairs with the compare-exchanges in slot_try() and
   * gyre__thread_enter(), and the loads of slot_state(). */
  uint32_t old = gyre__exchange_seq_cst(&slot->state, state);
  if (old & GYRE__SLOT_WAITED) gyre__futex_wake(&slot->state, INT_MAX);
}

/* Sleeps until the state changes from `state`, at most timeout_ns. */
static void state_wait(struct gyre__thread *slot, uint32_t state, uint64_t timeout_ns) {
  if (!(state & GYRE__SLOT_WAITED)) {
    /* relaxed: only asks for a wake-up; the caller looks at the state again. */
    if (!gyre__cas_weak_relaxed(&slot->state, &state, state | GYRE__SLOT_WAITED)) return;
    state |= GYRE__SLOT_WAITED;
  }
  gyre__futex_wait(&slot->state, state, timeout_ns);
}

void gyre__thread_idle(struct gyre__thread *self, uint32_t idle) {
  if (gyre__thread_hooks.heap_idling) gyre__thread_hooks.heap_idling(self);
  GYRE_WINDOW("thread/idle");
  state_set(self, idle);
  GYRE_WINDOW("thread/idled");
  /* seq_cst: a grace period that saw this slot running has set the bit by now or finds it idle;
   * pairs with the fetch_or and the look at the state in grace.c, ask(). Whoever clears the bit
   * answers. */
  if (gyre__load_seq_cst(&self->base.request) & GYRE__REQ_HANDSHAKE &&
      gyre__fetch_and_seq_cst(&self->base.request, ~(uint32_t)GYRE__REQ_HANDSHAKE) &
          GYRE__REQ_HANDSHAKE)
    gyre__grace_ack(self);
}

/* `waited`: the thread is counted among those who wait for the world. */
static void enter(struct gyre__thread *self, uint32_t idle, bool waited) {
  for (;;) {
    waited = gyre__world_wait(waited);
    /* relaxed: the compare-exchange decides. */
    uint32_t state = gyre__load_relaxed(&self->state);
    if ((state & GYRE__SLOT_STATE) != idle) {
      /* Taken: the taker is quick. */
      state_wait(self, state, UINT64_MAX);
      continue;
    }
    GYRE_WINDOW("thread/enter");
    /* seq_cst: acquires what a taker did (state_set()), and goes before the look at the world
     * below, which in turn goes before all that this thread reads from now on (slots, its mode). */
    if (!gyre__cas_weak_seq_cst(&self->state, &state, GYRE__SLOT_RUNNING)) continue;
    if (state & GYRE__SLOT_WAITED) gyre__futex_wake(&self->state, INT_MAX);
    if (!gyre__world_is_stopped()) break;
    waited = gyre__world_count(waited);
    gyre__thread_idle(self, idle);
  }
  if (waited) gyre__world_waited();
}

void gyre__thread_enter(struct gyre__thread *self, uint32_t idle) {
  enter(self, idle, false);
  gyre__mode_adopt(self);
}

static uint32_t state_taken(uint32_t state) {
  if (state == GYRE__SLOT_ORPHAN) return GYRE__SLOT_TAKEN_ORPHAN;
  if (state == GYRE__SLOT_PARKED) return GYRE__SLOT_TAKEN_PARKED;
  return GYRE__SLOT_TAKEN_LOST;
}

/* Takes the slot if its state is one of the set bits in `from`; waits while another has it taken if
 * `wait`. */
static bool slot_try(struct gyre__thread *slot, uint32_t from, bool wait) {
  for (;;) {
    /* relaxed: the compare-exchange decides. */
    uint32_t state = gyre__load_relaxed(&slot->state);
    uint32_t plain = state & GYRE__SLOT_STATE;
    if (from & 1u << plain) {
      uint32_t waited = state & GYRE__SLOT_WAITED;
      /* acq_rel: acquires what the thread or the last taker left (state_set()). */
      if (gyre__cas_weak_acq_rel(&slot->state, &state, state_taken(plain) | waited)) return true;
      continue;
    }
    bool taken = plain == GYRE__SLOT_TAKEN_ORPHAN || plain == GYRE__SLOT_TAKEN_PARKED ||
                 plain == GYRE__SLOT_TAKEN_LOST;
    if (!taken || !wait) return false;
    state_wait(slot, state, UINT64_MAX);
  }
}

#define TAKEABLE (1u << GYRE__SLOT_ORPHAN | 1u << GYRE__SLOT_PARKED)

bool gyre__thread_try_take(struct gyre__thread *slot) { return slot_try(slot, TAKEABLE, false); }

bool gyre__thread_take(struct gyre__thread *slot) { return slot_try(slot, TAKEABLE, true); }

bool gyre__thread_take_counts(struct gyre__thread *slot) {
  return slot_try(slot, TAKEABLE | 1u << GYRE__SLOT_LOST, true);
}

void gyre__thread_give_back(struct gyre__thread *slot) {
  /* relaxed: only the taker changes it now, but for the flag. */
  uint32_t taken = gyre__load_relaxed(&slot->state) & GYRE__SLOT_STATE;
  GYRE_ASSERT(taken == GYRE__SLOT_TAKEN_ORPHAN || taken == GYRE__SLOT_TAKEN_PARKED ||
              taken == GYRE__SLOT_TAKEN_LOST);
  state_set(slot, taken == GYRE__SLOT_TAKEN_ORPHAN   ? GYRE__SLOT_ORPHAN
                  : taken == GYRE__SLOT_TAKEN_PARKED ? GYRE__SLOT_PARKED
                                                     : GYRE__SLOT_LOST);
}

/* ---- attaching and detaching ---- */

/* In libgyre_malloc: how far the thread has come to its end. */
static __thread enum { THREAD_RUNS, THREAD_ENDS, THREAD_HAS_ENDED } thread_end;

bool gyre__thread_has_ended(void) { return thread_end == THREAD_HAS_ENDED; }

/* Destructors that come after this one free, and allocate, so that of libgyre_malloc waits for the next
 * round. What comes still later, from the C library itself, does without a slot or has one for the
 * length of a call (lib/malloc/malloc.h). A thread that attaches only in the last but one round or
 * later is not detached: its slot is never used again. */
static bool exit_put_off(struct gyre__thread *self) {
  bool put_off = thread_end == THREAD_RUNS && pthread_setspecific(exit_key, self) == 0;
  thread_end = put_off ? THREAD_ENDS : THREAD_HAS_ENDED;
  return put_off;
}

static void thread_exit(void *slot) {
  struct gyre__thread *self = (struct gyre__thread *)slot;
  if (GYRE__IS_MALLOC && exit_put_off(self)) return;
  /* It may have been cancelled, or have called pthread_exit(), while it was parked. */
  if (self->park_depth > 0) {
    self->park_depth = 1;
    gyre_unpark();
  }
  gyre_thread_detach();
}

/* Sees to it that the thread detaches at its end. 0 or an errno value. */
static int exit_arm(struct gyre__thread *self) {
  return gyre__thread_has_ended() ? 0 : pthread_setspecific(exit_key, self);
}

static void setup(void) {
  if (gyre__heap_setup) gyre__heap_setup();
  gyre__options_init();
  GYRE_REQUIRE(pthread_key_create(&exit_key, thread_exit) == 0,
               "pthread_key_create failed: all thread-specific keys are in use");
  gyre__fork_init();
}

/* A new slot, or NULL with errno. Under the registry lock. */
static struct gyre__thread *slot_make(void) {
  /* relaxed: written under the lock, which we hold. */
  uint32_t id = gyre__load_relaxed(&registry.count) + 1;
  if (id > GYRE__SLOT_MAX) {
    errno = EAGAIN;
    return NULL;
  }
  if (registry.piece_left == 0) {
    uint32_t slots = gyre__source_bound() != 0 ? 1 : SLOTS_A_PIECE;
    registry.piece = gyre__os_map((size_t)GYRE__SLOT_BYTES * slots, gyre__os_page_size());
    if (registry.piece == NULL) {
      errno = ENOMEM;
      return NULL;
    }
    registry.piece_left = slots;
  }
  struct gyre__thread *slot = (struct gyre__thread *)(void *)registry.piece;
  registry.piece += GYRE__SLOT_BYTES;
  registry.piece_left--;
  slot->base.id = id;
  for (int i = 0; i < 2; i++)
    if (gyre__thread_hooks.slot_init[i]) gyre__thread_hooks.slot_init[i](slot);
  /* release: the slot's contents; pairs with the acquire in gyre__thread_slot(). */
  gyre__store_release(&registry.table[id], slot);
  /* seq_cst: before this slot's first step to RUNNING; pairs with gyre__thread_slot_count(). */
  gyre__store_seq_cst(&registry.count, id);
  return slot;
}

static struct gyre__thread *slot_acquire(void) {
  gyre__lock_take(&registry.lock);
  struct gyre__thread *slot = registry.orphans;
  if (slot != NULL)
    registry.orphans = slot->orphan_next;
  else
    slot = slot_make();
  if (slot != NULL) {
    slot->os_id = gyre__os_thread_id();
    gyre__os_thread_name(slot->name);
  }
  gyre__lock_give(&registry.lock);
  return slot;
}

static void slot_orphan(struct gyre__thread *slot) {
  gyre__lock_take(&registry.lock);
  slot->name[0] = '\0';
  slot->orphan_next = registry.orphans;
  registry.orphans = slot;
  gyre__lock_give(&registry.lock);
}

/* Clears request bits and tells which of them were set. */
static uint32_t requests_take(struct gyre__thread *self, uint32_t bits) {
  /* seq_cst: acquires what was published before the bit (gyre__thread_request()); for the handshake
   * it is the announcement, ordered before all this thread reads afterwards (its mode, slots). */
  return gyre__fetch_and_seq_cst(&self->base.request, ~bits) & bits;
}

static bool has_unsettled(struct gyre__thread *slot) {
  return gyre__thread_hooks.has_unsettled && gyre__thread_hooks.has_unsettled(slot);
}

/* Goes idle with nothing left behind: what others left before they could see us idle, we settle;
 * what they leave later, they settle themselves. */
static void leave(struct gyre__thread *self, uint32_t idle) {
  bool detach = idle == GYRE__SLOT_ORPHAN;
  for (;;) {
    /* First: what it runs may release. */
    if (requests_take(self, GYRE__REQ_DEFER)) gyre__grace_serve(self);
    if (gyre__thread_hooks.leaving) gyre__thread_hooks.leaving(self, detach);
    if (gyre__thread_hooks.heap_leaving) gyre__thread_hooks.heap_leaving(self, detach);
    if (requests_take(self, GYRE__REQ_DEFER)) gyre__grace_serve(self);
    gyre__grace_begin();
    /* Not before: program code that ran so far, in releases, must not take this thread for parked. */
    self->park_depth = detach ? 0 : 1;
    gyre__thread_idle(self, idle);
    if (!has_unsettled(self)) break;
    gyre__thread_enter(self, idle);
    self->park_depth = 0;
  }
}

static void slot_leave(struct gyre__thread *self) {
  leave(self, GYRE__SLOT_ORPHAN);
  gyre__self = &gyre__thread_unattached.thread.base;
  gyre__bias = GYRE__BIAS_NONE;
  pthread_setspecific(exit_key, NULL);
  slot_orphan(self);
}

static struct gyre__thread *thread_attach(void) {
  pthread_once(&setup_once, setup);
  struct gyre__thread *slot = slot_acquire();
  if (slot == NULL) return NULL;
  enter(slot, GYRE__SLOT_ORPHAN, false);
  gyre__self = &slot->base;
  slot->counts_are_off = gyre__option(rc) == GYRE__RC_OFF;
  slot->slow_paths = slot->counts_are_off || gyre__option(slow_paths) != 0;
  gyre__mode_adopt(slot);
  /* Now that the thread is attached: in libgyre_malloc, what this allocates comes from its slot. */
  int err = exit_arm(slot);
  if (err == 0) return slot;
  slot_leave(slot);
  errno = err;
  return NULL;
}

struct gyre__thread *gyre__thread_self(void) {
  struct gyre__thread *self = gyre__thread_current();
  return GYRE_LIKELY(self != NULL) ? self : thread_attach();
}

gyre_thread *gyre_thread_attach(void) {
  struct gyre__thread *self = gyre__thread_self();
  return self != NULL ? &self->base : NULL;
}

void gyre_thread_detach(void) {
  struct gyre__thread *self = gyre__thread_current();
  if (self == NULL) return;
  GYRE_REQUIRE(self->park_depth == 0, "gyre_thread_detach in a parked thread (%s)", self->name);
  GYRE_REQUIRE(!self->is_collecting, "thread %s ends in a finalizer or callback of a collection",
               self->name);
  /* Short-lived threads may pass no safepoint of their own: a collection that is due is made here.
   */
  gyre_safepoint();
  slot_leave(self);
}

int gyre_thread_set_name(const char *name) {
  if (name == NULL) return -EINVAL;
  struct gyre__thread *self = gyre__thread_self();
  if (self == NULL) return -errno;
  gyre__lock_take(&registry.lock);
  size_t length = strnlen(name, sizeof self->name - 1);
  memcpy(self->name, name, length);
  self->name[length] = '\0';
  gyre__lock_give(&registry.lock);
  return 0;
}

/* ---- parking ---- */

void gyre_park(void) {
  struct gyre__thread *self = gyre__thread_current();
  if (self == NULL) return;
  if (self->park_depth == 0)
    leave(self, GYRE__SLOT_PARKED);
  else
    self->park_depth++;
}

void gyre_unpark(void) {
  struct gyre__thread *self = gyre__thread_current();
  if (self == NULL) return;
  /* A thread that attached inside the block it was to be parked in has nothing to end. */
  if (self->park_depth == 0 || --self->park_depth > 0) return;
  gyre__thread_enter(self, GYRE__SLOT_PARKED);
  gyre_safepoint();
}

struct gyre__caller gyre__thread_run(struct gyre__thread *self) {
  struct gyre__caller caller = {.self = self};
  if (self == NULL || self->park_depth == 0) return caller;
  caller.park_depth = self->park_depth;
  self->park_depth = 0;
  gyre__thread_enter(self, GYRE__SLOT_PARKED);
  return caller;
}

struct gyre__caller gyre__thread_run_as_guest(void) {
  struct gyre__thread *self = gyre__thread_current();
  if (self != NULL || gyre__thread_slot_count() == 0) return gyre__thread_run(self);
  self = gyre__thread_self();
  return (struct gyre__caller){.self = self, .is_guest = self != NULL};
}

void gyre__thread_rest(const struct gyre__caller *caller) {
  if (caller->is_guest) {
    gyre_thread_detach();
  } else if (caller->park_depth > 0) {
    gyre_park();
    caller->self->park_depth = caller->park_depth;
  }
}

bool gyre__lock_parked_for(struct gyre__thread *self, gyre__lock *lock, uint64_t timeout_ns) {
  if (gyre__lock_try(lock)) return true;
  /* Who holds the lock may stop the world, so we must not wait for it running. On the way back we
   * may wait, holding the lock, for a world that somebody else stopped: who stops it never wants
   * this lock meanwhile. */
  bool park = self != NULL && self->park_depth == 0;
  if (park) leave(self, GYRE__SLOT_PARKED);
  bool taken = gyre__lock_take_for(lock, timeout_ns);
  if (park) {
    self->park_depth = 0;
    gyre__thread_enter(self, GYRE__SLOT_PARKED);
  }
  return taken;
}

void gyre__lock_parked(struct gyre__thread *self, gyre__lock *lock) {
  (void)gyre__lock_parked_for(self, lock, UINT64_MAX);
}

/* ---- safepoints ---- */

void gyre__safepoint_slow(gyre_thread *base) {
  struct gyre__thread *self = (struct gyre__thread *)base;
  if (base->id == 0 || self->park_depth > 0) return;
  const struct gyre__thread_hooks *hooks = &gyre__thread_hooks;
  uint32_t work = requests_take(self, GYRE__REQ_SETTLE | GYRE__REQ_RELEASE | GYRE__REQ_HEAP |
                                          GYRE__REQ_DEFER | GYRE__REQ_GRACE);
  if (work & GYRE__REQ_SETTLE && hooks->settle) hooks->settle(self);
  if (work & GYRE__REQ_RELEASE && hooks->release) hooks->release(self);
  if (work & GYRE__REQ_HEAP && hooks->heap) hooks->heap(self);
  if (work & GYRE__REQ_DEFER) gyre__grace_serve(self);
  if (work & GYRE__REQ_GRACE) gyre__grace_begin();
  if (requests_take(self, GYRE__REQ_HANDSHAKE)) {
    gyre__grace_ack(self);
    gyre__mode_adopt(self);
  }
  if (requests_take(self, GYRE__REQ_STOP) && gyre__world_is_stopped()) {
    bool counted = gyre__world_count(false);
    gyre__thread_idle(self, GYRE__SLOT_PARKED);
    enter(self, GYRE__SLOT_PARKED, counted);
    gyre__mode_adopt(self);
  }
  if (requests_take(self, GYRE__REQ_COLLECT) && hooks->collect) hooks->collect(self);
}

/* ---- figures ---- */

static struct {
  gyre__atomic_u64 stalls;
  gyre__atomic_u64 longest_ns;
  /* Under the registry lock. */
  char name[32];
} stall;

void gyre__thread_name(uint32_t id, char out[32]) {
  out[0] = '\0';
  if (id == 0) return;
  gyre__lock_take(&registry.lock);
  memcpy(out, gyre__thread_slot(id)->name, 32);
  gyre__lock_give(&registry.lock);
}

void gyre__stall_report(uint64_t since_ns) {
  uint64_t now = gyre__clock_ns();
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= count; id++) {
    struct gyre__thread *slot = gyre__thread_slot(id);
    /* relaxed: a report may be a moment out of date. */
    if (slot_state(slot) != GYRE__SLOT_RUNNING ||
        !(gyre__load_relaxed(&slot->base.request) & GYRE__REQ_HANDSHAKE))
      continue;
    char name[32];
    gyre__lock_take(&registry.lock);
    memcpy(name, slot->name, sizeof name);
    uint32_t os_id = slot->os_id;
    memcpy(stall.name, name, sizeof name);
    gyre__lock_give(&registry.lock);
    /* relaxed: a time stamp for this message; pairs with nothing. */
    uint64_t asked = gyre__load_relaxed(&slot->asked_ns);
    uint64_t waited = now - (asked > since_ns ? asked : since_ns);
    /* relaxed: statistics. */
    gyre__fetch_add_relaxed(&stall.stalls, 1);
    uint64_t longest = gyre__load_relaxed(&stall.longest_ns);
    /* relaxed: statistics; a maximum. */
    while (waited > longest && !gyre__cas_weak_relaxed(&stall.longest_ns, &longest, waited)) {
    }
    GYRE_PROBE3(stall, (const char *)name, os_id, waited);
    gyre__log("stall: thread \"%s\" (%u) has passed no safepoint for %llu.%03llu s; "
              "a grace period waits for it",
              name, os_id, (unsigned long long)(waited / 1000000000u),
              (unsigned long long)(waited / 1000000u % 1000u));
  }
}

int gyre_thread_get_stats(struct gyre_thread_stats *out) {
  if (out == NULL || out->size == 0) return -EINVAL;
  struct gyre_thread_stats s = {.size = out->size};
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= count; id++) {
    switch (slot_state(gyre__thread_slot(id))) {
    case GYRE__SLOT_ORPHAN:
    case GYRE__SLOT_TAKEN_ORPHAN:
      s.orphans++;
      break;
    case GYRE__SLOT_PARKED:
    case GYRE__SLOT_TAKEN_PARKED:
      s.parked++;
      s.attached++;
      break;
    case GYRE__SLOT_RUNNING:
      s.attached++;
      break;
    default:
      break;
    }
  }
  s.slots_high_water = count;
  s.grace_periods = gyre__grace_completed();
  s.stops = gyre__world_stops();
  /* relaxed: statistics. */
  s.stalls = gyre__load_relaxed(&stall.stalls);
  s.longest_stall_ns = gyre__load_relaxed(&stall.longest_ns);
  if (s.stalls > 0) {
    gyre__lock_take(&registry.lock);
    memcpy(s.stalled_thread, stall.name, sizeof s.stalled_thread);
    gyre__lock_give(&registry.lock);
  }
  size_t bytes = out->size < sizeof s ? out->size : sizeof s;
  memcpy(out, &s, bytes);
  return 0;
}

/* ---- the end of an arena ---- */

static void forget(void) {
  uint32_t count = gyre__thread_slot_count();
  /* relaxed: no thread is attached. */
  for (uint32_t id = 1; id <= count; id++)
    gyre__store_relaxed(&registry.table[id], NULL);
  gyre__store_relaxed(&registry.count, 0);
  registry.orphans = NULL;
  registry.piece = NULL;
  registry.piece_left = 0;
}

static void __attribute__((constructor)) registry_init(void) { gyre__forget_add(forget); }

/* ---- fork ---- */

void gyre__thread_fork_prepare(void) { gyre__lock_take(&registry.lock); }

void gyre__thread_fork_parent(void) { gyre__lock_give(&registry.lock); }

void gyre__thread_fork_child(void) {
  struct gyre__thread *self = gyre__thread_current();
  gyre__lock_reset(&registry.lock);
  registry.orphans = NULL;
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= count; id++) {
    struct gyre__thread *slot = gyre__thread_slot(id);
    if (slot == self) continue;
    /* relaxed: no other thread exists. */
    uint32_t state = gyre__load_relaxed(&slot->state) & GYRE__SLOT_STATE;
    bool whole = state == GYRE__SLOT_ORPHAN || state == GYRE__SLOT_PARKED;
    /* relaxed: as above. */
    gyre__store_relaxed(&slot->state, whole ? GYRE__SLOT_ORPHAN : GYRE__SLOT_LOST);
    /* relaxed: as above. What is left to be done is left to the heir; who asked for the rest is
     * gone. */
    uint32_t left =
        gyre__load_relaxed(&slot->base.request) &
        (GYRE__REQ_SETTLE | GYRE__REQ_RELEASE | GYRE__REQ_HEAP | GYRE__REQ_DEFER | GYRE__REQ_GRACE);
    gyre__store_relaxed(&slot->base.request, left);
    slot->park_depth = 0;
    slot->name[0] = '\0';
    if (!whole) continue;
    slot->orphan_next = registry.orphans;
    registry.orphans = slot;
  }
  if (self == NULL) return;
  self->os_id = gyre__os_thread_id();
  /* acq_rel: who asked for these is gone; no other thread exists to pair with. */
  gyre__fetch_and_acq_rel(&self->base.request,
                          ~(uint32_t)(GYRE__REQ_STOP | GYRE__REQ_HANDSHAKE | GYRE__REQ_DEFER));
  /* relaxed: as above; drops the flag of waiters that are gone, and a taker that is: we forked
   * parked, and nobody is to give the slot back. */
  uint32_t state = gyre__load_relaxed(&self->state) & GYRE__SLOT_STATE;
  gyre__store_relaxed(&self->state, state == GYRE__SLOT_TAKEN_PARKED ? GYRE__SLOT_PARKED : state);
}
