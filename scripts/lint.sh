#!/usr/bin/env bash
# `make lint`: formatting, clippy with warnings as errors, the shell scripts, and cargo-deny where it is installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo fmt --check
cargo clippy --locked --all-targets --quiet -- -D warnings
scripts=(scripts/*.sh scripts/*/*.sh scripts/hooks/* .ci/run runbooks/env.sh deploy/*.sh deploy/postgres/init.sh)
for script in "${scripts[@]}"; do
  bash -n "$script"
done
for script in scripts/lib/*.pl; do
  said=$(perl -c "$script" 2>&1) || { echo "$said" >&2 && exit 1; }
done
if command -v cargo-deny >/dev/null; then
  cargo deny --offline check bans licenses sources
else
  echo "keel: SKIPPED: cargo-deny is not installed here (scripts/tools.sh cargo-deny builds it); make ci runs it" >&2
fi
