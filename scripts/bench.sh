#!/usr/bin/env bash
# `make bench`: the release build against a real database: time from exec to the first 200, and then what telemetry
# costs (tests/bench/service.rs). Figures are printed, not asserted: machines differ. KEEL_BENCH_ARGS adds arguments:
# "--soak 600", "--callgrind", "--rounds 9", "--variants all,unsampled,logs,metrics,spans".
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
# An instance of its own, so that its servers can be kept off the service's core.
supervise bench alone
run_child cargo bench --locked --features bench --bench service --no-run
cores=$(nproc)
if ((cores > 1)) && have taskset; then
  taskset -cp "1-$((cores - 1))" $$ >/dev/null
  start_services
  taskset -cp "0-$((cores - 1))" $$ >/dev/null
else
  start_services
fi
export APP_ENVIRONMENT=test APP__FAULTS__ENABLED=true
binary=${CARGO_TARGET_DIR:-target}/release/keel
"$binary" migrate
tenant=bench-$$
"$binary" tenant create "$tenant" >/dev/null
key=$("$binary" api-key create --tenant "$tenant" --scope write --name bench)
APP__HTTP__BIND=127.0.0.1:$(free_port "$INSTANCE_DIR/api.port")
APP__ADMIN__BIND=127.0.0.1:$(free_port "$INSTANCE_DIR/admin.port")
export APP__HTTP__BIND APP__ADMIN__BIND

now_ms() {
  date +%s%3N
}

# Sets PATHS, which the load reads, separated by commas. An example domain has its own, that a cache can answer.
prepare_paths() {
  PATHS=/v1/tenant
}
for example in "$library"/bench-*.sh; do
  # shellcheck source=/dev/null
  [[ ! -f $example ]] || source "$example"
done

first_answers=()
for round in 1 2 3 4 5; do
  began=$(now_ms)
  "$binary" serve >/dev/null &
  service=$!
  until curl -sf --max-time 1 "http://$APP__HTTP__BIND/v1/tenant" -H "Authorization: Bearer $key" -o /dev/null; do
    (($(now_ms) - began < 10000)) || die 'no answer within 10 s'
  done
  first_answers+=("$(($(now_ms) - began))")
  if ((round == 5)); then
    prepare_paths
    curl -sf "http://$APP__HTTP__BIND${PATHS%%,*}?n=[1-1000]" -H "Authorization: Bearer $key" \
      -o /dev/null
    memory=$(awk '/^VmRSS/{print $2}' "/proc/$service/status")
  fi
  kill -TERM "$service"
  wait "$service"
done
printf 'exec to first 200 (ms, 5 runs): %s\n' "${first_answers[*]}"
printf 'resident after 1,000 requests: %s KiB\n\n' "$memory"
read -ra more <<<"${KEEL_BENCH_ARGS:-}"
run_child cargo bench --locked --quiet --features bench --bench service -- \
  --key "$key" --paths "$PATHS" --scrape "${more[@]}"
