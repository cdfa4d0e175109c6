/* SPDX-License-Identifier: MIT */
/* Places for the boxes of a picture, in layers (Sugiyama, Tagawa and Toda, "Methods for visual understanding
 * of hierarchical system structures", 1981, simplified).
 *
 * A box's layer is its distance from the seeds: below them, or above them in a picture of referrers. In
 * each layer boxes are sorted by the mean place of their neighbours in the layer before, from the seeds
 * outwards and back, a few times, which removes most crossings. Then each layer is set as a line of boxes,
 * centered. Marks of finalizers stand to the right of their objects. */
#include "lib/observe/draw.h"

#include <stdlib.h>
#include <string.h>

#define SWEEPS 6
#define CHARACTER 6.7 /* width of a character of 11 pixels, monospaced */
#define LINE 14.0
#define PADDING 8.0
#define GAP 24.0
#define LAYER_GAP 64.0
#define MARGIN 16.0

/* ---- sizes ---- */

/* The longest line's length in characters, and how many lines. */
static void text_measure(const char *text, double *columns, unsigned *lines) {
  double length = 0;
  *columns = 0;
  *lines = 1;
  for (; *text != 0; text++) {
    unsigned char c = (unsigned char)*text;
    if (c == '\n') {
      ++*lines;
      length = 0;
    } else if ((c & 0xC0) != 0x80) {
      length += c >= 0xE1 ? 2 : 1; /* many of those that take three bytes are wide */
    }
    if (length > *columns) *columns = length;
  }
}

static void box_measure(const struct gyre__drawing *d, struct gyre__box *box) {
  double columns;
  unsigned lines;
  text_measure(gyre__box_text(d, box), &columns, &lines);
  box->width = columns * CHARACTER + 2 * PADDING;
  box->height = lines * LINE + 2 * PADDING;
}

/* ---- layers ---- */

static void layers_assign(struct gyre__drawing *d) {
  bool back = d->picture.kind == GYRE_PICTURE_BACKREFS;
  for (size_t i = 0; i < d->boxes.count; i++) {
    struct gyre__box *box = &d->boxes.at[i];
    box->layer = back ? d->deepest - box->depth : box->depth;
    box->place = (double)i;
  }
  d->layers = d->deepest + 1;
}

/* Boxes in the order in which they are set: by layer and place. */
typedef GYRE__ARRAY(struct gyre__box *) box_order;

static int by_place(const void *a, const void *b) {
  const struct gyre__box *x = *(struct gyre__box *const *)a, *y = *(struct gyre__box *const *)b;
  if (x->layer != y->layer) return x->layer < y->layer ? -1 : 1;
  if (x->place < y->place || x->place > y->place) return x->place < y->place ? -1 : 1;
  return (x > y) - (x < y);
}

/* Numbers the places of each layer from 0, in their order. */
static void order_number(box_order *order) {
  if (order->count > 1) qsort(order->at, order->count, sizeof order->at[0], by_place);
  double place = 0;
  for (size_t i = 0; i < order->count; i++) {
    if (i > 0 && order->at[i]->layer != order->at[i - 1]->layer) place = 0;
    order->at[i]->place = place++;
  }
}

struct mean {
  double sum;
  unsigned count;
};

/* Each box goes to the mean place of its neighbours one layer further down, or up. */
static void sweep(struct gyre__drawing *d, struct mean *means, bool down) {
  memset(means, 0, d->boxes.count * sizeof *means);
  for (size_t i = 0; i < d->lines.count; i++) {
    uint32_t a = d->lines.at[i].from, b = d->lines.at[i].to;
    for (int turn = 0; turn < 2; turn++) {
      const struct gyre__box *one = &d->boxes.at[a], *other = &d->boxes.at[b];
      if (down ? one->layer == other->layer + 1 : one->layer + 1 == other->layer) {
        means[a].sum += other->place;
        means[a].count++;
      }
      uint32_t swap = a;
      a = b;
      b = swap;
    }
  }
  for (size_t i = 0; i < d->boxes.count; i++)
    if (means[i].count > 0) d->boxes.at[i].place = means[i].sum / means[i].count;
}

/* Sorts; a mark of a finalizer follows its owner. */
static void order_sort(struct gyre__drawing *d, box_order *order) {
  order_number(order);
  for (size_t i = 0; i < d->lines.count; i++) {
    const struct gyre__line *line = &d->lines.at[i];
    struct gyre__box *mark = &d->boxes.at[line->to];
    if (mark->kind == GYRE__BOX_FINALIZER) mark->place = d->boxes.at[line->from].place + 0.5;
  }
  order_number(order);
}

/* ---- places ---- */

static void layer_set(struct gyre__drawing *d, struct gyre__box **first, size_t count, double *y) {
  double x = MARGIN, height = 0;
  for (size_t i = 0; i < count; i++) {
    first[i]->x = x;
    first[i]->y = *y;
    x += first[i]->width + GAP;
    if (first[i]->height > height) height = first[i]->height;
  }
  *y += height + LAYER_GAP;
  if (x - GAP + MARGIN > d->width) d->width = x - GAP + MARGIN;
}

static void boxes_set(struct gyre__drawing *d, const box_order *order) {
  double y = MARGIN;
  d->width = 2 * MARGIN;
  for (size_t i = 0, end; i < order->count; i = end) {
    for (end = i; end < order->count && order->at[end]->layer == order->at[i]->layer; end++) {
    }
    layer_set(d, &order->at[i], end - i, &y);
  }
  d->height = order->count > 0 ? y - LAYER_GAP + MARGIN : 2 * MARGIN;
  /* Centered: the last of each layer says how wide that is. */
  for (size_t i = 0, end; i < order->count; i = end) {
    for (end = i; end < order->count && order->at[end]->layer == order->at[i]->layer; end++) {
    }
    double right = order->at[end - 1]->x + order->at[end - 1]->width + MARGIN;
    for (size_t k = i; k < end; k++)
      order->at[k]->x += (d->width - right) / 2;
  }
}

bool gyre__draw_layout(struct gyre__drawing *d) {
  box_order order = {0};
  GYRE__ARRAY(struct mean) means = {0};
  bool done = GYRE__ARRAY_MAKE(&order, d->boxes.count) && GYRE__ARRAY_MAKE(&means, d->boxes.count);
  if (done) {
    layers_assign(d);
    for (size_t i = 0; i < d->boxes.count; i++) {
      box_measure(d, &d->boxes.at[i]);
      order.at[i] = &d->boxes.at[i];
    }
    for (int i = 0; i < SWEEPS; i++) {
      order_sort(d, &order);
      sweep(d, means.at, i % 2 == 0);
    }
    order_sort(d, &order);
    boxes_set(d, &order);
  }
  GYRE__ARRAY_DROP(&order);
  GYRE__ARRAY_DROP(&means);
  return done;
}
