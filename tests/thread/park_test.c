/* SPDX-License-Identifier: MIT */
/* Parking, GYRE_BLOCKING, safepoints, and what happens to counts that are left with a thread that
 * does not run. */
#include <unistd.h>

#include "lib/object/object.h"
#include "tests/support/node.h"
#include "tests/support/puppet.h"

static uint32_t own_state(void) {
  /* seq_cst: the test's own thread writes it; pairs with state_set() in lib/thread. */
  return gyre__load_seq_cst(&gyre__thread_current()->state) & GYRE__SLOT_STATE;
}

static uint32_t requests_of(struct gyre__thread *slot) {
  /* seq_cst: others set bits; pairs with gyre__thread_request(). */
  return gyre__load_seq_cst(&slot->base.request);
}

/* ---- nesting ---- */

static void only_the_last_unpark_ends_a_nested_park(void **state) {
  (void)state;
  gyre_thread_attach();
  assert_int_equal(own_state(), GYRE__SLOT_RUNNING);
  gyre_park();
  gyre_park();
  gyre_park();
  assert_int_equal(own_state(), GYRE__SLOT_PARKED);
  gyre_unpark();
  gyre_unpark();
  assert_int_equal(own_state(), GYRE__SLOT_PARKED);
  gyre_unpark();
  assert_int_equal(own_state(), GYRE__SLOT_RUNNING);
}

static void an_unpark_too_many_does_nothing(void **state) {
  (void)state;
  gyre_thread_attach();
  gyre_unpark();
  assert_int_equal(own_state(), GYRE__SLOT_RUNNING);
}

static void a_safepoint_while_parked_does_nothing(void **state) {
  (void)state;
  gyre_thread_attach();
  gyre_park();
  gyre__thread_request(gyre__thread_current(), GYRE__REQ_COLLECT | GYRE__REQ_SETTLE);
  gyre_safepoint();
  assert_int_equal(requests_of(gyre__thread_current()), GYRE__REQ_COLLECT | GYRE__REQ_SETTLE);
  gyre_unpark();
  assert_int_equal(requests_of(gyre__thread_current()), 0);
}

/* ---- blocking regions ---- */

static int leaves_by_return(int value) {
  GYRE_BLOCKING {
    if (value > 0) return value;
  }
  return 0;
}

static void leaves_by_goto(void) {
  GYRE_PARKED { goto out; }
out:
  assert_int_equal(own_state(), GYRE__SLOT_RUNNING);
}

static void a_blocking_region_ends_however_it_is_left(void **state) {
  (void)state;
  gyre_thread_attach();
  unsigned runs = 0;
  GYRE_BLOCKING {
    assert_int_equal(own_state(), GYRE__SLOT_PARKED);
    runs++;
  }
  assert_int_equal(runs, 1);
  assert_int_equal(own_state(), GYRE__SLOT_RUNNING);
  GYRE_BLOCKING {
    runs++;
    if (runs > 0) break;
    runs = 100;
  }
  assert_int_equal(runs, 2);
  assert_int_equal(own_state(), GYRE__SLOT_RUNNING);
  GYRE_BLOCKING { continue; }
  assert_int_equal(own_state(), GYRE__SLOT_RUNNING);
  assert_int_equal(leaves_by_return(3), 3);
  assert_int_equal(own_state(), GYRE__SLOT_RUNNING);
  leaves_by_goto();
}

static void blocking_regions_nest(void **state) {
  (void)state;
  gyre_thread_attach();
  GYRE_BLOCKING {
    GYRE_BLOCKING { assert_int_equal(own_state(), GYRE__SLOT_PARKED); }
    assert_int_equal(own_state(), GYRE__SLOT_PARKED);
  }
  assert_int_equal(own_state(), GYRE__SLOT_RUNNING);
}

/* ---- parking finishes what the thread has begun ---- */

static void parking_finishes_a_release_that_was_cut_off(void **state) {
  (void)state;
  test_option_set("release_budget", "10");
  gyre_release(chain_new(&node_type, 1000));
  assert_true(nodes_destroyed() < 1000);
  gyre_park();
  assert_int_equal(nodes_destroyed(), 1000);
  gyre_unpark();
}

static void a_safepoint_goes_on_with_a_release_that_was_cut_off(void **state) {
  (void)state;
  test_option_set("release_budget", "10");
  gyre_release(chain_new(&node_type, 1000));
  uint64_t before = nodes_destroyed();
  assert_true(before < 1000);
  unsigned safepoints = 0;
  while (nodes_destroyed() < 1000) {
    gyre_safepoint();
    safepoints++;
  }
  assert_true(safepoints >= 90 && safepoints <= 110);
}

static void parking_settles_what_others_have_left(void **state) {
  (void)state;
  struct puppet other;
  puppet_start(&other);
  node *n = node_new(&node_type, 1);
  puppet_run(&other, gyre__release_slow, gyre_retain(n)); /* queued: n's owner is running */
  gyre_release(n);
  assert_int_equal(nodes_destroyed(), 0);
  assert_true(requests_of(gyre__thread_current()) & GYRE__REQ_SETTLE);
  gyre_park();
  assert_int_equal(nodes_destroyed(), 1);
  gyre_unpark();
  puppet_stop(&other);
}

static void a_safepoint_settles_what_others_have_left(void **state) {
  (void)state;
  struct puppet other;
  puppet_start(&other);
  node *n = node_new(&node_type, 1);
  puppet_run(&other, gyre__release_slow, gyre_retain(n));
  gyre_release(n);
  assert_int_equal(nodes_destroyed(), 0);
  gyre_safepoint();
  assert_int_equal(nodes_destroyed(), 1);
  assert_int_equal(requests_of(gyre__thread_current()), 0);
  puppet_stop(&other);
}

/* ---- an owner that does not run holds nothing back ---- */

enum { MANY = 20000 };
static node *shared[MANY];

static void makes_shared(void *arg) {
  (void)arg;
  for (unsigned i = 0; i < MANY; i++)
    shared[i] = node_new(&node_type, i);
}

static void drops_shared(void) {
  size_t before = test_heap_stats().live_bytes;
  for (unsigned i = 0; i < MANY; i++)
    gyre_release(shared[i]);
  assert_int_equal(nodes_destroyed(), MANY);
  assert_int_equal(gyre_purge(), 0);
  assert_true(test_heap_stats().live_bytes + (size_t)MANY * sizeof(node) <= before);
}

static void objects_of_a_parked_owner_are_freed_at_once_by_who_drops_them(void **state) {
  (void)state;
  gyre_thread_attach();
  struct puppet owner;
  puppet_start(&owner);
  puppet_run_parked(&owner, makes_shared, NULL);
  drops_shared();
  puppet_stop(&owner);
}

static void *makes_shared_and_ends(void *arg) {
  makes_shared(arg);
  return NULL;
}

static void objects_of_an_exited_owner_are_freed_at_once_by_who_drops_them(void **state) {
  (void)state;
  gyre_thread_attach();
  test_thread_run(makes_shared_and_ends, NULL);
  drops_shared();
}

static void pages_of_a_parked_owner_go_back_to_the_system(void **state) {
  (void)state;
  gyre_thread_attach();
  struct puppet owner;
  puppet_start(&owner);
  puppet_run_parked(&owner, makes_shared, NULL);
  size_t before = test_heap_stats().committed_bytes;
  for (unsigned i = 0; i < MANY; i++)
    gyre_release(shared[i]);
  assert_int_equal(gyre_purge(), 0);
  assert_true(test_heap_stats().committed_bytes + (size_t)MANY * sizeof(node) <= before);
  puppet_stop(&owner);
}

static void sees_one_reference(void *n) {
  TEST_REQUIRE(gyre_refcount(n) == 1);
  TEST_REQUIRE(gyre_is_unique(n));
  gyre_release(n);
}

static void a_parked_owner_finds_its_counts_settled(void **state) {
  (void)state;
  gyre_thread_attach();
  struct puppet owner;
  puppet_start(&owner);
  puppet_run_parked(&owner, makes_shared, NULL);
  for (unsigned i = 1; i < MANY; i++)
    gyre_release(shared[i]);
  gyre_retain(shared[0]);
  gyre_release(shared[0]);
  puppet_run_parked(&owner, sees_one_reference, shared[0]);
  assert_int_equal(nodes_destroyed(), MANY);
  puppet_stop(&owner);
}

/* ---- owners that wait in a read, and another that drops a million of their objects ---- */

enum { OWNERS = 7 };
static struct {
  int ends[2];
  size_t each;
  node **objects;
} readers;

static void *makes_and_reads(void *number) {
  node **mine = readers.objects + (uintptr_t)number * readers.each;
  for (size_t i = 0; i < readers.each; i++)
    mine[i] = node_new(&node_type, i);
  char byte;
  GYRE_BLOCKING { TEST_REQUIRE(read(readers.ends[0], &byte, 1) == 1); }
  return NULL;
}

static void memory_of_owners_that_wait_in_a_read_falls(void **state) {
  (void)state;
  readers.each = (size_t)test_size("GYRE_TEST_CELLS", 1000000, 140000, 35000) / OWNERS;
  readers.objects = calloc(OWNERS * readers.each, sizeof *readers.objects);
  TEST_REQUIRE(readers.objects != NULL && pipe(readers.ends) == 0);
  gyre_thread_attach();
  pthread_t threads[OWNERS];
  for (uintptr_t i = 0; i < OWNERS; i++)
    threads[i] = test_thread_start(makes_and_reads, (void *)i);
  await_parked(OWNERS);
  size_t before = test_heap_stats().committed_bytes;
  for (size_t i = 0; i < OWNERS * readers.each; i++)
    gyre_release(readers.objects[i]);
  assert_int_equal(nodes_destroyed(), OWNERS * readers.each);
  assert_int_equal(gyre_purge(), 0);
  assert_true(test_heap_stats().committed_bytes + OWNERS * readers.each * sizeof(node) <= before);
  assert_int_equal(write(readers.ends[1], "0123456", OWNERS), OWNERS);
  for (int i = 0; i < OWNERS; i++)
    test_thread_join(threads[i]);
  (void)close(readers.ends[0]);
  (void)close(readers.ends[1]);
  free(readers.objects);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      NODE_TEST(only_the_last_unpark_ends_a_nested_park),
      NODE_TEST(an_unpark_too_many_does_nothing),
      NODE_TEST(a_safepoint_while_parked_does_nothing),
      NODE_TEST(a_blocking_region_ends_however_it_is_left),
      NODE_TEST(blocking_regions_nest),
      NODE_TEST(parking_finishes_a_release_that_was_cut_off),
      NODE_TEST(a_safepoint_goes_on_with_a_release_that_was_cut_off),
      NODE_TEST(parking_settles_what_others_have_left),
      NODE_TEST(a_safepoint_settles_what_others_have_left),
      NODE_TEST(objects_of_a_parked_owner_are_freed_at_once_by_who_drops_them),
      NODE_TEST(objects_of_an_exited_owner_are_freed_at_once_by_who_drops_them),
      NODE_TEST(pages_of_a_parked_owner_go_back_to_the_system),
      NODE_TEST(a_parked_owner_finds_its_counts_settled),
      NODE_TEST(memory_of_owners_that_wait_in_a_read_falls),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
