/* SPDX-License-Identifier: MIT */
/* Within lib/base, and for its test. */
#ifndef GYRE_LIB_BASE_CGROUP_H
#define GYRE_LIB_BASE_CGROUP_H

#include "lib/base/base.h"

/* gyre__os_memory_limit() for a membership file like /proc/self/cgroup and a tree like
 * /sys/fs/cgroup. */
uint64_t gyre__cgroup_limit(const char *membership, const char *root);

#endif
