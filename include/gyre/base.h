/* SPDX-License-Identifier: MIT */
/* gyre/base.h: what every other gyre header stands on: version, visibility, branch hints, atomic
 * fields, options and error texts.
 *
 * Errors, library-wide: a call that makes something returns NULL and sets errno; every other call
 * returns 0 (or a count) or a negative errno value. Out-parameters are untouched on failure.
 *
 * Options: each has a name, a default and a parser. They come from the environment variable
 * GYRE_CONF ("key:value,key:value", read once, at first use of the library; ignored in programs
 * with raised privileges) and from gyre_option_set(). A value that does not fit is reported on
 * stderr and the default used (environment), or refused with -EINVAL (call). docs: README.md lists
 * them all.
 */
#ifndef GYRE_BASE_H
#define GYRE_BASE_H

#include <stddef.h>
#include <stdint.h>

#define GYRE_VERSION_MAJOR 0
#define GYRE_VERSION_MINOR 3
#define GYRE_VERSION_PATCH 0

#ifdef __cplusplus
#define GYRE_BEGIN_DECLS extern "C" {
#define GYRE_END_DECLS }
#else
#define GYRE_BEGIN_DECLS
#define GYRE_END_DECLS
#endif

#define GYRE_API __attribute__((visibility("default")))
#define GYRE_LIKELY(x) __builtin_expect(!!(x), 1)
#define GYRE_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define GYRE_NOINLINE __attribute__((noinline))
#define GYRE_INLINE static inline __attribute__((always_inline))

/* ---- atomic fields ----------------------------------------------------------------------------
 *
 * An atomic field is a struct around its value, so that a plain assignment to it does not compile
 * and every access names its ordering. The compiler's __atomic builtins are used rather than
 * <stdatomic.h>, because the inline fast paths below must also compile as C++17.
 */
#define GYRE_ATOMIC(T)                                                                             \
  struct {                                                                                         \
    T gyre__value;                                                                                 \
  }

typedef GYRE_ATOMIC(uint8_t) gyre__atomic_u8;
typedef GYRE_ATOMIC(uint16_t) gyre__atomic_u16;
typedef GYRE_ATOMIC(uint32_t) gyre__atomic_u32;
typedef GYRE_ATOMIC(uint64_t) gyre__atomic_u64;
typedef GYRE_ATOMIC(size_t) gyre__atomic_size;
typedef GYRE_ATOMIC(void *) gyre__atomic_ptr;

#define gyre__load_relaxed(p) __atomic_load_n(&(p)->gyre__value, __ATOMIC_RELAXED)
#define gyre__load_acquire(p) __atomic_load_n(&(p)->gyre__value, __ATOMIC_ACQUIRE)
#define gyre__load_seq_cst(p) __atomic_load_n(&(p)->gyre__value, __ATOMIC_SEQ_CST)
#define gyre__store_relaxed(p, v) __atomic_store_n(&(p)->gyre__value, (v), __ATOMIC_RELAXED)
#define gyre__store_release(p, v) __atomic_store_n(&(p)->gyre__value, (v), __ATOMIC_RELEASE)
#define gyre__store_seq_cst(p, v) __atomic_store_n(&(p)->gyre__value, (v), __ATOMIC_SEQ_CST)
#define gyre__exchange_acquire(p, v) __atomic_exchange_n(&(p)->gyre__value, (v), __ATOMIC_ACQUIRE)
#define gyre__exchange_release(p, v) __atomic_exchange_n(&(p)->gyre__value, (v), __ATOMIC_RELEASE)
#define gyre__exchange_acq_rel(p, v) __atomic_exchange_n(&(p)->gyre__value, (v), __ATOMIC_ACQ_REL)
#define gyre__exchange_seq_cst(p, v) __atomic_exchange_n(&(p)->gyre__value, (v), __ATOMIC_SEQ_CST)
#define gyre__fetch_add_relaxed(p, v) __atomic_fetch_add(&(p)->gyre__value, (v), __ATOMIC_RELAXED)
#define gyre__fetch_add_acq_rel(p, v) __atomic_fetch_add(&(p)->gyre__value, (v), __ATOMIC_ACQ_REL)
#define gyre__fetch_add_seq_cst(p, v) __atomic_fetch_add(&(p)->gyre__value, (v), __ATOMIC_SEQ_CST)
#define gyre__fetch_sub_relaxed(p, v) __atomic_fetch_sub(&(p)->gyre__value, (v), __ATOMIC_RELAXED)
#define gyre__fetch_sub_acq_rel(p, v) __atomic_fetch_sub(&(p)->gyre__value, (v), __ATOMIC_ACQ_REL)
#define gyre__fetch_or_relaxed(p, v) __atomic_fetch_or(&(p)->gyre__value, (v), __ATOMIC_RELAXED)
#define gyre__fetch_or_acq_rel(p, v) __atomic_fetch_or(&(p)->gyre__value, (v), __ATOMIC_ACQ_REL)
#define gyre__fetch_or_seq_cst(p, v) __atomic_fetch_or(&(p)->gyre__value, (v), __ATOMIC_SEQ_CST)
#define gyre__fetch_and_acq_rel(p, v) __atomic_fetch_and(&(p)->gyre__value, (v), __ATOMIC_ACQ_REL)
#define gyre__fetch_and_seq_cst(p, v) __atomic_fetch_and(&(p)->gyre__value, (v), __ATOMIC_SEQ_CST)
/* Compare-exchange: *expected receives the value seen on failure. The weak ones may fail without
 * cause and belong in loops. The failure ordering is relaxed except where the name says seq_cst. */
#define gyre__cas_weak_relaxed(p, expected, v)                                                     \
  __atomic_compare_exchange_n(&(p)->gyre__value, (expected), (v), 1, __ATOMIC_RELAXED,             \
                              __ATOMIC_RELAXED)
#define gyre__cas_weak_acquire(p, expected, v)                                                     \
  __atomic_compare_exchange_n(&(p)->gyre__value, (expected), (v), 1, __ATOMIC_ACQUIRE,             \
                              __ATOMIC_RELAXED)
#define gyre__cas_weak_release(p, expected, v)                                                     \
  __atomic_compare_exchange_n(&(p)->gyre__value, (expected), (v), 1, __ATOMIC_RELEASE,             \
                              __ATOMIC_RELAXED)
#define gyre__cas_weak_acq_rel(p, expected, v)                                                     \
  __atomic_compare_exchange_n(&(p)->gyre__value, (expected), (v), 1, __ATOMIC_ACQ_REL,             \
                              __ATOMIC_RELAXED)
#define gyre__cas_weak_seq_cst(p, expected, v)                                                     \
  __atomic_compare_exchange_n(&(p)->gyre__value, (expected), (v), 1, __ATOMIC_SEQ_CST,             \
                              __ATOMIC_SEQ_CST)
#define gyre__cas_strong_relaxed(p, expected, v)                                                   \
  __atomic_compare_exchange_n(&(p)->gyre__value, (expected), (v), 0, __ATOMIC_RELAXED,             \
                              __ATOMIC_RELAXED)
#define gyre__cas_strong_acquire(p, expected, v)                                                   \
  __atomic_compare_exchange_n(&(p)->gyre__value, (expected), (v), 0, __ATOMIC_ACQUIRE,             \
                              __ATOMIC_RELAXED)
#define gyre__cas_strong_acq_rel(p, expected, v)                                                   \
  __atomic_compare_exchange_n(&(p)->gyre__value, (expected), (v), 0, __ATOMIC_ACQ_REL,             \
                              __ATOMIC_RELAXED)
#define gyre__cas_strong_seq_cst(p, expected, v)                                                   \
  __atomic_compare_exchange_n(&(p)->gyre__value, (expected), (v), 0, __ATOMIC_SEQ_CST,             \
                              __ATOMIC_SEQ_CST)

GYRE_BEGIN_DECLS

/* The version this library was built as, e.g. "0.3.0". Any thread. The string is static. */
GYRE_API const char *gyre_version(void);

/* Sets the option `name` from text, as GYRE_CONF would ("limit", "512M"). Any thread; not a
 * safepoint; takes effect for later operations. Returns 0, -ENOENT if no option has that name, or
 * -EINVAL if the value does not fit (accepted values: gyre_option_describe). Nothing is changed on
 * failure. */
GYRE_API int gyre_option_set(const char *name, const char *value);

/* Writes the present value of option `name` as text into buffer[0..size), always ending it with 0.
 * Any thread. Returns the length needed without the 0 (as snprintf does), or -ENOENT. */
GYRE_API int gyre_option_get(const char *name, char *buffer, size_t size);

/* The accepted values of option `name` and its default in one line, or NULL with errno ENOENT. Any
 * thread. The string is static. */
GYRE_API const char *gyre_option_describe(const char *name);

/* Where the library's messages go: stall reports, ignored options, leak reports. `sink` is called
 * with one whole line without the newline, from any thread, never with a library lock held; NULL
 * restores the default, a write to stderr. Any thread. */
typedef void gyre_log_sink(const char *line, void *arg);
GYRE_API void gyre_set_log(gyre_log_sink *sink, void *arg);

GYRE_END_DECLS

#endif
