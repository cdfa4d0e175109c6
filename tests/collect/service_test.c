/* SPDX-License-Identifier: MIT */
/* The service thread: when there is one, what it does and when it sleeps; how the program waits for it;
 * and what brings a collection about. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/thread/thread.h"
#include "tests/support/node.h"
#include "tests/support/puppet.h"

static struct gyre_gc_stats stats_of(int generation) {
  struct gyre_gc_stats stats = {.size = sizeof stats};
  TEST_REQUIRE(gyre_gc_get_stats(generation, &stats) == 0);
  return stats;
}

static uint64_t collections(void) { return stats_of(1).collections + stats_of(2).collections; }

/* ---- the thread, as the system sees it ---- */

/* A file of a thread's; empty if it is not there. */
static void task_file(const char *tid, const char *name, char *out, size_t size) {
  char path[300];
  snprintf(path, sizeof path, "/proc/self/task/%s/%s", tid, name);
  out[0] = '\0';
  FILE *file = fopen(path, "r");
  if (file == NULL) return;
  out[fread(out, 1, size - 1, file)] = '\0';
  fclose(file);
}

/* How many threads are called so; `tid` is one of them. */
static unsigned service_threads(char tid[32]) {
  unsigned count = 0;
  DIR *tasks = opendir("/proc/self/task");
  TEST_REQUIRE(tasks != NULL);
  struct dirent *entry;
  while ((entry = readdir(tasks)) != NULL) {
    char name[64];
    task_file(entry->d_name, "comm", name, sizeof name);
    if (strcmp(name, "gyre-service\n") != 0) continue;
    count++;
    snprintf(tid, 32, "%.31s", entry->d_name);
  }
  closedir(tasks);
  return count;
}

static bool service_is_there(void) {
  char tid[32];
  return service_threads(tid) == 1;
}

/* A word of the file "status". */
static void task_status(const char *tid, const char *key, char *out, size_t size) {
  char text[4096];
  task_file(tid, "status", text, sizeof text);
  const char *line = strstr(text, key);
  TEST_REQUIRE(line != NULL);
  line += strlen(key);
  while (*line == ' ' || *line == '\t')
    line++;
  size_t length = strcspn(line, " \n\t");
  snprintf(out, size, "%.*s", (int)length, line);
}

/* What it has used of the processor, and how often it has slept. */
static void task_use(const char *tid, char *out, size_t size) {
  char ran[128], slept[32];
  task_file(tid, "schedstat", ran, sizeof ran);
  task_status(tid, "\nvoluntary_ctxt_switches:", slept, sizeof slept);
  snprintf(out, size, "%.*s %s", (int)strcspn(ran, " "), ran, slept);
}

/* ---- need ---- */

static node *list;

/* A thread that shares nothing keeps its objects to itself; but not these. */
static gyre_type retainable_type = {.name = "retainable",
                                    .size = sizeof(node),
                                    .slots = GYRE_SLOTS(node, next, other),
                                    .flags = GYRE_TYPE_TRY_RETAIN};

/* Live objects reach the collector's generations, until it has collected. */
static void make_work(void) {
  uint64_t before = collections();
  while (collections() < before + 3) {
    node *n = node_new(&retainable_type, 0);
    gyre_slot_init(&n->next, list);
    list = n;
    gyre_safepoint();
  }
}

static void drop_work(void) {
  gyre_release(list);
  list = NULL;
}

static void the_thread_is_started_when_it_is_needed(void **state) {
  (void)state;
  gyre_thread_attach();
  /* Not for what the program's threads can do themselves. */
  for (int i = 0; i < 5000; i++) {
    ring_drop(&plain_type, 3);
    gyre_safepoint();
  }
  gyre_gc_collect(2);
  assert_int_equal(test_thread_stats().attached, 1);
  assert_false(service_is_there());
  for (int i = 0; i < 3; i++) {
    make_work();
    assert_int_equal(test_thread_stats().attached, 2);
    TEST_AWAIT(service_is_there());
    gyre_service_stop();
    assert_int_equal(test_thread_stats().attached, 1);
    TEST_AWAIT(!service_is_there());
    gyre_service_stop(); /* nothing to stop */
  }
  make_work();
  drop_work();
  assert_int_equal(test_thread_stats().attached, 2);
  assert_int_equal(gyre_fini(), 0);
  assert_int_equal(test_thread_stats().attached, 0);
  TEST_AWAIT(!service_is_there());
}

static void the_thread_takes_no_signals(void **state) {
  (void)state;
  make_work();
  char tid[32], blocked[32];
  TEST_AWAIT(service_threads(tid) == 1);
  task_status(tid, "SigBlk:", blocked, sizeof blocked);
  unsigned long long mask = strtoull(blocked, NULL, 16);
  static const int signals[] = {SIGINT, SIGTERM, SIGUSR1, SIGCHLD, SIGPROF, SIGALRM};
  for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
    assert_true(mask >> (signals[i] - 1) & 1);
  /* The program's own are as before. */
  sigset_t set;
  assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, &set), 0);
  assert_false(sigismember(&set, SIGTERM));
  drop_work();
}

static long finalizing_tid;
static test_flag finalizing;

static int notes_thread(node *n) {
  (void)n;
  finalizing_tid = syscall(SYS_gettid);
  gyre_service_stop(); /* here: nothing */
  test_flag_set(&finalizing, 1);
  return 0;
}

static void finalizers_run_in_the_thread(void **state) {
  (void)state;
  test_flag_set(&finalizing, 0);
  node_on_finalize = notes_thread;
  ring_drop(&finalized_type, 1);
  gyre__young_collect(gyre__objects_self(), true);
  while (!test_flag_get(&finalizing))
    make_work();
  char tid[32];
  TEST_AWAIT(service_threads(tid) == 1);
  assert_int_equal(finalizing_tid, strtol(tid, NULL, 10));
  gyre_service_stop();
  assert_int_equal(nodes_destroyed(), 1);
  drop_work();
}

/* ---- a thread of the program's ---- */

static int served;
static test_flag serving;

static void *serves(void *arg) {
  (void)arg;
  gyre_thread_attach();
  TEST_REQUIRE(gyre_thread_set_name("my own") == 0);
  test_flag_set(&serving, 1);
  served = gyre_service_run();
  gyre_thread_detach();
  return NULL;
}

static pthread_t own_service_start(void) {
  gyre_thread_attach();
  served = 1;
  test_flag_set(&serving, 0);
  pthread_t thread = test_thread_start(serves, NULL);
  TEST_AWAIT_SAFELY(test_flag_get(&serving) && test_thread_stats().parked == 1);
  return thread;
}

static void a_thread_of_the_program_may_be_the_service(void **state) {
  (void)state;
  for (int end = 0; end < 2; end++) {
    pthread_t thread = own_service_start();
    assert_int_equal(gyre_service_run(), -EBUSY);
    make_work();
    assert_int_equal(test_thread_stats().attached, 2);
    assert_false(service_is_there());
    drop_work();
    if (end == 0) {
      gyre_service_stop();
    } else {
      /* It may still be on its way out of there. */
      ptrdiff_t left;
      while ((left = gyre_fini()) == -EBUSY)
        (void)sched_yield();
      assert_int_equal(left, 0);
    }
    test_thread_join(thread);
    assert_int_equal(served, 0);
    /* The library starts its own again. */
    make_work();
    TEST_AWAIT(service_is_there());
    assert_int_equal(gyre_service_run(), -EBUSY);
    gyre_service_stop();
    drop_work();
  }
}

/* ---- fork ---- */

static void works_in_the_child(void *arg) {
  (void)arg;
  TEST_REQUIRE(test_thread_stats().attached == 1);
  TEST_REQUIRE(!service_is_there());
  uint64_t before = nodes_destroyed();
  node *ring = ring_new(&node_type, 3);
  gyre__young_collect(gyre__objects_self(), true);
  gyre_release(ring);
  while (nodes_destroyed() < before + 3)
    make_work();
  if (!TEST_THREAD_SANITIZER) {
    TEST_REQUIRE(test_thread_stats().attached == 2);
    TEST_AWAIT(service_is_there());
  }
  gyre_service_stop();
  TEST_REQUIRE(test_thread_stats().attached == 1);
  drop_work();
}

static void a_child_has_a_service_thread_of_its_own(void **state) {
  (void)state;
  gyre_thread_attach();
  test_in_child(works_in_the_child, NULL);
  make_work();
  assert_int_equal(test_thread_stats().attached, 2);
  for (int i = 0; i < 5; i++) {
    test_in_child(works_in_the_child, NULL);
    make_work();
  }
  assert_int_equal(test_thread_stats().attached, 2);
  gyre_service_stop();
  test_in_child(works_in_the_child, NULL);
  drop_work();
}

/* ---- sleep ---- */

/* Until it sleeps, and has not run between two looks. */
static void await_sleep(const char *tid, char *use, size_t size) {
  char again[200], how[8];
  do {
    task_use(tid, use, size);
    for (int i = 0; i < 200; i++)
      (void)sched_yield();
    task_status(tid, "State:", how, sizeof how);
    task_use(tid, again, sizeof again);
  } while (strcmp(use, again) != 0 || how[0] != 'S');
}

static void the_thread_sleeps_while_there_is_nothing_to_do(void **state) {
  (void)state;
  make_work();
  drop_work();
  ring_drop(&plain_type, 300);
  gyre__young_collect(gyre__objects_self(), true); /* it pays */
  gyre_gc_collect(2);
  char tid[32], before[200], after[200];
  TEST_AWAIT(service_threads(tid) == 1);
  await_sleep(tid, before, sizeof before);
  uint64_t collected = collections();
  for (int i = 0; i < 100000; i++) {
    gyre_release(node_new(&plain_type, 0));
    if (i % 100 == 0) ring_drop(&node_type, 3);
    gyre_safepoint();
    if (i % 1000 == 0) GYRE_BLOCKING {
        (void)sched_yield();
      }
  }
  assert_true(nodes_destroyed() > 0); /* what dies young does not bother it */
  task_use(tid, after, sizeof after);
  assert_string_equal(after, before);
  assert_int_equal(collections(), collected);
}

/* ---- pacing ---- */

static test_flag deaf_runs, deaf_stops;

static void is_deaf(void *arg) {
  (void)arg;
  test_flag_set(&deaf_runs, 1);
  TEST_AWAIT(test_flag_get(&deaf_stops));
}

/* No collection ends while there is a thread that answers no handshake: the others wait for it for a
 * moment, not for ever, and their heap grows. */
static void run_ahead(uint64_t *waits, uint64_t *objects) {
  struct puppet deaf;
  gyre_thread_attach();
  gyre_gc_collect(2);
  test_flag_set(&deaf_runs, 0);
  test_flag_set(&deaf_stops, 0);
  puppet_start(&deaf);
  puppet_begin(&deaf, is_deaf, NULL);
  TEST_AWAIT_SAFELY(test_flag_get(&deaf_runs));
  struct gyre_gc_stats before = stats_of(2);
  for (uint64_t i = 0; i < 60000; i++) {
    node *n = node_new(&finalized_type, i); /* the collector's business */
    gyre_slot_init(&n->next, list);
    list = n;
    gyre_safepoint();
  }
  struct gyre_gc_stats after = stats_of(2);
  assert_int_equal(after.collections, before.collections);
  assert_int_equal(after.help_total_ns, before.help_total_ns);
  *waits = after.waits - before.waits;
  *objects = after.waiting_objects;
  assert_int_equal(after.wait_total_ns > before.wait_total_ns, *waits > 0);
  test_flag_set(&deaf_stops, 1);
  puppet_await(&deaf);
  puppet_stop(&deaf);
  /* Now it ends. */
  TEST_AWAIT_SAFELY(stats_of(2).collections > before.collections);
  assert_int_equal(nodes_destroyed(), 0);
  drop_work();
  gyre_gc_collect(2);
  TEST_AWAIT_SAFELY(nodes_destroyed() == 60000);
}

static void nobody_waits_for_ever_for_a_collection_that_does_not_end(void **state) {
  (void)state;
  uint64_t waits, objects;
  run_ahead(&waits, &objects);
  /* A millisecond at a time: three once the collector is held up, and twenty times that if it is not given a
   * processor to begin. For ever would be one for each object. */
  assert_in_range(waits, 1, 100);
  assert_true(objects > 50000);
}

static void with_a_pace_of_0_nobody_waits(void **state) {
  (void)state;
  uint64_t waits, objects;
  run_ahead(&waits, &objects);
  assert_int_equal(waits, 0);
}

/* ---- cascades ---- */

static uint64_t deaths_elsewhere;
static pthread_t main_thread;

static void counts_deaths_elsewhere(node *n) {
  (void)n;
  if (!pthread_equal(pthread_self(), main_thread)) deaths_elsewhere++;
}

static void *makes_chain(void *length) { return chain_new(&node_type, (size_t)(uintptr_t)length); }

static void the_service_goes_on_with_what_a_budget_cut_off(void **state) {
  (void)state;
  gyre_thread_attach();
  main_thread = pthread_self();
  deaths_elsewhere = 0;
  node_on_destroy = counts_deaths_elsewhere;
  /* Nobody's, so that nobody else is asked to merge. */
  gyre_release(test_thread_run(makes_chain, (void *)10000));
  GYRE_BLOCKING { TEST_AWAIT(nodes_destroyed() == 10000); }
  gyre_service_stop();
  assert_true(deaths_elsewhere >= 9000);
  /* Cut off again and again, by several threads, and stopped in between. */
  node_on_destroy = NULL;
  for (int i = 0; i < 50; i++) {
    gyre_release(chain_new(&node_type, 1000));
    if (i % 10 == 0) gyre_service_stop();
    gyre_safepoint();
  }
  gyre_service_stop();
  while (nodes_destroyed() < 60000)
    gyre_safepoint();
}

static void by_default_the_thread_itself_goes_on(void **state) {
  (void)state;
  main_thread = pthread_self();
  deaths_elsewhere = 0;
  node_on_destroy = counts_deaths_elsewhere;
  gyre_release(chain_new(&node_type, 10000));
  assert_int_equal(nodes_destroyed(), 100);
  while (nodes_destroyed() < 10000)
    gyre_safepoint();
  assert_int_equal(deaths_elsewhere, 0);
  assert_int_equal(test_thread_stats().attached, 1);
}

/* ---- traces ---- */

static void a_trace_is_a_line_for_each_collection(void **state) {
  (void)state;
  test_log_capture();
  ring_drop(&node_type, 7);
  gyre_gc_collect(2);
  assert_int_equal(test_log_count("gc "), 0);
  test_option_set("gc_trace", "1");
  test_option_set("gc_mode", "concurrent");
  node *kept = ring_new(&node_type, 4);
  ring_drop(&node_type, 7);
  gyre_gc_collect(2);
  assert_int_equal(test_log_count("gc "), 1);
  char line[512];
  test_log_await("full beside, call: 11 candidates, 7 suspects, 7 condemned", line, sizeof line);
  double ms, find, prove, condemn, free_ms, shakes[3];
  const char *times = strstr(line, "freed; ");
  assert_non_null(times);
  assert_int_equal(sscanf(times,
                          "freed; %lf ms: find %lf, prove %lf, condemn %lf, free %lf; handshakes "
                          "%lf %lf %lf, slowest",
                          &ms, &find, &prove, &condemn, &free_ms, &shakes[0], &shakes[1],
                          &shakes[2]),
                   8);
  assert_true(ms >= find);
  gyre_gc_collect(1);
  assert_int_equal(test_log_count("middle beside, call: "), 1);
  test_option_set("gc_mode", "stw");
  ring_drop(&node_type, 5);
  gyre_gc_collect(0);
  assert_int_equal(test_log_count("young stopped, call: "), 1);
  assert_int_equal(test_log_count("5 condemned"), 1);
  assert_int_equal(test_log_count("handshakes none"), 1);
  assert_int_equal(test_log_count("gc "), 3);
  test_option_set("gc_trace", "0");
  gyre_gc_collect(2);
  assert_int_equal(test_log_count("gc "), 3);
  gyre_release(kept);
}

/* ---- external bytes ---- */

static void external_bytes_bring_about_a_full_collection(void **state) {
  (void)state;
  node *ring = ring_new(&node_type, 3);
  gyre_gc_collect(2);
  test_option_set("gc_trace", "1");
  test_log_capture();
  uint64_t full = stats_of(2).collections, waiting = stats_of(2).waiting_bytes;
  gyre_external_bytes(ring, 600000);
  assert_int_equal(stats_of(2).waiting_bytes, waiting + 600000);
  gyre_external_bytes(ring, 600000);
  gyre_external_bytes(ring, -600000);
  assert_int_equal(stats_of(2).waiting_bytes, waiting + 600000);
  gyre_external_bytes(ring, -2000000); /* more than there was */
  assert_true(stats_of(2).waiting_bytes <= waiting);
  for (int i = 0; i < 1000; i++)
    gyre_safepoint();
  assert_int_equal(stats_of(2).collections, full);
  gyre_release(ring);
  gyre_external_bytes(ring, 2000000);
  assert_int_equal(nodes_destroyed(), 0); /* not a safepoint */
  TEST_AWAIT_SAFELY(nodes_destroyed() == 3);
  TEST_AWAIT_SAFELY(stats_of(2).collections == full + 1);
  assert_true(stats_of(2).waiting_bytes < 1000000);
  TEST_AWAIT_SAFELY(test_log_count("gc ") == 1);
  assert_int_equal(test_log_count("full "), 1);
  assert_int_equal(test_log_count(", bytes: "), 1);
}

/* ---- modes ---- */

static void modes_are_asked_and_bad_ones_refused(void **state) {
  (void)state;
  assert_int_equal(gyre_gc_set_mode(GYRE_GC_STW), 0);
  assert_int_equal(gyre_gc_get_mode(), GYRE_GC_STW);
  assert_int_equal(gyre_gc_set_mode((enum gyre_gc_mode)2), -EINVAL);
  assert_int_equal(gyre_gc_set_mode((enum gyre_gc_mode) - 1), -EINVAL);
  assert_int_equal(gyre_gc_get_mode(), GYRE_GC_STW);
  char text[32];
  assert_int_equal(gyre_option_get("gc_mode", text, sizeof text), 3);
  assert_string_equal(text, "stw");
  assert_int_equal(gyre_gc_set_mode(GYRE_GC_CONCURRENT), 0);
  assert_int_equal(gyre_gc_get_mode(), GYRE_GC_CONCURRENT);
  /* Whether the world is stopped. */
  for (int mode = 0; mode < 2; mode++) {
    gyre_gc_set_mode(mode == 0 ? GYRE_GC_CONCURRENT : GYRE_GC_STW);
    uint64_t stops = gyre__world_stops();
    ring_drop(&node_type, 3);
    assert_int_equal(gyre_gc_collect(2), 3);
    assert_int_equal(gyre__world_stops() - stops, mode);
  }
}

static test_flag finished;

static uint64_t rings_of_a_thread(void) { return test_size("GYRE_TEST_OPS", 50000, 10000, 4000); }

static void *churns(void *arg) {
  (void)arg;
  enum { KEPT = 300 };
  node *kept[KEPT] = {NULL};
  for (uint64_t n = rings_of_a_thread(); n > 0; n--) {
    node **one = &kept[n % KEPT];
    if (*one != NULL) TEST_REQUIRE((*one)->tag < 3);
    gyre_release(*one);
    *one = ring_new(n % 4 == 0 ? &finalized_type : &node_type, 3);
    gyre_safepoint();
  }
  for (int i = 0; i < KEPT; i++)
    gyre_release(kept[i]);
  test_flag_add(&finished, 1);
  return NULL;
}

static void modes_may_change_while_threads_run(void **state) {
  (void)state;
  test_flag_set(&finished, 0);
  pthread_t threads[3];
  for (int i = 0; i < 3; i++)
    threads[i] = test_thread_start(churns, NULL);
  for (unsigned i = 0; test_flag_get(&finished) < 3; i++) {
    assert_int_equal(gyre_gc_set_mode(i % 2 ? GYRE_GC_STW : GYRE_GC_CONCURRENT), 0);
    if (i % 5 == 0) assert_true(gyre_gc_collect((int)(i % 3)) >= 0);
    if (i % 16 == 0) gyre_service_stop();
    if (i % 32 == 0) gyre__heap_check();
    GYRE_BLOCKING { (void)sched_yield(); }
  }
  for (int i = 0; i < 3; i++)
    test_thread_join(threads[i]);
  while (gyre_gc_collect(2) > 0) {
  }
  gyre_safepoint();
  assert_int_equal(nodes_destroyed(), 3 * 3 * rings_of_a_thread());
}

static void collect_always_keeps_the_service_busy(void **state) {
  (void)state;
  node *ring = ring_new(&node_type, 3);
  for (int i = 0; i < 3000; i++)
    ring_drop(&plain_type, 1); /* the first report */
  uint64_t before = stats_of(2).collections;
  TEST_AWAIT_SAFELY(stats_of(2).collections >= before + 20);
  assert_int_equal(nodes_destroyed(), 0);
  gyre_release(ring);
  TEST_AWAIT_SAFELY(nodes_destroyed() == 3);
}

#define WORKING(name)                                                                              \
  NODE_TEST_WITH(name, "gc:1,gc_mode:concurrent,gc_threshold:100/2/2,gc_wait_objects:1000")

int main(void) {
  const struct CMUnitTest tests[] = {
      WORKING(the_thread_is_started_when_it_is_needed),
      WORKING(the_thread_takes_no_signals),
      WORKING(finalizers_run_in_the_thread),
      WORKING(a_thread_of_the_program_may_be_the_service),
      WORKING(a_child_has_a_service_thread_of_its_own),
      NODE_TEST_WITH(the_thread_sleeps_while_there_is_nothing_to_do,
                     "gc:1,gc_mode:concurrent,gc_threshold:100/100/"
                     "2,gc_wait_objects:5000,purge_delay_ms:4294967295"),
      NODE_TEST_WITH(nobody_waits_for_ever_for_a_collection_that_does_not_end,
                     "gc:1,gc_mode:concurrent,gc_threshold:100/2/2,gc_wait_objects:1000,pace_ms:3"),
      NODE_TEST_WITH(with_a_pace_of_0_nobody_waits,
                     "gc:1,gc_mode:concurrent,gc_threshold:100/2/2,gc_wait_objects:1000,pace_ms:0"),
      NODE_TEST_WITH(the_service_goes_on_with_what_a_budget_cut_off,
                     "gc:0,cascade:service,release_budget:100"),
      NODE_TEST_WITH(by_default_the_thread_itself_goes_on, "gc:0,release_budget:100"),
      NODE_TEST(a_trace_is_a_line_for_each_collection),
      NODE_TEST_WITH(external_bytes_bring_about_a_full_collection,
                     "gc:1,gc_mode:concurrent,gc_wait_bytes:1000000"),
      NODE_TEST_WITH(external_bytes_bring_about_a_full_collection,
                     "gc:1,gc_mode:stw,gc_wait_bytes:1000000"),
      NODE_TEST_WITH(modes_are_asked_and_bad_ones_refused, "gc:0,gc_mode:concurrent"),
      NODE_TEST_WITH(modes_may_change_while_threads_run,
                     "gc:1,gc_mode:concurrent,gc_threshold:100/2/2,gc_wait_objects:2000"),
      NODE_TEST_WITH(
          modes_may_change_while_threads_run,
          "gc:1,gc_mode:concurrent,gc_threshold:50/2/2,gc_wait_objects:2000,yield_seed:3"),
      NODE_TEST_WITH(collect_always_keeps_the_service_busy,
                     "gc:1,gc_mode:concurrent,collect_always:3"),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
