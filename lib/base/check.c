/* SPDX-License-Identifier: MIT */
/* Dying with a message, and the two modes that hunt bugs: yields inside race windows, and
 * allocations that fail on demand. Both modes are always compiled in; only the macros that lead
 * here (GYRE_WINDOW, GYRE_FAULT) depend on the build, so that a test may call them in any.
 */
#include "lib/base/check.h"

#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/base.h"

/* ---- dying ---- */

void gyre__die(const char *file, int line, const char *format, ...) {
  /* No allocation and no stdio stream: the heap may be what is broken. */
  char text[1024];
  int length = snprintf(text, sizeof text, "gyre: %s:%d: ", file, line);
  size_t at = length < 0 ? 0 : (size_t)length;
  if (at >= sizeof text) at = 0;
  va_list args;
  va_start(args, format);
  length = vsnprintf(text + at, sizeof text - at, format, args);
  va_end(args);
  if (length > 0) at += (size_t)length;
  if (at > sizeof text - 1) at = sizeof text - 1;
  text[at++] = '\n';
  for (size_t done = 0; done < at;) {
    ssize_t n = write(STDERR_FILENO, text + done, at - done);
    if (n <= 0) break;
    done += (size_t)n;
  }
  abort();
}

/* ---- race windows ---- */

/* Written by a test while no other thread is inside the library; read by every window. */
static GYRE_ATOMIC(gyre__window_hook_fn *) window_hook;
/* Numbers the threads that come to a window, for their random sequences. */
static gyre__atomic_u64 window_threads;
static __thread uint64_t window_random;

void gyre__window_set_hook(gyre__window_hook_fn *hook) {
  /* release: what the test prepared for its hook; pairs with the acquire in gyre__window(). */
  gyre__store_release(&window_hook, hook);
}

/* One time in four the thread gives up its processor; in slow motion it naps one time in sixteen, as if
 * it had lost it for a while. */
static void window_maybe_yield(uint64_t seed) {
  uint64_t x = window_random;
  if (x == 0) {
    /* relaxed: a number of one's own, nothing hangs on it; partner: the same operation elsewhere.
     */
    uint64_t thread = gyre__fetch_add_relaxed(&window_threads, 1) + 1;
    x = (seed ^ thread * UINT64_C(0x9E3779B97F4A7C15)) | 1;
  }
  x ^= x << 13;
  x ^= x >> 7;
  x ^= x << 17;
  window_random = x;
  if ((x >> 40) % 4 == 0) (void)sched_yield();
  uint64_t most_us = gyre__option(yield_us);
  if (most_us == 0 || (x >> 44) % 16 != 0) return;
  struct timespec nap = {.tv_nsec = (long)((x >> 20) % (most_us * 1000))};
  (void)nanosleep(&nap, NULL);
}

void gyre__window(const char *window) {
  /* acquire: pairs with the release in gyre__window_set_hook(). */
  gyre__window_hook_fn *hook = gyre__load_acquire(&window_hook);
  if (hook != NULL) hook(window);
  uint64_t seed = gyre__option(yield_seed);
  if (seed != 0) window_maybe_yield(seed);
}

/* ---- failing allocations ---- */

/* Written by gyre__fault_arm(), read by every allocation. They are set one after the other: an
 * allocation that runs during the arming may be counted either way. */
static gyre__atomic_u64 fault_nth;
static gyre__atomic_u32 fault_every;
/* Allocations since the arming; counted by all threads. */
static gyre__atomic_u64 fault_seen;

void gyre__fault_arm(uint64_t nth, int every) {
  /* relaxed: switches of a test mode; who must see them is started or woken by the test afterwards.
   * Pairs with the loads in gyre__fault(). */
  gyre__store_relaxed(&fault_nth, 0);
  gyre__store_relaxed(&fault_every, every != 0);
  gyre__store_relaxed(&fault_seen, 0);
  /* relaxed: as above. */
  gyre__store_relaxed(&fault_nth, nth);
}

uint64_t gyre__fault_count(void) {
  /* relaxed: a statistic; pairs with the count in gyre__fault(). */
  return gyre__load_relaxed(&fault_seen);
}

int gyre__fault_is_armed(void) {
  /* relaxed: see gyre__fault_arm(), its partner. */
  return gyre__load_relaxed(&fault_nth) != 0;
}

int gyre__fault(void) {
  /* relaxed: see gyre__fault_arm(), its partner. */
  uint64_t nth = gyre__load_relaxed(&fault_nth);
  if (GYRE_LIKELY(nth == 0)) return 0;
  /* relaxed: only the count itself matters, and a read-modify-write never loses one; partners:
   * itself in other threads, the load in gyre__fault_count(). */
  uint64_t seen = gyre__fetch_add_relaxed(&fault_seen, 1) + 1;
  /* relaxed: as for fault_nth. */
  return gyre__load_relaxed(&fault_every) != 0 ? seen % nth == 0 : seen == nth;
}
