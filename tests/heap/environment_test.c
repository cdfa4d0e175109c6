/* SPDX-License-Identifier: MIT */
/* What the environment says about allocators, read by a process that has just begun: this program again, with
 * the name of a case. */
#include <gyre/alloc.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "heap_test.h"

static bool is_in_pool(void) {
  void *block = gyre_malloc(100);
  bool result = block != NULL && gyre__segment_of(block) != NULL;
  gyre_free(block);
  return result;
}

/* The byte before a block, which the compiler knows of; it would warn. */
static unsigned char byte_before(unsigned char *block, ptrdiff_t distance) {
  __asm__ volatile("" : "+r"(block));
  return block[-distance];
}

static bool has_guards(void) {
  unsigned char *block = gyre_malloc(100);
  bool result = block != NULL && byte_before(block, 8) == 'm' && byte_before(block, 1) == 0xFD;
  gyre_free(block);
  return result;
}

/* The process that has just begun. Exits with 0 if it is as it should be. */
static int run_case(const char *name) {
  char text[16] = "";
  if (strcmp(name, "pool") == 0) return !is_in_pool();
  if (strcmp(name, "guard") == 0) return !is_in_pool() || !has_guards();
  if (strcmp(name, "system") == 0) return is_in_pool();
  if (strcmp(name, "system_guard") == 0) return is_in_pool() || !has_guards();
  if (strcmp(name, "raw_guard") == 0) {
    unsigned char *block = gyre_raw_malloc(10); /* the first call of all */
    bool guarded = block != NULL && byte_before(block, 8) == 'r';
    gyre_raw_free(block);
    return !guarded;
  }
  if (strcmp(name, "rc_off") == 0)
    return gyre_option_get("rc", text, sizeof text) != 3 || strcmp(text, "off") != 0;
  if (strcmp(name, "rc_on") == 0)
    return gyre_option_get("rc", text, sizeof text) != 2 || strcmp(text, "on") != 0;
  return 0;
}

static void expect(const char *variable, const char *value, const char *name) {
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    (void)unsetenv("GYRE_CONF");
    (void)setenv(variable, value, 1);
    (void)execl("/proc/self/exe", "environment_test", name, (char *)NULL);
    _exit(9);
  }
  int status = -1;
  assert_int_equal(waitpid(child, &status, 0), child);
  if (status != 0) print_message("%s=%s: not %s\n", variable, value, name);
  assert_int_equal(status, 0);
}

static void gyre_malloc_chooses(void **state) {
  (void)state;
  expect("GYRE_MALLOC", "pool", "pool");
  expect("GYRE_MALLOC", "system", "system");
  expect("GYRE_MALLOC", "pool_debug", "guard");
  expect("GYRE_MALLOC", "system_debug", "system_guard");
  expect("GYRE_CONF", "malloc:pool_debug", "guard");
  /* A name that there is not is no reason to end. */
  expect("GYRE_MALLOC", "mimalloc", "pool");
}

static void a_choice_that_comes_too_late_is_refused(void **state) {
  (void)state;
  gyre_free(gyre_malloc(1));
  assert_int_equal(gyre_option_set("malloc", "system"), -EBUSY);
  char value[16];
  assert_true(gyre_option_get("malloc", value, sizeof value) > 0);
  assert_string_equal(value, "pool");
}

static void gyre_debug_guards(void **state) {
  (void)state;
  expect("GYRE_DEBUG", "guard", "guard");
  expect("GYRE_DEBUG", "visit,guard", "guard");
  expect("GYRE_DEBUG", "guard,visit", "raw_guard");
  expect("GYRE_DEBUG", "guardian", "pool");
}

static void gyre_rc_is_off(void **state) {
  (void)state;
  expect("GYRE_RC", "off", "rc_off");
  expect("GYRE_RC", "on", "rc_on");
  expect("GYRE_CONF", "rc:off", "rc_off");
}

int main(int argc, char **argv) {
  if (argc > 1) return run_case(argv[1]);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gyre_malloc_chooses),
      cmocka_unit_test(a_choice_that_comes_too_late_is_refused),
      cmocka_unit_test(gyre_debug_guards),
      cmocka_unit_test(gyre_rc_is_off),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
