#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# libgyre.so.0 says about itself what the dynamic linker must know. Runs from the root of the tree.
set -u

dynamic=$(readelf --dynamic --wide libgyre.so.0) || exit 1
failures=0

# expect WHAT yes|no PATTERN
expect() {
  local found=no
  grep -Eq "$3" <<<"$dynamic" && found=yes
  if [ $found != "$2" ]; then
    echo "$1: $found, expected: $2"
    failures=$((failures + 1))
  fi
}

expect 'soname libgyre.so.0' yes '\(SONAME\).*\[libgyre\.so\.0\]'
expect 'stays mapped when closed (-z nodelete)' yes '\(FLAGS_1\).*NODELETE'
# A library with that flag takes its thread-local variables from a small reserve that dlopen() may find
# used up ("cannot allocate memory in static TLS block").
expect 'static TLS' no 'STATIC_TLS'
expect 'text relocations' no 'TEXTREL'
for library in $(sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' <<<"$dynamic"); do
  case $library in
    libc.so.* | libpthread.so.* | ld-linux*.so.* | liburcu-cds.so.* | liburcu-common.so.*) ;;
    *)
      echo "needs $library, which a program with gyre should not have to bring along"
      failures=$((failures + 1))
      ;;
  esac
done

[ "$failures" = 0 ] || { printf '%s\n' "$dynamic" && exit 1; }
