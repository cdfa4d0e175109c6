# SPDX-License-Identifier: MIT
# Checks with a name each, and a line PASSED or FAILED for each. To be sourced. tools/test counts those
# lines in the output of whatever it runs.

report_failures=0

# report_check NAME COMMAND...: runs the command; what it prints is shown only if it fails.
report_check() {
  local name=$1 log
  shift
  log=$(mktemp)
  if "$@" >"$log" 2>&1 </dev/null; then
    echo "PASSED  $name"
  else
    report_failures=$((report_failures + 1))
    sed 's/^/    /' "$log"
    echo "FAILED  $name"
  fi
  rm -f "$log"
}

# True if no check has failed.
report_ok() { [ "$report_failures" = 0 ]; }
