/* SPDX-License-Identifier: MIT */
/* The library in a buffer: where things lie, what happens when it is full, how it ends. */
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arena_test.h"

static enum gyre_gc_mode mode_at_first;

#ifdef GYRE_WINDOWS
static void weak_ignored(gyre_weak *weak, void *arg) { (void)weak, (void)arg; }
#endif

/* ---- beginning and end ---- */

static void buffers_that_will_not_do_are_refused(void **state) {
  (void)state;
  assert_int_equal(gyre_init_in(NULL, 4 * MIB), -EINVAL);
  assert_int_equal(gyre_init_in(arena_memory, GYRE_ARENA_MIN - 1), -EINVAL);
  assert_int_equal(gyre_init_in(arena_memory, SIZE_MAX), -EINVAL);
  arena_begin(0, GYRE_ARENA_MIN);
  assert_int_equal(gyre_init_in(arena_memory + 8 * MIB, 4 * MIB), -EBUSY);
  arena_end();
}

static void the_buffer_goes_back_and_another_may_be_used(void **state) {
  (void)state;
  for (size_t i = 0; i < 20; i++) {
    arena_begin(i * 4099, (1 + i % 5) * MIB + i * 777);
    node *n = ring_new(&node_type, 3);
    gyre_weak *weak = gyre_weak_new(n, NULL, NULL);
    assert_non_null(weak);
    void *block = gyre_malloc(100000);
    assert_non_null(block);
    gyre_release(n);
    gyre_free(block);
    assert_int_equal(gyre_gc_collect(2), 3);
    assert_true(gyre_weak_is_dead(weak));
    gyre_weak_free(weak);
    arena_end();
  }
}

static void what_is_alive_at_the_end_is_counted_and_gone(void **state) {
  (void)state;
  test_log_capture();
  arena_begin(0, 2 * MIB);
  (void)node_new(&node_type, 1);
  (void)gyre_malloc(5000);
  assert_int_equal(gyre_fini(), 1);
  gyre_set_log(NULL, NULL);
  arena_begin(64, 2 * MIB);
  assert_int_equal(test_heap_stats().live_blocks, 0);
  /* The type is known anew. */
  gyre_release(node_new(&node_type, 1));
  arena_end();
}

/* ---- where things lie ---- */

/* In the piece of address space that NULL is in: where small systems have their memory, and where programs
 * lie under Valgrind. */
static void an_arena_may_lie_in_the_first_piece(void **state) {
  (void)state;
  char *low = mmap((void *)(uintptr_t)MIB, 2 * MIB, PROT_READ | PROT_WRITE, /* NOLINT: an address */
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (low != (char *)(uintptr_t)MIB) skip(); /* NOLINT: as above */
  assert_int_equal(gyre_init_in(low, 2 * MIB), 0);
  char *block = gyre_malloc(100);
  assert_in_range((uintptr_t)block, (uintptr_t)low, (uintptr_t)low + 2 * MIB);
  gyre_free(NULL);
  gyre_free_sized(NULL, 0);
  gyre_thread_free(gyre_thread_current(), NULL);
  assert_int_equal(gyre_usable_size(NULL), 0);
  block = gyre_realloc(block, 200);
  gyre_free(block);
  block = gyre_realloc(NULL, 10);
  assert_non_null(block);
  gyre_free(block);
  node *ring = ring_new(&node_type, 3);
  gyre_release(ring);
  assert_int_equal(gyre_gc_collect(2), 3);
  assert_int_equal(gyre_fini(), 0);
  assert_int_equal(munmap(low, 2 * MIB), 0);
}

static void everything_lies_in_the_buffer(void **state) {
  (void)state;
  arena_begin(12345, 6 * MIB);
  assert_true(arena_has(gyre_thread_current(), GYRE__SLOT_BYTES));
  arena_work(20);
  arena_end();
}

static void an_arena_may_lie_across_pieces_of_address_space(void **state) {
  (void)state;
  uintptr_t edge = ((uintptr_t)arena_memory + 8 * MIB) & ~(uintptr_t)(4 * MIB - 1);
  size_t to_edge = (size_t)(edge - (uintptr_t)arena_memory);
  for (size_t before = MIB / 2; before < 4 * MIB; before += 700001) {
    arena_begin(to_edge - before, before + 2 * MIB);
    arena_work(2);
    /* Large blocks that cross the edge. */
    char *large = gyre_malloc(before + MIB / 2);
    assert_non_null(large);
    assert_true(arena_has(large, before + MIB / 2));
    memset(large, 0x77, before + MIB / 2);
    test_check();
    gyre_free(large);
    arena_end();
  }
}

static void a_large_arena_has_large_blocks(void **state) {
  (void)state;
  arena_begin(0, 64 * MIB);
  char *a = gyre_malloc(20 * MIB);
  char *b = gyre_malloc(30 * MIB);
  assert_true(a != NULL && b != NULL);
  assert_null(gyre_malloc(20 * MIB));
  memset(a, 1, 20 * MIB);
  memset(b, 2, 30 * MIB);
  gyre_free(a);
  /* In place, and cleared although it was used. */
  char *zeroed = gyre_calloc(1, 10 * MIB);
  assert_non_null(zeroed);
  for (size_t i = 0; i < 10 * MIB; i += 100)
    assert_int_equal(zeroed[i], 0);
  char *grown = gyre_realloc(zeroed, 18 * MIB);
  assert_ptr_equal(grown, zeroed);
  grown = gyre_realloc(grown, 100000);
  assert_ptr_equal(grown, zeroed);
  test_check();
  a = gyre_malloc(15 * MIB);
  assert_non_null(a);
  gyre_free(a);
  gyre_free(b);
  gyre_free(grown);
  arena_end();
}

/* ---- full ---- */

struct chunk {
  struct chunk *next;
  size_t size;
  unsigned char bytes[];
};

/* Blocks of that size until there are no more. Returns their bytes. */
static size_t fill(struct chunk **list, size_t size) {
  size_t sum = 0;
  for (struct chunk *c; (c = gyre_malloc(size)) != NULL; sum += size) {
    c->next = *list;
    c->size = size;
    memset(c->bytes, (int)size & 255, size - sizeof *c);
    *list = c;
  }
  assert_int_equal(errno, ENOMEM);
  return sum;
}

static void empty(struct chunk **list) {
  while (*list != NULL) {
    struct chunk *c = *list;
    *list = c->next;
    for (size_t i = 0; i < c->size - sizeof *c; i++)
      assert_int_equal(c->bytes[i], (unsigned char)c->size);
    gyre_free(c);
  }
}

static void a_full_arena_says_enomem_and_serves_all_sizes_again(void **state) {
  (void)state;
  test_option_set("quarantine", "0");
  arena_begin(100, 4 * MIB);
  static const size_t sizes[] = {48, 1000, 20000, 65000, 200000, 48};
  struct chunk *list = NULL;
  size_t sums[6];
  for (size_t i = 0; i < 6; i++) {
    sums[i] = fill(&list, sizes[i]);
    /* Most of it is used, whatever the size. */
    assert_true(sums[i] > 2 * MIB);
    test_check();
    empty(&list);
  }
  assert_true(sums[5] > sums[0] - 200000);
  arena_end();
}

static void objects_fill_it_and_leave_it(void **state) {
  (void)state;
  arena_begin(0, 2 * MIB);
  for (int round = 0; round < 4; round++) {
    gyre_type *type = round % 2 == 0 ? &plain_type : &leaf_type;
    node *first = NULL;
    size_t count = 0;
    for (node *n; (n = gyre_new(type)) != NULL; count++) {
      if (type == &plain_type) {
        gyre_slot_init(&n->next, first);
      } else {
        n->tag = (uint64_t)(uintptr_t)first;
      }
      first = n;
    }
    assert_int_equal(errno, ENOMEM);
    assert_true(count > 10000);
    test_check();
    if (type == &plain_type) gyre_release(first);
    while (type == &leaf_type && first != NULL) {
      node *next = (node *)(uintptr_t)first->tag;
      gyre_release(first);
      first = next;
    }
    /* Objects' pages want a grace period before they serve another kind. */
    while (test_heap_stats().live_blocks != 0)
      gyre_safepoint();
    assert_int_equal(gyre_purge(), 0);
  }
  arena_end();
}

static void a_full_arena_is_collected_if_allocations_may(void **state) {
  (void)state;
  test_option_set("alloc_is_safepoint", "1");
  arena_begin(0, 2 * MIB);
  uint64_t before = nodes_destroyed();
  /* Ten times what there is room for, of which nothing goes by itself; then three times, of those that count. */
  for (size_t i = 0; i < 100000; i++)
    ring_drop(&plain_type, 3);
  for (size_t i = 0; i < 50000; i++)
    ring_drop(&node_type, 2);
  assert_true(nodes_destroyed() > before);
  /* What it was used for does not matter. */
  void *block = gyre_malloc(MIB / 2);
  assert_non_null(block);
  gyre_free(block);
  struct gyre_gc_stats stats = {.size = sizeof stats};
  assert_int_equal(gyre_gc_get_stats(2, &stats), 0);
  assert_true(stats.collections > 5);
  arena_end();
}

static void without_the_option_it_is_not(void **state) {
  (void)state;
  arena_begin(0, 2 * MIB);
  size_t made = 0;
  for (node *n; (n = gyre_new(&plain_type)) != NULL; made++) {
    gyre_store(&n->next, n);
    gyre_release(n);
  }
  assert_true(made > 10000);
  /* What a collection needs was set aside. */
  assert_int_equal(gyre_gc_collect(2), made);
  gyre_release(node_new(&plain_type, 0));
  arena_end();
}

static struct chunk *spare;
static unsigned asked;

static int give_up(size_t size, void *arg) {
  (void)size, (void)arg;
  asked++;
  if (spare == NULL) return 0;
  struct chunk *c = spare;
  spare = c->next;
  gyre_free(c);
  return 1;
}

static void the_programs_handler_is_asked(void **state) {
  (void)state;
  test_option_set("quarantine", "0");
  arena_begin(0, 2 * MIB);
  (void)fill(&spare, 100000);
  struct chunk *first = spare;
  asked = 0;
  gyre_set_oom_handler(give_up, NULL);
  void *block = gyre_malloc(100000);
  assert_ptr_equal(block, first);
  assert_int_equal(asked, 1);
  gyre_set_oom_handler(NULL, NULL);
  gyre_free(block);
  empty(&spare);
  arena_end();
}

/* ---- figures ---- */

static void the_figures_add_up(void **state) {
  (void)state;
  test_option_set("quarantine", "0");
  arena_begin(0, 4 * MIB);
  size_t total = gyre_mem_alloc() + (size_t)gyre_mem_free();
  assert_true(total > 3 * MIB && total < 4 * MIB);
  static const size_t sizes[] = {16, 500, 9000, 65536, 300000};
  void *blocks[5];
  for (size_t i = 0; i < 5; i++) {
    size_t used = gyre_mem_alloc();
    blocks[i] = gyre_malloc(sizes[i]);
    assert_true(gyre_mem_alloc() >= used + sizes[i]);
    assert_true(gyre_mem_alloc() <= used + sizes[i] + sizes[i] / 4 + 65536);
    assert_int_equal(gyre_mem_alloc() + (size_t)gyre_mem_free(), total);
  }
  for (size_t i = 0; i < 5; i++)
    gyre_free(blocks[i]);
  assert_int_equal(gyre_mem_alloc(), 0);
  assert_int_equal(gyre_mem_free(), total);
  arena_end();
}

static uint64_t full_collections(void) {
  struct gyre_gc_stats stats = {.size = sizeof stats};
  TEST_REQUIRE(gyre_gc_get_stats(2, &stats) == 0);
  return stats.collections;
}

/* Drops rings until that many bytes of them have been made. */
static void make_garbage(size_t bytes) {
  for (size_t made = 0; made < bytes; made += 2 * 48) {
    ring_drop(&plain_type, 2);
    gyre_safepoint();
  }
}

static void a_collection_is_due_after_so_many_bytes(void **state) {
  (void)state;
  arena_begin(0, 8 * MIB);
  assert_int_equal(gyre_mem_threshold(-1), 2 * MIB);
  (void)gyre_gc_enable();
  int thresholds[] = {1 << 30, 1 << 10, 1 << 10};
  assert_int_equal(gyre_gc_set_threshold(thresholds, 3), 0);
  assert_int_equal(gyre_mem_threshold((ptrdiff_t)(MIB / 2)), 2 * MIB);
  uint64_t before = full_collections();
  make_garbage(5 * MIB);
  uint64_t after = full_collections();
  /* One each half megabyte, give or take the page that is under way. */
  assert_in_range(after - before, 7, 12);
  assert_int_equal(gyre_mem_threshold(0), MIB / 2);
  make_garbage(3 * MIB);
  assert_int_equal(full_collections(), after);
  /* What counts free in time does not count. */
  assert_int_equal(gyre_mem_threshold((ptrdiff_t)(MIB / 2)), 0);
  (void)gyre_gc_collect(2);
  after = full_collections();
  for (size_t i = 0; i < 100000; i++) {
    gyre_release(node_new(&plain_type, i));
    gyre_free(gyre_malloc(1000));
    gyre_safepoint();
  }
  assert_int_equal(full_collections(), after);
  int usual[] = {2000, 10, 10};
  assert_int_equal(gyre_gc_set_threshold(usual, 3), 0);
  arena_end();
}

/* ---- threads ---- */

static void *thread_works(void *arg) {
  struct test_random random = test_random_new((uint64_t)(uintptr_t)arg);
  void *blocks[64] = {0};
  for (unsigned i = 0; i < 5000; i++) {
    unsigned at = test_random_below(&random, 64);
    gyre_free(blocks[at]);
    size_t size = test_random_below(&random, 20) == 0 ? 70000 : test_random_below(&random, 3000);
    blocks[at] = gyre_malloc(size);
    if (blocks[at] != NULL) memset(blocks[at], (int)at, size);
    if (i % 10 == 0) {
      node *n = gyre_new(&node_type);
      if (n != NULL) gyre_store(&n->next, n);
      gyre_release(n);
    }
    gyre_safepoint();
  }
  for (unsigned at = 0; at < 64; at++)
    gyre_free(blocks[at]);
  return NULL;
}

static void threads_share_it(void **state) {
  (void)state;
  arena_begin(4096, 16 * MIB);
  (void)gyre_gc_enable();
  uint64_t before = nodes_destroyed();
  pthread_t threads[4];
  for (uintptr_t i = 0; i < 4; i++)
    threads[i] = test_thread_start(thread_works, (void *)(i + 1));
  (void)thread_works(NULL);
  for (int i = 0; i < 4; i++)
    (void)test_thread_join(threads[i]);
  (void)gyre_gc_collect(2);
  assert_true(nodes_destroyed() > before);
  assert_int_equal(gyre_purge(), 0);
  assert_int_equal(test_heap_stats().live_blocks, 0);
  arena_end();
}

/* Blocks go from hand to hand, so that pages hear of frees by others while they empty and change hands. */
#define MAIL 256
static struct {
  gyre__atomic_ptr box[MAIL];
  test_flag stop;
} mail;

static void *thread_trades(void *arg) {
  struct test_random random = test_random_new(100 + (uint64_t)(uintptr_t)arg);
  for (unsigned i = 0; i < 20000; i++) {
    size_t size = 16 + test_random_below(&random, 60) * test_random_below(&random, 60);
    unsigned char *block = gyre_malloc(size);
    if (block != NULL) block[0] = block[size - 1] = (unsigned char)size;
    gyre__atomic_ptr *box = &mail.box[test_random_below(&random, MAIL)];
    /* acq_rel: the block, both ways; pairs with itself. */
    gyre_free(gyre__exchange_acq_rel(box, (void *)block));
    if (i % 64 == 0) gyre_safepoint();
    if (i % 1000 == 0) TEST_REQUIRE(gyre_purge() == 0 || !gyre_thread_current());
  }
  return NULL;
}

static void blocks_that_others_free_come_home(void **state) {
  (void)state;
  arena_begin(0, 8 * MIB);
  pthread_t threads[3];
  for (uintptr_t i = 0; i < 3; i++)
    threads[i] = test_thread_start(thread_trades, (void *)i);
  for (int i = 0; i < 3; i++)
    (void)test_thread_join(threads[i]);
  for (int i = 0; i < MAIL; i++) {
    /* acquire: as above. */
    gyre_free(gyre__load_acquire(&mail.box[i]));
    gyre__store_release(&mail.box[i], NULL); /* release: for the next run. */
  }
  assert_int_equal(gyre_purge(), 0);
  test_check();
  assert_int_equal(gyre_mem_alloc(), 0);
  assert_int_equal(test_heap_stats().cached_bytes, 0);
  arena_end();
}

static test_event parked = TEST_EVENT_INIT, go_on = TEST_EVENT_INIT;

static void *thread_is_parked(void *arg) {
  (void)gyre_thread_attach();
  gyre_park();
  test_event_set(&parked);
  test_event_wait(&go_on);
  gyre_unpark();
  return arg;
}

static void fini_waits_until_others_have_detached(void **state) {
  (void)state;
  arena_begin(0, 2 * MIB);
  test_event_reset(&parked);
  test_event_reset(&go_on);
  pthread_t thread = test_thread_start(thread_is_parked, NULL);
  test_event_wait_parked(&parked);
  assert_int_equal(gyre_fini(), -EBUSY);
  assert_true(arena_has(gyre_thread_current(), 1));
  test_event_set(&go_on);
  (void)test_thread_join(thread);
  arena_end();
}

static void child_works(void *arg) {
  (void)arg;
  arena_work(3);
}

static void a_forked_child_has_its_own(void **state) {
  (void)state;
  arena_begin(0, 6 * MIB);
  node *n = ring_new(&node_type, 10);
  test_in_child(child_works, NULL);
  gyre_release(n);
  assert_int_equal(gyre_gc_collect(2), 10);
  arena_end();
}

static void collections_may_run_beside_it(void **state) {
  (void)state;
  arena_begin(0, 48 * MIB); /* large enough for logs of young objects, too */
  assert_int_equal(gyre_gc_set_mode(GYRE_GC_CONCURRENT), 0);
  (void)gyre_gc_enable();
  uint64_t before = nodes_destroyed();
  pthread_t threads[3];
  for (uintptr_t i = 0; i < 3; i++)
    threads[i] = test_thread_start(thread_works, (void *)(i + 11));
  for (int i = 0; i < 5; i++)
    assert_true(gyre_gc_collect(i % 3) >= 0);
  for (int i = 0; i < 3; i++)
    (void)test_thread_join(threads[i]);
  (void)gyre_gc_collect(2);
  assert_true(nodes_destroyed() > before);
  arena_end();
  /* The mode was the arena's. */
  assert_int_equal(gyre_gc_get_mode(), mode_at_first);
}

static void counts_may_be_off_in_it(void **state) {
  (void)state;
  test_option_set("rc", "off");
  arena_begin(0, 4 * MIB);
  uint64_t before = nodes_destroyed();
  for (size_t i = 0; i < 5000; i++)
    gyre_release(node_new(i % 2 ? &leaf_type : &node_type, i));
  assert_int_equal(nodes_destroyed(), before);
  (void)gyre_gc_collect(1);
  assert_int_equal(nodes_destroyed(), before + 5000);
  arena_end();
}

/* ---- allocators of the program's ---- */

static struct gyre_allocator inner;
static size_t outer_calls;

static void *outer_malloc(void *ctx, size_t size) {
  outer_calls++;
  (void)ctx;
  return inner.malloc(inner.ctx, size);
}

static void the_programs_allocator_serves_from_the_beginning(void **state) {
  (void)state;
  inner.size = sizeof inner;
  assert_int_equal(gyre_get_allocator(GYRE_DOMAIN_MEM, &inner), 0);
  struct gyre_allocator outer = inner;
  outer.malloc = outer_malloc;
  assert_int_equal(gyre_set_allocator(GYRE_DOMAIN_MEM, &outer), 0);
  arena_begin(0, 6 * MIB);
  outer_calls = 0;
  arena_work(2);
  assert_true(outer_calls >= 80);
  /* The C library has no part in an arena. */
  void *raw = gyre_raw_malloc(1000);
  assert_true(arena_has(raw, 1000));
  raw = gyre_raw_realloc(raw, 100000);
  assert_true(arena_has(raw, 100000));
  gyre_raw_free(raw);
  assert_int_equal(gyre_set_allocator(GYRE_DOMAIN_MEM, &inner), 0);
  arena_end();
}

static void many_objects_have_weak_references(void **state) {
  (void)state;
  enum { COUNT = 5000 };
  static node *nodes[COUNT];
  static gyre_weak *weaks[COUNT];
  arena_begin(0, 4 * MIB);
  for (size_t i = 0; i < COUNT; i++) {
    nodes[i] = node_new(&node_type, i);
    weaks[i] = gyre_weak_new(nodes[i], NULL, NULL);
    assert_non_null(weaks[i]);
    assert_ptr_equal(gyre_weak_new(nodes[i], NULL, NULL), weaks[i]);
    gyre_weak_free(weaks[i]);
  }
  for (size_t i = 0; i < COUNT; i += 2)
    gyre_release(nodes[i]);
  for (size_t i = 0; i < COUNT; i++) {
    node *n = gyre_weak_get(weaks[i]);
    assert_ptr_equal(n, i % 2 == 0 ? NULL : nodes[i]);
    gyre_release(n);
    if (i % 2 != 0) gyre_release(nodes[i]);
    assert_true(gyre_weak_is_dead(weaks[i]));
    gyre_weak_free(weaks[i]);
  }
  arena_end();
}

/* ---- random ---- */

static void random_blocks_keep_their_contents(void **state) {
  (void)state;
  enum { SLOTS = 300 };
  static struct {
    unsigned char *block;
    size_t size;
  } slots[SLOTS];
  arena_begin(777, 5 * MIB);
  struct test_random random = test_random_new(7);
  uint64_t steps = test_size("GYRE_TEST_STEPS", 100000, 30000, 10000);
  size_t failures = 0;
  for (uint64_t step = 0; step < steps; step++) {
    unsigned at = test_random_below(&random, SLOTS);
    size_t size = (size_t)1 << test_random_below(&random, test_random_below(&random, 3) ? 12 : 20);
    size += test_random_below(&random, (uint32_t)size);
    unsigned tag = at & 255;
    for (size_t i = 0; i < slots[at].size; i += 61)
      assert_int_equal(slots[at].block[i], tag);
    unsigned char *block = NULL;
    switch (test_random_below(&random, 3)) {
    case 0:
      block = gyre_realloc(slots[at].block, size);
      if (block == NULL) {
        failures++;
        continue;
      }
      for (size_t i = 0; i < slots[at].size && i < size; i += 61)
        assert_int_equal(block[i], tag);
      break;
    case 1:
      gyre_free(slots[at].block);
      block = gyre_malloc(size);
      break;
    default:
      gyre_free(slots[at].block);
      slots[at].block = NULL;
      slots[at].size = 0;
      continue;
    }
    failures += block == NULL;
    slots[at].block = block;
    slots[at].size = block != NULL ? size : 0;
    if (block != NULL) memset(block, (int)tag, size);
    if (step % 5000 == 0) test_check();
  }
  assert_true(failures > 0);
  for (unsigned at = 0; at < SLOTS; at++)
    gyre_free(slots[at].block);
  memset(slots, 0, sizeof slots);
  arena_end();
}

/* ---- every allocation fails in turn ---- */

#ifdef GYRE_WINDOWS
/* A little of everything; what cannot be had is done without. Nothing is left. */
static void work_as_far_as_it_goes(void) {
  char *blocks[6];
  static const size_t sizes[] = {1, 100, 5000, 60000, 100000, 900000};
  for (size_t i = 0; i < 6; i++) {
    blocks[i] = gyre_malloc(sizes[i]);
    if (blocks[i] == NULL) continue;
    memset(blocks[i], 9, sizes[i]);
    char *larger = gyre_realloc(blocks[i], 2 * sizes[i]);
    if (larger != NULL) blocks[i] = larger;
    assert_int_equal(blocks[i][sizes[i] - 1], 9);
  }
  node *n = gyre_new(&node_type);
  gyre_weak *weak = n != NULL ? gyre_weak_new(n, weak_ignored, NULL) : NULL;
  if (n != NULL) gyre_store(&n->next, n);
  gyre_release(n);
  ptrdiff_t found = gyre_gc_collect(2);
  assert_true(found >= 0 || found == -ENOMEM);
  gyre_weak_free(weak);
  for (size_t i = 0; i < 6; i++)
    gyre_free(blocks[i]);
}
#endif

static void every_allocation_may_fail(void **state) {
  (void)state;
#ifdef GYRE_WINDOWS
  bool failed = true;
  for (uint64_t nth = 1; failed; nth++) {
    arena_begin(0, 6 * MIB);
    gyre__fault_arm(nth, 0);
    work_as_far_as_it_goes();
    failed = gyre__fault_count() >= nth;
    gyre__fault_arm(0, 0);
    (void)gyre_gc_collect(2);
    arena_end();
  }
#endif
}

static void a_beginning_that_fails_leaves_nothing(void **state) {
  (void)state;
#ifdef GYRE_WINDOWS
  int result = -1;
  for (uint64_t nth = 1; result != 0; nth++) {
    gyre__fault_arm(nth, 0);
    result = gyre_init_in(arena_memory, 4 * MIB);
    gyre__fault_arm(0, 0);
    if (result == 0) break;
    assert_true(result == -EINVAL || result == -EAGAIN);
    assert_int_equal(test_thread_stats().slots_high_water, 0);
    assert_null(gyre_thread_current());
  }
  assert_int_equal(gyre_fini(), 0);
#endif
}

/* ---- without an arena ---- */

static void afterwards_the_library_works_without_one(void **state) {
  (void)state;
  arena_begin(0, 2 * MIB);
  arena_end();
  node *n = ring_new(&node_type, 5);
  assert_false(arena_has(n, 1));
  assert_int_equal(gyre_mem_free(), -ENOTSUP);
  assert_true(gyre_mem_alloc() > 0);
  gyre_heap_set_limit(64 * MIB);
  assert_true(gyre_mem_free() > 0 && gyre_mem_free() < (ptrdiff_t)(64 * MIB));
  gyre_heap_set_limit(0);
  assert_int_equal(gyre_mem_threshold(-1), 0);
  gyre_release(n);
  assert_int_equal(gyre_gc_collect(2), 5);
  assert_int_equal(gyre_init_in(arena_memory, 2 * MIB), -EBUSY);
  assert_int_equal(gyre_fini(), 0);
}

#define PLAIN(name) cmocka_unit_test_teardown(name, options_back)
static int options_back(void **state) {
  (void)state;
  test_options_put_back();
  return 0;
}

int main(void) {
  mode_at_first = gyre_gc_get_mode();
  const struct CMUnitTest tests[] = {
      PLAIN(buffers_that_will_not_do_are_refused),
      PLAIN(the_buffer_goes_back_and_another_may_be_used),
      PLAIN(what_is_alive_at_the_end_is_counted_and_gone),
      PLAIN(an_arena_may_lie_in_the_first_piece),
      PLAIN(everything_lies_in_the_buffer),
      PLAIN(an_arena_may_lie_across_pieces_of_address_space),
      PLAIN(a_large_arena_has_large_blocks),
      PLAIN(a_full_arena_says_enomem_and_serves_all_sizes_again),
      PLAIN(objects_fill_it_and_leave_it),
      PLAIN(a_full_arena_is_collected_if_allocations_may),
      PLAIN(without_the_option_it_is_not),
      PLAIN(the_programs_handler_is_asked),
      PLAIN(the_figures_add_up),
      PLAIN(a_collection_is_due_after_so_many_bytes),
      PLAIN(threads_share_it),
      PLAIN(blocks_that_others_free_come_home),
      PLAIN(fini_waits_until_others_have_detached),
      PLAIN(a_forked_child_has_its_own),
      PLAIN(collections_may_run_beside_it),
      PLAIN(counts_may_be_off_in_it),
      PLAIN(many_objects_have_weak_references),
      PLAIN(the_programs_allocator_serves_from_the_beginning),
      PLAIN(random_blocks_keep_their_contents),
      PLAIN(every_allocation_may_fail),
      PLAIN(a_beginning_that_fails_leaves_nothing),
      PLAIN(afterwards_the_library_works_without_one),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
