/* SPDX-License-Identifier: MIT */
/* Deaths with a message. */
#ifndef GYRE_TESTS_SUPPORT_DIE_H
#define GYRE_TESTS_SUPPORT_DIE_H

/* Runs the function in a child process and asserts that it aborts with a message that contains the
 * text. */
void assert_dies(void (*function)(void), const char *message);

#endif
