"""gyre_room: one folder of lib/, with the rooms below it and the rooms that may use it."""

load(":copts.bzl", "GYRE_LIBRARY_COPTS")

# Who may use every room: the library's own targets and the tests of its insides.
_ALWAYS = [
    "//:__pkg__",
    "//tests:__subpackages__",
]

def gyre_room(name, deps, used_by, linkopts = []):
    """The library //lib/<name>:<name> of all *.c and *.h in its folder.

    Args:
      name: the room, which is also the folder.
      deps: the rooms right below it, the public headers, system libraries. Rooms further below come
        with them.
      used_by: the rooms right above it. Visibility holds the design's rule that includes go down
        only; tools/lint/includes checks the #include lines themselves.
      linkopts: what the linker needs besides.
    """
    native.cc_library(
        name = name,
        srcs = native.glob(["*.c"]),
        hdrs = native.glob(["*.h"]),
        copts = GYRE_LIBRARY_COPTS,
        linkopts = linkopts,

        # The shared library is linked from the rooms: it needs every object, not only those that other
        # objects refer to.
        alwayslink = True,
        linkstatic = True,
        visibility = _ALWAYS + ["//lib/%s:__pkg__" % room for room in used_by],
        deps = deps,
    )

    # For the tests that compile each header alone.
    native.filegroup(
        name = "headers",
        srcs = native.glob(["*.h"]),
        visibility = ["//tests/headers:__pkg__"],
    )
