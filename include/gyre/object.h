/* SPDX-License-Identifier: MIT */
/* gyre/object.h: counted objects.
 *
 * An object is a plain C struct whose references to other objects are *slots*. Its type says where
 * the slots are; the library does the rest: it counts, frees at once what nobody refers to any
 * more, and finds dead cycles (gc.h).
 *
 *     typedef struct person {
 *       GYRE_SLOT(struct person) partner;
 *       int age;
 *     } person;
 *     GYRE_TYPE_DEFINE(person_type, person, .slots = GYRE_SLOTS(person, partner));
 *
 *     person *a = gyre_new(&person_type);      // count 1, zeroed
 *     person *b = gyre_new(&person_type);
 *     gyre_store(&a->partner, b);              // retains b
 *     gyre_release(b);
 *     gyre_release(a);                         // both are freed here
 *
 * Before each object lies a header of 16 bytes: type, owner, collector byte, flags, and two counts.
 * The thread that allocates an object *owns* it and counts in the local word, without atomics;
 * everybody else counts in the shared word. When the shared word alone can no longer tell, the
 * object is queued for its owner, who *merges* the two counts at a safepoint; a merged object has
 * no owner and counts in the shared word only. (Biased reference counting: Choi, Shull, Torrellas,
 * PACT 2018.)
 *
 * Who may do what: any thread may call anything here on an object of which it holds a counted
 * reference. Functions that take a counted reference as argument borrow it unless they say
 * "steals".
 */
#ifndef GYRE_OBJECT_H
#define GYRE_OBJECT_H

#include <string.h>

#include <gyre/heap.h>

GYRE_BEGIN_DECLS

/* ---- slots ------------------------------------------------------------------------------------
 */

/* A reference inside an object. Zero bytes are an empty slot. Only the slot operations touch it. */
typedef struct gyre_slot {
  gyre__atomic_ptr gyre__ref;
} gyre_slot;

/* Declares a slot that refers to objects of struct type T; T may be incomplete. */
#define GYRE_SLOT(T)                                                                               \
  union {                                                                                          \
    gyre_slot gyre__slot;                                                                          \
    T *gyre__type;                                                                                 \
  }

/* ---- types ------------------------------------------------------------------------------------
 */

/* Where one slot lies, and its field's name for pictures and messages. */
typedef struct gyre_slot_info {
  size_t offset;
  const char *name;
} gyre_slot_info;

typedef struct gyre_slots {
  const gyre_slot_info *at;
  size_t count;
} gyre_slots;

/* Called by a type's visit function for each counted reference it holds; non-zero is to be passed
 * straight back. */
typedef int gyre_visitor(void *object, void *arg);

/* Flags of a type. */
enum {
  /* Objects are born without an owner and count in the shared word from the start: for objects that
   * many threads count and drop as a matter of course. */
  GYRE_TYPE_SHARED = 1u << 0,
  /* gyre_try_retain() may be used on objects of this type: they die by one atomic step (at the
   * price of one more atomic operation in the release that kills them). Implied by
   * GYRE_TYPE_SHARED, and for a single object by its first weak reference. */
  GYRE_TYPE_TRY_RETAIN = 1u << 1,
  /* The collector does not free objects of this type that it finds dead in a cycle, or referred to from
   * one, nor run their finalizers, nor free what they refer to: these are uncollectable and go onto a list
   * (gyre_gc_take_garbage()). For objects that must be taken apart in an order that only the program
   * knows. By their counts they die as ever. */
  GYRE_TYPE_MANUAL_FINALIZE = 1u << 2,
  /* Finalizers of objects of this type run in the service thread, or in gyre_run_pending(), and not in the
   * release that drops the last reference: that may be made in any place, with any lock held. */
  GYRE_TYPE_FINALIZE_QUEUED = 1u << 3,
  /* Says that objects of this type do not change after they have been made known: their slots are filled
   * with gyre_slot_init() and never emptied. Threads share them without locks, what a slot holds may be
   * borrowed for as long as the object is held, and a hash may be kept. A promise; nothing checks it. */
  GYRE_TYPE_IMMUTABLE = 1u << 4,
};

/* Describes a kind of object. Static or otherwise immortal; must not change after the first use.
 * Fill it with GYRE_TYPE_DEFINE, or by hand (name and size at least, the rest zero). */
typedef struct gyre_type {
  const char *name;
  /* Bytes of the struct, without the header, and without a flexible array at its end. */
  size_t size;
  /* The slots in the struct. No slots, no element_slots and no visit: a leaf, which the collector
   * never looks at. */
  gyre_slots slots;
  /* For gyre_new_array: bytes of an element of the array that follows the struct, and the slots in
   * each (an array of bare slots: one slot at offset 0). */
  size_t element_size;
  gyre_slots element_slots;
  /* Instead of slots, for references that no layout can describe: calls visitor(object, arg) once
   * for every counted reference that the object holds outside slots. Called with the object's lock
   * held; the program must hold that lock (gyre_lock) whenever it changes what visit walks, from the
   * moment the object is made. Must not allocate, count, lock or call anything else of this library. */
  int (*visit)(void *object, gyre_visitor *visitor, void *arg);
  /* Beside visit: releases the references that visit reports, when the object is destroyed. */
  void (*clear)(void *object);
  /* Finalizer: runs once in the object's life, before anything of it is taken apart, when its last
   * reference is being dropped or the collector found it dead. The object is whole; storing it
   * somewhere brings it back to life (and it is then freed without another call when it dies
   * again). Non-zero is reported (gyre_set_error_hook()). Runs in the releasing thread, or in the
   * collecting one; or queued, see GYRE_TYPE_FINALIZE_QUEUED. */
  int (*finalize)(void *object);
  /* Releases what the object holds besides references (files, raw blocks), when it really dies. The
   * object's slots are still filled but must not be used; it cannot be brought back. */
  void (*destroy)(void *object);
  /* The value protocol (hash.h), for containers that find objects by what they are: writes a hash of
   * the object's value to *hash; returns 0, or a negative errno value for an object that has none.
   * NULL: by identity. */
  int (*hash)(const void *object, uint64_t *hash);
  /* 1 if the two have the same value, 0 if not, or a negative errno value. `object` is of this type,
   * `other` of any: what it does not know is not equal. Equal objects must have equal hashes. NULL: by
   * identity. Both run with no lock of the library held, in whichever thread asks; the caller holds
   * both objects counted. */
  int (*equal)(const void *object, const void *other);
  unsigned flags;
  /* -- private to the library: set once, at first use -- */
  gyre__atomic_u32 gyre__id;
  uint16_t gyre__pool;
  uint8_t gyre__kind;
  uint8_t gyre__bits;
  gyre__atomic_u64 gyre__birth;
} gyre_type;

#define GYRE__CAT2(a, b) a##b
#define GYRE__CAT(a, b) GYRE__CAT2(a, b)
#define GYRE__COUNT(...)                                                                           \
  GYRE__COUNT_(__VA_ARGS__, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)
#define GYRE__COUNT_(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, N, ...) N
#define GYRE__S(T, f)                                                                              \
  { offsetof(T, f), #f }
#define GYRE__S1(T, a) GYRE__S(T, a)
#define GYRE__S2(T, a, ...) GYRE__S(T, a), GYRE__S1(T, __VA_ARGS__)
#define GYRE__S3(T, a, ...) GYRE__S(T, a), GYRE__S2(T, __VA_ARGS__)
#define GYRE__S4(T, a, ...) GYRE__S(T, a), GYRE__S3(T, __VA_ARGS__)
#define GYRE__S5(T, a, ...) GYRE__S(T, a), GYRE__S4(T, __VA_ARGS__)
#define GYRE__S6(T, a, ...) GYRE__S(T, a), GYRE__S5(T, __VA_ARGS__)
#define GYRE__S7(T, a, ...) GYRE__S(T, a), GYRE__S6(T, __VA_ARGS__)
#define GYRE__S8(T, a, ...) GYRE__S(T, a), GYRE__S7(T, __VA_ARGS__)
#define GYRE__S9(T, a, ...) GYRE__S(T, a), GYRE__S8(T, __VA_ARGS__)
#define GYRE__S10(T, a, ...) GYRE__S(T, a), GYRE__S9(T, __VA_ARGS__)
#define GYRE__S11(T, a, ...) GYRE__S(T, a), GYRE__S10(T, __VA_ARGS__)
#define GYRE__S12(T, a, ...) GYRE__S(T, a), GYRE__S11(T, __VA_ARGS__)
#define GYRE__S13(T, a, ...) GYRE__S(T, a), GYRE__S12(T, __VA_ARGS__)
#define GYRE__S14(T, a, ...) GYRE__S(T, a), GYRE__S13(T, __VA_ARGS__)
#define GYRE__S15(T, a, ...) GYRE__S(T, a), GYRE__S14(T, __VA_ARGS__)
#define GYRE__S16(T, a, ...) GYRE__S(T, a), GYRE__S15(T, __VA_ARGS__)

/* The slots of struct T by their field names, up to 16 (more: an array of gyre_slot_info by hand).
 */
#ifdef __cplusplus
#define GYRE_SLOTS(T, ...)                                                                         \
  ([]() -> gyre_slots {                                                                            \
    static const gyre_slot_info slots[] = {                                                        \
        GYRE__CAT(GYRE__S, GYRE__COUNT(__VA_ARGS__))(T, __VA_ARGS__)};                             \
    return gyre_slots{slots, sizeof slots / sizeof slots[0]};                                      \
  }())
/* For an array of bare slots: .element_size = sizeof(gyre_slot), .element_slots = GYRE_SLOT_ARRAY
 */
#define GYRE_SLOT_ARRAY                                                                            \
  ([]() -> gyre_slots {                                                                            \
    static const gyre_slot_info slots[] = {{0, "[]"}};                                             \
    return gyre_slots{slots, 1};                                                                   \
  }())
#else
#define GYRE_SLOTS(T, ...)                                                                         \
  {                                                                                                \
    (const gyre_slot_info[]){GYRE__CAT(GYRE__S, GYRE__COUNT(__VA_ARGS__))(T, __VA_ARGS__)},        \
        GYRE__COUNT(__VA_ARGS__)                                                                   \
  }
/* For an array of bare slots: .element_size = sizeof(gyre_slot), .element_slots = GYRE_SLOT_ARRAY
 */
#define GYRE_SLOT_ARRAY                                                                            \
  { (const gyre_slot_info[]){{0, "[]"}}, 1 }
#endif

/* GYRE_TYPE_DEFINE(var, T, ...): defines the type `var` for struct T; further fields of gyre_type may
 * follow as designated initializers (in C++17, which has none, fill a gyre_type by hand). A trailing
 * flexible array does not count into sizeof(T). */
#define GYRE_TYPE_DEFINE(var, ...) GYRE__TYPE_DEFINE(var, __VA_ARGS__, .gyre__bits = 0)
/* With at least one field, since ISO C wants an argument for the dots. */
#define GYRE__TYPE_DEFINE(var, T, ...) gyre_type var = {.name = #T, .size = sizeof(T), __VA_ARGS__}

/* ---- the header -------------------------------------------------------------------------------
 */

GYRE_INLINE gyre__header *gyre__header_of(const void *object) {
  return (gyre__header *)((uintptr_t)object - GYRE_HEADER_SIZE);
}

/* ---- objects ----------------------------------------------------------------------------------
 */

/* A new object of `type`, zeroed, with a count of 1 that is the caller's. NULL with errno ENOMEM.
 * Attaches the thread if need be; not a safepoint; runs no finalizer; may set the thread's request
 * for a collection at its next safepoint.
 *
 * None of these has the compiler's attribute "malloc": visit functions and the collector read an object
 * that no pointer the compiler knows of leads to, so what is written into it must be there in time. */
GYRE_API void *gyre_new(gyre_type *type);

/* As gyre_new(type), for a thread that has its own handle at hand and knows type->size as a constant
 * `size`. Inline, but for types that are large, shared or new to the library, and when the pool has no
 * block. Undefined with another thread's handle or another size. */
GYRE_INLINE void *gyre_thread_new(gyre_thread *self, gyre_type *type, size_t size);

/* A new object with `count` elements after the struct, zeroed. The count is fixed for the object's
 * life. NULL with errno ENOMEM, or EINVAL if the type has no element_size. */
GYRE_API void *gyre_new_array(gyre_type *type, size_t count);

/* The shared word of a block without an object, lib/object/refcount.h; the kind of objects that the
 * collector looks at, lib/heap/heap.h. */
#define GYRE__SHARED_AT_REST 2u
#define GYRE__KIND_TRACKED 2
typedef uint64_t __attribute__((may_alias)) gyre__header_start;

/* `h` is a new object, but the thread's log of young ones is full. Returns the object. */
GYRE_API void *gyre__young_log_full(gyre_thread *self, gyre__header *h);
GYRE_API void *gyre__new_slow(gyre_type *type);

/* NULL if a call has to be made for the object. */
GYRE_INLINE void *gyre__new_inline(gyre_thread *self, gyre_type *type, size_t size) {
  /* acquire: the type's private fields and table entry; pairs with the release in
   * lib/object/type.c. 0 for types that are not registered or not simple. */
  uint64_t birth = gyre__load_acquire(&type->gyre__birth);
  if (GYRE_UNLIKELY(birth == 0)) return NULL;
  gyre__pool *pool = &(&self->gyre__pools[0][0])[type->gyre__pool];
  gyre__header *h = (gyre__header *)gyre__pool_pop(self, pool, GYRE_HEADER_SIZE);
  if (GYRE_UNLIKELY(h == NULL)) return NULL;
  /* Blocks are multiples of 16 bytes, so whole steps stay inside. */
  for (size_t at = 0; at < size; at += 16)
    memset((char *)(h + 1) + at, 0, 16);
  /* relaxed: nobody writes to a word at rest, and another value is left alone. release: who counts on the
   * new object, because it has come too late for the one before, sees what was done before that was freed;
   * pairs with the compare-exchange of lib/object's gyre__try_count(). */
  if (gyre__load_relaxed(&h->shared) == GYRE__SHARED_AT_REST) gyre__store_release(&h->shared, 0);
  /* relaxed: published with the header. */
  gyre__store_relaxed(&h->local, 1);
  birth |= (uint64_t)self->id << 32;
  if (type->gyre__kind == GYRE__KIND_TRACKED) birth |= self->gyre__birth_bits;
  /* release: the zeroed body and the counts come first, for a collector that sees the header's gc byte;
   * pairs with its acquire load of that byte (lib/collect). One store, so that nobody sees half a
   * header. */
  __atomic_store_n((gyre__header_start *)(void *)h, birth, __ATOMIC_RELEASE);
  if (type->gyre__kind == GYRE__KIND_TRACKED) {
    /* relaxed: this thread's own; others only look how long the log is. */
    gyre__header **end = (gyre__header **)gyre__load_relaxed(&self->gyre__young_end);
    if (GYRE_UNLIKELY((void *)end == self->gyre__young_limit)) return gyre__young_log_full(self, h);
    *end = h;
    /* relaxed: as above. */
    gyre__store_relaxed(&self->gyre__young_end, (void *)(end + 1));
  }
  return h + 1;
}

/* As declared above. */
GYRE_INLINE void *gyre_thread_new(gyre_thread *self, gyre_type *type, size_t size) {
  void *object = gyre__new_inline(self, type, size);
  return GYRE_LIKELY(object != NULL) ? object : gyre__new_slow(type);
}

/* The count given to gyre_new_array; 0 for other objects. */
GYRE_API size_t gyre_array_length(const void *object);

/* The object's type. */
GYRE_API gyre_type *gyre_type_of(const void *object);

/* Bytes of the object as they were asked for, elements included, without the 16 of its header. */
GYRE_API size_t gyre_sizeof(const void *object);

/* Bytes that the object takes: those of its block, with the header and what was rounded up. */
GYRE_API size_t gyre_sizeof_block(const void *object);

GYRE_API void gyre__retain_slow(void *object);
GYRE_API void gyre__release_slow(void *object);
GYRE_API void *gyre__slot_load_slow(gyre_slot *slot);

GYRE_INLINE void *gyre__retain(void *object) {
  if (GYRE_LIKELY(object != NULL)) {
    gyre__header *h = gyre__header_of(object);
    /* relaxed: only this thread and those that hold its slot taken write its own id, so "mine" is
     * never stale; any other value leads to the slow path. Pairs with the store in gyre__merge().
     */
    if (GYRE_LIKELY(gyre__load_relaxed(&h->owner) == gyre__bias)) {
      /* relaxed: ours alone; atomic only because others may look. */
      uint32_t count = gyre__load_relaxed(&h->local) + 1;
      if (GYRE_LIKELY((int32_t)count > 0)) {
        /* relaxed: as above. */
        gyre__store_relaxed(&h->local, count);
        return object;
      }
    }
    gyre__retain_slow(object);
  }
  return object;
}

/* Drops the caller's reference; NULL is allowed. Never fails, never needs memory. Frees the object
 * if it was the last: its finalizer, weak callbacks and destroy hook then run in this call, and the
 * references it held are dropped in turn, up to the release budget (option "release_budget"); what
 * is left follows at this thread's later safepoints and allocations. Hold no lock that program code
 * could want. Not a safepoint. */
GYRE_INLINE void gyre_release(void *object) {
  if (GYRE_LIKELY(object != NULL)) {
    gyre__header *h = gyre__header_of(object);
    /* relaxed: as in gyre__retain(); the flag is our own, too. */
    uint32_t word = gyre__load_relaxed((const gyre__header_word_t *)(const void *)&h->owner);
    if (GYRE_LIKELY((word & (GYRE__OWNER_MASK | GYRE__ARMED_MASK)) == gyre__bias)) {
      /* relaxed: ours alone. */
      uint32_t count = gyre__load_relaxed(&h->local);
      if (GYRE_LIKELY(count > 1)) {
        /* relaxed: ours alone; whether the object lives on is decided in the slow path only. */
        gyre__store_relaxed(&h->local, count - 1);
        return;
      }
    }
    gyre__release_slow(object);
  }
}

#ifdef __cplusplus
#define GYRE__TYPED(T, e) static_cast<T>(e)
#else
#define GYRE__TYPED(T, e) ((T)(e))
#endif

/* Counts one more reference and returns the object, which the caller now also owns. NULL is allowed
 * and returned. The caller must hold a reference already, its own or one that is sure to last until
 * here (a slot of an object it holds, if nobody else empties it). Never fails: a count that would
 * overflow sticks and makes the object immortal. */
#define gyre_retain(object) GYRE__TYPED(__typeof__(object), gyre__retain(object))

/* Told of finalizers that returned non-zero, in the thread that ran them, with no lock held; the object is
 * borrowed. NULL restores the default, a line in the log. Any thread. */
typedef void gyre_error_hook(void *object, int error, void *arg);
GYRE_API void gyre_set_error_hook(gyre_error_hook *hook, void *arg);

/* Runs up to `max` of the finalizers that wait in the queue (GYRE_TYPE_FINALIZE_QUEUED; with option
 * "finalizers:program", those of all garbage that collections find), and drops the queue's references. An
 * object stays alive while it waits. Returns how many were run. Any thread; runs program code,
 * and passes safepoints. With "finalizers:service", the default, the service thread does so. */
GYRE_API size_t gyre_run_pending(size_t max);
/* How many wait. Any thread; a pure read. */
GYRE_API size_t gyre_pending_count(void);

/* Counts one more reference unless the object is dead already. For pointers that were valid at some
 * time since this thread's last safepoint, to objects whose type has GYRE_TYPE_TRY_RETAIN or
 * GYRE_TYPE_SHARED, or that have a weak reference (others: debug builds abort). 1 if the caller
 * owns a reference now, else 0. */
GYRE_API int gyre_try_retain(void *object);

/* The number of counted references; GYRE_IMMORTAL if it no longer counts. Exact only if nobody
 * counts at the same time, and the owner passes no safepoint, where it may join its count with that of
 * the others: what it had is missing for that moment. */
#define GYRE_IMMORTAL PTRDIFF_MAX
GYRE_API ptrdiff_t gyre_refcount(const void *object);

/* 1 if the caller's counted reference is the only one there is, so that it may change the object in
 * place; 0 otherwise, and when it cannot be told cheaply. */
GYRE_API int gyre_is_unique(const void *object);

/* Makes the object immortal: its count is never looked at again, it is never freed, and what its
 * slots hold stays. 1, or 0 if it was immortal already. */
GYRE_API int gyre_immortalize(void *object);
GYRE_API int gyre_is_immortal(const void *object);

/* A static, immortal object: `static GYRE_STATIC_OBJECT(person) nobody = GYRE_STATIC_INIT(.age =
 * 1);` and GYRE_STATIC_REGISTER(&nobody, &person_type) before first use; the object is
 * &nobody.object. The collector does not look into it: what its slots hold counts as held from
 * outside. */
#define GYRE_STATIC_OBJECT(T)                                                                      \
  struct {                                                                                         \
    gyre__header gyre__head;                                                                       \
    T object;                                                                                      \
  }
#define GYRE__SHARED_IMMORTAL 3u
#define GYRE_STATIC_INIT(...)                                                                      \
  {                                                                                                \
    {{0}, {0}, {0}, {0}, {0}, {GYRE__SHARED_IMMORTAL}}, { __VA_ARGS__ }                            \
  }
#define GYRE_STATIC_REGISTER(s, t) gyre__static_register(&(s)->gyre__head, (t))

/* Gives a static object its type. 0, or -ENOMEM. */
GYRE_API int gyre__static_register(gyre__header *header, gyre_type *type);

GYRE_INLINE void gyre__auto_release(void *variable) {
  void **p = (void **)variable;
  gyre_release(*p);
}

/* GYRE_AUTO(person) p = ...; a variable that owns its reference and releases it when its scope
 * ends. */
#define GYRE_AUTO(T) __attribute__((cleanup(gyre__auto_release))) T *

/* ---- slot operations
 * -----------------------------------------------------------------------------
 *
 * All are lock-free and may be used by any thread at any time on a slot of an object that it holds.
 * They take pointers to typed slots, GYRE_SLOT(T) *, and T *.
 */

GYRE_API void gyre__slot_store(gyre_slot *slot, void *object);
GYRE_API void *gyre__slot_take(gyre_slot *slot);
GYRE_API void *gyre__slot_swap(gyre_slot *slot, void *object);
GYRE_API int gyre__slot_compare_exchange(gyre_slot *slot, void *expected, void *desired);

/* Counts what the slot holds, if that is an own object, by the rules of gyre__slot_load_slow(). 0 if it is not,
 * and everything is left to the slow half; else *object is the object, or NULL if the slot is empty. */
GYRE_INLINE int gyre__slot_load_own(gyre_slot *slot, void **object) {
  /* A thread that is not attached must not look behind the pointer: no grace period waits for it.
   */
  uint32_t bias = gyre__bias;
  if (GYRE_UNLIKELY(bias == GYRE__BIAS_NONE)) return 0;
  /* acquire: reads the object behind the pointer; pairs with the exchange that put it there
   * (gyre__slot_swap and its kin, gyre__slot_init). */
  *object = gyre__load_acquire(&slot->gyre__ref);
  if (*object == NULL) return 1;
  gyre__header *h = gyre__header_of(*object);
  /* relaxed: an object of our own that was in the slot a moment ago lives until our next safepoint:
   * only we can free it. Pairs with the store in gyre__merge(). */
  if (GYRE_UNLIKELY(gyre__load_relaxed(&h->owner) != bias)) return 0;
  /* relaxed: ours alone. */
  uint32_t count = gyre__load_relaxed(&h->local) + 1;
  if (GYRE_UNLIKELY((int32_t)count <= 1)) return 0;
  /* relaxed: ours alone. */
  gyre__store_relaxed(&h->local, count);
  return 1;
}

GYRE_INLINE void *gyre__slot_load(gyre_slot *slot) {
  void *object;
  return GYRE_LIKELY(gyre__slot_load_own(slot, &object)) ? object : gyre__slot_load_slow(slot);
}

GYRE_INLINE void gyre__slot_init(gyre_slot *slot, void *object) {
  /* release: who later finds the new object through a slot finds this reference and what is behind
   * it; pairs with the acquire in gyre__slot_load(). */
  gyre__store_release(&slot->gyre__ref, object);
}

GYRE_INLINE int gyre__slot_is(const gyre_slot *slot, const void *object) {
  /* acquire: what came before the slot was changed; pairs with gyre__slot_swap() and its kin. */
  return gyre__load_acquire(&slot->gyre__ref) == object;
}

GYRE_INLINE void *gyre__slot_peek(const gyre_slot *slot) {
  /* acquire: the object behind the pointer; pairs with gyre__slot_swap() and its kin. */
  return gyre__load_acquire(&slot->gyre__ref);
}

#define GYRE__SLOT_TYPE(slot) __typeof__((slot)->gyre__type)
/* The value, checked against the slot's type by the compiler. */
#define GYRE__SLOT_VALUE(slot, value) (1 ? (value) : (slot)->gyre__type)

/* A reference of the caller's own to what the slot holds, or NULL. If another thread empties the
 * slot at the same moment, giving back what was counted in vain may drop the object's last
 * reference, with all that gyre_release() may do. */
#define gyre_load(slot) GYRE__TYPED(GYRE__SLOT_TYPE(slot), gyre__slot_load(&(slot)->gyre__slot))

/* Retains `value` (which may be NULL), puts it into the slot and releases what was there, with all
 * that gyre_release() may do. */
#define gyre_store(slot, value) gyre__slot_store(&(slot)->gyre__slot, GYRE__SLOT_VALUE(slot, value))

/* Empties the slot and returns what it held; the reference is the caller's now. */
#define gyre_take(slot) GYRE__TYPED(GYRE__SLOT_TYPE(slot), gyre__slot_take(&(slot)->gyre__slot))

/* Puts `value` into the slot, stealing the caller's reference to it, and returns what it held; that
 * reference is the caller's now. If it was the caller's last reference, `value` may be used after that
 * only while the caller holds something that refers to it: it may have become part of a dead cycle. */
#define gyre_swap(slot, value)                                                                     \
  GYRE__TYPED(GYRE__SLOT_TYPE(slot),                                                               \
              gyre__slot_swap(&(slot)->gyre__slot, GYRE__SLOT_VALUE(slot, value)))

/* If the slot holds `expected`, retains `desired`, puts it there, releases `expected` and returns
 * 1; otherwise 0 and nothing has changed. Both may be NULL. The caller must hold `expected` counted
 * (or NULL), so that its memory cannot have been reused meanwhile. */
#define gyre_compare_exchange(slot, expected, desired)                                             \
  gyre__slot_compare_exchange(&(slot)->gyre__slot, GYRE__SLOT_VALUE(slot, expected),               \
                              GYRE__SLOT_VALUE(slot, desired))

/* 1 if the slot holds `value` (which may be NULL) at this moment, else 0. Counts nothing, looks behind no
 * pointer: for comparing with an object that the caller holds. */
#define gyre_slot_is(slot, value) gyre__slot_is(&(slot)->gyre__slot, GYRE__SLOT_VALUE(slot, value))

/* What the slot holds, *borrowed*: for slots that do not change while the caller holds the object, such as
 * those of an object that is filled once. Elsewhere the object may be gone by the time it is returned. */
#define gyre_slot_peek(slot)                                                                       \
  GYRE__TYPED(GYRE__SLOT_TYPE(slot), gyre__slot_peek(&(slot)->gyre__slot))

/* Empties the slot and releases what it held. */
#define gyre_clear(slot) gyre__slot_store(&(slot)->gyre__slot, NULL)

/* Fills an empty slot, stealing the reference `value`: one plain store. Only while nobody else may write to
 * the slot: in a new object that no other thread and no slot reaches, or under a lock that all writers
 * take. */
#define gyre_slot_init(slot, value)                                                                \
  gyre__slot_init(&(slot)->gyre__slot, GYRE__SLOT_VALUE(slot, value))

/* The untyped forms, for slots in trailing arrays and generated code. */
GYRE_INLINE void *gyre_slot_load(gyre_slot *slot) { return gyre__slot_load(slot); }
GYRE_INLINE void gyre_slot_store(gyre_slot *slot, void *object) { gyre__slot_store(slot, object); }

/* ---- references that do not count --------------------------------------------------------------
 *
 * For tables that find objects without keeping them alive, at the cost of a pointer (a weak reference,
 * weak.h, needs no help of the type and 64 bytes). The objects' type is a leaf with GYRE_TYPE_TRY_RETAIN
 * and a destroy hook that empties the reference: gyre_uncounted_set(u, NULL). The memory of the reference
 * itself stays readable as long as others may look: see gyre_defer().
 */
typedef struct gyre_uncounted {
  gyre__atomic_ptr gyre__ref;
} gyre_uncounted;

/* Makes it refer to the object, or to none. One thread at a time. */
GYRE_INLINE void gyre_uncounted_set(gyre_uncounted *u, void *object) {
  /* seq_cst: release: who finds the object sees it whole. When it is emptied, before the block of the
   * object is freed: who counts what has come into its place then sees that the reference is empty.
   * Pairs with the loads of gyre_uncounted_get(). */
  gyre__store_seq_cst(&u->gyre__ref, object);
}

/* 1 if it refers to this object, dying or not. */
GYRE_INLINE int gyre_uncounted_is(const gyre_uncounted *u, const void *object) {
  /* acquire: the memory that the reference is in was made by who set it; pairs with
   * gyre_uncounted_set(). */
  return gyre__load_acquire(&u->gyre__ref) == object;
}

/* A counted reference to the object, the caller's now; NULL if there is none or if it is dying. Never a
 * false NULL. Any thread; attaches it if need be; lock-free. If the reference is changed at the same moment,
 * giving back what was counted in vain may drop another object's last reference, with all that gyre_release()
 * may do: it is the last that is done here, but what the caller has borrowed may be gone then. */
GYRE_API void *gyre_uncounted_get(gyre_uncounted *u);

/* The same for who must not run program code yet. What was counted in vain is put into *late (NULL: nothing),
 * to be released by the caller, who then looks again; the result is NULL. */
GYRE_API void *gyre_uncounted_look(gyre_uncounted *u, void **late);

/* ---- structures that are read without counting
 *
 * For containers whose references lie in an array object that is replaced when it must grow
 * (lib/value/list.c is one). A reader borrows the array, counts an element, and looks again:
 *
 *     items *a = gyre_borrow(&list->items);              // no count, no shared cache line
 *     void *x = gyre_load_once(&a->at[i]);
 *     if (x != NULL && gyre_borrow(&list->items) == a) return x;   // x was in the list at that moment
 *     gyre_release(x);                                             // and again from the start
 *
 * A writer, which keeps other writers out, moves the references to a new array without counting any of
 * them, puts that into the slot, makes the old array forget them, and retires it:
 *
 *     gyre_slots_move(a, b->at, a->at, n);
 *     gyre_swap(&list->items, b);
 *     gyre_array_forget(a);
 *     gyre_retire(a, &a->retired);                       // freed when nobody can be reading it
 */

/* As gyre_load(), but looks once: NULL also if the slot changed at the same moment. For slots of a borrowed
 * object: giving back what was counted in vain may run program code, which may pass a safepoint, and
 * then the slot must not be looked at again. */
#define gyre_load_once(slot)                                                                       \
  GYRE__TYPED(GYRE__SLOT_TYPE(slot), gyre__slot_load_once(&(slot)->gyre__slot))
GYRE_API void *gyre__slot_load_once_slow(gyre_slot *slot);
GYRE_INLINE void *gyre__slot_load_once(gyre_slot *slot) {
  void *object;
  return GYRE_LIKELY(gyre__slot_load_own(slot, &object)) ? object : gyre__slot_load_once_slow(slot);
}

/* What the slot holds, borrowed: good until the calling thread's next safepoint, if whoever takes the
 * object out of the slot retires it. The thread is attached. Costs one load. Looks in program order:
 * a second gyre_borrow() comes after the counts that were made in between. */
#define gyre_borrow(slot)                                                                          \
  /* seq_cst: after the count that gyre__slot_load() made; pairs with slot_change(). */            \
  GYRE__TYPED(GYRE__SLOT_TYPE(slot), gyre__load_seq_cst(&(slot)->gyre__slot.gyre__ref))

/* Moves n references from the slots `from` to the slots `to` without counting them; they may overlap, as
 * for memmove(). `holder` is the object that the slots `from` are in, NULL if they are in memory of the
 * caller's own. What `to` held is overwritten, not released. What is left in `from` no longer stands for
 * a reference: before its next safepoint or release the caller overwrites it (by another move or
 * gyre_slot_init) or has gyre_slots_forget() empty it. `to` is in the same object, in a new one that the
 * caller has made, or memory of the caller's own. No other thread may write to the slots meanwhile;
 * readers see the old reference or the new one. Attaches the thread; not a safepoint; runs no program
 * code. A load and a store a reference; one or two atomic steps more each where another thread owns
 * `holder` and while a collection logs. */
#define gyre_slots_move(holder, to, from, n)                                                       \
  gyre__slots_move((holder), &(to)->gyre__slot, &(from)->gyre__slot, (n))
GYRE_API void gyre__slots_move(const void *holder, gyre_slot *to, gyre_slot *from, size_t n);

/* Empties n slots whose references have been moved elsewhere. */
#define gyre_slots_forget(slots, n) gyre__slots_forget(&(slots)->gyre__slot, (n))
GYRE_API void gyre__slots_forget(gyre_slot *slots, size_t n);

/* Makes an array object that the caller has to itself forget all its elements' references, which have been
 * moved elsewhere, or are none: it has no elements for the library from then on (gyre_array_length() is 0), and
 * its death costs the same whatever its size. Who has borrowed it may still read the slots. */
GYRE_API void gyre_array_forget(void *object);

/* Memory for one gyre_retire(): a field of the object itself, or of another that holds it. */
typedef struct gyre_retired {
  gyre_deferred gyre__node;
  void *gyre__object;
} gyre_retired;

/* Drops the caller's reference to `object` once every thread has passed a safepoint or parked, so that
 * nobody has it borrowed any more; at one of this thread's later safepoints, or another thread's: a
 * gyre_defer() of the release. Needs no memory but `link`, which stays in use until then; never fails in
 * a thread that is attached, and aborts if the thread cannot be. Not a safepoint. */
GYRE_API void gyre_retire(void *object, gyre_retired *link);

/* ---- the object lock
 * ----------------------------------------------------------------------------- */

/* Locks the object: one lock an object, not recursive, a bit in its header. The caller holds a
 * counted reference for as long. If another thread has it, the caller is parked until it is free:
 * borrowed pointers end. A thread must not wait for anything with gyre_lock held that a finalizer
 * could want. */
GYRE_API void gyre_lock(void *object);

/* Locks the object if it is free. 1 if locked, 0 if not. Never blocks. */
GYRE_API int gyre_try_lock(void *object);

/* Unlocks; only the thread that locked. */
GYRE_API void gyre_unlock(void *object);

/* Locks two objects, in the order of their addresses, so that threads that lock the same two in either
 * order do not wait for each other for ever; they may be the same. */
GYRE_API void gyre_lock2(void *a, void *b);
GYRE_API void gyre_unlock2(void *a, void *b);

typedef struct gyre__locked {
  void *a, *b;
  int on;
} gyre__locked;
GYRE_INLINE gyre__locked gyre__locked_begin(void *a, void *b) {
  gyre__locked l = {a, b, 1};
  gyre_lock2(a, b);
  return l;
}
GYRE_INLINE gyre__locked gyre__locked_begin_one(void *object) {
  gyre__locked l = {object, object, 1};
  gyre_lock(object);
  return l;
}
GYRE_INLINE void gyre__locked_end(gyre__locked *l) { gyre_unlock2(l->a, l->b); }

/* GYRE_LOCKED(object) { ... }, GYRE_LOCKED2(a, b) { ... }: locked for the length of the block, however it is
 * left (end, break, return, goto; not longjmp). The lock stays where it is when the thread parks or calls
 * anything else: unlike Python's critical sections, what holds when the block begins holds until its end,
 * and in return the rules of gyre_lock() apply. The arguments are evaluated once. */
#define GYRE_LOCKED2(a, b)                                                                         \
  GYRE__LOCKED(GYRE__CAT(gyre__locked_, __LINE__), gyre__locked_begin((a), (b)))
#define GYRE_LOCKED(object)                                                                        \
  GYRE__LOCKED(GYRE__CAT(gyre__locked_, __LINE__), gyre__locked_begin_one((object)))
#define GYRE__LOCKED(l, begin)                                                                     \
  for (gyre__locked l __attribute__((cleanup(gyre__locked_end))) = begin; l.on; l.on = 0)

GYRE_END_DECLS

#endif
