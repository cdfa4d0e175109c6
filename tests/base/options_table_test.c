/* SPDX-License-Identifier: MIT */
/* lib/docs/options.md shows the table of options that the library has: the test makes the rows anew and
 * compares. `--print` prints them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include <gyre/base.h>

#define DOCUMENT "lib/docs/options.md"
#define ROWS_BEGIN "| option | accepts | default | |\n|---|---|---|---|\n"

static char rows[40000];

/* Appends a cell; what stands between words would end it. */
static void cell(const char *text) {
  size_t at = strlen(rows);
  for (; *text != 0; text++) {
    assert_true(at + 8 < sizeof rows);
    if (*text == '|') rows[at++] = ',';
    rows[at++] = *text == '|' ? ' ' : *text;
  }
  memcpy(rows + at, " | ", 4);
}

static int row(const struct gyre_option_info *info, void *arg) {
  (void)arg;
  if (info->accepts == NULL) print_error("option \"%s\" has no TEXT()\n", info->name);
  assert_non_null(info->accepts);
  char name[50];
  (void)snprintf(name, sizeof name, "| `%s`", info->name);
  char *before = rows + strlen(rows);
  cell(name + 1);
  memmove(before + 1, before, strlen(before) + 1);
  *before = '|';
  cell(info->accepts);
  cell(info->default_text);
  cell(info->description);
  rows[strlen(rows) - 1] = '\n';
  return 0;
}

static void the_document_has_all_options_as_they_are(void **state) {
  (void)state;
  static char text[80000];
  FILE *file = fopen(DOCUMENT, "r");
  assert_non_null(file);
  text[fread(text, 1, sizeof text - 1, file)] = 0;
  (void)fclose(file);
  assert_int_equal(gyre_option_list(row, NULL), 0);
  char *begin = strstr(text, ROWS_BEGIN);
  assert_non_null(begin);
  begin += strlen(ROWS_BEGIN);
  char *end = strstr(begin, "\n\n");
  if (end != NULL) end[1] = 0;
  if (strcmp(begin, rows) != 0) print_error("the rows of " DOCUMENT " should be:\n%s", rows);
  assert_string_equal(begin, rows);
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "--print") == 0) {
    (void)gyre_option_list(row, NULL);
    return fputs(rows, stdout) < 0;
  }
  const struct CMUnitTest tests[] = {cmocka_unit_test(the_document_has_all_options_as_they_are)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
