#!/usr/bin/env bash
# `make docs`: the documents that are generated from the code. Tests fail when they are old.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo build --locked --quiet --bin keel
keel=${CARGO_TARGET_DIR:-target}/debug/keel
"$keel" openapi >docs/openapi.json
"$keel" config reference >docs/configuration.md
"$keel" catalogue --markdown >docs/telemetry.md
echo "keel: docs/openapi.json, docs/configuration.md and docs/telemetry.md are fresh"
