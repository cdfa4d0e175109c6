/* SPDX-License-Identifier: MIT */
/* Grace periods: quiescent-state-based reclamation (McKenney and Slingwine 1998; liburcu's QSBR),
 * on our own slots and turned round: threads announce nothing unless asked.
 *
 * Grace period n begins by counting `started` up to n. The beginner then asks every running thread
 * by a request bit and counts it in `remaining`. The thread answers at its next safepoint, or when
 * it goes idle; a slot that is idle when it is looked at needs no answer, since an idle thread
 * holds no borrowed pointer, and a thread that enters later has none that is older than n. Whoever
 * clears the bit takes one off `remaining`; who takes off the last completes n. So nobody waits for
 * a thread that is parked, and a safepoint costs one load while no grace period is under way: a
 * handshake costs one read-modify-write a thread on each side.
 *
 * A ticket is the number of the next grace period that begins: a read-modify-write of `started`, so
 * that whoever begins it reads from it, and everything that the ticket's taker did before is seen
 * by every thread once it has answered.
 *
 * Deferred work hangs on its thread's slot, ordered by ticket. When a grace period completes,
 * running threads with work that is ready are asked to do it; that of idle slots is done by whoever
 * is asked next, who takes the slot.
 */
#include "lib/thread/thread.h"

#include <errno.h>
#include <limits.h>

static struct {
  /* Held while a grace period is begun: one pass over the slots, nothing that blocks. */
  gyre__lock lock;
  /* Number of the grace period last begun; changed under the lock, "read" for tickets by adding 0.
   */
  gyre__atomic_u64 started;
  /* Number of the grace period last completed: started, or one less while one is under way. */
  gyre__atomic_u64 completed;
  /* The highest ticket that anybody wants. */
  gyre__atomic_u64 wanted;
  /* Threads that were asked and have not answered, and 1 while still asking. */
  gyre__atomic_u32 remaining;
  /* Counts completions, for sleepers; and how many sleep. */
  gyre__atomic_u32 word;
  gyre__atomic_u32 sleepers;
  /* An idle slot has deferred work that is ready. */
  gyre__atomic_u32 idle_ready;
  /* When the last one was begun. */
  gyre__atomic_u64 begun_ns;
  /* Who took longest to answer it so far, and how long. */
  gyre__atomic_u64 slowest_ns;
  gyre__atomic_u32 slowest_id;
} grace;

uint64_t gyre__grace_completed(void) {
  /* relaxed: statistics. */
  return gyre__load_relaxed(&grace.completed);
}

uint64_t gyre__grace_ticket(void) {
  /* acq_rel: releases what the caller took out of shared structures to the beginner of the next
   * grace period, whose read-modify-write in gyre__grace_begin() reads from this one. */
  return gyre__fetch_add_acq_rel(&grace.started, 0) + 1;
}

bool gyre__grace_done(uint64_t ticket) {
  /* acquire: all that the threads did before they answered; pairs with the exchange in complete().
   */
  return gyre__load_acquire(&grace.completed) >= ticket;
}

static bool slot_is_running(struct gyre__thread *slot) {
  /* seq_cst: after the request bit (ask()); pairs with state_set() in thread.c. */
  return (gyre__load_seq_cst(&slot->state) & GYRE__SLOT_STATE) == GYRE__SLOT_RUNNING;
}

/* Tells those who have deferred work that is ready. */
static void distribute(uint64_t completed) {
  struct gyre__thread *running = NULL;
  bool idle = false;
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= count; id++) {
    struct gyre__thread *slot = gyre__thread_slot(id);
    /* acquire: a ticket taken before this period began is seen; pairs with the store in
     * gyre__defer(). */
    uint64_t ticket = gyre__load_acquire(&slot->deferred_ticket);
    bool ready = ticket != 0 && ticket <= completed;
    /* An idle slot too: its thread may come back before anybody has done it. */
    if (ready) gyre__thread_request(slot, GYRE__REQ_DEFER);
    if (!slot_is_running(slot))
      idle |= ready;
    else if (running == NULL)
      running = slot;
  }
  if (!idle) return;
  /* release: pairs with the exchange in gyre__grace_serve(). */
  gyre__store_release(&grace.idle_ready, 1);
  /* Nobody runs: then we are on our way to idling, and do it when we are back. */
  if (running == NULL) running = gyre__thread_current();
  if (running != NULL) gyre__thread_request(running, GYRE__REQ_DEFER);
}

static void complete(void) {
  /* relaxed: only the completer of this period is here, and it began before. */
  uint64_t completed = gyre__load_relaxed(&grace.completed) + 1;
  /* seq_cst: releases what all threads did before they answered (their acq_rel subtractions in
   * gyre__grace_ack()) to gyre__grace_done(); before the look at `wanted` in gyre__grace_begin().
   */
  gyre__store_seq_cst(&grace.completed, completed);
  /* seq_cst: before the look at the sleepers; pairs with gyre__grace_wait(). */
  gyre__fetch_add_seq_cst(&grace.word, 1);
  /* seq_cst: see above. */
  if (gyre__load_seq_cst(&grace.sleepers) != 0) gyre__futex_wake(&grace.word, INT_MAX);
  distribute(completed);
  gyre__grace_begin();
}

static void answered(void) {
  /* acq_rel: gathers what each thread did before its answer, for complete(); pairs with itself in
   * the other threads. */
  if (gyre__fetch_sub_acq_rel(&grace.remaining, 1) == 1) complete();
}

void gyre__grace_ack(struct gyre__thread *self) {
  /* relaxed: a figure for traces. Two threads that answer at once may spoil it. */
  uint64_t took = gyre__clock_ns() - gyre__load_relaxed(&self->asked_ns);
  if (took > gyre__load_relaxed(&grace.slowest_ns)) {
    /* relaxed: as above. */
    gyre__store_relaxed(&grace.slowest_ns, took);
    gyre__store_relaxed(&grace.slowest_id, self->base.id);
  }
  answered();
}

void gyre__grace_slowest(uint64_t *ns, char name[32]) {
  /* relaxed: figures. */
  *ns = gyre__load_relaxed(&grace.slowest_ns);
  gyre__thread_name(gyre__load_relaxed(&grace.slowest_id), name);
}

static void ask(struct gyre__thread *slot, uint64_t now) {
  if (!slot_is_running(slot)) return;
  /* relaxed: counted before the thread can answer, which the request's seq_cst operation orders. */
  gyre__fetch_add_relaxed(&grace.remaining, 1);
  /* relaxed: a time stamp for stall reports. */
  gyre__store_relaxed(&slot->asked_ns, now);
  gyre__thread_request(slot, GYRE__REQ_HANDSHAKE);
  GYRE_WINDOW("grace/asked");
  if (slot_is_running(slot)) return;
  /* It went idle meanwhile, and either saw the bit or did not: whoever clears it answers. seq_cst:
   * pairs with gyre__thread_idle(). */
  if (gyre__fetch_and_seq_cst(&slot->base.request, ~(uint32_t)GYRE__REQ_HANDSHAKE) &
      GYRE__REQ_HANDSHAKE)
    /* acq_rel: pairs with gyre__grace_ack(); never the last: our own 1 as beginner is still
     * counted. */
    gyre__fetch_sub_acq_rel(&grace.remaining, 1);
}

/* Is one wanted and none under way? */
static bool should_begin(void) {
  /* seq_cst: after `wanted` was raised here or `completed` there, whichever is later begins the
   * next one; pairs with want() and complete(). */
  uint64_t completed = gyre__load_seq_cst(&grace.completed);
  return gyre__load_seq_cst(&grace.started) == completed &&
         gyre__load_seq_cst(&grace.wanted) > completed;
}

void gyre__grace_begin(void) {
  if (!should_begin()) return;
  gyre__lock_take(&grace.lock);
  if (!should_begin()) {
    gyre__lock_give(&grace.lock);
    return;
  }
  /* relaxed: nobody else touches it before the first thread is asked. */
  gyre__store_relaxed(&grace.remaining, 1);
  uint64_t now = gyre__clock_ns();
  /* relaxed: a time stamp. */
  gyre__store_relaxed(&grace.begun_ns, now);
  /* relaxed: figures. */
  gyre__store_relaxed(&grace.slowest_ns, 0);
  gyre__store_relaxed(&grace.slowest_id, 0);
  /* seq_cst: reads from every ticket taken before (gyre__grace_ticket()); before the looks at
   * states. */
  gyre__fetch_add_seq_cst(&grace.started, 1);
  GYRE_WINDOW("grace/begun");
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= count; id++)
    ask(gyre__thread_slot(id), now);
  gyre__lock_give(&grace.lock);
  answered();
}

static void want(uint64_t ticket) {
  /* seq_cst: see should_begin(). */
  uint64_t wanted = gyre__load_seq_cst(&grace.wanted);
  while (wanted < ticket && !gyre__cas_weak_seq_cst(&grace.wanted, &wanted, ticket)) {
  }
}

void gyre__grace_start(uint64_t ticket) {
  want(ticket);
  gyre__grace_begin();
}

bool gyre__grace_wait(uint64_t ticket, uint64_t timeout_ns) {
  gyre__grace_start(ticket);
  gyre_park();
  uint64_t start = gyre__clock_ns();
  uint64_t patience = gyre__option(stall_ms) * 1000000u;
  bool done;
  for (;;) {
    /* seq_cst: counted as a sleeper before the look at the word; pairs with complete(). */
    gyre__fetch_add_seq_cst(&grace.sleepers, 1);
    uint32_t word = gyre__load_seq_cst(&grace.word);
    done = gyre__grace_done(ticket);
    uint64_t waited = gyre__clock_ns() - start;
    bool late = !done && waited >= timeout_ns;
    if (!done && !late) {
      uint64_t rest = timeout_ns - waited;
      gyre__futex_wait(&grace.word, word, rest < patience ? rest : patience);
    }
    /* relaxed: only saves wake-ups. */
    gyre__fetch_sub_relaxed(&grace.sleepers, 1);
    if (done || late) break;
    /* relaxed: a time stamp. */
    uint64_t begun = gyre__load_relaxed(&grace.begun_ns);
    if (gyre__clock_ns() - (begun > start ? begun : start) >= patience) {
      gyre__stall_report(begun);
      patience *= 2;
    }
  }
  gyre_unpark();
  return done;
}

int gyre_synchronize(void) {
  if (gyre__thread_self() == NULL) return -errno;
  gyre__grace_wait(gyre__grace_ticket(), UINT64_MAX);
  return 0;
}

/* ---- deferred work ---- */

void gyre__defer(struct gyre__thread *slot, struct gyre__deferred *node,
                 void (*run)(struct gyre__thread *, struct gyre__deferred *)) {
  node->run = run;
  node->next = NULL;
  node->ticket = gyre__grace_ticket();
  if (slot->deferred_last != NULL)
    slot->deferred_last->next = node;
  else {
    slot->deferred_first = node;
    /* release: pairs with distribute(). */
    gyre__store_release(&slot->deferred_ticket, node->ticket);
  }
  slot->deferred_last = node;
  want(node->ticket);
  gyre_thread *self = gyre__self;
  /* relaxed: our own word; saves the read-modify-write when the bit is set already. */
  if (self->id != 0 && !(gyre__load_relaxed(&self->request) & GYRE__REQ_GRACE))
    gyre__thread_request((struct gyre__thread *)self, GYRE__REQ_GRACE);
}

/* gyre_defer(): a node with a function that may run program code. So it is not called where another
 * slot may be taken, but handed to the thread that serves it, which calls it when it has none. */
struct handed {
  struct gyre__deferred node;
  void (*function)(gyre_deferred *node);
};
_Static_assert(sizeof(struct handed) == sizeof(gyre_deferred), "as the public header shows it");

static void hand_over(struct gyre__thread *self, struct gyre__deferred *node) {
  node->next = self->handed;
  self->handed = node;
}

static void handed_run(struct gyre__thread *self) {
  struct gyre__deferred *node;
  while ((node = self->handed) != NULL) {
    self->handed = node->next;
    ((struct handed *)node)->function((gyre_deferred *)node);
  }
}

int gyre_defer(gyre_deferred *node, void (*function)(gyre_deferred *node)) {
  if (node == NULL || function == NULL) return -EINVAL;
  struct gyre__thread *self = gyre__thread_self();
  if (self == NULL) return -errno;
  ((struct handed *)node)->function = function;
  gyre__defer(self, (struct gyre__deferred *)node, hand_over);
  return 0;
}

/* Runs what is ready of a slot that is ours or taken. */
static void run_ready(struct gyre__thread *self, struct gyre__thread *slot) {
  struct gyre__deferred *node;
  while ((node = slot->deferred_first) != NULL && gyre__grace_done(node->ticket)) {
    slot->deferred_first = node->next;
    if (node->next == NULL) slot->deferred_last = NULL;
    node->run(self, node);
  }
  /* release: pairs with distribute(). */
  gyre__store_release(&slot->deferred_ticket,
                      slot->deferred_first ? slot->deferred_first->ticket : 0);
}

/* Runs what is ready of slots that are idle. */
static void serve_idle(struct gyre__thread *self) {
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= count; id++) {
    struct gyre__thread *slot = gyre__thread_slot(id);
    /* relaxed: a hint; run_ready() looks properly. */
    if (gyre__load_relaxed(&slot->deferred_ticket) == 0 || !gyre__thread_try_take(slot)) continue;
    run_ready(self, slot);
    gyre__thread_give_back(slot);
  }
}

void gyre__grace_serve(struct gyre__thread *self) {
  run_ready(self, self);
  /* acquire: pairs with distribute(). */
  if (gyre__exchange_acquire(&grace.idle_ready, 0) != 0) serve_idle(self);
  handed_run(self);
}

/* ---- the end of an arena ---- */

/* What was deferred has been run, or was in memory that is gone. */
static void forget(void) {
  /* relaxed: no thread is attached. A grace period that nobody has to answer is over. */
  gyre__store_relaxed(&grace.completed, gyre__load_relaxed(&grace.started));
  gyre__store_relaxed(&grace.remaining, 0);
  gyre__store_relaxed(&grace.idle_ready, 0);
}

static void __attribute__((constructor)) grace_init(void) { gyre__forget_add(forget); }

/* ---- fork ---- */

void gyre__grace_fork_prepare(void) { gyre__lock_take(&grace.lock); }

void gyre__grace_fork_parent(void) { gyre__lock_give(&grace.lock); }

void gyre__grace_fork_child(void) {
  gyre__lock_reset(&grace.lock);
  /* relaxed: no other thread exists. A grace period that was under way is over: those it asked are
   * gone. */
  gyre__store_relaxed(&grace.completed, gyre__load_relaxed(&grace.started));
  gyre__store_relaxed(&grace.remaining, 0);
  gyre__store_relaxed(&grace.sleepers, 0);
  gyre__store_relaxed(&grace.idle_ready, 1);
  struct gyre__thread *self = gyre__thread_current();
  if (self != NULL) gyre__thread_request(self, GYRE__REQ_DEFER | GYRE__REQ_GRACE);
}
