/* SPDX-License-Identifier: MIT */
/* The service thread, which collects beside the program; and what the program does when it is too far
 * ahead of it.
 *
 *               ask: pthread_create             gyre_service_stop()
 *     NONE <---------------------------> RUNNING ------------------> STOPPING --> NONE
 *               gyre_service_run()
 *
 * The thread sleeps, parked, on a word that counts what it is asked for; it looks at the word, then at
 * what there is to do, and sleeps only if the word has not changed since. Between its collections it
 * also looks after threads that are idle: blocks in their limbo, pages that they keep empty. It wakes
 * by itself only while idle threads keep empty pages, once a purge delay.
 *
 * Pacing. New memory is what can turn into garbage unseen (generation.c). When twice as much as the
 * bound is waiting, a safepoint first helps: it takes pages of condemned objects from the collection
 * that is under way and frees them. Then it waits, parked, a millisecond at a time, until the
 * collection is over: while the collector works, for LONG times "pace_ms" at most for each collection;
 * while the collector is itself held up, by a thread that does not answer its handshake, for "pace_ms"
 * at most. Then the heap grows instead. Allocations never wait: borrowed pointers live across them, and the handshake that
 * the collection may be waiting for is the allocating thread's own.
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>

#include "lib/collect/collect.h"

enum { NONE, RUNNING, STOPPING };

static struct {
  gyre__lock lock; /* protects the fields up to `adopted` */
  pthread_t thread;
  bool is_programs;           /* gyre_service_run() */
  struct gyre__chain adopted; /* cut-off cascades */
  /* Written under the lock. Futex word of who waits for the end. */
  gyre__atomic_u32 state;
  /* 1: gyre_fini() is at work, and no thread is started. Written under the lock; futex word of the
   * program's thread on its way out. */
  gyre__atomic_u32 closed;
  /* 1: the collector waits for threads to answer. */
  gyre__atomic_u32 in_handshake;
  /* The thread's slot. */
  gyre__atomic_u32 id;
  /* Counts what was asked: futex word of the service thread. */
  gyre__atomic_u32 asked;
  gyre__atomic_u32 sleeping;
  /* Counts collections that are over, by whichever thread: futex word of those who wait. */
  gyre__atomic_u32 finished;
} service;

static bool is_service(const struct gyre__objects *self) {
  /* relaxed: only the thread itself finds its own id there. */
  return self != NULL && gyre__load_relaxed(&service.id) == self->heap.thread.base.id;
}

static uint32_t state_of(void) {
  /* acquire: what the thread did before it ended; pairs with state_set(). */
  return gyre__load_acquire(&service.state);
}

static void state_set(uint32_t state) {
  /* release: pairs with state_of(). */
  gyre__store_release(&service.state, state);
  gyre__futex_wake(&service.state, INT_MAX);
}

static bool is_closed(void) {
  /* acquire: pairs with gyre__service_close(). */
  return gyre__load_acquire(&service.closed) != 0;
}

static void wake(void) {
  /* seq_cst: before the look at `sleeping`; pairs with sleep(). */
  gyre__fetch_add_seq_cst(&service.asked, 1);
  /* seq_cst: see above. */
  if (gyre__load_seq_cst(&service.sleeping) != 0) gyre__futex_wake(&service.asked, INT_MAX);
}

/* ---- the thread ---- */

/* What idle threads cannot do for themselves. */
void gyre__limbo_free_idle(struct gyre__objects *self) {
  uint32_t word = gyre__mode_published();
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= count; id++) {
    struct gyre__objects *slot = (struct gyre__objects *)gyre__thread_slot(id);
    if (slot == self || !gyre__thread_try_take(&slot->heap.thread)) continue;
    if (gyre__mode_of(word) == GYRE__MODE_IDLE ||
        gyre__mode_epoch(word) != gyre__mode_epoch(slot->heap.thread.mode))
      gyre__chain_move(&slot->ripe, &slot->limbo);
    uint64_t budget = gyre__option(release_budget);
    gyre__ripe_free(slot, &budget);
    bool more = slot->ripe.first != NULL;
    gyre__thread_give_back(&slot->heap.thread);
    if (more) id--; /* its thread may want it back in between */
  }
}

static bool adopt(struct gyre__objects *self) {
  gyre__lock_take(&service.lock);
  bool any = service.adopted.first != NULL;
  gyre__chain_move(&self->dying, &service.adopted);
  gyre__lock_give(&service.lock);
  if (any) gyre__thread_request(&self->heap.thread, GYRE__REQ_RELEASE);
  return any;
}

/* One round; false if there was nothing to do. */
static bool work(struct gyre__objects *self, bool asked) {
  bool any = adopt(self);
  if (gyre__option(finalizers) == GYRE__FINALIZERS_SERVICE) any |= gyre_run_pending(SIZE_MAX) > 0;
  while (self->dying.first != NULL || self->ripe.first != NULL)
    gyre_safepoint();
  uint64_t always = gyre__option(collect_always);
  enum gyre__reason reason = GYRE__REASON_ALWAYS;
  int generation = always > 0 && asked ? (int)(always - 1) : gyre__generation_due(&reason);
  if (generation < 0 || gyre__option(gc_mode) != GYRE_GC_CONCURRENT) return any;
  gyre__collector_let_in();
  /* Not waiting: while another thread collects, what is due is being looked at. */
  if (gyre__collect(self, generation, reason, true) == -ENOMEM) return any;
  gyre__limbo_free_idle(self);
  return true;
}

/* Until `asked` is not `seen` any more. */
static void sleep_until_asked(struct gyre__objects *self, uint32_t seen) {
  uint64_t timeout_ns = gyre__purge_idle(&self->heap);
  gyre_park();
  /* seq_cst: before the look at the word, which the kernel repeats; pairs with wake(). */
  gyre__store_seq_cst(&service.sleeping, 1);
  /* seq_cst: see above. */
  if (gyre__load_seq_cst(&service.asked) == seen)
    (void)gyre__futex_wait(&service.asked, seen, timeout_ns);
  /* relaxed: only saves wake-ups. */
  gyre__store_relaxed(&service.sleeping, 0);
  gyre_unpark();
}

static void serve(struct gyre__objects *self) {
  /* relaxed: for is_service(), which asks for the thread's own. */
  gyre__store_relaxed(&service.id, self->heap.thread.base.id);
  uint32_t seen = 0;
  while (state_of() != STOPPING) {
    /* seq_cst: before the looks at what there is to do; pairs with wake(). */
    uint32_t now = gyre__load_seq_cst(&service.asked);
    bool asked = now != seen;
    seen = now;
    if (!work(self, asked)) sleep_until_asked(self, seen);
    gyre_safepoint();
  }
  (void)adopt(self);
  if (gyre__option(finalizers) == GYRE__FINALIZERS_SERVICE) (void)gyre_run_pending(SIZE_MAX);
  gyre__release_all(self);
  /* relaxed: as above. */
  gyre__store_relaxed(&service.id, 0);
}

static void *thread_main(void *arg) {
  (void)arg;
  (void)pthread_setname_np(pthread_self(), "gyre-service");
  struct gyre__objects *self = (struct gyre__objects *)gyre__thread_self();
  if (self != NULL) {
    serve(self);
    gyre_thread_detach();
  } else {
    (void)pthread_detach(pthread_self());
  }
  state_set(NONE);
  return NULL;
}

/* With the lock held. The thread takes no signals. */
static bool thread_start(void) {
  sigset_t all, before;
  sigfillset(&all);
  (void)pthread_sigmask(SIG_SETMASK, &all, &before);
  service.is_programs = false;
  state_set(RUNNING);
  int result = pthread_create(&service.thread, NULL, thread_main, NULL);
  (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (result != 0) state_set(NONE);
  return result == 0;
}

bool gyre__service_ask(void) {
  if (state_of() == NONE) {
    gyre__lock_take(&service.lock);
    bool running = state_of() != NONE || (!is_closed() && thread_start());
    gyre__lock_give(&service.lock);
    if (!running) return false;
  }
  wake();
  return true;
}

int gyre_service_run(void) {
  struct gyre__objects *self = (struct gyre__objects *)gyre__thread_self();
  if (self == NULL) return -EAGAIN;
  gyre__lock_take(&service.lock);
  bool mine = state_of() == NONE;
  if (mine) {
    service.is_programs = true;
    state_set(RUNNING);
  }
  gyre__lock_give(&service.lock);
  if (!mine) return -EBUSY;
  serve(self);
  /* gyre_fini() finds no thread running, until it is through. */
  gyre_park();
  state_set(NONE);
  while (is_closed())
    gyre__futex_wait(&service.closed, 1, UINT64_MAX);
  gyre_unpark();
  return 0;
}

void gyre_service_stop(void) {
  struct gyre__objects *self = (struct gyre__objects *)gyre__thread_current();
  if (is_service(self)) return;
  gyre__lock_take(&service.lock);
  bool running = state_of() == RUNNING;
  bool join = running && !service.is_programs;
  pthread_t thread = service.thread;
  if (running) state_set(STOPPING);
  gyre__lock_give(&service.lock);
  wake();
  /* It may be waiting for the collection that we are in. */
  if (self != NULL && gyre__is_collecting(self)) {
    if (join) (void)pthread_detach(thread);
    return;
  }
  gyre_park();
  if (join) (void)pthread_join(thread, NULL);
  while (state_of() == STOPPING)
    gyre__futex_wait(&service.state, STOPPING, UINT64_MAX);
  gyre_unpark();
}

void gyre__service_close(bool closed) {
  gyre__lock_take(&service.lock);
  /* release: pairs with is_closed(). */
  gyre__store_release(&service.closed, closed);
  gyre__futex_wake(&service.closed, INT_MAX);
  gyre__lock_give(&service.lock);
}

/* ---- cascades ---- */

static bool cascade_cut(struct gyre__objects *self, struct gyre__chain *chain) {
  if (gyre__option(cascade) != GYRE__CASCADE_SERVICE || is_service(self) ||
      gyre__is_collecting(self))
    return false;
  if (!gyre__service_ask()) return false;
  gyre__lock_take(&service.lock);
  /* What is there while it runs, it takes before it ends. */
  bool running = state_of() == RUNNING;
  if (running) gyre__chain_move(&service.adopted, chain);
  gyre__lock_give(&service.lock);
  if (running) wake();
  return running;
}

/* ---- queued finalizers ---- */

/* A thread is started when there is something for it; if it cannot be, the finalizer is run where it is. */
static bool pending_is_served(void) {
  if (is_closed()) return false;
  return gyre__option(finalizers) == GYRE__FINALIZERS_PROGRAM || gyre__service_ask();
}

static void pending_added(void) {
  if (gyre__option(finalizers) == GYRE__FINALIZERS_SERVICE) (void)gyre__service_ask();
}

bool gyre__finalizer_is_queued(const struct gyre__objects *self, const gyre__header *h) {
  if (gyre__option(finalizers) == GYRE__FINALIZERS_PROGRAM) return !is_closed();
  return gyre__header_type(h)->flags & GYRE_TYPE_FINALIZE_QUEUED && !is_service(self) &&
         pending_is_served();
}

/* ---- pacing ---- */

void gyre__service_in_handshake(bool on) {
  /* relaxed: a hint; pairs with gyre__service_pace(). */
  gyre__store_relaxed(&service.in_handshake, on);
}

void gyre__service_collected(void) {
  /* seq_cst: after the figures of what waits are new; pairs with gyre__service_pace(). */
  gyre__fetch_add_seq_cst(&service.finished, 1);
  gyre__futex_wake(&service.finished, INT_MAX);
}

static bool is_too_far(void) {
  uint64_t bytes, objects;
  gyre__generation_waiting(&bytes, &objects);
  return bytes > 2 * gyre__waiting_bytes_bound() || objects > 2 * gyre__waiting_objects_bound();
}

/* How long this thread may help before it looks again. */
#define HELP_NS 100000u

/* How long it waits at one safepoint. */
#define WAIT_NS 1000000u

static __thread struct {
  bool busy;
  uint32_t finished; /* `service.finished` when it waited last */
  /* For the collection that was to come then: in all, and while the collector was held up. */
  uint64_t waited_ns, vain_ns;
} pacing;
#define LONG 20u

void gyre__service_pace(struct gyre__objects *self) {
  if (!is_too_far() || pacing.busy || is_service(self) || gyre__is_collecting(self)) return;
  pacing.busy = true;
  uint64_t start = gyre__clock_ns(), now = start;
  while (now - start < HELP_NS && gyre__dead_help(self))
    now = gyre__clock_ns();
  if (now != start) gyre__stats_paced(now - start, false);
  /* seq_cst: before the look at what waits; pairs with gyre__service_collected(). */
  uint32_t finished = gyre__load_seq_cst(&service.finished);
  if (pacing.finished != finished) {
    pacing.finished = finished;
    pacing.waited_ns = pacing.vain_ns = 0;
  }
  uint64_t most = gyre__option(pace_ms) * 1000000u;
  if (pacing.vain_ns < most && pacing.waited_ns < LONG * most && is_too_far()) {
    GYRE_WINDOW("service/pacing");
    gyre_park();
    (void)gyre__futex_wait(&service.finished, finished, WAIT_NS);
    gyre_unpark();
    uint64_t waited = gyre__clock_ns() - now;
    pacing.waited_ns += waited;
    /* relaxed: a hint. */
    if (gyre__load_relaxed(&service.in_handshake)) pacing.vain_ns += waited;
    gyre__stats_paced(waited, true);
  }
  pacing.busy = false;
}

/* ---- fork ---- */

void gyre__service_fork_child(void) {
  gyre__lock_reset(&service.lock);
  struct gyre__objects *self = (struct gyre__objects *)gyre__thread_current();
  /* The service thread itself may fork, in a finalizer; then it goes on in the child. */
  if (is_service(self)) return;
  /* relaxed: no other thread exists. */
  gyre__store_relaxed(&service.state, NONE);
  gyre__store_relaxed(&service.id, 0);
  gyre__store_relaxed(&service.sleeping, 0);
  gyre__store_relaxed(&service.closed, 0);
  pacing.busy = false;
}

static void __attribute__((constructor)) service_init(void) {
  gyre__object_hooks.cascade_cut = cascade_cut;
  gyre__object_hooks.pending_is_served = pending_is_served;
  gyre__object_hooks.pending_added = pending_added;
}
