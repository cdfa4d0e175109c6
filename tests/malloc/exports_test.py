#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: MIT
"""libgyre_malloc.so.0 exports the malloc family and nothing else, and needs no malloc itself; the archive has
no other global names either. Runs from the root of the tree.
"""

import re
import subprocess
import sys

SHARED = "libgyre_malloc.so.0"
ARCHIVE = "libgyre_malloc.a"

C_FAMILY = """
    malloc calloc realloc reallocarray free free_sized free_aligned_sized cfree posix_memalign aligned_alloc
    memalign valloc pvalloc malloc_usable_size malloc_trim
""".split()
NEW = [f"_Zn{form}m{kind}" for form in "wa" for kind in
       ("", "RKSt9nothrow_t", "St11align_val_t", "St11align_val_tRKSt9nothrow_t")]
DELETE = [f"_Zd{form}Pv{kind}" for form in "la" for kind in
          ("", "RKSt9nothrow_t", "m", "St11align_val_t", "St11align_val_tRKSt9nothrow_t",
           "mSt11align_val_t")]
FAMILY = set(C_FAMILY + NEW + DELETE)

# What it may call: nothing here allocates, as it is called. Whatever is added must be looked at.
HARMLESS = set("""
    _GLOBAL_OFFSET_TABLE_ __errno_location __stack_chk_fail __tls_get_addr __popcountdi2 abort
    bcmp memchr memcmp memcpy memmove memset strchr strcmp strcspn strerror strlen strnlen strrchr strsep strtoull
    snprintf vsnprintf environ secure_getenv
    clock_gettime close getauxval open read write mmap munmap mremap madvise nanosleep prctl sched_yield syscall sysconf
    pthread_atfork __register_atfork pthread_key_create pthread_once pthread_setcancelstate
    pthread_setspecific
""".split())
# Weak, used if they are there: the C++ library's, the toolchain's.
WEAK = set("""
    _ZSt15get_new_handlerv _ZSt17__throw_bad_allocv dlsym __cxa_finalize __gmon_start__
    _ITM_deregisterTMCloneTable _ITM_registerTMCloneTable
""".split())

failures = 0


def expect(condition, text):
    global failures
    if not condition:
        print(text)
        failures += 1


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def symbols(*options):
    """(name, type) of each global symbol, versions cut off."""
    for line in run("nm", "--format=posix", *options).splitlines():
        words = line.split()
        if len(words) >= 2:
            yield words[0], words[1]


def check_names(where, found):
    defined = {name.split("@")[0] for name, kind in found if kind in "TWDBRV" and kind != "U"}
    strong = {name.split("@")[0] for name, kind in found if kind == "U"}
    weak = {name.split("@")[0] for name, kind in found if kind in "wv"}
    for name in sorted(FAMILY - defined):
        expect(False, f"{where}: {name} is missing")
    for name in sorted(defined - FAMILY):
        expect(False, f"{where}: {name} is global, but not of the family")
    for name in sorted(strong - HARMLESS):
        expect(False, f"{where}: needs {name}, of which nobody has said that it does not allocate")
    for name in sorted(weak - WEAK):
        expect(False, f"{where}: has a weak reference to {name}, of which nobody knows")
    print(f"{where}: {len(defined)} names defined, {len(strong)} needed")


def main():
    exported = list(symbols("--dynamic", SHARED))
    check_names(SHARED, exported)
    for name, kind in exported:
        # A program asks for malloc@GLIBC_2.2.5: a version of our own would hide it.
        expect(kind not in "TW" or "@" not in name, f"{SHARED}: {name} has a version")
    check_names(ARCHIVE, list(symbols("--extern-only", ARCHIVE)))

    # Not by way of its own exported names either, which another library may have replaced.
    for line in run("readelf", "--relocs", "--wide", SHARED).splitlines():
        match = re.search(r"\s(\w+)(?:@\S+)? \+ [0-9a-f]+$", line)
        expect(not match or match.group(1) not in FAMILY, f"{SHARED}: refers to {line.split()[-3:]}")

    dynamic = run("readelf", "--dynamic", "--wide", SHARED)
    for what, pattern in {
        "soname": r"\(SONAME\).*\[libgyre_malloc\.so\.0\]",
        "it stays mapped": r"\(FLAGS_1\).*NODELETE",
        "initial-exec thread-local variables": r"\(FLAGS\).*STATIC_TLS",
    }.items():
        expect(re.search(pattern, dynamic), f"{SHARED}: {what}: not so")
    expect("TEXTREL" not in dynamic, f"{SHARED}: has text relocations")
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic))
    for library in needed:
        expect(re.match(r"(libc|libpthread|ld-linux.*)\.so", library), f"{SHARED}: needs {library}")
    sys.exit(0 if failures == 0 else 1)


main()
