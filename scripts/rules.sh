#!/usr/bin/env bash
# Rules, their tests, and who is told of an alert, checked by the programs that will run them: promtool and amtool.
# Part of `make manifests`. What is on PATH is used, else Debian's are unpacked below .local; where neither can be had
# it says SKIPPED, and fails instead in CI or with KEEL_REQUIRE_TOOLS=1.
set -euo pipefail

library=$(dirname "${BASH_SOURCE[0]}")/lib
# shellcheck source=lib/common.sh
source "$library/common.sh"
# shellcheck source=lib/packages.sh
source "$library/packages.sh"
# shellcheck source=lib/prometheus.sh
source "$library/prometheus.sh"
# shellcheck source=lib/validators.sh
source "$library/validators.sh"

readonly PROMETHEUS=deploy/prometheus
readonly ALERTMANAGER=deploy/alertmanager/alertmanager.yaml

main() {
  cd "$ROOT"
  PROMTOOL=$(prometheus_tool promtool) || unavailable promtool
  AMTOOL=$(prometheus_tool amtool) || unavailable amtool
  say "promtool $(prometheus_tool_version "$PROMTOOL"), amtool $(prometheus_tool_version "$AMTOOL")"
  "$PROMTOOL" check config "$PROMETHEUS/prometheus.yaml"
  "$PROMTOOL" check rules --lint=all --lint-fatal "$PROMETHEUS"/rules/*.yaml
  "$PROMTOOL" test rules "$PROMETHEUS"/tests/*.yaml
  check_alertmanager
}

# Skipped with a word where it may be, red in CI.
unavailable() {
  missing "no $1, so no rule was checked: install prometheus and prometheus-alertmanager (Debian), see .local/packages/log"
  exit 0
}

check_alertmanager() {
  local config
  config=$(readable_config)
  # shellcheck disable=SC2064 # the file's name of now
  trap "rm -f '$config'" EXIT
  "$AMTOOL" check-config "$config"
  # Each severity leads where it should, and what has none is not lost.
  leads_to watchdog alertname=Watchdog severity=none
  leads_to page alertname=HttpErrorBudgetBurn severity=page job=keel
  leads_to ticket alertname=HttpErrorBudgetBurn severity=ticket job=keel
  leads_to info alertname=Anything severity=info
  leads_to ticket alertname=Forgotten
}

leads_to() {
  local receiver=$1
  shift
  "$AMTOOL" config routes test --config.file="$config" --verify.receivers="$receiver" "$@" >/dev/null 2>&1 ||
    die "$ALERTMANAGER: an alert with $* does not reach '$receiver'"
  say "$* -> $receiver"
}

# Before 0.26 a webhook's URL could not come from a file: such an amtool is shown a URL in its place.
readable_config() {
  local file version
  file=$(mktemp)
  version=$(prometheus_tool_version "$AMTOOL")
  if [[ $(printf '%s\n' 0.26 "$version" | sort -V | head -n1) == 0.26 ]]; then
    cat "$ALERTMANAGER" >"$file"
  else
    sed -E 's|^( +- )url_file: (.*)|\1url: http://localhost\2|' "$ALERTMANAGER" >"$file"
  fi
  printf '%s' "$file"
}

main
