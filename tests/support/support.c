/* SPDX-License-Identifier: MIT */
#include "tests/support/support.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/heap/page.h"
#include "tests/support/window.h"

/* ---- the build ---- */

uint64_t test_size(const char *name, uint64_t optimized, uint64_t debug,
                   uint64_t thread_sanitizer) {
  const char *text = getenv(name);
  if (text != NULL) {
    unsigned long long value = strtoull(text, NULL, 0);
    if (value > 0) return value;
  }
  if (TEST_THREAD_SANITIZER) return thread_sanitizer;
  return TEST_OPTIMIZED ? optimized : debug;
}

/* ---- requirements ---- */

void test_fail(const char *file, int line, const char *what) {
  char text[512];
  int length = snprintf(text, sizeof text, "%s:%d: required: %s\n", file, line, what);
  if (length > 0 && write(STDERR_FILENO, text, (size_t)length) < 0) abort();
  abort();
}

/* ---- random numbers ---- */

static pthread_once_t seed_once = PTHREAD_ONCE_INIT;
static uint64_t seed;

static void seed_choose(void) {
  const char *text = getenv("GYRE_TEST_SEED");
  if (text != NULL)
    seed = strtoull(text, NULL, 0);
  else
    seed = (gyre__clock_ns() ^ (uint64_t)getpid() << 40) % 1000000007u;
  fprintf(stderr, "GYRE_TEST_SEED=%llu\n", (unsigned long long)seed);
}

uint64_t test_seed(void) {
  pthread_once(&seed_once, seed_choose);
  return seed;
}

/* splitmix64 (Steele, Lea, Flood 2014). */
uint64_t test_random_next(struct test_random *random) {
  uint64_t z = random->state += UINT64_C(0x9E3779B97F4A7C15);
  z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
  return z ^ z >> 31;
}

struct test_random test_random_new(uint64_t stream) {
  struct test_random random = {test_seed()};
  random.state = test_random_next(&random) ^ stream * UINT64_C(0xD1342543DE82EF95);
  return random;
}

/* ---- events ---- */

void test_event_set(test_event *event) {
  pthread_mutex_lock(&event->mutex);
  event->set = true;
  pthread_cond_broadcast(&event->cond);
  pthread_mutex_unlock(&event->mutex);
}

bool test_event_is_set(test_event *event) {
  pthread_mutex_lock(&event->mutex);
  bool set = event->set;
  pthread_mutex_unlock(&event->mutex);
  return set;
}

void test_event_wait(test_event *event) {
  pthread_mutex_lock(&event->mutex);
  while (!event->set)
    pthread_cond_wait(&event->cond, &event->mutex);
  pthread_mutex_unlock(&event->mutex);
}

void test_event_wait_parked(test_event *event) {
  GYRE_BLOCKING { test_event_wait(event); }
}

void test_event_reset(test_event *event) {
  pthread_mutex_lock(&event->mutex);
  event->set = false;
  pthread_mutex_unlock(&event->mutex);
}

/* ---- threads ---- */

/* ThreadSanitizer does not know that the threads of the parent are gone in a child, and dies when a
 * new one gets the address of an old one. So threads of children have stacks, where that address
 * lies, of their own, never used again. */
static pid_t first_process;

static void __attribute__((constructor)) process_remember(void) { first_process = getpid(); }

static void stack_choose(pthread_attr_t *attributes) {
  size_t size = TEST_THREAD_SANITIZER ? 2 << 20 : 256 << 10;
  if (TEST_THREAD_SANITIZER && getpid() != first_process) {
    void *stack = gyre__os_map(size, gyre__os_page_size());
    TEST_REQUIRE(stack != NULL && pthread_attr_setstack(attributes, stack, size) == 0);
  } else {
    TEST_REQUIRE(pthread_attr_setstacksize(attributes, size) == 0);
  }
}

pthread_t test_thread_start(void *(*body)(void *), void *arg) {
  pthread_attr_t attributes;
  pthread_t thread;
  TEST_REQUIRE(pthread_attr_init(&attributes) == 0);
  stack_choose(&attributes);
  TEST_REQUIRE(pthread_create(&thread, &attributes, body, arg) == 0);
  TEST_REQUIRE(pthread_attr_destroy(&attributes) == 0);
  return thread;
}

void *test_thread_join(pthread_t thread) {
  void *result = NULL;
  GYRE_BLOCKING { TEST_REQUIRE(pthread_join(thread, &result) == 0); }
  return result;
}

void *test_thread_run(void *(*body)(void *), void *arg) {
  return test_thread_join(test_thread_start(body, arg));
}

struct gyre_thread_stats test_thread_stats(void) {
  struct gyre_thread_stats stats = {.size = sizeof stats};
  TEST_REQUIRE(gyre_thread_get_stats(&stats) == 0);
  return stats;
}

struct gyre_heap_stats test_heap_stats(void) {
  struct gyre_heap_stats stats = {.size = sizeof stats};
  TEST_REQUIRE(gyre_heap_get_stats(&stats) == 0);
  return stats;
}

/* ---- children ---- */

pid_t test_fork(void (*body)(void *), void *arg) {
  pid_t child = fork();
  TEST_REQUIRE(child >= 0);
  if (child > 0) return child;
  /* The library's own threads have no stacks of ours, see stack_choose(): it must not start any. */
  if (TEST_THREAD_SANITIZER) TEST_REQUIRE(gyre_gc_set_mode(GYRE_GC_STW) == 0);
  body(arg);
  gyre__heap_check();
  _exit(0);
}

int test_child_wait(pid_t child) {
  int status = -1;
  GYRE_BLOCKING {
    while (waitpid(child, &status, 0) < 0)
      TEST_REQUIRE(errno == EINTR);
  }
  return status;
}

void test_in_child(void (*body)(void *), void *arg) {
  TEST_REQUIRE(test_child_wait(test_fork(body, arg)) == 0);
}

/* ---- the log ---- */

#define LOG_BYTES 65536

static struct {
  pthread_mutex_t mutex;
  pthread_cond_t cond;
  bool on;
  size_t used;
  char text[LOG_BYTES]; /* lines, each with a 0 */
} captured = {.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

static void log_keep(const char *line, void *arg) {
  (void)arg;
  size_t size = strlen(line) + 1;
  pthread_mutex_lock(&captured.mutex);
  if (size <= LOG_BYTES - captured.used) {
    memcpy(captured.text + captured.used, line, size);
    captured.used += size;
  }
  pthread_cond_broadcast(&captured.cond);
  pthread_mutex_unlock(&captured.mutex);
}

void test_log_capture(void) {
  captured.used = 0;
  captured.on = true;
  gyre_set_log(log_keep, NULL);
}

/* The lines that contain the text, and the first of them. Under the mutex. */
static unsigned log_find(const char *text, const char **first) {
  unsigned count = 0;
  for (size_t at = 0; at < captured.used; at += strlen(captured.text + at) + 1)
    if (strstr(captured.text + at, text) != NULL && count++ == 0) *first = captured.text + at;
  return count;
}

unsigned test_log_count(const char *text) {
  const char *first;
  pthread_mutex_lock(&captured.mutex);
  unsigned count = log_find(text, &first);
  pthread_mutex_unlock(&captured.mutex);
  return count;
}

void test_log_await(const char *text, char *out, size_t size) {
  const char *first;
  pthread_mutex_lock(&captured.mutex);
  while (log_find(text, &first) == 0)
    pthread_cond_wait(&captured.cond, &captured.mutex);
  snprintf(out, size, "%s", first);
  pthread_mutex_unlock(&captured.mutex);
}

/* ---- every test ---- */

#define OPTIONS_MAX 8

static struct {
  char name[32];
  char value[64];
} saved_options[OPTIONS_MAX];
static unsigned saved_option_count;

void test_option_set(const char *name, const char *value) {
  TEST_REQUIRE(saved_option_count < OPTIONS_MAX);
  unsigned at = saved_option_count++;
  snprintf(saved_options[at].name, sizeof saved_options[at].name, "%s", name);
  int length = gyre_option_get(name, saved_options[at].value, sizeof saved_options[at].value);
  TEST_REQUIRE(length >= 0 && (size_t)length < sizeof saved_options[at].value);
  struct gyre_option_info info = {.size = sizeof info};
  TEST_REQUIRE(gyre_option_query(name, &info) == 0);
  bool can = info.kind == GYRE_OPTION_WORD || info.max != 0;
  TEST_REQUIRE(gyre_option_set(name, value) == 0 || !can);
}

static void options_put_back(void) {
  while (saved_option_count > 0) {
    saved_option_count--;
    TEST_REQUIRE(gyre_option_set(saved_options[saved_option_count].name,
                                 saved_options[saved_option_count].value) == 0);
  }
}

void test_options_put_back(void) { options_put_back(); }

int test_begin(void **state) {
  (void)state;
  assert_int_equal(test_thread_stats().attached, 0);
  assert_int_equal(test_heap_stats().live_blocks, 0);
  gyre_thread_detach();
  return 0;
}

int test_begin_with(void **state) {
  options_put_back(); /* of a test that failed */
  char list[256];
  TEST_REQUIRE(snprintf(list, sizeof list, "%s", (const char *)*state) < (int)sizeof list);
  char *rest = NULL;
  for (char *item = strtok_r(list, ",", &rest); item != NULL; item = strtok_r(NULL, ",", &rest)) {
    char *colon = strchr(item, ':');
    TEST_REQUIRE(colon != NULL);
    *colon = '\0';
    test_option_set(item, colon + 1);
  }
  return test_begin(state);
}

void test_check(void) { gyre__heap_check(); }

void test_reuse_last(void) { gyre__page_put_back(gyre__heap_self()); }

int test_end(void **state) {
  (void)state;
  test_window_clear();
  gyre__fault_arm(0, 0);
  gyre_heap_set_limit(0);
  gyre_set_oom_handler(NULL, NULL);
  options_put_back();
  if (captured.on) gyre_set_log(NULL, NULL);
  captured.on = false;
  gyre__heap_check();
  assert_int_equal(gyre_fini(), 0);
  assert_int_equal(test_thread_stats().attached, 0);
  assert_int_equal(test_heap_stats().live_blocks, 0);
  gyre_thread_detach();
  return 0;
}
