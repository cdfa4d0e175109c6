/* SPDX-License-Identifier: MIT */
/* The options: one table that the environment, gyre_option_set() and the descriptions share.
 *
 * Values are atomics in gyre__options, so that a reader needs neither look-up nor lock. They hold
 * their defaults from the start; gyre__options_init() lays GYRE_CONF over them once, before the
 * first setting from code, so that code has the last word. Settings are made under options_lock,
 * which keeps options of several numbers whole; the log is never written to with it held.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/base.h"

#ifdef GYRE_DEBUG
#define ON_IN_DEBUG 1
#define ON_IN_DEBUG_TEXT "1"
#define QUARANTINE 65536
#define QUARANTINE_TEXT "64k"
#define ONLY_IN_DEBUG(max) (max)
#else
#define ON_IN_DEBUG 0
#define ON_IN_DEBUG_TEXT "0"
#define QUARANTINE 0
#define QUARANTINE_TEXT "0"
#define ONLY_IN_DEBUG(max) 0
#endif

/* Valgrind knows the blocks of the system's malloc, and what of a block of ours lies in them. */
#ifdef GYRE_VALGRIND
#define LARGE GYRE__LARGE_SYSTEM
#define LARGE_TEXT "system"
#else
#define LARGE GYRE__LARGE_SPANS
#define LARGE_TEXT "spans"
#endif

struct gyre__options gyre__options = {
    .large = {LARGE},
    .thp = {GYRE__THP_DEFAULT},
    .purge = {GYRE__PURGE_DONTNEED},
    .limit = {0},
    .purge_delay_ms = {1000},
    .alloc_is_safepoint = {0},
    .stall_ms = {1000},
    .release_budget = {1024},
    .gc = {1},
    .gc_threshold = {{2000}, {10}, {10}},
    .gc_mode = {0},
    .gc_wait_bytes = {0},
    .gc_wait_objects = {0},
    .gc_trace = {0},
    .pace_ms = {100},
    .young_us = {50},
    .soft_limit = {0},
    .cascade = {GYRE__CASCADE_THREAD},
    .leaks = {ON_IN_DEBUG},
    .collect_always = {0},
    .poison = {ON_IN_DEBUG},
    .quarantine = {QUARANTINE},
    .guard = {0},
    .fail_nth = {0},
    .yield_seed = {0},
    .yield_us = {0},
    .slow_paths = {0},
};

struct gyre__option_hooks gyre__option_hooks;

/* ---- the table ---- */

#define NUMBERS_MAX 3

struct option {
  const char *name;
  const char *help;
  gyre__atomic_u64 *values; /* `numbers` of them */
  unsigned numbers;
  uint64_t min, max;
  const char *words[5]; /* instead of numbers: the value is the index */
};

static const struct option options[] = {
    {.name = "large",
     .help =
         "large: spans|system|jemalloc|mmap, where blocks beyond 64 KiB come from: our own spans, "
         "malloc(), jemalloc (only in a program linked with it), or a mapping each; "
         "default " LARGE_TEXT,
     .values = &gyre__options.large,
     .words = {"spans", "system", "jemalloc", "mmap"}},
    {.name = "thp",
     .help = "thp: default|always|never, whether the heap's memory is to be in transparent huge "
             "pages; default is the system's setting",
     .values = &gyre__options.thp,
     .words = {"default", "always", "never"}},
    {.name = "purge",
     .help = "purge: dontneed|free, whether memory that is given back goes at once (MADV_DONTNEED) "
             "or when the system needs it (MADV_FREE); default dontneed",
     .values = &gyre__options.purge,
     .words = {"dontneed", "free"}},
    {.name = "limit",
     .help =
         "limit: bytes with suffix k, M or G, the most the heap takes from the system, 0 for no "
         "limit; default 0",
     .values = &gyre__options.limit,
     .numbers = 1,
     .max = PTRDIFF_MAX},
    {.name = "purge_delay_ms",
     .help = "purge_delay_ms: 0 to 4294967295, how long empty pages are kept; default 1000",
     .values = &gyre__options.purge_delay_ms,
     .numbers = 1,
     .max = UINT32_MAX},
    {.name = "alloc_is_safepoint",
     .help = "alloc_is_safepoint: 0|1, may an allocation that finds no memory collect; default 0",
     .values = &gyre__options.alloc_is_safepoint,
     .numbers = 1,
     .max = 1},
    {.name = "stall_ms",
     .help = "stall_ms: 1 to 4294967295, how long a thread may pass no safepoint before it is "
             "reported; default 1000",
     .values = &gyre__options.stall_ms,
     .numbers = 1,
     .min = 1,
     .max = UINT32_MAX},
    {.name = "release_budget",
     .help =
         "release_budget: 1 to 4294967295, objects that one release destroys at most; default 1024",
     .values = &gyre__options.release_budget,
     .numbers = 1,
     .min = 1,
     .max = UINT32_MAX},
    {.name = "gc",
     .help = "gc: 0|1, automatic collection of cycles; default 1",
     .values = &gyre__options.gc,
     .numbers = 1,
     .max = 1},
    {.name = "gc_threshold",
     .help = "gc_threshold: one to three numbers from 0 to 2147483647 with / between them; default "
             "2000/10/10",
     .values = gyre__options.gc_threshold,
     .numbers = 3,
     .max = INT_MAX},
    {.name = "gc_mode",
     .help = "gc_mode: concurrent|stw, collect beside the program or stop it; default concurrent",
     .values = &gyre__options.gc_mode,
     .words = {"concurrent", "stw"}},
    {.name = "gc_wait_bytes",
     .help = "gc_wait_bytes: bytes with suffix k, M or G, new memory after which a full collection "
             "is due, 0 for the larger of 16M and a quarter of the live heap; default 0",
     .values = &gyre__options.gc_wait_bytes,
     .numbers = 1,
     .max = PTRDIFF_MAX},
    {.name = "gc_wait_objects",
     .help = "gc_wait_objects: a number, new objects after which a full collection is due, 0 for "
             "the larger of 500000 and a quarter of the live objects; default 0",
     .values = &gyre__options.gc_wait_objects,
     .numbers = 1,
     .max = PTRDIFF_MAX},
    {.name = "gc_trace",
     .help = "gc_trace: 0|1, a line on stderr for each collection; default 0",
     .values = &gyre__options.gc_trace,
     .numbers = 1,
     .max = 1},
    {.name = "pace_ms",
     .help =
         "pace_ms: 0 to 4294967295, how long a thread's safepoints wait altogether for one "
         "collection that is behind and held up by another thread, and twenty times as long while "
         "it makes progress; default 100",
     .values = &gyre__options.pace_ms,
     .numbers = 1,
     .max = UINT32_MAX},
    {.name = "young_us",
     .help = "young_us: 1 to 4294967295, how long a young collection may take, in microseconds; "
             "default 50",
     .values = &gyre__options.young_us,
     .numbers = 1,
     .min = 1,
     .max = UINT32_MAX},
    {.name = "soft_limit",
     .help =
         "soft_limit: bytes with suffix k, M or G, collect more often when the heap comes near, 0 "
         "for no limit; default nine tenths of the container's memory limit",
     .values = &gyre__options.soft_limit,
     .numbers = 1,
     .max = PTRDIFF_MAX},
    {.name = "cascade",
     .help = "cascade: thread|service, who goes on with a release that its budget cut off; default "
             "thread",
     .values = &gyre__options.cascade,
     .words = {"thread", "service"}},
    {.name = "leaks",
     .help = "leaks: 0|1, report living objects in gyre_fini(); default " ON_IN_DEBUG_TEXT,
     .values = &gyre__options.leaks,
     .numbers = 1,
     .max = 1},
    {.name = "collect_always",
     .help =
         "collect_always: 0 to 3, collect generation n-1 at every safepoint, 0 for off; default 0",
     .values = &gyre__options.collect_always,
     .numbers = 1,
     .max = 3},
    {.name = "poison",
     .help =
         "poison: 0|1, fill fresh blocks with 0xCD and freed ones with 0xDD (only in builds with "
         "GYRE_DEBUG); default " ON_IN_DEBUG_TEXT,
     .values = &gyre__options.poison,
     .numbers = 1,
     .max = 1},
    {.name = "quarantine",
     .help = "quarantine: bytes with suffix k, M or G, freed blocks up to 64 KiB that each thread "
             "keeps from being used again, to find who writes to them, 0 for none (only in builds "
             "with GYRE_DEBUG); default " QUARANTINE_TEXT,
     .values = &gyre__options.quarantine,
     .numbers = 1,
     .max = ONLY_IN_DEBUG(UINT64_C(1) << 30)},
    {.name = "guard",
     .help = "guard: a number, every nth block up to 2 MiB ends at a page that nobody may touch, 0 "
             "for none (only in builds with GYRE_DEBUG); default 0",
     .values = &gyre__options.guard,
     .numbers = 1,
     .max = ONLY_IN_DEBUG(UINT32_MAX)},
    {.name = "fail_nth",
     .help =
         "fail_nth: a number, every nth allocation fails (only in builds with GYRE_WINDOWS), 0 for "
         "off; default 0",
     .values = &gyre__options.fail_nth,
     .numbers = 1,
     .max = UINT64_MAX},
    {.name = "yield_seed",
     .help =
         "yield_seed: a number, seed of yields in race windows (only in builds with GYRE_WINDOWS), "
         "0 for off; default 0",
     .values = &gyre__options.yield_seed,
     .numbers = 1,
     .max = UINT64_MAX},
    {.name = "yield_us",
     .help = "yield_us: 0 to 999999, slow motion: with yield_seed, threads also sleep in race "
             "windows, each time at most so many microseconds; default 0",
     .values = &gyre__options.yield_us,
     .numbers = 1,
     .max = 999999},
    {.name = "slow_paths",
     .help = "slow_paths: 0|1, counts of threads that attach from now on all take the slow path; "
             "default 0",
     .values = &gyre__options.slow_paths,
     .numbers = 1,
     .max = 1},
};

#define OPTION_COUNT (sizeof options / sizeof options[0])

/* `name` need not end with a 0. */
static const struct option *option_find(const char *name, size_t length) {
  for (size_t i = 0; i < OPTION_COUNT; i++)
    if (strlen(options[i].name) == length && memcmp(options[i].name, name, length) == 0)
      return &options[i];
  return NULL;
}

/* ---- parsing ---- */

bool gyre__option_number(const char *text, size_t length, uint64_t *out) {
  uint64_t number = 0;
  unsigned shift = 0;
  if (length > 0) {
    char last = text[length - 1];
    if (last == 'k' || last == 'K') shift = 10;
    if (last == 'm' || last == 'M') shift = 20;
    if (last == 'g' || last == 'G') shift = 30;
    if (shift != 0) length--;
  }
  if (length == 0) return false;
  for (size_t i = 0; i < length; i++) {
    if (text[i] < '0' || text[i] > '9') return false;
    uint64_t digit = (uint64_t)(text[i] - '0');
    if (number > (UINT64_MAX - digit) / 10) return false;
    number = number * 10 + digit;
  }
  if (number > UINT64_MAX >> shift) return false;
  *out = number << shift;
  return true;
}

/* Numbers with '/' between them. Returns how many, 0 if the text does not fit the option. */
static unsigned parse_numbers(const struct option *option, const char *text, size_t length,
                              uint64_t out[NUMBERS_MAX]) {
  unsigned count = 0;
  for (const char *end = text + length;; text++) {
    const char *slash = memchr(text, '/', (size_t)(end - text));
    const char *stop = slash != NULL ? slash : end;
    if (count == option->numbers ||
        !gyre__option_number(text, (size_t)(stop - text), &out[count]) ||
        out[count] < option->min || out[count] > option->max)
      return 0;
    count++;
    if (slash == NULL) return count;
    text = slash;
  }
}

static unsigned parse_word(const struct option *option, const char *text, size_t length,
                           uint64_t *out) {
  for (unsigned i = 0; option->words[i] != NULL; i++)
    if (strlen(option->words[i]) == length && memcmp(option->words[i], text, length) == 0) {
      *out = i;
      return 1;
    }
  return 0;
}

/* How many values the text gives, 0 if it does not fit. Changes nothing. */
static unsigned option_parse(const struct option *option, const char *text, size_t length,
                             uint64_t out[NUMBERS_MAX]) {
  unsigned count = option->numbers != 0 ? parse_numbers(option, text, length, out)
                                        : parse_word(option, text, length, out);
  if (count != 0 && option->values == &gyre__options.large &&
      gyre__option_hooks.large_is_available != NULL &&
      !gyre__option_hooks.large_is_available(out[0]))
    return 0;
  return count;
}

/* ---- setting ---- */

/* Serialises settings; see the head of the file. */
static gyre__lock options_lock;
/* 1 when GYRE_CONF has been read. Written under the lock; whoever reads 1 sees its options. */
static gyre__atomic_u32 options_ready;

static void option_apply(const struct option *option, const uint64_t *values, unsigned count) {
  for (unsigned i = 0; i < count; i++)
    /* relaxed: a setting, no data hangs on it; pairs with the loads in gyre__option(). */
    gyre__store_relaxed(&option->values[i], values[i]);
  if (option->values == &gyre__options.fail_nth) gyre__fault_arm(values[0], 1);
}

/* Goes through GYRE_CONF: applies what fits, or else reports what does not. */
static void conf_walk(const char *conf, bool report) {
  while (*conf != 0) {
    size_t length = strcspn(conf, ",");
    size_t key = strcspn(conf, ":,");
    const struct option *option = option_find(conf, key);
    bool has_value = key < length;
    uint64_t values[NUMBERS_MAX];
    unsigned count = option != NULL && has_value
                         ? option_parse(option, conf + key + 1, length - key - 1, values)
                         : 0;
    if (!report) {
      if (count != 0) option_apply(option, values, count);
    } else if (option == NULL && length != 0) {
      gyre__log("GYRE_CONF: there is no option \"%.*s\"", (int)key, conf);
    } else if (option != NULL && count == 0) {
      gyre__log("GYRE_CONF: option \"%s\" does not accept \"%.*s\" and keeps its default; %s",
                option->name, has_value ? (int)(length - key - 1) : 0,
                has_value ? conf + key + 1 : "", option->help);
    }
    conf += length;
    if (*conf == ',') conf++;
  }
}

void gyre__options_init(void) {
  /* acquire: pairs with the release below. */
  if (GYRE_LIKELY(gyre__load_acquire(&options_ready) != 0)) return;
  /* The dynamic linker may allocate before the C library has begun. */
  if (GYRE__IS_MALLOC && environ == NULL) return;
  const char *conf = NULL;
  gyre__lock_take(&options_lock);
  /* relaxed: written under the lock, which we hold. */
  if (gyre__load_relaxed(&options_ready) == 0) {
    /* relaxed: written under the lock, published with options_ready. Only a collector wants to know. */
    if (!GYRE__IS_MALLOC)
      gyre__store_relaxed(&gyre__options.soft_limit, gyre__os_memory_limit() / 10 * 9);
    const char *trace = secure_getenv("GYRE_GCTRACE");
    /* relaxed: as above. */
    if (trace != NULL && strcmp(trace, "1") == 0) gyre__store_relaxed(&gyre__options.gc_trace, 1);
    conf = secure_getenv("GYRE_CONF");
    if (conf != NULL) conf_walk(conf, false);
    /* release: the options, for those who do not take the lock; pairs with the acquire above. */
    gyre__store_release(&options_ready, 1);
  }
  gyre__lock_give(&options_lock);
  if (conf != NULL) conf_walk(conf, true);
}

int gyre_option_set(const char *name, const char *value) {
  const struct option *option = name != NULL ? option_find(name, strlen(name)) : NULL;
  if (option == NULL) return -ENOENT;
  gyre__options_init();
  uint64_t values[NUMBERS_MAX];
  unsigned count = value != NULL ? option_parse(option, value, strlen(value), values) : 0;
  if (count == 0) return -EINVAL;
  gyre__lock_take(&options_lock);
  option_apply(option, values, count);
  gyre__lock_give(&options_lock);
  return 0;
}

/* ---- asking ---- */

int gyre_option_get(const char *name, char *buffer, size_t size) {
  const struct option *option = name != NULL ? option_find(name, strlen(name)) : NULL;
  if (option == NULL) return -ENOENT;
  gyre__options_init();
  char text[NUMBERS_MAX * 24] = "";
  size_t length = 0;
  gyre__lock_take(&options_lock);
  for (unsigned i = 0; i < option->numbers; i++)
    /* relaxed: written under the lock, which we hold. */
    length +=
        (size_t)snprintf(text + length, sizeof text - length, i == 0 ? "%" PRIu64 : "/%" PRIu64,
                         gyre__load_relaxed(&option->values[i]));
  gyre__lock_give(&options_lock);
  const char *result = text;
  if (option->numbers == 0) /* relaxed: a single setting; pairs with the store in option_apply(). */
    result = option->words[gyre__load_relaxed(option->values)];
  return snprintf(buffer, buffer != NULL ? size : 0, "%s", result);
}

const char *gyre_option_describe(const char *name) {
  const struct option *option = name != NULL ? option_find(name, strlen(name)) : NULL;
  if (option == NULL) {
    errno = ENOENT;
    return NULL;
  }
  return option->help;
}

/* ---- fork ---- */

void gyre__options_fork_prepare(void) { gyre__lock_take(&options_lock); }
void gyre__options_fork_parent(void) { gyre__lock_give(&options_lock); }
void gyre__options_fork_child(void) { gyre__lock_reset(&options_lock); }
