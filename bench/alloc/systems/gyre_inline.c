/* SPDX-License-Identifier: MIT */
#include "bench/alloc/systems/gyre_inline.h"

gyre_thread *system_self;
