#!/usr/bin/env bash
# `make schemathesis`: requests generated from the OpenAPI document, good and bad, against the real service: no 5xx, and
# no status the document does not name. Starts a service of its own; the number of cases is KEEL_CASES.
set -euo pipefail

library=$(dirname "${BASH_SOURCE[0]}")/lib
# shellcheck source=lib/common.sh
source "$library/common.sh"
# shellcheck source=lib/process.sh
source "$library/process.sh"
# shellcheck source=lib/supervise.sh
source "$library/supervise.sh"

cd "$ROOT"
schemathesis=$(scripts/tools.sh schemathesis)
check_build_tools
supervise test
start_services
export APP_ENVIRONMENT=test RUST_LOG=error
cargo build --locked --quiet --bin keel
binary=${CARGO_TARGET_DIR:-target}/debug/keel
"$binary" migrate
tenant=schemathesis-$$
"$binary" tenant create "$tenant" >/dev/null
key=$("$binary" api-key create --tenant "$tenant" --scope write --name schemathesis)

APP__HTTP__BIND=127.0.0.1:$(free_port "$INSTANCE_DIR/api.port")
APP__ADMIN__BIND=127.0.0.1:$(free_port "$INSTANCE_DIR/admin.port")
export APP__HTTP__BIND APP__ADMIN__BIND
start_child "$binary" serve
deadline=$((SECONDS + 30))
until "$binary" healthcheck >/dev/null 2>&1; do
  ((SECONDS < deadline)) || die 'the service does not answer after 30 s'
  sleep 0.1
done

# Each operation gets a share, not all of which is used; that enough of them ran is checked below. One worker: with
# two, CPython 3.11 now and then fails while both parse (SystemError: AST constructor recursion depth mismatch).
cases=${KEEL_CASES:-2000}
operations=$(grep -c '"operationId"' docs/openapi.json)
# What takes no input can be asked in a few ways only.
grep -q '"requestBody"' docs/openapi.json || cases=$operations
log=$INSTANCE_DIR/schemathesis.log
"$schemathesis" run "http://$APP__HTTP__BIND/openapi.json" \
  --header "Authorization: Bearer $key" \
  --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
  --continue-on-failure --max-examples "$((cases * 3 / 2 / operations + 1))" --workers 1 --phases examples,coverage,fuzzing --seed 1 --no-color |
  tee "$log"
generated=$(sed -n 's/^ *\([0-9]*\) generated.*/\1/p' "$log")
((${generated:-0} >= cases)) || die "only ${generated:-0} cases were generated, $cases are wanted"
