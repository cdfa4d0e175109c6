#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: MIT
"""The lints find what they are for, and nothing in code that is right.

Each case is a small tree. Lines that a lint must complain about end in the mark below; it must complain
about these and no others. Runs from the root of the tree.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

MARK = "//BAD"

BUILDS = {
    "lib/base/BUILD": 'deps = ["//include:headers"]',
    "lib/thread/BUILD": 'deps = ["//lib/base"]',
    "lib/heap/BUILD": 'deps = ["//lib/thread"]',
}

CASES = [
    (
        "atomics",
        "an operation needs the word of its own ordering, a reason and a partner, nearby",
        {
            "lib/heap/a.c": """
x = gyre__load_acquire(&a); //BAD

/* acquire: reads the roots; pairs with the release in publish(). */
x = gyre__load_acquire(&a);

/* relaxed: a hint only. */
x = gyre__load_relaxed(&a);

/* relaxed: a hint only. */
x = gyre__load_acquire(&a); //BAD

/* acquire: reads the roots. */
x = gyre__load_acquire(&a); //BAD

x = gyre__load_relaxed(&a); /* relaxed: in the same line. */

/* relaxed: too far away.
 */



x = gyre__load_relaxed(&a); //BAD
"""
        },
    ),
    (
        "atomics",
        "operations in one group share a comment, across an empty line they do not",
        {
            "lib/heap/a.c": """
/* relaxed: the world is stopped. */
gyre__store_relaxed(&a, 0);
gyre__store_relaxed(&b, 0);
gyre__store_relaxed(&c, 0);
if (d)
  gyre__store_relaxed(&d, 0);

gyre__store_relaxed(&e, 0); //BAD
"""
        },
    ),
    (
        "atomics",
        "raw operations count too, and must name their ordering",
        {
            "include/gyre/a.h": """
atomic_fetch_add(&a, 1); //BAD

/* seq_cst: pairs with the load in g(). */
__atomic_store_n(&a, "__ATOMIC_RELAXED",
                 __ATOMIC_SEQ_CST);
/* atomic_load(&a) in a comment, */ f("or atomic_load(&a) in a string");
"""
        },
    ),
    (
        "atomics",
        "half a reason is enough for acq_rel",
        {
            "lib/heap/a.c": """
/* release: what was written before; pairs with take(). */
x = gyre__exchange_acq_rel(&a, 1);

/* seq_cst: pairs with take(). */
x = gyre__exchange_acq_rel(&a, 1); //BAD
"""
        },
    ),
    (
        "contracts",
        "a public prototype or macro has a comment above it or above its group",
        {
            "include/gyre/a.h": """
GYRE_API int gyre_a(void); //BAD

/* A contract. */
GYRE_API int gyre_b(int b)
    __attribute__((malloc));
GYRE_API int gyre_c(void);

/* Too far away. */

GYRE_API int gyre_d(void); //BAD

/* A contract. */
GYRE_INLINE int gyre_e(void) {
  return 0; /* not a contract */
}
GYRE_INLINE int gyre_f(void) { return 0; } //BAD

#define gyre_g(x) (x) //BAD

/* A contract. */
#define gyre_h(x) (x)

GYRE_API int gyre__i(int (*gyre_callback)(void));
"""
        },
    ),
    (
        "includes",
        "rooms include what is below them",
        {
            "lib/thread/a.c": """
#include <stdlib.h>
#include <gyre/thread.h>
#include <gyre/base.h>
#include <gyre/heap.h> //BAD
#include <gyre/gyre.h> //BAD
#include "lib/thread/a.h"
#include "lib/base/b.h"
#include "lib/heap/c.h" //BAD
#include "a.h" //BAD
#include "../base/b.h" //BAD
/* #include "lib/heap/c.h" */
""",
            "include/gyre/thread.h": """
#include <gyre/base.h>
#include <gyre/heap.h> //BAD
#include "lib/base/b.h" //BAD
""",
            "include/gyre/gyre.h": """
#include <gyre/base.h>
#include <gyre/heap.h>
""",
        },
    ),
]


def marked(files):
    """Where complaints are due, as "file:line", and the files without the marks."""
    due, clean = set(), {}
    for name, text in files.items():
        for number, line in enumerate(text.split("\n"), 1):
            if line.endswith(MARK):
                due.add(f"{name}:{number}")
        clean[name] = text.replace(" " + MARK, "")
    return due, clean


def complaints(lint, files):
    """What the lint says about the files, as "file:line", and its exit code."""
    with tempfile.TemporaryDirectory() as tree:
        shutil.copytree("tools/lint", Path(tree, "tools/lint"))
        for name, text in {**BUILDS, **files}.items():
            path = Path(tree, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        run = subprocess.run([Path(tree, "tools/lint", lint)], capture_output=True, text=True)
    return set(re.findall(r"^([\w./]+:\d+):", run.stdout, re.MULTILINE)), run.returncode, run.stderr


def main():
    failures = 0
    for lint, behaviour, files in CASES:
        due, clean = marked(files)
        found, status, errors = complaints(lint, clean)
        if found != due or status != (1 if due else 0):
            failures += 1
            print(f"{lint}: {behaviour}")
            print(f"  missed: {sorted(due - found)}, wrong: {sorted(found - due)}, exit code {status}")
            print(errors)
    sys.exit(1 if failures else 0)


main()
