/* SPDX-License-Identifier: MIT */
/* The memory limit, and what is tried when an allocation would fail. */
#include "heap_test.h"

#define LIMIT ((size_t)1 << 20)
#define BLOCKS 4096

static void *blocks[BLOCKS];

/* Allocates until it fails; returns how many. */
static unsigned take_all(size_t size) {
  unsigned count = 0;
  while (count < BLOCKS && (blocks[count] = gyre_malloc(size)) != NULL)
    count++;
  return count;
}

static void give_all(unsigned count) {
  for (unsigned i = 0; i < count; i++)
    gyre_free(blocks[i]);
}

static void allocations_over_the_limit_fail_with_enomem(void **state) {
  (void)state;
  gyre_heap_set_limit(LIMIT);
  assert_int_equal(gyre_heap_get_limit(), LIMIT);
  errno = 0;
  unsigned count = take_all(1000);
  assert_int_equal(errno, ENOMEM);
  assert_in_range(count, 900, 1049);
  assert_true(heap_stats().committed_bytes <= LIMIT);
  errno = 0;
  assert_null(gyre_malloc(200000));
  assert_int_equal(errno, ENOMEM);
  give_all(count);
  void *block = gyre_malloc(200000);
  assert_non_null(block);
  gyre_free(block);
}

static void freed_pages_of_one_size_serve_another(void **state) {
  (void)state;
  gyre_heap_set_limit(LIMIT);
  give_all(take_all(1000));
  unsigned count = take_all(5000);
  assert_in_range(count, 150, 209);
  give_all(count);
}

static void lowering_the_limit_fails_later_allocations_only(void **state) {
  (void)state;
  void *small = gyre_malloc(100), *large = gyre_malloc(300000);
  gyre_heap_set_limit(1000);
  assert_null(gyre_malloc(100000));
  void *more = gyre_malloc(100); /* there is room in the page */
  assert_non_null(more);
  fill(large, 300000, 1);
  gyre_heap_set_limit(0);
  gyre_free(small);
  gyre_free(more);
  gyre_free(large);
}

static void the_limit_is_an_option_too(void **state) {
  (void)state;
  char text[32];
  assert_int_equal(gyre_option_set("limit", "3M"), 0);
  assert_int_equal(gyre_heap_get_limit(), 3 << 20);
  gyre_heap_set_limit(12345);
  assert_int_equal(gyre_option_get("limit", text, sizeof text), 5);
  assert_string_equal(text, "12345");
}

static void a_large_block_grows_in_place_up_to_the_limit(void **state) {
  (void)state;
  gyre_heap_set_limit(LIMIT);
  char *block = gyre_malloc(600000);
  fill(block, 600000, 4);
  block = gyre_realloc(block, 1000000);
  assert_non_null(block);
  assert_true(holds(block, 600000, 4));
  assert_null(gyre_realloc(block, 2000000));
  assert_true(holds(block, 600000, 4));
  block = gyre_realloc(block, 100000);
  assert_true(holds(block, 100000, 4));
  void *second = gyre_malloc(800000);
  assert_non_null(second);
  gyre_free(second);
  gyre_free(block);
}

/* ---- memory that others keep ---- */

struct hoarder {
  meeting ready, done;
};

static void *hoard_and_park(void *arg) {
  struct hoarder *hoarder = arg;
  void *hoard[900];
  for (int i = 0; i < 900; i++)
    hoard[i] = gyre_malloc(1000);
  for (int i = 0; i < 900; i++)
    gyre_free(hoard[i]);
  gyre_park();
  meet_running(&hoarder->ready);
  meet_running(&hoarder->done);
  gyre_unpark();
  return NULL;
}

static void empty_pages_of_parked_threads_are_taken_back(void **state) {
  (void)state;
  static struct hoarder hoarder;
  meeting_init(&hoarder.ready, 2);
  meeting_init(&hoarder.done, 2);
  gyre_heap_set_limit(LIMIT);
  pthread_t thread = thread_start(hoard_and_park, &hoarder);
  meet(&hoarder.ready);
  assert_true(heap_stats().cached_bytes > LIMIT / 2);
  unsigned count = take_all(1000);
  assert_in_range(count, 900, 1049);
  give_all(count);
  meet(&hoarder.done);
  thread_join(thread);
}

static void *fill_and_exit(void *arg) {
  (void)arg;
  assert_int_equal(take_all(1000) > 900, 1);
  return NULL;
}

static void blocks_freed_into_an_exited_threads_pages_make_room(void **state) {
  (void)state;
  gyre_heap_set_limit(LIMIT);
  in_thread(fill_and_exit, NULL);
  for (unsigned i = 0; blocks[i] != NULL; i++)
    gyre_free(blocks[i]);
  void *block = gyre_malloc(800000);
  assert_non_null(block);
  gyre_free(block);
}

/* ---- the program's handler ---- */

struct handler {
  unsigned calls, nested;
  size_t size;
  void *reserve;
  int inside, answer;
};

static int on_oom(size_t size, void *arg) {
  struct handler *handler = arg;
  handler->calls++;
  handler->nested += (unsigned)handler->inside;
  handler->size = size;
  handler->inside = 1;
  /* A failure in here does not come back. */
  assert_null(gyre_malloc(LIMIT * 2));
  void *small = gyre_malloc(16);
  gyre_free(small);
  handler->inside = 0;
  int answer = handler->reserve != NULL || handler->answer-- > 0;
  gyre_free(handler->reserve);
  handler->reserve = NULL;
  return answer;
}

static void the_handler_may_free_memory_and_have_it_tried_again(void **state) {
  (void)state;
  struct handler handler = {.reserve = gyre_malloc(700000)};
  gyre_heap_set_limit(LIMIT);
  gyre_set_oom_handler(on_oom, &handler);
  void *block = gyre_malloc(800000);
  assert_non_null(block);
  assert_int_equal(handler.calls, 1);
  assert_int_equal(handler.nested, 0);
  assert_int_equal(handler.size, 800000 + GYRE__REDZONE);
  errno = 0;
  assert_null(gyre_malloc(600000));
  assert_int_equal(errno, ENOMEM);
  assert_int_equal(handler.calls, 2);
  gyre_free(block);
}

static void the_handler_is_asked_again_as_long_as_it_wants(void **state) {
  (void)state;
  struct handler handler = {.answer = 3};
  gyre_heap_set_limit(LIMIT);
  gyre_set_oom_handler(on_oom, &handler);
  assert_null(gyre_malloc(2 * LIMIT));
  assert_int_equal(handler.calls, 4);
  gyre_set_oom_handler(NULL, NULL);
  assert_null(gyre_malloc(2 * LIMIT));
  assert_int_equal(handler.calls, 4);
}

static void the_handler_serves_small_blocks_too(void **state) {
  (void)state;
  struct handler handler = {.reserve = gyre_malloc(400000)};
  gyre_heap_set_limit(LIMIT);
  gyre_set_oom_handler(on_oom, &handler);
  unsigned count = take_all(2000);
  assert_true(handler.calls >= 2);
  assert_in_range(count, 400, 524);
  gyre_set_oom_handler(NULL, NULL);
  give_all(count);
}

/* ---- several threads at the limit ---- */

static void *allocate_at_the_limit(void *arg) {
  uint64_t random = *(uint64_t *)arg;
  void *mine[64] = {NULL};
  for (int i = 0; i < 20000; i++) {
    unsigned at = (unsigned)(test_random(&random) % 64);
    size_t size = (size_t)(test_random(&random) % 100000);
    gyre_free(mine[at]);
    mine[at] = gyre_malloc(size);
    if (mine[at] != NULL) fill(mine[at], size < 64 ? size : 64, at);
    gyre_safepoint();
  }
  for (int i = 0; i < 64; i++)
    gyre_free(mine[i]);
  return NULL;
}

static void threads_share_the_limit(void **state) {
  (void)state;
  uint64_t seeds[3] = {test_seed()};
  pthread_t threads[3];
  gyre_heap_set_limit(4 * LIMIT);
  for (unsigned i = 0; i < 3; i++) {
    seeds[i] = seeds[0] + i;
    threads[i] = thread_start(allocate_at_the_limit, &seeds[i]);
  }
  for (unsigned i = 0; i < 3; i++)
    thread_join(threads[i]);
  assert_true(heap_stats().committed_bytes <= 4 * LIMIT);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      HEAP_TEST(allocations_over_the_limit_fail_with_enomem),
      HEAP_TEST(freed_pages_of_one_size_serve_another),
      HEAP_TEST(lowering_the_limit_fails_later_allocations_only),
      HEAP_TEST(the_limit_is_an_option_too),
      HEAP_TEST(a_large_block_grows_in_place_up_to_the_limit),
      HEAP_TEST(empty_pages_of_parked_threads_are_taken_back),
      HEAP_TEST(blocks_freed_into_an_exited_threads_pages_make_room),
      HEAP_TEST(the_handler_may_free_memory_and_have_it_tried_again),
      HEAP_TEST(the_handler_is_asked_again_as_long_as_it_wants),
      HEAP_TEST(the_handler_serves_small_blocks_too),
      HEAP_TEST(threads_share_the_limit),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
