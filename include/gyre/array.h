/* SPDX-License-Identifier: MIT */
/* gyre/array.h: numbers side by side, without a box each: Python's array.array.
 *
 *     gyre_array *a = gyre_array_new(GYRE_I32);
 *     gyre_array_append_int(a, 42);
 *
 *     gyre_array_view view;                               // plain memory, for loops
 *     if (gyre_array_view_begin(a, &view) == 0) {
 *       for (size_t i = 0; i < view.length; i++) sum += ((const int32_t *)view.data)[i];
 *       gyre_array_view_end(&view);
 *     }
 *
 * A million 4-byte integers take 4 MB, and 40 MB as a list of integer objects (Python: 4.1 and 36). An
 * array is a leaf object that no collector looks at; it grows by an eighth at a time.
 *
 * All functions: any thread that holds the array; they attach it if it is not attached. Each call is
 * atomic: it takes the array's object lock for a moment, and is a safepoint if another thread has it. What
 * a view shows is plain memory: threads that write to it while others read have to agree among
 * themselves. While there are views of an array it keeps its size: calls that would change that give
 * -EBUSY (Python's BufferError). Results: 0 or a count, -ERANGE for an index outside the array,
 * -EOVERFLOW for a number that the type cannot hold, -EINVAL for a number of the wrong kind, -EBUSY, or
 * -ENOMEM; nothing has changed then. Indices count from 0, negative ones from the end. "Elements"
 * given or returned by pointer are of the array's type, in the machine's byte order.
 */
#ifndef GYRE_ARRAY_H
#define GYRE_ARRAY_H

#include <stdio.h>

#include <gyre/hash.h>

GYRE_BEGIN_DECLS

/* An array; an object: gyre_retain() and gyre_release() apply. Two arrays are equal (gyre_equal) if they
 * have the same numbers in the same order, whatever their types. An array has no hash. */
typedef struct gyre_array gyre_array;

extern GYRE_API gyre_type gyre_array_type;

/* What the elements are: their C type, and array.array's type code. */
enum gyre_array_kind {
  GYRE_I8,  /* int8_t   b */
  GYRE_U8,  /* uint8_t  B */
  GYRE_I16, /* int16_t  h */
  GYRE_U16, /* uint16_t H */
  GYRE_I32, /* int32_t  i */
  GYRE_U32, /* uint32_t I */
  GYRE_I64, /* int64_t  q */
  GYRE_U64, /* uint64_t Q */
  GYRE_F32, /* float    f */
  GYRE_F64, /* double   d */
};

/* An empty array, or one of n elements copied from `elements`. A *new* reference; NULL with errno ENOMEM,
 * or EINVAL for an unknown kind. */
GYRE_API gyre_array *gyre_array_new(enum gyre_array_kind kind);
GYRE_API gyre_array *gyre_array_from(enum gyre_array_kind kind, const void *elements, size_t n);

/* How many elements there are (gyre_array_length() is an object's question, object.h); what they are;
 * bytes of one; type code. */
GYRE_API size_t gyre_array_size(gyre_array *array);
GYRE_API enum gyre_array_kind gyre_array_kind_of(const gyre_array *array);
GYRE_API size_t gyre_array_itemsize(const gyre_array *array);
GYRE_API char gyre_array_typecode(const gyre_array *array);

/* Copies the n elements from `index` on into `out`. 0 or an error: -ERANGE if not all are there. */
GYRE_API int gyre_array_get(gyre_array *array, ptrdiff_t index, void *out, size_t n);

/* Overwrites the n elements from `index` on. 0 or an error. Allowed while there are views. */
GYRE_API int gyre_array_set(gyre_array *array, ptrdiff_t index, const void *elements, size_t n);

/* One number, converted: of integer arrays as int64_t (-EOVERFLOW beyond it), of any as double. */
GYRE_API int gyre_array_get_int(gyre_array *array, ptrdiff_t index, int64_t *out);
GYRE_API int gyre_array_get_double(gyre_array *array, ptrdiff_t index, double *out);
GYRE_API int gyre_array_set_int(gyre_array *array, ptrdiff_t index, int64_t value);
GYRE_API int gyre_array_set_double(gyre_array *array, ptrdiff_t index, double value);

/* Adds n elements at the end, or before `index` (beyond an end means that end). 0 or an error. */
GYRE_API int gyre_array_append(gyre_array *array, const void *elements, size_t n);
GYRE_API int gyre_array_insert(gyre_array *array, ptrdiff_t index, const void *elements, size_t n);

/* Adds one number at the end, converted: -EOVERFLOW if the type cannot hold it, -EINVAL for a double in
 * an array of integers. 0 or an error. */
GYRE_API int gyre_array_append_int(gyre_array *array, int64_t value);
GYRE_API int gyre_array_append_double(gyre_array *array, double value);

/* Adds the elements that `other` has at the moment (`array` itself is allowed); -EINVAL if it is of
 * another kind. 0 or an error. */
GYRE_API int gyre_array_extend(gyre_array *array, gyre_array *other);

/* Removes the element at `index`; *out receives it, if out is not NULL. 0 or an error. */
GYRE_API int gyre_array_pop(gyre_array *array, ptrdiff_t index, void *out);

/* Removes the elements from `start` up to, not including, `stop`; or all. 0 or an error. */
GYRE_API int gyre_array_delete(gyre_array *array, ptrdiff_t start, ptrdiff_t stop);
GYRE_API int gyre_array_clear(gyre_array *array);

/* Where the first element equal to *element is, or -ENOENT; how many are; removes the first: 0, -ENOENT
 * or an error. (A NaN is equal to none.) */
GYRE_API ptrdiff_t gyre_array_index(gyre_array *array, const void *element);
GYRE_API ptrdiff_t gyre_array_count(gyre_array *array, const void *element);
GYRE_API int gyre_array_remove(gyre_array *array, const void *element);

/* Reverses the order of the elements; the order of the bytes in each. */
GYRE_API void gyre_array_reverse(gyre_array *array);
GYRE_API void gyre_array_byteswap(gyre_array *array);

/* A new array of the elements from `start` up to, not including, `stop`; of all. A *new* reference; NULL
 * with errno ENOMEM. */
GYRE_API gyre_array *gyre_array_slice(gyre_array *array, ptrdiff_t start, ptrdiff_t stop);
GYRE_API gyre_array *gyre_array_copy(gyre_array *array);

/* The bytes of all elements: copies at most `size` into `out` and returns how many there are. Adds
 * elements from their bytes: -EINVAL if `size` is no multiple of the element size. */
GYRE_API size_t gyre_array_tobytes(gyre_array *array, void *out, size_t size);
GYRE_API int gyre_array_frombytes(gyre_array *array, const void *bytes, size_t size);

/* Writes the bytes of all elements to a file, which is a view of the array as long as it takes; reads n
 * elements from it and adds them. Parked while they wait: a safepoint. 0, -EIO, or an error; gyre_array_fromfile() gives -ENODATA if the file ended before
 * (Python's EOFError), with what there was added. */
GYRE_API int gyre_array_tofile(gyre_array *array, FILE *file);
GYRE_API int gyre_array_fromfile(gyre_array *array, FILE *file, size_t n);

/* The elements as plain memory: Python's buffer interface. Holds the array counted. */
typedef struct gyre_array_view {
  void *data;
  size_t length; /* elements */
  enum gyre_array_kind kind;
  gyre_array *array;
} gyre_array_view;

/* Begins a view: the elements keep their place, and the array its size, until all views have ended. 0, or
 * what attaching the thread said. Ending it twice does nothing the second time. */
GYRE_API int gyre_array_view_begin(gyre_array *array, gyre_array_view *view);
GYRE_API void gyre_array_view_end(gyre_array_view *view);

GYRE_END_DECLS

#endif
