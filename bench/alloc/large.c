/* SPDX-License-Identifier: MIT */
/* alloc/malloc-large: 20 buffers of 5 to 25 MiB. One after another, a random one is replaced: the new
 * one is allocated, a byte of each of its OS pages is written, and the old one is freed. Whether an
 * allocator gives large blocks back to the system at once, and at what price. An iteration is one
 * replacement. */
#include "bench/alloc/alloc.h"
#include "bench/support/random.h"

#define BUFFERS 20
#define SIZE_LEAST (5u << 20)
#define SIZE_MOST (25u << 20)
#define REPLACEMENTS 200

static void replace(struct random *r, void **buffer) {
  size_t size = SIZE_LEAST + random_below(r, SIZE_MOST - SIZE_LEAST + 1);
  void *new_buffer = system_malloc(size);
  alloc_touch_pages(new_buffer, size);
  system_free(*buffer);
  *buffer = new_buffer;
  system_safepoint();
}

static void run_large(bench_state *state, const struct bench_case *self) {
  (void)self;
  void *buffers[BUFFERS] = {NULL};
  struct random r = {6};
  uint64_t n = bench_start(state);
  for (uint64_t i = 0; i < n; i++)
    replace(&r, &buffers[random_below(&r, BUFFERS)]);
  bench_stop(state);
  for (unsigned i = 0; i < BUFFERS; i++)
    system_free(buffers[i]);
}

void alloc_register_large(void) {
  bench_register(&(struct bench_case){.name = "alloc/malloc-large/" SYSTEM_NAME,
                                      .run = run_large,
                                      .iterations = REPLACEMENTS,
                                      .level = BENCH_DEFAULT,
                                      .unit = "replacement"});
}
