/* SPDX-License-Identifier: MIT */
/* Once the library is in a buffer, it asks the system for no memory: neither by malloc() and its family nor
 * by mmap(), which this program stands in for, nor by any system call, where the system has filters that end
 * a process at the first. */
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arena_test.h"

#define CALL_KILLS(number)                                                                         \
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP)

/* For all threads of the process, from now on. */
static bool forbid_memory(void) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      CALL_KILLS(SYS_mmap),
      CALL_KILLS(SYS_mremap),
      CALL_KILLS(SYS_brk),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  (void)signal(SIGSYS, SIG_DFL); /* cmocka has a handler */
  struct sock_fprog program = {.len = sizeof code / sizeof code[0], .filter = code};
  return prctl(PR_SET_NO_NEW_PRIVS, 1UL, 0UL, 0UL, 0UL) == 0 &&
         syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

static unsigned mappings(void) {
  static char text[1 << 16];
  unsigned lines = 0;
  int file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  TEST_REQUIRE(file >= 0);
  for (ssize_t n; (n = read(file, text, sizeof text)) > 0;)
    for (ssize_t i = 0; i < n; i++)
      lines += text[i] == '\n';
  (void)close(file);
  return lines;
}

/* ---- standing in for the C library ---- */

static test_flag forbidden;

#if !TEST_THREAD_SANITIZER && !TEST_ADDRESS_SANITIZER
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);

static void require_allowed(void) {
  if (test_flag_get(&forbidden) == 0) return;
  static const char text[] = "memory was asked of the system\n";
  (void)!write(STDERR_FILENO, text, sizeof text - 1);
  _exit(9);
}

void *malloc(size_t size) {
  require_allowed();
  return __libc_malloc(size);
}
void *calloc(size_t count, size_t size) {
  require_allowed();
  return __libc_calloc(count, size);
}
void *realloc(void *block, size_t size) {
  require_allowed();
  return __libc_realloc(block, size);
}
void *mmap(void *address, size_t size, int protection, int flags, int file, off_t offset) {
  require_allowed();
  return (void *)syscall(SYS_mmap, address, size, protection, flags, file, offset);
}
#endif

static void ask_malloc(void) {
  test_flag_set(&forbidden, 1);
  void *volatile block = malloc(10); /* or the compiler leaves both calls out */
  free(block);
  _exit(0);
}

/* ---- the life of a program ---- */

static test_flag go;
static gyre__atomic_ptr gift;

static void *thread_main(void *arg) {
  TEST_AWAIT(test_flag_get(&go) != 0);
  for (unsigned i = 0; i < 2000; i++) {
    node *n = node_new(&node_type, i);
    gyre_store(&n->next, n);
    gyre_weak *weak = gyre_weak_new(n, NULL, NULL);
    TEST_REQUIRE(weak != NULL);
    gyre_release(n);
    gyre_weak_free(weak);
    char *block = gyre_malloc(i);
    TEST_REQUIRE(block != NULL && arena_has(block, i));
    /* acq_rel: the block, both ways; pairs with the other thread's. */
    gyre_free(gyre__exchange_acq_rel(&gift, (void *)block));
    gyre_safepoint();
  }
  gyre_thread_detach();
  return arg;
}

static size_t child_size;

static void live_in_it(void *arg) {
  (void)arg;
  pthread_t threads[2];
  for (int i = 0; i < 2; i++)
    threads[i] = test_thread_start(thread_main, NULL);
  arena_place(0, child_size);
  TEST_REQUIRE(gyre_init_in(arena_memory, child_size) == 0);
  unsigned before = mappings();
  (void)forbid_memory();
  test_flag_set(&forbidden, 1);
  test_flag_set(&go, 1);
  arena_work(3);
  for (int i = 0; i < 2; i++)
    (void)test_thread_join(threads[i]);
  /* acquire: the block; pairs with thread_main(). */
  gyre_free(gyre__load_acquire(&gift));
  (void)gyre_gc_collect(1);
  TEST_REQUIRE(gyre_gc_set_mode(GYRE_GC_CONCURRENT) == 0);
  (void)gyre_gc_collect(2);
  TEST_REQUIRE(gyre_gc_set_mode(GYRE_GC_STW) == 0);
  /* Full, and emptied by a collection. */
  TEST_REQUIRE(gyre_option_set("alloc_is_safepoint", "1") == 0);
  for (size_t i = 0; i < child_size / 32; i++)
    ring_drop(&plain_type, 1);
  gyre__heap_check();
  TEST_REQUIRE(mappings() <= before);
  TEST_REQUIRE(gyre_fini() == 0);
}

/* As test_in_child(), but the library is used in the child alone. */
static void in_fresh_child(size_t size) {
  child_size = size;
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    live_in_it(NULL);
    _exit(0);
  }
  int status = -1;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
}

static void no_memory_is_asked_of_the_system(void **state) {
  (void)state;
  if (TEST_THREAD_SANITIZER || TEST_ADDRESS_SANITIZER) return; /* they map for themselves */
  in_fresh_child(16 * MIB);
  in_fresh_child(64 * MIB);
}

static void call_the_system(void) {
  if (!forbid_memory()) _exit(0);
  (void)mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  _exit(0);
}

static int status_of(void (*body)(void)) {
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) body();
  int status = -1;
  assert_int_equal(waitpid(child, &status, 0), child);
  return status;
}

static void the_filters_see_what_they_are_to_see(void **state) {
  (void)state;
  if (TEST_THREAD_SANITIZER || TEST_ADDRESS_SANITIZER) return;
  int status = status_of(call_the_system);
  if (WIFEXITED(status))
    print_message("this system has no filter\n");
  else
    assert_int_equal(WTERMSIG(status), SIGSYS);
  status = status_of(ask_malloc);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 9);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_filters_see_what_they_are_to_see),
      cmocka_unit_test(no_memory_is_asked_of_the_system),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
