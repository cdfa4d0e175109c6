"""gyre_room: one folder of lib/, with the rooms below it and the rooms that may use it."""

load(":copts.bzl", "GYRE_LIBRARY_COPTS", "GYRE_MALLOC_COPTS")

# Who may use every room: the library's own targets and the tests of its insides.
_ALWAYS = [
    "//:__pkg__",
    "//tests:__subpackages__",
]

def gyre_malloc_variant(dep):
    """What stands for a room in libgyre_malloc: //lib/heap:heap_malloc for //lib/heap."""
    if not dep.startswith("//lib/"):
        return dep
    return "%s:%s_malloc" % (dep, dep[len("//lib/"):])

def gyre_room(name, deps, used_by, linkopts = [], libraries = ["gyre"]):
    """The library //lib/<name>:<name> of all *.c and *.h in its folder.

    Args:
      name: the room, which is also the folder.
      deps: the rooms right below it, the public headers, system libraries. Rooms further below come
        with them.
      used_by: the rooms right above it. Visibility holds the design's rule that includes go down
        only; tools/lint/includes checks the #include lines themselves.
      linkopts: what the linker needs besides.
      libraries: what the room is part of: "gyre", "gyre_malloc", or both. For the second it is compiled
        anew, as <name>_malloc, with GYRE__IS_MALLOC (lib/base/base.h) and cheaper thread-local variables.
    """
    shared = dict(
        srcs = native.glob(["*.c"]),
        hdrs = native.glob(["*.h"]),
        linkopts = linkopts,

        # The shared libraries are linked from the rooms: they need every object, not only those that
        # other objects refer to.
        alwayslink = True,
        linkstatic = True,
        visibility = _ALWAYS + ["//lib/%s:__pkg__" % room for room in used_by],
    )
    if "gyre" in libraries:
        native.cc_library(
            name = name,
            copts = GYRE_LIBRARY_COPTS,
            deps = deps,
            **shared
        )
    if "gyre_malloc" in libraries:
        native.cc_library(
            name = name + "_malloc",
            copts = GYRE_MALLOC_COPTS,
            # Not an option of the compilation alone: who includes the headers must see the same.
            defines = ["GYRE__IS_MALLOC=1"],
            deps = [gyre_malloc_variant(dep) for dep in deps],
            **shared
        )

    # For the test that compiles all sources anew.
    native.filegroup(
        name = "sources",
        srcs = native.glob([
            "*.c",
            "*.h",
        ]),
        visibility = ["//tests/heap/valgrind:__pkg__"],
    )

    # For the tests that compile each header alone.
    native.filegroup(
        name = "headers",
        srcs = native.glob(["*.h"]),
        visibility = ["//tests/headers:__pkg__"],
    )
