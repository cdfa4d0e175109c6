/* SPDX-License-Identifier: MIT */
/* A picture as SVG, which any browser shows, and as a page of HTML around it. */
#include <string.h>

#include "lib/observe/draw.h"

/* Lengths with one decimal, whatever the locale says about commas. */
static void number(struct gyre__text *t, double value) {
  long tenths = (long)(value * 10 + (value < 0 ? -0.5 : 0.5));
  if (tenths < 0) gyre__text_say(t, "-");
  if (tenths < 0) tenths = -tenths;
  gyre__text_format(t, "%ld.%ld", tenths / 10, tenths % 10);
}

static void attribute(struct gyre__text *t, const char *name, double value) {
  gyre__text_format(t, " %s=\"", name);
  number(t, value);
  gyre__text_say(t, "\"");
}

static void point(struct gyre__text *t, const char *before, double x, double y) {
  gyre__text_say(t, before);
  number(t, x);
  gyre__text_say(t, ",");
  number(t, y);
}

/* ---- lines ---- */

struct curve {
  double x[4], y[4]; /* a cubic Bezier curve */
};

static struct curve curve_of(const struct gyre__drawing *d, const struct gyre__line *line) {
  const struct gyre__box *a = &d->boxes.at[line->from], *b = &d->boxes.at[line->to];
  double ax = a->x + a->width / 2, bx = b->x + b->width / 2;
  if (b->kind == GYRE__BOX_FINALIZER || a == b) {
    /* To the mark beside it; or to itself, round its right side. */
    double y = a->y + a->height / 2, x = a->x + a->width, end = a == b ? x : b->x;
    double out = a == b ? 28 : 0, up = a == b ? a->height / 4 : 0;
    return (struct curve){{x, x + out, end + out, end}, {y - up, y - up, y + up, y + up}};
  }
  if (a->layer < b->layer) {
    double ay = a->y + a->height, bend = (b->y - ay) / 2;
    return (struct curve){{ax, ax, bx, bx}, {ay, ay + bend, b->y - bend, b->y}};
  }
  if (a->layer > b->layer) {
    /* Up again, a little beside those that go down. */
    double by = b->y + b->height, bend = (a->y - by) / 2;
    ax += a->width / 4;
    bx += b->width / 4;
    return (struct curve){{ax, ax, bx, bx}, {a->y, a->y - bend, by + bend, by}};
  }
  double ay = a->y + a->height, by = b->y + b->height, low = (ay > by ? ay : by) + 36;
  return (struct curve){{ax, ax, bx, bx}, {ay, low, low, by}};
}

static double middle(const double at[4]) { return (at[0] + 3 * at[1] + 3 * at[2] + at[3]) / 8; }

static void line_write(const struct gyre__drawing *d, struct gyre__text *t,
                       const struct gyre__line *line) {
  struct curve c = curve_of(d, line);
  gyre__text_say(t,
                 line->dotted ? "<path class=\"line dotted\" d=\"" : "<path class=\"line\" d=\"");
  point(t, "M", c.x[0], c.y[0]);
  point(t, " C", c.x[1], c.y[1]);
  point(t, " ", c.x[2], c.y[2]);
  point(t, " ", c.x[3], c.y[3]);
  gyre__text_format(t, "\" marker-end=\"url(#%s)\"/>\n", line->dotted ? "red" : "black");
}

static void name_write(const struct gyre__drawing *d, struct gyre__text *t,
                       const struct gyre__line *line) {
  if (line->dotted || line->name[0] == 0) return;
  struct curve c = curve_of(d, line);
  gyre__text_say(t, "<text class=\"name\"");
  attribute(t, "x", middle(c.x));
  attribute(t, "y", middle(c.y));
  gyre__text_say(t, ">");
  gyre__text_xml(t, line->name);
  gyre__text_say(t, "</text>\n");
}

/* ---- boxes ---- */

static const char *box_class(const struct gyre__box *box) {
  switch (box->kind) {
  case GYRE__BOX_MORE:
    return "box more";
  case GYRE__BOX_FINALIZER:
    return "box finalizer";
  case GYRE__BOX_OBJECT:
    break;
  }
  return box->is_seed ? "box seed" : "box";
}

static void box_text(const struct gyre__drawing *d, struct gyre__text *t,
                     const struct gyre__box *box) {
  const char *color = box->is_seed ? "red" : box->dark ? "white" : "black";
  const char *text = gyre__box_text(d, box);
  double y = box->y + 8 + 10.5;
  while (text != NULL) {
    const char *end = strchr(text, '\n');
    char line[512];
    size_t length = end != NULL ? (size_t)(end - text) : strlen(text);
    if (length >= sizeof line) length = sizeof line - 1;
    memcpy(line, text, length);
    line[length] = 0;
    gyre__text_say(t, "<text");
    attribute(t, "x", box->x + box->width / 2);
    attribute(t, "y", y);
    gyre__text_format(t, " fill=\"%s\">", color);
    gyre__text_xml(t, line);
    gyre__text_say(t, "</text>\n");
    y += 14;
    text = end != NULL ? end + 1 : NULL;
  }
}

static void box_write(const struct gyre__drawing *d, struct gyre__text *t,
                      const struct gyre__box *box) {
  char fill[8];
  gyre__color_text(box->fill, fill);
  gyre__text_format(t, "<g class=\"%s\"><rect", box_class(box));
  attribute(t, "x", box->x);
  attribute(t, "y", box->y);
  attribute(t, "width", box->width);
  attribute(t, "height", box->height);
  gyre__text_format(t, " rx=\"%u\" fill=\"%s\"/>\n", box->kind == GYRE__BOX_FINALIZER ? 12u : 3u,
                    fill);
  box_text(d, t, box);
  gyre__text_say(t, "</g>\n");
}

/* ---- documents ---- */

static const char style[] =
    "<style>\n"
    "text{font:11px monospace;text-anchor:middle;white-space:pre}\n"
    ".box rect{stroke:black;stroke-width:1}\n"
    ".more rect,.finalizer rect{stroke:red}\n"
    ".line{fill:none;stroke:black;stroke-width:1}\n"
    ".dotted{stroke:red;stroke-dasharray:2 3}\n"
    ".name{paint-order:stroke;stroke:white;stroke-width:3px;fill:black}\n"
    "</style>\n"
    "<defs>\n"
    "<marker id=\"black\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" "
    "markerHeight=\"8\" "
    "orient=\"auto\"><path d=\"M0,0 L8,4 L0,8 z\" fill=\"black\"/></marker>\n"
    "<marker id=\"red\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" "
    "markerHeight=\"8\" "
    "orient=\"auto\"><path d=\"M0,0 L8,4 L0,8 z\" fill=\"red\"/></marker>\n"
    "</defs>\n";

void gyre__draw_svg(const struct gyre__drawing *d, struct gyre__text *t) {
  gyre__text_say(t, "<svg xmlns=\"http://www.w3.org/2000/svg\"");
  attribute(t, "width", d->width);
  attribute(t, "height", d->height + 40);
  gyre__text_say(t, " viewBox=\"0 0 ");
  number(t, d->width);
  gyre__text_say(t, " ");
  number(t, d->height + 40);
  gyre__text_say(t, "\">\n");
  gyre__text_say(t, style);
  for (size_t i = 0; i < d->lines.count; i++)
    line_write(d, t, &d->lines.at[i]);
  for (size_t i = 0; i < d->boxes.count; i++)
    box_write(d, t, &d->boxes.at[i]);
  for (size_t i = 0; i < d->lines.count; i++)
    name_write(d, t, &d->lines.at[i]);
  gyre__text_say(t, "</svg>\n");
}

static void row_write(const struct gyre__drawing *d, struct gyre__text *t,
                      const struct gyre__box *box) {
  const struct gyre__node *n = &d->g->nodes.at[box->node];
  gyre__text_say(t, "<tr><td>");
  gyre__text_xml(t, gyre__type(n->type)->name);
  gyre__text_format(t, "</td><td>0x%llx</td><td class=\"n\">%llu</td><td class=\"n\">",
                    (unsigned long long)n->address, (unsigned long long)n->bytes);
  if (n->flags & GYRE_NODE_IMMORTAL)
    gyre__text_say(t, "immortal");
  else
    gyre__text_format(t, "%td", gyre__node_count(n));
  gyre__text_format(
      t, "</td><td class=\"n\">%u</td><td class=\"n\">%u</td><td class=\"n\">%u</td><td>",
      gyre__node_referents(d->g, box->node), gyre__node_referrers(d->g, box->node), box->depth);
  gyre__text_xml(
      t, gyre_verdict_text((enum gyre_verdict)gyre_graph_verdict(d->g, box->node, NULL, NULL)));
  gyre__text_say(t, "</td></tr>\n");
}

void gyre__draw_html(const struct gyre__drawing *d, struct gyre__text *t) {
  gyre__text_say(
      t,
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>"
      "<title>gyre: objects and references</title>\n"
      "<style>body{font:13px sans-serif;margin:16px}table{border-collapse:collapse;margin-top:16px}"
      "td,th{border:1px solid #ccc;padding:2px 8px;text-align:left}.n{text-align:right}"
      "div{overflow:auto}</style></head><body>\n<div>\n");
  gyre__draw_svg(d, t);
  gyre__text_say(t, "</div>\n<table>\n<tr><th>type</th><th>address</th><th>bytes</th><th>count</th>"
                    "<th>referents</th><th>referrers</th><th>depth</th><th>verdict</th></tr>\n");
  for (size_t i = 0; i < d->boxes.count; i++)
    if (d->boxes.at[i].kind == GYRE__BOX_OBJECT) row_write(d, t, &d->boxes.at[i]);
  gyre__text_say(t, "</table>\n</body></html>\n");
}
