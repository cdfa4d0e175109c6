/* SPDX-License-Identifier: MIT */
/* Tracing together with what stands beside the heap: allocators of the program's, debug hooks, arenas. */
#include <gyre/alloc.h>
#include <gyre/arena.h>
#include <signal.h>
#include <sys/wait.h>

#include "tests/support/die.h"
#include "trace_test.h"

/* ---- an allocator of the program's ---- */

static struct gyre_allocator inner;
static gyre__atomic_u64 calls;

static void count_call(void) {
  /* relaxed: a figure. */
  gyre__fetch_add_relaxed(&calls, 1);
}

static void *count_malloc(void *ctx, size_t size) {
  (void)ctx;
  count_call();
  return inner.malloc(inner.ctx, size);
}

static void *count_calloc(void *ctx, size_t count, size_t size) {
  (void)ctx;
  count_call();
  return inner.calloc(inner.ctx, count, size);
}

static void *count_realloc(void *ctx, void *block, size_t size) {
  (void)ctx;
  count_call();
  return inner.realloc(inner.ctx, block, size);
}

static void *count_aligned(void *ctx, size_t alignment, size_t size) {
  (void)ctx;
  count_call();
  return inner.aligned_alloc(inner.ctx, alignment, size);
}

static void count_free(void *ctx, void *block) {
  (void)ctx;
  count_call();
  inner.free(inner.ctx, block);
}

static void hook_on(void) {
  inner = (struct gyre_allocator){.size = sizeof inner};
  TEST_REQUIRE(gyre_get_allocator(GYRE_DOMAIN_MEM, &inner) == 0);
  struct gyre_allocator outer = inner;
  outer.malloc = count_malloc;
  outer.calloc = count_calloc;
  outer.realloc = count_realloc;
  outer.aligned_alloc = count_aligned;
  outer.free = count_free;
  TEST_REQUIRE(gyre_set_allocator(GYRE_DOMAIN_MEM, &outer) == 0);
}

static void hook_off(void) { TEST_REQUIRE(gyre_set_allocator(GYRE_DOMAIN_MEM, &inner) == 0); }

static uint64_t calls_made(void) {
  /* relaxed: a figure. */
  return gyre__load_relaxed(&calls);
}

/* One of each way to a block, with `bytes` in all; the last two are the same block. */
enum { WAYS = 5 };
GYRE_NOINLINE static size_t make_all(void *blocks[WAYS]) {
  blocks[0] = gyre_malloc(100);
  blocks[1] = gyre_calloc(10, 20);
  blocks[2] = gyre_aligned_alloc(256, 300);
  blocks[3] = gyre_realloc(gyre_malloc(40), 4000);
  blocks[4] = gyre_malloc(200000);
  return 100 + 200 + 300 + 4000 + 200000;
}

static void free_all(void *blocks[WAYS]) {
  for (int i = 0; i < WAYS; i++)
    gyre_free(blocks[i]);
}

static uint64_t first_pc(const void *block) {
  struct gyre_traceback t;
  TEST_REQUIRE(gyre_trace_get(block, &t) == 1);
  uint64_t pc = t.frames[t.count - 1].pc;
  gyre_traceback_free(&t);
  return pc;
}

GYRE_NOINLINE static char *make_twenty(void) {
  char *block = gyre_malloc(20);
  __asm__ volatile("" : "+r"(block)::"memory");
  return block;
}

/* It is a short function. */
static bool is_in_make_twenty(uint64_t pc) {
  return pc > (uintptr_t)make_twenty && pc < (uintptr_t)make_twenty + 64;
}

static void what_a_wrapper_hands_on_is_traced(void **state) {
  (void)state;
  hook_on();
  trace_on(1, 0, 0);
  uint64_t before = calls_made();
  void *blocks[WAYS];
  for (int round = 0; round < 300; round++) {
    size_t bytes = make_all(blocks);
    assert_int_equal(traced_now(), bytes);
    for (int i = 0; i < WAYS; i++)
      assert_true(is_traced(blocks[i]));
    free_all(blocks);
    assert_int_equal(traced_now(), 0);
    for (int i = 0; i < WAYS - 1; i++)
      assert_false(is_traced(blocks[i]));
  }
  assert_int_equal(calls_made() - before, 300 * (WAYS + 1 + WAYS));
  gyre_trace_stop();
  hook_off();
}

static void the_stack_is_that_of_the_programs_call(void **state) {
  (void)state;
  static const unsigned flags[] = {0, GYRE_TRACE_UNWIND};
  hook_on();
  for (int i = 0; i < 2; i++) {
    trace_on(4, 0, flags[i]);
    void *block = make_twenty();
    assert_true(is_in_make_twenty(first_pc(block)));
    gyre_free(block);
    gyre_trace_stop();
  }
  hook_off();
}

/* The four orders of turning both on and off: no free may pass by either. */
static void hooks_come_and_go_while_all_is_traced(void **state) {
  (void)state;
  void *blocks[WAYS];
  for (int order = 0; order < 4; order++) {
    if (order & 1) hook_on();
    trace_on(1, 0, 0);
    if (!(order & 1)) hook_on();
    for (int round = 0; round < 300; round++) {
      size_t bytes = make_all(blocks);
      if (order & 2) hook_off();
      assert_int_equal(traced_now(), bytes);
      uint64_t before = calls_made();
      free_all(blocks);
      assert_int_equal(calls_made() - before, order & 2 ? 0 : WAYS);
      assert_int_equal(traced_now(), 0);
      if (order & 2) hook_on();
    }
    (void)make_all(blocks);
    gyre_trace_stop();
    /* The segments' way is to be the hook's still, not the heap's. */
    uint64_t before = calls_made();
    free_all(blocks);
    assert_int_equal(calls_made() - before, WAYS);
    (void)make_all(blocks);
    hook_off();
    before = calls_made();
    free_all(blocks);
    assert_int_equal(calls_made(), before);
  }
}

static void samples_are_taken_under_a_wrapper(void **state) {
  (void)state;
  enum { COUNT = 40000, SIZE = 200 };
  static void *blocks[COUNT];
  hook_on();
  trace_on(1, 100000, 0);
  for (int i = 0; i < COUNT; i++)
    blocks[i] = gyre_malloc(SIZE);
  /* 80 samples on average; five deviations. */
  size_t estimate = traced_now();
  assert_true(estimate > COUNT * SIZE * 4 / 10 && estimate < COUNT * SIZE * 16 / 10);
  for (int i = 0; i < COUNT; i++)
    gyre_free(blocks[i]);
  assert_int_equal(traced_now(), 0);
  gyre_trace_stop();
  hook_off();
}

/* ---- several threads ---- */

static void *thread_works(void *arg) {
  struct test_random random = test_random_new((uintptr_t)arg);
  enum { COUNT = 100 };
  void *blocks[COUNT] = {0};
  for (unsigned i = 0; i < 4000; i++) {
    unsigned at = (unsigned)(test_random_next(&random) % COUNT);
    gyre_free(blocks[at]);
    blocks[at] = gyre_malloc((size_t)(test_random_next(&random) % 2000));
    gyre_safepoint();
  }
  for (unsigned i = 0; i < COUNT; i++)
    gyre_free(blocks[i]);
  return NULL;
}

static void threads_go_on_while_both_change(void **state) {
  (void)state;
  pthread_t threads[3];
  for (uintptr_t i = 0; i < 3; i++)
    TEST_REQUIRE(pthread_create(&threads[i], NULL, thread_works, (void *)(i + 1)) == 0);
  for (int i = 0; i < 20; i++) {
    hook_on();
    trace_on(1, i & 1 ? 4096 : 0, 0);
    void *block = gyre_malloc(100);
    hook_off();
    gyre_free(block);
    gyre_trace_stop();
  }
  gyre_park();
  for (int i = 0; i < 3; i++)
    TEST_REQUIRE(pthread_join(threads[i], NULL) == 0);
  gyre_unpark();
}

/* ---- debug hooks ---- */

static void overrun(void) {
  TEST_REQUIRE(gyre_setup_debug_hooks() == 0);
  trace_on(1, 0, 0);
  char *block = make_twenty();
  block[20] = 1;
  gyre_free(block);
}

static void guard_bytes_say_where_the_block_was_allocated(void **state) {
  (void)state;
  assert_dies(overrun, "overrun");
  assert_dies(overrun, "; allocated at ");
  if (!TEST_OPTIMIZED) assert_dies(overrun, "(make_twenty)");
}

static void untraced_overrun(void) {
  TEST_REQUIRE(gyre_setup_debug_hooks() == 0);
  char *block = make_twenty();
  block[20] = 1;
  gyre_free(block);
}

static void blocks_that_are_not_traced_have_no_place(void **state) {
  (void)state;
  assert_dies(untraced_overrun, "overrun");
}

/* ---- arenas ---- */

static _Alignas(4096) char buffer[8 << 20];

/* In a child: the library is to be unused. */
static void in_arena(void) {
  trace_on(1, 0, 0);
  if (gyre_init_in(buffer, sizeof buffer) != 0) _exit(2);
  if (gyre_trace_is_on()) _exit(3);
  if (gyre_trace_start(NULL) != -ENOTSUP) _exit(4);
  void *block = gyre_malloc(100);
  if (block == NULL || is_traced(block)) _exit(5);
  if (gyre_trace_snapshot() != NULL || errno != ENODATA) _exit(6);
  gyre_free(block);
  if (gyre_fini() != 0) _exit(7);
  /* Out of it, as ever. */
  trace_on(1, 0, 0);
  block = gyre_malloc(100);
  if (!is_traced(block)) _exit(8);
  gyre_free(block);
  gyre_trace_stop();
  _exit(0);
}

/* Before any test has used the library: main() calls it. */
static int arena_status;
static void arena_try(void) {
  pid_t child = fork();
  TEST_REQUIRE(child >= 0);
  if (child == 0) in_arena();
  TEST_REQUIRE(waitpid(child, &arena_status, 0) == child);
}

static void an_arena_has_no_tracing(void **state) {
  (void)state;
  assert_true(WIFEXITED(arena_status));
  assert_int_equal(WEXITSTATUS(arena_status), 0);
}

int main(void) {
  arena_try();
  const struct CMUnitTest tests[] = {
      TEST(what_a_wrapper_hands_on_is_traced),
      TEST(the_stack_is_that_of_the_programs_call),
      TEST(hooks_come_and_go_while_all_is_traced),
      TEST(samples_are_taken_under_a_wrapper),
      TEST(threads_go_on_while_both_change),
      TEST(guard_bytes_say_where_the_block_was_allocated),
      TEST(blocks_that_are_not_traced_have_no_place),
      TEST(an_arena_has_no_tracing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
