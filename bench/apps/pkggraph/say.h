/* SPDX-License-Identifier: MIT */
/* Messages to the user: one line on stderr, with the program's name in front. */
#ifndef GYRE_BENCH_APPS_PKGGRAPH_SAY_H
#define GYRE_BENCH_APPS_PKGGRAPH_SAY_H

void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* "out of memory" and the like, for a negative errno value. */
void say_error(const char *what, int error);

#endif
