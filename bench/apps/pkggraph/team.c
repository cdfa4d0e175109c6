/* SPDX-License-Identifier: MIT */
#include "bench/apps/pkggraph/team.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

struct loop {
  /* -- constant -- */
  size_t count;
  size_t grain;
  team_step *step;
  void *arg;
  void (*pause)(void);
  /* -- atomic -- */
  atomic_size_t next;      /* the first number that nobody has taken yet; members add to it */
  atomic_size_t first_bad; /* the lowest number that failed so far; only goes down */
  /* -- under the lock -- */
  pthread_mutex_t lock;
  size_t error_at;
  int error;
};

static void loop_fail(struct loop *loop, size_t i, int error) {
  pthread_mutex_lock(&loop->lock);
  if (i < loop->error_at) {
    loop->error_at = i;
    loop->error = error;
    /* relaxed: tells the others what is not needed; one that learns it late only does more. */
    atomic_store_explicit(&loop->first_bad, i, memory_order_relaxed);
  }
  pthread_mutex_unlock(&loop->lock);
}

static void *loop_work(void *arg) {
  struct loop *loop = arg;
  for (;;) {
    /* relaxed: only hands out numbers; what the steps work on was there before the threads. */
    size_t begin = atomic_fetch_add_explicit(&loop->next, loop->grain, memory_order_relaxed);
    if (begin >= loop->count) return NULL;
    size_t end = loop->count - begin < loop->grain ? loop->count : begin + loop->grain;
    for (size_t i = begin; i < end; i++) {
      /* relaxed: see loop_fail(). */
      if (i > atomic_load_explicit(&loop->first_bad, memory_order_relaxed)) break;
      int error = loop->step(i, loop->arg);
      if (error != 0) loop_fail(loop, i, error);
      loop->pause();
    }
  }
}

int team_start_and_wait(unsigned members, void *(*work)(void *), void *arg) {
  pthread_t *threads = calloc(members, sizeof *threads);
  if (threads == NULL) return -ENOMEM;
  unsigned started = 0;
  int error = 0;
  while (started < members && error == 0) {
    error = pthread_create(&threads[started], NULL, work, arg);
    if (error == 0) started++;
  }
  for (unsigned i = 0; i < started; i++)
    pthread_join(threads[i], NULL);
  free(threads);
  /* Fewer threads than asked for do the same work. */
  return started > 0 ? 0 : -error;
}

int team_for(const struct team *team, size_t count, size_t grain, team_step *step, void *arg) {
  struct loop loop = {
      .count = count,
      .grain = grain,
      .step = step,
      .arg = arg,
      .pause = team->pause,
      .first_bad = SIZE_MAX,
      .lock = PTHREAD_MUTEX_INITIALIZER,
      .error_at = SIZE_MAX,
  };
  int error = team->run(team->members, loop_work, &loop);
  pthread_mutex_destroy(&loop.lock);
  return error != 0 ? error : loop.error;
}
