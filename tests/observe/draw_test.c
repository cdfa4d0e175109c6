/* SPDX-License-Identifier: MIT */
/* Pictures: what is in them, word for word where that is short, and that documents are well-formed whatever
 * is in the names. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>

#include "tests/observe/copy.h"

/* ---- documents ---- */

/* A JSON value (RFC 8259); returns what follows it, or NULL. */
static const char *json_value(const char *p);

static const char *json_space(const char *p) {
  while (*p == ' ' || *p == '\n')
    p++;
  return p;
}

static const char *json_string(const char *p) {
  if (*p++ != '"') return NULL;
  for (; *p != '"'; p++) {
    if ((unsigned char)*p < ' ') return NULL;
    if (*p != '\\') continue;
    p++;
    if (*p == 'u') {
      for (int i = 0; i < 4; i++)
        if (!isxdigit((unsigned char)*++p)) return NULL;
    } else if (strchr("\"\\/bfnrt", *p) == NULL || *p == 0) {
      return NULL;
    }
  }
  return p + 1;
}

static const char *json_list(const char *p, char end, bool named) {
  p = json_space(p + 1);
  if (*p == end) return p + 1;
  for (;;) {
    if (named) {
      p = json_string(p);
      if (p == NULL || *p++ != ':') return NULL;
    }
    p = json_value(p);
    if (p == NULL) return NULL;
    p = json_space(p);
    if (*p == end) return p + 1;
    if (*p != ',') return NULL;
    p = json_space(p + 1);
  }
}

static const char *json_value(const char *p) {
  static const char *const words[] = {"true", "false", "null"};
  p = json_space(p);
  if (*p == '{') return json_list(p, '}', true);
  if (*p == '[') return json_list(p, ']', false);
  if (*p == '"') return json_string(p);
  for (size_t i = 0; i < 3; i++)
    if (strncmp(p, words[i], strlen(words[i])) == 0) return p + strlen(words[i]);
  const char *start = p;
  if (*p == '-') p++;
  while (isdigit((unsigned char)*p))
    p++;
  return p > start ? p : NULL;
}

static void assert_json(const char *text) {
  const char *end = json_value(text);
  assert_non_null(end);
  assert_string_equal(json_space(end), "");
}

/* Elements are closed in order, attributes are quoted, & begins an entity; text is UTF-8 without control
 * characters. */
static void assert_xml(const char *p) {
  static char open[100][32];
  size_t depth = 0;
  while (*p != 0) {
    unsigned char c = (unsigned char)*p;
    assert_true(c >= ' ' || c == '\n');
    if (c == '&') {
      size_t length = strcspn(p, ";");
      assert_true(length < 7 && p[length] == ';');
      p += length + 1;
    } else if (c != '<') {
      assert_int_not_equal(c, 0xFF);
      p++;
    } else if (p[1] == '!') {
      p = strchr(p, '>') + 1;
    } else if (p[1] == '/') {
      size_t length = strcspn(p + 2, ">");
      assert_true(depth > 0);
      depth--;
      assert_int_equal(strlen(open[depth]), length);
      assert_memory_equal(open[depth], p + 2, length);
      p += 3 + length;
    } else {
      size_t length = strcspn(p + 1, " />\n");
      assert_true(length < 32 && depth < 100);
      memcpy(open[depth], p + 1, length);
      open[depth][length] = 0;
      p += 1 + length;
      while (*p != '>' && *p != '/') {
        if (*p++ != '"') continue;
        p += strcspn(p, "\"<");
        assert_int_equal(*p++, '"');
      }
      if (*p == '/')
        p++;
      else
        depth++;
      assert_int_equal(*p++, '>');
    }
  }
  assert_int_equal(depth, 0);
}

static unsigned count_of(const char *text, const char *part) {
  unsigned n = 0;
  while ((text = strstr(text, part)) != NULL) {
    n++;
    text += strlen(part);
  }
  return n;
}

static struct gathered text;

static const char *draw(gyre_graph *graph, const void *seed, const struct gyre_picture *picture,
                        enum gyre_picture_format format) {
  size_t at = node_at(graph, seed);
  text.length = 0;
  text.text[0] = 0;
  assert_int_equal(gyre_graph_write(graph, &at, 1, picture, format, gather, &text), 0);
  return text.text;
}

/* ---- what is in them ---- */

static void a_small_picture_word_for_word(void **state) {
  (void)state;
  node *a = node_new(&plain_type, 1), *b = node_new(&finalized_type, 2);
  gyre_slot_init(&a->next, b);
  gyre_store(&b->other, a);
  gyre_graph *graph = graph_new(0);
  struct gyre_picture picture = {.size = sizeof picture, .refcounts = 1};
  char expected[1024];
  (void)snprintf(expected, sizeof expected,
                 "digraph gyre {\n"
                 "  node[shape=box,style=filled,fillcolor=white];\n"
                 "  b0[label=\"node [2]\\n%p\",fillcolor=\"#ffffff\",fontcolor=red];\n"
                 "  b1[label=\"node [1]\\n%p\",fillcolor=\"#c4c4c4\"];\n"
                 "  b2[label=\"finalizer\",fillcolor=\"#ff8080\",shape=doublecircle,height=0.25,"
                 "color=red,fontsize=6];\n"
                 "  b0 -> b1[label=\"next\"];\n"
                 "  b1 -> b2[color=red,style=dotted,len=0.25,weight=10];\n"
                 "  b1 -> b0[label=\"other\"];\n"
                 "}\n",
                 (void *)a, (void *)b);
  const char *drawn = draw(graph, a, &picture, GYRE_PICTURE_DOT);
  /* The mark of b's finalizer comes with b, before the line to it. */
  assert_int_equal(strlen(drawn), strlen(expected));
  assert_int_equal(count_of(drawn, "\n"), count_of(expected, "\n"));
  assert_non_null(strstr(drawn, "b0 -> b1[label=\"next\"];\n"));
  assert_memory_equal(drawn, expected, (size_t)(strstr(expected, "  b0 -> b1") - expected));
  gyre_graph_free(graph);
  gyre_clear(&b->other);
  gyre_release(a);
}

static void depth_is_bounded(void **state) {
  (void)state;
  node *chain = chain_new(&plain_type, 30);
  gyre_graph *graph = graph_new(0);
  assert_int_equal(count_of(draw(graph, chain, NULL, GYRE_PICTURE_DOT), "label=\"node"), 4);
  struct gyre_picture picture = {.size = sizeof picture, .max_depth = 7};
  assert_int_equal(count_of(draw(graph, chain, &picture, GYRE_PICTURE_DOT), "label=\"node"), 8);
  picture.max_depth = SIZE_MAX;
  assert_int_equal(count_of(draw(graph, chain, &picture, GYRE_PICTURE_DOT), "label=\"node"), 30);
  picture.kind = GYRE_PICTURE_BACKREFS;
  assert_int_equal(count_of(draw(graph, chain, &picture, GYRE_PICTURE_DOT), "label=\"node"), 1);
  gyre_graph_free(graph);
  gyre_release(chain);
}

static void too_many_are_n_more(void **state) {
  (void)state;
  tuple *t = gyre_new_array(&tuple_type, 25);
  node *items[25];
  for (size_t i = 0; i < 25; i++) {
    items[i] = node_new(&plain_type, i);
    gyre_store(&t->items[i], items[i]);
    gyre_release(items[i]);
  }
  gyre_graph *graph = graph_new(0);
  const char *drawn = draw(graph, t, NULL, GYRE_PICTURE_DOT);
  assert_int_equal(count_of(drawn, "label=\"node"), 10);
  assert_int_equal(count_of(drawn, "label=\"15 more\""), 1);
  struct gyre_picture picture = {.size = sizeof picture, .too_many = 24};
  drawn = draw(graph, t, &picture, GYRE_PICTURE_JSON);
  assert_json(drawn);
  assert_non_null(strstr(drawn, "\"more\":[\n  {\"of\":0,\"count\":1}]"));
  assert_int_equal(count_of(drawn, "\"field\":\"["), 24);
  gyre_graph_free(graph);
  gyre_release(t);
}

/* ---- the program's functions ---- */

static int tag_is_not(gyre_graph *graph, size_t at, void *arg) {
  struct gyre_node info = {.size = sizeof info};
  TEST_REQUIRE(gyre_graph_node(graph, at, &info) == 0);
  return ((const node *)info.address)->tag != *(uint64_t *)arg;
}
static int tag_is_one(gyre_graph *graph, size_t at, void *arg) {
  (void)arg;
  uint64_t one = 1;
  return !tag_is_not(graph, at, &one);
}
static int tells_tag(gyre_graph *graph, size_t at, char *buffer, size_t size, void *arg) {
  (void)arg;
  struct gyre_node info = {.size = sizeof info};
  TEST_REQUIRE(gyre_graph_node(graph, at, &info) == 0);
  return snprintf(buffer, size, "tag %d", (int)((const node *)info.address)->tag);
}

static void filter_highlight_and_extra_info(void **state) {
  (void)state;
  node *chain = chain_new(&plain_type, 4);
  gyre_graph *graph = graph_new(0);
  uint64_t hidden = 2;
  struct gyre_picture picture = {.size = sizeof picture,
                                 .filter = tag_is_not,
                                 .highlight = tag_is_one,
                                 .extra_info = tells_tag,
                                 .arg = &hidden};
  const char *drawn = draw(graph, chain, &picture, GYRE_PICTURE_JSON);
  assert_json(drawn);
  assert_non_null(strstr(drawn, "tag 0"));
  assert_non_null(strstr(drawn, "tag 1"));
  assert_null(strstr(drawn, "tag 2"));
  assert_null(strstr(drawn, "tag 3"));
  assert_int_equal(count_of(drawn, "\"highlight\":true"), 1);
  assert_non_null(strstr(draw(graph, chain, &picture, GYRE_PICTURE_DOT), "fillcolor=\"#5a90e1"));
  gyre_graph_free(graph);
  gyre_release(chain);
}

static void roots_are_green_and_end_what_refers(void **state) {
  (void)state;
  node *chain = chain_new(&plain_type, 3), *one = gyre_load(&chain->next),
       *two = gyre_load(&one->next);
  gyre_release(one);
  gyre_release(two);
  gyre_graph *graph = graph_new(0);
  assert_int_equal(gyre_graph_name_root(graph, node_at(graph, one), "<main>"), 0);
  struct gyre_picture picture = {.size = sizeof picture, .kind = GYRE_PICTURE_BACKREFS};
  const char *drawn = draw(graph, two, &picture, GYRE_PICTURE_JSON);
  assert_json(drawn);
  assert_int_equal(count_of(drawn, "\"type\":"), 2);
  assert_int_equal(count_of(drawn, "\"root\":true"), 1);
  assert_non_null(strstr(drawn, "{\"from\":1,\"to\":0,\"field\":\"next\"}"));
  assert_non_null(strstr(drawn, "root <main>"));
  drawn = draw(graph, two, &picture, GYRE_PICTURE_SVG);
  assert_xml(drawn);
  assert_non_null(strstr(drawn, "root &lt;main&gt;"));
  assert_null(strstr(drawn, "<main>"));
  gyre_graph_free(graph);
  gyre_release(chain);
}

static void a_chain_has_its_nodes_only(void **state) {
  (void)state;
  node *chain = chain_new(&plain_type, 3), *one = gyre_load(&chain->next);
  node *side = node_new(&node_type, 9);
  gyre_store(&one->other, side);
  gyre_release(side);
  gyre_release(one);
  gyre_graph *graph = graph_new(0);
  size_t seeds[2] = {node_at(graph, chain), node_at(graph, one)};
  struct gyre_picture picture = {.size = sizeof picture, .kind = GYRE_PICTURE_CHAIN};
  text.length = 0;
  assert_int_equal(gyre_graph_write(graph, seeds, 2, &picture, GYRE_PICTURE_JSON, gather, &text),
                   0);
  assert_json(text.text);
  assert_int_equal(count_of(text.text, "\"type\":"), 2);
  assert_int_equal(count_of(text.text, "\"field\":"), 1);
  gyre_graph_free(graph);
  gyre_release(chain);
}

/* ---- documents are well-formed ---- */

#define NASTY                                                                                      \
  "a\"b\\c<d>&'e]]>\n\x01\x7f\xff\xc0\x80\xed\xa0\x80 \xc3\xa9 \xf0\x9f\x98\x80 \xe2\x82"

static void names_cannot_break_a_document(void **state) {
  (void)state;
  static const gyre_slot_info slots[] = {{0, NASTY}, {8, ""}};
  static gyre_type nasty_type = {.name = NASTY, .size = 24, .slots = {slots, 2}};
  node *a = gyre_new(&nasty_type), *b = gyre_new(&nasty_type);
  gyre_store(&a->next, b);
  gyre_store(&a->other, a);
  gyre_graph *graph = graph_new(0);
  struct gyre_picture picture = {.size = sizeof picture, .kind = GYRE_PICTURE_REFS};
  assert_json(draw(graph, a, &picture, GYRE_PICTURE_JSON));
  assert_non_null(strstr(text.text, "a\\\"b\\\\c<d>&'e]]>\\u000a\\u0001\\u007f\xef\xbf\xbd"));
  assert_null(strstr(text.text, "\xff"));
  assert_xml(draw(graph, a, &picture, GYRE_PICTURE_SVG));
  assert_non_null(strstr(text.text, "a&quot;b\\c&lt;d&gt;&amp;&#39;e]]&gt;"));
  assert_null(strstr(text.text, "\xff"));
  assert_xml(draw(graph, a, &picture, GYRE_PICTURE_HTML) + strlen("<!DOCTYPE html>\n"));
  const char *drawn = draw(graph, a, &picture, GYRE_PICTURE_DOT);
  assert_non_null(strstr(drawn, "label=\"a\\\"b\\\\c<d>&'e]]>\\n\xef\xbf\xbd"));
  assert_non_null(strstr(drawn, " \xc3\xa9 \xf0\x9f\x98\x80 \xef\xbf\xbd"));
  gyre_graph_free(graph);
  gyre_clear(&a->other);
  gyre_release(a);
  gyre_release(b);
}

/* Boxes of one layer do not overlap, and all are inside of the picture. */
static void boxes_have_room(void **state) {
  (void)state;
  struct test_random random = test_random_new(2);
  enum { N = 40 };
  node *at[N];
  for (size_t i = 0; i < N; i++)
    at[i] = node_new(i % 5 == 0 ? &finalized_type : &plain_type, i);
  for (size_t i = 0; i < N; i++) {
    gyre_store(&at[i]->next, at[test_random_below(&random, N)]);
    gyre_store(&at[i]->other, at[test_random_below(&random, N)]);
  }
  gyre_graph *graph = graph_new(0);
  struct gyre_picture picture = {.size = sizeof picture, .max_depth = SIZE_MAX};
  for (int kind = GYRE_PICTURE_REFS; kind <= GYRE_PICTURE_BACKREFS; kind++) {
    picture.kind = (enum gyre_picture_kind)kind;
    const char *p = draw(graph, at[0], &picture, GYRE_PICTURE_SVG);
    assert_xml(p);
    double width, height, boxes[2 * N][4];
    size_t count = 0;
    assert_int_equal(sscanf(strstr(p, " width="), " width=\"%lf\" height=\"%lf\"", &width, &height),
                     2);
    while ((p = strstr(p, "<rect")) != NULL && count < 2 * N) {
      double *b = boxes[count++];
      assert_int_equal(sscanf(p++, "<rect x=\"%lf\" y=\"%lf\" width=\"%lf\" height=\"%lf\"", &b[0],
                              &b[1], &b[2], &b[3]),
                       4);
      assert_true(b[0] >= 0 && b[1] >= 0 && b[0] + b[2] <= width && b[1] + b[3] <= height);
      for (size_t i = 0; i + 1 < count; i++)
        assert_true(boxes[i][0] + boxes[i][2] <= b[0] || b[0] + b[2] <= boxes[i][0] ||
                    boxes[i][1] + boxes[i][3] <= b[1] || b[1] + b[3] <= boxes[i][1]);
    }
    assert_true(count >= 2);
  }
  gyre_graph_free(graph);
  for (size_t i = 0; i < N; i++)
    gyre_release(at[i]);
  (void)gyre_gc_collect(2);
}

/* Of all boxes of a layer, the next to the right of an object with a finalizer is its mark. */
static void marks_stand_beside_their_objects(void **state) {
  (void)state;
  enum { N = 6 };
  node *target = node_new(&plain_type, 0), *at[N];
  for (size_t i = 0; i < N; i++) {
    at[i] = node_new(&finalized_type, i);
    gyre_store(&at[i]->next, target);
  }
  gyre_graph *graph = graph_new(0);
  struct gyre_picture picture = {.size = sizeof picture, .kind = GYRE_PICTURE_BACKREFS};
  const char *p = draw(graph, target, &picture, GYRE_PICTURE_SVG);
  unsigned marks = 0;
  while ((p = strstr(p, "<path class=\"line dotted\" d=\"M")) != NULL) {
    double from, to, y;
    p += strlen("<path class=\"line dotted\" d=\"M");
    assert_int_equal(sscanf(p, "%lf,%lf", &from, &y), 2);
    const char *end = strchr(p, '"');
    while (*--end != ' ') {
    }
    assert_int_equal(sscanf(end, " %lf,", &to), 1);
    assert_true(to > from && to - from < 40);
    marks++;
  }
  assert_int_equal(marks, N);
  gyre_graph_free(graph);
  for (size_t i = 0; i < N; i++)
    gyre_release(at[i]);
  gyre_release(target);
}

static void a_page_has_a_table(void **state) {
  (void)state;
  node *a = node_new(&plain_type, 1);
  gyre_graph *graph = graph_new(0);
  assert_xml(draw(graph, a, NULL, GYRE_PICTURE_HTML) + strlen("<!DOCTYPE html>\n"));
  assert_non_null(strstr(text.text, "<td>node</td>"));
  assert_non_null(strstr(text.text, "count higher than its references explain"));
  gyre_graph_free(graph);
  gyre_release(a);
}

static int refuse(const char *part, size_t length, void *arg) {
  (void)part, (void)length, (void)arg;
  return -ENOSPC;
}

static void what_is_wrong_is_refused(void **state) {
  (void)state;
  node *a = node_new(&plain_type, 1);
  gyre_graph *graph = graph_new(0);
  size_t at = node_at(graph, a), none = SIZE_MAX;
  struct gyre_picture picture = {.size = sizeof picture, .kind = (enum gyre_picture_kind)9};
  assert_int_equal(gyre_graph_write(graph, &at, 1, &picture, GYRE_PICTURE_DOT, gather, &text),
                   -EINVAL);
  picture = (struct gyre_picture){0};
  assert_int_equal(gyre_graph_write(graph, &at, 1, &picture, GYRE_PICTURE_DOT, gather, &text),
                   -EINVAL);
  assert_int_equal(
      gyre_graph_write(graph, &at, 1, NULL, (enum gyre_picture_format)9, gather, &text), -EINVAL);
  assert_int_equal(gyre_graph_write(graph, &at, 1, NULL, GYRE_PICTURE_DOT, NULL, NULL), -EINVAL);
  assert_int_equal(gyre_graph_write(graph, &none, 1, NULL, GYRE_PICTURE_DOT, gather, &text),
                   -ERANGE);
  assert_int_equal(gyre_graph_write(graph, &at, 1, NULL, GYRE_PICTURE_SVG, refuse, NULL), -ENOSPC);
  text.length = 0;
  assert_int_equal(gyre_graph_write(graph, NULL, 0, NULL, GYRE_PICTURE_SVG, gather, &text), 0);
  assert_xml(text.text);
  gyre_graph_free(graph);
  gyre_release(a);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(a_small_picture_word_for_word),
      NODE_TEST(depth_is_bounded),
      NODE_TEST(too_many_are_n_more),
      NODE_TEST(filter_highlight_and_extra_info),
      NODE_TEST(roots_are_green_and_end_what_refers),
      NODE_TEST(a_chain_has_its_nodes_only),
      NODE_TEST(names_cannot_break_a_document),
      NODE_TEST(boxes_have_room),
      NODE_TEST(marks_stand_beside_their_objects),
      NODE_TEST(a_page_has_a_table),
      NODE_TEST(what_is_wrong_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
