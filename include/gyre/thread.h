/* SPDX-License-Identifier: MIT */
/* gyre/thread.h: who runs, and where they stop.
 *
 * A thread attaches by itself when it first allocates or counts, and detaches when it ends. While
 * attached it owns a *thread slot*: a small number that its objects carry as their owner, a heap of
 * its own, and a queue of counts that others left for it to settle. When the thread ends, the slot
 * becomes an *orphan*, and the next thread that attaches inherits it with everything in it.
 *
 * An attached thread owes the others one thing: to pass a safepoint now and then, or to say that it
 * is about to block. Both end *borrowed* pointers: a pointer read from a slot or kept without a
 * count of its own must not be used across them. (Between them it is good as long as counted
 * references that the program still reaches keep the object alive.)
 *
 *     while (next_request(&request)) {
 *       handle(&request);
 *       gyre_safepoint();                  // borrowed pointers end here
 *     }
 *
 *     GYRE_BLOCKING { n = read(fd, buffer, sizeof buffer); }    // and here
 *
 * No function of the library may be called from a signal handler.
 */
#ifndef GYRE_THREAD_H
#define GYRE_THREAD_H

#include <gyre/base.h>

GYRE_BEGIN_DECLS

/* Blocks of one kind and one size class that a thread allocates from (lib/heap/heap.h). */
typedef struct gyre__pool {
  void *gyre__ready; /* the next to be handed out, linked; NULL when there are none */
  void *gyre__rest;  /* lib/heap/heap.h */
  struct gyre__page *gyre__first, *gyre__last;
  uint32_t gyre__strays;
  uint32_t
      gyre__sample; /* the next block that is not ready is one to be traced (lib/heap/traced.c) */
} gyre__pool;
#define GYRE__KINDS 3
#define GYRE__SIZE_CLASSES 44
#define GYRE__CLASS_TABLE_MAX 1024 /* bytes */

/* A thread's handle. The fields shown are those that the inline paths read. */
typedef struct gyre_thread {
  /* The slot id, 1 to 65,535; 0 in the stand-in of threads that are not attached. Constant. */
  uint32_t id;
  /* Atomic. Why this thread should take the slow path of its next safepoint: a set of bits, 0 when
   * nothing is pending. Anyone sets bits, the thread clears them. */
  gyre__atomic_u32 request;
  /* What links of free blocks are exclusive-or'ed with, and gyre__segment_table, which is constant. */
  uint64_t gyre__link_key;
  gyre__atomic_ptr *gyre__segments;
  /* The log of what was allocated since the thread last looked through its young objects (struct
   * gyre__header **): where it ends at the moment, and at most. Others may look at the first. */
  gyre__atomic_ptr gyre__young_end;
  void *gyre__young_limit;
  /* To be set in the first word of new tracked objects' headers: GYRE__GC_ARMED, GYRE__GC_BESIDE. */
  uint64_t gyre__birth_bits;
  /* For each 16 bytes of a raw block's size, where in this struct its pool is, or gyre__nothing if the program
   * has set an allocator; all 0 in the stand-in, which leads to its id, an empty pool. Like the key, changed
   * only while the world is stopped. */
  uint16_t gyre__pool_at[GYRE__CLASS_TABLE_MAX / 16 + 1];
  void *gyre__nothing; /* NULL */
  /* The thread's own, or its slot's taker's. */
  gyre__pool gyre__pools[GYRE__KINDS][GYRE__SIZE_CLASSES];
} gyre_thread;

/* This thread's handle; a shared stand-in with id 0 when the thread is not attached. Use
 * gyre_thread_current(). */
extern GYRE_API __thread gyre_thread *gyre__self;

/* What the owner field of an object must equal for this thread to count without atomics: the slot
 * id; or GYRE__BIAS_NONE, which no object has, while every count has to take the slow path and in
 * threads that are not attached. */
extern GYRE_API __thread uint32_t gyre__bias;
#define GYRE__BIAS_NONE 0x10000u

/* Attaches the calling thread, if it is not attached yet, and returns its handle. Any thread. Takes
 * a lock and may allocate and wait for a world that is stopped. NULL with errno EAGAIN if 65,535
 * threads are attached already, or ENOMEM. The handle is valid until the thread detaches. A
 * destructor of thread-specific data that uses the library attaches its thread again, which is fine
 * in all rounds of destructors but the last (PTHREAD_DESTRUCTOR_ITERATIONS): then nobody detaches
 * it. */
GYRE_API gyre_thread *gyre_thread_attach(void);

/* Detaches the calling thread now instead of at its end: passes a safepoint, settles its queue,
 * finishes its pending releases (which may run finalizers) and leaves its slot to the next thread
 * that attaches. The thread must not hold borrowed pointers; counted references that it holds stay
 * valid. Not to be called from a finalizer, callback or hook. Does nothing if the thread is not
 * attached. Attaching again later is fine. */
GYRE_API void gyre_thread_detach(void);

/* The calling thread's handle, or NULL if it is not attached. */
GYRE_INLINE gyre_thread *gyre_thread_current(void) {
  gyre_thread *self = gyre__self;
  return self->id != 0 ? self : NULL;
}

/* Names the calling thread in stall reports and statistics; attaches it if need be. The text is
 * copied and cut at 31 bytes. Without a call the name the thread has in the system is used. Returns
 * 0, -EAGAIN or -ENOMEM (see gyre_thread_attach), -EINVAL if name is NULL. */
GYRE_API int gyre_thread_set_name(const char *name);

GYRE_API void gyre__safepoint_slow(gyre_thread *self);

/* Says that the calling thread holds no borrowed pointers, and does what others have asked of it:
 * it settles counts, goes on with bounded releases, lets grace periods pass, waits while the world
 * is stopped, or collects. Any thread, attached or not. One load and one branch when nothing is
 * pending; otherwise it may block, and may run finalizers and callbacks: hold no lock they could
 * want. Never called by allocation. */
GYRE_INLINE void gyre_safepoint(void) {
  gyre_thread *self = gyre__self;
  /* relaxed: only a hint to take the slow path, which synchronizes; pairs with the fetch_or in
   * gyre__thread_request(). A bit seen late is acted on at a later safepoint. */
  if (GYRE_UNLIKELY(gyre__load_relaxed(&self->request) != 0)) gyre__safepoint_slow(self);
}

/* Parks the calling thread: until gyre_unpark() it uses no object, no function of this library and
 * no borrowed pointer, and nobody waits for it. Others may settle its queue and collect its heap
 * meanwhile. Finishes pending releases first (finalizers may run). May be nested. Costs two atomic
 * read-modify-writes a pair. Does nothing in a thread that is not attached. */
GYRE_API void gyre_park(void);

/* Ends the innermost park of the calling thread; waits while the world is stopped or while another
 * thread works on this thread's slot. A safepoint. */
GYRE_API void gyre_unpark(void);

typedef struct gyre__blocking {
  int on;
} gyre__blocking;
GYRE_INLINE gyre__blocking gyre__blocking_begin(void) {
  gyre__blocking b = {1};
  gyre_park();
  return b;
}
GYRE_INLINE void gyre__blocking_end(gyre__blocking *b) {
  (void)b;
  gyre_unpark();
}

/* GYRE_BLOCKING { read(...); }: parked for the length of the block, however it is left (end, break,
 * return, goto; not longjmp). */
#define GYRE_BLOCKING GYRE__BLOCKING_ON(__LINE__)
/* The same by another name, for those who know gyre_park(). */
#define GYRE_PARKED GYRE_BLOCKING
/* A name of its own for each line, so that regions nest without one hiding the other's. */
#define GYRE__BLOCKING_ON(line) GYRE__BLOCKING_AS(line)
#define GYRE__BLOCKING_AS(line) GYRE__BLOCKING(gyre__blocking_##line)
#define GYRE__BLOCKING(b)                                                                          \
  for (gyre__blocking b __attribute__((cleanup(gyre__blocking_end))) = gyre__blocking_begin();     \
       b.on; b.on = 0)

/* Waits until every thread that is attached and running now has passed a safepoint or parked: a
 * grace period. What was taken out of every slot before the call can no longer be seen by a
 * borrowed pointer afterwards. Any thread; a safepoint for the caller; sleeps, does not spin.
 * Blocks as long as some thread passes no safepoint (see stall reports). Returns 0, or
 * -EAGAIN/-ENOMEM if the thread could not attach. */
GYRE_API int gyre_synchronize(void);

/* Work that waits for a grace period, in memory of the caller's: mostly a member of what is to be given
 * back. The fields are private. */
typedef struct gyre_deferred {
  void *gyre__words[3];
  void (*gyre__function)(struct gyre_deferred *node);
} gyre_deferred;

/* Has `function(node)` called once a grace period is over: when nobody can see any more, through a
 * borrowed pointer, what was taken out of reach before this call. It runs in some attached thread, at a
 * safepoint or as that thread parks or detaches, and may do what a finalizer may: release, free, defer
 * again. The node is its own from then on. What is due together is called in no particular order. Any
 * thread; attaches it if need be; not a safepoint, does not wait. 0, -EINVAL if either is NULL, or
 * -EAGAIN/-ENOMEM if the thread could not attach.
 *
 * This is how a structure that is read without a lock is given back: readers borrow pointers to it and
 * pass no safepoint while they use them; a writer replaces it and defers the freeing (lib/value/dict.c). */
GYRE_API int gyre_defer(gyre_deferred *node, void (*function)(gyre_deferred *node));

/* Figures about threads. The caller sets size = sizeof(struct gyre_thread_stats). */
struct gyre_thread_stats {
  size_t size;
  size_t attached;           /* threads attached now, parked ones included */
  size_t parked;             /* of those, parked */
  size_t orphans;            /* slots waiting for an heir */
  size_t slots_high_water;   /* slots ever made */
  uint64_t grace_periods;    /* completed */
  uint64_t stops;            /* times the world was stopped */
  uint64_t stalls;           /* stall reports made */
  uint64_t longest_stall_ns; /* the longest wait that was reported */
  char stalled_thread[32];   /* who that was, "" if nobody ever */
};

/* Fills *out, at most out->size bytes of it. Any thread; takes no lock. 0, or -EINVAL if out is
 * NULL or its size is 0. */
GYRE_API int gyre_thread_get_stats(struct gyre_thread_stats *out);

GYRE_END_DECLS

#endif
