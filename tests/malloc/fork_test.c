/* SPDX-License-Identifier: MIT */
/* fork() while other threads allocate; the child goes on with what it has from its parent. */
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "tests/malloc/family.h"

#define FORKS (TEST_THREAD_SANITIZER ? 10u : 60u)
#define WORKERS 2
#define BLOCKS 256
#define CHILD_SECONDS 120 /* a child that hangs ends by a signal */

/* ---- the others ---- */

static unsigned _Atomic stop;
static void *_Atomic boxes[BLOCKS];

static void *block_of(size_t size) {
  size_t *block = malloc(size);
  TEST_REQUIRE(block != NULL);
  fill(block + 1, size - sizeof *block, 11);
  *block = size;
  return block;
}

static void drop(void *data) {
  size_t *block = data;
  if (block == NULL) return;
  TEST_REQUIRE(holds(block + 1, *block - sizeof *block, 11));
  free(block);
}

static void *work(void *arg) {
  unsigned random = (unsigned)(uintptr_t)arg;
  while (!atomic_load(&stop)) {
    random = random * 1103515245u + 12345u;
    size_t size = 32 + (random >> 8) % 2000 + ((random >> 24) == 0 ? 100000 : 0);
    drop(atomic_exchange(&boxes[(random >> 16) % BLOCKS], block_of(size)));
    if (random >> 22 == 0) (void)malloc_trim(0);
  }
  return NULL;
}

/* ---- the child ---- */

static void *thread_of_child(void *arg) {
  drop(arg);
  for (size_t size = 16; size < 200000; size += 1000)
    drop(block_of(size));
  return NULL;
}

/* Frees what the parent has left, allocates, starts a thread. */
static void child_goes_on(void *const *mine) {
  (void)alarm(CHILD_SECONDS);
  for (unsigned i = 0; i < BLOCKS; i++) {
    drop(mine[i]);
    drop(boxes[i]);
  }
  void *blocks[BLOCKS];
  for (unsigned i = 0; i < BLOCKS; i++)
    blocks[i] = block_of(16 + i * 37);
  pthread_t thread;
  if (TEST_THREAD_SANITIZER) { /* it does not take it that a child starts threads */
    (void)thread_of_child(blocks[0]);
  } else {
    TEST_REQUIRE(pthread_create(&thread, NULL, thread_of_child, blocks[0]) == 0);
    TEST_REQUIRE(pthread_join(thread, NULL) == 0);
  }
  for (unsigned i = 1; i < BLOCKS; i++)
    drop(blocks[i]);
  (void)malloc_trim(0);
}

/* In the child of a process with threads. */
static _Noreturn void child(void *const *mine) {
  child_goes_on(mine);
  /* And a child of the child's. */
  pid_t pid = fork();
  TEST_REQUIRE(pid >= 0);
  if (pid == 0) {
    drop(block_of(100));
    _exit(0);
  }
  int status = -1;
  TEST_REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
  _exit(0);
}

/* ---- handlers that allocate ---- */

static unsigned _Atomic handler_calls;

/* More than fits on one page of its class, so that the slow paths are taken too. */
static void allocate_a_lot(void) {
  void *kept[300]; /* threads that fork at once may be here at once */
  for (unsigned i = 0; i < 300; i++)
    kept[i] = block_of(16 + i % 7 * 300);
  for (unsigned i = 0; i < 300; i++)
    drop(kept[i]);
  drop(block_of(1 << 20));
  atomic_fetch_add(&handler_calls, 1);
}

/* Before any constructor: these handlers run while the library's own has taken its locks. */
static void register_early(int argc, char **argv, char **envp) {
  (void)argc, (void)argv, (void)envp;
  (void)pthread_atfork(allocate_a_lot, allocate_a_lot, allocate_a_lot);
}
__attribute__((section(".preinit_array"),
               used)) static void (*const early)(int, char **, char **) = register_early;

/* ---- tests ---- */

static void fork_and_wait(void) {
  void *mine[BLOCKS];
  for (unsigned i = 0; i < BLOCKS; i++)
    mine[i] = block_of(24 + i * 13);
  pid_t pid = fork();
  TEST_REQUIRE(pid >= 0);
  if (pid == 0) child(mine);
  for (unsigned i = 0; i < BLOCKS; i++)
    drop(mine[i]);
  int status = -1;
  TEST_REQUIRE(waitpid(pid, &status, 0) == pid);
  if (status != 0) dprintf(STDERR_FILENO, "a child ended with status %#x\n", (unsigned)status);
  TEST_REQUIRE(status == 0);
}

static void workers_start(pthread_t workers[WORKERS]) {
  atomic_store(&stop, 0);
  for (uintptr_t i = 0; i < WORKERS; i++)
    assert_int_equal(pthread_create(&workers[i], NULL, work, (void *)(i + 1)), 0);
}

static void workers_stop(pthread_t workers[WORKERS]) {
  atomic_store(&stop, 1);
  for (unsigned i = 0; i < WORKERS; i++)
    assert_int_equal(pthread_join(workers[i], NULL), 0);
  for (unsigned i = 0; i < BLOCKS; i++)
    drop(atomic_exchange(&boxes[i], NULL));
}

static void children_allocate_and_free_what_the_parent_left(void **state) {
  (void)state;
  pthread_t workers[WORKERS];
  workers_start(workers);
  for (unsigned i = 0; i < FORKS; i++)
    fork_and_wait();
  workers_stop(workers);
  printf("%u forks, %u calls of handlers\n", FORKS, atomic_load(&handler_calls));
  assert_true(atomic_load(&handler_calls) >= 2 * FORKS);
}

static void *fork_in_thread(void *arg) {
  (void)arg;
  for (unsigned i = 0; i < FORKS / 10; i++)
    fork_and_wait();
  return NULL;
}

static void threads_fork_at_once(void **state) {
  (void)state;
  pthread_t workers[WORKERS], forkers[2];
  workers_start(workers);
  for (unsigned i = 0; i < 2; i++)
    assert_int_equal(pthread_create(&forkers[i], NULL, fork_in_thread, NULL), 0);
  for (unsigned i = 0; i < 2; i++)
    assert_int_equal(pthread_join(forkers[i], NULL), 0);
  workers_stop(workers);
}

static void programs_are_spawned(void **state) {
  (void)state;
  pthread_t workers[WORKERS];
  workers_start(workers);
  for (unsigned i = 0; i < 20; i++) {
    char *const arguments[] = {(char *)(uintptr_t) "true", NULL};
    pid_t pid;
    int status = -1;
    assert_int_equal(posix_spawnp(&pid, "true", NULL, NULL, arguments, environ), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    pid = vfork();
    if (pid == 0) {
      execvp("true", arguments);
      _exit(1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
  }
  workers_stop(workers);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(children_allocate_and_free_what_the_parent_left),
      cmocka_unit_test(threads_fork_at_once),
      cmocka_unit_test(programs_are_spawned),
  };
  return preloaded_as_told() + cmocka_run_group_tests_name("fork", tests, NULL, NULL);
}
