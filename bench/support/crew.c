/* SPDX-License-Identifier: MIT */
#include "bench/support/crew.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/support/clock.h"

#define CREW_MAX 64

struct crew {
  /* -- constant while the threads run -- */
  const struct crew_job *job;
  void *arg;
  /* -- synchronizes by itself -- */
  pthread_barrier_t together;
};

struct member {
  struct crew *crew;
  unsigned index;
  pthread_t thread;
  /* Written by the member, read after it was joined. */
  uint64_t start_ns, end_ns;
};

static void (*wait_begin)(void);
static void (*wait_end)(void);

void crew_on_wait(void (*begin)(void), void (*end)(void)) {
  wait_begin = begin;
  wait_end = end;
}

static void meet(struct crew *crew) {
  if (wait_begin != NULL) wait_begin();
  pthread_barrier_wait(&crew->together);
  if (wait_end != NULL) wait_end();
}

static void *member_main(void *arg) {
  struct member *m = arg;
  const struct crew_job *job = m->crew->job;
  if (job->prepare != NULL) job->prepare(m->crew->arg, m->index);
  meet(m->crew);
  m->start_ns = clock_ns();
  job->work(m->crew->arg, m->index);
  m->end_ns = clock_ns();
  meet(m->crew);
  if (job->finish != NULL) job->finish(m->crew->arg, m->index);
  return NULL;
}

static void check(int error, const char *what) {
  if (error == 0) return;
  fprintf(stderr, "benchmark: %s fails with error %d\n", what, error);
  abort();
}

double crew_run(unsigned count, const struct crew_job *job, void *arg) {
  struct member members[CREW_MAX];
  struct crew crew = {.job = job, .arg = arg};
  check(count == 0 || count > CREW_MAX, "a crew of this size");
  check(pthread_barrier_init(&crew.together, NULL, count), "pthread_barrier_init");
  for (unsigned i = 0; i < count; i++) {
    members[i] = (struct member){.crew = &crew, .index = i};
    check(pthread_create(&members[i].thread, NULL, member_main, &members[i]), "pthread_create");
  }
  if (wait_begin != NULL) wait_begin();
  for (unsigned i = 0; i < count; i++)
    check(pthread_join(members[i].thread, NULL), "pthread_join");
  if (wait_end != NULL) wait_end();
  pthread_barrier_destroy(&crew.together);
  uint64_t start_ns = members[0].start_ns, end_ns = members[0].end_ns;
  for (unsigned i = 1; i < count; i++) {
    if (members[i].start_ns < start_ns) start_ns = members[i].start_ns;
    if (members[i].end_ns > end_ns) end_ns = members[i].end_ns;
  }
  return (double)(end_ns - start_ns) * 1e-9;
}
