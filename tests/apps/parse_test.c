/* SPDX-License-Identifier: MIT */
/* What pkggraph's parser takes for a package index, and where it says that one is broken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "bench/apps/pkggraph/parse.h"

static struct chunk chunk_of(const char *text) { return (struct chunk){text, text + strlen(text)}; }

static void assert_slice(struct slice slice, const char *text) {
  assert_int_equal(slice.length, strlen(text));
  assert_memory_equal(slice.at, text, slice.length);
}

/* The only paragraph of a good index. */
static const struct paragraph *read_one(struct parser *parser, const char *text) {
  parser_begin(parser, chunk_of(text));
  assert_int_equal(parser_next(parser), 1);
  return &parser->paragraph;
}

/* Where the index is broken: the offset of the byte, after checking what is said about it. */
static size_t offset_of_error(const char *text, const char *expected) {
  struct parser parser;
  parser_begin(&parser, chunk_of(text));
  int status;
  while ((status = parser_next(&parser)) > 0) {
  }
  assert_int_equal(status, -EBADMSG);
  if (strstr(parser.error, expected) == NULL) fail_msg("\"%s\" for:\n%s", parser.error, text);
  size_t offset = (size_t)(parser.error_at - text);
  parser_end(&parser);
  return offset;
}

static void a_paragraph_has_its_fields(void **state) {
  (void)state;
  struct parser parser;
  const struct paragraph *p =
      read_one(&parser, "Package: a\nVersion:  1:2.0~rc1-3 \nArchitecture: amd64\n"
                        "Description: text: with ( everything\n more | text\n .\n\n");
  assert_slice(p->package, "a");
  assert_slice(p->version, "1:2.0~rc1-3");
  assert_slice(p->architecture, "amd64");
  assert_int_equal(p->dependency_count, 0);
  assert_int_equal(parser_next(&parser), 0);
  parser_end(&parser);
}

static void field_names_have_no_case(void **state) {
  (void)state;
  struct parser parser;
  const struct paragraph *p = read_one(&parser, "PACKAGE: a\nversion: 1\ndEPENDS: b\n\n");
  assert_int_equal(p->dependency_count, 1);
  parser_end(&parser);
}

static void dependencies_have_kinds_groups_and_versions(void **state) {
  (void)state;
  struct parser parser;
  const struct paragraph *p = read_one(&parser, "Package: a\nVersion: 1\n"
                                                "Provides: p (= 7)\n"
                                                "Depends: b (>= 1.2) | c:any,\n"
                                                " d:amd64 (<<2)\n"
                                                "Suggests: e\n\n");
  static const struct {
    const char *package;
    const char *version;
    uint16_t group;
    uint8_t kind;
    uint8_t relation;
  } expected[] = {
      {"b", "1.2", 0, EDGE_DEPENDS, RELATION_LATER_OR_EQUAL},
      {"c", NULL, 0, EDGE_DEPENDS, RELATION_ANY},
      {"d", "2", 1, EDGE_DEPENDS, RELATION_EARLIER},
      {"e", NULL, 2, EDGE_SUGGESTS, RELATION_ANY},
      {"p", "7", 3, EDGE_PROVIDES, RELATION_EQUAL},
  };
  size_t count = sizeof expected / sizeof expected[0];
  assert_int_equal(p->dependency_count, count);
  for (size_t i = 0; i < count; i++) {
    const struct dependency *d = &p->dependencies[i];
    assert_slice(d->package, expected[i].package);
    assert_int_equal(d->group, expected[i].group);
    assert_int_equal(d->kind, expected[i].kind);
    assert_int_equal(d->relation, expected[i].relation);
    if (expected[i].version == NULL) {
      assert_null(d->version.at);
    } else {
      assert_slice(d->version, expected[i].version);
    }
  }
  parser_end(&parser);
}

static void packages_that_are_not_installed_are_passed_over(void **state) {
  (void)state;
  struct parser parser;
  const struct paragraph *p = read_one(
      &parser, "Package: gone\nStatus: purge ok not-installed\n\n\nPackage: a\nVersion: 1\n\n");
  assert_slice(p->package, "a");
  assert_int_equal(parser_next(&parser), 0);
  parser_end(&parser);
}

static void an_empty_index_has_no_paragraphs(void **state) {
  (void)state;
  struct parser parser;
  parser_begin(&parser, chunk_of(""));
  assert_int_equal(parser_next(&parser), 0);
  parser_begin(&parser, chunk_of("\n\n\n"));
  assert_int_equal(parser_next(&parser), 0);
  parser_end(&parser);
}

static void a_broken_index_has_a_place(void **state) {
  (void)state;
#define HEAD "Package: a\nVersion: 1\n"
  const size_t head = strlen(HEAD);
  assert_int_equal(offset_of_error("Package: a\nVersion 1\n\n", "neither a field"), 11);
  assert_int_equal(offset_of_error(" Package: a\n\n", "continuation"), 0);
  assert_int_equal(offset_of_error("Version: 1\n\n", "without Package"), 0);
  assert_int_equal(offset_of_error("Package: a\n\n", "without Version"), 0);
  assert_int_equal(offset_of_error("Package: a b\nVersion: 1\n\n", "0x20 in Package"), 10);
  assert_int_equal(offset_of_error("Package:\nVersion: 1\n\n", "Package is empty"), 7);
  assert_int_equal(offset_of_error(HEAD "version: 2\n\n", "a second Version"), head);
  assert_int_equal(offset_of_error(HEAD "Depends: b (1)\n\n", "without <<"), head + 12);
  assert_int_equal(offset_of_error(HEAD "Depends: b (>= )\n\n", "version is missing"), head + 15);
  assert_int_equal(offset_of_error(HEAD "Depends: b (>= 1\n\n", "'(' without ')'"), head + 11);
  assert_int_equal(offset_of_error(HEAD "Depends: b (>= 1]\n\n", "']' instead of ')'"), head + 16);
  assert_int_equal(offset_of_error(HEAD "Depends: b,, c\n\n", "name is missing in Depends"),
                   head + 11);
  assert_int_equal(offset_of_error(HEAD "Depends: b c\n\n", "'c' instead of"), head + 11);
  assert_int_equal(offset_of_error(HEAD "Depends: b:\n\n", "architecture is missing"), head + 11);
#undef HEAD
}

static void a_truncated_index_has_a_place(void **state) {
  (void)state;
  assert_int_equal(offset_of_error("Package: a\nVersion: 1\n", "inside a paragraph"), 21);
  assert_int_equal(offset_of_error("Package: a\nVersion: 1", "inside a line"), 11);
  assert_int_equal(offset_of_error("Package: a\nVersion: 1\n\nPack", "inside a line"), 23);
}

static void a_zero_byte_is_an_error(void **state) {
  (void)state;
  static const char text[] = "Package: a\nVersion: 1\nTag: x\0y\n\n";
  struct parser parser;
  parser_begin(&parser, (struct chunk){text, text + sizeof text - 1});
  assert_int_equal(parser_next(&parser), -EBADMSG);
  assert_int_equal(parser.error_at - text, 28);
  parser_end(&parser);
}

/* Any number of chunks has the same paragraphs as the whole, and leaves out nothing. */
static void chunks_meet_between_paragraphs(void **state) {
  (void)state;
  char text[2000];
  size_t length = 0;
  enum { PARAGRAPHS = 40 };
  for (int i = 0; i < PARAGRAPHS; i++) {
    length += (size_t)snprintf(text + length, sizeof text - length, "Package: p%d\nVersion: %d\n%s",
                               i, i, i % 7 == 0 ? "\n\n\n" : "\n");
  }
  for (size_t count = 1; count < 200; count++) {
    const char *border = text;
    int paragraphs = 0;
    for (size_t i = 0; i < count; i++) {
      struct chunk chunk = chunk_split(text, length, i, count);
      assert_ptr_equal(chunk.begin, border);
      border = chunk.end;
      struct parser parser;
      parser_begin(&parser, chunk);
      int status;
      while ((status = parser_next(&parser)) > 0)
        paragraphs++;
      assert_int_equal(status, 0);
      parser_end(&parser);
    }
    assert_ptr_equal(border, text + length);
    assert_int_equal(paragraphs, PARAGRAPHS);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_paragraph_has_its_fields),
      cmocka_unit_test(field_names_have_no_case),
      cmocka_unit_test(dependencies_have_kinds_groups_and_versions),
      cmocka_unit_test(packages_that_are_not_installed_are_passed_over),
      cmocka_unit_test(an_empty_index_has_no_paragraphs),
      cmocka_unit_test(a_broken_index_has_a_place),
      cmocka_unit_test(a_truncated_index_has_a_place),
      cmocka_unit_test(a_zero_byte_is_an_error),
      cmocka_unit_test(chunks_meet_between_paragraphs),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
