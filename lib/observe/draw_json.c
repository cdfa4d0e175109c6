/* SPDX-License-Identifier: MIT */
/* A picture as JSON: its objects, the references between them, and how many are not drawn. Nodes are named
 * by their places in "nodes". */
#include "lib/observe/draw.h"

static const char *truth(uint32_t flag) { return flag != 0 ? "true" : "false"; }

static void quoted(struct gyre__text *t, const char *text) {
  gyre__text_say(t, "\"");
  gyre__text_json(t, text);
  gyre__text_say(t, "\"");
}

static void object_write(const struct gyre__drawing *d, struct gyre__text *t,
                         const struct gyre__box *box) {
  const struct gyre__node *n = &d->g->nodes.at[box->node];
  gyre__text_format(t, "{\"node\":%u,\"address\":\"0x%llx\",\"type\":", box->node,
                    (unsigned long long)n->address);
  quoted(t, gyre__type(n->type)->name);
  gyre__text_format(t, ",\"bytes\":%llu,\"count\":", (unsigned long long)n->bytes);
  if (n->flags & GYRE_NODE_IMMORTAL)
    gyre__text_say(t, "null");
  else
    gyre__text_format(t, "%td", gyre__node_count(n));
  gyre__text_format(t, ",\"depth\":%u,\"seed\":%s,\"root\":%s,\"highlight\":%s,\"finalizer\":%s,",
                    box->depth, truth(box->is_seed), truth(box->is_root), truth(box->is_highlit),
                    truth(n->flags & GYRE_NODE_FINALIZER));
  gyre__text_format(t, "\"changed\":%s,\"label\":", truth(n->flags & GYRE_NODE_CHANGED));
  quoted(t, gyre__box_text(d, box));
  gyre__text_say(t, "}");
}

/* The number of a box among those of objects: they are numbered as they come. */
static uint32_t number_of(const struct gyre__drawing *d, uint32_t box) {
  return (uint32_t)d->boxes.at[box].place;
}

static void objects_write(struct gyre__drawing *d, struct gyre__text *t) {
  uint32_t number = 0;
  for (size_t i = 0; i < d->boxes.count; i++) {
    if (d->boxes.at[i].kind != GYRE__BOX_OBJECT) continue;
    gyre__text_say(t, number > 0 ? ",\n  " : "\n  ");
    d->boxes.at[i].place = number++;
    object_write(d, t, &d->boxes.at[i]);
  }
}

static void edges_write(const struct gyre__drawing *d, struct gyre__text *t) {
  const char *before = "\n  ";
  for (size_t i = 0; i < d->lines.count; i++) {
    const struct gyre__line *line = &d->lines.at[i];
    if (line->dotted) continue;
    gyre__text_format(t, "%s{\"from\":%u,\"to\":%u,\"field\":", before, number_of(d, line->from),
                      number_of(d, line->to));
    if (line->name[0] != 0)
      quoted(t, line->name);
    else
      gyre__text_say(t, "null");
    gyre__text_say(t, "}");
    before = ",\n  ";
  }
}

static void more_write(const struct gyre__drawing *d, struct gyre__text *t) {
  const char *before = "\n  ";
  bool back = d->picture.kind == GYRE_PICTURE_BACKREFS;
  for (size_t i = 0; i < d->lines.count; i++) {
    const struct gyre__line *line = &d->lines.at[i];
    uint32_t box = back ? line->from : line->to, of = back ? line->to : line->from;
    if (d->boxes.at[box].kind != GYRE__BOX_MORE) continue;
    gyre__text_format(t, "%s{\"of\":%u,\"count\":%u}", before, number_of(d, of),
                      d->boxes.at[box].more);
    before = ",\n  ";
  }
}

void gyre__draw_json(struct gyre__drawing *d, struct gyre__text *t) {
  static const char *const kinds[] = {"refs", "backrefs", "chain"};
  gyre__text_format(t, "{\"version\":1,\"kind\":\"%s\",\n\"nodes\":[", kinds[d->picture.kind]);
  objects_write(d, t);
  gyre__text_say(t, "],\n\"edges\":[");
  edges_write(d, t);
  gyre__text_say(t, "],\n\"more\":[");
  more_write(d, t);
  gyre__text_say(t, "]}\n");
}
