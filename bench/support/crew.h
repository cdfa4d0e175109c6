/* SPDX-License-Identifier: MIT */
/* bench/support/crew.h: several threads that do a piece of work at the same time. */
#ifndef BENCH_SUPPORT_CREW_H
#define BENCH_SUPPORT_CREW_H

/* What one member of the crew does; `index` counts from 0. Each may be NULL, except work. */
typedef void crew_step(void *arg, unsigned index);

struct crew_job {
  crew_step *prepare; /* before the clock starts */
  crew_step *work;    /* starts in all threads together; timed */
  crew_step *finish;  /* when all have ended their work */
};

/* Called around every wait of the crew and of its employer, in the waiting thread: for systems
 * whose threads must say that they block. NULL, the default, for none. Before any crew_run(). */
void crew_on_wait(void (*begin)(void), void (*end)(void));

/* Does the job with `count` new threads and returns the seconds from the first start of work to its
 * last end. The calling thread waits. Aborts if the threads cannot be made. */
double crew_run(unsigned count, const struct crew_job *job, void *arg);

#endif
