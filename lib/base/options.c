/* SPDX-License-Identifier: MIT */
/* The options: one table that the settings, the questions and the documents share.
 *
 * Values are atomics in gyre__options, so that a reader needs neither look-up nor lock. They hold
 * their defaults from the start; gyre__options_init() lays over them, once and before the first
 * setting from code, what the program was linked with and what the environment says (conf.c): code
 * has the last word. Settings are made under options_lock, which keeps options of several numbers
 * whole; the log is never written to, and nobody called, with it held.
 */
#include "lib/base/options.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef GYRE_DEBUG
#define ON_IN_DEBUG 1
#define QUARANTINE 65536
#define ONLY_IN_DEBUG(max) (max)
#else
#define ON_IN_DEBUG 0
#define QUARANTINE 0
#define ONLY_IN_DEBUG(max) 0
#endif

#ifdef GYRE_WINDOWS
#define ONLY_IN_WINDOWS(max) (max)
#else
#define ONLY_IN_WINDOWS(max) 0
#endif

/* Valgrind knows the blocks of the system's malloc, and what of a block of ours lies in them. */
#ifdef GYRE_VALGRIND
#define LARGE GYRE__LARGE_SYSTEM
#else
#define LARGE GYRE__LARGE_SPANS
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
    .finalizers = {GYRE__FINALIZERS_SERVICE},
    .leaks = {ON_IN_DEBUG},
    .collect_always = {0},
    .poison = {ON_IN_DEBUG},
    .quarantine = {QUARANTINE},
    .guard = {0},
    .fail_nth = {0},
    .yield_seed = {0},
    .yield_us = {0},
    .slow_paths = {0},
    .stats = {0},
};

struct gyre__option_hooks gyre__option_hooks;

/* ---- the table ----
 *
 * lib/docs/options.md shows it, and a test compares the two. */

/* What an option is called, what it accepts, what it does, and its default, in words that are the same
 * in every build. */
#define TEXT(name_, accepts_, does_, default_)                                                     \
  .name = name_, .accepts = accepts_, .does = does_, .default_text = default_,                     \
  .help = name_ ": " accepts_ ", " does_ "; default " default_

static const struct gyre__option table[] = {
    {TEXT("large", "spans|system|jemalloc|mmap",
          "where blocks beyond 64 KiB come from: our own spans, malloc(), jemalloc (only in a "
          "program linked with it), or a mapping each",
          "spans (builds for Valgrind: system)"),
     .values = &gyre__options.large, .words = {"spans", "system", "jemalloc", "mmap"}},
    {TEXT("thp", "default|always|never",
          "whether the heap's memory is to be in transparent huge pages; default leaves it to the "
          "system's setting",
          "default"),
     .values = &gyre__options.thp, .words = {"default", "always", "never"}},
    {TEXT("purge", "dontneed|free",
          "whether memory that is given back goes at once (MADV_DONTNEED) or when the system needs "
          "it (MADV_FREE)",
          "dontneed"),
     .values = &gyre__options.purge, .words = {"dontneed", "free"}},
    {TEXT("limit", "bytes with suffix k, M or G",
          "the most the heap takes from the system, 0 for no limit", "0"),
     .values = &gyre__options.limit, .numbers = 1, .max = PTRDIFF_MAX, .is_bytes = true},
    {TEXT("mem_threshold", "bytes with suffix k, M or G",
          "a full collection is due when so much more is in use than after the last, 0 for off",
          "0 (in an arena: a quarter of it)"),
     .values = &gyre__options.mem_threshold, .numbers = 1, .max = PTRDIFF_MAX, .is_bytes = true},
    {TEXT("purge_delay_ms", "0 to 4294967295", "how long empty pages are kept", "1000"),
     .values = &gyre__options.purge_delay_ms, .numbers = 1, .max = UINT32_MAX},
    {TEXT("alloc_is_safepoint", "0|1", "may an allocation that finds no memory collect", "0"),
     .values = &gyre__options.alloc_is_safepoint, .numbers = 1, .max = 1},
    {TEXT("stall_ms", "1 to 4294967295",
          "how long a thread may pass no safepoint before it is reported", "1000"),
     .values = &gyre__options.stall_ms, .numbers = 1, .min = 1, .max = UINT32_MAX},
    {TEXT("release_budget", "1 to 4294967295", "objects that one release destroys at most", "1024"),
     .values = &gyre__options.release_budget, .numbers = 1, .min = 1, .max = UINT32_MAX},
    {TEXT("gc", "0|1", "automatic collection of cycles", "1"), .values = &gyre__options.gc,
     .numbers = 1, .max = 1},
    {TEXT("gc_threshold", "one to three numbers from 0 to 2147483647 with / between them",
          "objects and collections after which generations 0, 1 and 2 are collected; 0 as the "
          "first turns automatic collection off",
          "2000/10/10"),
     .values = gyre__options.gc_threshold, .numbers = 3, .max = INT_MAX},
    {TEXT("gc_mode", "concurrent|stw", "collect beside the program or stop it", "concurrent"),
     .values = &gyre__options.gc_mode, .words = {"concurrent", "stw"}},
    {TEXT("gc_wait_bytes", "bytes with suffix k, M or G",
          "new memory after which a full collection is due, 0 for the larger of 16M and a quarter "
          "of the live heap",
          "0"),
     .values = &gyre__options.gc_wait_bytes, .numbers = 1, .max = PTRDIFF_MAX, .is_bytes = true},
    {TEXT("gc_wait_objects", "0 to 9223372036854775807",
          "new objects after which a full collection is due, 0 for the larger of 500000 and a "
          "quarter of the live objects",
          "0"),
     .values = &gyre__options.gc_wait_objects, .numbers = 1, .max = PTRDIFF_MAX},
    {TEXT("gc_trace", "0|1", "a line on stderr for each collection", "0"),
     .values = &gyre__options.gc_trace, .numbers = 1, .max = 1},
    {TEXT("pace_ms", "0 to 4294967295",
          "how long a thread's safepoints wait altogether for one collection that is behind and "
          "held up by another thread, and twenty times as long while it makes progress",
          "100"),
     .values = &gyre__options.pace_ms, .numbers = 1, .max = UINT32_MAX},
    {TEXT("young_us", "1 to 4294967295", "how long a young collection may take, in microseconds",
          "50"),
     .values = &gyre__options.young_us, .numbers = 1, .min = 1, .max = UINT32_MAX},
    {TEXT("soft_limit", "bytes with suffix k, M or G",
          "collect more often when the heap comes near, 0 for no limit",
          "nine tenths of the container's memory limit"),
     .values = &gyre__options.soft_limit, .numbers = 1, .max = PTRDIFF_MAX, .is_bytes = true},
    {TEXT("cascade", "thread|service", "who goes on with a release that its budget cut off",
          "thread"),
     .values = &gyre__options.cascade, .words = {"thread", "service"}},
    {TEXT(
         "finalizers", "service|program",
         "who runs finalizers that are queued: the service thread, or gyre_run_pending(), and then "
         "those of all garbage are",
         "service"),
     .values = &gyre__options.finalizers, .words = {"service", "program"}},
    {TEXT("leaks", "0|1", "report living objects in gyre_fini()", "0 (builds with GYRE_DEBUG: 1)"),
     .values = &gyre__options.leaks, .numbers = 1, .max = 1},
    {TEXT("collect_always", "0 to 3", "collect generation n-1 at every safepoint, 0 for off", "0"),
     .values = &gyre__options.collect_always, .numbers = 1, .max = 3},
    {TEXT("poison", "0|1",
          "fill fresh blocks with 0xCD and freed ones with 0xDD (only in builds with GYRE_DEBUG)",
          "0 (builds with GYRE_DEBUG: 1)"),
     .values = &gyre__options.poison, .numbers = 1, .max = ONLY_IN_DEBUG(1)},
    {TEXT("quarantine", "bytes with suffix k, M or G",
          "freed blocks up to 64 KiB that each thread keeps from being used again, to find who "
          "writes to them, 0 for none (only in builds with GYRE_DEBUG)",
          "0 (builds with GYRE_DEBUG: 64k)"),
     .values = &gyre__options.quarantine, .numbers = 1, .max = ONLY_IN_DEBUG(UINT64_C(1) << 30),
     .is_bytes = true},
    {TEXT("guard", "0 to 4294967295",
          "every nth block up to 2 MiB ends at a page that nobody may touch, 0 for none (only in "
          "builds with GYRE_DEBUG)",
          "0"),
     .values = &gyre__options.guard, .numbers = 1, .max = ONLY_IN_DEBUG(UINT32_MAX)},
    {TEXT("malloc", "pool|system|pool_debug|system_debug",
          "who serves gyre_malloc() from the first use on, the library or the C library, and "
          "whether "
          "guard bytes are put around blocks",
          "pool"),
     .values = &gyre__options.malloc_choice, .is_for_start = true,
     .words = {"pool", "system", "pool_debug", "system_debug"}},
    {TEXT(
         "rc", "on|off",
         "whether counts free; off: what they would free waits for the next collection, in threads "
         "that attach from now on",
         "on"),
     .values = &gyre__options.rc, .words = {"on", "off"}},
    {TEXT("fail_nth", "0 to 18446744073709551615",
          "every nth allocation fails (only in builds with GYRE_WINDOWS), 0 for off", "0"),
     .values = &gyre__options.fail_nth, .numbers = 1, .max = ONLY_IN_WINDOWS(UINT64_MAX)},
    {TEXT("yield_seed", "0 to 18446744073709551615",
          "seed of yields in race windows (only in builds with GYRE_WINDOWS), 0 for off", "0"),
     .values = &gyre__options.yield_seed, .numbers = 1, .max = ONLY_IN_WINDOWS(UINT64_MAX)},
    {TEXT("yield_us", "0 to 999999",
          "slow motion: with yield_seed, threads also sleep in race windows, each time at most so "
          "many microseconds (only in builds with GYRE_WINDOWS)",
          "0"),
     .values = &gyre__options.yield_us, .numbers = 1, .max = ONLY_IN_WINDOWS(999999)},
    {TEXT("slow_paths", "0|1", "threads that attach from now on count on the slow path only", "0"),
     .values = &gyre__options.slow_paths, .numbers = 1, .max = 1},
    {TEXT("check_visits", "0|1",
          "try all visit functions before each full collection that is asked for", "0"),
     .values = &gyre__options.check_visits, .numbers = 1, .max = 1},
    {TEXT("stats", "off|text|json|openmetrics",
          "print all figures on stderr when the process ends, in that format", "off"),
     .values = &gyre__options.stats, .words = {"off", "text", "json", "openmetrics"}},
};

#define OPTION_COUNT (sizeof table / sizeof table[0])

/* Serialises settings; see the head of the file. */
static gyre__lock options_lock;
/* 1 when what was there at the start has been read. Written under the lock; whoever reads 1 sees its
 * options. */
static gyre__atomic_u32 options_ready;
/* Under the lock: who set each option last (enum gyre_option_source), and the values that it began with. */
static uint8_t sources[OPTION_COUNT];
static uint64_t defaults[OPTION_COUNT][GYRE__OPTION_NUMBERS];

size_t gyre__option_count(void) { return OPTION_COUNT; }
const struct gyre__option *gyre__option_at(size_t i) { return &table[i]; }

const struct gyre__option *gyre__option_find(const char *name, size_t length) {
  for (size_t i = 0; i < OPTION_COUNT; i++)
    if (strlen(table[i].name) == length && memcmp(table[i].name, name, length) == 0)
      return &table[i];
  return NULL;
}

static const struct gyre__option *option_named(const char *name) {
  return name != NULL ? gyre__option_find(name, strlen(name)) : NULL;
}

/* How many values it has. */
static unsigned option_width(const struct gyre__option *option) {
  return option->numbers != 0 ? option->numbers : 1;
}

static enum gyre_option_kind option_kind(const struct gyre__option *option) {
  if (option->numbers == 0) return GYRE_OPTION_WORD;
  if (option->numbers > 1) return GYRE_OPTION_NUMBERS;
  if (option->is_bytes) return GYRE_OPTION_BYTES;
  /* What it is does not depend on whether this build can do it. */
  return strcmp(option->accepts, "0|1") == 0 ? GYRE_OPTION_SWITCH : GYRE_OPTION_NUMBER;
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
static unsigned parse_numbers(const struct gyre__option *option, const char *text, size_t length,
                              uint64_t out[GYRE__OPTION_NUMBERS]) {
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

static unsigned parse_word(const struct gyre__option *option, const char *text, size_t length,
                           uint64_t *out) {
  for (unsigned i = 0; option->words[i] != NULL; i++)
    if (strlen(option->words[i]) == length && memcmp(option->words[i], text, length) == 0) {
      *out = i;
      return 1;
    }
  return 0;
}

/* How many values the text gives, 0 if it does not fit. Changes nothing. */
unsigned gyre__option_parse(const struct gyre__option *option, const char *text, size_t length,
                            uint64_t out[GYRE__OPTION_NUMBERS]) {
  unsigned count = option->numbers != 0 ? parse_numbers(option, text, length, out)
                                        : parse_word(option, text, length, out);
  if (count != 0 && option->values == &gyre__options.large &&
      gyre__option_hooks.large_is_available != NULL &&
      !gyre__option_hooks.large_is_available(out[0]))
    return 0;
  return count;
}

/* ---- setting ---- */

void gyre__option_apply(const struct gyre__option *option, const uint64_t *values, unsigned count,
                        enum gyre_option_source source) {
  for (unsigned i = 0; i < count; i++)
    /* relaxed: a setting, no data hangs on it; pairs with the loads in gyre__option(). */
    gyre__store_relaxed(&option->values[i], values[i]);
  sources[option - table] = (uint8_t)source;
  if (option->values == &gyre__options.fail_nth) gyre__fault_arm(values[0], 1);
}

/* Before anything is laid over them. */
static void keep_defaults(void) {
  /* relaxed: written under the lock, published with options_ready. Only a collector wants to know. */
  if (!GYRE__IS_MALLOC)
    gyre__store_relaxed(&gyre__options.soft_limit, gyre__os_memory_limit() / 10 * 9);
  for (size_t i = 0; i < OPTION_COUNT; i++)
    for (unsigned n = 0; n < option_width(&table[i]); n++)
      /* relaxed: as above. */
      defaults[i][n] = gyre__load_relaxed(&table[i].values[n]);
}

void gyre__options_init(void) {
  /* acquire: pairs with the release below. */
  if (GYRE_LIKELY(gyre__load_acquire(&options_ready) != 0)) return;
  /* The dynamic linker may allocate before the C library has begun. */
  if (GYRE__IS_MALLOC && environ == NULL) return;
  gyre__lock_take(&options_lock);
  /* relaxed: written under the lock, which we hold. */
  bool first = gyre__load_relaxed(&options_ready) == 0;
  if (first) {
    keep_defaults();
    gyre__conf_apply();
    /* release: the options, for those who do not take the lock; pairs with the acquire above. */
    gyre__store_release(&options_ready, 1);
  }
  gyre__lock_give(&options_lock);
  if (first) gyre__conf_report();
}

static bool have_started; /* under the lock */

void gyre__options_start(void) {
  gyre__lock_take(&options_lock);
  have_started = true;
  gyre__lock_give(&options_lock);
}

/* Sets the option from code. 0, or -EBUSY if it is too late for another value. */
static int option_set(const struct gyre__option *option, const uint64_t *values, unsigned count) {
  gyre__lock_take(&options_lock);
  /* relaxed: written under the lock, which we hold. */
  bool is_late =
      option->is_for_start && have_started && gyre__load_relaxed(option->values) != *values;
  if (!is_late) gyre__option_apply(option, values, count, GYRE_OPTION_FROM_CODE);
  gyre__lock_give(&options_lock);
  return is_late ? -EBUSY : 0;
}

int gyre_option_set(const char *name, const char *value) {
  const struct gyre__option *option = option_named(name);
  if (option == NULL) return -ENOENT;
  gyre__options_init();
  uint64_t values[GYRE__OPTION_NUMBERS];
  unsigned count = value != NULL ? gyre__option_parse(option, value, strlen(value), values) : 0;
  if (count == 0) return -EINVAL;
  return option_set(option, values, count);
}

int gyre_option_set_number(const char *name, uint64_t value) {
  const struct gyre__option *option = option_named(name);
  if (option == NULL) return -ENOENT;
  if (option->numbers != 1 || value < option->min || value > option->max) return -EINVAL;
  gyre__options_init();
  return option_set(option, &value, 1);
}

uint64_t gyre__option_store(gyre__atomic_u64 *option, const uint64_t *values, unsigned count) {
  size_t i = 0;
  while (i < OPTION_COUNT - 1 && table[i].values != option)
    i++;
  GYRE_ASSERT(table[i].values == option && count <= option_width(&table[i]));
  gyre__options_init();
  gyre__lock_take(&options_lock);
  /* relaxed: written under the lock, which we hold. */
  uint64_t before = gyre__load_relaxed(option);
  gyre__option_apply(&table[i], values, count, GYRE_OPTION_FROM_CODE);
  gyre__lock_give(&options_lock);
  return before;
}

/* ---- asking ---- */

static void values_read(const struct gyre__option *option, uint64_t out[GYRE__OPTION_NUMBERS]) {
  for (unsigned i = 0; i < option_width(option); i++)
    /* relaxed: written under the lock, which we hold. */
    out[i] = gyre__load_relaxed(&option->values[i]);
}

/* As snprintf(). */
static int values_print(const struct gyre__option *option, const uint64_t *values, char *out,
                        size_t size) {
  if (option->numbers == 0) return snprintf(out, size, "%s", option->words[values[0]]);
  char text[GYRE__OPTION_NUMBERS * 24] = "";
  size_t length = 0;
  for (unsigned i = 0; i < option->numbers; i++)
    length += (size_t)snprintf(text + length, sizeof text - length,
                               i == 0 ? "%" PRIu64 : "/%" PRIu64, values[i]);
  return snprintf(out, size, "%s", text);
}

int gyre_option_get(const char *name, char *buffer, size_t size) {
  const struct gyre__option *option = option_named(name);
  if (option == NULL) return -ENOENT;
  gyre__options_init();
  uint64_t values[GYRE__OPTION_NUMBERS];
  gyre__lock_take(&options_lock);
  values_read(option, values);
  gyre__lock_give(&options_lock);
  return values_print(option, values, buffer, buffer != NULL ? size : 0);
}

int gyre_option_get_number(const char *name, uint64_t *out) {
  const struct gyre__option *option = option_named(name);
  if (option == NULL) return -ENOENT;
  if (option->numbers != 1 || out == NULL) return -EINVAL;
  gyre__options_init();
  /* relaxed: a single setting; pairs with the store in gyre__option_apply(). */
  *out = gyre__load_relaxed(option->values);
  return 0;
}

const char *gyre_option_describe(const char *name) {
  const struct gyre__option *option = option_named(name);
  if (option == NULL) {
    errno = ENOENT;
    return NULL;
  }
  return option->help;
}

static void option_inform(const struct gyre__option *option, struct gyre_option_info *out) {
  *out = (struct gyre_option_info){
      .size = sizeof *out,
      .name = option->name,
      .accepts = option->accepts,
      .description = option->does,
      .default_text = option->default_text,
      .kind = option_kind(option),
      .min = option->min,
      .max = option->max,
      .numbers = option->numbers,
      .words = option->numbers == 0 ? option->words : NULL,
  };
  uint64_t values[GYRE__OPTION_NUMBERS];
  size_t at = (size_t)(option - table);
  gyre__lock_take(&options_lock);
  values_read(option, values);
  out->source = (enum gyre_option_source)sources[at];
  gyre__lock_give(&options_lock);
  (void)values_print(option, values, out->value, sizeof out->value);
  /* Constant once the options are ready. */
  (void)values_print(option, defaults[at], out->default_value, sizeof out->default_value);
}

int gyre_option_query(const char *name, struct gyre_option_info *out) {
  if (out == NULL || out->size == 0) return -EINVAL;
  const struct gyre__option *option = option_named(name);
  if (option == NULL) return -ENOENT;
  gyre__options_init();
  struct gyre_option_info info;
  option_inform(option, &info);
  info.size = out->size;
  memcpy(out, &info, out->size < sizeof info ? out->size : sizeof info);
  return 0;
}

int gyre_option_list(gyre_option_visitor *visitor, void *arg) {
  if (visitor == NULL) return -EINVAL;
  gyre__options_init();
  for (size_t i = 0; i < OPTION_COUNT; i++) {
    struct gyre_option_info info;
    option_inform(&table[i], &info);
    int stop = visitor(&info, arg);
    if (stop != 0) return stop;
  }
  return 0;
}

/* ---- fork ---- */

void gyre__options_fork_prepare(void) { gyre__lock_take(&options_lock); }
void gyre__options_fork_parent(void) { gyre__lock_give(&options_lock); }
void gyre__options_fork_child(void) { gyre__lock_reset(&options_lock); }
