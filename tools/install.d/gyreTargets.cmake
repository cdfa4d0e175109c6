if(TARGET gyre::gyre)
  return()
endif()

# Relative to this file, so that the installed tree may be moved.
get_filename_component(gyre_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)

add_library(gyre::gyre SHARED IMPORTED)
set_target_properties(gyre::gyre PROPERTIES
  INTERFACE_INCLUDE_DIRECTORIES "${gyre_prefix}/include"
  IMPORTED_LOCATION "${gyre_prefix}/lib/@SHARED@"
  IMPORTED_SONAME "@SONAME@")

add_library(gyre::gyre_static STATIC IMPORTED)
set_target_properties(gyre::gyre_static PROPERTIES
  INTERFACE_INCLUDE_DIRECTORIES "${gyre_prefix}/include"
  IMPORTED_LOCATION "${gyre_prefix}/lib/libgyre.a"
  IMPORTED_LINK_INTERFACE_LANGUAGES "C"
  INTERFACE_LINK_LIBRARIES "urcu-cds;urcu-common;Threads::Threads")

unset(gyre_prefix)
