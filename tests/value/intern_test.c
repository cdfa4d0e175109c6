/* SPDX-License-Identifier: MIT */
/* The intern table: one string of each value, not kept alive by the table. */
#include "value_test.h"

static void equal_bytes_are_one_string(void **state) {
  (void)state;
  gyre_str *a = interned("name"), *b = interned("name"), *c = interned("nams");
  assert_ptr_equal(a, b);
  assert_ptr_not_equal(a, c);
  assert_true(gyre_str_is_interned(a));
  assert_true(gyre_is_str(a));
  assert_int_equal(gyre_refcount(a), 2);
  assert_int_equal(gyre_intern_count(), 2);
  gyre_str *plain = str("name"), *d = gyre_intern_str(plain);
  assert_ptr_equal(d, a);
  assert_ptr_equal(gyre_intern_str(a), a);
  gyre_release(a);
  gyre_str *zero = gyre_intern("a\0b", 3), *zero2 = gyre_intern("a\0c", 3);
  assert_ptr_not_equal(zero, zero2);
  gyre_release(zero);
  gyre_release(zero2);
  gyre_release(plain);
  gyre_release(a);
  gyre_release(b);
  gyre_release(c);
  gyre_release(d);
}

static void the_table_keeps_nothing_alive(void **state) {
  (void)state;
  gyre_str *a = interned("weak");
  assert_int_equal(gyre_intern_count(), 1);
  gyre_release(a);
  assert_int_equal(gyre_intern_count(), 0);
  a = interned("weak");
  assert_int_equal(gyre_intern_count(), 1);
  gyre_release(a);
}

static void an_immortal_one_stays(void **state) {
  (void)state;
  gyre_str *a = gyre_intern_ex("stays for good", 14, GYRE_INTERN_IMMORTAL);
  assert_true(gyre_is_immortal(a));
  size_t count = gyre_intern_count();
  for (int i = 0; i < 3; i++)
    gyre_release(a);
  assert_int_equal(gyre_intern_count(), count);
  assert_ptr_equal(interned("stays for good"), a);
  assert_ptr_equal(gyre_intern_ex("stays for good", 14, GYRE_INTERN_IMMORTAL), a);
  gyre_str *later = interned("mortal at first");
  assert_ptr_equal(gyre_intern_ex("mortal at first", 15, GYRE_INTERN_IMMORTAL), later);
  assert_true(gyre_is_immortal(later));
  /* For the end of the test: as if they had never been. */
  make_mortal(a);
  gyre_release(a);
  make_mortal(later);
  gyre_release(later);
}

static void many_strings_find_their_way(void **state) {
  (void)state;
  int count = (int)test_size("GYRE_TEST_STRINGS", 300000, 60000, 20000);
  gyre_str **all = malloc((size_t)count * sizeof *all);
  char text[32];
  for (int round = 0; round < 2; round++) {
    for (int i = 0; i < count; i++) {
      snprintf(text, sizeof text, "string number %d", i);
      all[i] = interned(text);
    }
    assert_int_equal(gyre_intern_count(), count);
    for (int i = 0; i < count; i++) {
      snprintf(text, sizeof text, "string number %d", i);
      gyre_str *again = interned(text);
      assert_ptr_equal(again, all[i]);
      gyre_release(again);
      if (i % 3 == round) gyre_release(all[i]);
    }
    for (int i = 0; i < count; i++)
      if (i % 3 != round) gyre_release(all[i]);
    assert_int_equal(gyre_intern_count(), 0);
    gyre_safepoint();
  }
  free(all);
}

static void each_allocation_that_fails_leaves_nothing_behind(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  unsigned most = 0;
  for (int i = 0; i < 300; i++) {
    char text[32];
    snprintf(text, sizeof text, "without memory %d", i);
    for (uint64_t nth = 1;; nth++) {
      gyre__fault_arm(nth, 1);
      errno = 0;
      gyre_str *s = gyre_intern(text, strlen(text));
      int err = errno;
      gyre__fault_arm(0, 0);
      if (s != NULL) {
        if (nth - 1 > most) most = (unsigned)nth - 1;
        gyre_release(s);
        break;
      }
      assert_int_equal(err, ENOMEM);
      assert_int_equal(gyre_intern_count(), 0);
    }
  }
  assert_true(most >= 3); /* a shard, an entry, a string */
}

/* ---- windows ---- */

static gyre_str *theirs;
static test_flag there;
static void *interns(void *text) {
  gyre_thread_attach();
  test_window_subject();
  theirs = interned(text);
  test_flag_set(&there, 1);
  gyre_park();
  TEST_AWAIT(test_flag_get(&there) == 2);
  gyre_unpark();
  gyre_release(theirs);
  return NULL;
}

static void two_threads_that_add_the_same_get_one(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  test_flag_set(&there, 0);
  test_window_hold("intern/adding", 1);
  pthread_t thread = test_thread_start(interns, (void *)(uintptr_t) "race");
  test_window_await();
  gyre_str *mine = interned("race");
  assert_int_equal(gyre_intern_count(), 1);
  test_window_release();
  TEST_AWAIT(test_flag_get(&there) == 1);
  assert_ptr_equal(theirs, mine);
  assert_int_equal(gyre_intern_count(), 1);
  test_flag_set(&there, 2);
  test_thread_join(thread);
  gyre_release(mine);
  assert_int_equal(gyre_intern_count(), 0);
}

static void *drops(void *s) {
  gyre_thread_attach();
  test_window_subject();
  gyre_release(s);
  return NULL;
}

static void a_dying_string_is_not_handed_out(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  /* The other thread has the only reference. */
  gyre_str *old = interned("dying");
  gyre_thread_detach();
  test_window_hold("intern/dying", 1);
  pthread_t thread = test_thread_start(drops, old);
  test_window_await();
  gyre_str *young = interned("dying");
  assert_ptr_not_equal(young, old);
  assert_int_equal(gyre_intern_count(), 2); /* the old one's entry is still there */
  gyre_str *again = interned("dying");
  assert_ptr_equal(again, young);
  test_window_release();
  test_thread_join(thread);
  assert_int_equal(gyre_intern_count(), 1);
  gyre_str *third = interned("dying");
  assert_ptr_equal(third, young);
  gyre_release(young);
  gyre_release(again);
  gyre_release(third);
  assert_int_equal(gyre_intern_count(), 0);
}

static void a_string_that_dies_under_a_look_up_is_not_returned(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  /* The look-up has read the pointer; the string dies and its block becomes another string. */
  test_flag_set(&there, 0);
  gyre_str *old = interned("under a look-up");
  test_window_hold("slot/uncounted", 1);
  pthread_t thread = test_thread_start(interns, (void *)(uintptr_t) "under a look-up");
  test_window_await();
  test_reuse_last();
  gyre_release(old);
  gyre_str *reused = str("under a look-up"); /* equal, but not interned */
  assert_ptr_equal(reused, old);
  test_window_release();
  TEST_AWAIT(test_flag_get(&there) == 1);
  assert_ptr_not_equal(theirs, reused);
  assert_string_equal(gyre_str_data(theirs), "under a look-up");
  assert_int_equal(gyre_refcount(reused), 1);
  test_flag_set(&there, 2);
  test_thread_join(thread);
  gyre_release(reused);
}

/* The same, and the block becomes an object that the look-up counts in vain. It dies as that is given back, and
 * its finalizer lets a grace period pass: the entry that the look-up has stopped at is freed. */
static test_flag
    step; /* 1: the look-up has its pointer; 2: go on; 3: the finalizer runs; 4: all is freed */
static void waits_with_its_pointer(void *arg) {
  (void)arg;
  test_flag_set(&step, 1);
  while (test_flag_get(&step) != 2)
    sched_yield();
}
static int finalizes_late(void *object) {
  (void)object;
  test_flag_set(&step, 3);
  gyre_park();
  while (test_flag_get(&step) != 4)
    sched_yield();
  gyre_unpark();
  return 0;
}
static gyre_type late_type = {
    .name = "late", .size = sizeof(gyre_str), .element_size = 1, .finalize = finalizes_late};

static void a_look_up_begins_again_if_it_ran_program_code(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  test_flag_set(&there, 0);
  test_flag_set(&step, 0);
  gyre_str *old = interned("under a look-up");
  test_window_call("slot/uncounted", 1, waits_with_its_pointer, NULL);
  test_window_hold("slot/uncounted_counted", 1);
  pthread_t thread = test_thread_start(interns, (void *)(uintptr_t) "under a look-up");
  while (test_flag_get(&step) != 1)
    sched_yield();
  test_reuse_last();
  gyre_release(old);
  void *reused = gyre_new_array(&late_type, strlen("under a look-up") + 1);
  assert_ptr_equal(reused, old);
  test_flag_set(&step, 2);
  test_window_await();
  gyre_release(reused); /* not the last */
  assert_int_equal(test_flag_get(&step), 2);
  test_window_release();
  TEST_AWAIT(test_flag_get(&step) == 3);
  for (int i = 0; i < 3; i++)
    assert_int_equal(gyre_synchronize(), 0);
  test_flag_set(&step, 4);
  TEST_AWAIT(test_flag_get(&there) == 1);
  assert_string_equal(gyre_str_data(theirs), "under a look-up");
  test_flag_set(&there, 2);
  test_thread_join(thread);
}

/* ---- many threads ---- */

enum { THREADS = 8, VALUES = 40 };

/* Who has a string of a value has the only one there is: as long as anybody does, others get it. */
static gyre__atomic_ptr holder_of[VALUES];

static void *interns_and_drops(void *arg) {
  struct test_random random = test_random_new((uint64_t)(uintptr_t)arg);
  gyre_str *held[4] = {NULL};
  uint64_t rounds = test_size("GYRE_TEST_ROUNDS", 60000, 20000, 5000);
  for (uint64_t round = 0; round < rounds; round++) {
    uint32_t value = test_random_below(&random, VALUES), at = test_random_below(&random, 4);
    char text[40];
    int length = snprintf(text, sizeof text, "the value with number %u", value);
    gyre_release(held[at]);
    gyre_str *s = held[at] = gyre_intern(text, (size_t)length);
    TEST_REQUIRE(s != NULL && gyre_str_length(s) == (size_t)length);
    TEST_REQUIRE(strcmp(gyre_str_data(s), text) == 0 && gyre_str_is_interned(s));
    gyre_str *again = gyre_intern(text, (size_t)length);
    TEST_REQUIRE(again == s);                 /* we hold it, so there is no other */
    if (test_random_below(&random, 4) == 0) { /* hand one to somebody */
      /* acq_rel: the string behind the pointer; pairs with itself. */
      again = gyre__exchange_acq_rel(&holder_of[value], (void *)again);
      TEST_REQUIRE(again == NULL || again == s);
    }
    gyre_release(again);
    if (test_random_below(&random, 8) == 0) {
      /* acq_rel: as above. */
      gyre_release(gyre__exchange_acq_rel(&holder_of[value], NULL));
    }
    if (round % 16 == 0) gyre_safepoint();
  }
  for (int i = 0; i < 4; i++)
    gyre_release(held[i]);
  return NULL;
}

static void threads_never_have_two_of_one_value(void **state) {
  (void)state;
  pthread_t threads[THREADS];
  for (uintptr_t i = 0; i < THREADS; i++)
    threads[i] = test_thread_start(interns_and_drops, (void *)(i + 10));
  for (int i = 0; i < THREADS; i++)
    test_thread_join(threads[i]);
  for (int i = 0; i < VALUES; i++)
    /* acq_rel: as above. */
    gyre_release(gyre__exchange_acq_rel(&holder_of[i], NULL));
  gyre_safepoint();
  gyre_gc_collect(2);
  assert_int_equal(gyre_intern_count(), 0);
}

static void interns_in_child(void *arg) {
  gyre_str *parents = arg;
  gyre_str *s = interned("known in both");
  TEST_REQUIRE(s == parents);
  gyre_release(s);
  gyre_release(interned("new in the child"));
}

static void a_forked_child_finds_what_its_parent_had(void **state) {
  (void)state;
  gyre_str *s = interned("known in both");
  test_in_child(interns_in_child, s);
  gyre_release(s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      /* First: while the table has no shards yet. */
      TEST(each_allocation_that_fails_leaves_nothing_behind),
      TEST(equal_bytes_are_one_string),
      TEST(the_table_keeps_nothing_alive),
      TEST(an_immortal_one_stays),
      TEST(many_strings_find_their_way),
      TEST(two_threads_that_add_the_same_get_one),
      TEST(a_dying_string_is_not_handed_out),
      TEST_WITH(a_string_that_dies_under_a_look_up_is_not_returned, "quarantine:0"),
      TEST_WITH(a_look_up_begins_again_if_it_ran_program_code, "quarantine:0"),
      TEST(threads_never_have_two_of_one_value),
      TEST(a_forked_child_finds_what_its_parent_had),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
