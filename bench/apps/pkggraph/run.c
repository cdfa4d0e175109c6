/* SPDX-License-Identifier: MIT */
#include "bench/apps/pkggraph/run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/apps/pkggraph/hash.h"
#include "bench/apps/pkggraph/ledger.h"
#include "bench/apps/pkggraph/load.h"
#include "bench/apps/pkggraph/plan.h"
#include "bench/apps/pkggraph/query.h"
#include "bench/apps/pkggraph/say.h"

/* The moments at which what is alive is compared with what should be. */
enum moment { WHOLE, AFTER_CUT, AFTER_DROP, MOMENTS };
static const char *const moment_names[MOMENTS] = {"before", "after cut", "after drop"};

struct running {
  const struct run_options *options;
  const struct store_ops *ops;
  struct team team;
  struct store *store;
  struct report *report;
  uint32_t package_count;
  uint8_t *keep; /* by package: whether its root stays when a share is dropped */
  struct expectation expected[MOMENTS];
};

/* ---- expecting and checking ---- */

/* Which roots stay hangs on the names only: it is the same for each kind of store and each number
 * of threads. */
static int choose_roots(struct running *running) {
  running->keep = malloc((size_t)running->package_count + 1);
  if (running->keep == NULL) return -ENOMEM;
  for (uint32_t i = 0; i < running->package_count; i++) {
    const char *name = running->ops->package_name(running->store, i);
    running->keep[i] = hash_bytes(name, strlen(name)) % 100 >= running->options->drop_percent;
  }
  return 0;
}

static int expect_all(struct running *running) {
  struct plan *plan = plan_new(running->ops, running->store);
  uint8_t *all = malloc((size_t)running->package_count + 1);
  int error = plan != NULL && all != NULL ? 0 : -ENOMEM;
  if (error == 0) {
    memset(all, 1, running->package_count);
    error = plan_expect(plan, all, true, &running->expected[WHOLE]);
  }
  if (error == 0) error = plan_expect(plan, all, false, &running->expected[AFTER_CUT]);
  if (error == 0) error = plan_expect(plan, running->keep, false, &running->expected[AFTER_DROP]);
  free(all);
  plan_free(plan);
  return error;
}

static int prepare_checks(struct running *running) {
  running->package_count = running->ops->package_count(running->store);
  int error = choose_roots(running);
  if (error == 0) error = ledger_watch_packages(running->package_count);
  if (error == 0) error = expect_all(running);
  if (error != 0) say_error("preparing the checks", error);
  return error;
}

/* The packages that died must be those that should have, each once. Names are gone with their
 * packages, so the first one that is wrong is told by its number. */
static int check_deaths(const struct running *running, enum moment moment) {
  const uint8_t *lives = running->expected[moment].package_lives;
  size_t wrong = 0;
  uint32_t first = 0;
  for (uint32_t i = 0; i < running->package_count; i++) {
    if (ledger_package_deaths(i) == !lives[i]) continue;
    if (wrong++ == 0) first = i;
  }
  if (wrong == 0) return 0;
  say("%s: %zu packages are dead or alive that should not be, the first is number %u",
      moment_names[moment], wrong, first);
  return -EUCLEAN;
}

static int check(const struct running *running, enum moment moment) {
  int result = 0;
  FILE *out = running->options->out;
  fprintf(out, "%s: alive", moment_names[moment]);
  for (size_t kind = 0; kind < OBJECT_KINDS; kind++) {
    size_t live = ledger_live((enum object_kind)kind);
    size_t expected = kind < GRAPH_KINDS        ? running->expected[moment].live[kind]
                      : kind == OBJECT_REGISTRY ? 1
                                                : 0;
    if (kind < GRAPH_KINDS) {
      fprintf(out, "%s %s %zu", kind == 0 ? "" : ",", object_kind_names[kind], live);
    }
    if (live != expected) {
      say("%s: %zu %s are alive, %zu should be", moment_names[moment], live,
          object_kind_names[kind], expected);
      result = -EUCLEAN;
    }
  }
  fputc('\n', out);
  return check_deaths(running, moment) != 0 ? -EUCLEAN : result;
}

static int check_nothing_left(void) {
  int result = 0;
  for (size_t kind = 0; kind < OBJECT_KINDS; kind++) {
    size_t live = ledger_live((enum object_kind)kind);
    if (live == 0) continue;
    say("at the end: %zu %s are left", live, object_kind_names[kind]);
    result = -EUCLEAN;
  }
  return result;
}

/* ---- phases ---- */

static int load_phase(struct running *running, struct index *index) {
  struct phase_cost *cost = &running->report->phases[PHASE_LOAD];
  phase_begin(cost);
  int error = index_map(index);
  if (error != 0) {
    say_error(index->name, error);
    return error;
  }
  running->store = running->ops->open(index->size);
  if (running->store != NULL) {
    error = load(index, running->ops, running->store, &running->team);
  } else {
    error = -ENOMEM;
    say_error("opening the store", error);
  }
  index_unmap(index);
  phase_end(cost);
  return error;
}

static int seal_phase(struct running *running) {
  struct phase_cost *cost = &running->report->phases[PHASE_SEAL];
  phase_begin(cost);
  int error = running->ops->seal(running->store, &running->team);
  phase_end(cost);
  if (error != 0) say_error("sealing the store", error);
  return error;
}

static int query_phase(struct running *running) {
  const struct run_options *options = running->options;
  struct phase_cost *cost = &running->report->phases[PHASE_QUERY];
  phase_begin(cost);
  int error = query_counts(running->ops, running->store, options->out);
  if (error == 0) {
    error = query_components(running->ops, running->store, options->list_components, options->out);
  }
  for (size_t i = 0; error == 0 && i < options->question_count; i++) {
    const struct question *question = &options->questions[i];
    error = query_edges(running->ops, running->store, question->package, question->reverse,
                        options->out);
  }
  phase_end(cost);
  return error;
}

/* Steps of a team's loop. */
static int cut_package(size_t i, void *arg) {
  const struct running *running = arg;
  running->ops->cut(running->store, (uint32_t)i);
  return 0;
}
static int drop_package(size_t i, void *arg) {
  const struct running *running = arg;
  if (!running->keep[i]) running->ops->drop(running->store, (uint32_t)i);
  return 0;
}

/* A loop over all packages, a reclaim, and what must be alive then. */
static int letting_go_phase(struct running *running, enum phase phase, team_step *step,
                            enum moment moment) {
  struct phase_cost *cost = &running->report->phases[phase];
  phase_begin(cost);
  int error = team_for(&running->team, running->package_count, 256, step, running);
  if (error == 0) error = running->ops->reclaim(running->store);
  phase_end(cost);
  if (error != 0) {
    say_error(phase_names[phase], error);
    return error;
  }
  return check(running, moment);
}

static int end_phase(struct running *running) {
  struct phase_cost *cost = &running->report->phases[PHASE_END];
  phase_begin(cost);
  int error = running->ops->close(running->store);
  phase_end(cost);
  running->store = NULL;
  if (error != 0) say_error("closing the store", error);
  return check_nothing_left() != 0 ? -EUCLEAN : error;
}

static int all_phases(struct running *running, struct index *index) {
  int error = load_phase(running, index);
  if (error == 0) error = seal_phase(running);
  if (error == 0) error = query_phase(running);
  if (error == 0) error = prepare_checks(running);
  if (error == 0) error = check(running, WHOLE);
  if (error == 0) error = letting_go_phase(running, PHASE_CUT, cut_package, AFTER_CUT);
  if (error == 0) error = letting_go_phase(running, PHASE_DROP, drop_package, AFTER_DROP);
  return error;
}

int run(const struct run_options *options, struct index *index, struct report *report) {
  struct running running = {
      .options = options,
      .ops = options->ops,
      .team = {options->threads, options->ops->run, options->ops->pause},
      .report = report,
  };
  int error = all_phases(&running, index);
  int end_error = end_phase(&running);
  for (size_t i = 0; i < MOMENTS; i++)
    free(running.expected[i].package_lives);
  free(running.keep);
  ledger_unwatch_packages();
  return error != 0 ? error : end_error;
}
