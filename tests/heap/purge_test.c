/* SPDX-License-Identifier: MIT */
#include <sys/mman.h>
#include <unistd.h>

#include "heap_test.h"

#define BLOCKS 2000
#define BYTES (1024 - GYRE__REDZONE)

struct owner {
  void *blocks[BLOCKS];
  meeting ready, done;
};

static void blocks_make(void **blocks) {
  for (unsigned i = 0; i < BLOCKS; i++)
    fill(blocks[i] = gyre_malloc(BYTES), BYTES, i);
}

static void blocks_free(void **blocks) {
  for (unsigned i = 0; i < BLOCKS; i++)
    gyre_free(blocks[i]);
}

static void keep_for_ever(void) {
  assert_int_equal(gyre_option_set("purge_delay_ms", "4294967295"), 0);
}

static int purge_setup(void **state) {
  keep_for_ever();
  /* Freed blocks go home at once. */
  assert_int_equal(gyre_option_set("quarantine", "0"), 0);
  return heap_setup(state);
}

static int purge_teardown(void **state) {
  assert_int_equal(gyre_option_set("purge_delay_ms", "1000"), 0);
  return heap_teardown(state);
}

/* Bytes of [address, address + size) that are in memory. */
static size_t resident_bytes(void *address, size_t size) {
  static unsigned char pages[4096];
  size_t page_size = gyre__os_page_size(), count = size / page_size, resident = 0;
  assert_true(count <= sizeof pages);
  assert_int_equal(mincore(address, size, pages), 0);
  for (size_t i = 0; i < count; i++)
    resident += pages[i] & 1 ? page_size : 0;
  return resident;
}

static void empty_pages_are_kept_until_they_are_purged(void **state) {
  (void)state;
  static void *blocks[BLOCKS];
  blocks_make(blocks);
  size_t committed = heap_stats().committed_bytes;
  assert_true(committed >= (size_t)BLOCKS * BYTES);
  size_t purged = heap_stats().purged_bytes;
  blocks_free(blocks);
  assert_int_equal(heap_stats().committed_bytes, committed);
  assert_true(heap_stats().cached_bytes >= committed - 65536);
  assert_int_equal(gyre_purge(), 0);
  assert_int_equal(heap_stats().committed_bytes, 0);
  assert_int_equal(heap_stats().purged_bytes, purged + committed);
}

static void purged_memory_leaves_the_process_and_its_neighbours_stay(void **state) {
  (void)state;
  static void *blocks[BLOCKS];
  blocks_make(blocks);
  struct gyre__segment *segment = gyre__segment_of(blocks[BLOCKS / 2]);
  assert_true(resident_bytes(segment->base, GYRE__SEGMENT_SIZE) >= (size_t)BLOCKS * BYTES / 2);
  char *kept = blocks[BLOCKS / 2];
  blocks[BLOCKS / 2] = NULL;
  blocks_free(blocks);
  assert_int_equal(gyre_purge(), 0);
  assert_ptr_equal(gyre__segment_of(kept), segment);
  assert_true(resident_bytes(segment->base, GYRE__SEGMENT_SIZE) <= 65536);
  assert_int_equal(heap_stats().committed_bytes, 65536);
  assert_true(holds(kept, BYTES, BLOCKS / 2));
  gyre_free(kept);
}

static void without_a_delay_pages_go_back_at_once(void **state) {
  (void)state;
  static void *blocks[BLOCKS];
  assert_int_equal(gyre_option_set("purge_delay_ms", "0"), 0);
  blocks_make(blocks);
  blocks_free(blocks);
  /* All but the pool's last page. */
  assert_true(heap_stats().committed_bytes <= 65536);
  assert_int_equal(heap_stats().cached_bytes, 0);
}

static void allocating_and_freeing_at_a_page_border_takes_no_page_back_and_forth(void **state) {
  (void)state;
  static void *blocks[BLOCKS];
  assert_int_equal(gyre_option_set("purge_delay_ms", "0"), 0);
  blocks_make(blocks);
  size_t purged = heap_stats().purged_bytes;
  for (int i = 0; i < 1000; i++) {
    void *one = gyre_malloc(BYTES), *two = gyre_malloc(BYTES);
    gyre_free(one);
    gyre_free(two);
  }
  assert_true(heap_stats().purged_bytes <= purged + 65536);
  blocks_free(blocks);
}

/* ---- other threads' pages ---- */

static void *make_and_free_and_park(void *arg) {
  struct owner *owner = arg;
  blocks_make(owner->blocks);
  blocks_free(owner->blocks);
  gyre_park();
  meet_running(&owner->ready);
  meet_running(&owner->done);
  gyre_unpark();
  return NULL;
}

static void a_parked_threads_pages_are_purged(void **state) {
  (void)state;
  static struct owner owner;
  meeting_init(&owner.ready, 2);
  meeting_init(&owner.done, 2);
  pthread_t thread = thread_start(make_and_free_and_park, &owner);
  meet(&owner.ready);
  assert_true(heap_stats().cached_bytes >= (size_t)(BLOCKS - 64) * BYTES);
  assert_int_equal(gyre_purge(), 0);
  assert_int_equal(heap_stats().committed_bytes, 0);
  meet(&owner.done);
  thread_join(thread);
}

static void *make_and_exit(void *arg) {
  blocks_make(((struct owner *)arg)->blocks);
  return NULL;
}

static void an_exited_threads_pages_are_purged_when_others_have_freed_its_blocks(void **state) {
  (void)state;
  static struct owner owner;
  in_thread(make_and_exit, &owner);
  blocks_free(owner.blocks);
  /* Nobody has looked at the pages since. */
  assert_int_equal(heap_stats().live_blocks, BLOCKS);
  assert_int_equal(gyre_purge(), 0);
  assert_int_equal(heap_stats().live_blocks, 0);
  assert_int_equal(heap_stats().committed_bytes, 0);
}

static void *make_and_free_and_exit(void *arg) {
  struct owner *owner = arg;
  blocks_make(owner->blocks);
  blocks_free(owner->blocks);
  return NULL;
}

static void a_thread_that_exits_leaves_its_empty_pages_to_its_heir(void **state) {
  (void)state;
  static struct owner owner;
  in_thread(make_and_free_and_exit, &owner);
  size_t kept = heap_stats().committed_bytes;
  assert_int_not_equal(kept, 0);
  in_thread(make_and_free_and_exit, &owner);
  assert_int_equal(heap_stats().committed_bytes, kept);
  assert_int_equal(gyre_purge(), 0);
  assert_int_equal(heap_stats().committed_bytes, 0);
}

static void *make_and_free_and_pass_safepoints(void *arg) {
  struct owner *owner = arg;
  blocks_make(owner->blocks);
  blocks_free(owner->blocks);
  meet_running(&owner->ready);
  while (gyre__load_relaxed(&gyre__heap_self()->committed_bytes) != 0)
    gyre_safepoint();
  meet(&owner->done);
  return NULL;
}

static void a_running_thread_purges_at_its_safepoint(void **state) {
  (void)state;
  static struct owner owner;
  meeting_init(&owner.ready, 2);
  meeting_init(&owner.done, 2);
  pthread_t thread = thread_start(make_and_free_and_pass_safepoints, &owner);
  meet_running(&owner.ready);
  assert_int_equal(gyre_purge(), 0);
  meet(&owner.done);
  assert_int_equal(heap_stats().committed_bytes, 0);
  thread_join(thread);
}

static void *make_and_free_and_pass_none(void *arg) {
  struct owner *owner = arg;
  blocks_make(owner->blocks);
  blocks_free(owner->blocks);
  meet_running(&owner->ready);
  meet_running(&owner->done);
  gyre_safepoint();
  assert_int_equal(gyre__load_relaxed(&gyre__heap_self()->committed_bytes), 0);
  return NULL;
}

static void a_thread_without_safepoints_is_waited_for_only_so_long(void **state) {
  (void)state;
  static struct owner owner;
  meeting_init(&owner.ready, 2);
  meeting_init(&owner.done, 2);
  gyre_set_log(NULL, NULL);
  pthread_t thread = thread_start(make_and_free_and_pass_none, &owner);
  meet_running(&owner.ready);
  assert_int_equal(gyre_purge(), -EAGAIN);
  meet_running(&owner.done);
  thread_join(thread);
}

/* ---- object pages ---- */

/* A block of an object page, as lib/object would leave it. */
static gyre__header *header_new(enum gyre__kind kind, size_t size) {
  gyre__header *h = gyre__heap_alloc(gyre__heap_self(), kind, gyre__size_class(size));
  assert_non_null(h);
  return h;
}

static void header_free(gyre__header *h) {
  struct gyre__page *page = gyre__page_of(h);
  gyre__heap_free(gyre__heap_self(), page, h, (enum gyre__kind)page->kind);
}

static void *run_without_safepoint(void *arg) {
  struct owner *owner = arg;
  assert_non_null(gyre_thread_attach());
  meet_running(&owner->ready);
  meet_running(&owner->done);
  return NULL;
}

static void a_freed_objects_header_stays_until_a_grace_period_has_passed(void **state) {
  (void)state;
  enum { OBJECTS = 3000 };
  static struct owner owner;
  static gyre__header *objects[OBJECTS];
  assert_int_equal(gyre_option_set("purge_delay_ms", "0"), 0);
  meeting_init(&owner.ready, 2);
  meeting_init(&owner.done, 2);
  pthread_t thread = thread_start(run_without_safepoint, &owner);
  meet_running(&owner.ready);
  for (unsigned i = 0; i < OBJECTS; i++) {
    objects[i] = header_new(GYRE__LEAF, 256);
    assert_int_equal(gyre__load_relaxed(&objects[i]->shared), 0);
    gyre__store_relaxed(&objects[i]->shared, i * 16);
  }
  for (unsigned i = 0; i < OBJECTS; i++)
    header_free(objects[i]);
  static void *others[BLOCKS];
  blocks_make(others);
  blocks_free(others);
  for (unsigned i = 0; i < OBJECTS; i++) {
    assert_int_equal(gyre__load_relaxed(&objects[i]->shared), i * 16);
    assert_int_equal(gyre__page_of(objects[i])->kind, GYRE__LEAF);
  }
  meet_running(&owner.done);
  thread_join(thread);
  assert_int_equal(gyre_purge(), 0);
  assert_int_equal(heap_stats().committed_bytes, 0);
}

static void a_page_that_becomes_an_object_page_has_zeroed_headers(void **state) {
  (void)state;
  enum { OBJECTS = 1000 };
  static void *blocks[BLOCKS];
  static gyre__header *objects[OBJECTS];
  for (int round = 0; round < 3; round++) {
    blocks_make(blocks);
    blocks_free(blocks);
    for (unsigned i = 0; i < OBJECTS; i++) {
      objects[i] = header_new(round % 2 ? GYRE__LEAF : GYRE__TRACKED, 48);
      assert_true(test_is_filled(objects[i], 0, GYRE_HEADER_SIZE));
      fill(objects[i], 48, 1);
    }
    for (unsigned i = 0; i < OBJECTS; i++)
      header_free(objects[i]);
    assert_int_equal(gyre_purge(), 0);
  }
}

static void an_object_page_is_reused_for_its_own_kind_with_shared_words_as_they_were(void **state) {
  (void)state;
  enum { OBJECTS = 8 * 128 }; /* whole pages */
  static gyre__header *objects[OBJECTS];
  for (unsigned i = 0; i < OBJECTS; i++) {
    objects[i] = header_new(GYRE__LEAF, 512);
    gyre__store_relaxed(&objects[i]->shared, 0x1234560);
  }
  for (unsigned i = 0; i < OBJECTS; i++)
    header_free(objects[i]);
  size_t committed = heap_stats().committed_bytes;
  for (unsigned i = 0; i < OBJECTS; i++) {
    objects[i] = header_new(GYRE__LEAF, 512);
    assert_int_equal(gyre__load_relaxed(&objects[i]->shared), 0x1234560);
  }
  assert_int_equal(heap_stats().committed_bytes, committed);
  for (unsigned i = 0; i < OBJECTS; i++)
    header_free(objects[i]);
}

static void pinned_object_pages_stay(void **state) {
  (void)state;
  enum { OBJECTS = 1000 };
  static gyre__header *objects[OBJECTS];
  for (unsigned i = 0; i < OBJECTS; i++)
    objects[i] = header_new(GYRE__TRACKED, 512);
  size_t committed = heap_stats().committed_bytes;
  gyre__heap_pin();
  for (unsigned i = 0; i < OBJECTS; i++)
    header_free(objects[i]);
  assert_int_equal(gyre_purge(), 0);
  assert_int_equal(heap_stats().committed_bytes, committed);
  for (unsigned i = 0; i < OBJECTS; i++)
    assert_int_equal(gyre__page_of(objects[i])->kind, GYRE__TRACKED);
  gyre__heap_unpin();
  assert_int_equal(gyre_purge(), 0);
  assert_int_equal(heap_stats().committed_bytes, 0);
}

#define PURGE_TEST(f) cmocka_unit_test_setup_teardown(f, purge_setup, purge_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      PURGE_TEST(empty_pages_are_kept_until_they_are_purged),
      PURGE_TEST(purged_memory_leaves_the_process_and_its_neighbours_stay),
      PURGE_TEST(without_a_delay_pages_go_back_at_once),
      PURGE_TEST(allocating_and_freeing_at_a_page_border_takes_no_page_back_and_forth),
      PURGE_TEST(a_parked_threads_pages_are_purged),
      PURGE_TEST(an_exited_threads_pages_are_purged_when_others_have_freed_its_blocks),
      PURGE_TEST(a_thread_that_exits_leaves_its_empty_pages_to_its_heir),
      PURGE_TEST(a_running_thread_purges_at_its_safepoint),
      PURGE_TEST(a_thread_without_safepoints_is_waited_for_only_so_long),
      PURGE_TEST(a_freed_objects_header_stays_until_a_grace_period_has_passed),
      PURGE_TEST(a_page_that_becomes_an_object_page_has_zeroed_headers),
      PURGE_TEST(an_object_page_is_reused_for_its_own_kind_with_shared_words_as_they_were),
      PURGE_TEST(pinned_object_pages_stay),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
