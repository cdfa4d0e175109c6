/* SPDX-License-Identifier: MIT */
/* A walk through all objects of all threads. In mode concurrent the program runs meanwhile, in mode stw
 * it is stopped.
 *
 *     struct gyre__walk w;
 *     int result = gyre__walk_begin(&w, self, GYRE__WALK_LEAVES);
 *     if (result != 0) return result;
 *     gyre__walk_objects(&w, look_at_one, arg);
 *     gyre__walk_end(&w);
 *
 * Any number of passes (gyre__walk_objects) may be made in one walk: each sees every object that was
 * there when the walk began and is still alive, and perhaps some that are newer. What a pass's function may
 * do with an object depends on what the walk was begun for:
 *
 *   always                 gyre__walk_census(): type, bytes, age, counts; the page's side word is its
 *                          own to use, 0 at first.
 *   GYRE__WALK_STILL       moreover gyre__walk_references(): tracked objects that die keep their blocks
 *                          until the end, so a block holds at most one object throughout. Objects
 *                          born meanwhile are left out.
 *   after gyre__walk_take  gyre__walk_settle() hands over counted references.
 *
 * The functions given to a walk are the library's own: no program code, no safepoint, no walk. They may
 * allocate raw memory. Only a type's `visit` is called, under its object's lock. What the program wants to
 * be told it is told after the end.
 */
#ifndef GYRE_LIB_COLLECT_WALK_H
#define GYRE_LIB_COLLECT_WALK_H

#include "lib/collect/collect.h"

enum {
  GYRE__WALK_LEAVES = 1u << 0, /* objects without references too */
  GYRE__WALK_STILL = 1u << 1,  /* references will be looked at */
  GYRE__WALK_LOCKED =
      1u << 3,               /* the caller has the collector's lock, and no collection under way */
  GYRE__WALK_STOP = 1u << 2, /* in a stopped world, whatever the mode */
};

struct gyre__walk {
  /* Its set has the pages and side words. */
  struct gyre__collection c;
  unsigned flags;
  /* -- private -- */
  struct gyre__objects *held; /* whose look_lock we have */
  uint64_t stopped_ns;        /* in mode stw: since when */
  bool resumed;
  bool taking; /* something has been taken and not settled */
};

/* Begins. Waits, parked, for a collection or another walk to end; a safepoint. 0; -EBUSY inside a
 * collection or a walk (program code that it runs included); -ENOMEM, and then nothing has changed. */
int gyre__walk_begin(struct gyre__walk *w, struct gyre__objects *self, unsigned flags);

/* In a stopped world: lets the threads go on before the end. From then on, what was marked in side words
 * may be found again by another pass, but only objects that the caller has a reference to. */
void gyre__walk_resume(struct gyre__walk *w);

/* Ends; a safepoint. */
void gyre__walk_end(struct gyre__walk *w);

/* An object in the walk: the header, its page and its number there: its side word is page->side[index]. */
typedef int gyre__walk_fn(struct gyre__walk *w, gyre__header *h, struct gyre__page *page,
                          uint32_t index, void *arg);

/* Calls fn for each object that is alive, page by page; non-zero ends the pass and is returned. */
int gyre__walk_objects(struct gyre__walk *w, gyre__walk_fn *fn, void *arg);

/* What can be said of an object without a reference to it, all of one moment but for the counts. */
struct gyre__census {
  const gyre_type *type;
  uint32_t type_id;
  size_t bytes;   /* of its block, header included */
  int generation; /* 0 to 2 */
  bool frozen;
  bool tracked;    /* not a leaf, and not untracked */
  ptrdiff_t count; /* as gyre_refcount() */
};
/* False if there is no object any more. */
bool gyre__walk_census(gyre__header *h, const struct gyre__page *page, struct gyre__census *out);

/* ---- references: GYRE__WALK_STILL ---- */

/* A reference: `field` is the number of the slot: first those of the struct, in the order of the type's
 * table, then those of the elements, then what `visit` reports. */
typedef int gyre__walk_reference_fn(struct gyre__walk *w, void *target, size_t field, void *arg);

/* Calls fn for each reference of a tracked object that the walk has come by. Non-zero ends it and is
 * returned. A visit type's object whose lock is held is left out: -EAGAIN then, at the end. */
int gyre__walk_references(struct gyre__walk *w, gyre__header *h, struct gyre__page *page,
                          gyre__walk_reference_fn *fn, void *arg);

/* Where the walk has the object that a reference leads to. False if it has it nowhere: a leaf in a walk
 * without leaves, a static object, one in a page that is newer. */
bool gyre__walk_find(const struct gyre__walk *w, void *object, struct gyre__page **page,
                     uint32_t *index);

/* The name of a field: a copy in out, cut to size. `[7]`, `[7].key`, `visit[2]` for those that have no
 * name of their own. */
void gyre__walk_field_name(const gyre_type *type, size_t length, size_t field, char *out,
                           size_t size);

/* ---- taking counted references ---- */

/* Counts a reference to the object that a pass is at, if it is alive. It is not safe yet that it is:
 * gyre__walk_settle() finds out. Once an object. False if it is known to be dead. */
bool gyre__walk_take(struct gyre__walk *w, gyre__header *h, struct gyre__page *page,
                     uint32_t index);

/* Calls fn for each object that was taken and is alive; the reference is fn's then. Beside the program,
 * waits for each thread to pass a safepoint first. To be called once after all taking. */
void gyre__walk_settle(struct gyre__walk *w, gyre__walk_fn *fn, void *arg);

/* Is it young, never counted by anybody but its maker, and once by him? Then it may be in the making,
 * and is shown to nobody unless something refers to it, or it refers to something. */
bool gyre__walk_is_fresh(gyre__header *h);

#endif
