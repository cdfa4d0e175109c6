#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs the benchmark programs side by side and reports: the part of tools/bench behind the build.

Each run of a case of a system is a process of its own, so that memory is the case's alone. The
systems of a case take turns: first repetition of all systems, second repetition of all, and so on;
what disturbs the machine for a while disturbs them all.

A program lists its cases itself (--list): name, level, busy or sleeps, iterations, what to compare
by and its unit.
"""

import argparse
import collections
import datetime
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import time

LEVELS = ["quick", "default", "full"]
REPETITIONS = {"quick": 3, "default": 5, "full": 9}
MIN_SECONDS = {"quick": 0.03, "default": 0.05, "full": 0.3}
TIMEOUT_SECONDS = 300

# The programs, below the folder of built benchmarks, in the order of the tables.
PROGRAMS = [
    "alloc/alloc_gyre",
    "alloc/alloc_gyre_inline",
    "alloc/alloc_jemalloc",
    "alloc/alloc_jemalloc_static",
    "alloc/alloc_mimalloc",
    "alloc/alloc_tcmalloc",
    "alloc/alloc_system",
    "refcount/refcount_gyre",
    "refcount/refcount_atomic",
    "refcount/refcount_glib",
    "collect/collect_gyre",
    "collect/collect_gyre_stw",
    "collect/collect_bdwgc",
    "collect/collect_malloc",
    "collect/collect_mimalloc",
    "value/value_gyre",
    "value/value_glib",
    "value/value_glib_direct",
    "trace/trace_gyre",
    "trace/trace_gyre_exact",
    "trace/trace_gyre_exact10",
    "trace/trace_gyre_sampled",
    "apps/apps_pkggraph",
]
CPYTHON = "/usr/bin/python3"

# The cases that CPython takes part in, by how their names begin, and the script that does them.
CPYTHON_SCRIPTS = [
    ("collect/", "collect/cpython.py"),
    ("value/dict_get/", "value/cpython.py"),
    ("value/dict_set/", "value/cpython.py"),
    ("value/intern/", "value/cpython.py"),
    ("value/list_append/", "value/cpython.py"),
    ("value/list_get/", "value/cpython.py"),
]

# The program whose malloc another library may replace as it is loaded.
PRELOADED = "alloc/alloc_system"

# What the comparison depends on besides gyre.
PACKAGES = ["libc6", "libjemalloc2", "libmimalloc2.0", "libtcmalloc-minimal4",
            "libgc1", "libglib2.0-0", "python3.11", "gcc-12", "libbenchmark1debian"]

GAPS = [("gap_p50_ns", "p50"), ("gap_p999_ns", "p99.9"), ("gap_p9999_ns", "p99.99"),
        ("gap_max_ns", "max")]


# What else a case may report, as plain numbers. CPU times are nanoseconds per iteration.
COUNTS = [("cpu_ns", "cpu"), ("service_cpu_ns", "service cpu"), ("million_per_s", "million/s"),
          ("collections", "collections"), ("live_cpu_ns", "live cpu")]


def fail(message):
    sys.exit("tools/bench: " + message)


class Case:
    """One case, and the systems it can be run with."""

    def __init__(self, name, level, sleeps, iterations, metric, unit):
        self.name = name
        self.level = level
        self.sleeps = sleeps
        self.iterations = iterations
        self.metric = metric
        self.unit = unit
        self.commands = {}  # by system, in order
        self.runs = collections.defaultdict(list)  # by system, Google Benchmark's records
        self.errors = {}  # by system

    def values(self, system, key=None):
        key = key or ("real_time" if self.metric == "time" else self.metric)
        return [run[key] for run in self.runs[system] if key in run]

    def median(self, system, key=None):
        values = self.values(system, key)
        return statistics.median(values) if values else None

    def gyre(self):
        """The system that the others are compared with, or None."""
        for system in self.commands:
            if system.startswith("gyre") and self.values(system):
                return system
        return None

    def ratio(self, system):
        """The system's figure over gyre's: above 1 gyre is ahead. None if it cannot be told."""
        gyre, mine = self.gyre(), self.median(system)
        if gyre is None or system == gyre or mine is None:
            return None
        theirs = self.median(gyre)
        return mine / theirs if theirs > 0 else None

    def verdict(self, system):
        """'', 'gyre loses', or 'gyre loses, within the spread'."""
        gyre, mine = self.gyre(), self.median(system)
        if gyre is None or system.startswith("gyre") or mine is None or mine >= self.median(gyre):
            return ""
        if max(self.values(system)) >= min(self.values(gyre)):
            return "gyre loses, within the spread"
        return "gyre loses"


# ---- libraries in malloc's stead -----------------------------------------------------------------


class Preload:
    """A shared library that replaces the C library's malloc, and its name as a system."""

    def __init__(self, name, library):
        self.name = name
        self.library = os.path.abspath(library)

    def before(self, path):
        """The command line that starts a program with the library."""
        return ["/usr/bin/env", "LD_PRELOAD=" + self.library, path]

    def complaint(self, path):
        """Why the program at the path cannot run with the library, or None."""
        if not os.path.isfile(self.library):
            return "there is no file %s" % self.library
        if re.search(r"[\s:]", self.library):
            return "LD_PRELOAD takes no path with a space or a colon: %s" % self.library
        if not is_shared_object(self.library):
            return "%s is no shared library" % self.library
        names = {line.split()[-1].split("@")[0] for line in output_of(
            "nm", "--dynamic", "--defined-only", self.library).splitlines()}
        if not {"malloc", "free"} <= names:
            return "%s defines no malloc and free" % self.library
        result = subprocess.run(self.before(path) + ["--list"], capture_output=True, text=True)
        if result.returncode != 0 or "cannot be preloaded" in result.stderr:
            return "%s cannot be preloaded: %s" % (self.library, last_line(result.stderr))
        return None


def is_shared_object(path):
    """Whether the file is in ELF format and of the type that libraries have (ET_DYN)."""
    with open(path, "rb") as file:
        head = file.read(18)
    return len(head) == 18 and head[:4] == b"\x7fELF" and \
        int.from_bytes(head[16:18], "little" if head[5] == 1 else "big") == 3


def take_peers(arguments, path, taken):
    """The peers of the command line, NAME=FILE each; ends with a message if one is no good."""
    peers = []
    for argument in arguments:
        name, equals, library = argument.partition("=")
        if not equals or not library:
            fail("--peer wants NAME=FILE.so, not '%s'" % argument)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name):
            fail("--peer: '%s' is no name; letters, digits and . _ + - make one" % name)
        if name in taken or name.startswith("gyre"):
            fail("--peer: '%s' is the name of a system that is measured anyway" % name)
        if name in [peer.name for peer in peers]:
            fail("--peer: two libraries are called '%s'" % name)
        peer = Preload(name, library)
        complaint = peer.complaint(path)
        if complaint is not None:
            fail("--peer %s: %s" % (name, complaint))
        peers.append(peer)
    return peers


# ---- the programs and their cases ----------------------------------------------------------------


def list_program(path):
    try:
        result = subprocess.run([path, "--list"], capture_output=True, text=True, check=True)
    except OSError as error:
        fail("cannot run %s: %s" % (path, error.strerror))
    except subprocess.CalledProcessError as error:
        fail("%s --list fails with status %d\n%s" % (path, error.returncode, error.stderr))
    return [line.split("\t") for line in result.stdout.splitlines()]


def add_program(cases, path, preload=None):
    """Adds a program's system to its cases; as another one with a library in malloc's stead."""
    for full, level, activity, iterations, metric, unit in list_program(path):
        name, system = full.rsplit("/", 1)
        case = cases.setdefault(
            name, Case(name, level, activity == "sleeps", int(iterations), metric, unit))
        command = [path]
        if preload is not None:
            system, command = preload.name, preload.before(path)
        case.commands[system] = command + ["--only=" + full, "--benchmark_format=json"]


def find_cases(built, sources, own_malloc, peers):
    """All cases. own_malloc is gyre's library in malloc's stead; peers are those of the
    command line, NAME=FILE each."""
    cases = {}
    preloaded = os.path.join(built, PRELOADED)
    for program in PROGRAMS:
        add_program(cases, os.path.join(built, program))
        if program == "alloc/alloc_gyre_inline":
            add_program(cases, preloaded, Preload("gyre-malloc", own_malloc))
    taken = {system for case in cases.values() for system in case.commands} | {"cpython"}
    for peer in take_peers(peers, preloaded, taken):
        add_program(cases, preloaded, peer)
    for case in cases.values():
        for beginning, script in CPYTHON_SCRIPTS:
            if case.name.startswith(beginning):
                full = case.name + "/cpython"
                case.commands["cpython"] = [CPYTHON, os.path.join(sources, script), full,
                                            str(case.iterations)]
    tracing = os.path.join(sources, "trace", "cpython.py")
    for case in cases.values():
        if case.name.startswith("trace/"):
            off = [] if case.name.startswith("trace/snapshot/") else ["cpython"]
            for system in off + ["cpython-traced"]:
                full = case.name + "/" + system
                case.commands[system] = [CPYTHON, tracing, full, str(case.iterations)]
    return list(cases.values())


def choose(cases, mode, pattern):
    """The cases of the mode, with the systems that fit the pattern."""
    chosen = []
    for case in cases:
        case.commands = {system: command for system, command in case.commands.items()
                         if pattern.search(case.name + "/" + system)}
        if case.commands and LEVELS.index(case.level) <= LEVELS.index(mode):
            chosen.append(case)
    return chosen


# ---- running -------------------------------------------------------------------------------------


class Progress:
    """Says on stderr how far things are: on a terminal one line that changes, else one a case."""

    def __init__(self, total):
        self.total = total
        self.done = 0
        self.start = time.monotonic()
        self.terminal = sys.stderr.isatty()
        self.last = None

    def show(self, case, repetition, repetitions):
        elapsed = time.monotonic() - self.start
        left = ""
        if self.done > 0:
            left = ", about %d s left" % (elapsed / self.done * (self.total - self.done))
        text = "[%3d %%] %s, %d of %d (%d s%s)" % (
            100 * self.done // self.total, case.name, repetition, repetitions, elapsed, left)
        if self.terminal:
            sys.stderr.write("\r\033[K" + text)
        elif case is not self.last:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()
        self.last = case

    def clear(self):
        if self.terminal:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()


def start(command, min_seconds):
    if command[0] != CPYTHON:
        command = command + ["--benchmark_min_time=%g" % min_seconds]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    """Google Benchmark's record of the run and its context, or what went wrong."""
    try:
        out, err = process.communicate(timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None, None, "no end after %d s" % TIMEOUT_SECONDS
    if process.returncode < 0:
        return None, None, "killed by signal %d: %s" % (-process.returncode, last_line(err))
    if process.returncode != 0:
        return None, None, "status %d: %s" % (process.returncode, last_line(err))
    try:
        report = json.loads(out)
        run = report["benchmarks"][0]
    except (ValueError, LookupError):
        return None, None, "its output is not a report"
    if run.get("error_occurred"):
        return None, None, run.get("error_message", "an error without a message")
    return run, report["context"], None


def last_line(text):
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it says nothing"


def run_repetition(case, min_seconds, contexts):
    """Each system once. Those that sleep do it together."""
    systems = [system for system in case.commands if system not in case.errors]
    started = {}
    if case.sleeps:
        started = {system: start(case.commands[system], min_seconds) for system in systems}
    for system in systems:
        process = started.get(system) or start(case.commands[system], min_seconds)
        run, context, error = finish(process)
        if error is not None:
            case.errors[system] = error
        else:
            case.runs[system].append(run)
            contexts.setdefault(system, context)


def run_all(cases, repetitions, min_seconds, contexts):
    progress = Progress(len(cases) * repetitions)
    for case in cases:
        for repetition in range(1, repetitions + 1):
            progress.show(case, repetition, repetitions)
            run_repetition(case, min_seconds, contexts)
            progress.done += 1
        progress.clear()
        print("\n".join(table(case)) + "\n", flush=True)


# ---- tables --------------------------------------------------------------------------------------


def number(value):
    """Three digits that count, and thousands apart."""
    if value is None:
        return "-"
    if value >= 1000:
        return "{:,.0f}".format(value)
    return "%.0f" % value if value >= 100 else "%.1f" % value if value >= 10 else "%.2f" % value


def duration(ns):
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            return "%.3g %s" % (ns / size, unit)
    return "%.0f ns" % ns


def mebibytes(count):
    return "%.1f MiB" % (count / 2**20)


def spread(values):
    middle = statistics.median(values)
    if middle == 0:
        return ""
    return "%.0f %%" % (100 * (max(values) - min(values)) / middle)


def table(case):
    """The case's lines, also good Markdown inside a code block."""
    systems = [s for s in case.commands if case.runs[s] and s not in case.errors]
    title, show_main = main_column(case, systems)
    head = ["", title, "spread", "to gyre"]
    extras = extra_columns(case, systems)
    rows = [head + [title for title, _, _ in extras]]
    for system in systems:
        ratio = case.ratio(system)
        row = [system, show_main(case.median(system)), spread(case.values(system)),
               "" if ratio is None else "%.2f x" % ratio]
        for _, key, show in extras:
            value = case.median(system, key)
            row.append("-" if value is None else show(value))
        rows.append(row)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [case.name]
    for i, row in enumerate(rows):
        cells = [row[0].ljust(widths[0])] + [cell.rjust(w) for cell, w in zip(row[1:], widths[1:])]
        verdict = case.verdict(systems[i - 1]) if i > 0 else ""
        lines.append(("  " + "  ".join(cells) + ("  <- " + verdict if verdict else "")).rstrip())
    for system, error in case.errors.items():
        lines.append("  %s FAILS: %s" % (system, error))
    return lines


def main_column(case, systems):
    """The title of what the systems are compared by, and how to show it."""
    if case.metric.endswith("_ns"):
        return case.unit, duration
    if case.metric.endswith("_bytes"):
        return case.unit, mebibytes
    if case.metric != "time":
        return case.unit, number
    if systems and min(case.median(system) for system in systems) >= 1e6:
        return "per " + case.unit, duration
    return "ns per " + case.unit, number


def extra_columns(case, systems):
    """(title, counter, how to show it) for the figures beside the main one."""
    columns = []
    if case.metric != "time" and case.name.startswith("collect/"):
        columns.append(("ns per iteration", "real_time", number))
    for key, title in COUNTS:
        if key != case.metric and any(case.values(system, key) for system in systems):
            columns.append((title, key, number))
    for key, title in GAPS:
        if any(case.values(system, key) for system in systems):
            columns.append(("gap " + title, key, duration))
    for key, title in (("resident_bytes", "resident"), ("peak_resident_bytes", "peak resident")):
        if key != case.metric and any(case.values(system, key) for system in systems):
            columns.append((title, key, mebibytes))
    return columns


# ---- the figures that gyre has set itself --------------------------------------------------------


class Figures:
    """Collects what this run has measured of the figures, in the order of the calls."""

    def __init__(self, cases):
        self.cases = {case.name: case for case in cases}
        self.rows = []  # (what, measured, target, goal, verdict)

    def value(self, name, system, key=None):
        """The median, or None if this run has not measured it."""
        case = self.cases.get(name)
        if case is None or system in case.errors:
            return None
        return case.median(system, key)

    def add(self, what, measured, show, target, goal, bound, meets):
        if measured is None:
            return
        verdict = "<- MISSED"
        if meets(measured, target):
            verdict = "reached"
            if goal is not None:
                verdict += ", the goal too" if meets(measured, goal) else ", not the goal"
        self.rows.append((what, show(measured), bound + " " + show(target),
                          "" if goal is None else "goal " + show(goal), verdict))

    def at_most(self, what, measured, show, target, goal=None):
        self.add(what, measured, show, target, goal, "at most", lambda mine, limit: mine <= limit)

    def at_least(self, what, measured, show, target, goal=None):
        self.add(what, measured, show, target, goal, "at least", lambda mine, limit: mine >= limit)

    def times(self, what, mine, factor, theirs):
        """At most so many times another figure."""
        if mine is not None and theirs:
            self.at_most(what, mine / theirs, "{:.2f} x".format, factor)

    def best_peer(self, name):
        """The system with the smallest median that is not gyre's, and that median; or two Nones."""
        case = self.cases.get(name)
        peers = [(median, system) for system in (case.commands if case else [])
                 if not system.startswith("gyre")
                 and (median := self.value(name, system)) is not None]
        median, system = min(peers, default=(None, None))
        return system, median

    def times_best(self, name, factor):
        """At most so many times the figure of whichever peer is best in this run."""
        peer, theirs = self.best_peer(name)
        self.times("%s to the best peer, %s" % (name, peer), self.value(name, "gyre"), factor,
                   theirs)


def show_ns(ns):
    return "%.2f ns" % ns


def show_megabytes(count):
    return "%.1f MB" % (count / 1e6)


def figures(cases):
    f = Figures(cases)
    counting_figures(f)
    allocator_figures(f)
    mutator_figures(f)
    collector_figures(f)
    stw_figures(f)
    look_figures(f)
    value_figures(f)
    trace_figures(f)
    return f.rows


def look_figures(f):
    """Looking at the heap beside the program."""
    census = f.value("collect/census/5000000", "gyre")
    f.at_most("census of 5x10^6 objects", None if census is None else census * 5e6, duration, 0.25e9)
    f.times("longest gap of a thread beside censuses of 5x10^6, to without",
            f.value("collect/watched/census/5000000", "gyre", "longest_gap_ns"), 1.25,
            f.value("collect/watched/nobody/5000000", "gyre", "longest_gap_ns"))


def counting_figures(f):
    f.at_most("object header", f.value("object/resident/48", "gyre", "header_bytes"),
              "{:.0f} bytes".format, 16)
    f.times("resident bytes for 10^6 objects of 48 payload bytes, to 64 MB",
            f.value("object/resident/48", "gyre", "resident_bytes"), 1.05, 64e6)
    pair, atomic = (f.value("refcount/pair/owner", system) for system in ("gyre", "atomic"))
    f.at_most("retain+release by the owner", pair, show_ns, 1.0)
    f.times("the same to the plain atomic count", pair, 0.3, atomic)
    f.times("the same while a collection logs, to without",
            f.value("refcount/pair/logging", "gyre"), 4.0, pair)
    f.at_most("safepoint with nothing pending", f.value("refcount/safepoint/idle", "gyre"),
              show_ns, 1.5)
    f.times("weak get and release by two threads at once, to retain and release by two",
            f.value("refcount/weak_get2/foreign", "gyre"), 2.0,
            f.value("refcount/pair2/foreign", "gyre"))
    for case in ("alloc/pair/64", "alloc/batch/random/64", "alloc/batch/random/mix"):
        for peer in ("jemalloc", "jemalloc-static"):
            f.times("%s to %s" % (case, peer), f.value(case, "gyre"), 1.0, f.value(case, peer))
    f.times("new+release of a leaf of 48 bytes to alloc/pair/64",
            f.value("refcount/new/48", "gyre"), 1.3, f.value("alloc/pair/64", "gyre"))


# How many times the best peer's time gyre may take.
TO_BEST_PEER = [
    ("alloc/pair/64", 1.0),
    ("alloc/batch/random/64", 1.0),
    ("alloc/batch/random/mix", 1.0),
    ("alloc/scatter/64", 1.1),
    ("alloc/scatter/mix", 1.1),
    ("alloc/xmalloc/mix", 1.0),
    ("alloc/xmalloc-test/1", 1.0),
    ("alloc/xmalloc-test/2", 1.0),
    ("alloc/larson/2", 1 / 0.95),
    ("alloc/rptest/linear/2", 1 / 0.95),
    ("alloc/mstress/2", 1.0),
    ("alloc/malloc-large", 1.1),
    ("alloc/realloc/4096", 1.5),
    ("alloc/realloc/1048576", 1.5),
]


def allocator_figures(f):
    for system, what, target in (("gyre", "through a call", 32),
                                 ("gyre-malloc", "through malloc and free", 32),
                                 ("gyre-inline", "inline, with a handle", 20)):
        f.at_most("instructions of a pair of 64 bytes, " + what,
                  f.value("alloc/instructions/64", system), "{:.1f}".format, target)
    for case, factor in TO_BEST_PEER:
        f.times_best(case, factor)
    f.at_most("alloc/resident/churned, resident over live",
              f.value("alloc/resident/churned", "gyre"), "{:.2f}".format, 1.8)
    f.at_most("alloc/resident/idle2s, resident after all was freed",
              f.value("alloc/resident/idle2s", "gyre"), mebibytes, 16 * 2**20)


def mutator_figures(f):
    """What the program that makes garbage notices. malloc, in the same run, is the floor."""
    none, million = "collect/rings/4/0", "collect/rings/4/1000000"
    f.at_most("rings k=4, none live, per object", f.value(none, "gyre"), show_ns, 20, 15)
    f.times("the same to CPython", f.value(none, "gyre"), 0.35, f.value(none, "cpython"))
    f.at_most("rings k=4, 10^6 live, per object", f.value(million, "gyre"), show_ns, 20, 15)
    f.at_most("the same, p99.99 of the gaps", f.value(million, "gyre", "gap_p9999_ns"), duration,
              5000, 2000)
    f.times("the same, longest gap to malloc's", f.value(million, "gyre", "gap_max_ns"), 2.0,
            f.value(million, "malloc", "gap_max_ns"))
    f.at_most("the same, peak resident", f.value(million, "gyre", "peak_resident_bytes"),
              show_megabytes, 56e6)
    beside = "collect/beside/5000000"
    f.times("rings beside full collections of 5x10^6, longest gap to malloc's",
            f.value(beside, "gyre"), 2.0, f.value(beside, "malloc"))
    sessions = "collect/sessions/2"
    f.at_least("sessions by 2 threads, million a second",
               f.value(sessions, "gyre", "million_per_s"), "{:.2f}".format, 4.3, 5)
    f.at_most("the same, peak resident", f.value(sessions, "gyre", "peak_resident_bytes"),
              show_megabytes, 64e6)
    f.at_most("dropping a list of 5x10^6, longest call",
              f.value("collect/list/5000000", "gyre", "longest_call_ns"), duration, 100000)


def collector_figures(f):
    """What the collector takes, whichever thread pays."""
    for case in ("collect/full/1000000", "collect/full/5000000"):
        f.at_most(case + ", CPU per live object", f.value(case, "gyre", "cpu_ns"), show_ns, 20, 15)
        f.times("the same, its time to CPython's", f.value(case, "gyre"), 0.6,
                f.value(case, "cpython"))
    for case in ("collect/dead/1000000", "collect/dead_one/1000000"):
        f.at_most(case + ", per dead object", f.value(case, "gyre"), show_ns, 40, 30)


def stw_figures(f):
    rings = f.value("collect/rings/4/0", "gyre-stw")
    f.at_most("stw: rings k=4, none live, per object", rings, show_ns, 45)
    for case in ("collect/full/1000000", "collect/full/5000000"):
        f.at_most("stw: %s, per live object" % case, f.value(case, "gyre-stw"), show_ns, 40)
    f.at_most("stw: dropping a list of 5x10^6, longest call",
              f.value("collect/list/5000000", "gyre-stw", "longest_call_ns"), duration, 500000)


def value_figures(f):
    get = "value/dict_get/1000000"
    for peer in ("cpython", "glib"):
        f.times("%s to %s" % (get, peer), f.value(get, "gyre"), 1.0, f.value(get, peer))
    f.at_most("interned string of 16 bytes, hit", f.value("value/intern/hit", "gyre"), show_ns, 60)
    # Of two threads an iteration is a hit by each.
    f.times("the same by two threads at once, each with strings of its own",
            f.value("value/intern2/own", "gyre"), 2 / 1.8, f.value("value/intern/hit", "gyre"))


def trace_figures(f):
    for case in ("trace/pair/64", "trace/batch/64", "trace/pair/200", "trace/batch/200"):
        untraced = f.value(case, "gyre")
        f.times(case + ", all traced", f.value(case, "gyre-exact"), 2.5, untraced)
        f.times(case + ", sampled each 512 KiB", f.value(case, "gyre-sampled"), 1.05, untraced)
    snapshot = "trace/snapshot/600000"
    f.at_most("bytes for a live trace", f.value(snapshot, "gyre-exact", "bytes_a_trace"),
              "{:.1f}".format, 40)
    f.at_most("snapshot of 600,000 traces and its figures by line", f.value(snapshot, "gyre-exact"),
              duration, 0.3e9)


def figures_lines(cases):
    rows = figures(cases)
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = ["Figures to reach"]
    for what, *numbers, verdict in rows:
        cells = [what.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(numbers, widths[1:])]
        lines.append("  %s  %s" % ("  ".join(cells), verdict))
    return lines


def losses_lines(cases):
    lines = []
    for case in cases:
        for system in case.commands:
            verdict = case.verdict(system)
            if verdict:
                ratio = case.ratio(system)
                lines.append("  %s/%s: %s%s" % (
                    case.name, system, "" if ratio is None else "%.2f x, " % ratio, verdict))
    return ["Rows that gyre loses"] + (lines or ["  none"])


# ---- reports -------------------------------------------------------------------------------------


def output_of(*command):
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return ""
    return result.stdout.strip()


def versions():
    """By package, for those that are installed."""
    lines = output_of("dpkg-query", "-W", "-f=${Package} ${Version}\\n", *PACKAGES).splitlines()
    return dict(line.split(" ", 1) for line in lines if " " in line and not line.endswith(" "))


def processor():
    try:
        with open("/proc/cpuinfo") as info:
            found = re.search(r"^model name\s*:\s*(.*)$", info.read(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1) if found else "an unknown processor"


def describe(arguments, contexts):
    """The context of the merged report: Google Benchmark's, and what else the figures depend on."""
    google = next((c for system, c in contexts.items() if system != "cpython"), {})
    context = dict(google)
    # Of one program among many; and of Debian's Google Benchmark, none of which runs in a loop.
    for key in ("executable", "host_name", "library_build_type"):
        context.pop(key, None)
    context.update({
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": arguments.command,
        "processor": processor(),
        "kernel": " ".join(os.uname()[i] for i in (0, 2, 4)),
        "gyre": output_of("git", "-C", arguments.sources, "describe", "--always", "--dirty"),
        "repetitions": arguments.repetitions,
        "versions": versions(),
    })
    return context


AGGREGATES = [
    ("mean", "time", statistics.fmean),
    ("median", "time", statistics.median),
    ("stddev", "time", lambda v: statistics.stdev(v) if len(v) > 1 else 0.0),
    ("cv", "percentage",
     lambda v: statistics.stdev(v) / statistics.fmean(v) if len(v) > 1 and any(v) else 0.0),
]


def merged_runs(cases):
    """All records in Google Benchmark's order: repetitions of a benchmark, then its aggregates."""
    records = []
    family = 0
    for case in cases:
        for system in case.commands:
            runs = case.runs[system]
            if not runs:
                continue
            common = {"family_index": family, "per_family_instance_index": 0,
                      "run_name": case.name + "/" + system, "repetitions": len(runs), "threads": 1}
            for i, run in enumerate(runs):
                records.append({**run, **common, "name": common["run_name"], "repetition_index": i})
            for name, unit, function in AGGREGATES:
                records.append({**common, **aggregate(runs, name, unit, function),
                                "name": common["run_name"] + "_" + name})
            family += 1
    return records


NOT_FIGURES = {"family_index", "per_family_instance_index", "repetitions", "repetition_index",
               "threads", "iterations"}


def aggregate(runs, name, unit, function):
    record = {"run_type": "aggregate", "aggregate_name": name, "aggregate_unit": unit,
              "iterations": len(runs), "time_unit": "ns"}
    for key, value in runs[0].items():
        if type(value) in (int, float) and key not in NOT_FIGURES:
            record[key] = function([run[key] for run in runs])
    return record


def write_reports(path, cases, context):
    with open(path, "w") as out:
        json.dump({"context": context, "benchmarks": merged_runs(cases)}, out, indent=2)
        out.write("\n")
    text = os.path.splitext(path)[0] + ".md"
    with open(text, "w") as out:
        out.write("\n".join(report_lines(cases, context)) + "\n")
    return text


def report_lines(cases, context):
    lines = ["# gyre, measured", "", "    " + context["command"], ""]
    versions_text = ", ".join("%s %s" % version for version in context["versions"].items())
    lines.append("%s; %s; %s CPUs, %s; load at the start %s." % (
        context["date"], context["kernel"], context.get("num_cpus", "?"), context["processor"],
        "/".join("%.2f" % load for load in context.get("load_avg", [])) or "unknown"))
    lines.append("gyre %s; %s." % (context["gyre"] or "without version", versions_text))
    lines.append("")
    lines.append("Medians of %d repetitions, the systems taking turns; spread is largest less "
                 "smallest, to the median. Less is better (but for million/s); \"to gyre\" is a "
                 "system's figure over gyre's." % context["repetitions"])
    for part in (figures_lines(cases), losses_lines(cases)):
        if part:
            lines += ["", "## " + part[0], "", "```"] + [line[2:] for line in part[1:]] + ["```"]
    group = None
    for case in cases:
        if case.name.split("/")[0] != group:
            group = case.name.split("/")[0]
            lines += ["", "## " + group]
        lines += ["", "```"] + table(case) + ["```"]
    return lines


# ---- the command line ----------------------------------------------------------------------------


def parse(arguments):
    parser = argparse.ArgumentParser(prog="tools/bench")
    parser.add_argument("--built", required=True, help="the folder of the built programs")
    parser.add_argument("--sources", required=True, help="the folder bench/")
    parser.add_argument("--command", default="tools/bench", help="how the user called it")
    parser.add_argument("--mode", choices=LEVELS, default="default")
    parser.add_argument("--filter", default="")
    parser.add_argument("--reps", type=int, dest="repetitions")
    parser.add_argument("--json", dest="report", required=True)
    parser.add_argument("--own-malloc", metavar="FILE",
                        help="gyre's library in malloc's stead, if it was built")
    parser.add_argument("--peer", dest="peers", action="append", default=[], metavar="NAME=FILE")
    options = parser.parse_args(arguments)
    if options.repetitions is None:
        options.repetitions = REPETITIONS[options.mode]
    if options.repetitions < 1:
        fail("--reps wants a number from 1 up")
    return options


def main():
    options = parse(sys.argv[1:])
    try:
        pattern = re.compile(options.filter)
    except re.error as error:
        fail("--filter wants a regular expression: %s" % error)
    cases = find_cases(options.built, options.sources, options.own_malloc, options.peers)
    cases = choose(cases, options.mode, pattern)
    if not cases:
        fail("no benchmark of a %s run fits %s" % (options.mode, shlex.quote(options.filter)))
    load = os.getloadavg()[0]
    if load > 0.5:
        print("Other programs use this machine (load %.1f): expect a wide spread.\n" % load)
    contexts = {}
    begin = time.monotonic()
    run_all(cases, options.repetitions, MIN_SECONDS[options.mode], contexts)
    context = describe(options, contexts)
    for part in (figures_lines(cases), losses_lines(cases)):
        if part:
            print("\n".join(part) + "\n")
    text = write_reports(options.report, cases, context)
    print("%d cases in %d s; report: %s, figures: %s" % (
        len(cases), time.monotonic() - begin, text, options.report))
    failed = sum(len(case.errors) for case in cases)
    if failed:
        fail("%d of the benchmarks failed, see above" % failed)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        fail("interrupted")
