/* SPDX-License-Identifier: MIT */
/* Several threads for one loop. */
#ifndef GYRE_BENCH_APPS_PKGGRAPH_TEAM_H
#define GYRE_BENCH_APPS_PKGGRAPH_TEAM_H

#include <stddef.h>

/* How a team is run. What the threads work on may have wishes of its own. */
struct team {
  unsigned members;
  /* Starts `members` threads that run work(arg) and waits until all have ended; 0, or a negative
   * errno value if not a single thread could be started. team_start_and_wait(), or that with
   * something around it. */
  int (*run)(unsigned members, void *(*work)(void *), void *arg);
  /* Called by each member between two steps, holding nothing. */
  void (*pause)(void);
};

int team_start_and_wait(unsigned members, void *(*work)(void *), void *arg);

/* One step of a loop; 0, or a negative errno value, which ends it. */
typedef int team_step(size_t i, void *arg);

/* Calls step(i, arg) for each i from 0 to count-1, on the members' threads, in runs of `grain`.
 * When a step fails, those of higher numbers may be left out, those of lower ones are not, and
 * the result is the error of the lowest number that failed: it does not depend on which thread
 * was faster. */
int team_for(const struct team *team, size_t count, size_t grain, team_step *step, void *arg);

#endif
