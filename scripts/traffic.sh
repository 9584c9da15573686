#!/usr/bin/env bash
# `make traffic`: a bit of everything against a running service, with bash and curl only, so that every panel of every
# dashboard has something to show: each route of docs/openapi.json, the fault routes, and each kind of refusal. Ends by
# itself and prints a count by status. For load there is deploy/k6.
#
#   FOR=60 RATE=10 scripts/traffic.sh     seconds, requests a second (a curl each: some 50 are the most)
#
# Where to: ADDRESS (one or more, http://host:port, taken in turn) and ACME_WRITE_KEY, ACME_READ_KEY, GLOBEX_WRITE_KEY,
# GLOBEX_READ_KEY from the environment; else what `make up` left in .local/compose/demo-keys; else `make run` on its
# usual port. FAULTS=no leaves out what the service does wrong on purpose.
set -euo pipefail

library=$(dirname "${BASH_SOURCE[0]}")/lib
# shellcheck source=lib/common.sh
source "$library/common.sh"

readonly SECONDS_TO_RUN=${FOR:-60}
readonly REQUESTS_A_SECOND=${RATE:-10}
# Longer than the service's own limit of 5 s: whoever waits no longer sees 000, not the answer.
readonly PATIENCE=8

BODY='' ROUND=0

# What the domain adds: each file beside this one puts the name of its round here.
EXAMPLE_ROUNDS=()
for example in "$library"/traffic-*.sh; do
  # shellcheck source=/dev/null
  [[ ! -f $example ]] || source "$example"
done

main() {
  cd "$ROOT"
  have curl || die "curl is not installed"
  [[ $SECONDS_TO_RUN =~ ^[1-9][0-9]*$ && $REQUESTS_A_SECOND =~ ^[1-9][0-9]*$ ]] || die "FOR and RATE are whole numbers"
  find_service
  RESULTS=$(mktemp)
  trap 'stop_background; rm -f "$RESULTS"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  check_service
  say "$REQUESTS_A_SECOND requests a second for $SECONDS_TO_RUN s to ${ADDRESSES[*]}"
  # In microseconds, as clock() has it.
  NEXT=$(clock)
  END=$((NEXT + SECONDS_TO_RUN * 1000000))
  while (($(clock) < END)); do
    ROUND=$((ROUND + 1))
    platform_round
    for round in "${EXAMPLE_ROUNDS[@]}"; do
      "$round"
    done
  done
  wait
  report
}

# --- Where to -----------------------------------------------------------------------------------------------------

find_service() {
  local compose=$LOCAL/compose/demo-keys run=$LOCAL/run/demo-keys
  if [[ -z ${ACME_WRITE_KEY:-} && -s $compose ]]; then
    # shellcheck source=/dev/null
    source <(grep -E '^[A-Z_]+_KEY=' "$compose")
    ADDRESS=${ADDRESS:-$(sed -n "s/^ADDRESS='\(.*\)'$/\1/p" "$compose")}
  elif [[ -z ${ACME_WRITE_KEY:-} && -s $run ]]; then
    ACME_WRITE_KEY=$(sed -n 's/^acme=//p' "$run" | tail -n1)
    GLOBEX_WRITE_KEY=$(sed -n 's/^globex=//p' "$run" | tail -n1)
  fi
  [[ -n ${ACME_WRITE_KEY:-} && -n ${GLOBEX_WRITE_KEY:-} ]] ||
    die "no API keys: make up or make run first, or set ADDRESS, ACME_WRITE_KEY and GLOBEX_WRITE_KEY"
  read -ra ADDRESSES <<<"${ADDRESS:-http://127.0.0.1:8080}"
  # `make run` makes no key that may only read.
  ACME_READ_KEY=${ACME_READ_KEY:-}
  GLOBEX_READ_KEY=${GLOBEX_READ_KEY:-$GLOBEX_WRITE_KEY}
}

check_service() {
  local address status
  for address in "${ADDRESSES[@]}"; do
    status=$(curl --silent --output /dev/null --max-time "$PATIENCE" --write-out '%{http_code}' \
      --header "Authorization: Bearer $ACME_WRITE_KEY" "$address/v1/tenant") || true
    [[ $status == 200 ]] || die "$address/v1/tenant answers '$status' to acme's key: is the service up, and is the key its own?"
  done
}

# --- Sending ------------------------------------------------------------------------------------------------------

clock() {
  printf '%s' "${EPOCHREALTIME/[.,]/}"
}

# Until it is this request's turn. Fails when the time is up. Time that was lost is not made up for.
pace() {
  local now wait
  now=$(clock)
  ((now < END)) || return 1
  wait=$((NEXT - now))
  if ((wait > 0)); then
    sleep "$((wait / 1000000)).$(printf '%06d' $((wait % 1000000)))"
    now=$NEXT
  fi
  NEXT=$((now + 1000000 / REQUESTS_A_SECOND))
}

# send <method> <path as in the document> <key> [json] [curl's arguments]: sets BODY. {product_id} in a path
# stands for the variable PRODUCT_ID.
send() {
  local answer
  BODY=''
  pace || return 0
  answer=$(ask "$@")
  BODY=${answer%$'\n'*}
}

# The same without waiting for the answer: for what takes long on purpose.
leave() {
  pace || return 0
  ask "$@" >/dev/null &
}

ask() {
  local method=$1 path=$2 key=$3 json=${4:-} answer arguments=()
  shift $(($# < 4 ? $# : 4))
  while [[ $path =~ \{([a-z_]+)\} ]]; do
    local variable=${BASH_REMATCH[1]^^}
    path=${path/"${BASH_REMATCH[0]}"/${!variable}}
  done
  [[ -z $key ]] || arguments+=(--header "Authorization: Bearer $key")
  [[ -z $json ]] || arguments+=(--header 'content-type: application/json' --data "$json")
  # Without an answer curl writes 000 and fails.
  answer=$(curl --silent --max-time "$PATIENCE" --request "$method" --write-out '\n%{http_code}' "${arguments[@]}" \
    "$@" "${ADDRESSES[RANDOM % ${#ADDRESSES[@]}]}$path") || true
  printf '%s\n' "${answer##*$'\n'}" >>"$RESULTS"
  printf '%s' "$answer"
}

# flood <times> <method> <path> <key>: as fast as one connection allows; the part behind # is never sent.
flood() {
  local times=$1 key=$4
  (($(clock) < END)) || return 0
  curl --silent --output /dev/null --max-time 10 --request "$2" --write-out '%{http_code}\n' \
    --header "Authorization: Bearer $key" "${ADDRESSES[0]}$3#[1-$times]" >>"$RESULTS" || true
}

# The first id in the last answer.
id() {
  sed -n 's/^[^"]*"id":"\([^"]*\)".*/\1/p' <<<"$BODY"
}

every() {
  ((ROUND % $1 == 1 || $1 == 1))
}

# --- What is sent -------------------------------------------------------------------------------------------------

platform_round() {
  send GET '/v1/tenant' "$ACME_WRITE_KEY"
  send GET '/v1/tenant' "$ACME_WRITE_KEY"
  send GET '/v1/tenant' "$GLOBEX_READ_KEY"
  send GET '/openapi.json' ''
  refusals
  [[ ${FAULTS:-} == no ]] || faults
}

# 401, 403, 404, 405, and 429 for both reasons there are.
refusals() {
  send GET '/v1/tenant' ''
  send GET '/v1/tenant' ak_no_such_key
  send GET '/v1/no-such-route' "$ACME_WRITE_KEY"
  send PUT '/v1/tenant' "$ACME_WRITE_KEY" '{}'
  [[ -z $ACME_READ_KEY ]] || send POST '/v1/faults/jobs' "$ACME_READ_KEY"
  if every 4; then
    # A stranger who guesses keys is stopped after 60 a minute, a tenant who floods after its burst of 1000.
    flood 80 GET /v1/tenant ak_guessed
    flood 1300 GET /v1/tenant "$GLOBEX_READ_KEY"
  fi
}

# See src/platform/faults. What takes seconds is not waited for; two locks at once, for the second has to fail.
faults() {
  send POST '/v1/faults/sleep?ms=300' "$ACME_WRITE_KEY"
  # Nobody listens there.
  send POST '/v1/faults/call?port=9' "$ACME_WRITE_KEY"
  send POST '/v1/faults/n-plus-one?n=30' "$ACME_WRITE_KEY"
  send POST '/v1/faults/jobs?n=20' "$ACME_WRITE_KEY"
  leave POST '/v1/faults/slow-query?ms=1200' "$ACME_WRITE_KEY"
  send POST '/v1/faults/cpu?ms=100' "$ACME_WRITE_KEY"
  if every 2; then
    send POST '/v1/faults/error' "$ACME_WRITE_KEY"
    leave POST '/v1/faults/lock?ms=2000' "$ACME_WRITE_KEY"
    leave POST '/v1/faults/lock?ms=10' "$ACME_WRITE_KEY"
  fi
  if every 5; then
    send POST '/v1/faults/panic' "$ACME_WRITE_KEY"
    leave POST '/v1/faults/sleep?ms=7000' "$ACME_WRITE_KEY"
    leave POST '/v1/faults/slow-query?ms=4000' "$ACME_WRITE_KEY"
    send POST '/v1/faults/jobs?fail=true' "$ACME_WRITE_KEY"
    send POST '/v1/faults/leak?mib=1' "$ACME_WRITE_KEY"
  fi
}

# --- At the end ---------------------------------------------------------------------------------------------------

stop_background() {
  local children
  children=$(jobs -p)
  # shellcheck disable=SC2086 # several pids
  [[ -z $children ]] || kill $children 2>/dev/null || true
}

report() {
  local answered
  answered=$(grep -vc '^000$' "$RESULTS" || true)
  printf '\n  status  requests\n'
  sort "$RESULTS" | uniq -c | awk '{ printf "  %-6s %9d%s\n", $2, $1, $2 == "000" ? "   (no answer)" : "" }'
  printf '  all    %9d   in %s rounds\n\n' "$(wc -l <"$RESULTS")" "$ROUND"
  ((answered > 0)) || die "nothing was answered"
}

main
