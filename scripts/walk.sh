#!/usr/bin/env bash
# A walk through the API with curl, as a newcomer would take it after the first of the two commands of README.md.
#   scripts/walk.sh                       starts `make run`, walks, stops it, and looks whether anything is left
#   scripts/walk.sh <api> <key> <read> <other>   walks against a running service: a tenant's write and read key, and the
#                                         key of another
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

STATUS='' BODY='' BANNER='' HEADERS=()

# expect <status> <method> <path> [key] [json]: asks and compares; BODY is the answer.
expect() {
  local expected=$1 method=$2 path=$3 key=${4:-} json=${5:-} arguments=("${HEADERS[@]}")
  [[ -z $key ]] || arguments+=(-H "Authorization: Bearer $key")
  [[ -z $json ]] || arguments+=(-H 'content-type: application/json' -d "$json")
  BODY=$(curl -sS --max-time 10 -w '\n%{http_code}' -X "$method" "${arguments[@]}" "$API$path")
  STATUS=${BODY##*$'\n'}
  BODY=${BODY%$'\n'*}
  if [[ $STATUS != "$expected" ]]; then
    printf 'walk: %s %s answered %s, expected %s: %s\n' "$method" "$path" "$STATUS" "$expected" "$BODY" >&2
    exit 1
  fi
  printf '  %s %-6s %s\n' "$STATUS" "$method" "$path"
}

# field <name>: the first string or number of this name in BODY.
field() {
  sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/p" <<<"$BODY" | head -n1
}

problem() {
  [[ $(field code) == "$1" && $BODY == *'"request_id":"'* && $BODY == *'"trace_id":"'* ]] || {
    printf 'walk: expected the problem %s: %s\n' "$1" "$BODY" >&2
    exit 1
  }
}

# What an example domain adds, if there is one.
walk_example() { :; }
for example in scripts/lib/walk-*.sh; do
  # shellcheck source=/dev/null
  [[ ! -f $example ]] || source "$example"
done

walk() {
  local slug
  expect 200 GET /v1/tenant "$KEY"
  slug=$(field slug)
  expect 200 GET /v1/tenant "$READ_KEY"
  [[ $(field slug) == "$slug" ]] || { echo "walk: the read key is another tenant's than $slug: $BODY" >&2; exit 1; }
  expect 200 GET /v1/tenant "$OTHER_KEY"
  [[ $(field slug) != "$slug" ]] || { echo "walk: the other key is the same tenant's: $BODY" >&2; exit 1; }
  expect 401 GET /v1/tenant && problem missing_api_key
  expect 401 GET /v1/tenant ak_wrong && problem invalid_api_key
  expect 404 GET /v1/nowhere "$KEY" && problem route_not_found
  walk_example
  expect 200 GET /openapi.json
  expect 200 GET /docs
}

# A key that may only read; `make run` makes none.
read_key() {
  # shellcheck source=/dev/null
  source .local/run/env
  APP__AUTH__PEPPER=$(sed -n 's/^pepper=//p' .local/run/secrets) \
    "${CARGO_TARGET_DIR:-target}/debug/keel" api-key create --tenant acme --scope read --name walk
}

start_and_walk() {
  local log supervisor started=$SECONDS
  log=$(mktemp)
  # A process group of its own, as a terminal gives one: a shell without job control starts children deaf to SIGINT.
  # One that was itself started deaf can't heal that alone; coreutils can.
  local hearing=()
  if env --default-signal=INT true 2>/dev/null; then
    hearing=(env --default-signal=INT,QUIT)
  fi
  set -m
  "${hearing[@]}" make --no-print-directory run >"$log" 2>&1 &
  supervisor=$!
  set +m
  # shellcheck disable=SC2064 # the values of now are meant
  trap "kill -TERM -- -$supervisor 2>/dev/null || true; rm -f '$log'" EXIT
  until grep -q 'Ctrl-C stops everything' "$log"; do
    kill -0 "$supervisor" 2>/dev/null || { cat "$log" >&2; echo 'walk: make run ended by itself' >&2; exit 1; }
    sleep 0.2
  done
  API=$(sed -n 's/^ *API  *\(http.*\)/\1/p' "$log")
  KEY=$(sed -n 's/^ *acme  *\(ak_.*\)/\1/p' "$log")
  OTHER_KEY=$(sed -n 's/^ *globex  *\(ak_.*\)/\1/p' "$log")
  BANNER=$log
  READ_KEY=$(read_key)
  echo "walk: make run answers after $((SECONDS - started)) s"
  walk
  # The command that the banner offers, pasted.
  local pasted
  pasted=$(sed -n '/^ *curl /,/[^\\]$/p' "$log")
  [[ $(bash -c "$pasted" 2>/dev/null) == 'HTTP/1.1 20'[01]' '* ]] || { echo "walk: the pasted curl failed: $pasted" >&2; exit 1; }
  kill -INT -- "-$supervisor"
  local deadline=$((SECONDS + 60))
  while kill -0 "$supervisor" 2>/dev/null; do
    ((SECONDS < deadline)) || { echo 'walk: make run does not end on Ctrl-C' >&2; tail -n 20 "$log" >&2; exit 1; }
    sleep 0.2
  done
  # make itself ends with 130 on Ctrl-C; what counts is that nothing is left.
  wait "$supervisor" || [[ $? == 130 || $? == 2 ]] || { echo "walk: make run ended with $?" >&2; tail -n 20 "$log" >&2; exit 1; }
  if pgrep -f "$PWD/.local/run" >/dev/null || [[ -n $(ls -A .local/run/users 2>/dev/null) ]]; then
    echo 'walk: something is left behind' >&2
    pgrep -fa "$PWD/.local/run" >&2
    exit 1
  fi
  echo 'walk: done, nothing is left behind'
}

if (($# == 4)); then
  API=$1 KEY=$2 READ_KEY=$3 OTHER_KEY=$4
  walk
else
  start_and_walk
fi
