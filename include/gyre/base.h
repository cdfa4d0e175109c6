/* SPDX-License-Identifier: MIT */
/* gyre/base.h: what every other gyre header stands on: version, visibility, branch hints, atomic
 * fields, options and error texts.
 *
 * Errors, library-wide: a call that makes something returns NULL and sets errno; every other call
 * returns 0 (or a count) or a negative errno value. Out-parameters are untouched on failure.
 *
 * Options: each has a name, a type, a default and a range; lib/docs/options.md lists them all. They are
 * set, the later ones winning, by
 *
 *   gyre_conf        a string of the program's, "key:value,key:value"
 *   short forms      environment variables such as GYRE_GCTRACE=1
 *   GYRE_CONF        an environment variable like the string
 *   code             gyre_option_set() and the setters in the other headers
 *
 * The first three are read once, at first use of the library, and the environment not at all in
 * programs with raised privileges. A value there that does not fit, or an option that does not exist,
 * is reported to the log and left out; it never ends the process. From code it is refused with
 * -EINVAL or -ENOENT. Numbers may end in k, M or G (1,024 and its powers).
 */
#ifndef GYRE_BASE_H
#define GYRE_BASE_H

#include <stddef.h>
#include <stdint.h>

#define GYRE_VERSION_MAJOR 0
#define GYRE_VERSION_MINOR 4
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

/* The version this library was built as, e.g. "0.4.0". Any thread. The string is static. */
GYRE_API const char *gyre_version(void);

/* Options as the program wants them to begin with. A program that defines it in place of the library's
 * own, which is NULL, has it read before the environment:
 *
 *     const char *gyre_conf = "limit:2G,stall_ms:500";      // at file scope, not static
 */
extern GYRE_API const char *gyre_conf;

/* Sets the option `name` from text, as GYRE_CONF would ("limit", "512M"). Any thread; not a
 * safepoint; takes effect for later operations. Returns 0, -ENOENT if no option has that name, -EINVAL
 * if the value does not fit (accepted values: gyre_option_describe), or -EBUSY if the option is one for
 * the first use of the library ("malloc") and that is over. Nothing is changed on failure. */
GYRE_API int gyre_option_set(const char *name, const char *value);

/* The same for an option that is one number or a switch. Likewise; -EINVAL for options of words or of
 * several numbers, too. */
GYRE_API int gyre_option_set_number(const char *name, uint64_t value);

/* Writes the present value of option `name` as text into buffer[0..size), always ending it with 0.
 * Any thread. Returns the length needed without the 0 (as snprintf does), or -ENOENT. */
GYRE_API int gyre_option_get(const char *name, char *buffer, size_t size);

/* The present value of an option that is one number or a switch. Any thread. 0, -ENOENT, or -EINVAL
 * for other options and out NULL. */
GYRE_API int gyre_option_get_number(const char *name, uint64_t *out);

/* What option `name` accepts, what it does and its default in one line, or NULL with errno ENOENT. Any
 * thread. The string is static. */
GYRE_API const char *gyre_option_describe(const char *name);

enum gyre_option_kind {
  GYRE_OPTION_SWITCH,  /* 0 or 1 */
  GYRE_OPTION_NUMBER,  /* min to max */
  GYRE_OPTION_BYTES,   /* the same, of bytes */
  GYRE_OPTION_NUMBERS, /* up to `numbers` of them with / in between */
  GYRE_OPTION_WORD,    /* one of words */
};

/* Who set an option last. */
enum gyre_option_source {
  GYRE_OPTION_IS_DEFAULT,
  GYRE_OPTION_FROM_PROGRAM, /* gyre_conf */
  GYRE_OPTION_FROM_ENVIRONMENT,
  GYRE_OPTION_FROM_CODE,
};

/* All about an option. Strings are static, but for the two that are copied. A caller of
 * gyre_option_query() sets size = sizeof(struct gyre_option_info). */
struct gyre_option_info {
  size_t size;
  const char *name;
  const char *accepts;     /* "0 to 4294967295" */
  const char *description; /* what it does, in one line */
  const char
      *default_text; /* its default, with what depends on the build or the machine in words */
  enum gyre_option_kind kind;
  enum gyre_option_source source;
  uint64_t min, max; /* of each number; 0 to 0: this build cannot do it */
  size_t numbers;
  const char *const *words; /* up to a NULL; NULL if it is no word */
  char value[64];           /* at present */
  char default_value[64];   /* here */
};

/* Fills *out, at most out->size bytes of it. Any thread. 0, -ENOENT, or -EINVAL if out is NULL or its
 * size is 0. */
GYRE_API int gyre_option_query(const char *name, struct gyre_option_info *out);

/* Calls visitor(info, arg) for every option, in the order of lib/docs/options.md, with no lock held; info is
 * valid during the call. Stops when it returns other than 0. Any thread. Returns 0, what visitor returned,
 * or -EINVAL if that is NULL. */
typedef int gyre_option_visitor(const struct gyre_option_info *info, void *arg);
GYRE_API int gyre_option_list(gyre_option_visitor *visitor, void *arg);

/* Where the library's messages go: stall reports, ignored options, leak reports. `sink` is called
 * with one whole line without the newline, from any thread, never with a library lock held; NULL
 * restores the default, a write to stderr. Any thread. */
typedef void gyre_log_sink(const char *line, void *arg);
GYRE_API void gyre_set_log(gyre_log_sink *sink, void *arg);

/* Where text goes: called with pieces of it, in order; non-zero ends the writing, and the writer returns
 * it if it is negative, else -ECANCELED. Called by the thread that writes, with no lock held. */
typedef int gyre_text_sink(const char *text, size_t length, void *arg);

GYRE_END_DECLS

#endif
