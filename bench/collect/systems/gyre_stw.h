/* SPDX-License-Identifier: MIT */
/* gyre with the collector that stops the world. */
#ifndef BENCH_COLLECT_SYSTEMS_GYRE_STW_H
#define BENCH_COLLECT_SYSTEMS_GYRE_STW_H

#define SYSTEM_NAME "gyre-stw"
#define SYSTEM_GC_MODE "stw"

#include "bench/collect/systems/gyre.h"

#endif
