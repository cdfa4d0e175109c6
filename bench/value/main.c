/* SPDX-License-Identifier: MIT */
#include BENCH_SYSTEM
#include "bench/support/bench.h"
#include "bench/support/crew.h"
#include "bench/value/value.h"

int main(int argc, char **argv) {
  crew_on_wait(system_wait_begin, system_wait_end);
  value_register_dict();
  value_register_intern();
  value_register_list();
  return bench_main(argc, argv);
}
