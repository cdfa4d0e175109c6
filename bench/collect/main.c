/* SPDX-License-Identifier: MIT */
#include "bench/collect/collect.h"
#include "bench/support/crew.h"

int main(int argc, char **argv) {
  system_setup();
  crew_on_wait(system_wait_begin, system_wait_end);
  collect_register_rings();
  collect_register_full();
  collect_register_beside();
  collect_register_trees();
  collect_register_list();
  collect_register_sessions();
  collect_register_census();
  return bench_main(argc, argv);
}
