# shellcheck shell=bash
# `make prr`: what checks each change, and what only people can say (docs/production.md). Sourced by prr.sh.

readonly STATEMENTS=docs/production.md
readonly WORKFLOWS=.github/workflows

rest_items() {
  area='each change'
  item_workflow
  item_audit
  item_release
  item_updates
  item_lock
  area='what people have tried, in docs/production.md'
  item_statements
}

runs() {
  plain "$WORKFLOWS"/*.yml "$WORKFLOWS"/*.yaml | grep -qE "$1"
}

item_workflow() {
  if runs 'run: (exec )?make ci$'; then
    ok CI 'a workflow runs make ci'
  else
    open CI "no workflow of $WORKFLOWS runs make ci" "a job with \`run: make ci\`, or .ci/run wherever you build"
  fi
}

item_audit() {
  if [[ ! -s deny.toml ]]; then
    open dependencies 'no deny.toml: any licence and any registry will do' 'deny.toml'
  elif runs 'run: make deny$'; then
    ok dependencies 'licences, sources and advisories are looked at in each change'
  else
    open dependencies 'no workflow runs make deny: nobody hears of an advisory' "a job with \`run: make deny\` in $WORKFLOWS"
  fi
}

item_release() {
  if ! runs 'tags:'; then
    open release 'no workflow makes a release of a tag' "$WORKFLOWS/release.yml"
  elif ! runs 'cosign sign'; then
    open release 'images are not signed: nobody can tell yours from another' "cosign in $WORKFLOWS/release.yml"
  else
    ok release 'built, scanned and signed by a workflow'
  fi
}

item_updates() {
  if plain .github/dependabot.yml .github/dependabot.yaml | grep -q 'package-ecosystem: cargo' || [[ -s renovate.json ]]; then
    ok updates 'come by themselves'
  else
    open updates 'dependencies get old in silence' '.github/dependabot.yml'
  fi
}

item_lock() {
  if git ls-files --error-unmatch Cargo.lock >/dev/null 2>&1; then
    ok 'lock file' 'in git'
  else
    open 'lock file' 'Cargo.lock is not in git: no two builds are alike' 'git add Cargo.lock'
  fi
}

# "<key>|<days>|<when>|<what>" of each row.
statements() {
  perl -ne 's/\[([^]]*)\]\([^)]*\)/$1/g; print "$1|$3|$4|$2\n" if /^\| `([a-z-]+)` \| (.+?) \| (\d+) \| ([^|]*?) \|/' "$STATEMENTS" 2>/dev/null || true
}

# Sets SAID to ok, never, old or unknown: <days> <when>.
weigh() {
  SAID=unknown
  if [[ $2 == never || -z $2 ]]; then
    SAID=never
  elif is_date "$2"; then
    take_age "$2"
    if ((AGE > $1)); then
      SAID=old
    elif ((AGE >= 0)); then
      SAID=ok
    fi
  fi
}

# The same of the row with this key, printed.
statement_state() {
  local key days when what
  IFS='|' read -r key days when what < <(statements | grep "^$1|") || true
  weigh "${days:-0}" "${when:-}"
  printf '%s' "$SAID"
}

item_statements() {
  local row key days when what found=0
  while IFS= read -r row; do
    [[ -n $row ]] || continue
    found=1
    IFS='|' read -r key days when what <<<"$row"
    weigh "$days" "$when"
    case $SAID in
      ok) ok "$key" "$when: $what" ;;
      never) open "$key" "never: $what" "do it, then the row $key of $STATEMENTS" ;;
      old) open "$key" "last $when, more than $days days ago: $what" "do it again, then the row $key of $STATEMENTS" ;;
      *) unknown "$key" "\"$when\" is no day until $TODAY: $what" "a date as 2026-11-21 in the row $key of $STATEMENTS" ;;
    esac
  done < <(statements)
  ((found)) || unknown statements "$STATEMENTS has no rows" 'what was tried in production, and when'
}
