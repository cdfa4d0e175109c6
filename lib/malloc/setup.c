/* SPDX-License-Identifier: MIT */
/* The first call of malloc() sets everything up; but the dynamic linker may have made it, before the C
 * library had an environment, so the options are read when constructors run. */
#include "lib/thread/thread.h"

static void __attribute__((constructor(101))) malloc_setup(void) {
  gyre__heap_setup(); /* knows which values the options may have */
  gyre__options_init();
}
