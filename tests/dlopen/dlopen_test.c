/* SPDX-License-Identifier: MIT */
/* The shared library as a plugin: loaded while threads run, used through dlsym() only, closed
 * again.
 *
 * The program is not linked with gyre, so what it calls is what a language runtime's foreign
 * function interface would call: exported functions, none of the inline ones. */
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <gyre/gyre.h>

/* Beside the test in its runfiles, which is where Bazel starts it. */
static const char library_path[] = "./libgyre.so.0";

/* The functions the tests call. */
static struct {
  const char *(*version)(void);
  void *(*malloc)(size_t);
  void (*free)(void *);
  int (*synchronize)(void);
  ptrdiff_t (*gc_collect)(int);
} gyre;

/* dlsym() with a result that C11 lets one call: a data pointer is not a function pointer there. */
static void find(void *library, const char *name, void *function) {
  void *symbol = dlsym(library, name);
  if (symbol == NULL) fail_msg("%s", dlerror());
  memcpy(function, &symbol, sizeof symbol);
}

static void *open_library(void) {
  void *library = dlopen(library_path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) fail_msg("%s", dlerror());
  find(library, "gyre_version", &gyre.version);
  find(library, "gyre_malloc", &gyre.malloc);
  find(library, "gyre_free", &gyre.free);
  find(library, "gyre_synchronize", &gyre.synchronize);
  find(library, "gyre_gc_collect", &gyre.gc_collect);
  return library;
}

/* What does not work, or NULL. Assertions would not do: cmocka's work in the main thread only. */
static const char *use_library(void) {
  void *block = gyre.malloc(100);
  if (block == NULL) return "gyre_malloc";
  memset(block, 1, 100);
  gyre.free(block);
  if (gyre.synchronize() != 0) return "gyre_synchronize";
  return gyre.gc_collect(2) == 0 ? NULL : "gyre_gc_collect";
}

static void *use_in_thread(void *barrier) {
  /* Started before the library was loaded: its thread-local variables come later than the thread.
   */
  (void)pthread_barrier_wait(barrier);
  (void)pthread_barrier_wait(barrier);
  /* The result is text, read only. */
  return (void *)(uintptr_t)use_library();
}

static void works(const char *what_does_not) {
  if (what_does_not != NULL) fail_msg("%s fails", what_does_not);
}

static void loads_while_threads_run_and_works_in_them(void **state) {
  (void)state;
  pthread_barrier_t barrier;
  pthread_t thread;
  void *result;
  assert_int_equal(pthread_barrier_init(&barrier, NULL, 2), 0);
  assert_int_equal(pthread_create(&thread, NULL, use_in_thread, &barrier), 0);
  (void)pthread_barrier_wait(&barrier);
  void *library = open_library();
  (void)pthread_barrier_wait(&barrier);
  assert_int_equal(pthread_join(thread, &result), 0);
  works(result);
  works(use_library());
  assert_int_equal(dlclose(library), 0);
  assert_int_equal(pthread_barrier_destroy(&barrier), 0);
}

static void is_of_the_version_of_its_headers(void **state) {
  (void)state;
  char version[32];
  (void)snprintf(version, sizeof version, "%d.%d.%d", GYRE_VERSION_MAJOR, GYRE_VERSION_MINOR,
                 GYRE_VERSION_PATCH);
  void *library = open_library();
  assert_string_equal(gyre.version(), version);
  assert_int_equal(dlclose(library), 0);
}

static void stays_mapped_after_dlclose(void **state) {
  (void)state;
  void *library = open_library();
  void *block = gyre.malloc(100);
  assert_int_equal(dlclose(library), 0);

  /* NOLOAD finds only what is mapped still. */
  library = dlopen(library_path, RTLD_NOW | RTLD_NOLOAD);
  assert_non_null(library);
  assert_int_equal(dlclose(library), 0);

  /* A thread that is attached still runs the library's code, at the latest when it ends. */
  gyre.free(block);
  works(use_library());
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(loads_while_threads_run_and_works_in_them),
      cmocka_unit_test(is_of_the_version_of_its_headers),
      cmocka_unit_test(stays_mapped_after_dlclose),
  };
  return cmocka_run_group_tests_name("dlopen", tests, NULL, NULL);
}
