/* SPDX-License-Identifier: MIT */
#include "tests/support/node.h"

int (*node_on_finalize)(node *n);
void (*node_on_destroy)(node *n);

static gyre__atomic_u64 destroyed;
static gyre__atomic_u64 finalized;

static void count_destroyed(void *object) {
  /* relaxed: a count, read when the threads have been joined or talked to. */
  gyre__fetch_add_relaxed(&destroyed, 1);
  if (node_on_destroy != NULL) node_on_destroy(object);
}

static int count_finalized(void *object) {
  /* relaxed: as above. */
  gyre__fetch_add_relaxed(&finalized, 1);
  return node_on_finalize != NULL ? node_on_finalize(object) : 0;
}

GYRE_TYPE_DEFINE(plain_type, node, .slots = GYRE_SLOTS(node, next, other));
GYRE_TYPE_DEFINE(node_type, node, .slots = GYRE_SLOTS(node, next, other),
                 .destroy = count_destroyed);
GYRE_TYPE_DEFINE(finalized_type, node, .slots = GYRE_SLOTS(node, next, other),
                 .destroy = count_destroyed, .finalize = count_finalized);

static void count_leaf(void *object) {
  (void)object;
  /* relaxed: as above. */
  gyre__fetch_add_relaxed(&destroyed, 1);
}
gyre_type leaf_type = {.name = "leaf", .size = 24, .destroy = count_leaf};

int nodes_begin(void **state) {
  /* relaxed: as above. */
  gyre__store_relaxed(&destroyed, 0);
  gyre__store_relaxed(&finalized, 0);
  node_on_finalize = NULL;
  node_on_destroy = NULL;
  return test_begin_with(state);
}

uint64_t nodes_destroyed(void) {
  /* relaxed: as above. */
  return gyre__load_relaxed(&destroyed);
}

uint64_t nodes_finalized(void) {
  /* relaxed: as above. */
  return gyre__load_relaxed(&finalized);
}

node *node_new(gyre_type *type, uint64_t tag) {
  node *n = gyre_new(type);
  TEST_REQUIRE(n != NULL);
  n->tag = tag;
  return n;
}

void node_link(node *from, node *to) { gyre_store(&from->next, to); }

node *chain_new(gyre_type *type, size_t n) {
  node *first = NULL;
  for (size_t i = n; i > 0; i--) {
    node *before = node_new(type, i - 1);
    gyre_slot_init(&before->next, first);
    first = before;
  }
  return first;
}

node *ring_new(gyre_type *type, size_t n) {
  node *last = node_new(type, n - 1);
  node *first = gyre_retain(last);
  for (size_t i = n - 1; i > 0; i--) {
    node *before = node_new(type, i - 1);
    gyre_slot_init(&before->next, first);
    first = before;
  }
  gyre_store(&last->next, first);
  gyre_release(last);
  return first;
}

void ring_drop(gyre_type *type, size_t n) { gyre_release(ring_new(type, n)); }

void make_mortal(void *object) {
  gyre__header *h = gyre__header_of(object);
  /* relaxed: nobody else uses it. */
  gyre__store_relaxed(&h->owner, 0);
  gyre__store_relaxed(&h->local, 0);
  gyre__store_relaxed(&h->shared, gyre__shared_of(1, GYRE__MERGED));
}
