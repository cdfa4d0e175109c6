/* SPDX-License-Identifier: MIT */
/* bench/refcount/refcount.h: what the benchmarks of counted objects share.
 *
 * Each is written once, over the inline functions of the header that BENCH_SYSTEM names:
 * system_new(), system_retain(), system_release() for leaves of 48 bytes, system_store() and
 * system_load() for an object's slot that any thread may use. Each system's program is compiled
 * from the same sources. */
#ifndef BENCH_REFCOUNT_REFCOUNT_H
#define BENCH_REFCOUNT_REFCOUNT_H

/* Registers the cases of the file. */
void refcount_register_count(void);
void refcount_register_slot(void);
void refcount_register_object(void);
void refcount_register_weak(void);

#endif
