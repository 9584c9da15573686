#!/usr/bin/env bash
# `make fuzz TARGET=cursor FOR=60`: one fuzz target under libFuzzer for so many seconds. tests/fuzz/README.md lists them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=$1 seconds=$2
if [[ ! -f tests/fuzz/fuzz_targets/$target.rs ]]; then
  echo "keel: no fuzz target is called '$target'; there are:" tests/fuzz/fuzz_targets/*.rs | sed 's|tests/fuzz/fuzz_targets/||g; s|\.rs||g' >&2
  exit 2
fi
cargo +nightly --version >/dev/null 2>&1 || {
  echo 'keel: libFuzzer needs the nightly toolchain: rustup toolchain install nightly' >&2
  exit 1
}
cargo +nightly fuzz --version >/dev/null 2>&1 || {
  echo 'keel: cargo-fuzz is not installed: cargo install --locked cargo-fuzz' >&2
  exit 1
}
exec cargo +nightly fuzz run --fuzz-dir tests/fuzz --target-dir "${CARGO_TARGET_DIR:-target}/fuzz" "$target" -- \
  "-max_total_time=$seconds"
