/* SPDX-License-Identifier: MIT */
/* Where options come from at the start. They are read once a process, so each scene is a process: this
 * program again, with another environment, which prints the options it is asked for. */
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
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gyre/base.h>

#include "lib/base/base.h"

const char *gyre_conf = "stall_ms:77,purge_delay_ms:88,release_budget:99,colour:red,gc_mode:fast";

/* ---- a scene ---- */

/* In the child: prints "name=value source" for each option asked for. */
static int scene(int count, char **names) {
  for (int i = 0; i < count; i++) {
    struct gyre_option_info info = {.size = sizeof info};
    if (gyre_option_query(names[i], &info) != 0) return 1;
    printf("%s=%s %d\n", names[i], info.value, (int)info.source);
  }
  return 0;
}

static char output[16000]; /* of the last scene, what it logged included */

static const char *const variables[] = {"GYRE_CONF",    "GYRE_MALLOC", "GYRE_DEBUG",
                                        "GYRE_GCTRACE", "GYRE_STATS",  "GYRE_RC"};

/* Runs the program at `path` with these variables set, "NAME=value", and asks it for the options. */
static void run(const char *path, const char *const *set, const char *const *names) {
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
      (void)unsetenv(variables[i]);
    for (; set != NULL && *set != NULL; set++)
      (void)putenv((char *)(uintptr_t)*set);
    char *argv[16] = {(char *)(uintptr_t) "conf_test", (char *)(uintptr_t) "scene"};
    for (int i = 0; names[i] != NULL; i++)
      argv[i + 2] = (char *)(uintptr_t)names[i];
    (void)dup2(ends[1], 1);
    (void)dup2(ends[1], 2);
    (void)execv(path, argv);
    _exit(127);
  }
  (void)close(ends[1]);
  size_t at = 0;
  for (ssize_t n; (n = read(ends[0], output + at, sizeof output - 1 - at)) > 0;)
    at += (size_t)n;
  output[at] = 0;
  (void)close(ends[0]);
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) print_error("%s", output);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
}

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})
#define RUN(set, ...) run("/proc/self/exe", set, LIST(__VA_ARGS__))

static void assert_said(const char *text) {
  if (strstr(output, text) == NULL) print_error("not said: %s\nbut: %s", text, output);
  assert_non_null(strstr(output, text));
}
static void assert_not_said(const char *text) {
  if (strstr(output, text) != NULL) print_error("said: %s\nin: %s", text, output);
  assert_null(strstr(output, text));
}

/* ---- who wins ---- */

static void the_programs_string_comes_before_the_defaults(void **state) {
  (void)state;
  RUN(NULL, "stall_ms", "purge_delay_ms", "pace_ms");
  assert_said("stall_ms=77 1\n");
  assert_said("purge_delay_ms=88 1\n");
  assert_said("pace_ms=100 0\n");
}

static void the_environment_comes_before_the_programs_string(void **state) {
  (void)state;
  RUN(LIST("GYRE_CONF=stall_ms:5"), "stall_ms", "purge_delay_ms");
  assert_said("stall_ms=5 2\n");
  assert_said("purge_delay_ms=88 1\n");
}

static void code_comes_before_the_environment(void **state) {
  (void)state;
  struct gyre_option_info info = {.size = sizeof info};
  assert_int_equal(gyre_option_query("release_budget", &info), 0);
  assert_int_equal(info.source, GYRE_OPTION_FROM_ENVIRONMENT);
  assert_string_equal(info.value, "55");
  assert_int_equal(gyre_option_set("release_budget", "66"), 0);
  assert_int_equal(gyre_option_query("release_budget", &info), 0);
  assert_int_equal(info.source, GYRE_OPTION_FROM_CODE);
  assert_string_equal(info.value, "66");
  assert_string_equal(info.default_value, "1024");
}

static void gyre_conf_has_the_last_word_over_short_forms(void **state) {
  (void)state;
  RUN(LIST("GYRE_CONF=malloc:pool", "GYRE_MALLOC=system", "GYRE_GCTRACE=1"), "malloc", "gc_trace");
  assert_said("malloc=pool 2\n");
  assert_said("gc_trace=1 2\n");
}

static void all_threads_that_come_first_find_the_same(void **state) {
  (void)state;
  RUN(LIST("GYRE_CONF=stall_ms:5,stall_ns:6"), "race", "stall_ms");
  assert_said("race=5");
  /* Reported by one of them. */
  char *first = strstr(output, "no option \"stall_ns\"");
  assert_non_null(first);
  assert_null(strstr(first + 1, "no option \"stall_ns\""));
}

/* ---- what does not fit ---- */

static void what_the_program_wrote_wrong_is_reported_with_its_place(void **state) {
  (void)state;
  RUN(NULL, "gc_mode");
  assert_said("gyre_conf: there is no option \"colour\"; there are large, thp, ");
  assert_said("gyre_conf: option \"gc_mode\" does not accept \"fast\"");
  assert_said("concurrent|stw");
  assert_said("gc_mode=concurrent 0\n");
}

static void an_unknown_name_is_reported_with_the_nearest_and_all(void **state) {
  (void)state;
  RUN(LIST("GYRE_CONF=stal_ms:5,limti:1M,quarantaine:1,x:1,gc_treshold:5,cg:1,"
           "averyveryverylongnamethatnobodyhas:1"),
      "limit");
  assert_said("no option \"stal_ms\", did you mean \"stall_ms\"?; there are large, ");
  assert_said("no option \"limti\", did you mean \"limit\"?");
  assert_said("no option \"quarantaine\", did you mean \"quarantine\"?");
  assert_said("no option \"gc_treshold\", did you mean \"gc_threshold\"?");
  assert_said("no option \"cg\", did you mean \"gc\"?");
  assert_said("no option \"x\"; there are");
  assert_said("no option \"averyveryverylongnamethatnobodyhas\"; there are");
  assert_said("slow_paths, check_visits, stats");
  assert_said("limit=0 0\n");
}

/* D11: scenes end with exit code 0, or run() fails. */
static void nothing_in_the_environment_ends_the_process(void **state) {
  (void)state;
  static char huge[70000] = "GYRE_CONF=";
  memset(huge + strlen(huge), 'a', sizeof huge - 1 - strlen(huge));
  const char *const bad[] = {
      "GYRE_CONF=",           "GYRE_CONF=:",           "GYRE_CONF=,,,",
      "GYRE_CONF=:::,:,:",    "GYRE_CONF=limit",       "GYRE_CONF=limit:",
      "GYRE_CONF=limit:-1",   "GYRE_CONF=limit:1e9",   "GYRE_CONF=gc_threshold:1/2/3/4",
      "GYRE_CONF=\xff\xfe:1", "GYRE_CONF=large:%s%n",  huge,
      "GYRE_MALLOC=",         "GYRE_MALLOC=dlmalloc",  "GYRE_DEBUG=guard,,fast,",
      "GYRE_GCTRACE=2",       "GYRE_STATS=yes please",
  };
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    RUN(LIST(bad[i]), "limit", "stall_ms");
    assert_said("limit=0 0\nstall_ms=77 1\n");
  }
}

/* ---- numbers ---- */

static void numbers_take_suffixes(void **state) {
  (void)state;
  RUN(LIST("GYRE_CONF=limit:3G,gc_wait_bytes:5M,release_budget:2k,soft_limit:1024K"), "limit",
      "gc_wait_bytes", "release_budget", "soft_limit");
  assert_said("limit=3221225472 2\n");
  assert_said("gc_wait_bytes=5242880 2\n");
  assert_said("release_budget=2048 2\n");
  assert_said("soft_limit=1048576 2\n");
}

/* ---- short forms ---- */

static void short_forms_stand_for_options(void **state) {
  (void)state;
  RUN(LIST("GYRE_MALLOC=system", "GYRE_GCTRACE=1", "GYRE_DEBUG=leaks,collect", "GYRE_RC=off"),
      "malloc", "gc_trace", "leaks", "collect_always", "rc");
  assert_said("malloc=system 2\n");
  assert_said("gc_trace=1 2\n");
  assert_said("leaks=1 2\n");
  assert_said("collect_always=3 2\n");
  assert_said("rc=off 2\n");
  RUN(LIST("GYRE_DEBUG=visit"), "check_visits");
  assert_said("check_visits=1 2\n");
  RUN(LIST("GYRE_DEBUG=0"), "check_visits", "malloc");
  assert_said("check_visits=0 0\n");
  assert_said("malloc=pool 0\n");
}

static void guards_are_put_around_blocks_of_whoever_serves_them(void **state) {
  (void)state;
  RUN(LIST("GYRE_DEBUG=guard"), "malloc");
  assert_said("malloc=pool_debug 2\n");
  RUN(LIST("GYRE_DEBUG=guard", "GYRE_MALLOC=system"), "malloc");
  assert_said("malloc=system_debug 2\n");
}

static void debug_forms_need_a_debug_build(void **state) {
  (void)state;
  RUN(LIST("GYRE_DEBUG=pages,poison"), "poison", "guard");
#ifdef GYRE_DEBUG
  assert_said("poison=1 2\n");
  assert_said("guard=1 2\n");
#else
  assert_said("GYRE_DEBUG: \"pages\" needs a library that was built with GYRE_DEBUG");
  assert_said("GYRE_DEBUG: \"poison\" needs a library that was built with GYRE_DEBUG");
  assert_said("poison=0 0\n");
#endif
}

static void a_word_that_a_short_form_does_not_know_is_reported(void **state) {
  (void)state;
  RUN(LIST("GYRE_MALLOC=dlmalloc", "GYRE_DEBUG=fast,leaks", "GYRE_STATS=yes"), "large", "leaks");
  assert_said(
      "GYRE_MALLOC does not accept \"dlmalloc\", which is left out; it accepts pool, system, "
      "pool_debug, system_debug\n");
  assert_said("GYRE_DEBUG does not accept \"fast\", which is left out; it accepts 0, 1, guard, "
              "pages, poison, "
              "quarantine, leaks, visit, collect, with commas between them\n");
  assert_said("GYRE_STATS does not accept \"yes\"");
  assert_said("leaks=1 2\n");
}

/* ---- raised privileges ---- */

/* A copy of this program that runs as another user than who starts it. */
static void the_environment_does_not_count_with_raised_privileges(void **state) {
  (void)state;
  if (geteuid() != 0) skip();
  char path[] = "/tmp/gyre_conf_test_XXXXXX";
  int to = mkstemp(path);
  assert_true(to >= 0);
  FILE *from = fopen("/proc/self/exe", "r");
  assert_non_null(from);
  char buffer[65536];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, from)) > 0;)
    assert_int_equal(write(to, buffer, n), (ssize_t)n);
  (void)fclose(from);
  const uid_t nobody = 65534;
  bool raised = fchown(to, nobody, nobody) == 0 && fchmod(to, 04755) == 0;
  (void)close(to);
  if (raised) {
    run(path, LIST("GYRE_CONF=stall_ms:5,bogus:1", "GYRE_MALLOC=system", "GYRE_STATS=1"),
        LIST("secure", "stall_ms", "large", "stats"));
    /* A file system may be mounted without such programs. */
    raised = strstr(output, "secure=1") != NULL;
  }
  (void)unlink(path);
  if (!raised) skip();
  assert_said("stall_ms=77 1\n");
  assert_said("large=spans 0\n");
  assert_said("stats=off 0\n");
  assert_not_said("bogus");
}

/* ---- the scenes ---- */

static void *ask(void *arg) {
  pthread_barrier_t *barrier = arg;
  (void)pthread_barrier_wait(barrier);
  uint64_t value = 0;
  if (gyre_option_get_number("stall_ms", &value) != 0) abort();
  return (void *)(uintptr_t)value;
}

/* Eight threads that all want to be the first. */
static int race(void) {
  pthread_t threads[8];
  pthread_barrier_t barrier;
  if (pthread_barrier_init(&barrier, NULL, 8) != 0) return 1;
  for (int i = 0; i < 8; i++)
    if (pthread_create(&threads[i], NULL, ask, &barrier) != 0) return 1;
  for (int i = 0; i < 8; i++) {
    void *value;
    (void)pthread_join(threads[i], &value);
    if ((uintptr_t)value != 5) return 1;
  }
  (void)pthread_barrier_destroy(&barrier);
  puts("race=5");
  return 0;
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "scene") == 0) {
    int first = 2;
    if (argc > 2 && strcmp(argv[2], "race") == 0) {
      if (race() != 0) return 1;
      first++;
    }
    if (argc > 2 && strcmp(argv[2], "secure") == 0) {
      printf("secure=%d\n", secure_getenv("GYRE_CONF") == NULL && getenv("GYRE_CONF") != NULL);
      first++;
    }
    int result = scene(argc - first, argv + first);
    (void)fflush(stdout);
    _exit(result); /* without what a sanitizer does at the end, which needs privileges */
  }
  (void)setenv("GYRE_CONF", "release_budget:55", 1);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_programs_string_comes_before_the_defaults),
      cmocka_unit_test(the_environment_comes_before_the_programs_string),
      cmocka_unit_test(code_comes_before_the_environment),
      cmocka_unit_test(gyre_conf_has_the_last_word_over_short_forms),
      cmocka_unit_test(all_threads_that_come_first_find_the_same),
      cmocka_unit_test(what_the_program_wrote_wrong_is_reported_with_its_place),
      cmocka_unit_test(an_unknown_name_is_reported_with_the_nearest_and_all),
      cmocka_unit_test(nothing_in_the_environment_ends_the_process),
      cmocka_unit_test(numbers_take_suffixes),
      cmocka_unit_test(short_forms_stand_for_options),
      cmocka_unit_test(guards_are_put_around_blocks_of_whoever_serves_them),
      cmocka_unit_test(debug_forms_need_a_debug_build),
      cmocka_unit_test(a_word_that_a_short_form_does_not_know_is_reported),
      cmocka_unit_test(the_environment_does_not_count_with_raised_privileges),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
