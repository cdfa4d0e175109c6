/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <gyre/base.h>

#include "lib/base/base.h"

static char log_text[4000];

static void log_keep(const char *line, void *arg) {
  assert_ptr_equal(arg, log_text);
  /* No lock of the library is held: this may call anything. */
  assert_true(gyre_option_get("limit", NULL, 0) >= 0);
  gyre_set_log(log_keep, log_text);
  strncat(log_text, line, sizeof log_text - strlen(log_text) - 1);
  strncat(log_text, "\n", sizeof log_text - strlen(log_text) - 1);
}

static const char *get(const char *name) {
  static char text[100];
  int length = gyre_option_get(name, text, sizeof text);
  assert_int_equal(length, strlen(text));
  return text;
}

/* Runs first, in a process whose GYRE_CONF main() has set. */
static void the_environment_sets_options_and_names_what_does_not_fit(void **state) {
  (void)state;
  gyre_set_log(log_keep, log_text);
  gyre__options_init();
  assert_string_equal(get("limit"), "2097152");
  assert_string_equal(get("purge_delay_ms"), "5");
  assert_string_equal(get("gc_threshold"), "7/8/10");
  assert_string_equal(get("stall_ms"), "1000");
  assert_string_equal(get("large"), "spans");
  assert_non_null(strstr(log_text, "\"stall_ms\" does not accept \"0\""));
  assert_non_null(strstr(log_text, "\"large\" does not accept \"tcmalloc\""));
  assert_non_null(strstr(log_text, "system|jemalloc|mmap"));
  assert_non_null(strstr(log_text, "no option \"colour\""));
  assert_non_null(strstr(log_text, "\"gc\" does not accept \"\""));
  assert_null(strstr(log_text, "\"limit\""));
  gyre_set_log(NULL, NULL);
}

static void numbers_take_suffixes(void **state) {
  (void)state;
  assert_int_equal(gyre_option_set("limit", "3"), 0);
  assert_string_equal(get("limit"), "3");
  assert_int_equal(gyre_option_set("limit", "4k"), 0);
  assert_string_equal(get("limit"), "4096");
  assert_int_equal(gyre_option_set("limit", "5M"), 0);
  assert_string_equal(get("limit"), "5242880");
  assert_int_equal(gyre_option_set("limit", "6G"), 0);
  assert_string_equal(get("limit"), "6442450944");
  assert_int_equal(gyre_option_set("limit", "0"), 0);
}

static void what_does_not_fit_is_refused_and_changes_nothing(void **state) {
  (void)state;
  static const char *const bad[][2] = {
      {"limit", ""},
      {"limit", "k"},
      {"limit", "-1"},
      {"limit", "1x"},
      {"limit", "1 "},
      {"limit", "1/2"},
      {"gc", "2"},
      {"gc", "on"},
      {"stall_ms", "0"},
      {"gc_threshold", "1/"},
      {"gc_threshold", "1/2/3/4"},
      {"gc_threshold", "/1"},
      {"gc_threshold", "2147483648"},
      {"large", ""},
      {"large", "mmap "},
      {"limit", "99999999999999999999"},
      {"limit", "18446744073709551615G"},
      {"release_budget", "0"},
      {"collect_always", "4"},
  };
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    char before[100];
    (void)snprintf(before, sizeof before, "%s", get(bad[i][0]));
    assert_int_equal(gyre_option_set(bad[i][0], bad[i][1]), -EINVAL);
    assert_string_equal(get(bad[i][0]), before);
  }
  assert_int_equal(gyre_option_set("limit", NULL), -EINVAL);
}

static void an_unknown_name_is_refused(void **state) {
  (void)state;
  char text[10] = "same";
  assert_int_equal(gyre_option_set("limits", "1"), -ENOENT);
  assert_int_equal(gyre_option_set("lim", "1"), -ENOENT);
  assert_int_equal(gyre_option_set(NULL, "1"), -ENOENT);
  assert_int_equal(gyre_option_get("limits", text, sizeof text), -ENOENT);
  assert_string_equal(text, "same");
  errno = 0;
  assert_null(gyre_option_describe("limits"));
  assert_int_equal(errno, ENOENT);
}

static void some_thresholds_leave_the_others(void **state) {
  (void)state;
  assert_int_equal(gyre_option_set("gc_threshold", "1/2/3"), 0);
  assert_int_equal(gyre_option_set("gc_threshold", "9"), 0);
  assert_string_equal(get("gc_threshold"), "9/2/3");
}

static void a_short_buffer_is_ended_and_the_length_told(void **state) {
  (void)state;
  char text[5] = "xxxx";
  assert_int_equal(gyre_option_set("limit", "123456"), 0);
  assert_int_equal(gyre_option_get("limit", text, 4), 6);
  assert_string_equal(text, "123");
  assert_int_equal(gyre_option_get("limit", NULL, 0), 6);
  assert_int_equal(gyre_option_set("limit", "0"), 0);
}

static void every_option_describes_itself(void **state) {
  (void)state;
  static const char *const names[] = {"large",
                                      "limit",
                                      "purge_delay_ms",
                                      "alloc_is_safepoint",
                                      "stall_ms",
                                      "release_budget",
                                      "gc",
                                      "gc_threshold",
                                      "leaks",
                                      "collect_always",
                                      "poison",
                                      "fail_nth",
                                      "yield_seed",
                                      "slow_paths"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    const char *text = gyre_option_describe(names[i]);
    assert_non_null(text);
    assert_ptr_equal(strstr(text, names[i]), text);
    assert_non_null(strstr(text, "default"));
    assert_null(strchr(text, '\n'));
  }
}

static void the_version_is_that_of_the_headers(void **state) {
  (void)state;
  char text[40];
  (void)snprintf(text, sizeof text, "%d.%d.%d", GYRE_VERSION_MAJOR, GYRE_VERSION_MINOR,
                 GYRE_VERSION_PATCH);
  assert_string_equal(gyre_version(), text);
}

int main(void) {
  (void)setenv(
      "GYRE_CONF",
      "limit:2M,purge_delay_ms:5,,stall_ms:0,large:tcmalloc,colour:red,gc,gc_threshold:7/8", 1);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_environment_sets_options_and_names_what_does_not_fit),
      cmocka_unit_test(numbers_take_suffixes),
      cmocka_unit_test(what_does_not_fit_is_refused_and_changes_nothing),
      cmocka_unit_test(an_unknown_name_is_refused),
      cmocka_unit_test(some_thresholds_leave_the_others),
      cmocka_unit_test(a_short_buffer_is_ended_and_the_length_told),
      cmocka_unit_test(every_option_describes_itself),
      cmocka_unit_test(the_version_is_that_of_the_headers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
