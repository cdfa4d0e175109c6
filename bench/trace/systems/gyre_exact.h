/* SPDX-License-Identifier: MIT */
/* gyre with tracing: everything, one frame. */
#ifndef BENCH_TRACE_SYSTEMS_GYRE_EXACT_H
#define BENCH_TRACE_SYSTEMS_GYRE_EXACT_H

#define SYSTEM_NAME "gyre-exact"
#define SYSTEM_FRAMES 1 /* 0: not traced */
#define SYSTEM_SAMPLE (0)

#endif
