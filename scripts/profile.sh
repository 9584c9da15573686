#!/usr/bin/env bash
# `make profile`: samples a running service through its admin port; keeps the flame graph (.svg) and the file for
# `go tool pprof` (.pb) under .local/profiles, and prints the functions with most CPU time of their own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

admin=${1:-127.0.0.1:9464} seconds=${2:-30}
profile=http://$admin/debug/pprof/profile
mkdir -p .local/profiles
file=.local/profiles/profile-$(date -u +%Y%m%dT%H%M%SZ)

# <address> <file>: fetches, or says why not in the service's own words.
fetch() {
  curl -sS --fail-with-body --max-time "$((seconds + 60))" -o "$2" "$1" && return
  [[ ! -s $2 ]] || sed -n 's/.*"detail":"\([^"]*\)".*/keel: \1/p' "$2" >&2
  rm -f "$2"
  exit 1
}

fetch "$profile?seconds=$seconds" "$file.svg"
# The same samples in other forms.
fetch "$profile/last?format=pb" "$file.pb"
fetch "$profile/last?format=top" "$file.txt"
head -n 23 "$file.txt"
printf '\n%s\n%s\n' "$file.svg" "$file.pb"
