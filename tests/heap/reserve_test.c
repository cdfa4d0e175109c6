/* SPDX-License-Identifier: MIT */
/* The reserve: runs are cut, joined, kept for the purge delay and unmapped, and what was charged goes
 * along with them. */
#include <sys/mman.h>

#include "heap_test.h"
#include "lib/heap/page.h"

#define GRANULE GYRE__SEGMENT_SIZE

static int reserve_setup(void **state) {
  assert_int_equal(gyre_option_set("purge_delay_ms", "4294967295"), 0);
  return heap_setup(state);
}

static int reserve_teardown(void **state) {
  assert_int_equal(gyre_option_set("purge_delay_ms", "1000"), 0);
  assert_int_equal(gyre_option_set("purge", "dontneed"), 0);
  return heap_teardown(state);
}

static size_t cached(void) { return gyre__load_relaxed(&gyre__memory.reserve_bytes); }

static size_t resident_bytes(const char *address, size_t size) {
  static unsigned char pages[64 * 1024];
  size_t page_size = gyre__os_page_size(), resident = 0;
  assert_true(size / page_size <= sizeof pages);
  assert_int_equal(mincore((void *)(uintptr_t)address, size, pages), 0);
  for (size_t i = 0; i < size / page_size; i++)
    resident += pages[i] & 1 ? page_size : 0;
  return resident;
}

static struct gyre__run take(size_t granules) {
  struct gyre__run run;
  assert_true(gyre__reserve_take(granules, GRANULE, &run));
  return run;
}

/* Has so many bytes at the start of the run charged, and touches them. */
static void charge(struct gyre__run *run, size_t bytes) {
  assert_true(bytes >= run->charged && gyre__memory_charge(bytes - run->charged));
  run->charged = bytes;
  run->dirty = true;
  memset(run->base, 1, bytes);
}

static struct gyre__run part_of(const struct gyre__run *run, size_t from, size_t granules) {
  size_t start = from * GRANULE, size = granules * GRANULE, charged = 0;
  if (run->charged > start) charged = run->charged - start < size ? run->charged - start : size;
  return (struct gyre__run){run->base + start, granules, charged, true, false};
}

static void give_part(const struct gyre__run *run, size_t from, size_t granules) {
  struct gyre__run part = part_of(run, from, granules);
  gyre__reserve_give(&part);
}

static void a_run_that_is_given_back_is_had_again_with_what_it_was_charged(void **state) {
  (void)state;
  struct gyre__run run = take(3);
  assert_false(run.dirty);
  assert_int_equal(run.charged, 0);
  charge(&run, 2 * GRANULE + 65536);
  gyre__reserve_give(&run);
  assert_int_equal(cached(), 2 * GRANULE + 65536);
  struct gyre__run again = take(3);
  assert_ptr_equal(again.base, run.base);
  assert_int_equal(again.charged, run.charged);
  assert_true(again.dirty);
  assert_int_equal(cached(), 0);
  gyre__reserve_give(&again);
}

static void neighbours_are_joined_and_cut(void **state) {
  (void)state;
  struct gyre__run run = take(8);
  charge(&run, 8 * GRANULE);
  give_part(&run, 0, 2);
  give_part(&run, 5, 3);
  (void)gyre__reserve_check();
  give_part(&run, 2, 3); /* joins with both */
  (void)gyre__reserve_check();
  struct gyre__run all = take(8);
  assert_ptr_equal(all.base, run.base);
  assert_int_equal(all.charged, 8 * GRANULE);
  gyre__reserve_give(&all);
  struct gyre__run five = take(5), three = take(3);
  assert_ptr_equal(five.base, run.base);
  assert_ptr_equal(three.base, run.base + 5 * GRANULE);
  assert_int_equal(cached(), 0);
  gyre__reserve_give(&three);
  gyre__reserve_give(&five);
}

static void the_smallest_run_that_suffices_is_taken(void **state) {
  (void)state;
  struct gyre__run run = take(9);
  charge(&run, 9 * GRANULE);
  give_part(&run, 0, 4);
  give_part(&run, 5, 2);
  give_part(&run, 8, 1);
  struct gyre__run two = take(2);
  assert_ptr_equal(two.base, run.base + 5 * GRANULE);
  struct gyre__run one = take(1);
  assert_ptr_equal(one.base, run.base + 8 * GRANULE);
  size_t charged;
  assert_false(gyre__reserve_take_at(run.base + 5 * GRANULE, 1, &charged));
  assert_false(gyre__reserve_take_at(run.base + GRANULE, 1, &charged));
  assert_false(gyre__reserve_take_at(run.base, 5, &charged));
  assert_true(gyre__reserve_take_at(run.base, 3, &charged));
  assert_int_equal(charged, 3 * GRANULE);
  give_part(&run, 0, 9 - 1 - 1 - 2 - 2);
  give_part(&run, 4, 1);
  gyre__reserve_give(&two);
  gyre__reserve_give(&one);
  give_part(&run, 7, 1);
}

/* What lies beyond `charged` when a run is taken would be nobody's: not in a figure, and never purged. */
static void memory_lies_where_it_is_charged(void **state) {
  (void)state;
  struct gyre__run run = take(3);
  charge(&run, GRANULE);
  struct gyre__run behind = part_of(&run, 1, 2);
  charge(&behind, GRANULE);
  give_part(&run, 0, 1);
  gyre__reserve_give(&behind);
  /* Whole, then in parts that do not end where the memory does. */
  struct gyre__run all = take(3);
  assert_int_equal(all.charged, 2 * GRANULE);
  assert_int_equal(resident_bytes(all.base, 3 * GRANULE), all.charged);
  all.charged -= GRANULE / 2;
  gyre__memory_uncharge(GRANULE / 2);
  gyre__os_purge(all.base + GRANULE / 2, GRANULE / 2);
  struct gyre__run first = {all.base, 1, GRANULE / 2, true, false};
  behind = (struct gyre__run){all.base + GRANULE, 2, GRANULE, true, false};
  gyre__reserve_give(&first);
  gyre__reserve_give(&behind);
  for (int i = 0; i < 2; i++) {
    struct gyre__run half = take(i == 0 ? 1 : 2);
    assert_true(resident_bytes(half.base, half.granules * GRANULE) <= half.charged);
    gyre__os_unmap(half.base, half.granules * GRANULE);
    gyre__memory_uncharge(half.charged);
    gyre__fetch_sub_relaxed(&gyre__memory.mapped_bytes, half.granules * GRANULE);
  }
}

static void what_nobody_wants_goes_though_its_neighbour_comes_and_goes(void **state) {
  (void)state;
  struct gyre__run run = take(4);
  charge(&run, 4 * GRANULE);
  gyre__reserve_give(&run);
  uint64_t given = gyre__clock_ns();
  struct gyre__run first = take(1);
  assert_ptr_equal(first.base, run.base);
  while (gyre__clock_ns() == given) {
  }
  gyre__reserve_give(&first);
  gyre__reserve_purge(given);
  assert_int_equal(cached(), 0);
  assert_int_equal(heap_stats().mapped_bytes, 0);
}

static void a_young_run_stays_until_its_time_has_come(void **state) {
  (void)state;
  struct gyre__run run = take(1);
  charge(&run, 65536);
  uint64_t before = gyre__clock_ns() - 1;
  gyre__reserve_give(&run);
  gyre__reserve_purge(before);
  assert_int_equal(cached(), 65536);
  gyre__reserve_purge(gyre__clock_ns());
  assert_int_equal(cached(), 0);
  assert_int_equal(heap_stats().mapped_bytes, 0);
}

static void address_space_without_memory_is_not_kept(void **state) {
  (void)state;
  struct gyre__run run = take(2);
  assert_int_equal(heap_stats().mapped_bytes, 2 * GRANULE);
  gyre__reserve_give(&run);
  assert_int_equal(heap_stats().mapped_bytes, 0);
  /* But what is left of a run whose memory was all at its start goes with the next purge. */
  run = take(2);
  charge(&run, GRANULE);
  gyre__reserve_give(&run);
  struct gyre__run first = take(1);
  assert_int_equal(cached(), 0);
  assert_int_equal(gyre_purge(), 0);
  assert_int_equal(heap_stats().mapped_bytes, GRANULE);
  gyre__reserve_give(&first);
}

static void without_a_delay_nothing_is_kept(void **state) {
  (void)state;
  assert_int_equal(gyre_option_set("purge_delay_ms", "0"), 0);
  struct gyre__run run = take(2);
  charge(&run, 2 * GRANULE);
  size_t purged = heap_stats().purged_bytes;
  gyre__reserve_give(&run);
  assert_int_equal(heap_stats().mapped_bytes, 0);
  assert_int_equal(heap_stats().committed_bytes, 0);
  assert_int_equal(heap_stats().purged_bytes, purged + 2 * GRANULE);
}

static void runs_are_aligned(void **state) {
  (void)state;
  for (size_t alignment = GRANULE; alignment <= 64 * GRANULE; alignment *= 4) {
    gyre__reserve_purge(UINT64_MAX);
    for (int i = 0; i < 2; i++) { /* fresh, and had again */
      struct gyre__run run;
      assert_true(gyre__reserve_take(2, alignment, &run));
      assert_int_equal((uintptr_t)run.base % alignment, 0);
      assert_int_equal(run.dirty, i);
      if (i == 0) charge(&run, 4096);
      gyre__reserve_give(&run);
    }
  }
}

/* ---- at random ---- */

#define RUNS 48

static void check_given(const struct gyre__run *run, size_t granules) {
  assert_int_equal(run->granules, granules);
  assert_true(run->charged <= granules * GRANULE);
  if (!run->dirty) assert_int_equal(run->charged, 0);
}

static void random_runs_add_up(void **state) {
  (void)state;
  static struct gyre__run mine[RUNS];
  uint64_t random = test_seed();
  size_t charged = 0;
  for (int i = 0; i < 20000; i++) {
    struct gyre__run *run = &mine[test_random(&random) % RUNS];
    size_t granules = 1 + (size_t)(test_random(&random) % 6);
    if (run->base == NULL) {
      *run = take(granules);
      check_given(run, granules);
      charged += run->charged;
      size_t want = (size_t)(test_random(&random) % (granules * 64 + 1)) << 16;
      if (want > run->charged) {
        charged += want - run->charged;
        assert_true(gyre__memory_charge(want - run->charged));
        run->charged = want;
      }
    } else {
      charged -= run->charged;
      run->scattered = test_random(&random) % 4 == 0;
      gyre__reserve_give(run);
      *run = (struct gyre__run){0};
    }
    if (test_random(&random) % 300 == 0) gyre__reserve_purge(gyre__clock_ns());
    assert_int_equal(charged + cached(), gyre__heap_used_bytes());
    if (i % 100 == 0) (void)gyre__reserve_check();
  }
  for (int i = 0; i < RUNS; i++)
    if (mine[i].base != NULL) gyre__reserve_give(&mine[i]);
  memset(mine, 0, sizeof mine);
}

#define RESERVE_TEST(f) cmocka_unit_test_setup_teardown(f, reserve_setup, reserve_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      RESERVE_TEST(a_run_that_is_given_back_is_had_again_with_what_it_was_charged),
      RESERVE_TEST(neighbours_are_joined_and_cut),
      RESERVE_TEST(the_smallest_run_that_suffices_is_taken),
      RESERVE_TEST(memory_lies_where_it_is_charged),
      RESERVE_TEST(what_nobody_wants_goes_though_its_neighbour_comes_and_goes),
      RESERVE_TEST(a_young_run_stays_until_its_time_has_come),
      RESERVE_TEST(address_space_without_memory_is_not_kept),
      RESERVE_TEST(without_a_delay_nothing_is_kept),
      RESERVE_TEST(runs_are_aligned),
      RESERVE_TEST(random_runs_add_up),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
