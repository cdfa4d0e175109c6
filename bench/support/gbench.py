# SPDX-License-Identifier: MIT
"""How the cpython.py of a group of benchmarks says what it has measured."""

import json
import os
import platform
import sys


def finish(name, iterations, real, cpu, **counters):
    """Prints the result of all iterations, in ns, in Google Benchmark's JSON format, and ends the process: the end of the
    interpreter, with one more full collection, is not measured."""
    run = {
        "name": name,
        "run_name": name,
        "run_type": "iteration",
        "repetitions": 1,
        "repetition_index": 0,
        "threads": 1,
        "iterations": iterations,
        "real_time": real / iterations,
        "cpu_time": cpu / iterations,
        "time_unit": "ns",
        **counters,
    }
    context = {"python": platform.python_version()}
    json.dump({"context": context, "benchmarks": [run]}, sys.stdout, indent=1)
    print(flush=True)
    os._exit(0)
