#!/usr/bin/env bash
# `make drill`: every alert that one machine can show, for real. The fault is injected into running instances, the
# alert has to arrive, the commands of its runbook have to name the cause and to mend it, and it has to clear.
# Writes the table of docs/drills.md; the exit code says whether all drills held.
#
#   ALERT=PostgresDown make drill    this one only (several: with blanks), or `soak`; the document stays as it is
#   LANES=2                          so many stacks at a time (3): a drill mostly waits
#
# For who writes drills: KEEL_DRILL_ROOT is another checkout whose drills, rules and runbooks count; KEEL_DRILL_BINARY
# is the test binary, already built; KEEL_DRILL_INSTANCE names the directories below .local, so that two can drill.
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
# shellcheck source=lib/second-try.sh
source "$library/second-try.sh"

readonly DOCUMENT=docs/drills.md
readonly MARKER='<!-- make drill -->'
readonly NAME=${KEEL_DRILL_INSTANCE:-drill}
readonly RUNNER=drills::every_alert_is_drilled

unavailable() {
  [[ -z ${CI:-} ]] || die "$1 cannot be had, and CI may not skip this: install it"
  say "SKIPPED: make drill: $1 cannot be had here (Debian: apt-get install prometheus prometheus-alertmanager" \
    "prometheus-postgres-exporter prometheus-redis-exporter postgresql-client redis-tools)" >&2
  exit 0
}

need_program() {
  local path
  path=$(prometheus_tool "$2") || unavailable "$2"
  export "$1=$path"
}

# psql and redis-cli come with the servers, wherever those were found: .local/<lane>/bin leads to them.
link_clients() {
  local lane=$1 psql redis server
  mkdir -p "$lane/bin"
  server=$(readlink "/proc/$(cut -d' ' -f1 "$lane/postgres.pid")/exe") || unavailable 'a Postgres of our own'
  psql=$(command -v psql || printf '%s/psql' "${server%/*}")
  server=$(readlink "/proc/$(cut -d' ' -f1 "$lane/redis.pid")/exe") || unavailable 'a Redis of our own'
  redis=$(command -v redis-cli || printf '%s/redis-cli' "${server%/*}")
  [[ -x $psql ]] || unavailable psql
  [[ -x $redis ]] || unavailable redis-cli
  wrap "$lane/bin/psql" "$psql"
  wrap "$lane/bin/redis-cli" "$redis"
}

wrap() {
  local libraries=''
  if [[ $2 == "$PACKAGES"/* ]]; then
    libraries="LD_LIBRARY_PATH='$(library_path "${2%/usr/bin/*}")'"
  fi
  printf "#!/bin/sh\n%s exec '%s' \"\$@\"\n" "$libraries" "$2" >"$1"
  chmod 755 "$1"
}

# The runner on the services of one lane: <lane> <command>….
run_lane() {
  local lane=$LOCAL/$1
  shift
  link_clients "$lane"
  # shellcheck source=/dev/null
  source "$lane/env"
  export KEEL_DRILL_LANE=$lane PATH=$lane/bin:$PATH
  exec "$@" --ignored --nocapture --exact "$RUNNER"
}

rows() {
  cat "$KEEL_DRILL_OUT"/*.md | sort
}

# The runners of so many lanes, each on servers of its own, until all have ended: <lanes> <command>….
run_lanes() {
  local lane child running=() status=0
  for ((lane = 1; lane <= $1; lane++)); do
    start_child "$SCRIPTS/drill.sh" --lane "$NAME-$lane" "${@:2}"
    running+=("$CHILD")
  done
  for child in "${running[@]}"; do
    wait "$child" || status=$?
  done
  return "$status"
}

write_document() {
  local new=$KEEL_DRILL_OUT/document
  {
    sed "/^$MARKER\$/q" "$DOCUMENT"
    printf '\n%s at %s, on %s cores (%s), %s s for all of them.\n\n' \
      "$(date -u +%F)" "$REVISION" "$(nproc)" "$MACHINE" "$SECONDS"
    printf '| alert | severity | seconds to the alert | to the named cause | to recovery | restarts |\n'
    printf '|---|---|---|---|---|---|\n'
    rows
    [[ -z $AGAIN ]] || printf '\nThese held only at their second try, alone on the machine; the first failed of:\n\n```text\n%s\n```\n' "$AGAIN"
  } >"$new"
  # Not moved: the file keeps its owner and mode.
  cat "$new" >"$DOCUMENT"
}

end_lanes() {
  local status=$? lane
  set +e
  trap '' INT TERM HUP PIPE
  # The runners of all lanes are children of the first: they end before the servers do.
  "$SCRIPTS/services.sh" down "$NAME-1" "$$"
  for lane in "${OTHER_LANES[@]}"; do
    "$SCRIPTS/services.sh" down "$lane" "$$"
  done
  rm -rf -- "$KEEL_DRILL_OUT"
  exit "$status"
}

main() {
  local lanes lane status command names
  KEEL_DRILL_ROOT=$(cd "${KEEL_DRILL_ROOT:-$ROOT}" && pwd -P)
  cd "$ROOT"
  # Drills stop and freeze servers: never anybody else's.
  unset DATABASE_URL DATABASE_SYSTEM_URL DATABASE_MIGRATION_URL TEST_ADMIN_DATABASE_URL REDIS_URL KEEL_SERVICES_SOURCE
  # A drill that fails says why in its own words.
  export RUST_BACKTRACE=0
  export KEEL_DRILL_ROOT KEEL_DRILL_SERVICES=$SCRIPTS/services.sh KEEL_DRILL_ALERTS=${ALERT:-}
  lanes=${LANES:-3}
  if [[ -n ${ALERT:-} && $ALERT != *' '* ]]; then
    lanes=1
  fi
  REVISION=$(git rev-parse --short=12 HEAD 2>/dev/null || printf 'an unknown revision')
  git diff --quiet HEAD -- . ":!$DOCUMENT" 2>/dev/null || REVISION+=-dirty
  supervise "$NAME-1" alone
  KEEL_DRILL_OUT=$(mktemp -d)
  export KEEL_DRILL_OUT
  OTHER_LANES=()
  trap end_lanes EXIT
  need_program PROMETHEUS prometheus
  need_program PROMTOOL promtool
  need_program POSTGRES_EXPORTER prometheus-postgres-exporter
  need_program REDIS_EXPORTER prometheus-redis-exporter
  ALERTMANAGER=$(alertmanager_to_run "$INSTANCE_DIR") || unavailable 'an Alertmanager that starts'
  export ALERTMANAGER
  if [[ -n ${KEEL_DRILL_BINARY:-} ]]; then
    command=("$KEEL_DRILL_BINARY")
  else
    check_build_tools
    run_child cargo test --locked --test it --no-run
    command=(cargo test --locked --quiet --test it --)
  fi
  run_child "$SCRIPTS/services.sh" up "$NAME-1"
  for ((lane = 2; lane <= lanes; lane++)); do
    "$SCRIPTS/services.sh" watch "$NAME-$lane" "$$" 0 alone
    OTHER_LANES+=("$NAME-$lane")
    run_child "$SCRIPTS/services.sh" up "$NAME-$lane"
  done
  status=0 AGAIN=''
  run_lanes "$lanes" "${command[@]}" || status=$?
  if ((status != 0 && lanes > 1)); then
    second_try "${command[@]}" && status=0
  fi
  if ! compgen -G "$KEEL_DRILL_OUT/*.md" >/dev/null; then
    say 'nothing was drilled' >&2
    exit 1
  fi
  rows
  mapfile -t names < <(failed)
  if ((status != 0)); then
    printf '\n'
    say "failed: ${names[*]}" >&2
    reasons "${names[@]}" >&2
  elif [[ -n $AGAIN ]]; then
    say "these held only at their second try, alone on the machine; the first failed of:" >&2
    printf '%s\n' "$AGAIN" >&2
  fi
  if [[ -z ${ALERT:-} && $status == 0 ]]; then
    write_document
    # docs/alerts.md says how the last drill went.
    run_child "${command[@]}" --ignored --exact repo::deploy::alerts::write_the_alerts >/dev/null
    say "the table is in $DOCUMENT"
  fi
  exit "$status"
}

if [[ ${1:-} == --lane ]]; then
  shift
  run_lane "$@"
else
  main
fi
