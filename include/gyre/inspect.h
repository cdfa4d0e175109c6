/* SPDX-License-Identifier: MIT */
/* gyre/inspect.h: what is in the heap, who refers to whom, and why something is still alive.
 *
 * Two ways to look. The *census* counts objects by type; it reads a header an object and keeps nothing:
 *
 *     struct gyre_type_count most[10];
 *     ptrdiff_t types = gyre_heap_most_common(most, 10);
 *
 * A *graph* is a copy of the heap's objects and references, to be asked at leisure:
 *
 *     gyre_graph *graph = gyre_graph_new(0);
 *     ptrdiff_t node = gyre_graph_at(graph, session);
 *     struct gyre_link path[20];
 *     ptrdiff_t n = gyre_graph_backref_chain(graph, node, gyre_graph_is_held, NULL, 20, path, 20);
 *     gyre_graph_free(graph);
 *
 * The questions are those of Python's objgraph and guppy (heapy), and they work on all objects of this
 * library, leaves included; blocks of gyre_malloc() are none.
 *
 *
 * What a copy is worth. In mode stw, or with GYRE_GRAPH_EXACT, the other threads are stopped while it is
 * made, and it is the heap as it was then. In mode concurrent they run, and
 *
 *   - every object that was alive throughout is a node, once; one that was made meanwhile may be;
 *   - every node was alive at some time meanwhile, and no block was used for two objects: an address is
 *     one node;
 *   - every reference was in its field at some time meanwhile, and leads to a node;
 *   - a node that is not GYRE_NODE_CHANGED had the same count all the time; all references to it that
 *     were copied were still there at the end, and none was taken away from it. What it lacks is at most
 *     a reference that a variable held when the copy was begun, and that was put into a field later: it
 *     counts as held from outside, which it was;
 *   - all others are GYRE_NODE_CHANGED: counted, moved, locked (if their type has a visit function),
 *     looked through by their owner's own collection, made or destroyed meanwhile. No verdict is passed
 *     on them, and they count as held from outside.
 *
 * The copy delays what dies meanwhile (blocks are reused after it), it makes counting slower for the time
 * (as the collector's proof does), and a collection that is due then runs afterwards; it changes none of
 * the figures by which collections are started.
 *
 * A node's address says which object it was, but is no reference: the object may be gone, and another in
 * its place. With GYRE_GRAPH_RETAIN the graph holds a counted reference to each object, so that none is
 * replaced while the graph lives; gyre_graph_retain() gives out references of the caller's own.
 *
 * Memory is the library's own mappings, not the heap: 36 bytes an object and 8 a reference; for questions
 * that go backwards 4 and 8 more.
 *
 * Who may do what: gyre_heap_*() and gyre_graph_new() may be called by any attached thread that is not
 * parked (others are attached); they pass safepoints, finish what the thread has released (with all that
 * gyre_release() may do), and wait, parked, for a collection that is under way.
 * Inside a collection (in a finalizer or callback that it runs, or in a visit function) they fail with
 * EBUSY. A graph may be used by one thread at a time, which need not be attached.
 */
#ifndef GYRE_INSPECT_H
#define GYRE_INSPECT_H

#include <gyre/gc.h>

GYRE_BEGIN_DECLS

/* ---- the census -------------------------------------------------------------------------------
 */

/* Objects of one type. */
struct gyre_type_count {
  const gyre_type *type;
  uint64_t count;
  uint64_t bytes;       /* as gyre_sizeof(), summed up */
  uint64_t block_bytes; /* of memory that they take, headers included */
};

/* Counts the live objects by type. Writes up to `room` entries in the order of the types' names and
 * returns how many types have objects (`out` may be NULL if room is 0), or -EBUSY, -ENOMEM, -EAGAIN if
 * the thread cannot attach. Nobody is stopped in any mode; who is alive throughout is counted, who is
 * made or dies meanwhile may be. Some nanoseconds an object. */
GYRE_API ptrdiff_t gyre_heap_typestats(struct gyre_type_count *out, size_t room);

/* The same, those with most objects first. */
GYRE_API ptrdiff_t gyre_heap_most_common(struct gyre_type_count *out, size_t room);

/* The most common types as a table, `limit` lines of it (0: all). 0 or a negative errno value. */
GYRE_API int gyre_heap_show_most_common(size_t limit, gyre_text_sink *sink, void *arg);

/* How many objects of this type there are. As above. */
GYRE_API ptrdiff_t gyre_heap_count(const gyre_type *type);

/* What gyre_heap_growth() remembers: for each type, the most objects it ever saw. */
typedef struct gyre_growth gyre_growth;

/* One that remembers nothing. NULL with errno ENOMEM. Any thread; one at a time uses it. */
GYRE_API gyre_growth *gyre_growth_new(void);
GYRE_API void gyre_growth_free(gyre_growth *growth);

struct gyre_type_growth {
  const gyre_type *type;
  uint64_t count;
  uint64_t increase; /* over the most there had been */
};

/* Collects (gyre_gc_collect(2), with all that this may do), takes a census, and tells which types have
 * more objects than ever before, those with the largest increase first: up to `room` of them. Returns how
 * many such types there are, or a negative errno value as above; then nothing is remembered. */
GYRE_API ptrdiff_t gyre_heap_growth(gyre_growth *growth, struct gyre_type_growth *out, size_t room);

/* The same as a table, `limit` lines of it (0: all). 0 or a negative errno value. */
GYRE_API int gyre_heap_show_growth(gyre_growth *growth, size_t limit, gyre_text_sink *sink,
                                   void *arg);

/* Has the type grown in the last look with this state? 1 or 0. */
GYRE_API int gyre_growth_has_grown(const gyre_growth *growth, const gyre_type *type);

/* ---- the graph --------------------------------------------------------------------------------
 */

typedef struct gyre_graph gyre_graph;

enum {
  /* Stop the other threads while the copy is made. */
  GYRE_GRAPH_EXACT = 1u << 0,
  /* Hold a counted reference to each object until the graph is freed; but not to those that died
   * meanwhile, to immortal ones, and, without GYRE_GRAPH_EXACT, to any that is GYRE_NODE_CHANGED. Such
   * objects count as shared by threads from then on, so their owners leave them to the collector. */
  GYRE_GRAPH_RETAIN = 1u << 1,
};

/* A copy of the heap. NULL with errno EINVAL (unknown flags), EBUSY, ENOMEM, EOVERFLOW (2^32 - 1 objects or
 * references), EAGAIN. With GYRE_GRAPH_RETAIN references may be released in this call. */
GYRE_API gyre_graph *gyre_graph_new(unsigned flags);

/* Frees the copy, and releases what it holds, with all that gyre_release() may do. NULL is allowed. */
GYRE_API void gyre_graph_free(gyre_graph *graph);

/* Nodes are numbered from 0 to below this, in the order of their addresses but for the last few. */
GYRE_API size_t gyre_graph_nodes(const gyre_graph *graph);
GYRE_API size_t gyre_graph_edges(const gyre_graph *graph);

/* Of a node. */
enum {
  GYRE_NODE_CHANGED = 1u << 0, /* see above */
  GYRE_NODE_PARTIAL =
      1u << 1, /* its own references were not copied, or not all: somebody had it locked,
                                    or it was made meanwhile */
  GYRE_NODE_NEW = 1u << 2,       /* made while the graph was */
  GYRE_NODE_DEAD = 1u << 3,      /* destroyed while the graph was made, or just being destroyed */
  GYRE_NODE_IMMORTAL = 1u << 4,  /* its count says nothing */
  GYRE_NODE_STATIC = 1u << 5,    /* GYRE_STATIC_OBJECT */
  GYRE_NODE_FINALIZER = 1u << 6, /* has a finalizer that has not run */
  GYRE_NODE_FINALIZED = 1u << 7, /* had one, which has */
  GYRE_NODE_WEAK = 1u << 8,      /* has, or had, a weak reference */
  GYRE_NODE_PUBLISHED = 1u << 9, /* not only its owner has counted it */
  GYRE_NODE_LEAF = 1u << 10,     /* of a type without references */
  GYRE_NODE_NAMED = 1u << 11,    /* a named root */
  GYRE_NODE_RETAINED = 1u << 12, /* the graph holds it */
  GYRE_NODE_APART = 1u << 13,    /* untracked or frozen: no collection looks at it */
};

/* What the copy knows of an object. The caller sets size = sizeof(struct gyre_node). */
struct gyre_node {
  size_t size;
  const void *address; /* of the object; not to be followed */
  const gyre_type *type;
  size_t bytes;     /* as gyre_sizeof() */
  ptrdiff_t count;  /* as gyre_refcount(); GYRE_IMMORTAL */
  uint32_t local;   /* of these, in its owner's word, */
  int32_t shared;   /* and in the one that threads share */
  int generation;   /* 0 to 2 */
  unsigned flags;   /* GYRE_NODE_... */
  size_t referents; /* references that it holds */
  size_t referrers; /* references to it, from objects */
  const char *root; /* the name of a named root, or NULL; until another is named */
};

/* Fills *out, at most out->size bytes of it. 0; -EINVAL; -ERANGE if there is no such node; -ENOMEM for what
 * the first question backwards needs. */
GYRE_API int gyre_graph_node(gyre_graph *graph, size_t node, struct gyre_node *out);

/* The node of the object at this address, or one whose body the address is in; -ENOENT. */
GYRE_API ptrdiff_t gyre_graph_at(const gyre_graph *graph, const void *address);

/* The nodes of this type: writes up to `room` of them, returns how many there are. */
GYRE_API ptrdiff_t gyre_graph_by_type(const gyre_graph *graph, const gyre_type *type, size_t *out,
                                      size_t room);

/* One more counted reference to the node's object, which is the caller's, if the graph holds it; otherwise
 * NULL with errno EPERM (the graph holds nothing), ESRCH (not this object), or ERANGE. */
GYRE_API void *gyre_graph_retain(gyre_graph *graph, size_t node);

/* Says that the node is a root, under this name (copied; NULL: no longer). The named roots of the program are
 * there from the start. 0, -ERANGE or -ENOMEM. */
GYRE_API int gyre_graph_name_root(gyre_graph *graph, size_t node, const char *name);

/* A reference in an object: the node at its other end, and the field that it is in. */
struct gyre_link {
  size_t node;
  const char *field; /* as in the type's layout; "[]" for a bare slot in an array; NULL if a visit
                        function reported it, or if there is no reference */
  size_t element;    /* which element of the array it is in; SIZE_MAX if in none */
};

/* The name of a link's field as a program would write it: "next", "[3]", "[3].key"; "" for none. Written into
 * buffer[0..size), always ended with 0. Returns the length needed without it. */
GYRE_API size_t gyre_link_name(const struct gyre_link *link, char *buffer, size_t size);

/* What the node refers to, in the order of its layout; and what refers to it. Writes up to `room`, returns
 * how many there are, or -ERANGE, -ENOMEM. */
GYRE_API ptrdiff_t gyre_graph_referents(gyre_graph *graph, size_t node, struct gyre_link *out,
                                        size_t room);
GYRE_API ptrdiff_t gyre_graph_referrers(gyre_graph *graph, size_t node, struct gyre_link *out,
                                        size_t room);

/* A question about a node: 1 or 0. For the functions below; gyre_graph_is_root() and gyre_graph_is_held()
 * are some, with arg NULL. */
typedef int gyre_node_test(gyre_graph *graph, size_t node, void *arg);

/* Is it a named root, or immortal? What objgraph takes modules for. */
GYRE_API int gyre_graph_is_root(gyre_graph *graph, size_t node, void *arg);
/* Is it a root, or does anything but objects hold it: has it more counts than there are references to it
 * from objects, or is that unknown because it changed? */
GYRE_API int gyre_graph_is_held(gyre_graph *graph, size_t node, void *arg);

/* ---- chains ---- */

/* The shortest way, by breadth, from `node` along references to a node that passes the test (`node` itself
 * is asked first), no longer than max_depth references (objgraph: 20). Writes up to `room` links: the first
 * is `node`, and each says by which field it refers to the next. Returns how many nodes the way has; just
 * the start, 1, if there is none; -ERANGE or -ENOMEM. */
GYRE_API ptrdiff_t gyre_graph_ref_chain(gyre_graph *graph, size_t node, gyre_node_test *test,
                                        void *arg, size_t max_depth, struct gyre_link *out,
                                        size_t room);
/* The same against the references: from a node that passes the test to `node`, which comes last. If it is
 * longer than `room`, the first links are written. */
GYRE_API ptrdiff_t gyre_graph_backref_chain(gyre_graph *graph, size_t node, gyre_node_test *test,
                                            void *arg, size_t max_depth, struct gyre_link *out,
                                            size_t room);

/* ---- what would be freed, and what keeps it ---- */

/* The node that all ways from outside to this node lead through, nearest to it (its immediate dominator);
 * -ENOENT if there is none, as for what is held itself or for garbage. The first call computes all of them
 * and takes some 0.5 us a node. -ERANGE, -ENOMEM. */
GYRE_API ptrdiff_t gyre_graph_dominator(gyre_graph *graph, size_t node);

/* What would go with the node if all references to it went: itself and what it dominates (heapy's
 * "domisize"). Either pointer may be NULL. 0, -ERANGE, -ENOMEM. */
GYRE_API int gyre_graph_retained(gyre_graph *graph, size_t node, uint64_t *bytes,
                                 uint64_t *objects);

/* Objects that no object refers to and that nothing else is known to need: no roots, not changed. A
 * variable holds each of them, or somebody has forgotten to release it; or it waits for a grace period
 * (gyre_retire(), also of what lists have replaced). Writes up to `room` nodes, returns how many there are, or
 * -ENOMEM. */
GYRE_API ptrdiff_t gyre_graph_leaking(gyre_graph *graph, size_t *out, size_t room);

/* Why an object is alive. */
enum gyre_verdict {
  GYRE_VERDICT_UNKNOWN, /* it changed while the graph was made, or was made or died then */
  GYRE_VERDICT_ROOT,    /* a named root, or immortal */
  GYRE_VERDICT_GARBAGE, /* part of a dead cycle, or only reachable from one; waits for the collector */
  GYRE_VERDICT_OVERCOUNT, /* has more counts than references from objects explain: a variable or something
                             foreign holds it, or a release was forgotten */
  GYRE_VERDICT_GROWING,   /* reachable, and there are more and more of its type */
  GYRE_VERDICT_REACHABLE, /* an object that lives refers to it */
  GYRE_VERDICT_UNDERCOUNT, /* has fewer counts than references: a count is wrong, or a visit function */
};

/* The verdict on a node. `growth`, if not NULL, says which types grow. *excess, if not NULL, gets the counts
 * beyond the references to it. Negative: -ERANGE, -ENOMEM. Of an entry of an ephemeron map (gyre/weakmap.h)
 * the map has the reference, as it has the count; but the value is reachable only if the key is, too. */
GYRE_API int gyre_graph_verdict(gyre_graph *graph, size_t node, const gyre_growth *growth,
                                ptrdiff_t *excess);
/* "unreachable cycle", and so on. Static. */
GYRE_API const char *gyre_verdict_text(enum gyre_verdict verdict);

/* ---- partition ---- */

enum gyre_grouping {
  GYRE_BY_TYPE,
  GYRE_BY_SIZE, /* of each object */
  GYRE_BY_REFERRERS, /* the set of types that refer to it (heapy's byrcs); "held" if something outside does */
  GYRE_BY_GENERATION,
  GYRE_BY_VERDICT,
};

/* A row of heapy's table. */
struct gyre_partition_row {
  char label[120];
  uint64_t count, bytes;
  double count_percent, bytes_percent; /* of the whole */
  uint64_t cumulative_bytes;           /* of this row and those before it */
  double cumulative_percent;
};

/* Divides the nodes into groups, the largest in bytes first. With `base`, a graph made before, its groups'
 * figures are taken off by their labels, and groups that have not grown are left out. Writes up to `room`
 * rows, returns how many there are, or -EINVAL, -ENOMEM. */
GYRE_API ptrdiff_t gyre_graph_partition(gyre_graph *graph, enum gyre_grouping grouping,
                                        gyre_graph *base, struct gyre_partition_row *out,
                                        size_t room);
/* The same as a table, `limit` rows of it (0: all). 0 or a negative errno value. */
GYRE_API int gyre_graph_show_partition(gyre_graph *graph, enum gyre_grouping grouping,
                                       gyre_graph *base, size_t limit, gyre_text_sink *sink,
                                       void *arg);

/* ---- pictures ---- */

enum gyre_picture_kind {
  GYRE_PICTURE_REFS,     /* what the seeds refer to */
  GYRE_PICTURE_BACKREFS, /* what refers to them */
  GYRE_PICTURE_CHAIN,    /* the seeds, which refer to each other, and no others */
};
enum gyre_picture_format {
  GYRE_PICTURE_DOT, /* for Graphviz */
  GYRE_PICTURE_SVG, /* laid out by this library */
  GYRE_PICTURE_HTML, /* a page with that picture and a table of its nodes, which needs nothing else */
  GYRE_PICTURE_JSON,
};

/* What is drawn, as objgraph does. The caller sets size = sizeof(struct gyre_picture); zero is the default
 * for everything else. */
struct gyre_picture {
  size_t size;
  enum gyre_picture_kind kind;
  size_t max_depth; /* references from a seed; 0: 3. Use SIZE_MAX for no bound */
  size_t too_many;  /* references of a node that are followed; the others are "n more". 0: 10 */
  int refcounts;    /* 1: with counts */
  gyre_node_test *filter;    /* 0: leave the node out */
  gyre_node_test *highlight; /* 1: in blue */
  /* Another line of a node's label, into buffer[0..size), as UTF-8; a negative result means none. */
  int (*extra_info)(gyre_graph *graph, size_t node, char *buffer, size_t size, void *arg);
  void *arg; /* for these three */
};

/* The JSON is one object. "nodes" are objects with node, address (text), type, bytes, count (null: immortal),
 * depth, seed, root, highlight, finalizer, changed, and label; "edges" have from, to, which are places in
 * "nodes", and field (null: a visit function reported it); "more" has of, a place too, and count: so many
 * references of that node were not followed. "version" is 1, "kind" refs, backrefs or chain. */

/* Draws the surroundings of some nodes. `picture` may be NULL. 0, -EINVAL, -ERANGE, -ENOMEM, or what the sink
 * returned. The three functions of the picture are called before anything is written. */
GYRE_API int gyre_graph_write(gyre_graph *graph, const size_t *seeds, size_t count,
                              const struct gyre_picture *picture, enum gyre_picture_format format,
                              gyre_text_sink *sink, void *arg);

/* ---- counts ---- */

/* An object whose shared count several threads use. */
struct gyre_hot_count {
  const void *address; /* not to be followed */
  const gyre_type *type;
  uint32_t changes; /* looks at which its shared word was another than at the look before */
  int32_t shared;   /* the count in it at the last look */
};

/* Looks `looks` times (1 to 1000) at the shared word of each object that not only its owner has counted, and
 * tells which changed most often, then which have most counts: up to `room` of them. The others run on and
 * pay nothing. Returns how many such objects there are, or -EINVAL, -EBUSY, -ENOMEM, -EAGAIN. */
GYRE_API ptrdiff_t gyre_heap_hottest(unsigned looks, struct gyre_hot_count *out, size_t room);

/* Stops the other threads and tries the visit function of each object that has one (and that is not
 * locked): it must report the same references when called twice, no object oftener than it is counted,
 * and must not allocate, count, or lock. Each fault is a line in the log that names the object and its
 * type. Option "check_visits:1" has this done before each full collection that is asked for. Returns the
 * number of faults, or -EBUSY, -ENOMEM, -EAGAIN. */
GYRE_API ptrdiff_t gyre_heap_check_visits(void);

GYRE_END_DECLS

#endif
