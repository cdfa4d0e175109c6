/* SPDX-License-Identifier: MIT */
/* Inside lib/observe: a picture, between what was asked for and how it is written. */
#ifndef GYRE_LIB_OBSERVE_DRAW_H
#define GYRE_LIB_OBSERVE_DRAW_H

#include "lib/observe/graph.h"

/* What is a box in a picture: an object, "n more" that are not drawn, or the mark of a finalizer. */
enum gyre__box_kind { GYRE__BOX_OBJECT, GYRE__BOX_MORE, GYRE__BOX_FINALIZER };

struct gyre__color {
  double h, s, v; /* 0 to 1 */
};

struct gyre__box {
  enum gyre__box_kind kind;
  uint32_t node; /* the object's, or that of the object it belongs to */
  uint32_t depth;
  uint32_t more;
  bool is_seed, is_root, is_highlit;
  struct gyre__color fill;
  bool dark;   /* white text */
  size_t text; /* in the drawing's texts: lines with \n between them */
  /* draw_layout.c */
  uint32_t layer;
  double place; /* among those of its layer */
  double x, y, width, height;
};

/* A line from box to box. */
struct gyre__line {
  uint32_t from, to;
  bool dotted; /* and red: to a finalizer, or to and from those that are not drawn */
  char name[64];
};

struct gyre__drawing {
  gyre_graph *g;
  struct gyre_picture picture; /* defaults filled in */
  GYRE__ARRAY(struct gyre__box) boxes;
  GYRE__ARRAY(struct gyre__line) lines;
  /* Boxes of objects by node, plus 1: a table of a power of two, at most half full. */
  GYRE__ARRAY(uint32_t) table;
  size_t objects;
  GYRE__ARRAY(char) texts;
  uint32_t deepest;
  /* -- draw_layout.c -- */
  uint32_t layers;
  double width, height;
};

GYRE_INLINE const char *gyre__box_text(const struct gyre__drawing *d, const struct gyre__box *box) {
  return d->texts.at + box->text;
}

/* A color as "#rrggbb". */
void gyre__color_text(struct gyre__color color, char out[8]);

void gyre__draw_dot(const struct gyre__drawing *d, struct gyre__text *t);
void gyre__draw_json(struct gyre__drawing *d, struct gyre__text *t);
/* Gives the boxes their places. False if there is no memory. */
bool gyre__draw_layout(struct gyre__drawing *d);
/* These two want that. */
void gyre__draw_svg(const struct gyre__drawing *d, struct gyre__text *t);
void gyre__draw_html(const struct gyre__drawing *d, struct gyre__text *t);

#endif
