#!/usr/bin/env bash
# `make runbook A=PostgresDown`: the runbook of an alert in the terminal, one step after the other. Dry: it prints text
# and commands and runs nothing. With RUN=1 it asks at each block (y runs it, n goes on, q ends), twice where a block
# changes something that it can't take back, asks for what a person has to fill in, and records what was done in
# .local/incidents/<time>-<alert>.md, the timeline of the post-mortem.
#
#   WHERE=cluster    the commands for a cluster, in place of those for this machine
set -euo pipefail

library=$(dirname "${BASH_SOURCE[0]}")/lib
# shellcheck source=lib/common.sh
source "$library/common.sh"

readonly DOCUMENTS=${KEEL_RUNBOOKS:-$ROOT/runbooks}
readonly INCIDENTS=${KEEL_INCIDENTS:-$LOCAL/incidents}
readonly ALERT=${1:-}
export WHERE=${WHERE:-local}
# More of an output is no timeline.
readonly RECORDED_LINES=60

main() {
  local document
  [[ $WHERE == local || $WHERE == cluster ]] || die "WHERE is local or cluster, not '$WHERE'"
  document=$(find_document)
  [[ -n $document ]] || die "no runbook '$ALERT': make runbook A=<one of>
$(names)"
  cd "$ROOT"
  TIMELINE=/dev/null
  if [[ ${RUN:-} == 1 ]]; then
    begin_timeline
  fi
  walk "$document"
  note "$(now) end of the runbook"
  farewell
}

find_document() {
  local file
  for file in "$DOCUMENTS"/*/"$ALERT.md"; do
    [[ -n $ALERT && -f $file ]] && printf '%s' "$file" && return
  done
  return 0
}

names() {
  local file
  for file in "$DOCUMENTS"/*/*.md; do
    grep -q '^alert: ' "$file" && basename "$file" .md
  done | sort | paste -sd' ' | fold -s -w 100
}

now() {
  date -u +%H:%M:%SZ
}

note() {
  printf '%s\n' "$*" >>"$TIMELINE"
}

begin_timeline() {
  umask 077
  mkdir -p "$INCIDENTS"
  TIMELINE=$INCIDENTS/$(date -u +%Y%m%dT%H%M%SZ)-$ALERT.md
  {
    printf '# %s, %s\n\n' "$ALERT" "$(date -u +%F)"
    printf 'Walked by %s with `make runbook A=%s RUN=1` (%s). Times are UTC.\n\n## Timeline\n\n' "$(id -un)" "$ALERT" "$WHERE"
    printf '%s began\n' "$(now)"
  } >"$TIMELINE"
}

farewell() {
  if [[ $TIMELINE != /dev/null ]]; then
    say "the timeline is in ${TIMELINE#"$ROOT"/}: put it into the post-mortem, without what nobody else may read"
  else
    say "nothing was run. RUN=1 make runbook A=$ALERT asks at each block"
  fi
}

# Prints the document, and stops at each of its blocks. The number of a block is that of the paragraph before it, as in
# tests/it/drills/blocks.rs.
walk() {
  local line fence='' words='' text='' id='' front=0
  while IFS= read -r line <&3 || [[ -n $line ]]; do
    if [[ -n $fence ]]; then
      if [[ $line == '```' ]]; then
        at_block "$id" "$fence" "$words" "$text"
        fence='' text=''
      else
        text+=$line$'\n'
      fi
    elif [[ $line == '```'* ]]; then
      read -r fence words <<<"${line#\`\`\`}"
      fence=${fence:-text}
    elif [[ $line == --- && $front -lt 2 ]]; then
      front=$((front + 1))
    elif [[ $front != 1 ]]; then
      if [[ $line =~ ^##+\ ([0-9.]+)\  || $line =~ ^([0-9]+\.[0-9]+)\  ]]; then
        id=${BASH_REMATCH[1]}
      fi
      printf '%s\n' "$line"
    fi
  done 3<"$1"
}

at_block() {
  local id=$1 language=$2 words=" $3 " text=$4
  # What the other column says is of no use here.
  if [[ $words == *' local '* && $WHERE == cluster || $words == *' cluster '* && $WHERE == local ]]; then
    return
  fi
  printf '%s\n' "--- $id $language$words" | sed 's/ *$//'
  sed 's/^/  | /' <<<"${text%$'\n'}"
  if [[ ${RUN:-} == 1 && ($language == bash || $language == sql) ]]; then
    consider "$id" "$language" "$words" "$text"
  fi
}

consider() {
  local id=$1 language=$2 words=$3 text=$4 status=0 output
  if ! agreed "run $id?" || { [[ $words == *' destructive '* ]] && ! agreed "$id changes what it can't take back. Really?"; }; then
    note "$(now) $id not run"
    return
  fi
  fill_in "$text" || return 0
  output=$(mktemp)
  note "$(now) $id run:"
  note "$(printf '\n```%s\n%s```\n' "$language" "$text")"
  run_block "$language" "$words" "$text" </dev/null > >(tee "$output") 2>&1 || status=$?
  # What tee has still in hand.
  wait "$!" || true
  {
    printf '\n%s %s ended with exit code %s, said:\n\n```text\n' "$(now)" "$id" "$status"
    tail -n "$RECORDED_LINES" "$output"
    printf '```\n\n'
  } >>"$TIMELINE"
  rm -f "$output"
  ((status == 0)) || say "exit code $status" >&2
}

# Asks until the answer is one. The end of the input is a q.
agreed() {
  local answer
  while true; do
    printf '%s [y/n/q] ' "$1"
    read -r answer || answer=q
    case $answer in
      y) return 0 ;;
      n) return 1 ;;
      q)
        printf '\n'
        note "$(now) ended by hand"
        farewell
        exit 0
        ;;
    esac
  done
}

# Asks for the variables in capitals that nothing has set, once each.
fill_in() {
  local name value
  # shellcheck source=../runbooks/env.sh
  source "$ROOT/runbooks/env.sh"
  for name in $(grep -oE '\$\{?[A-Z][A-Z_]*' <<<"$1" | tr -d '${' | sort -u); do
    if [[ -n ${!name:-} ]] || grep -qE "(^|[ ;])$name=" <<<"$1"; then
      continue
    fi
    printf '%s = ' "$name"
    read -r value || return 1
    [[ -n $value ]] || { say "$name has no value: not run" && return 1; }
    export "$name=$value"
    note "$(now) $name is $value"
  done
}

run_block() {
  local language=$1 words=$2 text=$3 name prompt=PSQL
  if [[ $language == bash ]]; then
    bash -euo pipefail -c "source runbooks/env.sh
$text"
    return
  fi
  # In SQL a value takes the place of its variable.
  for name in $(grep -oE '\$\{?[A-Z][A-Z_]*' <<<"$text" | tr -d '${' | sort -ru); do
    text=${text//"\${$name}"/${!name}}
    text=${text//"\$$name"/${!name}}
  done
  [[ $words != *' owner '* ]] || prompt=PSQL_OWNER
  bash -euo pipefail -c "source runbooks/env.sh
\$$prompt --set=ON_ERROR_STOP=1" <<<"$text"
}

main
