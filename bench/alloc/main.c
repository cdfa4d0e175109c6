/* SPDX-License-Identifier: MIT */
#include "bench/alloc/alloc.h"
#include "bench/support/crew.h"

int main(int argc, char **argv) {
  system_begin();
  crew_on_wait(system_wait_begin, system_wait_end);
  alloc_register_pair();
  alloc_register_instructions();
  alloc_register_batch();
  if (SYSTEM_INLINE) return bench_main(argc, argv);
  alloc_register_grow();
  alloc_register_scatter();
  alloc_register_glibc();
  alloc_register_xmalloc();
  alloc_register_xmalloc_test();
  alloc_register_larson();
  alloc_register_mstress();
  alloc_register_rptest();
  alloc_register_cache();
  alloc_register_large();
  alloc_register_mleak();
  alloc_register_resident();
  return bench_main(argc, argv);
}
