#!/usr/bin/env bash
# `make dashboards-check`: two instances of the service under traffic with faults, beside Prometheus and the exporters,
# all of this checkout's own; then every query of the dashboards and of the cheat-sheets is asked. The exit code says
# whether all of them answer. Where Prometheus cannot be had this is skipped, loudly; in CI that is an error.
set -euo pipefail

library=$(dirname "${BASH_SOURCE[0]}")/lib
# shellcheck source=lib/common.sh
source "$library/common.sh"
# shellcheck source=lib/process.sh
source "$library/process.sh"
# shellcheck source=lib/packages.sh
source "$library/packages.sh"
# shellcheck source=lib/prometheus.sh
source "$library/prometheus.sh"
# shellcheck source=lib/supervise.sh
source "$library/supervise.sh"

readonly CHECK=dashboards::every_query_of_every_dashboard_and_of_the_cheat_sheets_answers

# Exports the path of a program under the name the tests know: <variable> <program>.
need_program() {
  local path
  if ! path=$(prometheus_tool "$2"); then
    [[ -z ${CI:-} ]] || die "$2 cannot be had, and CI may not skip this: install it (Debian: apt-get install $2)"
    say "SKIPPED: make dashboards-check: $2 cannot be had here (Debian: apt-get install $2)" >&2
    exit 0
  fi
  export "$1=$path"
  say "$2 $(prometheus_tool_version "$path")"
}

cd "$ROOT"
check_build_tools
need_program PROMETHEUS prometheus
need_program POSTGRES_EXPORTER prometheus-postgres-exporter
need_program REDIS_EXPORTER prometheus-redis-exporter
# Alone: beside another suite it would wait for answers that come too late.
supervise test alone
KEEL_DASHBOARDS_OUT=$INSTANCE_DIR/dashboards.md
export KEEL_DASHBOARDS_OUT
rm -f -- "$KEEL_DASHBOARDS_OUT"
start_services
run_child cargo test --locked --test it -- --ignored --nocapture --exact "$CHECK"
[[ -s $KEEL_DASHBOARDS_OUT ]] || die "nothing was asked: is the test still called $CHECK?"
