/* SPDX-License-Identifier: MIT */
/* value/list_append, list_get, list_get2: sequences of references.
 *
 *   value/list_append/N   builds a list of N items, all the same object, and drops it; an iteration is an
 *                         item
 *   value/list_get/N      takes items of a list of N in a random order, counted
 *   value/list_get2/N     the same by two threads at once, each in an order of its own, of a list that
 *                         neither made; an iteration is an item for each
 *
 * The items of list_get are objects of their own, and their numbers are read. GLib's GPtrArray does not
 * count, cannot be read while another thread appends, and so shows what counting and atomicity cost. */
#include <stdlib.h>

#include BENCH_SYSTEM
#include "bench/support/bench.h"
#include "bench/support/crew.h"
#include "bench/support/random.h"
#include "bench/value/value.h"

#ifdef SYSTEM_HAS_LIST
struct scene {
  unsigned count;
  uint64_t gets;
  uint32_t *orders[2];
  system_list *list;
};

static void scene_make(struct scene *scene, unsigned count) {
  scene->count = count;
  struct random random = {1};
  for (int o = 0; o < 2; o++) {
    scene->orders[o] = malloc(count * sizeof *scene->orders[o]);
    random_order(&random, scene->orders[o], count);
  }
  scene->list = system_list_new();
  for (unsigned i = 0; i < count; i++) {
    system_item *item = system_item_new((int64_t)i + 5000);
    system_list_append(scene->list, item);
    system_item_release(item);
    if (i % 64 == 0) system_safepoint();
  }
}

static void scene_free(struct scene *scene) {
  system_list_free(scene->list);
  free(scene->orders[0]);
  free(scene->orders[1]);
}

static void get(void *arg, unsigned index) {
  struct scene *scene = arg;
  const uint32_t *order = scene->orders[index];
  int64_t sum = 0;
  for (uint64_t i = 0, at = 0; i < scene->gets; i++) {
    system_item *item = system_list_get(scene->list, order[at]);
    sum += system_item_value(item);
    system_item_release(item);
    if (++at == scene->count) at = 0;
    if (i % 64 == 0) system_safepoint();
  }
  BENCH_KEEP(sum);
}

static void run_get(bench_state *state, const struct bench_case *self) {
  struct scene scene = {.gets = bench_iterations(state)};
  scene_make(&scene, (unsigned)self->arg[0]);
  bench_start(state);
  get(&scene, 0);
  bench_stop(state);
  scene_free(&scene);
}

static void run_get2(bench_state *state, const struct bench_case *self) {
  static const struct crew_job job = {.work = get};
  struct scene scene = {.gets = bench_iterations(state)};
  scene_make(&scene, (unsigned)self->arg[0]);
  bench_start(state);
  bench_seconds(state, crew_run(2, &job, &scene));
  bench_stop(state);
  scene_free(&scene);
}

static void run_append(bench_state *state, const struct bench_case *self) {
  system_item *item = system_item_new(1000000);
  uint64_t left = bench_iterations(state), count = (uint64_t)self->arg[0];
  bench_start(state);
  while (left > 0) {
    system_list *list = system_list_new();
    for (uint64_t i = 0; i < count && left > 0; i++, left--) {
      system_list_append(list, item);
      if (i % 64 == 0) system_safepoint();
    }
    system_list_free(list);
  }
  bench_stop(state);
  system_item_release(item);
}

void value_register_list(void) {
  static const struct bench_case cases[] = {
      {.name = "value/list_append/1000/" SYSTEM_NAME,
       .run = run_append,
       .arg = {1000},
       .iterations = 20000000,
       .level = BENCH_QUICK},
      {.name = "value/list_append/1000000/" SYSTEM_NAME,
       .run = run_append,
       .arg = {1000000},
       .iterations = 10000000,
       .level = BENCH_DEFAULT},
      {.name = "value/list_get/1000/" SYSTEM_NAME,
       .run = run_get,
       .arg = {1000},
       .iterations = 20000000,
       .level = BENCH_QUICK},
      {.name = "value/list_get/1000000/" SYSTEM_NAME,
       .run = run_get,
       .arg = {1000000},
       .iterations = 4000000,
       .level = BENCH_DEFAULT},
      {.name = "value/list_get2/1000000/" SYSTEM_NAME,
       .run = run_get2,
       .arg = {1000000},
       .iterations = 4000000,
       .flags = BENCH_MANUAL_TIME,
       .level = BENCH_DEFAULT},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct bench_case c = cases[i];
    c.unit = "item";
    bench_register(&c);
  }
}
#else
void value_register_list(void) {}
#endif
