/* SPDX-License-Identifier: MIT */
/* Typed arrays: a leaf object with a raw block, under its object lock.
 *
 * Every call takes the lock for the time of a memcpy. A reader without one would have to know that the
 * block stays; that is what views are for, which pin it. Nothing is allocated under the lock, since that may
 * call the program's out-of-memory handler: a larger block is allocated before, and copied to under it.
 */
#include <gyre/array.h>

#include <errno.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "lib/value/sequence.h"

struct gyre_array {
  /* -- constant -- */
  enum gyre_array_kind kind;
  uint32_t itemsize;
  /* -- under the lock -- */
  size_t views;
  size_t length, capacity; /* elements */
  char *data;              /* gyre_malloc() */
};

static const struct kind {
  uint8_t size;
  char code;
  bool is_float;
  int64_t min;
  uint64_t max;
} kinds[] = {
    [GYRE_I8] = {1, 'b', false, INT8_MIN, INT8_MAX},
    [GYRE_U8] = {1, 'B', false, 0, UINT8_MAX},
    [GYRE_I16] = {2, 'h', false, INT16_MIN, INT16_MAX},
    [GYRE_U16] = {2, 'H', false, 0, UINT16_MAX},
    [GYRE_I32] = {4, 'i', false, INT32_MIN, INT32_MAX},
    [GYRE_U32] = {4, 'I', false, 0, UINT32_MAX},
    [GYRE_I64] = {8, 'q', false, INT64_MIN, INT64_MAX},
    [GYRE_U64] = {8, 'Q', false, 0, UINT64_MAX},
    [GYRE_F32] = {4, 'f', true, 0, 0},
    [GYRE_F64] = {8, 'd', true, 0, 0},
};
#define KINDS (sizeof kinds / sizeof *kinds)

static int arrays_equal(const void *object, const void *other);
static void array_destroy(void *object) { gyre_free(((gyre_array *)object)->data); }

gyre_type gyre_array_type = {.name = "gyre_array",
                             .size = sizeof(struct gyre_array),
                             .destroy = array_destroy,
                             .hash = gyre_hash_refuse,
                             .equal = arrays_equal};

/* ---- one number ---- */

/* A number of any kind. */
struct number {
  enum { NEGATIVE, NATURAL, REAL } what;
  union {
    int64_t negative;
    uint64_t natural;
    double real;
  } as;
};

static struct number number_of_int(int64_t value) {
  if (value < 0) return (struct number){NEGATIVE, {.negative = value}};
  return (struct number){NATURAL, {.natural = (uint64_t)value}};
}

static struct number number_at(enum gyre_array_kind kind, const void *at) {
  union {
    int8_t i8;
    int16_t i16;
    int32_t i32;
    int64_t i64;
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
    float f32;
    double f64;
  } u;
  memcpy(&u, at, kinds[kind].size);
  switch (kind) {
  case GYRE_I8:
    return number_of_int(u.i8);
  case GYRE_I16:
    return number_of_int(u.i16);
  case GYRE_I32:
    return number_of_int(u.i32);
  case GYRE_I64:
    return number_of_int(u.i64);
  case GYRE_U8:
    return (struct number){NATURAL, {.natural = u.u8}};
  case GYRE_U16:
    return (struct number){NATURAL, {.natural = u.u16}};
  case GYRE_U32:
    return (struct number){NATURAL, {.natural = u.u32}};
  case GYRE_U64:
    return (struct number){NATURAL, {.natural = u.u64}};
  case GYRE_F32:
    return (struct number){REAL, {.real = (double)u.f32}};
  default:
    return (struct number){REAL, {.real = u.f64}};
  }
}

static double number_as_double(struct number n) {
  return n.what == REAL      ? n.as.real
         : n.what == NATURAL ? (double)n.as.natural
                             : (double)n.as.negative;
}

/* By value across kinds, as Python's numbers compare: exactly. */
static bool numbers_equal(struct number a, struct number b) {
  if (a.what == b.what)
    return a.what == REAL ? !(a.as.real < b.as.real) && !(a.as.real > b.as.real) &&
                                !isnan(a.as.real) && !isnan(b.as.real)
                          : a.as.natural == b.as.natural;
  if (a.what != REAL && b.what != REAL) return false;
  double real = a.what == REAL ? a.as.real : b.as.real;
  struct number whole = a.what == REAL ? b : a;
  if (isnan(real) || real < -0x1p63 || real >= 0x1p64) return false;
  /* Without its fraction it has an exact value as an integer, and that has one as a double. */
  if (whole.what == NEGATIVE)
    return real < 0 && (int64_t)real == whole.as.negative && !(real < (double)(int64_t)real);
  return !(real < 0) && (uint64_t)real == whole.as.natural && !(real > (double)(uint64_t)real);
}

/* Writes an integer as an element. 0, or -EOVERFLOW. */
static int element_of_int(enum gyre_array_kind kind, int64_t value, void *out) {
  const struct kind *k = &kinds[kind];
  if (kind == GYRE_F32) {
    float f = (float)value;
    memcpy(out, &f, sizeof f);
  } else if (kind == GYRE_F64) {
    double d = (double)value;
    memcpy(out, &d, sizeof d);
  } else {
    if (value < k->min || (value > 0 && (uint64_t)value > k->max)) return -EOVERFLOW;
    /* The low bytes, which come first. */
    _Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "element_of_int()");
    memcpy(out, &value, k->size);
  }
  return 0;
}

static int element_of_double(enum gyre_array_kind kind, double value, void *out) {
  if (!kinds[kind].is_float) return -EINVAL;
  if (kind == GYRE_F64) {
    memcpy(out, &value, sizeof value);
    return 0;
  }
  /* Infinities and NaNs are floats too. */
  if (isfinite(value) && fabs(value) > (double)FLT_MAX) return -EOVERFLOW;
  float f = (float)value;
  memcpy(out, &f, sizeof f);
  return 0;
}

/* ---- under the lock ---- */

static int lock(gyre_array *array) {
  GYRE__EXPECT_TYPE(array, &gyre_array_type);
  if (gyre_thread_attach() == NULL) return -errno;
  gyre_lock(array);
  return 0;
}

static char *at(const gyre_array *array, size_t index) {
  return array->data + index * array->itemsize;
}

/* Room for an eighth more. */
static size_t capacity_for(size_t length) { return length + (length >> 3) + (length < 8 ? 3 : 7); }

/* Locks the array, with room for n more elements. 0, or an error: then it is not locked. *spare receives
 * a block to be freed after it was let go. */
static int lock_with_room(gyre_array *array, size_t n, void **spare) {
  char *fresh = NULL;
  size_t room = 0;
  *spare = NULL;
  for (;;) {
    int result = lock(array);
    size_t need;
    if (result == 0 && array->views > 0 && n > 0) {
      gyre_unlock(array);
      result = -EBUSY;
    } else if (result == 0 && __builtin_add_overflow(array->length, n, &need)) {
      gyre_unlock(array);
      result = -ENOMEM;
    }
    if (result != 0) {
      gyre_free(fresh);
      return result;
    }
    if (array->capacity >= need) {
      *spare = fresh;
      return 0;
    }
    if (room >= need) {
      if (array->length > 0) memcpy(fresh, array->data, array->length * array->itemsize);
      *spare = array->data;
      array->data = fresh;
      array->capacity = room;
      return 0;
    }
    room = n > 1 && array->capacity == 0 ? need : capacity_for(need);
    gyre_unlock(array);
    gyre_free(fresh);
    size_t bytes;
    if (room < need || __builtin_mul_overflow(room, (size_t)array->itemsize, &bytes))
      return -ENOMEM;
    if ((fresh = gyre_malloc(bytes)) == NULL) return -ENOMEM;
  }
}

static void unlock(gyre_array *array, void *spare) {
  gyre_unlock(array);
  gyre_free(spare);
}

/* A valid index as an offset, or -ERANGE. */
static ptrdiff_t offset_of(const gyre_array *array, ptrdiff_t index, size_t n) {
  if (index < 0) index += (ptrdiff_t)array->length;
  if (index < 0 || (size_t)index > array->length || array->length - (size_t)index < n)
    return -ERANGE;
  return index;
}

/* Takes elements out. 0 or -EBUSY. */
static int elements_remove(gyre_array *array, size_t from, size_t to) {
  if (from >= to) return 0;
  if (array->views > 0) return -EBUSY;
  memmove(at(array, from), at(array, to), (array->length - to) * array->itemsize);
  array->length -= to - from;
  return 0;
}

/* After the lock was let go: gives back the room of many removed elements, if nobody is at it. */
static void shrink(gyre_array *array) {
  if (lock(array) != 0) return;
  size_t length = array->length, capacity = array->capacity;
  gyre_unlock(array);
  if (capacity < 64 || length >= capacity / 2) return;
  size_t room = capacity_for(length);
  char *fresh = gyre_malloc(room * array->itemsize), *old = fresh;
  if (fresh == NULL) return;
  gyre_lock(array);
  if (array->views == 0 && array->length <= room && room < array->capacity) {
    if (array->length > 0) memcpy(fresh, array->data, array->length * array->itemsize);
    old = array->data;
    array->data = fresh;
    array->capacity = room;
  }
  unlock(array, old);
}

/* ---- making ---- */

gyre_array *gyre_array_new(enum gyre_array_kind kind) {
  if ((size_t)kind >= KINDS) {
    errno = EINVAL;
    return NULL;
  }
  gyre_array *array = gyre_new(&gyre_array_type);
  if (array == NULL) return NULL;
  array->kind = kind;
  array->itemsize = kinds[kind].size;
  return array;
}

gyre_array *gyre_array_from(enum gyre_array_kind kind, const void *elements, size_t n) {
  gyre_array *array = gyre_array_new(kind);
  int result = array != NULL ? gyre_array_append(array, elements, n) : 0;
  if (result == 0) return array;
  gyre_release(array);
  errno = -result;
  return NULL;
}

/* No view: it would have others' calls fail meanwhile. */
gyre_array *gyre_array_slice(gyre_array *array, ptrdiff_t start, ptrdiff_t stop) {
  gyre_array *slice = gyre_array_new(array->kind);
  int result = slice != NULL ? 0 : -ENOMEM;
  while (result == 0 && (result = lock(array)) == 0) {
    size_t from = gyre__bound(start, array->length), to = gyre__bound(stop, array->length);
    size_t n = to > from ? to - from : 0;
    bool fits = n <= slice->capacity;
    if (fits && n > 0) memcpy(slice->data, at(array, from), n * slice->itemsize);
    gyre_unlock(array);
    if (fits) {
      slice->length = n;
      return slice;
    }
    GYRE_WINDOW("array/slice_unlocked");
    gyre_free(slice->data);
    slice->data = gyre_malloc(n * slice->itemsize);
    slice->capacity = slice->data != NULL ? n : 0;
    if (slice->data == NULL) result = -ENOMEM;
  }
  gyre_release(slice);
  errno = -result;
  return NULL;
}

gyre_array *gyre_array_copy(gyre_array *array) { return gyre_array_slice(array, 0, PTRDIFF_MAX); }

/* ---- questions ---- */

enum gyre_array_kind gyre_array_kind_of(const gyre_array *array) { return array->kind; }
size_t gyre_array_itemsize(const gyre_array *array) { return array->itemsize; }
char gyre_array_typecode(const gyre_array *array) { return kinds[array->kind].code; }

size_t gyre_array_size(gyre_array *array) {
  if (lock(array) != 0) return 0;
  size_t length = array->length;
  gyre_unlock(array);
  return length;
}

int gyre_array_get(gyre_array *array, ptrdiff_t index, void *out, size_t n) {
  int result = lock(array);
  if (result != 0) return result;
  ptrdiff_t offset = offset_of(array, index, n);
  if (offset >= 0 && n > 0) memcpy(out, at(array, (size_t)offset), n * array->itemsize);
  gyre_unlock(array);
  return offset < 0 ? (int)offset : 0;
}

int gyre_array_get_int(gyre_array *array, ptrdiff_t index, int64_t *out) {
  char element[8];
  if (kinds[array->kind].is_float) return -EINVAL;
  int result = gyre_array_get(array, index, element, 1);
  if (result != 0) return result;
  struct number n = number_at(array->kind, element);
  if (n.what == NATURAL && n.as.natural > INT64_MAX) return -EOVERFLOW;
  *out = n.what == NATURAL ? (int64_t)n.as.natural : n.as.negative;
  return 0;
}

int gyre_array_get_double(gyre_array *array, ptrdiff_t index, double *out) {
  char element[8];
  int result = gyre_array_get(array, index, element, 1);
  if (result == 0) *out = number_as_double(number_at(array->kind, element));
  return result;
}

static bool element_is(const gyre_array *array, size_t i, const void *element) {
  if (!kinds[array->kind].is_float) return memcmp(at(array, i), element, array->itemsize) == 0;
  return numbers_equal(number_at(array->kind, at(array, i)), number_at(array->kind, element));
}

static ptrdiff_t element_find(const gyre_array *array, const void *element) {
  for (size_t i = 0; i < array->length; i++)
    if (element_is(array, i, element)) return (ptrdiff_t)i;
  return -ENOENT;
}

ptrdiff_t gyre_array_index(gyre_array *array, const void *element) {
  int result = lock(array);
  if (result != 0) return result;
  ptrdiff_t found = element_find(array, element);
  gyre_unlock(array);
  return found;
}

ptrdiff_t gyre_array_count(gyre_array *array, const void *element) {
  int result = lock(array);
  if (result != 0) return result;
  ptrdiff_t count = 0;
  for (size_t i = 0; i < array->length; i++)
    count += element_is(array, i, element);
  gyre_unlock(array);
  return count;
}

static int arrays_equal(const void *object, const void *other) {
  if (gyre_type_of(other) != &gyre_array_type) return 0;
  gyre_array *a = (gyre_array *)(uintptr_t)object, *b = (gyre_array *)(uintptr_t)other;
  if (gyre_thread_attach() == NULL) return -errno;
  gyre_lock2(a, b);
  bool equal = a->length == b->length;
  for (size_t i = 0; equal && i < a->length; i++)
    equal = numbers_equal(number_at(a->kind, at(a, i)), number_at(b->kind, at(b, i)));
  gyre_unlock2(a, b);
  return equal;
}

/* ---- changes ---- */

int gyre_array_set(gyre_array *array, ptrdiff_t index, const void *elements, size_t n) {
  int result = lock(array);
  if (result != 0) return result;
  ptrdiff_t offset = offset_of(array, index, n);
  if (offset >= 0 && n > 0) memcpy(at(array, (size_t)offset), elements, n * array->itemsize);
  gyre_unlock(array);
  return offset < 0 ? (int)offset : 0;
}

int gyre_array_set_int(gyre_array *array, ptrdiff_t index, int64_t value) {
  char element[8];
  int result = element_of_int(array->kind, value, element);
  return result != 0 ? result : gyre_array_set(array, index, element, 1);
}

int gyre_array_set_double(gyre_array *array, ptrdiff_t index, double value) {
  char element[8];
  int result = element_of_double(array->kind, value, element);
  return result != 0 ? result : gyre_array_set(array, index, element, 1);
}

int gyre_array_insert(gyre_array *array, ptrdiff_t index, const void *elements, size_t n) {
  void *spare;
  int result = lock_with_room(array, n, &spare);
  if (result != 0) return result;
  size_t to = gyre__bound(index, array->length);
  if (n > 0) {
    memmove(at(array, to + n), at(array, to), (array->length - to) * array->itemsize);
    memcpy(at(array, to), elements, n * array->itemsize);
  }
  array->length += n;
  unlock(array, spare);
  return 0;
}

int gyre_array_append(gyre_array *array, const void *elements, size_t n) {
  return gyre_array_insert(array, PTRDIFF_MAX, elements, n);
}

int gyre_array_append_int(gyre_array *array, int64_t value) {
  char element[8];
  int result = element_of_int(array->kind, value, element);
  return result != 0 ? result : gyre_array_append(array, element, 1);
}

int gyre_array_append_double(gyre_array *array, double value) {
  char element[8];
  int result = element_of_double(array->kind, value, element);
  return result != 0 ? result : gyre_array_append(array, element, 1);
}

int gyre_array_extend(gyre_array *array, gyre_array *other) {
  if (other->kind != array->kind) return -EINVAL;
  gyre_array *copy = gyre_array_copy(other);
  if (copy == NULL) return -errno;
  int result = gyre_array_append(array, copy->data, copy->length);
  gyre_release(copy);
  return result;
}

int gyre_array_pop(gyre_array *array, ptrdiff_t index, void *out) {
  int result = lock(array);
  if (result != 0) return result;
  ptrdiff_t offset = offset_of(array, index, 1);
  char element[8] = {0};
  if (offset >= 0) {
    memcpy(element, at(array, (size_t)offset), array->itemsize);
    result = elements_remove(array, (size_t)offset, (size_t)offset + 1);
  } else {
    result = (int)offset;
  }
  bool large = array->capacity >= 64 && array->length < array->capacity / 2;
  gyre_unlock(array);
  if (result == 0 && out != NULL) memcpy(out, element, array->itemsize);
  if (large) shrink(array);
  return result;
}

int gyre_array_delete(gyre_array *array, ptrdiff_t start, ptrdiff_t stop) {
  int result = lock(array);
  if (result != 0) return result;
  result =
      elements_remove(array, gyre__bound(start, array->length), gyre__bound(stop, array->length));
  gyre_unlock(array);
  if (result == 0) shrink(array);
  return result;
}

int gyre_array_clear(gyre_array *array) { return gyre_array_delete(array, 0, PTRDIFF_MAX); }

int gyre_array_remove(gyre_array *array, const void *element) {
  int result = lock(array);
  if (result != 0) return result;
  ptrdiff_t found = element_find(array, element);
  result = found < 0 ? (int)found : elements_remove(array, (size_t)found, (size_t)found + 1);
  gyre_unlock(array);
  return result;
}

static void swap_bytes(char *a, char *b, size_t n) {
  char keep[8];
  memcpy(keep, a, n);
  memcpy(a, b, n);
  memcpy(b, keep, n);
}

void gyre_array_reverse(gyre_array *array) {
  if (lock(array) != 0) return;
  for (size_t i = 0; i < array->length / 2; i++)
    swap_bytes(at(array, i), at(array, array->length - 1 - i), array->itemsize);
  gyre_unlock(array);
}

void gyre_array_byteswap(gyre_array *array) {
  if (lock(array) != 0) return;
  for (size_t i = 0; i < array->length; i++)
    for (size_t low = 0, high = array->itemsize - 1u; low < high; low++, high--)
      swap_bytes(at(array, i) + low, at(array, i) + high, 1);
  gyre_unlock(array);
}

/* ---- bytes and files ---- */

size_t gyre_array_tobytes(gyre_array *array, void *out, size_t size) {
  if (lock(array) != 0) return 0;
  size_t bytes = array->length * array->itemsize;
  size_t copied = size < bytes ? size : bytes;
  if (copied > 0) memcpy(out, array->data, copied);
  gyre_unlock(array);
  return bytes;
}

int gyre_array_frombytes(gyre_array *array, const void *bytes, size_t size) {
  if (size % array->itemsize != 0) return -EINVAL;
  return gyre_array_append(array, bytes, size / array->itemsize);
}

int gyre_array_tofile(gyre_array *array, FILE *file) {
  gyre_array_view view;
  int result = gyre_array_view_begin(array, &view);
  if (result != 0) return result;
  size_t written = 0;
  if (view.length > 0) GYRE_BLOCKING {
      written = fwrite(view.data, array->itemsize, view.length, file);
    }
  result = written == view.length ? 0 : -EIO;
  gyre_array_view_end(&view);
  return result;
}

int gyre_array_fromfile(gyre_array *array, FILE *file, size_t n) {
  size_t bytes;
  if (__builtin_mul_overflow(n, (size_t)array->itemsize, &bytes)) return -ENOMEM;
  void *block = gyre_malloc(bytes);
  if (block == NULL) return -ENOMEM;
  size_t got = 0;
  GYRE_BLOCKING { got = fread(block, array->itemsize, n, file); }
  int result = gyre_array_append(array, block, got);
  gyre_free(block);
  if (result != 0 || got == n) return result;
  return ferror(file) ? -EIO : -ENODATA;
}

/* ---- views ---- */

int gyre_array_view_begin(gyre_array *array, gyre_array_view *view) {
  int result = lock(array);
  if (result != 0) return result;
  array->views++;
  *view = (gyre_array_view){array->data, array->length, array->kind, array};
  gyre_unlock(array);
  gyre_retain(array);
  return 0;
}

void gyre_array_view_end(gyre_array_view *view) {
  gyre_array *array = view->array;
  if (array == NULL) return;
  *view = (gyre_array_view){NULL, 0, view->kind, NULL};
  gyre_lock(array);
  GYRE_ASSERT(array->views > 0);
  array->views--;
  gyre_unlock(array);
  gyre_release(array);
}
