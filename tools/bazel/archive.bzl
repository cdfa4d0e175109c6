"""static_archive, static_object: one .a file that holds the objects of a library and of all it depends on.

A cc_library makes an archive of its own sources only, and gyre is one library a room. Programs built
without Bazel want a single file.
"""

load("@bazel_tools//tools/build_defs/cc:action_names.bzl", "CPP_LINK_STATIC_LIBRARY_ACTION_NAME")
load("@bazel_tools//tools/cpp:toolchain_utils.bzl", "find_cpp_toolchain")

def _objects(ctx):
    """All objects of the library and of what it depends on."""
    objects = []
    for linker_input in ctx.attr.library[CcInfo].linking_context.linker_inputs.to_list():
        for library in linker_input.libraries:
            # Position-independent ones: the archive must also link into a user's shared library.
            # None: an archive that came as a file.
            if library.pic_objects != None:
                objects.extend(library.pic_objects)
    return objects

def _archive(ctx, objects):
    """Makes the archive of the rule's name."""
    toolchain = find_cpp_toolchain(ctx)
    features = cc_common.configure_features(
        ctx = ctx,
        cc_toolchain = toolchain,
    )
    archive = ctx.actions.declare_file(ctx.attr.name)
    arguments = ctx.actions.args()

    # D: the same input gives the same bytes. q: keep all members, since rooms may use a file name twice.
    arguments.add("qcsD")
    arguments.add(archive)
    arguments.add_all(objects)
    ctx.actions.run(
        executable = cc_common.get_tool_for_action(
            feature_configuration = features,
            action_name = CPP_LINK_STATIC_LIBRARY_ACTION_NAME,
        ),
        arguments = [arguments],
        inputs = depset(objects, transitive = [toolchain.all_files]),
        outputs = [archive],
        mnemonic = "StaticArchive",
        progress_message = "Collecting objects into " + ctx.attr.name,
    )
    return [DefaultInfo(files = depset([archive]), runfiles = ctx.runfiles([archive]))]

def _static_archive_impl(ctx):
    return _archive(ctx, _objects(ctx))

def _run_binutil(ctx, tool, arguments, inputs, output):
    ctx.actions.run(
        executable = tool,
        arguments = arguments,
        inputs = depset(inputs, transitive = [find_cpp_toolchain(ctx).all_files]),
        outputs = [output],
        mnemonic = "StaticObject",
        progress_message = "Making %s" % output.short_path,
    )

def _static_object_impl(ctx):
    toolchain = find_cpp_toolchain(ctx)
    objects = _objects(ctx)
    joined = ctx.actions.declare_file(ctx.label.name + ".joined.o")
    object = ctx.actions.declare_file(ctx.label.name + ".o")
    _run_binutil(
        ctx,
        toolchain.ld_executable,
        ["-r", "-o", joined.path] + [file.path for file in objects],
        objects,
        joined,
    )
    _run_binutil(
        ctx,
        toolchain.objcopy_executable,
        ["--localize-hidden", "--wildcard"] +
        ["--localize-symbol=" + pattern for pattern in ctx.attr.localize] +
        [joined.path, object.path],
        [joined],
        object,
    )
    return _archive(ctx, [object])

_ATTRS = {
    "library": attr.label(mandatory = True, providers = [CcInfo]),
    "_cc_toolchain": attr.label(default = "@bazel_tools//tools/cpp:current_cc_toolchain"),
}

static_archive = rule(
    implementation = _static_archive_impl,
    attrs = _ATTRS,
    fragments = ["cpp"],
    toolchains = ["@bazel_tools//tools/cpp:toolchain_type"],
)

# All objects joined into one, in which hidden names, and those that match a pattern of `localize`, are
# nobody else's: a program may link it beside another library that is made of the same sources.
static_object = rule(
    implementation = _static_object_impl,
    attrs = dict(_ATTRS, localize = attr.string_list()),
    fragments = ["cpp"],
    toolchains = ["@bazel_tools//tools/cpp:toolchain_type"],
)
