/* SPDX-License-Identifier: MIT */
/* What lib/thread offers the rooms above: thread slots, requests, grace periods, stopping the
 * world.
 *
 * A slot is a fixed piece of memory that is never given back. Rooms above keep their per-thread
 * state in it too: each embeds the struct of the room below as its first member (struct
 * gyre__thread here, then lib/heap's, then lib/object's), and GYRE__SLOT_BYTES is room for all of
 * them.
 */
#ifndef GYRE_LIB_THREAD_THREAD_H
#define GYRE_LIB_THREAD_THREAD_H

#include <gyre/thread.h>

#include "lib/base/base.h"

#define GYRE__SLOT_BYTES 8192
#define GYRE__SLOT_MAX 65535

/* Requests: bits of gyre_thread.request. The order is the order in which a safepoint serves them.
 */
enum {
  GYRE__REQ_SETTLE = 1u << 0,    /* the merge queue is not empty (lib/object) */
  GYRE__REQ_RELEASE = 1u << 1,   /* a release cascade was cut off by its budget (lib/object) */
  GYRE__REQ_HEAP = 1u << 2,      /* empty pages wait to be purged or reused (lib/heap) */
  GYRE__REQ_DEFER = 1u << 3,     /* deferred work of ours may be ready */
  GYRE__REQ_GRACE = 1u << 4,     /* start a grace period for our deferred work */
  GYRE__REQ_HANDSHAKE = 1u << 5, /* a grace period waits for us */
  GYRE__REQ_STOP = 1u << 6,      /* the world is being stopped */
  GYRE__REQ_COLLECT = 1u << 7,   /* a threshold was crossed (lib/collect) */
};

/* Modes of the program while a collection or a walk runs beside it (lib/collect/collect.c). A mode word holds
 * one, how young objects are to be promoted when it is adopted, and the number of the collection:
 *
 *     31                     6   5     4       3   2 1  0
 *     [ epoch                | kept | closed | how | mode ]
 *
 * "Closed": from the end of the first logging on there may be objects that the collector has condemned
 * and nobody else may look at, by whatever pointer. "Kept": the heap is being copied (lib/observe): what
 * dies keeps its block, young objects and leaves too, and leaves are touched as other objects are.
 */
enum {
  GYRE__MODE_IDLE,    /* no collection */
  GYRE__MODE_PINNED,  /* the memory of what dies is kept until the collection is over */
  GYRE__MODE_LOGGING, /* moreover, whoever counts or moves a reference touches its object */
  GYRE__MODE_STILL, /* no collection, but a walk of the heap (lib/collect/walk.c): as pinned, and for
                         young objects too */
  GYRE__MODE = 3,
  GYRE__MODE_PROMOTE = 1 << 2,       /* promote all young objects */
  GYRE__MODE_PROMOTE_FRESH = 2 << 2, /* the same, for a collection of just these */
  GYRE__MODE_PROMOTES = 3 << 2,
  GYRE__MODE_CLOSED = 1 << 4,
  GYRE__MODE_KEPT = 1 << 5,
};
#define GYRE__MODE_EPOCH_SHIFT 6
GYRE_INLINE uint32_t gyre__mode_of(uint32_t word) { return word & GYRE__MODE; }
GYRE_INLINE uint32_t gyre__mode_epoch(uint32_t word) { return word >> GYRE__MODE_EPOCH_SHIFT; }

/* State of a slot: the low bits of gyre__thread.state. */
enum {
  GYRE__SLOT_ORPHAN,       /* no thread has it; whoever needs to may take it */
  GYRE__SLOT_PARKED,       /* its thread is parked, likewise */
  GYRE__SLOT_RUNNING,      /* its thread runs; nobody else touches its owner-only fields */
  GYRE__SLOT_TAKEN_ORPHAN, /* an orphan that another thread works on for a moment */
  GYRE__SLOT_TAKEN_PARKED, /* a parked thread's, likewise; unparking waits */
  GYRE__SLOT_LOST, /* in the child of a fork: its thread was running when the parent forked, perhaps
                              inside the library; never inherited, its pools are never used again */
  GYRE__SLOT_TAKEN_LOST, /* a lost slot whose counts another thread settles */
  GYRE__SLOT_STATE = 7,
  GYRE__SLOT_WAITED = 8, /* flag: somebody sleeps on the word */
};

struct gyre__thread;

/* Work put off until a grace period has passed. The function may free and unlink; it runs no
 * program code. Runs in any attached thread; `self` is that thread. */
struct gyre__deferred {
  struct gyre__deferred *next;
  void (*run)(struct gyre__thread *self, struct gyre__deferred *node);
  uint64_t ticket;
};

struct gyre__thread {
  gyre_thread base;
  /* -- atomic -- */
  /* The state machine above, and futex word. Moves: orphan -> running (attach), running -> parked,
   * parked -> running (only by its thread); orphan/parked <-> taken (anyone). Taking acquires what
   * the thread's parking or detaching released, and giving back releases it to the next. */
  gyre__atomic_u32 state;
  /* When the thread was last asked for something it has not answered yet: stall reports. */
  gyre__atomic_u64 asked_ns;
  /* The ticket of the oldest deferred work below, 0 if there is none: so that who completes a grace
   * period knows whom to tell. Written by the owner or taker. */
  gyre__atomic_u64 deferred_ticket;
  /* -- owner thread, or whoever has the slot taken -- */
  uint32_t park_depth;
  /* The mode word that the thread has adopted: at its last answered handshake, or when it last
   * became running. */
  uint32_t mode;
  /* Option slow_paths, when it attached; and option rc, which implies that. */
  bool slow_paths;
  bool counts_are_off;
  /* Set by lib/collect while the thread collects: it must not end or detach in program code that
   * the collection runs. */
  bool is_collecting;
  struct gyre__deferred *deferred_first; /* oldest first: tickets ascend */
  struct gyre__deferred *deferred_last;
  struct gyre__deferred *handed; /* of gyre_defer(), ready to be called, the last one first */
  /* -- under the registry lock -- */
  struct gyre__thread *orphan_next;
  /* -- written by the owner at attach and by gyre_thread_set_name, under the registry lock -- */
  char name[32];
  uint32_t os_id;
};

/* What the rooms above want to be told; NULL entries are skipped. Each room fills in its own before
 * its first slot use (a constructor), and never changes them. */
struct gyre__thread_hooks {
  /* A new slot, before anybody else can see it; must leave it usable. */
  void (*slot_init[2])(struct gyre__thread *slot); /* [0] lib/heap, [1] lib/object */
  /* The thread is about to detach (false: to park): finish what only it can do. May run program
   * code. Object first, then heap. */
  void (*leaving)(struct gyre__thread *self, bool detach);
  void (*heap_leaving)(struct gyre__thread *self, bool detach);
  /* The thread is about to be idle and does nothing else before. Runs no program code. */
  void (*heap_idling)(struct gyre__thread *self);
  /* Is there anything in the slot's merge queue? seq_cst: see gyre_park(). */
  bool (*has_unsettled)(struct gyre__thread *slot);
  /* Requests, served at safepoints. */
  void (*settle)(struct gyre__thread *self);
  void (*release)(struct gyre__thread *self);
  void (*heap)(struct gyre__thread *self);
  void (*collect)(struct gyre__thread *self);
  /* The thread has adopted another mode word: at a safepoint, or as it attaches or unparks. Runs no
   * program code. */
  void (*mode_changed)(struct gyre__thread *self, uint32_t old_word);
  /* fork: [0] lib/heap, [1] lib/object, [2] lib/weak, [3] lib/collect, [4] lib/observe, [6] and [7] lib/value. prepare is called in
   * descending order, in the stopped world; parent and child in ascending order, before the world
   * is resumed. The two single ones are called outside of that: for a lock that is held long. */
#define GYRE__FORK_ROOMS 8
  void (*fork_before_stop)(void);
  void (*fork_prepare[GYRE__FORK_ROOMS])(void);
  void (*fork_parent[GYRE__FORK_ROOMS])(void);
  void (*fork_parent_resumed)(void);
  void (*fork_child[GYRE__FORK_ROOMS])(void);
};
extern struct gyre__thread_hooks gyre__thread_hooks;
/* lib/heap's constructor. Called before the first attach too, which in libgyre_malloc comes before any
 * constructor. Weak: absent where the room is not linked. Harmless to repeat. */
void gyre__heap_setup(void) __attribute__((weak));

/* The stand-in that gyre__self points to in threads that are not attached: id 0, no request. Rooms
 * above may prepare their part of it in a constructor. */
union gyre__thread_room {
  struct gyre__thread thread;
  char room[GYRE__SLOT_BYTES];
};
extern union gyre__thread_room gyre__thread_unattached;

/* The calling thread's slot, attached if need be; NULL with errno as gyre_thread_attach(). */
struct gyre__thread *gyre__thread_self(void);
/* libgyre_malloc: has this thread detached at its end? If it attaches once more nobody will detach it,
 * so whoever makes it do so has to. */
bool gyre__thread_has_ended(void);
GYRE_INLINE struct gyre__thread *gyre__thread_current(void) {
  gyre_thread *self = gyre__self;
  return self->id != 0 ? (struct gyre__thread *)self : NULL;
}

/* The slot with this id, 1 to gyre__thread_slot_count(). Slots are never unmade. */
struct gyre__thread *gyre__thread_slot(uint32_t id);
uint32_t gyre__thread_slot_count(void);
/* Until the second call, no slot is made. */
void gyre__thread_slots_hold(void);
void gyre__thread_slots_let_go(void);

/* Sets request bits of a slot. Any thread. */
void gyre__thread_request(struct gyre__thread *slot, uint32_t bits);

/* Takes an orphaned or parked slot: the caller may then use its owner-only fields, heap included,
 * until gyre__thread_give_back(). False if the slot's thread runs, or the slot is lost or taken by
 * another. Must not run program code, block, or take a second slot meanwhile. */
bool gyre__thread_try_take(struct gyre__thread *slot);
void gyre__thread_give_back(struct gyre__thread *slot);
/* As gyre__thread_try_take, but waits (briefly) while another has it taken. */
bool gyre__thread_take(struct gyre__thread *slot);
/* As gyre__thread_take, and succeeds on lost slots too: for settling counts, which a thread that
 * vanished in the middle of an operation leaves consistent; not for the heap, which it may not. */
bool gyre__thread_take_counts(struct gyre__thread *slot);

/* ---- grace periods (grace.c) ---- */

/* A ticket: once gyre__grace_done(ticket), every thread has passed a safepoint, or was parked,
 * since. */
uint64_t gyre__grace_ticket(void);
bool gyre__grace_done(uint64_t ticket);
/* Sees to it that a grace period that covers the ticket is under way or will follow the present
 * one. Does not block; may complete one (and then runs ready deferred work of others). */
void gyre__grace_start(uint64_t ticket);
/* Parks until the ticket's grace period is over, at most timeout_ns. False on timeout. */
bool gyre__grace_wait(uint64_t ticket, uint64_t timeout_ns);
/* Has node->run called after a grace period. `slot` is the caller's own or one it has taken. */
void gyre__defer(struct gyre__thread *slot, struct gyre__deferred *node,
                 void (*run)(struct gyre__thread *, struct gyre__deferred *));

/* ---- modes and handshakes (mode.c) ---- */

/* Publishes a mode word and waits until every attached thread has adopted it or is idle (and adopts
 * it before it runs again). The caller runs; it waits parked. One at a time: the caller holds the
 * collector's lock. */
void gyre__handshake(struct gyre__thread *self, uint32_t word);
/* Publishes a mode word without waiting: for the way back to IDLE. */
void gyre__mode_publish(struct gyre__thread *self, uint32_t word);
/* In the child of a fork, whose thread may not be attached. */
void gyre__mode_fork_child(uint32_t word);
/* The mode word published last. */
uint32_t gyre__mode_published(void);
/* Adopts the published word. The thread has just answered a handshake, or become running. */
void gyre__mode_adopt(struct gyre__thread *self);
/* The longest that a thread took to answer the last handshake's grace period, and who that was. */
void gyre__grace_slowest(uint64_t *ns, char name[32]);

/* ---- the world (world.c) ---- */

/* Stops the world: returns when no other slot is running, and keeps it so until
 * gyre__world_resume(). One stop at a time; a caller that finds another under way is parked until
 * it is over. Does not begin before every thread that waited for the last stop runs again. The
 * caller must not be parked. */
void gyre__world_stop(struct gyre__thread *self);
void gyre__world_resume(struct gyre__thread *self);
bool gyre__world_is_stopped(void);

/* Within lib/thread: leaving the running state for `idle` (parked or orphan), and coming back,
 * which waits while the world is stopped or the slot is taken. Idling answers handshakes; coming
 * back adopts the mode. */
void gyre__thread_idle(struct gyre__thread *self, uint32_t idle);
void gyre__thread_enter(struct gyre__thread *self, uint32_t idle);

/* Heaps are for threads that run: a parked one's may be taken by others, and whoever stops the world has all of
 * them to himself. So who takes slots and may be parked, or not attached, does so between these two. */
struct gyre__caller {
  struct gyre__thread *self; /* NULL: not attached */
  uint32_t park_depth;
  bool is_guest; /* attached for as long as it takes */
};
/* `self` is parked no more until gyre__thread_rest(). Waits for the world. NULL is allowed. */
struct gyre__caller gyre__thread_run(struct gyre__thread *self);
/* The same for the calling thread, which is attached if need be, unless no thread ever was or there is no memory. */
struct gyre__caller gyre__thread_run_as_guest(void);
void gyre__thread_rest(const struct gyre__caller *caller);
/* Counts the calling thread, which runs, among the waiters before it idles for a stop, unless it is
 * `counted` already. True. */
bool gyre__world_count(bool counted);
/* Waits while the world is stopped. Returns whether the thread is counted among the waiters
 * (`counted`: it was already); then gyre__world_waited() must follow once it runs again. */
bool gyre__world_wait(bool counted);
void gyre__world_waited(void);
/* One attempt to stop the world; false if a thread still runs after timeout_ns. Resume it in either
 * case. `self` may be NULL or parked. */
bool gyre__world_stop_for(struct gyre__thread *self, uint64_t timeout_ns);
void gyre__world_after_fork(void);
uint64_t gyre__world_stops(void);
/* Threads that wait for the end of a stop, or waited for the last and do not run yet. */
uint32_t gyre__world_waiters(void);
uint64_t gyre__grace_completed(void);
void gyre__grace_serve(struct gyre__thread *self);
void gyre__grace_begin(void);
/* `self` has cleared its handshake bit. */
void gyre__grace_ack(struct gyre__thread *self);
void gyre__grace_fork_prepare(void);
void gyre__grace_fork_parent(void);
void gyre__grace_fork_child(void);
void gyre__thread_fork_prepare(void);
void gyre__thread_fork_parent(void);
void gyre__thread_fork_child(void);
void gyre__fork_init(void);
/* Copies the name of the thread that has the slot, "" if none has. */
void gyre__thread_name(uint32_t id, char out[32]);
/* Logs which threads have not answered the grace period that was begun at `since_ns`, and counts
 * it. */
void gyre__stall_report(uint64_t since_ns);

/* Takes a lock, parked while it waits. */
void gyre__lock_parked(struct gyre__thread *self, gyre__lock *lock);
/* The same for a limited time; false if another still has it then. */
bool gyre__lock_parked_for(struct gyre__thread *self, gyre__lock *lock, uint64_t timeout_ns);

#endif
