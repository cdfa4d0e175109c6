/* SPDX-License-Identifier: MIT */
/* GYRE_TRACE: this program starts itself with different values, and looks at what it does and says. */
#include <sys/wait.h>

#include "trace_test.h"

static char self_path[4096];
static char output[8192];

/* Runs this program as a child with GYRE_TRACE; its output in `output`. The exit status. */
static int child_run(const char *value, const char *role) {
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    (void)setenv("GYRE_TRACE", value, 1);
    (void)dup2(ends[1], STDOUT_FILENO);
    (void)dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    close(ends[1]);
    execl(self_path, self_path, role, (char *)NULL);
    _exit(127);
  }
  close(ends[1]);
  size_t length = 0;
  for (ssize_t n; (n = read(ends[0], output + length, sizeof output - 1 - length)) > 0;)
    length += (size_t)n;
  output[length] = 0;
  close(ends[0]);
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  return WEXITSTATUS(status);
}

/* What the child does: says how tracing is, and keeps a block. */
static int child_main(const char *role) {
  static void *kept;
  kept = gyre_malloc(4321);
  struct gyre_traceback t;
  printf("on=%d limit=%u traced=%d\n", gyre_trace_is_on(), gyre_trace_limit(),
         gyre_trace_get(kept, &t));
  (void)fflush(stdout);
  if (strcmp(role, "fork") == 0) {
    pid_t child = fork();
    if (child == 0) exit(0); /* writes nothing: the file is its parent's */
    (void)waitpid(child, NULL, 0);
  }
  return kept != NULL ? 0 : 1;
}

static void good_values_start_it(void **state) {
  (void)state;
  assert_int_equal(child_run("1", "plain"), 0);
  assert_string_equal(output, "on=1 limit=1 traced=1\n");
  assert_int_equal(child_run("25", "plain"), 0);
  assert_string_equal(output, "on=1 limit=25 traced=1\n");
  assert_int_equal(child_run("1k", "plain"), 0); /* D12 */
  assert_string_equal(output, "on=1 limit=1024 traced=1\n");
  assert_int_equal(child_run("65535", "plain"), 0);
  assert_string_equal(output, "on=1 limit=65535 traced=1\n");
  assert_int_equal(child_run("3,sample=1G", "plain"), 0);
  assert_non_null(strstr(output, "on=1 limit=3"));
  assert_int_equal(child_run("0", "plain"), 0); /* off, and no message */
  assert_string_equal(output, "on=0 limit=1 traced=0\n");
  assert_int_equal(child_run("", "plain"), 0);
  assert_string_equal(output, "on=0 limit=1 traced=0\n");
}

static void bad_values_are_reported_and_ignored(void **state) {
  (void)state;
  static const char *const values[] = {"x",
                                       "-1",
                                       "65536",
                                       "1,",
                                       "1,sample",
                                       "1,sample=",
                                       "1,dump=",
                                       "1,colour=1",
                                       "1 ",
                                       "1,sample=5x",
                                       "1,sample=99999999999999999999"};
  for (unsigned i = 0; i < sizeof values / sizeof values[0]; i++) {
    assert_int_equal(child_run(values[i], "plain"), 0);
    assert_non_null(strstr(output, "gyre: GYRE_TRACE: "));
    assert_non_null(strstr(output, values[i]));
    assert_non_null(strstr(output, "on=0 limit=1 traced=0\n"));
  }
}

static void a_dump_is_written_at_the_end(void **state) {
  (void)state;
  static const char *const roles[] = {"plain", "fork"};
  for (unsigned i = 0; i < 2; i++) {
    char path[100], value[200];
    (void)snprintf(path, sizeof path, "/tmp/gyre_dump_%ld,%u", (long)getpid(), i);
    (void)snprintf(value, sizeof value, "5,dump=%s", path);
    assert_int_equal(child_run(value, roles[i]), 0);
    gyre_snapshot *s = gyre_snapshot_load(path, NULL);
    assert_non_null(s);
    bool found = false;
    for (size_t k = 0; k < gyre_snapshot_count(s); k++) {
      struct gyre_trace trace;
      assert_int_equal(gyre_snapshot_trace(s, k, &trace), 0);
      found |= trace.size == 4321;
      gyre_traceback_free(&trace.traceback);
    }
    assert_true(found);
    gyre_snapshot_free(s);
    assert_int_equal(unlink(path), 0);
  }
  assert_int_equal(child_run("1,dump=/no/such/folder/file", "plain"), 0);
  assert_non_null(strstr(output, "GYRE_TRACE: cannot write \"/no/such/folder/file\""));
}

int main(int argc, char **argv) {
  if (argc > 1) return child_main(argv[1]);
  ssize_t length = readlink("/proc/self/exe", self_path, sizeof self_path - 1);
  if (length <= 0) return 1;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(good_values_start_it),
      cmocka_unit_test(bad_values_are_reported_and_ignored),
      cmocka_unit_test(a_dump_is_written_at_the_end),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
