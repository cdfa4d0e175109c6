/* SPDX-License-Identifier: MIT */
/* Snapshots: what is in one, and what the files that make, name, sum up, save and print it share.
 *
 *     traces --> stacks --> frame_list --> frames --> strings
 *                  |                         `------> modules
 *                  `--> strings (the type)
 *
 * All of it is flat and without pointers, as it is in a file. Built by one thread, then immutable but for
 * the names of frames, which are filled in once, under the lock of names (symbols.c).
 */
#ifndef GYRE_LIB_OBSERVE_SNAPSHOT_H
#define GYRE_LIB_OBSERVE_SNAPSHOT_H

#include <gyre/trace.h>

#include "lib/base/base.h"

/* A piece of memory from the system that grows. */
struct gyre__vec {
  char *data;
  size_t used, room; /* bytes */
};

/* Room for `bytes` more, zeroed; NULL if there is no memory. Moves the rest. */
void *gyre__vec_add(struct gyre__vec *vec, size_t bytes);
void gyre__vec_free(struct gyre__vec *vec);
#define GYRE__VEC_COUNT(vec, type) ((vec)->used / sizeof(type))
#define GYRE__VEC_AT(vec, type, index) (&((type *)(void *)(vec)->data)[index])

/* From 64 bits to 32. */
struct gyre__map {
  struct gyre__vec slots;
  size_t count;
};
/* Where the value of a key is, 0 in a new one (*is_new); NULL if there is no memory. */
uint32_t *gyre__map_at(struct gyre__map *map, uint64_t key, bool *is_new);
/* The same of a key that may be missing: NULL then. */
uint32_t *gyre__map_find(const struct gyre__map *map, uint64_t key);
void gyre__map_free(struct gyre__map *map);

/* As in the file: version 1. */
struct gyre__trace_item {
  uint64_t size;
  uint32_t stack, thread, domain;
  float weight;
};
struct gyre__stack_item {
  uint32_t first, count, total; /* in frame_list, the most recent first */
  uint32_t type;                /* string */
};
struct gyre__frame_item {
  uint64_t pc;
  uint32_t file, func; /* strings */
  uint32_t line;
  uint32_t module; /* number + 1; 0: none */
};
struct gyre__module_item {
  uint64_t base, low, high; /* what is added to its addresses, and where it lies */
  uint32_t path;            /* string */
  uint32_t build_id_bytes;
  uint8_t build_id[24];
};

enum gyre__snapshot_part {
  GYRE__PART_TRACES,
  GYRE__PART_STACKS,
  GYRE__PART_FRAME_LIST, /* uint32_t: numbers of frames */
  GYRE__PART_FRAMES,
  GYRE__PART_MODULES,
  GYRE__PART_THREADS, /* uint32_t: strings, by slot */
  GYRE__PART_STRINGS, /* each with its 0; the first is "" */
  GYRE__PARTS
};

struct gyre_snapshot {
  uint32_t nframe;
  uint64_t sample;
  struct gyre__vec parts[GYRE__PARTS];
  struct gyre__map string_map; /* by hash, while it is built and named */
  gyre__atomic_u32 is_named;   /* set under the lock of names */
  bool is_torn; /* a thread that a child does not have was about to name it; under the same lock */
};

#define GYRE__SNAPSHOT_COUNT(s, part, type) GYRE__VEC_COUNT(&(s)->parts[part], type)
#define GYRE__SNAPSHOT_AT(s, part, type, index) GYRE__VEC_AT(&(s)->parts[part], type, index)

GYRE_INLINE const char *gyre__snapshot_string(const struct gyre_snapshot *s, uint32_t at) {
  return s->parts[GYRE__PART_STRINGS].data + at;
}

/* snapshot.c. An empty one; NULL with errno ENOMEM. */
struct gyre_snapshot *gyre__snapshot_new(void);
/* False if there is no memory. */
bool gyre__snapshot_intern(struct gyre_snapshot *s, const char *text, uint32_t *at);
/* A stack that calls in frames of one thread: for gyre_trace_get(). */
struct gyre__addresses {
  uint64_t *pcs; /* the most recent first */
  size_t count, total;
};
/* 0 or -ENOMEM. */
int gyre__traceback_make(const struct gyre__addresses *stack, bool park,
                         struct gyre_traceback *out);
/* The frames of a stack, the oldest first, with strings in `strings`. */
void gyre__frames_fill(const struct gyre_snapshot *s, uint32_t stack, const char *strings,
                       struct gyre_frame *out);
void gyre__frame_fill(const struct gyre__frame_item *item, const char *strings,
                      struct gyre_frame *out);

/* symbols.c. The modules of this process that the frames' addresses lie in. 0 or -ENOMEM. */
int gyre__modules_find(struct gyre_snapshot *s);
/* Fills in the frames' names, if it has not been done. 0 or -ENOMEM. Parks the thread, unless it is done. */
int gyre__snapshot_name(struct gyre_snapshot *s);
/* The same without parking, and with -EAGAIN if another thread is at it: for a process that is about to die. */
int gyre__snapshot_name_now(struct gyre_snapshot *s);
void gyre__symbols_fork_child(void);
/* Gives up what libdw has been told. Any thread. */
void gyre__symbols_release(void);
/* The same when the memory that it was noted in is gone with an arena. */
void gyre__symbols_forget(void);

#endif
