/* SPDX-License-Identifier: MIT */
/* What inspection asks about named roots. */
#ifndef GYRE_LIB_VALUE_ROOT_H
#define GYRE_LIB_VALUE_ROOT_H

#include <gyre/root.h>

/* The name under which `object` is held as a root, copied to out[0..size) and cut there; of several the
 * one that was given last. Its length, as snprintf() gives it, or -ENOENT. Any thread; takes the roots'
 * lock; calls nothing, allocates nothing. */
int gyre__root_name_of(const void *object, char *out, size_t size);

#endif
