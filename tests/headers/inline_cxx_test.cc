// SPDX-License-Identifier: MIT
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstring>
extern "C" {
#include <cmocka.h>
}
#include <pthread.h>

#include <gyre/gyre.h>

#include "tests/headers/inline.h"

int main() { return run_inline_tests(); }
