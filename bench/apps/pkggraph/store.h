/* SPDX-License-Identifier: MIT */
/* What the program needs of a package graph, whatever its memory comes from.
 *
 * A *package* is a name that anything refers to; it has a number once the store is sealed, by the
 * order of the names. It has *versions* (none if it is virtual or missing), each of which has
 * *edges* to the packages that it depends on, conflicts with and so on, and an *edge list* of the
 * edges that lead to it. The strings among it are *texts*, one for each content. References:
 *
 *     registry --> package --> text                  (its name)
 *                     |  ^
 *                     |  +---- version --> text      (its number, its architecture)
 *                     |           |  ^
 *                     |           v  |
 *                     |          edge --> text       (the version it asks for)
 *                     |           |  ^
 *                     |  package <+  |
 *                     +--> edge list +
 *
 * so that each package is in cycles with its own versions, and with all packages that depend on
 * it. The registry's references are the *roots*. What no root reaches is garbage.
 *
 * There are two stores: in one, gyre counts and collects; in the other, the program owns
 * malloc()ed blocks and knows by itself what to free.
 *
 * Life of a store: open, add by several threads, seal, visits, then cuts and drops each followed
 * by a reclaim, close. close may follow anything.
 */
#ifndef GYRE_BENCH_APPS_PKGGRAPH_STORE_H
#define GYRE_BENCH_APPS_PKGGRAPH_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "bench/apps/pkggraph/parse.h"
#include "bench/apps/pkggraph/team.h"

struct store;

/* A version and an edge as visitors see them; what is in it is theirs until they return. */
struct version_view {
  const char *version;
  const char *architecture; /* "" if unknown */
};
struct edge_view {
  uint32_t from;
  uint32_t to;
  uint8_t kind;
  uint8_t relation;
  uint16_t group;
  void *edge; /* the store's own, for edge_texts() */
};

/* What few visitors want to know of an edge. */
struct edge_texts {
  const char *from;  /* the version that has the edge */
  const char *asked; /* the version asked for, "" with RELATION_ANY */
};

/* Non-zero ends the visit and is its result. */
typedef int version_visitor(const struct version_view *version, void *arg);
typedef int edge_visitor(const struct edge_view *edge, void *arg);

struct store_ops {
  const char *name;

  /* An empty store for an index of about so many bytes. NULL if there is no memory. */
  struct store *(*open)(size_t index_bytes);

  /* Adds a version and its edges. Any thread. 0 or -ENOMEM. */
  int (*add)(struct store *store, const struct paragraph *paragraph);

  /* Ends the adding: numbers the packages, makes the registry and the edge lists, lets go of what
   * was only needed to find texts and packages by name. 0 or a negative errno value. */
  int (*seal)(struct store *store, const struct team *team);

  /* The rest is for a sealed store. */
  uint32_t (*package_count)(const struct store *store);

  /* The name of a package whose root is still there; valid until the root is dropped. */
  const char *(*package_name)(struct store *store, uint32_t package);

  /* The versions of a package, the edges that leave it, those that lead to it; in no particular
   * order. Nothing if its root was dropped. Any thread. */
  int (*visit_versions)(struct store *store, uint32_t package, version_visitor *visit, void *arg);
  int (*visit_edges_out)(struct store *store, uint32_t package, edge_visitor *visit, void *arg);
  int (*visit_edges_in)(struct store *store, uint32_t package, edge_visitor *visit, void *arg);

  /* The texts of an edge. From visitors of edges. */
  struct edge_texts (*edge_texts)(const struct edge_view *edge);

  /* Gives up a package's edge list; gives up its root. Any thread, one for each package. */
  void (*cut)(struct store *store, uint32_t package);
  void (*drop)(struct store *store, uint32_t package);

  /* Frees all that no root reaches any more. One thread, while no other uses the store. 0, or a
   * negative errno value. */
  int (*reclaim)(struct store *store);

  /* Frees everything. NULL is allowed. 0, or a negative errno value if something must be left
   * behind. */
  int (*close)(struct store *store);

  /* How this store's threads run, wait and pause: struct team. */
  int (*run)(unsigned members, void *(*work)(void *), void *arg);
  void (*pause)(void);
};

extern const struct store_ops gyre_store_ops;
extern const struct store_ops malloc_store_ops;

#endif
