/* SPDX-License-Identifier: MIT */
#include <gyre/base.h>

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

const char *gyre_version(void) {
  return TEXT(GYRE_VERSION_MAJOR) "." TEXT(GYRE_VERSION_MINOR) "." TEXT(GYRE_VERSION_PATCH);
}
