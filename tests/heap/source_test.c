/* SPDX-License-Identifier: MIT */
/* Pages from the program: every byte comes from its source and goes back to it. Each case has a process of
 * its own, in which the library has not been used before. */
#include <gyre/alloc.h>
#include <gyre/gc.h>
#include <sys/mman.h>

#include "child.h"

#define REQUIRE(cond)                                                                              \
  do {                                                                                             \
    if (!(cond)) {                                                                                 \
      print_message("%s:%d: required: %s\n", __FILE__, __LINE__, #cond);                           \
      _exit(3);                                                                                    \
    }                                                                                              \
  } while (0)

/* One piece of address space, from which ranges are handed out upwards; a byte a page says what is out. */
#define SPACE ((size_t)1 << 34)
#define PAGE ((size_t)4096)
static struct space {
  char *base;
  size_t next, limit, out;
  uint64_t maps, unmaps, purges;
  unsigned char page_is_out[SPACE / PAGE];
  pthread_mutex_t mutex;
} space = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void *space_map(void *ctx, size_t size, size_t alignment) {
  struct space *s = ctx;
  pthread_mutex_lock(&s->mutex);
  uintptr_t at = ((uintptr_t)s->base + s->next + alignment - 1) & ~(uintptr_t)(alignment - 1);
  size_t offset = at - (uintptr_t)s->base;
  bool fits = size % PAGE == 0 && s->out + size <= s->limit && offset + size <= SPACE;
  if (fits) {
    s->next = offset + size;
    s->out += size;
    s->maps++;
    memset(s->page_is_out + offset / PAGE, 1, size / PAGE);
  }
  pthread_mutex_unlock(&s->mutex);
  return fits ? s->base + offset : NULL;
}

static void space_unmap(void *ctx, void *address, size_t size) {
  struct space *s = ctx;
  size_t offset = (size_t)((char *)address - s->base);
  REQUIRE(offset + size <= SPACE && size % PAGE == 0);
  pthread_mutex_lock(&s->mutex);
  for (size_t i = offset / PAGE; i < (offset + size) / PAGE; i++) {
    REQUIRE(s->page_is_out[i]);
    s->page_is_out[i] = 0;
  }
  s->out -= size;
  s->unmaps++;
  pthread_mutex_unlock(&s->mutex);
  /* Whoever still looks there is found out. */
  REQUIRE(madvise(address, size, MADV_DONTNEED) == 0 && mprotect(address, size, PROT_NONE) == 0);
}

static int space_purge(void *ctx, void *address, size_t size) {
  struct space *s = ctx;
  REQUIRE(madvise(address, size, MADV_DONTNEED) == 0);
  pthread_mutex_lock(&s->mutex);
  s->purges++;
  pthread_mutex_unlock(&s->mutex);
  return 1;
}

static bool space_has(const void *address, size_t size) {
  size_t offset = (size_t)((const char *)address - space.base);
  return (const char *)address >= space.base && offset + size <= SPACE &&
         space.page_is_out[offset / PAGE] &&
         space.page_is_out[(offset + size - (size != 0)) / PAGE];
}

static void source_set(bool with_purge) {
  space.base =
      mmap(NULL, SPACE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  REQUIRE(space.base != MAP_FAILED);
  space.limit = SPACE;
  struct gyre_page_source source = {.size = sizeof source,
                                    .ctx = &space,
                                    .map = space_map,
                                    .unmap = space_unmap,
                                    .purge = with_purge ? space_purge : NULL};
  REQUIRE(gyre_set_page_source(NULL) == -EINVAL);
  source.unmap = NULL;
  REQUIRE(gyre_set_page_source(&source) == -EINVAL);
  source.unmap = space_unmap;
  REQUIRE(gyre_set_page_source(&source) == 0);
  REQUIRE(gyre_set_page_source(&source) == -EBUSY);
}

typedef struct pair {
  GYRE_SLOT(struct pair) other;
} pair;
static GYRE_TYPE_DEFINE(pair_type, pair, .slots = GYRE_SLOTS(pair, other));

static void *thread_works(void *arg) {
  static const size_t sizes[] = {10, 500, 30000, 100000, 1500000, 9000000};
  for (unsigned round = 0; round < 20; round++) {
    char *blocks[6];
    for (unsigned i = 0; i < 6; i++) {
      blocks[i] = gyre_calloc(1, sizes[i]);
      REQUIRE(blocks[i] != NULL && space_has(blocks[i], sizes[i]));
      REQUIRE(test_is_filled(blocks[i], 0, sizes[i]));
      memset(blocks[i], 7, sizes[i]);
      blocks[i] = gyre_realloc(blocks[i], sizes[i] * 2);
      REQUIRE(blocks[i] != NULL && blocks[i][sizes[i] - 1] == 7 &&
              space_has(blocks[i], sizes[i] * 2));
    }
    for (unsigned i = 0; i < 300; i++) {
      pair *a = gyre_new(&pair_type), *b = gyre_new(&pair_type);
      REQUIRE(a != NULL && b != NULL && space_has(a, sizeof *a));
      gyre_store(&a->other, b);
      gyre_store(&b->other, a);
      gyre_release(a);
      gyre_release(b);
      gyre_safepoint();
    }
    for (unsigned i = 0; i < 6; i++)
      gyre_free(blocks[i]);
    if (round % 7 == 0) REQUIRE(gyre_gc_collect(2) >= 0);
    (void)gyre_purge();
  }
  return arg;
}

static void work(void) {
  REQUIRE(gyre_thread_attach() != NULL && space_has(gyre_thread_current(), 1));
  pthread_t threads[2];
  for (int i = 0; i < 2; i++)
    REQUIRE(pthread_create(&threads[i], NULL, thread_works, NULL) == 0);
  (void)thread_works(NULL);
  GYRE_BLOCKING {
    for (int i = 0; i < 2; i++)
      REQUIRE(pthread_join(threads[i], NULL) == 0);
  }
  REQUIRE(gyre_gc_collect(2) >= 0);
  gyre_service_stop();
  REQUIRE(gyre_purge() == 0);
  struct gyre_heap_stats stats = {.size = sizeof stats};
  REQUIRE(gyre_heap_get_stats(&stats) == 0);
  REQUIRE(stats.live_blocks == 0 && stats.mapped_bytes == 0);
  REQUIRE(space.maps > 10 && space.unmaps > 10);
  gyre__heap_check_totals();
}

static void with_purge(void) {
  source_set(true);
  work();
  REQUIRE(space.purges > 0);
}

static void without_purge(void) {
  source_set(false);
  work();
}

static void until_it_is_empty(void) {
  source_set(true);
  REQUIRE(gyre_thread_attach() != NULL);
  space.limit = space.out + ((size_t)64 << 20);
  void *list = NULL;
  size_t sum = 0;
  for (void **block; (block = gyre_malloc(100000)) != NULL; sum += 100000) {
    *block = list;
    list = block;
  }
  REQUIRE(errno == ENOMEM && sum > ((size_t)40 << 20));
  while (list != NULL) {
    void *next = *(void **)list;
    gyre_free(list);
    list = next;
  }
  REQUIRE(gyre_purge() == 0);
  void *block = gyre_malloc((size_t)20 << 20);
  REQUIRE(block != NULL);
  gyre_free(block);
}

static void too_late(void) {
  gyre_free(gyre_malloc(1));
  struct gyre_page_source source = {
      .size = sizeof source, .ctx = &space, .map = space_map, .unmap = space_unmap};
  REQUIRE(gyre_set_page_source(&source) == -EBUSY);
}

static void expect_no_death(void (*body)(void)) {
  static char text[4096];
  int status = run_in_child(body, text, sizeof text);
  if (status != 0) print_message("child said: %s\n", text);
  assert_int_equal(status, 0);
}

static void all_memory_is_the_sources(void **state) {
  (void)state;
  expect_no_death(with_purge);
}
static void a_source_need_not_purge(void **state) {
  (void)state;
  expect_no_death(without_purge);
}
static void a_source_may_be_empty(void **state) {
  (void)state;
  expect_no_death(until_it_is_empty);
}
static void it_is_set_before_the_first_use(void **state) {
  (void)state;
  expect_no_death(too_late);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_memory_is_the_sources),
      cmocka_unit_test(a_source_need_not_purge),
      cmocka_unit_test(a_source_may_be_empty),
      cmocka_unit_test(it_is_set_before_the_first_use),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
