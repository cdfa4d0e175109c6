/* SPDX-License-Identifier: MIT */
#include "lib/heap/sizeclass.h"

/* A class for each 16 bytes; from 128 on they share. tests/heap/sizeclass_test compares it with the
 * formula. */
#define TWICE(n) n, n
#define FOUR(n) TWICE(n), TWICE(n)
#define EIGHT(n) FOUR(n), FOUR(n)
const uint8_t gyre__class_table[] = {
    0,        0,        1,        2,         3,         4,         5,
    6,        7,        TWICE(8), TWICE(9),  TWICE(10), TWICE(11), FOUR(12),
    FOUR(13), FOUR(14), FOUR(15), EIGHT(16), EIGHT(17), EIGHT(18), EIGHT(19),
};
