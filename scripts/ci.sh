#!/usr/bin/env bash
# `make ci`: everything that a change must pass, from a clean checkout, with nothing installed taken for granted.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# What cannot be had is red here, where elsewhere it is skipped.
export CI=${CI:-1}

step() {
  printf '\n== %s (%s s)\n' "$1" "$SECONDS"
}

step 'browser for the documentation test'
CHROMIUM=$(scripts/tools.sh chromium)
export CHROMIUM
step 'jq for the log lines of docs/queries.md and docs/tour.md'
scripts/tools.sh jq
step 'licences, bans and sources of all crates (advisories need the network: the workflow)'
deny=$(scripts/tools.sh cargo-deny)
"$deny" --offline check bans licenses sources
step 'make lint'
make --no-print-directory lint
step 'the binary without optional crates (all combinations: make features, the workflow)'
scripts/features.sh quick
step 'make test'
make --no-print-directory test
step 'make manifests'
make --no-print-directory manifests TESTED=1
step 'the last stage of the image, with the binary of the tests'
scripts/image.sh check "${CARGO_TARGET_DIR:-target}/debug/keel"
step 'make dashboards-check'
make --no-print-directory dashboards-check
step 'make drill: each alert, its runbook and its end on a running stack'
make --no-print-directory drill
step 'make run, walked as a newcomer would'
scripts/walk.sh
step 'docs/tour.md, each command and what it prints'
scripts/tour.sh
step 'the promises of make run, each tried'
scripts/selftest.sh
# All three paths with the whole of make check after each take an hour: the workflow has them. Here the longest of them. The
# tests of rename and upgrading clone the tree again, and ran above.
step 'what a user does first with a clone, checked by lint, and by the tests of the tree and of what was added'
CLONES_CHECK='make --no-print-directory lint && scripts/test.sh --test it -- repo:: domain:: platform::documents \
  platform::configuration platform::one_id $(sed -n "s/^+mod \(.*\);/platform::\1/p" docs/adding/*.patch) \
  --skip repo::rename --skip repo::upgrading' scripts/clones.sh grow
step 'make schemathesis'
make --no-print-directory schemathesis
step 'done'
