/* SPDX-License-Identifier: MIT */
/* The heap's half of allocation tracing (lib/observe/trace.c begins with an essay on the whole): blocks that
 * are to be traced pass the slow paths, and have a word beside their page that says where they come from.
 * Absent from libgyre_malloc. */
#ifndef GYRE_LIB_HEAP_TRACED_H
#define GYRE_LIB_HEAP_TRACED_H

#include "lib/heap/page.h"

/* ---- marks ----
 *
 * What is known of a small block, in one word, so that a snapshot reads it whole while threads run:
 *
 *     63       52 51   46  45   44     28 27      0
 *     | session  | class | obj | size    | site    |
 *
 * session: a mark of an earlier one is none. class: the one the block was asked of, which says how likely
 * it was to be sampled. site: where, and of what type (lib/observe/stack.c). The slot follows from the
 * array that the mark is in. */
#define GYRE__MARK_SITE_BITS 28
#define GYRE__MARK_SIZE_BITS 17
#define GYRE__TRACE_SESSIONS (UINT32_C(1) << 12) /* their numbers are below this */

GYRE_INLINE uint64_t gyre__mark_make(uint32_t session, unsigned size_class, bool object,
                                     size_t size, uint32_t site) {
  return (uint64_t)session << 52 | (uint64_t)size_class << 46 | (uint64_t)object << 45 |
         (uint64_t)size << 28 | site;
}
GYRE_INLINE uint32_t gyre__mark_session(uint64_t mark) { return (uint32_t)(mark >> 52); }
GYRE_INLINE unsigned gyre__mark_class(uint64_t mark) { return (unsigned)(mark >> 46) & 63; }
GYRE_INLINE bool gyre__mark_is_object(uint64_t mark) { return (mark >> 45 & 1) != 0; }
GYRE_INLINE size_t gyre__mark_size(uint64_t mark) {
  return (size_t)(mark >> GYRE__MARK_SITE_BITS) & ((1u << GYRE__MARK_SIZE_BITS) - 1);
}
GYRE_INLINE uint32_t gyre__mark_site(uint64_t mark) {
  return (uint32_t)mark & ((UINT32_C(1) << GYRE__MARK_SITE_BITS) - 1);
}
_Static_assert(GYRE__CLASS_MAX < (1u << GYRE__MARK_SIZE_BITS) && GYRE__SIZE_CLASSES <= 64, "marks");

/* ---- what is to be traced ---- */

enum {
  GYRE__TRACE_RAW = 1,
  GYRE__TRACE_OBJECT = 2,
  GYRE__TRACE_LARGE = 4,
  GYRE__TRACE_FOREIGN = 8
};

/* Weights are numbers of blocks (of 2^-16). */
#define GYRE__WEIGHT_SHIFT 16
#define GYRE__WEIGHT_ONE (UINT64_C(1) << GYRE__WEIGHT_SHIFT)

/* Written before the session begins, constant while it lasts. */
extern struct gyre__trace_settings {
  gyre__atomic_u64
      sample; /* bytes, on average, from one sampled block to the next; 0: all blocks */
  gyre__atomic_u32 domains;
  gyre__atomic_u32 nframe;
  gyre__atomic_u32 unwind; /* ask the unwinder for stacks */
  gyre__atomic_u64
      weight[GYRE__SIZE_CLASSES]; /* how many blocks of its class one sampled stands for */
} gyre__trace_settings;

/* ---- a heap's tracer ---- */

struct gyre__marks_chunk;
struct gyre__marks_array;
#define GYRE__MARKS_ORDERS 13 /* arrays of 2^3 to 2^12 marks */
#define GYRE__SITE_CACHE 256

/* From the system, never given back. The slot's thread, or its taker, unless it says otherwise. */
struct gyre__tracer {
  uint32_t slot;
  uint32_t session; /* the last that the heap has taken part in */
  uint32_t domains, nframe, unwind;
  bool
      in_place; /* every block passes the slow path; otherwise samples are put into pages of their own */
  bool is_plain;       /* of raw blocks, all, and one frame */
  bool now;            /* the block just taken off a page is a sample */
  bool busy;           /* the tracer is at work: what it may allocate is not traced */
  uint64_t plain_mark; /* of such blocks, without size and site */
  uint64_t sample;
  int64_t left; /* bytes until the next sample */
  uint64_t random;
  struct gyre__marks_array *spare[GYRE__MARKS_ORDERS];
  struct gyre__cached_site {
    const void *pc;
    uint32_t type, site;
  } cache[GYRE__SITE_CACHE]; /* stacks of one frame */
  /* lib/observe: room for a stack; the thread's own stack, and which thread's it is. */
  uintptr_t *pcs;
  size_t pcs_room;
  uintptr_t stack_low, stack_high, stack_handle;
  uint32_t stack_thread;
  /* -- written by the same, read by anyone -- */
  gyre__atomic_ptr chunks;  /* of arrays; they stay */
  gyre__atomic_u32 flow;    /* the session that the two figures below are of */
  gyre__atomic_size change; /* bytes traced, less those freed, not yet in the process's figure */
  gyre__atomic_size change_max; /* the most that this has been */
};

/* A record that lib/observe keeps of a block that is not in a pool's page. */
struct gyre__traced_large {
  size_t size;
  uint32_t site, slot, session, domain;
};

/* What lib/observe does. Set before the first session begins. */
struct gyre__tracer_hooks {
  /* A number for the stack from `pc` on, and the type; `frame` is that of a function below it. 0 if there
   * is no memory. */
  uint32_t (*site)(struct gyre__tracer *tracer, const void *pc, void *frame, uint32_t type);
  /* Keeps, drops, or moves out what is known of a large block. */
  void (*large_born)(struct gyre__heap *self, const void *block,
                     const struct gyre__traced_large *record);
  void (*large_died)(struct gyre__heap *self, const void *block);
  bool (*large_take)(const void *block, struct gyre__traced_large *out);
  /* Logs where the block of that site was allocated: before the process dies of what was done to it. May be
   * called in any state. */
  void (*report)(const void *block, uint32_t site);
  /* An arena is about to begin, in a process that has no slot: ends tracing. */
  void (*arena_begins)(void);
};
extern struct gyre__tracer_hooks gyre__tracer_hooks;

/* ---- allocating; `self` is attached ---- */

/* As gyre__raw_malloc_slow(). */
void *gyre__traced_malloc(struct gyre__heap *self, size_t size, const void *pc);
/* A block for `block_size` bytes, of which the program asked for `size`. Object kinds are cleared if they
 * are large, raw blocks if `zero`. NULL with errno ENOMEM. */
void *gyre__traced_alloc(struct gyre__heap *self, enum gyre__kind kind, size_t block_size,
                         size_t alignment, bool zero, size_t size, uint32_t type, const void *pc);
/* A raw block has come into being by other means. */
void gyre__traced_note(struct gyre__heap *self, void *block, size_t size, const void *pc);
/* Around gyre__raw_resize(). The first: true if something was known of a large block, which is in *out
 * then. `resized` is NULL if it could not be done. `self` may be the stand-in. */
#if !GYRE__IS_MALLOC
bool gyre__traced_resize_begin(struct gyre__heap *self, void *block,
                               struct gyre__traced_large *out);
void gyre__traced_resize_end(struct gyre__heap *self, void *block, void *resized, size_t size,
                             const struct gyre__traced_large *before, const void *pc);
#else
GYRE_INLINE bool gyre__traced_resize_begin(struct gyre__heap *self, void *block,
                                           struct gyre__traced_large *out) {
  (void)self, (void)block, (void)out;
  return false;
}
GYRE_INLINE void gyre__traced_resize_end(struct gyre__heap *self, void *block, void *resized,
                                         size_t size, const struct gyre__traced_large *before,
                                         const void *pc) {
  (void)self, (void)block, (void)resized, (void)size, (void)before, (void)pc;
}
#endif

/* Gives back a raw block of one of the heap's own small pages. */
void gyre__traced_free_small(struct gyre__heap *self, struct gyre__segment *segment, void *block);

/* ---- for heap.c and page.c ---- */

/* As gyre__page_make_ready(), but only up to the next block that is to be traced. */
void gyre__traced_make_ready(struct gyre__heap *self, gyre__pool *pool, struct gyre__page *page);
/* May the page's block that came back be handed out without being asked for anew? */
bool gyre__traced_may_keep(struct gyre__heap *self, const struct gyre__page *page);
/* The page is out of use. */
void gyre__traced_detach(struct gyre__heap *heap, struct gyre__page *page);

/* ---- for lib/observe ---- */

/* Has the heap, which is ours or taken, take part in the session under way, or in none. Its tracer, or
 * NULL if it is not traced. */
struct gyre__tracer *gyre__traced_adopt(struct gyre__heap *heap);
/* The heap's thread is lost to the child of a fork: what it has traced is forgotten, its pages stay as they are. The
 * slot is taken. */
void gyre__traced_lose(struct gyre__heap *heap);
/* The heap's tracer or NULL. Any thread. */
GYRE_INLINE struct gyre__tracer *gyre__tracer_of(struct gyre__heap *heap) {
  /* acquire: its contents; pairs with the store in tracer_make(). */
  return (struct gyre__tracer *)gyre__load_acquire(&heap->tracer);
}
/* Calls visit for each array of marks of a heap. Any thread, while the heap is in use. */
void gyre__traced_visit(struct gyre__tracer *tracer,
                        void (*visit)(const gyre__atomic_u64 *marks, uint32_t count, uint32_t slot,
                                      void *arg),
                        void *arg);
/* The mark of a small block, an object's by its header, or 0. Any thread that holds the block. */
uint64_t gyre__traced_mark(const void *block);
/* Has so many bytes come by a sample? The slot's thread. */
bool gyre__traced_is_sampled(struct gyre__tracer *tracer, size_t bytes);
/* The site of a stack; 0 if there is no memory. The slot's thread. */
uint32_t gyre__traced_site(struct gyre__tracer *tracer, const void *pc, void *frame, uint32_t type);
/* Debug builds: logs where a block was allocated, if it is traced, or was when it was freed. */
#if defined(GYRE_DEBUG) && !GYRE__IS_MALLOC
void gyre__traced_report(const void *block);
#else
GYRE_INLINE void gyre__traced_report(const void *block) { (void)block; }
#endif
/* Counts bytes of a session in or out. `self` may be the stand-in. */
void gyre__traced_account(struct gyre__heap *self, uint32_t session, int64_t bytes);
/* Before a session with that number: nothing is traced. */
void gyre__traced_figures_begin(uint32_t session);
/* The bytes traced and their peak. */
void gyre__traced_figures(size_t *now, size_t *peak);
void gyre__traced_reset_peak(void);
__extension__ typedef unsigned __int128 gyre__wide;
/* The bytes that a number of bytes in sampled blocks of that weight stands for. */
GYRE_INLINE uint64_t gyre__traced_weigh(uint64_t size, uint64_t weight) {
  return (uint64_t)(((gyre__wide)size * weight + GYRE__WEIGHT_ONE / 2) >> GYRE__WEIGHT_SHIFT);
}
GYRE_INLINE uint64_t gyre__traced_class_weight(unsigned size_class) {
  /* relaxed: constant while the session lasts; pairs with settings_store() in lib/observe/trace.c. */
  return gyre__load_relaxed(&gyre__trace_settings.weight[size_class]);
}
/* 1 / (1 - exp(-size / mean)): how many blocks of the size one sampled stands for. */
uint64_t gyre__traced_weight_of(size_t size, uint64_t mean);
/* Bytes that the tracer has from the system. */
extern gyre__atomic_size gyre__traced_bytes;

#endif
