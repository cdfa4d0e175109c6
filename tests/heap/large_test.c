/* SPDX-License-Identifier: MIT */
/* Blocks beyond the largest class, from each backend that this process has. */
#include "heap_test.h"

static const char *const backends[] = {"system", "mmap", "jemalloc"};
#define BACKENDS 3

/* Selects a backend; false if this process does not have it. */
static int backend_select(unsigned i) {
  int result = gyre_option_set("large", backends[i]);
  assert_true(result == 0 || (result == -EINVAL && i == 2));
  return result == 0;
}

static int large_teardown(void **state) {
  assert_int_equal(gyre_option_set("large", "system"), 0);
  return heap_teardown(state);
}

static void every_backend_gives_resizes_and_takes_back(void **state) {
  (void)state;
  for (unsigned b = 0; b < BACKENDS; b++) {
    if (!backend_select(b)) continue;
    for (size_t size = 65537; size < (size_t)8 << 20; size = size * 3 / 2) {
      char *block = gyre_malloc(size);
      fill(block, size, b);
      assert_true(heap_stats().large_bytes >= size);
      block = gyre_realloc(block, size * 2);
      assert_true(holds(block, size, b));
      block = gyre_realloc(block, size / 2 + 40000);
      assert_true(holds(block, size / 2 + 40000 < size ? size / 2 + 40000 : size, b));
      block = gyre_realloc(block, 1000);
      assert_true(holds(block, 1000, b));
      assert_int_equal(heap_stats().large_bytes, 0);
      gyre_free(block);
    }
  }
}

static void every_backend_zeroes_for_calloc(void **state) {
  (void)state;
  for (unsigned b = 0; b < BACKENDS; b++) {
    if (!backend_select(b)) continue;
    for (int i = 0; i < 10; i++) {
      char *block = gyre_calloc(1000, 200);
      assert_true(test_is_filled(block, 0, 200000));
      fill(block, 200000, b);
      gyre_free(block);
    }
  }
}

static void every_backend_aligns(void **state) {
  (void)state;
  for (unsigned b = 0; b < BACKENDS; b++) {
    if (!backend_select(b)) continue;
    for (size_t alignment = 16; alignment <= (size_t)64 << 20; alignment *= 4) {
      char *block = gyre_aligned_alloc(alignment, 100000);
      assert_int_equal((uintptr_t)block % alignment, 0);
      assert_true(gyre_usable_size(block) >= 100000);
      fill(block, 100000, b);
      block = gyre_realloc(block, 300000);
      assert_true(holds(block, 100000, b));
      gyre_free(block);
    }
  }
}

static void a_block_goes_back_to_the_backend_it_came_from(void **state) {
  (void)state;
  for (unsigned from = 0; from < BACKENDS; from++)
    for (unsigned to = 0; to < BACKENDS; to++) {
      if (!backend_select(from)) continue;
      char *freed = gyre_malloc(100000), *resized = gyre_malloc(100000);
      fill(resized, 100000, 5);
      if (!backend_select(to)) (void)backend_select(0);
      gyre_free(freed);
      resized = gyre_realloc(resized, 5000000);
      assert_true(holds(resized, 100000, 5));
      gyre_free(resized);
    }
}

static void a_backend_that_the_process_does_not_have_is_refused(void **state) {
  (void)state;
  char text[16];
  int has_jemalloc = backend_select(2);
  gyre_option_get("large", text, sizeof text);
  assert_string_equal(text, has_jemalloc ? "jemalloc" : "system");
  assert_int_equal(gyre_option_set("large", "tcmalloc"), -EINVAL);
}

static void figures_follow_large_blocks(void **state) {
  (void)state;
  void *block = gyre_malloc(1000000);
  struct gyre_heap_stats stats = heap_stats();
  assert_in_range(stats.large_bytes, 1000000, 1010000);
  assert_int_equal(stats.live_blocks, 1);
  assert_true(stats.live_bytes >= 1000000);
  assert_true(stats.mapped_bytes >= stats.large_bytes);
  assert_true(stats.committed_bytes >= stats.large_bytes);
  gyre_free(block);
  assert_int_equal(heap_stats().large_bytes, 0);
}

/* ---- objects ---- */

/* Large objects are freed at a safepoint after a grace period; one more passes on the work of
 * threads that exited. */
static void await_deferred_work(void) {
  for (int i = 0; i < 100 && heap_stats().large_bytes != 0; i++) {
    assert_int_equal(gyre_synchronize(), 0);
    gyre_safepoint();
  }
}

struct watcher {
  meeting ready, done;
};

static void *run_without_safepoint(void *arg) {
  struct watcher *watcher = arg;
  assert_non_null(gyre_thread_attach());
  meet_running(&watcher->ready);
  meet_running(&watcher->done);
  return NULL;
}

static void a_large_object_is_zeroed_and_waits_for_a_grace_period(void **state) {
  (void)state;
  for (unsigned b = 0; b < BACKENDS; b++) {
    if (!backend_select(b)) continue;
    struct watcher watcher;
    meeting_init(&watcher.ready, 2);
    meeting_init(&watcher.done, 2);
    pthread_t thread = thread_start(run_without_safepoint, &watcher);
    meet_running(&watcher.ready);
    struct gyre__heap *heap = gyre__heap_self();
    gyre__header *h = gyre__heap_alloc_large(heap, GYRE__LEAF, 200000, 16);
    struct gyre__page *page = gyre__page_of(h);
    assert_true(test_is_filled(h, 0, 200000));
    assert_int_equal(page->kind, GYRE__LEAF);
    assert_int_equal(gyre__page_index(page, h), 0);
    assert_int_equal(gyre__page_index(page, (char *)h + 199000), 0);
    assert_ptr_equal(gyre__page_block(page, 0), h);
    gyre__heap_free(heap, page, h, GYRE__LEAF);
    gyre_safepoint();
    assert_true(heap_stats().large_bytes >= 200000);
    assert_int_equal(gyre__load_relaxed(&h->shared), 0);
    meet_running(&watcher.done);
    thread_join(thread);
    await_deferred_work();
    assert_int_equal(heap_stats().large_bytes, 0);
  }
}

static void *free_tracked(void *arg) {
  gyre__header *h = arg;
  gyre__heap_free(gyre__heap_self(), gyre__page_of(h), h, GYRE__TRACKED);
  return NULL;
}

static void tracked_large_objects_are_on_their_slots_list(void **state) {
  (void)state;
  struct gyre__heap *heap = gyre__heap_self();
  gyre__header *h[3];
  for (int i = 0; i < 3; i++)
    h[i] = gyre__heap_alloc_large(heap, GYRE__TRACKED, 70000, 16);
  assert_ptr_equal(heap->large, gyre__page_of(h[2]));
  assert_ptr_equal(heap->large->large_next, gyre__page_of(h[1]));
  in_thread(free_tracked, h[1]);
  assert_ptr_equal(heap->large->large_next, gyre__page_of(h[0]));
  free_tracked(h[2]);
  free_tracked(h[0]);
  assert_null(heap->large);
  await_deferred_work();
  assert_int_equal(heap_stats().large_bytes, 0);
}

#define LARGE_TEST(f) cmocka_unit_test_setup_teardown(f, heap_setup, large_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      LARGE_TEST(every_backend_gives_resizes_and_takes_back),
      LARGE_TEST(every_backend_zeroes_for_calloc),
      LARGE_TEST(every_backend_aligns),
      LARGE_TEST(a_block_goes_back_to_the_backend_it_came_from),
      LARGE_TEST(a_backend_that_the_process_does_not_have_is_refused),
      LARGE_TEST(figures_follow_large_blocks),
      LARGE_TEST(a_large_object_is_zeroed_and_waits_for_a_grace_period),
      LARGE_TEST(tracked_large_objects_are_on_their_slots_list),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
