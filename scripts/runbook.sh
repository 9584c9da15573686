#!/usr/bin/env bash
# `make runbook A=PostgresDown`: the runbook of an alert in the terminal, one step after the other. Dry: it prints text
# and commands and runs nothing. With RUN=1 it asks at each block (y runs it, n goes on, q ends) and for what a person has
# to fill in. Where a block changes something that it can't take back, it then shows the command with its values, and asks
# again. It records what was done, without secrets, in .local/incidents/<time>-<alert>.md, the timeline of the post-mortem.
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
# What is never shown, and not recorded.
readonly SECRETS='^(.*_)?(KEY|TOKEN|PASSWORD|PEPPER)$'
# The names that somebody was asked for.
ASKED=' '

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
    if [[ $WHERE == cluster ]]; then
      # runbooks/env.sh does not guess them.
      value_of ENVIRONMENT && value_of API || die 'in a cluster nothing is asked without them'
    fi
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
  if ! agreed "run $id?" || ! fill_in "$text" || ! confirmed "$id" "$words" "$text"; then
    note "$(now) $id not run"
    return
  fi
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

# A second time, for what can't be taken back: with what it will really do.
confirmed() {
  [[ $2 == *' destructive '* ]] || return 0
  say "$1 with its values:"
  with_values "$3" shown | sed 's/^/  > /'
  agreed "$1 changes what it can't take back. Really?"
}

# The variables in capitals, the longer names first.
variables_of() {
  grep -oE '\$\{?[A-Z][A-Z_]*' <<<"$1" | tr -d '${' | sort -ru
}

# A text with the values in the place of their variables; `shown`, without secrets.
with_values() {
  local text=$1 name
  for name in $(variables_of "$1"); do
    if [[ -n ${!name:-} && ! (${2:-} == shown && $name =~ $SECRETS) ]]; then
      text=${text//"\${$name}"/${!name}}
      text=${text//"\$$name"/${!name}}
    fi
  done
  printf '%s\n' "${text%$'\n'}"
}

# Asks for the variables in capitals that nothing has set, and again for those that it asked for before: what was right
# for one block need not be for the next.
fill_in() {
  local name
  # shellcheck source=../runbooks/env.sh
  source "$ROOT/runbooks/env.sh"
  for name in $(variables_of "$1" | sort); do
    if [[ -n ${!name:-} && $ASKED != *" $name "* ]] || grep -qE "(^|[ ;])$name=" <<<"$1"; then
      continue
    fi
    value_of "$name" || return
  done
}

# Asks for one; an empty answer keeps what it was.
value_of() {
  local name=$1 value='' known=${!1:-} shown
  [[ -z $known || $ASKED == *" $name "* ]] || return 0
  shown=$known
  if [[ $name =~ $SECRETS ]]; then
    shown=${known:+as before}
    printf '%s%s = ' "$name" "${shown:+ [$shown]}"
    read -rs value || return 1
    printf '\n'
  else
    printf '%s%s = ' "$name" "${shown:+ [$shown]}"
    read -r value || return 1
  fi
  value=${value:-$known}
  [[ -n $value ]] || { say "$name has no value: not run" && return 1; }
  export "$name=$value"
  ASKED+="$name "
  [[ ! $name =~ $SECRETS ]] || value='(a secret)'
  note "$(now) $name is $value"
}

run_block() {
  local language=$1 words=$2 text=$3 prompt=PSQL
  if [[ $language == bash ]]; then
    bash -euo pipefail -c "source runbooks/env.sh
$text"
    return
  fi
  # In SQL a value takes the place of its variable.
  text=$(with_values "$text")
  [[ $words != *' owner '* ]] || prompt=PSQL_OWNER
  bash -euo pipefail -c "source runbooks/env.sh
\$$prompt --set=ON_ERROR_STOP=1" <<<"$text"
}

main
