/* SPDX-License-Identifier: MIT */
/* mimalloc by hand, by its own names. */
#ifndef BENCH_COLLECT_SYSTEMS_MIMALLOC_H
#define BENCH_COLLECT_SYSTEMS_MIMALLOC_H

#include <mimalloc.h>

#define SYSTEM_NAME "mimalloc"

static inline void *system_allocate(size_t size) { return mi_malloc(size); }
static inline void system_free(void *block) { mi_free(block); }

#include "bench/collect/systems/by_hand.h"

#endif
