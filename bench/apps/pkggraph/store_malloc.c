/* SPDX-License-Identifier: MIT */
/* The package graph on malloc() and free(), as one would write it without a library: each block
 * has one owner, and the program knows when to free.
 *
 *   - a package owns its versions and its edge list, a version its edges; all other pointers
 *     borrow;
 *   - texts are shared by many, so they are counted (atomically: several threads intern them);
 *   - packages refer to each other in cycles, so none can own another. The store owns them all,
 *     and reclaim() marks what the roots reach and frees the rest. That frees the right things
 *     only because all that a package owns is reached exactly when the package is.
 *
 * The table with which several threads find texts and packages by name is the same as in the gyre
 * store; nothing leaves it while they add, so its pointers may be followed without counting.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "bench/apps/pkggraph/hash.h"
#include "bench/apps/pkggraph/ledger.h"
#include "bench/apps/pkggraph/store.h"

/* ---- blocks ---- */

struct text {
  _Atomic uint32_t users; /* who brings it to 0 frees it */
  uint32_t length;
  char bytes[]; /* with a 0 at the end */
};

struct package {
  struct text *name;
  struct version *_Atomic versions; /* the first of a chain; grows at its head, by any thread */
  struct edge_list *incoming;
  uint32_t number;
  /* Counts, by any thread: the edges that lead here while versions are added, then the places of
   * the edge list that are not filled yet. */
  _Atomic uint32_t incoming_count;
  bool reached; /* reclaim()'s mark */
};

struct edge {
  struct version *from;
  struct package *to;
  struct text *version;
  uint16_t group;
  uint8_t kind;
  uint8_t relation;
};

struct version {
  struct version *next;
  struct package *package;
  struct text *number;
  struct text *architecture;
  size_t edge_count;
  struct edge *edges[];
};

struct edge_list {
  size_t length;
  struct edge *edges[];
};

struct entry {
  struct entry *next;
  struct text *text;
  struct package *_Atomic package; /* NULL if the text is no package's name */
  uint64_t hash;
};

struct table {
  size_t mask;
  struct entry *_Atomic buckets[];
};

struct store {
  /* Until the store is sealed. */
  struct table *table;
  /* From then on. Dropped roots are NULL; owned packages are moved to the front when some are
   * freed. */
  struct package **roots;
  struct package **owned;
  uint32_t count;
  uint32_t owned_count;
};

static void *block_new(enum object_kind kind, size_t size) {
  void *block = calloc(1, size);
  if (block != NULL) ledger_made(kind);
  return block;
}

static void block_free(enum object_kind kind, void *block) {
  if (block == NULL) return;
  ledger_freed(kind);
  free(block);
}

static struct text *text_new(struct slice bytes) {
  struct text *t = block_new(OBJECT_TEXT, sizeof *t + bytes.length + 1);
  if (t == NULL) return NULL;
  /* relaxed: nobody else has the text yet; table_entry() publishes it. */
  atomic_store_explicit(&t->users, 1, memory_order_relaxed);
  t->length = (uint32_t)bytes.length;
  memcpy(t->bytes, bytes.at, bytes.length);
  return t;
}

static struct text *text_use(struct text *t) {
  /* relaxed: who adds a user has the text from one already. */
  atomic_fetch_add_explicit(&t->users, 1, memory_order_relaxed);
  return t;
}

static void text_unuse(struct text *t) {
  /* acq_rel: what the other users did with the text lies before its end; pairs with itself. */
  if (t != NULL && atomic_fetch_sub_explicit(&t->users, 1, memory_order_acq_rel) == 1) {
    block_free(OBJECT_TEXT, t);
  }
}

static void edge_free(struct edge *e) {
  if (e == NULL) return;
  text_unuse(e->version);
  block_free(OBJECT_EDGE, e);
}

static void version_free(struct version *v) {
  if (v == NULL) return;
  for (size_t i = 0; i < v->edge_count; i++)
    edge_free(v->edges[i]);
  text_unuse(v->number);
  text_unuse(v->architecture);
  block_free(OBJECT_VERSION, v);
}

static struct version *first_version(struct package *p) {
  /* acquire: the version behind the pointer; pairs with the exchange in package_push(). */
  return atomic_load_explicit(&p->versions, memory_order_acquire);
}

static void package_free(struct package *p) {
  if (p == NULL) return;
  for (struct version *v = first_version(p), *next; v != NULL; v = next) {
    next = v->next;
    version_free(v);
  }
  block_free(OBJECT_EDGE_LIST, p->incoming);
  text_unuse(p->name);
  ledger_package_freed(p->number);
  free(p);
}

static struct entry *first_entry(struct table *table, size_t bucket) {
  /* acquire: the entry behind the pointer; pairs with the exchange in table_entry(). */
  return atomic_load_explicit(&table->buckets[bucket], memory_order_acquire);
}

static struct package *entry_package(struct entry *e) {
  /* acquire: the package behind the pointer; pairs with the exchange in package_named(). */
  return atomic_load_explicit(&e->package, memory_order_acquire);
}

static void entry_free(struct entry *e) {
  if (e == NULL) return;
  text_unuse(e->text);
  block_free(OBJECT_ENTRY, e);
}

/* Frees the table; the packages that its entries have stay. */
static void table_free(struct table *table) {
  if (table == NULL) return;
  for (size_t i = 0; i <= table->mask; i++) {
    for (struct entry *e = first_entry(table, i), *next; e != NULL; e = next) {
      next = e->next;
      entry_free(e);
    }
  }
  block_free(OBJECT_TABLE, table);
}

static struct store *store_open(size_t index_bytes) {
  struct store *store = calloc(1, sizeof *store);
  if (store == NULL) return NULL;
  size_t size = hash_table_size(index_bytes / 256);
  store->table = block_new(OBJECT_TABLE, sizeof *store->table + size * sizeof(struct entry *));
  if (store->table == NULL) {
    free(store);
    return NULL;
  }
  store->table->mask = size - 1;
  return store;
}

/* ---- finding texts and packages by name ---- */

static struct entry *chain_find(struct entry *first, const struct entry *end, uint64_t hash,
                                struct slice bytes) {
  for (struct entry *e = first; e != end; e = e->next) {
    if (e->hash == hash && e->text->length == bytes.length &&
        memcmp(e->text->bytes, bytes.at, bytes.length) == 0) {
      return e;
    }
  }
  return NULL;
}

static struct entry *entry_new(uint64_t hash, struct slice bytes) {
  struct entry *e = block_new(OBJECT_ENTRY, sizeof *e);
  if (e == NULL) return NULL;
  e->hash = hash;
  e->text = text_new(bytes);
  if (e->text == NULL) {
    entry_free(e);
    return NULL;
  }
  return e;
}

/* The entry for these bytes, made if there is none; NULL if there is no memory. */
static struct entry *table_entry(struct table *table, struct slice bytes) {
  uint64_t hash = hash_bytes(bytes.at, bytes.length);
  size_t bucket = hash & table->mask;
  struct entry *fresh = NULL;
  struct entry *seen = NULL; /* from here on the chain has been looked through */
  struct entry *head = first_entry(table, bucket);
  for (;;) {
    struct entry *found = chain_find(head, seen, hash, bytes);
    if (found != NULL) {
      entry_free(fresh);
      return found;
    }
    if (fresh == NULL) fresh = entry_new(hash, bytes);
    if (fresh == NULL) return NULL;
    fresh->next = seen = head;
    /* release: the entry is complete when others find it; acquire: the entries in front that made
     * it fail. Pairs with itself and with first_entry(). */
    if (atomic_compare_exchange_strong_explicit(&table->buckets[bucket], &head, fresh,
                                                memory_order_acq_rel, memory_order_acquire)) {
      return fresh;
    }
  }
}

/* The text, with the caller as one more user; NULL if there is no memory. */
static struct text *text_named(struct store *store, struct slice bytes) {
  struct entry *e = table_entry(store->table, bytes);
  return e != NULL ? text_use(e->text) : NULL;
}

static struct package *package_named(struct store *store, struct slice name) {
  struct entry *e = table_entry(store->table, name);
  if (e == NULL) return NULL;
  struct package *there = entry_package(e);
  if (there != NULL) return there;
  struct package *p = block_new(OBJECT_PACKAGE, sizeof *p);
  if (p == NULL) return NULL;
  p->number = PACKAGE_UNNUMBERED;
  p->name = text_use(e->text);
  /* acq_rel, acquire: as in table_entry(); pairs with itself and with entry_package(). */
  if (atomic_compare_exchange_strong_explicit(&e->package, &there, p, memory_order_acq_rel,
                                              memory_order_acquire)) {
    return p;
  }
  package_free(p);
  return there;
}

/* ---- adding ---- */

static void package_push(struct package *p, struct version *v) {
  v->next = first_version(p);
  /* release: the version is complete when others find it; pairs with first_version().
   * relaxed: what a failure finds is only linked to, not looked at. */
  while (!atomic_compare_exchange_weak_explicit(&p->versions, &v->next, v, memory_order_release,
                                                memory_order_relaxed)) {
  }
}

static struct edge *edge_new(struct store *store, struct version *from,
                             const struct dependency *dependency) {
  struct edge *e = block_new(OBJECT_EDGE, sizeof *e);
  if (e == NULL) return NULL;
  e->from = from;
  e->to = package_named(store, dependency->package);
  if (dependency->version.at != NULL) e->version = text_named(store, dependency->version);
  if (e->to == NULL || (e->version == NULL && dependency->version.at != NULL)) {
    edge_free(e);
    return NULL;
  }
  /* relaxed: the sums are read after the adding threads were joined. */
  atomic_fetch_add_explicit(&e->to->incoming_count, 1, memory_order_relaxed);
  e->group = dependency->group;
  e->kind = dependency->kind;
  e->relation = dependency->relation;
  return e;
}

static int store_add(struct store *store, const struct paragraph *paragraph) {
  size_t count = paragraph->dependency_count;
  struct version *v = block_new(OBJECT_VERSION, sizeof *v + count * sizeof v->edges[0]);
  if (v == NULL) return -ENOMEM;
  v->package = package_named(store, paragraph->package);
  v->number = text_named(store, paragraph->version);
  if (v->package == NULL || v->number == NULL) goto fail;
  if (paragraph->architecture.at != NULL) {
    v->architecture = text_named(store, paragraph->architecture);
    if (v->architecture == NULL) goto fail;
  }
  for (; v->edge_count < count; v->edge_count++) {
    struct edge *e = edge_new(store, v, &paragraph->dependencies[v->edge_count]);
    if (e == NULL) goto fail;
    v->edges[v->edge_count] = e;
  }
  package_push(v->package, v);
  return 0;

fail:
  version_free(v);
  return -ENOMEM;
}

/* ---- sealing ---- */

/* Writes the table's packages to out, if that is not NULL, and returns how many there are. */
static size_t table_packages(struct table *table, struct package **out) {
  size_t count = 0;
  for (size_t i = 0; i <= table->mask; i++) {
    for (struct entry *e = first_entry(table, i); e != NULL; e = e->next) {
      struct package *p = entry_package(e);
      if (p == NULL) continue;
      if (out != NULL) out[count] = p;
      count++;
    }
  }
  return count;
}

static int package_compare(const void *left, const void *right) {
  const struct package *l = *(struct package *const *)left;
  const struct package *r = *(struct package *const *)right;
  return strcmp(l->name->bytes, r->name->bytes);
}

static int registry_make(struct store *store) {
  size_t count = table_packages(store->table, NULL);
  /* The largest number means "none yet". */
  if (count >= PACKAGE_UNNUMBERED) return -EOVERFLOW;
  struct package **packages = block_new(OBJECT_REGISTRY, (2 * count + 1) * sizeof *packages);
  if (packages == NULL) return -ENOMEM;
  table_packages(store->table, packages);
  qsort(packages, count, sizeof *packages, package_compare);
  for (uint32_t i = 0; i < count; i++)
    packages[i]->number = i;
  store->roots = packages;
  store->owned = packages + count;
  memcpy(store->owned, store->roots, count * sizeof *packages);
  store->count = store->owned_count = (uint32_t)count;
  return 0;
}

/* A step of a team's loop: gives package i an empty edge list of the right length. */
static int edge_list_make(size_t i, void *arg) {
  struct package *p = ((struct store *)arg)->roots[i];
  /* relaxed: those who counted were joined, and the next loop's threads start after this one. */
  size_t count = atomic_load_explicit(&p->incoming_count, memory_order_relaxed);
  if (count == 0) return 0;
  struct edge_list *list =
      block_new(OBJECT_EDGE_LIST, sizeof *list + count * sizeof list->edges[0]);
  if (list == NULL) return -ENOMEM;
  list->length = count;
  p->incoming = list;
  return 0;
}

/* A step of a team's loop: enters the edges of package i into the lists at their other ends. */
static int edge_list_fill(size_t i, void *arg) {
  struct package *p = ((struct store *)arg)->roots[i];
  for (struct version *v = first_version(p); v != NULL; v = v->next) {
    for (size_t k = 0; k < v->edge_count; k++) {
      struct package *to = v->edges[k]->to;
      /* relaxed: only hands out places; the lists are read after these threads were joined. */
      uint32_t left = atomic_fetch_sub_explicit(&to->incoming_count, 1, memory_order_relaxed);
      to->incoming->edges[left - 1] = v->edges[k];
    }
  }
  return 0;
}

static int store_seal(struct store *store, const struct team *team) {
  int error = registry_make(store);
  if (error != 0) return error;
  table_free(store->table);
  store->table = NULL;
  error = team_for(team, store->count, 256, edge_list_make, store);
  if (error == 0) error = team_for(team, store->count, 256, edge_list_fill, store);
  return error;
}

/* ---- visits ---- */

static uint32_t store_package_count(const struct store *store) { return store->count; }

static const char *store_package_name(struct store *store, uint32_t number) {
  return store->roots[number]->name->bytes;
}

static const char *text_bytes(const struct text *t) { return t != NULL ? t->bytes : ""; }

/* Shows an edge that leaves the package `from`. */
static int edge_show(struct edge *e, uint32_t from, edge_visitor *visit, void *arg) {
  const struct edge_view view = {from, e->to->number, e->kind, e->relation, e->group, e};
  return visit(&view, arg);
}

static struct edge_texts store_edge_texts(const struct edge_view *view) {
  const struct edge *e = view->edge;
  return (struct edge_texts){e->from->number->bytes, text_bytes(e->version)};
}

static int store_visit_versions(struct store *store, uint32_t number, version_visitor *visit,
                                void *arg) {
  struct package *p = store->roots[number];
  if (p == NULL) return 0;
  for (struct version *v = first_version(p); v != NULL; v = v->next) {
    const struct version_view view = {v->number->bytes, text_bytes(v->architecture)};
    int result = visit(&view, arg);
    if (result != 0) return result;
  }
  return 0;
}

static int store_visit_edges_out(struct store *store, uint32_t number, edge_visitor *visit,
                                 void *arg) {
  struct package *p = store->roots[number];
  if (p == NULL) return 0;
  for (struct version *v = first_version(p); v != NULL; v = v->next) {
    for (size_t i = 0; i < v->edge_count; i++) {
      int result = edge_show(v->edges[i], number, visit, arg);
      if (result != 0) return result;
    }
  }
  return 0;
}

static int store_visit_edges_in(struct store *store, uint32_t number, edge_visitor *visit,
                                void *arg) {
  struct package *p = store->roots[number];
  if (p == NULL || p->incoming == NULL) return 0;
  for (size_t i = 0; i < p->incoming->length; i++) {
    struct edge *e = p->incoming->edges[i];
    int result = edge_show(e, e->from->package->number, visit, arg);
    if (result != 0) return result;
  }
  return 0;
}

/* ---- letting go ---- */

static void store_cut(struct store *store, uint32_t number) {
  struct package *p = store->roots[number];
  if (p == NULL) return;
  block_free(OBJECT_EDGE_LIST, p->incoming);
  p->incoming = NULL;
}

static void store_drop(struct store *store, uint32_t number) { store->roots[number] = NULL; }

/* Packages that were reached and whose references were not followed yet. Each is put here once,
 * so there is room for all. */
struct worklist {
  struct package **packages;
  size_t count;
};

static void reach(struct worklist *work, struct package *p) {
  if (p == NULL || p->reached) return;
  p->reached = true;
  work->packages[work->count++] = p;
}

static void mark(struct store *store, struct worklist *work) {
  for (uint32_t i = 0; i < store->count; i++)
    reach(work, store->roots[i]);
  while (work->count > 0) {
    struct package *p = work->packages[--work->count];
    for (struct version *v = first_version(p); v != NULL; v = v->next) {
      for (size_t i = 0; i < v->edge_count; i++)
        reach(work, v->edges[i]->to);
    }
    if (p->incoming == NULL) continue;
    for (size_t i = 0; i < p->incoming->length; i++) {
      reach(work, p->incoming->edges[i]->from->package);
    }
  }
}

static void sweep(struct store *store) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < store->owned_count; i++) {
    struct package *p = store->owned[i];
    if (p->reached) {
      p->reached = false;
      store->owned[kept++] = p;
    } else {
      package_free(p);
    }
  }
  store->owned_count = kept;
}

static int store_reclaim(struct store *store) {
  struct worklist work = {malloc((store->owned_count + (size_t)1) * sizeof *work.packages), 0};
  if (work.packages == NULL) return -ENOMEM;
  mark(store, &work);
  free(work.packages);
  sweep(store);
  return 0;
}

/* Until the store is sealed, the table's entries own the packages. */
static void free_packages_of_table(struct table *table) {
  for (size_t i = 0; i <= table->mask; i++) {
    for (struct entry *e = first_entry(table, i); e != NULL; e = e->next) {
      package_free(entry_package(e));
    }
  }
}

static int store_close(struct store *store) {
  if (store == NULL) return 0;
  if (store->roots != NULL) {
    for (uint32_t i = 0; i < store->owned_count; i++)
      package_free(store->owned[i]);
  } else {
    free_packages_of_table(store->table);
  }
  table_free(store->table);
  block_free(OBJECT_REGISTRY, store->roots);
  free(store);
  return 0;
}

/* ---- threads ---- */

static void store_pause(void) {}

const struct store_ops malloc_store_ops = {
    .name = "malloc",
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
    .run = team_start_and_wait,
    .pause = store_pause,
};
