/* SPDX-License-Identifier: MIT */
/* A program that knows nothing of gyre. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void) {
  char *text = malloc(100);
  if (text == NULL) return 1;
  memcpy(text, "plain", 6);
  puts(text);
  free(text);
  return 0;
}
