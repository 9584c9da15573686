# shellcheck shell=bash
# What `make bench` reads of the example: products. Sourced by bench.sh if it is there; gone with the example.

# One a connection of the load: equal reads at the same time are one.
prepare_paths() {
  local n
  PATHS=/v1/products/$(create_product 1)
  for n in {2..32}; do
    PATHS+=,/v1/products/$(create_product "$n")
  done
}

create_product() {
  curl -sf "http://$APP__HTTP__BIND/v1/products" -H "Authorization: Bearer $key" -H 'content-type: application/json' \
    -d "{\"sku\":\"BENCH-$1\",\"name\":\"Oak\",\"price\":{\"amount_minor\":1,\"currency\":\"EUR\"},\"stock\":1}" |
    sed -n 's/^{"id":"\([^"]*\)".*/\1/p'
}
