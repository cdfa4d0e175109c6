"""gyre_test and gyre_tests: how a behaviour test becomes a target.

A test is a C program with cmocka and its own main(). Tags: `quick` for tests that tools/test --quick
runs too.
"""

load("//tools/bazel:copts.bzl", "GYRE_COPTS")

def gyre_test(name, srcs, deps = [], size = "small", quick = True, tags = [], **kwargs):
    """One test program.

    Args:
      name: the target, as a rule the source without .c.
      srcs: its sources.
      deps: beyond gyre with its insides, cmocka and //tests/support.
      size: Bazel's, which sets the time limit: small 1 minute, medium 5, large 15.
      quick: whether tools/test --quick runs it.
      tags: more tags; "exclusive" for a test that must have the machine to itself.
      **kwargs: handed to cc_test.
    """
    native.cc_test(
        name = name,
        srcs = srcs,
        copts = GYRE_COPTS,
        linkstatic = True,
        size = size,
        tags = tags + (["quick"] if quick else []),
        deps = [
            "//:gyre",
            "//tests/support",
            "@system//:cmocka",
        ] + deps,
        **kwargs
    )

# Settings of the library that whole rooms are tested with, besides the defaults: GYRE_CONF by the end of
# the target's name. A test's own options have the last word.
GYRE_STW = {"stw": "gc_mode:stw"}
GYRE_ALL = {
    "stw": "gc_mode:stw",
    "always": "collect_always:3",
    "stw_always": "gc_mode:stw,collect_always:3",
}

# Under allocation tracing: everything, and samples.
GYRE_TRACED = {
    "traced": "trace=2",
    "sampled": "trace=1,sample=100k",
}

def gyre_tests(size = "small", quick = True, options = {}, variants = {}):
    """A test for every *_test.c in this folder; the folder's *.h and other *.c come with each.

    Args:
      size: for all of them.
      quick: for all of them.
      options: what differs, by test: {"slow_test": {"size": "medium", "quick": False}}.
      variants: each test's program once more under other settings: {"stw": "gc_mode:stw"} makes foo_stw_test,
        which is foo_test with GYRE_CONF=gc_mode:stw; {"traced": "trace=2"} has it run with GYRE_TRACE=2. They
        are not among the quick ones. A test whose options say "variants" has those instead.
    """
    shared = native.glob(["*.c", "*.h"], exclude = ["*_test.c"])
    for source in native.glob(["*_test.c"]):
        name = source[:-len(".c")]
        arguments = {"size": size, "quick": quick}
        arguments.update(options.get(name, {}))
        mine = arguments.pop("variants", variants)
        gyre_test(name = name, srcs = [source] + shared, **arguments)
        arguments.pop("quick")
        for variant, conf in mine.items():
            # The same program again, not built again.
            native.sh_test(
                name = "%s_%s_test" % (name[:-len("_test")], variant),
                srcs = [":" + name],
                env = {"GYRE_TRACE": conf[len("trace="):]} if conf.startswith("trace=") else {"GYRE_CONF": conf},
                **arguments
            )
