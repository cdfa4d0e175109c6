/* SPDX-License-Identifier: MIT */
/* bench/support/memory.h: what the process takes of the machine's memory. */
#ifndef BENCH_SUPPORT_MEMORY_H
#define BENCH_SUPPORT_MEMORY_H

#include <stddef.h>

#include "bench/support/bench.h"

/* Bytes resident now, read from the kernel's page tables (exact, slow). */
size_t memory_resident(void);

/* The most bytes that were resident at once since the program was started. */
size_t memory_peak(void);

/* Reports memory_peak() as the counter peak_resident_bytes. */
void memory_report_peak(bench_state *state);

/* Memory for the benchmark's own tables: straight from the system, every page touched, so that it
 * neither stirs the allocator that is measured nor grows while it is. Aborts when there is none. */
void *memory_table(size_t bytes);
void memory_table_free(void *table, size_t bytes);

#endif
