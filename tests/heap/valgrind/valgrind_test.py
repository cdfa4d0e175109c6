#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: MIT
"""memcheck sees the heap's blocks in a library that is compiled with GYRE_VALGRIND.

blocks.c is compiled with the library and run twice. Without a mistake memcheck has nothing to say; of each
mistake it says what the list below expects, in the function that makes it.

Usage: valgrind_test        (in a folder with include/, lib/ and tests/)
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM = "tests/heap/valgrind/blocks.c"
ROOMS = ["base", "thread", "heap", "object", "weak", "collect"]
FLAGS = "-std=c11 -D_GNU_SOURCE -DGYRE_VALGRIND=1 -g -O1 -fno-omit-frame-pointer -Iinclude -I.".split()
LIBRARIES = "-lurcu-cds -lurcu-common -lpthread".split()
VALGRIND = "valgrind --leak-check=full --show-leak-kinds=all --error-exitcode=9 --num-callers=20".split()

READ, WRITE = "Invalid read of size", "Invalid write of size"
MISTAKES = {
    "reads_the_first_byte_of_a_freed_block": (READ, "0 bytes inside a block of size 40 free'd"),
    "writes_to_a_block_that_another_thread_freed": (
        WRITE,
        "300 bytes inside a block of size 400 free'd",
    ),
    "reads_a_freed_large_block": (READ, "100,000 bytes inside a block of size 200,000 free'd"),
    "reads_past_the_end": (READ, "0 bytes after a block of size 64 alloc'd"),
    "writes_past_the_end_of_an_odd_size": (WRITE, "0 bytes after a block of size 33 alloc'd"),
    "writes_past_the_end_of_a_large_block": (WRITE, "0 bytes after a block of size 200,000 alloc'd"),
    "reads_what_a_shrunk_block_had": (READ, "5 bytes after a block of size 90 alloc'd"),
    "depends_on_a_byte_never_written": ("Conditional jump or move depends on uninitialised", ""),
    "reads_a_dead_object": (READ, ""),
    "loses_a_block": ("123 bytes in 1 blocks are definitely lost", ""),
    "loses_a_large_block": ("200,000 bytes in 1 blocks are definitely lost", ""),
    "keeps_a_block": ("321 bytes in 1 blocks are still reachable", ""),
}


def compile_program(folder):
    sources = [PROGRAM] + [str(f) for room in ROOMS for f in sorted(Path("lib", room).glob("*.c"))]
    program = folder / "blocks"
    subprocess.run(["gcc", *FLAGS, *sources, *LIBRARIES, "-o", program], check=True)
    return program


def run(program, how):
    """The exit code, and what memcheck says, in paragraphs."""
    result = subprocess.run(
        [*VALGRIND, program, how], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines = [re.sub(r"^==\d+== ?", "", line) for line in result.stdout.splitlines()]
    return result.returncode, "\n".join(lines).split("\n\n")


def clean_complaints(program):
    code, said = run(program, "clean")
    if code != 0 or not any("All heap blocks were freed" in text for text in said):
        yield "the clean run: exit code %d\n%s" % (code, "\n\n".join(said))


def mistake_complaints(program):
    code, said = run(program, "wrong")
    if code != 9:
        yield "the wrong run: exit code %d" % code
    for function, (what, where) in MISTAKES.items():
        if not any(what in text and where in text and f": {function} (" in text for text in said):
            yield f"{function}: no '{what} ... {where}'"
    named = sum(any(f": {function} (" in text for function in MISTAKES) for text in said)
    if named != len(MISTAKES):
        yield f"{named} messages for {len(MISTAKES)} mistakes"


def main():
    with tempfile.TemporaryDirectory() as folder:
        program = compile_program(Path(folder))
        complaints = list(clean_complaints(program)) + list(mistake_complaints(program))
    for text in complaints:
        print(text)
    return 1 if complaints else 0


sys.exit(main())
