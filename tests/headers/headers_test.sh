#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Every header compiles alone, and twice in a row: public ones as C11 and as C++17, those of lib/ as C11,
# with gcc and with clang, without a warning. Runs from the root of the tree.
set -u

WARNINGS=(-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror)

failures=0

# compiles HEADER AS-INCLUDED COMPILER LANGUAGE STANDARD [OPTION...]
compiles() {
  local header=$1 name=$2 compiler=$3 language=$4 standard=$5
  shift 5
  # The declaration keeps the file from being empty, which -Wpedantic minds.
  if ! printf '#include %s\n#include %s\nextern int gyre_headers_test;\n' "$name" "$name" |
    "$compiler" -x "$language" "-std=$standard" "${WARNINGS[@]}" "$@" -fsyntax-only -; then
    echo "$header does not compile alone with $compiler -std=$standard"
    failures=$((failures + 1))
  fi
}

public=(include/gyre/*.h)
[ -f "${public[0]}" ] || { echo "no headers in include/gyre" && exit 1; }
for header in "${public[@]}"; do
  name="<${header#include/}>"
  compiles "$header" "$name" gcc c c11 -Iinclude
  compiles "$header" "$name" clang-14 c c11 -Iinclude
  compiles "$header" "$name" g++ c++ c++17 -Iinclude
  compiles "$header" "$name" clang++-14 c++ c++17 -Iinclude
done

for header in lib/*/*.h; do
  [ -f "$header" ] || continue
  compiles "$header" "\"$header\"" gcc c c11 -D_GNU_SOURCE -Iinclude -I.
  compiles "$header" "\"$header\"" clang-14 c c11 -D_GNU_SOURCE -Iinclude -I.
done

[ "$failures" = 0 ]
