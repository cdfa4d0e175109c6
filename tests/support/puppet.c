/* SPDX-License-Identifier: MIT */
#include "tests/support/puppet.h"

#include <errno.h>

#include "tests/support/support.h"

static void wait_for(sem_t *sem) {
  while (sem_wait(sem) != 0)
    TEST_REQUIRE(errno == EINTR);
}

static void *play(void *arg) {
  struct puppet *p = arg;
  TEST_REQUIRE(gyre_thread_attach() != NULL);
  for (;;) {
    GYRE_BLOCKING {
      sem_post(&p->done);
      wait_for(&p->told);
    }
    if (p->fn == NULL) return NULL;
    p->fn(p->arg);
  }
}

void puppet_start(struct puppet *p) {
  TEST_REQUIRE(sem_init(&p->told, 0, 0) == 0);
  TEST_REQUIRE(sem_init(&p->done, 0, 0) == 0);
  TEST_REQUIRE(pthread_create(&p->thread, NULL, play, p) == 0);
  puppet_await(p);
}

void puppet_begin(struct puppet *p, puppet_fn *fn, void *arg) {
  p->fn = fn;
  p->arg = arg;
  sem_post(&p->told);
}

void puppet_await(struct puppet *p) {
  GYRE_BLOCKING { wait_for(&p->done); }
}

void puppet_run(struct puppet *p, puppet_fn *fn, void *arg) {
  puppet_begin(p, fn, arg);
  wait_for(&p->done);
}

void puppet_run_parked(struct puppet *p, puppet_fn *fn, void *arg) {
  GYRE_BLOCKING { puppet_run(p, fn, arg); }
}

void puppet_stop(struct puppet *p) {
  puppet_begin(p, NULL, NULL);
  GYRE_BLOCKING { pthread_join(p->thread, NULL); }
  sem_destroy(&p->told);
  sem_destroy(&p->done);
}

void await_parked(size_t threads) { TEST_AWAIT_SAFELY(test_thread_stats().parked >= threads); }
