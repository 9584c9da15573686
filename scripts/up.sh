#!/usr/bin/env bash
# `make up`: the service twice with Postgres, Redis and everything that watches it, in containers, with demo tenants
# and a minute of traffic, so that the dashboards move. A second run keeps the data.
#
#   up.sh [up]       BACKEND=jaeger adds a backend of deploy/collector/backends; IMAGE=keep doesn't build the image;
#                    TRAFFIC=0 sends nothing; WATCH=no leaves out what watches
#   up.sh down       stops all of it; the data stays. DATA=gone: volumes, secrets and keys go too
#   up.sh secrets    makes the secrets only, for who runs `docker compose` by hand
#   up.sh compose …  docker compose with the right files: up.sh compose logs --follow keel
#
# Keys of the demo tenants are made on first use and kept in .local/compose/demo-keys, as variables to source.
set -euo pipefail

library=$(dirname "${BASH_SOURCE[0]}")/lib
# shellcheck source=lib/common.sh
source "$library/common.sh"
# shellcheck source=lib/compose-secrets.sh
source "$library/compose-secrets.sh"

readonly KEYS_FILE=$COMPOSE_DIR/demo-keys
# Plain images are slow to come the first time: what counts is that it ends.
readonly READY_SECONDS=${READY_SECONDS:-300}

COMPOSE_FILES=(deploy/compose.yaml)
COMPOSE_LAST_FILES=()
TENANT_OPTIONS=()

# What an example domain adds, if there is one.
print_example() { :; }
for example in "$library"/compose-*.sh; do
  [[ $example != */compose-secrets.sh ]] || continue
  # shellcheck source=/dev/null
  [[ ! -f $example ]] || source "$example"
done

main() {
  local command=${1:-up}
  cd "$ROOT"
  (($# == 0)) || shift
  case $command in
    up) up ;;
    down) down ;;
    secrets) make_secrets && say "secrets are in ${COMPOSE_SECRETS#"$ROOT"/}" ;;
    compose) check_engine && compose "$@" ;;
    *) die "unknown command '$command': see the head of scripts/up.sh" ;;
  esac
}

up() {
  check_engine
  if [[ ${IMAGE:-} != keep ]]; then
    scripts/image.sh
  fi
  make_secrets
  say "starting; the first time images are downloaded (minutes)"
  compose up --detach --wait --wait-timeout "$READY_SECONDS" --remove-orphans ||
    die "not everything is healthy: scripts/up.sh compose ps --all, scripts/up.sh compose logs <service>"
  seed_demo_tenants
  print_banner
  if [[ ${TRAFFIC:-60} != 0 ]]; then
    FOR=${TRAFFIC:-60} scripts/traffic.sh
  fi
}

down() {
  check_engine
  if [[ ${DATA:-} == gone ]]; then
    compose down --volumes --remove-orphans
    rm -rf "$COMPOSE_DIR"
  else
    compose down --remove-orphans
  fi
}

check_engine() {
  have docker || die "docker is not on PATH: install Docker Engine, Docker Desktop or another engine with its CLI"
  docker compose version >/dev/null 2>&1 ||
    die "the CLI has no 'docker compose': install the compose plugin (Debian: docker-compose-plugin)"
  timeout 10 docker info >/dev/null 2>&1 ||
    die "no container engine answers: start it (docker info says what is wrong); without containers there is make run"
}

compose() {
  local file arguments=()
  export KEEL_COLLECTOR_CONFIG=${KEEL_COLLECTOR_CONFIG:-collector.yaml}
  local files=("${COMPOSE_FILES[@]}")
  if [[ ${WATCH:-} != no ]]; then
    files+=(deploy/compose.observability.yaml "${COMPOSE_LAST_FILES[@]}")
  fi
  for file in "${files[@]}"; do
    arguments+=(--file "$file")
  done
  if [[ -n ${BACKEND:-} ]]; then
    [[ -f deploy/collector/backends/$BACKEND.yaml ]] || die "no deploy/collector/backends/$BACKEND.yaml"
    KEEL_COLLECTOR_CONFIG=backends/$BACKEND.yaml
    # A backend that also runs here has a profile of its name.
    arguments+=(--profile "$BACKEND")
  fi
  # On the way down everything that is there goes, whichever profile started it.
  [[ ${1:-} != down ]] || arguments+=(--profile '*')
  docker compose "${arguments[@]}" "$@"
}

# <service> <port inside> [<which of them>]: http://127.0.0.1:8080
published() {
  printf 'http://%s' "$(compose port --index "${3:-1}" "$1" "$2")"
}

# --- Demo data ----------------------------------------------------------------------------------------------------

ours() {
  compose exec -T keel /usr/local/bin/keel "$@"
}

seed_demo_tenants() {
  local tenant
  for tenant in acme globex; do
    ours tenant create "$tenant" --if-not-exists "${TENANT_OPTIONS[@]}" >/dev/null || die "cannot create the tenant $tenant"
    keep_demo_key "$tenant" write
    keep_demo_key "$tenant" read
  done
  write_addresses
}

# The service stores only a digest of a key, so it is kept here from the moment it is made.
keep_demo_key() {
  local tenant=$1 scope=$2 variable key known
  variable=${tenant^^}_${scope^^}_KEY
  known=$(ours api-key list --tenant "$tenant") || die "cannot list the API keys of $tenant"
  if ! grep -qs "^$variable=" "$KEYS_FILE" || ! grep -qw "demo-$scope" <<<"$known"; then
    key=$(ours api-key create --tenant "$tenant" --scope "$scope" --name "demo-$scope" | tail -n1) ||
      die "cannot create an API key for $tenant"
    set_variable "$variable" "${key//$'\r'/}"
  fi
}

write_addresses() {
  set_variable ADDRESS "'$(published keel 8080 1) $(published keel 8080 2)'"
}

set_variable() {
  local others
  others=$(grep -sv "^$1=" "$KEYS_FILE" || true)
  (umask 077 && printf '%s\n' ${others:+"$others"} "$1=$2" >"$KEYS_FILE")
}

print_banner() {
  # shellcheck source=/dev/null
  source "$KEYS_FILE"
  cat <<BANNER

  API           ${ADDRESS% *}   (and ${ADDRESS#* })
  Docs          ${ADDRESS% *}/docs
  Metrics       $(published keel 9464)/metrics
BANNER
  if [[ ${WATCH:-} != no ]]; then
    cat <<BANNER
  Grafana       $(published grafana 3000)   (nobody logs in; admin's password: .local/compose/secrets/grafana-password)
  Prometheus    $(published prometheus 9090)
  Alertmanager  $(published alertmanager 9093)   (what it sends: scripts/up.sh compose logs alert-sink)
BANNER
  fi
  print_example
  cat <<BANNER

  API keys (in .local/compose/demo-keys)
    acme        $ACME_WRITE_KEY
    globex      $GLOBEX_WRITE_KEY

  make traffic   sends more      make down   stops everything

BANNER
}

main "$@"
