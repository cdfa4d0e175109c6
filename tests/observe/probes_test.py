#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: MIT
"""The library has the probes that lib/docs/probes.md lists, with as many arguments, and no others.

Runs from the root of the tree. readelf shows the notes that <sys/sdt.h> makes. An argument names another
library or program.
"""

import re
import subprocess
import sys
from pathlib import Path

LIBRARY = sys.argv[1] if len(sys.argv) > 1 else "libgyre.so.0"
ROW = re.compile(r"^\| `(\w+)` \| ((?:`\w+`(?:, )?)*) ?\|", re.M)
NOTE = re.compile(r"Provider: (\w+)\s+Name: (\w+)\s+Location: (\w+),[^\n]*\n\s+Arguments: ?([^\n]*)")
# Numbers of 1 to 8 bytes, signed with a minus.
ARGUMENT = re.compile(r"-?[1248]@\S+")


def documented():
    text = Path("lib/docs/probes.md").read_text()
    return {name: re.findall(r"`(\w+)`", args) for name, args in ROW.findall(text)}, text


def built():
    """Each probe's lists of arguments, one for each place where it is."""
    command = ["readelf", "--notes", "--wide", LIBRARY]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    probes = {}
    for provider, name, location, arguments in NOTE.findall(output):
        if provider == "gyre" and int(location, 16) != 0:
            probes.setdefault(name, []).append(ARGUMENT.findall(arguments))
    return probes


def main():
    want, text = documented()
    have = built()
    if not have:
        print(f"no probes in {LIBRARY}: was it built without <sys/sdt.h> (systemtap-sdt-dev)?")
    failures = [f"{name} is documented, and not in {LIBRARY}" for name in want.keys() - have.keys()]
    failures += [f"{name} is in {LIBRARY}, and not documented" for name in have.keys() - want.keys()]
    for name in want.keys() & have.keys():
        for arguments in have[name]:
            if len(arguments) != len(want[name]):
                failures.append(f"{name} has {arguments}, but should have {want[name]}")
    for name in want:
        if f":gyre:{name} " not in text:
            failures.append(f"{name} has no one-liner")
    # Those in the one-liners exist, and have the arguments that are used there.
    for name, use in re.findall(r":gyre:(\w+) ([^\n]*)", text):
        for arg in re.findall(r"\barg(\d)\b", use):
            if int(arg) >= len(want.get(name, [])):
                failures.append(f"a one-liner uses arg{arg} of {name}")
    if len(want) < 10:
        failures.append(f"only {len(want)} probes are documented")
    for failure in sorted(failures):
        print(failure)
    print(f"{len(want)} probes documented, {len(have)} built")
    sys.exit(1 if failures else 0)


main()
