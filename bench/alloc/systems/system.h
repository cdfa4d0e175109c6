/* SPDX-License-Identifier: MIT */
/* The C library's malloc, by its ordinary name: nothing in this program replaces it. */
#ifndef BENCH_ALLOC_SYSTEMS_SYSTEM_H
#define BENCH_ALLOC_SYSTEMS_SYSTEM_H

#define SYSTEM_NAME "system"
#include "bench/alloc/systems/malloc.h"

#endif
