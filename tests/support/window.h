/* SPDX-License-Identifier: MIT */
/* Holding a race window open.
 *
 * Where the library says GYRE_WINDOW("thread/idle"), a test can stop one thread and let the others
 * do their step:
 *
 *     test_window_hold("thread/idle", 1);                      // the first subject that comes
 *     there stops
 *     pthread_t t = test_thread_start(parks, NULL);            // calls test_window_subject() first
 *     test_window_await();                                     // now it is there
 *     ...                                                      // the other side's step
 *     test_window_release();                                   // and on it goes
 *     test_thread_join(t);
 *
 * Only threads that have called test_window_subject() stop. One window is held at a time, and in
 * one more a call may be made (test_window_call()). There are windows only in builds with
 * GYRE_WINDOWS; TEST_NEEDS_WINDOWS() skips a test in others.
 */
#ifndef GYRE_TESTS_SUPPORT_WINDOW_H
#define GYRE_TESTS_SUPPORT_WINDOW_H

#include "tests/support/support.h"

#ifdef GYRE_WINDOWS
#define TEST_NEEDS_WINDOWS() ((void)0)
#else
#define TEST_NEEDS_WINDOWS() skip()
#endif

/* The calling thread is one that windows may hold. */
void test_window_subject(void);
/* The nth time (1: the first) that a subject comes to the window, it stops there. */
void test_window_hold(const char *name, unsigned nth);
/* Waits, as the thread is, until a subject is held. */
void test_window_await(void);
bool test_window_is_held(void);
/* Lets it go on; no other is held there. */
void test_window_release(void);
/* At this window a subject does not stop, but calls body(arg), the nth time that it comes. The body
 * may itself set the next call. It runs inside the library, where a thread of the program never is:
 * it must not use the library unless the test knows that to be harmless there. */
void test_window_call(const char *name, unsigned nth, void (*body)(void *), void *arg);
/* No window is held any more, and none makes a call. */
void test_window_clear(void);

#endif
