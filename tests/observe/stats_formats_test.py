#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: MIT
"""What the writers of figures print is read by those it is for.

Runs from the root of the tree: stats_test --print FORMAT prints, this reads. The JSON by Python's own
parser; OpenMetrics by rules below, which are those of its specification as far as the library uses it, and
by Prometheus's parser (Debian's python3-prometheus-client), if that is there. An argument names another
stats_test.
"""

import json
import os
import re
import subprocess
import sys

PROGRAM = sys.argv[1] if len(sys.argv) > 1 else "tests/observe/stats_test"
failures = []


def expect(condition, what):
    if not condition:
        failures.append(what)


def run(form, **environment):
    """Standard output and standard error of the program with this environment added."""
    # Some sanitizers' reports would come at the end of the process, too.
    env = {k: v for k, v in os.environ.items() if not k.startswith("GYRE_")}
    command = [PROGRAM, "--print", form]
    done = subprocess.run(command, env={**env, **environment}, capture_output=True, text=True)
    expect(done.returncode == 0, f"{form}: exit code {done.returncode}: {done.stderr}")
    return done.stdout, done.stderr


def check_json(text, heap_only):
    data = json.loads(text)
    expect(set(data) == {"version", "figures", "classes"}, f"keys {set(data)}")
    expect(re.fullmatch(r"\d+\.\d+\.\d+", data["version"]), f"version {data['version']}")
    for name, value in data["figures"].items():
        values = value if isinstance(value, list) else [value]
        expect(len(values) in (1, 3), f"{name} has {len(values)} values")
        expect(all(isinstance(v, int) and v >= 0 for v in values), f"{name} is {value}")
        expect(not heap_only or name.startswith("heap_"), f"{name} is none of the heap's")
    expect(heap_only or sum(data["figures"]["gc_collected"]) == 1000, "1,000 nodes were collected")
    kinds = {c["kind"] for c in data["classes"]}
    expect(kinds <= {"raw", "leaf", "tracked"} and kinds >= {"raw", "leaf"}, f"kinds {kinds}")
    for c in data["classes"]:
        expect(c["used_blocks"] <= c["blocks"], f"{c}")
        expect(c["blocks"] == c["pages"] * (c["page_bytes"] // c["block_bytes"]), f"{c}")
    return data


SAMPLE = re.compile(r'(\w+)(?:\{(\w+="[^"\\\n]*"(?:,\w+="[^"\\\n]*")*)\})? (\d+(?:\.\d{9})?)')


def check_openmetrics(text):
    """The lines of version 1.0 that the library writes; returns the samples."""
    expect(text.endswith("# EOF\n"), "the last line is no # EOF")
    expect(text.count("# EOF") == 1, "several # EOF")
    families, family, samples = {}, None, {}
    for line in text.splitlines()[:-1]:
        if line.startswith("# TYPE "):
            _, _, family, kind = line.split(" ")
            expect(kind in ("gauge", "counter", "info"), line)
            expect(family not in families, f"family {family} comes twice")
            families[family] = {"kind": kind, "samples": 0}
        elif line.startswith("# UNIT "):
            _, _, name, unit = line.split(" ")
            expect(name == family and family.endswith("_" + unit), line)
            expect(unit in ("bytes", "seconds"), line)
            expect(families[family]["samples"] == 0, f"after samples: {line}")
        elif line.startswith("# HELP "):
            name, text_ = line[len("# HELP ") :].split(" ", 1)
            expect(name == family and text_.endswith(".") and "\\" not in text_, line)
            expect(families[family]["samples"] == 0, f"after samples: {line}")
            families[family]["help"] = text_
        else:
            match = SAMPLE.fullmatch(line)
            expect(match, f"no sample: {line}")
            if not match:
                continue
            suffix = {"gauge": "", "counter": "_total", "info": "_info"}[families[family]["kind"]]
            expect(match[1] == family + suffix, f"{line} in family {family}")
            key = (match[1], match[2])
            expect(key not in samples, f"twice: {line}")
            samples[key] = float(match[3])
            families[family]["samples"] += 1
    for name, family in families.items():
        expect(name.startswith("gyre_") and "help" in family, f"family {name}")
        expect(family["samples"] > 0, f"family {name} has no samples")
    return samples


def check_with_prometheus(text, samples):
    try:
        from prometheus_client.openmetrics.parser import text_string_to_metric_families
    except ImportError:
        print("prometheus_client is not installed: its parser is left out")
        return
    theirs = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{k}="{v}"' for k, v in sample.labels.items()) or None
            theirs[sample.name, labels] = sample.value
    expect(theirs == samples, f"Prometheus reads {theirs} instead of {samples}")


def check_text(text, figures):
    for name, value in figures.items():
        values = "/".join(map(str, value)) if isinstance(value, list) else r"\d+"
        if isinstance(value, list) and not name.startswith("gc_coll"):
            values = r"\d+/\d+/\d+"
        expect(re.search(rf"^{name} +{values} ", text, re.M), f"no {name} in the text")


def main():
    data = check_json(run("json")[0], False)
    check_json(run("heap-json")[0], True)
    text = run("openmetrics")[0]
    samples = check_openmetrics(text)
    check_with_prometheus(text, samples)
    heap = run("heap-openmetrics")[0]
    check_with_prometheus(heap, check_openmetrics(heap))
    expect(("gyre_gc_collected_total", 'generation="0"') in samples, "collected objects by generation")
    expect(len(samples) > len(data["figures"]), "as many samples as figures")
    check_text(run("text")[0], data["figures"])

    # At the end of the process, when it is asked for, and only then.
    expect(run("nothing")[1] == "", "something on stderr without being asked")
    check_json(run("nothing", GYRE_STATS="json")[1], False)
    check_json(run("nothing", GYRE_CONF="stats:json")[1], False)
    check_openmetrics(run("nothing", GYRE_STATS="openmetrics")[1])
    check_text(run("nothing", GYRE_STATS="1")[1], data["figures"])
    expect(run("nothing", GYRE_STATS="0")[1] == "", "something on stderr with GYRE_STATS=0")

    for failure in failures:
        print(failure)
    print(f"{len(samples)} samples, {len(failures)} failures")
    sys.exit(1 if failures else 0)


main()
