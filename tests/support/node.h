/* SPDX-License-Identifier: MIT */
/* Objects that tests build graphs of, and what has become of them. They are counted when they die,
 * and tell a hook. */
#ifndef GYRE_TESTS_SUPPORT_NODE_H
#define GYRE_TESTS_SUPPORT_NODE_H

#include "tests/support/support.h"

typedef struct node {
  GYRE_SLOT(struct node) next;
  GYRE_SLOT(struct node) other;
  uint64_t tag;
} node;

/* No hooks at all. */
extern gyre_type plain_type;
/* Counts its deaths. */
extern gyre_type node_type;
/* Counts its deaths and its finalizations, and then calls node_on_finalize, if that is set, in the
 * finalizer. */
extern gyre_type finalized_type;

/* A leaf that counts its deaths, with the nodes'. */
extern gyre_type leaf_type;

extern int (*node_on_finalize)(node *n);
/* Called by the destroy hook of the types that count. */
extern void (*node_on_destroy)(node *n);

/* A test with these counts at 0 and the hooks unset, and with automatic collection off; or with
 * other options. */
#define NODE_TEST(name) NODE_TEST_WITH(name, "gc:0")
#define NODE_TEST_WITH(name, options)                                                              \
  { #name, name, nodes_begin, test_end, (void *)(uintptr_t)(options) }
int nodes_begin(void **state);

uint64_t nodes_destroyed(void);
uint64_t nodes_finalized(void);

/* A new object of that type with this tag; must succeed. */
node *node_new(gyre_type *type, uint64_t tag);
/* Points from->next to `to` (a reference more). */
void node_link(node *from, node *to);
/* n nodes, each referred to by the one before, and the first by the last. Returns the first, with a
 * reference of the caller's. */
node *ring_new(gyre_type *type, size_t n);
/* The same without the last reference. */
node *chain_new(gyre_type *type, size_t n);
/* A ring that nobody refers to. */
void ring_drop(gyre_type *type, size_t n);

/* Ends the immortality of an object that nobody else uses, so that the test can release it: the
 * count is 1. */
void make_mortal(void *object);

#endif
