/* SPDX-License-Identifier: MIT */
/* gyre with tracing: everything, ten frames along frame pointers. */
#ifndef BENCH_TRACE_SYSTEMS_GYRE_EXACT10_H
#define BENCH_TRACE_SYSTEMS_GYRE_EXACT10_H

#define SYSTEM_NAME "gyre-exact10"
#define SYSTEM_FRAMES 10 /* 0: not traced */
#define SYSTEM_SAMPLE (0)

#endif
