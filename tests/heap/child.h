/* SPDX-License-Identifier: MIT */
/* Mistakes that end a process, made in a child. */
#ifndef GYRE_TESTS_HEAP_CHILD_H
#define GYRE_TESTS_HEAP_CHILD_H

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "heap_test.h"

#ifdef GYRE_DEBUG
#define DEBUG_BUILD 1
#else
#define DEBUG_BUILD 0
#endif

/* Hides a pointer from the compiler, which would warn of what we do with it. */
static inline void *hidden(void *p) {
  __asm__ volatile("" : "+r"(p));
  return p;
}

/* Runs mistake() in a child. Returns its wait status, and what it wrote to stderr. */
static inline int run_in_child(void (*mistake)(void), char *text, size_t size) {
  int ends[2], status = 0;
  assert_int_equal(pipe(ends), 0);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    const struct rlimit none = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &none);
    (void)signal(SIGABRT, SIG_DFL);
    (void)signal(SIGSEGV, SIG_DFL);
    (void)dup2(ends[1], STDERR_FILENO);
    mistake();
    _exit(0);
  }
  (void)close(ends[1]);
  size_t length = 0;
  ssize_t n;
  while (length < size - 1 && (n = read(ends[0], text + length, size - 1 - length)) > 0)
    length += (size_t)n;
  text[length] = '\0';
  (void)close(ends[0]);
  assert_int_equal(waitpid(child, &status, 0), child);
  return status;
}

/* The child must die of that signal, with `words` in its last message. */
static inline void expect_death(void (*mistake)(void), int signal, const char *words) {
  static char text[65536];
  int status = run_in_child(mistake, text, sizeof text);
  if (!WIFSIGNALED(status) || strstr(text, words) == NULL) print_message("child said: %s\n", text);
  assert_true(WIFSIGNALED(status));
  assert_int_equal(WTERMSIG(status), signal);
  assert_non_null(strstr(text, words));
}

static inline void expect_abort(void (*mistake)(void), const char *words) {
  expect_death(mistake, SIGABRT, words);
}

#endif
