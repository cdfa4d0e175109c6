/* SPDX-License-Identifier: MIT */
/* What lib/base offers the rooms above: the operating system, the clock, the log, the options. */
#ifndef GYRE_LIB_BASE_BASE_H
#define GYRE_LIB_BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gyre/base.h>

#include "lib/base/check.h"

/* The one switch between the two libraries that base, thread and heap are compiled for. 1 in
 * libgyre_malloc, which is the process's malloc (lib/malloc): there
 *   - nothing may come back to malloc, so the system's is not used for large blocks;
 *   - no thread ever passes a safepoint, so nothing waits for one: not fork(), not gyre_purge();
 *   - threads allocate and free to their very end (thread.c), and a process before its beginning.
 * Set by tools/bazel/rooms.bzl. */
#ifndef GYRE__IS_MALLOC
#define GYRE__IS_MALLOC 0
#endif

/* ---- log (log.c) ---- */

/* Formats one line (cut at 1,000 bytes) and gives it to the log sink; on stderr it gets the prefix
 * "gyre: ". Allocates nothing. */
void gyre__log(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* For lib/thread's fork handlers: hold the sink's lock across fork(), so that the child finds it
 * free. */
void gyre__log_fork_prepare(void);
void gyre__log_fork_parent(void);
void gyre__log_fork_child(void);

/* ---- clock and operating system (os_linux.c) ----
 *
 * Only functions that return NULL for failure set errno; the others leave it alone. */

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t gyre__clock_ns(void);

/* The system's page size, read at run time (4, 16 or 64 KiB). */
size_t gyre__os_page_size(void);
/* `size`, rounded up to whole pages of the system's. */
size_t gyre__os_whole_pages(size_t size);

/* The memory limit of the container (cgroup v2 or v1) that the process runs in, in bytes; 0 if there
 * is none. */
uint64_t gyre__os_memory_limit(void);
/* A number that another process does not know. */
uint64_t gyre__os_random(void);

/* Reserves `size` bytes of zeroed memory aligned to `alignment` (a power of two, at least the OS
 * page size): readable and writable, committed by the system at first touch. NULL if there is none.
 * Counts as an allocation for fault injection. */
void *gyre__os_map(size_t size, size_t alignment);
/* Like gyre__os_map with MAP_NORESERVE, for tables that are mostly never touched. */
void *gyre__os_reserve(size_t size);
void gyre__os_unmap(void *address, size_t size);
/* Like gyre__os_map, for what only bug hunting needs: does not count for fault injection. */
void *gyre__os_map_aside(size_t size);
/* From now on nobody may read or write these whole OS pages, which lose their memory. False if the system
 * cannot. */
bool gyre__os_forbid(void *address, size_t size);
/* Has the system commit the pages now, all at once, which is cheaper than one by one; if it can. */
void gyre__os_populate(void *address, size_t size);
/* Gives the pages' memory back; the range stays mapped. True if it reads as zeroes from now on
 * (MADV_DONTNEED); false if the system takes it when it needs it (option "purge", MADV_FREE). */
bool gyre__os_purge(void *address, size_t size);
/* Tells the system what option "thp" says about huge pages for a mapping. */
void gyre__os_huge_pages(void *address, size_t size);
/* Moves the memory of `size` bytes to another mapping, which then has it in place of its own (mremap); the
 * old range reads as zeroes. By so many bytes at a time, a divisor of the size at whose multiples
 * mappings begin and end: the kernel does not move several mappings in one go (before 6.17). Returns how
 * much was moved; the rest is as it was. */
size_t gyre__os_move(void *from, size_t size, size_t piece, void *to);
/* Grows or shrinks a mapping, moving it if need be (mremap). NULL if there is no memory; the old
 * mapping then stays. */
void *gyre__os_remap(void *address, size_t old_size, size_t new_size);

/* ---- where memory comes from instead (source.c) ----
 *
 * The functions above that map, unmap and purge ask the program's page source, or lib/heap's arena, if
 * there is one. It is set before the first memory is taken, and put away when nothing of it is in use, by
 * a thread that is alone; so it is read plainly. */
struct gyre__source {
  void *ctx;
  void *(*map)(void *ctx, size_t size, size_t alignment);
  void (*unmap)(void *ctx, void *address, size_t size);
  int (*purge)(void *ctx, void *address, size_t size); /* NULL: memory stays */
  /* All there is, in bytes, if that is known and little: what is as large as address space allows
   * elsewhere has to be smaller then. 0: unknown. */
  size_t bound;
};
extern struct gyre__source gyre__source;
GYRE_INLINE bool gyre__source_is_set(void) { return gyre__source.map != NULL; }
/* All there is, 0 if there is no bound. */
GYRE_INLINE size_t gyre__source_bound(void) { return gyre__source.bound; }
/* `whole`, or where memory is bounded, what the bound divided by `part` has room for, at least `least`: for
 * tables of `item` bytes an entry. */
size_t gyre__source_share(size_t whole, size_t least, size_t part, size_t item);
/* Sizes are of whole OS pages. */
void *gyre__source_map(size_t size, size_t alignment);
void gyre__source_unmap(void *address, size_t size);
bool gyre__source_purge(void *address, size_t size);
void *gyre__source_remap(void *address, size_t old_size, size_t new_size);
/* What a room has to do when all memory of the arena is about to go back to the program: forget every
 * pointer into it, so that the library is as it was before its first use. For constructors, at most
 * GYRE__FORGETTERS of them. No thread is attached when they are called. */
#define GYRE__FORGETTERS 32
void gyre__forget_add(void (*forget)(void));
void gyre__forget_all(void);

/* Sleeps while *word == expected, at most timeout_ns (UINT64_MAX: for ever). Returns false on
 * timeout, true otherwise; wakes without cause are possible, so callers loop. */
bool gyre__futex_wait(gyre__atomic_u32 *word, uint32_t expected, uint64_t timeout_ns);
void gyre__futex_wake(gyre__atomic_u32 *word, int count); /* INT_MAX: all */

/* The system's id of this thread, and its name (at most 31 bytes and a 0). */
uint32_t gyre__os_thread_id(void);
void gyre__os_thread_name(char out[32]);

/* Keeps the calling thread from being cancelled, until the restore, which wants what the first
 * returned: around calls to the program, and to the system's cancellation points, in the middle of
 * our work. */
int gyre__cancel_put_off(void);
void gyre__cancel_restore(int state);

/* A pause in a loop that waits a moment for another thread. */
GYRE_INLINE void gyre__cpu_relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb" ::: "memory");
#endif
}

/* ---- a lock that sleeps (lock.c) ----
 *
 * Three states in a futex word (Drepper, "Futexes are tricky"): 0 free, 1 held, 2 held and perhaps
 * waited for. Not recursive. Used for slow paths only. It does not park the caller;
 * gyre__lock_parked() in lib/thread does. */
typedef struct gyre__lock {
  gyre__atomic_u32 word;
} gyre__lock;
bool gyre__lock_try(gyre__lock *lock);
void gyre__lock_take(gyre__lock *lock);
void gyre__lock_give(gyre__lock *lock);
/* False if another still has it after timeout_ns. */
bool gyre__lock_take_for(gyre__lock *lock, uint64_t timeout_ns);
/* For the child of a fork: the lock is free whatever it was. */
void gyre__lock_reset(gyre__lock *lock);
/* In libgyre_malloc, between a fork's taking all locks and its giving them back: whatever the calling
 * thread does meanwhile, in other fork handlers, it holds them already. */
void gyre__lock_fork_begin(void);
void gyre__lock_fork_end(void);

/* ---- options (options.c, conf.c) ----
 *
 * One table: name, type, default, range, help. The values live in this struct, so that readers need
 * no look-up. Each is atomic: options may be set while threads run. */
enum gyre__finalizers { GYRE__FINALIZERS_SERVICE, GYRE__FINALIZERS_PROGRAM };
enum gyre__choice {
  GYRE__CHOICE_POOL,
  GYRE__CHOICE_SYSTEM,
  GYRE__CHOICE_POOL_DEBUG,
  GYRE__CHOICE_SYSTEM_DEBUG
};
enum gyre__rc { GYRE__RC_ON, GYRE__RC_OFF };
enum gyre__cascade { GYRE__CASCADE_THREAD, GYRE__CASCADE_SERVICE };
enum gyre__large_backend {
  GYRE__LARGE_SPANS,
  GYRE__LARGE_SYSTEM,
  GYRE__LARGE_JEMALLOC,
  GYRE__LARGE_MMAP,
  GYRE__LARGE_GUARD /* no value of the option: a block of lib/heap/guard.c */
};
enum gyre__thp { GYRE__THP_DEFAULT, GYRE__THP_ALWAYS, GYRE__THP_NEVER };
enum gyre__purge { GYRE__PURGE_DONTNEED, GYRE__PURGE_FREE };
struct gyre__options {
  gyre__atomic_u64 large;              /* "large": spans|system|jemalloc|mmap, default spans */
  gyre__atomic_u64 thp;                /* "thp": default|always|never, default default */
  gyre__atomic_u64 purge;              /* "purge": dontneed|free, default dontneed */
  gyre__atomic_u64 limit;              /* "limit": bytes, k M G suffixes, 0 none (default 0) */
  gyre__atomic_u64 mem_threshold;      /* "mem_threshold": bytes, 0 none (default 0) */
  gyre__atomic_u64 purge_delay_ms;     /* "purge_delay_ms": default 1000; 0 at once */
  gyre__atomic_u64 alloc_is_safepoint; /* "alloc_is_safepoint": 0|1, default 0 */
  gyre__atomic_u64 stall_ms;           /* "stall_ms": default 1000, at least 1 */
  gyre__atomic_u64 release_budget;     /* "release_budget": objects, default 1024, at least 1 */
  gyre__atomic_u64 gc;                 /* "gc": 0|1 automatic collection, default 1 */
  gyre__atomic_u64 gc_threshold[3];    /* "gc_threshold": up to three ints "2000/10/10" */
  gyre__atomic_u64 gc_mode;            /* "gc_mode": concurrent|stw, default concurrent */
  gyre__atomic_u64 gc_wait_bytes;      /* "gc_wait_bytes": 0 for a default from the live heap */
  gyre__atomic_u64 gc_wait_objects;    /* "gc_wait_objects": likewise */
  gyre__atomic_u64 gc_trace;           /* "gc_trace": 0|1, a line a collection; GYRE_GCTRACE=1 */
  gyre__atomic_u64 pace_ms;            /* "pace_ms": longest wait for one collection, default 100 */
  gyre__atomic_u64 young_us;           /* "young_us": longest young collection, default 50 */
  gyre__atomic_u64 soft_limit;         /* "soft_limit": bytes, 0 none; default from the container */
  gyre__atomic_u64 cascade;            /* "cascade": thread|service, default thread */
  gyre__atomic_u64 finalizers;         /* "finalizers": service|program, default service */
  gyre__atomic_u64 leaks; /* "leaks": 0|1 report at gyre_fini; default 1 in GYRE_DEBUG */
  gyre__atomic_u64
      stats; /* "stats": off|text|json|openmetrics (enum gyre_stats_format + 1) at exit */
  /* bug-hunting modes */
  gyre__atomic_u64
      collect_always;      /* "collect_always": collect generation n-1 at every safepoint, 0 off */
  gyre__atomic_u64 poison; /* "poison": 0|1 fill fresh (0xCD) and freed (0xDD) blocks; default
                                          1 in GYRE_DEBUG builds, 0 otherwise */
  gyre__atomic_u64 quarantine;    /* "quarantine": bytes of freed raw blocks that wait in each heap,
                                  0 off; default 64k in GYRE_DEBUG builds, 0 and off otherwise */
  gyre__atomic_u64 guard;         /* "guard": every nth raw block ends at a guard page, 0 off
                                  (GYRE_DEBUG); default 0 */
  gyre__atomic_u64 malloc_choice; /* "malloc": pool|system|pool_debug|system_debug, default pool */
  gyre__atomic_u64 rc;            /* "rc": on|off, do counts free; default on; GYRE_RC */
  gyre__atomic_u64 fail_nth;      /* "fail_nth": every nth allocation fails, 0 off (GYRE_WINDOWS) */
  gyre__atomic_u64 yield_seed;    /* "yield_seed": seed of yields in race windows, 0 off */
  gyre__atomic_u64 yield_us;      /* "yield_us": naps of at most so long beside the yields, 0 off */
  gyre__atomic_u64 slow_paths;    /* "slow_paths": 0|1, no thread counts inline; default 0 */
  gyre__atomic_u64 check_visits;  /* "check_visits": 0|1 try all visit functions; default 0 */
};
extern struct gyre__options gyre__options;
/* Reads an option's value (relaxed: a setting, no data hangs on it). The default until
 * gyre__options_init() has read what else there is. */
#define gyre__option(field) gyre__load_relaxed(&gyre__options.field)
/* Reads gyre_conf and the environment once; called by every attach, and by the functions of gyre/base.h.
 * Any thread. Puts it off while the C library has no environment yet. */
void gyre__options_init(void);
/* The first use: options for the start cannot be set from now on. */
void gyre__options_start(void);
/* For setters that an option has of its own: gives the option whose values begin there (a field of
 * gyre__options) its first `count` values, which fit, after the environment has had its say. Returns what
 * the first one was. Any thread. */
uint64_t gyre__option_store(gyre__atomic_u64 *option, const uint64_t *values, unsigned count);

/* A decimal number with an optional suffix k, M or G at text[0..length); false if it is not one. */
bool gyre__option_number(const char *text, size_t length, uint64_t *out);

/* What rooms above say about values; filled in by constructors, never changed afterwards. */
struct gyre__option_hooks {
  /* Can this process use that backend (enum gyre__large_backend)? NULL: yes. */
  bool (*large_is_available)(uint64_t backend);
};
extern struct gyre__option_hooks gyre__option_hooks;

/* For lib/thread's fork handlers. */
void gyre__options_fork_prepare(void);
void gyre__options_fork_parent(void);
void gyre__options_fork_child(void);

#endif
