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
 * the slot and nothing is allocated from its pages again. That memory is all that the child loses, and
 * the blocks of other slots that a lost thread was about to send home.
 *
 * Locks of the library are taken in a fixed order around the fork, so that none is held by a thread
 * that the child does not have. The collector's comes first, before the stop, because it may be
 * held for as long as a collection takes, and is waited for parked, but not for long: then the child
 * gives the collection up (lib/collect/collect.c). All others are held for a few
 * instructions, so they are taken after the stop: a thread that sleeps for one of them counts as
 * running and could not be stopped. Rooms from the top down, then the registry of slots, the grace
 * periods, the options and the log.
 *
 * In libgyre_malloc nobody passes safepoints, so the world is not stopped: there, every other thread
 * that runs is lost to the child at once. A lock of its own sees to it that one thread forks at a time,
 * as the lock on the stopped world does elsewhere. Handlers that were registered before ours run while
 * we hold the locks, and may allocate: gyre__lock_fork_begin().
 *
 * The first attach registers the handlers: in libgyre_malloc, the first allocation of the process.
 * Registering allocates only when the C library has some dozens of handlers already.
 */
#include <pthread.h>

#include "lib/thread/thread.h"

#define STALL_LIMIT_NS 200000000u

/* libgyre_malloc: held while a thread forks. Outermost. */
static gyre__lock fork_lock;

static void world_hold(void) {
  if (GYRE__IS_MALLOC)
    gyre__lock_take(&fork_lock);
  else
    (void)gyre__world_stop_for(gyre__thread_current(), STALL_LIMIT_NS);
}

static void world_let_go(void) {
  if (GYRE__IS_MALLOC)
    gyre__lock_give(&fork_lock);
  else
    gyre__world_resume(gyre__thread_current());
}

static void prepare(void) {
  const struct gyre__thread_hooks *hooks = &gyre__thread_hooks;
  if (hooks->fork_before_stop) hooks->fork_before_stop();
  world_hold();
  for (int i = GYRE__FORK_ROOMS; i-- > 0;)
    if (hooks->fork_prepare[i]) hooks->fork_prepare[i]();
  gyre__thread_fork_prepare();
  gyre__grace_fork_prepare();
  gyre__options_fork_prepare();
  gyre__log_fork_prepare();
  if (GYRE__IS_MALLOC) gyre__lock_fork_begin();
}

static void parent(void) {
  const struct gyre__thread_hooks *hooks = &gyre__thread_hooks;
  if (GYRE__IS_MALLOC) gyre__lock_fork_end();
  gyre__log_fork_parent();
  gyre__options_fork_parent();
  gyre__grace_fork_parent();
  gyre__thread_fork_parent();
  for (int i = 0; i < GYRE__FORK_ROOMS; i++)
    if (hooks->fork_parent[i]) hooks->fork_parent[i]();
  world_let_go();
  if (hooks->fork_parent_resumed) hooks->fork_parent_resumed();
}

static void child(void) {
  const struct gyre__thread_hooks *hooks = &gyre__thread_hooks;
  if (GYRE__IS_MALLOC) gyre__lock_fork_end();
  gyre__lock_reset(&fork_lock);
  gyre__log_fork_child();
  gyre__options_fork_child();
  gyre__thread_fork_child();
  gyre__world_after_fork();
  gyre__grace_fork_child();
  for (int i = 0; i < GYRE__FORK_ROOMS; i++)
    if (hooks->fork_child[i]) hooks->fork_child[i]();
}

void gyre__fork_init(void) {
  GYRE_REQUIRE(pthread_atfork(prepare, parent, child) == 0, "pthread_atfork failed: out of memory");
}
