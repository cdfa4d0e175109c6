/* SPDX-License-Identifier: MIT */
/* Debug hooks: guard bytes around blocks, families, and freed blocks that wait; in every build. */
#include <gyre/alloc.h>
#include <gyre/object.h>
#include <stdio.h>

#include "child.h"

typedef struct thing {
  uint64_t number;
} thing;
static gyre_type thing_type = {.name = "thing", .size = sizeof(thing)};

/* ---- what is as it was ---- */

static void blocks_are_blocks(void **state) {
  (void)state;
  for (size_t size = 0; size < 300000; size = size * 3 / 2 + 1) {
    unsigned char *block = gyre_malloc(size);
    assert_non_null(block);
    assert_int_equal((uintptr_t)block % 16, 0);
    assert_int_equal(gyre_usable_size(block), size);
    for (size_t i = 0; i < size; i++)
      assert_int_equal(block[i], 0xCD);
    fill(block, size, 3);
    block = gyre_realloc(block, size + 100);
    assert_true(holds(block, size, 3));
    assert_true(size == 0 || block[size] == 0xCD);
    block = gyre_realloc(block, size / 2);
    assert_true(holds(block, size / 2, 3));
    unsigned char *zeroed = gyre_calloc(size, 2);
    assert_true(test_is_filled(zeroed, 0, 2 * size));
    gyre_free(block);
    gyre_free(zeroed);
    for (size_t alignment = 1; alignment <= 65536; alignment *= 2) {
      unsigned char *aligned = gyre_aligned_alloc(alignment, size);
      assert_non_null(aligned);
      assert_int_equal((uintptr_t)aligned % alignment, 0);
      fill(aligned, size, 5);
      aligned = gyre_realloc(aligned, size + 1);
      assert_true(holds(aligned, size, 5));
      gyre_free(aligned);
    }
    void *raw = gyre_raw_malloc(size);
    fill(raw, size, 9);
    raw = gyre_raw_realloc(raw, 2 * size);
    assert_true(holds(raw, size, 9));
    gyre_raw_free(raw);
  }
  volatile size_t huge = SIZE_MAX - 10; /* or the compiler warns */
  assert_null(gyre_malloc(huge));
  assert_int_equal(errno, ENOMEM);
  assert_null(gyre_calloc(huge / 2, 3));
  gyre_free(NULL);
  gyre_raw_free(NULL);
  /* Objects are none of its business. */
  thing *t = gyre_new(&thing_type);
  gyre_release(t);
}

static void the_picture_is_right(void **state) {
  (void)state;
  unsigned char *block = hidden(gyre_malloc(20));
  uint64_t size, serial, next;
  memcpy(&size, block - 16, sizeof size);
  assert_int_equal(size, 20);
  assert_int_equal(block[-8], 'm');
  for (int i = -6; i < 0; i++)
    assert_int_equal(block[i], 0xFD);
  for (int i = 20; i < 28; i++)
    assert_int_equal(block[i], 0xFD);
  memcpy(&serial, block + 28, sizeof serial);
  unsigned char *raw = hidden(gyre_raw_malloc(20));
  assert_int_equal(raw[-8], 'r');
  memcpy(&next, raw + 28, sizeof next);
  assert_int_equal(next, serial + 1);
  gyre_raw_free(raw);
  gyre_free(block);
}

static void setting_up_twice_changes_nothing(void **state) {
  (void)state;
  struct gyre_allocator a = {.size = sizeof a}, b = {.size = sizeof b};
  assert_int_equal(gyre_get_allocator(GYRE_DOMAIN_MEM, &a), 0);
  assert_int_equal(gyre_setup_debug_hooks(), 0);
  assert_int_equal(gyre_get_allocator(GYRE_DOMAIN_MEM, &b), 0);
  assert_memory_equal(&a, &b, sizeof a);
}

static void *thread_works(void *arg) {
  uint64_t random = (uint64_t)(uintptr_t)arg;
  void *blocks[100] = {0};
  for (unsigned i = 0; i < 5000 / HEAP_TEST_PART; i++) {
    unsigned at = (unsigned)(test_random(&random) % 100);
    gyre_free(blocks[at]);
    size_t size = test_random(&random) % 2000;
    blocks[at] = gyre_malloc(size);
    memset(blocks[at], 1, size);
  }
  for (unsigned i = 0; i < 100; i++)
    gyre_free(blocks[i]);
  return NULL;
}

static void threads_have_their_rings(void **state) {
  (void)state;
  pthread_t threads[8];
  for (uintptr_t i = 0; i < 8; i++)
    threads[i] = thread_start(thread_works, (void *)(i + 1));
  for (int i = 0; i < 8; i++)
    thread_join(threads[i]);
}

/* ---- mistakes ---- */

static size_t mistake_size;

static char *small(void) { return hidden(gyre_malloc(mistake_size)); }

static void write_behind(void) {
  char *block = small();
  block[mistake_size] = 1;
  gyre_free(block);
}
static void write_before(void) {
  char *block = small();
  block[-1] = 1;
  gyre_free(block);
}
static void write_behind_and_resize(void) {
  char *block = small();
  block[mistake_size + 7] = 1;
  (void)!gyre_realloc(block, mistake_size + 5);
}
static void write_far_before(void) {
  char *block = small();
  memset(block - 16, 0, 16);
  gyre_free(block);
}
static void free_twice(void) {
  char *block = small();
  gyre_free(block);
  gyre_free(block);
}
static void free_after_resize(void) {
  char *block = small();
  (void)!gyre_realloc(block, mistake_size * 2 + 10);
  gyre_free(block);
}
static void use_after_free(void) {
  char *block = small();
  gyre_free(block);
  block[mistake_size / 2] = 1;
  gyre_purge();
}
static void use_long_after_free(void) {
  char *block = small();
  gyre_free(block);
  block[0] = 0;
  for (int i = 0; i < 2000; i++)
    gyre_free(gyre_malloc(30));
}
static void free_raw_as_mem(void) { gyre_free(hidden(gyre_raw_malloc(mistake_size))); }
static void free_mem_as_raw(void) { gyre_raw_free(small()); }
static void resize_raw_as_mem(void) {
  (void)!gyre_realloc(hidden(gyre_raw_malloc(mistake_size)), 1);
}
static void free_an_object(void) { gyre_free(hidden(gyre_new(&thing_type))); }
static void free_what_is_none(void) {
  static char bytes[64];
  gyre_free(hidden(bytes + 32));
}
static void write_behind_raw(void) {
  char *block = hidden(gyre_raw_malloc(mistake_size));
  block[mistake_size] = 1;
  gyre_raw_free(block);
}
static void write_before_aligned(void) {
  char *block = hidden(gyre_aligned_alloc(4096, mistake_size));
  block[-1] = 1;
  gyre_free(block);
}

static void each_mistake_has_its_words(void **state) {
  (void)state;
  static const size_t sizes[] = {1, 24, 1000, 60000};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    mistake_size = sizes[i];
    expect_abort(write_behind, "overrun: block");
    expect_abort(write_behind, "the byte 1 behind its end is 0x01, not 0xfd");
    expect_abort(write_before, "underrun: block");
    expect_abort(write_before, "the byte 1 before its start is 0x01, not 0xfd");
    expect_abort(write_behind_and_resize, "the byte 8 behind its end");
    expect_abort(write_far_before, "underrun");
    expect_abort(free_twice, "double free: block");
    expect_abort(free_after_resize, "double free: block");
    expect_abort(use_after_free, "use after free: block");
    expect_abort(use_long_after_free, "byte 0 was written to after it was freed");
    expect_abort(free_raw_as_mem, "family raw ('r')");
    expect_abort(free_raw_as_mem, "wrong family: block");
    expect_abort(free_mem_as_raw, "given to a function of family raw");
    expect_abort(resize_raw_as_mem, "wrong family: block");
    expect_abort(write_behind_raw, "overrun: block");
    expect_abort(write_before_aligned, "underrun: block");
  }
  expect_abort(free_an_object, "an object: gyre_release() gives it up");
  expect_abort(free_what_is_none, "invalid pointer");
}

static bool describe(const void *block, char *text, size_t size) {
  (void)block;
  (void)snprintf(text, size, "main at here.c:%d", 77);
  return true;
}

static void a_tracer_tells_where_it_was_allocated(void **state) {
  (void)state;
  static void (*const mistakes[])(void) = {write_behind,   write_before,    free_twice,
                                           use_after_free, free_raw_as_mem, free_an_object};
  mistake_size = 40;
  gyre__heap_describe = describe;
  for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++)
    expect_abort(mistakes[i], "; allocated at main at here.c:77");
  gyre__heap_describe = NULL;
}

/* Live blocks when the hooks are set up. */
static int begin(void **state) {
  (void)state;
  void *block = gyre_malloc(1);
  if (gyre_setup_debug_hooks() != -EBUSY) return -1;
  gyre_free(block);
  (void)gyre_purge();
  return gyre_setup_debug_hooks();
}

/* Every heap is sound, and nothing is left when what waits has gone. */
static int end(void **state) {
  assert_int_equal(gyre_purge(), 0);
  return heap_teardown(state);
}

#define FENCE_TEST(f) cmocka_unit_test_setup_teardown(f, heap_setup, end)

int main(void) {
  const struct CMUnitTest tests[] = {
      FENCE_TEST(blocks_are_blocks),
      FENCE_TEST(the_picture_is_right),
      FENCE_TEST(setting_up_twice_changes_nothing),
      FENCE_TEST(threads_have_their_rings),
      FENCE_TEST(each_mistake_has_its_words),
      FENCE_TEST(a_tracer_tells_where_it_was_allocated),
  };
  return cmocka_run_group_tests(tests, begin, NULL);
}
