/* SPDX-License-Identifier: MIT */
/* What the tests of the malloc family share. They know nothing of gyre: they call malloc(), and how they are
 * linked and started decides whose that is (BUILD).
 *
 * Threads and children use TEST_REQUIRE; cmocka's assertions are for the thread that runs the test. */
#ifndef GYRE_TESTS_MALLOC_FAMILY_H
#define GYRE_TESTS_MALLOC_FAMILY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <malloc.h>
#include <unistd.h>

#include "tests/support/sanitizer.h"

/* C23's, and an old one: the headers do not declare them, and the C library that a plain program is linked
 * with does not have them. */
#ifndef TEST_PLAIN
void free_sized(void *block, size_t size);
void free_aligned_sized(void *block, size_t alignment, size_t size);
void cfree(void *block);
#else
static void (*free_sized)(void *block, size_t size);
static void (*free_aligned_sized)(void *block, size_t alignment, size_t size);
static void (*cfree)(void *block);

static inline void find(const char *name, void *function) {
  void *symbol = dlsym(RTLD_DEFAULT, name);
  if (symbol == NULL) printf("there is no %s\n", name);
  memcpy(function, &symbol, sizeof symbol);
}
static void __attribute__((constructor)) find_all(void) {
  find("free_sized", &free_sized);
  find("free_aligned_sized", &free_aligned_sized);
  find("cfree", &cfree);
}
#endif

#define TEST_REQUIRE(cond)                                                                         \
  do {                                                                                             \
    if (!(cond)) {                                                                                 \
      dprintf(STDERR_FILENO, "%s:%d: failed: %s\n", __FILE__, __LINE__, #cond);                    \
      abort();                                                                                     \
    }                                                                                              \
  } while (0)

static inline void fill(void *block, size_t size, unsigned seed) {
  for (size_t i = 0; i < size; i++)
    ((unsigned char *)block)[i] = (unsigned char)(seed + i * 7);
}

static inline bool holds(const void *block, size_t size, unsigned seed) {
  for (size_t i = 0; i < size; i++)
    if (((const unsigned char *)block)[i] != (unsigned char)(seed + i * 7)) return false;
  return true;
}

/* Started with LD_PRELOAD, the environment variable GYRE_TEST_LIBRARY has the library's name: it must be in
 * this process, and the test says so. */
static inline int preloaded_as_told(void) {
  const char *name = getenv("GYRE_TEST_LIBRARY");
  if (name == NULL) return 0;
  FILE *maps = fopen("/proc/self/maps", "r");
  char line[4096];
  bool found = false;
  while (maps != NULL && fgets(line, sizeof line, maps) != NULL)
    found |= strstr(line, name) != NULL;
  if (maps != NULL) fclose(maps);
  printf("%s %s in use\n", name, found ? "is" : "is NOT");
  return found ? 0 : 1;
}

#endif
