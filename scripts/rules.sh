#!/usr/bin/env bash
# Rules, their tests, and who is told of an alert, checked by the programs that will run them: promtool and amtool.
# Part of `make manifests`. What is on PATH is used, else Debian's are unpacked below .local; where neither can be had
# it says SKIPPED, and fails instead in CI or with KEEL_REQUIRE_TOOLS=1.
#
#   rules.sh                                            all of it
#   rules.sh deploy/prometheus/tests/platform.yaml …    the tests of these files and nothing else
set -euo pipefail

library=$(dirname "${BASH_SOURCE[0]}")/lib
# shellcheck source=lib/common.sh
source "$library/common.sh"
# shellcheck source=lib/packages.sh
source "$library/packages.sh"
# shellcheck source=lib/prometheus.sh
source "$library/prometheus.sh"
# shellcheck source=lib/validators.sh
source "$library/validators.sh"

readonly PROMETHEUS=deploy/prometheus
readonly ALERTMANAGER=deploy/alertmanager/alertmanager.yaml

main() {
  cd "$ROOT"
  PROMTOOL=$(prometheus_tool promtool) || unavailable promtool
  AMTOOL=$(prometheus_tool amtool) || unavailable amtool
  if (($# > 0)); then
    exec "$PROMTOOL" test rules "$@"
  fi
  say "promtool $(prometheus_tool_version "$PROMTOOL"), amtool $(prometheus_tool_version "$AMTOOL")"
  "$PROMTOOL" check config "$PROMETHEUS/prometheus.yaml"
  "$PROMTOOL" check rules --lint=all --lint-fatal "$PROMETHEUS"/rules/*.yaml
  test_rules
  check_alertmanager
}

# Side by side: each file is evaluated from its beginning anyway.
test_rules() {
  printf '%s\0' "$PROMETHEUS"/tests/*.yaml | xargs -0 -n 1 -P "$(nproc)" "$PROMTOOL" test rules
}

# Skipped with a word where it may be, red in CI.
unavailable() {
  missing "no $1, so no rule was checked: install prometheus and prometheus-alertmanager (Debian), see .local/packages/log"
  exit 0
}

check_alertmanager() {
  SCRATCH=$(mktemp -d)
  trap clean EXIT
  config=$SCRATCH/alertmanager.yaml
  readable_config >"$config"
  "$AMTOOL" check-config "$config"
  # Each severity leads where it should, and what has none is not lost.
  leads_to watchdog alertname=Watchdog severity=none
  leads_to page alertname=HttpErrorBudgetBurn severity=page job=keel environment=production
  leads_to ticket alertname=HttpErrorBudgetBurn severity=page job=keel environment=staging
  leads_to ticket alertname=ServiceAbsent severity=page job=keel environment=development
  leads_to page alertname=MigrationJobFailed severity=page namespace=keel
  leads_to watchdog alertname=Watchdog severity=none environment=staging
  leads_to ticket alertname=HttpErrorBudgetBurn severity=ticket job=keel
  leads_to info alertname=Anything severity=info
  leads_to info alertname=PostgresPoolReplaced severity=info job=keel
  leads_to page alertname=ServiceAbsent severity=page job=keel
  leads_to ticket alertname=Forgotten
  check_inhibition
}

# amtool knows the routes but not what hides what: a real Alertmanager is asked. It tells nobody; it is gone before the
# shortest group_wait is over.
check_inhibition() {
  local here='environment=production' there='environment=staging'
  start_alertmanager
  add ServiceAbsent severity=page job=keel "$here"
  add PostgresDown severity=page job=postgres instance=p "$here"
  add RedisUnavailable severity=ticket job=redis "$here"
  add HttpErrorBudgetBurn severity=page job=api "$here"

  hides 'the service is gone' HttpTrafficMissing severity=page job=keel "$here"
  hides 'the service is gone' ScrapeMissing severity=ticket job=keel instance=a "$here"
  shows 'the exporter is not the service' ScrapeMissing severity=ticket job=otel-collector instance=c "$here"
  shows 'the watchdog is never hidden' Watchdog severity=none job=keel "$here"
  hides 'a page says it' HttpErrorBudgetBurn severity=ticket job=api "$here"
  shows 'a page of elsewhere' HttpErrorBudgetBurn severity=ticket job=api "$there"
  shows 'users feel it' HttpErrorBudgetBurn severity=page job=api "$here"
  shows 'which route fails' HttpErrorRatioHigh severity=ticket job=api http_route=/v1/a "$here"
  hides 'Postgres is down' PostgresPoolExhausted severity=ticket job=api instance=a "$here"
  hides 'Postgres is down' PostgresPoolReplaced severity=info job=api instance=a "$here"
  hides 'Postgres is down' JobsBacklogGrowing severity=ticket job=api queue=mail "$here"
  shows 'another Postgres is down' PostgresPoolExhausted severity=ticket job=api instance=a "$there"
  shows 'lost work is lost' JobsDeadLetters severity=ticket job=api queue=mail "$here"
  hides 'Postgres is down, so nothing is ready for requests' HttpTrafficMissing severity=page job=api "$here"
  hides 'Postgres is down, and its exporter with it' ScrapeMissing severity=ticket job=postgres instance=p "$here"
  shows 'Postgres is down is why, not that' ServiceNotReady severity=page job=api "$here"
  add ServiceNotReady severity=page job=api "$there"
  hides 'nothing is ready for requests' HttpTrafficMissing severity=page job=api "$there"
  shows 'another service is not ready' HttpTrafficMissing severity=page job=web "$there"
  hides 'nothing is ready, and the exporter waits' ScrapeMissing severity=ticket job=postgres instance=q "$there"
  hides 'Redis is out of reach' CircuitOpen severity=ticket job=api dependency=redis "$here"
  shows 'another dependency' CircuitOpen severity=ticket job=api dependency=other "$here"
  hides 'Redis is out of reach' ScrapeMissing severity=ticket job=redis instance=r "$here"
}

start_alertmanager() {
  local program
  URL=http://127.0.0.1:$(free_port "$SCRATCH/port")
  program=$(alertmanager_to_run "$SCRATCH") || unavailable 'Alertmanager that starts'
  # Alone, and without a place in any cluster.
  "$program" --config.file="$config" --storage.path="$SCRATCH/data" --cluster.listen-address= \
    --web.listen-address="${URL#http://}" >"$SCRATCH/log" 2>&1 &
  SERVER=$!
  for _ in {1..100}; do
    ! "$AMTOOL" --alertmanager.url="$URL" config show >/dev/null 2>&1 || return 0
    kill -0 "$SERVER" 2>/dev/null || break
    sleep 0.1
  done
  cat "$SCRATCH/log" >&2
  die "Alertmanager does not start with $ALERTMANAGER"
}

clean() {
  [[ -z ${SERVER:-} ]] || kill "$SERVER" 2>/dev/null || true
  rm -rf "$SCRATCH"
}

add() {
  "$AMTOOL" --alertmanager.url="$URL" alert add alertname="$1" "${@:2}"
}

# <why> <alert> <labels>
hides() {
  [[ $(state "${@:2}") == *'"state":"suppressed"'* ]] || die "$ALERTMANAGER: ${*:2} is sent, though $1"
  say "${*:2} is hidden: $1"
}

shows() {
  [[ $(state "${@:2}") == *'"state":"active"'* ]] || die "$ALERTMANAGER: ${*:2} is not sent: $1"
  say "${*:2} is sent: $1"
}

# What Alertmanager says of an alert, which is added for it.
state() {
  local matchers=("alertname=\"$1\"") label
  add "$@"
  for label in "${@:2}"; do
    matchers+=("${label%%=*}=\"${label#*=}\"")
  done
  "$AMTOOL" --alertmanager.url="$URL" alert query --active --inhibited --output=json "${matchers[@]}"
}

leads_to() {
  local receiver=$1
  shift
  "$AMTOOL" config routes test --config.file="$config" --verify.receivers="$receiver" "$@" >/dev/null 2>&1 ||
    die "$ALERTMANAGER: an alert with $* does not reach '$receiver'"
  say "$* -> $receiver"
}

# Before 0.26 a webhook's URL could not come from a file: such an amtool is shown a URL in its place.
readable_config() {
  local version
  version=$(prometheus_tool_version "$AMTOOL")
  if [[ $(printf '%s\n' 0.26 "$version" | sort -V | head -n1) == 0.26 ]]; then
    cat "$ALERTMANAGER"
  else
    sed -E 's|^( +- )url_file: (.*)|\1url: http://localhost\2|' "$ALERTMANAGER"
  fi
}

main "$@"
