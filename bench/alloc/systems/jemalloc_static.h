/* SPDX-License-Identifier: MIT */
/* jemalloc linked into the program, as gyre is: its calls go through no table, and its thread-local
 * data lies at a fixed place. */
#ifndef BENCH_ALLOC_SYSTEMS_JEMALLOC_STATIC_H
#define BENCH_ALLOC_SYSTEMS_JEMALLOC_STATIC_H

#include "bench/alloc/systems/jemalloc.h"

#undef SYSTEM_NAME
#define SYSTEM_NAME "jemalloc-static"

#endif
