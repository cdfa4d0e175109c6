/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <gyre/gc.h>

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

/* ---- what the table says of itself ---- */

/* Sets the option to what it begins with, which must fit, and back. */
static void assert_takes(const struct gyre_option_info *info, const char *value, int expected) {
  if (gyre_option_set(info->name, value) != expected)
    print_error("option \"%s\", value \"%s\"\n", info->name, value);
  assert_int_equal(gyre_option_set(info->name, value), expected);
  assert_int_equal(gyre_option_set(info->name, info->value), 0);
}

static int look_at_words(const struct gyre_option_info *info) {
  char accepts[200] = "";
  bool has_default = false;
  for (size_t i = 0; info->words[i] != NULL; i++) {
    (void)snprintf(accepts + strlen(accepts), sizeof accepts - strlen(accepts), "%s%s",
                   i == 0 ? "" : "|", info->words[i]);
    has_default |= strcmp(info->default_value, info->words[i]) == 0;
  }
  assert_string_equal(info->accepts, accepts);
  assert_true(has_default);
  assert_takes(info, "no such word", -EINVAL);
  assert_int_equal(gyre_option_set_number(info->name, 0), -EINVAL);
  uint64_t number;
  assert_int_equal(gyre_option_get_number(info->name, &number), -EINVAL);
  return 0;
}

static int look_at_numbers(const struct gyre_option_info *info) {
  char min[40], max[40], beyond[40];
  (void)snprintf(min, sizeof min, "%llu", (unsigned long long)info->min);
  (void)snprintf(max, sizeof max, "%llu", (unsigned long long)info->max);
  (void)snprintf(beyond, sizeof beyond, "%llu", (unsigned long long)info->max + 1);
  assert_takes(info, min, 0);
  assert_takes(info, max, 0);
  if (info->max != UINT64_MAX) assert_takes(info, beyond, -EINVAL);
  if (info->min != 0) assert_takes(info, "0", -EINVAL);
  char accepts[100];
  if (info->kind == GYRE_OPTION_SWITCH) {
    assert_string_equal(info->accepts, "0|1");
  } else if (info->kind == GYRE_OPTION_NUMBER && info->max != 0) {
    (void)snprintf(accepts, sizeof accepts, "%s to %s", min, max);
    assert_string_equal(info->accepts, accepts);
  } else if (info->kind == GYRE_OPTION_BYTES) {
    assert_string_equal(info->accepts, "bytes with suffix k, M or G");
  }
  if (info->kind == GYRE_OPTION_NUMBERS) return 0;
  uint64_t number;
  assert_int_equal(gyre_option_set_number(info->name, info->max), 0);
  assert_int_equal(gyre_option_get_number(info->name, &number), 0);
  assert_int_equal(number, info->max);
  assert_int_equal(gyre_option_set(info->name, info->value), 0);
  return 0;
}

static int look_at(const struct gyre_option_info *info, void *arg) {
  ++*(int *)arg;
  const char *text = gyre_option_describe(info->name);
  assert_non_null(text);
  assert_ptr_equal(strstr(text, info->name), text);
  assert_null(strchr(text, '\n'));
  assert_non_null(strstr(text, info->accepts));
  assert_non_null(strstr(text, info->description));
  assert_non_null(strstr(text, info->default_text));
  assert_string_equal(get(info->name), info->value);
  /* Its default fits, and is what the text says, but for the one that depends on the machine. */
  assert_takes(info, info->default_value, 0);
#ifndef GYRE_DEBUG
  if (strcmp(info->name, "soft_limit") != 0)
    assert_ptr_equal(strstr(info->default_text, info->default_value), info->default_text);
#endif
  assert_true((info->words != NULL) == (info->kind == GYRE_OPTION_WORD));
  return info->words != NULL ? look_at_words(info) : look_at_numbers(info);
}

static void every_option_is_what_it_says(void **state) {
  (void)state;
  int count = 0;
  assert_int_equal(gyre_option_list(look_at, &count), 0);
  assert_true(count >= 28);
  assert_int_equal(gyre_option_list(NULL, NULL), -EINVAL);
}

static int stop_at_third(const struct gyre_option_info *info, void *arg) {
  (void)info;
  return ++*(int *)arg == 3 ? 33 : 0;
}

static void a_visitor_of_options_may_stop(void **state) {
  (void)state;
  int count = 0;
  assert_int_equal(gyre_option_list(stop_at_third, &count), 33);
  assert_int_equal(count, 3);
}

static void numbers_are_set_and_read_as_numbers(void **state) {
  (void)state;
  uint64_t value = 7;
  assert_int_equal(gyre_option_set_number("limit", 12345), 0);
  assert_int_equal(gyre_option_get_number("limit", &value), 0);
  assert_int_equal(value, 12345);
  assert_int_equal(gyre_option_set_number("limit", 0), 0);
  assert_int_equal(gyre_option_set_number("gc", 2), -EINVAL);
  assert_int_equal(gyre_option_set_number("stall_ms", 0), -EINVAL);
  assert_int_equal(gyre_option_set_number("gc_threshold", 5), -EINVAL);
  assert_int_equal(gyre_option_set_number("limits", 5), -ENOENT);
  assert_int_equal(gyre_option_get_number("limits", &value), -ENOENT);
  assert_int_equal(gyre_option_get_number("limit", NULL), -EINVAL);
  assert_int_equal(value, 12345);
}

/* The struct of a caller that knows half of it. */
static void an_older_caller_gets_what_it_knows(void **state) {
  (void)state;
  struct {
    size_t size;
    const char *name;
    const char *unknown;
  } old = {.size = 2 * sizeof(size_t), .unknown = "same"};
  struct gyre_option_info *info = (struct gyre_option_info *)(void *)&old;
  assert_int_equal(gyre_option_query("limit", info), 0);
  assert_string_equal(old.name, "limit");
  assert_string_equal(old.unknown, "same");
  assert_int_equal(old.size, 2 * sizeof(size_t));
  assert_int_equal(gyre_option_query("limits", info), -ENOENT);
  assert_int_equal(gyre_option_query("limit", NULL), -EINVAL);
  old.size = 0;
  assert_int_equal(gyre_option_query("limit", info), -EINVAL);
}

static void setters_of_other_headers_count_as_code(void **state) {
  (void)state;
  struct gyre_option_info info = {.size = sizeof info};
  static const int thresholds[] = {700};
  gyre_heap_set_limit(0);
  assert_int_equal(gyre_gc_set_threshold(thresholds, 1), 0);
  (void)gyre_gc_enable();
  static const char *const names[] = {"limit", "gc_threshold", "gc"};
  for (size_t i = 0; i < 3; i++) {
    assert_int_equal(gyre_option_query(names[i], &info), 0);
    assert_int_equal(info.source, GYRE_OPTION_FROM_CODE);
  }
  (void)gyre_option_set("gc_threshold", "2000");
}

/* ---- threads ---- */

static gyre__atomic_u32 done;

static bool is_done(void) {
  /* relaxed: a flag; the threads are waited for. */
  return gyre__load_relaxed(&done) != 0;
}

static void *set_all_three(void *arg) {
  static const int numbers[][3] = {{10, 11, 12}, {20, 21, 22}, {30, 31, 32}};
  size_t mine = *(const size_t *)arg;
  while (!is_done())
    if (mine == 2 ? gyre_option_set("gc_threshold", "30/31/32") != 0
                  : gyre_gc_set_threshold(numbers[mine], 3) != 0)
      abort();
  return NULL;
}

static int visit_any(const struct gyre_option_info *info, void *arg) {
  (void)arg;
  return info->name == NULL;
}

static void three_numbers_stay_together_whoever_sets_them(void **state) {
  (void)state;
  static size_t which[] = {0, 1, 2};
  pthread_t threads[3];
  assert_int_equal(gyre_option_set("gc_threshold", "10/11/12"), 0);
  /* relaxed: before they start. */
  gyre__store_relaxed(&done, 0);
  for (int i = 0; i < 3; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, set_all_three, &which[i]), 0);
  for (int i = 0; i < 3000; i++) {
    const char *now = get("gc_threshold");
    assert_true(strcmp(now, "10/11/12") == 0 || strcmp(now, "20/21/22") == 0 ||
                strcmp(now, "30/31/32") == 0);
    if (i % 100 == 0) assert_int_equal(gyre_option_list(visit_any, NULL), 0);
  }
  /* relaxed: as in is_done(). */
  gyre__store_relaxed(&done, 1);
  for (int i = 0; i < 3; i++)
    assert_int_equal(pthread_join(threads[i], NULL), 0);
  assert_int_equal(gyre_option_set("gc_threshold", "2000/10/10"), 0);
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
      cmocka_unit_test(setters_of_other_headers_count_as_code),
      cmocka_unit_test(every_option_is_what_it_says),
      cmocka_unit_test(a_visitor_of_options_may_stop),
      cmocka_unit_test(numbers_are_set_and_read_as_numbers),
      cmocka_unit_test(an_older_caller_gets_what_it_knows),
      cmocka_unit_test(three_numbers_stay_together_whoever_sets_them),
      cmocka_unit_test(the_version_is_that_of_the_headers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
