/* SPDX-License-Identifier: MIT */
/* Pictures of a graph: what is in them, and in which colors.
 *
 * The rules are objgraph's. From the seeds, by breadth, references are followed as far as max_depth; of a
 * node's references, those beyond too_many that would lead to new boxes become one box "n more". Seeds have
 * red text; boxes are the darker the farther from a seed; roots are green, what is highlighted is blue; an
 * object with a finalizer has a red dotted line to a mark. Backwards, nothing is drawn beyond a root.
 *
 * What is drawn is decided first, with all calls of the program's functions; then it is written (draw_dot.c,
 * draw_json.c, and, with places for the boxes from draw_layout.c, draw_svg.c). */
#include "lib/observe/draw.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DEFAULT_DEPTH 3
#define DEFAULT_TOO_MANY 10
#define EXTRA_BYTES 256

/* ---- boxes by node ---- */

static uint32_t *table_at(struct gyre__drawing *d, uint32_t node) {
  size_t size = d->table.count;
  size_t at = (size_t)((node * UINT64_C(0x9E3779B97F4A7C15)) >> 32) & (size - 1);
  while (d->table.at[at] != 0 && d->boxes.at[d->table.at[at] - 1].node != node)
    at = (at + 1) & (size - 1);
  return &d->table.at[at];
}

static bool table_grow(struct gyre__drawing *d) {
  size_t size = d->table.count == 0 ? 64 : 2 * d->table.count;
  GYRE__ARRAY_DROP(&d->table);
  if (!GYRE__ARRAY_MAKE(&d->table, size)) return false;
  for (uint32_t i = 0; i < d->boxes.count; i++)
    if (d->boxes.at[i].kind == GYRE__BOX_OBJECT) *table_at(d, d->boxes.at[i].node) = i + 1;
  return true;
}

/* The box of a node, or GYRE__NO_NODE. */
static uint32_t box_of(struct gyre__drawing *d, uint32_t node) {
  if (d->table.count == 0) return GYRE__NO_NODE;
  uint32_t box = *table_at(d, node);
  return box == 0 ? GYRE__NO_NODE : box - 1;
}

/* ---- texts ---- */

/* Adds to the text that is being made. */
static bool text_add(struct gyre__drawing *d, const char *text) {
  size_t length = strlen(text);
  if (!GYRE__ARRAY_RESERVE(&d->texts, d->texts.count + length + 1)) return false;
  memcpy(d->texts.at + d->texts.count, text, length + 1);
  d->texts.count += length;
  return true;
}

static bool text_end(struct gyre__drawing *d) { return GYRE__ARRAY_PUSH(&d->texts, (char)0); }

static bool text_object(struct gyre__drawing *d, uint32_t node) {
  const struct gyre__node *n = &d->g->nodes.at[node];
  char line[EXTRA_BYTES];
  bool done = text_add(d, gyre__type(n->type)->name);
  if (d->picture.refcounts) {
    if (n->flags & GYRE_NODE_IMMORTAL)
      (void)snprintf(line, sizeof line, " [immortal]");
    else
      (void)snprintf(line, sizeof line, " [%td]", gyre__node_count(n));
    done = done && text_add(d, line);
  }
  (void)snprintf(line, sizeof line, "\n0x%llx%s", (unsigned long long)n->address,
                 n->flags & GYRE_NODE_CHANGED ? " (changed)" : "");
  done = done && text_add(d, line);
  const char *root = gyre__node_root_name(d->g, node);
  if (root != NULL) done = done && text_add(d, "\nroot ") && text_add(d, root);
  if (d->picture.extra_info != NULL) {
    line[0] = 0;
    int result = d->picture.extra_info(d->g, node, line, sizeof line, d->picture.arg);
    line[sizeof line - 1] = 0;
    if (result >= 0 && line[0] != 0) done = done && text_add(d, "\n") && text_add(d, line);
  }
  return done && text_end(d);
}

/* ---- colors ---- */

/* From white to dark grey, or from red to dark red. */
static struct gyre__color shade(const struct gyre__drawing *d, uint32_t depth, double saturation) {
  size_t deepest = d->picture.max_depth;
  if (deepest == SIZE_MAX) deepest = d->deepest;
  double part = deepest == 0 ? 0 : (double)depth / (double)deepest;
  if (part > 1) part = 1;
  return (struct gyre__color){0, saturation, 1 - 0.7 * part};
}

static void box_color(const struct gyre__drawing *d, struct gyre__box *box) {
  switch (box->kind) {
  case GYRE__BOX_MORE:
    box->fill = shade(d, box->depth, 1);
    box->dark = true;
    return;
  case GYRE__BOX_FINALIZER:
    box->fill = (struct gyre__color){0, 0.5, 1};
    return;
  case GYRE__BOX_OBJECT:
    break;
  }
  box->fill = shade(d, box->depth, 0);
  if (box->is_root) {
    box->fill.h = 0.3;
    box->fill.s = 1;
  }
  if (box->is_highlit) {
    box->fill.h = 0.6;
    box->fill.s = 0.6;
    box->fill.v = 0.5 + box->fill.v * 0.5;
  }
  box->dark = box->fill.v < 0.5;
}

void gyre__color_text(struct gyre__color color, char out[8]) {
  /* The usual way from hue, saturation and value to red, green and blue (Smith, "Color gamut transform
   * pairs", 1978). */
  double rgb[3];
  for (int i = 0; i < 3; i++) {
    double k = 5 - 2 * i + color.h * 6;
    if (k >= 6) k -= 6;
    double least = k < 4 - k ? k : 4 - k;
    if (least > 1) least = 1;
    rgb[i] = color.v - color.v * color.s * (least > 0 ? least : 0);
  }
  (void)snprintf(out, 8, "#%02x%02x%02x", (unsigned)(rgb[0] * 255 + 0.5) & 0xff,
                 (unsigned)(rgb[1] * 255 + 0.5) & 0xff, (unsigned)(rgb[2] * 255 + 0.5) & 0xff);
}

/* ---- putting boxes and lines into the picture ---- */

static bool asks(gyre_node_test *test, struct gyre__drawing *d, uint32_t node) {
  return test(d->g, node, d->picture.arg) != 0;
}

/* A new box; its text follows. GYRE__NO_NODE if there is no memory. */
static uint32_t box_add(struct gyre__drawing *d, enum gyre__box_kind kind, uint32_t node,
                        uint32_t depth) {
  struct gyre__box box = {.kind = kind, .node = node, .depth = depth, .text = d->texts.count};
  if (!GYRE__ARRAY_PUSH(&d->boxes, box)) return GYRE__NO_NODE;
  if (depth > d->deepest) d->deepest = depth;
  return (uint32_t)(d->boxes.count - 1);
}

static bool line_add(struct gyre__drawing *d, uint32_t from, uint32_t to, bool dotted,
                     const struct gyre_link *link) {
  struct gyre__line line = {.from = from, .to = to, .dotted = dotted};
  if (link != NULL) (void)gyre_link_name(link, line.name, sizeof line.name);
  return GYRE__ARRAY_PUSH(&d->lines, line);
}

static bool finalizer_add(struct gyre__drawing *d, uint32_t owner) {
  uint32_t node = d->boxes.at[owner].node, depth = d->boxes.at[owner].depth;
  uint32_t box = box_add(d, GYRE__BOX_FINALIZER, node, depth);
  return box != GYRE__NO_NODE && text_add(d, "finalizer") && text_end(d) &&
         line_add(d, owner, box, true, NULL);
}

static bool object_add(struct gyre__drawing *d, uint32_t node, uint32_t depth, bool is_seed) {
  if (2 * (d->objects + 1) > d->table.count && !table_grow(d)) return false;
  uint32_t box = box_add(d, GYRE__BOX_OBJECT, node, depth);
  if (box == GYRE__NO_NODE || !text_object(d, node)) return false;
  *table_at(d, node) = box + 1;
  d->objects++;
  d->boxes.at[box].is_seed = is_seed;
  d->boxes.at[box].is_root = gyre__node_is_root(d->g, node);
  d->boxes.at[box].is_highlit = d->picture.highlight != NULL && asks(d->picture.highlight, d, node);
  bool has_finalizer = (d->g->nodes.at[node].flags & GYRE_NODE_FINALIZER) != 0;
  return !has_finalizer || finalizer_add(d, box);
}

static bool more_add(struct gyre__drawing *d, uint32_t owner, uint32_t more) {
  char text[32];
  uint32_t box = box_add(d, GYRE__BOX_MORE, d->boxes.at[owner].node, d->boxes.at[owner].depth + 1);
  if (box == GYRE__NO_NODE) return false;
  d->boxes.at[box].more = more;
  (void)snprintf(text, sizeof text, "%u more", more);
  bool back = d->picture.kind == GYRE_PICTURE_BACKREFS;
  return text_add(d, text) && text_end(d) &&
         line_add(d, back ? box : owner, back ? owner : box, true, NULL);
}

/* ---- following references ---- */

/* A reference of the node that box `owner` stands for, to or from `other`. False if there is no memory. */
static bool reference_draw(struct gyre__drawing *d, uint32_t owner, uint32_t other,
                           const struct gyre_link *link, uint32_t *drawn, uint32_t *skipped) {
  bool back = d->picture.kind == GYRE_PICTURE_BACKREFS;
  bool is_new = box_of(d, other) == GYRE__NO_NODE;
  if (is_new && d->picture.kind == GYRE_PICTURE_CHAIN) return true;
  if (d->picture.filter != NULL && !asks(d->picture.filter, d, other)) return true;
  if (is_new && *drawn >= d->picture.too_many) {
    ++*skipped;
    return true;
  }
  ++*drawn;
  if (is_new && !object_add(d, other, d->boxes.at[owner].depth + 1, false)) return false;
  uint32_t box = box_of(d, other);
  return line_add(d, back ? box : owner, back ? owner : box, false, link);
}

static bool references_draw(struct gyre__drawing *d, uint32_t owner) {
  gyre_graph *g = d->g;
  uint32_t node = d->boxes.at[owner].node, drawn = 0, skipped = 0;
  bool back = d->picture.kind == GYRE_PICTURE_BACKREFS;
  const uint32_t *first = back ? g->first_back_edge.at : g->first_edge.at;
  for (uint32_t i = first[node]; i < first[node + 1]; i++) {
    uint32_t edge = back ? g->back_edges.at[i].edge : i;
    uint32_t from = back ? g->back_edges.at[i].from : node;
    uint32_t other = back ? from : g->edges.at[i].to;
    struct gyre_link link = gyre__link_of(g, from, edge, other);
    if (!reference_draw(d, owner, other, &link, &drawn, &skipped)) return false;
  }
  return skipped == 0 || more_add(d, owner, skipped);
}

static bool seeds_draw(struct gyre__drawing *d, const size_t *seeds, size_t count) {
  bool chain = d->picture.kind == GYRE_PICTURE_CHAIN;
  for (size_t i = 0; i < count; i++)
    if (box_of(d, (uint32_t)seeds[i]) == GYRE__NO_NODE &&
        !object_add(d, (uint32_t)seeds[i], chain ? (uint32_t)i : 0, !chain || i == 0))
      return false;
  return true;
}

/* Boxes come by breadth, so those that are added lie behind the one that is looked at. */
static bool drawing_make(struct gyre__drawing *d, const size_t *seeds, size_t count) {
  if (!seeds_draw(d, seeds, count)) return false;
  bool back = d->picture.kind == GYRE_PICTURE_BACKREFS;
  bool chain = d->picture.kind == GYRE_PICTURE_CHAIN;
  for (uint32_t i = 0; i < d->boxes.count; i++) {
    const struct gyre__box *box = &d->boxes.at[i];
    if (box->kind != GYRE__BOX_OBJECT || (!chain && box->depth >= d->picture.max_depth)) continue;
    if (back && box->is_root) continue;
    if (!references_draw(d, i)) return false;
  }
  for (uint32_t i = 0; i < d->boxes.count; i++)
    box_color(d, &d->boxes.at[i]);
  return true;
}

static void drawing_drop(struct gyre__drawing *d) {
  GYRE__ARRAY_DROP(&d->boxes);
  GYRE__ARRAY_DROP(&d->lines);
  GYRE__ARRAY_DROP(&d->table);
  GYRE__ARRAY_DROP(&d->texts);
}

/* ---- writing ---- */

static int drawing_write(struct gyre__drawing *d, enum gyre_picture_format format,
                         gyre_text_sink *sink, void *arg) {
  bool laid_out = format == GYRE_PICTURE_SVG || format == GYRE_PICTURE_HTML;
  if (laid_out && !gyre__draw_layout(d)) return -ENOMEM;
  /* The page has verdicts. */
  if (format == GYRE_PICTURE_HTML && !gyre__graph_alive(d->g)) return -ENOMEM;
  struct gyre__text t;
  gyre__text_begin(&t, sink, arg);
  switch (format) {
  case GYRE_PICTURE_DOT:
    gyre__draw_dot(d, &t);
    break;
  case GYRE_PICTURE_SVG:
    gyre__draw_svg(d, &t);
    break;
  case GYRE_PICTURE_HTML:
    gyre__draw_html(d, &t);
    break;
  case GYRE_PICTURE_JSON:
    gyre__draw_json(d, &t);
    break;
  }
  return gyre__text_end(&t);
}

static int picture_take(struct gyre__drawing *d, const struct gyre_picture *picture) {
  if (picture != NULL) {
    if (picture->size < sizeof picture->size) return -EINVAL;
    size_t size = picture->size < sizeof d->picture ? picture->size : sizeof d->picture;
    memcpy(&d->picture, picture, size);
  }
  if ((unsigned)d->picture.kind > GYRE_PICTURE_CHAIN) return -EINVAL;
  if (d->picture.max_depth == 0) d->picture.max_depth = DEFAULT_DEPTH;
  if (d->picture.too_many == 0) d->picture.too_many = DEFAULT_TOO_MANY;
  return 0;
}

int gyre_graph_write(gyre_graph *g, const size_t *seeds, size_t count,
                     const struct gyre_picture *picture, enum gyre_picture_format format,
                     gyre_text_sink *sink, void *arg) {
  if (g == NULL || sink == NULL || (seeds == NULL && count != 0) ||
      (unsigned)format > GYRE_PICTURE_JSON)
    return -EINVAL;
  struct gyre__drawing d = {.g = g};
  int result = picture_take(&d, picture);
  for (size_t i = 0; i < count && result == 0; i++)
    if (seeds[i] >= g->nodes.count) result = -ERANGE;
  if (result != 0) return result;
  if (!gyre__graph_back_edges(g)) return -ENOMEM;
  if (d.picture.kind == GYRE_PICTURE_CHAIN && count > 1) d.picture.max_depth = count - 1;
  result = drawing_make(&d, seeds, count) ? drawing_write(&d, format, sink, arg) : -ENOMEM;
  drawing_drop(&d);
  return result;
}
