/* SPDX-License-Identifier: MIT */
/* Why objects are still alive, and whether their counts are right.
 *
 * The verdict compares an object's count with the references to it that the copy of the heap has. A count
 * beyond them belongs to something that is no object: a variable, a foreign container, or a release that
 * was forgotten. What is not reachable from any object with such a count, or from a root, is garbage, as for
 * the collector. An object that changed while the copy was made gets no verdict, and counts as held, so
 * that nothing that it may refer to is called garbage.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/observe/graph.h"

/* ---- verdicts ---- */

ptrdiff_t gyre_graph_leaking(gyre_graph *g, size_t *out, size_t room) {
  if (!gyre__graph_back_edges(g)) return -ENOMEM;
  ptrdiff_t count = 0;
  uint32_t no = GYRE_NODE_CHANGED | GYRE_NODE_DEAD;
  for (size_t i = 0; i < g->nodes.count; i++) {
    if (g->nodes.at[i].flags & no || gyre__node_is_root(g, i)) continue;
    if (gyre__node_referrers(g, i) != 0) continue;
    if ((size_t)count < room) out[count] = i;
    count++;
  }
  return count;
}

static enum gyre_verdict verdict_of(gyre_graph *g, size_t node, const gyre_growth *growth) {
  const struct gyre__node *n = &g->nodes.at[node];
  if (gyre__node_is_root(g, node)) return GYRE_VERDICT_ROOT;
  if (n->flags & (GYRE_NODE_CHANGED | GYRE_NODE_DEAD)) return GYRE_VERDICT_UNKNOWN;
  ptrdiff_t excess = gyre__node_count(n) - (ptrdiff_t)gyre__node_referrers(g, node);
  if (excess < 0) return GYRE_VERDICT_UNDERCOUNT;
  if (excess > 0) return GYRE_VERDICT_OVERCOUNT;
  if (!g->alive.at[node]) return GYRE_VERDICT_GARBAGE;
  if (growth != NULL && gyre_growth_has_grown(growth, gyre__node_type(g, node)))
    return GYRE_VERDICT_GROWING;
  return GYRE_VERDICT_REACHABLE;
}

int gyre_graph_verdict(gyre_graph *g, size_t node, const gyre_growth *growth, ptrdiff_t *excess) {
  if (node >= g->nodes.count) return -ERANGE;
  if (!gyre__graph_alive(g)) return -ENOMEM;
  const struct gyre__node *n = &g->nodes.at[node];
  if (excess != NULL)
    *excess = n->flags & GYRE_NODE_IMMORTAL
                  ? 0
                  : gyre__node_count(n) - (ptrdiff_t)gyre__node_referrers(g, node);
  return (int)verdict_of(g, node, growth);
}

const char *gyre_verdict_text(enum gyre_verdict verdict) {
  switch (verdict) {
  case GYRE_VERDICT_UNKNOWN:
    return "changed while it was looked at";
  case GYRE_VERDICT_ROOT:
    return "root";
  case GYRE_VERDICT_GARBAGE:
    return "unreachable cycle";
  case GYRE_VERDICT_OVERCOUNT:
    return "count higher than its references explain";
  case GYRE_VERDICT_GROWING:
    return "reachable and growing";
  case GYRE_VERDICT_REACHABLE:
    return "reachable";
  case GYRE_VERDICT_UNDERCOUNT:
    return "count lower than its references";
  }
  return "?";
}

/* ---- the hottest counts ----
 *
 * Nothing is recorded where counts change. Instead the shared words of all objects that are shared by
 * threads are read again and again; the oftener one has changed between two looks, the more threads spend
 * on it. A word that is back at its old value at a look is missed then, so the figure is for comparing. */

struct watched {
  const gyre__header *h;
  uint32_t type;
  uint32_t shared;
  uint32_t changes;
};
typedef GYRE__ARRAY(struct watched) watch_list;

static bool is_shared(uint64_t word, uint32_t shared) {
  uint32_t state = gyre__state_of(shared);
  if (!gyre__peeked_alive(word) || state == GYRE__IMMORTAL_STATE) return false;
  return state == GYRE__MERGED || (shared & GYRE__PUBLISHED) != 0;
}

static bool watch_page(watch_list *list, const struct gyre__object_page *p) {
  const char *block = p->page->start;
  for (uint32_t i = 0; i < p->end; i++, block += p->page->block_size) {
    const gyre__header *h = (const gyre__header *)(const void *)block;
    uint64_t word = gyre__header_peek(h);
    /* relaxed: a figure. */
    uint32_t shared = gyre__load_relaxed(&h->shared);
    if (!is_shared(word, shared)) continue;
    struct watched one = {.h = h, .type = gyre__peeked_type(word), .shared = shared};
    if (!GYRE__ARRAY_PUSH(list, one)) return false;
  }
  return true;
}

static void watch_again(watch_list *list) {
  for (size_t i = 0; i < list->count; i++) {
    if (i % 4096 == 0) gyre_safepoint();
    if (i + 16 < list->count) __builtin_prefetch(&list->at[i + 16].h->shared);
    struct watched *one = &list->at[i];
    /* relaxed: a figure. */
    uint32_t shared = gyre__load_relaxed(&one->h->shared);
    one->changes += shared != one->shared;
    one->shared = shared;
  }
}

static int by_heat(const void *a, const void *b) {
  const struct watched *x = a, *y = b;
  if (x->changes != y->changes) return x->changes < y->changes ? 1 : -1;
  int32_t m = gyre__count_of(x->shared), n = gyre__count_of(y->shared);
  if (m != n) return m < n ? 1 : -1;
  return (x->h > y->h) - (x->h < y->h);
}

/* Keeps those that are not gone; says which they are. */
static void watch_finish(watch_list *list) {
  size_t to = 0;
  for (size_t i = 0; i < list->count; i++) {
    uint64_t word = gyre__header_peek(list->at[i].h);
    if (!is_shared(word, list->at[i].shared) || gyre__peeked_type(word) != list->at[i].type)
      continue;
    list->at[to++] = list->at[i];
  }
  list->count = to;
  if (to > 1) qsort(list->at, to, sizeof *list->at, by_heat);
}

ptrdiff_t gyre_heap_hottest(unsigned looks, struct gyre_hot_count *out, size_t room) {
  if (looks < 1 || looks > 1000 || (out == NULL && room != 0)) return -EINVAL;
  struct gyre__objects *self;
  int cancel;
  ptrdiff_t result = gyre__look_begin(&self, &cancel);
  if (result != 0) return result;
  struct gyre__object_pages pages;
  watch_list list = {0};
  if (!gyre__object_pages_gather(&pages)) result = -ENOMEM;
  for (size_t i = 0; i < pages.pages.count && result == 0; i++) {
    gyre_safepoint();
    if (!watch_page(&list, &pages.pages.at[i])) result = -ENOMEM;
  }
  for (unsigned look = 1; look < looks && result == 0; look++)
    watch_again(&list);
  if (result == 0) watch_finish(&list);
  gyre__object_pages_drop(&pages);
  gyre__look_end(self, cancel);
  for (size_t i = 0; i < list.count && i < room && result == 0; i++)
    out[i] = (struct gyre_hot_count){
        .address = (const char *)list.at[i].h + GYRE_HEADER_SIZE,
        .type = gyre__type(list.at[i].type),
        .changes = list.at[i].changes,
        .shared = gyre__count_of(list.at[i].shared),
    };
  if (result == 0) result = (ptrdiff_t)list.count;
  GYRE__ARRAY_DROP(&list);
  return result;
}
