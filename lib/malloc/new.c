/* SPDX-License-Identifier: MIT */
/* C++'s operators new and delete over the heap, in C, by their names in the Itanium ABI.
 *
 * A failure asks the program's new-handler and tries again, as long as there is one; then it throws
 * std::bad_alloc or, nothrow, returns NULL. Handlers and exceptions are the C++ library's: weak references
 * find it in programs that have it, and only those can have got here by `new`. A program that loads it
 * later, with a plugin, has no handler and ends where it would throw.
 *
 * The operators are weak, so that a program linked with libgyre_malloc.a may bring its own.
 */
#include "lib/malloc/malloc.h"

#include <dlfcn.h>

/* ---- the C++ library ---- */

typedef void new_handler(void);

/* std::get_new_handler() */
new_handler *cxx_get_new_handler(void) __asm__("_ZSt15get_new_handlerv") __attribute__((weak));
/* std::__throw_bad_alloc(), of libstdc++ */
_Noreturn void cxx_throw_bad_alloc(void) __asm__("_ZSt17__throw_bad_allocv") __attribute__((weak));
/* Absent in programs that are linked statically. */
#pragma weak dlsym

static new_handler *handler_now(void) { return cxx_get_new_handler ? cxx_get_new_handler() : NULL; }

static _Noreturn void fail(size_t size) {
  if (cxx_throw_bad_alloc) cxx_throw_bad_alloc();
  gyre__die(__FILE__, __LINE__,
            "out of memory: operator new of %zu bytes, and no libstdc++ to throw", size);
}

/* ---- allocating ---- */

/* Alignment 0: any. */
static void *block_try(size_t size, size_t alignment) {
  return alignment == 0 ? gyre__family_malloc_block(size)
                        : gyre__family_aligned_block(alignment, size);
}

static bool alignment_is_valid(size_t alignment) { return (alignment & (alignment - 1)) == 0; }

/* The handler frees memory, or throws, or does not return. */
static GYRE_NOINLINE void *new_slow(size_t size, size_t alignment) {
  void *block = NULL;
  while (block == NULL) {
    new_handler *handler = handler_now();
    if (handler == NULL) fail(size);
    handler();
    block = block_try(size, alignment);
  }
  return block;
}

/* What a handler throws must end in the nothrow operators, and C cannot catch it. The C++ library's own
 * nothrow operators can: they call the plain ones, which are ours, and catch. `name` is such a one. */
static GYRE_NOINLINE void *new_slow_nothrow(size_t size, size_t alignment, const char *name) {
  void *symbol = handler_now() != NULL && dlsym != NULL ? dlsym(RTLD_NEXT, name) : NULL;
  if (symbol == NULL) return NULL;
  static const char nothrow; /* std::nothrow_t is empty, and nobody looks at it */
  if (alignment == 0) {
    void *(*next)(size_t, const void *);
    __builtin_memcpy(&next, &symbol, sizeof next);
    return next(size, &nothrow);
  }
  void *(*next)(size_t, size_t, const void *);
  __builtin_memcpy(&next, &symbol, sizeof next);
  return next(size, alignment, &nothrow);
}

GYRE_INLINE void *block_new(size_t size) {
  void *block = gyre__family_malloc_block(size);
  return GYRE_LIKELY(block != NULL) ? block : new_slow(size, 0);
}

GYRE_INLINE void *block_new_nothrow(size_t size, const char *name) {
  void *block = gyre__family_malloc_block(size);
  return GYRE_LIKELY(block != NULL) ? block : new_slow_nothrow(size, 0, name);
}

static void *block_new_aligned(size_t size, size_t alignment) {
  if (!alignment_is_valid(alignment)) fail(size);
  void *block = block_try(size, alignment);
  return GYRE_LIKELY(block != NULL) ? block : new_slow(size, alignment);
}

static void *block_new_aligned_nothrow(size_t size, size_t alignment, const char *name) {
  if (!alignment_is_valid(alignment)) return NULL;
  void *block = block_try(size, alignment);
  return GYRE_LIKELY(block != NULL) ? block : new_slow_nothrow(size, alignment, name);
}

/* ---- the operators ----
 *
 * m: size_t; RKSt9nothrow_t: const std::nothrow_t &; St11align_val_t: std::align_val_t. `new` is nw, `new[]`
 * na, `delete` dl, `delete[]` da. Deleting ignores what the caller knows of size and alignment. */

#define OPERATOR(name) __asm__(name) __attribute__((weak, visibility("default")))

void *new_one(size_t size) OPERATOR("_Znwm");
void *new_array(size_t size) OPERATOR("_Znam");
void *new_one(size_t size) { return block_new(size); }
void *new_array(size_t size) { return block_new(size); }

void *new_one_nothrow(size_t size, const void *nothrow) OPERATOR("_ZnwmRKSt9nothrow_t");
void *new_array_nothrow(size_t size, const void *nothrow) OPERATOR("_ZnamRKSt9nothrow_t");
void *new_one_nothrow(size_t size, const void *nothrow) {
  (void)nothrow;
  return block_new_nothrow(size, "_ZnwmRKSt9nothrow_t");
}
void *new_array_nothrow(size_t size, const void *nothrow) {
  (void)nothrow;
  return block_new_nothrow(size, "_ZnamRKSt9nothrow_t");
}

void *new_one_aligned(size_t size, size_t alignment) OPERATOR("_ZnwmSt11align_val_t");
void *new_array_aligned(size_t size, size_t alignment) OPERATOR("_ZnamSt11align_val_t");
void *new_one_aligned(size_t size, size_t alignment) { return block_new_aligned(size, alignment); }
void *new_array_aligned(size_t size, size_t alignment) {
  return block_new_aligned(size, alignment);
}

void *new_one_aligned_nothrow(size_t size, size_t alignment, const void *nothrow)
    OPERATOR("_ZnwmSt11align_val_tRKSt9nothrow_t");
void *new_array_aligned_nothrow(size_t size, size_t alignment, const void *nothrow)
    OPERATOR("_ZnamSt11align_val_tRKSt9nothrow_t");
void *new_one_aligned_nothrow(size_t size, size_t alignment, const void *nothrow) {
  (void)nothrow;
  return block_new_aligned_nothrow(size, alignment, "_ZnwmSt11align_val_tRKSt9nothrow_t");
}
void *new_array_aligned_nothrow(size_t size, size_t alignment, const void *nothrow) {
  (void)nothrow;
  return block_new_aligned_nothrow(size, alignment, "_ZnamSt11align_val_tRKSt9nothrow_t");
}

void delete_one(void *block) OPERATOR("_ZdlPv");
void delete_array(void *block) OPERATOR("_ZdaPv");
void delete_one(void *block) { gyre__family_free_block(block); }
void delete_array(void *block) { gyre__family_free_block(block); }

void delete_one_nothrow(void *block, const void *nothrow) OPERATOR("_ZdlPvRKSt9nothrow_t");
void delete_array_nothrow(void *block, const void *nothrow) OPERATOR("_ZdaPvRKSt9nothrow_t");
void delete_one_nothrow(void *block, const void *nothrow) {
  (void)nothrow;
  gyre__family_free_block(block);
}
void delete_array_nothrow(void *block, const void *nothrow) {
  (void)nothrow;
  gyre__family_free_block(block);
}

void delete_one_sized(void *block, size_t size) OPERATOR("_ZdlPvm");
void delete_array_sized(void *block, size_t size) OPERATOR("_ZdaPvm");
void delete_one_sized(void *block, size_t size) {
  (void)size;
  gyre__family_free_block(block);
}
void delete_array_sized(void *block, size_t size) {
  (void)size;
  gyre__family_free_block(block);
}

void delete_one_aligned(void *block, size_t alignment) OPERATOR("_ZdlPvSt11align_val_t");
void delete_array_aligned(void *block, size_t alignment) OPERATOR("_ZdaPvSt11align_val_t");
void delete_one_aligned(void *block, size_t alignment) {
  (void)alignment;
  gyre__family_free_block(block);
}
void delete_array_aligned(void *block, size_t alignment) {
  (void)alignment;
  gyre__family_free_block(block);
}

void delete_one_aligned_nothrow(void *block, size_t alignment, const void *nothrow)
    OPERATOR("_ZdlPvSt11align_val_tRKSt9nothrow_t");
void delete_array_aligned_nothrow(void *block, size_t alignment, const void *nothrow)
    OPERATOR("_ZdaPvSt11align_val_tRKSt9nothrow_t");
void delete_one_aligned_nothrow(void *block, size_t alignment, const void *nothrow) {
  (void)alignment, (void)nothrow;
  gyre__family_free_block(block);
}
void delete_array_aligned_nothrow(void *block, size_t alignment, const void *nothrow) {
  (void)alignment, (void)nothrow;
  gyre__family_free_block(block);
}

void delete_one_sized_aligned(void *block, size_t size, size_t alignment)
    OPERATOR("_ZdlPvmSt11align_val_t");
void delete_array_sized_aligned(void *block, size_t size, size_t alignment)
    OPERATOR("_ZdaPvmSt11align_val_t");
void delete_one_sized_aligned(void *block, size_t size, size_t alignment) {
  (void)size, (void)alignment;
  gyre__family_free_block(block);
}
void delete_array_sized_aligned(void *block, size_t size, size_t alignment) {
  (void)size, (void)alignment;
  gyre__family_free_block(block);
}
