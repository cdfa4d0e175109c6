/* SPDX-License-Identifier: MIT */
/* The container's memory limit: control groups, version 2 and 1.
 *
 * /proc/self/cgroup says in which group the process is: "0::/path" in version 2, and
 * "4:memory:/path" in version 1. A limit of any group above counts too. Inside a container the path
 * may be one of the host's that does not exist here; then only the top is there, which is the
 * container's own group.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/cgroup.h"

#define TEXT_MAX 4096
/* Version 1 writes a huge number where there is no limit. */
#define NO_LIMIT ((uint64_t)1 << 60)

/* The file's beginning as text; false if it cannot be read. No memory is allocated. */
static bool file_read(const char *path, char *out, size_t size) {
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  size_t length = 0;
  ssize_t n;
  while (length < size - 1 && (n = read(file, out + length, size - 1 - length)) > 0)
    length += (size_t)n;
  (void)close(file);
  out[length] = '\0';
  return true;
}

/* The lower of the two, if the file holds a limit. */
static uint64_t limit_of(const char *root, const char *group, const char *name, uint64_t lowest) {
  char path[TEXT_MAX], text[64];
  int length = snprintf(path, sizeof path, "%s%s/%s", root, group, name);
  if (length < 0 || (size_t)length >= sizeof path || !file_read(path, text, sizeof text))
    return lowest;
  char *end;
  unsigned long long limit = strtoull(text, &end, 10); /* "max": no digits */
  return end != text && limit != 0 && limit < lowest ? limit : lowest;
}

/* The lowest limit of a group and those above it. */
static uint64_t limits_up(const char *root, char *group, const char *name) {
  uint64_t lowest = NO_LIMIT;
  for (;;) {
    size_t length = strlen(group);
    while (length > 0 && group[length - 1] == '/')
      group[--length] = '\0';
    lowest = limit_of(root, group, name, lowest);
    char *slash = strrchr(group, '/');
    if (slash == NULL) return lowest;
    *slash = '\0';
  }
}

/* Is "memory" in the list of controllers at text[0..length)? */
static bool has_memory(const char *text, size_t length) {
  static const char name[] = "memory";
  size_t size = sizeof name - 1;
  for (size_t at = 0; at + size <= length; at++)
    if (memcmp(text + at, name, size) == 0 && (at == 0 || text[at - 1] == ',') &&
        (at + size == length || text[at + size] == ','))
      return true;
  return false;
}

uint64_t gyre__cgroup_limit(const char *membership, const char *root) {
  char text[TEXT_MAX], v1[TEXT_MAX];
  if (!file_read(membership, text, sizeof text)) return 0;
  int length = snprintf(v1, sizeof v1, "%s/memory", root);
  if (length < 0 || (size_t)length >= sizeof v1) return 0;
  uint64_t lowest = NO_LIMIT;
  char *rest = text;
  for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
    char *controllers = strchr(line, ':');
    char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
    if (group == NULL) continue;
    uint64_t limit = NO_LIMIT;
    if (group == controllers + 1)
      limit = limits_up(root, group + 1, "memory.max");
    else if (has_memory(controllers + 1, (size_t)(group - controllers - 1)))
      limit = limits_up(v1, group + 1, "memory.limit_in_bytes");
    if (limit < lowest) lowest = limit;
  }
  return lowest < NO_LIMIT ? lowest : 0;
}

uint64_t gyre__os_memory_limit(void) {
  return gyre__cgroup_limit("/proc/self/cgroup", "/sys/fs/cgroup");
}
