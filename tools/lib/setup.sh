# SPDX-License-Identifier: MIT
# What tools/test, tools/bench and tools/install share: where the repository is, messages, and a
# machine that has what gyre is built with. To be sourced:
#
#     . "$(dirname "$0")/lib/setup.sh"
#     gyre_setup

GYRE_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# The one list of Debian packages, with what each is for.
GYRE_PACKAGES=(
  # the build
  bazel-bootstrap bazel-rules-java bazel-rules-proto
  gcc g++ clang-14 libclang-rt-14-dev lld-14 binutils pkg-config python3
  # the library
  libc6-dev liburcu-dev libdw-dev libxxhash-dev systemtap-sdt-dev
  # tests and checks
  libcmocka-dev python3-prometheus-client cmake make clang-format-14 clang-tidy-14 spin valgrind
  # programs that run on libgyre_malloc.so as a test
  git libpython3.11-testsuite redis-server redis-tools sqlite3
  # benchmarks and the systems they compare gyre with
  libbenchmark-dev libjemalloc-dev libmimalloc-dev libgoogle-perftools-dev libgc-dev libglib2.0-dev
)

gyre_say() { printf '%s\n' "$*"; }

# A message for someone who has to do something about it.
gyre_complain() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }

gyre_die() {
  gyre_complain "$@"
  exit 1
}

# Prints the packages of the list that are not installed, one a line.
gyre_missing_packages() {
  local package
  for package in "${GYRE_PACKAGES[@]}"; do
    case $(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) in
      installed) ;;
      *) gyre_say "$package" ;;
    esac
  done
}

# Runs a command as root, without ever asking for a password. Fails if that is not possible.
gyre_as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  else
    sudo --non-interactive "$@"
  fi
}

gyre_apt_get() {
  gyre_as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get --quiet=2 -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

# Makes sure that all packages are installed; returns 1 with a message if it cannot. Does not touch the
# network if nothing is missing.
gyre_setup() {
  local missing
  if ! command -v dpkg-query >/dev/null; then
    gyre_complain "this is not a Debian system. Bazel and its configuration here come from the" \
      "packages of Debian 12: ${GYRE_PACKAGES[*]}"
    return 1
  fi
  mapfile -t missing < <(gyre_missing_packages)
  [ ${#missing[@]} = 0 ] && return 0

  if [ "$(id -u)" != 0 ] && ! sudo --non-interactive true 2>/dev/null; then
    gyre_complain "Debian packages are missing, and installing them needs root. Please run:" \
      "apt-get install ${missing[*]}"
    return 1
  fi
  gyre_say "installing Debian packages: ${missing[*]}"
  # The package index may be missing (fresh containers) or old, which shows as a failed download.
  if ! gyre_apt_get install --yes --no-install-recommends "${missing[@]}" 2>/dev/null; then
    if ! { gyre_apt_get update &&
      gyre_apt_get install --yes --no-install-recommends "${missing[@]}"; }; then
      mapfile -t missing < <(gyre_missing_packages)
      gyre_complain "apt-get could not install: ${missing[*]}. Its messages are above; once these" \
        "packages are installed, no network is needed."
      return 1
    fi
  fi
  # A running server remembers which libraries were missing.
  (cd "$GYRE_ROOT" && bazel shutdown >/dev/null 2>&1)
  return 0
}
