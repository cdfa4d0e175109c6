/* SPDX-License-Identifier: MIT */
#include "bench/collect/systems/bdwgc.h"

bool system_list_collected;

__attribute__((noinline)) void system_stack_wipe(void) {
  volatile char below[65536];
  for (size_t i = 0; i < sizeof below; i++)
    below[i] = 0;
}
