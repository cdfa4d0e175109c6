/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include <gyre/gyre.h>

#include "tests/headers/inline.h"

int main(void) { return run_inline_tests(); }
