/* SPDX-License-Identifier: MIT */
/* tcmalloc without its profilers, by the C library's names: it is linked in their stead. */
#ifndef BENCH_ALLOC_SYSTEMS_TCMALLOC_H
#define BENCH_ALLOC_SYSTEMS_TCMALLOC_H

#define SYSTEM_NAME "tcmalloc"
#include "bench/alloc/systems/malloc.h"

#endif
