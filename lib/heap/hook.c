/* SPDX-License-Identifier: MIT */
/* Allocators of the program's (gyre/alloc.h), and how the fast paths come by them.
 *
 * A block of mem is allocated and freed by some instructions that look at no setting. So an allocator is not
 * a branch there; it takes away what they go by, and they take their slow halves, which look here:
 *
 *   - gyre_malloc() looks up a size's pool in the handle: every size leads to a pool that is always empty;
 *   - the inline paths of the headers read links with the handle's key: it is off by a bit, so that no
 *     link looks right (as in builds in which nothing is inline);
 *   - a free compares the segment's small_owner with its own heap: it is NULL.
 *
 * All of these are plain words, changed while the world is stopped; slots and segments that are made later
 * begin that way (gyre__hook_slot(), gyre__hook_is_on()).
 *
 * The functions that do the work without looking here, gyre__raw_*_base in raw.h and malloc.c, are the
 * allocator "pool" that gyre_get_allocator() gives at first.
 *
 * An allocator that was set is copied into an array and never changed: who reads a pointer to it needs no
 * lock. The last place in the array being taken is an error.
 */
#include "lib/heap/hook.h"

#if !GYRE__IS_MALLOC

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "lib/heap/page.h"
#include "lib/heap/raw.h"

/* ---- pool: mem as it is ---- */

/* Where the program called gyre_malloc() or its like, if its allocator serves that call; else NULL. */
static __thread const void *outer_pc;

const void *gyre__hook_enter(const void *pc) {
  const void *before = outer_pc;
  if (before == NULL) outer_pc = pc;
  return before;
}

void gyre__hook_leave(const void *before) { outer_pc = before; }

/* For the tracer: where the block was asked for, which is not in the wrappers that hand it on to us. */
#define ASKED_AT (outer_pc != NULL ? outer_pc : GYRE__CALLER)

static void *pool_malloc(void *ctx, size_t size) {
  GYRE__KEEP_FRAME();
  (void)ctx;
  return gyre__raw_malloc_base(size, gyre__raw_heap(gyre__self), ASKED_AT);
}

static void *pool_calloc(void *ctx, size_t count, size_t size) {
  GYRE__KEEP_FRAME();
  (void)ctx;
  return gyre__raw_calloc_base(gyre__raw_heap(gyre__self), count, size, ASKED_AT);
}

static void *pool_realloc(void *ctx, void *block, size_t size) {
  GYRE__KEEP_FRAME();
  (void)ctx;
  return gyre__raw_realloc_base(gyre__raw_heap(gyre__self), block, size, ASKED_AT);
}

static void pool_free(void *ctx, void *block) {
  (void)ctx;
  gyre__raw_free_base(block, gyre__raw_heap(gyre__self));
}

static void *pool_aligned(void *ctx, size_t alignment, size_t size) {
  GYRE__KEEP_FRAME();
  (void)ctx;
  return gyre__raw_aligned_base(gyre__raw_heap(gyre__self), alignment, size, ASKED_AT);
}

static size_t pool_usable(void *ctx, const void *block) {
  (void)ctx;
  return gyre__raw_usable_base(block);
}

static const struct gyre_allocator pool = {
    .size = sizeof pool,
    .malloc = pool_malloc,
    .calloc = pool_calloc,
    .realloc = pool_realloc,
    .free = pool_free,
    .aligned_alloc = pool_aligned,
    .usable_size = pool_usable,
};

/* ---- system: the C library's ---- */

static void *system_malloc(void *ctx, size_t size) {
  (void)ctx;
  if (gyre__arena_on) return pool_malloc(NULL, size);
  return malloc(size);
}

static void *system_calloc(void *ctx, size_t count, size_t size) {
  (void)ctx;
  if (gyre__arena_on) return pool_calloc(NULL, count, size);
  return calloc(count, size);
}

/* Was it allocated in an arena? Blocks of malloc() are in no segment. */
static bool is_ours(const void *block) { return block != NULL && gyre__segment_of(block) != NULL; }

static void *system_realloc(void *ctx, void *block, size_t size) {
  (void)ctx;
  if (block == NULL) return system_malloc(NULL, size);
  if (is_ours(block)) return pool_realloc(NULL, block, size);
  return realloc(block, size != 0 ? size : 1); /* 0 would free */
}

static void system_free(void *ctx, void *block) {
  (void)ctx;
  if (is_ours(block))
    pool_free(NULL, block);
  else
    free(block);
}

static void *system_aligned(void *ctx, size_t alignment, size_t size) {
  (void)ctx;
  if (gyre__arena_on) return pool_aligned(NULL, alignment, size);
  void *block = NULL;
  if (alignment < sizeof(void *)) alignment = sizeof(void *);
  int err = posix_memalign(&block, alignment, size);
  if (err == 0) return block;
  errno = err;
  return NULL;
}

static size_t system_usable(void *ctx, const void *block) {
  (void)ctx;
  if (is_ours(block)) return pool_usable(NULL, block);
  return malloc_usable_size((void *)(uintptr_t)block);
}

static const struct gyre_allocator system_allocator = {
    .size = sizeof system_allocator,
    .malloc = system_malloc,
    .calloc = system_calloc,
    .realloc = system_realloc,
    .free = system_free,
    .aligned_alloc = system_aligned,
    .usable_size = system_usable,
};

/* ---- which is set ---- */

#define COPIES 1024u

static gyre__lock copies_lock;
/* Under the lock: taken so far. The others are never written again. */
static struct gyre_allocator copies[COPIES];
static unsigned copy_count;

gyre__atomic_ptr gyre__hook_serving[2];

static const struct gyre_allocator *raw_now(void) {
  gyre__hook_start();
  /* acquire: what it points to; pairs with serve(). */
  const struct gyre_allocator *a = gyre__load_acquire(&gyre__hook_serving[GYRE_DOMAIN_RAW]);
  return a != NULL ? a : &system_allocator;
}

static const struct gyre_allocator *domain_now(enum gyre_domain domain) {
  if (domain == GYRE_DOMAIN_RAW) return raw_now();
  const struct gyre_allocator *a = gyre__hook_now();
  return a != NULL ? a : &pool;
}

static bool is_same(const struct gyre_allocator *a, const struct gyre_allocator *b) {
  return a->ctx == b->ctx && a->malloc == b->malloc && a->calloc == b->calloc &&
         a->realloc == b->realloc && a->free == b->free && a->aligned_alloc == b->aligned_alloc &&
         a->usable_size == b->usable_size;
}

/* A pointer for good to an allocator like this one; NULL if there is no place for it. */
static const struct gyre_allocator *copy_of(const struct gyre_allocator *a) {
  if (is_same(a, &pool)) return &pool;
  if (is_same(a, &system_allocator)) return &system_allocator;
  const struct gyre_allocator *found = NULL;
  gyre__lock_take(&copies_lock);
  for (unsigned i = 0; i < copy_count && found == NULL; i++)
    if (is_same(a, &copies[i])) found = &copies[i];
  if (found == NULL && copy_count < COPIES) {
    copies[copy_count] = *a;
    found = &copies[copy_count++];
  }
  gyre__lock_give(&copies_lock);
  return found;
}

static void serve(enum gyre_domain domain, const struct gyre_allocator *a) {
  bool is_default = a == (domain == GYRE_DOMAIN_MEM ? &pool : &system_allocator);
  /* release: what it points to; pairs with the loads in raw_now() and gyre__hook_now(). A slot that is being
   * made sees it, or is seen, by the registry's lock. */
  gyre__store_release(&gyre__hook_serving[domain], is_default ? NULL : (void *)(uintptr_t)a);
}

/* ---- the fast paths' ways ---- */

/* The world is stopped. */
static void ways_set(void) {
  gyre__thread_slots_hold();
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= count; id++)
    gyre__hook_slot(gyre__thread_slot(id));
  gyre__thread_slots_let_go();
  gyre__segment_owners_set();
}

/* Before any thread has attached, mem needs no stopped world; nor is one attached for it, which would take
 * memory that an arena is to have. False if a slot has been made. */
static bool serve_before_slots(const struct gyre_allocator *a) {
  gyre__thread_slots_hold();
  bool none = gyre__thread_slot_count() == 0;
  if (none) serve(GYRE_DOMAIN_MEM, a);
  gyre__thread_slots_let_go();
  return none;
}

/* ---- asking and setting ---- */

static int domain_fault(enum gyre_domain domain) {
  if (domain == GYRE_DOMAIN_OBJ) return -ENOTSUP;
  return domain == GYRE_DOMAIN_RAW || domain == GYRE_DOMAIN_MEM ? 0 : -EINVAL;
}

int gyre_get_allocator(enum gyre_domain domain, struct gyre_allocator *out) {
  int fault = domain_fault(domain);
  if (fault != 0) return fault;
  if (out == NULL || out->size == 0) return -EINVAL;
  gyre__hook_start();
  struct gyre_allocator now = *domain_now(domain);
  now.size = out->size;
  memcpy(out, &now, out->size < sizeof now ? out->size : sizeof now);
  return 0;
}

static bool heap_has_blocks(void) {
  struct gyre_heap_stats stats = {.size = sizeof stats};
  return gyre_heap_get_stats(&stats) != 0 || stats.live_blocks != 0;
}

/* `if_empty`: -EBUSY if the heap has blocks, which nobody allocates meanwhile. */
static int mem_serve(const struct gyre_allocator *copy, bool if_empty) {
  if (serve_before_slots(copy)) return 0;
  struct gyre__thread *self = gyre__thread_self();
  if (self == NULL) return -EAGAIN;
  GYRE_WINDOW("heap/hooks");
  gyre__world_stop(self);
  bool busy = if_empty && heap_has_blocks();
  if (!busy) {
    serve(GYRE_DOMAIN_MEM, copy);
    ways_set();
  }
  gyre__world_resume(self);
  return busy ? -EBUSY : 0;
}

int gyre_set_allocator(enum gyre_domain domain, const struct gyre_allocator *allocator) {
  int fault = domain_fault(domain);
  if (fault != 0) return fault;
  if (allocator == NULL || allocator->size < offsetof(struct gyre_allocator, aligned_alloc))
    return -EINVAL;
  struct gyre_allocator a = {0};
  memcpy(&a, allocator, allocator->size < sizeof a ? allocator->size : sizeof a);
  a.size = sizeof a;
  if (a.malloc == NULL || a.calloc == NULL || a.realloc == NULL || a.free == NULL) return -EINVAL;
  gyre__hook_start();
  const struct gyre_allocator *copy = copy_of(&a);
  if (copy == NULL) return -ENOSPC;
  if (domain == GYRE_DOMAIN_RAW) {
    serve(domain, copy);
    return 0;
  }
  return mem_serve(copy, false);
}

/* ---- at the first use ---- */

static pthread_once_t start_once = PTHREAD_ONCE_INIT;

/* Options "malloc" and "debug_hooks". There is no slot yet, or at most the first, which its thread is making;
 * blocks of raw there may be none either. */
static void start(void) {
  gyre__options_start();
  uint64_t choice = gyre__option(malloc_choice);
  bool is_system = choice == GYRE__CHOICE_SYSTEM || choice == GYRE__CHOICE_SYSTEM_DEBUG;
  if (is_system && !gyre__arena_on) serve(GYRE_DOMAIN_MEM, &system_allocator);
  if (choice == GYRE__CHOICE_POOL_DEBUG || choice == GYRE__CHOICE_SYSTEM_DEBUG)
    for (int domain = GYRE_DOMAIN_RAW; domain <= GYRE_DOMAIN_MEM; domain++) {
      struct gyre_allocator inner = *domain_now((enum gyre_domain)domain), outer;
      gyre__fence_wrap((enum gyre_domain)domain, &inner, &outer);
      serve((enum gyre_domain)domain, copy_of(&outer));
    }
}

void gyre__hook_start(void) {
  static __thread bool is_starting; /* what start() calls comes here again */
  if (is_starting) return;
  is_starting = true;
  gyre__options_init(); /* may write to the log, so not while others wait for it */
  (void)pthread_once(&start_once, start);
  is_starting = false;
}

int gyre_setup_debug_hooks(void) {
  gyre__hook_start();
  /* What may fail comes first. */
  static const enum gyre_domain domains[] = {GYRE_DOMAIN_MEM, GYRE_DOMAIN_RAW};
  for (size_t d = 0; d < sizeof domains / sizeof domains[0]; d++) {
    enum gyre_domain domain = domains[d];
    struct gyre_allocator inner = *domain_now(domain), outer;
    if (gyre__fence_is(&inner)) continue;
    gyre__fence_wrap(domain, &inner, &outer);
    const struct gyre_allocator *copy = copy_of(&outer);
    if (copy == NULL) return -ENOSPC;
    if (domain == GYRE_DOMAIN_RAW) {
      serve(domain, copy);
      continue;
    }
    int result = mem_serve(copy, true);
    if (result != 0) return result;
  }
  return 0;
}

/* ---- the raw domain ---- */

void *gyre_raw_malloc(size_t size) {
  const struct gyre_allocator *a = raw_now();
  return a->malloc(a->ctx, size);
}

void *gyre_raw_calloc(size_t count, size_t size) {
  const struct gyre_allocator *a = raw_now();
  return a->calloc(a->ctx, count, size);
}

void *gyre_raw_realloc(void *block, size_t size) {
  const struct gyre_allocator *a = raw_now();
  return a->realloc(a->ctx, block, size);
}

void *gyre_raw_aligned_alloc(size_t alignment, size_t size) {
  return gyre__hook_aligned(raw_now(), alignment, size);
}

void gyre_raw_free(void *block) {
  const struct gyre_allocator *a = raw_now();
  if (block != NULL) a->free(a->ctx, block);
}

void *gyre__hook_aligned(const struct gyre_allocator *a, size_t alignment, size_t size) {
  if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > GYRE__ALIGNMENT_MAX) {
    errno = EINVAL;
    return NULL;
  }
  if (a->aligned_alloc != NULL) return a->aligned_alloc(a->ctx, alignment, size);
  if (alignment <= 16) return a->malloc(a->ctx, size);
  errno = ENOMEM;
  return NULL;
}

/* ---- pages ---- */

int gyre_set_page_source(const struct gyre_page_source *source) {
  if (source == NULL || source->size < offsetof(struct gyre_page_source, purge)) return -EINVAL;
  struct gyre_page_source s = {0};
  memcpy(&s, source, source->size < sizeof s ? source->size : sizeof s);
  if (s.map == NULL || s.unmap == NULL) return -EINVAL;
  if (gyre__source_is_set() || gyre__thread_slot_count() != 0) return -EBUSY;
  gyre__source =
      (struct gyre__source){.ctx = s.ctx, .map = s.map, .unmap = s.unmap, .purge = s.purge};
  return 0;
}

/* ---- fork ---- */

void gyre__hook_fork_prepare(void) { gyre__lock_take(&copies_lock); }
void gyre__hook_fork_parent(void) { gyre__lock_give(&copies_lock); }
void gyre__hook_fork_child(void) { gyre__lock_reset(&copies_lock); }

#endif
