#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The value benchmarks' work of one thread, done by CPython: the same keys and dictionaries as in the C
files of this folder, whose comments explain them. Change both together.

usage: cpython.py NAME ITERATIONS     e.g. cpython.py value/dict_get/1000000/cpython 4000000

Prints the result in Google Benchmark's JSON format. The time includes the interpreter's loop, which a
Python program cannot do without either.
"""

import itertools
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import gbench

STRINGS = 1000

clock_ns = time.perf_counter_ns


def key_text(i):
    return "key %012d" % i


def interned_keys(count):
    return [sys.intern(key_text(i)) for i in range(count)]


def dictionary_of(keys):
    made = {}
    value = 5000
    for key in keys:
        made[key] = value
        value += 1
    return made


def dict_get(iterations, count):
    keys = interned_keys(count)
    made = dictionary_of(keys)
    random.Random(1).shuffle(keys)
    wanted = itertools.islice(itertools.cycle(keys), iterations)
    start = clock_ns()
    for key in wanted:
        made[key]
    return clock_ns() - start


def dict_set(iterations, count):
    keys = interned_keys(count)
    start = clock_ns()
    made = dictionary_of(keys)
    took = clock_ns() - start
    assert len(made) == iterations
    return took


def intern(iterations, case):
    assert case == "hit"
    kept = interned_keys(STRINGS)
    # Equal strings that are not the interned ones.
    wanted = itertools.islice(itertools.cycle([key_text(i) for i in range(STRINGS)]), iterations)
    function = sys.intern
    start = clock_ns()
    for text in wanted:
        function(text)
    took = clock_ns() - start
    del kept
    return took


def list_append(iterations, count):
    item = 1000000
    left = iterations
    start = clock_ns()
    while left > 0:
        made = []
        append = made.append
        for _ in itertools.repeat(None, min(count, left)):
            append(item)
        left -= count
    return clock_ns() - start


def list_get(iterations, count):
    made = list(range(5000, 5000 + count))
    order = list(range(count))
    random.Random(1).shuffle(order)
    wanted = itertools.islice(itertools.cycle(order), iterations)
    start = clock_ns()
    for i in wanted:
        made[i]
    return clock_ns() - start


CASES = {
    "dict_get": dict_get,
    "dict_set": dict_set,
    "intern": intern,
    "list_append": list_append,
    "list_get": list_get,
}


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    name, iterations = sys.argv[1], int(sys.argv[2])
    group, case, arg, system = name.split("/")
    if group != "value" or case not in CASES or system != "cpython":
        sys.exit("cpython.py: there is no case " + name)
    cpu_start = time.process_time_ns()
    took = CASES[case](iterations, int(arg) if arg.isdigit() else arg)
    gbench.finish(name, iterations, took, time.process_time_ns() - cpu_start)


if __name__ == "__main__":
    main()
