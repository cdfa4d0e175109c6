/* SPDX-License-Identifier: MIT */
/* The memory limit of a control group, read from files of a temporary folder. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/cgroup.h"
#include "tests/support/support.h"

static char folder[64];

/* The path of a file in the folder. Until the next call but one. */
static const char *path(const char *name) {
  static char paths[2][512];
  static unsigned at;
  char *out = paths[at++ % 2];
  snprintf(out, sizeof paths[0], "%s/%s", folder, name);
  return out;
}

/* Writes a file, and makes the folders above it. */
static void put(const char *name, const char *text) {
  char full[512];
  snprintf(full, sizeof full, "%s", path(name));
  for (char *slash = full + strlen(folder) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
    *slash = '\0';
    (void)mkdir(full, 0700);
    *slash = '/';
  }
  FILE *file = fopen(full, "w");
  assert_non_null(file);
  assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
  assert_int_equal(fclose(file), 0);
}

static void clean_up(void) {
  char command[128];
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  assert_int_equal(system(command), 0);
}

static int begin(void **state) {
  (void)state;
  snprintf(folder, sizeof folder, "%s/gyre-cgroup-XXXXXX", P_tmpdir);
  return mkdtemp(folder) != NULL ? 0 : -1;
}

static int end(void **state) {
  (void)state;
  clean_up();
  return 0;
}

static uint64_t limit(void) {
  char membership[512];
  snprintf(membership, sizeof membership, "%s", path("membership"));
  return gyre__cgroup_limit(membership, path("fs"));
}

/* ---- version 2 ---- */

static void the_limit_of_the_group_counts(void **state) {
  (void)state;
  put("membership", "0::/app\n");
  put("fs/app/memory.max", "1073741824\n");
  assert_int_equal(limit(), 1073741824);
  put("fs/app/memory.max", "12345"); /* no end of line */
  assert_int_equal(limit(), 12345);
}

static void the_lowest_limit_above_counts(void **state) {
  (void)state;
  put("membership", "0::/system.slice/app.service/worker\n");
  put("fs/system.slice/app.service/worker/memory.max", "3000\n");
  put("fs/system.slice/app.service/memory.max", "2000\n");
  put("fs/system.slice/memory.max", "4000\n");
  assert_int_equal(limit(), 2000);
  put("fs/system.slice/memory.max", "1000\n");
  assert_int_equal(limit(), 1000);
  put("fs/system.slice/app.service/worker/memory.max", "500\n");
  assert_int_equal(limit(), 500);
  put("fs/memory.max", "400\n"); /* the top: inside a container */
  assert_int_equal(limit(), 400);
}

static void max_is_no_limit(void **state) {
  (void)state;
  put("membership", "0::/a/b\n");
  put("fs/a/b/memory.max", "max\n");
  assert_int_equal(limit(), 0);
  put("fs/a/memory.max", "max\n");
  assert_int_equal(limit(), 0);
  put("fs/a/memory.max", "7000000\n");
  assert_int_equal(limit(), 7000000);
}

static void a_group_that_does_not_exist_here_leaves_the_top(void **state) {
  (void)state;
  put("membership", "0::/of/the/host\n");
  put("fs/memory.max", "8000\n");
  assert_int_equal(limit(), 8000);
  put("membership", "0::/\n");
  assert_int_equal(limit(), 8000);
  put("membership", "0::/../../elsewhere\n");
  assert_int_equal(limit(), 8000);
}

/* ---- version 1 ---- */

static void the_memory_controller_of_version_1_counts(void **state) {
  (void)state;
  put("membership", "5:cpu,cpuacct:/cpus\n4:memory:/app/x\n1:name=systemd:/init\n");
  put("fs/memory/app/x/memory.limit_in_bytes", "600000\n");
  put("fs/memory/cpus/memory.limit_in_bytes", "1\n");
  put("fs/memory/init/memory.limit_in_bytes", "1\n");
  assert_int_equal(limit(), 600000);
  put("fs/memory/app/memory.limit_in_bytes", "500000\n");
  assert_int_equal(limit(), 500000);
  put("fs/memory/memory.limit_in_bytes", "9223372036854771712\n");
  assert_int_equal(limit(), 500000);
}

static void the_huge_number_of_version_1_is_no_limit(void **state) {
  (void)state;
  put("membership", "4:memory:/\n");
  put("fs/memory/memory.limit_in_bytes", "9223372036854771712\n");
  assert_int_equal(limit(), 0);
  put("fs/memory/memory.limit_in_bytes", "18446744073709551615\n");
  assert_int_equal(limit(), 0);
}

static void the_controller_may_be_one_of_a_list(void **state) {
  (void)state;
  put("fs/memory/a/memory.limit_in_bytes", "4242\n");
  static const char *const lists[] = {"memory", "memory,cpu", "cpu,memory", "cpu,memory,pids"};
  for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
    char line[64];
    snprintf(line, sizeof line, "9:%s:/a\n", lists[i]);
    put("membership", line);
    assert_int_equal(limit(), 4242);
  }
  static const char *const others[] = {"memoryless", "xmemory", "cpu,memories", "mem",
                                       "name=memory"};
  for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
    char line[64];
    snprintf(line, sizeof line, "9:%s:/a\n", others[i]);
    put("membership", line);
    assert_int_equal(limit(), 0);
  }
}

static void of_both_versions_the_lower_counts(void **state) {
  (void)state;
  put("membership", "4:memory:/a\n0::/b\n");
  put("fs/memory/a/memory.limit_in_bytes", "5000\n");
  put("fs/b/memory.max", "6000\n");
  assert_int_equal(limit(), 5000);
  put("fs/b/memory.max", "4000\n");
  assert_int_equal(limit(), 4000);
  /* Each version's file only. */
  put("fs/memory/a/memory.max", "10\n");
  put("fs/b/memory.limit_in_bytes", "10\n");
  assert_int_equal(limit(), 4000);
}

/* ---- what is not as it should be ---- */

static void missing_files_are_no_limit(void **state) {
  (void)state;
  assert_int_equal(limit(), 0);
  put("membership", "0::/a\n4:memory:/a\n");
  assert_int_equal(limit(), 0);
  put("fs/a/memory.max", "77\n");
  assert_int_equal(gyre__cgroup_limit("/nowhere/at/all", path("fs")), 0);
}

static void malformed_lines_are_passed_over(void **state) {
  (void)state;
  put("fs/a/memory.max", "77\n");
  put("fs/memory/a/memory.limit_in_bytes", "88\n");
  static const char *const bad[] = {
      "", "\n\n\n", ":", "memory", "0", "0:", "4:memory", "no colon at all\n", "/a\n", "::\n",
  };
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    put("membership", bad[i]);
    assert_int_equal(limit(), 0);
  }
  put("membership", "garbage\n\n:\n4:memory\n0::/a\nmore garbage");
  assert_int_equal(limit(), 77);
  put("membership", "4:memory:/a"); /* no end of line */
  assert_int_equal(limit(), 88);
  put("membership", "0::/a//\n");
  assert_int_equal(limit(), 77);
}

static void values_that_are_no_numbers_are_no_limit(void **state) {
  (void)state;
  put("membership", "0::/a\n");
  static const char *const bad[] = {"", "\n", "max", "many\n", "0\n", "x12\n"};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    put("fs/a/memory.max", bad[i]);
    assert_int_equal(limit(), 0);
  }
  put("fs/memory.max", "99\n");
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    put("fs/a/memory.max", bad[i]);
    assert_int_equal(limit(), 99);
  }
}

static void long_paths_do_no_harm(void **state) {
  (void)state;
  static char text[6000];
  int at = snprintf(text, sizeof text, "0::");
  while (at < 5000)
    at += snprintf(text + at, sizeof text - (size_t)at, "/abcdefghi");
  snprintf(text + at, sizeof text - (size_t)at, "\n4:memory:/a\n");
  put("membership", text);
  put("fs/memory/a/memory.limit_in_bytes", "88\n"); /* beyond what is read */
  put("fs/memory.max", "66\n");
  uint64_t found = limit();
  assert_true(found == 66 || found == 0);
  static char deep[8192];
  memset(deep, 'x', sizeof deep - 1);
  put("membership", "0::/\n");
  assert_int_equal(gyre__cgroup_limit(path("membership"), deep), 0);
}

static void the_option_has_nine_tenths_of_the_machines_own_limit(void **state) {
  (void)state;
  uint64_t own = gyre__os_memory_limit();
  char text[32], expected[32];
  snprintf(expected, sizeof expected, "%llu", (unsigned long long)(own / 10 * 9));
  assert_true(gyre_option_get("soft_limit", text, sizeof text) > 0);
  assert_string_equal(text, expected);
}

#define GROUP_TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void) {
  const struct CMUnitTest tests[] = {
      GROUP_TEST(the_limit_of_the_group_counts),
      GROUP_TEST(the_lowest_limit_above_counts),
      GROUP_TEST(max_is_no_limit),
      GROUP_TEST(a_group_that_does_not_exist_here_leaves_the_top),
      GROUP_TEST(the_memory_controller_of_version_1_counts),
      GROUP_TEST(the_huge_number_of_version_1_is_no_limit),
      GROUP_TEST(the_controller_may_be_one_of_a_list),
      GROUP_TEST(of_both_versions_the_lower_counts),
      GROUP_TEST(missing_files_are_no_limit),
      GROUP_TEST(malformed_lines_are_passed_over),
      GROUP_TEST(values_that_are_no_numbers_are_no_limit),
      GROUP_TEST(long_paths_do_no_harm),
      TEST(the_option_has_nine_tenths_of_the_machines_own_limit),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
