"""bench_programs: one benchmark program for each system, all from the same sources."""

load("//tools/bazel:copts.bzl", "GYRE_COPTS")

def bench_programs(name, srcs, systems):
    """The programs <name>_<system>.

    Args:
      name: the group of benchmarks.
      srcs: the C sources that all programs are compiled from. They include the header of their
        system by the name BENCH_SYSTEM.
      systems: by name, what the system's program is linked with: targets, and linker options that
        start with "-". systems/<system>.h, and systems/<system>.c if there is one, belong to it.
    """
    for system, libraries in systems.items():
        native.cc_binary(
            name = "%s_%s" % (name, system),
            testonly = True,
            srcs = srcs + native.glob([
                "systems/*.h",
                "systems/%s.c" % system,
            ]),
            copts = GYRE_COPTS + ["-DBENCH_SYSTEM='\"%s/systems/%s.h\"'" % (native.package_name(), system)],
            linkstatic = True,
            visibility = ["//bench:__pkg__"],
            linkopts = [word for word in libraries if word.startswith("-")],
            deps = [word for word in libraries if not word.startswith("-")] + ["//bench/support"],
        )
