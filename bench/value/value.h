/* SPDX-License-Identifier: MIT */
#ifndef BENCH_VALUE_VALUE_H
#define BENCH_VALUE_VALUE_H

#include <stdio.h>

void value_register_dict(void);
void value_register_intern(void);
void value_register_list(void);

/* The text of key i: 16 bytes and the 0. The same in cpython.py. */
#define KEY_BYTES 17
static inline void key_text(char text[KEY_BYTES], unsigned i) {
  (void)snprintf(text, KEY_BYTES, "key %012u", i);
}

#endif
