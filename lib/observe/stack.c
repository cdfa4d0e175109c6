/* SPDX-License-Identifier: MIT */
/* Stacks, and the table in which each is kept once.
 *
 * Frame pointers. Each frame begins with the address of the next older one and, above it, the address that
 * the call returns to. The walk begins in the library's own frames and goes on inside the thread's own
 * stack, upwards only, so whatever a function without a frame pointer has left in the register, nothing
 * else is read. The address that the public function returns to is known without any of that; the walk
 * looks for the frame that returns there, which shows that the library's part of the chain is whole, and goes
 * on with its parent. (The functions on the way from a public function keep a frame pointer: GYRE__KEEP_FRAME();
 * the public function itself jumps to its slow half, or keeps one.) If there is none, and on another stack than
 * the thread's (a coroutine's), there is one frame.
 *
 * Sites. A stack together with a type has a number, its address in a table of pieces, in steps of 16
 * bytes. They are found by their hash in buckets, each a list that grows at its head by compare-exchange;
 * finding takes no lock. What is in the table is constant, until the table is dropped as a whole, a grace
 * period after tracing has ended (trace.c).
 */
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>
#include <unwind.h>

#include "lib/observe/trace.h"

/* ---- walking ---- */

/* Where the calling thread's stack is. The system gives numbers of threads again; but not to one whose handle, which
 * lies at the end of its stack, is the same too, and whose stack is elsewhere. */
static void stack_bounds(struct gyre__tracer *t) {
  uint32_t thread = ((struct gyre__thread *)(void *)gyre__self)->os_id;
  uintptr_t handle = (uintptr_t)pthread_self();
  if (GYRE_LIKELY(t->stack_thread == thread && t->stack_handle == handle)) return;
  t->stack_thread = thread;
  t->stack_handle = handle;
  t->stack_low = t->stack_high = 0;
  pthread_attr_t attr;
  if (pthread_getattr_np(pthread_self(), &attr) != 0) return;
  void *low = NULL;
  size_t size = 0;
  if (pthread_attr_getstack(&attr, &low, &size) == 0) {
    t->stack_low = (uintptr_t)low;
    t->stack_high = (uintptr_t)low + size;
  }
  (void)pthread_attr_destroy(&attr);
}

/* Most frames of the library's own between the program and here. */
#define OWN_FRAMES 16u

/* Reads words of the stack that belong to others' frames: not for AddressSanitizer's eyes. */
__attribute__((no_sanitize("address", "thread"))) static uintptr_t word_at(uintptr_t address) {
  return *(volatile uintptr_t *)address; /* NOLINT: an address in our own stack */
}

static bool is_frame(const struct gyre__tracer *t, uintptr_t frame) {
  return frame % sizeof(uintptr_t) == 0 && frame >= t->stack_low &&
         frame <= t->stack_high - 2 * sizeof(uintptr_t);
}

uint32_t gyre__stack_walk(struct gyre__tracer *t, const void *pc, void *start, uintptr_t *pcs,
                          uint32_t max) {
  pcs[0] = (uintptr_t)pc;
  stack_bounds(t);
  uintptr_t frame = (uintptr_t)start;
  if (t->stack_high == 0 || !is_frame(t, frame)) return 1;
  for (unsigned own = 0; word_at(frame + sizeof(uintptr_t)) != (uintptr_t)pc; own++) {
    uintptr_t next = word_at(frame);
    if (own == OWN_FRAMES || next <= frame || !is_frame(t, next)) return 1;
    frame = next;
  }
  /* The program's. */
  uintptr_t parent = word_at(frame);
  if (parent <= frame || !is_frame(t, parent)) return 1;
  frame = parent;
  uint32_t count = 1;
  while (count < GYRE_TRACE_FRAMES_MAX) {
    uintptr_t back = word_at(frame + sizeof(uintptr_t));
    if (back < 4096) break;
    if (count < max) pcs[count] = back;
    count++;
    uintptr_t next = word_at(frame);
    if (next <= frame || !is_frame(t, next)) break;
    frame = next;
  }
  return count;
}

struct unwinding {
  uintptr_t pc;
  uintptr_t *pcs;
  uint32_t max, count, skipped;
  __typeof__(&_Unwind_GetIP) get_ip;
};

/* libgcc's, loaded when it is first wanted: a C program need not have it. Set before a session that wants
 * stacks from it begins. */
static gyre__atomic_ptr unwinder_backtrace, unwinder_get_ip;

/* Whoever loads a library may be waiting for us in its constructor: no lock is held. Two who load it find the same. */
bool gyre__unwinder_load(void) {
  /* acquire: the other one; pairs with the store below. */
  if (gyre__load_acquire(&unwinder_backtrace) != NULL) return true;
  gyre_park();
  void *library = dlopen("libgcc_s.so.1", RTLD_NOW | RTLD_LOCAL);
  void *backtrace = library != NULL ? dlsym(library, "_Unwind_Backtrace") : NULL;
  void *get_ip = library != NULL ? dlsym(library, "_Unwind_GetIP") : NULL;
  gyre_unpark();
  if (backtrace == NULL || get_ip == NULL) return false;
  /* relaxed: published with the session's number; pairs with stack_unwind(). */
  gyre__store_relaxed(&unwinder_get_ip, get_ip);
  /* release: the other one; pairs with the load above. */
  gyre__store_release(&unwinder_backtrace, backtrace);
  return true;
}

static _Unwind_Reason_Code unwind_step(struct _Unwind_Context *context, void *arg) {
  struct unwinding *u = arg;
  uintptr_t pc = u->get_ip(context);
  if (pc == 0 || u->count >= GYRE_TRACE_FRAMES_MAX) return _URC_END_OF_STACK;
  if (u->count == 0 && pc != u->pc) return ++u->skipped < 32 ? _URC_NO_REASON : _URC_END_OF_STACK;
  if (u->count < u->max) u->pcs[u->count] = pc;
  u->count++;
  return _URC_NO_REASON;
}

static uint32_t stack_unwind(const void *pc, uintptr_t *pcs, uint32_t max) {
  struct unwinding u = {.pc = (uintptr_t)pc, .pcs = pcs, .max = max};
  __typeof__(&_Unwind_Backtrace) backtrace;
  /* relaxed: published with the session's number; pairs with gyre__unwinder_load(). */
  void *at[] = {gyre__load_relaxed(&unwinder_backtrace), gyre__load_relaxed(&unwinder_get_ip)};
  memcpy(&backtrace, &at[0], sizeof backtrace);
  memcpy(&u.get_ip, &at[1], sizeof u.get_ip);
  (void)backtrace(unwind_step, &u);
  if (u.count != 0) return u.count;
  pcs[0] = (uintptr_t)pc;
  return 1;
}

/* ---- the table ---- */

#define PIECE_BYTES ((size_t)1 << 20)
#define STEP 16u
#define PIECE_STEPS (PIECE_BYTES / STEP)
#define PIECES 4096u
_Static_assert(PIECES *PIECE_STEPS == (size_t)1 << GYRE__MARK_SITE_BITS, "numbers of sites");
_Static_assert(sizeof(struct gyre__site) + GYRE_TRACE_FRAMES_MAX * sizeof(uint64_t) < PIECE_BYTES,
               "the deepest stack fits in a piece");

#define BUCKETS 65536u

static gyre__atomic_ptr pieces[PIECES];
static gyre__atomic_u32 buckets[BUCKETS];
/* The next free step; a site that does not fit into what is left of a piece begins the next. */
static struct {
  gyre__atomic_u64 next_step;
  gyre__atomic_size piece_count;
} __attribute__((aligned(64))) room = {.next_step = {1}};

static struct gyre__site *site_at(uint32_t number) {
  /* acquire: pairs with the compare-exchange in piece_get(). */
  char *piece = gyre__load_acquire(&pieces[number / PIECE_STEPS]);
  return (struct gyre__site *)(void *)(piece + number % PIECE_STEPS * STEP);
}

const struct gyre__site *gyre__site(uint32_t number) { return site_at(number); }

static bool piece_get(uint32_t index) {
  /* acquire: as above. */
  if (gyre__load_acquire(&pieces[index]) != NULL) return true;
  void *fresh = gyre__os_map(PIECE_BYTES, gyre__os_page_size()), *none = NULL;
  if (fresh == NULL) return false;
  /* acq_rel: releases the zeroes; pairs with site_at(). */
  if (gyre__cas_strong_acq_rel(&pieces[index], &none, fresh))
    /* relaxed: a figure; pairs with gyre__sites_bytes(). */
    gyre__fetch_add_relaxed(&room.piece_count, 1);
  else
    gyre__os_unmap(fresh, PIECE_BYTES);
  return true;
}

/* Room for a site of `count` frames; 0 if there is none. */
static uint32_t site_room(uint32_t count) {
  uint64_t steps = (sizeof(struct gyre__site) + count * sizeof(uint64_t) + STEP - 1) / STEP;
  /* relaxed: a number of one's own; pairs with itself in other threads. */
  uint64_t at = gyre__load_relaxed(&room.next_step), begin;
  do {
    begin = at % PIECE_STEPS + steps <= PIECE_STEPS ? at : (at / PIECE_STEPS + 1) * PIECE_STEPS;
    if (begin / PIECE_STEPS >= PIECES) return 0;
    /* Before the room is taken: a failure leaves everything as it is. */
    if (!piece_get((uint32_t)(begin / PIECE_STEPS))) return 0;
    /* relaxed: as above. */
  } while (!gyre__cas_weak_relaxed(&room.next_step, &at, begin + steps));
  return (uint32_t)begin;
}

static uint32_t hash_of(const uintptr_t *pcs, uint32_t count, uint32_t type) {
  uint64_t h = type + 1;
  for (uint32_t i = 0; i < count; i++) {
    h = (h ^ pcs[i]) * UINT64_C(0x9E3779B97F4A7C15);
    h ^= h >> 32;
  }
  return (uint32_t)h;
}

static bool site_is(const struct gyre__site *site, uint32_t hash, const uintptr_t *pcs,
                    uint32_t count, uint32_t type) {
  return site->hash == hash && site->type == type && site->count == count &&
         memcmp(site->pcs, pcs, count * sizeof *pcs) == 0;
}
_Static_assert(sizeof(uintptr_t) == sizeof(uint64_t), "addresses of 64 bits");

static uint32_t site_find(uint32_t from, uint32_t until, uint32_t hash, const uintptr_t *pcs,
                          uint32_t count, uint32_t type) {
  for (uint32_t at = from; at != until; at = site_at(at)->next)
    if (site_is(site_at(at), hash, pcs, count, type)) return at;
  return 0;
}

static uint32_t site_intern(const uintptr_t *pcs, uint32_t count, uint32_t total, uint32_t type) {
  uint32_t hash = hash_of(pcs, count, type);
  gyre__atomic_u32 *bucket = &buckets[hash % BUCKETS];
  /* acquire: the sites; pairs with the compare-exchange below. */
  uint32_t head = gyre__load_acquire(bucket);
  uint32_t found = site_find(head, 0, hash, pcs, count, type);
  if (GYRE_LIKELY(found != 0)) return found;
  uint32_t number = site_room(count);
  if (number == 0) return 0;
  struct gyre__site *site = site_at(number);
  *site = (struct gyre__site){.hash = hash, .type = type, .count = count, .total = total};
  memcpy(site->pcs, pcs, count * sizeof *pcs);
  uint32_t seen = head;
  for (;;) {
    site->next = head;
    GYRE_WINDOW("trace/intern");
    /* acq_rel: releases the site; acquires those that others put before it. Pairs with the load
     * above. */
    if (gyre__cas_weak_acq_rel(bucket, &head, number)) return number;
    /* Ours stays where it is, in no list, until the table is dropped. */
    /* acquire: as above. */
    head = gyre__load_acquire(bucket);
    found = site_find(head, seen, hash, pcs, count, type);
    if (found != 0) return found;
    seen = head;
  }
}

#define FEW 64u

uint32_t gyre__site_of_stack(struct gyre__tracer *t, const void *pc, void *frame, uint32_t type) {
  GYRE__KEEP_FRAME();
  uintptr_t few[FEW], *pcs = few;
  if (t->nframe > FEW) {
    if (t->pcs_room < t->nframe) {
      if (t->pcs != NULL) gyre__os_unmap(t->pcs, t->pcs_room * sizeof *t->pcs);
      t->pcs = gyre__os_map(t->nframe * sizeof *t->pcs, gyre__os_page_size());
      size_t before = t->pcs_room;
      t->pcs_room = t->pcs != NULL ? t->nframe : 0;
      /* relaxed: a figure; partners: itself in other threads. */
      gyre__fetch_add_relaxed(&gyre__traced_bytes, (t->pcs_room - before) * sizeof *t->pcs);
    }
    if (t->pcs == NULL) return 0;
    pcs = t->pcs;
  }
  uint32_t total =
      t->unwind ? stack_unwind(pc, pcs, t->nframe) : gyre__stack_walk(t, pc, frame, pcs, t->nframe);
  uint32_t count = total < t->nframe ? total : t->nframe;
  return site_intern(pcs, count, total, type);
}

void gyre__sites_reset(void) {
  for (uint32_t i = 0; i < PIECES; i++) {
    /* relaxed: nobody else uses the table now, all of them. */
    void *piece = gyre__load_relaxed(&pieces[i]);
    if (piece == NULL) continue;
    gyre__store_relaxed(&pieces[i], NULL);
    gyre__os_unmap(piece, PIECE_BYTES);
  }
  for (uint32_t i = 0; i < BUCKETS; i++)
    /* relaxed: as above; most are 0, in memory that was never touched. */
    if (gyre__load_relaxed(&buckets[i]) != 0) gyre__store_relaxed(&buckets[i], 0);
  /* relaxed: as above. */
  gyre__store_relaxed(&room.next_step, 1);
  gyre__store_relaxed(&room.piece_count, 0);
}

size_t gyre__sites_bytes(void) {
  /* relaxed: figures; pairs with site_room() and piece_get(). */
  size_t used = (size_t)gyre__load_relaxed(&room.next_step) * STEP;
  if (gyre__load_relaxed(&room.piece_count) == 0) return 0;
  return used + sizeof buckets;
}
