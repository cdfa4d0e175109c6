/* SPDX-License-Identifier: MIT */
#include "bench/support/cpu.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* 0 if there is no such clock (any more). */
static uint64_t read_clock(clockid_t clock) {
  struct timespec time;
  if (clock_gettime(clock, &time) != 0) return 0;
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* The clock of another thread's CPU time, as pthread_getcpuclockid() makes it: the complement of the
 * kernel's thread id, "of a thread" (4) and "as the scheduler counts it" (2). Exact, where
 * /proc/self/task/TID/stat counts in hundredths of a second. */
static clockid_t thread_clock(pid_t thread) {
  return (clockid_t)(~(unsigned)thread << 3 | 4u | 2u);
}

static bool has_name(const char *thread, const char *name) {
  char path[64], comm[32];
  snprintf(path, sizeof path, "/proc/self/task/%.16s/comm", thread);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  ssize_t got = read(fd, comm, sizeof comm - 1);
  close(fd);
  comm[got > 0 ? got : 0] = 0;
  comm[strcspn(comm, "\n")] = 0;
  return strcmp(comm, name) == 0;
}

static uint64_t threads_ns(const char *name) {
  if (name == NULL) return 0;
  DIR *tasks = opendir("/proc/self/task");
  if (tasks == NULL) return 0;
  uint64_t sum = 0;
  struct dirent *entry;
  while ((entry = readdir(tasks)) != NULL)
    if (entry->d_name[0] != '.' && has_name(entry->d_name, name))
      sum += read_clock(thread_clock((pid_t)strtol(entry->d_name, NULL, 10)));
  closedir(tasks);
  return sum;
}

/* The service is looked at outside of what is counted for the process. */
void cpu_begin(struct cpu_span *cpu) {
  cpu->service_ns = threads_ns(cpu->service);
  cpu->process_ns = read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

void cpu_end(struct cpu_span *cpu) {
  cpu->process_ns = read_clock(CLOCK_PROCESS_CPUTIME_ID) - cpu->process_ns;
  uint64_t service_ns = threads_ns(cpu->service);
  cpu->service_ns = service_ns > cpu->service_ns ? service_ns - cpu->service_ns : 0;
}

void cpu_report(const struct cpu_span *cpu, bench_state *state, uint64_t count) {
  bench_counter(state, "cpu_ns", (double)cpu->process_ns / (double)count);
  if (cpu->service != NULL)
    bench_counter(state, "service_cpu_ns", (double)cpu->service_ns / (double)count);
}
