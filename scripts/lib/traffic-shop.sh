# shellcheck shell=bash
# What the example adds to `make traffic`: products, users and orders, the good ones and the ones that are refused.
# Sourced by traffic.sh if it is there; gone with the example.

ORDER_ID='' PRODUCT_ID='' USER_ID=''
EXAMPLE_ROUNDS+=(shop_round)

shop_round() {
  shop_of "$ACME_WRITE_KEY" EUR
  every 2 || shop_of "$GLOBEX_WRITE_KEY" USD
}

# <key> <currency>
shop_of() {
  local key=$1 sku user
  sku=TRAFFIC-$(clock)
  local product='{"sku":"'$sku'","name":"Oak plank","price":{"amount_minor":'$((500 + RANDOM % 5000))',"currency":"'$2'"},"stock":100}'
  send POST '/v1/products' "$key" "$product"
  PRODUCT_ID=$(id)
  # Refused, or the time is up.
  [[ -n $PRODUCT_ID ]] || return 0
  send GET '/v1/products/{product_id}' "$key"
  send PATCH '/v1/products/{product_id}' "$key" '{"stock":90}'
  send GET '/v1/products?limit=20' "$key"
  send POST '/v1/products' "$key" "$product"                           # 409: the sku is taken
  send POST '/v1/products' "$key" "${product/\"stock\":100/\"stock\":-1}"  # 422
  send POST '/v1/products' "$key" '{"nonsense":1}'                       # 400
  user='{"email":"'${sku,,}'@example.com","name":"Ada","source":"'"$(one_of web app partner)"'"}'
  send POST '/v1/users' "$key" "$user"
  USER_ID=$(id)
  [[ -z $USER_ID ]] || send GET '/v1/users/{user_id}' "$key"
  send GET '/v1/users?limit=20' "$key"
  orders "$key" "$sku"
  send DELETE '/v1/products/{product_id}' "$key"
  send GET '/v1/products/{product_id}' "$key"                            # 404
}

# <key> <prefix of the idempotency keys>
orders() {
  local key=$1 prefix=$2
  order "$key" "$prefix" 2 tok_ok
  ORDER_ID=$(id)
  # The same again is answered from what is kept; another body under the same key is 422.
  order "$key" "$prefix" 2 tok_ok
  order "$key" "$prefix" 3 tok_ok
  order "$key" "$prefix-slow" 1 tok_slow
  order "$key" "$prefix-declined" 1 tok_declined
  order "$key" "$prefix-much" 100000 tok_ok
  send GET '/v1/orders?limit=20' "$key"
  if [[ -n $ORDER_ID ]]; then
    send GET '/v1/orders/{order_id}' "$key"
    every 3 || send POST '/v1/orders/{order_id}/cancel' "$key"
  fi
  if every 3; then
    order "$key" "$prefix-error" 1 tok_error
    leave POST '/v1/orders' "$key" "$(order_body 1 tok_timeout)" --header "idempotency-key: $prefix-timeout"
  fi
}

# <key> <idempotency key> <quantity> <token of the sandbox>
order() {
  send POST '/v1/orders' "$1" "$(order_body "$3" "$4")" --header "idempotency-key: $2"
}

order_body() {
  printf '{"lines":[{"product_id":"%s","quantity":%s}],"payment_method":"%s"}' "$PRODUCT_ID" "$1" "$2"
}

one_of() {
  local choices=("$@")
  printf '%s' "${choices[RANDOM % $#]}"
}
