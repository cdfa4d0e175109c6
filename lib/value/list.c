/* SPDX-License-Identifier: MIT */
/* Lists: an array object of slots that is replaced when it has the wrong size.
 *
 *     list ---items---> items { capacity, previous, at[0], at[1], ... }
 *
 * Writers hold the list's object lock. Readers hold nothing: they borrow the array, count the item in one
 * of its slots, and look whether the list still has the same array. If it has, the slot was the list's
 * at that moment; if not, the item may be anything that died since, and they begin again. (CPython's
 * free-threaded list reads so, too, with its own counts and its own grace periods.)
 *
 *   "No holes": whoever finds index < length finds an item there, or finds on looking again that the
 *       array or the length has changed. Items are put into slots before the length covers them, and
 *       the length falls before slots are emptied.
 *   "Arrays outlive their readers": a replaced array is retired (gyre_retire), unless no thread but the
 *       list's maker has ever used the list. Others raise a flag before they borrow, and the maker looks
 *       at it after it has replaced the array, both seq_cst: either they find the new array or it finds
 *       the flag.
 *   "Moves do not count": items change their places by gyre_slots_move().
 *
 * Nothing is allocated and nothing dropped under the lock, since the first may call the program's
 * out-of-memory handler and the second finalizers: a new array is made beforehand, and if the list has
 * changed too much meanwhile, another.
 */
#include <gyre/list.h>

#include <errno.h>
#include <string.h>

#include "lib/value/sequence.h"

typedef GYRE_SLOT(void) item_slot;

struct items {
  /* -- constant -- */
  size_t capacity;
  /* -- under the list's lock -- */
  /* Of an array that the list keeps: another. */
  GYRE_SLOT(struct items) previous;
  item_slot at[];
};

struct gyre_list {
  /* NULL while there are no items yet. Changed under the lock. */
  GYRE_SLOT(struct items) items;
  /* Arrays that should have been retired when there was no memory for that. Under the lock. They hold no
   * items, and are never used again: what is left in their slots are no references. */
  GYRE_SLOT(struct items) kept;
  /* Written under the lock. Who reads it sees the items that it covers. */
  gyre__atomic_size length;
  /* The id of the thread that has called gyre_list_lock(), or 0. Only the thread itself ever finds its
   * own id there. */
  gyre__atomic_u32 locker;
  /* The id of the thread that made the list. Constant. */
  uint16_t maker;
  /* 1: a thread other than the maker has used the list. */
  gyre__atomic_u8 is_shared;
};

static gyre_type items_type = {.name = "gyre_list items",
                               .size = sizeof(struct items),
                               .slots = GYRE_SLOTS(struct items, previous),
                               .element_size = sizeof(item_slot),
                               .element_slots = GYRE_SLOT_ARRAY};

/* What holds an array until its readers are gone. */
struct retired {
  gyre_retired link;
  GYRE_SLOT(struct items) items;
};
static gyre_type retired_type = {.name = "gyre_list retired",
                                 .size = sizeof(struct retired),
                                 .slots = GYRE_SLOTS(struct retired, items)};

static int lists_equal(const void *object, const void *other);

gyre_type gyre_list_type = {.name = "gyre_list",
                            .size = sizeof(struct gyre_list),
                            .slots = GYRE_SLOTS(struct gyre_list, items, kept),
                            .hash = gyre_hash_refuse,
                            .equal = lists_equal};

/* ---- who uses the list ---- */

/* Every call begins here: attaches the thread and raises the flag if it is not the maker. False with
 * errno if the thread cannot attach. */
static inline bool enter(const gyre_list *list) {
  GYRE__EXPECT_TYPE(list, &gyre_list_type);
  gyre_thread *self = gyre_thread_current();
  if (GYRE_UNLIKELY(self == NULL) && (self = gyre_thread_attach()) == NULL) return false;
  if (GYRE_LIKELY(self->id == list->maker)) return true;
  gyre__atomic_u8 *flag = &((gyre_list *)(uintptr_t)list)->is_shared;
  /* seq_cst: before this thread borrows the array; pairs with the look in array_discard(). */
  if (gyre__load_seq_cst(flag) == 0) gyre__store_seq_cst(flag, 1);
  return true;
}

/* Takes the lock, unless the thread has it. True if it must give it back. */
static bool lock(gyre_list *list) {
  /* relaxed: only this thread writes its own id there. */
  if (gyre__load_relaxed(&list->locker) == gyre_thread_current()->id) return false;
  gyre_lock(list);
  return true;
}

static void unlock(gyre_list *list, bool locked) {
  if (locked) gyre_unlock(list);
}

void gyre_list_lock(gyre_list *list) {
  GYRE_REQUIRE(enter(list), "gyre_list_lock() in a thread that cannot attach");
  gyre_lock(list);
  /* relaxed: for this thread's own look in lock(). */
  gyre__store_relaxed(&list->locker, gyre_thread_current()->id);
}

void gyre_list_unlock(gyre_list *list) {
  /* relaxed: as above. */
  gyre__store_relaxed(&list->locker, 0);
  gyre_unlock(list);
}

/* ---- length and array, under the lock ---- */

static size_t length_of(const gyre_list *list) {
  /* relaxed: under the lock. */
  return gyre__load_relaxed(&list->length);
}

static void length_set(gyre_list *list, size_t length) {
  /* release: the items that it covers, and the array that they are in; pairs with gyre_list_get(). */
  gyre__store_release(&list->length, length);
}

static struct items *array_of(gyre_list *list) { return gyre_borrow(&list->items); }

static size_t capacity_of(const struct items *items) { return items != NULL ? items->capacity : 0; }

/* CPython's 4, 8, 16, 24, 32, 40, 52, 64, 76, ... up to 64 KiB. Beyond, where CPython's realloc() moves
 * no byte and every step here takes fresh memory, by a quarter instead of an eighth. */
#define LARGE ((64u << 10) / sizeof(item_slot))
static size_t capacity_for(size_t length) {
  return (length + (length >> (length < LARGE ? 3 : 2)) + 6) & ~(size_t)3;
}

static struct items *array_new(size_t capacity) {
  struct items *items = gyre_new_array(&items_type, capacity);
  if (items != NULL) items->capacity = capacity;
  return items;
}

/* Gives up an array that the list has no more, and that holds no items, with what the list kept. If there
 * is no memory to retire it with, the list keeps it. */
static void array_discard(gyre_list *list, struct items *items) {
  if (items == NULL) return;
  /* seq_cst: after the array was replaced; pairs with enter(). */
  if (gyre__load_seq_cst(&list->is_shared) == 0) {
    gyre_release(items);
    return;
  }
  struct retired *retired = gyre_new(&retired_type);
  if (GYRE_UNLIKELY(retired == NULL || !gyre_slot_is(&list->kept, NULL))) {
    bool locked = lock(list);
    gyre_slot_init(&items->previous, gyre_take(&list->kept));
    if (retired == NULL) (void)gyre_swap(&list->kept, items);
    unlock(list, locked);
    if (retired == NULL) return;
  }
  gyre_slot_init(&retired->items, items);
  gyre_retire(retired, &retired->link);
}

/* Makes `fresh`, which is empty, the list's array, with the items that it has. Returns the old one, which
 * has forgotten them, to be discarded after the lock was let go. */
static struct items *array_replace(gyre_list *list, struct items *fresh) {
  size_t length = length_of(list);
  struct items *old = array_of(list);
  if (length > 0) gyre_slots_move(old, fresh->at, old->at, length);
  GYRE_WINDOW("list/moved");
  old = gyre_swap(&list->items, fresh);
  GYRE_WINDOW("list/replaced");
  /* Readers that still have it find what has been moved, and then that it is not the list's array. */
  if (old != NULL) gyre_array_forget(old);
  return old;
}

/* A change that needs room for `more` items. */
struct change {
  struct items *old;
  bool locked;
};

/* Locks the list, and sees to it that its array has the room. 0, or -ENOMEM or what attaching said: then
 * it is not locked. change_end() must follow otherwise. */
static int change_begin(gyre_list *list, size_t more, struct change *change) {
  if (!enter(list)) return -errno;
  struct items *fresh = NULL;
  for (;;) {
    change->locked = lock(list);
    size_t need = length_of(list) + more;
    if (capacity_of(array_of(list)) >= need) {
      /* Somebody else made room meanwhile: nobody has seen ours. */
      if (fresh != NULL) gyre_array_forget(fresh);
      change->old = fresh;
      return 0;
    }
    if (capacity_of(fresh) >= need) {
      change->old = array_replace(list, fresh);
      return 0;
    }
    unlock(list, change->locked);
    gyre_release(fresh);
    if (need > PTRDIFF_MAX / sizeof(item_slot)) return -ENOMEM;
    fresh = array_new(capacity_for(need));
    if (fresh == NULL) return -ENOMEM;
  }
}

static void change_end(gyre_list *list, struct change *change) {
  unlock(list, change->locked);
  array_discard(list, change->old);
}

/* After items were removed: a smaller array, if there is memory for one. */
#define SHRINK_MIN 32
static bool is_too_large(gyre_list *list) {
  size_t capacity = capacity_of(array_of(list));
  return capacity >= SHRINK_MIN && length_of(list) < capacity / 2;
}
static void shrink(gyre_list *list) {
  struct items *fresh = array_new(capacity_for(length_of(list)));
  if (fresh == NULL) return;
  bool locked = lock(list);
  bool fits = is_too_large(list) && length_of(list) <= fresh->capacity;
  struct items *old = fits ? array_replace(list, fresh) : fresh;
  unlock(list, locked);
  array_discard(list, old);
}

/* ---- reading ---- */

size_t gyre_list_length(const gyre_list *list) {
  GYRE__EXPECT_TYPE(list, &gyre_list_type);
  /* acquire: who finds an item counted in the length finds it in the list; pairs with length_set(). */
  return gyre__load_acquire(&list->length);
}

void *gyre_list_get(gyre_list *list, ptrdiff_t index) {
  if (!enter(list)) return NULL;
  for (;;) {
    struct items *items = gyre_borrow(&list->items);
    GYRE_WINDOW("list/borrowed");
    size_t length = gyre_list_length(list);
    size_t at = (size_t)(index < 0 ? index + (ptrdiff_t)length : index);
    if (at >= length) {
      errno = ERANGE;
      return NULL;
    }
    /* The array is older than the length. */
    if (GYRE_UNLIKELY(at >= capacity_of(items))) continue;
    void *item = gyre_load_once(&items->at[at]);
    GYRE_WINDOW("list/loaded");
    if (GYRE_LIKELY(item != NULL && gyre_borrow(&list->items) == items)) return item;
    gyre_release(item);
  }
}

/* ---- slices ---- */

void **gyre__list_snapshot(gyre_list *list, ptrdiff_t start, ptrdiff_t stop, size_t *n) {
  if (!enter(list)) return NULL;
  void **out = NULL;
  size_t room = 0;
  for (;;) {
    bool locked = lock(list);
    size_t length = length_of(list), from = gyre__bound(start, length),
           to = gyre__bound(stop, length);
    size_t count = to > from ? to - from : 0;
    if (out != NULL && count <= room) {
      struct items *items = array_of(list);
      for (size_t i = 0; i < count; i++)
        out[i] = gyre_load(&items->at[from + i]);
      unlock(list, locked);
      *n = count;
      return out;
    }
    unlock(list, locked);
    gyre_free(out);
    room = count;
    if ((out = gyre_malloc(room * sizeof *out)) == NULL) return NULL;
  }
}

/* ---- making ---- */

gyre_list *gyre_list_new(void) {
  gyre_list *list = gyre_new(&gyre_list_type);
  if (list != NULL) list->maker = (uint16_t)gyre_thread_current()->id;
  return list;
}

/* A list of n items whose references it steals; if there is no memory for it, they are released. */
static gyre_list *list_of(void **items, size_t n) {
  gyre_list *list = gyre_list_new();
  struct items *array = list != NULL && n > 0 ? array_new(n) : NULL;
  if (list == NULL || (n > 0 && array == NULL)) {
    for (size_t i = 0; i < n; i++)
      gyre_release(items[i]);
    gyre_release(list);
    errno = ENOMEM;
    return NULL;
  }
  for (size_t i = 0; i < n; i++)
    gyre_slot_init(&array->at[i], items[i]);
  if (n > 0) gyre_slot_init(&list->items, array);
  length_set(list, n);
  return list;
}

gyre_list *gyre_list_from(void *const *items, size_t n) {
  gyre_list *list = gyre_list_new();
  int result = list == NULL ? -ENOMEM : gyre_list_extend(list, items, n);
  if (result == 0) return list;
  gyre_release(list);
  errno = -result;
  return NULL;
}

gyre_list *gyre_list_slice(gyre_list *list, ptrdiff_t start, ptrdiff_t stop) {
  size_t n = 0;
  void **items = gyre__list_snapshot(list, start, stop, &n);
  if (items == NULL) return NULL;
  gyre_list *slice = list_of(items, n);
  gyre_free(items);
  return slice;
}

gyre_list *gyre_list_copy(gyre_list *list) { return gyre_list_slice(list, 0, PTRDIFF_MAX); }

/* ---- changing ---- */

int gyre_list_set(gyre_list *list, ptrdiff_t index, void *item) {
  if (item == NULL) return -EINVAL;
  if (!enter(list)) return -errno;
  bool locked = lock(list);
  size_t length = length_of(list);
  size_t at = (size_t)(index < 0 ? index + (ptrdiff_t)length : index);
  void *old = NULL;
  if (at < length) old = gyre_swap(&array_of(list)->at[at], gyre_retain(item));
  unlock(list, locked);
  gyre_release(old);
  return at < length ? 0 : -ERANGE;
}

int gyre_list_append(gyre_list *list, void *item) {
  if (item == NULL) return -EINVAL;
  if (!enter(list)) return -errno;
  bool locked = lock(list);
  size_t length = length_of(list);
  struct items *items = array_of(list);
  bool fits = length < capacity_of(items);
  if (GYRE_LIKELY(fits)) {
    gyre_slot_init(&items->at[length], gyre_retain(item));
    length_set(list, length + 1);
  }
  unlock(list, locked);
  return GYRE_LIKELY(fits) ? 0 : gyre_list_insert(list, PTRDIFF_MAX, item);
}

int gyre_list_insert(gyre_list *list, ptrdiff_t index, void *item) {
  if (item == NULL) return -EINVAL;
  struct change change;
  int result = change_begin(list, 1, &change);
  if (result != 0) return result;
  size_t length = length_of(list), at = gyre__bound(index, length);
  struct items *items = array_of(list);
  if (at < length) gyre_slots_move(items, &items->at[at + 1], &items->at[at], length - at);
  gyre_slot_init(&items->at[at], gyre_retain(item));
  length_set(list, length + 1);
  change_end(list, &change);
  return 0;
}

int gyre_list_extend(gyre_list *list, void *const *items, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (items[i] == NULL) return -EINVAL;
  struct change change;
  int result = change_begin(list, n, &change);
  if (result != 0) return result;
  size_t length = length_of(list);
  struct items *array = array_of(list);
  for (size_t i = 0; i < n; i++)
    gyre_slot_init(&array->at[length + i], gyre_retain(items[i]));
  length_set(list, length + n);
  change_end(list, &change);
  return 0;
}

int gyre_list_extend_list(gyre_list *list, gyre_list *other) {
  size_t n = 0;
  void **items = gyre__list_snapshot(other, 0, PTRDIFF_MAX, &n);
  if (items == NULL) return -errno;
  int result = gyre_list_extend(list, items, n);
  for (size_t i = 0; i < n; i++)
    gyre_release(items[i]);
  gyre_free(items);
  return result;
}

/* Takes the item at a valid index out, under the lock. */
static void *item_remove(gyre_list *list, size_t at) {
  size_t length = length_of(list);
  struct items *items = array_of(list);
  if (at == length - 1) {
    length_set(list, length - 1);
    GYRE_WINDOW("list/shorter");
    return gyre_take(&items->at[at]);
  }
  /* Counted once more, and so published, before the move overwrites its slot. */
  void *item = gyre_load(&items->at[at]);
  gyre_slots_move(items, &items->at[at], &items->at[at + 1], length - at - 1);
  length_set(list, length - 1);
  GYRE_WINDOW("list/shorter");
  gyre_slots_forget(&items->at[length - 1], 1);
  gyre_release(item);
  return item;
}

void *gyre_list_pop(gyre_list *list, ptrdiff_t index) {
  if (!enter(list)) return NULL;
  bool locked = lock(list);
  size_t length = length_of(list);
  size_t at = (size_t)(index < 0 ? index + (ptrdiff_t)length : index);
  void *item = at < length ? item_remove(list, at) : NULL;
  bool smaller = is_too_large(list);
  unlock(list, locked);
  if (smaller) shrink(list);
  if (item == NULL) errno = ERANGE;
  return item;
}

/* Drops the items that an array still has which was the list's, then the array. */
static void array_drop(gyre_list *list, struct items *items) {
  if (items == NULL) return;
  /* seq_cst: as in array_discard(). */
  if (gyre__load_seq_cst(&list->is_shared) == 0) {
    /* Drops the items, too, and bounds its work. */
    gyre_release(items);
    return;
  }
  for (size_t i = 0; i < items->capacity; i++)
    gyre_release(gyre_take(&items->at[i]));
  gyre_array_forget(items);
  array_discard(list, items);
}

int gyre_list_delete(gyre_list *list, ptrdiff_t start, ptrdiff_t stop) {
  if (!enter(list)) return -errno;
  struct items *fresh = NULL, *old = NULL;
  for (bool done = false;;) {
    bool locked = lock(list);
    size_t length = length_of(list), from = gyre__bound(start, length),
           to = gyre__bound(stop, length);
    size_t left = to > from ? length - (to - from) : length;
    if (left == length) {
      old = fresh;
      done = true;
    } else if (fresh != NULL && fresh->capacity >= left) {
      old = array_of(list);
      gyre_slots_move(old, fresh->at, old->at, from);
      gyre_slots_move(old, &fresh->at[from], &old->at[to], length - to);
      /* The length first: who finds the new array must not look for items beyond it. */
      length_set(list, left);
      GYRE_WINDOW("list/deleting");
      old = gyre_swap(&list->items, fresh);
      gyre_slots_forget(old->at, from);
      gyre_slots_forget(&old->at[to], length - to);
      done = true;
    }
    unlock(list, locked);
    if (done) break;
    gyre_release(fresh);
    if ((fresh = array_new(capacity_for(left))) == NULL) return -ENOMEM;
  }
  array_drop(list, old);
  return 0;
}

void gyre_list_clear(gyre_list *list) {
  GYRE_REQUIRE(enter(list), "gyre_list_clear() in a thread that cannot attach");
  bool locked = lock(list);
  length_set(list, 0);
  struct items *old = gyre_take(&list->items);
  unlock(list, locked);
  array_drop(list, old);
}

int gyre_list_reverse(gyre_list *list) {
  if (!enter(list)) return -errno;
  void **places = NULL;
  size_t room = 0;
  for (;;) {
    bool locked = lock(list);
    size_t n = length_of(list);
    if (n < 2 || n <= room) {
      struct items *items = array_of(list);
      /* The array's slots stay as they are for readers until they are overwritten. */
      item_slot *moved = (item_slot *)(void *)places;
      if (n >= 2) gyre_slots_move(items, moved, items->at, n);
      for (size_t i = 0; i < n / 2; i++) {
        void *place = places[i];
        places[i] = places[n - 1 - i];
        places[n - 1 - i] = place;
      }
      if (n >= 2) gyre_slots_move(NULL, items->at, moved, n);
      unlock(list, locked);
      gyre_free(places);
      return 0;
    }
    unlock(list, locked);
    gyre_free(places);
    room = n;
    if ((places = gyre_malloc(room * sizeof *places)) == NULL) return -ENOMEM;
  }
}

/* ---- searching ---- */

ptrdiff_t gyre_list_index(gyre_list *list, void *value, ptrdiff_t start, ptrdiff_t stop) {
  size_t length = gyre_list_length(list);
  size_t i = gyre__bound(start, length), end = gyre__bound(stop, length);
  for (; i < end; i++) {
    void *item = gyre_list_get(list, (ptrdiff_t)i);
    if (item == NULL) break; /* it has become shorter */
    int equal = gyre_equal(item, value);
    gyre_release(item);
    if (equal < 0) return equal;
    if (equal) return (ptrdiff_t)i;
  }
  return -ENOENT;
}

ptrdiff_t gyre_list_count(gyre_list *list, void *value) {
  ptrdiff_t count = 0;
  for (ptrdiff_t i = 0;; i++) {
    void *item = gyre_list_get(list, i);
    if (item == NULL) return count;
    int equal = gyre_equal(item, value);
    gyre_release(item);
    if (equal < 0) return equal;
    count += equal;
  }
}

int gyre_list_remove(gyre_list *list, void *value) {
  for (ptrdiff_t i = 0;; i++) {
    void *item = gyre_list_get(list, i);
    if (item == NULL) return -ENOENT;
    int equal = gyre_equal(item, value);
    if (equal < 0) {
      gyre_release(item);
      return equal;
    }
    if (equal) {
      bool locked = lock(list);
      bool there = (size_t)i < length_of(list) && gyre_borrow(&array_of(list)->at[i]) == item;
      void *removed = there ? item_remove(list, (size_t)i) : NULL;
      bool smaller = there && is_too_large(list);
      unlock(list, locked);
      gyre_release(item);
      if (smaller) shrink(list);
      gyre_release(removed);
      if (there) return 0;
      i = -1; /* the list has changed under the comparison: from the start */
      continue;
    }
    gyre_release(item);
  }
}

/* Item by item; the lists may change under the comparisons. */
static int lists_equal(const void *object, const void *other) {
  if (gyre_type_of(other) != &gyre_list_type) return 0;
  gyre_list *a = (gyre_list *)(uintptr_t)object, *b = (gyre_list *)(uintptr_t)other;
  if (gyre_list_length(a) != gyre_list_length(b)) return 0;
  int equal = 1;
  bool end = false;
  for (ptrdiff_t i = 0; equal == 1 && !end; i++) {
    void *x = gyre_list_get(a, i), *y = gyre_list_get(b, i);
    end = x == NULL || y == NULL;
    equal = end ? x == y : gyre_equal(x, y);
    gyre_release(x);
    gyre_release(y);
  }
  return equal;
}

/* ---- sorting ---- */

/* Merge sort from below: runs of RUN by insertion, then merges of neighbours, which are left out where
 * they are in order already. */
#define RUN 8

struct sort {
  gyre_list_compare *compare;
  void *arg;
};

static void runs_sort(const struct sort *s, void **a, size_t n) {
  for (size_t start = 0; start < n; start += RUN) {
    size_t end = n - start < RUN ? n : start + RUN;
    for (size_t i = start + 1; i < end; i++) {
      void *item = a[i];
      size_t to = i;
      while (to > start && s->compare(a[to - 1], item, s->arg) > 0)
        to--;
      memmove(&a[to + 1], &a[to], (i - to) * sizeof *a);
      a[to] = item;
    }
  }
}

/* Merges a[0..middle) and a[middle..n), with room for the first in `spare`. */
static void merge(const struct sort *s, void **a, size_t middle, size_t n, void **spare) {
  if (s->compare(a[middle - 1], a[middle], s->arg) <= 0) return;
  memcpy(spare, a, middle * sizeof *a);
  size_t left = 0, right = middle, to = 0;
  while (left < middle && right < n)
    a[to++] = s->compare(spare[left], a[right], s->arg) <= 0 ? spare[left++] : a[right++];
  memcpy(&a[to], &spare[left], (middle - left) * sizeof *a);
}

static void merge_sort(const struct sort *s, void **a, size_t n, void **spare) {
  runs_sort(s, a, n);
  for (size_t width = RUN; width < n; width *= 2)
    for (size_t start = 0; n - start > width; start += 2 * width) {
      size_t size = n - start < 2 * width ? n - start : 2 * width;
      merge(s, &a[start], width, size, spare);
      if (size < 2 * width) break;
    }
}

int gyre_list_sort(gyre_list *list, gyre_list_compare *compare, void *arg) {
  if (compare == NULL) return -EINVAL;
  if (!enter(list)) return -errno;
  /* The items, and as much room again for merging. */
  void **places = NULL;
  size_t room = 0, n;
  bool locked;
  for (;;) {
    locked = lock(list);
    n = length_of(list);
    if (n < 2 || n <= room) break;
    unlock(list, locked);
    gyre_free(places);
    room = n;
    if ((places = gyre_calloc(room, 2 * sizeof *places)) == NULL) return -ENOMEM;
  }
  if (n < 2) {
    unlock(list, locked);
    gyre_free(places);
    return 0;
  }
  length_set(list, 0);
  struct items *items = gyre_take(&list->items);
  unlock(list, locked);

  item_slot *moved = (item_slot *)(void *)places;
  gyre_slots_move(items, moved, items->at, n);
  gyre_slots_forget(items->at, n);
  merge_sort(&(struct sort){compare, arg}, places, n, places + n);
  gyre_slots_move(NULL, items->at, moved, n);
  gyre_free(places);

  locked = lock(list);
  if (length_of(list) > n) length_set(list, n); /* first, as in gyre_list_delete() */
  struct items *other = gyre_swap(&list->items, items);
  length_set(list, n);
  unlock(list, locked);
  array_drop(list, other);
  return other != NULL ? -EBUSY : 0;
}
