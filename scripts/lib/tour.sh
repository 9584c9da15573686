# shellcheck shell=bash
# What the `bash` blocks of docs/tour.md and docs/CLONING.md use, for a bash at the root of the checkout: `source scripts/lib/tour.sh`. It starts
# a Postgres and a Redis of its own (.local/tour), makes a tenant and a key, and defines the words below. All of it ends
# with the shell, or with `tour_end`. KEEL_BINARY is a built binary to use; without it cargo builds one.

TOUR=$PWD/.local/tour
LOG=$TOUR/service.log
EVENTS=$TOUR/events.json
# The longest wait for what must come.
TOUR_SECONDS=30

tour_begin() {
  local name
  # The tour stops and starts its servers: they have to be its own.
  for name in DATABASE_URL DATABASE_SYSTEM_URL DATABASE_MIGRATION_URL REDIS_URL RUST_LOG SENTRY_DSN "${!OTEL_@}" "${!APP__@}"; do
    unset "$name"
  done
  if [[ -z ${KEEL_BINARY:-} ]]; then
    cargo build --locked --quiet --bin keel || return
    KEEL_BINARY=${CARGO_TARGET_DIR:-target}/debug/keel
  fi
  scripts/services.sh up tour >/dev/null || return
  # shellcheck source=/dev/null
  source "$TOUR/env"
  export APP_ENVIRONMENT=development APP__LOG__FORMAT=json APP__FAULTS__ENABLED=true
  # shellcheck source=common.sh
  APP__AUTH__PEPPER=$(source scripts/lib/common.sh && use_instance tour && secret pepper)
  API=127.0.0.1:$(source scripts/lib/common.sh && free_port "$TOUR/api.port")
  ADMIN=127.0.0.1:$(source scripts/lib/common.sh && free_port "$TOUR/admin.port")
  export APP__AUTH__PEPPER APP__HTTP__BIND=$API APP__ADMIN__BIND=$ADMIN
  # A busy machine's warnings are none of the page's.
  {
    "$KEEL_BINARY" migrate && "$KEEL_BINARY" tenant create tour --if-not-exists &&
      KEY=$("$KEEL_BINARY" api-key create --tenant tour --scope write --name tour | tail -n1)
  } >"$TOUR/begin.log" 2>&1 || { cat "$TOUR/begin.log" >&2 && return 1; }
  trap tour_end EXIT
}

tour_end() {
  tour_stop service
  tour_stop sentry
  scripts/services.sh down tour >/dev/null
}

# The pid is in a file, so that the shell has no job to tell about.
tour_stop() {
  local pid
  pid=$(cat "$TOUR/$1.pid" 2>/dev/null) || return 0
  rm -f -- "$TOUR/$1.pid"
  kill "$pid" 2>/dev/null || return 0
  tour_until '! kill -0 '"$pid"' 2>/dev/null' || kill -KILL "$pid" 2>/dev/null
}

# Waits until a command succeeds.
tour_until() {
  local deadline=$((SECONDS + TOUR_SECONDS))
  until eval "$1"; do
    ((SECONDS < deadline)) || { echo "not within $TOUR_SECONDS s: $1" >&2 && return 1; }
    sleep 0.1
  done
}

# service [<VARIABLE=value>…]: starts the service anew with these settings, its output in $LOG, and waits until it is ready.
service() {
  tour_stop service
  (
    env "$@" "$KEEL_BINARY" serve </dev/null >"$LOG" 2>&1 &
    echo $! >"$TOUR/service.pid"
  )
  tour_until 'curl -sf -o /dev/null "$ADMIN/health/ready" || ! kill -0 "$(<"$TOUR/service.pid")"' &&
    curl -sf -o /dev/null "$ADMIN/health/ready" || { cat "$LOG" >&2 && return 1; }
}

# ask <method> <path> [curl's options]: a request of the tenant; prints the answer, its status and its time.
ask() {
  local method=$1 path=$2
  shift 2
  curl -sS -X "$method" -H "Authorization: Bearer $KEY" -w '\n%{http_code} in %{time_total} s\n' "$@" "$API$path" |
    tr -d '\r' | sed '/^$/d'
}

# lines <pattern> [<n>]: the last line of the log with this in it, and the n lines after it. They may take a moment to come.
lines() {
  tour_until "lines_now '$1' ${2:-0} >/dev/null" && lines_now "$1" "${2:-0}"
}

lines_now() {
  local found
  found=$(grep -A "$2" -e "$1" "$LOG" | tail -n "$(($2 + 1))") && (($(wc -l <<<"$found") > $2)) && printf '%s\n' "$found" |
    grep -e "$1" -A "$2"
}

# metrics <pattern>: the samples with this in them, as a scraper sees them that understands exemplars.
metrics() {
  curl -sS -H 'Accept: application/openmetrics-text' "$ADMIN/metrics" | grep -v '^#' | grep -E -e "$1"
}

# readiness <status>: waits until the service says so, and prints all it says.
readiness() {
  tour_until 'curl -s "$ADMIN/health/ready" | grep -q "\"status\":\"'"$1"'\""' && curl -s "$ADMIN/health/ready" && echo
}

# sentry: listens where a Sentry would; its address for SENTRY_DSN is $DSN, what comes is in $EVENTS.
sentry() {
  local port
  tour_stop sentry
  port=$(source scripts/lib/common.sh && free_port "$TOUR/sentry.port")
  DSN=http://public@127.0.0.1:$port/1
  : >"$EVENTS"
  (
    perl scripts/lib/sentry-receiver.pl "$port" "$EVENTS" </dev/null >/dev/null 2>"$TOUR/sentry.log" &
    echo $! >"$TOUR/sentry.pid"
  )
  tour_until "(exec 3<>/dev/tcp/127.0.0.1/$port) 2>/dev/null"
}

# event: the last one that came.
event() {
  tour_until '[[ -s $EVENTS ]]' && tail -n 1 "$EVENTS"
}

tour_begin
