/* SPDX-License-Identifier: MIT */
#include BENCH_SYSTEM
#include "bench/refcount/refcount.h"
#include "bench/support/bench.h"
#include "bench/support/crew.h"

int main(int argc, char **argv) {
  crew_on_wait(system_wait_begin, system_wait_end);
  refcount_register_count();
  refcount_register_slot();
  refcount_register_object();
  refcount_register_weak();
  return bench_main(argc, argv);
}
