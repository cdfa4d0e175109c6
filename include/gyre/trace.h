/* SPDX-License-Identifier: MIT */
/* gyre/trace.h: where memory comes from. Python's tracemalloc, for all of a program's blocks and objects.
 *
 *     gyre_trace_start(&(struct gyre_trace_opts){.size = sizeof(struct gyre_trace_opts), .nframe = 10});
 *     ...
 *     gyre_snapshot *s = gyre_trace_snapshot();
 *     struct gyre_statlist *top;
 *     if (s != NULL && gyre_snapshot_stats(s, GYRE_TRACE_BY_LINE, 0, &top) == 0) {
 *       for (size_t i = 0; i < top->count && i < 10; i++) {
 *         char line[200];
 *         gyre_stat_format(&top->at[i], line, sizeof line);
 *         puts(line);                  // main.c:57: size=4855 KiB, count=39328, average=126 B
 *       }
 *       gyre_statlist_free(top);
 *     }
 *     gyre_snapshot_free(s);
 *
 * While tracing is on, each allocation, or a sample of them by bytes, is remembered with its size as it was
 * asked for, its stack, its thread and its type. What was allocated before is unknown. Off, it costs one
 * relaxed load on the slow paths; on, no lock that threads share. The tracer's own memory comes from the
 * system, or the program's page source (gyre/alloc.h), and is in none of the heap's figures
 * (gyre_trace_overhead()).
 *
 * Of a program that has set an allocator for mem (gyre/alloc.h), what this library's own heap serves is traced, with
 * the size that it is asked for and the stack of the program's call of gyre_malloc(); wrappers are not in it as a
 * first frame. What the C library serves is not traced: GYRE_MALLOC=system, and gyre_raw_malloc(). There is no
 * tracing in an arena (gyre/arena.h): gyre_init_in() ends it.
 *
 * Stacks are followed along frame pointers, inside the thread's own stack: a program that wants more than
 * one frame is compiled with -fno-omit-frame-pointer, or has the unwinder of libgcc asked, which takes
 * about a microsecond a frame. The first frame is always right. File names and lines are looked up by
 * elfutils' libdw.so.1, which is loaded when they are first wanted; without it, or without debug
 * information, frames have the module for a file and 0 for a line.
 *
 * The environment variable GYRE_TRACE=nframe[,sample=bytes][,dump=path] has tracing on from the start of
 * the program; with dump, a snapshot is written when it ends. What it does not understand it reports and
 * ignores.
 *
 * All functions: any thread, attached or not; those that start, stop, clear and copy wait for each other,
 * parked. Those that start, stop and clear are safepoints, also in a parked thread, which comes back for as
 * long as they take; one that is not attached is attached meanwhile. Those that look up names say so: they
 * read files, may take a second in a large program, use the C library's malloc, and are safepoints during
 * which the thread is parked (finalizers may run before); in the constructor of a library that is being
 * loaded they may wait for ever. The child of a fork gets -ENOMEM for names of a snapshot that another thread
 * was looking up. Errors are -ENODATA where tracing has to be on and is not.
 */
#ifndef GYRE_TRACE_H
#define GYRE_TRACE_H

#include <gyre/base.h>

GYRE_BEGIN_DECLS

/* ---- on and off ------------------------------------------------------------------------------ */

/* What kind of memory (not the domains of gyre/alloc.h, which are about who serves it). Foreign memory may have any number from GYRE_TRACED_FOREIGN on. */
enum {
  GYRE_TRACED_MEM,    /* gyre_malloc and its kin, up to 64 KiB */
  GYRE_TRACED_OBJECT, /* objects, up to 64 KiB */
  GYRE_TRACED_LARGE,  /* both, beyond that */
  GYRE_TRACED_FOREIGN /* gyre_trace_track() */
};

#define GYRE_TRACE_FRAMES_MAX 65535u

/* Flags. */
enum { GYRE_TRACE_UNWIND = 1u << 0 /* stacks by _Unwind_Backtrace() instead of frame pointers */ };

struct gyre_trace_opts {
  size_t size;     /* of this struct */
  unsigned nframe; /* frames kept of each stack, 1 to 65,535; 0: 1 */
  size_t
      sample_bytes; /* 0: everything; otherwise a block each so many bytes on average, as a Poisson
                          process: larger blocks more often, and figures estimate what there is */
  unsigned domains; /* bits 1 << GYRE_TRACED_MEM ... 1 << GYRE_TRACED_FOREIGN; 0: all */
  unsigned flags;
};

/* Traces from now on; the calling thread at once, others from their next slow path or safepoint on, which
 * for parked ones is now. NULL: one frame, everything. 0, also if it was on with the same options;
 * -EALREADY if it was with others, which stay; -EINVAL; -ENOTSUP in an arena; -ENOSYS if the unwinder (libgcc_s.so.1) is wanted and
 * not there. */
GYRE_API int gyre_trace_start(const struct gyre_trace_opts *opts);

/* Ends it and drops all traces. Does nothing if it is off. */
GYRE_API void gyre_trace_stop(void);

/* Drops all traces and goes on: what lives now is unknown from then on. */
GYRE_API void gyre_trace_clear(void);

/* 1 if it is on. */
GYRE_API int gyre_trace_is_on(void);

/* Frames kept of each stack: the last start's, also when it is off; 1 before the first. */
GYRE_API unsigned gyre_trace_limit(void);

/* Bytes in living traced blocks, and the most there were; both 0 when it is off. In sampled tracing,
 * estimates. The peak of several threads is exact up to 64 KiB for each. Either may be NULL. 0. */
GYRE_API int gyre_trace_memory(size_t *current, size_t *peak);
/* From now on the peak is the present figure. */
GYRE_API void gyre_trace_reset_peak(void);

/* Bytes that the tracer itself has from the system, without snapshots. */
GYRE_API size_t gyre_trace_overhead(void);

/* ---- foreign memory -------------------------------------------------------------------------- */

/* Remembers memory that this library did not allocate: a mapping, a device's. `domain` is
 * GYRE_TRACED_FOREIGN or larger; the same address may be tracked in several. What was tracked there
 * before is replaced. In sampled tracing it may be passed over. 0, -EINVAL, -ENOMEM, -ENODATA. */
GYRE_API int gyre_trace_track(unsigned domain, const void *address, size_t size);
/* It is gone. 0, also if it was not known; -EINVAL, -ENODATA. */
GYRE_API int gyre_trace_untrack(unsigned domain, const void *address);

/* ---- frames ---------------------------------------------------------------------------------- */

struct gyre_frame {
  const char *file; /* "<unknown>" if nothing is known */
  unsigned line;    /* 0 if not known */
  const char *func; /* "" if not known */
  uint64_t pc;      /* where the call returns to; 0 in figures by file, line and function */
};

/* A stack, the oldest call first, as Python has it: the allocation is in frames[count - 1]. */
struct gyre_traceback {
  size_t count; /* at least 1 */
  size_t total; /* how deep the stack was (the first time it was seen), at most 65,535 */
  const struct gyre_frame *frames;
  void *gyre__memory;
};

/* The stack that allocated the block or object, or tracked the memory (of the lowest domain). 1, and the
 * caller frees *out with gyre_traceback_free(); 0 if it is not traced; -ENOMEM. Looks up names. `address`
 * need not be one of this library's. */
GYRE_API int gyre_trace_get(const void *address, struct gyre_traceback *out);
GYRE_API void gyre_traceback_free(struct gyre_traceback *traceback);

/* As traceback.format() of Python, a line each with '\n': two for a frame if its source file can be read.
 * limit > 0: the most recent frames, < 0: the oldest, 0: all. As snprintf(): the length needed. */
GYRE_API int gyre_traceback_format(const struct gyre_traceback *traceback, int limit,
                                   int most_recent_first, char *buffer, size_t size);
/* "file:line". */
GYRE_API int gyre_frame_format(const struct gyre_frame *frame, char *buffer, size_t size);

/* ---- snapshots ------------------------------------------------------------------------------- */

/* What was traced at one time. Immutable; any number of threads may use it. Its memory is the system's. */
typedef struct gyre_snapshot gyre_snapshot;

/* Copies all traces. Does not stop threads: of what they allocate and free meanwhile some is there, some
 * is not. NULL with errno ENODATA or ENOMEM. The caller frees it with gyre_snapshot_free(). */
GYRE_API gyre_snapshot *gyre_trace_snapshot(void);
/* NULL is allowed. */
GYRE_API void gyre_snapshot_free(gyre_snapshot *snapshot);

/* Traces in it, and frames kept of each. */
GYRE_API size_t gyre_snapshot_count(const gyre_snapshot *snapshot);
GYRE_API unsigned gyre_snapshot_limit(const gyre_snapshot *snapshot);

struct gyre_trace {
  size_t size;   /* as it was asked for */
  double weight; /* how many blocks this one stands for: 1 unless sampled */
  unsigned domain;
  const char *type; /* of an object, "" of other memory */
  unsigned
      thread; /* the slot it was allocated in: gyre_thread.id; 0: by a thread that was not attached */
  const char
      *thread_name; /* of the thread that had the slot when the snapshot was made, "" if none had */
  struct gyre_traceback traceback;
};
/* The trace with that number below gyre_snapshot_count(). Looks up names. 0, and *out is valid as long as
 * the snapshot, but out->traceback is the caller's to free; -EINVAL, -ENOMEM. */
GYRE_API int gyre_snapshot_trace(gyre_snapshot *snapshot, size_t index, struct gyre_trace *out);

/* Writes it to a file, which is replaced as a whole or not at all; a pipe or a device is written to. Names,
 * modules and build ids are in it, so that any machine can read it. Looks up names. 0 or a negative errno
 * value. */
GYRE_API int gyre_snapshot_save(gyre_snapshot *snapshot, const char *path);
/* Reads one, parked meanwhile, which is a safepoint. NULL with errno: EBADMSG, the file is damaged or none of
 * ours, and *offset (which may be NULL) is where, to 512 bytes; ENOTSUP, of a later version; EINVAL, no
 * regular file; ENOMEM; or what opening and reading it gave. Nothing in a file is trusted: sums that are
 * larger than a size_t are SIZE_MAX. */
GYRE_API gyre_snapshot *gyre_snapshot_load(const char *path, uint64_t *offset);

/* ---- filters --------------------------------------------------------------------------------- */

struct gyre_filter {
  int inclusive; /* keep what matches, or 0: drop it */
  const char *
      pattern; /* of fnmatch(), for the file name, '*' matches '/' too; NULL: any, by domain only */
  unsigned line;  /* 0: any */
  int all_frames; /* compare all frames, not just the most recent */
  int domain;     /* -1: any */
};

/* A new snapshot with the traces that match an inclusive filter, if there is any such filter, and no
 * exclusive one; as Snapshot.filter_traces() of Python, its truth table included. No filters: a copy.
 * Looks up names. NULL with errno EINVAL or ENOMEM. */
GYRE_API gyre_snapshot *gyre_snapshot_filter(gyre_snapshot *snapshot,
                                             const struct gyre_filter *filters, size_t count);

/* ---- statistics ------------------------------------------------------------------------------ */

enum gyre_trace_by {
  GYRE_TRACE_BY_FILE,
  GYRE_TRACE_BY_LINE,
  GYRE_TRACE_BY_FUNCTION,
  GYRE_TRACE_BY_STACK,
  GYRE_TRACE_BY_TYPE,
  GYRE_TRACE_BY_THREAD
};

struct gyre_stat {
  size_t size, count;              /* of living blocks; estimates if they are sampled */
  ptrdiff_t size_diff, count_diff; /* in a comparison */
  int is_diff;
  const char *name;                /* the type or the thread; NULL otherwise */
  struct gyre_traceback traceback; /* what they have in common; not to be freed */
};

/* Sorted as Python does it: by size, count and traceback, the largest first; comparisons by the sizes'
 * difference, size, the counts' difference, count and traceback, differences without their sign. */
struct gyre_statlist {
  size_t count;
  const struct gyre_stat *at;
};

/* Groups the traces. `cumulative`: counts each for every frame of its stack, once (by file, line or
 * function; and of a snapshot with more than one frame a stack). Looks up names. 0, and the caller frees
 * *out with gyre_statlist_free(); it does not need the snapshot any more. -EINVAL, -ENOMEM. */
GYRE_API int gyre_snapshot_stats(gyre_snapshot *snapshot, enum gyre_trace_by by, int cumulative,
                                 struct gyre_statlist **out);
/* What has changed since an older snapshot; what is gone is there with size 0. Otherwise as above. */
GYRE_API int gyre_snapshot_diff(gyre_snapshot *snapshot, gyre_snapshot *old, enum gyre_trace_by by,
                                int cumulative, struct gyre_statlist **out);
/* NULL is allowed. */
GYRE_API void gyre_statlist_free(struct gyre_statlist *list);

/* "file:line: size=4855 KiB (+4428 KiB), count=39328 (+39369), average=126 B", as Python has it. As
 * snprintf(): the length needed. */
GYRE_API int gyre_stat_format(const struct gyre_stat *stat, char *buffer, size_t size);

GYRE_END_DECLS

#endif
