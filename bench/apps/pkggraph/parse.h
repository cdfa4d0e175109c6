/* SPDX-License-Identifier: MIT */
/* Reads the paragraphs of a Debian package index (deb822) from memory.
 *
 *     struct parser parser;
 *     parser_begin(&parser, chunk);
 *     while ((status = parser_next(&parser)) > 0) use(&parser.paragraph);
 *     parser_end(&parser);
 *
 * A parser touches nothing but its own memory and the bytes it reads, so each thread can have one
 * on a stretch of the index of its own; chunk_split() makes such stretches.
 *
 * The parser is strict: what no Debian tool would write is an error with a place, so that a
 * broken or truncated index is never taken for a smaller one. In particular each paragraph must
 * be followed by an empty line, as dpkg and apt write it.
 */
#ifndef GYRE_BENCH_APPS_PKGGRAPH_PARSE_H
#define GYRE_BENCH_APPS_PKGGRAPH_PARSE_H

#include <stddef.h>
#include <stdint.h>

/* Bytes somewhere in the index; at is NULL where there is nothing. */
struct slice {
  const char *at;
  size_t length;
};

/* A stretch of the index that begins and ends between two paragraphs. */
struct chunk {
  const char *begin;
  const char *end;
};

enum edge_kind {
  EDGE_DEPENDS,
  EDGE_PRE_DEPENDS,
  EDGE_RECOMMENDS,
  EDGE_SUGGESTS,
  EDGE_CONFLICTS,
  EDGE_PROVIDES,
  EDGE_KINDS
};

/* As the fields are called: "Depends" ... */
extern const char *const edge_kind_names[EDGE_KINDS];

/* Which versions of the other package an edge means. */
enum edge_relation {
  RELATION_ANY,
  RELATION_EARLIER,
  RELATION_EARLIER_OR_EQUAL,
  RELATION_EQUAL,
  RELATION_LATER_OR_EQUAL,
  RELATION_LATER,
  RELATIONS
};

/* As they are written: "", "<<" ... */
extern const char *const edge_relation_signs[RELATIONS];

/* One alternative of one dependency. Alternatives ("a | b") share their group's number. */
struct dependency {
  struct slice package;
  struct slice version; /* at is NULL with RELATION_ANY */
  uint16_t group;
  uint8_t kind;
  uint8_t relation;
};

struct paragraph {
  struct slice package;
  struct slice version;
  struct slice architecture; /* at is NULL where the field is missing */
  struct dependency *dependencies;
  size_t dependency_count;
};

struct parser {
  const char *at;
  const char *end;
  size_t dependency_capacity;
  /* The paragraph last read; its slices point into the index, its array changes with the next. */
  struct paragraph paragraph;
  /* After -EBADMSG: the offending byte, and what is wrong with it. */
  const char *error_at;
  char error[160];
};

void parser_begin(struct parser *parser, struct chunk chunk);

/* Reads the next paragraph. Returns 1 if there is one, 0 at the end, -EBADMSG with error and
 * error_at set if the index is broken, -ENOMEM. Entries of packages that the status file
 * remembers but that are not installed have no version and are passed over. */
int parser_next(struct parser *parser);

void parser_end(struct parser *parser);

/* The part with number `i` of `count` about equal parts of bytes[0..size). Some may be empty.
 * Together they are the whole. */
struct chunk chunk_split(const char *bytes, size_t size, size_t i, size_t count);

#endif
