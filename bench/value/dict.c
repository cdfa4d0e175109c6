/* SPDX-License-Identifier: MIT */
/* value/dict_get, dict_get2, dict_set: dictionaries of interned strings to numbers.
 *
 *   value/dict_get/N    looks up keys of a dictionary of N entries, in a random order
 *   value/dict_get2/N   the same by two threads at once, each in an order of its own, neither of which
 *                       made the dictionary; an iteration is a look-up by each
 *   value/dict_set/N    builds a dictionary of N entries; an iteration is an entry
 *
 * Keys have 16 bytes. Values are objects of their own, and their numbers are read. */
#include <stdlib.h>

#include BENCH_SYSTEM
#include "bench/support/bench.h"
#include "bench/support/crew.h"
#include "bench/support/random.h"
#include "bench/value/value.h"

struct scene {
  unsigned count;
  uint64_t lookups;
  system_key **keys;
  uint32_t *orders[2];
  system_dict *dict;
};

static void scene_make(struct scene *scene, unsigned count) {
  scene->count = count;
  scene->keys = malloc(count * sizeof *scene->keys);
  for (unsigned i = 0; i < count; i++) {
    char text[KEY_BYTES];
    key_text(text, i);
    scene->keys[i] = system_intern(text, KEY_BYTES - 1);
  }
  struct random random = {1};
  for (int o = 0; o < 2; o++) {
    scene->orders[o] = malloc(count * sizeof *scene->orders[o]);
    random_order(&random, scene->orders[o], count);
  }
}

static void scene_fill(struct scene *scene) {
  scene->dict = system_dict_new();
  for (unsigned i = 0; i < scene->count; i++)
    system_dict_set(scene->dict, scene->keys[i], (int64_t)i + 5000);
}

static void scene_free(struct scene *scene) {
  for (unsigned i = 0; i < scene->count; i++)
    system_key_release(scene->keys[i]);
  free(scene->keys);
  free(scene->orders[0]);
  free(scene->orders[1]);
}

static void look_up(void *arg, unsigned index) {
  struct scene *scene = arg;
  const uint32_t *order = scene->orders[index];
  int64_t sum = 0;
  for (uint64_t i = 0, at = 0; i < scene->lookups; i++) {
    sum += system_dict_get(scene->dict, scene->keys[order[at]]);
    if (++at == scene->count) at = 0;
    if (i % 64 == 0) system_safepoint();
  }
  BENCH_KEEP(sum);
}

static void run_get(bench_state *state, const struct bench_case *self) {
  struct scene scene = {.lookups = bench_iterations(state)};
  scene_make(&scene, (unsigned)self->arg[0]);
  scene_fill(&scene);
  bench_start(state);
  look_up(&scene, 0);
  bench_stop(state);
  system_dict_free(scene.dict);
  scene_free(&scene);
}

static void run_get2(bench_state *state, const struct bench_case *self) {
  static const struct crew_job job = {.work = look_up};
  struct scene scene = {.lookups = bench_iterations(state)};
  scene_make(&scene, (unsigned)self->arg[0]);
  scene_fill(&scene);
  bench_start(state);
  bench_seconds(state, crew_run(2, &job, &scene));
  bench_stop(state);
  system_dict_free(scene.dict);
  scene_free(&scene);
}

static void run_set(bench_state *state, const struct bench_case *self) {
  struct scene scene = {.count = 0};
  scene_make(&scene, (unsigned)self->arg[0]);
  bench_start(state);
  scene_fill(&scene);
  bench_stop(state);
  system_dict_free(scene.dict);
  scene_free(&scene);
}

void value_register_dict(void) {
  static const struct bench_case cases[] = {
      {.name = "value/dict_get/1000000/" SYSTEM_NAME,
       .run = run_get,
       .arg = {1000000},
       .iterations = 4000000,
       .level = BENCH_QUICK},
      {.name = "value/dict_get/1000/" SYSTEM_NAME,
       .run = run_get,
       .arg = {1000},
       .iterations = 20000000,
       .level = BENCH_DEFAULT},
      {.name = "value/dict_get2/1000000/" SYSTEM_NAME,
       .run = run_get2,
       .arg = {1000000},
       .iterations = 4000000,
       .flags = BENCH_MANUAL_TIME,
       .level = BENCH_DEFAULT},
      {.name = "value/dict_set/1000000/" SYSTEM_NAME,
       .run = run_set,
       .arg = {1000000},
       .iterations = 1000000,
       .level = BENCH_DEFAULT},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct bench_case c = cases[i];
    c.unit = i + 1 < sizeof cases / sizeof cases[0] ? "look-up" : "entry";
    bench_register(&c);
  }
}
