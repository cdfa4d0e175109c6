"""How gyre's own code is compiled: the one list that library, tests and benchmarks share.

Optimization, sanitizers and the GYRE_* modes are configurations and are in .bazelrc: they must reach
every compilation, whatever its target says.
"""

_WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wshadow",
    "-Wconversion",
    "-Werror",
]

# C: library, tests, benchmarks.
GYRE_COPTS = _WARNINGS + [
    "-std=c11",
    "-D_GNU_SOURCE",
]

# C++: programs that include the public headers as C++ users do.
GYRE_CXXOPTS = _WARNINGS + [
    "-std=c++17",
]

# The library's own objects on top of that. Only what GYRE_API marks is visible outside a shared
# library, and what is visible may still be inlined inside it: nobody is meant to interpose gyre's
# functions.
#
# The notes of probes (lib/base/probe.h) refer to the functions that they are in, and gold, which leaves
# unused sections out, leaves out those functions and not the notes. So files are used as a whole.
GYRE_LIBRARY_COPTS = GYRE_COPTS + [
    "-fvisibility=hidden",
    "-fno-semantic-interposition",
    "-fno-function-sections",
]

# The same for libgyre_malloc, which is loaded at the start of a program: its thread-local variables have
# their place in every thread's block from the beginning and cost no call.
GYRE_MALLOC_COPTS = GYRE_LIBRARY_COPTS + [
    "-ftls-model=initial-exec",
    # What it defines is not the compiler's to put in or leave out.
    "-fno-builtin-malloc",
    "-fno-builtin-calloc",
    "-fno-builtin-realloc",
    "-fno-builtin-free",
    # operator new throws.
    "-fexceptions",
]
