/* SPDX-License-Identifier: MIT */
/* collect/trees/DEPTH: binary trees, by Hans Boehm's GCBench and the Computer Language Benchmarks
 * Game. One tree of DEPTH stays; beside it, for each depth from 4 to DEPTH in steps of 2, so many
 * trees are built from the leaves up, walked and dropped that each depth has about the same number
 * of nodes. No cycles: who counts frees them at once, who traces has to look. An iteration is one
 * node, a gap one tree. */
#include <stdio.h>

#include "bench/collect/collect.h"
#include "bench/support/cpu.h"
#include "bench/support/gaps.h"
#include "bench/support/memory.h"

#define DEPTH_LEAST 4

static tree_node *tree_new(unsigned depth) {
  if (depth == 0) return system_tree_node(NULL, NULL);
  tree_node *left = tree_new(depth - 1);
  tree_node *right = tree_new(depth - 1);
  return system_tree_node(left, right);
}

static uint64_t tree_count(tree_node *tree) {
  tree_node *left = system_tree_left(tree);
  if (left == NULL) return 1;
  uint64_t count = 1 + tree_count(left);
  system_tree_done(left);
  tree_node *right = system_tree_right(tree);
  count += tree_count(right);
  system_tree_done(right);
  return count;
}

static uint64_t nodes_of(unsigned depth) { return ((uint64_t)2 << depth) - 1; }

static uint64_t trees_of(unsigned depth, unsigned most) {
  return (uint64_t)1 << (most - depth + DEPTH_LEAST);
}

static uint64_t nodes_in_all(unsigned most) {
  uint64_t nodes = 0;
  for (unsigned depth = DEPTH_LEAST; depth <= most; depth += 2)
    nodes += trees_of(depth, most) * nodes_of(depth);
  return nodes;
}

/* Returns the number of nodes it has walked. */
static uint64_t many_trees(unsigned most, struct gaps *gaps) {
  uint64_t nodes = 0;
  for (unsigned depth = DEPTH_LEAST; depth <= most; depth += 2)
    for (uint64_t i = trees_of(depth, most); i != 0; i--) {
      tree_node *tree = tree_new(depth);
      nodes += tree_count(tree);
      system_tree_drop(tree);
      system_safepoint();
      gaps_unit(gaps);
    }
  return nodes;
}

static void run_trees(bench_state *state, const struct bench_case *self) {
  static struct gaps gaps;
  unsigned most = (unsigned)self->arg[0];
  tree_node *lasting = tree_new(most);
  struct cpu_span cpu = {.service = SYSTEM_SERVICE};
  cpu_begin(&cpu);
  bench_start(state);
  gaps_begin(&gaps);
  uint64_t nodes = many_trees(most, &gaps);
  system_settle();
  if (nodes != nodes_in_all(most) || tree_count(lasting) != nodes_of(most))
    bench_fail(state, "trees have lost nodes");
  bench_stop(state);
  cpu_end(&cpu);
  cpu_report(&cpu, state, nodes);
  gaps_report(&gaps, state);
  memory_report_peak(state);
  system_tree_drop(lasting);
}

void collect_register_trees(void) {
  static const struct {
    unsigned depth;
    enum bench_level level;
  } depths[] = {{14, BENCH_QUICK}, {18, BENCH_FULL}};
  for (size_t i = 0; i < sizeof depths / sizeof depths[0]; i++) {
    char name[64];
    snprintf(name, sizeof name, "collect/trees/%u/" SYSTEM_NAME, depths[i].depth);
    bench_register(&(struct bench_case){.name = name,
                                        .run = run_trees,
                                        .arg = {depths[i].depth},
                                        .iterations = nodes_in_all(depths[i].depth),
                                        .level = depths[i].level,
                                        .unit = "node"});
  }
}
