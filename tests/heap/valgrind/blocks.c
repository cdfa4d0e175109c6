/* SPDX-License-Identifier: MIT */
/* What valgrind_test.py runs under memcheck. "blocks clean" does nothing wrong; "blocks wrong" makes one
 * mistake in each of the functions below, for which memcheck is to name it. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gyre/gyre.h>

#define LARGE 200000

typedef struct pair {
  GYRE_SLOT(struct pair) next;
  uint64_t tag;
} pair;

GYRE_TYPE_DEFINE(pair_type, pair, .slots = GYRE_SLOTS(pair, next));

static volatile unsigned char sink;

/* Hides from the compiler where a pointer comes from. */
static void *hidden(void *p) {
  __asm__ volatile("" : "+r"(p));
  return p;
}

static void *freed_by(void *block) {
  gyre_free(block);
  return NULL;
}

static void free_in_a_thread(void *block) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, freed_by, block) != 0) abort();
  gyre_park();
  (void)pthread_join(thread, NULL);
  gyre_unpark();
}

/* ---- nothing wrong ---- */

static void sizes_come_and_go(void) {
  static void *blocks[2000];
  for (unsigned round = 0; round < 2; round++) {
    for (size_t i = 0; i < 2000; i++)
      memset(blocks[i] = gyre_malloc(i), (int)i, i);
    for (size_t i = 0; i < 2000; i += 2)
      blocks[i] = gyre_realloc(blocks[i], 3 * i);
    for (size_t i = 1; i < 2000; i += 2)
      sink = ((unsigned char *)blocks[i])[i - 1];
    for (size_t i = 0; i < 2000; i++)
      gyre_free(blocks[i]);
  }
}

static void large_blocks_come_and_go(void) {
  for (size_t size = 60000; size < (size_t)8 << 20; size *= 2) {
    char *block = gyre_calloc(1, size);
    if (block[size - 1] != 0) abort();
    block = gyre_realloc(block, size + size / 2);
    if (block[size - 1] != 0) abort();
    memset(block, 1, gyre_usable_size(block));
    gyre_free(block);
  }
  gyre_free(gyre_aligned_alloc(4096, LARGE));
}

static void objects_come_and_go(void) {
  for (unsigned i = 0; i < 3000; i++) {
    pair *a = gyre_new(&pair_type), *b = gyre_new(&pair_type);
    gyre_slot_init(&a->next, b);
    b->tag = i;
    gyre_release(a);
  }
}

static void all_is_well(void) {
  sizes_come_and_go();
  large_blocks_come_and_go();
  objects_come_and_go();
  free_in_a_thread(gyre_malloc(100));
  (void)gyre_purge();
  sizes_come_and_go();
}

/* ---- one mistake each ---- */

static void reads_the_first_byte_of_a_freed_block(void) {
  unsigned char *block = gyre_calloc(1, 40);
  gyre_free(block);
  sink = *(unsigned char *)hidden(block);
}

static void writes_to_a_block_that_another_thread_freed(void) {
  unsigned char *block = gyre_calloc(1, 400);
  free_in_a_thread(block);
  block = hidden(block);
  block[300] = 1;
}

static void reads_a_freed_large_block(void) {
  unsigned char *block = gyre_calloc(1, LARGE);
  gyre_free(block);
  sink = ((unsigned char *)hidden(block))[LARGE / 2];
}

static void reads_past_the_end(void) {
  unsigned char *block = gyre_calloc(1, 64);
  sink = ((unsigned char *)hidden(block))[64];
  gyre_free(block);
}

static void writes_past_the_end_of_an_odd_size(void) {
  unsigned char *block = gyre_malloc(33);
  ((unsigned char *)hidden(block))[33] = 1;
  gyre_free(block);
}

static void writes_past_the_end_of_a_large_block(void) {
  unsigned char *block = gyre_malloc(LARGE);
  ((unsigned char *)hidden(block))[LARGE] = 1;
  gyre_free(block);
}

static void reads_what_a_shrunk_block_had(void) {
  unsigned char *block = gyre_calloc(1, 100);
  block = gyre_realloc(block, 90);
  sink = ((unsigned char *)hidden(block))[95];
  gyre_free(block);
}

static void depends_on_a_byte_never_written(void) {
  unsigned char *block = gyre_malloc(50);
  if (*(volatile unsigned char *)hidden(block + 20) == 7) puts("seven");
  gyre_free(block);
}

static void reads_a_dead_object(void) {
  pair *object = gyre_new(&pair_type);
  gyre_release(object);
  sink = (unsigned char)((pair *)hidden(object))->tag;
}

static void loses_a_block(void) { (void)hidden(gyre_malloc(123)); }

static void loses_a_large_block(void) { (void)hidden(gyre_malloc(LARGE)); }

static void keeps_a_block(void) {
  static void *kept;
  kept = gyre_malloc(321);
  (void)hidden(&kept);
}

static void all_is_wrong(void) {
  reads_the_first_byte_of_a_freed_block();
  writes_to_a_block_that_another_thread_freed();
  reads_a_freed_large_block();
  reads_past_the_end();
  writes_past_the_end_of_an_odd_size();
  writes_past_the_end_of_a_large_block();
  reads_what_a_shrunk_block_had();
  depends_on_a_byte_never_written();
  reads_a_dead_object();
  loses_a_block();
  loses_a_large_block();
  keeps_a_block();
}

int main(int argc, char **argv) {
  if (argc == 2 && strcmp(argv[1], "clean") == 0)
    all_is_well();
  else
    all_is_wrong();
  return gyre_fini() == 0 ? 0 : 1;
}
