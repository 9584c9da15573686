# shellcheck shell=bash
# What the example adds to `make run`: the payment sandbox as a second process, a webhook for each demo tenant, an
# order to paste. Sourced by run.sh if it is there; gone with the example.

prepare_example() {
  check_given_bind APP__SHOP__SANDBOX__BIND
  choose_bind APP__SHOP__SANDBOX__BIND 9090
  SANDBOX=http://$(reachable_host "$APP__SHOP__SANDBOX__BIND"):${APP__SHOP__SANDBOX__BIND##*:}
  export APP__SHOP__PAYMENTS__URL=${APP__SHOP__PAYMENTS__URL:-$SANDBOX}
  # The database is kept, so what was paid for its orders is kept too.
  export APP__SHOP__SANDBOX__BOOKS=${APP__SHOP__SANDBOX__BOOKS:-$INSTANCE_DIR/charges.json}
  TENANT_OPTIONS=(--webhook-url "$SANDBOX/webhooks")
}

# Sets CHILD.
start_example() {
  start_child "$BINARY" payment-sandbox
}

# <address of the API>
print_request() {
  cat <<BANNER
  Create a product:
    curl -i $1/v1/products -H 'Authorization: Bearer $ACME_KEY' -H 'content-type: application/json' \\
      -d '{"sku":"PLANK-$(date +%s)","name":"Oak plank","price":{"amount_minor":1999,"currency":"EUR"},"stock":10}'
BANNER
}

print_example() {
  cat <<BANNER
  Sandbox  $SANDBOX/charges   (payments taken)   $SANDBOX/webhooks   (confirmations sent)

BANNER
}
