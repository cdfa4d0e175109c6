/* SPDX-License-Identifier: MIT */
/* value/intern: the interned string of 16 bytes that is in the table already, and its release.
 *
 *   value/intern/hit             one thread, 1,000 strings in turn
 *   value/intern2/own            two threads at once, each with 1,000 strings of its own
 *   value/intern2/same           two threads, both with the same 1,000, made by neither
 *   value/intern2/immortal       the same with strings that are kept for good (systems that tell)
 *
 * In intern2 an iteration is a hit by each thread. */
#include <stdbool.h>

#include BENCH_SYSTEM
#include "bench/support/bench.h"
#include "bench/support/crew.h"
#include "bench/value/value.h"

#define STRINGS 1000

static char texts[3 * STRINGS][KEY_BYTES]; /* for one thread, the other, both */
static system_key *kept[3 * STRINGS];

struct scene {
  bool own;
  uint64_t hits;
};

static void keep(unsigned from) {
  for (unsigned i = from; i < from + STRINGS; i++) {
    key_text(texts[i], i);
    kept[i] = system_intern(texts[i], KEY_BYTES - 1);
  }
}

static void drop(unsigned from) {
  for (unsigned i = from; i < from + STRINGS; i++)
    system_key_release(kept[i]);
}

static unsigned first_of(const struct scene *scene, unsigned index) {
  return scene->own ? index * STRINGS : 2 * STRINGS;
}

static void prepare(void *arg, unsigned index) {
  const struct scene *scene = arg;
  if (scene->own) keep(first_of(scene, index));
}

static void finish(void *arg, unsigned index) {
  const struct scene *scene = arg;
  if (scene->own) drop(first_of(scene, index));
}

static void hit(void *arg, unsigned index) {
  const struct scene *scene = arg;
  unsigned first = first_of(scene, index);
  for (uint64_t i = 0, at = 0; i < scene->hits; i++) {
    system_key *key = system_intern(texts[first + at], KEY_BYTES - 1);
    BENCH_KEEP(key);
    system_key_release(key);
    if (++at == STRINGS) at = 0;
    if (i % 64 == 0) system_safepoint();
  }
}

/* arg[0] threads; arg[1]: with strings of their own; arg[2]: immortal ones. */
static void run(bench_state *state, const struct bench_case *self) {
  static const struct crew_job job = {.prepare = prepare, .work = hit, .finish = finish};
  struct scene scene = {.own = self->arg[1] != 0, .hits = bench_iterations(state)};
  keep(2 * STRINGS);
#ifdef SYSTEM_HAS_IMMORTAL
  for (unsigned i = 2 * STRINGS; self->arg[2] != 0 && i < 3 * STRINGS; i++)
    system_key_keep(kept[i]);
#endif
  bench_start(state);
  bench_seconds(state, crew_run((unsigned)self->arg[0], &job, &scene));
  bench_stop(state);
  drop(2 * STRINGS);
}

void value_register_intern(void) {
  static const struct bench_case cases[] = {
      {.name = "value/intern/hit/" SYSTEM_NAME, .arg = {1, 1}, .level = BENCH_QUICK},
      {.name = "value/intern2/own/" SYSTEM_NAME, .arg = {2, 1}, .level = BENCH_QUICK},
      {.name = "value/intern2/same/" SYSTEM_NAME, .arg = {2, 0}, .level = BENCH_DEFAULT},
#ifdef SYSTEM_HAS_IMMORTAL
      {.name = "value/intern2/immortal/" SYSTEM_NAME, .arg = {2, 0, 1}, .level = BENCH_DEFAULT},
#endif
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct bench_case c = cases[i];
    c.run = run;
    c.iterations = 10000000;
    c.flags = BENCH_MANUAL_TIME;
    c.unit = "hit";
    bench_register(&c);
  }
}
