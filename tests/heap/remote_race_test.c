/* SPDX-License-Identifier: MIT */
/* Races between a thread that frees another's blocks and the blocks' owner, with the windows of
 * gyre__page_free_remote() held open: between its look at page->remote and its compare-exchange, and before
 * it pushes the page onto the news. The freers are not attached, so that they send each block at once and no
 * grace period waits for them, but for those whose batches a test is about. */
#include <string.h>

#include <gyre/gyre.h>

#include "lib/heap/page.h"
#include "tests/support/window.h"

/* Of these, 16 to a page, so that some frees into a full page bring it back into its pool. */
#define BYTES (4096u - GYRE__REDZONE)
enum { BLOCKS = 16 };

/* A full page of the calling thread's, and a block of the page after it. */
struct scene {
  struct gyre__page *page;
  void *blocks[BLOCKS];
  void *next;
};

static void scene_make(struct scene *scene) {
  for (unsigned i = 0; i < BLOCKS; i++)
    scene->blocks[i] = gyre_malloc(BYTES);
  scene->page = gyre__page_of(scene->blocks[0]);
  TEST_REQUIRE(gyre__page_of(scene->blocks[BLOCKS - 1]) == scene->page);
  TEST_REQUIRE(!scene->page->full);
  scene->next = gyre_malloc(BYTES);
  TEST_REQUIRE(scene->page->full && scene->page->awaits_news);
}

/* Frees what the scene has; a block that is not there is NULL. */
static void scene_free(struct scene *scene) {
  for (unsigned i = 0; i < BLOCKS; i++)
    gyre_free(scene->blocks[i]);
  gyre_free(scene->next);
}

/* How often the page is on the calling thread's stack of news. */
static unsigned times_on_news(const struct gyre__page *page) {
  unsigned times = 0;
  /* acquire: news_next; pairs with news_push() in lib/heap/page.c. */
  for (const struct gyre__page *p = gyre__load_acquire(&gyre__heap_self()->news); p != NULL;
       p = p->news_next)
    times += p == page;
  return times;
}

static unsigned blocks_given_back(struct gyre__page *page) {
  unsigned count = 0;
  for (void *block = gyre__page_remote(page); block != NULL;
       block = gyre__link_get(block, GYRE__RAW))
    count++;
  return count;
}

/* Finds what others have freed, as an allocation does whose pool has run dry. */
static void hear(void) { gyre__page_hear_news(gyre__heap_self()); }

/* ---- freers ---- */

static void *frees(void *block) {
  gyre_free(block);
  return NULL;
}

static void free_elsewhere(void *block) { (void)test_thread_run(frees, block); }

static void *frees_watched(void *block) {
  test_window_subject();
  gyre_free(block);
  return NULL;
}

/* A thread that is freeing the block and is held on its way. */
static pthread_t free_held(const char *window, void *block) {
  test_window_hold(window, 1);
  pthread_t thread = test_thread_start(frees_watched, block);
  test_window_await();
  return thread;
}

static void let_go(pthread_t freer) {
  test_window_release();
  (void)test_thread_join(freer);
}

/* ---- between the look and the compare-exchange ---- */

/* A page has been given one block, and who gives the second is held after a look at its word. */
static pthread_t hold_second_free(struct scene *scene) {
  scene_make(scene);
  free_elsewhere(scene->blocks[0]);
  pthread_t freer = free_held("heap/free_remote", scene->blocks[1]);
  hear();
  return freer;
}

static void a_list_that_is_taken_after_the_look_is_not_linked_to(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  struct scene scene;
  pthread_t freer = hold_second_free(&scene);
  assert_int_equal(scene.page->used, BLOCKS - 1);
  let_go(freer);
  assert_int_equal(blocks_given_back(scene.page), 1);
  assert_ptr_equal(gyre__page_remote(scene.page), scene.blocks[1]);
  test_check();
  scene.blocks[0] = scene.blocks[1] = NULL;
  scene_free(&scene);
}

/* The word is as it was, though not the same list any more. */
static void a_list_that_came_back_after_the_look_is_linked_to(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  struct scene scene;
  pthread_t freer = hold_second_free(&scene);
  assert_ptr_equal(gyre_malloc(BYTES), scene.blocks[0]);
  memset(scene.blocks[0], 0xFF, BYTES);
  free_elsewhere(scene.blocks[0]);
  let_go(freer);
  assert_int_equal(blocks_given_back(scene.page), 2);
  test_check();
  scene.blocks[0] = scene.blocks[1] = NULL;
  scene_free(&scene);
}

static void who_finds_the_page_full_again_tells_its_owner(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  struct scene scene;
  pthread_t freer = hold_second_free(&scene);
  assert_ptr_equal(gyre_malloc(BYTES), scene.blocks[0]);
  void *more = gyre_malloc(BYTES);
  assert_true(scene.page->full);
  assert_int_equal(times_on_news(scene.page), 0);
  let_go(freer);
  assert_int_equal(times_on_news(scene.page), 1);
  hear();
  assert_int_equal(scene.page->used, BLOCKS - 1);
  test_check();
  gyre_free(more);
  scene.blocks[1] = NULL;
  scene_free(&scene);
}

/* TELL was there at the look, was taken, heard of and set again. */
static void tell_that_was_set_anew_after_the_look_is_news_again(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  struct scene scene;
  scene_make(&scene);
  pthread_t freer = free_held("heap/free_remote", scene.blocks[1]);
  free_elsewhere(scene.blocks[0]);
  hear();
  assert_ptr_equal(gyre_malloc(BYTES), scene.blocks[0]);
  void *more = gyre_malloc(BYTES);
  assert_true(scene.page->full && scene.page->awaits_news);
  assert_int_equal(times_on_news(scene.page), 0);
  let_go(freer);
  assert_int_equal(times_on_news(scene.page), 1);
  hear();
  assert_int_equal(scene.page->used, BLOCKS - 1);
  test_check();
  gyre_free(more);
  scene.blocks[1] = NULL;
  scene_free(&scene);
}

/* ---- before the push ---- */

/* The owner frees blocks of the full page until the pool knows it again, and allocates until it is full. It
 * finds the block of which it has not heard yet among others. */
static void refill(struct scene *scene, unsigned given_back) {
  unsigned freed = 0;
  while (scene->page->full) {
    freed++;
    gyre_free(scene->blocks[BLOCKS - freed]);
  }
  while (freed > 0)
    scene->blocks[BLOCKS - freed--] = gyre_malloc(BYTES);
  scene->blocks[given_back] = gyre_malloc(BYTES);
}

static void a_page_that_is_full_again_before_its_push_is_not_pushed_twice(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  struct scene scene, other;
  scene_make(&other);
  gyre_free(other.next);
  scene_make(&scene);
  pthread_t freer = free_held("heap/before_news", scene.blocks[0]);
  refill(&scene, 0);
  void *more = gyre_malloc(BYTES);
  assert_true(scene.page->full && scene.page->awaits_news);
  /* Who frees into it now need not push: that is still to come. */
  free_elsewhere(scene.blocks[1]);
  assert_int_equal(blocks_given_back(scene.page), 1);
  assert_int_equal(times_on_news(scene.page), 0);
  /* Other news do not bring this page up. */
  free_elsewhere(other.blocks[0]);
  hear();
  assert_false(other.page->full);
  assert_true(scene.page->full);
  let_go(freer);
  assert_int_equal(times_on_news(scene.page), 1);
  hear();
  assert_int_equal(scene.page->used, BLOCKS - 1);
  assert_false(scene.page->awaits_news);
  test_check();
  scene.blocks[1] = other.blocks[0] = other.next = NULL;
  gyre_free(more);
  scene_free(&scene);
  scene_free(&other);
}

/* The owner hears of it, finds nothing new, and is told of what comes then. */
static void a_page_that_is_full_again_when_it_is_heard_of_waits_anew(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  struct scene scene;
  scene_make(&scene);
  pthread_t freer = free_held("heap/before_news", scene.blocks[0]);
  refill(&scene, 0);
  void *more = gyre_malloc(BYTES);
  let_go(freer);
  hear();
  assert_true(scene.page->full && scene.page->awaits_news);
  assert_int_equal(times_on_news(scene.page), 0);
  test_check();
  free_elsewhere(scene.blocks[1]);
  assert_int_equal(times_on_news(scene.page), 1);
  hear();
  assert_int_equal(scene.page->used, BLOCKS - 1);
  test_check();
  gyre_free(more);
  scene.blocks[1] = NULL;
  scene_free(&scene);
}

static void a_segment_stays_while_one_of_its_pages_is_about_to_be_pushed(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  struct scene scene;
  scene_make(&scene);
  struct gyre__segment *segment = scene.page->segment;
  pthread_t freer = free_held("heap/before_news", scene.blocks[0]);
  char *base = segment->base;
  scene.blocks[0] = NULL;
  scene_free(&scene);
  assert_int_equal(gyre_purge(), 0);
  assert_int_equal(scene.page->state, GYRE__PAGE_FREE);
  assert_int_equal(test_heap_stats().committed_bytes, 0);
  assert_ptr_equal(gyre__segment_of(base), segment);
  test_check();
  let_go(freer);
  assert_int_equal(times_on_news(scene.page), 1);
  assert_int_equal(gyre_purge(), 0);
  assert_null(gyre__segment_of(base));
  assert_int_equal(test_heap_stats().mapped_bytes, 0);
}

static void a_page_may_serve_another_size_before_it_is_pushed(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  struct scene scene;
  scene_make(&scene);
  pthread_t freer = free_held("heap/before_news", scene.blocks[0]);
  scene.blocks[0] = NULL;
  scene_free(&scene);
  gyre__purge_heap(gyre__heap_self());
  assert_int_equal(scene.page->state, GYRE__PAGE_FREE);
  enum { MANY = 200 };
  static void *others[MANY];
  for (unsigned i = 0; i < MANY; i++)
    others[i] = gyre_malloc(1000);
  assert_int_equal(scene.page->state, GYRE__PAGE_USED);
  assert_int_equal(scene.page->block_size, 1024);
  assert_true(scene.page->full && scene.page->awaits_news);
  test_check();
  free_elsewhere(others[0]);
  assert_int_equal(times_on_news(gyre__page_of(others[0])), 0);
  let_go(freer);
  assert_int_equal(times_on_news(scene.page), 1);
  hear();
  assert_int_equal(blocks_given_back(scene.page), 0);
  test_check();
  for (unsigned i = 1; i < MANY; i++)
    gyre_free(others[i]);
}

/* ---- batches ---- */

struct errand {
  void *blocks[8];
  unsigned count;
  bool has_heap; /* it has a block of its own */
  test_event freed;
  test_flag stop;
};

/* Frees fewer blocks than fill a batch, and runs on, passing safepoints. */
static void *frees_and_runs(void *arg) {
  struct errand *errand = arg;
  void *own = errand->has_heap ? gyre_malloc(BYTES) : NULL;
  TEST_REQUIRE(gyre_thread_attach() != NULL);
  for (unsigned i = 0; i < errand->count; i++)
    gyre__heap_free(gyre__heap_self(), gyre__page_of(errand->blocks[i]), errand->blocks[i],
                    (enum gyre__kind)gyre__page_of(errand->blocks[i])->kind);
  gyre_free(own);
  test_event_set(&errand->freed);
  TEST_AWAIT_SAFELY(test_flag_get(&errand->stop) != 0);
  return NULL;
}

/* Blocks of a kind, freed by a thread that keeps them in a batch: gyre_purge() finds them. */
static void purge_finds_a_batch(enum gyre__kind kind, bool has_heap) {
  static struct errand errand;
  errand = (struct errand){.count = 3, .has_heap = has_heap, .freed = TEST_EVENT_INIT};
  for (unsigned i = 0; i < errand.count; i++)
    errand.blocks[i] = gyre__heap_alloc(gyre__heap_self(), kind, gyre__size_class(512));
  struct gyre__page *page = gyre__page_of(errand.blocks[0]);
  pthread_t thread = test_thread_start(frees_and_runs, &errand);
  test_event_wait_parked(&errand.freed);
  assert_int_equal(blocks_given_back(page), 0);
  assert_int_equal(gyre_purge(), 0);
  struct gyre_heap_stats stats = test_heap_stats();
  test_flag_set(&errand.stop, 1);
  (void)test_thread_join(thread);
  assert_int_equal(stats.live_blocks, 0);
  assert_int_equal(stats.committed_bytes, 0);
}

static void a_purge_finds_what_a_thread_with_blocks_of_its_own_holds_back(void **state) {
  (void)state;
  purge_finds_a_batch(GYRE__RAW, true);
}

static void a_purge_finds_what_a_thread_without_blocks_of_its_own_holds_back(void **state) {
  (void)state;
  purge_finds_a_batch(GYRE__RAW, false);
}

static void a_purge_gives_back_object_pages_that_were_held_back(void **state) {
  (void)state;
  purge_finds_a_batch(GYRE__LEAF, true);
}

static void *frees_and_parks(void *arg) {
  struct errand *errand = arg;
  TEST_REQUIRE(gyre_thread_attach() != NULL);
  for (unsigned i = 0; i < errand->count; i++)
    gyre_free(errand->blocks[i]);
  TEST_REQUIRE(gyre__heap_self()->batched != 0);
  GYRE_BLOCKING {
    test_event_set(&errand->freed);
    TEST_AWAIT(test_flag_get(&errand->stop) != 0);
  }
  return NULL;
}

static void a_thread_that_parks_holds_nothing_back(void **state) {
  (void)state;
  static struct errand errand;
  errand = (struct errand){.count = 3, .freed = TEST_EVENT_INIT};
  for (unsigned i = 0; i < errand.count; i++)
    errand.blocks[i] = gyre_malloc(512);
  struct gyre__page *page = gyre__page_of(errand.blocks[0]);
  pthread_t thread = test_thread_start(frees_and_parks, &errand);
  test_event_wait_parked(&errand.freed);
  assert_int_equal(blocks_given_back(page), errand.count);
  test_flag_set(&errand.stop, 1);
  (void)test_thread_join(thread);
}

/* Freed blocks go on their way at once. */
#define RACE_TEST(name) TEST_WITH(name, "quarantine:0")

int main(void) {
  const struct CMUnitTest tests[] = {
      RACE_TEST(a_list_that_is_taken_after_the_look_is_not_linked_to),
      RACE_TEST(a_list_that_came_back_after_the_look_is_linked_to),
      RACE_TEST(who_finds_the_page_full_again_tells_its_owner),
      RACE_TEST(tell_that_was_set_anew_after_the_look_is_news_again),
      RACE_TEST(a_page_that_is_full_again_before_its_push_is_not_pushed_twice),
      RACE_TEST(a_page_that_is_full_again_when_it_is_heard_of_waits_anew),
      RACE_TEST(a_segment_stays_while_one_of_its_pages_is_about_to_be_pushed),
      RACE_TEST(a_page_may_serve_another_size_before_it_is_pushed),
      RACE_TEST(a_thread_that_parks_holds_nothing_back),
      RACE_TEST(a_purge_finds_what_a_thread_with_blocks_of_its_own_holds_back),
      RACE_TEST(a_purge_finds_what_a_thread_without_blocks_of_its_own_holds_back),
      RACE_TEST(a_purge_gives_back_object_pages_that_were_held_back),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
