#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The tests of the family as programs that are linked with nothing, on libgyre_malloc.so.0 by LD_PRELOAD.
# Runs from the root of the tree.
set -u

library=$PWD/libgyre_malloc.so.0
failures=0

# runs PROGRAM [NAME=VALUE...]
runs() {
  local program=$1
  shift
  echo "== $program $*"
  env "$@" GYRE_TEST_LIBRARY=libgyre_malloc.so.0 LD_PRELOAD="$library" "tests/malloc/$program" ||
    { echo "$program fails" && failures=$((failures + 1)); }
}

# says TEXT PROGRAM... : the text is in what the program prints.
says() {
  local text=$1 output
  shift
  echo "== $*"
  output=$("$@" 2>&1)
  grep -qF -- "$text" <<<"$output" ||
    { printf 'no "%s" in:\n%s\n' "$text" "$output" && failures=$((failures + 1)); }
}

runs malloc_plain
runs threads_plain
runs threads_plain GYRE_CONF=purge_delay_ms:0
runs fork_plain
runs new_plain GYRE_CONF=limit:256M

# The options come from GYRE_CONF, of which the library speaks if it does not like it.
says 'gyre: GYRE_CONF: there is no option "nonsense"' \
  env LD_PRELOAD="$library" GYRE_CONF=nonsense:1 true
says 'option "large" does not accept "system"' \
  env LD_PRELOAD="$library" GYRE_CONF=large:system true

[ "$failures" = 0 ]
