/* SPDX-License-Identifier: MIT */
#include "bench/collect/systems/gyre.h"

bool system_list_ended;

static void list_end_destroy(void *object) {
  (void)object;
  system_list_ended = true;
}

GYRE_TYPE_DEFINE(system_ring_type, ring_node, .slots = GYRE_SLOTS(ring_node, next));
GYRE_TYPE_DEFINE(system_live_type, live_node, .slots = GYRE_SLOTS(live_node, next, previous));
GYRE_TYPE_DEFINE(system_tree_type, tree_node, .slots = GYRE_SLOTS(tree_node, left, right));
GYRE_TYPE_DEFINE(system_list_end_type, ring_node, .slots = GYRE_SLOTS(ring_node, next),
                 .destroy = list_end_destroy);
