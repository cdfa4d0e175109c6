/* SPDX-License-Identifier: MIT */
/* jemalloc, by the C library's names: it is linked in their stead. */
#ifndef BENCH_ALLOC_SYSTEMS_JEMALLOC_H
#define BENCH_ALLOC_SYSTEMS_JEMALLOC_H

#define SYSTEM_NAME "jemalloc"
#include "bench/alloc/systems/malloc.h"

#endif
