# shellcheck shell=bash
# What the example adds to `make up`: its compose files, a webhook for each demo tenant, its address. Sourced by up.sh
# if it is there; gone with the example.

COMPOSE_FILES+=(deploy/compose.shop.yaml)
COMPOSE_LAST_FILES+=(deploy/compose.shop.observability.yaml)
# As the service reaches it, inside the network.
TENANT_OPTIONS+=(--webhook-url http://sandbox:9090/webhooks)

print_example() {
  local address
  address=$(published sandbox 9090)
  printf '  Sandbox       %s/charges   (payments taken)   %s/webhooks   (confirmations sent)\n' "$address" "$address"
}
