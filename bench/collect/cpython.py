#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The collector benchmarks' work, done by CPython: the same rings, trees, lists and sessions as in
the C files of this folder, whose comments explain them. Change both together.

usage: cpython.py NAME ITERATIONS     e.g. cpython.py collect/rings/4/0/cpython 2000000

Prints the result in Google Benchmark's JSON format. Where CPython takes so long that its runs would
fill the time of all others, it does fewer iterations; the time is that of one all the same. Nodes
have __slots__ and no dictionary, the leanest objects that Python programs make: per field 8 bytes,
as in C.
"""

import array
import gc
import math
import os
import random
import re
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import gbench

LIVE_RING = 100
ROUNDS = 3
DEPTH_LEAST = 4
RINGS_FEWER = 2
SESSIONS = 100_000
SESSION_NODES = 8
SESSIONS_FEWER = 8
BESIDE_RING = 4
BESIDE_COLLECTIONS = 5
BESIDE_LEAST_NS = 1_000_000_000

clock_ns = time.perf_counter_ns


class RingNode:
    __slots__ = ("next", "data")


class LiveNode:
    __slots__ = ("next", "previous", "data0", "data1")


class TreeNode:
    __slots__ = ("left", "right")


def ring_new(k):
    tail = head = RingNode()
    for _ in range(1, k):
        node = RingNode()
        node.next = head
        head = node
    tail.next = head
    return head


def session_new(k):
    tail = head = RingNode()
    for _ in range(1, k):
        node = RingNode()
        node.next = head
        head = node
    tail.next = head
    return tail


def live_append(last):
    node = LiveNode()
    node.previous = last
    last.next = node
    return node


def live_new(k):
    root = last = LiveNode()
    for _ in range(1, k):
        node = LiveNode()
        node.previous = last
        last.next = node
        last = node
    last.next = root
    root.previous = last
    return root


def live_heap(objects):
    return [live_new(LIVE_RING) for _ in range(objects // LIVE_RING)]


def live_heap_scattered(objects):
    count = objects // LIVE_RING
    rings = [LiveNode() for _ in range(count)]
    last = list(rings)
    order = list(range(count))
    shuffle = random.Random(4).shuffle
    for _ in range(1, LIVE_RING):
        shuffle(order)
        for ring in order:
            last[ring] = live_append(last[ring])
    for i, root in enumerate(rings):
        last[i].next = root
        root.previous = last[i]
    return rings


class Result:
    """What one run has measured."""

    def __init__(self, iterations):
        self.iterations = iterations  # a case may do fewer
        self.counters = {}
        self.error = None
        self.real_ns = 0
        self.cpu_ns = 0

    def start(self):
        self.cpu_start = time.process_time_ns()
        self.start_ns = clock_ns()

    def stop(self):
        self.real_ns += clock_ns() - self.start_ns
        self.cpu_ns += time.process_time_ns() - self.cpu_start

    def gaps(self, gaps):
        ordered = sorted(gaps)

        def quantile(fraction):
            return ordered[max(0, math.ceil(fraction * len(ordered)) - 1)]

        self.counters["gap_p50_ns"] = quantile(0.5)
        self.counters["gap_p999_ns"] = quantile(0.999)
        self.counters["gap_p9999_ns"] = quantile(0.9999)
        self.counters["gap_max_ns"] = ordered[-1]
        self.counters["gap_units"] = len(ordered)

    def peak(self):
        with open("/proc/self/status") as status:
            kilobytes = re.search(r"^VmHWM:\s+(\d+)", status.read(), re.MULTILINE).group(1)
        self.counters["peak_resident_bytes"] = int(kilobytes) * 1024


def make_rings(k, count):
    for _ in range(count):
        ring_new(k)


def make_rings_with_gaps(k, gaps):
    last = clock_ns()
    for i in range(len(gaps)):
        ring_new(k)
        now = clock_ns()
        gaps[i] = now - last
        last = now


def rings(result, iterations, k, live):
    heap = live_heap(live)
    gc.collect()
    result.iterations = iterations // RINGS_FEWER
    result.start()
    make_rings(k, result.iterations // k)
    result.stop()
    gaps = array.array("q", bytes(8 * (result.iterations // k)))
    make_rings_with_gaps(k, gaps)
    result.peak()
    result.gaps(gaps)
    del heap


def full_of(result, heap_new, objects):
    gc.disable()
    heap = heap_new(objects)
    gc.enable()
    gc.collect()
    gaps = []
    for _ in range(ROUNDS):
        result.start()
        last = clock_ns()
        found = gc.collect()
        gaps.append(clock_ns() - last)
        result.stop()
        if found != 0:
            result.error = "live objects were reclaimed"
    result.gaps(gaps)
    result.peak()
    del heap


def full(result, iterations, objects):
    full_of(result, live_heap, objects)


def full_scattered(result, iterations, objects):
    full_of(result, live_heap_scattered, objects)


def dead_of(result, heap_new, objects):
    gc.collect()
    gc.disable()
    heap = heap_new(objects)
    del heap
    gc.enable()
    result.start()
    found = gc.collect()
    result.stop()
    result.gaps([result.real_ns])
    result.peak()
    if found != objects:
        result.error = "not all garbage was reclaimed"


def dead(result, iterations, objects):
    dead_of(result, live_heap, objects)


def dead_one(result, iterations, objects):
    dead_of(result, live_new, objects)


def collect_on(done, collections):
    while not done.is_set():
        gc.collect()
        collections[0] += 1


def beside(result, iterations, objects):
    gc.disable()
    heap = live_heap(objects)
    gc.enable()
    gc.collect()
    done = threading.Event()
    collections = [0]
    gaps = array.array("q")
    collector = threading.Thread(target=collect_on, args=(done, collections))
    collector.start()
    result.start()
    start = last = clock_ns()
    while last - start < BESIDE_LEAST_NS or collections[0] < BESIDE_COLLECTIONS:
        ring_new(BESIDE_RING)
        now = clock_ns()
        gaps.append(now - last)
        last = now
    result.stop()
    done.set()
    collector.join()
    result.iterations = len(gaps) * BESIDE_RING
    result.counters["collections"] = collections[0]
    result.gaps(gaps)
    result.counters["longest_gap_ns"] = result.counters["gap_max_ns"]
    result.peak()
    del heap


def tree_new(depth):
    node = TreeNode()
    if depth == 0:
        node.left = node.right = None
    else:
        node.left = tree_new(depth - 1)
        node.right = tree_new(depth - 1)
    return node


def tree_count(tree):
    left = tree.left
    if left is None:
        return 1
    return 1 + tree_count(left) + tree_count(tree.right)


def trees(result, iterations, most):
    lasting = tree_new(most)
    gaps = []
    nodes = 0
    result.start()
    last = clock_ns()
    for depth in range(DEPTH_LEAST, most + 1, 2):
        for _ in range(1 << (most - depth + DEPTH_LEAST)):
            tree = tree_new(depth)
            nodes += tree_count(tree)
            del tree
            now = clock_ns()
            gaps.append(now - last)
            last = now
    result.stop()
    if nodes != iterations or tree_count(lasting) != (2 << most) - 1:
        result.error = "trees have lost nodes"
    result.gaps(gaps)
    result.peak()


def list_new(nodes):
    head = RingNode()
    for _ in range(1, nodes):
        node = RingNode()
        node.next = head
        head = node
    return head


def drop_list(result, iterations, nodes):
    head = list_new(nodes)
    result.start()
    del head
    result.stop()
    result.counters["longest_call_ns"] = result.real_ns
    result.gaps([result.real_ns])
    result.peak()


def serve(table, gaps, seed):
    below = random.Random(seed).randrange
    last = clock_ns()
    for i in range(len(gaps)):
        table[below(SESSIONS)] = session_new(SESSION_NODES)
        now = clock_ns()
        gaps[i] = now - last
        last = now


def sessions(result, iterations, threads):
    replacements = iterations // SESSIONS_FEWER // threads
    result.iterations = replacements * threads
    tables = [[session_new(SESSION_NODES) for _ in range(SESSIONS)] for _ in range(threads)]
    gaps = [array.array("q", bytes(8 * replacements)) for _ in range(threads)]
    workers = [threading.Thread(target=serve, args=(tables[i], gaps[i], i)) for i in range(threads)]
    collections = gc.get_stats()[2]["collections"]
    result.start()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    result.stop()
    result.counters["collections"] = gc.get_stats()[2]["collections"] - collections
    result.counters["million_per_s"] = result.iterations * 1e3 / result.real_ns
    result.peak()
    result.gaps([gap for some in gaps for gap in some])


CASES = {
    "rings": rings,
    "full": full,
    "full_scattered": full_scattered,
    "dead": dead,
    "dead_one": dead_one,
    "beside": beside,
    "trees": trees,
    "list": drop_list,
    "sessions": sessions,
}


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    name, iterations = sys.argv[1], int(sys.argv[2])
    group, case, *args, system = name.split("/")
    if group != "collect" or case not in CASES or system != "cpython":
        sys.exit("cpython.py: there is no case " + name)
    result = Result(iterations)
    CASES[case](result, iterations, *map(int, args))
    more = {"cpu_ns": result.cpu_ns / result.iterations, **result.counters}
    if result.error is not None:
        more.update(error_occurred=True, error_message=result.error)
    gbench.finish(name, result.iterations, result.real_ns, result.cpu_ns, **more)


if __name__ == "__main__":
    main()
