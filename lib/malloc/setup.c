/* SPDX-License-Identifier: MIT */
/* What cannot be done in the first call of malloc(), which may come from the dynamic linker or from the
 * very function that would have to be called, waits for a constructor. */
#include "lib/thread/thread.h"

static void __attribute__((constructor(101))) malloc_setup(void) {
  /* Again, if there was no environment yet; it wants to know which backends there are. */
  gyre__heap_setup();
  gyre__options_init();
  gyre__fork_init();
}
