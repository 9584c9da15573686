#!/usr/bin/env bash
# `make run`: from a fresh clone to a working service with demo data. Ctrl-C stops all that was started here, and
# so does the end of this script by any other cause. A second run keeps the data.
set -euo pipefail

library=$(dirname "${BASH_SOURCE[0]}")/lib
# shellcheck source=lib/common.sh
source "$library/common.sh"
# shellcheck source=lib/process.sh
source "$library/process.sh"
# shellcheck source=lib/supervise.sh
source "$library/supervise.sh"

# What an example domain adds, if there is one.
prepare_example() { :; }
start_example() { :; }
print_example() { :; }
print_request() {
  printf '  Ask who you are:\n    curl -i %s/v1/tenant -H '"'Authorization: Bearer %s'"'\n' "$1" "$ACME_KEY"
}
for example in "$library"/with-*.sh; do
  # shellcheck source=/dev/null
  [[ ! -f $example ]] || source "$example"
done

readonly BINARY=${CARGO_TARGET_DIR:-target}/debug/keel
readonly READY_SECONDS=60

main() {
  cd "$ROOT"
  check_build_tools
  check_given_bind APP__HTTP__BIND
  check_given_bind APP__ADMIN__BIND
  supervise run alone
  start_services
  set_development_defaults
  run_child cargo build --locked --bin keel
  run_child "$BINARY" migrate
  hold_ports
  choose_bind APP__HTTP__BIND 8080
  choose_bind APP__ADMIN__BIND 9464
  TENANT_OPTIONS=()
  prepare_example
  seed_demo_tenants

  local serving=()
  CHILD=
  start_example
  [[ -z $CHILD ]] || serving+=("$CHILD")
  start_child "$BINARY" serve
  serving+=("$CHILD")
  await_service
  release_ports
  print_banner

  trap 'stop_early 0' INT TERM HUP
  end_with_the_first "${serving[@]}"
}

set_development_defaults() {
  export APP_ENVIRONMENT=${APP_ENVIRONMENT:-development}
  export APP__FAULTS__ENABLED=${APP__FAULTS__ENABLED:-true}
  if [[ -z ${APP__AUTH__PEPPER:-}${APP__AUTH__PEPPER_FILE:-} ]]; then
    APP__AUTH__PEPPER=$(secret pepper)
    export APP__AUTH__PEPPER
  fi
}

# --- Demo data ----------------------------------------------------------------------------------------------------

seed_demo_tenants() {
  local tenant
  for tenant in acme globex; do
    "$BINARY" tenant create "$tenant" --if-not-exists "${TENANT_OPTIONS[@]}" >/dev/null || die "cannot create the tenant $tenant"
  done
  ACME_KEY=$(demo_key acme)
  GLOBEX_KEY=$(demo_key globex)
}

# The service stores only a digest of a key, so the first one is kept here; a database made anew wants another.
demo_key() {
  local tenant=$1 file=$INSTANCE_DIR/demo-keys key known
  key=$(sed -n "s/^$tenant=//p" "$file" 2>/dev/null | tail -n1)
  known=$("$BINARY" api-key list --tenant "$tenant") || die "cannot list the API keys of $tenant"
  if [[ -z $key ]] || ! grep -qw demo <<<"$known"; then
    key=$("$BINARY" api-key create --tenant "$tenant" --scope write --name demo | tail -n1) ||
      die "cannot create an API key for $tenant"
    (umask 077 && printf '%s=%s\n' "$tenant" "$key" >>"$file")
  fi
  printf '%s' "$key"
}

# --- Ports --------------------------------------------------------------------------------------------------------

# Two checkouts that start at once must not choose the same port: from the choice until the service listens, one holds
# a lock on a directory that both can see. Nothing is written there.
hold_ports() {
  if have flock; then
    exec 8<"${TMPDIR:-/tmp}"
    flock -w "$READY_SECONDS" 8 || true
  fi
}

release_ports() {
  exec 8<&-
}

# An address that is set has to be free.
check_given_bind() {
  local variable=$1
  [[ -n ${!variable:-} ]] || return 0
  ! port_is_taken "${!variable##*:}" "$(reachable_host "${!variable}")" ||
    die "port ${!variable##*:} is taken: stop what listens there or change $variable (it is '${!variable}')"
}

# Exports the address that is set, else the first free port from the default on.
choose_bind() {
  local variable=$1 port=$2
  if [[ -z ${!variable:-} ]]; then
    while port_is_taken "$port"; do
      port=$((port + 1))
    done
    printf -v "$variable" '127.0.0.1:%s' "$port"
  fi
  export "${variable?}"
}

# The host by which this machine reaches what listens at an address.
reachable_host() {
  local host=${1%:*}
  host=${host//[\[\]]/}
  case $host in
    0.0.0.0 | ::) printf '127.0.0.1' ;;
    *) printf '%s' "$host" ;;
  esac
}

# --- The running service ------------------------------------------------------------------------------------------

await_service() {
  local deadline=$((SECONDS + READY_SECONDS))
  until service_is_ready; do
    process_is_alive "$CHILD" || die "the service ended before it was ready, its log is above"
    ((SECONDS < deadline)) || die "the service is not ready after $READY_SECONDS s, its log is above"
    sleep 0.2
  done
}

service_is_ready() {
  local host port=${APP__ADMIN__BIND##*:} answer
  host=$(reachable_host "$APP__ADMIN__BIND")
  answer=$(ask_tcp "$host" "$port" $'GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n') ||
    return 1
  [[ $answer == 'HTTP/1.'?' 200'* ]]
}

print_banner() {
  local api admin
  api=http://$(reachable_host "$APP__HTTP__BIND"):${APP__HTTP__BIND##*:}
  admin=http://$(reachable_host "$APP__ADMIN__BIND"):${APP__ADMIN__BIND##*:}
  cat <<BANNER

  API      $api
  Docs     $api/docs
  Metrics  $admin/metrics
  Health   $admin/health/ready

  API keys
    acme    $ACME_KEY
    globex  $GLOBEX_KEY

BANNER
  print_request "$api"
  printf '\n'
  print_example
  printf '  Ctrl-C stops everything.\n\n'
}

# Waits until one of these processes ends by itself: then all end, with its exit code.
end_with_the_first() {
  local status=0
  wait -n "$@" || status=$?
  say "the service ended by itself (exit code $status)"
  exit "$status"
}

main
