/* SPDX-License-Identifier: MIT */
#include "bench/support/steps.h"

#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

/* The child stops before and after what is counted; what follows the second stop never runs. */
static _Noreturn void child_main(void (*work)(uint64_t times), uint64_t times) {
  if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) _exit(1);
  work(times);
  raise(SIGSTOP);
  work(times);
  raise(SIGSTOP);
  _exit(1);
}

/* Whether the child stops, by that signal, the next time anything happens to it. */
static bool stops_by(pid_t child, int wanted) {
  int status;
  return waitpid(child, &status, 0) == child && WIFSTOPPED(status) && WSTOPSIG(status) == wanted;
}

static uint64_t count_to_stop(pid_t child) {
  uint64_t steps = 0;
  int status;
  while (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) == 0 && waitpid(child, &status, 0) == child &&
         WIFSTOPPED(status)) {
    if (WSTOPSIG(status) == SIGSTOP) return steps;
    steps++;
  }
  return 0;
}

static uint64_t count_in_child(void (*work)(uint64_t times), uint64_t times) {
  pid_t child = fork();
  if (child == 0) child_main(work, times);
  if (child < 0) return 0;
  uint64_t steps = stops_by(child, SIGSTOP) ? count_to_stop(child) : 0;
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  return steps;
}

/* Parent and child take turns, a few microseconds each: on one processor, nobody has to be woken on
 * another. */
uint64_t steps_count(void (*work)(uint64_t times), uint64_t times) {
  cpu_set_t all, one;
  if (sched_getaffinity(0, sizeof all, &all) != 0) return count_in_child(work, times);
  CPU_ZERO(&one);
  CPU_SET((size_t)sched_getcpu(), &one);
  sched_setaffinity(0, sizeof one, &one);
  uint64_t steps = count_in_child(work, times);
  sched_setaffinity(0, sizeof all, &all);
  return steps;
}
