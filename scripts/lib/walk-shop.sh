# shellcheck shell=bash
# The walk through the example: products, orders, a payment that settles later. Sourced by walk.sh if it is there; gone
# with the example.

walk_example() {
  local sku product seen=() page cursor query
  # Where `make run` says so; a service that was there before may have its sandbox anywhere.
  [[ -z $BANNER ]] || SANDBOX=$(sed -n 's|^ *Sandbox  *\(http[^ ]*\)/charges .*|\1|p' "$BANNER")
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
  walk_orders "${path##*/}"
  expect 204 DELETE "$path" "$KEY"
  expect 404 GET "$path" "$KEY" && problem product_not_found
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
