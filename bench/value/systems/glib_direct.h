/* SPDX-License-Identifier: MIT */
/* The same with interned strings as keys, hashed and compared by their address: no byte is looked at, and
 * only interned strings are found. */
#ifndef BENCH_VALUE_SYSTEMS_GLIB_DIRECT_H
#define BENCH_VALUE_SYSTEMS_GLIB_DIRECT_H

#define SYSTEM_NAME "glib-direct"
#define SYSTEM_HASH g_direct_hash
#define SYSTEM_EQUAL g_direct_equal
#define SYSTEM_NO_LIST 1
#include "bench/value/systems/glib.h"

#endif
