#!/usr/bin/env bash
# `make prr`: is this ready for production? Reads the files of the checkout and its history, builds and asks nothing, and
# says of each item: ok, open or unknown, why, and how to mend it. What no file can show is in docs/production.md.
#
#   STRICT=1    exit code 1 while something is open
#   JSON=1      an object for machines, in place of the lines
#   TODAY=…     another day than today, as 2026-11-21
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=lib/readiness-name.sh
source scripts/lib/readiness-name.sh
# shellcheck source=lib/readiness-cluster.sh
source scripts/lib/readiness-cluster.sh
# shellcheck source=lib/readiness-alerts.sh
source scripts/lib/readiness-alerts.sh
# shellcheck source=lib/readiness-rest.sh
source scripts/lib/readiness-rest.sh

TODAY=${TODAY:-$(date -u +%F)}
AREAS=() STATES=() ITEMS=() REASONS=() MENDS=()
area=

ok() {
  item ok "$@" ''
}

# <item> <reason> <how to mend it>
open() {
  item open "$@"
}

unknown() {
  item unknown "$@"
}

item() {
  AREAS+=("$area") STATES+=("$1") ITEMS+=("$2") REASONS+=("$3") MENDS+=("$4")
}

# Files as they are meant: without lines that are comments. Those that are not there say nothing.
plain() {
  local file
  for file in "$@"; do
    [[ ! -f $file ]] || grep -v '^[[:space:]]*#' "$file" || true
  done
}

# Sets DAYS to those since 1970, of a date. Neither GNU's nor BSD's date takes the other's words.
day_number() {
  local year=$((10#${1:0:4})) month=$((10#${1:5:2})) day=$((10#${1:8:2})) era_year
  year=$((month <= 2 ? year - 1 : year))
  era_year=$(((month + 9) % 12))
  DAYS=$((365 * year + year / 4 - year / 100 + year / 400 + (153 * era_year + 2) / 5 + day - 719469))
}

is_date() {
  [[ $1 =~ ^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$ ]]
}

# Sets AGE to the days from a date to today; negative when it has not come yet.
take_age() {
  local today
  day_number "$TODAY"
  today=$DAYS
  day_number "$1"
  AGE=$((today - DAYS))
}

# Some of many, for a line.
some() {
  local all=("$@")
  if ((${#all[@]} > 4)); then
    printf '%s, %s, %s and %s more' "${all[0]}" "${all[1]}" "${all[2]}" $((${#all[@]} - 3))
  else
    local joined
    joined=$(printf '%s, ' "$@")
    printf '%s' "${joined%, }"
  fi
}

count() {
  local state wanted=0
  for state in "${STATES[@]}"; do
    [[ $state != "$1" ]] || wanted=$((wanted + 1))
  done
  printf '%s' "$wanted"
}

in_lines() {
  local at last=
  for at in "${!ITEMS[@]}"; do
    if [[ ${AREAS[at]} != "$last" ]]; then
      last=${AREAS[at]}
      printf '\n%s\n' "$last"
    fi
    printf '  %-8s %-22s %s' "${STATES[at]}" "${ITEMS[at]}" "${REASONS[at]}"
    [[ -z ${MENDS[at]} ]] || printf ' -> %s' "${MENDS[at]}"
    printf '\n'
  done
  printf '\n%s of %s; open: %s, unknown: %s\n' "$(count ok)" "${#ITEMS[@]}" "$(count open)" "$(count unknown)"
}

# Sets QUOTED.
quote() {
  local text=${1//\\/\\\\}
  text=${text//\"/\\\"}
  text=${text//$'\t'/ }
  QUOTED=\"${text//$'\n'/ }\"
}

in_json() {
  local at field comma='' line
  printf '{"ok":%s,"open":%s,"unknown":%s,"items":[' "$(count ok)" "$(count open)" "$(count unknown)"
  for at in "${!ITEMS[@]}"; do
    line=
    for field in "area ${AREAS[at]}" "item ${ITEMS[at]}" "state ${STATES[at]}" "reason ${REASONS[at]}" "mend ${MENDS[at]}"; do
      quote "${field#* }"
      line+=",\"${field%% *}\":$QUOTED"
    done
    printf '%s\n{%s}' "$comma" "${line#,}"
    comma=,
  done
  printf '\n]}\n'
}

is_date "$TODAY" || { echo "TODAY is a date as 2026-11-21, not '$TODAY'" >&2 && exit 2; }
name_items
cluster_items
alert_items
rest_items
if [[ ${JSON:-} == 1 ]]; then
  in_json
else
  in_lines
fi
[[ ${STRICT:-} != 1 || $(count open) == 0 ]]
