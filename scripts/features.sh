#!/usr/bin/env bash
# `make features`: compiles each combination of cargo features that docs/options.md names, warnings as errors.
# `scripts/features.sh <name>…` only these; `list` prints them; `quick` is what `make ci` runs: library and binary
# without optional crates.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Name and features; a test compares this list with docs/options.md and Cargo.toml.
combinations() {
  cat <<'EOF'
default api-docs,cpu-profile,otlp-grpc,sentry
none
no-api-docs cpu-profile,otlp-grpc,sentry
no-cpu-profile api-docs,otlp-grpc,sentry
no-otlp-grpc api-docs,cpu-profile,sentry
no-sentry api-docs,cpu-profile,otlp-grpc
only-heap-profile heap-profile
all api-docs,bench,cpu-profile,heap-profile,otlp-grpc,sentry
EOF
}

compile() {
  cargo clippy --locked --quiet --no-default-features --features "$1" "${@:2}" -- -D warnings
}

case ${1:-} in
  list)
    combinations
    exit
    ;;
  quick)
    compile ''
    exit
    ;;
esac

for name in "$@"; do
  combinations | grep -q "^$name\( \|\$\)" || {
    echo "keel: there is no combination '$name'; scripts/features.sh list" >&2
    exit 2
  }
done
while read -r name features; do
  [[ $# == 0 || " $* " == *" $name "* ]] || continue
  began=$SECONDS
  compile "$features" --all-targets || {
    echo "keel: FAILED: $name (${features:-no features})" >&2
    exit 1
  }
  echo "keel: $name (${features:-no features}) compiles without a warning, $((SECONDS - began)) s"
done < <(combinations)
