/* SPDX-License-Identifier: MIT */
#include "tests/support/die.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/support.h"

static void die_in_child(void (*function)(void), int out) {
  const struct rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  signal(SIGABRT, SIG_DFL);
  dup2(out, STDERR_FILENO);
  function();
  _exit(0);
}

void assert_dies(void (*function)(void), const char *message) {
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  fflush(NULL);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) die_in_child(function, ends[1]);
  close(ends[1]);
  static char text[65536];
  size_t length = 0;
  ssize_t n;
  while ((n = read(ends[0], text + length, sizeof text - 1 - length)) > 0)
    length += (size_t)n;
  text[length] = '\0';
  close(ends[0]);
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  if (strstr(text, message) == NULL) fprintf(stderr, "the child printed: %s\n", text);
  assert_non_null(strstr(text, message));
  assert_true(WIFSIGNALED(status));
  assert_int_equal(WTERMSIG(status), SIGABRT);
}
