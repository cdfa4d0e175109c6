#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The tracing benchmarks' work, done by CPython with tracemalloc and without: see main.c, whose comments
explain it. Change both together.

usage: cpython.py NAME ITERATIONS     e.g. cpython.py trace/pair/64/cpython-traced 1000000

Prints the result in Google Benchmark's JSON format. A block is a bytearray of that size: two allocations
each, object and buffer.
"""

import os
import sys
import time
import tracemalloc

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import gbench

BATCH = 1000


def pair(size, n):
    for _ in range(n):
        bytearray(size)


def batch(size, n):
    for _ in range(n):
        blocks = [bytearray(size) for _ in range(BATCH)]
        del blocks


def snapshot(traces, n):
    keep = [bytearray(64) for _ in range(traces // 2)]
    begin = time.perf_counter_ns()
    for _ in range(n):
        tracemalloc.take_snapshot().statistics("lineno")
    del keep
    return time.perf_counter_ns() - begin


CASES = {"pair": pair, "batch": batch, "snapshot": snapshot}


def main():
    name, iterations = sys.argv[1], int(sys.argv[2])
    group, case, size, system = name.split("/")
    if group != "trace" or case not in CASES or not system.startswith("cpython"):
        sys.exit("cpython.py: there is no case " + name)
    if iterations == 0:
        iterations = {"pair": 200_000, "batch": 200, "snapshot": 1}[case]
    if system == "cpython-traced":
        tracemalloc.start(1)
    begin, cpu_begin = time.perf_counter_ns(), time.process_time_ns()
    own = CASES[case](int(size), iterations)
    elapsed = own if own is not None else time.perf_counter_ns() - begin
    gbench.finish(name, iterations, elapsed, time.process_time_ns() - cpu_begin)


if __name__ == "__main__":
    main()
