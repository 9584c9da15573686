#!/usr/bin/env bash
# Tools which only some tests need: finds or installs one and prints the path of its executable. Progress goes to
# stderr; exit code 3 when it cannot be had here.
#
#   tools.sh chromium       a browser: on PATH, else Debian's (installed as root, else unpacked into .local)
#   tools.sh jq             reads JSON lines: on PATH, else Debian's (installed as root)
#   tools.sh schemathesis   an OpenAPI tester from PyPI, in a virtual environment below .local/tools
#   tools.sh cargo-deny     checks of licences, bans and sources: on PATH, else built below .local/tools (minutes)
set -euo pipefail

library=$(dirname "${BASH_SOURCE[0]}")/lib
# shellcheck source=lib/common.sh
source "$library/common.sh"
# shellcheck source=lib/packages.sh
source "$library/packages.sh"

readonly TOOLS=$LOCAL/tools
readonly TOOLS_LOG=$TOOLS/log
readonly SCHEMATHESIS_VERSION=4.32.5
readonly CARGO_DENY_VERSION=0.20.2

unavailable() {
  printf 'keel: %s\n' "$*" >&2
  exit 3
}

provide_chromium() {
  chromium_on_path && return
  if ((EUID == 0)) && have apt-get; then
    say "installing chromium with apt-get" >&2
    { apt-get update && apt-get install -y --no-install-recommends chromium; } >>"$TOOLS_LOG" 2>&1 || true
    chromium_on_path && return
  fi
  unpacked_chromium || unavailable "no chromium: install it (see .local/tools/log for what was tried)"
}

chromium_on_path() {
  local name
  for name in chromium chromium-browser google-chrome; do
    if "$name" --version >/dev/null 2>&1; then
      command -v "$name"
      return
    fi
  done
  return 1
}

unpacked_chromium() {
  local directory
  directory=$(package_directory chromium-debian unpack_chromium) || return 1
  "$directory/chromium" --version >>"$TOOLS_LOG" 2>&1 && printf '%s\n' "$directory/chromium"
}

# What Debian calls chromium is a script with absolute paths: this one knows where it is.
unpack_chromium() {
  local directory=$1
  unpack_debian "$directory" chromium || return 1
  [[ -x $directory/usr/lib/chromium/chromium ]] || return 1
  cat >"$directory/chromium" <<'SCRIPT'
#!/usr/bin/env bash
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
LD_LIBRARY_PATH=$(find "$here/usr/lib" -name '*.so*' -printf '%h\n' | sort -u | paste -sd:)
export LD_LIBRARY_PATH
exec "$here/usr/lib/chromium/chromium" "$@"
SCRIPT
  chmod 755 "$directory/chromium"
}

provide_jq() {
  if ! have jq && ((EUID == 0)) && have apt-get; then
    say "installing jq with apt-get" >&2
    { apt-get update && apt-get install -y --no-install-recommends jq; } >>"$TOOLS_LOG" 2>&1 || true
  fi
  command -v jq || unavailable "no jq: install it (see .local/tools/log for what was tried)"
}

provide_schemathesis() {
  local executable=$TOOLS/schemathesis-$SCHEMATHESIS_VERSION/bin/schemathesis
  with_lock "$TOOLS/lock" install_schemathesis "$executable" ||
    unavailable "no schemathesis: it wants python3 with venv, and PyPI (see .local/tools/log)"
  printf '%s\n' "$executable"
}

# Its scripts name their own path, so the environment cannot be made aside and renamed: one that works is kept.
install_schemathesis() {
  local environment=${1%/bin/*}
  "$1" --version >/dev/null 2>&1 && return
  say "installing schemathesis $SCHEMATHESIS_VERSION into .local/tools" >&2
  rm -rf "$environment"
  {
    python3 -m venv "$environment" &&
      "$environment/bin/pip" install --quiet --no-cache-dir "schemathesis==$SCHEMATHESIS_VERSION" &&
      "$1" --version
  } >>"$TOOLS_LOG" 2>&1
}

provide_cargo_deny() {
  if have cargo-deny; then
    command -v cargo-deny
    return
  fi
  local root=$TOOLS/cargo-deny-$CARGO_DENY_VERSION
  with_lock "$TOOLS/lock" install_cargo_deny "$root" ||
    unavailable "no cargo-deny: it is built from crates.io (see .local/tools/log)"
  printf '%s\n' "$root/bin/cargo-deny"
}

# A debug build: it runs for seconds and is built once a machine.
install_cargo_deny() {
  "$1/bin/cargo-deny" --version >/dev/null 2>&1 && return
  say "building cargo-deny $CARGO_DENY_VERSION into .local/tools" >&2
  CARGO_TARGET_DIR=$TOOLS/build cargo install --locked --debug --quiet "cargo-deny@$CARGO_DENY_VERSION" --root "$1" \
    >>"$TOOLS_LOG" 2>&1 || return 1
  rm -rf "$TOOLS/build"
}

mkdir -p "$TOOLS"
case ${1:-} in
  chromium) provide_chromium ;;
  jq) provide_jq ;;
  schemathesis) provide_schemathesis ;;
  cargo-deny) provide_cargo_deny ;;
  *) die "usage: scripts/tools.sh chromium|jq|schemathesis|cargo-deny" ;;
esac
