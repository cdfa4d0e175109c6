/* SPDX-License-Identifier: MIT */
/* A thread that does what the test tells it, one function after the other: scenes with several
 * threads that always play the same way. Between functions it is parked. */
#ifndef GYRE_TESTS_SUPPORT_PUPPET_H
#define GYRE_TESTS_SUPPORT_PUPPET_H

#include <pthread.h>
#include <semaphore.h>
#include <stddef.h>

typedef void puppet_fn(void *arg);

struct puppet {
  pthread_t thread;
  sem_t told, done;
  puppet_fn *fn;
  void *arg;
};

/* The thread starts and attaches. */
void puppet_start(struct puppet *p);
/* Has it run the function and waits for the end, without passing a safepoint. */
void puppet_run(struct puppet *p, puppet_fn *fn, void *arg);
/* Likewise, but parked before it begins, so that the world can be stopped meanwhile. */
void puppet_run_parked(struct puppet *p, puppet_fn *fn, void *arg);
/* The two halves: puppet_await() waits parked. */
void puppet_begin(struct puppet *p, puppet_fn *fn, void *arg);
void puppet_await(struct puppet *p);
/* The thread ends; waits for it, parked. */
void puppet_stop(struct puppet *p);

/* Waits, passing safepoints, until so many attached threads are parked. */
void await_parked(size_t threads);

#endif
