/* SPDX-License-Identifier: MIT */
/* Modes: what a collection that runs beside the program asks of all threads.
 *
 * A handshake publishes a mode word and then waits for a grace period (grace.c), in which every
 * running thread announces a quiescent state at a safepoint. The announcement is the thread's
 * read-modify-write that clears its request bit; only after it does the thread read the mode word.
 * Read before, the word could be the old one, and the thread would have answered for a mode that it
 * does not have. A thread that is idle has no mode; it first makes its slot running, where a
 * handshake sees it, and then reads the word. So when the handshake is over, whoever runs has the
 * new mode, and what any thread did in the old one is seen by the collector.
 *
 * A thread adopts a new word only here, between two operations of the library, so each operation
 * runs whole in one mode.
 */
#include "lib/thread/thread.h"

static gyre__atomic_u32 published;

uint32_t gyre__mode_published(void) {
  /* seq_cst: after the announcement (gyre__safepoint_slow()) or the step to running (enter());
   * pairs with the store in gyre__mode_publish(). */
  return gyre__load_seq_cst(&published);
}

void gyre__mode_adopt(struct gyre__thread *self) {
  uint32_t word = gyre__mode_published();
  uint32_t old = self->mode;
  self->mode = word;
  bool slow = self->slow_paths || gyre__mode_of(word) == GYRE__MODE_LOGGING;
  gyre__bias = slow ? GYRE__BIAS_NONE : self->base.id;
  if (word != old && gyre__thread_hooks.mode_changed) gyre__thread_hooks.mode_changed(self, old);
  GYRE_WINDOW("mode/adopted");
}

void gyre__mode_publish(struct gyre__thread *self, uint32_t word) {
  /* seq_cst: releases what the collector did in the old mode (cleared marks) to who adopts the new
   * one; before the looks at the threads' states, as grace.c has them. Pairs with
   * gyre__mode_published(). */
  gyre__store_seq_cst(&published, word);
  gyre__mode_adopt(self);
}

void gyre__handshake(struct gyre__thread *self, uint32_t word) {
  gyre__mode_publish(self, word);
  GYRE_WINDOW("mode/published");
  gyre__grace_wait(gyre__grace_ticket(), UINT64_MAX);
}

void gyre__mode_fork_child(uint32_t word) {
  /* relaxed: no other thread exists. */
  gyre__store_relaxed(&published, word);
}
