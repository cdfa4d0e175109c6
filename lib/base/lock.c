/* SPDX-License-Identifier: MIT */
/* A lock in one futex word.
 *
 *        try/take                take, when it was not free
 *   free ---------> held -------------------------------> contended
 *     ^ ^            |                                        |
 *     |  \___give____/                                        |
 *     |___________________give, and one sleeper is woken______/
 *
 * Who had to wait marks the word "contended" when it gets the lock, because it cannot know whether
 * others sleep too; the price is at most one needless wake. Mutual exclusion: the word leaves
 * "free" only by a read-modify-write that saw it free. No lost wake-up: a thread sleeps only while
 * the word is "contended" (the futex checks that), and whoever makes such a word free wakes one.
 * Not fair; blocks.
 *
 * In libgyre_malloc, handlers of a fork that run after ours allocate while we hold all locks; a thread
 * that forks therefore passes through them.
 */
#include <limits.h>

#include "lib/base/base.h"

enum { LOCK_FREE, LOCK_HELD, LOCK_CONTENDED };

/* This thread holds all locks, for a fork. */
static __thread bool holds_all;

static bool is_held_for_fork(void) { return GYRE__IS_MALLOC && GYRE_UNLIKELY(holds_all); }

void gyre__lock_fork_begin(void) { holds_all = true; }
void gyre__lock_fork_end(void) { holds_all = false; }

bool gyre__lock_try(gyre__lock *lock) {
  uint32_t expected = LOCK_FREE;
  /* acquire: what earlier holders wrote; pairs with the release in gyre__lock_give(). */
  return gyre__cas_strong_acquire(&lock->word, &expected, LOCK_HELD);
}

void gyre__lock_take(gyre__lock *lock) {
  if (is_held_for_fork()) return;
  if (GYRE_LIKELY(gyre__lock_try(lock))) return;
  /* acquire: as in gyre__lock_try(); pairs with the release in gyre__lock_give(). */
  while (gyre__exchange_acquire(&lock->word, LOCK_CONTENDED) != LOCK_FREE)
    (void)gyre__futex_wait(&lock->word, LOCK_CONTENDED, UINT64_MAX);
}

bool gyre__lock_take_for(gyre__lock *lock, uint64_t timeout_ns) {
  if (gyre__lock_try(lock)) return true;
  uint64_t start = gyre__clock_ns(), waited = 0;
  /* acquire: as in gyre__lock_take(); pairs with the release in gyre__lock_give(). */
  while (gyre__exchange_acquire(&lock->word, LOCK_CONTENDED) != LOCK_FREE) {
    if (waited >= timeout_ns) return false;
    (void)gyre__futex_wait(&lock->word, LOCK_CONTENDED, timeout_ns - waited);
    waited = gyre__clock_ns() - start;
  }
  return true;
}

void gyre__lock_give(gyre__lock *lock) {
  if (is_held_for_fork()) return;
  /* release: our writes, for the next holder; pairs with the acquires above. */
  uint32_t was = gyre__exchange_release(&lock->word, LOCK_FREE);
  GYRE_ASSERT(was != LOCK_FREE);
  if (was == LOCK_CONTENDED) gyre__futex_wake(&lock->word, 1);
}

void gyre__lock_reset(gyre__lock *lock) {
  /* relaxed: the child of a fork has one thread; no partner. */
  gyre__store_relaxed(&lock->word, LOCK_FREE);
}
