/* SPDX-License-Identifier: MIT */
/* Static probes (USDT), for bpftrace, perf, SystemTap and gdb: lib/docs/probes.md lists them.
 *
 *     GYRE_PROBE2(finalizer_begin, object, type->name);
 *
 * A probe is one instruction, a nop, and a note in the ELF file that says where it is and where its
 * arguments are just then; a tool that is interested puts a breakpoint in its place. The arguments
 * are evaluated always: they have to be at hand. At most eight bytes each, numbers or pointers.
 *
 * They are there when the C library's headers include <sys/sdt.h> (Debian: systemtap-sdt-dev), and
 * are nothing at all otherwise, or with -DGYRE_NO_PROBES. libgyre_malloc has none: its archive makes hidden
 * names local, and the notes need one that all files of a program share. */
#ifndef GYRE_LIB_BASE_PROBE_H
#define GYRE_LIB_BASE_PROBE_H

#include "lib/base/base.h"

#if !defined(GYRE_NO_PROBES) && !GYRE__IS_MALLOC && defined(__has_include)
#if __has_include(<sys/sdt.h>)
#define GYRE__HAS_PROBES 1
#endif
#endif

#ifdef GYRE__HAS_PROBES
#include <sys/sdt.h>
/* Its macros hand on no variable arguments, which C11 does not allow. */
#ifdef __clang__
#pragma clang diagnostic ignored "-Wgnu-zero-variadic-macro-arguments"
#endif
#define GYRE_PROBE0(name) DTRACE_PROBE(gyre, name)
#define GYRE_PROBE1(name, a) DTRACE_PROBE1(gyre, name, a)
#define GYRE_PROBE2(name, a, b) DTRACE_PROBE2(gyre, name, a, b)
#define GYRE_PROBE3(name, a, b, c) DTRACE_PROBE3(gyre, name, a, b, c)
#define GYRE_PROBE4(name, a, b, c, d) DTRACE_PROBE4(gyre, name, a, b, c, d)
#define GYRE_PROBE5(name, a, b, c, d, e) DTRACE_PROBE5(gyre, name, a, b, c, d, e)
#else
/* Not evaluated, and used all the same. */
#define GYRE_PROBE0(name) ((void)0)
#define GYRE_PROBE1(name, a) ((void)sizeof(a))
#define GYRE_PROBE2(name, a, b) ((void)sizeof(a), (void)sizeof(b))
#define GYRE_PROBE3(name, a, b, c) ((void)sizeof(a), (void)sizeof(b), (void)sizeof(c))
#define GYRE_PROBE4(name, a, b, c, d)                                                              \
  ((void)sizeof(a), (void)sizeof(b), (void)sizeof(c), (void)sizeof(d))
#define GYRE_PROBE5(name, a, b, c, d, e)                                                           \
  ((void)sizeof(a), (void)sizeof(b), (void)sizeof(c), (void)sizeof(d), (void)sizeof(e))
#endif

#endif
