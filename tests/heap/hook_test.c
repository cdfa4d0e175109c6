/* SPDX-License-Identifier: MIT */
/* Allocators of the program's: who is asked, in which thread, and that all goes back to what it was. */
#include <errno.h>
#include <gyre/alloc.h>

#include "heap_test.h"
#include "tests/support/puppet.h"
#include "tests/support/window.h"

/* ---- a wrapper that counts ---- */

static struct counter {
  struct gyre_allocator inner;
  gyre__atomic_u64 mallocs, callocs, reallocs, frees, aligned;
} counter;

static void count(gyre__atomic_u64 *figure) {
  /* relaxed: read when the threads have been joined. */
  gyre__fetch_add_relaxed(figure, 1);
}

static void *count_malloc(void *ctx, size_t size) {
  struct counter *c = ctx;
  count(&c->mallocs);
  return c->inner.malloc(c->inner.ctx, size);
}
static void *count_calloc(void *ctx, size_t n, size_t size) {
  struct counter *c = ctx;
  count(&c->callocs);
  return c->inner.calloc(c->inner.ctx, n, size);
}
static void *count_realloc(void *ctx, void *block, size_t size) {
  struct counter *c = ctx;
  count(&c->reallocs);
  return c->inner.realloc(c->inner.ctx, block, size);
}
static void count_free(void *ctx, void *block) {
  struct counter *c = ctx;
  assert_non_null(block);
  count(&c->frees);
  c->inner.free(c->inner.ctx, block);
}
static void *count_aligned(void *ctx, size_t alignment, size_t size) {
  struct counter *c = ctx;
  count(&c->aligned);
  return c->inner.aligned_alloc(c->inner.ctx, alignment, size);
}

static void counter_set(enum gyre_domain domain) {
  memset(&counter, 0, sizeof counter);
  counter.inner.size = sizeof counter.inner;
  assert_int_equal(gyre_get_allocator(domain, &counter.inner), 0);
  struct gyre_allocator outer = counter.inner;
  outer.ctx = &counter;
  outer.malloc = count_malloc;
  outer.calloc = count_calloc;
  outer.realloc = count_realloc;
  outer.free = count_free;
  outer.aligned_alloc = count_aligned;
  outer.usable_size = NULL;
  assert_int_equal(gyre_set_allocator(domain, &outer), 0);
}

static void counter_unset(enum gyre_domain domain) {
  assert_int_equal(gyre_set_allocator(domain, &counter.inner), 0);
}

#define IS(figure, n) assert_int_equal(gyre__load_relaxed(&counter.figure), n) /* relaxed: alone */

/* ---- refusals ---- */

static void what_cannot_be_is_refused(void **state) {
  (void)state;
  struct gyre_allocator a = {.size = sizeof a};
  assert_int_equal(gyre_get_allocator(GYRE_DOMAIN_OBJ, &a), -ENOTSUP);
  assert_int_equal(gyre_set_allocator(GYRE_DOMAIN_OBJ, &a), -ENOTSUP);
  assert_int_equal(gyre_get_allocator((enum gyre_domain)7, &a), -EINVAL);
  assert_int_equal(gyre_set_allocator((enum gyre_domain)7, &a), -EINVAL);
  assert_int_equal(gyre_get_allocator(GYRE_DOMAIN_MEM, NULL), -EINVAL);
  assert_int_equal(gyre_set_allocator(GYRE_DOMAIN_MEM, NULL), -EINVAL);
  assert_int_equal(gyre_set_allocator(GYRE_DOMAIN_MEM, &a), -EINVAL);
  assert_int_equal(gyre_get_allocator(GYRE_DOMAIN_MEM, &a), 0);
  assert_non_null(a.usable_size);
  a.free = NULL;
  assert_int_equal(gyre_set_allocator(GYRE_DOMAIN_MEM, &a), -EINVAL);
  a.size = 8;
  assert_int_equal(gyre_set_allocator(GYRE_DOMAIN_MEM, &a), -EINVAL);
  /* A short struct is filled as far as it goes. */
  struct gyre_allocator s = {.size = offsetof(struct gyre_allocator, calloc)};
  assert_int_equal(gyre_get_allocator(GYRE_DOMAIN_MEM, &s), 0);
  assert_non_null(s.malloc);
  assert_null(s.calloc);
}

/* ---- every function ---- */

static void every_call_is_seen(void **state) {
  (void)state;
  void *before = gyre_malloc(100);
  counter_set(GYRE_DOMAIN_MEM);
  gyre_thread *self = gyre_thread_current();
  void *a = gyre_malloc(10), *b = gyre_thread_malloc(self, 24),
       *c = gyre_thread_malloc(self, 100000);
  IS(mallocs, 3);
  void *d = gyre_calloc(3, 5), *e = gyre_thread_calloc(self, 1, 50000);
  assert_true(test_is_filled(d, 0, 15) && test_is_filled(e, 0, 50000));
  IS(callocs, 2);
  a = gyre_realloc(a, 5000);
  b = gyre_thread_realloc(self, b, 100);
  void *f = gyre_realloc(NULL, 7);
  IS(reallocs, 3);
  void *g = gyre_aligned_alloc(256, 100), *h = gyre_thread_aligned_alloc(self, 8, 3);
  assert_int_equal((uintptr_t)g % 256, 0);
  IS(aligned, 2);
  assert_null(gyre_aligned_alloc(24, 100));
  assert_int_equal(errno, EINVAL);
  assert_int_equal(gyre_usable_size(a), 0);
  gyre_free(NULL);
  gyre_thread_free(self, NULL);
  gyre_free(a);
  gyre_thread_free(self, b);
  gyre_free(c);
  gyre_thread_free(self, d);
  gyre_free_sized(e, 50000);
  gyre_thread_free_sized(self, f, 7);
  gyre_free(g);
  gyre_free(h);
  gyre_free(before);
  IS(frees, 9);
  /* Nothing went two ways. */
  IS(mallocs, 3);
  IS(callocs, 2);
  IS(reallocs, 3);
  counter_unset(GYRE_DOMAIN_MEM);
  gyre_free(gyre_malloc(10));
  gyre_thread_free(self, gyre_thread_malloc(self, 10));
  IS(mallocs, 3);
  IS(frees, 9);
}

static void wrappers_come_off_in_the_midst_of_work(void **state) {
  (void)state;
  void *blocks[400];
  for (size_t i = 0; i < 400; i++) {
    if (i == 100) counter_set(GYRE_DOMAIN_MEM);
    if (i == 300) counter_unset(GYRE_DOMAIN_MEM);
    blocks[i] = gyre_malloc(i * 7);
    fill(blocks[i], i * 7, (unsigned)i);
  }
  IS(mallocs, 200);
  for (size_t i = 0; i < 400; i++) {
    assert_true(holds(blocks[i], i * 7, (unsigned)i));
    gyre_free(blocks[i]);
  }
  IS(frees, 0);
  for (int round = 0; round < 3000; round++) { /* no place is used up */
    counter_set(GYRE_DOMAIN_MEM);
    counter_unset(GYRE_DOMAIN_MEM);
  }
}

/* ---- threads ---- */

static gyre__atomic_u32 stop;

static void *thread_works(void *arg) {
  gyre_thread *self = gyre_thread_attach();
  uint64_t random = (uint64_t)(uintptr_t)arg;
  void *blocks[32] = {0};
  /* relaxed: a flag. */
  for (uint32_t i = 0; i < 2000 || !gyre__load_relaxed(&stop); i++) {
    unsigned at = test_random(&random) % 32;
    gyre_thread_free(self, blocks[at]);
    blocks[at] = gyre_thread_malloc(self, 48);
    if (i % 3 == 0) gyre_free(gyre_malloc(at * 100));
    gyre_safepoint();
  }
  for (unsigned at = 0; at < 32; at++)
    gyre_free(blocks[at]);
  return NULL;
}

static void threads_go_on_while_it_comes_and_goes(void **state) {
  (void)state;
  gyre__store_relaxed(&stop, 0); /* relaxed: before the threads are started */
  pthread_t threads[3];
  for (uintptr_t i = 0; i < 3; i++)
    threads[i] = thread_start(thread_works, (void *)(i + 1));
  for (int round = 0; round < 50; round++) {
    counter_set(GYRE_DOMAIN_MEM);
    gyre_safepoint();
    gyre_free(gyre_malloc(100));
    counter_unset(GYRE_DOMAIN_MEM);
  }
  gyre__store_relaxed(&stop, 1); /* relaxed: a flag */
  for (int i = 0; i < 3; i++)
    thread_join(threads[i]);
}

static void *allocates_unattached(void *arg) {
  (void)arg;
  return gyre_malloc(40);
}

static void a_thread_that_is_new_is_seen(void **state) {
  (void)state;
  counter_set(GYRE_DOMAIN_MEM);
  pthread_t thread = thread_start(allocates_unattached, NULL);
  void *block = NULL;
  gyre_park();
  assert_int_equal(pthread_join(thread, &block), 0);
  gyre_unpark();
  gyre_free(block);
  IS(mallocs, 1);
  IS(frees, 1);
  counter_unset(GYRE_DOMAIN_MEM);
}

/* ---- another allocator ---- */

static void *other_malloc(void *ctx, size_t size) {
  ++*(int *)ctx;
  return malloc(size != 0 ? size : 1);
}
static void *other_calloc(void *ctx, size_t n, size_t size) {
  ++*(int *)ctx;
  return calloc(n != 0 ? n : 1, size != 0 ? size : 1);
}
static void *other_realloc(void *ctx, void *block, size_t size) {
  if (block == NULL) ++*(int *)ctx;
  return realloc(block, size != 0 ? size : 1);
}
static void other_free(void *ctx, void *block) {
  --*(int *)ctx;
  free(block);
}

static void another_allocator_may_stand_in(void **state) {
  (void)state;
  int live = 0;
  struct gyre_allocator before = {.size = sizeof before};
  assert_int_equal(gyre_get_allocator(GYRE_DOMAIN_MEM, &before), 0);
  struct gyre_allocator other = {.size = sizeof other,
                                 .ctx = &live,
                                 .malloc = other_malloc,
                                 .calloc = other_calloc,
                                 .realloc = other_realloc,
                                 .free = other_free};
  assert_int_equal(gyre_set_allocator(GYRE_DOMAIN_MEM, &other), 0);
  char *a = gyre_malloc(100), *b = gyre_calloc(10, 10), *c = gyre_realloc(NULL, 5);
  assert_int_equal(live, 3);
  assert_null(gyre__segment_of(a));
  assert_true(test_is_filled(b, 0, 100));
  memset(a, 1, 100);
  a = gyre_realloc(a, 100000);
  assert_int_equal(a[99], 1);
  assert_null(gyre_aligned_alloc(64, 10));
  assert_int_equal(errno, ENOMEM);
  void *d = gyre_aligned_alloc(16, 10);
  assert_int_equal(live, 4);
  gyre_free(a);
  gyre_free(b);
  gyre_free(c);
  gyre_free(d);
  assert_int_equal(live, 0);
  assert_int_equal(gyre_set_allocator(GYRE_DOMAIN_MEM, &before), 0);
  a = gyre_malloc(10);
  assert_non_null(gyre__segment_of(a));
  gyre_free(a);
}

/* ---- raw ---- */

static void *raw_without_attaching(void *arg) {
  (void)arg;
  void *block = gyre_raw_malloc(100);
  assert_non_null(block);
  assert_null(gyre_thread_current());
  return block;
}

static void the_raw_domain_attaches_nobody(void **state) {
  (void)state;
  pthread_t thread = thread_start(raw_without_attaching, NULL);
  void *block = NULL;
  gyre_park();
  assert_int_equal(pthread_join(thread, &block), 0);
  gyre_unpark();
  gyre_raw_free(block);
  gyre_raw_free(NULL);
  counter_set(GYRE_DOMAIN_RAW);
  void *a = gyre_raw_malloc(0), *b = gyre_raw_calloc(7, 9), *c = gyre_raw_aligned_alloc(4096, 1);
  assert_true(a != NULL && test_is_filled(b, 0, 63) && (uintptr_t)c % 4096 == 0);
  a = gyre_raw_realloc(a, 0);
  assert_non_null(a);
  gyre_free(gyre_malloc(1)); /* none of its business */
  gyre_raw_free(a);
  gyre_raw_free(b);
  gyre_raw_free(c);
  IS(mallocs, 1);
  IS(callocs, 1);
  IS(reallocs, 1);
  IS(aligned, 1);
  IS(frees, 3);
  counter_unset(GYRE_DOMAIN_RAW);
  assert_null(gyre_raw_aligned_alloc(3, 1));
  assert_int_equal(errno, EINVAL);
}

/* ---- blocks that come meanwhile ---- */

static void set_up_subject(void *result) {
  test_window_subject();
  *(int *)result = gyre_setup_debug_hooks();
}

/* Another thread allocates between the call and the stop: its block has no guard bytes. */
static void debug_hooks_see_the_last_block(void **state) {
  (void)state;
  TEST_NEEDS_WINDOWS();
  struct puppet p;
  puppet_start(&p);
  int result = 1;
  test_window_hold("heap/hooks", 1);
  puppet_begin(&p, set_up_subject, &result);
  test_window_await();
  void *block = gyre_malloc(100);
  test_window_release();
  puppet_await(&p);
  assert_int_equal(result, -EBUSY);
  gyre_free(block);
  puppet_stop(&p);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      HEAP_TEST(what_cannot_be_is_refused),
      HEAP_TEST(every_call_is_seen),
      HEAP_TEST(wrappers_come_off_in_the_midst_of_work),
      HEAP_TEST(threads_go_on_while_it_comes_and_goes),
      HEAP_TEST(a_thread_that_is_new_is_seen),
      HEAP_TEST(another_allocator_may_stand_in),
      HEAP_TEST(the_raw_domain_attaches_nobody),
      HEAP_TEST(debug_hooks_see_the_last_block),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
