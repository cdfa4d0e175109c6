/* SPDX-License-Identifier: MIT */
/* Stacks: along frame pointers and by the unwinder, how deep, and that each is kept once. */
#include "lib/observe/trace.h"
#include "tests/support/die.h"
#include "trace_test.h"

/* Keeps a frame pointer, whatever the compiler is told, and is not shared, inlined or turned into a jump. */
#define KEEP_FRAME() __asm__ volatile("" ::"r"(__builtin_frame_address(0)) : "memory")

GYRE_NOINLINE static void *deep(unsigned depth, size_t size) {
  KEEP_FRAME();
  void *block = depth == 0 ? gyre_malloc(size) : deep(depth - 1, size);
  KEEP_FRAME();
  return block;
}

GYRE_NOINLINE static void *inner(size_t size) {
  KEEP_FRAME();
  void *block = gyre_malloc(size);
  KEEP_FRAME();
  return block;
}

GYRE_NOINLINE static void *outer(size_t size) {
  KEEP_FRAME();
  void *block = inner(size);
  KEEP_FRAME();
  return block;
}

static struct gyre_traceback traceback_of(const void *block) {
  struct gyre_traceback t;
  TEST_REQUIRE(gyre_trace_get(block, &t) == 1);
  return t;
}

static void expect_outer_and_inner(unsigned flags) {
  trace_on(3, 0, flags);
  void *blocks[2] = {outer(100), outer(200000)};
  for (int i = 0; i < 2; i++) {
    struct gyre_traceback t = traceback_of(blocks[i]);
    assert_int_equal(t.count, 3);
    assert_true(t.total >= 3);
    assert_string_equal(t.frames[2].func, "inner"); /* the oldest first */
    assert_string_equal(t.frames[1].func, "outer");
    assert_string_equal(t.frames[0].func, "expect_outer_and_inner");
    assert_non_null(strstr(t.frames[2].file, "trace_stack_"));
    gyre_traceback_free(&t);
    gyre_free(blocks[i]);
  }
  gyre_trace_stop();
}

static void frames_along_frame_pointers(void **state) {
  (void)state;
  KEEP_FRAME();
  expect_outer_and_inner(0);
}

static void frames_by_the_unwinder(void **state) {
  (void)state;
  KEEP_FRAME();
  expect_outer_and_inner(GYRE_TRACE_UNWIND);
}

/* What a heap knows of the stack of a thread that had the same number, but is gone, is not used. */
static void another_thread_with_the_same_number(void **state) {
  (void)state;
  KEEP_FRAME();
  trace_on(3, 0, 0);
  gyre_free(outer(100));
  struct gyre__tracer *t = gyre__tracer_of(gyre__heap_self());
  assert_true(t->stack_high != 0);
  t->stack_low = 4096;
  t->stack_high = 8192;
  t->stack_handle ^= 4096;
  gyre_trace_stop();
  expect_outer_and_inner(0);
}

static void depths_up_to_the_limit(void **state) {
  (void)state;
  static const unsigned limits[] = {1, 2, 63, 64, 65, 1000, 5000};
  for (unsigned i = 0; i < sizeof limits / sizeof limits[0]; i++) {
    trace_on(limits[i], 0, 0);
    void *block = deep(2000, 64);
    struct gyre_traceback t = traceback_of(block);
    assert_true(t.total > 2000 && t.total < 2100);
    assert_int_equal(t.count, limits[i] < t.total ? limits[i] : t.total);
    gyre_traceback_free(&t);
    gyre_free(block);
    gyre_trace_stop();
  }
}

static void *very_deep(void *arg) {
  void *block = deep(80000, 64);
  *(struct gyre_traceback *)arg = traceback_of(block);
  gyre_free(block);
  return NULL;
}

static void no_stack_is_deeper_than_65535(void **state) {
  (void)state;
  if (TEST_THREAD_SANITIZER) skip(); /* whose own stacks are not that deep */
  trace_on(65535, 0, 0);
  pthread_attr_t attr;
  pthread_t thread;
  struct gyre_traceback t;
  assert_int_equal(pthread_attr_init(&attr), 0);
  assert_int_equal(pthread_attr_setstacksize(&attr, (size_t)64 << 20), 0);
  assert_int_equal(pthread_create(&thread, &attr, very_deep, &t), 0);
  test_thread_join(thread);
  pthread_attr_destroy(&attr);
  assert_int_equal(t.count, 65535);
  assert_int_equal(t.total, 65535);
  gyre_traceback_free(&t);
  gyre_trace_stop();
}

static void each_stack_is_kept_once(void **state) {
  (void)state;
  trace_on(8, 0, 0);
  void *first = deep(3, 16);
  size_t before = gyre__sites_bytes();
  enum { COUNT = 1000 };
  static void *blocks[COUNT];
  for (int i = 0; i < COUNT; i++)
    blocks[i] = deep(3, (size_t)i);
  /* The loop's call is another place than the first. */
  assert_true(gyre__sites_bytes() - before <= 200);
  gyre_free(first);
  for (int i = 0; i < COUNT; i++)
    gyre_free(blocks[i]);
  gyre_trace_stop();
}

/* ---- broken chains: nothing outside of the thread's stack is read ---- */

static void what_is_no_frame_ends_the_walk(void **state) {
  (void)state;
  trace_on(8, 0, 0);
  void *block = gyre_malloc(1); /* makes the tracer */
  struct gyre__heap *self = gyre__heap_self();
  struct gyre__tracer *t = gyre__tracer_of(self);
  uintptr_t pcs[8];
  const void *pc = (const void *)(uintptr_t)0x123456789;
  /* On the thread's stack, where AddressSanitizer leaves no other array. */
  uintptr_t *frames = __builtin_alloca(12 * sizeof *frames);
  memset(frames, 0, 12 * sizeof *frames);
  /* Found in the first frame, whose parent is outside, not aligned, below, or itself. */
  uintptr_t parents[] = {8, (uintptr_t)&frames[4] + 1, (uintptr_t)frames - 64, (uintptr_t)frames,
                         UINTPTR_MAX - 7};
  for (unsigned i = 0; i < 5; i++) {
    frames[0] = parents[i];
    frames[1] = (uintptr_t)pc;
    assert_int_equal(gyre__stack_walk(t, pc, frames, pcs, 8), 1);
    assert_int_equal(pcs[0], pc);
  }
  /* A whole one, then the end. */
  frames[0] = (uintptr_t)&frames[4];
  frames[4] = (uintptr_t)&frames[8];
  frames[5] = 0x11111111;
  frames[8] = 0;
  frames[9] = 0x22222222;
  assert_int_equal(gyre__stack_walk(t, pc, frames, pcs, 8), 3);
  assert_int_equal(pcs[1], 0x11111111);
  assert_int_equal(pcs[2], 0x22222222);
  /* More than there is room for: counted, not kept. */
  pcs[1] = 7;
  assert_int_equal(gyre__stack_walk(t, pc, frames, pcs, 1), 3);
  assert_int_equal(pcs[1], 7);
  /* Another stack than the thread's: a coroutine's, say. */
  static uintptr_t elsewhere[4];
  assert_int_equal(gyre__stack_walk(t, pc, elsewhere, pcs, 8), 1);
  gyre_free(block);
  gyre_trace_stop();
}

/* ---- messages of debug builds ---- */

#ifdef GYRE_DEBUG
static void free_twice(void) {
  void *block = outer(100);
  gyre_free(block);
  __asm__ volatile("" : "+r"(block));
  gyre_free(block);
}

static void overrun(void) {
  (void)gyre_option_set("guard", "1");
  char *block = outer(100);
  __asm__ volatile("" : "+r"(block));
  block[101] = 1;
  gyre_free(block);
}
#endif

static void messages_say_where_a_block_was_allocated(void **state) {
  (void)state;
#ifdef GYRE_DEBUG
  if (TEST_ADDRESS_SANITIZER || TEST_THREAD_SANITIZER) skip(); /* have their own messages */
  trace_on(3, 0, 0);
  assert_dies(free_twice, "double free");
  assert_dies(free_twice, "was allocated at");
  assert_dies(free_twice, "(inner)");
  assert_dies(free_twice, "(outer)");
  assert_dies(overrun, "overrun");
  assert_dies(overrun, "(inner)");
  gyre_trace_stop();
#else
  skip();
#endif
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(frames_along_frame_pointers),         TEST(frames_by_the_unwinder),
      TEST(another_thread_with_the_same_number), TEST(depths_up_to_the_limit),
      TEST(no_stack_is_deeper_than_65535),       TEST(each_stack_is_kept_once),
      TEST(what_is_no_frame_ends_the_walk),      TEST(messages_say_where_a_block_was_allocated),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
