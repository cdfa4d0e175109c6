#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: MIT
"""libgyre.so.0 exports what the public headers declare with GYRE_API, and nothing else.

Runs from the root of the tree. A declared name that is missing has no definition or, with two
underscores, no line in lib/gyre.map.
"""

import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, "tools/lint")
from csource import Source  # noqa: E402  (found through the line above)

# A function's name stands before its parameters, a variable's before the semicolon.
DECLARATION = re.compile(r"\bGYRE_API\b[^;{(]*?\b(gyre_\w+)\s*[(;]")


def declared():
    names = set()
    for header in Path("include/gyre").glob("*.h"):
        code = [line for line in Source(header).code if not line.lstrip().startswith("#")]
        names.update(DECLARATION.findall("\n".join(code)))
    return names


def exported():
    command = ["nm", "--dynamic", "--defined-only", "--format=posix", "libgyre.so.0"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    symbols = [line.split()[0] for line in lines]
    unversioned = [name for name in symbols if "@@GYRE_" not in name and name != "GYRE_0"]
    for name in unversioned:
        print(f"{name} is exported without a version")
    return {name.split("@")[0] for name in symbols} - {"GYRE_0"}, not unversioned


def main():
    want = declared()
    have, versioned = exported()
    for name in sorted(want - have):
        print(f"{name} is declared with GYRE_API, but not exported")
    for name in sorted(have - want):
        print(f"{name} is exported, but no public header declares it")
    print(f"{len(want)} names declared, {len(have)} exported")
    sys.exit(0 if want == have and versioned else 1)


main()
