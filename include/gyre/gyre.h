/* SPDX-License-Identifier: MIT */
/* gyre/gyre.h: the whole library, in reading order. */
#ifndef GYRE_GYRE_H
#define GYRE_GYRE_H

#include <gyre/base.h>
#include <gyre/thread.h>
#include <gyre/heap.h>
#include <gyre/object.h>
#include <gyre/weak.h>
#include <gyre/gc.h>
#include <gyre/trace.h>

#endif
