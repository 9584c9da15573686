#!/usr/bin/env bash
# `make test`: the test suite against a real Postgres and Redis of this checkout's own. Arguments go to `cargo test`,
# whose exit code is ours. KEEL_KEEP_SERVICES=1 leaves the services running for the next time.
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
run_child cargo test --locked "$@"
