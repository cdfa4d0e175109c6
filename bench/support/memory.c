/* SPDX-License-Identifier: MIT */
#include "bench/support/memory.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The figure after `key` in a file of the kernel's, in bytes; aborts if it is not there. Reads with
 * system calls only: stdio would allocate in the heap that is measured. */
static size_t proc_bytes(const char *path, const char *key) {
  char text[8192];
  size_t length = 0;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t got = 0;
  while (fd >= 0 && length < sizeof text - 1 &&
         (got = read(fd, text + length, sizeof text - 1 - length)) > 0)
    length += (size_t)got;
  if (fd >= 0) close(fd);
  text[length] = 0;
  const char *found = strstr(text, key);
  if (found == NULL) {
    fprintf(stderr, "benchmark: %s has no line \"%s\"\n", path, key);
    abort();
  }
  return strtoull(found + strlen(key), NULL, 10) * 1024u;
}

/* statm and status count lazily, by up to 64 pages a thread and counter; smaps_rollup walks. */
size_t memory_resident(void) { return proc_bytes("/proc/self/smaps_rollup", "\nRss:"); }

/* Not getrusage(): its figure starts with that of the program before exec(). */
size_t memory_peak(void) { return proc_bytes("/proc/self/status", "\nVmHWM:"); }

void memory_report_peak(bench_state *state) {
  bench_counter(state, "peak_resident_bytes", (double)memory_peak());
}

void *memory_table(size_t bytes) {
  void *table =
      mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (table == MAP_FAILED) {
    perror("benchmark: a table of the benchmark's own");
    abort();
  }
  return table;
}

void memory_table_free(void *table, size_t bytes) { munmap(table, bytes); }
