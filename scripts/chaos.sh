#!/usr/bin/env bash
# `make chaos`: faults under load, at full length and in a release build, against a real Postgres and Redis of this
# checkout's own. Writes the table of docs/reliability.md; the exit code says whether all rows held that must.
# ROWS="restarts hangups" runs these only, and leaves the other rows of the table as they are.
set -euo pipefail

library=$(dirname "${BASH_SOURCE[0]}")/lib
# shellcheck source=lib/common.sh
source "$library/common.sh"
# shellcheck source=lib/process.sh
source "$library/process.sh"
# shellcheck source=lib/supervise.sh
source "$library/supervise.sh"

readonly DOCUMENT=docs/reliability.md
readonly MARKER='<!-- make chaos -->'

remove_output() {
  local status=$?
  set +e
  rm -rf -- "$KEEL_CHAOS_OUT"
  return "$status"
}

# The part of the document below the marker.
old_table() {
  sed "1,/^$MARKER\$/d" "$DOCUMENT"
}

# What was measured where and when; of rows measured anew since, one line each time.
provenance() {
  local command='make chaos' line
  line="$(date -u +%F) at $REVISION, on $(nproc) cores ($MACHINE)"
  if [[ -z ${ROWS:-} ]]; then
    printf -- '- All rows: %s, by `%s`.\n' "$line" "$command"
    return
  fi
  command+=" ROWS=\"$ROWS\""
  old_table | grep '^- ' | grep -vF "\`$command\`" || true
  printf -- '- Rows %s: %s, by `%s`.\n' "$(row_numbers)" "$line" "$command"
}

row_numbers() {
  local files=("$KEEL_CHAOS_OUT"/*.md)
  printf '%s\n' "${files[@]##*/}" | sed 's/\.md$//' | sort -V | paste -sd, | sed 's/,/, /g'
}

# The lines of the table: those just recorded, and in a run of some rows the others as they were.
rows() {
  local line number
  {
    cat "$KEEL_CHAOS_OUT"/*.md
    if [[ -n ${ROWS:-} ]]; then
      old_table | grep -E '^\| [0-9]' | while IFS= read -r line; do
        number=${line#| }
        number=${number%% *}
        [[ -e $KEEL_CHAOS_OUT/$number.md ]] || printf '%s\n' "$line"
      done || true
    fi
  } | sort -b -k2,2V
}

write_document() {
  local new=$KEEL_CHAOS_OUT/document
  {
    sed "/^$MARKER\$/q" "$DOCUMENT"
    printf '\n'
    provenance
    printf '\n| # | fault | expected | seen | recovery | verdict |\n|---|---|---|---|---|---|\n'
    rows
  } >"$new"
  # Not moved: the file keeps its owner and mode.
  cat "$new" >"$DOCUMENT"
}

# Rooms beside tests/it/chaos may have rows of their own, in a `chaos` of theirs.
is_row() { [[ -n $(find tests/it -path "*/chaos/$1.rs" -o -path "*/chaos/$1/mod.rs") ]]; }

cd "$ROOT"
grep -qxF -- "$MARKER" "$DOCUMENT" || die "$DOCUMENT has no line '$MARKER' to write the table below"
filters=(chaos::)
if [[ -n ${ROWS:-} ]]; then
  read -ra filters <<<"$ROWS"
  for row in "${filters[@]}"; do
    is_row "$row" || die "no row is called '$row': see tests/it/chaos"
  done
  filters=("${filters[@]/#/chaos::}")
  filters=("${filters[@]/%/::}")
fi
check_build_tools
# Before the build: the tree may change while the rows run. That the table does is no change.
REVISION=$(git rev-parse --short=12 HEAD 2>/dev/null || printf 'an unknown revision')
git diff --quiet HEAD -- . ":!$DOCUMENT" 2>/dev/null || REVISION+=-dirty
# Alone: what is measured beside another suite is of no use.
supervise test alone
KEEL_CHAOS_OUT=$(mktemp -d)
export KEEL_CHAOS_OUT
trap 'remove_output; finish' EXIT
start_services
status=0
run_child cargo test --locked --release --test it -- --ignored --nocapture --test-threads=1 "${filters[@]}" || status=$?
if compgen -G "$KEEL_CHAOS_OUT/*.md" >/dev/null; then
  write_document
  say "the table is in $DOCUMENT"
else
  say 'no row was recorded' >&2
  ((status)) || status=1
fi
exit "$status"
