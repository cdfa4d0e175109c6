/* SPDX-License-Identifier: MIT */
#include "bench/apps/pkggraph/say.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void say(const char *format, ...) {
  char line[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  fprintf(stderr, "pkggraph: %s\n", line);
}

void say_error(const char *what, int error) { say("%s: %s", what, strerror(-error)); }
