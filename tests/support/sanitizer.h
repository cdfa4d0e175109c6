/* SPDX-License-Identifier: MIT */
/* TEST_THREAD_SANITIZER, TEST_ADDRESS_SANITIZER: 1 in builds for them, else 0. */
#ifndef GYRE_TESTS_SUPPORT_SANITIZER_H
#define GYRE_TESTS_SUPPORT_SANITIZER_H

#if defined(__SANITIZE_THREAD__)
#define TEST_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TEST_THREAD_SANITIZER 1
#endif
#endif
#ifndef TEST_THREAD_SANITIZER
#define TEST_THREAD_SANITIZER 0
#endif

#if defined(__SANITIZE_ADDRESS__)
#define TEST_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TEST_ADDRESS_SANITIZER 1
#endif
#endif
#ifndef TEST_ADDRESS_SANITIZER
#define TEST_ADDRESS_SANITIZER 0
#endif

#endif
