"""bench_programs: one benchmark program for each system, all from the same sources."""

load("//tools/bazel:copts.bzl", "GYRE_COPTS")

def bench_programs(name, srcs, systems):
    """The programs <name>_<system>.

    Args:
      name: the group of benchmarks.
      srcs: the C sources that all programs are compiled from. They include the header of their
        system by the name BENCH_SYSTEM.
      systems: by name, what belongs to the system's program besides systems/<system>.h: C sources,
        linker options that start with "-", and targets.
    """
    for system, parts in systems.items():
        sources = [part for part in parts if part.endswith(".c")]
        options = [part for part in parts if part.startswith("-")]
        native.cc_binary(
            name = "%s_%s" % (name, system),
            testonly = True,
            srcs = srcs + sources + native.glob(["systems/*.h"]),
            copts = GYRE_COPTS + ["-DBENCH_SYSTEM='\"%s/systems/%s.h\"'" % (native.package_name(), system)],
            linkstatic = True,
            visibility = ["//bench:__pkg__"],
            linkopts = options,
            deps = [part for part in parts if part not in sources + options] + ["//bench/support"],
        )
