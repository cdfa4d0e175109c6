#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs pkggraph as its users do: what it prints, how it refuses a broken index, and that both kinds of
# store agree. That exactly the right objects are reclaimed is checked by pkggraph itself, in each run.
# Usage: pkggraph_test.sh PROGRAM GOOD_INDEX EXPECTED
set -u

pkggraph=$1
good=$2
expected=$3
work=${TEST_TMPDIR:-$(mktemp -d)}
failures=0

# After so many the rest says nothing new.
complain() {
  echo "FAILED: $*"
  failures=$((failures + 1))
  [ $failures -lt 20 ] || exit 1
}

# run_pkggraph ARGUMENTS...: leaves $status, and what was printed in $work/out and $work/err.
run_pkggraph() {
  "$pkggraph" "$@" >"$work/out" 2>"$work/err"
  status=$?
}

# succeeds ARGUMENTS...
succeeds() {
  run_pkggraph "$@"
  [ $status = 0 ] || complain "pkggraph $*: exit status $status: $(cat "$work/err")"
}

# refuses STATUS TEXT ARGUMENTS...: ends with that status and says that.
refuses() {
  local wanted=$1 text=$2
  shift 2
  run_pkggraph "$@"
  [ $status = "$wanted" ] || complain "pkggraph $*: exit status $status, not $wanted"
  grep -qF -- "$text" "$work/err" || complain "pkggraph $*: no '$text' in: $(cat "$work/err")"
}

# refuses_index TEXT INDEX: in both systems, with one thread and with several.
refuses_index() {
  local system threads
  for system in gyre malloc; do
    for threads in 1 3; do
      refuses 1 "$1" --system $system --threads $threads --index "$2"
    done
  done
}

# made_index COUNT: packages in rings of ten, each with a tail that hangs on it, all on a few libraries that
# need each other; some with two versions.
made_index() {
  awk -v count="$1" 'BEGIN {
    for (i = 0; i < count; i++) {
      ring = i - i % 10
      printf "Package: ring%d\nVersion: %d.%d\nArchitecture: amd64\n", i, i % 7, i % 3
      printf "Depends: ring%d (>= 0.%d), lib%d | lib%d\n", ring + (i + 1) % 10, i % 5, i % 17, i % 13
      printf "Suggests: tail%d, nowhere%d\nConflicts: ring%d (<< 0.1)\n\n", i, i % 29, (i + 10) % count
      printf "Package: tail%d\nVersion: 1\nArchitecture: all\nRecommends: lib%d\n\n", i, i % 17
      if (i % 4 == 0) printf "Package: tail%d\nVersion: 2\nProvides: service%d\n\n", i, i % 11
    }
    for (i = 0; i < 17; i++) {
      printf "Package: lib%d\nVersion: 1:%d~rc\nDepends: lib%d\n\n", i, i, (i + 1) % 17
    }
  }'
}

prints_what_it_should() {
  succeeds --index "$good" --scc --depends beta --rdepends libcommon
  diff <(grep -v 'alive' "$work/out") "$expected" || complain "unexpected output"
}

# The output does not depend on the system, nor on how threads take turns.
systems_and_threads_agree() {
  local system threads drop
  made_index 2000 >"$work/made"
  for drop in 0 50 93 100; do
    for system in malloc gyre; do
      for threads in 1 2 8; do
        succeeds --index "$work/made" --system $system --threads $threads --drop $drop --scc \
          --rdepends lib3 --depends ring7
        [ -e "$work/first$drop" ] || cp "$work/out" "$work/first$drop"
        cmp -s "$work/out" "$work/first$drop" ||
          complain "drop $drop: $system with $threads threads prints something else than malloc with 1"
      done
    done
  done
  grep -q '^  17: lib0 ' "$work/first0" || complain "the 17 libraries are no component"
  grep -q '^components 201, largest 17$' "$work/first0" || complain "not 200 rings and the libraries"
  grep -q '^after drop: .* packages 0, versions 0, edges 0,' "$work/first100" ||
    complain "something is alive after all was dropped"
}

# A copy that was cut off anywhere is refused, except where that leaves a whole index behind.
truncation_is_an_error() {
  local size at line
  size=$(stat -c %s "$good")
  for ((at = 1; at < size; at += 37)); do
    head -c $at "$good" >"$work/cut"
    [ "$(tail -c 2 "$work/cut" | od -An -tx1)" = " 0a 0a" ] && continue
    # The line that the last byte is in.
    line=$(($(head -c $((at - 1)) "$work/cut" | wc -l) + 1))
    refuses 1 "cut:$line: the index ends inside a" --threads 2 --index "$work/cut"
  done
  : >"$work/cut"
  refuses_index "$work/cut:1: the index is empty" "$work/cut"
  head -c 200 "$good" >"$work/cut"
  refuses_index "$work/cut:" "$work/cut"
}

# Several things are wrong, far apart: the first is reported, whoever finds which first.
the_first_broken_line_is_reported() {
  made_index 3000 >"$work/made"
  local line
  for line in 1 2 4000 9000 20000; do
    sed "$line s/.*/Nonsense/; 20500,\$ s/^Version/Broken (/" "$work/made" >"$work/broken"
    refuses_index "$work/broken:$line: neither a field" "$work/broken"
  done
  sed '11000,12000 s/^Depends: .*/Depends: libc6 (>> 2/' "$work/made" >"$work/broken"
  line=$(grep -n -m 1 'libc6' "$work/broken" | cut -d: -f1)
  refuses_index "$work/broken:$line: '(' without ')'" "$work/broken"
}

bad_arguments_are_refused() {
  refuses 2 "unrecognized option" --nonsense
  refuses 2 "no argument is wanted" --index "$good" other
  refuses 2 "gyre or malloc" --system boehm
  refuses 2 "a number from 1 to" --threads 0
  refuses 2 "a number from 0 to 100" --drop 101
  refuses 1 "no package is called nobody" --index "$good" --rdepends nobody
  refuses 1 "$work/missing: No such file" --index "$work/missing"
  refuses 1 "$work: Is a directory" --index "$work"
  refuses 1 "/nowhere/json: No such file" --index "$good" --json "/nowhere/json"
}

figures_come_out() {
  succeeds --index "$good" --report --json "$work/json"
  grep -q '^drop ' "$work/err" || complain "no line for drop in the report"
  grep -q '{"name": "apps/pkggraph/load/gyre", "value": [0-9.e+-]*, "unit": "ms"}' "$work/json" ||
    complain "no figure for load in $(cat "$work/json")"
  succeeds --index "$good" --bench --reps 2 --json -
  [ "$(grep -c '"name": "apps/pkggraph/.*/malloc"' "$work/out")" = 10 ] ||
    complain "not 10 figures for malloc in $(cat "$work/out")"
}

prints_what_it_should
systems_and_threads_agree
truncation_is_an_error
the_first_broken_line_is_reported
bad_arguments_are_refused
figures_come_out

[ $failures = 0 ] || exit 1
