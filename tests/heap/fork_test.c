/* SPDX-License-Identifier: MIT */
#include <sys/wait.h>
#include <unistd.h>

#include "heap_test.h"

/* What a child of fork() does: it must not use cmocka's assertions. Returns 0 if all went well. */
static int child_allocates(void **inherited, unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    if (!holds(inherited[i], 200, i)) return 1;
    gyre_free(inherited[i]);
  }
  for (int i = 0; i < 2000; i++) {
    char *block = gyre_malloc((size_t)i * 37);
    if (block == NULL) return 2;
    fill(block, (size_t)i * 37, 1);
    gyre_free(block);
  }
  if (gyre_purge() != 0) return 3;
  for (uint32_t id = 1; id <= gyre__thread_slot_count(); id++)
    gyre__heap_check_slot((struct gyre__heap *)gyre__thread_slot(id));
  return 0;
}

static void expect_child_succeeds(void **inherited, unsigned count) {
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) _exit(child_allocates(inherited, count));
  int status = -1;
  GYRE_BLOCKING { (void)waitpid(child, &status, 0); }
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
}

static gyre__atomic_u32 stop;

static void *allocate_all_the_time(void *arg) {
  uint64_t random = *(uint64_t *)arg;
  /* relaxed: a flag; the join orders the rest. */
  while (gyre__load_relaxed(&stop) == 0) {
    void *blocks[100];
    for (int i = 0; i < 100; i++)
      blocks[i] = gyre_malloc((size_t)(test_random(&random) % 100000));
    for (int i = 0; i < 100; i++)
      gyre_free(blocks[i]);
    gyre_safepoint();
  }
  return NULL;
}

#define COUNT 1000
static void *blocks[COUNT];

static void *make_blocks(void *arg) {
  (void)arg;
  for (unsigned i = 0; i < COUNT; i++)
    fill(blocks[i] = gyre_malloc(200), 200, i);
  return NULL;
}

static void a_child_frees_and_allocates_while_the_parents_threads_run(void **state) {
  (void)state;
  uint64_t seeds[2] = {test_seed(), 2};
  pthread_t threads[2];
  /* relaxed: see above. */
  gyre__store_relaxed(&stop, 0);
  in_thread(make_blocks, NULL);
  for (int i = 0; i < 2; i++)
    threads[i] = thread_start(allocate_all_the_time, &seeds[i]);
  for (int i = 0; i < 10; i++)
    expect_child_succeeds(blocks, COUNT);
  gyre__store_relaxed(&stop, 1);
  for (int i = 0; i < 2; i++)
    thread_join(threads[i]);
  for (unsigned i = 0; i < COUNT; i++) {
    assert_true(holds(blocks[i], 200, i));
    gyre_free(blocks[i]);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      HEAP_TEST(a_child_frees_and_allocates_while_the_parents_threads_run),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
