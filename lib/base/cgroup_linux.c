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
/* Not on the stack: the library's first use may be in a thread with the smallest there is. One thread is here
 * at a time, the one that reads the options. */
static char membership_text[TEXT_MAX], file_path[TEXT_MAX];
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

/* A file of each group in a tree. */
struct tree {
  const char *root, *below; /* "/sys/fs/cgroup", "/memory" */
  const char *name;
};

/* The lower of the two, if the group's file holds a limit. */
static uint64_t limit_of(const struct tree *tree, const char *group, uint64_t lowest) {
  char text[64];
  int length = snprintf(file_path, sizeof file_path, "%s%s%s/%s", tree->root, tree->below, group,
                        tree->name);
  if (length < 0 || (size_t)length >= sizeof file_path || !file_read(file_path, text, sizeof text))
    return lowest;
  char *end;
  unsigned long long limit = strtoull(text, &end, 10); /* "max": no digits */
  return end != text && limit != 0 && limit < lowest ? limit : lowest;
}

/* The lowest limit of a group and those above it. */
static uint64_t limits_up(const struct tree *tree, char *group) {
  uint64_t lowest = NO_LIMIT;
  for (;;) {
    size_t length = strlen(group);
    while (length > 0 && group[length - 1] == '/')
      group[--length] = '\0';
    lowest = limit_of(tree, group, lowest);
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
  const struct tree v2 = {root, "", "memory.max"};
  const struct tree v1 = {root, "/memory", "memory.limit_in_bytes"};
  if (!file_read(membership, membership_text, sizeof membership_text)) return 0;
  uint64_t lowest = NO_LIMIT;
  char *rest = membership_text;
  for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
    char *controllers = strchr(line, ':');
    char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
    if (group == NULL) continue;
    uint64_t limit = NO_LIMIT;
    if (group == controllers + 1)
      limit = limits_up(&v2, group + 1);
    else if (has_memory(controllers + 1, (size_t)(group - controllers - 1)))
      limit = limits_up(&v1, group + 1);
    if (limit < lowest) lowest = limit;
  }
  return lowest < NO_LIMIT ? lowest : 0;
}

uint64_t gyre__os_memory_limit(void) {
  return gyre__cgroup_limit("/proc/self/cgroup", "/sys/fs/cgroup");
}
