/* SPDX-License-Identifier: MIT */
/* The three levels of checks, and the hooks that hunt races.
 *
 *   GYRE_REQUIRE(cond, ...)  always on: misuse of the interface and detected corruption. Prints
 *                            what was found, then aborts. Only where it costs nothing measurable.
 *   GYRE_ASSERT(cond)        -DGYRE_DEBUG builds: cheap local facts; documents as much as it
 *                            checks.
 *   GYRE_CHECK(call)         -DGYRE_CHECKS builds: whole structures, quadratic if need be.
 *
 *   GYRE_WINDOW(name)        -DGYRE_WINDOWS builds: marks a race window. The seeded yield mode
 *                            (options "yield_seed", "yield_us") may give up the processor or sleep
 *                            here; a test may install a hook that holds a named window open.
 *                            Compiles to nothing otherwise.
 *   GYRE_FAULT()             -DGYRE_WINDOWS builds: true when the fault injection (option
 *                            "fail_nth", or gyre__fault_arm) wants this allocation to fail. False
 *                            otherwise.
 */
#ifndef GYRE_LIB_BASE_CHECK_H
#define GYRE_LIB_BASE_CHECK_H

#include <stdint.h>

#include <gyre/base.h>

/* For variables that fast paths read: known to be in this library, they need no table. (The option
 * -fvisibility=hidden says so of definitions alone.) */
#define GYRE__HIDDEN __attribute__((visibility("hidden")))

/* Prints "gyre: file:line: <formatted text>" and aborts. */
_Noreturn void gyre__die(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define GYRE_REQUIRE(cond, ...)                                                                    \
  do {                                                                                             \
    if (GYRE_UNLIKELY(!(cond))) gyre__die(__FILE__, __LINE__, __VA_ARGS__);                        \
  } while (0)

#ifdef GYRE_DEBUG
#define GYRE_ASSERT(cond) GYRE_REQUIRE(cond, "assertion failed: %s", #cond)
#else
#define GYRE_ASSERT(cond)                                                                          \
  do {                                                                                             \
    (void)sizeof(cond);                                                                            \
  } while (0)
#endif

#ifdef GYRE_CHECKS
#define GYRE_CHECK(call) call
#else
#define GYRE_CHECK(call)                                                                           \
  do {                                                                                             \
  } while (0)
#endif

/* Test hook for GYRE_WINDOW: called with the window's name, or NULL. Set while no other thread is
 * inside the library. */
typedef void gyre__window_hook_fn(const char *window);
void gyre__window_set_hook(gyre__window_hook_fn *hook);
void gyre__window(const char *window);

/* Fault injection: the nth allocation from now on fails (1: the next); 0 disarms. After it has
 * failed, later ones succeed again, unless `every` is non-zero: then every nth. Counts
 * process-wide. */
void gyre__fault_arm(uint64_t nth, int every);
/* Allocations counted since the last arming. */
uint64_t gyre__fault_count(void);
int gyre__fault(void);
/* May gyre__fault() say yes now? For fast paths that leave the question to their slow half. */
int gyre__fault_is_armed(void);

#ifdef GYRE_WINDOWS
#define GYRE_WINDOW(name) gyre__window(name)
#define GYRE_FAULT() GYRE_UNLIKELY(gyre__fault())
#define GYRE_FAULT_IS_ARMED() GYRE_UNLIKELY(gyre__fault_is_armed())
#else
#define GYRE_WINDOW(name)                                                                          \
  do {                                                                                             \
  } while (0)
#define GYRE_FAULT() 0
#define GYRE_FAULT_IS_ARMED() 0
#endif

#endif
