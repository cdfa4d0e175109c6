/* SPDX-License-Identifier: MIT */
#include "bench/apps/pkggraph/parse.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

const char *const edge_kind_names[EDGE_KINDS] = {
    [EDGE_DEPENDS] = "Depends",       [EDGE_PRE_DEPENDS] = "Pre-Depends",
    [EDGE_RECOMMENDS] = "Recommends", [EDGE_SUGGESTS] = "Suggests",
    [EDGE_CONFLICTS] = "Conflicts",   [EDGE_PROVIDES] = "Provides",
};

const char *const edge_relation_signs[RELATIONS] = {
    [RELATION_ANY] = "",    [RELATION_EARLIER] = "<<",        [RELATION_EARLIER_OR_EQUAL] = "<=",
    [RELATION_EQUAL] = "=", [RELATION_LATER_OR_EQUAL] = ">=", [RELATION_LATER] = ">>",
};

/* The fields that are looked at: the edges first, so that a field's number is also an edge's
 * kind. */
enum field {
  FIELD_PACKAGE = EDGE_KINDS,
  FIELD_VERSION,
  FIELD_ARCHITECTURE,
  FIELD_STATUS,
  FIELDS,
  FIELD_OTHER = FIELDS
};

static const char *field_name(enum field field) {
  static const char *const names[] = {"Package", "Version", "Architecture", "Status"};
  unsigned number = (unsigned)field;
  return number < EDGE_KINDS ? edge_kind_names[number] : names[number - EDGE_KINDS];
}

__attribute__((format(printf, 3, 4))) static int fail(struct parser *parser, const char *at,
                                                      const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(parser->error, sizeof parser->error, format, arguments);
  va_end(arguments);
  parser->error_at = at;
  return -EBADMSG;
}

/* ---- characters ---- */

/* Not those of <ctype.h>: an index means the same in every locale. */
static bool is_alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}
static bool is_package_char(char c) {
  return is_alphanumeric(c) || c == '-' || c == '.' || c == '+';
}
static bool is_version_char(char c) { return is_package_char(c) || c == ':' || c == '~'; }
static bool is_architecture_char(char c) { return is_alphanumeric(c) || c == '-'; }
static bool is_field_char(char c) { return c > ' ' && c < 127 && c != ':'; }
/* Newlines too: a value goes on over several lines. */
static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n'; }

static struct slice take_while(const char **at, const char *end, bool (*belongs)(char)) {
  const char *begin = *at;
  while (*at < end && belongs(**at))
    ++*at;
  return (struct slice){begin, (size_t)(*at - begin)};
}

static struct slice trimmed(const char *begin, const char *end) {
  while (begin < end && is_space(*begin))
    begin++;
  while (end > begin && is_space(end[-1]))
    end--;
  return (struct slice){begin, (size_t)(end - begin)};
}

/* How a message calls the byte at `at`: itself, or its number where it cannot be printed. */
static const char *byte_text(char text[8], const char *at) {
  unsigned char byte = (unsigned char)*at;
  snprintf(text, 8, byte > ' ' && byte < 127 ? "'%c'" : "0x%02x", byte);
  return text;
}

/* ---- dependencies: "a (>= 1.2) | b:any, c" ---- */

static int add_dependency(struct parser *parser, struct dependency dependency) {
  struct paragraph *p = &parser->paragraph;
  if (p->dependency_count == parser->dependency_capacity) {
    size_t capacity = parser->dependency_capacity == 0 ? 64 : 2 * parser->dependency_capacity;
    void *grown = realloc(p->dependencies, capacity * sizeof *p->dependencies);
    if (grown == NULL) return -ENOMEM;
    p->dependencies = grown;
    parser->dependency_capacity = capacity;
  }
  p->dependencies[p->dependency_count++] = dependency;
  return 0;
}

/* Reads the sign of a version constraint. A lone < or > is how old packages wrote <= and >=. */
static enum edge_relation take_relation(const char **at, const char *end) {
  static const struct {
    char text[3];
    enum edge_relation relation;
  } signs[] = {
      {"<<", RELATION_EARLIER},       {"<=", RELATION_EARLIER_OR_EQUAL},
      {">>", RELATION_LATER},         {">=", RELATION_LATER_OR_EQUAL},
      {"=", RELATION_EQUAL},          {"<", RELATION_EARLIER_OR_EQUAL},
      {">", RELATION_LATER_OR_EQUAL},
  };
  for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++) {
    size_t length = strlen(signs[i].text);
    if ((size_t)(end - *at) >= length && memcmp(*at, signs[i].text, length) == 0) {
      *at += length;
      return signs[i].relation;
    }
  }
  return RELATION_ANY;
}

/* "(>= 1.2)", from the parenthesis on. */
static int parse_constraint(struct parser *parser, const char **at, const char *end,
                            struct dependency *out) {
  const char *begin = *at;
  ++*at;
  take_while(at, end, is_space);
  out->relation = (uint8_t)take_relation(at, end);
  if (out->relation == RELATION_ANY)
    return fail(parser, *at, "a version without <<, <=, =, >= or >>");
  take_while(at, end, is_space);
  out->version = take_while(at, end, is_version_char);
  if (out->version.length == 0) return fail(parser, *at, "a version is missing");
  take_while(at, end, is_space);
  if (*at == end) return fail(parser, begin, "'(' without ')'");
  char text[8];
  if (**at != ')') return fail(parser, *at, "%s instead of ')'", byte_text(text, *at));
  ++*at;
  return 0;
}

static int parse_alternative(struct parser *parser, const char **at, const char *end,
                             struct dependency *out) {
  out->package = take_while(at, end, is_package_char);
  if (out->package.length == 0) {
    return fail(parser, *at, "a package name is missing in %s", edge_kind_names[out->kind]);
  }
  if (*at < end && **at == ':') {
    /* The architecture plays no part: packages are told apart by their names only. */
    ++*at;
    if (take_while(at, end, is_architecture_char).length == 0) {
      return fail(parser, *at, "an architecture is missing after ':'");
    }
  }
  take_while(at, end, is_space);
  if (*at < end && **at == '(') {
    int error = parse_constraint(parser, at, end, out);
    if (error != 0) return error;
    take_while(at, end, is_space);
  }
  return 0;
}

static int parse_dependencies(struct parser *parser, struct slice value, enum edge_kind kind,
                              uint16_t *group) {
  const char *at = value.at;
  const char *end = value.at + value.length;
  for (;;) {
    struct dependency dependency = {.kind = (uint8_t)kind, .group = *group};
    int error = parse_alternative(parser, &at, end, &dependency);
    if (error == 0) error = add_dependency(parser, dependency);
    if (error != 0) return error;
    if (at == end) break;
    if (*at == ',') {
      if (*group == UINT16_MAX)
        return fail(parser, at, "more dependencies than a program can want");
      ++*group;
    } else if (*at != '|') {
      char text[8];
      return fail(parser, at, "%s instead of ',' or '|'", byte_text(text, at));
    }
    at++;
    take_while(&at, end, is_space);
  }
  ++*group;
  return 0;
}

/* ---- lines and paragraphs ---- */

struct fields {
  struct slice value[FIELDS]; /* trimmed; at is NULL where the field is missing */
};

static enum field field_by_name(struct slice name) {
  for (unsigned i = 0; i < FIELDS; i++) {
    const char *known = field_name((enum field)i);
    if (strlen(known) == name.length && strncasecmp(known, name.at, name.length) == 0) {
      return (enum field)i;
    }
  }
  return FIELD_OTHER;
}

/* Reads "Name: value" up to `end` (the first line of the value only) and says which field it is. */
static int parse_field(struct parser *parser, const char *line, const char *end, enum field *field,
                       const char **value) {
  const char *at = line;
  struct slice name = take_while(&at, end, is_field_char);
  if (name.length == 0 || at == end || *at != ':' || *line == '#' || *line == '-') {
    return fail(parser, line, "neither a field (\"Name: value\") nor the continuation of one");
  }
  *field = field_by_name(name);
  *value = at + 1;
  return 0;
}

/* The end of the line that begins at parser->at, without its newline; moves on to the next line. */
static int take_line(struct parser *parser, const char **end) {
  const char *line = parser->at;
  *end = memchr(line, '\n', (size_t)(parser->end - line));
  if (*end == NULL) return fail(parser, line, "the index ends inside a line");
  const char *zero = memchr(line, 0, (size_t)(*end - line));
  if (zero != NULL) return fail(parser, zero, "a zero byte");
  parser->at = *end + 1;
  return 0;
}

/* Reads the lines of a paragraph and the empty one behind it. */
static int take_fields(struct parser *parser, struct fields *fields) {
  *fields = (struct fields){{{NULL, 0}}};
  enum field field = FIELD_OTHER;
  const char *value = NULL;
  for (;;) {
    const char *line = parser->at;
    if (line == parser->end) {
      return fail(parser, line - 1, "the index ends inside a paragraph (no empty line behind it)");
    }
    const char *end;
    int error = take_line(parser, &end);
    if (error != 0) return error;
    if (end == line) return 0;
    if (*line == ' ' || *line == '\t') {
      if (value == NULL) return fail(parser, line, "a continuation with no field before it");
    } else {
      error = parse_field(parser, line, end, &field, &value);
      if (error != 0) return error;
      if (field != FIELD_OTHER && fields->value[field].at != NULL) {
        return fail(parser, line, "a second %s in one paragraph", field_name(field));
      }
    }
    /* The lines of a value lie one behind the other, so each one just makes it longer. */
    if (field != FIELD_OTHER) fields->value[field] = trimmed(value, end);
  }
}

static bool ends_with(struct slice value, const char *text) {
  size_t length = strlen(text);
  return value.length >= length && memcmp(value.at + value.length - length, text, length) == 0;
}

/* The field must be there and consist of such characters. */
static int require_field(struct parser *parser, const struct fields *fields, const char *paragraph,
                         enum field field, bool (*belongs)(char)) {
  struct slice value = fields->value[field];
  if (value.at == NULL) return fail(parser, paragraph, "a paragraph without %s", field_name(field));
  const char *at = value.at;
  const char *end = value.at + value.length;
  take_while(&at, end, belongs);
  char text[8];
  if (value.length == 0) return fail(parser, value.at - 1, "%s is empty", field_name(field));
  if (at != end) return fail(parser, at, "%s in %s", byte_text(text, at), field_name(field));
  return 0;
}

static int parse_paragraph(struct parser *parser, const struct fields *fields,
                           const char *paragraph) {
  struct paragraph *p = &parser->paragraph;
  int error = require_field(parser, fields, paragraph, FIELD_VERSION, is_version_char);
  if (error == 0 && fields->value[FIELD_ARCHITECTURE].at != NULL) {
    error = require_field(parser, fields, paragraph, FIELD_ARCHITECTURE, is_architecture_char);
  }
  if (error != 0) return error;
  p->package = fields->value[FIELD_PACKAGE];
  p->version = fields->value[FIELD_VERSION];
  p->architecture = fields->value[FIELD_ARCHITECTURE];
  p->dependency_count = 0;
  uint16_t group = 0;
  for (unsigned kind = 0; kind < EDGE_KINDS; kind++) {
    if (fields->value[kind].at == NULL) continue;
    error = parse_dependencies(parser, fields->value[kind], (enum edge_kind)kind, &group);
    if (error != 0) return error;
  }
  return 1;
}

void parser_begin(struct parser *parser, struct chunk chunk) {
  *parser = (struct parser){.at = chunk.begin, .end = chunk.end};
}

void parser_end(struct parser *parser) {
  free(parser->paragraph.dependencies);
  parser->paragraph.dependencies = NULL;
}

int parser_next(struct parser *parser) {
  for (;;) {
    while (parser->at < parser->end && *parser->at == '\n')
      parser->at++;
    if (parser->at == parser->end) return 0;
    const char *begin = parser->at;
    struct fields fields;
    int error = take_fields(parser, &fields);
    if (error == 0) error = require_field(parser, &fields, begin, FIELD_PACKAGE, is_package_char);
    if (error != 0) return error;
    bool not_installed = fields.value[FIELD_VERSION].at == NULL &&
                         ends_with(fields.value[FIELD_STATUS], " not-installed");
    if (!not_installed) return parse_paragraph(parser, &fields, begin);
  }
}

/* ---- chunks ---- */

/* The first border between paragraphs at or behind bytes[from]. */
static size_t next_border(const char *bytes, size_t size, size_t from) {
  if (from == 0) return 0;
  const char *gap = memmem(bytes + from - 1, size - from + 1, "\n\n", 2);
  return gap == NULL ? size : (size_t)(gap - bytes) + 2;
}

struct chunk chunk_split(const char *bytes, size_t size, size_t i, size_t count) {
  size_t part = size / count;
  size_t begin = next_border(bytes, size, i * part);
  size_t end = i + 1 == count ? size : next_border(bytes, size, (i + 1) * part);
  return (struct chunk){bytes + begin, bytes + end};
}
