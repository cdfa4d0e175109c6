/* SPDX-License-Identifier: MIT */
/* Named roots: the C library's balanced tree (tsearch), by name, under a lock.
 *
 * Nothing is released under the lock, and no program code is called: what is to be added is allocated
 * before. The references are counted and lie outside of all objects, so both collectors take their
 * objects for held from outside, as they are.
 */
#include <gyre/root.h>

#include <errno.h>
#include <search.h>
#include <string.h>

#include "lib/collect/collect.h"

struct root {
  void *object;
  const char *name; /* in `text`, but for keys */
  char text[];
};

static struct {
  gyre__lock lock;
  /* -- under the lock -- */
  void *by_name;
  size_t count, text_bytes;
} roots;

static int compare_names(const void *a, const void *b) {
  return strcmp(((const struct root *)a)->name, ((const struct root *)b)->name);
}

/* ---- under the lock ---- */

static struct root *named(const char *name) {
  struct root like = {.name = name};
  struct root **at = tfind(&like, &roots.by_name, compare_names);
  return at != NULL ? *at : NULL;
}

static int root_link(struct root *root) {
  struct root **at = tsearch(root, &roots.by_name, compare_names);
  if (at == NULL) return -ENOMEM;
  if (*at != root) return -EEXIST;
  roots.count++;
  roots.text_bytes += strlen(root->name) + 1;
  return 0;
}

static struct root *root_unlink(const char *name) {
  struct root *root = named(name);
  if (root == NULL) return NULL;
  (void)tdelete(root, &roots.by_name, compare_names);
  roots.count--;
  roots.text_bytes -= strlen(name) + 1;
  return root;
}

/* ---- the calls ---- */

int gyre_root_add(const char *name, void *object) {
  if (name == NULL || object == NULL) return -EINVAL;
  struct gyre__thread *self = gyre__thread_self();
  if (self == NULL) return -errno;
  size_t bytes = strlen(name) + 1;
  struct root *root = gyre_malloc(sizeof *root + bytes);
  if (root == NULL) return -ENOMEM;
  root->name = memcpy(root->text, name, bytes);
  root->object = gyre_retain(object);
  gyre__lock_parked(self, &roots.lock);
  int result = root_link(root);
  gyre__lock_give(&roots.lock);
  if (result == 0) return 0;
  gyre_release(object);
  gyre_free(root);
  return result;
}

int gyre_root_remove(const char *name) {
  if (name == NULL) return -EINVAL;
  struct gyre__thread *self = gyre__thread_self();
  if (self == NULL) return -errno;
  gyre__lock_parked(self, &roots.lock);
  struct root *root = root_unlink(name);
  gyre__lock_give(&roots.lock);
  if (root == NULL) return -ENOENT;
  gyre_release(root->object);
  gyre_free(root);
  return 0;
}

void *gyre_root_get(const char *name) {
  struct gyre__thread *self = gyre__thread_self();
  if (self == NULL) return NULL;
  if (name == NULL) {
    errno = EINVAL;
    return NULL;
  }
  gyre__lock_parked(self, &roots.lock);
  struct root *root = named(name);
  void *object = root != NULL ? gyre_retain(root->object) : NULL;
  gyre__lock_give(&roots.lock);
  if (object == NULL) errno = ENOENT;
  return object;
}

/* ---- lists ---- */

struct listing {
  gyre_root *at;
  char *text;
};

static void list_one(const void *node, VISIT when, void *arg) {
  if (when != postorder && when != leaf) return;
  const struct root *root = *(struct root *const *)node;
  struct listing *l = arg;
  size_t bytes = strlen(root->name) + 1;
  *l->at++ = (gyre_root){memcpy(l->text, root->name, bytes), gyre_retain(root->object)};
  l->text += bytes;
}

ptrdiff_t gyre_roots_list(gyre_root **out) {
  if (out == NULL) return -EINVAL;
  struct gyre__thread *self = gyre__thread_self();
  if (self == NULL) return -errno;
  gyre_root *list = NULL;
  size_t room = 0;
  for (;;) {
    gyre__lock_parked(self, &roots.lock);
    size_t n = roots.count, bytes = n * sizeof *list + roots.text_bytes;
    if (list != NULL && bytes <= room) {
      struct listing listing = {list, (char *)(list + n)};
      twalk_r(roots.by_name, list_one, &listing);
      gyre__lock_give(&roots.lock);
      *out = list;
      return (ptrdiff_t)n;
    }
    gyre__lock_give(&roots.lock);
    gyre_free(list);
    room = bytes;
    if ((list = gyre_malloc(room)) == NULL) return -ENOMEM;
  }
}

void gyre_roots_free(gyre_root *list, size_t n) {
  for (size_t i = 0; list != NULL && i < n; i++)
    gyre_release(list[i].object);
  gyre_free(list);
}

/* ---- inspection and the end ---- */

/* For lib/observe: the roots of this moment; none if there is no memory for the list. */
static void for_each(gyre__root_seen_fn *each, void *arg) {
  gyre_root *list = NULL;
  ptrdiff_t n = gyre_roots_list(&list);
  for (ptrdiff_t i = 0; i < n; i++)
    each(list[i].object, list[i].name, arg);
  if (n >= 0) gyre_roots_free(list, (size_t)n);
}

static void report_one(const void *node, VISIT when, void *arg) {
  (void)arg;
  if (when != postorder && when != leaf) return;
  const struct root *root = *(struct root *const *)node;
  gyre__log("root \"%s\" still holds an object of type %s at %p", root->name,
            gyre_type_of(root->object)->name, root->object);
}

/* Nobody else runs. */
static void report(void) { twalk_r(roots.by_name, report_one, NULL); }

static void keep_root(void *root) { (void)root; }

/* The end of an arena: the roots were in it, the tree's nodes are the C library's. */
static void forget(void) {
  tdestroy(roots.by_name, keep_root);
  roots.by_name = NULL;
  roots.count = roots.text_bytes = 0;
}

static void fork_prepare(void) { gyre__lock_take(&roots.lock); }
static void fork_parent(void) { gyre__lock_give(&roots.lock); }
static void fork_child(void) { gyre__lock_reset(&roots.lock); }

static void __attribute__((constructor)) root_init(void) {
  gyre__thread_hooks.fork_prepare[6] = fork_prepare;
  gyre__thread_hooks.fork_parent[6] = fork_parent;
  gyre__thread_hooks.fork_child[6] = fork_child;
  gyre__fini_report = report;
  gyre__for_each_root = for_each;
  gyre__forget_add(forget);
}
