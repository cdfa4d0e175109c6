/* SPDX-License-Identifier: MIT */
/* gyre/value.h: ready-made objects: what Python programs are built from, in reading order.
 *
 * All of it stands on the public interface (object.h and what is below it), so the sources in lib/value
 * also show how to write such types. Single operations on one object are atomic and may be used by any
 * thread that holds it; a sequence of them is not, and needs gyre_lock() or a lock of the program's. Containers are
 * not asked what they are: of an object of another type, debug builds abort with its name, others do
 * something undefined. */
#ifndef GYRE_VALUE_H
#define GYRE_VALUE_H

#include <gyre/hash.h>
#include <gyre/str.h>
#include <gyre/number.h>
#include <gyre/dict.h>
#include <gyre/list.h>
#include <gyre/tuple.h>
#include <gyre/array.h>
#include <gyre/iter.h>
#include <gyre/scope.h>
#include <gyre/root.h>

#endif
