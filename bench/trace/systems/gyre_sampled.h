/* SPDX-License-Identifier: MIT */
/* gyre with tracing: a block each 512 KiB, one frame. */
#ifndef BENCH_TRACE_SYSTEMS_GYRE_SAMPLED_H
#define BENCH_TRACE_SYSTEMS_GYRE_SAMPLED_H

#define SYSTEM_NAME "gyre-sampled"
#define SYSTEM_FRAMES 1 /* 0: not traced */
#define SYSTEM_SAMPLE (512 * 1024)

#endif
