/* SPDX-License-Identifier: MIT */
/* gyre with tracing: off. */
#ifndef BENCH_TRACE_SYSTEMS_GYRE_H
#define BENCH_TRACE_SYSTEMS_GYRE_H

#define SYSTEM_NAME "gyre"
#define SYSTEM_FRAMES 0 /* 0: not traced */
#define SYSTEM_SAMPLE (0)

#endif
