/* SPDX-License-Identifier: MIT */
/* gyre/gyre.h: the whole library, in reading order. */
#ifndef GYRE_GYRE_H
#define GYRE_GYRE_H

#include <gyre/base.h>
#include <gyre/thread.h>
#include <gyre/heap.h>
#include <gyre/object.h>
#include <gyre/weak.h>
#include <gyre/weakmap.h>
#include <gyre/gc.h>
#include <gyre/inspect.h>
#include <gyre/value.h>
#include <gyre/stats.h>
#include <gyre/arena.h>
#include <gyre/alloc.h>
#include <gyre/trace.h>

#endif
