/* SPDX-License-Identifier: MIT */
/* The inline paths of the public headers, as a program has them that includes nothing else: for blocks and
 * objects, in C and in C++. What they must know of the library (offsets, classes, links) is compared with
 * what the library does; and calls are counted, so that a path that is never taken is noticed. */
#ifndef GYRE_TESTS_HEADERS_INLINE_H
#define GYRE_TESTS_HEADERS_INLINE_H

/* Calls of the slow halves: the linker is told to send them here (BUILD). */
static unsigned slow_mallocs, slow_frees, slow_news;

#ifdef __cplusplus
extern "C" {
#endif
void *__real_gyre__thread_malloc(gyre_thread *self, size_t size);
void *__wrap_gyre__thread_malloc(gyre_thread *self, size_t size);
void *__wrap_gyre__thread_malloc(gyre_thread *self, size_t size) {
  slow_mallocs++;
  return __real_gyre__thread_malloc(self, size);
}

void __real_gyre__thread_free(gyre_thread *self, void *block);
void __wrap_gyre__thread_free(gyre_thread *self, void *block);
void __wrap_gyre__thread_free(gyre_thread *self, void *block) {
  slow_frees++;
  __real_gyre__thread_free(self, block);
}

void *__real_gyre__new_slow(gyre_type *type);
void *__wrap_gyre__new_slow(gyre_type *type);
void *__wrap_gyre__new_slow(gyre_type *type) {
  slow_news++;
  return __real_gyre__new_slow(type);
}
#ifdef __cplusplus
}
#endif

/* A library that was built to find bugs sees every block. */
static int is_debug_library(void) {
  char poison[8];
  assert_int_equal(gyre_option_get("poison", poison, sizeof poison), 1);
  return poison[0] == '1';
}

static size_t live_blocks(void) {
  struct gyre_heap_stats stats;
  memset(&stats, 0, sizeof stats);
  stats.size = sizeof stats;
  assert_int_equal(gyre_heap_get_stats(&stats), 0);
  return stats.live_blocks;
}

/* ---- blocks ---- */

enum { BLOCKS = 3000 };
static unsigned char *blocks[BLOCKS];

static void check_blocks(size_t size) {
  for (unsigned i = 0; i < BLOCKS; i++) {
    assert_non_null(blocks[i]);
    assert_int_equal((uintptr_t)blocks[i] % 16, 0);
    memset(blocks[i], (int)i, size);
  }
  for (unsigned i = 0; i < BLOCKS; i++)
    for (size_t at = 0; at < size; at++)
      assert_int_equal(blocks[i][at], (unsigned char)i);
}

/* Every third, then the rest; from the end. */
static void free_blocks(gyre_thread *self) {
  for (unsigned step = 0; step < 2; step++)
    for (unsigned i = BLOCKS; i-- > 0;)
      if ((i % 3 == 0) == (step == 0)) gyre_thread_free(self, blocks[i]);
}

/* The size must be a constant. Twice: out of new pages, and out of what came back. */
#define CHECK_SIZE(SIZE)                                                                           \
  do {                                                                                             \
    for (int round = 0; round < 2; round++) {                                                      \
      slow_mallocs = slow_frees = 0;                                                               \
      for (unsigned i = 0; i < BLOCKS; i++)                                                        \
        blocks[i] = (unsigned char *)gyre_thread_malloc(self, SIZE);                               \
      void *other = gyre_malloc(SIZE);                                                             \
      assert_int_equal(gyre_usable_size(blocks[0]), gyre_usable_size(other));                      \
      gyre_free(other);                                                                            \
      check_blocks(SIZE);                                                                          \
      free_blocks(self);                                                                           \
      if (!debug) assert_true(slow_mallocs <= BLOCKS / 3 && slow_frees == 0);                      \
    }                                                                                              \
  } while (0)

static void blocks_of_constant_sizes_come_and_go(void **state) {
  (void)state;
  int debug = is_debug_library();
  gyre_thread *self = gyre_thread_attach();
  CHECK_SIZE(0);
  CHECK_SIZE(1);
  CHECK_SIZE(16);
  CHECK_SIZE(17);
  CHECK_SIZE(48);
  CHECK_SIZE(64);
  CHECK_SIZE(112);
  CHECK_SIZE(113);
  CHECK_SIZE(128);
  CHECK_SIZE(129);
  CHECK_SIZE(160);
  CHECK_SIZE(161);
  CHECK_SIZE(256);
  CHECK_SIZE(257);
  CHECK_SIZE(321);
  CHECK_SIZE(512);
  CHECK_SIZE(513);
  CHECK_SIZE(640);
  CHECK_SIZE(1000);
  CHECK_SIZE(1024);
  assert_int_equal(live_blocks(), 0);
}

/* The headers' classes are the library's. */
static void classes_are_those_of_the_library(void **state) {
  (void)state;
  size_t usable[64] = {0};
  for (size_t size = 0; size <= GYRE__CLASS_TABLE_MAX; size++) {
    void *block = gyre_malloc(size);
    size_t *of_class = &usable[gyre__size_class(size)];
    assert_true(*of_class == 0 || *of_class == gyre_usable_size(block));
    *of_class = gyre_usable_size(block);
    assert_true(*of_class >= size);
    gyre_free(block);
  }
  for (size_t c = 1; c <= gyre__size_class(GYRE__CLASS_TABLE_MAX); c++)
    assert_true(usable[c] > usable[c - 1]);
}

static void *make_blocks(void *arg) {
  gyre_thread *self = gyre_thread_attach();
  (void)arg;
  for (unsigned i = 0; i < BLOCKS; i++)
    blocks[i] = (unsigned char *)gyre_thread_malloc(self, 80);
  return NULL;
}

static void what_is_not_the_threads_own_is_freed_by_a_call(void **state) {
  (void)state;
  pthread_t thread;
  gyre_thread *self = gyre_thread_attach();
  /* Whatever it may be. */
  volatile size_t sizes[] = {0, 100, 2000, 9000, 65536, 65537, 300000, 2097153, 20000000};
  for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
    gyre_thread_free(self, gyre_thread_malloc(self, sizes[i]));
  gyre_thread_free(self, NULL);
  assert_int_equal(live_blocks(), 0);
  gyre_park();
  assert_int_equal(pthread_create(&thread, NULL, make_blocks, NULL), 0);
  assert_int_equal(pthread_join(thread, NULL), 0);
  gyre_unpark();
  slow_frees = 0;
  check_blocks(80);
  free_blocks(self);
  assert_int_equal(slow_frees, BLOCKS);
  assert_int_equal(gyre_purge(), 0);
  assert_int_equal(live_blocks(), 0);
}

/* ---- objects ---- */

typedef struct leaf {
  unsigned char bytes[40];
} leaf;

typedef struct link {
  GYRE_SLOT(struct link) next;
  long number;
} link_object;

static gyre_type leaf_type, link_type;

static void types_define(void) {
  static const gyre_slot_info slots[] = {{offsetof(link_object, next), "next"}};
  leaf_type.name = "leaf";
  leaf_type.size = sizeof(leaf);
  link_type.name = "link";
  link_type.size = sizeof(link_object);
  link_type.slots.at = slots;
  link_type.slots.count = 1;
}

static void objects_are_zeroed_whatever_was_there(void **state) {
  (void)state;
  static leaf *leaves[BLOCKS];
  static const leaf zero = {{0}};
  int debug = is_debug_library();
  gyre_thread *self = gyre_thread_attach();
  slow_news = 0;
  for (int round = 0; round < 3; round++) {
    for (unsigned i = 0; i < BLOCKS; i++) {
      leaves[i] = (leaf *)gyre_thread_new(self, &leaf_type, sizeof(leaf));
      assert_non_null(leaves[i]);
      assert_int_equal(memcmp(leaves[i], &zero, sizeof zero), 0);
      assert_int_equal(gyre_refcount(leaves[i]), 1);
      assert_ptr_equal(gyre_type_of(leaves[i]), &leaf_type);
      memset(leaves[i], 0xEE, sizeof(leaf));
    }
    for (unsigned i = 0; i < BLOCKS; i++)
      gyre_release(leaves[i]);
  }
  if (!debug) assert_true(slow_news <= BLOCKS);
}

/* Rings: what the inline path makes, the collector finds. */
static void the_collector_finds_what_was_made_inline(void **state) {
  (void)state;
  gyre_thread *self = gyre_thread_attach();
  struct gyre_gc_stats stats;
  memset(&stats, 0, sizeof stats);
  for (long i = 0; i < BLOCKS; i++) {
    link_object *a = (link_object *)gyre_thread_new(self, &link_type, sizeof(link_object));
    link_object *b = (link_object *)gyre_thread_new(self, &link_type, sizeof(link_object));
    assert_true(a != NULL && b != NULL);
    a->number = b->number = i;
    gyre_store(&a->next, b);
    gyre_store(&b->next, a);
    gyre_release(a);
    gyre_release(b);
    gyre_safepoint();
  }
  assert_true(gyre_gc_collect(2) >= 0);
  assert_int_equal(gyre_fini(), 0);
  assert_int_equal(live_blocks(), 0);
}

static int run_inline_tests(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(classes_are_those_of_the_library),
      cmocka_unit_test(blocks_of_constant_sizes_come_and_go),
      cmocka_unit_test(what_is_not_the_threads_own_is_freed_by_a_call),
      cmocka_unit_test(objects_are_zeroed_whatever_was_there),
      cmocka_unit_test(the_collector_finds_what_was_made_inline),
  };
  types_define();
  return cmocka_run_group_tests_name("inline", tests, NULL, NULL);
}

#endif
