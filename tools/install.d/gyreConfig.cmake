# find_package(gyre): gyre::gyre is the shared library, gyre::gyre_static the static one.
include(CMakeFindDependencyMacro)
find_dependency(Threads)
include("${CMAKE_CURRENT_LIST_DIR}/gyreTargets.cmake")
