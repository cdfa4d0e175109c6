/* SPDX-License-Identifier: MIT */
/* Scopes and regions: two stacks a thread.
 *
 * A scope is a struct on its block's stack with room for some references; more go to pieces from the
 * heap. A region is a chain of chunks, the newest first; it lies itself in its first chunk. Cleanups are
 * records in the region's own memory.
 *
 *     region ---> newest chunk ---> ... ---> first chunk [ region | ... ]
 *
 * For AddressSanitizer what of a chunk was not handed out yet is out of bounds, with a gap behind each
 * piece.
 */
#include <gyre/scope.h>

#include <errno.h>
#include <stdbool.h>

#include "lib/base/check.h"

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif

#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#define hide(at, size) __asan_poison_memory_region((at), (size))
#define show(at, size) __asan_unpoison_memory_region((at), (size))
#define GAP 16
#else
#define hide(at, size) ((void)(at), (void)(size))
#define show(at, size) ((void)(at), (void)(size))
#define GAP 0
#endif

/* ---- scopes ---- */

#define MORE 62

struct gyre__scope_more {
  struct gyre__scope_more *before; /* NULL: the scope's own */
  void *objects[MORE];
};

static __thread gyre_scope *innermost_scope;

void gyre_scope_begin(gyre_scope *scope) {
  scope->gyre__outer = innermost_scope;
  scope->gyre__more = NULL;
  scope->gyre__count = 0;
  scope->gyre__on = 1;
  innermost_scope = scope;
}

void *gyre__keep(void *object) {
  if (object == NULL) return NULL;
  gyre_scope *scope = innermost_scope;
  int error = EINVAL;
  if (scope != NULL) {
    struct gyre__scope_more *more = scope->gyre__more;
    if (scope->gyre__count < (more != NULL ? (uint32_t)MORE : (uint32_t)GYRE__SCOPE_FIRST)) {
      (more != NULL ? more->objects : scope->gyre__first)[scope->gyre__count++] = object;
      return object;
    }
    struct gyre__scope_more *fresh = gyre_malloc(sizeof *fresh);
    if (fresh != NULL) {
      fresh->before = more;
      fresh->objects[0] = object;
      scope->gyre__more = fresh;
      scope->gyre__count = 1;
      return object;
    }
    error = ENOMEM;
  }
  gyre_release(object);
  errno = error;
  return NULL;
}

/* The reference that was kept last; NULL if there is none left. */
static void *scope_pop(gyre_scope *scope) {
  struct gyre__scope_more *more = scope->gyre__more;
  if (more == NULL) return scope->gyre__count > 0 ? scope->gyre__first[--scope->gyre__count] : NULL;
  void *object = more->objects[--scope->gyre__count];
  if (scope->gyre__count == 0) {
    scope->gyre__more = more->before;
    scope->gyre__count = more->before != NULL ? MORE : GYRE__SCOPE_FIRST;
    gyre_free(more);
  }
  return object;
}

void gyre_scope_end(gyre_scope *scope) {
  if (!scope->gyre__on) return;
  GYRE_REQUIRE(innermost_scope == scope, "gyre_scope_end() of a scope that is not the innermost");
  /* What finalizers keep goes to the scope outside. */
  innermost_scope = scope->gyre__outer;
  scope->gyre__on = 0;
  void *object;
  while ((object = scope_pop(scope)) != NULL)
    gyre_release(object);
}

/* ---- regions ---- */

#define CHUNK_FIRST 4096u
#define CHUNK_MAX 65536u
#define ALIGNMENT 16u

struct chunk {
  struct chunk *before;
  size_t size; /* bytes of all, this header included */
};
_Static_assert(sizeof(struct chunk) % ALIGNMENT == 0, "alignment of a chunk's contents");

struct cleanup {
  struct cleanup *before;
  void (*run)(void *);
  void *arg;
};

struct gyre_region {
  gyre_region *outer;
  gyre_thread *thread;
  struct chunk *newest;
  /* What is left of the chunk that small pieces come from. */
  char *next, *end;
  size_t chunk_size; /* of the next one */
  size_t size;
  struct cleanup *cleanups;
  bool is_ending;
};

static __thread gyre_region *innermost_region;

static size_t rounded(size_t size) {
  return ((size > 0 ? size : 1) + GAP + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
}

static struct chunk *chunk_new(size_t size, struct chunk *before) {
  struct chunk *chunk = gyre_malloc(size);
  if (chunk == NULL) return NULL;
  *chunk = (struct chunk){before, size};
  hide(chunk + 1, size - sizeof *chunk);
  return chunk;
}

static void chunk_free(struct chunk *chunk) {
  show(chunk, chunk->size);
  gyre_free(chunk);
}

gyre_region *gyre_region_begin(void) {
  gyre_thread *self = gyre_thread_attach();
  if (self == NULL) return NULL;
  struct chunk *chunk = chunk_new(CHUNK_FIRST, NULL);
  if (chunk == NULL) return NULL;
  gyre_region *region = (gyre_region *)(void *)(chunk + 1);
  show(region, sizeof *region);
  *region = (gyre_region){.outer = innermost_region,
                          .thread = self,
                          .newest = chunk,
                          .next = (char *)region + rounded(sizeof *region),
                          .end = (char *)chunk + chunk->size,
                          .chunk_size = 2 * CHUNK_FIRST,
                          .size = chunk->size};
  innermost_region = region;
  return region;
}

/* A piece that does not fit. */
static GYRE_NOINLINE void *alloc_slow(gyre_region *region, size_t size, size_t asked) {
  bool own = size > region->chunk_size / 4;
  size_t bytes = own ? sizeof(struct chunk) + size : region->chunk_size;
  struct chunk *chunk = chunk_new(bytes, region->newest);
  if (chunk == NULL) return NULL;
  region->newest = chunk;
  region->size += bytes;
  char *piece = (char *)(chunk + 1);
  show(piece, asked);
  if (own) return piece;
  region->next = piece + size;
  region->end = (char *)chunk + bytes;
  if (region->chunk_size < CHUNK_MAX) region->chunk_size *= 2;
  return piece;
}

void *gyre_region_alloc(gyre_region *region, size_t size) {
  GYRE_ASSERT(region->thread == gyre_thread_current());
  if (GYRE_UNLIKELY(size > PTRDIFF_MAX - 4096)) {
    errno = ENOMEM;
    return NULL;
  }
  size_t bytes = rounded(size);
  if (GYRE_UNLIKELY(bytes > (size_t)(region->end - region->next)))
    return alloc_slow(region, bytes, size);
  char *piece = region->next;
  region->next = piece + bytes;
  show(piece, size);
  return piece;
}

int gyre_region_defer(gyre_region *region, void (*run)(void *arg), void *arg) {
  if (run == NULL) return -EINVAL;
  struct cleanup *cleanup = gyre_region_alloc(region, sizeof *cleanup);
  if (cleanup == NULL) return -ENOMEM;
  *cleanup = (struct cleanup){region->cleanups, run, arg};
  region->cleanups = cleanup;
  return 0;
}

static void release(void *object) { gyre_release(object); }

int gyre_region_keep(gyre_region *region, void *object) {
  return gyre_region_defer(region, release, object);
}

size_t gyre_region_size(const gyre_region *region) { return region->size; }

static bool is_begun(const gyre_region *region) {
  for (const gyre_region *r = innermost_region; r != NULL; r = r->outer)
    if (r == region) return true;
  return false;
}

static void region_free(gyre_region *region) {
  GYRE_REQUIRE(!region->is_ending, "a cleanup of a region ended that region");
  region->is_ending = true;
  struct cleanup *cleanup;
  while ((cleanup = region->cleanups) != NULL) {
    region->cleanups = cleanup->before;
    cleanup->run(cleanup->arg);
  }
  GYRE_REQUIRE(innermost_region == region, "a cleanup of a region left a region that it began");
  innermost_region = region->outer;
  /* The region itself is in the last of them. */
  for (struct chunk *chunk = region->newest, *before; chunk != NULL; chunk = before) {
    before = chunk->before;
    chunk_free(chunk);
  }
}

void gyre_region_end(gyre_region *region) {
  if (region == NULL) return;
  GYRE_REQUIRE(is_begun(region),
               "gyre_region_end() of a region that this thread has not begun, at %p",
               (void *)region);
  while (innermost_region != region)
    region_free(innermost_region);
  region_free(region);
}
