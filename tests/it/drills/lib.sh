# shellcheck shell=bash
# What `inject` and `heal` of a drill can do to the stack. Sourced by the runner (tests/it/drills), which does most of it
# and is asked for it at $DRILL_CONTROL. Whatever is left in the background ends with the drill.

# ask <path> [<lines>]: what the runner says; its refusal is an error.
ask() {
  local answer status
  answer=$(curl --silent --show-error --max-time 100 --write-out '\n%{http_code}' --data-binary "${2:-}" \
    "$DRILL_CONTROL/$1") || return
  status=${answer##*$'\n'}
  answer=${answer%$'\n'*}
  if [[ $status != 200 ]]; then
    printf '%s\n' "$answer" >&2
    return 1
  fi
  [[ -z $answer ]] || printf '%s\n' "$answer"
}

# --- Tenants and requests -------------------------------------------------------------------------------------------

# key <tenant>: an API key of it with scope write, made at first use, another one than the steady traffic's. `nobody`
# has none and `wrong` has one that is wrong.
key() {
  local file=$DRILL_DIRECTORY/keys/$1
  case $1 in
    nobody) return ;;
    wrong) printf 'ak_%s_%s\n' wrongwrongwrong0 "$(printf '0%.0s' {1..32})" && return ;;
  esac
  (
    mkdir -p "$DRILL_DIRECTORY/keys"
    flock 9
    if [[ ! -s $file ]]; then
      "$APPCTL" tenant create "$1" --if-not-exists >/dev/null
      "$APPCTL" api-key create --tenant "$1" --scope write --name drill | tail -n1 >"$file"
    fi
  ) 9>"$DRILL_DIRECTORY/keys.lock" </dev/null
  cat "$file"
}

# key_id <tenant>: what `keel api-key revoke` wants to know.
key_id() {
  key "$1" | cut -d_ -f2
}

# flood <method> <path> <parallel> <tenant>…: requests until the drill ends, of all tenants and to all instances in
# turn. PAUSE=<ms> between two of one sender (100), AT=<instance> for one instance only, BODY=<JSON>.
flood() {
  local method=$1 path=$2 parallel=$3 tenant keys=''
  shift 3
  for tenant; do
    keys+=$'\n'$(key "$tenant")
  done
  ask flood "$method"$'\n'"$path"$'\n'"$parallel"$'\n'"${PAUSE:-100}"$'\n'"${AT:-0}"$'\n'"${BODY:-}$keys"
}

# unflood: ends all floods.
unflood() {
  ask unflood
}

# request <method> <path> <tenant>: the answer's status, then its body. AT and BODY as above.
request() {
  local arguments=()
  if [[ -n ${BODY:-} ]]; then
    arguments+=(--header 'content-type: application/json' --data-binary "$BODY")
  fi
  (
    body=$(mktemp)
    curl --silent --show-error --max-time 35 --request "$1" --header "Authorization: Bearer $(key "$3")" \
      --output "$body" --write-out '%{http_code}\n' "${arguments[@]}" "http://$(public_of "${AT:-1}")$2" || true
    cat "$body"
    rm -f "$body"
  )
}

# hold_connections <instance> <count>: opens idle connections to its public port and keeps them.
hold_connections() {
  local door count=$2 one
  door=$(public_of "$1")
  (
    ulimit -n 4096 2>/dev/null || true
    for ((one = 0; one < count; one++)); do
      exec {descriptor}<>"/dev/tcp/${door%:*}/${door#*:}"
      # One that never says a word is closed after http.head_timeout.
      printf 'GET /health/live HTTP/1.1\r\nhost: drill\r\n\r\n' >&"$descriptor"
    done
    sleep infinity
  ) &
}

# --- Instances and other processes ----------------------------------------------------------------------------------

nth() {
  local number=$1
  shift
  printf '%s\n' "${!number}"
}

# public_of <instance>, admin_of <instance>: host and port. The first is the way in, through the proxy `public`.
public_of() {
  # shellcheck disable=SC2086 # a list
  nth "$1" $DRILL_PUBLIC
}

admin_of() {
  # shellcheck disable=SC2086 # a list
  nth "$1" $DRILL_ADMIN
}

# instance <number>: its pid.
instance() {
  ask "pids/instance-$1"
}

stop_instance() {
  ask "part/stop/instance-$1"
}

start_instance() {
  ask "part/start/instance-$1"
}

kill_instance() {
  ask "part/kill/instance-$1"
}

# pids <process>, pid_of <process>: see `signal`.
pids() {
  ask "pids/$1"
}

pid_of() {
  pids "$1"
}

# signal <name> <process>: STOP, CONT, KILL … to postgres (all of it), redis, prometheus, alertmanager, collector,
# instance-1, log-reader-1, postgres-exporter, redis-exporter.
# With shop, to sandbox as well.
signal() {
  ask "signal/$1/$2"
}

# stop_part <process>, start_part <process>: any of the above but postgres and redis.
stop_part() {
  ask "part/stop/$1"
}

start_part() {
  ask "part/start/$1"
}

stop_postgres() {
  "$KEEL_DRILL_SERVICES" stop "${KEEL_DRILL_LANE##*/}" postgres
}

start_postgres() {
  "$KEEL_DRILL_SERVICES" start "${KEEL_DRILL_LANE##*/}" postgres
}

stop_redis() {
  "$KEEL_DRILL_SERVICES" stop "${KEEL_DRILL_LANE##*/}" redis
}

start_redis() {
  "$KEEL_DRILL_SERVICES" start "${KEEL_DRILL_LANE##*/}" redis
}

# proxy <name> on|refuse|swallow|reset|slow <ms>|old-only: what stands before postgres, redis, collector, public, and
# before the dependency at port $DRILL_DEPENDENCY that `POST /v1/faults/call` calls.
# Before the sandbox of shop it is called payments.
# `swallow` takes everything and answers nothing; with `old-only` new connections work.
proxy() {
  ask "proxy/$1/$2${3:+/$3}"
}

# --- Postgres and Redis, past the proxies ---------------------------------------------------------------------------

# owner_sql, admin_sql <statements>: prints values only.
owner_sql() {
  psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 --command="$1" "$DATABASE_OWNER_URL"
}

admin_sql() {
  psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 --command="$1" "$DATABASE_ADMIN_URL"
}

# hold_sql <statements>: runs them as keel_owner in a session that stays open. Returns when they have run.
hold_sql() {
  local said=$DRILL_DIRECTORY/held.$BASHPID.$RANDOM
  (
    printf '%s;\n\\echo held\n' "${1%;}"
    sleep infinity
  ) | PGAPPNAME=${PGAPPNAME:-drill} psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 "$DATABASE_OWNER_URL" >"$said" 2>&1 &
  disown
  local tries
  for ((tries = 0; tries < 200; tries++)); do
    ! grep -qx held "$said" || return 0
    sleep 0.05
  done
  cat "$said" >&2
  return 1
}

redis_cli() {
  local rest=${REDIS_URL#*://:}
  local address=${rest#*@}
  address=${address%%/*}
  REDISCLI_AUTH=${rest%%@*} redis-cli -h "${address%:*}" -p "${address#*:}" "$@"
}

# --- Used by the runner and by runbooks/env.sh, not by drills -------------------------------------------------------

# start|stop|restart|kill <service>, as compose has them.
part_of_the_stack() {
  local action=$1 name number
  shift
  for name; do
    case $name in
      keel)
        for number in 1 2; do
          ask "part/$action/instance-$number"
        done
        ;;
      keel-[12]) ask "part/$action/instance-${name#keel-}" ;;
      postgres | redis)
        [[ $action != restart ]] || "stop_$name"
        "${action/restart/start}_$name"
        ;;
      otel-collector) ask "part/$action/collector" ;;
      *) ask "part/$action/$name" ;;
    esac
  done
}

# A line for each instance: name, admin address, pid, state, time since its start.
processes_of_the_service() {
  local number pid
  for number in 1 2; do
    pid=$(instance "$number" 2>/dev/null || true)
    printf 'keel-%s %s pid %s\n' "$number" "$(admin_of "$number")" \
      "${pid:-- not running}$([[ -z $pid ]] || ps -o state= -o etime= -p "$pid" | sed 's/^/, /; s/  */ /g')"
  done
}

# Postgres and Redis run and are as they were.
mend() {
  start_postgres
  start_redis
  redis_cli config set maxmemory 0 >/dev/null
  redis_cli flushall >/dev/null
  admin_sql 'alter system reset all'
  # Whoever is neither the service nor the exporter.
  admin_sql "select pg_reload_conf();
    select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()
    and usename not in ('$APP__DATABASE__RUNTIME_ROLE', '$APP__DATABASE__SYSTEM_ROLE') and application_name <> 'exporter';
    grant select, update, delete on jobs to $APP__DATABASE__SYSTEM_ROLE;
    delete from jobs" >/dev/null
}
