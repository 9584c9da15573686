#!/usr/bin/env bash
# `make docs`: the documents that are generated from the code. Tests fail when they are old.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo build --locked --quiet --bin keel
binary=${CARGO_TARGET_DIR:-target}/debug/keel
# A binary that fails leaves the page as it was.
write() {
  local text
  text=$("$binary" "${@:2}")
  printf '%s\n' "$text" >"$1"
}
write docs/openapi.json openapi
write docs/configuration.md config reference
write docs/telemetry.md catalogue --markdown
# deploy/grafana/source -> deploy/grafana/dashboards, deploy/prometheus/rules and docs/drills.md -> docs/alerts*.md,
# docs/adding -> docs/ADDING.md
cargo test --locked --quiet --test it -- --ignored --exact repo::deploy::dashboards::write_the_dashboards \
  repo::deploy::alerts::write_the_alerts repo::adding::write_the_recipes >/dev/null
# deploy/prometheus/rules -> deploy/kubernetes/components/monitoring
scripts/manifests.sh write
echo "keel: docs/{openapi.json,configuration.md,telemetry.md,alerts*.md}, the diffs of docs/ADDING.md, dashboards and" \
  "PrometheusRules are fresh"
