#!/usr/bin/env bash
# `make bench`: the release build against a real database: time from exec to the first 200, and resident memory after
# 1,000 requests. Figures are printed, not asserted: machines differ.
set -euo pipefail

library=$(dirname "${BASH_SOURCE[0]}")/lib
# shellcheck source=lib/common.sh
source "$library/common.sh"
# shellcheck source=lib/process.sh
source "$library/process.sh"
# shellcheck source=lib/supervise.sh
source "$library/supervise.sh"

cd "$ROOT"
check_build_tools
supervise test
start_services
export APP_ENVIRONMENT=test
cargo build --locked --release --bin keel
keel=${CARGO_TARGET_DIR:-target}/release/keel
"$keel" migrate
tenant=bench-$$
"$keel" tenant create "$tenant" >/dev/null
key=$("$keel" api-key create --tenant "$tenant" --scope write --name bench)
APP__HTTP__BIND=127.0.0.1:$(free_port "$INSTANCE_DIR/api.port")
APP__ADMIN__BIND=127.0.0.1:$(free_port "$INSTANCE_DIR/admin.port")
export APP__HTTP__BIND APP__ADMIN__BIND

now_ms() {
  date +%s%3N
}

first_answers=()
for round in 1 2 3 4 5; do
  began=$(now_ms)
  "$keel" serve >/dev/null &
  service=$!
  until curl -sf --max-time 1 "http://$APP__HTTP__BIND/v1/tenant" -H "Authorization: Bearer $key" -o /dev/null; do
    (($(now_ms) - began < 10000)) || die 'no answer within 10 s'
  done
  first_answers+=("$(($(now_ms) - began))")
  if ((round == 5)); then
    body='{"sku":"BENCH","name":"Oak","price":{"amount_minor":1,"currency":"EUR"},"stock":1}'
    id=$(curl -sf "http://$APP__HTTP__BIND/v1/products" -H "Authorization: Bearer $key" -H 'content-type: application/json' \
      -d "$body" | sed -n 's/^{"id":"\([^"]*\)".*/\1/p')
    curl -sf "http://$APP__HTTP__BIND/v1/products/$id?n=[1-1000]" -H "Authorization: Bearer $key" -o /dev/null
    memory=$(awk '/^VmRSS/{print $2}' "/proc/$service/status")
  fi
  kill -TERM "$service"
  wait "$service"
done
printf 'exec to first 200 (ms, 5 runs): %s\n' "${first_answers[*]}"
printf 'resident after 1,000 requests: %s KiB\n' "$memory"
