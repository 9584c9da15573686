#!/usr/bin/env bash
# A walk through the API with curl, as a newcomer would take it after `make run`.
#   scripts/walk.sh                       starts `make run`, walks, stops it, and looks whether anything is left
#   scripts/walk.sh <api> <key> <read> <other>   walks against a running service: a tenant's write and read key, and the
#                                         key of another
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

STATUS='' BODY='' HEADERS=()

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

walk() {
  local sku product seen=() page cursor query
  sku=WALK-$(date +%s)-$$
  product='{"sku":"'$sku'","name":"Oak plank","price":{"amount_minor":1999,"currency":"EUR"},"stock":10}'
  expect 201 POST /v1/products "$KEY" "$product"
  local path
  path=/v1/products/$(sed -n 's/^{"id":"\([^"]*\)".*/\1/p' <<<"$BODY")
  expect 200 GET "$path" "$KEY"
  expect 200 PATCH "$path" "$KEY" '{}'
  expect 200 PATCH "$path" "$KEY" '{"stock":7}'
  expect 200 GET "$path" "$KEY"
  [[ $(field stock) == 7 ]] || { echo "walk: the patch is not to be seen: $BODY" >&2; exit 1; }
  local n
  for n in 1 2 3 4; do
    expect 201 POST /v1/products "$KEY" "${product/$sku/$sku-$n}"
  done
  query='?limit=2'
  while :; do
    expect 200 GET "/v1/products$query" "$KEY"
    while read -r page; do seen+=("$page"); done < <(grep -o '"sku":"[^"]*"' <<<"$BODY")
    cursor=$(field next_cursor)
    [[ $cursor != null ]] || break
    query="?limit=2&cursor=$cursor"
  done
  [[ ${#seen[@]} == "$(printf '%s\n' "${seen[@]}" | sort -u | wc -l)" ]] || { echo 'walk: a product is on two pages' >&2; exit 1; }
  [[ $(printf '%s\n' "${seen[@]}" | grep -c "$sku") == 5 ]] || { echo 'walk: a product is on no page' >&2; exit 1; }
  expect 404 GET "$path" "$OTHER_KEY" && problem product_not_found
  expect 401 GET "$path" && problem missing_api_key
  expect 401 GET "$path" ak_wrong && problem invalid_api_key
  expect 403 POST /v1/products "$READ_KEY" "$product" && problem missing_scope
  expect 409 POST /v1/products "$KEY" "$product" && problem product_sku_taken
  expect 422 POST /v1/products "$KEY" "${product/\"stock\":10/\"stock\":-10}" && problem validation_failed
  expect 400 POST /v1/products "$KEY" '{"nonsense":1}' && problem malformed_json
  expect 404 GET /v1/nowhere "$KEY" && problem route_not_found
  walk_orders "${path##*/}"
  expect 204 DELETE "$path" "$KEY"
  expect 404 GET "$path" "$KEY" && problem product_not_found
  expect 200 GET /openapi.json
  expect 200 GET /docs
}

# order <status> <key> <product> <quantity> <method>
order() {
  HEADERS=(-H "idempotency-key: $2")
  expect "$1" POST /v1/orders "$KEY" '{"lines":[{"product_id":"'"$3"'","quantity":'"$4"'}],"payment_method":"'"$5"'"}'
  HEADERS=()
}

# One charge for an order, whatever happened on the way.
charged() {
  local times
  [[ -n ${SANDBOX:-} ]] || return 0
  times=$(curl -sS --max-time 10 "$SANDBOX/charges" | grep -o "\"order_id\":\"$1\"" | wc -l)
  ((times == 1)) || { echo "walk: order $1 was charged $times times" >&2; exit 1; }
  echo "  one charge for ${1}"
}

walk_orders() {
  local key=walk-$RANDOM-$$ id deadline
  order 201 "$key" "$1" 2 tok_ok
  id=$(sed -n 's/^{"id":"\([^"]*\)".*/\1/p' <<<"$BODY")
  order 201 "$key" "$1" 2 tok_ok
  [[ $BODY == *"\"id\":\"$id\""* ]] || { echo "walk: the replay is another order: $BODY" >&2; exit 1; }
  order 422 "$key" "$1" 1 tok_ok && problem idempotency_key_reused
  order 402 "$key-declined" "$1" 1 tok_declined && problem payment_declined
  order 409 "$key-much" "$1" 1000 tok_ok && problem insufficient_stock
  order 202 "$key-error" "$1" 1 tok_error
  local pending
  pending=$(sed -n 's/^{"id":"\([^"]*\)".*/\1/p' <<<"$BODY")
  order 202 "$key-timeout" "$1" 1 tok_timeout
  deadline=$((SECONDS + 30))
  until expect 200 GET "/v1/orders/$pending" "$KEY" >/dev/null && [[ $BODY == *'"status":"paid"'* ]]; do
    ((SECONDS < deadline)) || { echo "walk: the pending order does not settle: $BODY" >&2; exit 1; }
    sleep 0.5
  done
  echo '  202 -> paid, settled by its job'
  charged "$id" && charged "$pending"
  expect 200 POST "/v1/orders/$id/cancel" "$KEY"
  [[ $BODY == *'"status":"cancelled"'* ]] || { echo "walk: not cancelled: $BODY" >&2; exit 1; }
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
  SANDBOX=$(sed -n 's|^ *Sandbox  *\(http[^ ]*\)/charges .*|\1|p' "$log")
  READ_KEY=$(read_key)
  echo "walk: make run answers after $((SECONDS - started)) s"
  walk
  # The command that the banner offers, pasted.
  local pasted
  pasted=$(sed -n '/^ *curl /,/}.$/p' "$log")
  [[ $(bash -c "$pasted" 2>/dev/null) == *'201 Created'* ]] || { echo "walk: the pasted curl failed: $pasted" >&2; exit 1; }
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
