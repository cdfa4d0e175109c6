/* SPDX-License-Identifier: MIT */
/* What the files of allocation tracing offer each other. trace.c begins with the whole story. */
#ifndef GYRE_LIB_OBSERVE_TRACE_H
#define GYRE_LIB_OBSERVE_TRACE_H

#include <gyre/trace.h>

#include "lib/heap/traced.h"

/* ---- stack.c: stacks, and the table of sites ---- */

/* A stack and a type. Constant from when it is in the table. */
struct gyre__site {
  uint32_t hash;
  uint32_t next; /* in its bucket */
  uint32_t type;
  uint32_t count, total; /* frames kept, and how many there were */
  uint32_t unused_;
  uint64_t pcs[]; /* the most recent first */
};

/* For gyre__tracer_hooks. */
uint32_t gyre__site_of_stack(struct gyre__tracer *tracer, const void *pc, void *frame,
                             uint32_t type);
/* Without a lock, before a session that asks the unwinder. Parks the thread. False if there is none. */
bool gyre__unwinder_load(void);
/* The site with a number that a mark of the present session has. With the trace lock. */
const struct gyre__site *gyre__site(uint32_t number);
/* Drops all. No thread looks any up, or makes one. */
void gyre__sites_reset(void);
size_t gyre__sites_bytes(void);
/* The frame pointers' way: fills in up to `max` addresses, `pc` first, and returns how many frames there
 * are, at most GYRE_TRACE_FRAMES_MAX. */
uint32_t gyre__stack_walk(struct gyre__tracer *tracer, const void *pc, void *frame, uintptr_t *pcs,
                          uint32_t max);

/* ---- trace_table.c: what is traced by its address: large blocks, foreign memory; any thread ---- */

/* Replaces what is known. False if there is no memory. *old: the bytes it replaced, weighted. */
bool gyre__table_put(uint32_t domain, uintptr_t address, const struct gyre__traced_large *record,
                     struct gyre__traced_large *old);
/* False if there is none. */
bool gyre__table_take(uint32_t domain, uintptr_t address, struct gyre__traced_large *out);
bool gyre__table_get(uint32_t domain, uintptr_t address, struct gyre__traced_large *out);
/* The one of the lowest foreign domain. */
bool gyre__table_get_foreign(uintptr_t address, struct gyre__traced_large *out);
void gyre__table_visit(void (*visit)(const struct gyre__traced_large *record, void *arg),
                       void *arg);
void gyre__table_clear(void);
size_t gyre__table_bytes(void);
void gyre__table_fork_prepare(void);
void gyre__table_fork_parent(void);
void gyre__table_fork_child(void);

/* ---- trace.c ---- */

/* The lock of sessions: whoever has it finds the present one unchanged. Parks the thread while it waits. */
void gyre__trace_lock(void);
void gyre__trace_unlock(void);

#endif
