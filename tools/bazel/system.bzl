"""@system: the libraries that Debian's -dev packages put on the machine, one target each.

Compiler and linker find these libraries by themselves, so a target carries little more than linker
options. Header folders outside the compiler's own search path (GLib's) are linked into the repository
and handed on with -isystem, so that our warnings do not apply to them.

A library that is not installed fails only the targets that use it, with the name of the package in the
message ("missing input file '@system//:install-the-Debian-package-...'"). The rule runs again when the
Bazel server starts or after `bazel sync --configure`.
"""

# target: (Debian package, pkg-config module or None, header to look for or None, further linker options)
_LIBRARIES = {
    "benchmark": ("libbenchmark-dev", "benchmark", None, ["-lpthread"]),
    "bdwgc": ("libgc-dev", "bdw-gc", None, []),
    "cmocka": ("libcmocka-dev", "cmocka", None, []),
    "glib": ("libglib2.0-dev", "glib-2.0", None, []),
    "jemalloc": ("libjemalloc-dev", "jemalloc", None, []),
    # Headers only: the library is loaded at run time (lib/observe/symbols.c).
    "libdw_headers": ("libdw-dev", None, "/usr/include/elfutils/libdwfl.h", []),
    # Debian's package has a CMake file only.
    "mimalloc": ("libmimalloc-dev", None, "/usr/include/mimalloc.h", ["-lmimalloc"]),
    "tcmalloc": ("libgoogle-perftools-dev", "libtcmalloc_minimal", None, []),
    "urcu_cds": ("liburcu-dev", "liburcu-cds", None, []),
    # The library compiles the header alone (XXH_INLINE_ALL) and links nothing of it.
    "xxhash": ("libxxhash-dev", None, "/usr/include/xxhash.h", []),
}

_FOUND = """cc_library(
    name = "{name}",
    hdrs = glob(["{name}/**/*.h"]),
    includes = {includes},
    linkopts = {linkopts},
)
"""

_MISSING = """cc_library(
    name = "{name}",
    srcs = ["install-the-Debian-package-{package}.c"],
)
"""

def _pkg_config(ctx, what, module):
    """The words that pkg-config prints, or None if it does not know the module."""
    tool = ctx.which("pkg-config")
    if tool == None:
        return None
    result = ctx.execute([tool, what, module])
    if result.return_code != 0:
        return None
    return [word for word in result.stdout.strip().split(" ") if word]

def _include_folders(ctx, name, flags):
    """Links the folders of -I flags into the repository; returns where they are in it."""
    folders = []
    for flag in flags:
        folder = flag[2:]
        if flag.startswith("-I") and folder not in ["/usr/include"]:
            if folder.startswith("/usr/include/") and folder.endswith("-linux-gnu"):
                continue  # the compiler's own folder for this architecture
            here = "%s/%d" % (name, len(folders))
            ctx.symlink(folder, here)
            folders.append(here)
    return folders

def _library(ctx, name):
    package, module, header, linkopts = _LIBRARIES[name]
    includes = []
    if module != None:
        cflags = _pkg_config(ctx, "--cflags", module)
        libs = _pkg_config(ctx, "--libs", module)
        if cflags == None or libs == None:
            return _MISSING.format(name = name, package = package)
        includes = _include_folders(ctx, name, cflags)
        linkopts = libs + linkopts
    elif not ctx.path(header).exists:
        return _MISSING.format(name = name, package = package)
    return _FOUND.format(name = name, includes = includes, linkopts = linkopts)

def _system_libraries_impl(ctx):
    parts = ["package(default_visibility = [\"//visibility:public\"])\n"]
    for name in sorted(_LIBRARIES):
        parts.append(_library(ctx, name))
    ctx.file("BUILD", "\n".join(parts), executable = False)

system_libraries = repository_rule(
    implementation = _system_libraries_impl,
    configure = True,
    local = True,
    doc = "Makes the targets of _LIBRARIES from what is installed.",
)
