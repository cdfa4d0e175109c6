/* SPDX-License-Identifier: MIT */
/* The C library's malloc and free, by hand. */
#ifndef BENCH_COLLECT_SYSTEMS_MALLOC_H
#define BENCH_COLLECT_SYSTEMS_MALLOC_H

#include <stdlib.h>

#define SYSTEM_NAME "malloc"

static inline void *system_allocate(size_t size) { return malloc(size); }
static inline void system_free(void *block) { free(block); }

#include "bench/collect/systems/by_hand.h"

#endif
