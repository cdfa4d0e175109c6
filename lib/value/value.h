/* SPDX-License-Identifier: MIT */
/* What the sources of lib/value share. The room stands on the public headers alone. */
#ifndef GYRE_LIB_VALUE_VALUE_H
#define GYRE_LIB_VALUE_VALUE_H

#include <stdbool.h>

#include <gyre/value.h>

#endif
