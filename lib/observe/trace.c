/* SPDX-License-Identifier: MIT */
/* Allocation tracing: the whole story, and sessions.
 *
 * What is to be had. For each block that lives and was allocated while tracing was on: its size, where it
 * comes from, its type and its slot; without a lock that threads share, at a price of some nanoseconds a
 * block, and at none when it is off.
 *
 * Allocating. The short ways, many of them inline in programs, take a block off a pool's ready list and ask
 * nobody. They stay as they are: what is not to take them is not on that list. While everything is traced,
 * the lists are empty; what would be on them is in pool->rest, where only lib/heap/traced.c looks, which takes
 * a block and writes its mark. While samples are, the slow path that fills the list knows how many bytes
 * are still to come before the next one, and cuts the list there. As the exponential distribution has no
 * memory, it does not matter that a list's blocks are asked for when they become ready and not when they are
 * handed out, nor that some are put back and asked for again. Where to cut has to be looked for only in a list
 * that the next sample falls into: at 512 KiB a sample, one of eight at most.
 *
 * Freeing. The short way compares the segment's small_owner with the thread's heap, objects' the page's
 * owner with its id; where there are traces, both are 0, so that frees take the slow path, which looks for a
 * mark. When everything is traced that is so for every page that has had a traced block. When samples are,
 * rarely enough (APART_FROM), a sampled block is taken from a class of more than 8 KiB, whose segments
 * have never had a short way: it costs some KiB of memory each 512, and nothing else is slower than before.
 * (tcmalloc gives each sample a span of its own.)
 *
 * Marks. What is known of a block is one word in an array beside its page (lib/heap/traced.h), found by the
 * block's number: no table, no allocation, eight bytes a block; and the word is read and written whole, so
 * that a snapshot needs nobody to stop. Large blocks and foreign memory are in a table by address
 * (trace_table.c). Stacks are kept once, with the type, under a number (stack.c).
 *
 * Frees by other threads. They find the mark by the page, and take it away before the block is on its way
 * home, so its owner, who may hand it out again, sets a mark anew only afterwards.
 *
 * Sessions. Starting, stopping and clearing give gyre__trace_now another number (0: off) and leave it to
 * each heap to take part (gyre__traced_adopt()): in its next slow path or, as each is asked to, at its next
 * safepoint; parked and orphaned ones are taken and done at once, by a thread that runs, since in a stopped world
 * they are the stopper's. A heap that takes part puts its ready
 * lists back and forgets all marks. Until then the blocks of a running thread's ready lists may be handed
 * out unseen: at most what was ready at that moment. Every mark, record and figure carries the number of
 * its session, and whoever finds another leaves it alone; so there is no moment at which everybody has to
 * agree. Numbers come again after 4,095 sessions; a heap forgets its marks at the first that it sees.
 *
 * Memory. Arrays of marks and the stacks' table come from the system, never from the heap that they
 * describe. The tracer calls nothing that allocates from it; `busy` sees to it if the unwinder should.
 * Without memory a block is untraced, the allocation succeeds all the same. When tracing has ended,
 * arrays lose their memory as heaps hear of it, and the stacks go after a grace period.
 *
 * Allocators of the program's (lib/heap/hook.c). They take the short ways away as well, and get what the slow
 * halves would do; what they have from ours comes by gyre__raw_malloc_base() and its like, with the address of the
 * program's call instead of the wrapper's. An arena has no tracing: lib/README.md says why.
 *
 * fork(): the child has its parent's traces. A heap whose thread is lost takes part in no other session: its
 * marks are forgotten when the next begins, and its pages stay as they are.
 *
 * libgyre_malloc has none of this: its blocks may be whatever a preloaded program asks for, before the
 * dynamic linker has finished; heaptrack and others trace such programs from outside.
 */
#include "lib/observe/trace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/heap/raw.h"
#include "lib/observe/snapshot.h"

/* Settings that the next session may change; the number of the last. */
static struct {
  gyre__lock lock;
  uint32_t last;
  struct gyre_trace_opts opts; /* of the session under way, or the last */
  /* The stacks' table is to be dropped: */
  struct gyre__deferred drop;
  bool drop_is_due;
  uint64_t ends, drop_ends; /* sessions that have ended; those that the grace period is for */
} tracing = {.opts = {.nframe = 1}};
/* What gyre_trace_limit() says. */
static gyre__atomic_u32 limit = {1};

void gyre__trace_lock(void) { gyre__lock_parked(gyre__thread_current(), &tracing.lock); }
void gyre__trace_unlock(void) { gyre__lock_give(&tracing.lock); }

/* ---- who calls ---- */

/* For who changes others' heaps: running, with the lock. Without memory to attach, they are left alone. */
static struct gyre__caller caller_enter(void) {
  struct gyre__caller caller = gyre__thread_run_as_guest();
  gyre__trace_lock();
  return caller;
}

static void caller_leave(const struct gyre__caller *caller) {
  gyre__trace_unlock();
  gyre__thread_rest(caller);
}

/* The heap that figures go by: the stand-in if the thread does not run. */
static struct gyre__heap *heap_now(void) {
  struct gyre__thread *self = gyre__thread_current();
  bool runs = self != NULL && self->park_depth == 0;
  return (struct gyre__heap *)(void *)(runs ? self : &gyre__thread_unattached.thread);
}

/* ---- large blocks and foreign memory ---- */

/* The bytes that a large or foreign record stands for. */
static int64_t large_bytes(const struct gyre__traced_large *record) {
  /* relaxed: constant while the session lasts; pairs with settings_store(). */
  uint64_t sample = gyre__load_relaxed(&gyre__trace_settings.sample);
  if (sample == 0) return (int64_t)record->size;
  return (int64_t)gyre__traced_weigh(record->size, gyre__traced_weight_of(record->size, sample));
}

static bool is_of_now(const struct gyre__traced_large *record) {
  /* relaxed: another session's are not counted any more; pairs with session_publish(). */
  return record->site != 0 && record->session == gyre__load_relaxed(&gyre__trace_now);
}

static void count(struct gyre__heap *self, const struct gyre__traced_large *record, bool in) {
  if (!is_of_now(record)) return;
  int64_t bytes = large_bytes(record);
  gyre__traced_account(self, record->session, in ? bytes : -bytes);
}

static bool record_put(struct gyre__heap *self, uint32_t domain, const void *address,
                       const struct gyre__traced_large *record) {
  struct gyre__traced_large old;
  if (!gyre__table_put(domain, (uintptr_t)address, record, &old)) return false;
  count(self, &old, false);
  count(self, record, true);
  return true;
}

static void large_born(struct gyre__heap *self, const void *block,
                       const struct gyre__traced_large *record) {
  /* Without memory it is not traced. */
  if (is_of_now(record)) (void)record_put(self, GYRE_TRACED_LARGE, block, record);
}

static void large_died(struct gyre__heap *self, const void *block) {
  struct gyre__traced_large record;
  if (gyre__table_take(GYRE_TRACED_LARGE, (uintptr_t)block, &record)) count(self, &record, false);
}

static bool large_take(const void *block, struct gyre__traced_large *out) {
  if (!gyre__table_take(GYRE_TRACED_LARGE, (uintptr_t)block, out)) return false;
  count(heap_now(), out, false);
  return true;
}

static GYRE_NOINLINE int track(struct gyre__heap *self, uint32_t domain, const void *address,
                               size_t size, const void *pc) {
  GYRE__KEEP_FRAME();
  struct gyre__tracer *t = gyre__traced_adopt(self);
  if (t == NULL) return gyre_trace_is_on() ? -ENOMEM : -ENODATA;
  if (!(t->domains & GYRE__TRACE_FOREIGN)) return 0;
  if (!gyre__traced_is_sampled(t, size)) {
    struct gyre__traced_large old;
    if (gyre__table_take(domain, (uintptr_t)address, &old)) count(self, &old, false);
    return 0;
  }
  struct gyre__traced_large record = {
      .size = size, .slot = t->slot, .session = t->session, .domain = domain};
  record.site = gyre__traced_site(t, pc, __builtin_frame_address(0), 0);
  if (record.site == 0 || !record_put(self, domain, address, &record)) return -ENOMEM;
  return 0;
}

int gyre_trace_track(unsigned domain, const void *address, size_t size) {
  GYRE__KEEP_FRAME();
  if (domain < GYRE_TRACED_FOREIGN || size > PTRDIFF_MAX) return -EINVAL;
  if (!gyre_trace_is_on()) return -ENODATA;
  struct gyre__heap *self = gyre__heap_self();
  if (self == NULL) return -ENOMEM;
  struct gyre__caller caller = gyre__thread_run(&self->thread);
  int result = track(self, domain, address, size, GYRE__CALLER);
  gyre__thread_rest(&caller);
  return result;
}

int gyre_trace_untrack(unsigned domain, const void *address) {
  if (domain < GYRE_TRACED_FOREIGN) return -EINVAL;
  if (!gyre_trace_is_on()) return -ENODATA;
  struct gyre__traced_large record;
  if (gyre__table_take(domain, (uintptr_t)address, &record)) count(heap_now(), &record, false);
  return 0;
}

/* ---- sessions ---- */

static void settings_store(const struct gyre_trace_opts *opts) {
  struct gyre__trace_settings *s = &gyre__trace_settings;
  /* relaxed: published with the session's number; pairs with settings_read() in lib/heap/traced.c. */
  gyre__store_relaxed(&s->sample, opts->sample_bytes);
  gyre__store_relaxed(&s->domains, opts->domains);
  gyre__store_relaxed(&s->nframe, opts->nframe);
  gyre__store_relaxed(&s->unwind, (opts->flags & GYRE_TRACE_UNWIND) != 0);
  for (unsigned c = 0; c < GYRE__SIZE_CLASSES; c++)
    /* relaxed: as above. */
    gyre__store_relaxed(&s->weight[c],
                        gyre__traced_weight_of(gyre__class_size(c), opts->sample_bytes));
}

/* Has every heap take part. `self` runs and has the lock; NULL: heaps do so when they can. */
static void session_publish(struct gyre__thread *self, uint32_t session) {
  GYRE_WINDOW("trace/publish");
  gyre__traced_figures_begin(session);
  /* seq_cst: the settings, before the looks at the slots' states; a thread that is idle then is taken, one
   * that runs is asked. Pairs with gyre__traced_adopt(). */
  gyre__store_seq_cst(&gyre__trace_now, session);
  for (uint32_t id = 1; id <= gyre__thread_slot_count(); id++) {
    struct gyre__thread *slot = gyre__thread_slot(id);
    if (slot == self) {
      (void)gyre__traced_adopt((struct gyre__heap *)slot);
      continue;
    }
    gyre__thread_request(slot, GYRE__REQ_HEAP);
    if (self == NULL || !gyre__thread_take_counts(slot)) continue;
    /* relaxed: only we change it now. */
    if ((gyre__load_relaxed(&slot->state) & GYRE__SLOT_STATE) == GYRE__SLOT_TAKEN_LOST)
      gyre__traced_lose((struct gyre__heap *)slot);
    else
      (void)gyre__traced_adopt((struct gyre__heap *)slot);
    gyre__thread_give_back(slot);
  }
}

static uint32_t session_next(void) {
  if (++tracing.last == GYRE__TRACE_SESSIONS) tracing.last = 1;
  return tracing.last;
}

/* Fills in what is not said. False if the options make no sense. */
static bool opts_read(const struct gyre_trace_opts *in, struct gyre_trace_opts *out) {
  *out = (struct gyre_trace_opts){.size = sizeof *out};
  if (in != NULL) {
    if (in->size == 0 || in->size > 4096) return false;
    memcpy(out, in, in->size < sizeof *out ? in->size : sizeof *out);
    out->size = sizeof *out;
  }
  const unsigned all = (2u << GYRE_TRACED_FOREIGN) - 1;
  if (out->nframe == 0) out->nframe = 1;
  if (out->domains == 0) out->domains = all;
  return out->nframe <= GYRE_TRACE_FRAMES_MAX && out->sample_bytes <= PTRDIFF_MAX &&
         (out->domains & ~all) == 0 && (out->flags & ~(unsigned)GYRE_TRACE_UNWIND) == 0;
}

static bool opts_are_same(const struct gyre_trace_opts *a, const struct gyre_trace_opts *b) {
  return a->nframe == b->nframe && a->sample_bytes == b->sample_bytes && a->domains == b->domains &&
         a->flags == b->flags;
}

int gyre_trace_start(const struct gyre_trace_opts *wanted) {
  struct gyre_trace_opts opts;
  if (!opts_read(wanted, &opts)) return -EINVAL;
  bool has_stacks = !(opts.flags & GYRE_TRACE_UNWIND) || gyre__unwinder_load();
  struct gyre__caller caller = caller_enter();
  int result = 0;
  if (gyre_trace_is_on()) {
    if (!opts_are_same(&opts, &tracing.opts)) result = -EALREADY;
  } else if (gyre__arena_on) {
    result = -ENOTSUP;
  } else if (!has_stacks) {
    result = -ENOSYS;
  } else {
    tracing.opts = opts;
    /* relaxed: a figure; pairs with gyre_trace_limit(). */
    gyre__store_relaxed(&limit, opts.nframe);
    settings_store(&opts);
    session_publish(caller.self, session_next());
  }
  caller_leave(&caller);
  return result;
}

static void sites_drop(struct gyre__thread *self, struct gyre__deferred *node);

/* Under the lock. */
static void drop_defer(struct gyre__thread *self) {
  tracing.drop_is_due = true;
  tracing.drop_ends = tracing.ends;
  gyre__defer(self, &tracing.drop, sites_drop);
}

/* A grace period after the end: no thread uses a number of a stack any more. */
static void sites_drop(struct gyre__thread *self, struct gyre__deferred *node) {
  if (!gyre__lock_try(&tracing.lock)) {
    /* Whoever has it may wait for us. Nobody else touches the node while it is due. */
    gyre__defer(self, node, sites_drop);
    return;
  }
  tracing.drop_is_due = false;
  if (tracing.drop_ends != tracing.ends)
    drop_defer(self); /* another session has ended since */
  else if (!gyre_trace_is_on())
    gyre__sites_reset();
  gyre__trace_unlock();
}

void gyre_trace_stop(void) {
  if (!gyre_trace_is_on()) return;
  struct gyre__caller caller = caller_enter();
  if (gyre_trace_is_on()) {
    session_publish(caller.self, 0);
    gyre__table_clear();
    tracing.ends++;
    if (!tracing.drop_is_due && caller.self != NULL) drop_defer(caller.self);
  }
  caller_leave(&caller);
}

void gyre_trace_clear(void) {
  if (!gyre_trace_is_on()) return;
  struct gyre__caller caller = caller_enter();
  if (gyre_trace_is_on()) {
    session_publish(caller.self, session_next());
    gyre__table_clear();
  }
  caller_leave(&caller);
}

int gyre_trace_is_on(void) {
  /* acquire: what the session's beginning did; pairs with session_publish(). */
  return gyre__load_acquire(&gyre__trace_now) != 0;
}

unsigned gyre_trace_limit(void) {
  /* relaxed: a figure; pairs with gyre_trace_start(). */
  return gyre__load_relaxed(&limit);
}

int gyre_trace_memory(size_t *current, size_t *peak) {
  size_t now, most;
  gyre__traced_figures(&now, &most);
  if (current != NULL) *current = now;
  if (peak != NULL) *peak = most;
  return 0;
}

void gyre_trace_reset_peak(void) { gyre__traced_reset_peak(); }

size_t gyre_trace_overhead(void) {
  /* relaxed: a figure; pairs with bytes_add() in lib/heap/traced.c. */
  return gyre__load_relaxed(&gyre__traced_bytes) + gyre__sites_bytes() + gyre__table_bytes();
}

/* ---- one block ---- */

static uint32_t site_of(const void *address) {
  uintptr_t at = (uintptr_t)address;
  struct gyre__traced_large record;
  if (at >> GYRE__ADDRESS_BITS != 0) return 0;
  uint64_t mark = gyre__traced_mark(address);
  if (mark != 0) return gyre__mark_site(mark);
  if (gyre__table_get(GYRE_TRACED_LARGE, at, &record) && is_of_now(&record)) return record.site;
  if (at > GYRE_HEADER_SIZE && gyre__table_get(GYRE_TRACED_LARGE, at - GYRE_HEADER_SIZE, &record) &&
      is_of_now(&record))
    return record.site;
  if (gyre__table_get_foreign(at, &record) && is_of_now(&record)) return record.site;
  return 0;
}

int gyre_trace_get(const void *address, struct gyre_traceback *out) {
  gyre__trace_lock();
  uint32_t number = site_of(address);
  struct gyre__addresses stack = {0};
  int result = 0;
  if (number != 0) {
    const struct gyre__site *site = gyre__site(number);
    stack.count = site->count;
    stack.total = site->total;
    stack.pcs = gyre__os_map(site->count * sizeof *stack.pcs, gyre__os_page_size());
    if (stack.pcs != NULL) memcpy(stack.pcs, site->pcs, site->count * sizeof *stack.pcs);
    result = stack.pcs != NULL ? 1 : -ENOMEM;
  }
  gyre__trace_unlock();
  if (result != 1) return result;
  int made = gyre__traceback_make(&stack, true, out);
  gyre__os_unmap(stack.pcs, stack.count * sizeof *stack.pcs);
  return made == 0 ? 1 : made;
}

/* Does without the names if somebody has the lock that we would wait for: he may be us. */
static void report(const void *block, uint32_t number) {
  struct gyre__traced_large record;
  if (number == 0 && gyre__table_get(GYRE_TRACED_LARGE, (uintptr_t)block, &record) &&
      is_of_now(&record))
    number = record.site;
  if (number == 0 || !gyre_trace_is_on() || !gyre__lock_try(&tracing.lock)) return;
  uint64_t pcs[16];
  const struct gyre__site *site = gyre__site(number);
  struct gyre__addresses stack = {.pcs = pcs, .count = site->count, .total = site->total};
  if (stack.count > sizeof pcs / sizeof pcs[0]) stack.count = sizeof pcs / sizeof pcs[0];
  memcpy(pcs, site->pcs, stack.count * sizeof pcs[0]);
  gyre__trace_unlock();
  struct gyre_traceback traceback;
  if (gyre__traceback_make(&stack, false, &traceback) != 0) return;
  for (size_t i = traceback.count; i-- > 0;)
    gyre__log("block %p was allocated%s at %s:%u (%s)", block,
              i + 1 == traceback.count ? "" : ", called", traceback.frames[i].file,
              traceback.frames[i].line, traceback.frames[i].func);
  gyre_traceback_free(&traceback);
}

/* The same as text for lib/heap/fence.c, whose blocks begin behind the start of ours. */
static bool describe(const void *block, char *text, size_t size) {
  if (!gyre_trace_is_on() || !gyre__lock_try(&tracing.lock)) return false;
  uint64_t pcs[4];
  struct gyre__addresses stack = {.pcs = pcs};
  uint32_t number = site_of(block);
  if (number != 0) {
    const struct gyre__site *site = gyre__site(number);
    stack.total = site->total;
    stack.count = site->count < 4 ? site->count : 4;
    memcpy(pcs, site->pcs, stack.count * sizeof pcs[0]);
  }
  gyre__trace_unlock();
  struct gyre_traceback traceback;
  if (number == 0 || gyre__traceback_make(&stack, false, &traceback) != 0) return false;
  size_t at = 0;
  for (size_t i = traceback.count; i-- > 0 && at < size;)
    at += (size_t)snprintf(text + at, size - at, "%s%s:%u (%s)",
                           i + 1 == traceback.count ? "" : ", called at ", traceback.frames[i].file,
                           traceback.frames[i].line, traceback.frames[i].func);
  gyre_traceback_free(&traceback);
  return true;
}

/* ---- GYRE_TRACE ---- */

static const char *dump_path;
static pid_t dump_process;

static void dump_at_exit(void) {
  if (getpid() != dump_process) return;
  gyre_snapshot *snapshot = gyre_trace_snapshot();
  int result = snapshot != NULL ? gyre_snapshot_save(snapshot, dump_path) : -errno;
  if (result != 0) gyre__log("GYRE_TRACE: cannot write \"%s\": %s", dump_path, strerror(-result));
  gyre_snapshot_free(snapshot);
}

/* nframe[,sample=bytes][,dump=path]. False if it is not that. */
static bool conf_parse(const char *text, struct gyre_trace_opts *opts, const char **dump) {
  uint64_t number;
  size_t length = strcspn(text, ",");
  if (!gyre__option_number(text, length, &number) || number > GYRE_TRACE_FRAMES_MAX) return false;
  opts->nframe = (unsigned)number;
  for (text += length; *text == ','; text += length) {
    text++;
    length = strcspn(text, ",");
    if (strncmp(text, "sample=", 7) == 0) {
      if (!gyre__option_number(text + 7, length - 7, &number) || number > PTRDIFF_MAX) return false;
      opts->sample_bytes = (size_t)number;
    } else if (strncmp(text, "dump=", 5) == 0 && text[5] != 0) {
      *dump = text + 5; /* the rest: a path may have commas */
      return true;
    } else {
      return false;
    }
  }
  return *text == 0;
}

static void conf_read(void) {
  const char *text = secure_getenv("GYRE_TRACE");
  if (text == NULL || *text == 0) return;
  struct gyre_trace_opts opts = {.size = sizeof opts};
  const char *dump = NULL;
  if (!conf_parse(text, &opts, &dump)) {
    gyre__log("GYRE_TRACE: \"%s\" is not nframe[,sample=bytes][,dump=path] with 1 to %u frames; "
              "tracing stays off",
              text, GYRE_TRACE_FRAMES_MAX);
    return;
  }
  if (opts.nframe == 0) return; /* off, as 0 is for Python */
  (void)gyre_trace_start(&opts);
  if (dump == NULL) return;
  dump_path = strdup(dump);
  dump_process = getpid();
  if (dump_path == NULL || atexit(dump_at_exit) != 0)
    gyre__log("GYRE_TRACE: no memory to write \"%s\" later", dump);
}

/* ---- setup ---- */

/* What it keeps is beside the heap, and its pages have to belong to somebody (lib/heap/arena.c). */
static void arena_begins(void) {
  gyre__symbols_release();
  if (!gyre_trace_is_on()) return;
  gyre__log("tracing has ended: there is none in an arena (gyre_init_in())");
  gyre_trace_stop();
}

static void fork_child(void) {
  gyre__lock_reset(&tracing.lock);
  gyre__table_fork_child();
  gyre__symbols_fork_child();
}

static void __attribute__((constructor)) trace_init(void) {
  gyre__tracer_hooks.site = gyre__site_of_stack;
  gyre__tracer_hooks.large_born = large_born;
  gyre__tracer_hooks.large_died = large_died;
  gyre__tracer_hooks.large_take = large_take;
  gyre__tracer_hooks.report = report;
  gyre__tracer_hooks.arena_begins = arena_begins;
  gyre__heap_describe = describe;
  gyre__forget_add(gyre__symbols_forget);
  gyre__thread_hooks.fork_prepare[4] = gyre__table_fork_prepare;
  gyre__thread_hooks.fork_parent[4] = gyre__table_fork_parent;
  gyre__thread_hooks.fork_child[4] = fork_child;
  conf_read();
}
