/* SPDX-License-Identifier: MIT */
/* fork() in a process with other threads.
 *
 * Only the forking thread exists in the child, while the memory of all others is there as they left
 * it. A thread inside the library leaves its heap in the middle of an operation. So the world is
 * stopped for the fork: then every other thread is at a safepoint or parked, outside the library,
 * and its slot becomes an orphan in the child like that of a thread that has exited.
 *
 * A thread that passes no safepoint must not hold up fork() for ever. After a while the fork goes
 * ahead without it, and in the child its slot is *lost*: its objects can still be counted and freed
 * (counts are single words, and blocks go back through the page's atomic list), but nobody inherits
 * the slot and nothing is allocated from its pages again. That memory is all that the child loses.
 *
 * Locks of the library are taken in a fixed order around the fork, so that none is held by a thread
 * that the child does not have: the rooms above first (collector, weak references, heap), then the
 * world, the registry of slots, the grace periods.
 */
#include <pthread.h>

#include "lib/thread/thread.h"

#define STALL_LIMIT_NS 200000000u

static void prepare(void) {
  const struct gyre__thread_hooks *hooks = &gyre__thread_hooks;
  for (int i = GYRE__FORK_ROOMS - 1; i > 0; i--)
    if (hooks->fork_prepare[i]) hooks->fork_prepare[i]();
  gyre__world_stop_for(gyre__thread_current(), STALL_LIMIT_NS);
  if (hooks->fork_prepare[0]) hooks->fork_prepare[0]();
  gyre__thread_fork_prepare();
  gyre__grace_fork_prepare();
}

static void parent(void) {
  const struct gyre__thread_hooks *hooks = &gyre__thread_hooks;
  gyre__grace_fork_parent();
  gyre__thread_fork_parent();
  if (hooks->fork_parent[0]) hooks->fork_parent[0]();
  gyre__world_resume(gyre__thread_current());
  for (int i = 1; i < GYRE__FORK_ROOMS; i++)
    if (hooks->fork_parent[i]) hooks->fork_parent[i]();
}

static void child(void) {
  const struct gyre__thread_hooks *hooks = &gyre__thread_hooks;
  gyre__thread_fork_child();
  gyre__world_after_fork();
  gyre__grace_fork_child();
  for (int i = 0; i < GYRE__FORK_ROOMS; i++)
    if (hooks->fork_child[i]) hooks->fork_child[i]();
}

void gyre__fork_init(void) {
  GYRE_REQUIRE(pthread_atfork(prepare, parent, child) == 0, "pthread_atfork failed: out of memory");
}
