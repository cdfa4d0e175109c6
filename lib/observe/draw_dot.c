/* SPDX-License-Identifier: MIT */
/* A picture for Graphviz. */
#include "lib/observe/draw.h"

static void box_write(const struct gyre__drawing *d, struct gyre__text *t, uint32_t i) {
  const struct gyre__box *box = &d->boxes.at[i];
  char fill[8];
  gyre__color_text(box->fill, fill);
  gyre__text_format(t, "  b%u[label=\"", i);
  gyre__text_dot(t, gyre__box_text(d, box));
  gyre__text_format(t, "\",fillcolor=\"%s\"", fill);
  switch (box->kind) {
  case GYRE__BOX_OBJECT:
    if (box->is_seed || box->dark)
      gyre__text_format(t, ",fontcolor=%s", box->is_seed ? "red" : "white");
    break;
  case GYRE__BOX_MORE:
    gyre__text_say(t, ",shape=box,height=0.25,color=red,fontcolor=white,fontsize=6");
    break;
  case GYRE__BOX_FINALIZER:
    gyre__text_say(t, ",shape=doublecircle,height=0.25,color=red,fontsize=6");
    break;
  }
  gyre__text_say(t, "];\n");
}

static void line_write(struct gyre__text *t, const struct gyre__line *line) {
  gyre__text_format(t, "  b%u -> b%u", line->from, line->to);
  if (line->dotted) {
    gyre__text_say(t, "[color=red,style=dotted,len=0.25,weight=10]");
  } else if (line->name[0] != 0) {
    gyre__text_say(t, "[label=\"");
    gyre__text_dot(t, line->name);
    gyre__text_say(t, "\"]");
  }
  gyre__text_say(t, ";\n");
}

void gyre__draw_dot(const struct gyre__drawing *d, struct gyre__text *t) {
  gyre__text_say(t, "digraph gyre {\n  node[shape=box,style=filled,fillcolor=white];\n");
  for (uint32_t i = 0; i < d->boxes.count; i++)
    box_write(d, t, i);
  for (size_t i = 0; i < d->lines.count; i++)
    line_write(t, &d->lines.at[i]);
  gyre__text_say(t, "}\n");
}
