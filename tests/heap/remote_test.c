/* SPDX-License-Identifier: MIT */
/* Blocks freed by threads that did not allocate them, and heaps whose thread is gone. */
#include "heap_test.h"

#define BLOCKS 5000

struct parcel {
  void *blocks[BLOCKS];
  size_t size;
};

static void *make_parcel(void *arg) {
  struct parcel *parcel = arg;
  for (unsigned i = 0; i < BLOCKS; i++) {
    parcel->blocks[i] = gyre_malloc(parcel->size);
    fill(parcel->blocks[i], parcel->size, i);
  }
  return NULL;
}

static void *free_parcel(void *arg) {
  struct parcel *parcel = arg;
  for (unsigned i = 0; i < BLOCKS; i++) {
    assert_true(holds(parcel->blocks[i], parcel->size, i));
    gyre_free(parcel->blocks[i]);
  }
  return NULL;
}

static void blocks_freed_by_another_thread_are_used_again(void **state) {
  (void)state;
  static struct parcel parcel = {.size = 200};
  make_parcel(&parcel);
  size_t committed = heap_stats().committed_bytes;
  for (int round = 0; round < 10; round++) {
    in_thread(free_parcel, &parcel);
    make_parcel(&parcel);
    assert_true(heap_stats().committed_bytes <= committed + 65536);
  }
  free_parcel(&parcel);
}

static void blocks_of_a_thread_that_exited_can_be_freed(void **state) {
  (void)state;
  static struct parcel parcel = {.size = 500};
  in_thread(make_parcel, &parcel);
  free_parcel(&parcel);
}

static void the_next_thread_inherits_the_heap_with_its_free_blocks(void **state) {
  (void)state;
  static struct parcel first = {.size = 100}, second = {.size = 100};
  in_thread(make_parcel, &first);
  uint32_t slots = gyre__thread_slot_count();
  void *kept = first.blocks[0];
  first.blocks[0] = gyre_malloc(100);
  fill(first.blocks[0], 100, 0);
  free_parcel(&first);
  in_thread(make_parcel, &second);
  assert_int_equal(gyre__thread_slot_count(), slots);
  assert_ptr_equal(gyre__segment_of(second.blocks[0])->owner, gyre__segment_of(kept)->owner);
  assert_true(holds(kept, 100, 0));
  gyre_free(kept);
  free_parcel(&second);
}

/* ---- producers and consumers ---- */

#define RING 256
struct ring {
  GYRE_ATOMIC(void *) cells[RING];
  unsigned count;
  size_t size;
};

static void *produce(void *arg) {
  struct ring *ring = arg;
  for (unsigned i = 0; i < ring->count; i++) {
    char *block = gyre_malloc(ring->size + i % 64);
    fill(block, ring->size, i);
    /* acquire, release: hand the block over; pair with those in consume(). */
    while (gyre__load_acquire(&ring->cells[i % RING]) != NULL)
      gyre_safepoint();
    gyre__store_release(&ring->cells[i % RING], block);
  }
  return NULL;
}

static void *consume(void *arg) {
  struct ring *ring = arg;
  for (unsigned i = 0; i < ring->count; i++) {
    char *block;
    /* acquire, release: pair with those in produce(). */
    while ((block = gyre__load_acquire(&ring->cells[i % RING])) == NULL)
      gyre_safepoint();
    gyre__store_release(&ring->cells[i % RING], NULL);
    assert_true(holds(block, ring->size, i));
    gyre_free(block);
  }
  return NULL;
}

static void a_producer_reuses_what_its_consumer_frees(void **state) {
  (void)state;
  static struct ring ring = {.count = 50000, .size = 300};
  pthread_t consumer = thread_start(consume, &ring);
  produce(&ring);
  thread_join(consumer);
  /* What was alive at once, and some pages to each class, but not all that was ever allocated. */
  assert_true(heap_stats().committed_bytes < (size_t)2 << 20);
}

static void many_pairs_of_producers_and_consumers_lose_nothing(void **state) {
  (void)state;
  static struct ring rings[3];
  pthread_t threads[6];
  for (unsigned i = 0; i < 3; i++) {
    rings[i].count = 10000;
    rings[i].size = 16 + i * 3000;
    threads[2 * i] = thread_start(produce, &rings[i]);
    threads[2 * i + 1] = thread_start(consume, &rings[i]);
  }
  for (unsigned i = 0; i < 6; i++)
    thread_join(threads[i]);
}

/* ---- one page, many freers ---- */

struct share {
  void **blocks;
  unsigned from, count, step;
  meeting *start;
};

static void *free_share(void *arg) {
  struct share *share = arg;
  assert_non_null(gyre_thread_attach());
  meet(share->start);
  for (unsigned i = share->from; i < share->count; i += share->step)
    gyre_free(share->blocks[i]);
  return NULL;
}

/* Full pages, whose first remote free tells the owner, freed from all sides while the owner
 * allocates. */
static void the_owner_hears_once_of_a_full_page_that_many_free_into(void **state) {
  (void)state;
  enum { COUNT = 4096, FREERS = 3 };
  static void *blocks[COUNT], *more[COUNT];
  meeting start;
  meeting_init(&start, FREERS + 1);
  for (int round = 0; round < 20; round++) {
    pthread_t threads[FREERS];
    struct share shares[FREERS];
    for (unsigned i = 0; i < COUNT; i++)
      blocks[i] = gyre_malloc(1024);
    for (unsigned t = 0; t < FREERS; t++) {
      shares[t] = (struct share){blocks, t, COUNT, FREERS + 1, &start};
      threads[t] = thread_start(free_share, &shares[t]);
    }
    meet(&start);
    for (unsigned i = 0; i < COUNT; i++) {
      more[i] = gyre_malloc(1024);
      if (i % (FREERS + 1) == FREERS) gyre_free(blocks[i]);
    }
    for (unsigned i = 0; i < COUNT; i++)
      gyre_free(more[i]);
    for (unsigned t = 0; t < FREERS; t++)
      thread_join(threads[t]);
    check_all_heaps();
  }
}

/* ---- chains ---- */

static void *free_as_chain(void *arg) {
  struct parcel *parcel = arg;
  struct gyre__page *page = gyre__page_of(parcel->blocks[0]);
  void *last = parcel->blocks[0];
  uint32_t count = 1;
  while (gyre__page_of(parcel->blocks[count]) == page) {
    gyre__link_set(last, GYRE__RAW, parcel->blocks[count]);
    last = parcel->blocks[count++];
  }
  gyre__heap_free_chain(gyre__heap_self(), page, parcel->blocks[0], last, count);
  for (unsigned i = count; i < BLOCKS; i++)
    gyre_free(parcel->blocks[i]);
  return NULL;
}

static void a_chain_of_blocks_is_freed_in_one_go(void **state) {
  (void)state;
  static struct parcel parcel = {.size = 512};
  make_parcel(&parcel);
  free_as_chain(&parcel);
  check_all_heaps();
  make_parcel(&parcel);
  in_thread(free_as_chain, &parcel);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      HEAP_TEST(blocks_freed_by_another_thread_are_used_again),
      HEAP_TEST(blocks_of_a_thread_that_exited_can_be_freed),
      HEAP_TEST(the_next_thread_inherits_the_heap_with_its_free_blocks),
      HEAP_TEST(a_producer_reuses_what_its_consumer_frees),
      HEAP_TEST(many_pairs_of_producers_and_consumers_lose_nothing),
      HEAP_TEST(the_owner_hears_once_of_a_full_page_that_many_free_into),
      HEAP_TEST(a_chain_of_blocks_is_freed_in_one_go),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
