/* SPDX-License-Identifier: MIT */
/* The package graph as gyre objects: every arrow of store.h is a slot, and nothing here decides
 * when an object dies.
 *
 * While several threads add, texts and packages are found by a hash table with a chain of entries
 * a bucket. Entries are only ever put at a chain's head, with a compare-and-exchange of the
 * bucket; who fails looks at what came in front meanwhile. An entry's package is put there the
 * same way by the first thread that needs it. A package's versions are a chain that grows at its
 * head, too. So no thread waits for another.
 *
 * The chains of the table die with the table when the store is sealed, long before the packages
 * do; hence entries are objects of their own and not fields of texts or packages, which would
 * hold each other.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <gyre/gyre.h>

#include "bench/apps/pkggraph/hash.h"
#include "bench/apps/pkggraph/ledger.h"
#include "bench/apps/pkggraph/store.h"

/* ---- objects ---- */

typedef struct text {
  uint32_t length;
  char bytes[]; /* with a 0 at the end */
} text;

typedef struct package {
  GYRE_SLOT(text) name;
  GYRE_SLOT(struct version) versions; /* the first of a chain */
  GYRE_SLOT(struct edge_list) incoming;
  /* Set while the store is sealed, before the registry is there for others; then constant. */
  uint32_t number;
  /* Counts, by any thread: the edges that lead here while versions are added, then the places of
   * the edge list that are not filled yet. */
  _Atomic uint32_t incoming_count;
} package;

typedef struct version {
  GYRE_SLOT(struct version) next;
  GYRE_SLOT(package) package;
  GYRE_SLOT(text) number;
  GYRE_SLOT(text) architecture;
  GYRE_SLOT(struct edge) edges[];
} version;

typedef struct edge {
  GYRE_SLOT(version) from;
  GYRE_SLOT(package) to;
  GYRE_SLOT(text) version;
  uint16_t group;
  uint8_t kind;
  uint8_t relation;
} edge;

typedef struct edge_list {
  size_t length;
  GYRE_SLOT(edge) edges[];
} edge_list;

typedef struct entry {
  GYRE_SLOT(struct entry) next;
  GYRE_SLOT(text) text;
  GYRE_SLOT(package) package; /* empty if the text is no package's name */
  uint64_t hash;
} entry;

typedef struct table {
  size_t mask;
  GYRE_SLOT(entry) buckets[];
} table;

typedef struct registry {
  uint32_t count;
  GYRE_SLOT(package) packages[];
} registry;

static void text_destroy(void *object) {
  (void)object;
  ledger_freed(OBJECT_TEXT);
}
static void package_destroy(void *object) { ledger_package_freed(((package *)object)->number); }
static void version_destroy(void *object) {
  (void)object;
  ledger_freed(OBJECT_VERSION);
}
static void edge_destroy(void *object) {
  (void)object;
  ledger_freed(OBJECT_EDGE);
}
static void edge_list_destroy(void *object) {
  (void)object;
  ledger_freed(OBJECT_EDGE_LIST);
}
static void entry_destroy(void *object) {
  (void)object;
  ledger_freed(OBJECT_ENTRY);
}
static void table_destroy(void *object) {
  (void)object;
  ledger_freed(OBJECT_TABLE);
}
static void registry_destroy(void *object) {
  (void)object;
  ledger_freed(OBJECT_REGISTRY);
}

static GYRE_TYPE_DEFINE(text_type, text, .element_size = 1, .destroy = text_destroy);
static GYRE_TYPE_DEFINE(package_type, package,
                        .slots = GYRE_SLOTS(package, name, versions, incoming),
                        .destroy = package_destroy);
static GYRE_TYPE_DEFINE(version_type, version,
                        .slots = GYRE_SLOTS(version, next, package, number, architecture),
                        .element_size = sizeof(gyre_slot), .element_slots = GYRE_SLOT_ARRAY,
                        .destroy = version_destroy);
static GYRE_TYPE_DEFINE(edge_type, edge, .slots = GYRE_SLOTS(edge, from, to, version),
                        .destroy = edge_destroy);
static GYRE_TYPE_DEFINE(edge_list_type, edge_list, .element_size = sizeof(gyre_slot),
                        .element_slots = GYRE_SLOT_ARRAY, .destroy = edge_list_destroy);
static GYRE_TYPE_DEFINE(entry_type, entry, .slots = GYRE_SLOTS(entry, next, text, package),
                        .destroy = entry_destroy);
static GYRE_TYPE_DEFINE(table_type, table, .element_size = sizeof(gyre_slot),
                        .element_slots = GYRE_SLOT_ARRAY, .destroy = table_destroy);
static GYRE_TYPE_DEFINE(registry_type, registry, .element_size = sizeof(gyre_slot),
                        .element_slots = GYRE_SLOT_ARRAY, .destroy = registry_destroy);

static void *object_new(gyre_type *type, enum object_kind kind) {
  void *object = gyre_new(type);
  if (object != NULL) ledger_made(kind);
  return object;
}

static void *array_new(gyre_type *type, enum object_kind kind, size_t count) {
  void *object = gyre_new_array(type, count);
  if (object != NULL) ledger_made(kind);
  return object;
}

/* ---- the store ---- */

struct store {
  /* Counted references. The table is there until the store is sealed, the registry from then on. */
  table *table;
  registry *registry;
};

static struct store *store_open(size_t index_bytes) {
  struct store *store = calloc(1, sizeof *store);
  if (store == NULL) return NULL;
  /* A text to about 300 bytes of index, in Debian's. */
  size_t size = hash_table_size(index_bytes / 256);
  store->table = array_new(&table_type, OBJECT_TABLE, size);
  if (store->table == NULL) {
    free(store);
    return NULL;
  }
  store->table->mask = size - 1;
  return store;
}

/* ---- finding texts and packages by name ----
 *
 * Functions that return an object return a counted reference that is the caller's, or NULL if there
 * is no memory.
 */

static text *text_new(struct slice bytes) {
  text *t = array_new(&text_type, OBJECT_TEXT, bytes.length + 1);
  if (t == NULL) return NULL;
  t->length = (uint32_t)bytes.length;
  memcpy(t->bytes, bytes.at, bytes.length);
  return t;
}

static int text_equals(text *t, struct slice bytes) {
  return t->length == bytes.length && memcmp(t->bytes, bytes.at, bytes.length) == 0;
}

/* Looks for the bytes in the chain that begins with `first`, up to but without `end`. */
static entry *chain_find(entry *first, const entry *end, uint64_t hash, struct slice bytes) {
  entry *e = gyre_retain(first);
  while (e != NULL && e != end) {
    if (e->hash == hash) {
      GYRE_AUTO(text) t = gyre_load(&e->text);
      if (text_equals(t, bytes)) return e;
    }
    entry *next = gyre_load(&e->next);
    gyre_release(e);
    e = next;
  }
  gyre_release(e);
  return NULL;
}

static entry *entry_new(uint64_t hash, struct slice bytes) {
  entry *e = object_new(&entry_type, OBJECT_ENTRY);
  text *t = text_new(bytes);
  if (e == NULL || t == NULL) {
    gyre_release(e);
    gyre_release(t);
    return NULL;
  }
  e->hash = hash;
  gyre_slot_init(&e->text, t);
  return e;
}

/* The entry for these bytes, made if there is none. */
static entry *table_entry(table *tab, struct slice bytes) {
  uint64_t hash = hash_bytes(bytes.at, bytes.length);
  GYRE_SLOT(entry) *bucket = (void *)&tab->buckets[hash & tab->mask];
  GYRE_AUTO(entry) fresh = NULL;
  GYRE_AUTO(entry) seen = NULL; /* from here on the chain has been looked through */
  for (;;) {
    entry *head = gyre_load(bucket);
    entry *found = chain_find(head, seen, hash, bytes);
    gyre_release(seen);
    seen = head;
    if (found != NULL) return found;
    if (fresh == NULL) fresh = entry_new(hash, bytes);
    if (fresh == NULL) return NULL;
    gyre_store(&fresh->next, head);
    if (gyre_compare_exchange(bucket, head, fresh)) return gyre_retain(fresh);
  }
}

static text *text_named(struct store *store, struct slice bytes) {
  GYRE_AUTO(entry) e = table_entry(store->table, bytes);
  return e != NULL ? gyre_load(&e->text) : NULL;
}

static package *package_new(entry *e) {
  package *p = object_new(&package_type, OBJECT_PACKAGE);
  if (p == NULL) return NULL;
  p->number = PACKAGE_UNNUMBERED;
  gyre_slot_init(&p->name, gyre_load(&e->text));
  return p;
}

static package *package_named(struct store *store, struct slice name) {
  GYRE_AUTO(entry) e = table_entry(store->table, name);
  if (e == NULL) return NULL;
  package *p = gyre_load(&e->package);
  if (p != NULL) return p;
  p = package_new(e);
  if (p == NULL || gyre_compare_exchange(&e->package, NULL, p)) return p;
  /* Another thread was first, and an entry keeps its package. */
  gyre_release(p);
  return gyre_load(&e->package);
}

/* ---- adding ---- */

static void package_push(package *p, version *v) {
  for (;;) {
    GYRE_AUTO(version) head = gyre_load(&p->versions);
    gyre_store(&v->next, head);
    if (gyre_compare_exchange(&p->versions, head, v)) return;
  }
}

static edge *edge_new(struct store *store, version *from, const struct dependency *dependency) {
  edge *e = object_new(&edge_type, OBJECT_EDGE);
  package *to = package_named(store, dependency->package);
  text *asked = NULL;
  if (dependency->version.at != NULL) asked = text_named(store, dependency->version);
  if (e == NULL || to == NULL || (asked == NULL && dependency->version.at != NULL)) {
    gyre_release(asked);
    gyre_release(to);
    gyre_release(e);
    return NULL;
  }
  /* relaxed: the sums are read after the adding threads were joined. */
  atomic_fetch_add_explicit(&to->incoming_count, 1, memory_order_relaxed);
  gyre_slot_init(&e->from, gyre_retain(from));
  gyre_slot_init(&e->to, to);
  gyre_slot_init(&e->version, asked);
  e->group = dependency->group;
  e->kind = dependency->kind;
  e->relation = dependency->relation;
  return e;
}

static version *version_new(struct store *store, const struct paragraph *paragraph) {
  version *v = array_new(&version_type, OBJECT_VERSION, paragraph->dependency_count);
  package *p = package_named(store, paragraph->package);
  text *number = text_named(store, paragraph->version);
  text *architecture = NULL;
  if (paragraph->architecture.at != NULL) architecture = text_named(store, paragraph->architecture);
  if (v == NULL || p == NULL || number == NULL ||
      (architecture == NULL && paragraph->architecture.at != NULL)) {
    gyre_release(architecture);
    gyre_release(number);
    gyre_release(p);
    gyre_release(v);
    return NULL;
  }
  gyre_slot_init(&v->package, p);
  gyre_slot_init(&v->number, number);
  gyre_slot_init(&v->architecture, architecture);
  return v;
}

static int store_add(struct store *store, const struct paragraph *paragraph) {
  GYRE_AUTO(version) v = version_new(store, paragraph);
  if (v == NULL) return -ENOMEM;
  for (size_t i = 0; i < paragraph->dependency_count; i++) {
    edge *e = edge_new(store, v, &paragraph->dependencies[i]);
    if (e == NULL) return -ENOMEM;
    /* Not gyre_slot_init(): the edges made so far refer to the version already. The slot takes over
     * the reference, and gives back the nothing that it held. */
    gyre_release(gyre_swap(&v->edges[i], e));
  }
  GYRE_AUTO(package) p = gyre_load(&v->package);
  package_push(p, v);
  return 0;
}

/* ---- sealing ---- */

/* A package of the table with its name, for sorting. Both are borrowed from the table: nothing
 * leaves it and the thread passes no safepoint while these are used. */
struct named {
  const char *name;
  package *package;
};

static int named_compare(const void *left, const void *right) {
  return strcmp(((const struct named *)left)->name, ((const struct named *)right)->name);
}

/* Calls visit for each entry that has a package. */
static void table_visit_packages(table *tab, void (*visit)(entry *e, void *arg), void *arg) {
  for (size_t i = 0; i <= tab->mask; i++) {
    entry *e = gyre_load(&tab->buckets[i]);
    while (e != NULL) {
      GYRE_AUTO(package) p = gyre_load(&e->package);
      if (p != NULL) visit(e, arg);
      entry *next = gyre_load(&e->next);
      gyre_release(e);
      e = next;
    }
  }
}

static void count_package(entry *e, void *arg) {
  (void)e;
  ++*(size_t *)arg;
}

static void list_package(entry *e, void *arg) {
  struct named **at = arg;
  GYRE_AUTO(text) name = gyre_load(&e->text);
  GYRE_AUTO(package) p = gyre_load(&e->package);
  *(*at)++ = (struct named){name->bytes, p};
}

static int registry_make(struct store *store) {
  size_t count = 0;
  table_visit_packages(store->table, count_package, &count);
  /* The largest number means "none yet". */
  if (count >= PACKAGE_UNNUMBERED) return -EOVERFLOW;
  struct named *packages = malloc((count + 1) * sizeof *packages);
  registry *r = array_new(&registry_type, OBJECT_REGISTRY, count);
  if (packages == NULL || r == NULL) {
    free(packages);
    gyre_release(r);
    return -ENOMEM;
  }
  struct named *end = packages;
  table_visit_packages(store->table, list_package, &end);
  qsort(packages, count, sizeof *packages, named_compare);
  r->count = (uint32_t)count;
  for (uint32_t i = 0; i < count; i++) {
    packages[i].package->number = i;
    gyre_slot_init(&r->packages[i], gyre_retain(packages[i].package));
  }
  free(packages);
  store->registry = r;
  return 0;
}

/* A step of a team's loop: gives package i an empty edge list of the right length. */
static int edge_list_make(size_t i, void *arg) {
  struct store *store = arg;
  GYRE_AUTO(package) p = gyre_load(&store->registry->packages[i]);
  /* relaxed: those who counted were joined, and the next loop's threads start after this one. */
  size_t count = atomic_load_explicit(&p->incoming_count, memory_order_relaxed);
  if (count == 0) return 0;
  edge_list *list = array_new(&edge_list_type, OBJECT_EDGE_LIST, count);
  if (list == NULL) return -ENOMEM;
  list->length = count;
  gyre_release(gyre_swap(&p->incoming, list));
  return 0;
}

/* Enters an edge into the edge list of the package that it leads to. */
static void edge_enlist(edge *e) {
  GYRE_AUTO(package) to = gyre_load(&e->to);
  GYRE_AUTO(edge_list) list = gyre_load(&to->incoming);
  /* relaxed: only hands out places; the slot orders what is put there. */
  uint32_t left = atomic_fetch_sub_explicit(&to->incoming_count, 1, memory_order_relaxed);
  gyre_store(&list->edges[left - 1], e);
}

/* A step of a team's loop: enters the edges of package i into the lists at their other ends. */
static int edge_list_fill(size_t i, void *arg) {
  struct store *store = arg;
  GYRE_AUTO(package) p = gyre_load(&store->registry->packages[i]);
  version *v = p != NULL ? gyre_load(&p->versions) : NULL;
  while (v != NULL) {
    size_t count = gyre_array_length(v);
    for (size_t k = 0; k < count; k++) {
      GYRE_AUTO(edge) e = gyre_load(&v->edges[k]);
      if (e != NULL) edge_enlist(e);
    }
    version *next = gyre_load(&v->next);
    gyre_release(v);
    v = next;
  }
  return 0;
}

static int store_seal(struct store *store, const struct team *team) {
  int error = registry_make(store);
  if (error != 0) return error;
  gyre_release(store->table);
  store->table = NULL;
  error = team_for(team, store->registry->count, 256, edge_list_make, store);
  if (error == 0) error = team_for(team, store->registry->count, 256, edge_list_fill, store);
  return error;
}

/* ---- visits ---- */

static uint32_t store_package_count(const struct store *store) { return store->registry->count; }

static const char *store_package_name(struct store *store, uint32_t number) {
  /* The bytes outlive these references: the root holds the package, and the package its name. */
  GYRE_AUTO(package) p = gyre_load(&store->registry->packages[number]);
  GYRE_AUTO(text) name = gyre_load(&p->name);
  return name->bytes;
}

static const char *text_bytes(const text *t) { return t != NULL ? t->bytes : ""; }

/* Shows an edge that leaves the package `from`. */
static int edge_show(edge *e, uint32_t from, edge_visitor *visit, void *arg) {
  GYRE_AUTO(package) to = gyre_load(&e->to);
  const struct edge_view view = {from, to->number, e->kind, e->relation, e->group, e};
  return visit(&view, arg);
}

/* The bytes outlive these references: the edge and its version hold the texts. */
static struct edge_texts store_edge_texts(const struct edge_view *view) {
  edge *e = view->edge;
  GYRE_AUTO(version) from = gyre_load(&e->from);
  GYRE_AUTO(text) from_number = gyre_load(&from->number);
  GYRE_AUTO(text) asked = gyre_load(&e->version);
  return (struct edge_texts){from_number->bytes, text_bytes(asked)};
}

/* One of the visits to a package, with the one of the two functions that it is about. */
struct visit {
  uint32_t package;
  version_visitor *version;
  edge_visitor *edge;
  void *arg;
};

static int version_show(version *v, const struct visit *visit) {
  GYRE_AUTO(text) number = gyre_load(&v->number);
  GYRE_AUTO(text) architecture = gyre_load(&v->architecture);
  const struct version_view view = {number->bytes, text_bytes(architecture)};
  return visit->version(&view, visit->arg);
}

static int version_show_edges(version *v, const struct visit *visit) {
  size_t count = gyre_array_length(v);
  for (size_t i = 0; i < count; i++) {
    GYRE_AUTO(edge) e = gyre_load(&v->edges[i]);
    int result = edge_show(e, visit->package, visit->edge, visit->arg);
    if (result != 0) return result;
  }
  return 0;
}

static int show_each_version(struct store *store, const struct visit *visit,
                             int (*show)(version *v, const struct visit *visit)) {
  GYRE_AUTO(package) p = gyre_load(&store->registry->packages[visit->package]);
  if (p == NULL) return 0;
  GYRE_AUTO(version) v = gyre_load(&p->versions);
  while (v != NULL) {
    int result = show(v, visit);
    if (result != 0) return result;
    version *next = gyre_load(&v->next);
    gyre_release(v);
    v = next;
  }
  return 0;
}

static int store_visit_versions(struct store *store, uint32_t number, version_visitor *visitor,
                                void *arg) {
  const struct visit visit = {.package = number, .version = visitor, .arg = arg};
  return show_each_version(store, &visit, version_show);
}

static int store_visit_edges_out(struct store *store, uint32_t number, edge_visitor *visitor,
                                 void *arg) {
  const struct visit visit = {.package = number, .edge = visitor, .arg = arg};
  return show_each_version(store, &visit, version_show_edges);
}

static int store_visit_edges_in(struct store *store, uint32_t number, edge_visitor *visit,
                                void *arg) {
  GYRE_AUTO(package) p = gyre_load(&store->registry->packages[number]);
  if (p == NULL) return 0;
  GYRE_AUTO(edge_list) list = gyre_load(&p->incoming);
  if (list == NULL) return 0;
  for (size_t i = 0; i < list->length; i++) {
    GYRE_AUTO(edge) e = gyre_load(&list->edges[i]);
    GYRE_AUTO(version) from = gyre_load(&e->from);
    GYRE_AUTO(package) from_package = gyre_load(&from->package);
    int result = edge_show(e, from_package->number, visit, arg);
    if (result != 0) return result;
  }
  return 0;
}

/* ---- letting go ---- */

static void store_cut(struct store *store, uint32_t number) {
  GYRE_AUTO(package) p = gyre_load(&store->registry->packages[number]);
  if (p != NULL) gyre_clear(&p->incoming);
}

static void store_drop(struct store *store, uint32_t number) {
  gyre_clear(&store->registry->packages[number]);
}

static int store_reclaim(struct store *store) {
  (void)store;
  /* Parking finishes the releases that this thread still had before it; a full collection finds the
   * cycles, and what hung on those. */
  GYRE_BLOCKING {}
  ptrdiff_t found = gyre_gc_collect(GYRE_GC_NGEN - 1);
  GYRE_BLOCKING {}
  return found < 0 ? (int)found : 0;
}

static int store_close(struct store *store) {
  if (store == NULL) return 0;
  gyre_release(store->table);
  gyre_release(store->registry);
  free(store);
  int error = store_reclaim(NULL);
  ptrdiff_t left = gyre_fini();
  if (left < 0) return (int)left;
  return left > 0 ? -EBUSY : error;
}

/* ---- threads ---- */

static int store_run(unsigned members, void *(*work)(void *), void *arg) {
  int error = 0;
  /* The thread that waits uses no object meanwhile, and nobody shall wait for it. */
  GYRE_BLOCKING { error = team_start_and_wait(members, work, arg); }
  return error;
}

static void store_pause(void) { gyre_safepoint(); }

const struct store_ops gyre_store_ops = {
    .name = "gyre",
    .open = store_open,
    .add = store_add,
    .seal = store_seal,
    .package_count = store_package_count,
    .package_name = store_package_name,
    .visit_versions = store_visit_versions,
    .visit_edges_out = store_visit_edges_out,
    .visit_edges_in = store_visit_edges_in,
    .edge_texts = store_edge_texts,
    .cut = store_cut,
    .drop = store_drop,
    .reclaim = store_reclaim,
    .close = store_close,
    .run = store_run,
    .pause = store_pause,
};
